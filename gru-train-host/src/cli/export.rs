//! `gru export`: a float model as Rust source for a device.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::artifact::{Companion, companion_path};
use super::console::{Console, Failure, grouped, write_file};
use crate::rust_source::rust_source;
use gru_core::float::ModelF32;

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The float model (`.json`), or the artifact that it lies beside.
    model: PathBuf,
    /// The file of Rust to write.
    #[arg(short, long, value_name = "FILE.rs")]
    output: PathBuf,
}

pub(crate) fn export(args: &ExportArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    let path = match Companion::is_at(&args.model) {
        true => args.model.clone(),
        false => companion_path(&args.model),
    };
    let model = Companion::open(&path)?.model;
    let failed = |e: gru_core::float::FloatError| Failure::file(&path, e);
    let source = rust_source(&model).map_err(failed)?;
    write_file(&args.output, source.as_bytes())?;
    let views = model.views().map_err(failed)?;
    let float = ModelF32::new(&views).map_err(failed)?;
    let streams = float.needs_window().is_none();
    let scratch = float.window_scratch_len(if streams {
        1
    } else {
        model.window_steps.max(1)
    });
    let (flash, ram) = (
        4 * (model.parameters() + 2 * model.input()),
        4 * (float.state_len() + scratch),
    );
    console.say(format!(
        "{}: {} parameters in f32, {} bytes of flash for numbers, {} bytes of RAM {}",
        args.output.display(),
        grouped(model.parameters() as u64),
        grouped(flash as u64),
        grouped(ram as u64),
        match streams {
            true => "for a stream".to_owned(),
            false => format!("for a window of {} steps", model.window_steps.max(1)),
        }
    ));
    console.answer(&json!({
        "file": args.output.display().to_string(),
        "parameters": model.parameters(),
        "flash_bytes": flash,
        "ram_bytes": ram,
        "state": float.state_len(),
        "scratch": scratch,
        "streams": streams,
    }));
    Ok(())
}
