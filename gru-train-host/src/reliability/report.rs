//! The reliability table: what is promised, what was measured, over how many cases, in how many seconds.

use std::path::Path;
use std::time::Instant;

use gru_core::Model;
use gru_core::layout::Layout;
use gru_core::writer::{Aligned, write};

use super::power_cut::{
    Before, Product, Stage, Sweep, orders_of_three, signature_hook, sweep_reject,
};
use super::{blobs, faults, hostile, stream, supply};

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
    /// Whether the promise held.
    pub holds: bool,
}

/// One row that this command does not measure.
#[derive(Debug, Clone, Copy)]
pub struct Elsewhere {
    /// The number in the table of threats.
    pub number: u8,
    /// The threat or fault.
    pub threat: &'static str,
    /// Where it is measured, or why it is not promised.
    pub why: &'static str,
    /// Whether another check of the project measures it.
    pub promised: bool,
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
};

/// What one check has to say.
struct Outcome {
    measured: String,
    cases: u64,
    holds: bool,
}

type Check<'c> = Box<dyn Fn(&Budget) -> Outcome + 'c>;

/// Runs every check and calls `each` after each one; `root` is the workspace, where there is one.
///
/// Panics inside a check are caught there; a message of the default hook may appear on the standard error.
pub fn run(quick: bool, root: Option<&Path>, mut each: impl FnMut(&Row)) -> Vec<Row> {
    let budget = if quick { QUICK } else { FULL };
    checks(root)
        .into_iter()
        .map(|(number, threat, promised, check)| {
            let start = Instant::now();
            let outcome = check(&budget);
            let row = Row {
                number,
                threat,
                promised,
                measured: outcome.measured,
                cases: outcome.cases,
                seconds: start.elapsed().as_secs_f64(),
                holds: outcome.holds,
            };
            each(&row);
            row
        })
        .collect()
}

fn checks(root: Option<&Path>) -> Vec<(u8, &'static str, &'static str, Check<'_>)> {
    vec![
        (
            1,
            "corrupt artifact (bit rot, bad radio)",
            "never loaded: every bit flip, truncation, appended bytes, random damage",
            Box::new(corrupt),
        ),
        (
            2,
            "malicious artifact with a correct CRC",
            "a typed error, or a model whose 1,000 steps end in order; bounded time",
            Box::new(malicious),
        ),
        (
            3,
            "other format version",
            "refused with found and supported",
            Box::new(|_| {
                let v = hostile::versions(hostile::load, &references()[0]);
                verdicts(&v, format!("{} refused", v.cases - 1))
            }),
        ),
        (
            4,
            "wrong sizes, overflowed products",
            "checked before any slice; limits stated",
            Box::new(|_| {
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
            Box::new(|b| {
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
            Box::new(|b| {
                let found = stream::accumulators(b.accumulators, 1);
                Outcome {
                    measured: format!("{} wrong", found.wrong),
                    cases: found.cases,
                    holds: found.wrong == 0,
                }
            }),
        ),
        (
            7,
            "NaN, infinities, out-of-range samples",
            "missing or saturated as written, equal to f64 arithmetic",
            Box::new(|b| {
                let (cases, wrong) = stream::floats(stream::to_counts, b.float_stride, 4096.0);
                Outcome {
                    measured: format!("{wrong} patterns differ"),
                    cases,
                    holds: wrong == 0,
                }
            }),
        ),
        (
            8,
            "sensor dropout, stuck, spike, not a number, late sample, gain drift",
            "after the fault the decisions are the clean stream's again within 1,000 steps",
            Box::new(sensor_faults),
        ),
        (
            14,
            "bit flip in a loaded artifact",
            "verify() finds every one, in slices",
            Box::new(|_| flips()),
        ),
        (
            15,
            "bit flip in the state",
            "the state stays in ±1 (16 bits hold no more) and the effect fades",
            Box::new(state_flips),
        ),
        (
            16,
            "weeks of streaming",
            "digest reproducible, difference from float does not grow, 1 - z = 2^-8 within 1 %",
            Box::new(long_run),
        ),
        (
            17,
            "counters pass 2^32 steps",
            "outputs, readiness and state as before",
            Box::new(|_| match stream::counters() {
                Ok((cases, wrong)) => Outcome {
                    measured: format!("{wrong} steps differ"),
                    cases,
                    holds: wrong == 0,
                },
                Err(error) => failed(error),
            }),
        ),
        (
            18,
            "power loss in a model update",
            "always the old or the new model; never back after it was confirmed",
            Box::new(power_cut),
        ),
        (
            19,
            "rollback, foreign model",
            "lower or equal sequence refused; signature checked before anything is parsed",
            Box::new(|_| {
                let (orders, wrong) = orders_of_three();
                let (flips, entered) = signature_hook();
                Outcome {
                    measured: format!(
                        "{orders} orders: {wrong} wrong; {flips} flips under a signature: parser \
                         entered {entered} times"
                    ),
                    cases: orders + flips,
                    holds: wrong == 0 && entered == 0,
                }
            }),
        ),
        (
            21,
            "reset in the middle of a stream",
            "a saved state goes on bit for bit, a damaged one is refused",
            Box::new(sleeps),
        ),
        (
            24,
            "unsafe code",
            "none outside the instruction shims",
            Box::new(move |_| match root {
                Some(root) => unsafe_code(root),
                None => failed("run it inside the workspace"),
            }),
        ),
        (
            25,
            "supply chain",
            "few crates on the device, all from crates.io, licences known",
            Box::new(move |_| match root {
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

fn sensor_faults(b: &Budget) -> Outcome {
    let bytes = Aligned::new(&reference());
    let found = Model::load(&bytes)
        .map_err(|error| error.to_string())
        .and_then(|model| {
            let stream = faults::Stream::held_out(&model, 300.0, 4242);
            faults::recovery(&model, &stream, b.faults, 1000, 1).map_err(|error| error.to_string())
        });
    match found {
        Ok(r) => Outcome {
            measured: format!(
                "the same decisions after {} steps (median), {} (99.9 %); {} never",
                r.median, r.most, r.never
            ),
            cases: r.cases,
            holds: r.never == 0 && r.cases == b.faults,
        },
        Err(error) => failed(error),
    }
}

fn flips() -> Outcome {
    let blob = reference();
    let flips = stream::flips_at_run_time(stream::verify, &blob, 3);
    Outcome {
        measured: format!(
            "{} missed; {:.1} µs per KiB on this host; {:.1} % of the flips change a decision",
            flips.missed,
            flips.verify.as_secs_f64() * 1e6 / (blob.len() as f64 / 1024.0),
            100.0 * flips.decisions_changed as f64 / flips.decisions_run.max(1) as f64
        ),
        cases: flips.cases,
        holds: flips.missed == 0 && flips.cases > 0,
    }
}

fn state_flips(b: &Budget) -> Outcome {
    match stream::state_flips(&reference(), b.state_points, 10_000) {
        Ok(f) => Outcome {
            measured: format!(
                "bit-equal again after {} steps (median), {} (99.9 %); {} of {} within {}",
                f.median, f.most, f.recovered, f.cases, f.limit
            ),
            cases: f.cases,
            holds: f.recovered == f.cases,
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
            Err(error) => return failed(error),
        }
    }
    Outcome {
        measured: format!("{wrong} steps differ, {accepted} damaged snapshots taken"),
        cases,
        holds: wrong == 0 && accepted == 0,
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
        },
        Err(error) => failed(error),
    }
}

/// The rows that other checks measure, and those that are not promised.
pub const ELSEWHERE: [Elsewhere; 7] = [
    Elsewhere {
        number: 9,
        threat: "panic, allocator or float in the linked image",
        why: "link test with a panic handler that does not exist: firmware-examples/nopanic",
        promised: true,
    },
    Elsewhere {
        number: 11,
        threat: "stack overflow",
        why: "measured on the linked image: firmware-examples/nopanic",
        promised: true,
    },
    Elsewhere {
        number: 12,
        threat: "data-dependent duration",
        why: "instructions per step, min = max, on emulated cores: firmware-examples/bench",
        promised: true,
    },
    Elsewhere {
        number: 13,
        threat: "difference between host and targets",
        why: "state digests on emulated cores, and every kernel against the portable one: tests",
        promised: true,
    },
    Elsewhere {
        number: 20,
        threat: "interrupts and threads",
        why: "a state has one owner (`&mut`), which the compiler checks; a queue is the application's",
        promised: false,
    },
    Elsewhere {
        number: 22,
        threat: "training side: bad rows, NaN loss, irreproducible runs",
        why: "tests data_readers and the trainer's own",
        promised: true,
    },
    Elsewhere {
        number: 23,
        threat: "exporter loses information silently",
        why: "the quantizer's report and the end-to-end test",
        promised: true,
    },
];
