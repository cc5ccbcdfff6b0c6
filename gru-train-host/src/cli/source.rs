//! Arguments that say where the data come from, shared by several commands.

use std::path::PathBuf;

use clap::Args;

use super::artifact::Expected;
use super::console::{Failure, grouped};
use crate::dataset::{self, Dataset, csv};

/// What is said where values are missing and the command does not count them while it runs.
pub(crate) fn missing(data: &Dataset) -> Option<String> {
    let number = data.missing_values();
    (number > 0).then(|| {
        format!(
            "{} values missing: treated as the artifact says",
            grouped(number as u64)
        )
    })
}

/// A data set and how to read it.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// CSV file or folder of CSV files (one row per time step), UCI HAR folder, UEA `.ts` folder,
    /// log-mel or HAPT folder.
    pub(crate) data: PathBuf,
    /// CSV: names of the feature columns, in order [default: every column without another role].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    features: Vec<String>,
    /// CSV: name of the label column [default: label, class or activity].
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// CSV: name of the subject column [default: subject, user, person or participant].
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// CSV: name of the recording column [default: recording, session or experiment].
    #[arg(long, value_name = "NAME")]
    recording: Option<String>,
    /// CSV: name of the window column [default: window or segment].
    #[arg(long, value_name = "NAME")]
    window_column: Option<String>,
    /// CSV: windows may differ in length.
    #[arg(long)]
    ragged: bool,
    /// CSV: steps per second, where no time column says it.
    #[arg(long, value_name = "HZ")]
    rate: Option<f32>,
    /// CSV: counts per unit of each feature; one number for all, or one each [default: chosen from
    /// the data, 1 for whole numbers].
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    counts_per_unit: Vec<f32>,
}

impl Source {
    fn options(&self) -> Result<csv::Options, Failure> {
        if let Some(rate) = self.rate.filter(|r| !(r.is_finite() && *r > 0.0)) {
            let what = format!("--rate {rate}, expected a positive number of steps per second");
            return Err(Failure::input(what));
        }
        Ok(csv::Options {
            features: self.features.clone(),
            label: self.label.clone(),
            subject: self.subject.clone(),
            recording: self.recording.clone(),
            window: self.window_column.clone(),
            ragged: self.ragged,
            sample_rate_hz: self.rate,
            ..csv::Options::default()
        })
    }

    /// One number for all features, or one for each of `features`.
    fn scales(&self, features: usize) -> Result<Vec<f32>, Failure> {
        let bad = |what: String| Err(Failure::input(format!("--counts-per-unit {what}")));
        if let Some(scale) = (self.counts_per_unit.iter()).find(|s| !(**s > 0.0 && s.is_finite())) {
            return bad(format!("{scale}, expected positive numbers"));
        }
        match self.counts_per_unit.len() {
            1 => Ok(vec![self.counts_per_unit[0]; features]),
            n if n == features => Ok(self.counts_per_unit.clone()),
            n => bad(format!(
                "has {n} numbers, expected 1 or one for each of {features} features"
            )),
        }
    }

    /// Reads labelled data to train on.
    pub(crate) fn labelled(&self) -> Result<Dataset, Failure> {
        let options = csv::Options {
            need_labels: true,
            ..self.options()?
        };
        let data = dataset::open(&self.data, &options)?;
        if self.counts_per_unit.is_empty() {
            return Ok(data);
        }
        // Only now is the number of features known; a CSV is read in no time.
        let options = csv::Options {
            counts_per_unit: self.scales(data.input())?,
            ..options
        };
        Ok(dataset::open(&self.data, &options)?)
    }

    /// Reads data for a model that exists: with its features, scales and classes.
    pub(crate) fn for_model(&self, model: &Expected, labels: bool) -> Result<Dataset, Failure> {
        let mut options = self.options()?;
        if !self.counts_per_unit.is_empty() {
            let given = self.scales(model.counts_per_unit.len())?;
            let mut pairs = given.iter().zip(&model.counts_per_unit);
            if let Some((given, need)) = pairs.find(|(a, b)| (*a - *b).abs() > 1e-3 * b.abs()) {
                let what = format!("--counts-per-unit {given}, the model takes {need}");
                return Err(Failure::input(what));
            }
        }
        options.need_labels = labels;
        options.missing = true;
        options.counts_per_unit.clone_from(&model.counts_per_unit);
        if labels {
            options.classes.clone_from(&model.classes);
        }
        if options.features.is_empty() {
            options.features.clone_from(&model.names);
        }
        let data = dataset::open(&self.data, &options)?;
        let (have, need) = (data.input(), model.counts_per_unit.len());
        if have != need {
            let names = data.features.join(", ");
            let what = format!("{have} features ({names}), the model takes {need}");
            return Err(Failure::file(&self.data, what));
        }
        for (k, (have, need)) in (data.counts_per_unit.iter())
            .zip(&model.counts_per_unit)
            .enumerate()
        {
            if (have - need).abs() > 1e-3 * need.abs() {
                let what = format!(
                    "{have} counts per unit in {}, the model takes {need}",
                    data.features[k]
                );
                return Err(Failure::file(&self.data, what));
            }
        }
        if labels && data.classes != model.classes {
            let what = format!(
                "classes {}, the model has {}",
                data.classes.join(", "),
                model.classes.join(", ")
            );
            return Err(Failure::file(&self.data, what));
        }
        Ok(data)
    }
}
