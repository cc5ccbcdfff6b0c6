//! The data readers: what they read, and the one clear line with which they refuse.
//!
//! With `GRU_DATA` set to the folder that holds `uci_har`, `hapt_stream`, … the recorded data sets
//! are read as well; they may not be committed.

use std::fs;
use std::path::{Path, PathBuf};

use gru_train_host::dataset::csv::Options;
use gru_train_host::dataset::{self, Counts, Labels, Part, UNLABELLED, WindowLabel, npy, split};

/// A folder of its own for one test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gru-data-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn npy_bytes(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

#[test]
fn csv_of_a_continuous_recording() {
    let folder = Folder::new("continuous");
    let path = folder.file(
        "r.csv",
        "time_s,ax,gx,label,user\n0.00,0.5,100,rest,7\n0.02,-1.01,-40000,walk,7\n\
         0.04,0.25,3,unlabelled,7\n0.06,0,0,walk,7\n1.00,0,0,walk,7\n1.02,0,0,walk,8\n",
    );
    let data = dataset::open(&path, &Options::default()).unwrap();
    assert_eq!(data.features, ["ax", "gx"]);
    assert_eq!(data.counts_per_unit, [8192.0, 1.0]);
    assert_eq!(data.classes, ["rest", "walk"]);
    assert_eq!(data.subjects, ["7", "8"]);
    assert_eq!(data.sample_rate_hz, 50.0);
    // A gap in time and another person each begin a new sequence.
    assert_eq!(data.sequences.len(), 3);
    assert_eq!((data.steps(0), data.steps(1), data.steps(2)), (4, 1, 1));
    assert_eq!(
        data.sequences[0].labels,
        Labels::Steps(vec![0, 1, UNLABELLED, 1])
    );
    assert_eq!(
        data.sequences[0].counts,
        Counts::I32(vec![4096, 100, -8274, -40000, 2048, 3, 0, 0])
    );
}

#[test]
fn csv_with_windows_semicolons_and_another_column_order() {
    let folder = Folder::new("windows");
    let path = folder.file(
        "w.csv",
        "\u{feff}label;b;window;a;step\r\n2;1.5;0;1;0\r\n2;2.5;0;2;1\r\n10;3.5;1;3;0\r\n10;4.5;1;4;1\r\n",
    );
    let data = dataset::open(&path, &Options::default()).unwrap();
    assert_eq!(data.features, ["b", "a"]);
    assert_eq!(data.classes, ["2", "10"], "numbers sort as numbers");
    assert_eq!(data.sequences[1].labels, Labels::Sequence(1));
    // The same file for a model that exists: its features, scales and classes.
    let options = Options {
        features: vec!["a".into(), "b".into()],
        counts_per_unit: vec![10.0, 2.0],
        classes: vec!["10".into(), "2".into(), "3".into()],
        ..Options::default()
    };
    let data = dataset::open(&path, &options).unwrap();
    assert_eq!(data.sequences[0].counts, Counts::I16(vec![10, 3, 20, 5]));
    assert_eq!(data.sequences[1].labels, Labels::Sequence(0));
}

#[test]
fn a_folder_of_csv_files_is_one_data_set() {
    let folder = Folder::new("folder");
    folder.file("b.csv", "x,label\n1,on\n2,off\n");
    folder.file("a.csv", "label,x\non,3\n");
    let data = dataset::open(&folder.0, &Options::default()).unwrap();
    assert_eq!(data.recordings, ["a", "b"]);
    assert_eq!(data.classes, ["off", "on"]);
    assert_eq!(split::split(&data, 0.5, 0.0, 1).how, "by recording");
}

/// Every malformed file is refused with one line that names the file and holds all the given parts.
#[test]
fn malformed_csv_files_are_refused_with_one_clear_line() {
    let strict = Options {
        need_labels: true,
        ..Options::default()
    };
    let wants = |features: &[&str]| Options {
        features: features.iter().map(|f| (*f).to_owned()).collect(),
        ..Options::default()
    };
    let cases: Vec<(&[u8], Options, &[&str])> = vec![
        (b"", strict.clone(), &["empty", "expected a header"]),
        (b"\n\n", strict.clone(), &["empty", "expected a header"]),
        (
            b"x,label\n",
            strict.clone(),
            &["without rows", "expected data"],
        ),
        (
            b"x,y\n1,2\n",
            strict.clone(),
            &["row 1", "\"label\"", "missing", "found x, y"],
        ),
        (
            b"1,2\n3,4\n",
            strict.clone(),
            &["row 1", "\"1\" is a number", "names of the columns"],
        ),
        (
            b"x,label\n1,a\nabc,a\n",
            strict.clone(),
            &["row 3", "\"x\"", "found \"abc\"", "expected a number"],
        ),
        (
            b"x,label\n1,a\n,a\n",
            strict.clone(),
            &["row 3", "\"x\"", "empty", "expected a number"],
        ),
        (
            b"x,label\nNaN,a\n",
            strict.clone(),
            &["row 2", "\"x\"", "NaN", "finite"],
        ),
        (
            b"x,label\n-inf,a\n",
            strict.clone(),
            &["row 2", "\"x\"", "-inf", "finite"],
        ),
        (
            b"x,label\n1e300,a\n",
            strict.clone(),
            &["row 2", "\"x\"", "1e300", "between"],
        ),
        (
            b"x;label\n0,5;a\n",
            strict.clone(),
            &["row 2", "\"x\"", "\"0,5\"", "number"],
        ),
        (
            b"x,label\n1,a\n2\n",
            strict.clone(),
            &["row 3", "1 cells", "expected 2"],
        ),
        (
            b"x,label\n1,a,9\n",
            strict.clone(),
            &["row 2", "3 cells", "expected 2"],
        ),
        (
            b"x,x,label\n1,2,a\n",
            strict.clone(),
            &["row 1", "\"x\"", "twice"],
        ),
        (
            b"x,,label\n1,2,a\n",
            strict.clone(),
            &["row 1", "column 2 has no name"],
        ),
        (
            b"label,subject\na,1\n",
            strict.clone(),
            &["row 1", "no feature column"],
        ),
        (
            b"x,label\n1,\xff\xfe\n",
            strict.clone(),
            &["row 2", "UTF-8"],
        ),
        (
            b"\x80\x02model\x00\x01\n1,2\n",
            strict.clone(),
            &["row 1", "UTF-8"],
        ),
        (
            b"x,label,window\n1,a,0\n2,a,0\n3,a,1\n",
            strict.clone(),
            &["row 4", "window \"1\" has 1 steps", "expected 2"],
        ),
        (
            b"x,label,window\n1,a,0\n2,a,1\n3,a,0\n",
            strict.clone(),
            &["row 4", "\"window\"", "\"0\" begins again"],
        ),
        (
            b"x,label,recording\n1,a,p\n2,a,q\n3,a,p\n",
            strict.clone(),
            &["row 4", "\"recording\"", "begins again"],
        ),
        (
            b"x,label,step\n1,a,0\n2,a,1\n3,a,3\n",
            strict.clone(),
            &["row 4", "\"step\"", "3 after 1", "expected 2"],
        ),
        (
            b"x,label,step\n1,a,zero\n",
            strict.clone(),
            &["row 2", "\"step\"", "\"zero\"", "number"],
        ),
        (
            b"time_s,x,label\n0.02,1,a\n0.02,1,a\n",
            strict.clone(),
            &["row 3", "\"time_s\"", "later time"],
        ),
        (
            b"time,x,label\n12:00:01,1,a\n",
            strict.clone(),
            &["row 2", "\"time\"", "12:00:01"],
        ),
        (
            b"x,label\n1,a\n",
            wants(&["x", "y"]),
            &["row 1", "\"y\"", "missing", "found x, label"],
        ),
        (
            b"x,label\n1,c\n",
            Options {
                classes: vec!["a".into(), "b".into()],
                ..strict.clone()
            },
            &["row 2", "\"label\"", "found \"c\"", "one of a, b"],
        ),
        (
            b"x,label\n1,c\n",
            Options {
                subject: Some("who".into()),
                ..strict.clone()
            },
            &["row 1", "\"who\"", "missing", "subject"],
        ),
        (
            b"x,label\n1,c\n",
            Options {
                label: Some("kind".into()),
                ..strict.clone()
            },
            &["row 1", "\"kind\"", "missing", "label"],
        ),
        (
            b"x,label\n\"1\n2\",a\n",
            strict.clone(),
            &["row 2", "\"x\"", "\"1\\n2\"", "number"],
        ),
        (
            b"x,label\n\"1,a\n2,a\n",
            strict.clone(),
            &["row 2", "1 cells", "expected 2"],
        ),
        (
            b"x,label\n0x10,a\n",
            strict.clone(),
            &["row 2", "\"x\"", "0x10"],
        ),
    ];
    let folder = Folder::new("bad-csv");
    for (number, (bytes, options, parts)) in cases.iter().enumerate() {
        let path = folder.file(&format!("bad{number}.csv"), bytes);
        let line = match dataset::open(&path, options) {
            Ok(data) => panic!("case {number} was read: {data:?}"),
            Err(e) => e.to_string(),
        };
        assert_eq!(line.lines().count(), 1, "case {number}: {line}");
        assert!(
            line.contains(&format!("bad{number}.csv")),
            "case {number}: {line}"
        );
        for part in *parts {
            assert!(line.contains(part), "case {number}: no {part:?} in: {line}");
        }
    }
    // Two files of a folder that do not fit each other.
    let two = Folder::new("bad-folder");
    two.file("a.csv", "x,label\n1,a\n");
    two.file("b.csv", "y,label\n1,a\n");
    let line = dataset::open(&two.0, &strict).unwrap_err().to_string();
    assert!(
        line.contains("b.csv") && line.contains("expected x"),
        "{line}"
    );
    let nothing = Folder::new("bad-nothing");
    let line = dataset::open(&nothing.0, &strict).unwrap_err().to_string();
    assert!(line.contains("no data found"), "{line}");
    assert!(dataset::open(Path::new("no-such-file.csv"), &strict).is_err());
}

#[test]
fn npy_files_are_read_and_malformed_ones_refused() {
    let folder = Folder::new("npy");
    let good = npy_bytes("<i2", "(2, 3)", &[1, 0, 2, 0, 3, 0, 255, 255, 0, 128, 9, 0]);
    let path = folder.file("good.npy", &good);
    let mut reader = npy::Reader::open::<i16>(&path, &[None, Some(3)]).unwrap();
    assert_eq!(reader.read::<i16>(1).unwrap(), [1, 2, 3]);
    assert_eq!(reader.read_rest::<i16>().unwrap(), [-1, -32768, 9]);
    assert!(reader.read::<i16>(1).is_err());

    let list = |descr: &str| npy_bytes(descr, "(6,)", &good[good.len() - 12..]);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let data = &good[good.len() - 12..];
    let columns_first = {
        let at = good.windows(5).position(|w| w == b"False").unwrap();
        [&good[..at], b"True ", &good[at + 5..]].concat()
    };
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (vec![], &["truncated", "magic"]),
        (good[..7].to_vec(), &["truncated", "magic"]),
        (good[..9].to_vec(), &["truncated", "header length"]),
        (good[..40].to_vec(), &["truncated", "header"]),
        (
            good[..good.len() - 1].to_vec(),
            &["truncated", "bytes, expected"],
        ),
        (
            good[..good.len() - 12].to_vec(),
            &["truncated", "bytes, expected"],
        ),
        (
            [&good[..], &[0]].concat(),
            &["left-over", "bytes, expected"],
        ),
        (with(0, b'P'), &["not a .npy", "expected \\x93NUMPY"]),
        (with(6, 9), &["version 9.0", "expected 1.0"]),
        (with(10, b'['), &["header", "descr"]),
        (with(20, 0xff), &["header is not text"]),
        (
            npy_bytes("<f4", "(2, 3)", &[0; 24]),
            &["\"<f4\"", "expected \"<i2\""],
        ),
        (
            npy_bytes(">i2", "(2, 3)", data),
            &["\">i2\"", "expected \"<i2\""],
        ),
        (
            npy_bytes("|O", "(2, 3)", data),
            &["\"|O\"", "expected \"<i2\""],
        ),
        (
            npy_bytes("<i2", "(3, 2)", data),
            &["shape [3, 2]", "expected [any, 3]"],
        ),
        (list("<i2"), &["shape [6]", "expected [any, 3]"]),
        (
            npy_bytes("<i2", "()", &[0, 0]),
            &["shape []", "expected [any, 3]"],
        ),
        (npy_bytes("<i2", "(-2, 3)", data), &["header"]),
        (
            npy_bytes("<i2", "(9223372036854775807, 3)", data),
            &["too large"],
        ),
        (
            npy_bytes("<i2", "(99999999999999999999, 3)", data),
            &["header"],
        ),
        (columns_first, &["fortran_order", "expected rows first"]),
    ];
    for (number, (bytes, parts)) in cases.iter().enumerate() {
        let path = folder.file(&format!("bad{number}.npy"), bytes);
        let line = match npy::Reader::open::<i16>(&path, &[None, Some(3)]) {
            Ok(_) => panic!("case {number} was read"),
            Err(e) => e.to_string(),
        };
        assert_eq!(line.lines().count(), 1, "case {number}: {line}");
        assert!(
            line.contains(&format!("bad{number}.npy")),
            "case {number}: {line}"
        );
        for part in *parts {
            assert!(line.contains(part), "case {number}: no {part:?} in: {line}");
        }
    }
}

#[test]
fn a_har_folder_with_a_wrong_label_or_length_is_refused() {
    let folder = Folder::new("har");
    let window = vec![0u8; 2 * 4 * 9];
    for name in ["train", "test"] {
        let x = npy_bytes("<i2", "(1, 4, 9)", &window);
        folder.file(&format!("X_{name}_i16.npy"), x);
        folder.file(&format!("y_{name}.npy"), npy_bytes("|u1", "(1,)", &[5]));
        folder.file(
            &format!("subject_{name}.npy"),
            npy_bytes("|u1", "(1,)", &[30]),
        );
    }
    let options = Options::default();
    assert_eq!(
        dataset::open(&folder.0, &options).unwrap().sequences.len(),
        2
    );
    folder.file("y_test.npy", npy_bytes("|u1", "(1,)", &[6]));
    let line = dataset::open(&folder.0, &options).unwrap_err().to_string();
    assert!(
        line.contains("y_test.npy") && line.contains("class 6"),
        "{line}"
    );
    folder.file("y_test.npy", npy_bytes("|u1", "(2,)", &[5, 5]));
    let line = dataset::open(&folder.0, &options).unwrap_err().to_string();
    assert!(line.contains("shape [2], expected [1]"), "{line}");
    fs::remove_file(folder.0.join("y_test.npy")).unwrap();
    let line = dataset::open(&folder.0, &options).unwrap_err().to_string();
    assert!(line.contains("y_test.npy"), "{line}");
}

#[test]
fn ts_files_of_variable_length_and_malformed_ones() {
    let head = "# comment\n@problemName X\n@timeStamps false\n@equalLength false\n@classLabel true a b\n@data\n";
    let folder = Folder::new("ts");
    folder.file("X_TRAIN.ts", format!("{head}0.5,1.5:-1,2:a\n3.25:4:b\n"));
    folder.file("X_TEST.ts", format!("{head}8,8,8:0.125,0,0:b\n"));
    let data = dataset::open(&folder.0, &Options::default()).unwrap();
    assert_eq!(
        (
            data.name.as_str(),
            data.input(),
            data.steps(0),
            data.steps(1)
        ),
        ("X", 2, 2, 1)
    );
    assert_eq!(data.counts_per_unit, [4096.0, 1.0]);
    assert_eq!(
        data.sequences[0].counts,
        Counts::I16(vec![2048, -1, 6144, 2])
    );
    assert_eq!(data.part(Part::Test), [2]);
    assert_eq!(data.whole(&[2], WindowLabel::Last)[0].label, 1);
    for (number, (text, parts)) in [
        (
            format!("{head}1,?:2,3:a\n"),
            ["row 7", "channel 1", "value 2"],
        ),
        (
            format!("{head}1,NaN:2,3:a\n"),
            ["row 7", "channel 1", "finite"],
        ),
        (
            format!("{head}1,2:3:a\n"),
            ["row 7", "channel 2", "1 steps, expected 2"],
        ),
        (
            format!("{head}1:2:a\n1:a\n"),
            ["row 8", "1 channels", "expected 2"],
        ),
        (format!("{head}1:2:c\n"), ["row 7", "class \"c\"", "a, b"]),
        (format!("{head}\n"), ["no cases", "expected", "@data"]),
        ("1,2:a\n".into(), ["row 1", "expected a header", "@data"]),
        (
            head.replace("Length false", "Length true") + "1:a\n1,2:a\n",
            ["row 8", "2 steps", "expected 1"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.file(&format!("bad{number}.ts"), text);
        let line = dataset::open(&path, &Options::default())
            .unwrap_err()
            .to_string();
        for part in parts {
            assert!(line.contains(part), "case {number}: no {part:?} in: {line}");
        }
    }
}

#[test]
fn recorded_data_sets_are_read() {
    let Some(root) = std::env::var_os("GRU_DATA").map(PathBuf::from) else {
        eprintln!("GRU_DATA is not set: the recorded data sets are not read");
        return;
    };
    let open = |name: &str| match dataset::open(&root.join(name), &Options::default()) {
        Ok(data) => data,
        Err(e) => panic!("{e}"),
    };
    let classes = |data: &dataset::Dataset, part| {
        let mut counts = vec![0; data.classes.len()];
        for s in data.part(part) {
            counts[usize::from(data.label(s, 0))] += 1;
        }
        counts
    };
    let har = open("uci_har");
    assert_eq!(
        classes(&har, Part::Train),
        [1226, 1073, 986, 1286, 1374, 1407]
    );
    assert_eq!(classes(&har, Part::Test), [496, 471, 420, 491, 532, 537]);
    let s = split::split(&har, 0.3, 0.15, 1);
    let subjects = |list: &[usize]| -> std::collections::BTreeSet<_> {
        list.iter().map(|&i| har.sequences[i].subject).collect()
    };
    assert_eq!(
        (s.how, s.test.len(), subjects(&s.test).len()),
        ("official", 2947, 9)
    );
    assert!(subjects(&s.train).is_disjoint(&subjects(&s.validation)));

    // The same windows as text: the same counts, once the scales are the same.
    let first = dataset::open(
        &root.join("uci_har/subject01_first60.csv"),
        &Options {
            counts_per_unit: har.counts_per_unit.clone(),
            classes: har.classes.clone(),
            need_labels: true,
            ..Options::default()
        },
    )
    .unwrap();
    assert_eq!((first.sequences.len(), first.steps(59)), (60, 128));
    assert_eq!(first.features, har.features);
    for n in 0..60 {
        assert_eq!(
            first.sequences[n].counts, har.sequences[n].counts,
            "window {n}"
        );
        assert_eq!(
            first.sequences[n].labels, har.sequences[n].labels,
            "window {n}"
        );
    }

    let hapt = open("hapt_stream");
    assert_eq!((hapt.sequences.len(), hapt.total_steps()), (57, 1_047_523));
    assert_eq!((hapt.classes.len(), hapt.subjects.len()), (12, 28));
    let exp07 = open("hapt_stream/exp07_user04.csv");
    assert_eq!((exp07.sequences.len(), exp07.steps(0)), (1, 17_668));
    assert_eq!((exp07.sample_rate_hz, exp07.classes.len()), (50.0, 12));
    for t in (0..17_668).step_by(97) {
        let name =
            |data: &dataset::Dataset, s| data.classes.get(usize::from(data.label(s, t))).cloned();
        assert_eq!(name(&exp07, 0), name(&hapt, 6), "step {t}");
    }

    let digits = open("fsdd_logmel");
    assert_eq!((digits.input(), digits.total_steps()), (13, 54_037));
    let parts = [Part::Train, Part::Test, Part::Extra].map(|p| digits.part(p).len());
    assert_eq!(parts, [1800, 200, 500]);

    for (name, channels, train, test) in [
        ("uea_JapaneseVowels", 12, 270, 370),
        ("uea_BasicMotions", 6, 40, 40),
        ("uea_Epilepsy", 3, 137, 138),
        ("uea_GunPoint", 1, 50, 150),
        ("uea_PickupGestureWiimoteZ", 1, 50, 50),
    ] {
        let data = open(name);
        let found = (
            data.input(),
            data.part(Part::Train).len(),
            data.part(Part::Test).len(),
        );
        assert_eq!(found, (channels, train, test), "{name}");
    }
}
