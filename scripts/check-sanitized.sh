#!/usr/bin/env bash
# Runs the tests of the crates with unsafe CPU code under AddressSanitizer: the loss and the network's
# layers, including vector code and matrix products. An invalid access stops it.
#
#   scripts/check-sanitized.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# Sanitizers are still an unstable feature; this lets the stable compiler use them.
export RUSTC_BOOTSTRAP=1
target=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/sanitized
export RUSTFLAGS="-Zsanitizer=address"
# One test asks for more memory than there is and expects an error.
export ASAN_OPTIONS=allocator_may_return_null=1
cargo test --locked --target "$target" -p loss-kernel -p model --lib --tests
