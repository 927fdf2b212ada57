//! Reads a scenario's input section: a line for each part, `what name field=value …`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use yard_domain::job::{Priority, QueueOrder, shape_of};
use yard_domain::policy::{Fit, PriorityClass};
use yard_domain::{
    AttemptNumber, Capacity, Cluster, ClusterHealth, ClusterSelector, ClusterSwitch, Cohort, Elastic, JobId,
    Limits, Request, Shape, Team, TeamId, Timestamp,
};
use yard_planner::{ClusterView, Group, Parts, Policy, Running, Snapshot, TeamView};

pub use crate::model::generate::NOW;

/// A world with the names that its lines give to jobs.
pub struct Scenario {
    pub parts: Parts,
    pub policy: Policy,
    pub seed: u64,
    pub queued: BTreeMap<(TeamId, Shape), String>,
    pub running: BTreeMap<JobId, String>,
}

impl Scenario {
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.parts.clone())
    }
}

type Said<T> = Result<T, String>;

pub fn scenario(text: &str) -> Said<Scenario> {
    let mut scenario = Scenario {
        parts: Parts::default(),
        policy: Policy::default(),
        seed: 1,
        queued: BTreeMap::new(),
        running: BTreeMap::new(),
    };
    let mut classes = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if !line.starts_with('#') && !line.trim().is_empty() {
            read_line(&mut scenario, &mut classes, line).map_err(|why| format!("line {}: {why}", i + 1))?;
        }
    }
    if !classes.is_empty() {
        classes.sort_by_key(|c: &PriorityClass| std::cmp::Reverse(c.priority));
        scenario.policy.classes = classes;
    }
    Ok(scenario)
}

fn read_line(scenario: &mut Scenario, classes: &mut Vec<PriorityClass>, line: &str) -> Said<()> {
    let mut words = line.split_whitespace();
    let what = words.next().unwrap_or_default();
    let named = !matches!(what, "policy");
    let name = if named { words.next().ok_or("a name is missing")? } else { "" };
    let mut fields = Fields { what: what.to_owned(), fields: BTreeMap::new() };
    for word in words {
        let (field, value) = word.split_once('=').unwrap_or((word, ""));
        fields.fields.insert(field.to_owned(), value.to_owned());
    }
    match what {
        "seed" => scenario.seed = parse("seed", name)?,
        "policy" => read_policy(&mut scenario.policy, &mut fields)?,
        "class" => classes.push(PriorityClass {
            id: parse("class", name)?,
            priority: fields.get("priority", read_priority)?.ok_or("priority is missing")?,
            preempts: fields.flag("preempts"),
            preemptible: fields.flag("preemptible"),
        }),
        "cohort" => scenario.parts.cohorts.push(Cohort {
            id: parse("cohort", name)?,
            parent: fields.get("parent", |v| parse("parent", v))?,
            quota: fields.get("quota", read_limits)?.unwrap_or_default(),
            max: fields.get("max", read_limits)?.unwrap_or_default(),
            weight: fields.get("weight", |v| parse("weight", v))?.unwrap_or(1),
        }),
        "team" => read_team(scenario, name, &mut fields)?,
        "cluster" => read_cluster(scenario, name, &mut fields)?,
        "running" => read_running(scenario, name, &mut fields)?,
        "queue" => read_queue(scenario, name, &mut fields)?,
        other => return Err(format!("there is no `{other}`")),
    }
    fields.done()
}

/// A line's fields; what nobody asks for is not known.
struct Fields {
    what: String,
    fields: BTreeMap<String, String>,
}

impl Fields {
    fn get<T>(&mut self, name: &str, read: impl Fn(&str) -> Said<T>) -> Said<Option<T>> {
        let value = self.fields.remove(name);
        value.map(|v| read(&v).map_err(|why| format!("{name}={v}: {why}"))).transpose()
    }

    fn flag(&mut self, name: &str) -> bool {
        self.fields.remove(name).is_some()
    }

    fn done(self) -> Said<()> {
        match self.fields.keys().next() {
            Some(field) => Err(format!("{} has no field `{field}`", self.what)),
            None => Ok(()),
        }
    }
}

fn parse<T: FromStr>(what: &str, value: &str) -> Said<T> {
    value.parse().map_err(|_| format!("not a value for {what}"))
}

/// `90s`, `30m`, `2h`.
fn read_span(value: &str) -> Said<Duration> {
    let unit = value.chars().last().ok_or("a time is missing")?;
    let number: u64 = parse("a time", &value[..value.len() - unit.len_utf8()])?;
    match unit {
        's' => Ok(Duration::from_secs(number)),
        'm' => Ok(Duration::from_mins(number)),
        'h' => Ok(Duration::from_hours(number)),
        _ => Err("a time ends with s, m or h".to_owned()),
    }
}

fn read_priority(value: &str) -> Said<Priority> {
    Priority::new(parse("priority", value)?).ok_or_else(|| "-1000 to 1000".to_owned())
}

fn read_switch(value: &str) -> Said<bool> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("on or off".to_owned()),
    }
}

/// `zone:a,type:x`.
fn read_pairs(value: &str) -> Said<BTreeMap<String, String>> {
    let pair = |p: &str| p.split_once(':').map(|(k, v)| (k.to_owned(), v.to_owned()));
    value.split(',').map(|p| pair(p).ok_or_else(|| format!("{p} is not name:value"))).collect()
}

/// `cpu:2,memory:8,A100:1,jobs:10`: memory in GiB, all else in whole units.
fn read_amounts(value: &str) -> Said<Vec<(String, u64)>> {
    let unit = |name: &str| match name {
        "jobs" => 1,
        "memory" => 1 << 30,
        _ => 1_000,
    };
    let pairs = read_pairs(value)?.into_iter();
    pairs.map(|(name, v)| parse::<u64>(&name, &v).map(|n| (name.clone(), n * unit(&name)))).collect()
}

fn read_limits(value: &str) -> Said<Limits> {
    let mut limits = Limits::default();
    read_amounts(value)?.into_iter().for_each(|(name, amount)| limits.set(&name, amount));
    Ok(limits)
}

fn read_request(value: &str) -> Said<Request> {
    let mut request = Request::default();
    read_amounts(value)?.into_iter().for_each(|(name, amount)| request.set(&name, amount));
    Ok(request)
}

fn read_job(value: &str) -> Said<Request> {
    Ok(Request { jobs: 1, ..read_request(value)? })
}

fn read_set<T: FromStr + Ord>(value: &str) -> Said<std::collections::BTreeSet<T>> {
    value.split(',').map(|v| parse("a name", v)).collect()
}

fn read_policy(policy: &mut Policy, fields: &mut Fields) -> Said<()> {
    let number = |v: &str| parse::<u32>("a number", v);
    policy.half_life = fields.get("half_life", read_span)?;
    let fit = |v: &str| Fit::from_code(v).ok_or_else(|| "spread or pack".to_owned());
    policy.scores.fit = fields.get("fit", fit)?.unwrap_or_default();
    let (scores, preemption) = (&mut policy.scores, &mut policy.preemption);
    for (name, place) in [
        ("placements", &mut policy.placements_max),
        ("reservations", &mut policy.reservations_max),
        ("victims", &mut preemption.victims_max),
        ("fit_weight", &mut scores.fit_weight),
        ("cost_weight", &mut scores.cost_weight),
        ("locality_weight", &mut scores.locality_weight),
        ("failures_weight", &mut scores.failures_weight),
        ("queue_weight", &mut scores.queue_weight),
    ] {
        *place = fields.get(name, number)?.unwrap_or(*place);
    }
    for (name, place) in [("reclaim", &mut preemption.reclaim), ("within_team", &mut preemption.within_team)]
    {
        *place = fields.get(name, read_switch)?.unwrap_or(*place);
    }
    Ok(())
}

fn read_team(scenario: &mut Scenario, name: &str, fields: &mut Fields) -> Said<()> {
    let team = Team {
        cohort: fields.get("cohort", |v| parse("cohort", v))?,
        quota: fields.get("quota", read_limits)?.unwrap_or_default(),
        max: fields.get("max", read_limits)?.unwrap_or_default(),
        weight: fields.get("weight", |v| parse("weight", v))?.unwrap_or(1),
        ..Team::new(parse("team", name)?)
    };
    let past = fields.get("past", read_request)?.unwrap_or_default();
    scenario.parts.teams.push(TeamView { team, used: Request::default(), past });
    Ok(())
}

fn read_cluster(scenario: &mut Scenario, name: &str, fields: &mut Fields) -> Said<()> {
    let mut cluster = Cluster::new(parse("cluster", name)?, "ray");
    let with_jobs = |v: &str| {
        let mut has = read_request(v)?;
        has.jobs = if has.jobs == 0 { 1_000 } else { has.jobs };
        Ok(Capacity(has))
    };
    cluster.capacity = fields.get("has", with_jobs)?;
    cluster.labels = fields.get("labels", read_pairs)?.unwrap_or_default();
    cluster.recent_failures = fields.get("failures", |v| parse("failures", v))?.unwrap_or(0);
    cluster.cost_per_hour_micro = fields.get("cost", |v| parse::<u64>("cost", v))?.map(|c| c * 1_000_000);
    let delay = fields.get("delay", read_span)?.unwrap_or_default();
    cluster.elastic =
        fields.get("present", with_jobs)?.map(|present| Elastic { present: Some(present), delay });
    cluster.health = ClusterHealth::Ready;
    match fields.fields.remove("state").as_deref() {
        None => {}
        Some("drained") => cluster.switch = ClusterSwitch::Drained,
        Some("unreachable") => cluster.health = ClusterHealth::Unreachable,
        Some("unseen") => cluster.health = ClusterHealth::Unknown,
        Some("breaker") => cluster.breaker_open = true,
        Some("removed") => cluster.configured = false,
        Some(other) => return Err(format!("state={other}: no such state")),
    }
    scenario.parts.clusters.push(ClusterView { cluster, used: Request::default() });
    Ok(())
}

fn read_running(scenario: &mut Scenario, name: &str, fields: &mut Fields) -> Said<()> {
    let request = fields.get("asks", read_job)?.ok_or("asks is missing")?;
    let team: TeamId = fields.get("team", |v| parse("team", v))?.ok_or("team is missing")?;
    let cluster = fields.get("cluster", |v| parse("cluster", v))?.ok_or("cluster is missing")?;
    let ends_by = NOW.plus(fields.get("ends", read_span)?.unwrap_or(Duration::from_hours(1)));
    let since = fields.get("since", read_span)?;
    let ago =
        |span: Duration| Timestamp::from_micros(NOW.as_micros() - i64::try_from(span.as_micros()).unwrap());
    let job = JobId::new(1_000 + scenario.parts.running.len() as u64, [0; 10]);
    let used_by = scenario.parts.teams.iter_mut().find(|t| t.team.id == team).ok_or("no such team")?;
    used_by.used.add(&request);
    let used_on =
        scenario.parts.clusters.iter_mut().find(|c| c.cluster.id == cluster).ok_or("no such cluster")?;
    used_on.used.add(&request);
    scenario.running.insert(job, name.to_owned());
    scenario.parts.running.push(Running {
        job,
        attempt: AttemptNumber(1),
        team,
        shape: shape_of(&request, &ClusterSelector::default(), Duration::from_hours(1)),
        cluster,
        request,
        priority: fields.get("priority", read_priority)?.unwrap_or_default(),
        started: since.map(ago),
        ends_by,
        expected_end: fields.get("expected", read_span)?.map_or(ends_by, |span| NOW.plus(span)),
        leaving: fields.flag("leaving"),
    });
    Ok(())
}

fn read_queue(scenario: &mut Scenario, name: &str, fields: &mut Fields) -> Said<()> {
    let request = fields.get("asks", read_job)?.ok_or("asks is missing")?;
    let team: TeamId = fields.get("team", |v| parse("team", v))?.ok_or("team is missing")?;
    let clusters = ClusterSelector {
        only: fields.get("only", read_set)?.unwrap_or_default(),
        avoid: fields.get("avoid", read_set)?.unwrap_or_default(),
        labels: fields.get("labels", read_pairs)?.unwrap_or_default(),
        prefer: fields.get("prefer", read_pairs)?.unwrap_or_default(),
        driver: None,
        pods: None,
    };
    let run_timeout = fields.get("run", read_span)?.unwrap_or(Duration::from_hours(1));
    let expected_run = fields.get("expected", read_span)?.unwrap_or(run_timeout);
    let priority = fields.get("priority", read_priority)?.unwrap_or_default();
    let age = fields.get("age", read_span)?.unwrap_or(Duration::from_mins(10));
    let accepted = NOW.as_micros() - i64::try_from(age.as_micros()).unwrap();
    let jobs: i64 = fields.get("jobs", |v| parse("jobs", v))?.unwrap_or(1);
    let orders: Vec<_> = (0..jobs).map(|i| QueueOrder::new(priority, accepted + i)).collect();
    let shape = shape_of(&request, &clusters, run_timeout);
    match scenario.queued.insert((team.clone(), shape), name.to_owned()) {
        // More of the same, of another priority or age.
        Some(same) if same == name => {
            let group = scenario.parts.groups.iter_mut().find(|g| g.team == team && g.shape == shape);
            group.ok_or("no such group")?.orders.extend(orders);
            return Ok(());
        }
        Some(_) => {
            let why = "there is another queue of the same team, request, selector and run timeout";
            return Err(why.to_owned());
        }
        None => {}
    }
    scenario.parts.groups.push(Group { team, shape, request, clusters, run_timeout, expected_run, orders });
    Ok(())
}
