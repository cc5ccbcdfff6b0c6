//! Rows 9 to 13: what a device links, its stack, the duration of a step, and its bits.
//!
//! These need Rust targets for Cortex-M and emulators. What is missing is said as [`Trouble::Missing`], so that a row
//! can be "not measured here" instead of held.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use gru_core::artifact::Readout;
use gru_core::layout::Layout;
use gru_core::random;
use gru_core::writer::{Aligned, QuantModel, host_state, write};
use gru_core::{Digest, Model};

use crate::board::{self, BoardError, BoardReport, Emulator, Machine, Options};

/// Why a check gave no verdict, or a bad one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// This machine lacks what the check needs.
    Missing(String),
    /// The check itself failed.
    Failed(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(what) | Self::Failed(what) => f.write_str(what),
        }
    }
}

impl From<BoardError> for Trouble {
    fn from(e: BoardError) -> Self {
        match e {
            BoardError::Target(_) | BoardError::NoFirmware(_) => Self::Missing(e.to_string()),
            _ => Self::Failed(e.to_string()),
        }
    }
}

// ---- rows 9 and 10: the linked image ------------------------------------------------------------

/// A Rust target and, where it chooses another kernel, a processor.
pub type Target = (&'static str, Option<&'static str>);

/// Every core that the kernels tell apart.
pub const TARGETS: [Target; 6] = [
    ("thumbv6m-none-eabi", None),
    ("thumbv7m-none-eabi", None),
    ("thumbv7em-none-eabihf", None),
    ("thumbv8m.main-none-eabihf", None),
    ("thumbv8m.main-none-eabihf", Some("cortex-m33")),
    ("thumbv8m.main-none-eabihf", Some("cortex-m55")),
];

/// Bytes of flash that load, self-test, step, window, decisions, snapshot and restore may take together, per optimization level:
/// a tenth above what was measured when this was written, on the largest of the targets.
pub const FLASH_BUDGETS: [(&str, u64); 2] = [("3", 70_000), ("s", 44_000)];
/// The same for an image that takes its own kernel's layout only (feature `smallest`), at opt-level s.
pub const SMALLEST_BUDGET: u64 = 17_000;
/// What a kernel of a feature may add to that on the targets that have one; others take nothing more.
pub const KERNEL_BUDGETS: [(&str, u64); 2] = [("int4", 6_600), ("sparse", 5_200)];

/// How the routines begin that float arithmetic becomes on a core without FPU: tables 2 to 8 of the run-time ABI of the Arm
/// architecture, then what the compiler's own library calls them.
pub const FLOAT: [&str; 67] = [
    // Arithmetic and comparison, double and single.
    "__aeabi_dadd",
    "__aeabi_ddiv",
    "__aeabi_dmul",
    "__aeabi_drsub",
    "__aeabi_dsub",
    "__aeabi_dneg",
    "__aeabi_dcmp",
    "__aeabi_cdcmp",
    "__aeabi_cdrcmple",
    "__aeabi_fadd",
    "__aeabi_fdiv",
    "__aeabi_fmul",
    "__aeabi_frsub",
    "__aeabi_fsub",
    "__aeabi_fneg",
    "__aeabi_fcmp",
    "__aeabi_cfcmp",
    "__aeabi_cfrcmple",
    // To integers, from integers, and between floats.
    "__aeabi_d2iz",
    "__aeabi_d2uiz",
    "__aeabi_d2lz",
    "__aeabi_d2ulz",
    "__aeabi_f2iz",
    "__aeabi_f2uiz",
    "__aeabi_f2lz",
    "__aeabi_f2ulz",
    "__aeabi_i2d",
    "__aeabi_ui2d",
    "__aeabi_l2d",
    "__aeabi_ul2d",
    "__aeabi_i2f",
    "__aeabi_ui2f",
    "__aeabi_l2f",
    "__aeabi_ul2f",
    "__aeabi_d2f",
    "__aeabi_f2d",
    "__aeabi_d2h",
    "__aeabi_f2h",
    "__aeabi_h2f",
    // The compiler's library.
    "__addsf3",
    "__subsf3",
    "__mulsf3",
    "__divsf3",
    "__adddf3",
    "__subdf3",
    "__muldf3",
    "__divdf3",
    "__eqsf2",
    "__nesf2",
    "__ltsf2",
    "__lesf2",
    "__gtsf2",
    "__gesf2",
    "__unordsf2",
    "__eqdf2",
    "__nedf2",
    "__ltdf2",
    "__ledf2",
    "__gtdf2",
    "__gedf2",
    "__unorddf2",
    "__fix",
    "__float",
    "__extend",
    "__trunc",
    "__powisf2",
    "__powidf2",
];
/// The allocator's entrances.
pub const ALLOCATOR: [&str; 4] = ["__rust_alloc", "__rg_alloc", "__rdl_alloc", "malloc"];

/// What the linker says of the planted panic.
const CAN_PANIC: &str = "undefined symbol: gru_core_can_panic";

/// The images share one target folder, and with it their name.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A linked image.
pub struct Image {
    /// The ELF file.
    pub elf: Vec<u8>,
    /// The bytes of it that go into flash.
    pub flash: u64,
}

/// Beside the emulator's firmware, so that nothing is left in the sources.
fn target_dir(root: &Path) -> PathBuf {
    let dir =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    std::path::absolute(&dir)
        .unwrap_or(dir)
        .join("firmware/nopanic")
}

/// Links `firmware-examples/nopanic`, which links only if nothing in it can panic; `features` plant a fault, or begin with
/// "smallest" for an image without what the portable kernel runs, but with the kernels of those that follow.
///
/// # Errors
/// [`Trouble::Missing`] without the target; else what the linker says.
pub fn link(
    root: &Path,
    (target, cpu): Target,
    level: &str,
    features: &[&str],
) -> Result<Image, Trouble> {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let opt_level = match level {
        "3" => "profile.release.opt-level=3".to_owned(),
        level => format!("profile.release.opt-level=\"{level}\""),
    };
    let (smallest, features) = match features {
        ["smallest", others @ ..] => (Some(()), others),
        all => (None, all),
    };
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root.join("firmware-examples"))
        .args(["build", "--release", "--package", "nopanic"])
        .args(["--target", target, "--config", &opt_level])
        .args(["--config", "profile.release.debug=false"])
        .args(smallest.map(|_| "--no-default-features"))
        .args(["--features", &features.join(",")])
        .arg("--target-dir")
        .arg(target_dir(root))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            cpu.map_or(String::new(), |cpu| format!("-Ctarget-cpu={cpu}")),
        );
    let output: Output = (command.output()).map_err(|e| Trouble::Missing(format!("cargo: {e}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(match text.contains("target may not be installed") {
            true => Trouble::Missing(format!("the Rust target {target}")),
            false => Trouble::Failed(text),
        });
    }
    let path = target_dir(root).join(target).join("release/nopanic");
    let elf =
        std::fs::read(&path).map_err(|e| Trouble::Failed(format!("{}: {e}", path.display())))?;
    let flash = board::flash_bytes(&elf);
    Ok(Image { elf, flash })
}

/// Which symbols of the image start with one of these names.
#[must_use]
pub fn symbols<'a>(elf: &[u8], starts: &[&'a str]) -> Vec<&'a str> {
    starts
        .iter()
        .copied()
        .filter(|start| {
            let name = [b"\0", start.as_bytes()].concat();
            elf.windows(name.len()).any(|window| window == name)
        })
        .collect()
}

/// Whether the planted panic is found on this target: it must not link, and for the right reason.
///
/// # Errors
/// As [`link`].
pub fn planted_panic_is_found(root: &Path, target: Target) -> Result<bool, Trouble> {
    planted_panic_among(root, target, "3", &["planted-panic"])
}

/// The same of an image with these features, "planted-panic" among them.
///
/// # Errors
/// As [`link`].
pub fn planted_panic_among(
    root: &Path,
    target: Target,
    level: &str,
    features: &[&str],
) -> Result<bool, Trouble> {
    match link(root, target, level, features) {
        Err(Trouble::Failed(text)) => Ok(text.contains(CAN_PANIC)),
        Err(missing) => Err(missing),
        Ok(_) => Ok(false),
    }
}

/// What the planted float arithmetic calls: one routine of each kind.
pub const PLANTED_FLOAT: [&str; 6] = [
    "__aeabi_fmul",
    "__aeabi_fcmp",
    "__aeabi_dsub",
    "__aeabi_ddiv",
    "__aeabi_f2lz",
    "__aeabi_ul2f",
];

/// Whether all planted float arithmetic is found.
///
/// # Errors
/// As [`link`].
pub fn planted_float_is_found(root: &Path) -> Result<bool, Trouble> {
    let image = link(root, TARGETS[0], "3", &["planted-float"])?;
    let found = symbols(&image.elf, &FLOAT);
    Ok(PLANTED_FLOAT.iter().all(|name| found.contains(name)))
}

/// Figures of [`images`].
#[derive(Debug, Clone, Default)]
pub struct Images {
    /// Images linked, each a target and an optimization level.
    pub linked: u64,
    /// Images with a path to a panic.
    pub panics: u64,
    /// Symbols of allocators.
    pub allocators: u64,
    /// Symbols of float arithmetic.
    pub floats: u64,
    /// Flash of the largest image at opt-level 3 and s.
    pub flash: [u64; 2],
    /// The first trouble in words.
    pub first: Option<String>,
}

/// Links every target at both optimization levels and looks through the symbols.
///
/// # Errors
/// [`Trouble::Missing`] where a target is not installed.
pub fn images(root: &Path) -> Result<Images, Trouble> {
    let mut found = Images::default();
    for target in TARGETS {
        for (n, (level, budget)) in FLASH_BUDGETS.into_iter().enumerate() {
            let name = format!(
                "{} {} at opt-level {level}",
                target.0,
                target.1.unwrap_or("")
            );
            match link(root, target, level, &[]) {
                Ok(image) => {
                    found.linked += 1;
                    found.allocators += symbols(&image.elf, &ALLOCATOR).len() as u64;
                    found.floats += symbols(&image.elf, &FLOAT).len() as u64;
                    found.flash[n] = found.flash[n].max(image.flash);
                    if image.flash > budget {
                        found.first.get_or_insert(format!(
                            "{name}: {} bytes of flash, budget {budget}",
                            image.flash
                        ));
                    }
                }
                Err(Trouble::Failed(text)) => {
                    found.panics += u64::from(text.contains(CAN_PANIC));
                    let line = text.lines().find(|line| line.contains("error"));
                    let line = line.unwrap_or("does not link");
                    found.first.get_or_insert(format!("{name}: {line}"));
                }
                Err(missing) => return Err(missing),
            }
        }
    }
    Ok(found)
}

// ---- rows 11 to 13: boards ----------------------------------------------------------------------

/// Bytes of stack that `load` may take on any core.
pub const LOAD_STACK: u32 = 2048;
/// Bytes of stack that `load` and a step may take where the portable kernel runs a variant that no other one has.
pub const PORTABLE_STACK: u32 = 2304;
/// Bytes of stack that a step may take with the core's own kernel.
pub const STEP_STACK: u32 = 512;

/// The boards that something here emulates, each with the first of `order` that does.
fn available(order: [Emulator; 2]) -> Vec<(Machine, Emulator)> {
    (Machine::ALL.into_iter())
        .filter_map(|machine| {
            let can = |e: &Emulator| board::emulator_name(machine, *e).is_some();
            order.into_iter().find(can).map(|e| (machine, e))
        })
        .collect()
}

/// Every board, in QEMU where there is a choice: it is faster.
#[must_use]
pub fn fastest() -> Vec<(Machine, Emulator)> {
    available([Emulator::Qemu, Emulator::Embedded])
}

/// Every board, in the embedded emulator where there is a choice: it counts every instruction.
#[must_use]
pub fn exact() -> Vec<(Machine, Emulator)> {
    available([Emulator::Embedded, Emulator::Qemu])
}

/// The cores that nothing here emulates.
#[must_use]
pub fn absent() -> Vec<&'static str> {
    let can = |m: &Machine| board::emulator_name(*m, Emulator::Auto).is_some();
    (Machine::ALL.into_iter().filter(|m| !can(m)))
        .map(Machine::core)
        .collect()
}

/// What CI demands and a laptop need not have.
#[must_use]
pub fn everything_is_required() -> bool {
    std::env::var_os("GRU_REQUIRE_QEMU").is_some_and(|value| value == "1")
}

/// The layout that the core's kernel runs, and the kernel's name.
#[must_use]
pub fn kernel_of(machine: Machine) -> (Layout, &'static str) {
    match machine {
        Machine::An386 | Machine::An500 | Machine::An505 => (Layout::Pair, "dsp"),
        Machine::An385 => (Layout::Winograd, "quad_mla"),
        Machine::Microbit => (Layout::Quad, "quad"),
        Machine::An547 => (Layout::Vector, "mve"),
        Machine::RiscvVirt => (Layout::Rows, "portable"),
    }
}

/// The layout with weights of half a byte that is nearest to one with whole bytes.
fn half_of(layout: Layout) -> Layout {
    match layout {
        Layout::Pair => Layout::Pair4,
        Layout::Quad => Layout::Quad4,
        _ => Layout::Rows4,
    }
}

/// Weights of half a byte where they fit; other variants than the default one have one layout.
fn placed(model: &QuantModel, layout: Layout) -> Result<Vec<u8>, Trouble> {
    write(model, half_of(layout))
        .or_else(|_| write(model, layout))
        .or_else(|_| write(model, Layout::Rows))
        .map_err(|e| Trouble::Failed(e.to_string()))
}

fn options(emulator: Emulator) -> Options {
    Options {
        emulator,
        notify: |_| {},
        ..Options::default()
    }
}

/// How long a step takes on one board.
#[derive(Debug, Clone)]
pub struct Duration {
    /// The board and its emulator.
    pub board: String,
    /// Steps from random states, saturated ones among them.
    pub steps: u64,
    /// Instructions of the cheapest and the dearest step.
    pub range: [f64; 2],
    /// What the counter can tell apart, in instructions.
    pub resolution: f64,
}

impl Duration {
    /// Whether all steps took the same, as far as the counter can tell.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        // A timer that is read twice is off by one tick at the most; the embedded emulator counts exactly.
        let allowed = if self.resolution > 1.0 || self.board.contains("QEMU") {
            1.001 * self.resolution
        } else {
            0.0
        };
        self.range[1] - self.range[0] <= allowed
    }
}

/// Runs `steps` steps from random states on a board; `planted` is a feature of the firmware with a fault.
///
/// # Errors
/// As [`board::run`].
pub fn duration(
    machine: Machine,
    emulator: Emulator,
    steps: usize,
    planted: Option<&'static str>,
) -> Result<Duration, Trouble> {
    let model = random::model(12, 6, &[16], 6);
    duration_of(&model, machine, emulator, steps, planted)
}

/// The same of each model of [`random::covering`], in the layout in which [`bits`] runs it: every variant of the portable
/// kernel, every activation. Not what takes its time by something else: samples are within their limits, for a missing one
/// takes another way, and the read-out is the latest step, for a mean does less in its first steps.
///
/// # Errors
/// As [`board::run`].
pub fn durations(
    machine: Machine,
    emulator: Emulator,
    steps: usize,
) -> Result<Vec<(String, Duration)>, Trouble> {
    let each = random::covering().into_iter().enumerate();
    each.map(|(n, mut model)| {
        model.readout = Readout::Last;
        let name = format!("{n}, {}", model.name);
        duration_of(&model, machine, emulator, steps, None).map(|found| (name, found))
    })
    .collect()
}

fn duration_of(
    model: &QuantModel,
    machine: Machine,
    emulator: Emulator,
    steps: usize,
    planted: Option<&'static str>,
) -> Result<Duration, Trouble> {
    let features = model.features.len();
    let artifact = placed(model, kernel_of(machine).0)?;
    let options = Options {
        random_state: true,
        planted,
        ..options(emulator)
    };
    let mut stream = random::stream(12, features, steps);
    for sample in stream.chunks_mut(features) {
        for (raw, limits) in sample.iter_mut().zip(&model.limits) {
            *raw = i32::from(*raw).clamp(limits.low, limits.high) as i16;
        }
    }
    let report = board::run(machine, &artifact, features, [stream.as_slice()], &options)?;
    Ok(Duration {
        board: format!("{} on {}", report.board, report.emulator),
        steps: report.steps,
        range: report.step_range,
        resolution: report.tick,
    })
}

/// A board's bits beside the host's.
#[derive(Debug, Clone)]
pub struct Bits {
    /// The board and its emulator.
    pub board: String,
    /// Steps of all models that stream.
    pub steps: u64,
    /// Models, those that read windows among them.
    pub models: u64,
    /// Models whose digest of hidden states or whose logits differ from the host's.
    pub differ: u64,
    /// The board's digest of each model.
    pub digests: Vec<u64>,
    /// Whether the log names the kernel that the core should have.
    pub right_kernel: bool,
    /// Most stack that `load` and a step took with the core's kernel, in bytes.
    pub stack: [u32; 2],
    /// The same with the portable kernel, which runs the variants that no other one has.
    pub portable_stack: [u32; 2],
    /// Bytes of RAM of the largest state, and of flash of the firmware.
    pub memory: [u64; 2],
}

/// Streams `steps` steps of each model of [`random::covering`] on a board and on this host, and three windows of each of
/// [`random::windowed`]; `tamper` changes the host's artifact.
///
/// # Errors
/// As [`board::run`].
pub fn bits(
    machine: Machine,
    emulator: Emulator,
    steps: usize,
    tamper: bool,
) -> Result<Bits, Trouble> {
    let failed = |e: &dyn std::fmt::Display| Trouble::Failed(e.to_string());
    let (layout, kernel) = kernel_of(machine);
    let mut found = Bits {
        board: String::new(),
        steps: 0,
        models: 0,
        differ: 0,
        digests: Vec::new(),
        right_kernel: true,
        stack: [0; 2],
        portable_stack: [0; 2],
        memory: [0; 2],
    };
    for (n, mut quant) in random::covering().into_iter().enumerate() {
        let features = quant.features.len();
        let artifact = placed(&quant, layout)?;
        let stream = random::stream(n as u64, features, steps);
        let report = board::run(
            machine,
            &artifact,
            features,
            [stream.as_slice()],
            &options(emulator),
        )?;
        if tamper && let Some(gru_core::writer::QuantLayer::Gru(g)) = quant.layers.first_mut() {
            // The smallest change there is: one bias by one unit.
            g.b[0] ^= 1;
        }
        // The host computes from the plainest layout.
        let rows = Aligned::new(&write(&quant, Layout::Rows).map_err(|e| failed(&e))?);
        let model = Model::load(&rows).map_err(|e| failed(&e))?;
        let mut state = host_state(&model).map_err(|e| failed(&e))?;
        let mut digest = Digest::default();
        for sample in stream.chunks_exact(features) {
            model.step(&mut state, sample).map_err(|e| failed(&e))?;
            state.digest(&model, &mut digest);
        }
        let logits: Vec<i16> = model.output(&state).values().collect();
        found.models += 1;
        found.steps += report.steps;
        let same = report.digest == digest.value() && report.logits == [logits];
        found.digests.push(report.digest);
        found.differ += u64::from(!same);
        found.right_kernel &= names_kernel(&report, kernel);
        let deepest = if n < random::DEFAULT_VARIANTS {
            &mut found.stack
        } else {
            &mut found.portable_stack
        };
        let [load, step] = *deepest;
        *deepest = [
            load.max(report.load_stack_bytes),
            step.max(report.step_stack_bytes),
        ];
        let [ram, _] = found.memory;
        found.memory = [ram.max(report.state_bytes.into()), report.firmware_bytes];
        found.board = format!("{} on {}", report.board, report.emulator);
    }
    let [models, differ] = window_bits(machine, emulator, tamper)?;
    found.models += models;
    found.differ += differ;
    Ok(found)
}

/// The same of windows of each model of [`random::windowed`]: how many models, and how many of them differ.
fn window_bits(machine: Machine, emulator: Emulator, tamper: bool) -> Result<[u64; 2], Trouble> {
    let failed = |e: &dyn std::fmt::Display| Trouble::Failed(e.to_string());
    let mut found = [0; 2];
    for (n, mut quant) in random::windowed().into_iter().enumerate() {
        let features = quant.features.len();
        let artifact = placed(&quant, kernel_of(machine).0)?;
        let windows = [4, 7, 12].map(|steps| random::stream((n + steps) as u64, features, steps));
        let slices = windows.iter().map(Vec::as_slice);
        let report = board::run(machine, &artifact, features, slices, &options(emulator))?;
        if tamper && let Some(gru_core::writer::QuantLayer::Gru(g)) = quant.layers.first_mut() {
            g.b[0] ^= 1;
        }
        let rows = Aligned::new(&write(&quant, Layout::Rows).map_err(|e| failed(&e))?);
        let model = Model::load(&rows).map_err(|e| failed(&e))?;
        let mut state = host_state(&model).map_err(|e| failed(&e))?;
        let mut memory = crate::pipeline::host_window(&model, 12);
        let mut digest = Digest::default();
        let mut logits: Vec<Vec<i16>> = Vec::new();
        for window in &windows {
            let samples: Vec<&[i16]> = window.chunks_exact(features).collect();
            let output = model.run_window(&mut state, &mut memory, &samples);
            logits.push(output.map_err(|e| failed(&e))?.values().collect());
            state.digest(&model, &mut digest);
        }
        let differs = report.digest != digest.value() || report.logits != logits;
        found = [found[0] + 1, found[1] + u64::from(differs)];
    }
    Ok(found)
}

fn names_kernel(report: &BoardReport, kernel: &str) -> bool {
    (report.logs.iter()).any(|line| {
        line.split("kernel ")
            .nth(1)
            .is_some_and(|k| k.trim() == kernel)
    })
}
