#!/usr/bin/env python3
"""Hostile recordings and logs, one fault each, against `countersign` and the independent reader.

run.py --binary PATH [NAME…]     exit status 1 if anything is not as its vector says

A vector is NAME.toml:
  rule         name and sentence of a rule of docs/recording-format.md, word for word
  fault        what is done, in the language of build.py
  recording    "exec" (default), "shell" or "plain"
  verdict      a text that `countersign verify` or `countersign audit verify` prints
  status       its exit status (default 1)
  independent  a text that read.py prints; nothing: it only has to refuse
Without NAME the good recordings and logs are tried first; with it too. Each run has 1.5 GiB of address space, 20 s, and
400 MiB of memory, and never panics.
"""

import argparse, os, re, resource, signal, subprocess, sys, tempfile, tomllib

import build

HERE = os.path.dirname(os.path.abspath(__file__))
READER = os.path.join(HERE, "../independent/read.py")
DOCUMENT = os.path.join(HERE, "../../docs/recording-format.md")
SPACE, SECONDS, MEMORY = 1536 * build.MB, 20, 400 * build.MB
LOG_LAYERS = ("log", "row", "sign-log", "checkpoint", "kept", "recovered")


class Subject:
    """The binary, and how it is asked."""

    def __init__(self, binary, keys, place):
        self.binary, self.keys, self.largest = os.path.abspath(binary), keys, 0
        self.env = {"HOME": place, "XDG_STATE_HOME": os.path.join(place, "state"), "PATH": os.environ["PATH"], "NO_COLOR": "1"}
        help = self.ask("audit", "verify", "--help")[1]
        self.key_option = (re.search(r"(--[a-z-]+) <VKEY>", help) or ["", "--key"])[1]
        self.brings_key = True

    def ask(self, *args):
        """Returns status, what was printed, and what went wrong besides."""

        def limits():
            resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(SECONDS)

        with tempfile.TemporaryFile() as out:
            child = subprocess.Popen([self.binary, *args], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.env, preexec_fn=limits)
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            said = out.read(200_000).decode(errors="replace")
        memory = used.ru_maxrss * 1024
        self.largest = max(self.largest, memory)
        wrong = [f"took {memory // build.MB} MiB"] * (memory > MEMORY) + ["panicked"] * ("panicked" in said or "stack backtrace" in said)
        wrong += [f"more than {SECONDS} s"] * (child.returncode == -signal.SIGALRM)
        return child.returncode, said, wrong

    def verify(self, paths):
        args = ["verify", paths["body"], "--seal-key", paths["allowed"]]
        if "keyfile" in paths:
            args += ["--key-file", paths["keyfile"], "--key", self.keys.path("auditor")]
        return self.ask(*args)

    def audit(self, paths):
        args = ["audit", "verify", paths["log"]]
        if self.brings_key:
            args += [self.key_option, self.keys.vkey("log", build.ORIGIN), "--checkpoint", paths["kept"]]
        return self.ask(*args)


def read(keys, paths, out=None):
    args = ["--body", paths["body"], "--manifest", paths["manifest"], "--signature", paths["signature"], "--allowed-signers", paths["allowed"]]
    if "keyfile" in paths:
        args += ["--key-file", paths["keyfile"], "--identity", keys.path("auditor")]
    done = subprocess.run([sys.executable, READER, *args, *(["--out", out] if out else [])], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def good(subject, keys, place):
    """What is not wrong with anything has to be good, and hold what was written."""
    for kind in ("exec", "shell", "plain"):
        recording = build.Recording(keys, kind=kind)
        paths = recording.write(os.path.join(place, kind))
        status, said, wrong = subject.verify(paths)
        if status or wrong or ": good: " not in said or ": whole" not in said:
            yield f"good {kind}: countersign says {status} {last(said)} {wrong}"
        status, said = read(keys, paths, paths["body"] + ".out")
        if status:
            yield f"good {kind}: read.py says {last(said)}"
        for stream, data in recording.written.items() if not status else ():
            if open(os.path.join(paths["body"] + ".out", stream), "rb").read() != data:
                yield f"good {kind}: read.py rebuilt another {stream}"
        cast = subprocess.run(["zstd", "-dcq"], input=recording.zstd, capture_output=True).stdout
        if cast != recording.transcript:
            yield f"good {kind}: zstd shows another transcript"
    paths = build.Log(keys).write(os.path.join(place, "export"))
    status, said, wrong = subject.audit(paths)
    if "panicked" in wrong:
        yield f"good log: {subject.key_option} panics; the vectors of the log are run without key and checkpoint"
        subject.brings_key = False
        status, said, wrong = subject.audit(paths)
    if status or wrong or "22 rows, 20 of them signed" not in said:
        yield f"good log: countersign says {status} {last(said)} {wrong}"


def last(said):
    lines = [line for line in said.splitlines() if line.strip()]
    return " | ".join(lines[:2])[:300] or "nothing"


def differs(vector, subject, keys, place):
    """Says what is not as the vector has it."""
    fault = vector["fault"]
    if fault["layer"].startswith(LOG_LAYERS):
        paths = build.Log(keys, fault).write(place)
        status, said, wrong = subject.audit(paths)
    else:
        paths = build.Recording(keys, fault, vector.get("recording", "exec")).write(place)
        status, said, wrong = subject.verify(paths)
        theirs, text = read(keys, paths)
        if theirs != 1 or "Traceback" in text or vector.get("independent", "") not in text:
            wrong = [*wrong, f"read.py says {theirs} {last(text)}"]
    if status != vector.get("status", 1):
        wrong = [f"accepted: {last(said)}" if status == 0 else f"status {status}: {last(said)}", *wrong]
    elif vector["verdict"] not in said:
        wrong = [f"says {last(said)}", *wrong]
    return wrong


def rules():
    """The rules of the document: name and sentence."""
    text = re.sub(r"\n(?=\S)(?!\*\*|[-|#*])", " ", open(DOCUMENT).read())
    return set(re.findall(r"^\*\*([a-z-]+)\*\*: (.*)$", text, re.M))


def seeds(place):
    """Good files, one of each kind and layer."""
    with tempfile.TemporaryDirectory(prefix="vectors-") as secret:
        keys = build.Keys(secret)
        for kind in ("exec", "shell", "plain"):
            recording = build.Recording(keys, kind=kind)
            paths = recording.write(os.path.join(secret, kind))
            layers = {".cast": recording.transcript, ".cast.zst": recording.zstd, ".json": open(paths["manifest"], "rb").read()}
            if "keyfile" in paths:
                layers[".key.age"] = open(paths["keyfile"], "rb").read()
            for ending, data in layers.items():
                with open(os.path.join(place, kind + ending), "wb") as to:
                    to.write(data)
        log = build.Log(keys).write(os.path.join(secret, "export"))["log"]
        with open(os.path.join(place, "log.jsonl"), "wb") as to:
            to.write(open(log, "rb").read())
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary")
    parser.add_argument("--good", metavar="DIR", help="only write good files there, as seeds for fuzzing")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    if args.good:
        return seeds(args.good)
    if not args.binary:
        parser.error("--binary is missing")
    names = sorted(name[:-5] for name in os.listdir(HERE) if name.endswith(".toml"))
    vectors = {name: tomllib.load(open(os.path.join(HERE, name + ".toml"), "rb")) for name in names}
    known, failed = rules(), 0
    for rule, sentence in sorted(known - {tuple(vector["rule"].split(": ", 1)) for vector in vectors.values()}):
        print(f"FAIL  no vector breaks {rule}: {sentence}")
        failed += 1
    with tempfile.TemporaryDirectory(prefix="vectors-") as place:
        keys = build.Keys(place)
        subject = Subject(args.binary, keys, place)
        for wrong in good(subject, keys, place):
            print(f"FAIL  {wrong}", flush=True)
            failed += 1
        tried = [name for name in names if not args.names or name in args.names]
        for name in tried:
            with tempfile.TemporaryDirectory(dir=place) as files:
                try:
                    wrong = differs(vectors[name], subject, keys, files)
                except Exception as error:  # a vector that cannot be built says so, and the others are tried
                    wrong = [f"it cannot be tried: {error!r}"]
            if tuple(vectors[name]["rule"].split(": ", 1)) not in known:
                wrong = ["its rule is not in the document", *wrong]
            failed += bool(wrong)
            print(f"{'FAIL' if wrong else 'ok  '}  {name}{': ' * bool(wrong)}{'; '.join(wrong)}", flush=True)
        missing = set(args.names) - set(names)
        failed += len(missing)
        print(f"{len(tried)} vectors, {failed} failed{''.join(f', no vector {name}' for name in missing)}; at most {subject.largest // build.MB} MiB")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
