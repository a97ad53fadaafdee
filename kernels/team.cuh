/* Teams: the threads of a block that add up one number together. A team is 1, 2, 4, .. 32
 * neighbouring lanes of a warp, or the whole block. */
#pragma once

#include "launch.cuh"

/* Threads of a block, in every kernel. */
constexpr int BLOCK = 256;
constexpr int WARP = 32;

/* Shared memory that team_sum needs. */
constexpr int TEAM_BYTES = BLOCK / WARP * sizeof(double);

/* The sum of `value` over the caller's team, in an order that depends on the team's size alone; all
 * members get the same bits, since both partners of an exchange add the same two numbers. Every
 * thread of the block must call it. */
template <class T>
__device__ inline T team_sum(T value, int team) {
  for (int apart = (team < WARP ? team : WARP) / 2; apart > 0; apart /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, apart);
  }
  if (team <= WARP) return value;
  SHARED_MEMORY(memory);
  T *of_warp = reinterpret_cast<T *>(memory);
  if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = value;
  __syncthreads();
  T sum = of_warp[0];
  for (int warp = 1; warp < BLOCK / WARP; warp++) sum += of_warp[warp];
  /* The next sum writes where this one is still read. */
  __syncthreads();
  return sum;
}
