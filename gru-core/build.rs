//! Chooses the kernel of this build: stable Rust does not tell Arm code which extensions it has.
//!
//! Sets `cfg(gru_active = "name")`. `--cfg gru_kernel="name"` in the user's flags forces one; the
//! crate refuses to compile (`gru_kernel_absent`) where the forced kernel cannot run.

use std::env;

struct Build {
    target: String,
    cpu: String,
    std: bool,
}

impl Build {
    fn is(&self, prefix: &str) -> bool {
        self.target.starts_with(prefix)
    }

    fn mve(&self) -> bool {
        self.is("thumbv8m.main") && matches!(&*self.cpu, "cortex-m55" | "cortex-m85")
    }

    fn dsp(&self) -> bool {
        self.is("thumbv7em")
            || self.is("thumbv8m.main") && matches!(&*self.cpu, "cortex-m33" | "cortex-m35p")
            || self.mve()
    }
}

/// Whether a kernel can run in a build.
type Condition = fn(&Build) -> bool;

/// Name and condition, the preferred one first. `kernel/mod.rs` has one line for each as well.
const KERNELS: &[(&str, Condition)] = &[
    ("mve", |b| b.mve()),
    ("quad_mla", |b| b.is("thumbv7m-")),
    ("quad", |b| b.is("thumbv6m-") || b.is("thumbv7m-")),
    ("dsp", |b| b.dsp() && !b.mve()),
    ("host", |b| b.std),
    ("portable", |_| true),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let mut build = Build {
        target: env::var("TARGET").unwrap_or_default(),
        cpu: String::new(),
        std: env::var_os("CARGO_FEATURE_STD").is_some(),
    };
    let mut forced = None;
    // `-C target-cpu=x` and `--cfg gru_kernel="x"` come as one flag or as two.
    for flag in flags.split('\x1f') {
        if let Some((_, cpu)) = flag.split_once("target-cpu=") {
            build.cpu = cpu.to_string();
        }
        if let Some((_, kernel)) = flag.split_once("gru_kernel=") {
            forced = Some(kernel.trim_matches('"').to_string());
        }
    }
    let runs = |name: &str| KERNELS.iter().any(|(n, runs)| *n == name && runs(&build));
    let preferred = KERNELS.iter().find(|(_, runs)| runs(&build));
    let mut active = preferred.map_or("portable", |(name, _)| name).to_string();
    println!("cargo::rustc-check-cfg=cfg(gru_kernel_absent)");
    println!("cargo::rustc-check-cfg=cfg(gru_kernel, values(any()))");
    println!("cargo::rustc-check-cfg=cfg(gru_active, values(any()))");
    println!("cargo::rustc-check-cfg=cfg(gru_cpu, values(any()))");
    // The float loops need the registers of an FPU, which the hard-float ABI promises.
    println!("cargo::rustc-check-cfg=cfg(gru_fpu)");
    let hard_float = build.is("thumb") && build.target.ends_with("-none-eabihf");
    if hard_float && forced.as_deref() != Some("portable") {
        println!("cargo::rustc-cfg=gru_fpu");
    }
    match forced {
        Some(name) if runs(&name) => active = name,
        Some(_) => println!("cargo::rustc-cfg=gru_kernel_absent"),
        None => {}
    }
    // The host's tools take every model.
    println!("cargo::rustc-check-cfg=cfg(gru_portable)");
    if build.std || env::var_os("CARGO_FEATURE_PORTABLE").is_some() {
        println!("cargo::rustc-cfg=gru_portable");
    }
    // Kernels follow the optimization level: no unrolled loops where it is size, and where there are routines that have
    // nothing to share with those for other layouts, the smallest ones, or with `unrolled` the smallest that are quick.
    println!("cargo::rustc-check-cfg=cfg(gru_small)");
    println!("cargo::rustc-check-cfg=cfg(gru_tiny)");
    println!("cargo::rustc-check-cfg=cfg(gru_compact)");
    let has = |feature: &str| env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    let for_size = matches!(env::var("OPT_LEVEL").as_deref(), Ok("s" | "z"));
    let plain = !has("INT4") && !has("SPARSE");
    let small = for_size && !has("UNROLLED");
    let tiny = small && plain && (active == "dsp" || active == "quad");
    let compact = !tiny && plain && active == "dsp";
    if small || compact && for_size {
        println!("cargo::rustc-cfg=gru_small");
    }
    if tiny {
        println!("cargo::rustc-cfg=gru_tiny");
    }
    if compact {
        println!("cargo::rustc-cfg=gru_compact");
    }
    println!("cargo::rustc-check-cfg=cfg(gru_dsp)");
    if build.dsp() && !build.mve() {
        println!("cargo::rustc-cfg=gru_dsp");
    }
    // Neither an instruction that saturates nor one that chooses.
    println!("cargo::rustc-check-cfg=cfg(gru_masks)");
    if build.is("thumbv6m-") || build.is("riscv") {
        println!("cargo::rustc-cfg=gru_masks");
    }
    println!("cargo::rustc-cfg=gru_active={active:?}");
    println!("cargo::rustc-cfg=gru_cpu={:?}", build.cpu);
}
