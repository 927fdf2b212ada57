//! The inbox on Amazon SQS and what speaks its protocol.
//!
//! The AWS SDK stays inside this crate: outside of it there are only [`SqsConfig`], the [`yard_ports::Inbox`]
//! that [`SqsInbox`] is, and [`SqsProducer`], which sends submissions and makes queues for `yard dev` and tests.
//!
//! | file | what it holds |
//! |---|---|
//! | `config.rs` | which queue, where, with which waits and credentials |
//! | `client.rs` | the SDK's client: credential chain, endpoint, TLS (rustls on ring) |
//! | `inbox.rs` | receive, delete, extend |
//! | `dead_letter.rs` | what a rejected message looks like in the dead-letter queue |
//! | `spill.rs` | what stands beside a submission that the API put into a queue |
//! | `error.rs` | the SDK's errors as `InboxError` |
//! | `push.rs` | a queue that what happens is pushed to |
//! | `producer.rs` | making queues, sending, counting |

mod client;
mod config;
mod dead_letter;
mod error;
mod inbox;
mod producer;
mod push;
mod spill;

pub use config::{QueueAddress, SqsConfig, SqsCredentials, SqsEndpoint};
pub use inbox::SqsInbox;
pub use producer::{QueueDepth, SqsProducer};
pub use push::SqsPush;
