"""All that paramiko can do, at once on one connection: WAY HOST PORT USER KEY HOST_KEY HERE THERE COMMAND
[JUMP_USER JUMP_HOST JUMP_PORT]. Prints what `drive.sh` prints of a client."""
import base64, os, re, sys, threading
import paramiko

way, host, port, user, key, host_key, here, there, command, *jump = sys.argv[1:]
payload = open(here, "rb").read()
lines = {}


def connect(host, port, user, through=None):
    kind, blob = host_key.split()[:2]
    client = paramiko.SSHClient()
    name = host if int(port) == 22 else f"[{host}]:{port}"
    client.get_host_keys().add(name, kind, paramiko.Ed25519Key(data=base64.b64decode(blob)))
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    identity = paramiko.Ed25519Key.from_private_key_file(key)
    client.connect(host, int(port), user, pkey=identity, sock=through, allow_agent=False, look_for_keys=False, banner_timeout=60)
    return client


def channel():
    made = client.get_transport().open_session(timeout=60)
    made.update_environment({"LC_COUNTERSIGN_REASON": os.environ["LC_COUNTERSIGN_REASON"]})
    return made


def reads(read, into):
    def loop():
        while data := read(65536):
            into.extend(data)
    thread = threading.Thread(target=loop)
    thread.start()
    return thread


def remarks(err):
    return " ".join(line for line in err.decode().replace("\r", "").splitlines() if not line.startswith("countersign: "))


def plain(name, start, data):
    made, out, err = channel(), bytearray(), bytearray()
    start(made)
    readers = [reads(made.recv, out), reads(made.recv_stderr, err)]
    made.sendall(data)
    made.shutdown_write()
    for reader in readers:
        reader.join()
    same = "same" if out == payload else f"other:{len(out)}"
    lines[name] = f"{name} {made.recv_exit_status()} {same} {remarks(err)}"


def terminal():
    made, out, err = channel(), bytearray(), bytearray()
    made.get_pty("xterm", 100, 30)
    made.invoke_shell()
    readers = [reads(made.recv, out), reads(made.recv_stderr, err)]
    while way != "direct" and b"is recorded" not in err and not made.closed:
        threading.Event().wait(0.1)
    made.sendall(b"PS1=; stty -echo\nif [ -t 0 ]; then echo; echo term=$TERM; fi; exit 5\n")
    for reader in readers:
        reader.join()
    term = re.search(rb"^term=(\w+)", out, re.M)
    lines["terminal"] = f"terminal {made.recv_exit_status()} {term and term[1].decode()}"


def sftp():
    made = channel()
    made.invoke_subsystem("sftp")
    files = paramiko.SFTPClient(made)
    files.put(here, there)
    files.rename(there, there + ".moved")
    files.rename(there + ".moved", there)
    files.get(there, "back")
    files.listdir(".")
    files.close()
    lines["sftp"] = "sftp 0 " + " ".join("same" if open(f, "rb").read() == payload else "other" for f in (there, "back"))


through = None
if jump:
    outer = connect(jump[1], jump[2], jump[0])
    through = outer.get_transport().open_channel("direct-tcpip", (host, int(port)), ("127.0.0.1", 0), timeout=60)
client = connect(host, port, user, through)
pieces = [
    lambda: plain("exec", lambda made: made.exec_command(command), payload),
    lambda: plain("shell", lambda made: made.invoke_shell(), f"cat {here}; echo err >&2; exit 7\n".encode()),
    sftp,
    terminal,
]
threads = [threading.Thread(target=piece) for piece in pieces]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for name in ("exec", "shell", "sftp", "terminal"):
    print(lines.get(name, f"{name} failed"))
client.close()
