#!/usr/bin/env bash
# Keeps what goes into a program and what comes out of it: tap.sh DIR [PROGRAM …]; without a program what sshd's client
# asked for. On both sides of a bastion it says what a recording has to hold.
dir=$1
shift
if [ $# = 0 ]; then
  asked=${SSH_ORIGINAL_COMMAND-bash}
  [ "$asked" = internal-sftp ] && asked=/usr/lib/openssh/sftp-server
  set -- bash -c "$asked"
fi
[ -t 0 ] && exec "$@"
mkdir -p "$dir"
mkfifo "$dir/input"
# Its own job, so that a program which has ended waits for no more input.
tee "$dir/in" <&0 >"$dir/input" &
"$@" <"$dir/input" 2> >(tee "$dir/err" >&2) | tee "$dir/out"
status=${PIPESTATUS[0]}
kill $! 2>/dev/null
exit "$status"
