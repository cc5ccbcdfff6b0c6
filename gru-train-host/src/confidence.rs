//! Whether a probability means what it says: likelihood and calibration error of a model's outputs on recordings,
//! and the temperature that fits them.
//!
//! Functions from `libm`, so the same figures on every platform.

use gru_core::artifact::NEUTRAL_TEMPERATURE;

use crate::dataset::UNLABELLED;
use crate::events::Recorded;
use crate::nn::loss::largest;

/// At most so many labelled steps are looked at, evenly spread: neighbours say the same.
const STEPS: usize = 20_000;
/// Bins of the calibration error.
const BINS: usize = 15;

/// Logits of labelled steps after the warm-up.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    outputs: usize,
    /// Real = stored / 2^frac.
    frac: u8,
    rows: Vec<(u16, Vec<i16>)>,
}

impl Sampled {
    /// Takes labelled steps after the warm-up from recordings; `frac` is that of the outputs.
    pub fn new(recorded: &[Recorded], outputs: usize, frac: u8, warm_up: u16) -> Self {
        let rows = recorded.iter().flat_map(|r| {
            let rows = r.outputs.chunks_exact(outputs.max(1));
            (r.labels.iter().zip(&r.done).zip(rows))
                .filter(|((label, done), _)| {
                    **label != UNLABELLED
                        && usize::from(**label) < outputs
                        && **done >= u32::from(warm_up)
                })
                .map(|((label, _), row)| (*label, row))
        });
        let every = rows.clone().count().div_ceil(STEPS).max(1);
        Self {
            outputs,
            frac,
            rows: (rows.step_by(every))
                .map(|(label, row)| (label, row.to_vec()))
                .collect(),
        }
    }

    /// Steps that were taken.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The softmax of a row, whose logits are multiplied by `inverse` (Q12).
    fn softmax(&self, row: &[i16], inverse: u16, out: &mut Vec<f64>) {
        let factor = f64::from(inverse) / f64::from(NEUTRAL_TEMPERATURE);
        let factor = factor / f64::from(1u32 << self.frac.min(15));
        let top = row.iter().copied().max().map_or(0.0, f64::from);
        out.clear();
        out.extend((row.iter()).map(|l| libm::exp((f64::from(*l) - top) * factor)));
        let sum: f64 = out.iter().sum();
        out.iter_mut().for_each(|p| *p /= sum);
    }

    /// Mean negative logarithm of the probability of the label; 0 without steps.
    pub fn nll(&self, inverse: u16) -> f64 {
        let mut p = Vec::with_capacity(self.outputs);
        let sum: f64 = (self.rows.iter())
            .map(|(label, row)| {
                self.softmax(row, inverse, &mut p);
                -libm::log(p[usize::from(*label)].max(1e-12))
            })
            .sum();
        sum / self.rows.len().max(1) as f64
    }

    /// Expected calibration error: the mean distance between the probability of the most probable class and the share
    /// of steps at which it is right, over 15 bins of equal width, weighted by their steps.
    pub fn calibration_error(&self, inverse: u16) -> f64 {
        let mut bins = [(0.0, 0.0); BINS];
        let mut p = Vec::with_capacity(self.outputs);
        for (label, row) in &self.rows {
            self.softmax(row, inverse, &mut p);
            let best = largest(row);
            let bin = ((p[best] * BINS as f64) as usize).min(BINS - 1);
            bins[bin].0 += p[best];
            bins[bin].1 += f64::from(u8::from(best == usize::from(*label)));
        }
        let off: f64 = bins.iter().map(|(said, right)| (said - right).abs()).sum();
        off / self.rows.len().max(1) as f64
    }

    /// The inverse temperature (Q12, 256 to `most`) with the smallest [`nll`](Self::nll), which has one valley over it.
    pub fn best_inverse_temperature(&self, most: u16) -> u16 {
        let (mut low, mut high) = (256u16, most.max(256));
        while high - low > 2 {
            // Thirds of the ratio: small steps where the temperature is high.
            let ratio = libm::cbrt(f64::from(high) / f64::from(low));
            let a = ((f64::from(low) * ratio) as u16).clamp(low + 1, high - 2);
            let b = ((f64::from(high) / ratio) as u16).clamp(a + 1, high - 1);
            match self.nll(a) <= self.nll(b) {
                true => high = b,
                false => low = a,
            }
        }
        let nll = |inverse: &u16| self.nll(*inverse);
        (low..=high)
            .min_by(|a, b| nll(a).total_cmp(&nll(b)))
            .unwrap_or(NEUTRAL_TEMPERATURE)
    }
}
