#!/usr/bin/env bash
# Times the loss over all pairs of a batch beside pytorch-metric-learning; what is compared is said
# in compare-metric-learning.py. Linux.
#
#   scripts/compare-metric-learning.sh [ROWS...]
#
# The first run makes a virtual environment in the target folder; of the size of torch and how to
# get a small one see pytorch-embeddings.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${CARGO_TARGET_DIR:-target}/metric-learning
packages=("torch==${TORCH:-2.15.0}" pytorch-metric-learning==2.9.0 numpy==2.4.6)

if [[ "$(cat "$venv/packages" 2>/dev/null)" != "${packages[*]}" ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
    echo "${packages[*]}" >"$venv/packages"
fi
binary=$(cargo bench --locked -p loss-kernel --bench in_batch --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*in_batch[^"]*\)".*/\1/p' | tail -n 1)
exec "$venv/bin/python" scripts/compare-metric-learning.py "$binary" "$@"
