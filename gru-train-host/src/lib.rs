//! Trains, quantizes and exports GRU + Dense models for `gru-core`.
pub mod dataset;
pub mod import;
pub mod reliability;
pub mod spec;
mod view;
