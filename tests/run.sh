#!/usr/bin/env bash
# Every test, against real peers, on a Debian or Ubuntu that nobody prepared (root or sudo, and a Rust toolchain).
# Usage: tests/run.sh [--slow] [--prepare] [FILTER…]
#   --slow      also the stories that wait for real time to pass
#   --prepare   only install what is missing
#   FILTER      as for `cargo test -- FILTER…`: run the tests whose names contain one of these
# The peers listen on loopback, on ports that are free now, and are stopped at the end whatever happens.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
cache=${XDG_CACHE_HOME:-$HOME/.cache}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/countersign-target}
# npm packages of the peers, outside of the clone so that the next clone finds them.
export COUNTERSIGN_PEER_CACHE=${COUNTERSIGN_PEER_CACHE:-$cache/countersign-peers}
# Stories wait more than they work.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 2))}

say() { printf 'run.sh: %s\n' "$*"; }
fail() { printf 'run.sh: %s\n' "$*" >&2; exit 1; }

prepare_only=no
filters=()
for argument in "$@"; do
  case $argument in
    --slow) export COUNTERSIGN_TEST_SLOW=1 ;;
    --prepare) prepare_only=yes ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) fail "unknown option $argument; there are --slow and --prepare" ;;
    *) filters+=("$argument") ;;
  esac
done

# shellcheck source=tests/peers/packages.sh
. tests/peers/packages.sh
install_missing_packages
use_recent_node
command -v cargo > /dev/null || fail "cargo is missing: install a Rust toolchain first"
[ "$prepare_only" = no ] || exit 0

peers=$(mktemp -d "${TMPDIR:-/tmp}/countersign-peers.XXXXXX")
chmod 711 "$peers" # PostgreSQL refuses to run as root: its own user must get through
mkdir -m 711 "$peers/tmp" # the temporary directories of the stories, with the servers that some of them start
started=()
stop_peers() {
  local status=$?
  trap - EXIT INT TERM
  for peer in "${started[@]:+${started[@]}}"; do
    bash "$root/tests/peers/$peer.sh" stop "$peers/$peer" > /dev/null 2>&1 || true
  done
  # Those of stories that were cut off.
  for pid_file in "$peers"/tmp/*/samba.pid; do
    [ ! -f "$pid_file" ] || bash "$root/tests/peers/samba.sh" stop "$(dirname "$pid_file")" > /dev/null 2>&1 || true
  done
  for pid_file in "$peers"/tmp/*/ns-slapd.pid; do
    [ ! -f "$pid_file" ] || bash "$root/tests/peers/dirsrv389.sh" end "$(dirname "$pid_file")" > /dev/null 2>&1 || true
  done
  # They may be stopped (SIGSTOP), then only SIGKILL ends them.
  for pid_file in "$peers"/tmp/*/slapd.pid; do
    [ ! -f "$pid_file" ] || kill -KILL "$(cat "$pid_file")" 2> /dev/null || true
  done
  for cluster in "$peers"/tmp/*/cluster "$peers"/tmp/*/*/cluster; do
    [ ! -d "$cluster" ] || bash "$root/tests/peers/postgres.sh" stop "$(dirname "$cluster")" > /dev/null 2>&1 || true
  done
  for disk in "$peers"/tmp/*/disk; do
    [ ! -d "$disk" ] || as_root umount -l "$disk" 2> /dev/null || true
  done
  rm -rf "$peers"
  exit "$status"
}
trap stop_peers EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start_peer() { # NAME PORT…
  local name=$1 begun=$SECONDS
  shift
  mkdir -p "$peers/$name"
  started+=("$name")
  if ! bash "tests/peers/$name.sh" start "$peers/$name" "$@" > "$peers/$name.log" 2>&1; then
    tail -n 40 "$peers/$name.log" >&2
    fail "the peer $name did not start (tests/peers/$name.sh start DIR $*); its last lines stand above"
  fi
  say "$name is up on port $* after $((SECONDS - begun)) s"
}

read -r postgres_port ldap_port ldaps_port oidc_port dirsrv_port dirsrv_tls_port <<< "$(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(6)]
print(*(s.getsockname()[1] for s in held))')"
# Active Directory has fixed ports, hence an address of its own, where nobody listens yet.
samba_address=$(python3 -c '
import random, socket
while True:
    address = "127.%d.%d.%d" % (random.randint(1, 254), random.randint(0, 254), random.randint(2, 254))
    if all(socket.socket().connect_ex((address, port)) for port in (389, 636, 3268, 3269)):
        break
print(address)')

# The domain takes the longest: it is made while the others start.
(trap - EXIT; start_peer samba "$samba_address") &
samba_starts=$!
started+=(samba)
start_peer dirsrv389 "$dirsrv_port" "$dirsrv_tls_port"
start_peer postgres "$postgres_port"
start_peer openldap "$ldap_port" "$ldaps_port"
start_peer oidc "$oidc_port"
wait "$samba_starts" || exit 1

export COUNTERSIGN_TEST_POSTGRES="postgres://postgres@127.0.0.1:$postgres_port/postgres"
export COUNTERSIGN_TEST_LDAP="ldap://127.0.0.1:$ldap_port"
export COUNTERSIGN_TEST_LDAPS="ldaps://127.0.0.1:$ldaps_port"
export COUNTERSIGN_TEST_LDAP_CA="$peers/openldap/ca/ca.crt"
export COUNTERSIGN_TEST_OIDC="http://127.0.0.1:$oidc_port"
export COUNTERSIGN_TEST_AD="$samba_address"
export COUNTERSIGN_TEST_AD_CA="$peers/samba/ca/ca.crt"
export COUNTERSIGN_TEST_AD_DIR="$peers/samba"
export COUNTERSIGN_TEST_389="ldap://127.0.0.1:$dirsrv_port"
export COUNTERSIGN_TEST_389S="ldaps://127.0.0.1:$dirsrv_tls_port"
export COUNTERSIGN_TEST_389_CA="$peers/dirsrv389/ca/ca.crt"
export COUNTERSIGN_TEST_389_DIR="$peers/dirsrv389"
export COUNTERSIGN_TEST_POSTGRES_DIR="$peers/postgres"
export COUNTERSIGN_TEST_LDAP_DIR="$peers/openldap"
export COUNTERSIGN_TEST_OIDC_DIR="$peers/oidc"

say "cargo test, target directory $CARGO_TARGET_DIR"
status=0
TMPDIR=$peers/tmp cargo test --locked --no-fail-fast -- "${filters[@]:+${filters[@]}}" 2>&1 | tee "$peers/cargo.log" || status=$?
say "in short:"
grep -E '^test result:|^error(\[|:)|^    [a-z_:]+$' "$peers/cargo.log" || true
[ "$status" -eq 0 ] && say "green after $SECONDS s" || say "failed after $SECONDS s"
exit "$status"
