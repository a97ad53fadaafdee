/* Element types: what they are read as, and how they are read and written. */
#pragma once

#include <cstdint>

#include "contrastive.h"
#include "launch.cuh"

/* The type that sums over an element type are taken in, with the conversions from and to it. The
 * second `narrow` rounds a loss summed in f64, once. */
template <class S>
struct Element;

template <>
struct Element<__half> {
  using Wide = float;
  __device__ static float widen(__half x) { return __half2float(x); }
  __device__ static __half narrow(float x) { return __float2half(x); }
  __device__ static __half narrow(double x) { return __double2half(x); }
};

template <>
struct Element<__nv_bfloat16> {
  using Wide = float;
  __device__ static float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
  __device__ static __nv_bfloat16 narrow(float x) { return __float2bfloat16(x); }
  __device__ static __nv_bfloat16 narrow(double x) { return __double2bfloat16(x); }
};

template <>
struct Element<float> {
  using Wide = float;
  __device__ static float widen(float x) { return x; }
  __device__ static float narrow(float x) { return x; }
  __device__ static float narrow(double x) { return static_cast<float>(x); }
};

template <>
struct Element<double> {
  using Wide = double;
  __device__ static double widen(double x) { return x; }
  __device__ static double narrow(double x) { return x; }
};

template <class S>
using Wide = typename Element<S>::Wide;

/* V elements that are read and written at once. */
template <class S, int V>
struct alignas(V * sizeof(S)) Pack {
  S element[V];
};

/* How many elements the widest access, of 16 bytes, takes. */
template <class S>
constexpr int PACK = 16 / sizeof(S);

template <class S>
__device__ inline S element(const contrastive_matrix &matrix, int64_t i, int64_t k) {
  return static_cast<const S *>(matrix.data)[i * matrix.row_stride + k * matrix.column_stride];
}

/* The pack `v` of row `i`; of more than one element only where `packed` allows it. */
template <class S, int V>
__device__ inline Pack<S, V> pack(const contrastive_matrix &matrix, int64_t i, int64_t v) {
  if constexpr (V == 1) return {{element<S>(matrix, i, v)}};
  const S *row = static_cast<const S *>(matrix.data) + i * matrix.row_stride;
  return at_once<const Pack<S, V>>(row + v * V);
}

/* Whether every row of `matrix` can be read in packs of 16 bytes. */
template <class S>
bool packed(const contrastive_matrix &matrix) {
  return reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0 &&
         matrix.row_stride % PACK<S> == 0 && matrix.column_stride == 1;
}

/* Operation<S>::run for the embeddings' type S; `otherwise` if they have none of these. */
template <template <class> class Operation, class Result, class... Arguments>
Result for_type(int32_t type, Result otherwise, const Arguments &...arguments) {
  switch (type) {
  case CONTRASTIVE_F16: return Operation<__half>::run(arguments...);
  case CONTRASTIVE_BF16: return Operation<__nv_bfloat16>::run(arguments...);
  case CONTRASTIVE_F32: return Operation<float>::run(arguments...);
  case CONTRASTIVE_F64: return Operation<double>::run(arguments...);
  default: return otherwise;
  }
}

enum class Label { dissimilar, similar, invalid };

template <class L>
__device__ inline Label label_of(L value) {
  return value == L(1) ? Label::similar : value == L(0) ? Label::dissimilar : Label::invalid;
}

__device__ inline Label label(const contrastive_pairs &pairs, int64_t i) {
  switch (pairs.label_type) {
  case CONTRASTIVE_F16: return label_of(__half2float(element<__half>(pairs.same, i, 0)));
  case CONTRASTIVE_BF16:
    return label_of(__bfloat162float(element<__nv_bfloat16>(pairs.same, i, 0)));
  case CONTRASTIVE_F32: return label_of(element<float>(pairs.same, i, 0));
  case CONTRASTIVE_F64: return label_of(element<double>(pairs.same, i, 0));
  case CONTRASTIVE_U8: return label_of(element<uint8_t>(pairs.same, i, 0));
  case CONTRASTIVE_U32: return label_of(element<uint32_t>(pairs.same, i, 0));
  default: return Label::invalid;
  }
}
