#!/usr/bin/env bash
# bitexact.sh [machines]: the digests of bitexact.rs in debug and release builds, with the portable kernel, on 32 bits (i686) and
# on a big-endian machine (s390x in QEMU); with `machines` only the last two. What is not installed is named and left out,
# unless CI is set: it takes the rustup targets and, on Debian, gcc-12-multilib, gcc-s390x-linux-gnu and qemu-user.
set -euo pipefail
cd "$(dirname "$0")/.."
test=(--features std --test bitexact)
missing() { echo "left out: $1"; [ -z "${CI:-}" ]; }
case ${1:-} in
'')
    cargo test -q "${test[@]}"
    cargo test -q --release "${test[@]}"
    RUSTFLAGS='--cfg gru_kernel="portable"' CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/portable \
        cargo test -q --release "${test[@]}"
    ;;
machines) ;;
*) echo "bitexact.sh: unknown argument '$1', expected nothing or machines" >&2; exit 2 ;;
esac
installed() { rustup target list --installed | grep -q "$1"; }
if installed i686-unknown-linux-gnu; then
    cargo test -q --release --target i686-unknown-linux-gnu "${test[@]}"
else
    missing "i686-unknown-linux-gnu"
fi
export CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_LINKER=${CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_LINKER:-s390x-linux-gnu-gcc}
export CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_RUNNER="qemu-s390x -L /usr/s390x-linux-gnu"
if installed s390x-unknown-linux-gnu && command -v qemu-s390x >/dev/null &&
    command -v "$CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_LINKER" >/dev/null; then
    cargo test -q --release --target s390x-unknown-linux-gnu "${test[@]}"
else
    missing "s390x-unknown-linux-gnu, its linker or qemu-s390x"
fi
echo "the same bits everywhere"
