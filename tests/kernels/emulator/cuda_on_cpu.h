/* Compiles the kernels with a C++17 compiler and runs them on the CPU, for tests.
 *
 * The threads of a block are fibers on one thread of the operating system, switched where they wait
 * for each other: __syncthreads, warp shuffles. A warp runs on until all its lanes wait at a barrier
 * or have ended, and only then the next one, so that a warp is as far ahead of the others as the
 * barriers allow: where one is missing, a thread reads what is not written yet or written too early.
 * Threads, warps and blocks run in ascending, descending or random order (`thread_order`); a kernel
 * is right only if its bits do not depend on it.
 *
 * A launch fails, with a message in `error_message`, where on a device it would hang, be undefined or
 * nearly always be a mistake: threads of a block at different barriers, or some ended before one;
 * lanes of a warp at different shuffles, a lane outside its own mask, a read from a lane that does
 * not take part; a wide access (`at_once`) to a misaligned address. Shared memory has exactly the size of
 * the launch (so that AddressSanitizer sees its ends) and starts each block full of NaN.
 *
 * Not modelled: memory ordering, the speed of anything, blocks that run at once, atomics, static
 * __shared__ variables (SHARED_MEMORY declares dynamic ones), textures, tensor cores. Launches are
 * synchronous and streams ignored. State is per thread of the operating system.
 *
 * Fibers start with makecontext and switch with setjmp and longjmp, as QEMU's coroutines do: it
 * works wherever ucontext.h does, costs no system call, and AddressSanitizer has annotations for it.
 * Compile with -U_FORTIFY_SOURCE, which takes a jump to another stack for an overflow.
 */
#pragma once

#include <algorithm>
#include <csetjmp>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <ucontext.h>
#include <utility>
#include <vector>

#include "half.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__ static
#define __device__
#define __host__
#define __launch_bounds__(...)

#define SHARED_MEMORY(name) unsigned char *const name = cuda_on_cpu::machine->shared.get()
#define LAUNCH(kernel, grid, block, shared_bytes, stream)                                           \
  cuda_on_cpu::launcher(kernel, grid, block, shared_bytes, stream)

using cudaError_t = int32_t;
constexpr cudaError_t cudaSuccess = 0;
constexpr cudaError_t cudaErrorInvalidValue = 1;
constexpr cudaError_t cudaErrorInvalidConfiguration = 9;
constexpr cudaError_t cudaErrorLaunchFailure = 719;

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr uint64_t count() const { return uint64_t(x) * y * z; }
  constexpr dim3 at(uint64_t index) const {
    return dim3(index % x, index / x % y, index / x / y);
  }
};

namespace cuda_on_cpu {

constexpr unsigned WARP = 32;
constexpr size_t STACK_BYTES = 128 * 1024;

enum class Order : uint64_t { ascending = 0, descending = 1 /* any other value seeds a random one */ };

enum class Wait : uint8_t { nothing, barrier, shuffle, end };

struct Fiber {
  std::unique_ptr<char[]> stack;
  bool made = false; /* its context is on its stack, ready to run a thread */
  jmp_buf context;
  void *fake_stack = nullptr; /* AddressSanitizer's */
  Wait wait = Wait::end;
  dim3 thread;
  unsigned index = 0; /* in the block */
  const char *file = nullptr;
  int line = 0; /* where it waits */
  /* Of a shuffle: the lanes that take part, the value given, the lane to read, the value read. */
  uint32_t mask = 0;
  uint64_t given = 0;
  unsigned source = 0;
  uint64_t taken = 0;
};

struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  Fiber *running = nullptr;
  const std::function<void()> *kernel = nullptr;
  dim3 grid, block, block_index;
  std::unique_ptr<unsigned char[]> shared;
  uint64_t order = 0;
  std::minstd_rand random;
  cudaError_t error = cudaSuccess;
  char message[256] = "";
  jmp_buf scheduler;
  void *scheduler_fake_stack = nullptr;
  const void *scheduler_stack = nullptr;
  size_t scheduler_stack_bytes = 0;
};

/* A pointer, since every access to a thread_local object with a constructor is a call. */
inline thread_local Machine *machine = nullptr;

/* What the host calls goes through here, so that the kernels find the machine. */
inline Machine &of_this_thread() {
  static thread_local Machine the_machine;
  machine = &the_machine;
  return the_machine;
}

/* 0 ascending, 1 descending, else the seed of a random order, for this thread's next launches. */
inline void thread_order(uint64_t order) {
  of_this_thread().order = order;
  machine->random.seed(order);
}

/* Why the last launch failed. */
inline const char *error_message() { return of_this_thread().message; }

/* ---- fibers ---- */

inline void arrive_at_scheduler() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(machine->scheduler_fake_stack, nullptr, nullptr);
#endif
}

inline void arrive_at_fiber() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(machine->running->fake_stack, &machine->scheduler_stack,
                                  &machine->scheduler_stack_bytes);
#endif
}

__attribute__((noinline)) inline void switch_to_scheduler() {
  Fiber *self = machine->running;
  if (_setjmp(self->context) == 0) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&self->fake_stack, machine->scheduler_stack,
                                   machine->scheduler_stack_bytes);
#endif
    _longjmp(machine->scheduler, 1);
  }
  arrive_at_fiber();
}

inline void fiber_main() {
  arrive_at_fiber();
  for (;;) {
    (*machine->kernel)();
    machine->running->wait = Wait::end;
    switch_to_scheduler();
  }
}

__attribute__((noinline)) inline void resume(Fiber &fiber) {
  machine->running = &fiber;
  fiber.wait = Wait::nothing;
  if (_setjmp(machine->scheduler) == 0) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&machine->scheduler_fake_stack, fiber.stack.get(), STACK_BYTES);
#endif
    if (fiber.made) _longjmp(fiber.context, 1);
    fiber.made = true;
    static thread_local ucontext_t start;
    getcontext(&start);
    start.uc_stack.ss_sp = fiber.stack.get();
    /* Tops that differ in more than multiples of a cache's size, or all fibers' share its sets. */
    start.uc_stack.ss_size = STACK_BYTES - fiber.index % 64 * 576;
    start.uc_link = nullptr;
    makecontext(&start, fiber_main, 0);
    setcontext(&start);
  }
  arrive_at_scheduler();
}

/* Ends the launch, for the reason that comes first. The fibers are left where they are and made anew for the next one. */
__attribute__((format(printf, 1, 2))) inline void fail(const char *format, ...) {
  if (machine->error) return;
  machine->error = cudaErrorLaunchFailure;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(machine->message, sizeof machine->message, format, arguments);
  va_end(arguments);
  for (auto &fiber : machine->fibers) {
    fiber->made = false;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fiber->stack.get(), STACK_BYTES);
#endif
  }
}

/* ---- what threads do to each other ---- */

inline void wait(Wait for_what, const char *file, int line) {
  Fiber &self = *machine->running;
  self.wait = for_what;
  self.file = file;
  self.line = line;
  switch_to_scheduler();
}

template <class T>
T shuffle(uint32_t mask, T value, unsigned source, const char *file, int line) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  Fiber &self = *machine->running;
  self.mask = mask;
  self.given = 0;
  memcpy(&self.given, &value, sizeof value);
  self.source = source;
  wait(Wait::shuffle, file, line);
  memcpy(&value, &self.taken, sizeof value);
  return value;
}

inline unsigned lane() { return machine->running->index % WARP; }

/* Lets the shuffle that `lane` of the warp at `first` waits for happen, if all its lanes are there.
 * False where one is not, or where they do not agree. */
inline bool complete_shuffle(size_t first, unsigned lane) {
  const auto at = [&](unsigned lane) -> Fiber * {
    return first + lane < machine->fibers.size() ? &*machine->fibers[first + lane] : nullptr;
  };
  const Fiber &caller = *at(lane);
  const uint32_t mask = caller.mask;
  if (!(mask >> lane & 1)) {
    fail("%s:%d: lane %u is not in its own mask %#x", caller.file, caller.line, lane, mask);
    return false;
  }
  for (unsigned other = 0; other < WARP; other++) {
    const Fiber *fiber = at(other);
    if (!(mask >> other & 1) || !fiber) continue;
    if (fiber->wait != Wait::shuffle) return false;
    if (fiber->mask != mask || fiber->line != caller.line || fiber->file != caller.file) {
      fail("%s:%d: lane %u shuffles with mask %#x, lane %u at %s:%d with mask %#x", caller.file,
           caller.line, lane, mask, other, fiber->file, fiber->line, fiber->mask);
      return false;
    }
  }
  for (unsigned other = 0; other < WARP; other++) {
    Fiber *fiber = at(other);
    if (!(mask >> other & 1) || !fiber) continue;
    const unsigned source = fiber->source;
    if (source >= WARP || !(mask >> source & 1) || !at(source)) {
      fail("%s:%d: lane %u reads from lane %u, which takes no part (mask %#x)", fiber->file,
           fiber->line, other, source, mask);
      return false;
    }
    fiber->taken = at(source)->given;
  }
  for (unsigned other = 0; other < WARP; other++) {
    if (mask >> other & 1 && at(other)) at(other)->wait = Wait::nothing;
  }
  return true;
}

/* ---- the scheduler ---- */

/* 0 .. count in the order that is asked for. */
inline void fill_in_order(std::vector<uint64_t> &indices, uint64_t count) {
  indices.resize(count);
  std::iota(indices.begin(), indices.end(), uint64_t(0));
  if (machine->order == uint64_t(Order::ascending)) return;
  if (machine->order == uint64_t(Order::descending)) {
    std::reverse(indices.begin(), indices.end());
  } else {
    std::shuffle(indices.begin(), indices.end(), machine->random);
  }
}

/* Runs a warp until each lane waits at a barrier, or for lanes that do not come, or has ended. */
inline void run_warp(size_t first) {
  static thread_local std::vector<uint64_t> order;
  const size_t lanes = std::min<size_t>(WARP, machine->fibers.size() - first);
  fill_in_order(order, lanes);
  for (;;) {
    bool ready = false;
    for (uint64_t lane : order) {
      Fiber &fiber = *machine->fibers[first + lane];
      if (fiber.wait != Wait::nothing) continue;
      ready = true;
      resume(fiber);
      if (machine->error) return;
    }
    for (unsigned lane = 0; lane < lanes; lane++) {
      if (machine->fibers[first + lane]->wait == Wait::shuffle && complete_shuffle(first, lane)) {
        ready = true;
      }
      if (machine->error) return;
    }
    if (!ready) return;
  }
}

/* True where the block has ended, or the launch failed; false where all wait at the barrier. */
inline bool ended_or_failed() {
  const Fiber *at_barrier = nullptr;
  for (const auto &fiber : machine->fibers) {
    if (fiber->wait == Wait::end) continue;
    if (fiber->wait == Wait::shuffle) {
      fail("%s:%d: thread %u waits for lanes that never come (mask %#x)", fiber->file, fiber->line,
           fiber->index, fiber->mask);
      return true;
    }
    if (!at_barrier) at_barrier = &*fiber;
    if (fiber->line != at_barrier->line || fiber->file != at_barrier->file) {
      fail("divergent barrier: thread %u at %s:%d, thread %u at %s:%d", at_barrier->index,
           at_barrier->file, at_barrier->line, fiber->index, fiber->file, fiber->line);
      return true;
    }
  }
  if (!at_barrier) return true;
  for (const auto &fiber : machine->fibers) {
    if (fiber->wait != Wait::end) continue;
    fail("divergent barrier: thread %u at %s:%d, thread %u has ended", at_barrier->index,
         at_barrier->file, at_barrier->line, fiber->index);
    return true;
  }
  return false;
}

inline void run_block() {
  static thread_local std::vector<uint64_t> order;
  const uint64_t warps = (machine->fibers.size() + WARP - 1) / WARP;
  for (;;) {
    for (auto &fiber : machine->fibers) fiber->wait = Wait::nothing;
    fill_in_order(order, warps);
    for (uint64_t warp : order) {
      run_warp(warp * WARP);
      if (machine->error) return;
    }
    if (ended_or_failed()) return;
  }
}

inline void launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &kernel) {
  of_this_thread().message[0] = 0;
  if (block.count() == 0 || block.count() > 1024 || grid.count() == 0 || grid.y > 65535 ||
      grid.z > 65535 || grid.x > 2147483647 || shared_bytes > 48 * 1024) {
    machine->error = cudaErrorInvalidConfiguration;
    snprintf(machine->message, sizeof machine->message,
             "no device takes a grid of (%u, %u, %u), a block of (%u, %u, %u), %zu bytes shared",
             grid.x, grid.y, grid.z, block.x, block.y, block.z, shared_bytes);
    return;
  }
  machine->grid = grid;
  machine->block = block;
  machine->kernel = &kernel;
  machine->fibers.resize(block.count());
  for (unsigned index = 0; index < block.count(); index++) {
    auto &fiber = machine->fibers[index];
    if (!fiber) {
      fiber = std::make_unique<Fiber>();
      fiber->stack.reset(new char[STACK_BYTES]);
    }
    fiber->index = index;
    fiber->thread = block.at(index);
  }
  machine->shared.reset(new unsigned char[shared_bytes]);
  std::vector<uint64_t> blocks;
  fill_in_order(blocks, grid.count());
  for (uint64_t index : blocks) {
    machine->block_index = grid.at(index);
    memset(machine->shared.get(), 0xff, shared_bytes);
    run_block();
    if (machine->error) return;
  }
}

template <class... Parameters>
auto launcher(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, void *) {
  return [=](Parameters... arguments) {
    launch(grid, block, shared_bytes, [&] { kernel(arguments...); });
  };
}

} // namespace cuda_on_cpu

#define threadIdx (cuda_on_cpu::machine->running->thread)
#define blockIdx (cuda_on_cpu::machine->block_index)
#define blockDim (cuda_on_cpu::machine->block)
#define gridDim (cuda_on_cpu::machine->grid)

inline cudaError_t cudaGetLastError() {
  return std::exchange(cuda_on_cpu::of_this_thread().error, cudaSuccess);
}

inline void __syncthreads(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::wait(cuda_on_cpu::Wait::barrier, file, line);
}

template <class P, class S>
P &at_once(S *address, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (reinterpret_cast<uintptr_t>(address) % alignof(P) != 0) {
    cuda_on_cpu::fail("%s:%d: %p is not aligned to %zu bytes", file, line,
                      static_cast<const void *>(address), alignof(P));
    cuda_on_cpu::switch_to_scheduler();
  }
  return *reinterpret_cast<P *>(address);
}

/* The four shuffles, with the rules of the CUDA programming guide for groups of `width` lanes: a lane
 * whose source lies outside its group (for xor: behind it) keeps its own value. */

template <class T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32,
              const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  const unsigned group = cuda_on_cpu::lane() & ~unsigned(width - 1);
  return cuda_on_cpu::shuffle(mask, value, group | (source & (width - 1)), file, line);
}

template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned delta, int width = 32,
                 const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  const unsigned lane = cuda_on_cpu::lane(), in_group = lane & (width - 1);
  return cuda_on_cpu::shuffle(mask, value, in_group < delta ? lane : lane - delta, file, line);
}

template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned delta, int width = 32,
                   const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  const unsigned lane = cuda_on_cpu::lane(), in_group = lane & (width - 1);
  const bool outside = in_group + delta >= unsigned(width);
  return cuda_on_cpu::shuffle(mask, value, outside ? lane : lane + delta, file, line);
}

template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32,
                  const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  const unsigned lane = cuda_on_cpu::lane(), source = lane ^ bits;
  const bool behind = source > (lane | (width - 1));
  return cuda_on_cpu::shuffle(mask, value, behind ? lane : source, file, line);
}
