//! Whether a failed attempt is tried again: a pure function of rules, policy, failure and counts.

use std::time::Duration;

use crate::failure::FailureClass;

/// What the job's owner asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// *Retries* (not attempts) after failures that are the job's own: a job runs at most `1 + max_retries`
    /// times through them.
    pub max_retries: u32,
}

/// What the operator allows, for all jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRules {
    /// Retries after failures that are not the job's fault (lost, launch): bounded, so that nothing goes round for ever.
    pub max_infra_retries: u32,
    /// Wait before the first retry.
    pub backoff_initial: Duration,
    /// Longest wait before a retry, before jitter.
    pub backoff_max: Duration,
}

impl Default for RetryRules {
    fn default() -> Self {
        Self {
            max_infra_retries: 10,
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_mins(5),
        }
    }
}

/// How often a job has already been retried, by who pays for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryCounts {
    /// Retries charged to [`RetryPolicy::max_retries`].
    pub own: u32,
    /// Retries charged to [`RetryRules::max_infra_retries`].
    pub infra: u32,
    /// Times preempted; charged to nobody.
    pub preempted: u32,
}

/// Which budget a failure is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// The job's own retries.
    Own,
    /// The installation's.
    Infra,
    /// None: preemption is never the job's fault.
    Free,
    /// The same again would fail the same.
    Never,
}

/// The verdict on a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryVerdict {
    /// Back to the queue, not before this long from now.
    Retry {
        /// The wait, jitter included.
        after: Duration,
        /// The budget that pays.
        budget: Budget,
    },
    /// The job ends as failed.
    GiveUp,
}

/// Which budget pays for a retry after a failure of this class.
pub fn budget(class: FailureClass) -> Budget {
    match class {
        FailureClass::User | FailureClass::RuntimeEnv => Budget::Own,
        FailureClass::Launch | FailureClass::Lost => Budget::Infra,
        FailureClass::Preempted => Budget::Free,
        FailureClass::Refused | FailureClass::RunTimeout | FailureClass::StoppedRemotely => Budget::Never,
    }
}

/// Decides whether to try again. `jitter` in `0.0..=1.0` comes from the caller: the wait is between half
/// and the whole of an exponential backoff ("equal jitter").
///
/// Order of checks: a class that never helps; the budget's limit; then the wait.
pub fn decide(
    rules: &RetryRules,
    policy: RetryPolicy,
    counts: RetryCounts,
    class: FailureClass,
    jitter: f64,
) -> RetryVerdict {
    let budget = budget(class);
    let (used, limit) = match budget {
        Budget::Never => return RetryVerdict::GiveUp,
        Budget::Own => (counts.own, policy.max_retries),
        Budget::Infra => (counts.infra, rules.max_infra_retries),
        Budget::Free => return RetryVerdict::Retry { after: Duration::ZERO, budget },
    };
    if used >= limit {
        return RetryVerdict::GiveUp;
    }
    let full = rules
        .backoff_initial
        .saturating_mul(1u32.checked_shl(used).unwrap_or(u32::MAX))
        .min(rules.backoff_max);
    RetryVerdict::Retry { after: full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0)), budget }
}

impl RetryCounts {
    /// These counts after one more retry paid by `budget`.
    #[must_use]
    pub fn after(mut self, budget: Budget) -> Self {
        match budget {
            Budget::Own => self.own += 1,
            Budget::Infra => self.infra += 1,
            Budget::Free => self.preempted += 1,
            Budget::Never => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_paid_by_its_budget() {
        let rules = RetryRules { max_infra_retries: 1, ..RetryRules::default() };
        let none = RetryPolicy { max_retries: 0 };
        let verdict = |class, counts| decide(&rules, none, counts, class, 1.0);
        for class in FailureClass::ALL {
            let first = verdict(class, RetryCounts::default());
            let retried = matches!(first, RetryVerdict::Retry { .. });
            assert_eq!(retried, matches!(budget(class), Budget::Infra | Budget::Free), "{class:?}");
        }
        let spent = RetryCounts { infra: 1, preempted: 1_000, ..RetryCounts::default() };
        assert_eq!(verdict(FailureClass::Lost, spent), RetryVerdict::GiveUp);
        assert!(matches!(verdict(FailureClass::Preempted, spent), RetryVerdict::Retry { .. }));
    }

    proptest::proptest! {
        #[test]
        fn waits_grow_and_stay_bounded_and_retries_end(max in 0u32..50, jitter in 0.0f64..=1.0) {
            let rules = RetryRules::default();
            let mut counts = RetryCounts::default();
            let mut rounds = 0;
            while let RetryVerdict::Retry { after, budget } =
                decide(&rules, RetryPolicy { max_retries: max }, counts, FailureClass::User, jitter)
            {
                proptest::prop_assert!(after <= rules.backoff_max && after >= rules.backoff_initial / 2);
                counts = counts.after(budget);
                rounds += 1;
            }
            proptest::prop_assert_eq!(rounds, max);
        }
    }
}
