#!/usr/bin/env bash
# Packs crates/loss-kernel as `cargo package` does, and builds and tests it from the archive alone, outside the
# repository: kernels and build script have to be in it. With nvcc on the PATH it also checks the feature `cuda`.
# Offline it works where the dependencies have been fetched before.
#
#   scripts/check-package.sh
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}

# The workspace's profiles, which an archive doesn't carry: with them dependencies are not compiled anew.
sed -n '/^\[profile\./,$p' Cargo.toml >"$work/profiles.toml"
cargo="cargo --config $work/profiles.toml"

$cargo package --locked --allow-dirty -p loss-kernel
tar -xzf "$CARGO_TARGET_DIR"/package/loss-kernel-*.crate -C "$work"
cd "$work"/loss-kernel-*/
for file in build.rs kernels/contrastive.h kernels/pairs.cu kernels/in_batch.cu LICENSE-MIT README.md; do
    [[ -s $file ]] || { echo "error: $file is not in the archive" >&2; exit 1; }
done
$cargo test --locked
if command -v "${NVCC:-nvcc}" >/dev/null; then
    CARGO_TARGET_DIR=$CARGO_TARGET_DIR/cuda-build $cargo check --locked --features cuda
fi
