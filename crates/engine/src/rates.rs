//! How fast teams may submit through this process: a token bucket each, shared by all its doors. Nothing is rejected for
//! it: HTTP tells the client when to come again, a message is hidden in its queue for as long.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use yard_domain::{SubmitRate, Team, TeamId};

type Bucket<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// See the module. Teams without a rate are not in it.
pub struct SubmitRates<C: Clock = DefaultClock> {
    clock: C,
    teams: Mutex<HashMap<TeamId, Arc<Limited<C>>>>,
}

struct Limited<C: Clock> {
    rate: SubmitRate,
    bucket: Bucket<C>,
    /// When the last of those that were told to wait is to come again.
    last_turn: Mutex<Option<C::Instant>>,
}

impl Default for SubmitRates {
    fn default() -> Self {
        Self::with_clock(DefaultClock::default())
    }
}

impl<C: Clock + Clone> SubmitRates<C> {
    /// By this clock.
    pub fn with_clock(clock: C) -> Self {
        Self { clock, teams: Mutex::default() }
    }

    /// Takes over what teams may do now. A team whose rate stays keeps its bucket as full as it is.
    pub fn set(&self, teams: &[Team]) {
        let mut known = self.teams.lock().unwrap_or_else(PoisonError::into_inner);
        let rated = teams.iter().filter_map(|team| Some((&team.id, team.submit_rate?)));
        let next = rated.map(|(id, rate)| {
            let kept = known.remove(id).filter(|limited| limited.rate == rate);
            (id.clone(), kept.unwrap_or_else(|| Arc::new(Limited::new(rate, self.clock.clone()))))
        });
        let next: HashMap<_, _> = next.collect();
        *known = next;
    }

    /// Counts a submission. An error: it is over the rate; how long until there is room for one.
    pub fn take(&self, team: &TeamId) -> Result<(), Duration> {
        let Some(limited) = self.of(team) else { return Ok(()) };
        limited.bucket.check().map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// Counts a submission that can be put off. An error: how long it should wait, one turn after all that have been put
    /// off before it, so that they don't all come again at once only to be put off again.
    pub fn take_or_turn(&self, team: &TeamId) -> Result<(), Duration> {
        let Some(limited) = self.of(team) else { return Ok(()) };
        let now = self.clock.now();
        let Err(not_until) = limited.bucket.check() else { return Ok(()) };
        let first = now + not_until.wait_time_from(now).into();
        let mut last = limited.last_turn.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = last.map_or(first, |last| (last + limited.period().into()).max(first));
        *last = Some(turn);
        Err(turn.duration_since(now).into())
    }

    fn of(&self, team: &TeamId) -> Option<Arc<Limited<C>>> {
        self.teams.lock().unwrap_or_else(PoisonError::into_inner).get(team).cloned()
    }
}

impl<C: Clock> Limited<C> {
    fn new(rate: SubmitRate, clock: C) -> Self {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_minute(at_least_one(rate.per_minute)).allow_burst(at_least_one(rate.burst));
        Self { rate, bucket: RateLimiter::direct_with_clock(quota, clock), last_turn: Mutex::new(None) }
    }

    fn period(&self) -> Duration {
        Duration::from_mins(1) / self.rate.per_minute.max(1)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn team(id: &str, rate: Option<(u32, u32)>) -> Team {
        let submit_rate = rate.map(|(per_minute, burst)| SubmitRate { per_minute, burst });
        Team { submit_rate, ..Team::new(id.parse().unwrap()) }
    }

    #[test]
    fn each_team_has_its_own_bucket_and_the_rest_is_free() {
        let clock = FakeRelativeClock::default();
        let rates = SubmitRates::with_clock(clock.clone());
        let (ads, search): (TeamId, TeamId) = ("ads".parse().unwrap(), "search".parse().unwrap());
        let teams = [team("ads", Some((60, 2))), team("search", None)];
        rates.set(&teams);
        assert_eq!([rates.take(&ads), rates.take(&ads)], [Ok(()), Ok(())]);
        assert_eq!(rates.take(&ads), Err(Duration::from_secs(1)));
        assert!((0..100).all(|_| rates.take(&search).is_ok()), "no rate: as fast as it likes");
        clock.advance(Duration::from_secs(1));
        rates.set(&teams);
        assert_eq!(
            [rates.take(&ads), rates.take(&ads)],
            [Ok(()), Err(Duration::from_secs(1))],
            "set again, not filled again"
        );
        rates.set(&[team("ads", Some((60, 3)))]);
        assert!((0..3).all(|_| rates.take(&ads).is_ok()), "another rate is another bucket");
        rates.set(&[]);
        assert_eq!(rates.take(&ads), Ok(()));
    }

    #[test]
    fn those_that_are_put_off_come_again_one_after_the_other_and_find_room() {
        let clock = FakeRelativeClock::default();
        let rates = SubmitRates::with_clock(clock.clone());
        let ads: TeamId = "ads".parse().unwrap();
        rates.set(&[team("ads", Some((30, 1)))]);
        assert_eq!(rates.take_or_turn(&ads), Ok(()));
        let turns: Vec<_> = (0..3).map(|_| rates.take_or_turn(&ads).unwrap_err().as_secs()).collect();
        assert_eq!(turns, [2, 4, 6]);
        for _ in 0..3 {
            clock.advance(Duration::from_secs(2));
            assert_eq!(rates.take_or_turn(&ads), Ok(()));
        }
        assert_eq!(rates.take_or_turn(&ads), Err(Duration::from_secs(2)));
    }
}
