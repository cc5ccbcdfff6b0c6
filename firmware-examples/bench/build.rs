//! Makes the artifact of the workload and the memory map of the core.
//!
//! `GRU_BENCH_CORE` and `GRU_BENCH_WORKLOAD` choose; `build.sh` sets them.

use gru_core::activation::Activation;
use gru_core::artifact::{DecisionHeader, DenseHeader, Readout};
use gru_core::input::Limits;
use gru_core::layout::Layout;
use gru_core::random;
use gru_core::writer::{QuantDecision, QuantLayer, QuantModel};
use gru_core::{Feature, Threshold};
use std::path::Path;
use std::{env, fs};

#[path = "src/float_digest.rs"]
mod float_digest;

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
        "w1" | "check" | "interrupts" | "count" => (5, &[32], 3, true),
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

/// Flash and RAM of QEMU's board, the core's kernel and the layout that it eats.
fn core(name: &str) -> Option<(u32, u32, &'static str, Layout)> {
    Some(match name {
        "m0plus" => (0, 0x2000_0000, "quad", Layout::Quad),
        "m3" => (0, 0x2000_0000, "quad_mla", Layout::Winograd),
        "m4" | "m7" => (0, 0x2000_0000, "dsp", Layout::Pair),
        "m33" => (0x1000_0000, 0x3800_0000, "dsp", Layout::Pair),
        "m55" => (0x1000_0000, 0x3000_0000, "mve", Layout::Vector),
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
    let (flash, ram, kernel, layout) = core(&core_name).expect("GRU_BENCH_CORE");
    // The float program takes its sizes from here; its weights are made at compile time.
    let (plain, form) = name.split_once('-').unwrap_or((&name, ""));
    let w = workload(plain).expect("GRU_BENCH_WORKLOAD");

    let out = env::var("OUT_DIR").unwrap();
    let out = Path::new(&out);
    let memory = format!(
        "MEMORY {{ FLASH : ORIGIN = {flash:#x}, LENGTH = 512K\n RAM : ORIGIN = {ram:#x}, LENGTH = 128K }}\n"
    );
    fs::write(out.join("memory.x"), memory).unwrap();
    // No names of a device's interrupts.
    fs::write(out.join("device.x"), "").unwrap();
    println!("cargo::rustc-link-search={}", out.display());
    // `size` has neither vectors nor memory map.
    for bin in [
        "step",
        "check",
        "interrupts",
        "count",
        "step_f32",
        "check_f32",
    ] {
        println!("cargo::rustc-link-arg-bin={bin}=-Tlink.x");
    }
    // Debug information beside the code confuses no tool, but unaligned segments do.
    println!("cargo::rustc-link-arg-bins=--nmagic");

    let (model, layout) = shaped(&w, form, layout);
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

    let kernel = var("GRU_BENCH_KERNEL", kernel);
    match plain {
        "check" if name != "check-f32" => write_check(out, &kernel, layout),
        "interrupts" => {
            write_check(out, &kernel, layout);
            write_interrupts(out, flash, &var("GRU_BENCH_PLANT", ""));
        }
        "count" => write_count(out, &core_name, &kernel, form, layout),
        _ => {}
    }
    if name == "check-f32" {
        let (digest, models) = float_digest::digest().expect("sizes fit");
        let source = format!(
            "/// Digest of the host, and the number of models.\nconst EXPECTED: (u64, u32) = ({digest}, {models});\n"
        );
        fs::write(out.join("check_f32.rs"), source).unwrap();
    }
}

/// The model of a workload with weights of half a byte ("int4"), with so many of a hundred recurrent
/// weights left ("sparse50"), or as it is; and its layout on a core whose layout is `layout`.
fn shaped(w: &Workload, form: &str, layout: Layout) -> (QuantModel, Layout) {
    let mut model = random::model(SEED, w.features, w.units, w.outputs);
    let layout = if form == "int4" {
        random::halve(&mut model);
        layout
            .halved()
            .expect("a core with a kernel for half bytes")
    } else if let Some(density) = form.strip_prefix("sparse") {
        let density: f64 = density.parse().expect("a share in per cent");
        random::prune(&mut random::SplitMix(SEED), &mut model, density / 100.0);
        layout
            .sparse()
            .expect("a core with a kernel for weights left out")
    } else {
        layout
    };
    (model, layout)
}

/// The artifacts of all workloads, one after the other, then those that a program without features refuses.
fn write_count(out: &Path, core_name: &str, kernel: &str, form: &str, layout: Layout) {
    let mut all = Vec::new();
    let mut list = String::new();
    let (mut widest, mut state) = (0, 0);
    for name in ["w1", "w2", "w3", "w4", "w5"] {
        let w = workload(name).expect("a workload");
        let (model, layout) = shaped(&w, form, layout);
        let name = match form {
            "" => name.to_owned(),
            form => format!("{name}-{form}"),
        };
        let bytes = gru_core::writer::write(&model, layout).expect("a sound model");
        let loaded = gru_core::writer::Aligned::new(&bytes);
        let loaded = gru_core::Model::load(&loaded).expect("a sound model");
        state = state.max(loaded.state_len());
        widest = widest.max(w.features).max(w.outputs);
        all.extend(bytes);
        list += &format!("({name:?}, {}), ", w.softmax);
    }
    let mut refused = String::new();
    for (feature, model) in refused_models(layout) {
        all.extend(gru_core::writer::write(&model, layout).expect("a sound model"));
        refused += &format!("Feature::{feature:?}, ");
    }
    // Of the QEMU boards that `count.sh` runs.
    let clock = match core_name {
        "m33" => 20_000_000,
        "m55" => 32_000_000,
        _ => 25_000_000,
    };
    fs::write(out.join("count.bin"), &all).unwrap();
    let source = format!(
        "/// The kernel that has to be linked.\nconst KERNEL: &str = {kernel:?};\n\
         /// Names, and whether probabilities are asked for.\nconst WORKLOADS: [(&str, bool); 5] = [{list}];\n\
         /// What the models that follow need.\nconst REFUSED: &[Feature] = &[{refused}];\n\
         /// Words of the largest state.\nconst STATE: usize = {state};\n\
         /// Most features or outputs.\nconst WIDEST: usize = {widest};\n\
         /// SysTick's clock.\nconst CLOCK_HZ: u64 = {clock};\n"
    );
    fs::write(out.join("count.rs"), source).unwrap();
}

/// A model for each Cargo feature of which a model can have need; the other variant of the GRU, whose layout is another one,
/// is refused for that in most programs.
fn refused_models(layout: Layout) -> Vec<(Feature, QuantModel)> {
    let mut model = random::model(SEED, 3, &[6], 2);
    if layout.weight_bits() == 4 {
        random::halve(&mut model);
    }
    let with = |change: &dyn Fn(&mut QuantModel)| {
        let mut model = model.clone();
        change(&mut model);
        model
    };
    vec![
        (
            Feature::Activations,
            with(&|m| {
                if let Some(QuantLayer::Dense(d)) = m.layers.last_mut() {
                    d.header.activation = Activation::Sigmoid;
                    d.header.frac = 0;
                }
            }),
        ),
        (
            Feature::Decision,
            with(&|m| {
                m.decision = Some(QuantDecision {
                    header: DecisionHeader::default(),
                    thresholds: vec![Threshold::default(); 2],
                });
            }),
        ),
        (
            Feature::Inputs,
            with(&|m| m.limits = vec![Limits { low: -9, high: 9 }; 3]),
        ),
        (Feature::Inputs, with(&|m| m.features[1].offset = 1 << 20)),
        (
            Feature::Readouts,
            with(&|m| m.readout = Readout::Mean { skip: 1 }),
        ),
    ]
}

/// Random models of many shapes, each with its samples and the host's digest.
fn write_check(out: &Path, kernel: &str, layout: Layout) {
    let mut rng = random::SplitMix(SEED);
    let mut all = Vec::new();
    let (mut models, mut state) = (0, 0);
    // Every number of units up to 32, some beyond, one that needs several passes.
    for n in (0..=32).chain((37..=67).step_by(15)).chain([154]) {
        let (features, more) = (n * 7 % 68, n * 11 % 13);
        let mut model = random::model(
            SEED + n as u64,
            features.max(1),
            &[n.max(1), more.max(1)],
            3,
        );
        extremes(&mut rng, &mut model);
        model.self_test = (0..6).flat_map(|_| rng.sample(features.max(1))).collect();
        let bytes = gru_core::writer::write(&model, layout).expect("a sound model");
        let loaded = gru_core::writer::Aligned::new(&bytes);
        let loaded = gru_core::Model::load(&loaded).expect("a sound model");
        state = state.max(loaded.state_len());
        models += 1;
        all.extend(bytes);
    }
    fs::write(out.join("check.bin"), &all).unwrap();
    let source = format!(
        "/// The kernel that has to be linked.\nconst KERNEL: &str = {kernel:?};\n\
         /// Models.\nconst MODELS: i32 = {models};\n\
         /// Words of the largest state.\nconst STATE: usize = {state};\n"
    );
    fs::write(out.join("check.rs"), source).unwrap();
}

/// Where the program begins, and what its handler does to a register that it does not give back.
fn write_interrupts(out: &Path, flash: u32, plant: &str) {
    let source = format!("/// Where the program begins.\nconst ORIGIN: u32 = {flash:#x};\n");
    fs::write(out.join("interrupts.rs"), source).unwrap();
    let plant = if plant.is_empty() { "" } else { "movs r6, #0" };
    fs::write(out.join("plant.rs"), format!("{plant:?}")).unwrap();
}

/// Puts a Dense layer before the layers, and the largest weights and multipliers into some of them.
fn extremes(rng: &mut random::SplitMix, model: &mut QuantModel) {
    let features = model.features.len();
    let header = DenseHeader {
        units: if features == 58 {
            140
        } else {
            rng.range(1, 67)
        } as u16,
        activation: Activation::Linear,
        frac: 10,
    };
    let dense = random::dense(rng, features, header);
    let units = header.units as usize;
    if let Some(QuantLayer::Gru(g)) = model.layers.first_mut() {
        *g = random::gru(rng, units, g.header);
    }
    model.layers.insert(0, QuantLayer::Dense(dense));
    for layer in &mut model.layers {
        if let QuantLayer::Gru(g) = layer {
            g.header.nh_shift = rng.range(0, 4) as u8;
            let fits = |shift: &i64| (g.input << shift) + g.header.units as usize <= 516;
            let most = (0..=7).rev().find(fits).unwrap_or(0);
            g.header.w_shift = rng.range(0, most) as u8;
            for row in 0..g.mu.len() {
                if rng.range(0, 9) == 0 {
                    let sign = if rng.range(0, 1) == 0 { -127 } else { 127 };
                    let (i, h) = (g.input, g.header.units as usize);
                    g.w[row * i..(row + 1) * i].fill(sign);
                    g.u[row * h..(row + 1) * h].fill(-sign);
                    if let Some(unit) = row.checked_sub(2 * h) {
                        g.mw[unit] = [1, 32767][rng.range(0, 1) as usize];
                    }
                    g.mu[row] = [1, 32767][rng.range(0, 1) as usize];
                }
            }
            for b in &mut g.b {
                if rng.range(0, 19) == 0 {
                    *b = [i16::MIN, i16::MAX][rng.range(0, 1) as usize];
                }
            }
        }
    }
}
