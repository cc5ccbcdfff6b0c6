//! Activations in integers.
//!
//! A pre-activation `v` is 16 bits wide and its full scale belongs to the function
//! ([`Activation::full_scale`]): 6.0 for tanh, 12.0 for the sigmoid. Because `σ(2a) = (1 + tanh a)/2`
//! one table serves both.
//!
//! Measured over all 65 536 inputs against `f64` (test `error_of_tables`): tanh within 1.55 and the
//! sigmoid within 0.78 units of Q15.

use crate::kernel::masks::sign_mask;
use crate::quant::{SIGMOID_FULL_SCALE, TANH_FULL_SCALE, limit, sat16};
#[cfg(any(gru_tiny, test))]
use crate::tanh_nodes::NODES;
pub use crate::tanh_table::TANH_TABLE;
use serde::{Deserialize, Serialize};

// The kernels in assembly saturate the place in the table and not the value, so the fraction of a value beyond must not count.
const _: () = assert!(
    TANH_TABLE[0] as u16 == 0 && TANH_TABLE[511] as u16 == 0,
    "both ends of the table are flat"
);

/// An activation function of the integer path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Activation {
    /// `tanh(x)`.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `clamp(x/6 + 1/2, 0, 1)`, as Keras 3 has it.
    HardSigmoid,
    /// `clamp(x, -1, 1)`.
    HardTanh,
    /// `x / (1 + |x|)`, cut at `|x| = 32`.
    Softsign,
    /// `x`, saturated at the calibrated range.
    Linear,
    /// `max(x, 0)`, saturated at the calibrated range.
    Relu,
}

impl Activation {
    /// The real number that a pre-activation of 32768 stands for.
    ///
    /// `exponent` is the calibrated range of `Linear` and `Relu`, a power of two; the bounded
    /// functions ignore it.
    pub fn full_scale(self, exponent: u8) -> f32 {
        match self {
            Self::Tanh | Self::HardSigmoid => TANH_FULL_SCALE,
            Self::Sigmoid => SIGMOID_FULL_SCALE,
            Self::HardTanh => 1.0,
            Self::Softsign => 32.0,
            Self::Linear | Self::Relu => (1u32 << (exponent & 15)) as f32,
        }
    }

    /// Whether the result stays within -1..=1 whatever goes in.
    pub const fn is_bounded(self) -> bool {
        !matches!(self, Self::Linear | Self::Relu)
    }

    /// The function as a candidate or output: 16 bits, full scale 1.0 (`2^exponent` for `Linear`
    /// and `Relu`).
    pub(crate) fn candidate(self, v: i16) -> i16 {
        match self {
            Self::Tanh => tanh(v),
            Self::Sigmoid => (sigmoid(v) >> 1) as i16,
            Self::HardSigmoid => (hard_sigmoid(v) >> 1) as i16,
            Self::Softsign => softsign(v),
            Self::HardTanh | Self::Linear => v,
            Self::Relu => v & !sign_mask(v as i32) as i16,
        }
    }

    /// The function as a gate: full scale 65536, or `65536 · 2^exponent` for `Linear` and `Relu`.
    ///
    /// `exponent` is at most 7.
    pub(crate) fn gate(self, v: i16, exponent: u8) -> i32 {
        match self {
            Self::Sigmoid => sigmoid(v),
            Self::HardSigmoid => hard_sigmoid(v),
            Self::Linear | Self::Relu => (self.candidate(v) as i32) << (1 + (exponent & 7)),
            _ => (self.candidate(v) as i32) << 1,
        }
    }
}

/// `tanh` in Q15 of a pre-activation whose full scale is 6.0.
#[inline(always)]
pub fn tanh(v: i16) -> i16 {
    #[cfg(gru_tiny)]
    return tanh_of_nodes(v);
    #[cfg(not(gru_tiny))]
    tanh_of_table(v)
}

#[cfg(any(not(gru_tiny), test))]
#[inline(always)]
fn tanh_of_table(v: i16) -> i16 {
    let v = v as i32;
    // 9 bits of index: the mask only tells the compiler what the table's length already promises.
    let w = TANH_TABLE[(((v >> 7) + 256) & 511) as usize] as i32;
    let f = (v & 127) << 8;
    (w.wrapping_add((w as i16 as i32).wrapping_mul(f)) >> 16) as i16
}

/// The same in every bit from a table of 770 bytes instead of 2,048: see [`crate::tanh_nodes`].
#[cfg(any(gru_tiny, test))]
#[inline(never)]
fn tanh_of_nodes(v: i16) -> i16 {
    let v = v as i32;
    let sign = v >> 15;
    let segment = ((v ^ sign) >> 7) as usize & 255;
    let corrections = NODES.corrections[segment] as i32;
    let (near, far) = (NODES.nodes[segment] as i32, NODES.nodes[segment + 1] as i32);
    let rise = far - near;
    // The left end: the nearer node, or the farther one with the other sign.
    let left = ((near + (rise & sign)) ^ sign) + ((corrections >> 6) & sign);
    let slope = 2 * rise + ((corrections >> (sign & 3)) & 7) - 2;
    (left + (slope.wrapping_mul(((v & 127) << 8) + 1) >> 16)) as i16
}

/// The sigmoid in Q16 (`0..=65535`) of a pre-activation whose full scale is 12.0.
#[inline(always)]
pub fn sigmoid(v: i16) -> i32 {
    32768 + tanh(v) as i32
}

#[inline]
fn hard_sigmoid(v: i16) -> i32 {
    // Of `sat16` behind the doubling the compiler makes branches.
    limit(2 * v as i32, -32768, 32767) + 32768
}

/// `32768·v/(1024 + |v|)` for full scale 32, by a division of fixed duration.
fn softsign(v: i16) -> i16 {
    let magnitude = (v as i32).unsigned_abs();
    let quotient = divide_q15(magnitude, 1024 + magnitude, sign_mask) as i32;
    let sign = (v as i32) >> 31;
    sat16((quotient ^ sign) - sign)
}

/// `floor(n · 2^15 / d)` for `n < d < 2^31` in fifteen steps, without a branch if `sign_mask` has none.
#[inline(always)]
pub(crate) fn divide_q15(n: u32, d: u32, sign_mask: impl Fn(i32) -> i32) -> u32 {
    let mut rest = n;
    let mut quotient = 0;
    let mut i = 0;
    while i < 15 {
        rest <<= 1;
        // All ones where `d` does not fit; both are below 2^31 apart.
        let less = sign_mask(rest.wrapping_sub(d) as i32) as u32;
        rest = rest.wrapping_sub(d & !less);
        quotient = (quotient << 1) | ((less & 1) ^ 1);
        i += 1;
    }
    quotient
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(f: impl Fn(i16) -> f64, g: impl Fn(f64) -> f64, full_scale: f64) -> f64 {
        (i16::MIN..=i16::MAX)
            .step_by(if cfg!(miri) { 331 } else { 1 })
            .map(|v| (f(v) - g(v as f64 / 32768.0 * full_scale) * 32768.0).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn the_nodes_give_the_bits_of_the_table() {
        for v in (i16::MIN..=i16::MAX).step_by(if cfg!(miri) { 331 } else { 1 }) {
            assert_eq!(tanh_of_nodes(v), tanh_of_table(v), "{v}");
        }
    }

    #[test]
    fn error_of_tables() {
        let e = worst(|v| tanh(v) as f64, f64::tanh, 6.0);
        assert!(e <= 1.55, "tanh {e}");
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        let e = worst(|v| sigmoid(v) as f64 / 2.0, sigma, 12.0);
        assert!(e <= 0.78, "sigmoid {e}");
        let e = worst(|v| softsign(v) as f64, |x| x / (1.0 + x.abs()), 32.0);
        assert!(e <= 1.0, "softsign {e}");
        let e = worst(
            |v| hard_sigmoid(v) as f64 / 2.0,
            |x| (x / 6.0 + 0.5).clamp(0.0, 1.0),
            6.0,
        );
        assert!(e <= 0.5, "hard sigmoid {e}");
    }

    #[test]
    fn tanh_of_zero_is_zero_and_tanh_never_falls() {
        assert_eq!(tanh(0), 0);
        let mut all = (i16::MIN..i16::MAX).step_by(if cfg!(miri) { 331 } else { 1 });
        assert!(all.all(|v| tanh(v + 1) as i32 >= tanh(v) as i32 - 1));
    }
}
