//! What the whole-system tests share.

/// The README's Rust code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
