//! The Standard Workload Format of the Parallel Workloads Archive (Chapin, Feitelson et al., 1999): 18 fields per job,
//! separated by white space, -1 for what is not known, comments after `;`.
//!
//! | field | taken as |
//! |---|---|
//! | 2 submit time | arrival |
//! | 4 run time | how long it runs |
//! | 8 requested processors, else 5 allocated | cpus, one each |
//! | 10 requested memory, else 7 used memory (KiB per processor) | memory, times the processors |
//! | 9 requested time | run timeout; if it is not known, or the job ran longer, the run time or [`SimJob::RUN_TIMEOUT`], whichever is longer |
//! | 13 group, else 12 user | team `g<number>` or `u<number>` |
//! | header `MaxProcs`, else `MaxNodes` | [`Read::processors`] |
//!
//! Left out with a note: jobs that never ran (run time not known, or 0 with status 5, cancelled), and those without
//! processors. Ignored: job number, wait time (what is simulated), average cpu time,
//! status, executable, queue, partition, and the dependencies (preceding job, think time): a job arrives when it did.

use std::str::FromStr;
use std::time::Duration;

use yard_domain::{ClusterSelector, Priority, Request, TeamId, Timestamp};

use super::{LineFault, Read, SimJob};

/// Fields of a line, by their numbers in the standard.
const NAMES: [&str; 18] = [
    "1 job number",
    "2 submit time",
    "3 wait time",
    "4 run time",
    "5 allocated processors",
    "6 average cpu time",
    "7 used memory",
    "8 requested processors",
    "9 requested time",
    "10 requested memory",
    "11 status",
    "12 user",
    "13 group",
    "14 executable",
    "15 queue",
    "16 partition",
    "17 preceding job",
    "18 think time",
];

/// Field 11 of a job that was cancelled.
const CANCELLED: f64 = 5.0;

/// Reads a whole file.
pub fn read(text: &str) -> Result<Read, Vec<LineFault>> {
    let mut faults = Vec::new();
    let mut read = Read::default();
    let mut skipped = 0usize;
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix(';') {
            if let Some(processors) = header(comment) {
                read.processors = Some(read.processors.map_or(processors, |p| p.max(processors)));
            }
            continue;
        }
        let fields = line.split(';').next().unwrap_or_default();
        if fields.is_empty() {
            continue;
        }
        match numbers(fields, i + 1) {
            Ok(numbers) => match job(&numbers) {
                Some(job) => read.jobs.push(job),
                None => skipped += 1,
            },
            Err(found) => faults.extend(found),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    if skipped > 0 {
        read.notes
            .push(format!("{skipped} jobs of the SWF file never ran, or asked for no processors: left out"));
    }
    read.jobs.sort_by_key(|job| job.at);
    Ok(read)
}

fn header(comment: &str) -> Option<u64> {
    let (name, value) = comment.split_once(':')?;
    matches!(name.trim(), "MaxProcs" | "MaxNodes").then(|| value.split_whitespace().next()?.parse().ok())?
}

fn numbers(line: &str, number: usize) -> Result<[f64; 18], Vec<LineFault>> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let fault = |field: &str, message: String| LineFault { line: number, field: field.to_owned(), message };
    if fields.len() != NAMES.len() {
        let message = format!(
            "has {} fields: the Standard Workload Format has 18, with -1 for what is not known",
            fields.len()
        );
        return Err(vec![fault("", message)]);
    }
    let mut numbers = [0.0; 18];
    let mut faults = Vec::new();
    for ((field, name), slot) in fields.iter().zip(NAMES).zip(&mut numbers) {
        match f64::from_str(field).ok().filter(|n| n.is_finite() && (-1.0..=1e15).contains(n)) {
            Some(n) => *slot = n,
            None => {
                faults
                    .push(fault(name, format!("{field:?} is not a number: write -1 for what is not known")));
            }
        }
    }
    if numbers[1] < 0.0 && faults.is_empty() {
        faults.push(fault(NAMES[1], "must be known: it is when the job arrives".to_owned()));
    }
    if faults.is_empty() { Ok(numbers) } else { Err(faults) }
}

fn job(fields: &[f64; 18]) -> Option<SimJob> {
    let known = |i: usize| Some(fields[i - 1]).filter(|n| *n >= 0.0);
    let processors = known(8).filter(|n| *n > 0.0).or_else(|| known(5)).filter(|n| *n > 0.0)?;
    let run = known(4).filter(|run| *run > 0.0 || known(11) != Some(CANCELLED))?;
    let processors = crate::number::whole(processors);
    let kib = crate::number::whole(known(10).or_else(|| known(7)).unwrap_or(0.0));
    let run_timeout = match known(9).filter(|n| *n >= run && *n > 0.0) {
        Some(requested) => crate::number::seconds(requested),
        None => crate::number::seconds(run).max(SimJob::RUN_TIMEOUT),
    };
    let team = match (known(13), known(12)) {
        (Some(group), _) => format!("g{group:.0}"),
        (None, Some(user)) => format!("u{user:.0}"),
        (None, None) => "unknown".to_owned(),
    };
    let at = Timestamp::from_micros(0).plus(crate::number::seconds(fields[1]));
    Some(SimJob {
        at,
        team: team.parse::<TeamId>().ok()?,
        priority: Priority::default(),
        request: Request {
            cpu_milli: processors.saturating_mul(1_000),
            memory_bytes: kib.saturating_mul(1_024).saturating_mul(processors),
            jobs: 1,
            ..Request::default()
        },
        clusters: ClusterSelector::default(),
        run: crate::number::seconds(run),
        run_timeout,
        // Batch machines have no such clock: long enough not to matter.
        queue_timeout: Duration::from_hours(24 * 365),
        max_retries: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_as_documented() {
        let text = "; Version: 2.2\n; MaxNodes: 64\n; MaxProcs: 128\n\
            1 100 5 600 4 -1 2048 8 900 1024 1 3 7 1 1 1 -1 -1\n\
            2 50 -1 7200 2 -1 -1 -1 3600 -1 1 4 -1 1 1 1 -1 -1 ; ran longer than it asked for\n\
            3 60 -1 -1 0 -1 -1 -1 -1 -1 5 4 -1 1 1 1 -1 -1\n";
        let read = read(text).unwrap();
        assert_eq!((read.processors, read.jobs.len(), read.notes.len()), (Some(128), 2, 1));
        let second = &read.jobs[1];
        assert_eq!((second.at.as_micros(), second.team.as_str()), (100_000_000, "g7"));
        assert_eq!((second.request.cpu_milli, second.request.memory_bytes), (8_000, 8 << 20));
        assert_eq!((second.run.as_secs(), second.run_timeout.as_secs()), (600, 900));
        let first = &read.jobs[0];
        assert_eq!((first.team.as_str(), first.request.cpu_milli), ("u4", 2_000));
        assert_eq!(first.run_timeout, SimJob::RUN_TIMEOUT);
    }

    #[test]
    fn every_bad_line_is_reported() {
        let faults = read(
            "1 2 3\n1 x 5 600 4 -1 2048 8 900 y 1 3 7 1 1 1 -1 -1\n; fine\n\
            1 -1 5 600 4 -1 2048 8 900 1024 1 3 7 1 1 1 -1 -1\n",
        )
        .unwrap_err();
        let got: Vec<_> = faults.iter().map(|f| (f.line, f.field.as_str())).collect();
        assert_eq!(got, [(1, ""), (2, "2 submit time"), (2, "10 requested memory"), (4, "2 submit time")]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[-0-9 ;.ex\n]{0,200}") {
            _ = read(&text);
        }
    }
}
