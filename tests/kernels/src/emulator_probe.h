/* What the tests ask of the kernels' code beside the C interface: the Rust declarations of both are
 * made of this file by build.rs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "contrastive.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Loss and slope of a pair. */
void probe_energy(int32_t variant, double s, bool similar, double m, double *loss, double *slope);

/* Sizes, offsets and numbers of the C interface; how many there are. */
size_t probe_interface(int64_t *numbers, size_t capacity);

/* Conversions of the emulated half types. */
uint16_t probe_half(double x);
uint16_t probe_bfloat16(double x);
float probe_from_half(uint16_t bits);
float probe_from_bfloat16(uint16_t bits);

/* 0 ascending, 1 descending, else the seed of a random order, of threads, warps and blocks. */
void probe_thread_order(uint64_t order);

/* Why the emulator refused the last launch. */
const char *probe_error_message(void);

/* Kernels that try the emulator. */
int32_t probe_barriers(float *out, bool first, bool second);
int32_t probe_shuffles(int32_t *out);
int32_t probe_mistake(int32_t which, int32_t *out);
int32_t probe_shared(float *out);
int32_t probe_where(uint32_t *out, uint32_t block);

#ifdef __cplusplus
}
#endif
