#!/usr/bin/env bash
# Times the loss over all pairs of a batch against pytorch-metric-learning; see
# compare-metric-learning.py. Linux only.
#
#   scripts/compare-metric-learning.sh [ROWS...]
set -euo pipefail
cd "$(dirname "$0")/.."

binary=$(cargo bench --locked -p loss-kernel --bench in_batch --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*in_batch[^"]*\)".*/\1/p' | tail -n 1)
exec scripts/pytorch-python.sh scripts/compare-metric-learning.py "$binary" "$@"
