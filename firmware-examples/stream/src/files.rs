//! Files of the host through semihosting, buffered: each call stops the emulator.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use semihosting::fd::{AsFd, OwnedFd};
use semihosting::sys::arm_compat::{
    OpenMode, sys_get_cmdline_uninit, sys_open, sys_read_orig, sys_write_orig,
};

/// Bytes that one call moves at most.
const CHUNK: usize = if cfg!(small_ram) { 512 } else { 4096 };

/// Why a file could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, defmt::Format)]
pub enum FileError {
    /// The host gave no command line, or not two file names in it.
    CommandLine,
    /// The request could not be opened.
    OpenRequest,
    /// The response could not be created.
    OpenResponse,
    /// The request ended early.
    End,
    /// The host refused to read.
    Read,
    /// The host refused to write.
    Write,
}

/// Opens the two files that the command line `stream REQUEST RESPONSE` names.
pub fn open() -> Result<(OwnedFd, OwnedFd), FileError> {
    let mut buffer = [MaybeUninit::uninit(); 256];
    let line = sys_get_cmdline_uninit(&mut buffer).map_err(|_| FileError::CommandLine)?;
    let mut words = line
        .split(|byte| *byte == b' ' || *byte == 0)
        .filter(|word| !word.is_empty())
        .skip(1);
    let mut file = |mode, error| {
        let word = words.next().ok_or(FileError::CommandLine)?;
        let mut name = [0; 128];
        name.get_mut(..word.len())
            .ok_or(FileError::CommandLine)?
            .copy_from_slice(word);
        let name = CStr::from_bytes_until_nul(&name).map_err(|_| FileError::CommandLine)?;
        sys_open(name, mode).map_err(|_| error)
    };
    let request = file(OpenMode::RDONLY_BINARY, FileError::OpenRequest)?;
    let response = file(OpenMode::WRONLY_TRUNC_BINARY, FileError::OpenResponse)?;
    Ok((request, response))
}

/// A file that is read front to back.
pub struct Reader {
    file: OwnedFd,
    buffer: [u8; CHUNK],
    start: usize,
    end: usize,
}

impl Reader {
    /// Reads `file` from its start.
    pub const fn new(file: OwnedFd) -> Self {
        Self {
            file,
            buffer: [0; CHUNK],
            start: 0,
            end: 0,
        }
    }

    /// Fills `out` with the next bytes.
    pub fn read(&mut self, mut out: &mut [u8]) -> Result<(), FileError> {
        loop {
            let ready = self.buffer.get(self.start..self.end).unwrap_or_default();
            let count = ready.len().min(out.len());
            let (head, tail) = out.split_at_mut(count);
            head.copy_from_slice(&ready[..count]);
            self.start += count;
            if tail.is_empty() {
                return Ok(());
            }
            out = tail;
            let missing =
                sys_read_orig(self.file.as_fd(), &mut self.buffer).map_err(|_| FileError::Read)?;
            self.start = 0;
            self.end = CHUNK.saturating_sub(missing);
            if self.end == 0 {
                return Err(FileError::End);
            }
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FileError> {
        let mut out = [0; N];
        self.read(&mut out)?;
        Ok(out)
    }

    /// The next values, little-endian.
    pub fn values(&mut self, out: &mut [i16]) -> Result<(), FileError> {
        for value in out {
            *value = i16::from_le_bytes(self.array()?);
        }
        Ok(())
    }
}

/// A file that is written front to back. What was written last needs [`Writer::flush`].
pub struct Writer {
    file: OwnedFd,
    buffer: [u8; CHUNK],
    len: usize,
}

impl Writer {
    /// Writes `file` from its start.
    pub const fn new(file: OwnedFd) -> Self {
        Self {
            file,
            buffer: [0; CHUNK],
            len: 0,
        }
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        for byte in bytes {
            if self.len == CHUNK {
                self.flush()?;
            }
            if let Some(slot) = self.buffer.get_mut(self.len) {
                *slot = *byte;
                self.len += 1;
            }
        }
        Ok(())
    }

    /// Hands everything to the host.
    pub fn flush(&mut self) -> Result<(), FileError> {
        let bytes = self.buffer.get(..self.len).unwrap_or_default();
        // The host answers with what it did not write.
        match sys_write_orig(self.file.as_fd(), bytes) {
            Ok(0) => {
                self.len = 0;
                Ok(())
            }
            _ => Err(FileError::Write),
        }
    }
}
