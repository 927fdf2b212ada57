//! How wrong expected starts were: the first forecast of each waiting head is remembered until it is placed.

use std::collections::HashMap;
use std::time::Duration;

use yard_domain::job::QueueOrder;
use yard_domain::{Shape, TeamId, Timestamp};
use yard_planner::{Plan, Reservation};
use yard_ports::store::ForecastError;

/// Most forecasts remembered at once.
const OPEN_MAX: usize = 10_000;

/// Forecasts whose jobs have not started yet.
#[derive(Debug, Default)]
pub struct Forecasts {
    open: HashMap<(TeamId, Shape), Forecast>,
}

#[derive(Debug, Clone, Copy)]
struct Forecast {
    order: QueueOrder,
    made_at: Timestamp,
    expected: Timestamp,
}

impl Forecasts {
    /// Takes in a plan made at `now`. What it places of a forecast is an outcome; heads that hold a reservation for the
    /// first time are forecasts to come; others are forgotten (stopped, or in another scheduler's hands).
    pub fn follow(&mut self, plan: &Plan, now: Timestamp) -> Vec<ForecastError> {
        let mut outcomes = Vec::new();
        for placement in &plan.placements {
            if let Some(forecast) = self.open.remove(&(placement.team.clone(), placement.shape)) {
                outcomes.push(forecast.outcome(now));
            }
        }
        let mut open = HashMap::with_capacity(plan.reservations.len());
        for reservation in plan.reservations.iter().take(OPEN_MAX) {
            let key = (reservation.team.clone(), reservation.shape);
            let kept = self.open.get(&key).filter(|f| f.order == reservation.order).copied();
            open.insert(key, kept.unwrap_or_else(|| Forecast::new(reservation, now)));
        }
        self.open = open;
        outcomes
    }
}

impl Forecast {
    fn new(reservation: &Reservation, now: Timestamp) -> Self {
        Self { order: reservation.order, made_at: now, expected: reservation.expected }
    }

    fn outcome(&self, now: Timestamp) -> ForecastError {
        let ahead = self.expected.as_micros().saturating_sub(self.made_at.as_micros());
        ForecastError {
            horizon: Duration::from_micros(u64::try_from(ahead).unwrap_or(0)),
            late_us: now.as_micros().saturating_sub(self.expected.as_micros()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_planner::Placement;

    #[test]
    fn the_first_forecast_is_held_against_the_start() {
        let at = |s: i64| Timestamp::from_micros(s * 1_000_000);
        let reservation = |expected| Reservation {
            team: "ads".parse().unwrap(),
            shape: Shape(1),
            order: QueueOrder(7),
            cluster: "east".parse().unwrap(),
            start_by: at(1_000),
            expected: at(expected),
        };
        let waiting = |expected| Plan { reservations: vec![reservation(expected)], ..Plan::default() };
        let mut forecasts = Forecasts::default();
        assert_eq!(forecasts.follow(&waiting(100), at(0)), []);
        assert_eq!(forecasts.follow(&waiting(160), at(90)), [], "a later one counts for nothing");
        let placement =
            Placement { team: "ads".parse().unwrap(), shape: Shape(1), cluster: "east".parse().unwrap() };
        let placed = Plan { placements: vec![placement], ..Plan::default() };
        let wanted = ForecastError { horizon: Duration::from_secs(100), late_us: 50_000_000 };
        assert_eq!(forecasts.follow(&placed, at(150)), [wanted]);
        assert_eq!(forecasts.follow(&placed, at(151)), []);
    }
}
