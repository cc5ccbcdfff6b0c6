//! The command line where things are not as they should be: odd files, odd names, missing values, odd numbers.

use std::fs;

use gru_core::artifact::{GapPolicy, Readout};
use gru_core::layout::Layout;
use gru_core::{Model, State, random, writer};
use gru_tests::{Folder, gru, json, refused};

/// A model of two features with one count per unit.
fn plain_model(folder: &Folder, name: &str) -> String {
    let mut model = random::model(5, 2, &[8], 3);
    for feature in &mut model.features {
        feature.counts_per_unit = 1.0;
    }
    folder.file(name, writer::write(&model, Layout::Rows).unwrap())
}

/// The JSON of the last line of a command that has done its work.
fn answer(args: &[&str]) -> serde_json::Value {
    let (code, out, err) = gru(&[args, &["--json"]].concat());
    assert_eq!(code, 0, "{args:?}: {err}");
    json(&out)
}

/// Recordings of six people at 10 Hz, one class of two for a second at a time; `cell` may change a cell's text.
fn recordings(cell: impl Fn(usize, usize, f64) -> String) -> String {
    let mut text = "time_s,a,b,label,subject\n".to_owned();
    for row in 0..6 * 200 {
        let (person, t) = (row / 200, row % 200);
        let class = t / 20 % 2;
        let sign = [1.0, -1.0][class];
        let wave = (t as f64 * 0.9 + person as f64).sin();
        let (a, b) = (sign * (1.0 + 0.25 * wave), 0.5 * wave);
        let (a, b) = (cell(row, 0, a), cell(row, 1, b));
        text += &format!(
            "{:.1},{a},{b},{},p{person}\n",
            t as f64 * 0.1,
            ["x", "y"][class]
        );
    }
    text
}

fn sound(_: usize, _: usize, value: f64) -> String {
    format!("{value:.4}")
}

const QUICK: &str = "units = [4]\nepochs = 3\nlr = 1e-2\nbatch = 16\nthreads = 1\n";

fn loaded<T>(path: &str, look: impl FnOnce(&Model<'_>) -> T) -> T {
    let bytes = writer::Aligned::new(&fs::read(path).unwrap());
    look(&Model::load(&bytes).unwrap())
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_read() {
    let folder = Folder::new("special");
    let pipe = folder.path("pipe.gru");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for path in [pipe.as_str(), "/dev/zero", "/dev/null"] {
        refused(&["inspect", path], &[path, "regular file"]);
        refused(&["run", path, "none.csv"], &[path, "regular file"]);
    }
    let sound = plain_model(&folder, "m.gru");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(folder.path("m.float.json"))
            .status()
            .unwrap()
            .success()
    );
    let (code, _, err) = gru(&["inspect", &sound]);
    assert!(code == 0 && err.contains("m.float.json"), "{err}");
    refused(
        &["inspect", &folder.path("m.float.json")],
        &["regular file"],
    );
}

#[test]
fn a_broken_neighbour_is_noted_and_the_artifact_runs_without() {
    let folder = Folder::new("neighbour");
    let model = plain_model(&folder, "m.gru");
    let csv = folder.file("r.csv", "a,b\n1,2\n3,4\n");
    let neighbour = folder.0.join("m.float.json");
    for broken in ["{", "[1, 2]", "\u{1b}[2J", ""] {
        fs::write(&neighbour, broken).unwrap();
        for args in [
            vec!["inspect", &model],
            vec!["summary", &model],
            vec!["run", &model, &csv],
        ] {
            let (code, _, err) = gru(&args);
            assert_eq!(code, 0, "{args:?} {broken:?}: {err}");
            assert!(
                err.lines().count() == 1 && err.contains("m.float.json"),
                "{err}"
            );
            assert!(!err.contains('\u{1b}'), "{err:?}");
        }
    }
    fs::remove_file(&neighbour).unwrap();
    fs::create_dir(&neighbour).unwrap();
    let (code, _, err) = gru(&["inspect", &model]);
    assert!(code == 0 && err.lines().count() == 1, "{err}");
    fs::remove_dir(&neighbour).unwrap();
    assert_eq!(gru(&["inspect", &model]).2, "");
}

#[test]
fn names_in_an_artifact_cannot_write_lines_or_move_the_cursor() {
    let folder = Folder::new("names");
    let mut model = random::model(5, 2, &[8], 2);
    model
        .features
        .iter_mut()
        .for_each(|f| f.counts_per_unit = 1.0);
    model.name = "m\n\u{1b}[2Jself-test passed".into();
    model.classes = vec!["x\u{1b}[1A\rok".into(), "\u{202e}y\rerror: none".into()];
    let plain = |text: &str| {
        text.chars()
            .all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}'))
    };
    let path = folder.file("m.gru", writer::write(&model, Layout::Rows).unwrap());
    let csv = folder.file("r.csv", recordings(sound).replace("subject", "who"));
    let rows = "a,b\n1,2\n3,4\n";
    let few = folder.file("few.csv", rows);
    for args in [
        vec!["inspect", &path],
        vec!["summary", &path],
        vec!["run", &path, &few, "--every", "1", "--all"],
        vec!["eval", &path, &csv, "--features", "a,b"],
    ] {
        let (_, out, err) = gru(&args);
        assert!(plain(&out) && plain(&err), "{args:?}: {out:?} {err:?}");
        for line in out.lines().chain(err.lines()) {
            assert!(
                !line.starts_with("error: none") && !line.contains("\u{1b}"),
                "{line}"
            );
        }
    }
    let out = gru(&["inspect", &path]).1;
    assert!(out.contains(r"m\n\u{1b}[2Jself-test passed"), "{out}");
}

#[test]
fn inspect_says_what_ram_a_stream_with_its_decisions_takes() {
    let folder = Folder::new("ram");
    let path = plain_model(&folder, "m.gru");
    let told = answer(&["inspect", &path]);
    let number = |key: &str| told[key].as_u64().unwrap();
    assert!(number("decider_bytes") > 0);
    assert_eq!(
        number("stream_bytes"),
        number("ram_bytes") + number("decider_bytes")
    );
    let out = gru(&["inspect", &path]).1;
    for key in ["ram_bytes", "decider_bytes", "stream_bytes"] {
        let needs = out.lines().find(|l| l.starts_with("needs")).unwrap();
        assert!(
            needs.contains(&format!("{} ", number(key))),
            "{key}: {needs}"
        );
    }
}

#[test]
fn the_ten_lines_state_the_size_of_their_state() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let line = readme
        .lines()
        .find(|l| l.contains("State::<256>::new"))
        .unwrap();
    let bytes = format!("// {} bytes;", size_of::<State<256>>());
    assert!(line.contains(&bytes), "{line}: expected {bytes}");
}

#[test]
fn numbers_that_cannot_be_are_refused_in_one_line() {
    let folder = Folder::new("numbers");
    let model = plain_model(&folder, "m.gru");
    let csv = folder.file("r.csv", "a,b\n1,2\n3,4\n");
    let labelled = folder.file("l.csv", recordings(sound));
    let out = folder.path("out.gru");
    let train = |more: &[&str], parts: &[&str]| {
        refused(&[&["train", &labelled, "-o", &out], more].concat(), parts);
    };
    train(&["--units", "99999999999"], &["99999999999", "1024"]);
    train(&["--units", "18446744073709551615,4"], &["units"]);
    train(&["--rate", "nan"], &["--rate"]);
    train(&["--features", "a,a"], &["\"a\"", "twice"]);
    let run = |more: &[&str], parts: &[&str]| {
        refused(&[&["run", &model, &csv], more].concat(), parts);
    };
    run(&["--rate", "nan"], &["--rate"]);
    run(&["--rate=-1"], &["--rate"]);
    run(&["--rate", "0"], &["--rate"]);
    run(&["--counts-per-unit", "0"], &["--counts-per-unit"]);
    run(
        &["--counts-per-unit", "1,2"],
        &["--counts-per-unit", "2", "takes 1"],
    );
    run(&["--counts-per-unit", "1,1,1"], &["--counts-per-unit"]);
    run(&["--features", "a,a"], &["\"a\"", "twice"]);
    let sound = [
        "run",
        &model,
        &csv,
        "--counts-per-unit",
        "1",
        "--rate",
        "50",
    ];
    assert_eq!(gru(&sound).0, 0);
    assert!(!std::path::Path::new(&out).exists());
}

#[test]
fn a_cell_that_the_layout_cannot_hold_changes_the_layout_or_is_refused_before_training() {
    let folder = Folder::new("layout");
    let csv = folder.file("r.csv", recordings(sound));
    let model = folder.path("m.gru");
    for cell in [
        "reset_after = false\n",
        "activation = \"softsign\"\nrecurrent_activation = \"hard_sigmoid\"\n",
    ] {
        let recipe = folder.file("cell.toml", format!("{QUICK}{cell}"));
        let train = ["train", &csv, "--config", &recipe, "-o", &model];
        let (code, out, err) = gru(&train);
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("rows"), "says so: {out}{err}");
        assert_eq!(loaded(&model, |m| m.layout()), Layout::Rows);
        fs::remove_file(&model).unwrap();
        refused(
            &[&train[..], &["--layout", "pair"]].concat(),
            &["--layout pair", "rows"],
        );
        assert!(!std::path::Path::new(&model).exists());
        assert_eq!(gru(&[&train[..], &["--layout", "rows"]].concat()).0, 0);
    }
    let recipe = folder.file("plain.toml", QUICK);
    assert_eq!(
        gru(&["train", &csv, "--config", &recipe, "-o", &model]).0,
        0
    );
    assert_eq!(loaded(&model, |m| m.layout()), Layout::Pair);
}

#[test]
fn a_recipe_chooses_what_happens_to_missing_and_impossible_samples() {
    let folder = Folder::new("gaps");
    let csv = folder.file("r.csv", recordings(sound));
    let model = folder.path("m.gru");
    let train = |text: &str| {
        let recipe = folder.file("recipe.toml", format!("{text}{QUICK}"));
        gru(&["train", &csv, "--config", &recipe, "-o", &model])
    };
    for (name, gap) in [
        ("hold", GapPolicy::Hold),
        ("zero", GapPolicy::Zero),
        ("skip", GapPolicy::Skip),
    ] {
        let (code, _, err) = train(&format!(
            "gap = \"{name}\"\nlimits = {{ b = [-0.75, 0.75] }}\n"
        ));
        assert_eq!(code, 0, "{err}");
        let found = loaded(&model, |m| m.gap_policy());
        assert_eq!(found, gap);
        let parts = loaded(&model, writer::read);
        let [a, b] = &parts.limits[..] else {
            panic!("{:?}", parts.limits)
        };
        assert_eq!((a.low, a.high), (i32::MIN, i32::MAX));
        let unit = parts.features[1].counts_per_unit;
        assert_eq!(
            (b.low as f32, b.high as f32),
            ((-0.75 * unit).ceil(), (0.75 * unit).floor())
        );
        assert!(
            gru(&["inspect", &model])
                .1
                .contains(&format!("valid {} to {}", b.low, b.high))
        );

        // Two cells without a value, one beyond its limits, in three rows.
        let odd = recordings(|row, column, value| match (row, column) {
            (7, 0) => String::new(),
            (21, 1) => "NaN".into(),
            (43, 1) => "0.9".into(),
            _ => sound(row, column, value),
        });
        let odd = folder.file("odd.csv", odd);
        let told = answer(&["run", &model, &odd, "--window", "0"]);
        assert_eq!(told["invalid_values"], 3, "{told}");
        assert_eq!(
            told["skipped_steps"],
            if gap == GapPolicy::Skip { 3 } else { 0 }
        );
        let out = gru(&["run", &model, &odd, "--window", "0"]).1;
        assert!(out.contains("3 values"), "{out}");
        let told = answer(&["eval", &model, &odd, "--all"]);
        assert!(told["invalid_values"].as_u64().unwrap() >= 3, "{told}");
        assert!(
            told["agreement"].as_f64().unwrap() > 0.97,
            "float fills in the same way: {told}"
        );
        let float = folder.path("m.float.json");
        assert!(answer(&["eval", &float, &odd, "--all"])["invalid_values"].as_u64() >= Some(3));
        // Sound data have nothing to count.
        assert_eq!(answer(&["eval", &model, &csv])["invalid_values"], 0);
    }
    // Training learns what the artifact will not see, and says so.
    let (code, _, err) = train("limits = { a = [-1, 1] }\n");
    assert!(
        code == 0 && err.contains("limits.a: ") && err.contains("beyond"),
        "{err}"
    );
    let odd = folder.path("odd.csv");
    let (code, _, err) = gru(&["events", &model, &odd, "--argmax"]);
    assert!(code == 0 && err.contains("2 values missing"), "{err}");
    // What a model is trained on has to be there.
    refused(&["train", &odd, "-o", &model], &["row 9", "\"a\"", "empty"]);
    for (text, parts) in [
        ("gap = \"guess\"\n", ["guess", "hold"]),
        ("limits = { c = [0, 1] }\n", ["\"c\"", "a, b"]),
        ("limits = { a = [1, -1] }\n", ["limits.a", "1"]),
        ("limits = { a = [0, inf] }\n", ["limits.a", "inf"]),
        (
            "limits = { a = [0.00001, 0.00002] }\n",
            ["limits.a", "count"],
        ),
    ] {
        let (code, _, err) = train(text);
        assert_eq!(code, 2, "{text}: {err}");
        assert_eq!(err.lines().count(), 1, "before training: {err}");
        parts
            .iter()
            .for_each(|part| assert!(err.contains(part), "{text}: {err}"));
    }
}

#[test]
fn a_missing_value_streams_as_none() {
    let folder = Folder::new("none");
    let model = plain_model(&folder, "m.gru");
    let mut text = "a,b\n".to_owned();
    let mut samples = Vec::new();
    for t in 0..60i16 {
        let (a, b) = (
            (t % 7 != 3).then_some(t * 90),
            (t % 11 != 5).then_some(-t * 31),
        );
        let cell = |v: Option<i16>, none: &str| v.map_or(none.to_owned(), |v| v.to_string());
        text += &format!("{},{}\n", cell(a, ""), cell(b, "nan"));
        samples.push([a, b]);
    }
    let csv = folder.file("r.csv", text);
    let told = answer(&["run", &model, &csv]);
    let (digest, counters) = loaded(&model, |model| {
        let mut state = writer::host_state(model).unwrap();
        let mut digest = gru_core::Digest::default();
        for sample in &samples {
            model.step(&mut state, sample).unwrap();
            state.digest(model, &mut digest);
        }
        (digest.value(), state.counters())
    });
    assert_eq!(told["digest_host"], format!("{digest:016x}"));
    assert_eq!(told["invalid_values"], counters.invalid_values);
    assert_eq!(told["skipped_steps"], counters.skipped_steps);
    refused(&["run", &model, &csv, "--board"], &["--board", "missing"]);
}

#[test]
fn warm_up_is_measured_without_a_decision_table_as_well() {
    let folder = Folder::new("warm-up");
    let csv = folder.file("r.csv", recordings(sound));
    let model = folder.path("m.gru");
    let train = |readout: &str| {
        let recipe = folder.file("recipe.toml", format!("{readout}{QUICK}"));
        let (code, _, err) = gru(&["train", &csv, "--config", &recipe, "-o", &model]);
        assert_eq!(code, 0, "{err}");
        loaded(&model, |m| (m.warm_up_steps(), m.readout()))
    };
    assert!((1..=20).contains(&train("").0));
    // Before the first step that the mean holds its outputs say nothing.
    let (steps, readout) = train("readout = { kind = \"mean\", skip = 6 }\n");
    assert!(
        steps > 6 && readout == (Readout::Mean { skip: 6 }),
        "{steps} {readout:?}"
    );
}

#[test]
fn an_exponential_read_out_is_trained_step_by_step_and_deployed() {
    let folder = Folder::new("exponential");
    let csv = folder.file("r.csv", recordings(sound));
    let model = folder.path("m.gru");
    for more in ["", "[qat]\nepochs = 1\n", "[stateful]\nsteps = 20\n"] {
        let recipe = format!("readout = {{ kind = \"exponential\", steps = 4 }}\n{QUICK}{more}");
        let recipe = folder.file("recipe.toml", recipe);
        let (code, out, err) = gru(&["train", &csv, "--config", &recipe, "-o", &model]);
        assert_eq!(code, 0, "{err}");
        assert_eq!(
            loaded(&model, |m| m.readout()),
            Readout::Exponential { shift: 2 },
            "{out}"
        );
        let told = answer(&["eval", &model, &csv, "--all"]);
        assert!(told["agreement"].as_f64().unwrap() > 0.95, "{told}");
    }
    // Quantization-aware training keeps the mean over the latest steps, too.
    let recipe =
        format!("readout = {{ kind = \"sliding\", steps = 5 }}\n{QUICK}[qat]\nepochs = 1\n");
    let recipe = folder.file("recipe.toml", recipe);
    let (code, _, err) = gru(&["train", &csv, "--config", &recipe, "-o", &model]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(
        loaded(&model, |m| m.readout()),
        Readout::Sliding { steps: 5 }
    );
    let recipe = folder.file(
        "recipe.toml",
        format!("readout = {{ kind = \"exponential\", steps = 1 }}\n{QUICK}"),
    );
    let (code, _, err) = gru(&["train", &csv, "--config", &recipe, "-o", &model]);
    assert!(
        code == 2 && err.lines().count() == 1 && err.contains("2 to 4096"),
        "{err}"
    );
}

/// What the README says of adapting a model: `gru train` leaves the float model, the library goes on from it.
#[test]
fn a_model_is_adapted_on_the_host_from_the_float_model_beside_it() {
    use gru_train_host::dataset::{WindowLabel, csv, open};
    use gru_train_host::pipeline::{self, Feed, Order};
    use gru_train_host::train::{self, Hooks};

    let folder = Folder::new("adapt");
    let csv = folder.file("r.csv", recordings(sound));
    let artifact = folder.path("m.gru");
    let recipe = folder.file("recipe.toml", QUICK);
    assert_eq!(
        gru(&["train", &csv, "--config", &recipe, "-o", &artifact]).0,
        0
    );
    let beside = fs::read_to_string(folder.path("m.float.json")).unwrap();
    let mut beside: serde_json::Value = serde_json::from_str(&beside).unwrap();
    let known: gru_train_host::spec::ModelSpec =
        serde_json::from_value(beside["model"].take()).unwrap();
    // Somebody who wears the sensor the other way round.
    let turned = folder.file(
        "turned.csv",
        recordings(|_, _, value| format!("{:.4}", -value)),
    );
    let options = csv::Options {
        counts_per_unit: known.counts_per_unit.clone(),
        classes: known.classes.clone(),
        ..csv::Options::default()
    };
    let data = open(turned.as_ref(), &options).unwrap();
    let windows = data.windows(&[0, 1, 2, 3, 4, 5], 20, 5, WindowLabel::Last);
    let config = train::TrainConfig {
        epochs: 15,
        ..train::parse_config(QUICK).unwrap()
    };
    let hooks = Hooks {
        model: Some(&known),
        start: Some(&known),
        ..Hooks::default()
    };
    let feed = Feed::new(&data, &windows, &known.standardize, false);
    let fit = train::fit_with(
        &config,
        &feed.sequences(),
        None,
        known.output(),
        &hooks,
        &mut train::silent(),
    )
    .unwrap();
    let order = Order {
        data: &data,
        train: &windows,
        validation: &[],
        by: known.standardize.clone(),
        config: &config,
        name: "adapted".into(),
        layout: Layout::Pair,
        self_test_steps: 4,
    };
    let (_, _, bytes) = pipeline::export(&order, &fit.model).unwrap();
    let adapted = folder.file("adapted.gru", bytes);
    let accuracy = |path: &str| {
        loaded(path, |model| {
            let decided = pipeline::decide_int8(model, &data, &windows).unwrap();
            pipeline::accuracy(&decided.classes, &windows)
        })
    };
    let (before, after) = (accuracy(&artifact), accuracy(&adapted));
    assert!(before < 0.5 && after > 0.9, "{before} {after}");
    let features = |path: &str| loaded(path, |model| writer::read(model).features);
    assert_eq!(
        features(&artifact),
        features(&adapted),
        "the same sensor scales"
    );
}
