//! Compiles the protos without protoc, and keeps their descriptors for reflection and REST.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=jalur");
    println!("cargo:rerun-if-changed=google");
    println!("cargo:rerun-if-changed=buf");

    let mut files: Vec<PathBuf> = fs::read_dir("jalur/v1")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    files.sort();

    let mut compiler = protox::Compiler::new(["."])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(&files)?;

    // As bytes: prost-types drops the google.api.http options that REST is made from.
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("jalur.v1.bin");
    fs::write(descriptors, compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
