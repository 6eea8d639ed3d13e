"""A hostile target: target.py PORT USER KEY LOGIN HOST_KEY TARGET=PORT … Plays both ends of each row: a person
who starts a command at the bastion, and the target that answers it. Says `ok ROW` for each row that holds."""
import socket, struct, sys, threading, time
import rogue
from rogue import Closed, Peer, string

port, user, key_file, login, host_key_file, *targets = sys.argv[1:]
key, host_key = rogue.load(key_file), rogue.load(host_key_file)
targets = [(name, int(at)) for name, at in (target.split("=") for target in targets)]
SHARED = "127.0.7.2"
SHAPES = [b"", b"\xff" * 64, b"\0" * 64]


def say(row):
    sys.stdout.write(f"ok {row}\n")
    sys.stdout.flush()


def served(sock, row):
    """An honest target, but for what `row` does between its steps."""
    peer = Peer(sock, server=host_key, timeout=25)
    try:
        row("ident", peer)
        peer.ident(b"SSH-2.0-target")
        row("before the exchange", peer)
        peer.send(peer.kexinit())
        peer.their_init = peer.until(20)
        row("in the exchange", peer)
        peer.shares()
        peer.until(5)
        row("before authentication", peer)
        peer.send(bytes([6]) + string("ssh-userauth"))
        peer.until(50)
        row("in authentication", peer)
        peer.send(bytes([52]))
        peer.channel = struct.unpack_from(">I", peer.until(90), 12)[0]
        row("before the channel", peer)
        peer.send(bytes([91]) + struct.pack(">IIII", peer.channel, 0, 1 << 20, 32768))
        while b"exec" not in peer.until(98)[:16]:
            pass
        peer.send(bytes([99]) + struct.pack(">I", peer.channel))
        row("in the session", peer)
        if row.rekeys:
            peer.send(peer.kexinit())
            peer.their_init = peer.until(20)
            row("in a rekey", peer)
            peer.shares()
        peer.send(
            bytes([94]) + struct.pack(">I", peer.channel) + string("well\n"),
            peer.request(peer.channel, "exit-status", struct.pack(">I", 0), reply=False),
            bytes([96]) + struct.pack(">I", peer.channel),
            bytes([97]) + struct.pack(">I", peer.channel),
        )
        peer.drain(2)
    except (Closed, ConnectionError, TimeoutError, OSError):
        pass
    finally:
        peer.close()


class Row:
    """Does `act` at `step`."""

    def __init__(self, step, act):
        self.step, self.act, self.rekeys = step, act, step == "in a rekey"

    def __call__(self, step, peer):
        if step == self.step:
            self.act(peer)


class Worker:
    """One target, and somebody who uses it."""

    def __init__(self, name, at):
        self.name, self.number = name, 0
        self.listener = socket.create_server(("127.0.0.1", at))
        self.person = None

    def tries(self, row):
        """What the person sees of one session: output, standard error, status."""
        sockets = []

        def serve():
            sock, _ = self.listener.accept()
            sockets.append(sock)
            served(sock, row)

        wrong = []

        def serve_or_say():
            try:
                serve()
            except Exception as error:
                wrong.append(error)
                sockets[0].close() if sockets else None

        thread = threading.Thread(target=serve_or_say, daemon=True)
        thread.start()
        if self.person is None:
            self.person = Peer.connect(int(port), SHARED, timeout=40).log_in(f"{login}={self.name}", key)
        self.number += 1
        self.person.exec("true", number=self.number)
        seen = self.person.ends(self.number)
        thread.join(10)
        assert sockets, ("the bastion did not come", seen)
        assert not wrong, wrong
        return seen


def all_of(worker, step, numbers, shape):
    """As in door.py: sends them all in one session, halves where it ends. Returns how many end it."""
    messages = [bytes([number]) + shape for number in numbers]
    out, err, status = worker.tries(Row(step, lambda peer: peer.send(*messages)))
    if status == 0 and out.endswith(b"well\n"):
        return 0
    assert status != 0, (step, numbers, out, err)
    if len(numbers) == 1:
        return 1
    half = len(numbers) // 2
    return all_of(worker, step, numbers[:half], shape) + all_of(worker, step, numbers[half:], shape)


def table(worker, step):
    if step in ("before the channel", "in the session"):
        rows = [(shape, range(first, first + 32)) for shape in SHAPES for first in range(0, 256, 32)]
    else:
        # Nearly each ends it, and each is then a session of its own: the numbers that mean something, and a
        # few that do not. `door.py` tries them all.
        rows = [(SHAPES[2], [number]) for number in [*range(35), *range(50, 54), *range(60, 67), *range(80, 83), *range(90, 101), 128, 192, 255]]
    ended = sum(all_of(worker, step, numbers, shape) for shape, numbers in rows)
    say(f"{step} ({ended} of {sum(len(numbers) for _, numbers in rows)} end it)")


def ends_within(seconds, row, wanted=None):
    def it(worker):
        began = time.monotonic()
        out, err, status = worker.tries(row)
        took = time.monotonic() - began
        assert took < seconds, took
        assert wanted is None or status in wanted, (out, err, status)

    return it


def opens(peer):
    forwarded = string("127.0.0.1") + struct.pack(">I", 22) + string("127.0.0.1") + struct.pack(">I", 1)
    kinds = {"session": b"", "x11": string("127.0.0.1") + struct.pack(">I", 1), "auth-agent@openssh.com": b"", "forwarded-tcpip": forwarded, "direct-tcpip": forwarded}
    kinds |= {"forwarded-streamlocal@openssh.com": string("/run/x") + string(""), "tun@openssh.com": struct.pack(">II", 1, 0), "never-heard-of": b""}
    for number, (kind, more) in enumerate(kinds.items()):
        peer.send(peer.open(50 + number, kind, more=more))
        # A client that ends the connection over it is as good as one that says no.
        assert peer.until(91, 92)[0] == 92, kind


def flood(peer):
    ask = bytes([80]) + string("x") + b"\1"
    for _ in range(40):
        peer.send(*[ask] * 250, *[peer.request(peer.channel, "x", reply=False)] * 250)
        peer.drain(0.001)


def overflow(peer):
    peer.send(*[bytes([93]) + struct.pack(">II", peer.channel, 0xFFFFFFFF)] * 10)


def prompts(peer):
    peer.send(bytes([60]) + string("") + string("") + string("") + struct.pack(">I", 0xFFFFFFFF) + string("Password:") + b"\0")
    peer.send(bytes([51]) + string("keyboard-interactive") + b"\0")
    peer.until(50)
    peer.send(bytes([60]) + string("") + string("") + string("") + struct.pack(">I", 0xFFFFFFFF) + string("Password:") + b"\0")


def stalls(peer):
    try:
        while True:
            peer.more()
    except (Closed, TimeoutError):
        raise Closed("it left")


def lines(peer):
    peer.bytes(b"welcome\r\n" * 10_000)


def banners(peer):
    peer.send(*[bytes([53]) + string(b"\x1b[2J" * 20_000) + string("")] * 50)


def algorithms(peer):
    at, lists = 17, []
    for _ in range(8):
        names, at = rogue.take(peer.their_init, at)
        lists.append(names.decode())
    ciphers = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com"
    kex = "mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,ext-info-c,kex-strict-c-v00@openssh.com"
    macs = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com"
    assert lists == [kex, "ssh-ed25519", ciphers, ciphers, macs, macs, "none", "none"], lists


SPECIAL = {
    "what we offer to targets": ends_within(30, Row("in the exchange", algorithms), (0,)),
    "never speaks": ends_within(30, Row("ident", stalls), (69,)),
    "never ends the exchange": ends_within(30, Row("in the exchange", stalls), (69,)),
    "never lets in": ends_within(30, Row("in authentication", stalls), (69,)),
    "2^32 prompts": ends_within(30, Row("in authentication", prompts)),
    "10,000 lines before its name": ends_within(30, Row("ident", lines), (69,)),
    "banners of 4 MB": ends_within(30, Row("in authentication", banners)),
    "opens channels to us": ends_within(30, Row("in the session", opens), (0,)),
    "floods of requests": ends_within(30, Row("in the session", flood)),
    "window overflow": ends_within(30, Row("in the session", overflow), (0,)),
}
TABLE = ["before the exchange", "in the exchange", "before authentication", "in authentication", "before the channel", "in the session", "in a rekey"]
todo = [(name, row) for name, row in SPECIAL.items()] + [(step, None) for step in TABLE]
failures, lock = [], threading.Lock()


def work(worker):
    while True:
        with lock:
            if not todo:
                return
            name, row = todo.pop(0)
        try:
            if row:
                row(worker)
                say(name)
            else:
                table(worker, name)
        except Exception as error:
            failures.append(f"{name}: {error!r}")
            return


threads = [threading.Thread(target=work, args=[Worker(*target)]) for target in targets]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit("\n".join(failures) or 0)
