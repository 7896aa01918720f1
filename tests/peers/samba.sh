#!/usr/bin/env bash
# A real Active Directory domain controller (Samba) on a loopback address of its own, with people in every state that a sign-in
# can meet.
#
#   samba.sh start DIR ADDRESS   makes DIR anew, starts samba in the background, waits until it answers and prints the path of the
#                                authority's certificate. ADDRESS (127.x.y.z) is its own, since the ports are fixed: 389 and 636,
#                                and 3268 and 3269 for the global catalogue.
#   samba.sh stop DIR            stops it; the data stays
#   samba.sh again DIR           starts it again with the data it had
#   samba.sh hang DIR            stops its process (SIGSTOP): connections stay, and nothing is answered
#   samba.sh resume DIR          lets it go on
#
# DIR/samba.pid holds the process id. FRESH=DIR2 copies the people of another one as they were at its start, which takes a second
# instead of half a minute. The ports are privileged, so an ordinary user goes through sudo.
# Debian packages, without recommends: samba samba-ad-provision samba-dsdb-modules samba-vfs-modules winbind python3-samba faketime
# ldap-utils openssl.
#
# The domain is lab.example.test (LAB). The service account is svc-read@lab.example.test with Passw0rd!svc; tests change entries as
# Administrator@lab.example.test with Passw0rd!Adm1n. A person's password is Passw0rd! followed by the name. samba_people.py says
# who is there. After three wrong passwords an account is locked for half an hour.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
usage() { sed -n '5,11s/^# *//p' "$0" >&2; exit 2; }

[ "$(id -u)" -eq 0 ] || exec sudo --preserve-env=FRESH PATH="$PATH" bash "$0" "$@"

provision() {
  samba-tool domain provision --targetdir="$dir/ad" --realm=LAB.EXAMPLE.TEST --domain=LAB --server-role=dc --dns-backend=NONE \
    --adminpass='Passw0rd!Adm1n' --host-name=dc1 --host-ip=127.0.0.1 --function-level=2008_R2 \
    --option="interfaces=lo" --option="bind interfaces only=yes" > "$dir/provision.log" 2>&1 || { cat "$dir/provision.log" >&2; exit 1; }
  local db=(-s "$dir/ad/etc/smb.conf" -H "$dir/ad/private/sam.ldb")
  samba-tool domain passwordsettings set --account-lockout-threshold=3 --account-lockout-duration=30 --reset-account-lockout-after=30 \
    --min-pwd-age=0 --complexity=off "${db[@]}" > /dev/null
  /usr/bin/python3 "$here/samba_people.py" "$dir/ad"
  # A password that is too old needs a policy of its own and a clock in the past.
  samba-tool domain passwordsettings pso create ageing 10 --min-pwd-age=0 --max-pwd-age=2 --complexity=off "${db[@]}" > /dev/null
  samba-tool domain passwordsettings pso apply ageing pwexp "${db[@]}" > /dev/null
  faketime '3 days ago' samba-tool user setpassword pwexp --newpassword='Passw0rd!pwexp' "${db[@]}" > /dev/null
}

build() {
  rm -rf "$dir/ad" "$dir/samba.pid"
  mkdir -p "$dir/ad"
  [ -f "$dir/ca/samba.crt" ] || "$here/certs.sh" "$dir/ca" "samba@$1"
  printf '%s' "$1" > "$dir/listen"
  if [ -n "${FRESH:-}" ]; then
    tar -xf "$FRESH/fresh.tar" -C "$dir"
    # Its own directory is named in its settings; the databases name files by where they lie.
    sed -i "s|= .*/ad\(/.*\)\{0,1\}\$|= $dir/ad\1|" "$dir/ad/etc/smb.conf"
  else
    provision
    tar -cf "$dir/fresh.tar" -C "$dir" --sparse ad
  fi
  mkdir -p "$dir/ad/run"
  # Everybody may read the certificate, and look whether the process is there.
  chmod 755 "$dir" "$dir/ca"
  chmod 644 "$dir/ca/ca.crt"
}

run() {
  local address pid
  read -r address < "$dir/listen" || true
  (cd "$dir" && exec setsid samba -s "$dir/ad/etc/smb.conf" -i -M single --debug-stdout -d1 \
    --option="server services=ldap" --option="dcerpc endpoint servers=" --option="interfaces=$address/8" \
    --option="bind interfaces only=yes" --option="ldap server require strong auth=no" --option="tls enabled=yes" \
    --option="tls keyfile=$dir/ca/samba.key" --option="tls certfile=$dir/ca/samba.crt" --option="tls cafile=$dir/ca/ca.crt" \
    --option="pid directory=$dir/ad/run" --option="lock directory=$dir/ad/run" --option="ncalrpc dir=$dir/ad/run/ncalrpc" \
    --option="ntp signd socket directory=$dir/ad/run/ntp" --option="log file=$dir/ad/log.%m" \
    < /dev/null > "$dir/samba.log" 2>&1) &
  pid=$!
  echo "$pid" > "$dir/samba.pid"
  for _ in $(seq 300); do
    kill -0 "$pid" 2> /dev/null || break
    if ldapsearch -x -H "ldap://$address" -D svc-read@lab.example.test -w 'Passw0rd!svc' -s base -b '' 1.1 > /dev/null 2>&1; then
      echo "$dir/ca/ca.crt"
      return
    fi
    sleep 0.1
  done
  echo "samba.sh: samba does not answer on $address; it says:" >&2
  cat "$dir/samba.log" >&2
  exit 1
}

halt() {
  end_process
  # Whoever went through sudo can remove the directory.
  [ -z "${SUDO_UID:-}" ] || chown -R "$SUDO_UID:$SUDO_GID" "$dir"
}

end_process() {
  local pid
  pid=$(cat "$dir/samba.pid" 2> /dev/null) || return 0
  # A pid file that outlived its process must not end another one. samba writes over its command line, so that its directory tells.
  [ "$(readlink "/proc/$pid/cwd" 2> /dev/null)" = "$dir" ] || return 0
  kill -CONT "$pid" 2> /dev/null || true
  kill "$pid" 2> /dev/null || true
  for _ in $(seq 100); do
    kill -0 "$pid" 2> /dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$pid"
}

[ $# -ge 2 ] || usage
mkdir -p "$2"
dir=$(cd "$2" && pwd)
case $1 in
  start) [ $# -eq 3 ] || usage; halt; build "$3"; run ;;
  stop) halt ;;
  again) run ;;
  hang) kill -STOP "$(cat "$dir/samba.pid")" ;;
  resume) kill -CONT "$(cat "$dir/samba.pid")" ;;
  *) usage ;;
esac
