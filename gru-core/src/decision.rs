//! From the outputs of a stream to decisions: smoothing, thresholds, hysteresis, hold, refractory time.
//!
//! Everything that belongs to the rule lies in the artifact ([`DecisionHeader`] and a [`Threshold`] per
//! output), everything that changes belongs to the caller: a [`Decider`], or a [`Stream`] that holds the
//! [`State`] as well. Integers only. Without a rule in the artifact the most probable class of every step is
//! the decision.
//!
//! After every time step beyond the warm-up, in this order:
//!
//! 1. **Interval.** The rule looks at every `every_steps`-th step, the first one after the warm-up included.
//!    Hold and refractory time go on in the steps between.
//! 2. **Probabilities** `p` in Q15: the softmax of the outputs times the inverse temperature; outputs of a sigmoid
//!    are probabilities already (several labels, or one output for "it happens").
//! 3. **Scores** `s`. Without smoothing `s = p`; with [`Smoothing::Exponential`] their exponential mean, started by
//!    the first one; with [`Smoothing::Votes`] the number of votes among the latest `of`. The most probable class has
//!    the vote of a step if `p` reaches its `enter` threshold (its `release` threshold while it is the decision).
//! 4. **Candidate.** The class `b` with the largest score, the first of equals, if its score reaches `enter`;
//!    else [`Outcome::Unsure`].
//! 5. **Hysteresis.** The present class `c` keeps its place against unsure while its score reaches `release`, and against another
//!    class while that one's score is not higher by at least `margin` (and at least by one unit).
//! 6. **Refractory time.** Within `refractory_steps` of the latest event no other event begins: `c` stays if its
//!    score reaches `release`, else the outcome is unsure. An event is the beginning of a class other than `background`.
//! 7. **Hold.** Within `hold_steps` of its beginning a class stays whatever the scores are.
//!
//! A change of the outcome, the first one after the warm-up included, is the [`Decision`] of the step.

use crate::artifact::{DecisionHeader, MAX_VOTES, NEUTRAL_TEMPERATURE, Smoothing, THRESHOLD_LEN};
use crate::input::Sample;
use crate::model::Model;
use crate::softmax::Exponent;
use crate::state::{Counters, State, StateError, StateRef, crc_of};
use crate::step::{Output, join};
use heapless::Deque;

/// What a decision says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Outcome {
    /// The class (output) with this index.
    Class(u16),
    /// No class is certain enough.
    Unsure,
}

/// A change of the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Decision {
    /// What it is from now on.
    pub outcome: Outcome,
    /// The score of the class, of the likeliest one where the outcome is unsure: Q15, `0..=32768`. With
    /// votes their share.
    pub confidence: u16,
    /// The time step: how many had been done since the reset, this one included.
    pub step: u32,
}

impl Decision {
    /// The class, unless the outcome is unsure.
    pub const fn class(&self) -> Option<u16> {
        match self.outcome {
            Outcome::Class(class) => Some(class),
            Outcome::Unsure => None,
        }
    }
}

/// When a class becomes the decision, and when it is it no longer; both in Q15, `0..=32768`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Threshold {
    /// A score of at least this much makes it the decision.
    pub enter: u16,
    /// A score below this ends it; at most `enter`.
    pub release: u16,
}

impl Threshold {
    /// The threshold that the payload's bytes hold.
    pub(crate) const fn read(bytes: &[u8; THRESHOLD_LEN]) -> Self {
        let [e0, e1, r0, r1] = *bytes;
        Self {
            enter: u16::from_le_bytes([e0, e1]),
            release: u16::from_le_bytes([r0, r1]),
        }
    }

    /// The bytes in the payload.
    pub const fn to_bytes(self) -> [u8; THRESHOLD_LEN] {
        let ([e0, e1], [r0, r1]) = (self.enter.to_le_bytes(), self.release.to_le_bytes());
        [e0, e1, r0, r1]
    }
}

/// The memory of a decision rule; `N` is at least [`Model::decider_len`].
///
/// One per stream, beside its [`State`]; [`Stream`] holds both.
pub type Decider<const N: usize> = DeciderBuf<[u16; N]>;

/// A [`Decider`] of any size.
pub type DeciderRef = DeciderBuf<[u16]>;

/// See [`Decider`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeciderBuf<B: ?Sized> {
    /// The model that it belongs to.
    tag: u32,
    /// The latest step that was seen.
    step: u32,
    /// The resets of the state then; 0 before the first look, when any state will do.
    resets: u32,
    /// Steps until the outcome may change.
    hold: u16,
    /// Steps until the next event may begin.
    refractory: u16,
    /// Steps until the rule looks again.
    idle: u16,
    /// `None` before the first look after the warm-up.
    outcome: Option<Outcome>,
    /// The latest votes, the oldest first.
    votes: Deque<u16, MAX_VOTES>,
    // [probabilities][sums as (low, high) halves, or counts of votes]
    words: B,
}

/// A vote for nobody.
const NOBODY: u16 = 0xffff;
/// Outcomes in a snapshot that are no class.
const UNSURE: u16 = 0xfffe;
const NOT_READY: u16 = 0xffff;
/// Bytes of a snapshot before the votes or sums: checksum, tag, step, outcome, hold, refractory, idle, votes.
const SNAPSHOT_HEAD: usize = 22;

impl<const N: usize> Decider<N> {
    /// A decider that has seen nothing of a stream of `model`.
    ///
    /// # Errors
    /// [`StateError::TooSmall`] if `N` is below [`Model::decider_len`].
    pub fn new(model: &Model<'_>) -> Result<Self, StateError> {
        let mut decider = Self::unbound();
        decider.bind(model)?;
        Ok(decider)
    }

    /// One that belongs to no model yet, for a `static`; [`DeciderBuf::bind`] it before use.
    pub const fn unbound() -> Self {
        Self {
            tag: 0,
            step: 0,
            resets: 0,
            hold: 0,
            refractory: 0,
            idle: 0,
            outcome: None,
            votes: Deque::new(),
            words: [0; N],
        }
    }
}

impl<const N: usize> core::ops::Deref for Decider<N> {
    type Target = DeciderRef;

    fn deref(&self) -> &DeciderRef {
        self
    }
}

impl<const N: usize> core::ops::DerefMut for Decider<N> {
    fn deref_mut(&mut self) -> &mut DeciderRef {
        self
    }
}

impl<B: ?Sized> DeciderBuf<B> {
    /// What tells one from another in a log.
    #[cfg(feature = "defmt")]
    pub(crate) fn summary(&self) -> (u32, u32, Option<Outcome>) {
        (self.tag, self.step, self.outcome)
    }
}

impl DeciderRef {
    /// Ties it to `model` and resets it.
    ///
    /// # Errors
    /// [`StateError::TooSmall`]; it then is as it was.
    pub fn bind(&mut self, model: &Model<'_>) -> Result<(), StateError> {
        let (have, need) = (self.words.len(), model.decider_len());
        if have < need {
            return Err(StateError::TooSmall {
                have: have as u32,
                need: need as u32,
            });
        }
        self.tag = model.tag();
        self.clear();
        Ok(())
    }

    /// Back to the state before the first step.
    ///
    /// # Errors
    /// [`StateError::ForeignModel`]; it then is as it was.
    pub fn reset(&mut self, model: &Model<'_>) -> Result<(), StateError> {
        self.check(model)?;
        self.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.step = 0;
        self.resets = 0;
        self.hold = 0;
        self.refractory = 0;
        self.idle = 0;
        self.outcome = None;
        self.votes.clear();
        self.words.fill(0);
    }

    fn check(&self, model: &Model<'_>) -> Result<(), StateError> {
        if self.tag != model.tag() {
            return Err(StateError::ForeignModel {
                found: self.tag,
                expected: model.tag(),
            });
        }
        Ok(())
    }

    /// The present outcome; nothing until the warm-up after the reset is over.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Looks at `state` after a step of `model`; gives a decision when the outcome changes.
    ///
    /// To be called after every [`Model::step`]. Calling it again after the same step, or after one that was
    /// left out because of a gap, does nothing; a state that was reset resets the decider. For windows it can be called
    /// once after each, [`Model::run`] and [`Model::run_window`] begin with a reset. (After 2^32 - 1 steps without a reset the
    /// count stands still, and a step that was left out is looked at like any other.)
    ///
    /// # Errors
    /// [`StateError::ForeignModel`]; the decider then is as it was.
    pub fn decide(
        &mut self,
        model: &Model<'_>,
        state: &StateRef,
    ) -> Result<Option<Decision>, StateError> {
        state.check(model)?;
        self.look(model, &model.output(state), state.steps(), state.resets)
    }

    /// The same on `outputs` that were computed elsewhere, for instance on a board: those of the read-out after
    /// `step` time steps, in the model's number format. A `step` below the one before is taken for a reset; where
    /// windows are of one step or of equal length, call [`reset`](Self::reset) between them.
    ///
    /// # Errors
    /// [`StateError::ForeignModel`], or [`StateError::SampleLen`] if there are not as many outputs as the model has.
    pub fn decide_outputs(
        &mut self,
        model: &Model<'_>,
        outputs: &[i16],
        step: u32,
    ) -> Result<Option<Decision>, StateError> {
        if outputs.len() != model.outputs() {
            return Err(StateError::SampleLen {
                found: outputs.len() as u32,
                expected: model.outputs() as u32,
            });
        }
        self.look(model, &model.output_of(outputs, step), step, self.resets)
    }

    fn look(
        &mut self,
        model: &Model<'_>,
        output: &Output<'_>,
        step: u32,
        resets: u32,
    ) -> Result<Option<Decision>, StateError> {
        self.check(model)?;
        if step < self.step || (self.resets != 0 && self.resets != resets) {
            self.clear();
        }
        self.resets = resets;
        // The count stops at its largest value, so there a step cannot be told from none.
        if step == self.step && step != u32::MAX {
            return Ok(None);
        }
        self.step = step;
        self.hold = self.hold.saturating_sub(1);
        self.refractory = self.refractory.saturating_sub(1);
        if !output.is_ready() {
            return Ok(None);
        }
        let rule = model.rule();
        if self.idle != 0 {
            self.idle -= 1;
            return Ok(None);
        }
        self.idle = rule.header.every_steps.saturating_sub(1);
        let outputs = model.outputs();
        // No more than the rule needs: the buffer may be longer.
        let words = self.words.get_mut(..rule.words(outputs));
        let words = words.unwrap_or_default();
        let (p, memory) = words.split_at_mut_checked(outputs).unwrap_or_default();
        output.scores(rule.exponent, p);
        let present = match self.outcome {
            Some(Outcome::Class(class)) => Some(class),
            _ => None,
        };
        let scores = match rule.header.smoothing {
            Smoothing::None => &*p,
            Smoothing::Exponential { shift } => {
                smooth(p, memory, shift, self.outcome.is_none());
                &*p
            }
            Smoothing::Votes { of, .. } => {
                let best = largest(p);
                let Threshold { enter, release } = rule.threshold(best);
                let needed = if present == Some(best) {
                    release
                } else {
                    enter
                };
                let vote = if at(p, best) >= needed { best } else { NOBODY };
                if self.votes.len() >= of as usize
                    && let Some(oldest) = self.votes.pop_front()
                {
                    count(memory, oldest, u16::wrapping_sub);
                }
                if self.votes.push_back(vote).is_ok() {
                    count(memory, vote, u16::wrapping_add);
                }
                &*memory
            }
        };
        let best = largest(scores);
        let next = rule.next(scores, best, present, self.hold, self.refractory);
        if self.outcome == Some(next) {
            return Ok(None);
        }
        self.outcome = Some(next);
        let mut shown = best;
        if let Outcome::Class(class) = next {
            shown = class;
            self.hold = rule.header.hold_steps;
            if rule.header.background != Some(class) {
                self.refractory = rule.header.refractory_steps;
            }
        }
        let score = at(scores, shown);
        let confidence = match rule.header.smoothing {
            // At most 32 votes; the loader saw that there is at least one.
            Smoothing::Votes { of, .. } => {
                ((score as u32) << 15).checked_div(of as u32).unwrap_or(0) as u16
            }
            _ => score,
        };
        Ok(Some(Decision {
            outcome: next,
            confidence,
            step,
        }))
    }

    /// Bytes of a snapshot of the decider of a stream of `model`.
    pub fn snapshot_len(model: &Model<'_>) -> usize {
        SNAPSHOT_HEAD + 2 * kept_words(model)
    }

    /// Writes what it remembers to `out`; returns the bytes used. See [`StateBuf::snapshot`](crate::StateBuf::snapshot).
    ///
    /// # Errors
    /// [`StateError::ForeignModel`]; [`StateError::Snapshot`] if `out` is shorter than
    /// [`snapshot_len`](Self::snapshot_len).
    pub fn snapshot(&self, model: &Model<'_>, out: &mut [u8]) -> Result<usize, StateError> {
        self.check(model)?;
        let len = Self::snapshot_len(model);
        let out = out.get_mut(..len).ok_or(StateError::Snapshot)?;
        let (crc, body) = out
            .split_first_chunk_mut::<4>()
            .ok_or(StateError::Snapshot)?;
        let outcome = match self.outcome {
            Some(Outcome::Class(class)) => class,
            Some(Outcome::Unsure) => UNSURE,
            None => NOT_READY,
        };
        let votes = self.votes.len() as u16;
        let head = [outcome, self.hold, self.refractory, self.idle, votes];
        let sums = self.words.get(model.outputs()..).unwrap_or(&[]);
        let (sums, history) = match model.rule().header.smoothing {
            Smoothing::Votes { .. } => (&[][..], Some(&self.votes)),
            _ => (sums, None),
        };
        let history = history.into_iter().flat_map(|votes| votes.iter());
        let words = head.iter().chain(history).chain(sums);
        // Places of votes that there are not yet stay zero.
        let words = words.copied().chain(core::iter::repeat(0));
        let numbers = [self.tag, self.step].into_iter().flat_map(u32::to_le_bytes);
        let bytes = numbers.chain(words.flat_map(u16::to_le_bytes));
        for (out, byte) in body.iter_mut().zip(bytes) {
            *out = byte;
        }
        *crc = crc_of(body).to_le_bytes();
        Ok(len)
    }

    /// Restores a [`snapshot`](Self::snapshot): it goes on as if nothing had happened.
    ///
    /// # Errors
    /// [`StateError::Snapshot`], [`StateError::ForeignModel`] or [`StateError::TooSmall`]; it then is as
    /// it was.
    pub fn restore(&mut self, model: &Model<'_>, bytes: &[u8]) -> Result<(), StateError> {
        if bytes.len() != Self::snapshot_len(model) {
            return Err(StateError::Snapshot);
        }
        let (crc, body) = bytes.split_first_chunk::<4>().ok_or(StateError::Snapshot)?;
        if u32::from_le_bytes(*crc) != crc_of(body) {
            return Err(StateError::Snapshot);
        }
        let (tag, rest) = body.split_first_chunk::<4>().ok_or(StateError::Snapshot)?;
        let (step, rest) = rest.split_first_chunk::<4>().ok_or(StateError::Snapshot)?;
        let tag = u32::from_le_bytes(*tag);
        if tag != model.tag() {
            return Err(StateError::ForeignModel {
                found: tag,
                expected: model.tag(),
            });
        }
        let words = || rest.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b));
        let mut head = words();
        let mut next = || head.next().ok_or(StateError::Snapshot);
        let (outcome, hold, refractory, idle, votes) =
            (next()?, next()?, next()?, next()?, next()?);
        let body = || words().skip(5);
        let outputs = model.outputs();
        let is_class = |word: u16| (word as usize) < outputs;
        let outcome = match outcome {
            NOT_READY => None,
            UNSURE => Some(Outcome::Unsure),
            class if is_class(class) => Some(Outcome::Class(class)),
            _ => return Err(StateError::Snapshot),
        };
        let of = match model.rule().header.smoothing {
            Smoothing::Votes { of, .. } => of as usize,
            _ => 0,
        };
        let votes = votes as usize;
        let vote_is_sound = |v: u16| is_class(v) || v == NOBODY;
        if votes > of || !body().take(votes).all(vote_is_sound) {
            return Err(StateError::Snapshot);
        }
        self.bind(model)?;
        self.step = u32::from_le_bytes(*step);
        self.outcome = outcome;
        self.hold = hold;
        self.refractory = refractory;
        self.idle = idle;
        let memory = self.words.get_mut(outputs..).unwrap_or_default();
        if of == 0 {
            for (word, saved) in memory.iter_mut().zip(body()) {
                *word = saved;
            }
        } else {
            for vote in body().take(votes) {
                count(memory, vote, u16::wrapping_add);
                // As many as there are places.
                let _ = self.votes.push_back(vote);
            }
        }
        Ok(())
    }
}

/// Words of a snapshot after its head.
fn kept_words(model: &Model<'_>) -> usize {
    match model.rule().header.smoothing {
        Smoothing::None => 0,
        Smoothing::Exponential { .. } => 2 * model.outputs(),
        Smoothing::Votes { of, .. } => of as usize,
    }
}

/// The rule of a model: what its artifact says, or the most probable class of every step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule<'a> {
    pub(crate) header: DecisionHeader,
    thresholds: &'a [u8],
    exponent: Option<Exponent>,
}

impl<'a> Rule<'a> {
    /// That of no model.
    pub(crate) const EMPTY: Self = Self {
        header: DecisionHeader::new(),
        thresholds: &[],
        exponent: None,
    };

    /// The rule for outputs that are probabilities, or logits with `frac` fractional bits; nothing where these cannot be
    /// multiplied by the inverse temperature.
    pub(crate) const fn new(
        header: DecisionHeader,
        thresholds: &'a [u8],
        probabilities: bool,
        frac: u8,
    ) -> Option<Self> {
        let exponent = match probabilities {
            true if header.inverse_temperature != NEUTRAL_TEMPERATURE => return None,
            true => None,
            false => match Exponent::new(frac, header.inverse_temperature) {
                None => return None,
                some => some,
            },
        };
        Some(Self {
            header,
            thresholds,
            exponent,
        })
    }

    /// Words that a decider needs for `outputs`.
    pub(crate) const fn words(&self, outputs: usize) -> usize {
        words(outputs, &self.header.smoothing)
    }

    /// The thresholds of all outputs; none where the artifact has no rule.
    pub(crate) fn thresholds(&self) -> impl Iterator<Item = Threshold> + use<'a> {
        self.thresholds.as_chunks().0.iter().map(Threshold::read)
    }

    fn threshold(&self, class: u16) -> Threshold {
        let all = self.thresholds.as_chunks().0;
        all.get(class as usize)
            .map(Threshold::read)
            .unwrap_or_default()
    }

    /// Steps 4 to 7 of the module's description.
    fn next(
        &self,
        scores: &[u16],
        best: u16,
        present: Option<u16>,
        hold: u16,
        refractory: u16,
    ) -> Outcome {
        // Scores that the class needs to begin and to stay.
        let needed = |class: u16| match self.header.smoothing {
            Smoothing::Votes { enter, keep, .. } => (enter as u16, keep as u16),
            _ => {
                let threshold = self.threshold(class);
                (threshold.enter, threshold.release)
            }
        };
        let score = at(scores, best);
        let candidate = if score >= needed(best).0 {
            Outcome::Class(best)
        } else {
            Outcome::Unsure
        };
        let resting = refractory != 0 && self.header.background != Some(best);
        let Some(class) = present else {
            return if resting { Outcome::Unsure } else { candidate };
        };
        let own = at(scores, class);
        let supported = own >= needed(class).1;
        let stays = match candidate {
            Outcome::Unsure => supported,
            Outcome::Class(_) if best == class => true,
            Outcome::Class(_) if resting && supported => true,
            Outcome::Class(_) => supported && score - own.min(score) < self.header.margin.max(1),
        };
        if stays || hold != 0 {
            Outcome::Class(class)
        } else if resting {
            Outcome::Unsure
        } else {
            candidate
        }
    }
}

/// Words that a decider needs for `outputs` with this smoothing.
pub(crate) const fn words(outputs: usize, smoothing: &Smoothing) -> usize {
    match smoothing {
        Smoothing::None => outputs,
        Smoothing::Exponential { .. } => 3 * outputs,
        Smoothing::Votes { .. } => 2 * outputs,
    }
}

fn at(scores: &[u16], class: u16) -> u16 {
    scores.get(class as usize).copied().unwrap_or(0)
}

/// The index of the largest score, the first of equals.
fn largest(scores: &[u16]) -> u16 {
    let mut best = (0, 0);
    for (class, &score) in (0u16..).zip(scores) {
        if score > best.1 {
            best = (class, score);
        }
    }
    best.0
}

fn count(counts: &mut [u16], class: u16, change: impl Fn(u16, u16) -> u16) {
    if let Some(count) = counts.get_mut(class as usize) {
        *count = change(*count, 1);
    }
}

/// Exponential mean of `p`, in place; the sums hold 15 more bits.
fn smooth(p: &mut [u16], sums: &mut [u16], shift: u8, starts: bool) {
    let shift = (shift & 15) as u32;
    for (p, sum) in p.iter_mut().zip(sums.as_chunks_mut::<2>().0) {
        // At most 2^30, so sums and differences fit; a sum that memory has lost comes back to it.
        let now = (*p as i32) << 15;
        let held = join(sum[0] as i16, sum[1] as i16).clamp(0, 1 << 30);
        let mean = if starts {
            now
        } else {
            held + ((now - held) >> shift)
        };
        *sum = [mean as u16, (mean >> 16) as u16];
        *p = ((mean + (1 << 14)) >> 15) as u16;
    }
}

/// One stream of samples on a model: its state and its decider, from sample to decision.
///
/// `N` is at least [`Model::state_len`], `D` at least [`Model::decider_len`]. Several streams share one model.
#[derive(Debug, Clone)]
pub struct Stream<'m, 'a, const N: usize, const D: usize> {
    model: &'m Model<'a>,
    state: State<N>,
    decider: Decider<D>,
}

impl<'m, 'a, const N: usize, const D: usize> Stream<'m, 'a, N, D> {
    /// A stream at rest.
    ///
    /// # Errors
    /// [`StateError::TooSmall`] if `N` or `D` are; [`StateError::NeedsWindow`] if the model cannot stream.
    pub fn new(model: &'m Model<'a>) -> Result<Self, StateError> {
        if !model.is_streaming() {
            return Err(StateError::NeedsWindow);
        }
        Ok(Self {
            model,
            state: State::new(model)?,
            decider: Decider::new(model)?,
        })
    }

    /// Pushes one time step; gives a decision when the outcome changes.
    ///
    /// `sample` has one value per feature: see [`Model::step`]. Nothing comes before the model's warm-up
    /// is over; the step after it always brings the first decision, be it unsure.
    ///
    /// # Errors
    /// [`StateError::SampleLen`]; the stream then is as it was.
    pub fn push<S: Sample>(&mut self, sample: &[S]) -> Result<Option<Decision>, StateError> {
        self.model.step(&mut self.state, sample)?;
        self.decider.decide(self.model, &self.state)
    }

    /// Back to rest. Counters go on.
    pub fn reset(&mut self) {
        // Both belong to the model since they were made.
        let _ = self.state.reset(self.model);
        let _ = self.decider.reset(self.model);
    }

    /// The model.
    pub fn model(&self) -> &'m Model<'a> {
        self.model
    }

    /// The present outcome; nothing until the warm-up after the reset is over.
    pub fn outcome(&self) -> Option<Outcome> {
        self.decider.outcome()
    }

    /// The outputs of the read-out after the latest step.
    pub fn output(&self) -> Output<'_> {
        self.model.output(&self.state)
    }

    /// Steps since the reset; stops at 2^32 - 1.
    pub fn steps(&self) -> u32 {
        self.state.steps()
    }

    /// What has been counted since the stream was made.
    pub fn counters(&self) -> Counters {
        self.state.counters()
    }

    /// The state, for instance for its digest.
    pub fn state(&self) -> &StateRef {
        &self.state
    }

    /// Bytes of a snapshot of the stream.
    pub fn snapshot_len(&self) -> usize {
        StateRef::snapshot_len(self.model) + DeciderRef::snapshot_len(self.model)
    }

    /// Writes state and decider to `out`, for sleep or brown-out; returns the bytes used.
    ///
    /// # Errors
    /// [`StateError::Snapshot`] if `out` is shorter than [`snapshot_len`](Self::snapshot_len).
    pub fn snapshot(&self, out: &mut [u8]) -> Result<usize, StateError> {
        let (out, rest) = out
            .get_mut(..self.snapshot_len())
            .and_then(|out| out.split_at_mut_checked(StateRef::snapshot_len(self.model)))
            .ok_or(StateError::Snapshot)?;
        let state = self.state.snapshot(self.model, out)?;
        Ok(state + self.decider.snapshot(self.model, rest)?)
    }

    /// Restores a [`snapshot`](Self::snapshot); the stream goes on bit for bit. Counters go on.
    ///
    /// # Errors
    /// [`StateError::Snapshot`] or [`StateError::ForeignModel`]; the stream then is as it was.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let (state, decider) = bytes
            .split_at_checked(StateRef::snapshot_len(self.model))
            .ok_or(StateError::Snapshot)?;
        // The decider first: it can be put back where the state is refused.
        let before = self.decider.clone();
        self.decider.restore(self.model, decider)?;
        self.state.restore(self.model, state).inspect_err(|_| {
            self.decider = before;
        })
    }
}
