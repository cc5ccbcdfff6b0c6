//! From samples to decisions: `cargo run -p gru-core --example decisions --features std`.
//!
//! The model is a constant of the program, which the compiler has checked, and so is how much memory a stream needs.

use gru_core::{Model, Stream, include_model};

const LEVEL: &Model = include_model!("level.gru");
const STATE: usize = LEVEL.state_len();
const DECIDER: usize = LEVEL.decider_len();

/// 16-bit counts of a sensor at 50 Hz: low, high for a second, high for a moment only, low.
fn sensor(step: usize) -> i16 {
    let wobble = (step as i16 * 7 % 11 - 5) * 100;
    match step {
        100..150 | 200..203 => 12_000 + wobble,
        _ => -12_000 + wobble,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut stream = Stream::<STATE, DECIDER>::new(LEVEL)?;
    let names: Vec<&str> = LEVEL.classes().collect();
    let mut seen = Vec::new();
    for step in 0..300 {
        if let Some(decision) = stream.push(&[sensor(step)])? {
            let name = decision
                .class()
                .map_or("unsure", |class| names[class as usize]);
            let percent = 100.0 * f32::from(decision.confidence) / 32768.0;
            println!(
                "{:5.2} s  {name:<8} {percent:5.1} %",
                decision.step as f32 / 50.0
            );
            seen.push(name);
        }
    }
    // Nothing before the warm-up; the short peak is not enough for "high".
    assert_eq!(seen, ["low", "unsure", "high", "unsure", "low"]);
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
