//! Interrupts the steps of random models wherever an interrupt can, and compares their digests with the host's.
//!
//! SysTick comes again so soon that a step is interrupted often, after another delay each time. Its handler takes a time step
//! of a stream of its own, on another model, and so uses what a step uses: registers, the stack below, vector registers and
//! their predicates. It notes the address at which it came. Prints how many interrupts there were, at how many instructions,
//! and exits with 0 if every digest of both is right.
#![no_std]
#![no_main]

mod vectors;

use core::sync::atomic::{AtomicU32, Ordering};
use cortex_m_rt::{ExceptionFrame, entry, exception};
use gru_core::{Model, State};
use semihosting::{println, process};

include!(concat!(env!("OUT_DIR"), "/check.rs"));
include!(concat!(env!("OUT_DIR"), "/interrupts.rs"));

const ARTIFACTS: &[u8] = gru_core::include_artifact!(concat!(env!("OUT_DIR"), "/check.bin"));

/// SysTick, which every Cortex-M has: control, reload and current value.
const SYST: *mut u32 = 0xe000_e010 as *mut u32;

/// Interrupts so far. One exception alone writes what follows, and the thread reads it while it does not come.
static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

/// The one that no model lasts until: several times as many interrupts as the longest one takes.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Which halfwords of the program were going to be executed when an interrupt came.
static SEEN: [AtomicU32; WORDS] = [const { AtomicU32::new(0) }; WORDS];
const WORDS: usize = 2048;

/// The stream of the interrupt.
struct Other {
    model: Option<Model<'static>>,
    state: State<STATE>,
    step: i16,
    sum: u32,
    /// The sum after so many steps, and how often it was another one.
    wanted: u32,
    wrong: u32,
}

const STEPS: i16 = 50;

static mut OTHER: Other = Other {
    model: None,
    state: State::unbound(),
    step: 0,
    sum: 0,
    wanted: 0,
    wrong: 0,
};

/// For one at a time: the handler, or the thread while SysTick is off.
fn other_stream() -> *mut Other {
    &raw mut OTHER
}

impl Other {
    /// One step; whether it was the last one before the next reset.
    fn step(&mut self) -> bool {
        let Some(model) = &self.model else {
            return false;
        };
        let mut sample = [0i16; 16];
        for (i, x) in (0i16..).zip(&mut sample) {
            *x = (self.step + 7 * i).wrapping_mul(631);
        }
        let sample = sample.get(..model.features()).unwrap_or_default();
        if let Ok(output) = model.step(&mut self.state, sample) {
            for value in output.values() {
                self.sum = self.sum.rotate_left(5) ^ value as u16 as u32;
            }
        }
        self.step += 1;
        self.step == STEPS
    }

    fn reset(&mut self) {
        if let Some(model) = &self.model {
            self.wrong += self.state.reset(model).is_err() as u32;
        }
        (self.step, self.sum) = (0, 0);
    }
}

// The handler, with the address of what the core has put on the stack. `GRU_BENCH_PLANT` makes one that does not
// give a register back: a program that is not wrong then would prove nothing.
core::arch::global_asm!(
    ".global SysTick",
    ".type SysTick, %function",
    ".thumb_func",
    "SysTick:",
    "mov r0, sp",
    "push {{r4, lr}}",
    "bl on_tick",
    include!(concat!(env!("OUT_DIR"), "/plant.rs")),
    "pop {{r4, pc}}",
    ".size SysTick, . - SysTick",
);

/// Notes where it came, takes a step, and lets the next interrupt come soon.
// SAFETY: the name is this program's own.
#[unsafe(no_mangle)]
extern "C" fn on_tick(frame: *const u32) {
    no_tick();
    // SAFETY: the core has put eight registers there; the seventh is the address of the next instruction.
    let at = unsafe { frame.add(6).read() }.wrapping_sub(ORIGIN) as usize / 2;
    if let Some(word) = SEEN.get(at / 32) {
        word.store(
            word.load(Ordering::Relaxed) | 1 << (at % 32),
            Ordering::Relaxed,
        );
    }
    // SAFETY: the thread uses it only while SysTick is off, and SysTick does not interrupt itself.
    let other = unsafe { &mut *other_stream() };
    if other.step() {
        other.wrong += (other.sum != other.wanted) as u32;
        other.reset();
    }
    let n = INTERRUPTS.load(Ordering::Relaxed);
    INTERRUPTS.store(n + 1, Ordering::Relaxed);
    if n > LAST.load(Ordering::Relaxed) {
        // A loop that an interrupt has made endless.
        process::exit(7);
    }
    tick_in(DELAY + n.wrapping_mul(37) % 419);
}

/// More ticks than the way out of the handler takes: with `-icount shift=6` an instruction takes at most two on these boards.
const DELAY: u32 = 150;

/// One interrupt after so many ticks.
fn tick_in(ticks: u32) {
    // SAFETY: the registers of SysTick; nothing else in this program uses it.
    unsafe {
        SYST.add(1).write_volatile(ticks);
        SYST.add(2).write_volatile(0);
        SYST.write_volatile(7);
    }
}

/// None until then, or it would come again as soon as the handler ends.
fn no_tick() {
    // SAFETY: as in `tick_in`.
    unsafe { SYST.write_volatile(0) };
}

/// Whether the model at the start of `bytes` computes its own digest, interrupted; so often that both meet everywhere.
fn agrees(bytes: &[u8]) -> bool {
    let Ok(model) = Model::load(bytes) else {
        return false;
    };
    let Ok(mut state) = State::<STATE>::new(&model) else {
        return false;
    };
    LAST.store(
        INTERRUPTS.load(Ordering::Relaxed) + 80_000,
        Ordering::Relaxed,
    );
    (0..3).all(|_| {
        tick_in(DELAY);
        let agrees = model.self_test(&mut state) == Ok(());
        no_tick();
        agrees
    })
}

#[entry]
fn main() -> ! {
    // The wrong kernel would agree as well, and prove nothing.
    if gru_core::kernel::ACTIVE != KERNEL {
        process::exit(2);
    }
    let mut rest = ARTIFACTS;
    let (mut models, mut wrong) = (0, 0);
    while !rest.is_empty() {
        let len = gru_core::stated_len(rest).unwrap_or(0);
        let Some((bytes, others)) = rest.split_at_checked(len) else {
            process::exit(3);
        };
        if models == INTERRUPTING {
            // SAFETY: SysTick is off.
            let other = unsafe { &mut *other_stream() };
            other.model = Model::load(bytes).ok();
            let Some(model) = &other.model else {
                process::exit(3);
            };
            if other.state.bind(model).is_err() || model.features() > 16 {
                process::exit(3);
            }
            while !other.step() {}
            other.wanted = other.sum;
            other.reset();
        }
        if models > INTERRUPTING {
            wrong += !agrees(bytes) as i32;
        }
        models += 1;
        rest = others;
    }
    // SAFETY: SysTick is off.
    let other = unsafe { &mut *other_stream() };
    let interrupts = INTERRUPTS.load(Ordering::Relaxed);
    let seen = SEEN.iter().map(|word| word.load(Ordering::Relaxed));
    let instructions: u32 = seen.map(u32::count_ones).sum();
    println!("{interrupts} interrupts at {instructions} instructions");
    process::exit(match (models, wrong, other.wrong, interrupts) {
        (MODELS, 0, 0, 10_000..) => 0,
        (MODELS, 0, 0, _) => 4,
        (MODELS, 0, ..) => 5,
        (MODELS, n, ..) => 100 + n.min(100),
        _ => 6,
    })
}

/// The model of this number is that of the interrupt; those behind it are interrupted.
const INTERRUPTING: i32 = 10;

#[exception]
unsafe fn HardFault(_: &ExceptionFrame) -> ! {
    process::exit(8)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    process::exit(99)
}
