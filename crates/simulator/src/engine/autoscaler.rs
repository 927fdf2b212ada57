//! Elastic clusters: what is missing is there after the autoscaler's delay, what is idle for long is taken away.

use std::time::Duration;

use yard_domain::{Elastic, Request, Timestamp};

/// The autoscaler of one cluster.
#[derive(Debug)]
pub(crate) struct Scaling {
    /// What is there now.
    pub(super) present: Request,
    /// What is always there.
    floor: Request,
    delay: Duration,
    /// What is on its way: (when, up to how much), sooner first.
    coming: Vec<(Timestamp, Request)>,
    /// The most in use since the last look at what is idle; `None` if no look is due.
    peak: Option<Request>,
}

impl Scaling {
    pub(super) fn new(elastic: &Elastic) -> Self {
        let floor = elastic.present.as_ref().map(|c| c.0.clone()).unwrap_or_default();
        Self { present: floor.clone(), floor, delay: elastic.delay, coming: Vec::new(), peak: None }
    }

    /// So much is in use now. Answers when all of it is there: at once, with what is on its way, or (with what to be
    /// added, and when) after another delay.
    pub(super) fn used(&mut self, used: &Request, now: Timestamp) -> (Timestamp, Option<Request>) {
        if let Some(peak) = &mut self.peak {
            raise(peak, used);
        }
        if covers(&self.present, used) {
            return (now, None);
        }
        if let Some((at, _)) = self.coming.iter().find(|(_, up_to)| covers(up_to, used)) {
            return (*at, None);
        }
        let at = now.plus(self.delay);
        self.coming.push((at, used.clone()));
        (at, Some(used.clone()))
    }

    pub(super) fn grown(&mut self, up_to: &Request, now: Timestamp) {
        self.coming.retain(|(at, _)| *at > now);
        raise(&mut self.present, up_to);
    }

    /// Less is in use now. Whether a look at what is idle is to be planned.
    pub(super) fn freed(&mut self, used: &Request) -> bool {
        let plan = self.peak.is_none();
        if plan {
            self.peak = Some(used.clone());
        }
        plan
    }

    /// Takes away what was idle since the look was planned. Whether another look is to be planned.
    pub(super) fn shrink(&mut self, used: &Request) -> bool {
        let Some(mut peak) = self.peak.take() else { return false };
        raise(&mut peak, &self.floor);
        for name in names(&self.present) {
            self.present.set(&name, self.present.amount(&name).min(peak.amount(&name)));
        }
        let more = names(&self.present)
            .iter()
            .any(|n| self.present.amount(n) > used.amount(n).max(self.floor.amount(n)));
        if more {
            self.peak = Some(used.clone());
        }
        more
    }

    /// Its machines are gone.
    pub(super) fn lost(&mut self) {
        self.present = self.floor.clone();
        self.coming.clear();
    }
}

fn names(request: &Request) -> Vec<String> {
    request.amounts().map(|(name, _)| name.to_owned()).collect()
}

/// Whether all of `used` is there; how many jobs that is does not matter to machines.
fn covers(present: &Request, used: &Request) -> bool {
    used.amounts().all(|(name, amount)| name == "jobs" || amount <= present.amount(name))
}

fn raise(to: &mut Request, at_least: &Request) {
    for (name, amount) in at_least.amounts() {
        let raised = to.amount(name).max(amount);
        to.set(name, raised);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(n: u64) -> Request {
        Request { gpu_milli: n * 1_000, ..Request::default() }
    }

    #[test]
    fn what_is_missing_comes_after_the_delay_and_what_is_idle_goes() {
        let delay = Duration::from_mins(5);
        let mut scaling = Scaling::new(&Elastic { present: None, delay });
        let (t0, minute) = (Timestamp::from_micros(0), Duration::from_mins(1));
        let there = t0.plus(delay);
        assert_eq!(scaling.used(&gpus(4), t0), (there, Some(gpus(4))));
        assert_eq!(scaling.used(&gpus(3), t0.plus(minute)), (there, None), "with what is on its way");
        assert_eq!(scaling.used(&gpus(5), t0.plus(minute)), (there.plus(minute), Some(gpus(5))));
        scaling.grown(&gpus(4), there);
        assert_eq!(scaling.used(&gpus(4), there), (there, None));
        scaling.grown(&gpus(5), there.plus(minute));
        assert!(scaling.freed(&gpus(1)));
        assert!(!scaling.freed(&gpus(1)), "one look at a time");
        _ = scaling.used(&gpus(2), there.plus(minute));
        assert!(scaling.shrink(&gpus(1)), "2 were in use meanwhile, 1 is now");
        assert_eq!(scaling.present.gpu_milli, 2_000);
        assert!(!scaling.shrink(&gpus(1)));
        assert_eq!(scaling.present.gpu_milli, 1_000);
    }
}
