/* The contrastive loss over all pairs of a batch, or over all pairs of two, forward and backward.
 *
 * Pairs are computed in tiles of 64 x 64, 4 x 4 of them a thread; the components pass through shared
 * memory in slabs. Distances are sums over differences, two operations a component, so that none is
 * lost to cancellation. No matrix of pairs is kept: the workspace grows with the number of rows.
 *
 * Forward visits each unordered pair once and adds losses and counts in f64 and integers, a sum a
 * block, over tiles that depend on the shape alone; one block adds these. Backward gives each block
 * 64 rows, whose gradient it alone adds up over all tiles beside them: each pair is computed twice,
 * once for either end, and the bits have but one order of additions. There are no atomics.
 */
#include <cmath>
#include <type_traits>

#include "contrastive.h"
#include "element.cuh"
#include "energy.cuh"
#include "launch.cuh"
#include "length.cuh"
#include "team.cuh"

namespace {

constexpr int TILE = 64;

/* Pairs of a thread: EDGE rows and EDGE columns. */
constexpr int EDGE = 4;
constexpr int ACROSS = TILE / EDGE;
static_assert(ACROSS * ACROSS == BLOCK, "the block's threads cover a tile");

/* From component to component of a slab, and from row to row of a tile's slopes: a multiple of 16
 * bytes that spreads neighbours over the banks. */
constexpr int PITCH = TILE + 4;

/* Components of a slab. */
template <class T>
constexpr int SLAB = 64 / sizeof(T);

/* Rows of which a thread has one component of the gradient in hand. */
template <class T>
constexpr int OWNED = TILE * SLAB<T> / BLOCK;

/* Of the sums; it must not depend on the device, or the loss's bits would. */
constexpr int64_t MAX_BLOCKS = 4096;

constexpr int64_t MAX_ROWS = int64_t(1) << 24;

/* First of similar, then of dissimilar pairs. */
struct Totals {
  double losses[2];
  int64_t pairs[2];    /* that the miner keeps */
  int64_t positive[2]; /* of these, those whose loss is not 0 */
};

/* What an anchor selects, as bounds of s, themselves left out. */
template <class T>
struct Limits {
  T similar_above;
  T dissimilar_above;
  T dissimilar_below;
};

/* One side of the tiles. */
template <class T>
struct Side {
  contrastive_rows rows;
  const double *inverse_lengths; /* null: as they came */
  const Limits<T> *limits;       /* null: no anchors */
};

template <class T>
struct Tiles {
  Side<T> left;
  Side<T> right;
  bool within; /* both sides are one batch */
  int64_t dim;
  int32_t variant;
  T margin;
};

/* Where a tile lies. */
struct Place {
  int64_t row;
  int64_t column;
};

__host__ __device__ inline int64_t tiles_of(int64_t rows) { return (rows + TILE - 1) / TILE; }

/* ---- shared memory ---- */

/* What a block shares, behind what team_sum needs. */
template <class T>
struct Shared {
  T left[SLAB<T> * PITCH];
  T right[SLAB<T> * PITCH];
  T pairs[TILE * PITCH]; /* s or slopes, by row */
};

template <class T>
constexpr int SHARED_BYTES = TEAM_BYTES + sizeof(Shared<T>);

template <class T>
__device__ inline Shared<T> &shared() {
  SHARED_MEMORY(memory);
  return *reinterpret_cast<Shared<T> *>(memory + TEAM_BYTES);
}

/* Four neighbours, in accesses of 16 bytes. */
template <class T>
__device__ inline void read_four(const T *from, T (&to)[EDGE]) {
#pragma unroll
  for (int at = 0; at < EDGE; at += PACK<T>) {
    const Pack<T, PACK<T>> pack = at_once<const Pack<T, PACK<T>>>(from + at);
#pragma unroll
    for (int k = 0; k < PACK<T>; k++) to[at + k] = pack.element[k];
  }
}

/* Component k of a row, divided by the row's length where asked; 0 outside. */
template <class S>
__device__ inline Wide<S> component(const Side<Wide<S>> &side, int64_t dim, int64_t row, int64_t k) {
  if (row >= side.rows.rows || k >= dim) return 0;
  const S x = element<S>(side.rows.embeddings, row, k);
  if (!side.inverse_lengths) return Element<S>::widen(x);
  return static_cast<Wide<S>>(unit<S>(x, side.inverse_lengths[row]));
}

/* The components from `start` on of a tile's rows, by component. */
template <class S>
__device__ inline void load(const Side<Wide<S>> &side, int64_t dim, int64_t row, int64_t start,
                            Wide<S> *slab) {
  constexpr int WIDTH = SLAB<Wide<S>>;
  for (int at = threadIdx.x; at < TILE * WIDTH; at += BLOCK) {
    const int k = at % WIDTH;
    slab[k * PITCH + at / WIDTH] = component<S>(side, dim, row + at / WIDTH, start + k);
  }
}

/* ---- a tile's pairs ---- */

__device__ inline int first_row() { return threadIdx.x / ACROSS * EDGE; }
__device__ inline int first_column() { return threadIdx.x % ACROSS * EDGE; }

/* Adds the slab's part to s of the caller's pairs. It is added up by itself, which shortens the chain
 * of roundings. The norm is a constant, since every operation counts here. */
template <Norm NORM, class T>
__device__ inline void add_slab(const Shared<T> &memory, T (&s)[EDGE][EDGE]) {
  T part[EDGE][EDGE] = {};
#pragma unroll
  for (int k = 0; k < SLAB<T>; k++) {
    T a[EDGE];
    T b[EDGE];
    read_four(memory.left + k * PITCH + first_row(), a);
    read_four(memory.right + k * PITCH + first_column(), b);
#pragma unroll
    for (int r = 0; r < EDGE; r++) {
#pragma unroll
      for (int c = 0; c < EDGE; c++) part[r][c] += term(NORM, a[r] - b[c]);
    }
  }
#pragma unroll
  for (int r = 0; r < EDGE; r++) {
#pragma unroll
    for (int c = 0; c < EDGE; c++) s[r][c] += part[r][c];
  }
}

/* s of the caller's pairs. */
template <class S>
__device__ inline void separate(const Tiles<Wide<S>> &tiles, Place place, Wide<S> (&s)[EDGE][EDGE]) {
  using T = Wide<S>;
  Shared<T> &memory = shared<T>();
  const Norm norm = norm_of(tiles.variant);
#pragma unroll
  for (int r = 0; r < EDGE; r++) {
#pragma unroll
    for (int c = 0; c < EDGE; c++) s[r][c] = 0;
  }
  for (int64_t start = 0; start < tiles.dim; start += SLAB<T>) {
    /* Until here the last slab, or what came before, may be read. */
    __syncthreads();
    load<S>(tiles.left, tiles.dim, place.row, start, memory.left);
    load<S>(tiles.right, tiles.dim, place.column, start, memory.right);
    __syncthreads();
    if (norm == Norm::L1) {
      add_slab<Norm::L1>(memory, s);
    } else {
      add_slab<Norm::L2>(memory, s);
    }
  }
}

template <class T>
__device__ inline bool is_pair(const Tiles<T> &tiles, int64_t row, int64_t column) {
  return row < tiles.left.rows.rows && column < tiles.right.rows.rows &&
         !(tiles.within && row == column);
}

template <class T>
__device__ inline bool is_similar(const Tiles<T> &tiles, int64_t row, int64_t column) {
  return tiles.left.rows.labels[row] == tiles.right.rows.labels[column];
}

template <class T>
__device__ inline bool selects(const Side<T> &side, int64_t anchor, T s, bool similar) {
  if (!side.limits) return false;
  const Limits<T> limits = side.limits[anchor];
  if (similar) return s > limits.similar_above;
  return limits.dissimilar_above < s && s < limits.dissimilar_below;
}

/* Whether the miner keeps the pair: one whose s is NaN always. */
template <class T>
__device__ inline bool keeps(const Tiles<T> &tiles, int64_t row, int64_t column, T s, bool similar) {
  if (!tiles.left.limits && !tiles.right.limits) return true;
  return s != s || selects(tiles.left, row, s, similar) || selects(tiles.right, column, s, similar);
}

/* ---- lengths ---- */

/* One over the length of each row: a warp a row. */
template <class S>
__global__ void __launch_bounds__(BLOCK)
    in_batch_lengths(contrastive_rows rows, int64_t dim, double *inverse_lengths) {
  const int64_t row = int64_t(blockIdx.x) * (BLOCK / WARP) + threadIdx.x / WARP;
  const int lane = threadIdx.x % WARP;
  const bool active = row < rows.rows;
  const double inverse = inverse_length<S>(rows.embeddings, row, dim, active, lane, WARP);
  if (active && lane == 0) inverse_lengths[row] = inverse;
}

/* ---- miners ---- */

__device__ inline float next_up(float x) { return nextafterf(x, INFINITY); }
__device__ inline double next_up(double x) { return nextafter(x, double(INFINITY)); }

struct Mining {
  int32_t miner;
  int32_t negatives;
  double width;
};

template <class T>
__device__ inline Limits<T> limits_of(const Mining &mining, Norm norm, T farthest_similar,
                                      T nearest_dissimilar, T last_of_hardest) {
  const T infinity = INFINITY;
  switch (mining.miner) {
  case CONTRASTIVE_HARD: return {nearest_dissimilar, -infinity, farthest_similar};
  case CONTRASTIVE_SEMI_HARD: {
    if (farthest_similar == -infinity) return {-infinity, -infinity, -infinity};
    const T width = static_cast<T>(mining.width);
    if (norm == Norm::L1) return {-infinity, farthest_similar, farthest_similar + width};
    const T upper = std::sqrt(farthest_similar) + width;
    return {-infinity, farthest_similar, upper * upper};
  }
  default: return {-infinity, -infinity, next_up(last_of_hardest)};
  }
}

/* What each row selects. `hardest` has room for `negatives` a row: the nearest so far, ascending. */
template <class S>
__global__ void __launch_bounds__(BLOCK)
    in_batch_limits(Tiles<Wide<S>> tiles, Mining mining, Wide<S> *hardest, Limits<Wide<S>> *limits) {
  using T = Wide<S>;
  Shared<T> &memory = shared<T>();
  const int64_t start = int64_t(blockIdx.x) * TILE;
  const int64_t row = start + threadIdx.x;
  const bool anchor = threadIdx.x < TILE && row < tiles.left.rows.rows;
  const int negatives = mining.miner == CONTRASTIVE_HARDEST ? mining.negatives : 0;
  T *nearest = hardest + row * negatives;
  T farthest_similar = -INFINITY;
  T nearest_dissimilar = INFINITY;
  for (int n = 0; anchor && n < negatives; n++) nearest[n] = INFINITY;
  for (int64_t column = 0; column < tiles.right.rows.rows; column += TILE) {
    T s[EDGE][EDGE];
    separate<S>(tiles, {start, column}, s);
#pragma unroll
    for (int r = 0; r < EDGE; r++) {
#pragma unroll
      for (int c = 0; c < EDGE; c++) {
        memory.pairs[(first_row() + r) * PITCH + first_column() + c] = s[r][c];
      }
    }
    __syncthreads();
    for (int c = 0; anchor && c < TILE; c++) {
      if (!is_pair(tiles, row, column + c)) continue;
      const T s = memory.pairs[threadIdx.x * PITCH + c];
      if (is_similar(tiles, row, column + c)) {
        if (s > farthest_similar) farthest_similar = s;
        continue;
      }
      if (s < nearest_dissimilar) nearest_dissimilar = s;
      if (negatives == 0 || !(s < nearest[negatives - 1])) continue;
      int n = negatives - 1;
      for (; n > 0 && nearest[n - 1] > s; n--) nearest[n] = nearest[n - 1];
      nearest[n] = s;
    }
  }
  if (!anchor) return;
  limits[row] = limits_of(mining, norm_of(tiles.variant), farthest_similar, nearest_dissimilar,
                          negatives > 0 ? nearest[negatives - 1] : T(INFINITY));
}

/* ---- forward ---- */

/* How many tiles there are for the sums. Within a batch each tile of rows meets itself and the half of
 * the tiles that follow it around a circle, so that all rows of tiles are equally long. */
template <class T>
__host__ __device__ inline int64_t tiles_per_row(const Tiles<T> &tiles) {
  const int64_t columns = tiles_of(tiles.right.rows.rows);
  return tiles.within ? columns / 2 + 1 : columns;
}

template <class S>
__global__ void __launch_bounds__(BLOCK, sizeof(Wide<S>) == 4 ? 3 : 1)
    in_batch_forward(Tiles<Wide<S>> tiles, Totals *partial) {
  using T = Wide<S>;
  const int64_t rows = tiles_of(tiles.left.rows.rows);
  const int64_t per_row = tiles_per_row(tiles);
  Totals totals = {};
  for (int64_t tile = blockIdx.x; tile < rows * per_row; tile += gridDim.x) {
    const int64_t i = tile / per_row;
    int64_t j = tile % per_row;
    if (tiles.within) {
      /* The tile opposite on the circle is met once. */
      if (2 * j == rows && i >= j) continue;
      j = (i + j) % rows;
    }
    const Place place = {i * TILE, j * TILE};
    T s[EDGE][EDGE];
    separate<S>(tiles, place, s);
#pragma unroll
    for (int r = 0; r < EDGE; r++) {
#pragma unroll
      for (int c = 0; c < EDGE; c++) {
        const int64_t row = place.row + first_row() + r;
        const int64_t column = place.column + first_column() + c;
        if (!is_pair(tiles, row, column)) continue;
        if (tiles.within && i == j && row > column) continue;
        const bool similar = is_similar(tiles, row, column);
        if (!keeps(tiles, row, column, s[r][c], similar)) continue;
        const T loss = loss_and_slope(tiles.variant, s[r][c], similar, tiles.margin).loss;
        const bool positive = loss > 0 || loss != loss;
        /* No array with a changing index: it would leave the registers. */
        totals.losses[0] += similar ? static_cast<double>(loss) : 0;
        totals.losses[1] += similar ? 0 : static_cast<double>(loss);
        totals.pairs[0] += similar;
        totals.pairs[1] += !similar;
        totals.positive[0] += similar && positive;
        totals.positive[1] += !similar && positive;
      }
    }
  }
  for (int kind = 0; kind < 2; kind++) {
    totals.losses[kind] = team_sum(totals.losses[kind], BLOCK);
    totals.pairs[kind] = team_sum(totals.pairs[kind], BLOCK);
    totals.positive[kind] = team_sum(totals.positive[kind], BLOCK);
  }
  if (threadIdx.x == 0) partial[blockIdx.x] = totals;
}

/* Adds the sums of all blocks, and writes the loss and by what the slopes of each kind of pair are
 * multiplied; a grid of one. The twin of `Totals::factors` in reduction.rs. */
template <class S>
__global__ void __launch_bounds__(BLOCK)
    in_batch_total(int32_t reduction, int32_t balanced, const Totals *partial, int blocks,
                   double *factors, S *loss) {
  Totals totals = {};
  for (int block = threadIdx.x; block < blocks; block += BLOCK) {
    for (int kind = 0; kind < 2; kind++) {
      totals.losses[kind] += partial[block].losses[kind];
      totals.pairs[kind] += partial[block].pairs[kind];
      totals.positive[kind] += partial[block].positive[kind];
    }
  }
  double counted[2];
  for (int kind = 0; kind < 2; kind++) {
    totals.losses[kind] = team_sum(totals.losses[kind], BLOCK);
    totals.pairs[kind] = team_sum(totals.pairs[kind], BLOCK);
    totals.positive[kind] = team_sum(totals.positive[kind], BLOCK);
    counted[kind] = static_cast<double>(reduction == CONTRASTIVE_IN_BATCH_MEAN_NON_ZERO
                                            ? totals.positive[kind]
                                            : totals.pairs[kind]);
  }
  if (threadIdx.x != 0) return;
  const double all = counted[0] + counted[1];
  const double share = reduction == CONTRASTIVE_IN_BATCH_SUM ? 1 : 1 / (all > 1 ? all : 1);
  double value = 0;
  for (int kind = 0; kind < 2; kind++) {
    const double of_kind = counted[kind] > 1 ? counted[kind] : 1;
    factors[kind] = balanced ? share * all / (2 * of_kind) : share;
    value += factors[kind] * totals.losses[kind];
  }
  *loss = Element<S>::narrow(value);
}

/* ---- backward ---- */

/* The slopes of the caller's pairs into shared memory; whether one of them is not 0. */
template <class T>
__device__ inline bool write_slopes(const Tiles<T> &tiles, Place place, const T (&s)[EDGE][EDGE],
                                    const T (&factors)[2], T *slopes) {
  bool sloped = false;
#pragma unroll
  for (int r = 0; r < EDGE; r++) {
#pragma unroll
    for (int c = 0; c < EDGE; c++) {
      const int64_t row = place.row + first_row() + r;
      const int64_t column = place.column + first_column() + c;
      T slope = 0;
      if (is_pair(tiles, row, column)) {
        const bool similar = is_similar(tiles, row, column);
        if (keeps(tiles, row, column, s[r][c], similar)) {
          slope = loss_and_slope(tiles.variant, s[r][c], similar, tiles.margin).slope *
                  (similar ? factors[0] : factors[1]);
        }
      }
      sloped = sloped || slope != 0;
      slopes[(first_row() + r) * PITCH + first_column() + c] = slope;
    }
  }
  return sloped;
}

/* Adds to the gradient of component k of the rows from `mine` on what the tile's pairs make it. */
template <Norm NORM, class T>
__device__ inline void add_directions(const Shared<T> &memory, int k, int mine,
                                      T (&sum)[OWNED<T>]) {
  T a[OWNED<T>];
#pragma unroll
  for (int r = 0; r < OWNED<T>; r++) a[r] = memory.left[k * PITCH + mine + r];
  for (int j = 0; j < TILE; j += EDGE) {
    T b[EDGE];
    read_four(memory.right + k * PITCH + j, b);
#pragma unroll
    for (int r = 0; r < OWNED<T>; r++) {
      T slopes[EDGE];
      read_four(memory.pairs + (mine + r) * PITCH + j, slopes);
#pragma unroll
      for (int c = 0; c < EDGE; c++) sum[r] += slopes[c] * direction(NORM, a[r] - b[c]);
    }
  }
}

/* Turns the gradient of rows of length 1 into that of the rows themselves, multiplied by the
 * gradient of the output: a warp a row. */
template <class S>
__device__ inline void finish(const Tiles<Wide<S>> &tiles, int64_t start, double grad_output,
                              Wide<S> *gradient) {
  using T = Wide<S>;
  const Side<T> &side = tiles.left;
  const int lane = threadIdx.x % WARP;
  for (int at = threadIdx.x / WARP; at < TILE; at += BLOCK / WARP) {
    const int64_t row = start + at;
    /* The same for the whole warp. */
    if (row >= side.rows.rows) break;
    T *of_row = gradient + row * tiles.dim;
    const double inverse = side.inverse_lengths ? side.inverse_lengths[row] : 1;
    const auto of_unit = [&](int64_t k) {
      return unit<S>(element<S>(side.rows.embeddings, row, k), inverse);
    };
    double along = 0;
    if (side.inverse_lengths) {
      for (int64_t k = lane; k < tiles.dim; k += WARP) {
        along += static_cast<double>(of_row[k]) * of_unit(k);
      }
      along = team_sum(along, WARP);
    }
    for (int64_t k = lane; k < tiles.dim; k += WARP) {
      double g = static_cast<double>(of_row[k]);
      if (side.inverse_lengths) g = through_length(g, along, of_unit(k), inverse);
      of_row[k] = static_cast<T>(g * grad_output);
    }
  }
}

template <class S>
__global__ void __launch_bounds__(BLOCK, sizeof(Wide<S>) == 4 ? 3 : 1)
    in_batch_backward(Tiles<Wide<S>> tiles, const double *factors, contrastive_matrix grad_output,
                      Wide<S> *gradient) {
  using T = Wide<S>;
  Shared<T> &memory = shared<T>();
  const Norm norm = norm_of(tiles.variant);
  const T of_kind[2] = {static_cast<T>(factors[0]), static_cast<T>(factors[1])};
  const int64_t start = int64_t(blockIdx.x) * TILE;
  /* Of a slab's component k, the rows from `mine` on. */
  const int k = threadIdx.x % SLAB<T>;
  const int mine = threadIdx.x / SLAB<T> * OWNED<T>;
  const auto add = [&](int64_t component, int r, T sum, bool first) {
    const int64_t row = start + mine + r;
    if (component >= tiles.dim || row >= tiles.left.rows.rows) return;
    T &of = gradient[row * tiles.dim + component];
    of = first ? sum : of + sum;
  };
  for (int64_t column = 0; column < tiles.right.rows.rows; column += TILE) {
    T s[EDGE][EDGE];
    separate<S>(tiles, {start, column}, s);
    const bool sloped = write_slopes(tiles, {start, column}, s, of_kind, memory.pairs);
    /* Nothing to add, as where all are beyond the margin; the first tile writes its zeros. */
    if (team_sum<int>(sloped, BLOCK) == 0 && column > 0) continue;
    for (int64_t slab = 0; slab < tiles.dim; slab += SLAB<T>) {
      __syncthreads();
      load<S>(tiles.left, tiles.dim, start, slab, memory.left);
      load<S>(tiles.right, tiles.dim, column, slab, memory.right);
      __syncthreads();
      T sum[OWNED<T>] = {};
      if (norm == Norm::L1) {
        add_directions<Norm::L1>(memory, k, mine, sum);
      } else {
        add_directions<Norm::L2>(memory, k, mine, sum);
      }
#pragma unroll
      for (int r = 0; r < OWNED<T>; r++) add(slab + k, r, sum[r], column == 0);
    }
  }
  /* The block's own rows, by other threads. */
  __syncthreads();
  finish<S>(tiles, start, static_cast<double>(Element<S>::widen(element<S>(grad_output, 0, 0))),
            gradient);
}

/* ---- host ---- */

/* The workspace's parts, in bytes from its start. */
struct Layout {
  int64_t factors;
  int64_t lengths;
  int64_t lengths_of_others;
  int64_t limits;
  int64_t hardest;
  int64_t partial;
  int64_t bytes;
};

template <class T>
Layout layout(const contrastive_batch &batch) {
  Layout layout;
  int64_t end = 0;
  const auto part = [&](int64_t bytes) {
    const int64_t start = end;
    end = (end + bytes + 15) / 16 * 16;
    return start;
  };
  const int64_t rows = batch.rows.rows;
  const int64_t word = sizeof(double);
  layout.factors = part(2 * word);
  layout.lengths = part(batch.normalised ? rows * word : 0);
  layout.lengths_of_others = part(batch.normalised ? batch.others.rows * word : 0);
  layout.limits = part(batch.miner == CONTRASTIVE_ALL ? 0 : rows * int64_t(sizeof(Limits<T>)));
  layout.hardest = part(batch.miner == CONTRASTIVE_HARDEST
                            ? rows * batch.negatives * int64_t(sizeof(T))
                            : 0);
  layout.partial = part(MAX_BLOCKS * int64_t(sizeof(Totals)));
  layout.bytes = end;
  return layout;
}

template <class T, class Byte>
auto at(Byte *workspace, int64_t offset) {
  if constexpr (std::is_const_v<Byte>) {
    return reinterpret_cast<const T *>(workspace + offset);
  } else {
    return reinterpret_cast<T *>(workspace + offset);
  }
}

template <class T>
Tiles<T> tiles_of(const contrastive_batch &batch, const unsigned char *workspace) {
  const Layout parts = layout<T>(batch);
  const auto lengths = [&](int64_t offset) {
    return batch.normalised ? at<double>(workspace, offset) : nullptr;
  };
  Tiles<T> tiles;
  tiles.within = batch.others.rows == 0;
  tiles.left = {batch.rows, lengths(parts.lengths), nullptr};
  tiles.right = tiles.within ? tiles.left
                             : Side<T>{batch.others, lengths(parts.lengths_of_others), nullptr};
  tiles.dim = batch.dim;
  tiles.variant = batch.variant;
  tiles.margin = static_cast<T>(batch.margin);
  return tiles;
}

/* With the limits that the forward pass has found. */
template <class T>
void select(Tiles<T> &tiles, const contrastive_batch &batch, const unsigned char *workspace) {
  if (batch.miner == CONTRASTIVE_ALL) return;
  tiles.left.limits = at<Limits<T>>(workspace, layout<T>(batch).limits);
  if (tiles.within) tiles.right.limits = tiles.left.limits;
}

template <class S>
struct InBatchForward {
  static int32_t run(const contrastive_batch &batch, void *loss, void *memory, void *stream) {
    using T = Wide<S>;
    unsigned char *workspace = static_cast<unsigned char *>(memory);
    const Layout parts = layout<T>(batch);
    Tiles<T> tiles = tiles_of<T>(batch, workspace);
    const auto measure = [&](const contrastive_rows &rows, int64_t offset) -> cudaError_t {
      if (!batch.normalised || rows.rows == 0) return cudaSuccess;
      last_kernel = "in_batch_lengths";
      const int64_t in_block = BLOCK / WARP;
      LAUNCH(in_batch_lengths<S>, static_cast<unsigned>((rows.rows + in_block - 1) / in_block), BLOCK,
             TEAM_BYTES, stream)(rows, batch.dim, at<double>(workspace, offset));
      return cudaGetLastError();
    };
    cudaError_t error = measure(batch.rows, parts.lengths);
    if (error == cudaSuccess) error = measure(batch.others, parts.lengths_of_others);
    if (error != cudaSuccess) return error;
    if (batch.miner != CONTRASTIVE_ALL) {
      last_kernel = "in_batch_limits";
      const Mining mining = {batch.miner, batch.negatives, batch.width};
      LAUNCH(in_batch_limits<S>, static_cast<unsigned>(tiles_of(batch.rows.rows)), BLOCK,
             SHARED_BYTES<T>, stream)(tiles, mining, at<T>(workspace, parts.hardest),
                                      at<Limits<T>>(workspace, parts.limits));
      error = cudaGetLastError();
      if (error != cudaSuccess) return error;
      select(tiles, batch, workspace);
    }
    const int64_t count = tiles_of(batch.rows.rows) * tiles_per_row(tiles);
    const int blocks = static_cast<int>(count < MAX_BLOCKS ? count : MAX_BLOCKS);
    Totals *partial = at<Totals>(workspace, parts.partial);
    last_kernel = "in_batch_forward";
    LAUNCH(in_batch_forward<S>, blocks, BLOCK, SHARED_BYTES<T>, stream)(tiles, partial);
    error = cudaGetLastError();
    if (error != cudaSuccess) return error;
    last_kernel = "in_batch_total";
    LAUNCH(in_batch_total<S>, 1, BLOCK, TEAM_BYTES, stream)(
        batch.reduction, batch.balanced, partial, blocks, at<double>(workspace, parts.factors),
        static_cast<S *>(loss));
    return cudaGetLastError();
  }
};

template <class S>
struct InBatchBackward {
  static int32_t run(const contrastive_batch &batch, const contrastive_matrix &grad_output,
                     bool of_others, void *gradient, const void *memory, void *stream) {
    using T = Wide<S>;
    const unsigned char *workspace = static_cast<const unsigned char *>(memory);
    Tiles<T> tiles = tiles_of<T>(batch, workspace);
    select(tiles, batch, workspace);
    if (of_others) {
      const Side<T> left = tiles.left;
      tiles.left = tiles.right;
      tiles.right = left;
    }
    last_kernel = "in_batch_backward";
    LAUNCH(in_batch_backward<S>, static_cast<unsigned>(tiles_of(tiles.left.rows.rows)), BLOCK,
           SHARED_BYTES<T>, stream)(tiles, at<double>(workspace, layout<T>(batch).factors),
                                    grad_output, static_cast<T *>(gradient));
    return cudaGetLastError();
  }
};

template <class S>
struct InBatchWorkspace {
  static int64_t run(const contrastive_batch &batch) { return layout<Wide<S>>(batch).bytes; }
};

bool valid(const contrastive_batch &batch) {
  const auto rows = [](int64_t rows, int64_t least) { return rows >= least && rows <= MAX_ROWS; };
  return rows(batch.rows.rows, 1) && rows(batch.others.rows, 0) && batch.dim >= 1 &&
         is_variant(batch.variant) && batch.reduction >= CONTRASTIVE_IN_BATCH_MEAN &&
         batch.reduction <= CONTRASTIVE_IN_BATCH_SUM && batch.miner >= CONTRASTIVE_ALL &&
         batch.miner <= CONTRASTIVE_HARDEST &&
         (batch.miner != CONTRASTIVE_HARDEST || (batch.negatives >= 1 && batch.negatives <= 255));
}

} // namespace

int64_t contrastive_in_batch_workspace_bytes(const contrastive_batch *batch) {
  if (!valid(*batch)) return 0;
  return for_type<InBatchWorkspace>(batch->type, int64_t(0), *batch);
}

int32_t contrastive_in_batch_forward(const contrastive_batch *batch, void *loss, void *workspace,
                                     void *stream) {
  if (!valid(*batch)) return cudaErrorInvalidValue;
  return for_type<InBatchForward>(batch->type, int32_t(cudaErrorInvalidValue), *batch, loss,
                                  workspace, stream);
}

int32_t contrastive_in_batch_backward(const contrastive_batch *batch, contrastive_matrix grad_output,
                                      int32_t of_others, void *gradient, const void *workspace,
                                      void *stream) {
  if (!valid(*batch) || (of_others && batch->others.rows == 0)) return cudaErrorInvalidValue;
  return for_type<InBatchBackward>(batch->type, int32_t(cudaErrorInvalidValue), *batch, grad_output,
                                   of_others != 0, gradient, workspace, stream);
}
