//! The byte-by-byte description of the format is true, and artifacts of released versions still compute the same bits.
//!
//! `GRU_BLESS=1` writes the dump of the description, and golden files that do not exist yet.

use std::fmt::Write as _;
use std::path::PathBuf;

use gru_core::artifact::{DecisionHeader, Header, LayerHeader, SelfTest, Smoothing, VERSION};
use gru_core::layout::Layout;
use gru_core::random::SplitMix;
use gru_core::writer::{Aligned, fix_crc, host_state, write};
use gru_core::{LoadError, Model};
use gru_train_host::reliability::blobs::{
    dense, fill, gru, header, payload_start, plain_header, references,
};
use gru_train_host::reliability::hostile::exercise;
use serde::Serialize;

fn bless() -> bool {
    std::env::var_os("GRU_BLESS").is_some()
}

fn folder(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The artifact of the description.
fn sample() -> Vec<u8> {
    let fields = Header {
        name: "tiny",
        classes: "no\nyes",
        decision: Some(DecisionHeader {
            smoothing: Smoothing::Exponential { shift: 3 },
            hold_steps: 25,
            background: Some(0),
            ..DecisionHeader::new()
        }),
        self_test: Some(SelfTest {
            steps: 2,
            digest: 0,
        }),
        ..plain_header(Layout::Rows, 1, &[gru(2), dense(2)])
    };
    write(&fill(&fields, &mut SplitMix(1)), Layout::Rows).expect("sound")
}

/// One line per part: offset, bytes, what they are. Lines of more than 12 bytes are broken.
struct Dump<'a> {
    bytes: &'a [u8],
    at: usize,
    text: String,
}

impl Dump<'_> {
    fn raw(&mut self, len: usize, what: &str) {
        let mut what = what;
        for line in self.bytes[self.at..self.at + len].chunks(12) {
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = writeln!(self.text, "{:04x}  {:<36} {what}", self.at, hex.join(" "));
            self.at += line.len();
            what = "  …";
        }
    }

    /// A header field: postcard encodes a struct as its fields one after the other.
    fn field(&mut self, value: impl Serialize, what: &str) {
        struct Count(usize);
        impl postcard::ser_flavors::Flavor for Count {
            type Output = usize;
            fn try_push(&mut self, _: u8) -> postcard::Result<()> {
                self.0 += 1;
                Ok(())
            }
            fn finalize(self) -> postcard::Result<usize> {
                Ok(self.0)
            }
        }
        let len = postcard::serialize_with_flavor(&value, Count(0)).expect("plain data");
        self.raw(len, what);
    }
}

fn dump(bytes: &[u8]) -> String {
    let fields = header(bytes).expect("header");
    let mut d = Dump {
        bytes,
        at: 0,
        text: String::new(),
    };
    d.raw(4, "magic GRUA");
    d.raw(2, &format!("format version {VERSION}"));
    d.raw(2, "flags");
    d.raw(4, &format!("total length {}", bytes.len()));
    d.raw(4, "CRC-32 of all other bytes");
    let len = u32::from_le_bytes(bytes[16..20].try_into().expect("4 bytes"));
    d.raw(4, &format!("header length {len}"));
    d.field(fields.name, &format!("name {:?}", fields.name));
    d.field(fields.classes, &format!("classes {:?}", fields.classes));
    d.field(
        fields.sample_rate_mhz,
        &format!("sample rate {} mHz", fields.sample_rate_mhz),
    );
    d.field(fields.layout, &format!("layout {:?}", fields.layout));
    d.field(fields.features, &format!("features {}", fields.features));
    d.field(
        fields.input_exponent,
        &format!("input exponent {}", fields.input_exponent),
    );
    d.field(fields.gap, &format!("gap {:?}", fields.gap));
    d.field(fields.limits, &format!("limits {}", fields.limits));
    d.raw(1, &format!("{} layers", fields.layers.len()));
    for layer in &fields.layers {
        match layer {
            LayerHeader::Gru(g) => {
                d.raw(1, "layer: Gru");
                d.field(g.units, &format!("units {}", g.units));
                d.field(g.activation, &format!("activation {:?}", g.activation));
                d.field(
                    g.recurrent_activation,
                    &format!("recurrent activation {:?}", g.recurrent_activation),
                );
                d.field(g.exponent, "exponent");
                d.field(g.recurrent_exponent, "recurrent exponent");
                d.field(g.nh_shift, "nh shift");
                d.field(g.w_shift, "w shift");
                d.field(g.reset_after, &format!("reset after {}", g.reset_after));
                d.field(g.direction, &format!("direction {:?}", g.direction));
                d.field(
                    g.initial_state,
                    &format!("initial state {}", g.initial_state),
                );
                d.field(g.clip, &format!("clip {}", g.clip));
            }
            LayerHeader::Dense(dense) => {
                d.raw(1, "layer: Dense");
                d.field(dense.units, &format!("units {}", dense.units));
                d.field(
                    dense.activation,
                    &format!("activation {:?}", dense.activation),
                );
                d.field(dense.frac, &format!("frac {}", dense.frac));
            }
        }
    }
    d.field(fields.readout, &format!("read-out {:?}", fields.readout));
    d.field(
        fields.warm_up_steps,
        &format!("warm-up {}", fields.warm_up_steps),
    );
    match fields.decision {
        None => d.raw(1, "decision: none"),
        Some(decision) => {
            d.raw(1, "decision: some");
            let inverse = decision.inverse_temperature;
            d.field(inverse, &format!("inverse temperature {inverse}"));
            d.field(
                decision.every_steps,
                &format!("every {} steps", decision.every_steps),
            );
            d.field(
                decision.smoothing,
                &format!("smoothing {:?}", decision.smoothing),
            );
            d.field(decision.margin, &format!("margin {}", decision.margin));
            d.field(
                decision.hold_steps,
                &format!("hold {} steps", decision.hold_steps),
            );
            d.field(
                decision.refractory_steps,
                &format!("refractory {} steps", decision.refractory_steps),
            );
            d.field(
                decision.background,
                &format!("background {:?}", decision.background),
            );
        }
    }
    let test = fields.self_test.expect("a self-test");
    d.raw(1, "self-test: some");
    d.field(test.steps, &format!("steps {}", test.steps));
    d.field(test.digest, &format!("digest {:016x}", test.digest));
    let padding = payload_start(bytes).expect("payload") - d.at;
    d.raw(padding, "zeros up to a multiple of four");
    for feature in 0..fields.features {
        d.raw(4, &format!("feature {feature}: offset"));
        d.raw(4, "counts per unit");
        d.raw(2, "multiplier");
        d.raw(1, "shift");
        d.raw(1, "pre-shift");
    }
    let mut input = usize::from(fields.features);
    for layer in &fields.layers {
        let units = layer.units();
        match layer {
            LayerHeader::Gru(_) => {
                for unit in 0..units {
                    d.raw(3 * input, &format!("unit {unit}: W, rows r, z, n"));
                    d.raw(3 * units, "U, rows r, z, n");
                    let used = 3 * (input + units);
                    d.raw(used.next_multiple_of(4) - used, "zeros");
                    d.raw(8, "multipliers r, z, n-input, n-recurrent");
                    d.raw(8, "biases r, z, n-input, n-recurrent");
                }
            }
            LayerHeader::Dense(_) => {
                d.raw(units * input, "Dense weights, row by row");
                d.raw((units * input).next_multiple_of(4) - units * input, "zeros");
                for row in 0..units {
                    d.raw(4, &format!("row {row}: multiplier"));
                    d.raw(4, "bias");
                }
            }
        }
        input = units;
    }
    if fields.decision.is_some() {
        for output in 0..input {
            d.raw(2, &format!("output {output}: enters at"));
            d.raw(2, "released below");
        }
    }
    d.raw(bytes.len() - d.at, "self-test: raw counts, zeros");
    d.text
}

/// The bytes of a dump: the columns between offset and text.
fn parse(dump: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in dump.lines() {
        let offset = usize::from_str_radix(&line[..4], 16).expect("offset");
        assert_eq!(offset, bytes.len(), "{line}");
        for byte in line[6..42].split_whitespace() {
            bytes.push(u8::from_str_radix(byte, 16).expect("hex"));
        }
    }
    bytes
}

const BEGIN: &str = "<!-- dump -->\n";
const END: &str = "<!-- end of dump -->";

#[test]
fn the_dump_of_the_description_loads_and_runs() {
    let path = folder("../gru-core/docs/artifact.md");
    let text = std::fs::read_to_string(&path).expect("artifact.md");
    let begin = text.find(BEGIN).expect("begin of dump") + BEGIN.len();
    let end = text.find(END).expect("end of dump");
    let fresh = format!("```text\n{}```\n", dump(&sample()));
    if bless() {
        let text = format!("{}{fresh}{}", &text[..begin], &text[end..]);
        std::fs::write(&path, text).expect("write");
        return;
    }
    assert_eq!(
        text[begin..end],
        fresh,
        "run the test once with GRU_BLESS=1"
    );
    let written = text[begin..end]
        .trim_start_matches("```text\n")
        .trim_end_matches("```\n");
    let bytes = Aligned::new(&parse(written));
    let model = Model::load(&bytes).expect("the documented bytes load");
    let mut state = host_state(&model).expect("state");
    assert_eq!(model.self_test(&mut state), Ok(()));
    assert_eq!(model.classes().collect::<Vec<_>>(), ["no", "yes"]);
    // Control: one wrong digit in the text is noticed.
    let mut hurt = Aligned::new(&bytes);
    hurt[40] ^= 1;
    assert!(matches!(Model::load(&hurt), Err(LoadError::BadCrc { .. })));
}

/// Name and digest of 1,000 steps of every golden file, one pair a line.
fn golden_digests() -> Vec<(String, u64)> {
    let text = std::fs::read_to_string(folder("data/golden/digests.txt")).unwrap_or_default();
    text.lines()
        .map(|line| {
            let (name, digest) = line.split_once(' ').expect("name and digest");
            (
                name.to_owned(),
                u64::from_str_radix(digest, 16).expect("hex"),
            )
        })
        .collect()
}

#[test]
fn the_description_names_every_error() {
    let source = std::fs::read_to_string(folder("../gru-core/src/load.rs")).expect("load.rs");
    let (_, rest) = source.split_once("pub enum LoadError {\n").expect("enum");
    let (variants, _) = rest.split_once("\n}").expect("end of enum");
    let names: Vec<&str> = variants
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(char::is_uppercase))
        .filter_map(|line| line.split(|c: char| !c.is_alphanumeric()).next())
        .collect();
    assert!(names.len() >= 13, "{names:?}");
    let text =
        std::fs::read_to_string(folder("../gru-core/docs/artifact.md")).expect("artifact.md");
    for name in names {
        // `Name`, `Name { … }` or `Name(…)`.
        let found = ["`", " {", "("].map(|after| text.contains(&format!("`{name}{after}")));
        assert!(found.contains(&true), "artifact.md does not tell of {name}");
    }
}

#[test]
fn golden_files_of_every_version_compute_the_same_bits() {
    if bless() {
        // Files of a released version are never written again: only missing ones are.
        let mut known = golden_digests();
        for (name, blob) in references() {
            let name = format!("v{VERSION}-{name}.gru");
            let path = folder("data/golden").join(&name);
            if !path.exists() {
                std::fs::write(&path, &blob).expect("write");
                let digest = exercise(&Aligned::new(&blob), 1000).expect("sound");
                known.retain(|(other, _)| *other != name);
                known.push((name, digest.expect("loads")));
            }
        }
        known.sort();
        let text: String = known
            .iter()
            .map(|(name, digest)| format!("{name} {digest:016x}\n"))
            .collect();
        std::fs::write(folder("data/golden/digests.txt"), text).expect("write");
        return;
    }
    let known = golden_digests();
    for version in 1..=VERSION {
        let of_version = format!("v{version}-");
        assert!(
            known.iter().any(|(name, _)| name.starts_with(&of_version)),
            "no golden file of version {version}"
        );
    }
    for (name, digest) in known {
        let blob = std::fs::read(folder("data/golden").join(&name)).expect(&name);
        let bytes = Aligned::new(&blob);
        assert_eq!(exercise(&bytes, 1000), Ok(Some(digest)), "{name}");
        // Control: a changed weight changes the digest.
        let mut changed = Aligned::new(&blob);
        let features = Model::load(&bytes).expect(&name).features();
        let at = payload_start(&blob).expect("payload") + 12 * features + 8 * features;
        changed[at] ^= 2;
        fix_crc(&mut changed);
        assert_ne!(exercise(&changed, 1000), Ok(Some(digest)), "{name}");
    }
}
