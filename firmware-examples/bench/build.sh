#!/usr/bin/env bash
# build.sh CORE WORKLOAD OUT.elf: builds the measured program.
# WORKLOAD "check" (or "check-f32") builds the program that compares with the host's results instead, "interrupts" one that does so
# while an interrupt comes again and again,
# "count" (or "count-int4", "count-sparse50") the one that counts instructions by itself (see count.sh).
# "size" (or "size-int4", "size-sparse") builds load and step and nothing else, without vectors and start-up: see size.sh.
# CORE: m0plus m3 m4 m7 m33 m55. WORKLOAD: w1 ... w5, with a suffix -f32, -small (opt-level s, as size; all others 3),
# -fast (opt-level s and the feature `unrolled`), -embedded (the model is a constant, and the loader no part of the program), or
# (not m3, m55) -int4, or -sparse50 for 50 % of the recurrent weights (any number from 1 to 100).
set -euo pipefail
fail() { echo "build.sh: $1" >&2; exit 2; }
[ $# -eq 3 ] || fail "usage: build.sh CORE WORKLOAD OUT.elf"
core=$1 workload=$2
case $core in
    m0plus) target=thumbv6m-none-eabi cpu="" ;;
    m3) target=thumbv7m-none-eabi cpu="" ;;
    m4) target=thumbv7em-none-eabihf cpu="" ;;
    m7) target=thumbv7em-none-eabihf cpu=cortex-m7 ;;
    m33) target=thumbv8m.main-none-eabihf cpu=cortex-m33 ;;
    m55) target=thumbv8m.main-none-eabihf cpu=cortex-m55 ;;
    *) fail "unknown core '$core'" ;;
esac
case $workload in
    w[1-5]) bin=step features="" ;;
    w[1-5]-f32) bin=step_f32 features=f32 ;;
    w[1-5]-int4) bin=step features=int4 ;;
    w[1-5]-small) bin=step features="" ;;
    w[1-5]-fast) bin=step features=unrolled ;;
    w[1-5]-embedded) bin=step features=embedded ;;
    w[1-5]-sparse[1-9]*) bin=step features=sparse ;;
    check|interrupts|count) bin=$workload features="" ;;
    size) bin=size features="" ;;
    size-int4|size-sparse) bin=size features=${workload#size-} ;;
    check-small) bin=check features="" ;;
    check-fast) bin=check features=unrolled ;;
    count-small) bin=count features="" ;;
    count-fast) bin=count features=unrolled ;;
    count-int4) bin=count features=int4 ;;
    count-sparse[1-9]*) bin=count features=sparse ;;
    check-f32) bin=check_f32 features=f32 ;;
    *) fail "unknown workload '$workload'" ;;
esac
mkdir -p "$(dirname "$3")"
out=$(cd "$(dirname "$3")" && pwd)/$(basename "$3")
cd "$(dirname "$0")"
case $workload in
    *-small|*-fast|size|size-*) export CARGO_PROFILE_RELEASE_OPT_LEVEL=s ;;
esac
case $workload in size|size-*) workload=w1 ;; esac
export GRU_BENCH_CORE=$core GRU_BENCH_WORKLOAD=$workload
export RUSTFLAGS="${cpu:+-C target-cpu=$cpu} ${GRU_BENCH_RUSTFLAGS:-}"
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
CARGO_TARGET_DIR=$target_dir cargo build -q --release --bin "$bin" --features "$features" --target "$target"
cp "$target_dir/$target/release/$bin" "$out"
