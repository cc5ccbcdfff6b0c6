//! Stateful, quantized GRU inference for microcontrollers.
//!
//! A program links the kernel of its core and takes models in that kernel's weight layout
//! ([`kernel::PREFERRED_LAYOUT`]; `gru train --layout` makes them) and of Keras' default variant. With
//! the feature `portable` it takes every layout and variant, by the portable kernel beside its own,
//! and is 7 to 14 kB larger; other models are refused by [`Model::load`] otherwise.
#![no_std]
#![deny(unsafe_code)]
#![deny(missing_docs)]

#[cfg(any(feature = "std", test))]
extern crate std;

pub mod activation;
pub mod artifact;
pub mod decision;
#[cfg(feature = "f32")]
pub mod float;
#[cfg(feature = "defmt")]
mod formats;
mod header;
pub mod input;
pub mod kernel;
pub mod layout;
mod load;
mod model;
pub mod quant;
#[cfg(any(feature = "std", test))]
pub mod random;
pub mod slot;
pub mod softmax;
mod state;
mod state_len;
mod step;
mod tanh_table;
#[cfg(feature = "update")]
pub mod update;
mod verify;
mod window;
#[cfg(any(feature = "std", test))]
pub mod writer;

pub use decision::{Decider, DeciderBuf, DeciderRef, Decision, Outcome, Stream, Threshold};
pub use load::{Field, LoadError, stated_len};
pub use model::{DenseLayer, GruLayer, Layer, Model};
pub use state::{Counters, Digest, State, StateBuf, StateError, StateRef};
pub use state_len::{decider_len_of, state_len_of};
pub use step::Output;
pub use verify::Verify;
pub use window::{Window, WindowBuf, WindowRef};
