#!/usr/bin/env bash
# Runs the CUDA kernels on the CPU under AddressSanitizer and UndefinedBehaviorSanitizer, over the
# same cases as the tests. Needs g++ with both (Debian and Ubuntu: apt install g++).
set -euo pipefail
cd "$(dirname "$0")/.."
# Only the kernels are instrumented. The program around them is Rust, and what Rust leaves allocated at
# exit is not a leak of theirs.
export KERNELS_SANITIZED=1 ASAN_OPTIONS=detect_leaks=0
# `--workspace` selects the same features as the other tests, so nothing is compiled again.
exec cargo test --workspace --test pairs --test edges --test emulator --test in_batch_kernels "$@"
