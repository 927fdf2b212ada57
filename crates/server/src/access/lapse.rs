//! What outlasts its request ends with the token that opened it: streams of events, logs that are followed.

use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use futures::{FutureExt, StreamExt, stream};

use super::Access;

/// Looks at a token again and again.
#[derive(Clone)]
pub(crate) struct Lapse {
    access: Arc<Access>,
    /// `None`: nobody asked for one.
    token: Option<Arc<str>>,
    /// How often.
    every: Duration,
}

impl Lapse {
    pub(super) fn new(access: &Arc<Access>, token: Option<&str>) -> Self {
        Self { access: access.clone(), token: token.map(Into::into), every: access.config.stream_recheck }
    }

    /// Comes back when the token has expired or was revoked. That it can't be looked up now is no reason.
    pub(crate) async fn over(self) {
        let Some(token) = self.token else { return std::future::pending().await };
        loop {
            tokio::time::sleep(self.every).await;
            if self.access.identify(&token).await.is_err_and(|error| error.problem().status == 401) {
                return;
            }
        }
    }

    /// Breaks the answer off at that moment, if it is a stream: without its regular end, so that nobody takes it for whole.
    pub(super) fn bound(self, answer: Response) -> Response {
        if answer.body().size_hint().exact().is_some() {
            return answer;
        }
        answer.map(|body| {
            let (mut body, mut over) = (body.into_data_stream(), Box::pin(self.over().fuse()));
            Body::from_stream(stream::poll_fn(move |context| {
                if over.as_mut().poll_unpin(context).is_ready() {
                    return Poll::Ready(Some(Err(axum::Error::new(io::Error::other("the token has ended")))));
                }
                body.poll_next_unpin(context)
            }))
        })
    }
}
