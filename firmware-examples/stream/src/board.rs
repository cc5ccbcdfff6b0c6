//! What differs between boards: where the artifact lies, how instructions are counted, how deep the stack went.

use gru_board_protocol::Counter;

unsafe extern "C" {
    /// Start of the artifact's flash region (`memory.x`).
    static _artifact_start: u8;
    /// End of that region.
    static _artifact_end: u8;
}

/// The artifact's whole flash region.
pub fn artifact_region() -> &'static [u8] {
    let start = &raw const _artifact_start;
    let end = &raw const _artifact_end;
    // SAFETY: `memory.x` puts both symbols at the ends of one memory region that nothing else is linked into
    // and that this program never writes, so it is initialised, readable and constant for the whole run.
    unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// Counts something around a piece of code, in the way that the host asked for.
pub struct Meter {
    counter: Counter,
    /// Sum over all measurements so far.
    pub ticks: u64,
}

impl Meter {
    /// Prepares the counter.
    pub fn new(counter: Counter) -> Self {
        #[cfg(target_arch = "arm")]
        if counter == Counter::SysTick {
            systick::start();
        }
        Self { counter, ticks: 0 }
    }

    /// Runs `work` and adds its cost.
    #[inline(always)]
    pub fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        match self.counter {
            #[cfg(target_arch = "arm")]
            Counter::SysTick => {
                let before = systick::now();
                let out = work();
                let after = systick::now();
                // It counts down, 24 bits wide.
                self.ticks += u64::from(before.wrapping_sub(after) & 0x00ff_ffff);
                out
            }
            #[cfg(target_arch = "riscv32")]
            Counter::Instret => {
                let before = riscv::register::minstret::read64();
                let out = work();
                self.ticks += riscv::register::minstret::read64().wrapping_sub(before);
                out
            }
            Counter::Elapsed => {
                let before = elapsed();
                let out = work();
                self.ticks += elapsed().wrapping_sub(before);
                out
            }
            _ => work(),
        }
    }

    /// The same for work that can take longer than the timer takes to come round: an interrupt counts the turns.
    #[inline(never)]
    pub fn measure_long<T>(&mut self, work: impl FnOnce() -> T) -> T {
        #[cfg(target_arch = "arm")]
        if self.counter == Counter::SysTick {
            systick::count_turns();
            let before = systick::long_now();
            let out = work();
            self.ticks += systick::long_now() - before;
            return out;
        }
        self.measure(work)
    }

    /// What 256 measurements of nothing cost.
    pub fn overhead_of_256(&self) -> u32 {
        let mut empty = Self {
            counter: self.counter,
            ticks: 0,
        };
        for _ in 0..256 {
            empty.measure(|| core::hint::black_box(()));
        }
        u32::try_from(empty.ticks).unwrap_or(u32::MAX)
    }
}

/// How far below the caller's stack [`stack_used_by`] looks, at most.
#[cfg(target_arch = "arm")]
const STACK_WINDOW: usize = 8 * 1024;

#[cfg(target_arch = "arm")]
unsafe extern "C" {
    /// Lowest address of the stack (cortex-m-rt): the end of the statics.
    static _stack_end: u8;
}

/// Runs `work` and measures how deep it reaches into the stack, in bytes; 0 where that is not measured.
///
/// The stack below is painted first, and searched afterwards for where the paint is gone. Cortex-M only.
#[cfg(target_arch = "arm")]
#[inline(never)]
pub fn stack_used_by<T>(work: impl FnOnce() -> T) -> (T, u32) {
    const PAINT: u32 = 0xa5a5_5a5a;
    // What the painting loop itself may still need below the stack pointer.
    const MARGIN: usize = 32;
    let top = (cortex_m::register::msp::read() as usize - MARGIN) & !3;
    let lowest = (&raw const _stack_end).addr().next_multiple_of(4);
    let lowest = lowest.max(top.saturating_sub(STACK_WINDOW));
    let words = || (lowest..top).step_by(4);
    for address in words() {
        // SAFETY: this lies between the end of the statics and the stack pointer of the only thread, in RAM that
        // belongs to the stack alone; it is word-aligned, and no interrupt is enabled.
        unsafe { core::ptr::with_exposed_provenance_mut::<u32>(address).write_volatile(PAINT) };
    }
    let out = work();
    let deepest = words().find(|address| {
        // SAFETY: as above; the loop has written it.
        let word = unsafe { core::ptr::with_exposed_provenance::<u32>(*address).read_volatile() };
        word != PAINT
    });
    let used = deepest.map_or(0, |address| top + MARGIN - address);
    (out, u32::try_from(used).unwrap_or(u32::MAX))
}

/// Runs `work`; the stack is not measured here.
#[cfg(not(target_arch = "arm"))]
pub fn stack_used_by<T>(work: impl FnOnce() -> T) -> (T, u32) {
    (work(), 0)
}

/// A planted fault: work whose amount depends on the hidden state.
#[cfg(feature = "planted-branch")]
#[inline(never)]
pub fn branchy(hidden: Option<&[i16]>) {
    for h in hidden.unwrap_or_default() {
        if *h > 0 {
            core::hint::black_box(h);
        }
    }
}

#[inline(never)]
fn elapsed() -> u64 {
    semihosting::sys::arm_compat::sys_elapsed().unwrap_or(0)
}

#[cfg(target_arch = "arm")]
mod systick {
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use cortex_m::peripheral::{SYST, syst::SystClkSource};

    /// Counts down from the largest value at the core clock, without an interrupt.
    pub fn start() {
        // SAFETY: single-threaded program without interrupts, and nothing else in it uses SysTick.
        let mut timer = unsafe { cortex_m::Peripherals::steal() }.SYST;
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(0x00ff_ffff);
        timer.clear_current();
        timer.enable_counter();
    }

    #[inline(always)]
    pub fn now() -> u32 {
        SYST::get_current()
    }

    /// How often the timer has come round.
    static TURNS: AtomicU32 = AtomicU32::new(0);

    #[cortex_m_rt::exception]
    fn SysTick() {
        TURNS.store(TURNS.load(Relaxed) + 1, Relaxed);
    }

    /// From now on an interrupt counts the turns. Not before stacks have been measured.
    pub fn count_turns() {
        // SAFETY: single-threaded program, and nothing else in it uses SysTick but the handler, which only counts.
        unsafe { cortex_m::Peripherals::steal() }
            .SYST
            .enable_interrupt();
    }

    /// Ticks since some point in the past, without an end.
    pub fn long_now() -> u64 {
        loop {
            let turns = TURNS.load(Relaxed);
            let left = now();
            if TURNS.load(Relaxed) == turns {
                return (u64::from(turns) << 24) + u64::from(0x00ff_ffff - left);
            }
        }
    }
}
