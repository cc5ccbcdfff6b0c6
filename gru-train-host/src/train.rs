//! From sequences to a trained [`ModelSpec`]: recipes, the loop, evaluation.
//!
//! ```
//! use gru_train_host::nn::data::Sequences;
//! use gru_train_host::train::{TrainConfig, evaluate, fit, silent};
//!
//! // Two classes of 8-step sequences with one feature: rising and falling.
//! let rising = |i: usize| i % 2 == 1;
//! let x: Vec<f32> = (0..64 * 8)
//!     .map(|k| (k % 8) as f32 * 0.1 * if rising(k / 8) { 1.0 } else { -1.0 })
//!     .collect();
//! let labels: Vec<i32> = (0..64).map(|i| i32::from(rising(i))).collect();
//! let data = Sequences::windows(&x, 1, 8, &labels);
//! let config = TrainConfig { units: vec![4], epochs: 20, lr: 0.01, ..TrainConfig::default() };
//! let fitted = fit(&config, &data, None, 2, &mut silent())?;
//! assert!(evaluate(&fitted.model, &data, 1)?.accuracy() > 0.95);
//! # Ok::<(), gru_train_host::train::TrainError>(())
//! ```

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::nn::data::{Labels, Sequences};
use crate::nn::init;
use crate::nn::loss::Loss;
use crate::nn::network::{Dropout, Matrix, Network, Tally};
use crate::nn::rng::Rng;
use crate::nn::session::{Session, Setup};
use crate::nn::simd::Isa;
use crate::optim::schedule::Schedule;
use crate::optim::{Adam, AdamConfig, clip_norm, norm};
use crate::spec::{DecisionSpec, DenseSpec, GruSpec, LayerSpec, ModelSpec, Readout, Standardize};

mod augment;
mod checkpoint;
mod windows;

pub use augment::Augment;
pub use windows::Windows;

/// A recipe; the fields of `train.toml`. The defaults are the plain recipe of the tutorials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Units of each GRU layer, from the input on.
    pub units: Vec<usize>,
    /// Passes over the training set.
    pub epochs: usize,
    /// Sequences in a batch.
    pub batch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Adam's numbers and convention.
    pub optimizer: AdamConfig,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Largest global norm of the gradient.
    pub clip_norm: Option<f64>,
    /// What is minimised.
    pub loss: Loss,
    /// Label smoothing; goes before that of `loss` when it is not 0.
    pub label_smoothing: f32,
    /// Which outputs decide.
    pub readout: Readout,
    /// Weight of each class in the loss; empty for ones.
    pub class_weights: Vec<f32>,
    /// Decoupled weight decay (AdamW); goes before that of `optimizer` when it is not 0.
    pub weight_decay: f64,
    /// Decay per batch of the exponential moving average of the weights, e.g. 0.99; the average is
    /// what validation sees and what is returned.
    pub ema: Option<f64>,
    /// Share of the units that each GRU hands on which is left out while training.
    pub dropout: f32,
    /// Share of the state's units that the recurrent products do not see while training.
    pub recurrent_dropout: f32,
    /// Augmentation of the training sequences.
    pub augment: Augment,
    /// Stop when validation has not improved for this many epochs, and go back to the best one.
    pub patience: Option<usize>,
    /// Quantization-aware training.
    pub qat: Option<Qat>,
    /// How the outputs of a stream become decisions; goes into the artifact.
    pub decision: Option<DecisionSpec>,
    /// Everything random follows from it.
    pub seed: u64,
    /// Threads; 0 for all. The result does not depend on it.
    pub threads: usize,
    /// Where to keep the state after each epoch.
    pub checkpoint: Option<PathBuf>,
    /// Go on from `checkpoint` when it exists.
    pub resume: bool,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            units: vec![32],
            epochs: 30,
            batch: 64,
            lr: 1e-3,
            optimizer: AdamConfig::default(),
            schedule: Schedule::Constant,
            clip_norm: None,
            loss: Loss::default(),
            label_smoothing: 0.0,
            readout: Readout::Last,
            class_weights: Vec::new(),
            weight_decay: 0.0,
            ema: None,
            dropout: 0.0,
            recurrent_dropout: 0.0,
            augment: Augment::default(),
            patience: None,
            qat: None,
            decision: None,
            seed: 0,
            threads: 0,
            checkpoint: None,
            resume: false,
        }
    }
}

/// Quantization-aware training: the forward pass sees quantized weights and the grids of the
/// integer core, the gradient goes straight through to the float weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qat {
    /// Bits of a weight: 8 or 4.
    pub bits: u8,
    /// First epoch that is trained this way.
    #[serde(default)]
    pub from_epoch: usize,
}

/// Rounds one matrix of weights to what will be deployed, in place; rows are outputs.
///
/// The quantizer supplies this, so that training and export round in the same way.
pub type FakeQuant<'a> = dyn Fn(Matrix, u8, &mut [f32]) + Sync + 'a;

/// What the caller may look at or supply.
#[derive(Default)]
pub struct Hooks<'a> {
    /// Rounding of the weights for [`TrainConfig::qat`]; without it, symmetric rows.
    pub fake_quant: Option<&'a FakeQuant<'a>>,
    /// Facts about the data that belong into the model: name, standardisation, classes, …
    /// (its `layers` and `readout` are replaced). Rotation needs the standardisation.
    pub model: Option<&'a ModelSpec>,
    /// Start from these layers instead of fresh ones; `units` is then ignored.
    pub start: Option<&'a ModelSpec>,
}

/// Tells how far training is.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// A batch has been learnt; means since the epoch began.
    Batch {
        /// From 0.
        epoch: usize,
        /// In all.
        epochs: usize,
        /// From 0.
        batch: usize,
        /// In each epoch.
        batches: usize,
        /// Mean loss of the epoch so far.
        loss: f64,
        /// Share of right decisions of the epoch so far.
        accuracy: f64,
    },
    /// An epoch is over.
    Epoch(&'a Epoch),
}

/// What one epoch came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 0.
    pub epoch: usize,
    /// In all.
    pub epochs: usize,
    /// Mean loss over the batches, while they were learnt.
    pub loss: f64,
    /// Share of right decisions, while they were learnt.
    pub accuracy: f64,
    /// Loss on the validation set.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation set.
    pub validation_accuracy: Option<f64>,
    /// Learning rate of the last batch.
    pub lr: f64,
    /// Wall time.
    pub seconds: f64,
}

/// A trained model and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The model.
    pub model: ModelSpec,
    /// One entry per epoch.
    pub history: Vec<Epoch>,
    /// The epoch whose weights were taken, if one was chosen by validation.
    pub best_epoch: Option<usize>,
}

/// Why training stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting or the data cannot be used.
    Invalid(String),
    /// The loss or the gradient is no longer a number.
    NotFinite {
        /// From 0.
        epoch: usize,
        /// From 0.
        batch: usize,
        /// What it was.
        loss: f64,
        /// Global norm of the gradient.
        norm: f64,
    },
    /// The checkpoint cannot be read or written.
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What happened.
        what: String,
    },
}

impl std::fmt::Display for TrainError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(what) => f.write_str(what),
            Self::NotFinite {
                epoch,
                batch,
                loss,
                norm,
            } => write!(
                f,
                "loss {loss} and gradient norm {norm} in epoch {} batch {}: try a smaller learning \
                 rate or clip_norm, and look for values that are not numbers in the data",
                epoch + 1,
                batch + 1
            ),
            Self::Checkpoint { path, what } => write!(f, "checkpoint {}: {what}", path.display()),
        }
    }
}

impl std::error::Error for TrainError {}

impl TrainConfig {
    /// Whether every setting is in its range.
    pub fn check(&self) -> Result<(), TrainError> {
        let bad = |what: String| Err(TrainError::Invalid(what));
        if self.units.is_empty() || self.units.contains(&0) {
            return bad(format!(
                "units {:?}, expected at least one layer with units",
                self.units
            ));
        }
        if self.batch == 0 {
            return bad("batch 0, expected at least 1".into());
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return bad(format!("lr {}, expected a positive number", self.lr));
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return bad(format!(
                "label_smoothing {}, expected 0 to 1",
                self.label_smoothing
            ));
        }
        if self.ema.is_some_and(|e| !(0.0..1.0).contains(&e)) {
            return bad(format!("ema {:?}, expected a decay from 0 to 1", self.ema));
        }
        if self.clip_norm.is_some_and(|c| !(c.is_finite() && c > 0.0)) {
            return bad(format!(
                "clip_norm {:?}, expected a positive number",
                self.clip_norm
            ));
        }
        if let Some(qat) = self.qat
            && !(2..=8).contains(&qat.bits)
        {
            return bad(format!("qat.bits {}, expected 2 to 8", qat.bits));
        }
        if self.resume && self.checkpoint.is_none() {
            return bad("resume needs checkpoint, the file to go on from".into());
        }
        Ok(())
    }

    fn loss(&self) -> Loss {
        match self.loss {
            Loss::Softmax { .. } if self.label_smoothing != 0.0 => Loss::Softmax {
                label_smoothing: self.label_smoothing,
            },
            Loss::Sigmoid { .. } if self.label_smoothing != 0.0 => Loss::Sigmoid {
                label_smoothing: self.label_smoothing,
            },
            loss => loss,
        }
    }

    fn adam(&self) -> AdamConfig {
        let mut adam = self.optimizer;
        if self.weight_decay != 0.0 {
            adam.weight_decay = self.weight_decay;
        }
        adam
    }

    fn threads(&self) -> usize {
        if self.threads > 0 {
            return self.threads;
        }
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

/// A model of this recipe with fresh weights: GRU layers as in Keras, one dense layer on top.
pub fn fresh_model(config: &TrainConfig, features: usize, outputs: usize) -> ModelSpec {
    let mut rng = Rng::of(&[config.seed, 1]);
    let mut layers = Vec::new();
    let mut input = features;
    for (index, units) in config.units.iter().enumerate() {
        let mut gru = GruSpec::zeros(input, *units);
        init::gru(&mut gru, &mut rng);
        gru.return_sequences = index + 1 < config.units.len() || config.readout != Readout::Last;
        layers.push(LayerSpec::Gru(gru));
        input = *units;
    }
    let mut dense = DenseSpec::zeros(input, outputs);
    init::dense(&mut dense, &mut rng);
    layers.push(LayerSpec::Dense(dense));
    ModelSpec {
        layers,
        readout: config.readout,
        ..ModelSpec::default()
    }
}

/// An observer that does nothing.
pub fn silent() -> impl FnMut(Progress<'_>) {
    |_| {}
}

/// A progress bar on the terminal with loss and accuracy; one line per epoch stays.
pub fn progress_bar() -> impl FnMut(Progress<'_>) {
    let bar = indicatif::ProgressBar::new(0);
    let style = indicatif::ProgressStyle::with_template(
        "{prefix} {bar:24} {pos}/{len} {msg} {per_sec} eta {eta}",
    );
    if let Ok(style) = style {
        bar.set_style(style);
    }
    move |progress| match progress {
        Progress::Batch {
            epoch,
            epochs,
            batch,
            batches,
            loss,
            accuracy,
        } => {
            if batch == 0 {
                bar.reset();
                bar.set_length(batches as u64);
                bar.set_prefix(format!("epoch {}/{epochs}", epoch + 1));
            }
            bar.set_position(batch as u64 + 1);
            bar.set_message(format!("loss {loss:.4} accuracy {:.2} %", 100.0 * accuracy));
        }
        Progress::Epoch(e) => {
            let validation = match (e.validation_loss, e.validation_accuracy) {
                (Some(loss), Some(accuracy)) => {
                    format!(
                        ", validation loss {loss:.4} accuracy {:.2} %",
                        100.0 * accuracy
                    )
                }
                _ => String::new(),
            };
            bar.println(format!(
                "epoch {}/{}: loss {:.4} accuracy {:.2} %{validation} ({:.1} s)",
                e.epoch + 1,
                e.epochs,
                e.loss,
                100.0 * e.accuracy,
                e.seconds
            ));
            if e.epoch + 1 == e.epochs {
                bar.finish_and_clear();
            }
        }
    }
}

/// Trains a fresh model of the recipe on `data` for `outputs` classes or values.
pub fn fit(
    config: &TrainConfig,
    data: &Sequences<'_>,
    validation: Option<&Sequences<'_>>,
    outputs: usize,
    observe: &mut dyn FnMut(Progress<'_>),
) -> Result<Fit, TrainError> {
    fit_with(
        config,
        data,
        validation,
        outputs,
        &Hooks::default(),
        observe,
    )
}

/// [`fit`] with everything that a caller may supply.
pub fn fit_with(
    config: &TrainConfig,
    data: &Sequences<'_>,
    validation: Option<&Sequences<'_>>,
    outputs: usize,
    hooks: &Hooks<'_>,
    observe: &mut dyn FnMut(Progress<'_>),
) -> Result<Fit, TrainError> {
    let invalid = TrainError::Invalid;
    config.check()?;
    data.check(outputs)
        .map_err(|e| invalid(format!("training data: {e}")))?;
    if let Some(v) = validation {
        v.check(outputs)
            .map_err(|e| invalid(format!("validation data: {e}")))?;
        if v.features != data.features {
            return Err(invalid(format!(
                "validation data has {} features, training data {}",
                v.features, data.features
            )));
        }
    }
    config.augment.check(data.features).map_err(invalid)?;
    let per_step = matches!(data.labels, Labels::PerStep(_) | Labels::ValuesPerStep(_));
    if per_step != (config.readout == Readout::Every) {
        return Err(invalid(format!(
            "readout {:?} with labels {}, expected Every for labels per step and no other",
            config.readout,
            if per_step { "per step" } else { "per sequence" }
        )));
    }
    let mut model = match hooks.start {
        Some(start) => {
            let mut start = start.clone();
            start.readout = config.readout;
            start
        }
        None => fresh_model(config, data.features, outputs),
    };
    if let Some(facts) = hooks.model {
        model = ModelSpec {
            layers: model.layers,
            readout: config.readout,
            ..facts.clone()
        };
    }
    if model.input() != data.features || model.output() != outputs {
        return Err(invalid(format!(
            "model with {} inputs and {} outputs, expected {} and {outputs}",
            model.input(),
            model.output(),
            data.features
        )));
    }
    let units: Vec<usize> = model
        .layers
        .iter()
        .filter_map(|l| {
            if let LayerSpec::Gru(g) = l {
                Some(g.units)
            } else {
                None
            }
        })
        .collect();
    let isa = Isa::choose(&units);
    let mut network =
        Network::new::<f32>(&model, config.loss(), isa).map_err(|e| invalid(e.to_string()))?;
    let dropout = Dropout {
        output: config.dropout,
        recurrent: config.recurrent_dropout,
    };
    network
        .set_dropout(dropout)
        .map_err(|e| invalid(e.to_string()))?;
    network.set_grid(config.qat.is_some_and(|q| q.from_epoch == 0));
    let mut state = State::new(&network, &model, config);
    if config.resume
        && let Some(path) = &config.checkpoint
        && path.exists()
    {
        state = checkpoint::read(path, config, state.params.len())?;
    }
    // The grids are part of the network, which the worker threads share: one session for the
    // epochs before quantization-aware training and one for those after its start.
    let switch = config
        .qat
        .map_or(config.epochs, |q| q.from_epoch.min(config.epochs));
    for (until, grid) in [(switch, false), (config.epochs, true)] {
        if state.epoch >= until || state.stopped {
            continue;
        }
        network.set_grid(grid);
        run(
            config, &network, data, validation, hooks, observe, &mut state, until,
        )?;
    }
    let params = match (&state.best, &state.ema) {
        (Some((_, _, best)), _) => best,
        (None, Some(ema)) => ema,
        (None, None) => &state.params,
    };
    network.write(params, &mut model);
    Ok(Fit {
        best_epoch: state.best.as_ref().map(|(epoch, ..)| *epoch),
        history: state.history,
        model,
    })
}

/// Everything that changes during training; a checkpoint is exactly this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    epoch: usize,
    params: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    step: u64,
    ema: Option<Vec<f32>>,
    /// Epoch, validation loss and weights of the best one so far, with early stopping.
    best: Option<(usize, f64, Vec<f32>)>,
    /// Lowest validation loss and how long ago, for the plateau schedule.
    lowest: f64,
    since: usize,
    drops: u32,
    stopped: bool,
    history: Vec<Epoch>,
}

impl State {
    fn new(network: &Network, model: &ModelSpec, config: &TrainConfig) -> Self {
        let params: Vec<f32> = network.flatten(model);
        Self {
            epoch: 0,
            m: vec![0.0; params.len()],
            v: vec![0.0; params.len()],
            step: 0,
            ema: config.ema.map(|_| params.clone()),
            params,
            best: None,
            lowest: f64::INFINITY,
            since: 0,
            drops: 0,
            stopped: false,
            history: Vec::new(),
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the inner half of fit_with, split for the borrow"
)]
fn run(
    config: &TrainConfig,
    network: &Network,
    data: &Sequences<'_>,
    validation: Option<&Sequences<'_>>,
    hooks: &Hooks<'_>,
    observe: &mut dyn FnMut(Progress<'_>),
    state: &mut State,
    until: usize,
) -> Result<(), TrainError> {
    let none = Standardize::default();
    let standardize = hooks.model.map_or(&none, |m| &m.standardize);
    let (seed, features) = (config.seed, data.features);
    let change = |round: u64, index: usize, steps: usize, x: &mut [f32]| {
        let mut rng = Rng::of(&[seed, 3, round, index as u64]);
        config
            .augment
            .apply(&mut rng, standardize, features, steps, x, &mut Vec::new());
    };
    let sets: Vec<Sequences<'_>> = std::iter::once(*data).chain(validation.copied()).collect();
    let setup = Setup {
        network,
        sets: &sets,
        class_weights: &config.class_weights,
        threads: config.threads(),
        change: Some(&change),
    };
    setup.run(|session: &mut Session<'_, f32>| {
        let mut epochs = Epochs {
            config,
            network,
            hooks,
            decays: network.decays(),
            quantized: Vec::new(),
            adam: Adam {
                m: std::mem::take(&mut state.m),
                v: std::mem::take(&mut state.v),
                step: state.step,
            },
        };
        let mut result = Ok(());
        while result.is_ok() && state.epoch < until && !state.stopped {
            result = epochs.one(session, &sets, state, observe);
            if result.is_ok()
                && let Some(path) = &config.checkpoint
            {
                epochs.give_back(state);
                result = checkpoint::write(path, config, state);
                epochs.adam.m = std::mem::take(&mut state.m);
                epochs.adam.v = std::mem::take(&mut state.v);
            }
        }
        epochs.give_back(state);
        result
    })
}

struct Epochs<'a> {
    config: &'a TrainConfig,
    network: &'a Network,
    hooks: &'a Hooks<'a>,
    decays: Vec<bool>,
    quantized: Vec<f32>,
    adam: Adam<f32>,
}

impl Epochs<'_> {
    fn give_back(&mut self, state: &mut State) {
        state.m = std::mem::take(&mut self.adam.m);
        state.v = std::mem::take(&mut self.adam.v);
        state.step = self.adam.step;
    }

    /// Hands weights to the session, rounded where the epoch is quantization-aware.
    fn set_weights(&mut self, session: &mut Session<'_, f32>, params: &[f32], epoch: usize) {
        match self.config.qat {
            Some(qat) if epoch >= qat.from_epoch => {
                self.quantized.clear();
                self.quantized.extend_from_slice(params);
                for matrix in self.network.matrices() {
                    let w = &mut self.quantized[matrix.start..][..matrix.rows * matrix.cols];
                    match self.hooks.fake_quant {
                        Some(round) => round(matrix, qat.bits, w),
                        None => symmetric_rows(matrix, qat.bits, w),
                    }
                }
                session.set_weights(&self.quantized);
            }
            _ => session.set_weights(params),
        }
    }

    fn one(
        &mut self,
        session: &mut Session<'_, f32>,
        sets: &[Sequences<'_>],
        state: &mut State,
        observe: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), TrainError> {
        let (config, epoch) = (self.config, state.epoch);
        let adam = config.adam();
        let start = Instant::now();
        let mut order: Vec<usize> = (0..sets[0].count).collect();
        Rng::of(&[config.seed, 2, epoch as u64]).shuffle(&mut order);
        let batches = order.len().div_ceil(config.batch);
        let round = (!config.augment.is_none()).then_some(epoch as u64);
        let mut sum = Tally::default();
        let mut lr = config.lr;
        for (batch, indices) in order.chunks(config.batch).enumerate() {
            let done = epoch as f64 + batch as f64 / batches as f64;
            lr = config.lr * config.schedule.factor(done, config.epochs, state.drops);
            self.set_weights(session, &state.params, epoch);
            if config.dropout > 0.0 || config.recurrent_dropout > 0.0 {
                let seed = Rng::of(&[config.seed, 4, self.adam.step]).next_u64();
                session.set_noise(Some(seed));
            }
            let tally = session.batch(0, indices, round);
            let gradient = session.gradient();
            let norm = match config.clip_norm {
                Some(clip) => clip_norm(gradient, clip, adam.convention),
                None => norm(gradient),
            };
            // A saturated activation can hide a NaN from the loss, but not from the gradient.
            if !tally.loss.is_finite() || !norm.is_finite() {
                return Err(TrainError::NotFinite {
                    epoch,
                    batch,
                    loss: tally.loss,
                    norm,
                });
            }
            self.adam
                .update(&adam, lr, &mut state.params, gradient, &self.decays);
            if let (Some(decay), Some(ema)) = (config.ema, &mut state.ema) {
                // The first batches would otherwise keep the random start for long.
                let step = self.adam.step as f64;
                let keep = decay.min((1.0 + step) / (10.0 + step)) as f32;
                for (e, p) in ema.iter_mut().zip(&state.params) {
                    *e = keep * *e + (1.0 - keep) * *p;
                }
            }
            sum.loss += tally.loss * indices.len() as f64;
            sum.correct += tally.correct;
            sum.count += tally.count;
            let seen = (batch * config.batch + indices.len()) as f64;
            observe(Progress::Batch {
                epoch,
                epochs: config.epochs,
                batch,
                batches,
                loss: sum.loss / seen,
                accuracy: sum.correct as f64 / sum.count.max(1) as f64,
            });
        }
        let mut report = Epoch {
            epoch,
            epochs: config.epochs,
            loss: sum.loss / order.len() as f64,
            accuracy: sum.correct as f64 / sum.count.max(1) as f64,
            validation_loss: None,
            validation_accuracy: None,
            lr,
            seconds: 0.0,
        };
        if let Some(validation) = sets.get(1) {
            let weights = state.ema.as_ref().unwrap_or(&state.params).clone();
            self.set_weights(session, &weights, epoch);
            let indices: Vec<usize> = (0..validation.count).collect();
            let tally = session.predict(1, &indices, |_, _, _: &[f32]| {});
            report.validation_loss = Some(tally.loss);
            report.validation_accuracy = Some(tally.accuracy());
            judge(config, state, tally.loss, &weights);
        }
        report.seconds = start.elapsed().as_secs_f64();
        state.history.push(report);
        state.epoch += 1;
        state.step = self.adam.step;
        observe(Progress::Epoch(&report));
        Ok(())
    }
}

/// Early stopping and the plateau schedule.
fn judge(config: &TrainConfig, state: &mut State, loss: f64, weights: &[f32]) {
    if loss < state.lowest {
        state.lowest = loss;
        state.since = 0;
    } else {
        state.since += 1;
        if let Schedule::Plateau { patience, .. } = config.schedule
            && state.since.is_multiple_of(patience.max(1))
        {
            state.drops += 1;
        }
    }
    if let Some(patience) = config.patience {
        if state.best.as_ref().is_none_or(|(_, best, _)| loss < *best) {
            state.best = Some((state.epoch, loss, weights.to_vec()));
        } else if state
            .best
            .as_ref()
            .is_some_and(|(epoch, ..)| state.epoch - epoch >= patience)
        {
            state.stopped = true;
        }
    }
}

/// Symmetric rounding with one scale per row.
fn symmetric_rows(matrix: Matrix, bits: u8, w: &mut [f32]) {
    let top = ((1_u32 << (bits - 1)) - 1) as f32;
    for row in w.chunks_exact_mut(matrix.cols) {
        let largest = row.iter().fold(0.0_f32, |a, w| a.max(w.abs()));
        if largest > 0.0 {
            let scale = largest / top;
            for w in row {
                *w = (*w / scale).round() * scale;
            }
        }
    }
}

/// What a model makes of labelled sequences.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Mean loss, without label smoothing.
    pub loss: f64,
    /// Right decisions.
    pub correct: usize,
    /// Decisions that had a label.
    pub count: usize,
    /// Logits `[sequence][O]`, or `[sequence][step][O]` with a decision at every step.
    pub logits: Vec<f32>,
}

impl Evaluation {
    /// Share of right decisions.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.count.max(1) as f64
    }

    /// The class of each decision.
    pub fn classes(&self, outputs: usize) -> Vec<usize> {
        self.logits
            .chunks_exact(outputs)
            .map(|y| (1..outputs).fold(0, |best, i| if y[i] > y[best] { i } else { best }))
            .collect()
    }
}

/// Runs a float model over sequences. `threads` 0 means all.
pub fn evaluate(
    model: &ModelSpec,
    data: &Sequences<'_>,
    threads: usize,
) -> Result<Evaluation, TrainError> {
    let outputs = model.output();
    data.check(outputs).map_err(TrainError::Invalid)?;
    if data.features != model.input() {
        return Err(TrainError::Invalid(format!(
            "data has {} features, the model {} inputs",
            data.features,
            model.input()
        )));
    }
    let units: Vec<usize> = model.layers.iter().map(LayerSpec::output).collect();
    let network = Network::new::<f32>(model, Loss::default(), Isa::choose(&units))
        .map_err(|e| TrainError::Invalid(e.to_string()))?;
    let sets = [*data];
    let config = TrainConfig {
        threads,
        ..TrainConfig::default()
    };
    let setup = Setup {
        network: &network,
        sets: &sets,
        class_weights: &[],
        threads: config.threads(),
        change: None,
    };
    let steps = if model.readout == Readout::Every {
        data.steps
    } else {
        1
    };
    let mut logits = vec![0.0; data.count * steps * outputs];
    let indices: Vec<usize> = (0..data.count).collect();
    let tally = setup.run(|session: &mut Session<'_, f32>| {
        session.set_weights(&network.flatten::<f32>(model));
        session.predict(0, &indices, |sequence, step, y: &[f32]| {
            let start = (sequence * steps + step) * outputs;
            logits[start..start + outputs].copy_from_slice(y);
        })
    });
    Ok(Evaluation {
        loss: tally.loss,
        correct: tally.correct,
        count: tally.count,
        logits,
    })
}

/// Reads a recipe from a `train.toml`.
pub fn read_config(path: &Path) -> Result<TrainConfig, TrainError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| TrainError::Invalid(format!("{}: {e}", path.display())))?;
    parse_config(&text).map_err(|e| TrainError::Invalid(format!("{}: {e}", path.display())))
}

/// Reads a recipe from the text of a `train.toml`.
pub fn parse_config(text: &str) -> Result<TrainConfig, TrainError> {
    let config: TrainConfig =
        toml::from_str(text).map_err(|e| TrainError::Invalid(e.message().to_owned()))?;
    config.check()?;
    Ok(config)
}

#[cfg(test)]
mod tests;
