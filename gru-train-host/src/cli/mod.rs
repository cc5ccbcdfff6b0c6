//! The command line `gru`.
//!
//! With `--json` the last line on the standard output is one JSON value, and everything for people
//! goes to the standard error. A refusal is one line `error: …` on the standard error. Exit codes:
//! 0 done, 1 a check did not hold, 2 bad input.

mod artifact;
mod bench_har;
mod bench_quality;
mod bench_train;
mod boards;
mod console;
mod cycles;
mod demo;
mod drift;
mod eval;
mod events;
mod export;
mod generate;
mod reliability;
mod run;
mod search;
mod source;
mod train;
mod tune;

use std::ffi::OsString;
use std::io::Write;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use console::{Console, Failure};

/// Train, quantize, inspect and run GRU models for microcontrollers.
#[derive(Debug, Parser)]
#[command(name = "gru", version, about, arg_required_else_help = true)]
struct Cli {
    /// End with one line of JSON on the standard output; everything else goes to standard error.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make recordings, train, quantize, and run the firmware on a virtual board.
    Demo(Box<demo::DemoArgs>),
    /// Train on recordings, quantize, and write the artifact.
    Train(Box<train::TrainArgs>),
    /// Measure accuracy on recordings: confusion matrix, float against int8.
    Eval(Box<eval::EvalArgs>),
    /// Count events on whole recordings: found, missed, false alarms per hour, latency of the decision layer.
    Events(Box<events::EventsArgs>),
    /// Choose the decision layer on validation recordings and write the artifact with it; the weights stay.
    Tune(Box<tune::TuneArgs>),
    /// Measure the plain recipe on UCI HAR: float, int8, board.
    BenchHar(bench_har::BenchHarArgs),
    /// Measure the training engine: batches per CPU second.
    BenchTrain(bench_train::BenchTrainArgs),
    /// Measure the recommended recipes on recorded data sets: float and int8 against bytes.
    BenchQuality(bench_quality::BenchQualityArgs),
    /// Try sizes of models under budgets of flash, RAM and work; print the Pareto front.
    Search(Box<search::SearchArgs>),
    /// Print what an artifact holds, or one line why it is refused (exit code 2).
    Inspect(artifact::InspectArgs),
    /// Print the layers of an artifact as Keras does, with flash, RAM and work per step.
    Summary(artifact::SummaryArgs),
    /// Stream a recording through an artifact and print the decisions as they come.
    Run(Box<run::RunArgs>),
    /// Write a float model as Rust source: numbers in flash, the RAM that it needs as constants.
    Export(export::ExportArgs),
    /// Write synthetic wrist-IMU recordings as CSV, one row per time step.
    Generate(generate::GenerateArgs),
    /// Count what a function of a firmware costs on a core: instructions exactly, cycles by a model.
    ///
    /// The firmware runs in the emulator inside this program, which has no peripherals but the core's own and serves
    /// semihosting. A call goes from the function's first instruction to its return, with everything that it calls. The
    /// instructions are those executed, exactly. The cycles are an estimate from the instruction tables that Arm publishes
    /// for M0, M0+, M3 and M4, and for M33 from a pipeline that issues in order; memory without wait states, no caches, no
    /// interrupts. Use them to compare programs on one core, not to promise microseconds.
    Cycles(cycles::CyclesArgs),
    /// Run an artifact beside a float model over a long stream: drift, saturation per gate, divergence.
    Drift(drift::DriftArgs),
    /// Measure every promise of the reliability table; exit code 1 when one does not hold.
    Reliability(reliability::ReliabilityArgs),
}

/// What is wrong with the arguments, and the tips, without the usage: as any other refusal.
fn in_one_line(text: &str) -> String {
    let (what, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let tips = (rest.lines().map(str::trim)).filter(|line| line.starts_with("tip: "));
    let lines = what.lines().map(str::trim).chain(tips);
    lines.collect::<Vec<_>>().join(" ")
}

/// Runs one command line (the program's name first) and returns the exit code.
pub fn run<A: Into<OsString> + Clone>(
    args: impl IntoIterator<Item = A>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // `--help` and `--version` are answers, anything else is a refusal.
            let text = e.render();
            if e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                let _ = write!(err, "{text}");
                return 2;
            }
            if e.use_stderr() {
                let _ = writeln!(err, "{}", in_one_line(&text.to_string()));
                return 2;
            }
            let _ = write!(out, "{text}");
            return 0;
        }
    };
    let mut console = Console::new(out, err, cli.json);
    let done = match cli.command {
        Command::Demo(args) => demo::demo(&args, &mut console),
        Command::BenchHar(args) => bench_har::bench_har(&args, &mut console),
        Command::BenchTrain(args) => bench_train::bench_train(&args, &mut console),
        Command::BenchQuality(args) => bench_quality::bench_quality(&args, &mut console),
        Command::Search(args) => search::search(&args, &mut console),
        Command::Train(args) => train::train(&args, &mut console),
        Command::Eval(args) => eval::eval(&args, &mut console),
        Command::Events(args) => events::events(&args, &mut console),
        Command::Tune(args) => tune::tune(&args, &mut console),
        Command::Inspect(args) => artifact::inspect(&args, &mut console),
        Command::Summary(args) => artifact::summary(&args, &mut console),
        Command::Run(args) => run::run(&args, &mut console),
        Command::Export(args) => export::export(&args, &mut console),
        Command::Generate(args) => generate::generate(&args, &mut console),
        Command::Cycles(args) => cycles::cycles(&args, &mut console),
        Command::Drift(args) => drift::drift(&args, &mut console),
        Command::Reliability(args) => reliability::reliability(&args, &mut console),
    };
    match done {
        Ok(()) => 0,
        Err(Failure { line, code }) => {
            console.refuse(&line);
            code
        }
    }
}
