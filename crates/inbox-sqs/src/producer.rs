//! The other end of a queue: making it, sending to it, counting what is in it.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::get_queue_url::GetQueueUrlError;
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use yard_ports::InboxError;

use crate::client::connect;
use crate::config::{SqsConfig, SqsEndpoint};
use crate::error::inbox_error;

/// Sends submissions and makes queues: for `yard dev` and tests. Producers in the field use any SQS client.
#[derive(Debug, Clone)]
pub struct SqsProducer {
    client: Client,
}

/// How many messages a queue holds, as far as SQS tells: its counts lag a little.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Waiting to be received.
    pub waiting: u64,
    /// Received, and neither deleted nor visible again.
    pub hidden: u64,
}

impl SqsProducer {
    /// A producer at `endpoint`. Makes no call to SQS.
    pub async fn connect(endpoint: &SqsEndpoint, call_timeout: Duration) -> Self {
        Self { client: connect(endpoint, call_timeout).await }
    }

    /// The URL of the queue called `name`, which is made if it is missing, for messages of up to 1 MiB.
    pub async fn ensure_queue(&self, name: &str) -> Result<String, InboxError> {
        let missing = match self.client.get_queue_url().queue_name(name).send().await {
            Ok(answer) => return url_of(name, answer.queue_url),
            Err(error) => error,
        };
        if !missing.as_service_error().is_some_and(GetQueueUrlError::is_queue_does_not_exist) {
            return Err(inbox_error(name, &missing));
        }
        let call = self
            .client
            .create_queue()
            .queue_name(name)
            .attributes(QueueAttributeName::MaximumMessageSize, "1048576");
        let made = call.send().await.map_err(|e| inbox_error(name, &e))?;
        url_of(name, made.queue_url)
    }

    /// Sends every body, ten a call; an error names the queue's URL, and some may have been sent by then.
    pub async fn send(&self, url: &str, bodies: &[String]) -> Result<(), InboxError> {
        let refused = |reason: String| InboxError::Refused { queue: url.to_owned(), reason };
        for chunk in bodies.chunks(SqsConfig::BATCH_MAX as usize) {
            let entry = |(i, body): (usize, &String)| {
                SendMessageBatchRequestEntry::builder().id(i.to_string()).message_body(body).build()
            };
            let entries = chunk.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>();
            let entries = entries.map_err(|e| refused(e.to_string()))?;
            let call = self.client.send_message_batch().queue_url(url).set_entries(Some(entries));
            let answer = call.send().await.map_err(|e| inbox_error(url, &e))?;
            if let Some(first) = answer.failed.first() {
                return Err(refused(format!(
                    "{}: {}",
                    first.code,
                    first.message.as_deref().unwrap_or("no message")
                )));
            }
        }
        Ok(())
    }

    /// How many messages the queue holds.
    pub async fn depth(&self, url: &str) -> Result<QueueDepth, InboxError> {
        use QueueAttributeName::{
            ApproximateNumberOfMessages as Waiting, ApproximateNumberOfMessagesNotVisible as Hidden,
        };
        let call = self
            .client
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(Waiting)
            .attribute_names(Hidden);
        let answer = call.send().await.map_err(|e| inbox_error(url, &e))?;
        let counts = answer.attributes.unwrap_or_default();
        let count = |name| counts.get(&name).and_then(|n| n.parse().ok());
        match (count(Waiting), count(Hidden)) {
            (Some(waiting), Some(hidden)) => Ok(QueueDepth { waiting, hidden }),
            _ => Err(InboxError::Refused {
                queue: url.to_owned(),
                reason: "it does not tell its depth".to_owned(),
            }),
        }
    }
}

fn url_of(name: &str, url: Option<String>) -> Result<String, InboxError> {
    let none = || InboxError::Refused { queue: name.to_owned(), reason: "it has no URL".to_owned() };
    url.ok_or_else(none)
}
