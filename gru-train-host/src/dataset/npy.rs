//! NumPy's `.npy` files, row by row: little-endian integers and floats in C order.
//!
//! Read here rather than by a crate: the header is one line, and a refusal has to name the file,
//! what was found and what was expected before a byte of data is read; rows are read one at a time,
//! so that a data set is never in memory twice.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::{DataError, shown};

/// A number that a `.npy` file can hold.
pub trait Element: Copy {
    /// Type names as they stand in a header.
    const DESCR: &'static [&'static str];
    /// Bytes of one number.
    const BYTES: usize;
    /// Reads one number; `bytes` is [`BYTES`](Self::BYTES) long.
    fn from_le(bytes: &[u8]) -> Self;
}

macro_rules! element {
    ($($t:ty: $($name:literal)+;)+) => {$(
        impl Element for $t {
            const DESCR: &'static [&'static str] = &[$($name),+];
            const BYTES: usize = size_of::<$t>();
            fn from_le(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$t>()];
                raw.copy_from_slice(bytes);
                Self::from_le_bytes(raw)
            }
        }
    )+};
}
element! {
    u8: "|u1" "<u1" "u1";
    i16: "<i2";
    i32: "<i4";
    f32: "<f4";
}

/// An open `.npy` file whose header was found sound and whose size fits its shape.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    shape: Vec<usize>,
    buffer: Vec<u8>,
    row: usize,
}

impl Reader {
    /// Opens a file of numbers of type `T`. `shape` is what the caller needs, `None` for any size.
    pub fn open<T: Element>(path: &Path, shape: &[Option<usize>]) -> Result<Self, DataError> {
        let bad = |what: String| DataError::file(path, what);
        let file = File::open(path).map_err(|e| DataError::io(path, &e))?;
        let have = file.metadata().map_err(|e| DataError::io(path, &e))?.len();
        let mut input = BufReader::new(file);
        let mut take = |n: usize, of: &str| {
            let mut bytes = vec![0; n];
            match input.read_exact(&mut bytes) {
                Ok(()) => Ok(bytes),
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Err(bad(format!(
                    "truncated: {have} bytes end inside the {of}, expected {n} bytes for it"
                ))),
                Err(e) => Err(DataError::io(path, &e)),
            }
        };
        let magic = take(8, "magic and version")?;
        if &magic[..6] != b"\x93NUMPY" {
            return Err(bad(format!(
                "not a .npy file: starts with {:02x?}, expected \\x93NUMPY",
                &magic[..6]
            )));
        }
        let (version, wide) = ((magic[6], magic[7]), magic[6] != 1);
        if !matches!(version, (1..=3, 0)) {
            return Err(bad(format!(
                ".npy version {}.{}, expected 1.0, 2.0 or 3.0",
                version.0, version.1
            )));
        }
        let length = take(if wide { 4 } else { 2 }, "header length")?;
        let length = length
            .iter()
            .rev()
            .fold(0usize, |n, &b| n << 8 | usize::from(b));
        if length > 65_536 {
            return Err(bad(format!(
                "header of {length} bytes, expected at most 65536"
            )));
        }
        let header = take(length, "header")?;
        let start = 8 + if wide { 4 } else { 2 } + length;
        let header = String::from_utf8(header).map_err(|_| bad("header is not text".into()))?;
        let (descr, fortran, found) = parse(&header).ok_or_else(|| {
            bad(format!(
                "header {} is not {{'descr', 'fortran_order', 'shape'}}",
                shown(header.trim_end())
            ))
        })?;
        if !T::DESCR.contains(&descr.as_str()) {
            return Err(bad(format!(
                "numbers of type {}, expected \"{}\"",
                shown(&descr),
                T::DESCR[0]
            )));
        }
        if fortran && found.len() > 1 {
            return Err(bad(
                "columns come first (fortran_order), expected rows first".into(),
            ));
        }
        let fits = found.len() == shape.len()
            && (found.iter().zip(shape)).all(|(have, need)| need.is_none_or(|n| n == *have));
        if !fits || shape.is_empty() {
            let need: Vec<String> = (shape.iter())
                .map(|d| d.map_or("any".to_owned(), |d| d.to_string()))
                .collect();
            return Err(bad(format!(
                "shape {found:?}, expected [{}]",
                need.join(", ")
            )));
        }
        let need = (found.iter())
            .try_fold(T::BYTES as u64, |n, &d| n.checked_mul(d as u64))
            .and_then(|n| n.checked_add(start as u64))
            .ok_or_else(|| bad(format!("shape {found:?} is too large")))?;
        if have != need {
            let how = if have < need {
                "truncated: "
            } else {
                "left-over bytes: "
            };
            return Err(bad(format!(
                "{how}{have} bytes, expected {need} for shape {found:?} of {descr}"
            )));
        }
        let shape = found;
        Ok(Self {
            path: path.to_owned(),
            input,
            shape,
            buffer: Vec::new(),
            row: 0,
        })
    }

    /// Sizes of all axes, at least one.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of entries along the first axis.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// Reads the next `rows` entries of the first axis.
    pub fn read<T: Element>(&mut self, rows: usize) -> Result<Vec<T>, DataError> {
        if rows > self.rows() - self.row {
            return Err(DataError::file(
                &self.path,
                format!(
                    "{} rows, expected at least {}",
                    self.rows(),
                    self.row + rows
                ),
            ));
        }
        self.row += rows;
        let count = rows * self.shape[1..].iter().product::<usize>();
        self.buffer.resize(count * T::BYTES, 0);
        self.input
            .read_exact(&mut self.buffer)
            .map_err(|e| DataError::io(&self.path, &e))?;
        Ok(self.buffer.chunks_exact(T::BYTES).map(T::from_le).collect())
    }

    /// Reads all that is left.
    pub fn read_rest<T: Element>(&mut self) -> Result<Vec<T>, DataError> {
        self.read(self.rows() - self.row)
    }
}

/// A whole file of numbers along one axis of `len` entries (any number if `None`).
pub fn read_list<T: Element>(path: &Path, len: Option<usize>) -> Result<Vec<T>, DataError> {
    Reader::open::<T>(path, &[len])?.read_rest()
}

/// `{'descr': '<i2', 'fortran_order': False, 'shape': (3, 4), }` → type, order, shape.
fn parse(header: &str) -> Option<(String, bool, Vec<usize>)> {
    let body = header.trim().strip_prefix('{')?.strip_suffix('}')?;
    let value = |key: &str| {
        let at = body.find(&format!("'{key}'"))? + key.len() + 2;
        Some(body.get(at..)?.trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = value("descr")?.strip_prefix('\'')?.split_once('\'')?.0;
    let order = value("fortran_order")?;
    let fortran = match (order.starts_with("True"), order.starts_with("False")) {
        (true, false) => true,
        (false, true) => false,
        _ => return None,
    };
    let shape = value("shape")?.strip_prefix('(')?.split_once(')')?.0;
    let shape = (shape.split(',').map(str::trim))
        .filter(|n| !n.is_empty())
        .map(|n| n.parse().ok())
        .collect::<Option<Vec<usize>>>()?;
    Some((descr.to_owned(), fortran, shape))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn headers() {
        let text = "{'descr': '<i2', 'fortran_order': False, 'shape': (2947, 128, 9), }   \n";
        assert_eq!(parse(text), Some(("<i2".into(), false, vec![2947, 128, 9])));
        assert_eq!(
            parse("{'shape': (7,), 'fortran_order': True, 'descr': '|u1'}"),
            Some(("|u1".into(), true, vec![7]))
        );
        for bad in [
            "",
            "{}",
            "{'descr': '<i2', 'shape': (1,)}",
            "{'descr': '<i2', 'fortran_order': False, 'shape': (x,)}",
            "{'descr': [('a', '<i2')], 'fortran_order': False, 'shape': (1,)}",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
