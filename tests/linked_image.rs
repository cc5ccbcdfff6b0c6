//! What is linked into a device's image: no path to a panic, no allocator, no float arithmetic.
//!
//! `firmware-examples/nopanic` links only if nothing in it can panic. Planted faults show that the checks see something.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

/// Target and, where it chooses another kernel, processor.
type Target = (&'static str, Option<&'static str>);

const TARGETS: [Target; 6] = [
    ("thumbv6m-none-eabi", None),
    ("thumbv7m-none-eabi", None),
    ("thumbv7em-none-eabihf", None),
    ("thumbv8m.main-none-eabihf", None),
    ("thumbv8m.main-none-eabihf", Some("cortex-m33")),
    ("thumbv8m.main-none-eabihf", Some("cortex-m55")),
];

/// The tests share one target folder, and with it the name of the image.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Bytes of flash that load, self-test, step, decisions, snapshot and restore may take together, per optimization level.
///
/// A tenth above what was measured when this was written, on the largest of the targets.
const FLASH_BUDGETS: [(&str, u64); 2] = [("3", 65_000), ("s", 43_500)];

fn firmware() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-examples")
}

/// Beside the emulator's firmware, so that nothing is left in the sources.
fn target_dir() -> PathBuf {
    let dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    std::path::absolute(dir)
        .expect("the current folder exists")
        .join("firmware/nopanic")
}

/// The same for an image that takes its own kernel's layout only, at opt-level "s".
const SMALLEST_BUDGET: u64 = 28_000;

fn link((target, cpu): Target, level: &str, feature: Option<&str>) -> Output {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(firmware())
        .args(["build", "--release", "--package", "nopanic"])
        .args(["--target", target])
        .arg("--config")
        .arg(format!(
            "profile.release.opt-level={}",
            if level == "3" { "3" } else { "\"s\"" }
        ))
        .args(["--config", "profile.release.debug=false"])
        .args(match feature {
            Some("smallest") => vec!["--no-default-features"],
            Some(feature) => vec!["--features", feature],
            None => vec![],
        })
        .arg("--target-dir")
        .arg(target_dir())
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            cpu.map_or(String::new(), |cpu| format!("-Ctarget-cpu={cpu}")),
        );
    command.output().expect("cargo starts")
}

/// The linked image and the bytes of it that go into flash.
fn image(target: Target, level: &str, feature: Option<&str>) -> (Vec<u8>, u64) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let output = link(target, level, feature);
    assert!(
        output.status.success(),
        "{target:?} at opt-level {level}: a path to a panic is linked\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let elf =
        std::fs::read(target_dir().join(target.0).join("release/nopanic")).expect("was linked");
    let flash = gru_train_host::board::flash_bytes(&elf);
    (elf, flash)
}

/// Whether a symbol of the image starts with one of these names.
fn symbols<'a>(elf: &[u8], starts: &[&'a str]) -> Vec<&'a str> {
    starts
        .iter()
        .copied()
        .filter(|start| {
            let name = [b"\0", start.as_bytes()].concat();
            elf.windows(name.len()).any(|window| window == name)
        })
        .collect()
}

/// The routines that float arithmetic becomes on a core without FPU.
const FLOAT: [&str; 12] = [
    "__aeabi_fadd",
    "__aeabi_fsub",
    "__aeabi_fmul",
    "__aeabi_fdiv",
    "__aeabi_f2iz",
    "__aeabi_f2uiz",
    "__aeabi_i2f",
    "__aeabi_ui2f",
    "__aeabi_dadd",
    "__aeabi_dmul",
    "__aeabi_d2iz",
    "__aeabi_f2d",
];
const ALLOCATOR: [&str; 4] = ["__rust_alloc", "__rg_alloc", "__rdl_alloc", "malloc"];

#[test]
fn nothing_that_a_device_links_can_panic_allocate_or_compute_in_float() {
    for target in TARGETS {
        for (level, budget) in FLASH_BUDGETS {
            let (elf, flash) = image(target, level, None);
            let (name, cpu) = target;
            let cpu = cpu.unwrap_or("");
            println!("{name:26} {cpu:10} opt-level {level}: {flash:6} bytes of flash, no panic");
            assert!(
                flash <= budget,
                "{target:?} at opt-level {level}: {flash} bytes of flash, budget {budget}"
            );
            assert_eq!(
                symbols(&elf, &ALLOCATOR),
                [""; 0],
                "{target:?}: an allocator"
            );
            // With an FPU the instructions are inline; the cores without show the same source.
            assert_eq!(
                symbols(&elf, &FLOAT),
                [""; 0],
                "{target:?}: float arithmetic"
            );
        }
    }
}

#[test]
fn the_smallest_image_is_small_and_cannot_panic_either() {
    for target in TARGETS {
        let (_, flash) = image(target, "s", Some("smallest"));
        let (name, cpu) = target;
        println!(
            "{name:26} {:10} {flash:6} bytes of flash",
            cpu.unwrap_or("")
        );
        assert!(
            flash <= SMALLEST_BUDGET,
            "{target:?}: {flash} bytes of flash, budget {SMALLEST_BUDGET}"
        );
    }
}

#[test]
fn a_planted_panic_does_not_link() {
    for target in TARGETS {
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let output = link(target, "3", Some("planted-panic"));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{target:?}: it linked");
        assert!(
            text.contains("undefined symbol: gru_core_can_panic"),
            "{target:?}: it failed for another reason\n{text}"
        );
    }
}

#[test]
fn planted_float_arithmetic_is_found() {
    let (elf, _) = image(TARGETS[0], "3", Some("planted-float"));
    assert!(symbols(&elf, &FLOAT).contains(&"__aeabi_fmul"));
}
