//! Rows 1 to 5: damaged and malicious artifacts; each check with a planted fault that it has to find.

use gru_core::writer::{Aligned, host_state};
use gru_core::{LoadError, Model};
use gru_train_host::reliability::blobs::{references, reseal};
use gru_train_host::reliability::hostile::{
    bit_flips, dimension_grid, exercise, lengths, load, random_damage, resealed, versions,
};

/// Cases of a random check: `GRU_CASES` times a thousand, or a number for a debug build.
fn cases(usual: u64) -> u64 {
    std::env::var("GRU_CASES")
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
        .map_or(usual, |thousands| thousands * 1000)
}

fn blobs() -> Vec<Vec<u8>> {
    references().into_iter().map(|(_, blob)| blob).collect()
}

#[test]
fn references_load_and_pass_their_self_test() {
    for (name, blob) in references() {
        let bytes = Aligned::new(&blob);
        let model = Model::load(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let first = exercise(&bytes, 1000).expect(name);
        assert_eq!(first, exercise(&bytes, 1000).expect(name));
        let mut state = host_state(&model).expect(name);
        let test = model.self_test(&mut state);
        assert_eq!(test.is_ok(), name == "rows", "{name}: {test:?}");
    }
}

#[test]
fn every_bit_flip_and_length_is_refused_with_the_right_error() {
    for (name, blob) in references() {
        for verdicts in [bit_flips(load, &blob), lengths(load, &blob)] {
            assert_eq!(
                (verdicts.accepted, verdicts.panics, verdicts.wrong),
                (0, 0, 0),
                "{name}: {:?}",
                verdicts.first
            );
        }
    }
}

#[test]
fn random_damage_is_never_accepted() {
    let verdicts = random_damage(load, &blobs(), cases(100_000), 1);
    assert_eq!(
        (verdicts.accepted, verdicts.panics),
        (0, 0),
        "{:?}",
        verdicts.first
    );
}

#[test]
#[ignore = "10^7 cases take minutes; run with --release"]
fn random_damage_ten_million() {
    let verdicts = random_damage(load, &blobs(), 10_000_000, 2);
    assert_eq!((verdicts.accepted, verdicts.panics), (0, 0));
}

#[test]
fn resealed_mutations_end_in_a_typed_error_or_a_sound_run() {
    let verdicts = resealed(&blobs(), cases(3_000), 1000, 3);
    assert_eq!(
        (verdicts.panics, verdicts.wrong),
        (0, 0),
        "{:?}",
        verdicts.first
    );
    // The mutations get past the frame, else this test would test the checksum again.
    assert!(verdicts.accepted * 5 > verdicts.cases, "{verdicts:?}");
}

#[test]
#[ignore = "10^7 cases take an hour; run with --release"]
fn resealed_mutations_ten_million() {
    let verdicts = resealed(&blobs(), 10_000_000, 1000, 4);
    assert_eq!((verdicts.panics, verdicts.wrong), (0, 0));
}

#[test]
fn the_fuzz_corpus_ends_in_order() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/load_step");
    let (mut files, mut accepted) = (0, 0);
    for entry in std::fs::read_dir(folder).expect("corpus") {
        let path = entry.expect("entry").path();
        let mut bytes = Aligned::new(&std::fs::read(&path).expect("file"));
        for sealed in [false, true] {
            if sealed {
                reseal(&mut bytes);
            }
            let end = exercise(&bytes, 100);
            assert!(end.is_ok(), "{}: {end:?}", path.display());
            accepted += u64::from(end != Ok(None));
        }
        files += 1;
    }
    assert!(
        files > 100 && accepted > 50,
        "{files} files, {accepted} accepted"
    );
}

#[test]
fn every_other_version_and_flag_is_refused() {
    let verdicts = versions(load, &blobs()[0]);
    assert_eq!(
        (verdicts.accepted, verdicts.panics, verdicts.wrong),
        (0, 0, 0),
        "{:?}",
        verdicts.first
    );
    assert_eq!(verdicts.cases, 65_536 + 16);
}

#[test]
fn dimensions_are_checked_before_any_slice() {
    // The payloads of 7 MB that load are for optimized builds (the `reliability` command).
    let verdicts = dimension_grid(load, !cfg!(debug_assertions));
    assert_eq!(
        (verdicts.accepted, verdicts.panics, verdicts.wrong),
        (0, 0, 0),
        "{:?}",
        verdicts.first
    );
}

// ---- planted faults ----------------------------------------------------------------------------

/// A loader that does not compute the checksum.
fn without_crc(bytes: &[u8]) -> Result<(), LoadError> {
    let mut mended = Aligned::new(bytes);
    let crc = gru_core::artifact::frame_crc(&mended).to_le_bytes();
    if let Some(stored) = mended.get_mut(12..16) {
        stored.copy_from_slice(&crc);
    }
    load(&mended)
}

/// A loader that ignores what follows the announced length.
fn with_trailing_bytes(bytes: &[u8]) -> Result<(), LoadError> {
    let len = gru_core::stated_len(bytes)?;
    load(bytes.get(..len).unwrap_or(bytes))
}

/// A loader that trusts the version and indexes the frame.
fn careless(bytes: &[u8]) -> Result<(), LoadError> {
    let mut bytes = Aligned::new(bytes);
    bytes[4..6].copy_from_slice(&1_u16.to_le_bytes());
    without_crc(&bytes)
}

#[test]
fn control_a_loader_without_checksum_is_found() {
    let blob = &blobs()[0];
    assert!(bit_flips(without_crc, blob).accepted > 0);
    assert!(random_damage(without_crc, &blobs(), 2000, 1).accepted > 0);
}

#[test]
fn control_a_loader_that_takes_trailing_bytes_is_found() {
    let verdicts = lengths(with_trailing_bytes, &blobs()[0]);
    assert_eq!(verdicts.accepted, 4 * 64);
}

#[test]
fn control_a_loader_that_indexes_or_trusts_the_version_is_found() {
    let blob = &blobs()[0];
    assert!(lengths(careless, blob).panics > 0);
    assert!(versions(careless, blob).accepted > 65_000);
}

#[test]
fn control_a_loader_that_does_not_check_dimensions_is_found() {
    let verdicts = dimension_grid(|_| Ok(()), false);
    assert_eq!(verdicts.wrong, verdicts.cases);
}
