#!/usr/bin/env bash
# race.sh: the hand-over of a million samples under ThreadSanitizer, which needs a nightly toolchain with rust-src (the
# standard library is built with it); a planted race has to be found.
set -euo pipefail
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-gnu
export RUSTFLAGS="-Zsanitizer=thread" RUSTDOCFLAGS="-Zsanitizer=thread"
run() {
    cargo +nightly test --locked -Zbuild-std --target "$target" --release -p gru-core --features std --test handover -- "$@"
}
run --exact samples_are_stepped_in_order_or_counted
export TSAN_OPTIONS="halt_on_error=1"
if run --exact control_a_race --ignored >/dev/null 2>&1; then
    echo "race.sh: the planted race was not found" >&2
    exit 1
fi
echo "ThreadSanitizer is content, and found the planted race"
