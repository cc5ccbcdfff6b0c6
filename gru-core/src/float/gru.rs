//! GRU layer in f32.
//!
//! With `x` (input, `I` values), `h` (hidden state, `H` values), rows stored in the order r, z, n:
//!
//! ```text
//! r  = g(W_r·x + b_in_r + U_r·h + b_rec_r)
//! z  = g(W_z·x + b_in_z + U_z·h + b_rec_z)
//! n  = f(W_n·x + b_in_n + r ⊙ (U_n·h + b_rec_n))     Reset::After  (Keras' default, PyTorch)
//! n  = f(W_n·x + b_in_n + U_n·(r ⊙ h) + b_rec_n)     Reset::Before (ONNX' default)
//! h' = (1 − z) ⊙ n + z ⊙ h
//! ```
//!
//! With a clip `c`, the argument of every `g` and `f` is clamped to `[−c, c]` first (ONNX).
//! Sources: Cho et al. 2014 (arXiv 1406.1078, `Reset::Before`), the ONNX operator GRU and the
//! Keras layer GRU (both forms).

use super::{
    Activation, Buffer, Dim, FloatError, absent_or,
    dot::{Gates, Sums, dot, dot_pair, layer},
    exactly, first, held, in_range, math, split,
};

/// Where the reset gate acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reset {
    /// On the recurrent product of the candidate (Keras `reset_after=True`, PyTorch, ONNX
    /// `linear_before_reset=1`).
    #[default]
    After,
    /// On the state, before the recurrent product (Keras `reset_after=False`, ONNX
    /// `linear_before_reset=0`).
    Before,
}

/// Weights of a GRU layer, row-major, rows in the order r, z, n.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GruWeights<'a> {
    /// Input weights `3H×I`.
    pub w: &'a [f32],
    /// Recurrent weights `3H×H`.
    pub u: &'a [f32],
    /// Bias beside the input product, `3H`; empty for none.
    pub b_in: &'a [f32],
    /// Bias beside the recurrent product, `3H`; empty for none.
    pub b_rec: &'a [f32],
}

/// What a layer with `return_sequences` gives at a masked step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MaskedOutput {
    /// The output of the last valid step of this window, zeros before the first one (Keras).
    #[default]
    Repeat,
    /// Zeros (PyTorch's packed sequences, ONNX `sequence_lens`).
    Zero,
}

/// In which order a layer that runs backwards gives its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum OutputOrder {
    /// As computed: the first output belongs to the last input step (Keras `go_backwards`).
    #[default]
    Processing,
    /// As in the input: the output of a step stands at that step (PyTorch, ONNX).
    Time,
}

/// How to run a layer over a window; the default is a window without a mask, as Keras does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Window<'m> {
    /// One entry per time step; a step whose entry is `false` does not touch the state.
    pub mask: Option<&'m [bool]>,
    /// What a masked step gives.
    pub masked: MaskedOutput,
    /// Order of the outputs of a layer that runs backwards.
    pub order: OutputOrder,
}

/// A borrowed, immutable GRU layer.
///
/// [`new`](Self::new) gives Keras' defaults; the `with_…` functions change one option each.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GruF32<'a> {
    input: usize,
    units: usize,
    weights: GruWeights<'a>,
    activation: Activation,
    recurrent_activation: Activation,
    reset: Reset,
    clip: Option<f32>,
    h0: &'a [f32],
    return_sequences: bool,
    go_backwards: bool,
}

impl<'a> GruF32<'a> {
    /// A layer of `units` units on `input` features with Keras' defaults: tanh, sigmoid, reset
    /// after the product, only the last output, forward in time, zero initial state.
    ///
    /// # Errors
    /// [`FloatError::Size`] outside `1..=MAX_DIM`; [`FloatError::Length`] when a slice of weights
    /// does not fit the sizes (a bias may be empty).
    pub const fn new(
        input: usize,
        units: usize,
        weights: GruWeights<'a>,
    ) -> Result<Self, FloatError> {
        held!(in_range(Dim::Input, input));
        held!(in_range(Dim::Units, units));
        held!(exactly(Buffer::Weights, weights.w.len(), 3 * units * input));
        held!(exactly(
            Buffer::RecurrentWeights,
            weights.u.len(),
            3 * units * units
        ));
        held!(absent_or(Buffer::Bias, weights.b_in.len(), 3 * units));
        held!(absent_or(
            Buffer::RecurrentBias,
            weights.b_rec.len(),
            3 * units
        ));
        Ok(Self {
            input,
            units,
            weights,
            activation: Activation::Tanh,
            recurrent_activation: Activation::Sigmoid,
            reset: Reset::After,
            clip: None,
            h0: &[],
            return_sequences: false,
            go_backwards: false,
        })
    }

    /// Sets `f` (candidate) and `g` (gates).
    ///
    /// # Errors
    /// [`FloatError::Activation`] for a softmax, which is no function of one unit.
    pub const fn with_activations(
        mut self,
        f: Activation,
        g: Activation,
    ) -> Result<Self, FloatError> {
        if matches!(f, Activation::Softmax) || matches!(g, Activation::Softmax) {
            return Err(FloatError::Activation(Activation::Softmax));
        }
        self.activation = f;
        self.recurrent_activation = g;
        Ok(self)
    }

    /// Sets where the reset gate acts.
    pub const fn with_reset(mut self, reset: Reset) -> Self {
        self.reset = reset;
        self
    }

    /// Sets the clip of the pre-activations.
    ///
    /// # Errors
    /// [`FloatError::Clip`] unless the number is positive (infinity is allowed).
    pub const fn with_clip(mut self, clip: Option<f32>) -> Result<Self, FloatError> {
        if let Some(c) = clip
            && (c.is_nan() || c <= 0.0)
        {
            return Err(FloatError::Clip(c));
        }
        self.clip = clip;
        Ok(self)
    }

    /// Sets a learned initial state of `H` values, or zeros with an empty slice.
    ///
    /// # Errors
    /// [`FloatError::Length`] for any other length.
    pub const fn with_initial_state(mut self, h0: &'a [f32]) -> Result<Self, FloatError> {
        held!(absent_or(Buffer::InitialState, h0.len(), self.units));
        self.h0 = h0;
        Ok(self)
    }

    /// Sets whether a window gives every output or the last one only.
    pub const fn with_return_sequences(mut self, yes: bool) -> Self {
        self.return_sequences = yes;
        self
    }

    /// Sets whether time runs from the last step of a window to the first.
    pub const fn with_go_backwards(mut self, yes: bool) -> Self {
        self.go_backwards = yes;
        self
    }

    /// Input size `I`.
    pub const fn input(&self) -> usize {
        self.input
    }

    /// Hidden size `H`, also the length of the state.
    pub const fn units(&self) -> usize {
        self.units
    }

    /// Whether a window gives every output.
    pub const fn return_sequences(&self) -> bool {
        self.return_sequences
    }

    /// Whether time runs backwards.
    pub const fn go_backwards(&self) -> bool {
        self.go_backwards
    }

    /// Number of scratch values that a step or a window needs: `H`, or `2H` with
    /// [`Reset::Before`].
    pub const fn scratch_len(&self) -> usize {
        match self.reset {
            Reset::After => self.units,
            Reset::Before => 2 * self.units,
        }
    }

    /// Number of values that a window of `steps` steps gives.
    pub const fn output_len(&self, steps: usize) -> usize {
        if self.return_sequences {
            steps * self.units
        } else {
            self.units
        }
    }

    /// Sets the state to its initial value.
    ///
    /// # Errors
    /// [`FloatError::Length`] unless `state` has `H` values.
    pub fn reset(&self, state: &mut [f32]) -> Result<(), FloatError> {
        exactly(Buffer::State, state.len(), self.units)?;
        let initial = self.h0.iter().copied().chain(core::iter::repeat(0.0));
        for (h, h0) in state.iter_mut().zip(initial) {
            *h = h0;
        }
        Ok(())
    }

    /// One time step: `state` becomes `h'`, which is also the output.
    ///
    /// # Errors
    /// [`FloatError::Length`] unless `state` has `H`, `x` has `I` and `scratch` at least
    /// [`scratch_len`](Self::scratch_len) values. The state is untouched then.
    pub fn step(
        &self,
        state: &mut [f32],
        x: &[f32],
        scratch: &mut [f32],
    ) -> Result<(), FloatError> {
        exactly(Buffer::State, state.len(), self.units)?;
        exactly(Buffer::Input, x.len(), self.input)?;
        let scratch = first(Buffer::Scratch, scratch, self.scratch_len())?;
        match self.reset {
            Reset::After => self.step_reset_after(state, x, scratch),
            Reset::Before => self.step_reset_before(state, x, scratch)?,
        }
        Ok(())
    }

    /// `x` limited to the clip.
    #[inline]
    fn clipped(&self, x: f32) -> f32 {
        match self.clip {
            Some(c) => math::limit(x, -c, c),
            None => x,
        }
    }

    /// Two units at a time, so that the six rows share the loads of `x` and `h`.
    #[inline(never)]
    fn step_reset_after(&self, state: &mut [f32], x: &[f32], new: &mut [f32]) {
        let GruWeights { w, u, b_in, b_rec } = self.weights;
        let units = self.units;
        let w = Gates::new(w, b_in, units, x);
        let u = Gates::new(u, b_rec, units, state);
        let (Some(w), Some(u)) = (w, u) else { return };
        if units == 1 {
            return self.step_single(state, x);
        }
        let usual = self.is_usual() && self.clip.is_none();
        layer(&w, &u, state, new, usual, |sums, h| self.combine(&sums, h));
        copy(state, new);
    }

    /// Tanh and sigmoid.
    fn is_usual(&self) -> bool {
        self.activation == Activation::Tanh && self.recurrent_activation == Activation::Sigmoid
    }

    /// `h'` of two units.
    #[inline(never)]
    fn combine(&self, sums: &Sums, h: [f32; 2]) -> [f32; 2] {
        if self.is_usual() {
            return math::gates(sums, h, self.clip.unwrap_or(f32::INFINITY));
        }
        let ([r0, r1], [z0, z1], [nx0, nx1], [nh0, nh1]) = (sums.r, sums.z, sums.nx, sums.nh);
        let one = |r: f32, z: f32, nx: f32, nh: f32, h: f32| {
            let r = self.recurrent_activation.apply(self.clipped(r));
            let z = self.recurrent_activation.apply(self.clipped(z));
            let n = self.activation.apply(self.clipped(nx + r * nh));
            (1.0 - z) * n + z * h
        };
        let [h0, h1] = h;
        [one(r0, z0, nx0, nh0, h0), one(r1, z1, nx1, nh1, h1)]
    }

    /// The only unit of a layer, in the order of sums of the pairs: twice the same one.
    #[inline(never)]
    fn step_single(&self, state: &mut [f32], x: &[f32]) {
        let [h] = state else { return };
        let at = |b: &[f32], gate: usize| b.get(gate).copied().unwrap_or(0.0);
        let of_x = |gate: usize| {
            let i = self.input;
            let row = self.weights.w.get(gate * i..(gate + 1) * i);
            dot(row.unwrap_or(&[]), x, 0.0 + at(self.weights.b_in, gate))
        };
        let of_h = |gate: usize, from: f32| {
            (from + at(self.weights.b_rec, gate)) + at(self.weights.u, gate) * *h
        };
        let sums = Sums {
            r: [of_h(0, of_x(0)); 2],
            z: [of_h(1, of_x(1)); 2],
            nh: [of_h(2, 0.0); 2],
            nx: [of_x(2); 2],
        };
        let [new, _] = self.combine(&sums, [*h; 2]);
        *h = new;
    }

    /// First `r ⊙ h` and `z` of all units, then the candidates.
    fn step_reset_before(
        &self,
        state: &mut [f32],
        x: &[f32],
        scratch: &mut [f32],
    ) -> Result<(), FloatError> {
        let g = self.recurrent_activation;
        let (rh, z) = split(Buffer::Scratch, scratch, self.units)?;
        self.gate(0, g, x, state, rh);
        self.gate(1, g, x, state, z);
        for (r, h) in rh.iter_mut().zip(&*state) {
            *r *= h;
        }
        // From here on `state` is read unit by unit, so that it can take h' at once.
        for (pair, (h, z)) in state.chunks_mut(2).zip(z.chunks(2)).enumerate() {
            let sums = self.sum_pair(2, 2 * pair, x, rh);
            for ((h, z), sum) in h.iter_mut().zip(z).zip(sums) {
                let n = self.activation.apply(self.clipped(sum));
                *h = (1.0 - z) * n + z * *h;
            }
        }
        Ok(())
    }

    /// One gate of all units, `g(W·x + b_in + U·h + b_rec)`.
    fn gate(&self, gate: usize, g: Activation, x: &[f32], h: &[f32], out: &mut [f32]) {
        for (pair, out) in out.chunks_mut(2).enumerate() {
            let sums = self.sum_pair(gate, 2 * pair, x, h);
            for (v, sum) in out.iter_mut().zip(sums) {
                *v = g.apply(self.clipped(sum));
            }
        }
    }

    /// `W·x + b_in + U·h + b_rec` of two neighbouring rows of a gate; the second sum means nothing
    /// when `unit` is the last one.
    #[inline(never)]
    fn sum_pair(&self, gate: usize, unit: usize, x: &[f32], h: &[f32]) -> [f32; 2] {
        let GruWeights { w, u, b_in, b_rec } = self.weights;
        let first = gate * self.units + unit;
        let end = (gate + 1) * self.units;
        let bias = |b: &[f32], k: usize| b.get(first + k).copied().unwrap_or(0.0);
        let product = |m: &[f32], v: &[f32], acc: [f32; 2]| {
            let columns = v.len();
            match m.get(first * columns..(first + 2).min(end) * columns) {
                Some(rows) if rows.len() == 2 * columns => dot_pair(rows, v, acc),
                Some(row) => {
                    let [a, b] = acc;
                    [dot(row, v, a), b]
                }
                None => acc,
            }
        };
        let [a, b] = product(w, x, [bias(b_in, 0), bias(b_in, 1)]);
        product(u, h, [a + bias(b_rec, 0), b + bias(b_rec, 1)])
    }

    /// Runs over a window of whole time steps (`xs`, row-major `T×I`), starting at `state`, which
    /// holds the last state afterwards.
    ///
    /// `out` receives [`output_len`](Self::output_len) values: the outputs of all steps, or the
    /// last one. With a mask, the last output is that of the last valid step, zeros without one.
    /// Equal to [`step`](Self::step) over the valid steps, bit for bit.
    ///
    /// # Errors
    /// [`FloatError::Length`] when a slice does not fit, [`FloatError::Size`] for no step at all.
    /// The state is untouched then.
    pub fn run(
        &self,
        state: &mut [f32],
        xs: &[f32],
        window: Window<'_>,
        out: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), FloatError> {
        let steps = steps_of(xs, self.input, window.mask)?;
        exactly(Buffer::State, state.len(), self.units)?;
        exactly(Buffer::Output, out.len(), self.output_len(steps))?;
        first(Buffer::Scratch, scratch, self.scratch_len())?;
        let mut any = false;
        for k in 0..steps {
            let t = if self.go_backwards { steps - 1 - k } else { k };
            let valid = is_valid(window.mask, t);
            if valid {
                let x = xs.get(t * self.input..(t + 1) * self.input);
                self.step(state, x.unwrap_or(&[]), scratch)?;
                any = true;
            }
            if self.return_sequences {
                let place = match window.order {
                    OutputOrder::Processing => k,
                    OutputOrder::Time => t,
                };
                let shown = match window.masked {
                    MaskedOutput::Repeat => any,
                    MaskedOutput::Zero => valid,
                };
                let at = place * self.units;
                if let Some(out) = out.get_mut(at..at + self.units) {
                    show(out, state, shown);
                }
            }
        }
        if !self.return_sequences {
            show(out, state, any);
        }
        Ok(())
    }
}

/// Copies the state, or zeros.
pub(super) fn show(out: &mut [f32], state: &[f32], shown: bool) {
    if shown {
        copy(out, state);
    } else {
        out.fill(0.0);
    }
}

/// Whether the mask lets step `t` through.
pub(super) fn is_valid(mask: Option<&[bool]>, t: usize) -> bool {
    mask.is_none_or(|m| m.get(t).copied().unwrap_or(false))
}

/// The number of steps in a window, with its mask checked.
pub(super) fn steps_of(
    xs: &[f32],
    input: usize,
    mask: Option<&[bool]>,
) -> Result<usize, FloatError> {
    let steps = xs.len().checked_div(input).unwrap_or(0);
    if steps == 0 {
        return Err(FloatError::Size {
            dim: Dim::Steps,
            found: 0,
        });
    }
    exactly(Buffer::Input, xs.len(), steps * input)?;
    if let Some(mask) = mask {
        exactly(Buffer::Mask, mask.len(), steps)?;
    }
    Ok(steps)
}

/// `copy_from_slice` of the common part, without its panic.
fn copy(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
