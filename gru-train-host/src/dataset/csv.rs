//! CSV recordings: one row per time step, one column per feature.
//!
//! Columns are told apart by their names (any case), or by [`Options`]:
//!
//! | column | names | meaning |
//! |---|---|---|
//! | label | `label`, `class`, `activity` | class of this step; empty, `?` or `unlabelled` is none |
//! | subject | `subject`, `user`, `person`, `participant` | who; splits keep a subject together |
//! | recording | `recording`, `session`, `experiment` | which recording; else the file is one |
//! | window | `window`, `segment` | data is cut already: one sequence per window, all of one length |
//! | step | `step`, `index` | counts up by one inside a sequence |
//! | time | `time`, `time_s`, `t`, `time_ms`, `time_us` | grows inside a sequence; gives the sample rate |
//! | ignored | `timestamp`, `date`, `datetime` | |
//! | feature | every other one | a finite number in each row |
//!
//! The separator is a comma, semicolon or tab, whichever the first row has most of.
//!
//! **Counts.** A feature whose values are all whole numbers is taken as raw sensor counts
//! (`counts_per_unit` 1). Otherwise its values are physical and are turned into counts by the
//! largest power of two that keeps the largest value of the file at or below 16383: 14 bits and a
//! sign, with as much room again for a livelier person. Data for a model that exists is read with
//! that model's scales ([`Options::counts_per_unit`]).
//!
//! **Missing values** (an empty cell, NaN, an infinity) are refused, but where a model that exists is run
//! ([`Options::missing`]): it takes them as its artifact says.
//!
//! A time column that jumps by more than four usual steps begins a new sequence.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::{Counts, DataError, Dataset, Labels, Sequence, UNLABELLED, shown};

/// How to read a CSV file; the default finds everything by the names of the columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Exactly these columns as features, in this order; empty: every column without another role.
    pub features: Vec<String>,
    /// Counts per unit of each feature; empty: chosen from the data.
    pub counts_per_unit: Vec<f32>,
    /// Exactly these classes, in this order; empty: the labels of the data in sorted order.
    pub classes: Vec<String>,
    /// Name of the label column.
    pub label: Option<String>,
    /// Name of the subject column.
    pub subject: Option<String>,
    /// Name of the recording column.
    pub recording: Option<String>,
    /// Name of the window column.
    pub window: Option<String>,
    /// Whether data without a label column is refused.
    pub need_labels: bool,
    /// Whether windows may differ in length.
    pub ragged: bool,
    /// Whether a feature may lack a value in a row: see [`Counts::Gaps`].
    pub missing: bool,
    /// Steps per second, where no time column says it.
    pub sample_rate_hz: Option<f32>,
}

const LABEL: &[&str] = &["label", "class", "activity"];
const SUBJECT: &[&str] = &["subject", "user", "person", "participant"];
const RECORDING: &[&str] = &["recording", "session", "experiment"];
const WINDOW: &[&str] = &["window", "segment"];
const STEP: &[&str] = &["step", "index"];
const TIME: &[&str] = &["time", "time_s", "t", "time_ms", "time_us"];
const IGNORED: &[&str] = &["timestamp", "date", "datetime"];
/// A new sequence begins where time jumps by more than this many usual steps.
const GAP_STEPS: f64 = 4.0;
/// Largest count that a file with physical values is scaled to.
const FULL: f64 = 16_383.0;

/// Reads one file.
pub fn read(path: &Path, options: &Options) -> Result<Dataset, DataError> {
    read_files(&[path.to_owned()], options)
}

/// Reads several files as one data set; each is at least one recording.
pub fn read_files(paths: &[PathBuf], options: &Options) -> Result<Dataset, DataError> {
    let mut reading = Reading::default();
    for path in paths {
        read_one(path, paths.len() > 1, options, &mut reading)?;
    }
    finish(paths, options, reading)
}

/// Positions of the columns of one file.
struct Columns {
    names: Vec<String>,
    features: Vec<usize>,
    label: Option<usize>,
    subject: Option<usize>,
    recording: Option<usize>,
    window: Option<usize>,
    step: Option<usize>,
    time: Option<usize>,
}

/// Rows of one sequence: `first..` of the arrays in [`Reading`].
struct Run {
    first: usize,
    row: u64,
    recording: u32,
    subject: Option<u32>,
    window: Option<String>,
}

#[derive(Default)]
struct Reading {
    features: Vec<String>,
    /// Steps × features.
    values: Vec<f64>,
    labels: Vec<u16>,
    label_names: Vec<String>,
    times: Vec<f64>,
    /// Factor from the time column to seconds.
    seconds: f64,
    runs: Vec<Run>,
    recordings: Vec<String>,
    subjects: Vec<String>,
    has_labels: bool,
}

/// Index of `name` in `list`, added at the end if it is new.
fn intern(list: &mut Vec<String>, name: &str) -> usize {
    // Neighbouring rows nearly always carry the same name: look from the end.
    match list.iter().rposition(|n| n == name) {
        Some(known) => known,
        None => {
            list.push(name.to_owned());
            list.len() - 1
        }
    }
}

fn columns(path: &Path, names: Vec<String>, options: &Options) -> Result<Columns, DataError> {
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() {
            let what = format!("column {} has no name, expected a header row", at + 1);
            return Err(DataError::row(path, 1, what));
        }
        if names[..at].contains(name) {
            let what = "this name appears twice in the header, expected it once";
            return Err(DataError::cell(path, 1, name, what));
        }
    }
    let missing = |name: &str, what: &str| {
        let what = format!("missing{what}; found {}", names.join(", "));
        DataError::cell(path, 1, name, what)
    };
    let role = |given: &Option<String>, known: &[&str], what: &str| match given {
        Some(name) => match names.iter().position(|n| n == name) {
            Some(at) => Ok(Some(at)),
            None => Err(missing(name, what)),
        },
        None => Ok((names.iter()).position(|n| {
            known.iter().any(|k| k.eq_ignore_ascii_case(n)) && !options.features.contains(n)
        })),
    };
    let label = role(&options.label, LABEL, ", asked for as label")?;
    let subject = role(&options.subject, SUBJECT, ", asked for as subject")?;
    let recording = role(&options.recording, RECORDING, ", asked for as recording")?;
    let window = role(&options.window, WINDOW, ", asked for as window")?;
    let step = role(&None, STEP, "")?;
    let time = role(&None, TIME, "")?;
    if options.need_labels && label.is_none() {
        return Err(missing(
            LABEL[0],
            ", expected a column label, class or activity",
        ));
    }
    let taken = [label, subject, recording, window, step, time];
    let mut wanted = options.features.iter().enumerate();
    if let Some((_, twice)) = wanted.find(|(at, f)| options.features[..*at].contains(f)) {
        let what = "asked for twice as a feature, expected each once";
        return Err(DataError::cell(path, 1, twice, what));
    }
    let features = if options.features.is_empty() {
        (0..names.len())
            .filter(|&at| !taken.contains(&Some(at)))
            .filter(|&at| !IGNORED.iter().any(|k| k.eq_ignore_ascii_case(&names[at])))
            .collect()
    } else {
        (options.features.iter())
            .map(|f| (names.iter().position(|n| n == f)).ok_or_else(|| missing(f, ", a feature")))
            .collect::<Result<Vec<_>, _>>()?
    };
    if features.is_empty() {
        let what = format!(
            "no feature column, expected at least one; found {}",
            names.join(", ")
        );
        return Err(DataError::row(path, 1, what));
    }
    Ok(Columns {
        names,
        features,
        label,
        subject,
        recording,
        window,
        step,
        time,
    })
}

fn read_one(
    path: &Path,
    many: bool,
    options: &Options,
    reading: &mut Reading,
) -> Result<(), DataError> {
    let file = File::open(path).map_err(|e| DataError::io(path, &e))?;
    let mut input = BufReader::with_capacity(1 << 16, file);
    let start = input.fill_buf().map_err(|e| DataError::io(path, &e))?;
    let line = start.split(|&b| b == b'\n').next().unwrap_or(start);
    let count = |d: u8| line.iter().filter(|&&b| b == d).count();
    let separator = (*b",;\t")
        .into_iter()
        .rev()
        .max_by_key(|&d| count(d))
        .unwrap_or(b',');
    let bom: &[u8] = b"\xef\xbb\xbf";
    if start.starts_with(bom) {
        input.consume(bom.len());
    }
    let mut rows = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(separator)
        .from_reader(input);
    let mut record = ::csv::StringRecord::new();
    let mut next = |record: &mut ::csv::StringRecord| match rows.read_record(record) {
        Ok(more) => Ok(more.then(|| record.position().map_or(0, |p| p.line()))),
        Err(e) => Err(match e.kind() {
            ::csv::ErrorKind::Utf8 { pos, .. } => DataError {
                row: pos.as_ref().map(|p| p.line()),
                ..DataError::file(path, "bytes that are not UTF-8, expected text")
            },
            ::csv::ErrorKind::Io(e) => DataError::io(path, e),
            other => DataError::file(path, format!("{other:?}")),
        }),
    };
    if next(&mut record)?.is_none() {
        return Err(DataError::file(path, "empty, expected a header row"));
    }
    let names: Vec<String> = record.iter().map(|n| n.trim().to_owned()).collect();
    if names.iter().all(|n| n.parse::<f64>().is_ok()) {
        let what = format!(
            "{} is a number, expected the names of the columns",
            shown(&names[0])
        );
        return Err(DataError::row(path, 1, what));
    }
    let columns = columns(path, names, options)?;
    let features: Vec<String> = (columns.features.iter())
        .map(|&at| columns.names[at].clone())
        .collect();
    if reading.runs.is_empty() {
        reading.features = features;
    } else if reading.features != features {
        let what = format!(
            "features {}, expected {} as in the first file",
            features.join(", "),
            reading.features.join(", ")
        );
        return Err(DataError::row(path, 1, what));
    }
    reading.has_labels |= columns.label.is_some();
    let stem = path
        .file_stem()
        .map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    // The text of (recording, subject, window) of the row before, and all that were seen.
    let mut key: Option<[String; 3]> = None;
    let mut seen: HashSet<[String; 3]> = HashSet::new();
    let mut last_step: Option<f64> = None;
    let mut last_time: Option<f64> = None;
    let mut any = false;
    while let Some(row) = next(&mut record)? {
        if record.len() != columns.names.len() {
            let what = format!("{} cells, expected {}", record.len(), columns.names.len());
            return Err(DataError::row(path, row, what));
        }
        any = true;
        let text = |at: usize| record.get(at).unwrap_or("").trim();
        let number = |at: usize| -> Result<f64, DataError> {
            let bad = |what| DataError::cell(path, row, &columns.names[at], what);
            let cell = text(at);
            let value: f64 = match cell.parse() {
                Ok(value) => value,
                Err(_) if cell.is_empty() => return Err(bad("empty, expected a number".into())),
                Err(_) => return Err(bad(format!("found {}, expected a number", shown(cell)))),
            };
            if !value.is_finite() {
                return Err(bad(format!(
                    "found {}, expected a finite number",
                    shown(cell)
                )));
            }
            if value.abs() > 1e15 {
                return Err(bad(format!(
                    "found {}, expected a number between -1e15 and 1e15",
                    shown(cell)
                )));
            }
            Ok(value)
        };
        let name = |at: Option<usize>| at.map_or("", text);
        let now = [
            name(columns.recording),
            name(columns.subject),
            name(columns.window),
        ];
        let same = (key.as_ref()).is_some_and(|k| k.iter().zip(now).all(|(a, b)| a == b));
        if !same {
            let owned = now.map(str::to_owned);
            if !seen.insert(owned.clone()) {
                let at = [columns.window, columns.recording, columns.subject];
                let at = at.into_iter().flatten().next().unwrap_or(0);
                let what = format!(
                    "{} begins again after other rows, expected its rows together",
                    shown(text(at))
                );
                return Err(DataError::cell(path, row, &columns.names[at], what));
            }
            let recording = match (many, now[0]) {
                (_, "") => stem.clone(),
                (false, name) => name.to_owned(),
                (true, name) => format!("{stem}/{name}"),
            };
            let subject = (columns.subject).map(|_| intern(&mut reading.subjects, now[1]) as u32);
            reading.runs.push(Run {
                first: reading.labels.len(),
                row,
                recording: intern(&mut reading.recordings, &recording) as u32,
                subject,
                window: columns.window.map(|_| now[2].to_owned()),
            });
            key = Some(owned);
            (last_step, last_time) = (None, None);
        }
        for &at in &columns.features {
            let missing = || {
                let cell = text(at);
                cell.is_empty() || cell.parse().is_ok_and(|v: f64| !v.is_finite())
            };
            reading.values.push(match options.missing && missing() {
                true => f64::NAN,
                false => number(at)?,
            });
        }
        if let Some(at) = columns.step {
            let step = number(at)?;
            if let Some(before) = last_step
                && step != before + 1.0
            {
                let what = format!("step {step} after {before}, expected {}", before + 1.0);
                return Err(DataError::cell(path, row, &columns.names[at], what));
            }
            last_step = Some(step);
        }
        if let Some(at) = columns.time {
            let time = number(at)?;
            if let Some(before) = last_time
                && time <= before
            {
                let what = format!("{time} after {before}, expected a later time");
                return Err(DataError::cell(path, row, &columns.names[at], what));
            }
            last_time = Some(time);
            reading.seconds = match &*columns.names[at].to_ascii_lowercase() {
                "time_ms" => 1e-3,
                "time_us" => 1e-6,
                _ => 1.0,
            };
            reading.times.push(time * reading.seconds);
        } else {
            reading.times.push(f64::NAN);
        }
        let label = match name(columns.label) {
            "" | "?" | "unlabelled" | "unlabeled" => UNLABELLED,
            class => {
                let at = intern(&mut reading.label_names, class);
                if at >= 1000 {
                    let what = "more than 1000 different labels, expected class names";
                    let column = columns.label.map_or("label", |at| &columns.names[at]);
                    return Err(DataError::cell(path, row, column, what));
                }
                if !options.classes.is_empty() && !options.classes.iter().any(|c| c == class) {
                    let what = format!(
                        "found {}, expected one of {}",
                        shown(class),
                        options.classes.join(", ")
                    );
                    let column = columns.label.map_or("label", |at| &columns.names[at]);
                    return Err(DataError::cell(path, row, column, what));
                }
                at as u16
            }
        };
        reading.labels.push(label);
    }
    if !any {
        return Err(DataError::file(
            path,
            "a header without rows, expected data",
        ));
    }
    // Windows are compared inside their file, so that the row can be named.
    if columns.window.is_some() && !options.ragged {
        let runs = &reading.runs;
        let ends = (runs.iter().skip(1).map(|r| r.first)).chain([reading.labels.len()]);
        let steps: Vec<usize> = runs
            .iter()
            .zip(ends)
            .map(|(r, end)| end - r.first)
            .collect();
        for (run, have) in runs.iter().zip(&steps) {
            if *have != steps[0] {
                let what = format!(
                    "window {} has {have} steps, expected {} as in the first one",
                    shown(run.window.as_deref().unwrap_or("")),
                    steps[0]
                );
                return Err(DataError::row(path, run.row, what));
            }
        }
    }
    Ok(())
}

/// Counts per unit for values of one feature (see the top of this file).
fn choose_scale(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(0.0, |m: f64, v| m.max(v.abs()));
    if values.clone().all(|v| v.fract() == 0.0) && largest <= f64::from(i32::MAX) {
        return 1.0;
    }
    let mut scale = 1.0;
    while largest * scale > FULL {
        scale *= 0.5;
    }
    while largest * scale * 2.0 <= FULL && scale < (1u64 << 40) as f64 {
        scale *= 2.0;
    }
    scale
}

/// `values` (steps × features) as counts, and the counts per unit of each feature.
pub(super) fn to_counts(values: &[f64], features: usize, given: &[f32]) -> (Vec<i32>, Vec<f32>) {
    let scales: Vec<f64> = (0..features)
        .map(|k| match given.get(k) {
            Some(scale) => f64::from(*scale),
            None => choose_scale(values.iter().skip(k).step_by(features).copied()),
        })
        .collect();
    let counts = (values.iter().zip(scales.iter().cycle()))
        .map(|(v, s)| (v * s).round() as i32) // a cast saturates, as a sensor does
        .collect();
    (counts, scales.iter().map(|&s| s as f32).collect())
}

fn finish(paths: &[PathBuf], options: &Options, mut r: Reading) -> Result<Dataset, DataError> {
    let features = r.features.len();
    let (counts, counts_per_unit) = to_counts(&r.values, features, &options.counts_per_unit);
    if !options.missing {
        r.values = Vec::new();
    }
    // Classes in an order that does not depend on the order of the rows.
    let mut classes = r.label_names.clone();
    if options.classes.is_empty() {
        match (classes.iter().map(|c| c.parse().ok())).collect::<Option<Vec<i64>>>() {
            Some(_) => classes.sort_by_key(|c| c.parse::<i64>().unwrap_or(0)),
            None => classes.sort(),
        }
    } else {
        classes.clone_from(&options.classes);
    }
    let to: Vec<u16> = (r.label_names.iter())
        .map(|name| (classes.iter().position(|c| c == name)).map_or(UNLABELLED, |at| at as u16))
        .collect();
    for label in &mut r.labels {
        *label = to.get(usize::from(*label)).copied().unwrap_or(UNLABELLED);
    }
    // The usual time between two rows.
    let ends: Vec<usize> = (r.runs.iter().skip(1).map(|run| run.first))
        .chain([r.labels.len()])
        .collect();
    let mut between: Vec<f64> = (r.runs.iter().zip(&ends))
        .flat_map(|(run, &end)| r.times[run.first..end].windows(2))
        .map(|pair| pair[1] - pair[0])
        .filter(|dt| dt.is_finite())
        .collect();
    between.sort_by(f64::total_cmp);
    let usual = between.get(between.len() / 2).copied();
    let sample_rate_hz = match (options.sample_rate_hz, usual) {
        (Some(given), _) => given,
        (None, Some(dt)) => (1.0 / dt * 100.0).round() as f32 / 100.0,
        (None, None) => 0.0,
    };
    let name = match paths {
        [one] => one.file_stem(),
        [first, ..] => first.parent().and_then(Path::file_name),
        [] => None,
    };
    let mut data = Dataset {
        name: name.map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
        features: r.features,
        counts_per_unit,
        classes,
        sample_rate_hz,
        recordings: r.recordings,
        subjects: r.subjects,
        sequences: Vec::with_capacity(r.runs.len()),
    };
    for (run, &end) in r.runs.iter().zip(&ends) {
        let mut cuts = vec![run.first];
        if let (Some(dt), None) = (usual, &run.window) {
            let gap = |t: &usize| r.times[*t] - r.times[*t - 1] > GAP_STEPS * dt;
            cuts.extend((run.first + 1..end).filter(gap));
        }
        let stops = cuts.iter().skip(1).copied().chain([end]);
        for (&from, to) in cuts.iter().zip(stops) {
            let own = &r.labels[from..to];
            let labels = match (r.has_labels, &run.window) {
                (false, _) => Labels::None,
                (true, Some(_)) if own.iter().all(|l| *l == own[0]) => Labels::Sequence(own[0]),
                _ => Labels::Steps(own.to_vec()),
            };
            let range = from * features..to * features;
            let own_values = r.values.get(range.clone()).unwrap_or_default();
            let own_counts = &counts[range];
            data.sequences.push(Sequence {
                recording: run.recording,
                subject: run.subject,
                counts: match own_values.iter().any(|v| v.is_nan()) {
                    true => Counts::Gaps(
                        (own_counts.iter().zip(own_values))
                            .map(|(c, v)| (!v.is_nan()).then_some(*c))
                            .collect(),
                    ),
                    false => Counts::from_i32(own_counts.to_vec()),
                },
                labels,
                part: None,
            });
        }
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::choose_scale;

    #[test]
    fn scales_leave_room_and_whole_numbers_are_counts() {
        let scale = |v: &[f64]| choose_scale(v.iter().copied());
        assert_eq!(scale(&[3.0, -32768.0]), 1.0);
        assert_eq!(scale(&[0.0]), 1.0);
        assert_eq!(scale(&[1.01, 0.5]), 8192.0); // 1.01 · 16384 > 16383
        assert_eq!(scale(&[0.999]), 16384.0);
        assert_eq!(scale(&[100_000.5]), 0.125);
        assert!(scale(&[1e-300]).is_finite());
    }
}
