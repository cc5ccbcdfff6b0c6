//! The layers of [`super`] in a third of the code, for programs that are optimized for size.
//!
//! The same sums by the same instructions, in loops: over the pairs of columns of a part, over the two units of a block, over
//! the pairs of rows of a Dense layer. tanh is a routine that reads [`crate::tanh_nodes`].

use super::Dsp;
use crate::artifact::FEATURE_PARAMS;
use crate::kernel::portable;
use crate::kernel::{Kernel, PORTABLE, known};
use crate::layout::{Layout, align4};
use crate::model::{DenseLayer, GruLayer};
use core::mem::offset_of;

/// What the assembly reads of a layer is where it has it.
const _: () = {
    assert!(offset_of!(GruLayer<'_>, input) == 8);
    assert!(offset_of!(GruLayer<'_>, units) == 10);
    assert!(offset_of!(GruLayer<'_>, nh_shift) == 13);
    assert!(offset_of!(GruLayer<'_>, w_shift) == 14);
    assert!(offset_of!(DenseLayer<'_>, input) == 8);
    assert!(offset_of!(DenseLayer<'_>, units) == 10);
};

/// The kernel.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Tiny;

impl Kernel for Tiny {
    const NAME: &'static str = Dsp::NAME;
    const LAYOUT: Layout = Layout::Pair;
    const KEEPS_ZEROS: bool = true;

    #[inline(always)]
    fn update(layer: &GruLayer<'_>, x: &[i16], h: &mut [i16], scratch: &mut [i16]) {
        let units = align4(layer.units());
        // The layer's own numbers and bytes are sound, because the loader has made it.
        let sound = known(layer.layout) == Layout::Pair
            && aligned(x, h, scratch)
            && x.len() >= align4(layer.input())
            && h.len() >= units
            && scratch.len() >= units;
        if sound {
            shim::gru(layer, x, h, scratch);
        } else if PORTABLE && let Some((out, more)) = scratch.split_at_mut_checked(units) {
            portable::gru_any(layer, x, h, out, more);
            Self::store(out, h);
        }
    }

    #[inline(always)]
    fn dense(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
        let sound = known(layer.layout) == Layout::Pair
            && aligned(x, out, out)
            && x.len() >= align4(layer.input())
            && out.len() >= align4(layer.units());
        if sound {
            shim::dense(layer, x, out);
        } else if PORTABLE {
            portable::dense_any(layer, x, out);
        }
    }

    #[inline]
    fn condition(params: &[u8; FEATURE_PARAMS], raw: i32) -> i16 {
        Dsp::condition(params, raw)
    }

    #[inline]
    fn condition_narrow(params: &[u8], raw: &[i16], x: &mut [i16]) {
        Dsp::condition_narrow(params, raw, x);
    }
}

/// Whether all start at multiples of four.
#[inline(always)]
fn aligned(a: &[i16], b: &[i16], c: &[i16]) -> bool {
    (a.as_ptr().addr() | b.as_ptr().addr() | c.as_ptr().addr()) & 3 == 0
}

#[allow(
    unsafe_code,
    reason = "stable Rust has no other way to the DSP instructions"
)]
mod shim {
    use crate::model::{DenseLayer, GruLayer};
    #[cfg(gru_tiny)]
    use crate::tanh_nodes::NODES;
    #[cfg(gru_tiny)]
    use core::arch::naked_asm;
    use core::ptr::from_ref;

    #[cfg(gru_compact)]
    use super::super::compact::{dense_layer, gru_layer};

    #[inline(always)]
    pub(super) fn gru(layer: &GruLayer<'_>, x: &[i16], h: &mut [i16], scratch: &mut [i16]) {
        let (layer, blocks) = (from_ref(layer).cast(), layer.blocks.as_ptr());
        // SAFETY: the caller has checked lengths and alignments of the buffers, `GruLayer` promises those of its blocks and
        // has its fields where the routine reads them, and `h` and `scratch` are unique borrows apart from each other.
        unsafe {
            gru_layer(
                blocks,
                x.as_ptr(),
                h.as_mut_ptr(),
                scratch.as_mut_ptr(),
                layer,
            )
        };
    }

    #[inline(always)]
    pub(super) fn dense(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
        let (layer, bytes) = (from_ref(layer).cast(), layer.bytes.as_ptr());
        // SAFETY: as above.
        unsafe { dense_layer(bytes, x.as_ptr(), out.as_mut_ptr(), layer) };
    }

    /// One step of a layer: `h` becomes `h'`, which is put together in `scratch`.
    ///
    /// # Safety
    /// Reads the blocks of `layer`, `align4` of the columns of `x`; reads and writes `align4` of the units of `h` and
    /// `scratch`. All pointers are multiples of four.
    //
    // Sums of the two units of a block: r2/r4/r6 mixed ones of r, z, n, r3/r5/r7 those of A. In the stack, from its top:
    // the candidate's sums of the input part, those of B, then what does not change.
    #[cfg(gru_tiny)]
    #[unsafe(naked)]
    unsafe extern "C" fn gru_layer(
        blocks: *const u8,
        x: *const i16,
        h: *mut i16,
        scratch: *mut i16,
        layer: *const u8,
    ) {
        naked_asm!(
            cpu!(),
            ".set TINY_NX, 0",
            ".set TINY_B, 8",
            ".set TINY_OUT, 20",
            ".set TINY_JOINT, 24",
            ".set TINY_X_CORR, 28",
            ".set TINY_X, 32",
            ".set TINY_H, 40",
            ".set TINY_H_CORR, 48",
            ".set TINY_AT, 52",
            ".set TINY_SHIFT, 56",
            ".set TINY_W_SHIFT, 60",
            ".set TINY_TABLE, 64",
            ".set TINY_FRAME, 68",
            "push {{r4-r11, lr}}",
            "sub sp, #TINY_FRAME",
            "ldr r7, [sp, #TINY_FRAME + 36]",
            // From the address of a state to that of its new value.
            "subs r3, r3, r2",
            "str r3, [sp, #TINY_OUT]",
            "str r2, [sp, #TINY_AT]",
            // Where both parts begin and end, and -128·Σ of either.
            "mov r8, #0xff80ff80",
            "mov r4, r2",
            "ldrh r2, [r7, #8]",
            "bl 5f",
            "strd r1, r2, [sp, #TINY_X]",
            "str r3, [sp, #TINY_X_CORR]",
            "mov r5, r3",
            "mov r1, r4",
            "ldrh r2, [r7, #10]",
            "bl 5f",
            "strd r1, r2, [sp, #TINY_H]",
            "str r3, [sp, #TINY_H_CORR]",
            "ldrb r1, [r7, #13]",
            "rsb r1, r1, #16",
            "ldrb r2, [r7, #14]",
            "strd r1, r2, [sp, #TINY_SHIFT]",
            // The gates' sums go on over the state, so they start with both: -128·Σ h is a multiple of 2^w_shift.
            "asrs r3, r2",
            "adds r3, r3, r5",
            "str r3, [sp, #TINY_JOINT]",
            "movw r1, #:lower16:{nodes}",
            "movt r1, #:upper16:{nodes}",
            "str r1, [sp, #TINY_TABLE]",
            // ---- a block: the input part, then the recurrent one
            "1: ldrd r2, r6, [sp, #TINY_JOINT]",
            "mov r4, r2",
            "movs r3, #0",
            "movs r5, #0",
            "movs r7, #0",
            "ldrd r1, r12, [sp, #TINY_X]",
            "bl 6f",
            "sub.w r6, r6, r7, lsl #8",
            "strd r7, r6, [sp, #TINY_NX]",
            "ldr r1, [sp, #TINY_W_SHIFT]",
            "lsls r2, r1",
            "lsls r3, r1",
            "lsls r4, r1",
            "lsls r5, r1",
            "ldr r6, [sp, #TINY_H_CORR]",
            "movs r7, #0",
            "ldrd r1, r12, [sp, #TINY_H]",
            "bl 6f",
            "sub.w r2, r2, r3, lsl #8",
            "sub.w r4, r4, r5, lsl #8",
            "sub.w r6, r6, r7, lsl #8",
            "strd r2, r4, [sp, #TINY_B]",
            "str r6, [sp, #TINY_B + 8]",
            "ldr r1, [sp, #TINY_TABLE]",
            "ldr.w r8, [sp, #TINY_NX]",
            "bl 7f",
            "ldrd r3, r5, [sp, #TINY_B]",
            "ldr r7, [sp, #TINY_B + 8]",
            "ldr.w r8, [sp, #TINY_NX + 4]",
            "bl 7f",
            "ldrd r1, r2, [sp, #TINY_H]",
            "ldr r3, [sp, #TINY_AT]",
            "cmp r3, r2",
            "bne 1b",
            // ---- the new state in the place of the old one
            "ldr r3, [sp, #TINY_OUT]",
            "2: ldr r4, [r1, r3]",
            "str r4, [r1], #4",
            "cmp r1, r2",
            "bne 2b",
            "add sp, #TINY_FRAME",
            "pop {{r4-r11, pc}}",
            // ---- r1 and so many values from there, in whole pairs: r2 where they end, r3 = -128·Σ
            "5: adds r2, #1",
            "lsrs r2, r2, #1",
            "add.w r2, r1, r2, lsl #2",
            "mov r12, r1",
            "movs r3, #0",
            "4: ldr r6, [r12], #4",
            "smlad r3, r6, r8, r3",
            "cmp r12, r2",
            "bne 4b",
            "bx lr",
            // ---- the pairs of columns from r1 to r12, two at a time, the first one of an odd number alone
            "6: sub.w r8, r12, r1",
            "lsls r8, r8, #29",
            "bmi 3f",
            "9: ldr.w r8, [r1], #4",
            "ldm.w r0!, {{r9-r11}}",
            "smlad r2, r9, r8, r2",
            "sxtb16 r9, r9, ror #8",
            "smlad r4, r10, r8, r4",
            "sxtb16 r10, r10, ror #8",
            "smlad r6, r11, r8, r6",
            "sxtb16 r11, r11, ror #8",
            "smlad r3, r9, r8, r3",
            "smlad r5, r10, r8, r5",
            "smlad r7, r11, r8, r7",
            "3: ldr.w r8, [r1], #4",
            "ldm.w r0!, {{r9-r11}}",
            "smlad r2, r9, r8, r2",
            "sxtb16 r9, r9, ror #8",
            "smlad r4, r10, r8, r4",
            "sxtb16 r10, r10, ror #8",
            "smlad r6, r11, r8, r6",
            "sxtb16 r11, r11, ror #8",
            "smlad r3, r9, r8, r3",
            "smlad r5, r10, r8, r5",
            "smlad r7, r11, r8, r7",
            "cmp r1, r12",
            "bne 9b",
            "bx lr",
            // ---- a unit: sums of r, z, n in r3, r5, r7, the candidate's of the input part in r8; parameters at r0
            "7: push {{lr}}",
            "ldm.w r0!, {{r9-r12}}",
            "smulwb r3, r3, r9",
            "smulwt r5, r5, r9",
            "smulwb r8, r8, r10",
            "smulwt r7, r7, r10",
            "sxtah r3, r3, r11",
            "sxtah r5, r5, r11, ror #16",
            "sxtah r8, r8, r12",
            "sxtah r7, r7, r12, ror #16",
            "ssat r7, #16, r7",
            "bl 8f",
            "add.w r3, r3, #0x8000",
            "muls r3, r7, r3",
            "ldr r7, [sp, #TINY_SHIFT + 4]",
            "asrs r3, r7",
            "add r3, r8",
            "bl 8f",
            "mov r7, r3",
            "mov r3, r5",
            "bl 8f",
            "add.w r3, r3, #0x8000",
            // h' = n + z·(h − n), rounded: the sum modulo 2^16 is right, and the shift leaves in the carry what rounds.
            "ldr r2, [sp, #TINY_AT + 4]",
            "ldr r4, [sp, #TINY_OUT + 4]",
            "ldrsh r6, [r2], #2",
            "str r2, [sp, #TINY_AT + 4]",
            "subs r2, #2",
            "subs r6, r6, r7",
            "muls r6, r3, r6",
            "asrs r6, r6, #16",
            "adcs r6, r7",
            "strh r6, [r2, r4]",
            "pop {{pc}}",
            // ---- r3 = tanh of r3, see `tanh_of_nodes`
            "8: ssat r3, #16, r3",
            "asrs r2, r3, #31",
            "eor.w r4, r3, r2",
            "lsrs r4, r4, #7",
            "ldrb r6, [r1, r4]",
            "add.w r4, r1, r4, lsl #1",
            "ldrh.w r12, [r4, #256]",
            "ldrh.w r4, [r4, #258]",
            "sub.w r4, r4, r12",
            "and.w r9, r4, r2",
            "add r12, r9",
            "eor.w r12, r12, r2",
            "and.w r9, r2, r6, lsr #6",
            "add r12, r9",
            "and r2, r2, #3",
            "lsrs r6, r2",
            "and r6, r6, #7",
            "add.w r4, r6, r4, lsl #1",
            "subs r4, #2",
            "lsls r3, r3, #25",
            "lsrs r3, r3, #17",
            "mla r3, r3, r4, r4",
            "add.w r3, r12, r3, asr #16",
            "bx lr",
            nodes = sym NODES,
        )
    }

    /// A Dense layer.
    ///
    /// # Safety
    /// Reads the weights and parameters of `layer` and `align4` of the columns of `x`; writes `align4` of the units of `out`
    /// at most. All pointers are multiples of four.
    #[cfg(gru_tiny)]
    #[unsafe(naked)]
    unsafe extern "C" fn dense_layer(
        bytes: *const u8,
        x: *const i16,
        out: *mut i16,
        layer: *const u8,
    ) {
        naked_asm!(
            cpu!(),
            "push {{r4-r11, lr}}",
            "ldrh r4, [r3, #8]",
            "ldrh r5, [r3, #10]",
            "adds r4, #1",
            "adds r5, #1",
            "lsrs r4, r4, #1",
            "lsrs r5, r5, #1",
            // Parameters behind the weights; where x and the values end.
            "mul r3, r4, r5",
            "add.w r3, r0, r3, lsl #2",
            "add.w r4, r1, r4, lsl #2",
            "add.w r5, r2, r5, lsl #2",
            "mov r12, #0xff80ff80",
            // ---- a pair of rows
            "1: mov lr, r1",
            "movs r6, #0",
            "movs r7, #0",
            "2: ldr r8, [lr], #4",
            "ldr r9, [r0], #4",
            "cmp lr, r4",
            "smlad r6, r8, r12, r6",
            "smlad r6, r9, r8, r6",
            "sxtb16 r9, r9, ror #8",
            "smlad r7, r9, r8, r7",
            "bne 2b",
            "sub.w r6, r6, r7, lsl #8",
            "ldm r3!, {{r8-r11}}",
            "smmla r7, r7, r8, r9",
            "smmla r6, r6, r10, r11",
            "ssat r7, #16, r7",
            "ssat r6, #16, r6",
            "pkhbt r6, r7, r6, lsl #16",
            "str r6, [r2], #4",
            "cmp r2, r5",
            "bne 1b",
            "pop {{r4-r11, pc}}",
        )
    }
}
