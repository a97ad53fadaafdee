#!/usr/bin/env bash
# Times `train serve` against FastAPI with ONNX Runtime, after checking that both give the same verdicts; see
# compare-serving.py.
#
#   scripts/compare-serving.sh [ROUNDS [SECONDS]]
#
# Ours is built in the dev profile, as `cargo run -p train` is.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}
cargo build --locked --quiet -p train --manifest-path "$here/../Cargo.toml"
cargo build --locked --quiet -p serve --example load --manifest-path "$here/../Cargo.toml"
packages="fastapi==0.165.0 uvicorn==0.54.0 uvloop==0.23.0 httptools==0.9.0 python-multipart==0.0.34"
packages+=" pillow==13.0.0 numpy==2.4.6 onnxruntime==1.32.0 safetensors==0.8.0"
exec "$here/venv-python.sh" serving "$packages" "$here/compare-serving.py" \
    "$target/debug/train" "$target/debug/examples/load" "$@"
