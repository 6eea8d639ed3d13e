"""An SSH peer that can say anything at any time, as client or as server: curve25519, ed25519, AES-128-GCM.

Nothing is checked that need not be: a hostile peer does not care. Times out after 10 s unless told otherwise.
"""
import hashlib, os, socket, struct
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

DISCONNECT, IGNORE, KEXINIT, NEWKEYS, SUCCESS = 1, 2, 20, 21, 52


class Closed(Exception):
    """The other side has ended the connection."""


def string(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(data)) + data


def mpint(number):
    data = number.to_bytes((number.bit_length() + 8) // 8, "big") if number else b""
    return string(data)


def take(data, at):
    size = struct.unpack_from(">I", data, at)[0]
    return data[at + 4 : at + 4 + size], at + 4 + size


def raw(public):
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def load(path):
    with open(path, "rb") as file:
        return load_ssh_private_key(file.read(), None)


class Peer:
    def __init__(self, sock, server=None, timeout=10):
        """`server` is the host key of one that plays the server."""
        self.sock, self.server = sock, server
        sock.settimeout(timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.out = self.into = self.session = None
        self.queue = []

    @classmethod
    def connect(cls, port, source=None, timeout=10):
        sock = socket.socket()
        sock.settimeout(timeout)
        if source:
            # Many sources, each with a port of its own: one for all would be taken.
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)
            sock.bind((source, 0))
        sock.connect(("127.0.0.1", port))
        return cls(sock, timeout=timeout)

    def close(self):
        self.sock.close()

    # ---- bytes and packets ----

    def bytes(self, data):
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Closed(str(error))

    def more(self):
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            raise
        except OSError as error:
            raise Closed(str(error))
        if not data:
            raise Closed("end of file")
        self.buffer += data

    def exactly(self, count):
        while len(self.buffer) < count:
            self.more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def line(self):
        while b"\n" not in self.buffer:
            self.more()
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    def packet(self, payload):
        """The bytes of one packet."""
        block = 16 if self.out else 8
        over = 1 if self.out else 5
        padding = block - (len(payload) + over) % block
        padding += block if padding < 4 else 0
        body = bytes([padding]) + payload + os.urandom(padding)
        length = struct.pack(">I", len(body))
        return length + (self.out.seal(body, length) if self.out else body)

    def send(self, *payloads):
        self.bytes(b"".join(self.packet(payload) for payload in payloads))

    def read(self):
        """The next packet's payload."""
        length = self.exactly(4)
        size = struct.unpack(">I", length)[0]
        body = self.into.open(self.exactly(size + 16), length) if self.into else self.exactly(size)
        return body[1 : len(body) - body[0]]

    def until(self, *wanted):
        """The next packet with one of these numbers; DISCONNECT ends it."""
        while True:
            payload = self.read()
            if payload[0] in wanted:
                return payload
            if payload[0] == DISCONNECT:
                raise Closed("disconnect")

    def drain(self, seconds):
        """The numbers of all that comes within so long, and whether the connection has ended."""
        numbers, before = [], self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            while True:
                numbers.append(self.read()[0])
                if numbers[-1] == DISCONNECT:
                    return numbers, True
        except TimeoutError:
            return numbers, False
        except Closed:
            return numbers, True
        finally:
            self.sock.settimeout(before)

    # ---- the steps of a connection ----

    def ident(self, own=b"SSH-2.0-rogue"):
        self.own = own
        self.bytes(own + b"\r\n")
        self.their = self.line()
        while not self.their.startswith(b"SSH-"):
            self.their = self.line()

    def kexinit(self, kex="curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com"):
        if self.server:
            kex = "curve25519-sha256,kex-strict-s-v00@openssh.com"
        lists = [kex, "ssh-ed25519", *["aes128-gcm@openssh.com"] * 2, *["hmac-sha2-256-etm@openssh.com"] * 2, "none", "none", "", ""]
        self.own_init = bytes([KEXINIT]) + os.urandom(16) + b"".join(map(string, lists)) + b"\0" * 5
        return self.own_init

    def exchange(self, share=None):
        """Sends KEXINIT, exchanges shares (`share` instead of an honest one), takes the keys into use."""
        self.send(self.kexinit())
        self.their_init = self.until(KEXINIT)
        self.shares(share)

    def shares(self, share=None):
        private = X25519PrivateKey.generate()
        mine = share or raw(private.public_key())
        if self.server:
            theirs, _ = take(self.until(30), 1)
            host = string("ssh-ed25519") + string(raw(self.server.public_key()))
        else:
            self.send(bytes([30]) + string(mine))
            reply = self.until(31)
            host, at = take(reply, 1)
            theirs, _ = take(reply, at)
        secret = mpint(int.from_bytes(private.exchange(X25519PublicKey.from_public_bytes(theirs)), "big"))
        first, second = (self.their, self.own) if self.server else (self.own, self.their)
        init = (self.their_init, self.own_init) if self.server else (self.own_init, self.their_init)
        publics = (theirs, mine) if self.server else (mine, theirs)
        hashed = [first, second, *init, host, *publics]
        digest = hashlib.sha256(b"".join(map(string, hashed)) + secret).digest()
        self.session = self.session or digest
        if self.server:
            signature = string("ssh-ed25519") + string(self.server.sign(digest))
            self.send(bytes([31]) + string(host) + string(mine) + string(signature))
        self.send(bytes([NEWKEYS]))
        self.until(NEWKEYS)
        key = lambda letter: hashlib.sha256(secret + digest + letter + self.session).digest()
        up, down = Gcm(key(b"C"), key(b"A")), Gcm(key(b"D"), key(b"B"))
        self.out, self.into = (down, up) if self.server else (up, down)

    def service(self):
        self.send(bytes([5]) + string("ssh-userauth"))
        self.until(6)

    def auth(self, user, key, signed=True, signer=None):
        """A publickey request: with a signature, or the offer alone."""
        blob = string("ssh-ed25519") + string(raw(key.public_key()))
        request = bytes([50]) + string(user) + string("ssh-connection") + string("publickey")
        request += bytes([signed]) + string("ssh-ed25519") + string(blob)
        if signed:
            signature = (signer or key).sign(string(self.session) + request)
            request += string(string("ssh-ed25519") + string(signature))
        return request

    def log_in(self, user, key):
        self.ident()
        self.exchange()
        self.service()
        self.send(self.auth(user, key))
        if self.until(51, SUCCESS)[0] != SUCCESS:
            raise Closed("not let in")
        return self

    def open(self, number=0, kind="session", window=1 << 20, more=b""):
        return bytes([90]) + string(kind) + struct.pack(">III", number, window, 32768) + more

    def request(self, channel, kind, more=b"", reply=True):
        return bytes([98]) + struct.pack(">I", channel) + string(kind) + bytes([reply]) + more

    def exec(self, command, env=(), number=0):
        """Opens a session channel and starts a command; returns the other side's number of it."""
        self.send(self.open(number))
        answer = self.until(91, 92)
        if answer[0] == 92:
            raise Closed("refused to open")
        channel = struct.unpack_from(">I", answer, 5)[0]
        for name, value in env:
            self.send(self.request(channel, "env", string(name) + string(value), reply=False))
        self.send(self.request(channel, "exec", string(command)))
        self.until(99, 100)
        return channel

    def ends(self, number=0):
        """Output, standard error and exit status of a channel that ends."""
        out, err, status = b"", b"", None
        while True:
            payload = self.until(94, 95, 97, 98)
            if struct.unpack_from(">I", payload, 1)[0] != number:
                continue
            if payload[0] == 94:
                out += take(payload, 5)[0]
            elif payload[0] == 95:
                err += take(payload, 9)[0]
            elif payload[0] == 98 and take(payload, 5)[0] == b"exit-status":
                status = struct.unpack(">I", payload[-4:])[0]
            elif payload[0] == 97:
                return out, err.decode(errors="replace"), status


class Gcm:
    """AES-128-GCM as OpenSSH uses it (RFC 5647): the length is authenticated and in the clear."""

    def __init__(self, key, iv):
        self.cipher, self.fixed, self.count = AESGCM(key[:16]), iv[:4], int.from_bytes(iv[4:12], "big")

    def nonce(self):
        nonce = self.fixed + (self.count % (1 << 64)).to_bytes(8, "big")
        self.count += 1
        return nonce

    def seal(self, body, length):
        return self.cipher.encrypt(self.nonce(), body, length)

    def open(self, body, length):
        return self.cipher.decrypt(self.nonce(), body, length)
