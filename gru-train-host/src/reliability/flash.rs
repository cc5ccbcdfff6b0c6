//! A NOR flash in memory that keeps the contract of `embedded-storage` and can lose power.
//!
//! Erasing sets a page to 0xFF; a word is written at most once per erase, aligned and whole. One
//! written or erased byte is one *tick*; a cut at tick `t` leaves everything before it done and the
//! word (page) in progress in a state that [`Torn`] names.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read,
    check_write,
};
use gru_core::random::SplitMix;

/// What a cut leaves in the word being written or the page being erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Torn {
    /// As before.
    Old,
    /// As if the operation had finished this word or page.
    New,
    /// All 0x00.
    Zeros,
    /// All 0xFF.
    Ones,
    /// Random bytes.
    Random,
    /// Bytes before the cut are new, the others old.
    Ascending,
    /// As many bytes from the end are new, the others old.
    Descending,
}

impl Torn {
    /// All outcomes of a cut.
    pub const ALL: [Self; 7] = [
        Self::Old,
        Self::New,
        Self::Zeros,
        Self::Ones,
        Self::Random,
        Self::Ascending,
        Self::Descending,
    ];

    /// Whether the outcome differs from byte to byte inside one word or page.
    fn depends_on_byte(self) -> bool {
        matches!(self, Self::Random | Self::Ascending | Self::Descending)
    }
}

/// One completed operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// `bytes` written at `offset`.
    Write {
        /// First byte written.
        offset: usize,
        /// What was written.
        bytes: Vec<u8>,
    },
    /// One page erased.
    Erase {
        /// First byte of the page.
        page: usize,
    },
}

/// Why the flash refused, or stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlashFault {
    /// Outside the flash, or not whole words (pages).
    Arguments(NorFlashErrorKind),
    /// A word that was programmed since the last erase was written again.
    WrittenTwice {
        /// Offset of the word.
        offset: usize,
    },
    /// The power is gone.
    PowerLost,
}

impl NorFlashError for FlashFault {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Arguments(kind) => *kind,
            Self::WrittenTwice { .. } | Self::PowerLost => NorFlashErrorKind::Other,
        }
    }
}

/// The flash: words of `WORD` bytes, pages of `PAGE` bytes.
#[derive(Debug, Clone)]
pub struct MockFlash<const WORD: usize, const PAGE: usize> {
    bytes: Vec<u8>,
    /// Per word: programmed since the last erase.
    programmed: Vec<bool>,
    cut: Option<(u64, Torn, u64)>,
    dead: bool,
    journal: Vec<Operation>,
}

impl<const WORD: usize, const PAGE: usize> MockFlash<WORD, PAGE> {
    /// An erased flash of `pages` pages.
    #[must_use]
    pub fn new(pages: usize) -> Self {
        Self {
            bytes: vec![0xFF; pages * PAGE],
            programmed: vec![false; pages * PAGE / WORD],
            cut: None,
            dead: false,
            journal: Vec::new(),
        }
    }

    /// The memory map: what the core reads.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts `bytes` at `offset`, as a factory programmer would.
    pub fn provision(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        for word in offset / WORD..(offset + bytes.len()).div_ceil(WORD) {
            self.mark(word);
        }
    }

    /// Cuts the power during the byte after `ticks` more bytes; `seed` chooses random contents.
    pub fn cut_after(&mut self, ticks: u64, torn: Torn, seed: u64) {
        self.cut = Some((ticks, torn, seed));
    }

    /// Power returns; no cut is pending and the journal is empty.
    pub fn power_up(&mut self) {
        self.cut = None;
        self.dead = false;
        self.journal.clear();
    }

    /// The operations since power-up.
    #[must_use]
    pub fn journal(&self) -> &[Operation] {
        &self.journal
    }

    fn mark(&mut self, word: usize) {
        // A torn word that reads erased is one: nobody can tell it from a fresh one.
        self.programmed[word] = self.bytes[word * WORD..(word + 1) * WORD]
            .iter()
            .any(|&byte| byte != 0xFF);
    }

    /// First byte, contents afterwards and granularity of an operation.
    fn effect(operation: &Operation) -> (usize, &[u8], usize) {
        match operation {
            Operation::Write { offset, bytes } => (*offset, bytes, WORD),
            Operation::Erase { page } => (*page, &[0xFF; PAGE], PAGE),
        }
    }

    /// Applies an operation of which `done` bytes were finished when the power went.
    fn tear(&mut self, operation: &Operation, done: usize, torn: Torn, seed: u64) {
        let (start, new, unit) = Self::effect(operation);
        let whole = done / unit * unit;
        self.bytes[start..start + whole].copy_from_slice(&new[..whole]);
        let (new, old) = (
            &new[whole..whole + unit],
            &mut self.bytes[start + whole..start + whole + unit],
        );
        let part = done - whole;
        match torn {
            Torn::Old => {}
            Torn::New => old.copy_from_slice(new),
            Torn::Zeros => old.fill(0),
            Torn::Ones => old.fill(0xFF),
            Torn::Random => SplitMix(seed).fill(old),
            Torn::Ascending => old[..part].copy_from_slice(&new[..part]),
            Torn::Descending => old[unit - part..].copy_from_slice(&new[unit - part..]),
        }
        for word in start / WORD..(start + whole + unit) / WORD {
            self.mark(word);
        }
        if matches!(operation, Operation::Write { .. }) {
            // Whole words of a write count as programmed whatever they hold.
            self.programmed[start / WORD..(start + whole) / WORD].fill(true);
        }
    }

    fn apply(&mut self, operation: Operation) -> Result<(), FlashFault> {
        if self.dead {
            return Err(FlashFault::PowerLost);
        }
        let (start, new, _) = Self::effect(&operation);
        if let Some((ticks, torn, seed)) = &mut self.cut {
            if *ticks < new.len() as u64 {
                let (done, torn, seed) = (*ticks as usize, *torn, *seed);
                self.tear(&operation, done, torn, seed);
                self.dead = true;
                return Err(FlashFault::PowerLost);
            }
            *ticks -= new.len() as u64;
        }
        self.bytes[start..start + new.len()].copy_from_slice(new);
        self.programmed[start / WORD..(start + new.len()) / WORD]
            .fill(matches!(operation, Operation::Write { .. }));
        self.journal.push(operation);
        Ok(())
    }

    /// Visits the memory after a cut at every tick of `journal`, in every distinct torn state.
    ///
    /// `visit` gets the tick, the torn state and the flash as it is when the power returns; the last call has
    /// the tick after the end, with everything done.
    pub fn each_cut(&self, journal: &[Operation], mut visit: impl FnMut(u64, Torn, &Self)) {
        let mut done = self.clone();
        done.power_up();
        let mut tick = 0;
        for operation in journal {
            let (start, new, unit) = Self::effect(operation);
            for at in 0..new.len() {
                for torn in Torn::ALL {
                    if at % unit != 0 && !torn.depends_on_byte() {
                        continue;
                    }
                    let begin = start + at / unit * unit;
                    let before = done.bytes[begin..begin + unit].to_vec();
                    let words = start / WORD..(begin + unit) / WORD;
                    let programmed = done.programmed[words.clone()].to_vec();
                    done.tear(operation, at, torn, tick);
                    visit(tick, torn, &done);
                    done.bytes[begin..begin + unit].copy_from_slice(&before);
                    done.programmed[words].copy_from_slice(&programmed);
                }
                tick += 1;
            }
            done.bytes[start..start + new.len()].copy_from_slice(new);
            done.programmed[start / WORD..(start + new.len()) / WORD]
                .fill(matches!(operation, Operation::Write { .. }));
        }
        visit(tick, Torn::Old, &done);
    }
}

impl<const WORD: usize, const PAGE: usize> ErrorType for MockFlash<WORD, PAGE> {
    type Error = FlashFault;
}

impl<const WORD: usize, const PAGE: usize> ReadNorFlash for MockFlash<WORD, PAGE> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashFault> {
        check_read(self, offset, bytes.len()).map_err(FlashFault::Arguments)?;
        if self.dead {
            return Err(FlashFault::PowerLost);
        }
        bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const WORD: usize, const PAGE: usize> NorFlash for MockFlash<WORD, PAGE> {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashFault> {
        check_erase(self, from, to).map_err(FlashFault::Arguments)?;
        for page in (from as usize..to as usize).step_by(PAGE) {
            self.apply(Operation::Erase { page })?;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashFault> {
        check_write(self, offset, bytes.len()).map_err(FlashFault::Arguments)?;
        let offset = offset as usize;
        let words = offset / WORD..(offset + bytes.len()) / WORD;
        if let Some(word) = words.clone().find(|&word| self.programmed[word]) {
            return Err(FlashFault::WrittenTwice {
                offset: word * WORD,
            });
        }
        self.apply(Operation::Write {
            offset,
            bytes: bytes.to_vec(),
        })
    }
}
