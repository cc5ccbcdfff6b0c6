//! `gru generate`: the product's own recordings as CSV.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::console::{Console, Failure, grouped, write_file};
use crate::dataset::{Dataset, UNLABELLED};
use crate::imu::{self, ImuConfig};

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// The CSV file to write.
    output: PathBuf,
    /// Number of persons.
    #[arg(long, default_value_t = 4)]
    persons: usize,
    /// Recordings of each person.
    #[arg(long, default_value_t = 1)]
    recordings: usize,
    /// Length of each recording in seconds.
    #[arg(long, default_value_t = 120.0)]
    seconds: f64,
    /// Other seed, other people.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn generate(args: &GenerateArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    let steps = args.seconds * f64::from(imu::SAMPLE_RATE_HZ);
    let all = steps * args.persons as f64 * args.recordings as f64;
    if !(steps >= 1.0 && (1.0..=5e7).contains(&all)) {
        return Err(Failure::input(format!(
            "{} persons × {} recordings × {} s, expected 1 to 50000000 time steps",
            args.persons, args.recordings, args.seconds
        )));
    }
    let config = ImuConfig {
        persons: args.persons,
        recordings: args.recordings,
        seconds: args.seconds,
    };
    let data = imu::generate(&config, args.seed);
    write_file(&args.output, to_csv(&data).as_bytes())?;
    console.say(format!(
        "{}: {} time steps of {} persons, {} Hz, classes {}",
        args.output.display(),
        grouped(data.total_steps() as u64),
        args.persons,
        data.sample_rate_hz,
        data.classes.join(", ")
    ));
    console.answer(&json!({
        "file": args.output.display().to_string(),
        "steps": data.total_steps(),
        "persons": args.persons,
        "classes": data.classes,
    }));
    Ok(())
}

/// One row per time step: subject, recording, time, features in physical units, label.
pub(crate) fn to_csv(data: &Dataset) -> String {
    let mut text = format!(
        "subject,recording,time_s,{},label\n",
        data.features.join(",")
    );
    for (n, s) in data.sequences.iter().enumerate() {
        let subject = s.subject.and_then(|s| data.subjects.get(s as usize));
        let recording = data.recordings.get(s.recording as usize);
        let name = |n: Option<&String>| n.cloned().unwrap_or_default();
        let begin = format!("{},{}", name(subject), name(recording));
        for t in 0..data.steps(n) {
            let time = t as f64 / f64::from(data.sample_rate_hz);
            let _ = write!(text, "{begin},{time:.3}");
            for (k, unit) in data.counts_per_unit.iter().enumerate() {
                let count = s.counts.get(t * data.input() + k).unwrap_or(0);
                let _ = write!(text, ",{:.5}", f64::from(count) / f64::from(*unit));
            }
            let label = match data.label(n, t) {
                UNLABELLED => "unlabelled",
                class => &data.classes[usize::from(class)],
            };
            let _ = writeln!(text, ",{label}");
        }
    }
    text
}
