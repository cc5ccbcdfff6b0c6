//! The same bits on every machine: digests that are written down here, over models with every
//! option, every layout, all kinds of samples, outputs, probabilities and counters.
//!
//! Runs on any host; `bitexact.sh` runs it in debug and release builds, on 32 bits and, with
//! fewer steps, on a big-endian machine under Miri.
#![cfg(feature = "std")]

use gru_core::layout::Layout;
use gru_core::random::{self, SplitMix};
use gru_core::softmax::softmax_q15;
use gru_core::writer::{Aligned, host_state, write};
use gru_core::{Digest, Model, StateRef};

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
fn a_few_steps_have_the_digest_of_every_machine() {
    assert_eq!(digest_of(FEW), "3937d6b995a690a4");
}

#[test]
#[cfg_attr(miri, ignore = "too many steps for an interpreter")]
fn many_steps_have_the_digest_of_every_machine() {
    assert_eq!(digest_of(ALL), "3e08b124c76656c4");
}
