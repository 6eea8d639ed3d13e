"""A hostile person who has logged in: channels.py PORT USER KEY [INNER_LOGIN TARGET]. Says `ok ROW` for each row
that holds: what it does to one channel is that channel's alone. With INNER_LOGIN it sits inside a jump."""
import socket, struct, sys
import rogue
from rogue import Closed, Peer, string, take

port, user, key_file, *inner = sys.argv[1:]
key = rogue.load(key_file)
OPENED, FAILED, ADJUST, DATA, EXTENDED, EOF, CLOSE, REQUEST, GOOD, BAD = 91, 92, 93, 94, 95, 96, 97, 98, 99, 100
MOST = 0xFFFFFFFF
ESCAPE = b"\x1b[31m\r\n\0\x07"


def say(row):
    sys.stdout.write(f"ok {row}\n")
    sys.stdout.flush()


class Through:
    """A channel as a socket: what carries the inner connection of a jump."""

    def __init__(self, outer, channel):
        self.outer, self.channel = outer, channel

    def sendall(self, data):
        for at in range(0, len(data), 32000):
            self.outer.send(bytes([DATA]) + struct.pack(">I", self.channel) + string(data[at : at + 32000]))

    def recv(self, _):
        payload = self.outer.until(DATA, CLOSE)
        return take(payload, 5)[0] if payload[0] == DATA else b""

    def settimeout(self, seconds):
        self.outer.sock.settimeout(seconds)

    def gettimeout(self):
        return self.outer.sock.gettimeout()

    def setsockopt(self, *_):
        pass

    def close(self):
        self.outer.close()


def connect():
    outer = Peer.connect(int(port), timeout=30)
    if not inner:
        return Person(outer.log_in(user, key))
    outer.log_in(user, key)
    login, target = inner
    there = string(target) + struct.pack(">I", 22) + string("127.0.0.1") + struct.pack(">I", 1)
    outer.send(outer.open(0, "direct-tcpip", MOST, there))
    channel = struct.unpack_from(">I", outer.until(OPENED), 5)[0]
    return Person(Peer(Through(outer, channel), timeout=30).log_in(login, key))


class Person:
    """One connection, with a neighbour on it: a channel on which `cat` answers."""

    def __init__(self, peer):
        self.peer, self.number = peer, 0
        self.neighbour = self.open()
        self.run(self.neighbour, "exec cat")
        self.turn = 0

    def open(self, window=1 << 20, packet=32768, kind="session"):
        """Opens a channel: (our number, theirs)."""
        self.number += 1
        self.peer.send(bytes([90]) + string(kind) + struct.pack(">III", self.number, window, packet))
        answer = self.wait(self.number, OPENED, FAILED)
        assert answer[0] == OPENED, answer
        return self.number, struct.unpack_from(">I", answer, 5)[0]

    def wait(self, number, *kinds):
        while True:
            payload = self.peer.until(*kinds)
            if struct.unpack_from(">I", payload, 1)[0] == number:
                return payload

    def send(self, channel, kind, more=b""):
        self.peer.send(bytes([kind]) + struct.pack(">I", channel[1]) + more)

    def request(self, channel, kind, more=b"", reply=True):
        self.peer.send(self.peer.request(channel[1], kind, more, reply))
        return self.wait(channel[0], GOOD, BAD)[0] == GOOD if reply else None

    def run(self, channel, command):
        assert self.request(channel, "exec", string(command))

    def ends(self, channel):
        return self.peer.ends(channel[0])

    def is_well(self, row):
        """The neighbour answers, and a new channel runs something."""
        self.turn += 1
        text = f"turn {self.turn}\n".encode()
        self.send(self.neighbour, DATA, string(text))
        seen = b""
        while len(seen) < len(text):
            seen += take(self.wait(self.neighbour[0], DATA), 5)[0]
        assert seen == text, (row, seen)
        channel = self.open()
        self.run(channel, "echo well; exit 3")
        out, err, status = self.ends(channel)
        assert (out, status) == (b"well\n", 3), (row, out, err, status)
        self.send(channel, CLOSE)
        say(row)


def of_one_channel(person):
    def command(text, **more):
        channel = person.open(**more)
        person.run(channel, text)
        return channel

    def nothing(row, channel):
        """Nothing of it arrives before the neighbour has answered."""
        person.is_well(row)

    # ---- windows ----
    channel = command("echo hi; exit 4", window=0)
    nothing("a window of 0", channel)
    person.send(channel, ADJUST, struct.pack(">I", 100))
    assert person.ends(channel)[::2] == (b"hi\n", 4)
    person.is_well("a window of 0 that is widened")

    channel = command("head -c 300000 /dev/zero", window=MOST)
    assert len(person.ends(channel)[0]) == 300_000
    person.is_well("a window of 2^32-1")

    channel = command("head -c 100000 /dev/zero; cat", window=MOST)
    for _ in range(10):
        person.send(channel, ADJUST, struct.pack(">I", MOST))
    person.send(channel, EOF)
    assert len(person.ends(channel)[0]) == 100_000
    person.is_well("windows widened beyond 2^32")

    channel = command("echo hi", packet=MOST)
    assert person.ends(channel)[0] == b"hi\n"
    channel = command("echo hi", packet=1)
    assert person.ends(channel)[0] == b"hi\n"
    person.is_well("packets of 1 byte, and of 2^32-1")

    channel = command("exec cat")
    person.send(channel, DATA, string(b"x" * 100_000))
    person.send(channel, EOF)
    person.ends(channel)
    person.is_well("a packet longer than was agreed")

    if not inner:
        channel = command("exec sleep 100")
        try:
            for _ in range(800):
                person.send(channel, DATA, string(b"x" * 32768))
        except TimeoutError:
            raise AssertionError("it does not read on")
        person.wait(channel[0], CLOSE)
        person.is_well("25 MB beyond the window")

    # ---- after the end ----
    channel = command("cat; echo end")
    person.send(channel, DATA, string(b"before\n"))
    person.send(channel, EOF)
    person.send(channel, DATA, string(b"after\n"))
    person.send(channel, EXTENDED, struct.pack(">I", 1) + string(b"after\n"))
    person.send(channel, EOF)
    assert person.ends(channel)[0] == b"before\nend\n"
    person.is_well("data after the end of data")

    channel = command("exec cat")
    person.send(channel, CLOSE)
    for kind, more in [(DATA, string(b"x")), (EXTENDED, struct.pack(">I", 1) + string(b"x")), (EOF, b""), (ADJUST, struct.pack(">I", 5)), (CLOSE, b"")]:
        person.send(channel, kind, more)
    person.request(channel, "exec", string("echo again"), reply=False)
    person.request(channel, "exit-status", struct.pack(">I", 0), reply=False)
    person.is_well("packets after the close")

    for number in range(200, 300):
        for kind, more in [(DATA, string(b"x")), (EOF, b""), (CLOSE, b""), (ADJUST, struct.pack(">I", MOST)), (GOOD, b""), (BAD, b"")]:
            person.peer.send(bytes([kind]) + struct.pack(">I", number) + more)
        person.peer.send(person.peer.request(number, "exec", string("touch /tmp/never"), False))
    person.is_well("channels that were never opened")

    # ---- before the start ----
    channel = person.open()
    person.send(channel, DATA, string(b"early\n"))
    person.send(channel, EXTENDED, struct.pack(">I", 1) + string(b"early\n"))
    person.request(channel, "window-change", struct.pack(">IIII", 80, 24, 0, 0), reply=False)
    person.run(channel, "cat; echo end")
    person.send(channel, EOF)
    assert person.ends(channel)[0] == b"end\n"
    person.is_well("data before the start goes nowhere")
    channel = person.open()
    person.send(channel, EOF)
    person.run(channel, "echo end")
    assert person.ends(channel)[0] == b"end\n"
    channel = person.open()
    person.send(channel, CLOSE)
    person.is_well("a channel closed before anything")

    # ---- requests ----
    channel = command("echo first; cat")
    assert take(person.wait(channel[0], DATA), 5)[0] == b"first\n"
    for kind, more in [
        ("exec", string("echo second")),
        ("shell", b""),
        ("subsystem", string("sftp")),
        ("pty-req", string("xterm") + struct.pack(">IIII", 80, 24, 0, 0) + string(b"\0")),
        ("env", string("LC_ALL") + string("C")),
    ]:
        person.request(channel, kind, more)
    for kind, more in [("exit-status", struct.pack(">I", 9)), ("exit-signal", string("KILL") + b"\0" + string("") + string("")), ("xon-xoff", b"\1"), ("eow@openssh.com", b"")]:
        person.request(channel, kind, more, reply=False)
    person.send(channel, EOF)
    out, _, status = person.ends(channel)
    assert (out, status) == (b"", 0), (out, status)
    person.is_well("a second start, and what only servers send")

    channel = person.open()
    for kind, more in [
        ("x11-req", b"\0" + string("MIT-MAGIC-COOKIE-1") + string("00") + struct.pack(">I", 0)),
        ("no-such-request", b""),
        (ESCAPE, b""),
        ("k" * 30_000, b"\xff" * 1000),
        ("break", struct.pack(">I", 500)),
        ("pty-req", string(ESCAPE) + struct.pack(">IIII", 80, 24, 0, 0) + string(b"\0")),
        ("pty-req", string("xterm") + struct.pack(">IIII", MOST, MOST, MOST, MOST) + string(b"\0")),
        ("env", string(b"LC_ALL" + ESCAPE) + string("C")),
        ("env", string("LC_ALL") + string("x" * 10_000)),
        ("exec", string("x" * 40_000)),
        ("subsystem", string("x" * 100)),
    ]:
        assert not person.request(channel, kind, more), kind
    person.request(channel, "signal", string(ESCAPE), reply=False)
    person.request(channel, "signal", string("K" * 1000), reply=False)
    assert person.request(channel, "subsystem", string(b"sftp" + ESCAPE))
    _, err, status = person.ends(channel)
    assert status == 77 and not any(c in err for c in "\x1b\0\x07\r"), (err, status)
    person.is_well("requests that are unknown, absurd, or full of control characters")


def of_the_connection(person):
    peer = person.peer
    for kind in [
        "x11", "forwarded-tcpip", "forwarded-streamlocal@openssh.com", "auth-agent@openssh.com", "tun@openssh.com",
        "direct-streamlocal@openssh.com", "session ", "SESSION", "", ESCAPE, "k" * 30_000,
    ]:
        more = {
            "x11": string("127.0.0.1") + struct.pack(">I", 1),
            "forwarded-tcpip": (string("a") + struct.pack(">I", 1)) * 2,
            "forwarded-streamlocal@openssh.com": string("/tmp/x") + string(""),
            "direct-streamlocal@openssh.com": string("/tmp/x" + "y" * 5000) + string("") + struct.pack(">I", 0),
            "tun@openssh.com": struct.pack(">II", 1, MOST),
        }.get(kind, b"")
        person.number += 1
        peer.send(peer.open(person.number, kind, more=more))
        assert person.wait(person.number, OPENED, FAILED)[0] == FAILED, kind
    person.is_well("channels of types that are not open to clients")

    for host, to in [(ESCAPE, 22), ("x" * 5000, 22), ("127.0.0.1", MOST), ("127.0.0.1", 0), ("", 22), ("../../etc", 22), ("[::1%lo]", 22)]:
        person.number += 1
        peer.send(peer.open(person.number, "direct-tcpip", more=string(host) + struct.pack(">I", to) + string(ESCAPE) + struct.pack(">I", MOST)))
        assert person.wait(person.number, OPENED, FAILED)[0] == FAILED, host
    person.is_well("destinations that are none")

    for kind, more in [
        ("no-such-request", b""), (ESCAPE, b""), ("k" * 30_000, b"\xff" * 1000), ("", b""), ("keepalive@openssh.com", b""),
        ("streamlocal-forward@openssh.com", string("/tmp/never")), ("hostkeys-prove-00@openssh.com", string("x")),
    ]:
        peer.send(bytes([80]) + string(kind) + b"\1" + more)
        peer.until(81, 82)
        peer.send(bytes([80]) + string(kind) + b"\0" + more)
    peer.send(bytes([81]), bytes([82]), bytes([81]) + struct.pack(">I", 9))
    person.is_well("global requests that mean nothing here")

    for number in [*range(7, 20), *range(22, 30), *range(83, 90), *range(101, 256)]:
        peer.send(bytes([number]) + b"\xff" * 20)
    person.is_well("messages without a meaning")


def that_end_it():
    """Faults after which nothing is owed: the connection may end, the bastion goes on."""
    for row, payloads in [
        ("packets of 0 bytes", [bytes([90]) + string("session") + struct.pack(">III", 9, 1 << 20, 0)]),
        ("a confirmation of nothing", [bytes([OPENED]) + struct.pack(">IIII", 7, 7, 7, 7)]),
        ("a refusal of nothing", [bytes([FAILED]) + struct.pack(">II", 7, 1) + string("") + string("")]),
        ("a request cut short", [bytes([REQUEST]) + struct.pack(">I", 0) + b"\0\0"]),
        ("data of 4 GB in 20 bytes", [bytes([DATA]) + struct.pack(">II", 0, MOST) + b"x" * 11]),
        ("a type that is no text", [bytes([90]) + string(b"\xff\xfe") + struct.pack(">III", 9, 9, 9)]),
        ("a request that is no text", [bytes([REQUEST]) + struct.pack(">I", 0) + string(b"\xff\xfe") + b"\1"]),
    ]:
        peer = connect().peer
        try:
            peer.send(*payloads)
            peer.drain(0.3)
        except Closed:
            pass
        peer.close()
        connect().is_well(row)


person = connect()
of_one_channel(person)
of_the_connection(person)
that_end_it()
say("all")
