//! The same cases through the *integer* path: quantized, written, loaded, streamed; the error of every state
//! and every logit at every step against the budget that `gru-core/docs/quantization.md` derives per stage.
//!
//! Two budgets, both from the case's own weights and inputs:
//! - **one step**, a bound: the float step from the integers' own state and input; the worst of every rounding
//!   at once. No step of any unit may pass it.
//! - **the stream**, drawn: the float model with every stage's rounding drawn at random within its bound, 16 times;
//!   no error may pass three times the largest of these draws.
//!
//! Models with bidirectional layers run over their window, of which the integers show the last states of each direction and
//! the outputs at the end; only the second budget is theirs.

use std::collections::BTreeMap;

use gru_core::artifact::Direction;
use gru_core::layout::Layout;
use gru_core::random::SplitMix;
use gru_core::writer::{Aligned, QuantLayer, QuantModel, host_state, write};
use gru_core::{Model, StateError, Window};
use gru_train_host::quantize::{
    self, Calibration, GruScales, LayerRange, QuantizeError, QuantizeOptions,
};
use gru_train_host::spec::{Activation, DenseSpec, GruSpec, LayerSpec, ModelSpec};
use serde_json::Value;

use super::{
    OnnxData, Plant, Stop, Tensor, broken, flag, folder, is_bounded, keras_files, keras_layer,
    keras_layers, onnx_data, onnx_node_data, onnx_specs, optional, read, size, tensor,
    torch_layers,
};

/// Unit of a 16-bit value whose full scale is 1.
const LSB: f64 = 1.0 / 32768.0;
/// How often the stages' roundings are drawn.
const DRAWS: u64 = 16;
/// How far beyond the largest draw an error may be.
const MARGIN: f64 = 3.0;

impl From<QuantizeError> for Stop {
    fn from(e: QuantizeError) -> Self {
        match e {
            QuantizeError::Unsupported { .. } | QuantizeError::Weights { .. } => {
                Self::Refused(e.to_string())
            }
            _ => Self::Broken(e.to_string()),
        }
    }
}

impl From<StateError> for Stop {
    fn from(e: StateError) -> Self {
        match e {
            StateError::NeedsWindow => Self::Refused(e.to_string()),
            _ => Self::Broken(e.to_string()),
        }
    }
}

// ------------------------------------------------------------------------------------- what is run

/// One stream in the order in which it is processed.
struct Stream {
    layers: Vec<LayerSpec>,
    /// Initial state per GRU layer.
    h0: Option<Vec<Vec<f32>>>,
    x: Vec<f32>,
    mask: Vec<bool>,
    wants: Vec<Want>,
}

/// What the oracle has at a point of the stream: the float model of this test has to agree with it.
struct Want {
    step: usize,
    /// `None`: the last layer's output; else the state of this GRU layer.
    layer: Option<usize>,
    values: Vec<f32>,
}

impl Stream {
    fn new(layers: Vec<LayerSpec>, x: Vec<f32>, mask: Vec<bool>) -> Self {
        Self {
            layers,
            h0: None,
            x,
            mask,
            wants: Vec::new(),
        }
    }

    /// Puts time into the order of processing, for a first layer that reads from the end.
    fn forwards(mut self) -> Self {
        if let Some(LayerSpec::Gru(g)) = self.layers.first_mut()
            && std::mem::take(&mut g.go_backwards)
        {
            let rows: Vec<&[f32]> = self.x.chunks(g.input).rev().collect();
            self.x = rows.concat();
            self.mask.reverse();
        }
        self
    }

    /// Goes on with what another stream brings.
    fn extend(&mut self, more: Self) {
        let done = self.mask.len();
        self.x.extend(more.x);
        self.mask.extend(more.mask);
        (self.wants).extend(more.wants.into_iter().map(|want| Want {
            step: want.step + done,
            ..want
        }));
    }
}

fn keras_layer_streams(case: &Value, plant: Plant) -> Result<Vec<Stream>, Stop> {
    let spec = keras_layer(case, plant)?;
    let stateful = flag(&case["config"]["stateful"], false);
    let mut streams: Vec<Stream> = Vec::new();
    for (n, call) in case["calls"].as_array().into_iter().flatten().enumerate() {
        let x = tensor(&call["input"])?;
        let output = tensor(&call["output"])?;
        let initial = optional(&call["initial_state"])?;
        let mask = optional(&call["mask"])?;
        let (batch, steps) = (x.shape[0], x.shape[1]);
        for b in 0..batch {
            let valid = |m: &Tensor| m.at(&[b]).iter().map(|v| *v != 0.0).collect();
            let mask = mask.as_ref().map_or(vec![true; steps], valid);
            let layers = vec![LayerSpec::Gru(spec.clone())];
            let mut stream = Stream::new(layers, x.at(&[b]), mask).forwards();
            stream.h0 = initial.as_ref().map(|h| vec![h.at(&[b])]);
            for t in 0..steps {
                let values = match spec.return_sequences {
                    true if stream.mask[t] => output.at(&[b, t]),
                    false if t + 1 == steps && stream.mask.contains(&true) => output.at(&[b]),
                    _ => continue,
                };
                stream.wants.push(Want {
                    step: t,
                    layer: Some(0),
                    values,
                });
            }
            // A call that goes on from the one before is more of the same stream.
            let goes_on = stateful && n > 0 && !flag(&call["reset_states_before"], false);
            let before = streams.len().checked_sub(batch);
            match before.and_then(|at| streams.get_mut(at + b)) {
                Some(before) if goes_on => before.extend(stream),
                _ => streams.push(stream),
            }
        }
    }
    Ok(streams)
}

fn keras_model_streams(case: &Value, plant: Plant) -> Result<Vec<Stream>, Stop> {
    let (layers, mask_value) = keras_layers(case, plant)?;
    let x = tensor(&case["input"])?;
    let output = tensor(&case["output"])?;
    let (batch, steps) = (x.shape[0], x.shape[1]);
    let mut streams = Vec::new();
    for b in 0..batch {
        let xs = x.at(&[b]);
        let mask = match mask_value {
            Some(m) => (xs.chunks(x.shape[2]))
                .map(|x| x.iter().any(|v| *v != m))
                .collect(),
            None => vec![true; steps],
        };
        let mut stream = Stream::new(layers.clone(), xs, mask).forwards();
        for t in 0..steps {
            let values = match output.shape.len() {
                3 if stream.mask[t] => output.at(&[b, t]),
                2 if t + 1 == steps => output.at(&[b]),
                _ => continue,
            };
            stream.wants.push(Want {
                step: t,
                layer: None,
                values,
            });
        }
        streams.push(stream);
    }
    Ok(streams)
}

fn torch_streams(case: &Value, plant: Plant) -> Result<Vec<Stream>, Stop> {
    let layers = torch_layers(case, plant)?;
    let batch_first = flag(&case["config"]["batch_first"], false);
    let directed = |t: Tensor| if batch_first { t } else { t.swapped() };
    let x = directed(tensor(&case["input"])?);
    let output = directed(tensor(&case["output"])?);
    let h_n = tensor(&case["h_n"])?;
    let h0 = optional(&case["h0"])?;
    let (batch, steps) = (x.shape[0], x.shape[1]);
    let mut streams = Vec::new();
    for b in 0..batch {
        let length = match &case["lengths"][b] {
            Value::Null => steps,
            n => size(n)?,
        };
        let mask = (0..steps).map(|t| t < length).collect();
        let mut stream = Stream::new(layers.clone(), x.at(&[b]), mask);
        // One for each direction.
        let grus = layers.iter().map(|l| l.grus().count()).sum();
        stream.h0 = (h0.as_ref()).map(|h| (0..grus).map(|l| h.at(&[l, b])).collect());
        let want = |step, layer, values| Want {
            step,
            layer,
            values,
        };
        for t in 0..length {
            stream.wants.push(want(t, None, output.at(&[b, t])));
        }
        for l in 0..grus {
            let values = h_n.at(&[l, b]);
            stream.wants.push(want(steps - 1, Some(l), values));
        }
        streams.push(stream);
    }
    Ok(streams)
}

fn onnx_streams(attributes: &Value, data: OnnxData, plant: Plant) -> Result<Vec<Stream>, Stop> {
    let specs = onnx_specs(attributes, &data, plant)?;
    let layout = attributes["layout"].as_u64().unwrap_or(0);
    let batch_first = |t: Tensor| if layout == 1 { t } else { t.swapped() };
    let x = batch_first(data.x);
    let h0 = data.h0.map(batch_first);
    let y_h = data.y_h.map(batch_first);
    let (batch, steps) = (x.shape[0], x.shape[1]);
    let mut streams = Vec::new();
    for n in 0..batch {
        let length = data.lens.as_ref().map_or(steps, |l| l.data[n] as usize);
        for (d, spec) in specs.iter().enumerate() {
            let mask = (0..steps).map(|t| t < length).collect();
            let layers = vec![LayerSpec::Gru(spec.clone())];
            let mut stream = Stream::new(layers, x.at(&[n]), mask).forwards();
            stream.h0 = h0.as_ref().map(|h| vec![h.at(&[n, d])]);
            if let Some(y_h) = &y_h {
                stream.wants.push(Want {
                    step: steps - 1,
                    layer: Some(0),
                    values: y_h.at(&[n, d]),
                });
            }
            streams.push(stream);
        }
    }
    Ok(streams)
}

// -------------------------------------------------------------------------- the float model, in f64

fn act(a: Activation, x: f64) -> f64 {
    match a {
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::HardSigmoid => (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::HardSigmoidV2 => (0.2 * x + 0.5).clamp(0.0, 1.0),
        Activation::HardTanh => x.clamp(-1.0, 1.0),
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Relu => x.max(0.0),
        _ => x,
    }
}

/// The steepest slope.
fn slope(a: Activation) -> f64 {
    match a {
        Activation::Sigmoid => 0.25,
        Activation::HardSigmoid => 1.0 / 6.0,
        Activation::HardSigmoidV2 => 0.2,
        _ => 1.0,
    }
}

/// What the integer function itself is off at most, in units of Q15 (test `error_of_tables`); as a candidate
/// one bit less than as a gate.
fn table(a: Activation, gate: bool) -> f64 {
    let lost = if gate { 0.0 } else { 1.0 };
    match a {
        Activation::Tanh => 1.55,
        Activation::Sigmoid => 0.78 + lost,
        Activation::HardSigmoid | Activation::HardSigmoidV2 => 0.5 + lost,
        Activation::Softsign => 1.0,
        Activation::HardTanh => 1.0,
        _ => 0.0,
    }
}

/// A layer of the float model with what its integers can tell apart.
enum Stage {
    Gru {
        g: GruSpec,
        scales: GruScales,
        /// Steps of the weights per row: input part, recurrent part.
        steps: [Vec<f64>; 2],
    },
    Dense {
        d: DenseSpec,
        steps: Vec<f64>,
        unit: f64,
        /// Largest output before the activation.
        range: f64,
    },
}

/// The numbers that a layer computes with: its own, or its own with roundings drawn.
struct Numbers {
    w: Vec<f64>,
    u: Vec<f64>,
    /// Four rows a unit: r, z, candidate's input part, candidate's recurrent part.
    b: Vec<f64>,
}

/// Where roundings come from; nothing at all for the clean model.
struct Noise(Option<SplitMix>);

impl Noise {
    /// Anything in ±`most`.
    fn draw(&mut self, most: f64) -> f64 {
        self.0
            .as_mut()
            .map_or(0.0, |rng| (2.0 * rng.unit() - 1.0) * most)
    }

    /// What a 16-bit value of this full scale holds of `v`.
    fn hold(&self, v: f64, full_scale: f64) -> f64 {
        match self.0 {
            Some(_) => v.clamp(-full_scale, full_scale),
            None => v,
        }
    }
}

/// Weights with their roundings drawn: equal weights of rows of one scale are rounded alike, zero not at all.
fn weights(w: &[f32], columns: usize, steps: &[f64], noise: &mut Noise) -> Vec<f64> {
    let mut drawn: BTreeMap<(u32, u64), f64> = BTreeMap::new();
    let mut rounded = |w: f32, step: f64| {
        let key = (w.to_bits(), step.to_bits());
        let error = drawn.entry(key).or_insert_with(|| noise.draw(0.5 * step));
        if w == 0.0 { 0.0 } else { f64::from(w) + *error }
    };
    let mut all = Vec::with_capacity(w.len());
    for (row, step) in w.chunks(columns).zip(steps) {
        all.extend(row.iter().map(|w| rounded(*w, *step)));
    }
    all
}

fn dot(row: &[f64], x: &[f64]) -> f64 {
    row.iter().zip(x).map(|(w, x)| w * x).sum()
}

impl Stage {
    fn input(&self) -> usize {
        match self {
            Self::Gru { g, .. } => g.input,
            Self::Dense { d, .. } => d.input,
        }
    }

    fn numbers(&self, noise: &mut Noise) -> Numbers {
        match self {
            Self::Gru { g, scales, steps } => {
                let units = g.units;
                let fs = [scales.gate_full_scale, scales.candidate_full_scale];
                let mut b: Vec<f64> = (0..3 * units)
                    .map(|r| {
                        let recurrent = if r >= 2 * units && g.reset_after {
                            0.0
                        } else {
                            f64::from(g.b_rec[r])
                        };
                        let b = f64::from(g.b_in[r]) + recurrent;
                        let fs = fs[usize::from(r >= 2 * units)];
                        noise.hold(b, fs) + noise.draw(0.5 * fs * LSB)
                    })
                    .collect();
                b.extend((2 * units..3 * units).map(|r| {
                    let fs = fs[1] * f64::from(1u32 << scales.header.nh_shift);
                    let b = if g.reset_after {
                        f64::from(g.b_rec[r])
                    } else {
                        0.0
                    };
                    noise.hold(b, fs) + noise.draw(0.5 * fs * LSB)
                }));
                Numbers {
                    w: weights(&g.w, g.input, &steps[0], noise),
                    u: weights(&g.u, units, &steps[1], noise),
                    b,
                }
            }
            Self::Dense { d, steps, unit, .. } => Numbers {
                w: weights(&d.w, d.input, steps, noise),
                u: Vec::new(),
                b: (d.b.iter())
                    .map(|b| f64::from(*b) + noise.draw(0.5 * unit))
                    .collect(),
            },
        }
    }

    /// One step: the new state of a GRU, the outputs of a Dense.
    fn step(&self, numbers: &Numbers, x: &[f64], h: &[f64], noise: &mut Noise) -> Vec<f64> {
        let (g, scales) = match self {
            Self::Dense { d, unit, range, .. } => {
                return (numbers.w.chunks(d.input).zip(&numbers.b))
                    .map(|(row, b)| {
                        let y = dot(row, x) + b + noise.draw(0.5 * unit);
                        let y = noise.hold(y, *range);
                        act(d.activation, y) + noise.draw(table(d.activation, false) * LSB)
                    })
                    .collect();
            }
            Self::Gru { g, scales, .. } => (g, scales),
        };
        let (units, i) = (g.units, g.input);
        let (gate_fs, fs) = (scales.gate_full_scale, scales.candidate_full_scale);
        let nh_fs = fs * f64::from(1u32 << scales.header.nh_shift);
        let clip = |v: f64| g.clip.map_or(v, |c| v.clamp(-f64::from(c), f64::from(c)));
        let w = |row: usize| &numbers.w[row * i..(row + 1) * i];
        let u = |row: usize| &numbers.u[row * units..(row + 1) * units];
        let gate = |row: usize, noise: &mut Noise| {
            let v = dot(w(row), x) + dot(u(row), h) + numbers.b[row];
            let v = v + noise.draw(0.5 * gate_fs * LSB);
            let a = g.recurrent_activation;
            act(a, clip(noise.hold(v, gate_fs))) + noise.draw(table(a, true) * LSB)
        };
        let r: Vec<f64> = (0..units).map(|j| gate(j, noise)).collect();
        let rh: Vec<f64> = (r.iter().zip(h))
            .map(|(r, h)| r * h + noise.draw(0.5 * LSB))
            .collect();
        (0..units)
            .map(|j| {
                let z = gate(units + j, noise);
                let row = 2 * units + j;
                let nx = dot(w(row), x) + numbers.b[row] + noise.draw(0.5 * fs * LSB);
                let recurrent = if g.reset_after {
                    let nh = dot(u(row), h) + numbers.b[3 * units + j];
                    let nh = nh + noise.draw(0.5 * nh_fs * LSB);
                    let nh = noise.hold(nh, nh_fs);
                    r[j] * nh + noise.draw(0.5 * fs * LSB)
                } else {
                    dot(u(row), &rh) + noise.draw(0.5 * fs * LSB)
                };
                let v = clip(noise.hold(nx + recurrent, fs));
                let n = act(g.activation, v) + noise.draw(table(g.activation, false) * LSB);
                let mixed = z * h[j] + (1.0 - z) * n + noise.draw(0.5 * LSB);
                noise.hold(mixed, 1.0)
            })
            .collect()
    }

    /// The clean step from the integers' own `h` and an input known within `ex`, and the most that the
    /// integers' result can differ from it: every rounding at its worst, all of one sign.
    fn bound(&self, clean: &Numbers, x: &[f64], ex: &[f64], h: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let exact = self.step(clean, x, h, &mut Noise(None));
        // Rounded weights times what the integers saw, and weights times what they did not see.
        let product = |row: &[f64], step: f64, x: &[f64], ex: &[f64]| -> f64 {
            (row.iter().zip(x.iter().zip(ex)))
                .map(|(w, (x, e))| 0.5 * step * (x.abs() + e) + w.abs() * e)
                .sum()
        };
        let beyond = |v: f64, fs: f64| (v - v.clamp(-fs, fs)).abs();
        let (g, scales, steps) = match self {
            Self::Dense {
                d,
                steps,
                unit,
                range,
            } => {
                let bounds = (clean.w.chunks(d.input).zip(steps).zip(&clean.b))
                    .map(|((row, step), b)| {
                        let y = dot(row, x) + b;
                        // The multiplier is rounded as well, to a part in 2^18 at the least.
                        let e = product(row, *step, x, ex) + unit + y.abs() / 262_144.0;
                        e * slope(d.activation)
                            + beyond(y, *range)
                            + table(d.activation, false) * LSB
                    })
                    .collect();
                return (exact, bounds);
            }
            Self::Gru { g, scales, steps } => (g, scales, steps),
        };
        let (units, i) = (g.units, g.input);
        let (gate_fs, fs) = (scales.gate_full_scale, scales.candidate_full_scale);
        let nh_fs = fs * f64::from(1u32 << scales.header.nh_shift);
        let clip = |v: f64| g.clip.map_or(v, |c| v.clamp(-f64::from(c), f64::from(c)));
        let none = vec![0.0; units];
        let w = |row: usize| &clean.w[row * i..(row + 1) * i];
        let u = |row: usize| &clean.u[row * units..(row + 1) * units];
        // A function of a pre-activation within `e` of `v`, cut at its full scale: its value and its error.
        let through = |a: Activation, v: f64, e: f64, fs: f64, gate: bool| {
            let (value, cut) = (act(a, clip(v)), act(a, clip(v.clamp(-fs, fs))));
            let e = slope(a) * e + (value - cut).abs() + table(a, gate) * LSB;
            (value, e)
        };
        let gate = |row: usize| {
            let v = dot(w(row), x) + dot(u(row), h) + clean.b[row];
            // The floor and the rounded bias, half a unit each.
            let e = product(w(row), steps[0][row], x, ex)
                + product(u(row), steps[1][row], h, &none)
                + beyond(clean.b[row], gate_fs)
                + gate_fs * LSB;
            through(g.recurrent_activation, v, e, gate_fs, true)
        };
        let r: Vec<(f64, f64)> = (0..units).map(gate).collect();
        let rh: Vec<f64> = r.iter().zip(h).map(|((r, _), h)| r * h).collect();
        let e_rh: Vec<f64> = (r.iter().zip(h))
            .map(|((_, e), h)| e * h.abs() + 0.5 * LSB)
            .collect();
        let bounds = (0..units)
            .map(|j| {
                let (z, e_z) = gate(units + j);
                let row = 2 * units + j;
                let nx = dot(w(row), x) + clean.b[row];
                let mut e = product(w(row), steps[0][row], x, ex)
                    + beyond(clean.b[row], fs)
                    + 1.5 * fs * LSB;
                let recurrent = if g.reset_after {
                    let b = clean.b[3 * units + j];
                    let nh = dot(u(row), h) + b;
                    let e_nh = product(u(row), steps[1][row], h, &none)
                        + beyond(b, nh_fs)
                        + beyond(nh, nh_fs)
                        + nh_fs * LSB;
                    let (r, e_r) = r[j];
                    e += r.abs() * e_nh + e_r * (nh.abs() + e_nh);
                    r * nh
                } else {
                    e += product(u(row), steps[1][row], &rh, &e_rh);
                    dot(u(row), &rh)
                };
                let (n, e_n) = through(g.activation, nx + recurrent, e, fs, false);
                (h[j] - n).abs() * e_z
                    + (1.0 - z).abs() * e_n
                    + e_z * e_n
                    + 0.5 * LSB
                    + beyond(exact[j], 1.0)
            })
            .collect();
        (exact, bounds)
    }
}

// ------------------------------------------------------------------------------------- one stream

/// An error planted in the integers, to see the budgets passed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The gates r and z change places.
    SwapGates,
    /// Weights lose three of their eight bits.
    FiveBits,
    /// Biases are off by 1/64 of their range.
    Biases,
    /// The reset gate does not act.
    NoReset,
}

impl Fault {
    fn plant(self, model: &mut QuantModel) {
        for layer in &mut model.layers {
            let QuantLayer::Gru(g) = layer else { continue };
            let units = usize::from(g.header.units);
            match self {
                Self::None => {}
                Self::SwapGates => {
                    let i = g.input;
                    let (r, rest) = g.w.split_at_mut(units * i);
                    r.swap_with_slice(&mut rest[..units * i]);
                }
                Self::FiveBits => {
                    for w in g.w.iter_mut().chain(&mut g.u) {
                        *w &= !7;
                    }
                    // -128 is no weight.
                    for w in g.w.iter_mut().chain(&mut g.u) {
                        *w = (*w).max(-127);
                    }
                }
                Self::Biases => {
                    for b in &mut g.b {
                        *b = b.saturating_add(512);
                    }
                }
                Self::NoReset => {
                    for b in &mut g.b[..units] {
                        *b = i16::MAX;
                    }
                }
            }
        }
    }
}

/// Errors and budgets of one kind of value.
#[derive(Debug, Clone, Copy, Default)]
struct Error {
    /// Largest error.
    worst: f64,
    /// What it may be at most.
    budget: f64,
}

impl Error {
    fn ratio(self) -> f64 {
        if self.budget > 0.0 {
            self.worst / self.budget
        } else {
            0.0
        }
    }
}

/// What a stream has shown.
#[derive(Debug, Clone, Default)]
struct Shown {
    /// Hidden states over the whole stream.
    state: Error,
    /// Outputs of a Dense layer at the end, before a softmax.
    logits: Error,
    /// Largest share of the one-step bound.
    one_step: f64,
    /// Values compared.
    values: usize,
    /// Root mean square of the states' errors at the last step.
    last_rms: f64,
}

/// Quantized model and the float stages beside it.
fn prepare(stream: &Stream, fault: Fault) -> Result<(QuantModel, Vec<Stage>), Stop> {
    let mut model = ModelSpec {
        layers: stream.layers.clone(),
        ..ModelSpec::default()
    };
    let mut given = stream.h0.iter().flatten();
    for layer in &mut model.layers {
        for g in layer.grus_mut() {
            if !is_bounded(g) {
                let (f, r) = (g.activation.name(), g.recurrent_activation.name());
                let what = format!("{f}, {r}: not bounded, so its range is the data's");
                return Err(Stop::Refused(what));
            }
            if let Some(h) = given.next() {
                g.h0.clone_from(h);
            }
        }
    }
    let ranges: Calibration = quantize::calibrate(&model, [stream.x.as_slice()])?;
    let exponent = ranges.input.max(1.0).log2().ceil();
    // A count is a unit of the conditioned input.
    model.counts_per_unit = vec![2f32.powf(15.0 - exponent); model.input()];
    let options = QuantizeOptions {
        gap: gru_core::artifact::GapPolicy::Skip,
        ..QuantizeOptions::default()
    };
    let (mut quantized, _) = quantize::quantize(&model, &ranges, &options)?;
    let mut unit = 2f64.powf(f64::from(exponent)) * LSB;
    let mut stages = Vec::new();
    let mut integers = quantized.layers.iter();
    for (i, layer) in model.layers.iter().enumerate() {
        let range: &LayerRange = &ranges.layers[i];
        let mut states = false;
        for g in layer.grus() {
            if let Some(QuantLayer::Gru(q)) = integers.next() {
                states = true;
                let scales = quantize::gru_scales(i, g, unit, range)?;
                let part = |m: &dyn Fn(usize) -> f64, units: [f64; 2]| {
                    let row = |r: usize| units[usize::from(r >= 2 * g.units)] * m(r);
                    (0..3 * g.units).map(row).collect()
                };
                stages.push(Stage::Gru {
                    steps: [
                        part(&|r| f64::from(q.input_multiplier(r)), scales.w_unit),
                        part(&|r| f64::from(q.mu[r]), scales.u_unit),
                    ],
                    g: g.clone(),
                    scales,
                });
            }
        }
        if states {
            unit = LSB;
            continue;
        }
        match (layer, integers.next()) {
            (LayerSpec::Dense(d), Some(QuantLayer::Dense(q))) => {
                let linear = matches!(d.activation, Activation::Linear | Activation::Relu)
                    || (d.activation == Activation::Softmax && i + 1 == model.layers.len());
                let out_unit = match linear {
                    true => 0.5f64.powi(i32::from(q.header.frac)),
                    false => f64::from(q.header.activation.full_scale(0)) * LSB,
                };
                // m = scale · unit / out_unit · 2^32
                let row =
                    |m: &i32| f64::from(*m) * out_unit / unit / 4_294_967_296.0 * (1.0 + 1e-4);
                let mut d = d.clone();
                if d.activation == Activation::Softmax {
                    d.activation = Activation::Linear;
                }
                stages.push(Stage::Dense {
                    steps: q.m.iter().map(row).collect(),
                    unit: out_unit,
                    range: 32767.0 * out_unit,
                    d,
                });
                unit = if linear { out_unit } else { LSB };
            }
            _ => return broken("a layer has become another one"),
        }
    }
    fault.plant(&mut quantized);
    Ok((quantized, stages))
}

/// The states that a clean or perturbed float model has after each step, and the outputs.
fn float_run(
    stages: &[Stage],
    numbers: &[Numbers],
    stream: &Stream,
    noise: &mut Noise,
) -> Vec<Vec<Vec<f64>>> {
    let mut states: Vec<Vec<f64>> = (stages.iter())
        .map(|s| match s {
            Stage::Gru { g, .. } => (g.h0.iter())
                .map(|h| noise.hold(f64::from(*h), 1.0) + noise.draw(0.5 * LSB))
                .collect(),
            Stage::Dense { d, .. } => vec![0.0; d.units],
        })
        .collect();
    let mut trace = Vec::new();
    let input = stages.first().map_or(1, Stage::input);
    // The input's rounding: half a unit of its 16 bits.
    let most = stream.x.iter().fold(1f32, |m, v| m.max(v.abs()));
    let x_lsb = f64::from(most.log2().ceil().exp2()) * LSB;
    for (x, valid) in stream.x.chunks(input).zip(&stream.mask) {
        if *valid {
            let mut x: Vec<f64> = (x.iter())
                .map(|x| f64::from(*x) + noise.draw(0.5 * x_lsb))
                .collect();
            for ((stage, numbers), state) in stages.iter().zip(numbers).zip(&mut states) {
                *state = stage.step(numbers, &x, state, noise);
                x.clone_from(state);
            }
        }
        trace.push(states.clone());
    }
    trace
}

/// What a clean or perturbed float model gives for a window, row by row, and the last state of each direction.
fn float_window(
    stages: &[Stage],
    directions: &[Direction],
    stream: &Stream,
    noise: &mut Noise,
) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let input = stages.first().map_or(1, Stage::input);
    let most = stream.x.iter().fold(1f32, |m, v| m.max(v.abs()));
    let x_lsb = f64::from(most.log2().ceil().exp2()) * LSB;
    let valid = stream
        .x
        .chunks(input)
        .zip(&stream.mask)
        .filter(|(_, v)| **v);
    let mut rows: Vec<Vec<f64>> = valid
        .map(|(x, _)| {
            (x.iter())
                .map(|x| f64::from(*x) + noise.draw(0.5 * x_lsb))
                .collect()
        })
        .collect();
    let (mut shared, mut states) = (rows.clone(), Vec::new());
    for (stage, direction) in stages.iter().zip(directions) {
        let second = direction.is_second();
        if !second {
            shared.clone_from(&rows);
        }
        let numbers = stage.numbers(noise);
        let mut h: Vec<f64> = match stage {
            Stage::Gru { g, .. } => (g.h0.iter())
                .map(|h| noise.hold(f64::from(*h), 1.0) + noise.draw(0.5 * LSB))
                .collect(),
            Stage::Dense { d, .. } => vec![0.0; d.units],
        };
        let mut order: Vec<usize> = (0..rows.len()).collect();
        if *direction != Direction::Forward {
            order.reverse();
        }
        let mut own = Vec::new();
        for t in order {
            h = stage.step(&numbers, &shared[t], &h, noise);
            own.push(h.clone());
        }
        if *direction == Direction::Beside {
            own.reverse();
        }
        for (row, own) in rows.iter_mut().zip(own) {
            match second {
                true => row.extend(own),
                false => *row = own,
            }
        }
        if matches!(stage, Stage::Gru { .. }) {
            states.push(h);
        }
    }
    (rows, states)
}

/// Runs the window of a model with two directions in integers and in float.
fn run_window(stream: &Stream, fault: Fault) -> Result<Shown, Stop> {
    let (quantized, stages) = prepare(stream, fault)?;
    let directions: Vec<Direction> = (quantized.layers.iter())
        .map(|layer| match layer {
            QuantLayer::Gru(g) => g.header.direction,
            QuantLayer::Dense(_) => Direction::Forward,
        })
        .collect();
    let (rows, states) = float_window(&stages, &directions, stream, &mut Noise(None));
    for want in &stream.wants {
        let row = stream.mask[..=want.step].iter().filter(|v| **v).count();
        let mut found = match want.layer {
            Some(layer) => states[layer].clone(),
            None => rows[row.max(1) - 1].clone(),
        };
        if let (None, Some(LayerSpec::Dense(d))) = (want.layer, stream.layers.last())
            && d.activation == Activation::Softmax
        {
            let sum: f64 = found.iter().map(|v| v.exp()).sum();
            found.iter_mut().for_each(|v| *v = v.exp() / sum);
        }
        if found.len() != want.values.len() {
            return broken(format!("{} values for {}", found.len(), want.values.len()));
        }
        for (a, b) in found.iter().zip(&want.values) {
            if (a - f64::from(*b)).abs() > 1e-4 * (1.0 + f64::from(b.abs())) {
                return broken(format!("step {}: float {a}, oracle {b}", want.step));
            }
        }
    }
    let bytes = write(&quantized, Layout::Rows).map_err(|e| Stop::Broken(e.to_string()))?;
    let bytes = Aligned::new(&bytes);
    let model = Model::load(&bytes).map_err(|e| Stop::Broken(e.to_string()))?;
    let mut state = host_state(&model)?;
    let mut window = Window::<0x8000>::new();
    let samples: Vec<Vec<f32>> = (stream.x.chunks(model.features()).zip(&stream.mask))
        .map(|(x, valid)| match valid {
            true => x.to_vec(),
            false => vec![f32::NAN; x.len()],
        })
        .collect();
    let out = model.run_window(&mut state, &mut window, &samples)?;
    let unit = 0.5f64.powi(i32::from(out.frac()));
    let outputs: Vec<f64> = out.values().map(|v| f64::from(v) * unit).collect();
    let hidden: Vec<Vec<f64>> = (state.hidden(&model))
        .map(|h| h.iter().map(|v| f64::from(*v) * LSB).collect())
        .collect();
    let distance = |a: &[f64], b: &[f64]| {
        assert_eq!(a.len(), b.len());
        (a.iter().zip(b)).fold(0f64, |m, (a, b)| m.max((a - b).abs()))
    };
    let of_states = |a: &[Vec<f64>], b: &[Vec<f64>]| {
        (a.iter().zip(b)).fold(0f64, |m, (a, b)| m.max(distance(a, b)))
    };
    // Outputs of a last layer of two directions are states.
    let ends_in_states = !matches!(stages.last(), Some(Stage::Dense { .. }));
    let last = rows.last().cloned().unwrap_or_default();
    let mut shown = Shown {
        values: outputs.len() + hidden.iter().map(Vec::len).sum::<usize>(),
        ..Shown::default()
    };
    shown.state.worst = of_states(&hidden, &states);
    shown.logits.worst = distance(&outputs, &last);
    for draw in 0..DRAWS {
        let mut noise = Noise(Some(SplitMix(draw)));
        let (drawn, drawn_states) = float_window(&stages, &directions, stream, &mut noise);
        let of_outputs = distance(drawn.last().unwrap_or(&last), &last);
        let of_states = of_states(&drawn_states, &states);
        shown.state.budget = shown.state.budget.max(MARGIN * of_states);
        shown.logits.budget = shown.logits.budget.max(MARGIN * of_outputs);
    }
    if ends_in_states {
        shown.state.worst = shown.state.worst.max(shown.logits.worst);
        shown.state.budget = shown.state.budget.max(shown.logits.budget);
        shown.logits = Error::default();
    }
    let squares: f64 = (hidden.iter().flatten().zip(states.iter().flatten()))
        .map(|(a, b)| (a - b).powi(2))
        .sum();
    let n = states.iter().map(Vec::len).sum::<usize>().max(1);
    shown.last_rms = (squares / n as f64).sqrt();
    Ok(shown)
}

/// Runs one stream in integers and in float.
fn run_stream(stream: &Stream, fault: Fault) -> Result<Shown, Stop> {
    let two = |l: &LayerSpec| matches!(l, LayerSpec::Bidirectional { .. });
    if stream.layers.iter().any(two) {
        return run_window(stream, fault);
    }
    let (quantized, stages) = prepare(stream, fault)?;
    let bytes = write(&quantized, Layout::Rows).map_err(|e| Stop::Broken(e.to_string()))?;
    let bytes = Aligned::new(&bytes);
    let model = Model::load(&bytes).map_err(|e| Stop::Broken(e.to_string()))?;
    let clean: Vec<Numbers> = (stages.iter())
        .map(|s| s.numbers(&mut Noise(None)))
        .collect();
    let exact = float_run(&stages, &clean, stream, &mut Noise(None));
    // The oracle agrees with this float model, or the comparison means nothing.
    for want in &stream.wants {
        let mut found = exact[want.step][want.layer.unwrap_or(stages.len() - 1)].clone();
        if let (None, Some(LayerSpec::Dense(d))) = (want.layer, stream.layers.last())
            && d.activation == Activation::Softmax
        {
            let sum: f64 = found.iter().map(|v| v.exp()).sum();
            found.iter_mut().for_each(|v| *v = v.exp() / sum);
        }
        for (a, b) in found.iter().zip(&want.values) {
            if (a - f64::from(*b)).abs() > 1e-4 * (1.0 + f64::from(b.abs())) {
                return broken(format!("step {}: float {a}, oracle {b}", want.step));
            }
        }
    }

    let mut state = host_state(&model)?;
    let input = model.features();
    let units_per_count = 2f64.powi(i32::from(model.input_exponent())) * LSB;
    let mut shown = Shown::default();
    let mut trace = Vec::new();
    for (t, (x, valid)) in stream.x.chunks(input).zip(&stream.mask).enumerate() {
        let before: Vec<Vec<f64>> = (state.hidden(&model))
            .map(|h| h.iter().map(|v| f64::from(*v) * LSB).collect())
            .collect();
        // A masked step is a missing sample: the artifact says that it is skipped.
        let sample = if *valid {
            x.to_vec()
        } else {
            vec![f32::NAN; input]
        };
        let out = model.step(&mut state, &sample)?;
        let outputs: Vec<f64> = (out.values())
            .map(|v| f64::from(v) * 0.5f64.powi(i32::from(out.frac())))
            .collect();
        let hidden: Vec<Vec<f64>> = (state.hidden(&model))
            .map(|h| h.iter().map(|v| f64::from(*v) * LSB).collect())
            .collect();
        if *valid {
            // What the input conditioning makes of the sample; saturated, it is one unit off.
            let seen = |x: &f32| {
                let counts = (f64::from(*x) / units_per_count).round();
                counts.clamp(-32768.0, 32767.0) * units_per_count
            };
            let mut x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
            let mut ex: Vec<f64> = (stream.x[t * input..(t + 1) * input].iter())
                .map(|x| (seen(x) - f64::from(*x)).abs())
                .collect();
            let mut gru = 0;
            for (k, (stage, numbers)) in stages.iter().zip(&clean).enumerate() {
                let h = match stage {
                    Stage::Gru { .. } => &before[gru],
                    Stage::Dense { .. } => &Vec::new(),
                };
                let (y, bounds) = stage.bound(numbers, &x, &ex, h);
                let found = match stage {
                    Stage::Gru { .. } => {
                        gru += 1;
                        Some(&hidden[gru - 1])
                    }
                    Stage::Dense { .. } if k + 1 == stages.len() => Some(&outputs),
                    Stage::Dense { .. } => None,
                };
                match found {
                    Some(found) => {
                        for ((y, found), bound) in y.iter().zip(found).zip(&bounds) {
                            shown.one_step = shown.one_step.max((y - found).abs() / bound);
                        }
                        (x, ex) = (found.clone(), vec![0.0; found.len()]);
                    }
                    None => (x, ex) = (y, bounds),
                }
            }
        } else if before != hidden {
            return broken("a masked step has changed the state");
        }
        let mut all = hidden.into_iter();
        let row: Vec<Vec<f64>> = (stages.iter())
            .map(|s| match s {
                Stage::Gru { .. } => all.next().unwrap_or_default(),
                Stage::Dense { .. } => outputs.clone(),
            })
            .collect();
        trace.push(row);
    }

    let distance = |a: &[Vec<Vec<f64>>], b: &[Vec<Vec<f64>>], logits: bool| -> f64 {
        let mut worst = 0f64;
        for (a, b) in a.iter().zip(b) {
            for (k, stage) in stages.iter().enumerate() {
                let wanted = match stage {
                    Stage::Gru { .. } => !logits,
                    Stage::Dense { .. } => logits && k + 1 == stages.len(),
                };
                if wanted {
                    let both = a[k].iter().zip(&b[k]);
                    worst = both.fold(worst, |m, (a, b)| m.max((a - b).abs()));
                }
            }
        }
        worst
    };
    shown.state.worst = distance(&trace, &exact, false);
    shown.logits.worst = distance(&trace, &exact, true);
    for draw in 0..DRAWS {
        let mut noise = Noise(Some(SplitMix(draw)));
        let drawn: Vec<Numbers> = stages.iter().map(|s| s.numbers(&mut noise)).collect();
        let perturbed = float_run(&stages, &drawn, stream, &mut noise);
        let budget = |logits| MARGIN * distance(&perturbed, &exact, logits);
        shown.state.budget = shown.state.budget.max(budget(false));
        shown.logits.budget = shown.logits.budget.max(budget(true));
    }
    let (mut squares, mut n) = (0.0, 0);
    if let (Some(a), Some(b)) = (trace.last(), exact.last()) {
        for (k, stage) in stages.iter().enumerate() {
            if matches!(stage, Stage::Gru { .. }) {
                squares += a[k]
                    .iter()
                    .zip(&b[k])
                    .map(|(a, b)| (a - b).powi(2))
                    .sum::<f64>();
                n += a[k].len();
            }
        }
    }
    shown.last_rms = (squares / f64::from(n.max(1) as u32)).sqrt();
    shown.values = trace.iter().flatten().map(Vec::len).sum();
    Ok(shown)
}

fn run_case(streams: &[Stream], fault: Fault) -> Result<Shown, Stop> {
    let mut all = Shown::default();
    let mut squares = 0.0;
    for stream in streams {
        let one = run_stream(stream, fault)?;
        for (all, one) in [(&mut all.state, one.state), (&mut all.logits, one.logits)] {
            // The case's verdict is that of its worst stream.
            if one.ratio() >= all.ratio() {
                *all = one;
            }
        }
        all.one_step = all.one_step.max(one.one_step);
        all.values += one.values;
        squares += one.last_rms.powi(2);
    }
    all.last_rms = (squares / streams.len().max(1) as f64).sqrt();
    Ok(all)
}

// ----------------------------------------------------------------------------------------- the table

type Streams = fn(&Value, Plant) -> Result<Vec<Stream>, Stop>;

fn onnx_case_streams(case: &Value, plant: Plant) -> Result<Vec<Stream>, Stop> {
    onnx_streams(&case["attributes"], onnx_data(case)?, plant)
}

fn onnx_node_streams(case: &Value, plant: Plant) -> Result<Vec<Stream>, Stop> {
    onnx_streams(&case["attributes"], onnx_node_data(case)?, plant)
}

fn files() -> Vec<(String, Streams)> {
    let mut files: Vec<(String, Streams)> = Vec::new();
    for name in keras_files() {
        let streams: Streams = match name.contains("models") {
            true => keras_model_streams,
            false => keras_layer_streams,
        };
        files.push((name, streams));
    }
    files.push(("torch_gru.json".into(), torch_streams));
    files.push(("onnx_gru.json".into(), onnx_case_streams));
    files.push(("onnx_gru_node_tests.json".into(), onnx_node_streams));
    files
}

#[derive(Default)]
struct Table {
    cases: usize,
    refused: BTreeMap<String, usize>,
    red: Vec<String>,
    shown: Vec<Shown>,
}

fn run_file(file: &Value, streams: Streams, fault: Fault) -> Table {
    // What a file says of itself goes before its name.
    let streams = match file["kind"].as_str() {
        Some("gru_layer") => keras_layer_streams,
        Some("model") => keras_model_streams,
        _ => streams,
    };
    let mut table = Table::default();
    for case in file["cases"].as_array().into_iter().flatten() {
        table.cases += 1;
        let title = case["name"].as_str().unwrap_or("(no name)");
        match streams(case, Plant::Nothing).and_then(|s| run_case(&s, fault)) {
            Ok(shown) => {
                let worst = shown.state.ratio().max(shown.logits.ratio());
                if worst > 1.0 || shown.one_step > 1.0 || shown.values == 0 {
                    table.red.push(format!("{title}: {shown:?}"));
                }
                table.shown.push(shown);
            }
            Err(Stop::Refused(why)) => {
                // One line for all numbers of one reason.
                let why = why.split(" (found").next().unwrap_or_default().to_owned();
                *table.refused.entry(why).or_default() += 1;
            }
            Err(Stop::Broken(why)) => table.red.push(format!("{title}: broken: {why}")),
        }
    }
    table
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[test]
fn oracle_integer_path_stays_within_its_error_budget() {
    let mut run = 0;
    for (name, streams) in files() {
        let Some(file) = read(&name) else { continue };
        let table = run_file(&file, streams, Fault::None);
        let refused: usize = table.refused.values().sum();
        let most = |f: fn(&Shown) -> f64| table.shown.iter().map(f).fold(0.0, f64::max);
        println!(
            "{name:<28} cases {:>3}, run {:>3}, refused {refused:>2}; values {:>6}; worst share of \
             the budget: one step {:.2}, state {:.2}, logits {:.2}; worst error: state {:.1e}, \
             logits {:.1e}; median state error at the end {:.1e}",
            table.cases,
            table.shown.len(),
            table.shown.iter().map(|s| s.values).sum::<usize>(),
            most(|s| s.one_step),
            most(|s| s.state.ratio()),
            most(|s| s.logits.ratio()),
            most(|s| s.state.worst),
            most(|s| s.logits.worst),
            median(table.shown.iter().map(|s| s.last_rms).collect()),
        );
        for (why, count) in &table.refused {
            println!("    refused {count:>2}: {why}");
        }
        assert_eq!(
            table.shown.len()
                + refused
                + table.red.iter().filter(|r| r.contains(": broken")).count(),
            table.cases,
            "{name}: a case was skipped"
        );
        assert!(table.red.is_empty(), "{name}: {:#?}", table.red);
        run += table.shown.len();
    }
    assert!(run > 0, "no case of {} was run", folder().0.display());
}

/// The layers of the cases, run for 100 steps on fresh inputs: the typical state error.
#[test]
fn oracle_integer_state_error_after_a_hundred_steps() {
    let mut errors = Vec::new();
    let mut worst = (0.0, String::new());
    for (name, streams) in files() {
        let Some(file) = read(&name) else { continue };
        for case in file["cases"].as_array().into_iter().flatten() {
            let Ok(all) = streams(case, Plant::Nothing) else {
                continue;
            };
            let Some(first) = all.into_iter().next() else {
                continue;
            };
            let input = first.layers.first().map_or(1, LayerSpec::input);
            let mut rng = SplitMix(errors.len() as u64);
            // Near enough a normal distribution.
            let x = (0..100 * input)
                .map(|_| ((0..12).map(|_| rng.unit()).sum::<f64>() - 6.0) as f32)
                .collect();
            let stream = Stream::new(first.layers, x, vec![true; 100]);
            match run_stream(&stream, Fault::None) {
                Ok(shown) => {
                    let title = case["name"].as_str().unwrap_or("(no name)");
                    let share = shown
                        .one_step
                        .max(shown.state.ratio())
                        .max(shown.logits.ratio());
                    assert!(share <= 1.0, "{name}, {title}: {shown:?}");
                    if shown.last_rms > worst.0 {
                        worst = (shown.last_rms, format!("{name}, {title}"));
                    }
                    errors.push(shown.last_rms);
                }
                Err(Stop::Refused(_)) => {}
                Err(Stop::Broken(why)) => panic!("{name}: {why}"),
            }
        }
    }
    let count = errors.len();
    errors.sort_by(f64::total_cmp);
    let at = |share: f64| errors[((count - 1) as f64 * share) as usize];
    println!(
        "state error after 100 steps, root mean square over the units, {count} models: median {:.5}, 90 % {:.5}, largest {:.5} ({}); 2^-7 is {:.5}",
        at(0.5),
        at(0.9),
        worst.0,
        worst.1,
        1.0 / 128.0
    );
    assert!(at(0.5) <= 1.0 / 128.0);
}

/// The budgets have teeth: faults planted in the integers turn cases red.
#[test]
fn oracle_integer_budget_sees_planted_faults() {
    for name in ["keras_gru_sizes.json", "torch_gru.json"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("data/oracles")
            .join(name);
        let bytes = std::fs::read(path).expect("a stored copy");
        let file: Value = serde_json::from_slice(&bytes).expect("JSON");
        let streams: Streams = match name.starts_with("torch") {
            true => torch_streams,
            false => keras_layer_streams,
        };
        for fault in [
            Fault::SwapGates,
            Fault::FiveBits,
            Fault::Biases,
            Fault::NoReset,
        ] {
            let table = run_file(&file, streams, fault);
            let ran = table.shown.len();
            println!("{name:<28} {fault:?}: red {} of {ran}", table.red.len());
            assert!(
                4 * table.red.len() >= 3 * ran && ran > 0,
                "{name}, {fault:?}: red {} of {ran}",
                table.red.len()
            );
        }
    }
}
