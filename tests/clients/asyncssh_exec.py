"""One command through asyncssh: HOST PORT USER KEY HOST_KEY REASON COMMAND. Behaves like `ssh`."""
import asyncio, os, sys
import asyncssh

host, port, user, key, host_key, reason, command = sys.argv[1:]


async def copy(stream, to):
    while data := await stream.read(65536):
        os.write(to, data)


async def main():
    known = ([asyncssh.import_public_key(host_key)], [], [])
    async with asyncssh.connect(host, int(port), username=user, client_keys=[key], known_hosts=known, agent_path=None, config=None) as connection:
        process = await connection.create_process(command, env={"LC_COUNTERSIGN_REASON": reason}, encoding=None)
        process.stdin.write_eof()
        await asyncio.gather(copy(process.stdout, 1), copy(process.stderr, 2))
        await process.wait_closed()
        return process.exit_status


sys.exit(asyncio.run(main()))
