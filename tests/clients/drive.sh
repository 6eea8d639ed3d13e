#!/usr/bin/env bash
# One stock client on one way: drive.sh CLIENT direct|named|jump TARGET …, in an empty directory. Starts all that the
# client can do at once and prints a line for each piece: its status, whether bytes arrived as they were, and what the
# other side said on standard error. `tests/matrix.rs` sets what stands in capitals.
set -u
client=$1 way=$2 target=$3
shift 2
here=$ROWS/here there=$PWD/there config=$ROWS/ssh_config
case $way in
  direct) to=direct login=$LOGIN host=127.0.0.1 port=$DIRECT_PORT key=$DIRECT_KEY print=$DIRECT_PRINT ;;
  named) to=$LOGIN=$target@bastion login=$LOGIN=$target host=127.0.0.1 port=$BASTION_PORT key=$BASTION_KEY print=$BASTION_PRINT ;;
  jump) to=$LOGIN@$target login=$LOGIN host=$target port=22 key=$BASTION_KEY print=$BASTION_PRINT ;;
esac
command='cat; echo err >&2; exit 9'
printf 'cat %s; echo err >&2; exit 7\n' "$here" >script
printf 'put %s there\nrename there moved\nrename moved there\nget there back\nls\nquit\n' "$here" >batch
sed -i "s#there#$there#g; s#moved#$there.moved#g" batch

same() { cmp -s "$here" "$1" && echo same || echo "other:$(wc -c <"$1" 2>/dev/null)"; }
remarks() { tr -d '\r' <"$1.err" | grep -v '^countersign: \|^Using username' | paste -sd' '; }

# Runs a piece: piece NAME COMMAND …; input is as it is redirected.
piece() {
  local name=$1 status
  shift
  "$@" >"$name.out" 2>"$name.err"
  status=$?
  case $name in
    exec | shell) echo "$name $status $(same "$name.out") $(remarks "$name")" ;;
    sftp) echo "$name $status $(same "$there") $(same back)" ;;
    *) echo "$name $status $(tr -d '\r' <"$name.out" | sed -n 's/^term=//p')" ;;
  esac >"$name.line"
}

# The same for a shell in a terminal, which drops what is typed before it is open.
typed() {
  mkfifo keys
  piece terminal "$@" <keys &
  exec 3>keys
  local tries=0
  until [ $way = direct ] || grep -qs 'is recorded' terminal.err terminal.out; do
    [ $((tries += 1)) -lt 1500 ] || exit 1
    sleep 0.1
  done
  printf 'PS1=; stty -echo\nif [ -t 0 ]; then echo; echo term=$TERM; fi; exit 5\n' >&3
  wait $!
  exec 3>&-
}

# The four pieces of a client whose programs differ in nothing but names.
pieces() {
  piece exec "${run[@]}" "$command" <"$here" &
  piece shell "${run[@]}" <script &
  piece sftp "${transfer[@]}" <batch &
  typed "${terminal[@]}" &
  wait
  cat exec.line shell.line sftp.line terminal.line
}

openssh() {
  run=(ssh -T -F "$config" "$to") terminal=(ssh -tt -F "$config" "$to") transfer=(sftp -q -F "$config" -b - "$to")
  pieces
}

scp_both() {
  command scp -q -F "$config" "$here" "$to:$there" 2>scp.err &
  command scp -q -O -F "$config" "$here" "$to:$there-O" 2>scp-O.err &
  wait
  command scp -q -F "$config" "$to:$there" back 2>>scp.err
  echo "scp $? $(same "$there") $(same back)"
  command scp -q -O -F "$config" "$to:$there-O" back-O 2>>scp-O.err
  echo "scp-O $? $(same "$there-O") $(same back-O)"
}

rsync_both() {
  mkdir -p tree/below
  for n in $(seq 50); do head -c $((n * 100)) "$here" >"tree/below/$n"; done
  ln -s below tree/link
  command rsync -a -e "ssh -F $config" tree/ "$to:$there/" 2>rsync.err
  echo "rsync $? $(diff -r --no-dereference tree "$there" && echo same)"
  command rsync -a -e "ssh -F $config" "$to:$there/" back/ 2>>rsync.err
  echo "rsync-back $? $(diff -r --no-dereference tree back && echo same)"
}

git_both() {
  export GIT_SSH_COMMAND="ssh -F $config" GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
  export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.org
  {
    git init -q made && cp "$here" made/here && git -C made add here && git -C made commit -q -m one
    git clone -q --bare made there.git
    git clone -q "ssh://$to$PWD/there.git" got
  } 2>git.err
  echo "clone $? $(same got/here)"
  git -C got commit -q --allow-empty -m two && git -C got push -q origin HEAD 2>>git.err
  local status=$?
  [ "$(git -C got rev-parse HEAD)" = "$(git -C there.git rev-parse HEAD)" ] && echo "push $status same"
}

sshfs_mounted() {
  mkdir -p mnt far
  sshfs -f -o "ssh_command=ssh -F $config" "$to:$PWD/far" mnt 2>sshfs.err &
  local tries=0
  until mountpoint -q mnt || [ $((tries += 1)) -gt 1500 ]; do sleep 0.1; done
  cp "$here" mnt/there && cp mnt/there back
  local status=$?
  fusermount3 -u mnt
  wait
  echo "sshfs $status $(same far/there) $(same back)"
}

putty() {
  local through=()
  [ $way = jump ] &&
    through=(-proxycmd "plink -batch -hostkey $BASTION_PRINT -P $BASTION_PORT -i $ROWS/key.ppk -l alice -nc %host:%port 127.0.0.1")
  local options=(-batch -hostkey "$print" "${through[@]}" -P "$port" -i "$ROWS/key.ppk" -l "$login")
  run=(plink -T "${options[@]}" "$host") terminal=(plink -t "${options[@]}" "$host") transfer=(psftp "${options[@]}" -b batch "$host")
  sed -i 's/^rename/mv/' batch
  pieces
}

dropbear() {
  # By its path: for a jump it runs itself.
  local program
  program=$(command -v dbclient)
  mkdir -p .ssh
  printf '%s %s\n' "$host" "$key" >.ssh/known_hosts
  [ $way = jump ] && printf '%s %s\n' 127.0.0.1 "$BASTION_KEY" >>.ssh/known_hosts
  local options=(-i "$ROWS/key.dropbear") at="$login@$host^$port"
  [ $way = jump ] && at="alice@127.0.0.1^$BASTION_PORT,$at"
  # Its own sftp: OpenSSH's, over dbclient.
  printf "#!/bin/sh\nexec $program -T -i %s -s %s sftp\n" "$ROWS/key.dropbear" "'$at'" >subsystem
  chmod +x subsystem
  run=($program -T "${options[@]}" "$at") terminal=(script -qefc "$program -t -i $ROWS/key.dropbear $at" /dev/null) transfer=(sftp -q -S ./subsystem -b - any)
  pieces
}

library() {
  local through=()
  [ $way = jump ] && through=(alice 127.0.0.1 "$BASTION_PORT")
  "$@" "$way" "$host" "$port" "$login" "$KEY" "$key" "$here" "$there" "$command" "${through[@]}"
}

ansible_over_hosts() {
  export ANSIBLE_HOME=$PWD/a ANSIBLE_LOCALHOST_WARNING=0 ANSIBLE_NOCOLOR=1 ANSIBLE_RETRY_FILES_ENABLED=0
  export ANSIBLE_SSH_ARGS="-F $config -o ControlMaster=auto -o ControlPersist=5s"
  local host as=
  [ "$LOGIN" = root ] && as='become: true, become_method: su'
  echo '[all:vars]' >vars
  echo "ansible_python_interpreter=$(command -v python3)" >>vars
  for host in "$@"; do
    case $way in
      direct) echo "$host ansible_host=direct ansible_user=$LOGIN" ;;
      named) echo "$host ansible_host=bastion ansible_user=$LOGIN=$host" ;;
      jump) echo "$host ansible_user=$LOGIN" ;;
    esac
  done | cat - vars >inventory
  cat >play.yml <<P
- hosts: all
  gather_facts: false
  tasks:
    - {raw: id -un, $as}
    - ping:
    - copy: {src: "$here", dest: "$there-{{ inventory_hostname }}"}
    - {command: id -un, $as}
P
  "$(dirname "$TEST_PYTHON")/ansible-playbook" -i inventory play.yml >ansible.out 2>&1
  local status=$?
  echo "ansible $status $(grep -o ' ok=[0-9]*' ansible.out | tr -d '\n' | cut -c2-) $(for host in "$@"; do same "$there-$host"; done | paste -sd' ')"
}

case $client in
  openssh | putty | dropbear) $client ;;
  scp) scp_both ;;
  rsync) rsync_both ;;
  git) git_both ;;
  sshfs) sshfs_mounted ;;
  paramiko | asyncssh) library "$TEST_PYTHON" "${BASH_SOURCE%/*}/${client}_pieces.py" ;;
  ssh2) library node "${BASH_SOURCE%/*}/ssh2_pieces.js" ;;
  ansible) ansible_over_hosts "$@" ;;
esac
