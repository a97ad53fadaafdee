#!/usr/bin/env bash
# Installs what `--features cuda` needs to build on a machine without a CUDA toolkit: nvcc 13.0 and
# libclang from PyPI wheels, into DIR. Needs python3 with pip, cc and cargo; no root, GPU or driver.
#
#   scripts/setup-cuda.sh DIR               130 MB to download: builds, and starts without a GPU
#   scripts/setup-cuda.sh --libraries DIR   700 MB: with cuBLAS, cuRAND and NVRTC, to run on a GPU
#   source DIR/env.sh
#
# candle links the driver and these three libraries. Without --libraries all four are stubs that answer
# every call with an error; with it, only the driver is. A program linked to stubs runs with the real
# libraries. To start it where there is no driver, set LD_LIBRARY_PATH=$CUDA_STUBS. Never do that where
# there is a driver: the stub would be loaded instead.
set -euo pipefail

libraries=
if [[ ${1-} == --libraries ]]; then
    libraries=1
    shift
fi
if [[ $# != 1 || $1 == -* ]]; then
    echo "usage: setup-cuda.sh [--libraries] DIR" >&2
    exit 2
fi
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
home=$dir/wheels/nvidia/cu13

# A driver runs PTX up to its own CUDA version, so take the oldest; 13.0 is the oldest packed like this.
wheels=(
    nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 libclang==18.1.1
)
if [[ $libraries ]]; then
    wheels+=(nvidia-cublas==13.0.2.14 nvidia-curand==10.4.0.35 nvidia-cuda-nvrtc==13.0.88)
fi
if [[ $(cat "$dir/installed" 2>/dev/null) != "${wheels[*]}" ]]; then
    rm -rf "$dir/installed" "$dir/wheels"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile \
        --target "$dir/wheels" "${wheels[@]}"
    echo "${wheels[*]}" >"$dir/installed"
fi

# Make the folders of an installed toolkit, where build scripts look.
chmod +x "$home"/bin/* "$home"/nvvm/bin/*
target=$home/targets/$(uname -m)-linux
mkdir -p "$target"
ln -sfn lib "$home/lib64"
ln -sfn ../../lib "$target/lib"
ln -sfn ../../include "$target/include"
ln -sfn libcudart.so.13 "$home/lib/libcudart.so"

# The stubs need every function that cudarc may call.
cudarc=$(cargo metadata --locked --all-features --format-version 1 \
    --manifest-path "$repository/Cargo.toml" | python3 -c '
import json, os, sys
packages = json.load(sys.stdin)["packages"]
print(*(os.path.dirname(p["manifest_path"]) for p in packages if p["name"] == "cudarc"))')
functions() { # MODULE
    grep -oE '^ *(pub )?(unsafe )?fn (cu|nvrtc)\w+\(' "$cudarc/src/$1/sys/mod.rs" |
        grep -oE '\w+\($' | tr -d '(' | sort -u
}

stubs=$home/lib/stubs
rm -rf "$stubs"
mkdir -p "$stubs"
stub() { # MODULE LIBRARY VERSION ERROR: each function returns ERROR
    local name
    {
        # These two return the text of the error through a pointer.
        if [[ $1 == driver ]]; then
            echo 'int cuGetErrorName(int e, const char **s) { *s = "CUDA_ERROR_STUB_LIBRARY"; return 0; }'
            echo 'int cuGetErrorString(int e, const char **s) { *s = "a stub of the driver"; return 0; }'
        fi
        for name in $(functions "$1" | grep -vE '^cuGetError(Name|String)$'); do
            echo "int $name(void) { return $4; }"
        done
    } | cc -shared -fPIC -Os -s -Wl,-soname,"$2.$3" -o "$stubs/$2.$3" -x c -
    ln -sfn "$2.$3" "$stubs/$2"
}
stub driver libcuda.so 1 34 # CUDA_ERROR_STUB_LIBRARY, as NVIDIA's own stub
if [[ $libraries ]]; then
    for library in libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libnvrtc.so.13; do
        ln -sfn "$library" "$home/lib/${library%.*}"
    done
else
    stub cublas libcublas.so 13 1     # CUBLAS_STATUS_NOT_INITIALIZED
    stub cublaslt libcublasLt.so 13 1 # the same
    stub curand libcurand.so 10 101   # CURAND_STATUS_NOT_INITIALIZED
    stub nvrtc libnvrtc.so 13 11      # NVRTC_ERROR_INTERNAL_ERROR
fi

cat >"$dir/env.sh" <<ENV
export CUDA_HOME='$home'
export PATH="\$CUDA_HOME/bin:\$PATH"
export LIBCLANG_PATH='$dir/wheels/clang/native'
# candle asks nvidia-smi which GPU to build for. Without a GPU, take the oldest that has all of its
# kernels; newer GPUs use the PTX.
command -v nvidia-smi >/dev/null || export CUDA_COMPUTE_CAP="\${CUDA_COMPUTE_CAP:-80}"
# For LD_LIBRARY_PATH, only to start a program where there is no driver.
export CUDA_STUBS="\$CUDA_HOME/lib/stubs:\$CUDA_HOME/lib"
ENV
if [[ $libraries ]]; then
    echo 'export LD_LIBRARY_PATH="$CUDA_HOME/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"' >>"$dir/env.sh"
fi

"$home/bin/nvcc" --version | grep release
echo "source $dir/env.sh"
