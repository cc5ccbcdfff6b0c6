//! Reference artifacts, and putting frames together that the exporter would refuse to write.

use gru_core::Threshold;
use gru_core::activation::Activation;
use gru_core::artifact::{
    DecisionHeader, DenseHeader, Direction, FRAME_LEN, GapPolicy, GruHeader, Header, LayerHeader,
    MAGIC, Readout, Smoothing, VERSION,
};
use gru_core::input::{FeatureParams, Limits};
use gru_core::layout::{Layout, align4};
use gru_core::random::{self, SplitMix};
use gru_core::writer::{QuantDecision, QuantLayer, QuantModel, fix_crc, write};

/// Frame, header and payload joined, with the right lengths and checksum, whatever they say.
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
    fix_crc(bytes);
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

/// What each layer reads: the outputs of the one in front, of two directions the same; and at the end the model's outputs.
#[must_use]
pub fn inputs(header: &Header<'_>) -> Vec<usize> {
    let mut outputs = usize::from(header.features);
    let (mut shared, mut front) = (outputs, 0);
    let of_layer = |layer: &LayerHeader| {
        let second = matches!(layer, LayerHeader::Gru(g) if g.direction.is_second());
        if !second {
            (shared, front) = (outputs, 0);
        }
        outputs = front + layer.units();
        front = layer.units();
        shared
    };
    let mut widths: Vec<usize> = header.layers.iter().map(of_layer).collect();
    widths.push(outputs);
    widths
}

/// A model of random numbers with the dimensions and options of `header`; dimensions of at least 1.
#[must_use]
pub fn fill(header: &Header<'_>, rng: &mut SplitMix) -> QuantModel {
    let features = usize::from(header.features);
    let mut layers = Vec::new();
    let widths = inputs(header);
    for (layer, &input) in header.layers.iter().zip(&widths) {
        layers.push(match layer {
            LayerHeader::Gru(gru) => QuantLayer::Gru(random::gru(rng, input, *gru)),
            LayerHeader::Dense(dense) => QuantLayer::Dense(random::dense(rng, input, *dense)),
        });
    }
    let steps = header.self_test.map_or(0, |test| usize::from(test.steps));
    let mut model = QuantModel {
        name: header.name.into(),
        classes: header
            .classes
            .split('\n')
            .filter(|name| !name.is_empty())
            .map(Into::into)
            .collect(),
        sample_rate_mhz: header.sample_rate_mhz,
        input_exponent: header.input_exponent,
        gap: header.gap,
        features: (0..features)
            .map(|_| FeatureParams {
                offset: rng.range(-1000, 1000) as i32,
                counts_per_unit: rng.range(1, 4096) as f32,
                multiplier: rng.range(4096, 16384) as u16,
                shift: rng.range(11, 15) as u8,
                pre_shift: rng.range(0, 1) as u8,
            })
            .collect(),
        limits: (0..if header.limits { features } else { 0 })
            .map(|_| Limits {
                low: -rng.range(20_000, 32_000) as i32,
                high: rng.range(20_000, 32_000) as i32,
            })
            .collect(),
        layers,
        readout: header.readout,
        warm_up_steps: header.warm_up_steps,
        decision: header.decision.map(|header| QuantDecision {
            header,
            thresholds: (0..widths.last().copied().unwrap_or_default())
                .map(|_| {
                    let enter = rng.range(8_000, 24_000) as u16;
                    Threshold {
                        enter,
                        release: rng.range(0, enter.into()) as u16,
                    }
                })
                .collect(),
        }),
        self_test: (0..steps * features).map(|_| rng.bits() as i16).collect(),
    };
    if header.layout.weight_bits() == 4 {
        random::halve(&mut model);
    }
    if header.layout.is_sparse() {
        random::prune(rng, &mut model, 0.5);
    }
    model
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
        decision: None,
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

/// The reference artifacts, by name: together they use every option of the format.
///
/// # Panics
/// When the exporter refuses one of them.
#[must_use]
pub fn references() -> Vec<(&'static str, Vec<u8>)> {
    let rows = Header {
        classes: "rest\nwalk\nrun\nknock",
        self_test: Some(gru_core::artifact::SelfTest {
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
    shifted.w_shift = 3;
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
    let sigmoid = DenseHeader {
        units: 2,
        activation: Activation::Sigmoid,
        frac: 0,
    };
    let variants = Header {
        name: "variants",
        ..plain_header(
            Layout::Rows,
            4,
            &[
                LayerHeader::Gru(variant),
                LayerHeader::Gru(relu),
                LayerHeader::Dense(sigmoid),
            ],
        )
    };
    let vector = Header {
        name: "vectors",
        ..plain_header(Layout::Vector, 5, &[gru(6), dense(3)])
    };
    let votes = Header {
        name: "votes",
        classes: "rest\nwalk\nrun",
        decision: Some(DecisionHeader {
            inverse_temperature: 5000,
            every_steps: 2,
            smoothing: Smoothing::Votes {
                of: 5,
                enter: 3,
                keep: 2,
            },
            hold_steps: 4,
            refractory_steps: 9,
            background: Some(0),
            ..DecisionHeader::new()
        }),
        ..plain_header(Layout::Pair, 3, &[gru(4), dense(3)])
    };
    let smooth = Header {
        name: "smooth",
        decision: Some(DecisionHeader {
            smoothing: Smoothing::Exponential { shift: 2 },
            margin: 3000,
            ..DecisionHeader::new()
        }),
        ..plain_header(
            Layout::Quad,
            2,
            &[
                gru(3),
                LayerHeader::Dense(DenseHeader {
                    units: 1,
                    activation: Activation::Sigmoid,
                    frac: 0,
                }),
            ],
        )
    };
    let sliding = Header {
        name: "sliding",
        readout: Readout::Sliding { steps: 9 },
        ..plain_header(Layout::Rows, 3, &[gru(4), dense(3)])
    };
    let rows4 = Header {
        name: "half rows",
        ..plain_header(Layout::Rows4, 4, &[LayerHeader::Gru(variant), dense(3)])
    };
    let pair4 = Header {
        name: "half pairs",
        ..plain_header(Layout::Pair4, 5, &[gru(7), gru(3), dense(3)])
    };
    let quad4 = Header {
        name: "half quads",
        ..plain_header(Layout::Quad4, 5, &[gru(6), dense(3)])
    };
    let rows_sparse = Header {
        name: "pruned rows",
        ..plain_header(
            Layout::RowsSparse,
            3,
            &[
                LayerHeader::Gru(GruHeader {
                    units: 9,
                    ..variant
                }),
                dense(2),
            ],
        )
    };
    let pair_sparse = Header {
        name: "pruned pairs",
        ..plain_header(Layout::PairSparse, 2, &[gru(13), gru(4), dense(3)])
    };
    let quad_sparse = Header {
        name: "pruned quads",
        ..plain_header(Layout::QuadSparse, 3, &[gru(11), dense(3)])
    };
    let second = |units, direction| {
        LayerHeader::Gru(GruHeader {
            direction,
            ..GruHeader::new(units)
        })
    };
    let both = Header {
        name: "both directions",
        readout: Readout::Mean { skip: 1 },
        ..plain_header(
            Layout::Pair,
            3,
            &[
                gru(5),
                second(4, Direction::Beside),
                gru(3),
                second(6, Direction::BesideLast),
                dense(2),
            ],
        )
    };
    let both_last = Header {
        name: "last of both",
        ..plain_header(
            Layout::Rows,
            4,
            &[
                LayerHeader::Gru(variant),
                LayerHeader::Gru(GruHeader {
                    units: 2,
                    direction: Direction::BesideLast,
                    ..variant
                }),
            ],
        )
    };
    [
        ("rows", rows),
        ("pair", pair),
        ("quad", quad),
        ("variants", variants),
        ("vector", vector),
        ("votes", votes),
        ("smooth", smooth),
        ("sliding", sliding),
        ("rows4", rows4),
        ("pair4", pair4),
        ("quad4", quad4),
        ("rows_sparse", rows_sparse),
        ("pair_sparse", pair_sparse),
        ("quad_sparse", quad_sparse),
        ("both", both),
        ("both_last", both_last),
    ]
    .into_iter()
    .zip(1..)
    .map(|((name, header), seed)| {
        let model = fill(&header, &mut SplitMix(seed));
        (name, write(&model, header.layout).expect("a sound model"))
    })
    .collect()
}
