//! A recurrent layer of a network: one GRU, or two over the same input, the second one from the last step to the
//! first, whose outputs are aligned in time and merged.

use super::gemm::Rows;
use super::gru::{self, GruGrad, GruPack, GruShape, GruWork, OutputGrad, Span};
use super::simd::{Kernel, Lanes, Real};
use crate::spec::Merge;

/// Sizes and functions of a recurrent layer.
#[derive(Debug, Clone)]
pub struct RecurrentShape {
    /// The only direction, or the one that reads as the input stands.
    pub first: GruShape,
    /// The one that reads the other way round, and how the outputs become one.
    pub second: Option<(GruShape, Merge)>,
}

impl RecurrentShape {
    /// Input size.
    pub fn input(&self) -> usize {
        self.first.input
    }

    /// Outputs of a step.
    pub fn units(&self) -> usize {
        match &self.second {
            Some((second, Merge::Concat)) => self.first.units + second.units,
            _ => self.first.units,
        }
    }

    /// Outputs padded to whole vectors: the width of a row that is handed on.
    pub fn padded(&self) -> usize {
        self.units().next_multiple_of(self.first.lanes)
    }

    /// The directions.
    pub fn each(&self) -> impl Iterator<Item = &GruShape> {
        std::iter::once(&self.first).chain(self.second.as_ref().map(|(s, _)| s))
    }

    /// The same, to be changed.
    pub fn each_mut(&mut self) -> impl Iterator<Item = &mut GruShape> {
        std::iter::once(&mut self.first).chain(self.second.as_mut().map(|(s, _)| s))
    }

    /// Number of parameters: those of the first direction, then those of the second one.
    pub fn parameters(&self) -> usize {
        self.each().map(GruShape::parameters).sum()
    }

    /// Whether samples can be pushed one at a time.
    pub fn streams(&self) -> bool {
        self.second.is_none() && !self.first.backwards
    }
}

/// Packed weights of both directions.
#[derive(Debug, Clone, Default)]
pub struct RecurrentPack<E> {
    first: GruPack<E>,
    second: GruPack<E>,
}

impl<E: Real> RecurrentPack<E> {
    /// Packs the parameters; `h0` are the initial states of the directions, where they are not parameters.
    pub fn fill(&mut self, s: &RecurrentShape, params: &[E], h0: [&[E]; 2], input_stride: usize) {
        let (first, second) = params.split_at(s.first.parameters());
        self.first.fill(&s.first, first, h0[0], input_stride);
        if let Some((shape, _)) = &s.second {
            self.second.fill(shape, second, h0[1], input_stride);
        }
    }
}

/// Gradients of both directions, packed.
#[derive(Debug, Clone, Default)]
pub struct RecurrentGrad<E> {
    first: GruGrad<E>,
    second: GruGrad<E>,
}

impl<E: Real> RecurrentGrad<E> {
    /// Zeros of the right size.
    pub fn new(s: &RecurrentShape) -> Self {
        Self {
            first: GruGrad::new(&s.first),
            second: match &s.second {
                Some((shape, _)) => GruGrad::new(shape),
                None => GruGrad::default(),
            },
        }
    }

    /// Sets everything to zero.
    pub fn clear(&mut self) {
        self.first.clear();
        self.second.clear();
    }

    /// Adds the gradient of another chunk.
    pub fn add(&mut self, other: &Self) {
        self.first.add(&other.first);
        self.second.add(&other.second);
    }

    /// Writes the gradients in the order of the parameters.
    pub fn unpack(&self, s: &RecurrentShape, out: &mut [E]) {
        let (first, second) = out.split_at_mut(s.first.parameters());
        self.first.unpack(&s.first, first);
        if let Some((shape, _)) = &s.second {
            self.second.unpack(shape, second);
        }
    }
}

/// What a layer remembers of one chunk of a batch.
#[derive(Debug, Clone, Default)]
pub struct RecurrentWork<E> {
    /// The first direction, whose states are what a layer of one direction hands on.
    pub first: GruWork<E>,
    /// The second direction; empty without one.
    pub second: GruWork<E>,
    /// Merged outputs `[step][row][Hp]`, or those after the last step; empty for one direction.
    merged: Vec<E>,
    /// Gradients of the states of each direction, and of the second one's input.
    dy: [Vec<E>; 2],
    dx: Vec<E>,
}

impl<E: Real> RecurrentWork<E> {
    /// Makes room for `steps × rows`.
    pub fn resize(&mut self, s: &RecurrentShape, steps: usize, rows: usize) {
        self.first.resize(&s.first, steps, rows);
        if let Some((shape, _)) = &s.second {
            self.second.resize(shape, steps, rows);
        }
    }

    /// The outputs of every step of a pass, `[step][row][Hp]`.
    pub fn every(&self, s: &RecurrentShape, span: Span<'_>) -> &[E] {
        match s.second {
            Some(_) => &self.merged,
            None => &self.first.h[span.rows * s.first.padded()..],
        }
    }

    /// The outputs after the last step that each direction has read, `[row][Hp]`.
    pub fn last(&self, s: &RecurrentShape, span: Span<'_>) -> &[E] {
        match s.second {
            Some(_) => &self.merged,
            None => &self.first.h[span.steps * span.rows * s.first.padded()..],
        }
    }
}

/// The state of `units` values after `read` steps.
fn state<'a, E>(h: &'a [E], s: &GruShape, span: Span<'_>, read: usize, row: usize) -> &'a [E] {
    &h[(read * span.rows + row) * s.padded()..][..s.units]
}

/// One direction forwards.
struct Forward<'a, E> {
    shape: &'a GruShape,
    pack: &'a GruPack<E>,
    x: Rows<'a, E>,
    work: &'a mut GruWork<E>,
    span: Span<'a>,
    carry: Option<&'a [E]>,
}

impl<E: Real> Kernel<E> for Forward<'_, E> {
    #[inline(always)]
    fn run<L: Lanes<E = E>>(self, l: L) {
        gru::forward(
            l, self.shape, self.pack, self.x, self.work, self.span, self.carry,
        );
    }
}

/// One direction backwards.
struct Backward<'a, E> {
    shape: &'a GruShape,
    pack: &'a GruPack<E>,
    x: Rows<'a, E>,
    work: &'a mut GruWork<E>,
    grad: &'a mut GruGrad<E>,
    span: Span<'a>,
    dy: OutputGrad<'a, E>,
    dx: Option<(&'a mut [E], usize)>,
}

impl<E: Real> Kernel<E> for Backward<'_, E> {
    #[inline(always)]
    fn run<L: Lanes<E = E>>(self, l: L) {
        gru::backward(
            l, self.shape, self.pack, self.x, self.work, self.grad, self.span, self.dy, self.dx,
        );
    }
}

/// All steps of one chunk; `every` says whether the layer above reads every step, or the last one.
#[expect(
    clippy::too_many_arguments,
    reason = "one pass of one layer; a struct would only rename them"
)]
#[inline(always)]
pub fn forward<L: Lanes>(
    l: L,
    s: &RecurrentShape,
    pack: &RecurrentPack<L::E>,
    x: Rows<'_, L::E>,
    work: &mut RecurrentWork<L::E>,
    span: Span<'_>,
    carry: Option<&[L::E]>,
    every: bool,
) {
    let works = [&mut work.first, &mut work.second];
    let all = s.each().zip([&pack.first, &pack.second]).zip(works);
    for (number, ((shape, pack), work)) in all.enumerate() {
        let span = Span {
            reversed: span.reversed ^ (number == 1),
            ..span
        };
        l.apart(Forward {
            shape,
            pack,
            x,
            work,
            span,
            carry,
        });
    }
    if let Some((second, merge)) = &s.second {
        merge_forward(s, second, *merge, work, span, every);
    }
}

/// Steps that each direction has read when its output for `step` is there.
fn read(step: usize, steps: usize, every: bool) -> (usize, usize) {
    match every {
        true => (step + 1, steps - step),
        false => (steps, steps),
    }
}

fn merge_forward<E: Real>(
    s: &RecurrentShape,
    second: &GruShape,
    merge: Merge,
    work: &mut RecurrentWork<E>,
    span: Span<'_>,
    every: bool,
) {
    let (hp, rows, steps) = (s.padded(), span.rows, span.steps);
    let count = if every { steps } else { 1 };
    work.merged.resize(count * rows * hp, E::ZERO);
    let half = E::from_f64(0.5);
    for (at, to) in work.merged.chunks_exact_mut(hp).enumerate() {
        let (step, row) = (at / rows, at % rows);
        let (read_a, read_b) = read(step, steps, every);
        let a = state(&work.first.h, &s.first, span, read_a, row);
        let b = state(&work.second.h, second, span, read_b, row);
        let both = to.iter_mut().zip(a.iter().zip(b));
        match merge {
            Merge::Concat => {
                to[..a.len()].copy_from_slice(a);
                to[a.len()..a.len() + b.len()].copy_from_slice(b);
            }
            Merge::Sum => both.for_each(|(to, (a, b))| *to = *a + *b),
            Merge::Mul => both.for_each(|(to, (a, b))| *to = *a * *b),
            Merge::Ave => both.for_each(|(to, (a, b))| *to = half * (*a + *b)),
        }
    }
}

/// Gradients of the weights (added to `grad`) and, if wanted, of the input.
#[expect(
    clippy::too_many_arguments,
    reason = "one pass of one layer; a struct would only rename them"
)]
#[inline(always)]
pub fn backward<L: Lanes>(
    l: L,
    s: &RecurrentShape,
    pack: &RecurrentPack<L::E>,
    x: Rows<'_, L::E>,
    work: &mut RecurrentWork<L::E>,
    grad: &mut RecurrentGrad<L::E>,
    span: Span<'_>,
    dy: OutputGrad<'_, L::E>,
    mut dx: Option<(&mut [L::E], usize)>,
) {
    let [mut d_first, mut d_second] = std::mem::take(&mut work.dy);
    let mut dx_second = std::mem::take(&mut work.dx);
    let mut directions = [dy, dy];
    if let Some((second, merge)) = &s.second {
        split(
            s,
            second,
            *merge,
            work,
            span,
            dy,
            &mut d_first,
            &mut d_second,
        );
        let every = !matches!(dy, OutputGrad::Last(_));
        directions = [&d_first[..], &d_second[..]].map(|d| match every {
            true => OutputGrad::Every(d),
            false => OutputGrad::Last(d),
        });
        if let Some((dx, _)) = &dx {
            dx_second.resize(dx.len(), L::E::ZERO);
        }
    }
    let parts = [
        (&pack.first, &mut work.first, &mut grad.first),
        (&pack.second, &mut work.second, &mut grad.second),
    ];
    let all = s.each().zip(parts).zip(directions);
    for (number, ((shape, (pack, work, grad)), dy)) in all.enumerate() {
        let span = Span {
            reversed: span.reversed ^ (number == 1),
            ..span
        };
        let dx = dx.as_mut().map(|(dx, stride)| match number {
            0 => (&mut dx[..], *stride),
            _ => (&mut dx_second[..], *stride),
        });
        l.apart(Backward {
            shape,
            pack,
            x,
            work,
            grad,
            span,
            dy,
            dx,
        });
    }
    if let (Some((dx, _)), Some(_)) = (dx, &s.second) {
        for (to, from) in dx.iter_mut().zip(&dx_second) {
            *to += *from;
        }
    }
    work.dx = dx_second;
    work.dy = [d_first, d_second];
}

/// The gradient of the merged outputs as gradients of the states of both directions, each in its order of reading.
#[expect(
    clippy::too_many_arguments,
    reason = "one step of one pass; a struct would only rename them"
)]
fn split<E: Real>(
    s: &RecurrentShape,
    second: &GruShape,
    merge: Merge,
    work: &RecurrentWork<E>,
    span: Span<'_>,
    dy: OutputGrad<'_, E>,
    d_first: &mut Vec<E>,
    d_second: &mut Vec<E>,
) {
    let (hp, rows, steps) = (s.padded(), span.rows, span.steps);
    let every = !matches!(dy, OutputGrad::Last(_));
    let count = if every { steps } else { 1 };
    for (d, shape) in [(&mut *d_first, &s.first), (&mut *d_second, second)] {
        d.clear();
        d.resize(count * rows * shape.padded(), E::ZERO);
    }
    let half = E::from_f64(0.5);
    for at in 0..count * rows {
        let (step, row) = (at / rows, at % rows);
        let from = match dy {
            OutputGrad::Last(d) | OutputGrad::Every(d) => &d[at * hp..(at + 1) * hp],
            OutputGrad::Mean(d, skip) if span.counts(step, row, skip) => &d[row * hp..][..hp],
            OutputGrad::Mean(..) => continue,
        };
        let turned = (count - 1 - step) * rows + row;
        let a = &mut d_first[at * s.first.padded()..][..s.first.units];
        let b = &mut d_second[turned * second.padded()..][..second.units];
        match merge {
            Merge::Concat => {
                a.copy_from_slice(&from[..a.len()]);
                b.copy_from_slice(&from[a.len()..a.len() + b.len()]);
            }
            Merge::Sum => {
                a.copy_from_slice(&from[..a.len()]);
                b.copy_from_slice(&from[..b.len()]);
            }
            Merge::Ave => {
                for (d, from) in a.iter_mut().zip(from).chain(b.iter_mut().zip(from)) {
                    *d = half * *from;
                }
            }
            Merge::Mul => {
                let (read_a, read_b) = read(step, steps, every);
                let h_a = state(&work.first.h, &s.first, span, read_a, row);
                let h_b = state(&work.second.h, second, span, read_b, row);
                for (d, (from, h)) in a.iter_mut().zip(from.iter().zip(h_b)) {
                    *d = *from * *h;
                }
                for (d, (from, h)) in b.iter_mut().zip(from.iter().zip(h_a)) {
                    *d = *from * *h;
                }
            }
        }
    }
}
