//! `yard simulate`: what a policy would do to a workload. Reads files (or asks a server), runs [`yard_simulator`], writes
//! the report. docs/simulate.md is its handbook.
//!
//! - [`input`]: from options to a catalog and a workload
//! - [`history`]: what really arrived, and the catalog in force, from a server

mod history;
mod input;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use yard_cli::Failure;
use yard_domain::{Catalog, Policy, TeamId, Timestamp};
use yard_planner::{Promises, Snapshot};
use yard_simulator::{Comparison, Incident, Model, Report, SimJob, Simulation};

use input::Workload;

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For a terminal.
    Text,
    /// For programs.
    Json,
    /// A page with plots that needs nothing from anywhere.
    Html,
}

/// The command line.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The clusters: a catalog document with [[cluster]]. By default those of the policy's document, else the standard ones.
    #[arg(long, value_name = "FILE")]
    clusters: Option<PathBuf>,
    /// Teams, cohorts, classes and policy: a catalog document. By default the standard ones.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// What arrives: standard, a .jsonl file (a job per line), or a .swf file.
    #[arg(long, default_value = "standard", value_name = "standard|FILE", conflicts_with = "history")]
    workload: String,
    /// Replay what really arrived, from the server: FROM..TO, each like 2026-11-22T00:00:00Z. Needs --policy: it is compared with the
    /// catalog in force.
    #[arg(long, value_name = "FROM..TO", requires = "policy", conflicts_with_all = ["jobs", "days"])]
    history: Option<String>,
    /// So many jobs of the standard workload; of a file, the first ones [default: 20000, of a file all].
    #[arg(long, conflicts_with = "days", value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,
    /// So many days of the workload.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
    /// Failures, delays and outages: a document with [model] and [[incident]].
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// The same seed gives the same report.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How the report is written.
    #[arg(long, value_enum, default_value = "text")]
    report: Form,
    /// Where the report is written; by default standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The exit code for a broken rule: a fault of the planner or of the simulator.
const EXIT_BROKEN: u8 = 1;
/// The exit code for wrong input.
const EXIT_INPUT: u8 = 2;

/// Runs the command. Errors are printed here, once.
pub async fn run(args: Args, global: &yard_cli::Global) -> u8 {
    let made = match &args.history {
        Some(range) => compare(&args, range, global).await,
        None => single(&args),
    };
    let form = if global.json { Form::Json } else { args.report };
    let written =
        made.and_then(|shown| write(args.out.as_deref(), &shown.in_form(form)).map(|()| shown.is_sound()));
    match written {
        Ok(true) => 0,
        Ok(false) => {
            Failure::new(i32::from(EXIT_BROKEN), "a rule was broken: see the report").tell(global.json);
            EXIT_BROKEN
        }
        Err(message) => {
            Failure::new(i32::from(EXIT_INPUT), message).tell(global.json);
            EXIT_INPUT
        }
    }
}

enum Shown {
    One(Box<Report>),
    Two(Box<Comparison>),
}

impl Shown {
    fn is_sound(&self) -> bool {
        match self {
            Self::One(report) => report.is_sound(),
            Self::Two(comparison) => comparison.is_sound(),
        }
    }

    fn in_form(&self, form: Form) -> String {
        match (self, form) {
            (Self::One(report), Form::Text) => report.to_string(),
            (Self::One(report), Form::Json) => format!("{:#}\n", report.json()),
            (Self::One(report), Form::Html) => report.html(),
            (Self::Two(both), Form::Text) => both.to_string(),
            (Self::Two(both), Form::Json) => format!("{:#}\n", both.json()),
            (Self::Two(both), Form::Html) => both.html(),
        }
    }
}

fn write(out: Option<&Path>, text: &str) -> Result<(), String> {
    use std::io::Write;
    if let Some(path) = out {
        return std::fs::write(path, text).map_err(|e| format!("can't write {}: {e}", path.display()));
    }
    // Whoever reads our output may go when they have enough.
    _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn single(args: &Args) -> Result<Shown, String> {
    let workload = input::workload(args)?;
    let catalog = input::catalog(args, &workload)?;
    let (model, incidents) = input::scenario(args, Model { seed: args.seed, ..Model::default() })?;
    let report = match workload {
        Workload::Standard(jobs) => simulate(&catalog, [], jobs, &model, &incidents)?,
        Workload::File(read) => {
            let teams: Vec<TeamId> = read.jobs.iter().map(|job| job.team.clone()).collect();
            let mut report = simulate(&catalog, teams, read.jobs, &model, &incidents)?;
            report.notes.extend(read.notes);
            report
        }
    };
    Ok(Shown::One(Box::new(report)))
}

async fn compare(args: &Args, range: &str, global: &yard_cli::Global) -> Result<Shown, String> {
    let past = history::load(range, global).await?;
    // What really happened had its failures in its run times.
    let quiet =
        Model { seed: args.seed, user_failure_rate: 0.0, launch_failure_rate: 0.0, ..Model::default() };
    let (model, incidents) = input::scenario(args, quiet)?;
    let new = input::changed(args, &past.catalog)?;
    let jobs = past.workload.jobs;
    let run = |catalog: &Catalog| {
        let teams: Vec<TeamId> = jobs.iter().map(|job| job.team.clone()).collect();
        simulate(catalog, teams, jobs.iter().cloned(), &model, &incidents).map(|mut report| {
            report.notes.extend(past.workload.notes.iter().cloned());
            report
        })
    };
    Ok(Shown::Two(Box::new(Comparison {
        before_name: "present".to_owned(),
        before: run(&past.catalog)?,
        after_name: "new".to_owned(),
        after: run(&new)?,
    })))
}

/// Runs a workload, and measures how long that takes.
fn simulate(
    catalog: &Catalog,
    teams: impl IntoIterator<Item = TeamId>,
    jobs: impl IntoIterator<Item = SimJob>,
    model: &Model,
    incidents: &[Incident],
) -> Result<Report, String> {
    let started = Instant::now();
    let mut planning = Duration::ZERO;
    let report = {
        let mut promises = Promises::default();
        let decide = Box::new(|snapshot: &Snapshot, policy: &Policy, now: Timestamp, seed: u64| {
            let asked = Instant::now();
            let plan = promises.plan(snapshot, policy, now, seed);
            planning += asked.elapsed();
            plan
        });
        let simulation = Simulation::new(catalog, teams, model.clone(), incidents.to_vec(), decide);
        simulation.map_err(|faults| faults.join("\nyard: "))?.run(jobs)
    };
    Ok(report.timed(started.elapsed(), planning))
}

#[cfg(test)]
mod tests;
