//! Migrations are built in, and so are the console's files, which are listed here.

use std::{
    env, fs,
    io::{Error, Result},
    path::{Path, PathBuf},
};

/// What browsers are to get; what else lies there is for whoever works on it.
const SERVED: &[&str] = &["css", "html", "js", "svg"];

fn main() -> Result<()> {
    let variable = |name| env::var_os(name).ok_or_else(|| Error::other(format!("cargo did not set {name}")));
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("console");
    println!("cargo::rerun-if-changed=../migrations");
    println!("cargo::rerun-if-changed=console");
    let mut files = Vec::new();
    walk(&root, &mut files)?;
    files.sort();
    let rows = files.iter().map(|file| {
        let name = file.strip_prefix(&root).map_err(Error::other)?;
        Ok(format!("({name:?}, include_bytes!({file:?})),\n"))
    });
    let rows = rows.collect::<Result<String>>()?;
    let listed = PathBuf::from(variable("OUT_DIR")?).join("console.rs");
    fs::write(listed, format!("&[\n{rows}]"))
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            // A file that is added to a folder changes that folder alone.
            println!("cargo::rerun-if-changed={}", path.display());
            walk(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|kind| SERVED.iter().any(|served| kind == *served))
        {
            files.push(path);
        }
    }
    Ok(())
}
