//! `gru tune`: chooses the decision layer on validation recordings.

use std::path::{Path, PathBuf};

use clap::Args;
use gru_core::layout::Layout;
use gru_core::{Model, writer};
use serde_json::{Value, json};

use super::artifact::{Companion, Loaded, companion_path, save};
use super::console::{Console, Failure, grouped, percent, write_file};
use super::eval::who;
use super::events::{Counting, about, figures, head, line, rate_of, recorded};
use super::source::{Source, missing};
use crate::dataset::{Dataset, Part};
use crate::decision::{DecisionSpec, describe};
use crate::events::{Recorded, Rules};
use crate::pipeline;
use crate::tune::{self, Confidence, TuneError, TuneSpec, Tuned};

/// The most lines that are shown of the front.
const FRONT: usize = 9;

#[derive(Debug, Args)]
pub(crate) struct TuneArgs {
    /// The artifact.
    model: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Where to write the artifact with the new decision layer.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Fewest misses with at most so many false alarms in an hour of labelled time [default: largest F1].
    #[arg(long, value_name = "NUMBER")]
    max_false_alarms_per_hour: Option<f64>,
    /// The longest delay that nine of ten detected events may have.
    #[arg(long, value_name = "SECONDS")]
    max_latency: Option<f64>,
    #[command(flatten)]
    counting: Counting,
}

/// Recordings to tune on, and what to call them: never those that test the model.
fn tuned_on(data: &Dataset, loaded: &Loaded) -> (Vec<usize>, &'static str) {
    let mut all: Vec<usize> = (0..data.sequences.len()).collect();
    let official = data.has_official_split();
    if official {
        all = data.part(Part::Train);
    }
    let own = (loaded.companion.as_ref()).filter(|c| c.data == data.name);
    let among = |names: &[String], s: &usize| names.iter().any(|n| n == who(data, *s));
    if let Some(companion) = own {
        all.retain(|s| !among(&companion.held_out, s));
        if !companion.validation.is_empty() {
            all.retain(|s| among(&companion.validation, s));
            return (all, "of people held out in training to choose by");
        }
        return (all, "that training learnt from as well");
    }
    match official {
        true => (all, "of the official training part"),
        false => (all, "(all)"),
    }
}

/// Prints what the search came to, and gives it for programs.
pub(crate) fn report(
    tuned: &Tuned,
    before: &writer::QuantModel,
    recorded: &[Recorded],
    rules: &Rules,
    rate: f64,
    console: &mut Console<'_>,
) -> Result<Value, Failure> {
    let classes = &before.classes;
    let judge = |rule| tune::figures(before, rule, recorded, rules).map_err(Failure::input);
    let plain = judge(None)?;
    let mut rows = vec![("most probable class", plain.clone())];
    if let Some(present) = &before.decision {
        rows.push(("decision layer before", judge(Some(present))?));
    }
    rows.push(("decision layer, tuned", tuned.chosen.tally.clone()));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    console.say(head(width));
    for (name, tally) in &rows {
        console.say(line(tally, name, width, rate));
    }
    for (name, tally) in &rows {
        console.say(format!(
            "{name:width$} F1 {:.3}, outcome right {} of the labelled time, unsure {}",
            tally.f1(),
            percent(tally.time_right()),
            percent(tally.unsure_share())
        ));
    }
    if let Some(Confidence { nll, error }) = tuned.confidence {
        console.say(format!(
            "expected calibration error {} before, {} after; negative log-likelihood {:.3} before, {:.3} after",
            percent(error[0]),
            percent(error[1]),
            nll[0],
            nll[1]
        ));
    }
    console.say(format!(
        "of {} rules tried, those that nothing beats in both; * is the chosen one:",
        grouped(tuned.tried as u64)
    ));
    console.say(format!(
        "  {:>14} {:>7} {:>8}",
        "false alarms/h", "missed", "latency"
    ));
    let at = (tuned.front.iter()).position(|t| t.rule == tuned.chosen.rule);
    let every = tuned.front.len().div_ceil(FRONT).max(1);
    let mut shown: Vec<&tune::Trial> = (tuned.front.iter().enumerate())
        .filter(|(k, _)| k.is_multiple_of(every) || Some(*k) == at)
        .map(|(_, t)| t)
        .collect();
    if at.is_none() {
        shown.push(&tuned.chosen);
    }
    for trial in shown {
        let latency = trial.tally.latency(0.5).map_or("-".into(), |steps| {
            format!("{:.2} s", f64::from(steps) / rate)
        });
        let mark = if trial.rule == tuned.chosen.rule {
            "*"
        } else {
            " "
        };
        console.say(format!(
            "{mark} {:>14.1} {:>7} {latency:>8}  {}",
            trial.tally.false_alarms_per_hour(rate),
            trial.tally.missed(),
            describe(&trial.rule, classes).join("; ")
        ));
    }
    let table = DecisionSpec::of(&tuned.chosen.rule, classes, tuned.model.warm_up_steps);
    Ok(json!({
        "tried": tuned.tried,
        "argmax": figures(&plain, classes, rate),
        "before": match rows.len() {
            3 => figures(&rows[1].1, classes, rate),
            _ => Value::Null,
        },
        "tuned": figures(&tuned.chosen.tally, classes, rate),
        "calibration_error": tuned.confidence.map(|c| c.error),
        "nll": tuned.confidence.map(|c| c.nll),
        "decision": table,
    }))
}

/// The artifact of `tuned` in a layout.
pub(crate) fn written(tuned: &Tuned, layout: Layout) -> Result<writer::Aligned, Failure> {
    let bytes = writer::write(&tuned.model, layout).map_err(Failure::input)?;
    Ok(writer::Aligned::new(&bytes))
}

/// Limits that cannot be kept are a check that did not hold, anything else is bad input.
pub(crate) fn refused(error: TuneError, rate: f64, so: &str) -> Failure {
    match &error {
        TuneError::OutOfReach(closest) => Failure::check(format!(
            "{error}: {:.1} false alarms per hour, latency {:.2} s at 90 %; {so}",
            closest.tally.false_alarms_per_hour(rate),
            f64::from(closest.tally.latency(0.9).unwrap_or(0)) / rate
        )),
        _ => Failure::input(error),
    }
}

fn store(path: &Path, bytes: &[u8], companion: Option<Companion>) -> Result<(), Failure> {
    match companion {
        Some(companion) => save(path, Some(bytes), &companion),
        None => write_file(path, bytes),
    }
}

pub(crate) fn tune(args: &TuneArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    let loaded = Loaded::open(&args.model, console)?;
    let model = loaded.model()?;
    let wanted = TuneSpec {
        max_false_alarms_per_hour: args.max_false_alarms_per_hour,
        max_latency_s: args.max_latency,
        ..args.counting.spec()?
    };
    wanted.check().map_err(Failure::input)?;
    let background = args.counting.background(&loaded)?;
    let data = args.source.for_model(&loaded.expected(), true)?;
    if let Some(line) = missing(&data) {
        console.note(line);
    }
    let rate = rate_of(&args.source, &loaded, &data, &model)?;
    let (sequences, which) = tuned_on(&data, &loaded);
    let recorded = recorded(&args.source, &model, &data, &sequences)?;
    let rules = wanted.rules(background, rate);
    let mut before = loaded.parts().clone();
    if before.decision.is_none() && before.warm_up_steps == 0 {
        before.warm_up_steps = pipeline::stream_warm_up(&model, &data, &sequences)
            .map_err(|e| Failure::file(&args.model, e))?;
        console.say(format!(
            "warm-up measured: {} steps after a reset without decisions",
            before.warm_up_steps
        ));
    }
    let started = std::time::Instant::now();
    let tuned = tune::tune(&before, &recorded, &rules, &wanted, rate).map_err(|e| match e {
        TuneError::Invalid(what) => Failure::file(&args.source.data, what),
        e => refused(e, rate, "nothing written"),
    })?;
    console.say(about(&tuned.chosen.tally, which, rate));
    let mut answer = report(&tuned, &before, &recorded, &rules, rate, console)?;
    let bytes = written(&tuned, model.layout())?;
    let tag = Model::load(&bytes).map_err(Failure::input)?.tag();
    let spec = DecisionSpec::of(
        &tuned.chosen.rule,
        &tuned.model.classes,
        tuned.model.warm_up_steps,
    );
    let table = std::collections::BTreeMap::from([("decision", &spec)]);
    let table = toml::to_string(&table).map_err(Failure::input)?;
    console.say("as a table of a recipe:");
    table.lines().for_each(|line| console.say(line));
    let companion = loaded.companion.clone().map(|mut companion| {
        companion.artifact_crc32 = format!("{tag:08x}");
        companion.model.decision = Some(spec);
        companion
    });
    let beside = match companion {
        Some(_) => format!(
            "; float model in {}",
            companion_path(&args.output).display()
        ),
        None => String::new(),
    };
    store(&args.output, &bytes, companion)?;
    console.say(format!(
        "{}: {} bytes, {} before, the same weights, tuned in {:.1} s{beside}",
        args.output.display(),
        grouped(bytes.len() as u64),
        grouped(model.bytes().len() as u64),
        started.elapsed().as_secs_f64()
    ));
    answer["artifact"] = args.output.display().to_string().into();
    answer["artifact_bytes"] = bytes.len().into();
    answer["which"] = format!("recordings {which}").into();
    console.answer(&answer);
    Ok(())
}
