//! Re-checks a loaded artifact in slices, so that idle time finds a bit that flipped in flash.

use crate::artifact::Crc32;
use crate::load::LoadError;
use crate::model::Model;

/// Offset and end of the stored checksum in the frame.
const STORED: core::ops::Range<usize> = 12..16;

/// A re-check in progress: see [`Model::verify`].
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Verify<'a> {
    rest: &'a [u8],
    at: usize,
    stored: [u8; 4],
    tag: u32,
    crc: Crc32,
}

impl<'a> Verify<'a> {
    /// A re-check of `bytes` against the checksum `tag` that was found when they were loaded.
    #[must_use]
    pub fn new(bytes: &'a [u8], tag: u32) -> Self {
        Self {
            rest: bytes,
            at: 0,
            stored: [0; 4],
            tag,
            crc: Crc32::default(),
        }
    }

    /// Reads the next `len` bytes (at least one) and returns the verdict once all have been read.
    ///
    /// Any number of flipped bits within 32 neighbours is found, and all but one of 2^32 others. The
    /// verdict stays the same when this is called again; start anew with [`Model::verify`].
    pub fn advance(&mut self, len: usize) -> Option<Result<(), LoadError>> {
        let len = len.clamp(1, self.rest.len().max(1));
        let (now, later) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        for piece in split_at_stored(self.at, now) {
            match piece {
                Piece::Covered(bytes) => self.crc.update(bytes),
                Piece::Stored(at, bytes) => {
                    for (to, &byte) in self.stored.iter_mut().skip(at).zip(bytes) {
                        *to = byte;
                    }
                }
            }
        }
        self.at = self.at.saturating_add(now.len());
        self.rest = later;
        if !later.is_empty() {
            return None;
        }
        let computed = self.crc.clone().finish();
        let stored = u32::from_le_bytes(self.stored);
        Some(if computed == self.tag && stored == self.tag {
            Ok(())
        } else {
            Err(LoadError::BadCrc { stored, computed })
        })
    }

    /// Reads all that is left.
    ///
    /// # Errors
    /// [`LoadError::BadCrc`]: the bytes are not those that were loaded.
    pub fn finish(mut self) -> Result<(), LoadError> {
        loop {
            if let Some(verdict) = self.advance(usize::MAX) {
                return verdict;
            }
        }
    }
}

enum Piece<'a> {
    /// Bytes that the checksum covers.
    Covered(&'a [u8]),
    /// Bytes of the stored checksum, from the given one on.
    Stored(usize, &'a [u8]),
}

/// Splits the bytes at offset `at` of an artifact around its stored checksum.
fn split_at_stored(at: usize, bytes: &[u8]) -> [Piece<'_>; 3] {
    let cut = |offset: usize| offset.saturating_sub(at).min(bytes.len());
    let (before, rest) = bytes
        .split_at_checked(cut(STORED.start))
        .unwrap_or((bytes, &[]));
    let within = cut(STORED.end).saturating_sub(before.len());
    let (stored, after) = rest.split_at_checked(within).unwrap_or((rest, &[]));
    [
        Piece::Covered(before),
        Piece::Stored(at.saturating_sub(STORED.start), stored),
        Piece::Covered(after),
    ]
}

impl<'a> Model<'a> {
    /// Starts a re-check of the artifact's bytes, to be carried on in slices or in one go.
    #[must_use]
    pub fn verify(&self) -> Verify<'a> {
        Verify::new(self.bytes(), self.tag())
    }
}
