#!/usr/bin/env bash
# Tests and times the GPU build on this machine, in less than 9 minutes on an H100: GPU tests, a run of
# the program, the benchmark, PyTorch for comparison, compute-sanitizer's tools. Packed by
# scripts/pack-gpu-tests.sh. Needs an NVIDIA driver and the libraries that candle loads, no Rust.
#
#   ./run.sh [--without-sanitizer]
#
# Replaces results/ beside it and writes nothing elsewhere. Exits 0 only if everything passes. PyTorch may
# be absent; the sanitizer only with the flag.
set -uo pipefail

sanitizer_needed=1
case "$*" in
"") ;;
--without-sanitizer) sanitizer_needed= ;;
*)
    echo "usage: run.sh [--without-sanitizer]" >&2
    exit 2
    ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")" || exit
die() {
    echo "error: $*" >&2
    exit 1
}
[[ -f built.txt && -x bin/loss-tests ]] ||
    die "run this in the unpacked folder that scripts/pack-gpu-tests.sh made"

results=$PWD/results
rm -rf "$results"
mkdir -p "$results/scratch" || die "cannot write to $PWD"
export TMPDIR=$results/scratch XDG_CACHE_HOME=$results/scratch CUDA_CACHE_PATH=$results/scratch/cuda
export TORCHINDUCTOR_CACHE_DIR=$results/scratch/inductor TRITON_CACHE_DIR=$results/scratch/triton
export RUST_BACKTRACE=0 PYTHONDONTWRITEBYTECODE=1

# ---- driver and libraries ----

missing() { ldd bin/bench | awk '/not found/ { print $1 }'; }
library_folders() {
    local home
    for home in ${CUDA_HOME:+"$CUDA_HOME"} /usr/local/cuda /usr/local/cuda-*; do
        printf '%s\n' "$home/lib64" "$home/lib"
    done
    # PyTorch's wheels contain them too.
    command -v python3 >/dev/null && python3 -c '
import glob, sys
for path in sys.path:
    print(*glob.glob(path + "/nvidia/*/lib"), sep="\n")'
}
path_before=${LD_LIBRARY_PATH-}
while read -r folder; do
    for library in $(missing); do
        if [[ -n $folder && -e $folder/$library ]]; then
            export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
            break
        fi
    done
done < <(library_folders)
for library in $(missing); do
    case $library in
    libcuda.so.*) die "this machine has no NVIDIA driver: $library is not found" ;;
    *) die "$library is not found, neither by the loader nor in CUDA_HOME, /usr/local/cuda or \
python3's nvidia wheels; it must match the toolkit of the build ($(grep nvcc built.txt))" ;;
    esac
done
nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv \
    >"$results/machine.txt" 2>&1 ||
    die "nvidia-smi fails, so there is no usable GPU: $(cat "$results/machine.txt")"
{
    cat built.txt
    ldd bin/bench | grep -E 'libcu|libnv'
} >>"$results/machine.txt"
cat "$results/machine.txt"

# ---- steps ----

failed=0
say() { echo "$*" | tee -a "$results/summary.txt"; }

# NAME SECONDS COMMAND...: passes if the command succeeds in time; its output goes to NAME.txt.
step() {
    local name=$1 seconds=$2 started=$SECONDS code
    shift 2
    timeout --kill-after=5 "$seconds" "$@" >"$results/$name.txt" 2>&1
    code=$?
    # The test program also succeeds if its filter matches no test.
    if [[ $code == 0 && "$*" == *--ignored* ]] &&
        ! grep -qE '^test result: ok\. [1-9]' "$results/$name.txt"; then
        code="no test ran"
    fi
    if [[ $code == 0 ]]; then
        say "pass  $name ($((SECONDS - started)) s)"
    else
        say "FAIL  $name ($((SECONDS - started)) s, exit code $code)"
        tail -n 15 "$results/$name.txt" | sed 's/^/      /'
        failed=1
    fi
}

step loss-tests 80 bin/loss-tests --ignored gpu
step training-tests 45 bin/training-tests --ignored gpu
step train 30 bin/train --device cuda --steps 300 --out "$results/run"
step trained-on-gpu 5 grep '"device": "cuda:' "$results/run/summary.json"
# The CPU reaches 0.90.
step learned 5 grep -E '"accuracy": 0\.(8[5-9]|9)' "$results/run/summary.json"
step evaluate 20 bin/train evaluate "$results/run" --device cuda
step bench 70 bin/bench --out "$results"
cat "$results/bench.txt"

# PyTorch uses its own libraries, not those found above.
with_torch=(env LD_LIBRARY_PATH="$path_before" python3)
if ! "${with_torch[@]}" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' \
    2>/dev/null; then
    say "none  pytorch: python3 has no PyTorch that finds the GPU; nothing was compared"
elif [[ ! -s $results/times.jsonl ]]; then
    say "FAIL  pytorch: the benchmark left no times to compare with"
    failed=1
else
    step pytorch 110 "${with_torch[@]}" compare-pytorch-gpu.py "$results"
    cat "$results/pytorch.txt"
fi

sanitizer=
for candidate in "$(command -v compute-sanitizer)" ${CUDA_HOME:+"$CUDA_HOME/bin/compute-sanitizer"} \
    /usr/local/cuda/bin/compute-sanitizer /usr/local/cuda-*/bin/compute-sanitizer; do
    [[ -x $candidate ]] && sanitizer=$candidate && break
done
if [[ $sanitizer ]]; then
    for tool in memcheck racecheck initcheck synccheck; do
        step "$tool" 40 "$sanitizer" --tool "$tool" --error-exitcode 9 \
            bin/loss-tests --ignored --test-threads=1 gpu_goes_every_way gpu_makes_a_wrong_label gpu_takes_any_layout_of_a_batch
    done
elif [[ $sanitizer_needed ]]; then
    say "FAIL  sanitizer: compute-sanitizer is not installed (to do without it, pass --without-sanitizer)"
    failed=1
else
    say "none  sanitizer: compute-sanitizer is not installed; its four tools did not run"
fi

rm -rf "$results/scratch"
say "$([[ $failed == 0 ]] && echo "all passed" || echo "FAILED"), $SECONDS s"
exit "$failed"
