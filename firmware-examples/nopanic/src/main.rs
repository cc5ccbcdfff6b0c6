//! Links only if nothing in gru-core can panic.
//!
//! The panic handler calls a function that does not exist. The linker drops the handler, and with it the
//! missing function, only when no path to a panic is left; otherwise it complains of an undefined symbol. Works with
//! `lto = "fat"` and optimization only. Never run, so it has neither vectors nor memory map.
#![no_std]
#![no_main]

use gru_core::{Digest, Model, State, StateRef, Window, stated_len};
#[cfg(feature = "portable")]
use gru_core::{Stream, state_len_of};

unsafe extern "C" {
    /// Defined nowhere.
    safe fn gru_core_can_panic() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    gru_core_can_panic()
}

/// Everything that a device does with a model, on bytes and samples of which the compiler knows nothing.
///
/// # Safety
/// `bytes` and `samples` hold that many elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _start(
    bytes: *const u8,
    bytes_len: usize,
    samples: *const i16,
    samples_len: usize,
) -> u32 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { core::slice::from_raw_parts(bytes, bytes_len) };
    // SAFETY: the caller's promise.
    let samples = unsafe { core::slice::from_raw_parts(samples, samples_len) };
    all(bytes, samples).unwrap_or(u32::MAX)
}

fn all(bytes: &[u8], samples: &[i16]) -> Option<u32> {
    let len = stated_len(bytes).ok()?;
    let model = Model::load(bytes.get(..len)?).ok()?;
    let mut state = State::<512>::unbound();
    state.bind(&model).ok()?;
    let passed = model.self_test(&mut state).is_ok();
    let mut digest = Digest::default();
    let mut result = u32::from(passed);
    for sample in samples.chunks(model.features().max(1)) {
        result = result.wrapping_add(step(&model, &mut state, sample)?);
        state.digest(&model, &mut digest);
    }
    let mut snapshot = [0; 1024];
    let used = state.snapshot(&model, &mut snapshot).ok()?;
    state.reset(&model).ok()?;
    state.restore(&model, snapshot.get(..used)?).ok()?;
    let counters = state.counters();
    result = result
        .wrapping_add(counters.saturated)
        .wrapping_add(counters.invalid_values)
        .wrapping_add(digest.value() as u32);
    #[cfg(feature = "portable")]
    {
        result = result.wrapping_add(decisions(&model, samples)?);
    }
    result = result.wrapping_add(window(&model, samples)?);
    #[cfg(feature = "planted-panic")]
    {
        result = result.wrapping_add(u32::from(bytes[samples.len()]));
    }
    Some(result)
}

#[cfg(feature = "portable")]
/// From samples to decisions, with a snapshot in between.
fn decisions(model: &Model<'_>, samples: &[i16]) -> Option<u32> {
    let mut stream = Stream::<512, 96>::new(model).ok()?;
    let mut snapshot = [0; 1280];
    let mut result = 0u32;
    for sample in samples.chunks(model.features().max(1)) {
        if let Some(decision) = stream.push(sample).ok()? {
            let class = decision.class().unwrap_or(u16::MAX);
            result = result
                .wrapping_add(u32::from(class))
                .wrapping_add(u32::from(decision.confidence));
        }
        let used = stream.snapshot(&mut snapshot).ok()?;
        stream.restore(snapshot.get(..used)?).ok()?;
    }
    stream.reset();
    Some(result.wrapping_add(state_len_of(model.bytes())? as u32))
}

/// A window, whatever the directions of the layers.
fn window(model: &Model<'_>, samples: &[i16]) -> Option<u32> {
    let mut state = State::<512>::new(model).ok()?;
    let mut window = Window::<2048>::new();
    let rows = samples.as_chunks::<6>().0;
    let output = model.run_window(&mut state, &mut window, rows).ok()?;
    Some(output.argmax() as u32)
}

/// A function of its own: what a step costs can be seen in the image.
#[inline(never)]
fn step(model: &Model<'_>, state: &mut StateRef, sample: &[i16]) -> Option<u32> {
    let output = model.step(state, sample).ok()?;
    let mut result = output.argmax() as u32;
    for value in output.values() {
        result = result.wrapping_add(value as u32);
    }
    #[cfg(feature = "planted-float")]
    {
        // A multiplication, a comparison, double precision, and 64 bits to and from float.
        let x = result as f32 * 0.3;
        let y = if x < sample.len() as f32 {
            1.5
        } else {
            2.5 - f64::from(x)
        };
        result = result.wrapping_add((7.0 / y) as u32);
        result = result.wrapping_add((x as i64 >> 20) as u32);
        result = result.wrapping_add((u64::from(result) << 9 | 1) as f32 as u32);
    }
    Some(result)
}
