//! The vector table behind the core's exceptions.
//!
//! No program here enables an interrupt of a device, so there is one entry, the least that `cortex-m-rt` takes.

unsafe extern "C" {
    fn DefaultHandler();
}

// SAFETY: the name and the section are those in which `cortex-m-rt` wants this table.
#[unsafe(link_section = ".vector_table.interrupts")]
// SAFETY: likewise.
#[unsafe(no_mangle)]
static __INTERRUPTS: [unsafe extern "C" fn(); 1] = [DefaultHandler];
