#!/bin/sh
# @TITLE@
#
#   sh enroll.sh             shows what it would change, and changes nothing
#   sh enroll.sh --apply     changes it, tests it with sshd -t, reloads sshd; what fails is taken back
#   sh enroll.sh --undo      takes it back
#
#   ROOT=/mnt/image          the root of an image: its sshd is asked, and not reloaded
#   SSHD_CONFIG=/etc/…       another sshd's configuration, as that sshd calls it; its files stand beside it
#   RELOAD='…'               how that sshd is reloaded
set -eu
umask 022

logins='@LOGINS@'
trusted='@TRUSTED@'
source_address='@SOURCE@'
@TARGET@
principal_of() { @PRINCIPAL@; }

say() { printf 'countersign: %s\n' "$*"; }
die() { printf 'countersign: %s\n' "$*" >&2; exit 1; }

mode=show
for word in "$@"; do
  case $word in
    --apply) mode=apply ;;
    --undo) mode=undo ;;
    *) die "$word is not understood: --apply or --undo" ;;
  esac
done

case $target in
  '' | *[!a-z0-9._:-]* | [!a-z0-9]*) die "$target is no target's name: TARGET=web-1 names this host" ;;
esac

root=${ROOT:-}
root=${root%/}
config=${SSHD_CONFIG:-/etc/ssh/sshd_config}
dir=${config%/*}
ca_file=$dir/countersign_ca.pub
principals=$dir/countersign_principals
fragment=$dir/sshd_config.d/10-countersign.conf
[ -f "$root$config" ] || die "$root$config is not there: install sshd first, or name its configuration with SSHD_CONFIG"

in_root() { if [ -n "$root" ]; then chroot "$root" "$@"; else "$@"; fi; }

sshd=${SSHD:-}
for known in /usr/sbin/sshd /usr/local/sbin/sshd /usr/bin/sshd; do
  if [ -z "$sshd" ] && [ -x "$root$known" ]; then sshd=$known; fi
done
[ -n "$sshd" ] || die "there is no sshd here; name it with SSHD=/path"

work=$(mktemp -d)
key=
cleanup() {
  rm -rf "$work"
  if [ -n "$key" ]; then rm -f "$root$key" "$root$key.pub"; fi
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# An image has no host keys yet, and sshd wants one before it reads anything.
with_key=
if [ -n "$root" ]; then
  key=/tmp/countersign-key-$$
  ssh-keygen -q -t ed25519 -N '' -f "$root$key"
  with_key="-h $key"
fi

tested() {
  # shellcheck disable=SC2086
  if ! in_root "$sshd" -t -f "$config" $with_key >"$work/said" 2>&1; then
    # It makes the directory itself when it starts as a service.
    if grep -q 'privilege separation directory' "$work/said" && mkdir -p -m 755 "$root/run/sshd" 2>/dev/null; then
      in_root "$sshd" -t -f "$config" $with_key >"$work/said" 2>&1 || return 1
      return 0
    fi
    return 1
  fi
}

# KEYWORD LOGIN: what sshd makes of its configuration for this login, Match blocks included.
effective() {
  # shellcheck disable=SC2086
  in_root "$sshd" -T -f "$config" $with_key -C "user=$2,host=countersign,addr=$source_address" 2>/dev/null |
    awk -v keyword="$1" '$1 == keyword { sub(/^[^ ]+ /, ""); print; exit }'
}

# FILE LINE: whether the file, as sshd calls it, has exactly this line; FILE CA: or this key.
has_line() { [ -f "$root$1" ] && grep -qxF -e "$2" "$root$1"; }
has_key() {
  [ -f "$root$1" ] && awk -v kind="$2" -v blob="$3" '$1 == kind && $2 == blob { found = 1 } END { exit !found }' "$root$1"
}
has_cas() {
  printf '%s\n' "$trusted" | while read -r kind blob _; do has_key "$1" "$kind" "$blob" || { echo missing; break; }; done | grep -q . && return 1
  return 0
}

tested || die "sshd does not accept its configuration as it is, so nothing was changed: $(cat "$work/said")"

# ---- what is there ----

# Another CA file or principals file is not ours to replace: people come in by it.
foreign= set_ca= set_principals=
foreign_ca=
for login in $logins; do
  ca=$(effective trustedusercakeys "$login")
  file=$(effective authorizedprincipalsfile "$login")
  command=$(effective authorizedprincipalscommand "$login")
  principal=$(principal_of "$login")
  own=$(printf '%s\n' "$file" | sed "s/%u/$login/g")
  case ${ca:-none} in
    none | "$ca_file") set_ca=yes ;;
    *) has_cas "$ca" || foreign="$foreign ca:$login"; foreign_ca=$ca ;;
  esac
  case ${file:-none} in
    none) if [ -z "$foreign_ca" ]; then set_principals=yes; else foreign="$foreign file:$login"; fi ;;
    "$principals/%u") if [ -z "$foreign_ca" ]; then set_principals=yes; else has_line "$own" "$principal" || foreign="$foreign file:$login"; fi ;;
    *) has_line "$own" "$principal" || foreign="$foreign file:$login" ;;
  esac
  case ${command:-none} in
    none) ;;
    *) [ "${BESIDE_COMMAND:-}" = yes ] || foreign="$foreign command:$login" ;;
  esac
done
if [ -n "$foreign_ca" ] && [ "$set_ca" = yes ]; then
  foreign="$foreign ca:some"
fi

merged() {
  printf '\n'
  say "nothing was changed. The merged text to use, then run this again:"
  case $foreign in
    *ca:*)
      printf '\n==> %s\n' "$foreign_ca"
      cat "$root$foreign_ca" 2>/dev/null || :
      printf '%s\n' "$trusted"
      ;;
  esac
  for one in $foreign; do
    login=${one#*:}
    case $one in
      file:*)
        file=$(effective authorizedprincipalsfile "$login")
        case $file in
          none | "$principals/%u")
            # By the other CA people come in under their bare login, and have to go on doing so.
            printf '\n==> %s, at its end\nMatch User %s\n    AuthorizedPrincipalsFile %s\n' "$config" "$login" "$principals/%u"
            printf '\n==> %s\n%s\n%s\n' "$principals/$login" "$login" "$(principal_of "$login")"
            ;;
          *)
            own=$(printf '%s\n' "$file" | sed "s/%u/$login/g")
            printf '\n==> %s\n' "$own"
            cat "$root$own" 2>/dev/null || :
            printf '%s\n' "$(principal_of "$login")"
            ;;
        esac
        ;;
      command:*)
        printf '\n==> what %s prints for %s needs this line; or run this with BESIDE_COMMAND=yes\n%s\n' \
          "$(effective authorizedprincipalscommand "$login")" "$login" "$(principal_of "$login")"
        ;;
    esac
  done
}

if [ "$mode" != undo ] && [ -n "$foreign" ]; then
  {
    for one in $foreign; do
      case $one in
        ca:some) say "another TrustedUserCAKeys is in force for some logins only: $foreign_ca" ;;
        ca:*) say "another TrustedUserCAKeys is in force for ${one#*:}: $foreign_ca" ;;
        file:*) say "another AuthorizedPrincipalsFile is in force for ${one#*:}: $(effective authorizedprincipalsfile "${one#*:}")" ;;
        command:*) say "an AuthorizedPrincipalsCommand is in force for ${one#*:}: $(effective authorizedprincipalscommand "${one#*:}")" ;;
      esac
    done
    merged
  } >&2
  exit 3
fi

# ---- what is to be there ----

mkdir "$work/new" "$work/old"
: >"$work/paths"
# PATH <content: a file as it is to be. An empty one goes.
want() {
  printf '%s\n' "$1" >>"$work/paths"
  cat >"$work/new/$(awk 'END { print NR }' "$work/paths")"
}

includes() {
  awk -v whole="$dir/sshd_config.d/*.conf" -v relative="$([ "$dir" = /etc/ssh ] && echo 'sshd_config.d/*.conf')" '
    tolower($1) == "match" { exit }
    tolower($1) == "include" { for (n = 2; n <= NF; n++) if ($n == whole || (relative != "" && $n == relative)) { found = 1; exit } }
    END { exit !found }' "$root$config"
}

# The configuration without our block, and without the empty line before it.
without_block() {
  awk '/^# countersign begin/ { ours = 1 } !ours { print } /^# countersign end/ { ours = 0 }' "$root$config"
}

settings() {
  printf '# Lets the bastion in; countersign ca enroll made this.\n'
  if [ "$set_ca" = yes ]; then printf 'TrustedUserCAKeys %s\n' "$ca_file"; fi
  if [ "$set_principals" = yes ]; then printf 'AuthorizedPrincipalsFile %s\n' "$principals/%u"; fi
}

# Lines stand before the first Match: behind it they would count for some only.
with_block() {
  without_block >"$work/bare"
  {
    printf '# countersign begin\n'
    settings
    printf '# countersign end\n'
  } >"$work/block"
  awk -v block="$work/block" '
    function put() { while ((getline line < block) > 0) print line; done = 1 }
    !done && tolower($1) == "match" { put() }
    { print }
    END { if (!done) put() }' "$work/bare"
}

# Lines of a principals file that are not this target's.
others() { if [ -f "$root$1" ]; then grep -vxF -e "$2" "$root$1" || :; fi; }

plan_apply() {
  if [ "$set_ca" = yes ]; then printf '%s\n' "$trusted" | want "$ca_file"; fi
  if [ "$set_principals" = yes ]; then
    for login in $logins; do
      case $(effective authorizedprincipalsfile "$login") in
        none | "$principals/%u") ;;
        *) continue ;;
      esac
      principal=$(principal_of "$login")
      @OTHERS@ | want "$principals/$login"
    done
  fi
  if [ "$set_ca$set_principals" = '' ]; then return; fi
  if includes; then
    settings | want "$fragment"
    without_block | want "$config"
  else
    with_block | want "$config"
  fi
}

plan_undo() {
  left=
  for file in "$root$principals"/*; do
    [ -f "$file" ] || continue
    login=${file##*/}
    rest=$(others "$principals/$login" "$(principal_of "$login")")
    if [ -n "$rest" ]; then
      left=yes
      printf '%s\n' "$rest" | want "$principals/$login"
    else
      printf '' | want "$principals/$login"
    fi
  done
  # This host may be another target too.
  if [ -n "$left" ]; then return; fi
  printf '' | want "$ca_file"
  printf '' | want "$fragment"
  without_block | want "$config"
}

if [ "$mode" = undo ]; then plan_undo; else plan_apply; fi

# ---- what changes ----

changed=
n=0
while read -r path; do
  n=$((n + 1))
  old=$root$path
  if [ ! -f "$old" ]; then
    if [ ! -s "$work/new/$n" ]; then continue; fi
    old=/dev/null
  fi
  if cmp -s "$old" "$work/new/$n"; then continue; fi
  changed="$changed $n"
  if [ "$old" != /dev/null ]; then cp -p "$old" "$work/old/$n"; fi
  if command -v diff >/dev/null; then
    diff -u "$old" "$work/new/$n" | sed "1s|.*|--- $path|; 2s|.*|+++ $path|" || :
  else
    say "$path becomes:"
    cat "$work/new/$n"
  fi
done <"$work/paths"

for login in $logins; do
  in_root id "$login" >/dev/null 2>&1 || say "note: there is no account $login here"
  if [ "$(effective pubkeyauthentication "$login")" = no ]; then say "note: PubkeyAuthentication is no for $login: it cannot be used"; fi
  if [ "$login" = root ] && [ "$(effective permitrootlogin root)" = no ]; then say "note: PermitRootLogin is no: root cannot be used"; fi
done

if [ -z "$changed" ]; then
  say "$target: nothing to change"
  exit 0
fi
if [ "$mode" = show ]; then
  say "$target: nothing was changed; the same with --apply does"
  exit 0
fi
[ -w "$root$dir" ] || die "$root$dir cannot be written: run this as root"

# ---- the change ----

put() {
  path=$root$1
  if [ ! -s "$2" ] && [ "$1" != "$config" ]; then
    rm -f "$path"
    return
  fi
  mkdir -p "${path%/*}"
  # It keeps its owner and mode, and is never half there.
  if [ -f "$path" ]; then cp -p "$path" "$path.countersign-new"; fi
  cat "$2" >"$path.countersign-new"
  mv "$path.countersign-new" "$path"
  if command -v restorecon >/dev/null; then restorecon "$path" 2>/dev/null || :; fi
}

each() {
  n=0
  while read -r path; do
    n=$((n + 1))
    case " $changed " in *" $n "*) put "$path" "$work/$1/$n" ;; esac
  done <"$work/paths"
  if [ -d "$root$principals" ]; then rmdir "$root$principals" 2>/dev/null || :; fi
}

for n in $changed; do [ -f "$work/old/$n" ] || : >"$work/old/$n"; done
each new

takes_back() {
  each old
  die "$1; everything is as it was"
}
tested || takes_back "sshd refuses the change: $(cat "$work/said")"
if [ "$mode" = apply ]; then
  for login in $logins; do
    if [ "$set_ca" = yes ] && [ "$(effective trustedusercakeys "$login")" != "$ca_file" ]; then
      takes_back "TrustedUserCAKeys does not take effect for $login"
    fi
    case $(effective authorizedprincipalsfile "$login") in
      none) takes_back "AuthorizedPrincipalsFile does not take effect for $login" ;;
    esac
  done
fi

reload() {
  if [ -n "${RELOAD:-}" ]; then
    sh -c "$RELOAD"
  elif [ -n "$root" ]; then
    say "an image: its sshd reads this when it starts"
  elif [ "$config" != /etc/ssh/sshd_config ]; then
    say "reload that sshd yourself, or name the way: RELOAD='…'"
  elif command -v systemctl >/dev/null && systemctl is-active --quiet ssh.service; then
    systemctl reload ssh.service
  elif command -v systemctl >/dev/null && systemctl is-active --quiet sshd.service; then
    systemctl reload sshd.service
  elif [ -s /run/sshd.pid ]; then
    kill -HUP "$(cat /run/sshd.pid)"
  else
    say "no sshd runs as a service here; one that starts reads this"
  fi
}
reload || die "the change is in place and tested, but sshd was not reloaded: reload it yourself"

if [ "$mode" = undo ]; then
  say "$target: taken back"
  exit 0
fi
say "$target: enrolled"
say "undo: the same with --undo, or by hand:"
if includes; then
  printf '    rm -rf %s %s %s\n' "$fragment" "$ca_file" "$principals"
else
  printf "    sed -i '/^# countersign begin/,/^# countersign end/d' %s; rm -rf %s %s\n" "$config" "$ca_file" "$principals"
fi
printf '    then reload sshd\n'
