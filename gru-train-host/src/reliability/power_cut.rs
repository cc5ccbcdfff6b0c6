//! Row 18 and 19: power cuts at every byte of an update, and again during recovery; rollback.
//!
//! The sweep drives a [`Scheme`]: the product's own, or one with a planted fault, which the sweep must find.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use gru_core::artifact::crc32;
use gru_core::random::SplitMix;
use gru_core::slot::{Gate, MARKS, Record, Running, Slot, SlotFault, Status, UNIT, select};
use gru_core::update::{Fallback, Slots, Update, UpdateError, confirm, reject};

use super::flash::{FlashFault, MockFlash};

/// Words of 4 bytes as on nRF52 and ESP32, pages as small as the marks allow.
pub type SmallFlash = MockFlash<4, 128>;

/// How models are stored and chosen; a planted fault is another implementation.
pub trait Scheme<const WORD: usize, const PAGE: usize> {
    /// The model that runs after a reset.
    fn boot<'a>(
        &self,
        flash: &'a MockFlash<WORD, PAGE>,
        slots: Slots,
    ) -> Option<(Running, &'a [u8])>;

    /// Receives and commits `package`.
    ///
    /// # Errors
    /// Those of the flash and of the update.
    fn update(
        &self,
        flash: &mut MockFlash<WORD, PAGE>,
        slots: Slots,
        running: Option<Running>,
        package: &[u8],
    ) -> Result<(), UpdateError<FlashFault>>;

    /// Confirms the running model.
    ///
    /// # Errors
    /// Those of the flash.
    fn confirm(
        &self,
        flash: &mut MockFlash<WORD, PAGE>,
        slots: Slots,
        running: Running,
    ) -> Result<(), UpdateError<FlashFault>> {
        confirm(flash, slots, running).map(|_| ())
    }
}

/// The gate of the sweeps: any package.
pub const OPEN: Gate<'static> = Gate {
    floor: 0,
    verify: &|_| true,
    accept: &|_| true,
};

/// The memory of the two slots.
#[must_use]
pub fn mapped<const WORD: usize, const PAGE: usize>(
    flash: &MockFlash<WORD, PAGE>,
    slots: Slots,
) -> [&[u8]; 2] {
    [Slot::A, Slot::B].map(|slot| {
        let start = slots.start(slot) as usize;
        &flash.bytes()[start..start + slots.slot_len() as usize]
    })
}

/// The product: `gru_core::slot` and `gru_core::update` as they are.
#[derive(Debug, Clone, Copy)]
pub struct Product;

impl<const WORD: usize, const PAGE: usize> Scheme<WORD, PAGE> for Product {
    fn boot<'a>(
        &self,
        flash: &'a MockFlash<WORD, PAGE>,
        slots: Slots,
    ) -> Option<(Running, &'a [u8])> {
        let [a, b] = mapped(flash, slots);
        let selection = select(a, b, &OPEN);
        Some((selection.running()?, selection.artifact()?))
    }

    fn update(
        &self,
        flash: &mut MockFlash<WORD, PAGE>,
        slots: Slots,
        running: Option<Running>,
        package: &[u8],
    ) -> Result<(), UpdateError<FlashFault>> {
        install(flash, slots, running, package, &OPEN, 24).map(|_| ())
    }
}

/// The whole update of the product, the package arriving in chunks of `chunk` bytes.
///
/// # Errors
/// Those of every step.
pub fn install<const WORD: usize, const PAGE: usize>(
    flash: &mut MockFlash<WORD, PAGE>,
    slots: Slots,
    running: Option<Running>,
    package: &[u8],
    gate: &Gate<'_>,
    chunk: usize,
) -> Result<Running, UpdateError<FlashFault>> {
    let (record, rest) = package
        .split_first_chunk::<UNIT>()
        .ok_or(UpdateError::Record)?;
    let mut update = Update::begin(flash, slots, running, gate.floor, record)?;
    for piece in rest.chunks(chunk) {
        update.write(flash, piece)?;
    }
    let staged = update.finish(flash)?;
    let [a, b] = mapped(flash, slots);
    let target = match staged.target() {
        Slot::A => a,
        Slot::B => b,
    };
    staged
        .check(target, gate)
        .map_err(UpdateError::Refused)?
        .commit(flash)
}

/// Record, artifact and signature: what a host sends.
#[must_use]
pub fn package(sequence: u32, artifact: &[u8], signature: &[u8]) -> Vec<u8> {
    let record = Record {
        sequence,
        artifact_len: artifact.len() as u32,
        signature_len: signature.len() as u32,
    };
    [&record.to_bytes(), artifact, signature].concat()
}

/// A whole slot as a factory would program it; written from the format's description alone, so that it
/// checks `gru_core::slot` from outside.
#[must_use]
pub fn slot_image(package: &[u8], slot_len: usize, status: Status) -> Vec<u8> {
    let mut image = vec![0xFF; slot_len];
    image[..package.len()].copy_from_slice(package);
    let mark = slot_len - MARKS;
    image[mark..mark + UNIT].copy_from_slice(&commit_mark(package));
    match status {
        Status::Pending => {}
        Status::Confirmed => image[slot_len - 64..slot_len - 32].fill(0),
        Status::Rejected => image[slot_len - 32..].fill(0),
    }
    image
}

fn commit_mark(package: &[u8]) -> [u8; UNIT] {
    let mut mark = [0; UNIT];
    mark[..4].copy_from_slice(b"GRUC");
    mark[4..8].copy_from_slice(&package[4..8]);
    mark[8..12].copy_from_slice(&(package.len() as u32).to_le_bytes());
    mark[12..16].copy_from_slice(&crc32(package).to_le_bytes());
    let crc = crc32(&mark[..28]);
    mark[28..].copy_from_slice(&crc.to_le_bytes());
    mark
}

/// What the other slot holds before the update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Erased,
    /// An older, confirmed model.
    Older,
    /// A newer model that was rejected and must never run again.
    Rejected,
    /// Bytes of no meaning.
    Garbage,
}

impl Before {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Erased, Self::Older, Self::Rejected, Self::Garbage];
}

/// Figures of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Bytes written or erased at which the power was cut.
    pub points: u64,
    /// States after a cut that were booted.
    pub states: u64,
    /// States in which neither model, or a forbidden one, would run.
    pub violations: u64,
    /// The first violation.
    pub first: Option<String>,
}

impl Sweep {
    fn violation(&mut self, text: impl FnOnce() -> String) {
        self.violations += 1;
        if self.first.is_none() {
            self.first = Some(text());
        }
    }

    /// Adds the figures of another sweep.
    pub fn add(&mut self, other: Self) {
        self.points += other.points;
        self.states += other.states;
        self.violations += other.violations;
        self.first = self.first.take().or(other.first);
    }
}

/// The stage: slots, the two packages, and a flash in which the old one runs.
pub struct Stage<const WORD: usize, const PAGE: usize> {
    slots: Slots,
    old: Vec<u8>,
    new: Vec<u8>,
    flash: MockFlash<WORD, PAGE>,
}

impl<const WORD: usize, const PAGE: usize> Stage<WORD, PAGE> {
    /// Slots as short as the packages allow; artifacts of `artifact_len` random bytes.
    ///
    /// # Panics
    /// When the slots do not fit the flash, which would be a fault of this function.
    #[must_use]
    pub fn new(artifact_len: usize, before: Before, seed: u64) -> Self {
        let mut random = SplitMix(seed);
        let mut artifact = || {
            let mut bytes = vec![0; artifact_len];
            random.fill(&mut bytes);
            bytes
        };
        let old = package(10, &artifact(), &[]);
        let new = package(12, &artifact(), &[7; 13]);
        let pages = (new.len() + MARKS).div_ceil(PAGE).max(2);
        let len = pages * PAGE;
        let mut flash = MockFlash::new(2 * pages);
        let slots = Slots::new(&flash, 0, len as u32, len as u32).expect("whole pages");
        flash.provision(0, &slot_image(&old, len, Status::Confirmed));
        match before {
            Before::Erased => {}
            Before::Older => flash.provision(
                len,
                &slot_image(&package(9, &artifact(), &[]), len, Status::Confirmed),
            ),
            Before::Rejected => flash.provision(
                len,
                &slot_image(&package(11, &artifact(), &[]), len, Status::Rejected),
            ),
            Before::Garbage => {
                let mut bytes = vec![0; len];
                random.fill(&mut bytes);
                flash.provision(len, &bytes);
            }
        }
        Self {
            slots,
            old,
            new,
            flash,
        }
    }

    fn artifact(package: &[u8]) -> &[u8] {
        let len = u32::from_le_bytes([package[8], package[9], package[10], package[11]]);
        &package[UNIT..UNIT + len as usize]
    }

    /// 0 when the old model would run, 1 the new one, 2 the new one confirmed; `None` is a violation.
    fn progress(
        &self,
        scheme: &dyn Scheme<WORD, PAGE>,
        flash: &MockFlash<WORD, PAGE>,
    ) -> Option<u8> {
        let (running, artifact) = scheme.boot(flash, self.slots)?;
        if artifact == Self::artifact(&self.old) {
            Some(0)
        } else if artifact == Self::artifact(&self.new) {
            Some(1 + u8::from(running.status == Status::Confirmed))
        } else {
            None
        }
    }

    /// What a device does after each reset until the new model is confirmed.
    fn go_on(
        &self,
        scheme: &dyn Scheme<WORD, PAGE>,
        flash: &mut MockFlash<WORD, PAGE>,
    ) -> Result<(), UpdateError<FlashFault>> {
        let running = scheme.boot(flash, self.slots).map(|(running, _)| running);
        let new_sequence = u32::from_le_bytes([self.new[4], self.new[5], self.new[6], self.new[7]]);
        if running.is_none_or(|running| running.sequence < new_sequence) {
            scheme.update(flash, self.slots, running, &self.new)?;
        }
        match scheme.boot(flash, self.slots) {
            Some((running, _)) => scheme.confirm(flash, self.slots, running),
            None => Ok(()),
        }
    }

    /// Cuts the update and its confirmation at every byte, boots, lets the device finish, and (with
    /// `twice`) cuts that recovery at every byte as well.
    #[must_use]
    pub fn sweep(&self, scheme: &dyn Scheme<WORD, PAGE>, twice: bool) -> Sweep {
        let mut sweep = Sweep::default();
        let mut seen = HashSet::new();
        self.sweep_from(
            scheme,
            &self.flash,
            0,
            u32::from(twice),
            &mut seen,
            &mut sweep,
        );
        sweep
    }

    fn sweep_from(
        &self,
        scheme: &dyn Scheme<WORD, PAGE>,
        from: &MockFlash<WORD, PAGE>,
        reached: u8,
        again: u32,
        seen: &mut HashSet<u64>,
        sweep: &mut Sweep,
    ) {
        let mut whole = from.clone();
        whole.power_up();
        if let Err(error) = self.go_on(scheme, &mut whole) {
            sweep.violation(|| format!("uncut run: {error:?}"));
        }
        if self.progress(scheme, &whole) != Some(2) {
            sweep.violation(|| "uncut run does not end with the new model confirmed".into());
        }
        // How far the run has come can only grow with the tick, whatever the torn word holds.
        let mut certain = reached;
        let mut next = Vec::new();
        from.each_cut(whole.journal(), |tick, torn, flash| {
            sweep.points = sweep.points.max(tick);
            sweep.states += 1;
            match self.progress(scheme, flash) {
                None => sweep.violation(|| format!("tick {tick} {torn:?}: neither model runs")),
                Some(now) if now < certain => {
                    sweep.violation(|| {
                        format!("tick {tick} {torn:?}: back from {certain} to {now}")
                    });
                }
                Some(now) => {
                    if torn == super::flash::Torn::Old {
                        certain = now;
                    }
                    let mut hasher = DefaultHasher::new();
                    flash.bytes().hash(&mut hasher);
                    if seen.insert(hasher.finish()) {
                        next.push((now, flash.clone()));
                    }
                }
            }
        });
        for (now, state) in next {
            if again > 0 {
                let mut inner = Sweep::default();
                self.sweep_from(scheme, &state, now, again - 1, seen, &mut inner);
                sweep.add(inner);
            } else {
                let mut device = state;
                device.power_up();
                let end = self.go_on(scheme, &mut device);
                if end.is_err() || self.progress(scheme, &device) != Some(2) {
                    sweep.violation(|| format!("recovery ends in {end:?}"));
                }
            }
        }
    }

    /// Cuts real runs, which see the driver's error, and compares the memory with the enumerated one.
    #[must_use]
    pub fn replay(&self, scheme: &dyn Scheme<WORD, PAGE>, stride: usize) -> Sweep {
        let mut sweep = Sweep::default();
        let mut whole = self.flash.clone();
        whole.power_up();
        if let Err(error) = self.go_on(scheme, &mut whole) {
            sweep.violation(|| format!("uncut run: {error:?}"));
        }
        let mut count = 0;
        self.flash
            .each_cut(whole.journal(), |tick, torn, expected| {
                count += 1;
                if count % stride != 0 {
                    return;
                }
                sweep.states += 1;
                sweep.points = sweep.points.max(tick);
                let mut flash = self.flash.clone();
                flash.power_up();
                flash.cut_after(tick, torn, tick);
                let end = self.go_on(scheme, &mut flash);
                if flash.bytes() != expected.bytes() {
                    sweep.violation(|| format!("tick {tick} {torn:?}: {end:?}, memory differs"));
                }
            });
        sweep
    }
}

/// Cuts the rejection of a pending model at every byte: pending or rejected, then never that model again.
#[must_use]
pub fn sweep_reject(artifact_len: usize) -> Sweep {
    let stage = Stage::<4, 128>::new(artifact_len, Before::Erased, 3);
    let mut sweep = Sweep::default();
    let mut pending = stage.flash.clone();
    let running = Product
        .boot(&pending, stage.slots)
        .map(|(running, _)| running);
    if let Err(error) = Product.update(&mut pending, stage.slots, running, &stage.new) {
        sweep.violation(|| format!("{error:?}"));
    }
    let mut done = pending.clone();
    done.power_up();
    let trial = Product.boot(&done, stage.slots).map(|(running, _)| running);
    // The old model is in slot A.
    let fallback = Fallback::check(mapped(&done, stage.slots)[0], &OPEN);
    let rejected = |flash: &mut MockFlash<4, 128>| match (trial, fallback) {
        (Some(trial), Ok(fallback)) => reject(flash, stage.slots, trial, fallback),
        (_, fallback) => Err(UpdateError::Refused(
            fallback.err().unwrap_or(SlotFault::Empty),
        )),
    };
    if let Err(error) = rejected(&mut done) {
        sweep.violation(|| format!("{error:?}"));
    }
    if stage.progress(&Product, &done) != Some(0) {
        sweep.violation(|| "rejected model still runs".into());
    }
    pending.each_cut(done.journal(), |tick, torn, flash| {
        sweep.points = sweep.points.max(tick);
        sweep.states += 1;
        match stage.progress(&Product, flash) {
            Some(0) => {}
            Some(1) => {
                let mut retry = flash.clone();
                retry.power_up();
                let end = rejected(&mut retry);
                if end != Ok(()) || stage.progress(&Product, &retry) != Some(0) {
                    sweep.violation(|| {
                        format!("tick {tick} {torn:?}: cannot reject again: {end:?}")
                    });
                }
            }
            other => sweep.violation(|| format!("tick {tick} {torn:?}: {other:?}")),
        }
    });
    sweep
}

/// All 27 sequences of three updates out of three numbers, each also by a caller who still passes what ran at first, or
/// nothing; returns them and how many ended wrong.
#[must_use]
pub fn orders_of_three() -> (u64, u64) {
    let (mut orders, mut wrong) = (0, 0);
    for order in 0..27_u32 {
        let mut stage = Stage::<4, 128>::new(16, Before::Erased, 1);
        let mut highest = 10;
        let boot = Product.boot(&stage.flash, stage.slots).map(|(r, _)| r);
        for sequence in [order / 9, order / 3 % 3, order % 3].map(|n| 11 + n) {
            let update = package(sequence, &[sequence as u8; 20], &[]);
            let running = Product.boot(&stage.flash, stage.slots).map(|(r, _)| r);
            let end = install(&mut stage.flash, stage.slots, running, &update, &OPEN, 7)
                .and_then(|trial| confirm(&mut stage.flash, stage.slots, trial));
            wrong += u64::from(end.is_ok() != (sequence > highest));
            highest = highest.max(sequence);
            for stale in [boot, None] {
                let before = stage.flash.bytes().to_vec();
                let again = install(&mut stage.flash, stage.slots, stale, &update, &OPEN, 7);
                wrong += u64::from(again.is_ok() || before != stage.flash.bytes());
            }
            let runs = Product
                .boot(&stage.flash, stage.slots)
                .map(|(r, _)| r.sequence);
            wrong += u64::from(runs != Some(highest));
        }
        orders += 1;
    }
    (orders, wrong)
}

/// Flips every bit of a package whose last 8 bytes sign the rest, the record's own CRC put right; returns flips and
/// how often the parser was entered. (The test `power_cut` does the same with ed25519.)
#[must_use]
pub fn signature_hook() -> (u64, u64) {
    use std::cell::Cell;
    // A keyed sum stands for a signature here: what counts is who is called, and when.
    let sign = |message: &[u8]| {
        let mut hasher = DefaultHasher::new();
        (0x5eed_u64, message).hash(&mut hasher);
        hasher.finish().to_le_bytes()
    };
    let mut good = package(12, &[9; 40], &[0; 8]);
    let at = good.len() - 8;
    let signature = sign(&good[..at]);
    good[at..].copy_from_slice(&signature);
    let entered = Cell::new(0);
    let verify = |package: &[u8]| {
        package
            .split_last_chunk::<8>()
            .is_some_and(|(message, signature)| sign(message) == *signature)
    };
    let accept = |_: &[u8]| {
        entered.set(entered.get() + 1);
        true
    };
    let gate = Gate {
        floor: 0,
        verify: &verify,
        accept: &accept,
    };
    let stage = Stage::<4, 128>::new(16, Before::Erased, 1);
    let running = Product.boot(&stage.flash, stage.slots).map(|(r, _)| r);
    let mut flips = 0;
    for bit in (0..28 * 8).chain(32 * 8..good.len() * 8) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let crc = crc32(&bad[..28]).to_le_bytes();
        bad[28..32].copy_from_slice(&crc);
        let mut flash = stage.flash.clone();
        let end = install(&mut flash, stage.slots, running, &bad, &gate, 16);
        entered.set(entered.get() + u64::from(end.is_ok()));
        flips += 1;
    }
    (flips, entered.get())
}
