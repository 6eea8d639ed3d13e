"""All that asyncssh can do, at once on one connection: WAY HOST PORT USER KEY HOST_KEY HERE THERE COMMAND
[JUMP_USER JUMP_HOST JUMP_PORT]. Prints what `drive.sh` prints of a client. Behind a jump it trusts the host CA alone."""
import asyncio, os, re, sys
import asyncssh

way, host, port, user, key, host_key, here, there, command, *jump = sys.argv[1:]
payload = open(here, "rb").read()
REASON = {"LC_COUNTERSIGN_REASON": os.environ["LC_COUNTERSIGN_REASON"]}


def connect(host, port, user, known, tunnel=()):
    return asyncssh.connect(
        host, int(port), username=user, client_keys=[key], known_hosts=known, agent_path=None, config=None, tunnel=tunnel, login_timeout=60
    )


def remarks(err):
    return " ".join(line for line in err.decode().replace("\r", "").splitlines() if not line.startswith("countersign: "))


async def plain(name, what, data):
    process = await connection.create_process(what, env=REASON, encoding=None)
    process.stdin.write(data)
    process.stdin.write_eof()
    out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
    await process.wait_closed()
    return f"{name} {process.exit_status} {'same' if out == payload else f'other:{len(out)}'} {remarks(err)}"


async def terminal():
    process = await connection.create_process(env=REASON, term_type="xterm", term_size=(100, 30), encoding=None)
    err = b""
    while way != "direct" and b"is recorded" not in err and (more := await process.stderr.read(4096)):
        err += more
    process.stdin.write(b"PS1=; stty -echo\nif [ -t 0 ]; then echo; echo term=$TERM; fi; exit 5\n")
    out = await process.stdout.read()
    await process.wait_closed()
    term = re.search(rb"^term=(\w+)", out, re.M)
    return f"terminal {process.exit_status} {term and term[1].decode()}"


async def sftp():
    async with connection.start_sftp_client(env=REASON) as files:
        await files.put(here, there)
        await files.rename(there, there + ".moved")
        await files.rename(there + ".moved", there)
        await files.get(there, "back")
        await files.listdir(".")
    return "sftp 0 " + " ".join("same" if open(f, "rb").read() == payload else "other" for f in (there, "back"))


async def main():
    global connection
    pinned, ca = ([asyncssh.import_public_key(host_key)], [], []), ([], [asyncssh.import_public_key(os.environ["HOST_CA"])], [])
    outer = await connect(jump[1], jump[2], jump[0], pinned) if jump else ()
    connection = await connect(host, port, user, ca if jump else pinned, outer)
    script = f"cat {here}; echo err >&2; exit 7\n".encode()
    for line in await asyncio.gather(plain("exec", command, payload), plain("shell", None, script), sftp(), terminal()):
        print(line)
    connection.close()


asyncio.run(main())
