//! Rows 8, 22 and 23: a model that was trained here, the training side's refusals, and what the export loses.

use std::path::{Path, PathBuf};

use gru_core::Model;
use gru_core::layout::Layout;
use gru_core::writer::Aligned;

use crate::dataset::csv::Options;
use crate::dataset::{self, Dataset, Window, WindowLabel, npy, split};
use crate::imu::{self, ImuConfig};
use crate::nn::data::{Inputs, Labels, Sequences};
use crate::nn::loss::Loss;
use crate::nn::network::Network;
use crate::nn::rng::Rng;
use crate::nn::session::{Session, Setup};
use crate::nn::simd::Isa;
use crate::optim::schedule::Schedule;
use crate::pipeline::{self, Cut, Order, Product};
use crate::quantize::{self, QuantizeError, QuantizeOptions};
use crate::spec::{Activation, DenseSpec, GruSpec, LayerSpec, ModelSpec, Readout};
use crate::train::TrainConfig;

// ---- a trained model ----------------------------------------------------------------------------

/// A small model of the motion recordings, trained in seconds.
pub struct Trained {
    /// The recordings.
    pub data: Dataset,
    /// Windows of people that training has not seen.
    pub test: Vec<Window>,
    /// What training gave.
    pub product: Product,
    /// People that are in both parts of the split: none, or the split leaks.
    pub shared_people: usize,
}

/// Trains it; everything follows from the seed, whatever the number of threads.
///
/// # Errors
/// One line of the trainer.
pub fn train(persons: usize, epochs: usize, seed: u64, threads: usize) -> Result<Trained, String> {
    let config = ImuConfig {
        persons,
        recordings: 1,
        seconds: 60.0,
    };
    let data = imu::generate(&config, seed);
    let parts = split::split(&data, 0.25, 0.0, seed);
    // Long windows: in a stream the state has seen other activities, and the model has to learn to forget them.
    let cut = Cut {
        steps: 400,
        hop: 100,
        label: WindowLabel::Last,
    };
    let (learn, test) = (
        cut.windows(&data, &parts.train),
        cut.windows(&data, &parts.test),
    );
    let people =
        |part: &[usize]| -> Vec<_> { part.iter().map(|&s| data.sequences[s].subject).collect() };
    let (known, held_out) = (people(&parts.train), people(&parts.test));
    let shared_people = held_out.iter().filter(|p| known.contains(p)).count();
    let recipe = TrainConfig {
        units: vec![16],
        epochs,
        batch: 16,
        lr: 1e-2,
        schedule: Schedule::Cosine {
            warmup: 0.5,
            floor: 0.0,
        },
        clip_norm: Some(1.0),
        // A decision at every step, as a stream asks for it.
        readout: Readout::Every,
        seed,
        threads,
        ..TrainConfig::default()
    };
    let order = Order {
        data: &data,
        train: &learn,
        validation: &[],
        by: data.standardisation(&parts.train),
        config: &recipe,
        name: "reliability".into(),
        layout: Layout::Rows,
        self_test_steps: 8,
    };
    let product = pipeline::make(&order, &mut |_| {})?;
    Ok(Trained {
        data,
        test,
        product,
        shared_people,
    })
}

// ---- row 22 -------------------------------------------------------------------------------------

/// Malformed CSV files, each with the row that the refusal has to name.
const BAD_CSV: [(&[u8], &str); 24] = [
    (b"", "empty"),
    (b"\n\n", "empty"),
    (b"x,label\n", "without rows"),
    (b"x,y\n1,2\n", "row 1"),
    (b"1,2\n3,4\n", "row 1"),
    (b"x,label\n1,a\nabc,a\n", "row 3"),
    (b"x,label\n1,a\n,a\n", "row 3"),
    (b"x,label\nNaN,a\n", "row 2"),
    (b"x,label\n-inf,a\n", "row 2"),
    (b"x,label\n1e300,a\n", "row 2"),
    (b"x;label\n0,5;a\n", "row 2"),
    (b"x,label\n1,a\n2\n", "row 3"),
    (b"x,label\n1,a,9\n", "row 2"),
    (b"x,x,label\n1,2,a\n", "row 1"),
    (b"x,,label\n1,2,a\n", "row 1"),
    (b"label,subject\na,1\n", "row 1"),
    (b"x,label\n1,\xff\xfe\n", "row 2"),
    (b"\x80\x02model\x00\x01\n1,2\n", "row 1"),
    (b"x,label,window\n1,a,0\n2,a,0\n3,a,1\n", "row 4"),
    (b"x,label,window\n1,a,0\n2,a,1\n3,a,0\n", "row 4"),
    (b"x,label,step\n1,a,0\n2,a,1\n3,a,3\n", "row 4"),
    (b"time_s,x,label\n0.02,1,a\n0.02,1,a\n", "row 3"),
    (b"time,x,label\n12:00:01,1,a\n", "row 2"),
    (b"x,label\n0x10,a\n", "row 2"),
];

/// A `.npy` file of 16-bit numbers, and what may be wrong with it.
fn bad_npy() -> Vec<Vec<u8>> {
    let file = |descr: &str, shape: &str, order: &str, data: &[u8]| {
        let mut header =
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
        while !(10 + header.len() + 1).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.as_bytes());
        out.extend(data);
        out
    };
    let good = file("<i2", "(2, 3)", "False", &[0; 12]);
    let mut bad = vec![
        Vec::new(),
        good[..7].to_vec(),
        good[..40].to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0]].concat(),
        file("<f4", "(2, 3)", "False", &[0; 24]),
        file(">i2", "(2, 3)", "False", &[0; 12]),
        file("|O", "(2, 3)", "False", &[0; 12]),
        file("<i2", "(3, 2)", "False", &[0; 12]),
        file("<i2", "(6,)", "False", &[0; 12]),
        file("<i2", "(-2, 3)", "False", &[0; 12]),
        file("<i2", "(9223372036854775807, 3)", "False", &[0; 12]),
        file("<i2", "(2, 3)", "True", &[0; 12]),
    ];
    for (at, byte) in [(0, b'P'), (6, 9), (10, b'['), (20, 0xff)] {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bad.push(bytes);
    }
    bad
}

/// How a file is read: `None` when it was accepted, else the refusal.
pub type Reader = fn(&Path) -> Option<String>;

/// The product's readers, by the file's name.
#[must_use]
pub fn read_file(path: &Path) -> Option<String> {
    if path.extension().is_some_and(|e| e == "npy") {
        return (npy::Reader::open::<i16>(path, &[None, Some(3)]).err()).map(|e| e.to_string());
    }
    let options = Options {
        need_labels: true,
        ..Options::default()
    };
    dataset::open(path, &options).err().map(|e| e.to_string())
}

/// Malformed files tried, and those that were not refused with one line that says where.
#[must_use]
pub fn malformed(reader: Reader) -> (u64, u64) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder: PathBuf =
        std::env::temp_dir().join(format!("gru-malformed-{}-{number}", std::process::id()));
    if std::fs::create_dir_all(&folder).is_err() {
        return (0, 1);
    }
    let csv = BAD_CSV
        .iter()
        .map(|(bytes, part)| (bytes.to_vec(), "csv", *part));
    let npy = bad_npy().into_iter().map(|bytes| (bytes, "npy", "bad"));
    let (mut cases, mut wrong) = (0, 0);
    for (n, (bytes, kind, part)) in csv.chain(npy).enumerate() {
        let path = folder.join(format!("bad{n}.{kind}"));
        let written = std::fs::write(&path, bytes).is_ok();
        let line = reader(&path).unwrap_or_default();
        let right = written && line.lines().count() == 1 && line.contains(part);
        cases += 1;
        wrong += u64::from(!right);
    }
    let _ = std::fs::remove_dir_all(&folder);
    (cases, wrong)
}

/// Gradients of every parameter of random networks against central differences in f64: parameters, and the
/// largest error in units of the network's largest gradient. `fault` is added to every gradient's first entry.
#[must_use]
pub fn gradients(networks: u64, fault: f64) -> (u64, f64) {
    let mut rng = Rng::new(9);
    let (mut parameters, mut worst) = (0, 0.0_f64);
    for _ in 0..networks {
        let (input, units, classes) = (1 + rng.below(4), 1 + rng.below(5), 2 + rng.below(3));
        let (count, steps) = (1 + rng.below(3), 2 + rng.below(5));
        let mut gru = GruSpec::zeros(input, units);
        gru.return_sequences = false;
        let model = ModelSpec {
            layers: vec![
                LayerSpec::Gru(gru),
                LayerSpec::Dense(DenseSpec::zeros(units, classes)),
            ],
            ..ModelSpec::default()
        };
        let loss = Loss::Softmax {
            label_smoothing: 0.0,
        };
        let Ok(network) = Network::new::<f64>(&model, loss, Isa::all()[0]) else {
            return (0, f64::INFINITY);
        };
        let x: Vec<f32> = (0..count * steps * input)
            .map(|_| rng.normal() as f32)
            .collect();
        let labels: Vec<i32> = (0..count).map(|_| rng.below(classes) as i32).collect();
        let sets = [Sequences {
            inputs: Inputs::F32(&x),
            features: input,
            count,
            steps,
            starts: None,
            lengths: None,
            labels: Labels::PerSequence(&labels),
            weights: None,
        }];
        let setup = Setup {
            network: &network,
            sets: &sets,
            class_weights: &[],
            threads: 1,
            change: None,
            teacher: None,
        };
        let mut at: Vec<f64> = (0..network.parameters())
            .map(|_| 0.5 * rng.normal())
            .collect();
        let indices: Vec<usize> = (0..count).collect();
        setup.run(|session: &mut Session<'_, f64>| {
            session.set_weights(&at);
            session.batch(0, &indices, None);
            let mut gradient = session.gradient().to_vec();
            if let Some(first) = gradient.first_mut() {
                *first += fault;
            }
            let scale = gradient.iter().fold(1e-3_f64, |m, g| m.max(g.abs()));
            for (k, g) in gradient.iter().enumerate() {
                let mut loss = |e: f64| {
                    at[k] += e;
                    session.set_weights(&at);
                    at[k] -= e;
                    session.batch(0, &indices, None).loss
                };
                // Fourth order: no error of the difference itself is left at 1e-6.
                let e = 1e-3;
                let slope =
                    (8.0 * (loss(e) - loss(-e)) - (loss(2.0 * e) - loss(-2.0 * e))) / (12.0 * e);
                worst = worst.max((slope - g).abs() / scale);
                parameters += 1;
            }
        });
    }
    (parameters, worst)
}

/// Whether training on samples that are not numbers stops with an error that says so.
#[must_use]
pub fn stops_at_nan() -> bool {
    let mut x = vec![0.5_f32; 8 * 10];
    x[37] = f32::NAN;
    let labels: Vec<i32> = (0..8).map(|n| n % 2).collect();
    let set = Sequences {
        inputs: Inputs::F32(&x),
        features: 1,
        count: 8,
        steps: 10,
        starts: None,
        lengths: None,
        labels: Labels::PerSequence(&labels),
        weights: None,
    };
    let config = TrainConfig {
        units: vec![3],
        epochs: 2,
        ..TrainConfig::default()
    };
    crate::train::fit(&config, &set, None, 2, &mut crate::train::silent())
        .is_err_and(|e| e.to_string().contains("NaN"))
}

// ---- row 23 -------------------------------------------------------------------------------------

/// Figures of [`export_losses`].
#[derive(Debug, Clone, Default)]
pub struct Losses {
    /// Windows of people that training has not seen.
    pub windows: u64,
    /// Share of right decisions, float and integers.
    pub accuracy: [f64; 2],
    /// Share of equal decisions.
    pub agreement: f64,
    /// Values that the quantizer had to saturate in the trained model.
    pub saturated: usize,
    /// Largest rounding error of a weight, in units of the largest weight of the layer's kind.
    pub max_error: f64,
}

/// What the trained model lost on its way to integers.
///
/// # Errors
/// One line of whatever fails.
pub fn export_losses(trained: &Trained) -> Result<Losses, String> {
    let bytes = Aligned::new(&trained.product.artifact);
    let model = Model::load(&bytes).map_err(|e| e.to_string())?;
    let float =
        pipeline::decide_float(&trained.product.fit.model, &trained.data, &trained.test, 0)?;
    let int8 = pipeline::decide_int8(&model, &trained.data, &trained.test)
        .map_err(|e| e.to_string())?
        .classes;
    let report = &trained.product.report;
    Ok(Losses {
        windows: trained.test.len() as u64,
        accuracy: [&float, &int8].map(|d| pipeline::accuracy(d, &trained.test)),
        agreement: pipeline::agreement(&float, &int8),
        saturated: report.layers.iter().map(|l| l.saturated_biases).sum(),
        max_error: report
            .layers
            .iter()
            .map(|l| l.max_error)
            .fold(0.0, f64::max),
    })
}

/// Plants what integers cannot hold: `biases` of a GRU far beyond the range of their activation, and a weight beyond
/// every scale. Returns the biases that the report counts, and whether the weight was refused.
#[must_use]
pub fn planted_losses(biases: usize) -> (usize, bool) {
    let quantized = |gru: &GruSpec| {
        let model = ModelSpec {
            layers: vec![LayerSpec::Gru(gru.clone())],
            ..ModelSpec::default()
        };
        let x = [0.5_f32; 12];
        let ranges = quantize::calibrate(&model, [x.as_slice()])?;
        quantize::quantize(&model, &ranges, &QuantizeOptions::default())
    };
    let mut gru = GruSpec::zeros(3, 8);
    gru.activation = Activation::Tanh;
    gru.w
        .iter_mut()
        .enumerate()
        .for_each(|(n, w)| *w = (n % 7) as f32 * 0.1 - 0.3);
    for b in gru.b_in.iter_mut().take(biases) {
        *b = 40.0;
    }
    let counted = quantized(&gru).map_or(0, |(_, report)| {
        report.layers.iter().map(|l| l.saturated_biases).sum()
    });
    gru.w[5] = 1e9;
    let refused = matches!(quantized(&gru), Err(QuantizeError::Weights { .. }));
    (counted, refused)
}
