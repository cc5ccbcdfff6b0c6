//! Whole windows of models with layers that read them from the end: `go_backwards`, bidirectional.
//!
//! Such a layer needs the last time step first, so the window has to be in memory: as conditioned samples, and as
//! the outputs of the layers that stand before a layer which turns the order round. Everything happens in place,
//! one row a time step, row by row in the order that the layer reads; layers between two turns run together, as in a
//! stream. As in Keras, a layer that reads backwards gives its outputs in the order in which it has read.
//!
//! A bidirectional layer is two layers that read the same rows. While its second direction is to come, a row holds what both
//! read and, behind that, outputs of the first one: those of the same time step where the outputs of the second one are put
//! back in that order, else those of the row opposite, which are the ones of the same number in the order of reading. So
//! both times the second direction finds in the row that it reads what its outputs stand beside.

use crate::activation::Activation;
use crate::artifact::Direction;
#[cfg(any(feature = "readouts", test))]
use crate::artifact::Readout;
use crate::input::Sample;
use crate::kernel::{self, ACTIVATIONS};
use crate::layout::align4;
use crate::model::{Layer, Model};
use crate::state::{StateBuf, StateError, StateRef};
#[cfg(any(feature = "readouts", test))]
use crate::step::read_out;
use crate::step::{Output, put_beside};

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
    /// layer reads forward, else `steps` rows as wide as the widest of what has to be remembered of a step: of a sample, of the outputs
    /// in front of a layer that reads backwards, and around a bidirectional layer of what it reads and the outputs of its first
    /// direction, or of the outputs of both.
    pub fn window_len(&self, steps: usize) -> usize {
        steps.saturating_mul(self.row_len())
    }

    /// Words of a time step in a window.
    fn row_len(&self) -> usize {
        // What the layer in front gives, and what it reads.
        let (mut width, mut shared) = (self.features(), self.features());
        let mut row = 0;
        for layer in self.layers() {
            let outputs = layer.outputs();
            let mut needed = align4(width);
            if layer.is_second() {
                needed = outputs_at(shared) + align4(outputs - layer.units());
                needed = needed.max(align4(outputs));
            } else {
                shared = width;
            }
            if turns(layer) {
                // Before the first turn the samples are what is read.
                row = row.max(needed).max(align4(self.features()));
            }
            width = outputs;
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

    /// Pass after pass over the rows, each up to the layer before the next turn; the directions of a bidirectional layer
    /// have one pass each.
    #[inline(never)]
    fn passes(&self, state: &mut StateRef, words: &mut [i16], rows: usize) {
        let row_len = self.row_len();
        let layers = self.layers();
        let second = |n: usize| layers.get(n).is_some_and(Layer::is_second);
        let (mut from, mut forward) = (0, true);
        while let Some(first) = layers.get(from) {
            forward ^= turns(first);
            let mut to = from + 1;
            while !first.is_second() && layers.get(to).is_some_and(|l| !turns(l) && !second(to + 1))
            {
                to += 1;
            }
            let next = layers.get(to).map_or(Direction::Forward, direction);
            for i in 0..rows {
                let t = if forward { i } else { rows - 1 - i };
                self.pass(state, row_of(words, t, row_len), from, to);
                if next.is_second() {
                    let beside = match next {
                        Direction::Beside => t,
                        _ => rows - 1 - t,
                    };
                    self.put_down(state, row_of(words, beside, row_len), to - 1);
                }
            }
            // Its outputs are back in the order of the first direction.
            forward ^= direction(first) == Direction::Beside;
            from = to;
        }
        // Only now the outputs of the last layer are there.
        if layers.last().is_some_and(Layer::is_second) {
            for i in 0..rows {
                let t = if forward { i } else { rows - 1 - i };
                let row = row_of(words, t, row_len);
                let outputs = state
                    .words
                    .get_mut(self.facts.output_at..)
                    .unwrap_or_default();
                for (to, &y) in outputs.iter_mut().zip(row.iter()).take(self.outputs()) {
                    *to = y;
                }
                self.close(state);
            }
        }
    }

    /// One time step of the layers `from..to`, from its row and back to it, or to the read-out.
    fn pass(&self, state: &mut StateRef, row: &mut [i16], from: usize, to: usize) {
        let parts = self.parts();
        let StateBuf {
            counters, words, ..
        } = state;
        let rest = words.get_mut(parts.input..).unwrap_or_default();
        let Some((scratch, mut rest)) = rest.split_at_mut_checked(parts.scratch) else {
            return;
        };
        let mut done: Option<&[i16]> = None;
        for (i, layer) in self.layers().iter().enumerate().take(to) {
            let own = core::mem::take(&mut rest).split_at_mut_checked(layer.words());
            let Some((own, others)) = own else {
                return;
            };
            rest = others;
            if i < from {
                continue;
            }
            let Some((y, both)) = own.split_at_mut_checked(align4(layer.units())) else {
                return;
            };
            let x = done.unwrap_or(row);
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
            if let Layer::Gru(g) = layer
                && layer.is_second()
            {
                let first = row.get(outputs_at(g.input())..).unwrap_or_default();
                put_beside(layer, first, y, both);
                done = Some(both);
            }
        }
        let is_second = |n: usize| self.layers().get(n).is_some_and(Layer::is_second);
        if is_second(to) {
            // What this layer has read is in the row and stays there.
        } else if to < self.layers().len() || is_second(to - 1) {
            // Padding included: the next layer reads it as zeros.
            for (to, &y) in row.iter_mut().zip(done.unwrap_or_default()) {
                *to = y;
            }
        } else {
            self.close(state);
        }
    }

    /// Puts the outputs of a first direction, the layer `number`, behind what it has read.
    fn put_down(&self, state: &StateRef, row: &mut [i16], number: usize) {
        let parts = self.parts();
        let layers = self.layers().iter().take(number);
        let at = parts.input + parts.scratch + layers.map(Layer::words).sum::<usize>();
        let Some(Layer::Gru(first)) = self.layers().get(number) else {
            return;
        };
        let y = state.words.get(at..).unwrap_or_default();
        let row = row.get_mut(outputs_at(first.input())..).unwrap_or_default();
        for (to, &y) in row.iter_mut().zip(y).take(first.units()) {
            *to = y;
        }
    }

    /// The end of a time step: its outputs go to the read-out.
    fn close(&self, state: &mut StateRef) {
        #[cfg(any(feature = "readouts", test))]
        if self.readout() != Readout::Last {
            let StateBuf {
                steps,
                averaged,
                words,
                ..
            } = state;
            let outputs = words.get_mut(self.facts.output_at..).unwrap_or_default();
            let padded = align4(self.outputs());
            let (y, sums) = outputs.split_at_mut_checked(padded).unwrap_or_default();
            let y = y.get(..self.outputs()).unwrap_or_default();
            let sums = sums.get_mut(..self.parts().readout).unwrap_or_default();
            let more = read_out(self.readout(), *steps, *averaged, sums, y);
            *averaged = averaged.wrapping_add(more);
        }
        state.steps = state.steps.saturating_add(1);
    }
}

/// Where in a row the outputs of a first direction stand that reads so many inputs.
fn outputs_at(input: usize) -> usize {
    align4(input)
}

/// The row with this number.
fn row_of(words: &mut [i16], t: usize, row_len: usize) -> &mut [i16] {
    let row = words.get_mut(t * row_len..).unwrap_or_default();
    row.get_mut(..row_len).unwrap_or_default()
}

fn direction(layer: &Layer<'_>) -> Direction {
    match layer {
        Layer::Gru(g) => g.direction,
        Layer::Dense(_) => Direction::Forward,
    }
}

/// Whether a layer reads in the order that is the other way round.
fn turns(layer: &Layer<'_>) -> bool {
    direction(layer) != Direction::Forward
}
