/* What differs between nvcc and the emulator: where the language comes from, how a kernel is
 * launched, how shared memory is declared. */
#pragma once

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define LAUNCH(kernel, grid, block, shared_bytes, stream)                                           \
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>

/* The block's `shared_bytes`. */
#define SHARED_MEMORY(name) extern __shared__ __align__(16) unsigned char name[]

/* What lies at `address`, read or written at once; it must be aligned to the whole of P. */
template <class P, class S>
__device__ inline P &at_once(S *address) {
  return *reinterpret_cast<P *>(address);
}

#else
/* In tests/kernels/emulator, which the tests put on the include path. */
#include "cuda_on_cpu.h"
#endif

/* The kernel that this thread launched last, for error messages. */
inline thread_local const char *last_kernel = "";
