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

/// `acc + Σ_j row[j]·x[j]` in the order above. Columns beyond the shorter slice are ignored.
#[inline]
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

/// Two rows of each gate of a GRU: `acc[g] + Σ_j rows_g[j]·x[j]` for
/// `acc = [r_0, r_1, z_0, z_1, n_0, n_1]`.
///
/// Each of `r`, `z`, `n` holds two rows of `x.len()` columns. Equal to six calls of [`dot`], bit
/// for bit; each value of `x` is loaded once for all six.
#[inline]
pub(super) fn dot_gates(r: &[f32], z: &[f32], n: &[f32], x: &[f32], acc: [f32; 6]) -> [f32; 6] {
    dot_gates_portable(r, z, n, x, acc)
}

/// The definition of [`dot_gates`].
#[inline]
fn dot_gates_portable(r: &[f32], z: &[f32], n: &[f32], x: &[f32], acc: [f32; 6]) -> [f32; 6] {
    let [r0, r1, z0, z1, n0, n1] = acc;
    let two = |rows: &[f32], a: f32, b: f32| match rows.split_at_checked(x.len()) {
        Some((first, second)) => (dot(first, x, a), dot(second, x, b)),
        None => (a, b),
    };
    let (r0, r1) = two(r, r0, r1);
    let (z0, z1) = two(z, z0, z1);
    let (n0, n1) = two(n, n0, n1);
    [r0, r1, z0, z1, n0, n1]
}
