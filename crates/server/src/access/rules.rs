//! Which right each route takes, in one table. A route that is not in it is closed to everybody; a test holds it to the
//! API's description.
//!
//! Here stands what may be done *at all*; for which team is the handler's to ask, because only it knows whose job it is.

use axum::http::Method;
use yard_domain::Right;

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Anybody, without a token.
    Anybody,
    /// Whoever was given the link, until it ends: what is signed into the path takes the place of a token.
    Link,
    /// Whoever has this right for some team.
    Has(Right),
    /// Whoever has this right, or anybody if metrics are open.
    Metrics(Right),
}

/// What holds for a route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    method: &'static str,
    path: &'static str,
    /// Who may come in.
    pub(crate) who: Who,
    /// If it changes something: its word in the audit log.
    pub(crate) action: Option<&'static str>,
}

const fn get(path: &'static str, right: Right) -> Rule {
    Rule { method: "GET", path, who: Who::Has(right), action: None }
}

const fn open(path: &'static str) -> Rule {
    Rule { method: "GET", path, who: Who::Anybody, action: None }
}

const fn change(method: &'static str, path: &'static str, right: Right, action: &'static str) -> Rule {
    Rule { method, path, who: Who::Has(right), action: Some(action) }
}

const RULES: &[Rule] = &[
    change("POST", "/v1/jobs", Right::Submit, "job.submit"),
    change("POST", "/v1/jobs/batch", Right::Submit, "job.submit_batch"),
    get("/v1/jobs", Right::SeeTeam),
    get("/v1/jobs/{id}", Right::SeeTeam),
    get("/v1/jobs/{id}/explain", Right::SeeTeam),
    get("/v1/jobs/{id}/history", Right::SeeTeam),
    get("/v1/jobs/{id}/events", Right::SeeTeam),
    get("/v1/jobs/{id}/logs", Right::SeeTeam),
    change("POST", "/v1/jobs/{id}/stop", Right::Stop, "job.stop"),
    get("/v1/receipts/{team}/{*key}", Right::SeeTeam),
    get("/v1/events", Right::SeeTeam),
    get("/v1/teams", Right::SeeTeam),
    get("/v1/teams/{team}/explain", Right::SeeTeam),
    get("/v1/clusters", Right::SeeShared),
    change("POST", "/v1/clusters/{id}/drain", Right::Operate, "cluster.drain"),
    change("POST", "/v1/clusters/{id}/resume", Right::Operate, "cluster.resume"),
    change("PUT", "/v1/catalog", Right::Operate, "catalog.apply"),
    get("/v1/catalog", Right::Operate),
    get("/v1/catalog/versions", Right::Operate),
    get("/v1/deliveries", Right::SeeTeam),
    change("POST", "/v1/deliveries/retry", Right::Submit, "delivery.retry"),
    get("/v1/workload", Right::Operate),
    get("/v1/audit", Right::Operate),
    get("/v1/audit/log", Right::Operate),
    change("POST", "/v1/tokens", Right::ManageTokens, "token.create"),
    get("/v1/tokens", Right::ManageTokens),
    change("DELETE", "/v1/tokens/{id}", Right::ManageTokens, "token.revoke"),
    // The Ray Jobs API.
    get("/api/version", Right::SeeShared),
    change("POST", "/api/jobs/", Right::Submit, "job.submit"),
    get("/api/jobs/", Right::SeeTeam),
    get("/api/jobs/{id}", Right::SeeTeam),
    change("DELETE", "/api/jobs/{id}", Right::Stop, "job.hide"),
    change("POST", "/api/jobs/{id}/stop", Right::Stop, "job.stop"),
    get("/api/jobs/{id}/logs", Right::SeeTeam),
    get("/api/jobs/{id}/logs/tail", Right::SeeTeam),
    get("/api/packages/{protocol}/{name}", Right::Submit),
    change("PUT", "/api/packages/{protocol}/{name}", Right::Submit, "package.upload"),
    Rule { method: "GET", path: "/api/packages/link/{grant}/{name}", who: Who::Link, action: None },
    Rule { method: "GET", path: "/metrics", who: Who::Metrics(Right::SeeWhole), action: None },
    open("/healthz"),
    open("/readyz"),
    // The page itself says nothing; what it shows, it asks for with the token that a person gives it.
    open("/"),
    // What the API can do is in the handbook, too: the page that shows it loads it without a token.
    open("/openapi.json"),
    open("/docs"),
    open("/ui/docs.js"),
    open("/ui/docs.css"),
    open("/ui/app.js"),
    open("/ui/app.css"),
];

/// The rule of a route, if it has one.
pub(crate) fn find(method: &Method, path: &str) -> Option<&'static Rule> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    RULES.iter().find(|rule| rule.method == method && rule.path == path)
}

#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str, &'static Rule)> {
    RULES.iter().map(|rule| (rule.method, rule.path, rule))
}
