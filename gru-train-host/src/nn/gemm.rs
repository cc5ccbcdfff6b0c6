//! Small dense products on packed operands, register-tiled; the parts that dominate the time.
//!
//! Row operands are plain slices with a stride; column operands are packed into panels whose rows
//! are whole vectors. Tiles are sized by the number of vector registers, so 16 registers (AVX2,
//! baseline) get 12 accumulators and 32 registers (AVX-512, NEON) get 24.

use super::simd::{Lanes, Real};

/// Rows of a matrix inside a larger slice.
#[derive(Clone, Copy)]
pub struct Rows<'a, E> {
    /// The slice.
    pub data: &'a [E],
    /// Elements from one row to the next.
    pub stride: usize,
    /// Where a row's elements start.
    pub offset: usize,
}

impl<'a, E> Rows<'a, E> {
    /// `len` elements of row `row`.
    #[inline(always)]
    pub fn row(&self, row: usize, len: usize) -> &'a [E] {
        let start = row * self.stride + self.offset;
        &self.data[start..start + len]
    }
}

/// `acc[m][v] += Σ_k a[m][k] · panel[k][v]`; a panel row is `stride` elements, its tile starts at 0.
#[inline(always)]
pub fn tile<L: Lanes, const M: usize, const NV: usize>(
    l: L,
    acc: &mut [[L::V; NV]; M],
    a: &[&[L::E]; M],
    panel: &[L::E],
    stride: usize,
) {
    let depth = a[0].len();
    for (k, p) in panel.chunks(stride).take(depth).enumerate() {
        let p = &p[..NV * L::N];
        let w: [L::V; NV] = std::array::from_fn(|v| l.load(&p[v * L::N..]));
        for m in 0..M {
            let x = l.splat(a[m][k]);
            for v in 0..NV {
                acc[m][v] = l.fma(x, w[v], acc[m][v]);
            }
        }
    }
}

/// What happens to the result rows before the product is added.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Begin with zero.
    Zero,
    /// Add to what is there.
    Add,
}

/// `c[row][..cols] (+)= Σ_parts Σ_k a_part[row][k] · panel_part[k][..cols]`, `cols` whole vectors.
///
/// `parts` gives the rows, the depth and the packed panel (`depth × cols`) of each part.
#[inline(always)]
pub fn rows_times_panels<'a, L: Lanes>(
    l: L,
    c: &mut [L::E],
    cols: usize,
    rows: usize,
    start: Start,
    parts: impl Iterator<Item = (Rows<'a, L::E>, usize, &'a [L::E])> + Clone,
) where
    L::E: 'a,
{
    let vectors = cols / L::N;
    let mut v = 0;
    while v < vectors {
        let left = vectors - v;
        if L::REGISTERS >= 32 {
            match left {
                1 => strip::<L, 8, 1>(l, c, cols, v, rows, start, parts.clone()),
                2 => strip::<L, 8, 2>(l, c, cols, v, rows, start, parts.clone()),
                3 => strip::<L, 8, 3>(l, c, cols, v, rows, start, parts.clone()),
                _ => strip::<L, 6, 4>(l, c, cols, v, rows, start, parts.clone()),
            }
            v += left.min(4);
        } else {
            match left {
                1 => strip::<L, 8, 1>(l, c, cols, v, rows, start, parts.clone()),
                3 => strip::<L, 4, 3>(l, c, cols, v, rows, start, parts.clone()),
                _ => strip::<L, 6, 2>(l, c, cols, v, rows, start, parts.clone()),
            }
            v += if left == 3 { 3 } else { left.min(2) };
        }
    }
}

#[inline(always)]
fn strip<'a, L: Lanes, const M: usize, const NV: usize>(
    l: L,
    c: &mut [L::E],
    cols: usize,
    v: usize,
    rows: usize,
    start: Start,
    parts: impl Iterator<Item = (Rows<'a, L::E>, usize, &'a [L::E])> + Clone,
) where
    L::E: 'a,
{
    let mut row = 0;
    while row + M <= rows {
        strip_tile::<L, M, NV>(l, c, cols, v, row, start, parts.clone());
        row += M;
    }
    while row + 2 <= rows {
        strip_tile::<L, 2, NV>(l, c, cols, v, row, start, parts.clone());
        row += 2;
    }
    if row < rows {
        strip_tile::<L, 1, NV>(l, c, cols, v, row, start, parts.clone());
    }
}

#[inline(always)]
fn strip_tile<'a, L: Lanes, const M: usize, const NV: usize>(
    l: L,
    c: &mut [L::E],
    cols: usize,
    v: usize,
    row: usize,
    start: Start,
    parts: impl Iterator<Item = (Rows<'a, L::E>, usize, &'a [L::E])>,
) where
    L::E: 'a,
{
    let mut acc = [[l.splat(L::E::ZERO); NV]; M];
    if start == Start::Add {
        for m in 0..M {
            let from = &c[(row + m) * cols + v * L::N..];
            for j in 0..NV {
                acc[m][j] = l.load(&from[j * L::N..]);
            }
        }
    }
    for (a, depth, panel) in parts {
        let a: [&[L::E]; M] = std::array::from_fn(|m| a.row(row + m, depth));
        tile::<L, M, NV>(l, &mut acc, &a, &panel[v * L::N..], cols);
    }
    for m in 0..M {
        let to = &mut c[(row + m) * cols + v * L::N..];
        for j in 0..NV {
            l.store(&mut to[j * L::N..], acc[m][j]);
        }
    }
}

/// `g[k][..cols] += Σ_row a[row][k] · d[row][..cols]`: a weight gradient, all time steps at once.
///
/// `g` is packed `depth × cols`, `cols` whole vectors.
#[inline(always)]
pub fn outer_sum<L: Lanes>(
    l: L,
    g: &mut [L::E],
    depth: usize,
    cols: usize,
    a: Rows<'_, L::E>,
    d: Rows<'_, L::E>,
    rows: usize,
) {
    let vectors = cols / L::N;
    let mut v = 0;
    while v < vectors {
        let left = vectors - v;
        let nv = left.min(3);
        let mut k = 0;
        macro_rules! go {
            ($m:literal) => {
                while depth - k >= $m {
                    match nv {
                        1 => outer_tile::<L, $m, 1>(l, g, k, cols, v, a, d, rows),
                        2 => outer_tile::<L, $m, 2>(l, g, k, cols, v, a, d, rows),
                        _ => outer_tile::<L, $m, 3>(l, g, k, cols, v, a, d, rows),
                    }
                    k += $m;
                }
            };
        }
        if L::REGISTERS >= 32 {
            go!(8);
        }
        go!(4);
        go!(2);
        go!(1);
        v += nv;
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one tile of one product; a struct would only rename them"
)]
#[inline(always)]
fn outer_tile<L: Lanes, const M: usize, const NV: usize>(
    l: L,
    g: &mut [L::E],
    k: usize,
    cols: usize,
    v: usize,
    a: Rows<'_, L::E>,
    d: Rows<'_, L::E>,
    rows: usize,
) {
    let mut acc: [[L::V; NV]; M] = std::array::from_fn(|m| {
        let from = &g[(k + m) * cols + v * L::N..];
        std::array::from_fn(|j| l.load(&from[j * L::N..]))
    });
    let a_rows = a.data[a.offset + k..].chunks(a.stride);
    let d_rows = d.data[d.offset + v * L::N..].chunks(d.stride);
    for (a, d) in a_rows.zip(d_rows).take(rows) {
        let (a, d) = (&a[..M], &d[..NV * L::N]);
        let w: [L::V; NV] = std::array::from_fn(|j| l.load(&d[j * L::N..]));
        for m in 0..M {
            let x = l.splat(a[m]);
            for j in 0..NV {
                acc[m][j] = l.fma(x, w[j], acc[m][j]);
            }
        }
    }
    for m in 0..M {
        let to = &mut g[(k + m) * cols + v * L::N..];
        for j in 0..NV {
            l.store(&mut to[j * L::N..], acc[m][j]);
        }
    }
}
