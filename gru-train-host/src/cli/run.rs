//! `gru run`: decisions as they come, on the host core or on a virtual board.

use std::path::PathBuf;

use clap::Args;
use gru_core::{Digest, writer};
use serde_json::json;

use super::artifact::Loaded;
use super::console::{Console, Failure};
use super::source::Source;
use crate::dataset::Window;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The artifact.
    model: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Print a decision every so many steps [default: once a second].
    #[arg(long, value_name = "STEPS")]
    every: Option<usize>,
    /// Reset the state after so many steps; 0 never [default: the windows of the training].
    #[arg(long, value_name = "STEPS")]
    window: Option<usize>,
    /// Print every decision, not only changes.
    #[arg(long)]
    all: bool,
}

/// Class with the largest logit and its softmax probability.
pub(crate) fn decide(logits: &[i16], frac: u8) -> (usize, f64) {
    let scale = 1.0 / f64::from(1u32 << frac.min(15));
    let mut best = 0;
    for (k, v) in logits.iter().enumerate() {
        if *v > logits[best] {
            best = k;
        }
    }
    let top = logits.get(best).map_or(0.0, |v| f64::from(*v));
    let sum: f64 = (logits.iter())
        .map(|v| libm::exp((f64::from(*v) - top) * scale))
        .sum();
    (best, if sum > 0.0 { 1.0 / sum } else { 0.0 })
}

pub(crate) fn run(args: &RunArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    let loaded = Loaded::open(&args.model)?;
    let model = loaded.model()?;
    let data = args.source.for_model(&loaded, false)?;
    let trained = loaded.companion.as_ref().map_or(0, |c| c.window_steps);
    let window = args.window.unwrap_or(trained);
    let rate = match (
        f64::from(model.sample_rate_mhz()) / 1000.0,
        data.sample_rate_hz,
    ) {
        (rate, _) if rate > 0.0 => rate,
        (_, rate) if rate > 0.0 => f64::from(rate),
        _ => 1.0,
    };
    let every = args.every.unwrap_or(match window {
        0 => (rate.round() as usize).max(1),
        steps => steps,
    });
    if every == 0 {
        return Err(Failure::input("--every 0, expected at least 1 step"));
    }
    let classes = loaded.classes();
    let name = |class: usize| match classes.get(class) {
        Some(name) => name.clone(),
        None => format!("output {class}"),
    };
    let mut state = writer::host_state(&model).map_err(|e| Failure::file(&args.model, e))?;
    let mut digest = Digest::default();
    let mut decisions = Vec::new();
    let mut counts = Vec::new();
    let mut steps = 0u64;
    for (n, sequence) in data.sequences.iter().enumerate() {
        let failed = |e| Failure::file(&args.model, e);
        state.reset(&model).map_err(failed)?;
        let recording = &data.recordings[sequence.recording as usize];
        if data.sequences.len() > 1 {
            console.say(format!("{recording}:"));
        }
        let whole = Window {
            sequence: n,
            start: 0,
            steps: data.steps(n),
            label: 0,
        };
        data.counts_into(&whole, &mut counts);
        let mut last = None;
        for (t, sample) in counts.chunks_exact(data.input().max(1)).enumerate() {
            if window > 0 && t > 0 && t % window == 0 {
                state.reset(&model).map_err(failed)?;
            }
            let output = model.step(&mut state, sample).map_err(failed)?;
            let ready = output.is_ready();
            let logits: Vec<i16> = output.values().collect();
            let frac = output.frac();
            state.digest(&model, &mut digest);
            steps += 1;
            if (t + 1) % every != 0 || !ready {
                continue;
            }
            let (class, probability) = decide(&logits, frac);
            decisions.push(json!([n, t, class]));
            if args.all || last != Some(class) {
                console.say(format!(
                    "{:10.2} s  {:<20} {:5.1} %",
                    (t + 1) as f64 / rate,
                    name(class),
                    100.0 * probability
                ));
            }
            last = Some(class);
        }
    }
    console.say(format!(
        "{steps} steps on the host core, digest of all hidden states {:016x}",
        digest.value()
    ));
    console.answer(&json!({
        "steps": steps,
        "classes": classes,
        "decisions": decisions,
        "digest_host": format!("{:016x}", digest.value()),
    }));
    Ok(())
}
