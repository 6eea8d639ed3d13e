"""One command through paramiko: HOST PORT USER KEY HOST_KEY REASON COMMAND. Behaves like `ssh`."""
import base64, os, select, sys
import paramiko

host, port, user, key, host_key, reason, command = sys.argv[1:]
kind, blob = host_key.split()[:2]
client = paramiko.SSHClient()
client.get_host_keys().add(f"[{host}]:{port}", kind, paramiko.Ed25519Key(data=base64.b64decode(blob)))
client.set_missing_host_key_policy(paramiko.RejectPolicy())
client.connect(host, int(port), user, pkey=paramiko.Ed25519Key.from_private_key_file(key), allow_agent=False, look_for_keys=False)
channel = client.get_transport().open_session()
channel.update_environment({"LC_COUNTERSIGN_REASON": reason})
channel.exec_command(command)
while True:
    select.select([channel], [], [], 0.2)
    over = channel.exit_status_ready()
    while channel.recv_ready():
        os.write(1, channel.recv(65536))
    while channel.recv_stderr_ready():
        os.write(2, channel.recv_stderr(65536))
    if over and channel.closed and not channel.recv_ready() and not channel.recv_stderr_ready():
        break
status = channel.recv_exit_status()
client.close()
sys.exit(status)
