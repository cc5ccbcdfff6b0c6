//! One training step of each workload, one thread and two: `cargo bench -p gru-train-host`.
//!
//! `benches/compare_torch.sh` runs PyTorch side by side.

use gru_train_host::bench_train::{Bench, Workload};

fn main() {
    divan::main();
}

fn step(bencher: divan::Bencher<'_, '_>, workload: Workload, threads: usize) {
    let bench = Bench::new(workload);
    bench.run(threads, |batch| bencher.bench_local(batch));
}

#[divan::bench(args = [1, 2])]
fn t1_every_step(bencher: divan::Bencher<'_, '_>, threads: usize) {
    step(bencher, Workload::T1, threads);
}

#[divan::bench(args = [1, 2])]
fn t2_har(bencher: divan::Bencher<'_, '_>, threads: usize) {
    step(bencher, Workload::T2, threads);
}

#[divan::bench(args = [1, 2])]
fn t3_tutorial(bencher: divan::Bencher<'_, '_>, threads: usize) {
    step(bencher, Workload::T3, threads);
}
