//! `gru cycles`: what a function of a firmware costs on a core.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::console::{Console, Failure, grouped};
use crate::board::cycles::{self, Call, Core, Options};

#[derive(Debug, Args)]
pub(crate) struct CyclesArgs {
    /// The firmware: a linked ELF file with symbols.
    firmware: PathBuf,
    /// The core that it runs on; m7 has no published timings, only its instructions are counted.
    #[arg(long)]
    core: Core,
    /// Symbol of the function; it has to be called (`#[unsafe(no_mangle)] #[inline(never)]`).
    #[arg(long, value_name = "NAME", default_value = "gru_bench_step")]
    function: String,
    /// End the firmware after so many calls [default: it ends by itself].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    calls: Option<u32>,
    /// Give up after so many instructions of the firmware.
    #[arg(long, value_name = "N", default_value_t = 1_000_000_000)]
    most_instructions: u64,
    /// Print a line for each call: instructions and cycles.
    #[arg(long)]
    each: bool,
}

pub(crate) fn cycles(args: &CyclesArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    let elf = std::fs::read(&args.firmware).map_err(|e| Failure::file(&args.firmware, e))?;
    let core = args.core;
    let options = Options {
        core,
        function: &args.function,
        calls: args.calls.map(|n| n as usize),
        most_instructions: args.most_instructions,
    };
    let calls = cycles::count(&elf, &options).map_err(|e| Failure::file(&args.firmware, e))?;

    let instructions = Figures::of(&calls, |c| Some(c.instructions));
    let estimate = Figures::of(&calls, |c| c.cycles);
    if args.each {
        for Call {
            instructions,
            cycles,
        } in &calls
        {
            let cycles = cycles.map_or("-".to_owned(), |c| c.to_string());
            console.say(format!("{instructions} {cycles}"));
        }
    } else {
        console.say(format!(
            "{} on {}: {} calls, each with everything that it calls",
            args.function,
            core.name(),
            grouped(calls.len() as u64)
        ));
        let text = |figures: Option<Figures>| figures.map_or("-".to_owned(), Figures::text);
        console.say(format!("instructions      {}  (exact)", text(instructions)));
        console.say(format!(
            "estimated cycles  {}  ({})",
            text(estimate),
            core.model().map_or(
                "Arm publishes no timings of this core".to_owned(),
                |model| format!("a model: {model}; no wait states")
            )
        ));
    }
    let value = |figures: Option<Figures>| {
        figures.map(|f| json!({ "min": f.least, "mean": f.mean, "max": f.most }))
    };
    console.answer(&json!({
        "file": args.firmware.display().to_string(),
        "function": args.function,
        "core": core.name(),
        "calls": calls.len(),
        "instructions": value(instructions),
        "cycles": value(estimate),
        "model": core.model(),
    }));
    Ok(())
}

/// Of all calls.
#[derive(Debug, Clone, Copy)]
struct Figures {
    least: u64,
    mean: f64,
    most: u64,
}

impl Figures {
    fn of(calls: &[Call], figure: impl Fn(&Call) -> Option<u64>) -> Option<Self> {
        let all: Vec<u64> = calls.iter().map(figure).collect::<Option<_>>()?;
        Some(Self {
            least: *all.iter().min()?,
            mean: all.iter().sum::<u64>() as f64 / all.len() as f64,
            most: *all.iter().max()?,
        })
    }

    fn text(self) -> String {
        match self.least == self.most {
            true => grouped(self.least),
            false => format!(
                "{} on average, {} to {}",
                grouped(self.mean.round() as u64),
                grouped(self.least),
                grouped(self.most)
            ),
        }
    }
}
