//! Spoken digits as log-mel frames (13 features, 50 frames a second), one sequence per utterance.
//!
//! A folder with `features_i16.npy` (all frames; 256 counts per unit), `offsets.npy`, `label.npy`,
//! `speaker.npy`, `split.npy` (0 train, 1 test, 2 a speaker that training never hears) and
//! `meta.json` with the names of the speakers.

use std::path::Path;

use super::{Counts, DataError, Dataset, Labels, Part, Sequence, npy};

/// The file by which a folder is recognised.
pub const MARK: &str = "features_i16.npy";

#[derive(serde::Deserialize)]
struct Meta {
    speakers: Vec<String>,
}

/// Reads the folder.
pub fn read(folder: &Path) -> Result<Dataset, DataError> {
    let file = |name: &str| folder.join(name);
    let meta: Meta = super::read_json(&file("meta.json"))?;
    let mut frames = npy::Reader::open::<i16>(&file(MARK), &[None, None])?;
    let features = frames.shape()[1];
    let offsets: Vec<i32> = npy::read_list(&file("offsets.npy"), None)?;
    let cases = offsets.len().saturating_sub(1);
    let list = |name: &str| npy::read_list::<u8>(&file(name), Some(cases));
    let (label, speaker, split) = (list("label.npy")?, list("speaker.npy")?, list("split.npy")?);
    let ends = (offsets.first().copied(), offsets.last().copied());
    if ends != (Some(0), i32::try_from(frames.rows()).ok()) {
        let what = format!("runs from {ends:?}, expected 0 to {}", frames.rows());
        return Err(DataError::file(&file("offsets.npy"), what));
    }
    let mut data = Dataset {
        name: "fsdd".into(),
        features: (1..=features).map(|k| format!("mel_{k}")).collect(),
        counts_per_unit: vec![256.0; features],
        classes: (0..10).map(|digit| digit.to_string()).collect(),
        sample_rate_hz: 50.0,
        recordings: (0..cases).map(|n| format!("utterance-{n}")).collect(),
        subjects: meta.speakers,
        ..Dataset::default()
    };
    for n in 0..cases {
        let bad = |name: &str, what: String| Err(DataError::file(&file(name), what));
        let steps = match usize::try_from(i64::from(offsets[n + 1]) - i64::from(offsets[n])) {
            Ok(steps) if steps > 0 => steps,
            _ => return bad("offsets.npy", format!("entry {} does not grow", n + 1)),
        };
        if label[n] > 9 {
            let what = format!("entry {n} is {}, expected 0 to 9", label[n]);
            return bad("label.npy", what);
        }
        if usize::from(speaker[n]) >= data.subjects.len() {
            let what = format!("entry {n} is {}, not in meta.json", speaker[n]);
            return bad("speaker.npy", what);
        }
        data.sequences.push(Sequence {
            recording: n as u32,
            subject: Some(u32::from(speaker[n])),
            counts: Counts::I16(frames.read(steps)?),
            labels: Labels::Sequence(u16::from(label[n])),
            part: Some(match split[n] {
                0 => Part::Train,
                1 => Part::Test,
                2 => Part::Extra,
                other => {
                    return bad(
                        "split.npy",
                        format!("entry {n} is {other}, expected 0 to 2"),
                    );
                }
            }),
        });
    }
    Ok(data)
}
