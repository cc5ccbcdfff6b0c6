//! What the trainer learns with every option of its layers, from data to decisions.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use gru_train_host::layers::{Bidirectional, Dense, Gru, Layer};
use gru_train_host::nn::data::Sequences;
use gru_train_host::nn::rng::Rng;
use gru_train_host::quantize::{Method, calibrate_by};
use gru_train_host::sequential::{Adam, FitOptions, Loss, Sequential};
use gru_train_host::spec::{Activation, DenseSpec, GruSpec, LayerSpec, Merge, ModelSpec, Readout};
use gru_train_host::train::{Progress, Qat, TrainConfig, fit, silent};

const STEPS: usize = 20;

/// Windows of noise whose class is the sign of their first value: two features.
fn first_value(count: usize, seed: u64) -> (Vec<f32>, Vec<i32>) {
    let mut rng = Rng::new(seed);
    let mut x: Vec<f32> = (0..count * STEPS * 2)
        .map(|_| 0.4 * rng.normal() as f32)
        .collect();
    let mut labels = Vec::new();
    for window in x.chunks_exact_mut(STEPS * 2) {
        let up = rng.uniform() < 0.5;
        window[0] = if up { 1.5 } else { -1.5 };
        labels.push(i32::from(up));
    }
    (x, labels)
}

/// Trains `layers` with a Dense on top and returns the last accuracy and the layers.
fn learn(layers: Vec<Layer>, dense: Dense, epochs: usize) -> (f64, Vec<LayerSpec>) {
    let (x, labels) = first_value(256, 3);
    let mut model = Sequential::new(STEPS, 2);
    for layer in layers {
        model = model.add(layer);
    }
    let adam = Adam {
        learning_rate: 0.02,
        ..Adam::default()
    };
    let mut model = model
        .add(dense)
        .compile(adam, Loss::SparseCategoricalCrossentropy);
    let options = FitOptions {
        epochs,
        threads: 1,
        ..FitOptions::default()
    };
    let data = Sequences::windows(&x, 2, STEPS, &labels);
    let history = model.fit(&data, None, &options).unwrap();
    let accuracy = history.last().unwrap().accuracy;
    // The weights that were trained are those that predict.
    let outputs = model.predict(&x).unwrap().outputs;
    let right = outputs
        .chunks_exact(2)
        .zip(&labels)
        .filter(|(y, l)| i32::from(y[1] > y[0]) == **l);
    let predicted = right.count() as f64 / labels.len() as f64;
    assert!(
        (predicted - accuracy).abs() < 0.06,
        "{predicted} {accuracy}"
    );
    (accuracy, model.spec().unwrap().layers.clone())
}

#[test]
fn what_comes_first_is_learnt_by_layers_that_read_it_last() {
    let gru = || Gru::new(5);
    let forward = learn(vec![gru().into()], Dense::new(2), 5).0;
    let backward = learn(vec![gru().go_backwards(true).into()], Dense::new(2), 5).0;
    assert!(forward < 0.9 && backward > 0.97, "{forward} {backward}");
    for merge in [Merge::Concat, Merge::Sum, Merge::Mul, Merge::Ave] {
        let lower = Bidirectional::new(gru().return_sequences(true)).merge_mode(merge);
        let upper = Bidirectional::new(gru()).merge_mode(merge);
        let accuracy = learn(vec![lower.into(), upper.into()], Dense::new(2), 8).0;
        assert!(accuracy > 0.97, "{merge:?}: {accuracy}");
    }
}

#[test]
fn every_variant_of_a_cell_learns() {
    let base = || Gru::new(6).go_backwards(true);
    let variants = [
        base().reset_after(false),
        base()
            .activation(Activation::Relu)
            .recurrent_activation(Activation::HardSigmoid),
        base()
            .activation(Activation::Linear)
            .recurrent_activation(Activation::HardSigmoidV2),
        base().activation(Activation::Softsign),
        base().activation(Activation::HardTanh).clip(2.0),
        base().use_bias(false),
        base().learn_initial_state(true),
    ];
    for gru in variants {
        let accuracy = learn(vec![gru.clone().into()], Dense::new(2), 8).0;
        assert!(accuracy > 0.95, "{gru:?}: {accuracy}");
    }
    // No bias means none, learnt states stay where 16 bits hold them.
    let gru = base().use_bias(false).learn_initial_state(true);
    let layers = learn(vec![gru.into()], Dense::new(2).use_bias(false), 8).1;
    let [LayerSpec::Gru(g), LayerSpec::Dense(d)] = &layers[..] else {
        panic!("{layers:?}");
    };
    assert!(g.b_in.iter().chain(&g.b_rec).chain(&d.b).all(|b| *b == 0.0));
    assert!(g.h0.iter().any(|h| *h != 0.0) && g.h0.iter().all(|h| h.abs() <= 1.0));
}

#[test]
fn two_directions_learn_with_everything_else_the_same_for_any_number_of_threads() {
    let (x, labels) = first_value(128, 4);
    let lengths: Vec<usize> = (0..128).map(|k| 4 + k % (STEPS - 3)).collect();
    let data = Sequences {
        lengths: Some(&lengths),
        ..Sequences::windows(&x, 2, STEPS, &labels)
    };
    let config = |threads| TrainConfig {
        units: vec![5, 4],
        bidirectional: true,
        learn_initial_state: true,
        readout: Readout::Mean { skip: 2 },
        dropout: 0.1,
        recurrent_dropout: 0.1,
        ema: Some(0.9),
        epochs: 6,
        batch: 40,
        lr: 0.02,
        threads,
        ..TrainConfig::default()
    };
    let run = |threads| fit(&config(threads), &data, Some(&data), 2, &mut silent()).unwrap();
    let one = run(1);
    assert!(
        one.history[5].validation_accuracy > Some(0.9),
        "{:?}",
        one.history
    );
    assert_eq!(one.model, run(3).model);
}

#[test]
fn resuming_in_quantization_aware_training_gives_the_same_bits() {
    let (x, labels) = first_value(100, 5);
    let data = Sequences::windows(&x, 2, STEPS, &labels);
    let path = std::env::temp_dir().join(format!("gru-learning-{}.ckpt", std::process::id()));
    let _ = fs::remove_file(&path);
    let config = TrainConfig {
        units: vec![4],
        go_backwards: true,
        epochs: 3,
        ema: Some(0.9),
        qat: Some(Qat {
            bits: 4,
            epochs: 3,
            lr: 0.3,
            own: 0.5,
        }),
        threads: 1,
        ..TrainConfig::default()
    };
    let whole = fit(&config, &data, None, 2, &mut silent()).unwrap();
    let kept = TrainConfig {
        checkpoint: Some(path.clone()),
        resume: true,
        ..config
    };
    for (stage, left) in [(1, 5), (4, 2)] {
        let cut = std::panic::catch_unwind(|| {
            let mut observe = |p: Progress<'_>| {
                if let Progress::Batch {
                    epoch, batch: 1, ..
                } = p
                    && epoch == stage
                {
                    panic!("power cut");
                }
            };
            fit(&kept, &data, None, 2, &mut observe)
        });
        assert!(cut.is_err(), "{stage}");
        let mut epochs = 0;
        let mut observe = |p: Progress<'_>| epochs += usize::from(matches!(p, Progress::Epoch(_)));
        let resumed = fit(&kept, &data, None, 2, &mut observe).unwrap();
        assert_eq!((epochs, &resumed.model), (left, &whole.model));
        fs::remove_file(&path).unwrap();
    }
}

/// Largest magnitude of the input that a method holds.
fn held(method: Method, x: &[f32]) -> f32 {
    let model = ModelSpec {
        layers: vec![
            LayerSpec::Gru(GruSpec::zeros(1, 2)),
            LayerSpec::Dense(DenseSpec::zeros(2, 2)),
        ],
        ..ModelSpec::default()
    };
    calibrate_by(method, &model, [x]).unwrap().input
}

#[test]
fn methods_of_calibration_choose_what_they_promise() {
    let mut rng = Rng::new(7);
    let mut x: Vec<f32> = (0..30_000).map(|_| rng.normal() as f32).collect();
    x[777] = 1000.0;
    assert_eq!(held(Method::MinMax, &x), 1000.0);
    // 99.99 % of normal magnitudes are below 3.9.
    let bound = held(Method::Percentile, &x);
    assert!((3.6..4.2).contains(&bound), "{bound}");
    // 16 bits are fine enough to hold what is far out; but not what is hardly beyond a full scale.
    assert!(held(Method::Mse, &x) > 512.0);
    x.iter_mut().for_each(|v| *v = v.clamp(-3.5, 3.5));
    x[777] = 4.001;
    let error = |exponent: i32| -> f64 {
        let step = f64::from(exponent - 15).exp2();
        let rounded = |v: f64| (v / step).round().clamp(-32768.0, 32767.0) * step;
        x.iter()
            .map(|v| f64::from(*v) - rounded(f64::from(*v)))
            .map(|e| e * e)
            .sum()
    };
    let best = (0..8)
        .min_by(|a, b| error(*a).total_cmp(&error(*b)))
        .unwrap();
    let exponent = |method| held(method, &x).log2().ceil() as i32;
    assert_eq!((exponent(Method::MinMax), exponent(Method::Mse)), (3, 2));
    assert_eq!(best, 2);
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gru-learning-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// The windows as recordings of a CSV in whole counts.
    fn csv(&self, count: usize) -> String {
        let (x, labels) = first_value(count, 6);
        let mut text = String::from("a,b,label,recording\n");
        for (n, (window, label)) in x.chunks_exact(STEPS * 2).zip(&labels).enumerate() {
            for row in window.chunks_exact(2) {
                let [a, b] = [row[0], row[1]].map(|v| (1000.0 * v).round());
                let name = ["down", "up"][*label as usize];
                writeln!(text, "{a},{b},{name},r{n}").unwrap();
            }
        }
        let path = self.path("data.csv");
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Exit code, standard output and error.
fn gru(args: &[&str]) -> (u8, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = gru_train_host::cli::run(["gru"].iter().chain(args), &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(out) + &text(err))
}

/// The JSON of a command that succeeds with `--json`.
fn json(args: &[&str]) -> serde_json::Value {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let all = ["gru"].iter().chain(args).chain(&["--json"]);
    let code = gru_train_host::cli::run(all, &mut out, &mut err);
    assert_eq!(code, 0, "{args:?}: {}", String::from_utf8_lossy(&err));
    let out = String::from_utf8(out).unwrap();
    serde_json::from_str(out.lines().last().unwrap()).unwrap()
}

/// Arguments that train on such a CSV.
fn train<'a>(csv: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", csv, "-o", out, "--window", "20", "--hop", "20"];
    args.extend([
        "--units", "6", "--epochs", "12", "--lr", "0.02", "--batch", "16",
    ]);
    args.extend(["--threads", "1", "--counts-per-unit", "1000"]);
    args.extend(more);
    args
}

#[test]
fn a_model_that_reads_from_the_end_goes_from_a_csv_to_its_decisions() {
    let folder = Folder::new("backwards");
    let csv = folder.csv(160);
    let model = folder.path("m.gru");
    let trained = json(&train(&csv, &model, &["--go-backwards"]));
    let of = |value: &serde_json::Value, key: &str| value[key].as_f64().unwrap();
    assert!(of(&trained, "int8_accuracy") > 0.95, "{trained}");
    assert!(of(&trained, "agreement") > 0.97, "{trained}");
    let judged = json(&["eval", &model, &csv]);
    for key in ["int8_accuracy", "float_accuracy", "agreement", "windows"] {
        assert_eq!(judged[key], trained[key], "{key}");
    }
    // Every layout has the digest of every other one over windows.
    let digest = judged["digest_host"].clone();
    for layout in ["rows", "quad", "vector", "winograd"] {
        let other = folder.path("other.gru");
        json(&train(
            &csv,
            &other,
            &["--go-backwards", "--layout", layout],
        ));
        assert_eq!(
            json(&["eval", &other, &csv])["digest_host"],
            digest,
            "{layout}"
        );
    }
    let ran = json(&["run", &model, &csv]);
    assert_eq!(ran["steps"], 160 * STEPS);
    let decisions = ran["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), 160, "one a window");
    let labels = first_value(160, 6).1;
    let right = decisions
        .iter()
        .zip(&labels)
        .filter(|(d, l)| d[2].as_i64() == Some(i64::from(**l)));
    assert!(right.count() > 150, "{decisions:?}");
    // On a board, whose request takes samples of 16 bits.
    let narrow = folder.path("narrow.gru");
    let mut args = train(&csv, &narrow, &["--go-backwards"]);
    (args.iter_mut().filter(|arg| **arg == "1000")).for_each(|arg| *arg = "1");
    json(&args);
    let on_board = json(&["run", &narrow, &csv, "--board"]);
    assert_eq!(on_board["digest_board"], on_board["digest_host"]);
    assert_eq!(
        on_board["decisions"],
        json(&["run", &narrow, &csv])["decisions"]
    );
    // More steps than the board has room for.
    let long = folder.path("long.csv");
    let rows = "1,2,up,r0\n".repeat(2049);
    fs::write(&long, format!("a,b,label,recording\n{rows}")).unwrap();
    let args = ["run", &narrow, &long, "--board", "--window", "0"];
    let (code, text) = gru(&args);
    let why = "Capacity { have: 2048, need: 2049 }";
    assert!(code == 2 && text.contains(why), "{code} {text}");
    let (code, text) = gru(&["inspect", &model]);
    assert!(
        code == 0 && text.contains("whole windows") && text.contains("first"),
        "{text}"
    );
    assert_eq!(gru(&["summary", &model]).0, 0);
}

#[test]
fn two_directions_go_from_a_csv_to_their_decisions() {
    let folder = Folder::new("both");
    let csv = folder.csv(160);
    let (model, float) = (folder.path("m.gru"), folder.path("m.float.json"));
    let trained = json(&train(&csv, &model, &["--bidirectional"]));
    let of = |value: &serde_json::Value, key: &str| value[key].as_f64().unwrap();
    for key in ["float_accuracy", "int8_accuracy"] {
        assert!(of(&trained, key) > 0.95, "{trained}");
    }
    assert!(of(&trained, "agreement") > 0.97, "{trained}");
    let judged = json(&["eval", &model, &csv]);
    for key in ["int8_accuracy", "float_accuracy", "agreement", "windows"] {
        assert_eq!(judged[key], trained[key], "{key}");
    }
    let digest = judged["digest_host"].clone();
    for layout in ["rows", "quad"] {
        let other = folder.path("other.gru");
        let more = ["--bidirectional", "--layout", layout];
        json(&train(&csv, &other, &more));
        let judged = json(&["eval", &other, &csv]);
        assert_eq!(judged["digest_host"], digest, "{layout}");
    }
    let ran = json(&["run", &model, &csv]);
    let decisions = ran["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), 160, "one a window");
    let labels = first_value(160, 6).1;
    let both = decisions.iter().zip(&labels);
    let right = both.filter(|(d, l)| d[2].as_i64() == Some(i64::from(**l)));
    assert!(right.count() > 150, "{decisions:?}");
    let (code, text) = gru(&["inspect", &model]);
    assert!(code == 0 && text.contains("whole windows"), "{text}");
    assert!(text.contains("beside those of the layer before"), "{text}");
    let (code, text) = gru(&["summary", &model]);
    assert!(code == 0 && text.contains("GRU, backward"), "{text}");
    // 2·(3·6·(2+6+2)) of the two directions, 2·(12+1) on top.
    for model in [&model, &float] {
        assert_eq!(json(&["summary", model])["parameters"], 360 + 26);
    }
    for command in ["inspect", "summary"] {
        let (code, text) = gru(&[command, &float]);
        assert!(code == 0 && text.contains("Bidirectional GRU"), "{text}");
    }
    // As Rust source, found beside the artifact: the same model, and the RAM that it states.
    let source = folder.path("m.rs");
    let exported = json(&["export", &model, "-o", &source]);
    let text = fs::read_to_string(&source).unwrap();
    assert!(text.contains("BidirectionalF32::new"), "{text}");
    for (name, key) in [("STATE", "state"), ("SCRATCH", "scratch")] {
        let line = format!("pub const {name}: usize = {};", exported[key]);
        assert!(text.contains(&line), "{line}");
    }
    assert_eq!(exported["state"], 12);
    let (code, text) = gru(&["export", &folder.path("none.gru"), "-o", &source]);
    assert!(code == 2 && text.contains("none.float.json"), "{text}");
    let recipe = folder.path("recipe.toml");
    // Training in integers sees both directions.
    fs::write(&recipe, "bidirectional = true\n[qat]\nepochs = 2").unwrap();
    let aware = json(&train(&csv, &model, &["--config", &recipe]));
    assert!(of(&aware, "int8_accuracy") > 0.95, "{aware}");
    assert!(of(&aware, "agreement") > 0.97, "{aware}");
    // What is not concatenated stays in floats and says so.
    let kept = folder.path("sum.gru");
    fs::write(&recipe, "bidirectional = true\nmerge_mode = \"sum\"").unwrap();
    let trained = json(&train(&csv, &kept, &["--config", &recipe]));
    let why = trained["no_artifact"].as_str().unwrap();
    assert!(why.contains("concatenation"), "{trained}");
    assert!(of(&trained, "float_accuracy") > 0.95, "{trained}");
    assert!(!PathBuf::from(&kept).exists());
    let (code, text) = gru(&train(&csv, &model, &["--bidirectional", "--go-backwards"]));
    assert!(code == 2 && text.contains("--go-backwards"), "{text}");
    for (text, part) in [
        (
            "bidirectional = true\nmerge_mode = \"sum\"\n[qat]\nepochs = 1",
            "qat: layer 0",
        ),
        ("bidirectional = true\n[decision]", "whole windows"),
        ("go_backwards = true\nbidirectional = true", "one of them"),
        ("activation = \"softmax\"", "softmax"),
        ("merge_mode = \"min\"", "`min`"),
    ] {
        fs::write(&recipe, text).unwrap();
        let (code, err) = gru(&train(&csv, &model, &["--config", &recipe]));
        assert!(code == 2 && err.contains(part), "{text}: {err}");
    }
}

#[test]
fn ranges_are_chosen_by_any_method_and_a_training_goes_on() {
    let folder = Folder::new("calibration");
    let csv = folder.csv(120);
    let mut sizes = Vec::new();
    for method in ["min-max", "percentile", "mse"] {
        let model = folder.path(&format!("{method}.gru"));
        let args = train(&csv, &model, &["--go-backwards", "--calibration", method]);
        let trained = json(&args);
        assert!(
            trained["agreement"].as_f64() > Some(0.97),
            "{method}: {trained}"
        );
        sizes.push(fs::read(&model).unwrap());
    }
    assert_ne!(sizes[0], sizes[2], "other scales");
    let model = folder.path("m.gru");
    let (code, text) = gru(&train(&csv, &model, &["--calibration", "best"]));
    assert!(code == 2 && text.contains("--calibration"), "{text}");
    let kept = folder.path("state.ckpt");
    let (whole, again) = (folder.path("whole.gru"), folder.path("again.gru"));
    json(&train(&csv, &whole, &["--checkpoint", &kept]));
    let resumed = json(&train(&csv, &again, &["--checkpoint", &kept, "--resume"]));
    assert_eq!(resumed["epochs"], 12);
    assert_eq!(fs::read(&whole).unwrap(), fs::read(&again).unwrap());
    let (code, text) = gru(&train(&csv, &model, &["--resume"]));
    assert!(
        code == 2 && text.contains("resume needs checkpoint"),
        "{text}"
    );
}
