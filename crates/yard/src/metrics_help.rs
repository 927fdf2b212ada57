//! What each metric means, for whoever scrapes them.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// A value as it is now.
    Gauge,
    /// How values are spread.
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

/// Every metric that a process may export: its kind, name and meaning.
pub const METRICS: &[(Kind, &str, &str)] = &[
    (Counter, "yard_http_requests_total", "Requests answered by the API."),
    (Histogram, "yard_http_request_seconds", "From a request of the API to its answer, streams left out."),
    (Counter, "yard_auth_failures_total", "Requests without a token, or with one that is not good."),
    (Counter, "yard_requests_refused_total", "Requests refused because their caller sends too many."),
    (Counter, "yard_audit_failures_total", "Lines of the audit log that could not be written in time."),
    (Counter, "yard_submissions_total", "Submissions over HTTP by verdict."),
    (Counter, "yard_intake_total", "Messages of queues by verdict."),
    (Histogram, "yard_intake_batch_seconds", "From a batch of messages to its committed verdicts."),
    (
        Counter,
        "yard_rate_limited_total",
        "Submissions put off or refused because their team submits too fast.",
    ),
    (Counter, "yard_receive_errors_total", "Receives from a queue that failed."),
    (Histogram, "yard_plan_seconds", "One plan of a scheduler."),
    (Histogram, "yard_holdings_seconds", "Reading which open attempts hold what, for a plan."),
    (Counter, "yard_placements_total", "Jobs placed on a cluster."),
    (
        Counter,
        "yard_placements_dropped_total",
        "Planned placements that came too late when they were committed.",
    ),
    (Counter, "yard_preemptions_total", "Jobs asked to make room for others."),
    (Counter, "yard_swept_total", "Waits that were ended because their clock had run out."),
    (Counter, "yard_purged_total", "Rows deleted because they had been kept long enough."),
    (Gauge, "yard_ledger_drift", "Accounts that differ from what is recomputed: anything but 0 is a bug."),
    (Counter, "yard_lease_renewals_total", "Renewals of leases by outcome."),
    (Counter, "yard_stale_writes_total", "Writes refused because their lease was not valid any more."),
    (
        Histogram,
        "yard_takeover_seconds",
        "Reading a cluster's open attempts when its dispatch is taken over.",
    ),
    (Counter, "yard_launches_total", "Jobs launched on a cluster."),
    (Histogram, "yard_launch_call_seconds", "One launch call to a cluster."),
    (Counter, "yard_launches_adopted_total", "Launch calls that found their job there already."),
    (Counter, "yard_launch_errors_total", "Launch calls that failed, by kind."),
    (Counter, "yard_observe_errors_total", "Looks at a cluster's jobs that failed."),
    (Counter, "yard_board_repairs_total", "Differences found between a dispatcher's memory and the store."),
    (
        Counter,
        "yard_orphans_stopped_total",
        "Jobs stopped on clusters because they were not current any more.",
    ),
    (Gauge, "yard_open_attempts", "Attempts on a cluster that this process dispatches."),
    (Gauge, "yard_breaker_open", "1 while launch calls to a cluster keep failing."),
    (Histogram, "yard_ray_call_seconds", "One call to a Ray cluster."),
    (Histogram, "yard_kube_call_seconds", "One call to a Kubernetes API server."),
    (
        Counter,
        "yard_kube_throttled_total",
        "Answers of a Kubernetes API server that it wants to be asked later.",
    ),
    (Counter, "yard_kuberay_ended_here_total", "RayJobs ended from here because the operator did not."),
    (
        Counter,
        "yard_kuberay_pod_logs_unread_total",
        "Logs of containers of an attempt's pods that could not be read.",
    ),
    (
        Counter,
        "yard_kuberay_watches_expired_total",
        "Watches of RayJobs whose place in the past the API server had forgotten (410).",
    ),
    (
        Counter,
        "yard_kuberay_orphans_deleted_total",
        "Ray clusters deleted from here because their RayJob was gone.",
    ),
    (
        Gauge,
        "yard_kuberay_orphans",
        "Ray clusters of Switchyard's whose RayJob is gone, when last looked for.",
    ),
    (Gauge, "yard_kuberay_deletions_hanging", "Deleted RayJobs that are still there after two minutes."),
    (
        Gauge,
        "yard_kuberay_gpus",
        "GPUs for jobs: the capacity, what is free of it, and the most that is free on one node.",
    ),
    (Counter, "yard_ray_package_bytes_total", "Bytes of packages sent to Ray clusters."),
    (Counter, "yard_package_bytes_total", "Bytes of uploaded packages taken in."),
    (Counter, "yard_events_total", "Events read for the streams of this process."),
    (Counter, "yard_deliveries_made_total", "Deliveries made of events: one for each subscription."),
    (Counter, "yard_delivery_attempts_total", "Attempts to deliver, by subscription and outcome."),
    (Histogram, "yard_delivery_seconds", "One attempt to deliver."),
    (
        Histogram,
        "yard_delivery_lag_seconds",
        "From a delivery's making to the beginning of the attempt that arrived.",
    ),
    (
        Gauge,
        "yard_deliveries",
        "Deliveries that wait or have been given up, by subscription and state; shown by the process that makes them.",
    ),
    (
        Counter,
        "yard_push_missed_total",
        "Times that events were deleted before they were pushed: a broken promise.",
    ),
    (Counter, "yard_log_bytes_archived_total", "Bytes of jobs' output archived, before compression."),
    (
        Counter,
        "yard_log_archive_errors_total",
        "Steps of archiving a log that failed and are repeated, by what.",
    ),
    (Counter, "yard_logs_given_up_total", "Logs whose end could not be archived in time."),
    (
        Counter,
        "yard_log_chunks_deleted_total",
        "Pieces of archived logs deleted because their time was over.",
    ),
    (Counter, "yard_store_tx_total", "Transactions of the store by verb and outcome."),
    (Histogram, "yard_store_tx_seconds", "One transaction of the store, repetitions included."),
    (Counter, "yard_store_tx_retries_total", "Transactions repeated after a deadlock or a lost connection."),
];

/// Tells the recorder that is installed what its metrics mean.
pub fn describe() {
    for (kind, name, help) in METRICS {
        match kind {
            Counter => metrics::describe_counter!(*name, *help),
            Gauge => metrics::describe_gauge!(*name, *help),
            Histogram => metrics::describe_histogram!(*name, *help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    /// Every `counter!("…"`, `gauge!("…"` and `histogram!("…"` of the product's sources.
    fn used() -> BTreeSet<(&'static str, String)> {
        let mut used = BTreeSet::new();
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut folders: Vec<_> = std::fs::read_dir(crates)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.ends_with("bench") && !path.ends_with("testkit"))
            .map(|path| path.join("src"))
            .collect();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("metrics_help.rs") {
                    let text = std::fs::read_to_string(path).unwrap();
                    for kind in ["counter", "gauge", "histogram"] {
                        for rest in text.split(&format!("{kind}!(")).skip(1) {
                            let name = rest.trim_start().strip_prefix('"').and_then(|r| r.split('"').next());
                            used.insert((kind, name.unwrap_or("a name that is no literal").to_owned()));
                        }
                    }
                }
            }
        }
        used
    }

    #[test]
    fn every_metric_has_its_help_and_no_other() {
        let kind = |kind: &Kind| match kind {
            Counter => "counter",
            Gauge => "gauge",
            Histogram => "histogram",
        };
        let described: BTreeSet<_> =
            METRICS.iter().map(|(k, name, _)| (kind(k), (*name).to_owned())).collect();
        assert_eq!(described.len(), METRICS.len(), "none twice");
        assert_eq!(used(), described);
    }

    #[test]
    fn the_help_is_exported() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            metrics::counter!("yard_launches_total", "cluster" => "east").increment(1);
        });
        let text = handle.render();
        assert!(text.contains("# HELP yard_launches_total Jobs launched on a cluster."), "{text}");
    }
}
