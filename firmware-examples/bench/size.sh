#!/usr/bin/env bash
# size.sh: how much flash load and step take, and how much of both memories a whole program; fails above a budget.
#
# "load + step": every byte of flash of the program `size` (src/size.rs) at opt-level s: an image whose only root is
# a function that loads a model, binds a state, steps and asks for probabilities. It has no vector table and no start-up
# code, so what is counted is that function, all of gru-core that it reaches, the tables, and the compiler's routines.
# One variant: gru-core without features or ("int4", "sparse") with that of a second kernel, GRU layers of Keras' default
# variant and Dense layers in the core's layout.
# "w5 image": every byte of flash of the workload W5 with its model, vector table and start-up included: at opt-level s
# with the kernels of that level and ("fast") with those of the feature `unrolled`, and at opt-level 3 with the model as a
# constant ("embedded": `include_model!`), which needs no loader. The RAM as well: statics (the state among them), the view of
# a model that is loaded, and the deeper one of the stacks of load, if there is one, and of a step, as counts.txt has them.
set -euo pipefail
[ $# -eq 0 ] || { echo "size.sh: no arguments" >&2; exit 2; }
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
# Sizes of an ELF file's loaded segments (32 bits, little-endian): bytes in the file, or bytes in memory of writable ones.
segments() {
    local at count
    at=$(od -An -tu4 -j28 -N4 "$2") count=$(od -An -tu2 -j44 -N2 "$2")
    od -An -tu4 -v -w32 -j$((at)) -N$((32 * count)) "$2" | awk -v what="$1" '
        $1 == 1 && what == "flash" { sum += $5 }
        $1 == 1 && what == "ram" && int($7 / 2) % 2 == 1 { sum += $6 }
        END { print sum + 0 }'
}
# budget NAME BYTES MOST
budget() {
    local verdict=""
    if [ "$2" -gt "$3" ]; then verdict="  TOO MUCH" failed=1; fi
    printf '%-28s %6d bytes (at most %d)%s\n' "$1" "$2" "$3" "$verdict"
}
column() {
    awk -v core=m4 -v name="$1" -v n="$2" '$1 == core && $2 == name { print $n }' counts.txt
}
./build.sh m4 size "$work/m4.elf"
budget "m4 load + step" "$(segments flash "$work/m4.elf")" 6144
./build.sh m0plus size "$work/m0plus.elf"
budget "m0plus load + step" "$(segments flash "$work/m0plus.elf")" 6144
for feature in int4 sparse; do
    for core in m4 m0plus; do
        ./build.sh $core size-$feature "$work/$feature.elf"
        most=$(case $feature-$core in int4-*) echo 12100 ;; sparse-m4) echo 9900 ;; *) echo 10900 ;; esac)
        budget "$core load + step, $feature" "$(segments flash "$work/$feature.elf")" "$most"
    done
done
for form in small fast embedded; do
    ./build.sh m4 "w5-$form" "$work/w5.elf"
    case $form in
        small) most=28400 most_ram=1400 ;;
        fast) most=30720 most_ram=1400 ;;
        embedded) most=29999 most_ram=1024 ;;
    esac
    budget "m4 w5 image, $form, flash" "$(segments flash "$work/w5.elf")" $most
    if [ $form = embedded ]; then
        view=0 stack=$(column w5 4)
    else
        load=$(column "load-$form" 4) step=$(column "w5-$form" 4) view=$(column "w5-$form" 6)
        stack=$((load > step ? load : step))
    fi
    budget "m4 w5 image, $form, RAM" $(($(segments ram "$work/w5.elf") + view + stack)) $most_ram
done
exit $failed
