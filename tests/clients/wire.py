"""A long, bad wire to a port: wire.py PORT DELAY_MS LOSS_PERCENT. Prints the port at its near end, then carries until
it is killed.

Two network name spaces of its own with real TCP stacks, and between them packets that arrive late or never: what
`tc netem` does, which not every kernel has. Needs root or user name spaces, /dev/net/tun, and `ip`.
"""
import collections, ctypes, fcntl, os, random, socket, struct, subprocess, sys, threading, time

port, delay, loss = int(sys.argv[1]), float(sys.argv[2]) / 1000, float(sys.argv[3]) / 100
NEW_USER, NEW_NET, CONNECTIONS, FAR = 0x10000000, 0x40000000, 48, "10.99.0.1"
libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags):
    if libc.unshare(flags):
        sys.exit(f"wire.py: no name space of its own ({os.strerror(ctypes.get_errno())}): this needs root or user name spaces")


def tun(name, address):
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH14x", name, 0x0001 | 0x1000))
    for words in [["addr", "add", f"{address}/24", "dev", name.decode()], ["link", "set", name.decode(), "mtu", "9000", "up"]]:
        subprocess.run(["ip", *words], check=True)
    return device


def make(to):
    """In a child: both ends, and sockets that stay in their name spaces."""
    unshare(NEW_NET | (NEW_USER if os.getuid() else 0))
    near = tun(b"near", "10.99.0.2")
    sockets = [socket.socket() for _ in range(CONNECTIONS)]
    unshare(NEW_NET)
    far = tun(b"far", FAR)
    listener = socket.create_server((FAR, 22), backlog=CONNECTIONS)
    fds = [near, far, listener.fileno(), *[s.fileno() for s in sockets]]
    socket.send_fds(to, [b"."], fds)
    os._exit(0)


def carry(source, sink):
    """Packets, each late by `delay`, some not at all."""
    queue, more = collections.deque(), threading.Semaphore(0)
    dice = random.Random(7)

    def deliver():
        while True:
            more.acquire()
            due, packet = queue.popleft()
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            os.write(sink, packet)

    threading.Thread(target=deliver, daemon=True).start()
    while True:
        packet = os.read(source, 16384)
        # A queue that is full drops, as every router's does.
        if dice.random() >= loss and len(queue) < 2000:
            queue.append((time.monotonic() + delay, packet))
            more.release()


def splice(one, other):
    def half(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    for end in (one, other):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for pair in [(one, other), (other, one)]:
        threading.Thread(target=half, args=pair, daemon=True).start()


def arrive(listener):
    while True:
        far = listener.accept()[0]
        splice(far, socket.create_connection(("127.0.0.1", port)))


ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
if os.fork() == 0:
    try:
        make(theirs)
    finally:
        os._exit(1)
theirs.close()
_, fds, _, _ = socket.recv_fds(ours, 16, CONNECTIONS + 3)
if not fds:
    sys.exit("wire.py: there is no wire")
near, far, listener, *sockets = fds
listener, sockets = socket.socket(fileno=listener), [socket.socket(fileno=fd) for fd in sockets]
for pair in [(near, far), (far, near)]:
    threading.Thread(target=carry, args=pair, daemon=True).start()
threading.Thread(target=arrive, args=(listener,), daemon=True).start()
entrance = socket.create_server(("127.0.0.1", 0))
print(entrance.getsockname()[1], flush=True)
while True:
    person, wire = entrance.accept()[0], sockets.pop()

    def enter(person=person, wire=wire):
        try:
            wire.connect((FAR, 22))
            splice(person, wire)
        except OSError:
            person.close()

    threading.Thread(target=enter, daemon=True).start()
