//! A float model as a file of Rust: its numbers as `static` arrays, and the model on them, made by the compiler.
//!
//! The file needs `gru-core` with the feature `f32` and nothing else; no allocator, no file system, and no RAM but what it
//! states. Its numbers are the shortest decimals that read back as the same bits, so the device computes what the host
//! does ([`gru_core::float`] keeps the order of its sums on every core).

use std::fmt::Write as _;

use gru_core::float::{FloatError, ModelF32};

use crate::spec::{Activation, DenseSpec, GruSpec, LayerSpec, Merge, ModelSpec, Readout};

/// Numbers on a line.
const A_LINE: usize = 8;

/// Writes `model` as Rust.
///
/// # Errors
/// Whatever [`ModelF32`] refuses.
pub fn rust_source(model: &ModelSpec) -> Result<String, FloatError> {
    let views = model.views()?;
    let float = ModelF32::new(&views)?;
    let window = float.needs_window().is_some();
    let steps = model.window_steps.max(1);
    let scratch = float.window_scratch_len(if window { steps } else { 1 });
    let (input, output, state) = (float.input(), float.output(), float.state_len());

    let mut arrays = String::new();
    let mut layers = String::new();
    for (n, layer) in model.layers.iter().enumerate() {
        let line = match layer {
            LayerSpec::Gru(g) => format!("LayerF32::Gru({})", gru(&n.to_string(), g, &mut arrays)),
            LayerSpec::Dense(d) => format!("LayerF32::Dense({})", dense(n, d, &mut arrays)),
            LayerSpec::Bidirectional {
                forward,
                backward,
                merge,
            } => {
                let forward = gru(&format!("{n}_FORWARD"), forward, &mut arrays);
                let backward = gru(&format!("{n}_BACKWARD"), backward, &mut arrays);
                let merge = match merge {
                    Merge::Concat => "Concat",
                    Merge::Sum => "Sum",
                    Merge::Mul => "Mul",
                    Merge::Ave => "Ave",
                };
                format!(
                    "LayerF32::Bidirectional(sound(BidirectionalF32::new({forward}, {backward}, Merge::{merge})))"
                )
            }
        };
        let _ = writeln!(layers, "    {line},");
    }
    // As the host standardises: a multiplication and a subtraction.
    let (scale, offset): (Vec<f32>, Vec<f32>) = (0..input)
        .map(|k| {
            let get = |v: &[f32], default: f32| v.get(k).copied().unwrap_or(default);
            let std = get(&model.standardize.std, 1.0);
            let counts = get(&model.counts_per_unit, 1.0);
            (
                1.0 / (counts * std),
                get(&model.standardize.mean, 0.0) / std,
            )
        })
        .unzip();
    array("SCALE", &scale, &mut arrays);
    array("OFFSET", &offset, &mut arrays);

    let names = [
        "Activation",
        "BidirectionalF32",
        "DenseF32",
        "FloatError",
        "GruF32",
        "GruWeights",
        "LayerF32",
        "Merge",
        "ModelF32",
        "Reset",
    ];
    let used: Vec<&str> = (names.into_iter())
        .filter(|name| {
            let always = matches!(*name, "FloatError" | "LayerF32" | "ModelF32");
            always
                || [" ", "("].iter().any(|before| {
                    ["::", " {"]
                        .iter()
                        .any(|after| layers.contains(&format!("{before}{name}{after}")))
                })
        })
        .collect();
    let used = used.join(", ");

    let mut out = String::new();
    let name: String = model
        .name
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let _ = write!(
        out,
        "//! The model `{name}` in f32 for `gru_core::float`. Written by `gru export`, not to be edited.\n\
         //!\n\
         //! Flash: {} bytes of numbers. RAM: {} bytes, [`STATE`] values for each stream and [`SCRATCH`] values of which nothing\n\
         //! is kept from one call to the next. Samples are raw counts; [`standardised`] makes of them what the layers take.\n",
        4 * (model.parameters() + 2 * input),
        4 * (state + scratch),
    );
    let _ = match window {
        true => writeln!(
            out,
            "//!\n//! Layers read backwards, so it is run over windows: `MODEL.run(&mut state, &window, None, &mut out, &mut scratch)` with\n\
             //! `[0.0; SCRATCH]` for {steps} steps, and `MODEL.window_scratch_len(steps)` values for others."
        ),
        false => writeln!(
            out,
            "//!\n//! ```ignore\n//! let (mut state, mut scratch, mut out) = ([0.0; STATE], [0.0; SCRATCH], [0.0; OUTPUT]);\n\
             //! MODEL.reset(&mut state)?;\n\
             //! MODEL.step(&mut state, &standardised(&counts), &mut out, &mut scratch)?;\n//! ```"
        ),
    };
    let _ = match model.readout {
        Readout::Mean { skip } => writeln!(
            out,
            "//!\n//! Trained on the mean of the outputs of a window, without its first {skip} steps; forming it is up to the program."
        ),
        Readout::Sliding { steps } => writeln!(
            out,
            "//!\n//! Trained on the mean of the outputs of the latest {steps} steps; forming it is up to the program."
        ),
        Readout::Exponential { steps } => writeln!(
            out,
            "//!\n//! Decides by the exponential mean of the outputs over {steps} steps; forming it is up to the program."
        ),
        Readout::Last | Readout::Every => Ok(()),
    };
    let classes: Vec<String> = model.classes.iter().map(|c| format!("{c:?}")).collect();
    let _ = write!(
        out,
        "\n#![allow(dead_code)] // A program uses what it needs.\n\nuse gru_core::float::{{{used}}};\n\n\
         /// Values of a sample.\npub const INPUT: usize = {input};\n\
         /// Outputs.\npub const OUTPUT: usize = {output};\n\
         /// Values of the hidden states.\npub const STATE: usize = {state};\n\
         /// Values of scratch memory{}.\npub const SCRATCH: usize = {scratch};\n\
         /// Names of the outputs.\npub const CLASSES: [&str; {}] = [{}];\n\n\
         /// The model: in flash, sizes checked while it was compiled.\n\
         pub static MODEL: ModelF32<'static> = sound(ModelF32::new(&LAYERS));\n\n\
         /// A sample of raw counts as the layers take it.\n\
         pub fn standardised(counts: &[f32; INPUT]) -> [f32; INPUT] {{\n    \
             let mut x = *counts;\n    \
             for (x, (scale, offset)) in x.iter_mut().zip(SCALE.iter().zip(&OFFSET)) {{\n        \
                 *x = *x * *scale - *offset;\n    }}\n    x\n}}\n\n\
         const fn sound<T: Copy>(made: Result<T, FloatError>) -> T {{\n    \
             match made {{\n        Ok(made) => made,\n        Err(_) => panic!(\"sizes that do not fit\"),\n    }}\n}}\n\n\
         const _: () = assert!(INPUT == MODEL.input() && OUTPUT == MODEL.output() && STATE == MODEL.state_len());\n\
         const _: () = assert!(SCRATCH == MODEL.window_scratch_len({}));\n\n\
         #[rustfmt::skip]\nstatic LAYERS: [LayerF32<'static>; {}] = [\n{layers}];\n\n{arrays}",
        if window {
            format!(" for a window of {steps} steps")
        } else {
            String::new()
        },
        classes.len(),
        classes.join(", "),
        if window { steps } else { 1 },
        model.layers.len(),
    );
    Ok(out)
}

/// A number that reads back as the same bits.
fn number(v: f32) -> String {
    match v {
        f32::INFINITY => "f32::INFINITY".into(),
        v => format!("{v:?}"),
    }
}

/// An array of numbers, and how to refer to it; nothing of none.
fn array(name: &str, values: &[f32], out: &mut String) -> String {
    if values.is_empty() {
        return "&[]".into();
    }
    let _ = writeln!(
        out,
        "#[rustfmt::skip]\nstatic {name}: [f32; {}] = [",
        values.len()
    );
    for line in values.chunks(A_LINE) {
        let numbers: Vec<String> = line.iter().map(|v| number(*v)).collect();
        let _ = writeln!(out, "    {},", numbers.join(", "));
    }
    let _ = writeln!(out, "];");
    format!("&{name}")
}

fn gru(n: &str, g: &GruSpec, arrays: &mut String) -> String {
    let w = array(&format!("W_{n}"), &g.w, arrays);
    let u = array(&format!("U_{n}"), &g.u, arrays);
    let b_in = array(&format!("B_IN_{n}"), &g.b_in, arrays);
    let b_rec = array(&format!("B_REC_{n}"), &g.b_rec, arrays);
    let mut made = format!(
        "sound(GruF32::new({}, {}, GruWeights {{ w: {w}, u: {u}, b_in: {b_in}, b_rec: {b_rec} }}))",
        g.input, g.units
    );
    if (g.activation, g.recurrent_activation) != (Activation::Tanh, Activation::Sigmoid) {
        made = format!(
            "sound({made}.with_activations({}, {}))",
            activation(g.activation),
            activation(g.recurrent_activation)
        );
    }
    if !g.reset_after {
        made += ".with_reset(Reset::Before)";
    }
    if let Some(clip) = g.clip {
        made = format!("sound({made}.with_clip(Some({})))", number(clip));
    }
    if g.h0.iter().any(|h| h.to_bits() != 0) {
        let h0 = array(&format!("H0_{n}"), &g.h0, arrays);
        made = format!("sound({made}.with_initial_state({h0}))");
    }
    if g.return_sequences {
        made += ".with_return_sequences(true)";
    }
    if g.go_backwards {
        made += ".with_go_backwards(true)";
    }
    made
}

fn dense(n: usize, d: &DenseSpec, arrays: &mut String) -> String {
    let w = array(&format!("W_{n}"), &d.w, arrays);
    let b = array(&format!("B_{n}"), &d.b, arrays);
    let (input, units, activation) = (d.input, d.units, activation(d.activation));
    format!("sound(DenseF32::new({input}, {units}, {w}, {b}, {activation}))")
}

/// The function as the view of it is made, see `From<Activation>`.
fn activation(a: Activation) -> String {
    // Its `Debug` form is how it is written, fields included.
    format!("Activation::{:?}", gru_core::float::Activation::from(a))
}
