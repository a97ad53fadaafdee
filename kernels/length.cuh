/* Embeddings of length 1, x / |x|, and the gradient through the division: for both losses, and the
 * twin of what the CPU has. Whatever distance is no function of a - b belongs here: the cosine of
 * two embeddings is 1 - s / 2, where s is the squared distance of the two of length 1. */
#pragma once

#include <cmath>

#include "element.cuh"
#include "launch.cuh"
#include "team.cuh"

/* One over the length of row `i`, or 0 where that is no number. All members of the team get it; every
 * thread of the block must call it, `active` where there is a row. Squares of what is at most 1
 * cannot overflow. */
template <class S>
__device__ inline double inverse_length(const contrastive_matrix &matrix, int64_t i, int64_t dim,
                                        bool active, int lane, int team) {
  const auto size = [&](int64_t k) {
    return std::fabs(static_cast<double>(Element<S>::widen(element<S>(matrix, i, k))));
  };
  double largest = 0;
  double sum = 0;
  if (active) {
    for (int64_t k = lane; k < dim; k += team) {
      const double x = size(k);
      largest = x > largest ? x : largest;
      sum += x;
    }
  }
  largest = team_max(largest, team);
  sum = team_sum(sum, team);
  double squares = 0;
  if (active) {
    for (int64_t k = lane; k < dim; k += team) {
      const double x = size(k) / largest;
      squares += x * x;
    }
  }
  squares = team_sum(squares, team);
  /* The smallest normal number. The sum, unlike the largest, keeps a NaN. */
  return sum < 0x1p-1022 ? 0 : 1 / (largest * std::sqrt(squares));
}

/* A component of the row divided by its length. */
template <class S>
__device__ inline double unit(S x, double inverse) {
  return static_cast<double>(Element<S>::widen(x)) * inverse;
}

/* A component of `(g - (g.u) u) / |x|`, the gradient of x, from that of u = x / |x|; `along` is g.u.
 * A row of zeros gets 0. */
__device__ inline double through_length(double g, double along, double unit, double inverse) {
  return (g - along * unit) * inverse;
}
