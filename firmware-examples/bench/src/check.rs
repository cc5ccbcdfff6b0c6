//! Runs random models of many shapes and compares the digests of all their states with the host's.
//!
//! Every artifact carries samples and the digest that the build computed with the host's kernel;
//! a Dense layer in front and between makes its results part of the digest. Exits with 0, or
//! with 100 + the number of models that differ.
#![no_std]
#![no_main]

mod vectors;

use cortex_m_rt::entry;
use gru_core::{Model, State};
use semihosting::process;

include!(concat!(env!("OUT_DIR"), "/check.rs"));

/// Keeps the artifacts at multiples of four.
#[repr(C, align(4))]
struct Artifacts<B: ?Sized>(B);

static ARTIFACTS: &Artifacts<[u8]> =
    &Artifacts(*include_bytes!(concat!(env!("OUT_DIR"), "/check.bin")));

/// Whether the model at the start of `bytes` computes its own digest.
fn agrees(bytes: &[u8]) -> bool {
    let Ok(model) = Model::load(bytes) else {
        return false;
    };
    let Ok(mut state) = State::<STATE>::new(&model) else {
        return false;
    };
    model.self_test(&mut state) == Ok(())
}

#[entry]
fn main() -> ! {
    // The wrong kernel would agree as well, and prove nothing.
    if gru_core::kernel::ACTIVE != KERNEL {
        process::exit(2);
    }
    let mut rest = &ARTIFACTS.0;
    let (mut models, mut wrong) = (0, 0);
    while !rest.is_empty() {
        let len = gru_core::stated_len(rest).unwrap_or(0);
        let Some((model, others)) = rest.split_at_checked(len) else {
            process::exit(3);
        };
        models += 1;
        wrong += !agrees(model) as i32;
        rest = others;
    }
    process::exit(match (models, wrong) {
        (MODELS, 0) => 0,
        (MODELS, n) => 100 + n.min(100),
        _ => 4,
    })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    process::exit(99)
}
