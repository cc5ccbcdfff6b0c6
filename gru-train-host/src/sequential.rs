//! A stack of layers the way Keras users write it: add, compile, fit, predict, summary.
//!
//! ```
//! use gru_train_host::layers::{Dense, Gru};
//! use gru_train_host::nn::data::Sequences;
//! use gru_train_host::sequential::{Adam, FitOptions, Loss::SparseCategoricalCrossentropy, Sequential};
//! use gru_train_host::spec::Activation;
//!
//! // Rising and falling ramps of 8 steps.
//! let slope = |i: usize| if i % 2 == 1 { 0.1 } else { -0.1 };
//! let x: Vec<f32> = (0..64 * 8).map(|k| (k % 8) as f32 * slope(k / 8)).collect();
//! let labels: Vec<i32> = (0..64).map(|i| i % 2).collect();
//!
//! let mut model = Sequential::new(8, 1)
//!     .add(Gru::new(4))
//!     .add(Dense::new(2).activation(Activation::Softmax))
//!     .compile(Adam { learning_rate: 0.01, ..Adam::default() }, SparseCategoricalCrossentropy);
//! assert!(model.summary().contains("gru (GRU)"));
//!
//! let options = FitOptions { epochs: 20, ..FitOptions::default() };
//! let data = Sequences::windows(&x, 1, 8, &labels);
//! let history = model.fit(&data, None, &options)?;
//! assert!(history.last().is_some_and(|e| e.accuracy > 0.95));
//!
//! let probabilities = model.predict(&x[..2 * 8])?.outputs; // two windows
//! assert!(probabilities[0] > 0.5 && probabilities[3] > 0.5);
//! # Ok::<(), gru_train_host::sequential::SequentialError>(())
//! ```

use std::fmt::Write as _;

use gru_core::float::{FloatError, LayerF32, ModelF32};

use crate::layers::Layer;
use crate::nn::data::{Labels, Sequences};
use crate::nn::loss;
use crate::nn::rng::Rng;
use crate::optim::AdamConfig;
use crate::spec::{Activation, LayerSpec, ModelSpec, Readout, SpecError};
use crate::train::{self, Epoch, Hooks, Progress, TrainConfig, TrainError};

/// `keras.optimizers.Adam` with Keras' names and defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the mean of the gradients.
    pub beta_1: f64,
    /// Decay of the mean of their squares.
    pub beta_2: f64,
    /// Added to the divisor.
    pub epsilon: f64,
    /// Largest global norm of the gradient.
    pub global_clipnorm: Option<f64>,
    /// Decoupled weight decay (AdamW).
    pub weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-7,
            global_clipnorm: None,
            weight_decay: 0.0,
        }
    }
}

/// Keras' names of the losses.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Loss {
    /// Classes as numbers; the last layer is a softmax, or linear (`from_logits`).
    #[default]
    SparseCategoricalCrossentropy,
    /// Any number of classes at once; the last layer is a sigmoid.
    BinaryCrossentropy,
    /// Regression.
    MeanSquaredError,
    /// Regression, linear beyond `delta`.
    Huber {
        /// Where it becomes linear.
        delta: f32,
    },
}

/// Arguments of [`Sequential::fit`].
#[derive(Debug, Clone, PartialEq)]
pub struct FitOptions {
    /// Passes over the data.
    pub epochs: usize,
    /// Sequences in a batch.
    pub batch_size: usize,
    /// Start of all random numbers: same seed, same weights.
    pub seed: u64,
    /// Worker threads; 0 for all cores.
    pub threads: usize,
    /// Whether to show a progress bar.
    pub verbose: bool,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            epochs: 1,
            batch_size: 32,
            seed: 0,
            threads: 0,
            verbose: false,
        }
    }
}

/// What a prediction gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prediction {
    /// Outputs of each sequence, or of each of its steps.
    pub outputs: Vec<f32>,
    /// Last states of the layers with `return_state`: for each sequence, layer by layer.
    pub states: Vec<f32>,
}

/// Why a [`Sequential`] cannot be built, trained or run.
#[derive(Debug)]
#[non_exhaustive]
pub enum SequentialError {
    /// The layers do not fit each other.
    Spec(SpecError),
    /// The layers cannot run.
    Float(FloatError),
    /// Training stopped.
    Train(TrainError),
    /// [`fit`](Sequential::fit) before [`compile`](Sequential::compile).
    NotCompiled,
    /// The values are no whole number of sequences.
    Input {
        /// Number of values.
        found: usize,
        /// Values of one sequence.
        sequence: usize,
    },
    /// A stateful model was given another number of sequences than before.
    Batch {
        /// Now.
        found: usize,
        /// Before; [`reset_states`](Sequential::reset_states) forgets it.
        expected: usize,
    },
}

impl std::fmt::Display for SequentialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Spec(e) => e.fmt(f),
            Self::Float(e) => e.fmt(f),
            Self::Train(e) => e.fmt(f),
            Self::NotCompiled => f.write_str("compile the model before it is fitted"),
            Self::Input { found, sequence } => write!(
                f,
                "{found} values are no whole number of sequences of {sequence} values"
            ),
            Self::Batch { found, expected } => write!(
                f,
                "{found} sequences for a stateful model that keeps {expected} states"
            ),
        }
    }
}

impl std::error::Error for SequentialError {}

impl From<SpecError> for SequentialError {
    fn from(e: SpecError) -> Self {
        Self::Spec(e)
    }
}

impl From<FloatError> for SequentialError {
    fn from(e: FloatError) -> Self {
        Self::Float(e)
    }
}

impl From<TrainError> for SequentialError {
    fn from(e: TrainError) -> Self {
        Self::Train(e)
    }
}

/// A stack of layers on windows of `steps` steps with `features` features.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequential {
    steps: usize,
    features: usize,
    layers: Vec<Layer>,
    compiled: Option<(Adam, Loss)>,
    /// Made when weights are needed first.
    spec: Option<ModelSpec>,
    seed: u64,
    /// States of a stateful model, one row for each sequence of the batch.
    states: Vec<Vec<f32>>,
}

impl Sequential {
    /// An empty model for windows of `steps` steps with `features` features.
    pub fn new(steps: usize, features: usize) -> Self {
        Self {
            steps,
            features,
            layers: Vec::new(),
            compiled: None,
            spec: None,
            seed: 0,
            states: Vec::new(),
        }
    }

    /// Puts a layer on top; weights made before are dropped.
    #[expect(
        clippy::should_implement_trait,
        reason = "Keras' name; nothing is summed"
    )]
    pub fn add(mut self, layer: impl Into<Layer>) -> Self {
        self.layers.push(layer.into());
        self.spec = None;
        self
    }

    /// Chooses how the model is trained.
    pub fn compile(mut self, optimizer: Adam, loss: Loss) -> Self {
        self.compiled = Some((optimizer, loss));
        self
    }

    /// Start of the random numbers of the initial weights (default 0).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self.spec = None;
        self
    }

    /// The model with its weights; they are made at the first call (Glorot uniform, orthogonal,
    /// zero biases, as in Keras).
    ///
    /// # Errors
    /// [`SequentialError::Spec`] when the layers do not fit each other.
    pub fn spec(&mut self) -> Result<&ModelSpec, SequentialError> {
        if self.spec.is_none() {
            let mut rng = Rng::of(&[self.seed, 1]);
            let mut width = self.features;
            let mut model = ModelSpec {
                window_steps: self.steps,
                readout: self.readout(),
                ..ModelSpec::default()
            };
            for layer in &self.layers {
                model.layers.push(layer.build(width, &mut rng));
                width = layer.units();
            }
            model.check()?;
            self.spec = Some(model);
        }
        match &self.spec {
            Some(spec) => Ok(spec),
            None => Err(SequentialError::NotCompiled),
        }
    }

    /// Takes weights from elsewhere: an importer, a checkpoint, a file.
    ///
    /// # Errors
    /// [`SequentialError::Spec`] when they are not those of these layers.
    pub fn set_weights(&mut self, layers: Vec<LayerSpec>) -> Result<(), SequentialError> {
        let mut model = self.spec()?.clone();
        let differs = |index| SpecError {
            layer: Some(index),
            what: "weights of another kind or size of layer".into(),
        };
        if layers.len() != model.layers.len() {
            return Err(differs(layers.len().min(model.layers.len())).into());
        }
        for (index, (mine, new)) in model.layers.iter().zip(&layers).enumerate() {
            let same = std::mem::discriminant(mine) == std::mem::discriminant(new)
                && (mine.input(), mine.output()) == (new.input(), new.output());
            if !same {
                return Err(differs(index).into());
            }
        }
        model.layers = layers;
        model.check()?;
        self.spec = Some(model);
        Ok(())
    }

    /// Whether the model gives one row per window, or one per step.
    fn readout(&self) -> Readout {
        let last_only = self
            .layers
            .iter()
            .filter_map(Layer::gru)
            .any(|g| !g.return_sequences);
        if last_only {
            Readout::Last
        } else {
            Readout::Every
        }
    }

    /// Trains on `data`, starting from the present weights; one entry of the history per epoch.
    ///
    /// # Errors
    /// [`SequentialError::NotCompiled`]; [`SequentialError::Train`] for data that does not fit and for a diverging
    /// loss.
    pub fn fit(
        &mut self,
        data: &Sequences<'_>,
        validation: Option<&Sequences<'_>>,
        options: &FitOptions,
    ) -> Result<Vec<Epoch>, SequentialError> {
        let Some((adam, loss)) = self.compiled else {
            return Err(SequentialError::NotCompiled);
        };
        let per_step = matches!(data.labels, Labels::PerStep(_) | Labels::ValuesPerStep(_));
        let config = TrainConfig {
            epochs: options.epochs,
            batch: options.batch_size,
            lr: adam.learning_rate,
            optimizer: AdamConfig {
                beta1: adam.beta_1,
                beta2: adam.beta_2,
                epsilon: Some(adam.epsilon),
                ..AdamConfig::default()
            },
            weight_decay: adam.weight_decay,
            clip_norm: adam.global_clipnorm,
            loss: match loss {
                Loss::SparseCategoricalCrossentropy => loss::Loss::Softmax {
                    label_smoothing: 0.0,
                },
                Loss::BinaryCrossentropy => loss::Loss::Sigmoid {
                    label_smoothing: 0.0,
                },
                Loss::MeanSquaredError => loss::Loss::Mse,
                Loss::Huber { delta } => loss::Loss::Huber { delta },
            },
            readout: if per_step {
                Readout::Every
            } else {
                Readout::Last
            },
            seed: options.seed,
            threads: options.threads,
            ..TrainConfig::default()
        };
        let start = self.spec()?.clone();
        let hooks = Hooks {
            start: Some(&start),
            ..Hooks::default()
        };
        let mut silent = train::silent();
        let mut bar = train::progress_bar();
        let observe: &mut dyn FnMut(Progress<'_>) = if options.verbose {
            &mut bar
        } else {
            &mut silent
        };
        let fitted = train::fit_with(&config, data, validation, start.output(), &hooks, observe)?;
        // The loop may have set properties of its own; what was asked for stays.
        let mut layers = fitted.model.layers;
        for (new, old) in layers.iter_mut().zip(&start.layers) {
            for (new, old) in new.grus_mut().zip(old.grus()) {
                new.return_sequences = old.return_sequences;
            }
            if let (LayerSpec::Dense(new), LayerSpec::Dense(old)) = (new, old) {
                new.activation = old.activation;
            }
        }
        self.set_weights(layers)?;
        Ok(fitted.history)
    }

    /// Outputs for whole windows, one after the other in `x` (`N×T×I`), through the f32 path of
    /// `gru-core`.
    ///
    /// Layers with `stateful` go on from the states that the call before left, window by window.
    ///
    /// # Errors
    /// [`SequentialError::Input`] and [`SequentialError::Batch`] for the numbers of values and
    /// windows, [`SequentialError::Float`] for layers that cannot follow each other.
    pub fn predict(&mut self, x: &[f32]) -> Result<Prediction, SequentialError> {
        let sequence = self.steps * self.features;
        let input_error = SequentialError::Input {
            found: x.len(),
            sequence,
        };
        if sequence == 0 || x.is_empty() || !x.len().is_multiple_of(sequence) {
            return Err(input_error);
        }
        let batch = x.len() / sequence;
        let stateful = self
            .layers
            .iter()
            .any(|l| l.gru().is_some_and(|g| g.stateful));
        if stateful && !self.states.is_empty() && self.states.len() != batch {
            return Err(SequentialError::Batch {
                found: batch,
                expected: self.states.len(),
            });
        }
        let steps = self.steps;
        let mut states = std::mem::take(&mut self.states);
        let flags: Vec<(bool, bool)> = self
            .layers
            .iter()
            .map(|l| {
                l.gru()
                    .map_or((false, false), |g| (g.stateful, g.return_state))
            })
            .collect();
        let spec = self.spec()?;
        let views: Vec<LayerF32<'_>> = spec.views()?;
        let model = ModelF32::new(&views)?;
        let kept = !states.is_empty();
        states.resize(batch, vec![0.0; model.state_len()]);
        let mut scratch = vec![0.0; model.window_scratch_len(steps)];
        let mut prediction = Prediction::default();
        for (x, state) in x.chunks_exact(sequence).zip(&mut states) {
            let before = state.clone();
            model.reset(state)?;
            let mut at = 0;
            for (view, (stateful, _)) in views.iter().zip(&flags) {
                let own = at..at + view.state_len();
                if *stateful && kept {
                    state[own.clone()].copy_from_slice(&before[own]);
                }
                at += view.state_len();
            }
            let mut y = vec![0.0; model.output_len(steps)];
            model.run(state, x, None, &mut y, &mut scratch)?;
            prediction.outputs.extend(y);
            let mut at = 0;
            for (view, (_, return_state)) in views.iter().zip(&flags) {
                let own = at..at + view.state_len();
                at = own.end;
                if *return_state {
                    prediction.states.extend_from_slice(&state[own]);
                }
            }
        }
        if stateful {
            self.states = states;
        }
        Ok(prediction)
    }

    /// Forgets the states that stateful layers keep.
    pub fn reset_states(&mut self) {
        self.states.clear();
    }

    /// Keras' table: layers, output shapes, numbers of parameters.
    pub fn summary(&self) -> String {
        let mut rows = Vec::new();
        let mut width = self.features;
        let mut sequence = true;
        let mut total = 0;
        for (index, layer) in self.layers.iter().enumerate() {
            let class = layer.class();
            let same = self.layers[..index].iter().filter(|l| l.class() == class);
            let name = match same.count() {
                0 => class.to_lowercase(),
                n => format!("{}_{n}", class.to_lowercase()),
            };
            sequence &= layer.gru().is_none_or(|g| g.return_sequences);
            let shape = if sequence {
                format!("(None, {}, {})", self.steps, layer.units())
            } else {
                format!("(None, {})", layer.units())
            };
            let parameters = layer.parameters(width);
            total += parameters;
            rows.push([format!("{name} ({class})"), shape, grouped(parameters)]);
            width = layer.units();
        }
        table(&rows, total)
    }

    /// Numbers of the last layer are probabilities.
    pub fn gives_probabilities(&self) -> bool {
        matches!(
            self.layers.last(),
            Some(Layer::Dense(d)) if matches!(d.activation, Activation::Softmax | Activation::Sigmoid)
        )
    }
}

/// Lays the rows out as Keras 3 does.
fn table(rows: &[[String; 3]], total: usize) -> String {
    let header = ["Layer (type)", "Output Shape", "Param #"];
    let mut widths = [31, 22, 13];
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(cell.chars().count());
        }
    }
    let line = |left: &str, fill: &str, middle: &str, right: &str| {
        let cells: Vec<String> = widths.iter().map(|w| fill.repeat(w + 2)).collect();
        format!("{left}{}{right}\n", cells.join(middle))
    };
    let cells = |bar: &str, row: [&str; 3]| {
        let ([name, shape, count], [a, b, c]) = (row, widths);
        format!("{bar} {name:<a$} {bar} {shape:<b$} {bar} {count:>c$} {bar}\n")
    };
    let mut out = String::from("Model: \"sequential\"\n");
    out += &line("┏", "━", "┳", "┓");
    out += &cells("┃", header);
    out += &line("┡", "━", "╇", "┩");
    for (index, [name, shape, count]) in rows.iter().enumerate() {
        if index > 0 {
            out += &line("├", "─", "┼", "┤");
        }
        out += &cells("│", [name, shape, count]);
    }
    out += &line("└", "─", "┴", "┘");
    let size = kilobytes(4 * total);
    for (what, count, size) in [
        ("Total", total, size.as_str()),
        ("Trainable", total, size.as_str()),
        ("Non-trainable", 0, "0.00 B"),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(out, " {what} params: {} ({size})", grouped(count));
    }
    out
}

/// Digits in groups of three.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the unit that Keras picks.
fn kilobytes(bytes: usize) -> String {
    let b = bytes as f64;
    if bytes < 1024 {
        format!("{b:.2} B")
    } else if bytes < 1024 * 1024 {
        format!("{:.2} KB", b / 1024.0)
    } else {
        format!("{:.2} MB", b / 1024.0 / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Bidirectional, Dense, Gru};
    use crate::spec::Merge;

    #[test]
    fn the_summary_is_that_of_keras() {
        let model = Sequential::new(128, 9)
            .add(Gru::new(32))
            .add(Dense::new(6).activation(Activation::Softmax));
        // The layout of Keras 3 for Input((128, 9)), GRU(32), Dense(6); counts as in its documentation.
        let expected = "\
Model: \"sequential\"
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┓
┃ Layer (type)                    ┃ Output Shape           ┃       Param # ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━┩
│ gru (GRU)                       │ (None, 32)             │         4,128 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ dense (Dense)                   │ (None, 6)              │           198 │
└─────────────────────────────────┴────────────────────────┴───────────────┘
 Total params: 4,326 (16.90 KB)
 Trainable params: 4,326 (16.90 KB)
 Non-trainable params: 0 (0.00 B)
";
        assert_eq!(model.summary(), expected);
    }

    #[test]
    fn parameters_are_counted_as_keras_does() {
        // Keras: 3·U·(F + U + 2), one bias less with reset_after=False, none without use_bias.
        assert_eq!(Gru::new(32).parameters(9), 4128);
        assert_eq!(Gru::new(5).reset_after(false).parameters(3), 135);
        assert_eq!(Gru::new(5).use_bias(false).parameters(3), 120);
        let both = Bidirectional::new(Gru::new(4).return_sequences(true)).merge_mode(Merge::Sum);
        let model = Sequential::new(6, 3)
            .add(both)
            .add(Gru::new(2))
            .add(Dense::new(1));
        let summary = model.summary();
        for part in [
            "bidirectional (Bidirectional)",
            "(None, 6, 4)",
            "216",
            "(None, 2)",
        ] {
            assert!(summary.contains(part), "{part} in\n{summary}");
        }
    }

    #[test]
    fn stateful_layers_go_on_where_they_stopped() -> Result<(), SequentialError> {
        let gru = Gru::new(3).return_state(true);
        let mut whole = Sequential::new(6, 2).add(gru.clone());
        let mut parts = Sequential::new(3, 2).add(gru.clone().stateful(true));
        let mut fresh = Sequential::new(3, 2).add(gru);
        let x: Vec<f32> = (0..12).map(|k| (k as f32 * 0.7).sin()).collect();
        let expected = whole.predict(&x)?;
        parts.predict(&x[..6])?;
        fresh.predict(&x[..6])?;
        assert_eq!(parts.predict(&x[6..])?, expected);
        assert_ne!(fresh.predict(&x[6..])?, expected);
        assert_eq!(expected.states, expected.outputs);
        assert!(matches!(
            parts.predict(&x),
            Err(SequentialError::Batch {
                found: 2,
                expected: 1
            })
        ));
        parts.reset_states();
        parts.predict(&x[..6])?;
        assert_eq!(parts.predict(&x[6..])?, expected);
        Ok(())
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let x = [0.0; 12];
        let labels = [0, 1];
        let data = Sequences::windows(&x, 2, 3, &labels);
        let options = FitOptions::default();
        let mut model = Sequential::new(3, 2).add(Gru::new(2)).add(Dense::new(2));
        let refused = model.fit(&data, None, &options);
        assert!(matches!(refused, Err(SequentialError::NotCompiled)));
        let refused = model.predict(&x[..5]).map_err(|e| e.to_string());
        let expected = "5 values are no whole number of sequences of 6 values";
        assert_eq!(refused, Err(expected.into()));
        let mut model = Sequential::new(3, 2).add(Gru::new(2)).add(Gru::new(2));
        assert!(matches!(model.predict(&x), Err(SequentialError::Float(_))));
        let mut model = Sequential::new(3, 2).add(Gru::new(2).initial_state(vec![1.0]));
        assert!(matches!(model.predict(&x), Err(SequentialError::Spec(_))));
    }
}
