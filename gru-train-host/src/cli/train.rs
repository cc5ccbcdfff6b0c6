//! `gru train`: data in, artifact out.

use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gru_core::layout::Layout;
use gru_core::{Model, writer};
use serde_json::json;

use super::artifact::{Companion, companion_path, density, save};
use super::console::{Console, Failure, grouped, percent};
use super::events::about;
use super::source::Source;
use super::tune::{refused, report};
use crate::dataset::{Dataset, Window, WindowLabel, split};
use crate::decision::DecisionSpec;
use crate::events::{self, Recorded, Rules};
use crate::pipeline::{self, Cut, Order, accuracy, agreement};
use crate::quantize;
use crate::spec::{ModelSpec, Readout};
use crate::train::{self, Progress, Prune, TrainConfig};
use crate::tune::{self, TuneError, TuneSpec, Tuned};

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    source: Source,
    /// Where to write the artifact.
    #[arg(short, long, default_value = "model.gru", value_name = "FILE")]
    output: PathBuf,
    /// A recipe (`train.toml`); the options below go before it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Units of each GRU layer.
    #[arg(long, value_delimiter = ',')]
    units: Vec<usize>,
    /// Passes over the training windows.
    #[arg(long)]
    epochs: Option<usize>,
    /// Windows in a batch.
    #[arg(long)]
    batch: Option<usize>,
    /// Learning rate.
    #[arg(long)]
    lr: Option<f64>,
    /// Every GRU layer reads its input in both directions, over whole windows; int8 where their outputs are concatenated.
    #[arg(long)]
    bidirectional: bool,
    /// Every GRU layer reads its input from the last step to the first.
    #[arg(long, conflicts_with = "bidirectional")]
    go_backwards: bool,
    /// Which outputs decide: the last step's, or the mean over the window.
    #[arg(long)]
    readout: Option<ReadoutArg>,
    /// Steps left out of the mean.
    #[arg(long, default_value_t = 16, value_name = "STEPS")]
    warm_up: usize,
    /// Steps of a window [default: two seconds; sequences with one label are taken whole].
    #[arg(long, value_name = "STEPS")]
    window: Option<NonZeroUsize>,
    /// Steps from one window to the next [default: a quarter of a window].
    #[arg(long, value_name = "STEPS")]
    hop: Option<NonZeroUsize>,
    /// Share of the people (or recordings) held out for the test, without an official split.
    #[arg(long, default_value_t = 0.25, value_name = "SHARE")]
    test_share: f64,
    /// Share of the people (or recordings) besides the test that are held out to choose by: early stopping, `gru tune`
    /// [default: 0.15 where the recipe chooses something, else none].
    #[arg(long, value_name = "SHARE")]
    validation_share: Option<f64>,
    /// Bits of a weight of the GRU layers: 8, or 4 for half the flash. With 4, a recipe with `[qat]` keeps the
    /// accuracy better than rounding alone.
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(2..=8))]
    weight_bits: Option<u8>,
    /// How the integers' ranges are chosen from the training windows.
    #[arg(long, value_name = "METHOD")]
    calibration: Option<quantize::Method>,
    /// Where to keep the state of the training after each epoch.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Go on from the checkpoint, where there is one; the result is that of a training in one go.
    #[arg(long)]
    resume: bool,
    /// Share of the recurrent weights that pruning leaves, e.g. 0.5. The artifact is without the others; on a device
    /// the feature `sparse` of gru-core runs it.
    #[arg(long, value_name = "SHARE")]
    density: Option<f64>,
    /// Everything random follows from it.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads; the result does not depend on it.
    #[arg(long)]
    threads: Option<usize>,
    /// Order of the weights: `pair` for cores with DSP (M4, M7, M33), `quad` for M0+, `winograd` for
    /// M3, `vector` for M55 and M85, `rows` for others, and for every GRU layer that is not Keras' default
    /// [default: pair, or rows for such layers].
    #[arg(long)]
    layout: Option<LayoutArg>,
    /// Steps of raw counts that the artifact carries for its self-test on the device.
    #[arg(long, default_value_t = 8, value_name = "STEPS")]
    self_test: usize,
    /// Name of the model [default: that of the data].
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ReadoutArg {
    Last,
    Mean,
    Every,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LayoutArg {
    Rows,
    Pair,
    Quad,
    Vector,
    Winograd,
}

impl From<LayoutArg> for Layout {
    fn from(arg: LayoutArg) -> Self {
        match arg {
            LayoutArg::Rows => Self::Rows,
            LayoutArg::Pair => Self::Pair,
            LayoutArg::Quad => Self::Quad,
            LayoutArg::Vector => Self::Vector,
            LayoutArg::Winograd => Self::Winograd,
        }
    }
}

/// Shows how training goes: a bar on a terminal, else a line every tenth of the way.
pub(crate) fn observer() -> Box<dyn FnMut(Progress<'_>)> {
    if std::io::stderr().is_terminal() {
        return Box::new(train::progress_bar());
    }
    Box::new(|progress| {
        if let Progress::Epoch(e) = progress
            && ((e.epoch + 1) % e.epochs.div_ceil(10) == 0 || e.epoch + 1 == e.epochs)
        {
            let validation = match e.validation_accuracy {
                Some(accuracy) => format!(", validation {}", percent(accuracy)),
                None => String::new(),
            };
            eprintln!(
                "epoch {}/{}: loss {:.4}, accuracy {}{validation}",
                e.epoch + 1,
                e.epochs,
                e.loss,
                percent(e.accuracy)
            );
        }
    })
}

impl TrainArgs {
    fn recipe(&self) -> Result<TrainConfig, Failure> {
        let mut config = match &self.config {
            Some(path) => train::read_config(path).map_err(Failure::input)?,
            None => TrainConfig::default(),
        };
        if !self.units.is_empty() {
            config.units.clone_from(&self.units);
        }
        config.bidirectional |= self.bidirectional;
        config.go_backwards |= self.go_backwards;
        config.epochs = self.epochs.unwrap_or(config.epochs);
        config.batch = self.batch.unwrap_or(config.batch);
        config.lr = self.lr.unwrap_or(config.lr);
        if let Some(bits) = self.weight_bits {
            config.weight_bits = bits;
            if let Some(qat) = &mut config.qat {
                qat.bits = bits;
            }
        }
        config.calibration = self.calibration.unwrap_or(config.calibration);
        if self.checkpoint.is_some() {
            config.checkpoint.clone_from(&self.checkpoint);
        }
        config.resume |= self.resume;
        if let Some(density) = self.density {
            let prune = config.prune.unwrap_or(Prune::to_density(density));
            config.prune = Some(Prune { density, ..prune });
        }
        config.seed = self.seed.unwrap_or(config.seed);
        config.threads = self.threads.unwrap_or(config.threads);
        config.readout = match self.readout {
            Some(ReadoutArg::Last) => Readout::Last,
            Some(ReadoutArg::Mean) => Readout::Mean { skip: self.warm_up },
            Some(ReadoutArg::Every) => Readout::Every,
            None => config.readout,
        };
        config.check().map_err(Failure::input)?;
        Ok(config)
    }
}

impl TrainArgs {
    /// The order of the weights: the one asked for, or one that can hold the layers of the recipe.
    fn layout(
        &self,
        config: &TrainConfig,
        data: &Dataset,
        console: &mut Console<'_>,
    ) -> Result<Layout, Failure> {
        let holds = |layout| pipeline::holds(layout, config, data.input(), data.classes.len());
        let wanted = self.layout.unwrap_or(LayoutArg::Pair);
        let Err(why) = holds(wanted.into()) else {
            return Ok(wanted.into());
        };
        // What no layout holds is refused for its own reason.
        holds(Layout::Rows).map_err(Failure::input)?;
        let name = wanted.to_possible_value();
        let name = name.as_ref().map_or("", |v| v.get_name());
        let kept = "is for GRU layers with tanh, sigmoid, reset_after and no clip";
        if self.layout.is_some() {
            let what = format!("--layout {name} {kept}, use --layout rows ({why})");
            return Err(Failure::input(what));
        }
        console.say(format!("layout rows: {name} {kept}"));
        Ok(Layout::Rows)
    }
}

/// Names of whoever is in the listed sequences: subjects where they are known, else recordings.
fn names(data: &Dataset, sequences: &[usize]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for &s in sequences {
        let s = &data.sequences[s];
        let name = match s.subject {
            Some(subject) => &data.subjects[subject as usize],
            None => &data.recordings[s.recording as usize],
        };
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The order of the weights in an artifact.
fn layout_of(artifact: &[u8]) -> Result<Layout, Failure> {
    let bytes = writer::Aligned::new(artifact);
    Ok(Model::load(&bytes).map_err(Failure::input)?.layout())
}

type OnRecordings = (Tuned, Vec<Recorded>, Rules);

/// Chooses the decision layer of a model that was just made, on recordings of people whom it has not seen.
fn tune_on(
    data: &Dataset,
    sequences: &[usize],
    quantized: &writer::QuantModel,
    wanted: &TuneSpec,
) -> Result<Result<OnRecordings, TuneError>, Failure> {
    let bytes = writer::write(quantized, Layout::Rows).map_err(Failure::input)?;
    let bytes = writer::Aligned::new(&bytes);
    let model = Model::load(&bytes).map_err(Failure::input)?;
    let recorded = events::record(&model, data, sequences).map_err(Failure::input)?;
    let rate = f64::from(data.sample_rate_hz);
    let background = quantized
        .decision
        .as_ref()
        .and_then(|d| d.header.background);
    let rules = wanted.rules(background, rate);
    match tune::tune(quantized, &recorded, &rules, wanted, rate) {
        Ok(tuned) => Ok(Ok((tuned, recorded, rules))),
        Err(TuneError::Invalid(what)) => Err(Failure::input(format!("decision.tune: {what}"))),
        Err(e) => Ok(Err(e)),
    }
}

/// Trains a model that the integer path cannot hold, and keeps it in floats.
fn float_only(
    args: &TrainArgs,
    order: &Order<'_>,
    test: &[Window],
    why: &str,
    companion: impl FnOnce(ModelSpec) -> Companion,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let started = std::time::Instant::now();
    let fit = pipeline::fit(order, None, &mut observer()).map_err(Failure::input)?;
    let seconds = started.elapsed().as_secs_f64();
    let (judged, on) = match test.is_empty() {
        true => (order.train, "training windows (nothing was held out)"),
        false => (test, "held-out windows"),
    };
    let float = pipeline::decide_float(&fit.model, order.data, judged, order.config.threads)
        .map_err(Failure::input)?;
    let (float, epochs) = (accuracy(&float, judged), fit.history.len());
    let loss = fit.history.last().map(|e| e.loss);
    save(&args.output, None, &companion(fit.model))?;
    let path = companion_path(&args.output);
    console.say(format!(
        "accuracy on {} {on}: float {}",
        grouped(judged.len() as u64),
        percent(float)
    ));
    console.say(format!(
        "{}: trained in {seconds:.1} s; no artifact: {why}",
        path.display()
    ));
    console.answer(&json!({
        "float_model": path.display().to_string(),
        "float_accuracy": float,
        "windows": judged.len(),
        "held_out": !test.is_empty(),
        "epochs": epochs,
        "loss": loss,
        "seconds": seconds,
        "no_artifact": why,
    }));
    Ok(())
}

pub(crate) fn train(args: &TrainArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    let config = args.recipe()?;
    // Before anything is made by its numbers.
    config.check().map_err(Failure::input)?;
    if !(0.0..1.0).contains(&args.test_share) {
        return Err(Failure::input(format!(
            "--test-share {}, expected 0 to below 1",
            args.test_share
        )));
    }
    let data = args.source.labelled()?;
    let refuse = |what: String| Failure::file(&args.source.data, what);
    if data.classes.len() < 2 {
        return Err(refuse(format!(
            "{} class ({}), expected at least 2",
            data.classes.len(),
            data.classes.join(", ")
        )));
    }
    if config.decision.is_some() && matches!(config.readout, Readout::Mean { .. }) {
        console.note(
            "[decision] with read-out mean, which averages all steps since a reset: for a stream use every, last or sliding",
        );
    }
    let mut cut = Cut::for_data(&data);
    cut.steps = args.window.map_or(cut.steps, NonZeroUsize::get);
    cut.hop = args.hop.map_or((cut.steps / 4).max(1), NonZeroUsize::get);
    cut.label = WindowLabel::Last;
    let tuning = config.decision.as_ref().and_then(|d| d.tune);
    let chooses = config.patience.is_some() || tuning.is_some();
    let held = match args.validation_share {
        Some(share) => share,
        None if chooses => 0.15,
        None => 0.0,
    };
    if !(0.0..1.0).contains(&held) {
        return Err(Failure::input(format!(
            "--validation-share {held}, expected 0 to below 1"
        )));
    }
    let parts = split::split(&data, args.test_share, held, config.seed);
    let windows = |part: &[usize]| cut.windows(&data, part);
    // With the state carried on, recordings are learnt from their beginning to their end.
    let learnt = |part: &[usize]| match config.stateful {
        Some(_) => data.whole(part, cut.label),
        None => windows(part),
    };
    let (learn, validate, test) = (
        learnt(&parts.train),
        learnt(&parts.validation),
        windows(&parts.test),
    );
    if learn.is_empty() {
        let longest = (0..data.sequences.len()).map(|s| data.steps(s)).max();
        return Err(refuse(format!(
            "no labelled window of {} steps to learn from; the longest sequence has {}",
            cut.steps,
            longest.unwrap_or(0)
        )));
    }
    if tuning.is_some() {
        let refuse = |e: String| refuse(format!("decision.tune: {e}"));
        if parts.validation.is_empty() {
            return Err(refuse(
                "nobody is held out to tune on, expected two people or recordings besides the test"
                    .into(),
            ));
        }
        events::check_recordings(&data, &parts.validation).map_err(refuse)?;
        if data.sample_rate_hz <= 0.0 {
            return Err(refuse("the sample rate is not known; give --rate".into()));
        }
    }
    console.say(format!(
        "{}: {} time steps of {} features at {} Hz, {} classes; {} {} to learn from, {} windows held out ({})",
        data.name,
        grouped(data.total_steps() as u64),
        data.input(),
        data.sample_rate_hz,
        data.classes.len(),
        grouped(learn.len() as u64),
        match config.stateful {
            Some(_) => "recordings",
            None => "windows",
        },
        grouped(test.len() as u64),
        match parts.how {
            "official" => "official split",
            "none" => "one person or recording only: nothing held out",
            how => how,
        }
    ));
    let fresh = train::fresh_model(&config, data.input(), data.classes.len());
    let layout = match quantize::deployable(&fresh) {
        Ok(()) => args.layout(&config, &data, console)?,
        // No artifact, no layout.
        Err(_) => Layout::Rows,
    };
    for (name, number) in pipeline::beyond_limits(&config, &data).map_err(Failure::input)? {
        console.note(format!(
            "limits.{name}: {} values of the data are beyond them; the artifact takes such values as missing, \
             training does not",
            grouped(number as u64)
        ));
    }
    let order = Order {
        data: &data,
        train: &learn,
        validation: &validate,
        by: data.standardisation(&parts.train),
        config: &config,
        name: args.name.clone().unwrap_or_else(|| data.name.clone()),
        layout,
        self_test_steps: args.self_test,
    };
    let started = std::time::Instant::now();
    if let Err(why) = quantize::deployable(&fresh) {
        if config.qat.is_some() {
            return Err(Failure::input(format!("qat: {why}")));
        }
        let companion = |model| Companion {
            artifact_crc32: String::new(),
            data: data.name.clone(),
            features: data.features.clone(),
            window_steps: cut.steps,
            hop_steps: cut.hop,
            held_out: names(&data, &parts.test),
            validation: names(&data, &parts.validation),
            model,
        };
        return float_only(args, &order, &test, &why.to_string(), companion, console);
    }
    let mut product = pipeline::make(&order, &mut observer()).map_err(Failure::input)?;
    let rate = f64::from(data.sample_rate_hz);
    let mut kept_to = Ok(None);
    if let Some(wanted) = tuning {
        let tuned = tune_on(&data, &parts.validation, &product.quantized, &wanted)?;
        match tuned {
            Ok((tuned, recorded, rules)) => {
                let spec =
                    DecisionSpec::of(&tuned.chosen.rule, &data.classes, tuned.model.warm_up_steps);
                product.fit.model.decision = Some(spec);
                product.artifact = writer::write(&tuned.model, layout_of(&product.artifact)?)
                    .map_err(Failure::input)?;
                console.say(about(
                    &tuned.chosen.tally,
                    "of held-out people to tune on",
                    rate,
                ));
                let before = &product.quantized;
                kept_to = report(&tuned, before, &recorded, &rules, rate, console).map(Some);
            }
            Err(e) => {
                kept_to = Err(refused(
                    e,
                    rate,
                    "the artifact decides by the recipe's table",
                ))
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();

    let bytes = writer::Aligned::new(&product.artifact);
    let model = Model::load(&bytes).map_err(|e| Failure::file(&args.output, e))?;
    // Without anybody held out the training windows are all there is to judge by.
    let (judged, on) = match test.is_empty() {
        true => (
            &windows(&parts.train),
            "training windows (nothing was held out)",
        ),
        false => (&test, "held-out windows"),
    };
    let float = pipeline::decide_float(&product.fit.model, &data, judged, config.threads)
        .map_err(Failure::input)?;
    let int8 = pipeline::decide_int8(&model, &data, judged).map_err(Failure::input)?;
    let (float_accuracy, int8_accuracy) =
        (accuracy(&float, judged), accuracy(&int8.classes, judged));
    let agree = agreement(&float, &int8.classes);
    save(
        &args.output,
        Some(&product.artifact),
        &Companion {
            artifact_crc32: format!("{:08x}", model.tag()),
            data: data.name.clone(),
            features: data.features.clone(),
            window_steps: cut.steps,
            hop_steps: cut.hop,
            held_out: names(&data, &parts.test),
            validation: names(&data, &parts.validation),
            model: product.fit.model.clone(),
        },
    )?;
    console.say(format!(
        "accuracy on {} {on}: float {}, int{} {}, same decision on {}",
        grouped(judged.len() as u64),
        percent(float_accuracy),
        model.layout().weight_bits(),
        percent(int8_accuracy),
        percent(agree)
    ));
    if let Some(left) = density(&model) {
        console.say(format!(
            "{} of the recurrent weights left, {} multiply-accumulates per step",
            percent(left),
            grouped(model.macs() as u64)
        ));
    }
    console.say(format!(
        "{}: {} bytes, trained in {seconds:.1} s; float model in {}",
        args.output.display(),
        grouped(product.artifact.len() as u64),
        companion_path(&args.output).display()
    ));
    let tuning_answer = kept_to?;
    console.answer(&json!({
        "artifact": args.output.display().to_string(),
        "artifact_bytes": product.artifact.len(),
        "density": density(&model),
        "macs_per_step": model.macs(),
        "float_accuracy": float_accuracy,
        "int8_accuracy": int8_accuracy,
        "agreement": agree,
        "windows": judged.len(),
        "held_out": !test.is_empty(),
        "split": parts.how,
        "validation": names(&data, &parts.validation),
        "tuning": tuning_answer,
        "epochs": product.fit.history.len(),
        "loss": product.fit.history.last().map(|e| e.loss),
        "seconds": seconds,
    }));
    Ok(())
}
