//! The command line, called in this process: answers, refusals, exit codes.

use std::fs;
use std::path::PathBuf;

use gru_core::layout::Layout;
use gru_core::{random, writer};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gru-cli-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Exit code, standard output, standard error.
fn gru(args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let all = ["gru"].iter().chain(args);
    let code = gru_train_host::cli::run(all, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(out), text(err))
}

/// The JSON of the last line.
fn json(out: &str) -> serde_json::Value {
    serde_json::from_str(out.lines().last().unwrap()).unwrap()
}

/// A refusal: code 2, one line, and all of `parts` in it.
fn refused(args: &[&str], parts: &[&str]) {
    let (code, out, err) = gru(args);
    assert_eq!(code, 2, "{args:?}: {out}{err}");
    assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
    assert!(err.starts_with("error: "), "{args:?}: {err}");
    for part in parts {
        assert!(err.contains(part), "{args:?}: no {part:?} in {err}");
    }
}

#[test]
fn inspect_and_summary_of_a_sound_artifact() {
    let folder = Folder::new("sound");
    for layout in Layout::ALL {
        let mut model = random::model(3, 6, &[10, 7], 4);
        if layout.weight_bits() == 4 {
            random::halve(&mut model);
        }
        let path = folder.file("m.gru", writer::write(&model, layout).unwrap());
        let (code, out, err) = gru(&["inspect", &path]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(
            out.contains("sound") && out.contains("GRU(10) on 6"),
            "{out}"
        );
        let (code, out, _) = gru(&["summary", &path, "--json"]);
        let summary = json(&out);
        assert_eq!(code, 0);
        // 3·10·(6+10+2), 3·7·(10+7+2), 4·(7+1)
        assert_eq!(summary["parameters"], 540 + 399 + 32);
        assert_eq!(summary["macs_per_step"], 3 * 10 * 16 + 3 * 7 * 17 + 28);
        assert_eq!(out.lines().count(), 1, "everything else goes beside");
    }
}

#[test]
fn inspect_refuses_whatever_is_not_an_artifact() {
    let folder = Folder::new("damaged");
    let good = writer::write(&random::model(3, 6, &[10], 4), Layout::Rows).unwrap();
    for at in [0, 1, 19, 20, 60, good.len() / 2, good.len() - 1] {
        refused(
            &["inspect", &folder.file("cut.gru", &good[..at])],
            &["cut.gru"],
        );
        let mut bad = good.clone();
        bad[at] ^= 4;
        refused(
            &["inspect", &folder.file("bit.gru", &bad), "--json"],
            &["bit.gru"],
        );
    }
    refused(&["inspect", "no-such-file.gru"], &["no-such-file.gru"]);
    refused(&["inspect", folder.0.to_str().unwrap()], &["a folder"]);
    refused(
        &["summary", &folder.file("text.gru", "x,label\n")],
        &["text.gru"],
    );
}

#[test]
fn run_streams_a_csv_and_refuses_wrong_ones() {
    let folder = Folder::new("run");
    let mut model = random::model(5, 2, &[8], 3);
    for feature in &mut model.features {
        feature.counts_per_unit = 1.0;
    }
    let path = folder.file("m.gru", writer::write(&model, Layout::Rows).unwrap());
    let mut text = "time_s,a,b\n".to_owned();
    for t in 0..200 {
        text += &format!("{:.2},{},{}\n", f64::from(t) * 0.02, t * 50, -t * 31);
    }
    let csv = folder.file("r.csv", &text);
    let (code, out, err) = gru(&["run", &path, &csv, "--every", "20", "--all", "--json"]);
    assert_eq!(code, 0, "{err}");
    let answer = json(&out);
    assert_eq!(answer["steps"], 200);
    assert_eq!(answer["decisions"].as_array().unwrap().len(), 10);
    // The same through the library.
    let samples: Vec<Vec<i16>> = (0..200).map(|t| vec![t * 50, -t * 31]).collect();
    let bytes = writer::Aligned::new(&fs::read(&path).unwrap());
    let loaded = gru_core::Model::load(&bytes).unwrap();
    let digest = writer::digest_of(&loaded, &samples).unwrap();
    assert_eq!(answer["digest_host"], format!("{digest:016x}"));

    refused(&["run", &path, "none.csv"], &["none.csv"]);
    refused(
        &["run", &path, &folder.file("one.csv", "a\n1\n")],
        &["1 features", "takes 2"],
    );
    refused(
        &["run", &path, &folder.file("nan.csv", "a,b\n1,nan\n")],
        &["row 2", "\"b\""],
    );
    refused(&["run", &path, &csv, "--every", "0"], &["--every"]);
    refused(&["run", &csv, &csv], &["r.csv"]);
}

#[test]
fn generated_recordings_read_back() {
    let folder = Folder::new("generate");
    let path = folder.0.join("imu.csv");
    let path = path.to_str().unwrap();
    let (code, out, err) = gru(&[
        "generate",
        path,
        "--persons",
        "2",
        "--seconds",
        "20",
        "--json",
    ]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(json(&out)["steps"], 2000);
    let options = gru_train_host::dataset::csv::Options {
        counts_per_unit: vec![4096.0, 4096.0, 4096.0, 938.734, 938.734, 938.734],
        ..Default::default()
    };
    let read = gru_train_host::dataset::open(path.as_ref(), &options).unwrap();
    let config = gru_train_host::imu::ImuConfig {
        persons: 2,
        recordings: 1,
        seconds: 20.0,
    };
    let made = gru_train_host::imu::generate(&config, 1);
    assert_eq!(read.subjects, made.subjects);
    for (a, b) in read.sequences.iter().zip(&made.sequences) {
        assert_eq!(a.counts, b.counts, "text keeps every count");
    }
    let (code, _, err) = gru(&["generate", path, "--persons", "0"]);
    assert_eq!(code, 2, "{err}");
}

#[test]
fn train_eval_and_run_on_one_csv() {
    let folder = Folder::new("train");
    let path = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
    let (csv, model) = (path("imu.csv"), path("m.gru"));
    assert_eq!(
        gru(&["generate", &csv, "--persons", "5", "--seconds", "60"]).0,
        0
    );
    let train = |out: &str, threads: &str| {
        let (code, text, err) = gru(&[
            "train",
            &csv,
            "--units",
            "12",
            "--epochs",
            "6",
            "--lr",
            "1e-2",
            "--threads",
            threads,
            "-o",
            out,
            "--json",
        ]);
        assert_eq!(code, 0, "{err}");
        json(&text)
    };
    let trained = train(&model, "1");
    assert_eq!(trained["split"], "by subject");
    assert!(trained["agreement"].as_f64().unwrap() > 0.97, "{trained}");
    // The same seed gives the same bytes, for any number of threads.
    train(&path("again.gru"), "2");
    assert_eq!(
        fs::read(&model).unwrap(),
        fs::read(path("again.gru")).unwrap()
    );
    // Judged on the same people, evaluation comes to the same figures.
    let (code, out, err) = gru(&["eval", &model, &csv, "--json"]);
    assert_eq!(code, 0, "{err}");
    let judged = json(&out);
    for key in ["int8_accuracy", "float_accuracy", "agreement", "windows"] {
        assert_eq!(judged[key], trained[key], "{key}");
    }
    let counted: u64 = (judged["confusion"].as_array().unwrap().iter())
        .flat_map(|row| row.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(counted, judged["windows"].as_u64().unwrap());
    let (code, out, _) = gru(&["run", &model, &csv, "--json"]);
    assert_eq!((code, json(&out)["steps"].as_u64()), (0, Some(15_000)));
    assert_eq!(gru(&["summary", &model]).0, 0);
    // Half a byte for a GRU weight, where the layout has such a form; six columns take the room of eight.
    let whole = fs::metadata(&model).unwrap().len();
    for (layout, bits, saved) in [
        ("pair", 4, 3 * 12 * (6 + 12) - 3 * 12 * (8 + 12) / 2),
        ("vector", 8, 0),
    ] {
        let few = path("few.gru");
        let (code, _, err) = gru(&[
            "train",
            &csv,
            "--units",
            "12",
            "--epochs",
            "1",
            "--weight-bits",
            "4",
            "--layout",
            layout,
            "-o",
            &few,
        ]);
        assert_eq!(code, 0, "{err}");
        let (_, out, _) = gru(&["inspect", &few, "--json"]);
        assert_eq!(json(&out)["weight_bits"], bits, "{out}");
        if saved > 0 {
            assert_eq!(whole - fs::metadata(&few).unwrap().len(), saved);
        }
        assert_eq!(gru(&["run", &few, &csv, "--json"]).0, 0);
    }
    let (code, _, err) = gru(&["train", &csv, "--weight-bits", "9"]);
    assert!(code == 2 && err.contains("--weight-bits"), "{code} {err}");
    // Without the float model beside it, int8 alone.
    fs::remove_file(path("m.float.json")).unwrap();
    let (code, out, _) = gru(&["eval", &model, &csv, "--json"]);
    assert!(code == 0 && json(&out)["float_accuracy"].is_null(), "{out}");
    // A damaged companion is refused, one of another artifact is left alone.
    fs::write(path("m.float.json"), "{").unwrap();
    refused(&["eval", &model, &csv], &["m.float.json"]);
    fs::copy(path("again.float.json"), path("m.float.json")).unwrap();
    assert_eq!(gru(&["eval", &model, &csv]).0, 0);
}

#[test]
fn a_decision_table_goes_from_the_recipe_to_the_events() {
    let folder = Folder::new("decision");
    let path = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
    let (csv, model) = (path("imu.csv"), path("m.gru"));
    let made = gru(&["generate", &csv, "--persons", "3", "--seconds", "60"]);
    assert_eq!(made.0, 0);
    let recipe = |text: &str| {
        let text = format!("units = [8]\nepochs = 10\nlr = 1e-2\nthreads = 1\n[decision]\n{text}");
        folder.file("recipe.toml", text)
    };
    let train = |recipe: &str| gru(&["train", &csv, "--config", recipe, "-o", &model]);
    let (code, _, err) = train(&recipe(
        "smoothing = { kind = \"exponential\", steps = 8 }\nenter = 0.3\nrelease = 0.2\nhold_ms = 500",
    ));
    assert_eq!(code, 0, "{err}");
    let bytes = writer::Aligned::new(&fs::read(&model).unwrap());
    let loaded = gru_core::Model::load(&bytes).unwrap();
    let rule = loaded.decision().unwrap();
    assert_eq!(rule.hold_steps, 25);
    // Measured: nobody said it.
    let warm_up = u64::from(loaded.warm_up_steps());
    assert!((1..=100).contains(&warm_up), "{warm_up}");
    let (code, out, err) = gru(&["inspect", &model]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("hold 25 steps") && out.contains("enter at 0.300, release below 0.200: all"),
        "{out}"
    );
    assert!(gru(&["summary", &model]).1.contains("hold 25 steps"));
    let (code, out, err) = gru(&["run", &model, &csv, "--json"]);
    assert_eq!(code, 0, "{err}");
    let answer = json(&out);
    let events: Vec<(u64, u64, Option<u64>)> = (answer["events"].as_array().unwrap().iter())
        .map(|e| {
            let number = |k: usize| e[k].as_u64();
            (number(0).unwrap(), number(1).unwrap(), number(2))
        })
        .collect();
    assert!(events.len() > 6, "{events:?}");
    assert_eq!(
        err.lines().filter(|line| line.ends_with('%')).count(),
        events.len(),
        "one line an event"
    );
    for pair in events.windows(2) {
        let [a, b] = pair else { unreachable!() };
        if a.0 == b.0 {
            assert!(a.2 != b.2, "{a:?} {b:?}");
            assert!(a.2.is_none() || b.1 - a.1 >= 25, "{a:?} {b:?}");
        } else {
            // Steps are counted from 0.
            assert_eq!(b.1 + 1, warm_up);
        }
    }
    for (text, part) in [
        ("enter = 2.0", "enter 2"),
        ("background = \"nothing\"", "\"nothing\""),
        ("hysteresis = 0.5", "hysteresis"),
    ] {
        let (code, _, err) = train(&recipe(text));
        assert!(code == 2 && err.contains(part), "{text}: {err}");
        assert_eq!(err.lines().count(), 1, "refused before training: {err}");
    }
}

#[test]
fn train_and_eval_refuse_wrong_data() {
    let folder = Folder::new("train-wrong");
    let out = folder.0.join("m.gru");
    let out = out.to_str().unwrap();
    let check = |text: &str, more: &[&str], parts: &[&str]| {
        let csv = folder.file("r.csv", text);
        let args = [&["train", csv.as_str(), "-o", out], more].concat();
        refused(&args, parts);
    };
    check("a,b\n1,2\n", &[], &["r.csv", "row 1", "label"]);
    check(
        "a,label\n1,x\nq,y\n",
        &[],
        &["r.csv", "row 3", "\"a\"", "\"q\""],
    );
    check(
        "a,label,window\n1,x,0\n2,x,0\n3,y,1\n",
        &[],
        &["row 4", "expected 2"],
    );
    check("a,label\n1,x\n2,x\n", &[], &["1 class (x)", "at least 2"]);
    check(
        "a,label\n1,x\n2,y\n",
        &[],
        &["no labelled window of 100 steps"],
    );
    let windows = "a,label,window\n1,x,0\n2,x,0\n3,y,1\n4,y,1\n5,x,2\n6,x,2\n7,y,3\n8,y,3\n";
    check(windows, &["--units", "0"], &["units"]);
    check(
        windows,
        &["--counts-per-unit", "1,2,3"],
        &["3 numbers", "1 features"],
    );
    check(windows, &["--config", "none.toml"], &["none.toml"]);
    let recipe = folder.file("bad.toml", "units = [4]\nepoch = 3\n");
    check(windows, &["--config", &recipe], &["bad.toml", "epoch"]);
    assert!(
        !std::path::Path::new(out).exists(),
        "a refusal leaves nothing behind"
    );

    let model = folder.file(
        "other.gru",
        writer::write(&random::model(3, 6, &[10], 4), Layout::Rows).unwrap(),
    );
    let csv = folder.file("r.csv", windows);
    refused(&["eval", &model, &csv], &["r.csv"]);
    refused(&["eval", &csv, &csv], &["r.csv"]);
    refused(
        &["bench-har", "--data", folder.0.to_str().unwrap()],
        &["X_train_i16.npy"],
    );
    refused(
        &["bench-quality", "--data", ".", "--dataset", "moon"],
        &["moon"],
    );
    refused(
        &["demo", "--machine", "toaster"],
        &["toaster", "mps2-an386"],
    );
}

#[test]
fn wrong_arguments_are_code_2_and_help_is_an_answer() {
    assert_eq!(gru(&["inspect"]).0, 2);
    assert_eq!(gru(&["fly"]).0, 2);
    assert_eq!(gru(&["run", "m.gru", "r.csv", "--every", "x"]).0, 2);
    let (code, out, _) = gru(&["--help"]);
    assert!(code == 0 && out.contains("inspect"));
}

#[test]
fn drift_reports_saturation_and_distance_from_float() {
    let folder = Folder::new("drift");
    let mut quant = gru_train_host::reliability::stream::reference_model();
    let path = folder.file("m.gru", writer::write(&quant, Layout::Rows).unwrap());
    let (code, out, err) = gru(&["drift", &path, "--steps", "20000", "--json"]);
    assert_eq!(code, 0, "{out}{err}");
    let found = json(&out);
    assert_eq!(found["steps"], 20_000);
    assert!(
        found["layers"][0]["mean_difference"].as_f64().unwrap() < 1e-3,
        "{found}"
    );
    assert!(found["agreement"].as_f64().unwrap() > 0.98, "{found}");
    assert!(
        found["layers"][0]["saturated"]["z"].as_f64().unwrap() < 0.2,
        "{found}"
    );
    // A model whose update gates are driven far beyond their range says so.
    if let writer::QuantLayer::Gru(g) = &mut quant.layers[0] {
        let units = g.b.len() / 4;
        g.b[units..2 * units].fill(i16::MIN);
        g.mu[units..2 * units].fill(1);
    }
    let path = folder.file("s.gru", writer::write(&quant, Layout::Rows).unwrap());
    let (_, out, _) = gru(&["drift", &path, "--steps", "2000", "--json"]);
    assert!(
        json(&out)["layers"][0]["saturated"]["z"].as_f64().unwrap() > 0.3,
        "{out}"
    );
    refused(&["drift", &path, "--steps", "5"], &["--steps 5"]);
    refused(&["drift", "none.gru"], &["none.gru"]);
}
