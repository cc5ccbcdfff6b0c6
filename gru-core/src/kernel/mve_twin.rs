//! What [`super::mve`] calculates, instruction by instruction in one lane, on the host.
//!
//! How lanes, offsets and loops go together is compared on the emulated core (`firmware-examples/agree`).

use super::dsp::tests::{model, values};
use super::portable;
use crate::Model;
use crate::activation::TANH_TABLE;
use crate::layout::{CANDIDATE, Layout, RESET, UNIT_PARAMS, UPDATE};
use crate::model::{GruLayer, Layer};
use crate::random::SplitMix;
use crate::writer::{Aligned, write};

/// Units of a block, and columns that a widening load brings.
const LANES: usize = 4;
const COLUMNS: usize = 8;

fn vmulh_s32(a: i32, b: i32) -> i32 {
    ((a as i64 * b as i64) >> 32) as i32
}
fn vmulh_u32(a: u32, b: u32) -> i32 {
    ((a as u64 * b as u64) >> 32) as i32
}
fn vqshl_16(v: i32) -> i32 {
    ((v as i64) << 16).clamp(i32::MIN as i64, i32::MAX as i64) as i32
}

/// Of a value in the upper half, whose lower half is zeros or, where it saturated, ones.
fn tanh(v: i32) -> i32 {
    let word = TANH_TABLE[((v >> 23) + 256) as usize] as i32;
    let slope = (word as i16 as i32) << 15;
    vmulh_u32((v << 9) as u32, slope as u32).wrapping_add(word) >> 16
}

/// One row of a pair of units: six times eight weights belong to eight columns, of which the predicated loads read `x.len()`.
fn row(weights: &[u8], unit: usize, gate: usize, x: &[i16]) -> i32 {
    let rows = weights.chunks_exact(6 * COLUMNS);
    rows.zip(x.chunks(COLUMNS)).fold(0, |acc, (rows, x)| {
        let row = &rows[(3 * unit + gate) * COLUMNS..];
        let products = row.iter().zip(x).map(|(&w, &x)| w as i8 as i32 * x as i32);
        products.fold(acc, i32::wrapping_add)
    })
}

fn gru(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
    let (input, units) = (layer.input(), layer.units());
    let half = |n| Layout::Vector.gru_part_len(n) / 2;
    let block_len = Layout::Vector.gru_block_len(input, units);
    for (unit, out) in out[..units].iter_mut().enumerate() {
        let block = &layer.blocks[unit / LANES * block_len..][..block_len];
        let (w, rest) = block.split_at(2 * half(input));
        let (u, params) = rest.split_at(2 * half(units));
        let (pair, place) = (unit % LANES / 2, unit % 2);
        let w = |gate| row(&w[pair * half(input)..], place, gate, &x[..input]);
        let u = |gate| row(&u[pair * half(units)..], place, gate, &h[..units]);
        let params = &params[unit % LANES * UNIT_PARAMS..];
        let param = |i: usize| i16::from_le_bytes([params[2 * i], params[2 * i + 1]]) as i32;
        let scaled = |sum: i32, i: usize| vmulh_s32(sum, param(i) << 16) + param(i + 4);
        let joint = |gate| (w(gate) << layer.w_shift).wrapping_add(u(gate));

        let r = tanh(vqshl_16(scaled(joint(RESET), 0))) + 32768;
        let z = tanh(vqshl_16(scaled(joint(UPDATE), 1))) + 32768;
        let nx = scaled(w(CANDIDATE), 2);
        let nh = scaled(u(CANDIDATE), 3).clamp(-32768, 32767);
        let n = tanh(vqshl_16((nh.wrapping_mul(r) >> (16 - layer.nh_shift)) + nx));
        let mixed = (h[unit] as i32 - n).wrapping_mul(z);
        let mixed = mixed.wrapping_add(n.wrapping_mul(65536));
        *out = ((mixed as i64 + 0x8000) >> 16) as i16;
    }
}

fn compare(rng: &mut SplitMix, input: usize, units: usize, rounds: usize) {
    let model = model(rng, input, units, 1);
    let bytes = Aligned::new(&write(&model, Layout::Vector).unwrap());
    let loaded = Model::load(&bytes).unwrap();
    let Layer::Gru(layer) = &loaded.layers()[0] else {
        panic!("a GRU layer");
    };
    for _ in 0..rounds {
        let (x, h) = (values(rng, input), values(rng, units));
        let (mut want, mut found) = (h.clone(), h.clone());
        portable::gru_any(layer, &x, &h, &mut want, &mut []);
        gru(layer, &x, &h, &mut found);
        assert_eq!(want[..units], found[..units], "{input} {units} {x:?} {h:?}");
    }
}

#[test]
fn twin_equals_portable_in_every_length() {
    let mut rng = SplitMix(41);
    let (longest, every, rounds) = if cfg!(miri) { (5, 3, 1) } else { (67, 1, 20) };
    for n in (1..=longest).step_by(every) {
        compare(&mut rng, n, 1 + n * 7 % 11, rounds);
        compare(&mut rng, 1 + n * 5 % 13, n, rounds);
    }
}

#[test]
fn twin_equals_portable_in_a_million_cases() {
    let mut rng = SplitMix(42);
    let (models, rounds) = if cfg!(miri) { (3, 2) } else { (2_000, 500) };
    for _ in 0..models {
        let (input, units) = (rng.range(1, 4) as usize, rng.range(1, 4) as usize);
        compare(&mut rng, input, units, rounds);
    }
}
