#!/usr/bin/env bash
# Speed and memory of a release build, one row each: what was measured, the bound, pass or fail.
#
#   benches/run.sh [--check] [--rounds N] [--seconds N] [--only PART]…
#
# The parts: tokens (client_credentials and introspection against the floor and a peer), grants (a database full of live grants and
# revocations), storm (sign-ins that queue), ldap (the password grant against bare ldap3), nodes (1, 2 and 4 on one PostgreSQL).
# Every target is loaded in turn, N rounds over, and the row shows the median: what else the machine does then hurts all alike. The
# bounds are ratios for the same reason. `floor` is a bare warp server (floor.rs), `provider` is npm oidc-provider with its store
# in memory. Exits 1 if something did not run; with --check also if a bound is missed.
set -euo pipefail

fail() { printf 'benches/run.sh: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*" >&2; }

check=no rounds=5 seconds=3 connections=32 parts=''
while [ $# -gt 0 ]; do
  case $1 in
    --check) check=yes; shift ;;
    --rounds) rounds=${2:?--rounds needs a number}; shift 2 ;;
    --seconds) seconds=${2:?--seconds needs a number}; shift 2 ;;
    --only) parts="$parts ${2:?--only needs the name of a part}"; shift 2 ;;
    *) fail "unknown option $1; there are --check, --rounds N, --seconds N, --only PART" ;;
  esac
done

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
work=$(mktemp -d "${TMPDIR:-/tmp}/countersign-bench.XXXXXX")
parts=${parts:-tokens grants storm ldap nodes}
servers=()
finish() {
  stop_all
  [ ! -d "$work/provider" ] || "$root/tests/peers/oidc.sh" stop "$work/provider" || true
  [ ! -d "$work/openldap" ] || bash "$root/tests/peers/openldap.sh" stop "$work/openldap" || true
  [ ! -d "$work/postgres" ] || bash "$root/tests/peers/postgres.sh" stop "$work/postgres" || true
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

# shellcheck source=benches/measure.sh
. "$here/measure.sh"

install_wrk
say "building"
cargo build --release --quiet --manifest-path "$root/Cargo.toml" --bin countersign
floor=$(bench_program floor)
countersign=$(cargo build --release --quiet --manifest-path "$root/Cargo.toml" --bin countersign --message-format=json | executable countersign)
[ -x "$floor" ] && [ -x "$countersign" ] || fail "cargo did not say where the programs are"

printf '%-62s %10s %10s  %s\n' "$rounds rounds of $seconds s, medians" measured bound ''
for part in $parts; do
  [ -f "$here/parts/$part.sh" ] || fail "there is no part $part; see --help in the first lines of this file"
  say "$part"
  # shellcheck disable=SC1090
  . "$here/parts/$part.sh"
  stop_all
done
[ "$check" = no ] || [ ! -e "$work/missed" ] || fail "a bound was missed"
