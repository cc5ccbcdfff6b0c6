//! Batches per second of the trainer on three fixed workloads.
//!
//! Forward, backward, Adam and the packing of inputs and weights, on random data. Speed by CPU
//! time is what compares programs on a shared machine.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::nn::data::{Inputs, Labels, Sequences};
use crate::nn::loss::Loss;
use crate::nn::network::Network;
use crate::nn::rng::Rng;
use crate::nn::session::{Session, Setup};
use crate::nn::simd::Isa;
use crate::optim::{Adam, AdamConfig};
use crate::spec::{ModelSpec, Readout};
use crate::train::{TrainConfig, fresh_model};

/// A shape to train on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// 64 steps × batch 32 × 32 features, GRU(64) → Dense(6) at every step.
    T1,
    /// UCI HAR: 128 steps × batch 64 × 9 features, GRU(32) → Dense(6) on the last step.
    T2,
    /// The tutorial: 20 steps × batch 50 × 5 features, GRU(32) → Dense(3) on the last step.
    T3,
}

impl Workload {
    /// From `t1`, `t2` or `t3`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "t1" => Some(Self::T1),
            "t2" => Some(Self::T2),
            "t3" => Some(Self::T3),
            _ => None,
        }
    }

    /// Steps, batch, features, units, outputs, whether every step decides.
    pub fn shape(self) -> (usize, usize, usize, usize, usize, bool) {
        match self {
            Self::T1 => (64, 32, 32, 64, 6, true),
            Self::T2 => (128, 64, 9, 32, 6, false),
            Self::T3 => (20, 50, 5, 32, 3, false),
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// By the CPU time of the whole process.
    pub batches_per_cpu_second: f64,
    /// By the clock on the wall.
    pub batches_per_second: f64,
    /// Mean loss of the last batch.
    pub loss: f64,
    /// The workload.
    pub workload: Workload,
    /// Threads that were used.
    pub threads: usize,
    /// Batches that were timed.
    pub batches: usize,
    /// Instruction set that was chosen.
    pub isa: String,
}

/// A workload that can be run batch by batch; for benchmarks.
pub struct Bench {
    model: ModelSpec,
    x: Vec<f32>,
    labels: Vec<i32>,
    workload: Workload,
}

impl Bench {
    /// Random inputs and fresh weights.
    pub fn new(workload: Workload) -> Self {
        let (steps, batch, features, units, outputs, every) = workload.shape();
        let mut rng = Rng::new(7);
        let rows = steps * batch;
        let config = TrainConfig {
            units: vec![units],
            readout: if every { Readout::Every } else { Readout::Last },
            ..TrainConfig::default()
        };
        Self {
            model: fresh_model(&config, features, outputs),
            x: (0..rows * features).map(|_| rng.normal() as f32).collect(),
            labels: (0..if every { rows } else { batch })
                .map(|k| ((if every { k / steps } else { k }) % outputs) as i32)
                .collect(),
            workload,
        }
    }

    /// Starts `threads` and calls `f` with a function that learns one batch and gives its loss.
    pub fn run<R>(&self, threads: usize, f: impl FnOnce(&mut dyn FnMut() -> f64) -> R) -> (R, Isa) {
        let (steps, batch, features, units, _, every) = self.workload.shape();
        let isa = Isa::choose(&[units]);
        // The model comes from this file and is valid.
        let network = match Network::new::<f32>(&self.model, Loss::default(), isa) {
            Ok(network) => network,
            Err(e) => unreachable!("{e}"),
        };
        let sets = [Sequences {
            inputs: Inputs::F32(&self.x),
            labels: if every {
                Labels::PerStep(&self.labels)
            } else {
                Labels::PerSequence(&self.labels)
            },
            count: batch,
            ..Sequences::windows(&self.x, features, steps, &[])
        }];
        let indices: Vec<usize> = (0..batch).collect();
        let setup = Setup {
            network: &network,
            sets: &sets,
            class_weights: &[],
            threads,
            change: None,
            teacher: None,
        };
        let result = setup.run(|session: &mut Session<'_, f32>| {
            let mut params: Vec<f32> = network.flatten(&self.model);
            let decays = network.decays();
            let mut adam = Adam::new(params.len());
            let config = AdamConfig::default();
            f(&mut || {
                session.set_weights(&params);
                let tally = session.batch(0, &indices, None);
                adam.update(&config, 1e-3, &mut params, session.gradient(), &decays);
                tally.loss
            })
        });
        (result, isa)
    }
}

/// Runs a workload for about one and a half seconds after a warm-up.
pub fn run(workload: Workload, threads: usize) -> Measured {
    let bench = Bench::new(workload);
    let ((batches, wall, cpu, loss), isa) = bench.run(threads, |batch| {
        let warm = Instant::now();
        while warm.elapsed().as_secs_f64() < 0.2 {
            batch();
        }
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let (mut batches, mut loss) = (0, 0.0);
        while start.elapsed().as_secs_f64() < 1.5 {
            loss = batch();
            batches += 1;
        }
        let wall = start.elapsed().as_secs_f64();
        let cpu = match (cpu, cpu_seconds()) {
            (Some(from), Some(to)) if to > from => to - from,
            _ => wall,
        };
        (batches, wall, cpu, loss)
    });
    Measured {
        batches_per_cpu_second: batches as f64 / cpu,
        batches_per_second: batches as f64 / wall,
        loss,
        workload,
        threads,
        batches,
        isa: isa.name().into(),
    }
}

/// CPU time of this process with all its threads; `None` where the system does not tell.
fn cpu_seconds() -> Option<f64> {
    cpu_time::ProcessTime::try_now()
        .ok()
        .map(|t| t.as_duration().as_secs_f64())
}
