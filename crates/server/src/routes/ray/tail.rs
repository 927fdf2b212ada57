//! `/api/jobs/{id}/logs/tail`: a log over a WebSocket, from before the job runs until it has ended, over every attempt.

use std::time::Duration;

use axum::Extension;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;
use yard_domain::{AttemptNumber, JobId};
use yard_ports::store::AttemptView;
use yard_wire::ray::is_final;
use yard_wire::views::ProblemCode;

use super::{RayError, find};
use crate::access::Caller;
use crate::access::lapse::Lapse;
use crate::logs::{self, Wish};
use crate::routes::logs::Streams;
use crate::state::AppState;

/// How often the log of an attempt that has ended is asked for before it is given up.
const TRIES_MAX: u32 = 5;
/// How long the client has to answer that it has seen the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn tail(
    State(state): State<AppState>,
    caller: Caller,
    Extension(streams): Extension<Streams>,
    Extension(lapse): Extension<Lapse>,
    Path(id): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, RayError> {
    let job = find(&state, &caller, &headers, &id).await?.lifecycle.id;
    let slot = streams.take()?;
    Ok(upgrade.on_upgrade(move |socket| serve(state, job, socket, lapse, slot)))
}

async fn serve(state: AppState, job: JobId, socket: WebSocket, lapse: Lapse, _slot: OwnedSemaphorePermit) {
    let (mut sink, mut stream) = socket.split();
    let shutdown = state.shutdown.clone();
    let ended = tokio::select! {
        biased;
        // Without a closing handshake, so that the client takes it for what it is: a log that broke off.
        () = shutdown.cancelled() => false,
        () = lapse.over() => false,
        () = gone(&mut stream) => false,
        sent = Tail { state: &state, job, sink: &mut sink }.run() => sent.is_ok(),
    };
    if ended {
        let end = CloseFrame { code: close_code::NORMAL, reason: "".into() };
        _ = sink.send(Message::Close(Some(end))).await;
        _ = tokio::time::timeout(CLOSE_TIMEOUT, gone(&mut stream)).await;
    }
}

/// Until the client has closed. What it says before doesn't matter.
async fn gone(stream: &mut SplitStream<WebSocket>) {
    while let Some(Ok(message)) = stream.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
    }
}

/// The client is not there any more.
struct Gone;

/// A log broke off, or can't be opened now.
struct Broken {
    /// Nobody has a log of this attempt.
    over: bool,
}

struct Tail<'a> {
    state: &'a AppState,
    job: JobId,
    sink: &'a mut SplitSink<WebSocket, Message>,
}

/// How far an attempt's log has been sent.
struct Position {
    attempt: AttemptNumber,
    offset: u64,
    /// The beginning of a character whose rest has not come yet.
    pending: Vec<u8>,
    tries: u32,
}

impl Tail<'_> {
    /// Sends until the job has ended.
    async fn run(mut self) -> Result<(), Gone> {
        let mut done: Option<AttemptNumber> = None;
        let mut at: Option<Position> = None;
        loop {
            // While the store doesn't answer, the job goes on, and so does the tail.
            let found = self.state.store.job(self.job).await;
            let Ok(found) = found else {
                self.pause().await;
                continue;
            };
            let Some(job) = found else { return Ok(()) };
            // Who comes late is shown the last attempt, and from then on every one.
            let first = done.map_or_else(|| job.attempts.last().map(|a| a.number), |done| Some(done.next()));
            let next = first.and_then(|first| job.attempts.iter().find(|a| a.number >= first));
            let Some(attempt) = next.filter(|a| a.started_at.is_some() || a.ended_at.is_some()) else {
                if is_final(&job.lifecycle.state) {
                    return Ok(());
                }
                self.pause().await;
                continue;
            };
            let mut position = at.take().filter(|p| p.attempt == attempt.number).unwrap_or(Position {
                attempt: attempt.number,
                offset: 0,
                pending: Vec::new(),
                tries: 0,
            });
            match self.send_log(attempt, &mut position).await? {
                Ok(()) => done = Some(attempt.number),
                Err(broken) => {
                    debug!(job = %self.job, attempt = %attempt.number, "a log is taken up again");
                    position.tries += 1;
                    // Nothing more comes of one that never wrote a log, or whose cluster is gone.
                    let over = broken.over || position.tries >= TRIES_MAX;
                    if attempt.ended_at.is_some() && over {
                        done = Some(attempt.number);
                    }
                    at = Some(position);
                    self.pause().await;
                }
            }
        }
    }

    /// Sends an attempt's log from where it stands to its end.
    async fn send_log(
        &mut self,
        attempt: &AttemptView,
        position: &mut Position,
    ) -> Result<Result<(), Broken>, Gone> {
        let wish = Wish { offset: position.offset, follow: true, plain: true };
        let mut log = match logs::open(self.state, self.job, attempt, wish).await {
            Ok(log) => log,
            Err(error) => return Ok(Err(Broken { over: error.code() == ProblemCode::NoLog })),
        };
        position.offset = log.offset;
        while let Some(chunk) = log.bytes.next().await {
            let Ok(chunk) = chunk else { return Ok(Err(Broken { over: false })) };
            position.tries = 0;
            let text = position.text(&chunk);
            if !text.is_empty() {
                self.sink.send(Message::Text(text.into())).await.map_err(|_| Gone)?;
            }
        }
        Ok(Ok(()))
    }

    async fn pause(&self) {
        tokio::time::sleep(self.state.ray.config.tail_poll).await;
    }
}

impl Position {
    /// What may be sent now: whole characters; what is no UTF-8 is shown as such.
    fn text(&mut self, chunk: &Bytes) -> String {
        self.offset += chunk.len() as u64;
        self.pending.extend_from_slice(chunk);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    text.push_str(whole);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (whole, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(whole));
                    let Some(bad) = error.error_len() else {
                        rest = after;
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[bad..];
                }
            }
        }
        self.pending = rest.to_vec();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_never_cut() {
        let mut at = Position { attempt: AttemptNumber(1), offset: 0, pending: Vec::new(), tries: 0 };
        let all = "aä€𝄞\n".as_bytes();
        let sent: String = all.iter().map(|b| at.text(&Bytes::copy_from_slice(&[*b]))).collect();
        assert_eq!((sent.as_str(), at.offset, at.pending.len()), ("aä€𝄞\n", all.len() as u64, 0));
        assert_eq!(at.text(&Bytes::from_static(b"x\xffy\xc3")), "x\u{fffd}y");
        assert_eq!(at.text(&Bytes::from_static(b"\xa4")), "ä");
    }
}
