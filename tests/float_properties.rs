//! The f32 path on random models: streaming equals the window bit for bit, masks, typed errors.

use gru_core::float::{
    Activation, BidirectionalF32, Buffer, DenseF32, Dim, FloatError, GruF32, GruWeights, LayerF32,
    MAX_DIM, MaskedOutput, Merge, ModelF32, OutputOrder, Reset, Window,
};
use proptest::prelude::*;

/// Numbers in `−scale..scale` from a seed; the same on every machine.
fn numbers(seed: &mut u64, count: usize, scale: f32) -> Vec<f32> {
    (0..count)
        .map(|_| {
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            ((*seed >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
        })
        .collect()
}

/// What a random layer is; weights come from a seed.
#[derive(Debug, Clone)]
enum Plan {
    Gru {
        units: usize,
        reset_before: bool,
        bias: bool,
        f: Activation,
        g: Activation,
        clip: Option<f32>,
        learned: bool,
    },
    Dense {
        units: usize,
        activation: Activation,
    },
}

struct Weights {
    w: Vec<f32>,
    u: Vec<f32>,
    b_in: Vec<f32>,
    b_rec: Vec<f32>,
    h0: Vec<f32>,
}

fn weights(plan: &Plan, input: usize, seed: &mut u64) -> Weights {
    match plan {
        Plan::Gru {
            units,
            bias,
            learned,
            ..
        } => {
            let h = *units;
            let biases = if *bias { 3 * h } else { 0 };
            Weights {
                w: numbers(seed, 3 * h * input, 1.0),
                u: numbers(seed, 3 * h * h, 1.2 / (h as f32).sqrt()),
                b_in: numbers(seed, biases, 0.5),
                b_rec: numbers(seed, biases, 0.5),
                h0: numbers(seed, if *learned { h } else { 0 }, 0.9),
            }
        }
        Plan::Dense { units, .. } => Weights {
            w: numbers(seed, units * input, 1.0),
            u: vec![],
            b_in: numbers(seed, *units, 0.5),
            b_rec: vec![],
            h0: vec![],
        },
    }
}

fn layer<'a>(plan: &Plan, w: &'a Weights, input: usize, all: bool) -> LayerF32<'a> {
    match plan {
        Plan::Gru {
            units,
            reset_before,
            f,
            g,
            clip,
            ..
        } => {
            let reset = if *reset_before {
                Reset::Before
            } else {
                Reset::After
            };
            let weights = GruWeights {
                w: &w.w,
                u: &w.u,
                b_in: &w.b_in,
                b_rec: &w.b_rec,
            };
            let gru = GruF32::new(input, *units, weights)
                .and_then(|l| l.with_activations(*f, *g))
                .and_then(|l| l.with_clip(*clip))
                .and_then(|l| l.with_initial_state(&w.h0))
                .expect("sizes fit");
            LayerF32::Gru(gru.with_reset(reset).with_return_sequences(all))
        }
        Plan::Dense { units, activation } => LayerF32::Dense(
            DenseF32::new(input, *units, &w.w, &w.b_in, *activation).expect("sizes fit"),
        ),
    }
}

fn activation() -> impl Strategy<Value = Activation> {
    prop::sample::select(vec![
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::HardSigmoid,
        Activation::HardTanh,
        Activation::Softsign,
        Activation::Relu6,
        Activation::Linear,
        Activation::Relu,
    ])
}

fn gate() -> impl Strategy<Value = Activation> {
    prop_oneof![
        3 => Just(Activation::Sigmoid),
        1 => Just(Activation::HardSigmoid),
        1 => Just(Activation::Tanh),
    ]
}

fn gru_plan() -> impl Strategy<Value = Plan> {
    let usual = prop_oneof![2 => Just(Activation::Tanh), 1 => activation()];
    (
        1..=19_usize,
        any::<bool>(),
        any::<bool>(),
        usual,
        gate(),
        prop::option::weighted(0.2, 0.1..3.0_f32),
        any::<bool>(),
    )
        .prop_map(
            |(units, reset_before, bias, f, g, clip, learned)| Plan::Gru {
                units,
                reset_before,
                bias,
                f,
                g,
                clip,
                learned,
            },
        )
}

fn plan() -> impl Strategy<Value = Plan> {
    let dense = (1..=11_usize, activation())
        .prop_map(|(units, activation)| Plan::Dense { units, activation });
    prop_oneof![3 => gru_plan(), 1 => dense]
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// One step at a time, in two windows, and in one window: the same bits.
    #[test]
    fn streaming_equals_the_window(
        plans in prop::collection::vec(plan(), 1..=4),
        input in 1..=17_usize,
        steps in 1..=12_usize,
        cut in 0..=12_usize,
        last_only in any::<bool>(),
        seed in 1..u64::MAX,
    ) {
        let mut seed = seed;
        let mut width = input;
        let mut built = Vec::new();
        for plan in &plans {
            built.push((width, weights(plan, width, &mut seed)));
            width = match plan { Plan::Gru { units, .. } | Plan::Dense { units, .. } => *units };
        }
        let last_gru = plans.iter().rposition(|p| matches!(p, Plan::Gru { .. }));
        let layers: Vec<_> = plans.iter().zip(&built).enumerate()
            .map(|(k, (p, (width, w)))| layer(p, w, *width, !(last_only && Some(k) == last_gru)))
            .collect();
        let model = ModelF32::new(&layers).expect("sizes fit");
        let xs = numbers(&mut seed, steps * input, 2.0);
        let mut scratch = vec![f32::NAN; model.scratch_len()];
        prop_assert_eq!(model.window_scratch_len(steps), model.scratch_len());

        let mut state = vec![f32::NAN; model.state_len()];
        let mut window = vec![f32::NAN; model.output_len(steps)];
        model.reset(&mut state).expect("length");
        model.run(&mut state, &xs, None, &mut window, &mut scratch).expect("lengths");

        let mut streamed_state = vec![f32::NAN; model.state_len()];
        let mut streamed = Vec::new();
        model.reset(&mut streamed_state).expect("length");
        for x in xs.chunks(input) {
            let mut y = vec![f32::NAN; model.output()];
            model.step(&mut streamed_state, x, &mut y, &mut scratch).expect("lengths");
            streamed.extend(y);
        }
        let tail = streamed.len() - window.len();
        prop_assert_eq!(bits(&streamed[tail..]), bits(&window));
        prop_assert_eq!(bits(&streamed_state), bits(&state));

        // Two windows, the second one going on from the state of the first (stateful).
        let cut = cut % steps;
        if cut > 0 {
            model.reset(&mut streamed_state).expect("length");
            let mut parts = Vec::new();
            for xs in [&xs[..cut * input], &xs[cut * input..]] {
                let mut y = vec![f32::NAN; model.output_len(xs.len() / input)];
                model.run(&mut streamed_state, xs, None, &mut y, &mut scratch).expect("lengths");
                parts.extend(y);
            }
            let tail = parts.len() - window.len();
            prop_assert_eq!(bits(&parts[tail..]), bits(&window));
            prop_assert_eq!(bits(&streamed_state), bits(&state));
        }
    }

    /// A masked window leaves the state of the valid steps alone, and its outputs are theirs.
    #[test]
    fn masked_steps_do_not_exist(
        plan in gru_plan(),
        mask in prop::collection::vec(any::<bool>(), 1..=9),
        backwards in any::<bool>(),
        zero in any::<bool>(),
        in_time in any::<bool>(),
        seed in 1..u64::MAX,
    ) {
        let mut seed = seed;
        let input = 3;
        let w = weights(&plan, input, &mut seed);
        let LayerF32::Gru(gru) = layer(&plan, &w, input, true) else { unreachable!() };
        let gru = gru.with_go_backwards(backwards);
        let units = gru.units();
        let steps = mask.len();
        let xs = numbers(&mut seed, steps * input, 2.0);
        let mut scratch = vec![f32::NAN; gru.scratch_len()];
        let mut state = vec![f32::NAN; units];
        let mut out = vec![f32::NAN; steps * units];
        let window = Window {
            mask: Some(&mask),
            masked: if zero { MaskedOutput::Zero } else { MaskedOutput::Repeat },
            order: if in_time { OutputOrder::Time } else { OutputOrder::Processing },
        };
        gru.reset(&mut state).expect("length");
        gru.run(&mut state, &xs, window, &mut out, &mut scratch).expect("lengths");

        // By hand, with steps.
        let mut h = vec![f32::NAN; units];
        gru.reset(&mut h).expect("length");
        let mut expected = vec![vec![f32::NAN; units]; steps];
        let mut shown = vec![0.0; units];
        let order: Vec<usize> = if backwards { (0..steps).rev().collect() } else { (0..steps).collect() };
        for (k, t) in order.into_iter().enumerate() {
            if mask[t] {
                gru.step(&mut h, &xs[t * input..][..input], &mut scratch).expect("lengths");
                shown.clone_from(&h);
            } else if zero {
                shown.fill(0.0);
            }
            expected[if in_time { t } else { k }].clone_from(&shown);
        }
        prop_assert_eq!(bits(&out), bits(&expected.concat()));
        prop_assert_eq!(bits(&state), bits(&h));
    }

    /// In f64, the same equations: the fixed order of sums is accurate.
    #[test]
    fn a_step_is_close_to_f64(plan in gru_plan(), input in 1..=40_usize, seed in 1..u64::MAX) {
        let Plan::Gru { units, reset_before, f, g, clip, .. } = plan.clone() else { unreachable!() };
        let mut seed = seed;
        let w = weights(&plan, input, &mut seed);
        let LayerF32::Gru(gru) = layer(&plan, &w, input, true) else { unreachable!() };
        let x = numbers(&mut seed, input, 1.0);
        let h = numbers(&mut seed, units, 1.0);
        let mut state = h.clone();
        gru.step(&mut state, &x, &mut vec![0.0; gru.scratch_len()]).expect("lengths");

        let at = |b: &[f32], k: usize| f64::from(b.get(k).copied().unwrap_or(0.0));
        let product = |m: &[f32], row: usize, v: &[f64]| -> f64 {
            m[row * v.len()..][..v.len()].iter().zip(v).map(|(a, b)| f64::from(*a) * b).sum()
        };
        let (x, h): (Vec<f64>, Vec<f64>) =
            (x.iter().map(|v| f64::from(*v)).collect(), h.iter().map(|v| f64::from(*v)).collect());
        let clipped = |v: f64| clip.map_or(v, |c| v.clamp(-f64::from(c), f64::from(c)));
        let gate = |k: usize, i: usize| {
            let row = k * units + i;
            exact(g, clipped(product(&w.w, row, &x) + at(&w.b_in, row) + product(&w.u, row, &h) + at(&w.b_rec, row)))
        };
        let r: Vec<f64> = (0..units).map(|i| gate(0, i)).collect();
        let rh: Vec<f64> = r.iter().zip(&h).map(|(r, h)| r * h).collect();
        for i in 0..units {
            let row = 2 * units + i;
            let nx = product(&w.w, row, &x) + at(&w.b_in, row);
            let nh = if reset_before {
                product(&w.u, row, &rh) + at(&w.b_rec, row)
            } else {
                r[i] * (product(&w.u, row, &h) + at(&w.b_rec, row))
            };
            let n = exact(f, clipped(nx + nh));
            let z = gate(1, i);
            let expected = (1.0 - z) * n + z * h[i];
            let error = (f64::from(state[i]) - expected).abs();
            prop_assert!(error <= 3e-6 * (1.0 + expected.abs()), "{error:e} at {expected}");
        }
    }
}

fn exact(a: Activation, x: f64) -> f64 {
    match a {
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::HardTanh => x.clamp(-1.0, 1.0),
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Linear => x,
        Activation::Relu => x.max(0.0),
        _ => f64::NAN,
    }
}

#[test]
fn a_window_without_a_valid_step_shows_zeros_and_keeps_the_state() {
    let w = [0.5; 6];
    let u = [0.25; 12];
    let weights = GruWeights {
        w: &w,
        u: &u,
        ..GruWeights::default()
    };
    let h0 = [0.5, -0.5];
    for all in [false, true] {
        let gru = GruF32::new(1, 2, weights)
            .and_then(|l| l.with_initial_state(&h0))
            .expect("sizes fit")
            .with_return_sequences(all);
        let layers = [LayerF32::Gru(gru)];
        let model = ModelF32::new(&layers).expect("sizes fit");
        let mut state = [0.0; 2];
        let mut out = vec![f32::NAN; model.output_len(3)];
        let mut scratch = [0.0; 2];
        model.reset(&mut state).expect("length");
        let mask = [false; 3];
        model
            .run(&mut state, &[1.0; 3], Some(&mask), &mut out, &mut scratch)
            .expect("lengths");
        assert_eq!(state, h0);
        assert!(out.iter().all(|v| *v == 0.0), "{out:?}");
    }
}

#[test]
fn bidirectional_merges_and_states_its_memory() {
    let w = [0.5, -0.25, 0.75];
    let u = [0.3, 0.2, -0.6];
    let weights = GruWeights {
        w: &w,
        u: &u,
        ..GruWeights::default()
    };
    let gru = GruF32::new(1, 1, weights)
        .expect("sizes fit")
        .with_return_sequences(true);
    let back = gru.with_go_backwards(true);
    let xs = [0.5, -1.0, 2.0, 0.0];
    let one = |l: GruF32<'_>| {
        let mut out = [0.0; 4];
        let window = Window {
            order: OutputOrder::Time,
            ..Window::default()
        };
        l.run(&mut [0.0], &xs, window, &mut out, &mut [0.0])
            .expect("lengths");
        out
    };
    let (f, b) = (one(gru), one(back));
    for merge in [Merge::Concat, Merge::Sum, Merge::Mul, Merge::Ave] {
        let both = BidirectionalF32::new(gru, back, merge).expect("directions fit");
        let layers = [LayerF32::Bidirectional(both)];
        let model = ModelF32::new(&layers).expect("sizes fit");
        let mut out = vec![f32::NAN; model.output_len(4)];
        let need = model.window_scratch_len(4);
        assert_eq!(need, 4 + 4 + 1);
        let mut state = [0.0; 2];
        let short = model.run(&mut state, &xs, None, &mut out, &mut vec![0.0; need - 1]);
        let expected = FloatError::Length {
            buffer: Buffer::Scratch,
            have: need - 1,
            need,
        };
        assert_eq!(short, Err(expected));
        model
            .run(&mut state, &xs, None, &mut out, &mut vec![0.0; need])
            .expect("lengths");
        for t in 0..4 {
            match merge {
                Merge::Concat => assert_eq!(out[2 * t..2 * t + 2], [f[t], b[t]]),
                Merge::Sum => assert_eq!(out[t], f[t] + b[t]),
                Merge::Mul => assert_eq!(out[t], f[t] * b[t]),
                Merge::Ave => assert_eq!(out[t], 0.5 * (f[t] + b[t])),
            }
        }
        let step = model.step(
            &mut state,
            &xs[..1],
            &mut out[..model.output()],
            &mut [0.0; 9],
        );
        assert_eq!(step, Err(FloatError::NeedsWindow { layer: 0 }));
    }
    assert_eq!(
        BidirectionalF32::new(gru, gru, Merge::Sum),
        Err(FloatError::Directions)
    );
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let zeros = [0.0; 64];
    let of = |w, u, b_in, b_rec| GruWeights {
        w: &zeros[..w],
        u: &zeros[..u],
        b_in: &zeros[..b_in],
        b_rec: &zeros[..b_rec],
    };
    let length = |buffer, have, need| FloatError::Length { buffer, have, need };
    let new = |weights| GruF32::new(2, 3, weights).map(|l| l.units());
    assert_eq!(new(of(18, 27, 9, 9)), Ok(3));
    assert_eq!(new(of(17, 27, 9, 9)), Err(length(Buffer::Weights, 17, 18)));
    assert_eq!(
        new(of(18, 28, 9, 9)),
        Err(length(Buffer::RecurrentWeights, 28, 27))
    );
    assert_eq!(new(of(18, 27, 8, 9)), Err(length(Buffer::Bias, 8, 9)));
    assert_eq!(
        new(of(18, 27, 0, 1)),
        Err(length(Buffer::RecurrentBias, 1, 9))
    );
    let size = |dim, found| FloatError::Size { dim, found };
    assert_eq!(GruF32::new(0, 3, of(0, 27, 0, 0)), Err(size(Dim::Input, 0)));
    let huge = MAX_DIM + 1;
    assert_eq!(
        GruF32::new(2, huge, of(0, 0, 0, 0)),
        Err(size(Dim::Units, huge))
    );
    // A size that would overflow the products is refused before they are formed.
    let max = usize::MAX;
    assert_eq!(
        GruF32::new(max, 3, of(0, 0, 0, 0)),
        Err(size(Dim::Input, max))
    );

    let gru = GruF32::new(2, 3, of(18, 27, 9, 9)).expect("sizes fit");
    let softmax = Activation::Softmax;
    assert_eq!(
        gru.with_activations(softmax, Activation::Sigmoid),
        Err(FloatError::Activation(softmax))
    );
    assert_eq!(gru.with_clip(Some(0.0)), Err(FloatError::Clip(0.0)));
    assert!(gru.with_clip(Some(f32::NAN)).is_err());
    assert_eq!(
        gru.with_initial_state(&zeros[..2]),
        Err(length(Buffer::InitialState, 2, 3))
    );
    let step = |state: usize, x: usize, scratch: usize| {
        gru.step(&mut vec![0.0; state], &zeros[..x], &mut vec![0.0; scratch])
    };
    assert_eq!(step(3, 2, 3), Ok(()));
    assert_eq!(step(2, 2, 3), Err(length(Buffer::State, 2, 3)));
    assert_eq!(step(3, 1, 3), Err(length(Buffer::Input, 1, 2)));
    assert_eq!(step(3, 2, 2), Err(length(Buffer::Scratch, 2, 3)));

    let run = |xs: usize, mask: Option<&[bool]>, out: usize| {
        let window = Window {
            mask,
            ..Window::default()
        };
        gru.run(
            &mut [0.0; 3],
            &zeros[..xs],
            window,
            &mut vec![0.0; out],
            &mut [0.0; 3],
        )
    };
    assert_eq!(run(8, None, 3), Ok(()));
    assert_eq!(run(0, None, 3), Err(size(Dim::Steps, 0)));
    assert_eq!(run(7, None, 3), Err(length(Buffer::Input, 7, 6)));
    assert_eq!(run(8, Some(&[true; 3]), 3), Err(length(Buffer::Mask, 3, 4)));
    assert_eq!(run(8, None, 12), Err(length(Buffer::Output, 12, 3)));

    let dense = DenseF32::new(3, 2, &zeros[..6], &[], Activation::Linear).expect("sizes fit");
    let layers = [LayerF32::Gru(gru), LayerF32::Dense(dense)];
    assert!(ModelF32::new(&layers).is_ok());
    assert_eq!(ModelF32::new(&[]), Err(size(Dim::Layers, 0)));
    let layers = [LayerF32::Dense(dense), LayerF32::Dense(dense)];
    let mismatch = FloatError::Mismatch {
        layer: 1,
        found: 3,
        expected: 2,
    };
    assert_eq!(ModelF32::new(&layers), Err(mismatch));
    let layers = [
        LayerF32::Gru(gru),
        LayerF32::Gru(GruF32::new(3, 1, of(9, 3, 0, 0)).expect("sizes fit")),
    ];
    assert_eq!(
        ModelF32::new(&layers),
        Err(FloatError::NoSequence { layer: 1 })
    );
}
