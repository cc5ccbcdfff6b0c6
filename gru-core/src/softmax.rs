//! Probabilities from logits, in integers.
//!
//! `p_i = 2^((l_i − max)·log2 e) / Σ`: differences in Q15, a polynomial of fourth degree for the
//! fraction of the exponent, one reciprocal of 17 bits by a division of fixed duration. For a given
//! number of logits always the same instructions run, whatever the values.
//!
//! Measured against `f64` (test `error_against_f64`: random and extreme logits, 1 to 67 of them, all
//! `frac`): each probability within 0.9 units of Q15, the sum within one unit per output of 32768.

/// log2(e) in Q15.
const LOG2_E: u32 = 47_274;

/// What a difference of logits is multiplied by, and shifted right by, to be an exponent of two in Q15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exponent {
    multiplier: u16,
    shift: u8,
}

impl Exponent {
    /// That of logits with `frac` fractional bits (at most 15) as they are.
    #[inline]
    pub(crate) const fn of_logits(frac: u8) -> Self {
        Self {
            multiplier: LOG2_E as u16,
            shift: frac & 15,
        }
    }

    #[cfg(any(feature = "decision", test))]
    /// That of logits with `frac` fractional bits (at most 15), multiplied by `inverse_temperature` (Q12).
    ///
    /// Nothing where such large multiples need more fractional bits than there are.
    pub(crate) const fn new(frac: u8, inverse_temperature: u16) -> Option<Self> {
        let product = LOG2_E * inverse_temperature as u32;
        // Sixteen bits of it: bit 15 is the top one.
        let drop = 16u32.saturating_sub(product.leading_zeros());
        let multiplier = (product >> drop) + (product >> (drop.saturating_sub(1)) & 1);
        let shift = frac as u32 + 12;
        if drop > shift || frac > 15 {
            return None;
        }
        Some(Self {
            // The half that is added for rounding has to fit as well.
            multiplier: if multiplier > 65531 {
                65531
            } else {
                multiplier as u16
            },
            shift: (shift - drop) as u8,
        })
    }
}

/// `65535 · 2^-f` for a fraction `f` in Q15: relative error below 2^-15.
#[inline(always)]
fn exp2_fraction(f: u32) -> u32 {
    // Least relative error over 0..1 (Lawson's iteration), scaled by 65535.
    let y = 3478 - ((443 * f) >> 15);
    let y = 15685 - ((y * f) >> 15);
    let y = 45418 - ((y * f) >> 15);
    65535 - ((y * f) >> 15)
}

/// The larger one, without a branch on any core.
#[inline(always)]
fn max(a: i32, b: i32) -> i32 {
    let d = a.wrapping_sub(b);
    a.wrapping_sub(d & (d >> 31))
}

/// Turns logits into probabilities in Q15 (`32768` is 1): `out[i] = softmax(logits)[i]`.
///
/// `frac` is the number of fractional bits of the logits (at most 15), as
/// [`Output::frac`](crate::Output::frac) gives it. Missing logits count as impossible: their
/// probability is 0. More logits than places in `out` are ignored. Up to 1024 outputs.
pub fn softmax_q15(logits: impl IntoIterator<Item = i16>, frac: u8, out: &mut [u16]) {
    softmax_scaled(logits, Exponent::of_logits(frac), out);
}

/// As [`softmax_q15`], of logits that are multiplied first.
pub(crate) fn softmax_scaled(
    logits: impl IntoIterator<Item = i16>,
    exponent: Exponent,
    out: &mut [u16],
) {
    let mut logits = logits.into_iter();
    let mut largest = i16::MIN as i32;
    let mut n = 0;
    // Stored as `l + 32768`, so that the differences below are those of unsigned numbers.
    for (place, l) in out.iter_mut().zip(&mut logits) {
        #[cfg(gru_active = "mve")]
        crate::kernel::mve::scalar();
        *place = (l as u16) ^ 0x8000;
        largest = max(largest, l as i32);
        n += 1;
    }
    let (present, missing) = out.split_at_mut_checked(n).unwrap_or_default();
    // As in `StateRef::clear`: no `memset` for a case that is rare.
    let impossible = core::hint::black_box(0);
    for place in missing {
        *place = impossible;
    }
    normalize((largest + 32768) as u32, exponent, present);
}

/// [`softmax_scaled`] of logits that stand in memory: one copy of it for all callers.
#[inline(never)]
pub(crate) fn softmax_of(logits: &[i16], exponent: Exponent, out: &mut [u16]) {
    softmax_scaled(logits.iter().copied(), exponent, out);
}

/// The part that does not depend on where the logits come from.
#[cfg_attr(feature = "readouts", inline(never))]
fn normalize(largest: u32, exponent: Exponent, out: &mut [u16]) {
    let multiplier = exponent.multiplier as u32;
    let shift = (exponent.shift & 31) as u32;
    let half = (1 << shift) >> 1;
    let mut sum = 0u32;
    for place in out.iter_mut() {
        #[cfg(gru_active = "mve")]
        crate::kernel::mve::scalar();
        // With a shift up to 15 at most 65535 · 65535 + 2^14 < 2^32; up to 19 the multiplier is at most 65531.
        let y = (largest.wrapping_sub(*place as u32) * multiplier + half) >> shift;
        // 2^-22 and less is nothing, however much less.
        let whole = (y >> 15).min(24);
        // The sum keeps five more bits, or the roundings of many small terms would add up.
        let e = ((exp2_fraction(y & 32767) << 6) >> whole).wrapping_add(1) >> 1;
        *place = (e.wrapping_add(16) >> 5) as u16;
        sum = sum.wrapping_add(e);
    }
    // sum is in 65535·32 ..= 1024·65535·32 (or nothing is to be divided by it): shift its top bit to bit 30.
    let (scaled, zeros) = normalized(sum);
    let shift = 26 - zeros;
    let reciprocal = reciprocal(scaled);
    for place in out.iter_mut() {
        #[cfg(gru_active = "mve")]
        crate::kernel::mve::scalar();
        // 65535 · 65535 fits, but not the half that rounding would add.
        *place = (((*place as u32 * reciprocal) >> (shift - 1)).wrapping_add(1) >> 1) as u16;
    }
}

/// Shifts the top bit of a number below 2^31 to bit 30; by how much, 15 at most.
#[cfg(gru_dsp)]
#[inline(always)]
fn normalized(v: u32) -> (u32, u32) {
    let zeros = v.leading_zeros().wrapping_sub(1) & 15;
    (v << zeros, zeros)
}

/// Shifts the top bit of a number below 2^31 to bit 30; by how much, 15 at most.
#[cfg(not(gru_dsp))]
#[inline(always)]
fn normalized(v: u32) -> (u32, u32) {
    let (mut v, mut zeros) = (v, 0);
    #[cfg(gru_tiny)]
    for _ in 0..15 {
        let k = ((v >> 30) == 0) as u32;
        v <<= k;
        zeros += k;
    }
    #[cfg(not(gru_tiny))]
    for k in [8, 4, 2, 1] {
        let k = ((v >> (31 - k)) == 0) as u32 * k;
        v <<= k;
        zeros += k;
    }
    (v, zeros)
}

/// `2^46 / d`, rounded, for `d` in `2^30..2^31`: 32768 ..= 65535.
#[cfg(not(all(gru_dsp, not(gru_tiny))))]
#[inline(always)]
fn reciprocal(d: u32) -> u32 {
    let rest = (1u32 << 31).wrapping_sub(d).wrapping_add(d >> 16);
    32768 + crate::activation::divide_q15(rest, d, |v| v >> 31)
}

/// The same by Newton's iteration, where a long multiplication takes one cycle and code may be longer.
#[cfg(all(gru_dsp, not(gru_tiny)))]
#[inline(always)]
fn reciprocal(d: u32) -> u32 {
    newton(d)
}

/// `2^46 / d`, rounded, for `d` in `2^30..2^31`; equals `reciprocal` in every bit.
#[cfg(any(all(gru_dsp, not(gru_tiny)), test))]
#[inline(always)]
fn newton(d: u32) -> u32 {
    let high = |a: u32, b: u32| ((a as u64 * b as u64) >> 32) as u32;
    // 2^61/d from the line 48/17 − 32/17·x, the best one on 1/2..1; its error is 1/17.
    let mut r = 3_031_741_621 - high(d, 4_042_322_160);
    for _ in 0..3 {
        r = high(r, (1u32 << 30).wrapping_sub(high(d, r))) << 3;
    }
    let q = (r >> 15).min(65535);
    // One too many or too few at most: the remainder tells.
    let wanted = (1u64 << 46) + ((d as u64 >> 16) << 15);
    let rest = wanted as i64 - q as i64 * d as i64;
    let q = q + (rest >= d as i64) as u32 - (rest < 0) as u32;
    q.min(65535)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;
    use std::vec;
    use std::vec::Vec;

    fn check(logits: &[i16], frac: u8) -> (f64, i64) {
        let mut out = vec![0; logits.len()];
        softmax_q15(logits.iter().copied(), frac, &mut out);
        let real = |l: i16| l as f64 / (1 << frac) as f64;
        let largest = real(*logits.iter().max().unwrap());
        let exp: Vec<f64> = logits.iter().map(|&l| (real(l) - largest).exp()).collect();
        let sum: f64 = exp.iter().sum();
        let worst = exp
            .iter()
            .zip(&out)
            .map(|(e, &p)| (e / sum * 32768.0 - p as f64).abs())
            .fold(0.0, f64::max);
        (worst, out.iter().map(|&p| p as i64).sum::<i64>() - 32768)
    }

    #[test]
    fn error_against_f64() {
        let mut rng = SplitMix(5);
        let mut worst = 0f64;
        let mut worst_sum = 0f64;
        // The interpreter is a thousand times slower.
        let (lengths, rounds) = if cfg!(miri) { (33, 15) } else { (1, 1) };
        for n in (1..=67).step_by(lengths) {
            for frac in (0..=15u8).step_by(rounds) {
                for round in (0..40).step_by(rounds) {
                    // From all equal over narrow to the whole range.
                    let spread = [0, 1, 300, 3000, 32767][round % 5] >> (round / 20 * 2);
                    let mut logits: Vec<i16> =
                        (0..n).map(|_| rng.range(-spread, spread) as i16).collect();
                    if round % 7 == 0 {
                        logits[0] = i16::MIN;
                        logits[n - 1] = i16::MAX;
                    }
                    let (error, sum) = check(&logits, frac);
                    worst = worst.max(error);
                    worst_sum = worst_sum.max(sum.abs() as f64 / n as f64);
                    assert!(error <= 0.9, "{error} {sum} {logits:?} {frac}");
                    assert!(sum.abs() <= n as i64, "{sum} {logits:?} {frac}");
                }
            }
        }
        std::println!("worst {worst}, sum {worst_sum} per output");
        for n in [512, 1024].into_iter().take(if cfg!(miri) { 1 } else { 2 }) {
            for l in [i16::MIN, 0, i16::MAX] {
                let (error, sum) = check(&vec![l; n], 10);
                assert!(error <= 0.9 && sum.abs() <= n as i64, "{error} {sum}");
            }
        }
    }

    #[test]
    fn every_difference_of_two_logits() {
        let mut worst = 0f64;
        for frac in [6, 10, 12] {
            for l in (i16::MIN..=i16::MAX).step_by(if cfg!(miri) { 1331 } else { 1 }) {
                worst = worst.max(check(&[l, 0], frac).0);
                worst = worst.max(check(&[l, i16::MAX], frac).0);
            }
        }
        std::println!("worst of two {worst}");
        assert!(worst <= 0.9, "{worst}");
    }

    #[test]
    fn newton_equals_the_division_in_every_bit() {
        let mut rng = SplitMix(6);
        let near = |c: u32| (c - 2000..=c + 2000).filter(|d| (1 << 30..1 << 31).contains(d));
        let edges = (0..64).flat_map(|i| near((1 << 30) + (i << 24) + 2000));
        let top = ((1u32 << 31) - 4000)..(1 << 31);
        let random = (0..if cfg!(miri) { 1331 } else { 1_000_000 })
            .map(|_| (1 << 30) | rng.bits() as u32 >> 2);
        let all = edges.chain(top).chain(random).chain([1 << 30]);
        for d in all.step_by(if cfg!(miri) { 1331 } else { 1 }) {
            let exact = ((1u64 << 46) + ((d as u64 >> 16) << 15)) / d as u64;
            assert_eq!(newton(d) as u64, exact.min(65535), "{d}");
            let rest = (1u32 << 31) - d + (d >> 16);
            let division = 32768 + crate::activation::divide_q15(rest, d, |v| v >> 31);
            assert_eq!(newton(d), division, "{d}");
        }
    }

    #[test]
    fn lengths_that_differ() {
        let mut out = [7; 3];
        softmax_q15([1000], 10, &mut out);
        assert_eq!(out, [32768, 0, 0]);
        softmax_q15([0, 0, 5], 10, &mut out[..2]);
        assert_eq!(out, [16384, 16384, 0]);
        softmax_q15([], 10, &mut []);
    }
}
