//! What an instruction costs: a model per core, for memory without wait states.
//!
//! M0, M0+, M3 and M4 follow the instruction tables of their technical reference manuals, M3 and M4 with their sections
//! on load and store timings as well. Arm publishes none for M33: its model is that of a pipeline that issues in order.
//!
//! | | M0 (DDI 0432), M0+ (DDI 0484) | M3 (DDI 0337), M4 (DDI 0439) |
//! | --- | --- | --- |
//! | data processing, `MUL` | 1 | 1 |
//! | `MLA`, `UMULL`, `UMLAL`, divide | – | M3 2, 4, 6, 12; M4 1, 1, 1, 12; DSP instructions 1 |
//! | load | 2 | 2, or 1 behind a single load that does not make its address |
//! | store | 2 | 1; with an offset in a register 2, or 1 behind such a load |
//! | several words | 1 + N | 1 + N |
//! | branch that is taken, `BX`, `BLX` | M0 3, M0+ 2 | 3 |
//! | `BL` | M0 4, M0+ 3 | 3 |
//! | load of `pc` | M0 +3, M0+ +2 | +3; table branch 6 |
//! | `MRS`, `MSR`, barriers | M0 4, M0+ 3 | 2 |
//! | an address made by the data processing just before | | +1 |
//! | `IT` | – | 0 behind an instruction of 16 bits, else 1 |
//! | `VLDR`, `VSTR` | – | 2, or 1 behind a load as above |
//! | other arithmetic in f32 | – | 1; `VMLA`, `VFMA` 3; +1 when the next instruction multiplies the result |
//! | `VDIV`, `VSQRT` | – | 14, in which integer instructions go on |
//!
//! Where the manuals give a range (M3's `UMULL` 3 to 5 and `UMLAL` 4 to 7; divide 2 to 12; refill of the pipeline 1 to 3)
//! it is one value throughout. M33: an instruction a cycle; results of loads, multiplies and f32 are there a cycle later;
//! N cycles for N words, 11 for a divide, 3 for `VFMA`; a branch that is taken costs one more, two if its target comes
//! from a register. An instruction that its `IT` skips takes one cycle.

use rsemu::cpu::arm::v7m::fpisa::{DataOp, FpInsn, UnaryOp};
use rsemu::cpu::arm::v7m::isa::{
    self, BitfieldOp, DpOp, DualMulOp, HalfMulOp, HintOp, Insn, MemOffset, Operand,
};

/// A core whose instructions can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Core {
    /// Cortex-M0.
    M0,
    /// Cortex-M0+.
    M0plus,
    /// Cortex-M3.
    M3,
    /// Cortex-M4, with or without FPU.
    M4,
    /// Cortex-M7: no timings are published, so there is no estimate.
    M7,
    /// Cortex-M33.
    M33,
}

impl Core {
    /// Its name, e.g. `Cortex-M0+`.
    pub fn name(self) -> &'static str {
        match self {
            Self::M0 => "Cortex-M0",
            Self::M0plus => "Cortex-M0+",
            Self::M3 => "Cortex-M3",
            Self::M4 => "Cortex-M4",
            Self::M7 => "Cortex-M7",
            Self::M33 => "Cortex-M33",
        }
    }

    /// Where its cycles come from; `None` if they are not estimated.
    pub fn model(self) -> Option<&'static str> {
        match self {
            Self::M0 => Some("instruction table of Arm DDI 0432, multiplier of one cycle"),
            Self::M0plus => Some("instruction table of Arm DDI 0484, multiplier of one cycle"),
            Self::M3 => Some("instruction table and load/store timings of Arm DDI 0337"),
            Self::M4 => Some("instruction table and load/store timings of Arm DDI 0439"),
            Self::M7 => None,
            Self::M33 => {
                Some("one instruction a cycle in order, no published table of this core exists")
            }
        }
    }

    /// Whether it executes this instruction, as far as the emulator does not see to that.
    pub(super) fn has(self, op: &Op) -> bool {
        !matches!(self, Self::M0 | Self::M0plus) || op.v6m
    }
}

/// What kind of work an instruction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    If,
    System,
    Mul,
    Mla,
    MulLong,
    MlaLong,
    /// A multiplication of the DSP extension.
    MulHalves,
    Div,
    Load,
    Store,
    /// `LDRD`, `STRD`.
    Two,
    LoadMany,
    StoreMany,
    Branch,
    Call,
    /// To an address in a register.
    BranchTo,
    Table,
    /// Arithmetic and comparisons in f32, conversions.
    Float,
    FloatMove,
    /// Between two core registers and the FPU.
    FloatTwo,
    FloatMla,
    FloatDiv,
    FloatLoad,
    FloatStore,
    FloatMany,
}

/// What a model has to know of an instruction; registers are sets of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Op {
    pub kind: Kind,
    /// Bytes of the encoding.
    pub size: u8,
    /// Words that it moves.
    pub words: u8,
    pub reads: u16,
    pub writes: u16,
    /// Those of `reads` that make an address.
    pub address: u16,
    /// That one of `writes` which is the address, written back.
    pub base: u16,
    /// The address has a register as offset.
    pub offset_register: bool,
    pub float_reads: u32,
    pub float_writes: u32,
    /// Those of `float_reads` that are only added to.
    pub addend: u32,
    /// Armv6-M has it.
    pub v6m: bool,
}

const PC: u16 = 1 << 15;

fn one(register: u8) -> u16 {
    1 << (register & 15)
}

fn float(register: u8) -> u32 {
    1u32.checked_shl(register.into()).unwrap_or(0)
}

/// `count` registers from `first` on.
fn floats(first: u8, count: u8) -> u32 {
    (first..first.saturating_add(count)).fold(0, |set, r| set | float(r))
}

impl Op {
    /// `bkpt`, which the host serves.
    pub const SERVED: Self = Self::new(Kind::System, 2);

    const fn new(kind: Kind, size: u8) -> Self {
        Self {
            kind,
            size,
            words: 0,
            reads: 0,
            writes: 0,
            address: 0,
            base: 0,
            offset_register: false,
            float_reads: 0,
            float_writes: 0,
            addend: 0,
            v6m: size == 2,
        }
    }

    fn reads(self, registers: u16) -> Self {
        let reads = self.reads | registers;
        Self { reads, ..self }
    }

    fn writes(self, registers: u16) -> Self {
        let writes = self.writes | registers;
        Self { writes, ..self }
    }

    fn floats(self, reads: u32, writes: u32) -> Self {
        Self {
            float_reads: reads,
            float_writes: writes,
            ..self
        }
    }

    fn words(self, words: u8) -> Self {
        Self { words, ..self }
    }

    /// With an address from these registers; a literal's (`pc`) is always there.
    fn at(self, registers: u16) -> Self {
        let address = registers & !PC;
        Self { address, ..self }.reads(address)
    }

    /// The address is written back.
    fn back(self, register: u8, wback: bool) -> Self {
        if !wback {
            return self;
        }
        let base = one(register);
        Self { base, ..self }.writes(base)
    }

    fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The instruction that starts with these halfwords; `None` for what no program gets beyond.
    pub fn decode(first: u16, second: u16) -> Option<Self> {
        let size = if isa::is_32bit(first) { 4 } else { 2 };
        let op = |kind| Self::new(kind, size);
        Some(match isa::decode(first, second) {
            Insn::DataProc {
                op: operation,
                rd,
                rn,
                operand,
                ..
            } => {
                let mut plain = op(Kind::Plain);
                if !operation.is_unary() {
                    plain = plain.reads(one(rn));
                }
                if let Operand::Reg { rm, .. } = operand {
                    plain = plain.reads(one(rm));
                }
                match (operation, rd) {
                    (DpOp::Tst | DpOp::Teq | DpOp::Cmp | DpOp::Cmn, _) => plain,
                    (_, 15) => plain.with_kind(Kind::BranchTo),
                    _ => plain.writes(one(rd)),
                }
            }
            Insn::ShiftReg { rd, rn, rm, .. } => {
                op(Kind::Plain).reads(one(rn) | one(rm)).writes(one(rd))
            }
            Insn::Adr { rd, .. } => op(Kind::Plain).writes(one(rd)),
            Insn::MovImm16 { top, rd, .. } => {
                let reads = if top { one(rd) } else { 0 };
                op(Kind::Plain).reads(reads).writes(one(rd))
            }
            Insn::Branch { .. } => op(Kind::Branch),
            Insn::BranchLink { .. } => Self {
                v6m: true,
                ..op(Kind::Call).writes(one(14))
            },
            Insn::Bx { rm } => op(Kind::BranchTo).reads(one(rm)),
            Insn::Blx { rm } => op(Kind::BranchTo).reads(one(rm)).writes(one(14)),
            Insn::Cbz { rn, .. } => Self {
                v6m: false,
                ..op(Kind::Branch).reads(one(rn))
            },
            Insn::TableBranch { rn, rm, .. } => op(Kind::Table).at(one(rn) | one(rm)),
            Insn::It { .. } => Self {
                v6m: false,
                ..op(Kind::If)
            },
            Insn::LoadStore {
                load,
                rt,
                rn,
                offset,
                wback,
                ..
            } => {
                let moved = if load {
                    op(Kind::Load).writes(one(rt))
                } else {
                    op(Kind::Store).reads(one(rt))
                };
                let moved = match offset {
                    MemOffset::Imm(_) => moved.at(one(rn)),
                    MemOffset::Reg { rm, .. } => Self {
                        offset_register: true,
                        ..moved.at(one(rn) | one(rm))
                    },
                };
                moved.words(1).back(rn, wback)
            }
            Insn::LoadLiteral { rt, .. } => op(Kind::Load).writes(one(rt)).words(1),
            Insn::LoadStoreDual {
                load,
                rt,
                rt2,
                rn,
                wback,
                ..
            } => {
                let pair = one(rt) | one(rt2);
                let moved = op(Kind::Two).at(one(rn)).words(2).back(rn, wback);
                if load {
                    moved.writes(pair)
                } else {
                    moved.reads(pair)
                }
            }
            Insn::LoadStoreExclusive {
                load, rd, rt, rn, ..
            }
            | Insn::AcqRel {
                load, rd, rt, rn, ..
            } => {
                let moved = if load {
                    op(Kind::Load).writes(one(rt))
                } else {
                    op(Kind::Store).reads(one(rt)).writes(one(rd))
                };
                moved.at(one(rn)).words(1)
            }
            Insn::LoadStoreMultiple {
                load,
                rn,
                list,
                wback,
                ..
            } => {
                let moved = if load {
                    op(Kind::LoadMany).writes(list)
                } else {
                    op(Kind::StoreMany).reads(list)
                };
                moved
                    .at(one(rn))
                    .words(list.count_ones() as u8)
                    .back(rn, wback)
            }
            Insn::Mul { rd, rn, rm, ra, .. } => match ra {
                None => op(Kind::Mul).reads(one(rn) | one(rm)),
                Some(ra) => op(Kind::Mla).reads(one(rn) | one(rm) | one(ra)),
            }
            .writes(one(rd)),
            Insn::MulLong {
                accumulate,
                umaal,
                rdlo,
                rdhi,
                rn,
                rm,
                ..
            } => {
                let pair = one(rdlo) | one(rdhi);
                let product = if accumulate || umaal {
                    op(Kind::MlaLong).reads(pair)
                } else {
                    op(Kind::MulLong)
                };
                product.reads(one(rn) | one(rm)).writes(pair)
            }
            Insn::Div { rd, rn, rm, .. } => op(Kind::Div).reads(one(rn) | one(rm)).writes(one(rd)),
            Insn::HalfMul {
                op: operation,
                rd,
                rn,
                rm,
                ra,
                ..
            } => {
                let product = op(Kind::MulHalves).reads(one(rn) | one(rm)).writes(one(rd));
                match operation {
                    HalfMulOp::Smul | HalfMulOp::Smulw => product,
                    HalfMulOp::Smla | HalfMulOp::Smlaw => product.reads(one(ra)),
                    HalfMulOp::Smlal => product.reads(one(ra) | one(rd)).writes(one(ra)),
                }
            }
            Insn::DualMul {
                op: operation,
                rd,
                rn,
                rm,
                ra,
                ..
            } => {
                let product = op(Kind::MulHalves).reads(one(rn) | one(rm)).writes(one(rd));
                match operation {
                    DualMulOp::Smlald | DualMulOp::Smlsld => {
                        product.reads(one(ra) | one(rd)).writes(one(ra))
                    }
                    // No accumulator.
                    _ if ra == 15 => product,
                    _ => product.reads(one(ra)),
                }
            }
            Insn::Sat { rd, rn, .. } => op(Kind::Plain).reads(one(rn)).writes(one(rd)),
            Insn::SatQ { rd, rn, rm, .. }
            | Insn::Simd { rd, rn, rm, .. }
            | Insn::Sel { rd, rn, rm }
            | Insn::Pkh { rd, rn, rm, .. } => {
                op(Kind::Plain).reads(one(rn) | one(rm)).writes(one(rd))
            }
            Insn::Usad { rd, rn, rm, ra } => op(Kind::Plain)
                .reads((one(rn) | one(rm) | one(ra)) & !PC)
                .writes(one(rd)),
            Insn::Extend { rd, rn, rm, .. } => op(Kind::Plain)
                .reads((one(rn) | one(rm)) & !PC)
                .writes(one(rd)),
            Insn::Misc { rd, rm, .. } => op(Kind::Plain).reads(one(rm)).writes(one(rd)),
            Insn::Bitfield {
                op: operation,
                rd,
                rn,
                ..
            } => {
                let reads = match operation {
                    BitfieldOp::Sbfx | BitfieldOp::Ubfx => one(rn),
                    BitfieldOp::Bfi => one(rn) | one(rd),
                    BitfieldOp::Bfc => one(rd),
                };
                op(Kind::Plain).reads(reads).writes(one(rd))
            }
            Insn::Mrs { rd, .. } => Self {
                v6m: true,
                ..op(Kind::System).writes(one(rd))
            },
            Insn::Msr { rn, .. } => Self {
                v6m: true,
                ..op(Kind::System).reads(one(rn))
            },
            Insn::Barrier { .. } => Self {
                v6m: true,
                ..op(Kind::System)
            },
            Insn::Cps { .. } | Insn::Bkpt { .. } | Insn::Svc { .. } => op(Kind::System),
            Insn::Hint {
                op: HintOp::Nop | HintOp::Yield | HintOp::Sev | HintOp::Preload,
            } => op(Kind::Plain),
            Insn::Hint { .. } | Insn::ClearExclusive | Insn::Tt { .. } | Insn::Sg => {
                op(Kind::System)
            }
            Insn::Fp(insn) => float_op(insn),
            _ => return None,
        })
    }
}

/// An instruction of the FPU.
fn float_op(insn: FpInsn) -> Op {
    let op = |kind| Op::new(kind, 4);
    match insn {
        FpInsn::Data {
            op: operation,
            d,
            n,
            m,
        } => {
            let (n, m, d) = (float(n), float(m), float(d));
            match operation {
                DataOp::Div => op(Kind::FloatDiv).floats(n | m, d),
                DataOp::Mul
                | DataOp::Nmul
                | DataOp::Add
                | DataOp::Sub
                | DataOp::Maxnm
                | DataOp::Minnm => op(Kind::Float).floats(n | m, d),
                _ => Op {
                    addend: d & !(n | m),
                    ..op(Kind::FloatMla).floats(n | m | d, d)
                },
            }
        }
        FpInsn::Unary {
            op: UnaryOp::Sqrt,
            d,
            m,
        } => op(Kind::FloatDiv).floats(float(m), float(d)),
        FpInsn::Unary {
            op: UnaryOp::Mov,
            d,
            m,
        } => op(Kind::FloatMove).floats(float(m), float(d)),
        FpInsn::Unary { d, m, .. }
        | FpInsn::CvtInt { d, m, .. }
        | FpInsn::CvtMode { d, m, .. }
        | FpInsn::RintMode { d, m, .. }
        | FpInsn::CvtHalf { d, m, .. } => op(Kind::Float).floats(float(m), float(d)),
        FpInsn::CvtFixed { d, .. } => op(Kind::Float).floats(float(d), float(d)),
        FpInsn::MovImm { d, .. } => op(Kind::FloatMove).floats(0, float(d)),
        FpInsn::Cmp {
            d, m, with_zero, ..
        } => {
            let m = if with_zero { 0 } else { float(m) };
            op(Kind::Float).floats(float(d) | m, 0)
        }
        FpInsn::Sel { d, n, m, .. } => op(Kind::Float).floats(float(n) | float(m), float(d)),
        FpInsn::MovCore { to_fp, rt, n } if to_fp => {
            op(Kind::FloatMove).reads(one(rt)).floats(0, float(n))
        }
        FpInsn::MovCore { rt, n, .. } => op(Kind::FloatMove).writes(one(rt)).floats(float(n), 0),
        FpInsn::MovCore2 {
            to_fp, rt, rt2, m, ..
        } => {
            let (core, pair) = (one(rt) | one(rt2), floats(m, 2));
            if to_fp {
                op(Kind::FloatTwo).reads(core).floats(0, pair)
            } else {
                op(Kind::FloatTwo).writes(core).floats(pair, 0)
            }
        }
        FpInsn::Sys { to_core, rt, .. } => {
            let rt = one(rt) & !PC;
            if to_core {
                op(Kind::FloatMove).writes(rt)
            } else {
                op(Kind::FloatMove).reads(rt)
            }
        }
        FpInsn::Mem {
            load,
            d,
            rn,
            double,
            ..
        } => {
            let words = 1 + u8::from(double);
            let set = floats(d, words);
            if load {
                op(Kind::FloatLoad).floats(0, set)
            } else {
                op(Kind::FloatStore).floats(set, 0)
            }
            .at(one(rn))
            .words(words)
        }
        FpInsn::Multi {
            load,
            d,
            rn,
            count,
            writeback,
            ..
        } => {
            let set = floats(d, count);
            let moved = op(Kind::FloatMany);
            if load {
                moved.floats(0, set)
            } else {
                moved.floats(set, 0)
            }
            .at(one(rn))
            .words(count)
            .back(rn, writeback)
        }
    }
}

/// The cycles of a run of instructions on a core.
#[derive(Debug, Clone)]
pub(super) struct Timer {
    core: Core,
    /// Cycles until now; with M33 the one in which the next instruction may start.
    cycles: u64,
    before: Option<Op>,
    /// From when on the FPU takes an instruction again.
    divider: u64,
    /// From when on a register's value is there (M33).
    ready: [u64; 16],
    float_ready: [u64; 32],
}

impl Timer {
    pub fn new(core: Core) -> Self {
        Self {
            core,
            cycles: 0,
            before: None,
            divider: 0,
            ready: [0; 16],
            float_ready: [0; 32],
        }
    }

    /// Cycles from the first instruction to the last one's end; `None` without a model of the core.
    pub fn cycles(&self) -> Option<u64> {
        self.core.model().map(|_| self.cycles)
    }

    /// An instruction was executed; `taken`: what followed is not the next in memory; `skipped`: its `IT` left it out.
    pub fn execute(&mut self, op: &Op, taken: bool, skipped: bool) {
        let nothing = Op::new(Kind::Plain, op.size);
        let op = if skipped { &nothing } else { op };
        match self.core {
            Core::M0 => self.cycles += v6m(op, taken, 1),
            Core::M0plus => self.cycles += v6m(op, taken, 0),
            Core::M3 => self.cycles += self.v7m(op, taken, false),
            Core::M4 => self.cycles += self.v7m(op, taken, true),
            Core::M7 => {}
            Core::M33 => self.in_order(op, taken),
        }
        self.before = Some(*op);
    }

    /// Cycles on M3 and M4.
    fn v7m(&mut self, op: &Op, taken: bool, m4: bool) -> u64 {
        const REFILL: u64 = 2;
        let words = u64::from(op.words);
        let refill = if taken { REFILL } else { 0 };
        let to_pc = if op.writes & PC != 0 && taken { 3 } else { 0 };
        let before = self.before.unwrap_or(Op::new(Kind::Store, 4));
        let (made, stored) = (before.writes & op.address, before.writes & !before.base);
        let single = matches!(before.kind, Kind::Load | Kind::FloatLoad) && before.words == 1;
        let piped = single && before.writes & PC == 0 && stored & op.address == 0;
        let mut cycles = match op.kind {
            Kind::Load => 2 - u64::from(piped && to_pc == 0) + to_pc,
            Kind::Store if op.offset_register => 2 - u64::from(piped),
            Kind::FloatLoad | Kind::FloatStore => match words {
                1 => 2 - u64::from(piped),
                _ => 1 + words,
            },
            Kind::Two | Kind::LoadMany | Kind::StoreMany | Kind::FloatMany => 1 + words + to_pc,
            Kind::Mla if !m4 => 2,
            Kind::MulLong if !m4 => 4,
            Kind::MlaLong if !m4 => 6,
            Kind::Div => 12,
            Kind::If => u64::from(before.size != 2 || self.before.is_none()),
            Kind::Branch | Kind::Call | Kind::BranchTo => 1 + refill,
            Kind::Table => 6,
            Kind::System | Kind::FloatTwo => 2,
            Kind::FloatMla => 3,
            Kind::FloatDiv
            | Kind::Float
            | Kind::FloatMove
            | Kind::Plain
            | Kind::Store
            | Kind::Mul
            | Kind::Mla
            | Kind::MulLong
            | Kind::MlaLong
            | Kind::MulHalves => 1,
        };
        let computes = matches!(
            before.kind,
            Kind::Plain
                | Kind::System
                | Kind::Mul
                | Kind::Mla
                | Kind::MulLong
                | Kind::MlaLong
                | Kind::MulHalves
                | Kind::Div
        );
        cycles += u64::from(computes && made != 0);
        let floats = matches!(before.kind, Kind::Float | Kind::FloatMla);
        let multiplied = before.float_writes & op.float_reads & !op.addend;
        cycles += u64::from(floats && multiplied != 0);
        if op.float_reads | op.float_writes != 0 {
            cycles += self.divider.saturating_sub(self.cycles);
            if op.kind == Kind::FloatDiv {
                self.divider = self.cycles + cycles + 13;
            }
        }
        cycles
    }

    /// M33: when it can start, what then is busy, and when its results are there.
    fn in_order(&mut self, op: &Op, taken: bool) {
        let bits = |set: u32| (0..32usize).filter(move |r| set >> r & 1 != 0);
        let mut start = self.cycles;
        for r in bits(op.reads.into()) {
            start = start.max(self.ready[r & 15]);
        }
        for r in bits(op.float_reads) {
            start = start.max(self.float_ready[r]);
        }
        if op.float_reads | op.float_writes != 0 {
            start = start.max(self.divider);
        }
        let words = u64::from(op.words).max(1);
        let (busy, later, float_later) = match op.kind {
            Kind::Load => (1, 2, 2),
            Kind::Mul | Kind::Mla | Kind::MulLong | Kind::MlaLong | Kind::MulHalves => (1, 2, 2),
            Kind::Two | Kind::LoadMany | Kind::StoreMany | Kind::FloatMany => (words, 2, 2),
            Kind::FloatLoad | Kind::FloatStore => (words, 1, 2),
            Kind::Div => (11, 11, 2),
            Kind::FloatMla => (3, 1, 3),
            Kind::FloatDiv => (1, 1, 14),
            Kind::FloatTwo | Kind::System => (2, 1, 2),
            Kind::Table => (3, 1, 2),
            _ => (1, 1, 2),
        };
        if op.kind == Kind::FloatDiv {
            self.divider = start + float_later;
        }
        for r in bits((op.writes & !op.base).into()) {
            self.ready[r & 15] = start + later;
        }
        for r in bits(op.base.into()) {
            self.ready[r & 15] = start;
        }
        for r in bits(op.float_writes) {
            self.float_ready[r] = start + float_later;
        }
        let target_in_register = matches!(
            op.kind,
            Kind::BranchTo | Kind::Table | Kind::Load | Kind::LoadMany
        );
        self.cycles = start + busy;
        if taken {
            self.cycles += if target_in_register { 2 } else { 1 };
        }
    }
}

/// Cycles on M0 (`more` 1) and M0+ (0).
fn v6m(op: &Op, taken: bool, more: u64) -> u64 {
    let words = u64::from(op.words);
    match op.kind {
        Kind::Load | Kind::Store => 2,
        Kind::LoadMany if op.writes & PC != 0 => 3 + words + more,
        Kind::LoadMany | Kind::StoreMany => 1 + words,
        Kind::Branch if !taken => 1,
        Kind::Branch | Kind::BranchTo => 2 + more,
        Kind::Call | Kind::System => 3 + more,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind, words, then the registers read, written and in the address.
    type Described = (Kind, u8, u16, u16, u16);

    fn set(registers: &[u8]) -> u16 {
        registers.iter().fold(0, |set, r| set | one(*r))
    }

    #[test]
    fn encodings_of_an_assembler_are_described() {
        let mov = |reads: &[u8], writes: &[u8]| (Kind::Plain, 0, set(reads), set(writes), 0);
        let mac = |reads: &[u8], writes: &[u8]| (Kind::MulHalves, 0, set(reads), set(writes), 0);
        let load = |address: &[u8], writes: &[u8]| {
            (Kind::Load, 1, set(address), set(writes), set(address))
        };
        // By arm-none-eabi-as.
        let cases: [(&str, u16, u16, Described); 40] = [
            ("smlad r0,r1,r2,r3", 0xfb21, 0x3002, mac(&[1, 2, 3], &[0])),
            ("smuad r4,r5,r6", 0xfb25, 0xf406, mac(&[5, 6], &[4])),
            ("smlabb r0,r1,r2,r3", 0xfb11, 0x3002, mac(&[1, 2, 3], &[0])),
            (
                "smlaldx r0,r1,r2,r3",
                0xfbc2,
                0x01d3,
                mac(&[0, 1, 2, 3], &[0, 1]),
            ),
            ("smmulr r0,r1,r2", 0xfb51, 0xf012, mac(&[1, 2], &[0])),
            ("sxtb16 r1,r2,ror #8", 0xfa2f, 0xf192, mov(&[2], &[1])),
            ("sxtab16 r1,r3,r2", 0xfa23, 0xf182, mov(&[2, 3], &[1])),
            ("uxtb r1,r2", 0xb2d1, 0, mov(&[2], &[1])),
            ("uxtb.w r1,r8", 0xfa5f, 0xf188, mov(&[8], &[1])),
            ("ssat r0,#16,r1,asr #2", 0xf321, 0x008f, mov(&[1], &[0])),
            ("pkhbt r0,r1,r2,lsl #16", 0xeac1, 0x4002, mov(&[1, 2], &[0])),
            ("usat16 r0,#8,r1", 0xf3a1, 0x0008, mov(&[1], &[0])),
            ("qadd r0,r1,r2", 0xfa82, 0xf081, mov(&[1, 2], &[0])),
            ("sel r0,r1,r2", 0xfaa1, 0xf082, mov(&[1, 2], &[0])),
            ("movt r0,#1", 0xf2c0, 0x0001, mov(&[0], &[0])),
            ("movw r0,#1", 0xf240, 0x0001, mov(&[], &[0])),
            ("bfi r0,r1,#2,#3", 0xf361, 0x0084, mov(&[0, 1], &[0])),
            ("ubfx r0,r1,#2,#3", 0xf3c1, 0x0082, mov(&[1], &[0])),
            ("tst r1,r2", 0x4211, 0, mov(&[1, 2], &[])),
            ("add r0,sp,#4", 0xa801, 0, mov(&[13], &[0])),
            ("clz r0,r1", 0xfab1, 0xf081, mov(&[1], &[0])),
            ("lsls r0,r1", 0x4088, 0, mov(&[0, 1], &[0])),
            (
                "mls r0,r1,r2,r3",
                0xfb01,
                0x3012,
                (Kind::Mla, 0, set(&[1, 2, 3]), set(&[0]), 0),
            ),
            (
                "smull r0,r1,r2,r3",
                0xfb82,
                0x0103,
                (Kind::MulLong, 0, set(&[2, 3]), set(&[0, 1]), 0),
            ),
            (
                "umaal r0,r1,r2,r3",
                0xfbe2,
                0x0163,
                (Kind::MlaLong, 0, set(&[0, 1, 2, 3]), set(&[0, 1]), 0),
            ),
            (
                "sdiv r0,r1,r2",
                0xfb91,
                0xf0f2,
                (Kind::Div, 0, set(&[1, 2]), set(&[0]), 0),
            ),
            (
                "ldrsh r0,[r1,r2,lsl #1]",
                0xf931,
                0x0012,
                load(&[1, 2], &[0]),
            ),
            ("ldrb r0,[r1],#1", 0xf811, 0x0b01, load(&[1], &[0, 1])),
            ("ldr r0,[pc,#8]", 0x4802, 0, load(&[], &[0])),
            ("ldrex r0,[r1]", 0xe851, 0x0f00, load(&[1], &[0])),
            (
                "strh.w r0,[r1,#-4]!",
                0xf821,
                0x0d04,
                (Kind::Store, 1, set(&[0, 1]), set(&[1]), set(&[1])),
            ),
            (
                "strex r2,r0,[r1]",
                0xe841,
                0x0200,
                (Kind::Store, 1, set(&[0, 1]), set(&[2]), set(&[1])),
            ),
            (
                "ldrd r4,r5,[r6,#8]!",
                0xe9f6,
                0x4502,
                (Kind::Two, 2, set(&[6]), set(&[4, 5, 6]), set(&[6])),
            ),
            (
                "pop {r0,r4,pc}",
                0xbd11,
                0,
                (
                    Kind::LoadMany,
                    3,
                    set(&[13]),
                    set(&[0, 4, 13, 15]),
                    set(&[13]),
                ),
            ),
            (
                "stmia r3!,{r0,r1}",
                0xc303,
                0,
                (Kind::StoreMany, 2, set(&[0, 1, 3]), set(&[3]), set(&[3])),
            ),
            (
                "ldmia r3,{r0,r3}",
                0xcb09,
                0,
                (Kind::LoadMany, 2, set(&[3]), set(&[0, 3]), set(&[3])),
            ),
            ("mov pc,r2", 0x4697, 0, (Kind::BranchTo, 0, set(&[2]), 0, 0)),
            ("cbz r3,.+8", 0xb113, 0, (Kind::Branch, 0, set(&[3]), 0, 0)),
            (
                "tbh [r1,r2,lsl #1]",
                0xe8d1,
                0xf012,
                (Kind::Table, 0, set(&[1, 2]), 0, set(&[1, 2])),
            ),
            (
                "blx r3",
                0x4798,
                0,
                (Kind::BranchTo, 0, set(&[3]), set(&[14]), 0),
            ),
        ];
        for (text, first, second, described) in cases {
            let op = Op::decode(first, second).expect(text);
            let found = (op.kind, op.words, op.reads, op.writes, op.address);
            assert_eq!(found, described, "{text}");
        }
    }

    #[test]
    fn encodings_of_the_fpu_are_described() {
        let s = |registers: &[u8]| registers.iter().fold(0, |set, r| set | float(*r));
        // Kind, words, f32 registers read and written, core registers read and written.
        type Floats = (Kind, u8, u32, u32, u16, u16);
        let cases: [(&str, u16, u16, Floats); 10] = [
            (
                "vfma.f32 s1,s2,s3",
                0xeee1,
                0x0a21,
                (Kind::FloatMla, 0, s(&[1, 2, 3]), s(&[1]), 0, 0),
            ),
            (
                "vcvt.s32.f32 s1,s2",
                0xeefd,
                0x0ac1,
                (Kind::Float, 0, s(&[2]), s(&[1]), 0, 0),
            ),
            (
                "vcmp.f32 s1,#0.0",
                0xeef5,
                0x0a40,
                (Kind::Float, 0, s(&[1]), 0, 0, 0),
            ),
            (
                "vsqrt.f32 s0,s1",
                0xeeb1,
                0x0ae0,
                (Kind::FloatDiv, 0, s(&[1]), s(&[0]), 0, 0),
            ),
            (
                "vmov s3,r4",
                0xee01,
                0x4a90,
                (Kind::FloatMove, 0, 0, s(&[3]), set(&[4]), 0),
            ),
            (
                "vmov r4,s3",
                0xee11,
                0x4a90,
                (Kind::FloatMove, 0, s(&[3]), 0, 0, set(&[4])),
            ),
            (
                "vmov r0,r1,d4",
                0xec51,
                0x0b14,
                (Kind::FloatTwo, 0, s(&[8, 9]), 0, 0, set(&[0, 1])),
            ),
            (
                "vldr d1,[r2]",
                0xed92,
                0x1b00,
                (Kind::FloatLoad, 2, 0, s(&[2, 3]), set(&[2]), 0),
            ),
            (
                "vldmia r2!,{s4-s7}",
                0xecb2,
                0x2a04,
                (
                    Kind::FloatMany,
                    4,
                    0,
                    s(&[4, 5, 6, 7]),
                    set(&[2]),
                    set(&[2]),
                ),
            ),
            (
                "vmrs apsr_nzcv,fpscr",
                0xeef1,
                0xfa10,
                (Kind::FloatMove, 0, 0, 0, 0, 0),
            ),
        ];
        for (text, first, second, described) in cases {
            let op = Op::decode(first, second).expect(text);
            let (floats, core) = ((op.float_reads, op.float_writes), (op.reads, op.writes));
            let found = (op.kind, op.words, floats.0, floats.1, core.0, core.1);
            assert_eq!(found, described, "{text}");
        }
        let vfma = Op::decode(0xeee1, 0x0a21).expect("vfma");
        assert_eq!(vfma.addend, s(&[1]));
    }

    #[test]
    fn what_an_m0_does_not_have_is_known() {
        let has = |first, second| Core::M0plus.has(&Op::decode(first, second).expect("known"));
        for (text, first, second) in [
            ("muls r0,r1", 0x4348, 0),
            ("bl .+6", 0xf000, 0xf801),
            ("dsb", 0xf3bf, 0x8f4f),
            ("mrs r0,apsr", 0xf3ef, 0x8000),
        ] {
            assert!(has(first, second), "{text}");
        }
        for (text, first, second) in [
            ("cbz r3,.+8", 0xb113, 0),
            ("it ne", 0xbf18, 0),
            ("movw r0,#1", 0xf240, 0x0001),
            ("mla r0,r1,r2,r3", 0xfb01, 0x3002),
        ] {
            assert!(!has(first, second), "{text}");
        }
    }
}
