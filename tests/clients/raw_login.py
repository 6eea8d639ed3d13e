"""Speaks the authentication protocol one message at a time: HOST PORT, then commands on standard input.

Each command is one line of words; each answer is one line. Words that begin with @ are files. Behaves as
no client does: that is what it is for.

    connect                     a new connection up to ssh-userauth
    none USER · kbd USER        a request; `failure METHODS partial=0`, `info PROMPTS [INSTRUCTIONS]`, `success`
    probe USER KEY              an offer without signature; `pk-ok`
    sign USER KEY               signed by the same key
    cert USER KEY CERT          signed by KEY, offered in CERT (a -cert.pub file)
    sha1 USER KEY               announces rsa-sha2-512 and signs with SHA-1
    blob USER ALGORITHM HEXFILE an offer of these bytes, signed with nonsense
    nested USER DEPTH           an offer of a certificate in a certificate in …
    code TEXT …                 an answer to each prompt; count N: says N and sends none
    early USER                  a channel before the login, then `none`
    open WORDS                  a session channel that runs WORDS; its output, or `nothing`
"""
import base64, json, queue, socket, struct, sys
import paramiko
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from paramiko.message import Message

HOST, PORT = sys.argv[1], int(sys.argv[2])
SERVICE, CONNECTION = "ssh-userauth", "ssh-connection"
PATIENCE = 20


class Wire:
    """Takes the place of paramiko's own authentication: keeps what comes, in order."""

    def __init__(self):
        self.socket = socket.create_connection((HOST, PORT))
        self.transport = paramiko.Transport(self.socket)
        self.transport.start_client(timeout=PATIENCE)
        self.heard = queue.Queue()
        self._handler_table = {n: lambda m, n=n: self.heard.put((n, m)) for n in [6, *range(51, 80)]}
        self.done = False
        self.transport.auth_handler = self
        self.send(5, SERVICE)
        assert self.hears()[0] == 6

    def is_authenticated(self):
        return self.done

    def abort(self):
        self.heard.put((1, None))

    def send(self, number, *fields):
        m = Message()
        m.add_byte(bytes([number]))
        for field in fields:
            if isinstance(field, bool):
                m.add_boolean(field)
            elif isinstance(field, int):
                m.add_int(field)
            else:
                m.add_string(field)
        self.transport._send_user_message(m)
        return m

    def hears(self):
        """The next message of authentication; 1 once the connection is over."""
        for _ in range(PATIENCE * 20):
            try:
                return self.heard.get(timeout=0.05)
            except queue.Empty:
                if not self.transport.is_active():
                    return (1, None)
        return (0, None)

    def answer(self):
        number, m = self.hears()
        if number == 51:
            return f"failure {m.get_text()} partial={int(m.get_boolean())}"
        if number == 52:
            self.done = True
            return "success"
        if number == 60 and self.asked == "kbd":
            name, instructions, _ = m.get_text(), m.get_text(), m.get_text()
            return f"info {m.get_int()} {instructions}".rstrip()
        return {60: "pk-ok", 1: "disconnect", 0: "nothing"}.get(number, f"message {number}")

    def request(self, user, method, *fields):
        self.asked = {"keyboard-interactive": "kbd"}.get(method, method)
        self.send(50, user, CONNECTION, method, *fields)
        return self.answer()

    def signed(self, user, algorithm, blob, sign):
        m = Message()
        m.add_string(self.transport.session_id)
        m.add_byte(b"\x32")
        for field in (user, CONNECTION, "publickey"):
            m.add_string(field)
        m.add_boolean(True)
        m.add_string(algorithm)
        m.add_string(blob)
        return self.request(user, "publickey", True, algorithm, blob, sign(m.asbytes()))


def key(path):
    for kind in (paramiko.Ed25519Key, paramiko.RSAKey, paramiko.ECDSAKey):
        try:
            return kind.from_private_key_file(path)
        except paramiko.SSHException:
            pass
    raise SystemExit(f"{path} is no key")


def text(*fields):
    return b"".join(struct.pack(">I", len(f)) + f for f in fields)


def nested(depth):
    """A user certificate whose CA's key is a certificate, and so on."""
    kind = b"ssh-ed25519-cert-v01@openssh.com"
    blob = text(b"ssh-ed25519", b"\x01" * 32)
    for _ in range(depth):
        head = text(kind, b"n" * 16, b"\x02" * 32) + struct.pack(">QI", 1, 1) + text(b"id", text(b"alice"))
        blob = head + struct.pack(">QQ", 0, 2**63) + text(b"", b"", b"", blob, text(b"ssh-ed25519", b"s" * 64))
    return kind.decode(), blob


def run(wire, verb, words):
    if verb in ("none", "kbd"):
        fields = [] if verb == "none" else ["", ""]
        return wire.request(words[0], {"kbd": "keyboard-interactive"}.get(verb, verb), *fields)
    if verb == "probe":
        k = key(words[1])
        algorithm = "rsa-sha2-512" if k.get_name() == "ssh-rsa" else k.get_name()
        return wire.request(words[0], "publickey", False, algorithm, k.asbytes())
    if verb == "sign":
        k = key(words[1])
        algorithm = "rsa-sha2-512" if k.get_name() == "ssh-rsa" else k.get_name()
        return wire.signed(words[0], algorithm, k.asbytes(), lambda data: k.sign_ssh_data(data, algorithm).asbytes())
    if verb == "cert":
        k, line = key(words[1]), open(words[2]).read().split()
        return wire.signed(words[0], line[0], base64.b64decode(line[1]), lambda data: k.sign_ssh_data(data).asbytes())
    if verb == "sha1":
        k = key(words[1])
        sha1 = lambda data: text(b"ssh-rsa", k.key.sign(data, padding.PKCS1v15(), hashes.SHA1()))
        return wire.signed(words[0], "rsa-sha2-512", k.asbytes(), sha1)
    if verb == "blob":
        blob = bytes.fromhex(open(words[2]).read())
        return wire.request(words[0], "publickey", True, words[1], blob, text(words[1].encode(), b"s" * 64))
    if verb == "nested":
        algorithm, blob = nested(int(words[1]))
        return wire.request(words[0], "publickey", False, algorithm, blob)
    if verb == "code":
        wire.send(61, len(words), *words)
        return wire.answer()
    if verb == "count":
        wire.send(61, int(words[0]))
        return wire.answer()
    if verb == "early":
        # A channel before anybody is logged in, and a question whose answer comes after it if any does.
        wire.send(90, "session", 0, 1 << 20, 1 << 15)
        return run(wire, "none", words)
    if verb == "open":
        channel = wire.transport.open_session(timeout=PATIENCE)
        channel.exec_command(" ".join(words))
        out = channel.makefile("rb").read() + channel.makefile_stderr("rb").read()
        return out.decode(errors="replace").replace("\n", " ").strip() or "nothing"
    raise SystemExit(f"{verb}?")


wire = None
for line in sys.stdin:
    verb, *words = json.loads(line)
    try:
        if verb == "connect":
            wire = None
            wire = Wire()
            said = "connected"
        else:
            said = run(wire, verb, words)
    except paramiko.ChannelException:
        said = "refused"
    except (paramiko.SSHException, EOFError, OSError):
        said = "disconnect"
    print(said, flush=True)
