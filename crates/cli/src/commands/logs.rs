//! `yard logs`: what a job prints, followed through retries, reconnects and restarts of the server.
//!
//! Only the log's own bytes are asked for, and their offsets counted, so that nothing is printed twice or left out
//! whatever breaks in between. What has to be said about the log goes to standard error.

use std::io::Write;
use std::time::Duration;

use futures::StreamExt;
use reqwest::{Method, Response};
use yard_wire::views::{JobView, ProblemCode};

use super::{Done, jobs};
use crate::client::{Client, problem};
use crate::exit::{self, Failure};

/// Pause before another look when there is nothing to follow now.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a log that gives nothing is asked for again once its attempt has ended: it may be gone for good.
const TRIES_AFTER_END: u32 = 20;
/// The last lines of a log are looked for in so many bytes at its end.
const TAIL_BYTES: u64 = 1 << 20;

/// What of a job's log is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Whether to go on to the job's end.
    pub follow: bool,
    /// Of this attempt only; by default of the last, and following goes on to the next.
    pub attempt: Option<u32>,
    /// Only so many of the lines that are there.
    pub tail: Option<usize>,
    /// Not the job's command, but this beside it: `head`, `workers`, `submitter`.
    pub source: Option<String>,
}

/// What one stream of an attempt's log came to.
enum Streamed {
    /// The server closed it in order.
    ToTheEnd,
    /// It ended before bytes that were not kept; there are more behind them.
    ToAHole,
    /// It broke off, or could not begin now: this is why.
    NotNow(Failure),
    /// Whoever read our output has gone.
    NobodyReads,
}

/// Prints a job's log to `out`; with `follow`, to the job's end.
pub async fn logs(job: &str, wanted: Wanted, client: &Client, out: &mut (dyn Write + Send)) -> Done {
    let job = &jobs::resolve(job, client).await?;
    let mut log = Log { job, client, out, told_archive: false };
    if let Some(source) = &wanted.source {
        return log.of_pods(source, &wanted).await;
    }
    let mut number = match wanted.attempt {
        Some(number) => number,
        None => log.first_attempt(wanted.follow).await?,
    };
    let mut offset = 0;
    if let Some(lines) = wanted.tail {
        match log.tail(number, lines, &mut offset, wanted.follow).await? {
            Streamed::NobodyReads => return Ok(exit::OK),
            Streamed::NotNow(failure) if !wanted.follow => return Err(failure),
            _ if !wanted.follow => return Ok(exit::OK),
            _ => {}
        }
    }
    if !wanted.follow {
        return loop {
            match log.stream(number, &mut offset, false).await? {
                Streamed::ToAHole => {}
                Streamed::ToTheEnd | Streamed::NobodyReads => break Ok(exit::OK),
                Streamed::NotNow(failure) => break Err(failure),
            }
        };
    }
    loop {
        if let Streamed::NobodyReads = log.follow(number, offset).await? {
            return Ok(exit::OK);
        }
        offset = 0;
        match wanted.attempt {
            None => match log.next_attempt(number).await? {
                Some(next) => number = next,
                None => return Ok(exit::OK),
            },
            Some(_) => return Ok(exit::OK),
        }
        eprintln!("--- attempt {number} ---");
    }
}

struct Log<'a> {
    job: &'a str,
    client: &'a Client,
    out: &'a mut (dyn Write + Send),
    told_archive: bool,
}

impl Log<'_> {
    /// Prints what pods have printed: there is an end of it now, and nothing to follow.
    async fn of_pods(&mut self, source: &str, wanted: &Wanted) -> Done {
        if wanted.follow {
            let message =
                format!("--follow can't go with --source {source}: there is only what is there now");
            return Err(Failure::new(exit::USAGE, message));
        }
        let mut query = vec![("source", source.to_owned())];
        query.extend(wanted.attempt.map(|number| ("attempt", number.to_string())));
        let response = self.open(&query, false).await??;
        let broke_off = |_| Failure::new(exit::UNAVAILABLE, "the log broke off");
        let bytes = response.bytes().await.map_err(broke_off)?;
        self.print(wanted.tail.map_or(&bytes, |lines| last_lines(&bytes, lines)));
        Ok(exit::OK)
    }

    /// The attempt to begin with: the last. Following waits for the first one.
    async fn first_attempt(&self, follow: bool) -> Result<u32, Failure> {
        let mut told = String::new();
        loop {
            let view = jobs::fetch(self.job, self.client).await?;
            if let Some(last) = view.attempts.last() {
                return Ok(last.number);
            }
            let state = format!("it is {}", view.summary.state);
            let why = view.waiting.as_ref().map_or(state, |w| w.message.clone());
            if !follow || view.summary.has_ended() {
                let message = format!("{} has no log, since it was never launched: {why}", self.job);
                return Err(Failure::new(exit::NOT_FOUND, message));
            }
            if told != why {
                eprintln!("waiting for the first attempt: {why}");
                told = why;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Prints an attempt's log from `offset` on until the attempt has ended and all of it is printed.
    async fn follow(&mut self, number: u32, mut offset: u64) -> Result<Streamed, Failure> {
        let mut tries = 0;
        loop {
            let before = offset;
            let streamed = self.stream(number, &mut offset, true).await?;
            match streamed {
                Streamed::NobodyReads => return Ok(streamed),
                Streamed::ToAHole => continue,
                Streamed::ToTheEnd | Streamed::NotNow(_) => {}
            }
            let over = match self.look().await? {
                Some(view) => view.attempts.iter().any(|a| a.number == number && a.ended_at.is_some()),
                None => false,
            };
            match streamed {
                Streamed::ToTheEnd if over => return Ok(Streamed::ToTheEnd),
                Streamed::NotNow(failure) if over => {
                    tries = if offset > before { 0 } else { tries + 1 };
                    if tries >= TRIES_AFTER_END {
                        return Err(failure);
                    }
                }
                _ => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits for the attempt after this one; `None` if the job has ended without.
    async fn next_attempt(&self, number: u32) -> Result<Option<u32>, Failure> {
        loop {
            if let Some(view) = self.look().await? {
                if let Some(next) = view.attempts.iter().map(|a| a.number).find(|n| *n > number) {
                    return Ok(Some(next));
                }
                if view.summary.has_ended() {
                    return Ok(None);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The job as it is now; `None` if the server is away for the moment.
    async fn look(&self) -> Result<Option<JobView>, Failure> {
        match jobs::fetch(self.job, self.client).await {
            Ok(view) => Ok(Some(view)),
            Err(failure) if failure.code == exit::UNAVAILABLE => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Prints the last `lines` lines that are there now, and says where to go on.
    async fn tail(
        &mut self,
        attempt: u32,
        lines: usize,
        offset: &mut u64,
        follow: bool,
    ) -> Result<Streamed, Failure> {
        let query = [("attempt", attempt.to_string()), ("tail_bytes", TAIL_BYTES.to_string())];
        let response = match self.open(&query, follow).await? {
            Ok(response) => response,
            Err(failure) => return Ok(Streamed::NotNow(failure)),
        };
        let first = number(&response, "x-yard-log-offset").unwrap_or(0);
        let Ok(bytes) = response.bytes().await else {
            return Ok(Streamed::NotNow(Failure::new(exit::UNAVAILABLE, "the log broke off")));
        };
        *offset = first + bytes.len() as u64;
        Ok(if self.print(last_lines(&bytes, lines)) { Streamed::ToTheEnd } else { Streamed::NobodyReads })
    }

    fn print(&mut self, bytes: &[u8]) -> bool {
        self.out.write_all(bytes).and_then(|()| self.out.flush()).is_ok()
    }

    /// Asks for bytes of a log; the inner error is one that may pass.
    async fn open(
        &mut self,
        query: &[(&str, String)],
        follow: bool,
    ) -> Result<Result<Response, Failure>, Failure> {
        let path = ["v1", "jobs", self.job, "logs"];
        let query = [query, &[("plain", "true".to_owned())]].concat();
        let response = match self.client.send(Method::GET, &path, &query, None, None).await {
            Ok(response) if response.status().is_success() => response,
            Ok(response) => {
                let failure = problem(response).await;
                return if follow && passes(&failure) { Ok(Err(failure)) } else { Err(failure) };
            }
            Err(failure) if follow => return Ok(Err(failure)),
            Err(failure) => return Err(failure),
        };
        let says = |name: &str, value: &str| response.headers().get(name).is_some_and(|v| v == value);
        if says("x-yard-log-source", "archive") && says("x-yard-log-state", "open") && !self.told_archive {
            eprintln!("the cluster can't be asked for the log now: this is what has been archived");
            self.told_archive = true;
        }
        Ok(Ok(response))
    }

    async fn stream(&mut self, attempt: u32, offset: &mut u64, follow: bool) -> Result<Streamed, Failure> {
        let query = [
            ("attempt", attempt.to_string()),
            ("offset", offset.to_string()),
            ("follow", follow.to_string()),
        ];
        let response = match self.open(&query, follow).await? {
            Ok(response) => response,
            Err(failure) => return Ok(Streamed::NotNow(failure)),
        };
        let first = number(&response, "x-yard-log-offset").unwrap_or(*offset);
        if first > *offset {
            eprintln!("--- {} bytes of this log, from byte {offset} on, were not kept ---", first - *offset);
            *offset = first;
        }
        let has = |name: &str, value: &str| response.headers().get(name).is_some_and(|v| v == value);
        let (hole, lost) = (has("x-yard-log-more", "true"), has("x-yard-log-state", "lost"));
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let Ok(chunk) = chunk else {
                return Ok(Streamed::NotNow(Failure::new(exit::UNAVAILABLE, "the log broke off")));
            };
            *offset += chunk.len() as u64;
            if !self.print(&chunk) {
                return Ok(Streamed::NobodyReads);
            }
        }
        if hole {
            return Ok(Streamed::ToAHole);
        }
        if lost {
            eprintln!("--- the rest of this log is not kept: its cluster did not have it to the end ---");
        }
        Ok(Streamed::ToTheEnd)
    }
}

/// A header that is a number.
fn number(response: &Response, name: &str) -> Option<u64> {
    response.headers().get(name)?.to_str().ok()?.parse().ok()
}

/// The last lines of a text; one that has begun counts.
fn last_lines(bytes: &[u8], lines: usize) -> &[u8] {
    let Some(before_last) = bytes.len().checked_sub(1).filter(|_| lines > 0) else { return &[] };
    let mut breaks = (0..before_last).rev().filter(|i| bytes[*i] == b'\n');
    breaks.nth(lines - 1).map_or(bytes, |i| &bytes[i + 1..])
}

/// Not now, but perhaps soon: an attempt that is placed but not launched, a cluster or server that is away.
fn passes(failure: &Failure) -> bool {
    let soon = [ProblemCode::NoLog, ProblemCode::NoAttempt];
    failure.code == exit::UNAVAILABLE || failure.problem.is_some_and(|p| soon.contains(&p))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::body::Body;
    use axum::extract::Query;
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use futures::stream;
    use serde_json::{Value, json};

    use super::*;
    use crate::args::Global;

    const FOLLOW: Wanted = Wanted { follow: true, attempt: None, tail: None, source: None };
    const JOB: &str = "01900000-0000-7000-8000-000000000000";

    /// A job in `state` whose attempts have ended or not.
    fn job(state: &str, ended: &[bool]) -> Value {
        let attempt = |(i, ended): (usize, &bool)| {
            let mut attempt =
                json!({"number": i + 1, "cluster": "east", "remote_name": "r", "placed_at": "t"});
            if *ended {
                attempt["ended_at"] = json!("t");
            }
            attempt
        };
        json!({
            "id": JOB, "team": "ads", "key": "k", "name": "n", "state": state, "since": "t", "created_at": "t",
            "attempt": ended.len(), "resources": {"cpu": 1.0, "gpu": 0.0, "memory_bytes": 0, "jobs": 1},
            "stop_requested": false, "priority": 0,
            "retries": {"own": 0, "own_max": 1, "infra": 0, "preempted": 0},
            "attempts": ended.iter().enumerate().map(attempt).collect::<Vec<_>>(), "spec": {},
        })
    }

    fn problem(status: u16, code: &str) -> Response {
        let body = json!({"type": "t", "title": "T", "status": status, "code": code, "detail": "d"});
        (axum::http::StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
    }

    fn broken(text: &'static str) -> Response {
        // Not at once: the first chunk is to be on its way before the connection breaks.
        let cut = stream::once(async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err(io::Error::other("cut"))
        });
        let chunks = stream::iter([Ok(text)]).chain(cut);
        Body::from_stream(chunks).into_response()
    }

    /// Serves the answers of `looks` to looks at the job, and of `reads` to reads of its log, one after the
    /// other, the last for ever. Gives the client and the queries of the reads.
    async fn server(
        looks: Vec<Value>,
        reads: Vec<fn() -> Response>,
    ) -> (Client, Arc<std::sync::Mutex<Vec<String>>>) {
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (look, read, queries) = (AtomicUsize::new(0), AtomicUsize::new(0), asked.clone());
        let next = |count: &AtomicUsize, len: usize| count.fetch_add(1, Ordering::Relaxed).min(len - 1);
        let (look, read) = (Arc::new(look), Arc::new(read));
        let app = Router::new()
            .route("/v1/jobs/{id}", get(async move || axum::Json(looks[next(&look, looks.len())].clone())))
            .route(
                "/v1/jobs/{id}/logs",
                get(async move |Query(query): Query<Vec<(String, String)>>| {
                    let text: Vec<_> = query.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
                    queries.lock().unwrap().push(text.join("&"));
                    reads[next(&read, reads.len())]()
                }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let client = Client::new(&Global { server, token: None, token_file: None, json: false });
        (client.unwrap_or_else(|e| panic!("{}", e.message)), asked)
    }

    #[tokio::test]
    async fn a_cut_stream_is_taken_up_where_it_broke_and_retries_are_followed() {
        let looks = vec![
            job("launching", &[false]),
            job("launching", &[false]),
            job("running", &[false]),
            job("queued", &[true]),
            job("queued", &[true]),
            job("running", &[true, false]),
            job("succeeded", &[true, true]),
        ];
        let reads: Vec<fn() -> Response> =
            vec![|| problem(404, "no_log"), || broken("one\nt"), || "wo\n".into_response(), || {
                "second\n".into_response()
            }];
        let (client, asked) = server(looks, reads).await;
        let mut out = Vec::new();
        assert_eq!(logs(JOB, FOLLOW, &client, &mut out).await, Ok(exit::OK));
        assert_eq!(String::from_utf8(out).unwrap(), "one\ntwo\nsecond\n");
        let asked = asked.lock().unwrap().clone();
        assert_eq!(
            asked,
            [
                "attempt=1&offset=0&follow=true&plain=true",
                "attempt=1&offset=0&follow=true&plain=true",
                "attempt=1&offset=5&follow=true&plain=true",
                "attempt=2&offset=0&follow=true&plain=true"
            ]
        );
    }

    #[tokio::test]
    async fn without_follow_a_cut_is_an_error_and_a_missing_log_not_found() {
        let (client, _) = server(vec![job("running", &[false])], vec![|| broken("half")]).await;
        let mut out = Vec::new();
        assert_eq!(
            logs(JOB, Wanted::default(), &client, &mut out).await.unwrap_err().code,
            exit::UNAVAILABLE
        );
        assert_eq!(out, b"half");
        let (client, _) = server(vec![job("running", &[false])], vec![|| problem(404, "no_log")]).await;
        assert_eq!(logs(JOB, Wanted::default(), &client, &mut out).await.unwrap_err().code, exit::NOT_FOUND);
        let (client, _) = server(vec![job("queued", &[])], vec![|| problem(409, "no_attempt")]).await;
        assert_eq!(logs(JOB, Wanted::default(), &client, &mut out).await.unwrap_err().code, exit::NOT_FOUND);
    }

    #[tokio::test]
    async fn what_pods_print_is_asked_for_once() {
        let head = || Wanted { source: Some("head".to_owned()), attempt: Some(2), ..Wanted::default() };
        let (client, asked) =
            server(vec![job("running", &[false])], vec![|| "1\n2\n3\n".into_response()]).await;
        let mut out = Vec::new();
        assert_eq!(logs(JOB, Wanted { tail: Some(2), ..head() }, &client, &mut out).await, Ok(exit::OK));
        assert_eq!(out, b"2\n3\n");
        assert_eq!(*asked.lock().unwrap(), ["source=head&attempt=2&plain=true"]);
        let followed = Wanted { follow: true, ..head() };
        assert_eq!(logs(JOB, followed, &client, &mut out).await.unwrap_err().code, exit::USAGE);
    }

    #[tokio::test]
    async fn a_hole_is_stepped_over() {
        fn to_a_hole() -> Response {
            ([("x-yard-log-more", "true")], "head\n").into_response()
        }
        fn behind_it() -> Response {
            ([("x-yard-log-offset", "105")], "tail\n").into_response()
        }
        let (client, asked) = server(vec![job("running", &[false])], vec![to_a_hole, behind_it]).await;
        let mut out = Vec::new();
        assert_eq!(logs(JOB, Wanted::default(), &client, &mut out).await, Ok(exit::OK));
        assert_eq!(String::from_utf8(out).unwrap(), "head\ntail\n");
        assert!(asked.lock().unwrap()[1].contains("offset=5&"), "{asked:?}");
    }

    #[tokio::test]
    async fn following_goes_on_behind_the_last_lines() {
        let reads: Vec<fn() -> Response> =
            vec![|| ([("x-yard-log-offset", "100")], "x\nline 1\nline 2\nline").into_response(), || {
                " 3\n".into_response()
            }];
        let looks = vec![job("running", &[false]), job("succeeded", &[true])];
        let (client, asked) = server(looks, reads).await;
        let mut out = Vec::new();
        assert_eq!(logs(JOB, Wanted { tail: Some(2), ..FOLLOW }, &client, &mut out).await, Ok(exit::OK));
        assert_eq!(String::from_utf8(out).unwrap(), "line 2\nline 3\n");
        let asked = asked.lock().unwrap().clone();
        assert_eq!(
            asked,
            ["attempt=1&tail_bytes=1048576&plain=true", "attempt=1&offset=120&follow=true&plain=true"]
        );
    }

    #[test]
    fn last_lines_are_counted_from_the_end() {
        let of = |text: &'static str, n| std::str::from_utf8(last_lines(text.as_bytes(), n)).unwrap();
        assert_eq!((of("a\nb\nc\n", 2), of("a\nb\nc", 2)), ("b\nc\n", "b\nc"));
        assert_eq!((of("a\nb\n", 9), of("a\nb\n", 0), of("", 3), of("\n", 1)), ("a\nb\n", "", "", "\n"));
    }

    #[tokio::test]
    async fn an_attempt_that_is_not_there_is_no_reason_to_wait() {
        let (client, _) = server(vec![job("running", &[false])], vec![|| problem(404, "not_found")]).await;
        let failure =
            logs(JOB, Wanted { attempt: Some(9), ..FOLLOW }, &client, &mut Vec::new()).await.unwrap_err();
        assert_eq!(failure.code, exit::NOT_FOUND);
    }

    #[tokio::test]
    async fn when_nobody_reads_it_ends_at_once() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (client, _) = server(vec![job("running", &[false])], vec![|| broken("x")]).await;
        assert_eq!(logs(JOB, FOLLOW, &client, &mut Closed).await, Ok(exit::OK));
    }
}
