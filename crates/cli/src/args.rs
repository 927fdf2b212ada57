//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

/// What holds for every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The server's address.
    #[arg(
        long,
        global = true,
        env = "YARD_SERVER",
        default_value = "http://127.0.0.1:8920",
        value_name = "URL"
    )]
    pub server: String,
    /// The token that says who you are.
    #[arg(long, global = true, env = "YARD_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// A file with the token in it, in place of --token.
    #[arg(long, global = true, env = "YARD_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands that talk to a server.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Hand over a job: a document (FILE or - for standard input), or --team and a command.
    Submit(Box<Submit>),
    /// List jobs, newest first.
    List(List),
    /// Show one job.
    Get {
        /// Which one: its id, or TEAM/KEY.
        job: String,
    },
    /// Show why a job waits, what would change that, and when it will probably start.
    Explain {
        /// Which one: its id, or TEAM/KEY.
        #[arg(required_unless_present = "team", conflicts_with = "team")]
        job: Option<String>,
        /// What holds this team's jobs instead.
        #[arg(long)]
        team: Option<String>,
    },
    /// Show everything that happened to a job.
    History {
        /// Which one: its id, or TEAM/KEY.
        job: String,
    },
    /// Print a job's output.
    Logs {
        /// Which one: its id, or TEAM/KEY.
        job: String,
        /// Follow it to the job's end, through retries.
        #[arg(short, long)]
        follow: bool,
        /// Of this attempt (by default the last).
        #[arg(long)]
        attempt: Option<u32>,
        /// Only this many of the lines that are there now (looked for in the last MiB).
        #[arg(short = 'n', long, value_name = "LINES")]
        tail: Option<usize>,
        /// Whose: the job's command, or, on clusters that make a Ray cluster for each job, the end of what those pods print.
        #[arg(long, value_parser = ["job", "head", "workers", "submitter"], default_value = "job")]
        source: String,
    },
    /// Stop jobs.
    Stop {
        /// Which ones: ids, or TEAM/KEY.
        #[arg(required = true)]
        jobs: Vec<String>,
        /// Why, for the history.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Wait until jobs have ended; the exit code tells how.
    Wait {
        /// Which ones: ids, or TEAM/KEY.
        #[arg(required = true)]
        jobs: Vec<String>,
        /// Give up after this many seconds.
        #[arg(long, value_parser = seconds, value_name = "SECONDS")]
        timeout: Option<Duration>,
    },
    /// Show what became of a submission, by the producer's own key.
    Receipt {
        /// The team.
        team: String,
        /// The key.
        key: String,
    },
    /// Show teams, their quotas and what they have in use.
    Teams,
    /// Show clusters, what they have and what is in use.
    Clusters,
    /// Give a cluster no new jobs; those it has run to their end.
    Drain {
        /// Which one.
        cluster: String,
    },
    /// Give a drained cluster new jobs again.
    Resume {
        /// Which one.
        cluster: String,
    },
    /// Put a catalog (teams, cohorts, priority classes, policy, clusters) in force, after showing what changes.
    Apply(Apply),
    /// Print the catalog in force, as it was written.
    Export {
        /// An older version.
        #[arg(long)]
        version: Option<u64>,
    },
    /// List the versions of the catalog: when, who, how.
    Catalog(Versions),
    /// Recompute what is in use from the open attempts and compare.
    Audit,
    /// Show who changed what, newest first.
    AuditLog(AuditLogPage),
    /// Make, list and revoke tokens: who may do what.
    #[command(subcommand)]
    Token(Token),
    /// See what is on its way to subscribers, and send again what was given up.
    #[command(subcommand)]
    Deliveries(Deliveries),
}

/// What to do with deliveries.
#[derive(Debug, Subcommand)]
pub enum Deliveries {
    /// List what has not arrived: it waits, or has been given up.
    List {
        /// Of this team.
        #[arg(long)]
        team: Option<String>,
        /// Of the subscription of this name.
        #[arg(long, value_name = "NAME")]
        subscription: Option<String>,
        /// pending or dead.
        #[arg(long)]
        state: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Go on after a page: its `next`.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Send dead deliveries again.
    Retry {
        /// Of this team.
        #[arg(long)]
        team: String,
        /// Of the subscription of this name; by default of all.
        #[arg(long, value_name = "NAME")]
        subscription: Option<String>,
        /// Of these events; by default all.
        #[arg(value_name = "EVENT")]
        ids: Vec<u64>,
    },
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token; it is printed this once.
    Create(TokenCreate),
    /// List tokens, without their secrets.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Go on after a page: its `next`.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Revoke a token: it ends within seconds.
    Revoke {
        /// Its id, the middle part of it; never the whole token.
        id: String,
    },
}

/// Which token to make.
#[derive(Debug, Args)]
pub struct TokenCreate {
    /// What it may do: viewer, submitter, team-admin or operator.
    #[arg(long, value_parser = ["viewer", "submitter", "team-admin", "operator"])]
    pub role: String,
    /// A team that it is for; may be repeated; '*' is every team. An operator is one for every team.
    #[arg(long, required_if_eq_any = [("role", "viewer"), ("role", "submitter"), ("role", "team-admin")])]
    pub team: Vec<String>,
    /// What it is for, or whose.
    #[arg(long)]
    pub name: String,
    /// How long it is good for: 90d, 12h, 30m, or never.
    #[arg(long, default_value = "90d", value_parser = lifetime, value_name = "SPAN")]
    pub expires: Lifetime,
    /// Write it into the database that this configuration names, without a server: for the first token.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How long a token is good for; `None`: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime(pub Option<Duration>);

/// Which lines of the audit log to list.
#[derive(Debug, Args)]
pub struct AuditLogPage {
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Only those before this one.
    #[arg(long, value_name = "LINE")]
    pub before: Option<i64>,
}

/// What to submit.
#[derive(Debug, Args)]
pub struct Submit {
    /// The document; - reads standard input.
    #[arg(value_name = "FILE", conflicts_with_all = ["team", "command"], required_unless_present_any = ["team", "bulk"])]
    pub file: Option<PathBuf>,
    /// Many documents: each file has one on every line (JSON Lines); - reads standard input.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["file", "team", "command", "wait"])]
    pub bulk: Vec<PathBuf>,
    /// Who is charged.
    #[arg(long, requires = "command")]
    pub team: Option<String>,
    /// Your own key: the same key again is the same job.
    #[arg(long)]
    pub key: Option<String>,
    /// A name, for people.
    #[arg(long)]
    pub name: Option<String>,
    /// CPUs.
    #[arg(long)]
    pub cpu: Option<f64>,
    /// GPUs.
    #[arg(long)]
    pub gpu: Option<f64>,
    /// Memory, such as 8GiB.
    #[arg(long)]
    pub memory: Option<String>,
    /// A custom resource; may be repeated.
    #[arg(long, value_parser = pair, value_name = "NAME=AMOUNT")]
    pub custom: Vec<(String, String)>,
    /// On clusters that make a Ray cluster per job: one of their profiles.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// On clusters that make a Ray cluster per job: the container image.
    #[arg(long)]
    pub image: Option<String>,
    /// On clusters that make a Ray cluster per job: this many workers, each with --worker.
    #[arg(long, value_name = "COUNT")]
    pub workers: Option<u32>,
    /// What each worker gets: cpu, gpu, memory, gpu_type or a custom resource; may be repeated.
    #[arg(long, value_parser = pair, value_name = "NAME=AMOUNT", requires = "workers")]
    pub worker: Vec<(String, String)>,
    /// From -1000 to 1000; higher goes first inside the team.
    #[arg(long, allow_negative_numbers = true)]
    pub priority: Option<i64>,
    /// A priority class of the installation, in place of --priority.
    #[arg(long, value_name = "NAME", conflicts_with = "priority")]
    pub class: Option<String>,
    /// Only this cluster; may be repeated.
    #[arg(long)]
    pub cluster: Vec<String>,
    /// Not this cluster; may be repeated.
    #[arg(long, value_name = "CLUSTER")]
    pub avoid: Vec<String>,
    /// Rather clusters with this label; may be repeated.
    #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
    pub prefer: Vec<(String, String)>,
    /// Only clusters with this label; may be repeated.
    #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
    pub label: Vec<(String, String)>,
    /// Retries after failures of the job's own.
    #[arg(long)]
    pub retries: Option<u32>,
    /// Longest run, in seconds.
    #[arg(long, value_name = "SECONDS")]
    pub run_timeout: Option<u64>,
    /// Longest wait in the queue, in seconds.
    #[arg(long, value_name = "SECONDS")]
    pub queue_timeout: Option<u64>,
    /// A note of your own; may be repeated.
    #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
    pub metadata: Vec<(String, String)>,
    /// An environment variable of the job; may be repeated.
    #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
    pub env: Vec<(String, String)>,
    /// Wait until the job has ended; the exit code tells how.
    #[arg(long)]
    pub wait: bool,
    /// The command to run.
    #[arg(last = true, value_name = "CMD", requires = "team")]
    pub command: Vec<String>,
}

/// What to put in force.
#[derive(Debug, Args)]
pub struct Apply {
    /// The document (TOML); - reads standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only show what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// Only if this version is in force.
    #[arg(long, value_name = "VERSION")]
    pub expected: Option<u64>,
    /// Don't ask.
    #[arg(long)]
    pub yes: bool,
}

/// Which versions of the catalog to list.
#[derive(Debug, Args)]
pub struct Versions {
    /// At most this many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Only those before this one.
    #[arg(long, value_name = "VERSION")]
    pub before: Option<u64>,
}

/// Which jobs to list.
#[derive(Debug, Args)]
pub struct List {
    /// Of this team.
    #[arg(long)]
    pub team: Option<String>,
    /// In this state; may be repeated.
    #[arg(long)]
    pub state: Vec<String>,
    /// On this cluster.
    #[arg(long)]
    pub cluster: Option<String>,
    /// With this in its metadata; may be repeated.
    #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
    pub metadata: Vec<(String, String)>,
    /// That asks for a cluster with this label; may be repeated.
    #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
    pub label: Vec<(String, String)>,
    /// Accepted at this time or later, such as 2026-11-22T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub after: Option<String>,
    /// Accepted before this time.
    #[arg(long, value_name = "TIME")]
    pub before: Option<String>,
    /// Whose key begins like this.
    #[arg(long)]
    pub key_prefix: Option<String>,
    /// Of this name.
    #[arg(long)]
    pub name: Option<String>,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Go on after a page: its `next`.
    #[arg(long)]
    pub cursor: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    if text == "never" {
        return Ok(Lifetime(None));
    }
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let read = units.into_iter().find_map(|(unit, s)| {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(s).filter(|s| *s > 0)
    });
    read.map(|s| Lifetime(Some(Duration::from_secs(s))))
        .ok_or_else(|| "write it as 90d, 12h, 30m, or never".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "write it as a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}
