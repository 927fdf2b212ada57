//! `[intake]` and `[[queue]]`: where submissions come from.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Url;
use yard_domain::TeamId;
use yard_engine::settings::IntakeSettings;
use yard_inbox_sqs::{QueueAddress, SqsConfig, SqsCredentials, SqsEndpoint};

use super::reader::Table;
use super::service::{millis, secs, to_u32, to_usize};

/// One queue of submissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// The queue itself.
    pub sqs: SqsConfig,
    /// The teams that it may submit for; `None` is all.
    pub teams: Option<Vec<TeamId>>,
    /// How its messages are taken in.
    pub settings: IntakeSettings,
}

/// Reads `[intake]`: the settings of every queue, but for `receivers`, which each queue has; and how often
/// the teams and clusters that submissions are checked against are read again.
pub(super) fn intake(root: &mut Table<'_, '_>) -> (IntakeSettings, Duration) {
    let default = IntakeSettings::default();
    let mut t = root.table("intake");
    let settings = IntakeSettings {
        receivers: default.receivers,
        batch_max: to_usize(t.integer_or("batch_max", default.batch_max as u64, 1..=5_000)),
        linger: t.span_or("linger_ms", default.linger, millis(0, 10_000)),
        backoff_initial: t.span_or("backoff_initial_ms", default.backoff_initial, millis(1, 60_000)),
        backoff_max: t.span_or("backoff_max_s", default.backoff_max, secs(1, 3_600)),
    };
    if settings.backoff_max < settings.backoff_initial {
        t.complain("backoff_max_s", "must not be below backoff_initial_ms");
    }
    let catalog_refresh = t.span_or("catalog_refresh_ms", Duration::from_secs(1), millis(100, 600_000));
    t.finish();
    (settings, catalog_refresh)
}

/// Reads every `[[queue]]`.
pub(super) fn queues(
    root: &mut Table<'_, '_>,
    intake: IntakeSettings,
    teams: Option<&[TeamId]>,
) -> Vec<QueueConfig> {
    let mut queues: Vec<QueueConfig> = Vec::new();
    for mut t in root.tables("queue", "name") {
        let config = queue(&mut t, intake, teams);
        if let Some(config) = config {
            if queues.iter().any(|q| q.sqs.name == config.sqs.name) {
                t.complain(
                    "name",
                    format!("{:?} is taken by a queue before: give each its own", config.sqs.name),
                );
            }
            if config.sqs.spill && queues.iter().any(|q| q.sqs.spill) {
                t.complain("spill", "is set on a queue before: the API needs one such queue");
            }
            queues.push(config);
        }
        t.finish();
    }
    queues
}

fn queue(t: &mut Table<'_, '_>, intake: IntakeSettings, teams: Option<&[TeamId]>) -> Option<QueueConfig> {
    let name = t.parsed("name", queue_name);
    if name.is_none() && !t.is_set("name") {
        t.missing("name", "add the queue's name, such as name = \"submissions\"");
    }
    let url = t.parsed("url", http_url);
    let endpoint = SqsEndpoint {
        region: t.text("region").map(str::to_owned),
        url: t.parsed("endpoint", http_url),
        credentials: SqsCredentials::Chain,
    };
    let settings = IntakeSettings {
        receivers: to_u32(t.integer_or("receivers", u64::from(intake.receivers), 1..=64)),
        ..intake
    };
    let mut sqs =
        SqsConfig::new(name.clone().unwrap_or_default(), QueueAddress::Name(String::new()), endpoint);
    sqs.queue = url.map_or_else(|| QueueAddress::Name(sqs.name.clone()), QueueAddress::Url);
    sqs.wait = t.span_or("wait_s", SqsConfig::WAIT_MAX, secs(0, 20));
    sqs.visibility = t.span_or("visibility_s", sqs.visibility, secs(5, 43_200));
    sqs.call_timeout = t.span_or("call_timeout_s", sqs.call_timeout, secs(1, 300));
    sqs.spill = t.switch_or("spill", false);
    sqs.dead_letter_url = t.parsed("dead_letter_url", dead_letter_url);
    if sqs.spill && is_fifo(&sqs.queue) {
        let message = "must be a standard queue: submissions have no message group, without which a FIFO one takes nothing";
        t.complain("spill", message);
    }
    // Half of it, because intake extends what it holds at half time.
    if settings.linger >= sqs.visibility / 2 {
        let message =
            "must be more than twice intake.linger_ms, or messages come again while they wait for others";
        t.complain("visibility_s", message);
    }
    let allowed = allowed_teams(t, teams);
    name.map(|_| QueueConfig { sqs, teams: allowed, settings })
}

/// `teams` are those that the file declares, if it declares any.
fn allowed_teams(t: &mut Table<'_, '_>, teams: Option<&[TeamId]>) -> Option<Vec<TeamId>> {
    let known: BTreeSet<&str> = teams.unwrap_or_default().iter().map(TeamId::as_str).collect();
    let known = known.into_iter().collect::<Vec<_>>().join(", ");
    let named = std::cell::Cell::new(false);
    let allowed = t.list("teams", |text| {
        named.set(true);
        match text.parse::<TeamId>() {
            Ok(team) if teams.is_none_or(|teams| teams.contains(&team)) => Ok(team),
            Ok(team) => Err(format!("there is no team {team}: add a [[team]], or use one of {known}")),
            Err(error) => Err(error.to_string()),
        }
    });
    // If it names some, each wrong one has been complained about.
    if !named.get() && allowed.as_ref().is_some_and(Vec::is_empty) {
        t.complain("teams", "allows no team: leave the key out to allow all");
    }
    allowed
}

fn is_fifo(queue: &QueueAddress) -> bool {
    let (QueueAddress::Url(text) | QueueAddress::Name(text)) = queue;
    ends_as_fifo(text)
}

/// SQS's rule: a FIFO queue's name, and so its URL, ends like this.
fn ends_as_fifo(text: &str) -> bool {
    text.rsplit_once('.').is_some_and(|(_, end)| end == "fifo")
}

fn queue_name(text: &str) -> Result<String, String> {
    let fits = text.len() <= 80 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("{text:?} is not a queue's name: use up to 80 of letters, digits, '-', '_'"))
}

fn dead_letter_url(text: &str) -> Result<String, String> {
    let url = http_url(text)?;
    if ends_as_fifo(&url) { Err("must be a standard queue, not a FIFO one".to_owned()) } else { Ok(url) }
}

/// An http(s) URL without credentials in it.
pub(super) fn http_url(text: &str) -> Result<String, String> {
    let parsed = Url::parse(text).ok().filter(|u| ["http", "https"].contains(&u.scheme()) && u.has_host());
    let Some(parsed) = parsed else {
        return Err("is not a URL: it must begin with http:// or https:// and name a host".to_owned());
    };
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("has credentials in it, which must not stand here".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}
