//! What the pods of an attempt have printed: of an open attempt from its cluster, afterwards from the archive.

use bytes::Bytes;
use tracing::warn;
use yard_domain::{JobId, RemoteName};
use yard_ports::store::{AttemptRef, AttemptView};
use yard_ports::{ArchiveError, DriverError, PodLog};
use yard_wire::views::ProblemCode;

use crate::logs::{Extent, driver};
use crate::problem::ApiError;
use crate::state::AppState;

/// The text, whether it is the cluster's word, and whether more may come.
pub(super) async fn pod_log(
    state: &AppState,
    job: JobId,
    attempt: &AttemptView,
    whose: PodLog,
) -> Result<(Bytes, bool, Extent), ApiError> {
    let over = attempt.ended_at.is_some();
    let extent = if over { Extent::Complete } else { Extent::Open };
    let kept = || async {
        let r = AttemptRef { job, attempt: attempt.number };
        match state.logs.pods(r, whose).await {
            Ok(bytes) => Some(bytes),
            Err(ArchiveError::NotFound) => None,
            Err(error) => {
                warn!(%job, %error, "the archive of what pods printed could not be asked");
                None
            }
        }
    };
    // What is kept of an open attempt is what it was when somebody asked it to stop.
    if over && let Some(bytes) = kept().await {
        return Ok((bytes, false, extent));
    }
    let error = match from_cluster(state, job, attempt, whose).await {
        Ok(bytes) => return Ok((bytes, true, extent)),
        Err(error) => error,
    };
    match kept().await {
        Some(bytes) => Ok((bytes, false, extent)),
        None => Err(error.about(job)),
    }
}

async fn from_cluster(
    state: &AppState,
    job: JobId,
    attempt: &AttemptView,
    whose: PodLog,
) -> Result<Bytes, ApiError> {
    let (driver, code) = (driver(state, attempt)?, whose.code());
    let no_log = |detail: String| ApiError::new(ProblemCode::NoLog, detail);
    if !driver.has_pod_logs() {
        let (cluster, kind) = (&attempt.cluster, driver.kind());
        return Err(no_log(format!(
            "attempt {} ran on {cluster}, which makes no Ray cluster of its own for a job (driver {kind}): it has no log of source={code}; source=job is its output",
            attempt.number
        )));
    }
    let name = RemoteName::new(job, attempt.number);
    match driver.pod_logs(&name, &[whose]).await {
        Ok(found) => found.into_iter().next().map(|(_, bytes)| bytes).ok_or_else(|| {
            no_log(format!(
                "attempt {} has no pods of source={code} (yet, or any more), and nothing of them is archived",
                attempt.number
            ))
        }),
        // Of a right that is missing its name may be told; the rest may hold addresses.
        Err(DriverError::NotFound) => {
            Err(no_log("the cluster has nothing of this attempt (yet, or any more)".to_owned()))
        }
        Err(error) => Err(ApiError::from(error)),
    }
}
