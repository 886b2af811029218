//! The binary `spacepanda`. Everything happens in the library, so that tests can run the same entry.

use std::process::ExitCode;

fn main() -> ExitCode {
    spacepanda_api::run()
}
