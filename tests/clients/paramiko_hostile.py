"""Hostile names wherever a client may put one: HOST PORT KEY HOST_KEY PERSON LOGIN NAMES.

Prints one JSON object: for each place the statuses or verdicts, and in `dirty` every answer that holds a
control, bidirectional or invisible character.
"""
import base64, collections, concurrent.futures, json, logging, socket, sys, threading, unicodedata
import paramiko

host, port, key_file, host_key, person, login, names_file = sys.argv[1:]
logging.getLogger("paramiko").setLevel(logging.CRITICAL)
key = paramiko.Ed25519Key.from_private_key_file(key_file)
expected = paramiko.Ed25519Key(data=base64.b64decode(host_key.split()[1]))
names = [n.get("before", "") + n["name"] * n.get("times", 1) + n.get("after", "") for n in json.load(open(names_file))]
dirty, lock = [], threading.Lock()


def clean(place, name, said):
    bad = [c for c in said if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cn", "Co")]
    if bad or "\ufffd" in said:
        with lock:
            dirty.append([place, name[:60], said[:300]])


def connect(user):
    connection = socket.create_connection((host, int(port)), timeout=30)
    # Otherwise each small request waits 40 ms for an acknowledgement.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = paramiko.Transport(connection)
    transport.start_client(timeout=30)
    if transport.get_remote_server_key() != expected:
        raise SystemExit("another host key")
    transport.auth_publickey(user, key)
    return transport


def ended(channel):
    """Reads a channel to its end: (status, what it said)."""
    channel.settimeout(30)
    said = b""
    for read in (channel.recv, channel.recv_stderr):
        while chunk := read(65536):
            said += chunk
    return channel.recv_exit_status(), said.decode("utf-8", "replace")


def as_user(name):
    try:
        transport = connect(name)
    except (paramiko.SSHException, EOFError, OSError):
        return "disconnected"
    try:
        channel = transport.open_session(timeout=30)
        channel.exec_command("true")
        status, said = ended(channel)
        clean("user", name, said)
        return status if said.startswith("countersign: ") else f"{status} without a word"
    except (paramiko.SSHException, EOFError, OSError) as error:
        return f"lost: {error}"
    finally:
        transport.close()


def as_jump(transport, name):
    try:
        transport.open_channel("direct-tcpip", (name, 22), ("127.0.0.1", 1), timeout=30).close()
        return "opened"
    except paramiko.ChannelException as refused:
        return f"refused {refused.code}"


def as_command(transport, name):
    channel = transport.open_session(timeout=30)
    try:
        channel.exec_command(name)
    except paramiko.SSHException:
        # Longer than any command: the request itself is refused.
        channel.close()
        return "refused"
    status, said = ended(channel)
    channel.close()
    clean("command", name, said)
    return status


class Wire:
    def __init__(self, transport):
        self.channel = transport.open_session(timeout=30)
        self.channel.settimeout(30)
        self.channel.invoke_subsystem("countersign-v1")
        self.lines, self.calls = self.channel.makefile("rb"), 0

    def say(self, verb, args):
        self.calls += 1
        self.channel.sendall(json.dumps({"v": 1, "id": self.calls, "verb": verb, "args": args}) + "\n")

    def hear(self, name):
        line = self.lines.readline().decode("utf-8", "replace")
        clean("wire", name, line)
        answer = json.loads(line)
        return next(kind for kind in ("result", "error", "bytes") if kind in answer), answer

    def all(self, calls):
        """Says everything while it hears everything."""
        writer = threading.Thread(target=lambda: [self.say(verb, args) for _, verb, args in calls])
        writer.start()
        heard = [self.hear(name)[0] for name, _, _ in calls]
        writer.join()
        self.channel.close()
        return heard


def of_a_request(answer):
    text = json.dumps(answer)
    at = text.find('"request": "')
    return text[at + 12 : at + 18]


report = {}
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    report["user"] = list(pool.map(as_user, names))
report["jump"], report["command"] = [], []
# A connection opens 256 channels at once, and then 50 a second.
for some in range(0, len(names), 100):
    own = connect(person)
    report["jump"] += [as_jump(own, name) for name in names[some : some + 100]]
    report["command"] += [as_command(own, name) for name in names[some : some + 100]]
    own.close()
own = connect(person)
report["wire"] = []
# A wire ends after a hundred calls that cannot be read.
for some in range(0, len(names), 12):
    calls = [(name, verb, args) for name in names[some : some + 12] for verb, args in (
        ("request", {"targets": [f"{login}@{name}"], "reason": "x"}),
        ("request", {"targets": [f"{name}@web-1"], "reason": "x"}),
        ("show", {"request": name}),
        ("sessions", {"target": name}),
        ("sessions", {"person": name}),
        ("replay", {"session": name}),
        ("reason", {"request": "000000", "words": [name]}),
        ("deny", {"request": "000000", "note": name}),
    )]
    report["wire"] += Wire(own).all(calls)
report["reason"], wire = [], Wire(own)
for name in names[::3]:
    wire.say("request", {"targets": [f"{login}@web-1"], "reason": name})
    kind, answer = wire.hear(name)
    report["reason"].append(kind)
    if kind == "result":
        wire.say("withdraw", {"request": of_a_request(answer)})
        wire.hear(name)
report = {place: collections.Counter(map(str, verdicts)) for place, verdicts in report.items()}
print(json.dumps({**report, "names": len(names), "dirty": dirty}))
