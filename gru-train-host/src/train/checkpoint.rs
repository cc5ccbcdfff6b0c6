//! The state of training in a file, written atomically.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use gru_core::artifact::crc32;

use super::{State, TrainConfig, TrainError};
use crate::nn::data::{Labels, Sequences};

/// Says that a file is a checkpoint, and in which format.
const MAGIC: [u8; 8] = *b"GRUCKPT2";

#[derive(Serialize, Deserialize)]
struct Stored {
    magic: [u8; 8],
    made_of: String,
    state: State,
}

/// What must be the same in the run that goes on: the recipe, without what may differ between two runs, and the
/// sequences.
pub(super) fn made_of(config: &TrainConfig, data: &Sequences<'_>) -> String {
    let same = TrainConfig {
        threads: 0,
        checkpoint: None,
        resume: false,
        ..config.clone()
    };
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    let mut sum = 0_u32;
    for index in 0..data.count {
        data.read(index, data.length(index), &mut values);
        bytes.clear();
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        sum = crc32(&bytes);
    }
    let all =
        |bytes: &mut dyn Iterator<Item = [u8; 4]>| crc32(&bytes.flatten().collect::<Vec<_>>());
    let labels = match data.labels {
        Labels::PerSequence(l) | Labels::PerStep(l) => all(&mut l.iter().map(|l| l.to_le_bytes())),
        Labels::Values(v) | Labels::ValuesPerStep(v) => all(&mut v.iter().map(|v| v.to_le_bytes())),
    };
    format!(
        "{same:?} on {} sequences {sum:08x} {labels:08x}",
        data.count
    )
}

/// Writes beside the old file and replaces it in one step: a crash leaves the old or the new one.
pub(super) fn write(path: &Path, made_of: &str, state: &State) -> Result<(), TrainError> {
    let fail = |what: String| TrainError::Checkpoint {
        path: path.to_path_buf(),
        what,
    };
    let stored = Stored {
        magic: MAGIC,
        made_of: made_of.to_owned(),
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

/// Reads a state that was written with the same recipe on the same data.
pub(super) fn read(path: &Path, made_of: &str, parameters: usize) -> Result<State, TrainError> {
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
    if stored.made_of != made_of {
        return Err(fail(
            "was made with another recipe or on other data; remove it or use the same".into(),
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
