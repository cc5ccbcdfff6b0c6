//! Chooses a decision rule on recordings: temperature, smoothing, thresholds, margin, hold and refractory time.
//!
//! The network runs once over each recording; a candidate then costs no more than its decisions. These come
//! from the very [`gru_core::Decider`] of the device, on the integers that the artifact will hold.
//!
//! The search is the same every time: the temperature by the likelihood of the labels; a grid over smoothing and
//! thresholds; from the best few of it steps along one setting at a time, as long as that is better; thresholds of
//! single classes at last, where one saves [`WORTH`] errors or more.

use std::cmp::Ordering;

use gru_core::Model;
use gru_core::Threshold;
use gru_core::artifact::{DecisionHeader, MAX_VOTES, Smoothing};
use gru_core::layout::Layout;
use gru_core::writer::{self, Aligned, QuantDecision, QuantModel};
use serde::{Deserialize, Serialize};

use crate::confidence::Sampled;
use crate::events::{self, Recorded, Rules, Tally};

/// Misses and false alarms that a threshold of its own must save to be worth it.
pub const WORTH: u32 = 2;
/// Rules from which the search goes on.
const STARTS: usize = 3;
/// The most rounds of steps from each of them.
const ROUNDS: usize = 6;
/// Thresholds that are tried first: 0.4 to 0.9.
const LEVELS: [u16; 6] = [13107, 16384, 19661, 22938, 26214, 29491];
/// Probability 1.
const ONE: u16 = 32768;

/// What is wanted; the `[decision.tune]` table of a recipe.
///
/// With `max_false_alarms_per_hour` the rule with the fewest misses among those that keep to it, then the one with
/// the lowest latency; without it the one with the largest F1 ([`Tally::f1`]), then the lowest latency.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TuneSpec {
    /// The most false alarms in an hour of labelled time.
    pub max_false_alarms_per_hour: Option<f64>,
    /// The longest delay in seconds that nine of ten detected events may have.
    pub max_latency_s: Option<f64>,
    /// A decision may come so many seconds before its event or after it; 0.5 where it is not given.
    pub tolerance_s: Option<f64>,
    /// Shorter events do not count, in seconds.
    pub min_event_s: f64,
}

impl TuneSpec {
    /// Whether every number can be; the error is one line.
    ///
    /// # Errors
    /// The first one that cannot.
    pub fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("max_false_alarms_per_hour", self.max_false_alarms_per_hour),
            ("max_latency_s", self.max_latency_s),
            ("tolerance_s", self.tolerance_s),
            ("min_event_s", Some(self.min_event_s)),
        ] {
            if let Some(value) = value
                && !(value.is_finite() && value >= 0.0)
            {
                return Err(format!("{name} {value}, expected 0 or more"));
            }
        }
        Ok(())
    }

    /// The rules of counting at a sample rate.
    pub fn rules(&self, background: Option<u16>, rate_hz: f64) -> Rules {
        let steps = |seconds: f64| (seconds * rate_hz).round() as usize;
        Rules {
            background,
            tolerance_steps: steps(self.tolerance_s.unwrap_or(0.5)),
            min_steps: steps(self.min_event_s),
        }
    }
}

/// A rule that was tried, and what it came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The rule.
    pub rule: QuantDecision,
    /// Its figures on the recordings.
    pub tally: Tally,
}

/// What the search came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// The rule that was chosen.
    pub chosen: Trial,
    /// The model with it; everything else is as it was.
    pub model: QuantModel,
    /// Rules that nothing beats in both misses and false alarms, the fewest false alarms first.
    pub front: Vec<Trial>,
    /// How many rules were tried.
    pub tried: usize,
    /// Mean negative log-likelihood and expected calibration error of the outputs, before and after; none where
    /// the outputs are probabilities by themselves.
    pub confidence: Option<Confidence>,
}

/// What the temperature does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confidence {
    /// Mean negative log-likelihood with the temperature that the artifact had (1 without a rule), and the new one.
    pub nll: [f64; 2],
    /// Expected calibration error with both.
    pub error: [f64; 2],
}

/// Why there is no rule.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TuneError {
    /// The data or a setting cannot be used.
    Invalid(String),
    /// No rule that was tried keeps to the limits and detects an event.
    OutOfReach(Box<Trial>),
}

impl std::fmt::Display for TuneError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(what) => f.write_str(what),
            Self::OutOfReach(closest) => write!(
                f,
                "no rule that keeps to the limits detects an event; the closest has {} false alarms and misses {} of {} events",
                closest.tally.false_alarms(),
                closest.tally.missed(),
                closest.tally.events()
            ),
        }
    }
}

impl std::error::Error for TuneError {}

/// The model as it decides with `rule`, without its self-test, which has nothing to do with it.
fn with_rule(model: &QuantModel, rule: Option<QuantDecision>) -> Result<Aligned, String> {
    let candidate = QuantModel {
        decision: rule,
        self_test: Vec::new(),
        ..model.clone()
    };
    let bytes = writer::write(&candidate, Layout::Rows).map_err(|e| e.to_string())?;
    Ok(Aligned::new(&bytes))
}

/// Figures of `model` with another rule, or with none, on recordings whose outputs are known.
///
/// # Errors
/// A rule that the loader refuses; outputs of another model.
pub fn figures(
    model: &QuantModel,
    rule: Option<&QuantDecision>,
    recorded: &[Recorded],
    rules: &Rules,
) -> Result<Tally, String> {
    let bytes = with_rule(model, rule.cloned())?;
    let loaded = Model::load(&bytes).map_err(|e| e.to_string())?;
    events::count(&loaded, recorded, rules).map_err(|e| e.to_string())
}

struct Search<'a> {
    model: &'a QuantModel,
    recorded: &'a [Recorded],
    rules: &'a Rules,
    wanted: &'a TuneSpec,
    rate_hz: f64,
    tried: Vec<Trial>,
}

impl Search<'_> {
    /// How far a tally is beyond the limits: 0 where it keeps to them.
    fn excess(&self, tally: &Tally) -> f64 {
        let over = |value: f64, limit: Option<f64>| match limit {
            Some(limit) if value > limit => (value - limit) / limit.max(1e-3),
            _ => 0.0,
        };
        let late = tally.latency(0.9).map_or(0.0, f64::from) / self.rate_hz;
        over(
            tally.false_alarms_per_hour(self.rate_hz),
            self.wanted.max_false_alarms_per_hour,
        ) + over(late, self.wanted.max_latency_s)
    }

    /// Less is better.
    fn compare(&self, a: &Tally, b: &Tally) -> Ordering {
        let first = self.excess(a).total_cmp(&self.excess(b));
        let second = match self.wanted.max_false_alarms_per_hour {
            Some(_) => a.missed().cmp(&b.missed()),
            None => b.f1().total_cmp(&a.f1()),
        };
        (first.then(second))
            .then(a.latency(0.5).cmp(&b.latency(0.5)))
            .then(a.false_alarms().cmp(&b.false_alarms()))
    }

    /// The number of the trial of `rule`; nothing for a rule that cannot be.
    fn try_rule(&mut self, rule: QuantDecision) -> Result<Option<usize>, String> {
        if let Some(known) = self.tried.iter().position(|t| t.rule == rule) {
            return Ok(Some(known));
        }
        if !is_sound(&rule) {
            return Ok(None);
        }
        let tally = figures(self.model, Some(&rule), self.recorded, self.rules)?;
        self.tried.push(Trial { rule, tally });
        Ok(Some(self.tried.len() - 1))
    }

    /// Steps along one setting at a time from trial `at`, each to the best neighbour, as long as that is better.
    fn descend(&mut self, mut at: usize) -> Result<usize, String> {
        for _ in 0..ROUNDS {
            let mut best = at;
            for rule in neighbours(&self.tried[at].rule, self.rate_hz) {
                if let Some(trial) = self.try_rule(rule)? {
                    let (a, b) = (&self.tried[trial].tally, &self.tried[best].tally);
                    if self.compare(a, b) == Ordering::Less {
                        best = trial;
                    }
                }
            }
            if best == at {
                break;
            }
            at = best;
        }
        Ok(at)
    }

    /// Thresholds of single classes, each taken if it saves [`WORTH`] errors and is no step back.
    fn classes(&mut self, mut at: usize) -> Result<usize, String> {
        let errors = |tally: &Tally| tally.missed() + tally.false_alarms();
        for class in 0..self.tried[at].rule.thresholds.len() {
            if self.rules.background.map(usize::from) == Some(class) {
                continue;
            }
            let from = self.tried[at].rule.clone();
            let Threshold { enter, .. } = from.thresholds[class];
            let mut best = at;
            let beside = [-9830i32, -4915, -2458, 2458, 4915];
            let beside = beside.map(|by| (i32::from(enter) + by).clamp(0, ONE.into()) as u16);
            for enter in beside.into_iter().chain(LEVELS) {
                for kept in [ONE, 16384] {
                    let mut rule = from.clone();
                    rule.thresholds[class] = level(enter, kept);
                    let Some(trial) = self.try_rule(rule)? else {
                        continue;
                    };
                    let (a, b) = (&self.tried[trial].tally, &self.tried[best].tally);
                    let saved = errors(&self.tried[at].tally).saturating_sub(errors(a));
                    if saved >= WORTH && self.compare(a, b) == Ordering::Less {
                        best = trial;
                    }
                }
            }
            at = best;
        }
        Ok(at)
    }
}

/// A threshold that is left again below the share `kept` (Q15) of `enter`.
fn level(enter: u16, kept: u16) -> Threshold {
    Threshold {
        enter,
        release: ((u32::from(enter) * u32::from(kept)) >> 15) as u16,
    }
}

/// What the loader would say of smoothing and margin.
fn is_sound(rule: &QuantDecision) -> bool {
    let smoothing = match rule.header.smoothing {
        Smoothing::None => true,
        Smoothing::Exponential { shift } => (1..=12).contains(&shift),
        Smoothing::Votes { of, enter, keep } => {
            let places = usize::from(of) <= MAX_VOTES;
            places && 1 <= keep && keep <= enter && enter <= of && rule.header.margin == 0
        }
    };
    let sound = |t: &Threshold| t.release <= t.enter && t.enter <= ONE;
    smoothing && rule.header.margin <= ONE && rule.thresholds.iter().all(sound)
}

/// The time constants of an exponential mean that are tried: up to about four seconds.
fn longest_shift(rate_hz: f64) -> u8 {
    (libm::log2(4.0 * rate_hz).ceil()).clamp(3.0, 12.0) as u8
}

fn grid(start: &QuantDecision, rate_hz: f64) -> Vec<QuantDecision> {
    let mut all = Vec::new();
    let mut add = |smoothing: Smoothing, enter: u16, kept: u16| {
        let mut rule = start.clone();
        rule.header.smoothing = smoothing;
        rule.thresholds.fill(level(enter, kept));
        all.push(rule);
    };
    let levels = |add: &mut dyn FnMut(u16, u16)| {
        add(0, ONE);
        for enter in LEVELS {
            for kept in [ONE, 22938, 13107] {
                add(enter, kept);
            }
        }
    };
    levels(&mut |enter, kept| add(Smoothing::None, enter, kept));
    for shift in 1..=longest_shift(rate_hz) {
        let smoothing = Smoothing::Exponential { shift };
        levels(&mut |enter, kept| add(smoothing, enter, kept));
    }
    for of in [5u8, 9, 17, 32] {
        for enter in [of / 2 + 1, of - of / 4] {
            for keep in [enter, of.div_ceil(4)] {
                for vote in [0, 16384, 26214] {
                    add(Smoothing::Votes { of, enter, keep }, vote, ONE);
                }
            }
        }
    }
    all
}

/// Rules one step away, the simplest changes first.
fn neighbours(rule: &QuantDecision, rate_hz: f64) -> Vec<QuantDecision> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut QuantDecision)| {
        let mut next = rule.clone();
        change(&mut next);
        if next != *rule {
            all.push(next);
        }
    };
    let smoothing = |s: Smoothing| move |r: &mut QuantDecision| r.header.smoothing = s;
    match rule.header.smoothing {
        Smoothing::None => add(&smoothing(Smoothing::Exponential { shift: 1 })),
        Smoothing::Exponential { shift } => {
            for shift in [shift - 1, shift + 1] {
                add(&smoothing(match shift {
                    0 => Smoothing::None,
                    _ => Smoothing::Exponential { shift },
                }));
            }
        }
        Smoothing::Votes { of, enter, keep } => {
            let votes = |of, enter, keep| smoothing(Smoothing::Votes { of, enter, keep });
            for by in [1, 3] {
                add(&votes(of.saturating_sub(by), enter, keep));
                add(&votes(of + by, enter, keep));
                add(&votes(of, enter.saturating_sub(by), keep));
                add(&votes(of, enter + by, keep));
                add(&votes(of, enter, keep.saturating_sub(by)));
                add(&votes(of, enter, keep + by));
            }
        }
    }
    for by in [-3277i32, -1638, -655, 655, 1638, 3277] {
        let moved = |v: u16| (i32::from(v) + by).clamp(0, ONE.into()) as u16;
        add(&|r| {
            for t in &mut r.thresholds {
                let enter = moved(t.enter);
                *t = Threshold {
                    enter,
                    release: t.release.min(enter),
                };
            }
        });
        add(&|r| {
            for t in &mut r.thresholds {
                t.release = moved(t.release).min(t.enter);
            }
        });
    }
    let ladder = [0.0, 0.1, 0.25, 0.5, 1.0, 2.0].map(|s: f64| (s * rate_hz).round() as u16);
    let beside = |steps: u16, to: &mut dyn FnMut(u16)| {
        if let Some(less) = ladder.iter().rev().find(|l| **l < steps) {
            to(*less);
        }
        if let Some(more) = ladder.iter().find(|l| **l > steps) {
            to(*more);
        }
    };
    for by in [-1638i32, 1638, 4915] {
        let margin = (i32::from(rule.header.margin) + by).clamp(0, ONE.into()) as u16;
        add(&|r| r.header.margin = margin);
    }
    beside(rule.header.hold_steps, &mut |steps| {
        add(&|r| r.header.hold_steps = steps);
    });
    beside(rule.header.refractory_steps, &mut |steps| {
        add(&|r| r.header.refractory_steps = steps);
    });
    all
}

/// The largest inverse temperature that the model's outputs allow; none where they are probabilities already.
fn most_inverse(model: &QuantModel, start: &QuantDecision) -> Option<u16> {
    let allowed = |inverse: u16| {
        let mut rule = start.clone();
        rule.header.inverse_temperature = inverse;
        with_rule(model, Some(rule)).is_ok()
    };
    // 65535, 32767, … 4095: none is neutral, and a sigmoid's outputs take no other.
    let mut halves = std::iter::successors(Some(u16::MAX), |i| Some(i / 2)).take(5);
    halves.find(|inverse| allowed(*inverse))
}

/// Whether the outputs of `model` are logits, which a temperature can scale, and no probabilities.
pub fn has_logits(model: &QuantModel) -> bool {
    let outputs = match model.layers.last() {
        Some(writer::QuantLayer::Dense(d)) => d.header.units,
        Some(writer::QuantLayer::Gru(g)) => g.header.units,
        None => 0,
    };
    let start = QuantDecision {
        header: DecisionHeader::new(),
        thresholds: vec![Threshold::default(); outputs.into()],
    };
    most_inverse(model, &start).is_some()
}

/// Chooses a rule for `model`, whose outputs on some recordings are known.
///
/// `rules` say how events are counted and which class is the background. Interval and warm-up stay those of the
/// model.
///
/// # Errors
/// [`TuneError::Invalid`]: no events, no sample rate, a limit that is no number. [`TuneError::OutOfReach`].
pub fn tune(
    model: &QuantModel,
    recorded: &[Recorded],
    rules: &Rules,
    wanted: &TuneSpec,
    rate_hz: f64,
) -> Result<Tuned, TuneError> {
    let invalid = TuneError::Invalid;
    wanted.check().map_err(invalid)?;
    if !(rate_hz > 0.0 && rate_hz.is_finite()) {
        return Err(invalid("the sample rate is not known".into()));
    }
    if !(recorded.iter()).any(|r| !events::events_of(&r.labels, rules).is_empty()) {
        return Err(invalid(format!(
            "no event in {} recordings to tune on",
            recorded.len()
        )));
    }
    let bytes = with_rule(model, None).map_err(invalid)?;
    let plain = Model::load(&bytes).map_err(|e| invalid(e.to_string()))?;
    let before = model
        .decision
        .as_ref()
        .map_or_else(DecisionHeader::new, |d| d.header);
    let mut start = QuantDecision {
        header: DecisionHeader {
            every_steps: before.every_steps,
            background: rules.background,
            ..DecisionHeader::new()
        },
        thresholds: vec![Threshold::default(); plain.outputs()],
    };
    let sampled = most_inverse(model, &start).map(|most| {
        let (outputs, frac) = (plain.outputs(), plain.output_frac());
        let sampled = Sampled::new(recorded, outputs, frac, model.warm_up_steps);
        if !sampled.is_empty() {
            start.header.inverse_temperature = sampled.best_inverse_temperature(most);
        }
        sampled
    });
    let mut search = Search {
        model,
        recorded,
        rules,
        wanted,
        rate_hz,
        tried: Vec::new(),
    };
    // The rule that there is takes part, as it is and with the new temperature: nothing worse is chosen.
    if let Some(present) = &model.decision {
        let mut present = present.clone();
        present.header.background = rules.background;
        search.try_rule(present.clone()).map_err(invalid)?;
        present.header.inverse_temperature = start.header.inverse_temperature;
        search.try_rule(present).map_err(invalid)?;
    }
    for rule in grid(&start, rate_hz) {
        search.try_rule(rule).map_err(invalid)?;
    }
    let mut order: Vec<usize> = (0..search.tried.len()).collect();
    order.sort_by(|a, b| search.compare(&search.tried[*a].tally, &search.tried[*b].tally));
    // The best of each kind of smoothing.
    let mut starts: Vec<usize> = Vec::new();
    for trial in order {
        let kind = |t: &usize| search.tried[*t].rule.header.smoothing;
        if starts.len() < STARTS && !starts.iter().any(|s| kind(s) == kind(&trial)) {
            starts.push(trial);
        }
    }
    let mut best = *starts.first().unwrap_or(&0);
    for from in starts {
        let end = search.descend(from).map_err(invalid)?;
        let (a, b) = (&search.tried[end].tally, &search.tried[best].tally);
        if search.compare(a, b) == Ordering::Less {
            best = end;
        }
    }
    let best = search.classes(best).map_err(invalid)?;
    let chosen = search.tried[best].clone();
    if search.excess(&chosen.tally) > 0.0 || chosen.tally.detected() == 0 {
        return Err(TuneError::OutOfReach(Box::new(chosen)));
    }
    let inverse = [
        before.inverse_temperature,
        chosen.rule.header.inverse_temperature,
    ];
    Ok(Tuned {
        confidence: sampled.map(|sampled| Confidence {
            nll: inverse.map(|t| sampled.nll(t)),
            error: inverse.map(|t| sampled.calibration_error(t)),
        }),
        model: QuantModel {
            decision: Some(chosen.rule.clone()),
            ..model.clone()
        },
        front: front(&search.tried),
        tried: search.tried.len(),
        chosen,
    })
}

/// The trials that no other beats in misses or false alarms without losing the other, the quickest of equals.
fn front(tried: &[Trial]) -> Vec<Trial> {
    let key = |t: &Trial| {
        (
            t.tally.false_alarms(),
            t.tally.missed(),
            t.tally.latency(0.5),
        )
    };
    let mut order: Vec<&Trial> = tried.iter().collect();
    order.sort_by_key(|t| key(t));
    let mut out: Vec<Trial> = Vec::new();
    for trial in order {
        if out
            .last()
            .is_none_or(|t| trial.tally.missed() < t.tally.missed())
        {
            out.push(trial.clone());
        }
    }
    out
}

#[cfg(test)]
mod tests;
