//! The only memory that changes: hidden states, scratch and counters, owned by the caller.

use crate::artifact::Crc32;
use crate::model::{Layer, Model, Parts};

/// A stream's memory for a model whose [`Model::state_len`] is at most `N`.
///
/// Put it on the stack, in a `static`, anywhere; several streams share one model. Every function
/// takes it as [`StateRef`], to which `&mut State<N>` coerces, so there is one copy of the step
/// however many sizes a program uses.
pub type State<const N: usize> = StateBuf<[i16; N]>;

/// A [`State`] of any size.
pub type StateRef = StateBuf<[i16]>;

/// See [`State`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct StateBuf<B: ?Sized> {
    /// The model that this state belongs to.
    pub(crate) tag: u32,
    /// Steps since the reset; stops at 2^32 - 1.
    pub(crate) steps: u32,
    /// Steps that the read-out's mean holds.
    pub(crate) averaged: u32,
    /// Resets so far, by which a decider sees one; never 0.
    #[cfg(any(feature = "decision", test))]
    pub(crate) resets: u32,
    /// What has been counted since the state was made.
    pub(crate) counters: Counters,
    // [input][scratch][layers][readout], each a multiple of four words: stays 4-byte aligned.
    pub(crate) words: B,
}

/// What is counted at run time; every counter stops at its largest value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Counters {
    /// Values that were missing, not finite or out of their limits.
    pub invalid_values: u32,
    /// Steps left out because of such values.
    pub skipped_steps: u32,
    /// Values that saturated in layers with unbounded activations.
    pub saturated: u32,
}

/// Why a state cannot be used with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum StateError {
    /// The buffer is shorter than [`Model::state_len`].
    TooSmall {
        /// Words given.
        have: u32,
        /// Words needed.
        need: u32,
    },
    /// The state belongs to another model, or is too short for one with the same checksum.
    ForeignModel {
        /// The tag of the state's model.
        found: u32,
        /// The tag of this one.
        expected: u32,
    },
    /// The sample has another number of features.
    SampleLen {
        /// Values given.
        found: u32,
        /// Values expected.
        expected: u32,
    },
    /// A hidden state has another length; no GRU layer has this number where none is expected.
    HiddenLen {
        /// Values given.
        found: u32,
        /// Units of the layer, 0 where there is no such layer.
        expected: u32,
    },
    /// A layer reads its window from the end, alone or beside another one, so single steps have no meaning.
    NeedsWindow,
    /// A snapshot's bytes are damaged, or of another length than this model's.
    Snapshot,
    /// The artifact carries no self-test.
    NoSelfTest,
    /// The self-test's digest differs: kernel, flash or compiler are at fault.
    SelfTest {
        /// The digest computed here.
        found: u64,
        /// The digest in the artifact.
        expected: u64,
    },
}

impl core::fmt::Display for StateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::TooSmall { have, need } => {
                write!(f, "state of {have} words where the model needs {need}")
            }
            Self::ForeignModel { found, expected } => {
                write!(
                    f,
                    "state of model {found:08x} used with model {expected:08x}"
                )
            }
            Self::SampleLen { found, expected } => {
                write!(
                    f,
                    "sample of {found} values where the model takes {expected}"
                )
            }
            Self::HiddenLen { found, expected } => {
                write!(
                    f,
                    "hidden state of {found} values for a layer of {expected} units"
                )
            }
            Self::NeedsWindow => f.write_str("a layer of this model reads its window from the end"),
            Self::Snapshot => f.write_str("the snapshot is damaged or of another model"),
            Self::NoSelfTest => f.write_str("the artifact carries no self-test"),
            Self::SelfTest { found, expected } => {
                write!(f, "self-test digest {found:016x}, expected {expected:016x}")
            }
        }
    }
}

impl core::error::Error for StateError {}

impl<const N: usize> State<N> {
    /// A state at rest for `model`: hidden states as the artifact gives them, else zero.
    ///
    /// # Errors
    /// [`StateError::TooSmall`] if `N` is below [`Model::state_len`].
    pub fn new(model: &Model<'_>) -> Result<Self, StateError> {
        let mut state = Self::unbound();
        state.bind(model)?;
        Ok(state)
    }

    /// A state that belongs to no model yet, for a `static`; [`StateBuf::bind`] it before use.
    pub const fn unbound() -> Self {
        Self {
            tag: 0,
            steps: 0,
            averaged: 0,
            #[cfg(any(feature = "decision", test))]
            resets: 1,
            counters: Counters {
                invalid_values: 0,
                skipped_steps: 0,
                saturated: 0,
            },
            words: [0; N],
        }
    }
}

impl<const N: usize> core::ops::Deref for State<N> {
    type Target = StateRef;

    fn deref(&self) -> &StateRef {
        self
    }
}

impl<const N: usize> core::ops::DerefMut for State<N> {
    fn deref_mut(&mut self) -> &mut StateRef {
        self
    }
}

impl StateRef {
    /// Ties the state to `model` and resets it, counters included.
    ///
    /// # Errors
    /// [`StateError::TooSmall`]; the state then is as it was.
    pub fn bind(&mut self, model: &Model<'_>) -> Result<(), StateError> {
        let (have, need) = (self.words.len(), model.state_len());
        if have < need {
            return Err(StateError::TooSmall {
                have: have as u32,
                need: need as u32,
            });
        }
        self.tag = model.tag();
        self.counters = Counters::default();
        self.reset(model)
    }

    /// Back to rest: initial hidden states, empty read-out, step 0. Counters go on.
    ///
    /// # Errors
    /// [`StateError::ForeignModel`]; the state then is as it was.
    pub fn reset(&mut self, model: &Model<'_>) -> Result<(), StateError> {
        self.check(model)?;
        self.clear(model);
        Ok(())
    }

    #[inline(never)]
    fn clear(&mut self, model: &Model<'_>) {
        self.steps = 0;
        self.averaged = 0;
        #[cfg(any(feature = "decision", test))]
        {
            self.resets = self.resets.wrapping_add(1).max(1);
        }
        // A number of which the compiler does not know that it is zero: its `memset` takes 400 bytes.
        let zero = core::hint::black_box(0);
        for word in &mut self.words {
            *word = zero;
        }
        let parts = model.parts();
        let mut at = parts.input + parts.scratch;
        for layer in model.layers() {
            if let Layer::Gru(g) = layer {
                let mut bytes = g.initial_state;
                let mut place = at;
                while let Some((value, rest)) = bytes.split_first_chunk() {
                    if let Some(word) = self.words.get_mut(place) {
                        *word = i16::from_le_bytes(*value);
                    }
                    bytes = rest;
                    place += 1;
                }
            }
            at += layer.words();
        }
    }

    /// Steps since the reset; stops at 2^32 - 1.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// What has been counted since the state was made.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether this is a state of `model` and long enough for it.
    #[inline]
    pub(crate) fn check(&self, model: &Model<'_>) -> Result<(), StateError> {
        // A tag is a checksum: another model can have the same.
        if self.tag != model.tag() || self.words.len() < model.state_len() {
            return Err(StateError::ForeignModel {
                found: self.tag,
                expected: model.tag(),
            });
        }
        Ok(())
    }

    /// Sets the hidden state of a GRU layer, the one with the number `layer` in the order of [`hidden`](Self::hidden): for
    /// an initial state that is known at run time, given after a reset.
    ///
    /// `values` has one value per unit, Q15 of the layer's full scale. Read-outs and the count of steps go on.
    ///
    /// # Errors
    /// [`StateError::ForeignModel`]; [`StateError::HiddenLen`] if there is no such layer or `values` has another length.
    /// The state then is as it was.
    pub fn set_hidden(
        &mut self,
        model: &Model<'_>,
        layer: usize,
        values: &[i16],
    ) -> Result<(), StateError> {
        self.check(model)?;
        let parts = model.parts();
        let mut at = parts.input + parts.scratch;
        let mut number = 0;
        let mut expected = 0;
        for l in model.layers() {
            if let Layer::Gru(g) = l {
                if number == layer {
                    expected = g.units();
                    break;
                }
                number += 1;
            }
            at += l.words();
        }
        match self.words.get_mut(at..at + values.len()) {
            Some(h) if values.len() == expected && expected != 0 => {
                for (h, &value) in h.iter_mut().zip(values) {
                    *h = value;
                }
                Ok(())
            }
            _ => Err(StateError::HiddenLen {
                found: values.len() as u32,
                expected: expected as u32,
            }),
        }
    }

    /// The hidden state of every GRU layer in order, `units` values each, Q15 of its full scale. Of a state of another model
    /// it gives words without meaning.
    pub fn hidden<'s>(&'s self, model: &'s Model<'_>) -> impl Iterator<Item = &'s [i16]> {
        let parts = model.parts();
        let mut at = parts.input + parts.scratch;
        model.layers().iter().filter_map(move |layer| {
            let from = at;
            at += layer.words();
            match layer {
                Layer::Gru(g) => self.words.get(from..from + g.units()),
                Layer::Dense(_) => None,
            }
        })
    }

    /// Continues `digest` over all hidden states of this moment, see [`hidden`](Self::hidden).
    pub fn digest(&self, model: &Model<'_>, digest: &mut Digest) {
        for h in self.hidden(model) {
            digest.update(h);
        }
    }

    pub(crate) fn split(&mut self, parts: Parts) -> Split<'_> {
        let (input, rest) = cut(&mut self.words, parts.input);
        let (_, rest) = cut(rest, parts.scratch);
        let (layers, rest) = cut(rest, parts.layers);
        let (readout, _) = cut(rest, parts.readout);
        Split {
            input,
            layers,
            readout,
        }
    }

    /// Bytes of a snapshot of `model`'s state.
    pub fn snapshot_len(model: &Model<'_>) -> usize {
        let parts = model.parts();
        16 + 2 * (parts.input + parts.layers + parts.readout)
    }

    /// Writes the stream's state to `out`, for sleep or brown-out; returns the bytes used.
    ///
    /// The bytes carry the model's tag and a CRC-32: [`restore`](Self::restore) refuses damage and
    /// the state of another model.
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
        let head = [self.tag, self.steps, self.averaged];
        let words = kept(&self.words, model.parts());
        let head = head.iter().flat_map(|n| n.to_le_bytes());
        let bytes = head.chain(words.flat_map(|w| w.to_le_bytes()));
        for (out, byte) in body.iter_mut().zip(bytes) {
            *out = byte;
        }
        *crc = crc_of(body).to_le_bytes();
        Ok(len)
    }

    /// Restores a [`snapshot`](Self::snapshot); the stream goes on bit for bit. Counters go on.
    ///
    /// # Errors
    /// [`StateError::Snapshot`], [`StateError::ForeignModel`] or [`StateError::TooSmall`]; the
    /// state then is as it was.
    pub fn restore(&mut self, model: &Model<'_>, bytes: &[u8]) -> Result<(), StateError> {
        if bytes.len() != Self::snapshot_len(model) {
            return Err(StateError::Snapshot);
        }
        let (crc, body) = bytes.split_first_chunk::<4>().ok_or(StateError::Snapshot)?;
        let (tag, rest) = body.split_first_chunk::<4>().ok_or(StateError::Snapshot)?;
        let (steps, rest) = rest.split_first_chunk::<4>().ok_or(StateError::Snapshot)?;
        let (averaged, rest) = rest.split_first_chunk::<4>().ok_or(StateError::Snapshot)?;
        if u32::from_le_bytes(*crc) != crc_of(body) {
            return Err(StateError::Snapshot);
        }
        let tag = u32::from_le_bytes(*tag);
        if tag != model.tag() {
            return Err(StateError::ForeignModel {
                found: tag,
                expected: model.tag(),
            });
        }
        if self.tag != tag {
            self.bind(model)?;
        }
        self.steps = u32::from_le_bytes(*steps);
        self.averaged = u32::from_le_bytes(*averaged);
        let split = self.split(model.parts());
        let words = [split.input, split.layers, split.readout];
        let words = words.into_iter().flat_map(|w| w.iter_mut());
        for (word, bytes) in words.zip(rest.chunks_exact(2)) {
            if let [lo, hi] = *bytes {
                *word = i16::from_le_bytes([lo, hi]);
            }
        }
        Ok(())
    }
}

/// The words that a snapshot keeps: everything but the scratch.
fn kept(words: &[i16], parts: Parts) -> impl Iterator<Item = &i16> {
    let after = parts.input + parts.scratch;
    let input = words.get(..parts.input).unwrap_or(&[]);
    let rest = words
        .get(after..after + parts.layers + parts.readout)
        .unwrap_or(&[]);
    input.iter().chain(rest)
}

pub(crate) fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc32::default();
    crc.update(bytes);
    crc.finish()
}

/// The parts of a state's buffer.
pub(crate) struct Split<'s> {
    pub(crate) input: &'s mut [i16],
    pub(crate) layers: &'s mut [i16],
    pub(crate) readout: &'s mut [i16],
}

/// `split_at_mut` that gives what there is instead of panicking.
#[inline]
pub(crate) fn cut(words: &mut [i16], n: usize) -> (&mut [i16], &mut [i16]) {
    let n = n.min(words.len());
    words.split_at_mut_checked(n).unwrap_or_default()
}

/// A 64-bit FNV-1a digest over hidden states: equal digests, equal bits.
///
/// Fowler, Noll and Vo; each value enters as two little-endian bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Continues over `values`.
    pub fn update(&mut self, values: &[i16]) {
        for byte in values.iter().flat_map(|v| v.to_le_bytes()) {
            self.0 = (self.0 ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The digest so far.
    pub const fn value(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::layout::Layout;
    use crate::random;
    use crate::writer::{Aligned, write};

    #[test]
    fn a_tag_alone_does_not_make_a_state_long_enough() {
        let bytes = write(&random::model(1, 2, &[6], 2), Layout::Rows).unwrap();
        let bytes = Aligned::new(&bytes);
        let model = Model::load(&bytes).unwrap();
        // As a model whose checksum is 0, or that of another model, would have it.
        let mut state = State::<4>::unbound();
        state.tag = model.tag();
        let foreign = StateError::ForeignModel {
            found: model.tag(),
            expected: model.tag(),
        };
        assert_eq!(model.step(&mut state, &[0i16; 2]).map(|_| ()), Err(foreign));
        assert_eq!(state.reset(&model), Err(foreign));
    }
}
