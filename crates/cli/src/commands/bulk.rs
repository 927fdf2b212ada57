//! `yard submit --bulk`: many documents, a line each.

use std::path::PathBuf;

use yard_wire::views::{BulkAnswer, BulkVerdict};

use super::{Done, print, print_json, read_file, typed};
use crate::client::Client;
use crate::exit;
use crate::show::clean;

/// Documents in one request: what a server takes unless it is configured otherwise.
const REQUEST_MAX: usize = 1_000;
/// Bytes of documents in one request, well below what a server takes unless it is configured otherwise.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Hands over the documents of all files, in order; prints an id for each that is a job.
pub async fn submit(files: &[PathBuf], client: &Client, as_json: bool) -> Done {
    let mut lines: Vec<(String, String)> = Vec::new();
    for file in files {
        let text = read_file(file)?;
        let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines.extend(numbered.map(|(n, line)| (format!("{}:{}", file.display(), n + 1), line.to_owned())));
    }
    let mut verdicts: Vec<BulkVerdict> = Vec::new();
    let mut left = &lines[..];
    while !left.is_empty() {
        let (part, rest) = left.split_at(request_len(left));
        left = rest;
        let documents: Vec<&str> = part.iter().map(|(_, line)| line.as_str()).collect();
        let body = format!("{{\"jobs\":[{}]}}", documents.join(","));
        let answer: BulkAnswer = typed(client.post(&["v1", "jobs", "batch"], body).await?.1)?;
        if !as_json {
            part.iter().zip(&answer.verdicts).for_each(|((place, _), verdict)| show(place, verdict));
        }
        verdicts.extend(answer.verdicts);
    }
    let bad = verdicts
        .iter()
        .filter(|v| !matches!(v.verdict.as_str(), "accepted" | "duplicate" | "pending"))
        .count();
    if as_json {
        print_json(&BulkAnswer { verdicts })?;
    } else {
        eprintln!("{} of {} are jobs", lines.len() - bad, lines.len());
    }
    Ok(if bad == 0 { exit::OK } else { exit::REJECTED })
}

/// How many of these lines make the next request.
fn request_len(lines: &[(String, String)]) -> usize {
    let mut bytes = 0;
    let fits = lines.iter().take(REQUEST_MAX).take_while(|(_, line)| {
        bytes += line.len() + 1;
        bytes <= REQUEST_BYTES_MAX
    });
    fits.count().max(1)
}

fn show(place: &str, verdict: &BulkVerdict) {
    let BulkVerdict { verdict: name, team, key, job, errors, retry_after_s } = verdict;
    match (name.as_str(), job) {
        ("accepted" | "duplicate" | "pending", Some(job)) => print(job),
        (_, Some(job)) => eprintln!(
            "{}",
            clean(&format!("{place}: {team}/{key} belongs to {job}, which has another document"))
        ),
        _ => eprintln!("{}", clean(&format!("{place}: {team}/{key} {name}"))),
    }
    for error in errors {
        eprintln!("{}", clean(&format!("  {}: {}", error.field, error.message)));
    }
    if let Some(seconds) = retry_after_s {
        eprintln!("  send it again in {seconds} s");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded_by_number_and_size() {
        let lines = |n: usize, bytes: usize| vec![(String::new(), "x".repeat(bytes)); n];
        assert_eq!(request_len(&lines(5, 10)), 5);
        assert_eq!(request_len(&lines(1_001, 10)), 1_000);
        assert_eq!(request_len(&lines(9, 1 << 20)), 7);
        assert_eq!(request_len(&lines(2, 9 << 20)), 1, "it is for the server to refuse");
    }
}
