//! The C interface of the kernels, as bindgen reads it from `kernels/contrastive.h`.

#![allow(unsafe_code, reason = "the kernels are C++")]
#![allow(non_camel_case_types)]
#![allow(dead_code, reason = "a variant goes to the kernels as its number")]

include!(concat!(env!("OUT_DIR"), "/ffi.rs"));

unsafe extern "C" {
    /// Of the CUDA runtime that the kernels are linked with: what a `cudaError_t` means.
    pub fn cudaGetErrorString(error: i32) -> *const std::ffi::c_char;
}
