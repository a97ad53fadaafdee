#!/usr/bin/env bash
# Opens a finished run with TensorBoard itself: its event reader, its server and its projector.
#
#   scripts/tensorboard-test.sh RUN
#
# The first run makes a virtual environment in the target folder; that needs Python 3.9 or newer and
# PyPI.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${CARGO_TARGET_DIR:-$here/../target}/tensorboard
package=tensorboard==2.21.0

if [[ "$(cat "$venv/package" 2>/dev/null)" != "$package" ]]; then
    python3 -m venv "$venv"
    # TensorBoard imports pkg_resources, which later versions of setuptools have no more.
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$package" 'setuptools<81'
    echo "$package" >"$venv/package"
fi
exec "$venv/bin/python" -W ignore "$here/tensorboard-test.py" "$@"
