//! The ledger: what teams and clusters have in use. Charged with the placement, refunded with the end of
//! the attempt, in the same transactions; an audit recomputes it from the open attempts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::ids::{ClusterId, TeamId};
use crate::resources::Request;
use crate::time::Timestamp;

/// Whose account it is. The order (clusters before teams, then by id) is the order in which rows are locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountOwner {
    /// What runs on this cluster.
    Cluster(ClusterId),
    /// What this team has running.
    Team(TeamId),
}

impl AccountOwner {
    /// `cluster` or `team`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cluster(_) => "cluster",
            Self::Team(_) => "team",
        }
    }

    /// The owner's id.
    pub fn id(&self) -> &str {
        match self {
            Self::Cluster(c) => c.as_str(),
            Self::Team(t) => t.as_str(),
        }
    }
}

impl fmt::Display for AccountOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.id())
    }
}

/// An account with what is in use.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// Whose.
    pub owner: AccountOwner,
    /// What open attempts have been charged, together.
    pub used: Request,
    /// What it has used in the past, if the policy remembers that. Teams only.
    pub past: Option<PastUse>,
}

/// Past use, fading: the mean of what was in use at each instant, where an instant `half_life` further back counts
/// half as much. (The exponentially decayed usage of Slurm's fair-share factor, normalised to the unit of what is in
/// use.) It is not a charge: it only bears on the order between teams, so it may be a fraction.
#[derive(Debug, Clone, PartialEq)]
pub struct PastUse {
    /// After this long, use counts half.
    pub half_life: Duration,
    /// The mean by resource, in base units.
    pub mean: BTreeMap<String, f64>,
    /// Up to when it has been counted.
    pub as_of: Timestamp,
}

impl PastUse {
    /// Nothing used before `now`.
    pub fn new(half_life: Duration, now: Timestamp) -> Self {
        Self { half_life, mean: BTreeMap::new(), as_of: now }
    }

    /// Counts that `used` was in use from `as_of` until `now`. A clock that went backwards counts nothing.
    pub fn advance(&mut self, used: &Request, now: Timestamp) {
        let passed = now.as_micros().saturating_sub(self.as_of.as_micros());
        if passed <= 0 {
            return;
        }
        let half_lives = passed as f64 / (self.half_life.as_micros() as f64).max(1.0);
        let kept = (-half_lives).exp2();
        for (name, _) in used.amounts().filter(|(_, amount)| *amount > 0) {
            self.mean.entry(name.to_owned()).or_insert(0.0);
        }
        for (name, mean) in &mut self.mean {
            let amount = used.amount(name) as f64;
            *mean = amount + (*mean - amount) * kept;
        }
        self.mean.retain(|name, mean| used.amount(name) > 0 || *mean >= 0.5);
        self.as_of = now;
    }

    /// The mean in whole base units.
    pub fn rounded(&self) -> Request {
        let mut request = Request::default();
        for (name, mean) in &self.mean {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "rounded, never below 0"
            )]
            request.set(name, mean.round() as u64);
        }
        request
    }
}

/// An account whose stored sum is not the sum of its open attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Whose.
    pub owner: AccountOwner,
    /// What the ledger says.
    pub stored: Request,
    /// What the open attempts add up to.
    pub recomputed: Request,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_use_fades_by_half_each_half_life_however_often_it_is_counted() {
        let t0 = Timestamp::from_micros(0);
        let hour = Duration::from_hours(1);
        let used = Request { cpu_milli: 8_000, jobs: 2, ..Request::default() };
        let mut once = PastUse::new(hour, t0);
        once.advance(&used, t0.plus(hour));
        assert_eq!(once.rounded(), Request { cpu_milli: 4_000, jobs: 1, ..Request::default() });
        let mut often = PastUse::new(hour, t0);
        for minute in 1..=3_600 {
            often.advance(&used, t0.plus(Duration::from_secs(minute)));
        }
        assert!((often.mean["cpu"] - once.mean["cpu"]).abs() < 0.001);
        once.advance(&Request::default(), t0.plus(hour * 3));
        assert_eq!(once.rounded().cpu_milli, 1_000);
        once.advance(&used, t0);
        assert_eq!(once.rounded().cpu_milli, 1_000, "a clock that went backwards");
        once.advance(&Request::default(), t0.plus(hour * 40));
        assert!(once.mean.is_empty());
    }
}
