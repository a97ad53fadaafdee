#!/usr/bin/env bash
# Times the reading of pictures against Pillow, after checking that both get the same; see compare-pillow.py.
#
#   scripts/compare-pillow.sh [ROUNDS]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}
cargo build --release --locked --quiet -p data --example serve_pictures \
    --manifest-path "$here/../Cargo.toml"
# Freed memory is kept, as the program does; here by both sides.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296
exec "$here/venv-python.sh" pillow "numpy==2.4.6 pillow==12.0.0" "$here/compare-pillow.py" \
    "$target/release/examples/serve_pictures" "$@"
