//! Block-sparse recurrent weights: what the layouts `RowsSparse`, `PairSparse` and `QuadSparse` share.
//!
//! The units of a layer are cut into panels of [`PANEL`]. Of a panel's recurrent weights those of a pair of columns,
//! for all its units and gates, are there or not: 48 weights that go together. A panel starts with
//! the list of the pairs that are there and goes on with blocks as the layout without `Sparse` has them for a
//! matrix of these columns only; so a kernel gathers the state's values once per panel and then
//! does what it does with every weight there. The input weights are all there.
//!
//! The list is one byte with the number of pairs less 1, a byte for the number of each pair (columns 2k and 2k + 1),
//! upwards, and zeros up to a multiple of four. Pairs without any weight but zero are left out; a
//! panel that has no other keeps pair 0.

use crate::kernel::unpruned;
use crate::layout::{GATES, Layout, align4};

/// Units that share a list of columns.
pub const PANEL: usize = 8;

/// The most units of a layer: numbers of pairs are bytes.
pub const MAX_UNITS: usize = 512;

/// Bytes of a list of so many pairs.
#[inline]
pub(crate) const fn list_len(pairs: usize) -> usize {
    align4(1 + pairs)
}

/// A panel in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel<'a> {
    /// Its first unit.
    pub(crate) first: usize,
    /// Its units.
    pub(crate) units: usize,
    /// The numbers of the pairs that are there.
    pub(crate) pairs: &'a [u8],
    /// What follows them up to a multiple of four.
    pub(crate) pad: &'a [u8],
    /// Its blocks.
    pub(crate) blocks: &'a [u8],
}

impl Panel<'_> {
    /// Columns of the recurrent weights as stored.
    #[inline]
    pub(crate) const fn columns(&self) -> usize {
        2 * self.pairs.len()
    }

    /// Those of them that a layer of so many units has: one less where the last pair reaches beyond.
    #[inline]
    pub(crate) const fn real_columns(&self, units: usize) -> usize {
        let last = match self.pairs {
            [.., last] => *last as usize,
            [] => 0,
        };
        self.columns() - (2 * last + 1 >= units) as usize
    }
}

/// The panels of a layer.
#[derive(Debug, Clone)]
pub(crate) struct Panels<'a> {
    layout: Layout,
    input: usize,
    units: usize,
    first: usize,
    rest: &'a [u8],
}

impl<'a> Panels<'a> {
    /// Those of the layer of this shape at the beginning of `bytes`.
    #[inline]
    pub(crate) const fn new(layout: Layout, input: usize, units: usize, bytes: &'a [u8]) -> Self {
        Self {
            layout,
            input,
            units,
            first: 0,
            rest: bytes,
        }
    }

    /// Length of the next panel, which has so many units, from the byte that says how many pairs it has.
    #[inline]
    const fn len_of(&self, units: usize, pairs: usize) -> usize {
        let layout = unpruned(self.layout);
        let block = layout.gru_block_len(self.input, 2 * pairs);
        list_len(pairs) + units.div_ceil(layout.gru_group()) * block
    }

    /// Bytes of all panels; of those that are cut off, the least that they can have.
    pub(crate) const fn measure(mut self) -> usize {
        let mut all = 0;
        while self.first < self.units {
            let units = at_most_a_panel(self.units - self.first);
            let pairs = match self.rest {
                [pairs, ..] => *pairs as usize + 1,
                [] => 1,
            };
            let len = self.len_of(units, pairs);
            all += len;
            self.rest = match self.rest.split_at_checked(len) {
                Some((_, rest)) => rest,
                None => &[],
            };
            self.first += PANEL;
        }
        all
    }

    /// The next panel; a constant function, which the iterator's is not.
    #[inline]
    pub(crate) const fn next_panel(&mut self) -> Option<Panel<'a>> {
        let first = self.first;
        if self.units <= first {
            return None;
        }
        let units = at_most_a_panel(self.units - first);
        let [pairs, ..] = self.rest else { return None };
        let pairs = *pairs as usize + 1;
        let Some((panel, rest)) = self.rest.split_at_checked(self.len_of(units, pairs)) else {
            return None;
        };
        let Some(([_, list @ ..], blocks)) = panel.split_at_checked(list_len(pairs)) else {
            return None;
        };
        let Some((pairs, pad)) = list.split_at_checked(pairs) else {
            return None;
        };
        self.rest = rest;
        self.first += PANEL;
        Some(Panel {
            first,
            units,
            pairs,
            pad,
            blocks,
        })
    }
}

impl<'a> Iterator for Panels<'a> {
    type Item = Panel<'a>;

    #[inline]
    fn next(&mut self) -> Option<Panel<'a>> {
        self.next_panel()
    }
}

const fn at_most_a_panel(units: usize) -> usize {
    if units < PANEL { units } else { PANEL }
}

/// Puts the values of the listed pairs of `x` beside each other; what is not there reads as zero.
#[inline]
pub(crate) fn gather(pairs: &[u8], x: &[i16], out: &mut [i16]) {
    let x = x.as_chunks::<2>().0;
    for (out, &pair) in out.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
        *out = x.get(pair as usize).copied().unwrap_or_default();
    }
}

/// Recurrent weights of a layer that are there, its padding not counted.
pub(crate) fn weights_left(layout: Layout, input: usize, units: usize, bytes: &[u8]) -> usize {
    let panels = Panels::new(layout, input, units, bytes);
    let weights = panels.map(|p| GATES * p.units * p.real_columns(units));
    weights.sum()
}
