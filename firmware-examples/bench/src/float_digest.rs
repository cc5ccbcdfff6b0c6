//! Random f32 models of all small sizes and a digest of everything that they compute.
//!
//! The build runs this on the host, the program `check_f32` on its core; both must give the same
//! bits, whichever loops the core has.

use gru_core::float::{Activation, DenseF32, FloatError, GruF32, GruWeights, Reset};

const INPUTS: usize = 67;
const UNITS: usize = 9;
const OUTPUTS: usize = 3;

/// Functions that take turns as candidate, gate and output.
const FUNCTIONS: [Activation; 14] = [
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::HardSigmoid,
    Activation::HardTanh,
    Activation::Softsign,
    Activation::Relu6,
    Activation::Relu,
    Activation::Linear,
    Activation::LeakyRelu { slope: 0.2 },
    Activation::Elu,
    Activation::Selu,
    Activation::Softplus,
    Activation::Silu,
    Activation::Gelu,
];

/// Uniform numbers from a linear congruential generator.
struct Numbers(u32);

impl Numbers {
    fn fill(&mut self, out: &mut [f32], scale: f32) {
        for v in out {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *v = ((self.0 >> 8) as f32 / 8_388_608.0 - 1.0) * scale;
        }
    }
}

/// FNV-1a over the bits.
fn hash(digest: u64, values: &[f32]) -> u64 {
    values.iter().fold(digest, |d, v| {
        (d ^ u64::from(v.to_bits())).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The digest of all models, and their number.
///
/// # Errors
/// None; sizes fit by construction.
pub fn digest() -> Result<(u64, u32), FloatError> {
    let mut numbers = Numbers(20_261_123);
    let mut all = [0.0; 3 * UNITS * INPUTS + 3 * UNITS * UNITS + 6 * UNITS + OUTPUTS * (UNITS + 1)];
    let (mut state, mut x, mut scratch) = ([0.0; UNITS], [0.0; INPUTS], [0.0; 2 * UNITS]);
    let mut out = [0.0; OUTPUTS];
    let (mut digest, mut models) = (0xcbf2_9ce4_8422_2325, 0);
    for input in 1..=INPUTS {
        for units in 1..=UNITS {
            for reset in [Reset::After, Reset::Before] {
                numbers.fill(&mut all, 0.5);
                let (w, rest) = all.split_at(3 * units * input);
                let (u, rest) = rest.split_at(3 * units * units);
                let (b_in, rest) = rest.split_at(3 * units);
                let (b_rec, rest) = rest.split_at(3 * units);
                let (dense_w, rest) = rest.split_at(OUTPUTS * units);
                let dense_b = &rest[..OUTPUTS];
                let turn = |k: usize| FUNCTIONS[(models as usize / 3 + k) % FUNCTIONS.len()];
                // Every third model takes the usual pair, which has a path of its own.
                let (f, g) = match models % 3 {
                    0 => (Activation::Tanh, Activation::Sigmoid),
                    _ => (
                        turn(0),
                        [Activation::Sigmoid, Activation::HardSigmoid][models as usize % 2],
                    ),
                };
                let bias = models % 5 != 0;
                let weights = GruWeights {
                    w,
                    u,
                    b_in: if bias { b_in } else { &[] },
                    b_rec: if bias { b_rec } else { &[] },
                };
                let gru = GruF32::new(input, units, weights)?
                    .with_activations(f, g)?
                    .with_clip((models % 7 == 0).then_some(0.75))?
                    .with_reset(reset);
                let last = if models % 2 == 0 {
                    Activation::Softmax
                } else {
                    turn(5)
                };
                let dense = DenseF32::new(units, OUTPUTS, dense_w, dense_b, last)?;
                let state = &mut state[..units];
                gru.reset(state)?;
                for _ in 0..3 {
                    let x = &mut x[..input];
                    numbers.fill(x, 3.0);
                    gru.step(state, x, &mut scratch)?;
                    dense.apply(state, &mut out)?;
                    digest = hash(hash(digest, state), &out);
                }
                models += 1;
            }
        }
    }
    Ok((digest, models))
}
