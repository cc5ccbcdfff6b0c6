//! Writing and taking apart artifacts (feature `std`; the host's side of [`crate::artifact`]).

use crate::artifact::{
    DecisionHeader, DenseHeader, FRAME_LEN, GapPolicy, GruHeader, Header, LayerHeader, MAGIC,
    MAX_LAYERS, Readout, SelfTest, VERSION, frame_crc,
};
use crate::decision::Threshold;
use crate::input::{FeatureParams, Limits};
use crate::kernel::portable::UnitParams;
use crate::layout::{
    GATES, HEAD, Layout, Part, RESET, ROW_PARAMS, UNIT_PARAMS, align4, winograd_head,
};
use crate::model::{Layer, Model};
use crate::sparse::{MAX_UNITS, PANEL, Panels, list_len};
use crate::state::{Digest, State, StateRef};
use crate::{LoadError, StateError};
use std::boxed::Box;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

/// A quantized model in the open, independent of any weight layout.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantModel {
    /// The model's name.
    pub name: String,
    /// Class names, one per output, or none.
    pub classes: Vec<String>,
    /// Sample rate in millihertz; 0 where it is unknown.
    pub sample_rate_mhz: u32,
    /// The standardised input's full scale is `2^input_exponent`.
    pub input_exponent: u8,
    /// What happens to samples that are not valid.
    pub gap: GapPolicy,
    /// Conditioning of every feature.
    pub features: Vec<FeatureParams>,
    /// Limits of every feature, or none.
    pub limits: Vec<Limits>,
    /// The layers in order.
    pub layers: Vec<QuantLayer>,
    /// Which logits are the result.
    pub readout: Readout,
    /// Steps after a reset until the outputs can be trusted.
    pub warm_up_steps: u16,
    /// How the outputs of a stream become decisions.
    pub decision: Option<QuantDecision>,
    /// Samples of the self-test in raw counts, step after step; none for no self-test.
    pub self_test: Vec<i16>,
}

/// A decision rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuantDecision {
    /// Everything but the thresholds.
    pub header: DecisionHeader,
    /// One for every output.
    pub thresholds: Vec<Threshold>,
}

/// A quantized layer.
#[derive(Debug, Clone, PartialEq)]
pub enum QuantLayer {
    /// A GRU layer.
    Gru(QuantGru),
    /// A Dense layer.
    Dense(QuantDense),
}

impl QuantLayer {
    /// Whether this is the second direction of a bidirectional layer, which reads what the layer in front of it reads.
    pub fn is_second(&self) -> bool {
        matches!(self, Self::Gru(g) if g.header.direction.is_second())
    }
}

/// A quantized GRU layer; rows in the order r, z, n, then unit.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantGru {
    /// Shape and variant.
    pub header: GruHeader,
    /// Input features `I`.
    pub input: usize,
    /// Input weights, `3H × I`.
    pub w: Vec<i8>,
    /// Recurrent weights, `3H × H`.
    pub u: Vec<i8>,
    /// Multipliers of the rows, `3H`: of both parts of a gate, of the candidate's recurrent part.
    pub mu: Vec<u16>,
    /// Multipliers of the candidate's input part, `H`.
    pub mw: Vec<u16>,
    /// Biases: reset, update, candidate's input part, candidate's recurrent part; `4H`.
    pub b: Vec<i16>,
    /// Initial state, `H`, or empty for zeros.
    pub initial_state: Vec<i16>,
}

impl QuantGru {
    /// What the input part of a row is multiplied by: `v = input part · this / 2^16 + …`.
    pub fn input_multiplier(&self, row: usize) -> u32 {
        let units = self.header.units as usize;
        match row.checked_sub(2 * units) {
            Some(unit) => self.mw[unit] as u32,
            None => (self.mu[row] as u32) << self.header.w_shift,
        }
    }
}

/// A quantized Dense layer.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantDense {
    /// Shape.
    pub header: DenseHeader,
    /// Input features `N`.
    pub input: usize,
    /// Weights, `O × N`.
    pub w: Vec<i8>,
    /// Multipliers, `O`.
    pub m: Vec<i32>,
    /// Biases, `O`.
    pub b: Vec<i32>,
}

/// Why a model could not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// A vector has another length than the dimensions call for.
    Len {
        /// Which one.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length needed.
        expected: usize,
    },
    /// More layers than an artifact can hold.
    TooManyLayers(usize),
    /// A name contains a line break, or is empty.
    Name(String),
    /// A weight that is no multiple of 16 from −112 to 112, in a layout with half a byte for it.
    Weight(i8),
    /// The loader refuses the result.
    Refused(LoadError),
    /// The self-test could not be run.
    SelfTest(StateError),
}

impl core::fmt::Display for WriteError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Len {
                what,
                found,
                expected,
            } => write!(f, "{what} has {found} values, expected {expected}"),
            Self::TooManyLayers(n) => {
                let most = MAX_LAYERS;
                write!(f, "{n} layers, an artifact holds at most {most}")
            }
            Self::Name(name) => write!(f, "{name:?} cannot be a class name"),
            Self::Weight(w) => write!(f, "a weight of {w} does not fit 4 bits"),
            Self::Refused(e) => write!(f, "the loader refuses the model: {e}"),
            Self::SelfTest(e) => write!(f, "the self-test cannot run: {e}"),
        }
    }
}

impl core::error::Error for WriteError {}

impl QuantModel {
    /// Whether every layout can hold it: the weights of the GRU layers are multiples of 16, from −112 to 112.
    pub fn fits_half_bytes(&self) -> bool {
        self.layers.iter().all(|layer| match layer {
            QuantLayer::Gru(g) => {
                let mut weights = g.w.iter().chain(&g.u);
                weights.all(|w| w % 16 == 0 && *w != i8::MIN)
            }
            QuantLayer::Dense(_) => true,
        })
    }

    /// Whether layouts that leave out weights can hold it: no GRU layer has more units than [`MAX_UNITS`].
    pub fn fits_sparse(&self) -> bool {
        self.layers.iter().all(|layer| match layer {
            QuantLayer::Gru(g) => g.header.units as usize <= MAX_UNITS,
            QuantLayer::Dense(_) => true,
        })
    }
}

/// The longest state that the host runs, in 16-bit words: eight layers of 1024 units, a sliding mean, and more.
pub const HOST_STATE: usize = if cfg!(miri) { 2560 } else { 32768 };

/// A state for any model on the host, at rest.
///
/// # Errors
/// [`StateError::TooSmall`] beyond [`HOST_STATE`].
pub fn host_state(model: &Model<'_>) -> Result<Box<StateRef>, StateError> {
    let mut state: Box<StateRef> = Box::new(State::<HOST_STATE>::unbound());
    state.bind(model)?;
    Ok(state)
}

/// Bytes that start at a multiple of four, as [`Model::load`] needs them.
#[derive(Debug, Clone)]
pub struct Aligned {
    buffer: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// Copies `bytes` to an aligned place.
    pub fn new(bytes: &[u8]) -> Self {
        let mut buffer = vec![0; bytes.len() + 3];
        let start = buffer.as_ptr().align_offset(4).min(3);
        buffer[start..start + bytes.len()].copy_from_slice(bytes);
        Self {
            buffer,
            start,
            len: bytes.len(),
        }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }
}

impl core::ops::Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl core::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.start + self.len]
    }
}

fn expect_len(what: &'static str, found: usize, expected: usize) -> Result<(), WriteError> {
    if found == expected {
        Ok(())
    } else {
        Err(WriteError::Len {
            what,
            found,
            expected,
        })
    }
}

/// Writes the artifact of `model` with its weights in `layout`, and proves it by loading it.
///
/// # Errors
/// [`WriteError`]: lengths that do not fit, or whatever [`Model::load`] refuses.
pub fn write(model: &QuantModel, layout: Layout) -> Result<Vec<u8>, WriteError> {
    let features = model.features.len();
    let mut payload = Vec::new();
    for f in &model.features {
        payload.extend(f.to_bytes());
    }
    if !model.limits.is_empty() {
        expect_len("limits", model.limits.len(), features)?;
    }
    for l in &model.limits {
        payload.extend(l.to_bytes());
    }
    let mut layers: heapless::Vec<_, MAX_LAYERS> = heapless::Vec::new();
    // What the next layer reads, what the layer in front reads, its units.
    let (mut input, mut shared, mut front) = (features, features, 0);
    for layer in &model.layers {
        let second = layer.is_second();
        if second {
            input = shared;
        }
        shared = input;
        let header = match layer {
            QuantLayer::Gru(g) => {
                write_gru(layers.len() as u8, g, input, layout, &mut payload)?;
                LayerHeader::Gru(GruHeader {
                    initial_state: !g.initial_state.is_empty(),
                    ..g.header
                })
            }
            QuantLayer::Dense(d) => {
                write_dense(d, input, layout, &mut payload)?;
                LayerHeader::Dense(d.header)
            }
        };
        input = header.units() + if second { front } else { 0 };
        front = header.units();
        layers
            .push(header)
            .map_err(|_| WriteError::TooManyLayers(model.layers.len()))?;
    }
    if let Some(bad) = model
        .classes
        .iter()
        .find(|c| c.is_empty() || c.contains('\n'))
    {
        return Err(WriteError::Name(bad.clone()));
    }
    if let Some(decision) = &model.decision {
        expect_len("thresholds", decision.thresholds.len(), input)?;
        payload.extend(decision.thresholds.iter().flat_map(|t| t.to_bytes()));
    }
    let steps = model.self_test.len() / features.max(1);
    expect_len("self_test", model.self_test.len(), steps * features)?;
    payload.extend(model.self_test.iter().flat_map(|v| v.to_le_bytes()));
    payload.resize(align4(payload.len()), 0);

    let classes = model.classes.join("\n");
    let mut header = Header {
        name: &model.name,
        classes: &classes,
        sample_rate_mhz: model.sample_rate_mhz,
        layout,
        features: features as u16,
        input_exponent: model.input_exponent,
        gap: model.gap,
        limits: !model.limits.is_empty(),
        layers,
        readout: model.readout,
        warm_up_steps: model.warm_up_steps,
        decision: model.decision.as_ref().map(|d| d.header),
        self_test: (steps != 0).then_some(SelfTest {
            steps: steps as u16,
            digest: 0,
        }),
    };
    let mut bytes = Aligned::new(&frame(&header, &payload));
    if steps != 0 {
        let digest = self_test_digest(&bytes)?;
        header.self_test = Some(SelfTest {
            steps: steps as u16,
            digest,
        });
        bytes = Aligned::new(&frame(&header, &payload));
    }
    Model::load(&bytes).map_err(WriteError::Refused)?;
    Ok(bytes.to_vec())
}

fn self_test_digest(bytes: &[u8]) -> Result<u64, WriteError> {
    let model = Model::load(bytes).map_err(WriteError::Refused)?;
    let mut state = host_state(&model).map_err(WriteError::SelfTest)?;
    match model.self_test(&mut state) {
        Ok(()) => Ok(0),
        Err(StateError::SelfTest { found, .. }) => Ok(found),
        Err(e) => Err(WriteError::SelfTest(e)),
    }
}

/// Frame, header and payload; the payload's length is a multiple of four.
fn frame(header: &Header<'_>, payload: &[u8]) -> Vec<u8> {
    struct Push<'v>(&'v mut Vec<u8>);
    impl postcard::ser_flavors::Flavor for Push<'_> {
        type Output = ();
        fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
            self.0.push(byte);
            Ok(())
        }
        fn finalize(self) -> postcard::Result<()> {
            Ok(())
        }
    }
    let mut head = Vec::new();
    // Pushing to a vector does not fail, and the schema has nothing that postcard refuses.
    let _ = postcard::serialize_with_flavor(header, Push(&mut head));
    let total = FRAME_LEN + align4(head.len()) + payload.len();
    let mut bytes = Vec::with_capacity(total);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(0u16.to_le_bytes());
    bytes.extend((total as u32).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend(&head);
    bytes.resize(FRAME_LEN + align4(head.len()), 0);
    bytes.extend(payload);
    fix_crc(&mut bytes);
    bytes
}

/// Writes the checksum that belongs to `bytes` into their frame.
///
/// For tools and tests; bytes too short for a frame stay as they are.
pub fn fix_crc(bytes: &mut [u8]) {
    let crc = frame_crc(bytes).to_le_bytes();
    if let Some(place) = bytes.get_mut(12..16) {
        place.copy_from_slice(&crc);
    }
}

fn write_gru(
    layer: u8,
    g: &QuantGru,
    input: usize,
    layout: Layout,
    out: &mut Vec<u8>,
) -> Result<(), WriteError> {
    let units = g.header.units as usize;
    expect_len("GRU input", g.input, input)?;
    expect_len("w", g.w.len(), GATES * units * input)?;
    expect_len("u", g.u.len(), GATES * units * units)?;
    expect_len("mw", g.mw.len(), units)?;
    expect_len("mu", g.mu.len(), GATES * units)?;
    expect_len("b", g.b.len(), 4 * units)?;
    if !g.initial_state.is_empty() {
        expect_len("initial_state", g.initial_state.len(), units)?;
    }
    let all: Vec<usize> = (0..units).collect();
    if layout.is_sparse() {
        if units > MAX_UNITS {
            let error = LoadError::Range {
                field: crate::Field::Units,
                layer,
                found: units as u32,
                max: MAX_UNITS as u32,
            };
            return Err(WriteError::Refused(error));
        }
        for panel in all.chunks(PANEL) {
            let pairs = pairs_left(g, panel);
            let start = out.len();
            out.push((pairs.len() - 1) as u8);
            out.extend(pairs.iter().map(|&pair| pair as u8));
            out.resize(start + list_len(pairs.len()), 0);
            let columns: Vec<usize> = (pairs.iter()).flat_map(|p| [2 * p, 2 * p + 1]).collect();
            write_blocks(g, layout, panel, &columns, out)?;
        }
    } else {
        write_blocks(g, layout, &all, &all, out)?;
    }
    out.extend(g.initial_state.iter().flat_map(|h| h.to_le_bytes()));
    out.resize(align4(out.len()), 0);
    Ok(())
}

/// The pairs of columns of which any recurrent weight of these units is not zero; the first one where there is none.
fn pairs_left(g: &QuantGru, panel: &[usize]) -> Vec<usize> {
    let units = g.header.units as usize;
    let has_weights = |pair: &usize| {
        (0..GATES).any(|gate| {
            panel.iter().any(|unit| {
                let row = &g.u[(gate * units + unit) * units..][..units];
                row.iter().skip(2 * pair).take(2).any(|&w| w != 0)
            })
        })
    };
    let left: Vec<usize> = (0..units.div_ceil(2)).filter(has_weights).collect();
    if left.is_empty() { vec![0] } else { left }
}

/// Blocks of these units, with these columns of the recurrent weights.
fn write_blocks(
    g: &QuantGru,
    layout: Layout,
    of_units: &[usize],
    recurrent: &[usize],
    out: &mut Vec<u8>,
) -> Result<(), WriteError> {
    let (input, units, group) = (g.input, g.header.units as usize, layout.gru_group());
    let all: Vec<usize> = (0..input).collect();
    for of_block in of_units.chunks(group) {
        let start = out.len();
        let shape = (input, recurrent.len());
        let len = layout.gru_part_len(shape.0) + layout.gru_part_len(shape.1);
        out.resize(start + len, 0);
        for (is_recurrent, weights, columns, width) in [
            (false, &g.w, &all[..], input),
            (true, &g.u, recurrent, units),
        ] {
            for gate in 0..GATES {
                for unit in 0..group {
                    for column in 0..layout.gru_columns(gate, columns.len()) {
                        let place = layout.gru_weight(shape, is_recurrent, gate, unit, column);
                        let w = match (of_block.get(unit), columns.get(column)) {
                            (Some(unit), Some(&column)) if column < width => {
                                weights[(gate * units + unit) * width + column]
                            }
                            _ => 0,
                        };
                        if place.part != Part::Whole && (w % 16 != 0 || w == i8::MIN) {
                            return Err(WriteError::Weight(w));
                        }
                        let at = start + place.byte;
                        out[at] = place.encode(out[at], w);
                    }
                }
            }
        }
        fill_heads(layout, input, recurrent.len(), &mut out[start..]);
        out.resize(start + layout.gru_weights_len(input, recurrent.len()), 0);
        for unit in (0..group).map(|unit| of_block.get(unit)) {
            let (r, rest) = g.mu.split_at(units);
            let (z, n) = rest.split_at(units);
            for m in [r, z, &g.mw, n] {
                out.extend(unit.map_or(1, |&unit| m[unit]).to_le_bytes());
            }
            for kind in 0..4 {
                let b = unit.map_or(0, |unit| g.b[kind * units + unit]);
                out.extend((b ^ layout.bias_flip()).to_le_bytes());
            }
        }
    }
    Ok(())
}

/// Works out what stands in front of the weights of a block's parts.
fn fill_heads(layout: Layout, input: usize, units: usize, weights: &mut [u8]) {
    if layout != Layout::Winograd {
        return;
    }
    let (w, u) = weights.split_at_mut(layout.gru_part_len(input));
    for (part, n) in [(w, input), (u, units)] {
        part.chunks_exact_mut(layout.rows_len(RESET, n))
            .for_each(fill_head);
    }
}

fn fill_head(rows: &mut [u8]) {
    let (head, words) = rows.split_at_mut(HEAD);
    for (place, sum) in head.chunks_exact_mut(4).zip(winograd_head(words)) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

fn write_dense(
    d: &QuantDense,
    input: usize,
    layout: Layout,
    out: &mut Vec<u8>,
) -> Result<(), WriteError> {
    let units = d.header.units as usize;
    expect_len("Dense input", d.input, input)?;
    expect_len("Dense w", d.w.len(), units * input)?;
    expect_len("Dense m", d.m.len(), units)?;
    expect_len("Dense b", d.b.len(), units)?;
    let at = out.len();
    out.resize(at + layout.dense_weights_len(input, units), 0);
    for row in 0..layout.rows(units) {
        for column in 0..layout.whole().columns(input) {
            let place = layout.dense_weight(input, row, column);
            let real = row < units && column < input;
            let w = if real { d.w[row * input + column] } else { 0 };
            out[at + place.byte] = place.encode(0, w);
        }
    }
    if layout == Layout::Winograd {
        let rows = out[at..].chunks_exact_mut(layout.rows_len(RESET, input));
        rows.for_each(fill_head);
    }
    for row in 0..layout.rows(units) {
        out.extend(d.m.get(row).unwrap_or(&1).to_le_bytes());
        out.extend(d.b.get(row).unwrap_or(&0).to_le_bytes());
    }
    Ok(())
}

/// Takes a loaded model apart: the inverse of [`write()`], whatever its layout.
pub fn read(model: &Model<'_>) -> QuantModel {
    let layout = model.layout();
    let features = model
        .facts
        .features
        .chunks_exact(crate::artifact::FEATURE_PARAMS)
        .map(FeatureParams::read)
        .collect();
    let limits = model
        .facts
        .limits
        .chunks_exact(crate::artifact::FEATURE_LIMITS)
        .map(Limits::read)
        .collect();
    let layers = model
        .layers()
        .iter()
        .map(|layer| match layer {
            Layer::Gru(g) => QuantLayer::Gru(read_gru(g, layout)),
            Layer::Dense(d) => QuantLayer::Dense(read_dense(d, layout)),
        })
        .collect();
    let vectors = model.facts.self_test.map_or(&[][..], |test| test.vectors);
    QuantModel {
        name: model.name().to_string(),
        classes: model.classes().map(str::to_string).collect(),
        sample_rate_mhz: model.sample_rate_mhz(),
        input_exponent: model.input_exponent(),
        gap: model.gap_policy(),
        features,
        limits,
        layers,
        readout: model.readout(),
        warm_up_steps: model.warm_up_steps(),
        decision: model.decision().map(|header| QuantDecision {
            header,
            thresholds: model.thresholds().collect(),
        }),
        self_test: vectors
            .chunks_exact(2)
            .map(|b| i16::from_le_bytes([b[0], b[1]]))
            .collect(),
    }
}

fn read_gru(g: &crate::GruLayer<'_>, layout: Layout) -> QuantGru {
    let (input, units) = (g.input(), g.units());
    let mut out = QuantGru {
        header: g.header(),
        input,
        w: vec![0; GATES * units * input],
        u: vec![0; GATES * units * units],
        mu: vec![0; GATES * units],
        mw: vec![0; units],
        b: vec![0; 4 * units],
        initial_state: g
            .initial_state
            .as_chunks()
            .0
            .iter()
            .map(|&b| i16::from_le_bytes(b))
            .collect(),
    };
    if layout.is_sparse() {
        for panel in Panels::new(layout, input, units, g.blocks) {
            let pairs = panel.pairs.iter().map(|&pair| 2 * pair as usize);
            let columns: Vec<usize> = pairs.flat_map(|c| [c, c + 1]).collect();
            read_blocks(layout, panel.first, &columns, panel.blocks, &mut out);
        }
    } else {
        let columns: Vec<usize> = (0..units).collect();
        read_blocks(layout, 0, &columns, g.blocks, &mut out);
    }
    out
}

/// The units from `first` on, with these columns of the recurrent weights.
fn read_blocks(
    layout: Layout,
    first: usize,
    recurrent: &[usize],
    blocks: &[u8],
    out: &mut QuantGru,
) {
    let (input, units, group) = (out.input, out.header.units as usize, layout.gru_group());
    let all: Vec<usize> = (0..input).collect();
    let shape = (input, recurrent.len());
    let block_len = layout.gru_block_len(shape.0, shape.1);
    for (b, block) in blocks.chunks_exact(block_len).enumerate() {
        let params = &block[layout.gru_weights_len(shape.0, shape.1)..];
        let start = first + b * group;
        for (unit, params) in
            (start..units.min(start + group)).zip(params.chunks_exact(UNIT_PARAMS))
        {
            for (is_recurrent, weights, columns, width) in [
                (false, &mut out.w, &all[..], input),
                (true, &mut out.u, recurrent, units),
            ] {
                for gate in 0..GATES {
                    let row = &mut weights[(gate * units + unit) * width..][..width];
                    for (k, &column) in columns.iter().enumerate() {
                        let place = layout.gru_weight(shape, is_recurrent, gate, unit - start, k);
                        if let Some(w) = row.get_mut(column) {
                            *w = place.decode(block[place.byte]);
                        }
                    }
                }
            }
            let p = UnitParams::read(layout, params);
            out.mw[unit] = p.mw;
            for gate in 0..GATES {
                out.mu[gate * units + unit] = p.mu[gate];
            }
            for kind in 0..4 {
                out.b[kind * units + unit] = p.b[kind];
            }
        }
    }
}

fn read_dense(d: &crate::DenseLayer<'_>, layout: Layout) -> QuantDense {
    let (input, units) = (d.input(), d.units());
    let (weights, params) = d.bytes.split_at(layout.dense_weights_len(input, units));
    let w = (0..units)
        .flat_map(|row| (0..input).map(move |column| (row, column)))
        .map(|(row, column)| {
            let place = layout.dense_weight(input, row, column);
            place.decode(weights[place.byte])
        })
        .collect();
    let rows = params.chunks_exact(ROW_PARAMS).take(units);
    let word = |b: &[u8]| i32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    QuantDense {
        header: d.header(),
        input,
        w,
        m: rows.clone().map(|p| word(&p[..4])).collect(),
        b: rows.map(|p| word(&p[4..])).collect(),
    }
}

/// The same model with its weights in `layout`; as it is where it has a variant that only
/// [`Layout::Rows`] can hold. The name, the numbers and every bit computed stay, the tag changes.
///
/// For long runs on a host: `relayed(&model, PREFERRED_LAYOUT)` with
/// [`PREFERRED_LAYOUT`](crate::kernel::PREFERRED_LAYOUT) is several times faster to run.
///
/// # Errors
/// None that a loaded model is known to cause; see [`write()`].
pub fn relayed(model: &Model<'_>, layout: Layout) -> Result<Aligned, WriteError> {
    let special = |l: &Layer<'_>| matches!(l, Layer::Gru(g) if !g.is_main_variant());
    if model.layout() == layout || model.layers().iter().any(special) {
        return Ok(Aligned::new(model.bytes()));
    }
    Ok(Aligned::new(&write(&read(model), layout)?))
}

/// Runs `samples` of raw counts from a reset and returns the digest of all hidden states.
///
/// # Errors
/// As [`Model::step`].
pub fn digest_of(model: &Model<'_>, samples: &[Vec<i16>]) -> Result<u64, StateError> {
    let mut state = host_state(model)?;
    let mut digest = Digest::default();
    for sample in samples {
        model.step(&mut state, sample)?;
        state.digest(model, &mut digest);
    }
    Ok(digest.value())
}
