//! The host kernel: eight units at once, for runs of 10^9 steps and for `gru eval`.
//!
//! Safe Rust that the compiler turns into SIMD; where the CPU has AVX2, the products are its
//! `vpmaddwd`. The one unsafe line enters the copy of the code that is compiled for AVX2, after
//! the CPU has said that it has it.

use super::Kernel;
use super::portable::{joined, mix, reset_product};
use crate::activation::{sigmoid, tanh};
use crate::layout::{GATES, Layout, ROW_PARAMS, UNIT_PARAMS};
use crate::model::{DenseLayer, GruLayer};
use crate::quant::{requantize_dense, sat16};

/// The SIMD units of the host.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Host;

/// Enters the copy of a function that is compiled for AVX2 where there is AVX2.
macro_rules! dispatch {
    ($function:ident($($argument:expr),*)) => {
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") {
            #[allow(unsafe_code, reason = "entering code compiled for AVX2")]
            // SAFETY: this CPU has AVX2, which is all that the function asks for.
            unsafe {
                avx2::$function($($argument),*)
            };
            return;
        }
        $function($($argument,)* sums);
    };
}

impl Kernel for Host {
    const NAME: &'static str = "host";
    const LAYOUT: Layout = Layout::Lanes;

    fn gru(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
        dispatch!(gru(layer, x, h, out));
    }

    fn dense(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
        dispatch!(dense(layer, x, out));
    }
}

/// Units of a block.
const LANES: usize = 8;
/// A number for each unit of a block.
type Lanes = [i32; LANES];

/// The weights of two columns of a block, one gate: column by column within a unit.
type Pair = [u8; 2 * LANES];

/// `Σ w·x` by gate and unit over all columns of a part.
#[inline(always)]
fn sums<const G: usize>(part: &[u8], x: &[i16]) -> [Lanes; G] {
    let mut sums = [[0; LANES]; G];
    for (columns, &[x0, x1]) in pairs::<G>(part).iter().zip(x.as_chunks().0) {
        for (sums, w) in sums.iter_mut().zip(columns) {
            for (sum, &[w0, w1]) in sums.iter_mut().zip(w.as_chunks().0) {
                *sum += w0 as i8 as i32 * x0 as i32 + w1 as i8 as i32 * x1 as i32;
            }
        }
    }
    sums
}

#[inline(always)]
fn pairs<const G: usize>(part: &[u8]) -> &[[Pair; G]] {
    part.as_chunks().0.as_chunks().0
}

/// The same functions, compiled for AVX2.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{DenseLayer, GruLayer, Lanes};
    use core::arch::x86_64::*;

    #[target_feature(enable = "avx2")]
    pub(super) fn gru(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
        super::gru(layer, x, h, out, |part, x| sums(part, x));
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn dense(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
        super::dense(layer, x, out, |part, x| sums(part, x));
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn sums<const G: usize>(part: &[u8], x: &[i16]) -> [Lanes; G] {
        let mut sums = [_mm256_setzero_si256(); G];
        for (columns, &[x0, x1]) in super::pairs::<G>(part).iter().zip(x.as_chunks().0) {
            let x = _mm256_set1_epi32((x1 as i32) << 16 | x0 as u16 as i32);
            for (sum, w) in sums.iter_mut().zip(columns) {
                let w = u128::from_le_bytes(*w);
                let w = _mm256_cvtepi8_epi16(_mm_set_epi64x((w >> 64) as i64, w as i64));
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(w, x));
            }
        }
        sums.map(|sum| lanes(sum))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn lanes(v: __m256i) -> Lanes {
        [
            _mm256_extract_epi32::<0>(v),
            _mm256_extract_epi32::<1>(v),
            _mm256_extract_epi32::<2>(v),
            _mm256_extract_epi32::<3>(v),
            _mm256_extract_epi32::<4>(v),
            _mm256_extract_epi32::<5>(v),
            _mm256_extract_epi32::<6>(v),
            _mm256_extract_epi32::<7>(v),
        ]
    }
}

/// Applies `f` to every lane.
#[inline(always)]
fn each(f: impl Fn(usize) -> i32) -> Lanes {
    // The mask shows the compiler that no index can be out of range.
    core::array::from_fn(|i| f(i & (LANES - 1)))
}

/// [`crate::quant::requantize`] in 32 bits: the product is taken by halves of `acc`.
#[inline(always)]
fn requantize(acc: i32, multiplier: i32) -> i32 {
    (acc >> 16) * multiplier + (((acc & 0xffff) * multiplier) >> 16)
}

/// Saturates to 16 bits and applies an activation.
#[inline(always)]
fn activate(v: Lanes, f: impl Fn(i16) -> i32) -> Lanes {
    each(|i| f(sat16(v[i])))
}

#[inline(always)]
fn gru(
    layer: &GruLayer<'_>,
    x: &[i16],
    h: &[i16],
    out: &mut [i16],
    sums: impl Fn(&[u8], &[i16]) -> [Lanes; GATES],
) {
    let (input, units) = (layer.input(), layer.units());
    let w_len = Layout::Lanes.gru_part_len(input);
    let weights_len = Layout::Lanes.gru_weights_len(input, units);
    let blocks = layer
        .blocks
        .chunks_exact(Layout::Lanes.gru_block_len(input, units));
    let hidden = h.chunks(LANES).zip(out.chunks_mut(LANES));
    for (block, (h_of_block, out)) in blocks.zip(hidden) {
        let (weights, params) = block.split_at_checked(weights_len).unwrap_or_default();
        let (w, u) = weights.split_at_checked(w_len).unwrap_or_default();
        let aw = sums(w, x);
        let au = sums(u, h);
        let Some(params) = params.as_chunks::<UNIT_PARAMS>().0.first_chunk::<LANES>() else {
            return;
        };
        let param = |k: usize| {
            each(|i| match params[i][2 * k..] {
                [lo, hi, ..] => i16::from_le_bytes([lo, hi]) as i32,
                _ => 0,
            })
        };
        let (mur, muz, mwn, mun) = (&param(0), &param(1), &param(2), &param(3));
        let (br, bz, bnx, bnh) = (&param(4), &param(5), &param(6), &param(7));
        let gate = |b: &Lanes, aw: &Lanes, au: &Lanes, mu: &Lanes| {
            each(|i| b[i] + requantize(joined(aw[i], au[i], layer.w_shift), mu[i]))
        };
        let [aw_r, aw_z, aw_n] = &aw;
        let [au_r, au_z, au_n] = &au;
        let r = activate(gate(br, aw_r, au_r, mur), sigmoid);
        let z = activate(gate(bz, aw_z, au_z, muz), sigmoid);
        let nx = each(|i| bnx[i] + requantize(aw_n[i], mwn[i]));
        let nh = each(|i| sat16(bnh[i] + requantize(au_n[i], mun[i])) as i32);
        let v = each(|i| nx[i] + reset_product(r[i], nh[i] as i16, layer.nh_shift));
        let n = activate(v, |v| tanh(v) as i32);
        let new =
            |h: &[i16; LANES]| each(|i| mix(z[i], h[i], n[i] as i16) as i32).map(|h| h as i16);
        match (h_of_block.as_array(), out.as_mut_array()) {
            (Some(h), Some(out)) => *out = new(h),
            _ => {
                let mut h = [0; LANES];
                h.iter_mut().zip(h_of_block).for_each(|(to, &h)| *to = h);
                out.iter_mut().zip(new(&h)).for_each(|(to, h)| *to = h);
            }
        }
    }
}

#[inline(always)]
fn dense(
    layer: &DenseLayer<'_>,
    x: &[i16],
    out: &mut [i16],
    sums: impl Fn(&[u8], &[i16]) -> [Lanes; 1],
) {
    let (input, units) = (layer.input(), layer.units());
    let weights_len = Layout::Lanes.dense_weights_len(input, units);
    let (weights, params) = layer
        .bytes
        .split_at_checked(weights_len)
        .unwrap_or_default();
    let rows = weights.chunks_exact(LANES * Layout::Lanes.columns(input));
    let params = params.chunks_exact(LANES * ROW_PARAMS);
    for ((rows, params), out) in rows.zip(params).zip(out.chunks_mut(LANES)) {
        let [acc] = sums(rows, x);
        let params = params.chunks_exact(ROW_PARAMS);
        for ((out, p), acc) in out.iter_mut().zip(params).zip(acc) {
            if let [m0, m1, m2, m3, b0, b1, b2, b3] = *p {
                let multiplier = i32::from_le_bytes([m0, m1, m2, m3]);
                *out = requantize_dense(acc, multiplier, i32::from_le_bytes([b0, b1, b2, b3]));
            }
        }
    }
}
