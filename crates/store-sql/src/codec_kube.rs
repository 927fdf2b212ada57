//! What is kept of clusters that make a Ray cluster for each job, as JSON text, to and fro (see `codec`).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use yard_domain::{GpuBlocks, JobField, PodDemand, RayProfile, RayProfiles, Request, WorkerShape};

use crate::codec::{request_json, request_of};

pub(crate) fn write_profiles(profiles: &RayProfiles) -> String {
    let one = |(name, profile): (&String, &RayProfile)| {
        let may_set: Vec<_> = profile.job_may_set.iter().map(|field| field.name()).collect();
        let value = json!({
            "job_may_set": may_set,
            "gpu_types": profile.gpu_types,
            "whole": profile.whole,
            "head_min": request_json(&profile.head_min),
            "worker_min": request_json(&profile.worker_min),
            "submitter": request_json(&profile.submitter),
            "autoscaler": request_json(&profile.autoscaler),
        });
        (name.clone(), value)
    };
    let all: Map<String, Value> = profiles.profiles.iter().map(one).collect();
    json!({"default": profiles.default, "links": profiles.links, "profiles": all}).to_string()
}

pub(crate) fn read_profiles(text: &str) -> Option<RayProfiles> {
    let value: Value = serde_json::from_str(text).ok()?;
    let one = |(name, profile): (&String, &Value)| {
        let request = |key: &str| request_of(profile.get(key)?.as_object()?);
        let profile = RayProfile {
            // A field that a later version lets jobs set is none that this one knows of.
            job_may_set: names(profile.get("job_may_set")?)?
                .iter()
                .filter_map(|name| JobField::from_name(name))
                .collect(),
            gpu_types: names(profile.get("gpu_types")?)?,
            whole: names(profile.get("whole")?)?,
            head_min: request("head_min")?,
            worker_min: request("worker_min")?,
            submitter: request("submitter")?,
            autoscaler: request("autoscaler")?,
        };
        Some((name.clone(), profile))
    };
    Some(RayProfiles {
        default: value.get("default")?.as_str()?.to_owned(),
        links: value.get("links")?.as_bool()?,
        profiles: value.get("profiles")?.as_object()?.iter().map(one).collect::<Option<_>>()?,
    })
}

pub(crate) fn write_gpu_blocks(blocks: &[GpuBlocks]) -> String {
    let one = |b: &GpuBlocks| {
        json!({"kind": b.kind, "capacity_milli": b.capacity, "free_milli": b.free, "largest_free_milli": b.largest_free,
            "largest_milli": b.largest})
    };
    Value::Array(blocks.iter().map(one).collect()).to_string()
}

pub(crate) fn read_gpu_blocks(text: &str) -> Option<Vec<GpuBlocks>> {
    let list: Vec<Value> = serde_json::from_str(text).ok()?;
    let one = |value: &Value| {
        let milli = |name: &str| value.get(name)?.as_u64();
        Some(GpuBlocks {
            kind: value.get("kind")?.as_str()?.to_owned(),
            capacity: milli("capacity_milli")?,
            free: milli("free_milli")?,
            largest_free: milli("largest_free_milli")?,
            largest: milli("largest_milli")?,
        })
    };
    list.iter().map(one).collect()
}

/// A part of a selector.
pub(crate) fn demand_json(demand: &PodDemand) -> Value {
    let sets: Vec<_> = demand.sets.iter().map(|field| field.name()).collect();
    let workers = demand
        .workers
        .as_ref()
        .map(|w| json!({"min": w.min, "max": w.max, "each": request_json(&w.each), "gpu_type": w.gpu_type}));
    json!({"profile": demand.profile, "sets": sets, "uploads": demand.uploads, "workers": workers})
}

/// Reads [`demand_json`] back.
pub(crate) fn demand_of(value: &Value) -> Option<PodDemand> {
    let optional = |value: &Value| match value {
        Value::Null => Some(None),
        text => Some(Some(text.as_str()?.to_owned())),
    };
    let workers = match value.get("workers")? {
        Value::Null => None,
        workers => {
            let count = |name: &str| u32::try_from(workers.get(name)?.as_u64()?).ok();
            let each: Request = request_of(workers.get("each")?.as_object()?)?;
            let gpu_type = optional(workers.get("gpu_type")?)?;
            Some(WorkerShape { min: count("min")?, max: count("max")?, each, gpu_type })
        }
    };
    Some(PodDemand {
        profile: optional(value.get("profile")?)?,
        sets: names(value.get("sets")?)?
            .iter()
            .map(|name| JobField::from_name(name))
            .collect::<Option<_>>()?,
        uploads: value.get("uploads")?.as_bool()?,
        workers,
    })
}

fn names(value: &Value) -> Option<BTreeSet<String>> {
    value.as_array()?.iter().map(|name| Some(name.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let some = Request { cpu_milli: 1_500, memory_bytes: 1 << 40, ..Request::default() };
        let profile = RayProfile {
            job_may_set: JobField::ALL.into(),
            gpu_types: ["a\"100".to_owned()].into(),
            whole: ["fpga".to_owned()].into(),
            head_min: some.clone(),
            worker_min: Request { cpu_milli: 7, ..Request::default() },
            submitter: Request::default(),
            autoscaler: some.clone(),
        };
        let profiles = [("p".to_owned(), profile), ("q".to_owned(), RayProfile::default())].into();
        let profiles = RayProfiles { default: "p".to_owned(), links: true, profiles };
        assert_eq!(read_profiles(&write_profiles(&profiles)), Some(profiles));
        let blocks = GpuBlocks { kind: "ä".to_owned(), capacity: 4, free: 3, largest_free: 1, largest: 2 };
        let blocks = vec![blocks, GpuBlocks::default()];
        assert_eq!(read_gpu_blocks(&write_gpu_blocks(&blocks)), Some(blocks));
        let workers = WorkerShape { min: 0, max: 7, each: some, gpu_type: None };
        let other = WorkerShape { gpu_type: Some("t".to_owned()), ..workers.clone() };
        for workers in [None, Some(workers), Some(other)] {
            let demand = PodDemand {
                profile: workers.as_ref().map(|_| "p".to_owned()),
                sets: [JobField::Env].into(),
                uploads: true,
                workers,
            };
            assert_eq!(demand_of(&demand_json(&demand)), Some(demand));
        }
        assert_eq!((read_profiles("{}"), read_gpu_blocks("{}"), demand_of(&json!({}))), (None, None, None));
    }
}
