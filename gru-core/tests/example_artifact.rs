//! The artifact of the examples: made here, by hand, and compared with the file (`GRU_BLESS=1` writes it).
#![cfg(feature = "std")]

use gru_core::activation::Activation;
use gru_core::artifact::{DecisionHeader, DenseHeader, GapPolicy, GruHeader, Readout, Smoothing};
use gru_core::input::FeatureParams;
use gru_core::layout::Layout;
use gru_core::writer::{
    Aligned, QuantDecision, QuantDense, QuantGru, QuantLayer, QuantModel, write,
};
use gru_core::{Model, Threshold};

/// One unit that follows the level of one feature with a time constant of about 8 steps, and two outputs that
/// say which side of the middle it is on.
fn level() -> QuantModel {
    let gru = QuantGru {
        header: GruHeader::new(1),
        input: 1,
        // Rows r, z, n: only the candidate looks at the sample.
        w: vec![0, 0, 127],
        u: vec![0, 0, 0],
        mu: vec![1, 1, 1],
        mw: vec![516],
        // z = σ(2) = 0.88
        b: vec![0, 5461, 0, 0],
        initial_state: Vec::new(),
    };
    let dense = QuantDense {
        header: DenseHeader {
            units: 2,
            activation: Activation::Linear,
            frac: 10,
        },
        input: 1,
        w: vec![-127, 127],
        m: vec![4_227_000; 2],
        b: vec![0, 0],
    };
    QuantModel {
        name: "level".into(),
        classes: vec!["low".into(), "high".into()],
        sample_rate_mhz: 50_000,
        input_exponent: 0,
        gap: GapPolicy::Hold,
        features: vec![FeatureParams {
            offset: 0,
            counts_per_unit: 16_384.0,
            multiplier: 16_384,
            shift: 13,
            pre_shift: 0,
        }],
        limits: Vec::new(),
        layers: vec![QuantLayer::Gru(gru), QuantLayer::Dense(dense)],
        readout: Readout::Last,
        warm_up_steps: 10,
        decision: Some(QuantDecision {
            header: DecisionHeader {
                smoothing: Smoothing::Exponential { shift: 1 },
                hold_steps: 5,
                background: Some(0),
                ..DecisionHeader::new()
            },
            // 0.9 to enter, 0.6 to stay.
            thresholds: vec![
                Threshold {
                    enter: 29_491,
                    release: 19_661,
                };
                2
            ],
        }),
        self_test: vec![0, 1000, 16_000, 16_000, -16_000, 3],
    }
}

#[test]
fn the_artifact_of_the_examples_is_this_one() {
    let bytes = write(&level(), Layout::Rows).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/level.gru");
    if std::env::var_os("GRU_BLESS").is_some() {
        std::fs::write(path, &bytes).unwrap();
    }
    assert_eq!(
        std::fs::read(path).unwrap(),
        bytes,
        "run once with GRU_BLESS=1"
    );
    let bytes = Aligned::new(&bytes);
    assert!(Model::load(&bytes).is_ok());
}
