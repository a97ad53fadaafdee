#!/usr/bin/env bash
# Fuzzes every target of fuzz/ for SECONDS each (60 if left out), one after the other, under
# AddressSanitizer: `scripts/fuzz.sh 600`. Needs a C++ compiler, and cargo-fuzz
# (cargo install cargo-fuzz --locked). A crash ends it, with the input under fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
# What the sanitizer needs is not called stable yet; this lets the stable compiler do it.
export RUSTC_BOOTSTRAP=1
command -v cargo-fuzz >/dev/null || {
    echo "cargo-fuzz is missing: cargo install cargo-fuzz --locked"
    exit 1
}
for target in $(cargo fuzz list); do
    # New inputs go to the first folder, which git ignores; the second is the committed one.
    mkdir -p "fuzz/found/$target"
    cargo fuzz run --debug-assertions "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=65536
done
