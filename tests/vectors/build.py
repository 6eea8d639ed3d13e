"""Writes recordings and logs from docs/recording-format.md alone, good ones or with one fault.

Python's standard library; age, zstd, ssh-keygen and openssl do the cryptography. All keys are made at run time.

A fault is a table `{layer, do, …}`. It is done at its layer; everything around that layer is made anew and is right.

Bytes (layers `first`, `zstd`, `age`, `manifest-bytes`, `signature`, `keyfile-text`, `keyfile`, `body`, `checkpoint-text`,
`checkpoint-note`, `kept-note`, `row-bytes`, `log-line`):
  flip {at}              one bit of the byte at `at`; negative counts from the end
  cut {bytes}            off the end          keep {bytes}        the beginning only
  append {text|hex}      prepend {text|hex}   replace {from, to}  the first; it has to be there
  put {text|hex}         instead of all       sparse {bytes}      longer by zeros, to so many bytes
Objects (layers `opening`: the asciicast header, `header`: its `countersign`, `totals`, `manifest`, `row`, `log-head`):
  set {field, to, times}  `body.bytes`, `index.0.1`; with `times`, a list of so many       unset {field}
Lines between the first and the totals (layer `lines`; `code` chooses the first such line, `nth` another):
  insert {code, line|hex}  before it, or at the "end"      replace {code, from, to}     swap {code, with}     fill {code, bytes}  the line, to so many bytes
Uncompressed (layer `text`): append, cut, insert-totals (a second totals line before the last), drop-totals
Frames (layer `frames`): bomb {size, says}, empty {count}, checksum, no-checksum, dictionary, garbage-content {says}
Seek table (layer `table`): drop, entry {entry, field, add}, count {add}, entries {count}, header {at}, behind {text}
age (layer `age-chunks`): flip {chunk}, drop {chunk}, swap {chunk}, drop-last; (layer `age-header`): pad {bytes}, keep {bytes}
Others: `sign` {namespace|key}, `signature-of` {what}, `keyfile-to` stranger, `body-of`/`keyfile-of` {other|older}, `seal-key` {principal|key},
  `rename` (all files to another session's name), `encrypt-to` other
Log: layers `row`, `row-bytes` {row} (`chain` and `signed` are made anew unless false), `log-line` {line}, `log` with
  delete|duplicate|swap {line, with}, move {line, to}, keep {lines}, insert {line, text};  `checkpoint-*` {nth}, `sign-log` {key|name|nth}, `kept` {fork|key|cut}, `recovered` {size|root|more|unknown|forgotten|elsewhen}
"""

import base64, copy, hashlib, json, os, random, re, struct, subprocess, tempfile
from functools import lru_cache

MB = 1024 * 1024
SESSION, OTHER_SESSION = "01JZ9Y6C3RM5T8V0W2X4Y6Z8A1", "01JZ9Y6C3RM5T8V0W2X4Y6Z8A2"
BASTION = "b-vectors"
NAMESPACE = "countersign-recording-v1"
STREAMS = ("in", "out", "err")


def run(*command, data=None, **more):
    done = subprocess.run(command, input=data, capture_output=True, **more)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def canonical(value):
    """RFC 8785, for integers and keys of ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Keys:
    """Everything secret, in a directory that goes with the run."""

    def __init__(self, place):
        self.place = place
        for name in ("seal", "otherseal"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", self.path(name))
        for name in ("auditor", "stranger"):
            run("age-keygen", "-o", self.path(name))
        for name in ("log", "otherlog"):
            run("openssl", "genpkey", "-algorithm", "ed25519", "-out", self.path(name))
        self.allowed(self.path("allowed_signers"), "seal", BASTION)

    def path(self, name):
        return os.path.join(self.place, name)

    def allowed(self, path, key, principal):
        public = open(self.path(key) + ".pub").read().strip()
        with open(path, "w") as to:
            to.write(f'{principal} namespaces="{NAMESPACE},countersign-expiry-v1" {public}\n')

    def recipient(self, name):
        return run("age-keygen", "-y", self.path(name)).decode().strip()

    def sign(self, data, key="seal", namespace=NAMESPACE):
        return run("ssh-keygen", "-Y", "sign", "-q", "-f", self.path(key), "-n", namespace, data=data)

    def log_public(self, name):
        return run("openssl", "pkey", "-in", self.path(name), "-pubout", "-outform", "DER")[-32:]

    def log_sign(self, name, text):
        with tempfile.NamedTemporaryFile(dir=self.place) as file:
            file.write(text)
            file.flush()
            return run("openssl", "pkeyutl", "-sign", "-rawin", "-inkey", self.path(name), "-in", file.name)

    def vkey(self, name, origin):
        return f"{origin}+{self.key_hash(name, origin).hex()}+{base64.b64encode(bytes([1]) + self.log_public(name)).decode()}"

    def key_hash(self, name, origin):
        return hashlib.sha256(origin.encode() + b"\n\x01" + self.log_public(name)).digest()[:4]


# Faults


def pick(text, table):
    return bytes.fromhex(table["hex"]) if "hex" in table else table.get(text, "").encode()


def on_bytes(data, f):
    do = f["do"]
    if do == "flip":
        data = bytearray(data)
        data[f["at"]] ^= 1
        return bytes(data)
    if do == "cut":
        return data[: -f["bytes"]]
    if do == "keep":
        return data[: f["bytes"]]
    if do == "append":
        return data + pick("text", f) * f.get("times", 1)
    if do == "prepend":
        return pick("text", f) + data
    if do == "put":
        return pick("text", f)
    if do == "replace":
        assert f["from"].encode() in data, f"{f['from']!r} is not there"
        return data.replace(f["from"].encode(), f["to"].encode(), 1)
    if do == "sparse":
        return data  # made longer when it is written
    raise ValueError(f"bytes know no {do}")


def on_object(value, f):
    value = copy.deepcopy(value)
    *path, last = f["field"].split(".")
    inside = value
    for name in path:
        inside = inside[int(name) if isinstance(inside, list) else name]
    last = int(last) if isinstance(inside, list) else last
    if f["do"] == "unset":
        del inside[last]
    elif f["do"] == "set":
        inside[last] = [f["to"]] * f["times"] if "times" in f else f["to"]
    else:
        raise ValueError(f"objects know no {f['do']}")
    return value


# Transcript


class Line:
    """A line and the bytes that it adds to its streams, so that lines can move and the totals still be right."""

    def __init__(self, ms, code, text, stream=None, data=b"", withheld=None):
        text = text if isinstance(text, str) else json.dumps(text, separators=(",", ":"))
        self.code, self.ms, self.stream, self.data, self.withheld = code, ms, stream, data, withheld
        self.raw = f'[{ms // 1000}.{ms % 1000:03},"{code}",{json.dumps(text, ensure_ascii=False)}]'.encode()


class Encoder:
    def __init__(self, terminal):
        self.terminal, self.carried = terminal, dict.fromkeys(STREAMS, b"")

    def event(self, ms, kind, *rest):
        """Returns the lines of one event."""
        if kind == "bytes":
            return self.bytes(ms, *rest)
        if kind == "withheld":
            stream, length, digest = rest
            text = {"stream": stream, "bytes": length} | ({"sha256": digest} if digest else {})
            return self.release(ms, stream) + [Line(ms, "w", text, stream, withheld=(length, digest))]
        if kind == "f":
            return self.release(ms, rest[0]) + [Line(ms, "f", {"stream": rest[0]})]
        return [Line(ms, kind, rest[0])]

    def bytes(self, ms, stream, data):
        data = self.carried[stream] + data
        begun = next((n for n in (1, 2, 3) if n <= len(data) and self.is_begun(data[-n:])), 0)
        data, self.carried[stream] = data[: len(data) - begun], data[len(data) - begun :]
        pieces = list(self.pieces(data))
        if sum(not good for good, _ in pieces) > 8:
            return self.raw(ms, stream, data, self.terminal)
        return [line for good, piece in pieces for line in (self.text if good else self.raw)(ms, stream, piece)]

    @staticmethod
    def is_begun(tail):
        need = 2 if 0xC2 <= tail[0] < 0xE0 else 3 if 0xE0 <= tail[0] < 0xF0 else 4 if 0xF0 <= tail[0] < 0xF5 else 0
        return len(tail) < need and all(byte & 0xC0 == 0x80 for byte in tail[1:])

    @staticmethod
    def pieces(data):
        while data:
            try:
                data.decode()
                yield True, data
                return
            except UnicodeDecodeError as bad:
                if bad.start:
                    yield True, data[: bad.start]
                yield False, data[bad.start : bad.end]
                data = data[bad.end :]

    def release(self, ms, stream):
        data, self.carried[stream] = self.carried[stream], b""
        return self.raw(ms, stream, data) if data else []

    def text(self, ms, stream, data):
        if stream == "in":
            return [Line(ms, "i", data.decode(), stream, data)]
        before = [Line(ms, "q", {"stream": "err"})] if stream == "err" else []
        return before + [self.drawn(ms, stream, data)]

    def raw(self, ms, stream, data, drawn=True):
        code = "q" if drawn and stream != "in" else "b"
        line = Line(ms, code, {"stream": stream, "b64": base64.b64encode(data).decode()}, stream, data if code == "b" else b"")
        return [line, self.drawn(ms, stream, data)] if code == "q" else [line]

    def drawn(self, ms, stream, data):
        text = data.decode(errors="replace")
        return Line(ms, "o", text if self.terminal else text.replace("\n", "\r\n"), stream, data)


def header(session, terminal):
    schedule = {"name": "standard", "keep_at_least": "P90D", "delete_after": "P1Y"}
    made = {"v": 1, "session": session, "request": "K7Q3FM", "person": "alice", "target": "web-1", "login": "deploy"}
    made |= {"kind": "shell"} if terminal else {"kind": "exec", "command_b64": base64.b64encode(b"make \xff all").decode()}
    if terminal:
        made["terminal"] = [80, 24, "xterm-256color"]
    made |= {"started": 1781440100123456, "record": "full"}
    terms = {"schedules": [schedule], "at_most": ["P1Y1M"], "zone": "Europe/Berlin", "policy": sha(b"policies")}
    return made | {"retention": terms, "serial": "18446744073709551615"}


def events(terminal):
    """Every kind of event, sequences cut by packets, mixed line ends, broken bytes, and enough for several frames."""
    noise = random.Random(7)
    yield 0, "m", "exec make"
    yield 5, "v", {"name": "LANG", "value": 'C.UTF-8"\\'}
    if terminal:
        yield 7, "r", "132x43"
    yield 12, "bytes", "out", "one\ntwo\r\nthree\r\r\n\x1b[1mÄ".encode()[:-1]
    yield 20, "bytes", "err", b"make: no rule\n\xe2\x82"
    yield 21, "bytes", "out", "Ä𝄞€\n".encode()[1:-2]
    yield 21, "bytes", "err", b"\xac!\n"
    yield 30, "bytes", "in", "yes\r\nü".encode()[:-1]
    yield 31, "bytes", "out", b"ab\xffcd\xc3"
    yield 40, "bytes", "in", b"\xbc\x00\x80\n"
    for n in range(5):
        yield 100 + n, "bytes", "out", noise.randbytes(50_000)
    for n in range(40):
        yield 200 + n, "bytes", "out" if n % 3 else "err", (noise.randbytes(4_000).hex() + "\n").encode()
    yield 300, "withheld", "out", 1_048_576, sha(b"chunk 1")
    yield 301, "withheld", "out", 77, sha(b"chunk 2")
    yield 302, "withheld", "in", 9, None
    yield 310, "s", {"signal": "INT"}
    yield 311, "bytes", "err", b"cut \xf0\x9d"
    yield 320, "f", "err"
    yield 321, "f", "in"
    yield 65_432, "k", {"signal": "TERM", "core_dumped": True, "message": "too late: \u0007"}
    yield 65_433, "x", "3"
    yield 65_434, "bytes", "out", b"the end\xe2"


class Recording:
    """One sealed recording; `fault` is done on the way."""

    def __init__(self, keys, fault=None, kind="exec", session=SESSION, extra=b""):
        self.keys, self.fault, self.session = keys, fault or {}, session
        self.terminal = kind == "shell"
        self.plain = kind == "plain"
        self.header = header(session, self.terminal)
        self.text(extra)
        self.compress()
        self.seal()

    def at(self, *layers):
        return self.fault if self.fault.get("layer") in layers else None

    def apply(self, layer, change, value):
        return change(value, self.fault) if self.at(layer) else value

    # Transcript

    def text(self, extra):
        encoder, self.groups, self.written = Encoder(self.terminal), [], dict.fromkeys(STREAMS, b"")
        size = (80, 24) if self.terminal else (0, 0)
        for ms, *event in [*events(self.terminal), *([(65_435, "bytes", "out", extra)] if extra else [])]:
            if event[0] == "bytes":
                self.written[event[1]] += event[2]
            self.groups.append((size, encoder.event(ms, *event)))
            if event[0] == "r":
                size = tuple(map(int, event[1].split("x")))
        self.groups.append((size, [line for stream in STREAMS for line in encoder.release(65_436, stream)]))
        self.edit_lines()
        opening = {"version": 2, "width": 132, "height": 43, "timestamp": 1781440100, "title": "alice · deploy@web-1"}
        opening |= {"env": {"TERM": "xterm-256color"} if self.terminal else {}, "countersign": self.header}
        if self.at("header"):
            opening["countersign"] = on_object(self.header, self.fault)
        opening = self.apply("opening", on_object, opening)
        self.first = self.apply("first", on_bytes, json.dumps(opening, separators=(",", ":"), ensure_ascii=False).encode())

    def edit_lines(self):
        f = self.at("lines")
        if not f:
            return
        if f["code"] == "end":
            self.groups.append((self.groups[-1][0], [Line(65_436, "end", "")]))
        where = [(g, i) for g, (_, lines) in enumerate(self.groups) for i, line in enumerate(lines) if line.code == f["code"]]
        group, index = where[f.get("nth", 0)]
        lines = self.groups[group][1]
        if f["do"] == "insert":
            new = Line(lines[index].ms, "?", "")
            new.raw = pick("line", f)
            lines[index : index + (f["code"] == "end")] = [new]
        elif f["do"] == "replace":
            lines[index].raw = on_bytes(lines[index].raw, f)
        elif f["do"] == "fill":
            lines[index].raw = lines[index].raw[:-2] + b"x" * (f["bytes"] - len(lines[index].raw)) + b'"]'
            assert len(lines[index].raw) == f["bytes"]
            lines[index].data += b"x"  # never reached
        elif f["do"] == "swap":
            other = next((g, i) for g, (_, lines) in enumerate(self.groups) for i, line in enumerate(lines) if line.code == f["with"])
            theirs = self.groups[other[0]][1]
            lines[index], theirs[other[1]] = theirs[other[1]], lines[index]
        else:
            raise ValueError(f"lines know no {f['do']}")

    def totals(self, index):
        lines = [line for _, lines in self.groups for line in lines]
        made = {"lines": len(lines)}
        for stream in STREAMS:
            data = b"".join(line.data for line in lines if line.stream == stream)
            made[stream] = {"bytes": len(data), "sha256": sha(data)}
            withheld = [line.withheld for line in lines if line.stream == stream and line.withheld]
            if withheld:
                digests = [bytes.fromhex(digest) for _, digest in withheld if digest]
                made[stream]["withheld"] = {"bytes": sum(length for length, _ in withheld), "chunks": len(withheld)}
                if digests:
                    made[stream]["withheld"]["digests"] = sha(b"".join(digests))
        self.outcome, self.ended = "exited 3", 1781440165559456
        made |= {"outcome": self.outcome, "ended": self.ended, "index": index}
        return self.apply("totals", on_object, made)

    # zstd

    def compress(self):
        blocks, index, before = [self.first + b"\n"], [], 0
        for size, lines in self.groups:
            data = b"".join(line.raw + b"\n" for line in lines)
            if len(blocks[-1]) + len(data) > 262144 and lines:
                before += len(blocks[-1])
                blocks.append(b"")
                index.append([lines[0].ms, before, *size])
            blocks[-1] += data
        last = Line(65_436, "t", self.totals(index)).raw + b"\n"
        f = self.at("text") or {"do": None}
        if f["do"] == "insert-totals":
            blocks[-1] += last
        blocks.append(on_bytes(last, f) if f["do"] in ("append", "cut") else b"" if f["do"] == "drop-totals" else last)
        frames = [(frame(block), len(block)) for block in blocks if block]
        self.transcript = b"".join(blocks)
        frames = self.edit_frames(frames)
        self.zstd = self.apply("zstd", on_bytes, self.with_table(frames))

    def edit_frames(self, frames):
        f = self.at("frames")
        if not f:
            return frames
        data, length = frames[1]
        if f["do"] == "bomb":
            frames[1] = (frame(b"\0" * f["size"]), f.get("says", f["size"]))
        elif f["do"] == "empty":
            frames[1:1] = [(frame(b""), 0)] * f["count"]
        elif f["do"] == "checksum":
            frames[1] = (data[:-1] + bytes([data[-1] ^ 1]), length)
        elif f["do"] == "no-checksum":
            content = run("zstd", "-dcq", data=data)
            frames[1] = (run("zstd", "-q", "-3", "--no-check", f"--stream-size={length}", "-c", data=content), length)
        elif f["do"] == "dictionary":
            descriptor = data[4]
            at = 5 if descriptor & 0x20 else 6
            frames[1] = (data[:4] + bytes([descriptor | 3]) + data[5:at] + struct.pack("<I", 4711) + data[at:], length)
        elif f["do"] == "garbage-content":
            frames[1] = (b"\x28\xb5\x2f\xfd" + b"\xff" * 200, length)
        else:
            raise ValueError(f"frames know no {f['do']}")
        return frames

    def with_table(self, frames):
        entries, f = [[len(data), length] for data, length in frames], self.at("table") or {"do": None}
        if f["do"] == "entry":
            for entry, field, add in f["changes"]:
                entries[entry][field] += add
        if f["do"] == "entries":
            entries[1:1] = [[0, 0]] * f["count"]
        table = b"".join(struct.pack("<II", *entry) for entry in entries)
        count = len(entries) + (f["add"] if f["do"] == "count" else 0)
        table += struct.pack("<IBI", count, 0, 0x8F92EAB1)
        table = struct.pack("<II", 0x184D2A5E, len(table)) + table
        if f["do"] == "header":
            table = bytes([*table[: f["at"]], table[f["at"]] ^ f.get("mask", 0xFF), *table[f["at"] + 1 :]])
        if f["do"] == "drop":
            table = b""
        return b"".join(data for data, _ in frames) + table + (f["text"].encode() if f["do"] == "behind" else b"")

    # age, manifest, files

    def seal(self):
        keys, self.secret = self.keys, run("age-keygen")
        self.secret = next(line for line in self.secret.splitlines() if line.startswith(b"AGE-SECRET"))
        recipient = run("age-keygen", "-y", data=self.secret).decode().strip()
        self.recipient = recipient
        if self.plain:
            body = self.zstd
        else:
            body = run("age", "-r", keys.recipient("stranger") if self.at("encrypt-to") else recipient, data=self.zstd)
        body = self.apply("age", on_bytes, self.edit_age(body))
        header, kind = self.header, self.outcome
        made = {"v": 1, "bastion": BASTION, "session": self.session}
        made |= {name: header[name] for name in ("request", "person", "target", "login", "kind", "serial", "record", "retention")}
        made |= {"started_us": header["started"], "ended_us": self.ended, "outcome": kind}
        made["body"] = {"bytes": len(body), "sha256": sha(body)} | ({} if self.plain else {"recipient": recipient})
        made["log"] = {"size": 5, "root": sha(b"root")}
        self.manifest = self.apply("manifest-bytes", on_bytes, canonical(self.apply("manifest", on_object, made)))
        how = self.at("sign") or {}
        self.signature = keys.sign(self.manifest, how.get("key", "seal"), how.get("namespace", NAMESPACE))
        if self.at("signature-of"):
            self.signature = keys.sign(self.manifest + b"\n")
        self.signature = self.apply("signature", on_bytes, self.signature)
        text = f"# countersign recording {self.session}\n".encode() + self.secret + b"\n"
        text = self.apply("keyfile-text", on_bytes, text.replace(b"@OTHER@", b""))
        if b"@OTHER@" in text:
            text = text.replace(b"@OTHER@", next(l for l in run("age-keygen").splitlines() if l.startswith(b"AGE")))
        to = "stranger" if self.at("keyfile-to") else "auditor"
        self.keyfile = run("age", "-r", keys.recipient(to), data=text)
        self.keyfile = self.apply("keyfile", on_bytes, self.keyfile)
        self.body = self.apply("body", on_bytes, body)
        for what in ("body", "keyfile"):
            f = self.at(what + "-of")
            if f:
                other = Recording(keys, session=OTHER_SESSION if f["of"] == "other" else self.session, extra=b"another ending\n" * f.get("extra", 1))
                setattr(self, what, getattr(other, what))

    def edit_age(self, body):
        f = self.at("age-chunks", "age-header")
        if not f:
            return body
        head = re.match(rb".*?\n--- [^\n]*\n", body, re.S).end()
        if f["layer"] == "age-header":
            if f["do"] == "keep":
                return body[: f["bytes"]]
            stanza = b"-> pad " + b"x" * 50 + b"\n" + (b"A" * 64 + b"\n") * (f["bytes"] // 65) + b"\n"
            return b"age-encryption.org/v1\n" + stanza + body[22:]
        start, size = head + 16, 65536 + 16
        chunks = [body[at : at + size] for at in range(start, len(body), size)]
        assert len(chunks) > 3, "the recording is too small for this fault"
        if f["do"] == "flip":
            chunks[f["chunk"]] = on_bytes(chunks[f["chunk"]], {"do": "flip", "at": 99})
        elif f["do"] == "drop":
            del chunks[f["chunk"]]
        elif f["do"] == "drop-last":
            chunks.pop()
        elif f["do"] == "swap":
            chunks[f["chunk"]], chunks[f["chunk"] + 1] = chunks[f["chunk"] + 1], chunks[f["chunk"]]
        return body[:start] + b"".join(chunks)

    def write(self, place):
        """Writes the files into `place` and returns their paths."""
        os.makedirs(place, exist_ok=True)
        name = OTHER_SESSION if self.at("rename") else self.session
        parts = {"body": ".cast.zst" if self.plain else ".cast.zst.age", "manifest": ".json", "signature": ".json.sig"}
        parts |= {} if self.plain else {"keyfile": ".key.age"}
        paths = {part: os.path.join(place, name + extension) for part, extension in parts.items()}
        for part, path in paths.items():
            with open(path, "wb") as to:
                to.write(getattr(self, part))
        if self.fault.get("do") == "sparse":
            os.truncate(paths[{"manifest-bytes": "manifest"}.get(self.fault["layer"], self.fault["layer"])], self.fault["bytes"])
        paths["allowed"] = self.keys.path("allowed_signers")
        how = self.at("seal-key")
        if how:
            paths["allowed"] = os.path.join(place, "allowed_signers")
            self.keys.allowed(paths["allowed"], how.get("key", "seal"), how.get("principal", BASTION))
        return paths


@lru_cache(maxsize=64)
def frame(block):
    with tempfile.NamedTemporaryFile() as file:
        file.write(block)
        file.flush()
        return run("zstd", "-q", "-3", "--check", "-c", file.name)


# Log

ORIGIN = "countersign/" + BASTION


def leaf(data):
    return hashlib.sha256(b"\0" + data).digest()


def root(leaves):
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    middle = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + root(leaves[:middle]) + root(leaves[middle:])).digest()


class Log:
    """An export of 22 rows, signed after 7, 14 and 20; kept is the checkpoint of 14."""

    def __init__(self, keys, fault=None, fork=False):
        self.keys, self.fault = keys, fault or {}
        self.lines, self.notes, self.kept = [], [], None
        f, origin = self.fault, ORIGIN
        how = f if f.get("layer") == "sign-log" else {}
        head = {"countersign_log": 1, "origin": origin, "vkey": keys.vkey("log", origin)}
        if f.get("layer") == "log-head":
            head = {"countersign_log": 1, "origin": "countersign/b-other", "vkey": keys.vkey("log", "countersign/b-other")} if f["do"] == "other" else on_object(head, f)
        if f.get("layer") == "log-head-key":
            head["vkey"] = keys.vkey("otherlog", origin)
        self.lines.append(canonical(head))
        true, told, was, prev = [], [], bytes(32), bytes(32)
        for seq in range(1, 23):
            facts = {"session": SESSION, "note": "ü€ \n\"", "n": -seq, "list": [1, None, True, {"a": {}}]}
            if fork and seq == 3:
                facts["note"] = "otherwise"
            row = {"v": 1, "seq": seq, "at_us": 1781440100000000 + seq, "name": "session.open", "facts": facts, "prev": was.hex()}
            if f.get("layer") == "recovered" and seq == 15:
                row |= {"name": "log.recovered", "facts": self.recovery(root(told), f["do"])}
            good = canonical(row)
            bad = self.edit(row | {"prev": prev.hex()}, seq)
            was, prev = leaf(good), (leaf(bad) if f.get("chain", True) else leaf(good))
            true.append(leaf(good))
            told.append(leaf(bad))
            self.lines.append(bad)
            if seq in (7, 14, 20):
                signed = told if f.get("signed", True) else true
                tree = hashlib.sha256(b"").digest() if f.get("layer") == "checkpoint-root" and f["nth"] == len(self.notes) else root(signed)
                again = {"forgotten": None, "elsewhen": 1781440100000014}.get(f["do"], 1781440100000015) if f.get("layer") == "recovered" and seq > 14 else None
                note = self.note(seq, tree, how, len(self.notes), again)
                self.notes.append(note)
                self.lines.append(canonical({"checkpoint": note.decode()}))
        self.kept = self.signed(keys, 14, root(true[:14]))
        if f.get("layer") == "log":
            self.edit_lines(f)
        if f.get("layer") == "log-line":
            at = f["line"]
            self.lines[at] = b'{"x":"' + b"x" * f["bytes"] + b'"}' if f["do"] == "fill" else on_bytes(self.lines[at], f)
        if f.get("layer") == "kept":
            other = Log(keys, fork=True)
            self.kept = {"fork": other.kept, "key": self.note(14, root(true[:14]), {"key": "otherlog", "nth": 0}, 0)}[f["do"]]
            if f["do"] == "fork":
                assert self.kept != self.notes[1]
        if f.get("layer") == "kept-note":
            self.kept = on_bytes(self.kept, f)

    @staticmethod
    def recovery(left, do):
        """The facts of a `log.recovered` behind 14 rows, where there had been 18."""
        facts = {"old_size": 18, "old_root": "11" * 32, "new_size": 14, "new_root": left.hex(), "by": "root", "reason": "disk", "backup_us": 1781440000000000}
        return facts | {"size": {"new_size": 13}, "root": {"new_root": "22" * 32}, "more": {"old_size": 13}, "unknown": {"x": 1}}.get(do, {})

    def edit(self, row, seq):
        f = self.fault
        if f.get("layer") == "row" and f["row"] == seq:
            row = on_object(row, f)
        data = canonical(row)
        if f.get("layer") == "row-bytes" and f["row"] == seq:
            data = data.replace(b'"n":-', b'"n":' + b"[" * 20_000 + b"]" * 20_000 + b',"o":-') if f["do"] == "deep" else on_bytes(data, f)
        return data

    @staticmethod
    def signed(keys, size, tree):
        """A checkpoint without a fault."""
        text = f"{ORIGIN}\n{size}\n{base64.b64encode(tree).decode()}\n".encode()
        signature = base64.b64encode(keys.key_hash("log", ORIGIN) + keys.log_sign("log", text))
        return text + b"\n\xe2\x80\x94 " + ORIGIN.encode() + b" " + signature + b"\n"

    def note(self, size, tree, how, nth, again=None):
        if how.get("nth", nth) != nth:
            how = {}
        f = self.fault if self.fault.get("nth") == nth else {}
        name, key = how.get("name", ORIGIN), how.get("key", "log")
        text = f"{name}\n{size}\n{base64.b64encode(tree).decode()}\n".encode()
        if again is not None:
            text += f"recovered {again}\n".encode()
        if f.get("layer") == "checkpoint-text":
            text = on_bytes(text, f)
        signature = base64.b64encode(self.keys.key_hash(key, ORIGIN) + self.keys.log_sign(key, text))
        note = text + b"\n" + b"\xe2\x80\x94 " + ORIGIN.encode() + b" " + signature + b"\n"
        if f.get("layer") == "checkpoint-others":
            note += (b"\xe2\x80\x94 witness " + base64.b64encode(b"w" * 68) + b"\n") * f["times"]
        if f.get("layer") == "checkpoint-signature":
            raw = bytearray(self.keys.key_hash(key, ORIGIN) + self.keys.log_sign(key, text))
            raw[40] ^= 1
            note = text + b"\n" + b"\xe2\x80\x94 " + ORIGIN.encode() + b" " + base64.b64encode(bytes(raw)) + b"\n"
        return on_bytes(note, f) if f.get("layer") == "checkpoint-note" else note

    def edit_lines(self, f):
        lines, at = self.lines, f.get("line", 0)
        if f["do"] == "delete":
            del lines[at : at + f.get("times", 1)]
        elif f["do"] == "duplicate":
            lines.insert(at, lines[at])
        elif f["do"] == "swap":
            lines[at], lines[f["with"]] = lines[f["with"]], lines[at]
        elif f["do"] == "move":
            lines.insert(f["to"], lines.pop(at))
        elif f["do"] == "keep":
            del lines[f["lines"] :]
        elif f["do"] == "insert":
            lines.insert(at, f["text"].encode())
        elif f["do"] == "fork":
            lines[:] = Log(self.keys, fork=True).lines
        else:
            raise ValueError(f"the log knows no {f['do']}")

    def write(self, place):
        os.makedirs(place, exist_ok=True)
        paths = {"log": os.path.join(place, "log.jsonl"), "kept": os.path.join(place, "kept.note")}
        with open(paths["log"], "wb") as to:
            to.write(b"\n".join(self.lines) + b"\n")
        with open(paths["kept"], "wb") as to:
            to.write(self.kept)
        return paths
