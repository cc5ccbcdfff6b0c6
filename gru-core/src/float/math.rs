//! Elementary functions in f32.
//!
//! `tanh` and `sigmoid` of the step are built here from one exponential, without table or
//! branch; only additions, multiplications, divisions and integer operations occur, so their bits are the same on every core. The rest comes from `libm`.
//!
//! Largest errors against f64, over all finite f32 (the test `errors_are_as_written` samples them;
//! its ignored sibling visits every value):
//!
//! | function | absolute | units in the last place |
//! |---|---|---|
//! | [`tanh`] | 1.7e-7 | 2.9 |
//! | [`sigmoid`] | 9.0e-8 | 2.5 for x ≥ −86; below, less than 2e-38 absolute |
//!
//! The step of a GRU with sigmoid and tanh has [`gates`], which computes `h'` with one exponential for each gate
//! and two divisions; it is off by less than 5e-7, the rounding of the candidate's argument included.
//!
//! The alternatives, for one value alone on a Cortex-M4 (estimated cycles, rustc 1.95, opt-level 3;
//! errors on ±12): here 141 (sigmoid) and 144 (tanh); `libm` 0.2.16 133 and 165, errors 6.0e-8 and 8.2e-8; `micromath` 2.1.0
//! 167 and 171, errors 5.3e-4 and 1.1e-3. As micromath is neither faster nor as accurate, there is
//! no feature for it.

use super::dot::Sums;

/// `2^23 + 2^22`: adding it to a small number leaves the nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;
/// `ln 2` in two parts; the first one has 15 significant bits, so that its products are exact.
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;
/// Minimax on `|r| ≤ ln(2)/2` of `(e^r − 1 − r)/r²`, relative error of `e^r` 3.1e-9.
const EXP: [f32; 5] = [
    0.499_999_94,
    0.166_665_21,
    0.041_668_39,
    0.008_368_745,
    0.001_381_453_9,
];
/// `q` and `s` with `e^x = s·(1 + q)`, `s` a power of two, for several values at once; x is
/// limited to `|x| ≤ 87`.
///
/// `x = k·ln 2 + r`, `s = 2^k`, `q = e^r − 1 = r + r²·P(r)`. Stage by stage over all values, so
/// that on an in-order FPU no operation waits for the one before it.
#[inline(always)]
fn exp_parts<const N: usize>(x: [f32; N]) -> ([f32; N], [f32; N]) {
    let x = x.map(|x| limit(x, -87.0, 87.0));
    let shifted = x.map(|x| x * core::f32::consts::LOG2_E + ROUND);
    // The low bits of `shifted` are k, the ones above leave with the shift: exponent k + 127.
    let scale = shifted.map(|v| f32::from_bits((v.to_bits() << 23).wrapping_add(127 << 23)));
    let k = shifted.map(|v| v - ROUND);
    let r = zip(x, k, |x, k| x - k * LN2_HI);
    let r = zip(r, k, |r, k| r - k * LN2_LO);
    let [c2, c3, c4, c5, c6] = EXP;
    let p = r.map(|r| c6 * r + c5);
    let p = zip(p, r, |p, r| p * r + c4);
    let p = zip(p, r, |p, r| p * r + c3);
    let p = zip(p, r, |p, r| p * r + c2);
    let square = r.map(|r| r * r);
    let q = zip(zip(square, p, |s, p| s * p), r, |p, r| r + p);
    (q, scale)
}

/// Element by element.
#[inline(always)]
fn zip<const N: usize>(a: [f32; N], b: [f32; N], f: impl Fn(f32, f32) -> f32) -> [f32; N] {
    let mut out = a;
    for (o, b) in out.iter_mut().zip(b) {
        *o = f(*o, b);
    }
    out
}

/// `tanh(x)`; never beyond ±1, NaN for NaN.
///
/// With `e^(2x) = s·(1 + q)`: `(s·q + (s − 1)) / (s·q + (s + 1))`. Near 0, `s = 1` and the numerator
/// is `q` itself, so that small values keep their relative accuracy.
#[inline(always)]
pub(super) fn tanh_all<const N: usize>(x: [f32; N]) -> [f32; N] {
    let (q, s) = exp_parts(x.map(|x| x + x));
    let sq = zip(s, q, |s, q| s * q);
    let above = zip(sq, s, |sq, s| sq + (s - 1.0));
    let below = zip(sq, s, |sq, s| sq + (s + 1.0));
    zip(above, below, |a, b| a / b)
}

/// `1 / (1 + e^(−x))`; within 0..=1, NaN for NaN.
#[inline(always)]
pub(super) fn sigmoid_all<const N: usize>(x: [f32; N]) -> [f32; N] {
    let (q, s) = exp_parts(x.map(|x| -x));
    let below = zip(zip(s, q, |s, q| s * q), s, |sq, s| sq + (s + 1.0));
    below.map(|b| 1.0 / b)
}

/// Arguments of the exponentials in [`gates`] are limited to this; the sigmoid is then 1.3e-14 off.
pub(super) const GATE_LIMIT: f32 = 32.0;
/// `2^23 + 2^22 + 127`: the low bits of a sum with it are the biased exponent.
const GATE_ROUND: f32 = 12_583_039.0;
/// What [`gates`] multiplies with: `−log2 e`, what rounds, `ln 2`, the polynomial.
pub(super) static GATE_CONSTANTS: [f32; 8] = {
    let [c2, c3, c4, c5, c6] = EXP;
    [
        -core::f32::consts::LOG2_E,
        GATE_ROUND,
        core::f32::consts::LN_2,
        c2,
        c3,
        c4,
        c5,
        c6,
    ]
};

/// As [`exp_parts`], but with absolute accuracy only: `k·ln 2` is rounded once.
#[inline(always)]
fn gate_exp<const N: usize>(x: [f32; N]) -> ([f32; N], [f32; N]) {
    let x = x.map(|x| limit(x, -GATE_LIMIT, GATE_LIMIT));
    let [log, round, ln2, c2, c3, c4, c5, c6] = GATE_CONSTANTS;
    let shifted = x.map(|x| round - x * log);
    let s = shifted.map(|v| f32::from_bits(v.to_bits() << 23));
    let r = zip(x, shifted, |x, v| x - (v - round) * ln2);
    let square = r.map(|r| r * r);
    let high = zip(r, square, |r, square| (c4 + c5 * r) + c6 * square);
    let p = zip(zip(square, high, |s, h| s * h), r, |sh, r| {
        (c2 + c3 * r) + sh
    });
    (zip(r, zip(square, p, |s, p| s * p), |r, sp| r + sp), s)
}

/// `h'` of two units with sigmoid and tanh, from their sums; arguments are limited to ±`clip`.
///
/// With `a = e^(−z)` and `b = e^(2n)`, one division gives `h' = (1 − σ(z))·tanh(n) + σ(z)·h` as
/// `(a·(b − 1) + h·(b + 1)) / (a·(b + 1) + (b + 1))`. As rounding is monotonic, `|h'| ≤ 1` follows from
/// `|h| ≤ 1`. NaN for NaN.
#[inline]
pub(super) fn gates(sums: &Sums, h: [f32; 2], clip: f32) -> [f32; 2] {
    let ([r0, r1], [z0, z1]) = (sums.r, sums.z);
    let ([q0, q1, qa, qb], [s0, s1, sa, sb]) =
        gate_exp([r0, r1, z0, z1].map(|v| -limit(v, -clip, clip)));
    let r = [(s0, q0), (s1, q1)].map(|(s, q)| 1.0 / ((s + 1.0) + s * q));
    let a = [(sa, qa), (sb, qb)].map(|(s, q)| s + s * q);
    let n = zip(sums.nx, zip(r, sums.nh, |r, nh| r * nh), |nx, rn| nx + rn);
    let (q, s) = gate_exp(n.map(|n| limit(n, -clip, clip)).map(|n| n + n));
    let sq = zip(s, q, |s, q| s * q);
    let below = zip(s, sq, |s, sq| (s - 1.0) + sq);
    let above = zip(s, sq, |s, sq| (s + 1.0) + sq);
    let top = zip(
        zip(a, below, |a, b| a * b),
        zip(h, above, |h, b| h * b),
        |a, h| a + h,
    );
    let bottom = zip(above, zip(a, above, |a, b| a * b), |b, ab| b + ab);
    zip(top, bottom, |t, b| t / b)
}

/// [`tanh_all`] of one value.
#[inline]
pub(super) fn tanh(x: f32) -> f32 {
    let [y] = tanh_all([x]);
    y
}

/// [`sigmoid_all`] of one value.
#[inline]
pub(super) fn sigmoid(x: f32) -> f32 {
    let [y] = sigmoid_all([x]);
    y
}

/// `x` limited to `low..=high`; NaN for NaN. Unlike `f32::clamp` without a panic for odd limits.
#[inline]
pub(super) fn limit(x: f32, low: f32, high: f32) -> f32 {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

/// `e^x`, with infinity and 0 where it leaves the range of f32.
pub(super) fn exp(x: f32) -> f32 {
    libm::expf(x)
}

/// `e^x` for `x ≤ 0`, as the softmax needs it; at most 1.7e-38 instead of less.
#[inline]
pub(super) fn exp_negative(x: f32) -> f32 {
    let ([q], [s]) = exp_parts([x]);
    s + s * q
}

/// `e^x − 1`, accurate near 0.
pub(super) fn exp_m1(x: f32) -> f32 {
    libm::expm1f(x)
}

/// `ln(1 + e^x)` without overflow: `max(x, 0) + ln(1 + e^(−|x|))`.
pub(super) fn softplus(x: f32) -> f32 {
    let positive = if x < 0.0 { 0.0 } else { x };
    positive + libm::log1pf(exp(-x.abs()))
}

/// The error function.
pub(super) fn erf(x: f32) -> f32 {
    libm::erff(x)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::println;

    /// Error of one value, absolute and in units in the last place of the reference.
    fn errors(found: f32, exact: f64) -> (f64, f64) {
        let nearest = exact as f32;
        let spacing = f64::from(nearest.abs().next_up()) - f64::from(nearest.abs());
        let e = (f64::from(found) - exact).abs();
        (e, e / spacing)
    }

    fn visit(step: usize) {
        let (mut tanh_worst, mut sigmoid_worst) = ((0.0_f64, 0.0_f64), (0.0_f64, 0.0_f64));
        let mut below = 0.0_f64;
        for bits in (0..=u32::MAX).step_by(step) {
            let x = f32::from_bits(bits);
            if !x.is_finite() {
                continue;
            }
            let (a, u) = errors(tanh(x), f64::from(x).tanh());
            tanh_worst = (tanh_worst.0.max(a), tanh_worst.1.max(u));
            assert!(tanh(x).abs() <= 1.0);
            let (a, u) = errors(sigmoid(x), 1.0 / (1.0 + f64::from(-x).exp()));
            if x >= -86.0 {
                sigmoid_worst = (sigmoid_worst.0.max(a), sigmoid_worst.1.max(u));
            } else {
                below = below.max(a);
            }
            assert!((0.0..=1.0).contains(&sigmoid(x)));
        }
        println!("tanh {tanh_worst:?}, sigmoid {sigmoid_worst:?}, below {below:e}");
        assert!(tanh_worst.0 < 1.7e-7 && tanh_worst.1 < 2.9);
        assert!(sigmoid_worst.0 < 9.0e-8 && sigmoid_worst.1 < 2.5 && below < 2e-38);
    }

    #[test]
    fn errors_are_as_written() {
        visit(if cfg!(miri) { 15_000_017 } else { 4_099 });
    }

    #[test]
    #[ignore = "visits all 2^32 values: minutes in a release build"]
    fn errors_are_as_written_everywhere() {
        visit(1);
    }

    #[test]
    fn special_values() {
        assert!(tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
        assert!(sigmoid(f32::NEG_INFINITY) < 1e-37);
        assert_eq!((tanh(0.0), sigmoid(0.0)), (0.0, 0.5));
    }

    /// One unit in f64.
    fn exact_gates(sums: [f32; 4], h: f32) -> f64 {
        let [r, z, nh, nx] = sums.map(f64::from);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let n = (nx + sigmoid(r) * nh).tanh();
        (1.0 - sigmoid(z)) * n + sigmoid(z) * f64::from(h)
    }

    fn one_gate([r, z, nh, nx]: [f32; 4], h: f32, clip: f32) -> f32 {
        let sums = Sums {
            r: [r, 0.0],
            z: [z, 0.0],
            nh: [nh, 0.0],
            nx: [nx, 0.0],
        };
        let [new, _] = gates(&sums, [h, 0.0], clip);
        new
    }

    #[test]
    fn gates_are_close_to_f64_and_stay_within_one() {
        let mut seed = 1_u32;
        let mut random = |scale: f32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((seed >> 8) as f32 / 8_388_608.0 - 1.0) * scale
        };
        let mut worst = 0.0_f64;
        for k in 0..if cfg!(miri) { 100 } else { 1_000_000 } {
            let scale = [0.1, 1.0, 4.0, 20.0, 60.0, 1e30][k % 6];
            let sums = [random(scale), random(scale), random(scale), random(scale)];
            let h = if k % 7 == 0 { 1.0 } else { random(1.0) };
            let found = one_gate(sums, h, f32::INFINITY);
            assert!(found.abs() <= 1.0, "{sums:?} {h}: {found}");
            // The argument of tanh is rounded once; with large ones that alone is a large error.
            if scale <= 4.0 {
                worst = worst.max((f64::from(found) - exact_gates(sums, h)).abs());
            }
        }
        println!("gates {worst:e}");
        assert!(worst < 5e-7);
    }

    #[test]
    fn gates_of_special_values() {
        let all = |v: f32| one_gate([v; 4], 0.5, f32::INFINITY);
        assert_eq!(all(0.0), 0.25);
        assert!(all(f32::NAN).is_nan());
        // z = 1 keeps h; z = 0 and a large candidate give ±1.
        assert_eq!(
            one_gate([0.0, f32::INFINITY, 0.0, 3.0], 0.5, f32::INFINITY),
            0.5
        );
        for candidate in [f32::INFINITY, f32::NEG_INFINITY] {
            let found = one_gate([0.0, f32::NEG_INFINITY, 0.0, candidate], 0.5, f32::INFINITY);
            assert_eq!(found, candidate.signum());
        }
        // A clip limits all three arguments.
        let clipped = one_gate([9.0, -9.0, 1.0, 9.0], 0.5, 0.75);
        assert_eq!(
            clipped,
            one_gate([0.75, -0.75, 0.0, 0.75], 0.5, f32::INFINITY)
        );
    }
}
