#!/usr/bin/env bash
# Training speed beside PyTorch in the same run: ratio by CPU time, one thread each, best of three.
# TORCH_PY names a python that has torch.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${TORCH_PY:-python3}
if ! "$python" -c 'import torch' 2>/dev/null; then
  echo "skipped: $python has no torch (pip install torch, or TORCH_PY=a python that has it)"
  exit 0
fi
cargo build --release -q -p gru-train-host
gru=${CARGO_TARGET_DIR:-target}/release/gru
for workload in t1 t2 t3; do
  for _ in 1 2 3; do
    torch=$("$python" gru-train-host/benches/compare_torch.py "$workload")
    ours=$("$gru" bench-train --workload "$workload" --threads 1 --json | tail -1 |
      "$python" -c 'import json,sys; print(json.load(sys.stdin)["batches_per_cpu_second"])')
    echo "$workload $ours $torch"
  done
done | awk '{ r = $2 / $3; if (r > best[$1]) { best[$1] = r; o[$1] = $2; t[$1] = $3 } }
  END { for (w in best) printf "%s: %.0f batches per CPU second, PyTorch %.0f: %.1f times\n", w, o[w], t[w], best[w] }' | sort
