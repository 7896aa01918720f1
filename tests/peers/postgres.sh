#!/usr/bin/env bash
# A PostgreSQL of its own on loopback, in DIR. Usage: postgres.sh start DIR PORT | stop DIR
# Superuser `postgres` without a password. PostgreSQL refuses to run as root, so root runs it as the user of Debian's package.
# DIR and what is above it must be open to that user (mode x).
set -euo pipefail

fail() { printf 'postgres.sh: %s\n' "$*" >&2; exit 1; }

[ $# -ge 2 ] || fail "usage: postgres.sh start DIR PORT | stop DIR"
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2> /dev/null | sort -V | tail -n 1)
[ -x "$bin/initdb" ] || fail "no initdb under /usr/lib/postgresql: apt-get install postgresql"
mkdir -p "$2"
dir=$(cd "$2" && pwd)

own() { # runs as a user that PostgreSQL accepts
  if [ "$(id -u)" -eq 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

case $1 in
  start)
    port=${3:?usage: postgres.sh start DIR PORT}
    if [ "$(id -u)" -eq 0 ]; then
      chown postgres "$dir"
      own test -x "$dir" || fail "the user postgres cannot reach $dir: open the directories above it (chmod o+x)"
    fi
    cd "$dir"
    if [ ! -d "$dir/cluster" ]; then
      own "$bin/initdb" -D "$dir/cluster" -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 > "$dir/initdb.log"
    fi
    # Every story has a database and a few pools of its own, hence the connections.
    own "$bin/pg_ctl" start -w -t 60 -s -D "$dir/cluster" -l "$dir/cluster/server.log" \
      -o "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories='' -c max_connections=400" ||
      { own tail -n 20 "$dir/cluster/server.log" >&2; exit 1; }
    ;;
  stop)
    cd "$dir"
    [ ! -d "$dir/cluster" ] || own "$bin/pg_ctl" stop -m immediate -w -s -D "$dir/cluster"
    ;;
  *) fail "unknown command $1; there are start and stop" ;;
esac
