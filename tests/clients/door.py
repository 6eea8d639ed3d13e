"""Scenes at the bastion's door: door.py SCENE PORT USER KEY [more]. Says `ok ROW` for each row that holds."""
import os, socket, struct, sys, threading, time
import rogue
from rogue import Closed, Peer, string

scene, port, user, key_file, *more = sys.argv[1:]
port, key = int(port), rogue.load(key_file)
# A source that the bastion knows as shared: no penalties, so that thousands of rows can be tried.
SHARED = "127.0.7.1"
FOREIGN = rogue.Ed25519PrivateKey.generate()


def at(step=None, source=SHARED, timeout=10):
    """A connection that has come so far."""
    peer = Peer.connect(port, source, timeout)
    for name in ("ident", "exchange", "service"):
        if step is None:
            return peer
        getattr(peer, name)()
        if name == step:
            return peer
    peer.send(peer.auth(user, key))
    assert peer.until(51, 52)[0] == 52, "not let in"
    return peer


def ends(act, name="it"):
    """Asserts that `act` finds the connection ended, without a login."""
    try:
        found = act()
    except (Closed, ConnectionError):
        return
    raise AssertionError(f"{name}: the connection goes on: {found!r}")


def memory(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


def rows(table):
    for name, row in table.items():
        try:
            row()
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}") from error
        print("ok", name, flush=True)


# ---- what has gone wrong in others ----

P = 2**255 - 19
E8 = ("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800", "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157")
LOW_ORDER = [n.to_bytes(32, "little") for n in (0, 1, P - 1, P, P + 1)] + [bytes.fromhex(point) for point in E8]
LOW_ORDER += [point[:31] + bytes([point[31] | 0x80]) for point in LOW_ORDER]


def idents():
    for bad in [b"hello\r\n" * 10_000, b"SSH-2.0-" + b"a" * 256 + b"\r\n", b"SSH-2.0-a\0b\r\n", b"SSH-2.0-a\rb\r\n", b"SSH-1.5-old\r\n", b"\r\n", b"SSH-2.0-\xff\r\n", b"GET / HTTP/1.1\r\n\r\n"]:
        peer = at()

        def try_it():
            peer.bytes(bad)
            peer.their = peer.line()
            return peer.until(20) and peer.until(20)

        ends(try_it, repr(bad[:20]))


def during_the_exchange(message, after):
    """A message inside the first exchange, after KEXINIT or after the share: strict exchange ends there."""
    peer = at("ident")
    peer.send(peer.kexinit())
    peer.their_init = peer.until(20)
    if after == "share":
        mine = rogue.raw(rogue.X25519PrivateKey.generate().public_key())
        peer.send(bytes([30]) + string(mine), message, bytes([21]))
        ends(lambda: [peer.until(31), peer.until(21), peer.drain(1)] if not peer.drain(3)[1] else peer.more(), message[:1])
    else:
        peer.send(message)
        ends(peer.shares, message[:1])


def terrapin():
    for number in (2, 3, 4):
        for after in ("init", "share"):
            during_the_exchange(bytes([number]) + string("x") + b"\0" * 8, after)


def injected():
    request = at("service").auth(user, key, signed=False)
    for message in (bytes([7]) + struct.pack(">I", 1) + string("server-sig-algs") + string(""), request, bytes([5]) + string("ssh-userauth")):
        for after in ("init", "share"):
            during_the_exchange(message, after)


def low_order():
    for point in LOW_ORDER:
        peer = at("ident")
        ends(lambda: peer.exchange(point), point.hex())


def half_sent():
    before = memory(more[0])
    for length in (0x7FFFFFFF, 256 * 1024 + 40_000):
        peer = at("ident")
        peer.bytes(struct.pack(">I", length) + b"x" * 32)
        ends(lambda: peer.until(20) and peer.until(21), length)
    held = [at("ident") for _ in range(200)]
    for peer in held:
        peer.bytes(struct.pack(">I", 256 * 1024) + b"x" * 64 * 1024)
    grown = memory(more[0]) - before
    assert grown < 160 << 20, f"{grown >> 20} MiB for 200 half packets"
    for peer in held:
        ends(lambda: peer.until(20) and peer.until(21))


def from_the_client(step, *messages):
    """Messages that only a server may send, or only somebody logged in: nothing comes of them."""
    peer = at(step)
    peer.send(*messages)
    try:
        peer.send(peer.open(), peer.request(0, "exec", string("whoami")))
    except Closed:
        return
    numbers, _ = peer.drain(0.3)
    assert not {52, 91, 94, 98, 99} & set(numbers), numbers


def libssh():
    for step in ("exchange", "service"):
        for number in (52, 6, 60, 51, 31, 81, 91):
            from_the_client(step, bytes([number]))


def erlang():
    peer = at()
    opened = [peer.open(), peer.request(0, "exec", string("id -un"))]
    for step in ("exchange", "service"):
        from_the_client(step, *opened)


def offered_only():
    peer = at("service")
    peer.send(peer.auth(user, key, signed=False))
    assert peer.until(51, 52, 60)[0] == 60
    peer.send(peer.open())
    assert peer.drain(0.3) == ([], False)


def another_key():
    """PK_OK for the key of somebody, then a signature by another or over another."""
    for request in (lambda peer: peer.auth(user, FOREIGN), lambda peer: peer.auth(user, key, signer=FOREIGN)):
        peer = at("service")
        peer.send(peer.auth(user, key, signed=False))
        assert peer.until(51, 52, 60)[0] == 60
        peer.send(request(peer))
        assert peer.until(51, 52)[0] == 51


def responses():
    before = memory(more[0])
    for count in (0xFFFFFFFF, 0x10000000):
        peer = at("service")
        peer.send(bytes([50]) + string(user) + string("ssh-connection") + string("keyboard-interactive") + string("") + string(""))
        peer.until(51, 60)
        peer.send(bytes([61]) + struct.pack(">I", count) + string("123456"))
        try:
            assert peer.until(51, 52)[0] == 51
        except Closed:
            pass
    assert memory(more[0]) - before < 8 << 20


def tries():
    peer, failures = at("service"), 0
    try:
        while True:
            peer.send(peer.auth(user, FOREIGN))
            assert peer.until(51, 52)[0] == 51
            failures += 1
    except Closed:
        assert failures == 6, failures


def unopened():
    """Requests on channels that were never opened, or that were refused."""
    peer = at("login")
    peer.send(peer.open(0, "x11", more=string("127.0.0.1") + struct.pack(">I", 1)))
    assert peer.until(91, 92)[0] == 92
    for number in range(0, 100):
        peer.send(peer.request(number, "exec", string("id -un")), bytes([94]) + struct.pack(">I", number) + string("x"))
        peer.send(*(bytes([kind]) + struct.pack(">I", number) for kind in (96, 97, 99, 100)), bytes([93]) + struct.pack(">II", number, 1))
    assert peer.ends(peer.exec("whoami") and 0)[2] == 0


def terminals():
    for modes in (b"".join(bytes([n % 160, 0, 0, 0, 1]) for n in range(200)), b"\x80\0\0", b"\xff" * 40, b"", b"\0"):
        peer = at("login")
        peer.send(peer.open())
        channel = struct.unpack_from(">I", peer.until(91), 5)[0]
        for size in ((80, 24), (0, 0), (0xFFFFFFFF, 0xFFFFFFFF)):
            try:
                peer.send(peer.request(channel, "pty-req", string("xterm") + struct.pack(">IIII", *size, 0, 0) + string(modes)))
                assert peer.until(99, 100)
            except Closed:
                break


def windows():
    """Window changes that overflow do not end the session wrongly: all of it arrives."""
    peer = at("login")
    peer.send(peer.open(window=1000))
    channel = struct.unpack_from(">I", peer.until(91), 5)[0]
    peer.send(peer.request(channel, "exec", string("whoami")))
    for _ in range(10):
        peer.send(bytes([93]) + struct.pack(">II", channel, 0xFFFFFFFF))
    try:
        out, _, status = peer.ends()
        assert status == 0 and b"alice" in out, (out, status)
    except Closed:
        pass


def rekey_flood():
    """Once an exchange has begun nothing but the exchange is heard, however much comes."""
    before = memory(more[0])
    for number in (192, 80, 2, 4):
        peer = at("login")
        peer.send(peer.kexinit())
        peer.until(20)
        flood = bytes([number]) + (string("ping@openssh.com") + b"\1" if number == 80 else string(b"x" * 100))

        def try_it():
            for _ in range(200):
                peer.send(*[flood] * 100)
            peer.drain(0.2)
            # Nothing has come of it, and the exchange would still have to be finished.
            peer.send(peer.open())
            return peer.until(91)

        ends(try_it, number)
    assert memory(more[0]) - before < 16 << 20


def drips():
    """One byte, one packet or nothing at a time: it ends with the grace."""
    started, slow = time.monotonic(), [at(step) for step in (None, "ident", "exchange", "service")]
    while time.monotonic() - started < 8 and slow:
        for peer, step in zip(list(slow), range(4)):
            try:
                peer.bytes(b"S") if peer.out is None else peer.send(bytes([2]) + string("x"))
                peer.sock.settimeout(0.05)
                peer.read() if peer.out else peer.more()
            except TimeoutError:
                pass
            except (Closed, ConnectionError):
                slow.remove(peer)
        time.sleep(0.2)
    assert not slow, f"{len(slow)} are still there"


HOLES = {
    "CVE-2026-48108 ident": idents,
    "CVE-2023-48795 Terrapin": terrapin,
    "CVE-2023-46445 CVE-2023-46446 AsyncSSH": injected,
    "CVE-2023-28113 low-order points": low_order,
    "CVE-2024-43410 half-sent packets": half_sent,
    "CVE-2018-10933 libssh": libssh,
    "CVE-2025-32433 Erlang": erlang,
    "GHSA-3cjp-w4cp-m9c8 Warpgate": offered_only,
    "russh bca12c7 key binding": another_key,
    "GHSA-f5v4-2wr6-hqmg INFO_RESPONSE": responses,
    "russh f8fd0b1 six tries": tries,
    "russh 7c5659f channels never opened": unopened,
    "russh 8912512 terminal modes": terminals,
    "GHSA-h5rc-j5f5-3gcm window overflow": windows,
    "CVE-2025-26466 CVE-2025-22869 flood in an exchange": rekey_flood,
    "drip-feeding": drips,
}

# ---- every message number in every state ----

SHAPES = [b"", b"\xff", b"\xff\xff\xff\xff" + b"\xff" * 60, b"\0" * 64, string("ssh-connection") + struct.pack(">I", 0) + string("exec") + b"\1" + string("id -un")]


def is_in(peer):
    """Asks the console who this is."""
    peer.ends(peer.exec("whoami", number=7) and 7)


def logs_in(peer):
    peer.send(peer.auth(user, key))
    # What was refused before is answered first.
    peer.until(52)
    is_in(peer)


def serves(peer):
    peer.service()
    logs_in(peer)


def offered():
    peer = at("service")
    peer.send(peer.auth(user, key, signed=False))
    peer.until(60)
    return peer


def held():
    """A channel that waits for an approval."""
    peer = Peer.connect(port, SHARED)
    peer.log_in(more[1], key)
    peer.exec("echo must not run", env=[("LC_COUNTERSIGN_REASON", "INC-1 rogue")], number=3)
    peer.until(95)
    return peer


def still_held(peer):
    peer.send(bytes([80]) + string("keepalive@openssh.com") + b"\1")
    while (payload := peer.until(81, 82, 91, 94, 95, 96, 97, 98))[0] not in (81, 82):
        # The waiting text goes on; whatever else is said has to be no.
        assert payload[0] not in (91, 94), payload


def rekeying():
    peer = at("login")
    peer.send(peer.kexinit())
    peer.their_init = peer.until(20)
    return peer


def rekeyed(peer):
    peer.shares()
    is_in(peer)


STATES = {
    "before authentication is asked for": (lambda: at("exchange"), serves),
    "before authentication": (lambda: at("service"), logs_in),
    "mid publickey": (offered, logs_in),
    "logged in": (lambda: at("login"), is_in),
    "held": (held, still_held),
    "rekey": (rekeying, rekeyed),
}


def try_all(state, numbers, shape):
    """Sends them all; where that ends the connection, halves until it is known which does. Returns how many
    did, and how many connections it took."""
    begin, goes_on = STATES[state]
    peer = begin()
    try:
        peer.send(*(bytes([number]) + shape for number in numbers))
        goes_on(peer)
        return 0, 1
    except (Closed, ConnectionError):
        pass
    except TimeoutError:
        # Nothing more is answered: only the end of the connection or of the grace helps. One alone may do so.
        if len(numbers) == 1:
            return 1, 1
    finally:
        peer.close()
    if len(numbers) == 1:
        return 1, 1
    half = len(numbers) // 2
    (a, m), (b, n) = try_all(state, numbers[:half], shape), try_all(state, numbers[half:], shape)
    return a + b, m + n + 1


def every_message():
    for step, after in (("before the exchange", False), ("in the exchange", True)):
        for number in range(256):
            for shape in SHAPES:
                if number == 20 and after:
                    continue
                peer = at("ident")
                if after:
                    peer.send(peer.kexinit())
                    peer.their_init = peer.until(20)
                try:
                    peer.send(bytes([number]) + shape)
                except Closed:
                    pass

                def try_it():
                    if not after:
                        peer.send(peer.kexinit())
                        peer.their_init = peer.until(20)
                    peer.shares()
                    return peer.service()

                ends(try_it, f"{step}: {number} {shape[:8]}")
                peer.close()
        print("ok", step, flush=True)
    for state in STATES:
        ended = connections = 0
        for shape in SHAPES:
            for first in range(0, 256, 32):
                a, b = try_all(state, range(first, first + 32), shape)
                ended, connections = ended + a, connections + b
        print("ok", state, f"({ended} of {256 * len(SHAPES)} end it, {connections} connections)", flush=True)


# ---- somebody who is logged in and takes more than their share ----


def many_channels():
    peer = at("login", timeout=60)
    opened, threads = [], []
    sender = threading.Thread(target=lambda: [peer.send(*[peer.open(n) for n in range(first, first + 100)]) for first in range(0, 10_000, 100)])
    sender.start()
    for _ in range(10_000):
        payload = peer.until(91, 92)
        if payload[0] == 91:
            opened.append(payload)
    sender.join()
    assert 1 <= len(opened) <= 64, len(opened)
    peer.send(*(bytes([97]) + payload[5:9] for payload in opened))
    # What was closed can be opened again.
    time.sleep(0.5)
    assert peer.ends(peer.exec("whoami", number=77) and 77)[2] == 0


def many_requests():
    before, peer, count = memory(more[0]), at("login", timeout=120), 60_000
    ask = bytes([80]) + string("hostkeys-prove-00@openssh.com") + b"\1"
    sender = threading.Thread(target=lambda: [peer.send(*[ask] * 500) for _ in range(count // 500)])
    sender.start()
    for _ in range(count):
        assert peer.until(81, 82)[0] == 82
    sender.join()
    assert memory(more[0]) - before < 32 << 20


def unread():
    """Requests whose answers nobody reads: no more are taken than the pipe holds."""
    before, peer = memory(more[0]), at("login")
    ask, sent = bytes([80]) + string("nobody@reads") + b"\1", 0
    peer.sock.settimeout(1)
    try:
        while sent < 2_000_000:
            peer.send(*[ask] * 500)
            sent += 500
    except (TimeoutError, Closed):
        pass
    assert memory(more[0]) - before < 32 << 20, (memory(more[0]) - before, sent)


def goodbye():
    """Says goodbye and does not hang up: the other side does."""
    peer = at("login")
    peer.send(bytes([1]) + struct.pack(">I", 11) + string("bye") + string(""))
    ends(lambda: [peer.read() for _ in range(10)])


GREEDY = {"10,000 channels": many_channels, "60,000 global requests": many_requests, "answers unread": unread, "goodbye": goodbye}

# ---- a crowd ----


def crowd():
    """Sources, caps, queue and penalties."""
    limit = int(more[1])
    own, other = "127.0.8.1", "127.0.8.2"
    inside = [at("ident", own) for _ in range(limit)]
    waiting = at(None, own)
    waiting.bytes(b"SSH-2.0-waits\r\n")
    waiting.sock.settimeout(0.5)
    try:
        waiting.line()
        raise AssertionError("one too many was let in")
    except TimeoutError:
        pass
    at("login", other).close()
    print("ok others come in", flush=True)
    inside.pop().close()
    waiting.sock.settimeout(10)
    assert waiting.line().startswith(b"SSH-2.0-")
    print("ok the queue moves up", flush=True)
    for peer in [*inside, waiting]:
        peer.close()
    bad = "127.0.8.3"
    for _ in range(8):
        try:
            peer = at("service", bad)
        except (Closed, ConnectionError):
            break
        peer.send(peer.auth(user, FOREIGN))
        peer.until(51)
        peer.close()
        time.sleep(0.05)
    peer = at(None, bad)
    line = peer.line()
    assert line.startswith(b"countersign: too many failed logins from your address; try again in "), line
    ends(peer.line)
    at("login", other).close()
    print("ok failed logins shut the door for their source", flush=True)


def flood():
    """So many connections a second for so long, from 50 sources; each says its name and no more."""
    seconds, per_second = float(more[0]), int(more[1])
    began, made, kept = time.monotonic(), 0, []
    print("begun", flush=True)
    while (now := time.monotonic() - began) < seconds:
        while made < now * per_second:
            sock = socket.socket()
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)
            sock.setblocking(False)
            try:
                sock.bind((f"127.0.9.{made % 50 + 1}", 0))
                sock.connect_ex(("127.0.0.1", port))
            except OSError:
                pass
            kept.append(sock)
            made += 1
        for sock in kept[-per_second:]:
            try:
                sock.send(b"SSH-2.0-flood\r\n")
            except OSError:
                pass
        while len(kept) > 3000:
            kept.pop(0).close()
        time.sleep(0.01)
    print("made", made, flush=True)


if scene == "holes":
    rows(HOLES)
elif scene == "greedy":
    rows(GREEDY)
else:
    {"every_message": every_message, "crowd": crowd, "flood": flood}[scene]()
