//! Writes the inputs that each fuzz target begins from: `cargo run -p spacepanda-tests --bin corpus -- fuzz/corpus`.
//!
//! It adds and replaces, and removes nothing: what a fuzzer found stays.

use std::{fs, io, path::Path, process::ExitCode};

use spacepanda_core::fuzzing::TARGETS;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else { return ExitCode::from(2) };
    match write(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn write(directory: &Path) -> io::Result<()> {
    for target in TARGETS {
        let directory = directory.join(target.name);
        fs::create_dir_all(&directory)?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(directory.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
