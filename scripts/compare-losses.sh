#!/usr/bin/env bash
# Compares training on pairs drawn in advance with training on all pairs of a batch, three seeds each.
# Writes a table (Markdown, CSV) and a chart of test figures against images and seconds to FOLDER, and
# keeps runs that are already there. See crates/train/examples/compare_losses.rs.
#
#   scripts/compare-losses.sh FOLDER digits
#   scripts/compare-losses.sh FOLDER mnist:DIR
#   scripts/compare-losses.sh FOLDER open-set
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}
cargo build --locked --quiet -p train --bin train --example compare_losses --manifest-path "$here/../Cargo.toml"
exec "$target/debug/examples/compare_losses" "$target/debug/train" "$@"
