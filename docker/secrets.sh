#!/usr/bin/env bash
# Makes docker/secrets/ for compose.yaml, once: random passwords and the key-encryption key. What is there stays.
# The folder is closed to others; the files in it are readable, since the programs in the containers run as users of their own.
# (`countersign doctor` warns of that for the key-encryption key.)
set -euo pipefail
folder=$(cd "$(dirname "$0")" && pwd)/secrets
mkdir -p -m 0700 "$folder"
random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }
make() { [ -e "$folder/$1" ] || { printf '%s' "$2" > "$folder/$1"; chmod 0644 "$folder/$1"; }; }
make postgres-password "$(random)"
make database-url "postgres://countersign:$(cat "$folder/postgres-password")@postgres/countersign"
make key-encryption-key "$(head -c 32 /dev/urandom | base64)"
make ldap-bind-password "$(random)"
make ldap-people-password "$(random)"
echo "secrets are in $folder; alice and bob sign in with the password in ldap-people-password"
