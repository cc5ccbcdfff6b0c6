//! Float models on the device and the float reference for the quantized step (feature `f32`).
//!
//! Layers are borrowed, immutable views of row-major weights ([`GruF32`], [`DenseF32`],
//! [`BidirectionalF32`]); a [`ModelF32`] is a stack of them. The memory that changes (hidden
//! states and scratch) belongs to the caller: ask `state_len` and `scratch_len`, hand over
//! slices that are at least as long. Too short a slice is a [`FloatError`]; nothing panics,
//! nothing allocates.
//!
//! A model runs one time step at a time ([`ModelF32::step`]) or over a window
//! ([`ModelF32::run`]); both go through the same step, so their bits are equal. Sums are taken in
//! a fixed order (see [`dot`](mod@dot)), which the FPU code of Cortex-M keeps: the same products
//! and sums are formed on every core.
//!
//! ```
//! use gru_core::float::{Activation, DenseF32, GruF32, GruWeights, LayerF32, ModelF32};
//!
//! // One unit, one feature, zero weights but for the candidate's input weight and bias.
//! let weights = GruWeights { w: &[0.0, 0.0, 0.5], u: &[0.0; 3], b_in: &[0.0, 0.0, 0.1], b_rec: &[0.0; 3] };
//! let gru = GruF32::new(1, 1, weights)?;
//! let dense = DenseF32::new(1, 2, &[1.0, -1.0], &[], Activation::Softmax)?;
//! let layers = [LayerF32::Gru(gru), LayerF32::Dense(dense)];
//! let model = ModelF32::new(&layers)?;
//!
//! let (mut state, mut scratch, mut out) = ([0.0; 1], [0.0; 8], [0.0; 2]);
//! assert!(model.state_len() <= state.len() && model.scratch_len() <= scratch.len());
//! model.reset(&mut state)?;
//! model.step(&mut state, &[1.0], &mut out, &mut scratch)?;
//! assert!((state[0] - 0.5 * 0.6_f32.tanh()).abs() < 1e-6); // z = ½, n = tanh(0.6)
//! assert!((out[0] + out[1] - 1.0).abs() < 1e-6);
//! # Ok::<(), gru_core::float::FloatError>(())
//! ```

mod activation;
mod bidirectional;
mod dense;
pub mod dot;
#[cfg(gru_fpu)]
mod fpu;
mod gru;
mod math;
mod model;

pub use activation::{Activation, softmax};
pub use bidirectional::{BidirectionalF32, Merge};
pub use dense::DenseF32;
pub use gru::{GruF32, GruWeights, MaskedOutput, OutputOrder, Reset, Window};
pub use model::{LayerF32, ModelF32};

/// Largest accepted input size, number of units and number of outputs of a layer.
pub const MAX_DIM: usize = 1024;

/// What a slice handed to the float path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Buffer {
    /// Input weights of a GRU, `3H×I`, or weights of a Dense, `O×I`.
    Weights,
    /// Recurrent weights, `3H×H`.
    RecurrentWeights,
    /// Bias beside the input product, `3H` or none; of a Dense, `O` or none.
    Bias,
    /// Bias beside the recurrent product, `3H` or none.
    RecurrentBias,
    /// Learned initial state, `H`.
    InitialState,
    /// Hidden state.
    State,
    /// One time step, or a whole number of time steps.
    Input,
    /// Mask with one entry per time step.
    Mask,
    /// Output.
    Output,
    /// Scratch memory.
    Scratch,
}

/// A size of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Dim {
    /// Input size `I`.
    Input,
    /// Hidden size `H`.
    Units,
    /// Output size `O`.
    Output,
    /// Number of time steps of a window.
    Steps,
    /// Number of layers.
    Layers,
}

/// Why the float path refused a model or a call.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum FloatError {
    /// A slice is too short, or not of the length that the sizes demand.
    Length {
        /// Which slice.
        buffer: Buffer,
        /// Its length.
        have: usize,
        /// The length that is needed.
        need: usize,
    },
    /// A size outside `1..=MAX_DIM` (time steps and layers: zero).
    Size {
        /// Which size.
        dim: Dim,
        /// What was found.
        found: usize,
    },
    /// The layer takes another number of inputs than the layer before it gives.
    Mismatch {
        /// Number of the layer, from 0.
        layer: usize,
        /// Inputs of that layer.
        found: usize,
        /// Outputs of the layer before.
        expected: usize,
    },
    /// The activation cannot stand there: a softmax inside a GRU.
    Activation(Activation),
    /// `clip` is not a positive number.
    Clip(f32),
    /// The layer before this recurrent layer gives only its last output.
    NoSequence {
        /// Number of the recurrent layer, from 0.
        layer: usize,
    },
    /// The layer runs backwards in time: it needs a whole window, not a step.
    NeedsWindow {
        /// Number of the layer, from 0.
        layer: usize,
    },
    /// The directions of a bidirectional layer do not fit each other.
    Directions,
}

impl core::fmt::Display for FloatError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::Length { buffer, have, need } => {
                write!(f, "{buffer:?} slice has {have} elements, needed {need}")
            }
            Self::Size { dim, found } => {
                write!(f, "{dim:?} size {found} is outside 1..={MAX_DIM}")
            }
            Self::Mismatch {
                layer,
                found,
                expected,
            } => write!(f, "layer {layer} takes {found} inputs, expected {expected}"),
            Self::Activation(activation) => {
                write!(f, "activation {activation:?} is not possible inside a GRU")
            }
            Self::Clip(clip) => write!(f, "clip {clip} is not a positive number"),
            Self::NoSequence { layer } => write!(
                f,
                "layer {layer} is recurrent, but the layer before gives only its last output"
            ),
            Self::NeedsWindow { layer } => write!(
                f,
                "layer {layer} runs backwards in time and needs a whole window"
            ),
            Self::Directions => {
                f.write_str("the two directions have different sizes, sequences or senses of time")
            }
        }
    }
}

impl core::error::Error for FloatError {}

/// `?` is not for constant functions yet.
macro_rules! held {
    ($check:expr) => {
        if let Err(error) = $check {
            return Err(error);
        }
    };
}
pub(crate) use held;

/// `Ok` if the slice has exactly `need` elements.
const fn exactly(buffer: Buffer, have: usize, need: usize) -> Result<(), FloatError> {
    if have == need {
        Ok(())
    } else {
        Err(FloatError::Length { buffer, have, need })
    }
}

/// `Ok` if the slice is empty (the part is absent) or has exactly `need` elements.
const fn absent_or(buffer: Buffer, have: usize, need: usize) -> Result<(), FloatError> {
    if have == 0 {
        Ok(())
    } else {
        exactly(buffer, have, need)
    }
}

/// The first `need` elements, or a typed error.
fn first(buffer: Buffer, slice: &mut [f32], need: usize) -> Result<&mut [f32], FloatError> {
    let have = slice.len();
    slice
        .get_mut(..need)
        .ok_or(FloatError::Length { buffer, have, need })
}

/// The first `need` elements and the rest, or a typed error.
fn split(
    buffer: Buffer,
    slice: &mut [f32],
    need: usize,
) -> Result<(&mut [f32], &mut [f32]), FloatError> {
    let have = slice.len();
    slice
        .split_at_mut_checked(need)
        .ok_or(FloatError::Length { buffer, have, need })
}

/// `Ok` if the size is in `1..=MAX_DIM`.
const fn in_range(dim: Dim, found: usize) -> Result<(), FloatError> {
    if found >= 1 && found <= MAX_DIM {
        Ok(())
    } else {
        Err(FloatError::Size { dim, found })
    }
}
