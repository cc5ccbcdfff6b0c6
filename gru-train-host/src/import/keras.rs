//! Keras: gate order z, r, h along the last axis, `y = x @ kernel`.

use super::{ImportError, free_axis, length, reorder_zrh, transpose, unit_activation};
use crate::spec::{Activation, DenseSpec, GruSpec};

/// The options of a Keras `GRU` layer that change what it computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KerasGru<'a> {
    /// `units`
    pub units: usize,
    /// `activation`
    pub activation: &'a str,
    /// `recurrent_activation`
    pub recurrent_activation: &'a str,
    /// `use_bias`
    pub use_bias: bool,
    /// `reset_after`
    pub reset_after: bool,
    /// `return_sequences`
    pub return_sequences: bool,
    /// `go_backwards`
    pub go_backwards: bool,
}

impl Default for KerasGru<'_> {
    /// Keras' own defaults; `units` is 1.
    fn default() -> Self {
        Self {
            units: 1,
            activation: "tanh",
            recurrent_activation: "sigmoid",
            use_bias: true,
            reset_after: true,
            return_sequences: false,
            go_backwards: false,
        }
    }
}

/// A GRU from `kernel` `(F, 3U)`, `recurrent_kernel` `(U, 3U)` and, with `use_bias`, `bias`
/// `(2, 3U)` (`reset_after`) or `(3U)`, all row-major as `get_weights()` gives them.
///
/// # Errors
/// [`ImportError::Length`] or [`ImportError::Missing`] for tensors that do not fit,
/// [`ImportError::Activation`] for functions without a counterpart.
pub fn gru(
    config: KerasGru<'_>,
    kernel: &[f32],
    recurrent_kernel: &[f32],
    bias: Option<&[f32]>,
) -> Result<GruSpec, ImportError> {
    let units = config.units;
    let input = free_axis("kernel", kernel.len(), 3 * units)?;
    length(
        "recurrent_kernel",
        recurrent_kernel.len(),
        3 * units * units,
    )?;
    let mut spec = GruSpec::zeros(input, units);
    spec.activation = unit_activation(config.activation)?;
    spec.recurrent_activation = unit_activation(config.recurrent_activation)?;
    spec.reset_after = config.reset_after;
    spec.return_sequences = config.return_sequences;
    spec.go_backwards = config.go_backwards;
    spec.use_bias = config.use_bias;
    spec.w = reorder_zrh(&transpose(kernel, 3 * units));
    spec.u = reorder_zrh(&transpose(recurrent_kernel, 3 * units));
    match (config.use_bias, bias) {
        (false, None) => {}
        (false, Some(bias)) => length("bias", bias.len(), 0)?,
        (true, None) => {
            return Err(ImportError::Missing {
                tensor: "bias".into(),
            });
        }
        (true, Some(bias)) if config.reset_after => {
            length("bias", bias.len(), 6 * units)?;
            let (b_in, b_rec) = bias.split_at(3 * units);
            spec.b_in = reorder_zrh(b_in);
            spec.b_rec = reorder_zrh(b_rec);
        }
        (true, Some(bias)) => {
            length("bias", bias.len(), 3 * units)?;
            spec.b_in = reorder_zrh(bias);
        }
    }
    Ok(spec)
}

/// A Dense from `kernel` `(N, O)` and, unless `use_bias` is false, `bias` `(O)`.
///
/// # Errors
/// As [`gru`]; softmax is allowed here.
pub fn dense(
    units: usize,
    activation: &str,
    kernel: &[f32],
    bias: Option<&[f32]>,
) -> Result<DenseSpec, ImportError> {
    let input = free_axis("kernel", kernel.len(), units)?;
    let mut spec = DenseSpec::zeros(input, units);
    spec.activation = Activation::from_name(activation).ok_or(ImportError::Activation {
        name: activation.into(),
    })?;
    spec.w = transpose(kernel, units);
    spec.use_bias = bias.is_some();
    if let Some(bias) = bias {
        length("bias", bias.len(), units)?;
        spec.b = bias.to_vec();
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_axes_are_permuted() -> Result<(), ImportError> {
        // F = 2, U = 1: columns z, r, h.
        let config = KerasGru::default();
        let spec = gru(
            config,
            &[1., 2., 3., 4., 5., 6.],
            &[7., 8., 9.],
            Some(&[10., 11., 12., 13., 14., 15.]),
        )?;
        assert_eq!(spec.w, [2., 5., 1., 4., 3., 6.]);
        assert_eq!(spec.u, [8., 7., 9.]);
        assert_eq!(spec.b_in, [11., 10., 12.]);
        assert_eq!(spec.b_rec, [14., 13., 15.]);
        let spec = dense(2, "softmax", &[1., 2., 3., 4., 5., 6.], None)?;
        assert_eq!((spec.input, spec.w), (3, vec![1., 3., 5., 2., 4., 6.]));
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let config = KerasGru::default();
        let refused = gru(config, &[0.0; 7], &[0.0; 3], None).map_err(|e| e.to_string());
        assert_eq!(
            refused,
            Err("tensor kernel has 7 values, expected 6".into())
        );
        let refused = gru(config, &[0.0; 6], &[0.0; 3], None).map_err(|e| e.to_string());
        assert_eq!(refused, Err("tensor bias is missing".into()));
        let config = KerasGru {
            activation: "crelu",
            ..config
        };
        let refused = gru(config, &[0.0; 6], &[0.0; 3], None).map_err(|e| e.to_string());
        assert_eq!(refused, Err("activation crelu is not supported".into()));
    }
}
