//! Batches over threads: data-parallel in fixed chunks, the same bits for any number of threads.
//!
//! A batch is cut into chunks by a rule that knows only its size. Whichever thread takes a chunk
//! computes the same numbers, and the chunks' gradients are added in their order.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use super::data::Sequences;
use super::gru::Span;
use super::network::{Grads, Network, Packs, Tally, Taught, Work};
use super::rng::Rng;
use super::simd::{Kernel, Lanes, Real};
use crate::spec::{ModelSpec, Readout};

/// Changes a sequence `[steps][features]` in place before it is used; for augmentation. Gets the
/// number of the batch's round, the index of the sequence, which of its steps these are, and their
/// values.
pub type Change<'a> = dyn Fn(u64, usize, Piece, &mut [f32]) + Sync + 'a;

/// Some steps of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Piece {
    /// The first one.
    pub start: usize,
    /// How many.
    pub steps: usize,
}

/// Largest number of rows that are worked on together.
const CHUNK_ROWS: usize = 16;

/// Batches of one network over a set of sequences, with worker threads that wait for them.
pub struct Session<'s, E: Real> {
    shared: &'s Shared<'s, E>,
    gradient: Vec<E>,
    sum: Grads<E>,
    noise: Option<u64>,
    /// Sequences of the batch.
    rows: usize,
}

struct Shared<'s, E: Real> {
    network: &'s Network,
    sets: &'s [Sequences<'s>],
    class_weights: &'s [f32],
    task: RwLock<Task>,
    packs: RwLock<Packs<E>>,
    chunks: Vec<Mutex<Chunk<E>>>,
    /// The main thread's memory.
    work: Mutex<Memory<E>>,
    teacher: Option<(Teacher<'s>, Packs<E>)>,
    /// States that the rows of a batch of pieces begin with.
    carry: RwLock<Vec<E>>,
    next: AtomicUsize,
    state: Mutex<Progress>,
    /// Copies of `state` to look at without the lock: a batch may take less time than a thread
    /// needs to wake up, so threads look for a while before they sleep.
    round: AtomicU64,
    finished: AtomicUsize,
    wake: Condvar,
    done: Condvar,
    change: Option<&'s Change<'s>>,
}

#[derive(Default)]
struct Progress {
    round: u64,
    finished: usize,
    quit: bool,
}

#[derive(Clone, Default)]
struct Task {
    set: usize,
    indices: Vec<usize>,
    /// One for each index, or none for whole sequences.
    pieces: Vec<Piece>,
    steps: usize,
    chunks: usize,
    /// 1 / total weight of the batch.
    share: f64,
    train: bool,
    /// Which augmentation to use; `None` for none.
    round: Option<u64>,
    /// Seed of the dropout; `None` for none.
    noise: Option<u64>,
}

struct Chunk<E> {
    grads: Grads<E>,
    tally: Tally,
    logits: Vec<E>,
    /// States after the last step, of a batch of pieces.
    states: Vec<E>,
}

/// What a thread works in.
struct Memory<E> {
    work: Work<E>,
    teacher: Option<Work<E>>,
    scratch: Scratch,
}

impl<E: Real> Memory<E> {
    fn new(network: &Network, teacher: Option<&Teacher<'_>>) -> Self {
        Self {
            work: network.work(),
            teacher: teacher.map(|t| t.network.work()),
            scratch: Scratch::default(),
        }
    }
}

#[derive(Default)]
struct Scratch {
    values: Vec<f32>,
    lengths: Vec<usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A poisoned lock means that another thread has panicked; its panic is reported by the scope.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A trained model whose opinion of the same (augmented) sequences is learnt from.
#[derive(Clone, Copy)]
pub struct Teacher<'s> {
    /// Its shape; as many inputs and outputs, the read-out and the instruction set of the pupil.
    pub network: &'s Network,
    /// Its weights.
    pub model: &'s ModelSpec,
    /// Both logits are divided by it before the softmax.
    pub temperature: f32,
    /// Share of the loss; the labels have the rest.
    pub weight: f32,
}

/// What a session works on.
pub struct Setup<'s> {
    /// The network.
    pub network: &'s Network,
    /// Sets of sequences; a batch names one of them.
    pub sets: &'s [Sequences<'s>],
    /// Weight of each class in the loss; empty for ones.
    pub class_weights: &'s [f32],
    /// Number of threads, the caller's included.
    pub threads: usize,
    /// Augmentation of the sequences of batches that name a round.
    pub change: Option<&'s Change<'s>>,
    /// Whose opinion to learn from.
    pub teacher: Option<Teacher<'s>>,
}

impl Setup<'_> {
    /// Starts the worker threads, runs `f`, and stops them.
    pub fn run<E: Real, R>(&self, f: impl FnOnce(&mut Session<'_, E>) -> R) -> R {
        let network = self.network;
        let shared = Shared {
            network,
            sets: self.sets,
            class_weights: self.class_weights,
            task: RwLock::default(),
            packs: RwLock::new(network.packs()),
            chunks: Vec::new(),
            work: Mutex::new(Memory::new(network, self.teacher.as_ref())),
            teacher: self.teacher.map(|teacher| {
                let mut packs = teacher.network.packs();
                let params: Vec<E> = teacher.network.flatten(teacher.model);
                teacher.network.pack(&params, &mut packs);
                (teacher, packs)
            }),
            next: AtomicUsize::new(0),
            state: Mutex::default(),
            round: AtomicU64::new(0),
            finished: AtomicUsize::new(0),
            wake: Condvar::new(),
            done: Condvar::new(),
            change: self.change,
            carry: RwLock::default(),
        };
        self.scope(shared, f)
    }

    fn scope<'s, E: Real, R>(
        &self,
        mut shared: Shared<'s, E>,
        f: impl FnOnce(&mut Session<'_, E>) -> R,
    ) -> R {
        // Enough chunks for any batch of a usual size; larger batches are cut into larger chunks.
        shared.chunks = (0..MAX_CHUNKS)
            .map(|_| {
                Mutex::new(Chunk {
                    grads: self.network.grads(),
                    tally: Tally::default(),
                    logits: Vec::new(),
                    states: Vec::new(),
                })
            })
            .collect();
        let shared = &shared;
        std::thread::scope(|scope| {
            for _ in 1..self.threads.max(1) {
                scope.spawn(move || worker(shared));
            }
            let mut session = Session {
                shared,
                gradient: vec![E::ZERO; self.network.parameters()],
                sum: self.network.grads(),
                noise: None,
                rows: 0,
            };
            // Workers must stop even when `f` panics, or the scope would wait for ever.
            struct Quit<'a, 's, E: Real>(&'a Shared<'s, E>);
            impl<E: Real> Drop for Quit<'_, '_, E> {
                fn drop(&mut self) {
                    lock(&self.0.state).quit = true;
                    self.0.wake.notify_all();
                }
            }
            let _quit = Quit(shared);
            f(&mut session)
        })
    }
}

/// Largest number of chunks of a batch.
const MAX_CHUNKS: usize = 16;

/// Rows of chunk `index` of `chunks`.
fn rows_of(total: usize, chunks: usize, index: usize) -> Range<usize> {
    let (small, extra) = (total / chunks, total % chunks);
    let start = index * small + index.min(extra);
    start..start + small + usize::from(index < extra)
}

/// Number of chunks; depends on the size of the batch alone.
fn chunks_of(rows: usize) -> usize {
    let chunks = rows.div_ceil(CHUNK_ROWS);
    let even = if chunks > 1 {
        chunks.next_multiple_of(2)
    } else {
        1
    };
    even.clamp(1, MAX_CHUNKS.min(rows.max(1)))
}

/// Waits some ten microseconds for `ready` without sleeping. Only a hint: the truth is in `state`.
fn look_for(ready: impl Fn() -> bool) {
    for _ in 0..1500 {
        if ready() {
            return;
        }
        std::hint::spin_loop();
    }
}

fn worker<E: Real>(shared: &Shared<'_, E>) {
    let teacher = shared.teacher.as_ref().map(|(teacher, _)| teacher);
    let mut memory = Memory::new(shared.network, teacher);
    let mut seen = 0;
    loop {
        look_for(|| shared.round.load(Ordering::Relaxed) != seen);
        {
            let mut state = lock(&shared.state);
            while state.round == seen && !state.quit {
                state = shared
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.quit {
                return;
            }
            seen = state.round;
        }
        take_chunks(shared, &mut memory);
    }
}

fn take_chunks<E: Real>(shared: &Shared<'_, E>, memory: &mut Memory<E>) {
    let task = shared.task.read().unwrap_or_else(PoisonError::into_inner);
    let packs = shared.packs.read().unwrap_or_else(PoisonError::into_inner);
    let mut finished = 0;
    loop {
        let index = shared.next.fetch_add(1, Ordering::Relaxed);
        if index >= task.chunks {
            break;
        }
        let mut chunk = lock(&shared.chunks[index]);
        let rows = rows_of(task.indices.len(), task.chunks, index);
        run_chunk(shared, &task, &packs, &mut chunk, memory, rows);
        finished += 1;
    }
    drop((task, packs));
    if finished > 0 {
        let mut state = lock(&shared.state);
        state.finished += finished;
        shared.finished.store(state.finished, Ordering::Relaxed);
        drop(state);
        shared.done.notify_one();
    }
}

struct Pass<'a, E: Real> {
    shared: &'a Shared<'a, E>,
    task: &'a Task,
    packs: &'a Packs<E>,
    chunk: &'a mut Chunk<E>,
    work: &'a mut Work<E>,
    teacher: Option<&'a mut Work<E>>,
    span: Span<'a>,
    indices: &'a [usize],
    pieces: &'a [Piece],
}

impl<E: Real> Kernel<E> for Pass<'_, E> {
    #[inline(always)]
    fn run<L: Lanes<E = E>>(self, l: L) {
        let network = self.shared.network;
        network.forward(l, self.packs, self.work, self.span);
        let set = &self.shared.sets[self.task.set];
        let outputs = network.output();
        let every = network.readout() == Readout::Every;
        let rows = self.span.rows;
        let mut taught = None;
        if let (Some((teacher, packs)), Some(work)) = (&self.shared.teacher, self.teacher) {
            teacher.network.forward(l, packs, work, self.span);
            taught = Some(Taught {
                logits: &work.logits[..],
                temperature: teacher.temperature,
                weight: teacher.weight,
            });
        }
        self.chunk.tally = network.loss(self.work, self.span, taught, |decision| {
            let (step, row) = if every {
                (decision / rows, decision % rows)
            } else {
                (0, decision)
            };
            if step >= self.span.length(row) {
                return None;
            }
            let index = self.indices[row];
            let first = self.pieces.get(row).map_or(0, |p| p.start);
            let target = set.target(index, first + step, outputs)?;
            let weight = weight_of(set, self.shared.class_weights, index, &target);
            Some((target, weight * self.task.share))
        });
        self.chunk.states.clear();
        if !self.pieces.is_empty() {
            network.states_into(self.work, self.span, &mut self.chunk.states);
        }
        self.chunk.logits.clear();
        if self.task.train {
            self.chunk.grads.clear();
            network.backward(l, self.packs, self.work, &mut self.chunk.grads, self.span);
        } else {
            self.chunk.logits.extend_from_slice(&self.work.logits);
        }
    }
}

fn weight_of(
    set: &Sequences<'_>,
    class_weights: &[f32],
    index: usize,
    target: &super::loss::Target<'_>,
) -> f64 {
    let class = match target {
        super::loss::Target::Class(c) => class_weights.get(*c).copied().unwrap_or(1.0),
        super::loss::Target::Values(_) => 1.0,
    };
    f64::from(set.weight(index)) * f64::from(class)
}

fn run_chunk<E: Real>(
    shared: &Shared<'_, E>,
    task: &Task,
    packs: &Packs<E>,
    chunk: &mut Chunk<E>,
    memory: &mut Memory<E>,
    range: Range<usize>,
) {
    let indices = &task.indices[range.clone()];
    let pieces = task.pieces.get(range.clone()).unwrap_or_default();
    let Memory {
        work,
        teacher,
        scratch,
    } = memory;
    let set = &shared.sets[task.set];
    let (steps, rows, features) = (task.steps, indices.len(), set.features);
    let noise = task.noise.map(|seed| {
        move |layer: usize, row: usize| Rng::of(&[seed, 5, layer as u64, indices[row] as u64])
    });
    let draw = noise.as_ref().map(|n| n as &dyn Fn(usize, usize) -> Rng);
    shared.network.draw(work, rows, draw);
    shared.network.resize(work, steps, rows);
    let width = shared.network.state_width();
    let carry = shared.carry.read().unwrap_or_else(PoisonError::into_inner);
    let carry = match pieces.is_empty() {
        true => &[],
        false => &carry[range.start * width..range.end * width],
    };
    shared.network.carry(work, carry);
    scratch.lengths.clear();
    for (row, index) in indices.iter().enumerate() {
        let mut piece = pieces.get(row).copied().unwrap_or(Piece {
            start: 0,
            steps: set.length(*index),
        });
        piece.steps = piece.steps.min(steps);
        scratch.lengths.push(piece.steps);
        set.read_from(*index, piece.start, steps, &mut scratch.values);
        let past = piece.steps * features;
        scratch.values[past..].fill(0.0);
        if let (Some(change), Some(round)) = (shared.change, task.round) {
            change(round, *index, piece, &mut scratch.values);
        }
        for (step, values) in scratch.values.chunks_exact(features).enumerate() {
            let to = &mut work.x[(step * rows + row) * features..][..features];
            for (to, from) in to.iter_mut().zip(values) {
                *to = E::from_f32(*from);
            }
        }
    }
    // A teacher only helps to learn, and sees the inputs before they are rounded.
    let mut teacher = teacher.as_mut().filter(|_| task.train);
    if let (Some((by, _)), Some(teacher)) = (&shared.teacher, &mut teacher) {
        by.network.resize(teacher, steps, rows);
        teacher.x.copy_from_slice(&work.x);
    }
    if let Some(grid) = shared.network.input_grid() {
        for x in &mut work.x {
            let count = (x.to_f64() as f32 / grid).round();
            *x = E::from_f32(count.clamp(-32768.0, 32767.0) * grid);
        }
    }
    let even = scratch.lengths.iter().all(|l| *l == steps);
    let lengths = if even {
        None
    } else {
        Some(&scratch.lengths[..])
    };
    let span = Span {
        steps,
        rows,
        lengths,
        reversed: false,
    };
    E::run(
        shared.network.isa(),
        Pass {
            shared,
            task,
            packs,
            chunk,
            work,
            teacher,
            span,
            indices,
            pieces,
        },
    );
}

impl<E: Real> Session<'_, E> {
    /// The weights to use from now on.
    pub fn set_weights(&mut self, params: &[E]) {
        let mut packs = self
            .shared
            .packs
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        self.shared.network.pack(params, &mut packs);
    }

    /// Mean loss and its gradient ([`gradient`](Self::gradient)) of one batch: sequences
    /// `indices` of set `set`. `round` chooses the augmentation.
    pub fn batch(&mut self, set: usize, indices: &[usize], round: Option<u64>) -> Tally {
        self.task(set, indices, &[]);
        self.learn(round)
    }

    /// Mean loss, and with `train` its gradient, of one batch of pieces: `pieces[k]` of sequence
    /// `indices[k]` begins with the state `states[k·width..]` ([`Network::state_width`]) and leaves
    /// there the one after its last step. The gradient does not reach into what was before.
    pub fn pieces(
        &mut self,
        set: usize,
        indices: &[usize],
        pieces: &[Piece],
        states: &mut [E],
        train: bool,
        round: Option<u64>,
    ) -> Tally {
        self.task(set, indices, pieces);
        {
            let mut carry = (self.shared.carry.write()).unwrap_or_else(PoisonError::into_inner);
            carry.clear();
            carry.extend_from_slice(states);
        }
        let tally = match train {
            true => self.learn(round),
            false => self.go(false, None, None),
        };
        let mut rest = states;
        for chunk in &self.shared.chunks[..chunks_of(indices.len())] {
            let chunk = lock(chunk);
            let (to, after) = rest.split_at_mut(chunk.states.len());
            to.copy_from_slice(&chunk.states);
            rest = after;
        }
        tally
    }

    fn learn(&mut self, round: Option<u64>) -> Tally {
        let tally = self.go(true, round, self.noise);
        let rows = self.rows;
        let chunks = chunks_of(rows);
        {
            let first = lock(&self.shared.chunks[0]);
            self.sum.clone_from(&first.grads);
        }
        for chunk in &self.shared.chunks[1..chunks] {
            self.sum.add(&lock(chunk).grads);
        }
        self.sum.unpack(self.shared.network, &mut self.gradient);
        tally
    }

    /// Seed of the dropout of the next batches; `None` (as at the start) leaves out nothing.
    pub fn set_noise(&mut self, seed: Option<u64>) {
        self.noise = seed;
    }

    /// The gradient of the last batch, in the order of the parameters.
    pub fn gradient(&mut self) -> &mut [E] {
        &mut self.gradient
    }

    /// Mean loss of sequences `indices` of set `set`, and their logits: `[sequence][O]`, or, with
    /// a decision at every step, `[chunk][step][row][O]` through `each(sequence, step, logits)`.
    pub fn predict(
        &mut self,
        set: usize,
        indices: &[usize],
        mut each: impl FnMut(usize, usize, &[E]),
    ) -> Tally {
        let mut total = Tally::default();
        let mut weight = 0.0;
        let outputs = self.shared.network.output();
        for batch in indices.chunks(4 * CHUNK_ROWS) {
            self.task(set, batch, &[]);
            let tally = self.go(false, None, None);
            let share = self
                .shared
                .task
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .share;
            if share > 0.0 {
                total.loss += tally.loss / share;
                weight += 1.0 / share;
            }
            total.correct += tally.correct;
            total.count += tally.count;
            let chunks = chunks_of(batch.len());
            for index in 0..chunks {
                let rows = &batch[rows_of(batch.len(), chunks, index)];
                let chunk = lock(&self.shared.chunks[index]);
                for (decision, logits) in chunk.logits.chunks_exact(outputs).enumerate() {
                    each(rows[decision % rows.len()], decision / rows.len(), logits);
                }
            }
        }
        if weight > 0.0 {
            total.loss /= weight;
        }
        total
    }

    /// Says what comes next: sequences, or pieces of them.
    fn task(&mut self, set: usize, indices: &[usize], pieces: &[Piece]) {
        let shared = self.shared;
        self.rows = indices.len();
        let sequences = &shared.sets[set];
        let outputs = shared.network.output();
        let every = shared.network.readout() == Readout::Every;
        let mut steps = 0;
        let mut weight = 0.0;
        for (row, index) in indices.iter().enumerate() {
            let piece = pieces.get(row).copied().unwrap_or(Piece {
                start: 0,
                steps: sequences.length(*index),
            });
            steps = steps.max(piece.steps);
            for step in 0..if every { piece.steps } else { 1 } {
                if let Some(target) = sequences.target(*index, piece.start + step, outputs) {
                    weight += weight_of(sequences, shared.class_weights, *index, &target);
                }
            }
        }
        let mut task = shared.task.write().unwrap_or_else(PoisonError::into_inner);
        task.set = set;
        task.indices.clear();
        task.indices.extend_from_slice(indices);
        task.pieces.clear();
        task.pieces.extend_from_slice(pieces);
        task.steps = steps;
        task.chunks = chunks_of(indices.len());
        task.share = if weight > 0.0 { 1.0 / weight } else { 0.0 };
    }

    fn go(&mut self, train: bool, round: Option<u64>, noise: Option<u64>) -> Tally {
        let shared = self.shared;
        let chunks = chunks_of(self.rows);
        {
            let mut task = shared.task.write().unwrap_or_else(PoisonError::into_inner);
            task.train = train;
            task.round = round;
            task.noise = noise;
            // Both counters start anew while nobody can look at the task.
            shared.next.store(0, Ordering::Relaxed);
            let mut state = lock(&shared.state);
            state.round += 1;
            state.finished = 0;
            shared.round.store(state.round, Ordering::Relaxed);
            shared.finished.store(0, Ordering::Relaxed);
        }
        shared.wake.notify_all();
        take_chunks(shared, &mut lock(&shared.work));
        look_for(|| shared.finished.load(Ordering::Relaxed) >= chunks);
        let mut state = lock(&shared.state);
        while state.finished < chunks {
            state = shared
                .done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let mut total = Tally::default();
        for chunk in &shared.chunks[..chunks] {
            let tally = lock(chunk).tally;
            total.loss += tally.loss;
            total.correct += tally.correct;
            total.count += tally.count;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::data::{Inputs, Labels};
    use crate::nn::loss::Loss;
    use crate::nn::simd::Isa;
    use crate::spec::{DenseSpec, GruSpec, LayerSpec};

    /// Recordings in pieces: the losses are those of the whole, and the gradient of a piece is that
    /// of its loss with the state before it held fixed.
    #[test]
    fn pieces_add_up_and_their_gradient_equals_its_finite_difference() {
        let mut rng = Rng::new(4);
        let mut gru = |input, units| {
            let mut gru = GruSpec::zeros(input, units);
            gru.h0 = (0..units).map(|_| 0.3 * rng.normal() as f32).collect();
            gru.return_sequences = true;
            LayerSpec::Gru(gru)
        };
        let model = ModelSpec {
            layers: vec![
                gru(3, 5),
                gru(5, 9),
                LayerSpec::Dense(DenseSpec::zeros(9, 4)),
            ],
            readout: Readout::Every,
            ..ModelSpec::default()
        };
        let network = Network::new::<f64>(&model, Loss::default(), Isa::all()[0]).unwrap();
        let (count, steps) = (19, 12);
        let x: Vec<f32> = (0..count * steps * 3)
            .map(|_| rng.normal() as f32)
            .collect();
        let labels: Vec<i32> = (0..count * steps).map(|k| k as i32 % 5 - 1).collect();
        let lengths: Vec<usize> = (0..count).map(|k| 6 + k % 7).collect();
        let sets = [Sequences {
            inputs: Inputs::F32(&x),
            features: 3,
            count,
            steps,
            starts: None,
            lengths: Some(&lengths),
            labels: Labels::PerStep(&labels),
            weights: None,
        }];
        let setup = Setup {
            network: &network,
            sets: &sets,
            class_weights: &[],
            threads: 2,
            change: None,
            teacher: None,
        };
        let start: Vec<f64> = (0..network.parameters())
            .map(|_| 0.4 * rng.normal())
            .collect();
        setup.run(|session: &mut Session<'_, f64>| {
            session.set_weights(&start);
            let indices: Vec<usize> = (0..count).collect();
            let whole = session.batch(0, &indices, None);
            let pieces = |from: usize| -> Vec<Piece> {
                let steps = |length: &usize| if from == 0 { 5 } else { length - 5 };
                let piece = |length| Piece {
                    start: from,
                    steps: steps(length),
                };
                lengths.iter().map(piece).collect()
            };
            let mut states = network.initial_state::<f64>().repeat(count);
            let first = session.pieces(0, &indices, &pieces(0), &mut states, false, None);
            let between = states.clone();
            let second = session.pieces(0, &indices, &pieces(5), &mut states, true, None);
            assert_ne!(between, states);
            assert_eq!(first.count + second.count, whole.count);
            let sum = first.loss * first.count as f64 + second.loss * second.count as f64;
            let loss = sum / whole.count as f64;
            assert!((loss - whole.loss).abs() < 1e-12, "{loss} {}", whole.loss);

            let gradient = session.gradient().to_vec();
            let scale = gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
            let mut moved = start.clone();
            for at in 0..start.len() {
                let mut loss = |e: f64| {
                    moved[at] = start[at] + e;
                    session.set_weights(&moved);
                    let mut states = between.clone();
                    session
                        .pieces(0, &indices, &pieces(5), &mut states, false, None)
                        .loss
                };
                let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
                moved[at] = start[at];
                let error = (slope - gradient[at]).abs() / scale;
                assert!(error < 1e-7, "parameter {at}: {slope} {}", gradient[at]);
            }
        });
    }
}
