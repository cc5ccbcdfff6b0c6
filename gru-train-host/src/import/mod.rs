//! The three dialects of GRU weights, normalised to [`GruSpec`](crate::spec::GruSpec).
//!
//! | dialect | gate order | matrices | biases | reset gate |
//! |---|---|---|---|---|
//! | [`keras`] | z, r, h | `x @ kernel`: `(F, 3U)` | `(2, 3U)` or `(3U)` | `reset_after` |
//! | [`torch`] | r, z, n | `weight @ x`: `(3U, F)` | two of `(3U)` | after the product |
//! | [`onnx`] | z, r, h | `W @ x`: `(D, 3U, F)` | `(D, 6U)` | `linear_before_reset` |
//! | ours | r, z, n | `w @ x`: `3H×I` | `b_in`, `b_rec`: `3H` each | `reset_after` |
//!
//! All functions here are pure: arrays in, specification out. Whatever cannot be represented is an
//! [`ImportError`] with its name; nothing is dropped in silence.

pub mod keras;
pub mod onnx;
pub mod torch;

use crate::spec::Activation;

/// Why weights or options of another framework were refused.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ImportError {
    /// A tensor is missing.
    Missing {
        /// Its name in the other framework.
        tensor: String,
    },
    /// A tensor has another number of values than the sizes demand.
    Length {
        /// Its name in the other framework.
        tensor: String,
        /// Number of values found.
        found: usize,
        /// Number of values expected.
        expected: usize,
    },
    /// The function exists there, but not here.
    Activation {
        /// Its name in the other framework, with parameters.
        name: String,
    },
    /// An option with no counterpart here.
    Option {
        /// Name of the option.
        name: String,
        /// Value that was found.
        value: String,
    },
}

impl std::fmt::Display for ImportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { tensor } => write!(f, "tensor {tensor} is missing"),
            Self::Length {
                tensor,
                found,
                expected,
            } => write!(f, "tensor {tensor} has {found} values, expected {expected}"),
            Self::Activation { name } => write!(f, "activation {name} is not supported"),
            Self::Option { name, value } => write!(f, "option {name} = {value} is not supported"),
        }
    }
}

impl std::error::Error for ImportError {}

/// `Ok` if the tensor has as many values as expected.
fn length(tensor: &str, found: usize, expected: usize) -> Result<(), ImportError> {
    if found == expected {
        Ok(())
    } else {
        Err(ImportError::Length {
            tensor: tensor.into(),
            found,
            expected,
        })
    }
}

/// The size along the free axis of a tensor with `fixed` values along the other one.
fn free_axis(tensor: &str, values: usize, fixed: usize) -> Result<usize, ImportError> {
    let free = values.checked_div(fixed).unwrap_or(0);
    if free == 0 || free * fixed != values {
        return Err(ImportError::Length {
            tensor: tensor.into(),
            found: values,
            expected: free.max(1) * fixed,
        });
    }
    Ok(free)
}

/// An activation that acts on one unit, by Keras' name.
fn unit_activation(name: &str) -> Result<Activation, ImportError> {
    match Activation::from_name(name) {
        Some(a) if a != Activation::Softmax => Ok(a),
        _ => Err(ImportError::Activation { name: name.into() }),
    }
}

/// Blocks z, r, h (or n) of equal length in the order r, z, n.
fn reorder_zrh(values: &[f32]) -> Vec<f32> {
    let block = values.len() / 3;
    let (z, rest) = values.split_at(block);
    let (r, n) = rest.split_at(block);
    [r, z, n].concat()
}

/// The transpose of a row-major matrix with `columns` columns.
fn transpose(values: &[f32], columns: usize) -> Vec<f32> {
    let column = |c: usize| values.iter().skip(c).step_by(columns.max(1)).copied();
    (0..columns).flat_map(column).collect()
}
