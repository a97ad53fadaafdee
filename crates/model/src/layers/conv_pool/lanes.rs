use std::marker::PhantomData;

use candle_core::WithDType;
use pulp::bytemuck::Pod;
use pulp::{Arch, Simd, WithSimd};

/// The two element types of the layer, with what it needs of a processor's vectors of them.
///
/// pulp names these by type; here they have one name, so that the loops are written once.
pub(crate) trait Real: WithDType + Pod + Default {
    /// As many elements as one instruction takes.
    type Vector<S: Simd>: Pod;
    /// A truth value for each of them.
    type Mask<S: Simd>: Copy;

    /// A small whole number as an element's bits, which selecting leaves as they are.
    fn from_place(place: u8) -> Self;
    fn to_place(self) -> u8;
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;
    fn sum<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    fn difference<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a · b + c`, rounded once where the processor can.
    fn mul_add<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// Where `a > b`, or `a` is NaN.
    fn greater_or_nan<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Mask<S>;
    fn select<S: Simd>(
        simd: S,
        mask: Self::Mask<S>,
        yes: Self::Vector<S>,
        no: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// The first elements of a vector; the rest is 0.
    fn load_part<S: Simd>(simd: S, from: &[Self]) -> Self::Vector<S>;
    fn store_part<S: Simd>(simd: S, to: &mut [Self], vector: Self::Vector<S>);

    /// The whole vectors in a slice, from its start on.
    fn vectors<S: Simd>(slice: &[Self]) -> &[Self::Vector<S>];
    fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [Self::Vector<S>];

    fn lanes<S: Simd>() -> usize {
        size_of::<Self::Vector<S>>() / size_of::<Self>()
    }
}

/// A buffer that keeps its size from use to use, and starts where a cache line does: a vector that
/// lies across two lines takes twice as long to load.
#[derive(Default)]
pub(crate) struct Buffer<T>(Vec<T>);

impl<T: Real> Buffer<T> {
    const LINE: usize = 64;

    /// The first `len` elements, with values of an earlier use, or 0.
    pub(crate) fn first_mut(&mut self, len: usize) -> &mut [T] {
        let needed = len + Self::LINE / size_of::<T>();
        if self.0.len() < needed {
            self.0.resize(needed, T::zero());
        }
        let start = self.0.as_ptr().align_offset(Self::LINE);
        &mut self.0[start..][..len]
    }

    /// What [`first_mut`](Self::first_mut) lent.
    pub(crate) fn first(&self, len: usize) -> &[T] {
        let start = self.0.as_ptr().align_offset(Self::LINE);
        &self.0[start..][..len]
    }
}

/// What a processor has for elements of one type.
pub(crate) struct Registers {
    /// Elements of a vector.
    pub(crate) lanes: usize,
    /// Vectors that it keeps at hand.
    pub(crate) count: usize,
}

impl Registers {
    pub(crate) fn of<T: Real>(arch: Arch) -> Self {
        struct Of<T>(PhantomData<T>);
        impl<T: Real> WithSimd for Of<T> {
            type Output = Registers;

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> Registers {
                Registers {
                    lanes: T::lanes::<S>(),
                    count: S::REGISTER_COUNT,
                }
            }
        }
        arch.dispatch(Of::<T>(PhantomData))
    }
}

macro_rules! real {
    (
        $type:ty, $vector:ident, $mask:ident, $splat:ident, $add:ident, $sub:ident, $mul_add:ident,
        $greater:ident, $equal:ident, $not:ident, $or:ident, $select:ident, $load:ident,
        $store:ident, $vectors:ident, $vectors_mut:ident
    ) => {
        impl Real for $type {
            type Vector<S: Simd> = S::$vector;
            type Mask<S: Simd> = S::$mask;

            #[inline(always)]
            fn from_place(place: u8) -> Self {
                Self::from_bits(place.into())
            }

            #[inline(always)]
            fn to_place(self) -> u8 {
                self.to_bits() as u8
            }

            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$vector {
                simd.$splat(value)
            }

            #[inline(always)]
            fn sum<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$add(a, b)
            }

            #[inline(always)]
            fn difference<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$sub(a, b)
            }

            #[inline(always)]
            fn mul_add<S: Simd>(
                simd: S,
                a: S::$vector,
                b: S::$vector,
                c: S::$vector,
            ) -> S::$vector {
                simd.$mul_add(a, b, c)
            }

            #[inline(always)]
            fn greater_or_nan<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$mask {
                simd.$or(simd.$greater(a, b), simd.$not(simd.$equal(a, a)))
            }

            #[inline(always)]
            fn select<S: Simd>(
                simd: S,
                mask: S::$mask,
                yes: S::$vector,
                no: S::$vector,
            ) -> S::$vector {
                simd.$select(mask, yes, no)
            }

            #[inline(always)]
            fn load_part<S: Simd>(simd: S, from: &[Self]) -> S::$vector {
                simd.$load(from)
            }

            #[inline(always)]
            fn store_part<S: Simd>(simd: S, to: &mut [Self], vector: S::$vector) {
                simd.$store(to, vector)
            }

            #[inline(always)]
            fn vectors<S: Simd>(slice: &[Self]) -> &[S::$vector] {
                S::$vectors(slice).0
            }

            #[inline(always)]
            fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [S::$vector] {
                S::$vectors_mut(slice).0
            }
        }
    };
}

real!(
    f32,
    f32s,
    m32s,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_add_e_f32s,
    greater_than_f32s,
    equal_f32s,
    not_m32s,
    or_m32s,
    select_f32s,
    partial_load_f32s,
    partial_store_f32s,
    as_simd_f32s,
    as_mut_simd_f32s
);
real!(
    f64,
    f64s,
    m64s,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_add_e_f64s,
    greater_than_f64s,
    equal_f64s,
    not_m64s,
    or_m64s,
    select_f64s,
    partial_load_f64s,
    partial_store_f64s,
    as_simd_f64s,
    as_mut_simd_f64s
);
