//! What a process tells of itself: log lines, metrics, panics.

use std::fs::File;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::{Dispatch, error};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::{LogConfig, LogFormat};
use crate::metrics_help;

/// Bounds of every histogram of seconds: from a cheap transaction to a slow launch.
const SECONDS: [f64; 15] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// How often what histograms have recorded is moved to where it takes little memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.filter` is wrong.
    #[error("the log filter can't be read")]
    Filter(#[from] ParseError),
    /// A second call in one process.
    #[error("logging is set up already")]
    Twice(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// The metrics recorder.
    #[error("metrics can't be set up")]
    Metrics(#[from] BuildError),
}

/// Sets up logging to standard error, metrics and the panic hook, once per process and inside of a tokio
/// runtime. The handle renders the metrics.
pub fn init(log: &LogConfig) -> Result<PrometheusHandle, TelemetryError> {
    install(log, BoxMakeWriter::new(std::io::stderr), std::io::stderr().is_terminal())
}

/// As [`init`], but with the log in `file`, for commands that use the terminal for something else.
pub fn init_to_file(log: &LogConfig, file: File) -> Result<PrometheusHandle, TelemetryError> {
    install(log, BoxMakeWriter::new(Mutex::new(file)), false)
}

fn install(log: &LogConfig, writer: BoxMakeWriter, ansi: bool) -> Result<PrometheusHandle, TelemetryError> {
    tracing::dispatcher::set_global_default(dispatch(log, writer, ansi)?)?;
    log_panics();
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let handle = PrometheusBuilder::new().set_buckets_for_metric(seconds, &SECONDS)?.install_recorder()?;
    metrics_help::describe();
    tokio::spawn(upkeep(handle.clone()));
    Ok(handle)
}

fn dispatch(log: &LogConfig, writer: BoxMakeWriter, ansi: bool) -> Result<Dispatch, ParseError> {
    let lines =
        tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(&log.filter)?).with_writer(writer);
    Ok(match log.format {
        LogFormat::Text => Dispatch::new(lines.with_ansi(ansi).finish()),
        LogFormat::Json => Dispatch::new(lines.json().flatten_event(true).with_current_span(false).finish()),
    })
}

/// A panic is a bug: it goes where the operator looks, in the format of all other lines.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("(no message)");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        error!(panic = message, place, %backtrace, "a thread panicked: this is a bug");
    }));
}

async fn upkeep(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    /// What three lines and a panic look like in `format` under `filter`.
    fn lines(format: LogFormat, filter: &str) -> Vec<String> {
        let mut file = tempfile::tempfile().unwrap();
        let writer = BoxMakeWriter::new(Mutex::new(file.try_clone().unwrap()));
        let log = LogConfig { format, filter: filter.to_owned() };
        tracing::dispatcher::with_default(&dispatch(&log, writer, false).unwrap(), || {
            tracing::info!(job = "j1", "launched");
            tracing::debug!("too much");
            tracing::warn!(target: "loud", "unwanted");
            log_panics();
            assert!(std::panic::catch_unwind(|| panic!("at the disco")).is_err());
            drop(std::panic::take_hook());
        });
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_text_or_json_and_filtered() {
        let json = lines(LogFormat::Json, "info,loud=off");
        let first: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!(
            (&first["message"], &first["job"], &first["level"]),
            (&"launched".into(), &"j1".into(), &"INFO".into())
        );
        let panic: serde_json::Value = serde_json::from_str(&json[1]).unwrap();
        assert_eq!(
            (json.len(), &panic["panic"], &panic["level"]),
            (2, &"at the disco".into(), &"ERROR".into())
        );
        let text = lines(LogFormat::Text, "info,loud=off");
        assert!(text[0].contains("INFO") && text[0].ends_with("launched job=\"j1\""), "{}", text[0]);
        assert!(text[1].contains("ERROR") && text[1].contains("at the disco"), "{}", text[1]);
    }
}
