#!/usr/bin/env bash
# Runs a Python script in a virtual environment in the target folder. The first run creates it, which
# needs Python 3.9 or newer and access to PyPI.
#
#   scripts/venv-python.sh NAME "PACKAGE==VERSION ..." SCRIPT.py [ARGUMENTS]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${CARGO_TARGET_DIR:-$here/../target}/$1
read -ra packages <<<"$2"
shift 2

if [[ "$(cat "$venv/packages" 2>/dev/null)" != "${packages[*]}" ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
    echo "${packages[*]}" >"$venv/packages"
fi
exec "$venv/bin/python" "$@"
