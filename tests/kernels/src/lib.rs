//! The CUDA kernels, compiled for the CPU with the emulator in `emulator`, and the cases they
//! are checked on.

pub mod emulator;
pub mod emulator_grid;
pub mod in_batch_grid;
pub mod mutant;
