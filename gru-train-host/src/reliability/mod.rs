//! Promises and how they are measured: one function per row of the reliability table.
//!
//! Each check here returns figures instead of asserting, so that the `reliability` command prints them and the
//! tests compare them. Each has a negative control: the same check on a planted fault, which
//! must be found (see the tests `power_cut`, `hostile` and `reliability`).

pub mod blobs;
pub mod device;
pub mod drift;
pub mod faults;
pub mod flash;
pub mod handover;
pub mod hostile;
pub mod power_cut;
pub mod report;
pub mod stream;
pub mod supply;
pub mod training;
