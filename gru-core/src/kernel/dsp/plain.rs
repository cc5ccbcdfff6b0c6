//! The kernel of programs whose GRU layers all are of the layout [`Layout::Pair`]: without the features `int4` and `sparse`.
//!
//! The state is updated in place. Two modules have the routines: [`super::compact`], and [`super::tiny`] for programs that are
//! optimized for size.

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
pub struct Plain;

impl Kernel for Plain {
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
    use core::ptr::from_ref;

    #[cfg(gru_compact)]
    use super::super::compact::{dense_layer, gru_layer};
    #[cfg(gru_tiny)]
    use super::super::tiny::{dense_layer, gru_layer};

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
}
