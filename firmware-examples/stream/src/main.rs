//! Streams recorded samples through a model on an emulated board.
//!
//! One program for every board. The model lies in a flash region of its own, samples come in through
//! a file of the host (semihosting), decisions and a digest of all hidden states go out through another,
//! and the log is `defmt`. `gru-board-protocol` documents both files; `gru run --board` and
//! `gru demo` speak it from the other side.
#![no_std]
#![no_main]

mod app;
mod board;
mod files;

// Linked for what they define: the logger, and the critical section that it needs.
#[cfg(target_arch = "arm")]
use cortex_m as _;
use defmt_semihosting as _;
use gru_board_protocol::exit;
#[cfg(target_arch = "riscv32")]
use riscv as _;

/// Runs the stream and ends the emulator with an exit code.
fn run() -> ! {
    let code = match app::run() {
        Ok(()) => exit::OK,
        Err(failure) => {
            defmt::error!("{}", failure);
            failure.exit_code()
        }
    };
    semihosting::process::exit(code)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // The location is enough, and formatting the message would use a lot of stack.
    match info.location() {
        Some(at) => defmt::error!("panic at {=str}:{=u32}", at.file(), at.line()),
        None => defmt::error!("panic"),
    }
    semihosting::process::exit(exit::PANIC)
}

#[cfg(target_arch = "arm")]
mod start {
    use cortex_m_rt::ExceptionFrame;
    use gru_board_protocol::exit;

    #[cortex_m_rt::entry]
    fn main() -> ! {
        super::run()
    }

    #[cortex_m_rt::exception]
    unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
        defmt::error!(
            "hard fault at pc {=u32:#010x}, lr {=u32:#010x}",
            frame.pc(),
            frame.lr()
        );
        semihosting::process::exit(exit::FAULT)
    }
}

#[cfg(target_arch = "riscv32")]
mod start {
    use gru_board_protocol::exit;

    #[riscv_rt::entry]
    fn main() -> ! {
        super::run()
    }

    #[unsafe(export_name = "ExceptionHandler")]
    fn exception(_frame: &riscv_rt::TrapFrame) -> ! {
        defmt::error!(
            "trap {=usize:#x} at pc {=usize:#010x}",
            riscv::register::mcause::read().bits(),
            riscv::register::mepc::read()
        );
        semihosting::process::exit(exit::FAULT)
    }
}
