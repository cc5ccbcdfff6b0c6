//! Whole windows of models with layers that read them from the end (`go_backwards`).
//!
//! Such a layer needs the last time step first, so the window has to be in memory: as conditioned samples, and as
//! the outputs of the layers that stand before a layer which turns the order round. Everything happens in place,
//! one row a time step, row by row in the order that the layer reads; layers between two turns run together, as in a
//! stream. As in Keras, a layer that reads backwards gives its outputs in the order in which it has read.

use crate::activation::Activation;
#[cfg(any(feature = "readouts", test))]
use crate::artifact::Readout;
use crate::input::Sample;
use crate::kernel::{self, ACTIVATIONS};
use crate::layout::align4;
use crate::model::{Layer, Model};
use crate::state::{StateBuf, StateError, StateRef};
use crate::step::Output;
#[cfg(any(feature = "readouts", test))]
use crate::step::read_out;

/// The memory of a window; `N` is at least [`Model::window_len`].
///
/// Its contents are of no use after a run, so several models can take turns.
pub type Window<const N: usize> = WindowBuf<[i16; N]>;

/// A [`Window`] of any size, to which `&mut Window<N>` coerces.
pub type WindowRef = WindowBuf<[i16]>;

/// See [`Window`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct WindowBuf<B: ?Sized> {
    // Rows of a multiple of four words: each starts at a multiple of four bytes.
    words: B,
}

impl<const N: usize> Window<N> {
    /// An empty window, for a `static` or the stack.
    pub const fn new() -> Self {
        Self { words: [0; N] }
    }
}

impl<const N: usize> Default for Window<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: AsRef<[i16]>> WindowBuf<B> {
    /// Its length in 16-bit words.
    pub fn words(&self) -> usize {
        self.words.as_ref().len()
    }
}

impl Model<'_> {
    /// The length `N` in 16-bit words of the [`Window<N>`] for a window of so many `steps`: 0 where every
    /// layer reads forward, else `steps` rows as wide as the widest of what has to be remembered of a step.
    pub fn window_len(&self, steps: usize) -> usize {
        steps.saturating_mul(self.row_len())
    }

    /// Words of a time step in a window.
    fn row_len(&self) -> usize {
        let mut width = self.features();
        let mut row = 0;
        for (i, layer) in self.layers().iter().enumerate() {
            if turns(layer) {
                // Before the first turn the samples are what is read.
                row = row.max(align4(width));
                if i > 0 {
                    row = row.max(align4(self.features()));
                }
            }
            width = layer.units();
        }
        row
    }

    /// Runs a window from a reset state and returns the outputs at its end, whatever the directions of the layers.
    ///
    /// `samples` are the time steps in their order, one value per feature each, as in [`step`](Self::step). Values that
    /// are not valid are treated in this order too; a step that is left out makes the window shorter. Hidden states are
    /// those after the last step that each layer has read. A model that streams gives the bits of its steps.
    ///
    /// # Errors
    /// [`StateError::ForeignModel`]; [`StateError::SampleLen`] if one sample has another length;
    /// [`StateError::TooSmall`] if `window` is shorter than [`window_len`](Self::window_len) of the samples. The
    /// state then is as it was.
    pub fn run_window<'s, S: Sample, X: AsRef<[S]>>(
        &self,
        state: &'s mut StateRef,
        window: &mut WindowRef,
        samples: &[X],
    ) -> Result<Output<'s>, StateError> {
        let row_len = self.row_len();
        let (have, need) = (window.words.len(), self.window_len(samples.len()));
        if have < need {
            return Err(StateError::TooSmall {
                have: have as u32,
                need: need as u32,
            });
        }
        let expected = self.features();
        if let Some(sample) = samples.iter().find(|s| s.as_ref().len() != expected) {
            return Err(StateError::SampleLen {
                found: sample.as_ref().len() as u32,
                expected: expected as u32,
            });
        }
        state.reset(self)?;
        if self.is_streaming() {
            for sample in samples {
                self.step(state, sample.as_ref())?;
            }
            return Ok(self.output(state));
        }
        let mut rows = 0;
        let mut rest = &mut window.words;
        for sample in samples {
            if !self.condition(state, sample.as_ref()) {
                continue;
            }
            let Some((row, others)) = rest.split_at_mut_checked(row_len) else {
                break;
            };
            for (to, &x) in row.iter_mut().zip(&state.words) {
                *to = x;
            }
            rest = others;
            rows += 1;
        }
        self.passes(state, &mut window.words, rows);
        Ok(self.output(state))
    }

    /// Pass after pass over the rows, each up to the layer before the next turn.
    #[inline(never)]
    fn passes(&self, state: &mut StateRef, words: &mut [i16], rows: usize) {
        let row_len = self.row_len();
        let layers = self.layers();
        let (mut from, mut forward) = (0, true);
        while let Some(first) = layers.get(from) {
            forward ^= turns(first);
            let rest = layers.get(from + 1..).unwrap_or_default();
            let to = from + 1 + rest.iter().position(turns).unwrap_or(rest.len());
            for i in 0..rows {
                let t = if forward { i } else { rows - 1 - i };
                let row = words.get_mut(t * row_len..).unwrap_or_default();
                let row = row.get_mut(..row_len).unwrap_or_default();
                self.pass(state, row, from, to);
            }
            from = to;
        }
    }

    /// One time step of the layers `from..to`, from its row and back to it, or to the read-out.
    fn pass(&self, state: &mut StateRef, row: &mut [i16], from: usize, to: usize) {
        let parts = self.parts();
        let StateBuf {
            steps,
            #[cfg(any(feature = "readouts", test))]
            averaged,
            counters,
            words,
            ..
        } = state;
        let rest = words.get_mut(parts.input..).unwrap_or_default();
        let Some((scratch, mut rest)) = rest.split_at_mut_checked(parts.scratch) else {
            return;
        };
        let mut done: Option<&[i16]> = None;
        for (i, layer) in self.layers().iter().enumerate().take(to) {
            let padded = align4(layer.units());
            let Some((y, others)) = core::mem::take(&mut rest).split_at_mut_checked(padded) else {
                return;
            };
            rest = others;
            if i < from {
                continue;
            }
            let x = match done {
                Some(x) => x,
                None => &*row,
            };
            match layer {
                Layer::Gru(g) => {
                    let saturated = kernel::gru(g, x, y, scratch);
                    counters.saturated = counters.saturated.saturating_add(saturated);
                }
                Layer::Dense(d) => {
                    kernel::dense(d, x, y);
                    if ACTIVATIONS && d.activation != Activation::Linear {
                        let y = y.get_mut(..d.units()).unwrap_or_default();
                        kernel::portable::dense_activation(d.activation, y);
                    }
                }
            }
            done = Some(y);
        }
        let Some(y) = done else {
            return;
        };
        if to < self.layers().len() {
            // Padding included: the next layer reads it as zeros.
            for (to, &y) in row.iter_mut().zip(y) {
                *to = y;
            }
            return;
        }
        #[cfg(any(feature = "readouts", test))]
        if self.readout() != Readout::Last {
            let y = y.get(..self.outputs()).unwrap_or(y);
            let sums = rest.get_mut(..parts.readout).unwrap_or_default();
            let more = read_out(self.readout(), *steps, *averaged, sums, y);
            *averaged = averaged.wrapping_add(more);
        }
        *steps = steps.saturating_add(1);
    }
}

/// Whether a layer reads in the order that is the other way round.
fn turns(layer: &Layer<'_>) -> bool {
    matches!(layer, Layer::Gru(g) if g.go_backwards)
}
