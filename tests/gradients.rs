//! Losses, gradients and Adam steps against Keras and PyTorch in float64.
//!
//! `gradients_adam.json`: nine networks with every gradient and the parameters after 1, 2 and 10
//! steps of both Adams, with and without clipping. `gradients_directions.json`: ten networks with layers that read
//! from the end. `GRU_ORACLES` names another folder.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gru_core::float::ModelF32;
use gru_train_host::nn::data::Sequences;
use gru_train_host::nn::data::{Inputs, Labels};
use gru_train_host::nn::loss::Loss;
use gru_train_host::nn::network::{Dropout, Network};
use gru_train_host::nn::rng::Rng;
use gru_train_host::nn::session::{Session, Setup, Teacher};
use gru_train_host::nn::simd::{Isa, Real};
use gru_train_host::optim::{Adam, AdamConfig, Convention, clip_norm};
use gru_train_host::spec::{Activation, DenseSpec, GruSpec, LayerSpec, Merge, ModelSpec, Readout};
use gru_train_host::train::evaluate;
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct File<C> {
    cases: Vec<C>,
}

#[derive(Deserialize)]
struct Tensor {
    data: Vec<f64>,
}

type Tensors = BTreeMap<String, Tensor>;

#[derive(Deserialize)]
struct Config {
    features: usize,
    units: usize,
    classes: usize,
    time_steps: usize,
    layers: usize,
    reset_after: bool,
    activation: String,
    recurrent_activation: String,
    per_step_loss: bool,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Config,
    lengths: Option<Vec<usize>>,
    weights: Tensors,
    input: Tensor,
    labels: Tensor,
    logits: Tensor,
    loss: f64,
    global_grad_norm: f64,
    gradients: Tensors,
    adam: Vec<AdamRun>,
}

#[derive(Deserialize)]
struct AdamRun {
    optimizer: String,
    lr: f64,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    clip_norm: Option<f64>,
    loss_before_each_step: Vec<f64>,
    parameters_after_step: BTreeMap<String, Tensors>,
}

fn cases<C: DeserializeOwned>(name: &str) -> Vec<C> {
    let folder = std::env::var_os("GRU_ORACLES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/oracles"),
        PathBuf::from,
    );
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file: File<C> = serde_json::from_str(&text).expect("the file has the documented fields");
    file.cases
}

/// Keras columns z, r, h of a `rows × 3U` matrix to our rows r, z, n of `3U × rows`.
fn rows_rzn(columns: &[f64], units: usize) -> Vec<f64> {
    let rows = columns.len() / (3 * units);
    let mut out = Vec::with_capacity(columns.len());
    for gate in [1, 0, 2] {
        for unit in 0..units {
            for row in 0..rows {
                out.push(columns[row * 3 * units + gate * units + unit]);
            }
        }
    }
    out
}

/// All parameters of a case in our order, in f64. `gradient` keeps a missing bias row at zero.
fn flat(c: &Config, tensors: &Tensors) -> Vec<f64> {
    let mut out = Vec::new();
    for layer in 0..c.layers {
        let get = |name: &str| &tensors[&format!("gru{layer}.{name}")].data;
        out.extend(rows_rzn(get("kernel"), c.units));
        out.extend(rows_rzn(get("recurrent_kernel"), c.units));
        let bias = get("bias");
        let u3 = 3 * c.units;
        out.extend(rows_rzn(&bias[..u3], c.units));
        match bias.get(u3..2 * u3) {
            Some(rec) => out.extend(rows_rzn(rec, c.units)),
            None => out.extend(vec![0.0; u3]),
        }
    }
    let kernel = &tensors["dense.kernel"].data;
    for o in 0..c.classes {
        out.extend((0..c.units).map(|u| kernel[u * c.classes + o]));
    }
    out.extend(&tensors["dense.bias"].data);
    out
}

fn model(c: &Config) -> ModelSpec {
    let mut layers = Vec::new();
    for layer in 0..c.layers {
        let mut gru = GruSpec::zeros(if layer == 0 { c.features } else { c.units }, c.units);
        gru.reset_after = c.reset_after;
        gru.activation = Activation::from_name(&c.activation).expect("a known activation");
        gru.recurrent_activation =
            Activation::from_name(&c.recurrent_activation).expect("a known activation");
        layers.push(LayerSpec::Gru(gru));
    }
    layers.push(LayerSpec::Dense(DenseSpec::zeros(c.units, c.classes)));
    ModelSpec {
        layers,
        readout: if c.per_step_loss {
            Readout::Every
        } else {
            Readout::Last
        },
        ..ModelSpec::default()
    }
}

/// Largest difference over largest magnitude: the relative error of a tensor.
fn relative(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    let worst = found
        .iter()
        .zip(expected)
        .fold(0.0_f64, |a, (x, y)| a.max((x - y).abs()));
    assert!(found.iter().all(|x| x.is_finite()));
    worst / scale.max(1e-12)
}

/// Every tensor of a flat vector by itself.
fn worst_tensor(c: &Config, found: &[f64], expected: &[f64]) -> f64 {
    let mut worst = 0.0_f64;
    let mut start = 0;
    let mut part = |len: usize| {
        let range = start..start + len;
        start += len;
        if expected[range.clone()].iter().any(|x| *x != 0.0) {
            worst = worst.max(relative(&found[range.clone()], &expected[range]));
        }
    };
    for layer in 0..c.layers {
        let input = if layer == 0 { c.features } else { c.units };
        part(3 * c.units * input);
        part(3 * c.units * c.units);
        part(3 * c.units);
        part(3 * c.units);
    }
    part(c.classes * c.units);
    part(c.classes);
    worst
}

fn all_f64<E: Real>(values: &[E]) -> Vec<f64> {
    values.iter().map(|v| v.to_f64()).collect()
}

fn check<E: Real>(isa: Isa, tolerance: f64) {
    for case in cases::<Case>("gradients_adam.json") {
        let c = &case.config;
        let name = format!("{} ({})", case.name, isa.name());
        let model = model(c);
        let loss = Loss::Softmax {
            label_smoothing: 0.0,
        };
        let network = Network::new::<E>(&model, loss, isa).expect("a valid network");
        // Weights are f32 values, written as their shortest decimals.
        let start: Vec<f64> = flat(c, &case.weights)
            .iter()
            .map(|w| f64::from(*w as f32))
            .collect();
        assert_eq!(network.parameters(), start.len());
        let x: Vec<f32> = case.input.data.iter().map(|v| *v as f32).collect();
        let labels: Vec<i32> = case.labels.data.iter().map(|v| *v as i32).collect();
        let count = x.len() / (c.features * c.time_steps);
        let set = Sequences {
            inputs: Inputs::F32(&x),
            features: c.features,
            count,
            steps: c.time_steps,
            starts: None,
            lengths: case.lengths.as_deref(),
            labels: if c.per_step_loss {
                Labels::PerStep(&labels)
            } else {
                Labels::PerSequence(&labels)
            },
            weights: None,
        };
        set.check(c.classes).expect("a sound set");
        let indices: Vec<usize> = (0..count).collect();
        let sets = [set];
        let setup = Setup {
            network: &network,
            sets: &sets,
            class_weights: &[],
            threads: 1,
            change: None,
            teacher: None,
        };
        setup.run(|session: &mut Session<'_, E>| {
            let params: Vec<E> = start.iter().map(|p| E::from_f64(*p)).collect();
            session.set_weights(&params);
            let tally = session.batch(0, &indices, None);
            assert!(
                (tally.loss - case.loss).abs() <= tolerance * case.loss,
                "{name}: loss {}, expected {}",
                tally.loss,
                case.loss
            );
            let gradient = all_f64(session.gradient());
            let expected = flat(c, &case.gradients);
            let error = worst_tensor(c, &gradient, &expected);
            assert!(error <= tolerance, "{name}: gradient off by {error:e}");
            let norm = gru_train_host::optim::norm(session.gradient());
            assert!(
                (norm - case.global_grad_norm).abs() <= tolerance * norm,
                "{name}: norm {norm}"
            );
            let mut logits = vec![0.0; case.logits.data.len()];
            session.predict(0, &indices, |sequence, step, values| {
                let row = if c.per_step_loss {
                    sequence * c.time_steps + step
                } else {
                    sequence
                };
                for (to, from) in logits[row * c.classes..].iter_mut().zip(values) {
                    *to = from.to_f64();
                }
            });
            let error = relative(&logits, &case.logits.data);
            assert!(error <= tolerance, "{name}: logits off by {error:e}");

            for run in &case.adam {
                let convention = match run.optimizer.as_str() {
                    "keras" => Convention::Keras,
                    "torch" => Convention::Torch,
                    other => panic!("unknown optimizer {other}"),
                };
                let config = AdamConfig {
                    beta1: run.beta1,
                    beta2: run.beta2,
                    epsilon: Some(run.epsilon),
                    convention,
                    weight_decay: 0.0,
                };
                let mut params: Vec<E> = start.iter().map(|p| E::from_f64(*p)).collect();
                let mut adam = Adam::new(params.len());
                let decays = network.decays();
                let what = format!("{name}, {} clip {:?}", run.optimizer, run.clip_norm);
                for step in 1..=10 {
                    session.set_weights(&params);
                    let tally = session.batch(0, &indices, None);
                    let want = run.loss_before_each_step[step - 1];
                    assert!(
                        (tally.loss - want).abs() <= tolerance * want,
                        "{what}: loss before step {step} is {}, expected {want}",
                        tally.loss
                    );
                    let gradient = session.gradient();
                    if let Some(clip) = run.clip_norm {
                        clip_norm(gradient, clip, convention);
                    }
                    adam.update(&config, run.lr, &mut params, gradient, &decays);
                    if let Some(after) = run.parameters_after_step.get(&step.to_string()) {
                        let error = worst_tensor(c, &all_f64(&params), &flat(c, after));
                        assert!(error <= tolerance, "{what}: step {step} off by {error:e}");
                    }
                }
            }
        });
    }
}

#[test]
fn gradients_and_adam_agree_in_f64() {
    for isa in Isa::all() {
        check::<f64>(isa, 1e-9);
    }
}

#[test]
fn gradients_and_adam_agree_in_f32() {
    for isa in Isa::all() {
        check::<f32>(isa, 1e-5);
    }
}

/// A network with layers that read from the end; parameters are in PyTorch's order, which is ours.
#[derive(Deserialize)]
struct Turned {
    name: String,
    layers: Vec<TurnedLayer>,
    merge: Option<String>,
    readout: String,
    lengths: Option<Vec<usize>>,
    steps: usize,
    features: usize,
    classes: usize,
    parameters: Vec<f64>,
    input: Vec<f64>,
    labels: Vec<i32>,
    loss: f64,
    /// Of every sequence, or of every step within the sequences' lengths.
    logits: Vec<f64>,
    gradient: Vec<f64>,
}

#[derive(Deserialize)]
struct TurnedLayer {
    /// Else in both directions.
    backwards: bool,
    units: Vec<usize>,
}

impl Turned {
    fn model(&self) -> ModelSpec {
        let merge = self.merge.as_ref().map_or(Merge::Concat, |name| {
            serde_json::from_value(name.as_str().into()).expect("a merge mode")
        });
        let mut layers: Vec<LayerSpec> = Vec::new();
        let mut input = self.features;
        for layer in &self.layers {
            let layer = match (layer.backwards, &layer.units[..]) {
                (true, &[units]) => {
                    let mut gru = GruSpec::zeros(input, units);
                    gru.go_backwards = true;
                    LayerSpec::Gru(gru)
                }
                (false, &[a, b]) => both(input, [a, b], merge, |_| ()),
                other => panic!("{}: {other:?}", self.name),
            };
            input = layer.output();
            layers.push(layer);
        }
        layers.push(LayerSpec::Dense(DenseSpec::zeros(input, self.classes)));
        ModelSpec {
            layers,
            readout: match self.readout.as_str() {
                "last" => Readout::Last,
                "mean" => Readout::Mean { skip: 0 },
                "every" => Readout::Every,
                other => panic!("{}: read-out {other}", self.name),
            },
            ..ModelSpec::default()
        }
    }

    /// Lengths of the tensors of [`Turned::parameters`].
    fn tensors(&self) -> Vec<usize> {
        let of = |layer: &LayerSpec| -> Vec<usize> {
            match layer {
                LayerSpec::Dense(d) => vec![d.units * d.input, d.units],
                other => (other.grus())
                    .flat_map(|g| {
                        let rows = 3 * g.units;
                        [rows * g.input, rows * g.units, rows, rows]
                    })
                    .collect(),
            }
        };
        self.model().layers.iter().flat_map(of).collect()
    }

    fn check<E: Real>(&self, isa: Isa, tolerance: f64) {
        let name = format!("{} ({})", self.name, isa.name());
        let model = self.model();
        let network = Network::new::<E>(&model, Loss::default(), isa).expect("a valid network");
        assert_eq!(network.parameters(), self.parameters.len(), "{name}");
        let x: Vec<f32> = self.input.iter().map(|v| *v as f32).collect();
        let every = model.readout == Readout::Every;
        let count = x.len() / (self.features * self.steps);
        let sets = [Sequences {
            lengths: self.lengths.as_deref(),
            labels: match every {
                true => Labels::PerStep(&self.labels),
                false => Labels::PerSequence(&self.labels),
            },
            count,
            ..Sequences::windows(&x, self.features, self.steps, &[])
        }];
        let setup = Setup {
            network: &network,
            sets: &sets,
            class_weights: &[],
            threads: 1,
            change: None,
            teacher: None,
        };
        let indices: Vec<usize> = (0..count).collect();
        setup.run(|session: &mut Session<'_, E>| {
            let params: Vec<E> = (self.parameters.iter())
                .map(|p| E::from_f64(f64::from(*p as f32)))
                .collect();
            session.set_weights(&params);
            let loss = session.batch(0, &indices, None).loss;
            assert!(
                (loss - self.loss).abs() <= tolerance * self.loss,
                "{name}: loss {loss}, expected {}",
                self.loss
            );
            let found = all_f64(session.gradient());
            let mut start = 0;
            for (tensor, len) in self.tensors().into_iter().enumerate() {
                let range = start..start + len;
                start += len;
                let error = relative(&found[range.clone()], &self.gradient[range]);
                assert!(
                    error <= tolerance,
                    "{name}: gradient of tensor {tensor} off by {error:e}"
                );
            }
            assert_eq!(start, found.len());
            let mut logits = Vec::new();
            session.predict(0, &indices, |sequence, step, values| {
                logits.push(((sequence, step), all_f64(&values[..self.classes])));
            });
            logits.sort_by_key(|(place, _)| *place);
            logits.retain(|((sequence, step), _)| {
                (self.lengths.as_ref()).is_none_or(|l| !every || *step < l[*sequence])
            });
            let logits: Vec<f64> = logits.into_iter().flat_map(|(_, y)| y).collect();
            let error = relative(&logits, &self.logits);
            assert!(error <= tolerance, "{name}: logits off by {error:e}");
        });
    }
}

#[test]
fn layers_that_read_from_the_end_have_the_gradients_of_torch() {
    let cases = cases::<Turned>("gradients_directions.json");
    assert_eq!(cases.len(), 10);
    for case in &cases {
        for isa in Isa::all() {
            case.check::<f64>(isa, 1e-9);
            case.check::<f32>(isa, 1e-5);
        }
    }
}

/// Two directions of a layer.
fn both(input: usize, units: [usize; 2], merge: Merge, change: impl Fn(&mut GruSpec)) -> LayerSpec {
    let [forward, backward] = [false, true].map(|go_backwards| {
        let mut gru = GruSpec::zeros(input, units[usize::from(go_backwards)]);
        gru.go_backwards = go_backwards;
        change(&mut gru);
        gru
    });
    LayerSpec::Bidirectional {
        forward,
        backward,
        merge,
    }
}

/// Stacks with every option of a layer: three features, four classes.
fn stacks_of_all_options() -> Vec<Vec<LayerSpec>> {
    let turned = |input, units, change: &dyn Fn(&mut GruSpec)| {
        let mut gru = GruSpec::zeros(input, units);
        gru.go_backwards = true;
        change(&mut gru);
        LayerSpec::Gru(gru)
    };
    let plain = |_: &mut GruSpec| {};
    let dense = |input, use_bias| {
        LayerSpec::Dense(DenseSpec {
            use_bias,
            ..DenseSpec::zeros(input, 4)
        })
    };
    let hard = |g: &mut GruSpec| {
        g.activation = Activation::Relu;
        g.recurrent_activation = Activation::HardSigmoid;
        g.clip = Some(1.5);
        g.use_bias = false;
        g.learn_initial_state = true;
    };
    let before = |g: &mut GruSpec| {
        g.activation = Activation::HardTanh;
        g.recurrent_activation = Activation::HardSigmoidV2;
        g.reset_after = false;
        g.learn_initial_state = true;
    };
    let linear = |g: &mut GruSpec| {
        g.activation = Activation::Linear;
        g.recurrent_activation = Activation::Softsign;
        g.reset_after = false;
        g.use_bias = false;
    };
    let learnt = |g: &mut GruSpec| g.learn_initial_state = true;
    vec![
        vec![turned(3, 5, &plain), dense(5, true)],
        vec![turned(3, 5, &learnt), turned(5, 9, &plain), dense(9, true)],
        vec![both(3, [5, 6], Merge::Concat, plain), dense(11, true)],
        vec![
            both(3, [5, 5], Merge::Sum, learnt),
            turned(5, 6, &plain),
            both(6, [4, 7], Merge::Concat, plain),
            dense(11, true),
        ],
        vec![
            turned(3, 9, &hard),
            both(9, [5, 5], Merge::Mul, plain),
            dense(5, false),
        ],
        vec![
            both(3, [6, 6], Merge::Ave, before),
            turned(6, 5, &linear),
            dense(5, true),
        ],
        vec![
            both(3, [3, 9], Merge::Concat, linear),
            both(12, [4, 4], Merge::Mul, before),
            dense(4, false),
        ],
    ]
}

/// A layer that reads from the end of short windows gives what the device's path gives on windows of that length.
#[test]
fn every_layer_option_runs_as_the_float_core_does() {
    let mut rng = Rng::new(12);
    let (count, steps) = (6, 9);
    let x: Vec<f32> = (0..count * steps * 3)
        .map(|_| rng.normal() as f32)
        .collect();
    let lengths = [9, 4, 7, 1, 9, 2];
    for layers in stacks_of_all_options() {
        for readout in [Readout::Last, Readout::Every] {
            let mut model = ModelSpec {
                layers: layers.clone(),
                readout,
                ..ModelSpec::default()
            };
            let isa = Isa::all()[0];
            let network = Network::new::<f64>(&model, Loss::default(), isa).expect("valid");
            let mut params: Vec<f64> = (0..network.parameters())
                .map(|_| 0.5 * rng.normal())
                .collect();
            for (at, p) in params.iter_mut().enumerate() {
                if !network_has(&model, at) {
                    *p = 0.0;
                }
            }
            network.write(&params, &mut model);
            let last = model.layers.len() - 2;
            for (index, layer) in model.layers.iter_mut().enumerate() {
                let all = index < last || readout == Readout::Every;
                layer.grus_mut().for_each(|g| g.return_sequences = all);
            }
            let per_step = vec![0; count * steps];
            let data = Sequences {
                lengths: Some(&lengths),
                labels: match readout {
                    Readout::Every => Labels::PerStep(&per_step),
                    _ => Labels::PerSequence(&per_step[..count]),
                },
                count,
                ..Sequences::windows(&x, 3, steps, &[])
            };
            let found = evaluate(&model, &data, 1).expect("runs").logits;
            let views = model.views().expect("views");
            let core = ModelF32::new(&views).expect("a model of the core");
            for (sequence, &length) in lengths.iter().enumerate() {
                let mut state = vec![0.0; core.state_len()];
                core.reset(&mut state).expect("resets");
                let x = &x[sequence * steps * 3..][..length * 3];
                let mut want = vec![0.0; core.output_len(length)];
                let mut scratch = vec![0.0; core.window_scratch_len(length)];
                core.run(&mut state, x, None, &mut want, &mut scratch)
                    .expect("runs");
                let per = found.len() / count;
                let found = &found[sequence * per..][..want.len()];
                for (found, want) in found.iter().zip(&want) {
                    assert!(
                        (found - want).abs() < 2e-5,
                        "{:?} {readout:?}: {found} {want}",
                        model.layers
                    );
                }
            }
        }
    }
}

/// What no oracle covers: dropout, means over time, short rows, dense layers below and above,
/// smoothed labels, weights, a teacher, layers that read from the end, learnt initial states. Every
/// parameter against a finite difference in f64.
#[test]
fn every_gradient_equals_its_finite_difference() {
    let gru = |input, units, reset_after, activation| {
        let mut gru = GruSpec::zeros(input, units);
        gru.reset_after = reset_after;
        gru.activation = activation;
        LayerSpec::Gru(gru)
    };
    let dense = |input, units, activation| {
        LayerSpec::Dense(DenseSpec {
            activation,
            ..DenseSpec::zeros(input, units)
        })
    };
    let mut stacks = vec![
        vec![
            gru(3, 5, true, Activation::Tanh),
            dense(5, 4, Activation::Linear),
        ],
        vec![
            dense(3, 6, Activation::Silu),
            gru(6, 5, true, Activation::Tanh),
            gru(5, 9, true, Activation::Softsign),
            dense(9, 7, Activation::Tanh),
            dense(7, 4, Activation::Softmax),
        ],
        vec![
            gru(3, 9, false, Activation::Tanh),
            gru(9, 3, false, Activation::Elu),
            dense(3, 4, Activation::Linear),
        ],
    ];
    stacks.extend(stacks_of_all_options());
    let mut rng = Rng::new(11);
    let (count, steps) = (5, 7);
    let x: Vec<f32> = (0..count * steps * 3)
        .map(|_| rng.normal() as f32)
        .collect();
    let lengths = [7, 2, 5, 1, 6];
    let weights = [1.0, 0.5, 2.0, 1.0, 0.1];
    let per_sequence = [0, 3, 1, 2, 2];
    let per_step: Vec<i32> = (0..count * steps).map(|k| k as i32 % 5 - 1).collect();
    for layers in stacks {
        let readouts = [Readout::Last, Readout::Every, Readout::Mean { skip: 2 }];
        for (first, readout) in readouts.into_iter().enumerate() {
            let model = ModelSpec {
                layers: layers.clone(),
                readout,
                ..ModelSpec::default()
            };
            let loss = Loss::Softmax {
                label_smoothing: 0.1,
            };
            let mut network = Network::new::<f64>(&model, loss, Isa::all()[0]).expect("valid");
            let mut teacher = ModelSpec {
                layers: vec![
                    gru(3, 11, true, Activation::Tanh),
                    dense(11, 4, Activation::Linear),
                ],
                ..model.clone()
            };
            let teacher_network =
                Network::new::<f64>(&teacher, loss, Isa::all()[0]).expect("valid");
            let opinion: Vec<f64> = (0..teacher_network.parameters())
                .map(|_| 0.8 * rng.normal())
                .collect();
            teacher_network.write(&opinion, &mut teacher);
            network
                .set_dropout(Dropout {
                    output: 0.3,
                    recurrent: 0.3,
                })
                .expect("valid shares");
            let sets = [Sequences {
                inputs: Inputs::F32(&x),
                features: 3,
                count,
                steps,
                starts: None,
                lengths: Some(&lengths),
                labels: if readout == Readout::Every {
                    Labels::PerStep(&per_step)
                } else {
                    Labels::PerSequence(&per_sequence)
                },
                weights: Some(&weights),
            }];
            let setup = Setup {
                network: &network,
                sets: &sets,
                class_weights: &[1.0, 2.0, 0.5, 1.0],
                threads: 1,
                change: None,
                teacher: Some(Teacher {
                    network: &teacher_network,
                    model: &teacher,
                    temperature: 1.5,
                    weight: 0.4,
                }),
            };
            let start: Vec<f64> = (0..network.parameters())
                .map(|_| 0.4 * rng.normal())
                .collect();
            setup.run(|session: &mut Session<'_, f64>| {
                session.set_noise(Some(5));
                let indices = [0, 1, 2, 3, 4];
                session.set_weights(&start);
                let whole = session.batch(0, &indices, None).loss;
                let gradient = session.gradient().to_vec();
                let scale = gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
                let mut start = start.clone();
                // Each parameter in one of the three read-outs.
                for at in (first..start.len()).step_by(3) {
                    let mut loss = |e: f64| {
                        start[at] += e;
                        session.set_weights(&start);
                        start[at] -= e;
                        session.batch(0, &indices, None).loss
                    };
                    let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
                    // The recurrent biases of the reset-before variant are not parameters, nor are absent ones.
                    let fixed = gradient[at] == 0.0 && !network_has(&model, at);
                    assert!(
                        fixed || (slope - gradient[at]).abs() < 1e-7 * scale.max(1e-2),
                        "{readout:?} parameter {at}: {} but finite difference {slope}",
                        gradient[at]
                    );
                }
                session.set_noise(None);
                session.set_weights(&start);
                let without = session.batch(0, &indices, None).loss;
                assert!((without - whole).abs() > 1e-6, "dropout changed nothing");
            });
        }
    }
}

/// Whether parameter `at` takes part: biases do where there are some, recurrent ones only with the reset gate after.
fn network_has(model: &ModelSpec, at: usize) -> bool {
    let mut start = 0;
    for layer in &model.layers {
        if let LayerSpec::Dense(d) = layer {
            let weights = start + d.units * d.input;
            start = weights + d.units;
            if at < start {
                return at < weights || d.use_bias;
            }
        }
        for g in layer.grus() {
            let b_in = start + 3 * g.units * (g.input + g.units);
            let b_rec = b_in + 3 * g.units;
            let h0 = b_rec + 3 * g.units;
            start = h0 + if g.learn_initial_state { g.units } else { 0 };
            if at < start {
                return match at {
                    _ if at < b_in || at >= h0 => true,
                    _ => g.use_bias && (at < b_rec || g.reset_after),
                };
            }
        }
    }
    false
}
