//! The one reader of events of this process. It numbers what has been committed, reads it once and hands it to every
//! stream and waiter; it works only while somebody listens.
//!
//! A listener subscribes first and reads the store afterwards, so nothing falls between the two. Every page says after which
//! position it begins: a listener that is not there yet (or was too slow, or sees the feed begin anew) reads the store
//! by its own position until it is. See docs/adr/0008-events.md.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use yard_ports::store::{EventPage, JobEvent, Store, StoreError};
use yard_wire::views::EventView;

use crate::state::AppState;

/// Pages that a listener may be behind before it reads the store by itself.
const PAGES: usize = 64;
/// Events of a page.
const PAGE: u32 = 500;
/// Transactions whose events are numbered at once.
const NUMBERED: u32 = 256;
/// Pause while another process gives positions.
const BUSY: Duration = Duration::from_millis(10);
/// Pause after the store could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// Events as they are handed out.
pub(crate) struct Page {
    /// The first comes after this position.
    pub(crate) after: u64,
    /// Everything up to this position is in it.
    pub(crate) upto: u64,
    /// Those that there are.
    pub(crate) events: Vec<Published>,
}

/// An event, and how it looks on a stream.
pub(crate) struct Published {
    /// The event.
    pub(crate) event: JobEvent,
    /// As a Server-Sent Event.
    pub(crate) text: Bytes,
}

impl Published {
    fn new(event: JobEvent) -> Self {
        let view = EventView::from(&event);
        let text = sse(&event.pos.to_string(), &view);
        Self { event, text }
    }
}

/// A Server-Sent Event with this id.
pub(crate) fn sse(id: &str, view: &EventView) -> Bytes {
    // A view is texts and numbers only: it always has a JSON form.
    let data = serde_json::to_string(view).unwrap_or_default();
    format!("id: {id}\ndata: {data}\n\n").into()
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Feed(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    shutdown: CancellationToken,
    poll: Duration,
    wake: Notify,
    pages: broadcast::Sender<Arc<Page>>,
    running: Mutex<bool>,
}

impl Feed {
    /// A feed of this server; it begins to read when somebody listens.
    pub(crate) fn new(state: &AppState) -> Self {
        Self(Arc::new(Inner {
            store: state.store.clone(),
            shutdown: state.shutdown.clone(),
            poll: state.config.events_poll,
            wake: Notify::new(),
            pages: broadcast::channel(PAGES).0,
            running: Mutex::new(false),
        }))
    }

    /// Something was committed in this process.
    pub(crate) fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Every page from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Arc<Page>> {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let pages = self.0.pages.subscribe();
        if !*running {
            *running = true;
            tokio::spawn(self.0.clone().run());
        }
        pages
    }

    /// What came after a position, from the store.
    pub(crate) async fn read(&self, after: u64) -> Result<(Page, bool), StoreError> {
        let EventPage { events, upto, missed } = self.0.store.events(after, PAGE).await?;
        Ok((Page { after, upto, events: events.into_iter().map(Published::new).collect() }, missed))
    }

    /// The position of the last event that has been committed by now. Waits while another process gives positions, which
    /// may be to what was committed before; the time that a request may take bounds it. What is committed meanwhile is not
    /// waited for: a step with room left (each transaction has a line at least) has seen all that there was.
    pub(crate) async fn head(&self) -> Result<u64, StoreError> {
        loop {
            match self.0.store.number_events(NUMBERED).await? {
                Some(lines) if lines < u64::from(NUMBERED) => return self.0.store.event_head().await,
                Some(_) => {}
                None => tokio::time::sleep(BUSY).await,
            }
        }
    }
}

impl Inner {
    async fn run(self: Arc<Self>) {
        debug!("events are read");
        let mut at: Option<u64> = None;
        loop {
            if self.shutdown.is_cancelled() || self.nobody_listens() {
                debug!("nobody listens to events");
                return;
            }
            let pause = match self.step(&mut at).await {
                Ok(true) => continue,
                Ok(false) => self.poll,
                Err(error) => {
                    warn!(%error, "events can't be read; trying again");
                    PAUSE
                }
            };
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Ends the reading if so; whoever listens next begins it anew.
    fn nobody_listens(&self) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = self.pages.receiver_count() > 0;
        !*running
    }

    /// Reads a page; whether there was anything.
    async fn step(&self, at: &mut Option<u64>) -> Result<bool, StoreError> {
        let numbered = self.store.number_events(NUMBERED).await?.is_some_and(|lines| lines > 0);
        let Some(after) = *at else {
            // Listeners who are not there yet read on by themselves.
            let head = self.store.event_head().await?;
            *at = Some(head);
            self.hand_out(Page { after: head, upto: head, events: Vec::new() });
            return Ok(true);
        };
        let EventPage { events, upto, missed } = self.store.events(after, PAGE).await?;
        if missed {
            *at = None;
            return Ok(true);
        }
        if upto == after {
            return Ok(numbered);
        }
        *at = Some(upto);
        self.hand_out(Page { after, upto, events: events.into_iter().map(Published::new).collect() });
        Ok(true)
    }

    fn hand_out(&self, page: Page) {
        metrics::counter!("yard_events_total").increment(page.events.len() as u64);
        // Nobody listens any more: noticed at the next step.
        _ = self.pages.send(Arc::new(page));
    }
}
