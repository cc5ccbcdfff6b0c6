//! Every kernel that this build has, and the portable one in every layout, against the portable one
//! in rows (which `roundtrip.rs` holds against its definition): layer by layer, bit for bit.
#![cfg(feature = "std")]

use gru_core::activation::Activation;
use gru_core::artifact::{DenseHeader, GruHeader};
use gru_core::kernel::portable::Portable;
use gru_core::kernel::{Kernel, host::Host};
use gru_core::layout::{Layout, align4};
use gru_core::random::{self, SplitMix};
use gru_core::writer::{Aligned, QuantLayer, QuantModel, relayed, write};
use gru_core::{DenseLayer, GruLayer, Layer, Model};

/// Activations in a buffer as the kernels' contract has it: zeros up to a multiple of four.
fn buffer(n: usize, mut value: impl FnMut(usize) -> i16) -> Vec<i16> {
    let mut values: Vec<i16> = (0..n).map(&mut value).collect();
    values.resize(align4(n), 0);
    values
}

/// One step of a layer, for `K` rearranged to its layout.
fn run<K: Kernel>(layer: &Layer<'_>, x: &[i16], h: &[i16]) -> Vec<i16> {
    let mut out = vec![0; align4(layer.units())];
    match layer {
        Layer::Gru(g) => K::gru(g, x, h, &mut out),
        Layer::Dense(d) => K::dense(d, x, &mut out),
    }
    out
}

/// Both layers of `model` (a GRU and a Dense layer) with the activations of `cases`.
fn compare<K: Kernel>(
    model: &QuantModel,
    rng: &mut SplitMix,
    steps: usize,
    value: impl Fn(&mut SplitMix, usize) -> i16,
) {
    let bytes = Aligned::new(&write(model, Layout::Rows).unwrap());
    let rows = Model::load(&bytes).unwrap();
    let bytes = relayed(&rows, K::LAYOUT).unwrap();
    let own = Model::load(&bytes).unwrap();
    assert_eq!(own.layout(), K::LAYOUT);
    for _ in 0..steps {
        let mut input = rows.features();
        for (reference, layer) in rows.layers().iter().zip(own.layers()) {
            let x = buffer(input, |i| value(rng, i));
            let h = buffer(layer.units(), |i| value(rng, i));
            assert_eq!(
                run::<K>(layer, &x, &h),
                run::<Portable>(reference, &x, &h),
                "{} {} -> {}",
                K::NAME,
                input,
                layer.units()
            );
            input = layer.units();
        }
    }
}

fn any(rng: &mut SplitMix, _: usize) -> i16 {
    rng.bits() as i16
}

/// All input lengths 1 to 67 with all numbers of units 1 to 67 on a diagonal pattern.
fn lengths<K: Kernel>() {
    let mut rng = SplitMix(1);
    // An interpreter takes milliseconds a weight: up to two panels of eight units and one more, every remainder of four inputs.
    let (longest, most, every, steps) = if cfg!(miri) {
        (5, 17, 17, 1)
    } else {
        (67, 67, 5, 2)
    };
    for input in 1..=longest {
        for units in (1..=most).filter(|units| (units + 3 * input) % every == 0) {
            let model = random::model(rng.bits(), input, &[units], 1 + units % 13);
            compare::<K>(&model, &mut rng, steps, any);
        }
    }
}

/// The largest `w_shift` with which no sum of weights can overflow.
fn largest_shift(input: usize, units: usize) -> u8 {
    let fits = |shift: &u8| 127 * ((input << shift) + units) <= 65535;
    (0..=7).rev().find(fits).unwrap_or(0)
}

/// The largest weights, multipliers, biases and activations of either sign.
fn extremes<K: Kernel>() {
    let mut rng = SplitMix(2);
    let shapes = [(1, 1), (3, 8), (64, 9), (128, 130), (7, 255), (300, 16)];
    let (few, steps) = if cfg!(miri) { (2, 1) } else { (6, 20) };
    for (input, units) in shapes.into_iter().take(few) {
        for sign in 0..4 {
            let mut model = random::model(3, input, &[units], 5);
            let mut bit = |mask: usize| sign & mask == 0 || (sign == 3 && rng.bits() & 1 == 0);
            for layer in &mut model.layers {
                match layer {
                    QuantLayer::Gru(g) => {
                        g.header.nh_shift = 4;
                        g.header.w_shift = largest_shift(input, units);
                        let weights = g.w.iter_mut().chain(&mut g.u);
                        weights.for_each(|w| *w = if bit(1) { 127 } else { -127 });
                        g.mw.iter_mut().chain(&mut g.mu).for_each(|m| *m = 32767);
                        g.b.iter_mut()
                            .for_each(|b| *b = if bit(2) { i16::MAX } else { i16::MIN });
                    }
                    QuantLayer::Dense(d) => {
                        d.w.iter_mut()
                            .for_each(|w| *w = if bit(1) { 127 } else { -127 });
                        d.m.fill(i32::MAX);
                        d.b.iter_mut()
                            .for_each(|b| *b = if bit(2) { 1 << 29 } else { -(1 << 29) });
                    }
                }
            }
            let mut rng = SplitMix(4);
            // Each one is written, loaded and rearranged, which takes an interpreter seconds.
            let every = if cfg!(miri) { 5 } else { 1 };
            for x in [i16::MIN, i16::MAX, -1, 0, 1].into_iter().step_by(every) {
                compare::<K>(&model, &mut rng, 1, |_, _| x);
            }
            let either = |rng: &mut SplitMix, _| [i16::MIN, i16::MAX][(rng.bits() & 1) as usize];
            compare::<K>(&model, &mut rng, steps, either);
        }
    }
}

/// `cases` random layers and steps.
fn random_cases<K: Kernel>(seed: u64, cases: usize) {
    let mut rng = SplitMix(seed);
    let (most, steps) = if cfg!(miri) { (12, 2) } else { (40, 20) };
    for _ in 0..cases / steps {
        let input = rng.range(1, most) as usize;
        let units = rng.range(1, most) as usize;
        let mut header = GruHeader::new(units as u16);
        header.nh_shift = rng.range(0, 4) as u8;
        header.w_shift = rng.range(0, 7) as u8;
        let mut model = random::model(rng.bits(), input, &[units], 2);
        let mut gru = random::gru(&mut rng, input, header);
        // Every exponent of the multipliers, so that sums from zero to saturation occur.
        for m in gru.mw.iter_mut().chain(&mut gru.mu) {
            *m = ((rng.bits() as u16 & 0x7fff) >> rng.range(0, 14)).max(1);
        }
        gru.b.iter_mut().for_each(|b| *b = rng.bits() as i16);
        let header = DenseHeader {
            units: rng.range(1, 20) as u16,
            activation: Activation::Linear,
            frac: 5,
        };
        let mut dense = random::dense(&mut rng, units, header);
        for m in &mut dense.m {
            *m = ((rng.bits() as i32 & i32::MAX) >> rng.range(0, 30)).max(1);
        }
        model.layers = vec![QuantLayer::Gru(gru), QuantLayer::Dense(dense)];
        compare::<K>(&model, &mut rng, steps, any);
    }
}

macro_rules! kernel_suite {
    ($name:ident, $kernel:ty) => {
        mod $name {
            use super::*;

            #[test]
            fn all_lengths() {
                lengths::<$kernel>();
            }

            #[test]
            fn extreme_values() {
                extremes::<$kernel>();
            }

            #[test]
            fn ten_thousand_random_cases() {
                random_cases::<$kernel>(5, if cfg!(miri) { 2 } else { 10_000 });
            }

            #[test]
            #[ignore = "minutes: run in release with --ignored"]
            fn a_million_random_cases() {
                random_cases::<$kernel>(6, 1_000_000);
            }
        }
    };
}

/// The portable kernel in the layouts made for other kernels.
macro_rules! portable_in {
    ($name:ident, $layout:expr) => {
        struct $name;

        impl Kernel for $name {
            const NAME: &'static str = stringify!($name);
            const LAYOUT: Layout = $layout;

            fn gru(layer: &GruLayer<'_>, x: &[i16], h: &[i16], out: &mut [i16]) {
                Portable::gru(layer, x, h, out);
            }

            fn dense(layer: &DenseLayer<'_>, x: &[i16], out: &mut [i16]) {
                Portable::dense(layer, x, out);
            }
        }
    };
}

portable_in!(PortablePair, Layout::Pair);
portable_in!(PortableQuad, Layout::Quad);
portable_in!(PortableVector, Layout::Vector);
portable_in!(PortableWinograd, Layout::Winograd);
portable_in!(PortableLanes, Layout::Lanes);

kernel_suite!(portable_pair, PortablePair);
kernel_suite!(portable_quad, PortableQuad);
kernel_suite!(portable_winograd, PortableWinograd);
kernel_suite!(portable_vector, PortableVector);
kernel_suite!(portable_lanes, PortableLanes);
kernel_suite!(host, Host);

#[test]
fn the_host_runs_its_own_kernel() {
    assert_eq!(gru_core::kernel::ACTIVE, "host");
    assert_eq!(gru_core::kernel::PREFERRED_LAYOUT, Layout::Lanes);
}
