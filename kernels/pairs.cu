/* The contrastive loss over given pairs, forward and backward.
 *
 * Both are bound by memory: forward reads a and b once, backward reads them once and writes as
 * much. A team of threads takes a pair (team.cuh). Each thread of it loads up to STEPS packs of a
 * and of b before it uses any, so that enough bytes are under way, and backward keeps the
 * differences in registers until the slope is known. The team grows until a row fits into its
 * registers; rows too long for a block's (more than 4096 components of f32) are read twice by
 * backward, the second time mostly from cache. With embeddings of length 1 (UNIT, length.cuh) the
 * team reads its rows twice more, for their lengths.
 *
 * The loss of all pairs is reduced in f64: a sum a block, over pairs that depend on the shape
 * alone, then one block adds these sums. Only the order of additions fixes the bits, and it is
 * always the same; there are no atomics.
 */
#include "contrastive.h"
#include "element.cuh"
#include "energy.cuh"
#include "launch.cuh"
#include "length.cuh"
#include "team.cuh"

namespace {

/* Packs of each side that a thread has under way: at most 16 differences, which leaves registers
 * for 768 threads a multiprocessor. With 4 x 16 bytes x 2 sides these ask for 96 KiB at once, above
 * the 40 KiB that latency x bandwidth of an H100 needs. */
template <int V>
constexpr int STEPS = V > 4 ? 16 / V : 4;

constexpr int BLOCKS_PER_MULTIPROCESSOR = 3;

/* Blocks of a grid, at most; more pairs are taken in turns. About eight waves on an H100, whose 132
 * multiprocessors have registers for 3 or 4 blocks each, and few enough sums for one block. It must
 * not depend on the device, or the loss's bits would. */
constexpr int64_t MAX_BLOCKS = 4096;

/* What a pair's two sides have each: one over the length, or the gradient's part along the row. */
struct Sides {
  double a;
  double b;
};

/* a - b at STEPS packs of a row, a team's width apart. */
template <class S, int V, bool UNIT>
struct Tile {
  Wide<S> differences[STEPS<V>][V];
  __device__ Wide<S> difference(int step, int k) const { return differences[step][k]; }
};

/* With both sides, which have length 1. */
template <class S, int V>
struct Tile<S, V, true> {
  Wide<S> a[STEPS<V>][V];
  Wide<S> b[STEPS<V>][V];
  __device__ Wide<S> difference(int step, int k) const { return a[step][k] - b[step][k]; }
};

/* Reads the packs first, first + team, .. of pair i; 0 where the row has ended. */
template <class S, int V, bool UNIT>
__device__ inline Tile<S, V, UNIT> read(const contrastive_pairs &pairs, Sides inverse, int64_t i,
                                        int64_t first, int team, int64_t packs) {
  Pack<S, V> a[STEPS<V>] = {};
  Pack<S, V> b[STEPS<V>] = {};
#pragma unroll
  for (int step = 0; step < STEPS<V>; step++) {
    const int64_t v = first + step * team;
    if (v < packs) {
      a[step] = pack<S, V>(pairs.a, i, v);
      b[step] = pack<S, V>(pairs.b, i, v);
    }
  }
  Tile<S, V, UNIT> tile;
#pragma unroll
  for (int step = 0; step < STEPS<V>; step++) {
#pragma unroll
    for (int k = 0; k < V; k++) {
      if constexpr (UNIT) {
        tile.a[step][k] = static_cast<Wide<S>>(unit<S>(a[step].element[k], inverse.a));
        tile.b[step][k] = static_cast<Wide<S>>(unit<S>(b[step].element[k], inverse.b));
      } else {
        tile.differences[step][k] =
            Element<S>::widen(a[step].element[k]) - Element<S>::widen(b[step].element[k]);
      }
    }
  }
  return tile;
}

template <class S, int V, bool UNIT>
__device__ inline Wide<S> sum(const Tile<S, V, UNIT> &tile, Norm norm) {
  Wide<S> sum = 0;
#pragma unroll
  for (int step = 0; step < STEPS<V>; step++) {
#pragma unroll
    for (int k = 0; k < V; k++) sum += term(norm, tile.difference(step, k));
  }
  return sum;
}

/* Adds what the tile has of g.u over the slope, u a row of length 1 and g its gradient. */
template <class S, int V>
__device__ inline void add_along(const Tile<S, V, true> &tile, Norm norm, Sides &along) {
#pragma unroll
  for (int step = 0; step < STEPS<V>; step++) {
#pragma unroll
    for (int k = 0; k < V; k++) {
      const double g = direction(norm, tile.difference(step, k));
      along.a += g * tile.a[step][k];
      along.b -= g * tile.b[step][k];
    }
  }
}

/* Writes the gradients of both sides at the places that `tile` was read from. */
template <class S, int V, bool UNIT>
__device__ inline void write(const Tile<S, V, UNIT> &tile, Norm norm, Wide<S> slope, Sides along,
                             Sides inverse, S *of_a, S *of_b, int64_t first, int team,
                             int64_t packs) {
#pragma unroll
  for (int step = 0; step < STEPS<V>; step++) {
    const int64_t v = first + step * team;
    if (v >= packs) continue;
    Pack<S, V> a;
    Pack<S, V> b;
#pragma unroll
    for (int k = 0; k < V; k++) {
      const Wide<S> gradient = slope * direction(norm, tile.difference(step, k));
      if constexpr (UNIT) {
        a.element[k] = Element<S>::narrow(
            through_length(gradient, slope * along.a, tile.a[step][k], inverse.a));
        b.element[k] = Element<S>::narrow(
            through_length(-gradient, slope * along.b, tile.b[step][k], inverse.b));
      } else {
        a.element[k] = Element<S>::narrow(gradient);
        b.element[k] = Element<S>::narrow(-gradient);
      }
    }
    at_once<Pack<S, V>>(of_a + v * V) = a;
    at_once<Pack<S, V>>(of_b + v * V) = b;
  }
}

/* One over the lengths of pair i; every thread of the block must call it. */
template <class S>
__device__ inline Sides inverse_lengths(const contrastive_pairs &pairs, int64_t i, bool active,
                                        int lane, int team) {
  return {inverse_length<S>(pairs.a, i, pairs.dim, active, lane, team),
          inverse_length<S>(pairs.b, i, pairs.dim, active, lane, team)};
}

/* Loss and slope of pair i. */
template <class T>
__device__ inline Energy<T> energy(const contrastive_pairs &pairs, int64_t i, T s) {
  const Label same = label(pairs, i);
  if (same == Label::invalid) return {T(NAN), T(NAN)};
  return loss_and_slope(pairs.variant, s, same == Label::similar, T(pairs.margin));
}

template <class S>
__device__ inline void write_total(const contrastive_pairs &pairs, double sum, S *loss) {
  if (pairs.reduction == CONTRASTIVE_MEAN) sum /= static_cast<double>(pairs.pairs);
  *loss = Element<S>::narrow(sum);
}

/* The losses into `loss` without a reduction; else their sums into `partial`, one a block, or if
 * there is but one block, the result into `loss`. */
template <class S, int V, bool UNIT>
__global__ void __launch_bounds__(BLOCK, UNIT ? 1 : BLOCKS_PER_MULTIPROCESSOR)
    pairs_forward(contrastive_pairs pairs, int team, S *loss, double *partial) {
  const int teams = BLOCK / team;
  const int lane = threadIdx.x % team;
  const Norm norm = norm_of(pairs.variant);
  const int64_t packs = pairs.dim / V;
  double total = 0;
  for (int64_t base = int64_t(blockIdx.x) * teams; base < pairs.pairs;
       base += int64_t(gridDim.x) * teams) {
    const int64_t i = base + threadIdx.x / team;
    const bool active = i < pairs.pairs;
    Sides inverse = {};
    if constexpr (UNIT) inverse = inverse_lengths<S>(pairs, i, active, lane, team);
    Wide<S> s = 0;
    if (active) {
      for (int64_t first = lane; first < packs; first += STEPS<V> * team) {
        s += sum(read<S, V, UNIT>(pairs, inverse, i, first, team, packs), norm);
      }
    }
    s = team_sum(s, team);
    if (active && lane == 0) {
      const Wide<S> of_pair = energy(pairs, i, s).loss;
      if (pairs.reduction == CONTRASTIVE_NONE) loss[i] = Element<S>::narrow(of_pair);
      total += of_pair;
    }
  }
  if (pairs.reduction == CONTRASTIVE_NONE) return;
  total = team_sum(total, BLOCK);
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1) {
    write_total(pairs, total, loss);
  } else {
    partial[blockIdx.x] = total;
  }
}

/* Adds the sums of all blocks; a grid of one. */
template <class S>
__global__ void __launch_bounds__(BLOCK)
    pairs_total(contrastive_pairs pairs, const double *partial, int blocks, S *loss) {
  double total = 0;
  for (int block = threadIdx.x; block < blocks; block += BLOCK) total += partial[block];
  total = team_sum(total, BLOCK);
  if (threadIdx.x == 0) write_total(pairs, total, loss);
}

template <class S, int V, bool UNIT>
__global__ void __launch_bounds__(BLOCK, UNIT ? 1 : BLOCKS_PER_MULTIPROCESSOR)
    pairs_backward(contrastive_pairs pairs, contrastive_matrix grad_output, int team,
                   S *gradients) {
  const int teams = BLOCK / team;
  const int lane = threadIdx.x % team;
  const Norm norm = norm_of(pairs.variant);
  const int64_t packs = pairs.dim / V;
  const int span = STEPS<V> * team;
  const Wide<S> scale =
      pairs.reduction == CONTRASTIVE_MEAN ? Wide<S>(1.0 / static_cast<double>(pairs.pairs)) : 1;
  for (int64_t base = int64_t(blockIdx.x) * teams; base < pairs.pairs;
       base += int64_t(gridDim.x) * teams) {
    const int64_t i = base + threadIdx.x / team;
    const bool active = i < pairs.pairs;
    Wide<S> s = 0;
    Sides along = {};
    Sides inverse = {};
    if constexpr (UNIT) inverse = inverse_lengths<S>(pairs, i, active, lane, team);
    Tile<S, V, UNIT> tile = {};
    if (active) {
      /* From the end, so that the row's first tile is the one still in registers. */
      for (int64_t start = (packs - 1) / span * span; start >= 0; start -= span) {
        tile = read<S, V, UNIT>(pairs, inverse, i, start + lane, team, packs);
        s += sum(tile, norm);
        if constexpr (UNIT) add_along(tile, norm, along);
      }
    }
    s = team_sum(s, team);
    if constexpr (UNIT) along = {team_sum(along.a, team), team_sum(along.b, team)};
    if (!active) continue;
    const Wide<S> grad_loss = Element<S>::widen(element<S>(grad_output, i, 0)) * scale;
    const Wide<S> slope = energy(pairs, i, s).slope * grad_loss;
    S *of_a = gradients + i * pairs.dim;
    S *of_b = gradients + (pairs.pairs + i) * pairs.dim;
    for (int64_t start = 0; start < packs; start += span) {
      if (start > 0) tile = read<S, V, UNIT>(pairs, inverse, i, start + lane, team, packs);
      write(tile, norm, slope, along, inverse, of_a, of_b, start + lane, team, packs);
    }
  }
}

/* How a launch shares out the work. */
struct Plan {
  bool packed; /* 16 bytes at a time, else an element */
  int team;
  int blocks;
};

template <class S>
Plan plan(const contrastive_pairs &pairs, bool output_packed) {
  Plan plan;
  plan.packed = output_packed && pairs.dim % PACK<S> == 0 && packed<S>(pairs.a) && packed<S>(pairs.b);
  const int64_t packs = plan.packed ? pairs.dim / PACK<S> : pairs.dim;
  const int steps = plan.packed ? STEPS<PACK<S>> : STEPS<1>;
  /* First as wide as a cache line (8 x 16 bytes), then several packs a thread. */
  plan.team = 1;
  while (plan.team < WARP && plan.team * (plan.team < 8 ? 1 : steps) < packs) plan.team *= 2;
  if (plan.team * steps < packs) plan.team = BLOCK;
  const int64_t teams = BLOCK / plan.team;
  const int64_t blocks = (pairs.pairs + teams - 1) / teams;
  plan.blocks = static_cast<int>(blocks < MAX_BLOCKS ? blocks : MAX_BLOCKS);
  return plan;
}

template <class S>
struct Forward {
  static int32_t run(const contrastive_pairs &pairs, void *loss, void *workspace, void *stream) {
    const Plan chosen = plan<S>(pairs, true);
    S *out = static_cast<S *>(loss);
    double *partial = static_cast<double *>(workspace);
    const auto as_given = chosen.packed ? pairs_forward<S, PACK<S>, false> : pairs_forward<S, 1, false>;
    const auto of_units = chosen.packed ? pairs_forward<S, PACK<S>, true> : pairs_forward<S, 1, true>;
    const auto kernel = pairs.normalised ? of_units : as_given;
    last_kernel = "pairs_forward";
    LAUNCH(kernel, chosen.blocks, BLOCK, TEAM_BYTES, stream)(pairs, chosen.team, out, partial);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess || pairs.reduction == CONTRASTIVE_NONE || chosen.blocks == 1) {
      return error;
    }
    last_kernel = "pairs_total";
    LAUNCH(pairs_total<S>, 1, BLOCK, TEAM_BYTES, stream)(pairs, partial, chosen.blocks, out);
    return cudaGetLastError();
  }
};

template <class S>
struct Backward {
  static int32_t run(const contrastive_pairs &pairs, const contrastive_matrix &grad_output,
                     void *gradients, void *stream) {
    /* dim is a multiple of the pack where packs are used, so only the start can be off. */
    const Plan chosen = plan<S>(pairs, reinterpret_cast<uintptr_t>(gradients) % 16 == 0);
    const auto as_given = chosen.packed ? pairs_backward<S, PACK<S>, false> : pairs_backward<S, 1, false>;
    const auto of_units = chosen.packed ? pairs_backward<S, PACK<S>, true> : pairs_backward<S, 1, true>;
    const auto kernel = pairs.normalised ? of_units : as_given;
    last_kernel = "pairs_backward";
    LAUNCH(kernel, chosen.blocks, BLOCK, TEAM_BYTES, stream)(pairs, grad_output, chosen.team,
                                                             static_cast<S *>(gradients));
    return cudaGetLastError();
  }
};

template <class S>
struct Workspace {
  static int64_t run(const contrastive_pairs &pairs) {
    return plan<S>(pairs, true).blocks * static_cast<int64_t>(sizeof(double));
  }
};

bool valid(const contrastive_pairs &pairs) {
  return pairs.pairs >= 1 && pairs.dim >= 1 && pairs.label_type >= CONTRASTIVE_F16 &&
         pairs.label_type <= CONTRASTIVE_U32 && is_variant(pairs.variant) &&
         pairs.reduction >= CONTRASTIVE_MEAN && pairs.reduction <= CONTRASTIVE_NONE;
}

} // namespace

int64_t contrastive_workspace_bytes(const contrastive_pairs *pairs) {
  if (!valid(*pairs) || pairs->reduction == CONTRASTIVE_NONE) return 0;
  return for_type<Workspace>(pairs->type, int64_t(0), *pairs);
}

int32_t contrastive_forward(const contrastive_pairs *pairs, void *loss, void *workspace,
                            void *stream) {
  if (!valid(*pairs)) return cudaErrorInvalidValue;
  return for_type<Forward>(pairs->type, int32_t(cudaErrorInvalidValue), *pairs, loss, workspace,
                           stream);
}

int32_t contrastive_backward(const contrastive_pairs *pairs, contrastive_matrix grad_output,
                             void *gradients, void *stream) {
  if (!valid(*pairs)) return cudaErrorInvalidValue;
  return for_type<Backward>(pairs->type, int32_t(cudaErrorInvalidValue), *pairs, grad_output,
                            gradients, stream);
}

const char *contrastive_last_kernel(void) { return last_kernel; }
