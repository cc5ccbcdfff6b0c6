#!/usr/bin/env bash
# bitexact.sh: the digests of bitexact.rs in debug and release builds and on 32 bits (`miri.sh` has them on a
# big-endian machine). What is not installed is named and left out, unless CI is set.
set -euo pipefail
cd "$(dirname "$0")/.."
test=(--features std --test bitexact)
missing() { echo "left out: $1"; [ -z "${CI:-}" ]; }
cargo test -q "${test[@]}"
cargo test -q --release "${test[@]}"
RUSTFLAGS='--cfg gru_kernel="portable"' CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/portable \
    cargo test -q --release "${test[@]}"
if rustup target list --installed | grep -q i686-unknown-linux-gnu; then
    cargo test -q --release --target i686-unknown-linux-gnu "${test[@]}"
else
    missing "i686-unknown-linux-gnu"
fi
echo "the same bits everywhere"
