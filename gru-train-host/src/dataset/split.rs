//! Separates training from test data by subject or recording, never by window.

use std::collections::BTreeMap;

use super::{Dataset, Part};

/// Which sequences are for what; indices into [`Dataset::sequences`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Split {
    /// For the weights.
    pub train: Vec<usize>,
    /// For choosing (early stopping, thresholds): people of the training side, kept apart.
    pub validation: Vec<usize>,
    /// For the final figure.
    pub test: Vec<usize>,
    /// How it was made, for reports: "official", "by subject", "by recording" or "none".
    pub how: &'static str,
}

/// What must stay together: the subject where it is known, else the recording.
fn group(data: &Dataset, sequence: usize, by_subject: bool) -> (bool, u32) {
    let s = &data.sequences[sequence];
    match s.subject {
        Some(subject) if by_subject => (true, subject),
        _ => (false, s.recording),
    }
}

/// Splits `sequences` into (kept, held out) such that whole groups are held out: about `fraction`
/// of the steps, at least one group, never all. With fewer than two groups nothing is held out.
/// The choice depends on the seed, not on the order of the data in the file.
///
/// Where every group is a sequence with one label (windows or cases without a person), each class
/// gives its share.
pub fn hold_out(
    data: &Dataset,
    sequences: &[usize],
    fraction: f64,
    seed: u64,
) -> (Vec<usize>, Vec<usize>, &'static str) {
    let gather = |by_subject| {
        let mut groups: BTreeMap<(bool, u32), Vec<usize>> = BTreeMap::new();
        for &s in sequences {
            groups
                .entry(group(data, s, by_subject))
                .or_default()
                .push(s);
        }
        groups
    };
    let mut how = "by subject";
    let mut groups = gather(true);
    if groups.len() < 2 || !groups.keys().any(|(subject, _)| *subject) {
        how = "by recording";
        groups = gather(false);
    }
    if groups.len() < 2 || fraction <= 0.0 {
        return (sequences.to_vec(), Vec::new(), "none");
    }
    // Groups in an order given by the seed.
    let mut order: Vec<((bool, u32), Vec<usize>)> = groups.into_iter().collect();
    let mut random = Random::new(seed);
    for last in (1..order.len()).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    let steps = |list: &[usize]| list.iter().map(|&s| data.steps(s)).sum::<usize>();
    let single = (order.iter()).all(|(_, list)| list.len() == 1 && how == "by recording");
    // One stratum per class if groups are single labelled sequences, else a single stratum.
    let mut strata: BTreeMap<u16, Vec<Vec<usize>>> = BTreeMap::new();
    for (_, list) in order {
        let class = match single {
            true => data.label(list[0], 0),
            false => 0,
        };
        strata.entry(class).or_default().push(list);
    }
    let (mut keep, mut hold) = (Vec::new(), Vec::new());
    for lists in strata.into_values() {
        let total: usize = lists.iter().map(|l| steps(l)).sum();
        let (mut held, count) = (0usize, lists.len());
        for (at, list) in lists.into_iter().enumerate() {
            // Hold out while that brings the share closer to what was asked; keep the last group.
            let with = held + steps(&list);
            let target = fraction * total as f64;
            let closer = (with as f64 - target).abs() < (held as f64 - target).abs();
            if at + 1 < count && (closer || (at == 0 && !single)) {
                held = with;
                hold.extend(list);
            } else {
                keep.extend(list);
            }
        }
    }
    keep.sort_unstable();
    hold.sort_unstable();
    (keep, hold, how)
}

/// The official split where there is one, else `test` of the steps by subject or recording;
/// `validation` of the training side is then held out in the same way.
pub fn split(data: &Dataset, test: f64, validation: f64, seed: u64) -> Split {
    let (train, tested, how) = if data.has_official_split() {
        (data.part(Part::Train), data.part(Part::Test), "official")
    } else {
        let all: Vec<usize> = (0..data.sequences.len()).collect();
        hold_out(data, &all, test, seed)
    };
    let (train, validation, _) = hold_out(data, &train, validation, seed ^ 0x5eed);
    Split {
        train,
        validation,
        test: tested,
        how,
    }
}

/// SplitMix64: small, the same everywhere, good enough for drawing lots.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Counts, Labels, Sequence};
    use super::*;

    fn people(sequences: &[(u32, Option<u32>, u16)]) -> Dataset {
        Dataset {
            features: vec!["x".into()],
            counts_per_unit: vec![1.0],
            sequences: (sequences.iter())
                .map(|&(recording, subject, class)| Sequence {
                    recording,
                    subject,
                    counts: Counts::I16(vec![0; 10]),
                    labels: Labels::Sequence(class),
                    part: None,
                })
                .collect(),
            ..Dataset::default()
        }
    }

    #[test]
    fn nobody_is_on_both_sides() {
        let rows: Vec<_> = (0..200).map(|n| (n, Some(n % 13), 0)).collect();
        let data = people(&rows);
        for seed in 0..50 {
            let s = split(&data, 0.25, 0.2, seed);
            let who = |list: &[usize]| -> std::collections::BTreeSet<_> {
                (list.iter()).map(|&i| data.sequences[i].subject).collect()
            };
            let (a, b, c) = (who(&s.train), who(&s.validation), who(&s.test));
            assert!(a.is_disjoint(&b) && a.is_disjoint(&c) && b.is_disjoint(&c));
            assert_eq!(s.train.len() + s.validation.len() + s.test.len(), 200);
            assert!(!s.train.is_empty() && !s.validation.is_empty() && !s.test.is_empty());
            assert!((30..=70).contains(&s.test.len()), "{}", s.test.len());
        }
        assert_ne!(
            split(&data, 0.25, 0.0, 1).test,
            split(&data, 0.25, 0.0, 2).test
        );
    }

    #[test]
    fn without_people_recordings_are_split_with_every_class_on_both_sides() {
        let rows: Vec<_> = (0..40).map(|n| (n, None, (n % 4) as u16)).collect();
        let data = people(&rows);
        let s = split(&data, 0.3, 0.0, 5);
        assert_eq!(s.how, "by recording");
        for class in 0..4 {
            assert_eq!(
                (s.test.iter().filter(|&&i| data.label(i, 0) == class)).count(),
                3
            );
        }
    }

    #[test]
    fn one_recording_cannot_be_split() {
        let s = split(&people(&[(0, Some(0), 0), (0, Some(0), 1)]), 0.3, 0.1, 0);
        assert_eq!((s.train.len(), s.test.len(), s.how), (2, 0, "none"));
    }
}
