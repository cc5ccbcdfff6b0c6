//! Description of a float model: the common currency of importers, trainer, quantizer and tests.
//!
//! Plain data, no behaviour beyond checks and counts. Every matrix is row-major with one row per
//! output; the rows of a GRU come in the order r, z, n (`3H` rows). The equations:
//!
//! ```text
//! r  = g(W_r·x + b_in_r + U_r·h + b_rec_r)
//! z  = g(W_z·x + b_in_z + U_z·h + b_rec_z)
//! n  = f(W_n·x + b_in_n + r ⊙ (U_n·h + b_rec_n))     reset_after (Keras' default, PyTorch)
//! n  = f(W_n·x + b_in_n + U_n·(r ⊙ h))               reset before the product
//! h' = (1 − z) ⊙ n + z ⊙ h
//! ```

pub use crate::decision::{DecisionSpec, LevelSpec, SmoothingSpec};
use serde::{Deserialize, Serialize};

/// Scalar function of a layer; `Softmax` acts on a whole row and is valid in a [`DenseSpec`] only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `x`
    #[default]
    Linear,
    /// `tanh(x)`
    Tanh,
    /// `1 / (1 + exp(−x))`
    Sigmoid,
    /// `relu6(x + 3) / 6` (Keras 3)
    HardSigmoid,
    /// `clip(0.2·x + 0.5, 0, 1)` (Keras 2, ONNX defaults)
    HardSigmoidV2,
    /// `clip(x, −1, 1)`
    HardTanh,
    /// `max(x, 0)`
    Relu,
    /// `clip(x, 0, 6)`
    Relu6,
    /// `x` for `x ≥ 0`, else `0.2·x` (Keras' slope)
    LeakyRelu,
    /// `x` for `x > 0`, else `exp(x) − 1`
    Elu,
    /// `1.0507·elu` with `α = 1.67326`
    Selu,
    /// `ln(1 + exp(x))`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// `x · sigmoid(x)`
    Silu,
    /// `exp(x_i) / Σ exp(x_j)` over a row
    Softmax,
}

impl Activation {
    /// Whether values are within ±1 whatever the argument.
    pub fn is_within_one(self) -> bool {
        matches!(
            self,
            Self::Tanh
                | Self::Sigmoid
                | Self::HardSigmoid
                | Self::HardSigmoidV2
                | Self::HardTanh
                | Self::Softsign
        )
    }

    /// Keras' name of the function, as used in configurations and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::HardSigmoid => "hard_sigmoid",
            Self::HardSigmoidV2 => "hard_sigmoid_v2",
            Self::HardTanh => "hard_tanh",
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::LeakyRelu => "leaky_relu",
            Self::Elu => "elu",
            Self::Selu => "selu",
            Self::Softplus => "softplus",
            Self::Softsign => "softsign",
            Self::Silu => "silu",
            Self::Softmax => "softmax",
        }
    }

    /// The function with this name, if there is one; the inverse of [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "linear" => Self::Linear,
            "tanh" => Self::Tanh,
            "sigmoid" => Self::Sigmoid,
            "hard_sigmoid" => Self::HardSigmoid,
            "hard_sigmoid_v2" => Self::HardSigmoidV2,
            "hard_tanh" => Self::HardTanh,
            "relu" => Self::Relu,
            "relu6" => Self::Relu6,
            "leaky_relu" => Self::LeakyRelu,
            "elu" => Self::Elu,
            "selu" => Self::Selu,
            "softplus" => Self::Softplus,
            "softsign" => Self::Softsign,
            "silu" | "swish" => Self::Silu,
            "softmax" => Self::Softmax,
            _ => return None,
        })
    }
}

/// One GRU layer. Whether it keeps its state between calls is a property of the run, not of this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GruSpec {
    /// Input size `I`.
    pub input: usize,
    /// Hidden size `H`.
    pub units: usize,
    /// `f`, of the candidate; usually tanh.
    pub activation: Activation,
    /// `g`, of both gates; usually sigmoid.
    pub recurrent_activation: Activation,
    /// Whether the reset gate acts after the recurrent product.
    pub reset_after: bool,
    /// Whether the layer gives its state at every step, or only the last one.
    pub return_sequences: bool,
    /// Whether time runs from the last step to the first.
    pub go_backwards: bool,
    /// ONNX `clip`: pre-activations are clamped to `[−clip, clip]`.
    pub clip: Option<f32>,
    /// Input weights `3H×I`, row-major, rows r, z, n.
    pub w: Vec<f32>,
    /// Recurrent weights `3H×H`, row-major, rows r, z, n.
    pub u: Vec<f32>,
    /// Bias beside the input product, `3H`.
    pub b_in: Vec<f32>,
    /// Bias beside the recurrent product, `3H`; zeros unless `reset_after`.
    pub b_rec: Vec<f32>,
    /// Initial state, `H`; usually zeros.
    pub h0: Vec<f32>,
    /// Whether there are biases to learn; without, they are zeros.
    #[serde(default = "yes")]
    pub use_bias: bool,
    /// Whether the initial state is learnt.
    #[serde(default)]
    pub learn_initial_state: bool,
}

fn yes() -> bool {
    true
}

/// One fully connected layer, applied to each step by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DenseSpec {
    /// Number of inputs.
    pub input: usize,
    /// Number of outputs.
    pub units: usize,
    /// Applied to the outputs; a softmax may be left to the device or dropped.
    pub activation: Activation,
    /// Weights `units×input`, row-major.
    pub w: Vec<f32>,
    /// Bias, `units`.
    pub b: Vec<f32>,
    /// Whether there is a bias to learn; without, it is zeros.
    #[serde(default = "yes")]
    pub use_bias: bool,
}

/// How the two directions of a [`LayerSpec::Bidirectional`] become one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// Forward outputs followed by backward outputs (`2H`).
    #[default]
    Concat,
    /// Sum.
    Sum,
    /// Product.
    Mul,
    /// Mean.
    Ave,
}

/// One layer of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerSpec {
    /// A GRU layer.
    Gru(GruSpec),
    /// A fully connected layer.
    Dense(DenseSpec),
    /// Two GRUs over the same input, the second one from the last step to the first
    /// (its `go_backwards` is true); outputs of both are aligned in time before they are merged.
    Bidirectional {
        /// Runs forward in time.
        forward: GruSpec,
        /// Runs backward in time.
        backward: GruSpec,
        /// How the outputs are put together.
        merge: Merge,
    },
}

/// Which outputs of the last layer make a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Readout {
    /// The logits after the last step of a window.
    #[default]
    Last,
    /// The logits of every step, for labels per step.
    Every,
    /// The mean of the logits over the window, without the first `skip` steps.
    Mean {
        /// Warm-up steps left out.
        #[serde(default)]
        skip: usize,
    },
    /// The mean of the logits over the latest `steps` steps: in a stream at every step, in training at the end of
    /// windows of one length.
    Sliding {
        /// Steps that count.
        steps: usize,
    },
    /// The exponential mean of the logits with the weight `1 / steps` for the latest step, for streams: it remembers
    /// nothing but the mean. Training is that of [`Every`](Self::Every).
    Exponential {
        /// Time constant, 2 to 4096, taken to the nearest power of two.
        steps: usize,
    },
}

impl Readout {
    /// Whether every step has to be right by itself, so that training needs a label per step.
    pub fn is_per_step(self) -> bool {
        matches!(self, Self::Every | Self::Exponential { .. })
    }

    /// The shift that an exponential mean over `steps` steps has in the core; none where it has no such mean.
    pub fn exponential_shift(steps: usize) -> Option<u8> {
        let shift = (steps as f64).log2().round();
        (1.0..=12.0).contains(&shift).then_some(shift as u8)
    }
}

/// What the integer model does where a value is missing, no number, or beyond its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// The feature's last valid value is used again (its mean before the first one).
    #[default]
    Hold,
    /// The feature's mean is used.
    Zero,
    /// The whole step is left out: the state stays as it is.
    Skip,
}

impl From<Gap> for gru_core::artifact::GapPolicy {
    fn from(gap: Gap) -> Self {
        match gap {
            Gap::Hold => Self::Hold,
            Gap::Zero => Self::Zero,
            Gap::Skip => Self::Skip,
        }
    }
}

/// Per-feature standardisation in raw units: the model sees `(raw − mean) / std`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Standardize {
    /// Mean of each feature; empty means zeros.
    pub mean: Vec<f32>,
    /// Standard deviation of each feature; empty means ones.
    pub std: Vec<f32>,
}

/// A whole float model with what a device needs to feed it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelSpec {
    /// Free name, shown in tables and stored in the artifact.
    pub name: String,
    /// Layers from input to output.
    pub layers: Vec<LayerSpec>,
    /// Standardisation of the input in raw units (g, rad/s, …).
    pub standardize: Standardize,
    /// Sensor counts per raw unit, per feature; empty means that raw units are the counts.
    pub counts_per_unit: Vec<f32>,
    /// Class names, one per output; may be empty for a regression.
    pub classes: Vec<String>,
    /// Steps per second of the sensor stream; 0 when unknown.
    pub sample_rate_hz: f32,
    /// Steps of one window; 0 when the model was trained on whole recordings.
    pub window_steps: usize,
    /// Which outputs make a decision.
    pub readout: Readout,
    /// Post-processing of the decisions of a stream.
    pub decision: Option<DecisionSpec>,
    /// What happens to values that are missing or beyond their limits.
    pub gap: Gap,
    /// Smallest and largest valid value of each feature in raw units; empty for no limits.
    pub limits: Vec<Option<[f64; 2]>>,
}

/// Why a [`ModelSpec`] does not hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// Number of the layer, from 0; `None` when the whole model is meant.
    pub layer: Option<usize>,
    /// What was found and what was expected.
    pub what: String,
}

impl std::fmt::Display for SpecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "layer {layer}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for SpecError {}

impl GruSpec {
    /// A GRU with Keras' defaults (tanh, sigmoid, reset after the product) and zero weights.
    pub fn zeros(input: usize, units: usize) -> Self {
        Self {
            input,
            units,
            activation: Activation::Tanh,
            recurrent_activation: Activation::Sigmoid,
            reset_after: true,
            return_sequences: true,
            go_backwards: false,
            clip: None,
            w: vec![0.0; 3 * units * input],
            u: vec![0.0; 3 * units * units],
            b_in: vec![0.0; 3 * units],
            b_rec: vec![0.0; 3 * units],
            h0: vec![0.0; units],
            use_bias: true,
            learn_initial_state: false,
        }
    }

    /// Number of weights and biases as Keras counts them.
    pub fn parameters(&self) -> usize {
        let biases = match (self.use_bias, self.reset_after) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        3 * self.units * (self.input + self.units + biases)
    }

    /// Multiply-accumulates of one time step.
    pub fn macs(&self) -> usize {
        3 * self.units * (self.input + self.units)
    }

    fn check(&self) -> Result<(), String> {
        let (i, h) = (self.input, self.units);
        if i == 0 || h == 0 {
            return Err(format!(
                "GRU with {i} inputs and {h} units, expected at least 1 of each"
            ));
        }
        if self.activation == Activation::Softmax
            || self.recurrent_activation == Activation::Softmax
        {
            return Err("softmax inside a GRU is not supported".into());
        }
        length("w", self.w.len(), 3 * h * i)?;
        length("u", self.u.len(), 3 * h * h)?;
        length("b_in", self.b_in.len(), 3 * h)?;
        length("b_rec", self.b_rec.len(), 3 * h)?;
        length("h0", self.h0.len(), h)?;
        for (name, values) in [
            ("w", &self.w),
            ("u", &self.u),
            ("b_in", &self.b_in),
            ("b_rec", &self.b_rec),
            ("h0", &self.h0),
        ] {
            finite(name, values)?;
        }
        if !self.use_bias && self.b_in.iter().chain(&self.b_rec).any(|b| *b != 0.0) {
            return Err("biases that are not zero without use_bias".into());
        }
        if self.clip.is_some_and(|c| c.is_nan() || c <= 0.0) {
            return Err(format!("clip {:?}, expected a positive number", self.clip));
        }
        Ok(())
    }
}

impl DenseSpec {
    /// A linear layer with zero weights.
    pub fn zeros(input: usize, units: usize) -> Self {
        Self {
            input,
            units,
            activation: Activation::Linear,
            w: vec![0.0; units * input],
            b: vec![0.0; units],
            use_bias: true,
        }
    }

    /// Number of weights and biases.
    pub fn parameters(&self) -> usize {
        self.units * (self.input + usize::from(self.use_bias))
    }

    /// Multiply-accumulates of one application.
    pub fn macs(&self) -> usize {
        self.units * self.input
    }

    fn check(&self) -> Result<(), String> {
        if self.input == 0 || self.units == 0 {
            return Err(format!(
                "Dense with {} inputs and {} units, expected at least 1 of each",
                self.input, self.units
            ));
        }
        length("w", self.w.len(), self.units * self.input)?;
        length("b", self.b.len(), self.units)?;
        if !self.use_bias && self.b.iter().any(|b| *b != 0.0) {
            return Err("a bias that is not zero without use_bias".into());
        }
        finite("w", &self.w)?;
        finite("b", &self.b)
    }
}

impl LayerSpec {
    /// The GRUs in it, in the order of their parameters: none, one, or two directions.
    pub fn grus(&self) -> impl Iterator<Item = &GruSpec> {
        let (first, second) = match self {
            Self::Gru(g) => (Some(g), None),
            Self::Dense(_) => (None, None),
            Self::Bidirectional {
                forward, backward, ..
            } => (Some(forward), Some(backward)),
        };
        first.into_iter().chain(second)
    }

    /// The same, to be changed.
    pub fn grus_mut(&mut self) -> impl Iterator<Item = &mut GruSpec> {
        let (first, second) = match self {
            Self::Gru(g) => (Some(g), None),
            Self::Dense(_) => (None, None),
            Self::Bidirectional {
                forward, backward, ..
            } => (Some(forward), Some(backward)),
        };
        first.into_iter().chain(second)
    }

    /// Number of inputs per step.
    pub fn input(&self) -> usize {
        match self {
            Self::Gru(g) => g.input,
            Self::Dense(d) => d.input,
            Self::Bidirectional { forward, .. } => forward.input,
        }
    }

    /// Number of outputs per step.
    pub fn output(&self) -> usize {
        match self {
            Self::Gru(g) => g.units,
            Self::Dense(d) => d.units,
            Self::Bidirectional {
                forward,
                backward,
                merge: Merge::Concat,
            } => forward.units + backward.units,
            Self::Bidirectional { forward, .. } => forward.units,
        }
    }

    /// Number of weights and biases.
    pub fn parameters(&self) -> usize {
        match self {
            Self::Gru(g) => g.parameters(),
            Self::Dense(d) => d.parameters(),
            Self::Bidirectional {
                forward, backward, ..
            } => forward.parameters() + backward.parameters(),
        }
    }

    /// Multiply-accumulates of one time step.
    pub fn macs(&self) -> usize {
        match self {
            Self::Gru(g) => g.macs(),
            Self::Dense(d) => d.macs(),
            Self::Bidirectional {
                forward, backward, ..
            } => forward.macs() + backward.macs(),
        }
    }
}

impl ModelSpec {
    /// Input size of the first layer; 0 without layers.
    pub fn input(&self) -> usize {
        self.layers.first().map_or(0, LayerSpec::input)
    }

    /// Output size of the last layer; 0 without layers.
    pub fn output(&self) -> usize {
        self.layers.last().map_or(0, LayerSpec::output)
    }

    /// Number of weights and biases of all layers.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(LayerSpec::parameters).sum()
    }

    /// Whether all sizes fit each other and every number is finite.
    pub fn check(&self) -> Result<(), SpecError> {
        let whole = |what: String| SpecError { layer: None, what };
        if self.layers.is_empty() {
            return Err(whole("no layers, expected at least one".into()));
        }
        let mut width = self.input();
        for (index, layer) in self.layers.iter().enumerate() {
            let here = |what: String| SpecError {
                layer: Some(index),
                what,
            };
            if layer.input() != width {
                return Err(here(format!("{} inputs, expected {width}", layer.input())));
            }
            match layer {
                LayerSpec::Gru(g) => g.check().map_err(here)?,
                LayerSpec::Dense(d) => d.check().map_err(here)?,
                LayerSpec::Bidirectional {
                    forward,
                    backward,
                    merge,
                } => {
                    forward.check().map_err(here)?;
                    backward.check().map_err(here)?;
                    if backward.input != forward.input {
                        return Err(here("the two directions have different inputs".into()));
                    }
                    if *merge != Merge::Concat && backward.units != forward.units {
                        return Err(here("the two directions have different units".into()));
                    }
                }
            }
            width = layer.output();
        }
        let optional = |name, have: usize, need| {
            if have == 0 {
                Ok(())
            } else {
                length(name, have, need).map_err(whole)
            }
        };
        optional(
            "standardize.mean",
            self.standardize.mean.len(),
            self.input(),
        )?;
        optional("standardize.std", self.standardize.std.len(), self.input())?;
        optional("counts_per_unit", self.counts_per_unit.len(), self.input())?;
        optional("classes", self.classes.len(), width)?;
        optional("limits", self.limits.len(), self.input())?;
        for (k, limits) in self.limits.iter().enumerate() {
            if limits
                .is_some_and(|[low, high]| !(low.is_finite() && high.is_finite() && low <= high))
            {
                return Err(whole(format!(
                    "limits[{k}] {limits:?}, expected finite numbers, the lower one first"
                )));
            }
        }
        if let Some(decision) = &self.decision {
            (decision.quantize(&self.classes, width, self.sample_rate_hz))
                .map_err(|e| whole(format!("decision: {e}")))?;
        }
        finite("standardize.mean", &self.standardize.mean).map_err(whole)?;
        if let Some(bad) = self
            .standardize
            .std
            .iter()
            .find(|s| !(s.is_finite() && **s > 0.0))
        {
            return Err(whole(format!(
                "standardize.std has {bad}, expected positive numbers"
            )));
        }
        Ok(())
    }
}

fn length(name: &str, have: usize, need: usize) -> Result<(), String> {
    if have == need {
        Ok(())
    } else {
        Err(format!("{name} has {have} numbers, expected {need}"))
    }
}

fn finite(name: &str, values: &[f32]) -> Result<(), String> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(format!(
            "{name}[{at}] is {}, expected a finite number",
            values[at]
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn har_shape_counts_as_keras_does() {
        let model = ModelSpec {
            layers: vec![
                LayerSpec::Gru(GruSpec::zeros(9, 32)),
                LayerSpec::Dense(DenseSpec::zeros(32, 6)),
            ],
            ..ModelSpec::default()
        };
        assert_eq!(model.check(), Ok(()));
        assert_eq!(model.parameters(), 4128 + 198); // keras: GRU(32) on 9 inputs, Dense(6)
        assert_eq!((model.input(), model.output()), (9, 6));
    }

    #[test]
    fn a_wrong_length_and_a_nan_are_named() {
        let mut gru = GruSpec::zeros(2, 3);
        gru.u.pop();
        let mut model = ModelSpec {
            layers: vec![LayerSpec::Gru(gru)],
            ..ModelSpec::default()
        };
        assert_eq!(
            model.check().map_err(|e| e.to_string()),
            Err("layer 0: u has 26 numbers, expected 27".into())
        );
        let mut dense = DenseSpec::zeros(2, 2);
        dense.w[3] = f32::NAN;
        model.layers = vec![LayerSpec::Dense(dense)];
        assert_eq!(
            model.check().map_err(|e| e.to_string()),
            Err("layer 0: w[3] is NaN, expected a finite number".into())
        );
    }

    #[test]
    fn names_of_activations_read_back() {
        for name in [
            "tanh",
            "sigmoid",
            "hard_sigmoid",
            "relu6",
            "softmax",
            "silu",
        ] {
            assert_eq!(
                Activation::from_name(name).map(Activation::name),
                Some(name)
            );
        }
    }
}
