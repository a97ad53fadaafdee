#!/usr/bin/env bash
# Times this project against PyTorch on the CPU, after checking that both compute the same.
#
#   scripts/compare-pytorch.sh step [ROUNDS [NET]]    a training step; see compare-pytorch.py
#   scripts/compare-pytorch.sh loss [...]             the loss alone; see compare-pytorch-loss.py
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}
what=${1:-}
shift || true
case $what in
    step)
        cargo build --release --locked --quiet -p train --example serve_steps \
            --manifest-path "$here/../Cargo.toml"
        exec "$here/pytorch-python.sh" "$here/compare-pytorch.py" \
            "$target/release/examples/serve_steps" "$@"
        ;;
    loss) exec "$here/pytorch-python.sh" "$here/compare-pytorch-loss.py" "$@" ;;
    *)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
esac
