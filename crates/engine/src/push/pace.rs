//! How many deliveries of a subscription may be under way. A receiver that is down is asked by one at a time, until it
//! answers again: all others that wait for it would only cost attempts, and hammer it when it comes back.

/// So many failures in a row, of whatever deliveries, and the receiver counts as down.
const DOWN_AFTER: u32 = 5;

/// What is known of a receiver.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    in_flight_max: usize,
    failures: u32,
}

impl Pace {
    /// Of a receiver that nothing is known of.
    pub fn new(in_flight_max: usize) -> Self {
        Self { in_flight_max, failures: 0 }
    }

    /// An attempt has ended.
    pub fn saw(&mut self, arrived: bool) {
        self.failures = if arrived { 0 } else { self.failures.saturating_add(1) };
    }

    /// How many more may be sent while so many are under way.
    pub fn room(&self, in_flight: usize) -> usize {
        let most = if self.failures >= DOWN_AFTER { 1 } else { self.in_flight_max };
        most.saturating_sub(in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_is_down_is_asked_by_one_at_a_time() {
        let mut pace = Pace::new(8);
        assert_eq!((pace.room(0), pace.room(8), pace.room(9)), (8, 0, 0));
        for _ in 0..DOWN_AFTER - 1 {
            pace.saw(false);
        }
        assert_eq!(pace.room(0), 8);
        pace.saw(false);
        assert_eq!((pace.room(0), pace.room(1), pace.room(5)), (1, 0, 0));
        pace.saw(true);
        assert_eq!(pace.room(1), 7);
    }
}
