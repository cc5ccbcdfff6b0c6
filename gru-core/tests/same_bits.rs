//! One digest on every host: debug, release, 32 bits, and big-endian under Miri; and Miri over load and step of hostile bytes.
#![cfg(feature = "std")]

use gru_core::Model;
use gru_core::layout::Layout;
use gru_core::random::{SplitMix, halve, model};
use gru_core::writer::{Aligned, digest_of, fix_crc, host_state, write};

/// Of 1,000 steps of `model(1, 2, &[3], 2)` from `SplitMix(2)`, whatever the layout and the host.
const DIGEST: u64 = 12_459_641_631_300_748_325;

#[test]
fn a_thousand_steps_have_one_digest_in_every_layout() {
    let quant = model(1, 2, &[3], 2);
    let mut rng = SplitMix(2);
    let samples: Vec<Vec<i16>> = (0..1000).map(|_| rng.sample(2)).collect();
    let digest = |layout, samples: &[Vec<i16>]| {
        let bytes = Aligned::new(&write(&quant, layout).expect("sound"));
        let model = Model::load(&bytes).expect("sound");
        digest_of(&model, samples).expect("steps")
    };
    // Control: a digest does not hide a sample that differs.
    let mut other = samples[..40].to_vec();
    other[20][1] ^= 0x4000;
    assert_ne!(
        digest(Layout::Rows, &other),
        digest(Layout::Rows, &samples[..40])
    );
    assert_eq!(digest(Layout::Rows, &samples), DIGEST);
    // Under Miri the other layouts run a few steps only: it is a thousand times slower.
    let few = if cfg!(miri) { 4 } else { 1000 };
    for layout in Layout::ALL.into_iter().filter(|l| l.weight_bits() == 8) {
        assert_eq!(
            digest(layout, &samples[..few]),
            digest(Layout::Rows, &samples[..few]),
            "{layout:?}"
        );
    }
}

#[test]
fn hostile_bytes_with_a_right_checksum_are_sound_for_miri() {
    hostile(if cfg!(miri) { 40 } else { 1000 });
}

#[test]
#[ignore = "for Miri: ten minutes, see miri.sh all"]
fn a_thousand_hostile_artifacts_are_sound_for_miri() {
    hostile(1000);
}

fn hostile(cases: usize) {
    let mut rng = SplitMix(3);
    let mut accepted = 0;
    for case in 0..cases {
        let layout = Layout::ALL[case % Layout::ALL.len()];
        let mut quant = model(case as u64, 2, &[3], 2);
        if layout.weight_bits() == 4 {
            halve(&mut quant);
        }
        let mut bytes = Aligned::new(&write(&quant, layout).expect("sound"));
        for _ in 0..=rng.below(3) {
            let at = 16 + rng.below(bytes.len() - 16);
            bytes[at] = rng.bits() as u8;
        }
        fix_crc(&mut bytes);
        let Ok(model) = Model::load(&bytes) else {
            continue;
        };
        accepted += 1;
        let mut state = host_state(&model).expect("state");
        for _ in 0..3 {
            let sample = rng.sample(model.features());
            let _ = model.step(&mut state, &sample);
        }
    }
    assert!(accepted * 9 > cases, "{accepted} of {cases}");
}
