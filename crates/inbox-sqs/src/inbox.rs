//! Receive, delete, extend: [`Inbox`] over SQS.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{BuildError, SdkError};
use aws_sdk_sqs::operation::send_message::SendMessageError;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    MessageAttributeValue, MessageSystemAttributeName,
};
use tokio::sync::OnceCell;
use tracing::{debug, warn};
use yard_domain::Timestamp;
use yard_ports::{Inbox, InboxError, Message, MessageHandle, Spill, Spilled};

use crate::client::{connect, timeouts};
use crate::config::{QueueAddress, SqsConfig};
use crate::dead_letter::{self, BODY_BYTES, DeadLetter, REASON};
use crate::error::{code, inbox_error};
use crate::spill;

/// A queue of submissions on SQS. Cheap to share behind an `Arc`; several receivers may use it at once.
///
/// Dropping a `receive` that is under way may leave messages hidden until their visibility timeout ends:
/// let it finish (it takes no longer than the configured wait) where a shutdown has the time.
#[derive(Debug)]
pub struct SqsInbox {
    client: Client,
    config: SqsConfig,
    url: OnceCell<String>,
}

impl SqsInbox {
    /// An inbox on the queue that `config` names. Makes no call to SQS: whether the queue is there shows
    /// with the first one.
    pub async fn connect(config: SqsConfig) -> Self {
        let client = connect(&config.endpoint, config.call_timeout).await;
        Self { client, config, url: OnceCell::new() }
    }

    /// The queue's URL; looked up once if only its name is known.
    async fn url(&self) -> Result<&str, InboxError> {
        let found = self.url.get_or_try_init(async || match &self.config.queue {
            QueueAddress::Url(url) => Ok(url.clone()),
            QueueAddress::Name(name) => {
                let answer =
                    self.client.get_queue_url().queue_name(name).send().await.map_err(|e| self.failed(&e))?;
                answer.queue_url.ok_or_else(|| self.refused(format!("no URL is known for the queue {name}")))
            }
        });
        Ok(found.await?.as_str())
    }

    fn failed<E>(&self, error: &SdkError<E, HttpResponse>) -> InboxError
    where
        E: aws_sdk_sqs::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        inbox_error(&self.config.name, error)
    }

    fn refused(&self, reason: impl Into<String>) -> InboxError {
        InboxError::Refused { queue: self.config.name.clone(), reason: reason.into() }
    }

    /// Deletes at most ten messages; the positions of those that could not be.
    async fn delete_chunk(&self, chunk: &[MessageHandle]) -> Result<Vec<usize>, InboxError> {
        let entries = entries(chunk, |id, handle| {
            DeleteMessageBatchRequestEntry::builder().id(id).receipt_handle(handle).build()
        });
        let entries = entries.map_err(|e| self.refused(e.to_string()))?;
        let call = self.client.delete_message_batch().queue_url(self.url().await?).set_entries(Some(entries));
        let answer = call.send().await.map_err(|e| self.failed(&e))?;
        Ok(self.failures("delete", &answer.failed))
    }

    /// Extends at most ten messages.
    async fn extend_chunk(&self, chunk: &[MessageHandle], seconds: i32) -> Result<(), InboxError> {
        let entries = entries(chunk, |id, handle| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(id).receipt_handle(handle);
            entry.visibility_timeout(seconds).build()
        });
        let entries = entries.map_err(|e| self.refused(e.to_string()))?;
        let call = self
            .client
            .change_message_visibility_batch()
            .queue_url(self.url().await?)
            .set_entries(Some(entries));
        let answer = call.send().await.map_err(|e| self.failed(&e))?;
        // A message whose time had run out, or that is deleted, can't be extended: it comes again, or not, in its own time.
        self.failures("extend", &answer.failed);
        Ok(())
    }

    /// The positions of those that failed, logged once for all.
    fn failures(&self, call: &'static str, failed: &[BatchResultErrorEntry]) -> Vec<usize> {
        // A handle that is not valid any more: the message was received again or deleted. Nothing is left to do with it.
        let failed: Vec<_> = failed.iter().filter(|entry| entry.code != "ReceiptHandleIsInvalid").collect();
        if let Some(first) = failed.first() {
            let (queue, count, code) = (&self.config.name, failed.len(), &first.code);
            let message = first.message.as_deref().unwrap_or_default();
            warn!(queue, call, count, code, message, "the queue did not do this for {count} messages");
        }
        failed.iter().filter_map(|entry| entry.id.parse().ok()).collect()
    }

    async fn send_dead_letter(
        &self,
        url: &str,
        letter: &DeadLetter<'_>,
    ) -> Result<(), SdkError<SendMessageError, HttpResponse>> {
        let mut call = self.client.send_message().queue_url(url).message_body(letter.body.as_ref());
        let attributes =
            [(REASON, letter.reason.clone()), (BODY_BYTES, letter.cut_from.map(|n| n.to_string()))];
        for (name, value) in attributes.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            call = call.message_attributes(name, value.map_err(SdkError::construction_failure)?);
        }
        call.send().await.map(|_| ())
    }
}

#[async_trait]
impl Inbox for SqsInbox {
    fn name(&self) -> &str {
        &self.config.name
    }

    async fn receive(&self) -> Result<Vec<Message>, InboxError> {
        let SqsConfig { wait, visibility, batch, call_timeout, .. } = &self.config;
        let attributes = self.config.spill.then(|| spill::ATTRIBUTES.map(str::to_owned).to_vec());
        let limits = aws_sdk_sqs::config::Config::builder().timeout_config(timeouts(*wait + *call_timeout));
        let call = self
            .client
            .receive_message()
            .queue_url(self.url().await?)
            .max_number_of_messages(i32::try_from((*batch).clamp(1, SqsConfig::BATCH_MAX)).unwrap_or(1))
            .wait_time_seconds(seconds((*wait).min(SqsConfig::WAIT_MAX)))
            .set_message_attribute_names(attributes)
            .visibility_timeout(seconds((*visibility).min(SqsConfig::VISIBILITY_MAX)))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp);
        let answer = call.customize().config_override(limits).send().await.map_err(|e| self.failed(&e))?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(message).collect())
    }

    async fn delete(&self, handles: &[MessageHandle]) -> Result<Vec<MessageHandle>, InboxError> {
        let mut left = Vec::new();
        let mut deleted_any = false;
        for chunk in handles.chunks(SqsConfig::BATCH_MAX as usize) {
            match self.delete_chunk(chunk).await {
                Ok(failed) => {
                    deleted_any |= failed.len() < chunk.len();
                    left.extend(failed.into_iter().filter_map(|i| chunk.get(i).cloned()));
                }
                Err(error) if !deleted_any && chunk.len() == handles.len() => return Err(error),
                Err(error) => {
                    debug!(queue = self.config.name, %error, "a batch of messages could not be deleted");
                    left.extend_from_slice(chunk);
                }
            }
        }
        Ok(left)
    }

    async fn extend(&self, handles: &[MessageHandle], span: Duration) -> Result<(), InboxError> {
        let seconds = seconds(span.min(SqsConfig::VISIBILITY_MAX));
        for chunk in handles.chunks(SqsConfig::BATCH_MAX as usize) {
            self.extend_chunk(chunk, seconds).await?;
        }
        Ok(())
    }

    async fn dead_letter(&self, body: &str, reason: &str) -> Result<(), InboxError> {
        let Some(url) = &self.config.dead_letter_url else { return Ok(()) };
        let Err(error) = self.send_dead_letter(url, &dead_letter::whole(body, reason)).await else {
            return Ok(());
        };
        // SQS has no code of its own for 'too long': it says that a parameter is invalid.
        let too_long = code(&error)
            .is_some_and(|c| c.starts_with("InvalidParameter") || c.starts_with("InvalidMessage"));
        match dead_letter::cut(body, reason).filter(|_| too_long) {
            Some(letter) => self.send_dead_letter(url, &letter).await.map_err(|e| self.failed(&e)),
            None => Err(self.failed(&error)),
        }
    }

    fn visibility(&self) -> Duration {
        self.config.visibility
    }
}

#[async_trait]
impl Spill for SqsInbox {
    async fn put(&self, body: &str, spilled: &Spilled) -> Result<(), InboxError> {
        let attributes = spill::write(spilled).map_err(|e| self.refused(e.to_string()))?;
        let call = self.client.send_message().queue_url(self.url().await?).message_body(body);
        let sent = call.set_message_attributes(Some(attributes)).send().await;
        sent.map(|_| ()).map_err(|e| self.failed(&e))
    }
}

/// Batch entries whose ids are the positions in `chunk`.
fn entries<T>(
    chunk: &[MessageHandle],
    build: impl Fn(String, &str) -> Result<T, BuildError>,
) -> Result<Vec<T>, BuildError> {
    chunk.iter().enumerate().map(|(i, handle)| build(i.to_string(), &handle.0)).collect()
}

/// A message without an id or a handle could be neither named nor deleted: SQS never sends one.
fn message(raw: aws_sdk_sqs::types::Message) -> Option<Message> {
    let attribute = |name| raw.attributes.as_ref().and_then(|a| a.get(&name));
    let count = attribute(MessageSystemAttributeName::ApproximateReceiveCount);
    // Milliseconds since the epoch.
    let sent = attribute(MessageSystemAttributeName::SentTimestamp).and_then(|ms| ms.parse::<i64>().ok());
    Some(Message {
        sent_at: sent.and_then(|ms| ms.checked_mul(1_000)).map(Timestamp::from_micros),
        receive_count: count.and_then(|c| c.parse().ok()).unwrap_or(0),
        spilled: raw.message_attributes.as_ref().and_then(spill::read),
        id: raw.message_id?,
        handle: MessageHandle(raw.receipt_handle?),
        body: raw.body.unwrap_or_default(),
    })
}

/// Whole seconds, rounded up: SQS knows no parts, and 'less than asked' would be a shorter lock than promised.
fn seconds(span: Duration) -> i32 {
    let whole = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    i32::try_from(whole).unwrap_or(i32::MAX)
}
