//! Learning rate over time.

use serde::{Deserialize, Serialize};

/// How the learning rate changes; factors of the configured rate.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Schedule {
    /// Not at all.
    #[default]
    Constant,
    /// Rises linearly for `warmup` epochs, then falls along half a cosine to `floor`.
    Cosine {
        /// Epochs (fractions allowed).
        #[serde(default)]
        warmup: f64,
        /// Factor at the end.
        #[serde(default)]
        floor: f64,
    },
    /// Multiplied by `factor` every `every` epochs.
    Step {
        /// Epochs.
        every: usize,
        /// Factor.
        factor: f64,
    },
    /// Multiplied by `factor` when the validation loss has not improved for `patience` epochs.
    Plateau {
        /// Epochs.
        patience: usize,
        /// Factor.
        factor: f64,
    },
}

impl Schedule {
    /// Whether every number is in its range.
    pub fn check(self) -> Result<(), String> {
        let share = |name: &str, value: f64| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(format!("schedule.{name} {value}, expected 0 to 1")),
        };
        match self {
            Self::Constant => Ok(()),
            Self::Cosine { warmup, floor } => {
                if !(warmup.is_finite() && warmup >= 0.0) {
                    return Err(format!(
                        "schedule.warmup {warmup}, expected a number of epochs"
                    ));
                }
                share("floor", floor)
            }
            Self::Step {
                every: epochs,
                factor,
            }
            | Self::Plateau {
                patience: epochs,
                factor,
            } => {
                if epochs == 0 {
                    return Err("schedule over 0 epochs, expected at least 1".into());
                }
                share("factor", factor)
            }
        }
    }

    /// Factor at `done` of `epochs` epochs (fractions count the batches); `drops` counts how often
    /// a plateau was left.
    pub fn factor(self, done: f64, epochs: usize, drops: u32) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Cosine { warmup, floor } => {
                if done < warmup {
                    // The first batch already learns.
                    return ((done + 1e-3) / warmup).min(1.0);
                }
                let rest = (epochs as f64 - warmup).max(1e-9);
                let at = ((done - warmup) / rest).clamp(0.0, 1.0);
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * at).cos())
            }
            Self::Step { every, factor } => {
                factor.powi((done as usize / every.max(1)).min(i32::MAX as usize) as i32)
            }
            Self::Plateau { factor, .. } => factor.powi(drops.min(i32::MAX as u32) as i32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_rises_falls_and_ends() {
        let s = Schedule::Cosine {
            warmup: 2.0,
            floor: 0.1,
        };
        assert!(s.factor(0.0, 10, 0) < 0.01 && s.factor(1.0, 10, 0) < 0.51);
        assert!((s.factor(2.0, 10, 0) - 1.0).abs() < 1e-12);
        assert!((s.factor(6.0, 10, 0) - 0.55).abs() < 1e-12);
        assert!((s.factor(10.0, 10, 0) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn steps_and_plateaus_multiply() {
        let step = Schedule::Step {
            every: 3,
            factor: 0.5,
        };
        assert_eq!(
            [0.0, 2.9, 3.0, 6.5].map(|d| step.factor(d, 9, 0)),
            [1.0, 1.0, 0.5, 0.25]
        );
        let plateau = Schedule::Plateau {
            patience: 2,
            factor: 0.1,
        };
        assert!((plateau.factor(5.0, 9, 2) - 0.01).abs() < 1e-12);
    }
}
