//! Sums of products in one fixed order, several rows at a time.
//!
//! `acc ← acc + w·x` column by column, product and sum rounded separately, never fused: what `VMLA`
//! computes, and `VMUL` with `VADD`. A sum of its own for each row leaves the FPU's registers to six
//! rows, which share the loads of `x` and hide each other's latencies. The rounding error is at most
//! `n/2` units in the last place of the largest partial sum.

use super::MAX_DIM;

/// `acc + Σ_j row[j]·x[j]` in the order above. Columns beyond the shorter slice are ignored.
#[inline]
pub fn dot(row: &[f32], x: &[f32], mut acc: f32) -> f32 {
    for (w, x) in row.iter().zip(x) {
        acc += w * x;
    }
    acc
}

/// Weights and bias of the three gates of a GRU, for one of its two products.
///
/// The fields are private: whoever holds a value knows that the lengths are those of the sizes.
#[derive(Clone, Copy)]
pub(super) struct Gates<'a> {
    weights: &'a [f32],
    bias: &'a [f32],
    units: usize,
    x: &'a [f32],
}

impl<'a> Gates<'a> {
    /// `weights`: `3·units` rows of `x.len()` values, gates in the order r, z, n; `bias`: `3·units`
    /// values or none. `None` for other lengths, and for sizes outside `1..=MAX_DIM`.
    #[inline]
    pub(super) fn new(
        weights: &'a [f32],
        bias: &'a [f32],
        units: usize,
        x: &'a [f32],
    ) -> Option<Self> {
        let sizes = 1..=MAX_DIM;
        let fits = sizes.contains(&units)
            && sizes.contains(&x.len())
            && weights.len() == 3 * units * x.len()
            && (bias.is_empty() || bias.len() == 3 * units);
        fits.then_some(Self {
            weights,
            bias,
            units,
            x,
        })
    }

    /// The weights, `3·units·x.len()` values.
    #[cfg(gru_fpu)]
    #[inline]
    pub(super) const fn weights(&self) -> &'a [f32] {
        self.weights
    }

    /// The bias, `3·units` values or none.
    #[cfg(gru_fpu)]
    #[inline]
    pub(super) const fn bias(&self) -> &'a [f32] {
        self.bias
    }

    /// Number of units.
    #[cfg(gru_fpu)]
    #[inline]
    pub(super) const fn units(&self) -> usize {
        self.units
    }

    /// What the weights are multiplied with.
    #[cfg(gru_fpu)]
    #[inline]
    pub(super) const fn x(&self) -> &'a [f32] {
        self.x
    }

    /// `from + b` and then the products of two neighbouring rows of each gate.
    #[cfg(not(gru_fpu))]
    #[inline]
    fn sums(&self, unit: usize, from: [[f32; 2]; 3]) -> [[f32; 2]; 3] {
        let columns = self.x.len();
        let row = |k: usize| {
            let row = k / 2 * self.units + unit + k % 2;
            let weights = self.weights.get(row * columns..(row + 1) * columns);
            let bias = self.bias.get(row).copied().unwrap_or(0.0);
            (weights.unwrap_or_default(), bias)
        };
        let [a, b, c, d, e, f] = core::array::from_fn(row);
        let [[r0, r1], [z0, z1], [n0, n1]] = from;
        let [mut r0, mut r1] = [r0 + a.1, r1 + b.1];
        let [mut z0, mut z1] = [z0 + c.1, z1 + d.1];
        let [mut n0, mut n1] = [n0 + e.1, n1 + f.1];
        // All rows at once: each sum alone would wait for its own last addition.
        let rows = self
            .x
            .iter()
            .zip(a.0)
            .zip(b.0)
            .zip(c.0)
            .zip(d.0)
            .zip(e.0)
            .zip(f.0);
        for ((((((x, a), b), c), d), e), f) in rows {
            r0 += a * x;
            r1 += b * x;
            z0 += c * x;
            z1 += d * x;
            n0 += e * x;
            n1 += f * x;
        }
        [[r0, r1], [z0, z1], [n0, n1]]
    }
}

/// The sums of two neighbouring units: both parts of `r` and of `z`, the candidate's recurrent part
/// and its input part.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Sums {
    pub(super) r: [f32; 2],
    pub(super) z: [f32; 2],
    pub(super) nh: [f32; 2],
    pub(super) nx: [f32; 2],
}

impl Sums {
    /// The sums of the units `unit` and `unit + 1`: 0, then bias and products of the input, then bias
    /// and products of the state.
    #[cfg(not(gru_fpu))]
    fn of(w: &Gates<'_>, u: &Gates<'_>, unit: usize) -> Self {
        let [r, z, nx] = w.sums(unit, [[0.0; 2]; 3]);
        let [r, z, nh] = u.sums(unit, [r, z, [0.0; 2]]);
        Self { r, z, nh, nx }
    }
}

/// The new state of a layer with at least two units, two at a time, so that six rows share the loads of `x`;
/// `combine` makes it from the sums and the old state of a pair. `usual` says that `combine` is
/// [`gates`](super::math::gates) without a clip.
///
/// With an odd number of units the last pair takes its first unit once more: the same sums of the same
/// old state, so the same result.
///
/// Does nothing unless both parts have as many units as `h` and `new` have values.
#[inline(always)]
pub(super) fn layer(
    w: &Gates<'_>,
    u: &Gates<'_>,
    h: &[f32],
    new: &mut [f32],
    usual: bool,
    combine: impl Fn(Sums, [f32; 2]) -> [f32; 2],
) {
    let units = h.len();
    if units < 2 || new.len() != units || w.units != units || u.units != units {
        return;
    }
    let last = units - 2;
    #[cfg(gru_fpu)]
    let mut context = super::fpu::Context::new(w, u, usual);
    #[cfg(not(gru_fpu))]
    let _ = usual;
    let mut unit = 0;
    loop {
        #[cfg(gru_fpu)]
        let sums = match context.run(unit, h, new) {
            Some((at, sums)) => {
                unit = at;
                sums
            }
            None => return,
        };
        #[cfg(not(gru_fpu))]
        let sums = Sums::of(w, u, unit);
        if let (Some(&[h0, h1]), Some(new)) = (h.get(unit..unit + 2), new.get_mut(unit..unit + 2)) {
            new.copy_from_slice(&combine(sums, [h0, h1]));
        }
        if unit >= last {
            return;
        }
        unit = (unit + 2).min(last);
    }
}

/// Two rows of `x.len()` columns: `acc[k] + Σ_j rows_k[j]·x[j]`, as two calls of [`dot`].
#[inline]
pub(super) fn dot_pair(rows: &[f32], x: &[f32], acc: [f32; 2]) -> [f32; 2] {
    #[cfg(gru_fpu)]
    return super::fpu::dot_pair(rows, x, acc).unwrap_or(acc);
    #[cfg(not(gru_fpu))]
    {
        let [a, b] = acc;
        match rows.split_at_checked(x.len()) {
            Some((first, second)) => {
                let (mut a, mut b) = (a, b);
                for ((x, first), second) in x.iter().zip(first).zip(second) {
                    a += first * x;
                    b += second * x;
                }
                [a, b]
            }
            None => acc,
        }
    }
}
