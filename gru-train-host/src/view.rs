//! A float model as `gru-core` runs it: borrowed views of a [`ModelSpec`].

use gru_core::float::{
    self, BidirectionalF32, DenseF32, FloatError, GruF32, GruWeights, LayerF32, Reset,
};

use crate::spec::{Activation, DenseSpec, GruSpec, LayerSpec, Merge, ModelSpec};

impl From<Activation> for float::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Linear => Self::Linear,
            Activation::Tanh => Self::Tanh,
            Activation::Sigmoid => Self::Sigmoid,
            Activation::HardSigmoid => Self::HardSigmoid,
            Activation::HardSigmoidV2 => Self::HardSigmoidAffine {
                alpha: 0.2,
                beta: 0.5,
            },
            Activation::HardTanh => Self::HardTanh,
            Activation::Relu => Self::Relu,
            Activation::Relu6 => Self::Relu6,
            Activation::LeakyRelu => Self::LeakyRelu { slope: 0.2 },
            Activation::Elu => Self::Elu,
            Activation::Selu => Self::Selu,
            Activation::Softplus => Self::Softplus,
            Activation::Softsign => Self::Softsign,
            Activation::Silu => Self::Silu,
            Activation::Softmax => Self::Softmax,
        }
    }
}

impl From<Merge> for float::Merge {
    fn from(merge: Merge) -> Self {
        match merge {
            Merge::Concat => Self::Concat,
            Merge::Sum => Self::Sum,
            Merge::Mul => Self::Mul,
            Merge::Ave => Self::Ave,
        }
    }
}

impl GruSpec {
    /// The layer as `gru-core` runs it in f32.
    ///
    /// # Errors
    /// Whatever [`GruF32`] refuses: sizes, lengths, a softmax, a bad clip.
    pub fn view(&self) -> Result<GruF32<'_>, FloatError> {
        let weights = GruWeights {
            w: &self.w,
            u: &self.u,
            b_in: &self.b_in,
            b_rec: &self.b_rec,
        };
        let reset = if self.reset_after {
            Reset::After
        } else {
            Reset::Before
        };
        Ok(GruF32::new(self.input, self.units, weights)?
            .with_activations(self.activation.into(), self.recurrent_activation.into())?
            .with_reset(reset)
            .with_clip(self.clip)?
            .with_initial_state(&self.h0)?
            .with_return_sequences(self.return_sequences)
            .with_go_backwards(self.go_backwards))
    }
}

impl DenseSpec {
    /// The layer as `gru-core` runs it in f32.
    ///
    /// # Errors
    /// Sizes and lengths that [`DenseF32`] refuses.
    pub fn view(&self) -> Result<DenseF32<'_>, FloatError> {
        let activation = self.activation.into();
        DenseF32::new(self.input, self.units, &self.w, &self.b, activation)
    }
}

impl LayerSpec {
    /// The layer as `gru-core` runs it in f32.
    ///
    /// # Errors
    /// As the views of its parts, and directions that do not fit each other.
    pub fn view(&self) -> Result<LayerF32<'_>, FloatError> {
        Ok(match self {
            Self::Gru(g) => LayerF32::Gru(g.view()?),
            Self::Dense(d) => LayerF32::Dense(d.view()?),
            Self::Bidirectional {
                forward,
                backward,
                merge,
            } => LayerF32::Bidirectional(BidirectionalF32::new(
                forward.view()?,
                backward.view()?,
                (*merge).into(),
            )?),
        })
    }
}

impl ModelSpec {
    /// The layers as `gru-core` runs them in f32; hand them to
    /// [`ModelF32::new`](gru_core::float::ModelF32::new).
    ///
    /// # Errors
    /// As [`LayerSpec::view`].
    pub fn views(&self) -> Result<Vec<LayerF32<'_>>, FloatError> {
        self.layers.iter().map(LayerSpec::view).collect()
    }
}
