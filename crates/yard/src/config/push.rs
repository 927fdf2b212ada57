//! `[push]` and `[[team.push]]`: what is pushed to whom, and how.

use std::time::Duration;

use yard_domain::{PushKinds, PushName, PushRetry, SubscriptionId, TeamId};
use yard_engine::settings::PushSettings;
use yard_inbox_sqs::{SqsCredentials, SqsEndpoint};
use yard_webhook::{AddressPolicy, Secret as WebhookSecret};

use super::intake::http_url;
use super::loops::lease;
use super::reader::Table;
use super::secret::{SecretSource, declared};
use super::service::{millis, secs, to_u32, to_usize};

const DAY: Duration = Duration::from_hours(24);
/// Deliveries of one subscription under way at once, unless it says otherwise.
const IN_FLIGHT: u64 = 8;
/// Longest attempt, unless the subscription says otherwise.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How pushes go out of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushLimits {
    /// The loops.
    pub settings: PushSettings,
    /// Which receivers may be called.
    pub policy: AddressPolicy,
}

/// A subscription as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushConfig {
    /// Whose, and its name.
    pub id: SubscriptionId,
    /// What it is told.
    pub kinds: PushKinds,
    /// When a delivery is tried again.
    pub retry: PushRetry,
    /// Most deliveries under way at once.
    pub in_flight_max: usize,
    /// Longest attempt.
    pub timeout: Duration,
    /// Where to.
    pub target: PushTarget,
}

/// Where pushes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushTarget {
    /// A receiver that is called.
    Webhook {
        /// Its URL.
        url: String,
        /// What messages are signed with.
        secret: SecretSource,
        /// While it is being replaced: what they are signed with as well.
        second_secret: Option<SecretSource>,
    },
    /// A queue.
    Sqs {
        /// Its URL.
        url: String,
        /// Where SQS is spoken.
        endpoint: SqsEndpoint,
    },
}

impl PushConfig {
    /// The subscription in words. Secrets are only named.
    pub fn summary(&self) -> String {
        let kinds = match self.kinds {
            PushKinds { verdicts: true, ends: true } => "verdicts and ends",
            PushKinds { verdicts: true, ends: false } => "verdicts",
            PushKinds { .. } => "ends",
        };
        let target = match &self.target {
            PushTarget::Sqs { url, endpoint } => {
                let at = endpoint.url.as_ref().map_or_else(String::new, |url| format!(" at {url}"));
                let region = endpoint.region.as_ref().map_or_else(String::new, |r| format!(" in {r}"));
                format!("the queue {url}{region}{at}")
            }
            PushTarget::Webhook { url, secret, second_secret } => {
                let second =
                    second_secret.as_ref().map_or_else(String::new, |s| format!(" and {}", named(s)));
                format!("{url}, signed with the secret {}{second}", named(secret))
            }
        };
        let PushRetry { attempts_max, backoff_initial, backoff_max } = self.retry;
        format!(
            "{kinds} to {target}; {attempts_max} attempts of {} s, {} to {} s apart; {} at once",
            self.timeout.as_secs(),
            backoff_initial.as_secs(),
            backoff_max.as_secs(),
            self.in_flight_max
        )
    }
}

fn named(secret: &SecretSource) -> String {
    match secret {
        SecretSource::File(path) => format!("in {}", path.display()),
        SecretSource::Variable(name) => format!("in the variable {name}"),
    }
}

/// Reads `[push]`.
pub(super) fn push(root: &mut Table<'_, '_>) -> PushLimits {
    let default = PushSettings::default();
    let mut t = root.table("push");
    let settings = PushSettings {
        lease: lease(&mut t, default.lease),
        election_interval: t.span_or("election_interval_ms", default.election_interval, millis(10, 60_000)),
        poll_interval: t.span_or("poll_interval_ms", default.poll_interval, millis(10, 60_000)),
        page_max: to_u32(t.integer_or("page_max", u64::from(default.page_max), 1..=5_000)),
        pending_max: to_u32(t.integer_or("pending_max", u64::from(default.pending_max), 1..=10_000_000)),
        keep_dead: t.span_or("dead_keep_days", default.keep_dead, DAY..DAY * 366),
        ..default
    };
    let policy = AddressPolicy {
        allow_private: t.switch_or("allow_private", false),
        allow: t.list("allow", network).unwrap_or_default(),
        allow_http: t.switch_or("allow_http", false),
    };
    t.finish();
    PushLimits { settings, policy }
}

/// A network, or a single address.
fn network(text: &str) -> Result<ipnet::IpNet, String> {
    let net = text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from));
    net.ok_or_else(|| format!("{text:?} is no network: write it like 10.1.0.0/16 or 10.1.2.3"))
}

/// Reads every `[[team.push]]` of a team.
pub(super) fn subscriptions(t: &mut Table<'_, '_>, team: Option<&TeamId>) -> Vec<PushConfig> {
    let mut found: Vec<PushConfig> = Vec::new();
    for mut p in t.tables("push", "name") {
        let name = p.parsed("name", str::parse::<PushName>);
        if name.is_none() && !p.is_set("name") {
            p.missing("name", "add the subscription's name, such as name = \"results\"");
        }
        let id = team.zip(name).map(|(team, name)| SubscriptionId { team: team.clone(), name });
        if let Some(config) = subscription(&mut p, id) {
            if found.iter().any(|other| other.id == config.id) {
                let name = &config.id.name;
                p.complain("name", format!("{name} is taken by a subscription before: give each its own"));
            }
            found.push(config);
        }
        p.finish();
    }
    found
}

/// `None` if something is wrong with it; everything about it has been looked at all the same.
fn subscription(p: &mut Table<'_, '_>, id: Option<SubscriptionId>) -> Option<PushConfig> {
    let (kinds, retry) = (kinds(p), retry(p));
    let in_flight_max = to_usize(p.integer_or("in_flight_max", IN_FLIGHT, 1..=1_000));
    let timeout = p.span_or("timeout_s", TIMEOUT, secs(1, 300));
    let target = target(p);
    Some(PushConfig { id: id?, kinds, retry, in_flight_max, timeout, target: target? })
}

fn kinds(p: &mut Table<'_, '_>) -> PushKinds {
    let word = |text: &str| match text {
        "verdicts" => Ok(true),
        "ends" => Ok(false),
        _ => Err(format!("{text:?} is no kind of event: use \"verdicts\", \"ends\" or both")),
    };
    let Some(words) = p.list("events", word) else { return PushKinds::default() };
    if words.is_empty() {
        p.complain("events", "names no kind of event: use \"verdicts\", \"ends\" or both");
    }
    PushKinds { verdicts: words.contains(&true), ends: words.contains(&false) }
}

fn retry(p: &mut Table<'_, '_>) -> PushRetry {
    let default = PushRetry::default();
    let retry = PushRetry {
        attempts_max: to_u32(p.integer_or("attempts_max", u64::from(default.attempts_max), 1..=1_000)),
        backoff_initial: p.span_or("backoff_initial_s", default.backoff_initial, secs(1, 86_400)),
        backoff_max: p.span_or("backoff_max_s", default.backoff_max, secs(1, 604_800)),
    };
    if retry.backoff_max < retry.backoff_initial {
        p.complain("backoff_max_s", "must not be below backoff_initial_s");
    }
    retry
}

fn target(p: &mut Table<'_, '_>) -> Option<PushTarget> {
    let (url, sqs) = (p.parsed("url", webhook_url), p.parsed("sqs", http_url));
    let secret = declared(p, ["secret", "secret_file", "secret_env"], webhook_secret);
    let second_secret = secret_of_rotation(p);
    let region = p.text("region").map(str::to_owned);
    let endpoint = p.parsed("endpoint", http_url);
    match (p.is_set("url"), p.is_set("sqs")) {
        (true, true) => p.complain("sqs", "stands beside url: keep one of the two"),
        (false, false) => {
            p.missing("url", "add url = \"https://…\" for a webhook, or sqs = \"https://…\" for a queue");
        }
        (true, false) => {
            for key in ["region", "endpoint"].into_iter().filter(|key| p.is_set(key)) {
                p.complain(key, "belongs to a queue, and this is a webhook: take it out");
            }
            if secret.is_none() && !p.is_set("secret_file") && !p.is_set("secret_env") && !p.is_set("secret")
            {
                p.missing(
                    "secret_env",
                    "name the variable (or with secret_file the file) that has its secret",
                );
            }
            let (url, secret) = (url?, secret?);
            return Some(PushTarget::Webhook { url, secret, second_secret });
        }
        (false, true) => {
            let keys = ["secret_file", "secret_env", "second_secret_file", "second_secret_env"];
            for key in keys.into_iter().filter(|key| p.is_set(key)) {
                p.complain(key, "belongs to a webhook, and this is a queue: take it out");
            }
            let url = sqs?;
            let region = region.or_else(|| region_of(&url));
            let endpoint = SqsEndpoint { region, url: endpoint, credentials: SqsCredentials::Chain };
            return Some(PushTarget::Sqs { url, endpoint });
        }
    }
    None
}

/// Without TLS it is refused at the call, unless the servers allow it: what they allow is not a catalog's to know.
fn webhook_url(text: &str) -> Result<String, String> {
    http_url(text)?;
    // As written: a slash at the end may mean something.
    Ok(text.to_owned())
}

/// The region in an AWS queue's URL.
fn region_of(url: &str) -> Option<String> {
    let host = url.split("://").nth(1)?.split('/').next()?;
    let region = host.strip_prefix("sqs.")?.strip_suffix(".amazonaws.com")?;
    Some(region.to_owned())
}

fn secret_of_rotation(p: &mut Table<'_, '_>) -> Option<SecretSource> {
    declared(p, ["second_secret", "second_secret_file", "second_secret_env"], webhook_secret)
}

fn webhook_secret(text: &str) -> Result<(), String> {
    WebhookSecret::parse(text).map(drop).map_err(|e| e.to_string())
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
