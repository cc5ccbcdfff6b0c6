//! Decisions on whole recordings, counted as a user counts them: events found and missed, false alarms, delay.
//!
//! [`record`] runs the integer model over whole recordings and keeps its outputs, [`decide`] puts a decision
//! rule on them; both together give what [`gru_core::Stream::push`] gives, bit for bit. [`Tally::add`] then
//! compares the outcome of every step with its label.
//!
//! **Events** are the longest runs of one label. Steps without a label are time of which nothing is
//! known; runs shorter than [`Rules::min_steps`] are taken as such. The background class has no events.
//!
//! **Decisions** are the beginnings of a class: every step at which the outcome becomes a class other than the
//! background. One at step `a`, in force until `b`, is judged once, in their order:
//!
//! 1. It *detects* the first event of its class that nothing has detected yet, if it begins no earlier than
//!    [`Rules::tolerance_steps`] before the event's first step and no later than that after its last one, and is
//!    still in force at the first step or begins later. The latency is the distance from the event's first
//!    step to `a`, 0 if the decision came before it.
//! 2. Else it is judged at the first step with a label in `a..b`. If there is none, it is *not judged*. If
//!    the label is another class or the background, it is a *false alarm*. If the label is its class, it detects the event with
//!    latency 0 where the decision began in the unlabelled steps before it; otherwise the event has been detected
//!    already, and the decision is a *repeat*, which counts as a false alarm, too: firmware would act twice.
//!
//! An event that begins after steps without a label while its class is in force is detected with latency 0:
//! nothing is known of the time before, so nobody can ask for a new beginning.
//!
//! An event that nothing detects is *missed*. There are no decisions before the warm-up is over, so one that ends
//! before that is missed. False alarms per hour are those in an hour of labelled time, background included.

use gru_core::artifact::MAX_DIM;
use gru_core::kernel::PREFERRED_LAYOUT;
use gru_core::{Decider, Model, Outcome, StateError, writer};

use crate::dataset::{Dataset, Labels, UNLABELLED, Window};

/// What an event is, and when it counts as detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// The class that means that nothing happens.
    pub background: Option<u16>,
    /// How many steps a decision may come before the first and after the last step of its event.
    pub tolerance_steps: usize,
    /// Shorter runs of a label are taken as unlabelled.
    pub min_steps: usize,
}

/// Some steps of one class: an event, or the time for which a decision is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The class.
    pub class: u16,
    /// First step.
    pub start: usize,
    /// One past the last step.
    pub end: usize,
}

/// A change of the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The step of the recording after which it came, from 0.
    pub step: usize,
    /// What it is from then on.
    pub outcome: Outcome,
}

/// Outputs of a model after every step of one recording, and the labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Steps × outputs, in the model's number format.
    pub outputs: Vec<i16>,
    /// Steps that the state had done after each sample: a sample that is left out does not count.
    pub done: Vec<u32>,
    /// The label of each step.
    pub labels: Vec<u16>,
}

/// Whether these sequences are recordings with a label per step; the error is one line.
///
/// # Errors
/// What they are instead.
pub fn check_recordings(data: &Dataset, sequences: &[usize]) -> Result<(), String> {
    if sequences.is_empty() {
        return Err("no recordings to judge".into());
    }
    for &s in sequences {
        match data.sequences.get(s).map(|s| &s.labels) {
            Some(Labels::Steps(_)) => {}
            Some(Labels::Sequence(_)) => {
                return Err(
                    "cut windows with one label each, expected recordings with a label per step"
                        .into(),
                );
            }
            Some(Labels::None) | None => {
                return Err("no labels, expected recordings with a label per step".into());
            }
        }
    }
    Ok(())
}

/// Runs `model` over whole recordings, each from a reset.
///
/// # Errors
/// [`StateError::NeedsWindow`] for a model that cannot stream, [`StateError::SampleLen`] for data with other
/// features.
pub fn record(
    model: &Model<'_>,
    data: &Dataset,
    sequences: &[usize],
) -> Result<Vec<Recorded>, StateError> {
    if !model.is_streaming() {
        return Err(StateError::NeedsWindow);
    }
    // The same bits in less time; where that does not work the model as it is.
    let fast = writer::relayed(model, PREFERRED_LAYOUT).ok();
    let fast = fast.as_ref().and_then(|bytes| Model::load(bytes).ok());
    let model = fast.as_ref().unwrap_or(model);
    let mut state = writer::host_state(model)?;
    let mut counts = Vec::new();
    let mut all = Vec::with_capacity(sequences.len());
    for &sequence in sequences {
        let whole = Window {
            sequence,
            start: 0,
            steps: data.steps(sequence),
            label: UNLABELLED,
        };
        data.samples_into(&whole, &mut counts);
        state.reset(model)?;
        let mut recorded = Recorded {
            outputs: Vec::with_capacity(whole.steps * model.outputs()),
            done: Vec::with_capacity(whole.steps),
            labels: (0..whole.steps).map(|t| data.label(sequence, t)).collect(),
        };
        if data.input() != model.features() {
            return Err(StateError::SampleLen {
                found: data.input() as u32,
                expected: model.features() as u32,
            });
        }
        for sample in counts.chunks_exact(model.features()) {
            recorded
                .outputs
                .extend(model.step(&mut state, sample)?.values());
            recorded.done.push(state.steps());
        }
        all.push(recorded);
    }
    Ok(all)
}

/// The changes of the outcome that the rule of `model` makes of outputs that were computed before.
///
/// The model may be another one than the one that computed them, as long as the outputs have the same number format.
///
/// # Errors
/// [`StateError::SampleLen`] for outputs of another number, [`StateError::TooSmall`] for more outputs than a
/// model can have.
pub fn decide(model: &Model<'_>, recorded: &Recorded) -> Result<Vec<Change>, StateError> {
    let mut decider = Box::new(Decider::<{ 3 * MAX_DIM as usize }>::unbound());
    decider.bind(model)?;
    let mut changes = Vec::new();
    let rows = recorded.outputs.chunks_exact(model.outputs().max(1));
    for (step, (outputs, done)) in rows.zip(&recorded.done).enumerate() {
        if let Some(decision) = decider.decide_outputs(model, outputs, *done)? {
            changes.push(Change {
                step,
                outcome: decision.outcome,
            });
        }
    }
    Ok(changes)
}

/// The labels as they count: runs that are too short for an event have none.
fn known(labels: &[u16], rules: &Rules) -> Vec<u16> {
    let mut out = labels.to_vec();
    for run in out.chunk_by_mut(|a, b| a == b) {
        if run.len() < rules.min_steps && Some(run[0]) != rules.background {
            run.fill(UNLABELLED);
        }
    }
    out
}

/// The runs of one label, those without one and of the background left out.
fn spans(labels: &[u16], background: Option<u16>) -> Vec<Span> {
    let mut start = 0;
    let mut out = Vec::new();
    for run in labels.chunk_by(|a, b| a == b) {
        let span = Span {
            class: run[0],
            start,
            end: start + run.len(),
        };
        start = span.end;
        if span.class != UNLABELLED && Some(span.class) != background {
            out.push(span);
        }
    }
    out
}

/// The events of a recording with these labels, in their order.
pub fn events_of(labels: &[u16], rules: &Rules) -> Vec<Span> {
    spans(&known(labels, rules), rules.background)
}

/// What was counted of one class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClassTally {
    /// Events that there were.
    pub events: u32,
    /// Those that were detected.
    pub detected: u32,
    /// Decisions for the class that no event answers to, repeats included.
    pub false_alarms: u32,
    /// Decisions for the class within an event of the class that had been detected already.
    pub repeats: u32,
    /// Steps from the beginning of each detected event to its decision.
    pub latencies: Vec<u32>,
}

/// What was counted over some recordings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// One for every class.
    pub classes: Vec<ClassTally>,
    /// Recordings.
    pub recordings: u32,
    /// Time steps of the recordings.
    pub steps: u64,
    /// Time steps with a label: those that count.
    pub labelled: u64,
    /// Labelled steps whose outcome was their label.
    pub right: u64,
    /// Labelled steps whose outcome was [`Outcome::Unsure`].
    pub unsure: u64,
    /// Labelled steps before the warm-up was over.
    pub not_ready: u64,
    /// Decisions in time of which nothing is known.
    pub not_judged: u32,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(classes: usize) -> Self {
        Self {
            classes: vec![ClassTally::default(); classes],
            ..Self::default()
        }
    }

    /// Counts one recording: its labels, one per step, and the changes of the outcome in their order.
    ///
    /// A class beyond those of [`new`](Self::new) has no events and no decisions.
    pub fn add(&mut self, labels: &[u16], changes: &[Change], rules: &Rules) {
        let labels = known(labels, rules);
        let events = spans(&labels, rules.background);
        self.recordings += 1;
        self.steps += labels.len() as u64;
        for event in &events {
            if let Some(class) = self.classes.get_mut(usize::from(event.class)) {
                class.events += 1;
            }
        }
        let mut detected = vec![false; events.len()];
        let ends = changes.iter().skip(1).map(|c| c.step);
        let first = changes.first().map_or(labels.len(), |c| c.step);
        self.time(labels.get(..first).unwrap_or(&labels), None);
        for (change, end) in changes.iter().zip(ends.chain([labels.len()])) {
            let end = end.min(labels.len());
            let seen = labels.get(change.step..end).unwrap_or(&[]);
            self.time(seen, Some(change.outcome));
            if let Outcome::Class(class) = change.outcome
                && Some(class) != rules.background
            {
                let decision = Span {
                    class,
                    start: change.step,
                    end,
                };
                self.judge(decision, &labels, &events, &mut detected, rules);
            }
        }
    }

    /// Counts steps with one outcome, or before the first one.
    fn time(&mut self, labels: &[u16], outcome: Option<Outcome>) {
        for &label in labels.iter().filter(|l| **l != UNLABELLED) {
            self.labelled += 1;
            match outcome {
                Some(Outcome::Class(class)) => self.right += u64::from(class == label),
                Some(Outcome::Unsure) => self.unsure += 1,
                None => self.not_ready += 1,
            }
        }
    }

    fn judge(
        &mut self,
        decision: Span,
        labels: &[u16],
        events: &[Span],
        detected: &mut [bool],
        rules: &Rules,
    ) {
        let Span { class, start, end } = decision;
        let Some(tally) = self.classes.get_mut(usize::from(class)) else {
            return;
        };
        let mut own = (events.iter().zip(&mut *detected)).filter(|(e, _)| e.class == class);
        let near = own.find(|(event, found)| {
            let late = start < event.end + rules.tolerance_steps;
            let early = start + rules.tolerance_steps < event.start || end <= event.start;
            !**found && late && !early
        });
        if let Some((event, found)) = near {
            *found = true;
            tally.detected += 1;
            tally
                .latencies
                .push(start.saturating_sub(event.start) as u32);
        } else {
            let mut seen = (start..end).map(|t| labels[t]);
            match seen.find(|label| *label != UNLABELLED) {
                None => self.not_judged += 1,
                // What began in unlabelled steps is judged below.
                Some(label) if label == class && labels[start] == UNLABELLED => {}
                Some(label) => {
                    tally.false_alarms += 1;
                    tally.repeats += u32::from(label == class);
                }
            }
        }
        let after_gap = |event: &Span| {
            let before = event.start.checked_sub(1).map(|t| labels[t]);
            start < event.start && event.start < end && before == Some(UNLABELLED)
        };
        for (event, found) in events.iter().zip(detected) {
            if event.class == class && !*found && after_gap(event) {
                *found = true;
                tally.detected += 1;
                tally.latencies.push(0);
            }
        }
    }

    fn sum(&self, of: impl Fn(&ClassTally) -> u32) -> u32 {
        self.classes.iter().map(of).sum()
    }

    /// Events of all classes.
    pub fn events(&self) -> u32 {
        self.sum(|c| c.events)
    }

    /// Events that were detected.
    pub fn detected(&self) -> u32 {
        self.sum(|c| c.detected)
    }

    /// Events that were not.
    pub fn missed(&self) -> u32 {
        self.events() - self.detected()
    }

    /// False alarms of all classes, repeats included.
    pub fn false_alarms(&self) -> u32 {
        self.sum(|c| c.false_alarms)
    }

    /// Repeats of all classes.
    pub fn repeats(&self) -> u32 {
        self.sum(|c| c.repeats)
    }

    /// Hours of labelled time.
    pub fn hours(&self, rate_hz: f64) -> f64 {
        self.labelled as f64 / rate_hz / 3600.0
    }

    /// False alarms in an hour of labelled time; 0 where there is no such time.
    pub fn false_alarms_per_hour(&self, rate_hz: f64) -> f64 {
        match self.labelled {
            0 => 0.0,
            _ => f64::from(self.false_alarms()) / self.hours(rate_hz),
        }
    }

    /// Twice the detected events among these, the events and the detections and false alarms: 1 where every event
    /// is detected and nothing else is; also 1 where nothing was to detect and nothing was.
    pub fn f1(&self) -> f64 {
        let all = self.events() + self.detected() + self.false_alarms();
        match all {
            0 => 1.0,
            n => f64::from(2 * self.detected()) / f64::from(n),
        }
    }

    /// Steps of delay that this share of the detected events does not exceed (0.5 for the median).
    pub fn latency(&self, share: f64) -> Option<u32> {
        let all = self.classes.iter().flat_map(|c| &c.latencies);
        quantile(all.copied().collect(), share)
    }

    /// Share of labelled steps with the right outcome.
    pub fn time_right(&self) -> f64 {
        self.right as f64 / self.labelled.max(1) as f64
    }

    /// Share of labelled steps, those after the warm-up, with the outcome "unsure".
    pub fn unsure_share(&self) -> f64 {
        self.unsure as f64 / (self.labelled - self.not_ready).max(1) as f64
    }
}

impl ClassTally {
    /// As [`Tally::latency`], of the class.
    pub fn latency(&self, share: f64) -> Option<u32> {
        quantile(self.latencies.clone(), share)
    }
}

/// The smallest of `values` that at least this share of them does not exceed.
fn quantile(mut values: Vec<u32>, share: f64) -> Option<u32> {
    values.sort_unstable();
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

/// Counts what the rule of `model` makes of recordings whose outputs are known.
///
/// # Errors
/// Those of [`decide`].
pub fn count(model: &Model<'_>, recorded: &[Recorded], rules: &Rules) -> Result<Tally, StateError> {
    let mut tally = Tally::new(model.outputs());
    for r in recorded {
        tally.add(&r.labels, &decide(model, r)?, rules);
    }
    Ok(tally)
}

#[cfg(test)]
mod tests;
