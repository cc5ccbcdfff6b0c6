//! ONNX operator `GRU`: gate order z, r, h along the first axis, `y = W @ x`.

use super::{ImportError, free_axis, length, reorder_zrh};
use crate::spec::{Activation, GruSpec};

/// Attribute `direction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// From the first step to the last.
    #[default]
    Forward,
    /// From the last step to the first; outputs stand in the order of time.
    Reverse,
    /// Both, forward first.
    Bidirectional,
}

impl Direction {
    /// The direction with ONNX' name.
    ///
    /// # Errors
    /// [`ImportError::Option`] for any other name.
    pub fn from_name(name: &str) -> Result<Self, ImportError> {
        match name {
            "forward" => Ok(Self::Forward),
            "reverse" => Ok(Self::Reverse),
            "bidirectional" => Ok(Self::Bidirectional),
            _ => Err(ImportError::Option {
                name: "direction".into(),
                value: name.into(),
            }),
        }
    }
}

/// Attributes of a `GRU` node that change what it computes (`layout` and `sequence_lens` concern
/// the data, not the layer).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OnnxGru<'a> {
    /// `hidden_size`
    pub hidden_size: usize,
    /// `direction`
    pub direction: Direction,
    /// `linear_before_reset` (default false: the reset gate acts before the product)
    pub linear_before_reset: bool,
    /// `clip`
    pub clip: Option<f32>,
    /// `activations`: gates and candidate of each direction; empty for Sigmoid and Tanh.
    pub activations: &'a [&'a str],
    /// `activation_alpha`, consumed in order by the activations that have one.
    pub activation_alpha: &'a [f32],
    /// `activation_beta`, likewise.
    pub activation_beta: &'a [f32],
}

/// One GRU per direction from `W` `(D, 3U, F)`, `R` `(D, 3U, U)` and `B` `(D, 6U)`.
///
/// The layers give their whole sequences. With `linear_before_reset = 0` both biases of a row
/// stand in the same sum; they are added here, in f32.
///
/// # Errors
/// [`ImportError::Length`] for tensors that do not fit, [`ImportError::Activation`] for functions
/// or parameters without a counterpart, [`ImportError::Option`] for a bad number of them.
pub fn gru(
    node: OnnxGru<'_>,
    w: &[f32],
    r: &[f32],
    b: Option<&[f32]>,
) -> Result<Vec<GruSpec>, ImportError> {
    let units = node.hidden_size;
    let backward: &[bool] = match node.direction {
        Direction::Forward => &[false],
        Direction::Reverse => &[true],
        Direction::Bidirectional => &[false, true],
    };
    let directions = backward.len();
    let input = free_axis("W", w.len(), directions * 3 * units)?;
    length("R", r.len(), directions * 3 * units * units)?;
    if let Some(b) = b {
        length("B", b.len(), directions * 6 * units)?;
    }
    let functions = activations(&node, directions)?;
    let rows = 3 * units;
    let part = |all: &[f32], d: usize, len: usize| -> Vec<f32> {
        all.iter().skip(d * len).take(len).copied().collect()
    };
    let specs = backward.iter().zip(functions).enumerate();
    Ok(specs
        .map(|(d, (&backward, (gates, candidate)))| {
            let mut spec = GruSpec::zeros(input, units);
            spec.activation = candidate;
            spec.recurrent_activation = gates;
            spec.reset_after = node.linear_before_reset;
            spec.go_backwards = backward;
            spec.clip = node.clip;
            spec.w = reorder_zrh(&part(w, d, rows * input));
            spec.u = reorder_zrh(&part(r, d, rows * units));
            if let Some(b) = b {
                let both = part(b, d, 2 * rows);
                let (b_in, b_rec) = both.split_at(rows);
                spec.b_in = reorder_zrh(b_in);
                let b_rec = reorder_zrh(b_rec);
                if node.linear_before_reset {
                    spec.b_rec = b_rec;
                } else {
                    for (b, rec) in spec.b_in.iter_mut().zip(b_rec) {
                        *b += rec;
                    }
                }
            }
            spec
        })
        .collect())
}

/// Gates and candidate of each direction.
fn activations(
    node: &OnnxGru<'_>,
    directions: usize,
) -> Result<Vec<(Activation, Activation)>, ImportError> {
    if node.activations.is_empty() {
        return Ok(vec![(Activation::Sigmoid, Activation::Tanh); directions]);
    }
    if node.activations.len() != 2 * directions {
        return Err(ImportError::Option {
            name: "activations".into(),
            value: format!("{:?}", node.activations),
        });
    }
    let mut alphas = node.activation_alpha.iter().copied();
    let mut betas = node.activation_beta.iter().copied();
    let mut functions = Vec::new();
    for name in node.activations {
        functions.push(activation(name, &mut alphas, &mut betas)?);
    }
    if let Some(extra) = alphas.next().or(betas.next()) {
        return Err(ImportError::Option {
            name: "activation_alpha or activation_beta".into(),
            value: format!("{extra}, left over"),
        });
    }
    Ok(functions
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [gates, candidate] => Some((*gates, *candidate)),
            _ => None,
        })
        .collect())
}

/// One function; it takes its parameters from the lists, or ONNX' defaults when they are used up.
fn activation(
    name: &str,
    alphas: &mut impl Iterator<Item = f32>,
    betas: &mut impl Iterator<Item = f32>,
) -> Result<Activation, ImportError> {
    let near = |a: f32, b: f32| (a - b).abs() < 1e-6;
    let refused = |name: String| Err(ImportError::Activation { name });
    match name.to_ascii_lowercase().as_str() {
        "sigmoid" => Ok(Activation::Sigmoid),
        "tanh" => Ok(Activation::Tanh),
        "relu" => Ok(Activation::Relu),
        "softsign" => Ok(Activation::Softsign),
        "softplus" => Ok(Activation::Softplus),
        "hardsigmoid" => {
            let (alpha, beta) = (alphas.next().unwrap_or(0.2), betas.next().unwrap_or(0.5));
            if near(alpha, 1.0 / 6.0) && near(beta, 0.5) {
                Ok(Activation::HardSigmoid)
            } else if near(alpha, 0.2) && near(beta, 0.5) {
                Ok(Activation::HardSigmoidV2)
            } else {
                refused(format!("HardSigmoid(alpha={alpha}, beta={beta})"))
            }
        }
        "affine" => {
            let (alpha, beta) = (alphas.next().unwrap_or(1.0), betas.next().unwrap_or(0.0));
            if alpha == 1.0 && beta == 0.0 {
                Ok(Activation::Linear)
            } else {
                refused(format!("Affine(alpha={alpha}, beta={beta})"))
            }
        }
        "leakyrelu" => {
            let alpha = alphas.next().unwrap_or(0.01);
            if near(alpha, 0.2) {
                Ok(Activation::LeakyRelu)
            } else {
                refused(format!("LeakyRelu(alpha={alpha})"))
            }
        }
        "elu" => {
            let alpha = alphas.next().unwrap_or(1.0);
            if alpha == 1.0 {
                Ok(Activation::Elu)
            } else {
                refused(format!("Elu(alpha={alpha})"))
            }
        }
        _ => refused(name.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_activations_are_consumed_in_order() {
        let node = OnnxGru {
            hidden_size: 1,
            activations: &["HardSigmoid", "Tanh"],
            activation_alpha: &[0.3],
            ..OnnxGru::default()
        };
        let refused = gru(node, &[0.0; 3], &[0.0; 3], None).map_err(|e| e.to_string());
        let expected = "activation HardSigmoid(alpha=0.3, beta=0.5) is not supported";
        assert_eq!(refused, Err(expected.into()));
        let node = OnnxGru {
            activations: &["Sigmoid", "Tanh"],
            ..node
        };
        let refused = gru(node, &[0.0; 3], &[0.0; 3], None).map_err(|e| e.to_string());
        assert!(refused.is_err_and(|e| e.contains("left over")));
    }

    #[test]
    fn biases_are_added_when_the_reset_gate_acts_before() -> Result<(), ImportError> {
        let b = [1., 2., 3., 10., 20., 30.];
        let mut node = OnnxGru {
            hidden_size: 1,
            ..OnnxGru::default()
        };
        let specs = gru(node, &[0.0; 3], &[0.0; 3], Some(&b))?;
        assert_eq!(specs[0].b_in, [22., 11., 33.]);
        assert_eq!(specs[0].b_rec, [0.; 3]);
        node.linear_before_reset = true;
        let specs = gru(node, &[0.0; 3], &[0.0; 3], Some(&b))?;
        assert_eq!(specs[0].b_rec, [20., 10., 30.]);
        Ok(())
    }
}
