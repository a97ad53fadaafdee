// What emulator_probe.h declares.

#include "emulator_probe.h"

#include "element.cuh"
#include "energy.cuh"

// ---- the formulas ----

void probe_energy(int32_t variant, double s, bool similar, double m, double *loss, double *slope) {
  const Energy<double> energy = loss_and_slope(variant, s, similar, m);
  *loss = energy.loss;
  *slope = energy.slope;
}

uint16_t probe_half(double x) { return __double2half(x).bits; }
uint16_t probe_bfloat16(double x) { return __double2bfloat16(x).bits; }
float probe_from_half(uint16_t bits) { return __half2float({bits}); }
float probe_from_bfloat16(uint16_t bits) { return __bfloat162float({bits}); }

// ---- the emulator ----

void probe_thread_order(uint64_t order) { cuda_on_cpu::thread_order(order); }
const char *probe_error_message() { return cuda_on_cpu::error_message(); }

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

int32_t probe_barriers(float *out, bool first, bool second) {
  LAUNCH(with_barrier, 1, 64, 64 * sizeof(float), nullptr)(out, first, second);
  return cudaGetLastError();
}

int32_t probe_shuffles(int32_t *out) {
  LAUNCH(shuffles, 1, 32, 0, nullptr)(out);
  return cudaGetLastError();
}

int32_t probe_mistake(int32_t which, int32_t *out) {
  void (*const mistakes[])(int *) = {
      divergent_barrier,     barrier_after_end,      missing_lane,         not_in_own_mask,
      reads_beyond_the_warp, reads_outside_the_mask, two_shuffles_at_once,
      misaligned,
  };
  LAUNCH(mistakes[which], 1, 64, 0, nullptr)(out);
  return cudaGetLastError();
}

int32_t probe_shared(float *out) {
  LAUNCH(read_shared, 1, 1, sizeof(float), nullptr)(out);
  return cudaGetLastError();
}

int32_t probe_where(uint32_t *out, uint32_t block) {
  LAUNCH(where, dim3(3, 4, 5), dim3(block, 2, 2), 0, nullptr)(out);
  return cudaGetLastError();
}
