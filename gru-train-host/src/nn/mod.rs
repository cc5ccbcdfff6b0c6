//! The training engine: float networks, forward and backward, on all instruction sets.

pub mod activation;
pub mod data;
pub mod dense;
mod gemm;
pub mod gru;
pub mod init;
pub mod loss;
pub mod network;
pub mod recurrent;
pub mod rng;
pub mod session;
pub mod simd;
