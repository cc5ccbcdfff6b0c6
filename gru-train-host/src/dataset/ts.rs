//! `.ts` files of the UEA & UCR archive: cases of equal or variable length.
//!
//! Lines that start with `#` or `@` are the header; after `@data` one case per line, channels
//! separated by `:`, values by `,`, and the class as the last field. Values are physical and become
//! counts as those of a CSV do; the scales come from the training file.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::csv::to_counts;
use super::{Counts, DataError, Dataset, Labels, Part, Sequence, shown};

struct Case {
    /// Steps × channels.
    values: Vec<f64>,
    label: u16,
    part: Option<Part>,
}

#[derive(Default)]
struct Reading {
    classes: Vec<String>,
    channels: usize,
    cases: Vec<Case>,
}

/// Reads one file; it has no official split.
pub fn read_file(path: &Path) -> Result<Dataset, DataError> {
    let mut reading = Reading::default();
    read_cases(path, None, &mut reading)?;
    Ok(finish(path, reading))
}

/// Reads `*_TRAIN.ts` and `*_TEST.ts` of a folder, with their official split.
pub fn read_folder(folder: &Path) -> Result<Dataset, DataError> {
    let find = |end: &str| -> Result<PathBuf, DataError> {
        let mut found: Vec<PathBuf> = (std::fs::read_dir(folder))
            .map_err(|e| DataError::io(folder, &e))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|p| p.to_string_lossy().ends_with(end))
            .collect();
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(one),
            (Some(_), false) => Err(DataError::file(
                folder,
                format!("several *{end}, expected one"),
            )),
            (None, _) => Err(DataError::file(
                folder,
                format!("no *{end}, expected one beside the other half"),
            )),
        }
    };
    let (train, test) = (find("_TRAIN.ts")?, find("_TEST.ts")?);
    let mut reading = Reading::default();
    read_cases(&train, Some(Part::Train), &mut reading)?;
    read_cases(&test, Some(Part::Test), &mut reading)?;
    Ok(finish(&train, reading))
}

fn read_cases(path: &Path, part: Option<Part>, r: &mut Reading) -> Result<(), DataError> {
    let file = File::open(path).map_err(|e| DataError::io(path, &e))?;
    let mut data = false;
    let mut equal = false;
    let mut steps_before = None;
    let first = r.cases.len();
    let mut row = 0;
    for line in BufReader::new(file).split(b'\n') {
        row += 1;
        let line = line.map_err(|e| DataError::io(path, &e))?;
        let line = String::from_utf8(line)
            .map_err(|_| DataError::row(path, row, "bytes that are not UTF-8, expected text"))?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('@') {
            let mut words = header.split_whitespace();
            match words.next().map(str::to_ascii_lowercase).as_deref() {
                Some("data") => data = true,
                Some("timestamps") if words.next() == Some("true") => {
                    let what = "time stamps inside the cases, expected plain values";
                    return Err(DataError::row(path, row, what));
                }
                Some("equallength") => equal = words.next() == Some("true"),
                Some("classlabel") if words.next() == Some("true") => {
                    let found: Vec<String> = words.map(str::to_owned).collect();
                    if r.classes.is_empty() {
                        r.classes = found;
                    } else if r.classes != found {
                        let what = format!(
                            "classes {}, expected {} as in the training file",
                            found.join(" "),
                            r.classes.join(" ")
                        );
                        return Err(DataError::row(path, row, what));
                    }
                }
                _ => {}
            }
            continue;
        }
        if !data {
            let what = format!("found {}, expected a header line or @data", shown(line));
            return Err(DataError::row(path, row, what));
        }
        if r.classes.is_empty() {
            let what = "no @classLabel in the header, expected the class names";
            return Err(DataError::row(path, row, what));
        }
        let mut fields: Vec<&str> = line.split(':').collect();
        let class = fields.pop().unwrap_or("").trim();
        let Some(label) = r.classes.iter().position(|c| c == class) else {
            let what = format!(
                "class {}, expected one of {}",
                shown(class),
                r.classes.join(", ")
            );
            return Err(DataError::row(path, row, what));
        };
        if fields.is_empty() || (r.channels != 0 && r.channels != fields.len()) {
            let what = format!(
                "{} channels, expected {}",
                fields.len(),
                match r.channels {
                    0 => "at least 1".into(),
                    n => n.to_string(),
                }
            );
            return Err(DataError::row(path, row, what));
        }
        r.channels = fields.len();
        let mut channels: Vec<Vec<f64>> = Vec::new();
        for (channel, field) in fields.iter().enumerate() {
            let column = format!("channel {}", channel + 1);
            let mut values = Vec::new();
            for cell in field.split(',').map(str::trim) {
                match cell.parse::<f64>() {
                    Ok(v) if v.is_finite() && v.abs() <= 1e15 => values.push(v),
                    _ => {
                        let what = format!(
                            "value {} is {}, expected a finite number",
                            values.len() + 1,
                            shown(cell)
                        );
                        return Err(DataError::cell(path, row, &column, what));
                    }
                }
            }
            let expected = match (channels.first(), equal, steps_before) {
                (Some(first), _, _) => Some(first.len()),
                (None, true, before) => before,
                _ => None,
            };
            if let Some(expected) = expected
                && values.len() != expected
            {
                let what = format!("{} steps, expected {expected}", values.len());
                return Err(DataError::cell(path, row, &column, what));
            }
            channels.push(values);
        }
        let steps = channels[0].len();
        steps_before = Some(steps);
        r.cases.push(Case {
            values: (0..steps)
                .flat_map(|t| channels.iter().map(move |c| c[t]))
                .collect(),
            label: label as u16,
            part,
        });
    }
    if r.cases.len() == first {
        return Err(DataError::file(path, "no cases, expected some after @data"));
    }
    Ok(())
}

fn finish(path: &Path, r: Reading) -> Dataset {
    let stem = path
        .file_stem()
        .map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    let known: Vec<f64> = (r.cases.iter())
        .filter(|c| c.part != Some(Part::Test))
        .flat_map(|c| c.values.iter().copied())
        .collect();
    let (_, counts_per_unit) = to_counts(&known, r.channels, &[]);
    let mut data = Dataset {
        name: stem
            .trim_end_matches("_TRAIN")
            .trim_end_matches("_TEST")
            .to_owned(),
        features: (1..=r.channels).map(|c| format!("channel_{c}")).collect(),
        classes: r.classes,
        ..Dataset::default()
    };
    for (number, case) in r.cases.into_iter().enumerate() {
        let (counts, _) = to_counts(&case.values, r.channels, &counts_per_unit);
        data.sequences.push(Sequence {
            recording: number as u32,
            subject: None,
            counts: Counts::from_i32(counts),
            labels: Labels::Sequence(case.label),
            part: case.part,
        });
        data.recordings.push(format!("case-{}", number + 1));
    }
    data.counts_per_unit = counts_per_unit;
    data
}
