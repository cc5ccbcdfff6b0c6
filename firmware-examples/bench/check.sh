#!/usr/bin/env bash
# check.sh CORE [FORM]: runs models of many shapes on an emulated core and compares the digests of their states with the
# host's. CORE: m0plus m3 m4 m7 m33 m55. FORM: check, or check-small for the kernels of programs that are optimized for size,
# check-fast for those of such programs with the feature `unrolled`.
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
./build.sh "$1" "${2:-check}" "$work/check.elf"
timeout 120 qemu-system-arm -M "$machine" -nographic -monitor none -serial none \
    -semihosting-config enable=on,target=native -kernel "$work/check.elf" </dev/null ||
    { echo "check.sh: $1 ${2:-check} ends with $?" >&2; exit 1; }
echo "$1 ${2:-check}: the host's digests"
