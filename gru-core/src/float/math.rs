//! Elementary functions in f32; the one place where the float path chooses its implementation.

/// `e^x`.
pub(super) fn exp(x: f32) -> f32 {
    libm::expf(x)
}

/// `e^x − 1`, accurate near 0.
pub(super) fn exp_m1(x: f32) -> f32 {
    libm::expm1f(x)
}

/// `tanh(x)`.
pub(super) fn tanh(x: f32) -> f32 {
    libm::tanhf(x)
}

/// `1 / (1 + e^(−x))`; exactly 0 or 1 where the exponential leaves the range of f32.
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `ln(1 + e^x)` without overflow: `max(x, 0) + ln(1 + e^(−|x|))`.
pub(super) fn softplus(x: f32) -> f32 {
    x.max(0.0) + libm::log1pf(exp(-x.abs()))
}

/// The error function.
pub(super) fn erf(x: f32) -> f32 {
    libm::erff(x)
}
