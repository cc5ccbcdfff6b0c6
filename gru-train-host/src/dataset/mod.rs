//! Recorded sensor data: sequences of raw counts with labels, and everything that reads them.
//!
//! A [`Dataset`] holds *sequences*: unbroken runs of time steps, each step one sample of every
//! feature as the raw integer **count** that firmware reads from the sensor. A count becomes a
//! physical value by `count / counts_per_unit[feature]`. Keeping counts (not floats) means that
//! training, the integer model on the host and the device all start from the same bits.
//!
//! A sequence belongs to a recording and, where known, to a subject; [`split`] separates by these
//! and never by window, because windows of one recording overlap and look alike.
//!
//! | source | reader |
//! |---|---|
//! | CSV, one row per time step (file, or folder of files) | [`csv`] |
//! | UCI HAR windows as `.npy` | [`har`] |
//! | continuous HAPT recordings | [`hapt`] |
//! | spoken digits as log-mel frames | [`fsdd`] |
//! | UEA/UCR `.ts` files | [`ts`] |
//!
//! [`open`] looks at the path and picks the reader.

pub mod csv;
pub mod fsdd;
pub mod hapt;
pub mod har;
pub mod npy;
pub mod split;
pub mod ts;

use std::path::{Path, PathBuf};

use crate::spec::Standardize;

/// Label of a step or a sequence that has none.
pub const UNLABELLED: u16 = u16::MAX;

/// Raw sensor counts of one sequence, step after step, features side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counts {
    /// What nearly every sensor gives.
    I16(Vec<i16>),
    /// For sensors with more than 16 bits.
    I32(Vec<i32>),
    /// Where values are missing: to run a model on, not to train it.
    Gaps(Vec<Option<i32>>),
}

impl Counts {
    /// Number of counts (steps × features).
    pub fn len(&self) -> usize {
        match self {
            Self::I16(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::Gaps(v) => v.len(),
        }
    }

    /// Whether there is no count at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The count at `index` (= step · features + feature), if there is one.
    pub fn get(&self, index: usize) -> Option<i32> {
        match self {
            Self::I16(v) => v.get(index).map(|&c| i32::from(c)),
            Self::I32(v) => v.get(index).copied(),
            Self::Gaps(v) => v.get(index).copied().flatten(),
        }
    }

    /// The narrowest storage that holds all of `counts`.
    pub fn from_i32(counts: Vec<i32>) -> Self {
        if counts.iter().all(|&c| i16::try_from(c).is_ok()) {
            Self::I16(counts.into_iter().map(|c| c as i16).collect())
        } else {
            Self::I32(counts)
        }
    }

    fn for_each(&self, from: usize, to: usize, mut f: impl FnMut(usize, Option<i32>)) {
        match self {
            Self::I16(v) => {
                (v[from..to].iter().enumerate()).for_each(|(k, &c)| f(k, Some(i32::from(c))));
            }
            Self::I32(v) => (v[from..to].iter().enumerate()).for_each(|(k, &c)| f(k, Some(c))),
            Self::Gaps(v) => (v[from..to].iter().enumerate()).for_each(|(k, &c)| f(k, c)),
        }
    }
}

/// What is known about the class of a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// Nothing.
    None,
    /// One class for the whole sequence.
    Sequence(u16),
    /// One class per step; [`UNLABELLED`] where there is none.
    Steps(Vec<u16>),
}

/// Which part of an official split a sequence belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// For training, and for choosing a recipe by holding out some of its people.
    Train,
    /// For the final figure only.
    Test,
    /// Neither: e.g. a speaker kept apart in order to see how far a model carries.
    Extra,
}

/// An unbroken run of time steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Index into [`Dataset::recordings`].
    pub recording: u32,
    /// Index into [`Dataset::subjects`].
    pub subject: Option<u32>,
    /// Steps × features raw counts.
    pub counts: Counts,
    /// Classes.
    pub labels: Labels,
    /// Official split, where the source has one.
    pub part: Option<Part>,
}

/// Recorded sensor data with the names and scales that a device needs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dataset {
    /// Short name, for tables and the artifact.
    pub name: String,
    /// One name per feature.
    pub features: Vec<String>,
    /// Counts per physical unit, one per feature; 1 where the source gives counts.
    pub counts_per_unit: Vec<f32>,
    /// Class names; a label is an index into this list.
    pub classes: Vec<String>,
    /// Steps per second; 0 where the source does not say.
    pub sample_rate_hz: f32,
    /// Names of the recordings.
    pub recordings: Vec<String>,
    /// Names of the subjects (persons, machines, speakers); empty where unknown.
    pub subjects: Vec<String>,
    /// The data.
    pub sequences: Vec<Sequence>,
}

/// A piece of one sequence that the trainer or the tester looks at as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Index into [`Dataset::sequences`].
    pub sequence: usize,
    /// First step.
    pub start: usize,
    /// Number of steps.
    pub steps: usize,
    /// Class of the window, [`UNLABELLED`] if it has none.
    pub label: u16,
}

/// Which class a window gets when the labels are per step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WindowLabel {
    /// The class of the last step: what is going on *now*.
    #[default]
    Last,
    /// The class of most steps (the lowest one among equals).
    Majority,
    /// Only windows with one class throughout are used.
    Pure,
}

impl Dataset {
    /// Number of features `I`.
    pub fn input(&self) -> usize {
        self.features.len()
    }

    /// Number of time steps of a sequence; 0 if there is no such sequence.
    pub fn steps(&self, sequence: usize) -> usize {
        let counts = self.sequences.get(sequence).map_or(0, |s| s.counts.len());
        counts / self.input().max(1)
    }

    /// Number of time steps of all sequences.
    pub fn total_steps(&self) -> usize {
        (0..self.sequences.len()).map(|s| self.steps(s)).sum()
    }

    /// Number of values that are missing.
    pub fn missing_values(&self) -> usize {
        (self.sequences.iter())
            .map(|s| match &s.counts {
                Counts::I16(_) | Counts::I32(_) => 0,
                Counts::Gaps(v) => v.iter().filter(|c| c.is_none()).count(),
            })
            .sum()
    }

    /// Whether any sequence carries one label per step.
    pub fn has_step_labels(&self) -> bool {
        (self.sequences.iter()).any(|s| matches!(s.labels, Labels::Steps(_)))
    }

    /// Whether the source says which sequences are for training and which for testing.
    pub fn has_official_split(&self) -> bool {
        self.sequences.iter().any(|s| s.part == Some(Part::Test))
            && self.sequences.iter().any(|s| s.part == Some(Part::Train))
    }

    /// Indices of the sequences in one part of the official split.
    pub fn part(&self, part: Part) -> Vec<usize> {
        (0..self.sequences.len())
            .filter(|&s| self.sequences[s].part == Some(part))
            .collect()
    }

    /// The label of one step, [`UNLABELLED`] if it has none.
    pub fn label(&self, sequence: usize, step: usize) -> u16 {
        match self.sequences.get(sequence).map(|s| &s.labels) {
            Some(Labels::Sequence(class)) => *class,
            Some(Labels::Steps(all)) => all.get(step).copied().unwrap_or(UNLABELLED),
            Some(Labels::None) | None => UNLABELLED,
        }
    }

    /// Every listed sequence as one window: for data that is cut already, of any length.
    /// Its label is the sequence's, or by `rule` from the labels of its steps.
    pub fn whole(&self, sequences: &[usize], rule: WindowLabel) -> Vec<Window> {
        (sequences.iter())
            .filter_map(|&sequence| self.window(sequence, 0, self.steps(sequence), rule))
            .collect()
    }

    /// Windows of `steps` steps every `hop` steps inside each listed sequence, as by firmware that
    /// decides every `hop` steps; windows without a label are left out, a rest too short as well.
    pub fn windows(
        &self,
        sequences: &[usize],
        steps: usize,
        hop: usize,
        rule: WindowLabel,
    ) -> Vec<Window> {
        let mut out = Vec::new();
        for &sequence in sequences {
            let have = self.steps(sequence);
            if steps == 0 || have < steps {
                continue;
            }
            out.extend(
                (0..=have - steps)
                    .step_by(hop.max(1))
                    .filter_map(|start| self.window(sequence, start, steps, rule))
                    .filter(|w| w.label != UNLABELLED),
            );
        }
        out
    }

    fn window(
        &self,
        sequence: usize,
        start: usize,
        steps: usize,
        rule: WindowLabel,
    ) -> Option<Window> {
        let label = match &self.sequences.get(sequence)?.labels {
            Labels::None => UNLABELLED,
            Labels::Sequence(class) => *class,
            Labels::Steps(all) => {
                let mine = all.get(start..start + steps)?;
                match rule {
                    WindowLabel::Last => mine.last().copied().unwrap_or(UNLABELLED),
                    WindowLabel::Pure => match mine.first() {
                        Some(&first) if mine.iter().all(|&l| l == first) => first,
                        _ => UNLABELLED,
                    },
                    WindowLabel::Majority => {
                        let mut votes = vec![0usize; self.classes.len()];
                        for vote in mine.iter().map(|&l| usize::from(l)) {
                            if let Some(count) = votes.get_mut(vote) {
                                *count += 1;
                            }
                        }
                        let most = votes.iter().max().copied().unwrap_or(0);
                        match votes.iter().position(|&v| v == most && v > 0) {
                            Some(class) => class as u16,
                            None => UNLABELLED,
                        }
                    }
                }
            }
        };
        Some(Window {
            sequence,
            start,
            steps,
            label,
        })
    }

    /// Mean and standard deviation of each feature over the given sequences (training data only!),
    /// in physical units. Sums are integers, so the result has the same bits everywhere. A feature
    /// that never changes gets the deviation of one count; a missing value counts as 0.
    pub fn standardisation(&self, sequences: &[usize]) -> Standardize {
        let features = self.input();
        let mut sum = vec![0i128; features];
        let mut square = vec![0i128; features];
        let mut steps = 0i128;
        for &sequence in sequences {
            let Some(s) = self.sequences.get(sequence) else {
                continue;
            };
            let whole = self.steps(sequence) * features;
            steps += self.steps(sequence) as i128;
            s.counts.for_each(0, whole, |k, c| {
                let c = c.unwrap_or(0);
                sum[k % features] += i128::from(c);
                square[k % features] += i128::from(i64::from(c) * i64::from(c));
            });
        }
        let n = steps.max(1);
        let (mut mean, mut std) = (Vec::new(), Vec::new());
        for ((sum, square), unit) in sum.iter().zip(&square).zip(&self.counts_per_unit) {
            let unit = f64::from(*unit);
            // n²·variance as an integer: no cancellation.
            let spread = (n * square - sum * sum).max(0) as f64;
            let deviation = spread.sqrt() / n as f64;
            let deviation = if deviation > 0.0 { deviation } else { 1.0 };
            mean.push((*sum as f64 / n as f64 / unit) as f32);
            std.push((deviation / unit) as f32);
        }
        Standardize { mean, std }
    }

    /// Writes the raw counts of a window (steps × features) to `out`, which is emptied first; 0 for a missing value,
    /// see [`samples_into`](Self::samples_into).
    pub fn counts_into(&self, window: &Window, out: &mut Vec<i32>) {
        out.clear();
        self.each_count(window, |_, c| out.push(c.unwrap_or(0)));
    }

    /// Writes the raw counts of a window to `out`, which is emptied first, as a model takes them: `None` is missing.
    pub fn samples_into(&self, window: &Window, out: &mut Vec<Option<i32>>) {
        out.clear();
        self.each_count(window, |_, c| out.push(c));
    }

    fn each_count(&self, window: &Window, f: impl FnMut(usize, Option<i32>)) {
        let features = self.input();
        let (from, to) = (
            window.start * features,
            (window.start + window.steps) * features,
        );
        (self.sequences[window.sequence].counts).for_each(from, to, f);
    }

    /// Writes a window as the model sees it, `(count / counts_per_unit − mean) / std`, to `out`
    /// (steps × features, row-major); a missing value is 0.
    ///
    /// # Panics
    /// If `out` is not `window.steps × features` long or the window is not inside its sequence.
    pub fn standardised_into(&self, window: &Window, by: &Standardize, out: &mut [f32]) {
        let features = self.input();
        assert_eq!(out.len(), window.steps * features, "length of the buffer");
        let scale: Vec<(f32, f32)> = (0..features)
            .map(|k| {
                let std = by.std.get(k).copied().unwrap_or(1.0);
                let mean = by.mean.get(k).copied().unwrap_or(0.0);
                (1.0 / (self.counts_per_unit[k] * std), mean / std)
            })
            .collect();
        let mut feature = 0;
        self.each_count(window, |k, c| {
            let (a, b) = scale[feature];
            out[k] = c.map_or(0.0, |c| c as f32 * a - b);
            feature += 1;
            if feature == features {
                feature = 0;
            }
        });
    }

    /// Writes the label of each step of a window to `out`, which is emptied first.
    pub fn step_labels_into(&self, window: &Window, out: &mut Vec<u16>) {
        out.clear();
        out.extend(
            (window.start..window.start + window.steps).map(|t| self.label(window.sequence, t)),
        );
    }

    /// Keeps only the features with these names, in this order.
    ///
    /// # Errors
    /// The first name that the data do not have.
    pub fn with_features(mut self, names: &[String]) -> Result<Self, String> {
        let width = self.input();
        let chosen = (names.iter())
            .map(|name| {
                let found = self.features.iter().position(|f| f == name);
                found.ok_or_else(|| {
                    format!(
                        "no feature {name:?}, expected one of {}",
                        self.features.join(", ")
                    )
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        fn kept<T: Copy>(counts: &[T], width: usize, chosen: &[usize]) -> Vec<T> {
            let rows = counts.chunks_exact(width);
            rows.flat_map(|row| chosen.iter().map(|k| row[*k]))
                .collect()
        }
        for sequence in &mut self.sequences {
            match &mut sequence.counts {
                Counts::I16(c) => *c = kept(c, width, &chosen),
                Counts::I32(c) => *c = kept(c, width, &chosen),
                Counts::Gaps(c) => *c = kept(c, width, &chosen),
            }
        }
        self.features = names.to_vec();
        self.counts_per_unit = kept(&self.counts_per_unit, width, &chosen);
        Ok(self)
    }

    /// The same data with other classes: `to[old]` is the index of the new class in `classes`.
    /// For merged tasks such as the two-class HAR of the FastGRNN paper.
    pub fn with_classes(mut self, classes: &[&str], to: &[u16]) -> Self {
        let new = |old: u16| to.get(usize::from(old)).copied().unwrap_or(UNLABELLED);
        for s in &mut self.sequences {
            match &mut s.labels {
                Labels::None => {}
                Labels::Sequence(class) => *class = new(*class),
                Labels::Steps(all) => all.iter_mut().for_each(|class| *class = new(*class)),
            }
        }
        self.classes = classes.iter().map(|&c| c.to_owned()).collect();
        self
    }
}

/// Why data was refused: one line with file, row and column, what was found and what expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataError {
    /// The file or folder.
    pub file: PathBuf,
    /// Row of a text file as an editor counts it: the first line is row 1.
    pub row: Option<u64>,
    /// Name of the column.
    pub column: Option<String>,
    /// What was found and what was expected.
    pub what: String,
}

impl DataError {
    /// An error about a whole file.
    pub fn file(file: &Path, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            row: None,
            column: None,
            what: what.into(),
        }
    }

    /// An error about a row.
    pub fn row(file: &Path, row: u64, what: impl Into<String>) -> Self {
        Self {
            row: Some(row),
            ..Self::file(file, what)
        }
    }

    /// An error about one cell.
    pub fn cell(file: &Path, row: u64, column: &str, what: impl Into<String>) -> Self {
        Self {
            column: Some(column.to_owned()),
            ..Self::row(file, row, what)
        }
    }

    /// A refusal by the operating system.
    pub fn io(file: &Path, error: &std::io::Error) -> Self {
        Self::file(file, error.to_string())
    }
}

impl std::fmt::Display for DataError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some(row) = self.row {
            write!(f, "row {row}: ")?;
        }
        if let Some(column) = &self.column {
            write!(f, "column \"{column}\": ")?;
        }
        // One line, whatever a file put into a cell.
        f.write_str(&self.what.replace(['\n', '\r'], " "))
    }
}

impl std::error::Error for DataError {}

/// A cell of a file as shown in an error: quoted, short, on one line.
fn shown(cell: &str) -> String {
    let mut text: String = cell.chars().take(32).flat_map(char::escape_debug).collect();
    if cell.chars().nth(32).is_some() {
        text.push('…');
    }
    format!("\"{text}\"")
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, DataError> {
    let text = std::fs::read(path).map_err(|e| DataError::io(path, &e))?;
    serde_json::from_slice(&text).map_err(|e| DataError::file(path, e.to_string()))
}

/// Reads the data at `path`, whatever it is; `options` are for CSV.
///
/// A folder is recognised by the files inside it: `X_train_i16.npy` (HAR), `features_i16.npy`
/// (log-mel frames), `signal_i16.npy` (continuous recordings), `*_TRAIN.ts`, or else `*.csv`.
pub fn open(path: &Path, options: &csv::Options) -> Result<Dataset, DataError> {
    let meta = std::fs::metadata(path).map_err(|e| DataError::io(path, &e))?;
    if !meta.is_dir() {
        return match path.extension().and_then(|e| e.to_str()) {
            Some("ts") => ts::read_file(path),
            Some("npy") => Err(DataError::file(
                path,
                "a single .npy file has no labels, expected its folder",
            )),
            _ => csv::read(path, options),
        };
    }
    if path.join(har::MARK).exists() {
        return har::read(path);
    }
    if path.join(fsdd::MARK).exists() {
        return fsdd::read(path);
    }
    if path.join(hapt::MARK).exists() {
        return hapt::read(path);
    }
    let mut csvs = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| DataError::io(path, &e))? {
        let file = entry.map_err(|e| DataError::io(path, &e))?.path();
        match file.extension().and_then(|e| e.to_str()) {
            Some("ts") => return ts::read_folder(path),
            Some("csv") => csvs.push(file),
            _ => {}
        }
    }
    if csvs.is_empty() {
        return Err(DataError::file(
            path,
            format!(
                "no data found, expected {}, {}, {}, *_TRAIN.ts or *.csv",
                har::MARK,
                fsdd::MARK,
                hapt::MARK
            ),
        ));
    }
    csvs.sort();
    csv::read_files(&csvs, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toy() -> Dataset {
        let sequence = |counts: Vec<i16>, labels| Sequence {
            recording: 0,
            subject: Some(0),
            counts: Counts::I16(counts),
            labels,
            part: None,
        };
        Dataset {
            name: "toy".into(),
            features: vec!["a".into(), "b".into()],
            counts_per_unit: vec![10.0, 1.0],
            classes: vec!["x".into(), "y".into()],
            sample_rate_hz: 50.0,
            recordings: vec!["r".into()],
            subjects: vec!["s".into()],
            sequences: vec![
                sequence(
                    vec![10, 7, 20, 7, 30, 7, 40, 7],
                    Labels::Steps(vec![0, 0, 1, UNLABELLED]),
                ),
                sequence(vec![0, 7], Labels::Sequence(1)),
            ],
        }
    }

    #[test]
    fn standardisation_is_in_physical_units_and_survives_a_constant_feature() {
        let data = toy();
        let by = data.standardisation(&[0]);
        assert_eq!(by.mean, [2.5, 7.0]);
        assert_eq!(by.std, [1.25f32.sqrt(), 1.0]);
        let window = data.windows(&[0], 2, 1, WindowLabel::Last)[0];
        let mut out = [0.0; 4];
        data.standardised_into(&window, &by, &mut out);
        assert!((out[0] + 1.5 / 1.25f32.sqrt()).abs() < 1e-6, "{out:?}");
        assert_eq!((out[1], out[3]), (0.0, 0.0));
    }

    #[test]
    fn window_rules() {
        let data = toy();
        let labels = |rule| -> Vec<_> {
            (data.windows(&[0], 2, 1, rule).iter())
                .map(|w| (w.start, w.label))
                .collect()
        };
        assert_eq!(labels(WindowLabel::Last), [(0, 0), (1, 1)]);
        assert_eq!(labels(WindowLabel::Majority), [(0, 0), (1, 0), (2, 1)]);
        assert_eq!(labels(WindowLabel::Pure), [(0, 0)]);
        assert_eq!(data.whole(&[1], WindowLabel::Last)[0].label, 1);
        assert!(data.windows(&[1], 2, 1, WindowLabel::Last).is_empty());
    }

    #[test]
    fn wide_counts_keep_their_bits() {
        assert_eq!(Counts::from_i32(vec![-32768]), Counts::I16(vec![-32768]));
        assert_eq!(Counts::from_i32(vec![32768]), Counts::I32(vec![32768]));
    }
}
