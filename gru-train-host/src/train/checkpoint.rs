//! The state of training in a file, written atomically.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{State, TrainConfig, TrainError};

/// Says that a file is a checkpoint, and in which format.
const MAGIC: [u8; 8] = *b"GRUCKPT1";

#[derive(Serialize, Deserialize)]
struct Stored {
    magic: [u8; 8],
    /// The recipe, without what may differ between two runs.
    recipe: String,
    state: State,
}

/// What must be the same in the run that goes on.
fn recipe(config: &TrainConfig) -> String {
    let same = TrainConfig {
        threads: 0,
        checkpoint: None,
        resume: false,
        ..config.clone()
    };
    format!("{same:?}")
}

/// Writes beside the old file and replaces it in one step: a crash leaves the old or the new one.
pub(super) fn write(path: &Path, config: &TrainConfig, state: &State) -> Result<(), TrainError> {
    let fail = |what: String| TrainError::Checkpoint {
        path: path.to_path_buf(),
        what,
    };
    let stored = Stored {
        magic: MAGIC,
        recipe: recipe(config),
        state: state.clone(),
    };
    let bytes = postcard::to_stdvec(&stored).map_err(|e| fail(e.to_string()))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    let written = fs::File::create(beside).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(beside, path))
        .map_err(|e| fail(e.to_string()))
}

/// Reads a state that was written with the same recipe.
pub(super) fn read(
    path: &Path,
    config: &TrainConfig,
    parameters: usize,
) -> Result<State, TrainError> {
    let fail = |what: String| TrainError::Checkpoint {
        path: path.to_path_buf(),
        what,
    };
    let bytes = fs::read(path).map_err(|e| fail(e.to_string()))?;
    if !bytes.starts_with(&MAGIC) {
        return Err(fail("not a checkpoint of this program".into()));
    }
    let stored: Stored =
        postcard::from_bytes(&bytes).map_err(|e| fail(format!("cannot be read: {e}")))?;
    if stored.recipe != recipe(config) {
        return Err(fail(
            "was made with another recipe; remove it or use the same one".into(),
        ));
    }
    if stored.state.params.len() != parameters {
        return Err(fail(format!(
            "holds {} parameters, expected {parameters}",
            stored.state.params.len()
        )));
    }
    Ok(stored.state)
}
