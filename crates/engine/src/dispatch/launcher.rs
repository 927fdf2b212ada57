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
            let prepared = tokio::select! {
                prepared = self.driver.prepare(&request) => prepared,
                () = cancel.cancelled() => return (r, answer),
                () = self.held.lost().cancelled() => return (r, answer),
            };
            // After what may have taken long, and right before the call.
            if !self.held.is_trusted() || cancel.is_cancelled() {
                return (r, answer);
            }
            let outcome = match prepared {
                Ok(()) => self.call(&request).await,
                Err(error) => Err(error),
            };
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

    async fn call(&self, request: &LaunchRequest) -> Result<LaunchOutcome, DriverError> {
        let called = Instant::now();
        let outcome = self.driver.launch(request).await;
        metrics::histogram!("yard_launch_call_seconds").record(called.elapsed().as_secs_f64());
        outcome
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use futures::{StreamExt, stream};
    use yard_domain::{
        AttemptNumber, Capacity, InstanceId, JobId, Lease, LeaseScope, LeaseToken, RemoteName, Timestamp,
    };
    use yard_ports::{LogStream, ObservationStream};

    use super::*;

    /// A cluster that has to be prepared for so long, and counts its launches.
    struct Slow {
        prepares_for: Duration,
        launched: AtomicU32,
    }

    #[async_trait]
    impl Driver for Slow {
        fn kind(&self) -> &'static str {
            "slow"
        }

        async fn prepare(&self, _: &LaunchRequest) -> Result<(), DriverError> {
            tokio::time::sleep(self.prepares_for).await;
            Ok(())
        }

        async fn launch(&self, _: &LaunchRequest) -> Result<LaunchOutcome, DriverError> {
            self.launched.fetch_add(1, Ordering::Relaxed);
            Ok(LaunchOutcome::Launched)
        }

        fn observe(&self) -> ObservationStream {
            stream::pending().boxed()
        }

        async fn stop(&self, _: &RemoteName) -> Result<(), DriverError> {
            Err(DriverError::NotFound)
        }

        async fn forget(&self, _: &RemoteName) -> Result<(), DriverError> {
            Err(DriverError::NotFound)
        }

        async fn logs(&self, _: &RemoteName, _: u64, _: bool) -> Result<LogStream, DriverError> {
            Err(DriverError::NotFound)
        }

        async fn capacity(&self) -> Result<Option<Capacity>, DriverError> {
            Ok(None)
        }
    }

    /// Launches on a cluster that takes `prepares_for`, under a lease that is trusted for a minute: whether it was called.
    async fn is_launched(prepares_for: Duration) -> bool {
        let driver = Arc::new(Slow { prepares_for, launched: AtomicU32::new(0) });
        let lease = Lease {
            scope: LeaseScope::Dispatch("east".parse().unwrap()),
            token: LeaseToken(1),
            holder: "me".to_owned(),
            expires_at: Timestamp::from_micros(1),
        };
        let held = Held::trusted_for(lease, Duration::from_mins(1));
        let (failed_calls, _counted) = mpsc::channel(1);
        let settings = DispatcherSettings::default();
        let launcher = Launcher::new(driver.clone(), held, &LaunchLimits::default(), &settings, failed_calls);
        let (job, attempt) = (JobId::new(1, [1; 10]), AttemptNumber(1));
        let request = LaunchRequest {
            name: RemoteName::new(job, attempt),
            instance: InstanceId(job.0),
            job,
            attempt,
            team: "ads".parse().unwrap(),
            job_name: "x".to_owned(),
            entrypoint: "x".to_owned(),
            runtime_env: serde_json::Map::new(),
            request: yard_domain::Request::default(),
            ray_cluster: None,
            metadata: [].into(),
            run_timeout: Duration::from_secs(1),
        };
        let until = Instant::now() + Duration::from_hours(1);
        let (_, answer) =
            launcher.launch(AttemptRef { job, attempt }, request, until, CancellationToken::new()).await;
        let launched = driver.launched.load(Ordering::Relaxed);
        assert_eq!(answer.is_some(), launched == 1, "what was not called is not answered");
        launched == 1
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_ran_out_while_packages_were_brought_launches_nothing() {
        assert!(is_launched(Duration::from_secs(50)).await);
        assert!(!is_launched(Duration::from_secs(70)).await);
    }
}
