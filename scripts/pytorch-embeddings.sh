#!/usr/bin/env bash
# Checks a model file against PyTorch; see pytorch-embeddings.py.
#
#   scripts/pytorch-embeddings.sh MODEL.safetensors EMBEDDINGS.safetensors
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/pytorch-python.sh" "$here/pytorch-embeddings.py" "$@"
