//! Domain values that are kept as JSON text, to and fro. Written by hand: the stored form is a contract of its
//! own, and domain types don't know it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};
use yard_domain::{Capacity, ClusterId, ClusterSelector, FieldError, Limits, PastUse, Request, Timestamp};

use crate::codec_kube::{demand_json, demand_of};

pub(crate) fn write_request(request: &Request) -> String {
    request_json(request).to_string()
}

pub(crate) fn read_request(text: &str) -> Option<Request> {
    request_of(&serde_json::from_str(text).ok()?)
}

pub(crate) fn request_json(request: &Request) -> Value {
    json!({
        "cpu_milli": request.cpu_milli,
        "gpu_milli": request.gpu_milli,
        "memory_bytes": request.memory_bytes,
        "jobs": request.jobs,
        "custom_milli": request.custom_milli,
    })
}

pub(crate) fn request_of(value: &Map<String, Value>) -> Option<Request> {
    let amount = |name: &str| value.get(name)?.as_u64();
    Some(Request {
        cpu_milli: amount("cpu_milli")?,
        gpu_milli: amount("gpu_milli")?,
        memory_bytes: amount("memory_bytes")?,
        jobs: amount("jobs")?,
        custom_milli: amounts(value.get("custom_milli")?)?,
    })
}

pub(crate) fn write_capacity(capacity: &Capacity) -> String {
    write_request(&capacity.0)
}

pub(crate) fn read_capacity(text: &str) -> Option<Capacity> {
    read_request(text).map(Capacity)
}

pub(crate) fn write_limits(limits: &Limits) -> String {
    json!({
        "cpu_milli": limits.cpu_milli,
        "gpu_milli": limits.gpu_milli,
        "memory_bytes": limits.memory_bytes,
        "jobs": limits.jobs,
        "custom_milli": limits.custom_milli,
    })
    .to_string()
}

pub(crate) fn read_limits(text: &str) -> Option<Limits> {
    let value: Map<String, Value> = serde_json::from_str(text).ok()?;
    let limit = |name: &str| match value.get(name)? {
        Value::Null => Some(None),
        number => number.as_u64().map(Some),
    };
    Some(Limits {
        cpu_milli: limit("cpu_milli")?,
        gpu_milli: limit("gpu_milli")?,
        memory_bytes: limit("memory_bytes")?,
        jobs: limit("jobs")?,
        custom_milli: amounts(value.get("custom_milli")?)?,
    })
}

pub(crate) fn write_selector(selector: &ClusterSelector) -> String {
    let ids = |set: &BTreeSet<ClusterId>| set.iter().map(ClusterId::as_str).collect::<Vec<_>>().into();
    let mut value = Map::new();
    value.insert("only".to_owned(), ids(&selector.only));
    value.insert("labels".to_owned(), json!(selector.labels));
    // Rare, and every job's row has a selector.
    if !selector.avoid.is_empty() {
        value.insert("avoid".to_owned(), ids(&selector.avoid));
    }
    if let Some(driver) = &selector.driver {
        value.insert("driver".to_owned(), json!(driver));
    }
    if let Some(pods) = &selector.pods {
        value.insert("pods".to_owned(), demand_json(pods));
    }
    if !selector.prefer.is_empty() {
        value.insert("prefer".to_owned(), json!(selector.prefer));
    }
    Value::Object(value).to_string()
}

pub(crate) fn read_selector(text: &str) -> Option<ClusterSelector> {
    let value: Map<String, Value> = serde_json::from_str(text).ok()?;
    let ids = |list: &Value| list.as_array()?.iter().map(|id| id.as_str()?.parse().ok()).collect();
    Some(ClusterSelector {
        only: ids(value.get("only")?)?,
        avoid: value.get("avoid").map_or(Some(BTreeSet::new()), ids)?,
        labels: texts(value.get("labels")?)?,
        driver: value.get("driver").map_or(Some(None), |driver| Some(Some(driver.as_str()?.to_owned())))?,
        pods: value.get("pods").map_or(Some(None), |pods| Some(Some(Box::new(demand_of(pods)?))))?,
        prefer: value.get("prefer").map_or(Some(BTreeMap::new()), texts)?,
    })
}

pub(crate) fn write_past(past: &PastUse) -> String {
    let half_life = u64::try_from(past.half_life.as_micros()).unwrap_or(u64::MAX);
    json!({"half_life_us": half_life, "mean": past.mean, "as_of_us": past.as_of.as_micros()}).to_string()
}

pub(crate) fn read_past(text: &str) -> Option<PastUse> {
    let value: Map<String, Value> = serde_json::from_str(text).ok()?;
    let mean = value.get("mean")?.as_object()?.iter();
    Some(PastUse {
        half_life: Duration::from_micros(value.get("half_life_us")?.as_u64()?),
        mean: mean.map(|(name, amount)| Some((name.clone(), amount.as_f64()?))).collect::<Option<_>>()?,
        as_of: Timestamp::from_micros(value.get("as_of_us")?.as_i64()?),
    })
}

pub(crate) fn write_labels(labels: &BTreeMap<String, String>) -> String {
    json!(labels).to_string()
}

pub(crate) fn read_labels(text: &str) -> Option<BTreeMap<String, String>> {
    texts(&serde_json::from_str(text).ok()?)
}

pub(crate) fn write_by_cluster(sentences: &BTreeMap<ClusterId, String>) -> String {
    let map: Map<String, Value> = sentences.iter().map(|(c, s)| (c.to_string(), json!(s))).collect();
    Value::Object(map).to_string()
}

pub(crate) fn read_by_cluster(text: &str) -> Option<BTreeMap<ClusterId, String>> {
    read_labels(text)?.into_iter().map(|(c, s)| Some((c.parse().ok()?, s))).collect()
}

pub(crate) fn write_errors(errors: &[FieldError]) -> String {
    let list = errors.iter().map(|e| json!({"field": e.field, "code": e.code, "message": e.message}));
    Value::Array(list.collect()).to_string()
}

pub(crate) fn read_errors(text: &str) -> Option<Vec<FieldError>> {
    let list: Vec<Value> = serde_json::from_str(text).ok()?;
    list.iter()
        .map(|e| {
            let text = |name: &str| e.get(name)?.as_str();
            let (field, message) = (text("field")?.to_owned(), text("message")?.to_owned());
            Some(FieldError { field, code: static_code(text("code")?), message })
        })
        .collect()
}

/// The codes that this version knows; one written by a later version is shown as `invalid`.
const FIELD_CODES: [&str; 8] = [
    "unknown_field",
    "missing",
    "invalid",
    "out_of_range",
    "unknown_team",
    "team_not_allowed",
    "never_fits",
    "too_large",
];

fn static_code(code: &str) -> &'static str {
    FIELD_CODES.into_iter().find(|known| *known == code).unwrap_or("invalid")
}

fn amounts(value: &Value) -> Option<BTreeMap<String, u64>> {
    value.as_object()?.iter().map(|(name, amount)| Some((name.clone(), amount.as_u64()?))).collect()
}

fn texts(value: &Value) -> Option<BTreeMap<String, String>> {
    value.as_object()?.iter().map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use yard_domain::PodDemand;

    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let request = Request {
            cpu_milli: 1_500,
            gpu_milli: 0,
            memory_bytes: u64::MAX,
            jobs: 1,
            custom_milli: BTreeMap::from([("A\"100".to_owned(), 1)]),
        };
        assert_eq!(read_request(&write_request(&request)), Some(request.clone()));
        assert_eq!(read_capacity(&write_capacity(&Capacity(request.clone()))), Some(Capacity(request)));
        let limits = Limits { cpu_milli: None, jobs: Some(0), ..Limits::default() };
        assert_eq!(read_limits(&write_limits(&limits)), Some(limits));
        let east: ClusterId = "east".parse().unwrap();
        let labels = BTreeMap::from([("region".to_owned(), "ä".to_owned())]);
        let selector = ClusterSelector {
            only: [east.clone()].into(),
            labels: labels.clone(),
            ..ClusterSelector::default()
        };
        assert_eq!(read_selector(&write_selector(&selector)), Some(selector.clone()));
        let choosy = ClusterSelector {
            avoid: ["west".parse().unwrap()].into(),
            prefer: labels.clone(),
            driver: Some("kuberay".to_owned()),
            pods: Some(Box::new(PodDemand { profile: Some("gpu".to_owned()), ..PodDemand::default() })),
            ..selector
        };
        assert_eq!(read_selector(&write_selector(&choosy)), Some(choosy));
        let mut past = PastUse::new(Duration::from_hours(1), Timestamp::from_micros(5));
        assert_eq!(read_past(&write_past(&past)), Some(past.clone()));
        past.advance(&Request { cpu_milli: 1_000, ..Request::default() }, Timestamp::from_micros(60_000_000));
        assert!((read_past(&write_past(&past)).unwrap().mean["cpu"] - past.mean["cpu"]).abs() < 1e-9);
        assert_eq!(read_labels(&write_labels(&labels)), Some(labels));
        let sentences = BTreeMap::from([(east, "full".to_owned())]);
        assert_eq!(read_by_cluster(&write_by_cluster(&sentences)), Some(sentences));
        let errors = vec![FieldError { field: "a.b".to_owned(), code: "missing", message: "m".to_owned() }];
        assert_eq!(read_errors(&write_errors(&errors)), Some(errors));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for bad in ["", "{}", "[]", r#"{"cpu_milli":-1}"#] {
            assert_eq!(read_request(bad), None, "{bad}");
            assert_eq!(read_limits(bad), None, "{bad}");
        }
        assert_eq!(read_selector(r#"{"only":["NOT A NAME"],"labels":{}}"#), None);
        assert_eq!(
            read_selector(r#"{"only":[],"labels":{}}"#),
            Some(ClusterSelector::default()),
            "an old row"
        );
        assert_eq!(read_past("{}"), None);
    }
}
