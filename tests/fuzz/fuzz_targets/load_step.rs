//! Any bytes: a typed error, or a canonical model whose steps, decisions, windows, snapshots and self-test end in order.
#![no_main]

use gru_core::writer::Aligned;
use libfuzzer_sys::fuzz_target;
use reliability::{blobs::reseal, hostile::exercise};

// The files themselves: the crate would be instrumented with all that a trainer needs.
#[allow(dead_code, reason = "only one function of each is for fuzzing")]
#[path = "../../../gru-train-host/src/reliability"]
mod reliability {
    pub mod blobs;
    pub mod hostile;
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Aligned::new(bytes);
    // As it came first; then with length and checksum put right, or hardly anything would get past them.
    check(&bytes);
    reseal(&mut bytes);
    check(&bytes);
});

fn check(bytes: &[u8]) {
    if let Err(fault) = exercise(bytes, 1000) {
        panic!("{fault}");
    }
}
