//! Holds the leases of one process and renews them all with one statement.
//!
//! The database's clock decides whether a lease is valid. The holder's own monotonic clock only makes it
//! stop *early*: it starts no effect later than the moment before its last successful renewal was sent, plus
//! the lease's length, minus a margin. So a process that was stopped for a while (SIGSTOP, a long pause)
//! finds out by itself before it calls a cluster, and the store refuses its writes anyway.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use yard_domain::lease::LeaseTerms;
use yard_domain::{Lease, LeaseScope};
use yard_ports::{Store, StoreError};

/// A lease in this process's hands.
#[derive(Debug, Clone)]
pub struct Held {
    state: Arc<Mutex<State>>,
    lost: CancellationToken,
}

#[derive(Debug)]
struct State {
    lease: Lease,
    trusted_until: Instant,
    ttl: Duration,
}

impl Held {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease, to write under. The store checks it again.
    pub fn lease(&self) -> Lease {
        self.lock().lease.clone()
    }

    /// Whether an effect outside the store may be started now.
    pub fn is_trusted(&self) -> bool {
        !self.lost.is_cancelled() && Instant::now() < self.lock().trusted_until
    }

    /// Cancelled once the lease is lost or given back.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// To be called when the store said that it is lost.
    pub fn mark_lost(&self) {
        self.lost.cancel();
    }
}

/// Acquires, renews and gives back leases for one process.
#[derive(Clone)]
pub struct Keeper {
    store: Arc<dyn Store>,
    holder: Arc<str>,
    held: Arc<Mutex<Vec<(Held, LeaseTerms)>>>,
}

impl Keeper {
    /// A keeper for the process called `holder` (unique among live processes).
    pub fn new(store: Arc<dyn Store>, holder: &str) -> Self {
        Self { store, holder: holder.into(), held: Arc::default() }
    }

    /// The process's name.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Whether any lease is still held.
    pub fn holds_any(&self) -> bool {
        self.all().iter().any(|(held, _)| !held.lost.is_cancelled())
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<(Held, LeaseTerms)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acquires the lease of `scope`; `None` if another process holds it.
    pub async fn acquire(&self, scope: &LeaseScope, terms: LeaseTerms) -> Result<Option<Held>, StoreError> {
        let sent = Instant::now();
        let Some(lease) = self.store.acquire_lease(scope, &self.holder, terms.ttl).await? else {
            return Ok(None);
        };
        info!(scope = %scope, token = %lease.token, "acquired lease");
        let state = State { lease, trusted_until: sent + terms.trusted_for(), ttl: terms.ttl };
        let held = Held { state: Arc::new(Mutex::new(state)), lost: CancellationToken::new() };
        self.all().push((held.clone(), terms));
        Ok(Some(held))
    }

    /// Gives a lease back, so that another need not wait for its end.
    pub async fn give_back(&self, held: &Held) {
        self.all().retain(|(h, _)| !Arc::ptr_eq(&h.state, &held.state));
        held.mark_lost();
        let lease = held.lease();
        if let Err(error) = self.store.release_lease(&lease).await {
            warn!(scope = %lease.scope, %error, "could not give the lease back; it will run out");
        }
    }

    /// Renews everything held until `cancel`. Leases with the same length share one statement.
    pub async fn run(self, cancel: CancellationToken) {
        loop {
            let pause = self.shortest_ttl().map_or(Duration::from_millis(200), |ttl| ttl / 4);
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            self.renew_all().await;
        }
    }

    fn shortest_ttl(&self) -> Option<Duration> {
        self.all().iter().map(|(_, terms)| terms.ttl).min()
    }

    async fn renew_all(&self) {
        let mut held: Vec<(Held, LeaseTerms)> = {
            let mut all = self.all();
            all.retain(|(h, _)| !h.lost.is_cancelled());
            all.clone()
        };
        held.sort_by_key(|(_, terms)| terms.ttl);
        for group in held.chunk_by(|a, b| a.1 == b.1) {
            self.renew(group).await;
        }
    }

    async fn renew(&self, group: &[(Held, LeaseTerms)]) {
        let terms = group[0].1;
        let leases: Vec<Lease> = group.iter().map(|(h, _)| h.lease()).collect();
        let sent = Instant::now();
        match self.store.renew_leases(&leases, terms.ttl).await {
            Ok(renewed) => {
                for ((held, _), lease) in group.iter().zip(renewed) {
                    settle(held, lease, sent + terms.trusted_for());
                }
            }
            Err(error) => {
                warn!(%error, "could not renew leases");
                metrics::counter!("yard_lease_renewals_total", "result" => "error").increment(1);
                for (held, _) in group {
                    give_up_if_over(held, sent);
                }
            }
        }
    }
}

fn settle(held: &Held, lease: Option<Lease>, trusted_until: Instant) {
    if let Some(lease) = lease {
        metrics::counter!("yard_lease_renewals_total", "result" => "ok").increment(1);
        let mut state = held.lock();
        state.lease = lease;
        state.trusted_until = trusted_until;
    } else {
        let lease = held.lease();
        warn!(scope = %lease.scope, token = %lease.token, "lease lost");
        metrics::counter!("yard_lease_renewals_total", "result" => "lost").increment(1);
        held.mark_lost();
    }
}

/// With the database away, a lease whose time is certainly over is lost: whoever comes back acquires anew.
fn give_up_if_over(held: &Held, now: Instant) {
    let over = {
        let state = held.lock();
        now > state.trusted_until + state.ttl
    };
    if over {
        held.mark_lost();
    }
}

#[cfg(test)]
impl Held {
    /// A lease that is trusted for so long and not renewed.
    pub(crate) fn trusted_for(lease: Lease, span: Duration) -> Self {
        let state = State { lease, trusted_until: Instant::now() + span, ttl: span };
        Self { state: Arc::new(Mutex::new(state)), lost: CancellationToken::new() }
    }
}
