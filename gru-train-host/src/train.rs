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

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::nn::data::{Labels, Sequences};
use crate::nn::init;
use crate::nn::loss::Loss;
use crate::nn::network::{Dropout, Grid, Network, Tally};
use crate::nn::rng::Rng;
use crate::nn::session::{Piece, Session, Setup, Teacher};
use crate::nn::simd::Isa;
use crate::optim::schedule::Schedule;
use crate::optim::{Adam, AdamConfig, clip_norm, norm};
use crate::quantize::{self, Calibration, Method, QuantizeError};
use crate::spec::{
    Activation, DecisionSpec, DenseSpec, Gap, GruSpec, LayerSpec, Merge, ModelSpec, Readout,
    Standardize,
};

mod augment;
mod checkpoint;
mod prune;
mod stream;
mod windows;

pub use augment::Augment;
pub use prune::{Prune, prune};
use stream::Stream;
pub use windows::Windows;

/// A recipe; the fields of `train.toml`. The defaults are the plain recipe of the tutorials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Units of each GRU layer, from the input on.
    pub units: Vec<usize>,
    /// Function of the candidates of all GRU layers. These options are Keras', with Keras' defaults.
    pub activation: Activation,
    /// Function of their gates.
    pub recurrent_activation: Activation,
    /// Whether the reset gate acts after the recurrent product.
    pub reset_after: bool,
    /// Whether the GRU layers have biases.
    pub use_bias: bool,
    /// Every GRU layer reads its input from the last step to the first; needs whole windows.
    pub go_backwards: bool,
    /// Every GRU layer reads its input in both directions; needs whole windows.
    pub bidirectional: bool,
    /// How the outputs of two directions become one.
    pub merge_mode: Merge,
    /// Arguments of all functions of the GRU layers are clamped to ± this (ONNX' `clip`).
    pub clip: Option<f32>,
    /// Whether the state that a sequence begins with is learnt, instead of zeros.
    pub learn_initial_state: bool,
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
    /// Bits of a weight of the GRU layers in the artifact: 8, or 4 for half the flash. Fewer than 4 take as
    /// much as 4.
    pub weight_bits: u8,
    /// How the integers' ranges are chosen from training sequences.
    pub calibration: Method,
    /// Quantization-aware training, after the epochs in floats.
    pub qat: Option<Qat>,
    /// Recurrent weights go, in whole blocks, while training in floats.
    pub prune: Option<Prune>,
    /// How the outputs of a stream become decisions; goes into the artifact.
    pub decision: Option<DecisionSpec>,
    /// What the artifact does where a value is missing, no number, or beyond its limits: `hold`, `zero` or `skip`.
    pub gap: Gap,
    /// Smallest and largest valid value of features by their names, in the units of the data; goes into the artifact.
    pub limits: BTreeMap<String, [f64; 2]>,
    /// Learn whole recordings with the state carried on; needs labels per step and `readout` every.
    pub stateful: Option<Stateful>,
    /// Learn from a larger model, too, which is trained first.
    pub distill: Option<Distill>,
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
            activation: Activation::Tanh,
            recurrent_activation: Activation::Sigmoid,
            reset_after: true,
            use_bias: true,
            go_backwards: false,
            bidirectional: false,
            merge_mode: Merge::Concat,
            clip: None,
            learn_initial_state: false,
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
            weight_bits: 8,
            calibration: Method::MinMax,
            qat: None,
            prune: None,
            decision: None,
            gap: Gap::Hold,
            limits: BTreeMap::new(),
            stateful: None,
            distill: None,
            seed: 0,
            threads: 0,
            checkpoint: None,
            resume: false,
        }
    }
}

/// Quantization-aware training through time: the forward pass computes with the weights, biases,
/// sums, gates and states of the integer core, the gradient goes straight through to the float
/// weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qat {
    /// Bits of a weight, 2 to 8: those of the artifact.
    #[serde(default = "eight")]
    pub bits: u8,
    /// Passes over the training set, after those in floats.
    pub epochs: usize,
    /// Learning rate at the beginning, as a factor of the recipe's; falls to 0 along half a cosine.
    #[serde(default = "tenth")]
    pub lr: f64,
    /// Share of the loss that is the opinion of the model in floats, which this stage begins with;
    /// it takes the place of the teacher of `[distill]`. The labels have the rest.
    #[serde(default)]
    pub own: f32,
}

impl Qat {
    /// What does for most data after `epochs` in floats; fewer bits need longer.
    pub fn usual(bits: u8, epochs: usize) -> Self {
        let few = bits < 8;
        Self {
            bits,
            epochs: (epochs / if few { 2 } else { 5 }).max(1),
            lr: if few { 0.3 } else { 0.02 },
            own: if few { 0.5 } else { 1.0 },
        }
    }
}

fn eight() -> u8 {
    8
}

fn tenth() -> f64 {
    0.1
}

/// Truncated back-propagation through time: recordings are read from their beginning to their end
/// in pieces, `batch` of them beside each other, and the state goes on from piece to piece; the
/// gradient reaches as far back as a piece.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stateful {
    /// Steps of a piece.
    pub steps: usize,
    /// Share of the recordings that begin with the state another one has left, as on a device that
    /// nobody resets.
    #[serde(default)]
    pub carry_over: f64,
    /// Share of the pieces that have a gap: samples that are missing, where the last one is held.
    #[serde(default)]
    pub gaps: f64,
    /// Longest gap in steps.
    #[serde(default)]
    pub gap_steps: usize,
}

/// A larger model of the same kind is trained first, with the same recipe; the small one then
/// learns from its opinion of each augmented sequence as well as from the labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distill {
    /// Units of each of its GRU layers.
    pub units: Vec<usize>,
    /// Passes over the training set.
    pub epochs: usize,
    /// Both logits are divided by it before the softmax.
    #[serde(default = "two")]
    pub temperature: f32,
    /// Share of the loss; the labels have the rest.
    #[serde(default = "most")]
    pub weight: f32,
}

fn two() -> f32 {
    2.0
}

fn most() -> f32 {
    0.7
}

/// What the caller may look at or supply.
#[derive(Default)]
pub struct Hooks<'a> {
    /// Facts about the data that belong into the model: name, standardisation, classes, …
    /// (its `layers` and `readout` are replaced). Rotation needs the standardisation.
    pub model: Option<&'a ModelSpec>,
    /// Start from these layers instead of fresh ones; `units` is then ignored.
    pub start: Option<&'a ModelSpec>,
    /// Training in floats is over, and this is what it came to: only quantization-aware training
    /// is left to do.
    pub trained: Option<&'a Fit>,
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
    /// The model; after quantization-aware training with the weights that the integers mean.
    pub model: ModelSpec,
    /// What quantization-aware training began with and ended with, if there was any.
    pub qat: Option<QatFit>,
    /// One entry per epoch.
    pub history: Vec<Epoch>,
    /// The epoch whose weights were taken, if one was chosen by validation.
    pub best_epoch: Option<usize>,
    /// The larger model that was learnt from, if there was one.
    pub teacher: Option<ModelSpec>,
}

impl Fit {
    /// The model that was trained in floats.
    pub fn float(&self) -> &ModelSpec {
        self.qat.as_ref().map_or(&self.model, |qat| &qat.float)
    }
}

/// Both ends of quantization-aware training.
#[derive(Debug, Clone, PartialEq)]
pub struct QatFit {
    /// The model that was trained in floats.
    pub float: ModelSpec,
    /// The trained weights before they are rounded; with `ranges` they give the deployed integers.
    pub master: ModelSpec,
    /// The ranges that the scales were made from.
    pub ranges: Calibration,
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
        let widest = usize::from(gru_core::artifact::MAX_DIM);
        if self.units.is_empty() || self.units.iter().any(|u| !(1..=widest).contains(u)) {
            return bad(format!(
                "units {:?}, expected at least one layer, each of 1 to {widest} units",
                self.units
            ));
        }
        for (name, f) in [
            ("activation", self.activation),
            ("recurrent_activation", self.recurrent_activation),
        ] {
            if f == Activation::Softmax {
                return bad(format!("{name} softmax, expected a scalar function"));
            }
        }
        if self.clip.is_some_and(|c| !(c.is_finite() && c > 0.0)) {
            return bad(format!("clip {:?}, expected a positive number", self.clip));
        }
        if self.go_backwards && self.bidirectional {
            return bad("go_backwards and bidirectional, expected one of them".into());
        }
        if self.go_backwards || self.bidirectional {
            let name = match self.bidirectional {
                true => "bidirectional",
                false => "go_backwards",
            };
            if self.stateful.is_some() || self.decision.is_some() {
                return bad(format!(
                    "{name} needs whole windows, so there is no [stateful] and no [decision]"
                ));
            }
        }
        if self.learn_initial_state && self.stateful.is_some() {
            return bad("learn_initial_state cannot go with [stateful]".into());
        }
        if self.batch == 0 {
            return bad("batch 0, expected at least 1".into());
        }
        if self.epochs == 0 {
            return bad("epochs 0, expected at least 1".into());
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
        self.loss.check().or_else(bad)?;
        self.adam().check().or_else(bad)?;
        self.schedule.check().or_else(bad)?;
        for (name, share) in [
            ("dropout", self.dropout),
            ("recurrent_dropout", self.recurrent_dropout),
        ] {
            if !(0.0..1.0).contains(&share) {
                return bad(format!("{name} {share}, expected 0 to below 1"));
            }
        }
        if let Some(w) = (self.class_weights.iter()).find(|w| !(w.is_finite() && **w >= 0.0)) {
            return bad(format!("class_weights {w}, expected numbers of 0 or more"));
        }
        if !self.class_weights.is_empty() && self.class_weights.iter().all(|w| *w == 0.0) {
            return bad("class_weights of 0 only, expected a class that counts".into());
        }
        if let Some(ema) = self.ema.filter(|e| !(0.0..1.0).contains(e)) {
            return bad(format!("ema {ema}, expected a decay from 0 to 1"));
        }
        if let Some(clip) = (self.clip_norm).filter(|c| !(c.is_finite() && *c > 0.0)) {
            return bad(format!("clip_norm {clip}, expected a positive number"));
        }
        if let Readout::Exponential { steps } = self.readout
            && Readout::exponential_shift(steps).is_none()
        {
            return bad(format!("readout over {steps} steps, expected 2 to 4096"));
        }
        for (name, [low, high]) in &self.limits {
            if !(low.is_finite() && high.is_finite() && low < high) {
                return bad(format!(
                    "limits.{name} {low} to {high}, expected finite numbers, the lower one first"
                ));
            }
        }
        if !(2..=8).contains(&self.weight_bits) {
            return bad(format!("weight_bits {}, expected 2 to 8", self.weight_bits));
        }
        if let Some(qat) = self.qat {
            if !(2..=8).contains(&qat.bits) {
                return bad(format!("qat.bits {}, expected 2 to 8", qat.bits));
            }
            if self.weight_bits < 8 && self.weight_bits != qat.bits {
                return bad(format!(
                    "qat.bits {} differs from weight_bits {}",
                    qat.bits, self.weight_bits
                ));
            }
            if !(qat.lr.is_finite() && qat.lr > 0.0) {
                return bad(format!("qat.lr {}, expected a positive number", qat.lr));
            }
            if !(0.0..=1.0).contains(&qat.own) {
                return bad(format!("qat.own {}, expected 0 to 1", qat.own));
            }
            if qat.own > 0.0 && !matches!(self.loss, Loss::Softmax { .. }) {
                return bad("qat.own needs the softmax loss".into());
            }
        }
        if let Some(prune) = self.prune {
            prune.check(self.epochs).or_else(bad)?;
            if self.weight_bits < 8 || self.qat.is_some_and(|q| q.bits < 8) {
                return bad("prune needs weights of 8 bits".into());
            }
        }
        if let Some(stateful) = &self.stateful {
            if stateful.steps == 0 {
                return bad("stateful.steps 0, expected at least 1".into());
            }
            for (name, share) in [("carry_over", stateful.carry_over), ("gaps", stateful.gaps)] {
                if !(0.0..=1.0).contains(&share) {
                    return bad(format!("stateful.{name} {share}, expected 0 to 1"));
                }
            }
            if !self.readout.is_per_step() {
                return bad(
                    "stateful needs readout every or exponential, with a label per step".into(),
                );
            }
            if self.augment.time_warp > 0.0 || self.augment.time_shift > 0 {
                return bad("stateful cannot bend time: time_warp and time_shift must be 0".into());
            }
        }
        if let Some(distill) = &self.distill {
            if self.stateful.is_some() {
                return bad("distill cannot go with stateful".into());
            }
            if distill.units.is_empty() || distill.units.contains(&0) || distill.epochs == 0 {
                return bad(format!(
                    "distill.units {:?} and distill.epochs {}, expected a layer with units and an epoch",
                    distill.units, distill.epochs
                ));
            }
            let t = distill.temperature;
            if !(t.is_finite() && t > 0.0) {
                return bad(format!(
                    "distill.temperature {t}, expected a positive number"
                ));
            }
            if !(0.0..=1.0).contains(&distill.weight) {
                return bad(format!(
                    "distill.weight {}, expected 0 to 1",
                    distill.weight
                ));
            }
            if !matches!(self.loss, Loss::Softmax { .. }) {
                return bad("distill needs the softmax loss".into());
            }
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

    /// Epochs in all.
    fn total(&self) -> usize {
        self.epochs + self.qat.map_or(0, |q| q.epochs)
    }

    /// The recipe of the teacher.
    fn teacher(&self, distill: &Distill) -> Self {
        Self {
            units: distill.units.clone(),
            epochs: distill.epochs,
            distill: None,
            qat: None,
            prune: None,
            seed: Rng::of(&[self.seed, 6]).next_u64(),
            checkpoint: self.checkpoint.as_ref().map(|path| {
                let mut path = path.clone().into_os_string();
                path.push(".teacher");
                path.into()
            }),
            ..self.clone()
        }
    }

    fn threads(&self) -> usize {
        if self.threads > 0 {
            return self.threads.min(MOST_THREADS);
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
        let all = index + 1 < config.units.len() || config.readout != Readout::Last;
        let mut direction = |go_backwards: bool| {
            let mut gru = GruSpec::zeros(input, *units);
            init::gru(&mut gru, &mut rng);
            gru.return_sequences = all;
            gru.activation = config.activation;
            gru.recurrent_activation = config.recurrent_activation;
            gru.reset_after = config.reset_after;
            gru.use_bias = config.use_bias;
            gru.go_backwards = go_backwards;
            gru.clip = config.clip;
            gru.learn_initial_state = config.learn_initial_state;
            gru
        };
        let layer = match config.bidirectional {
            true => LayerSpec::Bidirectional {
                forward: direction(false),
                backward: direction(true),
                merge: config.merge_mode,
            },
            false => LayerSpec::Gru(direction(config.go_backwards)),
        };
        input = layer.output();
        layers.push(layer);
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

/// The read-out that gives at the end of every sequence what the mean over the latest `steps` gives there.
fn trained_as<'s>(
    steps: usize,
    sets: impl IntoIterator<Item = &'s Sequences<'s>>,
) -> Result<Readout, TrainError> {
    let mut skips = Vec::new();
    for set in sets {
        let all = [set.steps];
        let lengths = set.lengths.unwrap_or(&all);
        skips.extend(lengths.iter().map(|l| l.saturating_sub(steps)));
    }
    match skips.split_first() {
        Some((&skip, rest)) if steps > 0 && rest.iter().all(|s| *s == skip) => {
            Ok(Readout::Mean { skip })
        }
        _ => Err(TrainError::Invalid(format!(
            "readout over the latest {steps} steps, expected at least 1 and sequences of one length, or none longer"
        ))),
    }
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
    config.check()?;
    let trained_readout = match config.readout {
        Readout::Sliding { steps } => {
            let sets = [Some(data), validation];
            Some(trained_as(steps, sets.into_iter().flatten())?)
        }
        Readout::Exponential { .. } => Some(Readout::Every),
        Readout::Last | Readout::Every | Readout::Mean { .. } => None,
    };
    if let Some(readout) = trained_readout {
        let same = TrainConfig {
            readout,
            ..config.clone()
        };
        let mut fit = fit_with(&same, data, validation, outputs, hooks, observe)?;
        let qat = fit
            .qat
            .iter_mut()
            .flat_map(|q| [&mut q.float, &mut q.master]);
        for model in qat.chain([&mut fit.model]) {
            model.readout = config.readout;
        }
        return Ok(fit);
    }
    let invalid = TrainError::Invalid;
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
    let weights = config.class_weights.len();
    if weights > 0 && weights != outputs {
        return Err(invalid(format!(
            "class_weights has {weights} numbers, expected one for each of {outputs} classes"
        )));
    }
    let per_step = matches!(data.labels, Labels::PerStep(_) | Labels::ValuesPerStep(_));
    if per_step != (config.readout == Readout::Every) {
        return Err(invalid(format!(
            "readout {:?} with labels {}, expected Every for labels per step and no other",
            config.readout,
            if per_step { "per step" } else { "per sequence" }
        )));
    }
    let start = hooks.trained.map(Fit::float).or(hooks.start);
    let mut model = match start {
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
        .flat_map(|l| l.grus().map(|g| g.units))
        .collect();
    let isa = Isa::choose(&units);
    let mut network =
        Network::new::<f32>(&model, config.loss(), isa).map_err(|e| invalid(e.to_string()))?;
    if config.stateful.is_some() && !network.streams() {
        return Err(invalid(
            "[stateful] with a layer that reads its window from the end".into(),
        ));
    }
    let dropout = Dropout {
        output: config.dropout,
        recurrent: config.recurrent_dropout,
    };
    network
        .set_dropout(dropout)
        .map_err(|e| invalid(e.to_string()))?;
    let teacher = match &config.distill {
        Some(_) if hooks.trained.is_some() => hooks.trained.and_then(|t| t.teacher.clone()),
        Some(distill) => {
            let hooks = Hooks {
                model: hooks.model,
                ..Hooks::default()
            };
            let config = config.teacher(distill);
            Some(fit_with(&config, data, validation, outputs, &hooks, observe)?.model)
        }
        None => None,
    };
    let teacher_network = match &teacher {
        Some(model) => Some(
            Network::new::<f32>(model, config.loss(), isa).map_err(|e| invalid(e.to_string()))?,
        ),
        None => None,
    };
    let taught = match (&config.distill, &teacher, &teacher_network) {
        (Some(distill), Some(model), Some(network)) => Some(Teacher {
            network,
            model,
            temperature: distill.temperature,
            weight: distill.weight,
        }),
        _ => None,
    };
    let mut state = State::new(&network, &model, config);
    let made_of = match &config.checkpoint {
        Some(_) => checkpoint::made_of(config, data),
        None => String::new(),
    };
    if config.resume
        && let Some(path) = &config.checkpoint
        && path.exists()
    {
        state = checkpoint::read(path, &made_of, state.params.len())?;
    }
    if let Some(trained) = hooks.trained {
        let float: Vec<f32> = network.flatten(trained.float());
        state.begin(&float, config);
        if config.prune.is_some() {
            state.mask = prune::mask_of(&model, &float);
        }
        state.float = Some(float);
    }
    let shape = model.clone();
    let run = |network: &Network,
               state: &mut State,
               aware: Option<&Aware>,
               teacher: Option<Teacher<'_>>,
               until: usize,
               observe: &mut dyn FnMut(Progress<'_>)| {
        let job = Job {
            config,
            network,
            model: &shape,
            data,
            validation,
            standardize: hooks.model.map(|m| &m.standardize),
            teacher,
            aware,
            made_of: &made_of,
        };
        job.run(observe, state, until)
    };
    if state.float.is_none() {
        run(&network, &mut state, None, taught, config.epochs, observe)?;
    }
    let mut qat_fit = None;
    if let Some(qat) = config.qat
        && qat.epochs > 0
    {
        let float = match state.float.take() {
            Some(float) => float,
            None => {
                let float = state.result().to_vec();
                state.begin(&float, config);
                float
            }
        };
        network.write(&float, &mut model);
        state.float = Some(float);
        let unusable = |e: QuantizeError| invalid(format!("qat: {e}"));
        let ranges = ranges(config.calibration, &model, data).map_err(unusable)?;
        let aware = Aware {
            model: model.clone(),
            ranges: ranges.clone(),
            bits: qat.bits,
        };
        let in_floats = network.clone();
        let own = Teacher {
            network: &in_floats,
            model: &aware.model,
            temperature: 1.0,
            weight: qat.own,
        };
        let taught = if qat.own > 0.0 { Some(own) } else { taught };
        // The grids are part of the network, which the worker threads share.
        let (_, grid) = aware.round(&network, &state.params)?;
        network.set_grid(Some(&grid));
        let until = config.total();
        run(&network, &mut state, Some(&aware), taught, until, observe)?;
        let mut master = model.clone();
        network.write(state.result(), &mut master);
        let (twin, _) = quantize::deployed(&master, &ranges, qat.bits, false).map_err(unusable)?;
        qat_fit = Some(QatFit {
            float: std::mem::replace(&mut model, twin),
            master,
            ranges,
        });
    } else {
        network.write(state.result(), &mut model);
    }
    Ok(Fit {
        best_epoch: state.best.as_ref().map(|(epoch, ..)| *epoch),
        history: state.history,
        qat: qat_fit,
        teacher,
        model,
    })
}

/// More would wait for each other: a batch has fewer pieces.
const MOST_THREADS: usize = 64;

/// Sequences that are run through the float model to find the ranges for the scales.
const RANGE_SEQUENCES: usize = 256;

/// The ranges of a float model on training sequences.
fn ranges(
    method: Method,
    model: &ModelSpec,
    data: &Sequences<'_>,
) -> Result<Calibration, QuantizeError> {
    let every = data.count.div_ceil(RANGE_SEQUENCES).max(1);
    let mut all = Vec::new();
    for index in (0..data.count).step_by(every) {
        let mut values = Vec::new();
        data.read(index, data.length(index), &mut values);
        all.push(values);
    }
    quantize::calibrate_by(method, model, all.iter().map(Vec::as_slice))
}

/// How weights are rounded for quantization-aware training.
struct Aware {
    model: ModelSpec,
    ranges: Calibration,
    bits: u8,
}

impl Aware {
    /// The deployed weights and biases in the order of the parameters, and the grids.
    fn round(&self, network: &Network, params: &[f32]) -> Result<(Vec<f32>, Grid), TrainError> {
        let mut model = self.model.clone();
        network.write(params, &mut model);
        let (twin, grid) = quantize::deployed(&model, &self.ranges, self.bits, true)
            .map_err(|e| TrainError::Invalid(format!("qat: {e}")))?;
        Ok((network.flatten(&twin), grid))
    }
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
    /// What training in floats came to, once quantization-aware training has begun.
    float: Option<Vec<f32>>,
    /// Which weights pruning has left; empty before it begins.
    mask: Vec<bool>,
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
            float: None,
            mask: Vec::new(),
            history: Vec::new(),
        }
    }

    /// The weights to take: the best, the averaged or the last ones.
    fn result(&self) -> &[f32] {
        match (&self.best, &self.ema) {
            (Some((_, _, best)), _) => best,
            (None, Some(ema)) => ema,
            (None, None) => &self.params,
        }
    }

    /// Goes on from other weights, with a fresh optimizer and no early stopping.
    fn begin(&mut self, params: &[f32], config: &TrainConfig) {
        self.params = params.to_vec();
        self.m.fill(0.0);
        self.v.fill(0.0);
        self.step = 0;
        self.ema = config.ema.map(|_| params.to_vec());
        self.best = None;
        self.stopped = false;
        self.epoch = config.epochs;
    }
}

/// One stage of training: in floats, or aware of quantization.
struct Job<'a> {
    config: &'a TrainConfig,
    network: &'a Network,
    /// Its layers' shapes count.
    model: &'a ModelSpec,
    data: &'a Sequences<'a>,
    validation: Option<&'a Sequences<'a>>,
    standardize: Option<&'a Standardize>,
    teacher: Option<Teacher<'a>>,
    aware: Option<&'a Aware>,
    /// What a checkpoint says that it was made of.
    made_of: &'a str,
}

impl Job<'_> {
    fn run(
        &self,
        observe: &mut dyn FnMut(Progress<'_>),
        state: &mut State,
        until: usize,
    ) -> Result<(), TrainError> {
        let (config, network) = (self.config, self.network);
        if state.epoch >= until || state.stopped {
            return Ok(());
        }
        let none = Standardize::default();
        let standardize = self.standardize.unwrap_or(&none);
        let (seed, features) = (config.seed, self.data.features);
        let change = |round: u64, index: usize, piece: Piece, x: &mut [f32]| {
            // All pieces of a recording are turned and scaled alike.
            let mut rng = Rng::of(&[seed, 3, round, index as u64]);
            let scratch = &mut Vec::new();
            (config.augment).apply(&mut rng, standardize, features, piece, x, scratch);
            if let Some(stateful) = config.stateful {
                let mut rng = Rng::of(&[seed, 7, round, index as u64, piece.start as u64]);
                augment::gap(
                    &mut rng,
                    &stateful,
                    features,
                    &mut x[..piece.steps * features],
                );
            }
        };
        let sets: Vec<Sequences<'_>> = std::iter::once(*self.data)
            .chain(self.validation.copied())
            .collect();
        let setup = Setup {
            network,
            sets: &sets,
            class_weights: &config.class_weights,
            threads: config.threads(),
            change: Some(&change),
            teacher: self.teacher,
        };
        setup.run(|session: &mut Session<'_, f32>| {
            let mut epochs = Epochs {
                config,
                network,
                model: self.model,
                aware: self.aware,
                decays: network.decays(),
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
                    result = checkpoint::write(path, self.made_of, state);
                    epochs.adam.m = std::mem::take(&mut state.m);
                    epochs.adam.v = std::mem::take(&mut state.v);
                }
            }
            epochs.give_back(state);
            result
        })
    }
}

struct Epochs<'a> {
    config: &'a TrainConfig,
    network: &'a Network,
    model: &'a ModelSpec,
    aware: Option<&'a Aware>,
    decays: Vec<bool>,
    adam: Adam<f32>,
}

impl Epochs<'_> {
    fn give_back(&mut self, state: &mut State) {
        state.m = std::mem::take(&mut self.adam.m);
        state.v = std::mem::take(&mut self.adam.v);
        state.step = self.adam.step;
    }

    /// Hands weights to the session, rounded where training is aware of it.
    fn set_weights(
        &self,
        session: &mut Session<'_, f32>,
        params: &[f32],
    ) -> Result<(), TrainError> {
        match self.aware {
            Some(aware) => session.set_weights(&aware.round(self.network, params)?.0),
            None => session.set_weights(params),
        }
        Ok(())
    }

    /// The learning rate when `done` epochs are over (fractions count the batches).
    fn rate(&self, done: f64, drops: u32) -> f64 {
        let config = self.config;
        match (self.aware, config.qat) {
            (Some(_), Some(qat)) => {
                let fall = Schedule::Cosine {
                    warmup: 0.0,
                    floor: 0.0,
                };
                let done = done - config.epochs as f64;
                config.lr * qat.lr * fall.factor(done, qat.epochs, 0)
            }
            _ => config.lr * config.schedule.factor(done, config.epochs, drops),
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
        let prune = config.prune.filter(|_| self.aware.is_none());
        if let Some(density) = prune.and_then(|p| p.density(epoch, config.epochs)) {
            state.mask = prune::mask(self.model, &state.params, density);
            prune::apply(&state.mask, &mut state.params);
            if let Some(ema) = &mut state.ema {
                prune::apply(&state.mask, ema);
            }
        }
        let mut order: Vec<usize> = (0..sets[0].count).collect();
        let mut rng = Rng::of(&[config.seed, 2, epoch as u64]);
        rng.shuffle(&mut order);
        let mut stream = config.stateful.map(|stateful| {
            let initial = self.network.initial_state();
            Stream::new(stateful, &sets[0], &order, config.batch, initial, rng)
        });
        let mut plan = order.chunks(config.batch);
        let batches = match &stream {
            Some(stream) => stream.batches(),
            None => plan.len(),
        };
        let gaps = config.stateful.is_some_and(|s| s.gaps > 0.0);
        let round = (!config.augment.is_none() || gaps).then_some(epoch as u64);
        let mut seen = 0;
        let mut sum = Tally::default();
        let mut lr = config.lr;
        for batch in 0..batches {
            let done = epoch as f64 + batch as f64 / batches as f64;
            lr = self.rate(done, state.drops);
            self.set_weights(session, &state.params)?;
            if config.dropout > 0.0 || config.recurrent_dropout > 0.0 {
                let seed = Rng::of(&[config.seed, 4, self.adam.step]).next_u64();
                session.set_noise(Some(seed));
            }
            let (tally, rows) = match &mut stream {
                Some(stream) => {
                    let Some(rows) = stream.next() else { break };
                    let (indices, pieces) = (&stream.indices, &stream.pieces);
                    let states = &mut stream.states;
                    let tally = session.pieces(0, indices, pieces, states, true, round);
                    stream.put_back();
                    if tally.count == 0 {
                        continue; // not one step has a label
                    }
                    (tally, rows)
                }
                None => {
                    let Some(indices) = plan.next() else { break };
                    (session.batch(0, indices, round), indices.len())
                }
            };
            let gradient = session.gradient();
            prune::apply(&state.mask, gradient);
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
            self.network.bound(&mut state.params);
            // The momentum of a weight outlives it.
            prune::apply(&state.mask, &mut state.params);
            if let (Some(decay), Some(ema)) = (config.ema, &mut state.ema) {
                // The first batches would otherwise keep the random start for long.
                let step = self.adam.step as f64;
                let keep = decay.min((1.0 + step) / (10.0 + step)) as f32;
                for (e, p) in ema.iter_mut().zip(&state.params) {
                    *e = keep * *e + (1.0 - keep) * *p;
                }
            }
            sum.loss += tally.loss * rows as f64;
            sum.correct += tally.correct;
            sum.count += tally.count;
            seen += rows;
            observe(Progress::Batch {
                epoch,
                epochs: config.total(),
                batch,
                batches,
                loss: sum.loss / seen as f64,
                accuracy: sum.correct as f64 / sum.count.max(1) as f64,
            });
        }
        let mut report = Epoch {
            epoch,
            epochs: config.total(),
            loss: sum.loss / (seen as f64).max(1.0),
            accuracy: sum.correct as f64 / sum.count.max(1) as f64,
            validation_loss: None,
            validation_accuracy: None,
            lr,
            seconds: 0.0,
        };
        if let Some(validation) = sets.get(1) {
            let weights = state.ema.as_ref().unwrap_or(&state.params).clone();
            self.set_weights(session, &weights)?;
            let indices: Vec<usize> = (0..validation.count).collect();
            let tally = match config.stateful {
                Some(stateful) => self.judge_stream(session, stateful, validation, &indices),
                None => session.predict(1, &indices, |_, _, _: &[f32]| {}),
            };
            report.validation_loss = Some(tally.loss);
            report.validation_accuracy = Some(tally.accuracy());
            if self.aware.is_none() && !prune.is_some_and(|p| p.goes_on(epoch, config.epochs)) {
                judge(config, state, tally.loss, &weights);
            }
        }
        report.seconds = start.elapsed().as_secs_f64();
        state.history.push(report);
        state.epoch += 1;
        state.step = self.adam.step;
        observe(Progress::Epoch(&report));
        Ok(())
    }
}

impl Epochs<'_> {
    /// Loss and accuracy on whole recordings, each from the initial state.
    fn judge_stream(
        &self,
        session: &mut Session<'_, f32>,
        stateful: Stateful,
        set: &Sequences<'_>,
        indices: &[usize],
    ) -> Tally {
        let plain = Stateful {
            carry_over: 0.0,
            ..stateful
        };
        let initial = self.network.initial_state();
        let batch = self.config.batch;
        let mut stream = Stream::new(plain, set, indices, batch, initial, Rng::new(0));
        let mut sum = Tally::default();
        while stream.next().is_some() {
            let (indices, pieces) = (&stream.indices, &stream.pieces);
            let tally = session.pieces(1, indices, pieces, &mut stream.states, false, None);
            stream.put_back();
            sum.loss += tally.loss * tally.count as f64;
            sum.correct += tally.correct;
            sum.count += tally.count;
        }
        sum.loss /= sum.count.max(1) as f64;
        sum
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

/// Runs a float model over sequences. `threads` 0 means all. An exponential read-out gives the logits of every step
/// that its mean is made of.
pub fn evaluate(
    model: &ModelSpec,
    data: &Sequences<'_>,
    threads: usize,
) -> Result<Evaluation, TrainError> {
    if let Readout::Sliding { steps } = model.readout {
        let mut same = model.clone();
        same.readout = trained_as(steps, [data])?;
        return evaluate(&same, data, threads);
    }
    if matches!(model.readout, Readout::Exponential { .. }) {
        let mut same = model.clone();
        same.readout = Readout::Every;
        return evaluate(&same, data, threads);
    }
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
        teacher: None,
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
