//! Models with layers that read their window from the end: the same bits as streams that are fed in that order.
#![cfg(feature = "std")]

use gru_core::activation::Activation;
use gru_core::artifact::{DenseHeader, Direction, GapPolicy, GruHeader, Header, Readout};
use gru_core::input::FeatureParams;
use gru_core::layout::Layout;
use gru_core::random::{self, SplitMix};
use gru_core::writer::{Aligned, QuantLayer, QuantModel, host_state, write};
use gru_core::{Digest, Field, LoadError, Model, State, StateError, Window};

fn backwards(model: &mut QuantModel, layer: usize, yes: bool) {
    let QuantLayer::Gru(g) = &mut model.layers[layer] else {
        unreachable!()
    };
    g.header.direction = match yes {
        true => Direction::Backward,
        false => Direction::Forward,
    };
}

/// Outputs after every sample, in a stream.
fn stream(model: &QuantModel, layout: Layout, rows: &[Vec<i16>]) -> Vec<Vec<i16>> {
    let bytes = Aligned::new(&write(model, layout).unwrap());
    let model = Model::load(&bytes).unwrap();
    let mut state = host_state(&model).unwrap();
    (rows.iter())
        .map(|x| model.step(&mut state, x).unwrap().values().collect())
        .collect()
}

/// Outputs at the end of a window, hidden states.
fn window(model: &QuantModel, layout: Layout, rows: &[Vec<i16>]) -> (Vec<i16>, Vec<Vec<i16>>) {
    let bytes = Aligned::new(&write(model, layout).unwrap());
    let model = Model::load(&bytes).unwrap();
    let mut state = host_state(&model).unwrap();
    let mut window = Window::<4096>::new();
    let output = model.run_window(&mut state, &mut window, rows).unwrap();
    let values = output.values().collect();
    assert_eq!(state.steps() as usize, rows.len());
    let hidden = state.hidden(&model).map(<[i16]>::to_vec).collect();
    (values, hidden)
}

/// The layers `range` as a model of their own that takes hidden states as they are.
fn part(model: &QuantModel, range: core::ops::Range<usize>, readout: Readout) -> QuantModel {
    let input = match &model.layers[range.start] {
        QuantLayer::Gru(g) => g.input,
        QuantLayer::Dense(d) => d.input,
    };
    let mut out = model.clone();
    out.layers = model.layers[range.clone()].to_vec();
    out.readout = readout;
    out.self_test.clear();
    if range.start > 0 {
        let plain = FeatureParams {
            offset: 0,
            counts_per_unit: 1.0,
            multiplier: 16_384,
            shift: 14,
            pre_shift: 0,
        };
        out.features = vec![plain; input];
    }
    for layer in &mut out.layers {
        if let QuantLayer::Gru(g) = layer {
            g.header.direction = Direction::Forward;
        }
    }
    out
}

/// Whether an interpreter can run a few windows of it in seconds.
fn affordable(model: &QuantModel) -> bool {
    let weights = |layer: &QuantLayer| match layer {
        QuantLayer::Gru(g) => g.w.len() + g.u.len(),
        QuantLayer::Dense(d) => d.w.len(),
    };
    !cfg!(miri) || model.layers.iter().map(weights).sum::<usize>() <= 400
}

/// [`random::windowed`], for an interpreter the small ones.
fn windowed() -> impl Iterator<Item = QuantModel> {
    random::windowed().into_iter().filter(affordable)
}

#[test]
fn a_backward_layer_reads_from_the_end() {
    let mut rng = SplitMix(3);
    for readout in [
        Readout::Last,
        Readout::Mean { skip: 4 },
        Readout::Exponential { shift: 2 },
        Readout::Sliding { steps: 5 },
    ] {
        let layouts = [Layout::Rows, Layout::Pair, Layout::Quad, Layout::Vector];
        for layout in layouts.into_iter().take(if cfg!(miri) { 1 } else { 4 }) {
            let steps = if cfg!(miri) { 6 } else { 30 };
            let rows: Vec<Vec<i16>> = (0..steps).map(|_| rng.sample(3)).collect();
            let turned: Vec<Vec<i16>> = rows.iter().rev().cloned().collect();
            let units: &[usize] = if cfg!(miri) { &[4, 3] } else { &[9, 6] };
            let mut model = random::model(7, 3, units, 4);
            model.readout = readout;
            // Forward only: the stream.
            let (values, _) = window(&model, layout, &rows);
            assert_eq!(Some(&values), stream(&model, layout, &rows).last());
            // The first layer: the stream from the end.
            let plain = model.clone();
            backwards(&mut model, 0, true);
            let (values, _) = window(&model, layout, &rows);
            assert_eq!(Some(&values), stream(&plain, layout, &turned).last());
            assert_ne!(Some(&values), stream(&plain, layout, &rows).last());
            // The second layer: what the first one gave, from the end; both: turned twice.
            for first in [false, true] {
                backwards(&mut model, 0, first);
                backwards(&mut model, 1, true);
                let order = if first { &turned } else { &rows };
                let lower = part(&model, 0..1, Readout::Last);
                let mut between = stream(&lower, layout, order);
                let last_of_lower = between.last().unwrap().clone();
                between.reverse();
                let upper = part(&model, 1..3, readout);
                let want = stream(&upper, layout, &between);
                let (values, hidden) = window(&model, layout, &rows);
                assert_eq!(Some(&values), want.last(), "{readout:?} {layout:?} {first}");
                assert_eq!(hidden[0], last_of_lower);
            }
        }
    }
}

#[test]
fn other_variants_and_gaps_go_through_windows_as_well() {
    let mut model = random::model(5, 2, &[4, 5], 2);
    let header = GruHeader {
        activation: Activation::Softsign,
        reset_after: false,
        direction: Direction::Backward,
        initial_state: true,
        ..GruHeader::new(5)
    };
    model.layers[1] = QuantLayer::Gru(random::gru(&mut SplitMix(9), 4, header));
    let mut rng = SplitMix(5);
    let rows: Vec<Vec<i16>> = (0..25).map(|_| rng.sample(2)).collect();
    let mut between = stream(&part(&model, 0..1, Readout::Last), Layout::Rows, &rows);
    between.reverse();
    let want = stream(&part(&model, 1..3, Readout::Last), Layout::Rows, &between);
    assert_eq!(Some(&window(&model, Layout::Rows, &rows).0), want.last());
    // Values that are missing are held in the order of time.
    backwards(&mut model, 0, true);
    backwards(&mut model, 1, false);
    for gap in [GapPolicy::Hold, GapPolicy::Skip] {
        model.gap = gap;
        let mut filled: Vec<Vec<i16>> = Vec::new();
        let holes: Vec<Vec<Option<i16>>> = (rows.iter().enumerate())
            .map(|(t, x)| {
                let missing = t > 0 && t % 4 == 0;
                match (missing, gap) {
                    (true, GapPolicy::Skip) => {}
                    (true, _) => filled.push(vec![filled[t - 1][0], x[1]]),
                    (false, _) => filled.push(x.clone()),
                }
                vec![Some(x[0]).filter(|_| !missing), Some(x[1])]
            })
            .collect();
        let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
        let loaded = Model::load(&bytes).unwrap();
        let mut state = host_state(&loaded).unwrap();
        let mut buffer = Window::<100>::new();
        let output = loaded.run_window(&mut state, &mut buffer, &holes).unwrap();
        let values: Vec<i16> = output.values().collect();
        assert_eq!(values, window(&model, Layout::Rows, &filled).0, "{gap:?}");
        assert_eq!(state.counters().invalid_values, 6);
    }
}

#[test]
fn memory_is_stated_and_streaming_is_refused() {
    let mut model = random::model(7, 3, &[9, 6, 13], 4);
    // Words of a time step: samples 3 → 4; what the second layer reads 9 → 12, what the third one reads 6 → 8.
    for (turns, row) in [
        (&[][..], 0),
        (&[0], 4),
        (&[1], 12),
        (&[2], 8),
        (&[0, 2], 8),
        (&[0, 1, 2], 12),
    ]
    .into_iter()
    .step_by(if cfg!(miri) { 2 } else { 1 })
    {
        for layer in 0..3 {
            backwards(&mut model, layer, turns.contains(&layer));
        }
        let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
        let loaded = Model::load(&bytes).unwrap();
        assert_eq!(loaded.window_len(10), 10 * row, "{turns:?}");
        let mut state = host_state(&loaded).unwrap();
        let rows = vec![[1i16, 2, 3]; 10];
        let mut small = Window::<39>::new();
        let refused = loaded.run_window(&mut state, &mut small, &rows).map(|_| ());
        if row == 0 {
            assert_eq!(refused, Ok(()));
            assert!(loaded.step(&mut state, &[0i16; 3]).is_ok());
            continue;
        }
        let need = 10 * row as u32;
        assert_eq!(refused, Err(StateError::TooSmall { have: 39, need }));
        assert_eq!(state.steps(), 0);
        let mut enough = Window::<120>::new();
        assert!(loaded.run_window(&mut state, &mut enough, &rows).is_ok());
        let none: [[i16; 3]; 0] = [];
        assert!(loaded.run_window(&mut state, &mut enough, &none).is_ok());
        let refused = loaded.run_window(&mut state, &mut enough, &[[1i16; 2]]);
        assert_eq!(
            refused.map(|_| ()),
            Err(StateError::SampleLen {
                found: 2,
                expected: 3
            })
        );
        let refused = loaded.step(&mut state, &[0i16; 3]).map(|_| ());
        assert_eq!(refused, Err(StateError::NeedsWindow));
        let refused = loaded.run(&mut state, rows.iter()).map(|_| ());
        assert_eq!(refused, Err(StateError::NeedsWindow));
        let foreign = random::model(8, 3, &[9], 4);
        let bytes = Aligned::new(&write(&foreign, Layout::Rows).unwrap());
        let foreign = Model::load(&bytes).unwrap();
        let mut other = State::<64>::new(&foreign).unwrap();
        let refused = loaded.run_window(&mut other, &mut enough, &rows);
        assert!(matches!(refused, Err(StateError::ForeignModel { .. })));
    }
}

/// What the layers of a window give, row after row, by one stream for each layer; and its read-out.
fn by_streams(model: &QuantModel, layout: Layout, rows: &[Vec<i16>]) -> Vec<i16> {
    let plain = |layer: usize| {
        let mut one = part(model, layer..layer + 1, Readout::Last);
        // The second direction of the first layer reads the samples as well.
        if layer == 1 && model.layers[1].is_second() {
            one.features = model.features.clone();
        }
        one
    };
    let mut rows = rows.to_vec();
    let mut shared = rows.clone();
    let mut divisor_of_readout = None;
    for (n, layer) in model.layers.iter().enumerate() {
        let direction = match layer {
            QuantLayer::Gru(g) => g.header.direction,
            QuantLayer::Dense(_) => Direction::Forward,
        };
        match direction {
            Direction::Forward => {
                shared = rows;
                rows = stream(&plain(n), layout, &shared);
            }
            Direction::Backward => {
                rows.reverse();
                rows = stream(&plain(n), layout, &rows);
            }
            Direction::Beside | Direction::BesideLast => {
                let mut turned = shared.clone();
                turned.reverse();
                let mut second = stream(&plain(n), layout, &turned);
                if direction == Direction::Beside {
                    second.reverse();
                }
                for (row, second) in rows.iter_mut().zip(second) {
                    row.extend(second);
                }
            }
        }
    }
    let mut last = rows.last().unwrap().clone();
    let first = match model.readout {
        Readout::Mean { skip } => usize::from(skip),
        Readout::Sliding { steps } => rows.len() - usize::from(steps),
        _ => rows.len(),
    };
    if first < rows.len() {
        divisor_of_readout = Some((rows.len() - first) as i32);
    }
    for (k, y) in last.iter_mut().enumerate() {
        if let Some(divisor) = divisor_of_readout {
            let sum: i32 = rows[first..].iter().map(|row| i32::from(row[k])).sum();
            *y = sum.div_euclid(divisor) as i16;
        }
        if let Readout::Exponential { shift } = model.readout {
            let mut sum = i32::from(rows[0][k]) << 15;
            for row in &rows[1..] {
                sum += ((i32::from(row[k]) << 15) - sum) >> shift;
            }
            *y = (sum >> 15) as i16;
        }
    }
    last
}

#[test]
fn both_directions_are_two_streams_side_by_side() {
    let mut turned_rows_differ = 0;
    for (n, model) in windowed().enumerate() {
        let mut rng = SplitMix(n as u64);
        let features = model.features.len();
        let few = if cfg!(miri) { 1 } else { usize::MAX };
        for layout in Layout::ALL.into_iter().take(few) {
            let Ok(bytes) = write(&model, layout) else {
                continue;
            };
            let bytes = Aligned::new(&bytes);
            let loaded = Model::load(&bytes).unwrap();
            assert!(!loaded.is_streaming());
            assert_eq!(gru_core::writer::read(&loaded), model, "{n} {layout:?}");
            let words = gru_core::state_len_of(&bytes);
            assert_eq!(words, Some(loaded.state_len()), "{n} {layout:?}");
            let mut state = host_state(&loaded).unwrap();
            loaded.self_test(&mut state).unwrap();
            for steps in [6, 5, 17].into_iter().take(few) {
                let rows: Vec<Vec<i16>> = (0..steps).map(|_| rng.sample(features)).collect();
                // Rubbish of another run is no harm, and no word beyond the stated length is written.
                let mut memory = Window::<2048>::new();
                let other: Vec<Vec<i16>> = (0..if cfg!(miri) { 7 } else { 20 })
                    .map(|_| rng.sample(features))
                    .collect();
                loaded.run_window(&mut state, &mut memory, &other).unwrap();
                let output = loaded.run_window(&mut state, &mut memory, &rows).unwrap();
                let found: Vec<i16> = output.values().collect();
                let want = by_streams(&model, layout, &rows);
                assert_eq!(found, want, "{n} {layout:?} {steps} {:?}", model.readout);
                assert_eq!(state.steps(), steps);
                let turned: Vec<Vec<i16>> = rows.iter().rev().cloned().collect();
                turned_rows_differ += u32::from(by_streams(&model, layout, &turned) != want);
            }
        }
    }
    let least = if cfg!(miri) { 3 } else { 200 };
    assert!(turned_rows_differ > least, "{turned_rows_differ}");
}

#[test]
fn both_directions_have_one_digest_in_every_layout() {
    // A layout is enough for an interpreter to see all code twice.
    let (steps, few) = if cfg!(miri) { (3, 2) } else { (9, usize::MAX) };
    for model in windowed() {
        let rows: Vec<Vec<i16>> = (0..steps)
            .map(|t| random::stream(t, model.features.len(), 1))
            .collect();
        let mut found: Vec<_> = (Layout::ALL.into_iter())
            .filter(|layout| write(&model, *layout).is_ok())
            .take(few)
            .map(|layout| window(&model, layout, &rows))
            .collect();
        assert!(found.len() >= 2, "{}", model.name);
        found.dedup();
        assert_eq!(found.len(), 1, "{}", model.name);
    }
}

#[test]
fn what_is_no_pair_is_refused() {
    let refused = |model: &QuantModel| match write(model, Layout::Rows) {
        Err(gru_core::writer::WriteError::Refused(e)) => Some(e),
        _ => None,
    };
    let range = |field, layer, found, max| {
        Some(LoadError::Range {
            field,
            layer,
            found,
            max,
        })
    };
    let sound = random::bidirectional(1, 3, &[(4, 4, Direction::Beside)], 2);
    assert_eq!(refused(&sound), None);
    let turned = |layer: usize, direction| {
        let mut model = sound.clone();
        if let QuantLayer::Gru(g) = &mut model.layers[layer] {
            g.header.direction = direction;
        }
        model
    };
    // Nothing in front, a layer in front that reads backwards itself, a second direction in front, a Dense layer in front.
    let first = turned(0, Direction::Beside);
    assert_eq!(refused(&first), range(Field::Direction, 0, 2, 1));
    let first = turned(0, Direction::Backward);
    assert_eq!(refused(&first), range(Field::Direction, 1, 2, 1));
    let mut third = sound.clone();
    third.layers.insert(2, third.layers[1].clone());
    if let QuantLayer::Gru(g) = &mut third.layers[2] {
        g.header.direction = Direction::BesideLast;
    }
    assert_eq!(refused(&third), range(Field::Direction, 2, 3, 1));
    let mut dense = sound.clone();
    let header = DenseHeader {
        units: 4,
        activation: Activation::Tanh,
        frac: 0,
    };
    dense.layers[0] = QuantLayer::Dense(random::dense(&mut SplitMix(1), 3, header));
    assert_eq!(refused(&dense), range(Field::Direction, 1, 2, 1));
    // Two scales in one row, and more outputs than a layer may have.
    let mut scaled = sound.clone();
    if let QuantLayer::Gru(g) = &mut scaled.layers[1] {
        (g.header.activation, g.header.exponent) = (Activation::Linear, 3);
    }
    assert_eq!(refused(&scaled), range(Field::Exponent, 1, 3, 0));
    // Two million weights: not for an interpreter.
    if !cfg!(miri) {
        let wide = random::bidirectional(1, 1, &[(600, 425, Direction::Beside)], 0);
        assert_eq!(refused(&wide), range(Field::Units, 1, 1025, 1024));
    }
}

#[test]
fn memory_of_both_directions_is_stated() {
    // Words of a time step: samples 3 → 4, 20 → 20; inputs and outputs of the first direction beside each other, or
    // the outputs of both.
    for (features, layers, row) in [
        (3, &[(4, 4, Direction::Beside)][..], 8),
        (3, &[(4, 40, Direction::BesideLast)], 44),
        (3, &[(40, 3, Direction::Beside)], 44),
        (20, &[(2, 3, Direction::Beside)], 24),
        (
            20,
            &[(2, 3, Direction::Beside), (9, 1, Direction::BesideLast)],
            24,
        ),
        (
            2,
            &[(2, 3, Direction::Beside), (30, 1, Direction::BesideLast)],
            40,
        ),
    ] {
        let model = random::bidirectional(1, features, layers, 2);
        if !affordable(&model) {
            continue;
        }
        let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
        let loaded = Model::load(&bytes).unwrap();
        assert_eq!(loaded.window_len(7), 7 * row, "{features} {layers:?}");
        // Not a word less will do, and this many do.
        let rows: Vec<Vec<i16>> = (0..7).map(|t| random::stream(t, features, 1)).collect();
        let want = by_streams(&model, Layout::Rows, &rows);
        let (words, need) = ((7 * row) as u32, (7 * row) as u32);
        let mut state = host_state(&loaded).unwrap();
        let mut run = |memory: &mut gru_core::WindowRef| {
            let output = loaded.run_window(&mut state, memory, &rows)?;
            Ok(output.values().collect::<Vec<i16>>())
        };
        let found = match row {
            8 => (run(&mut Window::<55>::new()), run(&mut Window::<56>::new())),
            24 => (
                run(&mut Window::<167>::new()),
                run(&mut Window::<168>::new()),
            ),
            40 => (
                run(&mut Window::<279>::new()),
                run(&mut Window::<280>::new()),
            ),
            _ => (
                run(&mut Window::<307>::new()),
                run(&mut Window::<308>::new()),
            ),
        };
        let have = words - 1;
        let refused = Err(StateError::TooSmall { have, need });
        assert_eq!(found, (refused, Ok(want)), "{features} {layers:?}");
    }
}

#[test]
fn a_self_test_of_both_directions_takes_their_steps() {
    // Every direction is the same over one step, so a window of one step has the states of a self-test of one step.
    for mut model in windowed() {
        model.self_test.truncate(model.features.len());
        let bytes = Aligned::new(&write(&model, Layout::Rows).unwrap());
        let (header, _): (Header<'_>, _) = postcard::take_from_bytes(&bytes[20..]).unwrap();
        let stored = header.self_test.unwrap().digest;
        let row = model.self_test.clone();
        let (_, hidden) = window(&model, Layout::Rows, &[row]);
        let mut digest = Digest::default();
        hidden.iter().for_each(|h| digest.update(h));
        assert_eq!(stored, digest.value(), "{}", model.name);
    }
}
