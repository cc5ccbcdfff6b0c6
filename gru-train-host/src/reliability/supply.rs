//! Rows 24 and 25: `unsafe` counted, dependencies few, their licences and sources known.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Licences that a dependency may offer; one choice of an `OR` is enough.
pub const LICENCES: [&str; 9] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unicode-3.0",
];

/// Packages that may have another licence, each with it: what `defmt-decoder` pulls into the host tool.
///
/// MPL-2.0 binds the files of these packages, which we use unchanged, and nothing around them. No device links them.
pub const EXCEPTIONS: [(&str, &str); 2] = [("alterable_logger", "MPL-2.0"), ("colored", "MPL-2.0")];

/// Where every dependency comes from.
pub const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The packages that are ours.
pub const MEMBERS: [&str; 4] = [
    "gru-core",
    "gru-train-host",
    "gru-tests",
    "gru-board-protocol",
];

/// Where `unsafe` is allowed: the shims around instructions that stable Rust has no function for.
#[must_use]
pub fn is_shim(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "kernel") || path.ends_with("float/fpu.rs")
}

/// The most crates that a device image may link, `gru-core` among them.
pub const MOST_ON_DEVICE: usize = 12;

/// The workspace's root at or above `from`, if there is one.
#[must_use]
pub fn workspace_root(from: &Path) -> Option<PathBuf> {
    from.ancestors()
        .find(|folder| folder.join("gru-core/Cargo.toml").is_file())
        .map(Path::to_path_buf)
}

/// What `Cargo.lock` says of a package that does not come from [`SOURCE`] with a checksum.
///
/// Members of the workspace have no source; every other package needs both.
#[must_use]
pub fn foreign_sources(lock: &str, members: &[&str]) -> Vec<String> {
    lock.split("[[package]]")
        .skip(1)
        .filter_map(|package| {
            let field = |key: &str| {
                package
                    .lines()
                    .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
                    .map(|value| value.trim_matches('"'))
            };
            let name = field("name")?;
            let sound = field("source") == Some(SOURCE) && field("checksum").is_some();
            (!sound && !members.contains(&name)).then(|| name.to_owned())
        })
        .collect()
}

/// Whether a licence expression can be met with [`LICENCES`].
#[must_use]
pub fn licence_allowed(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    // `AND` binds tighter than `OR`; brackets around an `OR` inside an `AND` are read as choices on
    // both sides, which is right for every expression in use as long as all parts are listed.
    let all_known = flat
        .split(" OR ")
        .flat_map(|choice| choice.split(" AND "))
        .all(|name| LICENCES.contains(&name.trim()));
    let one_choice = !expression.contains('(')
        && flat.split(" OR ").any(|choice| {
            choice
                .split(" AND ")
                .all(|name| LICENCES.contains(&name.trim()))
        });
    all_known || one_choice
}

/// The third-party packages of `cargo metadata` whose licence is missing or not allowed, and their number in all.
#[must_use]
pub fn refused_licences(metadata: &Value) -> (Vec<String>, usize) {
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let foreign: Vec<_> = packages
        .iter()
        .filter(|package| !package["source"].is_null())
        .collect();
    let refused = foreign
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(licence_allowed))
        .filter(|package| {
            let excepted =
                |(name, licence)| package["name"] == name && package["license"] == licence;
            !EXCEPTIONS.into_iter().any(excepted)
        })
        .map(|package| format!("{}: {}", package["name"], package["license"]))
        .collect();
    (refused, foreign.len())
}

/// `cargo metadata` of the workspace, without the network.
///
/// # Errors
/// When cargo cannot be run or its answer is not JSON.
pub fn metadata(root: &Path) -> Result<Value, String> {
    let output = cargo(root, &["metadata", "--format-version=1", "--locked"])?;
    serde_json::from_str(&output).map_err(|e| e.to_string())
}

/// The crates that are linked into a device image: `gru-core` with the given features, procedural macros
/// and build tools left out (they run on the host).
///
/// # Errors
/// When cargo cannot be run.
pub fn device_graph(root: &Path, features: &str) -> Result<BTreeSet<String>, String> {
    let args = [
        "tree",
        "-p",
        "gru-core",
        "--edges=normal,no-proc-macro",
        "--target=thumbv7em-none-eabihf",
        "--no-default-features",
        "--features",
        features,
        "--prefix=none",
        "--format={p}",
        "--locked",
    ];
    let output = cargo(root, &args)?;
    Ok(output
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

fn cargo(root: &Path, args: &[&str]) -> Result<String, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(args)
        .current_dir(root)
        .output()
        .map_err(|e| format!("cargo: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// Lines with the keyword `unsafe` in the Rust files below a folder, comments and strings left out: (file, lines).
///
/// # Errors
/// When a file cannot be read.
pub fn unsafe_lines(folder: &Path) -> std::io::Result<Vec<(PathBuf, usize)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(unsafe_lines(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let count = count_unsafe(&std::fs::read_to_string(&path)?);
            if count > 0 {
                found.push((path, count));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Lines with the keyword `unsafe` outside comments and string literals of one line.
#[must_use]
pub fn count_unsafe(source: &str) -> usize {
    source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .filter(|code| {
            // Even pieces are outside string literals.
            code.split('"').step_by(2).any(|piece| {
                piece
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .any(|word| word == "unsafe")
            })
        })
        .count()
}
