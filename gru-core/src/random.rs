//! Random models and samples for tests and benchmarks (feature `std`): a pure function of a seed.

use crate::activation::Activation;
use crate::artifact::{DenseHeader, Direction, GapPolicy, GruHeader, Readout};
use crate::input::{FeatureParams, Limits};
use crate::layout::GATES;
use crate::sparse::PANEL;
use crate::writer::{QuantDense, QuantGru, QuantLayer, QuantModel};
use std::format;
use std::vec;
use std::vec::Vec;

/// Steele, Lea and Flood's SplitMix64: small, and the same everywhere.
#[derive(Debug, Clone)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..=high`.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % (high - low + 1) as u64) as i64
    }

    /// A number in `0..n`; `n` is at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            for (byte, random) in chunk.iter_mut().zip(self.bits().to_le_bytes()) {
                *byte = random;
            }
        }
    }

    /// Raw counts of one sample.
    pub fn sample(&mut self, features: usize) -> Vec<i16> {
        (0..features).map(|_| self.bits() as i16).collect()
    }
}

/// A GRU layer of plausible scales: pre-activations use their range and sometimes saturate.
pub fn gru(rng: &mut SplitMix, input: usize, header: GruHeader) -> QuantGru {
    let units = header.units as usize;
    let rows = GATES * units;
    let most = 127.min(65535 / ((input << header.w_shift) + units) as i64);
    let weights = |rng: &mut SplitMix, n| (0..n).map(|_| rng.range(-most, most) as i8).collect();
    // A sum of n products has a spread of about most/2 · 2^14 · √n; aim at a quarter of the range.
    let multiplier = |rng: &mut SplitMix, n: usize| {
        let spread = most as f64 / 2.0 * 16384.0 * (n as f64).sqrt();
        let m = 8192.0 * 65536.0 / spread;
        rng.range((m * 0.5) as i64 + 1, (m * 1.5) as i64 + 1)
            .min(32767) as u16
    };
    QuantGru {
        header,
        input,
        w: weights(rng, rows * input),
        u: weights(rng, rows * units),
        mu: (0..rows).map(|_| multiplier(rng, units)).collect(),
        mw: (0..units).map(|_| multiplier(rng, input)).collect(),
        b: (0..4 * units)
            .map(|_| rng.range(-4000, 4000) as i16)
            .collect(),
        initial_state: if header.initial_state {
            (0..units).map(|_| rng.bits() as i16).collect()
        } else {
            Vec::new()
        },
    }
}

/// Makes the weights of the GRU layers multiples of 16, which fit half a byte.
pub fn halve(model: &mut QuantModel) {
    for layer in &mut model.layers {
        if let QuantLayer::Gru(g) = layer {
            for w in g.w.iter_mut().chain(&mut g.u) {
                *w = *w / 16 * 16;
            }
        }
    }
}

/// Leaves the share `density` of the recurrent weights, in whole blocks ([`crate::sparse`]), and makes the others
/// zero: of every panel as many pairs of columns, at least one, which ones is random.
pub fn prune(rng: &mut SplitMix, model: &mut QuantModel, density: f64) {
    for layer in &mut model.layers {
        let QuantLayer::Gru(g) = layer else { continue };
        let units = g.header.units as usize;
        let pairs = units.div_ceil(2);
        let keep = (density * pairs as f64).round().max(1.0) as usize;
        for first in (0..units).step_by(PANEL) {
            let mut gone: Vec<usize> = (0..pairs).collect();
            for _ in 0..keep.min(pairs) {
                gone.swap_remove(rng.below(gone.len()));
            }
            for row in (0..GATES).flat_map(|gate| {
                (first..units.min(first + PANEL)).map(move |unit| gate * units + unit)
            }) {
                let row = &mut g.u[row * units..][..units];
                for &pair in &gone {
                    row.iter_mut().skip(2 * pair).take(2).for_each(|w| *w = 0);
                }
            }
        }
    }
}

/// A Dense layer of plausible scales.
pub fn dense(rng: &mut SplitMix, input: usize, header: DenseHeader) -> QuantDense {
    let units = header.units as usize;
    let most = 127.min(65535 / input as i64);
    let spread = most as f64 / 2.0 * 16384.0 * (input as f64).sqrt();
    let m = 8192.0 * 4_294_967_296.0 / spread;
    let range = |rng: &mut SplitMix| rng.range((m * 0.5) as i64 + 1, (m * 1.5) as i64 + 1);
    QuantDense {
        header,
        input,
        w: (0..units * input)
            .map(|_| rng.range(-most, most) as i8)
            .collect(),
        m: (0..units)
            .map(|_| range(rng).min(i32::MAX as i64) as i32)
            .collect(),
        b: (0..units).map(|_| rng.range(-9000, 9000) as i32).collect(),
    }
}

/// A model of GRU layers and a linear Dense layer: `features → units… → outputs`.
pub fn model(seed: u64, features: usize, units: &[usize], outputs: usize) -> QuantModel {
    let mut rng = SplitMix(seed);
    let mut layers = Vec::new();
    let mut input = features;
    for &units in units {
        let header = GruHeader {
            nh_shift: rng.range(0, 2) as u8,
            w_shift: rng.range(0, 3) as u8,
            ..GruHeader::new(units as u16)
        };
        layers.push(QuantLayer::Gru(gru(&mut rng, input, header)));
        input = units;
    }
    let header = DenseHeader {
        units: outputs as u16,
        activation: Activation::Linear,
        frac: 10,
    };
    layers.push(QuantLayer::Dense(dense(&mut rng, input, header)));
    QuantModel {
        name: format!("random-{seed}"),
        classes: Vec::new(),
        sample_rate_mhz: 50_000,
        input_exponent: 3,
        gap: GapPolicy::Hold,
        features: (0..features)
            .map(|_| FeatureParams {
                offset: rng.range(-1000, 1000) as i32,
                counts_per_unit: 8192.0,
                multiplier: rng.range(4096, 16384) as u16,
                shift: 13,
                pre_shift: 0,
            })
            .collect(),
        limits: Vec::new(),
        layers,
        readout: Readout::Last,
        warm_up_steps: 0,
        decision: None,
        self_test: Vec::new(),
    }
}

/// A model of bidirectional layers, each of so many units forwards and backwards, and a linear Dense layer on top unless
/// it has no outputs.
pub fn bidirectional(
    seed: u64,
    features: usize,
    layers: &[(u16, u16, Direction)],
    outputs: usize,
) -> QuantModel {
    let mut rng = SplitMix(seed);
    let mut all = model(seed, features, &[], outputs.max(1));
    all.name = format!("bidirectional-{seed}");
    all.layers.clear();
    let mut input = features;
    for &(forward, backward, direction) in layers {
        for (units, direction) in [(forward, Direction::Forward), (backward, direction)] {
            let header = GruHeader {
                direction,
                nh_shift: rng.range(0, 2) as u8,
                w_shift: rng.range(0, 3) as u8,
                ..GruHeader::new(units)
            };
            let layer = gru(&mut rng, input, header);
            all.layers.push(QuantLayer::Gru(layer));
        }
        input = (forward + backward).into();
    }
    if outputs > 0 {
        let header = DenseHeader {
            units: outputs as u16,
            activation: Activation::Linear,
            frac: 10,
        };
        let layer = dense(&mut rng, input, header);
        all.layers.push(QuantLayer::Dense(layer));
    }
    all
}

/// Models that run over windows in both directions: with either order of the outputs, with as many and with other units
/// backwards, one on the other, at the end, behind and in front of layers of one direction, in another variant, with
/// read-outs in turn.
pub fn windowed() -> Vec<QuantModel> {
    use Direction::{Backward, Beside, BesideLast};
    let mut all = Vec::from([
        bidirectional(0, 3, &[(5, 5, BesideLast)], 3),
        bidirectional(1, 2, &[(4, 4, Beside)], 2),
        bidirectional(2, 5, &[(6, 9, Beside), (3, 2, BesideLast)], 4),
        bidirectional(3, 13, &[(1, 2, BesideLast), (7, 4, Beside)], 0),
        bidirectional(4, 1, &[(3, 6, Beside)], 0),
        bidirectional(
            5,
            9,
            &[(17, 11, Beside), (10, 12, Beside), (8, 8, BesideLast)],
            5,
        ),
    ]);
    // GRU, Dense, GRU in both directions, GRU, Dense: with layers that turn the order around it and without.
    for seed in 6..10 {
        let mut rng = SplitMix(seed);
        let mut stack = bidirectional(seed, 4, &[(3, 5, Beside)], 3);
        let turned = |yes| if yes { Backward } else { Direction::Forward };
        let header = |units, direction| GruHeader {
            direction,
            ..GruHeader::new(units)
        };
        let second = if seed % 2 == 0 { Beside } else { BesideLast };
        let wide = DenseHeader {
            units: 21,
            activation: Activation::Tanh,
            frac: 0,
        };
        stack.layers = Vec::from([
            QuantLayer::Gru(gru(&mut rng, 4, header(6, turned(seed < 8)))),
            QuantLayer::Dense(dense(&mut rng, 6, wide)),
            QuantLayer::Gru(gru(&mut rng, 21, header(3, Direction::Forward))),
            QuantLayer::Gru(gru(&mut rng, 21, header(5, second))),
            QuantLayer::Gru(gru(&mut rng, 8, header(7, turned(seed < 7)))),
            QuantLayer::Dense(dense(
                &mut rng,
                7,
                DenseHeader {
                    units: 3,
                    frac: 10,
                    activation: Activation::Linear,
                },
            )),
        ]);
        all.push(stack);
    }
    let mut variant = bidirectional(10, 3, &[(4, 6, Beside)], 2);
    let mut rng = SplitMix(10);
    for layer in &mut variant.layers {
        if let QuantLayer::Gru(g) = layer {
            let header = GruHeader {
                activation: Activation::Relu,
                exponent: 2,
                recurrent_activation: Activation::HardSigmoid,
                reset_after: false,
                initial_state: true,
                clip: 9000,
                ..g.header
            };
            *g = gru(&mut rng, 3, header);
        }
    }
    all.push(variant);
    for (n, model) in all.iter_mut().enumerate() {
        model.readout = [
            Readout::Last,
            Readout::Mean { skip: 2 },
            Readout::Exponential { shift: 2 },
            Readout::Sliding { steps: 3 },
        ][n % 4];
        let features = model.features.len();
        model.self_test = stream(n as u64, features, 3);
    }
    all
}

/// Models with every option: each activation as candidate with each as gate, both places of the reset gate, clipped or
/// not, initial states, read-outs and gap policies in turn; and four of Keras' default variant, which every layout
/// holds.
pub fn variants() -> Vec<QuantModel> {
    let activations = [
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::HardSigmoid,
        Activation::HardTanh,
        Activation::Softsign,
        Activation::Linear,
        Activation::Relu,
    ];
    let exponent = |a: Activation| if a.is_bounded() { 0 } else { 2 };
    let mut all = Vec::new();
    for (i, activation) in activations.into_iter().enumerate() {
        for (j, recurrent) in activations.into_iter().enumerate() {
            let case = activations.len() * i + j;
            let mut variant = model(case as u64, 4, &[6, 5], 3);
            let header = GruHeader {
                activation,
                recurrent_activation: recurrent,
                exponent: exponent(activation),
                recurrent_exponent: exponent(recurrent),
                reset_after: case.is_multiple_of(2),
                clip: if case.is_multiple_of(3) { 9000 } else { 32767 },
                nh_shift: (case % 5) as u8,
                w_shift: (case % 8) as u8,
                initial_state: case % 4 == 1,
                ..GruHeader::new(6)
            };
            let mut rng = SplitMix(case as u64);
            variant.layers[0] = QuantLayer::Gru(gru(&mut rng, 4, header));
            variant.readout = [
                Readout::Last,
                Readout::Mean { skip: 2 },
                Readout::Exponential { shift: 3 },
            ][case % 3];
            variant.gap = [GapPolicy::Hold, GapPolicy::Zero, GapPolicy::Skip][case / 3 % 3];
            if case % 2 == 1 {
                let (low, high) = (-30_000, 31_000);
                variant.limits = vec![Limits { low, high }; 4];
            }
            all.push(variant);
        }
    }
    all.extend((100..104).map(|seed| model(seed, 5, &[9, 7], 4)));
    all
}

/// Models that together meet every option a stream can have, for long comparisons between machines: five shapes of
/// Keras' default variant, seven of [`variants`] in which each activation is candidate once and gate once, a stack
/// of GRU and Dense layers with each activation behind a Dense layer and a sliding mean, and weights of half a byte.
///
/// A test asserts that nothing is missing.
pub fn covering() -> Vec<QuantModel> {
    let shapes: [(usize, &[usize], usize); DEFAULT_VARIANTS] = [
        (1, &[1], 2),
        (3, &[7], 3),
        (6, &[16], 6),
        (9, &[24, 9], 5),
        (13, &[33], 4),
    ];
    let mut all: Vec<QuantModel> = (shapes.into_iter().enumerate())
        .map(|(n, (features, units, outputs))| model(n as u64, features, units, outputs))
        .collect();
    let chosen = [1, 11, 14, 24, 34, 37, 47];
    let variants = variants().into_iter().enumerate();
    all.extend(variants.filter_map(|(n, model)| chosen.contains(&n).then_some(model)));
    all.push(stack());
    let mut half = model(200, 3, &[5, 3], 2);
    half.name = "half bytes".into();
    halve(&mut half);
    all.push(half);
    all
}

/// The options of [`covering`] in models of one or two units, for a thousand steps in interpreters: seven in which each
/// activation is candidate, gate and output once, two of Keras' default variant, of which the second one has weights of
/// half a byte.
///
/// A test asserts that nothing is missing.
pub fn tiny() -> Vec<QuantModel> {
    use Activation::{HardSigmoid, HardTanh, Linear, Relu, Sigmoid, Softsign, Tanh};
    let activations = [Tanh, Sigmoid, HardSigmoid, HardTanh, Softsign, Linear, Relu];
    let readouts = [
        Readout::Last,
        Readout::Mean { skip: 2 },
        Readout::Sliding { steps: 3 },
        Readout::Exponential { shift: 3 },
    ];
    let gaps = [GapPolicy::Hold, GapPolicy::Zero, GapPolicy::Skip];
    let exponent = |a: Activation| if a.is_bounded() { 0 } else { 2 };
    let mut all = Vec::new();
    for n in 0..activations.len() {
        let of = |shift: usize| activations[(n + shift) % activations.len()];
        let mut rng = SplitMix(300 + n as u64);
        let mut tiny = model(300 + n as u64, 1, &[1], 1);
        let header = GruHeader {
            activation: of(0),
            recurrent_activation: of(3),
            exponent: exponent(of(0)),
            recurrent_exponent: exponent(of(3)),
            reset_after: n % 2 == 0,
            clip: if n % 3 == 0 { 9000 } else { 32767 },
            nh_shift: (n % 5) as u8,
            w_shift: n as u8,
            initial_state: n % 4 == 1,
            ..GruHeader::new(1)
        };
        let output = DenseHeader {
            units: 1,
            activation: of(5),
            frac: if matches!(of(5), Linear | Relu) {
                11
            } else {
                0
            },
        };
        tiny.layers = vec![
            QuantLayer::Gru(gru(&mut rng, 1, header)),
            QuantLayer::Dense(dense(&mut rng, 1, output)),
        ];
        if n == 6 {
            let again = gru(&mut rng, 1, GruHeader::new(1));
            tiny.layers.push(QuantLayer::Gru(again));
        }
        tiny.name = format!("tiny-{n}");
        tiny.readout = readouts[n % readouts.len()];
        tiny.gap = gaps[n % gaps.len()];
        if n % 2 == 1 {
            let (low, high) = (-30_000, 31_000);
            tiny.limits = vec![Limits { low, high }];
        }
        all.push(tiny);
    }
    all.push(model(307, 2, &[2], 2));
    let mut half = model(308, 1, &[1, 1], 2);
    halve(&mut half);
    all.push(half);
    all
}

/// How many of the first models of [`covering`] are of the variant and in the width for which kernels are made.
pub const DEFAULT_VARIANTS: usize = 5;

/// GRU layers with a Dense layer of each activation behind and between them, and a sliding mean at the end.
fn stack() -> QuantModel {
    let mut rng = SplitMix(201);
    let mut stack = model(201, 2, &[4], 1);
    stack.name = "stack".into();
    stack.readout = Readout::Sliding { steps: 5 };
    stack.layers.truncate(1);
    let mut input = 4;
    for (units, activation) in [
        (3, Activation::Relu),
        (4, Activation::Tanh),
        (3, Activation::HardTanh),
        (4, Activation::Softsign),
        (3, Activation::HardSigmoid),
        (2, Activation::Sigmoid),
    ] {
        let frac = if activation == Activation::Relu {
            11
        } else {
            0
        };
        let header = DenseHeader {
            units,
            activation,
            frac,
        };
        stack
            .layers
            .push(QuantLayer::Dense(dense(&mut rng, input, header)));
        input = units.into();
        if activation == Activation::Tanh {
            let header = GruHeader {
                initial_state: true,
                nh_shift: 3,
                ..GruHeader::new(4)
            };
            let layer = gru(&mut rng, input, header);
            stack.layers.push(QuantLayer::Gru(layer));
        }
    }
    stack
}

/// Raw counts of `steps` samples of a seed, one after another, a quarter of them at the ends of the range.
pub fn stream(seed: u64, features: usize, steps: usize) -> Vec<i16> {
    let mut rng = SplitMix(seed);
    (0..steps)
        .flat_map(|_| {
            let mut sample = rng.sample(features);
            if rng.below(4) == 0 {
                for x in &mut sample {
                    *x = [i16::MIN, 0, i16::MAX][rng.below(3)];
                }
            }
            sample
        })
        .collect()
}
