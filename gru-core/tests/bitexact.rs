//! The same bits on every machine: digests that are written down here, over models with every
//! option, every layout, all kinds of samples, outputs, probabilities and counters.
//!
//! Runs on any host; `bitexact.sh` runs it in debug and release builds, on 32 bits and on a big-endian machine, `miri.sh` with
//! fewer steps on one under Miri. The emulated boards are compared with the same file of digests.
#![cfg(feature = "std")]

use std::collections::BTreeSet;

use gru_core::artifact::{Direction, Readout};
use gru_core::layout::Layout;
use gru_core::random::{self, SplitMix};
use gru_core::softmax::softmax_q15;
use gru_core::writer::{Aligned, QuantLayer, QuantModel, host_state, write};
use gru_core::{Digest, Model, StateRef, Window};

/// Steps of every model that any machine runs.
const FEW: usize = 16;
/// Steps of every model, but for interpreters.
const ALL: usize = 2000;

/// Adds everything that a step makes visible.
fn step(model: &Model<'_>, state: &mut StateRef, rng: &mut SplitMix, all: &mut Digest) {
    let features = model.features();
    let counts = rng.sample(features);
    let hole = |rng: &mut SplitMix, x: i16| (rng.range(0, 9) != 0).then_some(x);
    let out = match rng.range(0, 3) {
        0 => model.step(state, &counts),
        1 => {
            let wide: Vec<i32> = counts.iter().map(|&x| x as i32 * 3).collect();
            model.step(state, &wide)
        }
        2 => {
            let units: Vec<f32> = counts
                .iter()
                .map(|&x| match rng.range(0, 19) {
                    0 => f32::NAN,
                    1 => f32::NEG_INFINITY,
                    _ => x as f32 / 8000.0,
                })
                .collect();
            model.step(state, &units)
        }
        _ => {
            let gaps: Vec<Option<i16>> = counts.iter().map(|&x| hole(rng, x)).collect();
            model.step(state, &gaps)
        }
    };
    let out = out.expect("a sound sample");
    let mut probabilities = vec![0u16; out.len()];
    softmax_q15(out.values(), out.frac(), &mut probabilities);
    for y in out.values() {
        all.update(&[y]);
    }
    all.update(&[out.argmax() as i16]);
    for p in probabilities {
        all.update(&[p as i16]);
    }
    state.digest(model, all);
    let counters = state.counters();
    for n in [
        counters.invalid_values,
        counters.skipped_steps,
        counters.saturated,
    ] {
        all.update(&[n as i16, (n >> 16) as i16]);
    }
}

/// The digest over `steps` steps of all models; asserts that no layout makes a difference.
fn digest_of(steps: usize) -> String {
    let mut all = Digest::default();
    for model in random::variants() {
        let digests: Vec<u64> = Layout::ALL
            .into_iter()
            // Other variants than the default one are held by rows only.
            .filter_map(|layout| write(&model, layout).ok())
            .map(|bytes| {
                let bytes = Aligned::new(&bytes);
                let model = Model::load(&bytes).unwrap();
                let mut state = host_state(&model).unwrap();
                let mut rng = SplitMix(1);
                let mut digest = Digest::default();
                for _ in 0..steps {
                    step(&model, &mut state, &mut rng, &mut digest);
                }
                let mut saved = vec![0; StateRef::snapshot_len(&model)];
                state.snapshot(&model, &mut saved).unwrap();
                // Without its checksum and the model's tag, which tell layouts apart.
                let saved: Vec<i16> = saved[8..].iter().map(|&b| b as i16).collect();
                digest.update(&saved);
                digest.value()
            })
            .collect();
        let value = digests[0];
        assert!(
            digests.iter().all(|&d| d == value),
            "{} {digests:x?}",
            model.name
        );
        all.update(&[0, 16, 32, 48].map(|shift| (value >> shift) as i16));
    }
    format!("{:016x}", all.value())
}

#[test]
#[cfg_attr(
    miri,
    ignore = "53 models in every layout: the tests below are for interpreters"
)]
fn a_few_steps_have_the_digest_of_every_machine() {
    assert_eq!(digest_of(FEW), "3937d6b995a690a4");
}

#[test]
#[cfg_attr(miri, ignore = "too many steps for an interpreter")]
fn many_steps_have_the_digest_of_every_machine() {
    assert_eq!(digest_of(ALL), "3e08b124c76656c4");
}

/// A line per model of [`random::covering`] and then of [`random::tiny`]: everything visible of 100 and of 1,000 steps, and the
/// hidden states of 100,000 steps of [`random::stream`], as boards report them of the former; then one for windows of a layer that
/// reads backwards and one for [`random::windowed`].
const DIGESTS: &str = include_str!("digests.txt");
/// Steps of the three columns.
const STEPS: [usize; 3] = [100, 1_000, 100_000];

/// The models with a line each.
fn models() -> Vec<QuantModel> {
    let mut all = random::covering();
    all.extend(random::tiny());
    all
}

fn line(n: usize) -> Vec<&'static str> {
    let mut lines = DIGESTS.lines().filter(|line| !line.starts_with('#'));
    lines.nth(n).unwrap_or("").split(' ').collect()
}

/// The layouts of equal bits to try: all of them, but for interpreters.
fn layouts(quant: &QuantModel) -> Vec<Aligned> {
    let all = Layout::ALL.into_iter();
    let bytes = all.filter_map(|layout| write(quant, layout).ok());
    let few = if cfg!(miri) { 1 } else { usize::MAX };
    bytes.map(|bytes| Aligned::new(&bytes)).take(few).collect()
}

/// Compares every `parts`-th one of `models`, of which the first has the line `start`, with the first `columns` digests of their lines.
fn compare(models: &[QuantModel], start: usize, (part, parts): (usize, usize), columns: usize) {
    // An interpreter leaves the large ones out; eleven of `covering` remain, and with them every option.
    let affordable = |quant: &QuantModel| {
        let weights = |layer: &QuantLayer| match layer {
            QuantLayer::Gru(g) => g.w.len() + g.u.len(),
            QuantLayer::Dense(d) => d.w.len(),
        };
        !cfg!(miri) || quant.layers.iter().map(weights).sum::<usize>() <= 400
    };
    let mine = models
        .iter()
        .enumerate()
        .filter(|(n, quant)| n % parts == part && affordable(quant));
    let (mut found, mut written) = (Vec::new(), Vec::new());
    for (n, quant) in mine.map(|(n, quant)| (start + n, quant)) {
        let mut digests: Vec<Vec<String>> = (layouts(quant).iter())
            .map(|bytes| visible(bytes, &STEPS[..columns.min(2)]))
            .collect();
        digests.dedup();
        assert_eq!(digests.len(), 1, "model {n}: layouts differ: {digests:?}");
        let mut digests = digests.remove(0);
        if columns > 2 {
            let samples = random::stream(n as u64, quant.features.len(), STEPS[2]);
            digests.push(hidden(&layouts(quant)[0], &samples));
        }
        let expected = line(n).into_iter().take(columns);
        written.push((n, expected.map(String::from).collect::<Vec<_>>()));
        found.push((n, digests));
    }
    assert!(found.len() >= 2);
    assert_eq!(found, written);
}

/// The digests of everything that so many steps with gaps show.
fn visible(bytes: &[u8], ends: &[usize]) -> Vec<String> {
    let model = Model::load(bytes).unwrap();
    let mut state = host_state(&model).unwrap();
    let mut rng = SplitMix(1);
    let mut digest = Digest::default();
    let mut steps = 0;
    (ends.iter())
        .map(|&end| {
            while steps < end {
                step(&model, &mut state, &mut rng, &mut digest);
                steps += 1;
            }
            format!("{:016x}", digest.value())
        })
        .collect()
}

/// The digest of the hidden states after each sample.
fn hidden(bytes: &[u8], samples: &[i16]) -> String {
    let model = Model::load(bytes).unwrap();
    let mut state = host_state(&model).unwrap();
    let mut digest = Digest::default();
    for sample in samples.chunks_exact(model.features()) {
        model.step(&mut state, sample).unwrap();
        state.digest(&model, &mut digest);
    }
    format!("{:016x}", digest.value())
}

/// Tests of a hundred steps and of all, so that they run beside each other; under Miri that takes processes.
macro_rules! runs {
    ($($name:ident: $models:ident, $start:expr, $part:literal of $parts:literal, $columns:expr;)*) => {$(
        #[test]
        #[cfg_attr(
            miri,
            ignore = "minutes under an interpreter: miri.sh runs those of `hundred` and `tiny` by name"
        )]
        fn $name() {
            compare(&random::$models(), $start, ($part, $parts), $columns);
        }
    )*};
}

/// In an interpreter without the 100,000 steps.
const LONG: usize = if cfg!(miri) { 2 } else { 3 };

runs! {
    hundred_steps_0: covering, 0, 0 of 2, 1;
    hundred_steps_1: covering, 0, 1 of 2, 1;
    long_run_0: covering, 0, 0 of 4, LONG;
    long_run_1: covering, 0, 1 of 4, LONG;
    long_run_2: covering, 0, 2 of 4, LONG;
    long_run_3: covering, 0, 3 of 4, LONG;
    tiny_models_0: tiny, random::covering().len(), 0 of 2, LONG;
    tiny_models_1: tiny, random::covering().len(), 1 of 2, LONG;
}

#[test]
fn windows_have_the_digest_of_every_machine() {
    let mut quant = random::model(300, 2, &[4, 3], 2);
    for layer in &mut quant.layers {
        if let QuantLayer::Gru(g) = layer {
            g.header.direction = Direction::Backward;
            break;
        }
    }
    let mut digest = Digest::default();
    for readout in [Readout::Last, Readout::Mean { skip: 3 }] {
        quant.readout = readout;
        let bytes = Aligned::new(&write(&quant, Layout::Rows).unwrap());
        let model = Model::load(&bytes).unwrap();
        let mut state = host_state(&model).unwrap();
        let mut window = Window::<256>::new();
        let mut rng = SplitMix(5);
        for _ in 0..5 {
            let rows: Vec<Vec<i16>> = (0..10).map(|_| rng.sample(2)).collect();
            let output = model.run_window(&mut state, &mut window, &rows).unwrap();
            for y in output.values() {
                digest.update(&[y]);
            }
            state.digest(&model, &mut digest);
        }
    }
    let found = format!("{:016x}", digest.value());
    assert_eq!(Some(&found.as_str()), line(models().len()).first());
}

#[test]
fn windows_of_both_directions_have_the_digest_of_every_machine() {
    let mut all = Digest::default();
    for quant in random::windowed() {
        let mut digests: Vec<u64> = (layouts(&quant).iter())
            .map(|bytes| {
                let model = Model::load(bytes).unwrap();
                let mut state = host_state(&model).unwrap();
                let mut window = Window::<1024>::new();
                let mut rng = SplitMix(5);
                let mut digest = Digest::default();
                for steps in [4, 7, 12] {
                    let rows: Vec<Vec<i16>> =
                        (0..steps).map(|_| rng.sample(model.features())).collect();
                    let output = model.run_window(&mut state, &mut window, &rows).unwrap();
                    for y in output.values() {
                        digest.update(&[y]);
                    }
                    state.digest(&model, &mut digest);
                }
                digest.value()
            })
            .collect();
        digests.dedup();
        assert_eq!(digests.len(), 1, "{}: layouts differ", quant.name);
        all.update(&[0, 16, 32, 48].map(|shift| (digests[0] >> shift) as i16));
    }
    let found = format!("{:016x}", all.value());
    assert_eq!(vec![found.as_str()], line(models().len() + 1));
}

#[test]
fn the_models_of_the_long_run_meet_every_option() {
    every_option(random::covering());
    every_option(random::tiny());
}

fn every_option(models: Vec<QuantModel>) {
    let mut seen = BTreeSet::new();
    for quant in models {
        let mut note = |what: &str, value: &dyn core::fmt::Debug| {
            seen.insert(format!("{what} {value:?}"));
        };
        note("gap", &quant.gap);
        note("limits", &quant.limits.is_empty());
        let readout = format!("{:?}", quant.readout);
        note("readout", &readout.split(' ').next());
        note("half bytes", &write(&quant, Layout::Rows4).is_ok());
        for layer in &quant.layers {
            match layer {
                QuantLayer::Gru(g) => {
                    note("candidate", &g.header.activation);
                    note("gate", &g.header.recurrent_activation);
                    note("reset after", &g.header.reset_after);
                    note("clip", &(g.header.clip < 32767));
                    note("initial state", &g.header.initial_state);
                    note("nh_shift", &g.header.nh_shift);
                    note("w_shift", &g.header.w_shift.min(4));
                }
                QuantLayer::Dense(d) => note("dense", &d.header.activation),
            }
        }
        let kinds: Vec<bool> = (quant.layers.iter())
            .map(|layer| matches!(layer, QuantLayer::Gru(_)))
            .collect();
        note("GRU on GRU", &kinds.windows(2).any(|w| w == [true, true]));
        note(
            "GRU on Dense",
            &kinds.windows(2).any(|w| w == [false, true]),
        );
    }
    // Three gap policies, four read-outs, seven activations in three places, five shifts twice, and seven options that are
    // there or not.
    assert_eq!(seen.len(), 3 + 4 + 3 * 7 + 2 * 5 + 7 * 2, "{seen:#?}");
}
