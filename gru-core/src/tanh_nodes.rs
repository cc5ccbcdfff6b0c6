//! The tanh table in 770 bytes: what [`TANH_TABLE`] has in 2,048, for programs that are optimized for size.
//!
//! The table's values at the ends of its segments are odd but for a unit, and a slope is the difference of two of them but
//! for a few units. So the values of one side and three small numbers a segment are all of it, bit for bit.

use crate::tanh_table::TANH_TABLE;

/// What is kept of the table; assembly reads it.
#[repr(C)]
pub(crate) struct Nodes {
    /// Of each segment from zero upwards: how much its slope is above twice the difference of its nodes, plus 2 (bits 0 to 2),
    /// the same of the segment on the other side of zero (bits 3 to 5), and how much the left end of the latter is above
    /// the complement of its node (bits 6 and 7).
    pub(crate) corrections: [u8; 256],
    /// The values at the left ends of the segments from zero upwards, and 32768.
    pub(crate) nodes: [u16; 257],
}

/// See [`Nodes`].
pub(crate) static NODES: Nodes = {
    let mut nodes = [32768; 257];
    let mut i = 0;
    while i < 256 {
        nodes[i] = (TANH_TABLE[256 + i] >> 16) as u16;
        i += 1;
    }
    let mut corrections = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (upper, lower) = (TANH_TABLE[256 + i], TANH_TABLE[255 - i]);
        let rise = nodes[i + 1] - nodes[i];
        let above = (upper & 0xffff) + 2 - 2 * rise as u32;
        let below = (lower & 0xffff) + 2 - 2 * rise as u32;
        let left = (lower >> 16) as u16 as i16 as i32 - !(nodes[i + 1] as i32);
        assert!(above < 8 && below < 8 && left >= 0 && left < 4);
        corrections[i] = (above | below << 3 | (left as u32) << 6) as u8;
        i += 1;
    }
    Nodes { corrections, nodes }
};
