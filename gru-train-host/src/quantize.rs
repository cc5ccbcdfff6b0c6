//! Float model → integers: scales, multipliers and biases as `gru-core/docs/quantization.md` has them.
//!
//! A row's scale is not free: it is what its integer multiplier makes of it, so requantization adds
//! no scale error. With `s₁` the scale that the multiplier 1 stands for, a row with the largest
//! weight `a` takes the multiplier `m = ⌈a / (127·s₁)⌉` and the weights `round(w / (m·s₁))`.

use gru_core::activation::Activation;
use gru_core::artifact::{
    DenseHeader, Direction, GapPolicy, GruHeader, MAX_EXPONENT, MAX_NH_SHIFT, MAX_W_SHIFT,
};
use gru_core::float::{DenseF32, FloatError, GruF32};
use gru_core::input::{FeatureParams, Limits};
use gru_core::writer::{QuantDense, QuantGru, QuantLayer, QuantModel};
use serde::{Deserialize, Serialize};

use crate::nn::network::Grid;
use crate::spec::{self, DenseSpec, GruSpec, LayerSpec, ModelSpec, SpecError};

/// Unit of a 16-bit value whose full scale is 1.
const LSB: f64 = 1.0 / 32768.0;
/// The sum of a row's magnitudes may not pass this, or its accumulator could overflow.
const ROW_SUM_MAX: i64 = 65535;
/// What a unit's state squared is on average, roughly: errors of `U` count by it when scales are chosen.
const STATE_SQUARE: f64 = 0.25;
/// Headroom over the calibration data for ranges that nothing bounds.
const HEADROOM: f64 = 1.5;
/// Headroom of the candidate's recurrent part.
const RECURRENT_HEADROOM: f64 = 2.0;

/// Why a model cannot be quantized.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The description does not hold together.
    Spec(SpecError),
    /// The float model cannot be run.
    Float(FloatError),
    /// The integer path does not have this.
    Unsupported {
        /// The layer, from 0.
        layer: usize,
        /// What it is.
        what: String,
    },
    /// A row's weights are too large for any multiplier.
    Weights {
        /// The layer, from 0.
        layer: usize,
        /// The largest magnitude.
        found: f32,
        /// The largest that can be held.
        limit: f32,
    },
    /// The calibration data is empty, of another width, or not finite.
    Calibration(String),
}

impl std::fmt::Display for QuantizeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Spec(e) => write!(f, "{e}"),
            Self::Float(e) => write!(f, "{e}"),
            Self::Unsupported { layer, what } => {
                write!(f, "layer {layer}: the integer path has no {what}")
            }
            Self::Weights {
                layer,
                found,
                limit,
            } => write!(
                f,
                "layer {layer}: a weight of {found} cannot be held, the limit is {limit}"
            ),
            Self::Calibration(what) => write!(f, "calibration: {what}"),
        }
    }
}

impl std::error::Error for QuantizeError {}

impl From<SpecError> for QuantizeError {
    fn from(e: SpecError) -> Self {
        Self::Spec(e)
    }
}

impl From<FloatError> for QuantizeError {
    fn from(e: FloatError) -> Self {
        Self::Float(e)
    }
}

/// How ranges follow from what the float model shows on calibration data, and scales of GRU weights from the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The largest magnitude is held, with headroom for what the data have not shown.
    #[default]
    MinMax,
    /// All but one in ten thousand magnitudes are held, the rest saturate; no headroom.
    Percentile,
    /// The ranges and the scales of GRU weights with the least mean squared error of rounding and saturation; no headroom.
    Mse,
}

/// Ranges that the float model showed on calibration data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Calibration {
    /// How they were chosen.
    pub method: Method,
    /// Largest magnitude of the standardised input.
    pub input: f32,
    /// Per layer.
    pub layers: Vec<LayerRange>,
}

/// Largest magnitudes of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LayerRange {
    /// Candidate's recurrent part, bias included (GRU).
    pub recurrent: f32,
    /// Gates after their activation (GRU).
    pub gate: f32,
    /// Hidden state (GRU) or output before the activation (Dense).
    pub output: f32,
}

/// Whether the integer path has everything that a model is made of: two directions only where their outputs are
/// concatenated, functions that the core computes in integers.
///
/// # Errors
/// [`QuantizeError::Unsupported`] names the layer and what is missing.
pub fn deployable(model: &ModelSpec) -> Result<(), QuantizeError> {
    for (layer, spec) in model.layers.iter().enumerate() {
        if let LayerSpec::Bidirectional {
            forward,
            backward,
            merge,
        } = spec
        {
            second_direction(layer, forward, backward, *merge)?;
        }
        for g in spec.grus() {
            activation(layer, g.activation, 0)?;
            activation(layer, g.recurrent_activation, 0)?;
        }
        if let LayerSpec::Dense(d) = spec
            && !(d.activation == spec::Activation::Softmax && layer + 1 == model.layers.len())
        {
            activation(layer, d.activation, 0)?;
        }
    }
    Ok(())
}

/// How the outputs of the second direction stand beside those of the first one.
fn second_direction(
    layer: usize,
    forward: &GruSpec,
    backward: &GruSpec,
    merge: spec::Merge,
) -> Result<Direction, QuantizeError> {
    let unsupported = |what: &str| QuantizeError::Unsupported {
        layer,
        what: what.into(),
    };
    if merge != spec::Merge::Concat {
        return Err(unsupported(
            "bidirectional layer whose outputs are merged but by concatenation",
        ));
    }
    if forward.go_backwards
        || !backward.go_backwards
        || forward.return_sequences != backward.return_sequences
    {
        return Err(unsupported(
            "directions other than one forward and one backward of the same outputs",
        ));
    }
    // Their states stand on one scale.
    if forward.activation.is_within_one() != backward.activation.is_within_one() {
        return Err(unsupported(
            "bidirectional layer with a bounded and an unbounded activation",
        ));
    }
    Ok(match forward.return_sequences {
        true => Direction::Beside,
        false => Direction::BesideLast,
    })
}

/// Magnitudes of one kind of value: the largest, and for the methods that want it how they are distributed.
#[derive(Debug, Clone, Default)]
struct Magnitudes {
    most: f32,
    /// Per sixteenth of an octave from `2^-LOWEST`: how many, their sum, the sum of their squares. Empty for
    /// [`Method::MinMax`].
    bins: Vec<[f64; 3]>,
}

/// Bins of an octave.
const PER_OCTAVE: i32 = 16;
/// The first octave is `2^-LOWEST`, where all that is smaller counts as well.
const LOWEST: i32 = 24;
/// Octaves.
const OCTAVES: i32 = 64;
/// Share of the magnitudes that [`Method::Percentile`] holds.
const PERCENTILE: f64 = 0.9999;

impl Magnitudes {
    fn new(method: Method) -> Self {
        let bins = match method {
            Method::MinMax => 0,
            Method::Percentile | Method::Mse => (OCTAVES * PER_OCTAVE) as usize,
        };
        Self {
            most: 0.0,
            bins: vec![[0.0; 3]; bins],
        }
    }

    fn add(&mut self, values: &[f32]) {
        for v in values {
            let v = v.abs();
            self.most = self.most.max(v);
            if !self.bins.is_empty() {
                let v = f64::from(v);
                let at = ((v.log2() + f64::from(LOWEST)) * f64::from(PER_OCTAVE)).floor();
                let last = self.bins.len() - 1;
                let bin = &mut self.bins[at.clamp(0.0, last as f64) as usize];
                *bin = [bin[0] + 1.0, bin[1] + v, bin[2] + v * v];
            }
        }
    }

    /// The magnitude to be held, before a headroom of so much; full scales are `unit` times a power of two.
    fn bound(&self, method: Method, unit: f64, headroom: f64) -> f32 {
        let bound = match method {
            Method::MinMax => return self.most,
            Method::Percentile => self.percentile(),
            Method::Mse => self.least_error(unit),
        };
        // A bound that is a full scale stays below it.
        (bound / headroom * (1.0 - 1e-4)) as f32
    }

    fn percentile(&self) -> f64 {
        let all: f64 = self.bins.iter().map(|b| b[0]).sum();
        let mut held = 0.0;
        for (at, bin) in self.bins.iter().enumerate() {
            held += bin[0];
            if held >= PERCENTILE * all {
                let octave = (at + 1) as f64 / f64::from(PER_OCTAVE) - f64::from(LOWEST);
                return octave.exp2().min(f64::from(self.most));
            }
        }
        f64::from(self.most)
    }

    /// The full scale of 16-bit values with the least squared error.
    fn least_error(&self, unit: f64) -> f64 {
        let all: f64 = self.bins.iter().map(|b| b[0]).sum();
        let error = |full: f64| {
            let step = full * LSB;
            let first = ((full.log2() + f64::from(LOWEST)) * f64::from(PER_OCTAVE)).ceil();
            let beyond = self.bins.iter().skip(first.max(0.0) as usize);
            // Σ (v − full)² of what saturates.
            let lost: f64 = beyond
                .map(|[n, sum, squares]| squares - 2.0 * full * sum + full * full * n)
                .sum();
            all * step * step / 12.0 + lost.max(0.0)
        };
        let most = (f64::from(self.most) / unit).max(1.0).log2().ceil() as i32;
        let full = |e: i32| unit * f64::from(e).exp2();
        let best = (0..=most.max(0)).min_by(|a, b| error(full(*a)).total_cmp(&error(full(*b))));
        full(best.unwrap_or(0))
    }
}

/// Magnitudes of one layer, as in [`LayerRange`].
#[derive(Debug, Clone, Default)]
struct LayerMagnitudes {
    recurrent: Magnitudes,
    gate: Magnitudes,
    output: Magnitudes,
}

impl LayerMagnitudes {
    fn new(method: Method) -> Self {
        Self {
            recurrent: Magnitudes::new(method),
            gate: Magnitudes::new(method),
            output: Magnitudes::new(method),
        }
    }

    fn range(&self, method: Method, layer: &LayerSpec) -> LayerRange {
        // Two directions have one range: their outputs stand side by side on one scale.
        match layer.grus().next() {
            Some(g) => {
                let candidate = activation(0, g.activation, 0).map_or(1.0, |(_, full)| full);
                // A state that functions bound has one full scale, and is refused beyond it.
                let states = match g.activation.is_within_one() {
                    true => Method::MinMax,
                    false => method,
                };
                LayerRange {
                    recurrent: self.recurrent.bound(method, candidate, RECURRENT_HEADROOM),
                    gate: self.gate.bound(method, 1.0, HEADROOM),
                    output: self.output.bound(states, 1.0, HEADROOM),
                }
            }
            None => LayerRange {
                output: self.output.bound(method, 1.0, HEADROOM),
                ..LayerRange::default()
            },
        }
    }
}

/// Runs `sequences` of standardised samples (`T×I` values each) through the float model; ranges by
/// [`Method::MinMax`].
///
/// # Errors
/// Bidirectional layers that [`deployable`] refuses, and data that does not fit the model.
pub fn calibrate<'s>(
    model: &ModelSpec,
    sequences: impl IntoIterator<Item = &'s [f32]>,
) -> Result<Calibration, QuantizeError> {
    calibrate_by(Method::MinMax, model, sequences)
}

/// [`calibrate`] by any method.
///
/// # Errors
/// As [`calibrate`].
pub fn calibrate_by<'s>(
    method: Method,
    model: &ModelSpec,
    sequences: impl IntoIterator<Item = &'s [f32]>,
) -> Result<Calibration, QuantizeError> {
    model.check()?;
    let width = model.input();
    let mut input = Magnitudes::new(method);
    let mut layers = vec![LayerMagnitudes::new(method); model.layers.len()];
    let mut probes = model
        .layers
        .iter()
        .enumerate()
        .map(|(i, layer)| Probe::new(i, layer))
        .collect::<Result<Vec<_>, _>>()?;
    let mut steps = 0usize;
    for sequence in sequences {
        if sequence.len() % width != 0 || sequence.iter().any(|x| !x.is_finite()) {
            return Err(QuantizeError::Calibration(format!(
                "a sequence of {} values is not made of finite samples of {width}",
                sequence.len()
            )));
        }
        probes.iter_mut().try_for_each(Probe::reset)?;
        input.add(sequence);
        let mut rows: Vec<Vec<f32>> = sequence.chunks_exact(width).map(<[f32]>::to_vec).collect();
        steps += rows.len();
        for (probe, range) in probes.iter_mut().zip(&mut layers) {
            probe.run(&mut rows, range)?;
        }
    }
    if steps == 0 {
        return Err(QuantizeError::Calibration("no samples".into()));
    }
    Ok(Calibration {
        method,
        input: input.bound(method, 1.0, 1.0),
        layers: (layers.iter().zip(&model.layers))
            .map(|(magnitudes, layer)| magnitudes.range(method, layer))
            .collect(),
    })
}

/// A layer that reports its ranges.
enum Probe<'m> {
    Gru {
        spec: &'m GruSpec,
        run: GruF32<'m>,
        h: Vec<f32>,
        scratch: Vec<f32>,
    },
    Dense {
        spec: &'m DenseSpec,
        linear: DenseF32<'m>,
    },
    /// Both directions of a layer, and how their outputs stand beside each other.
    Both(Box<[Self; 2]>, Direction),
}

impl<'m> Probe<'m> {
    fn gru(spec: &'m GruSpec) -> Result<Self, QuantizeError> {
        // Step by step: `run` sees to the order.
        let run = spec.view()?.with_go_backwards(false);
        Ok(Self::Gru {
            spec,
            h: vec![0.0; spec.units],
            scratch: vec![0.0; run.scratch_len()],
            run,
        })
    }

    fn new(index: usize, layer: &'m LayerSpec) -> Result<Self, QuantizeError> {
        match layer {
            LayerSpec::Gru(spec) => Self::gru(spec),
            LayerSpec::Dense(spec) => {
                let linear = gru_core::float::Activation::Linear;
                Ok(Self::Dense {
                    spec,
                    linear: DenseF32::new(spec.input, spec.units, &spec.w, &spec.b, linear)?,
                })
            }
            LayerSpec::Bidirectional {
                forward,
                backward,
                merge,
            } => {
                let beside = second_direction(index, forward, backward, *merge)?;
                let both = [Self::gru(forward)?, Self::gru(backward)?];
                Ok(Self::Both(Box::new(both), beside))
            }
        }
    }

    fn reset(&mut self) -> Result<(), QuantizeError> {
        match self {
            Self::Gru { run, h, .. } => run.reset(h)?,
            Self::Dense { .. } => {}
            Self::Both(both, _) => both.iter_mut().try_for_each(Self::reset)?,
        }
        Ok(())
    }

    /// A whole window, whose rows become what the layer gives, in the order in which it gives them.
    fn run(
        &mut self,
        rows: &mut Vec<Vec<f32>>,
        range: &mut LayerMagnitudes,
    ) -> Result<(), QuantizeError> {
        if let Self::Both(both, beside) = self {
            let [forward, backward] = &mut **both;
            let mut second = rows.clone();
            forward.run(rows, range)?;
            backward.run(&mut second, range)?;
            if *beside == Direction::Beside {
                second.reverse();
            }
            for (row, second) in rows.iter_mut().zip(second) {
                row.extend(second);
            }
            return Ok(());
        }
        // Its outputs stand in the order in which the layer has read.
        if matches!(self, Self::Gru { spec, .. } if spec.go_backwards) {
            rows.reverse();
        }
        for row in rows {
            *row = self.step(row, range)?;
        }
        Ok(())
    }

    fn step(&mut self, x: &[f32], range: &mut LayerMagnitudes) -> Result<Vec<f32>, QuantizeError> {
        match self {
            Self::Gru {
                spec,
                run,
                h,
                scratch,
            } => {
                let units = spec.units;
                let row = |r: usize, h: &[f32]| {
                    let u = &spec.u[r * units..(r + 1) * units];
                    u.iter().zip(h).map(|(u, h)| u * h).sum::<f32>() + spec.b_rec[r]
                };
                for r in 0..units {
                    range.recurrent.add(&[row(2 * units + r, h)]);
                }
                let g = gru_core::float::Activation::from(spec.recurrent_activation);
                if matches!(
                    spec.recurrent_activation,
                    spec::Activation::Linear | spec::Activation::Relu
                ) {
                    for r in 0..2 * units {
                        let w = &spec.w[r * spec.input..(r + 1) * spec.input];
                        let wx: f32 = w.iter().zip(x).map(|(w, x)| w * x).sum();
                        let gate = g.apply(wx + spec.b_in[r] + row(r, h));
                        range.gate.add(&[gate]);
                    }
                }
                run.step(h, x, scratch)?;
                range.output.add(h);
                Ok(h.clone())
            }
            Self::Dense { spec, linear } => {
                let mut y = vec![0.0; spec.units];
                linear.apply(x, &mut y)?;
                range.output.add(&y);
                if spec.activation != spec::Activation::Softmax {
                    gru_core::float::Activation::from(spec.activation).apply_row(&mut y);
                }
                Ok(y)
            }
            // `run` steps each of them.
            Self::Both(..) => Ok(Vec::new()),
        }
    }
}

/// What the exporter may choose.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizeOptions {
    /// What happens to samples that are not valid.
    pub gap: GapPolicy,
    /// Smallest and largest valid count per feature; empty for no limits.
    pub limits: Vec<Limits>,
    /// Steps until the outputs can be trusted; more where the mean of the logits begins later.
    pub warm_up_steps: u16,
    /// Raw counts of the self-test's samples; empty for none.
    pub self_test: Vec<i16>,
    /// Bits of a weight of the GRU layers, 2 to 8; with 4 they take half the flash. Dense layers, which are
    /// small, keep 8.
    pub bits: u8,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            gap: GapPolicy::Hold,
            limits: Vec::new(),
            warm_up_steps: 0,
            self_test: Vec::new(),
            bits: 8,
        }
    }
}

/// What was lost on the way to integers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct QuantReport {
    /// Per layer.
    pub layers: Vec<LayerReport>,
}

/// The losses of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LayerReport {
    /// Biases that did not fit and were saturated.
    pub saturated_biases: usize,
    /// Rows whose scale was widened so that their accumulator cannot overflow.
    pub widened_rows: usize,
    /// Root mean square of the weights' rounding errors.
    pub rms_error: f64,
    /// Largest rounding error of a weight.
    pub max_error: f64,
}

/// A quantized row and its multiplier.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantRow {
    /// The integer weights.
    pub weights: Vec<i8>,
    /// The row's scale is `multiplier · s₁`.
    pub multiplier: u32,
    /// Whether the scale was widened to keep the accumulator in range.
    pub widened: bool,
}

impl QuantRow {
    /// `Σ|w|`.
    fn sum(&self) -> i64 {
        self.weights.iter().map(|&w| (w as i64).abs()).sum()
    }
}

/// Quantizes a row whose multiplier 1 stands for the scale `unit`.
///
/// The multiplier is the smallest that holds the largest weight; with [`Levels::search`], the one
/// with the least squared error among those down to 60 % of it (which pays with few levels).
pub fn quantize_row(row: &[f32], unit: f64, levels: Levels) -> QuantRow {
    let largest = row.iter().fold(0f32, |m, w| m.max(w.abs())) as f64;
    let full = (largest / (levels.largest() * unit)).ceil().max(1.0) as u32;
    let mut best = full;
    if levels.search {
        let error = |m: u32| {
            let scale = m as f64 * unit;
            row.iter()
                .map(|&w| {
                    let w = w as f64;
                    (rounded(w, scale, levels) as f64 * scale - w).powi(2)
                })
                .sum::<f64>()
        };
        let least = ((full as f64 * 0.6) as u32).max(1);
        let step = ((full - least) / 40).max(1) as usize;
        let mut lowest = f64::INFINITY;
        for m in (least..=full).rev().step_by(step) {
            let e = error(m);
            if e < lowest {
                (lowest, best) = (e, m);
            }
        }
    }
    let weights = |m: u32| -> Vec<i8> {
        let scale = m as f64 * unit;
        row.iter()
            .map(|&w| rounded(w as f64, scale, levels) as i8)
            .collect()
    };
    let mut q = weights(best);
    let mut widened = false;
    while q.iter().map(|&w| (w as i64).abs()).sum::<i64>() > ROW_SUM_MAX {
        best += (best / 64).max(1);
        q = weights(best);
        widened = true;
    }
    QuantRow {
        weights: q,
        multiplier: best,
        widened,
    }
}

fn rounded(w: f64, scale: f64, levels: Levels) -> i32 {
    let steps = (w / (scale * levels.step as f64)).round() as i32;
    steps.clamp(-levels.most, levels.most) * levels.step
}

/// The integers of `model`, and what they lost.
///
/// # Errors
/// Layers and activations that the integer path does not have; weights that no scale can hold.
pub fn quantize(
    model: &ModelSpec,
    calibration: &Calibration,
    options: &QuantizeOptions,
) -> Result<(QuantModel, QuantReport), QuantizeError> {
    model.check()?;
    if calibration.layers.len() != model.layers.len() {
        return Err(QuantizeError::Calibration(format!(
            "ranges of {} layers for a model of {}",
            calibration.layers.len(),
            model.layers.len()
        )));
    }
    let mut levels = Levels::of_bits(options.bits);
    levels.search |= calibration.method == Method::Mse;
    let input_exponent = exponent(calibration.input as f64, 15);
    let (features, rest) = features(model, input_exponent);
    let mut report = QuantReport::default();
    let mut layers = Vec::new();
    // Real value of one unit of the layer's input, and what the input conditioning leaves over.
    let mut unit = 2f64.powi(input_exponent as i32) * LSB;
    let mut left_over = rest;
    for (i, (layer, range)) in model.layers.iter().zip(&calibration.layers).enumerate() {
        let mut losses = Losses::default();
        match layer {
            LayerSpec::Gru(g) => {
                let q = gru(i, g, unit, &left_over, range, levels, &mut losses)?;
                unit = 2f64.powi(q.header.exponent as i32) * LSB;
                layers.push(QuantLayer::Gru(q));
            }
            LayerSpec::Dense(d) => {
                let last = i + 1 == model.layers.len();
                let q = dense(i, d, unit, &left_over, range, last, &mut losses)?;
                unit = match q.header.activation {
                    Activation::Linear | Activation::Relu => 0.5f64.powi(q.header.frac as i32),
                    _ => LSB,
                };
                layers.push(QuantLayer::Dense(q));
            }
            LayerSpec::Bidirectional {
                forward,
                backward,
                merge,
            } => {
                let beside = second_direction(i, forward, backward, *merge)?;
                let first = gru(i, forward, unit, &left_over, range, levels, &mut losses)?;
                let mut second = gru(i, backward, unit, &left_over, range, levels, &mut losses)?;
                second.header.direction = beside;
                unit = 2f64.powi(first.header.exponent as i32) * LSB;
                layers.extend([first, second].map(QuantLayer::Gru));
            }
        }
        left_over = vec![0.0; layer.output()];
        report.layers.push(losses.report());
    }
    let quantized = QuantModel {
        name: model.name.clone(),
        classes: model.classes.clone(),
        sample_rate_mhz: (model.sample_rate_hz as f64 * 1000.0).round() as u32,
        input_exponent,
        gap: options.gap,
        features,
        limits: options.limits.clone(),
        layers,
        readout: match model.readout {
            spec::Readout::Last | spec::Readout::Every => gru_core::artifact::Readout::Last,
            spec::Readout::Mean { skip } => gru_core::artifact::Readout::Mean {
                skip: skip.min(u16::MAX as usize) as u16,
            },
            spec::Readout::Sliding { steps } => gru_core::artifact::Readout::Sliding {
                steps: steps.min(u16::MAX as usize) as u16,
            },
            spec::Readout::Exponential { steps } => gru_core::artifact::Readout::Exponential {
                shift: spec::Readout::exponential_shift(steps).ok_or_else(|| SpecError {
                    layer: None,
                    what: format!("exponential read-out over {steps} steps, expected 2 to 4096"),
                })?,
            },
        },
        warm_up_steps: match model.readout {
            // Until then the mean holds nothing.
            spec::Readout::Mean { skip } => {
                let first = u16::try_from(skip.saturating_add(1)).unwrap_or(u16::MAX);
                options.warm_up_steps.max(first)
            }
            _ => options.warm_up_steps,
        },
        decision: match &model.decision {
            Some(spec) => Some(
                (spec.quantize(&model.classes, model.output(), model.sample_rate_hz)).map_err(
                    |e| SpecError {
                        layer: None,
                        what: format!("decision: {e}"),
                    },
                )?,
            ),
            None => None,
        },
        self_test: options.self_test.clone(),
    };
    Ok((quantized, report))
}

/// What the integers of `model` mean in real numbers: the float twin of what will be deployed.
///
/// The biases are those of the float computation, or with `floors`, for fused cells
/// ([`GruShape::fused`](crate::nn::gru::GruShape::fused)), those that make up for the core's floors.
/// Standardised inputs are taken as they are, so `model` must have no `standardize` then.
///
/// # Errors
/// Those of [`quantize`].
pub fn deployed(
    model: &ModelSpec,
    calibration: &Calibration,
    bits: u8,
    floors: bool,
) -> Result<(ModelSpec, Grid), QuantizeError> {
    let options = QuantizeOptions {
        bits,
        ..QuantizeOptions::default()
    };
    // The offsets' rests would go into the biases.
    let plain = ModelSpec {
        standardize: spec::Standardize::default(),
        counts_per_unit: Vec::new(),
        layers: model.layers.clone(),
        readout: model.readout,
        ..ModelSpec::default()
    };
    let (quantized, _) = quantize(&plain, calibration, &options)?;
    let mut twin = model.clone();
    let mut grid = Grid {
        input_exponent: quantized.input_exponent,
        nh_shift: Vec::new(),
    };
    let mut unit = 2f64.powi(quantized.input_exponent as i32) * LSB;
    let mut integers = quantized.layers.iter();
    let layers = twin.layers.iter_mut().zip(&calibration.layers);
    for (layer, (to, range)) in layers.enumerate() {
        let mut out = unit;
        let mut shifts = [0; 2];
        for (g, shift) in to.grus_mut().zip(&mut shifts) {
            if let Some(QuantLayer::Gru(q)) = integers.next() {
                real_gru(layer, g, q, unit, range, floors)?;
                out = 2f64.powi(q.header.exponent as i32) * LSB;
                *shift = q.header.nh_shift;
            }
        }
        grid.nh_shift.push(shifts);
        unit = out;
        let LayerSpec::Dense(d) = to else { continue };
        if let Some(QuantLayer::Dense(q)) = integers.next() {
            let linear = matches!(q.header.activation, Activation::Linear | Activation::Relu);
            let out = match linear {
                true => 0.5f64.powi(q.header.frac as i32),
                false => activation(layer, d.activation, 0)?.1 * LSB,
            };
            let rows = d.w.chunks_exact_mut(d.input).zip(q.w.chunks_exact(d.input));
            for ((to, from), m) in rows.zip(&q.m) {
                let scale = f64::from(*m) * out / unit / 4294967296.0;
                for (to, q) in to.iter_mut().zip(from) {
                    *to = (f64::from(*q) * scale) as f32;
                }
            }
            d.use_bias = true;
            for (to, b) in d.b.iter_mut().zip(&q.b) {
                *to = ((f64::from(*b) - 0.5) * out) as f32;
            }
            unit = if linear { out } else { LSB };
        }
    }
    Ok((twin, grid))
}

/// What the integers of a GRU layer mean in real numbers, written over its floats; see [`deployed`].
fn real_gru(
    layer: usize,
    g: &mut GruSpec,
    q: &QuantGru,
    unit: f64,
    range: &LayerRange,
    floors: bool,
) -> Result<(), QuantizeError> {
    // The scales follow from the float weights.
    let scales = gru_scales(layer, g, unit, range)?;
    let units = g.units;
    let floors = floors
        && g.reset_after
        && g.clip.is_none()
        && g.activation == spec::Activation::Tanh
        && g.recurrent_activation == spec::Activation::Sigmoid;
    let cols = g.input;
    let of_w = (0..3 * units).map(|r| q.input_multiplier(r)).collect();
    let of_u = q.mu.iter().map(|m| u32::from(*m)).collect::<Vec<_>>();
    let parts: [(_, _, Vec<u32>, _, _); 2] = [
        (&mut g.w, &q.w, of_w, scales.w_unit, cols),
        (&mut g.u, &q.u, of_u, scales.u_unit, units),
    ];
    for (to, from, multipliers, s1, cols) in parts {
        let rows = to.chunks_exact_mut(cols).zip(from.chunks_exact(cols));
        for (r, ((to, from), m)) in rows.zip(multipliers).enumerate() {
            let scale = s1[(r >= 2 * units) as usize] * f64::from(m);
            for (to, q) in to.iter_mut().zip(from) {
                *to = (f64::from(*q) * scale) as f32;
            }
        }
    }
    let nh_fs = scales.candidate_full_scale * 2f64.powi(q.header.nh_shift as i32);
    let back = |b: i16, fs: f64, lost: f64| {
        let lost = if floors { 0.0 } else { lost };
        ((f64::from(b) - lost) * fs * LSB) as f32
    };
    g.b_rec.fill(0.0);
    // What makes up for the floors stands in the biases, whether the float model has some or not.
    g.use_bias = true;
    for r in 0..3 * units {
        let fs = match r < 2 * units {
            true => scales.gate_full_scale,
            false => scales.candidate_full_scale,
        };
        g.b_in[r] = back(q.b[r], fs, if r < 2 * units { 0.5 } else { 1.0 });
    }
    if g.reset_after {
        for r in 2 * units..3 * units {
            g.b_rec[r] = back(q.b[units + r], nh_fs, 0.5);
        }
    }
    Ok(())
}

/// The smallest `e` in `0..=most` with `2^e >= range`.
fn exponent(range: f64, most: u8) -> u8 {
    range.max(1.0).log2().ceil().min(most as f64) as u8
}

/// Conditioning of every feature, and the standardised value of what its integer offset leaves
/// over: `device = real + rest`, to be taken back in the first layer's bias.
fn features(model: &ModelSpec, input_exponent: u8) -> (Vec<FeatureParams>, Vec<f64>) {
    let get = |v: &[f32], f: usize, default: f32| v.get(f).copied().unwrap_or(default) as f64;
    (0..model.input())
        .map(|f| {
            let counts = get(&model.counts_per_unit, f, 1.0);
            let mean = get(&model.standardize.mean, f, 0.0) * counts;
            let std = get(&model.standardize.std, f, 1.0) * counts;
            let offset = mean.round().clamp(i32::MIN as f64, i32::MAX as f64);
            // Counts at full scale; d has 16 bits and a sign.
            let full_scale = std * 2f64.powi(input_exponent as i32);
            let pre_shift = (full_scale / 65535.0).log2().ceil().clamp(0.0, 16.0);
            let gain = 32768.0 * 2f64.powf(pre_shift) / full_scale;
            let shift = (32767.0 / gain).log2().floor().clamp(0.0, 17.0);
            let multiplier = (gain * 2f64.powf(shift)).round().clamp(1.0, 32767.0);
            let params = FeatureParams {
                offset: offset as i32,
                counts_per_unit: counts as f32,
                multiplier: multiplier as u16,
                shift: shift as u8,
                pre_shift: pre_shift as u8,
            };
            (params, (mean - offset) / std)
        })
        .unzip()
}

/// Which integers a weight may become: multiples of `step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// Largest magnitude, in steps.
    pub most: i32,
    /// 1 for int8; 16 for int4, whose weights are those of int8 with nothing in their lower half.
    pub step: i32,
    /// Whether to look for the scale with the least error.
    pub search: bool,
}

impl Levels {
    /// Those of int8.
    pub const INT8: Self = Self {
        most: 127,
        step: 1,
        search: false,
    };

    /// The upper `bits` bits of int8, 2 to 8.
    pub fn of_bits(bits: u8) -> Self {
        let bits = bits.clamp(2, 8);
        Self {
            most: (1 << (bits - 1)) - 1,
            step: 1 << (8 - bits),
            // With few levels, clipping the largest weights a little can cost less than coarse steps.
            search: bits < 8,
        }
    }

    /// Largest magnitude.
    fn largest(self) -> f64 {
        f64::from(self.most * self.step)
    }
}

#[derive(Default)]
struct Losses {
    weights: usize,
    squares: f64,
    report: LayerReport,
}

impl Losses {
    fn row(&mut self, row: &[f32], q: &QuantRow, scale: f64) {
        for (&w, &q) in row.iter().zip(&q.weights) {
            let e = (q as f64 * scale - w as f64).abs();
            self.squares += e * e;
            self.report.max_error = self.report.max_error.max(e);
        }
        self.weights += row.len();
        self.report.widened_rows += q.widened as usize;
    }

    /// Rounds a bias to 16 bits.
    fn bias(&mut self, b: f64) -> i16 {
        let rounded = b.round();
        let held = rounded.clamp(i16::MIN as f64, i16::MAX as f64);
        self.report.saturated_biases += (held != rounded) as usize;
        held as i16
    }

    fn report(self) -> LayerReport {
        LayerReport {
            rms_error: (self.squares / self.weights.max(1) as f64).sqrt(),
            ..self.report
        }
    }
}

/// The integer path's activation and the full scale of its pre-activation.
fn activation(
    layer: usize,
    a: spec::Activation,
    exponent: u8,
) -> Result<(Activation, f64), QuantizeError> {
    let core = match a {
        spec::Activation::Tanh => Activation::Tanh,
        spec::Activation::Sigmoid => Activation::Sigmoid,
        spec::Activation::HardSigmoid => Activation::HardSigmoid,
        // clip(0.2·x + 0.5, 0, 1) is the same clamp with another slope.
        spec::Activation::HardSigmoidV2 => return Ok((Activation::HardSigmoid, 5.0)),
        spec::Activation::HardTanh => Activation::HardTanh,
        spec::Activation::Softsign => Activation::Softsign,
        spec::Activation::Linear => Activation::Linear,
        spec::Activation::Relu => Activation::Relu,
        other => {
            return Err(QuantizeError::Unsupported {
                layer,
                what: format!("activation {}", other.name()),
            });
        }
    };
    Ok((core, core.full_scale(exponent) as f64))
}

/// The scales of one GRU layer: what the multiplier 1 stands for in each part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GruScales {
    /// Shape and variant, as they will be exported; `w_shift` follows from the weights.
    pub header: GruHeader,
    /// Full scale of the gates' pre-activations.
    pub gate_full_scale: f64,
    /// Full scale of the candidate's pre-activation.
    pub candidate_full_scale: f64,
    /// `s₁` of the input rows: gates, candidate.
    pub w_unit: [f64; 2],
    /// `s₁` of the recurrent rows: gates, candidate.
    pub u_unit: [f64; 2],
}

/// Chooses the scales of a GRU layer whose input has the real value `unit` per integer unit.
///
/// # Errors
/// Activations that the integer path does not have.
pub fn gru_scales(
    layer: usize,
    g: &GruSpec,
    unit: f64,
    range: &LayerRange,
) -> Result<GruScales, QuantizeError> {
    let unbounded =
        |a: spec::Activation| matches!(a, spec::Activation::Linear | spec::Activation::Relu);
    let calibrated = |a: spec::Activation, range: f32| {
        if unbounded(a) {
            exponent(range as f64 * HEADROOM, MAX_EXPONENT)
        } else {
            0
        }
    };
    let state_exponent = calibrated(g.activation, range.output);
    let gate_exponent = calibrated(g.recurrent_activation, range.gate);
    let (f, candidate_fs) = activation(layer, g.activation, state_exponent)?;
    let (gate, gate_fs) = activation(layer, g.recurrent_activation, gate_exponent)?;
    // The candidate's recurrent part gets the headroom that its weights can need at all, or twice
    // what the calibration showed.
    let units = g.units;
    let worst = (2 * units..3 * units)
        .map(|r| {
            let sum: f32 = g.u[r * units..(r + 1) * units]
                .iter()
                .map(|u| u.abs())
                .sum();
            sum as f64 * 2f64.powi(state_exponent as i32) + g.b_rec[r].abs() as f64
        })
        .fold(0.0, f64::max);
    let needed = worst.min(RECURRENT_HEADROOM * range.recurrent as f64);
    let nh_shift = if g.reset_after {
        exponent(needed / candidate_fs, MAX_NH_SHIFT)
    } else {
        0
    };
    let clip = g.clip.map_or(32767.0, |c| {
        // One clip for both kinds of pre-activation needs one scale.
        (c as f64 / candidate_fs * 32768.0).round().min(32767.0)
    });
    let (gate_fs, clip) = if clip < 32767.0 && gate_fs != candidate_fs {
        return Err(QuantizeError::Unsupported {
            layer,
            what: "clip below the range of the activations".into(),
        });
    } else {
        (gate_fs, clip)
    };
    let h_unit = 2f64.powi(state_exponent as i32) * LSB;
    // v = real·32768/FS = acc·s₁·m·unit·32768/FS and v = acc·m/65536.
    let scale = |fs: f64, unit: f64| fs * LSB / (65536.0 * unit);
    let nh_fs = candidate_fs * 2f64.powi(nh_shift as i32);
    Ok(GruScales {
        header: GruHeader {
            units: units as u16,
            activation: f,
            recurrent_activation: gate,
            exponent: state_exponent,
            recurrent_exponent: gate_exponent,
            nh_shift,
            w_shift: 0,
            reset_after: g.reset_after,
            direction: match g.go_backwards {
                true => Direction::Backward,
                false => Direction::Forward,
            },
            initial_state: g.h0.iter().any(|h| *h != 0.0),
            clip: clip as u16,
        },
        gate_full_scale: gate_fs,
        candidate_full_scale: candidate_fs,
        w_unit: [scale(gate_fs, unit), scale(candidate_fs, unit)],
        u_unit: [scale(gate_fs, h_unit), scale(nh_fs, h_unit)],
    })
}

/// The rows of a GRU's gates, whose two parts share an accumulator and so a multiplier: that of the input part is
/// `2^w_shift` times that of the recurrent part.
struct Gates<'a> {
    /// Input part, recurrent part.
    rows: Vec<(&'a [f32], &'a [f32])>,
    /// What the multiplier 1 stands for in either.
    units: (f64, f64),
    /// Mean square of the input.
    squares: f64,
    levels: Levels,
}

impl Gates<'_> {
    /// The shift whose rounding errors are smallest over all rows, and the rows.
    fn quantize(&self) -> (u8, Vec<(QuantRow, QuantRow)>) {
        let (w1, u1) = self.units;
        let best: Vec<(u32, u32)> = (self.rows.iter())
            .map(|(w, u)| {
                let of = |row, unit| quantize_row(row, unit, self.levels).multiplier;
                (of(w, w1), of(u, u1))
            })
            .collect();
        let error = |shift: &u8| -> f64 {
            let squares = best.iter().zip(&self.rows).map(|(best, (w, u))| {
                let m = shared(*best, *shift) as f64;
                let (of_w, of_u) = (w1 * m * f64::from(1u32 << shift), u1 * m);
                of_w * of_w * self.squares * w.len() as f64
                    + of_u * of_u * STATE_SQUARE * u.len() as f64
            });
            squares.sum()
        };
        let shift = (0..=MAX_W_SHIFT)
            .min_by(|a, b| error(a).total_cmp(&error(b)))
            .unwrap_or(0);
        let rows = best.iter().zip(&self.rows).map(|(best, (w, u))| {
            let mut m = shared(*best, shift);
            let mut widened = false;
            loop {
                let row = |row: &[f32], multiplier: u32, unit: f64| QuantRow {
                    weights: (row.iter())
                        .map(|&w| rounded(w as f64, multiplier as f64 * unit, self.levels) as i8)
                        .collect(),
                    multiplier,
                    widened: false,
                };
                let of_w = row(w, m.saturating_mul(1 << shift), w1);
                let mut of_u = row(u, m, u1);
                // One that is too large is refused later.
                if (of_w.sum() << shift) + of_u.sum() <= ROW_SUM_MAX || m > 32767 {
                    of_u.widened = widened;
                    return (of_w, of_u);
                }
                m += (m / 64).max(1);
                widened = true;
            }
        });
        (shift, rows.collect())
    }
}

/// The smallest multiplier of the recurrent part that leaves neither part a smaller scale than `best` has.
fn shared((w, u): (u32, u32), shift: u8) -> u32 {
    u.max(w.div_ceil(1 << shift))
}

fn gru(
    layer: usize,
    g: &GruSpec,
    unit: f64,
    left_over: &[f64],
    range: &LayerRange,
    levels: Levels,
    losses: &mut Losses,
) -> Result<QuantGru, QuantizeError> {
    let scales = gru_scales(layer, g, unit, range)?;
    let units = g.units;
    // A convex mix of tanh and a state within ±1 stays there, and 16 bits hold no more. Outside are initial states
    // beyond, and gates that go below zero.
    let widest = g.h0.iter().fold(range.output, |m, h| m.max(h.abs()));
    if scales.header.activation.is_bounded() && widest > 1.0 {
        return Err(QuantizeError::Unsupported {
            layer,
            what: format!("hidden state beyond ±1 (found {widest:.3})"),
        });
    }
    let fits = |row: &[f32], s1: f64, multiplier: u32| match u16::try_from(multiplier) {
        Ok(m) if m <= 32767 => Ok(m),
        _ => Err(QuantizeError::Weights {
            layer,
            found: row.iter().fold(0.0, |m, w| w.abs().max(m)),
            limit: (s1 * 32767.0 * levels.largest()) as f32,
        }),
    };
    let ([w1, wn1], [u1, un1]) = (scales.w_unit, scales.u_unit);
    let (w_gates, w_n) = g.w.split_at(2 * units * g.input);
    let (u_gates, u_n) = g.u.split_at(2 * units * units);
    let (mut w, mut u) = (Vec::new(), Vec::new());
    let (mut mu, mut mw) = (Vec::new(), Vec::new());
    let gates = Gates {
        rows: w_gates
            .chunks_exact(g.input)
            .zip(u_gates.chunks_exact(units))
            .collect(),
        units: (w1, u1),
        // A standardised input has the mean square 1, a state of mostly saturated units less.
        squares: if layer == 0 { 1.0 } else { STATE_SQUARE },
        levels,
    };
    let (w_shift, of_gates) = gates.quantize();
    for (&(of_w, of_u), (qw, qu)) in gates.rows.iter().zip(of_gates) {
        losses.row(of_w, &qw, w1 * qw.multiplier as f64);
        losses.row(of_u, &qu, u1 * qu.multiplier as f64);
        mu.push(fits(of_u, u1, qu.multiplier)?);
        w.extend(qw.weights);
        u.extend(qu.weights);
    }
    for row in w_n.chunks_exact(g.input) {
        let q = quantize_row(row, wn1, levels);
        losses.row(row, &q, wn1 * q.multiplier as f64);
        mw.push(fits(row, wn1, q.multiplier)?);
        w.extend(q.weights);
    }
    for row in u_n.chunks_exact(units) {
        let q = quantize_row(row, un1, levels);
        losses.row(row, &q, un1 * q.multiplier as f64);
        mu.push(fits(row, un1, q.multiplier)?);
        u.extend(q.weights);
    }
    let header = GruHeader {
        w_shift,
        ..scales.header
    };
    // What the integer offsets of the input leave over, taken back in float weights.
    let b_in = |r: usize| {
        let row = &g.w[r * g.input..(r + 1) * g.input];
        let rest: f64 = row.iter().zip(left_over).map(|(w, d)| *w as f64 * d).sum();
        g.b_in[r] as f64 - rest
    };
    let mut b = Vec::with_capacity(4 * units);
    for r in 0..3 * units {
        let candidate = r >= 2 * units;
        let fs = if candidate {
            scales.candidate_full_scale
        } else {
            scales.gate_full_scale
        };
        let mut real = b_in(r);
        if !(candidate && g.reset_after) {
            real += g.b_rec[r] as f64;
        }
        // A floor loses half a unit; the candidate's sum has two.
        let floors = if candidate { 1.0 } else { 0.5 };
        b.push(losses.bias(real / (fs * LSB) + floors));
    }
    let nh_fs = scales.candidate_full_scale * 2f64.powi(scales.header.nh_shift as i32);
    for r in 2 * units..3 * units {
        let real = if g.reset_after {
            g.b_rec[r] as f64
        } else {
            0.0
        };
        b.push(losses.bias(real / (nh_fs * LSB) + 0.5));
    }
    let state_unit = 2f64.powi(scales.header.exponent as i32) * LSB;
    let initial_state = if scales.header.initial_state {
        g.h0.iter()
            .map(|h| losses.bias(*h as f64 / state_unit))
            .collect()
    } else {
        Vec::new()
    };
    Ok(QuantGru {
        header,
        input: g.input,
        w,
        u,
        mu,
        mw,
        b,
        initial_state,
    })
}

fn dense(
    layer: usize,
    d: &DenseSpec,
    unit: f64,
    left_over: &[f64],
    range: &LayerRange,
    last: bool,
    losses: &mut Losses,
) -> Result<QuantDense, QuantizeError> {
    let levels = Levels::INT8;
    // A softmax at the end is left to whoever reads the logits.
    let function = match d.activation {
        spec::Activation::Softmax if last => spec::Activation::Linear,
        other => other,
    };
    let (activation, full_scale) = activation(layer, function, 0)?;
    let linear = matches!(activation, Activation::Linear | Activation::Relu);
    let rows: Vec<QuantRow> =
        d.w.chunks_exact(d.input)
            .map(|row| {
                // Dense rows have a free scale: the largest weight takes the largest integer.
                let largest = row.iter().fold(0f32, |m, w| m.max(w.abs())) as f64;
                let scale = (largest / levels.largest()).max(1e-12);
                quantize_row(row, scale / 4096.0, levels)
            })
            .collect();
    let scale_of = |row: &[f32], q: &QuantRow| {
        let largest = row.iter().fold(0f32, |m, w| m.max(w.abs())) as f64;
        (largest / levels.largest()).max(1e-12) / 4096.0 * q.multiplier as f64
    };
    let scales: Vec<f64> =
        d.w.chunks_exact(d.input)
            .zip(&rows)
            .map(|(row, q)| scale_of(row, q))
            .collect();
    let widest = scales.iter().fold(0.0, |m: f64, s| m.max(*s));
    let mut frac = if linear {
        let range = (range.output as f64 * HEADROOM).max(1.0 / 16.0);
        (32767.0 / range).log2().floor().clamp(0.0, 15.0) as u8
    } else {
        0
    };
    let out_unit = |frac: u8| {
        if linear {
            0.5f64.powi(frac as i32)
        } else {
            full_scale * LSB
        }
    };
    let multiplier = |scale: f64, frac: u8| scale * unit / out_unit(frac) * 4294967296.0;
    while frac > 0 && multiplier(widest, frac) > i32::MAX as f64 {
        frac -= 1;
    }
    if multiplier(widest, frac) > i32::MAX as f64 {
        return Err(QuantizeError::Weights {
            layer,
            found: (widest * levels.largest()) as f32,
            limit: (i32::MAX as f64 / multiplier(1.0, frac) * levels.largest()) as f32,
        });
    }
    let mut w = Vec::with_capacity(d.w.len());
    let mut m = Vec::new();
    let mut b = Vec::new();
    for (r, (row, (q, &scale))) in
        d.w.chunks_exact(d.input)
            .zip(rows.iter().zip(&scales))
            .enumerate()
    {
        losses.row(row, q, scale);
        w.extend(&q.weights);
        m.push(multiplier(scale, frac).round().max(1.0) as i32);
        let rest: f64 = row.iter().zip(left_over).map(|(w, d)| *w as f64 * d).sum();
        let bias = (d.b[r] as f64 - rest) / out_unit(frac) + 0.5;
        let limit = ((1 << 30) - 1) as f64;
        losses.report.saturated_biases += (bias.abs() > limit) as usize;
        b.push(bias.round().clamp(-limit, limit) as i32);
    }
    Ok(QuantDense {
        header: DenseHeader {
            units: d.units as u16,
            activation,
            frac,
        },
        input: d.input,
        w,
        m,
        b,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::data::{Inputs, Labels, Sequences};
    use crate::nn::loss::Loss;
    use crate::nn::network::Network;
    use crate::nn::rng::Rng;
    use crate::nn::session::{Session, Setup};
    use crate::nn::simd::Isa;
    use crate::spec::{Readout, Standardize};
    use gru_core::layout::Layout;
    use gru_core::{Model, writer};

    /// How far the states of the trainer's rounded forward pass are from the integer core's, in
    /// units of the state, over whole sequences: the differences may add up from step to step.
    fn distances(units: usize, weights: f64, grid: bool) -> Vec<f64> {
        let (features, count, steps) = (3, 8, 120);
        let mut rng = Rng::new(units as u64);
        let mut gru = GruSpec::zeros(features, units);
        gru.return_sequences = true;
        let all = [&mut gru.w, &mut gru.u, &mut gru.b_in, &mut gru.b_rec];
        for v in all.into_iter().flatten() {
            *v = (weights * rng.normal()) as f32;
        }
        // The states themselves as outputs.
        let mut dense = DenseSpec::zeros(units, units);
        for k in 0..units {
            dense.w[k * units + k] = 1.0;
        }
        // One count is one unit of the conditioned input.
        let model = ModelSpec {
            layers: vec![LayerSpec::Gru(gru), LayerSpec::Dense(dense)],
            readout: Readout::Every,
            classes: (0..units).map(|k| k.to_string()).collect(),
            standardize: Standardize {
                mean: vec![0.0; features],
                std: vec![8192.0 / 32767.0; features],
            },
            counts_per_unit: vec![32767.0; features],
            ..ModelSpec::default()
        };
        let counts: Vec<i16> = (0..count * steps * features)
            .map(|_| (rng.normal() * 8192.0).clamp(-32000.0, 32000.0) as i16)
            .collect();
        let x: Vec<f32> = counts.iter().map(|c| f32::from(*c) / 8192.0).collect();
        let ranges = calibrate(&model, x.chunks(steps * features)).unwrap();

        let (quantized, _) = quantize(&model, &ranges, &QuantizeOptions::default()).unwrap();
        assert_eq!(quantized.input_exponent, 2);
        let artifact = writer::write(&quantized, Layout::Rows).unwrap();
        let bytes = writer::Aligned::new(&artifact);
        let core = Model::load(&bytes).unwrap();
        let mut state = writer::host_state(&core).unwrap();
        let mut integer = Vec::new();
        for sequence in counts.chunks(steps * features) {
            state.reset(&core).unwrap();
            for sample in sequence.chunks(features) {
                let sample: Vec<i32> = sample.iter().map(|c| i32::from(*c)).collect();
                core.step(&mut state, &sample).unwrap();
                let h = state.hidden(&core).next().unwrap();
                integer.extend(h[..units].iter().map(|h| f64::from(*h)));
            }
        }

        let (mut twin, grids) = deployed(&model, &ranges, 8, grid).unwrap();
        twin.layers[1] = model.layers[1].clone();
        let mut network = Network::new::<f32>(&twin, Loss::default(), Isa::all()[0]).unwrap();
        network.set_grid(grid.then_some(&grids));
        let labels = vec![0; count * steps];
        let sets = [Sequences {
            inputs: Inputs::F32(&x),
            labels: Labels::PerStep(&labels),
            count,
            ..Sequences::windows(&x, features, steps, &[])
        }];
        let setup = Setup {
            network: &network,
            sets: &sets,
            class_weights: &[],
            threads: 1,
            change: None,
            teacher: None,
        };
        let mut float = vec![0.0; integer.len()];
        let indices: Vec<usize> = (0..count).collect();
        setup.run(|session: &mut Session<'_, f32>| {
            session.set_weights(&network.flatten::<f32>(&twin));
            session.predict(0, &indices, |sequence, step, y| {
                let to = &mut float[(sequence * steps + step) * units..];
                for (to, y) in to.iter_mut().zip(y) {
                    *to = f64::from(*y) * 32768.0;
                }
            });
        });
        (integer.iter().zip(&float).map(|(a, b)| (a - b).abs())).collect()
    }

    #[test]
    fn fewer_bits_are_multiples_of_a_step() {
        let row: Vec<f32> = (0..32).map(|k| (k as f32 * 0.7).sin()).collect();
        for (bits, step, most) in [(8, 1, 127), (4, 16, 7), (3, 32, 3), (2, 64, 1)] {
            let levels = Levels::of_bits(bits);
            assert_eq!((levels.step, levels.most), (step, most));
            let unit = 1e-6;
            let q = quantize_row(&row, unit, levels);
            let scale = f64::from(q.multiplier) * unit;
            // Nothing is further off than half a step, but for what was clipped on purpose.
            let clipped = f64::from(most * step) * scale;
            for (&w, &q) in row.iter().zip(&q.weights) {
                let (w, q) = (f64::from(w), i32::from(q));
                assert!(q % step == 0 && q.abs() <= most * step, "{bits} {q}");
                let near = w.clamp(-clipped, clipped);
                let error = (f64::from(q) * scale - near).abs();
                assert!(
                    error <= f64::from(step) * scale * 0.500_001,
                    "{bits} {w} {q}"
                );
            }
            assert!(bits < 8 || row.iter().all(|w| f64::from(w.abs()) <= clipped));
        }
    }

    #[test]
    fn weights_that_int8_can_hold_int4_can_hold() {
        let mut gru = GruSpec::zeros(2, 3);
        gru.w.fill(2.9);
        gru.u.fill(-1.5);
        let model = ModelSpec {
            layers: vec![
                LayerSpec::Gru(gru),
                LayerSpec::Dense(DenseSpec::zeros(3, 2)),
            ],
            ..ModelSpec::default()
        };
        // A wide input makes for large multipliers.
        let x = [15.0_f32, -15.0];
        let ranges = calibrate(&model, [&x[..]]).unwrap();
        for bits in [8, 4] {
            let options = QuantizeOptions {
                bits,
                ..QuantizeOptions::default()
            };
            let (quantized, _) = quantize(&model, &ranges, &options).unwrap();
            writer::write(&quantized, Layout::Pair).unwrap();
        }
    }

    #[test]
    fn the_trainer_s_forward_pass_computes_as_the_integer_core_does() {
        for (units, weights) in [(5, 0.3), (20, 0.3)] {
            let worst = |d: &[f64]| d.iter().fold(0.0_f64, |a, b| a.max(*b));
            let mean = |d: &[f64]| d.iter().sum::<f64>() / d.len() as f64;
            let grid = distances(units, weights, true);
            let none = distances(units, weights, false);
            // The core's tanh table is up to 2 units off, and each gate has one.
            assert!(
                mean(&grid) < 1.2 && mean(&grid) < 0.85 * mean(&none) && worst(&grid) < 16.0,
                "{units} {weights}: mean {:.2} worst {:.1}, without grids {:.2} and {:.1}",
                mean(&grid),
                worst(&grid),
                mean(&none),
                worst(&none)
            );
        }
    }
}
