//! `&[u8]` → [`Model`]: every check happens here, once.
//!
//! The order is fixed: length, magic, version, CRC over the whole frame, only then the header; then
//! nothing may remain, dimensions are within limits, byte counts equal the dimensions, multipliers
//! and shifts are in range, padding is canonical, and no accumulator can overflow.

#[cfg(any(feature = "decision", test))]
use crate::activation::Activation;
#[cfg(any(feature = "inputs", test))]
use crate::artifact::FEATURE_LIMITS;
use crate::artifact::{FEATURE_PARAMS, FRAME_LEN, MAGIC, MAX_LEN, VERSION, frame_crc};
#[cfg(any(feature = "decision", test))]
use crate::artifact::{NEUTRAL_TEMPERATURE, THRESHOLD_LEN};
#[cfg(any(feature = "decision", test))]
use crate::decision::{Rule, Threshold};
use crate::header::Reader;
#[cfg(any(feature = "inputs", test))]
use crate::input::Limits;
use crate::kernel::known;
use crate::layout::{
    CANDIDATE, GATES, HEAD, Layout, ROW_PARAMS, UNIT_PARAMS, align4, winograd_head,
};
use crate::model::{DenseLayer, GruLayer, Layer, Model, Parts};

/// Why a byte string was refused as a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
    /// the feature `int4` also takes that of its kernel for half bytes (M3, M55 and M85 have none), one with
    /// `portable` takes every order.
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
#[non_exhaustive]
pub enum Feature {
    /// `activations`: Dense layers with another activation than the linear one.
    Activations,
    /// `decision`: a decision layer.
    Decision,
    /// `inputs`: limits of the raw counts, or counts beyond 16 bits.
    Inputs,
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
            Self::Decision => "decision",
            Self::Inputs => "inputs",
            Self::Portable => "portable",
            Self::Readouts => "readouts",
        }
    }
}

/// The number of the header or payload that a [`LoadError::Range`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Field {
    /// Frame flags.
    Flags,
    /// Input features.
    Features,
    /// Number of layers.
    Layers,
    /// Units of a layer.
    Units,
    /// A calibrated exponent.
    Exponent,
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
            Self::Feature(feature) => write!(
                f,
                "the model needs the feature `{}` of gru-core",
                feature.name()
            ),
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

impl core::error::Error for LoadError {}

/// The little-endian word with this number; 0 beyond the end.
#[inline(never)]
fn word(bytes: &[u8], n: usize) -> u32 {
    match bytes.as_chunks().0.get(n) {
        Some(word) => u32::from_le_bytes(*word),
        None => 0,
    }
}

/// The length in bytes of the artifact that starts at `bytes`, as its frame announces it.
///
/// For a flash region larger than the artifact: read the length, then load that many bytes.
#[inline(never)]
pub fn stated_len(bytes: &[u8]) -> Result<usize, LoadError> {
    let have = bytes.len() as u32;
    let need = FRAME_LEN as u32;
    if have < need {
        return Err(LoadError::Truncated { have, need });
    }
    let magic = word(bytes, 0).to_le_bytes();
    if magic != MAGIC {
        return Err(LoadError::BadMagic { found: magic });
    }
    let version = word(bytes, 1) as u16;
    if version != VERSION {
        return Err(LoadError::UnsupportedVersion {
            found: version,
            newest: VERSION,
        });
    }
    let stated = word(bytes, 2);
    if stated > MAX_LEN || stated < need {
        return Err(LoadError::Length { have, stated });
    }
    Ok(stated as usize)
}

impl<'a> Model<'a> {
    /// Checks `bytes` and returns the view that runs them in place.
    ///
    /// `bytes` has to be exactly one artifact and to start at a multiple of four.
    ///
    /// # Errors
    /// [`LoadError`] says what was found and what was expected; nothing is kept.
    // Inlined, so that the model is made where the caller wants it: a copy would take a `memcpy`.
    #[inline]
    pub fn load(bytes: &'a [u8]) -> Result<Self, LoadError> {
        let mut result = Ok(Self::empty(bytes));
        if let Ok(model) = &mut result
            && let Some(error) = model.fill()
        {
            result = Err(error);
        }
        result
    }

    /// Checks the model's bytes, and makes of an empty model what they say; or says why not.
    #[inline(never)]
    fn fill(&mut self) -> Option<LoadError> {
        let bytes = self.bytes;
        let have = bytes.len() as u32;
        let stated = match stated_len(bytes) {
            Ok(stated) => stated as u32,
            Err(error) => return Some(error),
        };
        if have < stated {
            return Some(LoadError::Truncated { have, need: stated });
        }
        if have > stated {
            return Some(LoadError::Length { have, stated });
        }
        if bytes.as_ptr().addr() & 3 != 0 {
            return Some(LoadError::Misaligned);
        }
        let (stored, computed) = (word(bytes, 3), frame_crc(bytes));
        if stored != computed {
            return Some(LoadError::BadCrc { stored, computed });
        }
        self.crc = stored;
        let header_len = word(bytes, 4) as usize;
        let mut reader = Reader::new(bytes.get(FRAME_LEN..).unwrap_or(&[]));
        reader.range(Field::Flags, word(bytes, 1) >> 16, 0);
        let header = reader.take(header_len);
        let pad = reader.take(header_len.wrapping_neg() & 3);
        reader.zeros(pad);
        let payload = core::mem::replace(&mut reader.rest, header);
        let limits = reader.header(self);
        if !reader.rest.is_empty() {
            reader.not_canonical();
        }
        if reader.error.is_some() {
            return reader.error;
        }
        reader.rest = payload;
        reader.need = 0;
        reader.payload(self, limits);
        let (have, need) = (payload.len() as u32, reader.need as u32);
        if have != need {
            return Some(LoadError::Payload { have, need });
        }
        reader.error
    }
}

impl<'a> Reader<'a> {
    #[inline(never)]
    fn zeros(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte != 0 {
                self.not_canonical();
            }
        }
    }

    /// So many bytes, and zeros up to a multiple of four.
    #[inline(never)]
    fn padded(&mut self, n: usize) -> &'a [u8] {
        let bytes = self.take(n);
        let pad = self.take(n.wrapping_neg() & 3);
        self.zeros(pad);
        bytes
    }

    #[inline(never)]
    fn half(&mut self) -> u16 {
        match *self.take(2) {
            [lo, hi] => u16::from_le_bytes([lo, hi]),
            _ => 0,
        }
    }

    /// Cuts the payload into the parts of a model whose header has been read, and checks them.
    ///
    /// Of a payload that is too short they are empty or shifted, and errors have no meaning.
    fn payload(&mut self, model: &mut Model<'a>, limits: bool) {
        let features = model.features();
        model.features = self.take(features * FEATURE_PARAMS);
        model.narrow = !limits;
        let narrow = self.features(model.features);
        model.narrow &= narrow;
        #[cfg(any(feature = "inputs", test))]
        if limits {
            model.limits = self.take(features * FEATURE_LIMITS);
            for bytes in model.limits.as_chunks::<FEATURE_LIMITS>().0 {
                if !Limits::read(bytes).is_range() {
                    self.not_canonical();
                }
            }
        }
        if !cfg!(any(feature = "inputs", test)) && !model.narrow {
            self.lacks(Feature::Inputs);
        }
        let mut parts = Parts {
            input: align4(features),
            ..Parts::default()
        };
        let mut input = features as u16;
        for layer in &mut model.layers {
            let units = layer.units();
            let padded = align4(units);
            parts.layers += padded;
            match layer {
                Layer::Gru(g) => {
                    g.input = input;
                    let copies = if g.reset_after { padded } else { 2 * padded };
                    parts.scratch = parts.scratch.max(copies);
                    model.backwards |= g.go_backwards;
                    g.blocks = self.take(known(g.layout).gru_len(input as usize, units));
                    if !g.initial_state.is_empty() {
                        g.initial_state = self.padded(2 * units);
                    }
                    self.gru_payload(g);
                }
                Layer::Dense(d) => {
                    d.input = input;
                    d.bytes = self.take(known(d.layout).dense_len(input as usize, units));
                    self.dense_payload(d);
                }
            }
            self.layer += 1;
            input = units as u16;
        }
        self.layer = 0;
        #[cfg(any(feature = "readouts", test))]
        {
            parts.readout = model.readout.words(input as usize);
        }
        model.parts = parts;
        #[cfg(any(feature = "decision", test))]
        self.rule(model);
        if let Some((test, vectors)) = &mut model.self_test {
            *vectors = self.padded(2 * features * test.steps as usize);
        }
    }

    /// Feature conditioning, see [`crate::input`]; says whether all of it is narrow.
    fn features(&mut self, params: &[u8]) -> bool {
        let mut narrow = true;
        for p in params.as_chunks::<FEATURE_PARAMS>().0 {
            let offset = word(p, 0) as i32;
            // Positive and finite, without float arithmetic.
            self.positive(Field::CountsPerUnit, word(p, 1), 0x7f7f_ffff);
            let last = word(p, 2);
            self.positive(Field::Multiplier, last & 0xffff, 32767);
            self.range(Field::Shift, last >> 16 & 0xff, 17);
            self.range(Field::Shift, last >> 24, 16);
            // 16-bit counts then need neither saturation nor the shift before the multiplication: the
            // difference from the offset is at most 65535.
            narrow &= last >> 24 == 0 && offset == offset as i16 as i32;
        }
        narrow
    }

    /// The decision layer: its thresholds, and whether the outputs can be scaled.
    #[cfg(any(feature = "decision", test))]
    fn rule(&mut self, model: &mut Model<'a>) {
        let thresholds = match model.decision {
            Some(_) => self.take(model.outputs() * THRESHOLD_LEN),
            None => &[],
        };
        for bytes in thresholds.as_chunks().0 {
            let Threshold { enter, release } = Threshold::read(bytes);
            self.range(Field::Threshold, enter as u32, 32768);
            self.range(Field::Threshold, release as u32, enter as u32);
        }
        let probabilities = matches!(model.layers.last(), Some(Layer::Dense(d))
            if matches!(d.activation, Activation::Sigmoid | Activation::HardSigmoid));
        let header = model.decision.unwrap_or_default();
        match Rule::new(header, thresholds, probabilities, model.output_frac()) {
            Some(rule) => model.rule = rule,
            None => {
                let off = header.inverse_temperature.abs_diff(NEUTRAL_TEMPERATURE);
                self.range(Field::Temperature, off as u32, 0);
            }
        }
    }

    fn gru_payload(&mut self, g: &GruLayer<'a>) {
        let (layout, input, units) = (known(g.layout), g.input(), g.units());
        let long = is_long((input << g.w_shift) + units);
        let group = layout.gru_group();
        let (w_len, u_len) = (layout.gru_part_len(input), layout.gru_part_len(units));
        // The same bytes once more, part by part.
        let outer = core::mem::replace(&mut self.rest, g.blocks);
        let need = self.need;
        let mut first = 0;
        while first < units && !self.rest.is_empty() {
            let mut parts =
                [(w_len, input, g.w_shift), (u_len, units, 0)].map(|(len, n, shift)| {
                    let bytes = self.take(len);
                    (
                        Rows {
                            bytes,
                            layout,
                            n,
                            gates: GATES,
                            long,
                        },
                        shift,
                    )
                });
            let pad = self.take(layout.gru_weights_len(input, units) - w_len - u_len);
            self.zeros(pad);
            for (rows, _) in &mut parts {
                self.heads(rows, layout.rows_len(rows.n));
            }
            for row in 0..GATES * group {
                // Rows are numbered unit by unit so that padding units come last.
                let padding = first + row / GATES >= units;
                let mut both = 0;
                for (rows, shift) in &parts {
                    let sum = self.row(rows, row, padding);
                    // The candidate's parts have an accumulator each.
                    both = if row % GATES == CANDIDATE {
                        both.max(sum)
                    } else {
                        both + (sum << (shift & 7))
                    };
                }
                self.overflow(both);
            }
            for unit in first..first + group {
                self.unit_params(unit >= units);
            }
            first += group;
        }
        self.rest = outer;
        self.need = need;
    }

    /// Multipliers and biases of a unit; those of a padding unit are 1 and 0.
    #[inline(never)]
    fn unit_params(&mut self, padding: bool) {
        for i in 0..UNIT_PARAMS / 2 {
            let half = self.half();
            let multiplier = i < UNIT_PARAMS / 4;
            if padding && half != multiplier as u16 {
                self.not_canonical();
            }
            if multiplier {
                self.positive(Field::Multiplier, half as u32, 32767);
            }
        }
    }

    fn dense_payload(&mut self, d: &DenseLayer<'a>) {
        let (layout, n, units) = (known(d.layout), d.input(), d.units());
        let outer = core::mem::replace(&mut self.rest, d.bytes);
        let need = self.need;
        let rows_len = layout.dense_rows_len(n);
        let bytes = self.padded(units.div_ceil(layout.group()) * rows_len);
        let rows = Rows {
            bytes,
            layout,
            n,
            gates: 1,
            long: is_long(n),
        };
        self.heads(&rows, rows_len);
        for row in 0..layout.rows(units) {
            let padding = row >= units;
            let sum = self.row(&rows, row, padding);
            self.overflow(sum);
            let params = self.take(ROW_PARAMS);
            let (multiplier, bias) = (word(params, 0), word(params, 1) as i32);
            if padding && (multiplier != 1 || bias != 0) {
                self.not_canonical();
            }
            self.positive(Field::Multiplier, multiplier, i32::MAX as u32);
            self.range(Field::Bias, bias.unsigned_abs(), (1 << 30) - 1);
        }
        self.rest = outer;
        self.need = need;
    }

    fn overflow(&mut self, sum: u32) {
        if sum > MAX_ROW_SUM {
            self.fail(LoadError::Overflow { layer: self.layer });
        }
    }

    /// `Σ|w|` of a row; refuses padding that is not canonical. An accumulator is at most `32768 · Σ|w|`.
    ///
    /// Where rows are not `long` only padding needs a look, and the sum is 0. Weights of 4 bits are symmetric.
    #[inline(never)]
    fn row(&mut self, rows: &Rows<'_>, row: usize, padding: bool) -> u32 {
        let bits = if rows.gates == 1 {
            8
        } else {
            rows.layout.weight_bits()
        };
        let columns = if padding { 0 } else { rows.n };
        let start = if rows.long || bits == 4 { 0 } else { columns };
        let mut sum = 0;
        for column in start..rows.layout.columns(rows.n) {
            let w = rows.weight(row, column).unsigned_abs() as u32;
            if w != 0 && column >= columns {
                self.not_canonical();
            }
            if bits == 4 {
                self.range(Field::Weight, w / 16, 7);
            }
            sum += w;
        }
        if rows.long { sum } else { 0 }
    }

    /// Refuses sums in front of the weights that are not theirs.
    fn heads(&mut self, rows: &Rows<'_>, len: usize) {
        if rows.layout != Layout::Winograd {
            return;
        }
        let mut rest = rows.bytes;
        while let Some((group, others)) = rest.split_at_checked(len)
            && let Some((head, words)) = group.split_first_chunk::<HEAD>()
        {
            rest = others;
            for (stored, wanted) in head.as_chunks().0.iter().zip(winograd_head(words)) {
                if i32::from_le_bytes(*stored) != wanted {
                    self.not_canonical();
                }
            }
        }
    }
}

/// The stored rows of a part of a GRU block, unit by unit and then gate by gate, or of a Dense layer.
struct Rows<'p> {
    bytes: &'p [u8],
    layout: Layout,
    /// Columns that are no padding.
    n: usize,
    /// Three, or one for Dense.
    gates: usize,
    long: bool,
}

impl Rows<'_> {
    fn weight(&self, row: usize, column: usize) -> i8 {
        let layout = known(self.layout);
        let place = if self.gates == 1 {
            layout.dense_weight(self.n, row, column)
        } else {
            layout.gru_weight(self.n, row % GATES, row / GATES, column)
        };
        place.decode(self.bytes.get(place.byte).copied().unwrap_or(0))
    }
}

/// The largest sum of a row's weights whose accumulator stays below 2^31, whatever the activations.
const MAX_ROW_SUM: u32 = 65535;

/// Whether a row of `n` columns can have a larger sum than [`MAX_ROW_SUM`].
fn is_long(n: usize) -> bool {
    n > (MAX_ROW_SUM / 128) as usize
}
