#!/usr/bin/env bash
# miri.sh [all]: gru-core under Miri, which needs a nightly toolchain with miri and rust-src. The unit tests, and load and
# step of sound and hostile artifacts, with every check; then the digests that all machines have, on a big-endian one:
# of eleven models over 100 steps, or with `all` over 1,000 (ten minutes of CPU instead of one).
# Miri has one thread, so parts run as processes beside each other.
set -euo pipefail
cd "$(dirname "$0")/.."
big=s390x-unknown-linux-gnu
case ${1:-} in
all) runs=(long_run_0 long_run_1 long_run_2 long_run_3) ;;
*) runs=(hundred_steps_0 hundred_steps_1) ;;
esac
export MIRIFLAGS=-Zmiri-disable-isolation
miri() { cargo +nightly miri test --locked -p gru-core "$@"; }
# Soundness is what the other runs look for; here only the bits count, and so it is twice as fast.
digests() {
    MIRIFLAGS="$MIRIFLAGS -Zmiri-disable-stacked-borrows -Zmiri-disable-validation" \
        miri --features std --test bitexact --target "$big" -- --include-ignored --exact "$@"
}
jobs=()
wait_for_all() {
    for job in "${jobs[@]}"; do wait "$job"; done
    jobs=()
}
trap 'kill "${jobs[@]}" 2>/dev/null || true' EXIT

# Once without a test, so that the processes below do not build beside each other.
miri --features std,f32,update --lib --no-run
miri --features std --test same_bits --no-run
miri --features std --test same_bits --test bitexact --target "$big" --no-run

miri --features std,f32,update --lib & jobs+=($!)
miri --features std --test same_bits & jobs+=($!)
wait_for_all
miri --features std --test same_bits --target "$big" & jobs+=($!)
digests windows_have_the_digest_of_every_machine "${runs[0]}" & jobs+=($!)
for run in "${runs[@]:1}"; do
    digests "$run" & jobs+=($!)
done
wait_for_all
echo "Miri is content"
