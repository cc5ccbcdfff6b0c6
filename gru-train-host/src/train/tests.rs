use super::*;

/// Sequences of two features whose class is the sign of the sum of the first feature.
fn toy(count: usize, steps: usize, seed: u64) -> (Vec<f32>, Vec<i32>) {
    let mut rng = Rng::new(seed);
    let mut x = Vec::new();
    let mut labels = Vec::new();
    for _ in 0..count {
        let mut sum = 0.0;
        for _ in 0..steps {
            let v = rng.normal() as f32;
            sum += v;
            x.extend([v, rng.normal() as f32]);
        }
        labels.push(i32::from(sum > 0.0));
    }
    (x, labels)
}

fn small() -> TrainConfig {
    TrainConfig {
        units: vec![6],
        epochs: 6,
        batch: 40,
        lr: 0.01,
        threads: 1,
        ..TrainConfig::default()
    }
}

#[test]
fn a_toy_task_is_learnt() {
    let (x, labels) = toy(400, 12, 1);
    let data = Sequences::windows(&x, 2, 12, &labels);
    let config = TrainConfig {
        epochs: 15,
        ..small()
    };
    let fitted = fit(&config, &data, None, 2, &mut silent()).unwrap();
    let (first, last) = (fitted.history[0], fitted.history[14]);
    assert!(last.loss < 0.5 * first.loss, "{first:?} {last:?}");
    let (x, labels) = toy(200, 12, 2);
    let test = Sequences::windows(&x, 2, 12, &labels);
    let result = evaluate(&fitted.model, &test, 1).unwrap();
    assert!(result.accuracy() > 0.9, "{}", result.accuracy());
    assert_eq!(result.count, 200);
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (x, labels) = toy(130, 9, 3);
    let data = Sequences::windows(&x, 2, 9, &labels);
    let config = TrainConfig {
        readout: Readout::Mean { skip: 2 },
        augment: Augment {
            scale: 0.1,
            jitter: 0.05,
            time_warp: 0.1,
            ..Augment::default()
        },
        clip_norm: Some(1.0),
        dropout: 0.2,
        recurrent_dropout: 0.1,
        ema: Some(0.9),
        ..small()
    };
    let run = |threads| {
        let config = TrainConfig {
            threads,
            ..config.clone()
        };
        fit(&config, &data, None, 2, &mut silent()).unwrap().model
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
    let other = TrainConfig {
        seed: 1,
        ..config.clone()
    };
    assert_ne!(
        one,
        fit(&other, &data, None, 2, &mut silent()).unwrap().model
    );
}

#[test]
fn resuming_gives_the_same_bits() {
    let (x, labels) = toy(100, 7, 4);
    let data = Sequences::windows(&x, 2, 7, &labels);
    let folder = std::env::temp_dir().join(format!("gru-checkpoint-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("state.ckpt");
    let config = TrainConfig {
        checkpoint: Some(path.clone()),
        resume: true,
        ema: Some(0.95),
        schedule: Schedule::Cosine {
            warmup: 1.0,
            floor: 0.0,
        },
        patience: Some(4),
        // Over before the interruption: what is gone stays gone because the checkpoint says so.
        prune: Some(Prune {
            density: 0.4,
            from: Some(0),
            to: Some(1),
        }),
        ..small()
    };
    let whole = TrainConfig {
        checkpoint: None,
        resume: false,
        ..config.clone()
    };
    let whole = fit(&whole, &data, Some(&data), 2, &mut silent()).unwrap();
    // Interrupted in the fourth epoch, like a power cut: by a panic of the observer.
    let cut = std::panic::catch_unwind(|| {
        let mut observe = |p: Progress<'_>| {
            if let Progress::Batch {
                epoch: 3, batch: 1, ..
            } = p
            {
                panic!("power cut");
            }
        };
        fit(&config, &data, Some(&data), 2, &mut observe)
    });
    assert!(cut.is_err() && path.exists());
    let mut epochs = 0;
    let mut observe = |p: Progress<'_>| epochs += usize::from(matches!(p, Progress::Epoch(_)));
    let resumed = fit(&config, &data, Some(&data), 2, &mut observe).unwrap();
    assert_eq!(epochs, 3);
    assert_eq!(resumed.model, whole.model);
    // Another recipe does not go on from it, and neither does another file.
    let other = TrainConfig {
        lr: 0.02,
        ..config.clone()
    };
    let error = fit(&other, &data, None, 2, &mut silent())
        .unwrap_err()
        .to_string();
    assert!(error.contains("another recipe"), "{error}");
    // Nor do other data, whatever differs.
    let mut moved = x.clone();
    moved[50] += 1e-3;
    let turned: Vec<i32> = labels.iter().map(|l| 1 - l).collect();
    for (x, labels) in [(&moved, &labels), (&x, &turned)] {
        let data = Sequences::windows(x, 2, 7, labels);
        let error = fit(&config, &data, None, 2, &mut silent()).unwrap_err();
        assert!(error.to_string().contains("on other data"), "{error}");
    }
    std::fs::write(&path, b"something else").unwrap();
    let error = fit(&config, &data, None, 2, &mut silent())
        .unwrap_err()
        .to_string();
    assert!(error.contains("not a checkpoint"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_loss_that_is_not_a_number_stops_with_its_place() {
    let (mut x, labels) = toy(100, 5, 5);
    x[33] = f32::NAN;
    let data = Sequences::windows(&x, 2, 5, &labels);
    let error = fit(&small(), &data, None, 2, &mut silent())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("NaN") && error.contains("in epoch 1 batch"),
        "{error}"
    );
}

#[test]
fn wrong_settings_and_data_are_named() {
    let (x, labels) = toy(10, 5, 6);
    let data = Sequences::windows(&x, 2, 5, &labels);
    let fails = |config: TrainConfig, data: &Sequences<'_>, outputs| {
        fit(&config, data, None, outputs, &mut silent())
            .unwrap_err()
            .to_string()
    };
    assert!(
        fails(
            TrainConfig {
                units: vec![],
                ..small()
            },
            &data,
            2
        )
        .contains("units []")
    );
    assert!(
        fails(
            TrainConfig {
                lr: -1.0,
                ..small()
            },
            &data,
            2
        )
        .contains("lr -1")
    );
    for (density, from, to, what) in [
        (0.0, None, None, "prune.density 0"),
        (1.1, None, None, "prune.density 1.1"),
        (0.5, Some(4), Some(2), "prune.from 4 and prune.to 2"),
        (0.5, None, Some(6), "prune.to 6"),
    ] {
        let prune = Some(Prune { density, from, to });
        let config = TrainConfig { prune, ..small() };
        assert!(fails(config, &data, 2).contains(what), "{what}");
    }
    let few = TrainConfig {
        prune: Some(Prune::to_density(0.5)),
        weight_bits: 4,
        ..small()
    };
    assert!(fails(few, &data, 2).contains("8 bits"));
    assert!(fails(small(), &data, 1).contains("label 1, but the model has 1 outputs"));
    assert!(
        fails(
            TrainConfig {
                readout: Readout::Every,
                ..small()
            },
            &data,
            2
        )
        .contains("Every")
    );
    let short = Sequences { count: 11, ..data };
    assert!(fails(small(), &short, 2).contains("sequence 10 ends at row 55, but there are 50"));
    let bad = toml::from_str::<TrainConfig>("unit = [3]")
        .unwrap_err()
        .to_string();
    assert!(bad.contains("unknown field `unit`"), "{bad}");
}

#[test]
fn a_recipe_reads_from_toml() {
    let config: TrainConfig = toml::from_str(
        r#"
        units = [32, 16]
        lr = 3e-3
        readout = { kind = "mean", skip = 16 }
        schedule = { kind = "cosine", warmup = 2 }
        weight_decay = 1e-2
        label_smoothing = 0.1
        ema = 0.99
        clip_norm = 1.0
        augment = { rotation_rad = 0.2, scale = 0.1, jitter = 0.05 }
        qat = { epochs = 10 }
        distill = { units = [48], epochs = 30, temperature = 3.0 }
        optimizer = { convention = "torch" }
        prune = { density = 0.5, to = 20 }
        "#,
    )
    .unwrap();
    assert_eq!(config.units, [32, 16]);
    assert_eq!(config.readout, Readout::Mean { skip: 16 });
    assert_eq!(
        config.qat,
        Some(Qat {
            bits: 8,
            epochs: 10,
            lr: 0.1,
            own: 0.0
        })
    );
    let prune = Prune {
        density: 0.5,
        from: None,
        to: Some(20),
    };
    assert_eq!(config.prune, Some(prune));
    let distill = config.distill.unwrap();
    assert_eq!((distill.temperature, distill.weight), (3.0, 0.7));
}

#[test]
fn labels_per_step_and_short_sequences_are_learnt() {
    // The label of a step is the sign of the previous value: needs memory of one step.
    let mut rng = Rng::new(9);
    let x: Vec<f32> = (0..60 * 20).map(|_| rng.normal() as f32).collect();
    let labels: Vec<i32> = (0..60 * 20)
        .map(|k| {
            if k % 20 == 0 {
                -1
            } else {
                i32::from(x[k - 1] > 0.0)
            }
        })
        .collect();
    let lengths: Vec<usize> = (0..60).map(|i| 5 + i % 16).collect();
    let data = Sequences {
        labels: Labels::PerStep(&labels),
        lengths: Some(&lengths),
        count: 60,
        ..Sequences::windows(&x, 1, 20, &[])
    };
    let config = TrainConfig {
        readout: Readout::Every,
        epochs: 80,
        batch: 20,
        ..small()
    };
    let fitted = fit(&config, &data, None, 2, &mut silent()).unwrap();
    let result = evaluate(&fitted.model, &data, 2).unwrap();
    assert_eq!(result.count, lengths.iter().map(|l| l - 1).sum::<usize>());
    assert!(result.accuracy() > 0.95, "{}", result.accuracy());
}

#[test]
fn quantization_aware_training_survives_rounding_to_three_bits() {
    let (x, labels) = toy(400, 12, 7);
    let data = Sequences::windows(&x, 2, 12, &labels);
    let config = TrainConfig {
        epochs: 12,
        ..small()
    };
    let plain = fit(&config, &data, None, 2, &mut silent()).unwrap();
    let qat = TrainConfig {
        qat: Some(Qat {
            bits: 3,
            epochs: 8,
            lr: 0.5,
            own: 0.0,
        }),
        ..config
    };
    let aware = fit(&qat, &data, None, 2, &mut silent()).unwrap();
    assert_eq!(aware.history.len(), 20);
    let both = aware.qat.unwrap();
    assert_eq!(both.float, plain.model);
    let (rounded, _) = quantize::deployed(&plain.model, &both.ranges, 3, false).unwrap();
    let loss = |model: &ModelSpec| evaluate(model, &data, 1).unwrap().loss;
    assert!(
        loss(&aware.model) < 0.9 * loss(&rounded),
        "{} {}",
        loss(&aware.model),
        loss(&rounded)
    );
}

#[test]
fn a_pupil_learns_from_its_teacher() {
    let (x, labels) = toy(400, 12, 8);
    let data = Sequences::windows(&x, 2, 12, &labels);
    // From the teacher alone: the pupil sees no label at all.
    let config = TrainConfig {
        epochs: 15,
        distill: Some(Distill {
            units: vec![9],
            epochs: 15,
            temperature: 2.0,
            weight: 1.0,
        }),
        ..small()
    };
    let mut epochs = 0;
    let mut observe = |p: Progress<'_>| epochs += usize::from(matches!(p, Progress::Epoch(_)));
    let pupil = fit(&config, &data, None, 2, &mut observe).unwrap();
    assert_eq!(epochs, 30);
    assert_eq!(pupil.model.layers[0].output(), 6);
    let result = evaluate(&pupil.model, &data, 1).unwrap();
    assert!(result.accuracy() > 0.9, "{}", result.accuracy());
    let none = TrainConfig {
        distill: Some(Distill {
            units: vec![],
            ..config.distill.clone().unwrap()
        }),
        ..config
    };
    let error = fit(&none, &data, None, 2, &mut silent()).unwrap_err();
    assert!(error.to_string().contains("distill.units []"), "{error}");
}

#[test]
fn the_recipes_of_the_repository_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        read_config(&path).unwrap_or_else(|e| panic!("{e}"));
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn a_carried_state_remembers_longer_than_a_piece() {
    // The class is the sign of the latest pulse; pulses are further apart than a piece is long.
    let mut rng = Rng::new(21);
    let (count, steps) = (24, 160);
    let (mut x, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut class = -1;
        for _ in 0..steps {
            let pulse = if rng.uniform() < 0.06 {
                let up = rng.uniform() < 0.5;
                class = i32::from(up);
                if up { 1.0 } else { -1.0 }
            } else {
                0.0
            };
            x.push(pulse);
            labels.push(class);
        }
    }
    let lengths: Vec<usize> = (0..count).map(|k| steps - 3 * k).collect();
    let data = Sequences {
        labels: Labels::PerStep(&labels),
        lengths: Some(&lengths),
        count,
        ..Sequences::windows(&x, 1, steps, &[])
    };
    let config = TrainConfig {
        readout: Readout::Every,
        batch: 4,
        epochs: 25,
        lr: 0.02,
        stateful: Some(Stateful {
            steps: 8,
            carry_over: 0.3,
            gaps: 0.1,
            gap_steps: 3,
        }),
        ..small()
    };
    let run = |threads| {
        let config = TrainConfig {
            threads,
            ..config.clone()
        };
        fit(&config, &data, Some(&data), 2, &mut silent()).unwrap()
    };
    let fitted = run(1);
    let last = fitted.history[24];
    assert!(last.validation_accuracy > Some(0.95), "{last:?}");
    // Validation reads whole recordings, as `evaluate` does.
    let result = evaluate(&fitted.model, &data, 1).unwrap();
    assert!((result.accuracy() - last.validation_accuracy.unwrap()).abs() < 1e-3);
    assert_eq!(fitted.model, run(3).model);
}

#[test]
fn quantization_aware_training_may_be_done_later() {
    let (x, labels) = toy(200, 9, 31);
    let data = Sequences::windows(&x, 2, 9, &labels);
    let config = TrainConfig {
        epochs: 4,
        ema: Some(0.9),
        qat: Some(Qat {
            bits: 4,
            epochs: 2,
            lr: 0.3,
            own: 0.0,
        }),
        distill: Some(Distill {
            units: vec![8],
            epochs: 2,
            temperature: 2.0,
            weight: 0.5,
        }),
        ..small()
    };
    let whole = fit(&config, &data, None, 2, &mut silent()).unwrap();
    let floats = TrainConfig {
        qat: None,
        ..config.clone()
    };
    let floats = fit(&floats, &data, None, 2, &mut silent()).unwrap();
    let hooks = Hooks {
        trained: Some(&floats),
        ..Hooks::default()
    };
    let later = fit_with(&config, &data, None, 2, &hooks, &mut silent()).unwrap();
    assert_eq!(later.history.len(), 2);
    assert_eq!(later.float(), &floats.model);
    assert_eq!(later.qat, whole.qat);
    assert_eq!(later.model, whole.model);
}

#[test]
fn pruned_blocks_stay_zero_whatever_comes_after() {
    let (x, labels) = toy(200, 9, 32);
    let data = Sequences::windows(&x, 2, 9, &labels);
    let config = TrainConfig {
        units: vec![20],
        prune: Some(Prune::to_density(0.4)),
        ema: Some(0.9),
        clip_norm: Some(1.0),
        weight_decay: 0.01,
        qat: Some(Qat {
            bits: 8,
            epochs: 2,
            lr: 0.3,
            own: 0.0,
        }),
        ..small()
    };
    let run = |threads| {
        let config = TrainConfig {
            threads,
            ..config.clone()
        };
        fit(&config, &data, None, 2, &mut silent()).unwrap()
    };
    let one = run(1);
    assert_eq!(one.model, run(3).model);
    let u = |model: &ModelSpec| match &model.layers[0] {
        LayerSpec::Gru(g) => g.u.clone(),
        _ => panic!("a GRU layer"),
    };
    let float = u(one.float());
    let left = float.iter().filter(|w| **w != 0.0).count();
    assert!(left <= 480 && left > 480 - 48, "{left}");
    // Blocks of two columns of a panel's units go as a whole.
    for first in [0, 8, 16] {
        for column in (0..20).step_by(2) {
            let rows = (0..3).flat_map(|g| (first..20.min(first + 8)).map(move |u| 20 * g + u));
            let all: Vec<f32> = rows
                .flat_map(|r| [0, 1].map(|k| 20 * r + column + k))
                .map(|k| float[k])
                .collect();
            let zeros = all.iter().filter(|w| **w == 0.0).count();
            assert!(zeros == 0 || zeros == all.len(), "{first} {column}");
        }
    }
    let qat = one.qat.as_ref().unwrap();
    for later in [u(&qat.master), u(&one.model)] {
        assert_ne!(later, float);
        let back = float
            .iter()
            .zip(&later)
            .any(|(f, l)| *f == 0.0 && *l != 0.0);
        assert!(!back);
    }
    // Nor do they come back where the integers are trained later.
    let floats = TrainConfig {
        qat: None,
        ..config.clone()
    };
    let floats = fit(&floats, &data, None, 2, &mut silent()).unwrap();
    assert_eq!(&floats.model, one.float());
    let hooks = Hooks {
        trained: Some(&floats),
        ..Hooks::default()
    };
    let later = fit_with(&config, &data, None, 2, &hooks, &mut silent()).unwrap();
    assert_eq!(later.model, one.model);
}

#[test]
fn a_model_in_floats_teaches_its_integers() {
    let (x, labels) = toy(400, 12, 32);
    let data = Sequences::windows(&x, 2, 12, &labels);
    let config = TrainConfig {
        epochs: 15,
        ..small()
    };
    let floats = fit(&config, &data, None, 2, &mut silent()).unwrap();
    // Wrong labels show who is listened to.
    let wrong: Vec<i32> = labels.iter().map(|l| 1 - l).collect();
    let wrong = Sequences::windows(&x, 2, 12, &wrong);
    let right = |own| {
        let config = TrainConfig {
            qat: Some(Qat {
                bits: 8,
                epochs: 10,
                lr: 1.0,
                own,
            }),
            ..config.clone()
        };
        let hooks = Hooks {
            trained: Some(&floats),
            ..Hooks::default()
        };
        let fitted = fit_with(&config, &wrong, None, 2, &hooks, &mut silent()).unwrap();
        evaluate(&fitted.model, &data, 1).unwrap().accuracy()
    };
    let (labels, own) = (right(0.0), right(1.0));
    assert!(own > 0.9 && labels < 0.85, "{own} {labels}");
    let bad = TrainConfig {
        loss: Loss::Mse,
        qat: Some(Qat::usual(8, 10)),
        ..config.clone()
    };
    assert!(bad.check().is_err());
}

#[test]
fn a_plateau_lowers_the_rate_and_progress_does_not() {
    let (x, labels) = toy(200, 8, 33);
    let data = Sequences::windows(&x, 2, 8, &labels);
    let wrong: Vec<i32> = labels.iter().map(|l| 1 - l).collect();
    let wrong = Sequences::windows(&x, 2, 8, &wrong);
    let config = TrainConfig {
        schedule: Schedule::Plateau {
            patience: 1,
            factor: 0.5,
        },
        ..small()
    };
    let last = |validation: &Sequences<'_>| {
        let fitted = fit(&config, &data, Some(validation), 2, &mut silent()).unwrap();
        fitted.history[5].lr
    };
    // What is learnt makes the loss on the inverted labels worse from epoch to epoch.
    assert!(last(&wrong) <= 0.5 * config.lr);
    assert_eq!(last(&data), config.lr);
}

#[test]
fn a_class_without_weight_is_not_learnt() {
    let (x, labels) = toy(200, 8, 34);
    let data = Sequences::windows(&x, 2, 8, &labels);
    let of_ones = |class_weights| {
        let config = TrainConfig {
            class_weights,
            epochs: 12,
            ..small()
        };
        let fitted = fit(&config, &data, None, 2, &mut silent()).unwrap();
        let decided = evaluate(&fitted.model, &data, 1).unwrap().classes(2);
        decided.iter().filter(|c| **c == 1).count()
    };
    assert!(of_ones(vec![]) > 50);
    assert_eq!(of_ones(vec![1.0, 0.0]), 0);
}

/// A recipe whose epochs are one batch each, and its parameters after each of so many.
fn trajectory(config: &TrainConfig, data: &Sequences<'_>, epochs: usize) -> Vec<Vec<f32>> {
    let flat = |model: &ModelSpec| {
        let network = Network::new::<f32>(model, Loss::default(), Isa::all()[0]).unwrap();
        network.flatten::<f32>(model)
    };
    let after = |epochs| {
        let config = TrainConfig {
            epochs,
            ema: None,
            ..config.clone()
        };
        flat(&fit(&config, data, None, 2, &mut silent()).unwrap().model)
    };
    let fresh = flat(&fresh_model(config, data.features, 2));
    std::iter::once(fresh)
        .chain((1..=epochs).map(after))
        .collect()
}

#[test]
fn averaged_weights_are_the_mean_that_the_decay_says_and_are_validated() {
    let (x, labels) = toy(40, 6, 41);
    let data = Sequences::windows(&x, 2, 6, &labels);
    let config = TrainConfig {
        epochs: 5,
        ema: Some(0.3),
        ..small()
    };
    let steps = trajectory(&config, &data, 5);
    let mut mean: Vec<f64> = steps[0].iter().map(|p| f64::from(*p)).collect();
    // (1 + k) / (10 + k) until the decay is less.
    for (step, keep) in (steps[1..].iter()).zip([2.0 / 11.0, 3.0 / 12.0, 0.3, 0.3, 0.3]) {
        for (mean, now) in mean.iter_mut().zip(step) {
            *mean = keep * *mean + (1.0 - keep) * f64::from(*now);
        }
    }
    let fitted = fit(&config, &data, Some(&data), 2, &mut silent()).unwrap();
    let network = Network::new::<f32>(&fitted.model, Loss::default(), Isa::all()[0]).unwrap();
    let found = network.flatten::<f32>(&fitted.model);
    for (found, mean) in found.iter().zip(&mean) {
        assert!((f64::from(*found) - mean).abs() < 1e-6, "{found} {mean}");
    }
    assert_ne!(&found, steps.last().unwrap());
    let judged = evaluate(&fitted.model, &data, 1).unwrap().loss;
    let last = fitted.history[4].validation_loss.unwrap();
    assert!((judged - last).abs() < 1e-6, "{judged} {last}");
}

#[test]
fn training_stops_when_validation_gets_no_better_and_goes_back_to_the_best_epoch() {
    let (x, labels) = toy(40, 8, 42);
    let data = Sequences::windows(&x, 2, 8, &labels);
    let config = TrainConfig {
        epochs: 60,
        lr: 0.05,
        patience: Some(3),
        ..small()
    };
    // Two in five labels are wrong: what is learnt helps on the others at first.
    let doubtful: Vec<i32> = (0..40)
        .map(|k| (labels[k] + i32::from(k % 5 < 2)) % 2)
        .collect();
    let wrong: Vec<i32> = labels.iter().map(|l| 1 - l).collect();
    let mut best = Vec::new();
    for labels in [&doubtful, &wrong, &labels] {
        let other = Sequences::windows(&x, 2, 8, labels);
        let fitted = fit(&config, &data, Some(&other), 2, &mut silent()).unwrap();
        let losses: Vec<f64> = fitted
            .history
            .iter()
            .map(|e| e.validation_loss.unwrap())
            .collect();
        let lowest = (0..losses.len()).fold(0, |a, k| if losses[k] < losses[a] { k } else { a });
        assert_eq!(fitted.best_epoch, Some(lowest));
        assert_eq!(losses.len(), (lowest + 3 + 1).min(60), "{losses:?}");
        // Validation chooses, and nothing else: the same weights as without it.
        let until = TrainConfig {
            epochs: lowest + 1,
            patience: None,
            ..config.clone()
        };
        let same = fit(&until, &data, None, 2, &mut silent()).unwrap();
        assert_eq!(fitted.model, same.model);
        best.push(lowest);
    }
    assert!(
        (2..50).contains(&best[0]) && best[1] == 0 && best[2] > best[0],
        "{best:?}"
    );
}

#[test]
fn the_rate_follows_its_schedule_batch_by_batch() {
    let (x, labels) = toy(200, 4, 43);
    let data = Sequences::windows(&x, 2, 4, &labels);
    let rates = |schedule| {
        let config = TrainConfig {
            schedule,
            ..small()
        };
        let fitted = fit(&config, &data, None, 2, &mut silent()).unwrap();
        fitted.history.iter().map(|e| e.lr).collect::<Vec<f64>>()
    };
    let near = |found: Vec<f64>, expected: [f64; 6]| {
        let all = found.iter().zip(expected);
        assert!(
            all.clone().all(|(a, b)| (a - 0.01 * b).abs() < 1e-5),
            "{found:?}"
        );
        assert_eq!(all.count(), 6);
    };
    let step = Schedule::Step {
        every: 2,
        factor: 0.5,
    };
    near(rates(step), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
    // The last of five batches of an epoch begins 0.8 into it.
    let cosine = Schedule::Cosine {
        warmup: 1.0,
        floor: 0.1,
    };
    let fall = |done: f64| 0.1 + 0.45 * (1.0 + (std::f64::consts::PI * (done - 1.0) / 5.0).cos());
    near(
        rates(cosine),
        [0.801, fall(1.8), fall(2.8), fall(3.8), fall(4.8), fall(5.8)],
    );
}

/// Mean loss and gradient of a batch in f64.
fn batch_of(
    model: &ModelSpec,
    set: Sequences<'_>,
    class_weights: &[f32],
    indices: &[usize],
) -> (f64, Vec<f64>) {
    let network = Network::new::<f64>(model, Loss::default(), Isa::all()[0]).unwrap();
    let setup = Setup {
        network: &network,
        sets: &[set],
        class_weights,
        threads: 1,
        change: None,
        teacher: None,
    };
    setup.run(|session: &mut Session<'_, f64>| {
        session.set_weights(&network.flatten::<f64>(model));
        let loss = session.batch(0, indices, None).loss;
        (loss, session.gradient().to_vec())
    })
}

#[test]
fn a_weight_counts_as_if_the_sequence_were_there_more_often() {
    let (x, _) = toy(4, 7, 44);
    let labels = [0, 1, 2, 1];
    let data = Sequences::windows(&x, 2, 7, &labels);
    let model = fresh_model(&small(), 2, 3);
    let same = |found: (f64, Vec<f64>), expected: &(f64, Vec<f64>)| {
        assert!((found.0 - expected.0).abs() < 1e-12);
        for (a, b) in found.1.iter().zip(&expected.1) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
    };
    let often = batch_of(&model, data, &[], &[0, 1, 1, 1, 2, 2, 3, 3, 3]);
    // Only the ratio counts.
    for scale in [1.0, 0.25] {
        let weights = [1.0, 3.0, 2.0, 3.0].map(|w| w * scale);
        let weighted = Sequences {
            weights: Some(&weights),
            ..data
        };
        same(batch_of(&model, weighted, &[], &[0, 1, 2, 3]), &often);
        let classes = [1.0, 3.0, 2.0].map(|w| w * scale);
        same(batch_of(&model, data, &classes, &[0, 1, 2, 3]), &often);
    }
    let half = [1.0, 1.5, 2.0, 1.5];
    let both = Sequences {
        weights: Some(&half),
        ..data
    };
    same(
        batch_of(&model, both, &[1.0, 2.0, 1.0], &[0, 1, 2, 3]),
        &often,
    );
    // A weight of zero is absence.
    let gone = [1.0, 0.0, 1.0, 1.0];
    let gone = Sequences {
        weights: Some(&gone),
        ..data
    };
    let without = batch_of(&model, data, &[], &[0, 2, 3]);
    same(batch_of(&model, gone, &[], &[0, 1, 2, 3]), &without);
}

#[test]
fn settings_out_of_range_and_unknown_keys_are_named() {
    for (text, part) in [
        ("optimizer = { beta = 0.9 }", "`beta`"),
        ("optimizer = { beta1 = 1.0 }", "optimizer.beta1 1"),
        ("optimizer = { beta2 = -0.1 }", "optimizer.beta2 -0.1"),
        ("optimizer = { epsilon = 0.0 }", "optimizer.epsilon 0"),
        ("optimizer = { weight_decay = -1.0 }", "weight_decay -1"),
        ("weight_decay = nan", "weight_decay NaN"),
        ("schedule = { kind = \"linear\" }", "`linear`"),
        ("schedule = { kind = \"cosine\", warm_up = 2 }", "`warm_up`"),
        (
            "schedule = { kind = \"cosine\", warmup = -1 }",
            "schedule.warmup -1",
        ),
        (
            "schedule = { kind = \"cosine\", floor = 2 }",
            "schedule.floor 2",
        ),
        (
            "schedule = { kind = \"step\", every = 0, factor = 0.5 }",
            "0 epochs",
        ),
        (
            "schedule = { kind = \"step\", every = 2, factor = -1 }",
            "schedule.factor -1",
        ),
        (
            "schedule = { kind = \"plateau\", patience = 2, factor = nan }",
            "schedule.factor NaN",
        ),
        ("loss = { kind = \"huber\", delta = -1 }", "loss.delta -1"),
        (
            "loss = { kind = \"softmax\", smoothing = 0.1 }",
            "`smoothing`",
        ),
        (
            "loss = { kind = \"sigmoid\", label_smoothing = 1.5 }",
            "label_smoothing 1.5",
        ),
        ("readout = { kind = \"mean\", skips = 3 }", "`skips`"),
        ("readout = { kind = \"mean\", skip = -3 }", "-3"),
        ("class_weights = [1, -1]", "class_weights -1"),
        ("class_weights = [0, 0]", "class_weights of 0"),
        ("dropout = 1.0", "dropout 1"),
        ("recurrent_dropout = -0.1", "recurrent_dropout -0.1"),
        ("ema = 1.0", "ema 1,"),
        ("clip_norm = -1", "clip_norm -1"),
        ("qat = { epochs = 1, bit = 4 }", "`bit`"),
        (
            "distill = { units = [8], epochs = 1, temprature = 2 }",
            "`temprature`",
        ),
        ("augment = { jiter = 0.1 }", "`jiter`"),
        ("batch = -1", "-1"),
        ("units = [100000]", "units [100000]"),
        ("units = [4", "array"),
    ] {
        let error = parse_config(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
        assert_eq!(error.lines().count(), 1, "{text}: {error}");
    }
    let (x, labels) = toy(10, 5, 45);
    let data = Sequences::windows(&x, 2, 5, &labels);
    for (text, part) in [
        ("augment = { channel_drop = 1.5 }", "channel_drop 1.5"),
        ("augment = { time_warp = 1.5 }", "time_warp 1.5"),
        ("augment = { jitter = -0.1 }", "-0.1"),
        ("augment = { triads = [[0, 1, 2]] }", "feature 2"),
        ("class_weights = [1, 1, 1]", "class_weights has 3"),
    ] {
        let config = parse_config(text).unwrap();
        let error = fit(&config, &data, None, 2, &mut silent())
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}
