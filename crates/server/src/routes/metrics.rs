//! `GET /metrics`: Prometheus.

use std::fmt::Write;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use yard_ports::store::QueueStats;

use crate::state::AppState;

/// Longest wait for the store; without its answer the process's own metrics are still shown.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "operation", summary = "Metrics for Prometheus",
    responses((status = 200, description = "Prometheus text format", body = String, content_type = "text/plain"))
)]
pub(crate) async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    let stats = tokio::time::timeout(STORE_TIMEOUT, state.store.stats()).await;
    let stats = stats.ok().and_then(Result::ok);
    let mut text = state.metrics.render();
    text.push_str(&jobs(stats.as_ref()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// The store's counts as gauges. Written here and not through the recorder, which would go on showing a team
/// that has no jobs any more. The same on every replica: take the maximum, not the sum.
fn jobs(stats: Option<&QueueStats>) -> String {
    let mut text =
        String::from("# HELP yard_store_up Whether the store answered.\n# TYPE yard_store_up gauge\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "yard_store_up {}", u8::from(stats.is_some()));
    let Some(stats) = stats else { return text };
    text.push_str("# HELP yard_jobs Jobs that have not ended, by team and state.\n# TYPE yard_jobs gauge\n");
    for ((team, state), count) in &stats.open {
        let _ = writeln!(text, "yard_jobs{{team=\"{team}\",state=\"{}\"}} {count}", state.code());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn open_jobs_are_counted_by_team_and_state() {
        let world = World::new().await;
        let id = world.job("a").await;
        world.job("b").await;
        world.run(id, "east").await;
        let text = String::from_utf8(world.get("/metrics").await.bytes.to_vec()).unwrap();
        for line in [
            "yard_store_up 1",
            "yard_jobs{team=\"search\",state=\"running\"} 1",
            "yard_jobs{team=\"search\",state=\"queued\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_store_that_does_not_answer_is_shown_as_down() {
        assert!(jobs(None).ends_with("yard_store_up 0\n"));
    }
}
