//! Decisions against a reference that keeps everything and computes in `f64`, and the edges of the rule.
#![cfg(feature = "std")]

use gru_core::activation::Activation;
use gru_core::artifact::{DecisionHeader, DenseHeader, GapPolicy, Readout, Smoothing};
use gru_core::layout::Layout;
use gru_core::random::{self, SplitMix};
use gru_core::writer::{Aligned, QuantDecision, QuantLayer, QuantModel, WriteError, read, write};
use gru_core::{
    Decider, DeciderRef, Decision, Field, LoadError, Model, StateError, Stream, Threshold,
};
use proptest::prelude::*;

const ONE: u16 = 32768;

/// A model whose outputs are probabilities (`frac` none) or logits.
fn model(outputs: usize, frac: Option<u8>, warm_up: u16, rule: &QuantDecision) -> QuantModel {
    let mut model = random::model(outputs as u64, 2, &[4], outputs);
    let header = DenseHeader {
        units: outputs as u16,
        activation: match frac {
            Some(_) => Activation::Linear,
            None => Activation::Sigmoid,
        },
        frac: frac.unwrap_or(0),
    };
    let dense = random::dense(&mut SplitMix(4), 4, header);
    *model.layers.last_mut().unwrap() = QuantLayer::Dense(dense);
    model.warm_up_steps = warm_up;
    model.decision = Some(rule.clone());
    model
}

fn rule(header: DecisionHeader, thresholds: &[(u16, u16)]) -> QuantDecision {
    QuantDecision {
        header,
        thresholds: (thresholds.iter())
            .map(|&(enter, release)| Threshold { enter, release })
            .collect(),
    }
}

/// Decisions on `stream`, outputs of step 1, 2, …
fn decisions(model: &QuantModel, stream: &[Vec<i16>]) -> Vec<Decision> {
    let bytes = Aligned::new(&write(model, Layout::Rows).unwrap());
    let model = Model::load(&bytes).unwrap();
    let mut decider = Decider::<64>::new(&model).unwrap();
    (stream.iter().zip(1..))
        .filter_map(|(outputs, step)| decider.decide_outputs(&model, outputs, step).unwrap())
        .collect()
}

/// What the documentation of the module says, in other words: everything is kept, nothing counted down. `near` tells
/// whether a comparison was too close to expect the same answer from rounded numbers.
struct Reference<'r> {
    rule: &'r QuantDecision,
    warm_up: u32,
    tolerance: f64,
    near: bool,
}

impl Reference<'_> {
    fn below(&mut self, a: f64, b: f64) -> bool {
        self.near |= (a - b).abs() <= self.tolerance && a != b || self.tolerance > 0.0 && a == b;
        a < b
    }

    fn largest(&mut self, values: &[f64]) -> usize {
        let mut best = 0;
        for k in 1..values.len() {
            if self.below(values[best], values[k]) {
                best = k;
            }
        }
        best
    }

    /// `stream[t - 1]` are the probabilities in units of Q15 after step `t`.
    fn run(&mut self, stream: &[Vec<f64>]) -> Vec<(u32, Option<usize>, f64)> {
        let h = self.rule.header;
        let thresholds = &self.rule.thresholds;
        let first = self.warm_up.max(1);
        let mut looks: Vec<Vec<f64>> = Vec::new();
        let mut means: Vec<Vec<f64>> = Vec::new();
        let mut votes: Vec<Option<usize>> = Vec::new();
        let mut events: Vec<u32> = Vec::new();
        let mut out: Vec<(u32, Option<usize>, f64)> = Vec::new();
        for (p, t) in stream.iter().zip(1u32..) {
            if t < first || !(t - first).is_multiple_of(h.every_steps.into()) {
                continue;
            }
            looks.push(p.clone());
            let present = out.last().and_then(|d| d.1);
            let mut unit = 1.0;
            let scores: Vec<f64> = match h.smoothing {
                Smoothing::None => p.clone(),
                Smoothing::Exponential { shift } => {
                    let weight = 0.5f64.powi(shift.into());
                    let mean = match means.last() {
                        None => p.clone(),
                        Some(m) => (m.iter().zip(p))
                            .map(|(m, p)| m + weight * (p - m))
                            .collect(),
                    };
                    means.push(mean.clone());
                    mean
                }
                Smoothing::Votes { of, .. } => {
                    let best = self.largest(p);
                    let needed = match present == Some(best) {
                        true => thresholds[best].release,
                        false => thresholds[best].enter,
                    };
                    let fails = self.below(p[best], needed.into());
                    votes.push((!fails).then_some(best));
                    let latest = &votes[votes.len().saturating_sub(of.into())..];
                    unit = 32768.0 / f64::from(of);
                    (0..p.len())
                        .map(|k| latest.iter().filter(|v| **v == Some(k)).count() as f64)
                        .collect()
                }
            };
            let exact = matches!(h.smoothing, Smoothing::Votes { .. });
            let tolerance = std::mem::replace(&mut self.tolerance, 0.0);
            if !exact {
                self.tolerance = tolerance;
            }
            let best = self.largest(&scores);
            let (enter, keep): (Vec<f64>, Vec<f64>) = match h.smoothing {
                Smoothing::Votes { enter, keep, .. } => {
                    let all = |n: u8| vec![f64::from(n); p.len()];
                    (all(enter), all(keep))
                }
                _ => thresholds
                    .iter()
                    .map(|t| (f64::from(t.enter), f64::from(t.release)))
                    .unzip(),
            };
            let enters = !self.below(scores[best], enter[best]);
            let is_event = |class: usize| h.background.map(usize::from) != Some(class);
            let resting = events
                .last()
                .is_some_and(|e| t - e < h.refractory_steps.into());
            let blocked = resting && is_event(best);
            let held =
                present.is_some() && out.last().is_some_and(|d| t - d.0 < h.hold_steps.into());
            let next = match present {
                Some(c) if held => Some(c),
                Some(c) if best == c && enters => Some(c),
                Some(c) => {
                    let supported = !self.below(scores[c], keep[c]);
                    let challenged = enters && !blocked;
                    let beaten = best != c
                        && !self.below(scores[best] - scores[c], f64::from(h.margin.max(1)));
                    match (supported, challenged) {
                        (true, true) if beaten => Some(best),
                        (true, _) => Some(c),
                        (false, true) => Some(best),
                        (false, false) => None,
                    }
                }
                None if enters && !blocked => Some(best),
                None => None,
            };
            self.tolerance = tolerance;
            if out.is_empty() || out.last().is_some_and(|d| d.1 != next) {
                out.push((t, next, scores[next.unwrap_or(best)] * unit));
                if next.is_some_and(is_event) {
                    events.push(t);
                }
            }
        }
        out
    }
}

fn smoothing() -> impl Strategy<Value = Smoothing> {
    prop_oneof![
        Just(Smoothing::None),
        (1u8..=12).prop_map(|shift| Smoothing::Exponential { shift }),
        (1u8..=32, any::<u8>(), any::<u8>()).prop_map(|(of, enter, keep)| {
            let enter = 1 + enter % of;
            let keep = 1 + keep % enter;
            Smoothing::Votes { of, enter, keep }
        }),
    ]
}

fn any_rule(outputs: usize) -> impl Strategy<Value = QuantDecision> {
    let times = (
        prop_oneof![3 => Just(1u16), 1 => 1u16..5],
        prop_oneof![1 => Just(0u16), 2 => 0u16..30],
        prop_oneof![1 => Just(0u16), 2 => 0u16..40],
    );
    let background = prop_oneof![Just(None), (0..outputs as u16).prop_map(Some)];
    let levels = prop::collection::vec((0u16..=20000, 0u16..=ONE), outputs);
    let margin = prop_oneof![Just(0u16), 0u16..=16000];
    (smoothing(), times, background, levels, margin).prop_map(
        |(smoothing, (every_steps, hold_steps, refractory_steps), background, levels, margin)| {
            let header = DecisionHeader {
                every_steps,
                smoothing,
                hold_steps,
                refractory_steps,
                background,
                margin: match smoothing {
                    Smoothing::Votes { .. } => 0,
                    _ => margin,
                },
                ..DecisionHeader::new()
            };
            let levels: Vec<_> = (levels.into_iter())
                .map(|(enter, release)| (enter, release % (enter + 1)))
                .collect();
            rule(header, &levels)
        },
    )
}

/// Streams that rest, jump and dither, so that thresholds are crossed again and again.
fn stream(outputs: usize, low: i16, high: i16) -> impl Strategy<Value = Vec<Vec<i16>>> {
    let sample = prop::collection::vec(low..=high, outputs);
    prop::collection::vec((sample, 1usize..8, 0i16..600), 1..40).prop_map(move |pieces| {
        let mut rng = SplitMix(pieces.len() as u64);
        let mut out = Vec::new();
        for (level, steps, dither) in pieces {
            for _ in 0..steps {
                let noisy = |v: &i16| {
                    let noise = rng.range(-i64::from(dither), i64::from(dither)) as i16;
                    v.saturating_add(noise).clamp(low, high)
                };
                out.push(level.iter().map(noisy).collect());
            }
        }
        out
    })
}

fn cases(n: u32) -> ProptestConfig {
    // Under the interpreter a handful; the bits are the same.
    ProptestConfig {
        cases: if cfg!(miri) { 4 } else { n },
        failure_persistence: None,
        max_global_rejects: 8 * n,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(3000))]

    /// Outputs that are probabilities: every number is exact, so every decision has to be.
    #[test]
    fn events_equal_the_reference_exactly(
        (rule, stream, warm_up) in (1usize..6).prop_flat_map(|n| (any_rule(n), stream(n, -200, 32767), 0u16..20)),
    ) {
        let exact = !matches!(rule.header.smoothing, Smoothing::Exponential { .. });
        let outputs = stream[0].len();
        let model = model(outputs, None, warm_up, &rule);
        let p: Vec<Vec<f64>> = (stream.iter())
            .map(|s| s.iter().map(|v| f64::from(*v).max(0.0)).collect())
            .collect();
        let mut reference = Reference {
            rule: &rule,
            warm_up: warm_up.into(),
            tolerance: if exact { 0.0 } else { 1.2 },
            near: false,
        };
        let want = reference.run(&p);
        prop_assume!(exact || !reference.near);
        let got = decisions(&model, &stream);
        let of = |d: &Decision| (d.step, d.class().map(usize::from));
        prop_assert_eq!(
            got.iter().map(of).collect::<Vec<_>>(),
            want.iter().map(|w| (w.0, w.1)).collect::<Vec<_>>()
        );
        for (got, want) in got.iter().zip(&want) {
            prop_assert!((f64::from(got.confidence) - want.2).abs() <= 1.0, "{:?} {:?}", got, want);
        }
    }

    /// Logits: wherever `f64` is not within a few units of a threshold, the same decisions.
    #[test]
    fn events_of_logits_equal_those_of_f64(
        (rule, stream, warm_up) in (2usize..6).prop_flat_map(|n| (any_rule(n), stream(n, -4000, 4000), 0u16..20)),
        inverse in 256u16..=65535,
    ) {
        let mut rule = rule;
        rule.header.inverse_temperature = inverse;
        let outputs = stream[0].len();
        let model = model(outputs, Some(10), warm_up, &rule);
        let p: Vec<Vec<f64>> = (stream.iter())
            .map(|s| {
                let scale = f64::from(inverse) / 4096.0 / 1024.0;
                let top = f64::from(*s.iter().max().unwrap());
                let e: Vec<f64> = s.iter().map(|v| ((f64::from(*v) - top) * scale).exp()).collect();
                let sum: f64 = e.iter().sum();
                e.iter().map(|e| e / sum * 32768.0).collect()
            })
            .collect();
        let mut reference = Reference {
            rule: &rule,
            warm_up: warm_up.into(),
            tolerance: 6.0,
            near: false,
        };
        let want = reference.run(&p);
        prop_assume!(!reference.near);
        let got = decisions(&model, &stream);
        let of = |d: &Decision| (d.step, d.class().map(usize::from));
        prop_assert_eq!(
            got.iter().map(of).collect::<Vec<_>>(),
            want.iter().map(|w| (w.0, w.1)).collect::<Vec<_>>()
        );
        for (got, want) in got.iter().zip(&want) {
            prop_assert!((f64::from(got.confidence) - want.2).abs() <= 4.0, "{:?} {:?}", got, want);
        }
    }
}

/// The class of every step of a two-class stream whose first output is `p` and whose second one is the rest.
fn outcomes(rule: &QuantDecision, warm_up: u16, p: &[u16]) -> Vec<(u32, Option<u16>)> {
    let stream: Vec<Vec<i16>> = (p.iter())
        .map(|&p| vec![p.min(32767) as i16, (ONE - 1 - p.min(32767)) as i16])
        .collect();
    (decisions(&model(2, None, warm_up, rule), &stream).iter())
        .map(|d| (d.step, d.class()))
        .collect()
}

#[test]
fn hysteresis_keeps_what_is_above_the_release_threshold() {
    let header = DecisionHeader::new();
    let never = (ONE, ONE);
    // 20000 enters, 15000 stays, 9999 leaves, 15000 does not enter again.
    let p = [0, 20000, 15000, 10000, 9999, 15000, 19999, 20000];
    let with = rule(header, &[(20000, 10000), never]);
    assert_eq!(
        outcomes(&with, 0, &p),
        [(1, None), (2, Some(0)), (5, None), (8, Some(0))]
    );
    let without = rule(header, &[(20000, 20000), never]);
    assert_eq!(
        outcomes(&without, 0, &p),
        [(1, None), (2, Some(0)), (3, None), (8, Some(0))]
    );
}

#[test]
fn a_margin_keeps_a_class_against_a_slightly_better_one() {
    let mut header = DecisionHeader::new();
    let p = [20000, 16000, 14000, 12000, 21000];
    assert_eq!(
        outcomes(&rule(header, &[(0, 0), (0, 0)]), 0, &p),
        [(1, Some(0)), (2, Some(1)), (5, Some(0))]
    );
    // 32767 − 2 · 14000 = 4767 is less than the margin, 32767 − 2 · 12000 = 8767 is not.
    header.margin = 8767;
    assert_eq!(
        outcomes(&rule(header, &[(0, 0), (0, 0)]), 0, &p),
        [(1, Some(0)), (4, Some(1)), (5, Some(0))]
    );
    header.margin = 8768;
    assert_eq!(
        outcomes(&rule(header, &[(0, 0), (0, 0)]), 0, &p),
        [(1, Some(0))]
    );
    // A class below its release threshold has no margin to hide behind.
    assert_eq!(
        outcomes(&rule(header, &[(0, 0), (0, 0)]), 0, &p).len() + 2,
        outcomes(&rule(header, &[(15000, 12001), (0, 0)]), 0, &p).len()
    );
}

#[test]
fn a_class_stands_for_its_hold_time() {
    let p = [20000, 0, 0, 0, 0, 20000, 0];
    for (hold_steps, until) in [(0, 2), (1, 2), (2, 3), (4, 5)] {
        let header = DecisionHeader {
            hold_steps,
            ..DecisionHeader::new()
        };
        let seen = outcomes(&rule(header, &[(20000, 20000), (ONE, ONE)]), 0, &p);
        assert_eq!(seen[..2], [(1, Some(0)), (until, None)], "{hold_steps}");
    }
}

#[test]
fn no_event_within_the_refractory_time() {
    let p = [0, 20000, 0, 20000, 0, 20000, 0, 20000];
    let levels = [(20000, 20000), (ONE, ONE)];
    let mut header = DecisionHeader {
        refractory_steps: 4,
        ..DecisionHeader::new()
    };
    assert_eq!(
        outcomes(&rule(header, &levels), 0, &p),
        [(1, None), (2, Some(0)), (3, None), (6, Some(0)), (7, None)]
    );
    header.refractory_steps = 5;
    assert_eq!(
        outcomes(&rule(header, &levels), 0, &p),
        [(1, None), (2, Some(0)), (3, None), (8, Some(0))]
    );
    // Of the background there is always another one, and it starts no refractory time.
    header.background = Some(0);
    assert_eq!(outcomes(&rule(header, &levels), 0, &p).len(), 8);
}

#[test]
fn votes_enter_at_n_of_m_and_leave_below_keep() {
    let header = DecisionHeader {
        smoothing: Smoothing::Votes {
            of: 3,
            enter: 2,
            keep: 1,
        },
        ..DecisionHeader::new()
    };
    let levels = [(20000, 20000), (ONE, ONE)];
    let p = [20000, 0, 0, 20000, 20000, 0, 0, 0, 20000, 0, 20000];
    assert_eq!(
        outcomes(&rule(header, &levels), 0, &p),
        [(1, None), (5, Some(0)), (8, None), (11, Some(0))]
    );
}

#[test]
fn nothing_before_the_warm_up_and_then_at_once() {
    let p = [32767; 9];
    let levels = [(20000, 20000), (ONE, ONE)];
    let at_once = rule(DecisionHeader::new(), &levels);
    assert_eq!(outcomes(&at_once, 0, &p), [(1, Some(0))]);
    assert_eq!(outcomes(&at_once, 1, &p), [(1, Some(0))]);
    assert_eq!(outcomes(&at_once, 7, &p), [(7, Some(0))]);
    assert_eq!(outcomes(&at_once, 10, &p), []);
    // The first decision comes even if it is unsure.
    let never = rule(DecisionHeader::new(), &[(ONE, ONE), (ONE, ONE)]);
    assert_eq!(outcomes(&never, 7, &p), [(7, None)]);
}

#[test]
fn without_a_rule_the_most_probable_class_of_every_step() {
    let mut model = random::model(4, 2, &[6], 4);
    model.readout = Readout::Exponential { shift: 2 };
    model.warm_up_steps = 3;
    let bytes = Aligned::new(&write(&model, Layout::Pair).unwrap());
    let model = Model::load(&bytes).unwrap();
    assert_eq!((model.decision(), model.decider_len()), (None, 4));
    let mut stream = Stream::<256, 4>::new(&model).unwrap();
    let mut rng = SplitMix(5);
    let (mut class, mut changes) = (None, 0);
    let (steps, least) = if cfg!(miri) { (40, 1) } else { (500, 20) };
    for _ in 0..steps {
        let decision = stream.push(&rng.sample(2)).unwrap();
        let output = stream.output();
        let best = output.is_ready().then(|| output.argmax() as u16);
        assert_eq!(
            decision.and_then(|d| d.class()),
            best.filter(|_| best != class)
        );
        if let Some(decision) = decision {
            let mut p = [0; 4];
            output.probabilities(&mut p);
            assert_eq!(decision.confidence, p[decision.class().unwrap() as usize]);
            assert_eq!(decision.step, stream.steps());
            changes += 1;
        }
        class = best;
    }
    assert!(changes > least, "{changes}");
}

/// A rule with a bit of everything, on logits.
fn full_rule(smoothing: Smoothing) -> QuantDecision {
    let header = DecisionHeader {
        inverse_temperature: 6000,
        every_steps: 2,
        smoothing,
        hold_steps: 3,
        refractory_steps: 7,
        background: Some(1),
        margin: 0,
    };
    rule(header, &[(14000, 9000), (12000, 11000), (13000, 2000)])
}

const SMOOTHINGS: [Smoothing; 3] = [
    Smoothing::None,
    Smoothing::Exponential { shift: 2 },
    Smoothing::Votes {
        of: 7,
        enter: 3,
        keep: 2,
    },
];

#[test]
fn a_snapshot_goes_on_bit_for_bit_and_damage_is_refused() {
    for smoothing in SMOOTHINGS {
        let quant = model(3, Some(8), 5, &full_rule(smoothing));
        let bytes = Aligned::new(&write(&quant, Layout::Pair).unwrap());
        let model = Model::load(&bytes).unwrap();
        let mut stream = Stream::<64, 9>::new(&model).unwrap();
        let mut saved = vec![0; stream.snapshot_len()];
        let mut rng = SplitMix(8);
        let mut decisions = 0;
        let (steps, least) = if cfg!(miri) { (30, 1) } else { (400, 10) };
        for t in 0..steps {
            assert_eq!(stream.snapshot(&mut saved), Ok(saved.len()));
            let mut woken = Stream::<64, 16>::new(&model).unwrap();
            woken.restore(&saved).unwrap();
            assert_eq!(woken.outcome(), stream.outcome());
            let mut again = vec![0; saved.len()];
            woken.snapshot(&mut again).unwrap();
            assert_eq!(again, saved, "step {t}");
            let sample = rng.sample(2);
            let decision = stream.push(&sample);
            assert_eq!(woken.push(&sample), decision, "step {t}");
            decisions += decision.unwrap().is_some() as usize;
        }
        assert!(decisions > least, "{decisions}");
        let before = stream.outcome();
        for bit in (0..saved.len() * 8).step_by(if cfg!(miri) { 61 } else { 1 }) {
            let mut damaged = saved.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(stream.restore(&damaged), Err(StateError::Snapshot));
            assert_eq!(stream.outcome(), before);
        }
        assert_eq!(stream.restore(&saved[1..]), Err(StateError::Snapshot));
        assert_eq!(stream.snapshot(&mut saved[1..]), Err(StateError::Snapshot));
        let mut other = quant.clone();
        other.name.push('2');
        let bytes = Aligned::new(&write(&other, Layout::Pair).unwrap());
        let other = Model::load(&bytes).unwrap();
        let mut foreign = Stream::<64, 9>::new(&other).unwrap();
        assert!(matches!(
            foreign.restore(&saved),
            Err(StateError::ForeignModel { .. })
        ));
        let mut decider = Decider::<9>::new(&model).unwrap();
        assert!(matches!(
            decider.decide(&other, foreign.state()),
            Err(StateError::ForeignModel { .. })
        ));
        assert!(matches!(
            decider.decide_outputs(&model, &[0; 2], 1),
            Err(StateError::SampleLen {
                found: 2,
                expected: 3
            })
        ));
    }
}

#[test]
fn a_snapshot_with_a_right_checksum_and_wrong_content_is_refused() {
    let quant = model(3, Some(8), 5, &full_rule(SMOOTHINGS[2]));
    let bytes = Aligned::new(&write(&quant, Layout::Pair).unwrap());
    let model = Model::load(&bytes).unwrap();
    let mut decider = Decider::<6>::new(&model).unwrap();
    let mut saved = vec![0; DeciderRef::snapshot_len(&model)];
    decider.snapshot(&model, &mut saved).unwrap();
    // Outcome, number of votes; one vote in the first place.
    for (at, bad) in [(12, 3u16), (12, 0xfffd), (20, 8), (20, u16::MAX)] {
        let mut wrong = saved.clone();
        wrong[at..at + 2].copy_from_slice(&bad.to_le_bytes());
        let crc = gru_core::artifact::crc32(&wrong[4..]).to_le_bytes();
        wrong[..4].copy_from_slice(&crc);
        assert_eq!(decider.restore(&model, &wrong), Err(StateError::Snapshot));
    }
    let mut wrong = saved.clone();
    wrong[20] = 1;
    wrong[22] = 3;
    let crc = gru_core::artifact::crc32(&wrong[4..]).to_le_bytes();
    wrong[..4].copy_from_slice(&crc);
    assert_eq!(decider.restore(&model, &wrong), Err(StateError::Snapshot));
}

#[test]
fn one_step_is_looked_at_once_and_a_reset_state_starts_anew() {
    let mut quant = model(3, Some(8), 4, &full_rule(SMOOTHINGS[1]));
    quant.gap = GapPolicy::Skip;
    let bytes = Aligned::new(&write(&quant, Layout::Rows).unwrap());
    let model = Model::load(&bytes).unwrap();
    let mut rng = SplitMix(1);
    let samples: Vec<Vec<i16>> = (0..if cfg!(miri) { 15 } else { 60 })
        .map(|_| rng.sample(2))
        .collect();
    let mut plain = Stream::<64, 9>::new(&model).unwrap();
    let mut gaps = Stream::<64, 9>::new(&model).unwrap();
    for sample in &samples {
        let want = plain.push(sample).unwrap();
        // Steps that are left out do not count as time.
        for _ in 0..3 {
            assert_eq!(gaps.push(&[None, Some(1)]), Ok(None));
        }
        assert_eq!(gaps.push(sample), Ok(want));
    }
    assert_eq!(gaps.counters().skipped_steps, 3 * samples.len() as u32);
    plain.reset();
    assert_eq!((plain.outcome(), plain.steps()), (None, 0));
    let mut fresh = Stream::<64, 9>::new(&model).unwrap();
    for sample in &samples {
        assert_eq!(plain.push(sample), fresh.push(sample));
    }
    // A decider beside a state that somebody resets.
    let mut state = gru_core::State::<64>::new(&model).unwrap();
    let mut decider = Decider::<9>::new(&model).unwrap();
    let mut fresh = Stream::<64, 9>::new(&model).unwrap();
    for _ in 0..2 {
        fresh.reset();
        state.reset(&model).unwrap();
        for sample in &samples {
            model.step(&mut state, sample).unwrap();
            assert_eq!(decider.decide(&model, &state), fresh.push(sample));
            assert_eq!(decider.decide(&model, &state), Ok(None));
        }
    }
}

#[test]
fn windows_of_equal_length_are_decided_each() {
    for steps in [1, 7] {
        let quant = model(3, Some(8), 0, &full_rule(Smoothing::None));
        let bytes = Aligned::new(&write(&quant, Layout::Rows).unwrap());
        let model = Model::load(&bytes).unwrap();
        let mut state = gru_core::State::<64>::new(&model).unwrap();
        let mut decider = Decider::<9>::new(&model).unwrap();
        let mut rng = SplitMix(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..30 {
            let window: Vec<Vec<i16>> = (0..steps).map(|_| rng.sample(2)).collect();
            model.run(&mut state, &window).unwrap();
            let decision = decider.decide(&model, &state).unwrap().unwrap();
            let mut alone = Decider::<9>::new(&model).unwrap();
            assert_eq!(alone.decide(&model, &state), Ok(Some(decision)));
            assert_eq!(decider.decide(&model, &state), Ok(None));
            seen.insert(format!("{:?}", decision.outcome));
        }
        assert!(seen.len() > 1, "{seen:?}");
    }
}

#[test]
fn sums_that_memory_has_lost_come_back() {
    let quant = model(
        3,
        Some(8),
        0,
        &full_rule(Smoothing::Exponential { shift: 2 }),
    );
    let bytes = Aligned::new(&write(&quant, Layout::Rows).unwrap());
    let model = Model::load(&bytes).unwrap();
    let mut rng = SplitMix(1);
    let samples: Vec<Vec<i16>> = (0..if cfg!(miri) { 50 } else { 100 })
        .map(|_| rng.sample(2))
        .collect();
    let mut stream = Stream::<64, 9>::new(&model).unwrap();
    for sample in &samples {
        stream.push(sample).unwrap();
    }
    let mut saved = vec![0; stream.snapshot_len()];
    stream.snapshot(&mut saved).unwrap();
    let decider = gru_core::StateRef::snapshot_len(&model);
    for sum in [i32::MIN, i32::MAX, (1 << 30) + 1, -1] {
        let mut lost = saved.clone();
        let body = &mut lost[decider..];
        body[22..26].copy_from_slice(&sum.to_le_bytes());
        let crc = gru_core::artifact::crc32(&body[4..]).to_le_bytes();
        body[..4].copy_from_slice(&crc);
        stream.restore(&lost).unwrap();
        let mut whole = Stream::<64, 9>::new(&model).unwrap();
        whole.restore(&saved).unwrap();
        for sample in &samples {
            let decision = stream.push(sample).unwrap();
            assert!(decision.is_none_or(|d| d.confidence <= 1 << 15));
            whole.push(sample).unwrap();
        }
        assert_eq!(stream.outcome(), whole.outcome());
    }
}

#[test]
fn memory_is_what_the_model_says() {
    for (smoothing, words) in SMOOTHINGS.into_iter().zip([3, 9, 6]) {
        let quant = model(3, Some(8), 5, &full_rule(smoothing));
        let bytes = Aligned::new(&write(&quant, Layout::Pair).unwrap());
        let model = Model::load(&bytes).unwrap();
        assert_eq!(model.decider_len(), words);
        assert!(Decider::<9>::new(&model).is_ok());
        assert_eq!(
            Decider::<2>::new(&model).map(|_| ()),
            Err(StateError::TooSmall {
                have: 2,
                need: words as u32
            })
        );
    }
}

#[test]
fn fields_out_of_range_are_refused_by_name() {
    let votes = |of, enter, keep| Smoothing::Votes { of, enter, keep };
    let good = DecisionHeader::new();
    let with = |smoothing| DecisionHeader { smoothing, ..good };
    let levels = [(20000, 10000); 3];
    type Levels<'l> = &'l [(u16, u16)];
    let cases: [(DecisionHeader, Levels<'_>, Option<u8>, Field); 17] = [
        (
            DecisionHeader {
                inverse_temperature: 255,
                ..good
            },
            &levels,
            Some(9),
            Field::Temperature,
        ),
        // Outputs of a sigmoid are no logits; 16 times the logits needs four fractional bits.
        (
            DecisionHeader {
                inverse_temperature: 4095,
                ..good
            },
            &levels,
            None,
            Field::Temperature,
        ),
        (
            DecisionHeader {
                inverse_temperature: 65535,
                ..good
            },
            &levels,
            Some(3),
            Field::Temperature,
        ),
        (
            DecisionHeader {
                every_steps: 0,
                ..good
            },
            &levels,
            Some(9),
            Field::Interval,
        ),
        (
            with(Smoothing::Exponential { shift: 0 }),
            &levels,
            Some(9),
            Field::Smoothing,
        ),
        (
            with(Smoothing::Exponential { shift: 13 }),
            &levels,
            Some(9),
            Field::Smoothing,
        ),
        (with(votes(0, 0, 0)), &levels, Some(9), Field::Smoothing),
        (with(votes(33, 2, 1)), &levels, Some(9), Field::Smoothing),
        (with(votes(5, 6, 1)), &levels, Some(9), Field::Smoothing),
        (with(votes(5, 0, 0)), &levels, Some(9), Field::Smoothing),
        (with(votes(5, 3, 4)), &levels, Some(9), Field::Smoothing),
        (with(votes(5, 3, 0)), &levels, Some(9), Field::Smoothing),
        (
            DecisionHeader {
                margin: 1,
                ..with(votes(5, 3, 1))
            },
            &levels,
            Some(9),
            Field::Margin,
        ),
        (
            DecisionHeader {
                margin: 32769,
                ..good
            },
            &levels,
            Some(9),
            Field::Margin,
        ),
        (
            DecisionHeader {
                background: Some(3),
                ..good
            },
            &levels,
            Some(9),
            Field::Background,
        ),
        (
            good,
            &[(20000, 10000), (32769, 0), (1, 1)],
            Some(9),
            Field::Threshold,
        ),
        (
            good,
            &[(20000, 10000), (7, 8), (1, 1)],
            Some(9),
            Field::Threshold,
        ),
    ];
    for (header, levels, frac, expected) in cases {
        let refused = write(&model(3, frac, 0, &rule(header, levels)), Layout::Rows);
        match refused {
            Err(WriteError::Refused(LoadError::Range { field, .. })) => {
                assert_eq!(field, expected, "{header:?} {levels:?}");
            }
            other => panic!("{header:?} {levels:?}: {other:?}"),
        }
    }
    assert!(matches!(
        write(&model(3, None, 0, &rule(good, &levels[..2])), Layout::Rows),
        Err(WriteError::Len {
            what: "thresholds",
            found: 2,
            expected: 3
        })
    ));
    for smoothing in SMOOTHINGS {
        let quant = model(3, Some(4), 9, &full_rule(smoothing));
        let bytes = Aligned::new(&write(&quant, Layout::Quad).unwrap());
        let loaded = Model::load(&bytes).unwrap();
        assert_eq!(read(&loaded), quant);
        assert_eq!(loaded.thresholds().count(), 3);
    }
}

#[test]
fn a_temperature_flattens_or_sharpens_as_the_formula_says() {
    let mut worst = 0f64;
    let (every, step) = if cfg!(miri) { (5, 3737) } else { (1, 37) };
    for frac in (4..=15u8).step_by(every) {
        for inverse in [256, 1000, 3996, 4096, 5909, 12288, 65535] {
            let header = DecisionHeader {
                inverse_temperature: inverse,
                ..DecisionHeader::new()
            };
            let quant = model(2, Some(frac), 0, &rule(header, &[(0, 0), (0, 0)]));
            let bytes = Aligned::new(&write(&quant, Layout::Rows).unwrap());
            let model = Model::load(&bytes).unwrap();
            for l in (-32768i32..=0).step_by(step) {
                let mut decider = Decider::<2>::new(&model).unwrap();
                let outputs = [l as i16, (l / 3) as i16];
                let decision = decider
                    .decide_outputs(&model, &outputs, 1)
                    .unwrap()
                    .unwrap();
                let difference = f64::from(l / 3 - l) / f64::from(1u32 << frac);
                let want = 32768.0 / (1.0 + (-difference * f64::from(inverse) / 4096.0).exp());
                worst = worst.max((f64::from(decision.confidence) - want).abs());
            }
        }
    }
    println!("worst {worst} units of Q15");
    assert!(worst <= 1.5, "{worst}");
}
