/* The C interface of the CUDA kernels, and its only text: bindgen makes the crate's declarations of
 * it, and tests/kernels/build.rs those of the tests.
 *
 * Every function queues its work on `stream` (a cudaStream_t) and returns at once: a cudaError_t,
 * 0 for success, of the launch. None waits for the device, copies to the host or allocates.
 */
#ifndef CONTRASTIVE_H
#define CONTRASTIVE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Element types. Labels may be of any of them, embeddings of the floats. */
enum contrastive_type {
  CONTRASTIVE_F16 = 0,
  CONTRASTIVE_BF16 = 1,
  CONTRASTIVE_F32 = 2,
  CONTRASTIVE_F64 = 3,
  CONTRASTIVE_U8 = 4,
  CONTRASTIVE_U32 = 5,
};

/* In the order of energy.rs. Their formulas are in energy.cuh, which does not compile without one. */
enum contrastive_variant {
  CONTRASTIVE_HADSELL,
  CONTRASTIVE_LEGACY,
  CONTRASTIVE_SQUARED,
  CONTRASTIVE_EXPONENTIAL_L1,
  CONTRASTIVE_EXPONENTIAL_L2,
  CONTRASTIVE_VARIANTS, /* how many there are */
};

enum contrastive_reduction {
  CONTRASTIVE_MEAN = 0,
  CONTRASTIVE_SUM = 1,
  CONTRASTIVE_NONE = 2,
};

/* A matrix on the device with any strides, counted in elements: element (i, k) is
 * data[i * row_stride + k * column_stride]. A vector has column_stride 0. */
struct contrastive_matrix {
  const void *data;
  int64_t row_stride;
  int64_t column_stride;
};

/* A batch and its loss. */
struct contrastive_pairs {
  struct contrastive_matrix a;    /* (pairs, dim), of `type` */
  struct contrastive_matrix b;    /* (pairs, dim), of `type` */
  struct contrastive_matrix same; /* (pairs,), of `label_type`: 1 similar, 0 dissimilar; any other
                                     value makes the pair's loss and gradient NaN, since an error
                                     would have to wait for the device */
  int64_t pairs;                  /* 1 to 2^31 */
  int64_t dim;                    /* at least 1 */
  int32_t type;                   /* enum contrastive_type */
  int32_t label_type;             /* enum contrastive_type */
  int32_t variant;                /* enum contrastive_variant */
  int32_t reduction;              /* enum contrastive_reduction */
  double margin;
  int32_t normalised;             /* whether each embedding is divided by its length */
};

/* Bytes of device memory that contrastive_forward needs in `workspace`; 0 for no reduction. */
int64_t contrastive_workspace_bytes(const struct contrastive_pairs *pairs);

/* Writes the loss: one element of `type`, or (pairs,) with CONTRASTIVE_NONE. `workspace` is aligned
 * to 16 bytes. The same bits for the same input. */
int32_t contrastive_forward(const struct contrastive_pairs *pairs, void *loss, void *workspace,
                            void *stream);

/* Writes the gradients of both sides, (2, pairs, dim) of `type`, in one launch. `grad_output` is the
 * gradient of the loss, of its shape and type; a scalar has row_stride 0. */
int32_t contrastive_backward(const struct contrastive_pairs *pairs,
                             struct contrastive_matrix grad_output, void *gradients, void *stream);

/* The loss over all pairs of a batch, or of all pairs of a row and one of `others`. */

enum contrastive_in_batch_reduction {
  CONTRASTIVE_IN_BATCH_MEAN = 0,
  CONTRASTIVE_IN_BATCH_MEAN_NON_ZERO = 1,
  CONTRASTIVE_IN_BATCH_SUM = 2,
};

/* In the order of miner.rs. */
enum contrastive_miner {
  CONTRASTIVE_ALL = 0,
  CONTRASTIVE_HARD = 1,
  CONTRASTIVE_SEMI_HARD = 2,
  CONTRASTIVE_HARDEST = 3,
};

/* Embeddings and their classes. */
struct contrastive_rows {
  struct contrastive_matrix embeddings; /* (rows, dim), of the batch's `type` */
  const int64_t *labels;                /* (rows,), contiguous */
  int64_t rows;                         /* 1 to 2^24 */
};

struct contrastive_batch {
  struct contrastive_rows rows;   /* the anchors of the miners */
  struct contrastive_rows others; /* 0 rows: the pairs i < j of `rows` */
  int64_t dim;                    /* at least 1 */
  int32_t type;                   /* enum contrastive_type */
  int32_t variant;                /* enum contrastive_variant */
  int32_t reduction;              /* enum contrastive_in_batch_reduction */
  int32_t balanced;               /* whether both kinds of pairs weigh the same */
  int32_t normalised;             /* whether each embedding is divided by its length */
  int32_t miner;                  /* enum contrastive_miner */
  int32_t negatives;              /* of CONTRASTIVE_HARDEST, 1 to 255 */
  double width;                   /* of CONTRASTIVE_SEMI_HARD, in units of the distance */
  double margin;
};

/* Bytes of device memory for `workspace`; 0 where the batch is not valid. */
int64_t contrastive_in_batch_workspace_bytes(const struct contrastive_batch *batch);

/* Writes the loss, one element of `type`, and into `workspace`, aligned to 16 bytes, what the
 * backward pass needs. The same bits for the same input. */
int32_t contrastive_in_batch_forward(const struct contrastive_batch *batch, void *loss,
                                     void *workspace, void *stream);

/* Writes the gradient of `rows`, or `of_others`, by row, in f64 for f64 and in f32 else. `workspace`
 * is that of the forward pass of the same batch; `grad_output` is one element of `type`. */
int32_t contrastive_in_batch_backward(const struct contrastive_batch *batch,
                                      struct contrastive_matrix grad_output, int32_t of_others,
                                      void *gradient, const void *workspace, void *stream);

/* The name of the kernel that the last call on this thread launched, for error messages. */
const char *contrastive_last_kernel(void);

#ifdef __cplusplus
}
#endif

#endif
