//! Scalar activations with their derivatives, for everything that has no vector form.

use super::simd::Real;
use crate::spec::Activation;

const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;

/// `f(x)`. Softmax acts on rows and is handled by the loss; here it is the identity.
pub fn apply<E: Real>(f: Activation, x: E) -> E {
    let c = E::from_f64;
    match f {
        Activation::Linear | Activation::Softmax => x,
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => x.sigmoid(),
        Activation::HardSigmoid => (x + c(3.0)).max(E::ZERO).min(c(6.0)) / c(6.0),
        Activation::HardSigmoidV2 => (c(0.2) * x + c(0.5)).max(E::ZERO).min(E::ONE),
        Activation::HardTanh => x.max(-E::ONE).min(E::ONE),
        Activation::Relu => x.max(E::ZERO),
        Activation::Relu6 => x.max(E::ZERO).min(c(6.0)),
        Activation::LeakyRelu if x < E::ZERO => c(0.2) * x,
        Activation::LeakyRelu => x,
        Activation::Elu if x > E::ZERO => x,
        Activation::Elu => x.exp() - E::ONE,
        Activation::Selu if x > E::ZERO => c(SELU_SCALE) * x,
        Activation::Selu => c(SELU_SCALE * SELU_ALPHA) * (x.exp() - E::ONE),
        Activation::Softplus => x.max(E::ZERO) + (-x.abs()).exp().ln_1p(),
        Activation::Softsign => x / (E::ONE + x.abs()),
        Activation::Silu => x * x.sigmoid(),
    }
}

/// `f'(x)`, given both `x` and `y = f(x)`. At a kink the derivative of the flat side is taken.
pub fn derivative<E: Real>(f: Activation, x: E, y: E) -> E {
    let c = E::from_f64;
    let inside = |low: f64, high: f64, slope: f64| {
        if x > c(low) && x < c(high) {
            c(slope)
        } else {
            E::ZERO
        }
    };
    match f {
        Activation::Linear | Activation::Softmax => E::ONE,
        Activation::Tanh => E::ONE - y * y,
        Activation::Sigmoid => y * (E::ONE - y),
        Activation::HardSigmoid => inside(-3.0, 3.0, 1.0 / 6.0),
        Activation::HardSigmoidV2 => inside(-2.5, 2.5, 0.2),
        Activation::HardTanh => inside(-1.0, 1.0, 1.0),
        Activation::Relu => inside(0.0, f64::INFINITY, 1.0),
        Activation::Relu6 => inside(0.0, 6.0, 1.0),
        Activation::LeakyRelu => c(if x < E::ZERO { 0.2 } else { 1.0 }),
        Activation::Elu => {
            if x > E::ZERO {
                E::ONE
            } else {
                y + E::ONE
            }
        }
        Activation::Selu => {
            if x > E::ZERO {
                c(SELU_SCALE)
            } else {
                y + c(SELU_SCALE * SELU_ALPHA)
            }
        }
        Activation::Softplus => x.sigmoid(),
        Activation::Softsign => {
            let d = E::ONE + x.abs();
            E::ONE / (d * d)
        }
        Activation::Silu => {
            let s = x.sigmoid();
            s + y * (E::ONE - s)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_equal_finite_differences() {
        for f in [
            Activation::Linear,
            Activation::Tanh,
            Activation::Sigmoid,
            Activation::HardSigmoid,
            Activation::HardSigmoidV2,
            Activation::HardTanh,
            Activation::Relu,
            Activation::Relu6,
            Activation::LeakyRelu,
            Activation::Elu,
            Activation::Selu,
            Activation::Softplus,
            Activation::Softsign,
            Activation::Silu,
        ] {
            for x in [-7.3, -2.7, -0.9, -0.1, 0.2, 0.77, 1.9, 2.8, 6.5_f64] {
                let e = 1e-6;
                let slope = (apply(f, x + e) - apply(f, x - e)) / (2.0 * e);
                let d = derivative(f, x, apply(f, x));
                assert!(
                    (slope - d).abs() < 1e-8,
                    "{f:?} at {x}: {d}, finite difference {slope}"
                );
            }
        }
    }
}
