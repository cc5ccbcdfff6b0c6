//! From a data set to an artifact, and what float and integer models make of the same windows.
//!
//! ```text
//! Dataset → windows → Feed → train → ModelSpec → quantize → artifact → scores
//! ```

use gru_core::float::ModelF32;
use gru_core::input::Limits;
use gru_core::layout::Layout;
use gru_core::writer::{self, QuantModel};
use gru_core::{Digest, Model, StateError, WindowRef};

use crate::dataset::{Counts, Dataset, Labels as DataLabels, UNLABELLED, Window, WindowLabel};
use crate::nn::data::{Inputs, Labels, Sequences};
use crate::nn::loss::largest;
use crate::quantize::{self, Calibration, LayerRange, QuantReport, QuantizeOptions};
use crate::spec::{Gap, ModelSpec, Readout, Standardize};
use crate::train::{self, Fit, Hooks, Progress, Qat, TrainConfig};

/// Windows that are run through the float model to find the ranges of what nothing bounds.
const CALIBRATION_WINDOWS: usize = 512;

/// Windows of a data set as the training engine reads them; counts are not copied.
pub struct Feed<'d> {
    slices: Vec<&'d [i16]>,
    /// Only for counts of more than 16 bits: `[N][T][I]`, standardised.
    floats: Vec<f32>,
    offset: Vec<f32>,
    scale: Vec<f32>,
    lengths: Vec<usize>,
    labels: Vec<i32>,
    per_step: bool,
    features: usize,
    steps: usize,
}

impl<'d> Feed<'d> {
    /// Borrows `windows` of `data`; with `per_step` the labels are those of the steps.
    pub fn new(data: &'d Dataset, windows: &[Window], by: &Standardize, per_step: bool) -> Self {
        let features = data.input();
        let steps = windows.iter().map(|w| w.steps).max().unwrap_or(0);
        let unit = |k: usize| data.counts_per_unit[k];
        let std = |k: usize| by.std.get(k).copied().unwrap_or(1.0);
        let mean = |k: usize| by.mean.get(k).copied().unwrap_or(0.0);
        let mut feed = Self {
            slices: Vec::with_capacity(windows.len()),
            floats: Vec::new(),
            offset: (0..features).map(|k| mean(k) * unit(k)).collect(),
            scale: (0..features).map(|k| 1.0 / (std(k) * unit(k))).collect(),
            lengths: windows.iter().map(|w| w.steps).collect(),
            labels: Vec::new(),
            per_step,
            features,
            steps,
        };
        let class = |l: u16| if l == UNLABELLED { -1 } else { i32::from(l) };
        for window in windows {
            let from = window.start * features;
            let to = from + window.steps * features;
            match data.sequences.get(window.sequence).map(|s| &s.counts) {
                Some(Counts::I16(counts)) => feed.slices.push(&counts[from..to]),
                Some(Counts::I32(_) | Counts::Gaps(_)) | None => {}
            }
            if per_step {
                let labelled = (0..steps).map(|t| match t < window.steps {
                    true => class(data.label(window.sequence, window.start + t)),
                    false => -1,
                });
                feed.labels.extend(labelled);
            } else {
                feed.labels.push(class(window.label));
            }
        }
        if feed.slices.len() < windows.len() {
            feed.floats = vec![0.0; windows.len() * steps * features];
            let rows = feed.floats.chunks_exact_mut((steps * features).max(1));
            for (window, row) in windows.iter().zip(rows) {
                data.standardised_into(window, by, &mut row[..window.steps * features]);
            }
        }
        feed
    }

    /// `windows` as the integers of `model` take them ([`Conditioner`]), in floats and without labels; those of which
    /// no step is left are not in it.
    fn conditioned(data: &'d Dataset, windows: &[Window], model: &ModelSpec) -> Self {
        let features = data.input();
        let steps = windows.iter().map(|w| w.steps).max().unwrap_or(0);
        let mut conditioner = Conditioner::new(data, model);
        let (mut floats, mut lengths) = (Vec::new(), Vec::new());
        for window in windows {
            let start = floats.len();
            conditioner.append(window, &mut floats);
            let length = (floats.len() - start) / features.max(1);
            if length > 0 {
                lengths.push(length);
                floats.resize(start + steps * features, 0.0);
            }
        }
        Self {
            slices: Vec::new(),
            floats,
            offset: Vec::new(),
            scale: Vec::new(),
            labels: vec![-1; lengths.len() * steps],
            lengths,
            per_step: true,
            features,
            steps,
        }
    }

    /// The set, as the engine wants it.
    pub fn sequences(&self) -> Sequences<'_> {
        let count = self.lengths.len();
        Sequences {
            inputs: match self.floats.is_empty() {
                true => Inputs::Slices {
                    counts: &self.slices,
                    offset: &self.offset,
                    scale: &self.scale,
                },
                false => Inputs::F32(&self.floats),
            },
            features: self.features,
            count,
            steps: self.steps,
            starts: None,
            lengths: (self.lengths.iter().any(|l| *l != self.steps)).then_some(&self.lengths),
            labels: match self.per_step {
                true => Labels::PerStep(&self.labels),
                false => Labels::PerSequence(&self.labels),
            },
            weights: None,
        }
    }
}

/// Gives floats what the integer model's input conditioning leaves of samples: values that are missing or beyond
/// their limits are held, take the mean, or their step is left out.
struct Conditioner<'d> {
    data: &'d Dataset,
    gap: Gap,
    limits: Vec<Limits>,
    /// `(scale, offset)` of each feature: standardised = count · scale − offset.
    standard: Vec<(f32, f32)>,
    held: Vec<f32>,
    samples: Vec<Option<i32>>,
    invalid_values: u64,
    skipped_steps: u64,
}

impl<'d> Conditioner<'d> {
    fn new(data: &'d Dataset, model: &ModelSpec) -> Self {
        let by = &model.standardize;
        let features = data.input();
        let standard = (0..features).map(|k| {
            let std = by.std.get(k).copied().unwrap_or(1.0);
            let mean = by.mean.get(k).copied().unwrap_or(0.0);
            (1.0 / (data.counts_per_unit[k] * std), mean / std)
        });
        Self {
            data,
            gap: model.gap,
            limits: count_limits(model),
            standard: standard.collect(),
            held: vec![0.0; features],
            samples: Vec::new(),
            invalid_values: 0,
            skipped_steps: 0,
        }
    }

    /// Adds the steps of a window, which begins with nothing held.
    fn append(&mut self, window: &Window, out: &mut Vec<f32>) {
        self.data.samples_into(window, &mut self.samples);
        self.held.fill(0.0);
        for sample in self.samples.chunks_exact(self.standard.len().max(1)) {
            let valid = |k: usize| {
                let limits = self.limits.get(k).copied().unwrap_or(Limits::NONE);
                sample[k].filter(|c| limits.holds(*c))
            };
            let invalid = (0..sample.len()).filter(|k| valid(*k).is_none()).count();
            self.invalid_values += invalid as u64;
            if invalid > 0 && self.gap == Gap::Skip {
                self.skipped_steps += 1;
                continue;
            }
            for (k, (scale, offset)) in self.standard.iter().enumerate() {
                match valid(k) {
                    Some(count) => self.held[k] = count as f32 * scale - offset,
                    None if self.gap == Gap::Hold => {}
                    None => self.held[k] = 0.0,
                }
            }
            out.extend(&self.held);
        }
    }
}

/// The limits of a model's features in counts; empty where it has none.
fn count_limits(model: &ModelSpec) -> Vec<Limits> {
    let unit = |k: usize| f64::from(model.counts_per_unit.get(k).copied().unwrap_or(1.0));
    (model.limits.iter().enumerate())
        .map(|(k, limits)| match limits {
            // A cast saturates: beyond what a count can be there is no limit.
            Some([low, high]) => Limits {
                low: (low * unit(k)).ceil() as i32,
                high: (high * unit(k)).floor() as i32,
            },
            None => Limits::NONE,
        })
        .collect()
}

/// Values of windows that are missing or beyond the limits of `model`, and the steps that it leaves out because of them.
pub fn invalid_in(model: &ModelSpec, data: &Dataset, windows: &[Window]) -> (u64, u64) {
    let mut conditioner = Conditioner::new(data, model);
    let mut values = Vec::new();
    for window in windows {
        values.clear();
        conditioner.append(window, &mut values);
    }
    (conditioner.invalid_values, conditioner.skipped_steps)
}

/// Per feature with limits in a recipe: its name, and how many values of the data are beyond them. Training learns such
/// values as they are; the artifact treats them as missing.
///
/// # Errors
/// Limits that the data cannot have, in one line.
pub fn beyond_limits(config: &TrainConfig, data: &Dataset) -> Result<Vec<(String, usize)>, String> {
    named_limits(config, data)?;
    let width = data.input().max(1);
    let beyond = |(name, [low, high]): (&String, &[f64; 2])| {
        let k = data.features.iter().position(|f| f == name)?;
        let unit = f64::from(data.counts_per_unit[k]);
        let out = |c: i32| f64::from(c) < low * unit || f64::from(c) > high * unit;
        let counts = data.sequences.iter().flat_map(|s| {
            let own = (k..s.counts.len()).step_by(width);
            own.filter_map(|at| s.counts.get(at))
        });
        let number = counts.filter(|c| out(*c)).count();
        (number > 0).then(|| (name.clone(), number))
    };
    Ok(config.limits.iter().filter_map(beyond).collect())
}

/// The limits of a recipe by the features of the data; empty where it has none.
fn named_limits(config: &TrainConfig, data: &Dataset) -> Result<Vec<Option<[f64; 2]>>, String> {
    for (name, [low, high]) in &config.limits {
        let Some(k) = data.features.iter().position(|f| f == name) else {
            let names = data.features.join(", ");
            return Err(format!(
                "limits: no feature {name:?}, expected one of {names}"
            ));
        };
        let unit = f64::from(data.counts_per_unit[k]);
        if (low * unit).ceil() > (high * unit).floor() {
            return Err(format!(
                "limits.{name} {low} to {high}: no count is between, with {unit} counts per unit"
            ));
        }
    }
    let of = |name: &String| config.limits.get(name).copied();
    Ok(match config.limits.is_empty() {
        true => Vec::new(),
        false => data.features.iter().map(of).collect(),
    })
}

/// Whether a layout can hold a model of the recipe, in the words of whoever loads it: known before training.
///
/// # Errors
/// Why not, in one line.
pub fn holds(
    layout: Layout,
    config: &TrainConfig,
    features: usize,
    outputs: usize,
) -> Result<(), String> {
    let model = train::fresh_model(config, features, outputs);
    let range = LayerRange {
        recurrent: 1.0,
        gate: 1.0,
        output: 1.0,
    };
    let ranges = Calibration {
        input: 1.0,
        layers: vec![range; model.layers.len()],
        ..Calibration::default()
    };
    let (quantized, _) = quantize::quantize(&model, &ranges, &QuantizeOptions::default())
        .map_err(|e| e.to_string())?;
    writer::write(&quantized, layout).map_err(|e| e.to_string())?;
    Ok(())
}

/// How long recordings are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Steps of a window; 0 for every sequence as a whole.
    pub steps: usize,
    /// Steps from one window to the next.
    pub hop: usize,
    /// How a window gets its class.
    pub label: WindowLabel,
}

impl Cut {
    /// Sequences that carry one label are taken as they are; recordings with labels per step are
    /// cut into windows of two seconds (100 steps where the rate is unknown), a quarter apart.
    pub fn for_data(data: &Dataset) -> Self {
        let labelled = |s: &crate::dataset::Sequence| matches!(s.labels, DataLabels::Steps(_));
        let steps = match data.sequences.iter().any(labelled) {
            false => 0,
            true if data.sample_rate_hz > 0.0 => {
                (2.0 * data.sample_rate_hz).round().max(2.0) as usize
            }
            true => 100,
        };
        Self {
            steps,
            hop: (steps / 4).max(1),
            label: WindowLabel::Last,
        }
    }

    /// The windows of the listed sequences that have a label.
    pub fn windows(&self, data: &Dataset, sequences: &[usize]) -> Vec<Window> {
        let mut all = match self.steps {
            0 => data.whole(sequences, self.label),
            steps => data.windows(sequences, steps, self.hop, self.label),
        };
        all.retain(|w| w.label != UNLABELLED && w.steps > 0);
        all
    }
}

/// What to make.
pub struct Order<'a> {
    /// The data.
    pub data: &'a Dataset,
    /// Windows to learn from.
    pub train: &'a [Window],
    /// Windows to choose by; may be empty.
    pub validation: &'a [Window],
    /// Statistics of the training sequences.
    pub by: Standardize,
    /// The recipe.
    pub config: &'a TrainConfig,
    /// Name of the model.
    pub name: String,
    /// Order of the weights in the artifact; with half a byte a weight where they fit and the layout has such a
    /// form ([`Layout::halved`]), without the weights that the recipe prunes where it has one for that
    /// ([`Layout::sparse`]).
    pub layout: Layout,
    /// Steps of raw counts that the artifact carries for its self-test.
    pub self_test_steps: usize,
}

/// What came out.
pub struct Product {
    /// The trained model and its history.
    pub fit: Fit,
    /// The integer model.
    pub quantized: QuantModel,
    /// What quantization lost.
    pub report: QuantReport,
    /// The bytes for the flash.
    pub artifact: Vec<u8>,
}

/// Trains; the model stays in floats. The error is one line.
pub fn fit(
    order: &Order<'_>,
    trained: Option<&Fit>,
    observe: &mut dyn FnMut(Progress<'_>),
) -> Result<Fit, String> {
    let Order { data, config, .. } = *order;
    let limits = named_limits(config, data)?;
    let per_step = config.readout.is_per_step();
    let train = Feed::new(data, order.train, &order.by, per_step);
    let validation = Feed::new(data, order.validation, &order.by, per_step);
    let validation = (!order.validation.is_empty()).then(|| validation.sequences());
    let cut = order.train.first().map_or(0, |w| w.steps);
    let same = order.train.iter().all(|w| w.steps == cut);
    let facts = ModelSpec {
        name: order.name.clone(),
        standardize: order.by.clone(),
        counts_per_unit: data.counts_per_unit.clone(),
        classes: data.classes.clone(),
        sample_rate_hz: data.sample_rate_hz,
        window_steps: if same { cut } else { 0 },
        decision: config.decision.clone(),
        gap: config.gap,
        limits,
        ..ModelSpec::default()
    };
    if let Some(decision) = &facts.decision {
        (decision.quantize(&facts.classes, facts.classes.len(), facts.sample_rate_hz))
            .map_err(|e| format!("decision: {e}"))?;
    }
    let hooks = Hooks {
        model: Some(&facts),
        start: None,
        trained,
    };
    train::fit_with(
        config,
        &train.sequences(),
        validation.as_ref(),
        data.classes.len(),
        &hooks,
        observe,
    )
    .map_err(|e| e.to_string())
}

/// Trains, calibrates, quantizes and writes. The error is one line.
pub fn make(order: &Order<'_>, observe: &mut dyn FnMut(Progress<'_>)) -> Result<Product, String> {
    make_from(order, None, observe)
}

/// [`make`], where training in floats is over and this is what it came to.
pub fn make_from(
    order: &Order<'_>,
    trained: Option<&Fit>,
    observe: &mut dyn FnMut(Progress<'_>),
) -> Result<Product, String> {
    let config = order.config;
    config.check().map_err(|e| e.to_string())?;
    holds(
        order.layout,
        config,
        order.data.input(),
        order.data.classes.len(),
    )?;
    let fit = fit(order, trained, observe)?;
    let (quantized, report, artifact) = match (&fit.qat, config.qat) {
        // The very scales that training has seen.
        (Some(qat), Some(Qat { bits, .. })) => export_at(order, &qat.master, &qat.ranges, bits)?,
        _ => export(order, &fit.model)?,
    };
    Ok(Product {
        fit,
        quantized,
        report,
        artifact,
    })
}

/// Calibrates on the training windows, quantizes and writes a model.
pub fn export(
    order: &Order<'_>,
    model: &ModelSpec,
) -> Result<(QuantModel, QuantReport, Vec<u8>), String> {
    let data = order.data;
    let every = order.train.len().div_ceil(CALIBRATION_WINDOWS).max(1);
    let windows: Vec<Vec<f32>> = (order.train.iter().step_by(every))
        .map(|w| {
            let mut values = vec![0.0; w.steps * data.input()];
            data.standardised_into(w, &order.by, &mut values);
            values
        })
        .collect();
    let method = order.config.calibration;
    let ranges = quantize::calibrate_by(method, model, windows.iter().map(Vec::as_slice))
        .map_err(|e| e.to_string())?;
    export_at(order, model, &ranges, order.config.weight_bits)
}

/// Quantizes and writes a model with given ranges.
fn export_at(
    order: &Order<'_>,
    model: &ModelSpec,
    ranges: &Calibration,
    bits: u8,
) -> Result<(QuantModel, QuantReport, Vec<u8>), String> {
    let data = order.data;
    let mut self_test = Vec::new();
    if let Some(first) = order.train.first() {
        let mut counts = Vec::new();
        data.counts_into(first, &mut counts);
        let narrow: Option<Vec<i16>> = (counts.iter().take(order.self_test_steps * data.input()))
            .map(|c| i16::try_from(*c).ok())
            .collect();
        self_test = narrow.unwrap_or_default();
    }
    let given = model.decision.as_ref().and_then(|d| d.warm_up_steps);
    let options = QuantizeOptions {
        gap: model.gap.into(),
        limits: count_limits(model),
        self_test,
        warm_up_steps: given.unwrap_or(0),
        bits,
    };
    let (mut quantized, report) =
        quantize::quantize(model, ranges, &options).map_err(|e| e.to_string())?;
    let sparse = order.config.prune.and(order.layout.sparse());
    let layout = match (sparse, order.layout.halved()) {
        (Some(sparse), _) if quantized.fits_sparse() => sparse,
        (_, Some(halved)) if quantized.fits_half_bytes() => halved,
        _ => order.layout,
    };
    let mut artifact = writer::write(&quantized, layout).map_err(|e| e.to_string())?;
    let aligned = writer::Aligned::new(&artifact);
    let ready = Model::load(&aligned).map_err(|e| e.to_string())?;
    if given.is_none() && ready.is_streaming() {
        let measured = match order.config.stateful {
            Some(_) => {
                let sequences: Vec<usize> = order.train.iter().map(|w| w.sequence).collect();
                stream_warm_up(&ready, data, &sequences)
            }
            None => {
                let every = order.train.len().div_ceil(CALIBRATION_WINDOWS).max(1);
                let some: Vec<Window> = order.train.iter().step_by(every).copied().collect();
                // What is trained to have an answer at the end of a window has one there.
                let shortest = order.train.iter().map(|w| w.steps).min().unwrap_or(0);
                let shortest = u16::try_from(shortest).unwrap_or(u16::MAX);
                warm_up(&ready, data, &some).map(|steps| steps.min(shortest))
            }
        }
        .map_err(|e| e.to_string())?;
        quantized.warm_up_steps = quantized.warm_up_steps.max(measured);
        artifact = writer::write(&quantized, layout).map_err(|e| e.to_string())?;
    }
    Ok((quantized, report, artifact))
}

/// Steps after a reset until the most probable class is the one at the end of the window, and stays it, in nine
/// windows of ten: what a stream has to wait for its first decision.
pub fn warm_up(model: &Model<'_>, data: &Dataset, windows: &[Window]) -> Result<u16, StateError> {
    let mut state = writer::host_state(model)?;
    let mut settled = Vec::with_capacity(windows.len());
    let mut counts = Vec::new();
    for window in windows {
        data.samples_into(window, &mut counts);
        state.reset(model)?;
        let (mut class, mut since) = (usize::MAX, 0);
        for (t, sample) in counts.chunks_exact(model.features()).enumerate() {
            let now = model.step(&mut state, sample)?.argmax();
            if now != class {
                (class, since) = (now, t + 1);
            }
        }
        settled.push(since);
    }
    settled.sort_unstable();
    let at = (settled.len() * 9).div_ceil(10).saturating_sub(1);
    let steps = settled.get(at).copied().unwrap_or(0);
    Ok(u16::try_from(steps).unwrap_or(u16::MAX))
}

/// [`warm_up`] on windows of two seconds (100 steps where the rate is unknown) of one class within recordings: a
/// recording as a whole changes its class many times.
pub fn stream_warm_up(
    model: &Model<'_>,
    data: &Dataset,
    sequences: &[usize],
) -> Result<u16, StateError> {
    let steps = match data.sample_rate_hz > 0.0 {
        true => (2.0 * data.sample_rate_hz).round().max(2.0) as usize,
        false => 100,
    };
    let windows = data.windows(sequences, steps, steps, WindowLabel::Pure);
    let every = windows.len().div_ceil(CALIBRATION_WINDOWS).max(1);
    let some: Vec<Window> = windows.into_iter().step_by(every).collect();
    warm_up(model, data, &some)
}

/// Decisions of a model on windows, each from a reset state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decisions {
    /// Class of each window.
    pub classes: Vec<u16>,
    /// Digest of all hidden states, 0 for a float model; of a model that reads its window from the end, of the states
    /// that each window leaves.
    pub digest: u64,
    /// Time steps in all.
    pub steps: u64,
    /// Values that were missing or beyond their limits; 0 for a float model, see [`invalid_in`].
    pub invalid_values: u64,
    /// Steps left out because of such values.
    pub skipped_steps: u64,
}

/// Memory for windows of so many steps, on a host. A model that streams needs none.
///
/// Beyond 2^18 words (half a megabyte) it is too small, which [`Model::run_window`] then says.
pub fn host_window(model: &Model<'_>, steps: usize) -> Box<WindowRef> {
    match model.window_len(steps) {
        0 => Box::new(gru_core::Window::<0>::new()),
        1..=0x4000 => Box::new(gru_core::Window::<0x4000>::new()),
        _ => Box::new(gru_core::Window::<0x40000>::new()),
    }
}

/// What the integer model decides.
pub fn decide_int8(
    model: &Model<'_>,
    data: &Dataset,
    windows: &[Window],
) -> Result<Decisions, StateError> {
    let mut state = writer::host_state(model)?;
    let mut digest = Digest::default();
    let mut classes = Vec::with_capacity(windows.len());
    let mut counts = Vec::new();
    let mut steps = 0;
    let longest = windows.iter().map(|w| w.steps).max().unwrap_or(0);
    let mut memory = host_window(model, longest);
    for window in windows {
        data.samples_into(window, &mut counts);
        if !model.is_streaming() {
            let rows: Vec<&[Option<i32>]> = counts.chunks_exact(model.features()).collect();
            let output = model.run_window(&mut state, &mut memory, &rows)?;
            classes.push(output.argmax() as u16);
            state.digest(model, &mut digest);
            steps += rows.len() as u64;
            continue;
        }
        state.reset(model)?;
        for sample in counts.chunks_exact(model.features()) {
            model.step(&mut state, sample)?;
            state.digest(model, &mut digest);
            steps += 1;
        }
        classes.push(model.output(&state).argmax() as u16);
    }
    Ok(Decisions {
        classes,
        digest: digest.value(),
        steps,
        invalid_values: state.counters().invalid_values.into(),
        skipped_steps: state.counters().skipped_steps.into(),
    })
}

/// What the float model decides, on the training engine. Values that are missing or beyond their limits are treated as
/// the integer model treats them; where no step of a window is left, that is class 0.
pub fn decide_float(
    model: &ModelSpec,
    data: &Dataset,
    windows: &[Window],
    threads: usize,
) -> Result<Vec<u16>, String> {
    if windows.is_empty() {
        return Ok(Vec::new());
    }
    let exponential = matches!(model.readout, Readout::Exponential { .. });
    if exponential || !model.limits.is_empty() || data.missing_values() > 0 {
        return decide_conditioned(model, data, windows, threads);
    }
    // With a decision at every step, the last one of the window counts; of two directions it is no last state of both.
    if model.readout == Readout::Every && model.layers.iter().any(|l| l.grus().count() == 2) {
        return decide_last_step(model, data, windows);
    }
    let mut last = model.clone();
    if last.readout == Readout::Every {
        last.readout = Readout::Last;
        if let Some(crate::spec::LayerSpec::Gru(g)) =
            (last.layers.iter_mut().rev()).find(|l| matches!(l, crate::spec::LayerSpec::Gru(_)))
        {
            g.return_sequences = false;
        }
    }
    let feed = Feed::new(data, windows, &model.standardize, false);
    let seen = train::evaluate(&last, &feed.sequences(), threads).map_err(|e| e.to_string())?;
    Ok((seen.classes(model.output()).iter())
        .map(|c| *c as u16)
        .collect())
}

/// The most probable class of the last step of each window.
fn decide_last_step(
    model: &ModelSpec,
    data: &Dataset,
    windows: &[Window],
) -> Result<Vec<u16>, String> {
    let line = |e: gru_core::float::FloatError| e.to_string();
    let views = model.views().map_err(line)?;
    let float = ModelF32::new(&views).map_err(line)?;
    let mut state = vec![0.0; float.state_len()];
    let mut classes = Vec::with_capacity(windows.len());
    for window in windows {
        let mut x = vec![0.0; window.steps * data.input()];
        data.standardised_into(window, &model.standardize, &mut x);
        let mut y = vec![0.0; float.output_len(window.steps)];
        let mut scratch = vec![0.0; float.window_scratch_len(window.steps)];
        float.reset(&mut state).map_err(line)?;
        (float.run(&mut state, &x, None, &mut y, &mut scratch)).map_err(line)?;
        let last = y.rchunks_exact(float.output()).next().unwrap_or_default();
        classes.push(largest(last) as u16);
    }
    Ok(classes)
}

/// [`decide_float`] by the logits of every step, from which the read-out is taken here.
fn decide_conditioned(
    model: &ModelSpec,
    data: &Dataset,
    windows: &[Window],
    threads: usize,
) -> Result<Vec<u16>, String> {
    let mut every = model.clone();
    every.readout = Readout::Every;
    for layer in &mut every.layers {
        layer.grus_mut().for_each(|g| g.return_sequences = true);
    }
    let mut decided = Vec::with_capacity(windows.len());
    // So many at a time: the logits of all steps are kept.
    for some in windows.chunks(1024) {
        let feed = Feed::conditioned(data, some, model);
        let mut left = feed.lengths.iter().enumerate();
        let sequences = feed.sequences();
        let logits = match feed.lengths.is_empty() {
            true => Vec::new(),
            false => {
                (train::evaluate(&every, &sequences, threads).map_err(|e| e.to_string())?).logits
            }
        };
        let outputs = model.output();
        let mut conditioner = Conditioner::new(data, model);
        let mut values = Vec::new();
        for window in some {
            values.clear();
            conditioner.append(window, &mut values);
            let class = match values.is_empty() {
                true => 0,
                false => {
                    let (at, length) = left.next().unwrap_or((0, &0));
                    let rows = logits[at * feed.steps * outputs..].chunks_exact(outputs);
                    let rows: Vec<&[f32]> = rows.take(*length).collect();
                    largest(&read_out(model.readout, &rows, outputs)) as u16
                }
            };
            decided.push(class);
        }
    }
    Ok(decided)
}

/// What a read-out makes of the logits of all steps at the end of a window, as the core does.
fn read_out(readout: Readout, rows: &[&[f32]], outputs: usize) -> Vec<f32> {
    let mean = |rows: &[&[f32]]| -> Vec<f32> {
        let share = 1.0 / rows.len().max(1) as f32;
        (0..outputs)
            .map(|k| rows.iter().map(|r| r[k]).sum::<f32>() * share)
            .collect()
    };
    match readout {
        Readout::Last | Readout::Every => mean(&rows[rows.len().saturating_sub(1)..]),
        Readout::Mean { skip } => mean(rows.get(skip..).unwrap_or_default()),
        Readout::Sliding { steps } => mean(&rows[rows.len().saturating_sub(steps)..]),
        Readout::Exponential { steps } => {
            let shift = Readout::exponential_shift(steps).unwrap_or(0);
            let weight = 0.5f32.powi(shift.into());
            let mut sum = mean(&rows[..rows.len().min(1)]);
            for row in rows.iter().skip(1) {
                for (sum, y) in sum.iter_mut().zip(*row) {
                    *sum += (y - *sum) * weight;
                }
            }
            sum
        }
    }
}

/// Share of `decided` that equals the label of its window; 0 for none.
pub fn accuracy(decided: &[u16], windows: &[Window]) -> f64 {
    let right = decided.iter().zip(windows).filter(|(d, w)| **d == w.label);
    right.count() as f64 / windows.len().max(1) as f64
}

/// Share of equal entries; 1 for none.
pub fn agreement(a: &[u16], b: &[u16]) -> f64 {
    let same = a.iter().zip(b).filter(|(a, b)| a == b).count();
    match a.len().max(b.len()) {
        0 => 1.0,
        n => same as f64 / n as f64,
    }
}

/// How often each class was taken for each: `rows[label][decision]`.
pub fn confusion(decided: &[u16], windows: &[Window], classes: usize) -> Vec<Vec<u32>> {
    let mut rows = vec![vec![0; classes]; classes];
    for (d, w) in decided.iter().zip(windows) {
        if let Some(cell) =
            (rows.get_mut(usize::from(w.label))).and_then(|r| r.get_mut(usize::from(*d)))
        {
            *cell += 1;
        }
    }
    rows
}
