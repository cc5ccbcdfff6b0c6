//! PyTorch: gate order r, z, n along the first axis, `y = weight @ x`, reset after the product.

use super::{ImportError, free_axis, length};
use crate::spec::{GruSpec, LayerSpec, Merge};

/// One direction of one layer from `weight_ih` `(3U, F)`, `weight_hh` `(3U, U)` and both biases
/// `(3U)`, or neither with `bias=False`.
///
/// The layer gives its whole sequence; `backward` sets `go_backwards`.
///
/// # Errors
/// [`ImportError::Length`] for tensors that do not fit.
pub fn gru(
    units: usize,
    weight_ih: &[f32],
    weight_hh: &[f32],
    biases: Option<(&[f32], &[f32])>,
    backward: bool,
) -> Result<GruSpec, ImportError> {
    let input = free_axis("weight_ih", weight_ih.len(), 3 * units)?;
    length("weight_hh", weight_hh.len(), 3 * units * units)?;
    let mut spec = GruSpec::zeros(input, units);
    spec.go_backwards = backward;
    spec.w = weight_ih.to_vec();
    spec.u = weight_hh.to_vec();
    if let Some((bias_ih, bias_hh)) = biases {
        length("bias_ih", bias_ih.len(), 3 * units)?;
        length("bias_hh", bias_hh.len(), 3 * units)?;
        spec.b_in = bias_ih.to_vec();
        spec.b_rec = bias_hh.to_vec();
    }
    Ok(spec)
}

/// All layers of an `nn.GRU` from its `state_dict`: `tensor` gives the values of a name such as
/// `weight_ih_l0` or `bias_hh_l1_reverse`.
///
/// # Errors
/// [`ImportError::Missing`] for a weight that is not there, [`ImportError::Length`] for one that
/// does not fit.
pub fn layers<'t>(
    units: usize,
    num_layers: usize,
    bidirectional: bool,
    bias: bool,
    tensor: impl Fn(&str) -> Option<&'t [f32]>,
) -> Result<Vec<LayerSpec>, ImportError> {
    let get = |name: String| tensor(&name).ok_or(ImportError::Missing { tensor: name });
    let direction = |layer: usize, suffix: &str| {
        let biases = if bias {
            Some((
                get(format!("bias_ih_l{layer}{suffix}"))?,
                get(format!("bias_hh_l{layer}{suffix}"))?,
            ))
        } else {
            None
        };
        gru(
            units,
            get(format!("weight_ih_l{layer}{suffix}"))?,
            get(format!("weight_hh_l{layer}{suffix}"))?,
            biases,
            !suffix.is_empty(),
        )
    };
    (0..num_layers)
        .map(|layer| {
            let forward = direction(layer, "")?;
            Ok(if bidirectional {
                LayerSpec::Bidirectional {
                    forward,
                    backward: direction(layer, "_reverse")?,
                    merge: Merge::Concat,
                }
            } else {
                LayerSpec::Gru(forward)
            })
        })
        .collect()
}
