//! `yard wait`: until jobs have ended.

use std::time::Duration;

use tokio::time::Instant;
use yard_wire::views::JobView;

use super::{Done, jobs, print, print_json};
use crate::client::Client;
use crate::exit::{self, Failure};
use crate::show;

/// First pause between looks; grows to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause between looks.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Waits until all of `ids` have ended, or `timeout` is over. A server that has answered once, or that there is a
/// time limit for, may be away for a while.
pub async fn wait(ids: &[String], timeout: Option<Duration>, client: &Client, as_json: bool) -> Done {
    let until = timeout.map(|t| Instant::now() + t);
    let mut ended: Vec<JobView> = Vec::new();
    let mut patience = Patience { granted: until.is_some(), told: false };
    for id in ids {
        let Some(job) = wait_one(id, until, &mut patience, client).await? else {
            eprintln!("yard: {id} has not ended yet");
            return Ok(exit::TIMED_OUT);
        };
        if !as_json {
            print(&show::ended(&job));
        }
        ended.push(job);
    }
    if as_json {
        print_json(&ended)?;
    }
    Ok(exit::of_states(ended.iter().map(|j| j.summary.state.as_str())))
}

/// Whether a server that does not answer is waited for, and whether that was said.
struct Patience {
    granted: bool,
    told: bool,
}

impl Patience {
    fn with(&mut self, failure: Failure) -> Result<(), Failure> {
        if failure.code != exit::UNAVAILABLE || !self.granted {
            return Err(failure);
        }
        if !self.told {
            eprintln!("yard: {}; waiting for it", failure.message);
            self.told = true;
        }
        Ok(())
    }
}

/// `None` when the time is over.
async fn wait_one(
    job: &str,
    until: Option<Instant>,
    patience: &mut Patience,
    client: &Client,
) -> Result<Option<JobView>, Failure> {
    let mut pause = PAUSE_MIN;
    loop {
        let looked = match jobs::resolve(job, client).await {
            Ok(id) => jobs::fetch(&id, client).await,
            Err(failure) => Err(failure),
        };
        match looked {
            Ok(view) if view.summary.has_ended() => return Ok(Some(view)),
            Ok(_) => *patience = Patience { granted: true, told: false },
            Err(failure) => patience.with(failure)?,
        }
        let left = until.map(|u| u.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(None);
        }
        tokio::time::sleep(left.map_or(pause, |left| left.min(pause))).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
