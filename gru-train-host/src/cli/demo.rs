//! `gru demo`: from made recordings to decisions on a virtual board, every number measured.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use gru_core::layout::Layout;
use gru_core::{Model, writer};
use serde_json::json;

use super::artifact::{Companion, ram_bytes, save};
use super::boards::{self, BoardArgs};
use super::console::{Console, Failure, grouped, percent, write_file};
use super::generate::to_csv;
use super::train::observer;
use crate::baseline::Baseline;
use crate::board;
use crate::dataset::{Dataset, WindowLabel, split};
use crate::imu::{self, ImuConfig};
use crate::optim::schedule::Schedule;
use crate::pipeline::{self, Cut, Order, accuracy, agreement, confusion};
use crate::spec::Readout;
use crate::train::TrainConfig;

/// Steps of a window: two seconds.
const WINDOW: usize = 100;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Fewer people and epochs: under half a minute.
    #[arg(long)]
    quick: bool,
    /// Where to leave the artifact, the report and a held-out recording.
    #[arg(long, default_value = "gru-out", value_name = "DIR")]
    out: PathBuf,
    /// Other seed, other people.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Units of the GRU.
    #[arg(long, default_value_t = 24)]
    units: usize,
    #[command(flatten)]
    board: BoardArgs,
}

pub(crate) fn demo(args: &DemoArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    let started = Instant::now();
    let machine = args.board.machine()?;
    let options = args.board.options();
    // The firmware is compiled, if need be, while the model is trained.
    let building = std::thread::spawn(move || board::prepare(machine, &options));

    let persons = if args.quick { 32 } else { 48 };
    let config = ImuConfig {
        persons,
        ..ImuConfig::default()
    };
    console.say(format!(
        "1. recordings  {persons} people with a wrist sensor, {} s each, {} Hz, classes {}",
        config.seconds,
        imu::SAMPLE_RATE_HZ,
        imu::CLASSES.join(", ")
    ));
    let data = imu::generate(&config, args.seed);
    let parts = split::split(&data, 0.25, 0.0, args.seed);
    let mut cut = Cut {
        steps: WINDOW,
        hop: WINDOW / 4,
        label: WindowLabel::Last,
    };
    let learn = cut.windows(&data, &parts.train);
    // Streamed as they were recorded: window after window.
    cut.hop = WINDOW;
    let mut judged = cut.windows(&data, &parts.test);
    if args.quick {
        // Every n-th window, as much as the emulator inside this program steps through in about 10 s.
        let keep = judged.len().div_ceil(160).max(1);
        judged = judged.into_iter().step_by(keep).collect();
    }
    let recipe = TrainConfig {
        units: vec![args.units],
        epochs: if args.quick { 10 } else { 30 },
        batch: 32,
        lr: 5e-3,
        schedule: Schedule::Cosine {
            warmup: 0.5,
            floor: 0.0,
        },
        clip_norm: Some(1.0),
        readout: Readout::Last,
        seed: args.seed,
        ..TrainConfig::default()
    };
    let order = Order {
        data: &data,
        train: &learn,
        validation: &[],
        by: data.standardisation(&parts.train),
        config: &recipe,
        name: "wrist-demo".into(),
        layout: Layout::Pair,
        self_test_steps: 8,
    };
    console.say(format!(
        "2. training    GRU({}) + Dense({}) on {} windows of {} people, {} epochs",
        args.units,
        data.classes.len(),
        grouped(learn.len() as u64),
        people(&data, &parts.train),
        recipe.epochs
    ));
    let clock = Instant::now();
    let product = pipeline::make(&order, &mut observer()).map_err(Failure::input)?;
    let train_seconds = clock.elapsed().as_secs_f64();
    let bytes = writer::Aligned::new(&product.artifact);
    let path = args.out.join("wrist.gru");
    let model = Model::load(&bytes).map_err(|e| Failure::file(&path, e))?;
    let test_people = people(&data, &parts.test);
    let held_out = (parts.test.iter())
        .filter_map(|&s| data.sequences[s].subject)
        .map(|s| data.subjects[s as usize].clone())
        .collect();
    save(
        &path,
        Some(&product.artifact),
        &Companion {
            artifact_crc32: format!("{:08x}", model.tag()),
            data: data.name.clone(),
            features: data.features.clone(),
            window_steps: WINDOW,
            hop_steps: WINDOW,
            held_out,
            validation: Vec::new(),
            model: product.fit.model.clone(),
        },
    )?;
    let recording = args.out.join("held-out.csv");
    let one = Dataset {
        sequences: vec![data.sequences[parts.test[0]].clone()],
        ..data.clone()
    };
    write_file(&recording, to_csv(&one).as_bytes())?;
    console.say(format!(
        "3. artifact    {} bytes: {}",
        grouped(product.artifact.len() as u64),
        path.display()
    ));

    let baseline = Baseline::train(&data, &learn, &order.by).accuracy(&data, &judged);
    let float =
        pipeline::decide_float(&product.fit.model, &data, &judged, 0).map_err(Failure::input)?;
    let int8 = pipeline::decide_int8(&model, &data, &judged).map_err(Failure::input)?;
    match building.join() {
        Ok(done) => done.map_err(Failure::input)?,
        Err(_) => return Err(Failure::check("the firmware's build thread has panicked")),
    }
    let report = args.board.run(&product.artifact, &data, &judged, false)?;
    let on_board = boards::classes(&report);
    let [float_accuracy, int8_accuracy, board_accuracy] =
        [&float, &int8.classes, &on_board].map(|d| accuracy(d, &judged));
    let same = int8.digest == report.digest && int8.classes == on_board;
    console.say(format!(
        "4. board       {} on {}: {} steps of {test_people} people never seen, {:.1} s",
        report.board,
        report.emulator,
        grouped(report.steps),
        report.seconds
    ));
    let ram = ram_bytes(&model);
    let table = [
        ("linear model on window means", percent(baseline)),
        ("float", percent(float_accuracy)),
        ("int8 on this machine", percent(int8_accuracy)),
        ("int8 on the board", percent(board_accuracy)),
        (
            "float and int8 decide alike",
            percent(agreement(&float, &int8.classes)),
        ),
        (
            "digest of all hidden states, host",
            format!("{:016x}", int8.digest),
        ),
        (
            "digest of all hidden states, board",
            format!("{:016x}", report.digest),
        ),
        (
            "artifact (flash)",
            format!("{} B", grouped(product.artifact.len() as u64)),
        ),
        ("state (RAM)", format!("{} B", grouped(ram as u64))),
        (
            "stack of a step",
            format!("{} B", grouped(report.step_stack_bytes)),
        ),
        (
            "firmware (flash)",
            format!("{} B", grouped(report.firmware_bytes)),
        ),
        (
            "instructions per step",
            grouped(report.instructions_per_step.round() as u64),
        ),
    ];
    console.say(format!(
        "   on {} windows of {} s, {} classes:",
        judged.len(),
        WINDOW as f32 / imu::SAMPLE_RATE_HZ,
        data.classes.len()
    ));
    for (what, value) in &table {
        console.say(format!("   {what:<36} {value}"));
    }
    let seconds = started.elapsed().as_secs_f64();
    let report_path = args.out.join("report.md");
    let rows = confusion(&int8.classes, &judged, data.classes.len());
    let mut text = format!(
        "# gru demo\n\nGRU({}) + Dense({}) on made recordings of a wrist sensor (seed {}), trained in {train_seconds:.1} s on {} people, \
         judged on {} windows of {test_people} others. Board: {} on {}.\n\n| | |\n|---|---|\n",
        args.units,
        data.classes.len(),
        args.seed,
        people(&data, &parts.train),
        judged.len(),
        report.board,
        report.emulator
    );
    for (what, value) in &table {
        let _ = writeln!(text, "| {what} | {value} |");
    }
    let _ = writeln!(
        text,
        "\nConfusion of the int8 model (rows: what it was; columns: decision):\n\n```text"
    );
    for line in super::eval::table(&rows, &data.classes) {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(
        text,
        "```\n\nNext: `gru summary {0}`, `gru run {0} {1}`, `gru eval {0} {1}`.",
        path.display(),
        recording.display()
    );
    write_file(&report_path, text.as_bytes())?;
    console.say(format!(
        "5. left behind {}, {}, {} ({seconds:.1} s in all)",
        path.display(),
        report_path.display(),
        recording.display()
    ));
    console.answer(&json!({
        "float_accuracy": float_accuracy,
        "int8_accuracy": int8_accuracy,
        "board_accuracy": board_accuracy,
        "baseline_accuracy": baseline,
        "agreement": agreement(&float, &int8.classes),
        "windows": judged.len(),
        "steps": report.steps,
        "digest_host": format!("{:016x}", int8.digest),
        "digest_board": format!("{:016x}", report.digest),
        "board": report.board,
        "emulator": report.emulator,
        "artifact_bytes": product.artifact.len(),
        "ram_bytes": ram,
        "stack_bytes": report.step_stack_bytes,
        "firmware_bytes": report.firmware_bytes,
        "instructions_per_step": report.instructions_per_step,
        "artifact": path.display().to_string(),
        "report": report_path.display().to_string(),
        "train_seconds": train_seconds,
        "seconds": seconds,
    }));
    match same {
        true => Ok(()),
        false => Err(Failure::check("host and board differ")),
    }
}

/// How many people are in the listed sequences.
fn people(data: &Dataset, sequences: &[usize]) -> usize {
    let who: std::collections::BTreeSet<_> = (sequences.iter())
        .map(|&s| data.sequences[s].subject)
        .collect();
    who.len()
}
