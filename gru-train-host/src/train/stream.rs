//! The order in which recordings are learnt with the state carried on.

use super::Stateful;
use crate::nn::data::Sequences;
use crate::nn::rng::Rng;
use crate::nn::session::Piece;

/// Lanes side by side, each reading one recording after the other, piece by piece.
pub(super) struct Stream {
    stateful: Stateful,
    /// Recordings that nobody has begun, the next one last, with their lengths.
    waiting: Vec<(usize, usize)>,
    lanes: Vec<Lane>,
    initial: Vec<f32>,
    rng: Rng,
    /// Lanes, sequences, pieces and states of the batch.
    chosen: Vec<usize>,
    pub(super) indices: Vec<usize>,
    pub(super) pieces: Vec<Piece>,
    pub(super) states: Vec<f32>,
}

struct Lane {
    /// Recording, its length, and how much of it has been read.
    at: Option<(usize, usize, usize)>,
    state: Vec<f32>,
}

impl Stream {
    pub(super) fn new(
        stateful: Stateful,
        set: &Sequences<'_>,
        order: &[usize],
        lanes: usize,
        initial: Vec<f32>,
        rng: Rng,
    ) -> Self {
        let lane = || Lane {
            at: None,
            state: initial.clone(),
        };
        Self {
            stateful,
            waiting: (order.iter().rev().map(|i| (*i, set.length(*i)))).collect(),
            lanes: (0..lanes.min(order.len())).map(|_| lane()).collect(),
            initial,
            rng,
            chosen: Vec::new(),
            indices: Vec::new(),
            pieces: Vec::new(),
            states: Vec::new(),
        }
    }

    /// How often [`next`](Self::next) will find something.
    pub(super) fn batches(&self) -> usize {
        // As `next` does it: the first lane that is through takes the next recording.
        let pieces = |steps: usize| steps.div_ceil(self.stateful.steps);
        let mut lanes = vec![0; self.lanes.len()];
        for (_, steps) in self.waiting.iter().rev() {
            if let Some(first) = lanes.iter_mut().min_by_key(|n| **n) {
                *first += pieces(*steps);
            }
        }
        lanes.into_iter().max().unwrap_or(0)
    }

    /// Chooses the next batch; the number of its rows, or `None` at the end.
    pub(super) fn next(&mut self) -> Option<usize> {
        self.chosen.clear();
        self.indices.clear();
        self.pieces.clear();
        self.states.clear();
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            if lane.at.is_none()
                && let Some((index, steps)) = self.waiting.pop()
            {
                lane.at = Some((index, steps, 0));
                if self.rng.uniform() >= self.stateful.carry_over {
                    lane.state.clone_from(&self.initial);
                }
            }
            if let Some((index, steps, done)) = lane.at {
                self.chosen.push(number);
                self.indices.push(index);
                self.pieces.push(Piece {
                    start: done,
                    steps: self.stateful.steps.min(steps - done),
                });
                self.states.extend_from_slice(&lane.state);
            }
        }
        (!self.chosen.is_empty()).then_some(self.chosen.len())
    }

    /// Takes the states after the batch.
    pub(super) fn put_back(&mut self) {
        let width = self.initial.len().max(1);
        let batch = self.chosen.iter().zip(&self.pieces);
        for ((number, piece), state) in batch.zip(self.states.chunks_exact(width)) {
            let lane = &mut self.lanes[*number];
            lane.state.copy_from_slice(state);
            lane.at = (lane.at)
                .map(|(index, steps, done)| (index, steps, done + piece.steps))
                .filter(|(_, steps, done)| done < steps);
        }
    }
}
