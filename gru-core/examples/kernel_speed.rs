//! How much faster the host kernel is than the portable one, both measured in the same run.
//!
//! `cargo run --release -p gru-core --features std --example kernel_speed`

use gru_core::Layer;
use gru_core::Model;
use gru_core::kernel::host::Host;
use gru_core::kernel::{Kernel, portable::Portable};
use gru_core::layout::{Layout, align4};
use gru_core::random::{SplitMix, model};
use gru_core::writer::{Aligned, relayed, write};
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

/// Nanoseconds of one step of all layers: the best of several runs.
fn step_ns<K: Kernel>(model: &Model<'_>, x: &[i16]) -> f64 {
    let mut states: Vec<(Vec<i16>, Vec<i16>)> = model
        .layers()
        .iter()
        .map(|l| (vec![0; align4(l.units())], vec![0; align4(l.units())]))
        .collect();
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        const STEPS: u32 = 500;
        let start = Instant::now();
        for _ in 0..STEPS {
            let mut x = black_box(x);
            for (layer, (h, out)) in model.layers().iter().zip(&mut states) {
                match layer {
                    Layer::Gru(g) => K::gru(g, x, h, out),
                    Layer::Dense(d) => K::dense(d, x, out),
                }
                std::mem::swap(h, out);
                x = h;
            }
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / STEPS as f64);
    }
    best
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("model               portable ns    host ns   ratio");
    for (features, units, outputs) in [
        (5, &[32][..], 3),
        (9, &[64], 6),
        (10, &[154], 12),
        (6, &[32, 32], 4),
    ] {
        let random = model(1, features, units, outputs);
        let rows = Aligned::new(&write(&random, Layout::Rows)?);
        let rows = Model::load(&rows)?;
        let lanes = relayed(&rows, Layout::Lanes)?;
        let lanes = Model::load(&lanes)?;
        let mut x = SplitMix(2).sample(features);
        x.resize(align4(features), 0);
        let portable = step_ns::<Portable>(&rows, &x);
        let host = step_ns::<Host>(&lanes, &x);
        println!(
            "{:<20}{portable:>11.0}{host:>11.0}{:>8.1}",
            format!("{features} -> {units:?} -> {outputs}"),
            portable / host
        );
    }
    Ok(())
}
