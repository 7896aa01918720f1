#!/usr/bin/env bash
# Speed and memory of a release build, one row each: what was measured, the bound, pass or fail.
#
#   benches/run.sh [--check] [--rounds N] [--seconds N]
#
# Every target is loaded in turn, N rounds over, and the row shows the median: what else the machine does then hurts all alike. The
# bounds are ratios for the same reason. `floor` is a bare warp server (floor.rs), `provider` is npm oidc-provider with its store
# in memory. Exits 1 if something did not run; with --check also if a bound is missed.
set -euo pipefail

fail() { printf 'benches/run.sh: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*" >&2; }

check=no rounds=5 seconds=3 connections=32
while [ $# -gt 0 ]; do
  case $1 in
    --check) check=yes; shift ;;
    --rounds) rounds=${2:?--rounds needs a number}; shift 2 ;;
    --seconds) seconds=${2:?--seconds needs a number}; shift 2 ;;
    *) fail "unknown option $1; there are --check, --rounds N, --seconds N" ;;
  esac
done

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
work=$(mktemp -d "${TMPDIR:-/tmp}/countersign-bench.XXXXXX")
floor_server='' server=''
finish() {
  for pid in $floor_server $server; do kill "$pid" 2> /dev/null || true; done
  [ ! -d "$work/provider" ] || "$root/tests/peers/oidc.sh" stop "$work/provider" || true
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

# shellcheck source=benches/measure.sh
. "$here/measure.sh"

install_wrk
say "building"
cargo build --release --quiet --manifest-path "$root/Cargo.toml" --bin countersign
floor=$(cargo bench --quiet --no-run --manifest-path "$root/Cargo.toml" --bench floor --message-format=json | executable floor)
countersign=$(cargo build --release --quiet --manifest-path "$root/Cargo.toml" --bin countersign --message-format=json | executable countersign)
[ -x "$floor" ] && [ -x "$countersign" ] || fail "cargo did not say where the programs are"

read -r floor_port port provider_port <<< "$(free_ports)"

"$floor" "127.0.0.1:$floor_port" &
floor_server=$!
disown
wait_for "$floor_port" /

# Countersign: SQLite, two clients, one for each form of token.
mkdir "$work/countersign"
config=$work/countersign/countersign.toml
printf '[server]\nlisten = "127.0.0.1:%s"\n[database]\nurl = "sqlite:countersign.db"\n[log]\nlevel = "warn"\n' "$port" > "$config"
start_countersign > /dev/null
opaque=$(add_client bench-opaque --token-format opaque)
jwt=$(add_client bench-jwt --token-format jwt)

issuer=$("$root/tests/peers/oidc.sh" start "$work/provider" "$provider_port")
metadata=$(curl -fsS "$issuer/.well-known/openid-configuration")
provider_token=$(member token_endpoint <<< "$metadata")
provider_introspect=$(member introspection_endpoint <<< "$metadata")
provider=$(basic bench bench-secret-bench-secret-bench-secret)

url=http://127.0.0.1:$port/oauth2
grant=grant_type=client_credentials
say "fetching tokens to introspect"
fetch_tokens "$url/token" "$opaque" opaque
fetch_tokens "$url/token" "$jwt" jwt
fetch_tokens "$provider_token" "$provider" provider
is_active "$url/introspect" "$opaque" opaque
is_active "$url/introspect" "$opaque" jwt
is_active "$provider_introspect" "$provider" provider

say "start time and memory"
for _ in $(seq "$rounds"); do
  stop_countersign
  start_countersign >> "$work/start.ms"
done
sleep 2
idle=$(resident)
issued=0
while [ "$issued" -lt 1000000 ]; do
  load fill "$url/token" "$opaque" "$grant"
  issued=$((issued + $(tail -n 1 "$work/fill.requests")))
done
filled=$(resident)

for round in $(seq "$rounds"); do
  say "round $round of $rounds"
  load floor "http://127.0.0.1:$floor_port/form" "" "$grant"
  load opaque.issue "$url/token" "$opaque" "$grant"
  load opaque.introspect "$url/introspect" "$opaque" token= opaque
  load provider.issue "$provider_token" "$provider" "$grant"
  load signed "http://127.0.0.1:$floor_port/signed" "" "$grant"
  load jwt.issue "$url/token" "$jwt" "$grant"
  load jwt.introspect "$url/introspect" "$opaque" token= jwt
  load provider.introspect "$provider_introspect" "$provider" token= provider
done

printf '\n%-62s %10s %10s  %s\n' "$connections connections, $rounds rounds of $seconds s, medians" measured bound ''
for target in floor signed opaque.issue jwt.issue opaque.introspect jwt.introspect provider.issue provider.introspect; do
  row "$target, requests a second (p99 $(median "$target.p99") ms)" "$(median "$target.rate")" -
done
row "client_credentials, opaque / floor" "$(ratio opaque.issue floor)" ">= 0.70"
row "client_credentials, ES256 / floor with one signature" "$(ratio jwt.issue signed)" ">= 0.80"
row "introspection, opaque / floor" "$(ratio opaque.introspect floor)" ">= 0.70"
row "introspection, ES256 / floor" "$(ratio jwt.introspect floor)" -
row "client_credentials, opaque / provider" "$(ratio opaque.issue provider.issue)" ">= 10"
row "introspection, opaque / provider" "$(ratio opaque.introspect provider.introspect)" ">= 10"
row "start with a database to the first 200 of /readyz, ms" "$(median start.ms)" "< 60"
row "resident memory, idle, MB" "$idle" "< 40"
row "resident memory after $issued tokens, MB" "$filled" "< 80"
row "size of the program, MB" "$(awk -v b="$(stat -c %s "$countersign")" 'BEGIN { printf "%.1f", b / 1e6 }')" -

[ "$check" = no ] || [ ! -e "$work/missed" ] || fail "a bound was missed"
