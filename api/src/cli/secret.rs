//! Where secrets come from: standard input, a file, the environment, or a prompt.
//!
//! Never from an argument, which other users of the machine could read.

use std::{
    fs::File,
    io::{self, BufRead as _, IsTerminal as _},
    path::Path,
};

use zeroize::Zeroizing;

use super::failure::Failure;

const VARIABLE: &str = "SPACEPANDA_PASSWORD";
const REGISTRATION_VARIABLE: &str = "SPACEPANDA_REGISTRATION_TOKEN";
/// Longer lines are no secrets.
const LENGTH_LIMIT: u64 = 4096;

/// Whether a new password is chosen, which is asked for twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For a new account.
    Choose,
    /// Of an existing account.
    Enter,
}

/// The password.
///
/// # Errors
/// When there is no way to ask for it, or the two entries differ.
pub(super) fn password(from_stdin: bool, purpose: Purpose) -> Result<Zeroizing<String>, Failure> {
    if from_stdin {
        return first_line("password on standard input", io::stdin().lock());
    }
    if let Ok(password) = std::env::var(VARIABLE) {
        return Ok(Zeroizing::new(password));
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("no password; use --password-stdin or set {VARIABLE}")));
    }
    let password = prompt("Password: ")?;
    if purpose == Purpose::Choose && *prompt("The same again: ")? != *password {
        return Err(Failure::usage("the two passwords differ"));
    }
    Ok(password)
}

/// The operator's token for one more account: of the file's first line, else of the environment, else empty.
///
/// # Errors
/// When the file cannot be read or is empty.
pub(super) fn registration_token(file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    let Some(path) = file else {
        return Ok(Zeroizing::new(std::env::var(REGISTRATION_VARIABLE).unwrap_or_default()));
    };
    let unreadable = |error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    first_line("registration token in the file", io::BufReader::new(file))
}

fn prompt(text: &str) -> Result<Zeroizing<String>, Failure> {
    rpassword::prompt_password(text)
        .map(Zeroizing::new)
        .map_err(|error| Failure::usage(format!("the password could not be read: {error}")))
}

fn first_line(what: &str, input: impl io::BufRead) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::new());
    input
        .take(LENGTH_LIMIT)
        .read_line(&mut line)
        .map_err(|error| Failure::usage(format!("the {what} could not be read: {error}")))?;
    let secret = line.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(Failure::usage(format!("the {what} is empty")));
    }
    Ok(Zeroizing::new(secret.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password_with_its_spaces() {
        assert_eq!(*first_line("x", &b" correct horse \r\nrest"[..]).unwrap(), " correct horse ");
        assert_eq!(*first_line("x", &b"no newline"[..]).unwrap(), "no newline");
    }

    #[test]
    fn an_empty_line_is_refused() {
        assert!(first_line("x", &b"\n"[..]).is_err());
        assert!(first_line("x", &b""[..]).is_err());
    }
}
