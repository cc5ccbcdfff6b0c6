//! The `gru` command.
fn main() {}
