//! The kernel for cores with `SMLAD`: Cortex-M4, M7 and M33, layout [`Layout::Pair`].
//!
//! A halfword of a weight word holds row A in its high byte (signed) and row B in its low byte,
//! biased by +128. Over two columns (`x` holds two 16-bit values) that gives four products with
//! three instructions:
//!
//! ```text
//! mixed += w · x                  SMLAD     Σ (256·A + B + 128)·x   modulo 2^32
//! a      = SXTB16 w, ROR #8                 the two A
//! sum_a += a · x                  SMLAD     Σ A·x
//! ```
//!
//! and in the end `Σ B·x = mixed − 256·Σ A·x − 128·Σ x`, exact in wrapping arithmetic because the
//! loader has proved that the sum itself fits 32 bits. `mixed` starts at `−128·Σ x`, so that the
//! correction costs nothing. Six rows (two units, three gates) share each load of `x`.
//!
//! With the feature `int4` there is a routine for weights of half a byte as well, `dsp/half.rs`; with the feature
//! `sparse` this one runs recurrent weights that are left out, too, `dsp/sparse.rs`. Programs without both have the routines of
//! `dsp/compact.rs`, or of `dsp/tiny.rs`, in its place.
//!
//! A whole layer is one assembly routine: the columns of a part are one unrolled chain that is
//! entered where as many columns are left as the layer has; every multiply leaves the flags alone,
//! so the flags say at the chain's end what comes next. Which instructions run depends on the
//! shape only, never on data.

use super::portable;
use super::{Kernel, PORTABLE, known};
use crate::activation::TANH_TABLE;
use crate::layout::Layout;
use crate::model::{DenseLayer, GruLayer};
#[cfg(gru_dsp)]
use crate::{artifact::FEATURE_PARAMS, input::FeatureParams};

/// The kernel.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Dsp;

impl Kernel for Dsp {
    const NAME: &'static str = "dsp";
    const LAYOUT: Layout = Layout::Pair;
    #[cfg(any(feature = "int4", test))]
    const HALVED: Option<Layout> = Some(Layout::Pair4);
    #[cfg(any(feature = "sparse", test))]
    const SPARSE: Option<Layout> = Some(Layout::PairSparse);

    #[cfg(any(feature = "sparse", test))]
    #[inline]
    fn update(layer: &GruLayer<'_>, x: &[i16], h: &mut [i16], scratch: &mut [i16]) {
        let padded = crate::layout::align4(layer.units());
        let Some((out, gathered)) = scratch.split_at_mut_checked(padded) else {
            return;
        };
        if layer.layout == Layout::PairSparse {
            sparse::gru(layer, x, h, out, gathered);
        } else {
            Self::gru(layer, x, h, out);
        }
        Self::store(out, h);
    }

    #[inline]
    fn gru(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
        #[cfg(any(feature = "int4", test))]
        if layer.layout == Layout::Pair4 {
            half::gru(layer, x, h, out);
            return;
        }
        if GruFrame::new(layer, x, h, out).is_none_or(|frame| !shim::gru(frame)) && PORTABLE {
            portable::gru_any(layer, x, h, out, &mut []);
        }
    }

    #[inline]
    fn dense(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
        if DenseFrame::new(layer, x, out).is_none_or(|frame| !shim::dense(frame)) && PORTABLE {
            portable::dense_any(layer, x, out);
        }
    }

    #[cfg(gru_dsp)]
    #[inline]
    fn condition(params: &[u8; FEATURE_PARAMS], raw: i32) -> i16 {
        shim::condition(&FeatureParams::read(params), raw)
    }

    #[cfg(gru_dsp)]
    #[inline]
    fn condition_narrow(params: &[u8], raw: &[i16], x: &mut [i16]) {
        shim::condition_narrow(params, raw, x);
    }

    #[cfg(gru_dsp)]
    #[inline]
    fn store(new: &[i16], h: &mut [i16]) {
        shim::copy(new, h);
    }
}

/// The user's `-C target-cpu` does not reach the assembler of whole routines.
#[cfg(all(gru_dsp, gru_cpu = "cortex-m33"))]
macro_rules! cpu {
    () => {
        ".cpu cortex-m33"
    };
}
#[cfg(all(gru_dsp, gru_cpu = "cortex-m35p"))]
macro_rules! cpu {
    () => {
        ".cpu cortex-m35p"
    };
}
#[cfg(all(gru_dsp, not(any(gru_cpu = "cortex-m33", gru_cpu = "cortex-m35p"))))]
macro_rules! cpu {
    () => {
        ""
    };
}

#[macro_use]
mod sparse;

/// Lines that only speed asks for: not where the crate is optimized for size.
#[cfg(all(gru_dsp, not(gru_small)))]
macro_rules! unrolled {
    ($($line:literal),* $(,)?) => { concat!($($line, "\n"),*) };
}
#[cfg(all(gru_dsp, gru_small))]
macro_rules! unrolled {
    ($($line:literal),* $(,)?) => {
        ""
    };
}

/// Lines that stand for them there.
#[cfg(all(gru_dsp, gru_small))]
macro_rules! rolled {
    ($($line:literal),* $(,)?) => { concat!($($line, "\n"),*) };
}
#[cfg(all(gru_dsp, not(gru_small)))]
macro_rules! rolled {
    ($($line:literal),* $(,)?) => {
        ""
    };
}

#[cfg(all(gru_dsp, gru_compact))]
mod compact;
#[cfg(all(gru_dsp, any(gru_tiny, gru_compact)))]
pub mod plain;
#[cfg(all(gru_dsp, gru_tiny))]
mod tiny;

/// The beginning of a layer's routine: the stack, −128·Σ x of both parts, where they enter the chain.
#[cfg(gru_dsp)]
macro_rules! gru_start {
    () => {
        concat!(
            // Stack: the candidate's sums of the input part, then what the caller put there.
            ".set GRU_SUMS, 0\n",
            ".set GRU_JOINT, 8\n",
            ".set GRU_CURRENT, 12\n",
            ".set GRU_SHIFT, 16\n",
            ".set GRU_END, 20\n",
            ".set GRU_OUT, 24\n",
            ".set GRU_H, 28\n",
            ".set GRU_X_REAL, 32\n",
            ".set GRU_U_REAL, 36\n",
            ".set GRU_TABLE, 76\n",
            ".set GRU_W_SHIFT, 80\n",
            ".set GRU_X, 84\n",
            ".set GRU_X_CORR, 88\n",
            ".set GRU_X_ENTRY, 92\n",
            ".set GRU_X_PASSES, 96\n",
            ".set GRU_U, 100\n",
            ".set GRU_U_CORR, 104\n",
            ".set GRU_U_ENTRY, 108\n",
            ".set GRU_U_PASSES, 112\n",
            gru_state!(),
            "push {{r4-r11, lr}}\n",
            "sub sp, #40\n",
            "strd r3, r1, [sp, #GRU_SHIFT]\n",
            "ldr r4, [sp, #GRU_STATE]\n",
            "str r4, [sp, #GRU_H]\n",
            // From the address after a pair of states to that of its new values.
            "subs r2, r2, r4\n",
            "subs r2, #4\n",
            "str r2, [sp, #GRU_OUT]\n",
            // -128·Σ x of both parts.
            "movw r12, #0xff80\n",
            "movt r12, #0xff80\n",
            "add r1, sp, #GRU_U\n",
            "20: ldrd r2, r3, [r1]\n",
            "mov r4, #0\n",
            unrolled!(
                "subs r3, #8",
                "blo 22f",
                "21: ldm r2!, {{r5-r11, lr}}",
                "subs r3, #8",
                "smlad r4, r5, r12, r4",
                "smlad r4, r6, r12, r4",
                "smlad r4, r7, r12, r4",
                "smlad r4, r8, r12, r4",
                "smlad r4, r9, r12, r4",
                "smlad r4, r10, r12, r4",
                "smlad r4, r11, r12, r4",
                "smlad r4, lr, r12, r4",
                "bhs 21b",
                "22: adds r3, #8",
                "beq 24f",
            ),
            // Of a layer of panels there is nothing to sum here.
            rolled!("cbz r3, 24f"),
            "23: ldr r5, [r2], #4\n",
            "subs r3, #1\n",
            "smlad r4, r5, r12, r4\n",
            "bne 23b\n",
            "24: adr.w r3, 35f\n",
            "ldr r5, [r1, #8]\n",
            "sub r3, r5\n",
            "adds r3, #1\n",
            "ldr r6, [r1, #12]\n",
            "add r5, sp, #GRU_U\n",
            "cmp r6, #2\n",
            "blo 25f\n",
            // Several passes through the chain: enter by way of a stub that counts them.
            "cmp r1, r5\n",
            "ite eq\n",
            "streq r3, [sp, #GRU_U_REAL]\n",
            "strne r3, [sp, #GRU_X_REAL]\n",
            "adr.w r3, 38f\n",
            "adds r3, #1\n",
            "25: strd r4, r3, [r1, #4]\n",
            "cmp r1, r5\n",
            "sub r1, #16\n",
            "beq 20b\n",
        )
    };
}

/// The way into the chain of a part that goes through it more than once.
#[cfg(gru_dsp)]
macro_rules! gru_passes {
    () => {
        concat!(
            // ---- the first of several passes
            "38:\n",
            "ite eq\n",
            "ldreq r12, [sp, #GRU_U_PASSES]\n",
            "ldrne r12, [sp, #GRU_X_PASSES]\n",
            "ite eq\n",
            "ldreq lr, [sp, #GRU_U_REAL]\n",
            "ldrne lr, [sp, #GRU_X_REAL]\n",
            "str r12, [sp, #GRU_CURRENT]\n",
            "rsbs r12, r12, #1\n",
            "bx lr\n",
            // ---- another pass through the whole chain
            "39:\n",
            "ldr r8, [sp, #GRU_CURRENT]\n",
            "sub r8, #2\n",
            "str r8, [sp, #GRU_CURRENT]\n",
            "rsbs r8, r8, #1\n",
            "b.w 34b\n",
        )
    };
}

/// The gates of two units, and the next ones as long as there are any: sums of A in r3, r5, r7 and of B in r2, r4, r6, those of the
/// candidate's input part on the stack, parameters of A at r0, of B at r0 + 16. What saturates is the place in the table, whose ends
/// are flat. Both units side by side, so that loads stand together (M4), no result is read at once (M33), and the instructions that
/// only M7's first pipe has alternate with others.
#[cfg(gru_dsp)]
macro_rules! gru_gates {
    () => {
        concat!(
            // v of r and z
            "ldr.w r8, [r0], #32\n",
            "ldr r9, [r0, #-24]\n",
            "ldr r10, [r0, #-16]\n",
            "ldr r11, [r0, #-8]\n",
            "ldr.w lr, [sp, #GRU_SUMS + 4]\n",
            "ldr.w r1, [sp, #GRU_TABLE]\n",
            "smulwb r3, r3, r8\n",
            "smulwt r5, r5, r8\n",
            "sxtah r3, r3, r9\n",
            "smulwb r2, r2, r10\n",
            "sxtah r5, r5, r9, ror #16\n",
            "smulwt r4, r4, r10\n",
            "sxtah r2, r2, r11\n",
            "mov r12, #0x7f007f00\n",
            "pkhbt r8, r3, r5, lsl #16\n",
            "sxtah r4, r4, r11, ror #16\n",
            "and r8, r12, r8, lsl #8\n",
            "ssat r3, #9, r3, asr #7\n",
            "ssat r5, #9, r5, asr #7\n",
            "pkhbt r9, r2, r4, lsl #16\n",
            "ssat r4, #9, r4, asr #7\n",
            "ssat r2, #9, r2, asr #7\n",
            "and r9, r12, r9, lsl #8\n",
            "ldr r10, [r0, #-12]\n",
            "ldr r11, [r0, #-4]\n",
            "ldr.w r5, [r1, r5, lsl #2]\n",
            "ldr.w r4, [r1, r4, lsl #2]\n",
            "ldr.w r2, [r1, r2, lsl #2]\n",
            "ldr.w r3, [r1, r3, lsl #2]\n",
            // r - 1/2 in the top of r3 and r2, z - 1/2 in that of r5 and r4
            "smulwt r6, r6, r10\n",
            "smulwb lr, lr, r10\n",
            "smlabt r5, r5, r8, r5\n",
            "sxtah r6, r6, r11, ror #16\n",
            "smlabt r4, r4, r9, r4\n",
            "sxtah lr, lr, r11\n",
            "smlabb r2, r2, r9, r2\n",
            "ssat r6, #16, r6\n",
            "smlabb r3, r3, r8, r3\n",
            // v of n: A in r8, B in lr
            "ldr.w r10, [sp, #GRU_SHIFT]\n",
            "ldr.w r8, [sp, #GRU_SUMS]\n",
            "ldr r9, [r0, #-28]\n",
            "ldr r11, [r0, #-20]\n",
            "smulwt r7, r7, r9\n",
            "smulwb r8, r8, r9\n",
            "sxtah r7, r7, r11, ror #16\n",
            "smultb r2, r2, r6\n",
            "sxtah r8, r8, r11\n",
            "ssat r7, #16, r7\n",
            "add.w r2, r2, r6, lsl #15\n",
            "smultb r3, r3, r7\n",
            "pkhtb r5, r5, r5, asr #16\n",
            "asr r2, r2, r10\n",
            "pkhtb r4, r4, r4, asr #16\n",
            "add lr, r2\n",
            "add.w r3, r3, r7, lsl #15\n",
            "ssat r2, #9, lr, asr #7\n",
            "asr r3, r3, r10\n",
            "add r8, r3\n",
            "pkhbt r9, r8, lr, lsl #16\n",
            "ssat r3, #9, r8, asr #7\n",
            "and r9, r12, r9, lsl #8\n",
            "ldr.w r11, [sp, #GRU_H]\n",
            "ldr.w r6, [sp, #GRU_END]\n",
            "ldr.w r7, [sp, #GRU_OUT]\n",
            "ldr.w lr, [r1, r2, lsl #2]\n",
            "ldr.w r8, [r1, r3, lsl #2]\n",
            "ldr.w r10, [r11], #4\n",
            // n in the top of r8 and lr
            "smlabt lr, lr, r9, lr\n",
            "smlabb r8, r8, r9, r8\n",
            // h' = h·(1/2 + t) + n·(1/2 - t) with t = z - 1/2; -32768 stands for the halves
            "mov r2, #0x80008000\n",
            "pkhtb lr, r10, lr, asr #16\n",
            "pkhbt r8, r10, r8\n",
            "smuad r3, lr, r2\n",
            "smuad r9, r8, r2\n",
            "smlsd r3, lr, r4, r3\n",
            "rsb r9, r9, #0x8000\n",
            "smlsd r9, r8, r5, r9\n",
            "str r11, [sp, #GRU_H]\n",
            "cmp r6, r0\n",
            "rsb r3, r3, #0x8000\n",
            "pkhtb r9, r3, r9, asr #16\n",
            "str r9, [r11, r7]\n",
            "bne.w 30b\n",
        )
    };
}

#[cfg(any(feature = "int4", test))]
mod half;

/// The unrolled loop over the columns of a part.
struct Chain {
    layout: Layout,
    /// Columns of a link.
    columns: usize,
    /// Links.
    links: usize,
    /// Bytes of code of a link.
    code: usize,
}

/// That of whole bytes: 13 instructions of four bytes for two columns. A short one where the crate is
/// optimized for size: 1.4 kB less, and more cycles for every further pass through it.
const CHAIN: Chain = Chain {
    layout: Layout::Pair,
    columns: 2,
    links: if cfg!(gru_small) { 4 } else { 32 },
    code: 52,
};

/// One part's walk through the chain.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Walk {
    /// The activations, two a word.
    x: *const u32,
    /// Words at `x`; the routine replaces it by `−128·Σ x`.
    words: usize,
    /// Bytes of code before the chain's end to start at; the routine replaces it by the address.
    entry: usize,
    /// Whole further passes through the chain times two, plus one for the recurrent part.
    passes: usize,
}

impl Walk {
    /// The first link, of at least one, is done outside of the chain.
    #[inline(always)]
    fn new(chain: &Chain, x: &[i16], columns: usize, recurrent: usize) -> Self {
        let rest = (columns / chain.columns).wrapping_sub(1);
        Self {
            x: x.as_ptr().cast(),
            words: columns / 2,
            entry: rest % chain.links * chain.code,
            passes: rest / chain.links * 2 + recurrent,
        }
    }
}

/// What the routine works on: four words in registers, the others on its stack.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct GruFrame {
    blocks: *const u8,
    end: *const u8,
    out: *mut u32,
    /// `16 − nh_shift`.
    shift: u32,
    /// Entry 256 of the tanh table.
    table: *const u32,
    w_shift: u32,
    input: Walk,
    recurrent: Walk,
    #[cfg(any(feature = "sparse", test))]
    panels: sparse::Panels,
}

impl GruFrame {
    /// Checks the buffers that the routine relies on, their lengths and alignments; the layer's own
    /// numbers and bytes are sound, because the loader has made it.
    #[inline]
    fn new(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) -> Option<Self> {
        Self::with(&CHAIN, layer, x, h, out)
    }

    #[inline(always)]
    fn with(
        chain: &Chain,
        layer: &GruLayer<'_>,
        x: &[i16],
        h: &[i16],
        out: &mut [i16],
    ) -> Option<Self> {
        let (input, units) = (layer.input(), layer.units());
        let (columns, rows) = (chain.layout.columns(input), chain.layout.columns(units));
        let blocks = layer.blocks.as_ptr_range();
        let addresses = x.as_ptr().addr() | h.as_ptr().addr() | out.as_ptr().addr();
        let sound = known(layer.layout) == chain.layout
            && addresses & 3 == 0
            && x.len() >= columns
            && h.len() >= rows
            && out.len() >= rows;
        if !sound {
            return None;
        }
        Some(Self {
            blocks: blocks.start,
            end: blocks.end,
            out: out.as_mut_ptr().cast(),
            shift: 16 - (layer.nh_shift & 7) as u32,
            table: TANH_TABLE.as_ptr_range().start.wrapping_add(256),
            w_shift: (layer.w_shift & 7) as u32,
            input: Walk::new(chain, x, columns, 0),
            recurrent: Walk::new(chain, h, rows, 1),
            #[cfg(any(feature = "sparse", test))]
            panels: sparse::Panels::none(h),
        })
    }
}

/// What the Dense routine works on: four words in registers, two on its stack.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct DenseFrame {
    weights: *const u8,
    x: *const u32,
    /// Column pairs.
    words: usize,
    /// Row pairs.
    pairs: usize,
    params: *const u8,
    out: *mut u32,
}

impl DenseFrame {
    /// Checks the buffers that the routine relies on, their lengths and alignments; the layer's own
    /// numbers and bytes are sound, because the loader has made it.
    #[inline]
    fn new(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) -> Option<Self> {
        let (input, units) = (layer.input(), layer.units());
        let (columns, rows) = (Layout::Pair.columns(input), Layout::Pair.rows(units));
        let addresses = x.as_ptr().addr() | out.as_ptr().addr();
        let sound = known(layer.layout).whole() == Layout::Pair
            && addresses & 3 == 0
            && x.len() >= columns
            && out.len() >= rows;
        let weights = layer.bytes.as_ptr();
        sound.then_some(Self {
            weights,
            x: x.as_ptr().cast(),
            words: columns / 2,
            pairs: rows / 2,
            params: weights.wrapping_add(Layout::Pair.dense_weights_len(input, units)),
            out: out.as_mut_ptr().cast(),
        })
    }
}

#[cfg(gru_dsp)]
#[allow(
    unsafe_code,
    reason = "stable Rust has no other way to the DSP instructions"
)]
mod shim {
    use super::{CHAIN, DenseFrame, FEATURE_PARAMS, GruFrame};
    use crate::input::FeatureParams;
    use core::arch::{asm, naked_asm};

    /// Runs a layer.
    #[inline(always)]
    pub(super) fn gru(frame: GruFrame) -> bool {
        // SAFETY: only `GruFrame::new` makes frames, from live slices that outlive this call, and
        // it has checked that they are aligned and as long as the routine's counts assume.
        unsafe { gru_layer(frame) };
        true
    }

    /// One step of a layer.
    ///
    /// # Safety
    /// `frame` must come from [`GruFrame::new`] and its slices must still be borrowed.
    //
    // Registers in the chain: r0 weights, r1 x, r2/r4/r6 mixed sums of r, z, n, r3/r5/r7 sums of A,
    // r8 two x, r9-r11 weights of r, z, n; r12 and lr free.
    #[unsafe(naked)]
    unsafe extern "C" fn gru_layer(frame: GruFrame) {
        naked_asm!(
            cpu!(),
            gru_start!(),
            // The gates' sums go on over the state, so they start with both: -128·Σ h is a multiple
            // of 2^w_shift.
            "ldr r2, [sp, #GRU_U_CORR]",
            "ldr r3, [sp, #GRU_W_SHIFT]",
            "asr r2, r3",
            "add r2, r4",
            "str r2, [sp, #GRU_JOINT]",
            ".set GRU_LINKS, {chain}",
            ".set GRU_LOG, {chain_log}",
            ".set GRU_CODE, {chain_code}",
            gru_first_panel!(),
            "movs r2, #1",
            "cmp r2, #0",

            // ---- a block: two units; the input part first, its first column pair here
            // The flags say what comes after the chain. Higher: the recurrent part, here and until then;
            // equal: the gates; negative: another pass.
            "30:",
            "ldr.w r1, [sp, #GRU_X]",
            "ldr.w r10, [r0, #4]",
            "ldr.w r11, [r0, #8]",
            "ldr.w r9, [r0], #12",
            "ldr.w r12, [sp, #GRU_X_CORR]",
            "ldr.w lr, [sp, #GRU_X_ENTRY]",
            "ldr.w r2, [sp, #GRU_JOINT]",
            "ldr.w r8, [r1], #4",
            "smlad r4, r10, r8, r2",
            "sxtb16 r10, r10, ror #8",
            "smlad r6, r11, r8, r12",
            "sxtb16 r11, r11, ror #8",
            "smlad r2, r9, r8, r2",
            "sxtb16 r9, r9, ror #8",
            "smuad r5, r10, r8",
            "smuad r7, r11, r8",
            "smuad r3, r9, r8",
            "bx lr",

            // ---- the chain
            ".p2align 2",
            "34:",
            ".rept {chain}",
            "ldr.w r8, [r1], #4",
            "ldr.w r10, [r0, #4]",
            "ldr.w r11, [r0, #8]",
            "ldr.w r9, [r0], #12",
            "smlad r4, r10, r8, r4",
            "sxtb16 r10, r10, ror #8",
            "smlad r6, r11, r8, r6",
            "sxtb16 r11, r11, ror #8",
            "smlad r2, r9, r8, r2",
            "sxtb16 r9, r9, ror #8",
            "smlad r5, r10, r8, r5",
            "smlad r7, r11, r8, r7",
            "smlad r3, r9, r8, r3",
            ".endr",
            "35:",
            "bls.w 36f",

            // ---- the input part is done: keep the candidate's sums, go on with the recurrent part
            "sub.w r6, r6, r7, lsl #8",
            "str r7, [sp, #GRU_SUMS]",
            "str r6, [sp, #GRU_SUMS + 4]",
            "ldr.w r1, [sp, #GRU_U]",
            "ldr.w r7, [sp, #GRU_W_SHIFT]",
            "ldr.w r10, [r0, #4]",
            "ldr.w r11, [r0, #8]",
            "ldr.w r9, [r0], #12",
            "ldr.w r12, [sp, #GRU_U_CORR]",
            "ldr.w lr, [sp, #GRU_U_ENTRY]",
            "ldr.w r8, [r1], #4",
            "lsl.w r4, r4, r7",
            "lsl.w r2, r2, r7",
            "lsl.w r5, r5, r7",
            "lsl.w r3, r3, r7",
            "smlad r4, r10, r8, r4",
            "sxtb16 r10, r10, ror #8",
            "smlad r6, r11, r8, r12",
            "sxtb16 r11, r11, ror #8",
            "smlad r2, r9, r8, r2",
            "sxtb16 r9, r9, ror #8",
            "movs.w r12, #0",
            "smlad r5, r10, r8, r5",
            "smuad r7, r11, r8",
            "smlad r3, r9, r8, r3",
            "bx lr",

            gru_passes!(),

            // ---- the gates; parameters of unit A at r0, of B at r0 + 16
            "36: bmi.w 39b",
            "sub.w r2, r2, r3, lsl #8",
            "sub.w r4, r4, r5, lsl #8",
            "sub.w r6, r6, r7, lsl #8",
            gru_gates!(),
            gru_panels!(),
            chain = const CHAIN.links,
            chain_log = const CHAIN.links.ilog2(),
            chain_code = const CHAIN.code,
        )
    }

    /// [`FeatureParams::condition`] with saturating instructions.
    #[inline(always)]
    pub(super) fn condition(p: &FeatureParams, raw: i32) -> i16 {
        let y: i32;
        // SAFETY: calculates in registers only.
        unsafe {
            asm!(
                "qsub {y}, {raw}, {offset}",
                "lsl {t}, {one}, {pre}",
                "lsr {t}, {t}, #1",
                "qadd {y}, {y}, {t}",
                "lsl {t}, {one}, {shift}",
                "asr {y}, {y}, {pre}",
                // -65536 becomes -65535.
                "ssat {y}, #17, {y}",
                "cmn {y}, #0x10000",
                "it eq",
                "addeq {y}, {y}, #1",
                "mul {y}, {y}, {m}",
                "add {y}, {y}, {t}, lsr #1",
                "asr {y}, {y}, {shift}",
                "ssat {y}, #16, {y}",
                y = out(reg) y,
                t = out(reg) _,
                one = in(reg) 1,
                raw = in(reg) raw,
                offset = in(reg) p.offset,
                pre = in(reg) (p.pre_shift & 31) as u32,
                shift = in(reg) (p.shift & 31) as u32,
                m = in(reg) p.multiplier as u32,
                options(pure, nomem, nostack),
            );
        }
        y as i16
    }

    /// [`condition`] of 16-bit counts, where it cannot saturate before its end.
    // One copy of it for all kinds of samples.
    #[inline(never)]
    pub(super) fn condition_narrow(params: &[u8], raw: &[i16], x: &mut [i16]) {
        let n = raw.len().min(x.len());
        if n == 0 || params.len() < FEATURE_PARAMS * n {
            return;
        }
        // SAFETY: there are n >= 1 values at each pointer, with 12 bytes of parameters each; single
        // loads of words need no alignment.
        unsafe {
            asm!(
                // `lsrs` leaves no carry, because multipliers have 15 bits; so `asrs` leaves the bit to
                // round by, also where it shifts by nothing.
                ".macro GRU_CONDITION m, v, o, shift, p, raw, x",
                "ldr \\m, [\\p, #8]",
                "ldrsh \\v, [\\raw], #2",
                "ldr \\o, [\\p], #12",
                "lsrs \\shift, \\m, #16",
                "uxth \\m, \\m",
                "sub \\v, \\v, \\o",
                "mul \\v, \\v, \\m",
                "asrs \\v, \\v, \\shift",
                "adc \\v, \\v, #0",
                "ssat \\v, #16, \\v",
                "strh \\v, [\\x], #2",
                ".endm",
                unrolled!(
                    "tst {n}, #1",
                    "beq 2f",
                    "GRU_CONDITION {m}, {v}, {o}, {shift}, {p}, {raw}, {x}",
                    "2: tst {n}, #2",
                    "beq 3f",
                    "GRU_CONDITION {m}, {v}, {o}, {shift}, {p}, {raw}, {x}",
                    "GRU_CONDITION {m}, {v}, {o}, {shift}, {p}, {raw}, {x}",
                    "3: cmp {x}, {end}",
                    "beq 5f",
                    "4:",
                    ".rept 4",
                    "GRU_CONDITION {m}, {v}, {o}, {shift}, {p}, {raw}, {x}",
                    ".endr",
                    "cmp {x}, {end}",
                    "bne 4b",
                ),
                // Here the comparison leaves no carry.
                rolled!(
                    "cmp {x}, {end} @ {n} of them",
                    "4: ldrh {m}, [{p}, #8]",
                    "ldrb {shift}, [{p}, #10]",
                    "ldrsh {v}, [{raw}], #2",
                    "ldr {o}, [{p}], #12",
                    "sub {v}, {v}, {o}",
                    "mul {v}, {v}, {m}",
                    "asrs {v}, {v}, {shift}",
                    "adc {v}, {v}, #0",
                    "ssat {v}, #16, {v}",
                    "strh {v}, [{x}], #2",
                    "cmp {x}, {end}",
                    "bne 4b",
                ),
                "5:",
                ".purgem GRU_CONDITION",
                p = inout(reg) params.as_ptr() => _,
                raw = inout(reg) raw.as_ptr() => _,
                x = inout(reg) x.as_mut_ptr() => _,
                end = in(reg) x.as_ptr_range().start.wrapping_add(n),
                n = in(reg) n,
                m = out(reg) _,
                v = out(reg) _,
                o = out(reg) _,
                shift = out(reg) _,
                options(nostack),
            );
        }
    }

    /// Copies `from` to `to`, as much as both have.
    #[inline(always)]
    pub(super) fn copy(from: &[i16], to: &mut [i16]) {
        // Whole blocks of words in the buffers of a state; the caller knows no others.
        let n = from.len().min(to.len()) & !3;
        if (from.as_ptr().addr() | to.as_ptr().addr()) & 3 != 0 {
            return;
        }
        // SAFETY: both slices have n values, whole pairs of words, and start at multiples of four.
        unsafe {
            asm!(
                "subs {n}, #16",
                "blo 3f",
                "2: ldm {from}!, {{r2, r3, r4, r5, r8, r10, r12, lr}}",
                "subs {n}, #16",
                "stm {to}!, {{r2, r3, r4, r5, r8, r10, r12, lr}}",
                "bhs 2b",
                "3: lsls {n}, {n}, #29",
                "bcc 4f",
                "ldm {from}!, {{r2, r3, r4, r5}}",
                "stm {to}!, {{r2, r3, r4, r5}}",
                "4: bpl 5f",
                "ldm {from}, {{r2, r3}}",
                "stm {to}, {{r2, r3}}",
                "5:",
                n = inout(reg) n => _,
                from = inout(reg) from.as_ptr() => _,
                to = inout(reg) to.as_mut_ptr() => _,
                out("r2") _,
                out("r3") _,
                out("r4") _,
                out("r5") _,
                out("r8") _,
                out("r10") _,
                out("r12") _,
                out("lr") _,
                options(nostack),
            );
        }
    }

    /// Runs a Dense layer.
    #[inline(always)]
    pub(super) fn dense(frame: DenseFrame) -> bool {
        // SAFETY: only `DenseFrame::new` makes frames, from live slices that outlive this call, and
        // it has checked that they are aligned and as long as the routine's counts assume.
        unsafe { dense_layer(frame) };
        true
    }

    /// A Dense layer, two row pairs at a time and one that is left over.
    ///
    /// # Safety
    /// `frame` must come from [`DenseFrame::new`] and its slices must still be borrowed.
    //
    // Registers: r0 and r1 weights, r2 x, r3 column pairs left, r4/r6 mixed sums, r5/r7 sums of A.
    #[unsafe(naked)]
    unsafe extern "C" fn dense_layer(frame: DenseFrame) {
        naked_asm!(
            cpu!(),
            ".set DENSE_X, 0",
            ".set DENSE_CORR, 4",
            ".set DENSE_WORDS, 8",
            ".set DENSE_PAIRS, 12",
            ".set DENSE_PARAMS, 52",
            ".set DENSE_OUT, 56",
            "push {{r4-r11, lr}}",
            "sub sp, #16",
            "str r1, [sp, #DENSE_X]",
            "strd r2, r3, [sp, #DENSE_WORDS]",
            "mov r10, r0",
            // -128·Σ x
            "movw r12, #0xff80",
            "movt r12, #0xff80",
            "mov r4, #0",
            unrolled!(
                "subs r2, #8",
                "blo 22f",
                "21: ldm r1!, {{r0, r3, r5-r9, lr}}",
                "subs r2, #8",
                "smlad r4, r0, r12, r4",
                "smlad r4, r3, r12, r4",
                "smlad r4, r5, r12, r4",
                "smlad r4, r6, r12, r4",
                "smlad r4, r7, r12, r4",
                "smlad r4, r8, r12, r4",
                "smlad r4, r9, r12, r4",
                "smlad r4, lr, r12, r4",
                "bhs 21b",
                "22: adds r2, #8",
                "beq 24f",
            ),
            "23: ldr r5, [r1], #4",
            "subs r2, #1",
            "smlad r4, r5, r12, r4",
            "bne 23b",
            "24: str r4, [sp, #DENSE_CORR]",
            "mov r0, r10",
            // ---- two row pairs
            "ldr r3, [sp, #DENSE_PAIRS]",
            "subs r3, #2",
            "blo.w 40f",
            "30: str r3, [sp, #DENSE_PAIRS]",
            "ldr r3, [sp, #DENSE_WORDS]",
            "ldr r2, [sp, #DENSE_X]",
            "ldr r4, [sp, #DENSE_CORR]",
            "add.w r1, r0, r3, lsl #2",
            "mov r5, #0",
            "mov r7, #0",
            "mov r6, r4",
            unrolled!(
                "subs r3, #8",
                "blo.w 32f",
                "31:",
                ".rept 4",
                "ldr.w r8, [r2], #4",
                "ldr.w r9, [r0], #4",
                "ldr.w r10, [r1], #4",
                "ldr.w r11, [r2], #4",
                "ldr.w r12, [r0], #4",
                "ldr.w lr, [r1], #4",
                "smlad r4, r9, r8, r4",
                "sxtb16 r9, r9, ror #8",
                "smlad r6, r10, r8, r6",
                "sxtb16 r10, r10, ror #8",
                "smlad r5, r9, r8, r5",
                "smlad r4, r12, r11, r4",
                "sxtb16 r12, r12, ror #8",
                "smlad r7, r10, r8, r7",
                "smlad r6, lr, r11, r6",
                "sxtb16 lr, lr, ror #8",
                "smlad r5, r12, r11, r5",
                "smlad r7, lr, r11, r7",
                ".endr",
                "subs r3, #8",
                "bhs.w 31b",
                "32: adds r3, #8",
                "bne.w 33f",
            ),
            rolled!("b.w 33f"),
            "34: mov r0, r1",
            "ldr r1, [sp, #DENSE_PARAMS]",
            "sub.w r4, r4, r5, lsl #8",
            "sub.w r6, r6, r7, lsl #8",
            "ldm r1!, {{r2, r3, r8, r9, r10, r11, r12, lr}}",
            "str r1, [sp, #DENSE_PARAMS]",
            "smmla r5, r5, r2, r3",
            "smmla r4, r4, r8, r9",
            "ldr.w r2, [sp, #DENSE_OUT]",
            "ldr.w r3, [sp, #DENSE_PAIRS]",
            "smmla r7, r7, r10, r11",
            "smmla r6, r6, r12, lr",
            "ssat r5, #16, r5",
            "ssat r4, #16, r4",
            "ssat r7, #16, r7",
            "ssat r6, #16, r6",
            "pkhbt r4, r5, r4, lsl #16",
            "pkhbt r6, r7, r6, lsl #16",
            "str r4, [r2], #4",
            "str r6, [r2], #4",
            "str r2, [sp, #DENSE_OUT]",
            "subs r3, #2",
            "bhs.w 30b",
            // ---- the last row pair of an odd number
            "40: adds r3, #2",
            "beq.w 45f",
            "ldr r3, [sp, #DENSE_WORDS]",
            "ldr r2, [sp, #DENSE_X]",
            "ldr r4, [sp, #DENSE_CORR]",
            "mov r5, #0",
            unrolled!(
                "subs r3, #3",
                "blo 42f",
                "41: ldr.w r8, [r2], #4",
                "ldr.w r9, [r0], #4",
                "ldr.w r10, [r2], #4",
                "ldr.w r11, [r0], #4",
                "ldr.w r12, [r2], #4",
                "ldr.w lr, [r0], #4",
                "subs r3, #3",
                "smlad r4, r9, r8, r4",
                "sxtb16 r9, r9, ror #8",
                "smlad r5, r9, r8, r5",
                "smlad r4, r11, r10, r4",
                "sxtb16 r11, r11, ror #8",
                "smlad r5, r11, r10, r5",
                "smlad r4, lr, r12, r4",
                "sxtb16 lr, lr, ror #8",
                "smlad r5, lr, r12, r5",
                "bhs 41b",
                "42: adds r3, #3",
                "beq 44f",
            ),
            "43: ldr.w r8, [r2], #4",
            "ldr.w r9, [r0], #4",
            "subs r3, #1",
            "smlad r4, r9, r8, r4",
            "sxtb16 r9, r9, ror #8",
            "smlad r5, r9, r8, r5",
            "bne 43b",
            "44: ldr r1, [sp, #DENSE_PARAMS]",
            "sub.w r4, r4, r5, lsl #8",
            "ldm r1, {{r2, r3, r8, r9}}",
            "smmla r5, r5, r2, r3",
            "smmla r4, r4, r8, r9",
            "ldr r1, [sp, #DENSE_OUT]",
            "ssat r5, #16, r5",
            "ssat r4, #16, r4",
            "pkhbt r4, r5, r4, lsl #16",
            "str r4, [r1]",
            "45: add sp, #16",
            "pop {{r4-r11, pc}}",
            // ---- column pairs beyond a multiple of eight
            "33: ldr.w r8, [r2], #4",
            "ldr.w r9, [r0], #4",
            "ldr.w r10, [r1], #4",
            "subs r3, #1",
            "smlad r4, r9, r8, r4",
            "sxtb16 r9, r9, ror #8",
            "smlad r6, r10, r8, r6",
            "sxtb16 r10, r10, ror #8",
            "smlad r5, r9, r8, r5",
            "smlad r7, r10, r8, r7",
            "bne 33b",
            "b 34b",
        )
    }
}

/// Other cores have no such instructions; the portable kernel does the work.
#[cfg(not(gru_dsp))]
mod shim {
    use super::{DenseFrame, GruFrame};

    pub(super) fn gru(_: GruFrame) -> bool {
        false
    }

    pub(super) fn dense(_: DenseFrame) -> bool {
        false
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::layout::UNIT_PARAMS;
    use crate::random::{self, SplitMix};
    use crate::writer::{Aligned, QuantLayer, QuantModel, write};
    use crate::{Layer, Model};
    use std::vec;
    use std::vec::Vec;

    // The instructions as the Armv7-M manual defines them.
    fn halves(v: u32) -> (i32, i32) {
        (v as i16 as i32, (v >> 16) as i16 as i32)
    }
    pub(super) fn smlad(n: u32, m: u32, a: u32) -> u32 {
        let ((nb, nt), (mb, mt)) = (halves(n), halves(m));
        a.wrapping_add((nb * mb) as u32)
            .wrapping_add((nt * mt) as u32)
    }
    fn smlsd(n: u32, m: u32, a: u32) -> u32 {
        let ((nb, nt), (mb, mt)) = (halves(n), halves(m));
        a.wrapping_add((nb * mb) as u32)
            .wrapping_sub((nt * mt) as u32)
    }
    pub(super) fn sxtb16_ror8(v: u32) -> u32 {
        let byte = |shift: u32| (v >> shift) as i8 as i16 as u16 as u32;
        byte(8) | byte(24) << 16
    }
    fn smulw(n: u32, half: i32) -> u32 {
        ((n as i32 as i64 * half as i64) >> 16) as u32
    }
    fn smmla(n: u32, m: u32, a: u32) -> u32 {
        a.wrapping_add(((n as i32 as i64 * m as i32 as i64) >> 32) as u32)
    }
    fn ssat(v: u32) -> u32 {
        (v as i32).clamp(-32768, 32767) as u32
    }
    fn pkhbt(n: u32, m: u32) -> u32 {
        n & 0xffff | m << 16
    }
    fn pkhtb(n: u32, m: u32) -> u32 {
        n & 0xffff_0000 | m >> 16
    }

    pub(super) fn words(bytes: &[u8]) -> Vec<u32> {
        let word = |b: &[u8]| u32::from_le_bytes(b.try_into().unwrap());
        bytes.chunks_exact(4).map(word).collect()
    }
    pub(super) fn pairs(x: &[i16]) -> Vec<u32> {
        let pair = |x: &[i16]| x[0] as u16 as u32 | (x[1] as u16 as u32) << 16;
        x.chunks_exact(2).map(pair).collect()
    }
    pub(super) fn correction(x: &[u32]) -> u32 {
        x.iter().fold(0, |acc, &x| smlad(x, 0xff80_ff80, acc))
    }
    fn table(v: u32, f: u32) -> u32 {
        let w = TANH_TABLE[((v as i32 >> 7).clamp(-256, 255) + 256) as usize];
        w.wrapping_add((halves(w).0 * f as i32) as u32)
    }

    /// What the chain leaves: sums of A and of B by gate.
    fn part(mut acc: [(u32, u32); 3], w: &[u32], x: &[u32]) -> [(u32, u32); 3] {
        for (w, &x) in w.chunks_exact(3).zip(x) {
            for ((mixed, a), &w) in acc.iter_mut().zip(w) {
                *mixed = smlad(w, x, *mixed);
                *a = smlad(sxtb16_ror8(w), x, *a);
            }
        }
        acc
    }

    /// `gru_layer`, instruction by instruction where it calculates.
    fn gru_twin(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
        let (xc, hc) = (
            Layout::Pair.columns(layer.input()),
            Layout::Pair.columns(layer.units()),
        );
        let (x, h) = (pairs(&x[..xc]), pairs(&h[..hc]));
        let shift = 16 - layer.nh_shift as u32;
        let block_len = Layout::Pair.gru_block_len(layer.input(), layer.units());
        let blocks = layer.blocks.chunks_exact(block_len);
        for ((block, &hw), out) in blocks.zip(&h).zip(out.chunks_mut(2)) {
            let block = words(block);
            let (w, rest) = block.split_at(3 * xc / 2);
            let (u, params) = rest.split_at(3 * hc / 2);
            let (wc, uc) = (correction(&x), correction(&h));
            let (shift_w, joint) = (layer.w_shift, ((uc as i32) >> layer.w_shift) as u32);
            let joint = (joint.wrapping_add(wc), 0);
            let [r, z, n] = part([joint, joint, (wc, 0)], w, &x);
            let shifted = |(mixed, a): (u32, u32)| (mixed << shift_w, a << shift_w);
            let acc = part([shifted(r), shifted(z), (uc, 0)], u, &h);
            let [r, z, nh, nx] =
                [acc[0], acc[1], acc[2], n].map(|(mixed, a)| (a, mixed.wrapping_sub(a << 8)));
            let unit = |of: fn((u32, u32)) -> u32, p: &[u32]| {
                let [r, z, nh, nx] = [r, z, nh, nx].map(of);
                let [p0, p1, p2, p3] = [p[0], p[1], p[2], p[3]].map(halves);
                let add = |a: u32, b: i32| a.wrapping_add(b as u32);
                let v_r = add(smulw(r, p0.0), p2.0);
                let v_z = add(smulw(z, p0.1), p2.1);
                let f = (pkhbt(v_r, v_z) & 0x007f_007f) << 8;
                let (r, z) = (table(v_r, f & 0xffff), table(v_z, f >> 16));
                let nx = add(smulw(nx, p1.0), p3.0);
                let nh = ssat(add(smulw(nh, p1.1), p3.1));
                let product = ((halves(r).1 * halves(nh).0) as u32).wrapping_add(nh << 15);
                let v_n = nx.wrapping_add((product as i32 >> shift) as u32);
                (z, table(v_n, (v_n & 127) << 8))
            };
            let ((z_a, n_a), (z_b, n_b)) = (
                unit(|(a, _)| a, &params[..UNIT_PARAMS / 4]),
                unit(|(_, b)| b, &params[UNIT_PARAMS / 4..]),
            );
            let hn = hw & 0xffff | n_a & 0xffff_0000;
            let a = smlsd(hn, pkhtb(z_a, z_a), 0x8000);
            let a = a.wrapping_sub(smlad(hn, 0x8000_8000, 0));
            let hn = pkhtb(hw, n_b);
            let b = smlsd(hn, pkhtb(z_b, z_b), smlad(hn, 0x8000_8000, 0));
            let o = pkhtb(0x8000u32.wrapping_sub(b), a);
            out[0] = o as i16;
            out[1] = (o >> 16) as i16;
        }
    }

    fn dense_twin(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
        let columns = Layout::Pair.columns(layer.input());
        let x = pairs(&x[..columns]);
        let all = words(layer.bytes);
        let weights = Layout::Pair.dense_weights_len(layer.input(), layer.units()) / 4;
        let (weights, params) = all.split_at(weights);
        let rows = weights
            .chunks_exact(columns / 2)
            .zip(params.chunks_exact(4));
        for ((w, p), out) in rows.zip(out.chunks_mut(2)) {
            let (mut mixed, mut a) = (correction(&x), 0);
            for (&w, &x) in w.iter().zip(&x) {
                mixed = smlad(w, x, mixed);
                a = smlad(sxtb16_ror8(w), x, a);
            }
            let b = mixed.wrapping_sub(a << 8);
            out[0] = ssat(smmla(a, p[0], p[1])) as i16;
            out[1] = ssat(smmla(b, p[2], p[3])) as i16;
        }
    }

    pub(in crate::kernel) fn values(rng: &mut SplitMix, n: usize) -> Vec<i16> {
        let extreme = rng.range(0, 7) == 0;
        let mut value = |_| match (extreme, rng.bits()) {
            (true, bits) if bits & 3 != 0 => [i16::MIN, i16::MAX][(bits >> 2) as usize & 1],
            (_, bits) => bits as i16,
        };
        let mut values: Vec<i16> = (0..n).map(&mut value).collect();
        values.resize(crate::layout::align4(n), 0);
        values
    }

    /// A GRU and a Dense layer of these sizes, some rows with the largest weights.
    pub(in crate::kernel) fn model(
        rng: &mut SplitMix,
        input: usize,
        units: usize,
        outputs: usize,
    ) -> QuantModel {
        let mut model = random::model(rng.bits(), input, &[units], outputs);
        for layer in &mut model.layers {
            let (w, u): (&mut [i8], &mut [i8]) = match layer {
                QuantLayer::Gru(g) => {
                    g.header.nh_shift = rng.range(0, 4) as u8;
                    let fits = |shift: &i64| (g.input << shift) + g.header.units as usize <= 516;
                    let most = (0..=7).rev().find(fits).unwrap_or(0);
                    g.header.w_shift = rng.range(0, most) as u8;
                    for m in g.mw.iter_mut().chain(&mut g.mu) {
                        if rng.range(0, 15) == 0 {
                            *m = 32767;
                        }
                    }
                    for b in &mut g.b {
                        if rng.range(0, 15) == 0 {
                            *b = [i16::MIN, i16::MAX][rng.range(0, 1) as usize];
                        }
                    }
                    (&mut g.w, &mut g.u)
                }
                QuantLayer::Dense(d) => (&mut d.w, &mut []),
            };
            for w in w.iter_mut().chain(u) {
                match rng.range(0, 31) {
                    0 => *w = -127,
                    1 => *w = 127,
                    _ => {}
                }
            }
        }
        model
    }

    fn compare(rng: &mut SplitMix, input: usize, units: usize, outputs: usize, rounds: usize) {
        let model = model(rng, input, units, outputs);
        let bytes = Aligned::new(&write(&model, Layout::Pair).unwrap());
        let loaded = Model::load(&bytes).unwrap();
        let [Layer::Gru(g), Layer::Dense(d)] = loaded.layers() else {
            panic!("two layers");
        };
        for _ in 0..rounds {
            let (x, h) = (values(rng, input), values(rng, units));
            let (mut want, mut found) = (h.clone(), h.clone());
            portable::gru_any(g, &x, &h, &mut want, &mut []);
            gru_twin(g, &x, &h, &mut found);
            assert_eq!(want[..units], found[..units], "{input} {units} {x:?} {h:?}");
            let mut want = vec![0; crate::layout::align4(outputs)];
            let mut found = want.clone();
            portable::dense_any(d, &h, &mut want);
            dense_twin(d, &h, &mut found);
            assert_eq!(want[..outputs], found[..outputs], "{units} {outputs} {h:?}");
        }
    }

    #[test]
    fn twin_equals_portable_in_every_length() {
        let mut rng = SplitMix(1);
        // The interpreter is a thousand times slower.
        let (longest, every, steps) = if cfg!(miri) { (5, 3, 1) } else { (67, 1, 20) };
        for n in (1..=longest).step_by(every) {
            compare(&mut rng, n, 1 + n * 7 % 11, 1 + n * 5 % 9, steps);
            compare(&mut rng, 1 + n * 5 % 13, n, 1 + n * 3 % 7, steps);
            compare(&mut rng, 3, 5, n, steps);
        }
    }

    #[test]
    fn twin_equals_portable_in_a_million_cases() {
        let mut rng = SplitMix(2);
        let (models, steps) = if cfg!(miri) { (3, 2) } else { (2_000, 500) };
        for _ in 0..models {
            let mut size = || rng.range(1, 4) as usize;
            let (input, units, outputs) = (size(), size(), size());
            compare(&mut rng, input, units, outputs, steps);
        }
    }

    #[test]
    fn frames_refuse_what_the_routine_could_not_run() {
        let mut rng = SplitMix(3);
        let model = model(&mut rng, 5, 7, 3);
        let bytes = Aligned::new(&write(&model, Layout::Pair).unwrap());
        let loaded = Model::load(&bytes).unwrap();
        let [Layer::Gru(g), Layer::Dense(d)] = loaded.layers() else {
            panic!("two layers");
        };
        #[repr(align(4))]
        struct Words([i16; 16]);
        let (a, mut b) = (Words([0; 16]), Words([0; 16]));
        let (x, out) = (&a.0, &mut b.0);
        assert!(GruFrame::new(g, &x[..6], &x[..8], &mut out[..8]).is_some());
        assert!(GruFrame::new(g, &x[..5], &x[..8], &mut out[..8]).is_none());
        assert!(GruFrame::new(g, &x[..6], &x[..7], &mut out[..8]).is_none());
        assert!(GruFrame::new(g, &x[..6], &x[..8], &mut out[..7]).is_none());
        assert!(GruFrame::new(g, &x[1..8], &x[..8], &mut out[..8]).is_none());
        assert!(GruFrame::new(g, &x[..6], &x[1..10], &mut out[..8]).is_none());
        assert!(GruFrame::new(g, &x[..6], &x[..8], &mut out[1..10]).is_none());
        let rows = GruLayer {
            layout: Layout::Rows,
            ..*g
        };
        assert!(GruFrame::new(&rows, &x[..6], &x[..8], &mut out[..8]).is_none());
        assert!(DenseFrame::new(d, &x[..8], &mut out[..4]).is_some());
        assert!(DenseFrame::new(d, &x[..7], &mut out[..4]).is_none());
        assert!(DenseFrame::new(d, &x[..8], &mut out[..3]).is_none());
        assert!(DenseFrame::new(d, &x[1..10], &mut out[..4]).is_none());
        assert!(DenseFrame::new(d, &x[..8], &mut out[1..8]).is_none());
        let rows = DenseLayer {
            layout: Layout::Rows,
            ..*d
        };
        assert!(DenseFrame::new(&rows, &x[..8], &mut out[..4]).is_none());
    }
}
