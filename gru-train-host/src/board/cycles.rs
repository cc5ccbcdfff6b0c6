//! Counts what the calls of a function cost, in the emulator inside this program: instructions exactly, cycles by a
//! model of the core.
//!
//! A call goes from the function's first instruction to the one that returns, with everything that it calls. The
//! instructions are those that were executed, an instruction that its `IT` skips among them. The cycles are estimated
//! from the rules at the top of `timing.rs`. Memory of the same speed everywhere, wait states, caches and interrupts
//! are in no rule: the figures compare programs on a core, they do not promise microseconds.
//!
//! The firmware is run as it is: its memory is what its segments and its first stack pointer lie in, its vector table
//! begins where its flash begins, semihosting (`bkpt 0xab`) is served, and there are no peripherals but the core's own.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use object::elf;
use object::read::elf::{ElfFile32, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};
use rsemu::core::space::{AddressSpace, MemAttrs, RamStore, Region, UnassignedPolicy};
use rsemu::cpu::arm::v7m::isa::{self, Cond};
use rsemu::cpu::arm::v7m::{ArmV7m, Config, xpsr};

use super::embedded::{CallSites, Host, Reply, load_segments};
pub use super::timing::Core;
use super::timing::{Op, Timer};

/// What to count.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// The core that the firmware runs on.
    pub core: Core,
    /// Symbol of the function.
    pub function: &'a str,
    /// End after so many calls; `None`: the firmware ends by itself.
    pub calls: Option<usize>,
    /// Most instructions of the whole run.
    pub most_instructions: u64,
}

/// What one call took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Instructions executed.
    pub instructions: u64,
    /// Cycles, estimated; `None` where there is no model of the core.
    pub cycles: Option<u64>,
}

/// Why nothing was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CycleError {
    /// The bytes are no firmware for an Arm core of 32 bits.
    NotFirmware(String),
    /// No function has this name.
    NoFunction {
        /// The name.
        name: String,
        /// Functions whose names contain it.
        similar: Vec<String>,
    },
    /// The firmware has ended, and never called the function.
    NeverCalled,
    /// The firmware has ended within the first call.
    NotReturned,
    /// The firmware says that it has failed.
    ExitCode(i32),
    /// A fault.
    Fault {
        /// The exception, e.g. `HardFault`.
        exception: &'static str,
        /// The instruction.
        at: Place,
    },
    /// An exception was taken within a call.
    Interrupted(Place),
    /// A semihosting call that makes no sense.
    Semihosting(Place),
    /// An instruction that the core does not have, or of which the model knows nothing.
    Instruction {
        /// Where.
        at: Place,
        /// The encoding.
        encoding: u32,
        /// The core.
        core: Core,
    },
    /// It stays where it is and the function has not returned, or has not been called often enough.
    Stuck(Place),
    /// It did not end.
    NoEnd {
        /// Instructions until then.
        instructions: u64,
        /// Whole calls until then.
        calls: usize,
    },
}

/// An address in the firmware, and the function it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub address: u32,
    /// The function, if its symbol is there.
    pub function: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.address)?;
        match &self.function {
            Some(name) => write!(f, " in {name}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for CycleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFirmware(what) => write!(f, "not a firmware: {what}"),
            Self::NoFunction { name, similar } => {
                write!(f, "no function has the symbol {name:?}")?;
                match similar.is_empty() {
                    true => f.write_str(" (inlined, or the symbols are stripped?)"),
                    false => write!(f, ", but {}", similar.join(", ")),
                }
            }
            Self::NeverCalled => {
                f.write_str("the firmware has ended and never called the function")
            }
            Self::NotReturned => f.write_str("the firmware has ended within the first call"),
            Self::ExitCode(code) => write!(f, "the firmware failed with exit code {code}"),
            Self::Fault { exception, at } => {
                write!(f, "the firmware took a {exception} at {at}")
            }
            Self::Interrupted(at) => {
                write!(
                    f,
                    "an exception came within a call, before {at}: its handler would be counted"
                )
            }
            Self::Semihosting(at) => write!(
                f,
                "the semihosting call at {at} is unknown or has a bad argument"
            ),
            Self::Instruction { at, encoding, core } => write!(
                f,
                "the instruction {encoding:#x} at {at} is none that a {} has, or one without a known cost",
                core.name()
            ),
            Self::Stuck(at) => write!(f, "the firmware stays at {at}"),
            Self::NoEnd {
                instructions,
                calls,
            } => write!(
                f,
                "the firmware has not ended after {instructions} instructions and {calls} whole calls; --calls N ends it after N"
            ),
        }
    }
}

impl std::error::Error for CycleError {}

/// Memory comes in pieces of this size.
const PIECE: u32 = 1 << 20;

/// Most pieces that a firmware may lie in.
const MOST_PIECES: usize = 64;

/// `b .`, the last instruction of most programs that end.
const STAY: u16 = 0xe7fe;

/// Runs the firmware and counts what each call of the function took.
///
/// # Errors
/// Everything that [`CycleError`] lists, each in one line.
pub fn count(elf: &[u8], options: &Options<'_>) -> Result<Vec<Call>, CycleError> {
    let firmware = Firmware::new(elf)?;
    let start = firmware.function(options.function)?;
    let config = match options.core {
        // Code for Armv6-M runs on Armv7-M; what an M0 does not have is refused below.
        Core::M0 | Core::M0plus | Core::M3 => Config::CORTEX_M3,
        Core::M4 => Config::CORTEX_M4F,
        Core::M7 => Config::CORTEX_M7F,
        Core::M33 => Config::CORTEX_M33F,
    };
    let space = firmware.space()?;
    let cpu = ArmV7m::new(config);
    cpu.attach_space(Arc::clone(&space));
    cpu.set_vtor(firmware.start);
    cpu.step(); // the reset sequence
    let sites: Vec<CallSites> = (firmware.segments.iter())
        .map(|(at, bytes)| CallSites::new(*at, bytes))
        .collect();
    let handlers = firmware.handlers();
    let mut host = Host::new(&space, &[]);
    let mut calls = Vec::new();
    let mut open: Option<Open> = None;
    let mut ops = HashMap::new();
    loop {
        if options.calls.is_some_and(|most| calls.len() >= most) {
            return Ok(calls);
        }
        let pc = cpu.pc();
        if let Some(call) = open.take_if(|call| pc == call.back && cpu.reg(13) == call.stack) {
            calls.push(Call {
                instructions: call.instructions,
                cycles: call.timer.cycles(),
            });
            continue;
        }
        if host.instructions >= options.most_instructions {
            return Err(CycleError::NoEnd {
                instructions: host.instructions,
                calls: calls.len(),
            });
        }
        if handlers.contains(&pc) {
            let at = || firmware.place(came_from(&cpu, &space));
            match exception(&cpu) {
                3 => return Err(fault("HardFault", at())),
                4 => return Err(fault("MemManage fault", at())),
                5 => return Err(fault("BusFault", at())),
                6 => return Err(fault("UsageFault", at())),
                0 => {}
                _ if open.is_some() => return Err(CycleError::Interrupted(at())),
                _ => {}
            }
        }
        if pc == start && open.is_none() {
            open = Some(Open::new(options.core, cpu.reg(14) & !1, cpu.reg(13)));
        }
        host.instructions += 1;
        if sites.iter().any(|site| site.contains(pc)) {
            match host.serve(cpu.reg(0), cpu.reg(1)) {
                Some(Reply::Value(value)) => cpu.set_reg(0, value),
                Some(Reply::Exit(0)) => return ended(calls, open.is_some()),
                Some(Reply::Exit(code)) => return Err(CycleError::ExitCode(code)),
                None => return Err(CycleError::Semihosting(firmware.place(pc))),
            }
            cpu.set_pc(pc.wrapping_add(2));
            if let Some(call) = &mut open {
                call.instructions += 1;
                call.timer.execute(&Op::SERVED, false, false);
            }
            continue;
        }
        let Some(call) = &mut open else {
            cpu.step();
            if cpu.pc() == pc {
                // Either it will take an exception, or it is the end.
                if halfwords(&space, pc)[0] == STAY && exception(&cpu) == 0 {
                    return ended(calls, false);
                }
                if cpu.is_locked_up() {
                    return Err(fault("lockup", firmware.place(pc)));
                }
            }
            continue;
        };
        let op = match ops.entry(pc) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => *place.insert(firmware.op(&space, pc, options.core)?),
        };
        let skipped = is_skipped(cpu.xpsr());
        cpu.step();
        let after = cpu.pc();
        if after == pc {
            if halfwords(&space, pc)[0] == STAY {
                return Err(CycleError::Stuck(firmware.place(pc)));
            }
            if cpu.is_locked_up() {
                return Err(fault("lockup", firmware.place(pc)));
            }
        }
        call.instructions += 1;
        let taken = after != pc.wrapping_add(op.size.into());
        call.timer.execute(&op, taken, skipped);
    }
}

/// The number of the exception that is handled; 0 for none.
fn exception(cpu: &ArmV7m) -> u32 {
    cpu.xpsr() & xpsr::EXCEPTION
}

fn fault(exception: &'static str, at: Place) -> CycleError {
    CycleError::Fault { exception, at }
}

/// The calls of a firmware that has ended, maybe within one.
fn ended(calls: Vec<Call>, within: bool) -> Result<Vec<Call>, CycleError> {
    match calls.is_empty() {
        true if within => Err(CycleError::NotReturned),
        true => Err(CycleError::NeverCalled),
        false => Ok(calls),
    }
}

/// A call that has not returned.
struct Open {
    /// Where it returns to, with which stack pointer.
    back: u32,
    stack: u32,
    instructions: u64,
    timer: Timer,
}

impl Open {
    fn new(core: Core, back: u32, stack: u32) -> Self {
        Self {
            back,
            stack,
            instructions: 0,
            timer: Timer::new(core),
        }
    }
}

/// Whether the next instruction is in an `IT` block and its condition does not hold.
fn is_skipped(xpsr: u32) -> bool {
    let condition = Cond((xpsr >> 12 & 15) as u8);
    xpsr & xpsr::IT_MASK != 0 && !condition.passes(xpsr)
}

/// Where an exception came from: its frame holds it behind six words.
fn came_from(cpu: &ArmV7m, space: &AddressSpace) -> u32 {
    let stack = if cpu.reg(14) & 4 == 0 {
        cpu.msp()
    } else {
        cpu.psp()
    };
    word(space, stack.wrapping_add(24)).unwrap_or(0)
}

fn word(space: &AddressSpace, address: u32) -> Option<u32> {
    let mut bytes = [0; 4];
    space
        .read_bytes(address.into(), &mut bytes, MemAttrs::DEBUG)
        .ok()?;
    Some(u32::from_le_bytes(bytes))
}

fn halfwords(space: &AddressSpace, address: u32) -> [u16; 2] {
    let half = |at: u32| {
        let mut bytes = [0; 2];
        let read = space.read_bytes(at.into(), &mut bytes, MemAttrs::DEBUG);
        read.map_or(0, |()| u16::from_le_bytes(bytes))
    };
    [half(address), half(address.wrapping_add(2))]
}

/// A linked program in memory.
struct Firmware<'e> {
    file: ElfFile32<'e, Endianness>,
    /// Where its flash begins.
    start: u32,
    /// What the file holds, with load addresses.
    segments: Vec<(u64, &'e [u8])>,
    /// Which pieces of memory there are.
    pieces: BTreeSet<u32>,
}

impl<'e> Firmware<'e> {
    fn new(elf: &'e [u8]) -> Result<Self, CycleError> {
        let wrong = |what: &str| CycleError::NotFirmware(what.to_owned());
        let file = ElfFile32::<Endianness>::parse(elf)
            .map_err(|e| wrong(&format!("no sound ELF file of 32 bits ({e})")))?;
        let endian = file.endian();
        let header = file.elf_header();
        if header.e_machine(endian) != elf::EM_ARM || endian != Endianness::Little {
            return Err(wrong("an ELF file, but not for Arm in little-endian order"));
        }
        let segments =
            load_segments(elf).map_err(|e| CycleError::NotFirmware(format!("ELF file: {e}")))?;
        let start = (segments.iter().map(|(at, _)| *at))
            .min()
            .ok_or_else(|| wrong("an ELF file without a loaded segment"))?;
        let start = u32::try_from(start).unwrap_or(0);
        let mut firmware = Self {
            file,
            start,
            segments,
            pieces: BTreeSet::new(),
        };
        for (at, bytes) in firmware.segments.clone() {
            firmware.add(at, bytes.len() as u64)?;
        }
        // Where its variables lie, and its stack.
        let variables: Vec<_> = (firmware.file.elf_program_headers().iter())
            .filter(|h| h.p_type(endian) == elf::PT_LOAD && h.p_memsz(endian) > 0)
            .map(|h| (h.p_vaddr(endian), h.p_memsz(endian)))
            .collect();
        for (at, size) in variables {
            firmware.add(at.into(), size.into())?;
        }
        let stack = firmware.vector(0).unwrap_or(0);
        if stack < 4 {
            return Err(wrong("its flash does not begin with a stack pointer"));
        }
        firmware.add(u64::from(stack - 4), 4)?;
        Ok(firmware)
    }

    /// There is memory from `at` on.
    fn add(&mut self, at: u64, size: u64) -> Result<(), CycleError> {
        let pieces = at / u64::from(PIECE)..(at + size).div_ceil(PIECE.into());
        let total = self.pieces.len() as u64 + (pieces.end - pieces.start);
        if at + size > 1 << 32 || total > MOST_PIECES as u64 {
            let text = format!("{size} bytes at {at:#010x} are more than a microcontroller has");
            return Err(CycleError::NotFirmware(text));
        }
        self.pieces.extend(pieces.map(|number| number as u32));
        Ok(())
    }

    fn vector(&self, number: u32) -> Option<u32> {
        let (_, bytes) = self.segments.iter().min_by_key(|(at, _)| *at)?;
        let word = bytes.get(4 * number as usize..)?.first_chunk()?;
        Some(u32::from_le_bytes(*word))
    }

    /// Where the handlers of the core's exceptions begin; the reset is none.
    fn handlers(&self) -> Vec<u32> {
        let mut handlers: Vec<u32> = (2..16)
            .filter_map(|number| Some(self.vector(number)? & !1))
            .collect();
        handlers.sort_unstable();
        handlers.dedup();
        handlers
    }

    /// The memory that the program runs in.
    fn space(&self) -> Result<Arc<AddressSpace>, CycleError> {
        let space = AddressSpace::new("bus", 32).with_unassigned(UnassignedPolicy::FAULT);
        let wrong = |what: String| CycleError::NotFirmware(format!("memory map: {what}"));
        {
            let mut map = space.topology();
            for number in &self.pieces {
                let ram = Arc::new(RamStore::new(PIECE.into()));
                map.map(Region::ram("memory", ram), u64::from(number * PIECE))
                    .map_err(|e| wrong(e.to_string()))?;
            }
        }
        for (at, bytes) in &self.segments {
            let mut at = *at;
            let mut rest = *bytes;
            while !rest.is_empty() {
                let room = PIECE as usize - at as usize % PIECE as usize;
                let (now, later) = rest.split_at(rest.len().min(room));
                space
                    .write_bytes(at, now, MemAttrs::DEBUG)
                    .map_err(|e| wrong(format!("{e:?}")))?;
                at += now.len() as u64;
                rest = later;
            }
        }
        Ok(Arc::new(space))
    }

    /// The instruction at this address.
    fn op(&self, space: &AddressSpace, address: u32, core: Core) -> Result<Op, CycleError> {
        let [first, second] = halfwords(space, address);
        let known = Op::decode(first, second).filter(|op| core.has(op));
        known.ok_or_else(|| CycleError::Instruction {
            at: self.place(address),
            encoding: match isa::is_32bit(first) {
                true => u32::from(first) << 16 | u32::from(second),
                false => first.into(),
            },
            core,
        })
    }

    /// The address of the function with this symbol.
    fn function(&self, name: &str) -> Result<u32, CycleError> {
        let functions = || {
            (self.file.symbols())
                .filter(|s| s.is_definition() && s.address() & 1 == 1)
                .filter_map(|s| Some((s.name().ok()?, s.address() as u32 & !1)))
        };
        if let Some((_, at)) = functions().find(|(symbol, _)| *symbol == name) {
            return Ok(at);
        }
        let similar = functions().filter(|(symbol, _)| !name.is_empty() && symbol.contains(name));
        Err(CycleError::NoFunction {
            name: name.to_owned(),
            similar: similar.take(3).map(|(s, _)| s.to_owned()).collect(),
        })
    }

    /// An address with the function in which it lies.
    fn place(&self, address: u32) -> Place {
        let function = (self.file.symbols())
            .filter(|s| s.is_definition() && s.address() & 1 == 1)
            .find(|s| {
                let start = s.address() & !1;
                (start..start + s.size().max(1)).contains(&address.into())
            })
            .and_then(|s| s.name().ok())
            .map(str::to_owned);
        Place { address, function }
    }
}
