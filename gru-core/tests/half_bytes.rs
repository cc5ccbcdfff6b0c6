//! Weights of half a byte: the same model in every layout, the same bits, half the flash; and what is refused.
#![cfg(feature = "std")]

use gru_core::activation::Activation;
use gru_core::artifact::{FEATURE_PARAMS, FRAME_LEN, GruHeader};
use gru_core::layout::{Layout, align4};
use gru_core::random::{self, SplitMix};
use gru_core::writer::{
    Aligned, QuantLayer, QuantModel, WriteError, digest_of, fix_crc, read, relayed, write,
};
use gru_core::{Field, LoadError, Model};

const HALVED: [Layout; 3] = [Layout::Rows4, Layout::Pair4, Layout::Quad4];

fn halved(seed: u64, features: usize, units: &[usize], outputs: usize) -> QuantModel {
    let mut model = random::model(seed, features, units, outputs);
    random::halve(&mut model);
    model
}

fn samples(features: usize, steps: usize) -> Vec<Vec<i16>> {
    let mut rng = SplitMix(5);
    (0..steps).map(|_| rng.sample(features)).collect()
}

/// Offset of the first layer.
fn layer_start(bytes: &[u8], features: usize) -> usize {
    let header = u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
    FRAME_LEN + align4(header) + features * FEATURE_PARAMS
}

#[test]
fn every_layout_computes_the_same_bits() {
    let steps = if cfg!(miri) { 1 } else { 40 };
    let lengths = if cfg!(miri) { 2..4 } else { 1..68 };
    for n in lengths {
        for (features, units) in [(n, vec![5, 3]), (3, vec![n])] {
            let mut model = halved(n as u64, features, &units, 4);
            // The largest weights, and the smallest multipliers, in some rows.
            if let QuantLayer::Gru(g) = &mut model.layers[0] {
                g.w[..features].fill([112, -112][n % 2]);
                g.u[..units[0]].fill([-112, 112][n % 2]);
                g.mu[0] = 1;
            }
            let samples = samples(features, steps);
            let digests: Vec<u64> = Layout::ALL
                .into_iter()
                .map(|layout| {
                    let bytes = Aligned::new(&write(&model, layout).unwrap());
                    let loaded = Model::load(&bytes).unwrap();
                    assert_eq!(read(&loaded), model, "{layout:?}");
                    digest_of(&loaded, &samples).unwrap()
                })
                .collect();
            assert!(digests.iter().all(|d| *d == digests[0]), "{n} {digests:x?}");
        }
    }
}

#[test]
fn any_variant_fits_rows() {
    let header = GruHeader {
        activation: Activation::Softsign,
        recurrent_activation: Activation::HardSigmoid,
        reset_after: false,
        initial_state: true,
        clip: 20_000,
        ..GruHeader::new(7)
    };
    let mut model = random::model(3, 5, &[7], 2);
    model.layers[0] = QuantLayer::Gru(random::gru(&mut SplitMix(4), 5, header));
    random::halve(&mut model);
    let samples = samples(5, if cfg!(miri) { 3 } else { 50 });
    let digest = |layout| {
        let bytes = Aligned::new(&write(&model, layout).unwrap());
        digest_of(&Model::load(&bytes).unwrap(), &samples).unwrap()
    };
    assert_eq!(digest(Layout::Rows), digest(Layout::Rows4));
    assert!(write(&model, Layout::Pair4).is_err());
}

#[test]
fn half_the_bytes() {
    let units = if cfg!(miri) { 8 } else { 64 };
    let model = halved(1, 8, &[units], 6);
    assert!(model.fits_half_bytes());
    for layout in HALVED {
        let whole = write(&model, layout.whole()).unwrap().len();
        let half = write(&model, layout).unwrap().len();
        assert_eq!(whole - half, 3 * units * (8 + units) / 2, "{layout:?}");
    }
}

#[test]
fn the_packing_can_be_changed_and_changed_back() {
    let model = halved(2, 6, &[9, 5], 3);
    let bytes = Aligned::new(&write(&model, Layout::Pair4).unwrap());
    let loaded = Model::load(&bytes).unwrap();
    let fast = relayed(&loaded, Layout::Lanes).unwrap();
    let fast = Model::load(&fast).unwrap();
    assert_eq!(fast.layout(), Layout::Lanes);
    let back = relayed(&fast, Layout::Pair4).unwrap();
    assert_eq!(*back, *bytes);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut model = halved(4, 3, &[2], 2);
    for (weight, fits) in [
        (112, true),
        (-112, true),
        (8, false),
        (127, false),
        (-128, false),
    ] {
        if let QuantLayer::Gru(g) = &mut model.layers[0] {
            g.u[1] = weight;
        }
        assert_eq!(model.fits_half_bytes(), fits);
        for layout in HALVED {
            let expected = if fits {
                Ok(())
            } else {
                Err(WriteError::Weight(weight))
            };
            assert_eq!(write(&model, layout).map(|_| ()), expected, "{layout:?}");
        }
    }
}

#[test]
fn the_loader_refuses_what_the_writer_would_not_write() {
    let model = halved(6, 3, &[3], 2);
    for layout in HALVED {
        let bytes = write(&model, layout).unwrap();
        let first = layer_start(&bytes, 3);
        let (mut weights, mut padding) = (0, 0);
        let blocks = 3_usize.div_ceil(layout.group());
        let len = layout.gru_weights_len(3, 3);
        let block = layout.gru_block_len(3, 3);
        let places = (0..blocks).flat_map(|b| (0..len).map(move |k| b * block + k));
        // A load takes an interpreter half a second.
        for at in places.step_by(if cfg!(miri) { 37 } else { 1 }) {
            for half in 0..2 {
                let mut found = Vec::new();
                for code in 0..16 {
                    let mut other = Aligned::new(&bytes);
                    let byte = &mut other[first + at];
                    *byte = *byte & (0xf0 >> (4 * half)) | (code << (4 * half));
                    fix_crc(&mut other);
                    match Model::load(&other).map(|m| m.tag()) {
                        Ok(_) => {}
                        Err(LoadError::NotCanonical) => found.push(16),
                        Err(LoadError::Range {
                            field: Field::Weight,
                            found: 8,
                            max: 7,
                            ..
                        }) => found.push(code),
                        Err(e) => panic!("{layout:?} {at}: {e}"),
                    }
                }
                match &found[..] {
                    // A weight: all but -8, in either notation.
                    [8 | 0] => weights += 1,
                    // Nothing but zero.
                    all if all.len() == 15 => padding += 1,
                    _ => panic!("{layout:?} {at} {half}: {found:?}"),
                }
            }
        }
        if !cfg!(miri) {
            assert_eq!(weights, 3 * 3 * (3 + 3), "{layout:?}");
            assert_eq!(weights + padding, 2 * blocks * len, "{layout:?}");
        }
    }
}
