//! Reference artifacts with random numbers, built from the format's description alone.
//!
//! The exporter is not used, so that what it writes and what the loader reads are checked from outside.

use gru_core::activation::Activation;
use gru_core::artifact::{
    DenseHeader, FRAME_LEN, GapPolicy, GruHeader, Header, LayerHeader, MAGIC, Readout, SelfTest,
    VERSION, frame_crc,
};
use gru_core::input::{FeatureParams, Limits};
use gru_core::layout::{GATES, Layout, align4};
use gru_core::{Model, State, StateError};

use super::random::Random;

/// Words of a state that is long enough for every model of the checks.
pub const STATE_WORDS: usize = 16 * 1024;

/// A state of [`STATE_WORDS`] words.
pub type LongState = State<STATE_WORDS>;

/// Bytes that start at a multiple of four, as flash does.
#[derive(Debug)]
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// A copy of `bytes`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut memory = vec![0; bytes.len() + 3];
        let start = memory.as_ptr().align_offset(4).min(3);
        memory[start..start + bytes.len()].copy_from_slice(bytes);
        Self {
            memory,
            start,
            len: bytes.len(),
        }
    }
}

impl std::ops::Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// Frame, header and payload joined, with the right lengths and checksum.
///
/// # Panics
/// When the header cannot be serialized, which `postcard` does not do with memory at hand.
#[must_use]
pub fn assemble(header: &Header<'_>, payload: &[u8]) -> Vec<u8> {
    let head = postcard::to_stdvec(header).expect("a header of plain data");
    let mut bytes = vec![0; FRAME_LEN];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..20].copy_from_slice(&(head.len() as u32).to_le_bytes());
    bytes.extend(head);
    bytes.resize(align4(bytes.len()), 0);
    bytes.extend(payload);
    reseal(&mut bytes);
    bytes
}

/// Writes the right total length and checksum into whatever frame there is.
pub fn reseal(bytes: &mut [u8]) {
    let len = (bytes.len() as u32).to_le_bytes();
    if let Some(total) = bytes.get_mut(8..12) {
        total.copy_from_slice(&len);
    }
    let crc = frame_crc(bytes).to_le_bytes();
    if let Some(stored) = bytes.get_mut(12..16) {
        stored.copy_from_slice(&crc);
    }
}

/// Offset of the payload of an artifact.
#[must_use]
pub fn payload_start(bytes: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(bytes.get(16..20)?.try_into().ok()?);
    Some(FRAME_LEN + align4(usize::try_from(len).ok()?))
}

/// The header of an artifact, without any check of the rest.
#[must_use]
pub fn header(bytes: &[u8]) -> Option<Header<'_>> {
    let len = u32::from_le_bytes(bytes.get(16..20)?.try_into().ok()?) as usize;
    postcard::from_bytes(bytes.get(FRAME_LEN..FRAME_LEN.checked_add(len)?)?).ok()
}

/// A canonical payload of random numbers for `header`, whose dimensions may be nonsense.
#[must_use]
pub fn random_payload(header: &Header<'_>, random: &mut Random) -> Vec<u8> {
    let mut payload = Vec::new();
    let features = usize::from(header.features);
    for _ in 0..features {
        payload.extend(
            FeatureParams {
                offset: random.below(2001) as i32 - 1000,
                counts_per_unit: 1.0 + random.below(4096) as f32,
                multiplier: 1 + random.below(32767) as u16,
                shift: 8 + random.below(8) as u8,
                pre_shift: random.below(2) as u8,
            }
            .to_bytes(),
        );
    }
    if header.limits {
        for _ in 0..features {
            let low = -20_000 - random.below(12_000) as i32;
            let high = 20_000 + random.below(12_000) as i32;
            payload.extend(Limits { low, high }.to_bytes());
        }
    }
    let mut input = features;
    for layer in &header.layers {
        match layer {
            LayerHeader::Gru(gru) => random_gru(&mut payload, header.layout, input, gru, random),
            LayerHeader::Dense(dense) => {
                random_dense(&mut payload, header.layout, input, dense, random);
            }
        }
        input = layer.units();
    }
    for _ in 0..header.self_test.map_or(0, |test| usize::from(test.steps)) * features {
        let count = random.below(40_000) as i32 - 20_000;
        payload.extend((count as i16).to_le_bytes());
    }
    payload.resize(align4(payload.len()), 0);
    payload
}

fn random_gru(
    payload: &mut Vec<u8>,
    layout: Layout,
    input: usize,
    gru: &GruHeader,
    random: &mut Random,
) {
    let units = usize::from(gru.units);
    let group = layout.group();
    for block in 0..units.div_ceil(group) {
        let here = (units - block * group).min(group);
        let mut weights = vec![0; layout.gru_weights_len(input, units)];
        let (w, u) = weights.split_at_mut(layout.gru_part_len(input));
        for (part, columns) in [(w, input), (u, units)] {
            for gate in 0..GATES {
                for unit in 0..group {
                    for column in 0..layout.columns(columns) {
                        let place = layout.gru_weight(columns, gate, unit, column);
                        let used = unit < here && column < columns;
                        let weight = if used { random_weight(random) } else { 0 };
                        part[place.byte] = place.encode(weight);
                    }
                }
            }
        }
        payload.extend(weights);
        for unit in 0..group {
            for _ in 0..6 {
                let multiplier = if unit < here {
                    1 + random.below(1 << (6 + random.clone().below(10))) as u16
                } else {
                    1
                };
                payload.extend(multiplier.min(32767).to_le_bytes());
            }
            for _ in 0..4 {
                let bias = if unit < here {
                    random.below(16_001) as i16 - 8000
                } else {
                    0
                };
                payload.extend(bias.to_le_bytes());
            }
        }
    }
    if gru.initial_state {
        for _ in 0..units {
            payload.extend((random.next_u64() as i16).to_le_bytes());
        }
        payload.resize(align4(payload.len()), 0);
    }
}

fn random_dense(
    payload: &mut Vec<u8>,
    layout: Layout,
    input: usize,
    dense: &DenseHeader,
    random: &mut Random,
) {
    let units = usize::from(dense.units);
    let mut weights = vec![0; layout.dense_weights_len(input, units)];
    for row in 0..layout.rows(units) {
        for column in 0..layout.columns(input) {
            let place = layout.dense_weight(input, row, column);
            let used = row < units && column < input;
            let weight = if used { random_weight(random) } else { 0 };
            weights[place.byte] = place.encode(weight);
        }
    }
    payload.extend(weights);
    for row in 0..layout.rows(units) {
        let (multiplier, bias) = if row < units {
            (
                1 + random.below(1 << 28) as i32,
                random.below(1 << 16) as i32 - (1 << 15),
            )
        } else {
            (1, 0)
        };
        payload.extend(multiplier.to_le_bytes());
        payload.extend(bias.to_le_bytes());
    }
}

/// -127..=127, the ends more often than chance has it.
fn random_weight(random: &mut Random) -> i8 {
    match random.below(16) {
        0 => 127,
        1 => -127,
        _ => (random.below(255) as i32 - 127) as i8,
    }
}

/// An artifact of random numbers; if the header asks for a self-test, with its right digest.
#[must_use]
pub fn build(header: &Header<'_>, seed: u64) -> Vec<u8> {
    let payload = random_payload(header, &mut Random::new(seed));
    let bytes = assemble(header, &payload);
    let Some(test) = header.self_test else {
        return bytes;
    };
    let aligned = Aligned::new(&bytes);
    let found = Model::load(&aligned).ok().and_then(|model| {
        let mut state = Box::new(LongState::unbound());
        state.bind(&model).ok()?;
        match model.self_test(&mut state) {
            Err(StateError::SelfTest { found, .. }) => Some(found),
            _ => None,
        }
    });
    let mut header = header.clone();
    header.self_test = Some(SelfTest {
        digest: found.unwrap_or(test.digest),
        ..test
    });
    assemble(&header, &payload)
}

/// A header of the given layers with nothing special about it.
#[must_use]
pub fn plain_header(layout: Layout, features: u16, layers: &[LayerHeader]) -> Header<'static> {
    Header {
        name: "reference",
        classes: "",
        sample_rate_mhz: 50_000,
        layout,
        features,
        input_exponent: 3,
        gap: GapPolicy::Hold,
        limits: false,
        layers: layers.iter().copied().collect(),
        readout: Readout::Last,
        warm_up_steps: 10,
        self_test: None,
    }
}

/// A GRU layer of Keras' default variant.
#[must_use]
pub fn gru(units: u16) -> LayerHeader {
    LayerHeader::Gru(GruHeader::new(units))
}

/// A linear Dense layer.
#[must_use]
pub fn dense(units: u16) -> LayerHeader {
    LayerHeader::Dense(DenseHeader {
        units,
        activation: Activation::Linear,
        frac: 8,
    })
}

/// The four reference artifacts, by name: together they use every option of the format.
#[must_use]
pub fn references() -> Vec<(&'static str, Vec<u8>)> {
    let rows = Header {
        classes: "rest\nwalk\nrun\nknock",
        self_test: Some(SelfTest {
            steps: 7,
            digest: 0,
        }),
        ..plain_header(Layout::Rows, 3, &[gru(5), dense(4)])
    };
    let pair = Header {
        name: "pairs",
        readout: Readout::Mean { skip: 4 },
        gap: GapPolicy::Zero,
        ..plain_header(Layout::Pair, 5, &[gru(7), dense(3)])
    };
    let mut shifted = GruHeader::new(6);
    shifted.nh_shift = 2;
    let quad = Header {
        name: "quads",
        limits: true,
        gap: GapPolicy::Skip,
        readout: Readout::Exponential { shift: 3 },
        ..plain_header(
            Layout::Quad,
            3,
            &[LayerHeader::Gru(shifted), gru(5), dense(2)],
        )
    };
    let variant = GruHeader {
        activation: Activation::Softsign,
        recurrent_activation: Activation::HardSigmoid,
        reset_after: false,
        initial_state: true,
        clip: 20_000,
        ..GruHeader::new(5)
    };
    let relu = GruHeader {
        activation: Activation::Relu,
        exponent: 3,
        ..GruHeader::new(4)
    };
    let variants = Header {
        name: "variants",
        ..plain_header(
            Layout::Rows,
            4,
            &[
                LayerHeader::Gru(variant),
                LayerHeader::Gru(relu),
                LayerHeader::Dense(DenseHeader {
                    units: 2,
                    activation: Activation::Sigmoid,
                    frac: 0,
                }),
            ],
        )
    };
    vec![
        ("rows", build(&rows, 1)),
        ("pair", build(&pair, 2)),
        ("quad", build(&quad, 3)),
        ("variants", build(&variants, 4)),
    ]
}
