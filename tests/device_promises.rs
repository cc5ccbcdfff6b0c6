//! Rows 11 to 13 and 20: stack, duration and bits of a step on emulated cores, the hand-over of samples; with
//! planted faults that each check has to find.
//!
//! What is not installed is named and left out, unless `GRU_REQUIRE_QEMU=1` is set.

use gru_core::random::{covering, windowed};
use gru_train_host::board::{Emulator, Machine};
use gru_train_host::reliability::device::{
    LOAD_STACK, STEP_STACK, absent, bits, duration, durations, everything_is_required, exact,
    fastest,
};
use gru_train_host::reliability::handover::{self, Queue};

fn say_what_is_absent() {
    let absent = absent();
    if !absent.is_empty() {
        println!("not here: {}", absent.join(", "));
    }
    assert!(absent.is_empty() || !everything_is_required());
}

#[test]
fn a_step_takes_as_many_instructions_from_any_state() {
    say_what_is_absent();
    for (machine, emulator) in exact() {
        // The emulator is slow in a debug build; the `reliability` command takes 10^4 steps.
        let steps = if cfg!(debug_assertions) { 300 } else { 10_000 };
        let found = duration(machine, emulator, steps, None).expect("runs");
        println!("{found:?}");
        assert_eq!(found.steps, steps as u64);
        assert!(found.range[0] > 1000.0, "{found:?}");
        assert!(found.is_constant(), "{found:?}");
    }
}

#[test]
fn every_variant_takes_as_many_instructions_from_any_state() {
    let mut wrong = Vec::new();
    for (machine, emulator) in exact() {
        let steps = if cfg!(debug_assertions) { 40 } else { 1000 };
        // The code of M7 is that of M4.
        if machine == Machine::An500 {
            continue;
        }
        for (name, found) in durations(machine, emulator, steps).expect("runs") {
            let [fewest, most] = found.range;
            println!("{} {name}: {fewest} to {most}", machine.core());
            if !found.is_constant() {
                wrong.push(format!("{} {name}: {fewest} to {most}", machine.core()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn control_a_step_that_branches_on_its_state_is_found() {
    let (machine, emulator) = (Machine::An386, Emulator::Embedded);
    let found = duration(machine, emulator, 200, Some("planted-branch")).expect("runs");
    println!("{found:?}");
    assert!(!found.is_constant(), "{found:?}");
}

#[test]
fn every_core_has_the_bits_of_the_host_and_its_own_kernel() {
    say_what_is_absent();
    for (machine, emulator) in fastest() {
        let found = bits(machine, emulator, 100, false).expect("runs");
        println!("{found:?}");
        let models = covering().len() as u64;
        assert_eq!(
            (found.models, found.steps, found.differ),
            (models + windowed().len() as u64, 100 * models, 0)
        );
        assert!(found.right_kernel, "{found:?}");
        assert!(
            found.stack[0] <= LOAD_STACK && found.stack[1] <= STEP_STACK,
            "{found:?}"
        );
        assert!(
            found.stack[1] > 0 || machine == Machine::RiscvVirt,
            "{found:?}"
        );
    }
}

#[test]
#[ignore = "five minutes in QEMU: run with --release -- --ignored"]
fn every_core_has_the_bits_of_the_host_over_a_hundred_thousand_steps() {
    for (machine, emulator) in fastest() {
        if emulator != Emulator::Qemu {
            continue;
        }
        let found = bits(machine, emulator, 100_000, false).expect("runs");
        println!("{found:?}");
        let models = covering().len();
        assert_eq!((found.steps, found.differ), (100_000 * models as u64, 0));
        assert!(found.right_kernel, "{found:?}");
        // The digests that every host has to have: `gru-core/tests/bitexact.rs` reads the same file.
        let digests = include_str!("../gru-core/tests/digests.txt");
        let lines = digests.lines().filter(|line| !line.starts_with('#'));
        let written: Vec<_> = (lines.take(models))
            .filter_map(|line| line.split(' ').nth(2))
            .collect();
        let boards: Vec<_> = found.digests.iter().map(|d| format!("{d:016x}")).collect();
        assert_eq!(
            (boards.len(), boards),
            (models, written.iter().map(|d| d.to_string()).collect())
        );
    }
}

#[test]
fn control_a_model_with_one_bias_off_by_one_unit_is_found() {
    let found = bits(Machine::An386, Emulator::Embedded, 60, true).expect("runs");
    assert!(found.differ >= 4 + windowed().len() as u64 / 2, "{found:?}");
}

#[test]
fn samples_that_are_handed_over_are_stepped_in_order_or_counted() {
    let found = handover::run(200_000, Queue::Product);
    println!("{found:?}");
    assert_eq!(found.wrong, 0, "{found:?}");
    assert!(found.lost > 0 && found.lost < found.items, "{found:?}");
}

#[test]
fn control_samples_that_vanish_or_come_twice_are_found() {
    assert!(handover::run(200_000, Queue::Careless).wrong > 0);
    assert!(handover::run(200_000, Queue::Twice).wrong > 0);
}
