/* The loss of one pair and its derivative: the only place on the GPU that knows the formulas, the
 * twin of crates/loss-kernel/src/energy.rs, in its notation and order. A test compares the two.
 *
 * A pair's loss depends on a - b only through one number s, so its gradient is that of s times a
 * scalar, the slope:
 *
 *   norm   s                  d         dloss/da_k = -dloss/db_k
 *   L2     sum (a_k - b_k)^2  sqrt(s)   slope * (a_k - b_k)
 *   L1     sum |a_k - b_k|    s         slope * sign(a_k - b_k)
 */
#pragma once

#include <cmath>

#include "contrastive.h"
#include "launch.cuh"

enum class Norm { L1, L2 };

inline bool is_variant(int32_t variant) { return variant >= 0 && variant < CONTRASTIVE_VARIANTS; }

__host__ __device__ inline Norm norm_of(int32_t variant) {
  return variant == CONTRASTIVE_EXPONENTIAL_L1 ? Norm::L1 : Norm::L2;
}

/* What a component adds to s. */
template <class T>
__host__ __device__ inline T term(Norm norm, T difference) {
  return norm == Norm::L1 ? std::fabs(difference) : difference * difference;
}

/* A component's gradient over the slope. The sign of 0 is 0, of NaN NaN. */
template <class T>
__host__ __device__ inline T direction(Norm norm, T difference) {
  if (norm == Norm::L2) return difference;
  return difference > 0 ? T(1) : difference < 0 ? T(-1) : difference;
}

/* max(gap, 0), except that a NaN stays one: a network that has diverged must be seen. */
template <class T>
__host__ __device__ inline T hinge(T gap) {
  return gap <= 0 ? T(0) : gap;
}

template <class T>
struct Energy {
  T loss;
  T slope;
};

/* Loss and slope of one pair, from s and the margin m. The hinges are strict: at d = m a dissimilar
 * pair has slope 0. So it has at d = 0, where the distance has no derivative. */
template <class T>
__host__ __device__ inline Energy<T> loss_and_slope(int32_t variant, T s, bool similar, T m) {
  const T half = T(0.5);
  switch (static_cast<contrastive_variant>(variant)) {
  case CONTRASTIVE_HADSELL:
    if (similar) return {half * s, T(1)};
    {
      const T d = std::sqrt(s);
      const T gap = hinge(m - d);
      return {half * gap * gap, d > 0 ? -gap / d : T(0)};
    }
  case CONTRASTIVE_LEGACY:
    if (similar) return {half * s, T(1)};
    {
      const T gap = hinge(m - s);
      return {half * gap, gap > 0 ? T(-1) : T(0)};
    }
  case CONTRASTIVE_SQUARED:
    if (similar) return {half * s, T(1)};
    {
      const T gap = hinge(m - s);
      return {half * gap * gap, T(-2) * gap};
    }
  case CONTRASTIVE_EXPONENTIAL_L1:
  case CONTRASTIVE_EXPONENTIAL_L2: {
    const bool l1 = norm_of(variant) == Norm::L1;
    if (similar && l1) return {T(2) / m * s * s, T(4) / m * s};
    if (similar) return {T(2) / m * s, T(4) / m};
    const T rate = T(2.77);
    const T d = l1 ? s : std::sqrt(s);
    const T decay = std::exp(-rate / m * d);
    const T derivative = T(-2) * rate * decay;
    return {T(2) * m * decay, l1 ? derivative : d > 0 ? derivative / d : T(0)};
  }
  case CONTRASTIVE_VARIANTS: break;
  }
  return {T(NAN), T(NAN)};
}
