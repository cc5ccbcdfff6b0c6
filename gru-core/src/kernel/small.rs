//! Layers on Cortex-M0 and M0+ where the crate is optimized for size (opt-level s or z).
//!
//! Row by row in plain Rust, from the layout that `quad_v6m.s` eats: a third of its code and some four times
//! its cycles.

use super::portable::{UnitParams, main_unit};
use crate::layout::{GATES, Layout, Place, ROW_PARAMS, UNIT_PARAMS, align4};
use crate::model::{DenseLayer, GruLayer};
use crate::quant::requantize_dense;

/// `Σ w[j]·x[j]` of a row whose weights stand `stride` bytes apart.
#[inline(never)]
fn dot(mut weights: &[u8], stride: usize, bias: u8, x: &[i16]) -> i32 {
    let mut sum = 0i32;
    for &x in x {
        let Some(&w) = weights.first() else {
            break;
        };
        sum = sum.wrapping_add((w ^ bias) as i8 as i32 * x as i32);
        weights = weights.get(stride..).unwrap_or_default();
    }
    sum
}

/// [`dot`] of a row whose first two weights are at these places among `weights`.
#[inline]
fn row(weights: &[u8], first: Place, second: Place, x: &[i16]) -> i32 {
    let bias = if first.biased { 0x80 } else { 0 };
    let weights = weights.get(first.byte..).unwrap_or_default();
    dot(weights, second.byte.wrapping_sub(first.byte), bias, x)
}

/// The sums of a unit over one part of its block, by gate.
#[inline(never)]
fn sums(layout: Layout, part: &[u8], n: usize, unit: usize, x: &[i16]) -> [i32; GATES] {
    let x = x.get(..n).unwrap_or_default();
    let mut sums = [0; GATES];
    for (gate, sum) in sums.iter_mut().enumerate() {
        let place = |column| layout.gru_weight(n, gate, unit, column);
        *sum = row(part, place(0), place(1), x);
    }
    sums
}

/// A Dense layer in the layout [`Layout::Quad`], without its activation.
#[inline(never)]
pub(super) fn dense(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
    let (input, units) = (layer.input(), layer.units());
    let weights_len = Layout::Quad.dense_weights_len(input, units);
    let (weights, mut params) = layer
        .bytes()
        .split_at_checked(weights_len)
        .unwrap_or_default();
    let x = x.get(..input).unwrap_or_default();
    for (unit, out) in out.iter_mut().take(units).enumerate() {
        let place = |column| Layout::Quad.dense_weight(input, unit, column);
        let sum = row(weights, place(0), place(1), x);
        let Some((p, rest)) = params.split_first_chunk::<ROW_PARAMS>() else {
            return;
        };
        params = rest;
        let [m0, m1, m2, m3, b0, b1, b2, b3] = *p;
        let multiplier = i32::from_le_bytes([m0, m1, m2, m3]);
        *out = requantize_dense(sum, multiplier, i32::from_le_bytes([b0, b1, b2, b3]));
    }
}

/// One time step of a layer of the main variant in the layout [`Layout::Quad`].
#[inline(never)]
pub(super) fn gru(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
    let layout = Layout::Quad;
    let (input, units, group) = (layer.input(), layer.units(), layout.gru_group());
    let (w_len, u_len) = (layout.gru_part_len(input), layout.gru_part_len(units));
    let mut blocks = layer.blocks();
    let (mut w, mut u): (&[u8], &[u8]) = (&[], &[]);
    for (unit, (&old, new)) in h.iter().zip(out).enumerate() {
        if unit % group == 0 {
            // Units beyond the last block are padding.
            let Some((head, rest)) = blocks.split_at_checked(w_len) else {
                return;
            };
            w = head;
            (u, blocks) = rest
                .split_at_checked(align4(w_len + u_len) - w_len)
                .unwrap_or_default();
        }
        let (params, rest) = blocks.split_at_checked(UNIT_PARAMS).unwrap_or_default();
        blocks = rest;
        let aw = sums(layout, w, input, unit % group, x);
        let au = sums(layout, u, units, unit % group, h);
        *new = main_unit(layer, &UnitParams::read(params), aw, au, old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;
    use crate::writer::{Aligned, write};
    use crate::{Layer, Model};
    use std::vec;

    #[test]
    fn layers_equal_the_portable_kernel() {
        let mut rng = random::SplitMix(8);
        let sizes = if cfg!(miri) { 5 } else { 40 };
        for units in 1..sizes {
            let features = 1 + rng.below(20);
            let model = random::model(units as u64, features, &[units], 2);
            let bytes = Aligned::new(&write(&model, Layout::Quad).unwrap());
            let model = Model::load(&bytes).unwrap();
            let [Layer::Gru(layer), Layer::Dense(dense_layer)] = model.layers() else {
                panic!("a GRU layer and a Dense layer");
            };
            let x: vec::Vec<i16> = (0..align4(features)).map(|_| rng.bits() as i16).collect();
            let mut h = vec![0; align4(units)];
            for h in &mut h[..units] {
                *h = rng.bits() as i16;
            }
            let (mut wanted, mut found) = (vec![0; h.len()], vec![0; h.len()]);
            super::super::portable::gru_any(layer, &x, &h, &mut wanted, &mut []);
            gru(layer, &x, &h, &mut found);
            assert_eq!(found[..units], wanted[..units], "{features} {units}");
            let (mut wanted, mut found) = ([0; 4], [0; 4]);
            super::super::portable::dense_any(dense_layer, &h, &mut wanted);
            dense(dense_layer, &h, &mut found);
            assert_eq!(found[..2], wanted[..2], "{features} {units}");
        }
    }
}
