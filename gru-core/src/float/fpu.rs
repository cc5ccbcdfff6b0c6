//! The matrix loop on the single-precision FPU of Cortex-M4F, M7 and M33.
//!
//! Rust may not fuse or reorder float operations, and LLVM loads one weight at a time. These loops
//! load eight weights with one `VLDM` (1 + N cycles on M4 instead of 2N), share the loads of `x`
//! between two or six rows, and order the operations so that no result is used by the instruction
//! right behind it. M7 issues a load together with a float operation, so its loop has one load
//! behind each. `VMUL` and `VADD` take one cycle each on M4, `VFMA` three; separate rounding
//! also keeps the bits of [`dot`](super::dot::dot), which is the definition.
//!
//! One time step, estimated cycles from an instruction-timing model without wait states (programs
//! of `firmware-examples/bench`, for example `build.sh m4 w1-f32`; rustc 1.95, opt-level 3):
//!
//! | | GRU 5→32, Dense 3 | 9→64, 6 | 10→154, 12 | 6→32→32, 4 |
//! |---|---|---|---|---|
//! | M4 | 24,530 | 72,275 | 321,439 | 56,566 |
//! | M7 | 14,737 | 43,683 | 199,983 | 34,102 |
//! | M33 | 21,930 | 66,227 | 298,442 | 51,352 |
//! | M4, the portable sums | 46,407 | 133,174 | 616,671 | 107,373 |
#![allow(
    unsafe_code,
    reason = "whole-loop assembly: the FPU's multi-word loads cannot be reached otherwise"
)]

use core::arch::asm;

use super::{MAX_DIM, dot::Gates};

/// Eight weights times the eight values of `x` in s0 to s7.
macro_rules! products {
    ($w0:literal $w1:literal $w2:literal $w3:literal $w4:literal $w5:literal $w6:literal $w7:literal) => {
        concat!(
            "vmul.f32 ",
            $w0,
            ", ",
            $w0,
            ", s0\n",
            "vmul.f32 ",
            $w1,
            ", ",
            $w1,
            ", s1\n",
            "vmul.f32 ",
            $w2,
            ", ",
            $w2,
            ", s2\n",
            "vmul.f32 ",
            $w3,
            ", ",
            $w3,
            ", s3\n",
            "vmul.f32 ",
            $w4,
            ", ",
            $w4,
            ", s4\n",
            "vmul.f32 ",
            $w5,
            ", ",
            $w5,
            ", s5\n",
            "vmul.f32 ",
            $w6,
            ", ",
            $w6,
            ", s6\n",
            "vmul.f32 ",
            $w7,
            ", ",
            $w7,
            ", s7\n",
        )
    };
}

/// The two lower levels of the tree over eight products.
macro_rules! tree {
    ($w0:literal $w1:literal $w2:literal $w3:literal $w4:literal $w5:literal $w6:literal $w7:literal) => {
        concat!(
            "vadd.f32 ",
            $w0,
            ", ",
            $w0,
            ", ",
            $w4,
            "\n",
            "vadd.f32 ",
            $w1,
            ", ",
            $w1,
            ", ",
            $w5,
            "\n",
            "vadd.f32 ",
            $w2,
            ", ",
            $w2,
            ", ",
            $w6,
            "\n",
            "vadd.f32 ",
            $w3,
            ", ",
            $w3,
            ", ",
            $w7,
            "\n",
            "vadd.f32 ",
            $w0,
            ", ",
            $w0,
            ", ",
            $w2,
            "\n",
            "vadd.f32 ",
            $w1,
            ", ",
            $w1,
            ", ",
            $w3,
            "\n",
        )
    };
}

/// Eight columns of row pair `$p`, `$q` with accumulators `$a`, `$b`. `$pending` finishes the row
/// before this pair while the loads of this one are under way.
macro_rules! pair {
    ($p:literal $a:literal $q:literal $b:literal $pending_tree:literal $pending_acc:literal) => {
        concat!(
            "vldmia ", $p, "!, {{s8-s15}}\n",
            $pending_tree,
            products!("s8" "s9" "s10" "s11" "s12" "s13" "s14" "s15"),
            $pending_acc,
            tree!("s8" "s9" "s10" "s11" "s12" "s13" "s14" "s15"),
            "vldmia ", $q, "!, {{s24-s31}}\n",
            "vadd.f32 s8, s8, s9\n",
            products!("s24" "s25" "s26" "s27" "s28" "s29" "s30" "s31"),
            "vadd.f32 ", $a, ", ", $a, ", s8\n",
            tree!("s24" "s25" "s26" "s27" "s28" "s29" "s30" "s31"),
        )
    };
}

/// Four columns of row pair `$p`, `$q`, one after the other, the two rows interleaved.
macro_rules! four {
    ($p:literal $a:literal $q:literal $b:literal) => {
        concat!(
            "vldmia ",
            $p,
            "!, {{s8-s11}}\n",
            "vldmia ",
            $q,
            "!, {{s12-s15}}\n",
            "vmul.f32 s8, s8, s0\n",
            "vmul.f32 s12, s12, s0\n",
            "vmul.f32 s9, s9, s1\n",
            "vmul.f32 s13, s13, s1\n",
            "vmul.f32 s10, s10, s2\n",
            "vmul.f32 s14, s14, s2\n",
            "vmul.f32 s11, s11, s3\n",
            "vmul.f32 s15, s15, s3\n",
            "vadd.f32 ",
            $a,
            ", ",
            $a,
            ", s8\n",
            "vadd.f32 ",
            $b,
            ", ",
            $b,
            ", s12\n",
            "vadd.f32 ",
            $a,
            ", ",
            $a,
            ", s9\n",
            "vadd.f32 ",
            $b,
            ", ",
            $b,
            ", s13\n",
            "vadd.f32 ",
            $a,
            ", ",
            $a,
            ", s10\n",
            "vadd.f32 ",
            $b,
            ", ",
            $b,
            ", s14\n",
            "vadd.f32 ",
            $a,
            ", ",
            $a,
            ", s11\n",
            "vadd.f32 ",
            $b,
            ", ",
            $b,
            ", s15\n",
        )
    };
}

/// One column of row pair `$p`, `$q`.
macro_rules! single {
    ($p:literal $a:literal $q:literal $b:literal) => {
        concat!(
            "vldmia ",
            $p,
            "!, {{s8}}\n",
            "vldmia ",
            $q,
            "!, {{s9}}\n",
            "vmul.f32 s8, s8, s0\n",
            "vmul.f32 s9, s9, s0\n",
            "vadd.f32 ",
            $a,
            ", ",
            $a,
            ", s8\n",
            "vadd.f32 ",
            $b,
            ", ",
            $b,
            ", s9\n",
        )
    };
}

/// Eight columns of one row for M7, which issues a load with a float operation: products of the
/// weights `$w` with `x` in s0 to s7, the upper levels of the tree over the row before, whose
/// products are in `$p` and whose accumulator is `$acc`, and in its place the weights of the next
/// row from `$next`. No result is used by the two operations behind it. The row's own last
/// three additions are left to the next one.
#[cfg(gru_cpu = "cortex-m7")]
macro_rules! row_m7 {
    ([$w0:literal $w1:literal $w2:literal $w3:literal $w4:literal $w5:literal $w6:literal $w7:literal]
     [$p0:literal $p1:literal $p2:literal $p3:literal $p4:literal $p5:literal $p6:literal $p7:literal]
     $acc:literal $next:literal) => {
        concat!(
            "vmul.f32 ",
            $w0,
            ", ",
            $w0,
            ", s0\n",
            "vadd.f32 ",
            $p1,
            ", ",
            $p1,
            ", ",
            $p3,
            "\n",
            "vmul.f32 ",
            $w1,
            ", ",
            $w1,
            ", s1\n",
            "vldr ",
            $p4,
            ", [",
            $next,
            ", #16]\n",
            "vmul.f32 ",
            $w2,
            ", ",
            $w2,
            ", s2\n",
            "vldr ",
            $p5,
            ", [",
            $next,
            ", #20]\n",
            "vmul.f32 ",
            $w3,
            ", ",
            $w3,
            ", s3\n",
            "vldr ",
            $p6,
            ", [",
            $next,
            ", #24]\n",
            "vadd.f32 ",
            $p0,
            ", ",
            $p0,
            ", ",
            $p1,
            "\n",
            "vldr ",
            $p7,
            ", [",
            $next,
            ", #28]\n",
            "vmul.f32 ",
            $w4,
            ", ",
            $w4,
            ", s4\n",
            "vldr ",
            $p2,
            ", [",
            $next,
            ", #8]\n",
            "vmul.f32 ",
            $w5,
            ", ",
            $w5,
            ", s5\n",
            "vldr ",
            $p3,
            ", [",
            $next,
            ", #12]\n",
            "vmul.f32 ",
            $w6,
            ", ",
            $w6,
            ", s6\n",
            "vldr ",
            $p1,
            ", [",
            $next,
            ", #4]\n",
            "vadd.f32 ",
            $acc,
            ", ",
            $acc,
            ", ",
            $p0,
            "\n",
            "vmul.f32 ",
            $w7,
            ", ",
            $w7,
            ", s7\n",
            "vldr ",
            $p0,
            ", [",
            $next,
            ", #0]\n",
            "vadd.f32 ",
            $w0,
            ", ",
            $w0,
            ", ",
            $w4,
            "\n",
            "add ",
            $next,
            ", ",
            $next,
            ", #32",
            "\n",
            "vadd.f32 ",
            $w2,
            ", ",
            $w2,
            ", ",
            $w6,
            "\n",
            "vadd.f32 ",
            $w1,
            ", ",
            $w1,
            ", ",
            $w5,
            "\n",
            "vadd.f32 ",
            $w3,
            ", ",
            $w3,
            ", ",
            $w7,
            "\n",
            "vadd.f32 ",
            $w0,
            ", ",
            $w0,
            ", ",
            $w2,
            "\n",
        )
    };
    ([$w0:literal $w1:literal $w2:literal $w3:literal $w4:literal $w5:literal $w6:literal $w7:literal]
     [$p0:literal $p1:literal $p2:literal $p3:literal $p4:literal $p5:literal $p6:literal $p7:literal]
     $acc:literal) => {
        concat!(
            "vmul.f32 ",
            $w0,
            ", ",
            $w0,
            ", s0\n",
            "vadd.f32 ",
            $p1,
            ", ",
            $p1,
            ", ",
            $p3,
            "\n",
            "vmul.f32 ",
            $w1,
            ", ",
            $w1,
            ", s1\n",
            "vmul.f32 ",
            $w2,
            ", ",
            $w2,
            ", s2\n",
            "vmul.f32 ",
            $w3,
            ", ",
            $w3,
            ", s3\n",
            "vadd.f32 ",
            $p0,
            ", ",
            $p0,
            ", ",
            $p1,
            "\n",
            "vmul.f32 ",
            $w4,
            ", ",
            $w4,
            ", s4\n",
            "vmul.f32 ",
            $w5,
            ", ",
            $w5,
            ", s5\n",
            "vmul.f32 ",
            $w6,
            ", ",
            $w6,
            ", s6\n",
            "vadd.f32 ",
            $acc,
            ", ",
            $acc,
            ", ",
            $p0,
            "\n",
            "vmul.f32 ",
            $w7,
            ", ",
            $w7,
            ", s7\n",
            "vadd.f32 ",
            $w0,
            ", ",
            $w0,
            ", ",
            $w4,
            "\n",
            "vadd.f32 ",
            $w2,
            ", ",
            $w2,
            ", ",
            $w6,
            "\n",
            "vadd.f32 ",
            $w1,
            ", ",
            $w1,
            ", ",
            $w5,
            "\n",
            "vadd.f32 ",
            $w3,
            ", ",
            $w3,
            ", ",
            $w7,
            "\n",
            "vadd.f32 ",
            $w0,
            ", ",
            $w0,
            ", ",
            $w2,
            "\n",
        )
    };
}

/// The rounds of eight columns of [`dot_gates`].
#[cfg(not(gru_cpu = "cortex-m7"))]
macro_rules! rounds {
    () => {
        concat!(
            "2:\n",
            "vldmia {x}!, {{s0-s7}}\n",
            pair!("{r0}" "s16" "{r1}" "s17" "" ""),
            pair!("{z0}" "s18" "{z1}" "s19" "vadd.f32 s24, s24, s25\n" "vadd.f32 s17, s17, s24\n"),
            pair!("{n0}" "s20" "{n1}" "s21" "vadd.f32 s24, s24, s25\n" "vadd.f32 s19, s19, s24\n"),
            "subs {k}, {k}, #8\n",
            "vadd.f32 s24, s24, s25\n",
            "vadd.f32 s21, s21, s24\n",
            "bhs 2b\n",
        )
    };
}

/// The rounds of eight columns of [`dot_gates`]. Before the first one there is nothing to add up:
/// -0.0 changes no number.
#[cfg(gru_cpu = "cortex-m7")]
macro_rules! rounds {
    () => {
        concat!(
            "mov {bias}, #0x80000000\n",
            "vmov s24, {bias}\n",
            "vmov s25, {bias}\n",
            "vmov s27, {bias}\n",
            "2:\n",
            // The row of unit A's reset gate, whose weights and `x` come with it.
            "vldr s0, [{x}, #0]\n",
            "vldr s8, [{r0}, #0]\n",
            "vldr s1, [{x}, #4]\n",
            "vldr s9, [{r0}, #4]\n",
            "vldr s2, [{x}, #8]\n",
            "vldr s10, [{r0}, #8]\n",
            "vldr s3, [{x}, #12]\n",
            "vldr s11, [{r0}, #12]\n",
            "vmul.f32 s8, s8, s0\n",
            "vldr s4, [{x}, #16]\n",
            "vadd.f32 s25, s25, s27\n",
            "vldr s12, [{r0}, #16]\n",
            "vmul.f32 s9, s9, s1\n",
            "vldr s5, [{x}, #20]\n",
            "vmul.f32 s10, s10, s2\n",
            "vldr s13, [{r0}, #20]\n",
            "vmul.f32 s11, s11, s3\n",
            "vldr s6, [{x}, #24]\n",
            "vadd.f32 s24, s24, s25\n",
            "vldr s14, [{r0}, #24]\n",
            "vmul.f32 s12, s12, s4\n",
            "vldr s7, [{x}, #28]\n",
            "vmul.f32 s13, s13, s5\n",
            "vldr s15, [{r0}, #28]\n",
            "vmul.f32 s14, s14, s6\n",
            "vldr s28, [{r1}, #16]\n",
            "vadd.f32 s21, s21, s24\n",
            "vldr s29, [{r1}, #20]\n",
            "vmul.f32 s15, s15, s7\n",
            "vldr s30, [{r1}, #24]\n",
            "vadd.f32 s8, s8, s12\n",
            "vldr s31, [{r1}, #28]\n",
            "vadd.f32 s10, s10, s14\n",
            "vldr s26, [{r1}, #8]\n",
            "vadd.f32 s9, s9, s13\n",
            "vldr s27, [{r1}, #12]\n",
            "vadd.f32 s11, s11, s15\n",
            "vldr s25, [{r1}, #4]\n",
            "vadd.f32 s8, s8, s10\n",
            "vldr s24, [{r1}, #0]\n",
            "add {r1}, {r1}, #32\n",
            row_m7!(["s24" "s25" "s26" "s27" "s28" "s29" "s30" "s31"]
                    ["s8" "s9" "s10" "s11" "s12" "s13" "s14" "s15"] "s16" "{z0}"),
            row_m7!(["s8" "s9" "s10" "s11" "s12" "s13" "s14" "s15"]
                    ["s24" "s25" "s26" "s27" "s28" "s29" "s30" "s31"] "s17" "{z1}"),
            row_m7!(["s24" "s25" "s26" "s27" "s28" "s29" "s30" "s31"]
                    ["s8" "s9" "s10" "s11" "s12" "s13" "s14" "s15"] "s18" "{n0}"),
            row_m7!(["s8" "s9" "s10" "s11" "s12" "s13" "s14" "s15"]
                    ["s24" "s25" "s26" "s27" "s28" "s29" "s30" "s31"] "s19" "{n1}"),
            row_m7!(["s24" "s25" "s26" "s27" "s28" "s29" "s30" "s31"]
                    ["s8" "s9" "s10" "s11" "s12" "s13" "s14" "s15"] "s20"),
            "add {x}, {x}, #32\n",
            "add {r0}, {r0}, #32\n",
            "subs {k}, {k}, #8\n",
            "bhs 2b\n",
            "vadd.f32 s25, s25, s27\n",
            "vadd.f32 s24, s24, s25\n",
            "vadd.f32 s21, s21, s24\n",
        )
    };
}

/// Two units of a GRU, six rows; see [`dot_gates`](super::dot::dot_gates). Does nothing when the
/// sizes do not fit.
///
/// Always inlined: the registers s16 to s31 are then saved once per layer, not once per pair.
#[inline(always)]
pub(super) fn dot_gates(m: &Gates<'_>, unit: usize, x: &[f32], acc: &mut [f32; 6]) {
    let (units, columns) = (m.units(), m.columns());
    if unit + 2 > units || x.len() != columns {
        return;
    }
    let gate = units * columns;
    let row = m.weights().as_ptr().wrapping_add(unit * columns);
    let bias = m.bias().as_ptr().wrapping_add(unit);
    let bias_step = if m.bias().is_empty() { 0 } else { 4 * units };
    // SAFETY: rows `unit` and `unit + 1` of each of the three gates lie within the weights, as
    // `Gates` guarantees; each row pointer is advanced by exactly `columns` values, and so is that
    // of `x`: eight for each round of the first loop, four in the middle, one for each round of
    // the last. The biases of the two units are read only if there are `3·units` of them. Only the
    // array `acc` is written. Every register that is changed is declared.
    unsafe {
        asm!(
            "vldmia {acc}, {{s16-s21}}",
            "cmp {step}, #0",
            "beq 1f",
            "vldmia {bias}, {{s0-s1}}",
            "add {bias}, {bias}, {step}",
            "vldmia {bias}, {{s2-s3}}",
            "add {bias}, {bias}, {step}",
            "vldmia {bias}, {{s4-s5}}",
            "vadd.f32 s16, s16, s0",
            "vadd.f32 s17, s17, s1",
            "vadd.f32 s18, s18, s2",
            "vadd.f32 s19, s19, s3",
            "vadd.f32 s20, s20, s4",
            "vadd.f32 s21, s21, s5",
            "1:",
            "subs {k}, {k}, #8",
            "blo 3f",
            rounds!(),
            "3:",
            "adds {k}, {k}, #4",
            "bmi 4f",
            "vldmia {x}!, {{s0-s3}}",
            four!("{r0}" "s16" "{r1}" "s17"),
            four!("{z0}" "s18" "{z1}" "s19"),
            four!("{n0}" "s20" "{n1}" "s21"),
            "subs {k}, {k}, #4",
            "4:",
            "adds {k}, {k}, #4",
            "beq 6f",
            "5:",
            "vldmia {x}!, {{s0}}",
            single!("{r0}" "s16" "{r1}" "s17"),
            single!("{z0}" "s18" "{z1}" "s19"),
            single!("{n0}" "s20" "{n1}" "s21"),
            "subs {k}, {k}, #1",
            "bne 5b",
            "6:",
            "vstmia {acc}, {{s16-s21}}",
            acc = in(reg) acc.as_mut_ptr(),
            k = inout(reg) columns => _,
            x = inout(reg) x.as_ptr() => _,
            r0 = inout(reg) row => _,
            r1 = inout(reg) row.wrapping_add(columns) => _,
            z0 = inout(reg) row.wrapping_add(gate) => _,
            z1 = inout(reg) row.wrapping_add(gate + columns) => _,
            n0 = inout(reg) row.wrapping_add(2 * gate) => _,
            n1 = inout(reg) row.wrapping_add(2 * gate + columns) => _,
            bias = inout(reg) bias => _,
            step = in(reg) bias_step,
            out("s0") _, out("s1") _, out("s2") _, out("s3") _,
            out("s4") _, out("s5") _, out("s6") _, out("s7") _,
            out("s8") _, out("s9") _, out("s10") _, out("s11") _,
            out("s12") _, out("s13") _, out("s14") _, out("s15") _,
            out("s16") _, out("s17") _, out("s18") _, out("s19") _,
            out("s20") _, out("s21") _,
            out("s24") _, out("s25") _, out("s26") _, out("s27") _,
            out("s28") _, out("s29") _, out("s30") _, out("s31") _,
            options(nostack),
        );
    }
}

/// Two rows. `None` unless `rows` holds two rows of `x.len()` columns.
#[inline(never)]
pub(super) fn dot_pair(rows: &[f32], x: &[f32], acc: [f32; 2]) -> Option<[f32; 2]> {
    let columns = x.len();
    if columns > MAX_DIM || rows.len() != 2 * columns {
        return None;
    }
    let mut acc = acc;
    // SAFETY: as in `dot_gates`, with two rows.
    unsafe {
        asm!(
            "vldmia {acc}, {{s16-s17}}",
            "subs {k}, {k}, #8",
            "blo 3f",
            "2:",
            "vldmia {x}!, {{s0-s7}}",
            pair!("{p}" "s16" "{q}" "s17" "" ""),
            "subs {k}, {k}, #8",
            "vadd.f32 s24, s24, s25",
            "vadd.f32 s17, s17, s24",
            "bhs 2b",
            "3:",
            "adds {k}, {k}, #4",
            "bmi 4f",
            "vldmia {x}!, {{s0-s3}}",
            four!("{p}" "s16" "{q}" "s17"),
            "subs {k}, {k}, #4",
            "4:",
            "adds {k}, {k}, #4",
            "beq 6f",
            "5:",
            "vldmia {x}!, {{s0}}",
            single!("{p}" "s16" "{q}" "s17"),
            "subs {k}, {k}, #1",
            "bne 5b",
            "6:",
            "vstmia {acc}, {{s16-s17}}",
            acc = in(reg) acc.as_mut_ptr(),
            k = inout(reg) columns => _,
            x = inout(reg) x.as_ptr() => _,
            p = inout(reg) rows.as_ptr() => _,
            q = inout(reg) rows.as_ptr().wrapping_add(columns) => _,
            out("s16") _, out("s17") _,
            out("s0") _, out("s1") _, out("s2") _, out("s3") _,
            out("s4") _, out("s5") _, out("s6") _, out("s7") _,
            out("s8") _, out("s9") _, out("s10") _, out("s11") _,
            out("s12") _, out("s13") _, out("s14") _, out("s15") _,
            out("s24") _, out("s25") _, out("s26") _, out("s27") _,
            out("s28") _, out("s29") _, out("s30") _, out("s31") _,
            options(nostack),
        );
    }
    Some(acc)
}
