//! Block pruning: whole blocks of recurrent weights become zero while training goes on, and stay it.
//!
//! A block is what a sparse artifact has or has not ([`gru_core::sparse`]): the weights of all three gates of
//! [`PANEL`] units for two columns of the state. Those with the smallest mean square of a layer go first.

use gru_core::sparse::PANEL;
use serde::{Deserialize, Serialize};

use crate::spec::{GruSpec, LayerSpec, ModelSpec};

/// Pruning of the recurrent weights while training in floats. Quantization-aware training keeps what it has left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// Share of the recurrent weights of each GRU layer that is left in the end.
    pub density: f64,
    /// The epoch before which the first blocks go, from 0; a quarter of the epochs where it is not said.
    #[serde(default)]
    pub from: Option<usize>,
    /// The epoch from which on no more go; three quarters of the epochs where it is not said. Until
    /// then neither early stopping nor the plateau schedule looks at validation.
    #[serde(default)]
    pub to: Option<usize>,
}

impl Prune {
    /// All that is said of it is the share.
    pub fn to_density(density: f64) -> Self {
        Self {
            density,
            from: None,
            to: None,
        }
    }

    /// First and last epoch of so many that begin with fewer blocks.
    fn span(&self, epochs: usize) -> (usize, usize) {
        let to = self.to.unwrap_or(epochs * 3 / 4).min(epochs - 1);
        (self.from.unwrap_or(epochs / 4).min(to), to)
    }

    /// Whether every setting is in its range.
    pub(super) fn check(&self, epochs: usize) -> Result<(), String> {
        if !(self.density > 0.0 && self.density <= 1.0) {
            return Err(format!(
                "prune.density {}, expected a share above 0, at most 1",
                self.density
            ));
        }
        let (from, to) = (self.from.unwrap_or(0), self.to.unwrap_or(epochs - 1));
        if from > to || to >= epochs {
            return Err(format!(
                "prune.from {from} and prune.to {to}, expected epochs of {epochs}, from 0, one after the other"
            ));
        }
        Ok(())
    }

    /// What share is left in an epoch; none where nothing changes before it. Falls fast, then slowly
    /// (Zhu and Gupta, 2017).
    pub(super) fn density(&self, epoch: usize, epochs: usize) -> Option<f64> {
        let (from, to) = self.span(epochs);
        if epoch < from || epoch > to {
            return None;
        }
        let done = (epoch + 1 - from) as f64 / (to + 1 - from) as f64;
        Some(self.density + (1.0 - self.density) * (1.0 - done).powi(3))
    }

    /// Whether blocks still go after this epoch.
    pub(super) fn goes_on(&self, epoch: usize, epochs: usize) -> bool {
        epoch < self.span(epochs).1
    }
}

/// A block: where its weights are among those of a layer, each a gate's row and column.
struct Block {
    panel: usize,
    places: Vec<usize>,
}

/// All blocks of `3H×H` weights, panel after panel.
fn blocks(units: usize) -> impl Iterator<Item = Block> {
    (0..units).step_by(PANEL).flat_map(move |first| {
        (0..units).step_by(2).map(move |column| Block {
            panel: first / PANEL,
            places: (0..3)
                .flat_map(|gate| (first..units.min(first + PANEL)).map(move |u| gate * units + u))
                .flat_map(|row| {
                    (column..units.min(column + 2)).map(move |column| row * units + column)
                })
                .collect(),
        })
    })
}

/// Which of a layer's recurrent weights are left when the share `density` of them is, in whole blocks; of every
/// panel at least one.
fn left(u: &[f32], units: usize, density: f64) -> Vec<bool> {
    let blocks: Vec<Block> = blocks(units).collect();
    let magnitude = |b: &Block| {
        let sum: f64 = b.places.iter().map(|&k| f64::from(u[k]).powi(2)).sum();
        sum / b.places.len() as f64
    };
    let mut order: Vec<(f64, &Block)> = blocks.iter().map(|b| (magnitude(b), b)).collect();
    // Stable: of equals the earlier one stays.
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let most = (density * u.len() as f64).round() as usize;
    let mut kept = vec![false; u.len()];
    let mut has_any = vec![false; units.div_ceil(PANEL)];
    let mut sum = 0;
    for (_, block) in order {
        // The best of a panel stays in any case.
        let first = !std::mem::replace(&mut has_any[block.panel], true);
        if first || sum + block.places.len() <= most {
            block.places.iter().for_each(|&k| kept[k] = true);
            sum += block.places.len();
        }
    }
    kept
}

/// The recurrent weights in the order of the parameters ([`crate::nn::network::Network::flatten`]): where they start, and the layer.
fn recurrent(model: &ModelSpec) -> Vec<(usize, &GruSpec)> {
    let mut at = 0;
    let mut all = Vec::new();
    for layer in &model.layers {
        if let LayerSpec::Dense(d) = layer {
            at += d.w.len() + d.b.len();
        }
        for g in layer.grus() {
            all.push((at + g.w.len(), g));
            let learnt = if g.learn_initial_state { g.h0.len() } else { 0 };
            at += g.w.len() + g.u.len() + g.b_in.len() + g.b_rec.len() + learnt;
        }
    }
    all
}

/// Which of all parameters are left: of each layer's recurrent weights in `params` this share.
pub(super) fn mask(model: &ModelSpec, params: &[f32], density: f64) -> Vec<bool> {
    let mut mask = vec![true; params.len()];
    for (at, gru) in recurrent(model) {
        let here = at..at + gru.u.len();
        mask[here.clone()].copy_from_slice(&left(&params[here], gru.units, density));
    }
    mask
}

/// Which of all parameters are not in blocks of nothing but zeros.
pub(super) fn mask_of(model: &ModelSpec, params: &[f32]) -> Vec<bool> {
    let mut mask = vec![true; params.len()];
    for (at, gru) in recurrent(model) {
        for block in blocks(gru.units) {
            let is_left = block.places.iter().any(|k| params[at + k] != 0.0);
            block.places.iter().for_each(|k| mask[at + k] = is_left);
        }
    }
    mask
}

/// Makes zero what is not left; an empty mask leaves all.
pub(super) fn apply(mask: &[bool], values: &mut [f32]) {
    for (value, left) in values.iter_mut().zip(mask) {
        if !left {
            *value = 0.0;
        }
    }
}

/// Prunes a model at once, without training: as many weights are left as training leaves.
pub fn prune(model: &mut ModelSpec, density: f64) {
    for layer in &mut model.layers {
        for g in layer.grus_mut() {
            let mask = left(&g.u, g.units, density);
            apply(&mask, &mut g.u);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_blocks_stay_and_every_panel_has_one() {
        // 11 units: panels of 8 and 3, six pairs, the last one of one column.
        let units = 11;
        let mut u = vec![0.1; 3 * units * units];
        let value =
            |u: &mut Vec<f32>, row: usize, column: usize, v: f32| u[row * units + column] = v;
        // One large weight in a block of the first panel, of the second the last block is the best.
        value(&mut u, units + 3, 5, 9.0);
        value(&mut u, 2 * units + 10, 10, 1.0);
        let kept = left(&u, units, 0.0);
        for (k, kept) in kept.iter().enumerate() {
            let (row, column) = (k / units % units, k % units);
            let wanted = match row < 8 {
                true => column / 2 == 2,
                false => column == 10,
            };
            assert_eq!(*kept, wanted, "{row} {column}");
        }
        assert!(left(&u, units, 1.0).iter().all(|k| *k));
        let half = left(&u, units, 0.5).iter().filter(|k| **k).count();
        assert!(
            half <= u.len().div_ceil(2) && half + 48 > u.len() / 2,
            "{half}"
        );
    }

    #[test]
    fn the_share_falls_from_the_first_epoch_to_the_last() {
        let prune = Prune {
            density: 0.25,
            from: Some(2),
            to: Some(5),
        };
        let all: Vec<Option<f64>> = (0..8).map(|e| prune.density(e, 8)).collect();
        assert_eq!(all[..2], [None, None]);
        assert_eq!(all[6..], [None, None]);
        let falling: Vec<f64> = all[2..6].iter().map(|d| d.unwrap()).collect();
        assert!(
            falling.is_sorted_by(|a, b| a > b) && falling[0] < 0.6,
            "{falling:?}"
        );
        assert_eq!(falling[3], 0.25);
        assert!(prune.goes_on(4, 8) && !prune.goes_on(5, 8));
        // Also where there is hardly time for it.
        assert_eq!(Prune::to_density(0.5).density(0, 1), Some(0.5));
        for epochs in 1..12 {
            let prune = Prune::to_density(0.5);
            let last = (0..epochs)
                .filter_map(|e| prune.density(e, epochs))
                .next_back();
            assert_eq!(last, Some(0.5));
        }
    }

    #[test]
    fn zeros_tell_which_blocks_are_gone() {
        let mut model = ModelSpec {
            layers: vec![LayerSpec::Gru(GruSpec::zeros(3, 10))],
            ..ModelSpec::default()
        };
        let LayerSpec::Gru(g) = &mut model.layers[0] else {
            unreachable!()
        };
        g.u.iter_mut().zip(1..).for_each(|(u, k)| *u = k as f32);
        let params: Vec<f32> = [&g.w, &g.u, &g.b_in, &g.b_rec]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let wanted = mask(&model, &params, 0.4);
        let mut pruned = params;
        apply(&wanted, &mut pruned);
        assert_eq!(mask_of(&model, &pruned), wanted);
        prune(&mut model, 0.4);
        let LayerSpec::Gru(g) = &model.layers[0] else {
            unreachable!()
        };
        assert_eq!(g.u, pruned[90..390]);
    }
}
