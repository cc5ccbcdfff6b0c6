//! The portable kernel: plain Rust, no `unsafe`; the definition of the right answer.
//!
//! One time step of the main variant, row by row (`docs/quantization.md` has the formats):
//!
//! ```text
//! v_r = sat16(b_r  + req(W_r·x · 2^w_shift + U_r·h, mu_r))     r = σ(v_r)
//! v_z = sat16(b_z  + req(W_z·x · 2^w_shift + U_z·h, mu_z))     z = σ(v_z)
//! nx  =       b_nx + req(W_n·x, mw_n)
//! nh  = sat16(b_nh + req(U_n·h, mu_n))                         reset after the product
//! n   = tanh(sat16(nx + r·nh))
//! h'  = z·h + (1 − z)·n
//! ```

use super::masks::nonzero_mask;
use super::{Kernel, known};
use crate::activation::{Activation, sigmoid, tanh};
use crate::layout::{
    CANDIDATE, GATES, HEAD, Layout, MAX_GROUP, RESET, ROW_PARAMS, UNIT_PARAMS, UPDATE, align4,
};
use crate::model::{DenseLayer, GruLayer};
use crate::quant::{limit, requantize, requantize_dense, sat16};
use crate::sparse::{Panels, gather};

/// The reference.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Portable;

impl Kernel for Portable {
    const NAME: &'static str = "portable";
    const LAYOUT: Layout = Layout::Rows;

    fn gru(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
        gru_main(layer, x, h, out, &mut []);
    }

    fn dense(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
        dense_any(layer, x, out);
    }
}

/// The accumulators of one block: `[gate][unit]`.
pub(crate) type Accumulators = [[i32; MAX_GROUP]; GATES];

/// A unit's multipliers and biases.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UnitParams {
    /// Multipliers by gate: of both parts of reset and update, of the candidate's recurrent part.
    pub(crate) mu: [u16; GATES],
    /// Multiplier of the candidate's input part.
    pub(crate) mw: u16,
    /// Biases: reset, update, candidate's input part, candidate's recurrent part.
    pub(crate) b: [i16; 4],
}

impl UnitParams {
    /// Reads the 16 bytes of a unit; bytes that are missing read as zero.
    #[inline]
    pub(crate) fn read(layout: Layout, bytes: &[u8]) -> Self {
        let mut halves = bytes.chunks_exact(2).map(|b| match b {
            [lo, hi] => u16::from_le_bytes([*lo, *hi]),
            _ => 0,
        });
        let mut next = || halves.next().unwrap_or(0);
        let (mu_r, mu_z, mw, mu_n) = (next(), next(), next(), next());
        let b = [next() as i16, next() as i16, next() as i16, next() as i16];
        Self {
            mu: [mu_r, mu_z, mu_n],
            mw,
            b: b.map(|b| b ^ known(layout).bias_flip()),
        }
    }
}

/// `Σ w[j]·x[j]` over the shorter of the two.
#[inline]
pub(crate) fn dot(w: &[u8], x: &[i16]) -> i32 {
    w.iter().zip(x).fold(0i32, |acc, (&w, &x)| {
        acc.wrapping_add(w as i8 as i32 * x as i32)
    })
}

/// [`dot`] of the three rows of a part: they share each activation, four columns a round.
#[inline]
fn dots(part: &[u8], columns: usize, x: &[i16]) -> [i32; GATES] {
    let (r, rest) = part.split_at_checked(columns).unwrap_or_default();
    let (z, n) = rest.split_at_checked(columns).unwrap_or_default();
    let mut sums = [0; GATES];
    let [sum_r, sum_z, sum_n] = &mut sums;
    let (r, r_rest) = r.as_chunks::<4>();
    let (z, z_rest) = z.as_chunks::<4>();
    let (n, n_rest) = n.as_chunks::<4>();
    let (x, x_rest) = x.as_chunks::<4>();
    let mut round = |r: &[u8], z: &[u8], n: &[u8], x: &[i16]| {
        for (((&r, &z), &n), &x) in r.iter().zip(z).zip(n).zip(x) {
            mac(sum_r, r, x);
            mac(sum_z, z, x);
            mac(sum_n, n, x);
        }
    };
    for (((r, z), n), x) in r.iter().zip(z).zip(n).zip(x) {
        round(r, z, n, x);
    }
    // What is left of the columns ends with the rows, the activations may go on.
    round(r_rest, z_rest, n_rest, x.get(r.len()).map_or(x_rest, |x| x));
    sums
}

/// Accumulates one part (input or recurrent) of a block's weights over all its columns.
fn accumulate(
    layout: Layout,
    (input, units): (usize, usize),
    weights: &[u8],
    recurrent: bool,
    x: &[i16],
) -> Accumulators {
    // Where the parts interleave: the places of the part's candidate and gates.
    let run = |gate, unit| {
        let place = layout.gru_weight((input, units), recurrent, gate, unit, 0);
        // The first column is not always the first in its word.
        weights.get(place.byte & !3..).unwrap_or_default()
    };
    let columns = if recurrent { units } else { input };
    let start = if recurrent {
        layout.gru_part_len(input)
    } else {
        0
    };
    let part = weights
        .get(start..start + layout.gru_part_len(columns))
        .unwrap_or_default();
    let mut acc = Accumulators::default();
    match layout {
        // The compiler makes vectors of the simplest loop.
        Layout::Rows | Layout::RowsSparse
            if cfg!(any(target_feature = "sse2", target_feature = "neon")) =>
        {
            for (acc, row) in acc.iter_mut().zip(part.chunks_exact(columns.max(1))) {
                acc[0] = dot(row, x);
            }
        }
        Layout::Rows | Layout::RowsSparse => {
            let sums = dots(part, columns, x);
            for (acc, sum) in acc.iter_mut().zip(sums) {
                acc[0] = sum;
            }
        }
        Layout::Pair | Layout::PairSparse => {
            for (words, x) in part
                .as_chunks::<{ 4 * GATES }>()
                .0
                .iter()
                .zip(x.as_chunks::<2>().0)
            {
                for (acc, word) in acc.iter_mut().zip(words.chunks_exact(4)) {
                    pair_mac(acc, word, x);
                }
            }
        }
        Layout::Quad | Layout::QuadSparse => {
            let x = x.get(..columns).unwrap_or(x);
            for half in 0..2 {
                let words = run(RESET, 4 * half).as_chunks::<8>().0;
                for (words, &x) in words.iter().zip(x) {
                    for (acc, word) in acc.iter_mut().zip(words.chunks_exact(4)) {
                        if let Some(acc) = acc.as_chunks_mut::<4>().0.get_mut(half) {
                            quad_mac(acc, word, x);
                        }
                    }
                }
            }
            for (words, &x) in run(CANDIDATE, 0).as_chunks::<8>().0.iter().zip(x) {
                let [.., candidate] = &mut acc;
                let halves = candidate.as_chunks_mut::<4>().0;
                for (acc, word) in halves.iter_mut().zip(words.chunks_exact(4)) {
                    quad_mac(acc, word, x);
                }
            }
        }
        Layout::Winograd => {
            for (acc, rows) in acc
                .iter_mut()
                .zip(part.chunks_exact((part.len() / GATES).max(1)))
            {
                winograd_mac(acc, rows, x);
            }
        }
        Layout::Rows4 => {
            for (acc, row) in acc
                .iter_mut()
                .zip(part.chunks_exact((part.len() / GATES).max(1)))
            {
                for (&w, [x0, x1]) in row.iter().zip(x.as_chunks::<2>().0) {
                    mac(&mut acc[0], w << 4, *x0);
                    mac(&mut acc[0], w & 0xf0, *x1);
                }
            }
        }
        Layout::Pair4 => {
            for (words, x) in part
                .as_chunks::<{ 4 * GATES }>()
                .0
                .iter()
                .zip(x.as_chunks::<4>().0)
            {
                pair4_mac(&mut acc, words, x);
            }
        }
        Layout::Quad4 => {
            // A zero follows where the columns are odd.
            let pairs = x.get(..columns.next_multiple_of(2)).unwrap_or(x);
            let x = x.get(..columns).unwrap_or(x);
            for (words, &x) in run(RESET, 0).as_chunks::<4>().0.iter().zip(x) {
                quad4_mac(&mut acc, words, x);
            }
            let words = run(CANDIDATE, 0).as_chunks::<4>().0;
            for ([n0, n1, n2, n3], [x0, x1]) in words.iter().zip(pairs.as_chunks::<2>().0) {
                let [.., acc] = &mut acc;
                candidate4_mac(acc, [*n2, *n3], *x0);
                candidate4_mac(acc, [*n0, *n1], *x1);
            }
        }
        Layout::Vector => {
            let pair_len = part.len() / 2;
            for (pair, rows) in part.chunks_exact(pair_len.max(1)).enumerate() {
                for (rows, x) in rows.chunks_exact(2 * GATES * 8).zip(x.chunks(8).by_ref()) {
                    for (unit, rows) in rows.chunks_exact(GATES * 8).enumerate() {
                        for (acc, w) in acc.iter_mut().zip(rows.chunks_exact(8)) {
                            if let Some(acc) = acc.get_mut(2 * pair + unit) {
                                *acc = acc.wrapping_add(dot(w, x));
                            }
                        }
                    }
                }
            }
        }
        #[cfg(feature = "std")]
        Layout::Lanes => {
            for (groups, x) in part.chunks_exact(16 * GATES).zip(x.chunks_exact(2)) {
                for (acc, group) in acc.iter_mut().zip(groups.chunks_exact(16)) {
                    lanes_mac(acc, group, x);
                }
            }
        }
    }
    acc
}

#[inline]
fn mac(acc: &mut i32, w: u8, x: i16) {
    *acc = acc.wrapping_add(w as i8 as i32 * x as i32);
}

/// Two columns of two rows: row A in the high byte, row B biased in the low byte of a halfword.
#[inline]
fn pair_mac(acc: &mut [i32; MAX_GROUP], word: &[u8], x: &[i16]) {
    if let ([a, b, ..], [b0, a0, b1, a1], [x0, x1]) = (acc, word, x) {
        mac(a, *a0, *x0);
        mac(b, *b0 ^ 0x80, *x0);
        mac(a, *a1, *x1);
        mac(b, *b1 ^ 0x80, *x1);
    }
}

/// One column of four rows, the first three biased.
#[inline]
fn quad_mac(acc: &mut [i32], word: &[u8], x: i16) {
    if let ([a, b, c, d, ..], [wa, wb, wc, wd]) = (acc, word) {
        mac(a, *wa ^ 0x80, x);
        mac(b, *wb ^ 0x80, x);
        mac(c, *wc ^ 0x80, x);
        mac(d, *wd, x);
    }
}

/// Four rows as in [`quad_mac`], behind the sums that only the kernel for them needs.
#[inline]
fn winograd_mac(acc: &mut [i32; MAX_GROUP], rows: &[u8], x: &[i16]) {
    let words = rows.get(HEAD..).unwrap_or_default();
    for (word, &x) in words.as_chunks::<4>().0.iter().zip(x) {
        quad_mac(acc, word, x);
    }
}

/// [`mac`] of the lower and the upper half of a byte; the lower one is biased by 8, the upper one
/// where `biased` is 0x80.
#[inline]
fn halves_mac(low: &mut i32, high: &mut i32, w: u8, biased: u8, x: i16) {
    mac(low, (w << 4) ^ 0x80, x);
    mac(high, (w & 0xf0) ^ biased, x);
}

/// Four columns of two units: r and z of two columns, of the other two, the candidate of all.
#[inline]
fn pair4_mac(acc: &mut Accumulators, words: &[u8; 4 * GATES], x: &[i16; 4]) {
    let [[ra, rb, ..], [za, zb, ..], [na, nb, ..]] = acc;
    let [w0, w1, w2, w3, w4, w5, w6, w7, n0, n1, n2, n3] = *words;
    let [x0, x1, x2, x3] = *x;
    // In a halfword B's two gates are below A's, z below r.
    for (b, a, x) in [(w0, w1, x0), (w2, w3, x1), (w4, w5, x2), (w6, w7, x3)] {
        halves_mac(zb, rb, b, 0x80, x);
        halves_mac(za, ra, a, 0, x);
    }
    // And the later pair's candidates below those of the earlier one.
    for (n, x) in [(n1, x0), (n3, x1), (n0, x2), (n2, x3)] {
        halves_mac(nb, na, n, 0, x);
    }
}

/// A column of four units' r and z.
#[inline]
fn quad4_mac(acc: &mut Accumulators, word: &[u8; 4], x: i16) {
    let [[ra, rb, rc, rd, ..], [za, zb, zc, zd, ..], _] = acc;
    let [r0, r1, z0, z1] = *word;
    halves_mac(ra, rb, r0, 0x80, x);
    halves_mac(rc, rd, r1, 0x80, x);
    halves_mac(za, zb, z0, 0x80, x);
    halves_mac(zc, zd, z1, 0, x);
}

/// A column of four units' candidates.
#[inline]
fn candidate4_mac(acc: &mut [i32; MAX_GROUP], [low, high]: [u8; 2], x: i16) {
    let [a, b, c, d, ..] = acc;
    halves_mac(a, b, low, 0x80, x);
    halves_mac(c, d, high, 0, x);
}

/// Two columns of eight rows.
#[cfg(feature = "std")]
#[inline]
fn lanes_mac(acc: &mut [i32; MAX_GROUP], group: &[u8], x: &[i16]) {
    for (acc, w) in acc.iter_mut().zip(group.chunks_exact(2)) {
        for (&w, &x) in w.iter().zip(x) {
            mac(acc, w, x);
        }
    }
}

/// `r·nh` with the reset gate in Q16, at the scale of `v_n`.
#[inline]
pub(crate) fn reset_product(r: i32, nh: i16, nh_shift: u8) -> i32 {
    r.wrapping_mul(nh as i32) >> (16 - (nh_shift & 7) as u32)
}

/// `h' = z·h + (1 − z)·n` with `z` in `0..=65535`: a convex mix, so `|h'| <= max(|h|, |n|)`.
#[inline]
pub(crate) fn mix(z: i32, h: i16, n: i16) -> i16 {
    let sum = z
        .wrapping_mul(h as i32)
        .wrapping_add((65536 - z).wrapping_mul(n as i32))
        .wrapping_add(32768);
    (sum >> 16) as i16
}

/// The accumulator of a gate: its input part counts `2^w_shift` times as much as its recurrent part.
/// The loader has proved that the sum fits.
#[inline]
pub(crate) fn joined(aw: i32, au: i32, w_shift: u8) -> i32 {
    (aw << (w_shift & 7)).wrapping_add(au)
}

/// The gates of one unit in the main variant.
#[inline]
fn main_unit(layer: &GruLayer<'_>, p: &UnitParams, aw: [i32; 3], au: [i32; 3], h: i16) -> i16 {
    let [mu_r, mu_z, mu_n] = p.mu;
    let ([aw_r, aw_z, aw_n], [au_r, au_z, au_n]) = (aw, au);
    let [b_r, b_z, b_nx, b_nh] = p.b.map(i32::from);
    let shift = layer.w_shift;
    let r = sigmoid(sat16(b_r + requantize(joined(aw_r, au_r, shift), mu_r)));
    let z = sigmoid(sat16(b_z + requantize(joined(aw_z, au_z, shift), mu_z)));
    let nx = b_nx + requantize(aw_n, p.mw);
    let nh = sat16(b_nh + requantize(au_n, mu_n));
    let n = tanh(sat16(nx + reset_product(r, nh, layer.nh_shift)));
    mix(z, h, n)
}

/// The accumulators of unit `g`, by gate.
#[inline]
fn of_unit(acc: &Accumulators, g: usize) -> [i32; GATES] {
    acc.map(|gate| gate.get(g).copied().unwrap_or(0))
}

/// The main variant in any layout.
#[inline(never)]
fn gru_main(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16], gathered: &mut [i16]) {
    each_block(layer, |first, block, params| {
        let aw = block.input(x);
        let au = block.recurrent(h, gathered);
        let params = params
            .chunks_exact(UNIT_PARAMS)
            .map(|p| UnitParams::read(layer.layout, p));
        let units = h.iter().zip(out.iter_mut()).skip(first);
        for (g, (p, (&h, out))) in params.zip(units).enumerate() {
            *out = main_unit(layer, &p, of_unit(&aw, g), of_unit(&au, g), h);
        }
    });
}

/// The weights of a block.
struct Block<'a> {
    layout: Layout,
    /// Columns of the input and of the recurrent weights.
    shape: (usize, usize),
    weights: &'a [u8],
    /// The pairs of columns that the recurrent weights are for, where some are left out.
    pairs: Option<&'a [u8]>,
}

impl Block<'_> {
    /// [`accumulate`] over the input.
    #[inline]
    fn input(&self, x: &[i16]) -> Accumulators {
        accumulate(self.layout, self.shape, self.weights, false, x)
    }

    /// [`accumulate`] over the columns of the state that are there.
    #[inline]
    fn recurrent(&self, h: &[i16], gathered: &mut [i16]) -> Accumulators {
        let h = match self.pairs {
            Some(pairs) => {
                gather(pairs, h, gathered);
                gathered
            }
            None => h,
        };
        accumulate(self.layout, self.shape, self.weights, true, h)
    }
}

/// Calls `f(first unit, weights, parameters)` for every block.
#[inline]
fn each_block(layer: &GruLayer<'_>, mut f: impl FnMut(usize, &Block<'_>, &[u8])) {
    let (input, units, layout) = (layer.input(), layer.units(), known(layer.layout));
    if layout.is_sparse() {
        for panel in Panels::new(layout, input, units, layer.blocks) {
            let shape = (input, panel.columns());
            each_of(
                layout,
                shape,
                panel.first,
                Some(panel.pairs),
                panel.blocks,
                &mut f,
            );
        }
    } else {
        each_of(layout, (input, units), 0, None, layer.blocks, &mut f);
    }
}

/// [`each_block`] of those from the unit `first` on, which have so many columns.
#[inline]
fn each_of(
    layout: Layout,
    shape: (usize, usize),
    first: usize,
    pairs: Option<&[u8]>,
    blocks: &[u8],
    f: &mut impl FnMut(usize, &Block<'_>, &[u8]),
) {
    let block_len = layout.gru_block_len(shape.0, shape.1).max(1);
    for (b, block) in blocks.chunks_exact(block_len).enumerate() {
        let parts = block.split_at_checked(layout.gru_weights_len(shape.0, shape.1));
        if let Some((weights, params)) = parts {
            let block = Block {
                layout,
                shape,
                weights,
                pairs,
            };
            f(first + b * layout.gru_group(), &block, params);
        }
    }
}

/// What the other variants need beside their layer.
struct Variant<'l, 'a> {
    layer: &'l GruLayer<'a>,
    /// 1 where values that saturate are counted, else 0.
    counts: u32,
    saturated: u32,
}

impl Variant<'_, '_> {
    /// Saturates to 16 bits, counting it where an activation is unbounded; without a branch.
    fn narrow(&mut self, v: i64) -> i16 {
        let high = (v >> 32) as i32;
        let sign = high >> 31;
        // Bits 15 to 63 are those of the sign where it fits.
        let outside = nonzero_mask(((v >> 15) as i32 ^ sign) | (high ^ sign));
        self.saturated = self.saturated.wrapping_add(outside as u32 & self.counts);
        let v = v as i32;
        (v ^ ((v ^ sign ^ i16::MAX as i32) & outside)) as i16
    }

    /// Saturates and clips a pre-activation.
    fn pre(&mut self, v: i64) -> i16 {
        let clip = self.layer.variant().clip as i32;
        limit(self.narrow(v) as i32, clip.wrapping_neg(), clip) as i16
    }

    /// A gate: its pre-activation through the recurrent activation, full scale 65536.
    fn gate(&mut self, p: &UnitParams, gate: usize, aw: [i32; GATES], au: [i32; GATES]) -> i64 {
        let layer = self.layer;
        let joined = match (aw.get(gate), au.get(gate), p.mu.get(gate)) {
            (Some(&aw), Some(&au), Some(&m)) => requantize(joined(aw, au, layer.w_shift), m),
            _ => 0,
        };
        let v = self.pre(joined as i64 + bias(p, gate));
        let variant = layer.variant();
        let activation = variant.recurrent_activation;
        activation.gate(v, variant.recurrent_exponent) as i64
    }
}

fn bias(p: &UnitParams, i: usize) -> i64 {
    p.b.get(i).copied().unwrap_or(0) as i64
}

/// Any variant in any layout; see [`super::gru`].
#[inline(never)]
pub(crate) fn gru_any(
    layer: &GruLayer<'_>,
    x: &[i16],
    h: &[i16],
    out: &mut [i16],
    scratch: &mut [i16],
) -> u32 {
    if layer.is_main_variant() {
        gru_main(layer, x, h, out, scratch);
        return 0;
    }
    let variant = layer.variant();
    let mut v = Variant {
        layer,
        counts: !(variant.activation.is_bounded() && variant.recurrent_activation.is_bounded())
            as u32,
        saturated: 0,
    };
    let before = if variant.reset_after {
        0
    } else {
        align4(layer.units())
    };
    let (scratch, gathered) = scratch.split_at_mut_checked(before).unwrap_or_default();
    if !variant.reset_after {
        // scratch = r ∘ h of all units, before any candidate can be computed.
        each_block(layer, |first, block, params| {
            let aw = block.input(x);
            let au = block.recurrent(h, gathered);
            let params = params
                .chunks_exact(UNIT_PARAMS)
                .map(|p| UnitParams::read(layer.layout, p));
            let units = h.iter().zip(scratch.iter_mut()).skip(first);
            for (g, (p, (&h, rh))) in params.zip(units).enumerate() {
                let r = v.gate(&p, RESET, of_unit(&aw, g), of_unit(&au, g));
                *rh = v.narrow((r * h as i64 + 32768) >> 16);
            }
        });
    }
    each_block(layer, |first, block, params| {
        let aw = block.input(x);
        let au = block.recurrent(h, gathered);
        let au_n = if variant.reset_after {
            au
        } else {
            block.recurrent(scratch, gathered)
        };
        let params = params
            .chunks_exact(UNIT_PARAMS)
            .map(|p| UnitParams::read(layer.layout, p));
        let units = h.iter().zip(out.iter_mut()).skip(first);
        for (g, (p, (&h, out))) in params.zip(units).enumerate() {
            let (aw, au, au_n) = (of_unit(&aw, g), of_unit(&au, g), of_unit(&au_n, g));
            let z = v.gate(&p, UPDATE, aw, au);
            let ([_, _, mu_n], [_, _, aw_n], [_, _, au_n]) = (p.mu, aw, au_n);
            let nx = bias(&p, 2) + requantize(aw_n, p.mw) as i64;
            let nh = requantize(au_n, mu_n) as i64;
            let n = if variant.reset_after {
                let r = v.gate(&p, RESET, aw, au);
                let nh = v.narrow(nh + bias(&p, 3)) as i64;
                nx + ((r * nh) >> (16 - (layer.nh_shift & 7) as u32))
            } else {
                nx + nh
            };
            let n = variant.activation.candidate(v.pre(n));
            *out = v.narrow((z * h as i64 + (65536 - z) * n as i64 + 32768) >> 16);
        }
    });
    v.saturated
}

/// A Dense layer in any layout, without its activation.
#[inline(never)]
pub(crate) fn dense_any(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
    let (input, units) = (layer.input(), layer.units());
    let layout = known(layer.layout).whole();
    let weights_len = layout.dense_weights_len(input, units);
    let Some((weights, params)) = layer.bytes.split_at_checked(weights_len) else {
        return;
    };
    let group = layout.group();
    let rows = weights.chunks_exact(layout.dense_rows_len(input).max(1));
    // `by_ref` here and below: without it `zip` divides by the chunk's width, and the check of that division
    // stays in images that are optimized for size.
    let mut params = params.chunks_exact(group * ROW_PARAMS);
    for ((rows, params), out) in rows.zip(params.by_ref()).zip(out.chunks_mut(group)) {
        let mut acc = [0i32; MAX_GROUP];
        match layout {
            Layout::Pair => {
                for (word, x) in rows.as_chunks::<4>().0.iter().zip(x.as_chunks::<2>().0) {
                    pair_mac(&mut acc, word, x);
                }
            }
            Layout::Quad => {
                for (word, &x) in rows.as_chunks::<4>().0.iter().zip(x) {
                    quad_mac(&mut acc, word, x);
                }
            }
            Layout::Winograd => winograd_mac(&mut acc, rows, x),
            Layout::Vector => {
                for (rows, x) in rows.chunks_exact(4 * 8).zip(x.chunks(8).by_ref()) {
                    for (acc, w) in acc.iter_mut().zip(rows.chunks_exact(8)) {
                        *acc = acc.wrapping_add(dot(w, x));
                    }
                }
            }
            #[cfg(feature = "std")]
            Layout::Lanes => {
                for (group, x) in rows.chunks_exact(16).zip(x.chunks_exact(2)) {
                    lanes_mac(&mut acc, group, x);
                }
            }
            // Dense layers have whole bytes.
            _ => acc[0] = dot(rows, x),
        }
        for ((out, p), acc) in out.iter_mut().zip(params.chunks_exact(ROW_PARAMS)).zip(acc) {
            if let [m0, m1, m2, m3, b0, b1, b2, b3] = *p {
                let multiplier = i32::from_le_bytes([m0, m1, m2, m3]);
                *out = requantize_dense(acc, multiplier, i32::from_le_bytes([b0, b1, b2, b3]));
            }
        }
    }
}

/// Applies a Dense layer's activation in place.
#[inline(never)]
pub(crate) fn dense_activation(activation: Activation, out: &mut [i16]) {
    if activation != Activation::Linear {
        for y in out {
            *y = activation.candidate(*y);
        }
    }
}
