//! `[server]`, `[database]`, `[log]`: what every process of Switchyard needs.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::reader::Table;
use super::secret::{Secret, secret_file};

/// The HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Longest request body, in bytes.
    pub body_max_bytes: usize,
    /// Longest time for a request that is not a stream.
    pub request_timeout: Duration,
    /// Most requests served at once; more are told to come back.
    pub concurrency_max: usize,
    /// Most streams of events open at once.
    pub event_streams_max: usize,
    /// Pause between looks for events of other processes.
    pub events_poll: Duration,
    /// Most requests that wait for a change of a job at once.
    pub waits_max: usize,
    /// Most jobs that one call of a list looks at.
    pub list_scan_max: u32,
    /// How long the process finishes what is in hand after the first signal to stop.
    pub drain_timeout: Duration,
}

/// Which database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// SQLite in this file.
    Sqlite(PathBuf),
    /// MySQL or MariaDB at this URL, which may hold a password.
    MySql(Secret),
}

/// The store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// Which database.
    pub url: DatabaseUrl,
    /// Most connections of one process.
    pub pool_max: u32,
    /// Longest wait for a free connection.
    pub acquire_timeout: Duration,
    /// How often a transaction is tried again after a deadlock or lock timeout.
    pub tx_retries_max: u32,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// Which lines there are: tracing-subscriber's directives, such as `info,yard_engine=debug`.
    pub filter: String,
}

/// A span from `from` to `to`, in milliseconds: the range of a setting.
pub(super) const fn millis(from: u64, to: u64) -> Range<Duration> {
    Duration::from_millis(from)..Duration::from_millis(to)
}

/// A span from `from` to `to`, in seconds: the range of a setting.
pub(super) const fn secs(from: u64, to: u64) -> Range<Duration> {
    Duration::from_secs(from)..Duration::from_secs(to)
}

/// Reads `[server]`.
pub(super) fn server(root: &mut Table<'_, '_>) -> Option<ServerConfig> {
    let mut t = root.table("server");
    let listen = t.parsed_or("listen", "127.0.0.1:8920", |text| {
        text.parse::<SocketAddr>().map_err(|_| {
            format!(
                "{text:?} is not an address to listen on: use IP:PORT, such as 127.0.0.1:8920 or 0.0.0.0:8920"
            )
        })
    });
    let config = ServerConfig {
        listen: listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8920))),
        body_max_bytes: to_usize(t.integer_or("body_max_bytes", 1 << 20, 1 << 10..=64 << 20)),
        request_timeout: t.span_or("request_timeout_s", Duration::from_secs(30), secs(1, 600)),
        concurrency_max: to_usize(t.integer_or("concurrency_max", 1_024, 1..=100_000)),
        event_streams_max: to_usize(t.integer_or("event_streams_max", 4_096, 1..=100_000)),
        events_poll: t.span_or("events_poll_ms", Duration::from_millis(100), millis(10, 10_000)),
        waits_max: to_usize(t.integer_or("waits_max", 256, 1..=100_000)),
        list_scan_max: to_u32(t.integer_or("list_scan_max", 20_000, 100..=10_000_000)),
        drain_timeout: t.span_or("drain_timeout_s", Duration::from_secs(30), secs(0, 3_600)),
    };
    t.finish();
    listen.map(|_| config)
}

/// Reads `[database]`.
pub(super) fn database(root: &mut Table<'_, '_>) -> Option<DatabaseConfig> {
    let mut t = root.table("database");
    let url = database_url(&mut t);
    let config = (
        to_u32(t.integer_or("pool_max", 16, 1..=1_000)),
        t.span_or("acquire_timeout_ms", Duration::from_secs(5), millis(10, 600_000)),
        to_u32(t.integer_or("tx_retries_max", 10, 0..=1_000)),
    );
    t.finish();
    let (pool_max, acquire_timeout, tx_retries_max) = config;
    Some(DatabaseConfig { url: url?, pool_max, acquire_timeout, tx_retries_max })
}

/// Reads `[log]`.
pub(super) fn log(root: &mut Table<'_, '_>) -> Option<LogConfig> {
    let mut t = root.table("log");
    let format = t.choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let filter = t.parsed_or("filter", "info", |text| {
        tracing_subscriber::EnvFilter::try_new(text)
            .map(|_| text.to_owned())
            .map_err(|_| format!("{text:?} is not a log filter: use info, or info,yard_engine=debug"))
    });
    t.finish();
    Some(LogConfig { format: format?, filter: filter? })
}

fn database_url(t: &mut Table<'_, '_>) -> Option<DatabaseUrl> {
    let from_file = t.text("url_file").map(|path| secret_file(&t.sources().path(path)));
    let in_environment = matches!(t.place_of("url"), super::problem::Place::Env(_));
    let url = t.text("url");
    match (url, from_file) {
        // An override by the environment wins over a url_file, as over anything in the file.
        (Some(_), Some(_)) if !in_environment => {
            t.complain("url_file", "stands beside url: keep one of the two");
            None
        }
        (Some(url), _) => parse_database_url(t, "url", url, in_environment),
        (None, Some(Ok(url))) => parse_database_url(t, "url_file", &url, true),
        (None, Some(Err(error))) => {
            t.complain("url_file", error);
            None
        }
        (None, None) => {
            t.missing("url", "add url = \"sqlite:yard.db\" for one machine, or \"mysql://USER@HOST/yard\"");
            None
        }
    }
}

fn parse_database_url(t: &Table<'_, '_>, key: &str, url: &str, secret_place: bool) -> Option<DatabaseUrl> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains('?') {
            t.complain(key, "names no file: use sqlite:PATH, such as sqlite:yard.db");
            return None;
        }
        return Some(DatabaseUrl::Sqlite(t.sources().path(path)));
    }
    // The text itself is never shown: there may be a password in it.
    let Some(parsed) = Url::parse(url).ok().filter(|u| ["mysql", "mariadb"].contains(&u.scheme())) else {
        t.complain(key, "is not the URL of a database: use sqlite:PATH or mysql://USER@HOST:PORT/DATABASE");
        return None;
    };
    if parsed.host_str().is_none_or(str::is_empty) || parsed.path().trim_matches('/').is_empty() {
        t.complain(key, "lacks the host or the database: use mysql://USER@HOST:PORT/DATABASE");
        return None;
    }
    if parsed.password().is_some() && !secret_place {
        let fix =
            "set the whole URL in YARD__DATABASE__URL, or put it into a file and name that with url_file";
        t.complain(key, format!("has a password in it, which must not stand in this file: {fix}"));
        return None;
    }
    let rest = url.split_once(':').map_or("", |(_, rest)| rest);
    Some(DatabaseUrl::MySql(Secret::new(format!("mysql:{rest}"))))
}

/// A number that its range has made small enough.
pub(super) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A number that its range has made small enough.
pub(super) fn to_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
