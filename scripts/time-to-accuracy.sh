#!/usr/bin/env bash
# Seconds until enough test pairs are judged correctly, for this program and for PyTorch with the same
# recipe; see time-to-accuracy.py.
#
#   scripts/time-to-accuracy.sh digits 0.98
#   scripts/time-to-accuracy.sh mnist:DIR 0.99 --epochs 30
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}
cargo build --release --locked --quiet -p train --manifest-path "$here/../Cargo.toml"
exec "$here/pytorch-python.sh" "$here/time-to-accuracy.py" "$target/release/train" "$@"
