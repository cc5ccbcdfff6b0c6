//! One time step of a whole model, from the raw sample to the outputs.
//!
//! The GRU (gate order r, z, n everywhere; Cho et al. 2014 in the form of Keras' `reset_after`):
//!
//! ```text
//! r  = σ(W_r·x + b_r + U_r·h)
//! z  = σ(W_z·x + b_z + U_z·h)
//! n  = tanh(W_n·x + b_nx + r ⊙ (U_n·h + b_nh))         reset after the product
//! h' = z ⊙ h + (1 − z) ⊙ n
//! ```
//!
//! `docs/quantization.md` has the number formats, [`crate::kernel::portable`] the integers.

use crate::activation::Activation;
#[cfg(any(feature = "readouts", test))]
use crate::artifact::Readout;
#[cfg(any(feature = "inputs", test))]
use crate::artifact::{FEATURE_LIMITS, GapPolicy};
use crate::input::Sample;
#[cfg(any(feature = "inputs", test))]
use crate::input::{FeatureParams, Limits};
use crate::kernel::{self, ACTIVATIONS, Kernel};
use crate::layout::align4;
use crate::model::{Layer, Model};
use crate::softmax::{Exponent, softmax_of, softmax_scaled};
use crate::state::{Digest, StateBuf, StateError, StateRef};

/// The outputs of one step, borrowed from the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Output<'s> {
    /// Outputs of the latest step; sums as (low, high) halves where there is a divisor.
    words: &'s [i16],
    #[cfg(any(feature = "readouts", test))]
    divisor: u32,
    frac: u8,
    ready: bool,
}

impl<'s> Output<'s> {
    /// What the sums are to be divided by; 0 where there are none.
    #[inline]
    fn divisor(&self) -> u32 {
        #[cfg(any(feature = "readouts", test))]
        return self.divisor;
        #[cfg(not(any(feature = "readouts", test)))]
        0
    }

    /// Words of an output.
    #[inline]
    fn width(&self) -> usize {
        if self.divisor() == 0 { 1 } else { 2 }
    }

    /// Number of outputs.
    #[inline]
    pub fn len(&self) -> usize {
        self.words.len() / self.width()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fractional bits: real = value · 2^-frac.
    #[inline]
    pub fn frac(&self) -> u8 {
        self.frac
    }

    /// Whether the model's warm-up after the reset is over, and with a mean at least one step in it.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// The outputs in order; of a mean the quotient, rounded towards minus infinity.
    pub fn values(&self) -> impl Iterator<Item = i16> + use<'s> {
        let divisor = self.divisor() as i32;
        self.words
            .chunks_exact(self.width())
            .map(move |v| match *v {
                [v] => v,
                [lo, hi] => join(lo, hi).checked_div_euclid(divisor).unwrap_or(0) as i16,
                _ => 0,
            })
    }

    /// The probabilities of the outputs in Q15: see [`softmax_q15`](crate::softmax::softmax_q15).
    pub fn probabilities(&self, out: &mut [u16]) {
        self.scaled_probabilities(Exponent::of_logits(self.frac), out);
    }

    /// Probabilities for a decision: of logits by their exponent, else the outputs themselves.
    #[cfg(any(feature = "decision", test))]
    pub(crate) fn scores(&self, exponent: Option<Exponent>, out: &mut [u16]) {
        match exponent {
            Some(exponent) => self.scaled_probabilities(exponent, out),
            None => {
                for (out, v) in out.iter_mut().zip(self.values()) {
                    *out = v.max(0) as u16;
                }
            }
        }
    }

    #[inline]
    fn scaled_probabilities(&self, exponent: Exponent, out: &mut [u16]) {
        if self.divisor() == 0 {
            softmax_of(self.words, exponent, out);
        } else {
            self.mean_probabilities(exponent, out);
        }
    }

    /// Apart, because of its divisions.
    #[inline(never)]
    fn mean_probabilities(&self, exponent: Exponent, out: &mut [u16]) {
        softmax_scaled(self.values(), exponent, out);
    }

    /// The index of the largest output, the first of equals.
    pub fn argmax(&self) -> usize {
        let mut best = (0, i32::MIN);
        for (i, v) in self.words.chunks_exact(self.width()).enumerate() {
            let v = match *v {
                [v] => v as i32,
                [lo, hi] => join(lo, hi),
                _ => 0,
            };
            if v > best.1 {
                best = (i, v);
            }
        }
        best.0
    }
}

#[inline]
pub(crate) fn join(lo: i16, hi: i16) -> i32 {
    (hi as i32) << 16 | lo as u16 as i32
}

#[cfg(any(feature = "readouts", test))]
/// The most steps that a mean holds: 65535 · 32768 still is below 2^31. Then all that it holds counts half.
const MAX_AVERAGED: u32 = 65535;

impl Model<'_> {
    /// Pushes one time step and returns the outputs of the read-out.
    ///
    /// `sample` has one value per feature: raw counts (`i16`, `i32`), physical units (`f32`), or
    /// `Option`s of them where a value can be missing. A value that is missing, not finite or out
    /// of its limits is counted and treated as the artifact's [`GapPolicy`] says.
    ///
    /// # Errors
    /// A sample of another length, a state of another model, or a model that needs its whole
    /// window; the state then is as it was. A step with a right sample and state cannot fail.
    pub fn step<'s, S: Sample>(
        &self,
        state: &'s mut StateRef,
        sample: &[S],
    ) -> Result<Output<'s>, StateError> {
        if !self.is_streaming() {
            return Err(StateError::NeedsWindow);
        }
        if sample.len() != self.features() {
            return Err(StateError::SampleLen {
                found: sample.len() as u32,
                expected: self.features() as u32,
            });
        }
        state.check(self)?;
        if self.condition(state, sample) {
            self.advance(state);
        }
        Ok(self.output(state))
    }

    /// Writes the conditioned sample to the state's input; says whether the step is to be done.
    #[inline(always)]
    pub(crate) fn condition<S: Sample>(&self, state: &mut StateRef, sample: &[S]) -> bool {
        if (self.facts.narrow || !cfg!(any(feature = "inputs", test)))
            && let Some(raw) = S::as_counts(sample)
        {
            // Every 16-bit count is valid.
            kernel::Active::condition_narrow(self.facts.features, raw, &mut state.words);
            return true;
        }
        #[cfg(any(feature = "inputs", test))]
        return self.condition_any(state, sample);
        #[cfg(not(any(feature = "inputs", test)))]
        true
    }

    #[cfg(any(feature = "inputs", test))]
    /// Any kind of sample and of conditioning: a call of its own, it saves registers.
    #[inline(never)]
    fn condition_any<S: Sample>(&self, state: &mut StateRef, sample: &[S]) -> bool {
        if self.facts.gap == GapPolicy::Skip {
            let invalid = self.count_invalid(sample);
            if invalid != 0 {
                state.counters.invalid_values =
                    state.counters.invalid_values.saturating_add(invalid);
                state.counters.skipped_steps = state.counters.skipped_steps.saturating_add(1);
                return false;
            }
        }
        // Plain steps instead of `chunks_exact` and adapters: those divide by the chunk's length
        // and keep their state on the stack, which costs small cores more than the arithmetic.
        let mut invalid = 0;
        let mut params = self.facts.features;
        let limited = !self.facts.limits.is_empty();
        for (i, (x, &s)) in state.words.iter_mut().zip(sample).enumerate() {
            let Some((p, rest)) = params.split_first_chunk() else {
                break;
            };
            params = rest;
            match s.counts(FeatureParams::counts_per_unit(p)) {
                Some(raw) if !limited || self.within_limits(i, raw) => {
                    *x = kernel::Active::condition(p, raw);
                }
                _ => {
                    invalid += 1;
                    if self.facts.gap != GapPolicy::Hold {
                        *x = 0;
                    }
                }
            }
        }
        state.counters.invalid_values = state.counters.invalid_values.saturating_add(invalid);
        true
    }

    #[cfg(any(feature = "inputs", test))]
    /// Whether `raw` is within the limits of feature `i`; apart, because most models have none.
    #[inline(never)]
    fn within_limits(&self, i: usize, raw: i32) -> bool {
        let limits = self
            .facts
            .limits
            .get(i * FEATURE_LIMITS..)
            .unwrap_or_default();
        match limits.split_first_chunk::<FEATURE_LIMITS>() {
            Some((limits, _)) => Limits::read(limits).holds(raw),
            None => true,
        }
    }

    #[cfg(any(feature = "inputs", test))]
    /// Counts values that are not valid; apart, because only [`GapPolicy::Skip`] asks first.
    #[inline(never)]
    fn count_invalid<S: Sample>(&self, sample: &[S]) -> u32 {
        let params = self.facts.features.as_chunks().0;
        let values = sample.iter().zip(params).enumerate();
        let valid = |(i, (s, p)): (usize, (&S, _))| {
            let raw = s.counts(FeatureParams::counts_per_unit(p));
            raw.is_some_and(|raw| self.within_limits(i, raw))
        };
        values.filter(|&value| !valid(value)).count() as u32
    }

    /// Runs all layers on the conditioned input; not generic, so there is one copy of it.
    #[inline(never)]
    fn advance(&self, state: &mut StateRef) {
        let parts = self.parts();
        let StateBuf {
            steps,
            #[cfg(any(feature = "readouts", test))]
            averaged,
            counters,
            words,
            ..
        } = state;
        // A state that belongs to this model is as long as all its parts.
        let Some((input, words)) = words.split_at_mut_checked(parts.input) else {
            return;
        };
        let Some((scratch, mut rest)) = words.split_at_mut_checked(parts.scratch) else {
            return;
        };
        let mut x: &[i16] = input;
        // What the layer in front has read.
        let mut shared = x;
        for layer in &self.layers {
            let padded = align4(layer.units());
            let Some((y, others)) = core::mem::take(&mut rest).split_at_mut_checked(padded) else {
                return;
            };
            rest = others;
            let front = x;
            if layer.is_second() {
                x = shared;
            }
            shared = x;
            match layer {
                Layer::Gru(g) => {
                    let saturated = kernel::gru(g, x, y, scratch);
                    // Without a question, which would be a branch on data.
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
            x = y;
            // Only a self-test comes here with two directions: each of them takes its steps.
            if layer.is_second() {
                let both = align4(layer.outputs());
                let Some((both, others)) = core::mem::take(&mut rest).split_at_mut_checked(both)
                else {
                    return;
                };
                rest = others;
                put_beside(layer, front, x, both);
                x = both;
            }
        }
        #[cfg(any(feature = "readouts", test))]
        if self.facts.readout != Readout::Last {
            let y = x.get(..self.outputs()).unwrap_or(x);
            // What is left of the words are the read-out's sums.
            let sums = rest.get_mut(..parts.readout).unwrap_or_default();
            *averaged =
                averaged.wrapping_add(read_out(self.facts.readout, *steps, *averaged, sums, y));
        }
        // Stops instead of wrapping: a stream that is ready stays ready, also after 2^32 steps.
        *steps = steps.saturating_add(1);
    }

    /// The outputs of the read-out as the state has them; of a state of another model, words without meaning.
    pub fn output<'s>(&self, state: &'s StateRef) -> Output<'s> {
        let (from, outputs) = (self.facts.output_at, self.outputs());
        #[cfg(any(feature = "readouts", test))]
        if self.facts.readout != Readout::Last {
            let divisor = match self.facts.readout {
                Readout::Exponential { .. } => 1 << 15,
                _ => state.averaged.max(1),
            };
            // The sums stand behind the outputs.
            let sums = state.words.get(from + align4(outputs)..);
            let sums = sums.and_then(|sums| sums.get(..2 * outputs));
            let output = self.output_of(sums.unwrap_or(&[]), state.steps);
            return Output {
                divisor,
                // A mean of nothing is no result.
                ready: output.ready && state.averaged != 0,
                ..output
            };
        }
        let words = state.words.get(from..).and_then(|w| w.get(..outputs));
        self.output_of(words.unwrap_or(&[]), state.steps)
    }

    /// Outputs that stand anywhere, as those after `steps` time steps.
    #[inline]
    pub(crate) fn output_of<'s>(&self, words: &'s [i16], steps: u32) -> Output<'s> {
        Output {
            words,
            #[cfg(any(feature = "readouts", test))]
            divisor: 0,
            frac: self.output_frac(),
            ready: steps >= self.facts.warm_up_steps as u32,
        }
    }

    /// Runs a window from a reset state and returns the outputs at its end.
    ///
    /// `samples` yields the time steps in their order; one-step streaming gives the same bits.
    ///
    /// # Errors
    /// As [`step`](Self::step), at the first sample of another length; the state then has done the steps before it. A model with
    /// a layer that reads its window from the end needs memory for it, see [`run_window`](Self::run_window).
    pub fn run<'s, S: Sample, X: AsRef<[S]>>(
        &self,
        state: &'s mut StateRef,
        samples: impl IntoIterator<Item = X>,
    ) -> Result<Output<'s>, StateError> {
        if !self.is_streaming() {
            return Err(StateError::NeedsWindow);
        }
        state.reset(self)?;
        for sample in samples {
            self.step(state, sample.as_ref())?;
        }
        Ok(self.output(state))
    }

    /// Proves kernels, flash and compiler on the device: runs the artifact's own vectors from a
    /// reset and compares the digest of all hidden states. Leaves `state` reset.
    ///
    /// # Errors
    /// [`StateError::NoSelfTest`], [`StateError::SelfTest`], or as [`step`](Self::step).
    pub fn self_test(&self, state: &mut StateRef) -> Result<(), StateError> {
        let test = self.facts.self_test.ok_or(StateError::NoSelfTest)?;
        state.reset(self)?;
        let mut digest = Digest::default();
        let width = 2 * self.features();
        let mut rest = test.vectors;
        // Not `chunks_exact`: its check of the width stays in the linked image.
        while let Some((sample, others)) = rest.split_at_checked(width) {
            if width == 0 {
                break;
            }
            rest = others;
            let params = self.facts.features.as_chunks().0;
            let values = sample.as_chunks().0.iter().zip(params);
            for (x, (&raw, p)) in state.words.iter_mut().zip(values) {
                *x = kernel::Active::condition(p, i16::from_le_bytes(raw) as i32);
            }
            self.advance(state);
            state.digest(self, &mut digest);
        }
        state.reset(self)?;
        let (found, expected) = (digest.value(), test.header().digest);
        if found == expected {
            Ok(())
        } else {
            Err(StateError::SelfTest { found, expected })
        }
    }
}

/// The outputs of both directions, those of the first one in front; padding stays zero.
pub(crate) fn put_beside(second: &Layer<'_>, first: &[i16], y: &[i16], both: &mut [i16]) {
    let (all, own) = (second.outputs(), second.units());
    let first = first.get(..all.saturating_sub(own)).unwrap_or(first);
    let own = y.get(..own).unwrap_or(y);
    for (to, &y) in both.iter_mut().zip(first.iter().chain(own)) {
        *to = y;
    }
}

#[cfg(any(feature = "readouts", test))]
/// Adds the outputs `y` to the read-out's sums; returns how many steps these hold more.
#[inline(never)]
pub(crate) fn read_out(
    readout: Readout,
    steps: u32,
    held: u32,
    sums: &mut [i16],
    y: &[i16],
) -> u32 {
    match readout {
        Readout::Last => 0,
        Readout::Mean { skip } => {
            if steps < skip as u32 {
                return 0;
            }
            let full = (held >= MAX_AVERAGED) as u32;
            accumulate(sums, y, |sum, y| (sum >> full).wrapping_add(y));
            // What the count rises by, modulo 2^32: beyond it, a count that memory has lost comes back.
            (held.min(MAX_AVERAGED) >> full)
                .wrapping_add(1)
                .wrapping_sub(held)
        }
        Readout::Exponential { shift } => {
            // The sum holds 15 fractional bits; the first output starts it.
            let shift = (shift & 15) as u32;
            let starts = held == 0;
            accumulate(sums, y, |sum, y| {
                let y = y << 15;
                if starts {
                    y
                } else {
                    // A sum that memory has lost fades like any other.
                    sum.wrapping_add(y.wrapping_sub(sum) >> shift)
                }
            });
            starts as u32
        }
        Readout::Sliding { steps } => slide(steps, held, sums, y),
    }
}

#[cfg(any(feature = "readouts", test))]
/// Takes the oldest outputs out of the sums and the history and puts `y` in; zeros stand where there are none yet.
///
/// `words` are the sums, the sums of this turn through the history, the place of the oldest outputs, the history: the lengths
/// of a state's read-out. At the end of a turn the sums of the turn are those of the whole history: they take the place of the
/// others, so that what a bit flip does to any of them is gone after two turns.
fn slide(steps: u16, held: u32, words: &mut [i16], y: &[i16]) -> u32 {
    let len = 2 * align4(y.len());
    let (sums, rest) = words.split_at_mut_checked(len).unwrap_or_default();
    let (turn, rest) = rest.split_at_mut_checked(len).unwrap_or_default();
    let Some((place, history)) = rest.split_first_chunk_mut::<4>() else {
        return 0;
    };
    let [at, ..] = place;
    let oldest = *at as u16;
    let next = oldest.wrapping_add(1);
    let ends = next >= steps;
    *at = if ends { 0 } else { next as i16 };
    let begins = oldest == 0;
    let history = history
        .get_mut(oldest as usize * y.len()..)
        .unwrap_or_default();
    let sums = sums.as_chunks_mut::<2>().0.iter_mut();
    let sums = sums.zip(turn.as_chunks_mut::<2>().0);
    for (((sum, turn), place), &y) in sums.zip(history).zip(y) {
        let [lo, hi] = *turn;
        let of_turn = if begins { 0 } else { join(lo, hi) }.wrapping_add(y as i32);
        *turn = [of_turn as i16, (of_turn >> 16) as i16];
        let [lo, hi] = *sum;
        let joined = join(lo, hi).wrapping_add(y as i32 - *place as i32);
        let joined = if ends { of_turn } else { joined };
        *place = y;
        *sum = [joined as i16, (joined >> 16) as i16];
    }
    // What the count rises by, modulo 2^32: beyond the steps, one that memory has lost comes back.
    (held.wrapping_add(1).min(steps as u32)).wrapping_sub(held)
}

#[cfg(any(feature = "readouts", test))]
/// `sum[i] = f(sum[i], y[i])` over sums that are stored as (low, high) halves.
fn accumulate(sums: &mut [i16], y: &[i16], f: impl Fn(i32, i32) -> i32) {
    for (sum, &y) in sums.chunks_exact_mut(2).zip(y) {
        if let [lo, hi] = sum {
            let joined = f(join(*lo, *hi), y as i32);
            *lo = joined as i16;
            *hi = (joined >> 16) as i16;
        }
    }
}
