//! Initial weights as in Keras: Glorot uniform, orthogonal recurrent, zero biases.

use super::rng::Rng;
use crate::spec::{DenseSpec, GruSpec};

/// Input weights Glorot uniform over the whole `I×3H` kernel, recurrent weights orthogonal over the
/// whole `H×3H` kernel, biases zero.
pub fn gru(gru: &mut GruSpec, rng: &mut Rng) {
    let (i, h) = (gru.input, gru.units);
    glorot(&mut gru.w, i, 3 * h, rng);
    orthogonal_rows(&mut gru.u, 3 * h, h, rng);
    gru.b_in.fill(0.0);
    gru.b_rec.fill(0.0);
}

/// Glorot uniform, biases zero.
pub fn dense(dense: &mut DenseSpec, rng: &mut Rng) {
    glorot(&mut dense.w, dense.input, dense.units, rng);
    dense.b.fill(0.0);
}

fn glorot(w: &mut [f32], inputs: usize, outputs: usize, rng: &mut Rng) {
    let limit = (6.0 / (inputs + outputs) as f64).sqrt();
    for w in w {
        *w = rng.range(-limit, limit) as f32;
    }
}

/// `rows × cols`, rows ≥ cols, with orthonormal columns: Gram–Schmidt of a normal matrix, twice.
///
/// Keras takes the QR decomposition of the same matrix with the signs of R's diagonal made
/// positive, which is this. Its kernel is the transpose of ours.
fn orthogonal_rows(u: &mut [f32], rows: usize, cols: usize, rng: &mut Rng) {
    let mut q: Vec<Vec<f64>> = Vec::with_capacity(cols);
    for _ in 0..cols {
        let mut v: Vec<f64> = (0..rows).map(|_| rng.normal()).collect();
        for _ in 0..2 {
            for other in &q {
                let dot: f64 = v.iter().zip(other).map(|(a, b)| a * b).sum();
                for (a, b) in v.iter_mut().zip(other) {
                    *a -= dot * b;
                }
            }
        }
        let norm = v.iter().map(|a| a * a).sum::<f64>().sqrt();
        for a in &mut v {
            *a /= norm;
        }
        q.push(v);
    }
    for (c, column) in q.iter().enumerate() {
        for (r, value) in column.iter().enumerate() {
            u[r * cols + c] = *value as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recurrent_columns_are_orthonormal() {
        let mut spec = GruSpec::zeros(3, 7);
        gru(&mut spec, &mut Rng::new(1));
        for a in 0..7 {
            for b in 0..7 {
                let dot: f32 = (0..21).map(|r| spec.u[r * 7 + a] * spec.u[r * 7 + b]).sum();
                let want = if a == b { 1.0 } else { 0.0 };
                assert!((dot - want).abs() < 1e-5, "columns {a}, {b}: {dot}");
            }
        }
        let limit = (6.0 / (3 + 21) as f32).sqrt();
        assert!(
            spec.w.iter().all(|w| w.abs() <= limit) && spec.w.iter().any(|w| w.abs() > limit / 2.0)
        );
    }
}
