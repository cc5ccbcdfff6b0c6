//! `gru eval`: accuracy, confusion matrix, float against int8.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::artifact::{Companion, Loaded, left_out};
use super::console::{Console, Failure, grouped, percent};
use super::source::Source;
use crate::dataset::{Dataset, Part, Window, WindowLabel};
use crate::pipeline::{self, Cut, accuracy, agreement, confusion};

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// The artifact, or a float model (`.json`).
    model: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Judge all of the data, those that the model learnt from as well.
    #[arg(long)]
    all: bool,
    /// Steps of a window [default: as in training].
    #[arg(long, value_name = "STEPS")]
    window: Option<usize>,
    /// Steps from one window to the next [default: as in training].
    #[arg(long, value_name = "STEPS")]
    hop: Option<usize>,
}

/// The person of a sequence where it is known, else its recording.
pub(crate) fn who(data: &Dataset, sequence: usize) -> &str {
    let s = &data.sequences[sequence];
    match s.subject {
        Some(subject) => &data.subjects[subject as usize],
        None => &data.recordings[s.recording as usize],
    }
}

/// Which sequences to judge, and what to call them.
pub(crate) fn judged(
    data: &Dataset,
    companion: Option<&Companion>,
    all: bool,
) -> (Vec<usize>, &'static str) {
    let every: Vec<usize> = (0..data.sequences.len()).collect();
    if all {
        return (every, "(all)");
    }
    if data.has_official_split() {
        return (data.part(Part::Test), "of the official test part");
    }
    if let Some(companion) = companion {
        let held = |s: &usize| companion.held_out.contains(&who(data, *s).to_owned());
        let kept: Vec<usize> = every.iter().copied().filter(held).collect();
        if !kept.is_empty() && kept.len() < every.len() && companion.data == data.name {
            return (kept, "of those held out in training");
        }
    }
    (every, "(all)")
}

/// The confusion matrix as a table; rows are what it was, columns what was decided.
pub(crate) fn table(rows: &[Vec<u32>], classes: &[String]) -> Vec<String> {
    let name = classes
        .iter()
        .map(|c| c.chars().count())
        .max()
        .unwrap_or(0)
        .max(5);
    let cell = (rows
        .iter()
        .flatten()
        .max()
        .map_or(1, |n| n.to_string().len()))
    .max(4)
        + 1;
    let mut head = format!("{:>name$} ", "");
    for k in 0..classes.len() {
        head += &format!("{:>cell$}", format!("[{k}]"));
    }
    let mut lines = vec![format!("{head}   recall")];
    for (k, row) in rows.iter().enumerate() {
        let mut line = format!("{:>name$} ", classes.get(k).map_or("", |c| c));
        row.iter().for_each(|n| line += &format!("{n:>cell$}"));
        let all: u32 = row.iter().sum();
        let recall = f64::from(row.get(k).copied().unwrap_or(0)) / f64::from(all.max(1));
        lines.push(format!("{line}  {:>6.2} %  [{k}]", 100.0 * recall));
    }
    lines
}

impl EvalArgs {
    /// The windows to judge, and what to call them.
    fn windows(
        &self,
        data: &Dataset,
        companion: Option<&Companion>,
    ) -> Result<(Vec<Window>, &'static str), Failure> {
        let mut cut = Cut::for_data(data);
        if let Some(companion) = companion {
            (cut.steps, cut.hop) = (companion.window_steps, companion.hop_steps);
        }
        cut.steps = self.window.unwrap_or(cut.steps);
        cut.hop = self.hop.unwrap_or(cut.hop);
        cut.label = WindowLabel::Last;
        let (sequences, which) = judged(data, companion, self.all);
        let windows = cut.windows(data, &sequences);
        if windows.is_empty() {
            let what = format!("no labelled window of {} steps", cut.steps);
            return Err(Failure::file(&self.source.data, what));
        }
        Ok((windows, which))
    }
}

/// A float model without an artifact.
fn eval_float(args: &EvalArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    let companion = Companion::open(&args.model)?;
    let data = args.source.for_model(&companion.expected(), true)?;
    let (windows, which) = args.windows(&data, Some(&companion))?;
    let decided =
        pipeline::decide_float(&companion.model, &data, &windows, 0).map_err(Failure::input)?;
    let float = accuracy(&decided, &windows);
    let rows = confusion(&decided, &windows, companion.model.output());
    console.say(format!(
        "{} windows {which}: float accuracy {}",
        grouped(windows.len() as u64),
        percent(float)
    ));
    let (invalid, skipped) = pipeline::invalid_in(&companion.model, &data, &windows);
    if let Some(line) = left_out(invalid, skipped, companion.model.gap.into()) {
        console.say(line);
    }
    for line in table(&rows, &companion.model.classes) {
        console.say(line);
    }
    console.answer(&json!({
        "windows": windows.len(),
        "which": format!("windows {which}"),
        "float_accuracy": float,
        "classes": companion.model.classes,
        "confusion": rows,
        "invalid_values": invalid,
        "skipped_steps": skipped,
    }));
    Ok(())
}

pub(crate) fn eval(args: &EvalArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    if Companion::is_at(&args.model) {
        return eval_float(args, console);
    }
    let loaded = Loaded::open(&args.model, console)?;
    let model = loaded.model()?;
    let data = args.source.for_model(&loaded.expected(), true)?;
    let (windows, which) = args.windows(&data, loaded.companion.as_ref())?;
    let classes = loaded.classes();
    let int8 = pipeline::decide_int8(&model, &data, &windows).map_err(Failure::input)?;
    let int8_accuracy = accuracy(&int8.classes, &windows);
    let rows = confusion(&int8.classes, &windows, model.outputs());
    console.say(format!(
        "{} windows {which}: int8 accuracy {}",
        grouped(windows.len() as u64),
        percent(int8_accuracy)
    ));
    let mut float_accuracy = None;
    let mut agree = None;
    match &loaded.companion {
        Some(companion) => {
            let float = pipeline::decide_float(&companion.model, &data, &windows, 0)
                .map_err(Failure::input)?;
            let (a, b) = (accuracy(&float, &windows), agreement(&float, &int8.classes));
            console.say(format!(
                "float accuracy {}, same decision on {}, int8 loses {:+.2} points",
                percent(a),
                percent(b),
                100.0 * (a - int8_accuracy)
            ));
            (float_accuracy, agree) = (Some(a), Some(b));
        }
        None => console.say("no float model beside the artifact: int8 only"),
    }
    if let Some(line) = left_out(int8.invalid_values, int8.skipped_steps, model.gap_policy()) {
        console.say(line);
    }
    for line in table(&rows, &classes) {
        console.say(line);
    }
    console.answer(&json!({
        "windows": windows.len(),
        "which": format!("windows {which}"),
        "int8_accuracy": int8_accuracy,
        "float_accuracy": float_accuracy,
        "agreement": agree,
        "classes": classes,
        "confusion": rows,
        "invalid_values": int8.invalid_values,
        "skipped_steps": int8.skipped_steps,
        "digest_host": format!("{:016x}", int8.digest),
    }));
    Ok(())
}
