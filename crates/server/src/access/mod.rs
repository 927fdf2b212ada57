//! Who may do what. docs/access.md is the handbook, docs/adr/0007-access.md has the reasons.
//!
//! - [`gate`]: every request goes through it
//! - [`rules`]: which right each route takes
//! - [`Caller`]: who is asking, as handlers see it
//! - [`token`], [`known`]: API tokens, and those that were looked up lately
//! - [`lapse`]: the end of what outlasts its request
//! - [`jwt`]: tokens of issuers that are trusted (OIDC)
//! - [`redact`]: other teams' names out of what the planner says

mod caller;
pub(crate) mod gate;
pub mod jwt;
mod known;
pub(crate) mod lapse;
pub(crate) mod redact;
pub(crate) mod rules;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_doors;
pub mod token;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tracing::warn;
use yard_domain::{ApiToken, Grant, SecretHash, TokenId};
use yard_ports::Store;
use yard_wire::views::ProblemCode;

pub use caller::{Caller, Identity};
pub use known::Freshness;

use crate::problem::ApiError;

/// A token's use is noted at most so often.
const TOUCH_APART: Duration = Duration::from_mins(1);
/// After so many new callers, those that have been silent are forgotten.
const CALLERS_MAX: usize = 10_000;

/// How access is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessConfig {
    /// Whether a token is needed at all. Default true.
    pub required: bool,
    /// Whether metrics are shown without one. Default false.
    pub open_metrics: bool,
    /// The hash of an operator token that stands in no database.
    pub bootstrap: Option<SecretHash>,
    /// Requests of one caller in a minute. Default 60,000.
    pub requests_per_minute: NonZeroU32,
    /// Requests of one caller at once, after a silence. Default 2,000.
    pub requests_burst: NonZeroU32,
    /// How long what was looked up counts.
    pub freshness: Freshness,
    /// How often the token of a stream that is open is looked at again. Default 30 s.
    pub stream_recheck: Duration,
    /// Issuers that are trusted.
    pub issuers: Vec<jwt::IssuerConfig>,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            required: true,
            open_metrics: false,
            bootstrap: None,
            requests_per_minute: NonZeroU32::MIN.saturating_add(59_999),
            requests_burst: NonZeroU32::MIN.saturating_add(1_999),
            freshness: Freshness::default(),
            stream_recheck: Duration::from_secs(30),
            issuers: Vec::new(),
        }
    }
}

/// Finds out who is asking.
pub struct Access {
    store: Arc<dyn Store>,
    config: AccessConfig,
    known: known::Known,
    issuers: jwt::Issuers,
    rates: DefaultKeyedRateLimiter<Identity>,
}

impl std::hash::Hash for Identity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.to_string().hash(state);
    }
}

/// The answer to a token that is not good, or to none.
fn refused(detail: &str) -> ApiError {
    ApiError::new(ProblemCode::Unauthorized, detail)
}

impl Access {
    /// By this configuration; `fetch` gets the issuers' keys.
    pub fn new(store: Arc<dyn Store>, config: AccessConfig, fetch: Arc<dyn jwt::FetchKeys>) -> Self {
        let quota = Quota::per_minute(config.requests_per_minute).allow_burst(config.requests_burst);
        let known = known::Known::new(config.freshness);
        let issuers = jwt::Issuers::new(&config.issuers, fetch);
        Self { store, config, known, issuers, rates: RateLimiter::keyed(quota) }
    }

    /// Whether metrics are shown to anybody.
    pub(crate) fn open_metrics(&self) -> bool {
        self.config.open_metrics || !self.config.required
    }

    /// Who sent this token.
    pub(crate) async fn authenticate(
        &self,
        token: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Caller, ApiError> {
        let Some(token) = token else {
            if self.config.required {
                metrics::counter!("yard_auth_failures_total", "reason" => "no_token").increment(1);
                return Err(refused("send a token: Authorization: Bearer TOKEN"));
            }
            return Ok(Caller::new(Identity::Anonymous, Grant::operator(), address));
        };
        let found = self.identify(token).await;
        if let Err(error) = &found
            && error.problem().status == 401
        {
            metrics::counter!("yard_auth_failures_total", "reason" => "bad_token").increment(1);
        }
        let (identity, grant) = found?;
        Ok(Caller::new(identity, grant, address))
    }

    async fn identify(&self, token: &str) -> Result<(Identity, Grant), ApiError> {
        if self.config.bootstrap.is_some_and(|known| token::is_same(known, token::hash(token))) {
            return Ok((Identity::Bootstrap, Grant::operator()));
        }
        if let Some((id, secret)) = token::parse(token) {
            let found = self.known.find(self.store.as_ref(), &id).await?;
            let found = found.filter(|kept| token::is_same(kept.secret, secret));
            let found = found.ok_or_else(|| refused("the token is not known, has expired or was revoked"))?;
            self.note_use(&found);
            return Ok((Identity::Token { id: found.id, name: found.name }, found.grant));
        }
        self.issuers.identify(token).await
    }

    /// Counts a request against its caller's rate.
    pub(crate) fn count(&self, caller: &Caller) -> Result<(), ApiError> {
        if self.rates.len() > CALLERS_MAX {
            self.rates.retain_recent();
        }
        self.rates.check_key(caller.identity()).map_err(|not_until| {
            metrics::counter!("yard_requests_refused_total").increment(1);
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            let seconds = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
            let detail =
                format!("at most {} a minute: send it again in {seconds} s", self.config.requests_per_minute);
            ApiError::new(ProblemCode::TooManyRequests, detail).retry_after(seconds)
        })
    }

    /// A token that was revoked here ends at once.
    pub(crate) fn forget(&self, id: &TokenId) {
        self.known.forget(id);
    }

    /// Nobody waits for it, and a note that is lost does no harm.
    fn note_use(&self, token: &ApiToken) {
        if !self.known.use_is_due(&token.id, TOUCH_APART) {
            return;
        }
        let (store, id) = (self.store.clone(), token.id.clone());
        tokio::spawn(async move {
            if let Err(error) = store.touch_token(&id, TOUCH_APART).await {
                warn!(%id, %error, "that a token was used could not be noted");
            }
        });
    }
}
