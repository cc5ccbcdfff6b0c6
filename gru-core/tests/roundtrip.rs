//! Artifacts: written, loaded, run and taken apart again, in every layout; and the step against an
//! independent evaluation of its definition in 128-bit integers.
#![cfg(feature = "std")]

use gru_core::activation::{Activation, sigmoid, tanh};
use gru_core::artifact::{DecisionHeader, DenseHeader, Direction, GapPolicy, GruHeader, Readout};
use gru_core::input::Limits;
use gru_core::layout::{Layout, align4};
use gru_core::random::{self, SplitMix};
use gru_core::writer::{
    Aligned, QuantDecision, QuantGru, QuantLayer, QuantModel, WriteError, digest_of, host_state,
};
use gru_core::writer::{read, write};
use gru_core::{Digest, Field, LoadError, Loader, Model, State, StateError, Threshold};

fn samples(seed: u64, features: usize, n: usize) -> Vec<Vec<i16>> {
    let mut rng = SplitMix(seed);
    (0..n).map(|_| rng.sample(features)).collect()
}

#[test]
fn every_layout_gives_the_same_bits_and_reads_back() {
    for (seed, features, units, outputs) in [
        (1, 5, vec![32], 3),
        (2, 1, vec![1], 1),
        (3, 9, vec![7, 5], 6),
        (4, 6, vec![33, 2, 9], 4),
        (5, 67, vec![13], 2),
        (6, 3, vec![520], 2),
    ]
    .into_iter()
    .filter(|(_, features, units, _)| !cfg!(miri) || features + units.iter().sum::<usize>() < 25)
    {
        let mut model = random::model(seed, features, &units, outputs);
        model.self_test = samples(seed, features, if cfg!(miri) { 1 } else { 5 }).concat();
        let samples = samples(seed, features, if cfg!(miri) { 3 } else { 100 });
        let mut digests = Vec::new();
        // Half bytes have a test of their own; sparse layouts hold 512 units.
        let fits = |l: &Layout| l.weight_bits() == 8 && !(l.is_sparse() && units[0] > 512);
        for layout in Layout::ALL.into_iter().filter(fits) {
            let bytes = Aligned::new(&write(&model, layout).unwrap());
            let loaded = Model::load(&bytes).unwrap();
            assert_eq!(read(&loaded), model, "{layout:?}");
            assert_eq!(write(&read(&loaded), layout).unwrap(), *bytes);
            host_state(&loaded).unwrap();
            digests.push(digest_of(&loaded, &samples).unwrap());
        }
        assert!(digests.iter().all(|d| *d == digests[0]), "{digests:x?}");
    }
}

#[test]
fn a_loader_forgets_the_model_before() {
    // Everything that a model can have, nothing, and one that is refused in the middle of its payload.
    let mut rich = random::model(1, 5, &[9, 4], 3);
    rich.self_test = samples(1, 5, 3).concat();
    rich.limits = vec![Limits { low: -9, high: 9 }; 5];
    rich.features[2].offset = 1 << 20;
    rich.readout = Readout::Sliding { steps: 7 };
    rich.decision = Some(QuantDecision {
        header: DecisionHeader::default(),
        thresholds: vec![Threshold::default(); 3],
    });
    if let Some(QuantLayer::Gru(g)) = rich.layers.first_mut() {
        g.header.direction = Direction::Backward;
    }
    let plain = random::model(2, 3, &[6], 2);
    let [rich, plain] =
        [rich, plain].map(|model| Aligned::new(&write(&model, Layout::Rows).unwrap()));
    let mut broken = rich.to_vec();
    // The last bias of the last Dense row, before thresholds and self-test: out of its range.
    let at = broken.len() - align4(3 * 5 * 2) - 3 * 4 - 1;
    broken[at] = 0x7f;
    let crc = gru_core::artifact::frame_crc(&broken);
    broken[12..16].copy_from_slice(&crc.to_le_bytes());
    let broken = Aligned::new(&broken);
    let mut loader = Loader::new();
    for bytes in [&rich, &plain, &broken, &plain, &rich, &broken, &rich] {
        let fresh = Model::load(bytes);
        let loaded = loader.load(bytes);
        assert_eq!(format!("{loaded:?}"), format!("{:?}", fresh.as_ref()));
        assert_eq!(loaded.is_err(), std::ptr::eq(bytes, &broken));
    }
}

/// The main variant by its definition, in i128.
fn reference_step(g: &QuantGru, x: &[i16], h: &[i16]) -> Vec<i16> {
    let units = g.header.units as usize;
    let sat = |v: i128| v.clamp(-32768, 32767) as i16;
    let sum = |w: &[i8], x: &[i16], row: usize| -> i128 {
        let n = x.len();
        let products = w[row * n..(row + 1) * n].iter().zip(x);
        products.map(|(&w, &x)| w as i128 * x as i128).sum()
    };
    let part = |acc: i128, m: u16| (acc * m as i128).div_euclid(65536);
    (0..units)
        .map(|u| {
            let gate = |k: usize| {
                let row = k * units + u;
                let acc = (sum(&g.w, x, row) << g.header.w_shift) + sum(&g.u, h, row);
                let v = g.b[row] as i128 + part(acc, g.mu[row]);
                sigmoid(sat(v)) as i128
            };
            let (r, z) = (gate(0), gate(1));
            let row = 2 * units + u;
            let nx = g.b[row] as i128 + part(sum(&g.w, x, row), g.mw[u]);
            let nh = sat(g.b[3 * units + u] as i128 + part(sum(&g.u, h, row), g.mu[row])) as i128;
            let rnh = (r * nh).div_euclid(1 << (16 - g.header.nh_shift));
            let n = tanh(sat(nx + rnh)) as i128;
            sat((z * h[u] as i128 + (65536 - z) * n + 32768).div_euclid(65536))
        })
        .collect()
}

#[test]
fn the_step_is_its_definition() {
    let (models, most) = if cfg!(miri) { (3, 8) } else { (30, 40) };
    for seed in 0..models {
        let mut rng = SplitMix(seed);
        let features = rng.range(1, 20) as usize;
        let units = rng.range(1, most) as usize;
        let model = random::model(seed, features, &[units], 3);
        let QuantLayer::Gru(g) = &model.layers[0] else {
            unreachable!()
        };
        let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
        let loaded = Model::load(&bytes).unwrap();
        let mut state = host_state(&loaded).unwrap();
        let mut h = vec![0i16; units];
        for _ in 0..if cfg!(miri) { 4 } else { 50 } {
            let raw = rng.sample(features);
            let x: Vec<i16> = raw
                .iter()
                .zip(&model.features)
                .map(|(&raw, f)| f.condition(raw as i32))
                .collect();
            loaded.step(&mut state, &raw).unwrap();
            h = reference_step(g, &x, &h);
            assert_eq!(state.hidden(&loaded).next().unwrap(), h, "seed {seed}");
        }
    }
}

/// Models that cover the options of the integer path.
fn variants() -> Vec<(String, QuantModel)> {
    let mut all = Vec::new();
    for activation in [
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::HardSigmoid,
        Activation::HardTanh,
        Activation::Softsign,
        Activation::Linear,
        Activation::Relu,
    ] {
        for reset_after in [true, false] {
            for recurrent in [
                Activation::Sigmoid,
                Activation::HardSigmoid,
                Activation::Tanh,
            ] {
                let mut model = random::model(7, 4, &[6], 3);
                let header = GruHeader {
                    activation,
                    recurrent_activation: recurrent,
                    reset_after,
                    exponent: if activation.is_bounded() { 0 } else { 3 },
                    clip: if reset_after { 32767 } else { 9000 },
                    initial_state: true,
                    ..GruHeader::new(6)
                };
                model.layers[0] = QuantLayer::Gru(random::gru(&mut SplitMix(3), 4, header));
                all.push((format!("{activation:?} {recurrent:?} {reset_after}"), model));
            }
        }
    }
    all
}

#[test]
fn streaming_equals_the_window_for_every_variant_and_readout() {
    let every = if cfg!(miri) { 11 } else { 1 };
    for (name, mut model) in variants().into_iter().step_by(every) {
        for readout in [
            Readout::Last,
            Readout::Mean { skip: 3 },
            Readout::Exponential { shift: 3 },
            Readout::Sliding { steps: 7 },
        ] {
            model.readout = readout;
            let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
            let loaded = Model::load(&bytes).unwrap();
            let mut a = host_state(&loaded).unwrap();
            let mut b = host_state(&loaded).unwrap();
            let window = samples(9, 4, if cfg!(miri) { 9 } else { 40 });
            for x in &window {
                loaded.step(&mut a, x).unwrap();
            }
            let values: Vec<i16> = loaded
                .run(&mut b, window.iter())
                .unwrap()
                .values()
                .collect();
            assert_eq!(
                loaded.output(&a).values().collect::<Vec<_>>(),
                values,
                "{name}"
            );
            let (mut da, mut db) = (Digest::default(), Digest::default());
            a.digest(&loaded, &mut da);
            b.digest(&loaded, &mut db);
            assert_eq!(da, db, "{name}");
            assert_ne!(da, Digest::default());
        }
    }
}

#[test]
fn the_mean_is_the_mean_of_the_steps() {
    let mut model = random::model(11, 3, &[5], 4);
    let window = samples(2, 3, 20);
    let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
    let each = Model::load(&bytes).unwrap();
    let mut state = host_state(&each).unwrap();
    let mut sums = [0i64; 4];
    for (t, x) in window.iter().enumerate() {
        let out = each.step(&mut state, x).unwrap();
        if t >= 6 {
            for (sum, v) in sums.iter_mut().zip(out.values()) {
                *sum += v as i64;
            }
        }
    }
    model.readout = Readout::Mean { skip: 6 };
    let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
    let mean = Model::load(&bytes).unwrap();
    let mut state = host_state(&mean).unwrap();
    let out = mean.run(&mut state, window.iter()).unwrap();
    let want: Vec<i16> = sums.iter().map(|s| s.div_euclid(14) as i16).collect();
    assert_eq!(out.values().collect::<Vec<_>>(), want);
}

#[test]
fn the_sliding_mean_is_the_mean_of_the_latest_steps() {
    let (outputs, steps): (&[usize], &[u16]) = if cfg!(miri) {
        (&[3], &[2])
    } else {
        (&[1, 3, 4], &[1, 2, 5, 64])
    };
    for &outputs in outputs {
        for &steps in steps {
            let mut model = random::model(11, 3, &[5], outputs);
            let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
            let each = Model::load(&bytes).unwrap();
            model.readout = Readout::Sliding { steps };
            let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
            let sliding = Model::load(&bytes).unwrap();
            let words = 4 * outputs.next_multiple_of(4) + 4;
            let history = (outputs * usize::from(steps)).next_multiple_of(4);
            assert_eq!(sliding.state_len(), each.state_len() + words + history);
            let mut plain = host_state(&each).unwrap();
            let mut state = host_state(&sliding).unwrap();
            let mut saved = vec![0; gru_core::StateRef::snapshot_len(&sliding)];
            let mut latest: Vec<Vec<i64>> = Vec::new();
            for x in samples(2, 3, if cfg!(miri) { 6 } else { 200 }) {
                // Whatever is held is in the snapshot.
                state.snapshot(&sliding, &mut saved).unwrap();
                state = host_state(&sliding).unwrap();
                state.restore(&sliding, &saved).unwrap();
                let out = each.step(&mut plain, &x).unwrap();
                latest.push(out.values().map(i64::from).collect());
                let from = latest.len().saturating_sub(steps.into());
                let mean = |o: usize| {
                    let sum: i64 = latest[from..].iter().map(|y| y[o]).sum();
                    sum.div_euclid((latest.len() - from) as i64) as i16
                };
                let want: Vec<i16> = (0..outputs).map(mean).collect();
                let out = sliding.step(&mut state, &x).unwrap();
                assert_eq!(out.values().collect::<Vec<_>>(), want);
            }
        }
    }
    for (outputs, steps, field) in [
        (2, 0, Field::Readout),
        (2, 1025, Field::Readout),
        (9, 1000, Field::History),
    ] {
        let mut model = random::model(11, 3, &[5], outputs);
        model.readout = Readout::Sliding { steps };
        let refused = write(&model, Layout::Rows).unwrap_err();
        assert!(
            matches!(refused, WriteError::Refused(LoadError::Range { field: f, .. }) if f == field),
            "{refused:?}"
        );
    }
}

#[test]
fn a_snapshot_goes_on_bit_for_bit_and_damage_is_refused() {
    let mut model = random::model(5, 3, &[9, 4], 2);
    model.readout = Readout::Mean { skip: 1 };
    let bytes = Aligned::new(&write(&model, Layout::Pair).unwrap());
    let loaded = Model::load(&bytes).unwrap();
    let window = samples(1, 3, if cfg!(miri) { 5 } else { 60 });
    let mut plain = host_state(&loaded).unwrap();
    let mut saved = vec![0; gru_core::StateRef::snapshot_len(&loaded)];
    for (t, x) in window.iter().enumerate() {
        let mut woken = State::<256>::unbound();
        plain.snapshot(&loaded, &mut saved).unwrap();
        woken.restore(&loaded, &saved).unwrap();
        loaded.step(&mut plain, x).unwrap();
        loaded.step(&mut woken, x).unwrap();
        let (mut a, mut b) = (Digest::default(), Digest::default());
        plain.digest(&loaded, &mut a);
        woken.digest(&loaded, &mut b);
        assert_eq!(a, b, "step {t}");
        let a: Vec<i16> = loaded.output(&plain).values().collect();
        assert_eq!(a, loaded.output(&woken).values().collect::<Vec<_>>());
    }
    let mut woken = State::<256>::unbound();
    for bit in (0..saved.len() * 8).step_by(if cfg!(miri) { 97 } else { 1 }) {
        let mut damaged = saved.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(woken.restore(&loaded, &damaged), Err(StateError::Snapshot));
    }
    let other = Aligned::new(&write(&random::model(6, 3, &[9, 4], 2), Layout::Pair).unwrap());
    let other = Model::load(&other).unwrap();
    assert!(woken.restore(&other, &saved).is_err());
    assert!(matches!(
        other.step(&mut plain, &[0i16; 3]),
        Err(StateError::ForeignModel { .. })
    ));
    assert!(matches!(
        State::<8>::new(&loaded),
        Err(StateError::TooSmall { have: 8, .. })
    ));
}

#[test]
fn gaps_are_counted_and_treated_as_the_artifact_says() {
    let mut model = random::model(8, 2, &[4], 2);
    let run = |model: &QuantModel, window: &[[Option<f32>; 2]]| {
        let bytes = Aligned::new(&write(model, Layout::Rows).unwrap());
        let loaded = Model::load(&bytes).unwrap();
        let mut state = host_state(&loaded).unwrap();
        for x in window {
            loaded.step(&mut state, x).unwrap();
        }
        let h = state.hidden(&loaded).next().unwrap().to_vec();
        (h, state.counters(), state.steps())
    };
    let (a, b, hole) = (
        [Some(0.5), Some(-0.25)],
        [Some(1.0), Some(0.125)],
        [Some(0.7), Some(f32::NAN)],
    );
    model.gap = GapPolicy::Skip;
    let (h, counters, steps) = run(&model, &[a, hole, b]);
    assert_eq!(h, run(&model, &[a, b]).0);
    assert_eq!(
        (counters.invalid_values, counters.skipped_steps, steps),
        (1, 1, 2)
    );
    model.gap = GapPolicy::Hold;
    let (h, counters, steps) = run(&model, &[a, hole, b]);
    assert_eq!(h, run(&model, &[a, [Some(0.7), Some(-0.25)], b]).0);
    assert_eq!(
        (counters.invalid_values, counters.skipped_steps, steps),
        (1, 0, 3)
    );
    model.gap = GapPolicy::Zero;
    let mean = model.features[1].offset as f32 / model.features[1].counts_per_unit;
    assert_eq!(
        run(&model, &[a, hole, b]).0,
        run(&model, &[a, [Some(0.7), Some(mean)], b]).0
    );
}

#[test]
fn the_self_test_passes_and_notices_a_changed_digest() {
    let mut model = random::model(12, 3, &[8], 2);
    model.self_test = samples(4, 3, 12).concat();
    let mut bytes = write(&model, Layout::Quad).unwrap();
    let aligned = Aligned::new(&bytes);
    let loaded = Model::load(&aligned).unwrap();
    let mut state = host_state(&loaded).unwrap();
    assert_eq!(loaded.self_test(&mut state), Ok(()));
    // Another tanh input: one bit of the last vector.
    let at = bytes.len() - 2;
    bytes[at] ^= 0x40;
    gru_core::writer::fix_crc(&mut bytes);
    let aligned = Aligned::new(&bytes);
    let loaded = Model::load(&aligned).unwrap();
    let mut state = host_state(&loaded).unwrap();
    assert!(matches!(
        loaded.self_test(&mut state),
        Err(StateError::SelfTest { .. })
    ));
}

#[test]
fn sums_in_front_of_weights_that_are_not_theirs_are_refused() {
    let model = random::model(14, 3, &[5], 2);
    let bytes = write(&model, Layout::Winograd).unwrap();
    let header = u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
    let first = align4(20 + header) + 3 * gru_core::artifact::FEATURE_PARAMS;
    let dense = first + Layout::Winograd.gru_len(3, 5);
    // The first gate's, the second part's, the Dense layer's.
    let second = first + Layout::Winograd.gru_part_len(3);
    for at in [first, first + 15, second, dense, dense + 7] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        gru_core::writer::fix_crc(&mut bytes);
        let refused = Model::load(&Aligned::new(&bytes)).err();
        assert_eq!(refused, Some(LoadError::NotCanonical), "byte {at}");
    }
}

#[test]
fn a_row_that_could_overflow_is_refused() {
    let mut model = random::model(13, 600, &[4], 2);
    let QuantLayer::Gru(g) = &mut model.layers[0] else {
        unreachable!()
    };
    g.w[..600].fill(-127);
    let refused = write(&model, Layout::Rows).unwrap_err();
    assert_eq!(
        refused,
        WriteError::Refused(LoadError::Overflow { layer: 0 })
    );
}

#[test]
fn what_a_flip_does_to_a_read_out_is_gone() {
    let (mut model, outputs) = (random::model(11, 3, &[5], 3), 3);
    let mut samples_ = samples(4, 3, 100);
    for (readout, within) in [
        // A sum in 47 bits: the last of them need not meet, the quotients do but for one.
        (Readout::Exponential { shift: 2 }, 1),
        (Readout::Sliding { steps: 5 }, 0),
    ] {
        model.readout = readout;
        let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
        let loaded = Model::load(&bytes).unwrap();
        let mut state = host_state(&loaded).unwrap();
        let mut saved = vec![0; gru_core::StateRef::snapshot_len(&loaded)];
        for x in &samples_[..23] {
            loaded.step(&mut state, x).unwrap();
        }
        state.snapshot(&loaded, &mut saved).unwrap();
        let mut clean = Vec::new();
        for x in &samples_[23..] {
            let y = loaded.step(&mut state, x).unwrap();
            clean.push(y.values().collect::<Vec<_>>());
        }
        // The count of steps in the mean, and everything behind the outputs of the last layer.
        let readout = 16 + 2 * (4 + 8 + 4);
        assert!(saved.len() >= readout + 2 * 2 * outputs);
        // 77 steps each.
        let every = if cfg!(miri) { 211 } else { 1 };
        for bit in (12 * 8..16 * 8)
            .chain(readout * 8..saved.len() * 8)
            .step_by(every)
        {
            let mut flipped = saved.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let crc = gru_core::artifact::crc32(&flipped[4..]).to_le_bytes();
            flipped[..4].copy_from_slice(&crc);
            state.restore(&loaded, &flipped).unwrap();
            let mut end = Vec::new();
            for x in &samples_[23..] {
                end = loaded.step(&mut state, x).unwrap().values().collect();
            }
            let apart = end.iter().zip(clean.last().unwrap());
            let most = apart.map(|(&a, &b)| a.abs_diff(b)).max().unwrap();
            assert!(most <= within, "{readout:?} bit {bit}: {most}");
        }
        samples_.truncate(63);
    }
}

#[test]
fn a_mean_without_a_reset_goes_on() {
    let mut model = random::model(11, 1, &[1], 1);
    model.readout = Readout::Mean { skip: 3 };
    let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
    let loaded = Model::load(&bytes).unwrap();
    model.readout = Readout::Last;
    let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
    let last = Model::load(&bytes).unwrap();
    let mut state = host_state(&loaded).unwrap();
    let mut plain = host_state(&last).unwrap();
    let (mut sum, mut held) = (0i64, 0);
    let mut rng = SplitMix(8);
    for t in 0..if cfg!(miri) { 10 } else { 200_000 } {
        let x = [if t < 65_538 { 20_000 } else { -20_000 } + rng.range(-999, 999) as i16];
        let y = last.step(&mut plain, &x).unwrap().values().next().unwrap();
        if t >= 3 {
            if held == 65_535 {
                (sum, held) = (sum >> 1, 32_767);
            }
            (sum, held) = (sum + y as i64, held + 1);
        }
        let out = loaded.step(&mut state, &x).unwrap();
        // A mean of nothing is no result, whatever the warm-up is.
        assert_eq!(out.is_ready(), t >= 3);
        let mean = sum.div_euclid(held.max(1)) as i16;
        assert_eq!(out.values().next(), Some(mean), "{t}");
    }
}

#[test]
fn a_hidden_state_can_be_given() {
    let mut model = random::model(12, 2, &[3], 2);
    let header = DenseHeader {
        units: 4,
        activation: Activation::Tanh,
        frac: 0,
    };
    let mut rng = SplitMix(12);
    model
        .layers
        .insert(0, QuantLayer::Dense(random::dense(&mut rng, 2, header)));
    model.layers.insert(
        1,
        QuantLayer::Gru(random::gru(&mut rng, 4, GruHeader::new(5))),
    );
    if let QuantLayer::Gru(g) = &mut model.layers[2] {
        *g = random::gru(&mut rng, 5, GruHeader::new(3));
    }
    let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
    let loaded = Model::load(&bytes).unwrap();
    let mut state = host_state(&loaded).unwrap();
    let mut other = host_state(&loaded).unwrap();
    for x in samples(1, 2, 9) {
        loaded.step(&mut other, &x).unwrap();
    }
    // Both layers' states of another stream: from there on both are the same.
    let given: Vec<Vec<i16>> = other.hidden(&loaded).map(<[i16]>::to_vec).collect();
    for (layer, h) in given.iter().enumerate() {
        state.set_hidden(&loaded, layer, h).unwrap();
    }
    for x in samples(2, 2, 9) {
        let a: Vec<i16> = loaded.step(&mut state, &x).unwrap().values().collect();
        let b: Vec<i16> = loaded.step(&mut other, &x).unwrap().values().collect();
        assert_eq!(a, b);
    }
    let before: Vec<Vec<i16>> = state.hidden(&loaded).map(<[i16]>::to_vec).collect();
    for (layer, found, expected) in [(0, 4, 5), (1, 4, 3), (1, 0, 3), (2, 0, 0), (2, 3, 0)] {
        let refused = state.set_hidden(&loaded, layer, &vec![7; found]);
        let (found, expected) = (found as u32, expected);
        assert_eq!(refused, Err(StateError::HiddenLen { found, expected }));
    }
    assert!(state.hidden(&loaded).eq(before.iter().map(Vec::as_slice)));
    let mut foreign = State::<8>::unbound();
    let refused = foreign.set_hidden(&loaded, 0, &given[0]);
    assert!(matches!(refused, Err(StateError::ForeignModel { .. })));
}
