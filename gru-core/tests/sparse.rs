//! Recurrent weights that are left out: the same model in every layout, the same bits, fewer bytes; and what is refused.
#![cfg(feature = "std")]

use gru_core::activation::Activation;
use gru_core::artifact::{FEATURE_PARAMS, FRAME_LEN, GruHeader};
use gru_core::layout::{GATES, Layout, align4};
use gru_core::random::{self, SplitMix};
use gru_core::sparse::{MAX_UNITS, PANEL};
use gru_core::writer::{
    Aligned, QuantLayer, QuantModel, WriteError, digest_of, fix_crc, read, relayed, write,
};
use gru_core::{Field, Layer, LoadError, Model};

const SPARSE: [Layout; 3] = [Layout::RowsSparse, Layout::PairSparse, Layout::QuadSparse];

fn pruned(seed: u64, features: usize, units: &[usize], density: f64) -> QuantModel {
    let mut model = random::model(seed, features, units, 4);
    random::prune(&mut SplitMix(seed), &mut model, density);
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
    let steps = if cfg!(miri) { 1 } else { 30 };
    let lengths = if cfg!(miri) { 3..4 } else { 1..68 };
    for n in lengths {
        for density in [0.0, 0.3, 0.75, 1.0] {
            for (features, units) in [(n, vec![9, 3]), (3, vec![n])] {
                let mut model = pruned(n as u64, features, &units, density);
                // The largest weights, where there are any, and the smallest multipliers, in some rows.
                if let QuantLayer::Gru(g) = &mut model.layers[0] {
                    g.w[..features].fill([127, -128][n % 2]);
                    let row = g.u[..units[0]].iter_mut().filter(|w| **w != 0);
                    row.for_each(|w| *w = [-128, 127][n % 2]);
                    g.mu[0] = 1;
                    g.header.w_shift = 1;
                }
                let samples = samples(features, steps);
                let whole = Layout::ALL.into_iter().filter(|l| l.weight_bits() == 8);
                let digests: Vec<u64> = whole
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
}

#[test]
fn any_variant_fits_rows() {
    for reset_after in [false, true] {
        let header = GruHeader {
            activation: Activation::Softsign,
            recurrent_activation: Activation::HardSigmoid,
            reset_after,
            initial_state: true,
            clip: 20_000,
            ..GruHeader::new(19)
        };
        let mut model = random::model(3, 5, &[19], 2);
        model.layers[0] = QuantLayer::Gru(random::gru(&mut SplitMix(4), 5, header));
        random::prune(&mut SplitMix(5), &mut model, 0.4);
        let samples = samples(5, if cfg!(miri) { 2 } else { 50 });
        let digest = |layout| {
            let bytes = Aligned::new(&write(&model, layout).unwrap());
            digest_of(&Model::load(&bytes).unwrap(), &samples).unwrap()
        };
        assert_eq!(digest(Layout::Rows), digest(Layout::RowsSparse));
        assert!(write(&model, Layout::PairSparse).is_err());
    }
}

#[test]
fn what_is_left_out_takes_no_bytes() {
    let (features, units) = (6, if cfg!(miri) { 16 } else { 64 });
    let panels = units / PANEL;
    let pairs = units / 2;
    for layout in SPARSE {
        let bytes = |density| {
            write(&pruned(1, features, &[units], density), layout)
                .unwrap()
                .len()
        };
        let dense = write(&pruned(1, features, &[units], 1.0), layout.unpruned()).unwrap();
        // A list of all pairs for each panel; the layout's number has as many bytes.
        let lists = panels * align4(1 + pairs);
        assert_eq!(bytes(1.0), dense.len() + lists, "{layout:?}");
        assert_eq!(
            bytes(1.0) - bytes(0.5),
            panels * pairs / 2 * (1 + 2 * GATES * PANEL),
            "{layout:?}"
        );
    }
}

#[test]
fn the_work_that_is_left_is_counted() {
    for layout in SPARSE {
        // 13 units: a panel of eight and one of five, seven pairs, the last one of one column.
        let mut model = pruned(1, 6, &[13], 1.0);
        if let QuantLayer::Gru(g) = &mut model.layers[0] {
            for unit in 0..PANEL {
                for row in [unit, 13 + unit, 26 + unit] {
                    g.u[row * 13 + 2..][..11].fill(0);
                }
            }
        }
        let bytes = Aligned::new(&write(&model, layout).unwrap());
        let loaded = Model::load(&bytes).unwrap();
        let Layer::Gru(g) = &loaded.layers()[0] else {
            panic!("a GRU layer");
        };
        assert_eq!(g.recurrent_weights(), 3 * (8 * 2 + 5 * 13), "{layout:?}");
        let others = 3 * 13 * 6 + 13 * 4;
        assert_eq!(loaded.macs(), others + g.recurrent_weights());
    }
}

#[test]
fn the_packing_can_be_changed_and_changed_back() {
    let model = pruned(2, 6, &[21, 5], 0.5);
    let bytes = Aligned::new(&write(&model, Layout::PairSparse).unwrap());
    let loaded = Model::load(&bytes).unwrap();
    let fast = relayed(&loaded, Layout::Lanes).unwrap();
    let fast = Model::load(&fast).unwrap();
    assert_eq!(fast.layout(), Layout::Lanes);
    let back = relayed(&fast, Layout::PairSparse).unwrap();
    assert_eq!(*back, *bytes);
}

#[test]
fn a_row_that_could_overflow_is_refused() {
    // 4 · 127 · 2^7 of the input part leave 511 for the recurrent one.
    for (last, fits) in [(3, true), (-3, true), (4, false), (-4, false)] {
        let mut model = pruned(2, 4, &[20], 0.3);
        if let QuantLayer::Gru(g) = &mut model.layers[0] {
            g.header.w_shift = 7;
            g.w.fill(0);
            g.w[..4].fill(127);
            let row = &mut g.u[..20];
            row.fill(0);
            row[6..10].fill(-127);
            row[19] = last;
        }
        for layout in SPARSE {
            let expected = match fits {
                true => None,
                false => Some(WriteError::Refused(LoadError::Overflow { layer: 0 })),
            };
            assert_eq!(write(&model, layout).err(), expected, "{layout:?} {last}");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "512 units: a million weights")]
fn a_layer_of_many_units_is_refused() {
    let model = pruned(2, 3, &[MAX_UNITS], 0.1);
    let bytes = Aligned::new(&write(&model, Layout::QuadSparse).unwrap());
    assert!(Model::load(&bytes).is_ok());
    let error = LoadError::Range {
        field: Field::Units,
        layer: 0,
        found: 513,
        max: 512,
    };
    let model = pruned(2, 3, &[MAX_UNITS + 1], 0.1);
    let written = write(&model, Layout::QuadSparse);
    assert_eq!(written, Err(WriteError::Refused(error)));
    // The loader says so by itself, too: the same bytes with another number of units.
    let mut other = bytes.clone();
    let units = bytes.windows(2).position(|w| w == [0x80, 0x04]).unwrap();
    other[units] = 0x81;
    fix_crc(&mut other);
    assert_eq!(Model::load(&other).err(), Some(error));
}

/// The first layer's panels: offset of the list, number of pairs, length.
fn panels(layout: Layout, features: usize, units: usize, bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut at = layer_start(bytes, features);
    let layout = layout.unpruned();
    let mut panels = Vec::new();
    for first in (0..units).step_by(PANEL) {
        let pairs = bytes[at] as usize + 1;
        panels.push((at, pairs));
        let blocks = (units - first).min(PANEL).div_ceil(layout.gru_group());
        at += align4(1 + pairs) + blocks * layout.gru_block_len(features, 2 * pairs);
    }
    panels
}

#[test]
fn the_loader_takes_a_list_in_its_one_form_only() {
    let (features, units) = (3, 19);
    let mut model = pruned(6, features, &[units], 0.4);
    // The last pair, whose second column is padding, could stand for any beyond it.
    if let QuantLayer::Gru(g) = &mut model.layers[0] {
        g.u[18] = 5;
    }
    for layout in SPARSE {
        let bytes = write(&model, layout).unwrap();
        let (mut accepted, mut other_pairs) = (0, 0);
        // A load takes an interpreter half a second.
        let (every, few) = if cfg!(miri) { (4, 100) } else { (1, 1) };
        for (at, pairs) in panels(layout, features, units, &bytes) {
            for place in (at..at + align4(1 + pairs)).step_by(every) {
                for value in (0..=255).step_by(few) {
                    let mut other = Aligned::new(&bytes);
                    other[place] = value;
                    fix_crc(&mut other);
                    match Model::load(&other) {
                        Ok(model) => {
                            accepted += 1;
                            other_pairs += (value != bytes[place]) as usize;
                            assert_eq!(write(&read(&model), layout).unwrap(), *other);
                        }
                        Err(LoadError::NotCanonical) => assert_ne!(place, at),
                        Err(LoadError::Payload { .. }) => assert_eq!(place, at),
                        Err(e) => panic!("{layout:?} {place} {value}: {e}"),
                    }
                }
            }
        }
        // As they are, and with a pair in the place of one that is not listed where the order allows it.
        if !cfg!(miri) {
            assert!(accepted >= 3 * 8 && other_pairs >= 6, "{layout:?}");
        }
        assert!(other_pairs < 3 * 4 * 10, "{layout:?}");
    }
}

#[test]
fn padding_is_zero_in_every_panel() {
    // 19 units: three panels, the last one of three units, and pairs of which the last has one column.
    let (features, units) = (3, 19);
    let model = pruned(9, features, &[units], 1.0);
    for layout in SPARSE {
        let bytes = write(&model, layout).unwrap();
        let start = layer_start(&bytes, features);
        let end = bytes.len() - layout.dense_len(units, 4);
        let mut refused = 0;
        for place in (start..end).step_by(if cfg!(miri) { 149 } else { 1 }) {
            let mut other = Aligned::new(&bytes);
            other[place] ^= 0x01;
            fix_crc(&mut other);
            match Model::load(&other) {
                Ok(model) => assert_eq!(write(&read(&model), layout).unwrap(), *other),
                Err(_) => refused += 1,
            }
        }
        let plain = layout.unpruned();
        let rows = units.next_multiple_of(plain.gru_group());
        let bytes_of = |columns: usize| GATES * columns;
        // The column beyond the last, units beyond the last, a list of eleven bytes with two zeros in each panel.
        let columns =
            bytes_of(units) + bytes_of((plain.gru_columns(0, features) - features) * units);
        let beyond = (rows - units) * (bytes_of(20 + plain.gru_columns(0, features)) + 16);
        let least = columns + beyond + 3 * 11;
        if !cfg!(miri) {
            assert!(refused >= least, "{layout:?} {refused} {least}");
        }
    }
}

#[test]
fn a_pair_of_nothing_but_zeros_is_refused() {
    for layout in SPARSE {
        for pairs in [1, 3] {
            let mut model = pruned(6, 3, &[8], pairs as f64 / 4.0);
            let bytes = write(&model, layout).unwrap();
            let [(at, found)] = panels(layout, 3, 8, &bytes)[..] else {
                panic!("a panel");
            };
            assert_eq!(found, pairs);
            let QuantLayer::Gru(g) = &mut model.layers[0] else {
                panic!("a GRU layer");
            };
            let last = bytes[at + pairs] as usize;
            let mut other = Aligned::new(&bytes);
            let plain = layout.unpruned();
            let block_len = plain.gru_block_len(3, 2 * pairs);
            for row in 0..GATES * 8 {
                let (gate, unit) = (row / 8, row % 8);
                for half in 0..2 {
                    // Before the very last weight is gone, it is a model.
                    if !cfg!(miri) || row % 7 == 0 || row == GATES * 8 - 1 {
                        assert!(Model::load(&other).is_ok());
                    }
                    let block = at + align4(1 + pairs) + unit / plain.gru_group() * block_len;
                    let column = 2 * (pairs - 1) + half;
                    let unit = unit % plain.gru_group();
                    let place = plain.gru_weight((3, 2 * pairs), true, gate, unit, column);
                    let byte = block + place.byte;
                    assert_eq!(place.decode(other[byte]), g.u[row * 8 + 2 * last + half]);
                    other[byte] = place.encode(0, 0);
                    g.u[row * 8 + 2 * last + half] = 0;
                    fix_crc(&mut other);
                }
            }
            if pairs == 1 {
                // The only pair stays, as the first of all.
                other[at + 1] = 1;
                fix_crc(&mut other);
                assert_eq!(Model::load(&other).err(), Some(LoadError::NotCanonical));
                other[at + 1] = 0;
                fix_crc(&mut other);
                assert_eq!(read(&Model::load(&other).unwrap()), model);
                assert_eq!(write(&model, layout).unwrap(), *other);
            } else {
                assert_eq!(Model::load(&other).err(), Some(LoadError::NotCanonical));
                let shorter = write(&model, layout).unwrap().len();
                assert!(shorter < bytes.len());
            }
        }
    }
}
