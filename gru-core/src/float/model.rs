//! A stack of layers in f32, one time step at a time or over a window.

use super::{
    BidirectionalF32, Buffer, DenseF32, Dim, FloatError, GruF32, Window, exactly, first,
    gru::{is_valid, show, steps_of},
    split,
};

/// One layer of a [`ModelF32`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum LayerF32<'a> {
    /// A GRU.
    Gru(GruF32<'a>),
    /// A fully connected layer, applied to each time step by itself.
    Dense(DenseF32<'a>),
    /// Two GRUs over a window.
    Bidirectional(BidirectionalF32<'a>),
}

impl LayerF32<'_> {
    /// Input size per time step.
    pub const fn input(&self) -> usize {
        match self {
            Self::Gru(l) => l.input(),
            Self::Dense(l) => l.input(),
            Self::Bidirectional(l) => l.input(),
        }
    }

    /// Output size per time step.
    pub const fn output(&self) -> usize {
        match self {
            Self::Gru(l) => l.units(),
            Self::Dense(l) => l.output(),
            Self::Bidirectional(l) => l.output(),
        }
    }

    /// Number of state values.
    pub const fn state_len(&self) -> usize {
        match self {
            Self::Gru(l) => l.units(),
            Self::Dense(_) => 0,
            Self::Bidirectional(l) => l.state_len(),
        }
    }

    /// Whether the layer needs its whole window before it can answer.
    pub const fn needs_window(&self) -> bool {
        match self {
            Self::Gru(l) => l.go_backwards(),
            Self::Dense(_) => false,
            Self::Bidirectional(_) => true,
        }
    }

    /// Whether the layer gives only the output of the last step of a window.
    const fn ends_sequence(&self) -> bool {
        match self {
            Self::Gru(l) => !l.return_sequences(),
            Self::Dense(_) => false,
            Self::Bidirectional(l) => !l.return_sequences(),
        }
    }

    /// Scratch values of a run over `steps` steps.
    const fn scratch_len(&self, steps: usize) -> usize {
        match self {
            Self::Gru(l) => l.scratch_len(),
            Self::Dense(_) => 0,
            Self::Bidirectional(l) => l.scratch_len(steps),
        }
    }
}

/// A borrowed, immutable stack of layers, checked against each other.
///
/// A layer that gives only its last output ends the sequence: layers behind it are applied once
/// per window. While streaming they are applied at every step, as if the window ended there.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ModelF32<'a> {
    layers: &'a [LayerF32<'a>],
    input: usize,
    output: usize,
    /// Whether the output of a window is one row only.
    last_only: bool,
}

impl<'a> ModelF32<'a> {
    /// A model of these layers, from input to output.
    ///
    /// # Errors
    /// [`FloatError::Size`] without layers, [`FloatError::Mismatch`] where sizes do not fit,
    /// [`FloatError::NoSequence`] for a recurrent layer behind one that gives its last output only.
    pub const fn new(layers: &'a [LayerF32<'a>]) -> Result<Self, FloatError> {
        let (Some(head), Some(tail)) = (layers.first(), layers.last()) else {
            return Err(FloatError::Size {
                dim: Dim::Layers,
                found: 0,
            });
        };
        let mut expected = head.input();
        let mut last_only = false;
        let (mut rest, mut layer) = (layers, 0);
        while let [l, others @ ..] = rest {
            if l.input() != expected {
                return Err(FloatError::Mismatch {
                    layer,
                    found: l.input(),
                    expected,
                });
            }
            if last_only && l.state_len() > 0 {
                return Err(FloatError::NoSequence { layer });
            }
            last_only |= l.ends_sequence();
            expected = l.output();
            layer += 1;
            rest = others;
        }
        Ok(Self {
            layers,
            input: head.input(),
            output: tail.output(),
            last_only,
        })
    }

    /// The layers.
    pub const fn layers(&self) -> &'a [LayerF32<'a>] {
        self.layers
    }

    /// Input size `I` per time step.
    pub const fn input(&self) -> usize {
        self.input
    }

    /// Output size `O` per time step.
    pub const fn output(&self) -> usize {
        self.output
    }

    /// Number of state values: the hidden states of all layers, one after the other.
    pub const fn state_len(&self) -> usize {
        let (mut rest, mut sum) = (self.layers, 0);
        while let [layer, others @ ..] = rest {
            sum += layer.state_len();
            rest = others;
        }
        sum
    }

    /// Number of values that a window of `steps` steps gives.
    pub const fn output_len(&self, steps: usize) -> usize {
        if self.last_only {
            self.output
        } else {
            steps * self.output
        }
    }

    /// The first layer that needs a whole window, if there is one: such a model cannot stream.
    pub const fn needs_window(&self) -> Option<usize> {
        let (mut rest, mut number) = (self.layers, 0);
        while let [layer, others @ ..] = rest {
            if layer.needs_window() {
                return Some(number);
            }
            number += 1;
            rest = others;
        }
        None
    }

    /// Number of scratch values that [`step`](Self::step) needs: the largest of the layers' own,
    /// and one row for each layer without a state, the last layer excepted.
    pub const fn scratch_len(&self) -> usize {
        let (mut rest, mut rows) = (self.layers, 0);
        while let [layer, others @ ..] = rest {
            if layer.state_len() == 0 && !others.is_empty() {
                rows += layer.output();
            }
            rest = others;
        }
        self.own_scratch_len(1) + rows
    }

    /// Number of scratch values that [`run`](Self::run) needs for a window of `steps` steps.
    ///
    /// A model that can stream needs no more than a step does. With a layer that runs backwards,
    /// two buffers hold the sequences of a layer's input and output, and a bidirectional layer
    /// the outputs of both directions: about `2·T·max(O) + 2·T·H` values.
    pub const fn window_scratch_len(&self, steps: usize) -> usize {
        if self.needs_window().is_none() {
            return self.scratch_len();
        }
        self.own_scratch_len(steps) + 2 * self.row_buffer_len(steps)
    }

    /// Values of the longest sequence between two layers.
    const fn row_buffer_len(&self, steps: usize) -> usize {
        let (mut rest, mut widest) = (self.layers, 0);
        while let [layer, others @ ..] = rest {
            if layer.output() > widest && !others.is_empty() {
                widest = layer.output();
            }
            rest = others;
        }
        steps * widest
    }

    /// Most scratch values that a layer needs by itself for a run over `steps` steps.
    const fn own_scratch_len(&self, steps: usize) -> usize {
        let (mut rest, mut most) = (self.layers, 0);
        while let [layer, others @ ..] = rest {
            let own = layer.scratch_len(steps);
            if own > most {
                most = own;
            }
            rest = others;
        }
        most
    }

    /// Sets all states to their initial values.
    ///
    /// # Errors
    /// [`FloatError::Length`] unless `state` has [`state_len`](Self::state_len) values.
    pub fn reset(&self, state: &mut [f32]) -> Result<(), FloatError> {
        exactly(Buffer::State, state.len(), self.state_len())?;
        let mut rest = state;
        for layer in self.layers {
            let (own, tail) = split(Buffer::State, rest, layer.state_len())?;
            rest = tail;
            match layer {
                LayerF32::Gru(l) => l.reset(own)?,
                LayerF32::Dense(_) => {}
                LayerF32::Bidirectional(l) => l.reset(own)?,
            }
        }
        Ok(())
    }

    /// One time step through all layers; `out` receives `O` values.
    ///
    /// # Errors
    /// [`FloatError::NeedsWindow`] for a model with a layer that runs backwards;
    /// [`FloatError::Length`] unless `state`, `x` and `out` have the lengths of the model and
    /// `scratch` at least [`scratch_len`](Self::scratch_len) values. The state is untouched then.
    pub fn step(
        &self,
        state: &mut [f32],
        x: &[f32],
        out: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), FloatError> {
        self.check_streaming(state, scratch)?;
        exactly(Buffer::Input, x.len(), self.input)?;
        exactly(Buffer::Output, out.len(), self.output)?;
        self.pass(state, x, Some(out), scratch)
    }

    /// Runs over a window of whole time steps (`xs`, row-major `T×I`), starting at `state`, which
    /// holds the last states afterwards; [`reset`](Self::reset) it first unless the windows are
    /// consecutive parts of one stream.
    ///
    /// `out` receives [`output_len`](Self::output_len) values. A step whose `mask` entry is
    /// `false` touches no state; recurrent layers repeat their last output there (zeros before the
    /// first valid step), as Keras does. Equal to [`step`](Self::step) over the window, bit for
    /// bit, for a model that can stream.
    ///
    /// # Errors
    /// [`FloatError::Length`] when a slice does not fit (scratch:
    /// [`window_scratch_len`](Self::window_scratch_len)), [`FloatError::Size`] for no step at all.
    pub fn run(
        &self,
        state: &mut [f32],
        xs: &[f32],
        mask: Option<&[bool]>,
        out: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), FloatError> {
        let steps = steps_of(xs, self.input, mask)?;
        exactly(Buffer::State, state.len(), self.state_len())?;
        exactly(Buffer::Output, out.len(), self.output_len(steps))?;
        first(Buffer::Scratch, scratch, self.window_scratch_len(steps))?;
        if self.needs_window().is_some() {
            return self.run_by_layer(state, xs, mask, steps, out, scratch);
        }
        let mut rows = out.chunks_exact_mut(self.output.max(1));
        let mut any = false;
        for (t, x) in xs.chunks_exact(self.input.max(1)).enumerate() {
            let valid = is_valid(mask, t);
            any |= valid;
            let row = if self.last_only && t + 1 < steps {
                None
            } else {
                rows.next()
            };
            // Without a recurrent layer there is nothing to hold: a mask changes nothing then.
            if valid || self.state_len() == 0 {
                self.pass(state, x, row, scratch)?;
            } else {
                self.pass_masked(state, row, scratch, any)?;
            }
        }
        Ok(())
    }

    /// Lengths of state and scratch for streaming.
    fn check_streaming(&self, state: &[f32], scratch: &[f32]) -> Result<(), FloatError> {
        if let Some(layer) = self.needs_window() {
            return Err(FloatError::NeedsWindow { layer });
        }
        exactly(Buffer::State, state.len(), self.state_len())?;
        let (have, need) = (scratch.len(), self.scratch_len());
        if have < need {
            let buffer = Buffer::Scratch;
            return Err(FloatError::Length { buffer, have, need });
        }
        Ok(())
    }

    /// One valid step through all layers. Without `out`, layers behind the end of the sequence are
    /// left out.
    fn pass(
        &self,
        state: &mut [f32],
        x: &[f32],
        mut out: Option<&mut [f32]>,
        scratch: &mut [f32],
    ) -> Result<(), FloatError> {
        let (own, mut rows) = split(Buffer::Scratch, scratch, self.own_scratch_len(1))?;
        let mut states = state;
        let mut current = x;
        let last = self.layers.len().saturating_sub(1);
        for (index, layer) in self.layers.iter().enumerate() {
            match layer {
                LayerF32::Gru(l) => {
                    let (h, tail) = split(Buffer::State, states, l.units())?;
                    states = tail;
                    l.step(h, current, own)?;
                    current = h;
                    if out.is_none() && !l.return_sequences() {
                        return Ok(());
                    }
                    if index == last
                        && let Some(out) = out.take()
                    {
                        show(out, current, true);
                    }
                }
                LayerF32::Dense(l) if index == last => {
                    if let Some(out) = out.take() {
                        l.apply(current, out)?;
                    }
                }
                LayerF32::Dense(l) => {
                    let (y, tail) = split(Buffer::Scratch, rows, l.output())?;
                    rows = tail;
                    l.apply(current, y)?;
                    current = y;
                }
                LayerF32::Bidirectional(_) => return Err(FloatError::NeedsWindow { layer: index }),
            }
        }
        Ok(())
    }

    /// What the layers show at a masked step: no state changes, the last recurrent layer repeats
    /// its output (zeros unless `any` step before was valid), and the Dense layers behind it are
    /// applied to that.
    fn pass_masked(
        &self,
        state: &[f32],
        mut out: Option<&mut [f32]>,
        scratch: &mut [f32],
        any: bool,
    ) -> Result<(), FloatError> {
        let (own, mut rows) = split(Buffer::Scratch, scratch, self.own_scratch_len(1))?;
        own.fill(0.0);
        let zeros: &[f32] = own;
        let mut states = state;
        let mut current: Option<&[f32]> = None;
        let last = self.layers.len().saturating_sub(1);
        for (index, layer) in self.layers.iter().enumerate() {
            match layer {
                LayerF32::Gru(l) => {
                    let Some((h, tail)) = states.split_at_checked(l.units()) else {
                        return Ok(());
                    };
                    states = tail;
                    let shown = if any { Some(h) } else { zeros.get(..l.units()) };
                    current = shown;
                    if index == last
                        && let (Some(out), Some(shown)) = (out.take(), shown)
                    {
                        show(out, shown, true);
                    }
                }
                LayerF32::Dense(l) => {
                    let Some(x) = current else { continue };
                    if index == last {
                        if let Some(out) = out.take() {
                            l.apply(x, out)?;
                        }
                    } else {
                        let (y, tail) = split(Buffer::Scratch, rows, l.output())?;
                        rows = tail;
                        l.apply(x, y)?;
                        current = Some(y);
                    }
                }
                LayerF32::Bidirectional(_) => return Err(FloatError::NeedsWindow { layer: index }),
            }
        }
        Ok(())
    }

    /// One layer after the other over the whole window, between two buffers.
    fn run_by_layer(
        &self,
        state: &mut [f32],
        xs: &[f32],
        mask: Option<&[bool]>,
        steps: usize,
        out: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), FloatError> {
        let half = self.row_buffer_len(steps);
        let (a, rest) = split(Buffer::Scratch, scratch, half)?;
        let (b, own) = split(Buffer::Scratch, rest, half)?;
        let mut states = state;
        let mut current = xs.len();
        let mut rows = steps;
        let last = self.layers.len().saturating_sub(1);
        for (index, layer) in self.layers.iter().enumerate() {
            // The output of layer 0 goes to `a`, that of layer 1 to `b`, and so on.
            let (from, to) = if index % 2 == 0 {
                (&*b, &mut *a)
            } else {
                (&*a, &mut *b)
            };
            let from = if index == 0 { xs } else { from };
            let from = from.get(..current).unwrap_or(&[]);
            if layer.ends_sequence() {
                rows = 1;
            }
            current = rows * layer.output();
            let to = if index == last {
                exactly(Buffer::Output, out.len(), current)?;
                &mut *out
            } else {
                first(Buffer::Scratch, to, current)?
            };
            let (h, tail) = split(Buffer::State, states, layer.state_len())?;
            states = tail;
            match layer {
                LayerF32::Gru(l) => {
                    let window = Window {
                        mask,
                        ..Window::default()
                    };
                    l.run(h, from, window, to, own)?;
                }
                LayerF32::Dense(l) => {
                    let to = to.chunks_exact_mut(l.output().max(1));
                    for (x, y) in from.chunks_exact(l.input().max(1)).zip(to) {
                        l.apply(x, y)?;
                    }
                }
                LayerF32::Bidirectional(l) => l.run(h, from, mask, to, own)?,
            }
        }
        Ok(())
    }
}
