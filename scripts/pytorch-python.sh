#!/usr/bin/env bash
# Runs a Python script in a virtual environment with PyTorch.
#
#   scripts/pytorch-python.sh SCRIPT.py [ARGUMENTS]
#
# On Linux, PyPI's torch brings its CUDA libraries, about 5 GB once installed, and does not load without
# them. For the small CPU build, set PIP_EXTRA_INDEX_URL to PyTorch's CPU wheel index and
# TORCH=2.15.0+cpu.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/venv-python.sh" pytorch \
    "torch==${TORCH:-2.15.0} safetensors==0.8.0 numpy==2.4.6 pytorch-metric-learning==2.9.0" "$@"
