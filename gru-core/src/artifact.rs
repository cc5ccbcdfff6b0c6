//! The artifact: one self-contained byte string per model, shared by host and device.
//!
//! Frame (little-endian), then a `postcard` [`Header`], zeros up to a multiple of four, and the
//! payload that is used in place. `docs/artifact.md` shows it byte by byte.
//!
//! | offset | bytes | content |
//! | --- | --- | --- |
//! | 0 | 4 | magic `GRUA` |
//! | 4 | 2 | format version |
//! | 6 | 2 | flags, zero |
//! | 8 | 4 | total length in bytes |
//! | 12 | 4 | CRC-32/ISO-HDLC of all other bytes |
//! | 16 | 4 | length of the header in bytes |
//! | 20 | … | header |

use crate::activation::Activation;
use crate::layout::{Layout, align4};
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// The first four bytes of every artifact.
pub const MAGIC: [u8; 4] = *b"GRUA";
/// The format version that this crate writes, and the newest that it reads.
pub const VERSION: u16 = 1;
/// Bytes before the header.
pub const FRAME_LEN: usize = 20;
/// Where in the frame its checksum is.
pub(crate) const CRC_AT: usize = 12;
/// The most layers of a model.
pub const MAX_LAYERS: usize = 8;
/// The most units, features or outputs of a layer.
pub const MAX_DIM: u16 = 1024;
/// The largest artifact in bytes.
pub const MAX_LEN: u32 = 1 << 24;
/// The largest `nh_shift`.
pub const MAX_NH_SHIFT: u8 = 4;
/// The largest `w_shift`.
pub const MAX_W_SHIFT: u8 = 7;
/// The largest calibrated range, as a power of two, of an unbounded activation.
pub const MAX_EXPONENT: u8 = 7;
/// Bytes of a feature's conditioning in the payload.
pub const FEATURE_PARAMS: usize = 12;
/// Bytes of a feature's limits in the payload, where the header says that there are any.
pub const FEATURE_LIMITS: usize = 8;

/// Bytes of an output's thresholds in the payload, where the header has a decision layer.
pub const THRESHOLD_LEN: usize = 4;
/// The most votes that a decision layer remembers.
pub const MAX_VOTES: usize = 32;
/// The most steps of a sliding mean.
pub const MAX_SLIDING: u16 = 1024;
/// The most 16-bit words that the history of a sliding mean takes: steps times outputs.
pub const MAX_HISTORY: usize = 8192;
/// The inverse temperature that leaves probabilities as they are: Q12.
pub const NEUTRAL_TEMPERATURE: u16 = 4096;

/// What the bytes say of a model, apart from its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header<'a> {
    /// The model's name.
    pub name: &'a str,
    /// Class (or output) names, one a line; empty where the outputs have none.
    pub classes: &'a str,
    /// Sample rate in millihertz; 0 where it is unknown.
    pub sample_rate_mhz: u32,
    /// The order of the weights.
    pub layout: Layout,
    /// Input features, `1..=1024`.
    pub features: u16,
    /// The standardised input's full scale is `2^input_exponent`.
    pub input_exponent: u8,
    /// What happens to a sample that is missing or not valid.
    pub gap: GapPolicy,
    /// Whether the payload holds the smallest and largest valid count of every feature.
    pub limits: bool,
    /// The layers, in order.
    pub layers: Vec<LayerHeader, MAX_LAYERS>,
    /// Which logits are the result.
    pub readout: Readout,
    /// Steps after a reset until the outputs can be trusted, as the trainer measured it.
    pub warm_up_steps: u16,
    /// How the outputs of a stream become decisions; the payload then holds thresholds.
    pub decision: Option<DecisionHeader>,
    /// Vectors for the self-test, if there are any.
    pub self_test: Option<SelfTest>,
}

/// What happens to a sample that is missing, not finite or out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum GapPolicy {
    /// The last valid value of the feature is used again (zero before the first).
    Hold,
    /// The feature's mean is used.
    Zero,
    /// The step is left out: the state does not change.
    Skip,
}

/// Which logits are the result of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Readout {
    /// Those of the latest step.
    Last,
    /// The mean over the steps since the reset, the first `skip` of them left out.
    ///
    /// For windows: what one bit flip in a state does to the sums stays there until the reset. Where no reset comes,
    /// 65,535 steps after the first ones their weight is halved, and so again and again: between 32,768 and 65,535 steps count.
    Mean {
        /// Steps left out.
        skip: u16,
    },
    /// The exponential mean with the weight `2^-shift` for the latest step (`shift` in `1..=12`).
    Exponential {
        /// Logarithm of the time constant in steps.
        shift: u8,
    },
    /// The mean over the latest `steps` steps (fewer, while there are fewer): a state remembers the outputs of
    /// all of them, see [`MAX_HISTORY`].
    Sliding {
        /// Steps that count, `1..=1024`.
        steps: u16,
    },
}

impl Readout {
    /// 16-bit words of a state that it takes.
    #[cfg(any(feature = "readouts", test))]
    pub(crate) const fn words(self, outputs: usize) -> usize {
        let sums = 2 * align4(outputs);
        match self {
            Self::Last => 0,
            Self::Mean { .. } | Self::Exponential { .. } => sums,
            // The sums, those of this turn through the history, the place of the oldest outputs, the outputs.
            Self::Sliding { steps } => 2 * sums + 4 + align4(steps as usize * outputs),
        }
    }
}

/// How the outputs of a stream become decisions: see [`crate::decision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DecisionHeader {
    /// Logits are multiplied by this before the softmax: Q12, `256..=65535` (temperature 16 to 1/16).
    pub inverse_temperature: u16,
    /// A decision is looked for at every so many steps, at least 1.
    pub every_steps: u16,
    /// How the probabilities are smoothed.
    pub smoothing: Smoothing,
    /// A class replaces another one only if its score is at least so much higher: Q15, at most 32768;
    /// 0 with votes.
    pub margin: u16,
    /// A class stands for at least so many steps.
    pub hold_steps: u16,
    /// No event within so many steps of the latest one.
    pub refractory_steps: u16,
    /// The class that means that nothing happens: its decisions are no events.
    pub background: Option<u16>,
}

/// How a decision layer smooths probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Smoothing {
    /// Not at all.
    None,
    /// The exponential mean with the weight `2^-shift` for the latest (`shift` in `1..=12`).
    Exponential {
        /// Logarithm of the time constant.
        shift: u8,
    },
    /// Votes: the most probable class has one if it reaches its threshold.
    Votes {
        /// The latest so many votes count, `1..=32`.
        of: u8,
        /// So many make a class the decision, `1..=of`.
        enter: u8,
        /// With fewer it is the decision no longer, `1..=enter`.
        keep: u8,
    },
}

impl DecisionHeader {
    /// The most probable class of every step, whatever its probability.
    pub const fn new() -> Self {
        Self {
            inverse_temperature: NEUTRAL_TEMPERATURE,
            every_steps: 1,
            smoothing: Smoothing::None,
            margin: 0,
            hold_steps: 0,
            refractory_steps: 0,
            background: None,
        }
    }
}

impl Default for DecisionHeader {
    fn default() -> Self {
        Self::new()
    }
}

/// A layer's shape and variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LayerHeader {
    /// A gated recurrent unit layer.
    Gru(GruHeader),
    /// A Dense (fully connected) layer, applied at every time step.
    Dense(DenseHeader),
}

/// The shape and variant of a GRU layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct GruHeader {
    /// Units, `1..=1024`.
    pub units: u16,
    /// The candidate's activation.
    pub activation: Activation,
    /// The gates' activation.
    pub recurrent_activation: Activation,
    /// The state's full scale is `2^exponent`; 0 for bounded activations.
    pub exponent: u8,
    /// The gates' full scale is `2^recurrent_exponent`; 0 for bounded activations.
    pub recurrent_exponent: u8,
    /// The candidate's recurrent part has the full scale of its input times `2^nh_shift`.
    pub nh_shift: u8,
    /// The gates' sums over the input count `2^w_shift` times as much as those over the state, `0..=7`.
    pub w_shift: u8,
    /// Whether the reset gate acts after the recurrent product (Keras' default) or before it.
    pub reset_after: bool,
    /// In which order the layer reads a window, and what its outputs stand beside.
    pub direction: Direction,
    /// Whether the payload holds an initial state.
    pub initial_state: bool,
    /// The largest magnitude of a pre-activation; 32767 where nothing is clipped.
    pub clip: u16,
}

/// In which order a GRU layer reads a window, and what its outputs stand beside.
///
/// A layer reads the sequence that the layer in front of it gives, one row a time step. The second direction of a
/// bidirectional layer reads what its first direction, the layer in front of it, reads; the sequence that they give has
/// rows of the outputs of the first one followed by its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Direction {
    /// From the first row to the last one.
    Forward,
    /// From the last row to the first one; gives its outputs in the order in which it has read, as Keras'
    /// `go_backwards` does.
    Backward,
    /// The second direction, whose outputs are put back in the order of the rows: Keras' `Bidirectional` with
    /// `return_sequences`.
    Beside,
    /// The second direction, whose outputs stand in the order in which it has read: the last row has the last states of
    /// both directions, which is what Keras' `Bidirectional` gives without `return_sequences`.
    BesideLast,
}

impl Direction {
    /// Whether the layer is the second direction of a bidirectional layer.
    #[inline]
    pub const fn is_second(self) -> bool {
        matches!(self, Self::Beside | Self::BesideLast)
    }
}

/// The shape of a Dense layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DenseHeader {
    /// Units, `1..=1024`.
    pub units: u16,
    /// The activation; `Linear` for logits.
    pub activation: Activation,
    /// Fractional bits of a `Linear` or `Relu` output: real = `y · 2^-frac`, at most 15.
    pub frac: u8,
}

/// The self-test: `steps` samples of raw counts stand at the end of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SelfTest {
    /// Number of time steps.
    pub steps: u16,
    /// The digest of all hidden states that they produce from a reset.
    pub digest: u64,
}

impl LayerHeader {
    /// Units of the layer.
    #[inline]
    pub const fn units(&self) -> usize {
        match self {
            Self::Gru(g) => g.units as usize,
            Self::Dense(d) => d.units as usize,
        }
    }

    /// Bytes of the layer's payload; with recurrent weights left out it is shorter, and only the payload says by how
    /// much.
    pub const fn payload_len(&self, layout: Layout, input: usize) -> usize {
        match self {
            Self::Gru(g) => {
                let state = align4(g.state_len());
                layout.gru_len(input, g.units as usize) + state
            }
            Self::Dense(d) => layout.dense_len(input, d.units as usize),
        }
    }
}

impl GruHeader {
    /// Keras' default variant of a GRU: tanh, sigmoid, reset gate after the product.
    pub const fn new(units: u16) -> Self {
        Self {
            units,
            activation: Activation::Tanh,
            recurrent_activation: Activation::Sigmoid,
            exponent: 0,
            recurrent_exponent: 0,
            nh_shift: 0,
            w_shift: 0,
            reset_after: true,
            direction: Direction::Forward,
            initial_state: false,
            clip: 32767,
        }
    }

    /// Bytes of the initial state.
    pub(crate) const fn state_len(&self) -> usize {
        if self.initial_state {
            2 * self.units as usize
        } else {
            0
        }
    }

    /// Whether every kernel can run it: Keras' default variant without clipping.
    pub fn is_main_variant(&self) -> bool {
        self.activation == Activation::Tanh
            && self.recurrent_activation == Activation::Sigmoid
            && self.reset_after
            && self.clip == 32767
    }
}

/// A running CRC-32/ISO-HDLC (the one of zip and Ethernet).
#[derive(Clone)]
pub struct Crc32(Running);

/// On hosts sixteen bytes at a time, with 16 kB of tables.
#[cfg(feature = "std")]
type Running = crc::Digest<'static, u32, crc::Table<16>>;
#[cfg(feature = "std")]
static CRC: crc::Crc<u32, crc::Table<16>> =
    crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISO_HDLC);

/// On devices half a byte at a time, with a table of 64 bytes.
#[cfg(not(feature = "std"))]
type Running = Halves;

impl Default for Crc32 {
    fn default() -> Self {
        #[cfg(feature = "std")]
        let running = CRC.digest();
        #[cfg(not(feature = "std"))]
        let running = Halves::new();
        Self(running)
    }
}

impl Crc32 {
    /// Continues over `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of everything so far.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

/// The register of a CRC that goes on by half a byte.
#[derive(Clone)]
pub(crate) struct Halves(u32);

impl Halves {
    /// What half a byte in the register's lowest bits does to the others.
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut half = 0;
        while half < 16 {
            let mut register = half as u32;
            let mut bit = 0;
            while bit < 4 {
                register = (register >> 1) ^ ((register & 1) * 0xedb8_8320);
                bit += 1;
            }
            table[half] = register;
            half += 1;
        }
        table
    };

    pub(crate) const fn new() -> Self {
        Self(u32::MAX)
    }

    #[inline(never)]
    pub(crate) const fn update(&mut self, bytes: &[u8]) {
        let mut register = self.0;
        let mut rest = bytes;
        while let [byte, others @ ..] = rest {
            rest = others;
            register ^= *byte as u32;
            register = (register >> 4) ^ Self::TABLE[(register & 15) as usize];
            register = (register >> 4) ^ Self::TABLE[(register & 15) as usize];
        }
        self.0 = register;
    }

    pub(crate) const fn finalize(self) -> u32 {
        !self.0
    }
}

impl core::fmt::Debug for Crc32 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Crc32")
    }
}

/// The CRC-32/ISO-HDLC of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc32::default();
    crc.update(bytes);
    crc.finish()
}

/// The checksum of an artifact's bytes: all but the checksum's own four.
pub fn frame_crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc32::default();
    crc.update(bytes.get(..CRC_AT).unwrap_or(bytes));
    crc.update(bytes.get(16..).unwrap_or(&[]));
    crc.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;
    use std::vec::Vec;

    #[test]
    fn half_bytes_give_the_checksum_of_the_crate_crc() {
        let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
        let mut rng = SplitMix(3);
        for len in 0..100 {
            let bytes: Vec<u8> = (0..len).map(|_| rng.bits() as u8).collect();
            let (mut halves, cut) = (Halves::new(), rng.below(len + 1));
            halves.update(&bytes[..cut]);
            halves.update(&bytes[cut..]);
            assert_eq!(halves.finalize(), crc.checksum(&bytes), "{len} bytes");
        }
        let mut halves = Halves::new();
        halves.update(b"123456789");
        assert_eq!(halves.finalize(), 0xcbf4_3926);
    }
}
