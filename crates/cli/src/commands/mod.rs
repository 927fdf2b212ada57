//! The commands. Each takes the client and whether JSON is wanted, and returns an exit code.

mod bulk;
mod catalog;
mod clusters;
mod deliveries;
mod explain;
pub mod jobs;
mod logs;
mod submit;
pub mod tokens;
mod wait;

use std::io::{Read, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::Command;
use crate::client::Client;
use crate::exit::{self, Failure};

/// What a command comes back with.
pub type Done = Result<i32, Failure>;

/// Runs one command.
pub async fn run(command: Command, client: &Client, json: bool) -> Done {
    match command {
        Command::Submit(args) => submit::submit(*args, client, json).await,
        Command::List(args) => jobs::list(&args, client, json).await,
        Command::Get { job } => jobs::get(&job, client, json).await,
        Command::Explain { job: _, team: Some(team) } => explain::team(&team, client, json).await,
        Command::Explain { job, team: None } => {
            explain::job(job.as_deref().unwrap_or_default(), client, json).await
        }
        Command::History { job } => jobs::history(&job, client, json).await,
        Command::Logs { job, follow, attempt, tail, source } => {
            let source = Some(source).filter(|source| source != "job");
            let wanted = logs::Wanted { follow, attempt, tail, source };
            logs::logs(&job, wanted, client, &mut std::io::stdout()).await
        }
        Command::Stop { jobs, reason } => jobs::stop(&jobs, &reason, client, json).await,
        Command::Wait { jobs, timeout } => wait::wait(&jobs, timeout, client, json).await,
        Command::Receipt { team, key } => jobs::receipt(&team, &key, client, json).await,
        Command::Teams => clusters::teams(client, json).await,
        Command::Clusters => clusters::clusters(client, json).await,
        Command::Drain { cluster } => clusters::switch(&cluster, "drain", client, json).await,
        Command::Resume { cluster } => clusters::switch(&cluster, "resume", client, json).await,
        Command::Apply(args) => catalog::apply(&args, client, json).await,
        Command::Export { version } => catalog::export(version, client, json).await,
        Command::Catalog(args) => catalog::versions(&args, client, json).await,
        Command::Audit => clusters::audit(client, json).await,
        Command::AuditLog(args) => tokens::audit_log(&args, client, json).await,
        Command::Deliveries(command) => deliveries::deliveries(&command, client, json).await,
        Command::Token(command) => tokens::token(&command, client, json).await,
    }
}

/// Reads an answer as its type; a server of another version may not fit.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|e| {
        Failure::new(exit::UNAVAILABLE, format!("the server's answer is of another version: {e}"))
    })
}

/// The content of a file; `-` is standard input.
fn read_file(file: &Path) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::new(exit::USAGE, format!("can't read {}: {e}", file.display()));
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        return Ok(text);
    }
    std::fs::read_to_string(file).map_err(failed)
}

/// Prints a text and a line's end. Whoever reads our output may go when they have enough (`yard list | head`): that is
/// no error, and there is nobody left to tell.
fn print(text: &str) {
    _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a value as JSON, for programs.
fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Failure::new(exit::UNAVAILABLE, format!("can't be shown as JSON: {e}")))?;
    print(&text);
    Ok(())
}
