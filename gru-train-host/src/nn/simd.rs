//! Vectors of `f32` or `f64`, chosen at run time: AVX-512, AVX2 + FMA, NEON or the baseline.
//!
//! A kernel is written once over [`Lanes`]; [`Isa`] compiles it for each instruction set and
//! picks one when it is called, so that a published binary needs no `target-cpu`. The detection
//! and the intrinsics come from the crate `pulp`; nothing here is `unsafe`.

use std::fmt::Debug;

use pulp::Simd;

/// A floating-point type that networks can be built in: `f32`, or `f64` for gradient checks.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + 'static
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + std::ops::MulAssign
    + std::iter::Sum
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// Adding and subtracting this many times a grid rounds to the grid.
    const ROUND: f64;
    /// From an `f64`, rounded.
    fn from_f64(x: f64) -> Self;
    /// To an `f64`, exactly.
    fn to_f64(self) -> f64;
    /// From an `f32`, exactly.
    fn from_f32(x: f32) -> Self {
        Self::from_f64(f64::from(x))
    }
    /// `e^self`
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// `ln(1 + self)`
    fn ln_1p(self) -> Self;
    /// Hyperbolic tangent, as exact as the type.
    fn tanh(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// The larger one; `other` when `self` is not a number.
    fn max(self, other: Self) -> Self;
    /// The smaller one; `other` when `self` is not a number.
    fn min(self, other: Self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// `1 / (1 + e^−self)`
    fn sigmoid(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp())
    }
    /// Runs `kernel` with the vectors of `isa`.
    fn run<K: Kernel<Self>>(isa: Isa, kernel: K);
    /// Number of lanes that `isa` has for this type.
    fn lanes(isa: Isa) -> usize;
}

/// A computation written over vectors of `E`.
pub trait Kernel<E: Real> {
    /// Does it. Everything below must be `#[inline(always)]` to be compiled for the instruction set.
    fn run<L: Lanes<E = E>>(self, lanes: L);
}

/// Vector operations of one instruction set for one element type.
pub trait Lanes: Copy {
    /// Element type.
    type E: Real;
    /// One vector.
    type V: Copy;
    /// Elements in a vector.
    const N: usize;
    /// Vector registers of the machine; kernels size their tiles by it.
    const REGISTERS: usize;
    /// Runs a kernel as a function of its own, compiled for the instruction set: what is inlined into one function
    /// has its sums in registers only up to a certain size of the whole.
    fn apart<K: Kernel<Self::E>>(self, kernel: K);
    /// All lanes equal.
    fn splat(self, x: Self::E) -> Self::V;
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a − b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, fused where the machine does that in one instruction.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The first `N` elements of a slice.
    fn load(self, from: &[Self::E]) -> Self::V;
    /// To the first `N` elements of a slice.
    fn store(self, to: &mut [Self::E], v: Self::V);
    /// `tanh`, error at most 3e-7 in `f32`.
    fn tanh(self, x: Self::V) -> Self::V;
    /// `1 / (1 + e^−x)`, error at most 3e-7 in `f32`.
    fn sigmoid(self, x: Self::V) -> Self::V;
}

/// An instruction set found on this machine.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Isa {
    /// Four `f32` lanes in plain Rust, for the target's baseline.
    Baseline,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    /// AVX-512 (F, BW, CD, DQ, VL).
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

impl Isa {
    /// Every instruction set of this machine, the widest one first.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(pulp::x86::V4::try_new().map(Self::Avx512));
            all.extend(pulp::x86::V3::try_new().map(Self::Avx2));
        }
        #[cfg(target_arch = "aarch64")]
        all.extend(pulp::aarch64::Neon::try_new().map(Self::Neon));
        all.push(Self::Baseline);
        all
    }

    /// The one that wastes least for layers with these many units: wide vectors, unless the
    /// padding to whole vectors costs more than they gain.
    ///
    /// `GRU_ISA` = `avx512`, `avx2`, `neon` or `baseline` overrides it.
    pub fn choose(units: &[usize]) -> Self {
        let all = Self::all();
        if let Ok(name) = std::env::var("GRU_ISA")
            && let Some(isa) = all.iter().find(|isa| isa.name() == name)
        {
            return *isa;
        }
        let padded = |isa: &Self| -> usize {
            units
                .iter()
                .map(|u| u.next_multiple_of(f32::lanes(*isa)))
                .sum()
        };
        let mut best = all[0];
        if all.len() > 2 && padded(&all[0]) * 8 > padded(&all[1]) * 9 {
            best = all[1];
        }
        best
    }

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
        }
    }
}

macro_rules! real {
    ($e:ident, $lanes:ident, $round:expr) => {
        impl Real for $e {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const ROUND: f64 = $round;
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as Self
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                self.exp()
            }
            #[inline(always)]
            fn ln(self) -> Self {
                self.ln()
            }
            #[inline(always)]
            fn ln_1p(self) -> Self {
                self.ln_1p()
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                self.tanh()
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn abs(self) -> Self {
                self.abs()
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                self.max(other)
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                self.min(other)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                self.is_finite()
            }
            fn run<K: Kernel<Self>>(isa: Isa, kernel: K) {
                struct Op<K, const FMA: bool>(K);
                impl<K: Kernel<$e>, const FMA: bool> pulp::WithSimd for Op<K, FMA> {
                    type Output = ();
                    #[inline(always)]
                    fn with_simd<S: Simd>(self, simd: S) {
                        self.0.run($lanes::<S, FMA>(simd));
                    }
                }
                match isa {
                    Isa::Baseline => Simd::vectorize(pulp::Scalar128b, Op::<K, false>(kernel)),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2(simd) => Simd::vectorize(simd, Op::<K, true>(kernel)),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512(simd) => Simd::vectorize(simd, Op::<K, true>(kernel)),
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon(simd) => Simd::vectorize(simd, Op::<K, true>(kernel)),
                }
            }
            fn lanes(isa: Isa) -> usize {
                let bytes = match isa {
                    Isa::Baseline => 16,
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2(_) => 32,
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512(_) => 64,
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon(_) => 16,
                };
                bytes / size_of::<Self>()
            }
        }
    };
}

real!(f32, F32, 12_582_912.0); // 1.5·2^23
real!(f64, F64, 6_755_399_441_055_744.0); // 1.5·2^52

/// Vectors of `f32`; `FMA` tells whether the machine fuses.
#[derive(Clone, Copy)]
struct F32<S, const FMA: bool>(S);

impl<S: Simd, const FMA: bool> Lanes for F32<S, FMA> {
    type E = f32;
    type V = S::f32s;
    const N: usize = S::F32_LANES;
    const REGISTERS: usize = if S::F32_LANES == 16 || cfg!(target_arch = "aarch64") {
        32
    } else {
        16
    };

    #[inline(always)]
    fn apart<K: Kernel<Self::E>>(self, kernel: K) {
        struct Op<K, const FMA: bool>(K);
        impl<K: Kernel<f32>, const FMA: bool> pulp::WithSimd for Op<K, FMA> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                self.0.run(F32::<S, FMA>(simd));
            }
        }
        Simd::vectorize(self.0, Op::<K, FMA>(kernel));
    }
    #[inline(always)]
    fn splat(self, x: f32) -> S::f32s {
        self.0.splat_f32s(x)
    }
    #[inline(always)]
    fn add(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.0.add_f32s(a, b)
    }
    #[inline(always)]
    fn sub(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.0.sub_f32s(a, b)
    }
    #[inline(always)]
    fn mul(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.0.mul_f32s(a, b)
    }
    #[inline(always)]
    fn fma(self, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        if FMA {
            self.0.mul_add_f32s(a, b, c)
        } else {
            // A baseline machine would call a library function for the fused form.
            self.0.add_f32s(self.0.mul_f32s(a, b), c)
        }
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> S::f32s {
        S::as_simd_f32s(&from[..S::F32_LANES]).0[0]
    }
    #[inline(always)]
    fn store(self, to: &mut [f32], v: S::f32s) {
        S::as_mut_simd_f32s(&mut to[..S::F32_LANES]).0[0] = v;
    }

    /// Odd rational function of degree 9 over 8, clamped at ±8.
    #[inline(always)]
    fn tanh(self, x: S::f32s) -> S::f32s {
        let s = self.0;
        // In this order the x86 instructions hand a NaN on instead of clamping it.
        let x = s.max_f32s(
            s.splat_f32s(-TANH_MAX),
            s.min_f32s(s.splat_f32s(TANH_MAX), x),
        );
        let x2 = self.mul(x, x);
        let mut p = s.splat_f32s(TANH_P[0]);
        for c in &TANH_P[1..] {
            p = self.fma(p, x2, s.splat_f32s(*c));
        }
        let mut q = s.splat_f32s(TANH_Q[0]);
        for c in &TANH_Q[1..] {
            q = self.fma(q, x2, s.splat_f32s(*c));
        }
        s.div_f32s(self.mul(x, p), q)
    }

    /// `(1 + tanh(x / 2)) / 2`
    #[inline(always)]
    fn sigmoid(self, x: S::f32s) -> S::f32s {
        let half = self.splat(0.5);
        self.fma(self.tanh(self.mul(x, half)), half, half)
    }
}

// Our own fit: least squares on the relative error, reweighted towards its maximum (6e-9 before
// rounding) on ±8, where 1 − tanh is 2.3e-7. Largest error of the f32 evaluation: 2.8e-7.
const TANH_MAX: f32 = 8.0;
const TANH_P: [f32; 5] = [
    1.523_042_4e-8,
    2.189_466_6e-5,
    3.571_598_3e-3,
    0.134_444_98,
    0.999_999_994,
];
const TANH_Q: [f32; 5] = [
    8.522_449e-7,
    3.411_292_4e-4,
    0.026_164_444,
    0.467_778_25,
    1.0,
];

/// Vectors of `f64`; the transcendental functions go through the standard library.
#[derive(Clone, Copy)]
struct F64<S, const FMA: bool>(S);

impl<S: Simd, const FMA: bool> F64<S, FMA> {
    #[inline(always)]
    fn each(self, x: S::f64s, f: impl Fn(f64) -> f64) -> S::f64s {
        let mut v = [x];
        for x in pulp::bytemuck::cast_slice_mut::<S::f64s, f64>(&mut v) {
            *x = f(*x);
        }
        v[0]
    }
}

impl<S: Simd, const FMA: bool> Lanes for F64<S, FMA> {
    type E = f64;
    type V = S::f64s;
    const N: usize = S::F64_LANES;
    const REGISTERS: usize = if S::F32_LANES == 16 || cfg!(target_arch = "aarch64") {
        32
    } else {
        16
    };

    #[inline(always)]
    fn apart<K: Kernel<Self::E>>(self, kernel: K) {
        struct Op<K, const FMA: bool>(K);
        impl<K: Kernel<f64>, const FMA: bool> pulp::WithSimd for Op<K, FMA> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                self.0.run(F64::<S, FMA>(simd));
            }
        }
        Simd::vectorize(self.0, Op::<K, FMA>(kernel));
    }
    #[inline(always)]
    fn splat(self, x: f64) -> S::f64s {
        self.0.splat_f64s(x)
    }
    #[inline(always)]
    fn add(self, a: S::f64s, b: S::f64s) -> S::f64s {
        self.0.add_f64s(a, b)
    }
    #[inline(always)]
    fn sub(self, a: S::f64s, b: S::f64s) -> S::f64s {
        self.0.sub_f64s(a, b)
    }
    #[inline(always)]
    fn mul(self, a: S::f64s, b: S::f64s) -> S::f64s {
        self.0.mul_f64s(a, b)
    }
    #[inline(always)]
    fn fma(self, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        if FMA {
            self.0.mul_add_f64s(a, b, c)
        } else {
            self.0.add_f64s(self.0.mul_f64s(a, b), c)
        }
    }
    #[inline(always)]
    fn load(self, from: &[f64]) -> S::f64s {
        S::as_simd_f64s(&from[..S::F64_LANES]).0[0]
    }
    #[inline(always)]
    fn store(self, to: &mut [f64], v: S::f64s) {
        S::as_mut_simd_f64s(&mut to[..S::F64_LANES]).0[0] = v;
    }
    #[inline(always)]
    fn tanh(self, x: S::f64s) -> S::f64s {
        self.each(x, f64::tanh)
    }
    #[inline(always)]
    fn sigmoid(self, x: S::f64s) -> S::f64s {
        self.each(x, Real::sigmoid)
    }
}
