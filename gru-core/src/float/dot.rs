//! Sums of products in one fixed order, several rows at a time.
//!
//! For columns in groups of eight, with `p_k = w_k · x_k` (rounded, never fused):
//!
//! ```text
//! acc ← acc + (((p_0 + p_4) + (p_2 + p_6)) + ((p_1 + p_5) + (p_3 + p_7)))
//! ```
//!
//! then the remaining columns one after the other: `acc ← acc + w·x`. The tree keeps the rounding
//! error at `O(n/8 + 3)` units instead of `O(n)`, lets the host use SIMD, and costs the FPU of a
//! Cortex-M nothing: eight multiplications and eight additions either way.

use super::MAX_DIM;

/// `acc + Σ_j row[j]·x[j]` in the order above. Columns beyond the shorter slice are ignored.
///
/// Not inlined: the compiler unrolls it, and one copy is enough.
#[inline(never)]
pub fn dot(row: &[f32], x: &[f32], mut acc: f32) -> f32 {
    let (row_groups, row_rest) = row.as_chunks::<8>();
    let (x_groups, x_rest) = x.as_chunks::<8>();
    for (w, x) in row_groups.iter().zip(x_groups) {
        let [w0, w1, w2, w3, w4, w5, w6, w7] = *w;
        let [x0, x1, x2, x3, x4, x5, x6, x7] = *x;
        let s0 = w0 * x0 + w4 * x4;
        let s1 = w1 * x1 + w5 * x5;
        let s2 = w2 * x2 + w6 * x6;
        let s3 = w3 * x3 + w7 * x7;
        acc += (s0 + s2) + (s1 + s3);
    }
    for (w, x) in row_rest.iter().zip(x_rest) {
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
    columns: usize,
}

impl<'a> Gates<'a> {
    /// `weights`: `3·units` rows of `columns` values, gates in the order r, z, n; `bias`: `3·units`
    /// values or none. `None` for other lengths, and for sizes beyond `MAX_DIM`.
    #[inline]
    pub(super) fn new(
        weights: &'a [f32],
        bias: &'a [f32],
        units: usize,
        columns: usize,
    ) -> Option<Self> {
        let fits = units <= MAX_DIM
            && columns <= MAX_DIM
            && weights.len() == 3 * units * columns
            && (bias.is_empty() || bias.len() == 3 * units);
        fits.then_some(Self {
            weights,
            bias,
            units,
            columns,
        })
    }

    /// The weights, `3·units·columns` values.
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

    /// Number of columns.
    #[cfg(gru_fpu)]
    #[inline]
    pub(super) const fn columns(&self) -> usize {
        self.columns
    }
}

/// The sums of two neighbouring units, `unit` and the one after it, with
/// `acc = [r_0, r_1, z_0, z_1, n_0, n_1]`: first `acc ← acc + bias`, then as six calls of [`dot`],
/// bit for bit; each value of `x` is loaded once for all six rows.
///
/// Needs `unit + 2 ≤ units`, and `x.len()` columns; does nothing otherwise.
#[inline]
pub(super) fn dot_gates(m: &Gates<'_>, unit: usize, x: &[f32], acc: &mut [f32; 6]) {
    #[cfg(gru_fpu)]
    super::fpu::dot_gates(m, unit, x, acc);
    #[cfg(not(gru_fpu))]
    dot_gates_portable(m, unit, x, acc);
}

/// The definition of [`dot_gates`].
#[cfg(not(gru_fpu))]
fn dot_gates_portable(m: &Gates<'_>, unit: usize, x: &[f32], acc: &mut [f32; 6]) {
    let columns = m.columns;
    let (sums, _) = acc.as_chunks_mut::<2>();
    for (gate, sums) in sums.iter_mut().enumerate() {
        let first = gate * m.units + unit;
        if let Some([b0, b1]) = m.bias.get(first..first + 2) {
            let [s0, s1] = sums;
            *s0 += b0;
            *s1 += b1;
        }
        if let Some(rows) = m.weights.get(first * columns..(first + 2) * columns) {
            *sums = dot_pair_portable(rows, x, *sums);
        }
    }
}

/// Two rows of `x.len()` columns: `acc[k] + Σ_j rows_k[j]·x[j]`, as two calls of [`dot`].
#[inline]
pub(super) fn dot_pair(rows: &[f32], x: &[f32], acc: [f32; 2]) -> [f32; 2] {
    #[cfg(gru_fpu)]
    return super::fpu::dot_pair(rows, x, acc).unwrap_or(acc);
    #[cfg(not(gru_fpu))]
    dot_pair_portable(rows, x, acc)
}

/// The definition of [`dot_pair`].
#[cfg(not(gru_fpu))]
#[inline]
fn dot_pair_portable(rows: &[f32], x: &[f32], acc: [f32; 2]) -> [f32; 2] {
    let [a, b] = acc;
    match rows.split_at_checked(x.len()) {
        Some((first, second)) => [dot(first, x, a), dot(second, x, b)],
        None => acc,
    }
}
