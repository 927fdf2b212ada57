//! `GET /v1/events` and `GET /v1/jobs/{id}/events`: what happens, as Server-Sent Events.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tracing::warn;
use yard_domain::{Event, HistoryLine, JobId, StateName, TeamId};
use yard_ports::store::JobEvent;
use yard_wire::views::{EventView, Problem, ProblemCode};

use super::jobs::KnownState;
use super::logs::Streams;
use super::{JobPath, find_job};
use crate::access::{Caller, redact};
use crate::feed::{Feed, Page, sse};
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

/// How often a silent stream says that it is alive.
const ALIVE: Duration = Duration::from_secs(15);
/// Lines of a job's history read at once.
const LINES: u32 = 200;

/// Streams of events that may be open at once.
#[derive(Clone)]
pub(crate) struct EventStreams(pub(crate) Streams);

#[utoipa::path(
    get, path = "/v1/events", operation_id = "follow_events", tag = "events", summary = "Follow what happens to all jobs",
    description = "Server-Sent Events, of the teams that you see: each has its position as `id` and an event as JSON in \
        `data`. It goes on until the connection ends; taken up with Last-Event-ID (or `after`), nothing is skipped and nothing comes twice. Positions grow; \
        events of one job are in the order of its history. Without a position it begins now.",
    params(
        ("Last-Event-ID" = Option<u64>, Header, description = "Go on after this event"),
        ("after" = Option<u64>, Query, description = "The same as a parameter, where headers can't be set; 0: from the first that is kept"),
        ("follow" = Option<bool>, Query, description = "false: end with the last event that there is now; by default the stream goes on"),
        ("team" = Option<String>, Query, description = "Of these teams: repeat it, or use commas"),
        ("state" = Option<String>, Query, description = "That brought a job into, or left it in, one of these states"),
        ("job" = Option<String>, Query, description = "Of these jobs: repeat it, or use commas"),
        ("metadata" = Option<String>, Query, description = "Of jobs with this in their metadata: NAME=VALUE; may be repeated, or be written metadata.NAME=VALUE"),
    ),
    responses(
        (status = 200, description = "The events", body = EventView, content_type = "text/event-stream"),
        (status = 400, description = "Parameters are wrong, with every error", body = Problem),
        (status = 410, description = "Events after the one named have been deleted", body = Problem),
        (status = 503, description = "Too many streams at once, or the database can't be used now", body = Problem),
    )
)]
pub(crate) async fn all(
    State(state): State<AppState>,
    caller: Caller,
    Extension(feed): Extension<Feed>,
    Extension(EventStreams(streams)): Extension<EventStreams>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = position(&mut params, &headers, i64::MAX.unsigned_abs());
    let filter = Filter {
        among: caller.teams(),
        teams: params.list("team"),
        states: params.list::<KnownState>("state").into_iter().map(|s| s.0).collect(),
        jobs: params.list_as("job", "a job's id, which is a UUID"),
        metadata: params.pairs("metadata"),
    };
    let follow = params.is_on("follow", true);
    params.finish()?;
    let slot = streams.take()?;
    let pages = feed.listen();
    // A stream that ends with what there is now ends with what is committed now, also if it has no position yet.
    let head = if follow && after.is_some() { None } else { Some(feed.head().await?) };
    let last = after.or(head).unwrap_or_default();
    // Read here, so that a store that can't be used, and what is missed, is an answer and not a broken stream.
    let (first, missed) = feed.read(last).await?;
    if missed {
        return Err(gone(last));
    }
    let teller = Teller { state: state.clone(), caller };
    let text = filter.texts(&teller, &first, last).await?;
    let reader = AllReader {
        feed,
        pages,
        filter,
        teller,
        last: first.upto,
        behind: true,
        follow,
        ended: false,
        _slot: slot,
    };
    Ok(answer(state, Reader::All(Box::new(reader)), text))
}

#[utoipa::path(
    get, path = "/v1/jobs/{id}/events", operation_id = "follow_job_events", tag = "events", summary = "Follow what happens to one job",
    description = "Server-Sent Events, from the job's first line of history on; the `id` of each is the line's `seq`. It ends \
        after the job's end; a stream that was cut breaks, and is taken up with Last-Event-ID (or `after`).",
    params(
        ("id" = String, Path, description = "The job's id"),
        ("Last-Event-ID" = Option<u32>, Header, description = "Go on after this line"),
        ("after" = Option<u32>, Query, description = "The same as a parameter"),
        ("follow" = Option<bool>, Query, description = "false: end with the last event that there is now; by default at the job's end"),
    ),
    responses(
        (status = 200, description = "The events", body = EventView, content_type = "text/event-stream"),
        (status = 204, description = "The job has ended, and there is nothing after the line named: don't come again"),
        (status = 400, description = "Parameters are wrong, with every error", body = Problem),
        (status = 404, description = "There is no such job", body = Problem),
        (status = 503, description = "Too many streams at once, or the database can't be used now", body = Problem),
    )
)]
pub(crate) async fn job(
    State(state): State<AppState>,
    caller: Caller,
    Extension(feed): Extension<Feed>,
    Extension(EventStreams(streams)): Extension<EventStreams>,
    JobPath(id): JobPath,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = position(&mut params, &headers, u32::MAX.into());
    let after = after.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let follow = params.is_on("follow", true);
    params.finish()?;
    let slot = streams.take()?;
    let pages = feed.listen();
    let job = find_job(&state, &caller, id).await?;
    if job.lifecycle.state.name().is_end() && after >= job.lifecycle.version {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let team = job.lifecycle.team.clone();
    let reader = JobReader {
        teller: Teller { state: state.clone(), caller },
        pages,
        id,
        team,
        last: after,
        behind: true,
        follow,
        ended: false,
        _slot: slot,
    };
    Ok(answer(state, Reader::Job(Box::new(reader)), Vec::new()))
}

/// Where to go on: the header that browsers send, or the parameter.
fn position(params: &mut Params, headers: &HeaderMap, max: u64) -> Option<u64> {
    let given = params.whole("after", "a whole number: the `id` of an event");
    if given.is_some_and(|n| n > max) {
        params.wrong("after", "is no `id` of an event here");
    }
    let Some(header) = headers.get("last-event-id") else { return given };
    let read = header.to_str().ok().and_then(|text| text.trim().parse().ok()).filter(|n| *n <= max);
    if read.is_none() {
        params.wrong("Last-Event-ID", "must be a whole number: the `id` of an event");
    }
    read.or(given)
}

fn gone(after: u64) -> ApiError {
    let detail = format!(
        "events after {after} have been deleted: begin without a position, or with after=0 for the first that is kept"
    );
    ApiError::new(ProblemCode::Gone, detail)
}

/// Which events a stream is for. Empty is any.
struct Filter {
    /// The teams that whoever listens sees; `None`: all.
    among: Option<Vec<TeamId>>,
    teams: Vec<TeamId>,
    states: Vec<StateName>,
    jobs: Vec<JobId>,
    metadata: Vec<(String, String)>,
}

impl Filter {
    fn fits(&self, event: &JobEvent) -> bool {
        self.among.as_ref().is_none_or(|seen| seen.contains(&event.team))
            && (self.teams.is_empty() || self.teams.contains(&event.team))
            && (self.states.is_empty() || self.states.contains(&event.line.to))
            && (self.jobs.is_empty() || self.jobs.contains(&event.line.job))
            && self.metadata.iter().all(|(name, value)| event.metadata.get(name) == Some(value))
    }

    /// What is sent of a page, to a reader who has everything up to `last`.
    async fn texts(&self, teller: &Teller, page: &Page, last: u64) -> Result<Vec<Bytes>, ApiError> {
        let mut texts = Vec::new();
        for published in &page.events {
            let event = &published.event;
            if event.pos <= last || !self.fits(event) {
                continue;
            }
            texts.push(if teller.must_redact(&event.line) {
                teller.text(&event.pos.to_string(), EventView::from(event)).await?
            } else {
                published.text.clone()
            });
        }
        Ok(texts)
    }
}

/// Tells events to whoever listens, without the names of teams that they don't see.
struct Teller {
    state: AppState,
    caller: Caller,
}

impl Teller {
    /// Only these tell of other teams; what people wrote (a reason to stop) stays as it is.
    fn must_redact(&self, line: &HistoryLine) -> bool {
        matches!(line.event, Event::PreemptRequested { .. }) && !self.caller.sees_all()
    }

    async fn text(&self, id: &str, view: EventView) -> Result<Bytes, ApiError> {
        Ok(sse(id, &redact::for_caller(&self.state, &self.caller, view).await?))
    }

    async fn line(&self, team: &TeamId, line: &HistoryLine) -> Result<Bytes, ApiError> {
        let (id, view) = (line.seq.to_string(), EventView::of_line(team, line));
        if self.must_redact(line) { self.text(&id, view).await } else { Ok(sse(&id, &view)) }
    }
}

/// What a wait for news ended with.
enum News {
    Page(Arc<Page>),
    /// Too slow: pages were passed over.
    Behind,
    Silence,
    /// There will be no more.
    Over,
}

async fn news(pages: &mut Receiver<Arc<Page>>) -> News {
    match tokio::time::timeout(ALIVE, pages.recv()).await {
        Ok(Ok(page)) => News::Page(page),
        Ok(Err(RecvError::Lagged(_))) => News::Behind,
        Ok(Err(RecvError::Closed)) => News::Over,
        Err(_) => News::Silence,
    }
}

/// A stream of all jobs' events.
struct AllReader {
    feed: Feed,
    pages: Receiver<Arc<Page>>,
    filter: Filter,
    teller: Teller,
    /// Everything up to this position has been sent, or does not fit.
    last: u64,
    /// Whether the store must be read before the next page fits on.
    behind: bool,
    /// Whether to go on after the last event that there is.
    follow: bool,
    ended: bool,
    _slot: OwnedSemaphorePermit,
}

impl AllReader {
    /// What to send next; `None`: nothing any more.
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, ApiError> {
        loop {
            let texts = if self.behind {
                let (page, missed) = self.feed.read(self.last).await?;
                if missed {
                    return Ok(None);
                }
                self.behind = page.upto > self.last;
                self.go_on(&page).await?
            } else if !self.follow {
                self.ended = true;
                return Ok(None);
            } else {
                match news(&mut self.pages).await {
                    News::Over => return Ok(None),
                    // The position alone: whoever comes again need not look through what did not fit.
                    News::Silence => vec![format!("id: {}\n: alive\n\n", self.last).into()],
                    News::Behind => {
                        self.behind = true;
                        continue;
                    }
                    News::Page(page) if page.upto <= self.last => continue,
                    News::Page(page) if page.after > self.last => {
                        self.behind = true;
                        continue;
                    }
                    News::Page(page) => self.go_on(&page).await?,
                }
            };
            if !texts.is_empty() {
                return Ok(Some(texts));
            }
        }
    }

    async fn go_on(&mut self, page: &Page) -> Result<Vec<Bytes>, ApiError> {
        let texts = self.filter.texts(&self.teller, page, self.last).await?;
        self.last = page.upto;
        Ok(texts)
    }
}

/// A stream of one job's events, read from its history whenever something has happened to it.
struct JobReader {
    teller: Teller,
    pages: Receiver<Arc<Page>>,
    id: JobId,
    team: TeamId,
    /// The last line that has been sent.
    last: u32,
    behind: bool,
    /// Whether to go on after the last line that there is.
    follow: bool,
    ended: bool,
    _slot: OwnedSemaphorePermit,
}

impl JobReader {
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, ApiError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if self.behind {
                let lines = self.teller.state.store.history(self.id, self.last, LINES).await?;
                self.behind = !lines.is_empty();
                if let Some(line) = lines.last() {
                    self.last = line.seq;
                    self.ended = line.to.is_end() && lines.len() < LINES as usize;
                    let mut texts = Vec::with_capacity(lines.len());
                    for line in &lines {
                        texts.push(self.teller.line(&self.team, line).await?);
                    }
                    return Ok(Some(texts));
                }
                continue;
            }
            if !self.follow {
                self.ended = true;
                continue;
            }
            match news(&mut self.pages).await {
                News::Over => return Ok(None),
                News::Silence => return Ok(Some(vec![Bytes::from_static(b": alive\n\n")])),
                News::Behind => self.behind = true,
                News::Page(page) => self.behind = concerns(&page, self.id),
            }
        }
    }
}

/// Whether something may have happened to a job: to be found out by reading. A page without events is the beginning of a
/// feed.
pub(super) fn concerns(page: &Page, job: JobId) -> bool {
    page.events.is_empty() || page.events.iter().any(|p| p.event.line.job == job)
}

enum Reader {
    All(Box<AllReader>),
    Job(Box<JobReader>),
}

impl Reader {
    /// Whether there is no more because it has all been sent.
    fn has_ended(&self) -> bool {
        match self {
            Self::All(all) => all.ended,
            Self::Job(job) => job.ended,
        }
    }
}

/// The stream as an answer. It breaks, and does not end, when the server is to stop or the store fails, so that a reader
/// can tell.
fn answer(state: AppState, reader: Reader, first: Vec<Bytes>) -> Response {
    // Said at once, so that the client knows that it is connected; and how soon to come again.
    let hello = Bytes::from_static(b"retry: 1000\n\n");
    let begin = [vec![hello], first].concat().concat().into();
    let rest = stream::unfold(Some(reader), move |reader| {
        let shutdown = state.shutdown.clone();
        async move {
            let mut reader = reader?;
            let broken = |why: &'static str| Some((Err(io::Error::other(why)), None));
            let next = async {
                match &mut reader {
                    Reader::All(all) => all.next().await,
                    Reader::Job(job) => job.next().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => broken("the server is stopping"),
                next = next => match next {
                    Ok(Some(texts)) => Some((Ok(Bytes::from(texts.concat())), Some(reader))),
                    Ok(None) if reader.has_ended() => None,
                    Ok(None) => broken("events were missed"),
                    Err(error) => {
                        warn!(error = error.problem().detail, "a stream of events broke off");
                        broken("the store can't be read now")
                    }
                },
            }
        }
    });
    let body = stream::StreamExt::chain(stream::iter([Ok::<Bytes, io::Error>(begin)]), rest);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(body)).into_response()
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
