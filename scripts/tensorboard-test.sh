#!/usr/bin/env bash
# Tests that TensorBoard can read a finished run: its event reader, its server and its projector.
#
#   scripts/tensorboard-test.sh RUN
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# TensorBoard imports pkg_resources, which later versions of setuptools no longer have.
exec "$here/venv-python.sh" tensorboard 'tensorboard==2.21.0 setuptools<81' \
    -W ignore "$here/tensorboard-test.py" "$@"
