//! The layer kernels: one contract, one definition of the right answer, and what this build uses.
//!
//! A kernel computes whole layers of the main variant (reset gate after the product, tanh and
//! sigmoid, no clipping) in the layout it was made for. Everything else runs in [`portable`],
//! which also is the specification: every other kernel equals it bit for bit.

use crate::artifact::FEATURE_PARAMS;
use crate::input::FeatureParams;
use crate::layout::{Layout, align4};
use crate::model::{DenseLayer, GruLayer};

pub mod dsp;
#[cfg(feature = "std")]
pub mod host;
pub(crate) mod masks;
#[cfg(gru_active = "mve")]
pub mod mve;
#[cfg(test)]
mod mve_twin;
pub mod portable;
#[cfg(any(gru_active = "quad", gru_active = "quad_mla", test))]
pub mod quad;

/// What a kernel has to compute.
///
/// Buffers are 4-byte aligned and padded with zeros to a multiple of four elements; `x` and `h`
/// have at least the padded number of columns, `out` the padded number of units or rows. The
/// caller (`step`) guarantees all of it, so implementations may rely on it but must not panic.
pub trait Kernel {
    /// The name that tests and logs show.
    const NAME: &'static str;
    /// The layout that this kernel is fast for.
    const LAYOUT: Layout;
    /// The layout with half a byte for a weight that it is fast for as well, where it has been built
    /// for one (feature `int4`). It is called with no others.
    const HALVED: Option<Layout> = None;

    /// The layout that leaves out recurrent weights that it is fast for as well, where it has been built for one
    /// (feature `sparse`). It is called with no others.
    const SPARSE: Option<Layout> = None;

    /// Whether zeros that follow the units in `h` stay zeros in [`update`](Self::update), as those of units that pad a block
    /// do by their parameters.
    const KEEPS_ZEROS: bool = false;

    /// One time step of a GRU layer: `out = h'` from the input `x` and the hidden state `h`.
    ///
    /// A kernel that changes the state in place has [`update`](Self::update) instead.
    #[inline]
    fn gru(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
        portable::Portable::gru(layer, x, h, out);
    }

    /// One time step of a GRU layer in place, also in the layouts [`HALVED`](Self::HALVED) and
    /// [`SPARSE`](Self::SPARSE): `h` becomes `h'`, padding unspecified. `scratch` is [`Layout::gru_scratch`] long.
    #[inline(always)]
    fn update(layer: &GruLayer<'_>, x: &[i16], h: &mut [i16], scratch: &mut [i16]) {
        if let Some(out) = scratch.get_mut(..align4(layer.units())) {
            Self::gru(layer, x, h, out);
            Self::store(out, h);
        }
    }

    /// A Dense layer without its activation: `out = sat16(b + W·x)`.
    fn dense(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]);

    /// Conditions one raw count with a feature's constants.
    #[inline]
    fn condition(params: &[u8; FEATURE_PARAMS], raw: i32) -> i16 {
        FeatureParams::read(params).condition(raw)
    }

    /// Conditions 16-bit counts; every feature is narrow
    /// (its offset has 16 bits and it has no shift before the multiplication).
    #[inline]
    fn condition_narrow(params: &[u8], raw: &[i16], x: &mut [i16]) {
        for ((x, &raw), p) in x
            .iter_mut()
            .zip(raw)
            .zip(params.as_chunks::<FEATURE_PARAMS>().0)
        {
            *x = FeatureParams::read(p).condition(raw as i32);
        }
    }

    /// Makes the new hidden state the current one; both have the padded number of units.
    #[inline]
    fn store(new: &[i16], h: &mut [i16]) {
        for (h, &new) in h.iter_mut().zip(new) {
            *h = new;
        }
    }
}

#[cfg(gru_kernel_absent)]
compile_error!("the kernel that `--cfg gru_kernel` asks for does not run on this target");

// One line per kernel; `build.rs` chooses.
#[cfg(all(gru_active = "dsp", not(any(gru_tiny, gru_compact))))]
use dsp::Dsp as Chosen;
#[cfg(all(gru_active = "dsp", any(gru_tiny, gru_compact)))]
use dsp::plain::Plain as Chosen;
#[cfg(gru_active = "host")]
use host::Host as Chosen;
#[cfg(gru_active = "mve")]
use mve::Mve as Chosen;
#[cfg(gru_active = "portable")]
use portable::Portable as Chosen;
#[cfg(any(gru_active = "quad", gru_active = "quad_mla"))]
use quad::Quad as Chosen;

/// The kernel that this build uses for its own layout.
pub type Active = Chosen;

/// The name of the kernel that this build uses.
pub const ACTIVE: &str = Active::NAME;

/// The layout that this build is fastest with.
pub const PREFERRED_LAYOUT: Layout = Active::LAYOUT;

/// Whether the portable kernel is there for whatever the active one is not made for: feature
/// `portable`, or `std`.
pub(crate) const PORTABLE: bool = cfg!(any(gru_portable, test));

/// Whether Dense layers can have an activation: feature `activations`.
pub(crate) const ACTIVATIONS: bool = cfg!(any(feature = "activations", test));

/// A loaded model's layout: where there is only one, the compiler knows it.
#[inline(always)]
pub(crate) const fn known(layout: Layout) -> Layout {
    match Active::HALVED {
        _ if PORTABLE => layout,
        Some(halved) if layout.is(halved) => halved,
        _ => match Active::SPARSE {
            Some(sparse) if layout.is(sparse) => sparse,
            _ => PREFERRED_LAYOUT,
        },
    }
}

/// The layout of the blocks of a loaded model: [`Layout::unpruned`] of its own.
#[inline(always)]
pub(crate) const fn unpruned(layout: Layout) -> Layout {
    match Active::HALVED {
        _ if PORTABLE => layout.unpruned(),
        Some(halved) if layout.is(halved) => halved,
        _ => PREFERRED_LAYOUT,
    }
}

/// Whether the active kernel is made for it.
#[inline(always)]
fn is_own(layout: Layout) -> bool {
    layout == Active::LAYOUT || Active::HALVED == Some(layout) || Active::SPARSE == Some(layout)
}

/// Runs a GRU layer of any variant and layout: `h` becomes `h'`. Returns how many values saturated
/// (counted for variants with unbounded activations only).
#[inline]
pub(crate) fn gru(layer: &GruLayer<'_>, x: &[i16], h: &mut [i16], scratch: &mut [i16]) -> u32 {
    let own = !PORTABLE || layer.is_main_variant() && is_own(layer.layout);
    let saturated = if own {
        Active::update(layer, x, h, scratch);
        0
    } else {
        let Some((out, more)) = scratch.split_at_mut_checked(align4(layer.units())) else {
            return 0;
        };
        let saturated = portable::gru_any(layer, x, h, out, more);
        Active::store(out, h);
        saturated
    };
    // Zeros follow the units, not what the kernel or an earlier layer left there.
    if (PORTABLE || !Active::KEEPS_ZEROS) && !layer.units().is_multiple_of(4) {
        // Three at most: a zero that the compiler does not know, or it would link its `memset` for them.
        let zero = core::hint::black_box(0);
        for pad in h.get_mut(layer.units()..).unwrap_or_default() {
            #[cfg(gru_active = "mve")]
            mve::scalar();
            *pad = zero;
        }
    }
    saturated
}

/// Runs a Dense layer of any layout.
#[inline]
pub(crate) fn dense(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
    if !PORTABLE || layer.layout == Active::LAYOUT {
        Active::dense(layer, x, out);
    } else {
        portable::dense_any(layer, x, out);
    }
}
