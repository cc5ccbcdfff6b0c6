//! Augmentation of motion and audio features: small changes that keep the class.

use serde::{Deserialize, Serialize};

use super::Stateful;
use crate::nn::rng::Rng;
use crate::nn::session::Piece;
use crate::spec::Standardize;

/// How strongly each change is applied; all zero means none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Rotation of the sensor about a random axis: standard deviation of the angle, in radians.
    /// All triads turn together, in raw units.
    pub rotation_rad: f32,
    /// Features that are the x, y, z of one sensor. Empty: every three in a row, where their number
    /// is a multiple of three.
    pub triads: Vec<[usize; 3]>,
    /// Each feature is multiplied by `1 + scale·N(0, 1)`.
    pub scale: f32,
    /// `jitter·N(0, 1)` is added to each standardised value.
    pub jitter: f32,
    /// Time runs faster or slower by up to this share.
    pub time_warp: f32,
    /// Each feature is set to its mean with this probability.
    pub channel_drop: f32,
    /// Moves the sequence by up to this many steps; the edge is repeated.
    pub time_shift: usize,
}

impl Augment {
    /// Whether nothing changes.
    pub fn is_none(&self) -> bool {
        self.rotation_rad == 0.0
            && self.scale == 0.0
            && self.jitter == 0.0
            && self.time_warp == 0.0
            && self.channel_drop == 0.0
            && self.time_shift == 0
    }

    /// Whether the settings fit `features`.
    pub fn check(&self, features: usize) -> Result<(), String> {
        for value in [
            self.rotation_rad,
            self.scale,
            self.jitter,
            self.time_warp,
            self.channel_drop,
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(format!("augment: {value}, expected a number ≥ 0"));
            }
        }
        for (name, share) in [
            ("channel_drop", self.channel_drop),
            ("time_warp", self.time_warp),
        ] {
            if share > 1.0 {
                return Err(format!("augment: {name} {share}, expected 0 to 1"));
            }
        }
        if let Some(bad) = self.triads.iter().flatten().find(|f| **f >= features) {
            return Err(format!(
                "augment: triad names feature {bad}, but there are {features}"
            ));
        }
        Ok(())
    }

    /// Changes the rows of `x` (standardised, `[steps][features]`) that belong to `piece`.
    pub fn apply(
        &self,
        rng: &mut Rng,
        standardize: &Standardize,
        features: usize,
        piece: Piece,
        x: &mut [f32],
        scratch: &mut Vec<f32>,
    ) {
        let steps = piece.steps;
        let x = &mut x[..steps * features];
        if self.time_warp > 0.0 || self.time_shift > 0 {
            let reach = f64::from(self.time_warp);
            let speed = 1.0 + rng.range(-reach, reach);
            let shift = rng.range(-(self.time_shift as f64), self.time_shift as f64);
            // About the middle, so that both ends take part.
            let middle = (steps as f64 - 1.0) / 2.0;
            scratch.clear();
            scratch.extend_from_slice(x);
            for (step, row) in x.chunks_exact_mut(features).enumerate() {
                let at = (middle + (step as f64 - middle) * speed + shift)
                    .clamp(0.0, steps as f64 - 1.0);
                let (low, part) = (at.floor() as usize, at.fract() as f32);
                let high = (low + 1).min(steps - 1);
                for (f, to) in row.iter_mut().enumerate() {
                    let (a, b) = (scratch[low * features + f], scratch[high * features + f]);
                    *to = a + (b - a) * part;
                }
            }
        }
        if self.rotation_rad > 0.0 {
            let m = rotation(rng, f64::from(self.rotation_rad));
            let automatic: Vec<[usize; 3]>;
            let triads = if self.triads.is_empty() && features.is_multiple_of(3) {
                automatic = (0..features / 3)
                    .map(|t| [3 * t, 3 * t + 1, 3 * t + 2])
                    .collect();
                &automatic
            } else {
                &self.triads
            };
            let mean = |f: usize| standardize.mean.get(f).copied().unwrap_or(0.0);
            let std = |f: usize| standardize.std.get(f).copied().unwrap_or(1.0);
            for triad in triads {
                // x' = (M·(x·std + mean) − mean) / std, folded into one affine map per triad.
                let mut a = [[0.0_f32; 3]; 3];
                let mut b = [0.0_f32; 3];
                for i in 0..3 {
                    for j in 0..3 {
                        a[i][j] = m[i][j] * std(triad[j]) / std(triad[i]);
                        b[i] += m[i][j] * mean(triad[j]);
                    }
                    b[i] = (b[i] - mean(triad[i])) / std(triad[i]);
                }
                for row in x.chunks_exact_mut(features) {
                    let v = triad.map(|f| row[f]);
                    for i in 0..3 {
                        row[triad[i]] = a[i][0] * v[0] + a[i][1] * v[1] + a[i][2] * v[2] + b[i];
                    }
                }
            }
        }
        if self.scale > 0.0 || self.channel_drop > 0.0 {
            let factors: Vec<f32> = (0..features)
                .map(|_| {
                    let factor = 1.0 + self.scale * rng.normal() as f32;
                    if rng.uniform() < f64::from(self.channel_drop) {
                        0.0
                    } else {
                        factor
                    }
                })
                .collect();
            for row in x.chunks_exact_mut(features) {
                for (x, factor) in row.iter_mut().zip(&factors) {
                    *x *= factor;
                }
            }
        }
        if self.jitter > 0.0 {
            // Everything before is the same for all pieces of a sequence; the noise is not.
            let mut noise = match piece.start {
                0 => rng.clone(),
                start => Rng::of(&[rng.next_u64(), start as u64]),
            };
            for x in x {
                *x += self.jitter * quick_normal(&mut noise);
            }
        }
    }
}

/// With the chance `gaps`, samples are missing somewhere in the piece and the last one is held.
pub(super) fn gap(rng: &mut Rng, stateful: &Stateful, features: usize, x: &mut [f32]) {
    let steps = x.len() / features;
    if steps < 2 || stateful.gap_steps == 0 || rng.uniform() >= stateful.gaps {
        return;
    }
    let draw = |rng: &mut Rng, below: usize| (rng.uniform() * below as f64) as usize;
    let last = draw(rng, steps - 1);
    let missing = 1 + draw(rng, stateful.gap_steps.min(steps - 1 - last));
    let (before, after) = x.split_at_mut((last + 1) * features);
    let held = &before[last * features..];
    for row in after.chunks_exact_mut(features).take(missing) {
        row.copy_from_slice(held);
    }
}

/// Nearly normal: the sum of four uniform 16-bit numbers, from one draw. The tails are short,
/// which jitter does not mind; ten times faster than Box–Muller.
fn quick_normal(rng: &mut Rng) -> f32 {
    let bits = rng.next_u64();
    let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    // mean 2·65535, variance 4·65536²/12
    (sum as f32 - 131_070.0) / 37_837.0
}

/// Rotation by `N(0, angle)` about a random axis (Rodrigues).
fn rotation(rng: &mut Rng, angle: f64) -> [[f32; 3]; 3] {
    let axis = [rng.normal(), rng.normal(), rng.normal()];
    let norm = axis.iter().map(|a| a * a).sum::<f64>().sqrt().max(1e-9);
    let [x, y, z] = axis.map(|a| a / norm);
    let (s, c) = (angle * rng.normal()).sin_cos();
    let d = 1.0 - c;
    [
        [c + x * x * d, x * y * d - z * s, x * z * d + y * s],
        [y * x * d + z * s, c + y * y * d, y * z * d - x * s],
        [z * x * d - y * s, z * y * d + x * s, c + z * z * d],
    ]
    .map(|row| row.map(|v| v as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_raw_lengths() {
        let augment = Augment {
            rotation_rad: 0.7,
            ..Augment::default()
        };
        let standardize = Standardize {
            mean: vec![0.3, -0.2, 0.9],
            std: vec![0.5, 2.0, 0.1],
        };
        let raw = |x: &[f32]| -> f32 {
            (0..3)
                .map(|f| (x[f] * standardize.std[f] + standardize.mean[f]).powi(2))
                .sum()
        };
        let mut x = vec![0.1, -1.3, 2.0, 0.7, 0.2, -0.4];
        let before = x.clone();
        augment.apply(
            &mut Rng::new(3),
            &standardize,
            3,
            Piece { start: 0, steps: 2 },
            &mut x,
            &mut Vec::new(),
        );
        assert_ne!(x, before);
        for (a, b) in x.chunks(3).zip(before.chunks(3)) {
            assert!((raw(a) - raw(b)).abs() < 1e-4 * raw(b));
        }
    }

    /// What becomes of `x` with each of these seeds.
    fn changed(augment: &Augment, features: usize, x: &[f32], seeds: u64) -> Vec<Vec<f32>> {
        let steps = x.len() / features;
        let piece = Piece { start: 0, steps };
        let standardize = Standardize::default();
        let change = |seed| {
            let (mut rng, mut x) = (Rng::new(seed), x.to_vec());
            augment.apply(
                &mut rng,
                &standardize,
                features,
                piece,
                &mut x,
                &mut Vec::new(),
            );
            x
        };
        (0..seeds).map(change).collect()
    }

    #[test]
    fn time_runs_at_another_speed_about_the_middle() {
        let augment = Augment {
            time_warp: 0.4,
            ..Augment::default()
        };
        // Two clocks: the value is the step, and its negative.
        let x: Vec<f32> = (0..21).flat_map(|t| [t as f32, -(t as f32)]).collect();
        let mut speeds = Vec::new();
        for warped in changed(&augment, 2, &x, 200) {
            let clock = |t: usize| warped[2 * t];
            let speed = clock(11) - clock(10);
            for t in 0..21 {
                let at = (10.0 + (t as f32 - 10.0) * speed).clamp(0.0, 20.0);
                assert!((clock(t) - at).abs() < 1e-4, "{t}: {} {at}", clock(t));
                assert_eq!(warped[2 * t + 1], -clock(t));
            }
            speeds.push(speed);
        }
        assert!(speeds.iter().all(|s| (0.599..=1.401).contains(s)));
        let slow = speeds.iter().filter(|s| **s < 0.7).count();
        let fast = speeds.iter().filter(|s| **s > 1.3).count();
        assert!(slow > 10 && fast > 10, "{slow} {fast}");
    }

    #[test]
    fn time_moves_and_the_edge_is_repeated() {
        let augment = Augment {
            time_shift: 3,
            ..Augment::default()
        };
        let x: Vec<f32> = (0..12).map(|t| t as f32).collect();
        let shifts = changed(&augment, 1, &x, 200).into_iter().map(|moved| {
            let shift = moved[6] - 6.0;
            for (t, m) in moved.iter().enumerate() {
                assert!((m - (t as f32 + shift).clamp(0.0, 11.0)).abs() < 1e-4);
            }
            shift
        });
        let shifts: Vec<f32> = shifts.collect();
        assert!(shifts.iter().all(|s| s.abs() <= 3.0));
        assert!(shifts.iter().any(|s| *s < -2.5) && shifts.iter().any(|s| *s > 2.5));
    }

    #[test]
    fn a_dropped_channel_is_its_mean_all_the_time_and_the_others_are_as_they_were() {
        let augment = Augment {
            channel_drop: 0.3,
            ..Augment::default()
        };
        let x: Vec<f32> = (1..=15).map(|k| k as f32).collect();
        let (mut gone, mut mixed) = ([0; 3], 0);
        for dropped in changed(&augment, 3, &x, 1000) {
            let mut now = 0;
            for (f, gone) in gone.iter_mut().enumerate() {
                let column = |x: &[f32]| x.iter().skip(f).step_by(3).copied().collect::<Vec<_>>();
                if column(&dropped) == [0.0; 5] {
                    *gone += 1;
                    now += 1;
                } else {
                    assert_eq!(column(&dropped), column(&x));
                }
            }
            mixed += usize::from(now == 1 || now == 2);
        }
        assert!(gone.iter().all(|n| (250..350).contains(n)), "{gone:?}");
        assert!(mixed > 500, "each by itself: {mixed}");
    }

    #[test]
    fn a_gap_holds_the_last_sample() {
        let stateful = Stateful {
            steps: 9,
            carry_over: 0.0,
            gaps: 1.0,
            gap_steps: 4,
        };
        let whole: Vec<f32> = (0..18).map(|k| k as f32).collect();
        let mut longest = 0;
        for seed in 0..200 {
            let mut x = whole.clone();
            gap(&mut Rng::new(seed), &stateful, 2, &mut x);
            let held = |k: &usize| x[2 * k] == x[2 * k - 2] && x[2 * k + 1] == x[2 * k - 1];
            let gone = (1..9).filter(held).count();
            let kept = (0..9).filter(|k| x[2 * k..2 * k + 2] == whole[2 * k..2 * k + 2]);
            assert!((1..=4).contains(&gone) && kept.count() == 9 - gone);
            longest = longest.max(gone);
        }
        assert_eq!(longest, 4);
    }

    #[test]
    fn quick_normal_has_the_right_moments() {
        let mut rng = Rng::new(5);
        let draws: Vec<f64> = (0..100_000)
            .map(|_| f64::from(quick_normal(&mut rng)))
            .collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|d| d * d).sum::<f64>() / draws.len() as f64;
        assert!(
            mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02,
            "{mean} {variance}"
        );
    }
}
