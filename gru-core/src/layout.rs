//! How the weights of a layer are ordered in the payload.
//!
//! All layouts are permutations of the same weights and compute the same bits; the exporter
//! chooses the one that the target's kernel eats. `docs/artifact.md` shows each byte by byte.
//!
//! Weights are int8. A model whose GRU weights are multiples of 16 from −112 to 112 (int4, as far
//! as information goes) fits the layouts `Rows4`, `Pair4` and `Quad4` as well, where a weight is
//! half a byte; Dense layers, which are small, keep whole bytes.
//!
//! `RowsSparse`, `PairSparse` and `QuadSparse` leave out blocks of recurrent weights that are zero:
//! see [`crate::sparse`].

use serde::{Deserialize, Serialize};

/// The gates in the order in which they are stored.
pub const GATES: usize = 3;
/// The reset gate.
pub const RESET: usize = 0;
/// The update gate.
pub const UPDATE: usize = 1;
/// The candidate.
pub const CANDIDATE: usize = 2;

/// Bytes of a unit's parameters: four multipliers and four biases of 16 bits.
pub const UNIT_PARAMS: usize = 16;
/// Bytes of a Dense row's parameters: multiplier and bias of 32 bits.
pub const ROW_PARAMS: usize = 8;
/// The most units that one block holds.
pub const MAX_GROUP: usize = 8;

/// Bytes in front of the words of four rows in the layout [`Layout::Winograd`].
pub(crate) const HEAD: usize = 16;

/// What stands in front of the words of four rows: for the words as they are and shifted right by
/// 8, 16 and 24 the negative sum, modulo 2^32, of the products of their pairs.
pub(crate) const fn winograd_head(words: &[u8]) -> [i32; 4] {
    let mut head = [0i32; 4];
    let mut rest = words;
    while let Some((pair, others)) = rest.split_first_chunk::<8>() {
        rest = others;
        let [a0, a1, a2, a3, b0, b1, b2, b3] = *pair;
        let mut a = i32::from_le_bytes([a0, a1, a2, a3]);
        let mut b = i32::from_le_bytes([b0, b1, b2, b3]);
        let mut shift = 0;
        while shift < head.len() {
            head[shift] = head[shift].wrapping_sub(a.wrapping_mul(b));
            a >>= 8;
            b >>= 8;
            shift += 1;
        }
    }
    head
}

/// Rounds up to a multiple of four.
pub const fn align4(n: usize) -> usize {
    (n + 3) & !3
}

/// Words that the input of a layer takes in front of those that the gates read.
#[inline]
pub(crate) const fn input_copy(input: usize, w_shift: u8) -> usize {
    if (w_shift as usize | input & 1) == 0 {
        0
    } else {
        (input + 1) & !1
    }
}

/// The order of weights in the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Layout {
    /// One unit a block, rows of plain int8: the portable kernel.
    Rows,
    /// Two units a block, a column of both in one halfword: cores with `SMLAD` (M4, M7, M33).
    Pair,
    /// Eight units a block, a column of four of them in one word, a row's recurrent part behind its
    /// input part: cores without (M0, M0+).
    Quad,
    /// Four units a block, eight columns of a row at once: cores with the vector extension (M55,
    /// M85).
    Vector,
    /// Four units a block, the words of `Quad` gate after gate, in front of each gate's the sums of
    /// the products of its pairs of columns: a core that shifts one operand of an addition (M3).
    Winograd,
    /// [`Rows`](Self::Rows) with two columns a byte.
    Rows4,
    /// Two units a block, six words for two pairs of columns in [`Pair`](Self::Pair) and three here.
    Pair4,
    /// Four units a block; a column of the gates r and z, or two columns of the candidate, in one
    /// word; a row's recurrent part follows its input part, as in `Quad`.
    Quad4,
    /// [`Rows`](Self::Rows) with the recurrent weights that pruning has left: see [`crate::sparse`].
    RowsSparse,
    /// [`Pair`](Self::Pair) with the recurrent weights that pruning has left.
    PairSparse,
    /// [`Quad`](Self::Quad) with the recurrent weights that pruning has left.
    QuadSparse,
    /// Eight units a block, pairs of columns: the SIMD units of a host, which rearranges a model
    /// for long runs ([`crate::writer::relayed`]). Devices refuse it.
    #[cfg(feature = "std")]
    Lanes,
}

impl Layout {
    /// All layouts.
    #[cfg(not(feature = "std"))]
    pub const ALL: [Self; 11] = [
        Self::Rows,
        Self::Pair,
        Self::Quad,
        Self::Vector,
        Self::Winograd,
        Self::Rows4,
        Self::Pair4,
        Self::Quad4,
        Self::RowsSparse,
        Self::PairSparse,
        Self::QuadSparse,
    ];
    /// All layouts.
    #[cfg(feature = "std")]
    pub const ALL: [Self; 12] = [
        Self::Rows,
        Self::Pair,
        Self::Quad,
        Self::Vector,
        Self::Winograd,
        Self::Rows4,
        Self::Pair4,
        Self::Quad4,
        Self::RowsSparse,
        Self::PairSparse,
        Self::QuadSparse,
        Self::Lanes,
    ];

    /// `==`, which is not for constant functions.
    #[inline(always)]
    pub(crate) const fn is(self, other: Self) -> bool {
        self as u8 == other as u8
    }

    /// The layout with this number in a header.
    pub(crate) const fn numbered(number: usize) -> Option<Self> {
        if number < Self::ALL.len() {
            Some(Self::ALL[number])
        } else {
            None
        }
    }

    /// The layout with half a byte for a weight that kernels for this one are fast with; none for
    /// those that have no such kernel.
    pub const fn halved(self) -> Option<Self> {
        match self {
            Self::Rows | Self::Rows4 => Some(Self::Rows4),
            Self::Pair | Self::Pair4 => Some(Self::Pair4),
            Self::Quad | Self::Quad4 => Some(Self::Quad4),
            _ => None,
        }
    }

    /// The layout that leaves out recurrent weights that kernels for this one are fast with; none for those that
    /// have no such kernel.
    pub const fn sparse(self) -> Option<Self> {
        match self {
            Self::Rows | Self::RowsSparse => Some(Self::RowsSparse),
            Self::Pair | Self::PairSparse => Some(Self::PairSparse),
            Self::Quad | Self::QuadSparse => Some(Self::QuadSparse),
            _ => None,
        }
    }

    /// Whether recurrent weights are left out: see [`crate::sparse`].
    #[inline]
    pub const fn is_sparse(self) -> bool {
        matches!(self, Self::RowsSparse | Self::PairSparse | Self::QuadSparse)
    }

    /// The layout that leaves no recurrent weights out and has the others in the same order.
    #[inline]
    pub const fn unpruned(self) -> Self {
        match self {
            Self::RowsSparse => Self::Rows,
            Self::PairSparse => Self::Pair,
            Self::QuadSparse => Self::Quad,
            all => all,
        }
    }

    /// The layout with a byte for every weight that has the units in the same blocks: that of the
    /// Dense layers.
    #[inline]
    pub const fn whole(self) -> Self {
        match self {
            Self::RowsSparse => Self::Rows,
            Self::PairSparse => Self::Pair,
            Self::QuadSparse => Self::Quad,
            Self::Rows4 => Self::Rows,
            Self::Pair4 => Self::Pair,
            Self::Quad4 => Self::Quad,
            whole => whole,
        }
    }

    /// Bits of a GRU layer's weight: 8 or 4.
    #[inline]
    pub const fn weight_bits(self) -> u8 {
        match self {
            Self::Rows4 | Self::Pair4 | Self::Quad4 => 4,
            _ => 8,
        }
    }

    /// Units of a GRU layer that share a block: 1, 2, 4 or 8.
    #[inline]
    pub const fn gru_group(self) -> usize {
        match self {
            Self::Quad | Self::QuadSparse => 8,
            _ => self.group(),
        }
    }

    /// Dense rows that share a block: 1, 2, 4 or 8.
    #[inline]
    pub const fn group(self) -> usize {
        match self {
            Self::Rows | Self::Rows4 | Self::RowsSparse => 1,
            Self::Pair | Self::Pair4 | Self::PairSparse => 2,
            Self::Quad | Self::Vector | Self::Winograd | Self::Quad4 | Self::QuadSparse => 4,
            #[cfg(feature = "std")]
            Self::Lanes => 8,
        }
    }

    /// Columns of a row of a GRU layer as stored: padded where two, four or eight are read at once.
    #[inline]
    pub const fn gru_columns(self, gate: usize, n: usize) -> usize {
        match self {
            Self::Quad | Self::QuadSparse => n,
            Self::Quad4 if gate != CANDIDATE => n,
            _ => self.columns(n),
        }
    }

    /// Columns of a row of a Dense layer as stored, padded likewise.
    #[inline]
    pub const fn columns(self, n: usize) -> usize {
        match self {
            Self::Rows | Self::RowsSparse => n,
            Self::Vector => (n + 7) & !7,
            Self::Pair4 => (n + 3) & !3,
            _ => n.div_ceil(2) * 2,
        }
    }

    /// Rows as stored: padded to whole groups.
    #[inline]
    pub const fn rows(self, n: usize) -> usize {
        let g = self.group();
        n.div_ceil(g) * g
    }

    /// Bytes in front of the weights of one gate's (or of a Dense layer's) group of rows.
    #[inline]
    pub const fn head_len(self) -> usize {
        match self {
            Self::Winograd => HEAD,
            _ => 0,
        }
    }

    /// Bytes of a gate's group of rows of a GRU layer over `n` columns.
    #[inline]
    pub const fn rows_len(self, gate: usize, n: usize) -> usize {
        let weights = self.gru_group() * self.gru_columns(gate, n);
        match self.weight_bits() {
            4 => weights / 2,
            _ => self.head_len() + weights,
        }
    }

    /// Bytes of a group of rows of a Dense layer over `n` columns.
    #[inline]
    pub const fn dense_rows_len(self, n: usize) -> usize {
        let whole = self.whole();
        whole.head_len() + whole.group() * whole.columns(n)
    }

    /// Bytes of the weights of one part (input or recurrent) of a GRU block with `n` columns.
    #[inline]
    pub const fn gru_part_len(self, n: usize) -> usize {
        self.rows_len(RESET, n) + self.rows_len(UPDATE, n) + self.rows_len(CANDIDATE, n)
    }

    /// Bytes of the weights of a GRU block, padded to whole words.
    #[inline]
    pub const fn gru_weights_len(self, input: usize, units: usize) -> usize {
        align4(self.gru_part_len(input) + self.gru_part_len(units))
    }

    /// Bytes of a GRU block: weights and parameters.
    #[inline]
    pub const fn gru_block_len(self, input: usize, units: usize) -> usize {
        self.gru_weights_len(input, units) + self.gru_group() * UNIT_PARAMS
    }

    /// Bytes of a GRU layer; of a sparse one, those of its blocks if all weights are there.
    #[inline]
    pub const fn gru_len(self, input: usize, units: usize) -> usize {
        units.div_ceil(self.gru_group()) * self.gru_block_len(input, units)
    }

    /// Words of 16 bits that a step of a GRU layer needs beside its state: the new state (and the
    /// reset state where the gate comes before the product), or, where the kernel works on words, a
    /// word for each column of the input and of the state, and of the input once more where the gates
    /// read it shifted or the candidate reads it in pairs. Where recurrent weights are left out, the
    /// values that the others are for are gathered, and need room as well.
    #[inline]
    pub const fn gru_scratch(
        self,
        input: usize,
        units: usize,
        w_shift: u8,
        reset_after: bool,
    ) -> usize {
        let padded = align4(units);
        let beside = (1 + !reset_after as usize + self.is_sparse() as usize) * padded;
        let words = align4(2 * (input_copy(input, w_shift) + input + padded));
        let expanded = match self {
            Self::Quad | Self::Quad4 => words,
            Self::QuadSparse => words + padded,
            _ => 0,
        };
        if expanded > beside { expanded } else { beside }
    }

    /// What the stored biases of a GRU layer's units are XORed with: some kernels add them without
    /// their sign.
    #[inline]
    pub const fn bias_flip(self) -> i16 {
        match self {
            Self::Quad | Self::Quad4 | Self::QuadSparse => i16::MIN,
            _ => 0,
        }
    }

    /// Bytes of a Dense layer's weights, padded to whole words.
    #[inline]
    pub const fn dense_weights_len(self, input: usize, units: usize) -> usize {
        align4(units.div_ceil(self.group()) * self.dense_rows_len(input))
    }

    /// Bytes of a Dense layer: weights, then parameters of every stored row.
    #[inline]
    pub const fn dense_len(self, input: usize, units: usize) -> usize {
        self.dense_weights_len(input, units) + self.rows(units) * ROW_PARAMS
    }

    /// Where in a GRU block the weight of (`gate`, unit of the block, column of a part) is.
    #[inline(always)]
    pub const fn gru_weight(
        self,
        shape: (usize, usize),
        recurrent: bool,
        gate: usize,
        unit: usize,
        column: usize,
    ) -> Place {
        let (input, units) = shape;
        // A column of both parts, the recurrent one's behind those of the input.
        let joint = if recurrent { input + column } else { column };
        match self {
            Self::Quad | Self::QuadSparse => {
                // The candidate of eight units, then reset and update of four and of four.
                let half = unit / 4;
                let word = if gate == CANDIDATE {
                    2 * joint + half
                } else {
                    2 * (1 + half) * (input + units) + 2 * joint + gate
                };
                quad_place(word, unit & 3)
            }
            Self::Quad4 => {
                // The candidate, half a word a column, the first one on top; then a word a column.
                let inputs = self.columns(input) / 2;
                if gate == CANDIDATE {
                    let word = if recurrent { inputs } else { 0 };
                    half_place(4 * (2 * word + (column ^ 1)) + unit, unit < 3)
                } else {
                    let word = inputs + self.columns(units) / 2 + joint;
                    let nibble = 4 * (gate & 1) + unit;
                    half_place(8 * word + nibble, nibble < 7)
                }
            }
            _ => {
                let (n, start) = if recurrent {
                    (units, self.gru_part_len(input))
                } else {
                    (input, 0)
                };
                let mut place = self.part_weight(n, gate, unit, column);
                place.byte += start;
                place
            }
        }
    }

    /// The same in a part of `n` columns, from the start of the part.
    #[inline]
    const fn part_weight(self, n: usize, gate: usize, unit: usize, column: usize) -> Place {
        let columns = self.columns(n);
        match self {
            Self::Rows | Self::RowsSparse => whole_byte(gate * columns + column, false),
            Self::Rows4 => half_place(gate * columns + column, false),
            Self::Pair4 => {
                // Three words for four columns: r and z of two columns, of the other two, then the
                // candidate of all four. Columns of a pair lie in the halves of a word.
                let (pair, half) = ((column / 2) & 1, column & 1);
                let (word, nibble) = match gate {
                    CANDIDATE => (2, 2 * (1 - pair) + (1 - (unit & 1))),
                    gate => (pair, 2 * (1 - (unit & 1)) + (1 - (gate & 1))),
                };
                let signed = match gate {
                    CANDIDATE => unit & 1 == 0,
                    _ => nibble == 3,
                };
                half_place(8 * (column / 4 * GATES + word) + 4 * half + nibble, !signed)
            }
            Self::Pair | Self::PairSparse => pair_place(column / 2 * GATES + gate, unit, column),
            // Their parts interleave: see `gru_weight`.
            Self::Quad | Self::Quad4 | Self::QuadSparse => whole_byte(0, false),
            Self::Winograd => quad_place(gate * (columns + HEAD / 4) + HEAD / 4 + column, unit),
            // The rows of two units, eight columns each, then the next eight columns.
            Self::Vector => {
                let pair = unit / 2 * (2 * GATES * columns);
                let row = (column / 8 * (2 * GATES) + (unit & 1) * GATES + gate) * 8;
                whole_byte(pair + row + column % 8, false)
            }
            #[cfg(feature = "std")]
            Self::Lanes => lanes_place(column / 2 * GATES + gate, unit, column),
        }
    }

    /// Where among a Dense layer's weights the one of (`row`, `column`) is.
    #[inline]
    pub const fn dense_weight(self, n: usize, row: usize, column: usize) -> Place {
        let whole = self.whole();
        let columns = whole.columns(n);
        match whole {
            Self::Pair => pair_place(row / 2 * (columns / 2) + column / 2, row & 1, column),
            Self::Quad => quad_place(row / 4 * columns + column, row & 3),
            Self::Winograd => {
                quad_place(row / 4 * (columns + HEAD / 4) + HEAD / 4 + column, row & 3)
            }
            Self::Vector => {
                let place = row / 4 * (4 * columns) + (column / 8 * 4 + (row & 3)) * 8;
                whole_byte(place + column % 8, false)
            }
            #[cfg(feature = "std")]
            Self::Lanes => lanes_place(row / 8 * (columns / 2) + column / 2, row & 7, column),
            _ => whole_byte(row * columns + column, false),
        }
    }
}

const fn whole_byte(byte: usize, biased: bool) -> Place {
    Place {
        byte,
        part: Part::Whole,
        biased,
    }
}

/// The half byte with this number, the lower half of a byte first.
const fn half_place(half: usize, biased: bool) -> Place {
    Place {
        byte: half / 2,
        part: if half.is_multiple_of(2) {
            Part::Low
        } else {
            Part::High
        },
        biased,
    }
}

const fn pair_place(word: usize, unit: usize, column: usize) -> Place {
    whole_byte(
        4 * word + 2 * (column & 1) + (1 - (unit & 1)),
        unit & 1 == 1,
    )
}

const fn quad_place(word: usize, unit: usize) -> Place {
    whole_byte(4 * word + unit, unit < 3)
}

#[cfg(feature = "std")]
const fn lanes_place(group: usize, unit: usize, column: usize) -> Place {
    whole_byte(16 * group + 2 * unit + (column & 1), false)
}

/// The part of a byte that holds a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Part {
    /// All of it.
    Whole,
    /// The lower half: a sixteenth of the weight.
    Low,
    /// The upper half: a sixteenth of the weight.
    High,
}

/// The place of one weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Place {
    /// Offset in bytes.
    pub byte: usize,
    /// The part of the byte.
    pub part: Part,
    /// Whether it holds the weight + 128 (a half: a sixteenth of that) instead of its two's complement.
    pub biased: bool,
}

impl Place {
    /// The weight that `byte` stands for at this place.
    #[inline]
    pub const fn decode(self, byte: u8) -> i8 {
        let byte = match self.part {
            Part::Whole => byte,
            Part::Low => byte << 4,
            Part::High => byte & 0xf0,
        };
        (byte ^ if self.biased { 0x80 } else { 0 }) as i8
    }

    /// `byte` with `weight` at this place; the lower four bits of the weight are lost in a half.
    #[inline]
    pub const fn encode(self, byte: u8, weight: i8) -> u8 {
        let code = weight as u8 ^ if self.biased { 0x80 } else { 0 };
        match self.part {
            Part::Whole => code,
            Part::Low => byte & 0xf0 | code >> 4,
            Part::High => byte & 0x0f | code & 0xf0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn check_block(layout: Layout, input: usize, units: usize) {
        let mut seen = BTreeSet::new();
        for (recurrent, n) in [(false, input), (true, units)] {
            for gate in 0..GATES {
                for unit in 0..layout.gru_group() {
                    for column in 0..layout.gru_columns(gate, n) {
                        let shape = (input, units);
                        let place = layout.gru_weight(shape, recurrent, gate, unit, column);
                        let halves = match place.part {
                            Part::Whole => 0..2,
                            Part::Low => 0..1,
                            Part::High => 1..2,
                        };
                        for half in halves {
                            assert!(seen.insert(2 * place.byte + half));
                        }
                    }
                }
            }
        }
        let len = 2 * (layout.gru_part_len(input) + layout.gru_part_len(units));
        assert_eq!(seen.len() + 4 * GATES * layout.head_len(), len);
        assert_eq!(seen.last(), Some(&(len - 1)));
    }

    #[test]
    fn places_are_a_permutation() {
        for layout in Layout::ALL {
            let lengths = if cfg!(miri) { 2..3 } else { 1..20 };
            for n in lengths {
                for units in [n, 7, 8] {
                    check_block(layout, n, units);
                }
                for rows in (1..9).step_by(if cfg!(miri) { 5 } else { 1 }) {
                    let columns = layout.whole().columns(n);
                    let seen: BTreeSet<usize> = (0..layout.rows(rows))
                        .flat_map(|r| (0..columns).map(move |c| (r, c)))
                        .map(|(r, c)| layout.dense_weight(n, r, c).byte)
                        .collect();
                    assert_eq!(seen.len(), layout.rows(rows) * columns);
                    assert!(seen.last() < Some(&layout.dense_weights_len(n, rows)));
                }
            }
        }
    }
}
