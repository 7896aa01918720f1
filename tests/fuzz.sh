#!/usr/bin/env bash
# Gives each fuzz target (a unit test whose name begins with fuzz_) its share of the time, optimised. An hour unless said otherwise.
# Usage: tests/fuzz.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/countersign-target}
total=${1:-3600}

targets=$(cargo test --release --locked --lib fuzz_ -- --list | sed -n 's/: test$//p')
count=$(wc -l <<< "$targets")
printf 'fuzz.sh: %s targets, %s s each\n' "$count" $((total / count))
export COUNTERSIGN_FUZZ_SECONDS=$((total / count > 0 ? total / count : 1))
# One after the other, so that each has its time to itself; all are tried even if one fails.
cargo test --release --locked --lib fuzz_ -- --test-threads=1 --nocapture
