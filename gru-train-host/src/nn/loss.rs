//! Losses over rows of outputs, with their gradients.

use serde::{Deserialize, Serialize};

use super::simd::Real;

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Loss {
    /// Cross-entropy of the softmax of the outputs.
    Softmax {
        /// Share of the probability that is spread over all classes.
        #[serde(default)]
        label_smoothing: f32,
    },
    /// Cross-entropy of the sigmoid of each output: any number of classes at once.
    Sigmoid {
        /// Share of the probability that is moved to one half.
        #[serde(default)]
        label_smoothing: f32,
    },
    /// Mean over the outputs of the squared error.
    Mse,
    /// Mean over the outputs of: half the square up to `delta`, then linear.
    Huber {
        /// Where it becomes linear.
        delta: f32,
    },
}

impl Default for Loss {
    fn default() -> Self {
        Self::Softmax {
            label_smoothing: 0.0,
        }
    }
}

impl Loss {
    /// Whether every number is in its range.
    pub fn check(self) -> Result<(), String> {
        match self {
            Self::Softmax { label_smoothing } | Self::Sigmoid { label_smoothing }
                if !(0.0..1.0).contains(&label_smoothing) =>
            {
                Err(format!(
                    "label_smoothing {label_smoothing}, expected 0 to 1"
                ))
            }
            Self::Huber { delta } if !(delta.is_finite() && delta > 0.0) => {
                Err(format!("loss.delta {delta}, expected a positive number"))
            }
            _ => Ok(()),
        }
    }
}

/// What one row should have been.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// A class.
    Class(usize),
    /// One number per output.
    Values(&'a [f32]),
}

/// The index of the largest value, the first of equals, as the core's `Output::argmax` has it; 0 of none.
#[inline(always)]
pub fn largest<T: PartialOrd>(values: &[T]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] {
            best = i;
        }
    }
    best
}

/// Loss of one row, whether its largest output is the right one, and `gradient × scale` into `d`.
///
/// `y` and `d` hold exactly the outputs. For regressions the second result is always `false`.
pub fn row<E: Real>(loss: Loss, y: &[E], target: Target<'_>, scale: E, d: &mut [E]) -> (E, bool) {
    let count = E::from_f64(y.len() as f64);
    let best = largest(y);
    let correct = match target {
        Target::Class(class) => class == best && y[best].is_finite(),
        Target::Values(_) => false,
    };
    let wanted = |i: usize| match target {
        Target::Class(class) if class == i => E::ONE,
        Target::Class(_) => E::ZERO,
        Target::Values(v) => E::from_f32(v[i]),
    };
    let mut total = E::ZERO;
    match loss {
        Loss::Softmax { label_smoothing } => {
            let spread = E::from_f32(label_smoothing);
            let top = y[best];
            let mut sum = E::ZERO;
            for (d, y) in d.iter_mut().zip(y) {
                *d = (*y - top).exp();
                sum += *d;
            }
            let log_sum = sum.ln();
            for (i, (d, y)) in d.iter_mut().zip(y).enumerate() {
                let p = wanted(i) * (E::ONE - spread) + spread / count;
                total += p * (log_sum - (*y - top));
                *d = (*d / sum - p) * scale;
            }
        }
        Loss::Sigmoid { label_smoothing } => {
            let spread = E::from_f32(label_smoothing);
            let half = E::from_f64(0.5);
            for (i, (d, y)) in d.iter_mut().zip(y).enumerate() {
                let p = wanted(i) * (E::ONE - spread) + spread * half;
                // max(y, 0) − y·p + ln(1 + e^−|y|): no overflow on either side
                total += y.max(E::ZERO) - *y * p + (-y.abs()).exp().ln_1p();
                *d = (y.sigmoid() - p) * scale / count;
            }
            total = total / count;
        }
        Loss::Mse => {
            for (i, (d, y)) in d.iter_mut().zip(y).enumerate() {
                let e = *y - wanted(i);
                total += e * e;
                *d = E::from_f64(2.0) * e * scale / count;
            }
            total = total / count;
        }
        Loss::Huber { delta } => {
            let delta = E::from_f32(delta);
            for (i, (d, y)) in d.iter_mut().zip(y).enumerate() {
                let e = *y - wanted(i);
                if e.abs() <= delta {
                    total += e * e * E::from_f64(0.5);
                    *d = e * scale / count;
                } else {
                    total += delta * (e.abs() - delta * E::from_f64(0.5));
                    *d = e.max(-delta).min(delta) * scale / count;
                }
            }
            total = total / count;
        }
    }
    (total, correct)
}

/// What a pupil lacks of its teacher's opinion, and `gradient × scale` added to `d`:
/// `T²·KL(softmax(teacher / T) ‖ softmax(y / T))`, the T² so that the gradient does not fade with T.
///
/// G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network",
/// arXiv:1503.02531, section 2.
pub fn distill<E: Real>(y: &[E], teacher: &[E], temperature: E, scale: E, d: &mut [E]) -> E {
    let log_sum = |v: &[E]| {
        let top = v.iter().fold(v[0], |a, b| a.max(*b)) / temperature;
        let sum: E = v.iter().map(|v| (*v / temperature - top).exp()).sum();
        top + sum.ln()
    };
    let (own, theirs) = (log_sum(y), log_sum(teacher));
    let mut total = E::ZERO;
    for (d, (y, t)) in d.iter_mut().zip(y.iter().zip(teacher)) {
        let log_q = *y / temperature - own;
        let log_p = *t / temperature - theirs;
        let p = log_p.exp();
        total += p * (log_p - log_q);
        *d += (log_q.exp() - p) * temperature * scale;
    }
    total * temperature * temperature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_teacher_s_gradient_equals_its_finite_difference() {
        let teacher = [1.2, -0.4, 0.9, -3.0_f64];
        for temperature in [1.0, 2.5] {
            let y = [0.3, -1.7, 2.4, 0.05_f64];
            let mut d = [0.5; 4];
            let loss = distill(&y, &teacher, temperature, 2.0, &mut d);
            assert!(loss > 0.0);
            for i in 0..4 {
                let at = |e: f64| {
                    let mut y = y;
                    y[i] += e;
                    distill(&y, &teacher, temperature, 2.0, &mut [0.0; 4])
                };
                let slope = 2.0 * (at(1e-6) - at(-1e-6)) / 2e-6;
                assert!((slope - (d[i] - 0.5)).abs() < 1e-8, "{i}: {} {slope}", d[i]);
            }
            let same = distill(&teacher, &teacher, temperature, 2.0, &mut d);
            assert!(same.abs() < 1e-12, "{same}");
        }
    }

    #[test]
    fn huber_is_half_the_square_up_to_delta_and_a_line_beyond() {
        let loss = Loss::Huber { delta: 0.5 };
        let (y, wanted) = ([1.25, -3.0, 2.5_f64], [1.0, -1.0, 2.0]);
        let mut d = [0.0; 3];
        let (found, _) = row(loss, &y, Target::Values(&wanted), 3.0, &mut d);
        // Errors 0.25, −2 and 0.5: 0.25²/2, 0.5·(2 − 0.25), 0.5²/2.
        assert_eq!(found, (0.031_25 + 0.875 + 0.125) / 3.0);
        assert_eq!(d, [0.25, -0.5, 0.5]);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let y = [0.3, -1.7, 2.4, 0.05_f64];
        let values = [0.1, -1.0, 0.3, 1.0_f32];
        for loss in [
            Loss::Softmax {
                label_smoothing: 0.0,
            },
            Loss::Softmax {
                label_smoothing: 0.1,
            },
            Loss::Sigmoid {
                label_smoothing: 0.0,
            },
            Loss::Sigmoid {
                label_smoothing: 0.2,
            },
            Loss::Mse,
            Loss::Huber { delta: 0.5 },
        ] {
            for target in [Target::Class(1), Target::Values(&values)] {
                if matches!((loss, target), (Loss::Softmax { .. }, Target::Values(_))) {
                    continue; // these values are not a distribution
                }
                let mut d = [0.0; 4];
                let _ = row(loss, &y, target, 2.0, &mut d);
                for i in 0..4 {
                    let at = |e: f64| {
                        let mut y = y;
                        y[i] += e;
                        row(loss, &y, target, 2.0, &mut [0.0; 4]).0
                    };
                    let slope = 2.0 * (at(1e-6) - at(-1e-6)) / 2e-6;
                    assert!(
                        (slope - d[i]).abs() < 1e-8,
                        "{loss:?} {i}: {} {slope}",
                        d[i]
                    );
                }
            }
        }
    }
}
