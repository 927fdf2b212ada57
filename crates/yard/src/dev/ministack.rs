//! The queue server of `yard dev`: ministack, with only SQS switched on (docs/facts/ministack.md).
//!
//! It writes its state when it ends in order, so that queues and messages are there again after a Ctrl-C. When it is
//! killed, it is back at its last orderly end: a message that it had lost was lost before Switchyard saw it, and one
//! that is there again meets its own receipt.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use yard_inbox_sqs::{SqsCredentials, SqsEndpoint, SqsProducer};
use yard_ports::InboxError;

use super::folder::Folder;
use super::server::{Launch, Server, ServerError};

/// Submissions are sent to this queue.
pub const QUEUE: &str = "submissions";
/// Rejected ones end up in this one.
pub const DEAD_LETTER_QUEUE: &str = "submissions-dead";
const NAME: &str = "queue";
const START_TIMEOUT: Duration = Duration::from_mins(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// It writes its state in this time.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// A running queue server with both queues.
#[derive(Debug)]
pub struct MiniStack {
    /// Where SQS is spoken.
    pub endpoint: SqsEndpoint,
    /// The URL of [`QUEUE`].
    pub queue_url: String,
    /// The URL of [`DEAD_LETTER_QUEUE`].
    pub dead_letter_url: String,
}

/// Why there is no queue: one line.
#[derive(Debug, thiserror::Error)]
pub enum MiniStackError {
    /// The server is not there.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The queues can't be made.
    #[error(transparent)]
    Queue(#[from] InboxError),
}

impl MiniStack {
    /// Starts it, or takes over the one of an earlier `yard dev` that is alive and well.
    pub async fn start(
        folder: &Folder,
        python: &Path,
        http: &reqwest::Client,
    ) -> Result<Self, MiniStackError> {
        let server = match found(folder, http).await {
            Some(server) => server,
            None => launch(folder, python, http).await?,
        };
        let url = base_url(&server);
        let endpoint = SqsEndpoint { region: None, url: Some(url), credentials: SqsCredentials::Local };
        let producer = SqsProducer::connect(&endpoint, CALL_TIMEOUT).await;
        let queue_url = producer.ensure_queue(QUEUE).await?;
        let dead_letter_url = producer.ensure_queue(DEAD_LETTER_QUEUE).await?;
        Ok(Self { endpoint, queue_url, dead_letter_url })
    }
}

/// Ends it in order, if it runs.
pub async fn stop(folder: &Folder) -> std::io::Result<()> {
    Server::end(folder, NAME, STOP_GRACE).await
}

async fn found(folder: &Folder, http: &reqwest::Client) -> Option<Server> {
    let mut server = Server::find(folder, NAME)?;
    if server.is_alive() && is_ready(http, &base_url(&server)).await {
        return Some(server);
    }
    // Alive and not well: it goes, and what doesn't go is reported when the new one starts.
    _ = server.stop(STOP_GRACE).await;
    None
}

async fn launch(folder: &Folder, python: &Path, http: &reqwest::Client) -> Result<Server, ServerError> {
    let start = |source| ServerError::Start { name: NAME.to_owned(), source };
    let ports = folder.ports(NAME, 1).map_err(start)?;
    let host = Ipv4Addr::LOCALHOST.to_string();
    let environment = vec![
        ("BIND_HOST", host.clone().into()),
        ("MINISTACK_HOST", host.into()),
        ("GATEWAY_PORT", ports[0].to_string().into()),
        ("SERVICES", "sqs".into()),
        ("SFTP_ENABLED", "0".into()),
        ("IOT_MTLS_ENABLED", "0".into()),
        ("PERSIST_STATE", "1".into()),
        ("STATE_DIR", folder.path("queue").into()),
        ("LOG_LEVEL", "WARNING".into()),
        ("AWS_ACCESS_KEY_ID", "local".into()),
        ("AWS_SECRET_ACCESS_KEY", "local".into()),
        ("AWS_DEFAULT_REGION", "us-east-1".into()),
    ];
    let arguments = vec!["-m".into(), "ministack".into()];
    let mut server =
        Server::launch(folder, Launch { name: NAME, python, arguments, environment, ports }).await?;
    let url = base_url(&server);
    if let Err(error) = server.wait_ready(START_TIMEOUT, async || is_ready(http, &url).await).await {
        _ = server.stop(Duration::ZERO).await;
        return Err(error);
    }
    Ok(server)
}

fn base_url(server: &Server) -> String {
    let port = server.ports().first().copied().unwrap_or_default();
    format!("http://{}:{port}", Ipv4Addr::LOCALHOST)
}

async fn is_ready(http: &reqwest::Client, url: &str) -> bool {
    let answer = http.get(format!("{url}/_ministack/ready")).timeout(Duration::from_secs(5)).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}
