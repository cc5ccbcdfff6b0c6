//! Boards in the emulator inside this program: nothing to install, slower than QEMU.
//!
//! `rsemu` interprets the processor. This module gives it memory, loads the firmware, and serves the
//! semihosting calls (`bkpt 0xab`), which it sees before the processor executes them.

use std::sync::Arc;
use std::time::Instant;

use object::Endianness;
use object::elf;
use object::read::elf::{ElfFile32, ProgramHeader};
use rsemu::core::space::{
    AddressSpace, MemAttrs, RamStore, Region, RomStore, RomWrite, UnassignedPolicy,
};
use rsemu::cpu::arm::v7m::{ArmV7m, Config};

use super::{BoardError, Job, Machine, Outcome};

/// What ran, for the report.
pub(super) const NAME: &str = "embedded emulator (rsemu 0.0.7)";

/// `bkpt 0xab`.
const SEMIHOSTING: [u8; 2] = [0xab, 0xbe];

/// How often the clock is read, in instructions.
const CLOCK_INTERVAL: u64 = 1 << 20;

/// The processor of a board, and its memories: (flash start, flash length, RAM start, RAM length).
pub(super) fn config(machine: Machine) -> Option<(Config, [u64; 4])> {
    let mps2 = [0, 4 << 20, 0x2000_0000, 4 << 20];
    match machine {
        Machine::An385 => Some((Config::CORTEX_M3, mps2)),
        Machine::An386 => Some((Config::CORTEX_M4F, mps2)),
        Machine::An500 => Some((Config::CORTEX_M7F, mps2)),
        Machine::An505 => Some((
            Config::CORTEX_M33F,
            [0x1000_0000, 4 << 20, 0x3800_0000, 4 << 20],
        )),
        Machine::An547 | Machine::Microbit | Machine::RiscvVirt => None,
    }
}

/// Bytes that a linked firmware (an ELF file) occupies in flash; 0 if it is none.
pub fn flash_bytes(elf: &[u8]) -> u64 {
    load_segments(elf).map_or(0, |segments| {
        segments.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    })
}

/// Runs the firmware.
pub(super) fn run(job: &Job<'_>) -> Result<Outcome, BoardError> {
    let broken = |what: String| BoardError::Emulator(format!("embedded emulator: {what}"));
    let (config, [flash_start, flash_len, ram_start, ram_len]) = config(job.machine)
        .ok_or_else(|| broken(format!("does not know {}", job.machine.name())))?;

    let mut flash = vec![0xff; usize::try_from(flash_len).unwrap_or(0)];
    let mut put = |address: u64, bytes: &[u8]| {
        let start = usize::try_from(address.wrapping_sub(flash_start)).ok()?;
        let end = start.checked_add(bytes.len())?;
        flash.get_mut(start..end)?.copy_from_slice(bytes);
        Some(())
    };
    let segments = load_segments(job.elf).map_err(|e| broken(format!("firmware: {e}")))?;
    for (address, bytes) in segments {
        put(address, bytes).ok_or_else(|| {
            broken(format!(
                "firmware: {} bytes at {address:#010x} are outside flash",
                bytes.len()
            ))
        })?;
    }
    put(job.machine.facts().artifact_address, job.artifact)
        .ok_or_else(|| broken("the artifact is outside flash".to_owned()))?;

    let ram = Arc::new(RamStore::new(ram_len));
    let space = AddressSpace::new("bus", 32).with_unassigned(UnassignedPolicy::FAULT);
    {
        let mut map = space.topology();
        let rom = Region::rom(
            "flash",
            Arc::new(RomStore::new(flash.clone())),
            RomWrite::Fault,
        );
        map.map(rom, flash_start)
            .and_then(|_| map.map(Region::ram("ram", Arc::clone(&ram)), ram_start))
            .map_err(|e| broken(format!("memory map: {e}")))?;
    }
    let space = Arc::new(space);
    let cpu = ArmV7m::new(config);
    cpu.attach_space(Arc::clone(&space));
    cpu.set_vtor(u32::try_from(flash_start).unwrap_or(0));
    cpu.step(); // the reset sequence

    let mut host = Host::new(&space, &job.request);
    let mut outcome = Outcome {
        exit_code: -1,
        response: Vec::new(),
        output: Vec::new(),
        complaints: String::new(),
        timed_out: false,
        emulator: NAME.to_owned(),
    };
    let started = Instant::now();
    let calls = CallSites::new(flash_start, &flash);
    outcome.exit_code = loop {
        let pc = cpu.pc();
        if calls.contains(pc) {
            match host.serve(cpu.reg(0), cpu.reg(1)) {
                Some(Reply::Value(value)) => cpu.set_reg(0, value),
                Some(Reply::Exit(code)) => break code,
                None => {
                    outcome.complaints = format!(
                        "semihosting call {:#x} at pc {pc:#010x} is unknown or has a bad argument",
                        cpu.reg(0)
                    );
                    break -1;
                }
            }
            cpu.set_pc(pc.wrapping_add(2));
        } else {
            cpu.step();
        }
        host.instructions += 1;
        if host.instructions.is_multiple_of(CLOCK_INTERVAL) {
            if cpu.is_locked_up() {
                outcome.complaints = format!("the processor locked up at pc {pc:#010x}");
                break -1;
            }
            if started.elapsed() >= job.time_limit {
                outcome.timed_out = true;
                break -1;
            }
        }
    };
    outcome.response = host.response;
    outcome.output = host.output;
    Ok(outcome)
}

/// Bytes of the file that belong into flash, with their load addresses (`.data` is loaded apart from where it runs).
pub(super) fn load_segments(bytes: &[u8]) -> Result<Vec<(u64, &[u8])>, String> {
    let file = ElfFile32::<Endianness>::parse(bytes).map_err(|e| e.to_string())?;
    let endian = file.endian();
    let mut segments = Vec::new();
    for header in file.elf_program_headers() {
        if header.p_type(endian) == elf::PT_LOAD && header.p_filesz(endian) > 0 {
            let data = header
                .data(endian, bytes)
                .map_err(|()| "a segment lies outside the file".to_owned())?;
            segments.push((u64::from(header.p_paddr(endian)), data));
        }
    }
    Ok(segments)
}

/// Where in flash `bkpt 0xab` stands, a bit per halfword. Looking there costs less than a read through the bus.
pub(super) struct CallSites {
    start: u32,
    bits: Vec<u64>,
}

impl CallSites {
    pub(super) fn new(start: u64, flash: &[u8]) -> Self {
        let mut bits = vec![0; flash.len().div_ceil(128)];
        for (index, halfword) in flash.chunks_exact(2).enumerate() {
            if *halfword == SEMIHOSTING {
                bits[index / 64] |= 1 << (index % 64);
            }
        }
        Self {
            start: u32::try_from(start).unwrap_or(0),
            bits,
        }
    }

    #[inline]
    pub(super) fn contains(&self, pc: u32) -> bool {
        let index = (pc.wrapping_sub(self.start) >> 1) as usize;
        self.bits
            .get(index / 64)
            .is_some_and(|word| word >> (index % 64) & 1 != 0)
    }
}

/// What a semihosting call gives back.
pub(super) enum Reply {
    Value(u32),
    Exit(i32),
}

/// The host's side of semihosting: the two files, the console, an exit code.
pub(super) struct Host<'a> {
    space: &'a AddressSpace,
    request: &'a [u8],
    position: usize,
    response: Vec<u8>,
    output: Vec<u8>,
    pub(super) instructions: u64,
}

/// Handles that `open` gives out.
const CONSOLE: u32 = 1;
const REQUEST: u32 = 2;
const RESPONSE: u32 = 3;

/// "The call failed."
const MINUS_ONE: Reply = Reply::Value(u32::MAX);

impl<'a> Host<'a> {
    /// With what the firmware can read as `request`.
    pub(super) fn new(space: &'a AddressSpace, request: &'a [u8]) -> Self {
        Self {
            space,
            request,
            position: 0,
            response: Vec::new(),
            output: Vec::new(),
            instructions: 0,
        }
    }

    /// Serves one call; `None` if it makes no sense.
    pub(super) fn serve(&mut self, operation: u32, argument: u32) -> Option<Reply> {
        const OPEN: u32 = 0x01;
        const CLOSE: u32 = 0x02;
        const WRITE: u32 = 0x05;
        const READ: u32 = 0x06;
        const ERRNO: u32 = 0x13;
        const GET_CMDLINE: u32 = 0x15;
        const EXIT: u32 = 0x18;
        const EXIT_EXTENDED: u32 = 0x20;
        const ELAPSED: u32 = 0x30;
        match operation {
            OPEN => {
                let [name, _mode, len] = self.words(argument)?;
                match self.bytes(name, len)?.as_slice() {
                    b":tt" => Some(Reply::Value(CONSOLE)),
                    b"request" => Some(Reply::Value(REQUEST)),
                    b"response" => Some(Reply::Value(RESPONSE)),
                    _ => Some(MINUS_ONE),
                }
            }
            CLOSE => Some(Reply::Value(0)),
            WRITE => {
                let [handle, from, len] = self.words(argument)?;
                let mut bytes = self.bytes(from, len)?;
                match handle {
                    CONSOLE => self.output.append(&mut bytes),
                    RESPONSE => self.response.append(&mut bytes),
                    _ => return Some(MINUS_ONE),
                }
                Some(Reply::Value(0))
            }
            READ => {
                let [handle, to, len] = self.words(argument)?;
                if handle != REQUEST {
                    return Some(MINUS_ONE);
                }
                let rest = self.request.get(self.position..)?;
                let count = rest.len().min(len as usize);
                self.store(to, &rest[..count])?;
                self.position += count;
                // The answer is what was not read.
                Some(Reply::Value(len - u32::try_from(count).ok()?))
            }
            ERRNO => Some(Reply::Value(0)),
            GET_CMDLINE => {
                let [to, len] = self.words(argument)?;
                let line = b"stream request response\0";
                if (len as usize) < line.len() {
                    return Some(MINUS_ONE);
                }
                self.store(to, line)?;
                let count = u32::try_from(line.len() - 1).ok()?;
                self.store(argument.wrapping_add(4), &count.to_le_bytes())?;
                Some(Reply::Value(0))
            }
            EXIT => {
                const APPLICATION_EXIT: u32 = 0x20026;
                Some(Reply::Exit(i32::from(argument != APPLICATION_EXIT)))
            }
            EXIT_EXTENDED => {
                let [_reason, code] = self.words(argument)?;
                Some(Reply::Exit(code as i32))
            }
            ELAPSED => {
                self.store(argument, &self.instructions.to_le_bytes())?;
                Some(Reply::Value(0))
            }
            _ => None,
        }
    }

    fn words<const N: usize>(&self, address: u32) -> Option<[u32; N]> {
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            let mut bytes = [0; 4];
            let at = u64::from(address) + 4 * index as u64;
            self.space
                .read_bytes(at, &mut bytes, MemAttrs::DEBUG)
                .ok()?;
            *word = u32::from_le_bytes(bytes);
        }
        Some(words)
    }

    fn bytes(&self, address: u32, len: u32) -> Option<Vec<u8>> {
        // A wild length must not become an allocation; no buffer of a board is this large.
        if len > 1 << 20 {
            return None;
        }
        let mut bytes = vec![0; len as usize];
        self.space
            .read_bytes(u64::from(address), &mut bytes, MemAttrs::DEBUG)
            .ok()?;
        Some(bytes)
    }

    fn store(&self, address: u32, bytes: &[u8]) -> Option<()> {
        self.space
            .write_bytes(u64::from(address), bytes, MemAttrs::DEBUG)
            .ok()
    }
}
