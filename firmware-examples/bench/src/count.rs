//! Counts what one time step of every workload executes, on QEMU with `-icount`, without other tools.
//!
//! Prints a line for each: workload, instructions of a step, its stack in bytes, state and model in
//! bytes of RAM, artifact in bytes of flash; and one with those of a load of the second. `count.sh` builds and runs it,
//! and compares. Models that need a feature that is missing have to be refused.
#![no_std]
#![no_main]

mod vectors;

use core::hint::black_box;
use cortex_m_rt::entry;
use gru_core::{Feature, LoadError, Loader, Model, State};
use semihosting::{print, println, process};

include!(concat!(env!("OUT_DIR"), "/count.rs"));

/// Keeps the artifacts at multiples of four.
#[repr(C, align(4))]
struct Artifacts<B: ?Sized>(B);

static ARTIFACTS: &Artifacts<[u8]> =
    &Artifacts(*include_bytes!(concat!(env!("OUT_DIR"), "/count.bin")));

/// What one stream needs.
struct Stream<'l, 'a> {
    state: State<STATE>,
    sample: [i16; WIDEST],
    outputs: [u16; WIDEST],
    features: usize,
    softmax: bool,
    model: &'l Model<'a>,
}

/// One time step, as in `step.rs` but of any workload; `gru cycles` counts its calls as well.
// SAFETY: the name is this program's own.
#[unsafe(no_mangle)]
#[inline(never)]
fn gru_bench_step(s: &mut Stream<'_, '_>) -> bool {
    let sample = s.sample.get(..s.features).unwrap_or_default();
    let Ok(out) = s.model.step(&mut s.state, sample) else {
        return false;
    };
    if s.softmax {
        let places = s.outputs.get_mut(..out.len()).unwrap_or_default();
        out.probabilities(places);
    } else {
        // The outputs are read where they are.
        core::hint::black_box(&out);
    }
    true
}

/// SysTick, which every Cortex-M has: control, reload and current value.
const SYST: *mut u32 = 0xe000_e010 as *mut u32;

fn start_ticks() {
    // SAFETY: the registers of SysTick; nothing else in this program uses it.
    unsafe {
        SYST.add(1).write_volatile(0x00ff_ffff);
        SYST.add(2).write_volatile(0);
        SYST.write_volatile(5);
    }
}

/// Counts down.
fn ticks() -> u32 {
    // SAFETY: as above.
    unsafe { SYST.add(2).read_volatile() }
}

/// Words of stack that are painted and looked at.
const PAINTED: usize = 1024;
const PAINT: u32 = 0xa5c3_96f0;

/// Loads a model.
#[inline(never)]
fn load<'l, 'a>(loader: &'l mut Loader<'a>, bytes: &'a [u8]) -> Result<&'l Model<'a>, LoadError> {
    loader.load(bytes)
}

/// The deepest use of the stack below this function's frame by a call.
#[inline(never)]
fn stack_of(call: impl FnOnce()) -> usize {
    let mut here = 0u32;
    let top = (&raw mut here).wrapping_sub(16);
    for i in 0..PAINTED {
        // SAFETY: unused stack below this function's own frame; RAM is far larger than that.
        unsafe { top.sub(i).write_volatile(PAINT) };
    }
    call();
    // SAFETY: as above.
    let clean = |i: &usize| unsafe { top.sub(*i).read_volatile() } == PAINT;
    let untouched = (0..PAINTED).rev().take_while(clean).count();
    4 * (PAINTED + 16 - untouched)
}

#[entry]
fn main() -> ! {
    if gru_core::kernel::ACTIVE != KERNEL {
        process::exit(2);
    }
    let mut rest = &ARTIFACTS.0;
    let mut next = || {
        let len = gru_core::stated_len(rest).unwrap_or(0);
        let Some((bytes, others)) = rest.split_at_checked(len) else {
            process::exit(3);
        };
        rest = others;
        bytes
    };
    let mut loader = Loader::new();
    for (name, softmax) in WORKLOADS {
        let bytes = next();
        let len = bytes.len();
        if name.starts_with("w2") {
            let stack = stack_of(|| _ = load(black_box(&mut loader), black_box(bytes)));
            start_ticks();
            let t0 = ticks();
            let loaded = load(black_box(&mut loader), black_box(bytes)).is_ok();
            let instructions = instructions(t0.wrapping_sub(ticks()) & 0xff_ffff);
            if !loaded {
                process::exit(4);
            }
            let (_, suffix) = name.split_at(2);
            println!("load{} {} {} 0 0 {}", suffix, instructions, stack, len);
        }
        let Ok(model) = load(&mut loader, bytes) else {
            process::exit(4);
        };
        let Ok(state) = State::new(model) else {
            process::exit(5);
        };
        let (features, state_bytes) = (model.features(), 24 + 2 * model.state_len());
        let mut stream = Stream {
            state,
            sample: [100; WIDEST],
            outputs: [0; WIDEST],
            features,
            softmax,
            model,
        };
        let stack = stack_of(|| _ = gru_bench_step(black_box(&mut stream)));
        start_ticks();
        // The empty measurement, to be taken off.
        let t0 = ticks();
        let t1 = ticks();
        let mut ok = true;
        for _ in 0..16 {
            ok &= gru_bench_step(black_box(&mut stream));
        }
        let t2 = ticks();
        if !ok {
            process::exit(6);
        }
        let spent = (t1.wrapping_sub(t2) & 0xff_ffff) - (t0.wrapping_sub(t1) & 0xff_ffff);
        let instructions = instructions(spent) / 16;
        print!("{} {} {} ", name, instructions, stack);
        println!("{} {} {}", state_bytes, size_of::<Model<'_>>(), len);
    }
    for feature in REFUSED {
        if load(&mut loader, next()).err() != Some(LoadError::Feature(*feature)) {
            process::exit(7);
        }
    }
    process::exit(0)
}

/// What so many ticks are: with `-icount shift=6` an instruction takes 64 ns.
fn instructions(ticks: u32) -> u64 {
    ticks as u64 * 1_000_000_000 / CLOCK_HZ / 64
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    process::exit(101)
}
