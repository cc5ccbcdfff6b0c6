//! `gru drift`: how far the integers of an artifact go from float over a long stream.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::artifact::Loaded;
use super::console::{Console, Failure, grouped, percent};
use crate::reliability::drift;

#[derive(Debug, Args)]
pub(crate) struct DriftArgs {
    /// The artifact.
    model: PathBuf,
    /// Steps of a made stream: a swing with noise in every feature, two standard deviations wide.
    #[arg(long, default_value_t = 1_000_000)]
    steps: u64,
    /// Other seed, other noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn drift(args: &DriftArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    if args.steps < 1000 {
        return Err(Failure::input(format!(
            "--steps {}, expected at least 1000",
            args.steps
        )));
    }
    let loaded = Loaded::open(&args.model, console)?;
    let model = loaded.model()?;
    let found =
        drift::drift(&model, args.steps, args.seed).map_err(|e| Failure::file(&args.model, e))?;
    console.say(format!(
        "{} steps of {}, digest of all hidden states {:016x}",
        grouped(found.steps),
        model.name(),
        found.digest
    ));
    for (n, layer) in found.layers.iter().enumerate() {
        let [r, z, candidate, recurrent] = layer.saturated.map(percent);
        console.say(format!(
            "GRU {n} of {} units: state {:+.3} to {:+.3}, {:.1e} from float in the mean, {:.1e} at most",
            layer.units, layer.range[0], layer.range[1], layer.mean, layer.most
        ));
        console.say(format!(
            "  saturated: reset gate {r}, update gate {z}, candidate {candidate}, its recurrent part {recurrent}; the \
             slowest unit remembers {:.0} steps",
            layer.longest_memory
        ));
    }
    console.say(format!(
        "difference {:.2e} in the first tenth, {:.2e} in the last: slope {:+.1} standard errors; same decision in {} of \
         the steps",
        found.ends[0],
        found.ends[1],
        found.trend,
        percent(found.agreement)
    ));
    console.answer(&json!({
        "steps": found.steps,
        "digest": format!("{:016x}", found.digest),
        "layers": found.layers.iter().map(|l| json!({
            "units": l.units,
            "saturated": {"r": l.saturated[0], "z": l.saturated[1], "n": l.saturated[2], "nh": l.saturated[3]},
            "range": l.range,
            "mean_difference": l.mean,
            "max_difference": l.most,
            "longest_memory_steps": l.longest_memory,
        })).collect::<Vec<_>>(),
        "trend_standard_errors": found.trend,
        "difference_first_tenth": found.ends[0],
        "difference_last_tenth": found.ends[1],
        "agreement": found.agreement,
        "counted_saturations": found.counted,
        "grows": found.grows(),
    }));
    match found.grows() {
        false => Ok(()),
        true => Err(Failure::check("the difference from float grows with time")),
    }
}
