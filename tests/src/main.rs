//! The server that the scenarios start: the product's own program under a name that only tests use.
//!
//! Nothing but the call. The code is the product's, with one difference: the core is built with its feature
//! `testing`, which the hostile parties of the scenarios need and no path of the server takes.

use std::process::ExitCode;

fn main() -> ExitCode {
    spacepanda_api::run()
}
