//! `gru events`: what the decision layer makes of whole recordings, event by event.

use std::path::PathBuf;

use clap::Args;
use gru_core::Model;
use gru_core::artifact::Readout;
use serde_json::{Value, json};

use super::artifact::Loaded;
use super::console::{Console, Failure, grouped, percent};
use super::eval::judged;
use super::source::{Source, missing};
use crate::confidence::Sampled;
use crate::dataset::Dataset;
use crate::events::{self, Recorded, Rules, Tally};
use crate::tune::{self, TuneSpec};

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// The artifact.
    model: PathBuf,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    counting: Counting,
    /// Judge all of the data, those that the model learnt from as well.
    #[arg(long)]
    all: bool,
    /// Judge the most probable class of every step instead of the decision layer.
    #[arg(long)]
    argmax: bool,
}

/// How events are counted.
#[derive(Debug, Args)]
pub(crate) struct Counting {
    /// Seconds that a decision may come before its event or after it.
    #[arg(long, default_value_t = 0.5, value_name = "SECONDS")]
    tolerance: f64,
    /// Shorter events do not count.
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    min_event: f64,
    /// The class that means that nothing happens [default: that of the decision layer].
    #[arg(long, value_name = "CLASS")]
    background: Option<String>,
}

impl Counting {
    /// As the table of a recipe; without limits.
    pub(crate) fn spec(&self) -> Result<TuneSpec, Failure> {
        let spec = TuneSpec {
            tolerance_s: Some(self.tolerance),
            min_event_s: self.min_event,
            ..TuneSpec::default()
        };
        spec.check().map_err(Failure::input)?;
        Ok(spec)
    }

    /// The class that is no event.
    pub(crate) fn background(&self, loaded: &Loaded) -> Result<Option<u16>, Failure> {
        let rule = loaded.parts().decision.as_ref();
        let Some(name) = &self.background else {
            return Ok(rule.and_then(|d| d.header.background));
        };
        let classes = loaded.classes();
        match classes.iter().position(|c| c == name) {
            Some(class) => Ok(Some(class as u16)),
            None => Err(Failure::input(format!(
                "--background {name:?}, expected one of {}",
                classes.join(", ")
            ))),
        }
    }
}

/// Data and model for events: recordings with labels per step, a model that streams, a sample rate.
pub(crate) fn rate_of(
    source: &Source,
    loaded: &Loaded,
    data: &Dataset,
    model: &Model<'_>,
) -> Result<f64, Failure> {
    let refuse = |what: String| Failure::file(&source.data, what);
    if !model.is_streaming() {
        let what = "a layer reads its window from the end, so it cannot stream";
        return Err(Failure::file(&loaded.path, what));
    }
    if matches!(model.readout(), Readout::Mean { .. }) {
        let what = "read-out mean averages all steps since a reset, so its decisions come later and later in a stream; \
                    train with readout every, last or sliding";
        return Err(Failure::file(&loaded.path, what));
    }
    if model.outputs() != data.classes.len() {
        return Err(refuse(format!(
            "{} classes, the model has {} outputs",
            data.classes.len(),
            model.outputs()
        )));
    }
    let rate = match model.sample_rate_mhz() {
        0 => f64::from(data.sample_rate_hz),
        mhz => f64::from(mhz) / 1000.0,
    };
    match rate > 0.0 {
        true => Ok(rate),
        false => Err(refuse("the sample rate is not known; give --rate".into())),
    }
}

/// Recordings run through the model.
pub(crate) fn recorded(
    source: &Source,
    model: &Model<'_>,
    data: &Dataset,
    sequences: &[usize],
) -> Result<Vec<Recorded>, Failure> {
    events::check_recordings(data, sequences).map_err(|e| Failure::file(&source.data, e))?;
    events::record(model, data, sequences).map_err(|e| Failure::file(&source.data, e))
}

/// One line about the recordings.
pub(crate) fn about(tally: &Tally, which: &str, rate: f64) -> String {
    format!(
        "{} recordings {which}: {:.2} h, {:.2} h of it labelled, {} events",
        tally.recordings,
        tally.steps as f64 / rate / 3600.0,
        tally.hours(rate),
        grouped(u64::from(tally.events()))
    )
}

fn seconds(steps: Option<u32>, rate: f64) -> Option<f64> {
    steps.map(|steps| f64::from(steps) / rate)
}

fn shown(value: Option<f64>, unit: &str) -> String {
    value.map_or("-".into(), |v| format!("{v:.2}{unit}"))
}

/// The head of the lines of [`line`].
pub(crate) fn head(name: usize) -> String {
    format!(
        "{:name$} {:>7} {:>8} {:>7} {:>12} {:>8} {:>9} {:>8} {:>8}",
        "", "events", "missed", "recall", "false alarms", "per hour", "repeats", "latency", "90 %"
    )
}

/// Figures that a class and the whole have.
struct Row {
    events: u32,
    detected: u32,
    false_alarms: u32,
    repeats: u32,
    median: Option<f64>,
    most: Option<f64>,
}

impl Row {
    fn line(&self, name: &str, width: usize, hours: f64) -> String {
        let recall = match self.events {
            0 => "-".into(),
            n => format!("{:.1} %", 100.0 * f64::from(self.detected) / f64::from(n)),
        };
        format!(
            "{name:width$} {:>7} {:>8} {recall:>7} {:>12} {:>8.1} {:>9} {:>8} {:>8}",
            self.events,
            self.events - self.detected,
            self.false_alarms,
            f64::from(self.false_alarms) / hours.max(1e-9),
            self.repeats,
            shown(self.median, " s"),
            shown(self.most, " s"),
        )
    }

    fn all(tally: &Tally, rate: f64) -> Self {
        Self {
            events: tally.events(),
            detected: tally.detected(),
            false_alarms: tally.false_alarms(),
            repeats: tally.repeats(),
            median: seconds(tally.latency(0.5), rate),
            most: seconds(tally.latency(0.9), rate),
        }
    }
}

/// All classes in one line.
pub(crate) fn line(tally: &Tally, name: &str, width: usize, rate: f64) -> String {
    Row::all(tally, rate).line(name, width, tally.hours(rate))
}

/// A line for every class that had an event or a false alarm, and one for all.
pub(crate) fn table(
    tally: &Tally,
    classes: &[String],
    background: Option<u16>,
    rate: f64,
) -> Vec<String> {
    let names = classes.iter().map(|c| c.chars().count());
    let width = names.max().unwrap_or(0).max(5);
    let mut lines = vec![head(width)];
    for (k, (name, c)) in classes.iter().zip(&tally.classes).enumerate() {
        if background.map(usize::from) == Some(k) {
            continue;
        }
        let row = Row {
            events: c.events,
            detected: c.detected,
            false_alarms: c.false_alarms,
            repeats: c.repeats,
            median: seconds(c.latency(0.5), rate),
            most: seconds(c.latency(0.9), rate),
        };
        lines.push(row.line(name, width, tally.hours(rate)));
    }
    lines.push(line(tally, "all", width, rate));
    lines.push(format!(
        "F1 {:.3}; outcome right {} of the labelled time, unsure {}; {} decisions in unlabelled time, not judged",
        tally.f1(),
        percent(tally.time_right()),
        percent(tally.unsure_share()),
        tally.not_judged
    ));
    lines
}

/// The figures for programs.
pub(crate) fn figures(tally: &Tally, classes: &[String], rate: f64) -> Value {
    let each = classes.iter().zip(&tally.classes).map(|(name, c)| {
        json!({
            "name": name,
            "events": c.events,
            "detected": c.detected,
            "false_alarms": c.false_alarms,
            "repeats": c.repeats,
            "latency_median_s": seconds(c.latency(0.5), rate),
            "latency_90_s": seconds(c.latency(0.9), rate),
        })
    });
    json!({
        "recordings": tally.recordings,
        "hours": tally.steps as f64 / rate / 3600.0,
        "hours_labelled": tally.hours(rate),
        "events": tally.events(),
        "detected": tally.detected(),
        "missed": tally.missed(),
        "false_alarms": tally.false_alarms(),
        "repeats": tally.repeats(),
        "not_judged": tally.not_judged,
        "false_alarms_per_hour": tally.false_alarms_per_hour(rate),
        "latency_median_s": seconds(tally.latency(0.5), rate),
        "latency_90_s": seconds(tally.latency(0.9), rate),
        "f1": tally.f1(),
        "time_right": tally.time_right(),
        "unsure": tally.unsure_share(),
        "classes": each.collect::<Vec<_>>(),
    })
}

/// The calibration error of a model's own temperature and of none.
fn calibration(loaded: &Loaded, model: &Model<'_>, recorded: &[Recorded]) -> Option<[f64; 2]> {
    let rule = loaded.parts().decision.as_ref();
    let inverse = rule.map(|d| d.header.inverse_temperature);
    tune::has_logits(loaded.parts()).then(|| {
        let (outputs, frac) = (model.outputs(), model.output_frac());
        let sampled = Sampled::new(recorded, outputs, frac, model.warm_up_steps());
        let neutral = gru_core::artifact::NEUTRAL_TEMPERATURE;
        [neutral, inverse.unwrap_or(neutral)].map(|t| sampled.calibration_error(t))
    })
}

pub(crate) fn events(args: &EventsArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    let loaded = Loaded::open(&args.model, console)?;
    let model = loaded.model()?;
    let spec = args.counting.spec()?;
    let background = args.counting.background(&loaded)?;
    if model.decision().is_none() && !args.argmax {
        let what = "no decision layer: `gru tune` makes one; --argmax judges without one";
        return Err(Failure::file(&args.model, what));
    }
    let data = args.source.for_model(&loaded.expected(), true)?;
    if let Some(line) = missing(&data) {
        console.note(line);
    }
    let rate = rate_of(&args.source, &loaded, &data, &model)?;
    let (sequences, which) = judged(&data, loaded.companion.as_ref(), args.all);
    let recorded = recorded(&args.source, &model, &data, &sequences)?;
    let rules: Rules = spec.rules(background, rate);
    let rule = loaded.parts().decision.as_ref().filter(|_| !args.argmax);
    let tally = tune::figures(loaded.parts(), rule, &recorded, &rules).map_err(Failure::input)?;
    if tally.labelled == 0 {
        return Err(Failure::file(&args.source.data, "no step has a label"));
    }
    let classes = loaded.classes();
    console.say(about(&tally, which, rate));
    for line in table(&tally, &classes, background, rate) {
        console.say(line);
    }
    let error = calibration(&loaded, &model, &recorded);
    if let Some([neutral, own]) = error {
        console.say(format!(
            "expected calibration error {} with the temperature of the model, {} with temperature 1",
            percent(own),
            percent(neutral)
        ));
    }
    let mut answer = figures(&tally, &classes, rate);
    answer["which"] = format!("recordings {which}").into();
    answer["calibration_error"] = json!(error.map(|[_, own]| own));
    answer["calibration_error_neutral"] = json!(error.map(|[neutral, _]| neutral));
    console.answer(&answer);
    Ok(())
}
