//! Makes launch calls at the cluster's rate, until they are answered or their time is over.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use yard_ports::store::AttemptRef;
use yard_ports::{Driver, DriverError, LaunchOutcome, LaunchRequest, RemoteStatus};

use crate::keeper::Held;
use crate::settings::{DispatcherSettings, LaunchLimits};

/// What a launch task came back with; `None` if the call was never made.
pub type Answer = Option<Result<Option<RemoteStatus>, DriverError>>;

/// Makes the launch calls of one cluster.
#[derive(Clone)]
pub struct Launcher {
    driver: Arc<dyn Driver>,
    held: Held,
    bucket: Arc<DefaultDirectRateLimiter>,
    backoff: ExponentialBuilder,
    failed_calls: mpsc::Sender<()>,
}

/// Failed calls that the dispatcher has not counted yet; those beyond are not counted.
pub const FAILED_CALLS_MAX: usize = 1_024;

impl Launcher {
    /// One per dispatcher: as there is one active dispatcher per cluster, its bucket *is* the cluster's rate. Every call
    /// that does not come through is told to `failed_calls` at once: a launch may go on calling for minutes.
    pub fn new(
        driver: Arc<dyn Driver>,
        held: Held,
        limits: &LaunchLimits,
        settings: &DispatcherSettings,
        failed_calls: mpsc::Sender<()>,
    ) -> Self {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(settings.launch_backoff_initial)
            .with_max_delay(settings.launch_backoff_max)
            .with_jitter()
            .without_max_times();
        Self { driver, held, bucket: Arc::new(RateLimiter::direct(quota(limits))), backoff, failed_calls }
    }

    /// Calls until there is an answer, `until` has come, `cancel` is set or the lease can't be trusted any
    /// more. Every call waits for a token, and the lease is looked at right before it.
    pub async fn launch(
        self,
        r: AttemptRef,
        request: LaunchRequest,
        until: Instant,
        cancel: CancellationToken,
    ) -> (AttemptRef, Answer) {
        let mut answer: Answer = None;
        for pause in self.backoff.build() {
            tokio::select! {
                () = self.bucket.until_ready() => {}
                () = cancel.cancelled() => return (r, answer),
                () = self.held.lost().cancelled() => return (r, answer),
            }
            if !self.held.is_trusted() || cancel.is_cancelled() {
                return (r, answer);
            }
            let called = Instant::now();
            let outcome = self.driver.launch(&request).await;
            metrics::histogram!("yard_launch_call_seconds").record(called.elapsed().as_secs_f64());
            match outcome {
                Ok(LaunchOutcome::Launched) => return (r, Some(Ok(None))),
                Ok(LaunchOutcome::Adopted(status)) => {
                    debug!(name = %request.name, ?status, "it was there already: adopted");
                    metrics::counter!("yard_launches_adopted_total").increment(1);
                    return (r, Some(Ok(Some(status))));
                }
                Err(error) => {
                    metrics::counter!("yard_launch_errors_total", "kind" => error.code()).increment(1);
                    if !matches!(error, DriverError::Refused(_) | DriverError::NameTaken(_)) {
                        // Full: more than enough have failed.
                        _ = self.failed_calls.try_send(());
                    }
                    let again = matches!(
                        error,
                        DriverError::Unreachable(_) | DriverError::Unclear(_) | DriverError::Unauthorized(_)
                    );
                    if !again || Instant::now() + pause >= until {
                        return (r, Some(Err(error)));
                    }
                    warn!(name = %request.name, %error, ?pause, "launch call failed; looking again");
                    // From here on the call may have had its effect: 'not made' would be a lie.
                    answer = Some(Err(error));
                }
            }
            if !wait(pause, &cancel, &self.held).await {
                return (r, answer);
            }
        }
        (r, answer)
    }
}

async fn wait(pause: Duration, cancel: &CancellationToken, held: &Held) -> bool {
    tokio::select! {
        () = tokio::time::sleep(pause) => true,
        () = cancel.cancelled() => false,
        () = held.lost().cancelled() => false,
    }
}

fn quota(limits: &LaunchLimits) -> Quota {
    let period =
        Duration::from_secs_f64(1.0 / limits.rate_per_s.clamp(0.000_1, 1e9)).max(Duration::from_nanos(1));
    let burst = NonZeroU32::new(limits.burst).unwrap_or(NonZeroU32::MIN);
    Quota::with_period(period).unwrap_or_else(|| Quota::per_second(burst)).allow_burst(burst)
}
