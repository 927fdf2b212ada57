//! Webhooks: pushes as HTTP POST, signed by the convention of Standard Webhooks (<https://www.standardwebhooks.com>).
//!
//! | file | what it holds |
//! |---|---|
//! | `secret.rs` | `whsec_…` secrets, and signatures by them |
//! | `policy.rs` | which addresses may be called |
//! | `webhook.rs` | one receiver: the call, and what its answer means |

mod policy;
mod secret;
mod webhook;

pub use policy::AddressPolicy;
pub use secret::{Secret, SecretError};
pub use webhook::{Webhook, WebhookConfig, WebhookError};
