#!/usr/bin/env bash
# Tests that ONNX Runtime gives the embeddings of this program; see onnx-test.py.
#
#   scripts/onnx-test.sh PROGRAM [RUN ...]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/venv-python.sh" onnxruntime \
    "onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 safetensors==0.8.0" \
    "$here/onnx-test.py" "$@"
