//! Fully connected layer over rows: forward and backward beside each other.
//!
//! ```text
//! a = W·x + b        δa = δy ⊙ f'(a)
//! y = f(a)           δW = Σ δaᵀ·x    δb = Σ δa    δx = Wᵀ·δa
//! ```

use super::activation::{apply, derivative};
use super::gemm::{Rows, Start, outer_sum, rows_times_panels};
use super::simd::{Lanes, Real};
use crate::spec::Activation;

/// Sizes and function of one dense layer.
#[derive(Debug, Clone)]
pub struct DenseShape {
    /// Number of inputs.
    pub input: usize,
    /// Number of outputs.
    pub units: usize,
    /// Lanes of a vector.
    pub lanes: usize,
    /// Whether the bias is learnt; else it stays as it is.
    pub use_bias: bool,
    /// `f`; softmax belongs to the loss and counts as linear here.
    pub activation: Activation,
}

impl DenseShape {
    /// Outputs padded to whole vectors.
    pub fn padded(&self) -> usize {
        self.units.next_multiple_of(self.lanes)
    }

    /// Number of parameters: w `O×I`, b `O`.
    pub fn parameters(&self) -> usize {
        self.units * (self.input + 1)
    }

    fn linear(&self) -> bool {
        matches!(self.activation, Activation::Linear | Activation::Softmax)
    }
}

/// Weights as the kernels want them.
#[derive(Debug, Clone, Default)]
pub struct DensePack<E> {
    /// `[I][Op]`
    panel: Vec<E>,
    /// `[O][Ip]`
    back: Vec<E>,
    /// `[Op]`
    bias: Vec<E>,
}

impl<E: Real> DensePack<E> {
    /// Packs `params` (w, b); `input_stride` is the padded width of the layer below.
    pub fn fill(&mut self, s: &DenseShape, params: &[E], input_stride: usize) {
        let op = s.padded();
        let size = |v: &mut Vec<E>, len: usize| {
            if v.len() != len {
                v.clear();
                v.resize(len, E::ZERO);
            }
        };
        size(&mut self.panel, s.input * op);
        size(&mut self.back, s.units * input_stride);
        size(&mut self.bias, op);
        let (w, b) = params.split_at(s.units * s.input);
        for (o, row) in w.chunks_exact(s.input).enumerate() {
            for (to, from) in self.panel.chunks_exact_mut(op).zip(row) {
                to[o] = *from;
            }
            self.back[o * input_stride..][..s.input].copy_from_slice(row);
        }
        self.bias[..s.units].copy_from_slice(b);
    }
}

/// What the layer remembers of one chunk.
#[derive(Debug, Clone, Default)]
pub struct DenseWork<E> {
    /// Outputs `[row][Op]`; padding columns hold `f(0)`.
    pub y: Vec<E>,
    /// Pre-activations, unless linear.
    pre: Vec<E>,
    /// Gradient of the outputs, set by whoever is above; then of the pre-activations.
    pub dy: Vec<E>,
}

impl<E: Real> DenseWork<E> {
    /// Makes room for `rows`.
    pub fn resize(&mut self, s: &DenseShape, rows: usize) {
        let op = s.padded();
        let size = |v: &mut Vec<E>, len: usize| {
            if v.len() != len {
                v.clear();
                v.resize(len, E::ZERO);
            }
        };
        size(&mut self.y, rows * op);
        size(&mut self.dy, rows * op);
        if !s.linear() {
            size(&mut self.pre, rows * op);
        }
    }
}

/// Gradient in the packed layout.
#[derive(Debug, Clone, Default)]
pub struct DenseGrad<E> {
    /// `[I][Op]`
    w: Vec<E>,
    /// `[Op]`
    b: Vec<E>,
}

impl<E: Real> DenseGrad<E> {
    /// Zeros of the right size.
    pub fn new(s: &DenseShape) -> Self {
        Self {
            w: vec![E::ZERO; s.input * s.padded()],
            b: vec![E::ZERO; s.padded()],
        }
    }

    /// Sets everything to zero.
    pub fn clear(&mut self) {
        self.w.fill(E::ZERO);
        self.b.fill(E::ZERO);
    }

    /// Adds the gradient of another chunk.
    pub fn add(&mut self, other: &Self) {
        for (to, from) in [(&mut self.w, &other.w), (&mut self.b, &other.b)] {
            for (to, from) in to.iter_mut().zip(from) {
                *to += *from;
            }
        }
    }

    /// Writes w, b in the order of the parameters.
    pub fn unpack(&self, s: &DenseShape, out: &mut [E]) {
        let op = s.padded();
        let (w, b) = out.split_at_mut(s.units * s.input);
        for (o, row) in w.chunks_exact_mut(s.input).enumerate() {
            for (to, from) in row.iter_mut().zip(self.w.chunks_exact(op)) {
                *to = from[o];
            }
        }
        match s.use_bias {
            true => b.copy_from_slice(&self.b[..s.units]),
            false => b.fill(E::ZERO),
        }
    }
}

/// All rows of one chunk.
#[inline(always)]
pub fn forward<L: Lanes>(
    l: L,
    s: &DenseShape,
    pack: &DensePack<L::E>,
    x: Rows<'_, L::E>,
    work: &mut DenseWork<L::E>,
    rows: usize,
) {
    let op = s.padded();
    for row in work.y.chunks_exact_mut(op) {
        row.copy_from_slice(&pack.bias);
    }
    let parts = std::iter::once((x, s.input, &pack.panel[..]));
    rows_times_panels(l, &mut work.y, op, rows, Start::Add, parts);
    if !s.linear() {
        work.pre.copy_from_slice(&work.y);
        for y in &mut work.y {
            *y = apply(s.activation, *y);
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one pass of one layer; a struct would only rename them"
)]
/// Gradients from `work.dy`; of the input as well where `dx` (`[row][Ip]`) is given.
#[inline(always)]
pub fn backward<L: Lanes>(
    l: L,
    s: &DenseShape,
    pack: &DensePack<L::E>,
    x: Rows<'_, L::E>,
    work: &mut DenseWork<L::E>,
    grad: &mut DenseGrad<L::E>,
    rows: usize,
    dx: Option<(&mut [L::E], usize)>,
) {
    let op = s.padded();
    if !s.linear() {
        for ((d, a), y) in work.dy.iter_mut().zip(&work.pre).zip(&work.y) {
            *d *= derivative(s.activation, *a, *y);
        }
    }
    for row in work.dy.chunks_exact(op) {
        for (to, from) in grad.b.chunks_exact_mut(L::N).zip(row.chunks_exact(L::N)) {
            l.store(to, l.add(l.load(to), l.load(from)));
        }
    }
    let d = Rows {
        data: &work.dy,
        stride: op,
        offset: 0,
    };
    outer_sum(l, &mut grad.w, s.input, op, x, d, rows);
    if let Some((dx, stride)) = dx {
        let parts = std::iter::once((d, s.units, &pack.back[..]));
        rows_times_panels(l, dx, stride, rows, Start::Zero, parts);
    }
}
