//! Weights of half a byte, layout [`Layout::Pair4`].
//!
//! A halfword of a word holds one column of four rows; the top one is signed, the others are biased
//! by 8. Over two columns that gives eight products with seven instructions:
//!
//! ```text
//! mixed += w · x                  SMLAD     Σ (4096·D + 256·C' + 16·B' + A')·x   modulo 2^32
//! b      = w AND 00F000F0         AND
//! sum_b += b · x                  SMLAD     Σ 16·B'·x
//! dc     = SXTB16 w, ROR #8
//! sum_dc += dc · x                SMLAD     Σ (16·D + C')·x
//! d      = dc AND NOT 000F000F    BIC
//! sum_d += d · x                  SMLAD     Σ 16·D·x
//! ```
//!
//! The weights are sixteen times what is stored, so `sum_d` and `sum_b − 128·Σ x` are rows as they
//! are; `16·(sum_dc − sum_d) − 128·Σ x` is that of C and
//! `16·(mixed − 256·sum_dc − sum_b) − 128·Σ x` that of A: exact in wrapping arithmetic, because the
//! loader has proved that the rows themselves fit 32 bits. The candidate's rows are two, and the
//! lower bytes of their halfwords are the next two columns.

use super::{Chain, GruFrame};
use crate::kernel::{PORTABLE, portable};
use crate::layout::Layout;
use crate::model::GruLayer;

/// That of half bytes: 27 instructions of four bytes for four columns.
const CHAIN: Chain = Chain {
    layout: Layout::Pair4,
    columns: 4,
    links: 16,
    code: 108,
};

/// One step of a layer.
#[inline]
pub(super) fn gru(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
    let frame = GruFrame::with(&CHAIN, layer, x, h, out);
    if frame.is_none_or(|frame| !shim::gru(frame)) && PORTABLE {
        portable::gru_any(layer, x, h, out, &mut []);
    }
}

#[cfg(gru_dsp)]
#[allow(
    unsafe_code,
    reason = "stable Rust has no other way to the DSP instructions"
)]
mod shim {
    use super::{CHAIN, GruFrame};
    use core::arch::naked_asm;

    /// Runs a layer.
    #[inline(always)]
    pub(super) fn gru(frame: GruFrame) -> bool {
        // SAFETY: only `GruFrame::with` makes frames, from live slices that outlive this call, and
        // it has checked that they are aligned and as long as the routine's counts assume; this
        // one's are those of this module's chain.
        unsafe { gru_layer(frame) };
        true
    }

    /// One step of a layer.
    ///
    /// # Safety
    /// `frame` must come from [`GruFrame::with`] and this module's chain, and its slices must still
    /// be borrowed.
    //
    // Registers in the chain: r0 weights, r1 x, r4 mixed, r2 sum_b, r5 sum_dc, r3 sum_d of r and z;
    // r6 and r7 sum_dc and sum_d of the candidate; r8 and r9 two x each, r10-r12 weights.
    #[unsafe(naked)]
    unsafe extern "C" fn gru_layer(frame: GruFrame) {
        naked_asm!(
            cpu!(),
            gru_start!(),
            // What the bias of a gate's rows comes to.
            "ldr r2, [sp, #GRU_U_CORR]",
            "ldr r3, [sp, #GRU_W_SHIFT]",
            "lsl r4, r3",
            "add r4, r2",
            "str r4, [sp, #GRU_JOINT]",
            "movs r2, #1",
            "cmp r2, #0",

            // ---- a block: two units; the input part first, its first four columns here
            // The flags say what comes after the chain, as with whole bytes.
            "30:",
            "ldr.w r1, [sp, #GRU_X]",
            "ldr.w r11, [r0, #4]",
            "ldr.w r12, [r0, #8]",
            "ldr.w r10, [r0], #12",
            "ldr.w r9, [r1, #4]",
            "ldr.w r8, [r1], #8",
            "smuad r4, r10, r8",
            "and lr, r10, #0x00f000f0",
            "smuad r2, lr, r8",
            "sxtb16 r10, r10, ror #8",
            "smuad r5, r10, r8",
            "bic r10, r10, #0x000f000f",
            "smuad r3, r10, r8",
            "smlad r4, r11, r9, r4",
            "and lr, r11, #0x00f000f0",
            "smlad r2, lr, r9, r2",
            "sxtb16 r11, r11, ror #8",
            "smlad r5, r11, r9, r5",
            "bic r11, r11, #0x000f000f",
            "smlad r3, r11, r9, r3",
            "sxtb16 lr, r12, ror #8",
            "smuad r6, lr, r8",
            "bic lr, lr, #0x000f000f",
            "smuad r7, lr, r8",
            "ldr.w lr, [sp, #GRU_X_ENTRY]",
            "sxtb16 r12, r12",
            "smlad r6, r12, r9, r6",
            "bic r12, r12, #0x000f000f",
            "smlad r7, r12, r9, r7",
            "bx lr",

            // ---- the chain
            ".p2align 2",
            "34:",
            ".rept {chain}",
            "ldr.w r11, [r0, #4]",
            "ldr.w r12, [r0, #8]",
            "ldr.w r10, [r0], #12",
            "ldr.w r9, [r1, #4]",
            "ldr.w r8, [r1], #8",
            "smlad r4, r10, r8, r4",
            "and lr, r10, #0x00f000f0",
            "smlad r2, lr, r8, r2",
            "sxtb16 r10, r10, ror #8",
            "smlad r5, r10, r8, r5",
            "bic r10, r10, #0x000f000f",
            "smlad r3, r10, r8, r3",
            "smlad r4, r11, r9, r4",
            "and lr, r11, #0x00f000f0",
            "smlad r2, lr, r9, r2",
            "sxtb16 r11, r11, ror #8",
            "smlad r5, r11, r9, r5",
            "bic r11, r11, #0x000f000f",
            "smlad r3, r11, r9, r3",
            "sxtb16 lr, r12, ror #8",
            "smlad r6, lr, r8, r6",
            "bic lr, lr, #0x000f000f",
            "smlad r7, lr, r8, r7",
            "sxtb16 r12, r12",
            "smlad r6, r12, r9, r6",
            "bic r12, r12, #0x000f000f",
            "smlad r7, r12, r9, r7",
            ".endr",
            "35:",
            "bls.w 36f",

            // ---- the input part is done: keep the candidate's sums, go on with the recurrent part
            "sub.w r6, r6, r7",
            "str r7, [sp, #GRU_SUMS]",
            "ldr.w r8, [sp, #GRU_X_CORR]",
            "ldr.w r9, [sp, #GRU_W_SHIFT]",
            "ldr.w r1, [sp, #GRU_U]",
            "ldr.w r11, [r0, #4]",
            "ldr.w r12, [r0, #8]",
            "ldr.w r10, [r0], #12",
            "add.w r6, r8, r6, lsl #4",
            "str r6, [sp, #GRU_SUMS + 4]",
            "lsl.w r4, r4, r9",
            "lsl.w r2, r2, r9",
            "lsl.w r5, r5, r9",
            "lsl.w r3, r3, r9",
            "ldr.w r9, [r1, #4]",
            "ldr.w r8, [r1], #8",
            "smlad r4, r10, r8, r4",
            "and lr, r10, #0x00f000f0",
            "smlad r2, lr, r8, r2",
            "sxtb16 r10, r10, ror #8",
            "smlad r5, r10, r8, r5",
            "bic r10, r10, #0x000f000f",
            "smlad r3, r10, r8, r3",
            "smlad r4, r11, r9, r4",
            "and lr, r11, #0x00f000f0",
            "smlad r2, lr, r9, r2",
            "sxtb16 r11, r11, ror #8",
            "smlad r5, r11, r9, r5",
            "bic r11, r11, #0x000f000f",
            "smlad r3, r11, r9, r3",
            "sxtb16 lr, r12, ror #8",
            "smuad r6, lr, r8",
            "bic lr, lr, #0x000f000f",
            "smuad r7, lr, r8",
            "ldr.w lr, [sp, #GRU_U_ENTRY]",
            "sxtb16 r12, r12",
            "smlad r6, r12, r9, r6",
            "bic r12, r12, #0x000f000f",
            "smlad r7, r12, r9, r7",
            "movs.w r12, #0",
            "bx lr",

            gru_passes!(),

            // ---- the rows
            "36: bmi.w 39b",
            "ldr.w r8, [sp, #GRU_JOINT]",
            "ldr.w r9, [sp, #GRU_U_CORR]",
            "sub.w r4, r4, r5, lsl #8",
            "sub.w r4, r4, r2",
            "sub.w r5, r5, r3",
            "sub.w r6, r6, r7",
            "add.w r2, r2, r8",
            "add.w r4, r8, r4, lsl #4",
            "add.w r5, r8, r5, lsl #4",
            "add.w r6, r9, r6, lsl #4",
            gru_gates!(),
            chain = const CHAIN.links,
        )
    }
}

/// Other cores have no such instructions; the portable kernel does the work.
#[cfg(not(gru_dsp))]
mod shim {
    use super::GruFrame;

    pub(super) fn gru(_: GruFrame) -> bool {
        false
    }
}
