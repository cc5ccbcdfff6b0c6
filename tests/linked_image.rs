//! What is linked into a device's image: no path to a panic, no allocator, no float arithmetic.
//!
//! `firmware-examples/nopanic` links only if nothing in it can panic. Planted faults show that the checks see something.

use std::path::{Path, PathBuf};

use gru_train_host::reliability::device::{
    ALLOCATOR, FLASH_BUDGETS, FLOAT, SMALLEST_BUDGET, TARGETS, link, planted_float_is_found,
    planted_panic_is_found, symbols,
};
use gru_train_host::reliability::supply::workspace_root;

fn root() -> PathBuf {
    workspace_root(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("inside the workspace")
}

#[test]
fn nothing_that_a_device_links_can_panic_allocate_or_compute_in_float() {
    for target in TARGETS {
        for (level, budget) in FLASH_BUDGETS {
            let image = link(&root(), target, level, None)
                .unwrap_or_else(|e| panic!("{target:?} at opt-level {level}: {e}"));
            let (name, cpu) = target;
            let cpu = cpu.unwrap_or("");
            let flash = image.flash;
            println!("{name:26} {cpu:10} opt-level {level}: {flash:6} bytes of flash, no panic");
            assert!(
                flash <= budget,
                "{target:?} at opt-level {level}: {flash} bytes of flash, budget {budget}"
            );
            assert_eq!(
                symbols(&image.elf, &ALLOCATOR),
                [""; 0],
                "{target:?}: an allocator"
            );
            // With an FPU the instructions are inline; the cores without show the same source.
            assert_eq!(
                symbols(&image.elf, &FLOAT),
                [""; 0],
                "{target:?}: float arithmetic"
            );
        }
    }
}

#[test]
fn the_smallest_image_is_small_and_cannot_panic_either() {
    for target in TARGETS {
        let image = link(&root(), target, "s", Some("smallest"))
            .unwrap_or_else(|e| panic!("{target:?}: {e}"));
        let (name, cpu) = target;
        let flash = image.flash;
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
        let found = planted_panic_is_found(&root(), target);
        assert_eq!(found, Ok(true), "{target:?}");
    }
}

#[test]
fn planted_float_arithmetic_is_found() {
    assert_eq!(planted_float_is_found(&root()), Ok(true));
}
