#!/usr/bin/env bash
# miri.sh: the unit tests of gru-core, and load and step of sound and hostile artifacts, under Miri; the latter on a
# big-endian machine as well, with the digest that every machine has. Needs a nightly toolchain with miri and rust-src.
set -euo pipefail
cd "$(dirname "$0")/.."
miri() { cargo +nightly miri test --locked -p gru-core "$@"; }
miri --features std,f32,update --lib
miri --features std --test same_bits
miri --features std --test same_bits --target s390x-unknown-linux-gnu
