//! Load and step and nothing else, for measuring how much code that is: see `size.sh`.
#![no_std]
#![no_main]

use gru_core::{Loader, State};

/// Loads a model and steps it over samples of which the compiler knows nothing; the sum of the probabilities.
///
/// # Safety
/// `bytes` and `samples` hold that many elements.
// SAFETY: the name is this program's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _start(
    bytes: *const u8,
    bytes_len: usize,
    samples: *const i16,
    samples_len: usize,
    state: &mut State<512>,
) -> u32 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { core::slice::from_raw_parts(bytes, bytes_len) };
    // SAFETY: the caller's promise.
    let mut samples = unsafe { core::slice::from_raw_parts(samples, samples_len) };
    let mut loader = Loader::new();
    let Ok(model) = loader.load(bytes) else {
        return 0;
    };
    if state.bind(model).is_err() {
        return 0;
    }
    let mut sum = 0;
    while let Some((sample, rest)) = samples.split_at_checked(model.features()) {
        samples = rest;
        let Ok(output) = model.step(state, sample) else {
            return 0;
        };
        let mut probabilities = [0; 4];
        output.probabilities(&mut probabilities);
        sum += probabilities[0] as u32;
    }
    sum
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
