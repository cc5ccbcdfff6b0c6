//! Recurrent weights that are left out, layout [`Layout::PairSparse`]: see [`crate::sparse`].
//!
//! The routine of the layout `Pair` runs the four blocks of a panel over the columns that it has. In front of
//! each panel it gathers their values, sums them for the bias, and works out where such a part
//! enters the chain and where the panel ends: some 45 cycles and 5 for each pair of columns on an M4.

#[cfg(any(feature = "sparse", test))]
use super::GruFrame;
#[cfg(any(feature = "sparse", test))]
use crate::kernel::{PORTABLE, portable};
#[cfg(any(feature = "sparse", test))]
use crate::layout::Layout;
#[cfg(any(feature = "sparse", test))]
use crate::model::GruLayer;

/// What the routine needs beside the frame of a layer that has all weights.
#[cfg(any(feature = "sparse", test))]
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Panels {
    /// The state, two units a word; `GruFrame::recurrent` has the room for what is gathered of it.
    state: *const u32,
    /// Blocks of two units that are left, 0 where the layer has no panels.
    left: usize,
    /// Bytes of a block without recurrent weights.
    block: usize,
}

#[cfg(any(feature = "sparse", test))]
impl Panels {
    /// Of a layer with all weights.
    #[inline(always)]
    pub(super) fn none(h: &[i16]) -> Self {
        Self {
            state: h.as_ptr().cast(),
            left: 0,
            block: 0,
        }
    }
}

#[cfg(any(feature = "sparse", test))]
impl GruFrame {
    /// [`GruFrame::new`] for a layer of panels.
    #[inline]
    fn with_panels(
        layer: &GruLayer<'_>,
        x: &[i16],
        h: &[i16],
        out: &mut [i16],
        gathered: &mut [i16],
    ) -> Option<Self> {
        let (input, units) = (layer.input(), layer.units());
        let rows = Layout::Pair.columns(units);
        let sound = layer.layout == Layout::PairSparse
            && gathered.as_ptr().addr() & 3 == 0
            && gathered.len() >= rows;
        let pair = GruLayer {
            layout: Layout::Pair,
            ..*layer
        };
        let mut frame = Self::new(&pair, x, h, out).filter(|_| sound)?;
        frame.recurrent.x = gathered.as_ptr().cast();
        // The routine counts what there is of each panel.
        frame.recurrent.words = 0;
        frame.panels.left = rows / 2;
        frame.panels.block = Layout::Pair.gru_block_len(input, 0);
        Some(frame)
    }
}

/// One step of a layer.
#[cfg(any(feature = "sparse", test))]
#[inline]
pub(super) fn gru(
    layer: &GruLayer<'_>,
    x: &[i16],
    h: &[i16],
    out: &mut [i16],
    gathered: &mut [i16],
) {
    let frame = GruFrame::with_panels(layer, x, h, out, gathered);
    if frame.is_none_or(|frame| !super::shim::gru(frame)) && PORTABLE {
        portable::gru_any(layer, x, h, out, gathered);
    }
}

/// Where the frame has the state whose units are updated.
#[cfg(all(gru_dsp, not(feature = "sparse")))]
macro_rules! gru_state {
    () => {
        ".set GRU_STATE, 100\n"
    };
}
#[cfg(all(gru_dsp, feature = "sparse"))]
macro_rules! gru_state {
    () => {
        ".set GRU_STATE, 116\n"
    };
}

/// Goes on with the first panel, where there is one.
#[cfg(all(gru_dsp, not(feature = "sparse")))]
macro_rules! gru_first_panel {
    () => {
        ""
    };
}
#[cfg(all(gru_dsp, feature = "sparse"))]
macro_rules! gru_first_panel {
    () => {
        concat!(
            ".set GRU_LEFT, 120\n",
            ".set GRU_BLOCK, 124\n",
            "ldr r2, [sp, #GRU_LEFT]\n",
            "cmp r2, #0\n",
            "bne.w 50f\n",
        )
    };
}

/// Goes on with the next panel, where there is one, or ends the routine.
#[cfg(all(gru_dsp, not(feature = "sparse")))]
macro_rules! gru_panels {
    () => {
        concat!("add sp, #40\n", "pop {{r4-r11, pc}}\n")
    };
}
#[cfg(all(gru_dsp, feature = "sparse"))]
macro_rules! gru_panels {
    () => {
        concat!(
            "ldr r2, [sp, #GRU_LEFT]\n",
            "cmp r2, #0\n",
            "bne 50f\n",
            "add sp, #40\n",
            "pop {{r4-r11, pc}}\n",
            // ---- a panel at r0: gathers the columns that are there; -128·Σ of them in r4
            "50:\n",
            "ldrb r3, [r0], #1\n",
            "ldr r1, [sp, #GRU_STATE]\n",
            "ldr r2, [sp, #GRU_U]\n",
            "movw r12, #0xff80\n",
            "movt r12, #0xff80\n",
            "mov r4, #0\n",
            "subs r5, r3, #3\n",
            "blo 52f\n",
            "51:\n",
            "ldrb r6, [r0]\n",
            "ldrb r7, [r0, #1]\n",
            "ldrb r8, [r0, #2]\n",
            "ldrb r9, [r0, #3]\n",
            "adds r0, #4\n",
            "ldr r6, [r1, r6, lsl #2]\n",
            "ldr r7, [r1, r7, lsl #2]\n",
            "ldr r8, [r1, r8, lsl #2]\n",
            "ldr r9, [r1, r9, lsl #2]\n",
            "subs r5, #4\n",
            "smlad r4, r6, r12, r4\n",
            "smlad r4, r7, r12, r4\n",
            "smlad r4, r8, r12, r4\n",
            "smlad r4, r9, r12, r4\n",
            "stm r2!, {{r6-r9}}\n",
            "bhs 51b\n",
            "52: adds r5, #4\n",
            "beq 54f\n",
            "53: ldrb r6, [r0], #1\n",
            "subs r5, #1\n",
            "ldr r6, [r1, r6, lsl #2]\n",
            "smlad r4, r6, r12, r4\n",
            "str r6, [r2], #4\n",
            "bne 53b\n",
            "54: adds r0, #3\n",
            "bic r0, #3\n",
            "ldr r5, [sp, #GRU_W_SHIFT]\n",
            "ldr r6, [sp, #GRU_X_CORR]\n",
            "str r4, [sp, #GRU_U_CORR]\n",
            "asr r4, r5\n",
            "add r4, r6\n",
            "str r4, [sp, #GRU_JOINT]\n",
            // The end of at most four blocks.
            "ldr r5, [sp, #GRU_LEFT]\n",
            "ldr r6, [sp, #GRU_BLOCK]\n",
            "add r7, r3, #1\n",
            "add r7, r7, r7, lsl #1\n",
            "add r6, r6, r7, lsl #2\n",
            "cmp r5, #4\n",
            "ite lo\n",
            "movlo r8, r5\n",
            "movhs r8, #4\n",
            "sub r5, r8\n",
            "mla r8, r8, r6, r0\n",
            "str r5, [sp, #GRU_LEFT]\n",
            "str r8, [sp, #GRU_END]\n",
            // The way into the chain.
            "and r5, r3, #GRU_LINKS - 1\n",
            "mov r6, #GRU_CODE\n",
            "mul r5, r5, r6\n",
            "adr.w r6, 35b\n",
            "sub r6, r5\n",
            "adds r6, #1\n",
            "lsrs r3, r3, #GRU_LOG\n",
            "beq 55f\n",
            "str r6, [sp, #GRU_U_REAL]\n",
            "lsls r3, r3, #1\n",
            "adds r3, #1\n",
            "str r3, [sp, #GRU_U_PASSES]\n",
            "adr.w r6, 38b\n",
            "adds r6, #1\n",
            "55: str r6, [sp, #GRU_U_ENTRY]\n",
            "movs r2, #1\n",
            "cmp r2, #0\n",
            "b.w 30b\n",
        )
    };
}
