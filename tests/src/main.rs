//! The server that the scenarios start: the product's own program under a name that only tests use.
//!
//! Nothing but the call; what is tested is what is shipped.

use std::process::ExitCode;

fn main() -> ExitCode {
    spacepanda_api::run()
}
