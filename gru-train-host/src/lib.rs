//! Trains, quantizes and exports GRU + Dense models for `gru-core`.
pub mod baseline;
pub mod bench_train;
pub mod board;
pub mod cli;
pub mod dataset;
pub mod decision;
pub mod import;
pub mod imu;
pub mod layers;
pub mod nn;
pub mod optim;
pub mod pipeline;
pub mod quantize;
pub mod reliability;
pub mod sequential;
pub mod spec;
pub mod train;
mod view;
