//! The commands of `yard` that talk to a server: tables for people, `--json` for programs, exit codes for scripts.
//!
//! - [`args`]: the command line
//! - [`client`]: HTTP, and its errors on one line
//! - [`exit`]: exit codes
//! - [`commands`]: a file per group of commands
//! - [`mod@show`] makes the tables

pub mod args;
pub mod client;
pub mod commands;
pub mod exit;
pub mod show;

pub use args::{Command, Global};
pub use exit::EXIT_CODES_HELP;

use client::Client;
pub use exit::Failure;

/// Runs one command; returns its exit code. Errors are printed here, once.
pub async fn run(command: Command, global: &Global) -> i32 {
    let result = match Client::new(global) {
        Ok(client) => commands::run(command, &client, global.json).await,
        Err(failure) => Err(failure),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            failure.tell(global.json);
            failure.code
        }
    }
}
