#!/usr/bin/env bash
# count.sh [--write] [CORE...]: counts the instructions of one time step on QEMU's cores and compares
# them with counts.txt; a rise of more than 1 % fails. --write accepts the counts as they are now.
# The counts are exact up to the resolution of virtual time: two or three instructions. The line
# "code" has the bytes of flash of the measured program without its model: load, step, softmax,
# vector table and start-up, opt-level 3. Lines with "-small" and "-fast" are of programs at opt-level s, the latter with the
# feature `unrolled`; "load" is one load of W2.
# count.sh --table: counts.txt as a table for people.
set -euo pipefail
cd "$(dirname "$0")"
if [ "${1:-}" = --table ]; then
    awk 'BEGIN { cores = split("m0plus m3 m4 m7 m33 m55", order) }
         !/^#/ { n[$1, $2] = $3; if ($2 ~ /^w/ && $4 > stack[$1]) stack[$1] = $4
                 ram[$1, $2] = $5 + $6; flash[$1, $2] = $7 }
         function number(v) { return v < 1000 ? v : number(int(v / 1000)) sprintf(",%03d", v % 1000) }
         END { print "| core | W1 | W2 | W3 | W4 | W5 | flash W2 | RAM W2 | stack |"
               print "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
               for (i = 1; i <= cores; i++) { c = order[i]; line = "| " c
                   for (w = 1; w <= 5; w++) line = line " | " number(n[c, "w" w])
                   print line " | " number(n[c, "code"] + flash[c, "w2"]) " | " ram[c, "w2"] " | " stack[c] " |" } }' counts.txt
    exit
fi
# Bytes that an ELF file (32 bits, little-endian) puts into flash.
flash_bytes() {
    local at size
    at=$(od -An -tu4 -j28 -N4 "$1") size=$(od -An -tu2 -j44 -N2 "$1")
    od -An -tu4 -v -w32 -j$((at)) -N$((32 * size)) "$1" | awk '$1 == 1 { sum += $5 } END { print sum }'
}
write=no
if [ "${1:-}" = --write ]; then write=yes; shift; fi
[ $# -gt 0 ] || set -- m0plus m3 m4 m7 m33 m55
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for core in "$@"; do
    case $core in
        m0plus|m3) machine=mps2-an385 ;;
        m4) machine=mps2-an386 ;;
        m7) machine=mps2-an500 ;;
        m33) machine=mps2-an505 ;;
        m55) machine=mps3-an547 ;;
        *) echo "count.sh: unknown core '$core'" >&2; exit 2 ;;
    esac
    # Weights of half a byte, and half of the recurrent weights, where the core has kernels for them; such a program has
    # both kernels. Optimized for size on the cores whose size is budgeted.
    case $core in
        m3|m55) suffixes=whole ;;
        m0plus) suffixes="whole -int4 -sparse50 -small" ;;
        m4) suffixes="whole -int4 -sparse50 -small -fast" ;;
        *) suffixes="whole -int4 -sparse50" ;;
    esac
    for suffix in $suffixes; do
        suffix=${suffix#whole}
        ./build.sh "$core" "count$suffix" "$work/count.elf"
        timeout 120 qemu-system-arm -M "$machine" -icount shift=6,sleep=off -nographic -monitor none \
            -semihosting-config enable=on,target=native -kernel "$work/count.elf" >"$work/out" 2>"$work/err" \
            </dev/null || { echo "count.sh: $core ends with $?" >&2; head -n 3 "$work/err" >&2; exit 1; }
        sed "s/^/$core /" "$work/out" >>"$work/all"
        ./build.sh "$core" "w1$suffix" "$work/step.elf"
        artifact=$(awk -v name="w1$suffix" '$1 == name { print $6 }' "$work/out")
        echo "$core code$suffix $(($(flash_bytes "$work/step.elf") - artifact)) 0 0 0 0" >>"$work/all"
    done
done
if [ $write = yes ]; then
    # Lines of cores that were not run stay.
    pattern=$(printf '|^%s ' "$@")
    { echo "# core workload instructions stack state model artifact (bytes); count.sh --write makes it"
      grep -vE "^#$pattern" counts.txt 2>/dev/null || true
      cat "$work/all"; } >"$work/new"
    cp "$work/new" counts.txt
fi
# Every line has to be in counts.txt, and not more than 1 % above it.
awk 'NR == FNR { want[$1 " " $2] = $3; next }
     { key = $1 " " $2; w = want[key]
       bad = w == "" || $3 > w * 1.01
       printf "%-6s %-9s %8d (expected %s)%s\n", $1, $2, $3, w, bad ? "  TOO MANY" : ""
       failed += bad; seen++ }
     END { exit failed > 0 || seen == 0 }' counts.txt "$work/all"
