//! `gru bench-quality`: the recommended recipes on recorded data sets, float against int8.

use std::path::{Path, PathBuf};

use clap::Args;
use gru_core::layout::Layout;
use gru_core::{Model, writer};
use serde_json::json;

use super::console::{Console, Failure, grouped};
use super::train::observer;
use crate::dataset::{self, Dataset, Part, WindowLabel, csv, har};
use crate::pipeline::{self, Cut, Order, accuracy, agreement};
use crate::train::{self, TrainConfig};

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
    int8_qat: Option<f64>,
    agreement: f64,
    bytes: usize,
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
    let order = Order {
        data,
        train: &learn,
        validation: &[],
        by: data.standardisation(&train),
        config,
        name: data.name.clone(),
        layout: Layout::Pair,
        self_test_steps: 0,
    };
    let product = pipeline::make(&order, &mut observer())?;
    let decide_int8 = |artifact: &[u8]| -> Result<Vec<u16>, String> {
        let bytes = writer::Aligned::new(artifact);
        let model = Model::load(&bytes).map_err(|e| e.to_string())?;
        let decided = pipeline::decide_int8(&model, data, &judged).map_err(|e| e.to_string())?;
        Ok(decided.classes)
    };
    let decide_float = |model| pipeline::decide_float(model, data, &judged, config.threads);
    let shipped = decide_int8(&product.artifact)?;
    let twin = decide_float(&product.fit.model)?;
    let mut trial = Trial {
        float: accuracy(&twin, &judged),
        int8: accuracy(&shipped, &judged),
        int8_qat: None,
        agreement: agreement(&twin, &shipped),
        bytes: product.artifact.len(),
    };
    if let Some(qat) = &product.fit.qat {
        let (_, _, plain) = pipeline::export(&order, &qat.float)?;
        trial.int8_qat = Some(trial.int8);
        trial.float = accuracy(&decide_float(&qat.float)?, &judged);
        trial.int8 = accuracy(&decide_int8(&plain)?, &judged);
    }
    Ok(trial)
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
    console.say(
        "| data set | recipe | classes | bytes | float % | int8 % | int8 QAT % | same decision % |",
    );
    console.say("|---|---|---|---|---|---|---|---|");
    let mut rows = Vec::new();
    for task in &chosen {
        let mut data = read(&args.data, task)?;
        if !args.features.is_empty() {
            data = data.with_features(&args.features).map_err(Failure::input)?;
        }
        let mut config = match &args.config {
            Some(path) => train::read_config(path).map_err(Failure::input)?,
            None => train::parse_config(task.text)
                .map_err(|e| Failure::input(format!("recipe {}: {e}", task.recipe)))?,
        };
        config.epochs = args.epochs.unwrap_or(config.epochs);
        let (mut float, mut int8, mut same, mut qat) = (vec![], vec![], vec![], vec![]);
        let mut bytes = 0;
        for seed in 0..args.seeds {
            config.seed = seed;
            let trial = trial(&data, &config, args.validate).map_err(Failure::input)?;
            console.note(format!(
                "{} seed {seed}: float {:.4}, int8 {:.4}{}, {} bytes",
                task.recipe,
                trial.float,
                trial.int8,
                (trial.int8_qat).map_or(String::new(), |q| format!(", with QAT {q:.4}")),
                trial.bytes
            ));
            float.push(trial.float);
            int8.push(trial.int8);
            qat.extend(trial.int8_qat);
            same.push(trial.agreement);
            bytes = bytes.max(trial.bytes);
        }
        console.say(format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            data.name,
            task.recipe,
            data.classes.len(),
            grouped(bytes as u64),
            spread(&float),
            spread(&int8),
            if qat.is_empty() {
                "–".into()
            } else {
                spread(&qat)
            },
            spread(&same)
        ));
        rows.push(json!({
            "dataset": task.dataset,
            "recipe": task.recipe,
            "classes": data.classes.len(),
            "artifact_bytes": bytes,
            "float": float,
            "int8": int8,
            "int8_qat": (!qat.is_empty()).then_some(qat),
            "int4_qat": null,
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
