//! The CUDA kernels as C++ on the CPU: their C interface, and memory that shows where they write
//! or read what is not theirs.

#![expect(unsafe_code, reason = "the kernels are C++")]

use std::alloc::{Layout, alloc, dealloc};
use std::ffi::{CStr, c_char, c_void};
use std::num::NonZeroU8;

use half::{bf16, f16};
use loss_kernel::{InBatchReduction, Margin, Miner, Reduction, Variant};

/// `struct contrastive_matrix`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// Element (0, 0).
    pub data: *const c_void,
    /// Elements from row to row.
    pub row_stride: i64,
    /// Elements from column to column.
    pub column_stride: i64,
}

/// `struct contrastive_pairs`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Pairs {
    /// First sides, (pairs, dim).
    pub a: Matrix,
    /// Second sides, (pairs, dim).
    pub b: Matrix,
    /// Labels, (pairs,).
    pub same: Matrix,
    /// N.
    pub pairs: i64,
    /// D.
    pub dim: i64,
    /// Of a, b and the results: [`Element`].
    pub kind: i32,
    /// Of the labels: [`Element`].
    pub label_kind: i32,
    /// [`variant_number`].
    pub variant: i32,
    /// [`reduction_number`].
    pub reduction: i32,
    /// The margin.
    pub margin: f64,
    /// Whether each embedding is divided by its length.
    pub normalised: i32,
}

/// `struct contrastive_rows`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// (rows, dim).
    pub embeddings: Matrix,
    /// (rows,).
    pub labels: *const i64,
    /// N.
    pub rows: i64,
}

/// `struct contrastive_batch`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// The anchors.
    pub rows: Rows,
    /// 0 rows: the pairs i < j of `rows`.
    pub others: Rows,
    /// D.
    pub dim: i64,
    /// Of the embeddings and the loss: [`Element`].
    pub kind: i32,
    /// [`variant_number`].
    pub variant: i32,
    /// [`in_batch_reduction_number`].
    pub reduction: i32,
    /// Whether both kinds of pairs weigh the same.
    pub balanced: i32,
    /// Whether each row is divided by its length.
    pub normalised: i32,
    /// [`miner_number`].
    pub miner: i32,
    /// Of [`Miner::Hardest`].
    pub negatives: i32,
    /// Of [`Miner::SemiHard`].
    pub width: f64,
    /// The margin.
    pub margin: f64,
}

/// `enum contrastive_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Element {
    /// IEEE half precision.
    F16 = 0,
    /// bfloat16.
    BF16 = 1,
    /// IEEE single precision.
    F32 = 2,
    /// IEEE double precision.
    F64 = 3,
    /// 8-bit unsigned.
    U8 = 4,
    /// 32-bit unsigned.
    U32 = 5,
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
    match variant {
        Variant::Hadsell => 0,
        Variant::Legacy => 1,
        Variant::Squared => 2,
        Variant::ExponentialL1 => 3,
        Variant::ExponentialL2 => 4,
    }
}

/// `enum contrastive_reduction`.
pub fn reduction_number(reduction: Reduction) -> i32 {
    match reduction {
        Reduction::Mean => 0,
        Reduction::Sum => 1,
        Reduction::None => 2,
    }
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
    match reduction {
        InBatchReduction::Mean => 0,
        InBatchReduction::MeanNonZero => 1,
        InBatchReduction::Sum => 2,
    }
}

/// `enum contrastive_miner`.
pub fn miner_number(miner: Miner) -> i32 {
    match miner {
        Miner::All => 0,
        Miner::Hard => 1,
        Miner::SemiHard { .. } => 2,
        Miner::Hardest { .. } => 3,
    }
}

/// The C interface, of the kernels that are linked in or of a library.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    /// `contrastive_workspace_bytes`.
    pub workspace_bytes: unsafe extern "C" fn(*const Pairs) -> i64,
    /// `contrastive_forward`.
    pub forward: unsafe extern "C" fn(*const Pairs, *mut c_void, *mut c_void, *mut c_void) -> i32,
    /// `contrastive_backward`.
    pub backward: unsafe extern "C" fn(*const Pairs, Matrix, *mut c_void, *mut c_void) -> i32,
    /// `contrastive_last_kernel`.
    pub last_kernel: unsafe extern "C" fn() -> *const c_char,
    /// 0 ascending, 1 descending, else the seed of a random order, of threads, warps and blocks.
    pub thread_order: unsafe extern "C" fn(u64),
    /// Why the emulator refused the last launch.
    pub error_message: unsafe extern "C" fn() -> *const c_char,
}

/// The C interface of the loss over all pairs of a batch.
#[derive(Clone, Copy, Debug)]
pub struct InBatchKernels {
    /// `contrastive_in_batch_workspace_bytes`.
    pub workspace_bytes: unsafe extern "C" fn(*const Batch) -> i64,
    /// `contrastive_in_batch_forward`.
    pub forward: unsafe extern "C" fn(*const Batch, *mut c_void, *mut c_void, *mut c_void) -> i32,
    /// `contrastive_in_batch_backward`.
    pub backward: unsafe extern "C" fn(
        *const Batch,
        Matrix,
        i32,
        *mut c_void,
        *const c_void,
        *mut c_void,
    ) -> i32,
    /// 0 ascending, 1 descending, else the seed of a random order, of threads, warps and blocks.
    pub thread_order: unsafe extern "C" fn(u64),
    /// Why the emulator refused the last launch.
    pub error_message: unsafe extern "C" fn() -> *const c_char,
}

impl InBatchKernels {
    /// The kernels as they are in the repository.
    pub const LINKED: Self = Self {
        workspace_bytes: linked::contrastive_in_batch_workspace_bytes,
        forward: linked::contrastive_in_batch_forward,
        backward: linked::contrastive_in_batch_backward,
        thread_order: linked::probe_thread_order,
        error_message: linked::probe_error_message,
    };

    /// Why a call returned `code`; nothing if it returned success.
    pub fn outcome(&self, what: &str, code: i32) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: it returns a string that ends with 0 and lives until this thread's next launch.
        let message = unsafe { CStr::from_ptr((self.error_message)()) };
        Err(format!(
            "error {code} in {what}: {}",
            message.to_string_lossy()
        ))
    }
}

/// What the kernels' C++ exports.
pub mod linked {
    use super::*;

    unsafe extern "C" {
        #![allow(missing_docs)]
        pub fn contrastive_workspace_bytes(pairs: *const Pairs) -> i64;
        pub fn contrastive_forward(
            pairs: *const Pairs,
            loss: *mut c_void,
            workspace: *mut c_void,
            stream: *mut c_void,
        ) -> i32;
        pub fn contrastive_backward(
            pairs: *const Pairs,
            upstream: Matrix,
            gradients: *mut c_void,
            stream: *mut c_void,
        ) -> i32;
        pub fn contrastive_in_batch_workspace_bytes(batch: *const Batch) -> i64;
        pub fn contrastive_in_batch_forward(
            batch: *const Batch,
            loss: *mut c_void,
            workspace: *mut c_void,
            stream: *mut c_void,
        ) -> i32;
        pub fn contrastive_in_batch_backward(
            batch: *const Batch,
            upstream: Matrix,
            of_others: i32,
            gradient: *mut c_void,
            workspace: *const c_void,
            stream: *mut c_void,
        ) -> i32;
        pub fn contrastive_last_kernel() -> *const c_char;
        pub fn probe_interface(numbers: *mut i64, capacity: usize) -> usize;
        pub fn probe_energy(
            variant: i32,
            s: f64,
            similar: bool,
            m: f64,
            loss: *mut f64,
            slope: *mut f64,
        );
        pub fn probe_half(x: f64) -> u16;
        pub fn probe_bfloat16(x: f64) -> u16;
        pub fn probe_from_half(bits: u16) -> f32;
        pub fn probe_from_bfloat16(bits: u16) -> f32;
        pub fn probe_thread_order(order: u64);
        pub fn probe_error_message() -> *const c_char;
        pub fn probe_barriers(out: *mut f32, first: bool, second: bool) -> i32;
        pub fn probe_shuffles(out: *mut i32) -> i32;
        pub fn probe_mistake(which: i32, out: *mut i32) -> i32;
        pub fn probe_shared(out: *mut f32) -> i32;
        pub fn probe_where(out: *mut u32, block: u32) -> i32;
    }
}

impl Kernels {
    /// The kernels as they are in the repository.
    pub const LINKED: Self = Self {
        workspace_bytes: linked::contrastive_workspace_bytes,
        forward: linked::contrastive_forward,
        backward: linked::contrastive_backward,
        last_kernel: linked::contrastive_last_kernel,
        thread_order: linked::probe_thread_order,
        error_message: linked::probe_error_message,
    };

    /// Why a call returned `code`; nothing if it returned success.
    pub fn outcome(&self, code: i32) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: both return strings that end with 0 and live until this thread's next launch.
        let (kernel, message) = unsafe {
            (
                CStr::from_ptr((self.last_kernel)()),
                CStr::from_ptr((self.error_message)()),
            )
        };
        Err(format!(
            "error {code} in {}: {}",
            kernel.to_string_lossy(),
            message.to_string_lossy()
        ))
    }
}

/// Sizes, offsets and enum values of this module's mirrors, in the order of the C++ probe.
pub fn interface_numbers() -> Vec<i64> {
    use std::mem::{offset_of, size_of};
    let sizes = [
        size_of::<Matrix>(),
        offset_of!(Matrix, data),
        offset_of!(Matrix, row_stride),
        offset_of!(Matrix, column_stride),
        size_of::<Pairs>(),
        offset_of!(Pairs, a),
        offset_of!(Pairs, b),
        offset_of!(Pairs, same),
        offset_of!(Pairs, pairs),
        offset_of!(Pairs, dim),
        offset_of!(Pairs, kind),
        offset_of!(Pairs, label_kind),
        offset_of!(Pairs, variant),
        offset_of!(Pairs, reduction),
        offset_of!(Pairs, margin),
        offset_of!(Pairs, normalised),
        size_of::<Rows>(),
        offset_of!(Rows, embeddings),
        offset_of!(Rows, labels),
        offset_of!(Rows, rows),
        size_of::<Batch>(),
        offset_of!(Batch, rows),
        offset_of!(Batch, others),
        offset_of!(Batch, dim),
        offset_of!(Batch, kind),
        offset_of!(Batch, variant),
        offset_of!(Batch, reduction),
        offset_of!(Batch, balanced),
        offset_of!(Batch, normalised),
        offset_of!(Batch, miner),
        offset_of!(Batch, negatives),
        offset_of!(Batch, width),
        offset_of!(Batch, margin),
    ];
    let enums = Element::ALL
        .map(|element| element as i32)
        .into_iter()
        .chain(Variant::ALL.map(variant_number))
        .chain([Reduction::Mean, Reduction::Sum, Reduction::None].map(reduction_number))
        .chain(IN_BATCH_REDUCTIONS.map(in_batch_reduction_number))
        .chain(miners().map(miner_number));
    sizes
        .into_iter()
        .map(|size| size as i64)
        .chain(enums.map(i64::from))
        .collect()
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
