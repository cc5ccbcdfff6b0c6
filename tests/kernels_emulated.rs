//! Every kernel for Cortex-M against the portable one, bit for bit, on emulated cores: random and
//! extreme models of all lengths, hidden states and outputs, and the name of the linked kernel.

use std::path::PathBuf;
use std::process::Command;

/// Runs `firmware-examples/agree/run.sh CORE` and returns what it printed.
fn agree(core: &str, kernel: Option<&str>) -> Result<String, String> {
    let script =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../firmware-examples/agree/run.sh");
    let mut command = Command::new("bash");
    command.arg(script).arg(core);
    if let Some(kernel) = kernel {
        command.env("GRU_AGREE_KERNEL", kernel);
    }
    let run = command.output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    if run.status.success() {
        Ok(text.into_owned())
    } else {
        Err(text.into_owned())
    }
}

#[test]
#[ignore = "builds firmware for two targets and needs qemu-system-arm: run with --ignored"]
fn quad_kernels_equal_the_portable_one() {
    for core in ["microbit", "m0plus", "m3"] {
        let log = agree(core, None).unwrap_or_else(|log| panic!("{core}: {log}"));
        assert!(log.contains(" models, 0 differ"), "{log}");
    }
    // The check of the kernel's name can fail.
    let log = agree("m3", Some("portable")).expect_err("another kernel is linked");
    assert!(log.contains("another kernel was linked"), "{log}");
}
