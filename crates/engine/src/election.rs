//! Which replica dispatches which cluster: each takes free ones up to its fair share, and gives one back
//! when it has more than that. Nobody is in charge; the lease rows decide every race.

use std::collections::{BTreeMap, BTreeSet};

use yard_domain::{ClusterId, Lease, LeaseScope};

/// What a replica should do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Free clusters to try for, best first.
    pub acquire: Vec<ClusterId>,
    /// Of its own, to be given back (at most one at a time: each move is a takeover).
    pub give_back: Option<ClusterId>,
}

/// Decides for replica `me`. `idle` tells for how many looks in a row each cluster has been free: one that
/// stays free is taken by anybody, fair share or not. Those in `keep` are not given back: nobody else took them.
pub fn decide(
    me: &str,
    clusters: &BTreeSet<ClusterId>,
    leases: &[Lease],
    idle: &BTreeMap<ClusterId, u32>,
    keep: &BTreeSet<ClusterId>,
) -> Verdict {
    let mut holders: BTreeMap<&ClusterId, &str> = BTreeMap::new();
    let mut present: BTreeSet<&str> = BTreeSet::from([me]);
    for lease in leases {
        match &lease.scope {
            LeaseScope::Dispatch(cluster) => _ = holders.insert(cluster, &lease.holder),
            LeaseScope::Presence(holder) => _ = present.insert(holder),
            LeaseScope::Scheduler(_) => {}
        }
    }
    let fair = clusters.len().div_ceil(present.len());
    let mut mine: Vec<&ClusterId> = clusters.iter().filter(|c| holders.get(c) == Some(&me)).collect();
    let mut free: Vec<&ClusterId> = clusters.iter().filter(|c| !holders.contains_key(c)).collect();
    free.sort_by_key(|c| preference(me, c));
    mine.sort_by_key(|c| preference(me, c));
    let room = fair.saturating_sub(mine.len());
    let stale = |c: &ClusterId| idle.get(c).is_some_and(|n| *n >= IDLE_LOOKS);
    let acquire: Vec<ClusterId> =
        free.iter().enumerate().filter(|(i, c)| *i < room || stale(c)).map(|(_, c)| (*c).clone()).collect();
    let mut movable = mine.iter().filter(|c| !keep.contains(c));
    let give_back =
        (mine.len() > fair && free.is_empty()).then(|| movable.next_back().map(|c| (*c).clone())).flatten();
    Verdict { acquire, give_back }
}

/// Looks after which a free cluster is anybody's.
pub const IDLE_LOOKS: u32 = 3;

/// Rendezvous hashing (Thaler and Ravishankar): each replica has its own order of preference, so that they
/// rarely race for the same one. FNV-1a: stable across builds.
fn preference(me: &str, cluster: &ClusterId) -> u64 {
    me.bytes()
        .chain([0])
        .chain(cluster.as_str().bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use yard_domain::{LeaseToken, Timestamp};

    use super::*;

    fn lease(scope: LeaseScope, holder: &str) -> Lease {
        let (token, expires_at) = (LeaseToken(1), Timestamp::from_micros(1));
        Lease { scope, token, holder: holder.into(), expires_at }
    }

    fn clusters(n: usize) -> BTreeSet<ClusterId> {
        (0..n).map(|i| format!("c{i}").parse().unwrap()).collect()
    }

    /// Rounds of everybody deciding in turn on what the others have done end with fair shares and stay there.
    #[test]
    fn replicas_share_out_all_clusters_and_come_to_rest() {
        for (n, replicas) in [(1, 3), (2, 3), (4, 3), (7, 2), (10, 3), (5, 1)] {
            let clusters = clusters(n);
            let names: Vec<String> = (0..replicas).map(|i| format!("r{i}")).collect();
            let mut owner: BTreeMap<ClusterId, String> =
                clusters.iter().map(|c| (c.clone(), "r0".into())).collect();
            let mut moves = usize::MAX;
            for _ in 0..100 {
                moves = 0;
                for me in &names {
                    let mut leases: Vec<Lease> =
                        owner.iter().map(|(c, h)| lease(LeaseScope::Dispatch(c.clone()), h)).collect();
                    leases.extend(names.iter().map(|h| lease(LeaseScope::Presence(h.clone()), h)));
                    let verdict = decide(me, &clusters, &leases, &BTreeMap::new(), &BTreeSet::new());
                    for cluster in verdict.acquire {
                        assert!(owner.insert(cluster, me.clone()).is_none(), "only free ones are taken");
                        moves += 1;
                    }
                    if let Some(cluster) = verdict.give_back {
                        assert_eq!(owner.remove(&cluster).as_ref(), Some(me));
                        moves += 1;
                    }
                }
                if moves == 0 {
                    break;
                }
            }
            assert_eq!(moves, 0, "comes to rest with {n} clusters and {replicas} replicas");
            assert_eq!(owner.len(), n);
            for me in &names {
                assert!(owner.values().filter(|h| *h == me).count() <= n.div_ceil(replicas));
            }
        }
    }

    #[test]
    fn what_stays_free_is_anybodys() {
        let clusters = clusters(2);
        let leases = [
            lease(LeaseScope::Dispatch("c0".parse().unwrap()), "me"),
            lease(LeaseScope::Presence("broken".into()), "broken"),
        ];
        let mut idle = BTreeMap::from([("c1".parse().unwrap(), IDLE_LOOKS - 1)]);
        assert!(decide("me", &clusters, &leases, &idle, &BTreeSet::new()).acquire.is_empty());
        idle.insert("c1".parse().unwrap(), IDLE_LOOKS);
        assert_eq!(decide("me", &clusters, &leases, &idle, &BTreeSet::new()).acquire.len(), 1);
    }

    #[test]
    fn what_nobody_else_took_is_kept() {
        let clusters = clusters(2);
        let mut leases: Vec<Lease> =
            clusters.iter().map(|c| lease(LeaseScope::Dispatch(c.clone()), "me")).collect();
        leases.push(lease(LeaseScope::Presence("other".into()), "other"));
        let given =
            |keep: &BTreeSet<ClusterId>| decide("me", &clusters, &leases, &BTreeMap::new(), keep).give_back;
        let first = given(&BTreeSet::new()).unwrap();
        let second = given(&BTreeSet::from([first.clone()])).unwrap();
        assert_ne!(first, second);
        assert_eq!(given(&clusters), None);
    }
}
