#!/usr/bin/env bash
# Opens a finished run's report.html in Chromium and uses it: mouse, keyboard, touch, copying.
#
#   scripts/report-browser-test.sh RUN [SCREENSHOTS]
#
# Needs Chromium (Debian's package `chromium`; CHROMIUM names another).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CHROMIUM=$(command -v "${CHROMIUM:-chromium}") exec "$here/venv-python.sh" playwright \
    playwright==1.65.2 "$here/report-browser-test.py" "$@"
