//! Building for the machine: the hypervisor and its test guests, with the core library from source.

use crate::Failure;
use crate::shell::{self, has, output, progress, root, target_dir};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Which hypervisor to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The one to use.
    Plain,
    /// The one that can test itself.
    Selftest,
}

/// The target that the hypervisor and most guests are built for.
pub const LITTLE: &str = "ppc64le-partita";
/// The same machine in its other byte order, for guests.
pub const BIG: &str = "ppc64be-partita";

/// A compiler that comes with the source of the core library.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Toolchain {
    /// The one that runs this program.
    Active,
    /// Debian's packages rustc-web, cargo-web and rust-web-src.
    Debian,
}

impl Toolchain {
    fn cargo(&self) -> Command {
        let mut cargo = match self {
            Self::Active => Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
            Self::Debian => {
                let mut cargo = Command::new("/usr/bin/cargo");
                cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTDOC", "/usr/bin/rustdoc");
                for variable in ["RUSTUP_TOOLCHAIN", "RUSTUP_HOME", "CARGO"] {
                    cargo.env_remove(variable);
                }
                cargo
            }
        };
        cargo.current_dir(root());
        cargo
    }
}

/// A cargo command for the build machine.
pub fn cargo(subcommand: &str) -> Command {
    let mut cargo = Toolchain::Active.cargo();
    cargo.arg(subcommand);
    cargo
}

/// A cargo command for the custom targets: `subcommand` with everything that building for them needs.
pub fn cargo_for(target: &str, subcommand: &str) -> Result<Command, Failure> {
    let mut cargo = find()?.cargo();
    cargo
        .arg(subcommand)
        .args(["--quiet", "--release"])
        .args([
            "-Zbuild-std=core,alloc,compiler_builtins",
            "-Zbuild-std-features=compiler-builtins-mem,optimize_for_size",
        ])
        .args(["-Zjson-target-spec", "--target", &format!("targets/{target}.json")])
        .arg("--target-dir")
        .arg(target_dir())
        .env("RUSTC_BOOTSTRAP", "1");
    // Flags that someone set for programs of the build machine do not suit this one.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"] {
        cargo.env_remove(variable);
    }
    Ok(cargo)
}

/// Builds the hypervisor. Gives the path of the image, an ELF file that `-kernel` takes.
pub fn build_kernel(variant: Variant) -> Result<PathBuf, Failure> {
    let (name, what) = match variant {
        Variant::Plain => ("partita.elf", "the hypervisor"),
        Variant::Selftest => ("partita-selftest.elf", "the hypervisor with its self-tests"),
    };
    let image = shell::make_dir(target_dir().join("partita"))?.join(name);
    if !image.exists() {
        progress(&format!("building {what}; the first time takes a minute"));
    }
    let mut cargo = cargo_for(LITTLE, "build")?;
    cargo.args(["--package", "kernel", "--bin", "kernel"]);
    if variant == Variant::Selftest {
        cargo.args(["--features", "selftest"]);
    }
    finish(cargo, what)?;
    install(&target_dir().join(LITTLE).join("release").join("kernel"), &image)?;
    Ok(image)
}

/// Builds every program of the `guests` package for both byte orders.
pub fn build_guests() -> Result<(), Failure> {
    for target in [LITTLE, BIG] {
        if !target_dir().join(target).join("release").exists() {
            progress(&format!("building the test guests for {target}"));
        }
        let mut cargo = cargo_for(target, "build")?;
        cargo.args(["--package", "guests", "--bins"]);
        finish(cargo, "the test guests")?;
    }
    Ok(())
}

/// Builds the plugin with which QEMU counts instructions, for the build machine. Gives its path.
pub fn build_counter() -> Result<PathBuf, Failure> {
    let mut cargo = cargo("build");
    cargo.args(["--quiet", "--release", "--package", "counter"]).arg("--target-dir").arg(target_dir());
    let plugin = target_dir().join("release").join("libcounter.so");
    if !plugin.exists() {
        progress("building the plugin that counts instructions");
    }
    finish(cargo, "the plugin that counts instructions")?;
    Ok(plugin)
}

/// Builds one of them, in little endian. Gives its path.
pub fn build_guest(bin: &str) -> Result<PathBuf, Failure> {
    let mut cargo = cargo_for(LITTLE, "build")?;
    cargo.args(["--package", "guests", "--bin", bin]);
    finish(cargo, bin)?;
    Ok(guest(bin, LITTLE))
}

/// Where [`build_guests`] leaves a program.
pub fn guest(bin: &str, target: &str) -> PathBuf {
    target_dir().join(target).join("release").join(bin)
}

fn finish(mut cargo: Command, what: &str) -> Result<(), Failure> {
    if !has("ld.lld") {
        return Err(Failure::new(
            "the linker ld.lld is not installed; on Debian: apt-get install lld (qemu-run.sh does it)",
        ));
    }
    let status = cargo.status().map_err(|error| {
        Failure::new(format!("cannot run {}: {error}", cargo.get_program().to_string_lossy()))
    })?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("{what} could not be built: cargo's messages are above")))
}

/// Puts a file in place in one step, and only if it differs, so that one in use is not disturbed.
fn install(from: &Path, to: &Path) -> Result<(), Failure> {
    let new = std::fs::read(from).map_err(|error| {
        Failure::new(format!("{}: the build did not leave it there: {error}", from.display()))
    })?;
    if std::fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let temporary = to.with_extension(format!("{}.new", std::process::id()));
    shell::write(&temporary, &new)?;
    std::fs::rename(&temporary, to)
        .map_err(|error| Failure::new(format!("{}: cannot put it in place: {error}", to.display())))
}

/// Finds a toolchain with the core library's source, or gets one.
fn find() -> Result<&'static Toolchain, Failure> {
    static FOUND: OnceLock<Toolchain> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found);
    }
    let toolchain = look()?;
    Ok(FOUND.get_or_init(|| toolchain))
}

fn look() -> Result<Toolchain, Failure> {
    let mut tried = Vec::new();
    match sysroot("rustc") {
        Ok(active) if has_source(&active) => return Ok(Toolchain::Active),
        Ok(active) => {
            tried.push(format!("the active toolchain ({}) has no rust-src", active.display()));
            if has("rustup") && !active.starts_with("/usr") {
                progress("adding rust-src, the source of the core library, to the toolchain");
                match output(
                    Command::new("rustup").args(["component", "add", "rust-src"]).current_dir(root()),
                ) {
                    Ok(_) if has_source(&active) => return Ok(Toolchain::Active),
                    Ok(_) => {
                        tried.push("`rustup component add rust-src` succeeded, yet it is not there".into())
                    }
                    Err(error) => tried.push(error.to_string()),
                }
            }
        }
        Err(error) => tried.push(error.to_string()),
    }
    let debian = || {
        sysroot("/usr/bin/rustc").is_ok_and(|path| has_source(&path)) && Path::new("/usr/bin/cargo").exists()
    };
    if debian() {
        return Ok(Toolchain::Debian);
    }
    const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
    if has("apt-get") {
        progress("installing Debian's rustc-web, cargo-web and rust-web-src");
        let mut apt = if is_root() { Command::new("apt-get") } else { Command::new("sudo") };
        if !is_root() {
            apt.args(["-n", "apt-get"]);
        }
        apt.args(["install", "-y", "-q", "--no-install-recommends"]).args(PACKAGES);
        match output(apt.env("DEBIAN_FRONTEND", "noninteractive")) {
            Ok(_) if debian() => return Ok(Toolchain::Debian),
            Ok(_) => tried.push("apt-get installed them, yet /usr/bin/rustc has no source".into()),
            Err(error) => tried.push(error.to_string()),
        }
    } else {
        tried.push("/usr/bin/rustc with rust-web-src is not there, nor is apt-get to install it".into());
    }
    let tried: String = tried.iter().map(|line| format!("\n  tried: {line}")).collect();
    Err(Failure::new(format!(
        "no Rust toolchain with the source of the core library{tried}\n  next: `rustup component add rust-src`, or as \
         root on Debian 12 `apt-get install {}`",
        PACKAGES.join(" ")
    )))
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim_ascii() == b"0")
}

fn sysroot(rustc: &str) -> Result<PathBuf, Failure> {
    let path = output(Command::new(rustc).args(["--print", "sysroot"]).current_dir(root()))?;
    Ok(PathBuf::from(String::from_utf8_lossy(&path).trim()))
}

fn has_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
}
