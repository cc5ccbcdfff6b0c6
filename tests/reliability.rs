//! Rows of the reliability table that need no hostile bytes: accumulators, floats, flips, long runs, counters, snapshots.

use gru_core::artifact::{GapPolicy, Readout};
use gru_core::input::{FeatureParams, Sample};
use gru_core::layout::Layout;
use gru_core::random::{self, SplitMix};
use gru_core::writer::{Aligned, write};
use gru_core::{Model, Verify};
use gru_train_host::reliability::blobs::references;
use gru_train_host::reliability::faults::{Stream, curves, recovery, with_gap};
use gru_train_host::reliability::stream::{
    accumulators, conditionings, counters, flipped_decisions, flips_at_run_time, floats, long_run,
    reference_model, slow_unit, snapshots, state_flips, to_counts, to_input, verify,
};
use gru_train_host::reliability::training::{
    export_losses, gradients, malformed, planted_losses, read_file, stops_at_nan, train,
};

fn reference() -> Vec<u8> {
    write(&reference_model(), Layout::Rows).expect("sound")
}

#[test]
fn rows_at_the_bound_reach_it_and_one_more_is_refused() {
    let bounds = accumulators(400, 1);
    assert_eq!((bounds.wrong, bounds.first), (0, None));
    assert_eq!(bounds.cases, 400);
}

#[test]
fn floats_become_counts_as_f64_says() {
    for counts_per_unit in [1.0, 4096.0, 0.37] {
        let (cases, wrong) = floats(to_counts, 4093, counts_per_unit);
        assert!(cases > 1_000_000);
        assert_eq!(wrong, 0, "{counts_per_unit}");
    }
}

#[test]
fn counts_become_inputs_as_the_formula_says() {
    assert_eq!(conditionings(to_input, 1_000_000, 1), 0);
    // Planted faults: the floor instead of rounding, and a sum that wraps.
    let floor = |f: &FeatureParams, counts: i32| {
        let d = (counts.saturating_sub(f.offset) >> f.pre_shift).clamp(-65_535, 65_535);
        ((d * i32::from(f.multiplier)) >> f.shift).clamp(-32_768, 32_767) as i16
    };
    assert!(conditionings(floor, 100_000, 1) > 0);
    let wraps = |f: &FeatureParams, counts: i32| {
        f.condition(counts.wrapping_sub(f.offset).saturating_add(f.offset))
    };
    assert!(conditionings(wraps, 100_000, 1) > 0);
}

#[test]
fn control_a_number_that_counts_as_missing_is_found() {
    // What the crate did before: a product beyond f32 was no number.
    let lost = |value: f32, scale: f32| value.counts(scale).filter(|_| (value * scale).is_finite());
    assert!(floats(lost, 4093, 4096.0).1 > 0);
    assert_eq!(floats(lost, 4093, 1.0).1, 0);
}

#[test]
fn control_rounding_twice_is_found() {
    // What the crate did before: add a half, then cut.
    let twice = |value: f32, scale: f32| {
        let counts = value * scale;
        let half = if counts < 0.0 { -0.5 } else { 0.5 };
        counts.is_finite().then_some((counts + half) as i32)
    };
    assert!(floats(twice, 4093, 1.0).1 > 0);
}

#[test]
#[ignore = "all 2^32 patterns take minutes; run with --release"]
fn floats_all_patterns() {
    assert_eq!(floats(to_counts, 1, 4096.0), (1 << 32, 0));
}

#[test]
fn a_recheck_in_slices_finds_every_flipped_bit() {
    for (name, blob) in references() {
        let flips = flips_at_run_time(verify, &blob);
        assert_eq!(
            (flips.cases, flips.missed),
            (8 * blob.len() as u64, 0),
            "{name}"
        );
    }
    let bytes = Aligned::new(&reference());
    let model = Model::load(&bytes).expect("sound");
    assert_eq!(model.verify().finish(), Ok(()));
    for slice in [0, 1, 3, 12, 13, 16, 1000, usize::MAX] {
        let mut verify = model.verify();
        let mut calls = 1;
        let verdict = loop {
            match verify.advance(slice) {
                Some(verdict) => break verdict,
                None => calls += 1,
            }
        };
        assert_eq!(verdict, Ok(()));
        assert_eq!(calls, bytes.len().div_ceil(slice.max(1)), "{slice}");
        assert_eq!(verify.advance(slice), Some(Ok(())));
    }
    assert!(Verify::new(&bytes, model.tag() ^ 1).finish().is_err());
    assert!(Verify::new(&[], 1).finish().is_err());
}

#[test]
fn control_a_recheck_that_skips_the_stored_checksum_is_found() {
    let careless = |bytes: &[u8], tag: u32| gru_core::artifact::frame_crc(bytes) == tag;
    assert_eq!(flips_at_run_time(careless, &reference()).missed, 32);
}

#[test]
fn flipped_parameters_change_decisions_where_there_is_a_choice() {
    let mut rng = SplitMix(8);
    let samples: Vec<Vec<f32>> = (0..50)
        .map(|_| (0..3).map(|_| rng.unit() as f32 - 0.5).collect())
        .collect();
    let flipped = |outputs| {
        let blob = write(&random::model(1, 3, &[4], outputs), Layout::Rows).expect("sound");
        flipped_decisions(&blob, &samples, 7)
    };
    let three = flipped(3);
    assert!(three.changed > 0 && three.changed < three.run, "{three:?}");
    assert!(three.different >= three.changed, "{three:?}");
    assert_eq!(three.decisions, 50 * three.run);
    // Control: with a single class there is nothing to change.
    let one = flipped(1);
    assert!(one.run > 100 && one.changed == 0, "{one:?}");
}

#[test]
fn flipped_state_bits_fade() {
    let figures = state_flips(&reference(), 4, 3000).expect("stream");
    // 16 units, 4 outputs, and the count of a mean that there is not.
    assert_eq!(figures.cases, 4 * (16 * (16 + 4) + 32));
    assert_eq!(figures.recovered, figures.cases, "{figures:?}");
    // A sliding mean forgets; the mean over all steps does not, which is why the table does not promise it.
    let with = |readout| {
        let mut model = reference_model();
        model.readout = readout;
        let bytes = write(&model, Layout::Rows).expect("an artifact");
        state_flips(&bytes, 1, 1000).expect("stream")
    };
    let sliding = with(Readout::Sliding { steps: 9 });
    assert_eq!(sliding.recovered, sliding.cases, "{sliding:?}");
    let mean = with(Readout::Mean { skip: 0 });
    assert!(mean.recovered < mean.cases, "{mean:?}");
}

#[test]
fn a_long_run_stays_beside_the_float_model() {
    let run = long_run(200_000, 200_000, 0.0).expect("stream");
    assert!(run.trend.abs() < 4.0, "{run:?}");
    assert!(run.mean_difference < 0.002, "{run:?}");
    let again = long_run(200_000, 0, 0.0).expect("stream");
    assert_eq!(again.digest, run.digest);
}

#[test]
#[ignore = "10^9 steps take ten minutes; run with --release"]
fn a_billion_steps() {
    let run = long_run(1_000_000_000, 100_000_000, 0.0).expect("stream");
    assert!(run.trend.abs() < 4.0, "{run:?}");
    println!("{run:?}");
}

#[test]
fn control_a_drift_of_a_thousandth_of_a_unit_per_thousand_steps_is_found() {
    let run = long_run(200_000, 200_000, 1e-8).expect("stream");
    assert!(run.trend.abs() > 4.0, "{run:?}");
}

#[test]
fn slow_units_are_not_forgotten() {
    for shift in 1..=8 {
        let error = slow_unit(shift).expect("sound");
        assert!(error < 0.01, "1 - z = 2^-{shift}: {error}");
    }
}

#[test]
fn a_stream_goes_on_after_two_to_the_32_steps() {
    assert_eq!(counters(), Ok((8000, 0)));
}

#[test]
fn a_stream_that_sleeps_at_every_step_equals_one_that_does_not() {
    for (name, blob) in references() {
        let bytes = Aligned::new(&blob);
        // One that reads windows has no state within one.
        if !Model::load(&bytes).expect(name).is_streaming() {
            continue;
        }
        let (cases, wrong, accepted) = snapshots(&blob, 500).expect(name);
        assert!(cases > 500);
        assert_eq!((wrong, accepted), (0, 0), "{name}");
    }
}

#[test]
fn decisions_recover_from_every_sensor_fault() {
    let bytes = Aligned::new(&reference());
    let model = Model::load(&bytes).expect("sound");
    let stream = Stream::held_out(&model, 60.0, 4242);
    for gap in [GapPolicy::Hold, GapPolicy::Zero, GapPolicy::Skip] {
        let bytes = with_gap(&model, gap).expect("sound");
        let model = Model::load(&bytes).expect("sound");
        let figures = recovery(&model, &stream, 150, 1000, 1).expect("stream");
        println!("{gap:?} {figures:?}");
        assert_eq!(
            (figures.cases, figures.classes.never, figures.outcomes.never),
            (150, 0, 0),
            "{gap:?} {figures:?}"
        );
        // The fault is seen at all.
        assert!(figures.classes.most > 0, "{figures:?}");
    }
    for curve in curves(&model, &stream, 1).expect("stream") {
        assert_eq!(curve.same[0], 1.0, "{:?}", curve.fault);
        assert!(curve.same[5] < 1.0, "{:?} does nothing", curve.fault);
        // Few faults do little harm.
        assert!(curve.same[1] > 0.9, "{curve:?}");
    }
}

#[test]
fn control_a_network_that_never_forgets_is_found() {
    // The recurrent weights that `reference_model` divides by three: chaos.
    let chaotic = random::model(7, 6, &[16], 4);
    let bytes = Aligned::new(&write(&chaotic, Layout::Rows).expect("sound"));
    let model = Model::load(&bytes).expect("sound");
    let stream = Stream::held_out(&model, 60.0, 4242);
    let figures = recovery(&model, &stream, 300, 1000, 1).expect("stream");
    assert!(figures.classes.never > 0, "{figures:?}");
}

#[test]
fn malformed_files_are_refused_in_place() {
    assert_eq!(malformed(read_file), (41, 0));
}

#[test]
fn control_a_reader_that_takes_everything_or_says_nothing_is_found() {
    assert_eq!(malformed(|_| None).1, 41);
    assert_eq!(malformed(|_| Some("cannot read the file".into())).1, 41);
}

#[test]
fn gradients_are_exact_and_a_wrong_one_is_found() {
    let (parameters, worst) = gradients(4, 0.0);
    assert!(parameters > 100 && worst <= 1e-6, "{parameters} {worst:e}");
    let (_, worst) = gradients(2, 1e-3);
    assert!(worst > 1e-6, "{worst:e}");
}

#[test]
fn training_stops_at_a_value_that_is_not_a_number() {
    assert!(stops_at_nan());
}

#[test]
fn what_the_export_cannot_hold_is_counted_or_refused() {
    for biases in [0, 1, 5] {
        assert_eq!(planted_losses(biases), (biases, true));
    }
}

#[test]
fn one_seed_gives_one_artifact_and_another_seed_another() {
    let artifact = |seed, threads| {
        let trained = train(4, 1, seed, threads).expect("trains");
        assert_eq!(trained.shared_people, 0);
        assert_eq!(export_losses(&trained).expect("sound").saturated, 0);
        trained.product.artifact
    };
    let first = artifact(5, 1);
    assert_eq!(first, artifact(5, 2));
    assert_ne!(first, artifact(6, 1));
}
