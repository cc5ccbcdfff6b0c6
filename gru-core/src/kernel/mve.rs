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

use super::Kernel;
use super::portable::Portable;
use crate::activation::TANH_TABLE;
use crate::layout::{GATES, Layout, ROW_PARAMS, UNIT_PARAMS};
use crate::model::{DenseLayer, GruLayer};
use crate::quant::requantize_dense;
use core::arch::asm;

/// The vector extension.
#[derive(Debug, Clone, Copy)]
pub struct Mve;

/// Units of a block.
const LANES: usize = 4;

/// The sums of a block's rows, `[part][gate][unit]`.
type Sums = [[[i32; LANES]; GATES]; 2];

impl Kernel for Mve {
    const NAME: &'static str = "mve";
    const LAYOUT: Layout = Layout::Vector;

    fn gru(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
        let (input, units) = (layer.input(), layer.units());
        let block_len = Layout::Vector.gru_block_len(input, units);
        // What the loader and the caller promise, once more, for the addresses below.
        if input == 0
            || units == 0
            || x.len() < input
            || h.len() < units
            || layer.blocks.as_ptr().addr() % 4 != 0
        {
            return Portable::gru(layer, x, h, out);
        }
        let shift = (layer.nh_shift & 7) as i32 - 16;
        let mut sums = Sums::default();
        let blocks = layer.blocks.chunks_exact(block_len);
        let units_of_blocks = h.as_chunks().0.iter().zip(out.as_chunks_mut().0);
        for (block, (h_block, out)) in blocks.zip(units_of_blocks) {
            let [w_sums, u_sums] = &mut sums;
            #[allow(unsafe_code, reason = "vector instructions")]
            // SAFETY: a block has, one after the other, the rows of `input` columns of two pairs
            // of units, those of `units` columns, padded as `sum_pair` needs them, and four units'
            // parameters, all at multiples of four; `x` and `h` have a value for every column.
            unsafe {
                let weights = block.as_ptr();
                let weights = sum_pair(weights, x.as_ptr(), input, w_sums, 0);
                let weights = sum_pair(weights, x.as_ptr(), input, w_sums, 2);
                let weights = sum_pair(weights, h.as_ptr(), units, u_sums, 0);
                let params = sum_pair(weights, h.as_ptr(), units, u_sums, 2);
                gates(&sums, params, h_block, shift, out);
            }
        }
    }

    fn dense(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
        let (input, units) = (layer.input(), layer.units());
        let weights_len = Layout::Vector.dense_weights_len(input, units);
        if input == 0 || x.len() < input {
            return Portable::dense(layer, x, out);
        }
        let (weights, params) = layer
            .bytes
            .split_at_checked(weights_len)
            .unwrap_or_default();
        let rows = weights.chunks_exact(LANES * Layout::Vector.columns(input));
        let params = params.chunks_exact(LANES * ROW_PARAMS);
        for ((rows, params), out) in rows.zip(params).zip(out.chunks_mut(LANES)) {
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
}

/// `sums[gate][lane..lane + 2] = Σ w·x` for two units; returns where their rows end.
///
/// # Safety
/// `weights` points to `n` columns (at least one, padded to a multiple of eight) of six rows,
/// eight columns of each after the other; `x` points to `n` values; `lane` is 0 or 2.
#[allow(unsafe_code, reason = "vector instructions")]
#[inline(always)]
unsafe fn sum_pair(
    weights: *const u8,
    x: *const i16,
    n: usize,
    sums: &mut [[i32; LANES]; GATES],
    lane: usize,
) -> *const u8 {
    let to = sums.as_mut_ptr().cast::<i32>().wrapping_add(lane & 2);
    let end;
    // SAFETY: reads within the rows and the `n` values, since the loads of a loop's last round are
    // predicated; writes six words of `sums`.
    unsafe {
        asm!(
            "dlstp.16 lr, {n}",
            "movs r0, #0",
            "movs r2, #0",
            "movs r4, #0",
            "mov r8, r0",
            "mov r10, r0",
            "mov r12, r0",
            "2:",
            "vldrh.u16 q0, [{x}], #16",
            "vldrb.s16 q1, [r1, #8]",
            "vmladava.s16 r2, q0, q1",
            "vldrb.s16 q2, [r1, #16]",
            "vmladava.s16 r4, q0, q2",
            "vldrb.s16 q1, [r1, #24]",
            "vmladava.s16 r8, q0, q1",
            "vldrb.s16 q2, [r1, #32]",
            "vmladava.s16 r10, q0, q2",
            "vldrb.s16 q1, [r1, #40]",
            "vmladava.s16 r12, q0, q1",
            "vldrb.s16 q2, [r1], #48",
            "vmladava.s16 r0, q0, q2",
            "letp lr, 2b",
            "strd r0, r8, [{to}]",
            "strd r2, r10, [{to}, #16]",
            "strd r4, r12, [{to}, #32]",
            n = in(reg) n,
            x = inout(reg) x => _,
            to = in(reg) to,
            inout("r1") weights => end,
            out("r0") _, out("r2") _, out("r4") _, out("r8") _, out("r10") _, out("r12") _,
            out("lr") _, out("q0") _, out("q1") _, out("q2") _,
            options(nostack),
        );
    }
    end
}

/// `Σ w·x` of four rows.
///
/// # Safety
/// As of [`sum_pair`], with four rows.
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

/// Where the parameters of a block's units start.
static OFFSETS: [usize; LANES] = [0, UNIT_PARAMS, 2 * UNIT_PARAMS, 3 * UNIT_PARAMS];

/// The gates of four units; [`super::portable::main_unit`] says what they are.
///
/// Pre-activations are saturated by `VQSHL #16`, so they stand in the upper halves of the lanes
/// and the low halves, which saturation may fill with ones, are masked or shifted out.
///
/// # Safety
/// `params` points to the parameters of four units, at a multiple of four.
#[allow(unsafe_code, reason = "vector instructions")]
#[inline(always)]
unsafe fn gates(
    sums: &Sums,
    params: *const u8,
    h: &[i16; LANES],
    nh_shift: i32,
    out: &mut [i16; LANES],
) {
    // SAFETY: reads the sums, the parameters, four values of `h` and, by indices of 9 bits around
    // the middle, the table of 512 words; writes four values to `out`.
    unsafe {
        asm!(
            "vldrw.u32 q6, [{offsets}]",
            "vadd.i32 q6, q6, {params}",
            "vldrw.u32 q0, [q6]", // mw_r, mw_z
            "vdup.32 q7, {mask}",
            "vldrw.u32 q2, [{sums}]", // W_r·x
            "vshllb.u16 q3, q0, #16",
            "vldrw.u32 q1, [q6, #4]", // mw_n, mu_r
            "vmulh.s32 q2, q2, q3",
            "vldrw.u32 q4, [{sums}, #48]", // U_r·h
            "vshllt.u16 q5, q1, #16",
            "vmulh.s32 q4, q4, q5",
            "vldrw.u32 q5, [q6, #12]", // b_r, b_z
            "vshllt.u16 q3, q0, #16",
            "vadd.i32 q2, q2, q4",
            "vmovlb.s16 q4, q5",
            "vldrw.u32 q0, [q6, #8]", // mu_z, mu_n
            "vadd.i32 q2, q2, q4",
            "vldrw.u32 q4, [{sums}, #16]", // W_z·x
            "vmulh.s32 q3, q4, q3",
            "vqshl.s32 q2, q2, #16", // v_r
            "vmovlt.s16 q4, q5",
            "vldrw.u32 q5, [{sums}, #64]", // U_z·h
            "vadd.i32 q3, q3, q4",
            "vshllb.u16 q4, q0, #16",
            "vshllb.u16 q1, q1, #16",
            "vmulh.s32 q4, q5, q4",
            "vldrw.u32 q5, [{sums}, #32]", // W_n·x
            "vadd.i32 q3, q3, q4",
            "vmulh.s32 q1, q5, q1",
            "vldrw.u32 q4, [q6, #16]", // b_nx, b_nh
            "vqshl.s32 q3, q3, #16", // v_z
            "vshllt.u16 q0, q0, #16",
            "vldrw.u32 q5, [{sums}, #80]", // U_n·h
            "vshr.s32 q6, q2, #23",
            "vmulh.s32 q0, q5, q0",
            "vand q2, q2, q7",
            "vmovlb.s16 q5, q4",
            "vadd.i32 q1, q1, q5", // nx
            "vldrw.u32 q5, [{table}, q6, uxtw #2]",
            "vmovlt.s16 q4, q4",
            "vadd.i32 q0, q0, q4",
            "vmovlb.s16 q6, q5",
            "vshr.u32 q2, q2, #8",
            "vqmovnb.s32 q0, q0",
            "vmul.i32 q2, q2, q6",
            "vshr.s32 q4, q3, #23",
            "vmovlb.s16 q0, q0", // nh
            "vldrw.u32 q6, [{table}, q4, uxtw #2]",
            "vadd.i32 q2, q2, q5",
            "vand q3, q3, q7",
            "vshr.s32 q2, q2, #16",
            "vmovlb.s16 q4, q6",
            "vadd.i32 q2, q2, {half}", // r
            "vshr.u32 q3, q3, #8",
            "vmul.i32 q0, q0, q2",
            "vmul.i32 q3, q3, q4",
            "vshl.s32 q0, {nh_shift}",
            "vadd.i32 q3, q3, q6",
            "vadd.i32 q0, q0, q1",
            "vldrh.s32 q4, [r1]",
            "vqshl.s32 q0, q0, #16", // v_n
            "vshr.s32 q3, q3, #16",
            "vshr.s32 q5, q0, #23",
            "vadd.i32 q3, q3, {half}", // z
            "vldrw.u32 q6, [{table}, q5, uxtw #2]",
            "vand q0, q0, q7",
            "vmovlb.s16 q5, q6",
            "vshr.u32 q0, q0, #8",
            "vmul.i32 q0, q0, q5",
            "vadd.i32 q0, q0, q6",
            "vshr.s32 q0, q0, #16", // n
            "vsub.i32 q4, q4, q0",
            "vshl.i32 q0, q0, #16",
            "vmul.i32 q4, q4, q3",
            "vadd.i32 q0, q0, q4",
            "vrshr.s32 q0, q0, #16", // h' = n + z·(h − n)
            "vstrh.32 q0, [r0]",
            offsets = in(reg) &OFFSETS,
            params = in(reg) params,
            sums = in(reg) sums,
            mask = in(reg) 0x007f_0000,
            table = in(reg) TANH_TABLE.as_ptr().wrapping_add(256),
            half = in(reg) 32768,
            nh_shift = in(reg) nh_shift,
            in("r1") h,
            in("r0") out,
            out("q0") _, out("q1") _, out("q2") _, out("q3") _,
            out("q4") _, out("q5") _, out("q6") _, out("q7") _,
            options(nostack),
        );
    }
}
