//! The kernels for Cortex-M0, M0+ and M3: four rows of one column in a word.
//!
//! Four shifts of a word of weights give four mixed rows, whose sums modulo 2^32 separate exactly at
//! the end. Whole layers run in `quad_v6m.s` (kernel `quad`, layout `Quad`), where four
//! multiply-accumulates take 11 instructions and a share of the loads, or in `quad_v7m.s` (kernel
//! `quad_mla`, layout `Winograd`), where the shifts cost nothing and two columns share a
//! multiplication. The heads of both explain the arithmetic.
//!
//! With the feature `int4` the kernel `quad` takes weights of half a byte as well (layout `Quad4`,
//! `quad4_v6m.s`), and with the feature `sparse` recurrent weights that are left out (layout `QuadSparse`,
//! `quad_sparse_v6m.s`). Programs that are optimized for size and have neither of the two get `quad_tiny_v6m.s`.
//!
//! What the assembly computes has a twin in plain Rust here, instruction by instruction where it
//! matters, which the host's tests compare with the portable kernel; on emulated cores
//! `firmware-examples/agree` compares the assembly itself.

#[cfg(target_arch = "arm")]
use super::portable::{self, Portable};
#[cfg(target_arch = "arm")]
use super::{Kernel, PORTABLE, known};
#[cfg(all(target_arch = "arm", not(gru_tiny)))]
use crate::activation::TANH_TABLE;
#[cfg(target_arch = "arm")]
use crate::artifact::FEATURE_PARAMS;
#[cfg(target_arch = "arm")]
#[cfg_attr(
    gru_active = "quad_mla",
    allow(unused_imports, reason = "for words only")
)]
use crate::layout::{Layout, align4, input_copy};
#[cfg(target_arch = "arm")]
use crate::model::{DenseLayer, GruLayer};
#[cfg(target_arch = "arm")]
use core::{mem::offset_of, ptr::from_ref};

/// The layout that the assembly reads.
#[cfg(target_arch = "arm")]
const LAYOUT: Layout = if cfg!(gru_active = "quad_mla") {
    Layout::Winograd
} else {
    Layout::Quad
};

/// The layout with half a byte for a weight that the assembly reads as well.
#[cfg(target_arch = "arm")]
const HALVED: Option<Layout> = if cfg!(all(not(gru_active = "quad_mla"), feature = "int4")) {
    Some(Layout::Quad4)
} else {
    None
};

/// The layout without some recurrent weights that the assembly reads as well.
#[cfg(target_arch = "arm")]
const SPARSE: Option<Layout> = if cfg!(all(not(gru_active = "quad_mla"), feature = "sparse")) {
    Some(Layout::QuadSparse)
} else {
    None
};

/// What the assembly looks tanh up in.
#[cfg(all(target_arch = "arm", not(gru_tiny)))]
type Table = u32;
#[cfg(all(target_arch = "arm", gru_tiny))]
type Table = crate::tanh_nodes::Nodes;

#[cfg(target_arch = "arm")]
#[inline(always)]
fn table() -> *const Table {
    #[cfg(gru_tiny)]
    return from_ref(&crate::tanh_nodes::NODES);
    #[cfg(not(gru_tiny))]
    TANH_TABLE.as_ptr()
}

/// What the assembly reads of a layer is where it has it.
#[cfg(target_arch = "arm")]
const _: () = {
    assert!(offset_of!(GruLayer<'_>, input) == 8);
    assert!(offset_of!(GruLayer<'_>, units) == 10);
    assert!(offset_of!(GruLayer<'_>, layout) == 12 && Layout::QuadSparse as usize == 10);
    assert!(offset_of!(GruLayer<'_>, nh_shift) == 13);
    assert!(offset_of!(GruLayer<'_>, w_shift) == 14);
    assert!(offset_of!(DenseLayer<'_>, input) == 8);
    assert!(offset_of!(DenseLayer<'_>, units) == 10);
};

/// The instructions, and nothing else.
#[cfg(target_arch = "arm")]
#[allow(unsafe_code, reason = "the layers are written in assembly")]
mod shim {
    use super::Table;

    /// Columns of eight rows and pairs of columns of four that a pass of the assembly does: one where the crate is
    /// optimized for size.
    #[cfg(all(not(gru_active = "quad_mla"), not(gru_small)))]
    macro_rules! passes {
        () => {
            ".equ GRU_COLUMNS, 32\n.equ GRU_COLUMNS4, 16\n.equ GRU_PAIRS, 8\n"
        };
    }
    #[cfg(all(not(gru_active = "quad_mla"), gru_small, not(gru_tiny)))]
    macro_rules! passes {
        () => {
            ".equ GRU_COLUMNS, 1\n.equ GRU_COLUMNS4, 1\n.equ GRU_PAIRS, 1\n"
        };
    }

    #[cfg(all(not(gru_active = "quad_mla"), not(gru_tiny)))]
    core::arch::global_asm!(
        include_str!("quad_input_v6m.s"),
        passes!(),
        #[cfg(feature = "sparse")]
        include_str!("quad_sparse_v6m.s"),
        include_str!("quad_v6m.s"),
        #[cfg(feature = "int4")]
        include_str!("quad4_v6m.s"),
        options(raw)
    );
    #[cfg(gru_tiny)]
    core::arch::global_asm!(
        include_str!("quad_input_v6m.s"),
        include_str!("quad_tiny_v6m.s"),
        options(raw)
    );
    #[cfg(gru_active = "quad_mla")]
    core::arch::global_asm!(include_str!("quad_v7m.s"), options(raw));

    // SAFETY: the functions are defined in either file with these arguments; they follow the
    // procedure call standard, read and write only what the arguments describe, and keep nothing.
    unsafe extern "C" {
        /// Reads the blocks of the layer, `align4` of the columns of `x` and of the units of `h`;
        /// writes the new state to `h`, as many values. Writes to [`Layout::gru_scratch`] from
        /// `buffer`. All pointers are multiples of four. Four arguments come in registers.
        #[cfg(not(gru_active = "quad_mla"))]
        pub(super) fn gru_quad_gru(
            blocks: *const u8,
            x: *const i16,
            h: *mut i16,
            buffer: *mut i16,
            layer: *const u8,
            table: *const Table,
        );
        /// The same for half bytes.
        #[cfg(all(not(gru_active = "quad_mla"), feature = "int4"))]
        pub(super) fn gru_quad_gru4(
            blocks: *const u8,
            x: *const i16,
            h: *mut i16,
            buffer: *mut i16,
            layer: *const u8,
            table: *const Table,
        );
        /// The same, but the new state goes to `out`, and nothing else is written.
        #[cfg(gru_active = "quad_mla")]
        pub(super) fn gru_quad_gru(
            blocks: *const u8,
            x: *const i16,
            h: *const i16,
            out: *mut i16,
            layer: *const u8,
            table: *const Table,
        );
        /// Reads the weights and parameters of the layer, and `align4` of the columns of `x`; writes
        /// a value for each row to `out`, `quad_v7m.s` for each of four. All pointers are multiples of
        /// four.
        pub(super) fn gru_quad_dense(
            bytes: *const u8,
            x: *const i16,
            out: *mut i16,
            layer: *const u8,
        );
        /// Copies `count` times eight bytes. Both pointers are multiples of four.
        #[cfg(gru_active = "quad_mla")]
        pub(super) fn gru_quad_copy(from: *const i16, to: *mut i16, count: usize);
        /// Reads `count >= 1` times twelve bytes from a multiple of four and as many values of
        /// `raw`; writes as many to `x`.
        pub(super) fn gru_quad_condition_narrow(
            params: *const u8,
            raw: *const i16,
            x: *mut i16,
            count: usize,
        );
        /// Reads twelve bytes from a multiple of four; the result's upper half is unspecified.
        #[cfg(not(gru_active = "quad_mla"))]
        pub(super) fn gru_quad_condition(params: *const u8, raw: i32) -> i32;
    }
}

/// Whether a pointer is one to whole words.
#[cfg(target_arch = "arm")]
#[inline]
fn aligned<T>(slice: &[T]) -> bool {
    slice.as_ptr().addr() & 3 == 0
}

/// Whether the buffers are what the assembly assumes; the layer's own numbers and bytes are, because
/// the loader has made it.
#[cfg(target_arch = "arm")]
#[inline(always)]
fn gru_is_sound(layer: &GruLayer<'_>, x: &[i16], h: &[i16], beside: &[i16]) -> bool {
    let (input, units) = (align4(layer.input()), align4(layer.units()));
    let scratch = if cfg!(any(gru_active = "quad_mla", gru_tiny)) {
        units
    } else {
        let kept = if SPARSE == Some(known(layer.layout)) {
            units
        } else {
            0
        };
        2 * (input_copy(layer.input(), layer.w_shift) + layer.input() + units) + kept
    };
    let addresses = x.as_ptr().addr() | h.as_ptr().addr() | beside.as_ptr().addr();
    let layout = known(layer.layout);
    (layout == LAYOUT || HALVED == Some(layout) || SPARSE == Some(layout))
        && addresses & 3 == 0
        && x.len() >= input
        && h.len() >= units
        && beside.len() >= scratch
}

/// Whether the buffers are what the assembly assumes; the layer's own bytes are, because the loader
/// has made it.
#[cfg(target_arch = "arm")]
#[inline(always)]
fn dense_is_sound(layer: &DenseLayer<'_>, x: &[i16], out: &[i16]) -> bool {
    let addresses = x.as_ptr().addr() | out.as_ptr().addr();
    known(layer.layout).whole() == LAYOUT
        && addresses & 3 == 0
        && x.len() >= align4(layer.input())
        && out.len() >= align4(layer.units())
}

/// Layers in assembly for cores without dual multiply-accumulate.
#[cfg(target_arch = "arm")]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Quad;

#[cfg(target_arch = "arm")]
impl Kernel for Quad {
    const NAME: &'static str = if cfg!(gru_active = "quad_mla") {
        "quad_mla"
    } else {
        "quad"
    };
    const LAYOUT: Layout = LAYOUT;
    const HALVED: Option<Layout> = HALVED;
    const SPARSE: Option<Layout> = SPARSE;
    const KEEPS_ZEROS: bool = cfg!(gru_tiny);

    #[cfg(gru_active = "quad_mla")]
    #[inline(always)]
    fn gru(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
        if !gru_is_sound(layer, x, h, out) {
            if PORTABLE {
                Portable::gru(layer, x, h, out);
            }
            return;
        }
        #[allow(unsafe_code, reason = "the layer is written in assembly")]
        // SAFETY: `gru_is_sound` has checked the lengths and alignments of the buffers, `GruLayer`
        // promises those of its blocks, its fields are where the assembly has them, and `out` is a
        // unique borrow apart from the others.
        unsafe {
            shim::gru_quad_gru(
                layer.blocks.as_ptr(),
                x.as_ptr(),
                h.as_ptr(),
                out.as_mut_ptr(),
                from_ref(layer).cast(),
                table(),
            )
        }
    }

    #[cfg(not(gru_active = "quad_mla"))]
    #[inline(always)]
    fn update(layer: &GruLayer<'_>, x: &[i16], h: &mut [i16], scratch: &mut [i16]) {
        if !gru_is_sound(layer, x, h, scratch) {
            if PORTABLE
                && let Some((out, more)) = scratch.split_at_mut_checked(align4(layer.units()))
            {
                portable::gru_any(layer, x, h, out, more);
                Self::store(out, h);
            }
            return;
        }
        let run = match HALVED {
            #[cfg(feature = "int4")]
            Some(halved) if layer.layout == halved => shim::gru_quad_gru4,
            _ => shim::gru_quad_gru,
        };
        #[allow(unsafe_code, reason = "the layer is written in assembly")]
        // SAFETY: `gru_is_sound` has checked the lengths and alignments of the buffers, `GruLayer`
        // promises those of its blocks, its fields are where the assembly has them, and `h` and
        // `scratch` are unique borrows apart from each other.
        unsafe {
            run(
                layer.blocks.as_ptr(),
                x.as_ptr(),
                h.as_mut_ptr(),
                scratch.as_mut_ptr(),
                from_ref(layer).cast(),
                table(),
            )
        }
    }

    #[inline(always)]
    fn dense(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
        if !dense_is_sound(layer, x, out) {
            if PORTABLE {
                portable::dense_any(layer, x, out);
            }
            return;
        }
        #[allow(unsafe_code, reason = "the layer is written in assembly")]
        // SAFETY: `dense_is_sound` has checked the lengths and alignments of the buffers,
        // `DenseLayer` promises those of its bytes and has its fields where the assembly has them, and
        // `out` is a unique borrow apart from the others.
        unsafe {
            shim::gru_quad_dense(
                layer.bytes.as_ptr(),
                x.as_ptr(),
                out.as_mut_ptr(),
                from_ref(layer).cast(),
            );
        }
    }

    #[cfg(gru_active = "quad_mla")]
    #[inline]
    fn store(new: &[i16], h: &mut [i16]) {
        // The buffers of a state are such; for others the compiler would link its `memcpy`.
        if new.len() != h.len() || !h.len().is_multiple_of(4) || !aligned(new) || !aligned(h) {
            return;
        }
        #[allow(unsafe_code, reason = "written in assembly")]
        // SAFETY: lengths and alignments have been checked above, and `h` is a unique borrow.
        unsafe {
            shim::gru_quad_copy(new.as_ptr(), h.as_mut_ptr(), h.len() / 4)
        }
    }

    #[inline]
    fn condition_narrow(params: &[u8], raw: &[i16], x: &mut [i16]) {
        let n = raw.len().min(x.len());
        // The loader has checked the alignment.
        if n == 0 || params.len() < FEATURE_PARAMS * n || !aligned(params) {
            return;
        }
        #[allow(unsafe_code, reason = "written in assembly")]
        // SAFETY: lengths and the alignment have been checked above, and `x` is a unique borrow.
        unsafe {
            shim::gru_quad_condition_narrow(params.as_ptr(), raw.as_ptr(), x.as_mut_ptr(), n)
        }
    }

    #[cfg(not(gru_active = "quad_mla"))]
    #[inline]
    fn condition(params: &[u8; FEATURE_PARAMS], raw: i32) -> i16 {
        if !aligned(params) {
            return Portable::condition(params, raw);
        }
        #[allow(unsafe_code, reason = "written in assembly")]
        // SAFETY: the alignment has been checked above.
        unsafe {
            shim::gru_quad_condition(params.as_ptr(), raw) as i16
        }
    }
}

/// The assembly's arithmetic in plain Rust.
#[cfg(test)]
mod twin {
    /// Where the sums of rows A, B, C, D start, so that the bias of 128 is taken off at the end.
    pub(super) fn starts(x: &[i16]) -> [i32; 4] {
        let sum = x.iter().fold(0i32, |sum, &x| sum + x as i32);
        let c = sum.wrapping_mul(-128);
        let b = c.wrapping_add(c << 8);
        let a = c.wrapping_add(b << 8);
        [a, b, c, 0]
    }

    /// The four rows of a run of words, one word a column.
    pub(super) fn rows(words: impl Iterator<Item = i32>, x: &[i16]) -> [i32; 4] {
        let mut sums = starts(x);
        for (w, &x) in words.zip(x) {
            for (sum, shift) in sums.iter_mut().zip([0, 8, 16, 24]) {
                *sum = sum.wrapping_add((w >> shift).wrapping_mul(x as i32));
            }
        }
        separate(sums)
    }

    /// The same with a multiplication for two columns, as `quad_v7m.s` has it.
    pub(super) fn winograd(words: &[i32], head: [i32; 4], x: &[i16]) -> [i32; 4] {
        let pairs = x.chunks_exact(2).map(|x| (x[0] as i32, x[1] as i32));
        let products = pairs
            .clone()
            .fold(0i32, |sum, (x1, x2)| sum.wrapping_add(x1.wrapping_mul(x2)));
        let mut sums = starts(x);
        for (sum, head) in sums.iter_mut().zip(head) {
            *sum = sum.wrapping_sub(products).wrapping_add(head);
        }
        for (w, (x1, x2)) in words.chunks_exact(2).zip(pairs) {
            for (sum, shift) in sums.iter_mut().zip([0, 8, 16, 24]) {
                let (a, b) = (
                    (w[0] >> shift).wrapping_add(x2),
                    (w[1] >> shift).wrapping_add(x1),
                );
                *sum = sum.wrapping_add(a.wrapping_mul(b));
            }
        }
        separate(sums)
    }

    /// Half bytes: `N` rows of words that hold one column each, the top one signed (`quad4_v6m.s`).
    pub(super) fn halves<const N: usize>(words: impl Iterator<Item = i32>, x: &[i16]) -> [i32; N] {
        let topmost = x
            .iter()
            .fold(0i32, |sum, &x| sum + x as i32)
            .wrapping_mul(-8);
        let mut sums = [0i32; N];
        for k in (0..N - 1).rev() {
            sums[k] = topmost.wrapping_add(sums[k + 1] << 4);
        }
        for (w, &x) in words.zip(x) {
            for (k, sum) in sums.iter_mut().enumerate() {
                let shifted = w >> (4 * (k + 8 - N));
                *sum = sum.wrapping_add(shifted.wrapping_mul(x as i32));
            }
        }
        let mut rows = sums;
        for (row, next) in rows.iter_mut().zip(&sums[1..]) {
            *row = row.wrapping_sub(next << 4) << 4;
        }
        rows[N - 1] <<= 4;
        rows
    }

    fn separate([a, b, c, d]: [i32; 4]) -> [i32; 4] {
        [
            a.wrapping_sub(b << 8),
            b.wrapping_sub(c << 8),
            c.wrapping_sub(d << 8),
            d,
        ]
    }

    /// `REQ`.
    pub(super) fn requantize(acc: i32, m: u16) -> i32 {
        let low = (acc as u16 as u32).wrapping_mul(m as u32) >> 16;
        (acc >> 16).wrapping_mul(m as i32).wrapping_add(low as i32)
    }

    /// `CLAMP` of `v + 32768`, and back.
    pub(super) fn sat16(v: i32) -> i16 {
        let u = v.wrapping_add(32768);
        let u = u & !(u >> 31);
        let over = if 65535 >= u as u32 { 0 } else { -1 };
        (((u | over) as u16) ^ 0x8000) as i16
    }

    /// `.Ldense_row`.
    pub(super) fn dense(acc: i32, m: i32, bias: i32) -> i16 {
        let (ah, al) = (acc >> 16, acc as u16 as u32);
        let (mh, ml) = (m as u32 >> 16, m as u16 as u32);
        let t = ah * ml as i32 + (al.wrapping_mul(ml) >> 16) as i32;
        let low = al * mh + t as u16 as u32;
        let high = ah * mh as i32 + (t >> 16) + (low >> 16) as i32;
        sat16(high.wrapping_add(bias))
    }
}

#[cfg(test)]
mod tests {
    use super::twin;
    use crate::kernel::portable::{dot, mix};
    use crate::layout::Layout;
    use crate::quant::{requantize, requantize_dense, sat16};
    use crate::random::SplitMix;
    use std::vec;
    use std::vec::Vec;

    /// Fewer for an interpreter.
    const RANDOM_CASES: usize = if cfg!(miri) { 500 } else { 1_000_000 };

    const EXTREMES: [i32; 11] = [
        i32::MIN,
        i32::MIN + 1,
        -65537,
        -65536,
        -32769,
        -1,
        0,
        1,
        32768,
        65536,
        i32::MAX,
    ];

    /// Four rows of `n` weights as the layout has them, against the plain products.
    fn check_rows(weights: &[Vec<i8>], x: &[i16]) {
        let n = x.len();
        let columns = Layout::Quad.columns(n);
        let mut bytes: Vec<u8> = vec![0; 4 * columns];
        for (row, weights) in weights.iter().enumerate() {
            for column in 0..columns {
                let w = weights.get(column).copied().unwrap_or(0);
                let place = Layout::Quad.dense_weight(n, row, column);
                bytes[place.byte] = place.encode(0, w);
            }
        }
        let words: Vec<i32> = bytes
            .chunks_exact(4)
            .map(|w| i32::from_le_bytes(w.try_into().unwrap()))
            .collect();
        let mut padded = x.to_vec();
        padded.resize(columns, 0);
        let rows = twin::rows(words.iter().copied(), &padded);
        let head = crate::layout::winograd_head(&bytes);
        assert_eq!(rows, twin::winograd(&words, head, &padded));
        for (row, weights) in rows.iter().zip(weights) {
            let weights: Vec<u8> = weights.iter().map(|&w| w as u8).collect();
            assert_eq!(*row, dot(&weights, x));
        }
    }

    #[test]
    fn mixed_rows_separate_exactly_for_all_lengths() {
        let mut rng = SplitMix(11);
        // The interpreter is a thousand times slower.
        let (every, rounds) = if cfg!(miri) { (31, 2) } else { (1, 40) };
        for n in (0..=67).step_by(every) {
            for round in 0..rounds {
                let extreme = round % 2 == 0;
                let weight = |rng: &mut SplitMix| match extreme {
                    true => [-127, 127][rng.below(2)],
                    false => rng.range(-127, 127) as i8,
                };
                let weights: Vec<Vec<i8>> = (0..4)
                    .map(|_| (0..n).map(|_| weight(&mut rng)).collect())
                    .collect();
                let x: Vec<i16> = (0..n)
                    .map(|_| match extreme {
                        true => [i16::MIN, i16::MAX][rng.below(2)],
                        false => rng.bits() as i16,
                    })
                    .collect();
                check_rows(&weights, &x);
            }
        }
        // The largest sums that the loader lets pass: 516 weights of 127.
        let most = vec![vec![127i8; 516]; 4];
        check_rows(&most, &[i16::MIN; 516]);
        // Sums of the other sign tell an interpreter nothing new.
        if !cfg!(miri) {
            check_rows(&most, &[i16::MAX; 516]);
        }
    }

    #[test]
    fn rows_of_half_bytes_separate_exactly_for_all_lengths() {
        let mut rng = SplitMix(15);
        // For the interpreter a few lengths, and none of 585 weights.
        let (every, rounds) = if cfg!(miri) { (31, 2) } else { (1, 40) };
        let longest = if cfg!(miri) { 94 } else { 585 };
        for n in (1..=67).step_by(every).chain([longest]) {
            for round in 0..rounds {
                let extreme = round % 2 == 0;
                let pairs = Layout::Quad4.columns(n);
                let mut x: Vec<i16> = (0..n)
                    .map(|_| match extreme {
                        true => [i16::MIN, i16::MAX][rng.below(2)],
                        false => rng.bits() as i16,
                    })
                    .collect();
                x.resize(pairs, 0);
                let mut bytes = vec![0; Layout::Quad4.gru_part_len(n)];
                let mut want = [[0i32; 4]; 3];
                let steady = [-112, 112][rng.below(2)];
                for (gate, want) in want.iter_mut().enumerate() {
                    for (unit, want) in want.iter_mut().enumerate() {
                        for (column, &x) in x.iter().enumerate() {
                            if column >= Layout::Quad4.gru_columns(gate, n) {
                                continue;
                            }
                            let w = match (column < n, extreme) {
                                (false, _) => 0,
                                (true, true) if n > 67 => steady,
                                (true, true) => [-112, 112][rng.below(2)],
                                (true, false) => 16 * rng.range(-7, 7) as i8,
                            };
                            let layout = Layout::Quad4;
                            let place = layout.gru_weight((n, 0), false, gate, unit, column);
                            bytes[place.byte] = place.encode(bytes[place.byte], w);
                            *want += w as i32 * x as i32;
                        }
                    }
                }
                let words: Vec<i32> = bytes
                    .chunks_exact(4)
                    .map(|w| i32::from_le_bytes(w.try_into().unwrap()))
                    .collect();
                let (candidate, gates) = words.split_at(pairs / 2);
                let [ra, rb, rc, rd, za, zb, zc, zd] = twin::halves(gates.iter().copied(), &x[..n]);
                assert_eq!([[ra, rb, rc, rd], [za, zb, zc, zd]], want[..2], "{n}");
                let candidate = candidate.iter().flat_map(|&w| [w, w << 16]);
                assert_eq!(twin::halves(candidate, &x), want[2], "{n}");
            }
        }
    }

    #[test]
    fn split_multiplications_are_exact() {
        let mut rng = SplitMix(12);
        let mut cases: Vec<(i32, i32)> = Vec::new();
        for a in EXTREMES {
            for m in [1, 2, 32766, 32767, 65535, 65536, i32::MAX - 1, i32::MAX] {
                cases.push((a, m));
            }
        }
        cases.extend((0..RANDOM_CASES).map(|_| {
            let shift = rng.below(31);
            let acc = rng.bits() as i32 >> rng.below(31);
            (acc, ((rng.bits() as i32 & i32::MAX) >> shift).max(1))
        }));
        for (acc, m) in cases {
            let short = (m & 32767).max(1) as u16;
            assert_eq!(
                twin::requantize(acc, short),
                requantize(acc, short),
                "{acc} {short}"
            );
            let bias = (acc ^ m) >> 2;
            let want = requantize_dense(acc, m, bias);
            assert_eq!(twin::dense(acc, m, bias), want, "{acc} {m}");
        }
    }

    #[test]
    fn clamping_without_a_branch_saturates() {
        let mut rng = SplitMix(13);
        let random = (0..RANDOM_CASES).map(|_| rng.bits() as i32 >> 1);
        // A pre-activation is below 2^31 - 2^15 in magnitude: two products below 2^30, a bias.
        for v in EXTREMES.map(|v| v >> 1).into_iter().chain(random) {
            assert_eq!(twin::sat16(v), sat16(v), "{v}");
        }
        for v in (-100_000..100_000).step_by(if cfg!(miri) { 997 } else { 1 }) {
            assert_eq!(twin::sat16(v), sat16(v), "{v}");
        }
    }

    #[test]
    fn one_multiplication_mixes() {
        let mut rng = SplitMix(14);
        for _ in 0..RANDOM_CASES {
            let (z, h, n) = (rng.below(65536) as i32, rng.bits(), rng.bits());
            let (h, n) = (h as i16, n as i16);
            let product = z.wrapping_mul(h as i32 - n as i32);
            // The last bit that the shift drops is the carry.
            let sum = (product >> 16) + (product >> 15 & 1) + n as i32;
            assert_eq!(sum as i16, mix(z, h, n));
        }
    }
}
