use super::*;
use crate::dataset::UNLABELLED;
use gru_core::activation::Activation;
use gru_core::artifact::{DenseHeader, GapPolicy, NEUTRAL_TEMPERATURE, Readout};
use gru_core::writer::QuantDense;
use gru_core::{Outcome, random};

const CLASSES: usize = 3;
const RATE: f64 = 10.0;

/// A model whose outputs nobody computes: three classes, logits with 8 fractional bits.
fn model(activation: Activation) -> QuantModel {
    let mut model = random::model(3, 2, &[4], CLASSES);
    let dense = DenseHeader {
        units: CLASSES as u16,
        activation,
        frac: match activation {
            Activation::Sigmoid => 0,
            _ => 8,
        },
    };
    if let Some(writer::QuantLayer::Dense(QuantDense { header, .. })) = model.layers.last_mut() {
        *header = dense;
    }
    model.readout = Readout::Last;
    model.gap = GapPolicy::Hold;
    model.warm_up_steps = 5;
    model.decision = None;
    model.self_test = Vec::new();
    model.classes = ["idle", "left", "right"].map(str::to_owned).to_vec();
    model
}

/// Noisy logits of recordings with events of 2 to 4 s in the background, sure beyond measure: single steps are
/// wrong in a third of the cases.
fn recordings(count: usize, steps: usize, seed: u64) -> Vec<Recorded> {
    let mut rng = random::SplitMix(seed);
    let mut below = move |n: u64| rng.bits() % n;
    (0..count)
        .map(|_| {
            let mut labels = Vec::new();
            while labels.len() < steps {
                let idle = 30 + below(40) as usize;
                labels.extend(vec![0; idle]);
                let class = 1 + below(2) as u16;
                labels.extend(vec![class; 20 + below(20) as usize]);
            }
            labels.truncate(steps);
            let mut outputs = Vec::new();
            for &label in &labels {
                let seen = match below(3) {
                    0 => below(CLASSES as u64) as u16,
                    _ => label,
                };
                let logit = |k: u16| if k == seen { 2000 } else { below(300) as i16 };
                outputs.extend((0..CLASSES as u16).map(logit));
            }
            Recorded {
                outputs,
                done: (1..=steps as u32).collect(),
                labels,
            }
        })
        .collect()
}

fn rules() -> Rules {
    TuneSpec::default().rules(Some(0), RATE)
}

#[test]
fn tuning_finds_the_events_in_noise_and_is_the_same_every_time() {
    let model = model(Activation::Linear);
    let (seen, unseen) = (recordings(4, 1500, 1), recordings(4, 1500, 2));
    let tuned = tune(&model, &seen, &rules(), &TuneSpec::default(), RATE).unwrap();
    let again = tune(&model, &seen, &rules(), &TuneSpec::default(), RATE).unwrap();
    assert_eq!(tuned, again);
    let plain = figures(&model, None, &seen, &rules()).unwrap();
    assert!(plain.f1() < 0.2, "{}", plain.f1());
    assert!(
        tuned.chosen.tally.f1() > 0.95,
        "{}",
        tuned.chosen.tally.f1()
    );
    // What is reported is what the rule does, also on others.
    let rule = tuned.model.decision.as_ref();
    assert_eq!(rule, Some(&tuned.chosen.rule));
    assert_eq!(
        figures(&model, rule, &seen, &rules()),
        Ok(tuned.chosen.tally.clone())
    );
    let others = figures(&model, rule, &unseen, &rules()).unwrap();
    assert!(others.f1() > 0.9, "{}", others.f1());
    assert_eq!(tuned.chosen.rule.header.background, Some(0));
    // Everything but the rule is as it was.
    let bare = QuantModel {
        decision: None,
        ..tuned.model.clone()
    };
    assert_eq!(bare, model);
    let confidence = tuned.confidence.unwrap();
    assert!(confidence.nll[1] < confidence.nll[0], "{confidence:?}");
    assert!(
        confidence.error[1] < 0.1 && confidence.error[0] > 0.2,
        "{confidence:?}"
    );
    // No trial of the front beats another in both, and none is below it.
    let ends = (tuned.front.first().unwrap(), tuned.front.last().unwrap());
    assert!(ends.0.tally.false_alarms() <= tuned.chosen.tally.false_alarms());
    assert!(ends.1.tally.missed() <= tuned.chosen.tally.missed());
    for pair in tuned.front.windows(2) {
        let key = |t: &Trial| (t.tally.false_alarms(), t.tally.missed());
        let (a, b) = (key(&pair[0]), key(&pair[1]));
        assert!(a.0 < b.0 && a.1 > b.1, "{a:?} {b:?}");
    }
}

#[test]
fn limits_are_kept_or_said_to_be_out_of_reach() {
    let model = model(Activation::Linear);
    let seen = recordings(3, 1500, 5);
    let limit = |per_hour: Option<f64>, latency: Option<f64>| TuneSpec {
        max_false_alarms_per_hour: per_hour,
        max_latency_s: latency,
        ..TuneSpec::default()
    };
    let go = |wanted: &TuneSpec| tune(&model, &seen, &rules(), wanted, RATE);
    let none = go(&limit(Some(0.0), None)).unwrap().chosen.tally;
    assert_eq!(none.false_alarms(), 0);
    let many = go(&limit(Some(300.0), None)).unwrap().chosen.tally;
    assert!(many.missed() <= none.missed());
    assert!(
        many.latency(0.5) < none.latency(0.5),
        "lower latency for more alarms"
    );
    let quick = go(&limit(None, Some(0.5))).unwrap().chosen.tally;
    assert!(quick.latency(0.9) <= Some(5), "{:?}", quick.latency(0.9));
    let free = go(&limit(None, None)).unwrap().chosen.tally;
    assert!(free.latency(0.9) > Some(5) && free.f1() > quick.f1());
}

/// Always sure of one class, whatever the threshold; the events are those of another.
#[test]
fn where_no_rule_will_do_the_closest_one_is_named() {
    let model = model(Activation::Linear);
    let mut seen = recordings(1, 300, 1);
    for row in seen[0].outputs.chunks_exact_mut(CLASSES) {
        row.copy_from_slice(&[i16::MIN, i16::MAX, i16::MIN]);
    }
    for label in &mut seen[0].labels {
        *label = if *label == 0 { 0 } else { 2 };
    }
    let none = TuneSpec {
        max_false_alarms_per_hour: Some(0.0),
        ..TuneSpec::default()
    };
    for wanted in [none, TuneSpec::default()] {
        let refused = tune(&model, &seen, &rules(), &wanted, RATE).unwrap_err();
        assert!(matches!(refused, TuneError::OutOfReach(_)), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains("has 1 false alarms"), "{text}");
    }
}

#[test]
fn what_cannot_be_tuned_is_refused() {
    let model = model(Activation::Linear);
    let mut seen = recordings(1, 200, 1);
    let go = |seen: &[Recorded], wanted: &TuneSpec, rate| match tune(
        &model,
        seen,
        &rules(),
        wanted,
        rate,
    ) {
        Err(TuneError::Invalid(what)) => what,
        other => panic!("{other:?}"),
    };
    let bad = TuneSpec {
        max_latency_s: Some(f64::NAN),
        ..TuneSpec::default()
    };
    assert!(go(&seen, &bad, RATE).contains("max_latency_s NaN"));
    let fine = TuneSpec::default();
    assert!(go(&seen, &fine, 0.0).contains("sample rate"));
    assert!(go(&[], &fine, RATE).contains("no event in 0"));
    for background in [0, UNLABELLED] {
        seen[0].labels.fill(background);
        assert!(go(&seen, &fine, RATE).contains("no event in 1"));
    }
}

#[test]
fn probabilities_have_no_temperature() {
    let model = model(Activation::Sigmoid);
    assert!(!has_logits(&model));
    assert!(has_logits(&self::model(Activation::Linear)));
    let mut seen = recordings(1, 600, 9);
    for o in &mut seen[0].outputs {
        *o = if *o == 2000 { 30000 } else { *o };
    }
    let tuned = tune(&model, &seen, &rules(), &TuneSpec::default(), RATE).unwrap();
    assert!(tuned.confidence.is_none());
    let temperature = tuned.chosen.rule.header.inverse_temperature;
    assert_eq!(temperature, NEUTRAL_TEMPERATURE);
    assert!(tuned.chosen.tally.detected() > 0);
}

/// A class whose probability stays low needs a threshold of its own.
#[test]
fn a_class_gets_its_own_threshold_where_that_is_worth_it() {
    let model = model(Activation::Sigmoid);
    let mut seen = recordings(2, 2000, 3);
    for r in &mut seen {
        let rows = r.outputs.chunks_exact_mut(CLASSES);
        for (row, label) in rows.zip(&r.labels) {
            // "left" is never sure, "right" has false alarms of the same probability.
            row.copy_from_slice(match label {
                1 => &[100, 11000, 0],
                2 => &[100, 0, 30000],
                _ => &[9000, 0, 100],
            });
        }
        for t in (10..r.labels.len()).step_by(90) {
            for k in t..(t + 35).min(r.labels.len()) {
                if r.labels[k] == 0 {
                    r.outputs[k * CLASSES..][..CLASSES].copy_from_slice(&[9000, 0, 13000]);
                }
            }
        }
    }
    let tuned = tune(&model, &seen, &rules(), &TuneSpec::default(), RATE).unwrap();
    let [_, left, right] = tuned.chosen.rule.thresholds[..] else {
        unreachable!()
    };
    let f1 = tuned.chosen.tally.f1();
    assert!(
        f1 > 0.97 && left.enter < right.enter,
        "{f1} {left:?} {right:?}"
    );
}

/// Every rule that the search makes is one that the loader takes; what is left out as unsound it refuses.
#[test]
fn the_search_knows_what_the_loader_takes() {
    let model = model(Activation::Linear);
    let start = QuantDecision {
        header: DecisionHeader::new(),
        thresholds: vec![Threshold::default(); CLASSES],
    };
    let (mut sound, mut refused) = (0, 0);
    for rule in grid(&start, RATE) {
        assert!(is_sound(&rule), "{rule:?}");
        for next in neighbours(&rule, RATE) {
            let loads = with_rule(&model, Some(next.clone())).is_ok();
            assert_eq!(loads, is_sound(&next), "{next:?}");
            *(if loads { &mut sound } else { &mut refused }) += 1;
        }
    }
    assert!(sound > 1000 && refused > 100, "{sound} {refused}");
}

#[test]
fn the_temperature_is_that_of_the_labels() {
    // Logits of ±2 that are right as often as the sigmoid of their distance divided by 2 says.
    let (steps, right) = (1000, 880);
    let labels = vec![0u16; steps];
    let outputs = (0..steps).flat_map(|t| {
        if t % 1000 < right {
            [512, -512]
        } else {
            [-512, 512]
        }
    });
    let recorded = Recorded {
        outputs: outputs.collect(),
        done: (1..=steps as u32).collect(),
        labels,
    };
    let sampled = Sampled::new(&[recorded], 2, 8, 0);
    assert_eq!(sampled.len(), steps);
    let inverse = sampled.best_inverse_temperature(u16::MAX);
    let exact = (0.88f64 / 0.12).ln() / 4.0 * 4096.0;
    assert!(
        (f64::from(inverse) - exact).abs() < 2.0,
        "{inverse} {exact}"
    );
    assert!(sampled.calibration_error(inverse) < 1e-3);
    let sure = 1.0 / (1.0 + (-4.0f64).exp());
    let error = sampled.calibration_error(NEUTRAL_TEMPERATURE);
    assert!((error - (sure - 0.88)).abs() < 1e-9, "{error}");
    let nll = sampled.nll(NEUTRAL_TEMPERATURE);
    let expected = -(0.88 * sure.ln() + 0.12 * (1.0 - sure).ln());
    assert!((nll - expected).abs() < 1e-9, "{nll} {expected}");
    // Steps without a label, of an unknown class or before the warm-up do not count.
    let three = Recorded {
        outputs: vec![0; 8],
        done: vec![1, 2, 3, 4],
        labels: vec![0, 1, UNLABELLED, 7],
    };
    assert_eq!(Sampled::new(&[three], 2, 8, 2).len(), 1);
}

#[test]
fn nothing_tried_decides_before_the_warm_up() {
    let model = model(Activation::Linear);
    let bytes = with_rule(&model, None).unwrap();
    let loaded = Model::load(&bytes).unwrap();
    let changes = events::decide(&loaded, &recordings(1, 50, 4)[0]).unwrap();
    assert_eq!(changes[0].step, 4);
    assert!(matches!(changes[0].outcome, Outcome::Class(_)));
}
