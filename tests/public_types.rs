//! Every public type of the core has `defmt::Format` behind the feature `defmt`, and every one that holds values serde's traits
//! behind `serde`.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Modules that exist on hosts only.
const HOST_ONLY: [&str; 2] = ["writer.rs", "random.rs"];

/// Types that are not serialized, and why.
const NOT_SERIALIZED: [(&str, &[&str]); 5] = [
    (
        "views of an artifact, whose bytes are how a model is stored",
        &[
            "Model",
            "Layer",
            "GruLayer",
            "DenseLayer",
            "Loader",
            "Embedded",
            "Verify",
        ],
    ),
    (
        "memory of a stream: a snapshot, which knows its model, is how it is stored",
        &["StateBuf", "WindowBuf", "DeciderBuf", "Stream"],
    ),
    ("computations that go on", &["Crc32", "Update", "Gate"]),
    (
        "proofs that something was done",
        &["Staged", "Checked", "Fallback"],
    ),
    (
        "kernels: types without values",
        &["Dsp", "Host", "Mve", "Portable", "Quad", "Plain"],
    ),
];

/// Types that borrow, or whose constructor checks their numbers: written, not read.
const WRITTEN_ONLY: [&str; 11] = [
    "BidirectionalF32",
    "DenseF32",
    "GruF32",
    "GruWeights",
    "LayerF32",
    "ModelF32",
    "Output",
    "Selection",
    "Slots",
    "Stored",
    "Window",
];

/// Public types of one file, each with its attributes.
fn types(source: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let starts = ["pub struct ", "pub enum "];
        let Some(rest) = starts.iter().find_map(|start| line.strip_prefix(start)) else {
            continue;
        };
        let is_name = |c: &char| c.is_alphanumeric() || *c == '_';
        let attributes: Vec<&str> = (lines[..at].iter().rev())
            .take_while(|line| !line.is_empty() && !line.ends_with('}') && !line.ends_with(';'))
            .filter(|line| !line.starts_with("//"))
            .copied()
            .collect();
        found.push((
            rest.chars().take_while(is_name).collect(),
            attributes.concat(),
        ));
    }
    found
}

/// Public types of one file without serde's traits, and those that have more of them than they should.
fn without_serde(source: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, attributes) in types(source) {
        let [written, read] = ["Serialize", "Deserialize"].map(|what| {
            let words = attributes.split(|c: char| !c.is_alphanumeric());
            words.clone().any(|word| word == what)
        });
        let name = name.as_str();
        let none = NOT_SERIALIZED
            .iter()
            .any(|(_, names)| names.contains(&name));
        let right = match (none, WRITTEN_ONLY.contains(&name)) {
            (true, _) => !written && !read,
            (false, true) => written && !read,
            (false, false) => written && read,
        };
        if !right {
            wrong.push(name.to_owned());
        }
    }
    wrong
}

/// Public types of one file without `defmt::Format`, derived or written in `formats`.
fn without_format(source: &str, formats: &str) -> (usize, Vec<String>) {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let (mut found, mut missing) = (0, Vec::new());
    for (at, line) in lines.iter().enumerate() {
        let Some(rest) = ["pub struct ", "pub enum "]
            .iter()
            .find_map(|start| line.strip_prefix(start))
        else {
            continue;
        };
        let name: String = (rest.chars())
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        found += 1;
        let derived = (lines[..at].iter().rev())
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
            .any(|line| line.contains("derive(defmt::Format)"));
        let written = formats
            .lines()
            .any(|line| line.starts_with("impl") && line.contains(&format!(" Format for {name}")));
        if !derived && !written {
            missing.push(name);
        }
    }
    (found, missing)
}

fn files(folder: &Path, out: &mut BTreeSet<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.insert(path);
        }
    }
}

/// Name and text of every file below `src` that devices see.
fn device_sources(src: &Path) -> Vec<(String, String)> {
    let mut all = BTreeSet::new();
    files(src, &mut all);
    let name = |path: &Path| {
        path.file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    (all.iter())
        .map(|path| (name(path), path))
        .filter(|(name, _)| !HOST_ONLY.contains(&name.as_str()))
        .map(|(name, path)| (name, std::fs::read_to_string(path).expect("source")))
        .collect()
}

#[test]
fn every_public_type_of_the_core_can_be_logged() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gru-core/src");
    let formats = std::fs::read_to_string(src.join("formats.rs")).expect("formats.rs");
    let (mut types, mut missing) = (0, Vec::new());
    for (name, source) in device_sources(&src) {
        let (found, without) = without_format(&source, &formats);
        types += found;
        missing.extend(without.into_iter().map(|t| format!("{name}: {t}")));
    }
    println!("{types} public types");
    assert_eq!(missing, [""; 0]);
    assert!(types > 40, "{types}");
    // Controls: a type without is found, one with is not.
    let planted = "/// A type.\n#[derive(Debug)]\npub struct Planted;\n";
    assert_eq!(without_format(planted, &formats).1, ["Planted"]);
    let good = "#[cfg_attr(feature = \"defmt\", derive(defmt::Format))]\npub enum Good {}\n";
    assert_eq!(without_format(good, &formats), (1, Vec::new()));
}

#[test]
fn every_public_type_of_the_core_that_holds_values_can_be_serialized() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gru-core/src");
    let (mut names, mut wrong) = (BTreeSet::new(), Vec::new());
    for (name, source) in device_sources(&src) {
        names.extend(types(&source).into_iter().map(|(name, _)| name));
        wrong.extend(
            without_serde(&source)
                .into_iter()
                .map(|t| format!("{name}: {t}")),
        );
    }
    assert_eq!(wrong, [""; 0]);
    // No exception for a type that is gone.
    let excepted = NOT_SERIALIZED.iter().flat_map(|(_, names)| names.iter());
    for name in excepted.chain(&WRITTEN_ONLY) {
        assert!(names.contains(*name), "{name}");
    }
    // Controls: a type without is found, one with is not.
    let planted = "/// A type.\n#[derive(Debug)]\npub struct Planted;\n";
    assert_eq!(without_serde(planted), ["Planted"]);
    let half = "#[cfg_attr(feature = \"serde\", derive(serde::Serialize))]\npub enum Half {}\n";
    assert_eq!(without_serde(half), ["Half"]);
    let good = "#[cfg_attr(\n    feature = \"serde\",\n    derive(serde::Serialize, serde::Deserialize)\n)]\npub enum Good {}\n";
    assert_eq!(without_serde(good), [""; 0]);
}

/// Writes a value and reads it back.
fn goes_round<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) {
    let text = serde_json::to_string(&value).expect("written");
    let read: T = serde_json::from_str(&text).expect("read");
    assert_eq!(read, value, "{text}");
}

#[test]
fn errors_and_numbers_go_through_serde() {
    use gru_core::float::{Activation, Buffer, Dim, FloatError, GruF32, GruWeights};
    use gru_core::input::{FeatureParams, Limits};
    use gru_core::slot::{Record, SlotFault};
    use gru_core::{Feature, Field, LoadError, StateError, update};
    let (field, layer) = (Field::Direction, 1);
    for error in [
        LoadError::BadMagic { found: *b"ELF!" },
        LoadError::Feature(Feature::Windows),
        LoadError::Range {
            field,
            layer,
            found: 2,
            max: 1,
        },
    ] {
        goes_round(error);
    }
    goes_round(StateError::SelfTest {
        found: u64::MAX,
        expected: 0,
    });
    goes_round(SlotFault::TooShort);
    goes_round(update::UpdateError::<u8>::Flash(7));
    goes_round(Limits { low: -1, high: 9 });
    goes_round(FeatureParams {
        offset: -7,
        counts_per_unit: 0.1,
        multiplier: 32767,
        shift: 17,
        pre_shift: 3,
    });
    goes_round(Record {
        sequence: 3,
        artifact_len: 184,
        signature_len: 64,
    });
    goes_round(FloatError::Length {
        buffer: Buffer::Scratch,
        have: 3,
        need: 4,
    });
    goes_round(FloatError::Size {
        dim: Dim::Steps,
        found: 0,
    });
    goes_round(Activation::LeakyRelu { slope: 0.2 });
    let weights = GruWeights {
        w: &[0.5; 3],
        u: &[0.25; 3],
        b_in: &[],
        b_rec: &[],
    };
    let layer = GruF32::new(1, 1, weights).expect("a layer");
    let text = serde_json::to_string(&layer).expect("written");
    assert!(text.contains("[0.5,0.5,0.5]"), "{text}");
}
