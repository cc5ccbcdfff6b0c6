//! `&[u8]` → [`Model`]: every check happens here, once.
//!
//! The order is fixed: length, magic, version, CRC over the whole frame, only then the header; then
//! nothing may remain, dimensions are within limits, byte counts equal the dimensions, multipliers
//! and shifts are in range, padding is canonical, and no accumulator can overflow.

#[cfg(any(feature = "decision", test))]
use crate::activation::Activation;
#[cfg(any(feature = "windows", test))]
use crate::artifact::Direction;
#[cfg(any(feature = "inputs", test))]
use crate::artifact::FEATURE_LIMITS;
use crate::artifact::{CRC_AT, Crc32, FEATURE_PARAMS, FRAME_LEN, MAGIC, MAX_LEN, VERSION};
#[cfg(any(feature = "decision", test))]
use crate::artifact::{DecisionHeader, NEUTRAL_TEMPERATURE, THRESHOLD_LEN};
#[cfg(any(feature = "decision", test))]
use crate::decision::Rule;
use crate::header::Reader;
#[cfg(any(feature = "inputs", test))]
use crate::input::Limits;
use crate::kernel::{Active, Kernel, PORTABLE, known, unpruned};
use crate::layout::{CANDIDATE, GATES, HEAD, Layout, RESET, UNIT_PARAMS, align4, winograd_head};
use crate::model::{Facts, Layer, Model, Parts};
use crate::sparse::Panels;

mod constant;
mod sparse;

pub use constant::Embedded;

/// Why a byte string was refused as a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum LoadError {
    /// Fewer bytes than the frame needs.
    Truncated {
        /// Bytes given.
        have: u32,
        /// Bytes needed.
        need: u32,
    },
    /// The first four bytes are not `GRUA`.
    BadMagic {
        /// What they are.
        found: [u8; 4],
    },
    /// Written in another format version.
    UnsupportedVersion {
        /// The version found.
        found: u16,
        /// The newest that this program reads.
        newest: u16,
    },
    /// More bytes than the frame announces, or more than an artifact may have.
    Length {
        /// Bytes given.
        have: u32,
        /// Bytes announced.
        stated: u32,
    },
    /// The checksum does not match: the bytes are damaged.
    BadCrc {
        /// The checksum in the frame.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The bytes do not start at a multiple of four.
    Misaligned,
    /// The header cannot be read.
    Header,
    /// The bytes are not the one canonical form of this model.
    NotCanonical,
    /// The weights are in another order than this program's kernel reads: one that is built with
    /// the feature `int4` or `sparse` also takes that of its kernel for half bytes or for recurrent weights that are
    /// left out (M3, M55 and M85 have none), one with `portable` takes every order.
    Layout {
        /// Their order.
        found: Layout,
        /// What the kernel reads.
        expected: Layout,
    },
    /// The model needs a Cargo feature of this crate that the program was built without.
    Feature(Feature),
    /// A number in the header or payload is out of its range.
    Range {
        /// Which one.
        field: Field,
        /// The layer, counted from 0.
        layer: u8,
        /// What was found; 0 where at least 1 is needed.
        found: u32,
        /// The largest allowed value.
        max: u32,
    },
    /// The payload has another length than the header's dimensions call for.
    Payload {
        /// Bytes given.
        have: u32,
        /// Bytes needed.
        need: u32,
    },
    /// A row's accumulator could overflow.
    Overflow {
        /// The layer, counted from 0.
        layer: u8,
    },
}

/// A Cargo feature of this crate that a model can need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Feature {
    /// `activations`: Dense layers with another activation than the linear one.
    Activations,
    /// `decision`: a decision layer.
    Decision,
    /// `inputs`: limits of the raw counts, or counts beyond 16 bits.
    Inputs,
    /// `windows`: a GRU layer that reads a window from its end, alone or beside the one in front of it.
    Windows,
    /// `portable`: another variant of the GRU than Keras' default one.
    Portable,
    /// `readouts`: a mean of the outputs over time steps.
    Readouts,
}

impl Feature {
    /// The feature's name in `Cargo.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activations => "activations",
            Self::Windows => "windows",
            Self::Decision => "decision",
            Self::Inputs => "inputs",
            Self::Portable => "portable",
            Self::Readouts => "readouts",
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Activations => "the model needs the feature `activations` of gru-core",
            Self::Windows => "the model needs the feature `windows` of gru-core",
            Self::Decision => "the model needs the feature `decision` of gru-core",
            Self::Inputs => "the model needs the feature `inputs` of gru-core",
            Self::Portable => "the model needs the feature `portable` of gru-core",
            Self::Readouts => "the model needs the feature `readouts` of gru-core",
        }
    }
}

/// The number of the header or payload that a [`LoadError::Range`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Field {
    /// Frame flags.
    Flags,
    /// Input features.
    Features,
    /// Number of layers.
    Layers,
    /// Units of a layer, or of both directions together.
    Units,
    /// A calibrated exponent; of a second direction, its distance from that of the first one.
    Exponent,
    /// The direction of a layer that has no first direction in front of it.
    Direction,
    /// The shift of the candidate's recurrent part.
    NhShift,
    /// The shift of the gates' input part.
    WShift,
    /// Fractional bits.
    Frac,
    /// The clipping range.
    Clip,
    /// A variant that this layout cannot hold.
    Variant,
    /// A multiplier.
    Multiplier,
    /// The magnitude of a weight of 4 bits.
    Weight,
    /// A Dense bias.
    Bias,
    /// A shift of the input conditioning.
    Shift,
    /// Counts per unit of a feature, as the bits of an `f32`.
    CountsPerUnit,
    /// The read-out.
    Readout,
    /// Steps times outputs of a sliding mean.
    History,
    /// Number of class names.
    Classes,
    /// Steps of the self-test.
    SelfTest,
    /// The inverse temperature of a decision layer, less its smallest value; of outputs that are
    /// probabilities already, or have too few fractional bits, its distance from 1.
    Temperature,
    /// Steps from one decision to the next.
    Interval,
    /// The smoothing of a decision layer.
    Smoothing,
    /// The margin between two classes.
    Margin,
    /// A decision threshold, or by how much one is released above where it is entered.
    Threshold,
    /// The class that means that nothing happens.
    Background,
}

impl core::fmt::Display for LoadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::Truncated { have, need } => write!(f, "truncated: {have} of {need} bytes"),
            Self::BadMagic { found } => {
                write!(f, "not an artifact: starts with {found:02x?}, not `GRUA`")
            }
            Self::UnsupportedVersion { found, newest } => {
                write!(
                    f,
                    "format version {found}, this program reads up to {newest}"
                )
            }
            Self::Length { have, stated } => {
                write!(f, "{have} bytes where the frame announces {stated}")
            }
            Self::BadCrc { stored, computed } => {
                write!(f, "damaged: checksum {computed:08x}, stored {stored:08x}")
            }
            Self::Misaligned => f.write_str("the bytes do not start at a multiple of four"),
            Self::Header => f.write_str("the header cannot be read"),
            Self::Layout { found, expected } => write!(
                f,
                "weights in the layout {found:?}, this program takes {expected:?} only"
            ),
            Self::Feature(feature) => f.write_str(feature.reason()),
            Self::NotCanonical => f.write_str("not the canonical form of this model"),
            Self::Range {
                field,
                layer,
                found,
                max,
            } => write!(
                f,
                "{field:?} of layer {layer} is {found}, at most {max} allowed"
            ),
            Self::Payload { have, need } => {
                write!(
                    f,
                    "payload of {have} bytes where the header calls for {need}"
                )
            }
            Self::Overflow { layer } => write!(f, "an accumulator of layer {layer} could overflow"),
        }
    }
}

impl LoadError {
    /// What is wrong, without numbers: for constants, which cannot format any.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "the artifact is truncated",
            Self::BadMagic { .. } => "not an artifact: does not start with `GRUA`",
            Self::UnsupportedVersion { .. } => "an artifact of another format version",
            Self::Length { .. } => "the artifact has another length than its frame announces",
            Self::BadCrc { .. } => "the artifact is damaged: another checksum than the stored one",
            Self::Misaligned => "the artifact does not start at a multiple of four",
            Self::Header => "the artifact's header cannot be read",
            Self::Layout { found, .. } if found.weight_bits() == 4 => {
                "4-bit weights in a layout that this target reads with the feature `int4` or `portable` of gru-core, if at all"
            }
            Self::Layout { found, .. } if found.is_sparse() => {
                "sparse weights in a layout that this target reads with the feature `sparse` or `portable` of gru-core, if at all"
            }
            Self::Layout { .. } => {
                "the artifact's weights are in another layout than this target's kernel reads"
            }
            Self::Feature(feature) => feature.reason(),
            Self::NotCanonical => "the artifact is not the canonical form of its model",
            Self::Range { .. } => "a number of the artifact is out of its range",
            Self::Payload { .. } => {
                "the artifact's payload has another length than its header calls for"
            }
            Self::Overflow { .. } => "an accumulator of the model could overflow",
        }
    }
}

impl core::error::Error for LoadError {}

/// The length in bytes of the artifact that starts at `bytes`, as its frame announces it.
///
/// For a flash region larger than the artifact: read the length, then load that many bytes.
pub fn stated_len(bytes: &[u8]) -> Result<usize, LoadError> {
    let mut reader = Reader::new(bytes);
    let (stated, _) = reader.frame();
    match reader.error {
        Some(error) => Err(error),
        None => Ok(stated as usize),
    }
}

impl<'a> Model<'a> {
    /// Checks `bytes` and returns the view that runs them in place.
    ///
    /// `bytes` has to be exactly one artifact and to start at a multiple of four.
    ///
    /// # Errors
    /// [`LoadError`] says what was found and what was expected; nothing is kept.
    #[inline]
    pub fn load(bytes: &'a [u8]) -> Result<Self, LoadError> {
        let mut result = Ok(Self::empty());
        if let Ok(model) = &mut result
            && let Some(error) = model.fill(bytes)
        {
            result = Err(error);
        }
        result
    }

    /// Checks `bytes` and becomes what they say, or says why not.
    ///
    /// [`Facts::check`] is its twin: what constants cannot do (addresses, a quick checksum, a vector's methods) stands here.
    #[inline(never)]
    fn fill(&mut self, bytes: &'a [u8]) -> Option<LoadError> {
        let facts = &mut self.facts;
        facts.bytes = bytes;
        let mut reader = Reader::new(bytes);
        let flags = reader.start(bytes);
        if bytes.as_ptr().addr() & 3 != 0 {
            reader.fail(LoadError::Misaligned);
        }
        if reader.error.is_some() {
            return reader.error;
        }
        let stored = reader.word();
        let mut crc = Crc32::default();
        crc.update(bytes.get(..CRC_AT).unwrap_or(bytes));
        crc.update(reader.rest);
        let computed = crc.finish();
        if stored != computed {
            return Some(LoadError::BadCrc { stored, computed });
        }
        let payload = reader.frame_end(facts, stored, flags);
        let limits = reader.header(facts);
        self.layers.clear();
        for n in 0..facts.layers {
            reader.layer = n;
            // After an error there may be more than there is room for.
            if self
                .layers
                .push(reader.layer(facts, self.layers.last()))
                .is_err()
            {
                break;
            }
        }
        reader.header_end(facts);
        if reader.error.is_some() {
            return reader.error;
        }
        let mut cut = reader.payload(facts, payload, limits);
        for layer in &mut self.layers {
            reader.layer_payload(facts, &mut cut, layer);
        }
        reader.payload_end(facts, cut, self.layers.last());
        reader.end(payload)
    }
}

/// Memory for a model: [`load`](Self::load) makes the view there, where [`Model::load`] moves it to where it is wanted.
///
/// A program that has one of these in a `static` or beside its state needs neither the stack for a second view nor the
/// `memcpy` of a kilobyte that the compiler links for a move.
///
/// ```
/// # #[repr(align(4))] struct Artifact<B: ?Sized>(B);
/// # static ARTIFACT: &Artifact<[u8]> = &Artifact(*include_bytes!("../examples/level.gru"));
/// let mut loader = gru_core::Loader::new();
/// let model = loader.load(&ARTIFACT.0)?;
/// assert_eq!(model.features(), 1);
/// # Ok::<(), gru_core::LoadError>(())
/// ```
#[derive(Debug, Clone)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Loader<'a>(Model<'a>);

impl<'a> Loader<'a> {
    /// Room for one model at a time.
    pub const fn new() -> Self {
        Self(Model::empty())
    }

    /// Checks `bytes`, as [`Model::load`] does, and returns the model, which takes the place of an earlier one.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load(&mut self, bytes: &'a [u8]) -> Result<&Model<'a>, LoadError> {
        match self.0.fill(bytes) {
            None => Ok(&self.0),
            Some(error) => Err(error),
        }
    }
}

impl Default for Loader<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Reader<'a> {
    /// The frame of `bytes` up to its checksum; the flags.
    #[inline(always)]
    const fn start(&mut self, bytes: &[u8]) -> u32 {
        let (stated, flags) = self.frame();
        let have = bytes.len() as u32;
        if have < stated {
            self.fail(LoadError::Truncated { have, need: stated });
        }
        if have > stated {
            self.fail(LoadError::Length { have, stated });
        }
        flags
    }

    /// The frame up to its checksum: the length that it states, and the flags.
    const fn frame(&mut self) -> (u32, u32) {
        let have = self.rest.len() as u32;
        let need = FRAME_LEN as u32;
        if have < need {
            self.fail(LoadError::Truncated { have, need });
        }
        let found = self.word();
        if found != u32::from_le_bytes(MAGIC) {
            let found = found.to_le_bytes();
            self.fail(LoadError::BadMagic { found });
        }
        let found = self.half() as u16;
        if found != VERSION {
            self.fail(LoadError::UnsupportedVersion {
                found,
                newest: VERSION,
            });
        }
        let flags = self.half();
        let stated = self.word();
        if stated > MAX_LEN || stated < need {
            self.fail(LoadError::Length { have, stated });
        }
        (stated, flags)
    }

    /// What follows a sound checksum, up to the header, which is to be read next; the payload.
    #[inline(always)]
    const fn frame_end(&mut self, model: &mut Facts<'a>, stored: u32, flags: u32) -> &'a [u8] {
        model.crc = stored;
        let header_len = self.word() as usize;
        self.range(Field::Flags, flags, 0);
        let header = self.take(header_len);
        self.pad(header_len);
        core::mem::replace(&mut self.rest, header)
    }

    /// Whether the payload was as long as the header calls for, and the first error.
    #[inline(always)]
    const fn end(&self, payload: &[u8]) -> Option<LoadError> {
        let (have, need) = (payload.len() as u32, self.need as u32);
        if have != need {
            return Some(LoadError::Payload { have, need });
        }
        self.error
    }

    const fn zeros(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&byte, others)) = rest.split_first() {
            rest = others;
            if byte != 0 {
                self.not_canonical();
            }
        }
    }

    /// Zeros behind so many bytes, up to a multiple of four.
    #[inline(never)]
    const fn pad(&mut self, n: usize) {
        let mut left = n.wrapping_neg() & 3;
        while left != 0 {
            if self.byte() != 0 {
                self.not_canonical();
            }
            left -= 1;
        }
    }

    /// So many bytes, and zeros up to a multiple of four.
    #[inline(never)]
    const fn padded(&mut self, n: usize) -> &'a [u8] {
        self.ahead(align4(n));
        let bytes = self.take(n);
        self.pad(n);
        bytes
    }

    #[inline(never)]
    const fn half(&mut self) -> u32 {
        match *self.take(2) {
            [lo, hi] => u16::from_le_bytes([lo, hi]) as u32,
            _ => 0,
        }
    }

    #[inline(never)]
    const fn word(&mut self) -> u32 {
        self.half() | self.half() << 16
    }

    /// A multiplier of 15 bits.
    #[inline(never)]
    const fn multiplier(&mut self) -> u32 {
        let multiplier = self.half();
        self.positive(Field::Multiplier, multiplier, 32767);
        multiplier
    }

    /// Begins to cut the payload into the parts of a model whose header has been read, and to check them.
    ///
    /// Of a payload that is too short they are empty or shifted, and errors have no meaning.
    #[inline(always)]
    const fn payload(&mut self, model: &mut Facts<'a>, payload: &'a [u8], limits: bool) -> Cut {
        self.rest = payload;
        self.need = 0;
        let features = model.features();
        model.features = self.ahead(features * FEATURE_PARAMS);
        model.backwards = false;
        let mut narrow = !cfg!(any(feature = "inputs", test)) || !limits;
        let mut left = features;
        while left != 0 {
            narrow &= self.feature();
            left -= 1;
        }
        model.narrow = narrow;
        #[cfg(any(feature = "inputs", test))]
        {
            model.limits = match limits {
                true => self.ahead(features * FEATURE_LIMITS),
                false => &[],
            };
            let mut left = model.limits.len() / FEATURE_LIMITS;
            while left != 0 {
                if !Limits::read(self.take(FEATURE_LIMITS)).is_range() {
                    self.not_canonical();
                }
                left -= 1;
            }
        }
        #[cfg(not(any(feature = "inputs", test)))]
        if !narrow {
            self.lacks(Feature::Inputs);
        }
        Cut {
            parts: Parts {
                input: align4(features),
                ..Parts::NONE
            },
            input: features,
            shared: features,
        }
    }

    /// The payload of the next layer.
    #[inline(always)]
    const fn layer_payload(
        &mut self,
        #[cfg_attr(
            not(any(feature = "windows", test)),
            expect(unused_variables, reason = "only a window can be read from its end")
        )]
        model: &mut Facts<'a>,
        cut: &mut Cut,
        layer: &mut Layer<'a>,
    ) {
        let units = layer.units();
        cut.parts.layers += layer.words();
        let mut outputs = units;
        if layer.is_second() {
            cut.input = cut.shared;
            outputs = layer.outputs();
        }
        let input = cut.input;
        cut.shared = input;
        match layer {
            Layer::Gru(g) => {
                g.input = input as u16;
                let layout = known(g.layout);
                let (shift, reset_after) = (g.w_shift, g.variant().reset_after);
                let scratch = layout.gru_scratch(input, units, shift, reset_after);
                if scratch > cut.parts.scratch {
                    cut.parts.scratch = scratch;
                }
                #[cfg(any(feature = "windows", test))]
                {
                    model.backwards |= !matches!(g.direction, Direction::Forward);
                }
                let len = if layout.is_sparse() {
                    Panels::new(layout, input, units, self.rest).measure()
                } else {
                    unpruned(layout).gru_len(input, units)
                };
                g.blocks = self.ahead(len);
                if layout.is_sparse() {
                    self.panels(g);
                } else {
                    let columns = [input, units];
                    self.blocks(layout, units, columns, columns, shift);
                }
                if !g.initial_state.is_empty() {
                    g.initial_state = self.padded(2 * units);
                }
            }
            Layer::Dense(d) => {
                d.input = input as u16;
                d.bytes = self.ahead(known(d.layout).whole().dense_len(input, units));
                self.dense_payload(d.layout, input, units);
            }
        }
        self.layer += 1;
        cut.input = outputs;
    }

    /// What follows the layers, the last one of which is needed for it.
    #[inline(always)]
    const fn payload_end(
        &mut self,
        model: &mut Facts<'a>,
        cut: Cut,
        #[cfg_attr(
            not(any(feature = "decision", test)),
            expect(unused_variables, reason = "only a decision layer asks for it")
        )]
        last: Option<&Layer<'a>>,
    ) {
        self.layer = 0;
        let features = model.features();
        #[cfg_attr(
            not(any(feature = "readouts", test)),
            expect(unused_mut, reason = "only means take room in a state")
        )]
        let Cut {
            mut parts, input, ..
        } = cut;
        #[cfg(any(feature = "readouts", test))]
        {
            parts.readout = model.readout.words(input);
        }
        let all = parts.input + parts.scratch + parts.layers;
        model.state_len = all + parts.readout;
        model.output_at = all - align4(input);
        model.parts = parts;
        #[cfg(any(feature = "decision", test))]
        self.rule(model, last);
        if let Some(test) = &mut model.self_test {
            test.vectors = self.padded(2 * features * test.steps as usize);
        }
    }

    /// The conditioning of a feature, see [`crate::input`]; says whether it is narrow: 16-bit counts then need
    /// neither saturation nor the shift before the multiplication, because the difference from the offset is
    /// at most 65535.
    const fn feature(&mut self) -> bool {
        let offset = self.word() as i32;
        // Positive and finite, without float arithmetic.
        let counts_per_unit = self.word();
        self.positive(Field::CountsPerUnit, counts_per_unit, 0x7f7f_ffff);
        self.multiplier();
        let shifts = self.half();
        self.range(Field::Shift, shifts & 0xff, 17);
        self.range(Field::Shift, shifts >> 8, 16);
        shifts >> 8 == 0 && offset == offset as i16 as i32
    }

    /// The decision layer: its thresholds, and whether the outputs can be scaled.
    #[cfg(any(feature = "decision", test))]
    const fn rule(&mut self, model: &mut Facts<'a>, last: Option<&Layer<'a>>) {
        let thresholds = match model.decision {
            Some(_) => self.ahead(model.outputs() * THRESHOLD_LEN),
            None => &[],
        };
        let mut left = thresholds.len() / THRESHOLD_LEN;
        while left != 0 {
            left -= 1;
            let enter = self.half();
            self.range(Field::Threshold, enter, 32768);
            let release = self.half();
            self.range(Field::Threshold, release, enter);
        }
        let probabilities = matches!(last, Some(Layer::Dense(d))
            if matches!(d.activation, Activation::Sigmoid | Activation::HardSigmoid));
        let header = match model.decision {
            Some(header) => header,
            None => DecisionHeader::new(),
        };
        match Rule::new(header, thresholds, probabilities, model.output_frac) {
            Some(rule) => model.rule = rule,
            None => {
                let off = header.inverse_temperature.abs_diff(NEUTRAL_TEMPERATURE);
                self.range(Field::Temperature, off as u32, 0);
            }
        }
    }

    /// The blocks of so many units; their parts have columns as stored, and some of them are no padding.
    const fn blocks(
        &mut self,
        layout: Layout,
        units: usize,
        columns: [usize; 2],
        real: [usize; 2],
        shift: u8,
    ) {
        let group = unpruned(layout).gru_group();
        let mut left = units as isize;
        while left > 0 && self.error.is_none() {
            self.rows(&Rows {
                layout,
                gates: GATES,
                used: left,
                columns,
                real,
                shift,
            });
            let mut unit = 0;
            while unit < group as isize {
                // Multipliers and biases; those of a padding unit are 1 and 0.
                self.params(layout, unit >= left);
                unit += 1;
            }
            left -= group as isize;
        }
    }

    const fn dense_payload(&mut self, layout: Layout, input: usize, units: usize) {
        let layout = known(layout).whole();
        let group = layout.group();
        let mut left = units as isize;
        while left > 0 && self.error.is_none() {
            self.rows(&Rows {
                layout,
                gates: 1,
                used: left,
                columns: [input, 0],
                real: [input, 0],
                shift: 0,
            });
            left -= group as isize;
        }
        let blocks = units.div_ceil(group);
        let weights = blocks * layout.dense_rows_len(input);
        self.pad(weights);
        let mut row = 0;
        while row < blocks * group {
            let (multiplier, bias) = (self.word(), self.word() as i32);
            if row >= units && (multiplier != 1 || bias != 0) {
                self.not_canonical();
            }
            self.positive(Field::Multiplier, multiplier, i32::MAX as u32);
            self.range(Field::Bias, bias.unsigned_abs(), (1 << 30) - 1);
            row += 1;
        }
    }

    /// Multipliers and biases of a unit; those of a padding unit are 1 and 0.
    #[inline(never)]
    const fn params(&mut self, layout: Layout, padding: bool) {
        let zero = layout.bias_flip() as u16 as u32;
        let mut i = 0;
        while i < UNIT_PARAMS / 2 {
            let half = self.half();
            let multiplier = i < UNIT_PARAMS / 4;
            if padding && half != (if multiplier { 1 } else { zero }) {
                self.not_canonical();
            }
            if multiplier {
                self.positive(Field::Multiplier, half, 32767);
            }
            i += 1;
        }
    }

    /// The weights of a block of rows: refuses padding that is not zero, and rows whose accumulators, at most
    /// `32768 · Σ|w|`, could overflow.
    ///
    /// Where rows are not long only padding needs a look, unless weights have 4 bits, of whose values one is refused.
    #[inline(never)]
    const fn rows(&mut self, rows: &Rows) {
        let layout = unpruned(rows.layout);
        let dense = rows.is_dense();
        let bits = if dense { 8 } else { layout.weight_bits() };
        let [first, second] = rows.columns;
        let all = (first << (rows.shift & 7)) + second > (MAX_ROW_SUM / 128) as usize || bits == 4;
        let (first_len, len) = if dense {
            let len = layout.dense_rows_len(first);
            (len, len)
        } else {
            let len = layout.gru_part_len(first);
            (len, len + layout.gru_part_len(second))
        };
        let bytes = self.take(len);
        if layout.is(Layout::Winograd) {
            let (w, u): (&[u8], &[u8]) = match bytes.split_at_checked(first_len) {
                Some(parts) => parts,
                None => (&[], &[]),
            };
            self.heads(w, layout.rows_len(RESET, first));
            self.heads(u, layout.rows_len(RESET, second));
        }
        // The blocks of most layouts are whole words whatever their size.
        if !dense && !len.is_multiple_of(4) {
            self.pad(len);
        }
        let mut at = At {
            bytes,
            unit: 0,
            gate: 0,
            part: 0,
            sum: 0,
        };
        while at.unit < rows.group() {
            at.gate = 0;
            while at.gate < rows.gates {
                // The candidate's parts have an accumulator each.
                let joint = at.gate != CANDIDATE;
                at.sum = 0;
                at.part = 0;
                while at.part < 2 {
                    let n = rows.columns[at.part & 1];
                    let columns = match dense {
                        true => layout.columns(n),
                        false => layout.gru_columns(at.gate, n),
                    };
                    let used = if (at.unit as isize) < rows.used {
                        rows.real(at.part)
                    } else {
                        0
                    };
                    let mut column = if all { 0 } else { used };
                    while column < columns {
                        let w = rows.weigh(&mut at, column);
                        if w != 0 && column >= used {
                            self.not_canonical();
                        }
                        if bits == 4 && w / 16 > 7 {
                            self.out_of_range(Field::Weight, w / 16, 7);
                        }
                        column += 1;
                    }
                    if at.sum > MAX_ROW_SUM {
                        self.fail(LoadError::Overflow { layer: self.layer });
                    }
                    // The shift is that of the first part; behind the second one the sum has been used.
                    at.sum = if joint { at.sum << (rows.shift & 7) } else { 0 };
                    at.part += 1;
                }
                at.gate += 1;
            }
            at.unit += 1;
        }
    }

    /// Refuses sums in front of the weights that are not theirs.
    #[inline(never)]
    const fn heads(&mut self, bytes: &[u8], len: usize) {
        let mut rest = bytes;
        while let Some((group, others)) = rest.split_at_checked(len)
            && let Some((head, words)) = group.split_first_chunk::<HEAD>()
        {
            rest = others;
            let mut head: &[u8] = head;
            let wanted = winograd_head(words);
            let mut wanted: &[i32] = &wanted;
            while let (Some((stored, heads)), [sum, sums @ ..]) = (head.split_first_chunk(), wanted)
            {
                if i32::from_le_bytes(*stored) != *sum {
                    self.not_canonical();
                }
                (head, wanted) = (heads, sums);
            }
        }
    }
}

/// How far the payload has been cut.
struct Cut {
    parts: Parts,
    /// What the next layer reads.
    input: usize,
    /// What the latest layer has read, and with it a second direction.
    shared: usize,
}

/// The stored rows of a block of a GRU layer (three gates, two parts) or of a Dense layer (one, one).
struct Rows {
    layout: Layout,
    gates: usize,
    /// Units from the block's first one on.
    used: isize,
    /// Columns of the parts.
    columns: [usize; 2],
    /// Those of them that are no padding, too.
    real: [usize; 2],
    /// `w_shift`.
    shift: u8,
}

/// One of them.
struct At<'a> {
    /// The bytes of all.
    bytes: &'a [u8],
    unit: usize,
    gate: usize,
    part: usize,
    /// Of the magnitudes of its weights so far.
    sum: u32,
}

impl Rows {
    /// The weight there, and on to the next column. Apart, for the stack's sake: nothing of it is kept from column to column.
    #[inline(never)]
    const fn weigh(&self, at: &mut At<'_>, column: usize) -> u32 {
        let layout = unpruned(self.layout);
        let [first, second] = self.columns;
        let place = match self.is_dense() {
            true => layout.dense_weight(first, at.unit, column),
            false => layout.gru_weight((first, second), at.part == 1, at.gate, at.unit, column),
        };
        let w = place.decode(byte_at(at.bytes, place.byte)).unsigned_abs() as u32;
        at.sum += w;
        w
    }

    const fn is_dense(&self) -> bool {
        self.gates == 1
    }

    /// Units of a block.
    const fn group(&self) -> usize {
        let layout = unpruned(self.layout);
        if self.is_dense() {
            layout.group()
        } else {
            layout.gru_group()
        }
    }

    /// Columns of a part that are no padding: a program without sparse layouts knows that all are.
    const fn real(&self, part: usize) -> usize {
        let sparse = PORTABLE || Active::SPARSE.is_some();
        (if sparse { self.real } else { self.columns })[part & 1]
    }
}

/// The byte at a place, 0 beyond the end.
const fn byte_at(bytes: &[u8], at: usize) -> u8 {
    // Not `split_at_checked`, which constants take longer over.
    if at < bytes.len() { bytes[at] } else { 0 }
}

/// The largest sum of a row's weights whose accumulator stays below 2^31, whatever the activations.
const MAX_ROW_SUM: u32 = 65535;
