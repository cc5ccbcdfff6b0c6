//! `gru reliability`: the table of promises with a measured figure per row.

use std::path::{Path, PathBuf};

use clap::Args;
use gru_core::Model;
use gru_core::writer::Aligned;
use serde_json::json;

use super::console::{Console, Failure, grouped, percent};
use crate::reliability::faults::{Curve, RATES, Stream, curves};
use crate::reliability::report::{self, NOT_PROMISED};
use crate::reliability::supply::workspace_root;

#[derive(Debug, Args)]
pub(crate) struct ReliabilityArgs {
    /// The budgets of a commit (minutes) instead of those of a release (about an hour).
    #[arg(long)]
    quick: bool,
    /// An artifact for the wrist IMU: print its accuracy per kind and rate of sensor fault instead of that of the
    /// model that is trained here.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
}

pub(crate) fn reliability(
    args: &ReliabilityArgs,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    // A model that cannot be used is refused before minutes of work.
    let given = args.model.as_deref().map(accuracy).transpose()?;
    let root = std::env::current_dir()
        .ok()
        .and_then(|folder| workspace_root(&folder));
    console.say("row | promised | measured | cases | seconds");
    let report = report::run(args.quick, root.as_deref(), |row| {
        console.say(format!(
            "{:>3} | {}: {} | {}{} | {} | {:.1}",
            row.number,
            row.threat,
            row.promised,
            if row.holds == Some(false) {
                "BROKEN: "
            } else {
                ""
            },
            row.measured,
            grouped(row.cases),
            row.seconds
        ));
    });
    let rows = report.rows;
    for (what, why) in NOT_PROMISED {
        console.say(format!("  - | {what} | not promised: {why}"));
    }
    let whose = match given.is_some() {
        true => "the given model",
        false => "the model trained here",
    };
    let curves = given.unwrap_or(report.curves);
    console.say(format!(
        "accuracy of {whose} per step on people never seen, by share of steps with the fault"
    ));
    for curve in &curves {
        let points = RATES.iter().zip(&curve.right);
        let points: Vec<_> = points
            .map(|(rate, right)| format!("{}: {}", percent(*rate), percent(*right)))
            .collect();
        console.say(format!(
            "accuracy, {:?} | {}",
            curve.fault,
            points.join(" | ")
        ));
    }
    let broken: Vec<_> = (rows.iter())
        .filter(|row| row.holds == Some(false))
        .collect();
    let unmeasured = rows.iter().filter(|row| row.holds.is_none()).count();
    let measured: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "row": row.number,
                "threat": row.threat,
                "promised": row.promised,
                "measured": row.measured,
                "cases": row.cases,
                "seconds": row.seconds,
                "holds": row.holds,
            })
        })
        .collect();
    let not_promised: Vec<_> = NOT_PROMISED
        .iter()
        .map(|(what, why)| json!({"what": what, "why": why}))
        .collect();
    console.answer(&json!({
        "quick": args.quick,
        "holds": broken.is_empty(),
        "rows": measured,
        "not_measured_here": unmeasured,
        "not_promised": not_promised,
        "fault_model": whose,
        "fault_rates": RATES,
        "fault_curves": curves.iter().map(|curve| json!({
            "fault": format!("{:?}", curve.fault),
            "accuracy": curve.right,
            "same_decisions": curve.same,
        })).collect::<Vec<_>>(),
    }));
    match broken.first() {
        None => Ok(()),
        Some(row) => Err(Failure::check(format!(
            "{} of {} promises do not hold; row {}: {}",
            broken.len(),
            rows.len(),
            row.number,
            row.measured
        ))),
    }
}

/// The accuracy of an artifact on people that no training has seen, per kind and rate of fault.
fn accuracy(path: &Path) -> Result<Vec<Curve>, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::file(path, e))?;
    let bytes = Aligned::new(&bytes);
    let model = Model::load(&bytes).map_err(|e| Failure::file(path, e))?;
    let features = crate::imu::FEATURES.len();
    if model.features() != features {
        let found = model.features();
        return Err(Failure::file(
            path,
            format!("{found} features where the wrist IMU has {features}"),
        ));
    }
    let stream = Stream::held_out(&model, 300.0, 4242);
    curves(&model, &stream, 1).map_err(|e| Failure::file(path, e))
}
