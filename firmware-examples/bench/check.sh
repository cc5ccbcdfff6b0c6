#!/usr/bin/env bash
# check.sh CORE [FORM]: runs models of many shapes on an emulated core and compares the digests of their states with the
# host's. CORE: m0plus m3 m4 m7 m33 m55. FORM: check, or check-small for the kernels of programs that are optimized for size,
# check-fast for those of such programs with the feature `unrolled`; interrupts, for steps that are interrupted wherever they
# can be by steps of another stream, and a handler that does not give a register back has to be found.
set -euo pipefail
fail() { echo "check.sh: $1" >&2; exit 2; }
[ $# -ge 1 ] || fail "usage: check.sh CORE [FORM]"
cd "$(dirname "$0")"
case $1 in
    m0plus|m3) machine=mps2-an385 ;;
    m4) machine=mps2-an386 ;;
    m7) machine=mps2-an500 ;;
    m33) machine=mps2-an505 ;;
    m55) machine=mps3-an547 ;;
    *) fail "unknown core '$1'" ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
form=${2:-check}
# The clock counts instructions where interrupts have to come at other ones each time.
clock=()
[ "$form" != interrupts ] || clock=(-icount "shift=6,sleep=off")
run() {
    timeout 60 qemu-system-arm -M "$machine" "${clock[@]}" -nographic -monitor none -serial none \
        -semihosting-config enable=on,target=native -kernel "$1" </dev/null
}
./build.sh "$1" "$form" "$work/check.elf"
run "$work/check.elf" || { echo "check.sh: $1 $form ends with $?" >&2; exit 1; }
if [ "$form" = interrupts ]; then
    GRU_BENCH_PLANT=yes ./build.sh "$1" interrupts "$work/planted.elf"
    found=0
    run "$work/planted.elf" >/dev/null 2>&1 || found=$?
    # 124: the time is over, which says nothing.
    if [ $found = 0 ] || [ $found = 124 ]; then
        echo "check.sh: $1: the planted handler was not found ($found)" >&2
        exit 1
    fi
fi
echo "$1 $form: the host's digests"
