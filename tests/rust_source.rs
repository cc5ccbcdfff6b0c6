//! Float models as Rust source: what `gru export` writes is compiled here, and computes the bits of the host's model.

use std::fs;
use std::path::Path;

use gru_core::float::ModelF32;
use gru_train_host::nn::rng::Rng;
use gru_train_host::rust_source::rust_source;
use gru_train_host::spec::{
    Activation, DenseSpec, GruSpec, LayerSpec, Merge, ModelSpec, Readout, Standardize,
};

// What the first test below keeps as it is generated.
#[path = "data/golden/f32_stream.rs"]
#[rustfmt::skip]
mod f32_stream;
#[path = "data/golden/f32_window.rs"]
#[rustfmt::skip]
mod f32_window;

const STEPS: usize = 12;

fn gru(rng: &mut Rng, input: usize, units: usize) -> GruSpec {
    let mut g = GruSpec::zeros(input, units);
    for values in [&mut g.w, &mut g.u, &mut g.b_in, &mut g.b_rec] {
        values.fill_with(|| rng.normal() as f32 * 0.5);
    }
    g.return_sequences = true;
    g
}

fn dense(rng: &mut Rng, input: usize, units: usize, activation: Activation) -> LayerSpec {
    let mut d = DenseSpec::zeros(input, units);
    d.w.fill_with(|| rng.normal() as f32);
    d.b.fill_with(|| rng.normal() as f32);
    d.activation = activation;
    LayerSpec::Dense(d)
}

/// A stream and a window; together every kind of layer and option.
fn models() -> [(&'static str, ModelSpec); 2] {
    let mut rng = Rng::new(7);
    let facts = |name: &str, input: usize| ModelSpec {
        name: name.into(),
        standardize: Standardize {
            mean: (0..input).map(|k| k as f32 * 0.3).collect(),
            std: (0..input).map(|k| 1.5 + k as f32).collect(),
        },
        counts_per_unit: vec![1000.0; input],
        window_steps: STEPS,
        ..ModelSpec::default()
    };
    let mut first = gru(&mut rng, 3, 4);
    first.h0 = vec![0.25, -0.5, 0.0, 1e-9];
    let mut stream = facts("stream \"one\"", 3);
    stream.classes = vec!["rest".into(), "knock \\ twice".into()];
    stream.layers = vec![
        LayerSpec::Gru(first),
        dense(&mut rng, 4, 3, Activation::LeakyRelu),
        LayerSpec::Gru(gru(&mut rng, 3, 5)),
        dense(&mut rng, 5, 2, Activation::Softmax),
    ];
    let mut window = facts("window", 2);
    window.readout = Readout::Mean { skip: 3 };
    let mut before = gru(&mut rng, 2, 3);
    (before.reset_after, before.go_backwards) = (false, true);
    before.activation = Activation::Softsign;
    before.recurrent_activation = Activation::HardSigmoidV2;
    before.b_rec.fill(0.0);
    before.clip = Some(1.5);
    let mut backward = gru(&mut rng, 3, 2);
    backward.go_backwards = true;
    window.layers = vec![
        LayerSpec::Gru(before),
        LayerSpec::Bidirectional {
            forward: gru(&mut rng, 3, 2),
            backward,
            merge: Merge::Ave,
        },
        dense(&mut rng, 2, 1, Activation::Linear),
    ];
    [("f32_stream.rs", stream), ("f32_window.rs", window)]
}

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data/golden")
        .join(name)
}

#[test]
fn the_source_is_what_is_stored() {
    for (name, model) in models() {
        let source = rust_source(&model).expect("a sound model");
        if std::env::var_os("GRU_BLESS").is_some() {
            fs::write(golden(name), &source).expect("written");
        }
        let stored = fs::read_to_string(golden(name)).expect("stored");
        assert!(
            stored == source,
            "{name}: run with GRU_BLESS=1 and look at the difference"
        );
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Raw counts of a window.
fn counts<const N: usize>(rng: &mut Rng) -> Vec<[f32; N]> {
    (0..STEPS)
        .map(|_| std::array::from_fn(|_| (rng.normal() * 2000.0) as i16 as f32))
        .collect()
}

/// What the host makes of counts, as the data sets do.
fn on_the_host(model: &ModelSpec, counts: &[f32]) -> Vec<f32> {
    let by = &model.standardize;
    (counts.iter().enumerate())
        .map(|(k, c)| {
            let (scale, offset) = (
                1.0 / (model.counts_per_unit[k] * by.std[k]),
                by.mean[k] / by.std[k],
            );
            c * scale - offset
        })
        .collect()
}

#[test]
fn the_source_steps_with_the_bits_of_the_host() {
    use f32_stream::{CLASSES, INPUT, MODEL, OUTPUT, SCRATCH, STATE, standardised};
    let [(_, spec), _] = models();
    let views = spec.views().expect("views");
    let host = ModelF32::new(&views).expect("the host's model");
    assert_eq!((STATE, SCRATCH), (host.state_len(), host.scratch_len()));
    assert_eq!(CLASSES.as_slice(), spec.classes);
    let (mut state, mut scratch, mut out) = ([0.0; STATE], [0.0; SCRATCH], [0.0; OUTPUT]);
    let (mut its_state, mut its_scratch, mut its_out) = (state, scratch, out);
    MODEL.reset(&mut state).expect("reset");
    host.reset(&mut its_state).expect("reset");
    assert_ne!(state, [0.0; STATE], "an initial state");
    let mut last = Vec::new();
    for counts in counts::<INPUT>(&mut Rng::new(3)) {
        let x = standardised(&counts);
        let its_x = on_the_host(&spec, &counts);
        assert_eq!(bits(&x), bits(&its_x));
        MODEL
            .step(&mut state, &x, &mut out, &mut scratch)
            .expect("a step");
        host.step(&mut its_state, &its_x, &mut its_out, &mut its_scratch)
            .expect("a step");
        assert_eq!(bits(&state), bits(&its_state));
        assert_eq!(bits(&out), bits(&its_out));
        assert_ne!(bits(&out), last);
        last = bits(&out);
    }
}

#[test]
fn the_source_of_a_model_of_windows_has_the_bits_of_the_host() {
    use f32_window::{CLASSES, INPUT, MODEL, OUTPUT, SCRATCH, STATE, standardised};
    let [_, (_, spec)] = models();
    let views = spec.views().expect("views");
    let host = ModelF32::new(&views).expect("the host's model");
    assert_eq!(SCRATCH, host.window_scratch_len(STEPS));
    assert_eq!(CLASSES.len(), 0);
    let counts = counts::<INPUT>(&mut Rng::new(4));
    let x: Vec<f32> = counts.iter().flat_map(standardised).collect();
    let its_x: Vec<f32> = counts.iter().flat_map(|c| on_the_host(&spec, c)).collect();
    let (mut state, mut scratch) = ([0.0; STATE], [0.0; SCRATCH]);
    let (mut its_state, mut its_scratch) = (state, scratch);
    let (mut out, mut its_out) = ([0.0; STEPS * OUTPUT], [0.0; STEPS * OUTPUT]);
    MODEL.reset(&mut state).expect("reset");
    (MODEL.run(&mut state, &x, None, &mut out, &mut scratch)).expect("a window");
    host.reset(&mut its_state).expect("reset");
    (host.run(&mut its_state, &its_x, None, &mut its_out, &mut its_scratch)).expect("a window");
    assert_eq!(bits(&out), bits(&its_out));
    assert_eq!(bits(&state), bits(&its_state));
    assert!(out.iter().any(|y| *y != out[0]));
}
