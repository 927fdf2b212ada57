//! Listens, and stops in order.

use std::io;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::routes::router;
use crate::state::AppState;

/// Answers requests on `listener` until `shutdown`; then takes no new ones, lets open ones finish for up to
/// the configured drain time, and returns.
pub async fn serve(listener: TcpListener, state: AppState, shutdown: CancellationToken) -> io::Result<()> {
    let state = AppState { shutdown: shutdown.clone(), ..state };
    let drain = state.config.drain_timeout;
    info!(address = %listener.local_addr()?, "the API listens");
    let listener = listener.tap_io(|stream| {
        // Answers are small and should leave at once.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "can't set TCP_NODELAY");
        }
    });
    let serving =
        axum::serve(listener, router(state)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let out_of_time = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        result = async { serving.await } => result,
        () = out_of_time => {
            warn!(drain_s = drain.as_secs_f64(), "requests that were still open were cut off");
            Ok(())
        }
    }
}
