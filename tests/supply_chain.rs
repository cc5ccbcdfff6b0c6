//! Rows 24 and 25: licences, sources, the size of the device's dependency graph, and `unsafe`; with planted faults.

use std::path::PathBuf;

use gru_train_host::reliability::supply::{
    EXCEPTIONS, MEMBERS, MOST_ON_DEVICE, SOURCE, count_unsafe, device_graph, foreign_sources,
    is_shim, licence_allowed, metadata, refused_licences, unsafe_lines, workspace_root,
};

fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    workspace_root(&here).expect("inside the workspace")
}

#[test]
fn every_dependency_comes_from_crates_io_with_a_checksum() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("lock file");
    assert!(lock.matches("[[package]]").count() > 30);
    assert_eq!(foreign_sources(&lock, &MEMBERS), Vec::<String>::new());
}

#[test]
fn control_a_git_dependency_or_a_missing_checksum_is_found() {
    let lock = format!(
        "[[package]]\nname = \"gru-core\"\nversion = \"1.0.0\"\n\n\
         [[package]]\nname = \"a\"\nsource = \"git+https://example.org/a#1\"\n\n\
         [[package]]\nname = \"b\"\nsource = \"{SOURCE}\"\n\n\
         [[package]]\nname = \"c\"\nsource = \"{SOURCE}\"\nchecksum = \"00\"\n"
    );
    assert_eq!(foreign_sources(&lock, &MEMBERS), ["a", "b"]);
}

#[test]
fn every_licence_is_on_the_list() {
    let metadata = metadata(&root()).expect("cargo metadata");
    let (refused, all) = refused_licences(&metadata);
    assert!(all > 30, "{all} packages");
    assert_eq!(refused, Vec::<String>::new());
}

#[test]
fn control_unknown_licences_are_found() {
    for allowed in [
        "MIT",
        "MIT OR Apache-2.0",
        "MIT/Apache-2.0",
        "Unlicense OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
    ] {
        assert!(licence_allowed(allowed), "{allowed}");
    }
    for refused in [
        "",
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "(MIT OR Apache-2.0) AND GPL-2.0",
        "LGPL-2.1-or-later",
    ] {
        assert!(!licence_allowed(refused), "{refused}");
    }
    let planted = serde_json::json!({"packages": [
        {"name": "mine", "source": null, "license": null},
        {"name": "a", "source": SOURCE, "license": "GPL-3.0-only"},
        {"name": "b", "source": SOURCE, "license": null},
        {"name": "c", "source": SOURCE, "license": "MIT"},
        // An exception is for one package and one licence.
        {"name": "d", "source": SOURCE, "license": "MPL-2.0"},
        {"name": "colored", "source": SOURCE, "license": "GPL-3.0-only"},
        {"name": "colored", "source": SOURCE, "license": "MPL-2.0"},
    ]});
    let (refused, all) = refused_licences(&planted);
    assert_eq!((refused.len(), all), (4, 6));
}

#[test]
fn the_device_links_few_crates() {
    let device = device_graph(&root(), "").expect("cargo tree");
    assert!(device.contains("gru-core") && device.contains("postcard"));
    assert!(device.len() <= MOST_ON_DEVICE, "{device:?}");
    assert!(EXCEPTIONS.iter().all(|(name, _)| !device.contains(*name)));
    // The update adds the interface of the flash and nothing else.
    let with_update = device_graph(&root(), "update").expect("cargo tree");
    let added: Vec<_> = with_update.difference(&device).collect();
    assert_eq!(added, ["embedded-storage"]);
    // Control: the host's features are seen by the same function.
    let host = device_graph(&root(), "f32").expect("cargo tree");
    assert!(host.contains("libm") && !device.contains("libm"));
}

#[test]
fn unsafe_code_is_in_the_instruction_shims_only() {
    let root = root();
    for (path, lines) in unsafe_lines(&root.join("gru-core/src")).expect("sources") {
        assert!(is_shim(&path), "{lines} lines in {}", path.display());
    }
    let host = unsafe_lines(&root.join("gru-train-host/src")).expect("sources");
    assert_eq!(host, []);
    let lib = std::fs::read_to_string(root.join("gru-core/src/lib.rs")).expect("source");
    assert!(lib.contains("#![deny(unsafe_code)]"));
}

#[test]
fn control_unsafe_is_counted_in_code_and_nowhere_else() {
    assert_eq!(
        count_unsafe("let a = unsafe { f() };\nunsafe fn g() {}\n"),
        2
    );
    assert_eq!(
        count_unsafe("// unsafe\nlet s = \"unsafe\";\n#![deny(unsafe_code)]\nnot_unsafe();\n"),
        0
    );
}
