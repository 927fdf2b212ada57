//! The live table: a row per submission, a bar for all. Where nothing can move, a line per change.

use indicatif::{ProgressBar, ProgressStyle};
use yard_domain::{Failure, JobState, Outcome, Verdict};
use yard_ports::store::JobView;

use super::super::ui::Ui;
use super::jobs::DemoJob;

/// Longest note, in characters: with the columns before it, it fits a wide terminal.
const NOTE_MAX: usize = 64;

/// How one submission stands.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The verdict, once there is one.
    pub verdict: Option<Verdict>,
    /// The job, once there is one.
    pub job: Option<JobView>,
    /// Whether its team's quota was seen to hold it back.
    pub held_by_quota: bool,
}

impl Standing {
    /// Whether nothing more will happen to it.
    pub fn is_end(&self) -> bool {
        match &self.verdict {
            None => false,
            Some(Verdict::Rejected(_) | Verdict::Conflict { .. }) => true,
            Some(Verdict::Accepted { .. }) => {
                self.job.as_ref().is_some_and(|j| j.lifecycle.state.name().is_end())
            }
        }
    }

    /// State, cluster, attempts, and a note, as shown.
    fn columns(&self) -> (String, String, u32, String) {
        let Some(job) = &self.job else {
            let state = match &self.verdict {
                None => "sent",
                Some(Verdict::Accepted { .. }) => "accepted",
                Some(Verdict::Rejected(_)) => "rejected",
                Some(Verdict::Conflict { .. }) => "conflict",
            };
            return (
                state.to_owned(),
                String::new(),
                0,
                self.verdict.as_ref().map(reasons).unwrap_or_default(),
            );
        };
        let state = &job.lifecycle.state;
        let cluster = job.attempts.last().map(|a| a.cluster.to_string()).unwrap_or_default();
        let note = match state {
            JobState::Queued { not_before: Some(_), .. } => last_message(job),
            JobState::Queued { .. } => {
                job.waiting.as_ref().map(|note| note.message.clone()).unwrap_or_default()
            }
            JobState::Ended(Outcome::Failed(failure)) => short(failure),
            _ if job.lifecycle.stop_requested => "stop requested".to_owned(),
            _ => String::new(),
        };
        (state.name().code().to_owned(), cluster, job.lifecycle.attempts, note)
    }
}

/// The board.
#[derive(Debug)]
pub struct Board {
    head: ProgressBar,
    rows: Vec<ProgressBar>,
    all: ProgressBar,
    shown: Vec<String>,
    moving: bool,
}

impl Board {
    /// With an empty row for each of `count` submissions, below what `ui` shows.
    pub fn new(ui: &Ui, count: usize) -> Self {
        let row = |template: &str| {
            let bar = ui.bar(count as u64);
            // The templates are constants; should one be wrong, the plain bar does.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        };
        if !ui.is_moving() {
            eprintln!("{}", heading());
        }
        let head = row("{wide_msg}");
        head.set_message(heading());
        let rows = (0..count).map(|_| row("{wide_msg}")).collect();
        let all = row("{bar:40} {pos} of {len} have ended, {elapsed}");
        Self { head, rows, all, shown: vec![String::new(); count], moving: ui.is_moving() }
    }

    /// Shows how things stand.
    pub fn show(&mut self, jobs: &[DemoJob], standings: &[Standing]) {
        for (i, (job, standing)) in jobs.iter().zip(standings).enumerate() {
            let line = line(job, standing);
            if self.shown[i] == line {
                continue;
            }
            if self.moving {
                self.rows[i].set_message(line.clone());
            } else {
                eprintln!("{line}");
            }
            self.shown[i] = line;
        }
        self.all.set_position(standings.iter().filter(|s| s.is_end()).count() as u64);
    }

    /// Leaves the table as it stands, as plain lines: bars would be drawn over.
    pub fn finish(self, ui: &Ui) {
        for bar in std::iter::once(&self.head).chain(&self.rows).chain([&self.all]) {
            bar.finish_and_clear();
        }
        if self.moving {
            ui.line(&heading());
            for line in &self.shown {
                ui.line(line);
            }
        }
    }
}

fn heading() -> String {
    format!("{:<22} {:<5} {:<10} {:<8} {:<5} note", "submission", "door", "state", "cluster", "tries")
}

fn line(job: &DemoJob, standing: &Standing) -> String {
    let (state, cluster, attempts, note) = standing.columns();
    let tries = if attempts == 0 { String::new() } else { attempts.to_string() };
    let name = format!("{}/{}", job.team, job.name);
    let note: String = note.chars().take(NOTE_MAX).collect();
    format!("{name:<22} {:<5} {state:<10} {cluster:<8} {tries:<5} {note}", job.door.name())
        .trim_end()
        .to_owned()
}

fn reasons(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Rejected(errors) => {
            errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect::<Vec<_>>().join("; ")
        }
        _ => String::new(),
    }
}

/// The cause, and the last thing that was said: a failure's message quotes a log, whose end tells most.
fn short(failure: &Failure) -> String {
    let code = failure.exit_code.map(|code| format!(" (exit {code})")).unwrap_or_default();
    let last = failure.message.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    format!("{}{code}: {last}", failure.class.code())
}

fn last_message(job: &JobView) -> String {
    let last = job.attempts.last();
    let end = last.and_then(|a| a.end.clone()).unwrap_or_default();
    format!("waits for its next try; attempt {} ended: {end}", job.lifecycle.attempts)
}
