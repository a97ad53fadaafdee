#!/usr/bin/env bash
# Packs what proves the GPU build, for a machine that has a GPU and no Rust: GPU tests, benchmark and
# program, stripped, with scripts/gpu-suite.sh as run.sh. Needs what `--features cuda` needs
# (docs/gpu.md) and python3; no GPU.
#
#   scripts/pack-gpu-tests.sh OUT.tar.gz
#
# There: tar -xzf OUT.tar.gz && contrastive-gpu/run.sh
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

# In one go, so that the packages share one build of candle. The program's own tests (`program`) are
# why cargo builds the program with them.
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
    [[ -x $folder/bin/$name ]] || { echo "error: cargo built no $name" >&2; exit 1; }
done

cp scripts/gpu-suite.sh "$folder/run.sh"
cp scripts/compare-pytorch-gpu.py "$folder"
{
    echo "commit: $(git describe --always --dirty 2>/dev/null || echo unknown)"
    echo "nvcc: $("${NVCC:-nvcc}" --version | grep release)"
    echo "CONTRASTIVE_CUDA_ARCHS: ${CONTRASTIVE_CUDA_ARCHS:-its default}"
    echo "CUDA_COMPUTE_CAP: ${CUDA_COMPUTE_CAP:-of the GPU here}"
} >"$folder/built.txt"

tar -C "$work" --sort=name --owner=0 --group=0 -cf - contrastive-gpu | gzip -9 >"$work/packed"
size=$(stat -c %s "$work/packed")
if ((size > limit)); then
    echo "error: packed it is $((size >> 20)) MiB, and $((limit >> 20)) is the most" >&2
    exit 1
fi
mv "$work/packed" "$out"
chmod 644 "$out"
echo "$out: $((size >> 20)) MiB"
