//! JSON Lines: one job per line. docs/simulate.md documents the fields; `GET /v1/workload` answers in this form.
//!
//! Every wrong line is reported, every wrong field of it, all at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};
use yard_domain::{ClusterSelector, Priority, Request, Timestamp};

use super::{LineFault, Read, SimJob};
use crate::number::{seconds, whole};

/// Fields of a line.
const FIELDS: [&str; 9] = [
    "at_s",
    "team",
    "priority",
    "resources",
    "clusters",
    "run_s",
    "run_timeout_s",
    "queue_timeout_s",
    "max_retries",
];
/// Fields that say what became of the job; passed over.
const HISTORY: [&str; 2] = ["job", "waited_s"];
/// Longest span, in seconds: about 30 years.
const SPAN_MAX: f64 = 1e9;
/// Latest time, in seconds since the epoch: as far as places in the queue reach.
const AT_MAX: f64 = 4.5e9;

/// Reads a whole file. Empty lines are passed over.
pub fn read(text: &str) -> Result<Read, Vec<LineFault>> {
    let mut faults = Vec::new();
    let mut jobs = Vec::new();
    let mut runless = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut reader = Line { number: i + 1, faults: &mut faults };
        if let Some((job, has_run)) = reader.job(line) {
            if !has_run {
                runless.push(jobs.len());
            }
            jobs.push(job);
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let notes = fill_runs(&mut jobs, &runless);
    jobs.sort_by_key(|job| job.at);
    Ok(Read { jobs, notes, processors: None })
}

/// Jobs without `run_s` never ran to an end: they are taken to run as long as their team's others do on average.
fn fill_runs(jobs: &mut [SimJob], runless: &[usize]) -> Vec<String> {
    if runless.is_empty() {
        return Vec::new();
    }
    let missing: BTreeSet<usize> = runless.iter().copied().collect();
    let mut means: HashMap<_, (f64, f64)> = HashMap::new();
    for (_, job) in jobs.iter().enumerate().filter(|(i, _)| !missing.contains(i)) {
        let (sum, count) = means.entry(job.team.clone()).or_default();
        *sum += job.run.as_secs_f64();
        *count += 1.0;
    }
    for &i in runless {
        let job = &mut jobs[i];
        job.run = means
            .get(&job.team)
            .map_or(job.run_timeout, |(sum, count)| seconds(sum / count))
            .min(job.run_timeout);
    }
    vec![format!(
        "{} jobs without run_s are taken to run as long as their team's others on average (their run timeout, if there are none)",
        runless.len()
    )]
}

struct Line<'a> {
    number: usize,
    faults: &'a mut Vec<LineFault>,
}

impl Line<'_> {
    fn fault(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.faults.push(LineFault { line: self.number, field: field.into(), message: message.into() });
    }

    /// The job, and whether it says how long it runs.
    fn job(&mut self, text: &str) -> Option<(SimJob, bool)> {
        let object = match serde_json::from_str(text) {
            Ok(Value::Object(object)) => object,
            Ok(_) => {
                self.fault("", "must be an object, such as {\"at_s\": 0, \"team\": \"ads\", \"run_s\": 60, \"resources\": {\"cpu\": 1}}");
                return None;
            }
            Err(error) => {
                self.fault("", format!("is no JSON: {error}"));
                return None;
            }
        };
        let before = self.faults.len();
        self.unknown("", &object, &[&FIELDS[..], &HISTORY[..]].concat());
        let at = self.number(&object, "", "at_s", AT_MAX);
        if at.is_none() {
            self.missing(&object, "at_s", "add when it arrives, in seconds: only differences count");
        }
        let team = self.parsed(object.get("team"), "team");
        if team.is_none() {
            self.missing(&object, "team", "add whose it is, such as \"team\": \"ads\"");
        }
        let priority = self.priority(&object);
        let request = self.resources(&object);
        let clusters = self.clusters(&object);
        let run = self.number(&object, "", "run_s", SPAN_MAX);
        let span = |found: Option<f64>, default: Duration| found.map_or(default, seconds);
        let run_timeout = span(self.number(&object, "", "run_timeout_s", SPAN_MAX), SimJob::RUN_TIMEOUT);
        let queue_timeout =
            span(self.number(&object, "", "queue_timeout_s", SPAN_MAX), SimJob::QUEUE_TIMEOUT);
        let max_retries = self.number(&object, "", "max_retries", 1e6).map_or(0, whole);
        if self.faults.len() > before {
            return None;
        }
        let at = Timestamp::from_micros(i64::try_from(seconds(at?).as_micros()).unwrap_or(i64::MAX));
        let job = SimJob {
            at,
            team: team?,
            priority,
            request,
            clusters,
            run: seconds(run.unwrap_or_default()),
            run_timeout,
            queue_timeout,
            max_retries: u32::try_from(max_retries).unwrap_or(u32::MAX),
        };
        Some((job, run.is_some()))
    }

    fn missing(&mut self, object: &Map<String, Value>, field: &str, message: &str) {
        if object.get(field).is_none_or(Value::is_null) {
            self.fault(field, format!("is missing: {message}"));
        }
    }

    fn unknown(&mut self, path: &str, object: &Map<String, Value>, known: &[&str]) {
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            self.fault(join(path, name), format!("no such field; known are {}", known.join(", ")));
        }
    }

    /// A number from 0 to `max`; `None` if it is not there, null, or wrong (which is noted).
    fn number(&mut self, object: &Map<String, Value>, path: &str, field: &str, max: f64) -> Option<f64> {
        let value = object.get(field).filter(|v| !v.is_null())?;
        let number = value.as_f64().filter(|n| (0.0..=max).contains(n));
        if number.is_none() {
            self.fault(join(path, field), format!("must be a number from 0 to {max}"));
        }
        number
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self, value: Option<&Value>, field: &str) -> Option<T> {
        let value = value.filter(|v| !v.is_null())?;
        let Some(text) = value.as_str() else {
            self.fault(field, "must be a text in quotes");
            return None;
        };
        text.parse().map_err(|error: T::Err| self.fault(field, error.to_string())).ok()
    }

    fn priority(&mut self, object: &Map<String, Value>) -> Priority {
        let Some(value) = object.get("priority").filter(|v| !v.is_null()) else { return Priority::default() };
        let priority = value.as_i64().and_then(Priority::new);
        if priority.is_none() {
            let max = Priority::MAX;
            self.fault("priority", format!("must be a whole number from -{max} to {max}"));
        }
        priority.unwrap_or_default()
    }

    fn object<'v>(
        &mut self,
        object: &'v Map<String, Value>,
        path: &str,
        field: &str,
    ) -> Option<&'v Map<String, Value>> {
        let value = object.get(field).filter(|v| !v.is_null())?;
        if value.as_object().is_none() {
            self.fault(join(path, field), "must be an object");
        }
        value.as_object()
    }

    fn resources(&mut self, object: &Map<String, Value>) -> Request {
        let mut request = Request { jobs: 1, ..Request::default() };
        let Some(given) = self.object(object, "", "resources") else { return request };
        self.unknown("resources", given, &["cpu", "gpu", "memory_bytes", "jobs", "custom"]);
        for name in ["cpu", "gpu"] {
            let amount = self.milli(given, "resources", name);
            request.set(name, amount);
        }
        let memory = self.number(given, "resources", "memory_bytes", 9e15);
        request.memory_bytes = whole(memory.unwrap_or_default());
        if let Some(custom) = self.object(given, "resources", "custom") {
            for name in custom.keys() {
                let amount = self.milli(custom, "resources.custom", name);
                request.set(name, amount);
            }
        }
        request
    }

    /// An amount in thousandths.
    fn milli(&mut self, object: &Map<String, Value>, path: &str, field: &str) -> u64 {
        let Some(number) = self.number(object, path, field, 1e12) else { return 0 };
        let milli = number * 1_000.0;
        if (milli - milli.round()).abs() > 1e-6 * milli.max(1.0) {
            self.fault(join(path, field), "has more than 3 decimals: the finest step is 0.001");
        }
        whole(milli)
    }

    fn clusters(&mut self, object: &Map<String, Value>) -> ClusterSelector {
        let Some(given) = self.object(object, "", "clusters") else { return ClusterSelector::default() };
        self.unknown("clusters", given, &["only", "avoid", "labels", "prefer"]);
        ClusterSelector {
            only: self.names(given, "only"),
            avoid: self.names(given, "avoid"),
            labels: self.labels(given, "labels"),
            prefer: self.labels(given, "prefer"),
            driver: None,
            pods: None,
        }
    }

    fn names<T: FromStr<Err: Display> + Ord>(
        &mut self,
        object: &Map<String, Value>,
        field: &str,
    ) -> BTreeSet<T> {
        let path = join("clusters", field);
        let Some(value) = object.get(field).filter(|v| !v.is_null()) else { return BTreeSet::new() };
        let Some(list) = value.as_array() else {
            self.fault(path, "must be a list of texts, such as [\"east\"]");
            return BTreeSet::new();
        };
        list.iter().filter_map(|v| self.parsed(Some(v), &path)).collect()
    }

    fn labels(&mut self, object: &Map<String, Value>, field: &str) -> BTreeMap<String, String> {
        let path = join("clusters", field);
        let mut labels = BTreeMap::new();
        for (name, value) in self.object(object, "clusters", field).into_iter().flatten() {
            match value.as_str() {
                Some(text) => _ = labels.insert(name.clone(), text.to_owned()),
                None => self.fault(join(&path, name), "must be a text in quotes"),
            }
        }
        labels
    }
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_line_is_read_whole() {
        let line = r#"{"at_s": 10.5, "team": "ads", "priority": -5, "resources": {"cpu": 1.5, "gpu": 0.25,
            "memory_bytes": 1024, "custom": {"A100": 1}}, "clusters": {"only": ["east"], "avoid": ["west"],
            "labels": {"zone": "a"}, "prefer": {"disk": "ssd"}}, "run_s": 60, "run_timeout_s": 120,
            "queue_timeout_s": 600, "max_retries": 2, "job": "x", "waited_s": 3}"#
            .replace('\n', " ");
        let job = read(&line).unwrap().jobs.remove(0);
        assert_eq!((job.at.as_micros(), job.team.as_str(), job.priority.get()), (10_500_000, "ads", -5));
        assert_eq!(
            (job.request.cpu_milli, job.request.gpu_milli, job.request.amount("A100")),
            (1_500, 250, 1_000)
        );
        assert_eq!((job.request.jobs, job.request.memory_bytes, job.max_retries), (1, 1_024, 2));
        assert_eq!(job.run, Duration::from_mins(1));
        assert_eq!((job.run_timeout, job.queue_timeout), (Duration::from_mins(2), Duration::from_mins(10)));
        assert_eq!(job.clusters.prefer["disk"], "ssd");
    }

    #[test]
    fn every_bad_line_is_reported_with_every_bad_field() {
        let text = "{\"at_s\": 1, \"team\": \"ads\", \"run_s\": 5}\n\nnot json\n[1]\n\
            {\"at_s\": -1, \"team\": \"A b\", \"cpus\": 2, \"resources\": {\"cpu\": 0.0001, \"gpu\": \"x\"}, \"priority\": 2000}\n\
            {\"run_s\": 1, \"clusters\": {\"only\": \"east\"}}\n";
        let faults: Vec<_> = read(text).unwrap_err().iter().map(|f| (f.line, f.field.clone())).collect();
        let want = [
            (3, ""),
            (4, ""),
            (5, "cpus"),
            (5, "at_s"),
            (5, "team"),
            (5, "priority"),
            (5, "resources.cpu"),
            (5, "resources.gpu"),
            (6, "at_s"),
            (6, "team"),
            (6, "clusters.only"),
        ];
        assert_eq!(faults, want.map(|(line, field)| (line, field.to_owned())));
    }

    #[test]
    fn jobs_without_a_run_time_run_as_long_as_their_teams_others() {
        let text = "{\"at_s\":3,\"team\":\"a\"}\n{\"at_s\":1,\"team\":\"a\",\"run_s\":10}\n\
            {\"at_s\":2,\"team\":\"a\",\"run_s\":30}\n{\"at_s\":4,\"team\":\"b\",\"run_timeout_s\":7}\n";
        let read = read(text).unwrap();
        let runs: Vec<u64> = read.jobs.iter().map(|j| j.run.as_secs()).collect();
        assert_eq!(runs, [10, 30, 20, 7]);
        assert!(read.notes[0].starts_with("2 jobs without run_s"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            _ = read(&text);
        }
    }
}
