#!/usr/bin/env python3
"""The door's figures: what connections cost that have not logged in, and how people fare in a flood.

    tests/bench/door.py [--binary PATH] [--seconds N] [--rate N]

memory    256 connections from 16 sources, silent, after their identification and after the key exchange:
          proportional memory (PSS) of the bastion for each
flood     --rate connections a second from 50 sources for --seconds: a login with one command, and a key in a
          live terminal and back, quiet and in the flood: p50, p99, and how many logins failed

Run it with the Python that tests/run makes (target/test-venv/bin/python): it speaks SSH of its own.
"""
import argparse, os, pathlib, statistics, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/clients"))
import bench, rogue
from bench import Terminal, percentile, pss, quiet


class Lab(bench.Lab):
    """As the door is by default, but that nobody is put out while they are weighed."""

    limits = ['login_grace = "120s"', 'shared_sources = ["127.0.7.0/24"]', "shared_unauthenticated = 16", "early_drop_from = 256"]


class FloodLab(bench.Lab):
    limits = []


def memory(lab, stage):
    """In a bastion of its own: what an earlier crowd has left behind would be used again."""
    root = lab.daemons["bastion"]
    quiet(root)
    before = pss(root)
    peers = []
    for n in range(256):
        peer = rogue.Peer.connect(lab.port, f"127.0.7.{n % 16 + 1}")
        if stage != "silent":
            peer.ident()
        if stage == "keys exchanged":
            peer.exchange()
        peers.append(peer)
    quiet(root)
    print(f"| held without a login, {stage} | {len(peers)} | {(pss(root) - before) / len(peers):.1f} KiB each |", flush=True)
    for peer in peers:
        peer.close()


def people(lab, seconds):
    """Logins and keys for so long: their times in milliseconds, and how many logins failed."""
    logins, keys, failed = [], [], 0
    terminal = Terminal(lab.ssh("named", "-tt") + ["stty raw -echo; echo ready; exec cat"])
    terminal.until(b"ready")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        failed += subprocess.run(lab.ssh("bastion", "-T") + ["whoami"], stdin=subprocess.DEVNULL, capture_output=True).returncode != 0
        logins.append((time.perf_counter() - began) * 1000)
        for n in range(20):
            mark = b"%c" % (97 + n)
            began = time.perf_counter()
            os.write(terminal.fd, mark)
            terminal.until(mark)
            keys.append((time.perf_counter() - began) * 1000)
    terminal.close()
    return logins, keys, failed


def flood(lab, seconds, rate):
    for name in ("quiet", "flood"):
        crowd = None
        if name == "flood":
            words = [sys.executable, ROOT / "tests/clients/door.py", "flood", lab.port, "alice", lab.dir / "alice", seconds, rate]
            crowd = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL)
        logins, keys, failed = people(lab, seconds)
        for what, times in (("login and command", logins), ("key and back", keys)):
            print(f"| {what}, {name} | {len(times)} | p50 {statistics.median(times):.1f} ms, p99 {percentile(times, 0.99):.1f} ms |", flush=True)
        print(f"| logins that failed, {name} | {len(logins)} | {failed} |", flush=True)
        if crowd:
            crowd.wait()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/countersign")
    p.add_argument("--seconds", type=int, default=20)
    p.add_argument("--rate", type=int, default=500)
    a = p.parse_args()
    if not a.binary.exists():
        sys.exit(f"{a.binary} is missing: cargo build --release --locked, or name another with --binary")
    print("| what | of | figure |\n|---|---:|---:|")
    weigh = [(Lab, lambda lab, stage=stage: memory(lab, stage)) for stage in ("silent", "identified", "keys exchanged")]
    for make, measure in (*weigh, (FloodLab, lambda lab: flood(lab, a.seconds, a.rate))):
        lab = make(a.binary)
        try:
            measure(lab)
        finally:
            lab.close()


if __name__ == "__main__":
    main()
