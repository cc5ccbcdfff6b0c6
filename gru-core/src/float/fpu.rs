//! GRU layers and the matrix loop on the single-precision FPU of Cortex-M4F, M7 and M33.
//!
//! Rust may not fuse or reorder float operations, and LLVM loads one weight at a time. Here two units at a
//! time run through both products and the gates, so that six rows share the loads of `x`. Product and sum are
//! rounded separately, as [`dot`](super::dot::dot) has them.
//!
//! On M4 and M33 `VMUL` and `VADD` take one cycle each, `VMLA` and `VFMA` three. A block of twelve
//! columns of a row comes with one `VLDM`, and no result is used by the instruction right behind it: 3.33
//! cycles for a product on M4, of which the load takes one. M7 issues `VMLA` together with a load, and
//! the six chains of sums hide its latency: 1.13 cycles. Its loop is entered in the middle where the number of
//! columns is no multiple of sixteen.
//!
//! One time step, estimated cycles without wait states (programs of `firmware-examples/bench`, for example
//! `build.sh m4 w1-f32`, under `gru cycles`; M7 by a model outside this repository; rustc 1.95, opt-level 3):
//!
//! | | GRU 5→32, Dense 3 | 9→64, 6 | 10→154, 12 | 6→32→32, 4 |
//! |---|---|---|---|---|
//! | M4 | 20,040 | 62,493 | 292,349 | 47,210 |
//! | M7 | 9,495 | 26,597 | 112,696 | 20,966 |
//! | M33 | 18,781 | 59,418 | 279,829 | 44,783 |
#![allow(
    unsafe_code,
    reason = "whole-loop assembly: the FPU's multi-word loads cannot be reached otherwise"
)]

use core::arch::asm;
use core::marker::PhantomData;
use core::mem::offset_of;

use super::{
    MAX_DIM,
    dot::{Gates, Sums},
    math::{GATE_CONSTANTS, GATE_LIMIT},
};

/// One of the two products of a layer, as the assembly reads it.
#[repr(C)]
struct Part {
    x: *const f32,
    /// Row of the first unit's reset gate.
    rows: *const f32,
    /// Bytes from a row to the next one.
    stride: usize,
    /// Bytes from a gate's rows to the next gate's.
    gate: usize,
    /// Bias of the first unit's reset gate.
    bias: *const f32,
    /// Bytes from a gate's biases to the next gate's, 0 if there are none.
    bias_step: usize,
    /// Number of columns; on M7 number of rounds.
    count: usize,
    /// Whether another part comes behind this one.
    more: usize,
    /// On M7, the first round's code: bytes from the loop's start.
    entry: usize,
    /// On M7, bytes of the columns that the first round leaves out.
    skipped: usize,
    /// The candidate's sums over the part before, written by the assembly.
    before: [f32; 2],
}

/// What the assembly of a layer reads, and the sums of a pair behind it.
#[repr(C)]
pub(super) struct Context<'a> {
    parts: [Part; 2],
    /// Reset gate, update gate, the candidate's recurrent part.
    sums: [[f32; 2]; 3],
    constants: &'static [f32; 8],
    /// Twice the bits of the number below which the assembly computes the gates, or 0.
    limit: u32,
    h: *const f32,
    new: *mut f32,
    /// Largest first unit of a pair.
    last: usize,
    units: usize,
    borrowed: PhantomData<&'a [f32]>,
}

const _: () = assert!(
    size_of::<Part>() == 48
        && offset_of!(Context<'_>, sums) == 96
        && offset_of!(Context<'_>, constants) == 120
        && offset_of!(Context<'_>, h) == 128
        && offset_of!(Context<'_>, last) == 136,
    "the assembly has these offsets"
);

/// Columns of a round on M7, and bytes of the code of one.
#[cfg(gru_cpu = "cortex-m7")]
const ROUND: usize = 16;
#[cfg(gru_cpu = "cortex-m7")]
const COLUMN_CODE: usize = 52;

impl Part {
    fn new(m: &Gates<'_>, more: usize) -> Self {
        let (units, columns) = (m.units(), m.x().len());
        #[cfg(gru_cpu = "cortex-m7")]
        let (count, skipped) = (columns.div_ceil(ROUND), columns.wrapping_neg() % ROUND);
        #[cfg(not(gru_cpu = "cortex-m7"))]
        let (count, skipped) = (columns, 0);
        #[cfg(gru_cpu = "cortex-m7")]
        let entry = skipped * COLUMN_CODE + 1;
        #[cfg(not(gru_cpu = "cortex-m7"))]
        let entry = 0;
        Self {
            x: m.x().as_ptr(),
            rows: m.weights().as_ptr(),
            stride: 4 * columns,
            gate: 4 * columns * units,
            bias: m.bias().as_ptr(),
            bias_step: if m.bias().is_empty() { 0 } else { 4 * units },
            count,
            more,
            entry,
            skipped: 4 * skipped,
            before: [0.0; 2],
        }
    }
}

macro_rules! mul {
    ($p:literal $w:literal $x:literal) => {
        concat!("vmul.f32 s", $p, ", s", $w, ", s", $x, "\n")
    };
}

macro_rules! add {
    ($acc:literal $p:literal) => {
        concat!("vadd.f32 s", $acc, ", s", $acc, ", s", $p, "\n")
    };
}

/// Columns of the row at `$p` to the accumulator `$acc`. The last product is left in s30; `$before` adds that
/// of the row before. So no result is used by the operation right behind it.
macro_rules! row {
    ($p:literal $acc:literal [$before:expr] $list:literal
     $w0:literal $x0:literal $($w:literal $x:literal $prev:literal)*; $wl:literal $xl:literal $prevl:literal) => {
        concat!(
            "vldmia ", $p, "!, {{", $list, "}}\n",
            $before,
            mul!($w0 $w0 $x0),
            $(mul!($w $w $x), add!($acc $prev),)*
            mul!(30 $wl $xl), add!($acc $prevl),
        )
    };
}

#[cfg(not(gru_cpu = "cortex-m7"))]
macro_rules! row12 {
    ($p:literal $acc:literal $before:expr) => {
        row!($p $acc [$before] "s12-s23" 12 0 13 1 12 14 2 13 15 3 14 16 4 15 17 5 16 18 6 17 19 7 18
             20 8 19 21 9 20 22 10 21; 23 11 22)
    };
}

#[cfg(not(gru_cpu = "cortex-m7"))]
macro_rules! row8 {
    ($p:literal $acc:literal $before:expr) => {
        row!($p $acc [$before] "s12-s19" 12 0 13 1 12 14 2 13 15 3 14 16 4 15 17 5 16 18 6 17; 19 7 18)
    };
}

macro_rules! row4 {
    ($p:literal $acc:literal $before:expr) => {
        row!($p $acc [$before] "s12-s15" 12 0 13 1 12 14 2 13; 15 3 14)
    };
}

#[cfg(not(gru_cpu = "cortex-m7"))]
macro_rules! row2 {
    ($p:literal $acc:literal $before:expr) => {
        row!($p $acc [$before] "s12-s13" 12 0; 13 1 12)
    };
}

/// Six rows of a block of columns.
#[cfg(not(gru_cpu = "cortex-m7"))]
macro_rules! six {
    ($row:ident) => {
        concat!(
            $row!("r2" 24 ""),
            $row!("r3" 25 add!(24 30)),
            $row!("r11" 26 add!(25 30)),
            $row!("r12" 27 add!(26 30)),
            $row!("lr" 28 add!(27 30)),
            $row!("r4" 29 add!(28 30)),
        )
    };
}

/// The loop over the columns of six rows; see [`Context::sums`].
#[cfg(not(gru_cpu = "cortex-m7"))]
macro_rules! columns {
    () => {
        concat!(
            "add r3, r2, r3\n",
            "add r11, r2, r4\n",
            "add r12, r3, r4\n",
            "add lr, r11, r4\n",
            "add r4, r12, r4\n",
            "subs r10, r10, #12\n",
            "blo 3f\n",
            "2:\n",
            "vldmia r1!, {{s0-s11}}\n",
            six!(row12),
            "subs r10, r10, #12\n",
            add!(29 30),
            "bhs 2b\n",
            "3:\n",
            "adds r10, r10, #12\n",
            "beq 6f\n",
            "lsls r5, r10, #29\n", // carry: 8, negative: 4
            "bcc 4f\n",
            "vldmia r1!, {{s0-s7}}\n",
            six!(row8),
            add!(29 30),
            "lsls r5, r10, #29\n",
            "4:\n",
            "bpl 5f\n",
            "vldmia r1!, {{s0-s3}}\n",
            six!(row4),
            add!(29 30),
            "5:\n",
            "lsls r5, r10, #31\n", // carry: 2, negative: 1
            "bcc 4f\n",
            "vldmia r1!, {{s0-s1}}\n",
            six!(row2),
            add!(29 30),
            "lsls r5, r10, #31\n",
            "4:\n",
            "bpl 6f\n",
            "vldr s0, [r1]\n",
            "vldr s12, [r2]\n",
            "vldr s13, [r3]\n",
            "vldr s14, [r11]\n",
            "vldr s15, [r12]\n",
            "vldr s16, [lr]\n",
            "vldr s17, [r4]\n",
            mul!(12 12 0), mul!(13 13 0), add!(24 12), mul!(14 14 0), add!(25 13), mul!(15 15 0),
            add!(26 14), mul!(16 16 0), add!(27 15), mul!(17 17 0), add!(28 16), add!(29 17),
            "6:\n",
        )
    };
}

/// One column of six rows: its weights are in s0 to s5 and its `x` in `$x`; in their place, those of the next
/// column, whose offset is `$next`. M7 issues a load together with a float operation.
#[cfg(gru_cpu = "cortex-m7")]
macro_rules! column {
    ($x:literal $other:literal $next:literal) => {
        concat!(
            "vmla.f32 s24, s0, s",
            $x,
            "\n",
            "vldr s0, [r2, #",
            $next,
            "]\n",
            "vmla.f32 s25, s1, s",
            $x,
            "\n",
            "vldr s1, [r3, #",
            $next,
            "]\n",
            "vmla.f32 s26, s2, s",
            $x,
            "\n",
            "vldr s2, [r11, #",
            $next,
            "]\n",
            "vmla.f32 s27, s3, s",
            $x,
            "\n",
            "vldr s3, [r9, #",
            $next,
            "]\n",
            "vldr s",
            $other,
            ", [r1, #",
            $next,
            "]\n",
            "vmla.f32 s28, s4, s",
            $x,
            "\n",
            "vldr s4, [lr, #",
            $next,
            "]\n",
            "vmla.f32 s29, s5, s",
            $x,
            "\n",
            "vldr s5, [r4, #",
            $next,
            "]\n",
        )
    };
}

/// The loop over the columns of six rows; see [`Context::sums`]. The first round starts in the middle.
#[cfg(gru_cpu = "cortex-m7")]
macro_rules! columns {
    () => {
        concat!(
            "ldrd r11, r12, [r0, #4]\n",
            "adr r5, 2f\n",
            "add r3, r2, r3\n",
            "add r5, r5, r11\n",
            "add r11, r2, r4\n",
            "add r9, r3, r4\n",
            "add lr, r11, r4\n",
            "add r4, r9, r4\n",
            "vldr s6, [r1]\n",
            "vldr s7, [r1]\n",
            "sub r1, r1, r12\n",
            "vldr s0, [r2]\n",
            "sub r2, r2, r12\n",
            "vldr s1, [r3]\n",
            "sub r3, r3, r12\n",
            "vldr s2, [r11]\n",
            "sub r11, r11, r12\n",
            "vldr s3, [r9]\n",
            "sub r9, r9, r12\n",
            "vldr s4, [lr]\n",
            "sub lr, lr, r12\n",
            "vldr s5, [r4]\n",
            "sub r4, r4, r12\n",
            "bx r5\n",
            ".p2align 2\n",
            "2:\n",
            column!(6 7 4), column!(7 6 8), column!(6 7 12), column!(7 6 16),
            column!(6 7 20), column!(7 6 24), column!(6 7 28), column!(7 6 32),
            column!(6 7 36), column!(7 6 40), column!(6 7 44), column!(7 6 48),
            column!(6 7 52), column!(7 6 56), column!(6 7 60),
            "subs r10, r10, #1\n",
            "beq 3f\n",
            "vmla.f32 s24, s0, s7\n",
            "vldr s0, [r2, #64]\n",
            "add r2, r2, #64\n",
            "vmla.f32 s25, s1, s7\n",
            "vldr s1, [r3, #64]\n",
            "add r3, r3, #64\n",
            "vmla.f32 s26, s2, s7\n",
            "vldr s2, [r11, #64]\n",
            "add r11, r11, #64\n",
            "vmla.f32 s27, s3, s7\n",
            "vldr s3, [r9, #64]\n",
            "add r9, r9, #64\n",
            "vldr s6, [r1, #64]\n",
            "add r1, r1, #64\n",
            "vmla.f32 s28, s4, s7\n",
            "vldr s4, [lr, #64]\n",
            "add lr, lr, #64\n",
            "vmla.f32 s29, s5, s7\n",
            "vldr s5, [r4, #64]\n",
            "add r4, r4, #64\n",
            "b 2b\n",
            "3:\n",
            "vmla.f32 s24, s0, s7\n",
            "vmla.f32 s25, s1, s7\n",
            "vmla.f32 s26, s2, s7\n",
            "vmla.f32 s27, s3, s7\n",
            "vmla.f32 s28, s4, s7\n",
            "vmla.f32 s29, s5, s7\n",
        )
    };
}

/// `$d = $c + $a·$b` of two lanes, product and sum rounded.
#[cfg(not(gru_cpu = "cortex-m7"))]
macro_rules! plus {
    ($([$d:literal $c:literal $a:literal $b:literal] [$d1:literal $c1:literal $a1:literal $b1:literal])*) => {
        concat!($(
            mul!(30 $a $b), mul!(31 $a1 $b1),
            "vadd.f32 s", $d, ", s", $c, ", s30\n", "vadd.f32 s", $d1, ", s", $c1, ", s31\n",
        )*)
    };
}

/// `$d = $c − $a·$b` of two lanes, product and difference rounded.
#[cfg(not(gru_cpu = "cortex-m7"))]
macro_rules! minus {
    ($([$d:literal $c:literal $a:literal $b:literal] [$d1:literal $c1:literal $a1:literal $b1:literal])*) => {
        concat!($(
            mul!(30 $a $b), mul!(31 $a1 $b1),
            "vsub.f32 s", $d, ", s", $c, ", s30\n", "vsub.f32 s", $d1, ", s", $c1, ", s31\n",
        )*)
    };
}

/// `$d = $d + $a·$b` of two lanes, product and sum rounded.
#[cfg(not(gru_cpu = "cortex-m7"))]
macro_rules! plus_in {
    ($([$d:literal $a:literal $b:literal] [$d1:literal $a1:literal $b1:literal])*) => {
        plus!($([$d $d $a $b] [$d1 $d1 $a1 $b1])*)
    };
}

/// `$d = $d − $a·$b` of two lanes, product and difference rounded.
#[cfg(not(gru_cpu = "cortex-m7"))]
macro_rules! minus_in {
    ($([$d:literal $a:literal $b:literal] [$d1:literal $a1:literal $b1:literal])*) => {
        minus!($([$d $d $a $b] [$d1 $d1 $a1 $b1])*)
    };
}

/// `$d = $a·$b − $d` of two lanes, product and difference rounded; changes `$b`.
#[cfg(not(gru_cpu = "cortex-m7"))]
macro_rules! minus_from {
    ($([$d:literal $a:literal $b:literal] [$d1:literal $a1:literal $b1:literal])*) => {
        concat!($(
            mul!($b $a $b), mul!($b1 $a1 $b1),
            "vsub.f32 s", $d, ", s", $b, ", s", $d, "\n", "vsub.f32 s", $d1, ", s", $b1, ", s", $d1, "\n",
        )*)
    };
}

/// As above with M7's chained operations, which take one issue and round twice as well.
#[cfg(gru_cpu = "cortex-m7")]
macro_rules! chained {
    ($($op:literal [$d:literal $a:literal $b:literal] [$d1:literal $a1:literal $b1:literal])*) => {
        concat!($($op, ".f32 s", $d, ", s", $a, ", s", $b, "\n", $op, ".f32 s", $d1, ", s", $a1, ", s", $b1, "\n",)*)
    };
}

#[cfg(gru_cpu = "cortex-m7")]
macro_rules! plus {
    ($([$d:literal $c:literal $a:literal $b:literal] [$d1:literal $c1:literal $a1:literal $b1:literal])*) => {
        concat!(
            $("vmov s", $d, ", s", $c, "\n", "vmov s", $d1, ", s", $c1, "\n",)*
            chained!($("vmla" [$d $a $b] [$d1 $a1 $b1])*),
        )
    };
}

#[cfg(gru_cpu = "cortex-m7")]
macro_rules! minus {
    ($([$d:literal $c:literal $a:literal $b:literal] [$d1:literal $c1:literal $a1:literal $b1:literal])*) => {
        concat!(
            $("vmov s", $d, ", s", $c, "\n", "vmov s", $d1, ", s", $c1, "\n",)*
            chained!($("vmls" [$d $a $b] [$d1 $a1 $b1])*),
        )
    };
}

#[cfg(gru_cpu = "cortex-m7")]
macro_rules! plus_in {
    ($([$d:literal $a:literal $b:literal] [$d1:literal $a1:literal $b1:literal])*) => {
        chained!($("vmla" [$d $a $b] [$d1 $a1 $b1])*)
    };
}

#[cfg(gru_cpu = "cortex-m7")]
macro_rules! minus_in {
    ($([$d:literal $a:literal $b:literal] [$d1:literal $a1:literal $b1:literal])*) => {
        chained!($("vmls" [$d $a $b] [$d1 $a1 $b1])*)
    };
}

#[cfg(gru_cpu = "cortex-m7")]
macro_rules! minus_from {
    ($([$d:literal $a:literal $b:literal] [$d1:literal $a1:literal $b1:literal])*) => {
        chained!($("vnmls" [$d $a $b] [$d1 $a1 $b1])*)
    };
}

/// Operation `$op` of several lanes.
macro_rules! lanes {
    ($op:literal $([$d:literal $a:literal $b:literal])*) => {
        concat!($($op, ".f32 s", $d, ", s", $a, ", s", $b, "\n",)*)
    };
}

/// [`math::gates`](super::math::gates) of the sums in s24 to s29 and behind R0, where no argument reaches
/// the limit; jumps to 6 otherwise, with the sums unchanged.
macro_rules! gates {
    () => {
        concat!(
            "ldrd r5, r9, [r0, #24]\n", // constants, limit
            "vmov r1, s24\n",
            "vmov r2, s25\n",
            "vmov r3, s26\n",
            "vmov r4, s27\n",
            "cmp r9, r1, lsl #1\n",
            "ittt hi\n",
            "cmphi r9, r2, lsl #1\n",
            "cmphi r9, r3, lsl #1\n",
            "cmphi r9, r4, lsl #1\n",
            "bls 26f\n",
            "vldmia r5, {{s16-s23}}\n",
            plus!([0 17 24 16] [1 17 25 16] [2 17 26 16] [3 17 27 16]),
            "vmov r1, s0\n",
            "vmov r2, s1\n",
            "vmov r3, s2\n",
            "vmov r4, s3\n",
            lanes!("vsub" [4 0 17] [5 1 17] [6 2 17] [7 3 17]), // k
            "lsls r1, r1, #23\n",
            "lsls r2, r2, #23\n",
            "lsls r3, r3, #23\n",
            "lsls r4, r4, #23\n",
            plus!([0 24 4 18] [1 25 5 18] [2 26 6 18] [3 27 7 18]), // −r of e^r
            lanes!("vmul" [4 0 0] [5 1 1] [6 2 2] [7 3 3]),
            minus!([12 21 0 22] [13 21 1 22] [14 21 2 22] [15 21 3 22]),
            minus!([8 19 0 20] [9 19 1 20] [10 19 2 20] [11 19 3 20]),
            plus_in!([12 23 4] [13 23 5] [14 23 6] [15 23 7]),
            plus_in!([8 4 12] [9 5 13] [10 6 14] [11 7 15]),
            "vmov.f32 s15, #1.0\n",
            minus_from!([0 4 8] [1 5 9] [2 6 10] [3 7 11]), // q
            "vmov s4, r1\n",
            "vmov s5, r2\n",
            "vmov s6, r3\n",
            "vmov s7, r4\n",
            lanes!("vadd" [8 4 15] [9 5 15]),
            plus_in!([8 4 0] [9 5 1]),
            plus!([10 6 6 2] [11 7 7 3]), // e^−z
            "vldr s0, [r0, #-8]\n",
            "vldr s1, [r0, #-4]\n",
            "vdiv.f32 s8, s15, s8\n", // r
            "ldrd r11, r12, [r0, #32]\n", // h, new
            "add r11, r11, r8, lsl #2\n",
            "add r12, r12, r8, lsl #2\n",
            "vdiv.f32 s9, s15, s9\n",
            "ldr r10, [r0, #40]\n", // last
            plus_in!([0 8 28] [1 9 29]),
            lanes!("vadd" [0 0 0] [1 1 1]),
            "vmov r1, s0\n",
            "vmov r2, s1\n",
            "cmp r9, r1, lsl #1\n",
            "it hi\n",
            "cmphi r9, r2, lsl #1\n",
            "bls 26f\n",
            minus!([2 17 0 16] [3 17 1 16]),
            "vmov r1, s2\n",
            "vmov r2, s3\n",
            lanes!("vsub" [4 2 17] [5 3 17]),
            "lsls r1, r1, #23\n",
            "lsls r2, r2, #23\n",
            minus_in!([0 4 18] [1 5 18]),
            lanes!("vmul" [4 0 0] [5 1 1]),
            plus!([6 21 0 22] [7 21 1 22]),
            plus!([2 19 0 20] [3 19 1 20]),
            plus_in!([6 23 4] [7 23 5]),
            plus_in!([2 4 6] [3 5 7]),
            "vldr s8, [r11]\n",
            "vldr s9, [r11, #4]\n",
            plus_in!([0 4 2] [1 5 3]), // q
            "vmov s4, r1\n",
            "vmov s5, r2\n",
            lanes!("vmul" [6 4 0] [7 5 1]),
            lanes!("vsub" [12 4 15] [13 5 15]),
            lanes!("vadd" [4 4 15] [5 5 15]),
            lanes!("vadd" [12 12 6] [13 13 7] [4 4 6] [5 5 7]),
            lanes!("vmul" [2 10 12] [3 11 13]),
            plus!([6 4 10 4] [7 5 11 5]),
            plus_in!([2 8 4] [3 9 5]),
            "vdiv.f32 s2, s2, s6\n",
            "movs r1, #0\n",
            "subs r0, r0, #96\n",
            "cmp r8, r10\n",
            "it ne\n",
            "addne r8, r8, #2\n",
            "vdiv.f32 s3, s3, s7\n",
        )
    };
}

impl<'a> Context<'a> {
    /// For the two parts of a layer. Without `gates`, [`run`](Self::run) leaves all of them to the caller.
    #[inline]
    pub(super) fn new(w: &Gates<'a>, u: &Gates<'a>, gates: bool) -> Self {
        Self {
            parts: [Part::new(w, 1), Part::new(u, 0)],
            sums: [[0.0; 2]; 3],
            constants: &GATE_CONSTANTS,
            limit: if gates { GATE_LIMIT.to_bits() << 1 } else { 0 },
            h: core::ptr::null(),
            new: core::ptr::null_mut(),
            last: 0,
            units: w.units().min(u.units()),
            borrowed: PhantomData,
        }
    }

    /// Computes pairs of units from `unit` on. Stops before a pair whose gates are the caller's, and gives
    /// its first unit and its sums. Does nothing unless `h` and `new` have a value for each unit, of which
    /// there must be two at least.
    #[inline(always)]
    pub(super) fn run(&mut self, unit: usize, h: &[f32], new: &mut [f32]) -> Option<(usize, Sums)> {
        if self.units < 2 || h.len() < self.units || new.len() < self.units {
            return None;
        }
        self.last = self.units - 2;
        (self.h, self.new) = (h.as_ptr(), new.as_mut_ptr());
        let mut unit = unit.min(self.last);
        let stopped: u32;
        // SAFETY: rows `unit` and `unit + 1` of each of the three gates lie within the weights, as
        // `Gates` guarantees; each row pointer runs through exactly `columns` values, and so does
        // that of `x`, which has as many. The biases of the two units are read only if there are
        // `3·units` of them. `h` and `new` have a value for each unit. Of the context,
        // only `before` and `sums` are written. Every register that is changed is declared.
        unsafe {
            asm!(
                "22:",
                "movs r1, #0",
                "vmov s24, r1",
                "vmov s25, r1",
                "vmov s26, r1",
                "vmov s27, r1",
                "23:",
                "ldmia r0!, {{r1-r5, r9, r10}}",
                "vstr s28, [r0, #12]", // before
                "vstr s29, [r0, #16]",
                "mla r2, r8, r3, r2",
                "add r5, r5, r8, lsl #2",
                "cmp r9, #0",
                "beq 27f",
                "vldr s0, [r5]",
                "vldr s1, [r5, #4]",
                "add r5, r5, r9",
                add!(24 0),
                "vldr s2, [r5]",
                "vldr s3, [r5, #4]",
                "add r5, r5, r9",
                add!(25 1),
                "vldr s28, [r5]",
                "vldr s29, [r5, #4]",
                add!(26 2),
                add!(27 3),
                "28:",
                columns!(),
                "ldr r5, [r0], #20",
                "cmp r5, #0",
                "bne 23b",
                gates!(),
                "vstmia r12, {{s2-s3}}",
                "beq 29f",
                "cmp r8, r10",
                "it hi",
                "movhi r8, r10",
                "b 22b",
                "27:",
                "vmov s28, r9",
                "vmov s29, r9",
                "b 28b",
                "26:",
                "vstmia r0, {{s24-s29}}",
                "movs r1, #1",
                "29:",
                inout("r0") (&raw mut *self).cast::<Part>() => _,
                inout("r8") unit,
                out("r1") stopped,
                out("r2") _, out("r3") _, out("r4") _, out("r5") _,
                out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("lr") _,
                out("s0") _, out("s1") _, out("s2") _, out("s3") _,
                out("s4") _, out("s5") _, out("s6") _, out("s7") _,
                out("s8") _, out("s9") _, out("s10") _, out("s11") _,
                out("s12") _, out("s13") _, out("s14") _, out("s15") _,
                out("s16") _, out("s17") _, out("s18") _, out("s19") _,
                out("s20") _, out("s21") _, out("s22") _, out("s23") _,
                out("s24") _, out("s25") _, out("s26") _, out("s27") _,
                out("s28") _, out("s29") _, out("s30") _, out("s31") _,
                options(nostack),
            );
        }
        let ([r, z, nh], [_, u]) = (self.sums, &self.parts);
        let nx = u.before;
        (stopped != 0).then_some((unit, Sums { r, z, nh, nx }))
    }
}

/// The rounds of eight columns of [`dot_pair`].
#[cfg(not(gru_cpu = "cortex-m7"))]
macro_rules! pair_rounds {
    () => {
        concat!(
            "2:\n",
            "vldmia r1!, {{s0-s7}}\n",
            row8!("r2" 24 ""),
            row8!("r3" 25 add!(24 30)),
            "subs r4, r4, #8\n",
            add!(25 30),
            "bhs 2b\n",
        )
    };
}

/// One column of two rows.
#[cfg(gru_cpu = "cortex-m7")]
macro_rules! pair_column {
    ($at:literal $x:literal $p:literal $q:literal) => {
        concat!(
            "vldr s",
            $x,
            ", [r1, #",
            $at,
            "]\n",
            "vldr s",
            $p,
            ", [r2, #",
            $at,
            "]\n",
            "vldr s",
            $q,
            ", [r3, #",
            $at,
            "]\n",
            "vmla.f32 s24, s",
            $p,
            ", s",
            $x,
            "\n",
            "vmla.f32 s25, s",
            $q,
            ", s",
            $x,
            "\n",
        )
    };
}

#[cfg(gru_cpu = "cortex-m7")]
macro_rules! pair_rounds {
    () => {
        concat!(
            "2:\n",
            pair_column!(0 0 4 8), pair_column!(4 1 5 9), pair_column!(8 2 6 10), pair_column!(12 3 7 11),
            pair_column!(16 0 4 8), pair_column!(20 1 5 9), pair_column!(24 2 6 10), pair_column!(28 3 7 11),
            "add r1, r1, #32\n",
            "add r2, r2, #32\n",
            "add r3, r3, #32\n",
            "subs r4, r4, #8\n",
            "bhs 2b\n",
        )
    };
}

/// Two rows. `None` unless `rows` holds two rows of `x.len()` columns.
#[inline(never)]
pub(super) fn dot_pair(rows: &[f32], x: &[f32], acc: [f32; 2]) -> Option<[f32; 2]> {
    let columns = x.len();
    if columns > MAX_DIM || rows.len() != 2 * columns {
        return None;
    }
    let mut acc = acc;
    // SAFETY: each row pointer runs through exactly `columns` values, and so does that of `x`; only the
    // array `acc` is written.
    unsafe {
        asm!(
            "vldmia r0, {{s24-s25}}",
            "subs r4, r4, #8",
            "blo 3f",
            pair_rounds!(),
            "3:",
            "adds r4, r4, #4",
            "bmi 4f",
            "vldmia r1!, {{s0-s3}}",
            row4!("r2" 24 ""),
            row4!("r3" 25 add!(24 30)),
            "subs r4, r4, #4",
            add!(25 30),
            "4:",
            "adds r4, r4, #4",
            "beq 6f",
            "5:",
            "vldmia r1!, {{s0}}",
            "vldmia r2!, {{s12}}",
            "vldmia r3!, {{s13}}",
            mul!(12 12 0),
            mul!(13 13 0),
            add!(24 12),
            "subs r4, r4, #1",
            add!(25 13),
            "bne 5b",
            "6:",
            "vstmia r0, {{s24-s25}}",
            in("r0") acc.as_mut_ptr(),
            inout("r1") x.as_ptr() => _,
            inout("r2") rows.as_ptr() => _,
            inout("r3") rows.as_ptr().wrapping_add(columns) => _,
            inout("r4") columns => _,
            out("s0") _, out("s1") _, out("s2") _, out("s3") _,
            out("s4") _, out("s5") _, out("s6") _, out("s7") _,
            out("s8") _, out("s9") _, out("s10") _, out("s11") _,
            out("s12") _, out("s13") _, out("s14") _, out("s15") _,
            out("s16") _, out("s17") _, out("s18") _, out("s19") _,
            out("s24") _, out("s25") _, out("s30") _,
            options(nostack),
        );
    }
    Some(acc)
}
