//! The number types: what embeddings are made of and what sums over them are taken in.

use std::ops::{AddAssign, MulAssign, SubAssign};

use candle_core::WithDType;
use half::{bf16, f16, slice::HalfFloatSliceExt};
use num_traits::Float;

/// The number type of the sums: f32 or f64.
pub(crate) trait Real:
    Float + AddAssign + MulAssign + SubAssign + Default + WithDType
{
    fn next_up(self) -> Self;
}

impl Real for f32 {
    fn next_up(self) -> Self {
        self.next_up()
    }
}

impl Real for f64 {
    fn next_up(self) -> Self {
        self.next_up()
    }
}

/// The type of an embedding's elements.
pub(crate) trait Element: WithDType {
    /// What sums over them are taken in.
    type Wide: Real;

    fn widen(self) -> Self::Wide;

    /// `values` in the wide type: themselves, or a copy in `room`.
    fn widen_all<'a>(values: &'a [Self], room: &'a mut [Self::Wide]) -> &'a [Self::Wide];

    /// `wide` in this type: itself, or a copy in `room`.
    fn narrow_all<'a>(wide: &'a [Self::Wide], room: &'a mut [Self]) -> &'a [Self];
}

macro_rules! wide {
    ($type:ty) => {
        impl Element for $type {
            type Wide = Self;

            #[inline(always)]
            fn widen(self) -> Self {
                self
            }

            #[inline(always)]
            fn widen_all<'a>(values: &'a [Self], _: &'a mut [Self]) -> &'a [Self] {
                values
            }

            #[inline(always)]
            fn narrow_all<'a>(wide: &'a [Self], _: &'a mut [Self]) -> &'a [Self] {
                wide
            }
        }
    };
}

macro_rules! half {
    ($type:ty) => {
        impl Element for $type {
            type Wide = f32;

            #[inline(always)]
            fn widen(self) -> f32 {
                self.to_f32()
            }

            #[inline(always)]
            fn widen_all<'a>(values: &'a [Self], room: &'a mut [f32]) -> &'a [f32] {
                let room = &mut room[..values.len()];
                values.convert_to_f32_slice(room);
                room
            }

            #[inline(always)]
            fn narrow_all<'a>(wide: &'a [f32], room: &'a mut [Self]) -> &'a [Self] {
                let room = &mut room[..wide.len()];
                room.convert_from_f32_slice(wide);
                room
            }
        }
    };
}

wide!(f32);
wide!(f64);
half!(f16);
half!(bf16);

/// `$body`, with `$S` the type of the elements of `$dtype`.
macro_rules! with_element {
    ($dtype:expr, $S:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F16 => {
                type $S = half::f16;
                $body
            }
            candle_core::DType::BF16 => {
                type $S = half::bf16;
                $body
            }
            candle_core::DType::F32 => {
                type $S = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $S = f64;
                $body
            }
            other => candle_core::bail!("there is no contrastive loss of {other:?}"),
        }
    };
}
pub(crate) use with_element;
