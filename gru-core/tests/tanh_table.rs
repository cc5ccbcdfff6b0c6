//! Generates the tanh table again and compares it with the one in the sources.
//!
//! `GRU_WRITE_TABLES=1 cargo test -p gru-core --test tanh_table` writes it instead.

use gru_core::activation::TANH_TABLE;
use std::fmt::Write;

/// The best (base, slope) of segment `i`: least maximum error over its 128 inputs, the first in
/// order of base and slope where several are equally good.
fn fit(i: i32) -> u32 {
    let target = |v: i32| libm::tanh(v as f64 * 6.0 / 32768.0) * 32768.0;
    let v0 = (i - 256) * 128;
    let targets: Vec<f64> = (0..128).map(|f| target(v0 + f)).collect();
    let rise = target(v0 + 128) - targets[0];
    let left = targets[0].floor() as i32;
    // tanh(0) has to be exactly 0: padded units rely on it.
    let bases = if i == 256 { 0..=0 } else { left - 2..=left + 3 };
    let slopes = ((2.0 * rise) as i32 - 12).max(0)..(2.0 * rise) as i32 + 14;
    let mut best = (f64::INFINITY, 0);
    for base in bases.filter(|b| (-32768..=32767).contains(b)) {
        for slope in slopes.clone() {
            let word = (base << 16) | slope;
            let mut error = 0f64;
            for (f, t) in targets.iter().enumerate() {
                let y = (word as i64 + slope as i64 * ((f as i64) << 8)) >> 16;
                error = if y > 32767 {
                    f64::INFINITY
                } else {
                    error.max((y as f64 - t).abs())
                };
                if error > best.0 {
                    break;
                }
            }
            if error < best.0 - 1e-12 {
                best = (error, word as u32);
            }
        }
    }
    best.1
}

#[test]
fn table_is_what_the_generator_makes() {
    // Under an interpreter a segment takes seconds.
    let some = |i: &i32| !cfg!(miri) || i % 73 == 0;
    let made: Vec<u32> = (0..512)
        .map(|i| {
            if some(&i) {
                fit(i)
            } else {
                TANH_TABLE[i as usize]
            }
        })
        .collect();
    if std::env::var_os("GRU_WRITE_TABLES").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tanh_table.rs");
        let old = std::fs::read_to_string(path).unwrap();
        let head = &old[..old.find("= [\n").unwrap() + 4];
        let mut text = head.to_string();
        for row in made.chunks(8) {
            let words: Vec<String> = row.iter().map(|w| format!("0x{w:08x},")).collect();
            writeln!(text, "    {}", words.join(" ")).unwrap();
        }
        std::fs::write(path, text + "];\n").unwrap();
        return;
    }
    let differing: Vec<usize> = (0..512).filter(|&i| made[i] != TANH_TABLE[i]).collect();
    assert!(
        differing.is_empty(),
        "segments {differing:?} differ from the generator"
    );
}
