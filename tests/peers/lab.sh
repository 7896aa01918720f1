#!/usr/bin/env bash
# A laboratory to play in: OpenLDAP, an OpenID provider that plays Okta, and Countersign with config/lab.toml between them.
# Usage: tests/peers/lab.sh      Ctrl-C stops all three. State lies in data/lab and is made anew by the next start.
# The ports are fixed, since config/lab.toml names them: 3890 and 6360 (LDAP), 4400 (OpenID), 8080 (Countersign).
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
lab=$root/data/lab
cache=${XDG_CACHE_HOME:-$HOME/.cache}
export COUNTERSIGN_PEER_CACHE=${COUNTERSIGN_PEER_CACHE:-$cache/countersign-peers}

say() { printf 'lab.sh: %s\n' "$*"; }
fail() { printf 'lab.sh: %s\n' "$*" >&2; exit 1; }

# shellcheck source=tests/peers/packages.sh
. tests/peers/packages.sh
install_missing_packages
use_recent_node
command -v cargo > /dev/null || fail "cargo is missing: install a Rust toolchain first"

python3 - 3890 6360 4400 8080 <<'P' || fail "stop what listens there, or change config/lab.toml and this script"
import socket, sys
for port in sys.argv[1:]:
    try:
        socket.create_server(("127.0.0.1", int(port))).close()
    except OSError as error:
        sys.exit(f"port {port} of 127.0.0.1 is not free: {error.strerror}")
P

say "building Countersign"
cargo build --release --locked --bin countersign
countersign=${CARGO_TARGET_DIR:-$root/target}/release/countersign

rm -rf "$lab"
mkdir -p "$lab"
chmod 700 "$lab"
umask 077
server=
stop_all() {
  trap - EXIT INT TERM
  [ -z "$server" ] || { kill "$server" 2> /dev/null && wait "$server"; } || true
  bash tests/peers/openldap.sh stop "$lab/openldap" || true
  bash tests/peers/oidc.sh stop "$lab/oidc" || true
  say "stopped"
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "starting OpenLDAP and the OpenID provider"
bash tests/peers/openldap.sh start "$lab/openldap" 3890 6360 > /dev/null
bash tests/peers/oidc.sh start "$lab/oidc" 4400 > /dev/null
cp "$lab/openldap/ca/ca.crt" "$lab/ca.pem"
printf 'svcpw' > "$lab/ldap-bind-password"
for client in lab-app lab-api lab-service; do
  openssl rand -hex 24 > "$lab/$client.secret"
done

"$countersign" serve --config config/lab.toml > "$lab/countersign.log" 2>&1 &
server=$!
for _ in $(seq 150); do
  ! curl -fs -o /dev/null http://127.0.0.1:8080/readyz || break
  kill -0 "$server" 2> /dev/null || { cat "$lab/countersign.log" >&2; fail "Countersign ended; it said the above"; }
  sleep 0.1
done
curl -fs -o /dev/null http://127.0.0.1:8080/readyz || { cat "$lab/countersign.log" >&2; fail "Countersign is not ready after 15 s"; }

app=lab-app:$(cat "$lab/lab-app.secret")
api=lab-api:$(cat "$lab/lab-api.secret")
cat <<PASTE

Everything is up; the log is data/lab/countersign.log. Lines to paste in another terminal, in this directory:

# Alice of the directory gets a token by her password (everybody's is pw- and the name: bob, carol, dave …)
TOKEN=\$(curl -s -u $app -d grant_type=password -d username=alice -d password=pw-alice http://127.0.0.1:8080/oauth2/token | tee /dev/stderr | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')

# What does the token mean?
curl -s -u $api -d token=\$TOKEN http://127.0.0.1:8080/oauth2/introspect

# Why does she have these roles?
$countersign explain --config config/lab.toml --source corp --user alice

# Alice of the provider: an id token, as a browser would get it, and the token it is exchanged for
ID_TOKEN=\$(curl -s -X POST http://127.0.0.1:4400/lab/mint -d '{"account": "alice"}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["id_token"])')
curl -s -u $app -d grant_type=urn:ietf:params:oauth:grant-type:token-exchange -d subject_token_type=urn:ietf:params:oauth:token-type:id_token -d subject_token=\$ID_TOKEN http://127.0.0.1:8080/oauth2/token

# No longer wanted: revoke the token, then ask again
curl -s -u $app -d token=\$TOKEN http://127.0.0.1:8080/oauth2/revoke

Ctrl-C stops everything.
PASTE
wait "$server"
