//! One time step of a workload in f32 per call of `gru_bench_step`: GRU layers, Dense, softmax.
//!
//! Nothing but that function is meant to be measured. It ends with 0 through semihosting.
#![no_std]
#![no_main]

mod vectors;

use core::hint::black_box;
use cortex_m_rt::entry;
use gru_core::float::{Activation, DenseF32, FloatError, GruF32, GruWeights, LayerF32, ModelF32};
use semihosting::process;

#[expect(
    dead_code,
    reason = "the integer program of the same workload uses all of them"
)]
mod workload {
    include!(concat!(env!("OUT_DIR"), "/workload.rs"));
}
use workload::{FEATURES, OUTPUTS, SOFTMAX, UNITS};

const LAYERS: usize = UNITS.len();
/// The last layer's units.
const TOP: usize = UNITS[LAYERS - 1];
/// Layers behind the first take this many inputs; the workloads have one size of layer each.
const INNER: usize = UNITS[0];
/// Weights `w` of the first layer, `w` of the others, `u`, both biases, Dense, its bias.
const WEIGHTS: usize = 3 * INNER * FEATURES
    + (LAYERS - 1) * 3 * INNER * INNER
    + LAYERS * (3 * INNER * INNER + 6 * INNER)
    + OUTPUTS * TOP
    + OUTPUTS;
const STATE: usize = LAYERS * INNER;

/// Uniform numbers in ±0.25, in flash.
static NUMBERS: [f32; WEIGHTS] = {
    let mut numbers = [0.0; WEIGHTS];
    let mut seed = 20_261_123_u32;
    let mut k = 0;
    while k < WEIGHTS {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        numbers[k] = ((seed >> 8) as f32 / 8_388_608.0 - 1.0) * 0.25;
        k += 1;
    }
    numbers
};

/// What one stream needs.
struct Stream {
    state: [f32; STATE],
    scratch: [f32; INNER],
    sample: [f32; FEATURES],
    outputs: [f32; OUTPUTS],
}

/// One time step: features to probabilities, or to the logits without a softmax.
// SAFETY: the name is this program's own.
#[unsafe(no_mangle)]
#[inline(never)]
fn gru_bench_step(model: &ModelF32<'_>, stream: &mut Stream) -> bool {
    let Stream {
        state,
        scratch,
        sample,
        outputs,
    } = stream;
    model.step(state, sample, outputs, scratch).is_ok()
}

fn run() -> Result<f32, FloatError> {
    let mut rest: &'static [f32] = &NUMBERS;
    let mut take = |count: usize| {
        let (head, tail) = rest.split_at(count);
        rest = tail;
        head
    };
    let mut gru = |input: usize| {
        let weights = GruWeights {
            w: take(3 * INNER * input),
            u: take(3 * INNER * INNER),
            b_in: take(3 * INNER),
            b_rec: take(3 * INNER),
        };
        Ok(GruF32::new(input, INNER, weights)?.with_return_sequences(true))
    };
    let first = gru(FEATURES)?;
    let mut layers = [LayerF32::Gru(first); LAYERS + 1];
    for layer in layers.iter_mut().take(LAYERS).skip(1) {
        *layer = LayerF32::Gru(gru(INNER)?);
    }
    let activation = if SOFTMAX {
        Activation::Softmax
    } else {
        Activation::Linear
    };
    let dense = DenseF32::new(TOP, OUTPUTS, take(OUTPUTS * TOP), take(OUTPUTS), activation)?;
    layers[LAYERS] = LayerF32::Dense(dense);
    let model = ModelF32::new(&layers)?;

    let mut stream = Stream {
        state: [0.0; STATE],
        scratch: [0.0; INNER],
        sample: [0.0; FEATURES],
        outputs: [0.0; OUTPUTS],
    };
    model.reset(&mut stream.state)?;
    let mut seed = 1u32;
    for _ in 0..8 {
        for x in &mut stream.sample {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *x = (seed >> 8) as f32 / 8_388_608.0 - 1.0;
        }
        if !gru_bench_step(black_box(&model), black_box(&mut stream)) {
            process::exit(4);
        }
    }
    Ok(stream.outputs.iter().sum())
}

#[entry]
fn main() -> ! {
    match run() {
        // Eight steps must have left a trace: probabilities add up to one.
        Ok(sum) if !SOFTMAX || (sum - 1.0).abs() < 1e-3 => process::exit(0),
        Ok(_) => process::exit(5),
        Err(_) => process::exit(2),
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    process::exit(101)
}
