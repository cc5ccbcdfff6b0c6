//! What is linked into a device's image: no path to a panic, no allocator, no float arithmetic.
//!
//! `firmware-examples/nopanic` links only if nothing in it can panic. Planted faults show that the checks see something.

use std::path::{Path, PathBuf};

use gru_train_host::reliability::device::{
    ALLOCATOR, FLASH_BUDGETS, FLOAT, KERNEL_BUDGETS, SMALLEST_BUDGET, TARGETS, link,
    planted_float_is_found, planted_panic_among, planted_panic_is_found, symbols,
};
use gru_train_host::reliability::supply::workspace_root;

fn root() -> PathBuf {
    workspace_root(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("inside the workspace")
}

#[test]
fn nothing_that_a_device_links_can_panic_allocate_or_compute_in_float() {
    for target in TARGETS {
        for (level, budget) in FLASH_BUDGETS {
            let image = link(&root(), target, level, &[])
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
        let image =
            link(&root(), target, "s", &["smallest"]).unwrap_or_else(|e| panic!("{target:?}: {e}"));
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

/// The kernels for weights of half a byte and for pruned ones, each without the portable kernel, which would do the same.
#[test]
fn the_kernels_of_features_cannot_panic_allocate_or_compute_in_float() {
    for target in TARGETS {
        let flash = |features: &[&str]| {
            let image = link(&root(), target, "s", features)
                .unwrap_or_else(|e| panic!("{target:?} {features:?}: {e}"));
            assert_eq!(symbols(&image.elf, &ALLOCATOR), [""; 0], "{target:?}");
            assert_eq!(symbols(&image.elf, &FLOAT), [""; 0], "{target:?}");
            image.flash
        };
        let smallest = flash(&["smallest"]);
        let (name, cpu) = target;
        // M3 and M55 have no such kernels; ARMv8-M without a named core has no instructions for them.
        let has_kernels = matches!(
            (name, cpu),
            ("thumbv6m-none-eabi" | "thumbv7em-none-eabihf", _) | (_, Some("cortex-m33"))
        );
        for (feature, budget) in KERNEL_BUDGETS {
            let more = flash(&["smallest", feature]) - smallest;
            println!(
                "{name:26} {:10} {feature:6} {more:6} bytes more",
                cpu.unwrap_or("")
            );
            // Else the kernel was not linked, and nothing was shown of it.
            assert_eq!(more > 1000, has_kernels, "{target:?} {feature}: {more}");
            assert!(more <= budget, "{target:?} {feature}: {more}");
        }
    }
}

#[test]
fn a_panic_planted_beside_the_kernels_of_features_does_not_link() {
    let features = ["smallest", "int4", "sparse", "planted-panic"];
    for target in [TARGETS[0], TARGETS[2]] {
        let found = planted_panic_among(&root(), target, "s", &features);
        assert_eq!(found, Ok(true), "{target:?}");
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
