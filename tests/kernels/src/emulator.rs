//! The CUDA kernels as C++ on the CPU: their C interface, and memory that shows where they write
//! or read what is not theirs.

#![expect(unsafe_code, reason = "the kernels are C++")]

use std::alloc::{Layout, alloc, dealloc};
use std::ffi::{CStr, c_char, c_void};
use std::num::NonZeroU8;

use half::{bf16, f16};
use libloading::Library;
use loss_kernel::{InBatchReduction, Margin, Miner, Reduction, Variant};

#[allow(non_camel_case_types, missing_docs, clippy::missing_safety_doc)]
mod interface {
    use super::*;

    include!(concat!(env!("OUT_DIR"), "/interface.rs"));

    /// Sizes, offsets and enum values, in the order of `probe_interface`.
    pub fn interface_numbers() -> Vec<i64> {
        let sizes = SIZES.iter().map(|&size| size as i64);
        sizes
            .chain(NUMBERS.iter().map(|&(_, number)| number.into()))
            .collect()
    }

    /// The number that the interface has for a value of a Rust enum: `CONTRASTIVE_SEMI_HARD` for
    /// `SemiHard { .. }`, with `prefix` in between.
    pub(super) fn number(prefix: &str, value: impl std::fmt::Debug) -> i32 {
        let value = format!("{value:?}");
        let mut name = format!("CONTRASTIVE{prefix}");
        for letter in value.split(' ').next().unwrap_or_default().chars() {
            if letter.is_uppercase() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        let found = NUMBERS.iter().find(|(known, _)| *known == name);
        found
            .unwrap_or_else(|| panic!("contrastive.h has no {name}"))
            .1
    }
}

pub use interface::*;

/// `enum contrastive_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Element {
    /// IEEE half precision.
    F16 = CONTRASTIVE_F16,
    /// bfloat16.
    BF16 = CONTRASTIVE_BF16,
    /// IEEE single precision.
    F32 = CONTRASTIVE_F32,
    /// IEEE double precision.
    F64 = CONTRASTIVE_F64,
    /// 8-bit unsigned.
    U8 = CONTRASTIVE_U8,
    /// 32-bit unsigned.
    U32 = CONTRASTIVE_U32,
}

impl Element {
    /// All that labels can have; embeddings can have the first four.
    pub const ALL: [Self; 6] = [
        Self::F16,
        Self::BF16,
        Self::F32,
        Self::F64,
        Self::U8,
        Self::U32,
    ];

    /// All that embeddings can have.
    pub const FLOATS: [Self; 4] = [Self::F16, Self::BF16, Self::F32, Self::F64];

    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::BF16 => 2,
            Self::F32 | Self::U32 => 4,
            Self::F64 => 8,
        }
    }

    /// Half a unit in the last place of a normal number, relative to it at most.
    pub fn rounding(self) -> f64 {
        match self {
            Self::F16 => 0.5f64.powi(11),
            Self::BF16 => 0.5f64.powi(8),
            Self::F32 => 0.5f64.powi(24),
            _ => 0.0,
        }
    }

    /// Writes `value`, rounded, to the start of `to`.
    pub fn encode(self, value: f64, to: &mut [u8]) {
        match self {
            Self::F16 => to[..2].copy_from_slice(&f16::from_f64(value).to_ne_bytes()),
            Self::BF16 => to[..2].copy_from_slice(&bf16::from_f64(value).to_ne_bytes()),
            Self::F32 => to[..4].copy_from_slice(&(value as f32).to_ne_bytes()),
            Self::F64 => to[..8].copy_from_slice(&value.to_ne_bytes()),
            Self::U8 => to[0] = value as u8,
            Self::U32 => to[..4].copy_from_slice(&(value as u32).to_ne_bytes()),
        }
    }

    /// The value at the start of `from`.
    pub fn decode(self, from: &[u8]) -> f64 {
        let four = || [from[0], from[1], from[2], from[3]];
        match self {
            Self::F16 => f16::from_ne_bytes([from[0], from[1]]).to_f64(),
            Self::BF16 => bf16::from_ne_bytes([from[0], from[1]]).to_f64(),
            Self::F32 => f32::from_ne_bytes(four()).into(),
            Self::F64 => f64::from_ne_bytes(from[..8].try_into().unwrap()),
            Self::U8 => from[0].into(),
            Self::U32 => u32::from_ne_bytes(four()).into(),
        }
    }

    /// `value` as this type has it.
    pub fn rounded(self, value: f64) -> f64 {
        let mut bytes = [0; 8];
        self.encode(value, &mut bytes);
        self.decode(&bytes)
    }
}

/// `enum contrastive_variant`.
pub fn variant_number(variant: Variant) -> i32 {
    number("", variant)
}

/// `enum contrastive_reduction`.
pub fn reduction_number(reduction: Reduction) -> i32 {
    number("", reduction)
}

/// Every one.
pub const IN_BATCH_REDUCTIONS: [InBatchReduction; 3] = [
    InBatchReduction::Mean,
    InBatchReduction::MeanNonZero,
    InBatchReduction::Sum,
];

/// One of each kind.
pub fn miners() -> [Miner; 4] {
    [
        Miner::All,
        Miner::Hard,
        Miner::SemiHard {
            width: Margin::new(0.4).unwrap(),
        },
        Miner::Hardest {
            negatives: NonZeroU8::new(3).unwrap(),
        },
    ]
}

/// `enum contrastive_in_batch_reduction`.
pub fn in_batch_reduction_number(reduction: InBatchReduction) -> i32 {
    number("_IN_BATCH", reduction)
}

/// `enum contrastive_miner`.
pub fn miner_number(miner: Miner) -> i32 {
    number("", miner)
}

/// The functions of the C interface and of the probe: those that are linked in, or a library's.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    library: Option<&'static Library>,
}

impl Kernels {
    /// The kernels as they are in the repository.
    pub const LINKED: Self = Self { library: None };

    /// Those of a library, which has been compiled from the interface's headers.
    pub fn of(library: &'static Library) -> Self {
        Self {
            library: Some(library),
        }
    }

    /// # Safety
    ///
    /// `F` is the type of the function of this name.
    unsafe fn function<F: Copy>(&self, name: &str, linked: F) -> F {
        match self.library {
            None => linked,
            // SAFETY: the caller's.
            Some(library) => *unsafe { library.get(name) }.expect(name),
        }
    }

    /// Why a call returned `code`; nothing if it returned success.
    pub fn outcome(&self, what: &str, code: i32) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: it returns a string that ends with 0 and lives until this thread's next launch.
        let message = unsafe { CStr::from_ptr(self.probe_error_message()) };
        Err(format!(
            "error {code} in {what}: {}",
            message.to_string_lossy()
        ))
    }
}

/// Bytes in front of a buffer and behind it that nobody may write. None under AddressSanitizer,
/// which watches the ends of an allocation itself.
const GUARD: usize = if cfg!(kernels_sanitized) { 0 } else { 64 };

/// All buffers start full of it: NaN as any float, 255 as a label, so that what is read without
/// having been written shows in the result.
pub const POISON: u8 = 0xff;

/// Memory of exactly the asked size, between guard zones.
#[derive(Debug)]
pub struct Buffer {
    start: *mut u8,
    layout: Layout,
    lead: usize,
    bytes: usize,
}

impl Buffer {
    /// `bytes` that start `misalignment` behind an address that 16 divides.
    pub fn new(bytes: usize, misalignment: usize) -> Self {
        let lead = GUARD + misalignment;
        let layout = Layout::from_size_align(lead + bytes + GUARD, 16).unwrap();
        assert!(layout.size() > 0, "a buffer of nothing");
        // SAFETY: the layout's size is not 0.
        let start = unsafe { alloc(layout) };
        assert!(!start.is_null(), "no memory for {} bytes", layout.size());
        // SAFETY: the allocation has this size.
        unsafe { start.write_bytes(POISON, layout.size()) };
        Self {
            start,
            layout,
            lead,
            bytes,
        }
    }

    fn all(&self) -> &[u8] {
        // SAFETY: allocated with this size and filled in `new`.
        unsafe { std::slice::from_raw_parts(self.start, self.layout.size()) }
    }

    /// What lies between the guard zones.
    pub fn contents(&self) -> &[u8] {
        &self.all()[self.lead..][..self.bytes]
    }

    /// What lies between the guard zones, to be filled.
    pub fn contents_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `all`; the borrow is exclusive.
        let all = unsafe { std::slice::from_raw_parts_mut(self.start, self.layout.size()) };
        &mut all[self.lead..][..self.bytes]
    }

    /// The address of the first byte between the guard zones.
    pub fn address(&mut self) -> *mut c_void {
        self.contents_mut().as_mut_ptr().cast()
    }

    /// An error if a guard zone has been written.
    pub fn check_guards(&self, what: &str) -> Result<(), String> {
        let behind = self.lead + self.bytes;
        let hit = |(at, &byte): (usize, &u8)| {
            ((at < self.lead || at >= behind) && byte != POISON).then_some(at as i64)
        };
        match self.all().iter().enumerate().find_map(hit) {
            Some(at) => Err(format!(
                "{what}: byte {} was written, of {}",
                at - self.lead as i64,
                self.bytes
            )),
            None => Ok(()),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start, self.layout) }
    }
}
