#!/usr/bin/env bash
# Fuzzes every target of fuzz/ in turn under AddressSanitizer, for SECONDS each (default 60):
# `scripts/fuzz.sh 600`. Needs a C++ compiler and cargo-fuzz (cargo install cargo-fuzz --locked). Stops
# at the first crash and leaves its input in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
# Sanitizers are still an unstable feature; this lets the stable compiler use them.
export RUSTC_BOOTSTRAP=1
command -v cargo-fuzz >/dev/null || {
    echo "cargo-fuzz is missing; install it with: cargo install cargo-fuzz --locked"
    exit 1
}
for target in $(cargo fuzz list); do
    # New inputs go to the first folder, which git ignores; the second is committed.
    mkdir -p "fuzz/found/$target"
    cargo fuzz run --debug-assertions "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=65536
done
