#!/usr/bin/env bash
# Compares a folder's defaults with pixels and with PyTorch, trained by the same recipe for as long; see
# compare-pictures.py. Takes twice the time of the run.
#
#   scripts/compare-pictures.sh FOLDER [flags of `train fit`]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}
cargo build --locked --quiet -p train --bin train --manifest-path "$here/../Cargo.toml"
exec "$here/venv-python.sh" pictures "torch==${TORCH:-2.15.0} numpy==2.4.6 pillow==12.0.0" \
    "$here/compare-pictures.py" "$target/debug/train" "$@"
