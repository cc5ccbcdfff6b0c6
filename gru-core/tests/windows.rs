//! Models with layers that read their window from the end: the same bits as streams that are fed in that order.
#![cfg(feature = "std")]

use gru_core::activation::Activation;
use gru_core::artifact::{GapPolicy, GruHeader, Readout};
use gru_core::input::FeatureParams;
use gru_core::layout::Layout;
use gru_core::random::{self, SplitMix};
use gru_core::writer::{Aligned, QuantLayer, QuantModel, host_state, write};
use gru_core::{Model, State, StateError, Window};

fn backwards(model: &mut QuantModel, layer: usize, yes: bool) {
    let QuantLayer::Gru(g) = &mut model.layers[layer] else {
        unreachable!()
    };
    g.header.go_backwards = yes;
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
            g.header.go_backwards = false;
        }
    }
    out
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
            let mut model = random::model(7, 3, &[9, 6], 4);
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
        go_backwards: true,
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
    ] {
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
