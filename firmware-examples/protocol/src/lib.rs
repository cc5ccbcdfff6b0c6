//! What the host tool and the emulator firmware say to each other: two files and an exit code.
//!
//! The host starts the firmware with the command line `stream REQUEST RESPONSE` (semihosting `SYS_GET_CMDLINE`).
//! The firmware reads the request as it goes, so its length is not bounded by the board's memory, and
//! writes the response as it goes. Everything is little-endian and unpadded.
//!
//! ```text
//! request   RequestHeader (16 bytes)
//!           per sequence: u32 steps, then steps × features raw samples (i16)
//! response  ResponseHeader (16 bytes)
//!           per sequence: u32 steps; if EVERY_STEP, a Result per step; then the sequence's Result
//!           Trailer (64 bytes)
//! Result    u16 class, u16 zero, outputs × i16 logits
//! ```
//!
//! For a model that reads windows from their end each sequence is one window, and flags are 0.
//! The trailer comes last, so a response that ends with one is whole.
#![no_std]
#![forbid(unsafe_code)]

/// Version of both files. It changes with any byte of their layout.
pub const VERSION: u16 = 2;

/// First bytes of a request.
pub const REQUEST_MAGIC: [u8; 4] = *b"GRUQ";
/// First bytes of a response.
pub const RESPONSE_MAGIC: [u8; 4] = *b"GRUR";
/// First bytes of the trailer.
pub const TRAILER_MAGIC: [u8; 4] = *b"GRUE";

/// Request flag: report every step, not only the end of each sequence.
pub const EVERY_STEP: u16 = 1;
/// Request flag: carry the hidden state from one sequence into the next instead of resetting it.
pub const CARRY_STATE: u16 = 2;
/// Request flag: before each step the state becomes random words, saturated ones among them. For the question
/// whether a step takes the same time whatever it computes with.
pub const RANDOM_STATE: u16 = 4;
/// All flags that this version knows.
pub const KNOWN_FLAGS: u16 = EVERY_STEP | CARRY_STATE | RANDOM_STATE;

/// `class` where the model has not decided.
pub const NO_CLASS: u16 = u16::MAX;

/// Exit codes of the firmware.
pub mod exit {
    /// Everything was streamed and the response is whole.
    pub const OK: i32 = 0;
    /// The artifact was refused; the log says why.
    pub const LOAD: i32 = 64;
    /// A step was refused; the log says why.
    pub const STEP: i32 = 65;
    /// A file could not be opened, read or written.
    pub const IO: i32 = 66;
    /// The request is not one that this firmware understands.
    pub const REQUEST: i32 = 67;
    /// The model is larger than the buffers of this firmware.
    pub const CAPACITY: i32 = 68;
    /// The panic handler ran.
    pub const PANIC: i32 = 101;
    /// The HardFault (or trap) handler ran.
    pub const FAULT: i32 = 102;
}

/// What the firmware counts while the model steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Counter {
    /// Nothing: `ticks` stays 0.
    None = 0,
    /// The Cortex-M SysTick at the core clock; counts time, which QEMU's `-icount` makes a multiple of instructions.
    SysTick = 1,
    /// Semihosting `SYS_ELAPSED`, for an emulator that answers it with instructions.
    Elapsed = 2,
    /// The RISC-V counter `minstret`.
    Instret = 3,
}

impl Counter {
    /// The counter with this code, if there is one.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::SysTick),
            2 => Some(Self::Elapsed),
            3 => Some(Self::Instret),
            _ => None,
        }
    }
}

/// Why a header was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// The first four bytes are not the expected ones.
    Magic,
    /// Written by another version of this crate.
    Version(u16),
    /// A field has a value without a meaning.
    Value,
}

/// The start of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader {
    /// [`EVERY_STEP`], [`CARRY_STATE`] and [`RANDOM_STATE`].
    pub flags: u16,
    /// Sequences that follow.
    pub sequences: u32,
    /// Values per raw sample.
    pub features: u16,
    /// What to count while the model steps.
    pub counter: Counter,
}

impl RequestHeader {
    /// Bytes of the encoded header.
    pub const LEN: usize = 16;

    /// The header as bytes.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let (magic, rest) = out.split_at_mut(4);
        magic.copy_from_slice(&REQUEST_MAGIC);
        let mut put = Put(rest);
        put.u16(VERSION);
        put.u16(self.flags);
        put.u32(self.sequences);
        put.u16(self.features);
        put.u16(self.counter as u16);
        out
    }

    /// The header from bytes.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, HeaderError> {
        let mut get = Get::new(bytes, REQUEST_MAGIC)?;
        let flags = get.u16();
        let sequences = get.u32();
        let features = get.u16();
        let code = u8::try_from(get.u16()).map_err(|_| HeaderError::Value)?;
        let counter = Counter::from_code(code).ok_or(HeaderError::Value)?;
        if flags & !KNOWN_FLAGS != 0 || features == 0 {
            return Err(HeaderError::Value);
        }
        Ok(Self {
            flags,
            sequences,
            features,
            counter,
        })
    }
}

/// The start of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The request's flags.
    pub flags: u16,
    /// The request's number of sequences.
    pub sequences: u32,
    /// Logits per result.
    pub outputs: u16,
}

impl ResponseHeader {
    /// Bytes of the encoded header.
    pub const LEN: usize = 16;

    /// The header as bytes.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let (magic, rest) = out.split_at_mut(4);
        magic.copy_from_slice(&RESPONSE_MAGIC);
        let mut put = Put(rest);
        put.u16(VERSION);
        put.u16(self.flags);
        put.u32(self.sequences);
        put.u16(self.outputs);
        put.u16(0);
        out
    }

    /// The header from bytes.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, HeaderError> {
        let mut get = Get::new(bytes, RESPONSE_MAGIC)?;
        let flags = get.u16();
        let sequences = get.u32();
        let outputs = get.u16();
        if flags & !KNOWN_FLAGS != 0 || get.u16() != 0 {
            return Err(HeaderError::Value);
        }
        Ok(Self {
            flags,
            sequences,
            outputs,
        })
    }
}

/// The end of a response: what the whole stream amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// 64-bit FNV-1a over all hidden states (each step, each layer, H little-endian i16, unpadded).
    pub digest: u64,
    /// Time steps that were run.
    pub steps: u64,
    /// Counted over all steps, the cost of reading the counter included.
    pub ticks: u64,
    /// Cost of reading the counter 256 times around nothing, in the same unit.
    pub overhead_ticks: u32,
    /// Bytes of the model's state (all memory that a step writes and keeps).
    pub state_bytes: u32,
    /// Cost of `load`, in the same unit.
    pub load_ticks: u32,
    /// Stack that `load` uses, in bytes; 0 if it was not measured.
    pub load_stack_bytes: u32,
    /// Stack that a step uses, in bytes; 0 if it was not measured.
    pub step_stack_bytes: u32,
    /// The cheapest step, the cost of reading the counter once included; `u32::MAX` without steps.
    pub fewest_ticks: u32,
    /// The dearest step, likewise; 0 without steps.
    pub most_ticks: u32,
}

impl Trailer {
    /// Bytes of the encoded trailer.
    pub const LEN: usize = 64;

    /// The trailer as bytes.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let (magic, rest) = out.split_at_mut(4);
        magic.copy_from_slice(&TRAILER_MAGIC);
        let mut put = Put(rest);
        put.u16(VERSION);
        put.u16(0);
        put.u64(self.digest);
        put.u64(self.steps);
        put.u64(self.ticks);
        put.u32(self.overhead_ticks);
        put.u32(self.state_bytes);
        put.u32(self.load_ticks);
        put.u32(self.load_stack_bytes);
        put.u32(self.step_stack_bytes);
        put.u32(self.fewest_ticks);
        put.u32(self.most_ticks);
        put.u32(0);
        out
    }

    /// The trailer from bytes.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, HeaderError> {
        let mut get = Get::new(bytes, TRAILER_MAGIC)?;
        if get.u16() != 0 {
            return Err(HeaderError::Value);
        }
        Ok(Self {
            digest: get.u64(),
            steps: get.u64(),
            ticks: get.u64(),
            overhead_ticks: get.u32(),
            state_bytes: get.u32(),
            load_ticks: get.u32(),
            load_stack_bytes: get.u32(),
            step_stack_bytes: get.u32(),
            fewest_ticks: get.u32(),
            most_ticks: get.u32(),
        })
    }
}

/// Writes integers into a buffer, front to back; what does not fit is dropped.
struct Put<'a>(&'a mut [u8]);

impl Put<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        if let Some((head, tail)) = core::mem::take(&mut self.0).split_at_mut_checked(bytes.len()) {
            head.copy_from_slice(bytes);
            self.0 = tail;
        }
    }
    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }
    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }
}

/// Reads integers from a buffer, front to back; beyond its end it reads zeros.
struct Get<'a>(&'a [u8]);

impl<'a> Get<'a> {
    fn new(bytes: &'a [u8], magic: [u8; 4]) -> Result<Self, HeaderError> {
        let mut get = Self(bytes);
        if get.array() != magic {
            return Err(HeaderError::Magic);
        }
        match get.u16() {
            VERSION => Ok(get),
            other => Err(HeaderError::Version(other)),
        }
    }
    fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.0 = tail;
                *head
            }
            None => [0; N],
        }
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_way_there_and_back() {
        let request = RequestHeader {
            flags: EVERY_STEP,
            sequences: 70_000,
            features: 9,
            counter: Counter::Elapsed,
        };
        assert_eq!(RequestHeader::from_bytes(&request.to_bytes()), Ok(request));
        let response = ResponseHeader {
            flags: CARRY_STATE,
            sequences: 3,
            outputs: 6,
        };
        assert_eq!(
            ResponseHeader::from_bytes(&response.to_bytes()),
            Ok(response)
        );
        let trailer = Trailer {
            digest: 0x0123_4567_89ab_cdef,
            steps: 1 << 40,
            ticks: u64::MAX,
            overhead_ticks: 7,
            state_bytes: 64,
            load_ticks: 8,
            load_stack_bytes: 300,
            step_stack_bytes: 200,
            fewest_ticks: 11,
            most_ticks: 13,
        };
        assert_eq!(Trailer::from_bytes(&trailer.to_bytes()), Ok(trailer));
        // The last field must lie inside the array: `Put` drops silently what does not fit.
        assert_eq!(trailer.to_bytes()[56..60], 13u32.to_le_bytes());
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let mut bytes = RequestHeader {
            flags: 0,
            sequences: 1,
            features: 1,
            counter: Counter::None,
        }
        .to_bytes();
        bytes[14] = 9;
        assert_eq!(RequestHeader::from_bytes(&bytes), Err(HeaderError::Value));
        bytes[4] = 77;
        assert_eq!(
            RequestHeader::from_bytes(&bytes),
            Err(HeaderError::Version(77))
        );
        bytes[0] = 0;
        assert_eq!(RequestHeader::from_bytes(&bytes), Err(HeaderError::Magic));
    }
}
