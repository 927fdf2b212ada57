//! What knowing the capacity of many nodes and pods takes: memory, time, and how soon a change is known.

use std::path::Path;
use std::time::Instant;

use kube::runtime::watcher::Config;
use yard_ports::Driver;

use super::crowd::{CHURN, Crowd, Made, POD_CPU_MILLI};
use super::place::{Place, driver};
use super::plain_watch::PlainWatch;
use super::watcher::{Taken, What, measure};
use super::{node_label, wait_fast};
use crate::report::{Detail, Finding};
use crate::stats::{median, millis, quantile};
use crate::{Plan, Result};

/// Of ours and the floor, of each round.
type Rounds = Vec<(Taken, Taken)>;

/// Runs this part.
pub async fn run(plan: &Plan, kubeconfig: &Path, nodes: usize, pods: usize) -> Result<Vec<Finding>> {
    let place = Place::create(kubeconfig).await?;
    let crowd = Crowd::new(&place, nodes, pods);
    let findings = rounds(plan, kubeconfig, &place, &crowd, &format!("{nodes} nodes, {pods} pods")).await;
    // Taking them away takes as long as making them: what was found is told before.
    for Finding { what, figure, unit, floor, .. } in findings.iter().flatten() {
        eprintln!("kubernetes: {what}: {figure:.3} {unit}, floor {floor:.3?}");
    }
    crowd.unmake().await?;
    place.remove().await?;
    findings
}

async fn rounds(
    plan: &Plan,
    kubeconfig: &Path,
    place: &Place,
    crowd: &Crowd<'_>,
    size: &str,
) -> Result<Vec<Finding>> {
    let made = crowd.make().await?;
    eprintln!("kubernetes: made {size}, {:.0} objects/s", made.per_s);
    let mut rounds = Rounds::new();
    for _ in 0..plan.rounds {
        let floor = measure(plan, &place.namespace, What::Capacity, true, Some(crowd)).await?;
        let ours = measure(plan, &place.namespace, What::Capacity, false, Some(crowd)).await?;
        rounds.push((ours, floor));
    }
    let mut findings = findings(&rounds, size, &made);
    findings.push(changes(plan, kubeconfig, place, crowd, size).await?);
    Ok(findings)
}

fn findings(rounds: &Rounds, size: &str, made: &Made) -> Vec<Finding> {
    let of = |pick: fn(&Taken) -> f64| -> Vec<(f64, f64)> {
        rounds.iter().map(|(ours, floor)| (pick(ours), pick(floor))).collect()
    };
    let beside = |what: String, unit, pick| Finding::beside("kubernetes", what, unit, of(pick));
    let ours = |pick: fn(&Taken) -> f64| median(&of(pick).iter().map(|r| r.0).collect::<Vec<_>>());
    let note = "floor: kube-rs's store of the same nodes and pods, whole; each in a process of its own";
    vec![
        beside(format!("memory for the capacity of {size}"), "MB", |t| t.memory)
            .details(vec![
                Detail::new("its highest", ours(|t| t.peak), "MB"),
                Detail::new("the text of one pod", made.pod_bytes as f64, "bytes"),
            ])
            .note(note),
        beside(format!("start → first whole answer, {size}"), "s", |t| t.first_s).details(vec![Detail::new(
            "of which it calculated",
            ours(|t| t.first_cpu_s),
            "s",
        )]),
        beside(format!("of a core, {size}, quiet"), "%", |t| t.quiet),
        beside(format!("of a core, {size}, {CHURN} changes/s wanted"), "%", |t| t.busy)
            .details(vec![Detail::new("changes that there were", ours(|t| t.changes), "/s")]),
    ]
}

/// From a pod that comes to a capacity that says so.
async fn changes(
    plan: &Plan,
    kubeconfig: &Path,
    place: &Place,
    crowd: &Crowd<'_>,
    size: &str,
) -> Result<Finding> {
    let driver = driver(kubeconfig, &place.namespace, Some(node_label(&place.namespace)))?;
    let known = async || Ok::<_, crate::Failure>(driver.capacity().await?.ok_or("no capacity")?.0.cpu_milli);
    let mut expected = crowd.cpu_milli();
    let first = known().await?;
    if first != expected {
        return Err(format!("the capacity of {size} is {first} thousandths of a CPU, not {expected}").into());
    }
    let mut plain =
        PlainWatch::begin(place.api("v1", "Pod", true), Config::default().labels("yard-bench=probe")).await?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    let names: Vec<String> = (0..plan.pick(100, 10)).map(|i| format!("probe-{i}")).collect();
    for (i, name) in names.iter().enumerate() {
        let called = Instant::now();
        crowd.add(name, i, "probe").await?;
        expected -= POD_CPU_MILLI;
        wait_fast(async || Ok(known().await? == expected)).await?;
        ours.push(millis(called.elapsed()));
        floor.push(millis(plain.until(name).await?.saturating_duration_since(called)));
    }
    for name in &names {
        crowd.remove(name).await?;
    }
    let p99 = Detail::new("p99", quantile(&ours, 0.99), "ms");
    Ok(Finding::beside(
        "kubernetes",
        format!("a pod made → in the capacity, {size}"),
        "ms",
        vec![(median(&ours), median(&floor))],
    )
    .details(vec![p99])
    .note(
        "from the call that makes the pod, looked for each millisecond; floor: the same pod in a plain watch",
    ))
}
