//! A stack of layers over one chunk of a batch: forward, loss, backward.

use super::dense::{self, DenseGrad, DensePack, DenseShape, DenseWork};
use super::gemm::Rows;
use super::gru::{GruShape, OutputGrad, Span};
use super::loss::{self, Loss, Target};
use super::recurrent::{self, RecurrentGrad, RecurrentPack, RecurrentShape, RecurrentWork};
use super::rng::Rng;
use super::simd::{Isa, Lanes, Real};
use crate::spec::{Activation, GruSpec, LayerSpec, ModelSpec, Readout};

/// One layer of a network.
#[derive(Debug, Clone)]
enum Layer {
    /// With the initial states of its directions.
    Gru(RecurrentShape, [Vec<f32>; 2]),
    Dense(DenseShape),
}

/// What a GRU hands to the layer above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    /// The last state.
    Last,
    /// The state of every step.
    Every,
    /// The mean of the states from a step on: as a linear layer follows, this equals the mean of
    /// the logits, for a fraction of the work.
    Mean(usize),
}

/// The shape of a network, and how it is read out.
#[derive(Debug, Clone)]
pub struct Network {
    layers: Vec<Layer>,
    /// Where each layer's parameters start; one more at the end.
    offsets: Vec<usize>,
    readout: Readout,
    /// Whether the steps that come out of a layer stand in reverse order.
    reversed: Vec<bool>,
    /// Number of the last layer that hands something on, and what; layers below hand on everything.
    hand: (usize, Hand),
    loss: Loss,
    isa: Isa,
    lanes: usize,
    dropout: Dropout,
    input_grid: Option<f32>,
}

/// What the integer core's grids of a model are, beside those that all models share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grid {
    /// An input of 1 is `2^(15 − exponent)` units.
    pub input_exponent: u8,
    /// Per layer and direction; 0 for dense ones.
    pub nh_shift: Vec<[u8; 2]>,
}

/// What a teacher thinks of a chunk, and how much that counts.
#[derive(Debug, Clone, Copy)]
pub struct Taught<'a, E> {
    /// Its logits, in the order of the pupil's.
    pub logits: &'a [E],
    /// Both are divided by it before the softmax.
    pub temperature: f32,
    /// Share of the loss; the labels have the rest.
    pub weight: f32,
}

/// Shares of units that are left out while training; each sequence keeps its choice for all steps.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Dropout {
    /// Of what each GRU hands on to the layer above.
    pub output: f32,
    /// Of the state that the recurrent products see.
    pub recurrent: f32,
}

/// Packed weights of all layers.
#[derive(Debug, Clone)]
pub struct Packs<E>(Vec<Pack<E>>);

#[expect(clippy::large_enum_variant, reason = "one per layer: a handful")]
#[derive(Debug, Clone)]
enum Pack<E> {
    Gru(RecurrentPack<E>),
    Dense(DensePack<E>),
}

/// Gradients of all layers, packed.
#[derive(Debug, Clone)]
pub struct Grads<E>(Vec<Grad<E>>);

#[derive(Debug, Clone)]
enum Grad<E> {
    Gru(RecurrentGrad<E>),
    Dense(DenseGrad<E>),
}

/// Memory for one chunk; reused for the next one.
#[derive(Debug, Clone)]
pub struct Work<E> {
    /// Inputs `[step][row][I]`.
    pub x: Vec<E>,
    layers: Vec<LayerWork<E>>,
    /// Logits after the read-out, `[decision][O]`; decisions are rows, or `[step][row]`.
    pub logits: Vec<E>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "one per layer and thread: a handful"
)]
#[derive(Debug, Clone)]
enum LayerWork<E> {
    Gru {
        work: RecurrentWork<E>,
        /// Gradient of what is handed on.
        dy: Vec<E>,
        /// The mean of the states, where that is handed on.
        mean: Vec<E>,
        /// Dropout of what is handed on: factors `[row][Hp]`, empty for none, and the result.
        mask: Vec<E>,
        dropped: Vec<E>,
        /// State to begin with, `[row][Hp]`; empty for that of the layer.
        carry: Vec<E>,
    },
    Dense(DenseWork<E>),
}

/// What one chunk, or a batch, came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Weighted sum of the losses, already divided by the batch's total weight.
    pub loss: f64,
    /// Right decisions.
    pub correct: usize,
    /// Decisions that had a target.
    pub count: usize,
}

impl Tally {
    /// Share of right decisions.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.count.max(1) as f64
    }
}

/// Why a model cannot be trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkError(pub String);

impl std::fmt::Display for NetworkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NetworkError {}

impl Network {
    /// From the layers of a model.
    pub fn new<E: Real>(model: &ModelSpec, loss: Loss, isa: Isa) -> Result<Self, NetworkError> {
        model.check().map_err(|e| NetworkError(e.to_string()))?;
        let lanes = E::lanes(isa);
        let mut layers = Vec::new();
        let mut offsets = vec![0];
        let mut last_gru = None;
        let mut reversed = Vec::new();
        let mut turned = false;
        for (index, layer) in model.layers.iter().enumerate() {
            let parameters = match layer {
                LayerSpec::Gru(g) => {
                    last_gru = Some(index);
                    turned ^= g.go_backwards;
                    let shape = RecurrentShape {
                        first: shape_of(g, lanes),
                        second: None,
                    };
                    let parameters = shape.parameters();
                    layers.push(Layer::Gru(shape, [g.h0.clone(), Vec::new()]));
                    parameters
                }
                LayerSpec::Bidirectional {
                    forward,
                    backward,
                    merge,
                } => {
                    if forward.go_backwards || !backward.go_backwards {
                        return Err(NetworkError(format!(
                            "layer {index}: directions that are not forward and backward"
                        )));
                    }
                    last_gru = Some(index);
                    let shape = RecurrentShape {
                        first: shape_of(forward, lanes),
                        second: Some((shape_of(backward, lanes), *merge)),
                    };
                    let parameters = shape.parameters();
                    let h0 = [forward.h0.clone(), backward.h0.clone()];
                    layers.push(Layer::Gru(shape, h0));
                    parameters
                }
                LayerSpec::Dense(d) => {
                    let shape = DenseShape {
                        input: d.input,
                        units: d.units,
                        lanes,
                        use_bias: d.use_bias,
                        activation: d.activation,
                    };
                    let parameters = shape.parameters();
                    layers.push(Layer::Dense(shape));
                    parameters
                }
            };
            reversed.push(turned);
            offsets.push(offsets[index] + parameters);
        }
        let last_gru =
            last_gru.ok_or_else(|| NetworkError("no GRU layer, expected at least one".into()))?;
        let linear_above = layers[last_gru + 1..].iter().all(|layer| match layer {
            Layer::Gru(..) => false,
            Layer::Dense(d) => {
                matches!(d.activation, Activation::Linear | Activation::Softmax)
            }
        });
        let hand = match model.readout {
            Readout::Last => Hand::Last,
            Readout::Every => Hand::Every,
            Readout::Mean { skip } if linear_above => Hand::Mean(skip),
            Readout::Mean { .. } => Hand::Every,
            // Only whoever knows the lengths can say which steps those are: `train` does.
            Readout::Sliding { .. } => {
                return Err(NetworkError("sliding read-out, expected a mean".into()));
            }
            Readout::Exponential { .. } => {
                return Err(NetworkError(
                    "exponential read-out, expected every step".into(),
                ));
            }
        };
        Ok(Self {
            layers,
            offsets,
            readout: model.readout,
            reversed,
            hand: (last_gru, hand),
            loss,
            isa,
            lanes,
            dropout: Dropout::default(),
            input_grid: None,
        })
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.offsets[self.layers.len()]
    }

    /// The instruction set it was built for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How the network is read out.
    pub fn readout(&self) -> Readout {
        self.readout
    }

    /// Changes the loss, for instance to evaluate without label smoothing.
    pub fn set_loss(&mut self, loss: Loss) {
        self.loss = loss;
    }

    /// Computes forwards as the integer core does: inputs, sums, gates and states on its grids.
    ///
    /// The weights and biases must be on them as well ([`Grid`]); `None` computes in floats.
    pub fn set_grid(&mut self, grid: Option<&Grid>) {
        for (index, layer) in self.layers.iter_mut().enumerate() {
            if let Layer::Gru(s, _) = layer {
                for (direction, s) in s.each_mut().enumerate() {
                    let shift = |g: &Grid| {
                        let shifts = g.nh_shift.get(index);
                        shifts.map_or(0, |s| s[direction])
                    };
                    s.grid = grid.map(shift).filter(|_| s.fused());
                }
            }
        }
        self.input_grid = grid.map(|g| 2f64.powi(i32::from(g.input_exponent) - 15) as f32);
    }

    /// Step of the grid of the inputs, if there is one.
    pub fn input_grid(&self) -> Option<f32> {
        self.input_grid
    }

    /// Leaves out units while training.
    pub fn set_dropout(&mut self, dropout: Dropout) -> Result<(), NetworkError> {
        for share in [dropout.output, dropout.recurrent] {
            if !(0.0..1.0).contains(&share) {
                return Err(NetworkError(format!(
                    "dropout {share}, expected 0 to below 1"
                )));
            }
        }
        self.dropout = dropout;
        Ok(())
    }

    /// Draws what is left out of a chunk of `rows`; `None` leaves out nothing. Before `resize`.
    pub fn draw<E: Real>(
        &self,
        work: &mut Work<E>,
        rows: usize,
        rng: Option<&dyn Fn(usize, usize) -> Rng>,
    ) {
        let last = self.layers.len() - 1;
        for (index, (layer, work)) in self.layers.iter().zip(&mut work.layers).enumerate() {
            let (Layer::Gru(s, _), LayerWork::Gru { work, mask, .. }) = (layer, work) else {
                continue;
            };
            let Dropout { output, recurrent } = self.dropout;
            let other = s.second.as_ref().map_or(0, |(s, _)| s.padded());
            // The second direction draws from streams of its own.
            let uses = [
                (2 * index, output, s.padded(), mask),
                (
                    2 * index + 1,
                    recurrent,
                    s.first.padded(),
                    &mut work.first.drop,
                ),
                (
                    2 * (index + self.layers.len()) + 1,
                    recurrent,
                    other,
                    &mut work.second.drop,
                ),
            ];
            for (which, share, width, factors) in uses {
                factors.clear();
                let Some(rng) = rng else { continue };
                if share == 0.0 || width == 0 || (which == 2 * index && index == last) {
                    continue;
                }
                let keep = E::from_f64(1.0 / (1.0 - f64::from(share)));
                for row in 0..rows {
                    let mut rng = rng(which, row);
                    factors.extend((0..width).map(|_| {
                        if rng.uniform() < f64::from(share) {
                            E::ZERO
                        } else {
                            keep
                        }
                    }));
                }
            }
        }
    }

    /// Input size.
    pub fn input(&self) -> usize {
        match &self.layers[0] {
            Layer::Gru(s, _) => s.input(),
            Layer::Dense(s) => s.input,
        }
    }

    /// Output size.
    pub fn output(&self) -> usize {
        match &self.layers[self.layers.len() - 1] {
            Layer::Gru(s, _) => s.units(),
            Layer::Dense(s) => s.units,
        }
    }

    /// For each parameter, whether it is a weight (and decays) or a bias.
    pub fn decays(&self) -> Vec<bool> {
        let mut decays = vec![true; self.parameters()];
        for (layer, start) in self.layers.iter().zip(&self.offsets) {
            let mut start = *start;
            let mut part = |weights: usize, all: usize| {
                decays[start + weights..start + all].fill(false);
                start += all;
            };
            match layer {
                Layer::Gru(s, _) => s.each().for_each(|s| part(s.weights(), s.parameters())),
                Layer::Dense(s) => part(s.units * s.input, s.parameters()),
            }
        }
        decays
    }

    /// Keeps learnt initial states of cells whose states are within ±1 there, where 16 bits hold them.
    pub fn bound<E: Real>(&self, params: &mut [E]) {
        for (layer, start) in self.layers.iter().zip(&self.offsets) {
            let Layer::Gru(s, _) = layer else { continue };
            let mut start = *start;
            for s in s.each() {
                let end = start + s.parameters();
                if s.learn_h0 && s.activation.is_within_one() {
                    for h in &mut params[end - s.units..end] {
                        *h = h.max(-E::ONE).min(E::ONE);
                    }
                }
                start = end;
            }
        }
    }

    /// The parameters of a model of this shape, layer by layer: w, u, b_in, b_rec (and h0 where it is learnt) of each
    /// direction, or w, b.
    pub fn flatten<E: Real>(&self, model: &ModelSpec) -> Vec<E> {
        let mut all = Vec::with_capacity(self.parameters());
        let mut add = |values: &[f32]| all.extend(values.iter().map(|v| E::from_f32(*v)));
        for layer in &model.layers {
            if let LayerSpec::Dense(d) = layer {
                add(&d.w);
                add(&d.b);
            }
            for g in layer.grus() {
                for v in [&g.w, &g.u, &g.b_in, &g.b_rec] {
                    add(v);
                }
                if g.learn_initial_state {
                    add(&g.h0);
                }
            }
        }
        all
    }

    /// Writes parameters back into a model of this shape.
    pub fn write<E: Real>(&self, params: &[E], model: &mut ModelSpec) {
        let mut rest = params.iter().map(|p| p.to_f64() as f32);
        let mut take = |values: &mut Vec<f32>| {
            for (to, from) in values.iter_mut().zip(&mut rest) {
                *to = from;
            }
        };
        for layer in &mut model.layers {
            if let LayerSpec::Dense(d) = layer {
                take(&mut d.w);
                take(&mut d.b);
            }
            for g in layer.grus_mut() {
                for v in [&mut g.w, &mut g.u, &mut g.b_in, &mut g.b_rec] {
                    take(v);
                }
                if g.learn_initial_state {
                    take(&mut g.h0);
                }
            }
        }
    }

    /// Padded width of what a layer hands on.
    fn width(&self, layer: usize) -> usize {
        match &self.layers[layer] {
            Layer::Gru(s, _) => s.padded(),
            Layer::Dense(s) => s.padded(),
        }
    }

    /// Empty packs.
    pub fn packs<E: Real>(&self) -> Packs<E> {
        Packs(
            self.layers
                .iter()
                .map(|layer| match layer {
                    Layer::Gru(..) => Pack::Gru(RecurrentPack::default()),
                    Layer::Dense(_) => Pack::Dense(DensePack::default()),
                })
                .collect(),
        )
    }

    /// Packs the parameters.
    pub fn pack<E: Real>(&self, params: &[E], packs: &mut Packs<E>) {
        for (index, (layer, pack)) in self.layers.iter().zip(&mut packs.0).enumerate() {
            let params = &params[self.offsets[index]..self.offsets[index + 1]];
            let stride = if index == 0 {
                self.input().next_multiple_of(self.lanes)
            } else {
                self.width(index - 1)
            };
            match (layer, pack) {
                (Layer::Gru(s, h0), Pack::Gru(pack)) => {
                    let h0 = h0
                        .each_ref()
                        .map(|h0| -> Vec<E> { h0.iter().map(|h| E::from_f32(*h)).collect() });
                    pack.fill(s, params, h0.each_ref().map(Vec::as_slice), stride);
                }
                (Layer::Dense(s), Pack::Dense(pack)) => pack.fill(s, params, stride),
                _ => {}
            }
        }
    }

    /// Gradients of zero.
    pub fn grads<E: Real>(&self) -> Grads<E> {
        Grads(
            self.layers
                .iter()
                .map(|layer| match layer {
                    Layer::Gru(s, _) => Grad::Gru(RecurrentGrad::new(s)),
                    Layer::Dense(s) => Grad::Dense(DenseGrad::new(s)),
                })
                .collect(),
        )
    }

    /// Memory for chunks; it grows when it is used.
    pub fn work<E: Real>(&self) -> Work<E> {
        let layers = self
            .layers
            .iter()
            .map(|layer| match layer {
                Layer::Gru(..) => LayerWork::Gru {
                    work: RecurrentWork::default(),
                    dy: Vec::new(),
                    mean: Vec::new(),
                    mask: Vec::new(),
                    dropped: Vec::new(),
                    carry: Vec::new(),
                },
                Layer::Dense(_) => LayerWork::Dense(DenseWork::default()),
            })
            .collect();
        Work {
            x: Vec::new(),
            layers,
            logits: Vec::new(),
        }
    }

    /// Whether samples can be pushed one at a time: no layer reads its window from the end.
    pub fn streams(&self) -> bool {
        let one = |layer: &Layer| matches!(layer, Layer::Gru(s, _) if !s.streams());
        !self.layers.iter().any(one)
    }

    /// Numbers in the state of a sequence: the padded units of all GRU layers. Only a network that
    /// [streams](Self::streams) has one.
    pub fn state_width(&self) -> usize {
        let gru = |layer: &Layer| match layer {
            Layer::Gru(s, _) => s.padded(),
            Layer::Dense(_) => 0,
        };
        self.layers.iter().map(gru).sum()
    }

    /// The states that the next pass begins with, `[row][layer][Hp]`; none for those of the layers.
    pub fn carry<E: Real>(&self, work: &mut Work<E>, states: &[E]) {
        let (width, mut first) = (self.state_width(), 0);
        for (layer, work) in self.layers.iter().zip(&mut work.layers) {
            if let (Layer::Gru(s, _), LayerWork::Gru { carry, .. }) = (layer, work) {
                carry.clear();
                for row in states.chunks_exact(width.max(1)) {
                    carry.extend_from_slice(&row[first..first + s.padded()]);
                }
                first += s.padded();
            }
        }
    }

    /// The states of a new sequence, `[layer][Hp]`.
    pub fn initial_state<E: Real>(&self) -> Vec<E> {
        let mut all = Vec::with_capacity(self.state_width());
        for layer in &self.layers {
            if let Layer::Gru(s, h0) = layer {
                let end = all.len() + s.padded();
                all.extend(h0[0].iter().map(|h| E::from_f32(*h)));
                all.resize(end, E::ZERO);
            }
        }
        all
    }

    /// The states after the last step of a pass, `[row][layer][Hp]`.
    pub fn states_into<E: Real>(&self, work: &Work<E>, span: Span<'_>, out: &mut Vec<E>) {
        for row in 0..span.rows {
            for (layer, work) in self.layers.iter().zip(&work.layers) {
                if let (Layer::Gru(s, _), LayerWork::Gru { work, .. }) = (layer, work) {
                    let at = row * s.padded();
                    out.extend_from_slice(&work.last(s, span)[at..at + s.padded()]);
                }
            }
        }
    }

    /// Steps that come out of layer `index` when `steps` go into the network.
    fn steps_out(&self, index: usize, steps: usize) -> usize {
        if index >= self.hand.0 && self.hand.1 != Hand::Every {
            1
        } else {
            steps
        }
    }

    /// Makes room for `steps × rows`.
    pub fn resize<E: Real>(&self, work: &mut Work<E>, steps: usize, rows: usize) {
        let size = |v: &mut Vec<E>, len: usize| {
            if v.len() != len {
                v.clear();
                v.resize(len, E::ZERO);
            }
        };
        size(&mut work.x, steps * rows * self.input());
        for (index, (layer, work)) in self.layers.iter().zip(&mut work.layers).enumerate() {
            let out = self.steps_out(index, steps) * rows;
            match (layer, work) {
                (
                    Layer::Gru(s, _),
                    LayerWork::Gru {
                        work,
                        dy,
                        mean,
                        mask,
                        dropped,
                        ..
                    },
                ) => {
                    work.resize(s, steps, rows);
                    size(dy, out * s.padded());
                    size(dropped, if mask.is_empty() { 0 } else { out * s.padded() });
                    if index == self.hand.0 && matches!(self.hand.1, Hand::Mean(_)) {
                        size(mean, rows * s.padded());
                    }
                }
                (Layer::Dense(s), LayerWork::Dense(work)) => work.resize(s, out),
                _ => {}
            }
        }
        let decisions = if self.readout == Readout::Every {
            steps * rows
        } else {
            rows
        };
        size(&mut work.logits, decisions * self.output());
    }

    /// What a GRU does with its states for the layer above.
    fn hand(&self, index: usize) -> Hand {
        if index == self.hand.0 {
            self.hand.1
        } else {
            Hand::Every
        }
    }

    /// A pass as the outputs of layer `index` stand.
    fn span_of<'a>(&self, index: usize, span: Span<'a>) -> Span<'a> {
        Span {
            reversed: self.reversed[index],
            ..span
        }
    }

    /// What GRU layer `index` hands on without dropout.
    fn plain<'a, E: Real>(
        &self,
        index: usize,
        work: &'a RecurrentWork<E>,
        mean: &'a [E],
        span: Span<'_>,
    ) -> &'a [E] {
        match (&self.layers[index], self.hand(index)) {
            (Layer::Gru(s, _), Hand::Every) => work.every(s, span),
            (Layer::Gru(s, _), Hand::Last) => work.last(s, span),
            _ => mean,
        }
    }

    /// What layer `index` hands on.
    fn handed<'a, E: Real>(
        &self,
        index: usize,
        work: &'a LayerWork<E>,
        span: Span<'_>,
    ) -> Rows<'a, E> {
        let stride = self.width(index);
        match work {
            LayerWork::Gru {
                work,
                mean,
                mask,
                dropped,
                ..
            } => {
                let data = if mask.is_empty() {
                    self.plain(index, work, mean, span)
                } else {
                    &dropped[..]
                };
                Rows {
                    data,
                    stride,
                    offset: 0,
                }
            }
            LayerWork::Dense(work) => Rows {
                data: &work.y,
                stride,
                offset: 0,
            },
        }
    }

    /// Runs the chunk in `work.x` up to `work.logits`.
    #[inline(always)]
    pub fn forward<L: Lanes>(
        &self,
        l: L,
        packs: &Packs<L::E>,
        work: &mut Work<L::E>,
        span: Span<'_>,
    ) {
        for index in 0..self.layers.len() {
            let (below, this) = work.layers.split_at_mut(index);
            let x = match below.last() {
                None => Rows {
                    data: &work.x[..],
                    stride: self.input(),
                    offset: 0,
                },
                Some(below) => self.handed(index - 1, below, span),
            };
            match (&self.layers[index], &packs.0[index], &mut this[0]) {
                (
                    Layer::Gru(s, _),
                    Pack::Gru(pack),
                    LayerWork::Gru {
                        work,
                        mean,
                        mask,
                        dropped,
                        carry,
                        ..
                    },
                ) => {
                    let carry = (!carry.is_empty()).then_some(&carry[..]);
                    let span = self.span_of(index, span);
                    let every = self.hand(index) != Hand::Last;
                    recurrent::forward(l, s, pack, x, work, span, carry, every);
                    if let Hand::Mean(skip) = self.hand(index) {
                        mean_states(l, s.padded(), work.every(s, span), mean, span, skip);
                    }
                    if !mask.is_empty() {
                        let plain = self.plain(index, work, mean, span);
                        let rows = dropped.chunks_exact_mut(mask.len());
                        for (to, from) in rows.zip(plain.chunks_exact(mask.len())) {
                            for (to, (h, d)) in to.iter_mut().zip(from.iter().zip(&*mask)) {
                                *to = *h * *d;
                            }
                        }
                    }
                }
                (Layer::Dense(s), Pack::Dense(pack), LayerWork::Dense(work)) => {
                    let rows = self.steps_out(index, span.steps) * span.rows;
                    dense::forward(l, s, pack, x, work, rows);
                }
                _ => {}
            }
        }
        self.read_out(work, span);
    }

    /// From the outputs of the last layer to the logits of the decisions.
    fn read_out<E: Real>(&self, work: &mut Work<E>, span: Span<'_>) {
        let last = self.layers.len() - 1;
        let span = self.span_of(last, span);
        let from = self.handed(last, &work.layers[last], span);
        let outputs = self.output();
        let averaged = matches!(self.readout, Readout::Mean { .. });
        for (decision, to) in work.logits.chunks_exact_mut(outputs).enumerate() {
            match self.readout {
                Readout::Mean { skip } if averaged && self.hand.1 == Hand::Every => {
                    to.fill(E::ZERO);
                    let mut count = E::ZERO;
                    for step in (0..span.steps).filter(|s| span.counts(*s, decision, skip)) {
                        count += E::ONE;
                        let row = from.row(step * span.rows + decision, outputs);
                        for (to, from) in to.iter_mut().zip(row) {
                            *to += *from;
                        }
                    }
                    for to in to {
                        *to = *to / count;
                    }
                }
                Readout::Every => to.copy_from_slice(from.row(place(span, decision), outputs)),
                _ => to.copy_from_slice(from.row(decision, outputs)),
            }
        }
    }

    /// Loss of the chunk's logits, and the gradient of the last layer's outputs into its `dy`.
    ///
    /// `target(decision)` is the target with its share of the batch's loss; decisions are rows, or
    /// `step·rows + row` where every step decides. Where there is a teacher, the loss is a mean of
    /// that against the target and that against the teacher.
    pub fn loss<'t, E: Real>(
        &self,
        work: &mut Work<E>,
        span: Span<'_>,
        taught: Option<Taught<'_, E>>,
        target: impl Fn(usize) -> Option<(Target<'t>, f64)>,
    ) -> Tally {
        let outputs = self.output();
        let last = self.layers.len() - 1;
        let span = self.span_of(last, span);
        let width = self.width(last);
        let dy = match &mut work.layers[last] {
            LayerWork::Gru { dy, .. } => dy,
            LayerWork::Dense(work) => &mut work.dy,
        };
        dy.fill(E::ZERO);
        let mut tally = Tally::default();
        let mut buffer = vec![E::ZERO; outputs];
        let spread_mean =
            matches!(self.readout, Readout::Mean { .. }) && self.hand.1 == Hand::Every;
        for (decision, logits) in work.logits.chunks_exact(outputs).enumerate() {
            let Some((target, share)) = target(decision) else {
                continue;
            };
            let own = taught.map_or(1.0, |t| 1.0 - f64::from(t.weight));
            let scale = E::from_f64(share * own);
            let (loss, correct) = loss::row(self.loss, logits, target, scale, &mut buffer);
            tally.loss += loss.to_f64() * share * own;
            if let Some(taught) = taught {
                let share = share * f64::from(taught.weight);
                let theirs = &taught.logits[decision * outputs..][..outputs];
                let (t, scale) = (taught.temperature, E::from_f64(share));
                let loss = loss::distill(logits, theirs, E::from_f32(t), scale, &mut buffer);
                tally.loss += loss.to_f64() * share;
            }
            tally.correct += usize::from(correct);
            tally.count += 1;
            match self.readout {
                Readout::Mean { skip } if spread_mean => {
                    let steps = (0..span.steps).filter(|s| span.counts(*s, decision, skip));
                    let share = E::ONE / E::from_f64(steps.clone().count() as f64);
                    for step in steps {
                        let to = &mut dy[(step * span.rows + decision) * width..][..outputs];
                        for (to, from) in to.iter_mut().zip(&buffer) {
                            *to = *from * share;
                        }
                    }
                }
                Readout::Every => {
                    dy[place(span, decision) * width..][..outputs].copy_from_slice(&buffer);
                }
                _ => dy[decision * width..][..outputs].copy_from_slice(&buffer),
            }
        }
        tally
    }

    /// Gradients of all weights, from the last layer's `dy`.
    #[inline(always)]
    pub fn backward<L: Lanes>(
        &self,
        l: L,
        packs: &Packs<L::E>,
        work: &mut Work<L::E>,
        grads: &mut Grads<L::E>,
        span: Span<'_>,
    ) {
        for index in (0..self.layers.len()).rev() {
            let (below, this) = work.layers.split_at_mut(index);
            let (x, mut dx_to) = match below.last_mut() {
                None => (
                    Rows {
                        data: &work.x[..],
                        stride: self.input(),
                        offset: 0,
                    },
                    None,
                ),
                Some(below) => {
                    let stride = self.width(index - 1);
                    // The rows handed on, and the place for their gradient, are different fields.
                    let (data, dy): (&[L::E], &mut Vec<L::E>) = match below {
                        LayerWork::Gru {
                            work,
                            mean,
                            dy,
                            mask,
                            dropped,
                            ..
                        } => {
                            let data = if mask.is_empty() {
                                self.plain(index - 1, work, mean, span)
                            } else {
                                &dropped[..]
                            };
                            (data, dy)
                        }
                        LayerWork::Dense(work) => (&work.y, &mut work.dy),
                    };
                    (
                        Rows {
                            data,
                            stride,
                            offset: 0,
                        },
                        Some((&mut dy[..], stride)),
                    )
                }
            };
            let rows = self.steps_out(index, span.steps) * span.rows;
            match (
                &self.layers[index],
                &packs.0[index],
                &mut this[0],
                &mut grads.0[index],
            ) {
                (
                    Layer::Gru(s, _),
                    Pack::Gru(pack),
                    LayerWork::Gru { work, dy, mask, .. },
                    Grad::Gru(grad),
                ) => {
                    let span = self.span_of(index, span);
                    if !mask.is_empty() {
                        for dy in dy.chunks_exact_mut(mask.len()) {
                            for (d, m) in dy.iter_mut().zip(&*mask) {
                                *d *= *m;
                            }
                        }
                    }
                    let dy = match self.hand(index) {
                        Hand::Last => OutputGrad::Last(&dy[..]),
                        Hand::Every => OutputGrad::Every(&dy[..]),
                        Hand::Mean(skip) => {
                            for (row, dy) in dy.chunks_exact_mut(s.padded()).enumerate() {
                                let count = (0..span.steps)
                                    .filter(|step| span.counts(*step, row, skip))
                                    .count();
                                let share = L::E::ONE / L::E::from_f64(count as f64);
                                for d in dy {
                                    *d *= share;
                                }
                            }
                            OutputGrad::Mean(&dy[..], skip)
                        }
                    };
                    recurrent::backward(l, s, pack, x, work, grad, span, dy, dx_to.take());
                }
                (Layer::Dense(s), Pack::Dense(pack), LayerWork::Dense(work), Grad::Dense(grad)) => {
                    dense::backward(l, s, pack, x, work, grad, rows, dx_to.take())
                }
                _ => {}
            }
        }
    }
}

/// The engine's shape of a GRU.
fn shape_of(g: &GruSpec, lanes: usize) -> GruShape {
    GruShape {
        input: g.input,
        units: g.units,
        lanes,
        activation: g.activation,
        recurrent_activation: g.recurrent_activation,
        reset_after: g.reset_after,
        use_bias: g.use_bias,
        learn_h0: g.learn_initial_state,
        backwards: g.go_backwards,
        clip: g.clip,
        grid: None,
    }
}

/// The row `[step][row]` of a decision, whose steps are counted from the first valid output of its sequence.
#[inline(always)]
fn place(span: Span<'_>, decision: usize) -> usize {
    let (step, row) = (decision / span.rows, decision % span.rows);
    match step < span.length(row) {
        true => decision + span.first(row) * span.rows,
        false => decision,
    }
}

/// Mean of the outputs that count, per row.
#[inline(always)]
fn mean_states<L: Lanes>(
    l: L,
    hp: usize,
    h: &[L::E],
    mean: &mut [L::E],
    span: Span<'_>,
    skip: usize,
) {
    mean.fill(L::E::ZERO);
    for step in 0..span.steps {
        let h = h[step * span.rows * hp..].chunks_exact(hp);
        for (row, (to, from)) in mean.chunks_exact_mut(hp).zip(h).enumerate() {
            if span.counts(step, row, skip) {
                for (to, from) in to.chunks_exact_mut(L::N).zip(from.chunks_exact(L::N)) {
                    l.store(to, l.add(l.load(to), l.load(from)));
                }
            }
        }
    }
    for (row, to) in mean.chunks_exact_mut(hp).enumerate() {
        let count = (0..span.steps)
            .filter(|step| span.counts(*step, row, skip))
            .count();
        let share = L::E::ONE / L::E::from_f64(count as f64);
        for to in to {
            *to *= share;
        }
    }
}

impl<E: Real> Grads<E> {
    /// Sets everything to zero.
    pub fn clear(&mut self) {
        for grad in &mut self.0 {
            match grad {
                Grad::Gru(g) => g.clear(),
                Grad::Dense(g) => g.clear(),
            }
        }
    }

    /// Adds the gradients of another chunk.
    pub fn add(&mut self, other: &Self) {
        for (to, from) in self.0.iter_mut().zip(&other.0) {
            match (to, from) {
                (Grad::Gru(to), Grad::Gru(from)) => to.add(from),
                (Grad::Dense(to), Grad::Dense(from)) => to.add(from),
                _ => {}
            }
        }
    }

    /// Writes the gradients in the order of the parameters.
    pub fn unpack(&self, network: &Network, out: &mut [E]) {
        for (index, (layer, grad)) in network.layers.iter().zip(&self.0).enumerate() {
            let out = &mut out[network.offsets[index]..network.offsets[index + 1]];
            match (layer, grad) {
                (Layer::Gru(s, _), Grad::Gru(g)) => g.unpack(s, out),
                (Layer::Dense(s), Grad::Dense(g)) => g.unpack(s, out),
                _ => {}
            }
        }
    }
}
