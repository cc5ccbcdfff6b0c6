//! Rows 18 and 19: the update under power cuts at every byte, and rollback; each with a planted fault.

use std::cell::Cell;

use ed25519_compact::{KeyPair, Seed, Signature};
use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};
use gru_core::artifact::crc32;
use gru_core::slot::{Gate, MARKS, Record, Running, Slot, SlotFault, Status, UNIT, select};
use gru_core::update::{Fallback, Slots, Update, UpdateError, confirm, reject};
use gru_train_host::reliability::flash::{FlashFault, MockFlash, Torn};
use gru_train_host::reliability::power_cut::{
    Before, OPEN, Product, Scheme, SmallFlash, Stage, install, mapped, package, slot_image,
    sweep_reject,
};

const SLOT: usize = 512;

fn slots(flash: &SmallFlash) -> Slots {
    Slots::new(flash, 0, SLOT as u32, SLOT as u32).expect("layout")
}

fn flash_with(old: &[u8], status: Status) -> (SmallFlash, Slots) {
    let mut flash = SmallFlash::new(2 * SLOT / 128);
    flash.provision(0, &slot_image(old, SLOT, status));
    let slots = slots(&flash);
    (flash, slots)
}

fn running(flash: &SmallFlash, slots: Slots) -> Option<Running> {
    let [a, b] = mapped(flash, slots);
    select(a, b, &OPEN).running()
}

#[test]
fn a_cut_after_every_byte_leaves_the_old_or_the_new_model() {
    for before in Before::ALL {
        for len in [64, 333] {
            let sweep = Stage::<4, 128>::new(len, before, 1).sweep(&Product, false);
            assert_eq!((sweep.violations, &sweep.first), (0, &None), "{before:?}");
            assert!(sweep.points as usize > 2 * len, "{sweep:?}");
        }
    }
    // Other words and pages: byte-wise, ECC double words, the 32-byte words of large parts.
    let sweeps = [
        Stage::<1, 256>::new(200, Before::Older, 2).sweep(&Product, false),
        Stage::<8, 128>::new(200, Before::Older, 2).sweep(&Product, false),
        Stage::<32, 1024>::new(200, Before::Older, 2).sweep(&Product, false),
    ];
    for sweep in sweeps {
        assert_eq!((sweep.violations, sweep.first), (0, None));
    }
}

#[test]
fn a_second_cut_at_every_byte_of_the_recovery_changes_nothing() {
    // The `reliability` command repeats this with 512 bytes; without optimization this takes 20 s.
    let sweep = Stage::<4, 128>::new(24, Before::Rejected, 4).sweep(&Product, true);
    assert_eq!((sweep.violations, &sweep.first), (0, &None));
    assert!(sweep.states > 500_000, "{sweep:?}");
}

#[test]
fn enumerated_cuts_equal_real_interrupted_runs() {
    let sweep = Stage::<4, 128>::new(100, Before::Rejected, 5).replay(&Product, 1);
    assert_eq!((sweep.violations, sweep.first), (0, None));
}

#[test]
fn a_cut_while_rejecting_is_harmless() {
    let sweep = sweep_reject(64);
    assert_eq!((sweep.violations, sweep.first), (0, None));
    assert_eq!(sweep.points, UNIT as u64);
}

// ---- planted faults: each sweep above must find them -------------------------------------------

/// A scheme made of closures, for the planted faults.
struct Faulty {
    boot: fn(&SmallFlash, Slots) -> Option<Running>,
    update: fn(&mut SmallFlash, Slots, Option<Running>, &[u8]) -> Updated,
}

type Updated = Result<(), UpdateError<FlashFault>>;

impl Scheme<4, 128> for Faulty {
    fn boot<'a>(&self, flash: &'a SmallFlash, slots: Slots) -> Option<(Running, &'a [u8])> {
        let running = (self.boot)(flash, slots)?;
        let slot = mapped(flash, slots)[usize::from(running.slot == Slot::B)];
        let len = u32::from_le_bytes(slot[8..12].try_into().expect("4 bytes")) as usize;
        Some((running, slot.get(UNIT..UNIT.checked_add(len)?)?))
    }

    fn update(
        &self,
        flash: &mut SmallFlash,
        slots: Slots,
        running: Option<Running>,
        package: &[u8],
    ) -> Updated {
        (self.update)(flash, slots, running, package)
    }
}

fn product_boot(flash: &SmallFlash, slots: Slots) -> Option<Running> {
    running(flash, slots)
}

fn product_update(
    flash: &mut SmallFlash,
    slots: Slots,
    running: Option<Running>,
    package: &[u8],
) -> Updated {
    Product.update(flash, slots, running, package)
}

/// Believes the commit magic and the record, without the CRC of the package.
fn trusting_boot(flash: &SmallFlash, slots: Slots) -> Option<Running> {
    let [a, b] = mapped(flash, slots);
    let one = |slot: Slot, bytes: &[u8]| {
        let record = Record::from_bytes(bytes.first_chunk()?)?;
        let mark = bytes.len() - MARKS;
        (&bytes[mark..mark + 4] == b"GRUC").then_some(Running {
            slot,
            sequence: record.sequence,
            status: if bytes[mark + UNIT..mark + 2 * UNIT] == [0xFF; UNIT] {
                Status::Pending
            } else {
                Status::Confirmed
            },
            refused: None,
        })
    };
    [one(Slot::A, a), one(Slot::B, b)]
        .into_iter()
        .flatten()
        .max_by_key(|running| running.sequence)
}

/// Erase, then record and commit mark, then the rest of the package.
fn commit_first(
    flash: &mut SmallFlash,
    slots: Slots,
    running: Option<Running>,
    package: &[u8],
) -> Updated {
    let start = slots.start(running.map_or(Slot::A, |running| running.slot.other()));
    let image = slot_image(package, slots.slot_len() as usize, Status::Pending);
    let mark = image.len() - MARKS;
    flash
        .erase(start, start + slots.slot_len())
        .map_err(UpdateError::Flash)?;
    for part in [
        0..UNIT,
        mark..mark + UNIT,
        UNIT..package.len().next_multiple_of(4),
    ] {
        flash
            .write(start + part.start as u32, &image[part])
            .map_err(UpdateError::Flash)?;
    }
    Ok(())
}

#[test]
fn control_commit_mark_first_is_found() {
    let faulty = Faulty {
        boot: trusting_boot,
        update: commit_first,
    };
    let sweep = Stage::<4, 128>::new(64, Before::Erased, 1).sweep(&faulty, false);
    assert!(sweep.violations > 0);
}

#[test]
fn control_update_in_place_is_found() {
    let faulty = Faulty {
        boot: product_boot,
        update: |flash, slots, running, package| {
            let start = slots.start(running.map_or(Slot::A, |running| running.slot));
            let image = slot_image(package, slots.slot_len() as usize, Status::Pending);
            let mark = image.len() - MARKS;
            flash
                .erase(start, start + slots.slot_len())
                .map_err(UpdateError::Flash)?;
            for part in [0..package.len().next_multiple_of(4), mark..mark + UNIT] {
                flash
                    .write(start + part.start as u32, &image[part])
                    .map_err(UpdateError::Flash)?;
            }
            Ok(())
        },
    };
    let sweep = Stage::<4, 128>::new(64, Before::Erased, 1).sweep(&faulty, false);
    assert!(sweep.violations > 0);
    let first = sweep.first.expect("a violation");
    assert!(first.contains("tick"), "{first}");
}

#[test]
fn control_erasing_the_marks_first_revives_a_rejected_model() {
    let faulty = Faulty {
        boot: product_boot,
        update: |flash, slots, running, package| {
            let start = slots.start(running.map_or(Slot::A, |running| running.slot.other()));
            let end = start + slots.slot_len();
            flash.erase(end - 128, end).map_err(UpdateError::Flash)?;
            product_update(flash, slots, running, package)
        },
    };
    let stage = |before| Stage::<4, 128>::new(64, before, 1);
    assert!(stage(Before::Rejected).sweep(&faulty, false).violations > 0);
    // Only then: without a rejected model the order does not matter.
    assert_eq!(stage(Before::Older).sweep(&faulty, false).violations, 0);
}

#[test]
fn control_skipping_the_erase_of_a_blank_record_writes_a_word_twice() {
    let faulty = Faulty {
        boot: product_boot,
        update: |flash, slots, running, package| {
            let start = slots.start(running.map_or(Slot::A, |running| running.slot.other()));
            let mut head = [0; UNIT];
            flash.read(start, &mut head).map_err(UpdateError::Flash)?;
            if head == [0xFF; UNIT] {
                let image = slot_image(package, slots.slot_len() as usize, Status::Pending);
                flash
                    .write(start, &image[..package.len().next_multiple_of(4)])
                    .map_err(UpdateError::Flash)?;
                let mark = image.len() - MARKS;
                flash
                    .write(start + mark as u32, &image[mark..mark + UNIT])
                    .map_err(UpdateError::Flash)
            } else {
                product_update(flash, slots, running, package)
            }
        },
    };
    let sweep = Stage::<4, 128>::new(64, Before::Older, 1).sweep(&faulty, false);
    assert!(sweep.violations > 0);
    assert!(sweep.first.expect("text").contains("WrittenTwice"));
}

#[test]
fn control_choosing_the_older_model_is_found() {
    let faulty = Faulty {
        boot: |flash, slots| {
            let [a, b] = mapped(flash, slots);
            let open = |slot, bytes| {
                gru_core::slot::read(bytes).ok().map(|stored| Running {
                    slot,
                    sequence: stored.sequence,
                    status: stored.status,
                    refused: None,
                })
            };
            [open(Slot::A, a), open(Slot::B, b)]
                .into_iter()
                .flatten()
                .min_by_key(|running| running.sequence)
        },
        update: product_update,
    };
    let sweep = Stage::<4, 128>::new(64, Before::Erased, 1).sweep(&faulty, false);
    assert!(sweep.violations > 0);
}

#[test]
fn control_the_flash_refuses_what_the_contract_forbids() {
    let mut flash = SmallFlash::new(2);
    assert_eq!(flash.write(0, &[1, 2, 3, 4]), Ok(()));
    assert_eq!(
        flash.write(0, &[0; 4]),
        Err(FlashFault::WrittenTwice { offset: 0 })
    );
    assert!(matches!(
        flash.write(2, &[0; 4]),
        Err(FlashFault::Arguments(_))
    ));
    assert!(matches!(
        flash.write(4, &[0; 3]),
        Err(FlashFault::Arguments(_))
    ));
    assert!(matches!(
        flash.erase(64, 128),
        Err(FlashFault::Arguments(_))
    ));
    assert!(matches!(
        flash.write(256, &[0; 4]),
        Err(FlashFault::Arguments(_))
    ));
    // Writing 0xFF programs the word too.
    assert_eq!(flash.write(4, &[0xFF; 4]), Ok(()));
    assert_eq!(
        flash.write(4, &[0xFF; 4]),
        Err(FlashFault::WrittenTwice { offset: 4 })
    );
    assert_eq!(flash.erase(0, 128), Ok(()));
    flash.cut_after(5, Torn::Zeros, 0);
    assert_eq!(flash.write(0, &[9; 12]), Err(FlashFault::PowerLost));
    assert_eq!(flash.write(64, &[9; 4]), Err(FlashFault::PowerLost));
    flash.power_up();
    assert_eq!(
        flash.bytes()[..12],
        [9, 9, 9, 9, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]
    );
}

// ---- refusals ----------------------------------------------------------------------------------

#[test]
fn all_orders_of_three_updates_never_go_back() {
    for order in [
        [1, 2, 3],
        [1, 3, 2],
        [2, 1, 3],
        [2, 3, 1],
        [3, 1, 2],
        [3, 2, 1],
        [1, 1, 2],
        [2, 2, 2],
        [3, 3, 1],
    ] {
        let (mut flash, slots) = flash_with(&package(0, &[0; 8], &[]), Status::Confirmed);
        let mut highest = 0;
        for sequence in order {
            let before = flash.bytes().to_vec();
            let running = running(&flash, slots);
            let update = package(sequence, &[sequence as u8; 20], &[]);
            let end = install(&mut flash, slots, running, &update, &OPEN, 7);
            if sequence > highest {
                highest = sequence;
                assert!(end.is_ok());
                confirm(&mut flash, slots, end.expect("committed")).expect("confirmed");
            } else {
                assert_eq!(
                    end,
                    Err(UpdateError::Rollback {
                        found: sequence,
                        required: Some(highest + 1)
                    })
                );
                assert_eq!(
                    flash.bytes(),
                    before,
                    "nothing is erased before the refusal"
                );
            }
            let [a, b] = mapped(&flash, slots);
            let selection = select(a, b, &OPEN);
            assert_eq!(selection.artifact(), Some(&[highest as u8; 20][..]));
        }
    }
}

#[test]
fn the_last_sequence_number_is_the_last_update() {
    let (mut flash, slots) = flash_with(&package(u32::MAX, &[0; 8], &[]), Status::Confirmed);
    let running = running(&flash, slots);
    for sequence in [0, 1, u32::MAX] {
        let update = package(sequence, &[1; 8], &[]);
        assert_eq!(
            install(&mut flash, slots, running, &update, &OPEN, 8),
            Err(UpdateError::Rollback {
                found: sequence,
                required: None
            })
        );
    }
}

#[test]
fn an_update_waits_for_the_verdict_on_the_running_model() {
    let (mut flash, slots) = flash_with(&package(5, &[5; 8], &[]), Status::Confirmed);
    let first = running(&flash, slots);
    let trial = install(
        &mut flash,
        slots,
        first,
        &package(6, &[6; 8], &[]),
        &OPEN,
        8,
    )
    .expect("committed");
    assert_eq!(running(&flash, slots), Some(trial));
    assert_eq!(
        install(
            &mut flash,
            slots,
            Some(trial),
            &package(7, &[7; 8], &[]),
            &OPEN,
            8
        ),
        Err(UpdateError::Unconfirmed)
    );
    let fallback = Fallback::check(mapped(&flash, slots)[0], &OPEN).expect("model 5");
    reject(&mut flash, slots, trial, fallback).expect("rejected");
    assert_eq!(running(&flash, slots), first);
    // The same number may come again, mended.
    let trial = install(
        &mut flash,
        slots,
        first,
        &package(6, &[9; 8], &[]),
        &OPEN,
        8,
    )
    .expect("committed");
    let confirmed = confirm(&mut flash, slots, trial).expect("confirmed");
    assert_eq!(confirm(&mut flash, slots, confirmed), Ok(confirmed));
    assert_eq!(
        reject(&mut flash, slots, trial, fallback),
        Err(UpdateError::Confirmed),
        "also when the caller's view is out of date"
    );
    assert_eq!(running(&flash, slots), Some(confirmed));
}

#[test]
fn streams_that_lie_about_their_length_are_refused() {
    let (mut flash, slots) = flash_with(&package(1, &[1; 8], &[]), Status::Confirmed);
    let running = running(&flash, slots);
    let update = package(2, &[2; 50], &[]);
    let record = update.first_chunk().expect("record");
    let mut short = Update::begin(&mut flash, slots, running, 0, record).expect("begin");
    short.write(&mut flash, &[2; 49]).expect("write");
    assert_eq!(short.remaining(), 1);
    assert_eq!(short.write(&mut flash, &[2; 2]), Err(UpdateError::Excess));
    assert_eq!(
        short.finish(&mut flash).map(|_| ()),
        Err(UpdateError::Incomplete {
            received: 81,
            expected: 82
        })
    );
    for (artifact_len, signature_len) in [(SLOT as u32, 0), (u32::MAX, 1), (u32::MAX, u32::MAX)] {
        let record = Record {
            sequence: 2,
            artifact_len,
            signature_len,
        };
        assert!(matches!(
            Update::begin(&mut flash, slots, running, 0, &record.to_bytes()),
            Err(UpdateError::TooLong { available: 416, .. })
        ));
    }
    for bit in 0..UNIT * 8 {
        let mut hurt = *record;
        hurt[bit / 8] ^= 1 << (bit % 8);
        assert!(Update::begin(&mut flash, slots, running, 0, &hurt).is_err());
    }
}

#[test]
fn slots_must_be_whole_pages_apart_and_inside() {
    let flash = SmallFlash::new(8);
    for (a, b, len) in [
        (0, 512, 500),
        (64, 512, 256),
        (0, 128, 256),
        (0, 512, 1024),
        (0, 512, 128),
        (0, u32::MAX - 127, 256),
    ] {
        assert_eq!(Slots::new(&flash, a, b, len), Err(UpdateError::Layout));
    }
    assert!(Slots::new(&flash, 512, 0, 512).is_ok());
}

#[test]
fn a_flash_that_does_not_keep_its_bytes_is_noticed() {
    /// Loses one bit of everything written at an offset.
    struct Weak(MockFlash<4, 128>);
    impl embedded_storage::nor_flash::ErrorType for Weak {
        type Error = FlashFault;
    }
    impl ReadNorFlash for Weak {
        const READ_SIZE: usize = 1;
        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashFault> {
            self.0.read(offset, bytes)
        }
        fn capacity(&self) -> usize {
            self.0.capacity()
        }
    }
    impl NorFlash for Weak {
        const WRITE_SIZE: usize = 4;
        const ERASE_SIZE: usize = 128;
        fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashFault> {
            self.0.erase(from, to)
        }
        fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashFault> {
            let mut bytes = bytes.to_vec();
            bytes[5] &= 0xFE;
            self.0.write(offset, &bytes)
        }
    }
    let mut flash = Weak(MockFlash::new(8));
    let slots = Slots::new(&flash, 0, 512, 512).expect("layout");
    let update = package(1, &[1; 64], &[]);
    let mut run = Update::begin(
        &mut flash,
        slots,
        None,
        0,
        update.first_chunk().expect("record"),
    )
    .expect("begin");
    run.write(&mut flash, &update[UNIT..]).expect("write");
    assert_eq!(
        run.finish(&mut flash).map(|_| ()),
        Err(UpdateError::ReadBack)
    );
}

// ---- the signature hook, with ed25519 ----------------------------------------------------------

#[test]
fn a_flipped_signature_is_refused_and_nothing_is_parsed() {
    let keys = KeyPair::from_seed(Seed::new([42; 32]));
    let signed = |sequence, artifact: &[u8]| {
        let mut bytes = package(sequence, artifact, &[0; 64]);
        let message = bytes.len() - 64;
        let signature = keys.sk.sign(&bytes[..message], None);
        bytes[message..].copy_from_slice(signature.as_ref());
        bytes
    };
    let (verified, parsed) = (Cell::new(0), Cell::new(0));
    let verify = |package: &[u8]| {
        verified.set(verified.get() + 1);
        let Some((message, signature)) = package.split_last_chunk::<64>() else {
            return false;
        };
        Signature::from_slice(signature)
            .is_ok_and(|signature| keys.pk.verify(message, &signature).is_ok())
    };
    let accept = |_: &[u8]| {
        parsed.set(parsed.get() + 1);
        true
    };
    let gate = Gate {
        floor: 0,
        verify: &verify,
        accept: &accept,
    };
    let (mut flash, slots) = flash_with(&signed(1, &[1; 40]), Status::Confirmed);
    let first = running(&flash, slots);

    // Any bit of the package, with a record whose own CRC is mended, ends before the parser. (The stride
    // steps over that CRC itself, whose mending would undo the flip.)
    let good = signed(2, &[2; 40]);
    for bit in (0..good.len() * 8).step_by(37) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let crc = crc32(&bad[..28]).to_le_bytes();
        bad[28..32].copy_from_slice(&crc);
        assert!(install(&mut flash, slots, first, &bad, &gate, 16).is_err());
        assert_eq!(parsed.get(), 0, "bit {bit}");
        assert_eq!(running(&flash, slots), first);
    }
    let mut flipped = good.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    verified.set(0);
    assert_eq!(
        install(&mut flash, slots, first, &flipped, &gate, 16),
        Err(UpdateError::Refused(SlotFault::Signature))
    );
    assert_eq!((verified.get(), parsed.get()), (1, 0));

    // At boot as well: a slot that was written by somebody else, commit mark and all.
    flash.erase(SLOT as u32, 2 * SLOT as u32).expect("erase");
    flash.provision(SLOT, &slot_image(&flipped, SLOT, Status::Confirmed));
    verified.set(0);
    let [a, b] = mapped(&flash, slots);
    let selection = select(a, b, &gate);
    let now = selection.running();
    let without = now.map(|now| Running {
        refused: None,
        ..now
    });
    assert_eq!((without, selection.refused), (first, Some(2)));
    assert_eq!(selection.faults, [None, Some(SlotFault::Signature)]);
    assert_eq!((verified.get(), parsed.get()), (2, 1));

    // Over the foreign package goes a newer one, by a caller who knows that the gate refused it.
    let good = signed(3, &[2; 40]);
    assert_eq!(
        install(&mut flash, slots, first, &good, &gate, 16),
        Err(UpdateError::Stale)
    );

    // An old signed model under a higher number: the number is signed too.
    let mut replayed = signed(1, &[1; 40]);
    let newer = Record {
        sequence: 9,
        artifact_len: 40,
        signature_len: 64,
    };
    replayed[..UNIT].copy_from_slice(&newer.to_bytes());
    assert_eq!(
        install(&mut flash, slots, now, &replayed, &gate, 16),
        Err(UpdateError::Refused(SlotFault::Signature))
    );

    let trial = install(&mut flash, slots, now, &good, &gate, 16).expect("the good one");
    assert_eq!(running(&flash, slots), Some(trial));

    // Control: a hook that always agrees lets the flipped signature through to the parser.
    let careless = Gate {
        verify: &|_| true,
        ..gate
    };
    let before = parsed.get();
    let [a, b] = mapped(&flash, slots);
    assert!(select(a, b, &careless).run.is_some());
    assert!(parsed.get() > before);
}

// ---- what the caller says, against what the flash holds ----------------------------------------

#[test]
fn a_running_value_from_before_the_last_update_erases_nothing() {
    let (mut flash, slots) = flash_with(&package(1, &[1; 8], &[]), Status::Confirmed);
    let boot = running(&flash, slots);
    let three = package(3, &[3; 8], &[]);
    let trial = install(&mut flash, slots, boot, &three, &OPEN, 8).expect("committed");
    let confirmed = confirm(&mut flash, slots, trial).expect("confirmed");
    let before = flash.bytes().to_vec();
    for sequence in [2, 3, 4] {
        let update = package(sequence, &[9; 8], &[]);
        let end = install(&mut flash, slots, boot, &update, &OPEN, 8);
        assert_eq!(end, Err(UpdateError::Stale), "{sequence}");
        // Nor does a caller who knows of no model.
        if sequence < 4 {
            let end = install(&mut flash, slots, None, &update, &OPEN, 8);
            assert!(
                matches!(
                    end,
                    Err(UpdateError::Rollback {
                        required: Some(4),
                        ..
                    })
                ),
                "{end:?}"
            );
        }
    }
    assert_eq!(flash.bytes(), before);
    assert_eq!(running(&flash, slots), Some(confirmed));
    // Without a running model the newest one stays until the next one is committed.
    let update = package(4, &[4; 8], &[]);
    let begun = Update::begin(
        &mut flash,
        slots,
        None,
        0,
        update.first_chunk().expect("record"),
    );
    assert_eq!(begun.map(|update| update.target()), Ok(Slot::A));
    assert_eq!(running(&flash, slots), Some(confirmed));
}

#[test]
fn a_model_that_rotted_since_boot_does_not_cost_the_other_one() {
    let (mut flash, slots) = flash_with(&package(1, &[1; 8], &[]), Status::Confirmed);
    let boot = running(&flash, slots);
    let two = package(2, &[2; 8], &[]);
    let trial = install(&mut flash, slots, boot, &two, &OPEN, 8).expect("committed");
    let confirmed = confirm(&mut flash, slots, trial).expect("confirmed");
    let mut bytes = flash.bytes().to_vec();
    bytes[SLOT + UNIT] ^= 1;
    flash.provision(0, &bytes);
    let three = package(3, &[3; 8], &[]);
    let end = install(&mut flash, slots, Some(confirmed), &three, &OPEN, 8);
    assert_eq!(end, Err(UpdateError::Stale));
    // The next boot runs the older one; the number that was confirmed is kept in mind, and may come again.
    let older = running(&flash, slots);
    assert_eq!(older, boot);
    let [_, rotten] = mapped(&flash, slots);
    assert_eq!(
        gru_core::slot::read(rotten).map(|_| ()),
        Err(SlotFault::Damaged)
    );
    let one = package(1, &[1; 8], &[]);
    assert!(install(&mut flash, slots, older, &one, &OPEN, 8).is_err());
    assert!(install(&mut flash, slots, older, &two, &OPEN, 8).is_ok());
}

#[test]
fn a_newer_package_that_the_gate_refuses_may_be_overwritten() {
    let (mut flash, slots) = flash_with(&package(1, &[1; 8], &[]), Status::Confirmed);
    let boot = running(&flash, slots);
    let three = package(3, &[3; 8], &[]);
    let trial = install(&mut flash, slots, boot, &three, &OPEN, 8).expect("committed");
    confirm(&mut flash, slots, trial).expect("confirmed");
    // Another firmware, which does not load model 3.
    let gate = Gate {
        accept: &|artifact| artifact != [3; 8],
        ..OPEN
    };
    let [a, b] = mapped(&flash, slots);
    let now = select(a, b, &gate).running();
    assert_eq!(
        now.map(|now| (now.sequence, now.refused)),
        Some((1, Some(3)))
    );
    for (sequence, good) in [(2, false), (3, false), (4, true)] {
        let update = package(sequence, &[sequence as u8; 8], &[]);
        let end = install(&mut flash, slots, now, &update, &gate, 8);
        assert_eq!(end.is_ok(), good, "{sequence}: {end:?}");
    }
    // Model 4 is there now: the value from before is out of date.
    let five = package(5, &[5; 8], &[]);
    let end = install(&mut flash, slots, now, &five, &gate, 8);
    assert_eq!(end, Err(UpdateError::Stale));
}

#[test]
fn a_model_without_a_fallback_is_not_rejected() {
    // A first installation.
    let mut flash = SmallFlash::new(2 * SLOT / 128);
    let slots = slots(&flash);
    let one = package(1, &[1; 8], &[]);
    let trial = install(&mut flash, slots, None, &one, &OPEN, 8).expect("committed");
    let [_, b] = mapped(&flash, slots);
    assert_eq!(Fallback::check(b, &OPEN), Err(SlotFault::Empty));
    // The way out is a newer one, which nothing is lost for.
    let two = package(2, &[2; 8], &[]);
    let second = install(&mut flash, slots, Some(trial), &two, &OPEN, 8).expect("committed");
    let [a, _] = mapped(&flash, slots);
    let fallback = Fallback::check(a, &OPEN).expect("model 1");
    let refuses = Gate {
        verify: &|_| false,
        ..OPEN
    };
    assert_eq!(Fallback::check(a, &refuses), Err(SlotFault::Signature));

    // The older model rots after it was checked.
    let mut rotten = flash.clone();
    let mut bytes = rotten.bytes().to_vec();
    bytes[UNIT] ^= 1;
    rotten.provision(0, &bytes);
    assert_eq!(
        reject(&mut rotten, slots, second, fallback),
        Err(UpdateError::NoFallback)
    );
    assert_eq!(running(&rotten, slots), Some(second));

    assert_eq!(reject(&mut flash, slots, second, fallback), Ok(()));
    assert_eq!(running(&flash, slots), Some(trial));
    // A rejected model is neither confirmed nor a fallback.
    assert_eq!(
        confirm(&mut flash, slots, second),
        Err(UpdateError::Refused(SlotFault::Rejected))
    );
    let [_, b] = mapped(&flash, slots);
    assert_eq!(Fallback::check(b, &OPEN), Err(SlotFault::Rejected));
    assert_eq!(
        reject(&mut flash, slots, trial, fallback),
        Err(UpdateError::NoFallback)
    );
    assert_eq!(running(&flash, slots), Some(trial));
}

#[test]
fn an_empty_or_foreign_slot_is_not_marked() {
    let (mut flash, slots) = flash_with(&package(1, &[1; 8], &[]), Status::Pending);
    let now = running(&flash, slots).expect("model 1");
    let before = flash.bytes().to_vec();
    let empty = Running {
        slot: Slot::B,
        ..now
    };
    assert_eq!(
        confirm(&mut flash, slots, empty),
        Err(UpdateError::Refused(SlotFault::Empty))
    );
    let foreign = Running { sequence: 2, ..now };
    assert_eq!(confirm(&mut flash, slots, foreign), Err(UpdateError::Stale));
    assert_eq!(flash.bytes(), before);
}

#[test]
fn the_older_model_runs_when_the_confirmed_one_rots() {
    let (mut flash, slots) = flash_with(&package(1, &[1; 8], &[]), Status::Confirmed);
    let boot = running(&flash, slots);
    let two = package(2, &[2; 8], &[]);
    let trial = install(&mut flash, slots, boot, &two, &OPEN, 8).expect("committed");
    confirm(&mut flash, slots, trial).expect("confirmed");
    let bytes = flash.bytes().to_vec();
    for bit in (0..bytes.len() * 8 / 2).filter(|bit| bit / 8 < SLOT - 2 * UNIT) {
        let mut hurt = bytes.clone();
        hurt[SLOT + bit / 8] ^= 1 << (bit % 8);
        let mut flash = flash.clone();
        flash.provision(0, &hurt);
        let runs = running(&flash, slots).map(|now| now.sequence);
        assert!(matches!(runs, Some(1 | 2)), "bit {bit}: {runs:?}");
    }
}
