//! Which of the clusters that have room is best.

use yard_domain::{Capacity, Request};

use crate::Fit;
use crate::order::mix;
use crate::snapshot::{Group, Snapshot};

/// How much better one cluster is than another: smaller is better. Its order is the preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// The fullest resource's use after the placement, in millionths (for packing: what is then left of it).
    fullness: u64,
    tie: u64,
}

/// The best of `candidates` (never empty).
pub fn best(
    snapshot: &Snapshot,
    used: &[Request],
    group: &Group,
    candidates: &[usize],
    fit: Fit,
    seed: u64,
) -> usize {
    let score = |&i: &usize| {
        let full = match &snapshot.clusters[i].cluster.capacity {
            Some(capacity) => fullness(capacity, &used[i], &group.request),
            None => 0,
        };
        let fullness = match fit {
            Fit::Spread => full,
            Fit::Pack => 1_000_000u64.saturating_sub(full),
        };
        Score { fullness, tie: mix(seed, i as u64) }
    };
    candidates.iter().copied().min_by_key(score).unwrap_or(candidates[0])
}

/// The share of the fullest of the requested resources, in millionths, once the request is added.
fn fullness(capacity: &Capacity, used: &Request, request: &Request) -> u64 {
    request
        .amounts()
        .filter(|(_, amount)| *amount > 0)
        .map(|(name, amount)| {
            let (after, whole) =
                (u128::from(used.amount(name)) + u128::from(amount), u128::from(capacity.0.amount(name)));
            u64::try_from(after * 1_000_000 / whole.max(1)).unwrap_or(u64::MAX)
        })
        .max()
        .unwrap_or(0)
}
