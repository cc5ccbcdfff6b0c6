//! Every stored case of Keras, PyTorch and ONNX through the f32 path of `gru-core`.
//!
//! The folder comes from `GRU_ORACLES` (default: `tests/data/oracles`). Each case either runs and
//! is compared, or is refused with a typed reason; the table that is printed counts both.

use std::{env, fs, path::PathBuf};

use gru_core::float::{FloatError, LayerF32, MaskedOutput, ModelF32, OutputOrder, Window};
use gru_train_host::import::{ImportError, keras, onnx, torch};
use gru_train_host::spec::{GruSpec, LayerSpec, Merge};
use serde_json::Value;

#[path = "oracles_integer.rs"]
mod integer;

// ------------------------------------------------------------------------------------ the verdict

/// Why a case did not give a comparison.
#[derive(Debug)]
enum Stop {
    /// A typed refusal: the option has no counterpart here.
    Refused(String),
    /// The case cannot be read, or the code under test failed: always an error of the test.
    Broken(String),
}

impl From<ImportError> for Stop {
    fn from(e: ImportError) -> Self {
        match e {
            ImportError::Activation { .. } | ImportError::Option { .. } => {
                Self::Refused(e.to_string())
            }
            _ => Self::Broken(e.to_string()),
        }
    }
}

impl From<FloatError> for Stop {
    fn from(e: FloatError) -> Self {
        match e {
            FloatError::Activation(_) | FloatError::NoSequence { .. } => {
                Self::Refused(e.to_string())
            }
            _ => Self::Broken(e.to_string()),
        }
    }
}

fn broken<T>(what: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Broken(what.into()))
}

/// The comparison of one case.
#[derive(Debug, Clone, Copy, Default)]
struct Compared {
    values: usize,
    /// Largest absolute error.
    worst_abs: f64,
    /// Largest error in units of `1 + |reference|`.
    worst_rel: f64,
}

impl Compared {
    fn add(&mut self, found: &[f32], expected: &Tensor) -> Result<(), Stop> {
        if found.len() != expected.data.len() {
            return broken(format!(
                "{} values, expected {}",
                found.len(),
                expected.data.len()
            ));
        }
        for (a, b) in found.iter().zip(&expected.data) {
            let e = (f64::from(*a) - b).abs();
            let r = e / (1.0 + b.abs());
            // A NaN must not vanish in `max`.
            self.worst_abs = if e.is_nan() {
                f64::INFINITY
            } else {
                self.worst_abs.max(e)
            };
            self.worst_rel = if r.is_nan() {
                f64::INFINITY
            } else {
                self.worst_rel.max(r)
            };
        }
        self.values += found.len();
        Ok(())
    }
}

/// One case that ran.
struct Ran {
    compared: Compared,
    /// All functions bounded and inputs of ordinary size: the absolute limit counts.
    bounded: bool,
    /// The reference's own distance from float64, relative: it is added to the relative limit.
    reference_error: f64,
}

/// `≤ 1e-5` absolute for bounded activations, else `≤ 1e-4` relative.
const ABS_LIMIT: f64 = 1e-5;
const REL_LIMIT: f64 = 1e-4;
/// Inputs beyond this are those of the saturation cases (×100).
const LARGE_INPUT: f64 = 50.0;

impl Ran {
    fn ok(&self) -> bool {
        self.compared.values > 0
            && if self.bounded {
                self.compared.worst_abs <= ABS_LIMIT
            } else {
                self.compared.worst_rel <= REL_LIMIT + self.reference_error
            }
    }
}

/// An error planted on purpose, to see the comparison fail.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Plant {
    Nothing,
    /// The gates r and z change places.
    SwapGates,
    /// The recurrent bias is forgotten.
    NoRecurrentBias,
    /// The reset gate acts at the other place.
    ResetElsewhere,
    /// The state starts at zero whatever was asked for, and masks are ignored.
    Forgetful,
}

impl Plant {
    fn in_gru(self, spec: &mut GruSpec) {
        let (i, h) = (spec.input, spec.units);
        match self {
            Self::SwapGates => {
                for (rows, columns) in [
                    (&mut spec.w, i),
                    (&mut spec.u, h),
                    (&mut spec.b_in, 1),
                    (&mut spec.b_rec, 1),
                ] {
                    let (r, rest) = rows.split_at_mut(h * columns);
                    r.swap_with_slice(&mut rest[..h * columns]);
                }
            }
            Self::NoRecurrentBias => spec.b_rec.fill(0.0),
            Self::ResetElsewhere => spec.reset_after = !spec.reset_after,
            Self::Nothing | Self::Forgetful => {}
        }
    }

    fn in_layers(self, layers: &mut [LayerSpec]) {
        for layer in layers {
            match layer {
                LayerSpec::Gru(g) => self.in_gru(g),
                LayerSpec::Bidirectional {
                    forward, backward, ..
                } => {
                    self.in_gru(forward);
                    self.in_gru(backward);
                }
                LayerSpec::Dense(_) => {}
            }
        }
    }
}

// -------------------------------------------------------------------------------- reading the files

struct Tensor {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Tensor {
    fn f32(&self) -> Vec<f32> {
        self.data.iter().map(|v| *v as f32).collect()
    }

    /// The matrix or vector at these leading indices.
    fn at(&self, index: &[usize]) -> Vec<f32> {
        let inner: usize = self.shape[index.len()..].iter().product();
        let mut at = 0;
        for (i, n) in index.iter().zip(&self.shape) {
            at = at * n + i;
        }
        self.data[at * inner..][..inner]
            .iter()
            .map(|v| *v as f32)
            .collect()
    }

    /// The tensor with its first two axes exchanged.
    fn swapped(&self) -> Self {
        let (a, b) = (self.shape[0], self.shape[1]);
        let inner: usize = self.shape[2..].iter().product();
        let mut data = Vec::with_capacity(self.data.len());
        for j in 0..b {
            for i in 0..a {
                data.extend_from_slice(&self.data[(i * b + j) * inner..][..inner]);
            }
        }
        let mut shape = self.shape.clone();
        shape.swap(0, 1);
        Self { shape, data }
    }

    fn is_large(&self) -> bool {
        self.data.iter().any(|v| v.abs() > LARGE_INPUT)
    }
}

fn tensor(v: &Value) -> Result<Tensor, Stop> {
    let read = || -> Option<Tensor> {
        let shape: Option<Vec<usize>> = v["shape"]
            .as_array()?
            .iter()
            .map(|n| Some(n.as_u64()? as usize))
            .collect();
        let number = |n: &Value| n.as_f64().or(n.as_bool().map(|b| f64::from(u8::from(b))));
        let data: Option<Vec<f64>> = v["data"].as_array()?.iter().map(number).collect();
        let (shape, data) = (shape?, data?);
        (shape.iter().product::<usize>() == data.len()).then_some(Tensor { shape, data })
    };
    read().ok_or_else(|| Stop::Broken(format!("not a tensor: {:.80}", v.to_string())))
}

fn optional(v: &Value) -> Result<Option<Tensor>, Stop> {
    if v.is_null() {
        Ok(None)
    } else {
        tensor(v).map(Some)
    }
}

fn flag(v: &Value, default: bool) -> bool {
    v.as_bool().unwrap_or(default)
}

fn size(v: &Value) -> Result<usize, Stop> {
    match v.as_u64() {
        Some(n) => Ok(n as usize),
        None => broken(format!("not a size: {v}")),
    }
}

/// Fails on an option that the test does not know: it must not be ignored in silence.
fn known(config: &Value, names: &[&str]) -> Result<(), Stop> {
    for name in config.as_object().into_iter().flatten().map(|(k, _)| k) {
        if !names.contains(&name.as_str()) {
            let value = config[name].to_string();
            return Err(ImportError::Option {
                name: name.clone(),
                value,
            }
            .into());
        }
    }
    Ok(())
}

fn is_bounded(spec: &GruSpec) -> bool {
    use gru_core::float::Activation;
    Activation::from(spec.activation).is_bounded()
        && Activation::from(spec.recurrent_activation).is_bounded()
}

// --------------------------------------------------------------------------------------------- Keras

const KERAS_GRU: &[&str] = &[
    "features",
    "units",
    "time_steps",
    "batch",
    "reset_after",
    "return_sequences",
    "return_state",
    "go_backwards",
    "stateful",
    "use_bias",
    "activation",
    "recurrent_activation",
];

fn keras_gru(config: &Value, weights: &[Tensor], plant: Plant) -> Result<GruSpec, Stop> {
    known(config, KERAS_GRU)?;
    let options = keras::KerasGru {
        units: size(&config["units"])?,
        activation: config["activation"].as_str().unwrap_or("tanh"),
        recurrent_activation: config["recurrent_activation"].as_str().unwrap_or("sigmoid"),
        use_bias: flag(&config["use_bias"], true),
        reset_after: flag(&config["reset_after"], true),
        return_sequences: flag(&config["return_sequences"], false),
        go_backwards: flag(&config["go_backwards"], false),
    };
    let values: Vec<Vec<f32>> = weights.iter().map(Tensor::f32).collect();
    let (Some(kernel), Some(recurrent)) = (values.first(), values.get(1)) else {
        return broken("a GRU needs kernel and recurrent_kernel");
    };
    let bias = values.get(2).map(Vec::as_slice);
    let mut spec = keras::gru(options, kernel, recurrent, bias)?;
    plant.in_gru(&mut spec);
    Ok(spec)
}

fn keras_layer(case: &Value, plant: Plant) -> Result<GruSpec, Stop> {
    let mut weights = Vec::new();
    for name in ["kernel", "recurrent_kernel", "bias"] {
        if let Some(w) = optional(&case["weights"][name])? {
            weights.push(w);
        }
    }
    keras_gru(&case["config"], &weights, plant)
}

/// One GRU layer, several calls; batches are independent streams.
fn keras_layer_case(case: &Value, plant: Plant) -> Result<Ran, Stop> {
    let config = &case["config"];
    let spec = keras_layer(case, plant)?;
    let gru = spec.view()?;
    let stateful = flag(&config["stateful"], false);
    let mut scratch = vec![0.0; gru.scratch_len()];
    let mut states: Vec<Vec<f32>> = Vec::new();
    let mut ran = Ran {
        compared: Compared::default(),
        bounded: is_bounded(&spec),
        reference_error: case["max_rel_diff_to_f64"].as_f64().unwrap_or(0.0),
    };
    for call in case["calls"].as_array().into_iter().flatten() {
        let x = tensor(&call["input"])?;
        let (batch, steps) = (x.shape[0], x.shape[1]);
        let initial = optional(&call["initial_state"])?;
        let mask = optional(&call["mask"])?;
        states.resize(batch, vec![f32::NAN; gru.units()]);
        let fresh =
            !stateful || flag(&call["reset_states_before"], false) || ran.compared.values == 0;
        let (mut out, mut last) = (Vec::new(), Vec::new());
        for (b, state) in states.iter_mut().enumerate() {
            if fresh {
                gru.reset(state)?;
            }
            match &initial {
                Some(h0) if plant != Plant::Forgetful => *state = h0.at(&[b]),
                _ => {}
            }
            let mask: Option<Vec<bool>> = mask
                .as_ref()
                .filter(|_| plant != Plant::Forgetful)
                .map(|m| m.at(&[b]).iter().map(|v| *v != 0.0).collect());
            let window = Window {
                mask: mask.as_deref(),
                ..Window::default()
            };
            let mut y = vec![f32::NAN; gru.output_len(steps)];
            gru.run(state, &x.at(&[b]), window, &mut y, &mut scratch)?;
            out.extend(y);
            last.extend_from_slice(state);
        }
        ran.bounded &= !x.is_large();
        ran.compared.add(&out, &tensor(&call["output"])?)?;
        if let Some(state) = optional(&call["state"])? {
            ran.compared.add(&last, &state)?;
        }
        if let Some(exact) = optional(&call["output_f64"])? {
            ran.compared.add(&out, &exact)?;
        }
    }
    Ok(ran)
}

/// The layers of a model, and the mask value of the Masking in front where there is one.
fn keras_layers(case: &Value, plant: Plant) -> Result<(Vec<LayerSpec>, Option<f32>), Stop> {
    let mut layers = Vec::new();
    let mut mask_value = None;
    for (index, layer) in case["layers"].as_array().into_iter().flatten().enumerate() {
        let config = &layer["config"];
        let weights = layer["weights"].as_array().into_iter().flatten();
        let weights: Vec<Tensor> = weights.map(tensor).collect::<Result<_, _>>()?;
        match layer["layer"].as_str().unwrap_or_default() {
            "masking" if index == 0 => {
                known(config, &["mask_value"])?;
                mask_value = Some(config["mask_value"].as_f64().unwrap_or(0.0) as f32);
            }
            "gru" => layers.push(LayerSpec::Gru(keras_gru(config, &weights, plant)?)),
            "dense" => {
                known(config, &["units", "activation", "use_bias"])?;
                let Some(kernel) = weights.first() else {
                    return broken("a Dense needs a kernel");
                };
                let bias = weights.get(1).map(Tensor::f32);
                let activation = config["activation"].as_str().unwrap_or("linear");
                let units = size(&config["units"])?;
                let dense = keras::dense(units, activation, &kernel.f32(), bias.as_deref())?;
                layers.push(LayerSpec::Dense(dense));
            }
            "bidirectional" => {
                known(config, &["layer", "merge_mode"])?;
                let merge = match config["merge_mode"].as_str().unwrap_or("concat") {
                    "concat" => Merge::Concat,
                    "sum" => Merge::Sum,
                    "mul" => Merge::Mul,
                    "ave" => Merge::Ave,
                    other => return Err(Stop::Refused(format!("merge_mode {other}"))),
                };
                let (f, b) = weights.split_at(weights.len() / 2);
                let forward = keras_gru(&config["layer"], f, plant)?;
                let mut backward = keras_gru(&config["layer"], b, plant)?;
                backward.go_backwards = !forward.go_backwards;
                layers.push(LayerSpec::Bidirectional {
                    forward,
                    backward,
                    merge,
                });
            }
            other => return Err(Stop::Refused(format!("layer {other} at place {index}"))),
        }
    }
    Ok((layers, mask_value))
}

/// A model: GRU, Dense, Bidirectional, with a Masking in front or without.
fn keras_model_case(case: &Value, plant: Plant) -> Result<Ran, Stop> {
    let x = tensor(&case["input"])?;
    let (layers, mask_value) = keras_layers(case, plant)?;
    let mut bounded = !x.is_large();
    for layer in &layers {
        match layer {
            LayerSpec::Gru(g) => bounded &= is_bounded(g),
            LayerSpec::Bidirectional { forward, .. } => bounded &= is_bounded(forward),
            LayerSpec::Dense(d) => {
                bounded &= gru_core::float::Activation::from(d.activation).is_bounded();
            }
        }
    }
    let views: Vec<LayerF32<'_>> = layers
        .iter()
        .map(LayerSpec::view)
        .collect::<Result<_, _>>()?;
    let model = ModelF32::new(&views)?;
    let (batch, steps) = (x.shape[0], x.shape[1]);
    let mut state = vec![f32::NAN; model.state_len()];
    let mut scratch = vec![f32::NAN; model.window_scratch_len(steps)];
    let mut out = Vec::new();
    for b in 0..batch {
        let xs = x.at(&[b]);
        let mask: Option<Vec<bool>> = mask_value.filter(|_| plant != Plant::Forgetful).map(|m| {
            xs.chunks(model.input())
                .map(|x| x.iter().any(|v| *v != m))
                .collect()
        });
        let mut y = vec![f32::NAN; model.output_len(steps)];
        model.reset(&mut state)?;
        model.run(&mut state, &xs, mask.as_deref(), &mut y, &mut scratch)?;
        out.extend(y);
    }
    let mut compared = Compared::default();
    compared.add(&out, &tensor(&case["output"])?)?;
    Ok(Ran {
        compared,
        bounded,
        reference_error: 0.0,
    })
}

// ------------------------------------------------------------------------------------------- PyTorch

fn torch_layers(case: &Value, plant: Plant) -> Result<Vec<LayerSpec>, Stop> {
    let config = &case["config"];
    known(
        config,
        &[
            "input_size",
            "hidden_size",
            "num_layers",
            "bidirectional",
            "bias",
            "batch_first",
        ],
    )?;
    let mut weights: Vec<(String, Vec<f32>)> = Vec::new();
    for (name, value) in case["weights"].as_object().into_iter().flatten() {
        weights.push((name.clone(), tensor(value)?.f32()));
    }
    let mut layers = torch::layers(
        size(&config["hidden_size"])?,
        size(&config["num_layers"])?,
        flag(&config["bidirectional"], false),
        flag(&config["bias"], true),
        |name| {
            weights
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.as_slice())
        },
    )?;
    plant.in_layers(&mut layers);
    Ok(layers)
}

fn torch_case(case: &Value, plant: Plant) -> Result<Ran, Stop> {
    let config = &case["config"];
    let layers = torch_layers(case, plant)?;
    let batch_first = flag(&config["batch_first"], false);
    let directed = |t: Tensor| if batch_first { t } else { t.swapped() };
    let x = directed(tensor(&case["input"])?);
    let (batch, steps) = (x.shape[0], x.shape[1]);
    let h0 = optional(&case["h0"])?.filter(|_| plant != Plant::Forgetful);
    let (mut out, mut h_n) = (Vec::new(), Vec::new());
    for b in 0..batch {
        let length = match &case["lengths"][b] {
            Value::Null => steps,
            n => size(n)?,
        };
        let mask: Vec<bool> = (0..steps)
            .map(|t| t < length || plant == Plant::Forgetful)
            .collect();
        let mut xs = x.at(&[b]);
        let mut first = 0;
        for layer in &layers {
            let view = layer.view()?;
            let mut state = vec![0.0; view.state_len()];
            let directions = if matches!(view, LayerF32::Bidirectional(_)) {
                2
            } else {
                1
            };
            if let Some(h0) = &h0 {
                state = (0..directions)
                    .flat_map(|d| h0.at(&[first + d, b]))
                    .collect();
            }
            first += directions;
            let mut y = vec![f32::NAN; steps * view.output()];
            run_in_time(&view, &mut state, &xs, &mask, &mut y)?;
            h_n.push(state);
            xs = y;
        }
        out.extend(xs);
    }
    // h_n: (layers·directions, batch, U); collected as batch, layer, direction.
    let units = size(&config["hidden_size"])?;
    let per_batch: Vec<f32> = h_n.concat();
    let rows = per_batch.len() / units / batch;
    let h_n = Tensor {
        shape: vec![batch, rows, units],
        data: per_batch.iter().map(|v| f64::from(*v)).collect(),
    };
    let mut compared = Compared::default();
    compared.add(&out, &directed(tensor(&case["output"])?))?;
    compared.add(&h_n.swapped().f32(), &tensor(&case["h_n"])?)?;
    Ok(Ran {
        compared,
        bounded: !x.is_large(),
        reference_error: 0.0,
    })
}

/// As PyTorch and ONNX run a layer: outputs in the order of time, zeros past the length.
fn run_in_time(
    layer: &LayerF32<'_>,
    state: &mut [f32],
    xs: &[f32],
    mask: &[bool],
    y: &mut [f32],
) -> Result<(), Stop> {
    match layer {
        LayerF32::Gru(g) => {
            let window = Window {
                mask: Some(mask),
                masked: MaskedOutput::Zero,
                order: OutputOrder::Time,
            };
            g.run(state, xs, window, y, &mut vec![0.0; g.scratch_len()])?;
        }
        LayerF32::Bidirectional(l) => {
            let mut scratch = vec![0.0; l.scratch_len(mask.len())];
            l.run(state, xs, Some(mask), y, &mut scratch)?;
        }
        _ => return broken("not a recurrent layer"),
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------- ONNX

/// The tensors of one node, by role.
struct OnnxData {
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Option<Tensor>,
    lens: Option<Tensor>,
    h0: Option<Tensor>,
    y: Option<Tensor>,
    y_h: Option<Tensor>,
}

/// One layer per direction.
fn onnx_specs(attributes: &Value, data: &OnnxData, plant: Plant) -> Result<Vec<GruSpec>, Stop> {
    known(
        attributes,
        &[
            "hidden_size",
            "direction",
            "linear_before_reset",
            "layout",
            "clip",
            "activations",
            "activation_alpha",
            "activation_beta",
        ],
    )?;
    let names = attributes["activations"].as_array().into_iter().flatten();
    let names: Vec<&str> = names.filter_map(Value::as_str).collect();
    let numbers = |key: &str| -> Vec<f32> {
        let list = attributes[key].as_array().into_iter().flatten();
        list.filter_map(Value::as_f64).map(|v| v as f32).collect()
    };
    let (alpha, beta) = (numbers("activation_alpha"), numbers("activation_beta"));
    let node = onnx::OnnxGru {
        hidden_size: size(&attributes["hidden_size"])?,
        direction: onnx::Direction::from_name(
            attributes["direction"].as_str().unwrap_or("forward"),
        )?,
        linear_before_reset: attributes["linear_before_reset"].as_u64().unwrap_or(0) != 0,
        clip: attributes["clip"].as_f64().map(|c| c as f32),
        activations: &names,
        activation_alpha: &alpha,
        activation_beta: &beta,
    };
    let b = data.b.as_ref().map(Tensor::f32);
    let mut specs = onnx::gru(node, &data.w.f32(), &data.r.f32(), b.as_deref())?;
    for spec in &mut specs {
        plant.in_gru(spec);
    }
    Ok(specs)
}

fn onnx_run(attributes: &Value, data: OnnxData, plant: Plant) -> Result<Ran, Stop> {
    let specs = onnx_specs(attributes, &data, plant)?;
    // Everything below is batch first: X (B,S,F), Y (B,S,D,U), Y_h and initial_h (B,D,U).
    let layout = attributes["layout"].as_u64().unwrap_or(0);
    let batch_first = |t: Tensor| if layout == 1 { t } else { t.swapped() };
    let x = batch_first(data.x);
    let h0 = data
        .h0
        .map(batch_first)
        .filter(|_| plant != Plant::Forgetful);
    let (batch, steps) = (x.shape[0], x.shape[1]);
    let units = size(&attributes["hidden_size"])?;
    let (mut y, mut y_h) = (Vec::new(), Vec::new());
    for n in 0..batch {
        let length = data.lens.as_ref().map_or(steps, |l| l.data[n] as usize);
        let mask: Vec<bool> = (0..steps)
            .map(|t| t < length || plant == Plant::Forgetful)
            .collect();
        let mut sequences = Vec::new();
        for (d, spec) in specs.iter().enumerate() {
            let layer = LayerF32::Gru(spec.view()?);
            let mut state = h0.as_ref().map_or(vec![0.0; units], |h| h.at(&[n, d]));
            let mut sequence = vec![f32::NAN; steps * units];
            run_in_time(&layer, &mut state, &x.at(&[n]), &mask, &mut sequence)?;
            y_h.extend(state);
            sequences.push(sequence);
        }
        for t in 0..steps {
            for sequence in &sequences {
                y.extend_from_slice(&sequence[t * units..(t + 1) * units]);
            }
        }
    }
    let mut ran = Ran {
        compared: Compared::default(),
        bounded: specs.iter().all(is_bounded) && !x.is_large(),
        reference_error: 0.0,
    };
    if let Some(expected) = data.y {
        // Layout 0 is (S,D,B,U): to (B,D,S,U), then to (B,S,D,U).
        let expected = if layout == 1 {
            expected
        } else {
            let (s, d, b, u) = match *expected.shape.as_slice() {
                [s, d, b, u] => (s, d, b, u),
                _ => return broken("Y needs four axes"),
            };
            let mut moved = Vec::with_capacity(expected.data.len());
            for n in 0..b {
                for t in 0..s {
                    for k in 0..d {
                        moved.extend_from_slice(&expected.data[((t * d + k) * b + n) * u..][..u]);
                    }
                }
            }
            Tensor {
                shape: vec![b, s, d, u],
                data: moved,
            }
        };
        ran.compared.add(&y, &expected)?;
    }
    if let Some(expected) = data.y_h {
        ran.compared.add(&y_h, &batch_first(expected))?;
    }
    Ok(ran)
}

fn onnx_case(case: &Value, plant: Plant) -> Result<Ran, Stop> {
    onnx_run(&case["attributes"], onnx_data(case)?, plant)
}

fn onnx_data(case: &Value) -> Result<OnnxData, Stop> {
    let inputs = &case["inputs"];
    let attributes = &case["attributes"];
    let results = &case["results"];
    let mut reference = &results["onnxruntime"];
    if reference["Y"].is_null() {
        reference = &results["onnx.reference"];
        // The reference evaluator ignores these; without onnxruntime there is nothing to compare.
        let ignored = !inputs["sequence_lens"].is_null()
            || !attributes["clip"].is_null()
            || !attributes["activations"].is_null();
        if reference["Y"].is_null() || ignored {
            return Err(Stop::Refused("no evaluator gives a result".into()));
        }
    }
    Ok(OnnxData {
        x: tensor(&inputs["X"])?,
        w: tensor(&inputs["W"])?,
        r: tensor(&inputs["R"])?,
        b: optional(&inputs["B"])?,
        lens: optional(&inputs["sequence_lens"])?,
        h0: optional(&inputs["initial_h"])?,
        y: Some(tensor(&reference["Y"])?),
        y_h: Some(tensor(&reference["Y_h"])?),
    })
}

/// A node test of the ONNX standard: tensors by position, as in the node.
fn onnx_node_case(case: &Value, plant: Plant) -> Result<Ran, Stop> {
    onnx_run(&case["attributes"], onnx_node_data(case)?, plant)
}

fn onnx_node_data(case: &Value) -> Result<OnnxData, Stop> {
    let named = |names: &str, values: &str, place: usize| -> Result<Option<Tensor>, Stop> {
        let name = case[names][place].as_str().unwrap_or_default();
        let mut values = case[values].as_array().into_iter().flatten();
        match values.find(|v| !name.is_empty() && v["name"] == *name) {
            Some(v) => tensor(v).map(Some),
            None if name.is_empty() => Ok(None),
            None => broken(format!("tensor {name} is missing")),
        }
    };
    let input = |place| named("node_inputs", "inputs", place);
    let output = |place| named("node_outputs", "outputs", place);
    let (Some(x), Some(w), Some(r)) = (input(0)?, input(1)?, input(2)?) else {
        return broken("X, W and R are required");
    };
    Ok(OnnxData {
        x,
        w,
        r,
        b: input(3)?,
        lens: input(4)?,
        h0: input(5)?,
        y: output(0)?,
        y_h: output(1)?,
    })
}

// ----------------------------------------------------------------------------------------- the tables

type RunCase = fn(&Value, Plant) -> Result<Ran, Stop>;

/// The folder, and whether it was given from outside.
fn folder() -> (PathBuf, bool) {
    match env::var_os("GRU_ORACLES") {
        Some(path) => (path.into(), true),
        None => (
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/oracles"),
            false,
        ),
    }
}

/// The stored cases, or `None` if the given folder has no such file.
fn read(name: &str) -> Option<Value> {
    let (folder, given) = folder();
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => Some(value),
            Err(e) => panic!("{}: {e}", path.display()),
        },
        Err(e) if given && e.kind() == std::io::ErrorKind::NotFound => {
            println!("{name:<28} not in {}", folder.display());
            None
        }
        Err(e) => panic!("{}: {e}", path.display()),
    }
}

struct Table {
    cases: usize,
    ran: usize,
    red: Vec<String>,
}

fn run_file(name: &str, file: &Value, run: RunCase, plant: Plant, print: bool) -> Table {
    let Some(cases) = file["cases"].as_array() else {
        panic!("{name}: no list of cases");
    };
    let (mut ran, mut refused, mut red) = (0, Vec::new(), Vec::new());
    let (mut bounded, mut unbounded) = (Compared::default(), Compared::default());
    for case in cases {
        let title = case["name"].as_str().unwrap_or("(no name)");
        match run(case, plant) {
            Ok(one) => {
                ran += 1;
                let class = if one.bounded {
                    &mut bounded
                } else {
                    &mut unbounded
                };
                class.values += one.compared.values;
                class.worst_abs = class.worst_abs.max(one.compared.worst_abs);
                class.worst_rel = class.worst_rel.max(one.compared.worst_rel);
                if !one.ok() {
                    red.push(format!("{title}: {:?}", one.compared));
                }
            }
            Err(Stop::Refused(why)) => refused.push(format!("{title} ({why})")),
            Err(Stop::Broken(why)) => red.push(format!("{title}: {why}")),
        }
    }
    assert_eq!(
        ran + refused.len() + red.iter().filter(|r| !r.contains("Compared")).count(),
        cases.len(),
        "a case was skipped"
    );
    if print {
        let refused_list = refused.iter().map(|r| format!("\n    refused: {r}"));
        println!(
            "{name:<28} cases {:>3}, run {ran:>3}, refused {:>2}; values {:>6}; worst error: \
             bounded {:.1e} absolute (limit {ABS_LIMIT:.0e}), others {:.1e} relative (limit \
             {REL_LIMIT:.0e}){}",
            cases.len(),
            refused.len(),
            bounded.values + unbounded.values,
            bounded.worst_abs,
            unbounded.worst_rel,
            refused_list.collect::<String>(),
        );
    }
    Table {
        cases: cases.len(),
        ran,
        red,
    }
}

/// Keras files by what they say they are.
fn keras_runner(file: &Value) -> Option<RunCase> {
    match file["kind"].as_str() {
        Some("gru_layer") => Some(keras_layer_case),
        Some("model") => Some(keras_model_case),
        _ => None,
    }
}

/// Names of the Keras files: the five known ones, and whatever else the folder has.
fn keras_files() -> Vec<String> {
    let mut names: Vec<String> = ["activations", "mask", "options", "sizes"]
        .iter()
        .map(|n| format!("keras_gru_{n}.json"))
        .collect();
    names.push("keras_models.json".into());
    for entry in fs::read_dir(folder().0).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("keras_") && name.ends_with(".json") && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn check(name: &str, file: &Value, run: RunCase) {
    let table = run_file(name, file, run, Plant::Nothing, true);
    assert!(table.cases > 0, "{name} has no cases");
    assert!(table.ran > 0, "{name}: every case was refused");
    if !folder().1 {
        // Another folder may ask for what does not exist; of the stored cases, none does.
        assert_eq!(table.ran, table.cases, "{name}: a stored case was refused");
    }
    assert!(table.red.is_empty(), "{name}: {:#?}", table.red);
}

#[test]
fn oracle_keras() {
    for name in keras_files() {
        if let Some(file) = read(&name) {
            let Some(run) = keras_runner(&file) else {
                panic!("{name}: unknown kind {}", file["kind"]);
            };
            check(&name, &file, run);
        }
    }
}

#[test]
fn oracle_torch() {
    let name = "torch_gru.json";
    if let Some(file) = read(name) {
        check(name, &file, torch_case);
    }
}

#[test]
fn oracle_onnx() {
    let name = "onnx_gru.json";
    if let Some(file) = read(name) {
        check(name, &file, onnx_case);
    }
}

#[test]
fn oracle_onnx_node_tests() {
    let name = "onnx_gru_node_tests.json";
    if let Some(file) = read(name) {
        check(name, &file, onnx_node_case);
    }
}

/// A folder without a single file of the schema is a mistake, not a success.
#[test]
fn oracle_folder_is_not_empty() {
    let mut names = keras_files();
    names.extend(
        [
            "torch_gru.json",
            "onnx_gru.json",
            "onnx_gru_node_tests.json",
        ]
        .map(String::from),
    );
    let found = names
        .iter()
        .filter(|n| folder().0.join(n).is_file())
        .count();
    assert!(found > 0, "no oracle file in {}", folder().0.display());
}

/// The comparison has teeth: errors planted in the layers turn cases red.
#[test]
fn oracle_sees_planted_errors() {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/oracles");
    let files: [(&str, RunCase); 7] = [
        ("keras_gru_options.json", keras_layer_case),
        ("keras_gru_sizes.json", keras_layer_case),
        ("keras_gru_mask.json", keras_layer_case),
        ("keras_models.json", keras_model_case),
        ("torch_gru.json", torch_case),
        ("onnx_gru.json", onnx_case),
        ("onnx_gru_node_tests.json", onnx_node_case),
    ];
    for (name, run) in files {
        let bytes = fs::read(default.join(name)).expect("a stored copy");
        let file: Value = serde_json::from_slice(&bytes).expect("JSON");
        let red = |plant| {
            let table = run_file(name, &file, run, plant, false);
            (table.red.len(), table.cases)
        };
        assert_eq!(red(Plant::Nothing).0, 0);
        let (swapped, cases) = red(Plant::SwapGates);
        let (no_bias, _) = red(Plant::NoRecurrentBias);
        let (elsewhere, _) = red(Plant::ResetElsewhere);
        let (forgetful, _) = red(Plant::Forgetful);
        println!(
            "{name:<28} red of {cases}: gates swapped {swapped}, recurrent bias forgotten \
             {no_bias}, reset gate elsewhere {elsewhere}, mask and initial state forgotten \
             {forgetful}"
        );
        assert!(
            10 * swapped >= 9 * cases || name.contains("node_tests"),
            "{name}: swapped gates are red in {swapped} of {cases} cases only"
        );
        let has = |what: &str| match what {
            "mask" => name.contains("mask") || name.contains("torch") || name == "onnx_gru.json",
            _ => !name.contains("node_tests"),
        };
        assert!(!has("bias") || no_bias > 0, "{name}: {no_bias}");
        assert!(!has("reset") || elsewhere > 0, "{name}: {elsewhere}");
        assert!(!has("mask") || forgetful > 0, "{name}: {forgetful}");
    }
}
