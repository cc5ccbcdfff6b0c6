//! UCI HAR: windows of 128 steps × 9 channels at 50 Hz from a phone at the waist, 30 persons.
//!
//! A folder with, for `train` and `test`: `X_*_i16.npy` (windows × 128 × 9), `y_*.npy` (class 0–5)
//! and `subject_*.npy`. Counts: accelerations 8192 per g, angular rate 4096 per rad/s.
//! The official split is by person.

use std::path::Path;

use super::{Counts, DataError, Dataset, Labels, Part, Sequence, npy};

/// The file by which a folder is recognised.
pub const MARK: &str = "X_train_i16.npy";

const FEATURES: [&str; 9] = [
    "body_acc_x",
    "body_acc_y",
    "body_acc_z",
    "body_gyro_x",
    "body_gyro_y",
    "body_gyro_z",
    "total_acc_x",
    "total_acc_y",
    "total_acc_z",
];
const CLASSES: [&str; 6] = [
    "WALKING",
    "WALKING_UPSTAIRS",
    "WALKING_DOWNSTAIRS",
    "SITTING",
    "STANDING",
    "LAYING",
];

/// Reads the folder; one sequence per window.
///
/// Every window counts as a recording of its own: which windows overlap is not in these files, and
/// the split is by person.
pub fn read(folder: &Path) -> Result<Dataset, DataError> {
    let mut data = Dataset {
        name: "uci_har".into(),
        features: FEATURES.map(str::to_owned).to_vec(),
        counts_per_unit: (0..9)
            .map(|k| if k / 3 == 1 { 4096.0 } else { 8192.0 })
            .collect(),
        classes: CLASSES.map(str::to_owned).to_vec(),
        sample_rate_hz: 50.0,
        ..Dataset::default()
    };
    for (name, part) in [("train", Part::Train), ("test", Part::Test)] {
        let file = |kind: &str| folder.join(format!("{kind}_{name}.npy"));
        let x = folder.join(format!("X_{name}_i16.npy"));
        let mut x = npy::Reader::open::<i16>(&x, &[None, None, Some(FEATURES.len())])?;
        let windows = Some(x.rows());
        let y: Vec<u8> = npy::read_list(&file("y"), windows)?;
        let subject: Vec<u8> = npy::read_list(&file("subject"), windows)?;
        for (row, (&class, &subject)) in y.iter().zip(&subject).enumerate() {
            if usize::from(class) >= CLASSES.len() {
                let what = format!("entry {row} is class {class}, expected 0 to 5");
                return Err(DataError::file(&file("y"), what));
            }
            let who = subject.to_string();
            let subject = match data.subjects.iter().position(|s| *s == who) {
                Some(known) => known,
                None => {
                    data.subjects.push(who);
                    data.subjects.len() - 1
                }
            };
            data.sequences.push(Sequence {
                recording: data.sequences.len() as u32,
                subject: Some(subject as u32),
                counts: Counts::I16(x.read(1)?),
                labels: Labels::Sequence(u16::from(class)),
                part: Some(part),
            });
            data.recordings.push(format!("{name}-{row}"));
        }
    }
    Ok(data)
}

/// The two-class task of the FastGRNN paper: sitting, laying or upstairs against the rest.
pub fn two_classes(data: Dataset) -> Dataset {
    let mut two = data.with_classes(
        &["SIT_LAY_UP", "STAND_WALK_DOWN"],
        &[1, 0, 1, 0, 1, 0], // in the order of CLASSES
    );
    two.name = "uci_har2".into();
    two
}
