//! Leases: one holder per scope at a time, by the database's clock, each grant with a larger token.

use std::collections::BTreeSet;

use yard_domain::{Lease, LeaseScope};

use super::World;
use super::world::{LONG, SHORT, cluster_id, eventually};

fn east() -> LeaseScope {
    LeaseScope::Dispatch(cluster_id("east"))
}

/// While one holds it, nobody else gets it; other scopes are free.
pub async fn one_holder_per_scope(w: &World) {
    let lease = w.store.acquire_lease(&east(), "d1", LONG).await.unwrap().unwrap();
    assert_eq!((lease.scope.clone(), lease.holder.as_str()), (east(), "d1"));
    let now = w.now().await;
    assert!(lease.is_valid(now) && lease.expires_at.since(now) <= LONG);
    assert_eq!(w.store.acquire_lease(&east(), "d2", LONG).await.unwrap(), None);
    let west = LeaseScope::Dispatch(cluster_id("west"));
    let presence = LeaseScope::Presence("d2".to_owned());
    let other = w.store.acquire_lease(&west, "d2", LONG).await.unwrap().unwrap();
    let present = w.store.acquire_lease(&presence, "d2", LONG).await.unwrap().unwrap();
    let mut all = w.store.leases().await.unwrap();
    all.sort_by_key(|l| l.token);
    assert_eq!(all, [lease, other, present]);
}

/// A renewal moves the end; one that has ended is lost for good, even if nobody took it.
pub async fn renewal_extends_and_expiry_loses(w: &World) {
    let lease = w.store.acquire_lease(&east(), "d1", LONG).await.unwrap().unwrap();
    let renewed =
        w.store.renew_leases(std::slice::from_ref(&lease), LONG * 2).await.unwrap().remove(0).unwrap();
    assert_eq!((renewed.token, renewed.holder.as_str()), (lease.token, "d1"));
    assert!(renewed.expires_at > lease.expires_at.plus(LONG / 2));
    let short = w.store.renew_leases(std::slice::from_ref(&lease), SHORT).await.unwrap().remove(0).unwrap();
    eventually("the lease's end", async || (!short.is_valid(w.now().await)).then_some(())).await;
    assert_eq!(w.store.renew_leases(&[lease], LONG).await.unwrap(), [None]);
    assert_eq!(w.store.leases().await.unwrap(), []);
}

/// The next holder gets a larger token, and the one before can't renew.
pub async fn takeover_gives_a_larger_token(w: &World) {
    let first = w.store.acquire_lease(&east(), "d1", SHORT).await.unwrap().unwrap();
    let second =
        eventually("takeover", async || w.store.acquire_lease(&east(), "d2", LONG).await.unwrap()).await;
    assert!(second.token > first.token);
    assert_eq!(w.store.renew_leases(&[first.clone(), second.clone()], LONG).await.unwrap()[0], None);
    // Giving back what one has lost takes nothing from the next.
    w.store.release_lease(&first).await.unwrap();
    assert_eq!(w.store.leases().await.unwrap()[0].token, second.token);
}

/// A holder that starts anew under its old name is fenced from its own past.
pub async fn asking_again_gives_a_fresh_token(w: &World) {
    let first = w.store.acquire_lease(&east(), "d1", LONG).await.unwrap().unwrap();
    let second = w.store.acquire_lease(&east(), "d1", LONG).await.unwrap().unwrap();
    assert!(second.token > first.token);
    assert_eq!(w.store.renew_leases(&[first], LONG).await.unwrap(), [None]);
}

/// A lease given back can be had at once.
pub async fn releasing_frees_at_once(w: &World) {
    let first = w.store.acquire_lease(&east(), "d1", LONG).await.unwrap().unwrap();
    w.store.release_lease(&first).await.unwrap();
    assert_eq!(w.store.leases().await.unwrap(), []);
    assert_eq!(w.store.renew_leases(std::slice::from_ref(&first), LONG).await.unwrap(), [None]);
    let second = w.store.acquire_lease(&east(), "d2", LONG).await.unwrap().unwrap();
    assert!(second.token > first.token);
}

/// A holder's leases are renewed together; each answer stands at its lease's place.
pub async fn one_call_renews_many(w: &World) {
    let mut leases: Vec<Lease> = Vec::new();
    for i in 0..20 {
        let scope = LeaseScope::Scheduler(format!("s{i}"));
        leases.push(w.store.acquire_lease(&scope, "me", LONG).await.unwrap().unwrap());
    }
    leases.reverse();
    w.store.release_lease(&leases[7]).await.unwrap();
    // A token of one scope says nothing about another.
    let crossed = Lease { token: leases[0].token, ..leases[1].clone() };
    leases.push(crossed);
    let renewed = w.store.renew_leases(&leases, LONG * 2).await.unwrap();
    assert_eq!(renewed.len(), leases.len());
    for (i, (lease, renewed)) in leases.iter().zip(&renewed).enumerate() {
        match renewed {
            None => assert!(i == 7 || i == 20, "{i}"),
            Some(new) => {
                assert_eq!((&new.scope, new.token), (&lease.scope, lease.token));
                assert!(new.expires_at > lease.expires_at);
            }
        }
    }
    assert_eq!(renewed.iter().filter(|r| r.is_none()).count(), 2);
    assert_eq!(w.store.renew_leases(&[], LONG).await.unwrap(), []);
}

/// Eight ask for a free scope at once: one gets it; tokens are never given twice.
pub async fn racing_holders_get_one_lease(w: &World) {
    let mut tokens = BTreeSet::new();
    for _ in 0..5 {
        let tasks: Vec<_> = (0..8)
            .map(|i| {
                let store = w.store.clone();
                tokio::spawn(
                    async move { store.acquire_lease(&east(), &format!("d{i}"), LONG).await.unwrap() },
                )
            })
            .collect();
        let mut granted = Vec::new();
        for task in tasks {
            granted.extend(task.await.unwrap());
        }
        assert_eq!(granted.len(), 1, "{granted:?}");
        assert!(tokens.insert(granted[0].token));
        w.store.release_lease(&granted[0]).await.unwrap();
    }
}
