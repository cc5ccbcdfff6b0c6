//! The reliability table: what is promised, what was measured, over how many cases, in how many seconds.

use std::cell::OnceCell;
use std::path::Path;
use std::time::Instant;

use crate::board::Emulator;
use gru_core::artifact::{GapPolicy, Readout};
use gru_core::layout::Layout;
use gru_core::writer::{Aligned, QuantModel, write};
use gru_core::{Model, StateError};

use super::device::{self, Trouble};
use super::power_cut::{
    Before, Product, Stage, Sweep, orders_of_three, signature_hook, sweep_reject,
};
use super::training::{self, Trained};
use super::{blobs, faults, handover, hostile, stream, supply};

/// One measured row.
#[derive(Debug, Clone)]
pub struct Row {
    /// The number in the table of threats.
    pub number: u8,
    /// The threat or fault.
    pub threat: &'static str,
    /// The promise.
    pub promised: &'static str,
    /// What was measured.
    pub measured: String,
    /// Cases tried.
    pub cases: u64,
    /// Time it took.
    pub seconds: f64,
    /// Whether the promise held; `None` where this machine lacks what it takes to measure it.
    pub holds: Option<bool>,
}

/// How much is tried.
#[derive(Debug, Clone, Copy)]
struct Budget {
    damage: u64,
    resealed: u64,
    accumulators: u64,
    float_stride: u32,
    state_points: u32,
    long: u64,
    compared: u64,
    sleeps: u32,
    faults: u64,
    artifact: usize,
    twice: usize,
    board_steps: usize,
    timed_steps: usize,
    people: usize,
    epochs: usize,
    items: u64,
}

const QUICK: Budget = Budget {
    damage: 1_000_000,
    resealed: 100_000,
    accumulators: 2_000,
    float_stride: 509,
    state_points: 100,
    long: 10_000_000,
    compared: 1_000_000,
    sleeps: 2_000,
    faults: 1_000,
    artifact: 1024,
    twice: 24,
    board_steps: 10_000,
    timed_steps: 10_000,
    people: 24,
    epochs: 20,
    items: 1_000_000,
};

const FULL: Budget = Budget {
    damage: 10_000_000,
    resealed: 1_000_000,
    accumulators: 10_000,
    float_stride: 1,
    state_points: 1000,
    long: 1_000_000_000,
    compared: 100_000_000,
    sleeps: 10_000,
    faults: 10_000,
    artifact: 10 * 1024,
    twice: 512,
    board_steps: 100_000,
    timed_steps: 10_000,
    people: 48,
    epochs: 40,
    items: 100_000_000,
};

/// What one check has to say.
struct Outcome {
    measured: String,
    cases: u64,
    holds: bool,
    /// Set where this machine lacks what the check needs.
    missing: bool,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            measured: String::new(),
            cases: 0,
            holds: true,
            missing: false,
        }
    }
}

type Check<'c> = Box<dyn Fn(&Budget, &Shared<'_>) -> Outcome + 'c>;

/// What several rows look at, made once.
struct Shared<'r> {
    root: Option<&'r Path>,
    budget: Budget,
    images: OnceCell<Result<device::Images, Trouble>>,
    boards: OnceCell<Vec<Result<device::Bits, Trouble>>>,
    trained: OnceCell<Result<Trained, String>>,
}

impl Shared<'_> {
    fn images(&self) -> &Result<device::Images, Trouble> {
        self.images.get_or_init(|| match self.root {
            Some(root) => device::images(root),
            None => Err(Trouble::Missing("the sources of the workspace".into())),
        })
    }

    /// Every board that something here emulates, QEMU where there is a choice: it is faster.
    fn boards(&self) -> &[Result<device::Bits, Trouble>] {
        self.boards.get_or_init(|| {
            (device::fastest().into_iter())
                .map(|(machine, emulator)| {
                    // The embedded emulator runs ten million instructions a second, QEMU hundreds.
                    let most = if emulator == Emulator::Qemu {
                        usize::MAX
                    } else {
                        400
                    };
                    let steps = self.budget.board_steps.min(most);
                    device::bits(machine, emulator, steps, false)
                })
                .collect()
        })
    }

    fn trained(&self) -> Result<&Trained, String> {
        let made = self
            .trained
            .get_or_init(|| training::train(self.budget.people, self.budget.epochs, 1, 0));
        made.as_ref().map_err(Clone::clone)
    }
}

/// The whole report.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The rows in order.
    pub rows: Vec<Row>,
    /// Accuracy of the model that was trained here, per kind and rate of sensor fault.
    pub curves: Vec<faults::Curve>,
}

/// Runs every check and calls `each` after each one; `root` is the workspace, where there is one.
///
/// Panics inside a check are caught there; a message of the default hook may appear on the standard error.
pub fn run(quick: bool, root: Option<&Path>, mut each: impl FnMut(&Row)) -> Report {
    let budget = if quick { QUICK } else { FULL };
    let shared = Shared {
        root,
        budget,
        images: OnceCell::new(),
        boards: OnceCell::new(),
        trained: OnceCell::new(),
    };
    let mut rows = Vec::new();
    for (number, threat, promised, check) in checks(root) {
        let start = Instant::now();
        let outcome = check(&budget, &shared);
        // CI has everything that a row needs, so there nothing may be missing.
        let missing = outcome.missing && !device::everything_is_required();
        let row = Row {
            number,
            threat,
            promised,
            measured: outcome.measured,
            cases: outcome.cases,
            seconds: start.elapsed().as_secs_f64(),
            holds: (!missing).then_some(outcome.holds && !outcome.missing),
        };
        each(&row);
        rows.push(row);
    }
    let curves = (shared.trained().ok())
        .and_then(|trained| trained_curves(trained, 60.0).ok())
        .unwrap_or_default();
    Report { rows, curves }
}

fn checks(root: Option<&Path>) -> Vec<(u8, &'static str, &'static str, Check<'_>)> {
    vec![
        (
            1,
            "corrupt artifact (bit rot, bad radio)",
            "never loaded: every bit flip, truncation, appended bytes, random damage",
            Box::new(|b, _| corrupt(b)),
        ),
        (
            2,
            "malicious artifact with a correct CRC",
            "a typed error, or a model whose 1,000 steps end in order; bounded time",
            Box::new(|b, _| malicious(b)),
        ),
        (
            3,
            "other format version",
            "refused with found and supported",
            Box::new(|_, _| {
                let v = hostile::versions(hostile::load, &references()[0]);
                verdicts(&v, format!("{} refused", v.cases - 1))
            }),
        ),
        (
            4,
            "wrong sizes, overflowed products",
            "checked before any slice; limits stated",
            Box::new(|_, _| {
                let v = hostile::dimension_grid(hostile::load, true);
                verdicts(
                    &v,
                    format!("right answer each; slowest load {:.1} ms", millis(&v)),
                )
            }),
        ),
        (
            5,
            "trailing bytes, second encodings",
            "one model, one byte string: export(load(b)) == b",
            Box::new(|b, _| {
                let v = hostile::resealed(&references(), b.resealed / 10, 0, 9);
                let text = format!("{} accepted, {} not canonical", v.accepted, v.wrong);
                let mut outcome = verdicts(&v, text);
                outcome.cases = v.accepted;
                outcome.holds &= v.accepted > 0;
                outcome
            }),
        ),
        (
            6,
            "accumulator overflow",
            "no overflow after load: rows at the bound reach it exactly, above it are refused",
            Box::new(|b, _| {
                let found = stream::accumulators(b.accumulators, 1);
                Outcome {
                    measured: format!("{} wrong", found.wrong),
                    cases: found.cases,
                    holds: found.wrong == 0,
                    ..Outcome::default()
                }
            }),
        ),
        (
            7,
            "NaN, infinities, out-of-range samples",
            "missing or saturated as written, counts and network inputs equal to exact arithmetic",
            Box::new(|b, _| {
                let (cases, wrong) = stream::floats(stream::to_counts, b.float_stride, 4096.0);
                let differ = stream::conditionings(stream::to_input, b.damage, 7);
                Outcome {
                    measured: format!(
                        "{wrong} patterns differ; of {} counts with random constants {differ} inputs do",
                        b.damage
                    ),
                    cases: cases + b.damage,
                    holds: wrong + differ == 0,
                    ..Outcome::default()
                }
            }),
        ),
        (
            8,
            "sensor dropout, stuck, spike, not a number, late sample, gain drift",
            "after the fault the classes and decisions are the clean stream's again within 1,000 steps, with every gap policy",
            Box::new(sensor_faults),
        ),
        (
            9,
            "panic",
            "no path to a panic in the linked image, on six cores at opt-level 3 and s",
            Box::new(|_, shared| {
                of_images(shared, |i| {
                    (i.panics, format!("{} with a path to one", i.panics))
                })
            }),
        ),
        (
            10,
            "allocation, hidden float",
            "no allocator and no float arithmetic in the linked image; flash within its budget",
            Box::new(|_, shared| {
                of_images(shared, |i| {
                    let text = format!(
                        "{} symbols of allocators, {} of float arithmetic; load, self-test, step, decisions, snapshot and \
                         restore in {} bytes at most at opt-level 3, {} at s",
                        i.allocators, i.floats, i.flash[0], i.flash[1]
                    );
                    (i.allocators + i.floats, text)
                })
            }),
        ),
        (
            11,
            "stack overflow",
            "worst stack within 2,048 bytes for load and 512 for a step with the core's kernel, 2,304 for either where the portable one runs",
            Box::new(|_, shared| of_boards(shared, stack)),
        ),
        (
            12,
            "data-dependent duration",
            "on every core the instructions of a step do not depend on state or sample",
            Box::new(|b, _| durations(b)),
        ),
        (
            13,
            "difference between host and targets",
            "the same bits of state and outputs on every core, with the core's own kernel",
            Box::new(|_, shared| of_boards(shared, same_bits)),
        ),
        (
            14,
            "bit flip in a loaded artifact",
            "verify() finds every one, in slices",
            Box::new(|_, shared| flips(shared)),
        ),
        (
            15,
            "bit flip in the state",
            "the state stays in ±1 (16 bits hold no more) and the effect fades",
            Box::new(|b, _| state_flips(b)),
        ),
        (
            16,
            "weeks of streaming",
            "digest reproducible, difference from float does not grow, 1 - z = 2^-8 within 1 %",
            Box::new(|b, _| long_run(b)),
        ),
        (
            17,
            "counters pass 2^32 steps",
            "outputs, readiness and state as before",
            Box::new(|_, _| match stream::counters() {
                Ok((cases, wrong)) => Outcome {
                    measured: format!("{wrong} steps differ"),
                    cases,
                    holds: wrong == 0,
                    ..Outcome::default()
                },
                Err(error) => failed(error),
            }),
        ),
        (
            18,
            "power loss in a model update",
            "always the old or the new model; never back after it was confirmed",
            Box::new(|b, _| power_cut(b)),
        ),
        (
            19,
            "rollback, foreign model",
            "lower or equal sequence refused; signature checked before anything is parsed",
            Box::new(|_, _| {
                let (orders, wrong) = orders_of_three();
                let (flips, entered) = signature_hook();
                Outcome {
                    measured: format!(
                        "{orders} orders: {wrong} wrong; {flips} flips under a signature: parser \
                         entered {entered} times"
                    ),
                    cases: orders + flips,
                    holds: wrong == 0 && entered == 0,
                    ..Outcome::default()
                }
            }),
        ),
        (
            20,
            "interrupts and threads",
            "a state has one owner; samples handed over by a queue are taken in order or counted as lost",
            Box::new(|b, _| {
                let found = handover::run(b.items, handover::Queue::Product);
                Outcome {
                    measured: format!(
                        "{} lost and counted, {} wrong; doctests show that two owners of one state do not compile",
                        found.lost, found.wrong
                    ),
                    cases: found.items,
                    holds: found.wrong == 0 && found.lost > 0,
                    ..Outcome::default()
                }
            }),
        ),
        (
            21,
            "reset in the middle of a stream",
            "a saved state goes on bit for bit, a damaged one is refused",
            Box::new(|b, _| sleeps(b)),
        ),
        (
            22,
            "training side: bad rows, values that are not numbers, irreproducible runs, label leak",
            "refused with the row; the same artifact from one seed on any number of threads; exact gradients",
            Box::new(training_side),
        ),
        (
            23,
            "exporter loses information silently",
            "what does not fit is counted or refused; int8 within 2 points of float",
            Box::new(export),
        ),
        (
            24,
            "unsafe code",
            "none outside the instruction shims",
            Box::new(move |_, _| match root {
                Some(root) => unsafe_code(root),
                None => failed("run it inside the workspace"),
            }),
        ),
        (
            25,
            "supply chain",
            "few crates on the device, all from crates.io, licences known",
            Box::new(move |_, _| match root {
                Some(root) => supply_chain(root),
                None => failed("run it inside the workspace"),
            }),
        ),
    ]
}

fn references() -> Vec<Vec<u8>> {
    blobs::references()
        .into_iter()
        .map(|(_, blob)| blob)
        .collect()
}

fn failed(error: impl std::fmt::Display) -> Outcome {
    Outcome {
        measured: format!("not measured: {error}"),
        cases: 0,
        holds: false,
        ..Outcome::default()
    }
}

fn millis(v: &hostile::Verdicts) -> f64 {
    v.slowest_load.as_secs_f64() * 1e3
}

/// Nothing accepted, no panic, nothing wrong.
fn verdicts(v: &hostile::Verdicts, mut measured: String) -> Outcome {
    if let Some(first) = &v.first {
        measured.push_str("; first: ");
        measured.push_str(first);
    }
    Outcome {
        measured,
        cases: v.cases,
        holds: v.panics == 0 && v.wrong == 0,
        ..Outcome::default()
    }
}

fn corrupt(b: &Budget) -> Outcome {
    let blobs = references();
    let mut v = hostile::random_damage(hostile::load, &blobs, b.damage, 1);
    for blob in &blobs {
        v.add(hostile::bit_flips(hostile::load, blob));
        v.add(hostile::lengths(hostile::load, blob));
    }
    let text = format!("{} accepted, {} panics", v.accepted, v.panics);
    let mut outcome = verdicts(&v, text);
    outcome.holds &= v.accepted == 0;
    outcome
}

fn malicious(b: &Budget) -> Outcome {
    let v = hostile::resealed(&references(), b.resealed, 1000, 3);
    let text = format!(
        "{} panics, {} broken promises in {} accepted, {} steps; slowest load {:.1} ms",
        v.panics,
        v.wrong,
        v.accepted,
        v.steps,
        millis(&v)
    );
    verdicts(&v, text)
}

/// The model of the rows that need one.
#[must_use]
pub fn reference() -> Vec<u8> {
    write(&stream::reference_model(), Layout::Rows).unwrap_or_default()
}

fn missing(what: impl std::fmt::Display) -> Outcome {
    Outcome {
        measured: format!("not measured here: needs {what}"),
        holds: false,
        missing: true,
        ..Outcome::default()
    }
}

impl From<&Trouble> for Outcome {
    fn from(trouble: &Trouble) -> Self {
        match trouble {
            Trouble::Missing(what) => missing(what),
            Trouble::Failed(what) => failed(what.lines().next().unwrap_or_default()),
        }
    }
}

/// A verdict over the linked images: how many faults, and what to print.
fn of_images(shared: &Shared<'_>, f: impl Fn(&device::Images) -> (u64, String)) -> Outcome {
    match shared.images() {
        Ok(images) => {
            let (faults, mut measured) = f(images);
            if let Some(first) = &images.first {
                measured.push_str("; first: ");
                measured.push_str(first);
            }
            Outcome {
                measured: format!("{} images: {measured}", images.linked),
                cases: images.linked,
                holds: faults == 0 && images.first.is_none() && images.linked > 0,
                ..Outcome::default()
            }
        }
        Err(trouble) => trouble.into(),
    }
}

/// A verdict over the boards, of which some may be missing here; all of them are what CI has.
fn of_boards(shared: &Shared<'_>, f: fn(&[&device::Bits]) -> Outcome) -> Outcome {
    let mut found = Vec::new();
    for board in shared.boards() {
        match board {
            Ok(board) => found.push(board),
            Err(trouble) => return trouble.into(),
        }
    }
    if found.is_empty() {
        return missing("an emulator");
    }
    let mut outcome = f(&found);
    let absent = device::absent();
    if !absent.is_empty() {
        outcome
            .measured
            .push_str(&format!("; not here: {}", absent.join(", ")));
        outcome.holds &= !device::everything_is_required();
    }
    outcome
}

fn stack(boards: &[&device::Bits]) -> Outcome {
    let deepest = |n: usize| boards.iter().map(|b| b.stack[n]).max().unwrap_or(0);
    let (load, step) = (deepest(0), deepest(1));
    let portable = boards.iter().flat_map(|b| b.portable_stack).max();
    let portable = portable.unwrap_or(0);
    let ram = boards.iter().map(|b| b.memory[0]).max().unwrap_or(0);
    // 0 means that the board cannot paint its stack.
    let measured = boards
        .iter()
        .filter(|b| b.stack[0] > 0 && b.stack[1] > 0)
        .count();
    Outcome {
        measured: format!(
            "load {load} bytes, step {step}; {portable} at most for variants of the portable kernel; painted on \
             {measured} cores; state {ram} bytes of RAM"
        ),
        cases: boards.iter().map(|b| b.models).sum(),
        holds: load <= device::LOAD_STACK
            && step <= device::STEP_STACK
            && portable <= device::PORTABLE_STACK
            && measured > 0,
        ..Outcome::default()
    }
}

fn same_bits(boards: &[&device::Bits]) -> Outcome {
    let differ: u64 = boards.iter().map(|b| b.differ).sum();
    let models: u64 = boards.iter().map(|b| b.models).sum();
    let strangers = boards.iter().filter(|b| !b.right_kernel).count();
    Outcome {
        measured: format!(
            "{differ} of {models} digests differ on {} boards; {strangers} with another kernel than the core's",
            boards.len()
        ),
        cases: boards.iter().map(|b| b.steps).sum(),
        holds: differ == 0 && strangers == 0,
        ..Outcome::default()
    }
}

fn durations(b: &Budget) -> Outcome {
    let mut outcome = Outcome::default();
    let mut texts = Vec::new();
    let mut models = 0;
    for (machine, emulator) in device::exact() {
        match device::duration(machine, emulator, b.timed_steps, None) {
            Ok(found) => {
                outcome.cases += found.steps;
                outcome.holds &= found.is_constant();
                let [fewest, most] = found.range;
                texts.push(match found.is_constant() {
                    true => format!("{} {fewest:.0}", machine.core()),
                    false => format!("{} {fewest:.1} to {most:.1}", machine.core()),
                });
            }
            Err(trouble) => return (&trouble).into(),
        }
        // Every variant, from fewer states.
        match device::durations(machine, emulator, b.timed_steps / 50) {
            Ok(all) => {
                for (name, found) in all {
                    models += 1;
                    outcome.cases += found.steps;
                    if !found.is_constant() {
                        outcome.holds = false;
                        let [fewest, most] = found.range;
                        let core = machine.core();
                        texts.push(format!("{core} {name} {fewest:.1} to {most:.1}"));
                    }
                }
            }
            Err(trouble) => return (&trouble).into(),
        }
    }
    if texts.is_empty() {
        return missing("an emulator");
    }
    outcome.measured = format!(
        "instructions of {} steps from random states, fewest = most: {}; the same of {models} models of all variants",
        b.timed_steps,
        texts.join(", ")
    );
    let absent = device::absent();
    if !absent.is_empty() {
        outcome
            .measured
            .push_str(&format!("; not here: {}", absent.join(", ")));
        outcome.holds &= !device::everything_is_required();
    }
    outcome
}

fn sensor_faults(b: &Budget, shared: &Shared<'_>) -> Outcome {
    let trained = match shared.trained() {
        Ok(trained) => trained,
        Err(error) => return failed(error),
    };
    let bytes = Aligned::new(&trained.product.artifact);
    let found = Model::load(&bytes)
        .map_err(|error| error.to_string())
        .and_then(|model| {
            let stream = faults::Stream::held_out(&model, 300.0, 4242);
            let mut all = Vec::new();
            for gap in [GapPolicy::Hold, GapPolicy::Zero, GapPolicy::Skip] {
                let bytes = faults::with_gap(&model, gap).map_err(|error| error.to_string())?;
                let found = Model::load(&bytes)
                    .map_err(|error| error.to_string())
                    .and_then(|model| {
                        faults::recovery(&model, &stream, b.faults, 1000, 1)
                            .map_err(|error| error.to_string())
                    });
                all.push((gap, found?));
            }
            Ok(all)
        });
    match found {
        Ok(all) => {
            let each = all.iter().map(|(gap, r)| {
                format!(
                    "{gap:?} {} / {}, {} / {}",
                    r.classes.median, r.classes.most, r.outcomes.median, r.outcomes.most
                )
            });
            let each = each.collect::<Vec<_>>().join("; ");
            let never: u64 = (all.iter())
                .map(|(_, r)| r.classes.never + r.outcomes.never)
                .sum();
            let cases = all.iter().map(|(_, r)| r.cases).sum();
            Outcome {
                measured: format!(
                    "trained model with limits, steps (median / 99.9 %) until the classes and the decisions are the same: \
                     {each}; {never} never"
                ),
                cases,
                holds: never == 0 && cases == 3 * b.faults,
                ..Outcome::default()
            }
        }
        Err(error) => failed(error),
    }
}

/// The accuracy of the model that was trained here, on people that it has not seen.
fn trained_curves(trained: &Trained, seconds: f64) -> Result<Vec<faults::Curve>, String> {
    let bytes = Aligned::new(&trained.product.artifact);
    let model = Model::load(&bytes).map_err(|e| e.to_string())?;
    let stream = faults::Stream::held_out(&model, seconds, 4242);
    faults::curves(&model, &stream, 1).map_err(|e| e.to_string())
}

fn training_side(b: &Budget, shared: &Shared<'_>) -> Outcome {
    let (files, accepted) = training::malformed(training::read_file);
    let (parameters, worst) = training::gradients(20, 0.0);
    let nan = training::stops_at_nan();
    let people = b.people.min(8);
    let runs: Result<Vec<_>, String> = [1, 2, 1]
        .into_iter()
        .map(|threads| training::train(people, 1, 5, threads).map(|t| t.product.artifact))
        .collect();
    let same = runs.is_ok_and(|runs| runs.windows(2).all(|pair| pair[0] == pair[1]));
    let shared_people = shared.trained().map_or(usize::MAX, |t| t.shared_people);
    Outcome {
        measured: format!(
            "{accepted} of {files} malformed files not refused in place; {} on 1, 2 and again 1 threads; {parameters} \
             gradients within {worst:.1e}; training on a NaN {}; {shared_people} people on both sides of the split",
            if same {
                "one artifact"
            } else {
                "DIFFERENT artifacts"
            },
            if nan { "stops" } else { "GOES ON" }
        ),
        cases: files + parameters + 3,
        holds: accepted == 0 && same && nan && worst <= 1e-6 && shared_people == 0,
        ..Outcome::default()
    }
}

fn export(_: &Budget, shared: &Shared<'_>) -> Outcome {
    let found = shared.trained();
    let losses = match found.and_then(training::export_losses) {
        Ok(losses) => losses,
        Err(error) => return failed(error),
    };
    let (counted, refused) = training::planted_losses(3);
    let [float, int8] = losses.accuracy;
    // Four out of five decisions right: a model that has learnt nothing shows nothing either.
    let learnt = float > 0.8;
    Outcome {
        measured: format!(
            "float {:.1} %, int8 {:.1} %, same decision on {:.1} %; {} values saturated, weights within {:.1e}; of 3 \
             planted biases {counted} counted, a weight beyond every scale {}",
            100.0 * float,
            100.0 * int8,
            100.0 * losses.agreement,
            losses.saturated,
            losses.max_error,
            if refused { "refused" } else { "TAKEN" }
        ),
        cases: losses.windows,
        holds: learnt && float - int8 <= 0.02 && losses.saturated == 0 && counted == 3 && refused,
        ..Outcome::default()
    }
}

fn flips(shared: &Shared<'_>) -> Outcome {
    let artifact = match shared.trained() {
        Ok(trained) => &trained.product.artifact,
        Err(error) => return failed(error),
    };
    let flips = stream::flips_at_run_time(stream::verify, artifact);
    let bytes = Aligned::new(artifact);
    let samples = match Model::load(&bytes) {
        Ok(model) => faults::Stream::held_out(&model, 60.0, 4242),
        Err(error) => return failed(error),
    };
    // Four seconds of a person whom no training has seen.
    let samples = &samples.samples()[..200.min(samples.len())];
    let flipped = stream::flipped_decisions(artifact, samples, 3);
    Outcome {
        measured: format!(
            "trained model: {} missed; {:.1} µs per KiB on this host; {:.1} % of the flips of a parameter change one \
             of {} decisions or more, {:.2} % of all decisions",
            flips.missed,
            flips.verify.as_secs_f64() * 1e6 / (artifact.len() as f64 / 1024.0),
            100.0 * flipped.changed as f64 / flipped.run.max(1) as f64,
            samples.len(),
            100.0 * flipped.different as f64 / flipped.decisions.max(1) as f64
        ),
        cases: flips.cases,
        holds: flips.missed == 0 && flips.cases > 0 && flipped.run > 0,
        ..Outcome::default()
    }
}

fn state_flips(b: &Budget) -> Outcome {
    let sliding = write(
        &QuantModel {
            readout: Readout::Sliding { steps: 32 },
            ..stream::reference_model()
        },
        Layout::Rows,
    );
    let both = stream::state_flips(&reference(), b.state_points, 10_000).and_then(|last| {
        let sliding = sliding.unwrap_or_default();
        let points = b.state_points.div_ceil(10);
        Ok((last, stream::state_flips(&sliding, points, 10_000)?))
    });
    match both {
        Ok((f, sliding)) => Outcome {
            measured: format!(
                "bit-equal again after {} steps (median), {} (99.9 %); {} of {} within {}; with a sliding mean over 32 \
                 steps, every bit that it holds: {} of {}, after {} steps (99.9 %)",
                f.median,
                f.most,
                f.recovered,
                f.cases,
                f.limit,
                sliding.recovered,
                sliding.cases,
                sliding.most
            ),
            cases: f.cases + sliding.cases,
            holds: f.recovered == f.cases && sliding.recovered == sliding.cases,
            ..Outcome::default()
        },
        Err(error) => failed(error),
    }
}

fn long_run(b: &Budget) -> Outcome {
    let slow = (1..=8)
        .map(|shift| stream::slow_unit(shift).unwrap_or(f64::INFINITY))
        .fold(0.0, f64::max);
    let runs = stream::long_run(b.long, b.compared, 0.0)
        .and_then(|run| Ok((run, stream::long_run(b.long.min(1_000_000), 0, 0.0)?)))
        .and_then(|(run, a)| Ok((run, a, stream::long_run(b.long.min(1_000_000), 0, 0.0)?)));
    match runs {
        Ok((run, first, again)) => Outcome {
            measured: format!(
                "digest {:016x}, mean difference {:.1e}, largest {:.1e}, slope {:+.1} standard errors over {} \
                 steps; slow units within {:.2} %",
                run.digest,
                run.mean_difference,
                run.max_difference,
                run.trend,
                run.compared,
                100.0 * slow
            ),
            cases: run.steps,
            holds: run.trend.abs() < 4.0 && first.digest == again.digest && slow < 0.01,
            ..Outcome::default()
        },
        Err(error) => failed(error),
    }
}

fn power_cut(b: &Budget) -> Outcome {
    let mut sweep = Sweep::default();
    for before in Before::ALL {
        sweep.add(Stage::<4, 4096>::new(b.artifact, before, 1).sweep(&Product, false));
        sweep.add(Stage::<4, 128>::new(b.artifact, before, 1).sweep(&Product, false));
    }
    for before in [Before::Older, Before::Rejected] {
        sweep.add(Stage::<4, 128>::new(b.twice, before, 4).sweep(&Product, true));
    }
    sweep.add(sweep_reject(b.artifact));
    Outcome {
        measured: format!(
            "{} forbidden states; up to two cuts{}",
            sweep.violations,
            sweep
                .first
                .map(|first| format!("; first: {first}"))
                .unwrap_or_default()
        ),
        cases: sweep.states,
        holds: sweep.violations == 0,
        ..Outcome::default()
    }
}

fn sleeps(b: &Budget) -> Outcome {
    let (mut cases, mut wrong, mut accepted) = (0, 0, 0);
    for blob in references() {
        match stream::snapshots(&blob, b.sleeps) {
            Ok((c, w, a)) => {
                cases += c;
                wrong += w;
                accepted += a;
            }
            // A model that reads windows has no state within one.
            Err(StateError::NeedsWindow) => {}
            Err(error) => return failed(error),
        }
    }
    Outcome {
        measured: format!("{wrong} steps differ, {accepted} damaged snapshots taken"),
        cases,
        holds: wrong == 0 && accepted == 0,
        ..Outcome::default()
    }
}

fn unsafe_code(root: &Path) -> Outcome {
    match supply::unsafe_lines(&root.join("gru-core/src")) {
        Ok(found) => {
            let lines: usize = found.iter().map(|(_, lines)| lines).sum();
            let outside: Vec<_> = found
                .iter()
                .filter(|(path, _)| !supply::is_shim(path))
                .map(|(path, _)| path.display().to_string())
                .collect();
            Outcome {
                measured: format!(
                    "{lines} lines in {} shims, {} elsewhere",
                    found.len() - outside.len(),
                    outside.len()
                ),
                cases: lines as u64,
                holds: outside.is_empty(),
                ..Outcome::default()
            }
        }
        Err(error) => failed(error),
    }
}

fn supply_chain(root: &Path) -> Outcome {
    let found = supply::metadata(root).and_then(|metadata| {
        let (refused, all) = supply::refused_licences(&metadata);
        let device = supply::device_graph(root, "")?;
        let lock = std::fs::read_to_string(root.join("Cargo.lock")).map_err(|e| e.to_string())?;
        let foreign = supply::foreign_sources(&lock, &supply::MEMBERS);
        Ok((refused, all, device, foreign))
    });
    match found {
        Ok((refused, all, device, foreign)) => Outcome {
            measured: format!(
                "{} crates in a device image (at most {}), {all} on the host; {} licences refused, {} other sources",
                device.len(),
                supply::MOST_ON_DEVICE,
                refused.len(),
                foreign.len()
            ),
            cases: all as u64,
            holds: refused.is_empty()
                && foreign.is_empty()
                && device.len() <= supply::MOST_ON_DEVICE
                && supply::EXCEPTIONS
                    .iter()
                    .all(|(name, _)| !device.contains(*name)),
            ..Outcome::default()
        },
        Err(error) => failed(error),
    }
}

/// What is not promised, each with the reason; printed beside the rows and stated in the README.
pub const NOT_PROMISED: [(&str, &str); 11] = [
    (
        "protection against intent",
        "a CRC-32 finds accidents. Whoever can write the flash can write a valid model: the update calls a signature \
         check of yours before anything is parsed (gru-core/examples/signed_update.rs)",
    ),
    (
        "constant time of the float path",
        "`expf` and `tanhf` branch on their argument. The promise of row 12 is for the integer path",
    ),
    (
        "constant cycles",
        "row 12 counts instructions. Caches, flash wait states and interrupts belong to the chip",
    ),
    (
        "a bit flip in the sums of a mean over all steps fades",
        "the mean has no last step; what a flip does to it stays until the reset. A sliding or an exponential mean forgets (row 15)",
    ),
    (
        "the right decision during a fault",
        "after it the decisions are the clean stream's again (row 8); during it the accuracy is the curve below",
    ),
    (
        "interrupt latency of your queue",
        "row 20 measures the hand-over of samples between two threads, which gru-core/tests/race.sh and miri.sh check for \
         races; that a step may be interrupted anywhere, firmware-examples/bench/check.sh shows (form `interrupts`). A step masks \
         no interrupt; priorities are the application's",
    ),
    (
        "as many instructions whatever the read-out and the gaps",
        "a mean over steps does less in its first ones, and a sample that is missing or out of its limits takes another way: \
         both tell how many steps there were and which values were missing, not what they were",
    ),
    (
        "a static bound of the stack",
        "row 11 paints the stack of runs, which need not take every branch; nothing walks the call graph of the image",
    ),
    (
        "cycles of verify() on a core",
        "row 14 gives the time on this host. `firmware-examples/bench/count.sh` counts a load, which computes the same \
         checksum and more",
    ),
    (
        "known advisories",
        "row 25 checks sources, checksums and licences from the lock file alone. Advisories come from a data base on the \
         network: `cargo deny check advisories` asks it, and nothing here runs it",
    ),
    (
        "the sequence of a confirmed model that was overwritten",
        "an update must be newer than all that is stored; what an interrupted update has erased is forgotten. A counter \
         outside this flash is the gate's floor",
    ),
];
