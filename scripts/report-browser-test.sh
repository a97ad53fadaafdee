#!/usr/bin/env bash
# Opens a finished run's report.html in Chromium and uses it: mouse, keyboard, touch, copying.
#
#   scripts/report-browser-test.sh RUN [SCREENSHOTS]
#
# Needs Chromium (Debian's package `chromium`; CHROMIUM names another). The first run makes a
# virtual environment in the target folder; that needs Python 3.9 or newer and PyPI.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${CARGO_TARGET_DIR:-$here/../target}/playwright
package=playwright==1.65.2

if [[ "$(cat "$venv/package" 2>/dev/null)" != "$package" ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$package"
    echo "$package" >"$venv/package"
fi
CHROMIUM=$(command -v "${CHROMIUM:-chromium}") exec "$venv/bin/python" "$here/report-browser-test.py" "$@"
