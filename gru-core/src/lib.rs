//! Stateful, quantized GRU inference for microcontrollers.
//!
//! Samples of a sensor go in, one time step at a time; decisions come out. Nothing allocates, nothing panics, the quantized
//! step has no float arithmetic, and every core computes the same bits.
//!
//! ```
//! use gru_core::{Model, Stream, include_model};
//!
//! // What `gru train` wrote: checked by the compiler, once and for all; the weights stay in flash.
//! const LEVEL: &Model = include_model!("../examples/level.gru");
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // All the memory that it takes.
//! let mut stream = Stream::<{ LEVEL.state_len() }, { LEVEL.decider_len() }>::new(LEVEL)?;
//! let mut classes = Vec::new();
//! for count in [-12_000i16; 30].into_iter().chain([12_000; 30]) {
//!     if let Some(decision) = stream.push(&[count])? {
//!         classes.push(decision.class()); // a change: `None` is unsure
//!     }
//! }
//! assert_eq!(classes, [Some(0), None, Some(1)]);
//! # Ok(())
//! # }
//! ```
//!
//! An artifact that is no part of the program, such as one that an update has put into flash, goes through [`Model::load`], which
//! checks the same with the same code:
//!
//! ```
//! # use gru_core::{Model, State, StateError, include_artifact};
//! # const FLASH: &[u8] = include_artifact!("../examples/level.gru");
//! match Model::load(FLASH) {
//!     Ok(model) => assert_eq!(model.features(), 1),
//!     Err(error) => println!("refused, the old one stays: {error}"),
//! }
//! ```
//!
//! # Which type does what
//!
//! - [`Model`]: the checked view of an artifact, borrowed and immutable. Any number of streams share it.
//! - [`State`]: all memory of one stream, owned by the caller; [`Model::step`] takes it and a sample, and gives the
//!   [`Output`]: logits, probabilities, whether the warm-up is over. Reset, [snapshot and restore](StateBuf::snapshot).
//! - [`Decider`], [`Stream`]: from outputs to [`Decision`]s by the rule in the artifact, see [`decision`].
//! - [`Window`]: memory for models with layers that read a window from its end, alone or beside a forward one, see
//!   [`Model::run_window`].
//! - [`LoadError`], [`StateError`]: what was found and what was expected. After a load, a step with a sample of the right
//!   length cannot fail.
//!
//! # One owner
//!
//! A step takes its state exclusively, so an interrupt and a thread cannot step one stream: the interrupt hands samples
//! over by a queue of one producer and one consumer (`tests/handover.rs`). Two streams step beside each other:
//!
//! ```
//! # use gru_core::{Model, State, StateError};
//! fn two(model: &Model, a: &mut State<64>, b: &mut State<64>) -> Result<(), StateError> {
//!     let first = model.step(a, &[1i16])?;
//!     let second = model.step(b, &[2i16])?;
//!     assert_eq!(first.len(), second.len());
//!     Ok(())
//! }
//! ```
//!
//! and one stream, whose output is still read, does not step again:
//!
//! ```compile_fail,E0499
//! # use gru_core::{Model, State, StateError};
//! fn two(model: &Model, a: &mut State<64>) -> Result<(), StateError> {
//!     let first = model.step(a, &[1i16])?;
//!     let second = model.step(a, &[2i16])?;
//!     assert_eq!(first.len(), second.len());
//!     Ok(())
//! }
//! ```
//!
//! nor from two threads:
//!
//! ```compile_fail,E0499
//! # use gru_core::{Model, State};
//! fn race(model: &Model, a: &mut State<64>) {
//!     std::thread::scope(|scope| {
//!         scope.spawn(|| model.step(a, &[1i16]).is_ok());
//!         scope.spawn(|| model.step(a, &[2i16]).is_ok());
//!     });
//! }
//! ```
//!
//! # Memory of a stream, in bytes
//!
//! | | exactly | known |
//! | --- | --- | --- |
//! | state | `size_of::<State<0>>() + 2 ·` [`state_len`](Model::state_len) | at compile time: [`state_len_of`] |
//! | decisions | `size_of::<Decider<0>>() + 2 ·` [`decider_len`](Model::decider_len), rounded up to the alignment | at compile time: [`decider_len_of`] |
//! | window | `2 ·` [`window_len`](Model::window_len) | 0 for models that stream |
//!
//! Too small a buffer is a typed error. A model itself takes no RAM but its view, some 300 bytes: on the stack, or where a
//! [`Loader`] stands; that of [`include_model!`] is in flash.
//!
//! Kernels follow the optimization level of this crate: at `s` and `z` M4, M7, M33, M0 and M0+ have kernels and a table of
//! tanh of their own for 7 to 34 % (M0+: 23 to 37 %) more instructions a step (the more, the fewer units); feature
//! `unrolled` puts quick ones in their place.
//!
//! # Features
//!
//! By default there are none: a program links the kernel of its core and takes models in that kernel's weight layout
//! ([`kernel::PREFERRED_LAYOUT`]; `gru train --layout` makes them) with GRU layers of Keras' default variant, linear Dense
//! layers, samples of 16-bit counts and the outputs of the latest step. [`Model::load`] refuses a model that needs more
//! with an error that names the feature ([`LoadError::Feature`]); functions and types of a feature that is missing do
//! not compile. In brackets what a feature adds to the 6.1 kB of load and step on Cortex-M4 and on M0+
//! (opt-level s, `firmware-examples/bench/size.sh`), before the program calls what it offers.
//!
//! - `activations`: Dense layers with an activation (0.4, 0.4 kB).
//! - `decision`: the decision layer, [`Stream`], [`Decider`] (2.0, 2.2 kB).
//! - `inputs`: `i32`, `f32` and `Option`s as samples; limits, gap policies, counts beyond 16 bits (0.5, 1.2 kB).
//! - `readouts`: means of the outputs over the window, over the latest steps, exponential ones (1.0, 1.6 kB).
//! - `windows`: GRU layers that read a window from its end, alone or as the second direction of a bidirectional
//!   layer (0.6, 0.6 kB).
//! - `portable`: all of these, every layout and every variant, by the portable kernel beside the core's own (17.4,
//!   19.5 kB).
//! - `int4`: on M4, M7, M33, M0 and M0+ models whose GRU weights take half a byte (`gru train --weight-bits 4`), beside
//!   those with whole bytes (5.7, 5.6 kB). Elsewhere `portable` runs them.
//! - `sparse`: on M4, M7, M33, M0 and M0+ models that leave out recurrent weights which pruning has made zero
//!   (`gru train --density 0.5`), beside those with all (3.4, 4.5 kB). Elsewhere `portable` runs them.
//! - `unrolled`: quick kernels also where the rest of the program is optimized for size: on M4, M7 and M33 with at most 0.5 %
//!   more instructions a step than at opt-level 3, on M0 and M0+ the same as there (2.6, 5.3 kB).
//! - `f32`: [`float`](https://docs.rs/gru-core/latest/gru_core/float/index.html), models in f32.
//! - `update`: power-fail-safe update of the model in two slots of a NOR flash, beside [`slot`].
//! - `defmt`: `defmt::Format` on all public types. `serde`: `Serialize` on all that hold values ([`Decision`], [`Counters`],
//!   [`LoadError`], …), `Deserialize` but where it would go around a check or a lifetime.
//! - `std`: what hosts need, [`writer`](https://docs.rs/gru-core/latest/gru_core/writer/index.html) above all; implies `portable`.
//!
//! `docs/artifact.md` has the bytes of an artifact, `docs/quantization.md` the number formats and error budget.
#![no_std]
#![deny(unsafe_code)]
#![deny(missing_docs)]

#[cfg(any(feature = "std", test))]
extern crate std;

pub mod activation;
pub mod artifact;
#[cfg(any(feature = "decision", test))]
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
pub mod sparse;
mod state;
mod state_len;
mod step;
#[cfg(any(gru_tiny, test))]
mod tanh_nodes;
mod tanh_table;
#[cfg(feature = "update")]
pub mod update;
mod verify;
mod window;
#[cfg(any(feature = "std", test))]
pub mod writer;

#[cfg(any(feature = "decision", test))]
pub use decision::{Decider, DeciderBuf, DeciderRef, Decision, Outcome, Stream, Threshold};
pub use load::{Embedded, Feature, Field, LoadError, Loader, stated_len};
pub use model::{DenseLayer, GruLayer, Layer, Model};
pub use state::{Counters, Digest, State, StateBuf, StateError, StateRef};
pub use state_len::{decider_len_of, state_len_of};
pub use step::Output;
pub use verify::Verify;
pub use window::{Window, WindowBuf, WindowRef};
