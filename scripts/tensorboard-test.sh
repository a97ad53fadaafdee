#!/usr/bin/env bash
# Opens a finished run with TensorBoard itself: its event reader, its server and its projector.
#
#   scripts/tensorboard-test.sh RUN
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# TensorBoard imports pkg_resources, which later versions of setuptools have no more.
exec "$here/venv-python.sh" tensorboard 'tensorboard==2.21.0 setuptools<81' \
    -W ignore "$here/tensorboard-test.py" "$@"
