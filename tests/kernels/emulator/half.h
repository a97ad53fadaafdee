/* CUDA's two 16-bit floats for the CPU, with conversions rounded to nearest, ties to even. */
#pragma once

#include <cstdint>
#include <cstring>

struct __half {
  uint16_t bits;
};

struct __nv_bfloat16 {
  uint16_t bits;
};

namespace cuda_on_cpu {

/* The 16 bits of the float with MANTISSA stored bits and MIN_EXPONENT for its least normal number
 * that is nearest to `x`. */
template <int MANTISSA, int MIN_EXPONENT>
uint16_t nearest(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint16_t sign = bits >> 63 << 15;
  const uint16_t infinity = 0x7fff >> MANTISSA << MANTISSA;
  if (x != x) return sign | infinity | 1 << (MANTISSA - 1);
  const int exponent = static_cast<int>(bits >> 52 & 0x7ff) - 1023;
  const uint64_t mantissa = (bits & ((uint64_t(1) << 52) - 1)) | uint64_t(1) << 52;
  const bool normal = exponent >= MIN_EXPONENT;
  const int dropped = 52 - MANTISSA + (normal ? 0 : MIN_EXPONENT - exponent);
  if (dropped > 53) return sign; /* below half of the least number */
  uint64_t kept = mantissa >> dropped;
  const uint64_t rest = mantissa & ((uint64_t(1) << dropped) - 1);
  const uint64_t tie = uint64_t(1) << (dropped - 1);
  if (rest > tie || (rest == tie && (kept & 1))) kept++;
  /* A normal number's leading bit adds 1 to the exponent's field, and so does a carry. */
  if (normal) kept += static_cast<uint64_t>(exponent - MIN_EXPONENT) << MANTISSA;
  return sign | static_cast<uint16_t>(kept < infinity ? kept : infinity);
}

template <int MANTISSA, int MIN_EXPONENT>
float value(uint16_t bits) {
  const uint32_t sign = uint32_t(bits >> 15) << 31;
  const uint32_t field = (bits & 0x7fff) >> MANTISSA;
  uint32_t mantissa = bits & ((1 << MANTISSA) - 1);
  float result;
  if (field == 0) {
    /* Subnormal: mantissa * 2^(MIN_EXPONENT - MANTISSA), exact in float. */
    result = static_cast<float>(mantissa * __builtin_ldexp(1.0, MIN_EXPONENT - MANTISSA));
    return sign ? -result : result;
  }
  const bool finite = field != 0x7fffu >> MANTISSA;
  const uint32_t wide = finite ? field + 126 + MIN_EXPONENT : 255;
  const uint32_t all = sign | wide << 23 | mantissa << (23 - MANTISSA);
  memcpy(&result, &all, sizeof result);
  return result;
}

} // namespace cuda_on_cpu

inline float __half2float(__half x) { return cuda_on_cpu::value<10, -14>(x.bits); }
inline __half __float2half(float x) { return {cuda_on_cpu::nearest<10, -14>(x)}; }
inline __half __double2half(double x) { return {cuda_on_cpu::nearest<10, -14>(x)}; }

inline float __bfloat162float(__nv_bfloat16 x) { return cuda_on_cpu::value<7, -126>(x.bits); }
inline __nv_bfloat16 __float2bfloat16(float x) { return {cuda_on_cpu::nearest<7, -126>(x)}; }
inline __nv_bfloat16 __double2bfloat16(double x) { return {cuda_on_cpu::nearest<7, -126>(x)}; }
