#!/usr/bin/env bash
# miri.sh [all]: gru-core under Miri, which needs a nightly toolchain with miri and rust-src. On this machine the unit tests and the
# queue between two threads, on a big-endian one load and step of sound and hostile artifacts, with every check. With `all` also the
# integration tests on this machine, load and step among them, in the sizes that they have under Miri, with a thousand hostile
# artifacts; and on the big-endian one the digests that all machines have: nine models with every option over 1,000 steps, eleven
# larger ones over 100, windows.
# Miri has one thread, so parts run as processes beside each other.
set -euo pipefail
cd "$(dirname "$0")/.."
big=s390x-unknown-linux-gnu
case ${1:-} in
all) all=yes ;;
'') all=no ;;
*) echo "miri.sh: unknown argument '$1', expected nothing or all" >&2; exit 2 ;;
esac
export MIRIFLAGS=-Zmiri-disable-isolation
miri() { cargo +nightly miri test --locked -p gru-core "$@"; }
# Soundness is what the other runs look for; here only the bits count, and so it is twice as fast.
digests() {
    MIRIFLAGS="$MIRIFLAGS -Zmiri-disable-stacked-borrows -Zmiri-disable-validation -Zub-checks=no" \
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
miri --features std --test same_bits --target "$big" --no-run
miri --features std --test handover --no-run

miri --features std,f32,update --lib & jobs+=($!)
miri --features std --test same_bits --target "$big" & jobs+=($!)
miri --features std --test handover & jobs+=($!)
wait_for_all
# A race that is planted has to be found.
if miri --features std --test handover -- --exact control_a_race --ignored >/dev/null 2>&1; then
    echo "miri.sh: the planted race was not found" >&2
    exit 1
fi
if [ $all = yes ]; then
    miri --features std,f32,update --test same_bits --test windows --no-run
    miri --features std --test bitexact --target "$big" --no-run
    miri --features std --test same_bits -- --include-ignored & jobs+=($!)
    for run in windows_have_the_digest_of_every_machine hundred_steps_0 hundred_steps_1 tiny_models_0 tiny_models_1; do
        digests "$run" & jobs+=($!)
    done
    for test in decision example_artifact half_bytes kernels roundtrip sparse tanh_table windows; do
        miri --features std,f32,update --test "$test" & jobs+=($!)
    done
    wait_for_all
fi
echo "Miri is content"
