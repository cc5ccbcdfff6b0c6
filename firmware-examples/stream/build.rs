//! Writes the board's `memory.x` and asks for the linker scripts.

use std::{env, fs, path::PathBuf};

/// Where a board keeps things. `artifact` is a flash region of its own: firmware and model are loaded, and updated, apart.
struct Board {
    flash: (u32, u32),
    artifact: (u32, u32),
    ram: (u32, u32),
}

const K: u32 = 1024;
const M: u32 = 1024 * K;

const MPS2: Board = Board {
    flash: (0x0000_0000, 2 * M),
    artifact: (0x0020_0000, 2 * M),
    ram: (0x2000_0000, 4 * M),
};
/// Secure aliases: the board boots in the secure state.
const AN505: Board = Board {
    flash: (0x1000_0000, 2 * M),
    artifact: (0x1020_0000, 2 * M),
    ram: (0x3800_0000, 4 * M),
};
const AN547: Board = Board {
    flash: (0x1000_0000, 512 * K),
    artifact: (0x1100_0000, 2 * M),
    ram: (0x3000_0000, 512 * K),
};
const MICROBIT: Board = Board {
    flash: (0x0000_0000, 128 * K),
    artifact: (0x0002_0000, 128 * K),
    ram: (0x2000_0000, 16 * K),
};
/// The machine has flash, but QEMU starts a kernel from RAM.
const RISCV_VIRT: Board = Board {
    flash: (0x8000_0000, 2 * M),
    artifact: (0x8020_0000, 2 * M),
    ram: (0x8040_0000, 4 * M),
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(small_ram)");
    let target = env::var("TARGET").unwrap_or_default();
    let an547 = env::var_os("CARGO_FEATURE_AN547").is_some();
    let riscv = target.starts_with("riscv32");
    let board = match target.as_str() {
        _ if riscv => RISCV_VIRT,
        t if t.starts_with("thumbv6m") => MICROBIT,
        t if t.starts_with("thumbv7") => MPS2,
        t if t.starts_with("thumbv8m.main") && an547 => AN547,
        t if t.starts_with("thumbv8m.main") => AN505,
        // A host build (an editor, `cargo check`) links nothing of this.
        _ => return,
    };
    if board.ram.1 < 64 * K {
        println!("cargo::rustc-cfg=small_ram");
    }
    let region = |name: &str, attributes: &str, (origin, length): (u32, u32)| {
        format!("  {name} ({attributes}) : ORIGIN = {origin:#010x}, LENGTH = {length:#x}\n")
    };
    let mut script = String::from("MEMORY\n{\n");
    script += &region("FLASH", "rx", board.flash);
    script += &region("ARTIFACT", "r", board.artifact);
    script += &region("RAM", "rwx", board.ram);
    script += "}\n_artifact_start = ORIGIN(ARTIFACT);\n_artifact_end = ORIGIN(ARTIFACT) + LENGTH(ARTIFACT);\n";
    if riscv {
        for alias in ["TEXT", "RODATA"] {
            script += &format!("REGION_ALIAS(\"REGION_{alias}\", FLASH);\n");
        }
        for alias in ["DATA", "BSS", "HEAP", "STACK"] {
            script += &format!("REGION_ALIAS(\"REGION_{alias}\", RAM);\n");
        }
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    if let Err(error) = fs::write(out.join("memory.x"), script) {
        println!("cargo::error=memory.x: {error}");
    }
    println!("cargo::rustc-link-search={}", out.display());
    if riscv {
        println!("cargo::rustc-link-arg-bins=-Tmemory.x");
    }
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
    // QEMU needs no page alignment, and small flashes have no room for it.
    println!("cargo::rustc-link-arg-bins=--nmagic");
}
