//! Runs the f32 path on models of all small sizes and compares the digest with the host's.
//!
//! Exits with 0 when every bit is the same, with 1 when one differs.
#![no_std]
#![no_main]

mod vectors;

use cortex_m_rt::entry;
use semihosting::process;

mod float_digest;

include!(concat!(env!("OUT_DIR"), "/check_f32.rs"));

#[entry]
fn main() -> ! {
    match float_digest::digest() {
        Ok(found) => process::exit(i32::from(found != EXPECTED)),
        Err(_) => process::exit(2),
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    process::exit(99)
}
