//! `gru run`: decisions as they come, on the host core or on a virtual board.

use std::path::PathBuf;

use clap::Args;
use gru_core::artifact::MAX_DIM;
use gru_core::{Decider, Decision, Digest, writer};
use serde_json::json;

use super::artifact::{Loaded, left_out};
use super::boards::BoardArgs;
use super::console::{Console, Failure};
use super::source::Source;
use crate::dataset::{Dataset, UNLABELLED, Window};
use crate::pipeline;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The artifact.
    model: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Print a decision every so many steps [default: once a second].
    #[arg(long, value_name = "STEPS")]
    every: Option<usize>,
    /// Reset the state after so many steps; 0 never [default: the windows of the training; never where the
    /// artifact has a decision rule].
    #[arg(long, value_name = "STEPS")]
    window: Option<usize>,
    /// Print every decision, not only changes; the events of a decision rule are changes already.
    #[arg(long)]
    all: bool,
    /// Take the decisions from the firmware on a virtual board, and compare it with this machine.
    #[arg(long)]
    board: bool,
    #[command(flatten)]
    boards: BoardArgs,
}

/// Class with the largest logit and its softmax probability.
pub(crate) fn decide(logits: &[i16], frac: u8) -> (usize, f64) {
    let scale = 1.0 / f64::from(1u32 << frac.min(15));
    let mut best = 0;
    for (k, v) in logits.iter().enumerate() {
        if *v > logits[best] {
            best = k;
        }
    }
    let top = logits.get(best).map_or(0.0, |v| f64::from(*v));
    let sum: f64 = (logits.iter())
        .map(|v| libm::exp((f64::from(*v) - top) * scale))
        .sum();
    (best, if sum > 0.0 { 1.0 / sum } else { 0.0 })
}

/// Prints decisions and remembers them.
struct Log<'a> {
    every: usize,
    all: bool,
    rate: f64,
    frac: u8,
    classes: &'a [String],
    /// The rule's events are printed instead.
    quiet: bool,
    last: Option<(usize, usize)>,
    decisions: Vec<serde_json::Value>,
    events: Vec<serde_json::Value>,
}

impl Log<'_> {
    fn name(&self, class: usize) -> String {
        match self.classes.get(class) {
            Some(name) => name.clone(),
            None => format!("output {class}"),
        }
    }

    /// An event of the decision rule at step `t` of sequence `n`.
    fn event(&mut self, n: usize, t: usize, decision: Decision, console: &mut Console<'_>) {
        let confidence = f64::from(decision.confidence) / 32768.0;
        let name = match decision.class() {
            Some(class) => self.name(class.into()),
            None => "unsure".to_owned(),
        };
        console.say(format!(
            "{:10.2} s  {name:<20} {:5.1} %",
            (t + 1) as f64 / self.rate,
            100.0 * confidence
        ));
        (self.events).push(json!([n, t, decision.class(), confidence]));
    }

    /// The outputs after step `t` of sequence `n`.
    fn step(&mut self, n: usize, t: usize, logits: &[i16], console: &mut Console<'_>) {
        if !(t + 1).is_multiple_of(self.every) {
            return;
        }
        let (class, probability) = decide(logits, self.frac);
        self.decisions.push(json!([n, t, class]));
        if self.quiet {
            return;
        }
        if self.all || self.last != Some((n, class)) {
            console.say(format!(
                "{:10.2} s  {:<20} {:5.1} %",
                (t + 1) as f64 / self.rate,
                self.name(class),
                100.0 * probability
            ));
        }
        self.last = Some((n, class));
    }
}

pub(crate) fn run(args: &RunArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    let loaded = Loaded::open(&args.model, console)?;
    let model = loaded.model()?;
    let data = args.source.for_model(&loaded.expected(), false)?;
    let trained = loaded.companion.as_ref().map_or(0, |c| c.window_steps);
    let ruled = model.decision().is_some();
    let window = args.window.unwrap_or(if ruled { 0 } else { trained });
    let rate = match (
        f64::from(model.sample_rate_mhz()) / 1000.0,
        data.sample_rate_hz,
    ) {
        (rate, _) if rate > 0.0 => rate,
        (_, rate) if rate > 0.0 => f64::from(rate),
        _ => 1.0,
    };
    let every = args.every.unwrap_or(match window {
        0 => (rate.round() as usize).max(1),
        steps => steps,
    });
    if every == 0 {
        return Err(Failure::input("--every 0, expected at least 1 step"));
    }
    let classes = loaded.classes();
    let mut log = Log {
        every,
        all: args.all,
        rate,
        frac: model.output_frac(),
        classes: &classes,
        quiet: ruled && !args.all,
        last: None,
        decisions: Vec::new(),
        events: Vec::new(),
    };
    // A board is told before what to do; on this machine decisions come with the samples.
    let pieces = pieces(&data, window);
    // Of a window that is read from its end there is one decision.
    let streams = model.is_streaming();
    let board = match args.board {
        true => Some(args.boards.run(model.bytes(), &data, &pieces, streams)?),
        false => None,
    };
    let mut state = writer::host_state(&model).map_err(|e| Failure::file(&args.model, e))?;
    let mut decider = Box::new(Decider::<{ 3 * MAX_DIM as usize }>::unbound());
    (decider.bind(&model)).map_err(|e| Failure::file(&args.model, e))?;
    let mut digest = Digest::default();
    let mut counts = Vec::new();
    let (mut steps, mut ready_steps) = (0u64, 0u64);
    let several = data.sequences.len() > 1;
    if !model.is_streaming() {
        let failed = |e| Failure::file(&args.model, e);
        let longest = pieces.iter().map(|p| p.steps).max().unwrap_or(0);
        let mut memory = pipeline::host_window(&model, longest);
        log.every = 1;
        for (number, piece) in pieces.iter().enumerate() {
            data.samples_into(piece, &mut counts);
            let rows: Vec<&[Option<i32>]> = counts.chunks_exact(data.input().max(1)).collect();
            let output = (model.run_window(&mut state, &mut memory, &rows)).map_err(failed)?;
            let logits: Vec<i16> = match &board {
                Some(board) => board.logits[number].clone(),
                None => output.values().collect(),
            };
            state.digest(&model, &mut digest);
            steps += rows.len() as u64;
            let last = piece.start + rows.len().saturating_sub(1);
            log.step(piece.sequence, last, &logits, console);
        }
    }
    let streamed = match model.is_streaming() {
        true => &pieces[..],
        false => &[],
    };
    for (number, piece) in streamed.iter().enumerate() {
        let failed = |e| Failure::file(&args.model, e);
        state.reset(&model).map_err(failed)?;
        decider.reset(&model).map_err(failed)?;
        if several && piece.start == 0 {
            let recording = data.sequences[piece.sequence].recording;
            console.say(format!("{}:", data.recordings[recording as usize]));
        }
        data.samples_into(piece, &mut counts);
        let answered = board.as_ref().map(|b| &b.step_results[number]);
        for (t, sample) in counts.chunks_exact(data.input().max(1)).enumerate() {
            let output = model.step(&mut state, sample).map_err(failed)?;
            let ready = output.is_ready();
            let logits: Vec<i16> = match answered.and_then(|a| a.get(t)) {
                Some(result) => result.logits.clone(),
                None => output.values().collect(),
            };
            state.digest(&model, &mut digest);
            steps += 1;
            let decision = decider.decide_outputs(&model, &logits, state.steps());
            if let Some(decision) = decision.map_err(failed)?
                && ruled
            {
                log.event(piece.sequence, piece.start + t, decision, console);
            }
            ready_steps += u64::from(ready);
            if ready {
                log.step(piece.sequence, piece.start + t, &logits, console);
            }
        }
    }
    if model.is_streaming() && ready_steps == 0 {
        console.say(format!(
            "no decision: the model's warm-up takes {} steps after each reset",
            model.warm_up_steps()
        ));
    }
    let counters = state.counters();
    let (invalid, skipped) = (
        counters.invalid_values.into(),
        counters.skipped_steps.into(),
    );
    if let Some(line) = left_out(invalid, skipped, model.gap_policy()) {
        console.say(line);
    }
    console.say(format!(
        "{steps} steps on the host core, digest of all hidden states {:016x}",
        digest.value()
    ));
    if let Some(board) = &board {
        console.say(format!(
            "{} steps on {} ({}), digest of all hidden states {:016x}, {:.0} instructions per step",
            board.steps, board.board, board.emulator, board.digest, board.instructions_per_step
        ));
    }
    console.answer(&json!({
        "steps": steps,
        "classes": classes,
        "decisions": log.decisions,
        "events": log.events,
        "invalid_values": invalid,
        "skipped_steps": skipped,
        "digest_host": format!("{:016x}", digest.value()),
        "digest_board": board.as_ref().map(|b| format!("{:016x}", b.digest)),
        "board": board.as_ref().map(|b| b.board.clone()),
        "emulator": board.as_ref().map(|b| b.emulator.clone()),
        "instructions_per_step": board.as_ref().map(|b| b.instructions_per_step),
    }));
    match board.is_none_or(|b| b.digest == digest.value()) {
        true => Ok(()),
        false => Err(Failure::check("host and board differ")),
    }
}

/// Every sequence, cut where the state is to be reset.
fn pieces(data: &Dataset, window: usize) -> Vec<Window> {
    let mut out = Vec::new();
    for sequence in 0..data.sequences.len() {
        let all = data.steps(sequence);
        let length = if window == 0 { all.max(1) } else { window };
        out.extend((0..all).step_by(length).map(|start| Window {
            sequence,
            start,
            steps: length.min(all - start),
            label: UNLABELLED,
        }));
    }
    out
}
