//! GRU layer: forward and back-propagation through time, beside each other, same symbols.
//!
//! ```text
//! forward                                       backward (δa is the gradient of the loss by a)
//! r  = g(a_r)   a_r = W_r·x + U_r·h + b_r        δz = δh' ⊙ (h − n)      δa_z = δz ⊙ g'(a_z)
//! z  = g(a_z)   a_z = W_z·x + U_z·h + b_z        δn = δh' ⊙ (1 − z)      δa_n = δn ⊙ f'(a_n)
//! m  = U_n·h + b_m                              δr = δa_n ⊙ m           δa_r = δr ⊙ g'(a_r)
//! n  = f(a_n)   a_n = W_n·x + b_n + r ⊙ m        δm = δa_n ⊙ r
//! h' = n + z ⊙ (h − n)                          δh = δh' ⊙ z + U_rᵀ·δa_r + U_zᵀ·δa_z + U_nᵀ·δm
//!
//! δW = Σ_t (δa_n, δa_r, δa_z)ᵀ·x        δU = Σ_t (δa_r, δa_z, δm)ᵀ·h
//! ```
//!
//! With the reset gate before the product, `a_n = W_n·x + b_n + U_n·q` with `q = r ⊙ h`; then
//! `δq = U_nᵀ·δa_n`, `δr = δq ⊙ h`, and `δh` gets `δq ⊙ r`. Where recurrent dropout is at work, `q` and all products
//! see `h ⊙ d` in the place of `h`.
//!
//! A masked step is a step with `z = 1`: it keeps the state, and every gradient passes through it.
//!
//! A layer that goes backwards reads its steps from the last one to the first, and gives its outputs in the order in
//! which it has read, as in Keras.
//!
//! **Layout.** Units are the lanes of vectors; `H` is padded to whole vectors of `N` lanes with
//! zero weights, so that padded units stay exactly zero forwards and backwards. The gates of block
//! `j` (units `jN..jN+N`) lie together: `[block][step][row][n r z m][N]`. Forwards that array holds
//! the gates, backwards `δa_n δa_r δa_z δm` in the same places. So the three columns that belong to
//! `x` (n r z) and the three that belong to `h` (r z m) are both contiguous.

use super::activation::{apply, derivative};
use super::gemm::{Rows, Start, outer_sum, rows_times_panels};
use super::simd::{Lanes, Real};
use crate::spec::Activation;

/// Sizes and functions of one GRU layer.
#[derive(Debug, Clone)]
pub struct GruShape {
    /// Input size `I`.
    pub input: usize,
    /// Hidden size `H`.
    pub units: usize,
    /// Lanes `N`.
    pub lanes: usize,
    /// `f`
    pub activation: Activation,
    /// `g`
    pub recurrent_activation: Activation,
    /// Whether the reset gate acts after the product.
    pub reset_after: bool,
    /// Whether the biases are learnt; else they stay as they are.
    pub use_bias: bool,
    /// Whether the state to begin with is learnt: `H` parameters more.
    pub learn_h0: bool,
    /// Whether the steps are read from the last one to the first.
    pub backwards: bool,
    /// Pre-activations are clamped to `[−clip, clip]`.
    pub clip: Option<f32>,
    /// Rounds sums, gates and state on the way forward as the integer core does; the number is its
    /// `nh_shift`. Only Keras' default cell does that.
    pub grid: Option<u8>,
}

impl GruShape {
    /// `H` padded to whole vectors.
    pub fn padded(&self) -> usize {
        self.units.next_multiple_of(self.lanes)
    }

    /// Number of vectors in a state.
    pub fn blocks(&self) -> usize {
        self.units.div_ceil(self.lanes)
    }

    /// Keras' default cell, for which everything is fused.
    pub fn fused(&self) -> bool {
        self.activation == Activation::Tanh
            && self.recurrent_activation == Activation::Sigmoid
            && self.reset_after
            && self.clip.is_none()
    }

    /// Number of parameters: w `3H×I`, u `3H×H`, b_in `3H`, b_rec `3H`, and where it is learnt h0 `H`.
    pub fn parameters(&self) -> usize {
        let h0 = if self.learn_h0 { self.units } else { 0 };
        self.weights() + 6 * self.units + h0
    }

    /// Number of parameters that are weights; they come first.
    pub fn weights(&self) -> usize {
        3 * self.units * (self.input + self.units)
    }
}

/// Weights as the kernels want them; rebuilt from the parameters before every batch.
#[derive(Debug, Clone, Default)]
pub struct GruPack<E> {
    /// `[block][I rows of n r z, then H rows of r z n][N]`
    panels: Vec<E>,
    /// `[block][n r z m][N]`
    bias: Vec<E>,
    /// `[block][r z n][lane][Hp]`: rows of U
    back_u: Vec<E>,
    /// `[block][n r z][lane][Ip]`: rows of W
    back_w: Vec<E>,
    /// `[block][H][N]`: U_n alone, for the reset gate before the product
    panels_n: Vec<E>,
    /// Initial state, padded.
    h0: Vec<E>,
}

/// Order of the gates r, z, n in the rows of W and U.
const R: usize = 0;
const Z: usize = 1;
const N: usize = 2;

impl<E: Real> GruPack<E> {
    /// Packs `params` (w, u, b_in, b_rec, and h0 where it is learnt); `input_stride` is the padded width of the layer
    /// below.
    pub fn fill(&mut self, s: &GruShape, params: &[E], h0: &[E], input_stride: usize) {
        let (i, h, n, hp, blocks) = (s.input, s.units, s.lanes, s.padded(), s.blocks());
        let (w, rest) = params.split_at(3 * h * i);
        let (u, rest) = rest.split_at(3 * h * h);
        let (b_in, rest) = rest.split_at(3 * h);
        let (b_rec, learnt) = rest.split_at(3 * h);
        let h0 = if s.learn_h0 { learnt } else { h0 };
        let size = |v: &mut Vec<E>, len: usize| {
            if v.len() != len {
                v.clear();
                v.resize(len, E::ZERO);
            }
        };
        let depth = i + h;
        size(&mut self.panels, blocks * depth * 3 * n);
        size(&mut self.bias, blocks * 4 * n);
        size(&mut self.back_u, blocks * 3 * n * hp);
        size(&mut self.back_w, blocks * 3 * n * input_stride);
        size(&mut self.h0, hp);
        for (to, from) in self.h0.iter_mut().zip(h0) {
            *to = *from;
        }
        for unit in 0..h {
            let (block, lane) = (unit / n, unit % n);
            let panel = &mut self.panels[block * depth * 3 * n..(block + 1) * depth * 3 * n];
            let (panel_x, panel_h) = panel.split_at_mut(i * 3 * n);
            for (slot, gate) in [N, R, Z].into_iter().enumerate() {
                let row = &w[(gate * h + unit) * i..][..i];
                for (to, from) in panel_x.chunks_exact_mut(3 * n).zip(row) {
                    to[slot * n + lane] = *from;
                }
                let back = &mut self.back_w[((block * 3 + slot) * n + lane) * input_stride..];
                back[..i].copy_from_slice(row);
            }
            for (slot, gate) in [R, Z, N].into_iter().enumerate() {
                let row = &u[(gate * h + unit) * h..][..h];
                for (to, from) in panel_h.chunks_exact_mut(3 * n).zip(row) {
                    to[slot * n + lane] = *from;
                }
                let back = &mut self.back_u[((block * 3 + slot) * n + lane) * hp..];
                back[..h].copy_from_slice(row);
            }
            let bias = &mut self.bias[block * 4 * n..];
            bias[lane] = b_in[N * h + unit];
            bias[n + lane] = b_in[R * h + unit] + b_rec[R * h + unit];
            bias[2 * n + lane] = b_in[Z * h + unit] + b_rec[Z * h + unit];
            bias[3 * n + lane] = b_rec[N * h + unit];
        }
        if !s.reset_after {
            size(&mut self.panels_n, blocks * h * n);
            for unit in 0..h {
                let row = &u[(N * h + unit) * h..][..h];
                for (k, from) in row.iter().enumerate() {
                    self.panels_n[(unit / n * h + k) * n + unit % n] = *from;
                }
            }
        }
    }
}

/// Gradient in the packed layout.
#[derive(Debug, Clone, Default)]
pub struct GruGrad<E> {
    /// `[block][I][n r z][N]`
    w: Vec<E>,
    /// `[block][H][r z n][N]`
    u: Vec<E>,
    /// `[block][n r z m][N]`
    b: Vec<E>,
    /// Of the state to begin with, padded.
    h0: Vec<E>,
}

impl<E: Real> GruGrad<E> {
    /// Zeros of the right size.
    pub fn new(s: &GruShape) -> Self {
        let wide = s.blocks() * s.lanes;
        Self {
            w: vec![E::ZERO; wide * 3 * s.input],
            u: vec![E::ZERO; wide * 3 * s.units],
            b: vec![E::ZERO; wide * 4],
            h0: vec![E::ZERO; if s.learn_h0 { wide } else { 0 }],
        }
    }

    /// Sets everything to zero.
    pub fn clear(&mut self) {
        for part in [&mut self.w, &mut self.u, &mut self.b, &mut self.h0] {
            part.fill(E::ZERO);
        }
    }

    /// Adds the gradient of another chunk.
    pub fn add(&mut self, other: &Self) {
        for (to, from) in [
            (&mut self.w, &other.w),
            (&mut self.u, &other.u),
            (&mut self.b, &other.b),
            (&mut self.h0, &other.h0),
        ] {
            for (to, from) in to.iter_mut().zip(from) {
                *to += *from;
            }
        }
    }

    /// Writes w, u, b_in, b_rec, h0 in the order of the parameters.
    pub fn unpack(&self, s: &GruShape, out: &mut [E]) {
        let (i, h, n) = (s.input, s.units, s.lanes);
        let (w, rest) = out.split_at_mut(3 * h * i);
        let (u, rest) = rest.split_at_mut(3 * h * h);
        let (b_in, rest) = rest.split_at_mut(3 * h);
        let (b_rec, h0) = rest.split_at_mut(3 * h);
        for unit in 0..h {
            let (block, lane) = (unit / n, unit % n);
            for (slot, gate) in [N, R, Z].into_iter().enumerate() {
                let from = self.w[block * i * 3 * n..][..i * 3 * n].chunks_exact(3 * n);
                for (to, from) in w[(gate * h + unit) * i..][..i].iter_mut().zip(from) {
                    *to = from[slot * n + lane];
                }
            }
            for (slot, gate) in [R, Z, N].into_iter().enumerate() {
                let from = self.u[block * h * 3 * n..][..h * 3 * n].chunks_exact(3 * n);
                for (to, from) in u[(gate * h + unit) * h..][..h].iter_mut().zip(from) {
                    *to = from[slot * n + lane];
                }
            }
            let b = &self.b[block * 4 * n + lane..];
            b_in[N * h + unit] = b[0];
            b_in[R * h + unit] = b[n];
            b_in[Z * h + unit] = b[2 * n];
            if s.reset_after {
                b_rec[R * h + unit] = b[n];
                b_rec[Z * h + unit] = b[2 * n];
                b_rec[N * h + unit] = b[3 * n];
            } else {
                for gate in [R, Z, N] {
                    b_rec[gate * h + unit] = E::ZERO;
                }
            }
        }
        if !s.use_bias {
            b_in.fill(E::ZERO);
            b_rec.fill(E::ZERO);
        }
        for (to, from) in h0.iter_mut().zip(&self.h0) {
            *to = *from;
        }
    }
}

/// What one layer remembers of one chunk of a batch.
#[derive(Debug, Clone, Default)]
pub struct GruWork<E> {
    /// `[block][step][row][n r z m][N]`, see the module's documentation.
    gates: Vec<E>,
    /// `[step + 1][row][Hp]`: the state before each step, and after the last one.
    pub h: Vec<E>,
    /// `[row][Hp]`: gradient of the state.
    dh: Vec<E>,
    /// Pre-activations `[block][step][row][n r z][N]`, unless everything is fused.
    pre: Vec<E>,
    /// `q = r ⊙ h`, `[step][row][Hp]`, and a row buffer, for the reset gate before the product.
    q: Vec<E>,
    product: Vec<E>,
    /// Recurrent dropout: factor of each unit of each row, `[row][Hp]`; empty for none. The
    /// products see `h ⊙ d`, the mix of old and new state sees `h` itself, as in Keras.
    pub drop: Vec<E>,
    /// `h ⊙ d`, `[step][row][Hp]`.
    dropped: Vec<E>,
    /// The inputs from the last step to the first, for a layer that goes backwards.
    turned: Vec<E>,
}

impl<E: Real> GruWork<E> {
    /// Makes room for `steps × rows`.
    pub fn resize(&mut self, s: &GruShape, steps: usize, rows: usize) {
        let hp = s.padded();
        let size = |v: &mut Vec<E>, len: usize| {
            if v.len() != len {
                v.clear();
                v.resize(len, E::ZERO);
            }
        };
        size(&mut self.gates, steps * rows * hp * 4);
        size(&mut self.h, (steps + 1) * rows * hp);
        size(&mut self.dh, rows * hp);
        if !s.fused() {
            size(&mut self.pre, steps * rows * hp * 3);
        }
        if !s.reset_after {
            size(&mut self.q, steps * rows * hp);
        }
        if !s.reset_after || !self.drop.is_empty() {
            size(&mut self.product, rows * hp);
        }
        if !self.drop.is_empty() {
            size(&mut self.dropped, steps * rows * hp);
        }
    }
}

/// One pass over one chunk: sizes, and which rows are shorter than `steps`.
#[derive(Clone, Copy)]
pub struct Span<'a> {
    /// Time steps.
    pub steps: usize,
    /// Sequences side by side.
    pub rows: usize,
    /// Valid steps of each row.
    pub lengths: Option<&'a [usize]>,
    /// Whether the steps are in reverse order, so that the padding of a short row comes first.
    pub reversed: bool,
}

impl Span<'_> {
    #[inline(always)]
    fn masked(&self, step: usize, row: usize) -> bool {
        self.lengths.is_some_and(|l| {
            let t = if self.reversed {
                self.steps - 1 - step
            } else {
                step
            };
            t >= l[row]
        })
    }

    /// Valid steps of a row.
    #[inline(always)]
    pub fn length(&self, row: usize) -> usize {
        self.lengths.map_or(self.steps, |l| l[row].min(self.steps))
    }

    /// The first valid step of a row.
    #[inline(always)]
    pub fn first(&self, row: usize) -> usize {
        if self.reversed {
            self.steps - self.length(row)
        } else {
            0
        }
    }

    /// Whether a step belongs to the mean over a row's valid steps without the first `skip`;
    /// a row that is too short for that counts with its last step.
    #[inline(always)]
    pub fn counts(&self, step: usize, row: usize, skip: usize) -> bool {
        let (first, length) = (self.first(row), self.length(row));
        step < first + length && step >= first + skip.min(length.saturating_sub(1))
    }
}

/// Writes the steps `[step][row][width]` of `from` into `to`, the last one first.
fn turn<E: Real>(from: Rows<'_, E>, width: usize, rows: usize, to: &mut Vec<E>) {
    let steps = from.data.len() / (from.stride * rows).max(1);
    to.resize(steps * rows * width, E::ZERO);
    for (step, to) in to.chunks_exact_mut((rows * width).max(1)).enumerate() {
        for (row, to) in to.chunks_exact_mut(width).enumerate() {
            to.copy_from_slice(from.row((steps - 1 - step) * rows + row, width));
        }
    }
}

/// Turns the order of steps of so many values.
fn turn_in_place<E: Real>(values: &mut [E], step: usize) {
    let half = values.len() / step.max(1) / 2 * step;
    let (low, high) = values.split_at_mut(half);
    for (a, b) in low.chunks_exact_mut(step).zip(high.rchunks_exact_mut(step)) {
        a.swap_with_slice(b);
    }
}

/// Grid of the state and of `n` in the integer core.
const STATE_GRID: f64 = 1.0 / 32768.0;
/// Grid of the pre-activations of `r` and `z`.
const GATE_GRID: f64 = 12.0 / 32768.0;
/// Grid of the pre-activation of `n`.
const CANDIDATE_GRID: f64 = 6.0 / 32768.0;

/// Grid of `r` and `z`.
const SIGMOID_GRID: f64 = 1.0 / 65536.0;

/// Rounds to multiples of `grid`: adding a large number to the multiple and taking it away again.
#[inline(always)]
fn round<L: Lanes>(l: L, x: L::V, grid: f64) -> L::V {
    let large = l.splat(L::E::from_f64(L::E::ROUND));
    let units = l.fma(x, l.splat(L::E::from_f64(1.0 / grid)), large);
    l.mul(l.sub(units, large), l.splat(L::E::from_f64(grid)))
}

/// The largest multiple of `grid` that is not above `x`, as the integer core's shifts have it. A
/// sum that is a multiple but for the rounding of the floats counts as that multiple.
#[inline(always)]
fn floor<L: Lanes>(l: L, x: L::V, grid: f64) -> L::V {
    let nearly_half = l.splat(L::E::from_f64(grid * (0.5 - 1.0 / 512.0)));
    round(l, l.sub(x, nearly_half), grid)
}

/// All steps of one chunk. `carry` is the state to begin with; otherwise it is `h0`.
#[inline(always)]
pub fn forward<L: Lanes>(
    l: L,
    s: &GruShape,
    pack: &GruPack<L::E>,
    x: Rows<'_, L::E>,
    work: &mut GruWork<L::E>,
    span: Span<'_>,
    carry: Option<&[L::E]>,
) {
    let (rows, hp) = (span.rows, s.padded());
    let mut turned = std::mem::take(&mut work.turned);
    let x = turned_input(s, x, span, &mut turned);
    match carry {
        Some(state) => work.h[..rows * hp].copy_from_slice(state),
        None => {
            for row in work.h[..rows * hp].chunks_exact_mut(hp) {
                row.copy_from_slice(&pack.h0);
            }
        }
    }
    let from_zero = carry.is_none() && pack.h0.iter().all(|h| *h == L::E::ZERO);
    for step in 0..span.steps {
        let skip_h = step == 0 && from_zero;
        if s.fused() {
            if s.grid.is_some() {
                forward_step::<L, true, true>(l, s, pack, x, work, span, step, skip_h);
            } else {
                forward_step::<L, true, false>(l, s, pack, x, work, span, step, skip_h);
            }
        } else {
            forward_step::<L, false, false>(l, s, pack, x, work, span, step, skip_h);
            forward_general(l, s, pack, work, span, step);
        }
    }
    work.turned = turned;
}

/// The inputs in the order in which the layer reads them.
fn turned_input<'a, E: Real>(
    s: &GruShape,
    x: Rows<'a, E>,
    span: Span<'_>,
    turned: &'a mut Vec<E>,
) -> Rows<'a, E> {
    if !s.backwards {
        return x;
    }
    let steps = Rows {
        data: &x.data[..span.steps * span.rows * x.stride],
        ..x
    };
    turn(steps, s.input, span.rows, turned);
    Rows {
        data: turned,
        stride: s.input,
        offset: 0,
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one step of one layer; a struct would only rename them"
)]
#[inline(always)]
fn forward_step<L: Lanes, const FUSED: bool, const GRID: bool>(
    l: L,
    s: &GruShape,
    pack: &GruPack<L::E>,
    x: Rows<'_, L::E>,
    work: &mut GruWork<L::E>,
    span: Span<'_>,
    step: usize,
    skip_h: bool,
) {
    let (rows, hp, i, h) = (span.rows, s.padded(), s.input, s.units);
    let depth = i + h;
    let block_len = span.steps * rows * 4 * L::N;
    let nh_grid = CANDIDATE_GRID * f64::from(1_u32 << s.grid.unwrap_or(0));
    let (before, after) = work.h.split_at_mut((step + 1) * rows * hp);
    let before = &before[step * rows * hp..];
    let seen = if work.drop.is_empty() {
        before
    } else {
        let to = &mut work.dropped[step * rows * hp..(step + 1) * rows * hp];
        for (to, (h, d)) in to.iter_mut().zip(before.iter().zip(&work.drop)) {
            *to = *h * *d;
        }
        to
    };
    for block in 0..s.blocks() {
        let panel = &pack.panels[block * depth * 3 * L::N..(block + 1) * depth * 3 * L::N];
        let (panel_x, panel_h) = panel.split_at(i * 3 * L::N);
        let panel_h = if skip_h { &[] } else { panel_h };
        let bias = &pack.bias[block * 4 * L::N..(block + 1) * 4 * L::N];
        let gates = &mut work.gates[block * block_len + step * rows * 4 * L::N..];
        let gates = &mut gates[..rows * 4 * L::N];
        let mut row = 0;
        macro_rules! go {
            ($m:literal) => {
                while rows - row >= $m {
                    let xs: [&[L::E]; $m] =
                        std::array::from_fn(|m| x.row(step * rows + row + m, i));
                    let hs: [&[L::E]; $m] =
                        std::array::from_fn(|m| &seen[(row + m) * hp..(row + m + 1) * hp]);
                    let masked: [bool; $m] = std::array::from_fn(|m| span.masked(step, row + m));
                    forward_tile::<L, $m, FUSED, GRID>(
                        l,
                        (panel_x, panel_h, bias),
                        nh_grid,
                        &xs,
                        &hs,
                        &before[row * hp..],
                        &mut gates[row * 4 * L::N..],
                        (&mut after[row * hp..], hp, block * L::N),
                        &masked,
                    );
                    row += $m;
                }
            };
        }
        if L::REGISTERS >= 32 {
            go!(6);
            go!(4);
            go!(2);
        } else {
            go!(3);
        }
        go!(1);
    }
}

/// Packed weights of one block: `[I][n r z]`, `[H][r z m]`, bias `[n r z m]`.
type Panels<'a, E> = (&'a [E], &'a [E], &'a [E]);

#[expect(
    clippy::too_many_arguments,
    reason = "one tile of one step; a struct would only rename them"
)]
/// `M` rows of one block of units: the products, and with `FUSED` the gates and the new state.
#[inline(always)]
fn forward_tile<L: Lanes, const M: usize, const FUSED: bool, const GRID: bool>(
    l: L,
    (panel_x, panel_h, bias): Panels<'_, L::E>,
    nh_grid: f64,
    xs: &[&[L::E]; M],
    hs: &[&[L::E]; M],
    before: &[L::E],
    gates: &mut [L::E],
    (after, hp, unit): (&mut [L::E], usize, usize),
    masked: &[bool; M],
) {
    let load4 = |from: &[L::E]| -> [L::V; 4] { std::array::from_fn(|j| l.load(&from[j * L::N..])) };
    let [b_n, b_r, b_z, b_m] = load4(bias);
    let (mut a_n, mut a_r, mut a_z, mut m_) = ([b_n; M], [b_r; M], [b_z; M], [b_m; M]);
    if GRID {
        // The core rounds each sum by itself; the biases, already on the grids, come last.
        let zero = [l.splat(L::E::ZERO); M];
        (a_n, a_r, a_z, m_) = (zero, zero, zero, zero);
    }
    for (k, w) in panel_x.chunks_exact(3 * L::N).enumerate() {
        let (w_n, w_r, w_z) = (l.load(w), l.load(&w[L::N..]), l.load(&w[2 * L::N..]));
        for m in 0..M {
            let x = l.splat(xs[m][k]);
            a_n[m] = l.fma(x, w_n, a_n[m]);
            a_r[m] = l.fma(x, w_r, a_r[m]);
            a_z[m] = l.fma(x, w_z, a_z[m]);
        }
    }
    for (k, w) in panel_h.chunks_exact(3 * L::N).enumerate() {
        let (u_r, u_z, u_n) = (l.load(w), l.load(&w[L::N..]), l.load(&w[2 * L::N..]));
        for m in 0..M {
            let h = l.splat(hs[m][k]);
            a_r[m] = l.fma(h, u_r, a_r[m]);
            a_z[m] = l.fma(h, u_z, a_z[m]);
            m_[m] = l.fma(h, u_n, m_[m]);
        }
    }
    if GRID {
        for m in 0..M {
            a_r[m] = l.add(floor(l, a_r[m], GATE_GRID), b_r);
            a_z[m] = l.add(floor(l, a_z[m], GATE_GRID), b_z);
            a_n[m] = l.add(floor(l, a_n[m], CANDIDATE_GRID), b_n);
            m_[m] = l.add(floor(l, m_[m], nh_grid), b_m);
        }
    }
    for m in 0..M {
        let out = &mut gates[m * 4 * L::N..(m + 1) * 4 * L::N];
        if !FUSED {
            for (j, v) in [a_n[m], a_r[m], a_z[m], m_[m]].into_iter().enumerate() {
                l.store(&mut out[j * L::N..], v);
            }
            continue;
        }
        let h = l.load(&before[m * hp + unit..]);
        let (r, mut z, mut n);
        if GRID {
            r = round(l, l.sigmoid(a_r[m]), SIGMOID_GRID);
            z = round(l, l.sigmoid(a_z[m]), SIGMOID_GRID);
            let part = floor(l, l.mul(r, m_[m]), CANDIDATE_GRID);
            n = round(l, l.tanh(l.add(a_n[m], part)), STATE_GRID);
        } else {
            r = l.sigmoid(a_r[m]);
            z = l.sigmoid(a_z[m]);
            n = l.tanh(l.fma(r, m_[m], a_n[m]));
        }
        if masked[m] {
            z = l.splat(L::E::ONE);
            n = l.splat(L::E::ZERO);
        }
        let mut next = l.fma(z, l.sub(h, n), n);
        if GRID && !masked[m] {
            next = round(l, next, STATE_GRID);
        }
        for (j, v) in [n, r, z, m_[m]].into_iter().enumerate() {
            l.store(&mut out[j * L::N..], v);
        }
        l.store(&mut after[m * hp + unit..], next);
    }
}

/// The gates and the new state for any activations, either place of the reset gate, and `clip`.
/// The products are already in `work.gates`.
#[inline(always)]
fn forward_general<L: Lanes>(
    l: L,
    s: &GruShape,
    pack: &GruPack<L::E>,
    work: &mut GruWork<L::E>,
    span: Span<'_>,
    step: usize,
) {
    let (rows, hp, h) = (span.rows, s.padded(), s.units);
    let (f, g) = (s.activation, s.recurrent_activation);
    let clip = |a: L::E| match s.clip {
        Some(c) => a.max(-L::E::from_f32(c)).min(L::E::from_f32(c)),
        None => a,
    };
    let at = |block: usize, row: usize| (block * span.steps + step) * rows + row;
    let (before, after) = work.h.split_at_mut((step + 1) * rows * hp);
    let before = &before[step * rows * hp..];
    for unit in 0..h {
        let (block, lane) = (unit / L::N, unit % L::N);
        for row in 0..rows {
            let pre = &mut work.pre[at(block, row) * 3 * L::N + lane..];
            let gates = &mut work.gates[at(block, row) * 4 * L::N + lane..];
            pre[L::N] = gates[L::N];
            pre[2 * L::N] = gates[2 * L::N];
            gates[L::N] = apply(g, clip(pre[L::N]));
            gates[2 * L::N] = apply(g, clip(pre[2 * L::N]));
            if !s.reset_after {
                let seen = match work.drop.is_empty() {
                    true => before[row * hp + unit],
                    false => work.dropped[(step * rows + row) * hp + unit],
                };
                work.q[(step * rows + row) * hp + unit] = gates[L::N] * seen;
            }
        }
    }
    if !s.reset_after {
        let q = Rows {
            data: &work.q[step * rows * hp..],
            stride: hp,
            offset: 0,
        };
        // One block of columns after the other, so that the panel rows are single vectors.
        for block in 0..s.blocks() {
            let panel = &pack.panels_n[block * h * L::N..(block + 1) * h * L::N];
            let to = &mut work.product[block * rows * L::N..(block + 1) * rows * L::N];
            rows_times_panels(
                l,
                to,
                L::N,
                rows,
                Start::Zero,
                std::iter::once((q, h, panel)),
            );
        }
    }
    for unit in 0..h {
        let (block, lane) = (unit / L::N, unit % L::N);
        for row in 0..rows {
            let pre = &mut work.pre[at(block, row) * 3 * L::N + lane..];
            let gates = &mut work.gates[at(block, row) * 4 * L::N + lane..];
            pre[0] = if s.reset_after {
                gates[0] + gates[L::N] * gates[3 * L::N]
            } else {
                gates[0] + work.product[(block * rows + row) * L::N + lane]
            };
            gates[0] = apply(f, clip(pre[0]));
            if span.masked(step, row) {
                gates[2 * L::N] = L::E::ONE;
                gates[0] = L::E::ZERO;
            }
            let (n, z, h) = (gates[0], gates[2 * L::N], before[row * hp + unit]);
            after[row * hp + unit] = n + z * (h - n);
        }
    }
}

/// Where the gradient of the layer's outputs is.
#[derive(Clone, Copy)]
pub enum OutputGrad<'a, E> {
    /// Only of the last state, `[row][Hp]`.
    Last(&'a [E]),
    /// Of the state after every step, `[step][row][Hp]`.
    Every(&'a [E]),
    /// The same `[row][Hp]` for each valid step from `skip` on (a mean over time).
    Mean(&'a [E], usize),
}

#[expect(
    clippy::too_many_arguments,
    reason = "one pass of one layer; a struct would only rename them"
)]
/// Gradients of the weights (added to `grad`) and, if wanted, of the input `[step][row][Ip]`.
#[inline(always)]
pub fn backward<L: Lanes>(
    l: L,
    s: &GruShape,
    pack: &GruPack<L::E>,
    x: Rows<'_, L::E>,
    work: &mut GruWork<L::E>,
    grad: &mut GruGrad<L::E>,
    span: Span<'_>,
    dy: OutputGrad<'_, L::E>,
    dx: Option<(&mut [L::E], usize)>,
) {
    let (rows, hp) = (span.rows, s.padded());
    let block_len = span.steps * rows * 4 * L::N;
    match dy {
        OutputGrad::Last(dy) => work.dh.copy_from_slice(dy),
        OutputGrad::Every(_) | OutputGrad::Mean(..) => work.dh.fill(L::E::ZERO),
    }
    for step in (0..span.steps).rev() {
        if let OutputGrad::Every(dy) = dy {
            let dy = &dy[step * rows * hp..(step + 1) * rows * hp];
            for (to, from) in work.dh.chunks_exact_mut(L::N).zip(dy.chunks_exact(L::N)) {
                l.store(to, l.add(l.load(to), l.load(from)));
            }
        }
        if let OutputGrad::Mean(dy, skip) = dy {
            let both = work.dh.chunks_exact_mut(hp).zip(dy.chunks_exact(hp));
            for (row, (to, from)) in both.enumerate() {
                if span.counts(step, row, skip) {
                    for (to, from) in to.chunks_exact_mut(L::N).zip(from.chunks_exact(L::N)) {
                        l.store(to, l.add(l.load(to), l.load(from)));
                    }
                }
            }
        }
        if s.fused() {
            backward_gates(l, s, work, grad, span, step);
        } else {
            backward_general(l, s, pack, work, grad, span, step);
        }
        if step > 0 || s.learn_h0 {
            let gates = &work.gates;
            let parts = (0..s.blocks()).map(|block| {
                let data = &gates[block * block_len + step * rows * 4 * L::N..];
                let panel = &pack.back_u[block * 3 * L::N * hp..(block + 1) * 3 * L::N * hp];
                (
                    Rows {
                        data,
                        stride: 4 * L::N,
                        offset: L::N,
                    },
                    3 * L::N,
                    panel,
                )
            });
            if work.drop.is_empty() {
                rows_times_panels(l, &mut work.dh, hp, rows, Start::Add, parts);
            } else {
                rows_times_panels(l, &mut work.product, hp, rows, Start::Zero, parts);
                let both = work.product.iter().zip(&work.drop);
                for (to, (p, d)) in work.dh.iter_mut().zip(both) {
                    *to += *p * *d;
                }
            }
        }
    }
    if s.learn_h0 {
        for dh in work.dh.chunks_exact(hp) {
            for (to, from) in grad.h0.iter_mut().zip(dh) {
                *to += *from;
            }
        }
    }
    let all = span.steps * rows;
    let x = match s.backwards {
        true => Rows {
            data: &work.turned[..],
            stride: s.input,
            offset: 0,
        },
        false => x,
    };
    for block in 0..s.blocks() {
        let data = &work.gates[block * block_len..(block + 1) * block_len];
        let (wide_x, wide_h) = (s.input * 3 * L::N, s.units * 3 * L::N);
        let g_w = &mut grad.w[block * wide_x..(block + 1) * wide_x];
        let d = Rows {
            data,
            stride: 4 * L::N,
            offset: 0,
        };
        outer_sum(l, g_w, s.input, 3 * L::N, x, d, all);
        let g_u = &mut grad.u[block * wide_h..(block + 1) * wide_h];
        let data_h = if work.drop.is_empty() {
            &work.h
        } else {
            &work.dropped
        };
        let h = Rows {
            data: data_h,
            stride: hp,
            offset: 0,
        };
        let d = Rows {
            data,
            stride: 4 * L::N,
            offset: L::N,
        };
        outer_sum(l, g_u, s.units, 3 * L::N, h, d, all);
    }
    if !s.reset_after {
        backward_u_n(s, work, grad, span);
    }
    if let Some((dx, stride)) = dx {
        let gates = &work.gates;
        let parts = (0..s.blocks()).map(|block| {
            let data = &gates[block * block_len..(block + 1) * block_len];
            let panel = &pack.back_w[block * 3 * L::N * stride..(block + 1) * 3 * L::N * stride];
            (
                Rows {
                    data,
                    stride: 4 * L::N,
                    offset: 0,
                },
                3 * L::N,
                panel,
            )
        });
        rows_times_panels(l, dx, stride, all, Start::Zero, parts);
        if s.backwards {
            turn_in_place(&mut dx[..all * stride], rows * stride);
        }
    }
}

/// From `δh'` to `δa_n δa_r δa_z δm` (in place of the gates) and `δh' ⊙ z`.
#[inline(always)]
fn backward_gates<L: Lanes>(
    l: L,
    s: &GruShape,
    work: &mut GruWork<L::E>,
    grad: &mut GruGrad<L::E>,
    span: Span<'_>,
    step: usize,
) {
    let (rows, hp) = (span.rows, s.padded());
    let one = l.splat(L::E::ONE);
    let before = &work.h[step * rows * hp..(step + 1) * rows * hp];
    for block in 0..s.blocks() {
        let start = (block * span.steps + step) * rows * 4 * L::N;
        let gates = &mut work.gates[start..start + rows * 4 * L::N];
        let bias = &mut grad.b[block * 4 * L::N..(block + 1) * 4 * L::N];
        let mut sum: [L::V; 4] = std::array::from_fn(|j| l.load(&bias[j * L::N..]));
        let state = before.chunks_exact(hp).zip(work.dh.chunks_exact_mut(hp));
        for (gates, (h, dh)) in gates.chunks_exact_mut(4 * L::N).zip(state) {
            let [n, r, z, m]: [L::V; 4] = std::array::from_fn(|j| l.load(&gates[j * L::N..]));
            let dh = &mut dh[block * L::N..(block + 1) * L::N];
            let (d, h) = (l.load(dh), l.load(&h[block * L::N..]));
            let d_z = l.mul(d, z);
            let da_z = l.mul(l.mul(d_z, l.sub(h, n)), l.sub(one, z));
            let da_n = l.mul(l.sub(d, d_z), l.sub(one, l.mul(n, n)));
            let dm = l.mul(da_n, r);
            let da_r = l.mul(l.mul(dm, m), l.sub(one, r));
            for (j, v) in [da_n, da_r, da_z, dm].into_iter().enumerate() {
                l.store(&mut gates[j * L::N..], v);
                sum[j] = l.add(sum[j], v);
            }
            l.store(dh, d_z);
        }
        for (j, v) in sum.into_iter().enumerate() {
            l.store(&mut bias[j * L::N..], v);
        }
    }
}

/// The same for the general cell; with the reset gate before the product `δm` is zero and `δq`
/// is added to `δh` here.
#[inline(always)]
fn backward_general<L: Lanes>(
    l: L,
    s: &GruShape,
    pack: &GruPack<L::E>,
    work: &mut GruWork<L::E>,
    grad: &mut GruGrad<L::E>,
    span: Span<'_>,
    step: usize,
) {
    let (rows, hp, h_) = (span.rows, s.padded(), s.units);
    let (f, g) = (s.activation, s.recurrent_activation);
    let slope = |f: Activation, a: L::E, y: L::E| match s.clip {
        Some(c) if a.abs() > L::E::from_f32(c) => L::E::ZERO,
        _ => derivative(f, a, y),
    };
    let at = |block: usize, row: usize| (block * span.steps + step) * rows + row;
    let before = &work.h[step * rows * hp..(step + 1) * rows * hp];
    for unit in 0..h_ {
        let (block, lane) = (unit / L::N, unit % L::N);
        for row in 0..rows {
            let pre = &work.pre[at(block, row) * 3 * L::N + lane..];
            let gates = &mut work.gates[at(block, row) * 4 * L::N + lane..];
            let bias = &mut grad.b[block * 4 * L::N + lane..];
            let dh = &mut work.dh[row * hp + unit];
            let h = before[row * hp + unit];
            let (n, r, z, m) = (gates[0], gates[L::N], gates[2 * L::N], gates[3 * L::N]);
            let masked = span.masked(step, row);
            let on = |v: L::E| if masked { L::E::ZERO } else { v };
            let da_z = on(*dh * (h - n) * slope(g, pre[2 * L::N], z));
            let da_n = on(*dh * (L::E::ONE - z) * slope(f, pre[0], n));
            *dh *= z;
            gates[0] = da_n;
            gates[2 * L::N] = da_z;
            bias[0] += da_n;
            bias[2 * L::N] += da_z;
            if s.reset_after {
                gates[L::N] = da_n * m * slope(g, pre[L::N], r);
                gates[3 * L::N] = da_n * r;
                bias[L::N] += gates[L::N];
                bias[3 * L::N] += gates[3 * L::N];
            }
        }
    }
    if s.reset_after {
        return;
    }
    // δq = U_nᵀ·δa_n
    let gates = &work.gates;
    let parts = (0..s.blocks()).map(|block| {
        let data = &gates[at(block, 0) * 4 * L::N..];
        let panel = &pack.back_u[(block * 3 + 2) * L::N * hp..(block + 1) * 3 * L::N * hp];
        (
            Rows {
                data,
                stride: 4 * L::N,
                offset: 0,
            },
            L::N,
            panel,
        )
    });
    rows_times_panels(l, &mut work.product, hp, rows, Start::Zero, parts);
    for unit in 0..h_ {
        let (block, lane) = (unit / L::N, unit % L::N);
        for row in 0..rows {
            let pre = &work.pre[at(block, row) * 3 * L::N + lane..];
            let gates = &mut work.gates[at(block, row) * 4 * L::N + lane..];
            let (r, at) = (gates[L::N], row * hp + unit);
            let (seen, left) = match work.drop.is_empty() {
                true => (before[at], L::E::ONE),
                false => (work.dropped[step * rows * hp + at], work.drop[at]),
            };
            let dq = work.product[at];
            work.dh[at] += dq * r * left;
            gates[L::N] = dq * seen * slope(g, pre[L::N], r);
            gates[3 * L::N] = L::E::ZERO;
            grad.b[block * 4 * L::N + L::N + lane] += gates[L::N];
        }
    }
}

/// `δU_n = Σ δa_nᵀ·q`, for the reset gate before the product.
#[inline(always)]
fn backward_u_n<E: Real>(s: &GruShape, work: &GruWork<E>, grad: &mut GruGrad<E>, span: Span<'_>) {
    let (n, hp, h) = (s.lanes, s.padded(), s.units);
    let all = span.steps * span.rows;
    for unit in 0..h {
        let (block, lane) = (unit / n, unit % n);
        for row in 0..all {
            let da_n = work.gates[(block * all + row) * 4 * n + lane];
            for k in 0..h {
                grad.u[(block * h + k) * 3 * n + 2 * n + lane] += da_n * work.q[row * hp + k];
            }
        }
    }
}
