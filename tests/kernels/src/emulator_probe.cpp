// What the tests ask of the kernels' code beside the C interface, and kernels that try the emulator.

#include <cstddef>

#include "contrastive.h"
#include "element.cuh"
#include "energy.cuh"

// ---- the interface and the formulas ----

// Sizes, offsets and enum values in the order that `interface_numbers` in emulator.rs has them.
extern "C" size_t probe_interface(int64_t *numbers, size_t capacity) {
  const int64_t all[] = {
      sizeof(contrastive_matrix),
      offsetof(contrastive_matrix, data),
      offsetof(contrastive_matrix, row_stride),
      offsetof(contrastive_matrix, column_stride),
      sizeof(contrastive_pairs),
      offsetof(contrastive_pairs, a),
      offsetof(contrastive_pairs, b),
      offsetof(contrastive_pairs, same),
      offsetof(contrastive_pairs, pairs),
      offsetof(contrastive_pairs, dim),
      offsetof(contrastive_pairs, type),
      offsetof(contrastive_pairs, label_type),
      offsetof(contrastive_pairs, variant),
      offsetof(contrastive_pairs, reduction),
      offsetof(contrastive_pairs, margin),
      offsetof(contrastive_pairs, normalised),
      sizeof(contrastive_rows),
      offsetof(contrastive_rows, embeddings),
      offsetof(contrastive_rows, labels),
      offsetof(contrastive_rows, rows),
      sizeof(contrastive_batch),
      offsetof(contrastive_batch, rows),
      offsetof(contrastive_batch, others),
      offsetof(contrastive_batch, dim),
      offsetof(contrastive_batch, type),
      offsetof(contrastive_batch, variant),
      offsetof(contrastive_batch, reduction),
      offsetof(contrastive_batch, balanced),
      offsetof(contrastive_batch, normalised),
      offsetof(contrastive_batch, miner),
      offsetof(contrastive_batch, negatives),
      offsetof(contrastive_batch, width),
      offsetof(contrastive_batch, margin),
      CONTRASTIVE_F16,
      CONTRASTIVE_BF16,
      CONTRASTIVE_F32,
      CONTRASTIVE_F64,
      CONTRASTIVE_U8,
      CONTRASTIVE_U32,
      CONTRASTIVE_HADSELL,
      CONTRASTIVE_LEGACY,
      CONTRASTIVE_SQUARED,
      CONTRASTIVE_EXPONENTIAL_L1,
      CONTRASTIVE_EXPONENTIAL_L2,
      CONTRASTIVE_MEAN,
      CONTRASTIVE_SUM,
      CONTRASTIVE_NONE,
      CONTRASTIVE_IN_BATCH_MEAN,
      CONTRASTIVE_IN_BATCH_MEAN_NON_ZERO,
      CONTRASTIVE_IN_BATCH_SUM,
      CONTRASTIVE_ALL,
      CONTRASTIVE_HARD,
      CONTRASTIVE_SEMI_HARD,
      CONTRASTIVE_HARDEST,
  };
  const size_t count = sizeof all / sizeof *all;
  for (size_t i = 0; i < count && i < capacity; i++) numbers[i] = all[i];
  return count;
}

extern "C" void probe_energy(int32_t variant, double s, bool similar, double m, double *loss,
                             double *slope) {
  const Energy<double> energy = loss_and_slope(variant, s, similar, m);
  *loss = energy.loss;
  *slope = energy.slope;
}

extern "C" uint16_t probe_half(double x) { return __double2half(x).bits; }
extern "C" uint16_t probe_bfloat16(double x) { return __double2bfloat16(x).bits; }
extern "C" float probe_from_half(uint16_t bits) { return __half2float({bits}); }
extern "C" float probe_from_bfloat16(uint16_t bits) { return __bfloat162float({bits}); }

// ---- the emulator ----

extern "C" void probe_thread_order(uint64_t order) { cuda_on_cpu::thread_order(order); }
extern "C" const char *probe_error_message() { return cuda_on_cpu::error_message(); }

namespace {

constexpr unsigned ALL = 0xffffffffu;

// Sums 64 numbers across two warps through shared memory.
__global__ void with_barrier(float *out, bool first, bool second) {
  SHARED_MEMORY(memory);
  float *shared = reinterpret_cast<float *>(memory);
  for (int round = 0; round < 2; round++) {
    shared[threadIdx.x] = static_cast<float>(threadIdx.x * (round + 1));
    if (first) __syncthreads();
    out[round * 64 + threadIdx.x] = shared[63 - threadIdx.x];
    if (second) __syncthreads();
  }
}

__global__ void shuffles(int *out) {
  const int lane = threadIdx.x % 32;
  out[0 * 32 + lane] = __shfl_sync(ALL, lane, 5);
  out[1 * 32 + lane] = __shfl_sync(ALL, lane, 3, 8);
  out[2 * 32 + lane] = __shfl_up_sync(ALL, lane, 2, 16);
  out[3 * 32 + lane] = __shfl_down_sync(ALL, lane, 3, 8);
  out[4 * 32 + lane] = __shfl_xor_sync(ALL, lane, 16);
  out[5 * 32 + lane] = __shfl_xor_sync(ALL, lane, 9, 8);
  // Half a warp at a time.
  out[6 * 32 + lane] = lane < 16 ? __shfl_xor_sync(0xffffu, lane, 1) : -1;
}

__global__ void divergent_barrier(int *) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void barrier_after_end(int *) {
  if (threadIdx.x == 3) return;
  __syncthreads();
}

__global__ void missing_lane(int *out) {
  if (threadIdx.x % 32 != 7) *out = __shfl_sync(ALL, 1, 0);
}

__global__ void not_in_own_mask(int *out) { *out = __shfl_sync(0x1u, 1, 0); }

__global__ void reads_beyond_the_warp(int *out) { *out = __shfl_xor_sync(ALL, 1, 32, 64); }

__global__ void reads_outside_the_mask(int *out) {
  if (threadIdx.x < 16) *out = __shfl_xor_sync(0xffffu, 1, 16);
}

__global__ void two_shuffles_at_once(int *out) {
  if (threadIdx.x % 2) {
    *out = __shfl_sync(ALL, 1, 0);
  } else {
    *out = __shfl_sync(ALL, 2, 0);
  }
}

__global__ void misaligned(int *out) {
  at_once<Pack<int, 2>>(out + 1) = {{1, 2}};
}

__global__ void read_shared(float *out) {
  SHARED_MEMORY(memory);
  *out = *reinterpret_cast<float *>(memory);
}

__global__ void where(unsigned *out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.count() + thread] += 1 + thread;
}

} // namespace

extern "C" int32_t probe_barriers(float *out, bool first, bool second) {
  LAUNCH(with_barrier, 1, 64, 64 * sizeof(float), nullptr)(out, first, second);
  return cudaGetLastError();
}

extern "C" int32_t probe_shuffles(int *out) {
  LAUNCH(shuffles, 1, 32, 0, nullptr)(out);
  return cudaGetLastError();
}

extern "C" int32_t probe_mistake(int which, int *out) {
  void (*const mistakes[])(int *) = {
      divergent_barrier,     barrier_after_end,      missing_lane,         not_in_own_mask,
      reads_beyond_the_warp, reads_outside_the_mask, two_shuffles_at_once,
      misaligned,
  };
  LAUNCH(mistakes[which], 1, 64, 0, nullptr)(out);
  return cudaGetLastError();
}

extern "C" int32_t probe_shared(float *out) {
  LAUNCH(read_shared, 1, 1, sizeof(float), nullptr)(out);
  return cudaGetLastError();
}

extern "C" int32_t probe_where(unsigned *out, unsigned block) {
  LAUNCH(where, dim3(3, 4, 5), dim3(block, 2, 2), 0, nullptr)(out);
  return cudaGetLastError();
}
