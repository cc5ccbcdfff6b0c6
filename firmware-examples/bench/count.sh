#!/usr/bin/env bash
# count.sh [--write] [CORE...]: counts the instructions of one time step on QEMU's cores, estimates its cycles, and
# compares them with counts.txt and cycles.txt; a rise of more than 1 % fails. --write accepts them as they are now.
# The counts are exact up to the resolution of virtual time: two or three instructions. The line
# "code" has the bytes of flash of the measured program without its model: load, step, softmax,
# vector table and start-up, opt-level 3. Lines with "-small" and "-fast" are of programs at opt-level s, the latter with the
# feature `unrolled`; "load" is one load of W2.
# The cycles are those of `gru cycles` for the same program, on the cores whose timings are published or modelled; it
# counts the instructions of every call again in its own emulator, and both counts have to agree. GRU names the command
# where it is built already.
# count.sh --table: counts.txt and cycles.txt as a table for people, instructions / estimated cycles.
set -euo pipefail
cd "$(dirname "$0")"
if [ "${1:-}" = --table ]; then
    awk 'BEGIN { cores = split("m0plus m3 m4 m7 m33 m55", order) }
         FILENAME == "cycles.txt" { cycles[$1, $2] = $3; next }
         !/^#/ { n[$1, $2] = $3; if ($2 ~ /^w/ && $4 > stack[$1]) stack[$1] = $4
                 ram[$1, $2] = $5 + $6; flash[$1, $2] = $7 }
         function number(v) { return v < 1000 ? v : number(int(v / 1000)) sprintf(",%03d", v % 1000) }
         END { print "| core | W1 | W2 | W3 | W4 | W5 | flash W2 | RAM W2 | stack |"
               print "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
               for (i = 1; i <= cores; i++) { c = order[i]; line = "| " c
                   for (w = 1; w <= 5; w++) {
                       spent = cycles[c, "w" w]
                       line = line " | " number(n[c, "w" w]) " / " (spent ? number(spent) : "-")
                   }
                   print line " | " number(n[c, "code"] + flash[c, "w2"]) " | " ram[c, "w2"] " | " stack[c] " |" } }' cycles.txt counts.txt
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
: >"$work/cycles"
gru=(cargo run -q --release --locked --manifest-path ../../Cargo.toml --)
[ -z "${GRU:-}" ] || gru=("$GRU")
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
        case $core in
            m7|m55) ;;
            *)
                # Of each workload a first call and the sixteen whose mean QEMU gives.
                "${gru[@]}" cycles "$work/count.elf" --core "$core" --each >"$work/each"
                awk -v core="$core" '
                    NR == FNR { if ($1 !~ /^load/) { name[++names] = $1; want[names] = $2 }; next }
                    (FNR - 1) % 17 { instructions += $1; cycles += $2 }
                    FNR % 17 == 0 { n = want[++seen] - instructions / 16
                                    # What QEMU counts beside the step: the loop around it.
                                    if (n < 0 || n > 16) {
                                        print "count.sh: " core " " name[seen] ": the emulators differ" >"/dev/stderr"
                                        failed = 1
                                    }
                                    print core, name[seen], int(cycles / 16 + 0.5); instructions = cycles = 0 }
                    END { exit failed || seen != names }' "$work/out" "$work/each" >>"$work/cycles" ;;
        esac
        if [ "$core$suffix" = m4 ]; then
            ./build.sh m4 w5-embedded "$work/step.elf"
            "${gru[@]}" cycles "$work/step.elf" --core m4 --each |
                awk 'NR == 1 { print "m4 w5-embedded", $2 }' >>"$work/cycles"
        fi
        ./build.sh "$core" "w1$suffix" "$work/step.elf"
        artifact=$(awk -v name="w1$suffix" '$1 == name { print $6 }' "$work/out")
        echo "$core code$suffix $(($(flash_bytes "$work/step.elf") - artifact)) 0 0 0 0" >>"$work/all"
    done
done
# accept FILE NEW HEADER: puts the new lines into the file. Lines of cores that were not run stay.
pattern=$(printf '|^%s ' "$@")
accept() {
    { echo "$3"
      grep -vE "^#$pattern" "$1" 2>/dev/null || true
      cat "$2"; } >"$work/new"
    cp "$work/new" "$1"
}
if [ $write = yes ]; then
    accept counts.txt "$work/all" \
        "# core workload instructions stack state model artifact (bytes); count.sh --write makes it"
    accept cycles.txt "$work/cycles" "# core workload cycles (estimated); count.sh --write makes it"
fi
# compare FILE NEW WHAT: every line has to be in the file, and not more than 1 % above it.
compare() {
    awk -v what="$3" 'NR == FNR { want[$1 " " $2] = $3; next }
         { key = $1 " " $2; w = want[key]
           bad = w == "" || $3 > w * 1.01
           printf "%-6s %-12s %8d %s (expected %s)%s\n", $1, $2, $3, what, w, bad ? "  TOO MANY" : ""
           failed += bad; seen++ }
         END { exit failed > 0 || seen == 0 }' "$1" "$2"
}
failed=0
compare counts.txt "$work/all" instructions || failed=1
[ ! -s "$work/cycles" ] || compare cycles.txt "$work/cycles" cycles || failed=1
exit $failed
