//! `[access]`, `[[access.issuer]]`: who may come in, and by whose word.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use reqwest::Url;
use yard_domain::{Role, TeamId};
use yard_server::AccessConfig;
use yard_server::access::Freshness;
use yard_server::access::jwt::{IssuerConfig, Mapping, SigningAlgorithm};
use yard_server::access::token::hash;

use super::intake::http_url;
use super::reader::Table;
use super::secret::SecretSource;
use super::service::{secs, to_u32};

/// Shortest operator token that is accepted, in characters.
const BOOTSTRAP_CHARS_MIN: usize = 32;

/// Reads `[access]`. `listen` is where the API listens, if that is known.
pub(super) fn access(root: &mut Table<'_, '_>, listen: Option<SocketAddr>) -> AccessConfig {
    let default = AccessConfig::default();
    let mut t = root.table("access");
    let per_minute = |n: NonZeroU32| u64::from(n.get());
    let requests_per_minute =
        t.integer_or("requests_per_minute", per_minute(default.requests_per_minute), 1..=100_000_000);
    let requests_burst = t.integer_or("requests_burst", per_minute(default.requests_burst), 1..=10_000_000);
    let config = AccessConfig {
        required: t.switch_or("required", true),
        open_metrics: t.switch_or("open_metrics", false),
        bootstrap: bootstrap(&mut t).map(|secret| hash(&secret)),
        requests_per_minute: NonZeroU32::new(to_u32(requests_per_minute))
            .unwrap_or(default.requests_per_minute),
        requests_burst: NonZeroU32::new(to_u32(requests_burst)).unwrap_or(default.requests_burst),
        freshness: Freshness {
            refresh: t.span_or("token_refresh_s", default.freshness.refresh, secs(0, 3_600)),
            outage: t.span_or("token_outage_s", default.freshness.outage, secs(0, 86_400)),
        },
        stream_recheck: t.span_or("stream_recheck_s", default.stream_recheck, secs(1, 3_600)),
        issuers: t.tables("issuer", "name").into_iter().filter_map(issuer).collect(),
    };
    if let (false, Some(listen)) = (config.required, listen)
        && !listen.ip().is_loopback()
    {
        let message = format!(
            "is false, but the API listens on {listen}, where others reach it: remove it, or set server.listen to 127.0.0.1:{}",
            listen.port()
        );
        t.complain("required", message);
    }
    for (i, one) in config.issuers.iter().enumerate() {
        if config.issuers.iter().take(i).any(|other| other.issuer == one.issuer || other.name == one.name) {
            t.complain("issuer", format!("{} stands twice: keep one for each issuer and name", one.name));
        }
    }
    t.finish();
    config
}

/// The operator token: in a file or in the variable that `bootstrap_token_env` names, never in the configuration itself.
fn bootstrap(t: &mut Table<'_, '_>) -> Option<String> {
    if t.is_set("bootstrap_token") {
        t.know_only("bootstrap_token");
        t.complain(
            "bootstrap_token",
            "must not stand here: put it into a file and name that with bootstrap_token_file, or a variable with bootstrap_token_env",
        );
    }
    let (file, variable) = (t.text("bootstrap_token_file"), t.text("bootstrap_token_env"));
    if file.is_some() && variable.is_some() {
        t.complain("bootstrap_token_env", "stands beside bootstrap_token_file: keep one of the two");
    }
    let (key, source) = match (file, variable) {
        (Some(path), _) => ("bootstrap_token_file", SecretSource::File(t.sources().path(path))),
        (None, Some(name)) => ("bootstrap_token_env", SecretSource::Variable(name.to_owned())),
        (None, None) => return None,
    };
    let secret = match source.read(t.sources().environment()) {
        Ok(secret) => secret.expose().to_owned(),
        Err(message) => {
            t.complain(key, message);
            return None;
        }
    };
    if secret.chars().count() < BOOTSTRAP_CHARS_MIN {
        t.complain(
            key,
            format!("holds a token that is too short: use {BOOTSTRAP_CHARS_MIN} random characters or more, such as `openssl rand -hex 32` gives"),
        );
        return None;
    }
    Some(secret)
}

fn issuer(mut t: Table<'_, '_>) -> Option<IssuerConfig> {
    let name = t.text("name").map(str::to_owned);
    if name.is_none() && !t.is_set("name") {
        t.missing("name", "add a short name for histories, such as name = \"corp\"");
    }
    let issuer = t.text("issuer").map(str::to_owned);
    if issuer.is_none() && !t.is_set("issuer") {
        t.missing(
            "issuer",
            "add the issuer as its tokens' iss has it, such as issuer = \"https://login.example.com\"",
        );
    }
    let audience = t.text("audience").map(str::to_owned);
    if audience.is_none() && !t.is_set("audience") {
        t.missing(
            "audience",
            "add the aud of tokens that are for this installation, such as audience = \"switchyard\"",
        );
    }
    let jwks_url = t.parsed("jwks_url", keys_url);
    if let (None, Some(issuer)) = (&jwks_url, &issuer)
        && !t.is_set("jwks_url")
        && let Err(why) = keys_url(issuer)
    {
        t.complain("issuer", format!("{why}; or say with jwks_url where its keys are"));
    }
    let algorithms = t.list("algorithms", |text| {
        let found = SigningAlgorithm::ALL.into_iter().find(|(known, _)| *known == text);
        found
            .map(|(_, algorithm)| algorithm)
            .ok_or_else(|| format!("{text:?} is not one of RS256, ES256, EdDSA"))
    });
    let algorithms =
        algorithms.unwrap_or_else(|| SigningAlgorithm::ALL.map(|(_, algorithm)| algorithm).to_vec());
    if algorithms.is_empty() {
        t.complain("algorithms", "allows none: leave the key out to allow RS256, ES256 and EdDSA");
    }
    let clock_skew = t.span_or("clock_skew_s", Duration::from_mins(1), secs(0, 600));
    let mapping = Mapping {
        role_claim: t.text_or("role_claim", "yard_role").to_owned(),
        roles: map(&mut t, "roles", str::parse::<Role>),
        default_role: t.parsed("default_role", str::parse::<Role>),
        teams_claim: t.text_or("teams_claim", "yard_teams").to_owned(),
        teams: map(&mut t, "teams", str::parse::<TeamId>),
    };
    t.finish();
    Some(IssuerConfig {
        name: name?,
        issuer: issuer?,
        audience: audience?,
        jwks_url,
        algorithms,
        clock_skew,
        mapping,
    })
}

/// What an issuer's words mean here.
fn map<T, E: std::fmt::Display>(
    t: &mut Table<'_, '_>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> BTreeMap<String, T> {
    let mut map = BTreeMap::new();
    for (name, (place, value)) in t.free_table(key) {
        let read = value.as_str().ok_or_else(|| "must be a text in quotes".to_owned());
        match read.and_then(|text| parse(text).map_err(|e| e.to_string())) {
            Ok(value) => _ = map.insert(name.to_owned(), value),
            Err(message) => t.sources().problem(place, format!("{}.{key}.{name}", t.shown()), message),
        }
    }
    map
}

/// Who can change keys on their way here can let anybody in: only over TLS, or on this machine.
fn keys_url(text: &str) -> Result<String, String> {
    let url = http_url(text)?;
    let parsed = Url::parse(&url).map_err(|e| e.to_string())?;
    let host = parsed.host_str().unwrap_or_default();
    let here = ["127.0.0.1", "localhost", "[::1]"].contains(&host);
    if parsed.scheme() == "https" || here { Ok(url) } else { Err("must begin with https://".to_owned()) }
}
