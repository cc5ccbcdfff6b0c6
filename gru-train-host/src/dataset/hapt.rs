//! HAPT: continuous recordings of a phone at the waist (6 channels, 50 Hz) with a label per sample.
//!
//! A folder with `signal_i16.npy` (samples × channels), `label.npy` (0 is unlabelled) and
//! `index.json` (names, scales, and where each recording lies).

use std::path::Path;

use super::{Counts, DataError, Dataset, Labels, Part, Sequence, UNLABELLED, npy};

/// The file by which a folder is recognised.
pub const MARK: &str = "signal_i16.npy";

#[derive(serde::Deserialize)]
struct Index {
    sampling_hz: f32,
    channels: Vec<String>,
    scale_counts_per_unit: Vec<f32>,
    classes: Vec<String>,
    recordings: Vec<Entry>,
}

#[derive(serde::Deserialize)]
struct Entry {
    experiment: u32,
    user: u32,
    split: String,
    start: usize,
    length: usize,
}

/// Reads the folder; one sequence per recording. Class 0 of the files becomes [`UNLABELLED`].
pub fn read(folder: &Path) -> Result<Dataset, DataError> {
    let path = folder.join("index.json");
    let index: Index = super::read_json(&path)?;
    let features = index.channels.len();
    if index.scale_counts_per_unit.len() != features || index.classes.len() < 2 {
        let what = format!(
            "{features} channels with {} scales and {} classes, expected one scale each and 2 classes or more",
            index.scale_counts_per_unit.len(),
            index.classes.len()
        );
        return Err(DataError::file(&path, what));
    }
    let mut signal = npy::Reader::open::<i16>(&folder.join(MARK), &[None, Some(features)])?;
    let labels: Vec<u8> = npy::read_list(&folder.join("label.npy"), Some(signal.rows()))?;
    let mut data = Dataset {
        name: "hapt".into(),
        features: index.channels,
        counts_per_unit: index.scale_counts_per_unit,
        classes: index.classes[1..].to_vec(),
        sample_rate_hz: index.sampling_hz,
        ..Dataset::default()
    };
    let mut next = 0;
    for entry in &index.recordings {
        let name = format!("exp{:02}_user{:02}", entry.experiment, entry.user);
        if entry.start != next || entry.length > labels.len() - next {
            let what = format!(
                "recording {name} takes {} samples from {}, expected it to begin at {next} and end by {}",
                entry.length,
                entry.start,
                labels.len()
            );
            return Err(DataError::file(&path, what));
        }
        let own = &labels[next..next + entry.length];
        next += entry.length;
        if let Some(bad) = own.iter().find(|&&l| usize::from(l) > data.classes.len()) {
            let what = format!("class {bad}, expected 0 to {}", data.classes.len());
            return Err(DataError::file(&folder.join("label.npy"), what));
        }
        let who = entry.user.to_string();
        let subject = match data.subjects.iter().position(|s| *s == who) {
            Some(known) => known,
            None => {
                data.subjects.push(who);
                data.subjects.len() - 1
            }
        };
        data.sequences.push(Sequence {
            recording: data.recordings.len() as u32,
            subject: Some(subject as u32),
            counts: Counts::I16(signal.read(entry.length)?),
            labels: Labels::Steps(
                own.iter()
                    .map(|&l| u16::from(l).checked_sub(1).unwrap_or(UNLABELLED))
                    .collect(),
            ),
            part: match &*entry.split {
                "train" => Some(Part::Train),
                "test" => Some(Part::Test),
                _ => None,
            },
        });
        data.recordings.push(name);
    }
    Ok(data)
}
