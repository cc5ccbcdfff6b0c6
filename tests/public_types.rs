//! Every public type of the core has `defmt::Format` behind the feature `defmt`.

use std::collections::BTreeSet;
use std::path::Path;

/// Modules that exist on hosts only.
const HOST_ONLY: [&str; 2] = ["writer.rs", "random.rs"];

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

#[test]
fn every_public_type_of_the_core_can_be_logged() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gru-core/src");
    let formats = std::fs::read_to_string(src.join("formats.rs")).expect("formats.rs");
    let mut all = BTreeSet::new();
    files(&src, &mut all);
    let (mut types, mut missing) = (0, Vec::new());
    for path in all {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if HOST_ONLY.contains(&name.as_str()) {
            continue;
        }
        let source = std::fs::read_to_string(&path).expect("source");
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
