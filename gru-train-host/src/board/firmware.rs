//! Finds the firmware's sources and builds them for a board.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{BoardError, Machine, Options};

/// The environment variable that names the folder `firmware-examples`.
const VARIABLE: &str = "GRU_FIRMWARE";

/// Finds the folder `firmware-examples`: `given`, else `$GRU_FIRMWARE`, else upwards from the current folder,
/// else upwards from this program's file, else where this program was compiled.
///
/// # Errors
/// One line that says where it was searched.
pub fn find_firmware(given: Option<&Path>) -> Result<PathBuf, BoardError> {
    let is_firmware = |folder: &Path| folder.join("stream/Cargo.toml").is_file();
    let named = given
        .map(|path| (path.to_owned(), "--firmware"))
        .or_else(|| std::env::var_os(VARIABLE).map(|path| (PathBuf::from(path), VARIABLE)));
    if let Some((folder, source)) = named {
        return if is_firmware(&folder) {
            Ok(folder)
        } else {
            Err(BoardError::NoFirmware(format!(
                "{}: no firmware sources there ({source} has to name the folder firmware-examples)",
                folder.display()
            )))
        };
    }
    let here = std::env::current_dir().ok();
    let program = std::env::current_exe().ok();
    let starts = [
        here,
        program,
        Some(PathBuf::from(env!("CARGO_MANIFEST_DIR"))),
    ];
    starts
        .iter()
        .flatten()
        .flat_map(|start| start.ancestors())
        .map(|folder| folder.join("firmware-examples"))
        .find(|folder| is_firmware(folder))
        .ok_or_else(|| {
            BoardError::NoFirmware(format!(
                "firmware-examples: not found above the current folder; name it with --firmware or {VARIABLE}"
            ))
        })
}

/// Builds the firmware for `machine` and returns its ELF file.
pub(super) fn build(machine: Machine, options: &Options) -> Result<PathBuf, BoardError> {
    let facts = machine.facts();
    let sources = find_firmware(options.firmware.as_deref())?;
    let sources = sources
        .canonicalize()
        .map_err(|e| super::io_error(&sources, &e))?;
    ensure_target(facts.target, &sources, options)?;

    // Boards that differ by more than their target get a folder of their own: two files of one name must not meet.
    let target_dir = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => sources.parent().unwrap_or(&sources).join("target"),
    };
    let target_dir = std::path::absolute(&target_dir)
        .unwrap_or(target_dir)
        .join("firmware")
        .join(options.planted.or(facts.feature).unwrap_or("common"));
    let elf = target_dir.join(facts.target).join("release").join("stream");
    if !elf.is_file() {
        (options.notify)(&format!(
            "building the firmware for {} ({})",
            facts.name, facts.target
        ));
    }
    let mut command = tool("cargo", "CARGO", &sources);
    command
        .args(["build", "--release", "--package", "stream"])
        .args(["--target", facts.target])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("DEFMT_LOG", "info")
        // Flags in this variable win over all others, so that a user's `-C target-cpu=native` stays on the host.
        .env("CARGO_ENCODED_RUSTFLAGS", facts.rustflags.join("\u{1f}"));
    for feature in facts.feature.iter().chain(&options.planted) {
        command.args(["--features", feature]);
    }
    let output = command
        .output()
        .map_err(|e| BoardError::Build(format!("cargo: {e}")))?;
    if output.status.success() {
        return Ok(elf);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let first = text
        .lines()
        .find(|line| line.starts_with("error"))
        .unwrap_or("no message");
    // The whole text for the person who has to mend it; the error itself stays one line.
    (options.notify)(text.trim_end());
    Err(BoardError::Build(format!(
        "firmware for {}: cargo build failed: {first}",
        facts.name
    )))
}

/// A command of the Rust toolchain that `folder` asks for.
fn tool(name: &str, variable: &str, folder: &Path) -> Command {
    let mut command = match std::env::var_os(variable) {
        Some(program) => Command::new(program),
        None => Command::new(name),
    };
    command.current_dir(folder).stdin(Stdio::null());
    // What was meant for the build of this program must not leak into the firmware's.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_TARGET_DIR",
    ] {
        command.env_remove(name);
    }
    command
}

/// Adds the Rust target if the toolchain lacks it. Never asks for anything, also where `RUSTUP_AUTO_INSTALL=0` is set.
fn ensure_target(target: &str, sources: &Path, options: &Options) -> Result<(), BoardError> {
    let output = tool("rustc", "RUSTC", sources)
        .args(["--print", "sysroot"])
        .output()
        .map_err(|e| BoardError::Target(format!("rustc: {e}")))?;
    if !output.status.success() {
        return Err(BoardError::Target(format!(
            "rustc: {}",
            first_line(&output.stderr)
        )));
    }
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let library = sysroot.join("lib/rustlib").join(target).join("lib");
    if library.is_dir() {
        return Ok(());
    }
    let channel = std::env::var("RUSTUP_TOOLCHAIN")
        .ok()
        .or_else(|| channel_of(sources))
        .or_else(|| {
            sysroot
                .file_name()
                .and_then(OsStr::to_str)
                .map(str::to_owned)
        })
        .unwrap_or_else(|| "stable".to_owned());
    (options.notify)(&format!("adding the Rust target {target} to {channel}"));
    let result = tool("rustup", "GRU_RUSTUP", sources)
        .args(["target", "add", "--toolchain", &channel, target])
        .output();
    let advice = format!(
        "the Rust target {target} is missing; rustup target add --toolchain {channel} {target}"
    );
    match result {
        Err(error) => Err(BoardError::Target(format!("{advice}: {error}"))),
        Ok(output) if !output.status.success() => Err(BoardError::Target(format!(
            "{advice}: {}",
            last_error(&output.stderr)
        ))),
        Ok(_) if library.is_dir() => Ok(()),
        Ok(_) => Err(BoardError::Target(format!(
            "{advice}: it is still missing in {}",
            sysroot.display()
        ))),
    }
}

/// The channel of the nearest `rust-toolchain.toml` above `folder`.
fn channel_of(folder: &Path) -> Option<String> {
    let text = folder
        .ancestors()
        .find_map(|folder| std::fs::read_to_string(folder.join("rust-toolchain.toml")).ok())?;
    channel_in(&text)
}

fn channel_in(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        let value = value.split('#').next()?.trim();
        (key.trim() == "channel").then(|| value.trim_matches(['"', '\'']).to_owned())
    })
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().next().unwrap_or("no message").to_owned()
}

fn last_error(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let error = text.lines().rfind(|line| line.contains("error"));
    error
        .or(text.lines().next_back())
        .unwrap_or("no message")
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_is_read() {
        let text = "[toolchain]\n# channel = \"no\"\nchannel = \"1.95.0\" # exact\n";
        assert_eq!(channel_in(text).as_deref(), Some("1.95.0"));
        assert_eq!(channel_in("[toolchain]\n"), None);
    }

    #[test]
    fn the_sources_are_found_from_here_and_refused_elsewhere() {
        assert!(find_firmware(None).unwrap().join("stream").is_dir());
        let error = find_firmware(Some(Path::new("nowhere"))).unwrap_err();
        assert!(error.to_string().starts_with("nowhere: no firmware"));
    }
}
