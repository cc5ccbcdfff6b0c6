//! `gru bench-train`: batches per CPU second of the training engine.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::console::{Console, Failure};
use crate::bench_train::{self, Workload};

#[derive(Debug, Args)]
pub(crate) struct BenchTrainArgs {
    /// t1: 64 steps × batch 32 × 32 features, GRU(64) + Dense(6) at every step; t2: UCI HAR's shape;
    /// t3: 20 steps × batch 50 × 5 features, GRU(32) + Dense(3).
    #[arg(long, default_value = "t2")]
    workload: WorkloadArg,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WorkloadArg {
    T1,
    T2,
    T3,
}

pub(crate) fn bench_train(args: &BenchTrainArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    if args.threads == 0 {
        return Err(Failure::input("--threads 0, expected at least 1"));
    }
    let workload = match args.workload {
        WorkloadArg::T1 => Workload::T1,
        WorkloadArg::T2 => Workload::T2,
        WorkloadArg::T3 => Workload::T3,
    };
    let m = bench_train::run(workload, args.threads);
    console.say(format!(
        "{workload:?} on {} threads with {}: {:.1} batches per CPU second, {:.1} per second, loss {:.4}",
        m.threads, m.isa, m.batches_per_cpu_second, m.batches_per_second, m.loss
    ));
    console.answer(&json!(m));
    Ok(())
}
