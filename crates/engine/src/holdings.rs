//! The open attempts, as placement looks at them: read only when something waits for room, and never for more than a
//! small part of the time.

use std::time::Duration;

use tokio::time::Instant;
use yard_ports::store::OpenHolding;
use yard_ports::{Store, StoreError};

/// Reading takes at most one part in this many of the time.
const SHARE: u32 = 20;

/// The open attempts as last read.
#[derive(Debug, Default)]
pub struct Holdings {
    list: Vec<OpenHolding>,
    next: Option<Instant>,
}

impl Holdings {
    /// What was read last.
    pub fn list(&self) -> &[OpenHolding] {
        &self.list
    }

    /// Reads them again if that is due, or if `now_please`. Whether it did.
    pub async fn refresh(
        &mut self,
        store: &dyn Store,
        max: u32,
        now_please: bool,
    ) -> Result<bool, StoreError> {
        let began = Instant::now();
        if !now_please && self.next.is_some_and(|next| began < next) {
            return Ok(false);
        }
        self.list = store.open_holdings(max).await?;
        let took: Duration = began.elapsed();
        metrics::histogram!("yard_holdings_seconds").record(took.as_secs_f64());
        self.next = Some(Instant::now() + took * SHARE);
        Ok(true)
    }
}
