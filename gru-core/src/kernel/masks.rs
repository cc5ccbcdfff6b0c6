//! Choices by masks, and what keeps the compiler from making branches of them.
//!
//! Armv6-M and RISC-V's base have no instruction for a choice (`gru_masks`). There the compiler makes a branch of every minimum,
//! maximum and saturation that it recognizes, in masks too, and a step takes longer for some values than for others.

/// The value, of which the compiler of a device's program knows nothing more.
#[inline(always)]
pub(crate) fn opaque(v: i32) -> i32 {
    #[cfg(any(target_arch = "arm", target_arch = "riscv32"))]
    let v = {
        let mut v = v;
        #[allow(unsafe_code, reason = "an instruction shim without an instruction")]
        // SAFETY: no instruction: nothing is read, written or changed.
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) v, options(pure, nomem, nostack, preserves_flags));
        }
        v
    };
    v
}

/// All ones where `v` is negative, else 0.
#[inline(always)]
pub(crate) fn sign_mask(v: i32) -> i32 {
    // Behind the shift alone, a comparison would be seen; before it alone, the choice.
    #[cfg(gru_masks)]
    return opaque(opaque(v) >> 31);
    #[cfg(not(gru_masks))]
    return v >> 31;
}

/// All ones where `v` is not 0, else 0.
#[inline(always)]
pub(crate) fn nonzero_mask(v: i32) -> i32 {
    (v | opaque(v.wrapping_neg())) >> 31
}
