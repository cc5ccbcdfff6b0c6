//! Raw sample → quantized input: standardisation folded into integers, limits, gaps.
//!
//! Per feature, with the artifact's constants, a raw count becomes
//!
//! ```text
//! d   = clamp(round((raw − offset) / 2^pre_shift), −65535, 65535)
//! x_q = sat16(round(d · multiplier / 2^shift))          real = x_q · 2^input_exponent / 32768
//! ```
//!
//! where *real* is the standardised value `(raw − mean) / std`. The difference, and its sum with the half unit of the
//! rounding, saturate at the ends of `i32`.

#[cfg(any(feature = "inputs", test))]
use crate::artifact::FEATURE_PARAMS;
use crate::quant::{round_shift, sat16};

/// A feature's conditioning, 12 bytes of the payload.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FeatureParams {
    /// The raw count that becomes 0: the training data's mean.
    pub offset: i32,
    /// Counts per physical unit, for samples given in units.
    pub counts_per_unit: f32,
    /// Multiplier, `1..=32767`.
    pub multiplier: u16,
    /// Shift after the multiplication, `0..=17`.
    pub shift: u8,
    /// Shift before it, for raw counts wider than 17 bits; `0..=16`.
    pub pre_shift: u8,
}

impl FeatureParams {
    /// Reads the 12 bytes of a feature; missing bytes read as zero.
    #[inline]
    pub(crate) fn read(bytes: &[u8]) -> Self {
        match *bytes {
            [o0, o1, o2, o3, c0, c1, c2, c3, m0, m1, shift, pre_shift] => Self {
                offset: i32::from_le_bytes([o0, o1, o2, o3]),
                counts_per_unit: f32::from_le_bytes([c0, c1, c2, c3]),
                multiplier: u16::from_le_bytes([m0, m1]),
                shift,
                pre_shift,
            },
            _ => Self {
                offset: 0,
                counts_per_unit: 0.0,
                multiplier: 0,
                shift: 0,
                pre_shift: 0,
            },
        }
    }

    #[cfg(any(feature = "inputs", test))]
    /// Only the counts per unit of a feature's 12 bytes.
    #[inline]
    pub(crate) fn counts_per_unit(bytes: &[u8; FEATURE_PARAMS]) -> f32 {
        let [_, _, _, _, c0, c1, c2, c3, ..] = *bytes;
        f32::from_le_bytes([c0, c1, c2, c3])
    }

    /// The 12 bytes.
    pub fn to_bytes(&self) -> [u8; 12] {
        let [o0, o1, o2, o3] = self.offset.to_le_bytes();
        let [c0, c1, c2, c3] = self.counts_per_unit.to_le_bytes();
        let [m0, m1] = self.multiplier.to_le_bytes();
        [
            o0,
            o1,
            o2,
            o3,
            c0,
            c1,
            c2,
            c3,
            m0,
            m1,
            self.shift,
            self.pre_shift,
        ]
    }

    /// Conditions one raw count.
    #[inline]
    pub fn condition(&self, raw: i32) -> i16 {
        let d = round_shift(
            raw.saturating_sub(self.offset),
            (self.pre_shift & 31) as u32,
        );
        let d = d.clamp(-65535, 65535);
        // At most 65535 · 32767 + 2^16 < 2^31.
        sat16(round_shift(
            d.wrapping_mul(self.multiplier as i32),
            (self.shift & 31) as u32,
        ))
    }
}

/// The smallest and largest valid raw count of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Limits {
    /// Smallest valid count.
    pub low: i32,
    /// Largest valid count.
    pub high: i32,
}

impl Limits {
    /// No limits.
    pub const NONE: Self = Self {
        low: i32::MIN,
        high: i32::MAX,
    };

    #[cfg(any(feature = "inputs", test))]
    /// Reads the 8 bytes of a feature; missing bytes read as no limits.
    #[inline]
    pub(crate) const fn read(bytes: &[u8]) -> Self {
        match *bytes {
            [l0, l1, l2, l3, h0, h1, h2, h3] => Self {
                low: i32::from_le_bytes([l0, l1, l2, l3]),
                high: i32::from_le_bytes([h0, h1, h2, h3]),
            },
            _ => Self::NONE,
        }
    }

    /// The 8 bytes.
    pub fn to_bytes(&self) -> [u8; 8] {
        let [l0, l1, l2, l3] = self.low.to_le_bytes();
        let [h0, h1, h2, h3] = self.high.to_le_bytes();
        [l0, l1, l2, l3, h0, h1, h2, h3]
    }

    #[cfg(any(feature = "inputs", test))]
    pub(crate) const fn is_range(&self) -> bool {
        self.low <= self.high
    }

    /// Whether `raw` is valid.
    #[inline]
    pub const fn holds(&self, raw: i32) -> bool {
        self.low <= raw && raw <= self.high
    }
}

mod sealed {
    /// Which types samples can consist of is this crate's choice: steps rely on what each needs.
    pub trait Sealed {}
    impl Sealed for i16 {}
    #[cfg(any(feature = "inputs", test))]
    impl Sealed for i32 {}
    #[cfg(any(feature = "inputs", test))]
    impl Sealed for f32 {}
    #[cfg(any(feature = "inputs", test))]
    impl<S: Sealed> Sealed for Option<S> {}
}

/// A kind of raw value that a sample can consist of: `i16`, and with the feature `inputs` also `i32`, `f32` in physical
/// units and `Option`s of them.
///
/// `None` from [`counts`](Self::counts) means that the value is missing or not a number.
pub trait Sample: Copy + sealed::Sealed {
    /// The value in raw counts; `counts_per_unit` converts from physical units where needed.
    fn counts(self, counts_per_unit: f32) -> Option<i32>;

    /// The values themselves where they are 16-bit counts: a shorter way leads through the step.
    #[inline]
    fn as_counts(values: &[Self]) -> Option<&[i16]> {
        let _ = values;
        None
    }
}

impl Sample for i16 {
    #[inline]
    fn counts(self, _: f32) -> Option<i32> {
        Some(self as i32)
    }

    #[inline]
    fn as_counts(values: &[Self]) -> Option<&[i16]> {
        Some(values)
    }
}

#[cfg(any(feature = "inputs", test))]
impl Sample for i32 {
    #[inline]
    fn counts(self, _: f32) -> Option<i32> {
        Some(self)
    }
}

#[cfg(any(feature = "inputs", test))]
/// Physical units: `value · counts_per_unit`, rounded to an f32 and then to a whole number, ties away from zero. NaN and
/// ±∞ are missing values; a number whose counts are beyond the range of `i32`, or even of f32, saturates.
impl Sample for f32 {
    #[inline]
    fn counts(self, counts_per_unit: f32) -> Option<i32> {
        let counts = self * counts_per_unit;
        // Ties away from zero, as `f32::round` has it; `as` cuts and saturates. Adding a half first
        // would round twice: 0.49999997 + 0.5 is 1.0 in f32, and so are odd counts beyond 2^23 off.
        let whole = counts as i32;
        let rest = counts - whole as f32;
        let round = (rest >= 0.5) as i32 - (rest <= -0.5) as i32;
        self.is_finite().then_some(whole.saturating_add(round))
    }
}

#[cfg(any(feature = "inputs", test))]
/// A value that may be missing.
impl<S: Sample> Sample for Option<S> {
    #[inline]
    fn counts(self, counts_per_unit: f32) -> Option<i32> {
        self.and_then(|s| s.counts(counts_per_unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(offset: i32, multiplier: u16, shift: u8, pre_shift: u8) -> FeatureParams {
        FeatureParams {
            offset,
            counts_per_unit: 1.0,
            multiplier,
            shift,
            pre_shift,
        }
    }

    #[test]
    fn conditioning_rounds_and_saturates() {
        let p = params(100, 3, 1, 0);
        assert_eq!(p.condition(100), 0);
        assert_eq!(p.condition(101), 2);
        assert_eq!(p.condition(99), -1);
        assert_eq!(p.condition(i32::MAX), i16::MAX);
        assert_eq!(p.condition(i32::MIN), i16::MIN);
    }

    #[test]
    fn no_extreme_overflows() {
        for multiplier in [1, 32767] {
            for shift in [0, 17] {
                for pre in [0, 16] {
                    for offset in [i32::MIN, -1, 0, i32::MAX] {
                        for raw in [i32::MIN, -1, 0, 1, i32::MAX] {
                            let p = params(offset, multiplier, shift, pre);
                            let d = (raw as i64 - offset as i64)
                                .clamp(i32::MIN as i64, i32::MAX as i64);
                            let d = if pre == 0 {
                                d
                            } else {
                                (d + (1 << (pre - 1))) >> pre
                            };
                            let d = d.clamp(-65535, 65535) * multiplier as i64;
                            let y = if shift == 0 {
                                d
                            } else {
                                (d + (1 << (shift - 1))) >> shift
                            };
                            let y = y.clamp(-32768, 32767);
                            assert_eq!(p.condition(raw) as i64, y, "{p:?} {raw}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn floats_that_are_no_numbers_are_missing() {
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(x.counts(1.0), None);
        }
        assert_eq!(1.5f32.counts(1.0), Some(2));
        assert_eq!((-1.5f32).counts(1.0), Some(-2));
        assert_eq!(1e30f32.counts(1.0), Some(i32::MAX));
        assert_eq!((-1e30f32).counts(1.0), Some(i32::MIN));
        // Beyond what an f32 holds, and so an infinite product of a number.
        assert_eq!(1e35f32.counts(4096.0), Some(i32::MAX));
        assert_eq!((-1e35f32).counts(4096.0), Some(i32::MIN));
        // Rounded once, not twice.
        assert_eq!(0.499_999_97f32.counts(1.0), Some(0));
        assert_eq!((-0.499_999_97f32).counts(1.0), Some(0));
        assert_eq!(8_388_609f32.counts(1.0), Some(8_388_609));
        assert_eq!(Some(3i16).counts(1.0), Some(3));
        assert_eq!(None::<i16>.counts(1.0), None);
    }

    #[test]
    fn bytes_round_trip() {
        let p = params(-5, 77, 3, 2);
        assert_eq!(FeatureParams::read(&p.to_bytes()), p);
        let l = Limits { low: -9, high: 12 };
        assert_eq!(Limits::read(&l.to_bytes()), l);
    }
}
