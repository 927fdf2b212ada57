//! What `yard check-config` shows of a valid configuration.

use std::fmt;

use yard_domain::resources::show_quantity;
use yard_domain::{ClassId, Limits, Request};
use yard_inbox_sqs::QueueAddress;

use super::{Config, DatabaseUrl, DriverConfig};

/// A configuration on a few lines, without secrets.
pub struct Summary<'c>(pub &'c Config);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.0;
        writeln!(f, "server    {}", config.server.listen)?;
        let access = &config.access;
        let need = if access.required { "a token is needed" } else { "no token is needed" };
        let operator = if access.bootstrap.is_some() { ", with an operator token of its own" } else { "" };
        writeln!(f, "access    {need}{operator}")?;
        for issuer in &access.issuers {
            writeln!(f, "issuer    {}: {} for {}", issuer.name, issuer.issuer, issuer.audience)?;
        }
        match &config.database.url {
            DatabaseUrl::Sqlite(path) => writeln!(f, "database  SQLite in {}", path.display())?,
            DatabaseUrl::MySql(url) => writeln!(f, "database  {}", without_credentials(url.expose()))?,
        }
        for queue in &config.queues {
            let teams = queue.teams.as_ref().map_or("every team".to_owned(), |teams| list(teams));
            let address = match &queue.sqs.queue {
                QueueAddress::Url(url) => format!(" at {url}"),
                QueueAddress::Name(_) => String::new(),
            };
            writeln!(f, "queue     {}{address}, for {teams}", queue.sqs.name)?;
        }
        let Some(declared) = &config.catalog else {
            return writeln!(f, "catalog   none in this file: the one that `yard apply` has put in force");
        };
        for cohort in &declared.catalog.cohorts {
            let parent = cohort.parent.as_ref().map_or(String::new(), |parent| format!(" in {parent}"));
            writeln!(
                f,
                "cohort    {}{parent}, weight {}, {}",
                cohort.id,
                cohort.weight,
                quota(&cohort.quota)
            )?;
        }
        for team in &declared.catalog.teams {
            let cohort = team.cohort.as_ref().map_or(String::new(), |cohort| format!(" in {cohort}"));
            writeln!(f, "team      {}{cohort}, weight {}, {}", team.id, team.weight, quota(&team.quota))?;
        }
        for push in &declared.pushes {
            writeln!(f, "push      {}: {}", push.id, push.summary())?;
        }
        for class in declared.catalog.policy.classes.iter().filter(|c| c.id != ClassId::of_default()) {
            writeln!(f, "class     {}, from priority {}", class.id, class.priority.get())?;
        }
        for cluster in &declared.clusters {
            let place = match &cluster.driver {
                DriverConfig::Ray(ray) => format!("ray at {}", ray.address),
                DriverConfig::KubeRay(kuberay) => format!("kuberay in {}", kuberay.place()),
                DriverConfig::Process(process) => format!("processes in {}", process.dir.display()),
            };
            let capacity = cluster
                .cluster
                .capacity
                .as_ref()
                .map_or("capacity as it says itself".to_owned(), |c| has(&c.0));
            let capacity =
                if cluster.cluster.elastic.is_some() { format!("grows to {capacity}") } else { capacity };
            writeln!(
                f,
                "cluster   {}, {place}, {capacity}, up to {} jobs",
                cluster.cluster.id, cluster.jobs_max
            )?;
        }
        Ok(())
    }
}

fn without_credentials(url: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(url) else { return "(not shown)".to_owned() };
    // Neither fails for a URL with a host; if they did, the URL must not be shown.
    if url.set_password(None).is_err() || url.set_username("").is_err() {
        return "(not shown)".to_owned();
    }
    url.set_query(None);
    url.to_string()
}

fn quota(quota: &Limits) -> String {
    let named =
        ["cpu", "gpu", "memory", "jobs"].into_iter().chain(quota.custom_milli.keys().map(String::as_str));
    let bounds: Vec<String> = named
        .filter_map(|name| Some(format!("{name} {}", show_quantity(name, quota.limit(name)?))))
        .collect();
    if bounds.is_empty() { "no quota".to_owned() } else { format!("quota {}", bounds.join(", ")) }
}

fn has(capacity: &Request) -> String {
    let amounts = capacity.amounts().filter(|(name, amount)| *name != "jobs" && *amount > 0);
    amounts
        .map(|(name, amount)| format!("{name} {}", show_quantity(name, amount)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn list(items: &[impl fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
