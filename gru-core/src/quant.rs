//! Number formats and the few rounding rules of the quantized step.
//!
//! Every shift below says how it rounds and every narrowing says that it saturates; nothing else
//! in the quantized path narrows an integer. `docs/quantization.md` derives the error budget.

#[cfg(any(gru_masks, test))]
use crate::kernel::masks::nonzero_mask;
use crate::kernel::masks::sign_mask;

/// Fractional bits of a hidden state whose activation is bounded by one: Q15.
pub const STATE_FRAC_BITS: u32 = 15;

/// Full scale of a sigmoid pre-activation: `v = 32768` stands for 12.0.
pub const SIGMOID_FULL_SCALE: f32 = 12.0;

/// Full scale of a tanh pre-activation: `v = 32768` stands for 6.0.
pub const TANH_FULL_SCALE: f32 = 6.0;

/// Saturates to `-32768..=32767`.
#[inline(always)]
pub fn sat16(v: i32) -> i16 {
    #[cfg(gru_masks)]
    return sat16_by_masks(v);
    #[cfg(not(gru_masks))]
    return v.clamp(i16::MIN as i32, i16::MAX as i32) as i16;
}

/// The same on cores without an instruction for it, see [`crate::kernel::masks`].
#[cfg(any(gru_masks, test))]
#[inline(always)]
fn sat16_by_masks(v: i32) -> i16 {
    let outside = nonzero_mask(v ^ v as i16 as i32);
    (v ^ ((v ^ (v >> 31) ^ i16::MAX as i32) & outside)) as i16
}

/// `v`, at least `low` and at most `high`, without a branch; both are below `2^30` apart from `v`.
#[inline(always)]
pub(crate) fn limit(v: i32, low: i32, high: i32) -> i32 {
    let above = v.wrapping_sub(high);
    let v = v.wrapping_sub(above & !sign_mask(above));
    let below = v.wrapping_sub(low);
    v.wrapping_sub(below & sign_mask(below))
}

/// Requantizes a row of a GRU matrix: `floor(acc · multiplier / 2^16)`.
///
/// `multiplier` is in `1..=32767`, so the result is below `2^30` in magnitude for every `acc`.
/// The floor's bias of half a unit is compensated in the row's bias by the quantizer.
#[inline(always)]
pub const fn requantize(acc: i32, multiplier: u16) -> i32 {
    ((acc as i64 * multiplier as i64) >> 16) as i32
}

/// Requantizes a row of a Dense matrix: `sat16(bias + floor(acc · multiplier / 2^32))`.
///
/// `multiplier` is positive and `|bias| < 2^30`, so the sum cannot overflow.
#[inline(always)]
pub fn requantize_dense(acc: i32, multiplier: i32, bias: i32) -> i16 {
    sat16(bias.wrapping_add(((acc as i64 * multiplier as i64) >> 32) as i32))
}

/// Divides by `2^shift` (`shift <= 30`), ties towards plus infinity; saturates instead of overflowing.
#[inline(always)]
pub fn round_shift(v: i32, shift: u32) -> i32 {
    // Half a unit, and nothing for a shift by nothing: no case to tell apart.
    let half = ((1u32 << shift) >> 1) as i32;
    #[cfg(gru_masks)]
    return add_by_masks(v, half) >> shift;
    #[cfg(not(gru_masks))]
    return v.saturating_add(half) >> shift;
}

/// The saturating sum of `v` and `half >= 0`, likewise.
#[cfg(any(gru_masks, test))]
#[inline(always)]
fn add_by_masks(v: i32, half: i32) -> i32 {
    let sum = v.wrapping_add(half);
    sum ^ ((sum ^ i32::MAX) & sign_mask(!v & sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requantize_is_the_floor_of_the_exact_product() {
        for (acc, m, want) in [
            (0, 1, 0),
            (1, 1, 0),
            (-1, 1, -1),
            (65536, 1, 1),
            (i32::MAX, 32767, 1_073_709_055),
            (i32::MIN, 32767, -1_073_709_056),
        ] {
            assert_eq!(requantize(acc, m), want, "{acc} {m}");
        }
    }

    #[test]
    fn round_shift_rounds_half_up_and_saturates() {
        assert_eq!(round_shift(3, 1), 2);
        assert_eq!(round_shift(-3, 1), -1);
        assert_eq!(round_shift(i32::MAX, 4), i32::MAX >> 4);
        assert_eq!(round_shift(7, 0), 7);
    }

    #[test]
    fn masks_saturate_as_comparisons_do() {
        let edges = [i32::MIN, i32::MAX, -65536, 65535, -32769, 32768].into_iter();
        let step = if cfg!(miri) { 331 } else { 1 };
        for v in edges.chain((-70_000..70_000).step_by(step)) {
            let want = v.clamp(i16::MIN as i32, i16::MAX as i32) as i16;
            assert_eq!([sat16(v), sat16_by_masks(v)], [want; 2], "{v}");
            for half in [0, 1, 1 << 29] {
                assert_eq!(add_by_masks(v, half), v.saturating_add(half), "{v} {half}");
            }
            assert_eq!(limit(v >> 3, -7, 5), (v >> 3).clamp(-7, 5), "{v}");
        }
    }

    #[test]
    fn dense_saturates_to_sixteen_bits() {
        assert_eq!(requantize_dense(i32::MAX, i32::MAX, 0), i16::MAX);
        assert_eq!(requantize_dense(i32::MIN, i32::MAX, 0), i16::MIN);
        assert_eq!(requantize_dense(-1, 1, 0), -1);
    }
}
