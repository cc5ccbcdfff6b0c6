//! What the whole-system tests share.

use std::fs;
use std::path::PathBuf;

/// The README's Rust code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

/// A folder for the files of one test, gone at its end.
pub struct Folder(pub PathBuf);

impl Folder {
    /// An empty folder; `name` is unique among the tests of a file.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gru-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// The path of a file in it, whether there is one or not.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Writes a file; its path.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), bytes).expect("a file");
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the command line in this process: exit code, standard output, standard error.
pub fn gru(args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let all = ["gru"].iter().chain(args);
    let code = gru_train_host::cli::run(all, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (code, text(out), text(err))
}

/// The JSON of the last line.
pub fn json(out: &str) -> serde_json::Value {
    let last = out.lines().last().expect("a line");
    serde_json::from_str(last).expect("JSON")
}

/// A refusal: code 2, one line, and all of `parts` in it.
pub fn refused(args: &[&str], parts: &[&str]) {
    let (code, out, err) = gru(args);
    assert_eq!(code, 2, "{args:?}: {out}{err}");
    assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
    assert!(err.starts_with("error: "), "{args:?}: {err}");
    for part in parts {
        assert!(err.contains(part), "{args:?}: no {part:?} in {err}");
    }
}
