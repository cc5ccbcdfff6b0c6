//! `gru search`: trials of sizes under budgets, and the Pareto front of what they found.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::console::{Console, Failure, grouped, percent, write_file};
use super::source::Source;
use super::train::{LayoutArg, observer};
use crate::search::{self, Answer, Budget, Space};
use crate::train::{self, TrainConfig};

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    source: Source,
    /// A recipe (`train.toml`) for everything that is not searched.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Units of a GRU layer.
    #[arg(long, value_delimiter = ',', default_value = "8,12,16,24,32")]
    units: Vec<usize>,
    /// Numbers of GRU layers.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    layers: Vec<usize>,
    /// Steps of a window, for recordings with labels per step; 0: two seconds.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    windows: Vec<usize>,
    /// Seeds of each architecture; each holds out other training people.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Passes over the training windows, instead of the recipe's.
    #[arg(long)]
    epochs: Option<usize>,
    /// Threads; the result does not depend on it.
    #[arg(long)]
    threads: Option<usize>,
    /// Order of the weights.
    #[arg(long, default_value = "pair")]
    layout: LayoutArg,
    /// Largest artifact in bytes.
    #[arg(long, value_name = "BYTES")]
    max_flash: Option<usize>,
    /// Largest state of a stream in bytes.
    #[arg(long, value_name = "BYTES")]
    max_ram: Option<usize>,
    /// Most multiply-accumulates per step.
    #[arg(long, value_name = "N")]
    max_macs: Option<usize>,
    /// Which trials to run: `i/n` for those with the number i modulo n, from 0.
    #[arg(long, default_value = "0/1", value_name = "I/N")]
    shard: String,
    /// Where the trials' lines are; trials that are there are not run again.
    #[arg(long, default_value = "search.jsonl", value_name = "FILE")]
    results: PathBuf,
    /// Lines of other shards, for the front.
    #[arg(long, value_name = "FILE")]
    also: Vec<PathBuf>,
    /// Where to draw the front.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// `i/n` with i below n.
fn shard(text: &str) -> Result<(usize, usize), Failure> {
    let parts = text
        .split_once('/')
        .and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((i, n)) if i < n => Ok((i, n)),
        _ => Err(Failure::input(format!(
            "--shard {text}, expected i/n with i from 0 to n - 1"
        ))),
    }
}

fn lines(path: &PathBuf, setting: &str) -> Result<Vec<Answer>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) => return Err(Failure::file(path, e)),
    };
    (text.lines().enumerate())
        .filter(|(_, line)| !line.is_empty())
        .map(|(row, line)| {
            let bad = |what: String| Failure::file(path, format!("line {}: {what}", row + 1));
            let answer: Answer = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
            match answer.setting == setting {
                true => Ok(answer),
                false => Err(bad(
                    "a trial of another recipe, layout or other data; expected those of this search".into(),
                )),
            }
        })
        .collect()
}

pub(crate) fn search(args: &SearchArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    let mut base = match &args.config {
        Some(path) => train::read_config(path).map_err(Failure::input)?,
        None => TrainConfig::default(),
    };
    base.epochs = args.epochs.unwrap_or(base.epochs);
    base.threads = args.threads.unwrap_or(base.threads);
    let space = Space {
        base,
        units: args.units.clone(),
        layers: args.layers.clone(),
        windows: args.windows.clone(),
        seeds: args.seeds,
        layout: args.layout.into(),
        budget: Budget {
            flash: args.max_flash,
            ram: args.max_ram,
            macs: args.max_macs,
        },
    };
    if args.layers.contains(&0) || args.units.contains(&0) || args.seeds == 0 {
        return Err(Failure::input("--units, --layers and --seeds start at 1"));
    }
    let (own, of) = shard(&args.shard)?;
    let data = args.source.labelled()?;
    let questions = space.questions();
    for question in &questions {
        let config = TrainConfig {
            units: question.units.clone(),
            ..space.base.clone()
        };
        config.check().map_err(Failure::input)?;
    }
    let setting = space.setting(&data);
    let mut answers = match args.results.exists() {
        true => lines(&args.results, &setting)?,
        false => Vec::new(),
    };
    for question in questions.iter().filter(|q| q.trial % of == own) {
        if answers.iter().any(|a| space.answered(question, a)) {
            continue;
        }
        answers.retain(|a| a.question != *question);
        let answer = space
            .answer(question, &data, &mut observer())
            .map_err(|e| Failure::file(&args.source.data, e))?;
        console.note(format!(
            "trial {} of {}: {:?} units, {} bytes, {}",
            question.trial,
            questions.len(),
            question.units,
            grouped(answer.needs.flash as u64),
            match answer.int8 {
                Some(int8) => format!("int8 {}", percent(int8)),
                None => "over the budget, not trained".into(),
            }
        ));
        answers.push(answer);
        // Whole again after each trial: an interrupted search goes on where it was.
        let mut text = String::new();
        for answer in &answers {
            text += &serde_json::to_string(answer).map_err(Failure::input)?;
            text.push('\n');
        }
        write_file(&args.results, text.as_bytes())?;
    }
    for path in &args.also {
        answers.extend(lines(path, &setting)?);
    }
    let found = search::candidates(&answers);
    let front = search::front(&found);
    console.say("| units | window | flash B | RAM B | MAC per step | int8 % | seeds | front |");
    console.say("|---|---|---|---|---|---|---|---|");
    for (candidate, on) in found.iter().zip(&front) {
        let units: Vec<String> = candidate.units.iter().map(ToString::to_string).collect();
        console.say(format!(
            "| {} | {} | {} | {} | {} | {:.2} | {} | {} |",
            units.join("+"),
            candidate.window,
            grouped(candidate.needs.flash as u64),
            grouped(candidate.needs.ram as u64),
            grouped(candidate.needs.macs as u64),
            100.0 * candidate.mean(),
            candidate.int8.len(),
            if *on { "yes" } else { "" }
        ));
    }
    if let Some(path) = &args.svg {
        let svg = search::picture(&found).map_err(Failure::input)?;
        write_file(path, svg.as_bytes())?;
    }
    let rows: Vec<_> = (found.iter().zip(&front))
        .map(|(c, on)| {
            json!({
                "units": c.units, "window": c.window, "flash": c.needs.flash, "ram": c.needs.ram,
                "macs": c.needs.macs, "int8": c.int8, "front": on,
            })
        })
        .collect();
    console.answer(&json!(rows));
    Ok(())
}
