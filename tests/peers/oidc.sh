#!/bin/sh
# npm oidc-provider playing Okta, alone or for the tests.
#
#   tests/peers/oidc.sh start DIR PORT    starts it in the background, waits until it answers, prints its issuer
#   tests/peers/oidc.sh stop DIR
#
# DIR holds the process id, the log and the packages. Set COUNTERSIGN_PEER_CACHE to a directory that keeps the packages between
# runs. Needs node 20.12 or later and npm.
set -eu

here=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "oidc.sh: $*" >&2
    exit 1
}

packages() {
    target=$1
    mkdir -p "$target"
    # Installed before, from this very lock file.
    cmp -s "$here/oidc/package-lock.json" "$target/installed.json" && return
    cp "$here/oidc/package.json" "$here/oidc/package-lock.json" "$here/oidc/.npmrc" "$target/"
    (cd "$target" && npm ci --no-audit --no-fund --ignore-scripts >npm.log 2>&1) || { cat "$target/npm.log" >&2; fail "npm ci failed"; }
    cp "$here/oidc/package-lock.json" "$target/installed.json"
}

start() {
    dir=$1 port=$2
    command -v node >/dev/null || fail "node is not installed; on Debian: apt-get install nodejs npm (20.12 or later)"
    node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 12) ? 0 : 1)' ||
        fail "node $(node --version) is older than 20.12"
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    cache=${COUNTERSIGN_PEER_CACHE:-$dir}/oidc-packages
    if command -v flock >/dev/null; then
        mkdir -p "$cache"
        exec 9>"$cache/lock"
        flock 9
    fi
    packages "$cache"
    exec 9>&-
    # Node looks for packages beside the script that runs.
    cp "$here/oidc/provider.mjs" "$here/oidc/management.mjs" "$dir/"
    cp "$here/oidc/package.json" "$dir/package.json"
    ln -sfn "$cache/node_modules" "$dir/node_modules"
    nohup node "$dir/provider.mjs" "$port" >"$dir/provider.log" 2>&1 </dev/null &
    pid=$!
    echo "$pid" >"$dir/provider.pid"
    issuer=http://127.0.0.1:$port/oauth2/default
    # The provider prints its issuer once it listens. Asking the port instead could reach whatever else listens there.
    tries=0
    until grep -qxF "$issuer" "$dir/provider.log"; do
        kill -0 "$pid" 2>/dev/null || { cat "$dir/provider.log" >&2; fail "the provider ended"; }
        tries=$((tries + 1))
        [ "$tries" -lt 150 ] || { cat "$dir/provider.log" >&2; fail "$issuer does not listen within 15 s"; }
        sleep 0.1
    done
    echo "$issuer"
}

stop() {
    dir=$1
    [ -f "$dir/provider.pid" ] || return 0
    pid=$(cat "$dir/provider.pid")
    kill "$pid" 2>/dev/null || true
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 50 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
    rm -f "$dir/provider.pid"
}

case "${1:-}:$#" in
start:3) start "$2" "$3" ;;
stop:2) stop "$2" ;;
*) fail "usage: oidc.sh start DIR PORT | oidc.sh stop DIR" ;;
esac
