#!/usr/bin/env bash
# run.sh CORE: compares the kernel of CORE with the portable one on an emulated core.
# CORE: microbit (Cortex-M0) m0plus m3 m4 m7 m33 m55. Needs qemu-system-arm.
# GRU_AGREE_KERNEL: the kernel that has to be linked, if not the core's usual one.
set -euo pipefail
fail() { echo "run.sh: $1" >&2; exit 2; }
[ $# -eq 1 ] || fail "usage: run.sh CORE"
cpu=""
case $1 in
    microbit) target=thumbv6m-none-eabi machine=microbit kernel=quad ;;
    m0plus) target=thumbv6m-none-eabi machine=mps2-an385 kernel=quad ;;
    m3) target=thumbv7m-none-eabi machine=mps2-an385 kernel=quad_mla ;;
    m4) target=thumbv7em-none-eabihf machine=mps2-an386 kernel=dsp ;;
    m7) target=thumbv7em-none-eabihf machine=mps2-an500 cpu=cortex-m7 kernel=dsp ;;
    m33) target=thumbv8m.main-none-eabihf machine=mps2-an505 cpu=cortex-m33 kernel=dsp ;;
    m55) target=thumbv8m.main-none-eabihf machine=mps3-an547 cpu=cortex-m55 kernel=mve ;;
    *) fail "unknown core '$1'" ;;
esac
cd "$(dirname "$0")"
export GRU_AGREE_CORE=$1
export RUSTFLAGS="${cpu:+-C target-cpu=$cpu} ${GRU_AGREE_RUSTFLAGS:-}"
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
CARGO_TARGET_DIR=$target_dir cargo build -q --release --target "$target"
log=$(timeout 120 qemu-system-arm -M "$machine" -nographic -monitor none -serial none \
    -semihosting-config enable=on,target=native \
    -kernel "$target_dir/$target/release/agree" 2>&1) || { echo "$log"; fail "$1 differs"; }
echo "$1: $log"
[[ $log == *"kernel ${GRU_AGREE_KERNEL:-$kernel}: "* ]] || fail "another kernel was linked"
