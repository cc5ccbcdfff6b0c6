//! Two GRUs over one window, the second one from the last step to the first.

use super::{
    Buffer, FloatError, GruF32, MaskedOutput, OutputOrder, Window, exactly, gru::steps_of, split,
};

/// How the outputs of the two directions become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Merge {
    /// Forward outputs followed by backward outputs, `2H`.
    #[default]
    Concat,
    /// Sum.
    Sum,
    /// Product.
    Mul,
    /// Mean.
    Ave,
}

/// A borrowed, immutable pair of GRU layers over a window.
///
/// Cannot stream: the backward direction starts at the last step. The state is that of the forward
/// layer followed by that of the backward layer.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BidirectionalF32<'a> {
    forward: GruF32<'a>,
    backward: GruF32<'a>,
    merge: Merge,
}

impl<'a> BidirectionalF32<'a> {
    /// Pairs a layer that runs forward with one that runs backward (`go_backwards`).
    ///
    /// # Errors
    /// [`FloatError::Directions`] when input sizes or `return_sequences` differ, when units differ
    /// and are not concatenated, or when the senses of time are not forward and backward.
    pub const fn new(
        forward: GruF32<'a>,
        backward: GruF32<'a>,
        merge: Merge,
    ) -> Result<Self, FloatError> {
        let fits = forward.input() == backward.input()
            && forward.return_sequences() == backward.return_sequences()
            && (matches!(merge, Merge::Concat) || forward.units() == backward.units())
            && !forward.go_backwards()
            && backward.go_backwards();
        if fits {
            Ok(Self {
                forward,
                backward,
                merge,
            })
        } else {
            Err(FloatError::Directions)
        }
    }

    /// Input size `I`.
    pub const fn input(&self) -> usize {
        self.forward.input()
    }

    /// Output size per step: the sum of both units when concatenated, else `H`.
    pub const fn output(&self) -> usize {
        match self.merge {
            Merge::Concat => self.forward.units() + self.backward.units(),
            _ => self.forward.units(),
        }
    }

    /// Whether a window gives every output.
    pub const fn return_sequences(&self) -> bool {
        self.forward.return_sequences()
    }

    /// Number of state values.
    pub const fn state_len(&self) -> usize {
        self.forward.units() + self.backward.units()
    }

    /// Number of values that a window of `steps` steps gives.
    pub const fn output_len(&self, steps: usize) -> usize {
        if self.return_sequences() {
            steps * self.output()
        } else {
            self.output()
        }
    }

    /// Number of scratch values for a window of `steps` steps: the outputs of both directions and
    /// the scratch of a step.
    pub const fn scratch_len(&self, steps: usize) -> usize {
        let (f, b) = (self.forward.scratch_len(), self.backward.scratch_len());
        let step = if f > b { f } else { b };
        self.forward.output_len(steps) + self.backward.output_len(steps) + step
    }

    /// Sets both states to their initial values.
    ///
    /// # Errors
    /// [`FloatError::Length`] unless `state` has [`state_len`](Self::state_len) values.
    pub fn reset(&self, state: &mut [f32]) -> Result<(), FloatError> {
        exactly(Buffer::State, state.len(), self.state_len())?;
        let (f, b) = split(Buffer::State, state, self.forward.units())?;
        self.forward.reset(f)?;
        self.backward.reset(b)
    }

    /// Runs both directions over a window (`xs`, row-major `T×I`) and merges their outputs.
    ///
    /// Outputs stand in the order of time. A masked step gives zeros (as in Keras, whose
    /// `Bidirectional` sets `zero_output_for_mask`), merged as such.
    ///
    /// # Errors
    /// [`FloatError::Length`] and [`FloatError::Size`] as in [`GruF32::run`].
    pub fn run(
        &self,
        state: &mut [f32],
        xs: &[f32],
        mask: Option<&[bool]>,
        out: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), FloatError> {
        let steps = steps_of(xs, self.input(), mask)?;
        exactly(Buffer::State, state.len(), self.state_len())?;
        exactly(Buffer::Output, out.len(), self.output_len(steps))?;
        let (state_f, state_b) = split(Buffer::State, state, self.forward.units())?;
        let (out_f, rest) = split(Buffer::Scratch, scratch, self.forward.output_len(steps))?;
        let (out_b, rest) = split(Buffer::Scratch, rest, self.backward.output_len(steps))?;
        let window = Window {
            mask,
            masked: MaskedOutput::Zero,
            order: OutputOrder::Time,
        };
        self.forward.run(state_f, xs, window, out_f, rest)?;
        self.backward.run(state_b, xs, window, out_b, rest)?;
        let (h_f, h_b) = (self.forward.units(), self.backward.units());
        let rows = out_f
            .chunks_exact(h_f.max(1))
            .zip(out_b.chunks_exact(h_b.max(1)));
        for (y, (f, b)) in out.chunks_exact_mut(self.output().max(1)).zip(rows) {
            match self.merge {
                Merge::Concat => {
                    for (y, v) in y.iter_mut().zip(f.iter().chain(b)) {
                        *y = *v;
                    }
                }
                Merge::Sum => merge_rows(y, f, b, |f, b| f + b),
                Merge::Mul => merge_rows(y, f, b, |f, b| f * b),
                Merge::Ave => merge_rows(y, f, b, |f, b| 0.5 * (f + b)),
            }
        }
        Ok(())
    }
}

/// `y = op(f, b)`, element by element.
fn merge_rows(y: &mut [f32], f: &[f32], b: &[f32], op: impl Fn(f32, f32) -> f32) {
    for (y, (f, b)) in y.iter_mut().zip(f.iter().zip(b)) {
        *y = op(*f, *b);
    }
}
