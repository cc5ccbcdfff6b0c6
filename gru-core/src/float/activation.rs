//! Activations in f32, with Keras 3's definitions.

use super::math;

/// Scalar function applied to each unit; [`Softmax`](Self::Softmax) acts on a whole row.
///
/// Definitions are those of Keras 3. NaN gives NaN.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Activation {
    /// `x`
    #[default]
    Linear,
    /// `tanh(x)`
    Tanh,
    /// `1 / (1 + e^(−x))`
    Sigmoid,
    /// `relu6(x + 3) / 6` (Keras 3)
    HardSigmoid,
    /// `clamp(alpha·x + beta, 0, 1)` (ONNX; Keras 2 with 0.2 and 0.5)
    HardSigmoidAffine {
        /// Slope.
        alpha: f32,
        /// Value at 0.
        beta: f32,
    },
    /// `clamp(x, −1, 1)`
    HardTanh,
    /// `max(x, 0)`
    Relu,
    /// `clamp(x, 0, 6)`
    Relu6,
    /// `x` for `x ≥ 0`, else `slope·x` (Keras: 0.2)
    LeakyRelu {
        /// Slope for negative `x`.
        slope: f32,
    },
    /// `x` for `x > 0`, else `e^x − 1`
    Elu,
    /// `1.0507·x` for `x > 0`, else `1.0507·1.67326·(e^x − 1)`
    Selu,
    /// `ln(1 + e^x)`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// `x · sigmoid(x)` (swish)
    Silu,
    /// `x · HardSigmoid(x)` (hard swish)
    HardSilu,
    /// `x · Φ(x)` with the error function
    Gelu,
    /// `½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`
    GeluTanh,
    /// `x · tanh(softplus(x))`
    Mish,
    /// `e^x`
    Exponential,
    /// `e^(x_i) / Σ_j e^(x_j)`; output of a Dense only
    Softmax,
}

/// `λ` of SELU.
const SELU_SCALE: f32 = 1.050_701;
/// `λ·α` of SELU.
const SELU_SCALE_ALPHA: f32 = 1.758_099_3;
/// `√(2/π)`
const SQRT_2_OVER_PI: f32 = 0.797_884_6;

impl Activation {
    /// Whether outputs stay within fixed limits whatever the input (softmax included).
    pub const fn is_bounded(self) -> bool {
        matches!(
            self,
            Self::Tanh
                | Self::Sigmoid
                | Self::HardSigmoid
                | Self::HardSigmoidAffine { .. }
                | Self::HardTanh
                | Self::Relu6
                | Self::Softsign
                | Self::Softmax
        )
    }

    /// The function of one value. [`Softmax`](Self::Softmax) of one value alone is 1.
    #[inline(never)]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Linear => x,
            Self::Tanh => math::tanh(x),
            Self::Sigmoid => math::sigmoid(x),
            Self::HardSigmoid => math::limit(x + 3.0, 0.0, 6.0) / 6.0,
            Self::HardSigmoidAffine { alpha, beta } => math::limit(alpha * x + beta, 0.0, 1.0),
            Self::HardTanh => math::limit(x, -1.0, 1.0),
            Self::Relu if x < 0.0 => 0.0,
            Self::Relu => x,
            Self::Relu6 => math::limit(x, 0.0, 6.0),
            Self::LeakyRelu { slope } if x < 0.0 => slope * x,
            Self::LeakyRelu { .. } => x,
            Self::Elu if x > 0.0 => x,
            Self::Elu => math::exp_m1(x),
            Self::Selu if x > 0.0 => SELU_SCALE * x,
            Self::Selu => SELU_SCALE_ALPHA * math::exp_m1(x),
            Self::Softplus => math::softplus(x),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Silu => x * math::sigmoid(x),
            Self::HardSilu => x * (math::limit(x + 3.0, 0.0, 6.0) / 6.0),
            Self::Gelu => 0.5 * x * (1.0 + math::erf(x * core::f32::consts::FRAC_1_SQRT_2)),
            Self::GeluTanh => {
                0.5 * x * (1.0 + math::tanh(SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)))
            }
            Self::Mish => x * math::tanh(math::softplus(x)),
            Self::Exponential => math::exp(x),
            Self::Softmax => 1.0,
        }
    }

    /// Applies the function to a row in place; the row matters to [`Softmax`](Self::Softmax) only.
    pub fn apply_row(self, row: &mut [f32]) {
        match self {
            Self::Linear => {}
            Self::Softmax => softmax(row),
            _ => {
                for v in row {
                    *v = self.apply(*v);
                }
            }
        }
    }
}

/// `e^(x_i − max) / Σ_j e^(x_j − max)` in place: no overflow for finite logits.
pub fn softmax(row: &mut [f32]) {
    let max = row.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v));
    let mut sum = 0.0;
    for v in &mut *row {
        *v = math::exp_negative(*v - max);
        sum += *v;
    }
    for v in row {
        *v /= sum;
    }
}
