//! Which of two stored models to run: a pure function of two byte slices, no flash driver.
//!
//! A *package* is what a host signs and a radio or cable carries: a 32-byte *record*
//! (sequence number and lengths), the artifact, and whatever the signature scheme appends.
//! A *slot* is a flash region that holds one package and, in its last 96 bytes, three *marks* of
//! [`UNIT`] bytes, each a flash word of its own that is written at most once per erase:
//!
//! ```text
//! offset            bytes       what
//! 0                 32          record: "GRUS", sequence, artifact length, signature length,
//!                               12 zero bytes, CRC-32 of the 28 bytes before (all little-endian u32)
//! 32                artifact    the artifact, 4-byte aligned when the slot is
//! 32 + artifact     signature   0 bytes or more, meaning known to `verify` only
//! slot length - 96  32          commit mark, written last: "GRUC", sequence, package length,
//!                               CRC-32 of the package, 12 zero bytes, CRC-32 of the 28 bytes before
//! slot length - 64  32          confirm mark: all 0xFF = not confirmed, anything else = confirmed
//! slot length - 32  32          reject mark: all 0xFF = not rejected, anything else = rejected
//! ```
//!
//! A power cut leaves the word being written undefined, hence two rules. The commit mark counts only
//! when all of its 32 bytes are the expected ones *and* the package has the CRC it names. The
//! other two count as soon as one bit is programmed: a cut in the middle of confirming must not be
//! undone, because the same word must not be written twice. Confirmed wins over rejected.
//!
//! A CRC finds accidents, not attackers. Against intent there is [`Gate::verify`], called on the
//! whole package before the artifact is parsed. Of the record, two things are used before: the lengths, checked
//! against the slot, and the sequence number, which decides the order of the slots and is compared with the floor.
//! A forged number so gains one call of `verify`, no more. The number is in the package, so a signature covers
//! it: an old model cannot be made new without the key.

use crate::artifact::crc32;

/// Bytes of the record and of each mark: a multiple of every supported flash word.
pub const UNIT: usize = 32;
/// Bytes at the end of a slot taken by the commit, confirm and reject marks.
pub const MARKS: usize = 3 * UNIT;

const RECORD_MAGIC: [u8; 4] = *b"GRUS";
const COMMIT_MAGIC: [u8; 4] = *b"GRUC";

/// One of the two slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Slot {
    /// The first slot.
    A,
    /// The second slot.
    B,
}

impl Slot {
    /// The slot that is not this one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// How far a complete package has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Status {
    /// Complete, running on trial: may still be rejected in favour of the other slot.
    Pending,
    /// Confirmed by the firmware: it cannot be rejected, and the next update may overwrite the older model.
    ///
    /// Should it be damaged later or no longer pass the gate, the older model runs if it is still there: an old
    /// model is better than none. Who wants none instead raises [`Gate::floor`] when confirming.
    Confirmed,
    /// Rejected by the firmware during its trial: this slot is not run. The package is not remembered; sent again, it
    /// is installed again.
    Rejected,
}

/// Why a slot is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum SlotFault {
    /// The slice is shorter than a record and the marks.
    TooShort,
    /// The record is all 0xFF: nothing was written since the last erase.
    Empty,
    /// The record's magic, zero bytes or CRC-32 are wrong.
    Record,
    /// The record's lengths do not fit the slot.
    Length,
    /// The commit mark is all 0xFF: the update did not come to its end.
    NotCommitted,
    /// The commit mark does not name this package: a cut while committing, or damage in either.
    Damaged,
    /// The firmware rejected this package during its trial.
    Rejected,
    /// The sequence number is below the floor.
    BelowFloor {
        /// The package's sequence number.
        found: u32,
        /// The smallest one that the gate accepts.
        floor: u32,
    },
    /// `verify` returned false; nothing of the package was parsed.
    Signature,
    /// `accept` returned false: the artifact does not load.
    Artifact,
    /// In order, but the other slot holds a higher sequence number.
    Older,
}

impl core::fmt::Display for SlotFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooShort => write!(f, "slot is shorter than its record and marks"),
            Self::Empty => write!(f, "slot is empty"),
            Self::Record => write!(f, "slot record is damaged"),
            Self::Length => write!(f, "package does not fit the slot"),
            Self::NotCommitted => write!(f, "update was not completed"),
            Self::Damaged => write!(f, "package and commit mark disagree"),
            Self::Rejected => write!(f, "package was rejected during its trial"),
            Self::BelowFloor { found, floor } => {
                write!(f, "sequence {found} is below the floor {floor}")
            }
            Self::Signature => write!(f, "signature was refused"),
            Self::Artifact => write!(f, "artifact does not load"),
            Self::Older => write!(f, "the other slot is newer"),
        }
    }
}

impl core::error::Error for SlotFault {}

/// What a package must pass, at boot and before it is committed: the same three questions.
#[derive(Clone, Copy)]
pub struct Gate<'g> {
    /// Smallest sequence number accepted; 0 without a monotonic counter outside this flash.
    pub floor: u32,
    /// Signature check of the whole package (record, artifact, signature), before it is parsed.
    pub verify: &'g dyn Fn(&[u8]) -> bool,
    /// Whether the artifact loads on this firmware, such as `|a| Model::load(a).is_ok()`.
    pub accept: &'g dyn Fn(&[u8]) -> bool,
}

impl Gate<'_> {
    /// Floor, then signature, then artifact; the first refusal is the answer.
    ///
    /// # Errors
    /// [`SlotFault::BelowFloor`], [`SlotFault::Signature`] or [`SlotFault::Artifact`].
    pub fn judge(&self, stored: &Stored<'_>) -> Result<(), SlotFault> {
        if stored.sequence < self.floor {
            return Err(SlotFault::BelowFloor {
                found: stored.sequence,
                floor: self.floor,
            });
        }
        if !(self.verify)(stored.package) {
            return Err(SlotFault::Signature);
        }
        if !(self.accept)(stored.artifact) {
            return Err(SlotFault::Artifact);
        }
        Ok(())
    }
}

/// A complete package in a slot, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stored<'a> {
    /// The sequence number: the higher one is the newer model.
    pub sequence: u32,
    /// Pending, confirmed or rejected.
    pub status: Status,
    /// Record, artifact and signature: what `verify` sees.
    pub package: &'a [u8],
    /// The artifact alone: what `Model::load` sees.
    pub artifact: &'a [u8],
}

/// Which model runs, without a borrow of the flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Running {
    /// The slot it is in.
    pub slot: Slot,
    /// Its sequence number.
    pub sequence: u32,
    /// Pending or confirmed.
    pub status: Status,
    /// The sequence number of a newer, complete package in the other slot that the gate refused: an update may
    /// overwrite that one.
    pub refused: Option<u32>,
}

/// What [`select`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Selection<'a> {
    /// The slot to run and what it holds; `None` when neither passed.
    pub run: Option<(Slot, Stored<'a>)>,
    /// Why slot A and slot B are not run; `None` for the one that is.
    pub faults: [Option<SlotFault>; 2],
    /// The sequence number of a complete package that the gate refused, newer than the one that runs.
    pub refused: Option<u32>,
}

impl<'a> Selection<'a> {
    /// The artifact to run.
    #[must_use]
    pub fn artifact(&self) -> Option<&'a [u8]> {
        self.run.map(|(_, stored)| stored.artifact)
    }

    /// Slot, sequence and status of the model to run, free of the borrow.
    #[must_use]
    pub fn running(&self) -> Option<Running> {
        self.run.map(|(slot, stored)| Running {
            slot,
            sequence: stored.sequence,
            status: stored.status,
            refused: self.refused,
        })
    }
}

/// Picks the complete, unrejected package with the highest sequence number that passes the gate.
///
/// `a` and `b` are the whole slots, marks included. The older package is judged only when the newer
/// one was refused, so a boot costs one signature check as a rule. Both are read
/// completely (CRC-32), so the cost does not depend on which one runs.
#[must_use]
pub fn select<'a>(a: &'a [u8], b: &'a [u8], gate: &Gate<'_>) -> Selection<'a> {
    let (found_a, found_b) = (read(a).and_then(unrejected), read(b).and_then(unrejected));
    let b_first = match (&found_a, &found_b) {
        (Ok(x), Ok(y)) => y.sequence > x.sequence,
        (Err(_), Ok(_)) => true,
        _ => false,
    };
    let judged = |found: Result<Stored<'a>, SlotFault>| {
        found.and_then(|stored| gate.judge(&stored).map(|()| stored))
    };
    let (first, found_first, found_second) = if b_first {
        (Slot::B, found_b, found_a)
    } else {
        (Slot::A, found_a, found_b)
    };
    let newer = found_first.ok().map(|stored| stored.sequence);
    let (run, fault_first, fault_second) = match judged(found_first) {
        Ok(stored) => (
            Some((first, stored)),
            None,
            Some(found_second.err().unwrap_or(SlotFault::Older)),
        ),
        Err(fault) => match judged(found_second) {
            Ok(stored) => (Some((first.other(), stored)), Some(fault), None),
            Err(second) => (None, Some(fault), Some(second)),
        },
    };
    let faults = match first {
        Slot::A => [fault_first, fault_second],
        Slot::B => [fault_second, fault_first],
    };
    // `first` is run unless it is damaged, or refused.
    let refused = newer.filter(|_| fault_first.is_some());
    Selection {
        run,
        faults,
        refused,
    }
}

pub(crate) fn unrejected(stored: Stored<'_>) -> Result<Stored<'_>, SlotFault> {
    match stored.status {
        Status::Rejected => Err(SlotFault::Rejected),
        Status::Pending | Status::Confirmed => Ok(stored),
    }
}

/// Reads one slot: record, lengths, commit mark and CRC-32 of the package; no signature check.
///
/// # Errors
/// The first reason, in that order, why the slot holds no complete package.
pub fn read(slot: &[u8]) -> Result<Stored<'_>, SlotFault> {
    let (body, marks) = slot
        .len()
        .checked_sub(MARKS)
        .and_then(|at| slot.split_at_checked(at))
        .ok_or(SlotFault::TooShort)?;
    let record: &[u8; UNIT] = body.first_chunk().ok_or(SlotFault::TooShort)?;
    let (record, len) = announced(record, body.len())?;
    let package = body.get(..len).ok_or(SlotFault::Length)?;
    let artifact = package
        .get(UNIT..)
        .and_then(|rest| rest.get(..usize::try_from(record.artifact_len).ok()?))
        .ok_or(SlotFault::Length)?;
    let (commit, marks) = marks
        .split_first_chunk::<UNIT>()
        .ok_or(SlotFault::TooShort)?;
    let (confirm, reject) = marks
        .split_first_chunk::<UNIT>()
        .ok_or(SlotFault::TooShort)?;
    if is_erased(commit) {
        return Err(SlotFault::NotCommitted);
    }
    if *commit != commit_mark(&record, crc32(package)) {
        return Err(SlotFault::Damaged);
    }
    Ok(Stored {
        sequence: record.sequence,
        status: status(confirm, reject),
        package,
        artifact,
    })
}

/// The record at the start of a slot and the length of its package, which is at most `available`.
pub(crate) fn announced(
    record: &[u8; UNIT],
    available: usize,
) -> Result<(Record, usize), SlotFault> {
    if is_erased(record) {
        return Err(SlotFault::Empty);
    }
    let record = Record::from_bytes(record).ok_or(SlotFault::Record)?;
    let len = record.package_len().filter(|&len| len <= available);
    Ok((record, len.ok_or(SlotFault::Length)?))
}

/// What the confirm and the reject mark say.
pub(crate) fn status(confirm: &[u8], reject: &[u8]) -> Status {
    if !is_erased(confirm) {
        Status::Confirmed
    } else if !is_erased(reject) {
        Status::Rejected
    } else {
        Status::Pending
    }
}

/// The sequence number that a commit mark names, if it is whole.
#[cfg(feature = "update")]
pub(crate) fn committed(mark: &[u8; UNIT]) -> Option<u32> {
    let (words, _) = mark.as_chunks::<4>();
    let &[_, sequence, len, crc, ..] = words else {
        return None;
    };
    let [sequence, len, crc] = [sequence, len, crc].map(u32::from_le_bytes);
    (unit(COMMIT_MAGIC, [sequence, len, crc]) == *mark).then_some(sequence)
}

/// Whether all bytes are 0xFF.
pub(crate) fn is_erased(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0xFF)
}

/// The first 32 bytes of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Record {
    /// Higher is newer; an update must be higher than what is stored and not rejected.
    pub sequence: u32,
    /// Bytes of the artifact.
    pub artifact_len: u32,
    /// Bytes after the artifact, for the signature scheme.
    pub signature_len: u32,
}

impl Record {
    /// The bytes to send, and to sign together with the artifact.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; UNIT] {
        unit(
            RECORD_MAGIC,
            [self.sequence, self.artifact_len, self.signature_len],
        )
    }

    /// The record in `bytes`, or `None` unless every one of the 32 bytes is as `to_bytes` writes it.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; UNIT]) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<4>();
        let &[_, sequence, artifact_len, signature_len, ..] = words else {
            return None;
        };
        let record = Self {
            sequence: u32::from_le_bytes(sequence),
            artifact_len: u32::from_le_bytes(artifact_len),
            signature_len: u32::from_le_bytes(signature_len),
        };
        (record.to_bytes() == *bytes).then_some(record)
    }

    /// Bytes of record, artifact and signature; `None` when that does not fit a `usize`.
    #[must_use]
    pub fn package_len(&self) -> Option<usize> {
        let artifact = usize::try_from(self.artifact_len).ok()?;
        let signature = usize::try_from(self.signature_len).ok()?;
        UNIT.checked_add(artifact)?.checked_add(signature)
    }
}

/// The commit mark of a package with this record and this CRC-32.
pub(crate) fn commit_mark(record: &Record, package_crc: u32) -> [u8; UNIT] {
    // A length beyond u32 fits no slot; `read` refuses it before this matters.
    let len = record
        .package_len()
        .and_then(|len| u32::try_from(len).ok())
        .unwrap_or(u32::MAX);
    unit(COMMIT_MAGIC, [record.sequence, len, package_crc])
}

/// Magic, three words, 12 zero bytes, and the CRC-32 of all that.
fn unit(magic: [u8; 4], words: [u32; 3]) -> [u8; UNIT] {
    let mut bytes = [0; UNIT];
    let [a, b, c] = words.map(u32::to_le_bytes);
    let parts = [magic, a, b, c, [0; 4], [0; 4], [0; 4]];
    for (to, from) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(parts) {
        *to = from;
    }
    if let Some((head, tail)) = bytes.split_last_chunk_mut::<4>() {
        *tail = crc32(head).to_le_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn slot_with(sequence: u32, artifact: &[u8], len: usize) -> Vec<u8> {
        let record = Record {
            sequence,
            artifact_len: artifact.len() as u32,
            signature_len: 0,
        };
        let mut slot = vec![0xFF; len];
        slot[..UNIT].copy_from_slice(&record.to_bytes());
        slot[UNIT..UNIT + artifact.len()].copy_from_slice(artifact);
        let mark = commit_mark(&record, crc32(&slot[..UNIT + artifact.len()]));
        slot[len - MARKS..len - 2 * UNIT].copy_from_slice(&mark);
        slot
    }

    const OPEN: Gate<'static> = Gate {
        floor: 0,
        verify: &|_| true,
        accept: &|_| true,
    };

    #[test]
    fn higher_sequence_runs_and_the_reasons_are_named() {
        let (a, b) = (slot_with(7, &[1, 2, 3, 4], 256), slot_with(8, &[5, 6], 512));
        let selection = select(&a, &b, &OPEN);
        assert_eq!(selection.artifact(), Some(&[5, 6][..]));
        assert_eq!(selection.faults, [Some(SlotFault::Older), None]);
        let swapped = select(&b, &a, &OPEN);
        assert_eq!(swapped.artifact(), Some(&[5, 6][..]));
        assert_eq!(
            select(&a, &vec![0xFF; 512], &OPEN).faults,
            [None, Some(SlotFault::Empty)]
        );
        assert_eq!(
            select(&[], &[0xFF; 96], &OPEN).faults,
            [Some(SlotFault::TooShort); 2]
        );
    }

    #[test]
    fn every_single_bit_flip_outside_the_last_two_marks_is_refused() {
        let slot = slot_with(9, &[0x5A; 100], 256);
        let end = UNIT + 100;
        // The interpreter is a thousand times slower.
        let every = if cfg!(miri) { 67 } else { 1 };
        let bits = (0..end * 8).chain((256 - MARKS) * 8..(256 - 2 * UNIT) * 8);
        for bit in bits.step_by(every) {
            let mut hurt = slot.clone();
            hurt[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&hurt).is_err(), "bit {bit}");
        }
        // Padding between package and marks is not part of the package.
        let mut padded = slot.clone();
        padded[end] = 0;
        assert!(read(&padded).is_ok());
    }

    #[test]
    fn lengths_are_checked_before_any_slice() {
        for artifact_len in [65, 256, 1 << 15, (1 << 16) - 1, u32::MAX - 31, u32::MAX] {
            for signature_len in [0, 1, u32::MAX] {
                let mut slot = vec![0xFF; 192];
                let record = Record {
                    sequence: 1,
                    artifact_len,
                    signature_len,
                };
                slot[..UNIT].copy_from_slice(&record.to_bytes());
                slot[96..128].copy_from_slice(&commit_mark(&record, 0));
                assert_eq!(read(&slot), Err(SlotFault::Length));
            }
        }
    }

    #[test]
    fn marks_count_from_their_first_programmed_bit_and_confirmed_wins() {
        let slot = slot_with(1, &[1; 8], 256);
        assert_eq!(read(&slot).map(|s| s.status), Ok(Status::Pending));
        for bit in (0..UNIT * 8).step_by(if cfg!(miri) { 37 } else { 1 }) {
            let mut rejected = slot.clone();
            rejected[224 + bit / 8] &= !(1 << (bit % 8));
            assert_eq!(read(&rejected).map(|s| s.status), Ok(Status::Rejected));
            assert_eq!(
                select(&rejected, &[], &OPEN).faults[0],
                Some(SlotFault::Rejected)
            );
            rejected[192 + bit / 8] &= !(1 << (bit % 8));
            assert_eq!(read(&rejected).map(|s| s.status), Ok(Status::Confirmed));
        }
    }

    #[test]
    fn floor_comes_before_the_signature_and_the_signature_before_the_artifact() {
        use core::cell::Cell;
        let slot = slot_with(4, &[1; 8], 256);
        let (verified, parsed) = (Cell::new(0), Cell::new(0));
        let count = |cell: &Cell<u32>, answer| {
            cell.set(cell.get() + 1);
            answer
        };
        let run = |floor, good| {
            let gate = Gate {
                floor,
                verify: &|package| count(&verified, good && package.len() == UNIT + 8),
                accept: &|artifact| count(&parsed, artifact == [1; 8]),
            };
            select(&slot, &[], &gate).faults[0]
        };
        assert_eq!(
            run(5, true),
            Some(SlotFault::BelowFloor { found: 4, floor: 5 })
        );
        assert_eq!((verified.get(), parsed.get()), (0, 0));
        assert_eq!(run(4, false), Some(SlotFault::Signature));
        assert_eq!((verified.get(), parsed.get()), (1, 0));
        assert_eq!(run(4, true), None);
        assert_eq!((verified.get(), parsed.get()), (2, 1));
    }
}
