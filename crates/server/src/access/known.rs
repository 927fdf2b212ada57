//! Tokens that were looked up lately, so that a request costs no journey to the database, and one that was good goes on
//! being good for a while when the database is away.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use yard_domain::{ApiToken, TokenId};
use yard_ports::access::TokenAsOf;
use yard_ports::{AccessStore, StoreError};

/// Most tokens remembered; beyond it all are forgotten.
const KNOWN_MAX: usize = 10_000;
/// Most that are looked up at once: somebody who sends made-up tokens must not keep the database busy.
const LOOKUPS_MAX: usize = 8;

/// How long what was looked up counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Without asking again: how late a token that was revoked elsewhere ends here. Default 5 s.
    pub refresh: Duration,
    /// While the database can't be asked. Default 10 min.
    pub outage: Duration,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { refresh: Duration::from_secs(5), outage: Duration::from_mins(10) }
    }
}

#[derive(Clone)]
struct Entry {
    /// `None`: there is no such token.
    token: Option<ApiToken>,
    /// Just before it was asked for: it is as of then or later.
    asked: Instant,
    /// When it ends; `None`: never.
    ends: Option<Instant>,
}

impl Entry {
    fn new(found: Option<TokenAsOf>, asked: Instant) -> Self {
        let Some(TokenAsOf { token, now }) = found else { return Self { token: None, asked, ends: None } };
        // The database's clock says when; ours only how long from here.
        let left = |at: yard_domain::Timestamp| if at.is_due(now) { Duration::ZERO } else { at.since(now) };
        let ends = token.expires_at.and_then(|at| asked.checked_add(left(at)));
        Self { token: Some(token), asked, ends }
    }

    fn good(&self, now: Instant) -> Option<&ApiToken> {
        self.token.as_ref().filter(|t| t.revoked_at.is_none() && self.ends.is_none_or(|ends| now < ends))
    }
}

/// See the module.
pub(super) struct Known {
    entries: Mutex<HashMap<TokenId, Entry>>,
    noted: Mutex<HashMap<TokenId, Instant>>,
    lookups: Semaphore,
    freshness: Freshness,
}

impl Known {
    pub(super) fn new(freshness: Freshness) -> Self {
        let (entries, noted) = (Mutex::default(), Mutex::default());
        Self { entries, noted, lookups: Semaphore::new(LOOKUPS_MAX), freshness }
    }

    /// The token, if it is good now.
    pub(super) async fn find(
        &self,
        store: &dyn AccessStore,
        id: &TokenId,
    ) -> Result<Option<ApiToken>, StoreError> {
        if let Some(entry) = self.within(id, self.freshness.refresh) {
            return Ok(entry.good(Instant::now()).cloned());
        }
        let closed = |_| StoreError::Unavailable("the process is stopping".to_owned());
        let _slot = self.lookups.acquire().await.map_err(closed)?;
        let asked = Instant::now();
        match store.token(id).await {
            Ok(found) => {
                let entry = Entry::new(found, asked);
                let good = entry.good(asked).cloned();
                self.keep(id, entry);
                Ok(good)
            }
            Err(error) => match self.within(id, self.freshness.outage) {
                Some(entry) if matches!(error, StoreError::Unavailable(_)) && entry.token.is_some() => {
                    Ok(entry.good(Instant::now()).cloned())
                }
                _ => Err(error),
            },
        }
    }

    /// Forgets a token: it was revoked here, and ends at once.
    pub(super) fn forget(&self, id: &TokenId) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Whether its use is to be noted now, which is then not due again for `apart`.
    pub(super) fn use_is_due(&self, id: &TokenId, apart: Duration) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= KNOWN_MAX {
            noted.clear();
        }
        let due = noted.get(id).is_none_or(|at| at.elapsed() >= apart);
        if due {
            noted.insert(id.clone(), Instant::now());
        }
        due
    }

    fn keep(&self, id: &TokenId, entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= KNOWN_MAX && !entries.contains_key(id) {
            entries.clear();
        }
        entries.insert(id.clone(), entry);
    }

    fn within(&self, id: &TokenId, span: Duration) -> Option<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(id).filter(|entry| entry.asked.elapsed() < span).cloned()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use yard_domain::{AuditEntry, AuditLine, Grant, SecretHash, Timestamp};
    use yard_ports::access::NewToken;

    use super::*;

    /// A store with one token, which counts how often it is asked and can be away.
    struct OneToken {
        token: Mutex<ApiToken>,
        now_us: i64,
        asked: Mutex<u32>,
        is_away: Mutex<bool>,
    }

    impl OneToken {
        fn new(expires_us: Option<i64>) -> Self {
            let token = ApiToken {
                id: TokenId::new(1),
                name: "t".to_owned(),
                grant: Grant::operator(),
                secret: SecretHash([1; 32]),
                created_by: "ann".to_owned(),
                created_at: Timestamp::from_micros(0),
                expires_at: expires_us.map(Timestamp::from_micros),
                last_used_at: None,
                revoked_at: None,
            };
            Self {
                token: Mutex::new(token),
                now_us: 1_000_000,
                asked: Mutex::default(),
                is_away: Mutex::default(),
            }
        }

        fn asked(&self) -> u32 {
            *self.asked.lock().unwrap()
        }

        fn revoke(&self) {
            self.token.lock().unwrap().revoked_at = Some(Timestamp::from_micros(self.now_us));
        }
    }

    fn away<T>() -> Result<T, StoreError> {
        Err(StoreError::Unavailable("away".to_owned()))
    }

    #[async_trait]
    impl AccessStore for OneToken {
        async fn token(&self, id: &TokenId) -> Result<Option<TokenAsOf>, StoreError> {
            *self.asked.lock().unwrap() += 1;
            if *self.is_away.lock().unwrap() {
                return away();
            }
            let token = self.token.lock().unwrap().clone();
            Ok((token.id == *id).then(|| TokenAsOf { token, now: Timestamp::from_micros(self.now_us) }))
        }

        async fn create_token(&self, _: &NewToken) -> Result<ApiToken, StoreError> {
            away()
        }

        async fn tokens(&self, _: Option<&TokenId>, _: u32) -> Result<Vec<ApiToken>, StoreError> {
            away()
        }

        async fn revoke_token(&self, _: &TokenId) -> Result<Option<ApiToken>, StoreError> {
            away()
        }

        async fn touch_token(&self, _: &TokenId, _: Duration) -> Result<(), StoreError> {
            away()
        }

        async fn write_audit(&self, _: &AuditEntry) -> Result<(), StoreError> {
            away()
        }

        async fn audit_log(&self, _: Option<i64>, _: u32) -> Result<Vec<AuditLine>, StoreError> {
            away()
        }

        async fn purge_access(&self, _: Duration, _: u32) -> Result<u32, StoreError> {
            away()
        }
    }

    const LONG: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn what_was_looked_up_lately_is_not_asked_for_again_until_it_is_forgotten() {
        let (store, known) = (OneToken::new(None), Known::new(Freshness { refresh: LONG, outage: LONG }));
        let (good, other) = (TokenId::new(1), TokenId::new(2));
        for _ in 0..3 {
            assert!(known.find(&store, &good).await.unwrap().is_some());
            assert!(known.find(&store, &other).await.unwrap().is_none());
        }
        assert_eq!(store.asked(), 2);
        store.revoke();
        assert!(known.find(&store, &good).await.unwrap().is_some(), "another process does not know yet");
        known.forget(&good);
        assert!(known.find(&store, &good).await.unwrap().is_none());
        assert!(known.use_is_due(&good, LONG) && !known.use_is_due(&good, LONG));
    }

    #[tokio::test]
    async fn a_token_that_was_good_is_good_while_the_database_is_away_and_only_such_a_one() {
        let (store, known) =
            (OneToken::new(None), Known::new(Freshness { refresh: Duration::ZERO, outage: LONG }));
        assert!(known.find(&store, &TokenId::new(1)).await.unwrap().is_some());
        assert!(known.find(&store, &TokenId::new(2)).await.unwrap().is_none());
        *store.is_away.lock().unwrap() = true;
        assert!(known.find(&store, &TokenId::new(1)).await.unwrap().is_some());
        for unknown in [2, 3] {
            assert!(
                known.find(&store, &TokenId::new(unknown)).await.is_err(),
                "it may have been made meanwhile"
            );
        }
        let strict = Known::new(Freshness { refresh: Duration::ZERO, outage: Duration::ZERO });
        assert!(strict.find(&store, &TokenId::new(1)).await.is_err());
    }

    #[tokio::test]
    async fn a_token_ends_by_the_database_s_clock_also_while_it_is_remembered() {
        let known = Known::new(Freshness { refresh: LONG, outage: LONG });
        let over = OneToken::new(Some(1_000_000));
        assert!(known.find(&over, &TokenId::new(1)).await.unwrap().is_none(), "it ends now");
        let known = Known::new(Freshness { refresh: LONG, outage: LONG });
        let soon = OneToken::new(Some(1_000_000 + 30_000)); // 30 ms from its now
        assert!(known.find(&soon, &TokenId::new(1)).await.unwrap().is_some());
        while known.find(&soon, &TokenId::new(1)).await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
        assert_eq!(soon.asked(), 1);
    }
}
