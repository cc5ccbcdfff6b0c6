//! Where the lines of a command go, and how it fails.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

/// A line as it may be shown: names come from files, and a terminal obeys what it is sent.
///
/// Line breaks and other control characters, and those that reverse or hide text, stand in their escaped form.
fn plain(line: impl Display) -> String {
    let line = line.to_string();
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if !line.contains(obeyed) {
        return line;
    }
    let mut out = String::with_capacity(line.len() + 8);
    for c in line.chars() {
        match obeyed(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// The two outputs of a command.
pub(crate) struct Console<'c> {
    out: &'c mut dyn Write,
    err: &'c mut dyn Write,
    json: bool,
}

impl<'c> Console<'c> {
    pub(crate) fn new(out: &'c mut dyn Write, err: &'c mut dyn Write, json: bool) -> Self {
        Self { out, err, json }
    }

    /// A line of the answer: on the standard output, or beside the JSON.
    pub(crate) fn say(&mut self, line: impl Display) {
        let line = plain(line);
        // A reader that has gone away (`gru … | head`) is no failure of ours.
        let _ = match self.json {
            true => writeln!(self.err, "{line}"),
            false => writeln!(self.out, "{line}"),
        };
    }

    /// A line about how it goes: on the standard error.
    pub(crate) fn note(&mut self, line: impl Display) {
        let _ = writeln!(self.err, "{}", plain(line));
    }

    /// The answer for programs, if it was asked for.
    pub(crate) fn answer(&mut self, value: &serde_json::Value) {
        if self.json {
            let _ = writeln!(self.out, "{value}");
            let _ = self.out.flush();
        }
    }

    /// Why the command ends; one line whatever the text.
    pub(crate) fn refuse(&mut self, line: &str) {
        let _ = writeln!(
            self.err,
            "error: {}",
            plain(line.replace(['\n', '\r'], " "))
        );
    }
}

/// Why a command ends with another exit code than 0.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) line: String,
    pub(crate) code: u8,
}

impl Failure {
    /// Bad input: exit code 2.
    pub(crate) fn input(line: impl Display) -> Self {
        Self {
            line: line.to_string(),
            code: 2,
        }
    }

    /// Bad input in a file.
    pub(crate) fn file(path: &Path, what: impl Display) -> Self {
        Self::input(format!("{}: {what}", path.display()))
    }

    /// A check that did not hold: exit code 1.
    #[allow(dead_code, reason = "used by the commands that compare")]
    pub(crate) fn check(line: impl Display) -> Self {
        Self {
            line: line.to_string(),
            code: 1,
        }
    }
}

impl From<crate::dataset::DataError> for Failure {
    fn from(e: crate::dataset::DataError) -> Self {
        Self::input(e)
    }
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::file(path, e);
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = std::path::PathBuf::from(name);
    std::fs::write(&part, bytes).map_err(failed)?;
    std::fs::rename(&part, path).map_err(failed)
}

/// A number with thin groups of three: 12345 → "12,345".
pub(crate) fn grouped(n: impl Into<u64>) -> String {
    let digits = n.into().to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share in per cent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_terminal_would_obey_is_shown_as_text() {
        let shown = |line: &str| super::plain(line);
        assert_eq!(shown("gehen (zügig) 歩く"), "gehen (zügig) 歩く");
        assert_eq!(shown("a\nb\u{1b}[2J\u{9b}m"), r"a\nb\u{1b}[2J\u{9b}m");
        assert_eq!(shown("a\u{202e}b\u{2028}"), r"a\u{202e}b\u{2028}");
    }

    #[test]
    fn groups_of_three() {
        let text = [0u64, 12, 123, 1234, 123456, 1234567].map(super::grouped);
        assert_eq!(text, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }
}
