//! A queue that what happens is pushed to.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::types::MessageAttributeValue;
use yard_ports::{PushError, PushMessage, PushSender};

use crate::client::connect;
use crate::config::SqsEndpoint;
use crate::error::inbox_error;

/// The message's id, the same at every attempt: readers of standard queues drop doubles by it.
const ID: &str = "yard-id";
/// `TEAM/NAME` of the subscription.
const SUBSCRIPTION: &str = "yard-subscription";

/// Sends to one queue.
#[derive(Debug)]
pub struct SqsPush {
    client: Client,
    url: String,
}

impl SqsPush {
    /// A sender to the queue at `url`. Makes no call to SQS.
    pub async fn connect(url: &str, endpoint: &SqsEndpoint, call_timeout: Duration) -> Self {
        Self { client: connect(endpoint, call_timeout).await, url: url.to_owned() }
    }

    /// Whether the queue keeps messages of a group in order.
    fn is_fifo(&self) -> bool {
        self.url.rsplit_once('.').is_some_and(|(_, end)| end == "fifo")
    }
}

fn attribute(text: String) -> Result<MessageAttributeValue, BuildError> {
    MessageAttributeValue::builder().data_type("String").string_value(text).build()
}

#[async_trait]
impl PushSender for SqsPush {
    async fn send(&self, message: &PushMessage) -> Result<(), PushError> {
        let mut call = self.client.send_message().queue_url(&self.url).message_body(&message.body);
        for (name, text) in [(ID, message.id.clone()), (SUBSCRIPTION, message.subscription.to_string())] {
            let value = attribute(text).map_err(|e| PushError::failed(e.to_string()))?;
            call = call.message_attributes(name, value);
        }
        if self.is_fifo() {
            let group = message.lane.to_string();
            call = call.message_group_id(group).message_deduplication_id(&message.id);
        }
        // Whatever it says may be mended: a queue can be made, a right given.
        let sent = call.send().await;
        sent.map(drop).map_err(|e| PushError::failed(inbox_error(&self.url, &e).to_string()))
    }
}
