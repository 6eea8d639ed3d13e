#!/usr/bin/env python3
"""The approvals' figures: how soon a yes opens, and what a long queue costs.

    tests/bench/approvals.py [--binary PATH] [--rounds N] [--pending N] [yes] [list]

yes       from the key that approves in bob's inbox to the first byte that alice's command prints, both in a
          terminal: p50 and p95, beside a whole `ssh direct` (the target's own opening)
list      N pending requests (10,000): one listing of those that wait, as a table and as JSON, and the memory that it takes

Everything is on 127.0.0.1; see bench.py.
"""
import argparse, json, os, pathlib, statistics, subprocess, time

import bench
from bench import ME, Terminal, percentile, pss


class Lab(bench.Lab):
    limits = ["pending = 20000", "pending_per_person = 20000", "unauthenticated = 2000", "unauthenticated_per_source = 2000"]

    def grant(self):
        """Nothing is open here but what is approved while it is measured."""

    def inbox(self, person):
        env = dict(COUNTERSIGN_SSH=f"ssh -F {self.dir}/{person}.conf", XDG_STATE_HOME=str(self.dir))
        words = ["sh", "-c", 'stty cols 120 rows 60; exec "$@"', "sh", "env", *(f"{name}={value}" for name, value in env.items())]
        words += [self.binary, "-b", "bastion"]
        return Terminal([*words, "--key", str(self.dir / person), "requests", "--watch"])

    def pending(self):
        return json.loads(self.companion("bob", "requests", "--pending", "--json"))["requests"]


def yes(lab, rounds):
    bob = lab.inbox("bob")
    bob.until(b"nothing waits")
    times, direct = [], []
    for n in range(rounds + 1):
        began = time.perf_counter()
        subprocess.run(lab.ssh("direct") + ["true"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
        direct.append((time.perf_counter() - began) * 1000)
        alice = Terminal(lab.ssh("named", "-tt") + ["echo fir''st"])
        alice.until(b"needs approval")
        request = lab.pending()[0]
        bob.until(request["request"].encode())
        os.write(bob.fd, b"\r")
        bob.until(b"compare the code")
        # The first time it is unusual, and agreed to by name.
        began = time.perf_counter()
        os.write(bob.fd, b"a" if n else b"aweb-1\r")
        alice.until(b"first")
        times.append((time.perf_counter() - began) * 1000)
        bob.until(b"approved " + request["request"].encode())
        alice.close()
        lab.companion("bob", "revoke", request["request"], "--reason", "measured")
    bob.close()
    times, direct = times[1:], direct[1:]
    print(f"| key press to first byte, p50 / p95, ms ({rounds} times) | {statistics.median(times):.0f} / {percentile(times, 95):.0f} |")
    print(f"| `ssh direct true` beside it, p50, ms | {statistics.median(direct):.0f} |", flush=True)


def ask_for(lab, count):
    """So many requests of alice's, no two of one scope: they differ in how long."""
    wire = subprocess.Popen(lab.ssh("bastion", "-T", "-s") + ["countersign-v1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for n in range(count):
        args = {"targets": [f"{ME}@web-1"], "for": f"{60 + n}s", "reason": f"number {n}"}
        wire.stdin.write(json.dumps({"v": 1, "id": n, "verb": "request", "args": args}).encode() + b"\n")
        wire.stdin.flush()
        answer = json.loads(wire.stdout.readline())
        if "error" in answer:
            raise SystemExit(f"{n}: {answer}")
    wire.stdin.close()
    wire.wait()


def listing(lab, count):
    began = time.perf_counter()
    ask_for(lab, count)
    print(f"| {count} requests made one after another, ms each | {(time.perf_counter() - began) * 1000 / count:.1f} |", flush=True)
    root = lab.daemons["bastion"]
    for form in [[], ["--json"]]:
        before, began = pss(root), time.perf_counter()
        shown = lab.companion("bob", "requests", "--pending", *form)
        took = time.perf_counter() - began
        rows = len(json.loads(shown)["requests"]) if form else len(shown.splitlines()) - 1
        print(f"| a listing {'as JSON' if form else 'as a table'}: {rows} of {count} pending, s; memory kept, KiB | {took:.2f}; {pss(root) - before} |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", type=pathlib.Path, default=bench.ROOT / "target/release/countersign")
    p.add_argument("--rounds", type=int, default=20)
    p.add_argument("--pending", type=int, default=10_000)
    p.add_argument("tests", nargs="*", metavar="TEST", help="yes, list")
    args = p.parse_args()
    for name, measure in [("yes", lambda lab: yes(lab, args.rounds)), ("list", lambda lab: listing(lab, args.pending))]:
        if not args.tests or name in args.tests:
            lab = Lab(args.binary)
            try:
                measure(lab)
            finally:
                lab.close()


if __name__ == "__main__":
    main()
