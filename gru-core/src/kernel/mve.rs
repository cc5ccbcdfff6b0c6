//! The kernel for cores with the M-profile vector extension (Cortex-M55, M85).
//!
//! Six rows at once (two units, three gates) share each load of eight activations; a widening load
//! brings eight weights, `VMLADAVA.S16` adds eight products to a core register. The layout puts the
//! six times eight weights side by side, so that one pointer runs through a whole block. Then the
//! gates of four units are computed in the lanes of vectors: `VMULH.S32` by `multiplier << 16` is
//! [`crate::quant::requantize`] exactly.
//!
//! The length of every loop depends on the model's shape only, and so does every address but those
//! of the tanh table, which is read by a gather.

use super::portable::Portable;
use super::{Kernel, PORTABLE};
use crate::activation::TANH_TABLE;
use crate::layout::{Layout, ROW_PARAMS, UNIT_PARAMS};
use crate::model::{DenseLayer, GruLayer};
use crate::quant::requantize_dense;
use core::arch::asm;
use core::mem::offset_of;

/// The vector extension.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Mve;

/// Units of a block.
const LANES: usize = 4;

/// What the assembly of a layer reads.
#[repr(C)]
struct Context {
    x: *const i16,
    input: usize,
    h: *const i16,
    units: usize,
    h_of_block: *const i16,
    /// Four values before those of the first block, and those of the last one.
    before: *mut i16,
    half: i32,
    shift: i32,
    last: *const i16,
    /// Bytes from the second pair's weights of W to the first one's of U.
    first: isize,
    w_shift: u32,
    /// From the first pair's weights of U to the second one's.
    second: isize,
    /// From the second pair's weights of U back to the second one's of W.
    back: isize,
}

const _: () = assert!(
    offset_of!(Context, h_of_block) == 16
        && offset_of!(Context, half) == 24
        && offset_of!(Context, last) == 32
        && offset_of!(Context, first) == 36
        && offset_of!(Context, w_shift) == 40
        && offset_of!(Context, second) == 44
        && offset_of!(Context, back) == 48,
    "the assembly has these offsets"
);

/// Where the parameters of a block's units start, in the order of the lanes: an instruction writes lanes 0 and
/// 2, or 1 and 3.
static OFFSETS: [usize; LANES] = [0, 2 * UNIT_PARAMS, UNIT_PARAMS, 3 * UNIT_PARAMS];

const _: () = assert!(
    UNIT_PARAMS == size_of::<[i16; 8]>(),
    "the assembly makes the offsets of states from those of parameters"
);

impl Kernel for Mve {
    const NAME: &'static str = "mve";
    const LAYOUT: Layout = Layout::Vector;

    fn gru(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
        let (input, units) = (layer.input(), layer.units());
        let blocks = units.div_ceil(LANES);
        // What the loader and the caller promise, once more, for the addresses in the assembly.
        if input == 0
            || units == 0
            || x.len() < input
            || h.len() < blocks * LANES
            || out.len() < blocks * LANES
            || layer.blocks.len() < blocks * Layout::Vector.gru_block_len(input, units)
            || !layer.blocks.as_ptr().addr().is_multiple_of(4)
        {
            if PORTABLE {
                Portable::gru(layer, x, h, out);
            }
            return;
        }
        let pair = |n| (Layout::Vector.gru_part_len(n) / 2) as isize;
        let (w, u) = (pair(input), pair(units));
        let context = Context {
            x: x.as_ptr(),
            input,
            h: h.as_ptr(),
            units,
            h_of_block: h.as_ptr(),
            before: out.as_mut_ptr().wrapping_sub(LANES),
            half: 32768,
            shift: (layer.nh_shift & 7) as i32 - 16,
            last: out.as_ptr().wrapping_add((blocks - 1) * LANES),
            first: w,
            w_shift: (layer.w_shift & 7) as u32,
            second: u,
            back: -(w + u),
        };
        #[allow(unsafe_code, reason = "vector instructions")]
        // SAFETY: as checked above, `blocks` blocks are there, at a multiple of four, and four
        // values of `h` and `out` for each; `x` and `h` have a value for every column.
        unsafe {
            layer_blocks(layer.blocks.as_ptr(), context);
        }
    }

    fn dense(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
        let (input, units) = (layer.input(), layer.units());
        let weights_len = Layout::Vector.dense_weights_len(input, units);
        if input == 0 || x.len() < input {
            if PORTABLE {
                Portable::dense(layer, x, out);
            }
            return;
        }
        let (weights, params) = layer
            .bytes
            .split_at_checked(weights_len)
            .unwrap_or_default();
        let width = LANES * Layout::Vector.columns(input);
        let mut rest = weights;
        // `by_ref`: as in `portable::dense_any`.
        let mut params = params.chunks_exact(LANES * ROW_PARAMS);
        for (params, out) in params.by_ref().zip(out.chunks_mut(LANES)) {
            // Not `chunks_exact`: its check of the width stays in the linked image.
            let Some((rows, others)) = rest.split_at_checked(width) else {
                return;
            };
            rest = others;
            #[allow(unsafe_code, reason = "vector instructions")]
            // SAFETY: `rows` are four rows of `input` columns, padded; `x` is as long as a row.
            let sums = unsafe { sum_rows(rows.as_ptr(), x.as_ptr(), input) };
            let params = params.as_chunks::<ROW_PARAMS>().0;
            for ((out, p), acc) in out.iter_mut().zip(params).zip(sums) {
                let [m0, m1, m2, m3, b0, b1, b2, b3] = *p;
                let multiplier = i32::from_le_bytes([m0, m1, m2, m3]);
                *out = requantize_dense(acc, multiplier, i32::from_le_bytes([b0, b1, b2, b3]));
            }
        }
    }

    fn store(new: &[i16], h: &mut [i16]) {
        let n = new.len().min(h.len());
        if n == 0 {
            return;
        }
        #[allow(unsafe_code, reason = "vector instructions")]
        // SAFETY: the loads and stores are predicated to `n` values, which both slices have.
        unsafe {
            asm!(
                "dlstp.16 lr, {n}",
                "2:",
                "vldrh.u16 q0, [{new}], #16",
                "vstrh.16 q0, [{h}], #16",
                "letp lr, 2b",
                n = in(reg) n,
                new = inout(reg) new.as_ptr() => _,
                h = inout(reg) h.as_mut_ptr() => _,
                out("lr") _, out("q0") _,
                options(nostack),
            );
        }
    }
}

/// Does nothing, and the compiler makes no vectors of a loop that has it: those of a loop over a few outputs are
/// no faster and take 100 bytes of stack.
#[inline(always)]
pub(crate) fn scalar() {
    #[allow(
        unsafe_code,
        reason = "the only statement that the compiler does not repeat"
    )]
    // SAFETY: no instruction.
    unsafe {
        asm!("", options(nomem, nostack, preserves_flags));
    }
}

/// Six rows over the columns of one part; R1 runs through the weights: six times eight of them belong
/// to eight activations at R3, of which there are R5.
macro_rules! sum_loop {
    () => {
        "dlstp.16 lr, r5
        2:
        vldrh.u16 q0, [r3], #16
        vldrb.s16 q1, [r1, #8]
        vmladava.s16 r2, q0, q1
        vldrb.s16 q2, [r1, #16]
        vmladava.s16 r4, q0, q2
        vldrb.s16 q1, [r1, #24]
        vmladava.s16 r8, q0, q1
        vldrb.s16 q2, [r1, #32]
        vmladava.s16 r10, q0, q2
        vldrb.s16 q1, [r1, #40]
        vmladava.s16 r12, q0, q1
        vldrb.s16 q2, [r1], #48
        vmladava.s16 r0, q0, q2
        letp lr, 2b
        "
    };
}

/// The sums of three rows of two units over both parts, to lanes `$a` and `$b` of Q3 (reset), Q4 (update), Q5
/// and Q6 (the candidate's input part and its recurrent part): those of the gates go on over the state, shifted.
/// `$first` and `$second` are instructions that come after it, put where they cost nothing.
macro_rules! sum_pair {
    ($shift_and_jump:literal, $a:literal, $b:literal, $first:literal, $second:literal) => {
        concat!(
            "ldrd r3, r5, [r9]
            movs r0, #0
            movs r2, #0
            movs r4, #0
            mov r8, r0
            mov r10, r0
            mov r12, r0
            ",
            sum_loop!(),
            "ldrd ",
            $shift_and_jump,
            "
            vmov q5[",
            $b,
            "], q5[",
            $a,
            "], r4, r12
            lsls r0, r3
            lsls r2, r3
            lsl r8, r8, r3
            lsl r10, r10, r3
            add r1, r5
            ldrd r3, r5, [r9, #8]
            movs r4, #0
            mov r12, r4
            ",
            sum_loop!(),
            "vmov q3[",
            $b,
            "], q3[",
            $a,
            "], r0, r8
            ",
            $first,
            "
            vmov q4[",
            $b,
            "], q4[",
            $a,
            "], r2, r10
            ",
            $second,
            "
            vmov q6[",
            $b,
            "], q6[",
            $a,
            "], r4, r12"
        )
    };
}

/// All blocks of a layer.
///
/// First the sums of twelve rows' two parts. Then the gates of four units, as
/// [`super::portable::main_unit`] has them: pre-activations are saturated by `VQSHL #16`, so they
/// stand in the upper halves of the lanes, and the lower halves, which saturation fills with ones,
/// are shifted out. What that leaves at the top of a lane is the fraction times 2^25; `VMULH.U32` by the
/// segment's rise times 2^15 is their product times 2^8. Instructions of the three
/// pipes (loads and stores, shifts and additions, products and widenings) alternate, which each occupy for two cycles.
///
/// # Safety
/// `blocks` points to the blocks of a layer, at a multiple of four, as many as there are groups of
/// four values behind `context.before` up to that at `context.last`; `context.h_of_block` has as many values.
/// `context.x` has `context.input` values, `context.h` `context.units`; both numbers are positive.
#[allow(unsafe_code, reason = "vector instructions")]
#[inline(always)]
unsafe fn layer_blocks(blocks: *const u8, context: Context) {
    let mut context = context;
    // SAFETY: the loads of a loop's last round are predicated, so the activations read are those
    // that the caller promises; the tanh table's 512 words are read by indices of 9 bits around
    // its middle; only `out` is written. R6 and R7, which no operand may be,
    // are saved.
    unsafe {
        asm!(
            "push {{r6, r7}}",
            "ldrd r6, r7, [r9, #16]",
            "vldrw.u32 q7, [r3]",
            "3:",
            sum_pair!("r5, r3, [r9, #36]", "0", "2", "ldr r5, [r9, #48]", "add r1, r5"),
            sum_pair!("r3, r5, [r9, #40]", "1", "3", "vadd.i32 q0, q7, r1", "vldrw.u32 q1, [q0]"), // mu_r, mu_z
            "vshllb.u16 q2, q1, #16",
            "ldrd r0, r2, [r9, #24]",
            "vmulh.s32 q3, q3, q2",
            "adds r1, #64",
            "vshllt.u16 q2, q1, #16",
            "vldrw.u32 q1, [q0, #8]", // b_r, b_z
            "vmulh.s32 q4, q4, q2",
            "ldr r4, [r9, #32]",
            "vmovlb.s16 q2, q1",
            "vadd.i32 q3, q3, q2",
            "vmovlt.s16 q2, q1",
            "vldrw.u32 q1, [q0, #4]", // mw_n, mu_n
            "vadd.i32 q4, q4, q2",
            "vshllb.u16 q2, q1, #16",
            "vqshl.s32 q3, q3, #16", // v_r
            "vmulh.s32 q5, q5, q2",
            "vqshl.s32 q4, q4, #16", // v_z
            "vshllt.u16 q2, q1, #16",
            "vldrw.u32 q1, [q0, #12]", // b_nx, b_nh
            "vmulh.s32 q6, q6, q2",
            "vshr.s32 q0, q3, #23",
            "vmovlb.s16 q2, q1",
            "vadd.i32 q5, q5, q2", // nx
            "vmovlt.s16 q2, q1",
            "vldrw.u32 q1, [r11, q0, uxtw #2]",
            "vadd.i32 q6, q6, q2",
            "vshllb.s16 q2, q1, #15",
            "vshl.i32 q3, q3, #9",
            "vqmovnb.s32 q6, q6",
            "vshr.s32 q0, q4, #23",
            "vmulh.u32 q3, q3, q2",
            "vldrw.u32 q2, [r11, q0, uxtw #2]",
            "vadd.i32 q3, q3, q1",
            "vmovlb.s16 q6, q6", // nh
            "vshr.s32 q3, q3, #16",
            "vadd.i32 q3, q3, r0", // r
            "vshl.i32 q4, q4, #9",
            "vmul.i32 q6, q6, q3",
            "vshr.u32 q3, q7, #3",
            "vshllb.s16 q0, q2, #15",
            "vldrh.s32 q1, [r6, q3]",
            "vmulh.u32 q4, q4, q0",
            "adds r6, #8",
            "vshl.s32 q6, r2",
            "vadd.i32 q4, q4, q2",
            "mov r5, #65536",
            "vadd.i32 q6, q6, q5",
            "adds r7, #8",
            "vqshl.s32 q6, q6, #16", // v_n
            "vshr.s32 q0, q6, #23",
            "vldrw.u32 q5, [r11, q0, uxtw #2]",
            "vshr.s32 q4, q4, #16",
            "vshllb.s16 q0, q5, #15",
            "vshl.i32 q6, q6, #9",
            "vmulh.u32 q6, q6, q0",
            "vadd.i32 q6, q6, q5",
            "vadd.i32 q4, q4, r0", // z
            "vshr.s32 q6, q6, #16", // n
            "vsub.i32 q1, q1, q6",
            "vmul.i32 q1, q1, q4",
            "cmp r7, r4",
            "vmla.i32 q1, q6, r5",
            "vrshr.s32 q1, q1, #16", // h' = n + z·(h − n)
            "vstrh.32 q1, [r7, q3]",
            "bne 3b",
            "pop {{r6, r7}}",
            inout("r3") &OFFSETS => _,
            inout("r1") blocks => _,
            in("r9") &raw mut context,
            in("r11") TANH_TABLE.as_ptr().wrapping_add(256),
            out("r0") _, out("r2") _, out("r4") _, out("r5") _,
            out("r8") _, out("r10") _, out("r12") _, out("lr") _,
            out("q0") _, out("q1") _, out("q2") _, out("q3") _,
            out("q4") _, out("q5") _, out("q6") _, out("q7") _,
        );
    }
}

/// `Σ w·x` of four rows.
///
/// # Safety
/// `weights` points to `n` columns (at least one, padded to a multiple of eight) of four rows,
/// eight columns of each after the other; `x` points to `n` values.
#[allow(unsafe_code, reason = "vector instructions")]
#[inline(always)]
unsafe fn sum_rows(weights: *const u8, x: *const i16, n: usize) -> [i32; LANES] {
    let (mut a, mut b, mut c, mut d) = (0, 0, 0, 0);
    // SAFETY: reads within the rows and the `n` values, since the loads of a loop's last round are
    // predicated.
    unsafe {
        asm!(
            "dlstp.16 lr, {n}",
            "2:",
            "vldrh.u16 q0, [{x}], #16",
            "vldrb.s16 q1, [r1, #8]",
            "vmladava.s16 r2, q0, q1",
            "vldrb.s16 q2, [r1, #16]",
            "vmladava.s16 r4, q0, q2",
            "vldrb.s16 q1, [r1, #24]",
            "vmladava.s16 r8, q0, q1",
            "vldrb.s16 q2, [r1], #32",
            "vmladava.s16 r0, q0, q2",
            "letp lr, 2b",
            n = in(reg) n,
            x = inout(reg) x => _,
            inout("r1") weights => _,
            inout("r0") a, inout("r2") b, inout("r4") c, inout("r8") d,
            out("lr") _, out("q0") _, out("q1") _, out("q2") _,
            options(nostack, readonly),
        );
    }
    [a, b, c, d]
}
