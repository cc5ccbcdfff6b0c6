//! Weights of half a byte, layout [`Layout::Pair4`].
//!
//! A halfword of a word holds one column of four rows; the top one is signed, the others are biased
//! by 8. Over two columns that gives eight products with seven instructions:
//!
//! ```text
//! mixed += w · x                  SMLAD     Σ (4096·D + 256·C' + 16·B' + A')·x   modulo 2^32
//! b      = w AND 00F000F0         AND
//! sum_b += b · x                  SMLAD     Σ 16·B'·x
//! dc     = SXTB16 w, ROR #8
//! sum_dc += dc · x                SMLAD     Σ (16·D + C')·x
//! d      = dc AND NOT 000F000F    BIC
//! sum_d += d · x                  SMLAD     Σ 16·D·x
//! ```
//!
//! The weights are sixteen times what is stored, so `sum_d` and `sum_b − 128·Σ x` are rows as they
//! are; `16·(sum_dc − sum_d) − 128·Σ x` is that of C and
//! `16·(mixed − 256·sum_dc − sum_b) − 128·Σ x` that of A: exact in wrapping arithmetic, because the
//! loader has proved that the rows themselves fit 32 bits. The candidate's rows are two, and the
//! lower bytes of their halfwords are the next two columns.

use super::{Chain, GruFrame};
use crate::kernel::{PORTABLE, portable};
use crate::layout::Layout;
use crate::model::GruLayer;

/// That of half bytes: 27 instructions of four bytes for four columns.
const CHAIN: Chain = Chain {
    layout: Layout::Pair4,
    columns: 4,
    links: 16,
    code: 108,
};

/// One step of a layer.
#[inline]
pub(super) fn gru(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
    let frame = GruFrame::with(&CHAIN, layer, x, h, out);
    if frame.is_none_or(|frame| !shim::gru(frame)) && PORTABLE {
        portable::gru_any(layer, x, h, out, &mut []);
    }
}

#[cfg(gru_dsp)]
#[allow(
    unsafe_code,
    reason = "stable Rust has no other way to the DSP instructions"
)]
mod shim {
    use super::{CHAIN, GruFrame};
    use core::arch::naked_asm;

    /// Runs a layer.
    #[inline(always)]
    pub(super) fn gru(frame: GruFrame) -> bool {
        // SAFETY: only `GruFrame::with` makes frames, from live slices that outlive this call, and
        // it has checked that they are aligned and as long as the routine's counts assume; this
        // one's are those of this module's chain.
        unsafe { gru_layer(frame) };
        true
    }

    /// One step of a layer.
    ///
    /// # Safety
    /// `frame` must come from [`GruFrame::with`] and this module's chain, and its slices must still
    /// be borrowed.
    //
    // Registers in the chain: r0 weights, r1 x, r4 mixed, r2 sum_b, r5 sum_dc, r3 sum_d of r and z;
    // r6 and r7 sum_dc and sum_d of the candidate; r8 and r9 two x each, r10-r12 weights.
    #[unsafe(naked)]
    unsafe extern "C" fn gru_layer(frame: GruFrame) {
        naked_asm!(
            cpu!(),
            gru_start!(),
            // What the bias of a gate's rows comes to.
            "ldr r2, [sp, #GRU_U_CORR]",
            "ldr r3, [sp, #GRU_W_SHIFT]",
            "lsl r4, r3",
            "add r4, r2",
            "str r4, [sp, #GRU_JOINT]",
            "movs r2, #1",
            "cmp r2, #0",

            // ---- a block: two units; the input part first, its first four columns here
            // The flags say what comes after the chain, as with whole bytes.
            "30:",
            "ldr.w r1, [sp, #GRU_X]",
            "ldr.w r11, [r0, #4]",
            "ldr.w r12, [r0, #8]",
            "ldr.w r10, [r0], #12",
            "ldr.w r9, [r1, #4]",
            "ldr.w r8, [r1], #8",
            "smuad r4, r10, r8",
            "and lr, r10, #0x00f000f0",
            "smuad r2, lr, r8",
            "sxtb16 r10, r10, ror #8",
            "smuad r5, r10, r8",
            "bic r10, r10, #0x000f000f",
            "smuad r3, r10, r8",
            "smlad r4, r11, r9, r4",
            "and lr, r11, #0x00f000f0",
            "smlad r2, lr, r9, r2",
            "sxtb16 r11, r11, ror #8",
            "smlad r5, r11, r9, r5",
            "bic r11, r11, #0x000f000f",
            "smlad r3, r11, r9, r3",
            "sxtb16 lr, r12, ror #8",
            "smuad r6, lr, r8",
            "bic lr, lr, #0x000f000f",
            "smuad r7, lr, r8",
            "ldr.w lr, [sp, #GRU_X_ENTRY]",
            "sxtb16 r12, r12",
            "smlad r6, r12, r9, r6",
            "bic r12, r12, #0x000f000f",
            "smlad r7, r12, r9, r7",
            "bx lr",

            // ---- the chain
            ".p2align 2",
            "34:",
            ".rept {chain}",
            "ldr.w r11, [r0, #4]",
            "ldr.w r12, [r0, #8]",
            "ldr.w r10, [r0], #12",
            "ldr.w r9, [r1, #4]",
            "ldr.w r8, [r1], #8",
            "smlad r4, r10, r8, r4",
            "and lr, r10, #0x00f000f0",
            "smlad r2, lr, r8, r2",
            "sxtb16 r10, r10, ror #8",
            "smlad r5, r10, r8, r5",
            "bic r10, r10, #0x000f000f",
            "smlad r3, r10, r8, r3",
            "smlad r4, r11, r9, r4",
            "and lr, r11, #0x00f000f0",
            "smlad r2, lr, r9, r2",
            "sxtb16 r11, r11, ror #8",
            "smlad r5, r11, r9, r5",
            "bic r11, r11, #0x000f000f",
            "smlad r3, r11, r9, r3",
            "sxtb16 lr, r12, ror #8",
            "smlad r6, lr, r8, r6",
            "bic lr, lr, #0x000f000f",
            "smlad r7, lr, r8, r7",
            "sxtb16 r12, r12",
            "smlad r6, r12, r9, r6",
            "bic r12, r12, #0x000f000f",
            "smlad r7, r12, r9, r7",
            ".endr",
            "35:",
            "bls.w 36f",

            // ---- the input part is done: keep the candidate's sums, go on with the recurrent part
            "sub.w r6, r6, r7",
            "str r7, [sp, #GRU_SUMS]",
            "ldr.w r8, [sp, #GRU_X_CORR]",
            "ldr.w r9, [sp, #GRU_W_SHIFT]",
            "ldr.w r1, [sp, #GRU_U]",
            "ldr.w r11, [r0, #4]",
            "ldr.w r12, [r0, #8]",
            "ldr.w r10, [r0], #12",
            "add.w r6, r8, r6, lsl #4",
            "str r6, [sp, #GRU_SUMS + 4]",
            "lsl.w r4, r4, r9",
            "lsl.w r2, r2, r9",
            "lsl.w r5, r5, r9",
            "lsl.w r3, r3, r9",
            "ldr.w r9, [r1, #4]",
            "ldr.w r8, [r1], #8",
            "smlad r4, r10, r8, r4",
            "and lr, r10, #0x00f000f0",
            "smlad r2, lr, r8, r2",
            "sxtb16 r10, r10, ror #8",
            "smlad r5, r10, r8, r5",
            "bic r10, r10, #0x000f000f",
            "smlad r3, r10, r8, r3",
            "smlad r4, r11, r9, r4",
            "and lr, r11, #0x00f000f0",
            "smlad r2, lr, r9, r2",
            "sxtb16 r11, r11, ror #8",
            "smlad r5, r11, r9, r5",
            "bic r11, r11, #0x000f000f",
            "smlad r3, r11, r9, r3",
            "sxtb16 lr, r12, ror #8",
            "smuad r6, lr, r8",
            "bic lr, lr, #0x000f000f",
            "smuad r7, lr, r8",
            "ldr.w lr, [sp, #GRU_U_ENTRY]",
            "sxtb16 r12, r12",
            "smlad r6, r12, r9, r6",
            "bic r12, r12, #0x000f000f",
            "smlad r7, r12, r9, r7",
            "movs.w r12, #0",
            "bx lr",

            gru_passes!(),

            // ---- the rows
            "36: bmi.w 39b",
            "ldr.w r8, [sp, #GRU_JOINT]",
            "ldr.w r9, [sp, #GRU_U_CORR]",
            "sub.w r4, r4, r5, lsl #8",
            "sub.w r4, r4, r2",
            "sub.w r5, r5, r3",
            "sub.w r6, r6, r7",
            "add.w r2, r2, r8",
            "add.w r4, r8, r4, lsl #4",
            "add.w r5, r8, r5, lsl #4",
            "add.w r6, r9, r6, lsl #4",
            gru_gates!(),
            "add sp, #40",
            "pop {{r4-r11, pc}}",
            chain = const CHAIN.links,
        )
    }
}

/// Other cores have no such instructions; the portable kernel does the work.
#[cfg(not(gru_dsp))]
mod shim {
    use super::GruFrame;

    pub(super) fn gru(_: GruFrame) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{correction, pairs, smlad, sxtb16_ror8, values, words};
    use super::*;
    use crate::Model;
    use crate::layout::GATES;
    use crate::model::Layer;
    use crate::random::{self, SplitMix};
    use crate::writer::{Aligned, QuantGru, QuantLayer, write};

    /// The chain's sums of a part, in the order of its registers r2 to r7.
    fn part(mut r: [u32; 6], w: &[u32], x: &[u32]) -> [u32; 6] {
        for (w, x) in w.chunks_exact(3).zip(x.chunks_exact(2)) {
            for (&w, &x) in w.iter().zip(x) {
                let dc = sxtb16_ror8(w);
                r[2] = smlad(w, x, r[2]);
                r[0] = smlad(w & 0x00f0_00f0, x, r[0]);
                r[3] = smlad(dc, x, r[3]);
                r[1] = smlad(dc & !0x000f_000f, x, r[1]);
            }
            for (n, x) in [sxtb16_ror8(w[2]), sxtb16_ror8(w[2] << 8)]
                .into_iter()
                .zip(x)
            {
                r[4] = smlad(n, *x, r[4]);
                r[5] = smlad(n & !0x000f_000f, *x, r[5]);
            }
        }
        r
    }

    /// The rows of a block as the routine takes them apart: gates of A and B, candidate's input part of both,
    /// its recurrent part of both.
    fn rows(block: &[u32], x: &[u32], h: &[u32], w_shift: u8) -> [u32; 8] {
        let (w, u) = block.split_at(3 * x.len() / 2);
        let (xc, hc) = (correction(x), correction(h));
        let joint = (xc << w_shift).wrapping_add(hc);
        let [r2, r3, r4, r5, r6, r7] = part([0; 6], w, x);
        let candidate = |sum: u32, a: u32, c: u32| [a, c.wrapping_add(sum.wrapping_sub(a) << 4)];
        let [na, nb] = candidate(r6, r7, xc);
        let gates = [r2, r3, r4, r5].map(|sum| sum << w_shift);
        let [r2, r3, r4, r5, r6, r7] = part([gates[0], gates[1], gates[2], gates[3], 0, 0], u, h);
        let mixed = r4.wrapping_sub(r5 << 8).wrapping_sub(r2);
        let [ua, ub] = candidate(r6, r7, hc);
        let sixteen = |sum: u32| joint.wrapping_add(sum << 4);
        let (rz, zb) = (sixteen(r5.wrapping_sub(r3)), sixteen(mixed));
        [r3, rz, r2.wrapping_add(joint), zb, na, nb, ua, ub]
    }

    fn dot(w: &[i8], x: &[i16]) -> i64 {
        w.iter().zip(x).map(|(&w, &x)| w as i64 * x as i64).sum()
    }

    /// What the rows have to be.
    fn wanted(g: &QuantGru, unit: usize, x: &[i16], h: &[i16]) -> [i64; 4] {
        let (i, n) = (g.input, g.header.units as usize);
        let part = |gate: usize| match unit < n {
            true => {
                let row = gate * n + unit;
                (dot(&g.w[row * i..][..i], x), dot(&g.u[row * n..][..n], h))
            }
            false => (0, 0),
        };
        let [r, z, (nx, nh)]: [_; GATES] = core::array::from_fn(part);
        let joint = |(w, u): (i64, i64)| (w << g.header.w_shift) + u;
        [joint(r), joint(z), nx, nh]
    }

    #[test]
    fn rows_separate_exactly_in_every_length() {
        let mut rng = SplitMix(31);
        let (longest, every, rounds) = if cfg!(miri) { (5, 3, 1) } else { (67, 1, 300) };
        for n in (1..=longest).step_by(every) {
            for (input, units) in [(n, 1 + n * 7 % 11), (1 + n * 5 % 13, n)] {
                let mut model = random::model(rng.bits(), input, &[units], 1);
                random::halve(&mut model);
                if let QuantLayer::Gru(g) = &mut model.layers[0] {
                    g.header.w_shift = rng.range(0, 3) as u8;
                    for row in g.w.chunks_mut(input).chain(g.u.chunks_mut(units)) {
                        if rng.below(3) == 0 {
                            row.fill([112, -112][rng.below(2)]);
                        }
                    }
                }
                let bytes = Aligned::new(&write(&model, Layout::Pair4).unwrap());
                let loaded = Model::load(&bytes).unwrap();
                let (Layer::Gru(layer), QuantLayer::Gru(g)) =
                    (&loaded.layers()[0], &model.layers[0])
                else {
                    panic!("a GRU layer");
                };
                for _ in 0..rounds {
                    let (x, h) = (values(&mut rng, input), values(&mut rng, units));
                    let (xw, hw) = (pairs(&x), pairs(&h));
                    let block_len = Layout::Pair4.gru_block_len(input, units);
                    for (b, block) in layer.blocks.chunks_exact(block_len).enumerate() {
                        let found = rows(&words(block), &xw, &hw, g.header.w_shift);
                        let [ra, za, rb, zb, na, nb, ua, ub] = found.map(|v| v as i32 as i64);
                        assert_eq!(
                            [ra, za, na, ua],
                            wanted(g, 2 * b, &x, &h),
                            "{input} {units}"
                        );
                        assert_eq!(
                            [rb, zb, nb, ub],
                            wanted(g, 2 * b + 1, &x, &h),
                            "{input} {units}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn frames_refuse_what_the_routine_could_not_run() {
        let mut model = random::model(3, 5, &[7], 1);
        random::halve(&mut model);
        let bytes = Aligned::new(&write(&model, Layout::Pair4).unwrap());
        let loaded = Model::load(&bytes).unwrap();
        let Layer::Gru(layer) = &loaded.layers()[0] else {
            panic!("a GRU layer");
        };
        #[repr(align(4))]
        struct Words([i16; 16]);
        let (a, mut b) = (Words([0; 16]), Words([0; 16]));
        let mut sound = |x: &[i16], h: &[i16], out: core::ops::Range<usize>, l: &GruLayer<'_>| {
            GruFrame::with(&CHAIN, l, x, h, &mut b.0[out]).is_some()
        };
        assert!(sound(&a.0[..8], &a.0[..8], 0..8, layer));
        assert!(!sound(&a.0[..7], &a.0[..8], 0..8, layer));
        assert!(!sound(&a.0[..8], &a.0[..7], 0..8, layer));
        assert!(!sound(&a.0[..8], &a.0[..8], 0..7, layer));
        assert!(!sound(&a.0[1..9], &a.0[..8], 0..8, layer));
        let pair = GruLayer {
            layout: Layout::Pair,
            ..*layer
        };
        assert!(!sound(&a.0[..8], &a.0[..8], 0..8, &pair));
    }
}
