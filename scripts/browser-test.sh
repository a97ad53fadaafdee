#!/usr/bin/env bash
# Tests the pages of a finished run in Chromium, at desktop and phone size, in light and dark mode, and
# saves PNG files to SCREENSHOTS.
#
#   scripts/browser-test.sh report RUN [SCREENSHOTS]     report.html: mouse, keyboard, touch, copying
#   scripts/browser-test.sh service RUN [SCREENSHOTS]    `train serve`: drawing, files, the verdict
#
# Needs Chromium (Debian package `chromium`; set CHROMIUM to use another).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
what=${1:-}
case $what in
    report) ;;
    service)
        cargo build --locked --quiet -p train --manifest-path "$here/../Cargo.toml"
        export TRAIN=${CARGO_TARGET_DIR:-$here/../target}/debug/train
        ;;
    *)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
esac
shift
CHROMIUM=$(command -v "${CHROMIUM:-chromium}") exec "$here/venv-python.sh" playwright \
    playwright==1.65.2 "$here/$what-browser-test.py" "$@"
