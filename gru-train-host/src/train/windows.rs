//! Windows of a [`Dataset`] as the engine reads them, without copying the counts.

use crate::dataset::{Counts, Dataset, UNLABELLED, Window};
use crate::nn::data::{Inputs, Labels, Sequences};
use crate::spec::Standardize;

/// Views of windows; [`sequences`](Self::sequences) is what training and evaluation take.
#[derive(Debug, Clone)]
pub struct Windows<'a> {
    slices: Vec<&'a [i16]>,
    /// Only where a sensor has more than 16 bits.
    values: Vec<f32>,
    offset: Vec<f32>,
    scale: Vec<f32>,
    labels: Vec<i32>,
    lengths: Vec<usize>,
    features: usize,
    steps: usize,
    per_step: bool,
}

impl<'a> Windows<'a> {
    /// With a class for each window, or with the classes of all its steps.
    ///
    /// # Panics
    /// If a window is not inside its sequence.
    pub fn new(
        data: &'a Dataset,
        windows: &[Window],
        standardize: &Standardize,
        per_step: bool,
    ) -> Self {
        let features = data.input();
        let steps = windows.iter().map(|w| w.steps).max().unwrap_or(0);
        let mean = |f: usize| standardize.mean.get(f).copied().unwrap_or(0.0);
        let std = |f: usize| standardize.std.get(f).copied().unwrap_or(1.0);
        let unit = |f: usize| data.counts_per_unit.get(f).copied().unwrap_or(1.0);
        let class = |label: u16| {
            if label == UNLABELLED {
                -1
            } else {
                i32::from(label)
            }
        };
        let mut slices = Vec::new();
        let mut values = Vec::new();
        let narrow = windows
            .iter()
            .all(|w| matches!(data.sequences[w.sequence].counts, Counts::I16(_)));
        for window in windows {
            let range = window.start * features..(window.start + window.steps) * features;
            match &data.sequences[window.sequence].counts {
                Counts::I16(counts) if narrow => slices.push(&counts[range]),
                _ => {
                    let start = values.len();
                    values.resize(start + window.steps * features, 0.0);
                    data.standardised_into(window, standardize, &mut values[start..]);
                    values.resize(start + steps * features, 0.0);
                }
            }
        }
        let mut labels = Vec::new();
        for window in windows {
            if per_step {
                let own = window.start..window.start + window.steps;
                labels.extend(own.map(|t| class(data.label(window.sequence, t))));
                labels.resize(labels.len() + steps - window.steps, -1);
            } else {
                labels.push(class(window.label));
            }
        }
        Self {
            slices,
            values,
            offset: (0..features).map(|f| mean(f) * unit(f)).collect(),
            scale: (0..features).map(|f| 1.0 / (std(f) * unit(f))).collect(),
            labels,
            lengths: windows.iter().map(|w| w.steps).collect(),
            features,
            steps,
            per_step,
        }
    }

    /// What the engine reads.
    pub fn sequences(&self) -> Sequences<'_> {
        Sequences {
            inputs: if self.slices.is_empty() {
                Inputs::F32(&self.values)
            } else {
                Inputs::Slices {
                    counts: &self.slices,
                    offset: &self.offset,
                    scale: &self.scale,
                }
            },
            features: self.features,
            count: self.lengths.len(),
            steps: self.steps,
            starts: None,
            lengths: Some(&self.lengths),
            labels: if self.per_step {
                Labels::PerStep(&self.labels)
            } else {
                Labels::PerSequence(&self.labels)
            },
            weights: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{self, Sequence};

    #[test]
    fn counts_and_labels_arrive_standardised() {
        let counts: Vec<i32> = (0..12).collect();
        let sequence = |counts| Sequence {
            recording: 0,
            subject: None,
            counts,
            labels: dataset::Labels::Steps(vec![0, 0, 1, 1, UNLABELLED, 1]),
            part: None,
        };
        let windows = [
            Window {
                sequence: 0,
                start: 1,
                steps: 4,
                label: 1,
            },
            Window {
                sequence: 0,
                start: 4,
                steps: 2,
                label: UNLABELLED,
            },
        ];
        let by = Standardize {
            mean: vec![1.0, 2.0],
            std: vec![0.5, 4.0],
        };
        let narrow = Counts::from_i32(counts.clone());
        for stored in [narrow, Counts::I32(counts)] {
            let data = Dataset {
                features: vec!["a".into(), "b".into()],
                counts_per_unit: vec![2.0, 1.0],
                sequences: vec![sequence(stored)],
                ..Dataset::default()
            };
            for per_step in [false, true] {
                let set = Windows::new(&data, &windows, &by, per_step);
                let s = set.sequences();
                assert_eq!(s.check(2), Ok(()));
                let mut found = Vec::new();
                s.read(0, 4, &mut found);
                let mut expected = vec![0.0; 8];
                data.standardised_into(&windows[0], &by, &mut expected);
                for (a, b) in found.iter().zip(&expected) {
                    assert!((a - b).abs() < 1e-6, "{found:?} {expected:?}");
                }
                s.read(1, 4, &mut found);
                assert_eq!(found[4..], [0.0; 4]);
                assert!(s.target(1, 0, 2).is_none());
                assert!(s.target(0, 1, 2).is_some());
                assert_eq!(s.target(0, 3, 2).is_some(), !per_step);
            }
        }
    }
}
