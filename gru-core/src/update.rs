//! Power-fail-safe model update on any `embedded-storage` NOR flash: old or new, never neither.
//!
//! ```text
//! begin   erase the slot that is not running, page by page from its first byte; its last page,
//!         which holds the marks, goes last, so that a rejected package never loses its reject mark
//!         before its record
//! write   the package as it arrives, any chunk length, through a 32-byte buffer
//! finish  read everything back and compare the CRC-32 of the flash with that of the stream
//! check   signature over the whole package, then the artifact, on the mapped slot
//! commit  write the commit mark: from here on `select` answers the new model
//! confirm / reject    after a trial; until one of them, an update that would erase the older model is refused
//! ```
//!
//! What the caller says is running is compared with the flash, so a value from before the last update
//! ([`UpdateError::Stale`]) erases nothing. A cut anywhere leaves the running slot untouched, because nothing ever
//! writes there but its own confirm and reject marks. After a cut before the commit mark was complete the old model runs and the update
//! starts again from `begin`. The format of a slot is in [`crate::slot`].
//!
//! What this does not promise: bytes that read well once and badly later (a word cut while being
//! programmed may be weak; writing starts from a fresh erase for that reason, but a weak *mark*
//! cannot be told from a good one), flash with error correction that traps when a half-written word is read
//! (the driver has to turn the trap into bytes), and an attacker who writes the flash directly.

use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};

use crate::artifact::{Crc32, crc32};
use crate::slot::{
    self, Gate, MARKS, Record, Running, Slot, SlotFault, Status, Stored, UNIT, commit_mark,
};

/// Why an update did not go on. `E` is the flash driver's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum UpdateError<E> {
    /// The driver reported an error; the running model is untouched.
    Flash(E),
    /// Slots overlap, are not whole pages, have fewer than two pages or lie outside the flash.
    Layout,
    /// The record's magic, zero bytes or CRC-32 are wrong.
    Record,
    /// The package is longer than a slot without its marks.
    TooLong {
        /// Bytes of the package, `u32::MAX` when even that overflows.
        needed: u32,
        /// Bytes that fit.
        available: u32,
    },
    /// The package is not newer than what is stored, or below the floor.
    Rollback {
        /// The package's sequence number.
        found: u32,
        /// The smallest one that would be accepted; `None` when the numbers are used up.
        required: Option<u32>,
    },
    /// The running model is still on trial: confirm or reject it first, or its fallback is lost.
    Unconfirmed,
    /// The flash holds another model than the caller says, or a newer one that the caller does not know of: pass what
    /// `commit` or `confirm` returned last, or select again.
    Stale,
    /// The other slot no longer holds the model that was checked as a fallback: it stays with the one on trial.
    NoFallback,
    /// More bytes than the record announced.
    Excess,
    /// The stream ended early.
    Incomplete {
        /// Bytes received, record included.
        received: u32,
        /// Bytes announced, record included.
        expected: u32,
    },
    /// The flash does not read back what was written.
    ReadBack,
    /// The package was refused before it was committed, or the slot holds no complete package to mark.
    Refused(SlotFault),
    /// The model was confirmed and cannot be rejected any more.
    Confirmed,
}

impl<E: core::fmt::Debug> core::fmt::Display for UpdateError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Flash(error) => write!(f, "flash driver: {error:?}"),
            Self::Layout => write!(f, "slots do not fit the flash and its pages"),
            Self::Record => write!(f, "package record is damaged"),
            Self::TooLong { needed, available } => {
                write!(f, "package of {needed} bytes, {available} fit")
            }
            Self::Rollback { found, required } => {
                write!(f, "sequence {found} is not newer, required {required:?}")
            }
            Self::Unconfirmed => write!(f, "running model is not confirmed"),
            Self::Stale => write!(f, "flash holds another model than the caller says"),
            Self::NoFallback => write!(f, "no other model to go back to"),
            Self::Excess => write!(f, "more bytes than announced"),
            Self::Incomplete { received, expected } => {
                write!(f, "{received} of {expected} bytes received")
            }
            Self::ReadBack => write!(f, "flash does not read back what was written"),
            Self::Refused(fault) => write!(f, "{fault}"),
            Self::Confirmed => write!(f, "model is already confirmed"),
        }
    }
}

impl<E: core::fmt::Debug> core::error::Error for UpdateError<E> {}

/// Where the two slots are in the flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Slots {
    a: u32,
    b: u32,
    len: u32,
}

impl Slots {
    /// Two slots of `len` bytes each, at the offsets `a` and `b` of the flash.
    ///
    /// # Errors
    /// [`UpdateError::Layout`] unless both are whole erase pages, at least two each, inside the flash
    /// and apart. A flash whose words do not divide 32 bytes, or whose pages are shorter than the
    /// marks, does not compile.
    pub fn new<F: NorFlash>(
        flash: &F,
        a: u32,
        b: u32,
        len: u32,
    ) -> Result<Self, UpdateError<F::Error>> {
        const {
            assert!(UNIT.is_multiple_of(F::WRITE_SIZE) && UNIT.is_multiple_of(F::READ_SIZE));
            assert!(F::ERASE_SIZE >= MARKS && F::ERASE_SIZE.is_multiple_of(UNIT));
        }
        let page = u32::try_from(F::ERASE_SIZE).map_err(|_| UpdateError::Layout)?;
        let whole = |x: u32| x.is_multiple_of(page);
        let inside = |start: u32| {
            start
                .checked_add(len)
                .and_then(|end| usize::try_from(end).ok())
                .is_some_and(|end| end <= flash.capacity())
        };
        let two_pages = len / page >= 2;
        if whole(a)
            && whole(b)
            && whole(len)
            && two_pages
            && inside(a)
            && inside(b)
            && a.abs_diff(b) >= len
        {
            Ok(Self { a, b, len })
        } else {
            Err(UpdateError::Layout)
        }
    }

    /// Offset of a slot in the flash; `slot_len` bytes from there are the slice for `select`.
    #[must_use]
    pub fn start(&self, slot: Slot) -> u32 {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }

    /// Bytes of a slot, marks included.
    #[must_use]
    pub fn slot_len(&self) -> u32 {
        self.len
    }

    /// Bytes of the longest package that fits.
    #[must_use]
    pub fn package_capacity(&self) -> u32 {
        self.len.saturating_sub(MARKS as u32)
    }

    /// Offset in the flash of mark `index` (0 commit, 1 confirm, 2 reject).
    fn mark(&self, slot: Slot, index: u32) -> u32 {
        // `new` proved that the slot's end fits; wrapping only keeps the overflow check out.
        self.start(slot)
            .wrapping_add(self.package_capacity())
            .wrapping_add(index.wrapping_mul(UNIT as u32))
    }
}

/// An update being received.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Update {
    slots: Slots,
    target: Slot,
    record: Record,
    expected: u32,
    received: u32,
    /// Bytes already handed to the driver.
    flushed: u32,
    crc: Crc32,
    buffer: [u8; UNIT],
}

impl Update {
    /// Checks the package's record, then erases the slot that is not running and writes the record.
    ///
    /// `running` is [`slot::Selection::running`] of this boot, or what [`Checked::commit`] or [`confirm`] returned since;
    /// `None` when no model runs. `floor` is the same as in the gate. Both slots are read completely first (CRC-32).
    ///
    /// A package must have a higher sequence number than every package that is stored and not rejected. One that was
    /// committed and is damaged since may come again with the same number. Without a running model the slot that is
    /// erased is the one without the newest complete package.
    ///
    /// # Errors
    /// Before anything is erased: [`UpdateError::Record`], [`UpdateError::TooLong`], [`UpdateError::Stale`],
    /// [`UpdateError::Rollback`], [`UpdateError::Unconfirmed`]; [`UpdateError::Flash`] at any time.
    pub fn begin<F: NorFlash>(
        flash: &mut F,
        slots: Slots,
        running: Option<Running>,
        floor: u32,
        record: &[u8; UNIT],
    ) -> Result<Self, UpdateError<F::Error>> {
        let parsed = Record::from_bytes(record).ok_or(UpdateError::Record)?;
        let available = slots.package_capacity();
        let needed = parsed
            .package_len()
            .and_then(|len| u32::try_from(len).ok())
            .unwrap_or(u32::MAX);
        if needed > available {
            return Err(UpdateError::TooLong { needed, available });
        }
        let target = Self::choose(flash, slots, running, floor, parsed.sequence)?;
        let start = slots.start(target);
        let mut page = start;
        let end = start.wrapping_add(slots.len);
        while page < end {
            let next = page.wrapping_add(F::ERASE_SIZE as u32);
            flash.erase(page, next).map_err(UpdateError::Flash)?;
            page = next;
        }
        let mut update = Self {
            slots,
            target,
            record: parsed,
            expected: needed,
            received: 0,
            flushed: 0,
            crc: Crc32::default(),
            buffer: [0xFF; UNIT],
        };
        update.write(flash, record)?;
        Ok(update)
    }

    /// The slot that a package with this sequence number may overwrite, by what the flash holds now.
    fn choose<F: NorFlash>(
        flash: &mut F,
        slots: Slots,
        running: Option<Running>,
        floor: u32,
        sequence: u32,
    ) -> Result<Slot, UpdateError<F::Error>> {
        let [a, b] = [
            Found::read(flash, slots, Slot::A)?,
            Found::read(flash, slots, Slot::B)?,
        ];
        let target = match running {
            Some(running) => running.slot.other(),
            // The newest complete one stays, should the caller be wrong.
            None if a.usable() >= b.usable() && a.usable().is_some() => Slot::B,
            None => Slot::A,
        };
        let (kept, erased) = match target {
            Slot::A => (b, a),
            Slot::B => (a, b),
        };
        if let Some(running) = running {
            // Without the running model the other one is all there is.
            let same = kept.usable() == Some(running.sequence);
            let newer = erased.usable().filter(|&other| other > running.sequence);
            if !same || newer.is_some_and(|other| running.refused != Some(other)) {
                return Err(UpdateError::Stale);
            }
        }
        let both = kept.next().zip(erased.next());
        let required = both.map(|(x, y)| x.max(y).max(floor));
        if required.is_none_or(|required| sequence < required) {
            return Err(UpdateError::Rollback {
                found: sequence,
                required,
            });
        }
        let trial = running.is_some() && kept.status() == Some(Status::Pending);
        if trial && erased.usable().is_some() {
            return Err(UpdateError::Unconfirmed);
        }
        Ok(target)
    }

    /// The slot being written.
    #[must_use]
    pub fn target(&self) -> Slot {
        self.target
    }

    /// Bytes still to come.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.expected.saturating_sub(self.received)
    }

    /// Takes the next bytes of artifact and signature, in chunks of any length.
    ///
    /// After an error the update is lost: start again from [`Update::begin`].
    ///
    /// # Errors
    /// [`UpdateError::Excess`] before anything of the chunk is written; [`UpdateError::Flash`].
    pub fn write<F: NorFlash>(
        &mut self,
        flash: &mut F,
        chunk: &[u8],
    ) -> Result<(), UpdateError<F::Error>> {
        if chunk.len() > usize::try_from(self.remaining()).unwrap_or(usize::MAX) {
            return Err(UpdateError::Excess);
        }
        self.crc.update(chunk);
        for &byte in chunk {
            let at = (self.received as usize) % UNIT;
            if let Some(place) = self.buffer.get_mut(at) {
                *place = byte;
            }
            self.received = self.received.wrapping_add(1);
            if at == UNIT - 1 {
                self.flush(flash)?;
            }
        }
        Ok(())
    }

    /// Writes the 32-byte buffer, unused bytes 0xFF, and empties it.
    fn flush<F: NorFlash>(&mut self, flash: &mut F) -> Result<(), UpdateError<F::Error>> {
        let offset = self.slots.start(self.target).wrapping_add(self.flushed);
        flash
            .write(offset, &self.buffer)
            .map_err(UpdateError::Flash)?;
        self.flushed = self.flushed.wrapping_add(UNIT as u32);
        self.buffer = [0xFF; UNIT];
        Ok(())
    }

    /// Writes what is left in the buffer and reads the whole package back.
    ///
    /// # Errors
    /// [`UpdateError::Incomplete`], [`UpdateError::ReadBack`], [`UpdateError::Flash`].
    pub fn finish<F: NorFlash>(mut self, flash: &mut F) -> Result<Staged, UpdateError<F::Error>> {
        if self.remaining() != 0 {
            return Err(UpdateError::Incomplete {
                received: self.received,
                expected: self.expected,
            });
        }
        if self.flushed < self.received {
            self.flush(flash)?;
        }
        let start = self.slots.start(self.target);
        let crc = flash_crc(flash, start, self.expected)?;
        if crc != self.crc.finish() {
            return Err(UpdateError::ReadBack);
        }
        Ok(Staged {
            slots: self.slots,
            target: self.target,
            record: self.record,
            crc,
        })
    }
}

/// A package that is in flash as it was sent, not yet checked.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Staged {
    slots: Slots,
    target: Slot,
    record: Record,
    crc: u32,
}

impl Staged {
    /// The slot it is in.
    #[must_use]
    pub fn target(&self) -> Slot {
        self.target
    }

    /// Judges the package by the gate; `slot` is the target slot as the core reads it.
    ///
    /// # Errors
    /// [`SlotFault::Damaged`] when `slot` is not what was written, then those of [`Gate::judge`].
    pub fn check(self, slot: &[u8], gate: &Gate<'_>) -> Result<Checked, SlotFault> {
        let package = self
            .record
            .package_len()
            .and_then(|len| slot.get(..len))
            .ok_or(SlotFault::Length)?;
        if crc32(package) != self.crc {
            return Err(SlotFault::Damaged);
        }
        let artifact = package
            .get(UNIT..)
            .and_then(|rest| rest.get(..usize::try_from(self.record.artifact_len).ok()?))
            .ok_or(SlotFault::Length)?;
        gate.judge(&Stored {
            sequence: self.record.sequence,
            status: Status::Pending,
            package,
            artifact,
        })?;
        Ok(Checked(self))
    }
}

/// A package that passed the gate: the only thing that can be committed.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Checked(Staged);

impl Checked {
    /// Writes the commit mark: the next `select` answers this package, on trial.
    ///
    /// # Errors
    /// [`UpdateError::Flash`]; the mark may then be complete or not, as after a power cut.
    pub fn commit<F: NorFlash>(self, flash: &mut F) -> Result<Running, UpdateError<F::Error>> {
        let Self(staged) = self;
        flash
            .write(
                staged.slots.mark(staged.target, 0),
                &commit_mark(&staged.record, staged.crc),
            )
            .map_err(UpdateError::Flash)?;
        Ok(Running {
            slot: staged.target,
            sequence: staged.record.sequence,
            status: Status::Pending,
            refused: None,
        })
    }
}

/// What a slot holds, read through the driver.
struct Found {
    /// Sequence and status of a complete package.
    stored: Result<(u32, Status), SlotFault>,
    /// The sequence that the commit mark names, also of a package that is damaged since; not of a rejected one.
    committed: Option<u32>,
}

impl Found {
    fn read<F: ReadNorFlash>(
        flash: &mut F,
        slots: Slots,
        slot: Slot,
    ) -> Result<Self, UpdateError<F::Error>> {
        let start = slots.start(slot);
        let record = read_unit(flash, start)?;
        let [commit, confirm, reject] = [
            read_unit(flash, slots.mark(slot, 0))?,
            read_unit(flash, slots.mark(slot, 1))?,
            read_unit(flash, slots.mark(slot, 2))?,
        ];
        let status = slot::status(&confirm, &reject);
        let committed = slot::committed(&commit).filter(|_| status != Status::Rejected);
        let stored = match slot::announced(&record, slots.package_capacity() as usize) {
            Err(fault) => Err(fault),
            Ok(_) if slot::is_erased(&commit) => Err(SlotFault::NotCommitted),
            Ok((record, len)) => {
                let crc = flash_crc(flash, start, u32::try_from(len).unwrap_or(u32::MAX))?;
                if commit == commit_mark(&record, crc) {
                    Ok((record.sequence, status))
                } else {
                    Err(SlotFault::Damaged)
                }
            }
        };
        Ok(Self { stored, committed })
    }

    /// The sequence of a complete package that is not rejected.
    fn usable(&self) -> Option<u32> {
        self.stored
            .ok()
            .filter(|(_, status)| *status != Status::Rejected)
            .map(|(sequence, _)| sequence)
    }

    fn status(&self) -> Option<Status> {
        self.stored.ok().map(|(_, status)| status)
    }

    /// The smallest sequence that is no step back from this slot; `None` when the numbers are used up.
    fn next(&self) -> Option<u32> {
        match self.usable() {
            Some(sequence) => sequence.checked_add(1),
            None => Some(self.committed.unwrap_or(0)),
        }
    }

    /// The status of the package with this sequence.
    fn status_of<E>(&self, sequence: u32) -> Result<Status, UpdateError<E>> {
        let (found, status) = self.stored.map_err(UpdateError::Refused)?;
        if found == sequence {
            Ok(status)
        } else {
            Err(UpdateError::Stale)
        }
    }
}

/// CRC-32 of `len` bytes of the flash, which end within a whole number of units.
fn flash_crc<F: ReadNorFlash>(
    flash: &mut F,
    start: u32,
    len: u32,
) -> Result<u32, UpdateError<F::Error>> {
    let mut crc = Crc32::default();
    let mut done = 0_u32;
    while done < len {
        let piece = read_unit(flash, start.wrapping_add(done))?;
        let left = usize::try_from(len.saturating_sub(done)).unwrap_or(UNIT);
        crc.update(piece.get(..left).unwrap_or(&piece));
        done = done.saturating_add(UNIT as u32);
    }
    Ok(crc.finish())
}

/// Confirms the running model: it stays, and the next update may overwrite the older one.
///
/// Does nothing when it is confirmed already, also by a write that was cut.
///
/// # Errors
/// [`UpdateError::Refused`] when its slot holds no complete package or a rejected one, [`UpdateError::Stale`] when it
/// holds another one, [`UpdateError::Flash`].
pub fn confirm<F: NorFlash>(
    flash: &mut F,
    slots: Slots,
    running: Running,
) -> Result<Running, UpdateError<F::Error>> {
    let found = Found::read(flash, slots, running.slot)?;
    // Confirmed wins over rejected: a mark here would revive it.
    if found.status_of(running.sequence)? == Status::Rejected {
        return Err(UpdateError::Refused(SlotFault::Rejected));
    }
    program_once(flash, slots.mark(running.slot, 1))?;
    Ok(Running {
        status: Status::Confirmed,
        ..running
    })
}

/// A model that passed the gate and can run in place of the one on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Fallback {
    sequence: u32,
}

impl Fallback {
    /// Judges the slot that is not running, as the core reads it.
    ///
    /// # Errors
    /// Why `select` would not run it: those of [`slot::read`] and [`Gate::judge`], [`SlotFault::Rejected`].
    pub fn check(slot: &[u8], gate: &Gate<'_>) -> Result<Self, SlotFault> {
        let stored = slot::read(slot).and_then(slot::unrejected)?;
        gate.judge(&stored)?;
        Ok(Self {
            sequence: stored.sequence,
        })
    }
}

/// Rejects the running model on trial: the next `select` answers `fallback`, the model in the other slot.
///
/// Where there is none (a first installation, or an older model that has rotted) a model cannot be rejected: it runs
/// until a newer one is installed over the useless slot, for which [`Update::begin`] does not ask for a verdict; a
/// fallback that is complete but fails the gate has to be given up with [`confirm`] first.
///
/// A rejection is about the bytes in that slot. The device does not remember it: the same package, or a mended one
/// with its number, is accepted when it is sent again.
///
/// # Errors
/// [`UpdateError::Confirmed`] when it is confirmed, [`UpdateError::NoFallback`] when the other slot does not hold
/// `fallback`, [`UpdateError::Refused`] and [`UpdateError::Stale`] as in [`confirm`], [`UpdateError::Flash`].
pub fn reject<F: NorFlash>(
    flash: &mut F,
    slots: Slots,
    running: Running,
    fallback: Fallback,
) -> Result<(), UpdateError<F::Error>> {
    let found = Found::read(flash, slots, running.slot)?;
    if found.status_of(running.sequence)? == Status::Confirmed {
        return Err(UpdateError::Confirmed);
    }
    let other = Found::read(flash, slots, running.slot.other())?;
    if other.usable() != Some(fallback.sequence) {
        return Err(UpdateError::NoFallback);
    }
    program_once(flash, slots.mark(running.slot, 2))
}

/// Writes zeros to a mark unless something has been programmed there.
fn program_once<F: NorFlash>(flash: &mut F, offset: u32) -> Result<(), UpdateError<F::Error>> {
    if slot::is_erased(&read_unit(flash, offset)?) {
        flash
            .write(offset, &[0; UNIT])
            .map_err(UpdateError::Flash)?;
    }
    Ok(())
}

fn read_unit<F: ReadNorFlash>(
    flash: &mut F,
    offset: u32,
) -> Result<[u8; UNIT], UpdateError<F::Error>> {
    let mut bytes = [0; UNIT];
    flash.read(offset, &mut bytes).map_err(UpdateError::Flash)?;
    Ok(bytes)
}
