//! `gru reliability`: the table of promises with a measured figure per row.

use clap::Args;
use serde_json::json;

use super::console::{Console, Failure, grouped};
use crate::reliability::report::{self, ELSEWHERE};
use crate::reliability::supply::workspace_root;

#[derive(Debug, Args)]
pub(crate) struct ReliabilityArgs {
    /// The budgets of a commit (minutes) instead of those of a release (about an hour).
    #[arg(long)]
    quick: bool,
}

pub(crate) fn reliability(
    args: &ReliabilityArgs,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let root = std::env::current_dir()
        .ok()
        .and_then(|folder| workspace_root(&folder));
    console.say("row | promised | measured | cases | seconds");
    let rows = report::run(args.quick, root.as_deref(), |row| {
        console.say(format!(
            "{:>3} | {}: {} | {}{} | {} | {:.1}",
            row.number,
            row.threat,
            row.promised,
            if row.holds { "" } else { "BROKEN: " },
            row.measured,
            grouped(row.cases),
            row.seconds
        ));
    });
    for row in ELSEWHERE {
        let how = if row.promised {
            "elsewhere"
        } else {
            "not promised"
        };
        console.say(format!(
            "{:>3} | {} | {how}: {} | |",
            row.number, row.threat, row.why
        ));
    }
    let broken: Vec<_> = rows.iter().filter(|row| !row.holds).collect();
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
    let elsewhere: Vec<_> = ELSEWHERE
        .iter()
        .map(|row| {
            json!({
                "row": row.number,
                "threat": row.threat,
                "promised": row.promised,
                "why": row.why,
            })
        })
        .collect();
    console.answer(&json!({
        "quick": args.quick,
        "holds": broken.is_empty(),
        "rows": measured,
        "elsewhere": elsewhere,
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
