#!/usr/bin/env bash
# Runs the tests of the crates with unsafe code on the CPU under AddressSanitizer: the loss and the
# network's layers, vector code and matrix products among it. A wrong access ends it.
#
#   scripts/check-sanitized.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# What the sanitizer needs is not called stable yet; this lets the stable compiler do it.
export RUSTC_BOOTSTRAP=1
target=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/sanitized
export RUSTFLAGS="-Zsanitizer=address"
# A test asks for more memory than there is and wants to be refused.
export ASAN_OPTIONS=allocator_may_return_null=1
cargo test --locked --target "$target" -p loss-kernel -p model --lib --tests
