#!/usr/bin/env bash
# Packs the stripped GPU tests, benchmark and program for a machine that has a GPU but no Rust, with
# scripts/gpu-suite.sh as run.sh. Needs python3 and what `--features cuda` needs (docs/gpu.md), but no
# GPU.
#
#   scripts/pack-gpu-tests.sh OUT.tar.gz
#
# On that machine: tar -xzf OUT.tar.gz && contrastive-gpu/run.sh
set -euo pipefail

if [[ $# != 1 || $1 != *.tar.gz ]]; then
    echo "usage: pack-gpu-tests.sh OUT.tar.gz" >&2
    exit 2
fi
out=$(realpath -m "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

limit=$((64 << 20))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
folder=$work/contrastive-gpu
mkdir -p "$folder/bin"

# One command, so that the packages share one build of candle. `--test program` makes cargo build the
# program as well.
cargo test --locked --no-run --features cuda -p loss-kernel -p workspace-tests -p train \
    --test gpu --test gpu_training --test program --bench gpu --message-format=json |
    python3 -c '
import json, sys

names = {
    ("test", "gpu"): "loss-tests",
    ("test", "gpu_training"): "training-tests",
    ("bench", "gpu"): "bench",
    ("bin", "train"): "train",
}
for message in map(json.loads, sys.stdin):
    if message["reason"] == "compiler-artifact" and message["executable"]:
        target = message["target"]
        name = names.get((target["kind"][0], target["name"]))
        if name and not (name == "train" and message["profile"]["test"]):
            print(name, message["executable"])
' >"$work/executables"
while read -r name executable; do
    strip -o "$folder/bin/$name" "$executable"
done <"$work/executables"
for name in loss-tests training-tests bench train; do
    [[ -x $folder/bin/$name ]] || { echo "error: cargo did not build $name" >&2; exit 1; }
done

cp scripts/gpu-suite.sh "$folder/run.sh"
cp scripts/compare-pytorch-gpu.py "$folder"
{
    echo "commit: $(git describe --always --dirty 2>/dev/null || echo unknown)"
    echo "nvcc: $("${NVCC:-nvcc}" --version | grep release)"
    echo "CONTRASTIVE_CUDA_ARCHS: ${CONTRASTIVE_CUDA_ARCHS:-default}"
    echo "CUDA_COMPUTE_CAP: ${CUDA_COMPUTE_CAP:-that of the GPU here}"
} >"$folder/built.txt"

tar -C "$work" --sort=name --owner=0 --group=0 -cf - contrastive-gpu | gzip -9 >"$work/packed"
size=$(stat -c %s "$work/packed")
if ((size > limit)); then
    echo "error: the package has $((size >> 20)) MiB; at most $((limit >> 20)) are allowed" >&2
    exit 1
fi
mv "$work/packed" "$out"
chmod 644 "$out"
echo "$out: $((size >> 20)) MiB"
