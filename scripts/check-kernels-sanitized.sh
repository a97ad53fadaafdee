#!/usr/bin/env bash
# Runs the CUDA kernels on the CPU under AddressSanitizer and UndefinedBehaviorSanitizer, over the
# same cases as the tests. Needs g++ with both (Debian and Ubuntu: apt install g++).
set -euo pipefail
cd "$(dirname "$0")/.."
# The program is Rust: only its kernels are instrumented, and what Rust itself leaves at exit is not
# theirs to free.
export KERNELS_SANITIZED=1 ASAN_OPTIONS=detect_leaks=0
# `--workspace` for its features, so that nothing is compiled anew after the other tests.
exec cargo test --workspace --test pairs --test edges --test emulator --test in_batch_kernels "$@"
