#!/usr/bin/env python3
"""Reads and verifies a sealed recording by docs/recording-format.md: the standard library, age, zstd, ssh-keygen; nothing of ours.

read.py --body F --key-file F --identity F [--manifest F --signature F --allowed-signers F] [--out DIR]
read.py --body F [--manifest …] [--out DIR]                                                   plain mode
"""
import argparse, base64, decimal, hashlib, json, os, re, struct, subprocess, sys, tempfile

MAX_MANIFEST, MAX_SIGNATURE, MAX_KEYFILE, MAX_HEADER = 131072, 16384, 65536, 4096
MAX_LINE, MAX_FRAME, MAX_TABLE, MAX_INDEX, MAX_INTEGER = 1048576, 2097152, 67108864, 4096, 2**53 - 1
STREAMS, DIGEST = ("in", "out", "err"), re.compile(r"[0-9a-f]{64}")
TERMS = {"schedules": list, "at_most": list, "zone": str, "policy": DIGEST}
WHO = {"v": int, "session": str, "request?": str, "person": str, "target": str, "login": str, "kind": str, "record": str, "retention": TERMS, "serial": str}
HEADER = WHO | {"command_b64?": str, "terminal?": list, "started": int}
MANIFEST = WHO | {"bastion": str, "started_us": int, "ended_us": int, "outcome": str,
                  "body": {"bytes": int, "sha256": DIGEST, "recipient?": str}, "log": {"size": int, "root": DIGEST}}
TOTAL = {"bytes": int, "sha256": DIGEST, "withheld?": {"bytes": int, "chunks": int, "digests?": DIGEST}}
TEXTS = {"q": {"stream": str, "b64?": str}, "b": {"stream": str, "b64": str}, "w": {"stream": str, "bytes": int, "sha256?": DIGEST},
         "f": {"stream": str}, "k": {"signal": str, "core_dumped": bool, "message": str}, "s": {"signal": str}, "v": {"name": str, "value": str},
         "t": {"lines": int, "in": TOTAL, "out": TOTAL, "err": TOTAL, "outcome": str, "ended": int, "cut?": {"offset": int, "why": str}, "index": list}}
OUTCOME = r"(exited \d+|closed|client left|expired|shutdown|interrupted|signal|target lost|target refused|recording failed|revoked|killed)(?=$|:| by | [^ ])"


class Bad(Exception):
    pass


def need(good, why):
    if not good:
        raise Bad(why)


def parse(data, what):
    def once(pairs):
        need(len(pairs) == len(dict(pairs)), f"{what}: a field comes twice")
        return dict(pairs)
    try:
        text = data if isinstance(data, str) else data.decode()
        return json.loads(text, object_pairs_hook=once, parse_float=decimal.Decimal, parse_constant=lambda _: need(False, f"{what}: no number"))
    except (ValueError, RecursionError) as error:
        raise Bad(f"{what}: not JSON: {error}") from None


def shaped(value, shape, what):
    """Holds a value against its fields: no other ones, none missing, each of its type."""
    if isinstance(shape, re.Pattern):
        need(isinstance(value, str) and shape.fullmatch(value), f"{what}: not a digest")
    elif not isinstance(shape, dict):
        need(type(value) is shape, f"{what}: not of its type")
        need(shape is not int or abs(value) <= MAX_INTEGER, f"{what}: an integer beyond 2^53 - 1")
    else:
        need(isinstance(value, dict), f"{what}: not an object")
        known = {name.rstrip("?"): name for name in shape}
        need(value.keys() <= known.keys(), f"{what}: unknown field {sorted(value.keys() - known.keys())[:1]}")
        for name, marked in known.items():
            need(name in value or marked.endswith("?"), f"{what}: no field {name}")
            if name in value:
                shaped(value[name], shape[marked], f"{what}.{name}")
    return value


def small(path, limit, what):
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    need(len(data) <= limit, f"{what}: longer than {limit} bytes")
    return data


def manifest_of(args):
    data = small(args.manifest, MAX_MANIFEST, "manifest")
    made = parse(data, "manifest")
    need(isinstance(made, dict) and made.get("v") == 1, "manifest: unknown version")
    shaped(made, MANIFEST, "manifest")
    need(json.dumps(made, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == data, "manifest: not in canonical form")
    small(args.signature, MAX_SIGNATURE, "signature")
    check = ["ssh-keygen", "-Y", "verify", "-f", args.allowed_signers, "-I", made["bastion"], "-n", "countersign-recording-v1", "-s", args.signature]
    done = subprocess.run(check, input=data, capture_output=True)
    need(done.returncode == 0, f"signature: {' '.join((done.stdout + done.stderr).decode(errors='replace').split())}")
    return made


def check_body(path, made):
    name = re.fullmatch(r"([0-9A-Z]{26})\.cast\.zst(\.age)?", os.path.basename(path))
    need(not name or name[1] == made["session"], f"name: this is the recording of {made['session']}")
    need(os.path.getsize(path) == made["body"]["bytes"], "body: not of the sealed length")
    with open(path, "rb") as file:
        need(hashlib.file_digest(file, "sha256").hexdigest() == made["body"]["sha256"], "body: not the one that was sealed")


def age(what, *args, **more):
    done = subprocess.run(["age", "-d", *args], stderr=subprocess.PIPE, **more)
    need(done.returncode == 0, f"{what}: age: {done.stderr.decode(errors='replace').splitlines()[:1]}")
    return done.stdout


def decrypt(args, made, to):
    small(args.key_file, MAX_KEYFILE, "key file")
    text = age("key file", "-i", args.identity, args.key_file, stdout=subprocess.PIPE)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(b"#")]
    need(len(lines) == 1 and lines[0].startswith(b"AGE-SECRET-KEY-1"), "key file: it does not hold one age key")
    public = subprocess.run(["age-keygen", "-y"], input=lines[0], capture_output=True)
    need(public.returncode == 0, "key file: it does not hold an age key")
    need(not made or public.stdout.decode().strip() == made["body"].get("recipient"), "key file: another recording's key")
    with open(args.body, "rb") as file:
        head = file.read(MAX_HEADER)
    need(head.startswith(b"age-encryption.org/v1\n") and b"\n--- " in head, "body: no age header")
    age("body", "-i", "-", args.body, input=lines[0], stdout=to)


def check_frames(file):
    """Holds the seek table against the frames; returns where each begins in the transcript, and its length."""
    size = file.seek(0, 2)
    need(size >= 17, "zstd: too short")
    file.seek(size - 9)
    count, descriptor, magic = struct.unpack("<IBI", file.read(9))
    need(magic == 0x8F92EAB1 and descriptor & 0x7C == 0, "zstd: no seek table at the end")
    entry = 12 if descriptor & 0x80 else 8
    table, start = count * entry, size - 17 - count * entry
    need(table <= MAX_TABLE and start >= 0, "zstd: the seek table is too large")
    file.seek(start)
    need(struct.unpack("<II", file.read(8)) == (0x184D2A5E, table + 9), "zstd: the seek table is no skippable frame of its length")
    entries, at, starts, before = file.read(table), 0, [], 0
    for compressed, content in (struct.unpack_from("<II", entries, n * entry) for n in range(count)):
        need(0 < compressed <= MAX_FRAME and 0 < content <= MAX_FRAME, "zstd: a frame of a size that is not allowed")
        file.seek(at)
        magic, descriptor, rest = *struct.unpack("<IB", file.read(5)), file.read(13).ljust(13, b"\0")
        need(magic == 0xFD2FB528 and not descriptor & 3 and descriptor & 4, "zstd: not a frame with a checksum and without a dictionary")
        one = descriptor & 0x20
        width = (1 if one else 0, 2, 4, 8)[descriptor >> 6]
        stated = int.from_bytes(rest[0 if one else 1 :][:width], "little") + (256 if width == 2 else 0)
        need(stated == content, "zstd: a frame says another size than the seek table")
        starts.append(before)
        at, before = at + compressed, before + content
    need(count and at == start, "zstd: the seek table does not fit the frames")
    return starts, before


def base64_of(text, number):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Bad(f"line {number}: not base64") from None
    need(base64.b64encode(data).decode() == text, f"line {number}: not base64")
    return data


class Transcript:
    """Takes the lines one by one; the streams go to `sinks`."""

    def __init__(self, first, sinks):
        opening = parse(first, "first line")
        need(isinstance(opening, dict) and opening.get("version") == 2, "first line: not asciicast version 2")
        self.header = opening.get("countersign")
        need(isinstance(self.header, dict) and self.header.get("v") == 1, "first line: unknown version")
        shaped(self.header, HEADER, "first line")
        self.lines, self.ms, self.pair, self.totals, self.sinks = 0, 0, None, None, sinks
        self.sums = {stream: [0, hashlib.sha256(), 0, 0, b""] for stream in STREAMS}

    def take(self, stream, data, number):
        need(stream in STREAMS, f"line {number}: no such stream")
        self.sums[stream][0] += len(data)
        self.sums[stream][1].update(data)
        if self.sinks:
            self.sinks[stream].write(data)

    def line(self, raw):
        number = self.lines + 2
        need(self.totals is None, f"line {number}: it follows the totals")
        need(raw.endswith(b"\n"), f"line {number}: longer than {MAX_LINE} bytes, or torn")
        line = parse(raw, f"line {number}")
        need(isinstance(line, list) and len(line) == 3 and all(type(x) is str for x in line[1:]), f"line {number}: not [seconds, code, text]")
        seconds, code, text = line
        need(isinstance(seconds, decimal.Decimal) and re.fullmatch(r"\d+\.\d{3}", str(seconds)), f"line {number}: its time has no three decimals")
        need(self.ms <= seconds * 1000 <= 36600 * 86400000, f"line {number}: its time is out of order")
        self.ms, pair, self.pair = int(seconds * 1000), self.pair, None
        need(pair is None or code == "o", f"line {number}: no o after a q")
        own = shaped(parse(text, f"line {number}"), TEXTS[code], f"line {number}") if code in TEXTS else {}
        if code == "t":
            self.totals = own
            return
        self.lines += 1
        need("stream" not in own or own["stream"] in STREAMS, f"line {number}: no such stream")
        if code == "o" and pair and "b64" in pair:
            self.take(pair["stream"], base64_of(pair["b64"], number), number)
        elif code == "o":
            text = text if "terminal" in self.header else text.replace("\r\n", "\n")
            self.take(pair["stream"] if pair else "out", text.encode(), number)
        elif code == "i":
            self.take("in", text.encode(), number)
        elif code == "b":
            self.take(own["stream"], base64_of(own["b64"], number), number)
        elif code == "q":
            self.pair = own
        elif code == "w":
            sums = self.sums[own["stream"]]
            sums[2:] = [sums[2] + own["bytes"], sums[3] + 1, sums[4] + bytes.fromhex(own.get("sha256", ""))]
        elif code in "rx":
            numbers = re.fullmatch(r"(\d{1,10})x(\d{1,10})" if code == "r" else r"(\d{1,10})", text)
            need(numbers and all(int(n) < 2**32 for n in numbers.groups()), f"line {number}: not a size or status")
        else:
            need(code == "m" or code in TEXTS, f"line {number}: {code!r} is not a code of this version")

    def finish(self, starts):
        totals = self.totals
        need(totals is not None, "the transcript ends before its totals")
        need(totals["lines"] == self.lines, "totals: another number of lines")
        for stream, (length, digest, withheld, chunks, digests) in self.sums.items():
            found = {"bytes": length, "sha256": digest.hexdigest()}
            if chunks:
                found["withheld"] = {"bytes": withheld, "chunks": chunks} | ({"digests": hashlib.sha256(digests).hexdigest()} if digests else {})
            need(found == totals[stream], f"totals: the stream {stream} is another")
        last, index = (-1, -1), totals["index"]
        need(len(index) <= MAX_INDEX, "totals: the index is too long")
        for entry in index:
            need(isinstance(entry, list) and len(entry) == 4 and all(type(n) is int and n >= 0 for n in entry), "totals: the index is malformed")
            need(last[0] <= entry[0] <= self.ms and last[1] < entry[1] and entry[1] in starts, "totals: the index points elsewhere")
            last = entry
        kind = re.match(OUTCOME, totals["outcome"])
        need(kind, "totals: no outcome")
        return kind[1]


def contradiction(made, transcript, kind):
    pairs = [(name, made.get(name), transcript.header.get(name)) for name in ("session", "request", "person", "target", "login", "kind", "serial", "record", "retention")]
    pairs += [("start", made["started_us"], transcript.header["started"]), ("end", made["ended_us"], transcript.totals["ended"]), ("outcome", made["outcome"], kind)]
    return next((what for what, one, other in pairs if one != other), None)


def read(args):
    made = manifest_of(args) if args.manifest else None
    if made:
        check_body(args.body, made)
        need(("recipient" in made["body"]) == bool(args.key_file), "manifest: it says otherwise of the encryption")
    with tempfile.NamedTemporaryFile() as plain:
        if args.key_file:
            decrypt(args, made, plain)
        file = plain if args.key_file else open(args.body, "rb")
        starts, length = check_frames(file)
        sinks = {stream: open(os.path.join(args.out, stream), "wb") for stream in STREAMS} if args.out else None
        zstd = subprocess.Popen(["zstd", "-dcq", "--memory=8MB", file.name], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        transcript, seen = None, 0
        try:
            while raw := zstd.stdout.readline(MAX_LINE + 1):
                seen += len(raw)
                if transcript:
                    transcript.line(raw)
                else:
                    transcript = Transcript(raw, sinks)
        finally:
            zstd.stdout.close()
            said = zstd.stderr.read().decode(errors="replace").split()
            status = zstd.wait()
        need(status == 0, f"zstd: {' '.join(said)[-120:]}")
        need(transcript and seen == length, "zstd: another length than the seek table says")
    kind = transcript.finish(set(starts))
    for sink in (sinks or {}).values():
        sink.close()
    what = made and contradiction(made, transcript, kind)
    need(not what, f"the transcript is another one's: its {what} is not what the manifest says")
    said = {"session": transcript.header["session"], "signed": bool(made), "lines": transcript.lines, "outcome": transcript.totals["outcome"]}
    print(json.dumps(said | {stream: transcript.totals[stream]["bytes"] for stream in STREAMS} | {"cut": "cut" in transcript.totals}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("body", "key-file", "identity", "manifest", "signature", "allowed-signers", "out"):
        parser.add_argument("--" + name, required=name == "body")
    args = parser.parse_args()
    if len({bool(x) for x in (args.manifest, args.signature, args.allowed_signers)}) > 1 or bool(args.key_file) != bool(args.identity):
        parser.error("--manifest, --signature and --allowed-signers go together, and so do --key-file and --identity")
    if args.out:
        os.makedirs(args.out, exist_ok=True)
    try:
        read(args)
    except (Bad, OSError, decimal.InvalidOperation) as why:
        sys.exit(f"read.py: {why}")


if __name__ == "__main__":
    main()
