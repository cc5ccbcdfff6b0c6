//! Any bytes: a typed error, or a canonical model whose 1,000 steps and self-test end in order.
#![no_main]

use gru_core::Model;
use gru_core::random::SplitMix;
use gru_core::writer::{Aligned, fix_crc, host_state, read, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Aligned::new(bytes);
    // As it came first; then with length and checksum put right, or hardly anything would get past them.
    check(&bytes);
    let len = (bytes.len() as u32).to_le_bytes();
    if let Some(total) = bytes.get_mut(8..12) {
        total.copy_from_slice(&len);
    }
    fix_crc(&mut bytes);
    check(&bytes);
});

fn check(bytes: &[u8]) {
    let Ok(model) = Model::load(bytes) else {
        return;
    };
    let quant = read(&model);
    let again = write(&quant, model.layout()).expect("a loaded model can be written");
    if quant.self_test.is_empty() {
        assert_eq!(again, bytes, "a second form of a model was accepted");
    }
    assert_eq!(model.verify().finish(), Ok(()));
    let mut state = host_state(&model).expect("the longest state");
    let mut rng = SplitMix(u64::from(model.tag()));
    for step in 0..1000 {
        let sample: Vec<Option<i32>> = (0..model.features())
            .map(|_| match rng.below(8) {
                0 => None,
                1 => Some(i32::MIN),
                2 => Some(i32::MAX),
                _ => Some(i32::from(rng.bits() as i16)),
            })
            .collect();
        match model.step(&mut state, &sample) {
            Ok(output) => assert_eq!(output.values().count(), model.outputs()),
            Err(error) => assert!(!model.is_streaming(), "step {step}: {error}"),
        }
    }
    let _ = model.self_test(&mut state);
}
