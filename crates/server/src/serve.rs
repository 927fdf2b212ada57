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
    let service = router(state).into_make_service_with_connect_info::<std::net::SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(shutdown.clone().cancelled_owned());
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ServerConfig;
    use crate::testing::{Log, OPERATOR, World};

    #[tokio::test]
    async fn it_serves_on_a_socket_and_stops_when_told_even_with_a_stream_open() {
        _ = rustls::crypto::ring::default_provider().install_default();
        let config = ServerConfig { drain_timeout: Duration::from_mins(10), ..ServerConfig::default() };
        let world = World::with(config).await;
        let id = world.job("k").await;
        let attempt = world.run(id, "east").await;
        let name = yard_domain::RemoteName::new(id, attempt).to_string();
        world.driver.logs.lock().unwrap().insert(name, Log::Text("so far"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let get = |url| reqwest::Client::new().get(url).bearer_auth(OPERATOR).send();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, world.state.clone(), stop.clone()));
        let job: serde_json::Value = get(format!("{base}/v1/jobs/{id}")).await.unwrap().json().await.unwrap();
        assert_eq!(job["state"], "running");
        let mut log = get(format!("{base}/v1/jobs/{id}/logs?follow=true")).await.unwrap();
        assert_eq!(&log.chunk().await.unwrap().unwrap()[..], b"so far");
        stop.cancel();
        assert!(log.chunk().await.is_err(), "the stream is cut, not ended");
        serving.await.unwrap().unwrap();
        assert!(reqwest::get(&base).await.unwrap_err().is_connect());
    }
}
