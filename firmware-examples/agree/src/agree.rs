//! Runs the self-test and the outputs of many random and extreme models on this core's kernel and
//! compares them with the host's portable kernel. Ends with 0 through semihosting if all agree.
//!
//! Prints the kernel's name; `run.sh` compares it with the one that the core should have.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use gru_core::layout::Layout;
use gru_core::{Digest, LoadError, Model, State, kernel};
use semihosting::{eprintln, println, process};

include!(concat!(env!("OUT_DIR"), "/models.rs"));

/// Keeps the records at a multiple of four.
#[repr(C, align(4))]
struct Records<B>(B);

// SAFETY: the linker script gives the section a place of its own.
#[unsafe(link_section = ".records")]
static RECORDS: Records<[u8; include_bytes!(concat!(env!("OUT_DIR"), "/records.bin")).len()]> =
    Records(*include_bytes!(concat!(env!("OUT_DIR"), "/records.bin")));

/// Keeps the artifact at a multiple of four.
#[repr(C, align(4))]
struct Aligned<B: ?Sized>(B);

static FOREIGN: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/foreign.bin")));

/// Whether an artifact in a layout that is not this program's is refused as such.
fn refuses_foreign() -> bool {
    match Model::load(&FOREIGN.0) {
        Err(LoadError::Layout { found, expected }) => {
            found == Layout::Rows && expected == kernel::PREFERRED_LAYOUT
        }
        _ => false,
    }
}

/// A model, what to feed it with, and what has to come out.
struct Record {
    artifact: &'static [u8],
    samples: &'static [u8],
    /// Digest of all outputs.
    outputs: u64,
}

/// Splits off a record.
fn record(rest: &'static [u8]) -> Option<(Record, &'static [u8])> {
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (values, rest) = rest.split_first_chunk::<4>()?;
    let (digest, rest) = rest.split_first_chunk::<8>()?;
    let len = u32::from_le_bytes(*len) as usize;
    let values = 2 * u32::from_le_bytes(*values) as usize;
    let (artifact, rest) = rest.split_at_checked(len.next_multiple_of(4))?;
    let (samples, rest) = rest.split_at_checked(values.next_multiple_of(4))?;
    let record = Record {
        artifact: artifact.get(..len)?,
        samples: samples.get(..values)?,
        outputs: u64::from_le_bytes(*digest),
    };
    Some((record, rest))
}

/// Whether hidden states and outputs agree.
fn agrees(model: &Model<'_>, state: &mut State<STATE>, record: &Record) -> bool {
    if state.bind(model).is_err() {
        return false;
    }
    if let Err(e) = model.self_test(state) {
        eprintln!("{}: {e}", model.name());
        return false;
    }
    let mut sample = [0i16; 128];
    let Some(sample) = sample.get_mut(..model.features()) else {
        return false;
    };
    let mut digest = Digest::default();
    for bytes in record.samples.chunks_exact(2 * model.features()) {
        for (x, b) in sample.iter_mut().zip(bytes.chunks_exact(2)) {
            if let [lo, hi] = *b {
                *x = i16::from_le_bytes([lo, hi]);
            }
        }
        match model.step(state, sample) {
            Ok(out) => out.values().for_each(|y| digest.update(&[y])),
            Err(_) => return false,
        }
    }
    let equal = digest.value() == record.outputs;
    if !equal {
        eprintln!("{}: outputs differ", model.name());
    }
    equal
}

#[entry]
fn main() -> ! {
    let mut rest: &[u8] = &RECORDS.0;
    let mut state = State::<STATE>::unbound();
    let (mut models, mut wrong) = (0, 0);
    while let Some((record, others)) = record(rest) {
        rest = others;
        models += 1;
        match Model::load(record.artifact) {
            Ok(model) => {
                if !agrees(&model, &mut state, &record) {
                    let units = model.layers().first().map_or(0, |l| l.units());
                    eprintln!("differs: {} -> {units}", model.features());
                    wrong += 1;
                }
            }
            Err(e) => {
                eprintln!("{e}");
                wrong += 1;
            }
        }
    }
    if !refuses_foreign() {
        eprintln!("a foreign layout is not refused");
        wrong += 1;
    }
    println!("kernel {}: {models} models, {wrong} differ", kernel::ACTIVE);
    process::exit(if wrong == 0 && rest.is_empty() && models > 0 {
        0
    } else {
        1
    });
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    process::exit(101)
}
