//! One newtype per identifier, so that none can stand in for another.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use uuid::Uuid;

/// Longest team or cluster id, in bytes: a DNS-1123 label, so that it can be a Kubernetes label value.
pub const NAME_MAX: usize = 63;

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{value:?} is not a valid {what}: use 1 to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit"
)]
pub struct InvalidName {
    /// What the name was to be ("team", "cluster").
    pub what: &'static str,
    /// The text as given.
    pub value: String,
}

fn is_dns_label(s: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = s.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= NAME_MAX
        && bytes.iter().all(|&b| edge(b) || b == b'-')
        && edge(bytes[0])
        && edge(bytes[bytes.len() - 1])
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(s: &str) -> Result<Self, InvalidName> {
                if is_dns_label(s) {
                    Ok(Self(s.into()))
                } else {
                    Err(InvalidName { what: $what, value: s.chars().take(100).collect() })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A team: who is charged. A DNS-1123 label.
    TeamId, "team"
);
name_type!(
    /// A cohort: teams (and cohorts) that lend each other what they do not use. A DNS-1123 label.
    CohortId, "cohort"
);
name_type!(
    /// A priority class. A DNS-1123 label.
    ClassId, "priority class"
);
name_type!(
    /// A cluster: where jobs run. A DNS-1123 label.
    ClusterId, "cluster"
);
name_type!(
    /// A subscription of a team to what happens to its submissions. A DNS-1123 label.
    PushName, "subscription"
);

/// A job: a UUID of version 7, so that ids sort by the time of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub Uuid);

impl JobId {
    /// A fresh id from a wall-clock reading (milliseconds since the epoch) and 80 bits of randomness.
    /// The time is only for the order of ids; nothing is decided by it.
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// The wall-clock reading in it, in milliseconds since the epoch.
    pub fn unix_ms(self) -> u64 {
        (self.0.as_u128() >> 80) as u64
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for JobId {
    type Err = uuid::Error;
    fn from_str(s: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(s).map(Self)
    }
}

impl ClassId {
    /// The name of the class that there is when none are declared.
    pub fn of_default() -> Self {
        Self("default".into())
    }
}

/// Which launch of a job this is: 1 for the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptNumber(pub u32);

impl AttemptNumber {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for AttemptNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fencing number of a lease: unique over all leases ever granted, and growing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseToken(pub i64);

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// This installation of Switchyard: made once with its store. What runs on a cluster under another
/// instance's name is not ours to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceId(pub Uuid);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// The name of an attempt on its cluster: a function of job and attempt, so that launching twice is the
/// same launch. At most 47 characters and a DNS-1035 label (KubeRay's limit for RayJob names).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteName(String);

impl RemoteName {
    /// The remote name of one attempt.
    pub fn new(job: JobId, attempt: AttemptNumber) -> Self {
        Self(format!("yard-{}-{}", job.0.simple(), attempt.0))
    }

    /// Reads a remote name back; `None` if it is not one of ours.
    pub fn parse(name: &str) -> Option<(JobId, AttemptNumber)> {
        let (job, attempt) = name.strip_prefix("yard-")?.split_once('-')?;
        let job = (job.len() == 32).then(|| Uuid::try_parse(job).ok())??;
        let attempt = AttemptNumber(attempt.parse().ok()?);
        (RemoteName::new(JobId(job), attempt).0 == name).then_some((JobId(job), attempt))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RemoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a job asks for and where it may run, as a 64-bit hash: jobs of one team and shape are
/// interchangeable to the planner, so those that can't fit are skipped together. Only a grouping key:
/// charges always come from the job's own request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "ads", "team-1", "9x"] {
            assert!(good.parse::<TeamId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<ClusterId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn remote_names_round_trip_and_fit_kuberay() {
        let job = JobId::new(1_700_000_000_000, [7; 10]);
        let name = RemoteName::new(job, AttemptNumber(u32::MAX));
        assert!(name.as_str().len() <= 48, "{}", name.as_str().len());
        assert_eq!(RemoteName::parse(name.as_str()), Some((job, AttemptNumber(u32::MAX))));
        assert!(RemoteName::new(job, AttemptNumber(99_999)).as_str().len() <= 47);
        for other in ["raysubmit_x", "yard-1-1", "yard-", "yard-0000-01"] {
            assert_eq!(RemoteName::parse(other), None, "{other}");
        }
    }
}
