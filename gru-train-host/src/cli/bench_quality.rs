//! `gru bench-quality`: the recommended recipes on recorded data sets, float against int8 and int4.

use std::path::{Path, PathBuf};

use clap::Args;
use gru_core::layout::Layout;
use gru_core::{Model, writer};
use serde_json::json;

use super::console::{Console, Failure, grouped};
use super::train::observer;
use crate::dataset::{self, Dataset, Part, WindowLabel, csv, har};
use crate::pipeline::{self, Cut, Order, accuracy, agreement};
use crate::train::{self, Fit, Qat, TrainConfig};

#[derive(Debug, Args)]
pub(crate) struct BenchQualityArgs {
    /// The folder that holds `uci_har`, `fsdd_logmel`, `hapt_stream`, `uea_…`.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Number of seeds.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Only this data set.
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Only this recipe.
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,
    /// Passes over the training windows, instead of the recipe's.
    #[arg(long)]
    epochs: Option<usize>,
    /// Threads; the result does not depend on it.
    #[arg(long)]
    threads: Option<usize>,
    /// Another recipe (`train.toml`) in the place of those chosen.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only these features, in this order.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    features: Vec<String>,
    /// Judge on held-out training people, others for each seed, instead of the test people: for
    /// choosing recipes.
    #[arg(long)]
    validate: bool,
}

/// One row of the table: data set, number of classes if merged, recipe.
struct Task {
    dataset: &'static str,
    two_classes: bool,
    recipe: &'static str,
    text: &'static str,
}

macro_rules! recipe {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../recipes/", $name, ".toml")),
        )
    };
}

fn tasks() -> Vec<Task> {
    [
        ("uci_har", false, recipe!("motion-12k")),
        ("uci_har", false, recipe!("motion-4k")),
        ("uci_har", false, recipe!("motion-2k")),
        ("uci_har", true, recipe!("motion-2class")),
        ("fsdd_logmel", false, recipe!("speech")),
        ("uea_JapaneseVowels", false, recipe!("speech-small")),
        ("uea_BasicMotions", false, recipe!("gesture")),
        ("uea_Epilepsy", false, recipe!("gesture")),
        ("uea_GunPoint", false, recipe!("gesture")),
        ("uea_PickupGestureWiimoteZ", false, recipe!("gesture")),
        ("hapt_stream", false, recipe!("motion-4k")),
    ]
    .into_iter()
    .map(|(dataset, two_classes, (recipe, text))| Task {
        dataset,
        two_classes,
        recipe,
        text,
    })
    .collect()
}

/// What one seed gave: accuracies, share of equal decisions of the float model and the artifact,
/// artifact bytes.
struct Trial {
    float: f64,
    int8: f64,
    int8_qat: f64,
    int4_qat: f64,
    agreement: f64,
    bytes: usize,
    int4_bytes: usize,
}

/// The recipe's quantization-aware training, or the usual one where it has none for this many bits.
fn aware(config: &TrainConfig, bits: u8) -> Qat {
    let own = config.qat.filter(|qat| qat.bits == bits);
    own.unwrap_or_else(|| Qat::usual(bits, config.epochs))
}

fn trial(data: &Dataset, config: &TrainConfig, validate: bool) -> Result<Trial, String> {
    let mut cut = Cut::for_data(data);
    cut.label = WindowLabel::Last;
    if cut.steps > 0 {
        cut.hop = (cut.steps / 2).max(1);
    }
    let mut train = data.part(Part::Train);
    let mut test = data.part(Part::Test);
    if validate {
        (train, test, _) = dataset::split::hold_out(data, &train, 0.25, 17 + config.seed);
    }
    let (learn, judged) = (cut.windows(data, &train), cut.windows(data, &test));
    let make = |qat: Option<Qat>, trained: Option<&Fit>| {
        let config = TrainConfig {
            qat,
            weight_bits: 8,
            ..config.clone()
        };
        let order = Order {
            data,
            train: &learn,
            validation: &[],
            by: data.standardisation(&train),
            config: &config,
            name: data.name.clone(),
            layout: Layout::Pair,
            self_test_steps: 0,
        };
        pipeline::make_from(&order, trained, &mut observer())
    };
    let decide = |artifact: &[u8]| -> Result<Vec<u16>, String> {
        let bytes = writer::Aligned::new(artifact);
        let model = Model::load(&bytes).map_err(|e| e.to_string())?;
        let decided = pipeline::decide_int8(&model, data, &judged).map_err(|e| e.to_string())?;
        Ok(decided.classes)
    };
    let plain = make(None, None)?;
    let eight = make(Some(aware(config, 8)), Some(&plain.fit))?;
    let four = make(Some(aware(config, 4)), Some(&plain.fit))?;
    let float = pipeline::decide_float(&plain.fit.model, data, &judged, config.threads)?;
    let shipped = decide(&eight.artifact)?;
    Ok(Trial {
        float: accuracy(&float, &judged),
        int8: accuracy(&decide(&plain.artifact)?, &judged),
        int8_qat: accuracy(&shipped, &judged),
        int4_qat: accuracy(&decide(&four.artifact)?, &judged),
        agreement: agreement(&float, &shipped),
        bytes: eight.artifact.len(),
        int4_bytes: four.artifact.len(),
    })
}

fn read(folder: &Path, task: &Task) -> Result<Dataset, Failure> {
    let path = folder.join(task.dataset);
    let mut data = dataset::open(&path, &csv::Options::default())?;
    if task.two_classes {
        data = har::two_classes(data);
    }
    Ok(data)
}

/// Mean and standard deviation in per cent.
fn spread(values: &[f64]) -> String {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0).max(1.0);
    format!("{:.2} ± {:.2}", 100.0 * mean, 100.0 * variance.sqrt())
}

pub(crate) fn bench_quality(
    args: &BenchQualityArgs,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    if args.seeds == 0 {
        return Err(Failure::input("--seeds 0, expected at least 1"));
    }
    let mut chosen = tasks();
    let known: Vec<&str> = chosen.iter().map(|t| t.dataset).collect();
    if let Some(name) = &args.dataset {
        if !known.contains(&name.as_str()) {
            let mut names = known;
            names.dedup();
            return Err(Failure::input(format!(
                "no data set {name:?}, expected one of {}",
                names.join(", ")
            )));
        }
        chosen.retain(|t| t.dataset == name);
    }
    if let Some(name) = &args.recipe {
        chosen.retain(|t| t.recipe == name);
        if chosen.is_empty() {
            return Err(Failure::input(format!("no recipe {name:?} for these data")));
        }
    }
    let other = match &args.config {
        Some(path) => Some(train::read_config(path).map_err(Failure::input)?),
        None => None,
    };
    if args.epochs == Some(0) {
        return Err(Failure::input("--epochs 0, expected at least 1"));
    }
    console.say(
        "| data set | recipe | classes | float % | int8 % | int8 QAT % | bytes | same decision % | int4 QAT % | bytes |",
    );
    console.say("|---|---|---|---|---|---|---|---|---|---|");
    let mut rows = Vec::new();
    for task in &chosen {
        let mut data = read(&args.data, task)?;
        if !args.features.is_empty() {
            data = data.with_features(&args.features).map_err(Failure::input)?;
        }
        let mut config = match &other {
            Some(config) => config.clone(),
            None => train::parse_config(task.text)
                .map_err(|e| Failure::input(format!("recipe {}: {e}", task.recipe)))?,
        };
        config.epochs = args.epochs.unwrap_or(config.epochs);
        config.threads = args.threads.unwrap_or(config.threads);
        let mut trials = Vec::new();
        for seed in 0..args.seeds {
            config.seed = seed;
            let trial = trial(&data, &config, args.validate).map_err(Failure::input)?;
            console.note(format!(
                "{} {} seed {seed}: float {:.4}, int8 {:.4}, with QAT {:.4} ({} bytes, same decision {:.4}), int4 with QAT {:.4} ({} bytes)",
                data.name,
                task.recipe,
                trial.float,
                trial.int8,
                trial.int8_qat,
                trial.bytes,
                trial.agreement,
                trial.int4_qat,
                trial.int4_bytes,
            ));
            trials.push(trial);
        }
        let all = |of: fn(&Trial) -> f64| trials.iter().map(of).collect::<Vec<f64>>();
        let most = |of: fn(&Trial) -> usize| trials.iter().map(of).max().unwrap_or(0);
        let (float, int8) = (all(|t| t.float), all(|t| t.int8));
        let (int8_qat, int4_qat) = (all(|t| t.int8_qat), all(|t| t.int4_qat));
        let (same, bytes) = (all(|t| t.agreement), most(|t| t.bytes));
        console.say(format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            data.name,
            task.recipe,
            data.classes.len(),
            spread(&float),
            spread(&int8),
            spread(&int8_qat),
            grouped(bytes as u64),
            spread(&same),
            spread(&int4_qat),
            grouped(most(|t| t.int4_bytes) as u64),
        ));
        rows.push(json!({
            "dataset": task.dataset,
            "recipe": task.recipe,
            "classes": data.classes.len(),
            "artifact_bytes": bytes,
            "float": float,
            "int8": int8,
            "int8_qat": int8_qat,
            "int4_qat": int4_qat,
            "agreement": same,
        }));
    }
    console.answer(&json!(rows));
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_recipe_is_sound() {
        for task in super::tasks() {
            if let Err(e) = crate::train::parse_config(task.text) {
                panic!("{}: {e}", task.recipe);
            }
        }
    }
}
