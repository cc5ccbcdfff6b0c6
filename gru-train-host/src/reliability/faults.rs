//! Row 8: faulty sensors over streams of the product's own motion generator, under every gap policy.

use gru_core::artifact::{DecisionHeader, GapPolicy};
use gru_core::decision::{Decider, DeciderRef, Threshold};
use gru_core::input::Limits;
use gru_core::random::SplitMix;
use gru_core::writer::{self, Aligned, QuantDecision, WriteError, host_state};
use gru_core::{Model, Outcome, StateError, StateRef};

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
            // One for the whole of the fault, each feature in turn.
            Self::Stuck => {
                let stuck = since % sample.len();
                sample[stuck] = stream.samples[since][stuck];
            }
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

/// The model of an artifact with another gap policy, with limits of the counts that a spike passes, and with a decision layer
/// (mean over about eight steps, hysteresis, hold time) where it has none.
///
/// # Errors
/// Those of writing, which would be a fault of this function.
pub fn with_gap(model: &Model<'_>, gap: GapPolicy) -> Result<Aligned, WriteError> {
    let mut quant = writer::read(model);
    quant.gap = gap;
    if quant.limits.is_empty() {
        let (low, high) = (-32_700, 32_700);
        quant.limits = vec![Limits { low, high }; model.features()];
    }
    if quant.decision.is_none() {
        quant.decision = Some(QuantDecision {
            header: DecisionHeader {
                smoothing: gru_core::artifact::Smoothing::Exponential { shift: 3 },
                hold_steps: 10,
                ..DecisionHeader::new()
            },
            thresholds: vec![
                Threshold {
                    enter: 16_384,
                    release: 9_830,
                };
                model.outputs()
            ],
        });
    }
    writer::write(&quant, model.layout()).map(|bytes| Aligned::new(&bytes))
}

/// Figures of [`recovery`].
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// Faults injected.
    pub cases: u64,
    /// Steps after a fault's end until the most probable classes are those of the clean stream for good.
    pub classes: Until,
    /// The same of the outcomes of the decision layer.
    pub outcomes: Until,
    /// Steps watched after each fault.
    pub watched: usize,
}

/// How many steps something took after each of many faults.
#[derive(Debug, Clone, Copy, Default)]
pub struct Until {
    /// After half of the faults at most.
    pub median: usize,
    /// After 99.9 % of them at most.
    pub most: usize,
    /// Faults after which it took longer than the steps watched.
    pub never: u64,
}

impl Until {
    fn of(mut steps: Vec<usize>, watched: usize) -> Self {
        steps.sort_unstable();
        let share = |part: usize| steps.get(steps.len() * part / 1000).copied();
        Self {
            median: share(500).unwrap_or(watched),
            most: share(999).unwrap_or(watched),
            never: steps.iter().filter(|&&n| n >= watched).count() as u64,
        }
    }
}

/// What is compared: the most probable class, and the outcome of the decision layer.
type Seen = (usize, Option<Outcome>);

/// A stream with its decisions.
struct Run<'m, 'a> {
    model: &'m Model<'a>,
    state: Box<StateRef>,
    decider: Decider<DECIDER>,
}

/// Words of a decider for the models here.
const DECIDER: usize = 512;

impl<'m, 'a> Run<'m, 'a> {
    fn new(model: &'m Model<'a>) -> Result<Self, StateError> {
        Ok(Self {
            model,
            state: host_state(model)?,
            decider: Decider::new(model)?,
        })
    }

    fn step(&mut self, sample: &[f32]) -> Result<Seen, StateError> {
        let best = self.model.step(&mut self.state, sample)?.argmax();
        self.decider.decide(self.model, &self.state)?;
        Ok((best, self.decider.outcome()))
    }
}

/// Injects `cases` faults of 1 to 100 steps at random places and follows the decisions for `watched` steps afterwards: the
/// most probable class of every step and the outcome of the decision layer.
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
    let (mut clean, mut hurt) = (Run::new(model)?, Run::new(model)?);
    let mut snapshot = vec![0; StateRef::snapshot_len(model)];
    let mut decisions = vec![0; DeciderRef::snapshot_len(model)];
    let mut after = [Vec::new(), Vec::new()];
    for case in 0..cases {
        let fault = Fault::ALL[case as usize % Fault::ALL.len()];
        let len = 1 + rng.below(100);
        let Some(room) = stream.len().checked_sub(300 + len + watched) else {
            return Ok(figures);
        };
        let start = rng.below(room + 1);
        clean.state.reset(model)?;
        clean.decider.reset(model)?;
        for sample in &stream.samples[start..start + 300] {
            clean.step(sample)?;
        }
        clean.state.snapshot(model, &mut snapshot)?;
        hurt.state.restore(model, &snapshot)?;
        clean.decider.snapshot(model, &mut decisions)?;
        hurt.decider.restore(model, &decisions)?;
        let begin = start + 300;
        let mut last = [0; 2];
        for at in begin..begin + len + watched {
            let right = clean.step(&stream.samples[at])?;
            let found = if at < begin + len {
                let part = (at - begin) as f32 / len as f32;
                let sample = fault.sample(stream, at, (begin - 1, part), &mut rng);
                hurt.step(&sample)?
            } else {
                hurt.step(&stream.samples[at])?
            };
            let differ = [right.0 != found.0, right.1 != found.1];
            for (last, _) in last.iter_mut().zip(differ).filter(|(_, differ)| *differ) {
                *last = (at + 1).saturating_sub(begin + len);
            }
        }
        figures.cases += 1;
        for (after, last) in after.iter_mut().zip(last) {
            after.push(last);
        }
    }
    let [classes, outcomes] = after.map(|steps| Until::of(steps, watched));
    Ok(Recovery {
        classes,
        outcomes,
        ..figures
    })
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
