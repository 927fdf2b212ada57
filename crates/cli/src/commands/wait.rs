//! `yard wait`: until jobs have ended.

use std::time::Duration;

use tokio::time::Instant;
use yard_wire::views::JobView;

use super::{Done, jobs, print_json};
use crate::client::Client;
use crate::exit;
use crate::show;

/// First pause between looks; grows to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause between looks.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Waits until all of `ids` have ended, or `timeout` is over. A server that is away for a while is waited for.
pub async fn wait(ids: &[String], timeout: Option<Duration>, client: &Client, as_json: bool) -> Done {
    let until = timeout.map(|t| Instant::now() + t);
    let mut ended: Vec<JobView> = Vec::new();
    let mut pause = PAUSE_MIN;
    for id in ids {
        loop {
            match jobs::fetch(id, client).await {
                Ok(job) if job.summary.has_ended() => {
                    if !as_json {
                        println!("{}", show::ended(&job));
                    }
                    ended.push(job);
                    break;
                }
                Ok(_) => {}
                Err(failure) if failure.code == exit::UNAVAILABLE && until.is_some() => {
                    eprintln!("yard: {}; waiting", failure.message);
                }
                Err(failure) => return Err(failure),
            }
            if until.is_some_and(|u| Instant::now() + pause > u) {
                eprintln!("yard: {id} has not ended yet");
                return Ok(exit::TIMED_OUT);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
    if as_json {
        print_json(&ended)?;
    }
    Ok(exit::of_states(ended.iter().map(|j| j.summary.state.as_str())))
}
