//! Hands the linker scripts to the programs, when they are built for what they run on.

/// Programs that run under Linux, and not in place of it.
const USER: [&str; 1] = ["stress"];

fn main() {
    println!("cargo:rerun-if-changed=guest.ld");
    println!("cargo:rerun-if-changed=user.ld");
    println!("cargo:rerun-if-changed=src/bin");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    for program in std::fs::read_dir("src/bin").expect("the programs") {
        let path = program.expect("a program").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a plain name").to_owned();
        let script = if USER.contains(&name.as_str()) { "user.ld" } else { "guest.ld" };
        println!("cargo:rustc-link-arg-bin={name}=-T{folder}/{script}");
    }
    println!("cargo:rustc-link-arg-bins=--gc-sections");
    println!("cargo:rustc-link-arg-bins=--build-id=none");
}
