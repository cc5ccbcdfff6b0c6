//! Makes the models and what the host's portable kernel computes with them.
//!
//! `GRU_AGREE_CORE` chooses the memory map and the layout; `run.sh` sets it.

use gru_core::activation::Activation;
use gru_core::artifact::DenseHeader;
use gru_core::layout::Layout;
use gru_core::random::{self, SplitMix};
use gru_core::writer::{self, Aligned, QuantLayer, QuantModel};
use gru_core::{Digest, Model};
use std::path::Path;
use std::{env, fs};

/// Time steps per model.
const STEPS: usize = 12;

/// Flash and RAM of QEMU's board (start and KiB), and the layout that the core's kernel eats.
fn core(name: &str) -> Option<([u32; 4], Layout)> {
    let mps2 = [0, 4096, 0x2000_0000, 128];
    Some(match name {
        "microbit" => ([0, 256, 0x2000_0000, 16], Layout::Quad),
        "m0plus" => (mps2, Layout::Quad),
        "m3" => (mps2, Layout::Winograd),
        "m4" | "m7" => (mps2, Layout::Pair),
        "m33" => ([0x1000_0000, 4096, 0x3800_0000, 128], Layout::Pair),
        "m55" => ([0x1000_0000, 512, 0x3000_0000, 128], Layout::Vector),
        _ => return None,
    })
}

/// Drives weights, multipliers, biases and samples to their limits.
fn extreme(model: &mut QuantModel, rng: &mut SplitMix) {
    let mut pick = |values: &[i64]| values[rng.below(values.len())];
    for f in &mut model.features {
        let (min, max) = (i32::MIN as i64, i32::MAX as i64);
        f.offset = pick(&[
            min,
            min + 40_000,
            -98_304,
            -70_000,
            -1,
            0,
            1,
            70_000,
            98_303,
            max,
        ]) as i32;
        f.multiplier = pick(&[1, 300, 32767]) as u16;
        f.shift = pick(&[0, 1, 9, 15, 17]) as u8;
        f.pre_shift = pick(&[0, 0, 1, 16]) as u8;
    }
    for layer in &mut model.layers {
        match layer {
            QuantLayer::Gru(g) => {
                g.header.nh_shift = pick(&[0, 1, 2, 3, 4]) as u8;
                // The largest sums that fit.
                let fits = |shift: &u8| (g.input << shift) + g.header.units as usize <= 516;
                g.header.w_shift = (0..=7).rev().find(fits).unwrap_or(0);
                g.w.iter_mut().for_each(|w| *w = pick(&[-127, 127]) as i8);
                g.u.iter_mut().for_each(|w| *w = pick(&[-127, 127]) as i8);
                for m in g.mw.iter_mut().chain(&mut g.mu) {
                    *m = pick(&[1, 2, 40, 300, 32766, 32767]) as u16;
                }
                g.b.iter_mut()
                    .for_each(|b| *b = pick(&[-32768, -1, 0, 1, 32767]) as i16);
            }
            QuantLayer::Dense(d) => {
                d.w.iter_mut().for_each(|w| *w = pick(&[-127, 127]) as i8);
                for m in &mut d.m {
                    *m = pick(&[1, 65535, 65536, 1 << 22, 1 << 24, i32::MAX as i64]) as i32;
                }
                let most = (1 << 30) - 1;
                d.b.iter_mut()
                    .for_each(|b| *b = pick(&[-most, -1, 0, 1, most]) as i32);
            }
        }
    }
    for x in &mut model.self_test {
        *x = pick(&[-32768, -1, 0, 1, 32767]) as i16;
    }
}

fn models(core: &str) -> Vec<QuantModel> {
    let longest = if core == "microbit" { 33 } else { 67 };
    let mut rng = SplitMix(7);
    let mut models = Vec::new();
    if core != "microbit" {
        // More than one pass through a kernel's loop over columns, in each of the five forms below.
        for units in [90, 131, 150, 132, 200] {
            models.push(random::model(rng.bits(), 2, &[units], 3));
        }
    }
    for n in 1..=longest {
        for (features, units, outputs) in [(n, vec![4], 2), (3, vec![n], n % 13 + 1)] {
            models.push(random::model(rng.bits(), features, &units, outputs));
        }
    }
    for _ in 0..longest / 4 {
        let mut any = |most| rng.below(most) + 1;
        let sizes = (any(20), vec![any(20), any(20)], any(20));
        models.push(random::model(rng.bits(), sizes.0, &sizes.1, sizes.2));
    }
    for (i, model) in models.iter_mut().enumerate() {
        let features = model.features.len();
        model.self_test = (0..STEPS).flat_map(|_| rng.sample(features)).collect();
        if i % 3 == 2 {
            extreme(model, &mut rng);
        }
        if i % 7 == 3 {
            // A Dense layer between, with an activation and a ragged number of rows.
            let units = match model.layers.first() {
                Some(QuantLayer::Gru(g)) => g.header.units,
                _ => continue,
            };
            let header = DenseHeader {
                units,
                activation: Activation::Tanh,
                frac: 0,
            };
            let dense = random::dense(&mut rng, units as usize, header);
            model.layers.insert(1, QuantLayer::Dense(dense));
        }
    }
    models
}

/// Digest over the outputs of all steps of the self-test.
fn outputs(model: &Model<'_>, samples: &[i16]) -> u64 {
    let mut state = writer::host_state(model).expect("a state");
    let mut digest = Digest::default();
    for sample in samples.chunks_exact(model.features()) {
        let out = model.step(&mut state, sample).expect("a sound sample");
        for y in out.values() {
            digest.update(&[y]);
        }
    }
    digest.value()
}

fn main() {
    println!("cargo::rerun-if-env-changed=GRU_AGREE_CORE");
    let name = env::var("GRU_AGREE_CORE").unwrap_or_else(|_| "m4".to_string());
    let ([flash, flash_k, ram, ram_k], layout) = core(&name).expect("GRU_AGREE_CORE");
    let out = env::var("OUT_DIR").unwrap();
    let out = Path::new(&out);
    // The M55's board has little memory where it boots, and more elsewhere for the records.
    let (records, records_k) = match &*name {
        "m55" => (0x1100_0000, 2048),
        _ => (flash + flash_k / 4 * 1024, flash_k / 4 * 3),
    };
    let flash_k = if name == "m55" { flash_k } else { flash_k / 4 };
    let memory = format!(
        "MEMORY {{ FLASH : ORIGIN = {flash:#x}, LENGTH = {flash_k}K\n\
         RECORDS : ORIGIN = {records:#x}, LENGTH = {records_k}K\n\
         RAM : ORIGIN = {ram:#x}, LENGTH = {ram_k}K }}\n\
         SECTIONS {{ .records : ALIGN(4) {{ KEEP(*(.records)) }} > RECORDS }} INSERT AFTER .rodata;\n"
    );
    fs::write(out.join("memory.x"), memory).unwrap();
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    println!("cargo::rustc-link-arg-bins=--nmagic");

    // Records: length (u32), number of samples' values (u32), digest of the outputs (u64), the
    // artifact, the samples; padded to a multiple of four.
    let mut records = Vec::new();
    let mut state_len = 0;
    let mut rng = SplitMix(8);
    for (i, mut model) in models(&name).into_iter().enumerate() {
        // Some of the models in half bytes and some without all weights, where the core has kernels for them.
        let layout = match (layout.halved(), layout.sparse(), i % 5) {
            (Some(halved), _, 2) => {
                random::halve(&mut model);
                halved
            }
            (_, Some(sparse), 3 | 4) => {
                let density = [0.0, 0.2, 0.5, 0.9, 1.0][i / 5 % 5];
                random::prune(&mut rng, &mut model, density);
                sparse
            }
            _ => layout,
        };
        let bytes = writer::write(&model, layout).expect("a sound model");
        // What the portable kernel makes of the plainest layout is right.
        let rows = Aligned::new(&writer::write(&model, Layout::Rows).expect("a sound model"));
        let rows = Model::load(&rows).expect("a sound model");
        // A kernel that works on words has a longer scratch.
        let own = Aligned::new(&bytes);
        let own = Model::load(&own).expect("a sound model");
        state_len = state_len.max(own.state_len());
        records.extend((bytes.len() as u32).to_le_bytes());
        records.extend((model.self_test.len() as u32).to_le_bytes());
        records.extend(outputs(&rows, &model.self_test).to_le_bytes());
        records.extend(bytes);
        records.resize(records.len().next_multiple_of(4), 0);
        records.extend(model.self_test.iter().flat_map(|x| x.to_le_bytes()));
        records.resize(records.len().next_multiple_of(4), 0);
    }
    // A layout that no kernel of a Cortex-M reads.
    let model = gru_core::random::model(9, 3, &[4], 2);
    let foreign = writer::write(&model, Layout::Rows).expect("a sound model");
    fs::write(out.join("foreign.bin"), &foreign).unwrap();
    fs::write(out.join("records.bin"), &records).unwrap();
    let source =
        format!("/// Words of the largest state.\npub const STATE: usize = {state_len};\n");
    fs::write(out.join("models.rs"), source).unwrap();
}
