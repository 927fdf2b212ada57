//! What watching many RayJobs takes: memory, and the share of a core while nothing happens.

use std::path::Path;

use super::place::{Place, raw};
use super::watcher::{Taken, What, measure};
use crate::report::{Detail, Finding, Target};
use crate::stats::median;
use crate::{Plan, Result};

/// Runs this part.
pub async fn run(plan: &Plan, kubeconfig: &Path) -> Result<Vec<Finding>> {
    let place = Place::create(kubeconfig).await?;
    let findings = rounds(plan, &place).await?;
    place.remove().await?;
    Ok(findings)
}

async fn rounds(plan: &Plan, place: &Place) -> Result<Vec<Finding>> {
    let n = plan.pick(10_000, 100);
    raw(place, n).await?;
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let floor = measure(plan, &place.namespace, What::Jobs, true, None).await?;
        rounds.push((measure(plan, &place.namespace, What::Jobs, false, None).await?, floor));
    }
    let of = |pick: fn(&Taken) -> f64| -> Vec<(f64, f64)> {
        rounds.iter().map(|(ours, floor)| (pick(ours), pick(floor))).collect()
    };
    let beside = |what: String, unit, pick| Finding::beside("kubernetes", what, unit, of(pick));
    let peak = median(&of(|t| t.peak).iter().map(|r| r.0).collect::<Vec<_>>());
    Ok(vec![
        beside(format!("memory for watching {n} RayJobs"), "MB", |t| t.memory)
            .target(Target::AtMost(100.0))
            .details(vec![Detail::new("its highest", peak, "MB")])
            .note("floor: kube-rs's store of the same RayJobs, whole; each in a process of its own"),
        beside(format!("of a core, watching {n} quiet RayJobs"), "%", |t| t.quiet)
            .target(Target::AtMost(10.0)),
        beside(format!("start → all {n} RayJobs are known"), "s", |t| t.first_s),
    ])
}
