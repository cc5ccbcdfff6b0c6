//! The command line, called in this process: answers, refusals, exit codes.

use std::fs;

use gru_core::layout::Layout;
use gru_core::{random, writer};
use gru_tests::{Folder, gru, json, refused};

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
        &["run", &path, &folder.file("text.csv", "a,b\n1,none\n")],
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
    let path = |name: &str| folder.path(name);
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
    // Half of the recurrent weights, where the layout has a form without the others.
    for (layout, name) in [("pair", "PairSparse"), ("vector", "Vector")] {
        let few = path("few.gru");
        let (code, out, err) = gru(&[
            "train",
            &csv,
            "--units",
            "12",
            "--epochs",
            "2",
            "--density",
            "0.5",
            "--layout",
            layout,
            "--json",
            "-o",
            &few,
        ]);
        assert_eq!(code, 0, "{err}");
        let trained = json(&out);
        let (_, out, _) = gru(&["inspect", &few, "--json"]);
        let inspected = json(&out);
        assert_eq!(inspected["layout"], name, "{out}");
        assert_eq!(inspected["macs_per_step"], trained["macs_per_step"]);
        let (_, out, _) = gru(&["summary", &few, "--json"]);
        let summary = json(&out);
        assert_eq!(summary["macs_per_step"], trained["macs_per_step"]);
        for answer in [trained, inspected, summary] {
            match answer["density"].as_f64() {
                Some(left) => assert!(name == "PairSparse" && (0.4..=0.5).contains(&left)),
                None => assert_eq!(name, "Vector"),
            }
        }
        assert_eq!(gru(&["run", &few, &csv, "--json"]).0, 0);
    }
    let (code, _, err) = gru(&["train", &csv, "--density", "0"]);
    assert!(code == 2 && err.contains("prune.density"), "{code} {err}");
    let (code, _, err) = gru(&["train", &csv, "--weight-bits", "9"]);
    assert!(code == 2 && err.contains("--weight-bits"), "{code} {err}");
    // Without the float model beside it, int8 alone.
    fs::remove_file(path("m.float.json")).unwrap();
    let (code, out, _) = gru(&["eval", &model, &csv, "--json"]);
    assert!(code == 0 && json(&out)["float_accuracy"].is_null(), "{out}");
    // One of another artifact is left alone, the same model's fits.
    fs::copy(path("few.float.json"), path("m.float.json")).unwrap();
    let (code, out, err) = gru(&["eval", &model, &csv, "--json"]);
    assert!(
        code == 0 && err.contains("of another artifact") && json(&out)["float_accuracy"].is_null(),
        "{out}{err}"
    );
    fs::copy(path("again.float.json"), path("m.float.json")).unwrap();
    let (code, out, _) = gru(&["eval", &model, &csv, "--json"]);
    assert!(
        code == 0 && json(&out)["float_accuracy"].is_number(),
        "{out}"
    );
}

#[test]
fn a_decision_table_goes_from_the_recipe_to_the_events() {
    let folder = Folder::new("decision");
    let path = |name: &str| folder.path(name);
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

/// Training on recordings of simulated wrists, as `recipes/stream.toml` does it, smaller.
const STREAM: &str = r#"
units = [8]
epochs = 8
batch = 4
lr = 1e-2
threads = 1
readout = { kind = "every" }
[stateful]
steps = 64
[decision]
smoothing = { kind = "exponential", steps = 8 }
enter = 0.5
release = 0.3
"#;

/// The artifact's model without its decision layer, and the layer.
fn apart(path: &str) -> (writer::QuantModel, Option<writer::QuantDecision>) {
    let bytes = writer::Aligned::new(&fs::read(path).unwrap());
    let mut model = writer::read(&gru_core::Model::load(&bytes).unwrap());
    let rule = model.decision.take();
    (model, rule)
}

#[test]
fn events_are_counted_and_the_decision_layer_is_tuned_on_held_out_people() {
    let folder = Folder::new("events");
    let path = |name: &str| folder.path(name);
    let (csv, model, tuned) = (path("imu.csv"), path("m.gru"), path("t.gru"));
    let made = gru(&["generate", &csv, "--persons", "8", "--seconds", "60"]);
    assert_eq!(made.0, 0);
    let recipe = folder.file("stream.toml", STREAM);
    let train = |recipe: &str, out: &str| {
        let share = ["--validation-share", "0.3"];
        let args = [
            &["train", &csv, "--config", recipe, "-o", out, "--json"],
            &share[..],
        ]
        .concat();
        let (code, text, err) = gru(&args);
        assert_eq!(code, 0, "{err}");
        json(&text)
    };
    let trained = train(&recipe, &model);
    assert!(trained["tuning"].is_null());
    let people = trained["validation"].as_array().unwrap().len();
    assert_eq!(people, 2);
    // A recording changes its class many times: the warm-up is that of windows of one class.
    let bytes = writer::Aligned::new(&fs::read(&model).unwrap());
    let warm_up = gru_core::Model::load(&bytes).unwrap().warm_up_steps();
    assert!((1..=100).contains(&warm_up), "{warm_up}");

    let events = |args: &[&str]| {
        let (code, out, err) = gru(&[&["events"], args, &["--json"]].concat());
        assert_eq!(code, 0, "{err}");
        (json(&out), err)
    };
    let tune = |csv: &str, out: &str, more: &[&str]| {
        let (code, text, err) = gru(&[&["tune", &model, csv, "-o", out, "--json"], more].concat());
        assert_eq!(code, 0, "{err}");
        (json(&text), err)
    };
    let (answer, text) = tune(&csv, &tuned, &[]);
    assert_eq!(answer["tuned"]["recordings"], people);
    let f1 = |v: &serde_json::Value| v["f1"].as_f64().unwrap();
    assert!(f1(&answer["tuned"]) >= f1(&answer["before"]), "{text}");
    assert!(f1(&answer["before"]) > f1(&answer["argmax"]), "{text}");
    let nll = |k: usize| answer["nll"][k].as_f64().unwrap();
    assert!(nll(1) <= nll(0) && answer["calibration_error"][1].is_number());
    // The table that was printed is the rule that was written.
    let at = text.find("[decision]").expect("a table");
    let end = text[at..].find(&tuned).map_or(text.len(), |e| at + e);
    let table = text[at..end].trim_end();
    let config = gru_train_host::train::parse_config(table).unwrap();
    let (after, written) = apart(&tuned);
    let rule = (config.decision.unwrap())
        .quantize(&after.classes, 8, 50.0)
        .unwrap();
    assert_eq!(written.as_ref(), Some(&rule));
    // The weights, the self-test and all the rest are as they were; only the rule is another.
    let (before, old) = apart(&model);
    assert_eq!(before, after);
    assert!(old.is_some() && old != written);
    // The same every time, and also by one command.
    tune(&csv, &path("again.gru"), &[]);
    assert_eq!(
        fs::read(&tuned).unwrap(),
        fs::read(path("again.gru")).unwrap()
    );
    let whole = folder.file("whole.toml", format!("{STREAM}[decision.tune]\n"));
    let trained = train(&whole, &path("whole.gru"));
    assert_eq!(trained["tuning"]["tuned"], answer["tuned"]);
    assert_eq!(
        fs::read(&tuned).unwrap(),
        fs::read(path("whole.gru")).unwrap()
    );

    // Test people are not looked at: others in their place change nothing. The person stands in the first column.
    let companion = json(&fs::read_to_string(path("m.float.json")).unwrap());
    let names = |key: &str| -> Vec<String> {
        let all = companion[key].as_array().unwrap().iter();
        all.map(|n| n.as_str().unwrap().to_owned()).collect()
    };
    let (held, own) = (names("held_out"), names("validation"));
    assert!(!held.is_empty() && held.iter().all(|n| !own.contains(n)));
    let text = fs::read_to_string(&csv).unwrap();
    let without = |people: &[String]| {
        let rows = text.lines().map(|row| {
            let (who, _) = row.split_once(',').unwrap();
            match people.iter().any(|p| p == who) {
                true => row.replace("walk", "rest").replace(",-", ","),
                false => row.to_owned(),
            }
        });
        rows.collect::<Vec<_>>().join("\n")
    };
    fs::create_dir_all(path("other")).unwrap();
    let other = folder.file("other/imu.csv", without(&held));
    let (same, _) = tune(&other, &path("same.gru"), &[]);
    assert_eq!(same["tuned"], answer["tuned"]);
    assert_eq!(
        fs::read(&tuned).unwrap(),
        fs::read(path("same.gru")).unwrap()
    );
    // Those that it is tuned on are.
    let other = folder.file("other/imu.csv", without(&own));
    assert_ne!(
        tune(&other, &path("else.gru"), &[]).0["tuned"],
        answer["tuned"]
    );

    // Counted on the test people; every figure of the classes adds up.
    let (judged, err) = events(&[&tuned, &csv]);
    assert_eq!(judged["which"], "recordings of those held out in training");
    assert_eq!(judged["recordings"], held.len());
    let sum = |key: &str| -> u64 {
        let classes = judged["classes"].as_array().unwrap().iter();
        classes.map(|c| c[key].as_u64().unwrap()).sum()
    };
    for key in ["events", "detected", "false_alarms", "repeats"] {
        assert_eq!(judged[key], sum(key), "{key}");
    }
    assert!(
        err.contains("calibration error") && err.contains("stir_cw"),
        "{err}"
    );
    let hours = judged["hours_labelled"].as_f64().unwrap();
    let per_hour = judged["false_alarms_per_hour"].as_f64().unwrap();
    assert!((per_hour * hours - judged["false_alarms"].as_f64().unwrap()).abs() < 1e-6);
    let (plain, _) = events(&[&tuned, &csv, "--argmax"]);
    assert!(f1(&plain) < f1(&judged), "{plain} {judged}");
    let (all, _) = events(&[&tuned, &csv, "--all"]);
    assert_eq!(all["recordings"], 8);
    let (rest, _) = events(&[&tuned, &csv, "--background", "rest"]);
    assert!(rest["events"].as_u64() < judged["events"].as_u64());
    let (long, _) = events(&[&tuned, &csv, "--min-event", "9"]);
    assert!(long["events"].as_u64() < judged["events"].as_u64());
    // A looser limit never misses more.
    let limit = |most: &str| {
        let more = ["--max-false-alarms-per-hour", most];
        tune(&csv, &path("limit.gru"), &more).0["tuned"].clone()
    };
    let (few, many) = (limit("200"), limit("900"));
    assert!(few["false_alarms_per_hour"].as_f64().unwrap() <= 200.0);
    assert!(many["missed"].as_u64() <= few["missed"].as_u64());

    // The firmware takes it, and the float model is found beside it.
    let rows: Vec<&str> = text.lines().take(151).collect();
    let short = folder.file("short.csv", rows.join("\n"));
    let (code, _, err) = gru(&["run", &tuned, &short, "--board", "--json"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("digest of all hidden states"), "{err}");
    let (_, out, _) = gru(&["eval", &tuned, &csv, "--json"]);
    assert!(json(&out)["float_accuracy"].is_number(), "{out}");

    // What cannot be.
    let out = path("x.gru");
    refused(
        &["events", &tuned, &csv, "--background", "nap"],
        &["nap", "walk"],
    );
    refused(
        &["events", &tuned, &csv, "--tolerance=-1"],
        &["tolerance_s -1"],
    );
    refused(
        &["tune", &model, &csv, "-o", &out, "--max-latency", "NaN"],
        &["max_latency_s NaN"],
    );
    refused(
        &["tune", &model, &csv, "-o", &out, "--min-event", "1e4"],
        &["imu.csv", "no event"],
    );
    let cut: String = (0..60)
        .map(|t| {
            format!(
                "{},1,2,3,4,5,6,{}\n",
                t / 20,
                ["walk", "run", "rest"][t / 20]
            )
        })
        .collect();
    let head = "window,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z,label\n";
    let cut = folder.file("cut.csv", format!("{head}{cut}"));
    for args in [
        &["events", &tuned, &cut][..],
        &["tune", &model, &cut, "-o", &out],
    ] {
        let args = [args, &["--rate", "50"]].concat();
        refused(&args, &["cut.csv", "one label each"]);
    }
    let silent: Vec<String> = (text.lines().take(60))
        .map(|row| row.rsplit_once(',').unwrap().0.to_owned())
        .collect();
    let silent = folder.file("silent.csv", silent.join("\n"));
    refused(&["events", &tuned, &silent], &["silent.csv"]);
    refused(&["tune", &tuned, &csv, "-o", &path("")], &[&path("")]);
    assert!(!folder.0.join("x.gru").exists());
    // A limit that cannot be kept is a check that does not hold, and nothing is written.
    let limits = [
        "--max-latency",
        "0",
        "--tolerance",
        "0",
        "--max-false-alarms-per-hour",
        "0",
    ];
    let (code, _, err) = gru(&[&["tune", &model, &csv, "-o", &out], &limits[..]].concat());
    assert!(code == 1 && err.contains("nothing written"), "{code} {err}");
    assert!(!folder.0.join("x.gru").exists());
}

#[test]
fn events_of_a_model_without_a_decision_layer_are_refused_and_it_can_be_tuned() {
    let folder = Folder::new("no-decision");
    let path = |name: &str| folder.path(name);
    let (csv, model, tuned) = (path("imu.csv"), path("m.gru"), path("t.gru"));
    assert_eq!(
        gru(&["generate", &csv, "--persons", "3", "--seconds", "40"]).0,
        0
    );
    let args = ["train", &csv, "--units", "8", "--epochs", "2", "-o", &model];
    assert_eq!(gru(&args).0, 0);
    refused(
        &["events", &model, &csv],
        &["m.gru", "no decision layer", "gru tune"],
    );
    assert_eq!(gru(&["events", &model, &csv, "--argmax"]).0, 0);
    let (code, out, err) = gru(&["tune", &model, &csv, "-o", &tuned, "--background", "rest"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("learnt from as well"), "{out}");
    let measured = apart(&model).0.warm_up_steps;
    let (model, rule) = apart(&tuned);
    assert!(
        measured > 0 && model.warm_up_steps == measured,
        "as training measured it"
    );
    let background = rule.unwrap().header.background.unwrap();
    assert_eq!(model.classes[usize::from(background)], "rest");
    assert_eq!(gru(&["events", &tuned, &csv]).0, 0);
    // The recommended recipe for streams is one.
    let stream = include_str!("../gru-train-host/recipes/stream.toml");
    let stream = gru_train_host::train::parse_config(stream).unwrap();
    assert!(stream.stateful.is_some() && stream.decision.unwrap().tune.is_some());
    // Nobody to tune on, or no rate: refused before training.
    let recipe = folder.file("tune.toml", format!("{STREAM}[decision.tune]\n"));
    let one = path("one.csv");
    assert_eq!(
        gru(&["generate", &one, "--persons", "1", "--seconds", "20"]).0,
        0
    );
    refused(
        &["train", &one, "--config", &recipe, "-o", &tuned],
        &["decision.tune", "nobody"],
    );
    let text = fs::read_to_string(&csv).unwrap();
    let timeless = folder.file("timeless.csv", text.replacen("time_s", "clock", 1));
    let features = ["--features", "acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z"];
    let args = ["train", &timeless, "--config", &recipe, "-o", &tuned];
    refused(
        &[&args, &features[..]].concat(),
        &["decision.tune", "--rate"],
    );
    let share = ["train", &csv, "--validation-share", "1.5", "-o", &tuned];
    refused(&share, &["--validation-share 1.5"]);
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
fn a_mean_since_the_reset_gives_no_events_and_says_what_does() {
    let folder = Folder::new("mean-events");
    let path = |name: &str| folder.path(name);
    let (csv, model) = (path("imu.csv"), path("m.gru"));
    let made = gru(&["generate", &csv, "--persons", "2", "--seconds", "30"]);
    assert_eq!(made.0, 0);
    let recipe = |readout: &str| {
        let text = "units = [4]\nepochs = 1\nthreads = 1\n[decision]\nenter = 0.3\nrelease = 0.2\n";
        folder.file("r.toml", format!("readout = {readout}\n{text}"))
    };
    let train = |readout: &str| {
        let recipe = recipe(readout);
        let (code, out, err) = gru(&["train", &csv, "--config", &recipe, "-o", &model]);
        assert_eq!(code, 0, "{err}");
        out + &err
    };
    let said = train("{ kind = \"mean\", skip = 4 }");
    assert!(said.contains("[decision] with read-out mean"), "{said}");
    let out = path("t.gru");
    for args in [
        &["events", &model, &csv][..],
        &["events", &model, &csv, "--argmax"],
        &["tune", &model, &csv, "-o", &out],
    ] {
        refused(args, &["m.gru", "read-out mean", "every, last or sliding"]);
    }
    assert!(!folder.0.join("t.gru").exists());
    for readout in ["{ kind = \"sliding\", steps = 20 }", "{ kind = \"last\" }"] {
        let said = train(readout);
        assert!(!said.contains("read-out mean"), "{said}");
        assert_eq!(gru(&["events", &model, &csv]).0, 0);
    }
}

#[test]
fn every_wrong_option_is_refused_in_one_line_before_anything_is_trained() {
    let folder = Folder::new("options");
    let path = |name: &str| folder.path(name);
    let (csv, model, out) = (path("imu.csv"), path("m.gru"), path("x.gru"));
    let made = gru(&["generate", &csv, "--persons", "3", "--seconds", "20"]);
    assert_eq!(made.0, 0);
    let stream = folder.file("stream.toml", STREAM.replace("epochs = 8", "epochs = 1"));
    assert_eq!(
        gru(&["train", &csv, "--config", &stream, "-o", &model]).0,
        0
    );

    let text = fs::read_to_string(&csv).unwrap();
    let changed = |name: &str, from: &str, to: &str| {
        let (head, rows) = text.split_once('\n').unwrap();
        folder.file(name, format!("{head}\n{}", rows.replacen(from, to, 1)))
    };
    // The first value of the first row; a label that nobody knows.
    let first = text.lines().nth(1).unwrap().split(',').nth(3).unwrap();
    let nan = changed("nan.csv", &format!(",{first},"), ",NaN,");
    let label = text.lines().nth(1).unwrap().rsplit(',').next().unwrap();
    let fly = changed("fly.csv", &format!(",{label}\n"), ",fly\n");
    let none = path("none.csv");

    let all = |base: &[&str], cases: &[(&[&str], &[&str])]| {
        for (args, parts) in cases {
            refused(&[base, args].concat(), parts);
        }
        assert!(!folder.0.join("x.gru").exists());
    };
    all(
        &["train", &csv, "-o", &out],
        &[
            (&["--lr=-1"], &["lr -1"]),
            (&["--lr", "nan"], &["lr NaN"]),
            (&["--lr", "fast"], &["'fast'", "--lr"]),
            (&["--batch", "0"], &["batch 0"]),
            (&["--batch=-1"], &["'-1'", "--batch"]),
            (&["--epochs", "0"], &["epochs 0"]),
            (&["--units", "100000"], &["units [100000]"]),
            (&["--window", "0"], &["--window"]),
            (
                &["--window", "9999999"],
                &["no labelled window of 9999999 steps"],
            ),
            (&["--test-share", "1.5"], &["--test-share 1.5"]),
            (&["--test-share=-0.1"], &["--test-share -0.1"]),
            (&["--test-share", "nan"], &["--test-share NaN"]),
            (&["--validation-share", "nan"], &["--validation-share NaN"]),
            (&["--rate=-5"], &["--rate -5"]),
            (&["--rate", "nan"], &["--rate NaN"]),
            (&["--rate", "inf"], &["--rate inf"]),
            (&["--counts-per-unit=-1"], &["--counts-per-unit -1"]),
            (&["--features", "acc_x,nope"], &["\"nope\"", "gyro_x"]),
            (&["--label", "nope"], &["\"nope\""]),
            (&["--density", "nan"], &["prune.density NaN"]),
            (&["--layout", "diagonal"], &["'diagonal'", "winograd"]),
            (&["--readout", "never"], &["'never'", "tip: ", "'every'"]),
            (&["--unit", "3"], &["'--unit'", "'--units'"]),
            (&["--config", &none], &["none.csv"]),
            (&["--config", &csv], &["imu.csv"]),
            (&["--resume"], &["resume needs checkpoint"]),
            (
                &["--checkpoint", &model, "--resume"],
                &["m.gru", "not a checkpoint"],
            ),
        ],
    );
    all(
        &["train", "-o", &out],
        &[(&[&none], &["none.csv"]), (&[&nan], &["row 2", "\"NaN\""])],
    );
    for base in [&["events"][..], &["tune", "-o", &out]] {
        let with = |more: &[&'static str]| [base, &[&model, &csv], more].concat();
        refused(&[base, &[&none, &csv]].concat(), &["none.csv"]);
        refused(
            &[base, &[&csv, &csv]].concat(),
            &["imu.csv", "not an artifact"],
        );
        refused(&[base, &[&model, &none]].concat(), &["none.csv"]);
        refused(
            &[base, &[&model, &fly]].concat(),
            &["row 2", "\"fly\"", label],
        );
        refused(&with(&["--tolerance", "nan"]), &["tolerance_s NaN"]);
        refused(&with(&["--min-event=-1"]), &["min_event_s -1"]);
        refused(&with(&["--rate=-1"]), &["--rate -1"]);
        refused(&with(&["--background", "nap"]), &["\"nap\"", label]);
        refused(&with(&["--min-event", "x"]), &["'x'", "--min-event"]);
        refused(&with(&["--tempo", "3"]), &["'--tempo'"]);
    }
    all(
        &["tune", &model, &csv, "-o", &out],
        &[
            (&["--max-latency=-1"], &["max_latency_s -1"]),
            (
                &["--max-false-alarms-per-hour", "nan"],
                &["max_false_alarms_per_hour NaN"],
            ),
        ],
    );
    refused(&["tune", &model, &csv], &["--output"]);

    let trials = path("s.jsonl");
    let search = ["search", &csv, "--results", &trials, "--threads", "1"];
    all(
        &search,
        &[
            (&["--units", "0"], &["--units"]),
            (&["--units", "99999"], &["units [99999]"]),
            (&["--layers", "0"], &["--layers"]),
            (&["--seeds", "0"], &["--seeds"]),
            (&["--epochs", "0"], &["epochs 0"]),
            (&["--shard", "2/2"], &["--shard 2/2"]),
            (&["--shard", "half"], &["--shard half"]),
            (&["--max-flash=-3"], &["'-3'", "--max-flash"]),
            (&["--windows", "9999999"], &["0 windows to learn from"]),
            (&["--config", &none], &["none.csv"]),
        ],
    );
    assert!(!folder.0.join("s.jsonl").exists());
    refused(&["search", &csv, "--results", &csv], &["imu.csv", "line 1"]);
    refused(&["search", &none, "--results", &trials], &["none.csv"]);
    let first = [&search[..], &["--units", "2", "--epochs", "1"]].concat();
    assert_eq!(gru(&first).0, 0);
    let kept = fs::read(&trials).unwrap();
    assert_eq!(gru(&first).0, 0, "what is there is not run again");
    let other = [&search[..], &["--units", "2", "--epochs", "2"]].concat();
    refused(&other, &["s.jsonl", "line 1", "another recipe"]);
    refused(&[&first[..], &["--also", &none]].concat(), &["none.csv"]);
    assert_eq!(fs::read(&trials).unwrap(), kept);

    let nowhere = path("nowhere");
    all(
        &["bench-quality", "--data", &nowhere],
        &[
            (&[], &["nowhere", "uci_har"]),
            (&["--dataset", "moon"], &["\"moon\"", "uci_har"]),
            (&["--recipe", "best"], &["\"best\""]),
            (
                &["--dataset", "uea_Epilepsy", "--recipe", "speech"],
                &["\"speech\""],
            ),
            (&["--seeds", "0"], &["--seeds 0"]),
            (&["--seeds=-1"], &["'-1'", "--seeds"]),
            (&["--epochs", "0"], &["--epochs 0"]),
            (&["--config", &none], &["none.csv"]),
        ],
    );
    refused(&["bench-quality"], &["--data"]);
}

#[test]
fn a_training_goes_on_from_its_own_checkpoint_only() {
    let folder = Folder::new("checkpoint");
    let path = |name: &str| folder.path(name);
    let (csv, other, kept, out) = (path("a.csv"), path("b.csv"), path("c.ckpt"), path("x.gru"));
    for (csv, seed) in [(&csv, "1"), (&other, "2")] {
        let args = [
            "generate",
            csv,
            "--persons",
            "2",
            "--seconds",
            "20",
            "--seed",
            seed,
        ];
        assert_eq!(gru(&args).0, 0);
    }
    let train = |csv: &str, more: &[&str]| {
        let args = [
            "train",
            csv,
            "--units",
            "4",
            "--epochs",
            "1",
            "--threads",
            "1",
            "-o",
            &out,
        ];
        gru(&[&args[..], &["--checkpoint", &kept], more].concat())
    };
    assert_eq!(train(&csv, &[]).0, 0);
    let whole = fs::read(&out).unwrap();
    let state = fs::read(&kept).unwrap();
    for (csv, more) in [
        (&csv, &["--resume", "--lr", "0.5"][..]),
        (&csv, &["--resume", "--features", "acc_z,acc_y,acc_x"]),
        (&csv, &["--resume", "--window", "40"]),
        (&other, &["--resume"]),
    ] {
        let (code, _, err) = train(csv, more);
        assert!(
            code == 2 && err.contains("on other data"),
            "{more:?}: {err}"
        );
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    assert_eq!(fs::read(&kept).unwrap(), state);
    let (code, _, err) = train(&csv, &["--resume"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(fs::read(&out).unwrap(), whole);
    for cut in [0, 7, 100, state.len() - 1] {
        fs::write(&kept, &state[..cut]).unwrap();
        let (code, _, err) = train(&csv, &["--resume"]);
        assert!(code == 2 && err.contains("c.ckpt"), "{cut}: {err}");
    }
}

#[test]
fn wrong_arguments_are_code_2_and_help_is_an_answer() {
    refused(&["inspect"], &["<MODEL>"]);
    refused(&["fly"], &["'fly'"]);
    refused(&["run", "m.gru", "r.csv", "--every", "x"], &["'x'"]);
    let (code, _, err) = gru(&[]);
    assert!(code == 2 && err.contains("Commands:"), "{err}");
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
