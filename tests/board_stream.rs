//! The firmware on virtual boards gives the host's bits, and says why where it does not run.
//!
//! Boards that need QEMU are left out where it is not installed, unless `GRU_REQUIRE_QEMU=1` is set.

use std::time::Duration;

use gru_core::layout::Layout;
use gru_core::writer::{Aligned, fix_crc, host_state, write};
use gru_core::{Digest, Model, random};
use gru_train_host::board::{
    BoardError, BoardReport, Emulator, Machine, Options, emulator_name, run,
};

const FEATURES: usize = 6;
/// The layouts that devices take; `Layout::Lanes` is the host's own.
const LAYOUTS: [Layout; 11] = [
    Layout::Rows,
    Layout::Pair,
    Layout::Quad,
    Layout::Vector,
    Layout::Winograd,
    Layout::Rows4,
    Layout::Pair4,
    Layout::Quad4,
    Layout::RowsSparse,
    Layout::PairSparse,
    Layout::QuadSparse,
];

fn artifact(layout: Layout) -> Aligned {
    let mut model = random::model(7, FEATURES, &[32], 5);
    if layout.weight_bits() == 4 {
        random::halve(&mut model);
    }
    if layout.is_sparse() {
        random::prune(&mut random::SplitMix(8), &mut model, 0.5);
    }
    Aligned::new(&write(&model, layout).expect("a random model is valid"))
}

/// Sequences of different lengths, an empty one among them.
fn sequences() -> Vec<Vec<i16>> {
    let mut rng = random::SplitMix(11);
    [40usize, 0, 1, 17, 30]
        .iter()
        .map(|steps| (0..*steps).flat_map(|_| rng.sample(FEATURES)).collect())
        .collect()
}

/// What the host computes: digest, and logits and class at the end of each sequence.
struct Expected {
    digest: u64,
    logits: Vec<Vec<i16>>,
    classes: Vec<Option<u16>>,
    /// Logits after each step of each sequence.
    every: Vec<Vec<Vec<i16>>>,
}

fn on_host(artifact: &[u8], sequences: &[Vec<i16>], carry_state: bool) -> Expected {
    let model = Model::load(artifact).expect("loads");
    let mut state = host_state(&model).expect("has room");
    let mut digest = Digest::default();
    let mut expected = Expected {
        digest: 0,
        logits: Vec::new(),
        classes: Vec::new(),
        every: Vec::new(),
    };
    for samples in sequences {
        if !carry_state {
            state.reset(&model).expect("is its state");
        }
        let mut every = Vec::new();
        for sample in samples.chunks_exact(FEATURES) {
            let output = model.step(&mut state, sample).expect("steps");
            every.push(output.values().collect());
            state.digest(&model, &mut digest);
        }
        let output = model.output(&state);
        expected.logits.push(output.values().collect());
        expected.classes.push(Some(output.argmax() as u16));
        expected.every.push(every);
    }
    expected.digest = digest.value();
    expected
}

fn options(emulator: Emulator) -> Options {
    Options {
        emulator,
        ..Options::default()
    }
}

fn stream(
    machine: Machine,
    artifact: &[u8],
    sequences: &[Vec<i16>],
    options: &Options,
) -> Result<BoardReport, BoardError> {
    run(
        machine,
        artifact,
        FEATURES,
        sequences.iter().map(Vec::as_slice),
        options,
    )
}

/// Whether this board can run in QEMU here. Says so if not.
fn qemu_or_skip(machine: Machine) -> bool {
    let there = emulator_name(machine, Emulator::Qemu).is_some();
    if !there {
        assert!(
            std::env::var_os("GRU_REQUIRE_QEMU").is_none_or(|value| value != "1"),
            "GRU_REQUIRE_QEMU=1, and there is no QEMU for {}",
            machine.name()
        );
        println!(
            "skipped: {} needs QEMU, which is not installed",
            machine.name()
        );
    }
    there
}

fn check(machine: Machine, emulator: Emulator) {
    let sequences = sequences();
    for layout in LAYOUTS {
        let artifact = artifact(layout);
        let expected = on_host(&artifact, &sequences, false);
        let report = stream(machine, &artifact, &sequences, &options(emulator))
            .unwrap_or_else(|e| panic!("{}: {e}", machine.name()));
        println!(
            "{:28} {:34} {layout:?} digest {:016x} {:8.1} instructions/step, load {:8.0}; stack {} + {}, state {}, flash {}",
            report.board,
            report.emulator,
            report.digest,
            report.instructions_per_step,
            report.load_instructions,
            report.load_stack_bytes,
            report.step_stack_bytes,
            report.state_bytes,
            report.firmware_bytes,
        );
        assert_eq!(
            report.digest, expected.digest,
            "{} {layout:?}",
            report.board
        );
        assert_eq!(
            report.logits, expected.logits,
            "{} {layout:?}",
            report.board
        );
        assert_eq!(report.predictions, expected.classes);
        assert_eq!(report.steps, 88);
        assert!(
            report
                .logs
                .iter()
                .any(|line| line.contains("model random-7"))
        );
    }
}

#[test]
fn embedded_boards_equal_the_host() {
    for machine in Machine::ALL.into_iter().filter(|m| m.has_embedded()) {
        check(machine, Emulator::Embedded);
    }
}

#[test]
fn qemu_boards_equal_the_host() {
    for machine in Machine::ALL {
        if qemu_or_skip(machine) {
            check(machine, Emulator::Qemu);
        }
    }
}

#[test]
fn qemu_and_the_embedded_emulator_count_the_same_instructions() {
    if !qemu_or_skip(Machine::An386) {
        return;
    }
    let count = |emulator| {
        let (artifact, sequences) = (artifact(Layout::Rows), sequences());
        stream(Machine::An386, &artifact, &sequences, &options(emulator))
            .unwrap()
            .instructions_per_step
    };
    let (qemu, embedded) = (count(Emulator::Qemu), count(Emulator::Embedded));
    assert!(
        (qemu - embedded).abs() < 16.0,
        "QEMU counts {qemu}, the embedded emulator {embedded}"
    );
}

#[test]
fn every_step_is_reported_and_the_state_can_be_carried() {
    let (artifact, sequences) = (artifact(Layout::Rows), sequences());
    let expected = on_host(&artifact, &sequences, true);
    assert_ne!(
        expected.digest,
        on_host(&artifact, &sequences, false).digest
    );
    let options = Options {
        every_step: true,
        carry_state: true,
        ..Options::default()
    };
    let report = stream(Machine::An386, &artifact, &sequences, &options).unwrap();
    assert_eq!(report.digest, expected.digest);
    let every: Vec<Vec<Vec<i16>>> = report
        .step_results
        .into_iter()
        .map(|steps| steps.into_iter().map(|step| step.logits).collect())
        .collect();
    assert_eq!(every, expected.every);
}

#[test]
fn a_damaged_artifact_is_refused_with_the_reason() {
    let mut bytes = artifact(Layout::Rows).to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let error = stream(Machine::An386, &bytes, &[], &Options::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, BoardError::Firmware { code: 64, .. }),
        "{text}"
    );
    assert!(text.contains("artifact was refused"), "{text}");
    assert!(text.contains("Crc"), "the log names the reason: {text}");
}

#[test]
fn samples_of_another_width_are_refused() {
    let sequence = [0i16; 8];
    let artifact = artifact(Layout::Rows);
    let error = run(
        Machine::An386,
        &artifact,
        4,
        [sequence.as_slice()],
        &Options::default(),
    )
    .unwrap_err();
    assert!(
        matches!(error, BoardError::Firmware { code: 67, .. }),
        "{error}"
    );
    let ragged = run(
        Machine::An386,
        &artifact,
        3,
        [sequence.as_slice()],
        &Options::default(),
    )
    .unwrap_err();
    assert!(matches!(ragged, BoardError::Input(_)), "{ragged}");
}

#[test]
fn an_endless_firmware_is_stopped() {
    let (artifact, sequences) = (artifact(Layout::Rows), vec![vec![0; FEATURES * 200_000]]);
    for emulator in [Emulator::Auto, Emulator::Embedded] {
        let options = Options {
            time_limit: Some(Duration::from_millis(50)),
            ..options(emulator)
        };
        let error = stream(Machine::An386, &artifact, &sequences, &options).unwrap_err();
        assert!(matches!(error, BoardError::TimeLimit { .. }), "{error}");
    }
}

#[test]
fn what_does_not_fit_the_board_is_said() {
    let mut large = artifact(Layout::Rows).to_vec();
    large.resize(200 << 10, 0);
    fix_crc(&mut large);
    let error = stream(Machine::Microbit, &large, &[], &Options::default()).unwrap_err();
    // Without QEMU the board itself is what is missing.
    assert!(
        matches!(error, BoardError::Input(_) | BoardError::Emulator(_)),
        "{error}"
    );
    let error = stream(
        Machine::RiscvVirt,
        &large,
        &[],
        &options(Emulator::Embedded),
    )
    .unwrap_err();
    assert!(matches!(error, BoardError::Emulator(_)), "{error}");
}
