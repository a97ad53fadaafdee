#!/usr/bin/env bash
# Times embeddings against ONNX Runtime on the CPU, after checking that both compute the same.
#
#   scripts/compare-onnxruntime.sh [ROUNDS]    see compare-onnxruntime.py
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}
cargo build --release --locked --quiet -p model --example serve_embeddings \
    --manifest-path "$here/../Cargo.toml"
exec "$here/venv-python.sh" onnxruntime \
    "onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 safetensors==0.8.0" \
    "$here/compare-onnxruntime.py" "$target/release/examples/serve_embeddings" "$@"
