#!/usr/bin/env python3
"""Reads and verifies a sealed recording by docs/recording-format.md: the standard library, age, zstd, ssh-keygen; nothing of ours.

read.py --body F [--key-file F --identity F] [--manifest F --signature F --allowed-signers F] [--out DIR]
"""
import argparse, base64, decimal, hashlib, json, os, re, struct, subprocess, sys, tempfile

MAX_MANIFEST, MAX_SIGNATURE, MAX_KEYFILE, MAX_HEADER = 131072, 16384, 65536, 4096
MAX_LINE, MAX_FRAME, MAX_TABLE, MAX_INDEX, MAX_INTEGER = 1048576, 2097152, 67108864, 4096, 2**53 - 1
STREAMS, DIGEST, TIME = ("in", "out", "err"), re.compile(r"[0-9a-f]{64}"), decimal.Decimal
TERMS = {"schedules": list, "at_most": list, "zone": str, "policy": DIGEST}
SAME = {"session": str, "request?": str, "person": str, "target": str, "login": str, "kind": str, "serial": str, "record": str, "retention": TERMS}
HEADER = SAME | {"v": int, "command_b64?": str, "terminal?": list, "started": TIME}
MANIFEST = SAME | {"v": int, "bastion": str, "started_us": TIME, "ended_us": TIME, "outcome": str, "log": {"size": int, "root": DIGEST},
                   "body": {"bytes": int, "sha256": DIGEST, "recipient?": str}}
TOTAL = {"bytes": int, "sha256": DIGEST, "withheld?": {"bytes": int, "chunks": int, "digests?": DIGEST}}
TOTALS = {"lines": int, "in": TOTAL, "out": TOTAL, "err": TOTAL, "outcome": str, "ended": TIME, "cut?": {"offset": int, "why": str}, "index": list}
TEXTS = {"q": {"stream": STREAMS, "b64?": str}, "b": {"stream": STREAMS, "b64": str}, "f": {"stream": STREAMS}, "s": {"signal": str},
         "w": {"stream": STREAMS, "bytes": int, "sha256?": DIGEST}, "k": {"signal": str, "core_dumped": bool, "message": str}, "t": TOTALS,
         "v": {"name": str, "value": str}, "r": r"([0-9]{1,10})x([0-9]{1,10})", "x": r"([0-9]{1,10})", "o": None, "i": None, "m": None}
OUTCOME = r"(exited \d+|closed|client left|expired|shutdown|interrupted|signal(?= )|(?:target (?:lost|refused)|recording failed)(?=: )|(?:revoked|killed)(?= by ))"

class Bad(Exception): pass

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
    """Holds a value against its fields: no other ones, none missing, each of its type; `?` marks one that may be."""
    if isinstance(shape, dict):
        known = {name.rstrip("?"): name for name in shape}
        need(isinstance(value, dict) and value.keys() <= known.keys(), f"{what}: not an object, or unknown field: {str(value)[:80]}")
        for name, marked in known.items():
            need(name in value or marked.endswith("?"), f"{what}: no field {name}")
            if name in value:
                shaped(value[name], shape[marked], f"{what}.{name}")
    elif shape in (DIGEST, STREAMS):
        need(isinstance(value, str) and (value in STREAMS if shape is STREAMS else DIGEST.fullmatch(value)), f"{what}: not a digest or stream")
    else:
        need(type(value) is (int if shape is TIME else shape), f"{what}: not of its type")
        need(shape not in (TIME, int) or value in range(0 if shape is int else -MAX_INTEGER, MAX_INTEGER + 1), f"{what}: below 0, or beyond 2^53 - 1")
    return value

def small(path, limit, what):
    data = open(path, "rb").read(limit + 1)
    need(len(data) <= limit, f"{what}: longer than {limit} bytes")
    return data

def signed_manifest(args):
    data = small(args.manifest, MAX_MANIFEST, "manifest")
    made = parse(data, "manifest")
    need(isinstance(made, dict) and made.get("v") == 1, "manifest: unknown version")
    shaped(made, MANIFEST, "manifest")
    need(json.dumps(made, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == data, "manifest: not in canonical form")
    small(args.signature, MAX_SIGNATURE, "signature")
    command("signature", "ssh-keygen", "-Y", "verify", "-f", args.allowed_signers, "-I", made["bastion"], "-n", "countersign-recording-v1",
            "-s", args.signature, input=data)
    name = re.fullmatch(r"([0-9A-Z]{26})\.cast\.zst(\.age)?", os.path.basename(args.body))
    need(not name or name[1] == made["session"], f"name: this is the recording of {made['session']}")
    need(os.path.getsize(args.body) == made["body"]["bytes"], "body: not of the sealed length")
    need(hashlib.file_digest(open(args.body, "rb"), "sha256").hexdigest() == made["body"]["sha256"], "body: not the one that was sealed")
    need(("recipient" in made["body"]) == bool(args.key_file), "manifest: it says otherwise of the encryption")
    return made

def command(what, *args, stdout=subprocess.PIPE, **more):
    done = subprocess.run(args, stdout=stdout, stderr=subprocess.PIPE, **more)
    need(done.returncode == 0, f"{what}: {args[0]}: {' '.join((done.stderr + (done.stdout or b'')).decode(errors='replace').split())}")
    return done.stdout

def decrypt(args, made, to):
    small(args.key_file, MAX_KEYFILE, "key file")
    text = command("key file", "age", "-d", "-i", args.identity, args.key_file)
    keys = [line for line in text.splitlines() if line.strip() and not line.startswith(b"#")]
    need(len(keys) == 1 and keys[0].startswith(b"AGE-SECRET-KEY-1"), "key file: it does not hold one age key")
    public = command("key file: it does not hold an age key", "age-keygen", "-y", input=keys[0])
    need(not made or public.decode().strip() == made["body"]["recipient"], "key file: another recording's key")
    need(re.match(rb"age-encryption.org/v1\n(?s:.*)\n--- ", open(args.body, "rb").read(MAX_HEADER)), "body: no age header")
    command("body", "age", "-d", "-i", "-", args.body, input=keys[0], stdout=to)

def frames(file):
    """Holds the seek table against the frames; returns where each begins in the transcript."""
    size = file.seek(0, 2)
    file.seek(max(size - 9, 0))
    count, descriptor, magic = struct.unpack("<IBI", file.read(9).rjust(9, b"\0"))
    need(magic == 0x8F92EAB1 and descriptor & 0x7C == 0, "zstd: no seek table at the end")
    entry = 12 if descriptor & 0x80 else 8
    table, end = count * entry, size - 17 - count * entry
    need(table <= MAX_TABLE and end >= 0, "zstd: the seek table is too large")
    file.seek(end)
    need(struct.unpack("<II", file.read(8)) == (0x184D2A5E, table + 9), "zstd: the seek table is no skippable frame of its length")
    entries, at, starts, before = file.read(table), 0, set(), 0
    for compressed, content in (struct.unpack_from("<II", entries, n * entry) for n in range(count)):
        need(0 < compressed <= MAX_FRAME and 0 < content <= MAX_FRAME, "zstd: a frame of a size that is not allowed")
        file.seek(at)
        magic, descriptor, *rest = struct.unpack("<IB13B", file.read(18).ljust(18, b"\0"))
        need(magic == 0xFD2FB528 and not descriptor & 3 and descriptor & 4, "zstd: not a frame with a checksum and without a dictionary")
        single, width = descriptor & 0x20, (1 if descriptor & 0x20 else 0, 2, 4, 8)[descriptor >> 6]
        stated = int.from_bytes(rest[0 if single else 1 :][:width], "little") + (256 if width == 2 else 0)
        need(stated == content, "zstd: a frame says another size than the seek table")
        starts.add(before)
        at, before = at + compressed, before + content
    need(count and at == end, "zstd: the seek table does not fit the frames")
    return starts

def unbase64(text, what):
    data = base64.b64decode(text) if re.fullmatch(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", text) else None
    need(data is not None and base64.b64encode(data).decode() == text, f"{what}: not base64")
    return data

def transcript(lines, starts, sinks):
    """Reads all lines and rebuilds the streams; returns the header and the totals, which have been checked."""
    opening = parse(next(lines, b""), "first line")
    header = opening.get("countersign") if isinstance(opening, dict) and opening.get("version") == 2 else None
    need(isinstance(header, dict) and header.get("v") == 1, "first line: not asciicast version 2, or of an unknown version")
    shaped(header, HEADER, "first line")
    ms, pair, totals, exit = 0, None, None, None
    sums = {stream: [hashlib.sha256(), 0, hashlib.sha256(), 0, 0, False] for stream in STREAMS}
    for number, raw in enumerate(lines, 2):
        what, data = f"line {number}", None
        need(totals is None, f"{what}: it follows the totals")
        need(raw.endswith(b"\n"), f"{what}: longer than {MAX_LINE} bytes, or torn")
        need(isinstance(line := parse(raw, what), list) and len(line) == 3 and all(type(x) is str for x in line[1:]), f"{what}: not [seconds, code, text]")
        seconds, code, text = line
        need(not re.search("[\ud800-\udfff]", text), f"{what}: half a surrogate pair")
        need(isinstance(seconds, TIME) and re.fullmatch(r"[0-9]+\.[0-9]{3}", str(seconds)) and ms <= seconds * 1000 <= 36600 * 86400000, f"{what}: its time is out of order, or without its three decimals")
        need(code in TEXTS and (not pair or code == "o"), f"{what}: {code!r} is not a code of this version, or no o after a q")
        own = shaped(parse(text, what), TEXTS[code], what) if isinstance(TEXTS[code], dict) else {}
        ms, really, pair, stream = seconds * 1000, pair or {}, own if code == "q" else None, own.get("stream")
        exit = {"x": f"exited {text}", "k": "signal"}.get(code, exit)
        if code in ("r", "x"):
            numbers = re.fullmatch(TEXTS[code], text)
            need(numbers and all(int(n) < 2**32 for n in numbers.groups()), f"{what}: not a size or status")
        elif code == "o":
            stream, plain = really.get("stream", "out"), text if "terminal" in header else text.replace("\r\n", "\n")
            data = unbase64(really["b64"], what) if "b64" in really else plain.encode()
        elif code in "ib":
            stream, data = ("in", text.encode()) if code == "i" else (stream, unbase64(own["b64"], what))
        elif code == "w":
            sums[stream][2].update(bytes.fromhex(own.get("sha256", "")))
            sums[stream][3:] = sums[stream][3] + own["bytes"], sums[stream][4] + 1, sums[stream][5] or "sha256" in own
        elif code == "t":
            totals = own
            need(totals["lines"] == number - 2, "totals: another number of lines")
        if data is not None:
            sums[stream][0].update(data)
            sums[stream][1] += sinks[stream].write(data)
    need(totals is not None, "the transcript ends before its totals")
    for stream, (digest, length, digests, withheld, chunks, some) in sums.items():
        said = {"withheld": {"bytes": withheld, "chunks": chunks} | ({"digests": digests.hexdigest()} if some else {})} if chunks else {}
        need(totals[stream] == said | {"bytes": length, "sha256": digest.hexdigest()}, f"totals: the stream {stream} is another")
    good = len(totals["index"]) <= MAX_INDEX and all(isinstance(entry, list) and len(entry) == 4 and all(type(n) is int and n >= 0 for n in entry) for entry in totals["index"])
    for before, entry in zip([(0, -1)] + totals["index"], totals["index"] if good else ["malformed"]):
        need(good and before[0] <= entry[0] <= ms and before[1] < entry[1] and entry[1] in starts, "totals: the index points elsewhere, or is too long")
    need(kind := re.match(OUTCOME, totals["outcome"]), "totals: no outcome")
    need(not exit or kind[1] == exit or kind[1][:6] not in ("exited", "signal"), "totals: the outcome is another than the last exit")
    return header, totals

def read(args):
    made, wrong = signed_manifest(args) if args.manifest else None, None
    with tempfile.NamedTemporaryFile() as plain:
        if args.key_file:
            decrypt(args, made, plain)
        starts = frames(file := plain if args.key_file else open(args.body, "rb"))
        sinks = {stream: open(os.path.join(args.out, stream) if args.out else os.devnull, "wb") for stream in STREAMS}
        with subprocess.Popen(["zstd", "-dcq", "--memory=8MB", file.name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as zstd:
            try:
                header, totals = transcript(iter(lambda: zstd.stdout.readline(MAX_LINE + 1), b""), starts, sinks)
            except Bad as bad:
                wrong = bad
        wrong = Bad("zstd: a frame cannot be decompressed, or its checksum is wrong") if zstd.returncode > 0 else wrong
    need(not wrong, wrong)
    seen = header | totals | {"started_us": header["started"], "ended_us": totals["ended"], "outcome": re.match(OUTCOME, totals["outcome"])[1]}
    for name in [name.rstrip("?") for name in SAME] + ["started_us", "ended_us", "outcome"] if made else ():
        need(made.get(name) == seen.get(name), f"the transcript is another one's: its {name} is not what the manifest says")
    del totals["index"]
    print(json.dumps({"session": header["session"], "signed": bool(made)} | totals))

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("body", "key-file", "identity", "manifest", "signature", "allowed-signers", "out"):
        parser.add_argument("--" + name, required=name == "body")
    args = parser.parse_args()
    try:
        need(bool(args.manifest) == bool(args.signature) == bool(args.allowed_signers), "--manifest, --signature, --allowed-signers: all or none")
        os.makedirs(args.out or ".", exist_ok=True)
        read(args)
    except (Bad, OSError) as why:
        sys.exit(f"read.py: {why}")
