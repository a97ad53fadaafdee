/* Teams: the threads of a block that add up one number together. A team is 1, 2, 4, .. 32
 * neighbouring lanes of a warp, or the whole block. */
#pragma once

#include "launch.cuh"

/* Threads of a block, in every kernel. */
constexpr int BLOCK = 256;
constexpr int WARP = 32;

/* Shared memory that team_fold needs. */
constexpr int TEAM_BYTES = BLOCK / WARP * sizeof(double);

/* The values of the caller's team folded into one, in an order that depends on the team's size
 * alone; all members get the same bits if `fold` takes its two numbers in either order, since both
 * partners of an exchange fold the same two. Every thread of the block must call it. */
template <class T, class Fold>
__device__ inline T team_fold(T value, int team, Fold fold) {
  for (int apart = (team < WARP ? team : WARP) / 2; apart > 0; apart /= 2) {
    value = fold(value, __shfl_xor_sync(0xffffffffu, value, apart));
  }
  if (team <= WARP) return value;
  SHARED_MEMORY(memory);
  T *of_warp = reinterpret_cast<T *>(memory);
  if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = value;
  __syncthreads();
  T all = of_warp[0];
  for (int warp = 1; warp < BLOCK / WARP; warp++) all = fold(all, of_warp[warp]);
  /* The next fold writes where this one is still read. */
  __syncthreads();
  return all;
}

template <class T>
__device__ inline T team_sum(T value, int team) {
  return team_fold(value, team, [](T x, T y) { return x + y; });
}

/* Of numbers that are not NaN. */
template <class T>
__device__ inline T team_max(T value, int team) {
  return team_fold(value, team, [](T x, T y) { return y > x ? y : x; });
}
