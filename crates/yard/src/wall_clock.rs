//! The one place that reads the wall clock.

/// The wall clock in milliseconds since the Unix epoch, for [`yard_domain::JobId::new`] and nothing else: every decision
/// takes the database's time.
#[expect(clippy::disallowed_methods, reason = "the one place: it orders ids, and decides nothing")]
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
