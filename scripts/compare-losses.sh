#!/usr/bin/env bash
# The loss of pairs drawn beforehand beside the loss of all pairs of a batch, three seeds each: a table
# (Markdown, CSV) and a chart of test figures against images and seconds in FOLDER. Runs that are
# already there are not made again. See crates/train/examples/compare_losses.rs.
#
#   scripts/compare-losses.sh FOLDER digits
#   scripts/compare-losses.sh FOLDER mnist:DIR
#   scripts/compare-losses.sh FOLDER open-set
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}
cargo build --locked --quiet -p train --bin train --example compare_losses --manifest-path "$here/../Cargo.toml"
exec "$target/debug/examples/compare_losses" "$target/debug/train" "$@"
