//! `gru cycles`: functions of a few instructions whose cycles are counted by hand, refusals, and the table of the README.

use gru_tests::{Folder, gru, json, refused};
use gru_train_host::board::cycles::{self, Call, Core, CycleError, Options};

/// `bl` to the function, `b .`.
const CALL: [u16; 3] = [0xf000, 0xf801, 0xe7fe];

/// A firmware at address 0: vectors, code that switches the FPU on, `main`, and the function `gru_bench_step`.
fn firmware(main: [u16; 3], function: &[u16]) -> Vec<u8> {
    const FPU_ON: [u16; 14] = [
        0x4804, 0x6801, 0xf441, 0x0170, 0x6001, 0xf3bf, 0x8f4f, 0xf3bf, 0x8f6f, 0xe001, 0xed88,
        0xe000, 0xbf00, 0xbf00,
    ];
    // Behind 16 vectors; faults go to the last instruction of `main`.
    let (reset, hang, start) = (0x41u32, 0x61u32, 0x63u32);
    let mut image = Vec::new();
    for vector in [0x2000_1000, reset].into_iter().chain([hang; 14]) {
        image.extend(vector.to_le_bytes());
    }
    for half in FPU_ON.iter().chain(&main).chain(function) {
        image.extend(half.to_le_bytes());
    }
    image.resize(image.len().next_multiple_of(4), 0);

    let size = image.len() as u32;
    let names = b"\0gru_bench_step\0\0\0\0\0";
    let (at_image, at_symbols, at_names) = (84, 84 + size, 84 + size + 32);
    let at_sections = at_names + names.len() as u32;
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |elf: &mut Vec<u8>, values: &[u16]| {
        elf.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    };
    let word = |elf: &mut Vec<u8>, values: &[u32]| {
        elf.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    };
    half(&mut elf, &[2, 40]);
    word(&mut elf, &[1, reset, 52, at_sections, 0x0500_0000]);
    half(&mut elf, &[52, 32, 1, 40, 3, 2]);
    word(&mut elf, &[1, at_image, 0, 0, size, size, 5, 4]);
    elf.extend(&image);
    word(&mut elf, &[0, 0, 0, 0]);
    word(&mut elf, &[1, start, 2 * function.len() as u32]);
    elf.extend([0x12, 0, 1, 0]);
    elf.extend(names);
    word(&mut elf, &[0; 10]);
    word(&mut elf, &[0, 2, 0, 0, at_symbols, 32, 2, 1, 4, 16]);
    word(
        &mut elf,
        &[0, 3, 0, 0, at_names, names.len() as u32, 0, 0, 1, 0],
    );
    elf
}

fn options(core: Core) -> Options<'static> {
    Options {
        core,
        function: "gru_bench_step",
        calls: None,
        most_instructions: 10_000,
    }
}

fn count(core: Core, function: &[u16]) -> Result<Vec<Call>, CycleError> {
    cycles::count(&firmware(CALL, function), &options(core))
}

/// A function: what it does, its encoding by `arm-none-eabi-as`, instructions, cycles on each core.
struct Case {
    text: &'static str,
    code: &'static [u16],
    instructions: u64,
    /// M0, M0+, M3, M4, M33; `None` where the core does not have an instruction.
    cycles: [Option<u64>; 5],
}

const CORES: [Core; 5] = [Core::M0, Core::M0plus, Core::M3, Core::M4, Core::M33];

const CASES: [Case; 18] = [
    Case {
        text: "movs r0,#1; adds r0,#2; bx lr",
        code: &[0x2001, 0x3002, 0x4770],
        instructions: 3,
        cycles: [
            Some(1 + 1 + 3),
            Some(1 + 1 + 2),
            Some(1 + 1 + 3),
            Some(1 + 1 + 3),
            Some(1 + 1 + 3),
        ],
    },
    Case {
        text: "mov r3,sp; nop; ldr r0,[r3]; ldr r1,[r3,#4]; str r0,[r3]; bx lr",
        code: &[0x466b, 0xbf00, 0x6818, 0x6859, 0x6018, 0x4770],
        instructions: 6,
        // The second load follows the first at once, the store takes one.
        cycles: [
            Some(11),
            Some(10),
            Some(1 + 1 + 2 + 1 + 1 + 3),
            Some(9),
            Some(5 + 3),
        ],
    },
    Case {
        text: "mov r3,sp; ldr r0,[r3]; bx lr",
        code: &[0x466b, 0x6818, 0x4770],
        instructions: 3,
        cycles: [
            Some(1 + 2 + 3),
            Some(1 + 2 + 2),
            Some(1 + 2 + 1 + 3),
            Some(7),
            Some(1 + 1 + 3),
        ],
    },
    Case {
        text: "sub sp,#8; mov r3,sp; str r3,[r3]; ldr r0,[r3]; ldr r1,[r0]; add sp,#8; bx lr",
        code: &[0xb082, 0x466b, 0x601b, 0x6818, 0x6801, 0xb002, 0x4770],
        instructions: 7,
        // The second load needs what the first one loads.
        cycles: [
            Some(12),
            Some(11),
            Some(1 + 1 + 2 + 2 + 2 + 1 + 3),
            Some(12),
            Some(6 + 1 + 3),
        ],
    },
    Case {
        text: "push {r4,r5,lr}; pop {r4,r5,pc}",
        code: &[0xb530, 0xbd30],
        instructions: 2,
        cycles: [
            Some(4 + 7),
            Some(4 + 6),
            Some(4 + 4 + 3),
            Some(4 + 4 + 3),
            Some(3 + 3 + 2),
        ],
    },
    Case {
        text: "movs r0,#3; 1: subs r0,#1; bne 1b; bx lr",
        code: &[0x2003, 0x3801, 0xd1fd, 0x4770],
        instructions: 8,
        cycles: [
            Some(1 + 3 + 3 + 3 + 1 + 3),
            Some(1 + 3 + 2 + 2 + 1 + 2),
            Some(1 + 3 + 3 + 3 + 1 + 3),
            Some(14),
            Some(1 + 3 + 2 + 2 + 1 + 3),
        ],
    },
    Case {
        text: "push {r4,lr}; bl 1f; pop {r4,pc}; 1: nop; bx lr",
        code: &[0xb510, 0xf000, 0xf801, 0xbd10, 0xbf00, 0x4770],
        instructions: 5,
        cycles: [
            Some(3 + 4 + 1 + 3 + 6),
            Some(3 + 3 + 1 + 2 + 5),
            Some(3 + 3 + 1 + 3 + 6),
            Some(16),
            Some(2 + 2 + 1 + 3 + 4),
        ],
    },
    Case {
        text: "mrs r0,apsr; msr apsr_nzcvq,r0; dsb; bx lr",
        code: &[0xf3ef, 0x8000, 0xf380, 0x8800, 0xf3bf, 0x8f4f, 0x4770],
        instructions: 4,
        cycles: [
            Some(12 + 3),
            Some(9 + 2),
            Some(6 + 3),
            Some(6 + 3),
            Some(6 + 3),
        ],
    },
    Case {
        text: "muls r0,r1,r0; mla r0,r1,r2,r3; umull r0,r1,r2,r3; umlal r0,r1,r2,r3; udiv r0,r1,r2; bx lr",
        code: &[
            0x4348, 0xfb01, 0x3002, 0xfba2, 0x0103, 0xfbe2, 0x0103, 0xfbb1, 0xf0f2, 0x4770,
        ],
        instructions: 6,
        // M33: `umlal` waits a cycle for `umull`, `udiv` one for `umlal`.
        cycles: [
            None,
            None,
            Some(1 + 2 + 4 + 6 + 12 + 3),
            Some(1 + 1 + 1 + 1 + 12 + 3),
            Some(3 + 2 + 1 + 11 + 3),
        ],
    },
    Case {
        text: "smlad r0,r1,r2,r3; smlabb r0,r1,r2,r0; sxtb16 r1,r2,ror #8; ssat r0,#16,r0,asr #2; pkhbt r0,r1,r2,lsl #16; bx lr",
        code: &[
            0xfb21, 0x3002, 0xfb11, 0x0002, 0xfa2f, 0xf192, 0xf320, 0x008f, 0xeac1, 0x4002, 0x4770,
        ],
        instructions: 6,
        cycles: [None, None, None, Some(5 + 3), Some(6 + 3)],
    },
    Case {
        text: "cmp r0,r0; it ne; movne r1,#1; it eq; moveq r1,#2; bx lr",
        code: &[0x4280, 0xbf18, 0x2101, 0xbf08, 0x2102, 0x4770],
        instructions: 6,
        // Both `it` are folded.
        cycles: [None, None, Some(1 + 1 + 1 + 3), Some(6), Some(5 + 3)],
    },
    Case {
        text: "cmp.w r0,r0; it ne; ldrne r1,[sp]; bx lr",
        code: &[0xebb0, 0x0f00, 0xbf18, 0x9900, 0x4770],
        instructions: 4,
        // Not folded, and the load is left out.
        cycles: [None, None, Some(1 + 1 + 1 + 3), Some(6), Some(3 + 3)],
    },
    Case {
        text: "sub sp,#16; movs r0,#0; mov r1,sp; nop; str r0,[r1,r0]; ldr r2,[r1]; str r0,[r1,r0]; \
               strd r0,r1,[sp]; ldrd r2,r3,[sp]; add sp,#16; bx lr",
        code: &[
            0xb084, 0x2000, 0x4669, 0xbf00, 0x5008, 0x680a, 0x5008, 0xe9cd, 0x0100, 0xe9dd, 0x2300,
            0xb004, 0x4770,
        ],
        instructions: 11,
        cycles: [
            None,
            None,
            Some(4 + 2 + 2 + 1 + 3 + 3 + 1 + 3),
            Some(19),
            Some(7 + 2 + 2 + 1 + 3),
        ],
    },
    Case {
        text: "sub sp,#16; mov r0,sp; nop; stm r0!,{r1-r4}; ldmdb r0!,{r1-r3}; add sp,#16; bx lr",
        code: &[
            0xb084, 0x4668, 0xbf00, 0xc01e, 0xe930, 0x000e, 0xb004, 0x4770,
        ],
        instructions: 7,
        cycles: [
            None,
            None,
            Some(3 + 5 + 4 + 1 + 3),
            Some(16),
            Some(3 + 4 + 3 + 1 + 3),
        ],
    },
    Case {
        text: "movs r0,#0; cbz r0,1f; nop; 1: tbb [pc,r0]; .byte 1,1; bx lr",
        code: &[0x2000, 0xb100, 0xbf00, 0xe8df, 0xf000, 0x0101, 0x4770],
        instructions: 4,
        cycles: [
            None,
            None,
            Some(1 + 3 + 6 + 3),
            Some(13),
            Some(1 + 2 + 5 + 3),
        ],
    },
    Case {
        text: "push {lr}; ldr pc,[sp],#4",
        code: &[0xb500, 0xf85d, 0xfb04],
        instructions: 2,
        cycles: [None, None, Some(2 + 5), Some(7), Some(1 + 3)],
    },
    Case {
        text: "vmov.f32 s0,#1.0; vmul.f32 s1,s0,s0; vadd.f32 s2,s1,s0; vmla.f32 s2,s0,s0; vdiv.f32 s3,s0,s0; \
               nop; nop; vadd.f32 s4,s3,s0; bx lr",
        code: &[
            0xeeb7, 0x0a00, 0xee60, 0x0a00, 0xee30, 0x1a80, 0xee00, 0x1a00, 0xeec0, 0x1a00, 0xbf00,
            0xbf00, 0xee31, 0x2a80, 0x4770,
        ],
        instructions: 9,
        // The first sum waits a cycle for its factor, `vmla` not for its addend, and the last sum for the divider.
        cycles: [
            None,
            None,
            None,
            Some(1 + 1 + 2 + 3 + 14 + 1 + 3),
            Some(2 + 2 + 2 + 3 + 14 + 1 + 3),
        ],
    },
    Case {
        text: "sub sp,#8; nop; vldr s0,[sp]; vldr s1,[sp,#4]; vadd.f32 s2,s0,s1; vstr s2,[sp]; vpush {s0-s3}; \
               vpop {s0-s3}; vmov r0,r1,s0,s1; add sp,#8; bx lr",
        code: &[
            0xb082, 0xbf00, 0xed9d, 0x0a00, 0xeddd, 0x0a01, 0xee30, 0x1a20, 0xed8d, 0x1a00, 0xed2d,
            0x0a04, 0xecbd, 0x0a04, 0xec51, 0x0a10, 0xb002, 0x4770,
        ],
        instructions: 11,
        cycles: [
            None,
            None,
            None,
            Some(2 + 2 + 1 + 1 + 3 + 5 + 5 + 2 + 1 + 3),
            Some(4 + 1 + 1 + 1 + 1 + 4 + 4 + 2 + 1 + 3),
        ],
    },
];

#[test]
fn cycles_are_those_counted_by_hand() {
    for case in CASES {
        for (core, cycles) in CORES.into_iter().zip(case.cycles) {
            let counted = count(core, case.code);
            match cycles {
                Some(_) => {
                    let instructions = case.instructions;
                    let call = Call {
                        instructions,
                        cycles,
                    };
                    assert_eq!(counted, Ok(vec![call]), "{}: {}", core.name(), case.text);
                }
                None => assert!(
                    matches!(
                        counted,
                        Err(CycleError::Instruction { .. } | CycleError::Fault { .. })
                    ),
                    "{}: {}: {counted:?}",
                    core.name(),
                    case.text
                ),
            }
        }
        // Nothing is estimated where nothing is published.
        let counted = count(Core::M7, case.code).expect("an M7 has all of them");
        let instructions = case.instructions;
        assert_eq!(
            counted,
            [Call {
                instructions,
                cycles: None
            }],
            "{}",
            case.text
        );
    }
}

#[test]
fn the_command_answers() {
    let folder = Folder::new("cycles");
    let elf = folder.file(
        "loop.elf",
        firmware(CALL, &[0x2003, 0x3801, 0xd1fd, 0x4770]),
    );
    let (code, out, err) = gru(&["cycles", &elf, "--core", "m0plus"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.contains("gru_bench_step on Cortex-M0+: 1 calls"),
        "{out}"
    );
    assert!(
        out.contains("8  (exact)") && out.contains("11  (a model: "),
        "{out}"
    );
    let (code, out, _) = gru(&["cycles", &elf, "--core", "m33", "--json"]);
    let answer = json(&out);
    assert_eq!(code, 0);
    assert_eq!(answer["instructions"]["max"], 8);
    assert_eq!(answer["cycles"]["mean"], 12.0);
    let (_, out, _) = gru(&["cycles", &elf, "--core", "m7", "--json"]);
    assert_eq!(json(&out)["cycles"], serde_json::Value::Null);
    let (_, out, _) = gru(&["cycles", &elf, "--core", "m4", "--each", "--calls", "1"]);
    assert_eq!(out, "8 14\n");
    let (_, out, _) = gru(&["cycles", &elf, "--core", "m7", "--each"]);
    assert_eq!(out, "8 -\n");
}

#[test]
fn what_cannot_be_counted_is_refused_in_one_line() {
    let folder = Folder::new("no-cycles");
    let plain = [0x2001, 0x4770];
    let file = |name: &str, main, function: &[u16]| folder.file(name, firmware(main, function));
    let sound = file("sound.elf", CALL, &plain);
    let refuse = |path: &str, parts: &[&str]| refused(&["cycles", path, "--core", "m4"], parts);

    refuse("no-such.elf", &["no-such.elf"]);
    refuse(
        &folder.file("text.elf", "text"),
        &["text.elf", "not a firmware", "no sound ELF"],
    );
    let elf = firmware(CALL, &plain);
    for len in (0..elf.len()).step_by(7) {
        refuse(&folder.file("cut.elf", &elf[..len]), &["cut.elf"]);
    }
    let mut host = elf.clone();
    host[18] = 62;
    refuse(&folder.file("host.elf", host), &["not for Arm"]);
    let mut wide = elf.clone();
    // More memory than a microcontroller has.
    wide[52 + 20..][..4].copy_from_slice(&0x7000_0000u32.to_le_bytes());
    refuse(
        &folder.file("wide.elf", wide),
        &["more than a microcontroller has"],
    );

    refused(&["cycles", &sound], &["--core"]);
    refused(&["cycles", &sound, "--core", "m55"], &["m55", "m0plus"]);
    let other = ["cycles", &sound, "--core", "m4", "--function"];
    refused(
        &[other.as_slice(), &["step"]].concat(),
        &["\"step\"", "but gru_bench_step"],
    );
    refused(
        &[other.as_slice(), &["nothing"]].concat(),
        &["\"nothing\"", "stripped"],
    );

    refuse(
        &file("never.elf", [0xe7fe, 0xbf00, 0xe7fe], &plain),
        &["never called"],
    );
    // movs r0,#0x18; movs r1,#0; bkpt 0xab
    refuse(
        &file("exit.elf", [0x2018, 0x2100, 0xbeab], &plain),
        &["exit code 1"],
    );
    refuse(
        &file("semihosting.elf", [0x2099, 0x2100, 0xbeab], &plain),
        &["semihosting", "0x00000060"],
    );
    refuse(
        &file("udf.elf", CALL, &[0xbf00, 0xde00]),
        &["0x00000064 in gru_bench_step"],
    );
    // movs r0,#1; lsls r0,r0,#30; ldr r0,[r0]
    refuse(
        &file("fault.elf", CALL, &[0x2001, 0x0780, 0x6800]),
        &["Fault", "0x00000066 in gru_bench_step"],
    );
    refuse(
        &file("stays.elf", CALL, &[0xe7fe]),
        &["stays at 0x00000062 in gru_bench_step"],
    );
    for (name, main, function) in [
        ("outside.elf", [0xbf00, 0xe7fd, 0xbf00], plain.as_slice()),
        ("inside.elf", CALL, &[0xbf00, 0xe7fd]),
    ] {
        let path = file(name, main, function);
        let args = [
            "cycles",
            &path,
            "--core",
            "m4",
            "--most-instructions",
            "5000",
        ];
        refused(&args, &["not ended after 5000", "0 whole calls"]);
    }
    // What an M3 or an M0 does not have.
    let smlad = file("smlad.elf", CALL, &[0xfb21, 0x3002, 0x4770]);
    refused(
        &["cycles", &smlad, "--core", "m3"],
        &["Fault", "0x00000062"],
    );
    refused(
        &["cycles", &smlad, "--core", "m0"],
        &["0xfb213002 at 0x00000062", "Cortex-M0 "],
    );
}

#[test]
fn the_readme_has_the_table_that_count_sh_prints() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let printed = std::process::Command::new("bash")
        .arg(root.join("firmware-examples/bench/count.sh"))
        .arg("--table")
        .output()
        .expect("bash");
    let table = String::from_utf8(printed.stdout).expect("UTF-8");
    assert_eq!(table.lines().count(), 8, "{table}");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    assert!(readme.contains(&table), "count.sh --table prints\n{table}");
}
