//! Helper programs, built on demand.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a program of this workspace, or of the workspace in its subfolder `folder`, with the profile of this program.
/// Returns the path of the program.
pub(crate) fn build(folder: Option<&str>, name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let built = own.parent().unwrap();
    let profile = match built.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Each workspace has its own target folder. The workspaces use different versions of the same crates, and would
    // rebuild these crates in a common folder.
    let (manifest, target) = match folder {
        Some(folder) => (here.join(folder).join("Cargo.toml"), built.parent().unwrap().join(folder)),
        None => (here.join("Cargo.toml"), built.parent().unwrap().to_owned()),
    };
    eprintln!("building {name} ...");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--quiet", "--profile", profile, "--bin", name]);
    command.arg("--manifest-path").arg(manifest).arg("--target-dir").arg(&target);
    let status = command.status().unwrap();
    assert!(status.success(), "the build of {name} failed: {status}");
    target.join(built.file_name().unwrap()).join(name)
}
