//! Fully connected layer in f32: `y = f(W·x + b)`.

use super::{
    Activation, Buffer, Dim, FloatError, absent_or,
    dot::{dot, dot_pair},
    exactly, held, in_range,
};

/// A borrowed, immutable fully connected layer; one row of weights per output.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DenseF32<'a> {
    input: usize,
    output: usize,
    w: &'a [f32],
    b: &'a [f32],
    activation: Activation,
}

impl<'a> DenseF32<'a> {
    /// A layer of `output` rows of `input` weights, row-major; `b` has `output` values or none.
    ///
    /// # Errors
    /// [`FloatError::Size`] and [`FloatError::Length`] when sizes and slices do not fit.
    pub const fn new(
        input: usize,
        output: usize,
        w: &'a [f32],
        b: &'a [f32],
        activation: Activation,
    ) -> Result<Self, FloatError> {
        held!(in_range(Dim::Input, input));
        held!(in_range(Dim::Output, output));
        held!(exactly(Buffer::Weights, w.len(), output * input));
        held!(absent_or(Buffer::Bias, b.len(), output));
        Ok(Self {
            input,
            output,
            w,
            b,
            activation,
        })
    }

    /// Number of inputs `I`.
    pub const fn input(&self) -> usize {
        self.input
    }

    /// Number of outputs `O`.
    pub const fn output(&self) -> usize {
        self.output
    }

    /// The function of the outputs.
    pub const fn activation(&self) -> Activation {
        self.activation
    }

    /// `out = f(W·x + b)` for one time step.
    ///
    /// # Errors
    /// [`FloatError::Length`] unless `x` has `I` and `out` has `O` values.
    pub fn apply(&self, x: &[f32], out: &mut [f32]) -> Result<(), FloatError> {
        exactly(Buffer::Input, x.len(), self.input)?;
        exactly(Buffer::Output, out.len(), self.output)?;
        self.logits(x, out);
        self.activation.apply_row(out);
        Ok(())
    }

    /// `W·x + b`, without the activation; lengths are checked by the caller.
    fn logits(&self, x: &[f32], out: &mut [f32]) {
        let mut bias = self.b.iter().copied().chain(core::iter::repeat(0.0));
        let mut bias = || bias.next().unwrap_or(0.0);
        let pairs = self.w.chunks((2 * self.input).max(1));
        for (y, rows) in out.chunks_mut(2).zip(pairs) {
            match y {
                [y0, y1] => [*y0, *y1] = dot_pair(rows, x, [bias(), bias()]),
                [y] => *y = dot(rows, x, bias()),
                _ => {}
            }
        }
    }
}
