//! Makes the artifact of the workload and the memory map of the core.
//!
//! `GRU_BENCH_CORE` and `GRU_BENCH_WORKLOAD` choose; `build.sh` sets them.

use gru_core::layout::Layout;
use gru_core::random;
use std::path::Path;
use std::{env, fs};

/// Random numbers of all workloads start here.
const SEED: u64 = 20_261_123;

struct Workload {
    features: usize,
    units: &'static [usize],
    outputs: usize,
    softmax: bool,
}

fn workload(name: &str) -> Option<Workload> {
    let (features, units, outputs, softmax): (_, &'static [usize], _, _) = match name {
        "w1" => (5, &[32], 3, true),
        "w2" => (9, &[64], 6, true),
        "w3" => (10, &[154], 12, true),
        "w4" => (6, &[32, 32], 4, false),
        "w5" => (32, &[64], 32, false),
        _ => return None,
    };
    Some(Workload {
        features,
        units,
        outputs,
        softmax,
    })
}

/// Flash and RAM of QEMU's board, and the layout that the core's kernel eats.
fn core(name: &str) -> Option<(u32, u32, Layout)> {
    Some(match name {
        "m0plus" | "m3" => (0, 0x2000_0000, Layout::Quad),
        "m4" | "m7" => (0, 0x2000_0000, Layout::Pair),
        "m33" => (0x1000_0000, 0x3800_0000, Layout::Pair),
        "m55" => (0x1000_0000, 0x3000_0000, Layout::Vector),
        _ => return None,
    })
}

fn main() {
    let var = |name: &str, default: &str| {
        println!("cargo::rerun-if-env-changed={name}");
        env::var(name).unwrap_or_else(|_| default.to_string())
    };
    let core_name = var("GRU_BENCH_CORE", "m4");
    let name = var("GRU_BENCH_WORKLOAD", "w1");
    let (flash, ram, layout) = core(&core_name).expect("GRU_BENCH_CORE");
    // The float program takes its sizes from here; its weights are made at compile time.
    let w = workload(name.strip_suffix("-f32").unwrap_or(&name)).expect("GRU_BENCH_WORKLOAD");

    let out = env::var("OUT_DIR").unwrap();
    let out = Path::new(&out);
    let memory = format!(
        "MEMORY {{ FLASH : ORIGIN = {flash:#x}, LENGTH = 512K\n RAM : ORIGIN = {ram:#x}, LENGTH = 128K }}\n"
    );
    fs::write(out.join("memory.x"), memory).unwrap();
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    // Debug information beside the code confuses no tool, but unaligned segments do.
    println!("cargo::rustc-link-arg-bins=--nmagic");

    let model = random::model(SEED, w.features, w.units, w.outputs);
    let bytes = gru_core::writer::write(&model, layout).expect("a sound model");
    fs::write(out.join("model.bin"), &bytes).unwrap();
    let state_len = gru_core::Model::load(&gru_core::writer::Aligned::new(&bytes))
        .map(|m| m.state_len())
        .expect("a sound model");
    let source = format!(
        "/// Features of a sample.\npub const FEATURES: usize = {};\n\
         /// Outputs.\npub const OUTPUTS: usize = {};\n\
         /// Units of the GRU layers.\npub const UNITS: [usize; {}] = {:?};\n\
         /// Whether probabilities are asked for.\npub const SOFTMAX: bool = {};\n\
         /// Words of the state.\npub const STATE: usize = {state_len};\n",
        w.features,
        w.outputs,
        w.units.len(),
        w.units,
        w.softmax
    );
    fs::write(out.join("workload.rs"), source).unwrap();
}
