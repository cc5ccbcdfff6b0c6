//! `gru inspect`, `gru summary`, and what other commands need of an artifact on disk.
//!
//! Beside `model.gru`, which is all that a device needs, training leaves `model.float.json`: the
//! float model and the names that the artifact has no room for. It is found by its name and
//! recognised by the artifact's checksum.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use gru_core::artifact::{Direction, GapPolicy, MAX_LEN, VERSION};
use gru_core::writer::{self, Aligned, QuantModel};
use gru_core::{Decider, Layer, Model, State};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::console::{Console, Failure, grouped, percent, write_file};
use crate::decision::describe;
use crate::quantize;
use crate::spec::{LayerSpec, ModelSpec};

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The artifact, or a float model (`.json`).
    model: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SummaryArgs {
    /// The artifact, or a float model (`.json`).
    model: PathBuf,
}

/// What training leaves beside an artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Companion {
    /// CRC-32 of the artifact that belongs to it.
    pub(crate) artifact_crc32: String,
    /// Name of the data set.
    pub(crate) data: String,
    /// Names of the features.
    pub(crate) features: Vec<String>,
    /// Steps of the windows that it was trained on, and from one to the next; 0 for whole sequences.
    pub(crate) window_steps: usize,
    pub(crate) hop_steps: usize,
    /// Subjects or recordings that training never saw.
    pub(crate) held_out: Vec<String>,
    /// Those that the weights were not learnt from, but by whom something was chosen or may be.
    #[serde(default)]
    pub(crate) validation: Vec<String>,
    /// The float model.
    pub(crate) model: ModelSpec,
}

/// An artifact that was read from disk and found sound.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    bytes: Aligned,
    parts: QuantModel,
    pub(crate) companion: Option<Companion>,
}

/// What a model expects of its data.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// Of each feature.
    pub(crate) counts_per_unit: Vec<f32>,
    pub(crate) classes: Vec<String>,
    /// Names of the features; empty if nobody knows them.
    pub(crate) names: Vec<String>,
}

/// Where the companion of an artifact lies.
pub(crate) fn companion_path(artifact: &Path) -> PathBuf {
    artifact.with_extension("float.json")
}

/// Opens a file whose end will come: a pipe may never be written to, a device may have no end.
fn open_regular(path: &Path, expected: &str) -> Result<File, Failure> {
    // Asked before opening, which would wait for a pipe's other end.
    let meta = std::fs::metadata(path).map_err(|e| Failure::file(path, e))?;
    if meta.is_dir() {
        return Err(Failure::file(
            path,
            format!("a folder, expected {expected}"),
        ));
    }
    if !meta.is_file() {
        let what = format!("no regular file, expected {expected}");
        return Err(Failure::file(path, what));
    }
    File::open(path).map_err(|e| Failure::file(path, e))
}

/// Writes an artifact and its companion; the companion alone of a model that stays in floats.
pub(crate) fn save(
    path: &Path,
    bytes: Option<&[u8]>,
    companion: &Companion,
) -> Result<(), Failure> {
    let text = serde_json::to_string(companion).map_err(|e| Failure::file(path, e))?;
    if let Some(bytes) = bytes {
        write_file(path, bytes)?;
    }
    write_file(&companion_path(path), text.as_bytes())
}

impl Companion {
    /// Whether a path names a float model, not an artifact.
    pub(crate) fn is_at(path: &Path) -> bool {
        path.extension().is_some_and(|e| e == "json")
    }

    /// Reads and checks a float model.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let mut text = Vec::new();
        (open_regular(path, "a float model")?.read_to_end(&mut text))
            .map_err(|e| Failure::file(path, e))?;
        let read: Self = serde_json::from_slice(&text)
            .map_err(|e| Failure::file(path, format!("not a float model: {e}")))?;
        read.model.check().map_err(|e| Failure::file(path, e))?;
        Ok(read)
    }

    pub(crate) fn expected(&self) -> Expected {
        Expected {
            counts_per_unit: match self.model.counts_per_unit.is_empty() {
                true => vec![1.0; self.model.input()],
                false => self.model.counts_per_unit.clone(),
            },
            classes: self.model.classes.clone(),
            names: self.features.clone(),
        }
    }
}

impl Loaded {
    /// Reads and checks an artifact, and its companion where there is one; one that cannot be used is noted.
    pub(crate) fn open(path: &Path, console: &mut Console<'_>) -> Result<Self, Failure> {
        let most = u64::from(MAX_LEN);
        let mut bytes = Vec::new();
        (open_regular(path, "an artifact")?.take(most + 1))
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::file(path, e))?;
        if bytes.len() as u64 > most {
            let what = format!("more than {MAX_LEN} bytes, an artifact has no more");
            return Err(Failure::file(path, what));
        }
        let bytes = Aligned::new(&bytes);
        let (parts, tag) = match Model::load(&bytes) {
            Ok(model) => (writer::read(&model), model.tag()),
            Err(e) => return Err(Failure::file(path, e)),
        };
        let mut companion = None;
        let beside = companion_path(path);
        if beside.exists() {
            // The artifact is sound without it.
            match Companion::open(&beside) {
                Ok(read)
                    if read.artifact_crc32 == format!("{tag:08x}")
                        && read.model.input() == parts.features.len() =>
                {
                    companion = Some(read);
                }
                Ok(_) => console.note(format!(
                    "{}: of another artifact; going on without a float model",
                    beside.display()
                )),
                Err(e) => console.note(format!("{}; going on without a float model", e.line)),
            }
        }
        Ok(Self {
            path: path.to_owned(),
            bytes,
            parts,
            companion,
        })
    }

    /// The model; it was loaded once, so it can be loaded again.
    pub(crate) fn model(&self) -> Result<Model<'_>, Failure> {
        Model::load(&self.bytes).map_err(|e| Failure::file(&self.path, e))
    }

    /// The model in the open.
    pub(crate) fn parts(&self) -> &QuantModel {
        &self.parts
    }

    pub(crate) fn counts_per_unit(&self) -> Vec<f32> {
        (self.parts.features.iter())
            .map(|f| f.counts_per_unit)
            .collect()
    }

    pub(crate) fn classes(&self) -> Vec<String> {
        self.parts.classes.clone()
    }

    pub(crate) fn expected(&self) -> Expected {
        Expected {
            counts_per_unit: self.counts_per_unit(),
            classes: self.classes(),
            names: (self.companion.as_ref()).map_or_else(Vec::new, |c| c.features.clone()),
        }
    }
}

/// Bytes of RAM that the decisions of a stream take, beside its state.
pub(crate) fn decider_bytes(model: &Model<'_>) -> usize {
    size_of::<Decider<0>>() + (2 * model.decider_len()).next_multiple_of(align_of::<Decider<0>>())
}

/// Bytes of RAM that the state of one stream takes.
pub(crate) fn ram_bytes(model: &Model<'_>) -> usize {
    size_of::<State<0>>() + (2 * model.state_len()).next_multiple_of(4)
}

/// What became of values that a model could not use; nothing where there were none.
pub(crate) fn left_out(invalid_values: u64, skipped_steps: u64, gap: GapPolicy) -> Option<String> {
    let what = match gap {
        GapPolicy::Hold => "the last valid ones were held".to_owned(),
        GapPolicy::Zero => "the means were used".to_owned(),
        GapPolicy::Skip => format!("{} steps left out", grouped(skipped_steps)),
    };
    let values = grouped(invalid_values);
    (invalid_values > 0).then(|| format!("{values} values missing or beyond their limits: {what}"))
}

fn kind(layer: &Layer<'_>) -> (&'static str, usize, usize) {
    match layer {
        Layer::Gru(g) => {
            let biases = if g.header().reset_after { 2 } else { 1 };
            let parameters = 3 * g.units() * (g.input() + g.units() + biases);
            ("GRU", g.input(), parameters)
        }
        Layer::Dense(d) => ("Dense", d.input(), d.units() * (d.input() + 1)),
    }
}

/// What is known of a float model that has no artifact: `gru inspect` and `gru summary` of it.
fn float_summary(path: &Path, console: &mut Console<'_>) -> Result<(), Failure> {
    let companion = Companion::open(path)?;
    let model = &companion.model;
    console.say(format!("Model: \"{}\", in floats", model.name));
    let mut layers = Vec::new();
    for (n, layer) in model.layers.iter().enumerate() {
        let name = match layer {
            LayerSpec::Gru(g) if g.go_backwards => "GRU (from the last step to the first)",
            LayerSpec::Gru(_) => "GRU",
            LayerSpec::Dense(_) => "Dense",
            LayerSpec::Bidirectional { .. } => "Bidirectional GRU",
        };
        let (input, output, parameters) = (layer.input(), layer.output(), layer.parameters());
        console.say(format!(
            "layer {n}: {name}, {input} inputs, {output} outputs, {} parameters, {} multiply-accumulates per step",
            grouped(parameters as u64),
            grouped(layer.macs() as u64),
        ));
        layers.push(
            json!({"type": name, "input": input, "output": output, "parameters": parameters}),
        );
    }
    let parameters = model.parameters();
    let why = quantize::deployable(model).err().map(|e| e.to_string());
    console.say(format!(
        "{} parameters, {} bytes as f32; classes {}",
        grouped(parameters as u64),
        grouped(4 * parameters as u64),
        model.classes.join(", ")
    ));
    if let Some(why) = &why {
        console.say(format!("no artifact: {why}"));
    }
    console.answer(&json!({
        "name": model.name,
        "layers": layers,
        "parameters": parameters,
        "float_bytes": 4 * parameters,
        "classes": model.classes,
        "window_steps": companion.window_steps,
        "no_artifact": why,
    }));
    Ok(())
}

/// Share of the recurrent weights that the artifact has; none where its layout leaves none out.
pub(crate) fn density(model: &Model<'_>) -> Option<f64> {
    let (mut left, mut all) = (0, 0);
    for layer in model.layers() {
        if let Layer::Gru(g) = layer {
            left += g.recurrent_weights();
            all += 3 * g.units() * g.units();
        }
    }
    (model.layout().is_sparse() && all > 0).then(|| left as f64 / all as f64)
}

pub(crate) fn inspect(args: &InspectArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    if Companion::is_at(&args.model) {
        return float_summary(&args.model, console);
    }
    let loaded = Loaded::open(&args.model, console)?;
    let model = loaded.model()?;
    let parts = &loaded.parts;
    let rate = f64::from(model.sample_rate_mhz()) / 1000.0;
    console.say(format!("file          {}", args.model.display()));
    console.say(format!(
        "artifact      format version {VERSION}, {} bytes, CRC-32 {:08x}: sound",
        grouped(model.bytes().len() as u64),
        model.tag()
    ));
    console.say(format!("name          {}", model.name()));
    console.say(format!("sample rate   {rate} Hz"));
    let bits = model.layout().weight_bits();
    let left = density(&model);
    console.say(format!(
        "layout        {:?}, GRU weights of {bits} bits{}",
        model.layout(),
        left.map_or(String::new(), |d| format!(
            ", {} of the recurrent ones",
            percent(d)
        ))
    ));
    console.say(format!("classes       {}", parts.classes.join(", ")));
    console.say(format!(
        "read-out      {:?}, {} warm-up steps, gaps: {:?}",
        model.readout(),
        model.warm_up_steps(),
        model.gap_policy()
    ));
    let rule = (parts.decision.as_ref()).map(|rule| describe(rule, &parts.classes));
    for line in rule.iter().flatten() {
        console.say(format!("decision      {line}"));
    }
    for (n, f) in parts.features.iter().enumerate() {
        let limits = match parts.limits.get(n) {
            Some(l) => format!(", valid {} to {}", l.low, l.high),
            None => String::new(),
        };
        console.say(format!(
            "feature {n:<5} {} counts per unit, zero at {}{limits}",
            f.counts_per_unit, f.offset
        ));
    }
    let mut layers = Vec::new();
    for (n, layer) in model.layers().iter().enumerate() {
        let (name, input, parameters) = kind(layer);
        console.say(format!(
            "layer {n:<7} {name}({}) on {input}{}, {} parameters",
            layer.units(),
            match layer {
                Layer::Gru(g) => match g.header().direction {
                    Direction::Forward => "",
                    Direction::Backward => ", from the last step to the first",
                    Direction::Beside => ", from the last step to the first, beside the layer before step by step",
                    Direction::BesideLast => ", from the last step to the first, its last outputs beside those of the layer before",
                },
                Layer::Dense(_) => "",
            },
            grouped(parameters as u64)
        ));
        layers.push(
            json!({"type": name, "units": layer.units(), "input": input, "parameters": parameters}),
        );
    }
    let steps = parts.self_test.len() / parts.features.len().max(1);
    let tested = match steps {
        0 => "none".to_owned(),
        _ => {
            let mut state =
                writer::host_state(&model).map_err(|e| Failure::file(&args.model, e))?;
            match model.self_test(&mut state) {
                Ok(()) => format!("{steps} steps, passed on this machine"),
                Err(e) => return Err(Failure::file(&args.model, e)),
            }
        }
    };
    console.say(format!("self-test     {tested}"));
    if !model.is_streaming() {
        console.say(format!(
            "reads         whole windows, {} bytes of RAM for each of their steps",
            2 * model.window_len(1)
        ));
    }
    let (state, decider) = (ram_bytes(&model), decider_bytes(&model));
    console.say(format!(
        "needs         {} bytes of flash, {} bytes of RAM for the state and {} for decisions ({} in all), \
         {} multiply-accumulates per step",
        grouped(model.bytes().len() as u64),
        grouped(state as u64),
        grouped(decider as u64),
        grouped((state + decider) as u64),
        grouped(model.macs() as u64)
    ));
    console.answer(&json!({
        "file": args.model.display().to_string(),
        "version": VERSION,
        "bytes": model.bytes().len(),
        "crc32": format!("{:08x}", model.tag()),
        "name": model.name(),
        "sample_rate_hz": rate,
        "layout": format!("{:?}", model.layout()),
        "weight_bits": bits,
        "density": left,
        "classes": parts.classes,
        "features": parts.features.len(),
        "counts_per_unit": loaded.counts_per_unit(),
        "layers": layers,
        "readout": format!("{:?}", model.readout()),
        "warm_up_steps": model.warm_up_steps(),
        "decision": rule,
        "decider_bytes": decider,
        "self_test_steps": steps,
        "ram_bytes": state,
        "stream_bytes": state + decider,
        "macs_per_step": model.macs(),
    }));
    Ok(())
}

pub(crate) fn summary(args: &SummaryArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    if Companion::is_at(&args.model) {
        return float_summary(&args.model, console);
    }
    let loaded = Loaded::open(&args.model, console)?;
    let model = loaded.model()?;
    let mut rows = Vec::new();
    let mut layers = Vec::new();
    let (mut total, mut macs) = (0, 0);
    let mut used = std::collections::BTreeMap::new();
    for layer in model.layers() {
        let (name, _, parameters) = kind(layer);
        // Keras numbers the layers of a kind: gru, gru_1, …
        let number = used.entry(name).and_modify(|n| *n += 1).or_insert(0usize);
        let own = match number {
            0 => name.to_lowercase(),
            n => format!("{}_{n}", name.to_lowercase()),
        };
        let work = match layer {
            Layer::Gru(g) => 3 * g.units() * g.input() + g.recurrent_weights(),
            Layer::Dense(d) => d.units() * d.input(),
        };
        rows.push([
            match layer.is_second() {
                true => format!("{own} ({name}, backward)"),
                false => format!("{own} ({name})"),
            },
            format!("(None, {})", layer.outputs()),
            grouped(parameters as u64),
            grouped(work as u64),
        ]);
        layers.push(json!({
            "name": own, "type": name, "output": layer.outputs(), "parameters": parameters, "macs_per_step": work,
        }));
        total += parameters;
        macs += work;
    }
    let head = ["Layer (type)", "Output Shape", "Param #", "MACs/step"].map(str::to_owned);
    let width: [usize; 4] = std::array::from_fn(|k| {
        (rows.iter().chain([&head]))
            .map(|r| r[k].chars().count())
            .max()
            .unwrap_or(0)
            + 2
    });
    let rule = |l: &str, m: &str, r: &str, line: &str| {
        format!("{l}{}{r}", width.map(|w| line.repeat(w)).join(m))
    };
    let line = |row: &[String; 4], bar: &str| {
        let cells: [String; 4] = std::array::from_fn(|k| {
            let room = width[k] - 1;
            match k {
                0 | 1 => format!(" {:<room$}", row[k]),
                _ => format!("{:>room$} ", row[k]),
            }
        });
        format!("{bar}{}{bar}", cells.join(bar))
    };
    console.say(format!("Model: \"{}\"", model.name()));
    console.say(rule("┏", "┳", "┓", "━"));
    console.say(line(&head, "┃"));
    console.say(rule("┡", "╇", "┩", "━"));
    for (n, row) in rows.iter().enumerate() {
        if n > 0 {
            console.say(rule("├", "┼", "┤", "─"));
        }
        console.say(line(row, "│"));
    }
    console.say(rule("└", "┴", "┘", "─"));
    let (flash, ram) = (model.bytes().len(), ram_bytes(&model));
    console.say(format!(
        " Total params: {} ({:.2} KB as f32)",
        grouped(total as u64),
        total as f64 * 4.0 / 1024.0
    ));
    console.say(format!(
        " Artifact (flash): {} B ({:.2} KB)",
        grouped(flash as u64),
        flash as f64 / 1024.0
    ));
    let bits = model.layout().weight_bits();
    console.say(format!(" Weights of the GRU layers: {bits} bits"));
    if let Some(left) = density(&model) {
        console.say(format!(" Recurrent weights left: {}", percent(left)));
    }
    console.say(format!(
        " State (RAM): {} B per stream",
        grouped(ram as u64)
    ));
    console.say(format!(
        " Decisions (RAM): {} B per stream",
        grouped(decider_bytes(&model) as u64)
    ));
    if let Some(rule) = &loaded.parts.decision {
        for line in describe(rule, &loaded.parts.classes) {
            console.say(format!(" Decision: {line}"));
        }
    }
    console.say(format!(
        " Multiply-accumulates: {} per step",
        grouped(macs as u64)
    ));
    let rate = f64::from(model.sample_rate_mhz()) / 1000.0;
    if rate > 0.0 {
        console.say(format!(
            " At {rate} Hz: {} per second",
            grouped((macs as f64 * rate) as u64)
        ));
    }
    console.answer(&json!({
        "name": model.name(),
        "layers": layers,
        "parameters": total,
        "weight_bits": bits,
        "density": density(&model),
        "flash_bytes": flash,
        "ram_bytes": ram,
        "decider_bytes": decider_bytes(&model),
        "macs_per_step": macs,
        "sample_rate_hz": rate,
    }));
    Ok(())
}
