//! Optimisers over a flat vector of parameters, gradient clipping, learning-rate schedules.

use serde::{Deserialize, Serialize};

use crate::nn::simd::Real;

pub mod schedule;

/// Where epsilon stands; frameworks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// `p −= lr·√(1−β₂ᵗ)/(1−β₁ᵗ) · m / (√v + ε)`
    #[default]
    Keras,
    /// `p −= lr/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε)`
    Torch,
}

/// Adam (Kingma, Ba 2014), or AdamW (Loshchilov, Hutter 2017) where weights decay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamConfig {
    /// Decay of the mean of the gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the divisor; `None` takes the framework's default (Keras 1e-7, PyTorch 1e-8).
    pub epsilon: Option<f64>,
    /// Where epsilon stands.
    pub convention: Convention,
    /// Decoupled: each step takes `lr · weight_decay` of every weight (not of biases).
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: None,
            convention: Convention::Keras,
            weight_decay: 0.0,
        }
    }
}

impl AdamConfig {
    /// Whether every number is in its range.
    pub fn check(&self) -> Result<(), String> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(format!("optimizer.{name} {beta}, expected 0 to below 1"));
            }
        }
        if let Some(epsilon) = self.epsilon.filter(|e| !(e.is_finite() && *e > 0.0)) {
            return Err(format!(
                "optimizer.epsilon {epsilon}, expected a positive number"
            ));
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return Err(format!(
                "weight_decay {}, expected 0 or more",
                self.weight_decay
            ));
        }
        Ok(())
    }
}

/// State of Adam.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Adam<E> {
    /// Mean of the gradients.
    pub m: Vec<E>,
    /// Mean of their squares.
    pub v: Vec<E>,
    /// Steps so far.
    pub step: u64,
}

impl<E: Real> Adam<E> {
    /// For this many parameters.
    pub fn new(parameters: usize) -> Self {
        Self {
            m: vec![E::ZERO; parameters],
            v: vec![E::ZERO; parameters],
            step: 0,
        }
    }

    /// One step with learning rate `lr`. `decays` tells which parameters are weights.
    pub fn update(
        &mut self,
        c: &AdamConfig,
        lr: f64,
        params: &mut [E],
        gradient: &[E],
        decays: &[bool],
    ) {
        self.step += 1;
        let t = self.step as f64;
        // Keras keeps the betas of the bias corrections in f32, also when everything else is f64.
        let of = |beta: f64| match c.convention {
            Convention::Keras => f64::from(beta as f32),
            Convention::Torch => beta,
        };
        let (left1, left2) = (1.0 - of(c.beta1).powf(t), 1.0 - of(c.beta2).powf(t));
        // Both conventions are p −= a · m / (√v · s + ε).
        let (a, s, epsilon) = match c.convention {
            Convention::Keras => (lr * left2.sqrt() / left1, 1.0, c.epsilon.unwrap_or(1e-7)),
            Convention::Torch => (lr / left1, 1.0 / left2.sqrt(), c.epsilon.unwrap_or(1e-8)),
        };
        let e = E::from_f64;
        let (b1, b2, a, s, epsilon) = (e(1.0 - c.beta1), e(1.0 - c.beta2), e(a), e(s), e(epsilon));
        if c.weight_decay != 0.0 {
            let keep = e(1.0 - lr * c.weight_decay);
            for (p, decays) in params.iter_mut().zip(decays) {
                if *decays {
                    *p *= keep;
                }
            }
        }
        let moments = self.m.iter_mut().zip(&mut self.v);
        for ((p, g), (m, v)) in params.iter_mut().zip(gradient).zip(moments) {
            *m += (*g - *m) * b1;
            *v += (*g * *g - *v) * b2;
            *p = *p - a * *m / (v.sqrt() * s + epsilon);
        }
    }
}

/// Global norm of a gradient.
pub fn norm<E: Real>(gradient: &[E]) -> f64 {
    // Four sums, so that the additions do not wait for each other.
    let mut sums = [0.0_f64; 4];
    let chunks = gradient.chunks_exact(4);
    for g in chunks.remainder() {
        sums[0] += g.to_f64() * g.to_f64();
    }
    for four in chunks {
        for (sum, g) in sums.iter_mut().zip(four) {
            *sum += g.to_f64() * g.to_f64();
        }
    }
    sums.iter().sum::<f64>().sqrt()
}

/// Scales the gradient down to a global norm of `clip`; gives the norm before.
///
/// Keras: `g · clip / max(norm, clip)`; PyTorch: `g · min(1, clip / (norm + 1e-6))`.
pub fn clip_norm<E: Real>(gradient: &mut [E], clip: f64, convention: Convention) -> f64 {
    let norm = norm(gradient);
    let factor = match convention {
        Convention::Keras => clip / norm.max(clip),
        Convention::Torch => (clip / (norm + 1e-6)).min(1.0),
    };
    if factor < 1.0 {
        let factor = E::from_f64(factor);
        for g in gradient {
            *g *= factor;
        }
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_is_no_part_of_the_gradient() {
        let start = [0.8, -0.3, 0.5, -0.6_f64];
        let gradients = [[0.0; 4], [0.2, -1.0, 0.0, 3.0], [-4.0, 0.1, 0.0, 0.5]];
        let decays = [true, true, true, false];
        for convention in [Convention::Keras, Convention::Torch] {
            let plain = AdamConfig {
                convention,
                ..AdamConfig::default()
            };
            let decaying = AdamConfig {
                weight_decay: 0.1,
                ..plain
            };
            let (mut a, mut b) = (Adam::new(4), Adam::new(4));
            let (mut without, mut with) = (start, start);
            for (g, lr) in gradients.iter().zip([0.5, 0.01, 0.2]) {
                let before = without;
                a.update(&plain, lr, &mut without, g, &decays);
                // The share that goes, then Adam's own step, which knows nothing of it.
                let mut expected = with;
                for k in 0..4 {
                    if decays[k] {
                        expected[k] *= 1.0 - lr * 0.1;
                    }
                    expected[k] += without[k] - before[k];
                }
                b.update(&decaying, lr, &mut with, g, &decays);
                for (found, expected) in with.iter().zip(expected) {
                    assert!((found - expected).abs() < 1e-14, "{found} {expected}");
                }
                assert_eq!((&a.m, &a.v), (&b.m, &b.v));
            }
            assert_eq!(with[3], without[3], "a bias does not decay");
            assert!((with[2] - 0.5 * 0.95 * 0.999 * 0.98).abs() < 1e-14);
        }
    }
}
