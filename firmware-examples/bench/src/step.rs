//! One time step of a workload per call of `gru_bench_step`, from raw counts to the outputs.
//!
//! Nothing but that function is meant to be measured. It ends with 0 through semihosting.
#![no_std]
#![no_main]

mod vectors;

use core::hint::black_box;
use cortex_m_rt::entry;
#[cfg(not(feature = "embedded"))]
use gru_core::Loader;
use gru_core::{Model, State};
use semihosting::process;

#[expect(
    dead_code,
    reason = "the float program of the same workload uses all of them"
)]
mod workload {
    include!(concat!(env!("OUT_DIR"), "/workload.rs"));
}
use workload::{FEATURES, OUTPUTS, SOFTMAX, STATE};

#[cfg(not(feature = "embedded"))]
static ARTIFACT: &[u8] = gru_core::include_artifact!(concat!(env!("OUT_DIR"), "/model.bin"));
#[cfg(feature = "embedded")]
const MODEL: &Model<'static> = gru_core::include_model!(concat!(env!("OUT_DIR"), "/model.bin"));

/// What one stream needs.
struct Stream {
    state: State<STATE>,
    sample: [i16; FEATURES],
    outputs: [u16; OUTPUTS],
}

/// One time step: raw counts to probabilities in Q15, or to the logits' bits without a softmax.
// SAFETY: the name is this program's own.
#[unsafe(no_mangle)]
#[inline(never)]
fn gru_bench_step(model: &Model<'_>, stream: &mut Stream) -> bool {
    let Ok(out) = model.step(&mut stream.state, &stream.sample) else {
        return false;
    };
    if SOFTMAX {
        out.probabilities(&mut stream.outputs);
    } else {
        // The outputs are read where they are.
        black_box(&out);
    }
    true
}

#[entry]
fn main() -> ! {
    // `entry` lends it out once: no copy on the stack.
    static mut STREAM: Stream = Stream {
        state: State::unbound(),
        sample: [0; FEATURES],
        outputs: [0; OUTPUTS],
    };
    let stream = STREAM;
    #[cfg(feature = "embedded")]
    let model = MODEL;
    #[cfg(not(feature = "embedded"))]
    let mut loader = Loader::new();
    #[cfg(not(feature = "embedded"))]
    let Ok(model) = loader.load(ARTIFACT) else {
        process::exit(2);
    };
    if stream.state.bind(model).is_err() {
        process::exit(3);
    }
    let mut seed = 1u32;
    let mut sum = 0u32;
    for _ in 0..8 {
        for x in &mut stream.sample {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *x = (seed >> 18) as i16 - 8192;
        }
        if !gru_bench_step(black_box(model), black_box(stream)) {
            process::exit(4);
        }
        sum = stream.outputs.iter().map(|&p| p as u32).sum();
    }
    // Eight steps must have left a trace: probabilities add up to one.
    let near_one = (32700..=32836).contains(&sum);
    process::exit(if SOFTMAX && !near_one { 5 } else { 0 });
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    process::exit(101)
}
