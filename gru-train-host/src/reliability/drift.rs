//! Long memory: how far the integers go from a float model over a long stream, and which pre-activations saturate.
//!
//! The float model has the numbers that the artifact's integers stand for, so what is seen is the arithmetic:
//! rounding, tables, saturation. What the weights lost is the business of the quantizer's report.

use gru_core::activation::Activation;
use gru_core::writer::{self, QuantDense, QuantGru, QuantLayer, QuantModel};
use gru_core::{Digest, Model, StateError};

use super::stream::{Motion, slope_in_errors};
use crate::nn::loss::largest;

/// Unit of a 16-bit value whose full scale is 1.
const LSB: f64 = 1.0 / 32768.0;
/// Blocks whose mean differences the trend is fitted to.
const BLOCKS: u64 = 100;

/// What one GRU layer has shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerDrift {
    /// Units.
    pub units: usize,
    /// Shares of pre-activations at or beyond the end of their 16 bits: reset, update, candidate, candidate's
    /// recurrent part.
    pub saturated: [f64; 4],
    /// Smallest and largest hidden state, of full scale 1.
    pub range: [f64; 2],
    /// Mean and largest |integers − float| of the hidden state.
    pub mean: f64,
    /// The largest.
    pub most: f64,
    /// Steps that the slowest unit remembers: 1/(1 − z) with the unit's mean update gate.
    pub longest_memory: f64,
}

/// What a long stream has shown.
#[derive(Debug, Clone, Default)]
pub struct Drift {
    /// Steps.
    pub steps: u64,
    /// Digest of all hidden states.
    pub digest: u64,
    /// Per GRU layer.
    pub layers: Vec<LayerDrift>,
    /// Slope of the mean difference over the stream, divided by its standard error.
    pub trend: f64,
    /// Mean difference in the first and in the last tenth.
    pub ends: [f64; 2],
    /// Share of steps in which both have the same largest output.
    pub agreement: f64,
    /// Saturations that the state's own counter has seen (unbounded activations only).
    pub counted: u32,
}

impl Drift {
    /// Whether the difference grows with time.
    #[must_use]
    pub fn grows(&self) -> bool {
        self.trend > 4.0 && self.ends[1] > 1.5 * self.ends[0]
    }
}

/// Runs `steps` steps of a swing with noise, two standard deviations wide, in integers and in `f64`.
///
/// # Errors
/// A model that needs its whole window.
pub fn drift(model: &Model<'_>, steps: u64, seed: u64) -> Result<Drift, StateError> {
    let parts = writer::read(model);
    let mut float = Float::new(&parts);
    let mut state = writer::host_state(model)?;
    let mut motion = Motion::new(seed);
    let mut swing = vec![0; model.features()];
    let mut sample = vec![0_i32; model.features()];
    // Counts of a standard deviation.
    let spread: Vec<f64> = (parts.features.iter())
        .map(|f| {
            let gain =
                f64::from(f.multiplier) / 2f64.powi(i32::from(f.shift) + i32::from(f.pre_shift));
            32768.0 / 2f64.powi(i32::from(parts.input_exponent)) / gain
        })
        .collect();
    let mut drift = Drift {
        steps,
        layers: vec![LayerDrift::default(); float.grus().count()],
        ..Drift::default()
    };
    let (mut digest, mut same) = (Digest::default(), 0);
    let block_len = (steps / BLOCKS).max(1);
    let (mut blocks, mut sum) = (Vec::new(), 0.0);
    for step in 0..steps {
        motion.next(&mut swing);
        for ((x, s), (f, spread)) in
            (sample.iter_mut().zip(&swing)).zip(parts.features.iter().zip(&spread))
        {
            let counts = f64::from(*s) / 6000.0 * 2.0 * spread;
            *x = f.offset.saturating_add(counts.round() as i32);
        }
        let chosen = model.step(&mut state, &sample)?.argmax();
        state.digest(model, &mut digest);
        let x = (sample.iter().zip(&parts.features))
            .map(|(raw, f)| f64::from(f.condition(*raw)) * float.input_unit);
        same += u64::from(float.step(x.collect()) == chosen);
        let mut mean = 0.0;
        let mut units = 0;
        for ((h, layer), gru) in (state.hidden(model))
            .zip(&mut drift.layers)
            .zip(float.grus())
        {
            for (h, exact) in h.iter().zip(&gru.h) {
                let h = f64::from(*h) * LSB;
                let difference = (h - exact / gru.full_scale).abs();
                layer.range = [layer.range[0].min(h), layer.range[1].max(h)];
                layer.mean += difference;
                layer.most = layer.most.max(difference);
                mean += difference;
            }
            units += gru.h.len();
        }
        sum += mean / units.max(1) as f64;
        if (step + 1) % block_len == 0 {
            blocks.push(sum / block_len as f64);
            sum = 0.0;
        }
    }
    for (layer, gru) in drift.layers.iter_mut().zip(float.grus()) {
        let all = (steps.max(1) * gru.h.len() as u64) as f64;
        layer.units = gru.h.len();
        layer.mean /= all;
        layer.saturated = gru.saturated.map(|n| n as f64 / all);
        let kept = gru.kept.iter().fold(0.0_f64, |m, z| m.max(*z)) / steps.max(1) as f64;
        layer.longest_memory = 1.0 / (1.0 - kept).max(LSB);
    }
    drift.digest = digest.value();
    drift.agreement = same as f64 / steps.max(1) as f64;
    drift.counted = state.counters().saturated;
    drift.trend = slope_in_errors(&blocks);
    let tenth = (blocks.len() / 10).max(1).min(blocks.len());
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
    drift.ends = [
        mean(&blocks[..tenth]),
        mean(&blocks[blocks.len() - tenth..]),
    ];
    Ok(drift)
}

// ---- the float model ----------------------------------------------------------------------------

enum Stage {
    Gru(Box<Gru>),
    Dense(Dense),
}

/// The equations of the model in `f64`.
struct Float {
    stages: Vec<Stage>,
    input_unit: f64,
}

struct Gru {
    quant: QuantGru,
    w: Vec<f64>,
    u: Vec<f64>,
    b: Vec<f64>,
    h: Vec<f64>,
    next: Vec<f64>,
    gate_full_scale: f64,
    candidate_full_scale: f64,
    recurrent_full_scale: f64,
    full_scale: f64,
    /// How often each kind of pre-activation was at its end.
    saturated: [u64; 4],
    /// Sum of each unit's update gate.
    kept: Vec<f64>,
}

struct Dense {
    quant: QuantDense,
    w: Vec<f64>,
    b: Vec<f64>,
}

/// The functions of the integer path, in `f64`.
fn act(a: Activation, x: f64) -> f64 {
    match a {
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::HardSigmoid => (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::HardTanh => x.clamp(-1.0, 1.0),
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Linear => x,
        Activation::Relu => x.max(0.0),
    }
}

fn scaled(weights: &[i8], columns: usize, scale: impl Fn(usize) -> f64) -> Vec<f64> {
    (weights.chunks(columns.max(1)).enumerate())
        .flat_map(|(row, w)| {
            let scale = scale(row);
            w.iter().map(move |w| f64::from(*w) * scale)
        })
        .collect()
}

fn dot(row: &[f64], x: &[f64]) -> f64 {
    row.iter().zip(x).map(|(a, b)| a * b).sum()
}

impl Gru {
    fn new(quant: &QuantGru, unit: f64) -> Self {
        let header = quant.header;
        let units = usize::from(header.units);
        let full_scale = 2f64.powi(i32::from(header.exponent));
        let gate = f64::from(
            header
                .recurrent_activation
                .full_scale(header.recurrent_exponent),
        );
        let candidate = f64::from(header.activation.full_scale(header.exponent));
        let recurrent = match header.reset_after {
            true => candidate * f64::from(1_u32 << header.nh_shift),
            false => candidate,
        };
        let of = |row: usize, candidate: f64| {
            if row / units.max(1) == 2 {
                candidate
            } else {
                gate
            }
        };
        // v = acc · m / 65536 in units of FS / 32768, acc in units of the input.
        let w = scaled(&quant.w, quant.input, |row| {
            f64::from(quant.input_multiplier(row)) * of(row, candidate) * LSB / 65536.0 / unit
        });
        let u = scaled(&quant.u, units, |row| {
            f64::from(quant.mu[row]) * of(row, recurrent) * LSB / 65536.0 / (full_scale * LSB)
        });
        let b = (quant.b.iter().enumerate()).map(|(i, b)| {
            // What the quantizer has added for the floors is taken off again: two for the candidate's sum, one for
            // the gates and for its recurrent part.
            let (fs, floors) = match i / units.max(1) {
                0 | 1 => (gate, 0.5),
                2 => (candidate, 1.0),
                _ => (recurrent, 0.5),
            };
            (f64::from(*b) - floors) * fs * LSB
        });
        let initial = quant
            .initial_state
            .iter()
            .map(|h| f64::from(*h) * full_scale * LSB);
        Self {
            w,
            u,
            b: b.collect(),
            h: initial.chain(std::iter::repeat(0.0)).take(units).collect(),
            next: vec![0.0; units],
            gate_full_scale: gate,
            candidate_full_scale: candidate,
            recurrent_full_scale: recurrent,
            full_scale,
            saturated: [0; 4],
            kept: vec![0.0; units],
            quant: quant.clone(),
        }
    }

    fn step(&mut self, x: &[f64]) {
        let header = self.quant.header;
        let (units, input) = (self.h.len(), self.quant.input);
        let clip = f64::from(header.clip) * LSB;
        let (gate_fs, fs, nh_fs) = (
            self.gate_full_scale,
            self.candidate_full_scale,
            self.recurrent_full_scale,
        );
        let saturated = &mut self.saturated;
        let mut seen = |kind: usize, v: f64, fs: f64| {
            saturated[kind] += u64::from(v.abs() >= fs);
            v
        };
        let cut = |v: f64, fs: f64| match header.clip {
            32767.. => v,
            _ => v.clamp(-clip * fs, clip * fs),
        };
        let (w, u, b, h) = (&self.w, &self.u, &self.b, &self.h);
        let of_x = |row: usize| dot(&w[row * input..(row + 1) * input], x);
        let of_h = |row: usize, h: &[f64]| dot(&u[row * units..(row + 1) * units], h);
        let gate = |v: f64| act(header.recurrent_activation, cut(v, gate_fs));
        let r: Vec<f64> = (0..units)
            .map(|j| gate(seen(0, of_x(j) + of_h(j, h) + b[j], gate_fs)))
            .collect();
        let rh: Vec<f64> = r.iter().zip(h).map(|(r, h)| r * h).collect();
        for j in 0..units {
            let (update, candidate) = (units + j, 2 * units + j);
            let z = gate(seen(1, of_x(update) + of_h(update, h) + b[update], gate_fs));
            let recurrent = match header.reset_after {
                true => r[j] * seen(3, of_h(candidate, h) + b[3 * units + j], nh_fs),
                false => of_h(candidate, &rh),
            };
            let v = seen(2, of_x(candidate) + b[candidate] + recurrent, fs);
            let n = act(header.activation, cut(v, fs));
            self.kept[j] += z;
            self.next[j] = z * h[j] + (1.0 - z) * n;
        }
        std::mem::swap(&mut self.h, &mut self.next);
    }
}

impl Float {
    fn new(model: &QuantModel) -> Self {
        let input_unit = 2f64.powi(i32::from(model.input_exponent)) * LSB;
        let mut unit = input_unit;
        let mut stages = Vec::new();
        for layer in &model.layers {
            stages.push(match layer {
                QuantLayer::Gru(g) => {
                    let gru = Gru::new(g, unit);
                    unit = gru.full_scale * LSB;
                    Stage::Gru(Box::new(gru))
                }
                QuantLayer::Dense(d) => {
                    let linear =
                        matches!(d.header.activation, Activation::Linear | Activation::Relu);
                    let out = match linear {
                        true => 0.5f64.powi(i32::from(d.header.frac)),
                        false => f64::from(d.header.activation.full_scale(0)) * LSB,
                    };
                    let scale = |row: usize| f64::from(d.m[row]) / 4_294_967_296.0 * out / unit;
                    let w = scaled(&d.w, d.input, scale);
                    let b = d.b.iter().map(|b| (f64::from(*b) - 0.5) * out).collect();
                    unit = if linear { out } else { LSB };
                    Stage::Dense(Dense {
                        quant: d.clone(),
                        w,
                        b,
                    })
                }
            });
        }
        Self { stages, input_unit }
    }

    fn grus(&self) -> impl Iterator<Item = &Gru> {
        self.stages.iter().filter_map(|stage| match stage {
            Stage::Gru(gru) => Some(&**gru),
            Stage::Dense(_) => None,
        })
    }

    /// One step; the place of the largest output.
    fn step(&mut self, mut x: Vec<f64>) -> usize {
        for stage in &mut self.stages {
            match stage {
                Stage::Gru(gru) => {
                    gru.step(&x);
                    x.clone_from(&gru.h);
                }
                Stage::Dense(d) => {
                    let rows = d.w.chunks(d.quant.input.max(1)).zip(&d.b);
                    x = rows
                        .map(|(w, b)| act(d.quant.header.activation, dot(w, &x) + b))
                        .collect();
                }
            }
        }
        largest(&x)
    }
}
