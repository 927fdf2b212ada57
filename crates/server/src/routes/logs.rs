//! `GET /v1/jobs/{id}/logs`: the output of a job's attempts, from their clusters and from the archive.

use std::str::FromStr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use yard_domain::JobId;
use yard_ports::PodLog;
use yard_ports::store::{AttemptView, JobView};
use yard_wire::views::{Problem, ProblemCode};

use super::pod_logs::pod_log;
use super::{JobPath, find_job};
use crate::access::Caller;
use crate::logs::sequence::Sequence;
use crate::logs::{self, Bytestream, Extent, Wish};
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

/// How many streams (logs, workloads) may be open at once.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Semaphore>);

impl Streams {
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// A place for one more, as long as it is kept.
    pub(crate) fn take(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let busy = |_| ApiError::new(ProblemCode::Busy, "too many streams are open: try again in a moment");
        self.0.clone().try_acquire_owned().map_err(busy)
    }
}

/// Whose log is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Last,
    All,
    Attempt(u32),
}

impl FromStr for Whose {
    type Err = <u32 as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::Attempt) }
    }
}

/// Whose output is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The job's command.
    Job,
    /// Something beside it, on a cluster that is made for the job alone.
    Pods(PodLog),
}

impl FromStr for Source {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let of = |pods: &PodLog| pods.code() == text;
        if text == "job" { Ok(Self::Job) } else { PodLog::ALL.into_iter().find(of).map(Self::Pods).ok_or(()) }
    }
}

/// What part of it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    From(u64),
    Tail(usize),
    Range(ByteRange),
}

/// One range of bytes, as the `Range` header has it (RFC 9110).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteRange {
    /// From the first up to and with the last.
    Between(u64, u64),
    From(u64),
    Last(u64),
}

/// What is asked for.
struct Question {
    source: Source,
    whose: Whose,
    piece: Piece,
    follow: bool,
    plain: bool,
    max: Option<u64>,
}

#[utoipa::path(
    get, path = "/v1/jobs/{id}/logs", operation_id = "job_logs", tag = "jobs", summary = "Read a job's output",
    description = "Plain text, from the cluster and from the archive, which has it for as long as `[logs]` says, whatever \
        becomes of the cluster. With follow, the stream goes on until the attempt has ended, or, without an attempt, until \
        the job has: an attempt after the first is headed by a line `--- attempt 2 on CLUSTER ---`. A stream that was cut \
        (it does not end, it breaks) is taken up with attempt and offset. A Range header is answered with 206. With source, \
        the end of what the pods of the job's own Ray cluster have printed, on clusters that make one for each job: bounded, \
        not followed, and archived at the end of the attempt.",
    params(
        ("id" = String, Path, description = "The job's id"),
        ("Range" = Option<String>, Header, description = "One range of bytes, of one attempt, without follow"),
        ("attempt" = Option<String>, Query, description = "Of this attempt (a number), or of `all`; by default the last"),
        ("follow" = Option<bool>, Query, description = "Go on until the end"),
        ("source" = Option<String>, Query, description = "Whose output: `job` (its command's, by default), or that of `head`, `workers` \
            or `submitter`; then without offset, follow and all"),
        ("offset" = Option<u64>, Query, description = "From this byte on; by default from the beginning"),
        ("tail_bytes" = Option<u64>, Query, description = "Only the last bytes there are now, in place of offset"),
        ("max_bytes" = Option<u64>, Query, description = "End after so many bytes"),
        ("plain" = Option<bool>, Query, description = "Only the log's own bytes: no lines of Switchyard's, and an end before \
            bytes that were not kept (then `x-yard-log-more: true`)"),
    ),
    responses(
        (status = 200, description = "The output", body = String, content_type = "text/plain",
            headers(
                ("x-yard-attempt" = String, description = "Whose it is"),
                ("x-yard-cluster" = String, description = "Where that ran"),
                ("x-yard-log-offset" = u64, description = "Offset of the first byte"),
                ("x-yard-log-source" = String, description = "`cluster`, or `archive` if the cluster was not asked or did not answer"),
                ("x-yard-log-state" = String, description = "`complete`: archived to its end; `lost`: its end went with its cluster; `open`: it may go on"),
            )),
        (status = 206, description = "The range that was asked for, or the first part of it", body = String, content_type = "text/plain"),
        (status = 404, description = "There is no such job or attempt, or no log of it", body = Problem),
        (status = 409, description = "The job has not been launched yet", body = Problem),
        (status = 416, description = "There is nothing in this range", body = Problem),
        (status = 502, description = "The cluster could not be asked, and the archive has nothing", body = Problem),
    )
)]
pub(crate) async fn logs(
    State(state): State<AppState>,
    caller: Caller,
    Extension(streams): Extension<Streams>,
    JobPath(id): JobPath,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let question = Question::read(params, &headers, state.config.logs.buffer_bytes_max)?;
    let slot = streams.take()?;
    let job = find_job(&state, &caller, id).await?;
    let wish = Wish { offset: 0, follow: question.follow, plain: question.plain };
    if question.whose == Whose::All {
        let last = choose(&job, Whose::Last)?;
        let head = Head { attempt: "all".to_owned(), ..Head::of(last) };
        let bytes = Sequence::all(state.clone(), &job, wish).into_stream().boxed();
        return Ok(answer(&state, &question, slot, &head, bytes));
    }
    let attempt = choose(&job, question.whose)?;
    if let Source::Pods(pods) = question.source {
        let (bytes, live, extent) = pod_log(&state, id, attempt, pods).await?;
        let from = match question.piece {
            Piece::Tail(max) => bytes.len().saturating_sub(max),
            _ => 0,
        };
        let head = Head { opened: Some((from as u64, live, extent, false)), ..Head::of(attempt) };
        return Ok(answer(&state, &question, slot, &head, stream::iter([Ok(bytes.slice(from..))]).boxed()));
    }
    match question.piece {
        Piece::Range(range) => ranged(&state, id, attempt, range).await,
        Piece::From(offset) => {
            let opened = logs::open(&state, id, attempt, Wish { offset, ..wish }).await?;
            let head = Head::of(attempt).with(&opened, opened.offset);
            let bytes = question.go_on(&state, id, attempt, opened.bytes);
            Ok(answer(&state, &question, slot, &head, bytes))
        }
        Piece::Tail(max) => {
            let (opened, offset, bytes) = logs::tail(&state, id, attempt, max).await?;
            let head = Head::of(attempt).with(&opened, offset);
            let end = offset + bytes.len() as u64;
            let mut all = stream::iter([Ok(bytes)]).boxed();
            if question.follow {
                let rest = logs::open(&state, id, attempt, Wish { offset: end, ..wish }).await?;
                all = all.chain(rest.bytes).boxed();
            }
            Ok(answer(&state, &question, slot, &head, question.go_on(&state, id, attempt, all)))
        }
    }
}

impl Question {
    fn read(mut params: Params, headers: &HeaderMap, buffer_max: usize) -> Result<Self, ApiError> {
        let source = params.one_as::<Source>("source", "job, head, workers or submitter");
        let whose = params.one_as::<Whose>("attempt", "a whole number, 1 for the first, or all");
        let offset = params.whole("offset", "a whole number of bytes");
        let most = u32::try_from(buffer_max).unwrap_or(u32::MAX);
        let tail = params.number("tail_bytes", 1, most).map(|n| n as usize);
        let max = params.whole("max_bytes", "a whole number of bytes");
        let (follow, plain) = (params.switch("follow"), params.switch("plain"));
        if tail.is_some() && offset.is_some() {
            params.wrong("tail_bytes", "can't go with offset: give one of them");
        }
        let whose = whose.unwrap_or(Whose::Last);
        if whose == Whose::All && (tail.is_some() || offset.is_some()) {
            params.wrong("attempt", "all can't go with offset or tail_bytes: they are about one attempt");
        }
        let source = source.unwrap_or(Source::Job);
        if source != Source::Job {
            for (name, given) in
                [("offset", offset.is_some()), ("follow", follow), ("attempt", whose == Whose::All)]
            {
                if given {
                    params.wrong(name, "follow, offset and all go with source=job only: of pods there is the end of what they printed");
                }
            }
        }
        params.finish()?;
        // A range is about what there is now of one log; where something else is asked for, it may be passed over.
        let range = headers.get(header::RANGE).and_then(|value| byte_range(value.to_str().ok()?));
        let alone = offset.is_none() && !follow && whose != Whose::All;
        let piece = match (tail, range) {
            (Some(tail), _) => Piece::Tail(tail),
            (None, Some(range)) if alone => Piece::Range(range),
            (None, _) => Piece::From(offset.unwrap_or(0)),
        };
        Ok(Self { source, whose, piece, follow, plain, max })
    }

    /// Following without an attempt goes on with the next one.
    fn go_on(&self, state: &AppState, id: JobId, attempt: &AttemptView, bytes: Bytestream) -> Bytestream {
        if !self.follow || self.whose != Whose::Last {
            return bytes;
        }
        let wish = Wish { offset: 0, follow: true, plain: self.plain };
        Sequence::after(state.clone(), id, bytes, attempt.number, wish).into_stream().boxed()
    }
}

/// The one range of a `Range` header; `None` for what isn't one, which is to be passed over.
fn byte_range(text: &str) -> Option<ByteRange> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (first.trim(), last.trim()) {
        ("", last) => number(last).map(ByteRange::Last),
        (first, "") => number(first).map(ByteRange::From),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(ByteRange::Between(first, last))
        }
    }
}

/// What the headers say.
struct Head {
    attempt: String,
    cluster: String,
    opened: Option<(u64, bool, Extent, bool)>,
}

impl Head {
    fn of(attempt: &AttemptView) -> Self {
        Self { attempt: attempt.number.to_string(), cluster: attempt.cluster.to_string(), opened: None }
    }

    fn with(self, opened: &logs::Opened, offset: u64) -> Self {
        Self { opened: Some((offset, opened.live, opened.extent, opened.more)), ..self }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            headers.insert(name, HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("-")));
        };
        set(header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8");
        set(header::X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff");
        set(header::ACCEPT_RANGES.as_str(), "bytes");
        set("x-yard-attempt", &self.attempt);
        set("x-yard-cluster", &self.cluster);
        if let Some((offset, live, extent, more)) = self.opened {
            set("x-yard-log-offset", &offset.to_string());
            set("x-yard-log-source", if live { "cluster" } else { "archive" });
            set("x-yard-log-state", extent.code());
            if more {
                set("x-yard-log-more", "true");
            }
        }
        headers
    }
}

fn answer(
    state: &AppState,
    question: &Question,
    slot: OwnedSemaphorePermit,
    head: &Head,
    bytes: Bytestream,
) -> Response {
    let bytes = match question.max {
        Some(max) => ending_after(bytes, max),
        None => bytes,
    };
    let bytes = logs::bounded(bytes, state, state.config.logs.response_bytes_max);
    (head.headers(), Body::from_stream(bytes.inspect(move |_| _ = &slot))).into_response()
}

/// Ends in order after `max` bytes.
fn ending_after(bytes: Bytestream, max: u64) -> Bytestream {
    stream::unfold((bytes, max), |(mut bytes, left)| async move {
        if left == 0 {
            return None;
        }
        let next = bytes.next().await?.map(|mut chunk| {
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            chunk
        });
        let left = left - next.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Some((next, (bytes, left)))
    })
    .boxed()
}

/// Answers a range: held in memory, because its length comes before it.
async fn ranged(
    state: &AppState,
    id: JobId,
    attempt: &AttemptView,
    range: ByteRange,
) -> Result<Response, ApiError> {
    let most = state.config.logs.buffer_bytes_max;
    let at_most = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(most);
    let (opened, first, bytes) = match range {
        ByteRange::Last(0) => return Ok(nothing_there(id, None)),
        ByteRange::Last(n) => logs::tail(state, id, attempt, at_most(n)).await?,
        ByteRange::From(first) => part(state, id, attempt, first, most).await?,
        ByteRange::Between(first, last) => {
            part(state, id, attempt, first, at_most((last - first).saturating_add(1))).await?
        }
    };
    if bytes.is_empty() {
        return Ok(nothing_there(id, opened.total));
    }
    let last = first + bytes.len() as u64 - 1;
    let total = opened.total.map_or("*".to_owned(), |n| n.to_string());
    let mut headers = Head::of(attempt).with(&opened, first).headers();
    if let Ok(value) = HeaderValue::try_from(format!("bytes {first}-{last}/{total}")) {
        headers.insert(header::CONTENT_RANGE, value);
    }
    Ok((StatusCode::PARTIAL_CONTENT, headers, bytes).into_response())
}

async fn part(
    state: &AppState,
    id: JobId,
    attempt: &AttemptView,
    first: u64,
    max: usize,
) -> Result<(logs::Opened, u64, Bytes), ApiError> {
    let wish = Wish { offset: first, follow: false, plain: true };
    let mut opened = logs::open(state, id, attempt, wish).await?;
    if opened.offset != first {
        // The bytes asked for are not kept, though later ones are.
        return Ok((opened, first, Bytes::new()));
    }
    let broken = |e: std::io::Error| ApiError::new(ProblemCode::ClusterUnreachable, e.to_string()).about(id);
    let bytes = logs::collect(&mut opened.bytes, max).await.map_err(broken)?;
    Ok((opened, first, bytes))
}

fn nothing_there(id: JobId, total: Option<u64>) -> Response {
    let detail = "the log has no such bytes (yet, or any more)";
    let error = ApiError::new(ProblemCode::RangeNotSatisfiable, detail).about(id);
    let total = total.map_or("*".to_owned(), |n| n.to_string());
    ([(header::CONTENT_RANGE, format!("bytes */{total}"))], error).into_response()
}

fn choose(job: &JobView, whose: Whose) -> Result<&AttemptView, ApiError> {
    let id = job.lifecycle.id;
    let Some(last) = job.attempts.last() else {
        let state = job.lifecycle.state.name().code();
        let detail = format!("it is {state} and has not been given to a cluster yet, so it has no log");
        return Err(ApiError::new(ProblemCode::NoAttempt, detail).about(id));
    };
    let Whose::Attempt(wanted) = whose else { return Ok(last) };
    job.attempts.iter().find(|a| a.number.0 == wanted).ok_or_else(|| {
        ApiError::not_found(format!("there is no attempt {wanted}; the last is {}", last.number)).about(id)
    })
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
