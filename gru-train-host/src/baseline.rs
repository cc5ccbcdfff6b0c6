//! What a linear model makes of the mean of each window: softmax regression on `I` numbers.
//!
//! The yardstick for a recurrent model: a task on which this does as well needs no GRU.

use crate::dataset::{Dataset, UNLABELLED, Window};
use crate::spec::Standardize;

/// Steps of gradient descent; the problem is convex and has `(I + 1) · classes` parameters.
const STEPS: usize = 600;

/// A trained softmax regression.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    by: Standardize,
    /// Per class: `I` weights and a bias.
    rows: Vec<Vec<f64>>,
}

/// Mean of each feature over a window, standardised, and a one at the end for the bias.
fn mean(data: &Dataset, window: &Window, by: &Standardize, buffer: &mut Vec<f32>) -> Vec<f64> {
    let features = data.input();
    buffer.resize(window.steps * features, 0.0);
    data.standardised_into(window, by, buffer);
    let mut sums = vec![0.0f64; features];
    for step in buffer.chunks_exact(features) {
        for (sum, x) in sums.iter_mut().zip(step) {
            *sum += f64::from(*x);
        }
    }
    let steps = window.steps.max(1) as f64;
    sums.iter_mut().for_each(|s| *s /= steps);
    sums.push(1.0);
    sums
}

fn logits(rows: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    (rows.iter())
        .map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum())
        .collect()
}

impl Baseline {
    /// Trains on the labelled ones of `windows` (full-batch Adam, no randomness).
    pub fn train(data: &Dataset, windows: &[Window], by: &Standardize) -> Self {
        let mut buffer = Vec::new();
        let cases: Vec<(Vec<f64>, usize)> = (windows.iter())
            .filter(|w| w.label != UNLABELLED)
            .map(|w| (mean(data, w, by, &mut buffer), usize::from(w.label)))
            .collect();
        let width = data.input() + 1;
        let mut rows = vec![vec![0.0; width]; data.classes.len()];
        let mut moments = vec![(0.0, 0.0); width * rows.len()];
        let scale = 1.0 / cases.len().max(1) as f64;
        for step in 1..=STEPS {
            let mut gradient = vec![0.0; moments.len()];
            for (x, class) in &cases {
                let mut p = logits(&rows, x);
                let top = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                p.iter_mut().for_each(|v| *v = libm::exp(*v - top));
                let sum: f64 = p.iter().sum();
                for (k, (p, row)) in p.iter().zip(gradient.chunks_exact_mut(width)).enumerate() {
                    let error = (p / sum - f64::from(u8::from(k == *class))) * scale;
                    for (g, x) in row.iter_mut().zip(x) {
                        *g += error * x;
                    }
                }
            }
            let rate = 0.1 * (1.0 - step as f64 / (STEPS + 1) as f64);
            let fade = |beta: f64| 1.0 - libm::pow(beta, step as f64);
            let (fade1, fade2) = (fade(0.9), fade(0.99));
            for ((w, g), (m, v)) in (rows.iter_mut().flatten()).zip(gradient).zip(&mut moments) {
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.99 * *v + 0.01 * g * g;
                *w -= rate * (*m / fade1) / ((*v / fade2).sqrt() + 1e-8);
            }
        }
        Self {
            by: by.clone(),
            rows,
        }
    }

    /// The most likely class of a window.
    pub fn decide(&self, data: &Dataset, window: &Window) -> u16 {
        let x = mean(data, window, &self.by, &mut Vec::new());
        let mut best = (0, f64::NEG_INFINITY);
        for (class, logit) in logits(&self.rows, &x).into_iter().enumerate() {
            if logit > best.1 {
                best = (class as u16, logit);
            }
        }
        best.0
    }

    /// Share of the labelled windows that are decided right; 0 if there are none.
    pub fn accuracy(&self, data: &Dataset, windows: &[Window]) -> f64 {
        let mut labelled = 0usize;
        let mut right = 0usize;
        for window in windows.iter().filter(|w| w.label != UNLABELLED) {
            labelled += 1;
            right += usize::from(self.decide(data, window) == window.label);
        }
        right as f64 / labelled.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Counts, Labels, Sequence, WindowLabel};

    #[test]
    fn learns_means_and_cannot_learn_order() {
        // Classes 0 and 1 differ in the mean; 2 and 3 in the order of the same two values.
        let shapes = [[100, 200], [500, 600], [-300, -100], [-100, -300]];
        let data = Dataset {
            features: vec!["x".into()],
            counts_per_unit: vec![10.0],
            classes: (0..4).map(|c| c.to_string()).collect(),
            sequences: (0..80)
                .map(|n| Sequence {
                    recording: n,
                    subject: None,
                    counts: Counts::I16(shapes[n as usize % 4].map(|c| c + n as i16).to_vec()),
                    labels: Labels::Sequence(n as u16 % 4),
                    part: None,
                })
                .collect(),
            ..Dataset::default()
        };
        let all: Vec<usize> = (0..80).collect();
        let windows = data.whole(&all, WindowLabel::Last);
        let by = data.standardisation(&all);
        let accuracy = Baseline::train(&data, &windows, &by).accuracy(&data, &windows);
        assert!((0.65..=0.85).contains(&accuracy), "{accuracy}");
    }
}
