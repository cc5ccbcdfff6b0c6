//! The checked view of an artifact: borrowed, immutable, shared by any number of streams.

use crate::activation::Activation;
#[cfg(any(feature = "decision", test))]
use crate::artifact::DecisionHeader;
use crate::artifact::{
    DenseHeader, Direction, GapPolicy, GruHeader, MAX_LAYERS, Readout, SelfTest,
};
#[cfg(any(feature = "decision", test))]
use crate::decision::{Rule, Threshold};
use crate::kernel::PREFERRED_LAYOUT;
use crate::layout::{GATES, Layout, align4};
use crate::sparse;
use heapless::Vec;

/// A model that has passed every check of [`Model::load`].
#[derive(Debug, Clone)]
#[repr(C)] // What is read at every step comes first: loads of M0 and M0+ reach 124 bytes.
pub struct Model<'a> {
    pub(crate) facts: Facts<'a>,
    pub(crate) layers: Vec<Layer<'a>, MAX_LAYERS>,
}

/// What is known of a model but for its layers. Nothing drops it, so constant functions can fill it in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) crc: u32,
    /// UTF-8, as `classes` is; the loader has seen to that.
    pub(crate) name: &'a [u8],
    pub(crate) classes: &'a [u8],
    pub(crate) sample_rate_mhz: u32,
    /// Input features.
    pub(crate) inputs: u16,
    pub(crate) layout: Layout,
    pub(crate) input_exponent: u8,
    pub(crate) gap: GapPolicy,
    pub(crate) readout: Readout,
    pub(crate) warm_up_steps: u16,
    #[cfg(any(feature = "decision", test))]
    pub(crate) decision: Option<DecisionHeader>,
    #[cfg(any(feature = "decision", test))]
    pub(crate) rule: Rule<'a>,
    pub(crate) self_test: Option<SelfTestView<'a>>,
    /// `FEATURE_PARAMS` bytes a feature.
    pub(crate) features: &'a [u8],
    /// `FEATURE_LIMITS` bytes a feature, or nothing.
    #[cfg(any(feature = "inputs", test))]
    pub(crate) limits: &'a [u8],
    /// How many layers it has.
    pub(crate) layers: u8,
    /// Lengths of the parts of a state, and whether a layer reads its window from the end: worked
    /// out once, because every step asks for both.
    pub(crate) parts: Parts,
    /// Their sum.
    pub(crate) state_len: usize,
    /// Where in a state's words the last layer's outputs begin, how many they are, their fractional bits.
    pub(crate) output_at: usize,
    pub(crate) output_len: u16,
    pub(crate) output_frac: u8,
    pub(crate) backwards: bool,
    /// Whether 16-bit counts take the short way: every feature is narrow, none has limits.
    pub(crate) narrow: bool,
}

/// The self-test in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SelfTestView<'a> {
    pub(crate) steps: u16,
    /// Starts with the digest as the header has it: seven bits in a byte, the lowest first.
    pub(crate) digest: &'a [u8],
    pub(crate) vectors: &'a [u8],
}

impl SelfTestView<'_> {
    pub(crate) fn header(&self) -> SelfTest {
        let (mut digest, mut at) = (0, 0);
        for &byte in self.digest {
            digest |= u64::from(byte & 127) << (at & 63);
            at += 7;
            if byte < 128 {
                break;
            }
        }
        SelfTest {
            steps: self.steps,
            digest,
        }
    }
}

/// One layer.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Layer<'a> {
    /// A gated recurrent unit layer.
    Gru(GruLayer<'a>),
    /// A Dense layer.
    Dense(DenseLayer<'a>),
}

impl Layer<'_> {
    /// Units of the layer.
    #[inline]
    pub const fn units(&self) -> usize {
        match self {
            Self::Gru(g) => g.units(),
            Self::Dense(d) => d.units(),
        }
    }

    /// Outputs of a time step: its units, of a second direction those of the first one and its own.
    #[inline]
    pub const fn outputs(&self) -> usize {
        match self {
            Self::Gru(g) => g.outputs(),
            Self::Dense(d) => d.units(),
        }
    }

    /// Whether this is the second direction of a bidirectional layer, which reads what the layer in front of it reads.
    #[inline]
    pub const fn is_second(&self) -> bool {
        matches!(self, Self::Gru(g) if g.is_second())
    }

    /// 16-bit words that it takes in a state: its units, and behind those of a second direction the outputs of both.
    #[inline]
    pub(crate) const fn words(&self) -> usize {
        let both = if self.is_second() {
            align4(self.outputs())
        } else {
            0
        };
        align4(self.units()) + both
    }

    /// Fractional bits of its outputs.
    #[inline]
    pub(crate) const fn frac(&self) -> u8 {
        match self {
            Self::Gru(g) => 15u8.saturating_sub(g.exponent()),
            Self::Dense(d) => d.frac(),
        }
    }
}

/// A GRU layer in place.
///
/// Only the loader makes one, and kernels rely on what it has checked: at least one input and unit,
/// `blocks` of `layout.gru_len(input, units)` bytes from a multiple of four (sound panels in a sparse layout), `nh_shift` of 4 at most,
/// `w_shift` of 7 at most.
#[derive(Debug, Clone, Copy)]
#[repr(C)] // Assembly reads it. Bytes and sizes are where a `DenseLayer` has them, so that they are read without asking which it is.
pub struct GruLayer<'a> {
    pub(crate) blocks: &'a [u8],
    pub(crate) input: u16,
    pub(crate) units: u16,
    pub(crate) layout: Layout,
    pub(crate) nh_shift: u8,
    pub(crate) w_shift: u8,
    pub(crate) direction: Direction,
    /// Units, of a second direction those of both.
    #[cfg(any(feature = "windows", test))]
    pub(crate) outputs: u16,
    /// Little-endian i16, empty for zeros.
    pub(crate) initial_state: &'a [u8],
    /// Without the portable kernel there is only [`Variant::MAIN`].
    #[cfg(any(gru_portable, test))]
    pub(crate) variant: Variant,
    #[cfg(any(gru_portable, test))]
    pub(crate) main_variant: bool,
}

/// What makes a GRU layer another one than Keras' default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) activation: Activation,
    pub(crate) recurrent_activation: Activation,
    pub(crate) exponent: u8,
    pub(crate) recurrent_exponent: u8,
    pub(crate) reset_after: bool,
    pub(crate) clip: u16,
}

impl Variant {
    /// Keras' default variant without clipping, which every kernel can run.
    pub(crate) const MAIN: Self = Self {
        activation: Activation::Tanh,
        recurrent_activation: Activation::Sigmoid,
        exponent: 0,
        recurrent_exponent: 0,
        reset_after: true,
        clip: 32767,
    };

    /// Whether it is that one.
    #[cfg(any(gru_portable, test))]
    pub(crate) const fn is_main(&self) -> bool {
        matches!(*self, Self::MAIN)
    }
}

impl GruLayer<'_> {
    /// Input features.
    #[inline]
    pub const fn input(&self) -> usize {
        self.input as usize
    }

    /// Units.
    #[inline]
    pub const fn units(&self) -> usize {
        self.units as usize
    }

    /// Outputs of a time step: units, of a second direction those of the first one and its own.
    #[inline]
    pub const fn outputs(&self) -> usize {
        #[cfg(any(feature = "windows", test))]
        return self.outputs as usize;
        #[cfg(not(any(feature = "windows", test)))]
        self.units()
    }

    /// Without the feature `windows` there are none.
    #[inline]
    pub(crate) const fn is_second(&self) -> bool {
        cfg!(any(feature = "windows", test)) && self.direction.is_second()
    }

    /// The weights and parameters, block after block.
    #[inline]
    pub fn blocks(&self) -> &[u8] {
        self.blocks
    }

    /// Recurrent weights that are stored, padding not counted: `3 · units²`, or what pruning has left of them.
    pub fn recurrent_weights(&self) -> usize {
        if self.layout.is_sparse() {
            sparse::weights_left(self.layout, self.input(), self.units(), self.blocks)
        } else {
            GATES * self.units() * self.units()
        }
    }

    /// The shift between the scales of the candidate's two parts.
    #[inline]
    pub const fn nh_shift(&self) -> u8 {
        self.nh_shift
    }

    /// The shift between the scales of the gates' two parts.
    #[inline]
    pub const fn w_shift(&self) -> u8 {
        self.w_shift
    }

    /// Whether this is Keras' default variant, which every kernel can run.
    #[inline]
    pub const fn is_main_variant(&self) -> bool {
        #[cfg(any(gru_portable, test))]
        return self.main_variant;
        #[cfg(not(any(gru_portable, test)))]
        true
    }

    #[inline]
    pub(crate) const fn variant(&self) -> Variant {
        #[cfg(any(gru_portable, test))]
        return self.variant;
        #[cfg(not(any(gru_portable, test)))]
        Variant::MAIN
    }

    /// The state's full scale is `2^exponent`.
    #[inline]
    pub const fn exponent(&self) -> u8 {
        self.variant().exponent
    }

    /// Shape and variant, as the artifact has them.
    pub fn header(&self) -> GruHeader {
        let variant = self.variant();
        GruHeader {
            units: self.units,
            activation: variant.activation,
            recurrent_activation: variant.recurrent_activation,
            exponent: variant.exponent,
            recurrent_exponent: variant.recurrent_exponent,
            nh_shift: self.nh_shift,
            w_shift: self.w_shift,
            reset_after: variant.reset_after,
            direction: self.direction,
            initial_state: !self.initial_state.is_empty(),
            clip: variant.clip,
        }
    }
}

/// A Dense layer in place.
///
/// Only the loader makes one, and kernels rely on what it has checked: at least one input and unit,
/// and `bytes` that are `layout.dense_len(input, units)` from a multiple of four.
#[derive(Debug, Clone, Copy)]
#[repr(C)] // Assembly reads it.
pub struct DenseLayer<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) input: u16,
    pub(crate) units: u16,
    pub(crate) layout: Layout,
    pub(crate) activation: Activation,
    pub(crate) frac: u8,
}

impl DenseLayer<'_> {
    /// Input features.
    #[inline]
    pub const fn input(&self) -> usize {
        self.input as usize
    }

    /// Units.
    #[inline]
    pub const fn units(&self) -> usize {
        self.units as usize
    }

    /// Shape, as the artifact has it.
    pub fn header(&self) -> DenseHeader {
        DenseHeader {
            units: self.units,
            activation: self.activation,
            frac: self.frac,
        }
    }

    /// Weights, then parameters.
    #[inline]
    pub const fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Fractional bits of a linear output.
    #[inline]
    pub const fn frac(&self) -> u8 {
        match self.activation {
            Activation::Linear | Activation::Relu => self.frac,
            _ => 15,
        }
    }
}

impl Facts<'_> {
    #[inline(always)]
    pub(crate) const fn empty() -> Self {
        Self {
            bytes: &[],
            crc: 0,
            name: &[],
            classes: &[],
            sample_rate_mhz: 0,
            inputs: 0,
            layout: PREFERRED_LAYOUT,
            input_exponent: 0,
            gap: GapPolicy::Hold,
            readout: Readout::Last,
            warm_up_steps: 0,
            #[cfg(any(feature = "decision", test))]
            decision: None,
            #[cfg(any(feature = "decision", test))]
            rule: Rule::EMPTY,
            self_test: None,
            features: &[],
            #[cfg(any(feature = "inputs", test))]
            limits: &[],
            layers: 0,
            parts: Parts::NONE,
            state_len: 0,
            output_at: 0,
            output_len: 0,
            output_frac: 0,
            backwards: false,
            narrow: false,
        }
    }

    /// Input features.
    pub(crate) const fn features(&self) -> usize {
        self.inputs as usize
    }

    /// Outputs of the last layer.
    pub(crate) const fn outputs(&self) -> usize {
        self.output_len as usize
    }
}

impl Layer<'_> {
    /// One that a real one takes the place of.
    pub(crate) const NONE: Self = Self::Dense(DenseLayer {
        bytes: &[],
        input: 0,
        units: 0,
        layout: PREFERRED_LAYOUT,
        activation: Activation::Linear,
        frac: 0,
    });
}

impl<'a> Model<'a> {
    /// A model of which nothing is known yet.
    #[inline(always)]
    pub(crate) const fn empty() -> Self {
        Self {
            layers: Vec::new(),
            facts: Facts::empty(),
        }
    }

    /// The model's name.
    pub fn name(&self) -> &'a str {
        core::str::from_utf8(self.facts.name).unwrap_or_default()
    }

    /// The names of the classes or outputs, in order; empty where they have none.
    pub fn classes(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        // A set of one: the search for a single char leaves a bounds check in the linked image.
        let classes = core::str::from_utf8(self.facts.classes).unwrap_or_default();
        classes.split(['\n']).filter(|c| !c.is_empty())
    }

    /// Sample rate in millihertz; 0 where it is unknown.
    pub const fn sample_rate_mhz(&self) -> u32 {
        self.facts.sample_rate_mhz
    }

    /// Input features `I`: the length of a sample.
    pub const fn features(&self) -> usize {
        self.facts.inputs as usize
    }

    /// Outputs `O` of the last layer.
    pub const fn outputs(&self) -> usize {
        self.facts.output_len as usize
    }

    /// Fractional bits of the outputs: real = `y · 2^-frac`.
    pub const fn output_frac(&self) -> u8 {
        self.facts.output_frac
    }

    /// The layers.
    pub fn layers(&self) -> &[Layer<'a>] {
        &self.layers
    }

    /// The order of the weights.
    pub const fn layout(&self) -> Layout {
        self.facts.layout
    }

    /// The standardised input's full scale is `2^input_exponent`.
    pub const fn input_exponent(&self) -> u8 {
        self.facts.input_exponent
    }

    /// Which logits are the result.
    pub const fn readout(&self) -> Readout {
        self.facts.readout
    }

    /// What happens to samples that are not valid.
    pub const fn gap_policy(&self) -> GapPolicy {
        self.facts.gap
    }

    /// Steps after a reset until the outputs can be trusted.
    pub const fn warm_up_steps(&self) -> u16 {
        self.facts.warm_up_steps
    }

    #[cfg(any(feature = "decision", test))]
    /// How the outputs of a stream become decisions, if the artifact says so.
    pub fn decision(&self) -> Option<DecisionHeader> {
        self.facts.decision
    }

    #[cfg(any(feature = "decision", test))]
    /// The decision thresholds of all outputs, in order; none where the artifact has no rule.
    pub fn thresholds(&self) -> impl Iterator<Item = Threshold> + use<'a> {
        self.facts.rule.thresholds()
    }

    #[cfg(any(feature = "decision", test))]
    /// The length `N` of the [`Decider<N>`](crate::Decider) that a stream needs, in 16-bit words.
    pub const fn decider_len(&self) -> usize {
        self.facts.rule.words(self.outputs())
    }

    #[cfg(any(feature = "decision", test))]
    #[inline]
    pub(crate) fn rule(&self) -> &Rule<'a> {
        &self.facts.rule
    }

    /// The artifact's CRC-32: the tag that ties a state to its model.
    pub const fn tag(&self) -> u32 {
        self.facts.crc
    }

    /// The artifact's bytes.
    pub const fn bytes(&self) -> &'a [u8] {
        self.facts.bytes
    }

    /// Whether time steps can be pushed one at a time: no layer reads its window from the end,
    /// alone or beside another one.
    pub const fn is_streaming(&self) -> bool {
        !(cfg!(any(feature = "windows", test)) && self.facts.backwards)
    }

    /// Multiply-accumulates of one time step, padding and weights that are left out not counted.
    pub fn macs(&self) -> usize {
        let macs = |layer: &Layer<'_>| match layer {
            Layer::Gru(g) => GATES * g.units() * g.input() + g.recurrent_weights(),
            Layer::Dense(d) => d.units() * d.input(),
        };
        self.layers.iter().map(macs).sum()
    }

    /// The length `N` of the [`State<N>`](crate::State) that a stream needs, in 16-bit words.
    pub const fn state_len(&self) -> usize {
        self.facts.state_len
    }

    #[inline]
    pub(crate) fn parts(&self) -> Parts {
        self.facts.parts
    }
}

/// Lengths in 16-bit words of the parts of a state's buffer, in this order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) input: usize,
    pub(crate) scratch: usize,
    pub(crate) layers: usize,
    pub(crate) readout: usize,
}

impl Parts {
    pub(crate) const NONE: Self = Self {
        input: 0,
        scratch: 0,
        layers: 0,
        readout: 0,
    };
}
