use super::*;
use crate::dataset::{Counts, Sequence};
use gru_core::artifact::{DecisionHeader, Smoothing};
use gru_core::writer::QuantDecision;
use gru_core::{Stream, Threshold, random};

/// Labels as letters, a letter a step: `.` is unlabelled, `_` the background (class 0), `a` class 1, …
fn labels(text: &str) -> Vec<u16> {
    let label = |c| match c {
        '.' => UNLABELLED,
        '_' => 0,
        c => u16::from(c as u8 - b'a') + 1,
    };
    text.chars().map(label).collect()
}

/// Outcomes as letters: ` ` before the warm-up, `?` unsure, else as labels.
fn changes(text: &str) -> Vec<Change> {
    let mut out: Vec<Change> = Vec::new();
    for (step, c) in text.chars().enumerate() {
        let outcome = match c {
            ' ' => continue,
            '?' => Outcome::Unsure,
            c => Outcome::Class(labels(&c.to_string())[0]),
        };
        if out.last().is_none_or(|last| last.outcome != outcome) {
            out.push(Change { step, outcome });
        }
    }
    out
}

fn rules(tolerance_steps: usize) -> Rules {
    Rules {
        background: Some(0),
        tolerance_steps,
        min_steps: 0,
    }
}

fn tally(pairs: &[(&str, &str)], rules: &Rules) -> Tally {
    let mut tally = Tally::new(4);
    for (truth, outcome) in pairs {
        assert_eq!(truth.len(), outcome.len(), "{truth} {outcome}");
        tally.add(&labels(truth), &changes(outcome), rules);
    }
    tally
}

/// Detected, missed, false alarms, repeats among them, not judged; latencies in the order of classes.
fn counts(truth: &str, outcome: &str, tolerance: usize) -> ([u32; 5], Vec<u32>) {
    let t = tally(&[(truth, outcome)], &rules(tolerance));
    let late = t.classes.iter().flat_map(|c| c.latencies.clone()).collect();
    let counts = [
        t.detected(),
        t.missed(),
        t.false_alarms(),
        t.repeats(),
        t.not_judged,
    ];
    (counts, late)
}

#[test]
fn events_are_the_longest_runs_of_one_label() {
    let span = |class, start, end| Span { class, start, end };
    let text = "aab.bb__ca";
    assert_eq!(
        events_of(&labels(text), &rules(0)),
        [
            span(1, 0, 2),
            span(2, 2, 3),
            span(2, 4, 6),
            span(3, 8, 9),
            span(1, 9, 10)
        ]
    );
    // Without a background every label is an event.
    let all = Rules::default();
    assert_eq!(events_of(&labels("_a"), &all).len(), 2);
    let long = Rules {
        min_steps: 2,
        ..rules(0)
    };
    assert_eq!(
        events_of(&labels(text), &long),
        [span(1, 0, 2), span(2, 4, 6)]
    );
    assert!(events_of(&[], &all).is_empty());
    assert!(events_of(&labels("....____"), &rules(0)).is_empty());
}

#[test]
fn every_rule_by_itself() {
    for (truth, outcome, tolerance, expected, late) in [
        // Detected within the event, with its latency; the one at its first step has none.
        ("__aaaa__", "____aa__", 0, [1, 0, 0, 0, 0], &[2][..]),
        ("__aaaa__", "__aaaa__", 0, [1, 0, 0, 0, 0], &[0]),
        // Missed, and unsure or the background is no alarm.
        ("__aaaa__", "__????__", 0, [0, 1, 0, 0, 0], &[]),
        ("__aaaa__", "________", 0, [0, 1, 0, 0, 0], &[]),
        // Another class: missed, and a false alarm.
        ("__aaaa__", "___bbb__", 0, [0, 1, 1, 0, 0], &[]),
        // A false alarm in the background.
        ("________", "___a____", 0, [0, 0, 1, 0, 0], &[]),
        // After the end: only within the tolerance.
        ("__aaa___", "_____aa_", 0, [0, 1, 1, 0, 0], &[]),
        ("__aaa___", "_____aa_", 1, [1, 0, 0, 0, 0], &[3]),
        ("__aaa___", "______a_", 1, [0, 1, 1, 0, 0], &[]),
        // Before the beginning: within the tolerance, and still in force when it begins.
        ("___aaa__", "__aaaa__", 0, [0, 1, 1, 0, 0], &[]),
        ("___aaa__", "__aaaa__", 1, [1, 0, 0, 0, 0], &[0]),
        ("___aaa__", "_aaaaa__", 1, [0, 1, 1, 0, 0], &[]),
        ("___aaa__", "__a_____", 1, [0, 1, 1, 0, 0], &[]),
        // A second decision for the same event.
        ("_aaaaaa_", "_aa?aaa_", 0, [1, 0, 1, 1, 0], &[0]),
        ("_aaaaaa_", "_aabbaa_", 0, [1, 0, 2, 1, 0], &[0]),
        // A second one after its end.
        ("_aaaa___", "_aaa?a__", 2, [1, 0, 1, 0, 0], &[0]),
        // One decision that stays on over two events of its class detects one.
        ("_aa__aa_", "_aaaaaa_", 0, [1, 1, 0, 0, 0], &[0]),
        // Unless nothing is known of the time between.
        ("_aa..aa_", "_aaaaaa_", 0, [2, 0, 0, 0, 0], &[0, 0]),
        ("_aa..aa_", "_aa..???", 0, [1, 1, 0, 0, 0], &[0]),
        // Made in unlabelled time and gone before a label comes: not judged.
        ("_aa....b", "_aa?cc?b", 0, [2, 0, 0, 0, 1], &[0, 0]),
        // Made in unlabelled time, still in force at the label: right, or a false alarm.
        ("_?....bb", "______bb", 0, [1, 0, 0, 0, 0], &[0]),
        ("__....bb", "__??bbbb", 0, [1, 0, 0, 0, 0], &[0]),
        ("__....bb", "__??ccbb", 0, [1, 0, 0, 0, 1], &[0]),
        ("__....bb", "__??cccb", 0, [1, 0, 1, 0, 0], &[1]),
        // In the unlabelled time after an event, within its tolerance.
        ("aaa....b", "????a??b", 2, [2, 0, 0, 0, 0], &[4, 0]),
        ("aaa....b", "????a??b", 1, [1, 1, 0, 0, 1], &[0]),
        // A decision that outlasts its event is no new one in the next.
        ("aaabbb", "aaaabb", 0, [2, 0, 0, 0, 0], &[0, 1]),
        ("aaa.bbb", "aaaaabb", 0, [2, 0, 0, 0, 0], &[0, 1]),
        // It may come late in the next event.
        ("aaabbb", "???abb", 1, [2, 0, 0, 0, 0], &[3, 1]),
        // The tolerance of an event does not take the decision for the next one of its class.
        ("aa_aa___", "???aa___", 2, [1, 1, 0, 0, 0], &[3]),
        ("aa_aa___", "_aa?aa__", 2, [2, 0, 0, 0, 0], &[1, 1]),
    ] {
        // '?' in a truth would be class 30, which has no events.
        let truth = truth.replace('?', "_");
        assert_eq!(
            counts(&truth, outcome, tolerance),
            (expected, late.to_vec()),
            "{truth} {outcome} tolerance {tolerance}"
        );
    }
}

#[test]
fn edges_of_a_recording() {
    for (truth, outcome, expected, late) in [
        // From the first step on and to the last one.
        ("aaaa", "aaaa", [1, 0, 0, 0, 0], &[0][..]),
        ("__aa", "___a", [1, 0, 0, 0, 0], &[1]),
        // The warm-up counts as latency, and what ends within it is missed.
        ("aaaa", "   a", [1, 0, 0, 0, 0], &[3]),
        ("aa__", "   _", [0, 1, 0, 0, 0], &[]),
        ("aa__", "    ", [0, 1, 0, 0, 0], &[]),
        ("....", "aabb", [0, 0, 0, 0, 2], &[]),
        ("", "", [0, 0, 0, 0, 0], &[]),
        ("____", "____", [0, 0, 0, 0, 0], &[]),
    ] {
        let text = format!("{truth:?} {outcome:?}");
        assert_eq!(
            counts(truth, outcome, 5),
            (expected, late.to_vec()),
            "{text}"
        );
    }
}

#[test]
fn figures_of_several_recordings() {
    let pairs = [
        ("__aaaa__bbbb....", "  __aa__bb??aaaa"),
        ("________", "_a__?___"),
        ("", ""),
    ];
    let t = tally(&pairs, &rules(0));
    assert_eq!((t.recordings, t.steps, t.labelled), (3, 24, 20));
    assert_eq!((t.events(), t.detected(), t.missed()), (2, 2, 0));
    assert_eq!((t.false_alarms(), t.not_judged), (1, 1));
    assert_eq!(t.classes[1].false_alarms, 1);
    assert_eq!(t.classes[2].latencies, [0]);
    assert_eq!((t.latency(0.5), t.latency(0.9)), (Some(0), Some(2)));
    assert_eq!(t.not_ready, 2);
    // The background counts here: 2 aa, 2 between, 2 bb; then all but two of eight.
    assert_eq!((t.right, t.unsure), (12, 3));
    assert!((t.unsure_share() - 3.0 / 18.0).abs() < 1e-12);
    assert!((t.f1() - 4.0 / 5.0).abs() < 1e-12);
    // 20 labelled steps at 2 Hz are 10 s.
    assert!((t.false_alarms_per_hour(2.0) - 360.0).abs() < 1e-9);
    let none = Tally::new(4);
    assert_eq!((none.false_alarms_per_hour(50.0), none.f1()), (0.0, 1.0));
    assert_eq!((none.latency(0.5), none.unsure_share()), (None, 0.0));
    let t = tally(&[("____", "___a")], &rules(0));
    assert_eq!((t.events(), t.f1()), (0, 0.0));
}

#[test]
fn short_events_are_as_if_unlabelled() {
    let short = Rules {
        min_steps: 3,
        ..rules(0)
    };
    // Neither a miss nor a false alarm.
    for outcome in ["________", "__aa____"] {
        let t = tally(&[("__aa____", outcome)], &short);
        assert_eq!((t.events(), t.false_alarms()), (0, 0), "{outcome}");
        assert_eq!(t.labelled, 6);
    }
    let t = tally(&[("__aa____", "__aaa___")], &short);
    assert_eq!(t.false_alarms(), 1, "still in force in the background");
}

#[test]
fn quantiles_are_values_that_occur() {
    let q = |values: &[u32], share| quantile(values.to_vec(), share);
    assert_eq!(q(&[], 0.5), None);
    assert_eq!(q(&[7], 0.9), Some(7));
    assert_eq!(q(&[4, 1, 3, 2], 0.5), Some(2));
    assert_eq!(q(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0.9), Some(9));
    assert_eq!(q(&[1, 2, 3], 0.0), Some(1));
}

/// Two recordings of noise.
fn noise(steps: usize, features: usize, seed: u64) -> Dataset {
    let mut rng = random::SplitMix(seed);
    let mut recording = |recording| Sequence {
        recording,
        subject: None,
        counts: Counts::I16((0..steps).flat_map(|_| rng.sample(features)).collect()),
        labels: Labels::Steps(vec![0; steps]),
        part: None,
    };
    Dataset {
        features: vec!["x".into(); features],
        counts_per_unit: vec![1.0; features],
        sequences: vec![recording(0), recording(1)],
        ..Dataset::default()
    }
}

/// Outputs that were computed once and a decider give what a stream gives on the whole artifact.
#[test]
fn decisions_are_those_of_a_stream() {
    let smoothings = [
        Smoothing::None,
        Smoothing::Exponential { shift: 3 },
        Smoothing::Votes {
            of: 7,
            enter: 4,
            keep: 2,
        },
    ];
    let rules = smoothings.into_iter().flat_map(|s| [(s, 1), (s, 3)]);
    for (seed, (smoothing, every_steps)) in (1..).zip(rules) {
        let mut parts = random::model(seed, 3, &[9], 4);
        parts.warm_up_steps = 12;
        let bytes = writer::Aligned::new(&writer::write(&parts, PREFERRED_LAYOUT).unwrap());
        let data = noise(400, 3, seed);
        let recorded = record(&Model::load(&bytes).unwrap(), &data, &[0, 1]).unwrap();
        let level = Threshold {
            enter: 9000,
            release: 8000,
        };
        parts.decision = Some(QuantDecision {
            header: DecisionHeader {
                inverse_temperature: 5000,
                every_steps,
                smoothing,
                hold_steps: 4,
                refractory_steps: 9,
                background: Some(2),
                ..DecisionHeader::new()
            },
            thresholds: vec![level; 4],
        });
        let layout = gru_core::layout::Layout::Pair;
        let bytes = writer::Aligned::new(&writer::write(&parts, layout).unwrap());
        let model = Model::load(&bytes).unwrap();
        let mut stream = Stream::<'_, '_, 1024, 64>::new(&model).unwrap();
        for (sequence, recorded) in recorded.iter().enumerate() {
            stream.reset();
            let Counts::I16(counts) = &data.sequences[sequence].counts else {
                unreachable!()
            };
            let mut expected = Vec::new();
            for (step, sample) in counts.chunks_exact(3).enumerate() {
                if let Some(decision) = stream.push(sample).unwrap() {
                    expected.push(Change {
                        step,
                        outcome: decision.outcome,
                    });
                }
            }
            assert!(expected.len() > 3, "{smoothing:?}: {expected:?}");
            assert_eq!(expected[0].step, 11, "the warm-up is over");
            assert_eq!(decide(&model, recorded), Ok(expected));
        }
    }
}

#[test]
fn only_recordings_with_labels_per_step_are_taken() {
    let mut data = noise(4, 1, 1);
    assert_eq!(check_recordings(&data, &[0]), Ok(()));
    let refused = |data: &Dataset, of: &[usize]| check_recordings(data, of).unwrap_err();
    assert!(refused(&data, &[]).contains("no recordings"));
    assert!(refused(&data, &[2]).contains("no labels"));
    data.sequences[0].labels = Labels::Sequence(0);
    assert!(refused(&data, &[0]).contains("one label each"));
    data.sequences[0].labels = Labels::None;
    assert!(refused(&data, &[0]).contains("no labels"));
}
