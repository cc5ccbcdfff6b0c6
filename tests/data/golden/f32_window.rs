//! The model `window` in f32 for `gru_core::float`. Written by `gru export`, not to be edited.
//!
//! Flash: 580 bytes of numbers. RAM: 516 bytes, [`STATE`] values for each stream and [`SCRATCH`] values of which nothing
//! is kept from one call to the next. Samples are raw counts; [`standardised`] makes of them what the layers take.
//!
//! Layers read backwards, so it is run over windows: `MODEL.run(&mut state, &window, None, &mut out, &mut scratch)` with
//! `[0.0; SCRATCH]` for 12 steps, and `MODEL.window_scratch_len(steps)` values for others.
//!
//! Trained on the mean of the outputs of a window, without its first 3 steps; forming it is up to the program.

#![allow(dead_code)] // A program uses what it needs.

use gru_core::float::{Activation, BidirectionalF32, DenseF32, FloatError, GruF32, GruWeights, LayerF32, Merge, ModelF32, Reset};

/// Values of a sample.
pub const INPUT: usize = 2;
/// Outputs.
pub const OUTPUT: usize = 1;
/// Values of the hidden states.
pub const STATE: usize = 7;
/// Values of scratch memory for a window of 12 steps.
pub const SCRATCH: usize = 122;
/// Names of the outputs.
pub const CLASSES: [&str; 0] = [];

/// The model: in flash, sizes checked while it was compiled.
pub static MODEL: ModelF32<'static> = sound(ModelF32::new(&LAYERS));

/// A sample of raw counts as the layers take it.
pub fn standardised(counts: &[f32; INPUT]) -> [f32; INPUT] {
    let mut x = *counts;
    for (x, (scale, offset)) in x.iter_mut().zip(SCALE.iter().zip(&OFFSET)) {
        *x = *x * *scale - *offset;
    }
    x
}

const fn sound<T: Copy>(made: Result<T, FloatError>) -> T {
    match made {
        Ok(made) => made,
        Err(_) => panic!("sizes that do not fit"),
    }
}

const _: () = assert!(INPUT == MODEL.input() && OUTPUT == MODEL.output() && STATE == MODEL.state_len());
const _: () = assert!(SCRATCH == MODEL.window_scratch_len(12));

#[rustfmt::skip]
static LAYERS: [LayerF32<'static>; 3] = [
    LayerF32::Gru(sound(sound(sound(GruF32::new(2, 3, GruWeights { w: &W_0, u: &U_0, b_in: &B_IN_0, b_rec: &B_REC_0 })).with_activations(Activation::Softsign, Activation::HardSigmoidAffine { alpha: 0.2, beta: 0.5 })).with_reset(Reset::Before).with_clip(Some(1.5))).with_return_sequences(true).with_go_backwards(true)),
    LayerF32::Bidirectional(sound(BidirectionalF32::new(sound(GruF32::new(3, 2, GruWeights { w: &W_1_FORWARD, u: &U_1_FORWARD, b_in: &B_IN_1_FORWARD, b_rec: &B_REC_1_FORWARD })).with_return_sequences(true), sound(GruF32::new(3, 2, GruWeights { w: &W_1_BACKWARD, u: &U_1_BACKWARD, b_in: &B_IN_1_BACKWARD, b_rec: &B_REC_1_BACKWARD })).with_return_sequences(true).with_go_backwards(true), Merge::Ave))),
    LayerF32::Dense(sound(DenseF32::new(2, 1, &W_2, &B_2, Activation::Linear))),
];

#[rustfmt::skip]
static W_0: [f32; 18] = [
    0.14453043, 0.662634, -0.18875633, 0.1966165, -0.3319128, 0.5025847, 0.4029346, -0.054067828,
    -0.34899828, -0.41228306, 0.71398824, 0.7240037, 0.27633584, -0.6109502, 0.9592642, 0.38938484,
    -0.3008456, 0.1843201,
];
#[rustfmt::skip]
static U_0: [f32; 27] = [
    -0.15360501, -0.38328388, -0.7466518, 0.21485558, -0.051640645, -0.30213827, 0.51287985, -0.07629766,
    0.3211921, -0.19504638, -0.42445624, -0.4457685, 0.90793514, -0.8453683, 0.42129275, -0.44399938,
    0.31228235, 0.38883486, 0.11406486, -0.24746096, -0.40053415, -0.3468496, -0.7071903, -0.6569721,
    -0.45755213, -0.3797654, 0.082931116,
];
#[rustfmt::skip]
static B_IN_0: [f32; 9] = [
    0.76213646, -0.4213227, 0.06069684, -0.13536666, -0.0012994944, -0.03346691, -0.16493854, 0.30134585,
    0.13408454,
];
#[rustfmt::skip]
static B_REC_0: [f32; 9] = [
    0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    0.0,
];
#[rustfmt::skip]
static W_1_FORWARD: [f32; 18] = [
    0.06751399, 0.6153695, -0.1423938, 0.18426874, -0.02272637, 0.07677345, 0.028831903, -0.032551866,
    1.1901186, 0.8359247, 0.0012504688, 0.6467185, -0.33500898, -0.67916125, 0.13621585, 0.15015833,
    -0.7121243, 0.06518048,
];
#[rustfmt::skip]
static U_1_FORWARD: [f32; 12] = [
    0.27043694, 0.24591005, 0.9999502, 0.38664204, 0.2130875, 0.31210732, 0.29844597, 0.43449804,
    0.31690338, 0.13490094, -0.6525537, 0.045320243,
];
#[rustfmt::skip]
static B_IN_1_FORWARD: [f32; 6] = [
    -0.15428752, 1.1105312, 0.39732158, 0.37025598, 0.15206437, -0.011818524,
];
#[rustfmt::skip]
static B_REC_1_FORWARD: [f32; 6] = [
    0.2033833, 0.34647104, -0.14211279, -0.39941043, -0.6206671, 0.18086272,
];
#[rustfmt::skip]
static W_1_BACKWARD: [f32; 18] = [
    -0.23967418, 0.22527805, 0.39146534, -0.24159373, -0.019517396, 0.2993086, 0.0638162, -0.08017597,
    0.8865245, -0.33628464, -0.4142067, -0.578921, -0.3008664, -1.2294979, 0.0075162672, 0.31964993,
    -0.11551025, 0.36779773,
];
#[rustfmt::skip]
static U_1_BACKWARD: [f32; 12] = [
    0.6463578, 0.32397732, -0.88773817, -0.36584267, -0.27929497, 0.8795626, -0.68254656, 0.024714198,
    -0.71084046, 0.33312264, 0.6777773, 0.49022436,
];
#[rustfmt::skip]
static B_IN_1_BACKWARD: [f32; 6] = [
    -0.16363196, 0.036777183, -0.4651243, -0.17175105, 0.20511763, 0.27172813,
];
#[rustfmt::skip]
static B_REC_1_BACKWARD: [f32; 6] = [
    -0.40259755, -0.21191484, -0.25490087, 0.6974816, -0.40631846, 0.5424326,
];
#[rustfmt::skip]
static W_2: [f32; 2] = [
    -0.82802975, 0.39018595,
];
#[rustfmt::skip]
static B_2: [f32; 1] = [
    0.40038326,
];
#[rustfmt::skip]
static SCALE: [f32; 2] = [
    0.00066666666, 0.0004,
];
#[rustfmt::skip]
static OFFSET: [f32; 2] = [
    0.0, 0.120000005,
];
