//! What a dispatcher shows of itself as gauges, for as long as it is the cluster's dispatcher.

use metrics::{Gauge, gauge};
use yard_domain::ClusterId;

/// Gauges of one tenure. They go back to 0 at its end: whoever dispatches next, here or elsewhere, shows its own, and
/// a sum over processes must not count a cluster twice.
pub struct Gauges {
    open_attempts: Gauge,
    breaker_open: Gauge,
}

impl Gauges {
    /// The gauges of this cluster.
    pub fn of(cluster: &ClusterId) -> Self {
        Self {
            open_attempts: gauge!("yard_open_attempts", "cluster" => cluster.to_string()),
            breaker_open: gauge!("yard_breaker_open", "cluster" => cluster.to_string()),
        }
    }

    /// Shows how many attempts are open, and whether launches are held back.
    pub fn show(&self, open_attempts: usize, breaker_open: bool) {
        self.open_attempts.set(open_attempts as f64);
        self.breaker_open.set(f64::from(u8::from(breaker_open)));
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.show(0, false);
    }
}
