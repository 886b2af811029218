//! The SpacePanda home server and its command line client.

pub mod cli;
