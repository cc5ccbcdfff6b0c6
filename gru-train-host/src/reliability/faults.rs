//! Row 8: faulty sensors over streams of the product's own motion generator.

use gru_core::random::SplitMix;
use gru_core::writer::host_state;
use gru_core::{Model, StateError, StateRef};

use crate::imu::{self, ImuConfig};

/// A way in which a sensor fails for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Samples are lost: every value of the step is missing.
    Drop,
    /// One value stays where it was.
    Stuck,
    /// One value jumps to an end of its range.
    Spike,
    /// One value is not a number.
    NotANumber,
    /// Samples come late or twice: the neighbour's is taken.
    Jitter,
    /// The gain of all values is wrong, by up to a half at the end.
    GainDrift,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Drop,
        Self::Stuck,
        Self::Spike,
        Self::NotANumber,
        Self::Jitter,
        Self::GainDrift,
    ];

    /// The faulty sample in place of `stream[at]`; `part` is how much of the fault's time has passed, 0…1.
    fn sample(
        self,
        stream: &Stream,
        at: usize,
        (since, part): (usize, f32),
        rng: &mut SplitMix,
    ) -> Vec<f32> {
        let mut sample = stream.samples[at].clone();
        let one = rng.below(sample.len());
        match self {
            Self::Drop => sample.fill(f32::NAN),
            Self::Stuck => sample[0] = stream.samples[since][0],
            Self::Spike => {
                sample[one] = [-stream.full_scale[one], stream.full_scale[one]][rng.below(2)]
            }
            Self::NotANumber => sample[one] = [f32::NAN, f32::INFINITY][rng.below(2)],
            Self::Jitter => {
                let late = (at + rng.below(3)).saturating_sub(1);
                sample.clone_from(&stream.samples[late.min(stream.samples.len() - 1)]);
            }
            Self::GainDrift => sample.iter_mut().for_each(|x| *x *= 1.0 + part / 2.0),
        }
        sample
    }
}

/// A recording in the physical units of a model.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Samples in order; one value per feature.
    samples: Vec<Vec<f32>>,
    /// The largest value that the sensor can give, per feature.
    full_scale: Vec<f32>,
    /// The class at each step.
    labels: Vec<u16>,
}

impl Stream {
    /// People that no training has seen, in the counts of the generator's sensor as the model's features read them.
    #[must_use]
    pub fn held_out(model: &Model<'_>, seconds: f64, seed: u64) -> Self {
        let config = ImuConfig {
            persons: 2,
            recordings: 1,
            seconds,
        };
        let data = imu::generate(&config, seed);
        let units: Vec<f32> = (0..data.input())
            .map(|k| data.counts_per_unit.get(k).copied().unwrap_or(1.0))
            .collect();
        let features = model.features();
        let mut stream = Self {
            samples: Vec::new(),
            full_scale: units
                .iter()
                .map(|unit| 32_767.0 / unit)
                .take(features)
                .collect(),
            labels: Vec::new(),
        };
        for (n, sequence) in data.sequences.iter().enumerate() {
            for t in 0..data.steps(n) {
                let counts = (0..data.input()).map(|k| sequence.counts.get(t * data.input() + k));
                let values = counts
                    .zip(&units)
                    .map(|(count, unit)| count.unwrap_or(0) as f32 / unit);
                stream.samples.push(values.take(features).collect());
                stream.labels.push(data.label(n, t));
            }
        }
        stream
    }

    /// The samples in order.
    #[must_use]
    pub fn samples(&self) -> &[Vec<f32>] {
        &self.samples
    }

    /// Time steps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

/// Figures of [`recovery`].
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// Faults injected.
    pub cases: u64,
    /// Steps after a fault's end until the decisions are those of the clean stream for good: median.
    pub median: usize,
    /// The same, 99.9 % of the faults.
    pub most: usize,
    /// Faults after which that took longer than the steps watched.
    pub never: u64,
    /// Steps watched after each fault.
    pub watched: usize,
}

/// Injects `cases` faults of 1 to 100 steps at random places and follows the decisions for `watched` steps afterwards.
///
/// # Errors
/// Those of the stream: a model of another number of features than the recording.
pub fn recovery(
    model: &Model<'_>,
    stream: &Stream,
    cases: u64,
    watched: usize,
    seed: u64,
) -> Result<Recovery, StateError> {
    let mut rng = SplitMix(seed);
    let mut figures = Recovery {
        watched,
        ..Recovery::default()
    };
    let (mut clean, mut hurt) = (host_state(model)?, host_state(model)?);
    let mut snapshot = vec![0; StateRef::snapshot_len(model)];
    let mut after = Vec::new();
    for case in 0..cases {
        let fault = Fault::ALL[case as usize % Fault::ALL.len()];
        let len = 1 + rng.below(100);
        let Some(room) = stream.len().checked_sub(300 + len + watched) else {
            return Ok(figures);
        };
        let start = rng.below(room + 1);
        clean.reset(model)?;
        for sample in &stream.samples[start..start + 300] {
            model.step(&mut clean, sample)?;
        }
        clean.snapshot(model, &mut snapshot)?;
        hurt.restore(model, &snapshot)?;
        let begin = start + 300;
        let mut last_difference = 0;
        for at in begin..begin + len + watched {
            let right = model.step(&mut clean, &stream.samples[at])?.argmax();
            let found = if at < begin + len {
                let part = (at - begin) as f32 / len as f32;
                let sample = fault.sample(stream, at, (begin - 1, part), &mut rng);
                model.step(&mut hurt, &sample)?.argmax()
            } else {
                model.step(&mut hurt, &stream.samples[at])?.argmax()
            };
            if at >= begin + len && right != found {
                last_difference = at - (begin + len) + 1;
            }
        }
        figures.cases += 1;
        if last_difference == watched {
            figures.never += 1;
        }
        after.push(last_difference);
    }
    after.sort_unstable();
    figures.median = after.get(after.len() / 2).copied().unwrap_or(watched);
    figures.most = after
        .get(after.len() * 999 / 1000)
        .copied()
        .unwrap_or(watched);
    Ok(figures)
}

/// The fault rates of a curve.
pub const RATES: [f64; 6] = [0.0, 0.01, 0.05, 0.1, 0.2, 0.5];

/// One line of the curve.
#[derive(Debug, Clone)]
pub struct Curve {
    /// What was injected.
    pub fault: Fault,
    /// Per rate of [`RATES`]: share of decisions equal to those of the clean stream.
    pub same: [f64; RATES.len()],
    /// Per rate: share of decisions equal to the label (of steps that have one).
    pub right: [f64; RATES.len()],
}

/// Runs the stream with every fault at every rate (steps hit independently of each other).
///
/// # Errors
/// Those of the stream: a model of another number of features than the recording.
pub fn curves(model: &Model<'_>, stream: &Stream, seed: u64) -> Result<Vec<Curve>, StateError> {
    let mut state = host_state(model)?;
    let mut clean = Vec::new();
    for sample in &stream.samples {
        clean.push(model.step(&mut state, sample)?.argmax());
    }
    let labelled = |at: usize| usize::from(stream.labels[at]) < model.outputs();
    let mut curves = Vec::new();
    for fault in Fault::ALL {
        let mut curve = Curve {
            fault,
            same: [0.0; RATES.len()],
            right: [0.0; RATES.len()],
        };
        for (i, rate) in RATES.into_iter().enumerate() {
            let mut rng = SplitMix(seed);
            state.reset(model)?;
            let (mut same, mut right, mut labels, mut since) = (0, 0, 0, 0);
            for (at, clean) in clean.iter().enumerate() {
                let decision = if rng.unit() < rate {
                    let sample = fault.sample(stream, at, (since, 1.0), &mut rng);
                    model.step(&mut state, &sample)?.argmax()
                } else {
                    since = at;
                    model.step(&mut state, &stream.samples[at])?.argmax()
                };
                same += u64::from(decision == *clean);
                if labelled(at) {
                    labels += 1;
                    right += u64::from(decision == usize::from(stream.labels[at]));
                }
            }
            curve.same[i] = same as f64 / stream.len().max(1) as f64;
            curve.right[i] = right as f64 / f64::from(labels.max(1_u32));
        }
        curves.push(curve);
    }
    Ok(curves)
}
