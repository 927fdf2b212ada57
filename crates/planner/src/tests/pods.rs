//! Jobs whose charge is cut into pods: where that can't be done, they are not placed.

use std::sync::Arc;

use yard_domain::{GpuBlocks, PodDemand, RayProfile, RayProfiles};

use super::*;

fn kube(id: &str, gpus: u64, profiles: &[&str]) -> ClusterView {
    let mut view = cluster(id, 100, gpus, 100);
    let named = profiles.iter().map(|name| ((*name).to_owned(), RayProfile::default())).collect();
    view.cluster.ray_profiles =
        Some(Arc::new(RayProfiles { default: profiles[0].to_owned(), links: false, profiles: named }));
    view
}

fn of_profile(profile: &str, request: Request) -> Group {
    let pods = PodDemand { profile: Some(profile.to_owned()), ..PodDemand::default() };
    let clusters = ClusterSelector { pods: Some(Box::new(pods)), ..ClusterSelector::default() };
    Group { shape: shape_of(&request, &clusters, RUN), clusters, ..group("a", request, 0, 0..2) }
}

fn planned(clusters: Vec<ClusterView>, group: Group) -> Plan {
    plan(&snapshot(vec![team("a", 1, None)], clusters, vec![group]), &policy(), NOW, 1)
}

#[test]
fn a_cluster_that_can_not_make_the_ray_cluster_is_no_candidate() {
    let clusters = || vec![kube("k1", 8, &["cpu"]), kube("k2", 8, &["cpu", "gpu"])];
    let two = planned(clusters(), of_profile("gpu", request(1, 1)));
    assert_eq!(counts(&two), [(("a".to_owned(), "k2".to_owned()), 2)].into());
    let none = planned(clusters(), of_profile("tpu", request(1, 1)));
    assert_eq!((none.placements.len(), none.reservations.len()), (0, 0));
    let told: Vec<_> =
        none.refusals[0].clusters.iter().map(|(c, r)| format!("{c} {}: {r}", r.code())).collect();
    assert_eq!(
        told,
        [
            "k1 no_ray_cluster: has no profile \"tpu\"; there are: cpu",
            "k2 no_ray_cluster: has no profile \"tpu\"; there are: cpu, gpu"
        ]
    );
}

#[test]
fn the_same_selector_is_open_to_one_charge_and_closed_to_another() {
    // Half a GPU is for standing clusters only, a whole one for both.
    let half = Request { gpu_milli: 500, ..request(1, 0) };
    let mut groups = vec![group("a", half, 0, 0..1), group("a", request(1, 1), 0, 1..2)];
    let clusters = vec![cluster("standing", 100, 8, 1), kube("kube", 8, &["cpu"])];
    let teams = || vec![team("a", 1, None)];
    for _ in 0..2 {
        let plan = plan(&snapshot(teams(), clusters.clone(), groups.clone()), &policy(), NOW, 1);
        let on = |gpus: u64| {
            let of = |shape| groups.iter().find(|g| g.shape == shape).unwrap().request.gpu_milli;
            let found = plan.placements.iter().find(|p| of(p.shape) == gpus);
            found.map(|p| p.cluster.to_string())
        };
        assert_eq!((on(500).as_deref(), plan.placements.len()), (Some("standing"), 2));
        assert_eq!(on(1_000).as_deref(), Some("kube"));
        groups.reverse();
    }
}

#[test]
fn what_no_node_can_have_waits_and_what_is_only_scattered_is_placed() {
    let blocks = |largest: u64| GpuBlocks {
        free: 12_000,
        largest_free: 4_000,
        largest: largest * 1_000,
        ..GpuBlocks::default()
    };
    let of = |largest: u64| {
        let mut view = kube("kube", 16, &["gpu"]);
        view.cluster.gpu_blocks = vec![blocks(largest)];
        view
    };
    let never = planned(vec![of(4)], group("a", request(1, 8), 0, 0..1));
    let (_, refusal) = &never.refusals[0].clusters[0];
    assert_eq!(refusal.code(), "no_block");
    let sentence = refusal.to_string();
    assert!(sentence.starts_with("free 12 gpu, largest block 4: no pod can have 8"), "{sentence}");
    assert_eq!(planned(vec![of(8)], group("a", request(1, 8), 0, 0..1)).placements.len(), 1);
    // Nodes may come.
    let mut grows = of(4);
    grows.cluster.elastic = Some(yard_domain::Elastic { present: None, delay: RUN });
    assert_eq!(planned(vec![grows], group("a", request(1, 8), 0, 0..1)).placements.len(), 1);
}
