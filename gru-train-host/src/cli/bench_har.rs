//! `gru bench-har`: the plain recipe on UCI HAR, official split, float against int8 against board.

use std::path::PathBuf;

use clap::Args;
use gru_core::layout::Layout;
use gru_core::{Model, writer};
use serde_json::json;

use super::boards::{self, BoardArgs};
use super::console::{Console, Failure, grouped, percent};
use super::train::observer;
use crate::dataset::{Part, har};
use crate::pipeline::{self, Cut, Order, accuracy, agreement};
use crate::train::TrainConfig;

#[derive(Debug, Args)]
pub(crate) struct BenchHarArgs {
    /// The UCI HAR folder (`X_train_i16.npy` …).
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Number of seeds.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// Passes over the training windows.
    #[arg(long, default_value_t = 30)]
    epochs: usize,
    /// Threads; the result does not depend on it.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Leave out the board.
    #[arg(long)]
    no_board: bool,
    #[command(flatten)]
    board: BoardArgs,
}

pub(crate) fn bench_har(args: &BenchHarArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    if args.seeds == 0 {
        return Err(Failure::input("--seeds 0, expected at least 1"));
    }
    let data = har::read(&args.data)?;
    let cut = Cut::for_data(&data);
    let (train, test) = (data.part(Part::Train), data.part(Part::Test));
    let learn = cut.windows(&data, &train);
    let judged = cut.windows(&data, &test);
    console.say(format!(
        "UCI HAR, official split: {} windows to learn from, {} to judge; GRU(32) + Dense(6), batch 64, {} epochs, Adam 1e-3",
        grouped(learn.len() as u64),
        grouped(judged.len() as u64),
        args.epochs
    ));
    let by = data.standardisation(&train);
    let (mut floats, mut int8s, mut agreements, mut seconds) = (vec![], vec![], vec![], vec![]);
    let mut first = None;
    for seed in args.first_seed..args.first_seed + args.seeds {
        let config = TrainConfig {
            epochs: args.epochs,
            threads: args.threads,
            seed,
            ..TrainConfig::default()
        };
        let order = Order {
            data: &data,
            train: &learn,
            validation: &[],
            by: by.clone(),
            config: &config,
            name: "uci_har".into(),
            layout: Layout::Pair,
            self_test_steps: 0,
        };
        let clock = std::time::Instant::now();
        let product = pipeline::make(&order, &mut observer()).map_err(Failure::input)?;
        seconds.push(clock.elapsed().as_secs_f64());
        let bytes = writer::Aligned::new(&product.artifact);
        let model = Model::load(&bytes).map_err(Failure::input)?;
        let float = pipeline::decide_float(&product.fit.model, &data, &judged, args.threads)
            .map_err(Failure::input)?;
        let int8 = pipeline::decide_int8(&model, &data, &judged).map_err(Failure::input)?;
        floats.push(accuracy(&float, &judged));
        int8s.push(accuracy(&int8.classes, &judged));
        agreements.push(agreement(&float, &int8.classes));
        let last = floats.len() - 1;
        console.say(format!(
            "seed {seed}: float {}, int8 {}, same decision on {} ({:.1} s)",
            percent(floats[last]),
            percent(int8s[last]),
            percent(agreements[last]),
            seconds[last]
        ));
        if first.is_none() {
            first = Some((product.artifact, int8));
        }
    }
    let Some((artifact, host)) = first else {
        return Err(Failure::input("no seed"));
    };
    let mut board = None;
    if !args.no_board {
        let report = args.board.run(&artifact, &data, &judged, false)?;
        console.say(format!(
            "{} on {}: {} steps in {:.1} s, {:.0} instructions per step",
            report.board,
            report.emulator,
            grouped(report.steps),
            report.seconds,
            report.instructions_per_step
        ));
        console.say(format!(
            "digest of all hidden states: host {:016x}, board {:016x}",
            host.digest, report.digest
        ));
        board = Some(report);
    }
    let same = (board.as_ref())
        .is_none_or(|b| b.digest == host.digest && boards::classes(b) == host.classes);
    console.answer(&json!({
        "float_accuracy": floats,
        "int8_accuracy": int8s,
        "agreement": agreements,
        "windows": judged.len(),
        "digest_host": format!("{:016x}", host.digest),
        "digest_board": board.as_ref().map(|b| format!("{:016x}", b.digest)),
        "board": board.as_ref().map(|b| b.board.clone()),
        "emulator": board.as_ref().map(|b| b.emulator.clone()),
        "instructions_per_step": board.as_ref().map(|b| b.instructions_per_step),
        "artifact_bytes": artifact.len(),
        "train_seconds": seconds,
    }));
    match same {
        true => Ok(()),
        false => Err(Failure::check("host and board differ")),
    }
}
