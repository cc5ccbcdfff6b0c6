//! `&[u8]` → [`Model`]: every check happens here, once.
//!
//! The order is fixed: length, magic, version, CRC over the whole frame, only then the header; then
//! nothing may remain, dimensions are within limits, byte counts equal the dimensions, multipliers
//! and shifts are in range, padding is canonical, and no accumulator can overflow.

use crate::activation::Activation;
use crate::artifact::{
    DenseHeader, FEATURE_LIMITS, FEATURE_PARAMS, FRAME_LEN, GruHeader, Header, LayerHeader, MAGIC,
    MAX_DIM, MAX_EXPONENT, MAX_HISTORY, MAX_LEN, MAX_NH_SHIFT, MAX_SLIDING, MAX_VOTES, MAX_W_SHIFT,
    NEUTRAL_TEMPERATURE, Readout, Smoothing, THRESHOLD_LEN, VERSION, frame_crc,
};
use crate::decision::{Rule, Threshold};
use crate::header;
use crate::input::{FeatureParams, Limits};
use crate::kernel::{PORTABLE, known};
use crate::layout::{
    CANDIDATE, GATES, HEAD, Layout, MAX_GROUP, UNIT_PARAMS, align4, winograd_head,
};
use crate::model::{DenseLayer, GruLayer, Layer, Model, Parts};
use heapless::Vec;

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
    /// A number in the header is out of its range.
    Range {
        /// Which one.
        field: Field,
        /// The layer, counted from 0.
        layer: u8,
        /// What was found.
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

/// The frame's numbers.
fn frame(bytes: &[u8]) -> Option<([u8; 4], u16, u16, [u32; 3])> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let (version, rest) = rest.split_first_chunk::<2>()?;
    let (flags, rest) = rest.split_first_chunk::<2>()?;
    let (total, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (header, _) = rest.split_first_chunk::<4>()?;
    Some((
        *magic,
        u16::from_le_bytes(*version),
        u16::from_le_bytes(*flags),
        [total, crc, header].map(|b| u32::from_le_bytes(*b)),
    ))
}

/// The length in bytes of the artifact that starts at `bytes`, as its frame announces it.
///
/// For a flash region larger than the artifact: read the length, then load that many bytes.
pub fn stated_len(bytes: &[u8]) -> Result<usize, LoadError> {
    let have = bytes.len() as u32;
    let need = FRAME_LEN as u32;
    let Some((magic, version, _, [total, ..])) = frame(bytes) else {
        return Err(LoadError::Truncated { have, need });
    };
    if magic != MAGIC {
        return Err(LoadError::BadMagic { found: magic });
    }
    if version != VERSION {
        return Err(LoadError::UnsupportedVersion {
            found: version,
            newest: VERSION,
        });
    }
    if total > MAX_LEN || total < need {
        return Err(LoadError::Length {
            have,
            stated: total,
        });
    }
    Ok(total as usize)
}

impl<'a> Model<'a> {
    /// Checks `bytes` and returns the view that runs them in place.
    ///
    /// `bytes` has to be exactly one artifact and to start at a multiple of four.
    ///
    /// # Errors
    /// [`LoadError`] says what was found and what was expected; nothing is kept.
    pub fn load(bytes: &'a [u8]) -> Result<Self, LoadError> {
        let have = bytes.len() as u32;
        let stated = stated_len(bytes)? as u32;
        if have < stated {
            return Err(LoadError::Truncated { have, need: stated });
        }
        if have > stated {
            return Err(LoadError::Length { have, stated });
        }
        if bytes.as_ptr().align_offset(4) != 0 {
            return Err(LoadError::Misaligned);
        }
        let Some((_, _, flags, [_, stored, header_len])) = frame(bytes) else {
            return Err(LoadError::Header);
        };
        let computed = frame_crc(bytes);
        if stored != computed {
            return Err(LoadError::BadCrc { stored, computed });
        }
        range(Field::Flags, 0, flags as usize, 0)?;
        let body = bytes.get(FRAME_LEN..).unwrap_or(&[]);
        let (head, rest) = body
            .split_at_checked(header_len as usize)
            .ok_or(LoadError::Header)?;
        let header = header::decode(head)?;
        let padding = align4(header_len as usize) - header_len as usize;
        let (pad, payload) = rest.split_at_checked(padding).ok_or(LoadError::Header)?;
        all_zero(pad)?;
        check_header(&header)?;
        Self::from_parts(bytes, stored, &header, payload)
    }

    fn from_parts(
        bytes: &'a [u8],
        crc: u32,
        header: &Header<'a>,
        payload: &'a [u8],
    ) -> Result<Self, LoadError> {
        let layout = known(header.layout);
        let features = header.features as usize;
        let have = payload.len();
        let limits_len = if header.limits {
            features * FEATURE_LIMITS
        } else {
            0
        };
        let mut need = features * FEATURE_PARAMS + limits_len;
        let mut input = features;
        for layer in &header.layers {
            need += layer.payload_len(layout, input);
            input = layer.units();
        }
        let thresholds_len = match header.decision {
            Some(_) => input * THRESHOLD_LEN,
            None => 0,
        };
        need += thresholds_len;
        let vectors = header.self_test.map_or(0, |t| t.steps as usize) * features * 2;
        need += align4(vectors);
        if have != need {
            return Err(LoadError::Payload {
                have: have as u32,
                need: need as u32,
            });
        }
        let mut rest = payload;
        let mut take = |n: usize| {
            let (head, tail) = rest.split_at_checked(n).ok_or(LoadError::Header)?;
            rest = tail;
            Ok(head)
        };
        let feature_params = take(features * FEATURE_PARAMS)?;
        let limits = take(limits_len)?;
        check_features(feature_params, limits)?;
        let mut layers = Vec::new();
        let mut input = features;
        for (i, layer) in header.layers.iter().enumerate() {
            let layer = match layer {
                LayerHeader::Gru(g) => {
                    let units = g.units as usize;
                    let blocks = take(layout.gru_len(input, units))?;
                    let state = if g.initial_state { 2 * units } else { 0 };
                    let padded = take(align4(state))?;
                    let (initial_state, pad) =
                        padded.split_at_checked(state).ok_or(LoadError::Header)?;
                    all_zero(pad)?;
                    check_gru(i as u8, layout, input, g, blocks)?;
                    Layer::Gru(GruLayer {
                        blocks,
                        initial_state,
                        input: input as u16,
                        units: g.units,
                        clip: g.clip,
                        layout,
                        activation: g.activation,
                        recurrent_activation: g.recurrent_activation,
                        exponent: g.exponent,
                        recurrent_exponent: g.recurrent_exponent,
                        nh_shift: g.nh_shift,
                        w_shift: g.w_shift,
                        reset_after: g.reset_after,
                        go_backwards: g.go_backwards,
                        main_variant: g.is_main_variant(),
                    })
                }
                LayerHeader::Dense(d) => {
                    let bytes = take(layout.dense_len(input, d.units as usize))?;
                    let layout = layout.whole();
                    check_dense(i as u8, layout, input, d.units as usize, bytes)?;
                    Layer::Dense(DenseLayer {
                        bytes,
                        input: input as u16,
                        units: d.units,
                        layout,
                        activation: d.activation,
                        frac: d.frac,
                    })
                }
            };
            input = layer.units();
            layers.push(layer).map_err(|_| LoadError::Header)?;
        }
        let thresholds = take(thresholds_len)?;
        let rule = check_decision(header, thresholds)?;
        let self_test = match header.self_test {
            Some(test) => {
                let padded = take(align4(vectors))?;
                let (vectors, pad) = padded.split_at_checked(vectors).ok_or(LoadError::Header)?;
                all_zero(pad)?;
                Some((test, vectors))
            }
            None => None,
        };
        let mut model = Self {
            bytes,
            crc,
            name: header.name,
            classes: header.classes,
            sample_rate_mhz: header.sample_rate_mhz,
            layout,
            input_exponent: header.input_exponent,
            gap: header.gap,
            readout: header.readout,
            warm_up_steps: header.warm_up_steps,
            decision: header.decision,
            rule,
            self_test,
            features: feature_params,
            limits,
            layers,
            parts: Parts::default(),
            streaming: false,
            narrow: false,
        };
        model.finish();
        Ok(model)
    }
}

fn range(field: Field, layer: usize, found: usize, max: usize) -> Result<(), LoadError> {
    if found <= max {
        Ok(())
    } else {
        Err(LoadError::Range {
            field,
            layer: layer as u8,
            found: found as u32,
            max: max as u32,
        })
    }
}

/// A dimension in `1..=MAX_DIM`.
fn dimension(field: Field, layer: usize, n: u16) -> Result<(), LoadError> {
    // 0 wraps around to the largest number and is refused with the rest.
    range(
        field,
        layer,
        n.wrapping_sub(1) as usize,
        MAX_DIM as usize - 1,
    )
}

fn all_zero(bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.iter().all(|&b| b == 0) {
        Ok(())
    } else {
        Err(LoadError::NotCanonical)
    }
}

fn check_header(header: &Header<'_>) -> Result<(), LoadError> {
    if header.layout != known(header.layout) {
        return Err(LoadError::Layout {
            found: header.layout,
            expected: known(header.layout),
        });
    }
    dimension(Field::Features, 0, header.features)?;
    range(Field::Exponent, 0, header.input_exponent as usize, 15)?;
    if header.layers.is_empty() {
        return Err(LoadError::Range {
            field: Field::Layers,
            layer: 0,
            found: 0,
            max: crate::artifact::MAX_LAYERS as u32,
        });
    }
    for (i, layer) in header.layers.iter().enumerate() {
        match layer {
            LayerHeader::Gru(g) => check_gru_header(i, g, header.layout)?,
            LayerHeader::Dense(d) => check_dense_header(i, d)?,
        }
    }
    if let Readout::Exponential { shift } = header.readout {
        range(Field::Readout, 0, shift.wrapping_sub(1) as usize, 11)?;
    }
    if let Readout::Sliding { steps } = header.readout {
        let most = MAX_SLIDING as usize - 1;
        range(Field::Readout, 0, steps.wrapping_sub(1) as usize, most)?;
        let outputs = header.layers.last().map_or(0, LayerHeader::units);
        range(Field::History, 0, steps as usize * outputs, MAX_HISTORY)?;
    }
    if let Some(test) = header.self_test {
        range(
            Field::SelfTest,
            0,
            test.steps.wrapping_sub(1) as usize,
            1023,
        )?;
    }
    if !header.classes.is_empty() {
        let outputs = header.layers.last().map_or(0, LayerHeader::units);
        // Every name ends with a new line or the text.
        let (mut names, mut empty, mut before) = (0, false, b'\n');
        for byte in header.classes.bytes().chain([b'\n']) {
            if byte == b'\n' {
                names += 1;
                empty |= before == b'\n';
            }
            before = byte;
        }
        if empty || names != outputs {
            return Err(LoadError::Range {
                field: Field::Classes,
                layer: 0,
                found: names as u32,
                max: outputs as u32,
            });
        }
    }
    Ok(())
}

/// The decision layer: its fields, its thresholds, and whether the outputs can be scaled.
fn check_decision<'a>(header: &Header<'a>, thresholds: &'a [u8]) -> Result<Rule<'a>, LoadError> {
    let (outputs, probabilities, frac) = match header.layers.last() {
        Some(LayerHeader::Dense(d)) => match d.activation {
            Activation::Sigmoid | Activation::HardSigmoid => (d.units, true, 15),
            Activation::Linear | Activation::Relu => (d.units, false, d.frac),
            _ => (d.units, false, 15),
        },
        Some(LayerHeader::Gru(g)) => (g.units, false, 15 - g.exponent.min(15)),
        None => (0, false, 0),
    };
    let decision = header.decision.unwrap_or_default();
    let least = 256;
    let temperature = decision.inverse_temperature.wrapping_sub(least);
    let most = (u16::MAX - least) as usize;
    range(Field::Temperature, 0, temperature as usize, most)?;
    let every = decision.every_steps.wrapping_sub(1);
    range(Field::Interval, 0, every as usize, u16::MAX as usize - 1)?;
    let margin = match decision.smoothing {
        Smoothing::None => 32768,
        Smoothing::Exponential { shift } => {
            range(Field::Smoothing, 0, shift.wrapping_sub(1) as usize, 11)?;
            32768
        }
        Smoothing::Votes { of, enter, keep } => {
            for (votes, most) in [(of, MAX_VOTES as u8), (enter, of), (keep, enter)] {
                let votes = votes.wrapping_sub(1) as usize;
                range(Field::Smoothing, 0, votes, most.wrapping_sub(1) as usize)?;
            }
            0
        }
    };
    range(Field::Margin, 0, decision.margin as usize, margin)?;
    if let Some(class) = decision.background {
        let last = outputs.wrapping_sub(1) as usize;
        range(Field::Background, 0, class as usize, last)?;
    }
    for bytes in thresholds.as_chunks().0 {
        let Threshold { enter, release } = Threshold::read(bytes);
        range(Field::Threshold, 0, enter as usize, 32768)?;
        range(Field::Threshold, 0, release as usize, enter as usize)?;
    }
    let off = decision.inverse_temperature.abs_diff(NEUTRAL_TEMPERATURE);
    Rule::new(decision, thresholds, probabilities, frac).ok_or(LoadError::Range {
        field: Field::Temperature,
        layer: 0,
        found: off as u32,
        max: 0,
    })
}

fn check_gru_header(i: usize, g: &GruHeader, layout: Layout) -> Result<(), LoadError> {
    dimension(Field::Units, i, g.units)?;
    let limit = |a: Activation| if a.is_bounded() { 0 } else { MAX_EXPONENT };
    for (exponent, activation) in [
        (g.exponent, g.activation),
        (g.recurrent_exponent, g.recurrent_activation),
    ] {
        range(
            Field::Exponent,
            i,
            exponent as usize,
            limit(activation) as usize,
        )?;
    }
    range(
        Field::NhShift,
        i,
        g.nh_shift as usize,
        MAX_NH_SHIFT as usize,
    )?;
    range(Field::WShift, i, g.w_shift as usize, MAX_W_SHIFT as usize)?;
    range(Field::Clip, i, g.clip as usize, 32767)?;
    let fits = g.is_main_variant() || PORTABLE && layout.whole() == Layout::Rows;
    range(Field::Variant, i, !fits as usize, 0)
}

fn check_dense_header(i: usize, d: &DenseHeader) -> Result<(), LoadError> {
    dimension(Field::Units, i, d.units)?;
    let linear = matches!(d.activation, Activation::Linear | Activation::Relu);
    range(Field::Frac, i, d.frac as usize, if linear { 15 } else { 0 })
}

/// Feature conditioning: see [`crate::input`].
fn check_features(params: &[u8], limits: &[u8]) -> Result<(), LoadError> {
    for p in params.chunks_exact(FEATURE_PARAMS) {
        let p = FeatureParams::read(p);
        let m = p.multiplier.wrapping_sub(1) as usize;
        range(Field::Multiplier, 0, m, 32766)?;
        range(Field::Shift, 0, p.shift as usize, 17)?;
        range(Field::Shift, 0, p.pre_shift as usize, 16)?;
        // Positive and finite, without float arithmetic.
        let bits = p.counts_per_unit.to_bits() as usize;
        range(Field::CountsPerUnit, 0, bits.wrapping_sub(1), 0x7f7f_fffe)?;
    }
    for l in limits.chunks_exact(FEATURE_LIMITS) {
        if !Limits::read(l).is_range() {
            return Err(LoadError::NotCanonical);
        }
    }
    Ok(())
}

/// The largest sum of a row's weights whose accumulator stays below 2^31, whatever the activations.
const MAX_ROW_SUM: u32 = 65535;

/// Whether a row of `n` columns can have a larger sum than [`MAX_ROW_SUM`].
fn is_long(n: usize) -> bool {
    n > (MAX_ROW_SUM / 128) as usize
}

/// `Σ|w|` of a row; refuses padding that is not canonical. An accumulator is at most `32768 · Σ|w|`.
///
/// `weight(column)` covers the stored columns; those from `columns` on are padding, in a row that is
/// itself `padding` all. Where rows are not `long` only padding needs a look, and the sum is 0.
/// Weights of 4 bits are symmetric.
#[inline(always)]
fn row_sum(
    (layer, bits, long): (u8, u8, bool),
    padding: bool,
    (columns, stored_columns): (usize, usize),
    weight: impl Fn(usize) -> i8,
) -> Result<u32, LoadError> {
    let columns = if padding { 0 } else { columns };
    let start = if long || bits == 4 { 0 } else { columns };
    let mut sum = 0;
    for column in start..stored_columns {
        let w = weight(column).unsigned_abs() as u32;
        if w != 0 && column >= columns {
            return Err(LoadError::NotCanonical);
        }
        if bits == 4 {
            range(Field::Weight, layer as usize, w as usize / 16, 7)?;
        }
        sum += w;
    }
    Ok(sum)
}

/// Refuses sums in front of the weights that are not theirs.
fn check_heads(layout: Layout, n: usize, weights: &[u8]) -> Result<(), LoadError> {
    if layout != Layout::Winograd {
        return Ok(());
    }
    for rows in weights.chunks_exact(layout.rows_len(n).max(1)) {
        let (head, words) = rows.split_at_checked(HEAD).ok_or(LoadError::Header)?;
        let wanted = winograd_head(words);
        let stored = head.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b));
        if !stored.eq(wanted) {
            return Err(LoadError::NotCanonical);
        }
    }
    Ok(())
}

fn check_gru(
    layer: u8,
    layout: Layout,
    input: usize,
    header: &GruHeader,
    blocks: &[u8],
) -> Result<(), LoadError> {
    let (units, w_shift) = (header.units as usize, header.w_shift);
    let long = is_long((input << w_shift) + units);
    let group = layout.gru_group();
    let (w_len, u_len) = (layout.gru_part_len(input), layout.gru_part_len(units));
    let block_len = layout.gru_block_len(input, units);
    for (b, block) in blocks.chunks_exact(block_len.max(1)).enumerate() {
        let (w, rest) = block.split_at_checked(w_len).ok_or(LoadError::Header)?;
        let (u, rest) = rest.split_at_checked(u_len).ok_or(LoadError::Header)?;
        let params_at = rest.len().wrapping_sub(group * UNIT_PARAMS);
        let (pad, params) = rest.split_at_checked(params_at).ok_or(LoadError::Header)?;
        all_zero(pad)?;
        let here = (units - b * group).min(group);
        check_heads(layout, input, w)?;
        check_heads(layout, units, u)?;
        for row in 0..GATES * group {
            // Rows are numbered unit by unit so that padding units come last.
            let (unit, gate) = (row / GATES, row % GATES);
            let mut both = 0;
            for (part, n, shift) in [(w, input, w_shift), (u, units, 0)] {
                let columns = (n, layout.columns(n));
                let kind = (layer, layout.weight_bits(), long);
                let sum = row_sum(kind, unit >= here, columns, |column| {
                    let place = layout.gru_weight(n, gate, unit, column);
                    place.decode(part.get(place.byte).copied().unwrap_or(0))
                })?;
                // The candidate's parts have an accumulator each.
                both = if gate == CANDIDATE {
                    sum.max(both)
                } else {
                    both + (sum << shift)
                };
            }
            if both > MAX_ROW_SUM {
                return Err(LoadError::Overflow { layer });
            }
        }
        for (g, p) in params.chunks_exact(UNIT_PARAMS).enumerate().take(MAX_GROUP) {
            let p = crate::kernel::portable::UnitParams::read(p);
            if g >= here && (p.b != [0; 4] || p.mw != 1 || p.mu != [1; 3]) {
                return Err(LoadError::NotCanonical);
            }
            for m in p.mu.iter().chain([&p.mw]) {
                let m = m.wrapping_sub(1) as usize;
                range(Field::Multiplier, layer as usize, m, 32766)?;
            }
        }
    }
    Ok(())
}

fn check_dense(
    layer: u8,
    layout: Layout,
    input: usize,
    units: usize,
    bytes: &[u8],
) -> Result<(), LoadError> {
    let weights_len = layout.dense_weights_len(input, units);
    let (weights, params) = bytes
        .split_at_checked(weights_len)
        .ok_or(LoadError::Header)?;
    let used = units.div_ceil(layout.group()) * layout.dense_rows_len(input);
    check_heads(layout, input, weights)?;
    all_zero(weights.get(used..).unwrap_or(&[]))?;
    let columns = (input, layout.columns(input));
    for row in 0..layout.rows(units) {
        let kind = (layer, 8, is_long(input));
        let sum = row_sum(kind, row >= units, columns, |column| {
            let place = layout.dense_weight(input, row, column);
            place.decode(weights.get(place.byte).copied().unwrap_or(0))
        })?;
        if sum > MAX_ROW_SUM {
            return Err(LoadError::Overflow { layer });
        }
    }
    for (row, p) in params.chunks_exact(8).enumerate() {
        let [m0, m1, m2, m3, b0, b1, b2, b3] = *p else {
            return Err(LoadError::Header);
        };
        let multiplier = u32::from_le_bytes([m0, m1, m2, m3]);
        let bias = i32::from_le_bytes([b0, b1, b2, b3]);
        if row >= units && (multiplier != 1 || bias != 0) {
            return Err(LoadError::NotCanonical);
        }
        let m = multiplier.wrapping_sub(1) as usize;
        range(Field::Multiplier, layer as usize, m, i32::MAX as usize - 1)?;
        let limit = (1 << 30) - 1;
        range(
            Field::Bias,
            layer as usize,
            bias.unsigned_abs() as usize,
            limit,
        )?;
    }
    Ok(())
}
