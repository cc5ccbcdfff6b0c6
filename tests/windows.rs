//! Windows of models with layers that read from the end: integers against the float model that they were made of.

use gru_core::float::ModelF32;
use gru_core::layout::Layout;
use gru_core::writer::{Aligned, host_state, write};
use gru_core::{Model, Window};
use gru_train_host::nn::data::Sequences;
use gru_train_host::nn::rng::Rng;
use gru_train_host::quantize::{QuantizeOptions, calibrate, quantize};
use gru_train_host::spec::{DenseSpec, GruSpec, LayerSpec, Merge, ModelSpec, Readout};
use gru_train_host::train::evaluate;

const FEATURES: usize = 3;
const STEPS: usize = 40;
const COUNTS: f32 = 1000.0;

fn gru(rng: &mut Rng, input: usize, units: usize, go_backwards: bool, all: bool) -> GruSpec {
    let mut g = GruSpec::zeros(input, units);
    let mut fill = |values: &mut [f32], scale: f32| {
        values.fill_with(|| rng.normal() as f32 * scale);
    };
    fill(&mut g.w, 1.0 / (input as f32).sqrt());
    fill(&mut g.u, 1.0 / (units as f32).sqrt());
    fill(&mut g.b_in, 0.2);
    fill(&mut g.b_rec, 0.2);
    g.go_backwards = go_backwards;
    g.return_sequences = all;
    g
}

fn model(seed: u64, directions: &[bool]) -> ModelSpec {
    let mut rng = Rng::new(seed);
    let mut layers = Vec::new();
    let mut input = FEATURES;
    for (i, &backwards) in directions.iter().enumerate() {
        let units = 6 + 5 * i;
        let all = i + 1 < directions.len();
        layers.push(LayerSpec::Gru(gru(&mut rng, input, units, backwards, all)));
        input = units;
    }
    with_dense(layers, &mut rng)
}

/// Bidirectional layers of so many units each, the last one with its outputs of every step or its last states.
fn both_ways(seed: u64, units: &[(usize, usize)], every: bool) -> ModelSpec {
    let mut rng = Rng::new(seed);
    let mut layers = Vec::new();
    let mut input = FEATURES;
    for (i, &(forward, backward)) in units.iter().enumerate() {
        let all = every || i + 1 < units.len();
        layers.push(LayerSpec::Bidirectional {
            forward: gru(&mut rng, input, forward, false, all),
            backward: gru(&mut rng, input, backward, true, all),
            merge: Merge::Concat,
        });
        input = forward + backward;
    }
    with_dense(layers, &mut rng)
}

fn with_dense(mut layers: Vec<LayerSpec>, rng: &mut Rng) -> ModelSpec {
    let input = layers.last().map_or(0, LayerSpec::output);
    let mut dense = DenseSpec::zeros(input, 4);
    dense
        .w
        .fill_with(|| rng.normal() as f32 / (input as f32).sqrt());
    layers.push(LayerSpec::Dense(dense));
    ModelSpec {
        name: "window".into(),
        layers,
        counts_per_unit: vec![COUNTS; FEATURES],
        ..ModelSpec::default()
    }
}

/// Largest difference between the logits of the float model and of the integer model; `tamper` makes it another
/// one before it is quantized.
fn error(seed: u64, float: &ModelSpec, tamper: impl Fn(&mut ModelSpec)) -> f32 {
    let mut rng = Rng::new(seed ^ 99);
    let windows: Vec<Vec<i16>> = (0..10)
        .map(|_| {
            (0..STEPS * FEATURES)
                .map(|_| (rng.normal() * f64::from(COUNTS)) as i16)
                .collect()
        })
        .collect();
    let real: Vec<Vec<f32>> = (windows.iter())
        .map(|w| w.iter().map(|c| f32::from(*c) / COUNTS).collect())
        .collect();
    let mut deployed = float.clone();
    tamper(&mut deployed);
    let ranges = calibrate(&deployed, real.iter().map(Vec::as_slice)).expect("ranges");
    let (quantized, _) = quantize(&deployed, &ranges, &QuantizeOptions::default()).expect("int8");
    let bytes = Aligned::new(&write(&quantized, Layout::Pair).expect("artifact"));
    let model = Model::load(&bytes).expect("loads");
    let mut state = host_state(&model).expect("state");
    let mut window = Window::<4096>::new();

    let views = float.views().expect("views");
    let reference = ModelF32::new(&views).expect("float model");
    let mut memory = vec![0.0; reference.state_len()];
    let mut scratch = vec![0.0; reference.window_scratch_len(STEPS)];
    let mut out = vec![0.0; reference.output_len(STEPS)];
    let mut worst = 0f32;
    for (counts, real) in windows.iter().zip(&real) {
        reference.reset(&mut memory).expect("reset");
        reference
            .run(&mut memory, real, None, &mut out, &mut scratch)
            .expect("runs");
        let rows = counts.as_chunks::<FEATURES>().0;
        let output = model
            .run_window(&mut state, &mut window, rows)
            .expect("a window");
        let unit = 0.5f32.powi(output.frac().into());
        let logits: Vec<f32> = output.values().map(|v| f32::from(v) * unit).collect();
        // Where the float model gives every step, its last one counts.
        let last = &out[out.len() - logits.len()..];
        for (a, b) in logits.iter().zip(last) {
            worst = worst.max((a - b).abs());
        }
    }
    worst
}

#[test]
fn integers_follow_the_float_model_in_every_direction() {
    for directions in [
        &[true][..],
        &[false, true],
        &[true, false],
        &[true, true],
        &[false, true, true],
    ] {
        let mut worst = 0f32;
        for seed in 1..=5 {
            worst = worst.max(error(seed, &model(seed, directions), |_| {}));
        }
        println!("{directions:?}: logits within {worst:.4}");
        assert!(worst < 1.0 / 64.0, "{directions:?}: {worst}");
        // Control: a layer that reads the other way round is another model.
        let wrong = error(1, &model(1, directions), |model| {
            if let Some(LayerSpec::Gru(g)) = model.layers.first_mut() {
                g.go_backwards = !g.go_backwards;
            }
        });
        assert!(wrong > 0.2, "{directions:?}: {wrong}");
    }
}

#[test]
fn integers_follow_the_float_model_in_both_directions_at_once() {
    for (units, every) in [
        (&[(6, 6)][..], false),
        (&[(6, 6)], true),
        (&[(7, 4)], false),
        (&[(6, 6), (11, 9)], false),
        (&[(6, 5), (11, 11), (4, 3)], true),
    ] {
        let mut worst = 0f32;
        for seed in 1..=5 {
            let float = both_ways(seed, units, every);
            worst = worst.max(error(seed, &float, |_| {}));
        }
        println!("{units:?}, every step {every}: logits within {worst:.4}");
        assert!(worst < 1.0 / 64.0, "{units:?}: {worst}");
        // Controls: other orders of the outputs, and directions that have changed places, are other models.
        let float = both_ways(1, units, every);
        let turned = error(1, &float, |model| {
            if let Some(LayerSpec::Bidirectional {
                forward, backward, ..
            }) = (model.layers.iter_mut().rev()).find(|l| l.grus().count() == 2)
            {
                (forward.return_sequences, backward.return_sequences) = (!every, !every);
            }
        });
        assert!(turned > 0.1, "{units:?}: {turned}");
        let wrong = error(1, &float, |model| {
            if let Some(LayerSpec::Bidirectional {
                forward, backward, ..
            }) = model.layers.first_mut()
                && forward.units == backward.units
            {
                std::mem::swap(&mut forward.w, &mut backward.w);
            }
        });
        assert!(
            wrong > 0.1 || units[0].0 != units[0].1,
            "{units:?}: {wrong}"
        );
    }
    // Other merges and two scales have no integers, and say so.
    let refused = |change: &dyn Fn(&mut LayerSpec)| {
        let mut float = both_ways(1, &[(4, 4)], false);
        change(&mut float.layers[0]);
        let input = float.layers[0].output();
        if let LayerSpec::Dense(d) = &mut float.layers[1] {
            (d.input, d.w) = (input, vec![0.1; 4 * input]);
        }
        let x = [0.5f32; STEPS * FEATURES];
        let ranges = calibrate(&float, [&x[..]]);
        let made = ranges.and_then(|r| quantize(&float, &r, &QuantizeOptions::default()));
        made.expect_err("no integers").to_string()
    };
    let sum = refused(&|layer| {
        if let LayerSpec::Bidirectional { merge, .. } = layer {
            *merge = Merge::Sum;
        }
    });
    assert!(sum.contains("concatenation"), "{sum}");
    let scales = refused(&|layer| {
        if let LayerSpec::Bidirectional { backward, .. } = layer {
            backward.activation = gru_train_host::spec::Activation::Relu;
        }
    });
    assert!(scales.contains("unbounded"), "{scales}");
}

#[test]
fn a_sliding_mean_is_trained_as_it_is_deployed() {
    let mut float = model(4, &[false]);
    if let Some(LayerSpec::Gru(g)) = float.layers.first_mut() {
        g.return_sequences = true;
    }
    let mut rng = Rng::new(8);
    let counts: Vec<i16> = (0..12 * STEPS * FEATURES)
        .map(|_| (rng.normal() * f64::from(COUNTS)) as i16)
        .collect();
    let real: Vec<f32> = counts.iter().map(|c| f32::from(*c) / COUNTS).collect();
    let labels = [0; 12];
    let data = Sequences::windows(&real, FEATURES, STEPS, &labels);
    let logits = |readout| {
        let mut model = float.clone();
        model.readout = readout;
        evaluate(&model, &data, 1).map(|e| e.logits)
    };
    let sliding = logits(Readout::Sliding { steps: 10 }).expect("one length");
    let skip = STEPS - 10;
    assert_eq!(sliding, logits(Readout::Mean { skip }).expect("a mean"));
    // On the device the window is the end of a stream.
    float.readout = Readout::Sliding { steps: 10 };
    let windows = || real.chunks_exact(STEPS * FEATURES);
    let ranges = calibrate(&float, windows()).expect("ranges");
    let (quantized, _) = quantize(&float, &ranges, &QuantizeOptions::default()).expect("int8");
    let bytes = Aligned::new(&write(&quantized, Layout::Pair).expect("artifact"));
    let model = Model::load(&bytes).expect("loads");
    let mut state = host_state(&model).expect("state");
    let windows = counts.chunks_exact(STEPS * FEATURES);
    for (window, want) in windows.zip(sliding.chunks_exact(4)) {
        let rows = window.as_chunks::<FEATURES>().0;
        let output = model.run(&mut state, rows).expect("a stream");
        let unit = 0.5f32.powi(output.frac().into());
        for (value, want) in output.values().zip(want) {
            let error = (f32::from(value) * unit - want).abs();
            assert!(error < 1.0 / 64.0, "{error}");
        }
    }
    // Windows of several lengths have several ends.
    let lengths = [40, 30, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40];
    let uneven = Sequences {
        lengths: Some(&lengths),
        ..data
    };
    assert!(evaluate(&float, &uneven, 1).is_err());
}
