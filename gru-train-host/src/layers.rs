//! Layers as Keras users describe them: units and options, no sizes of inputs, no weights.
//!
//! A [`Sequential`](crate::sequential::Sequential) gives them inputs and weights.

use crate::nn::init;
use crate::nn::rng::Rng;
use crate::spec::{Activation, DenseSpec, GruSpec, LayerSpec, Merge};

/// `keras.layers.GRU`: the same options under the same names, the same defaults.
///
/// `dropout` and `recurrent_dropout` have no counterpart; regularise with noise on the data and
/// weight decay instead.
#[derive(Debug, Clone, PartialEq)]
pub struct Gru {
    pub(crate) units: usize,
    pub(crate) activation: Activation,
    pub(crate) recurrent_activation: Activation,
    pub(crate) use_bias: bool,
    pub(crate) reset_after: bool,
    pub(crate) return_sequences: bool,
    pub(crate) return_state: bool,
    pub(crate) go_backwards: bool,
    pub(crate) stateful: bool,
    pub(crate) clip: Option<f32>,
    pub(crate) initial_state: Option<Vec<f32>>,
    pub(crate) learn_initial_state: bool,
}

impl Gru {
    /// A layer of `units` units with Keras' defaults.
    pub fn new(units: usize) -> Self {
        Self {
            units,
            activation: Activation::Tanh,
            recurrent_activation: Activation::Sigmoid,
            use_bias: true,
            reset_after: true,
            return_sequences: false,
            return_state: false,
            go_backwards: false,
            stateful: false,
            clip: None,
            initial_state: None,
            learn_initial_state: false,
        }
    }

    /// Function of the candidate (default tanh).
    pub fn activation(mut self, f: Activation) -> Self {
        self.activation = f;
        self
    }

    /// Function of both gates (default sigmoid).
    pub fn recurrent_activation(mut self, g: Activation) -> Self {
        self.recurrent_activation = g;
        self
    }

    /// Whether there are biases (default yes).
    pub fn use_bias(mut self, yes: bool) -> Self {
        self.use_bias = yes;
        self
    }

    /// Whether the reset gate acts after the recurrent product (default yes).
    pub fn reset_after(mut self, yes: bool) -> Self {
        self.reset_after = yes;
        self
    }

    /// Whether the layer gives every output or the last one (default).
    pub fn return_sequences(mut self, yes: bool) -> Self {
        self.return_sequences = yes;
        self
    }

    /// Whether a prediction reports the layer's last state as well (default no).
    pub fn return_state(mut self, yes: bool) -> Self {
        self.return_state = yes;
        self
    }

    /// Whether time runs from the last step to the first (default no).
    pub fn go_backwards(mut self, yes: bool) -> Self {
        self.go_backwards = yes;
        self
    }

    /// Whether the state is kept between predictions (default no).
    pub fn stateful(mut self, yes: bool) -> Self {
        self.stateful = yes;
        self
    }

    /// ONNX' clip of the arguments of all functions (default none).
    pub fn clip(mut self, clip: f32) -> Self {
        self.clip = Some(clip);
        self
    }

    /// State that every sequence starts with (default zeros), `units` values.
    pub fn initial_state(mut self, h0: Vec<f32>) -> Self {
        self.initial_state = Some(h0);
        self
    }

    /// Whether that state is learnt as well (default no).
    pub fn learn_initial_state(mut self, yes: bool) -> Self {
        self.learn_initial_state = yes;
        self
    }

    /// Number of parameters as Keras counts them.
    pub fn parameters(&self, input: usize) -> usize {
        let biases = match (self.use_bias, self.reset_after) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        3 * self.units * (input + self.units + biases)
    }

    /// The layer on `input` features with Keras' initial weights.
    pub(crate) fn build(&self, input: usize, rng: &mut Rng) -> GruSpec {
        let mut spec = GruSpec::zeros(input, self.units);
        init::gru(&mut spec, rng);
        spec.activation = self.activation;
        spec.recurrent_activation = self.recurrent_activation;
        spec.reset_after = self.reset_after;
        spec.return_sequences = self.return_sequences;
        spec.go_backwards = self.go_backwards;
        spec.clip = self.clip;
        spec.use_bias = self.use_bias;
        spec.learn_initial_state = self.learn_initial_state;
        if let Some(h0) = &self.initial_state {
            spec.h0.clone_from(h0);
        }
        spec
    }
}

/// `keras.layers.Dense`; applied to each time step by itself where it sees a sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    pub(crate) units: usize,
    pub(crate) activation: Activation,
    pub(crate) use_bias: bool,
}

impl Dense {
    /// A linear layer of `units` outputs.
    pub fn new(units: usize) -> Self {
        Self {
            units,
            activation: Activation::Linear,
            use_bias: true,
        }
    }

    /// Function of the outputs (default linear).
    pub fn activation(mut self, f: Activation) -> Self {
        self.activation = f;
        self
    }

    /// Whether there is a bias (default yes).
    pub fn use_bias(mut self, yes: bool) -> Self {
        self.use_bias = yes;
        self
    }

    /// Number of parameters as Keras counts them.
    pub fn parameters(&self, input: usize) -> usize {
        self.units * (input + usize::from(self.use_bias))
    }

    /// The layer on `input` features with Keras' initial weights.
    pub(crate) fn build(&self, input: usize, rng: &mut Rng) -> DenseSpec {
        let mut spec = DenseSpec::zeros(input, self.units);
        init::dense(&mut spec, rng);
        spec.activation = self.activation;
        spec.use_bias = self.use_bias;
        spec
    }
}

/// `keras.layers.Bidirectional` around a [`Gru`]. Runs over windows only.
#[derive(Debug, Clone, PartialEq)]
pub struct Bidirectional {
    pub(crate) layer: Gru,
    pub(crate) merge_mode: Merge,
}

impl Bidirectional {
    /// Both directions of `layer`, concatenated.
    pub fn new(layer: Gru) -> Self {
        Self {
            layer,
            merge_mode: Merge::Concat,
        }
    }

    /// How the outputs are put together.
    pub fn merge_mode(mut self, merge: Merge) -> Self {
        self.merge_mode = merge;
        self
    }
}

/// Any layer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Layer {
    /// A GRU.
    Gru(Gru),
    /// A fully connected layer.
    Dense(Dense),
    /// A GRU in both directions.
    Bidirectional(Bidirectional),
}

impl From<Gru> for Layer {
    fn from(layer: Gru) -> Self {
        Self::Gru(layer)
    }
}

impl From<Dense> for Layer {
    fn from(layer: Dense) -> Self {
        Self::Dense(layer)
    }
}

impl From<Bidirectional> for Layer {
    fn from(layer: Bidirectional) -> Self {
        Self::Bidirectional(layer)
    }
}

impl Layer {
    /// Keras' class name.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Gru(_) => "GRU",
            Self::Dense(_) => "Dense",
            Self::Bidirectional(_) => "Bidirectional",
        }
    }

    /// Outputs per time step.
    pub fn units(&self) -> usize {
        match self {
            Self::Gru(l) => l.units,
            Self::Dense(l) => l.units,
            Self::Bidirectional(l) if l.merge_mode == Merge::Concat => 2 * l.layer.units,
            Self::Bidirectional(l) => l.layer.units,
        }
    }

    /// Number of parameters on `input` features, as Keras counts them.
    pub fn parameters(&self, input: usize) -> usize {
        match self {
            Self::Gru(l) => l.parameters(input),
            Self::Dense(l) => l.parameters(input),
            Self::Bidirectional(l) => 2 * l.layer.parameters(input),
        }
    }

    /// The GRU in it, if any.
    pub(crate) fn gru(&self) -> Option<&Gru> {
        match self {
            Self::Gru(l) => Some(l),
            Self::Dense(_) => None,
            Self::Bidirectional(l) => Some(&l.layer),
        }
    }

    /// The layer on `input` features with Keras' initial weights.
    pub(crate) fn build(&self, input: usize, rng: &mut Rng) -> LayerSpec {
        match self {
            Self::Gru(l) => LayerSpec::Gru(l.build(input, rng)),
            Self::Dense(l) => LayerSpec::Dense(l.build(input, rng)),
            Self::Bidirectional(l) => {
                let forward = l.layer.build(input, rng);
                let mut backward = l.layer.build(input, rng);
                backward.go_backwards = !forward.go_backwards;
                LayerSpec::Bidirectional {
                    forward,
                    backward,
                    merge: l.merge_mode,
                }
            }
        }
    }
}
