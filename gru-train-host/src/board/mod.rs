//! Virtual boards: the real firmware, an artifact in its flash, recorded samples in, decisions and a digest out.
//!
//! [`run`] builds the firmware of `firmware-examples/stream` for the board, starts it in an emulator and
//! reads back what it answered. QEMU is used where it is installed; the emulator inside this program
//! otherwise, which needs nothing but runs slower and knows fewer boards.

pub mod cycles;
mod embedded;
mod firmware;
mod logs;
mod qemu;
mod response;
mod timing;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use gru_board_protocol::{CARRY_STATE, Counter, EVERY_STEP, RANDOM_STATE, RequestHeader, exit};

pub use embedded::flash_bytes;
pub use firmware::find_firmware;
pub use response::StepResult;

/// A board that the firmware runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Machine {
    /// Arm MPS2 AN386: Cortex-M4 with DSP and single-precision FPU.
    An386,
    /// Arm MPS2 AN385: Cortex-M3.
    An385,
    /// Arm MPS2 AN500: Cortex-M7.
    An500,
    /// Arm MPS2 AN505: Cortex-M33 with DSP.
    An505,
    /// Arm MPS3 AN547: Cortex-M55 with MVE.
    An547,
    /// BBC micro:bit: Cortex-M0 with 16 KB of RAM. Stands for the Cortex-M0+ as well: same instructions.
    Microbit,
    /// RISC-V `virt`: RV32IMC code without any vector or packed instructions.
    RiscvVirt,
}

/// Everything about a board that the host needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Name on the command line; QEMU's name of the machine.
    pub name: &'static str,
    pub core: &'static str,
    pub target: &'static str,
    /// Compiler flags beyond the target's own.
    pub rustflags: &'static [&'static str],
    /// Feature of the firmware, where the target does not say enough.
    pub feature: Option<&'static str>,
    pub qemu: &'static str,
    pub artifact_address: u64,
    pub artifact_capacity: u64,
    /// What QEMU's firmware counts, and how many of it pass during 64 instructions (`-icount shift=6`: 64 ns each).
    pub counter: Counter,
    pub ticks_per_64_instructions: f64,
}

impl Machine {
    /// All boards.
    pub const ALL: [Self; 7] = [
        Self::An386,
        Self::An385,
        Self::An500,
        Self::An505,
        Self::An547,
        Self::Microbit,
        Self::RiscvVirt,
    ];

    /// The board with this name, e.g. `mps2-an386`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.facts().name == name)
    }

    /// Its name, which is QEMU's.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// Its processor core, e.g. `Cortex-M4`.
    pub fn core(self) -> &'static str {
        self.facts().core
    }

    /// The Rust target that its firmware is built for.
    pub fn target(self) -> &'static str {
        self.facts().target
    }

    /// Whether the emulator inside this program knows the board.
    pub fn has_embedded(self) -> bool {
        embedded::config(self).is_some()
    }

    pub(crate) fn facts(self) -> Facts {
        // SysTick runs at the core clock: ticks per 64 instructions = 64 × 64 ns × clock.
        let systick = |mhz: f64| 64.0 * 64.0 * mhz * 1e-3;
        let mps2 = Facts {
            name: "mps2-an386",
            core: "Cortex-M4",
            target: "thumbv7em-none-eabihf",
            rustflags: &[],
            feature: None,
            qemu: "qemu-system-arm",
            artifact_address: 0x0020_0000,
            artifact_capacity: 2 << 20,
            counter: Counter::SysTick,
            ticks_per_64_instructions: systick(25.0),
        };
        match self {
            Self::An386 => mps2,
            Self::An385 => Facts {
                name: "mps2-an385",
                core: "Cortex-M3",
                target: "thumbv7m-none-eabi",
                ..mps2
            },
            Self::An500 => Facts {
                name: "mps2-an500",
                core: "Cortex-M7",
                ..mps2
            },
            Self::An505 => Facts {
                name: "mps2-an505",
                core: "Cortex-M33",
                target: "thumbv8m.main-none-eabihf",
                // Without it the assembler refuses DSP instructions for this target.
                rustflags: &["-C", "target-cpu=cortex-m33"],
                artifact_address: 0x1020_0000,
                ticks_per_64_instructions: systick(20.0),
                ..mps2
            },
            Self::An547 => Facts {
                name: "mps3-an547",
                core: "Cortex-M55",
                target: "thumbv8m.main-none-eabihf",
                rustflags: &["-C", "target-cpu=cortex-m55"],
                feature: Some("an547"),
                artifact_address: 0x1100_0000,
                ticks_per_64_instructions: systick(32.0),
                ..mps2
            },
            Self::Microbit => Facts {
                name: "microbit",
                core: "Cortex-M0",
                target: "thumbv6m-none-eabi",
                artifact_address: 0x0002_0000,
                artifact_capacity: 128 << 10,
                ticks_per_64_instructions: systick(16.0),
                ..mps2
            },
            Self::RiscvVirt => Facts {
                name: "virt",
                core: "RISC-V RV32IMC",
                target: "riscv32imc-unknown-none-elf",
                qemu: "qemu-system-riscv32",
                artifact_address: 0x8020_0000,
                counter: Counter::Instret,
                // QEMU's `minstret` is virtual time in ns.
                ticks_per_64_instructions: 64.0 * 64.0,
                ..mps2
            },
        }
    }
}

/// Which emulator to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Emulator {
    /// QEMU where it is installed, the embedded emulator otherwise.
    #[default]
    Auto,
    /// QEMU, or an error.
    Qemu,
    /// The emulator inside this program, or an error.
    Embedded,
}

/// How to run a board.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which emulator to use.
    pub emulator: Emulator,
    /// The folder `firmware-examples`; searched for if not given (see [`find_firmware`]).
    pub firmware: Option<PathBuf>,
    /// Report every step, not only the end of each sequence.
    pub every_step: bool,
    /// Carry the hidden state from one sequence into the next instead of resetting it.
    pub carry_state: bool,
    /// Before each step the state becomes random words, saturated ones among them.
    pub random_state: bool,
    /// A feature of the firmware with a planted fault, for checks that have to find it.
    pub planted: Option<&'static str>,
    /// The emulation is ended after this time. `None`: a minute, and more for a long stream.
    pub time_limit: Option<Duration>,
    /// Told in one line what takes a while (adding a Rust target, building the firmware).
    pub notify: fn(&str),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            emulator: Emulator::Auto,
            firmware: None,
            every_step: false,
            carry_state: false,
            random_state: false,
            planted: None,
            time_limit: None,
            notify: |line| eprintln!("{line}"),
        }
    }
}

/// What a board answered.
#[derive(Debug, Clone, PartialEq)]
pub struct BoardReport {
    /// The board, e.g. `mps2-an386 (Cortex-M4)`.
    pub board: String,
    /// What emulated it, e.g. `QEMU 7.2.22` or `embedded emulator (rsemu 0.0.7)`.
    pub emulator: String,
    /// Class of each sequence at its end; `None` where the model has not decided.
    pub predictions: Vec<Option<u16>>,
    /// Logits of each sequence at its end.
    pub logits: Vec<Vec<i16>>,
    /// With [`Options::every_step`]: what each step of each sequence gave.
    pub step_results: Vec<Vec<StepResult>>,
    /// 64-bit FNV-1a over all hidden states (each step, each layer, H little-endian i16, unpadded).
    pub digest: u64,
    /// Time steps that were run.
    pub steps: u64,
    /// Instructions of one step, averaged over the stream. Instructions, not cycles.
    pub instructions_per_step: f64,
    /// Instructions of the cheapest and of the dearest step; exact in the embedded emulator, within one tick of the
    /// timer in QEMU; 0 for models that read windows, whose steps are not run one by one.
    pub step_range: [f64; 2],
    /// Instructions of one tick of the counter.
    pub tick: f64,
    /// Instructions of `load`: every check of the artifact, once.
    pub load_instructions: f64,
    /// Bytes of the model's state.
    pub state_bytes: u32,
    /// Stack that `load` uses, in bytes; 0 if it was not measured.
    pub load_stack_bytes: u32,
    /// Stack that a step uses, in bytes; 0 if it was not measured.
    pub step_stack_bytes: u32,
    /// Bytes that the firmware occupies in flash, without the artifact.
    pub firmware_bytes: u64,
    /// The firmware's log, decoded.
    pub logs: Vec<String>,
    /// How long the emulation took.
    pub seconds: f64,
}

/// Why a board gave no answer. One line each.
#[derive(Debug)]
#[non_exhaustive]
pub enum BoardError {
    /// The folder `firmware-examples` was not found.
    NoFirmware(String),
    /// A Rust target is missing and could not be added.
    Target(String),
    /// The firmware did not build.
    Build(String),
    /// The forced emulator is not there, or does not know the board.
    Emulator(String),
    /// The artifact or the samples do not fit the board or the request.
    Input(String),
    /// A file or a program of this machine.
    Io(String),
    /// The firmware ended with an error.
    Firmware {
        /// What its exit code means.
        what: String,
        /// Its exit code.
        code: i32,
        /// Its log, decoded.
        logs: Vec<String>,
    },
    /// The emulation was ended by its time limit.
    TimeLimit {
        /// The limit.
        seconds: f64,
        /// The firmware's log until then.
        logs: Vec<String>,
    },
    /// The firmware's answer is not one.
    Response(String),
}

impl fmt::Display for BoardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let logged = |f: &mut fmt::Formatter<'_>, logs: &[String]| {
            if logs.is_empty() {
                write!(f, "; it logged nothing")
            } else {
                // The last lines tell why.
                let last = &logs[logs.len().saturating_sub(3)..];
                write!(f, "; its log ends: {}", last.join(" | "))
            }
        };
        match self {
            Self::NoFirmware(text)
            | Self::Target(text)
            | Self::Build(text)
            | Self::Emulator(text)
            | Self::Input(text)
            | Self::Io(text)
            | Self::Response(text) => f.write_str(text),
            Self::Firmware { what, code, logs } => {
                write!(f, "firmware: {what} (exit code {code})")?;
                logged(f, logs)
            }
            Self::TimeLimit { seconds, logs } => {
                write!(
                    f,
                    "firmware: did not end within {seconds:.0} s and was stopped"
                )?;
                logged(f, logs)
            }
        }
    }
}

impl std::error::Error for BoardError {}

/// One run of the firmware, ready for an emulator.
pub(crate) struct Job<'a> {
    pub machine: Machine,
    /// The firmware's ELF file.
    pub elf: &'a [u8],
    pub elf_path: &'a std::path::Path,
    pub artifact: &'a [u8],
    pub request: Vec<u8>,
    pub time_limit: Duration,
}

/// What an emulator gives back.
pub(crate) struct Outcome {
    pub exit_code: i32,
    pub response: Vec<u8>,
    /// The firmware's standard output: defmt frames.
    pub output: Vec<u8>,
    /// What the emulator itself complained about.
    pub complaints: String,
    /// Stopped by the time limit.
    pub timed_out: bool,
    pub emulator: String,
}

/// Builds the firmware for `machine`, so that a later [`run`] need not.
///
/// # Errors
/// A missing target that cannot be added, or a build that fails.
pub fn prepare(machine: Machine, options: &Options) -> Result<(), BoardError> {
    firmware::build(machine, options).map(|_| ())
}

/// Runs `sequences` of raw samples (each a whole number of samples of `features` values) through `artifact` on a board.
///
/// Builds the firmware if need be, and adds the Rust target that it needs. Prefer few long calls: each starts an emulator.
/// Where a layer reads windows from their end each sequence is one window, with one result, and a board has room for 2,048
/// steps, 16,384 values and 64 KiB of [window](gru_core::Window), the small one (microbit) for 64, 512 and 2 KiB.
///
/// # Errors
/// Everything that [`BoardError`] lists, each in one line.
pub fn run<'a>(
    machine: Machine,
    artifact: &[u8],
    features: usize,
    sequences: impl IntoIterator<Item = &'a [i16]>,
    options: &Options,
) -> Result<BoardReport, BoardError> {
    let facts = machine.facts();
    let use_qemu = match options.emulator {
        Emulator::Qemu => true,
        Emulator::Embedded => false,
        Emulator::Auto => qemu::version(facts.qemu).is_some() || !machine.has_embedded(),
    };
    if use_qemu && qemu::version(facts.qemu).is_none() {
        return Err(BoardError::Emulator(format!(
            "board {}: {} is not installed{}",
            facts.name,
            facts.qemu,
            if machine.has_embedded() {
                ""
            } else {
                ", and the embedded emulator does not know this board"
            }
        )));
    }
    if !use_qemu && !machine.has_embedded() {
        return Err(BoardError::Emulator(format!(
            "board {}: the embedded emulator does not know {}",
            facts.name, facts.core
        )));
    }
    if artifact.len() as u64 > facts.artifact_capacity {
        return Err(BoardError::Input(format!(
            "artifact: {} bytes, the board {} has room for {}",
            artifact.len(),
            facts.name,
            facts.artifact_capacity
        )));
    }

    let counter = if use_qemu {
        facts.counter
    } else {
        Counter::Elapsed
    };
    let (request, steps) = encode_request(features, sequences, options, counter)?;
    let time_limit = options.time_limit.unwrap_or_else(|| {
        // Slowest seen: 0.4 ms a step (embedded emulator, 32 units). Ten times that, on top of a minute.
        Duration::from_secs(60) + Duration::from_millis(4 * steps)
    });

    let firmware = firmware::build(machine, options)?;
    let elf = std::fs::read(&firmware).map_err(|e| io_error(&firmware, &e))?;
    let job = Job {
        machine,
        elf: &elf,
        elf_path: &firmware,
        artifact,
        request,
        time_limit,
    };
    let started = std::time::Instant::now();
    let outcome = if use_qemu {
        qemu::run(&job)?
    } else {
        embedded::run(&job)?
    };
    let seconds = started.elapsed().as_secs_f64();

    let logs = logs::decode(&elf, &outcome.output);
    if outcome.timed_out {
        return Err(BoardError::TimeLimit {
            seconds: time_limit.as_secs_f64(),
            logs,
        });
    }
    if outcome.exit_code != exit::OK {
        return Err(BoardError::Firmware {
            what: meaning(outcome.exit_code, &outcome.complaints),
            code: outcome.exit_code,
            logs,
        });
    }
    let answer = response::parse(&outcome.response).map_err(BoardError::Response)?;
    if answer.trailer.steps != steps {
        return Err(BoardError::Response(format!(
            "firmware: answered {} steps of {steps}",
            answer.trailer.steps
        )));
    }
    let trailer = &answer.trailer;
    let overhead = f64::from(trailer.overhead_ticks) / 256.0;
    let instructions = |ticks: f64, measurements: u64| {
        let ticks = ticks - measurements as f64 * overhead;
        if use_qemu {
            ticks * 64.0 / facts.ticks_per_64_instructions
        } else {
            ticks
        }
    };
    Ok(BoardReport {
        board: format!("{} ({})", facts.name, facts.core),
        emulator: outcome.emulator,
        predictions: answer.predictions,
        logits: answer.logits,
        step_results: answer.step_results,
        digest: answer.trailer.digest,
        steps,
        instructions_per_step: if steps == 0 {
            0.0
        } else {
            instructions(trailer.ticks as f64, steps) / steps as f64
        },
        // Steps of a window are not measured one by one.
        step_range: match trailer.most_ticks {
            0 => [0.0; 2],
            _ => [trailer.fewest_ticks, trailer.most_ticks].map(|t| instructions(f64::from(t), 1)),
        },
        tick: match use_qemu {
            true => 64.0 / facts.ticks_per_64_instructions,
            false => 1.0,
        },
        load_instructions: instructions(f64::from(trailer.load_ticks), 1),
        state_bytes: trailer.state_bytes,
        load_stack_bytes: trailer.load_stack_bytes,
        step_stack_bytes: trailer.step_stack_bytes,
        firmware_bytes: flash_bytes(&elf),
        logs,
        seconds,
    })
}

/// What would emulate this board with these options, e.g. `QEMU 7.2.22`; `None` if nothing here can.
pub fn emulator_name(machine: Machine, emulator: Emulator) -> Option<String> {
    let qemu = || qemu::version(machine.facts().qemu);
    let embedded = || machine.has_embedded().then(|| embedded::NAME.to_owned());
    match emulator {
        Emulator::Qemu => qemu(),
        Emulator::Embedded => embedded(),
        Emulator::Auto => qemu().or_else(embedded),
    }
}

/// The request file, and how many steps it asks for.
fn encode_request<'a>(
    features: usize,
    sequences: impl IntoIterator<Item = &'a [i16]>,
    options: &Options,
    counter: Counter,
) -> Result<(Vec<u8>, u64), BoardError> {
    let width = u16::try_from(features)
        .ok()
        .filter(|width| *width > 0)
        .ok_or_else(|| {
            BoardError::Input(format!("samples: {features} features, 1 to 65535 can be"))
        })?;
    let mut flags = 0;
    if options.every_step {
        flags |= EVERY_STEP;
    }
    if options.carry_state {
        flags |= CARRY_STATE;
    }
    if options.random_state {
        flags |= RANDOM_STATE;
    }
    let mut body = Vec::new();
    let mut count = 0u32;
    let mut total_steps = 0u64;
    for (index, samples) in sequences.into_iter().enumerate() {
        if samples.len() % features != 0 {
            return Err(BoardError::Input(format!(
                "sequence {index}: {} values are not whole samples of {features} features",
                samples.len()
            )));
        }
        let steps = u32::try_from(samples.len() / features)
            .map_err(|_| BoardError::Input(format!("sequence {index}: too many steps")))?;
        count += 1;
        total_steps += u64::from(steps);
        body.extend_from_slice(&steps.to_le_bytes());
        body.extend(samples.iter().flat_map(|value| value.to_le_bytes()));
    }
    let header = RequestHeader {
        flags,
        sequences: count,
        features: width,
        counter,
    };
    let mut request = header.to_bytes().to_vec();
    request.append(&mut body);
    Ok((request, total_steps))
}

/// What an exit code of the firmware, or of its emulator, means.
fn meaning(code: i32, complaints: &str) -> String {
    match code {
        exit::LOAD => "the artifact was refused".to_owned(),
        exit::STEP => "a step was refused".to_owned(),
        exit::IO => "a file could not be used".to_owned(),
        exit::REQUEST => "the request was refused".to_owned(),
        exit::CAPACITY => "the model is larger than its buffers".to_owned(),
        exit::PANIC => "it panicked".to_owned(),
        exit::FAULT => "it faulted".to_owned(),
        _ => {
            let line = complaints.lines().next_back().unwrap_or("no message");
            format!("the emulator gave up: {line}")
        }
    }
}

fn io_error(path: &std::path::Path, error: &std::io::Error) -> BoardError {
    BoardError::Io(format!("{}: {error}", path.display()))
}
