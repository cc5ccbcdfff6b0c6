//! What keeps the compiler from making branches of masks on cores that have no instruction for a choice: Armv6-M and
//! RISC-V's base.

/// The value, in a register, of which the compiler knows nothing more.
#[inline(always)]
pub(crate) fn opaque(mut v: i32) -> i32 {
    #[allow(unsafe_code, reason = "an instruction shim without an instruction")]
    // SAFETY: no instruction: nothing is read, written or changed.
    unsafe {
        core::arch::asm!("/* {0} */", inout(reg) v, options(pure, nomem, nostack, preserves_flags));
    }
    v
}

/// All ones where `v` is negative, else 0.
#[inline(always)]
pub(crate) fn sign_mask(mut v: i32) -> i32 {
    #[allow(unsafe_code, reason = "an instruction shim")]
    // SAFETY: one shift in a register, and on Arm the flags.
    unsafe {
        #[cfg(target_arch = "arm")]
        core::arch::asm!("asrs {0}, {0}, #31", inout(reg) v, options(pure, nomem, nostack));
        #[cfg(not(target_arch = "arm"))]
        core::arch::asm!("srai {0}, {0}, 31", inout(reg) v, options(pure, nomem, nostack));
    }
    v
}
