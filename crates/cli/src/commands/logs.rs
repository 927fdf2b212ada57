//! `yard logs`: what a job prints, followed through retries, reconnects and restarts of the server.

use std::io::Write;
use std::time::Duration;

use futures::StreamExt;
use reqwest::{Method, StatusCode};

use super::{Done, jobs};
use crate::client::{Client, problem};
use crate::exit::{self, Failure};

/// Pause before another look when there is nothing to follow now.
const PAUSE: Duration = Duration::from_millis(500);

/// What one stream of an attempt's log came to.
enum Streamed {
    /// The server closed it in order.
    ToTheEnd,
    /// It broke off, or could not begin now.
    Cut,
}

/// Prints a job's log; with `follow`, to the job's end.
pub async fn logs(job: &str, follow: bool, attempt: Option<u32>, client: &Client) -> Done {
    let mut number = match attempt {
        Some(number) => number,
        None => first_attempt(job, follow, client).await?,
    };
    let mut offset = 0u64;
    loop {
        let streamed = stream(job, number, &mut offset, follow, client).await?;
        if !follow {
            return match streamed {
                Streamed::ToTheEnd => Ok(exit::OK),
                Streamed::Cut => Err(Failure::new(exit::UNAVAILABLE, "the log broke off")),
            };
        }
        let Ok(view) = jobs::fetch(job, client).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let over = view.attempts.iter().any(|a| a.number == number && a.ended_at.is_some());
        let last = view.attempts.last().map_or(0, |a| a.number);
        match streamed {
            Streamed::ToTheEnd if attempt.is_none() && last > number => {
                number += 1;
                offset = 0;
                eprintln!("--- attempt {number} ---");
            }
            Streamed::ToTheEnd if view.summary.has_ended() || (attempt.is_some() && over) => {
                return Ok(exit::OK);
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The attempt to begin with: the last. Following waits for the first one.
async fn first_attempt(job: &str, follow: bool, client: &Client) -> Result<u32, Failure> {
    let mut told = false;
    loop {
        let view = jobs::fetch(job, client).await?;
        if let Some(last) = view.attempts.last() {
            return Ok(last.number);
        }
        let why = view.waiting.map_or_else(|| format!("it is {}", view.summary.state), |w| w.message);
        if !follow || view.summary.has_ended() {
            return Err(Failure::new(
                exit::NOT_FOUND,
                format!("{job} has no log, since it was never launched: {why}"),
            ));
        }
        if !told {
            eprintln!("waiting for the first attempt: {why}");
            told = true;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn stream(
    job: &str,
    attempt: u32,
    offset: &mut u64,
    follow: bool,
    client: &Client,
) -> Result<Streamed, Failure> {
    let query =
        [("attempt", attempt.to_string()), ("offset", offset.to_string()), ("follow", follow.to_string())];
    let response = match client.send(Method::GET, &["v1", "jobs", job, "logs"], &query, None, None).await {
        Ok(response) if response.status().is_success() => response,
        Ok(response) if follow && retriable(response.status()) => return Ok(Streamed::Cut),
        Ok(response) => return Err(problem(response).await),
        Err(_) if follow => return Ok(Streamed::Cut),
        Err(failure) => return Err(failure),
    };
    let mut chunks = response.bytes_stream();
    let mut out = std::io::stdout().lock();
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else { return Ok(Streamed::Cut) };
        *offset += chunk.len() as u64;
        if out.write_all(&chunk).and_then(|()| out.flush()).is_err() {
            // Whoever read our output has gone (a closed pipe): that is the end, and no error.
            return Ok(Streamed::ToTheEnd);
        }
    }
    Ok(Streamed::ToTheEnd)
}

/// Not now, but perhaps soon: an attempt that is placed but not launched, a cluster or server that is away.
fn retriable(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::CONFLICT || status == StatusCode::TOO_MANY_REQUESTS
}
