//! From catalog documents to the ways by which pushes go out: what this process needs to reach each receiver that it can reach.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tracing::{error, info};
use yard_domain::SubscriptionId;
use yard_domain::catalog::CatalogVersion;
use yard_engine::push::{PushBuilder, Subscription};
use yard_inbox_sqs::SqsPush;
use yard_ports::PushSender;
use yard_webhook::{AddressPolicy, Secret, Webhook, WebhookConfig};

use crate::config::{Environment, PushConfig, PushTarget, SecretSource, read_catalog};
use crate::drivers::DOCUMENT;

/// Makes senders, and keeps those whose settings and secrets stay.
pub struct Pushes {
    folder: PathBuf,
    environment: Environment,
    policy: AddressPolicy,
    made: Mutex<HashMap<SubscriptionId, Made>>,
    /// Why subscriptions can't be served from here, as it has been told: they are tried again and again.
    told: Mutex<HashMap<SubscriptionId, String>>,
}

/// A sender with all that it was made from.
struct Made {
    config: PushConfig,
    secrets: Vec<Secret>,
    sender: Arc<dyn PushSender>,
}

impl Pushes {
    /// Relative paths in documents are below `folder`; `environment` has what `secret_env` names; `policy` says which
    /// receivers may be called.
    pub fn new(folder: PathBuf, environment: Environment, policy: AddressPolicy) -> Self {
        Self { folder, environment, policy, made: Mutex::default(), told: Mutex::default() }
    }

    async fn sender(&self, config: &PushConfig) -> Result<Arc<dyn PushSender>, String> {
        let secrets = match &config.target {
            PushTarget::Webhook { secret, second_secret, .. } => std::iter::once(secret)
                .chain(second_secret)
                .map(|source| self.secret(source))
                .collect::<Result<Vec<_>, _>>()?,
            PushTarget::Sqs { .. } => Vec::new(),
        };
        if let Some(made) = self.made().get(&config.id)
            && made.config == *config
            && made.secrets == secrets
        {
            return Ok(made.sender.clone());
        }
        let sender: Arc<dyn PushSender> = match &config.target {
            PushTarget::Webhook { url, .. } => {
                let (url, timeout, policy) = (url.clone(), config.timeout, self.policy.clone());
                let config = WebhookConfig { url, secrets: secrets.clone(), timeout, policy };
                Arc::new(Webhook::new(config).map_err(|e| e.to_string())?)
            }
            PushTarget::Sqs { url, endpoint } => {
                Arc::new(SqsPush::connect(url, endpoint, config.timeout).await)
            }
        };
        let made = Made { config: config.clone(), secrets, sender: sender.clone() };
        self.made().insert(config.id.clone(), made);
        Ok(sender)
    }

    fn secret(&self, source: &SecretSource) -> Result<Secret, String> {
        let text = source.read(&self.environment)?;
        Secret::parse(text.expose()).map_err(|e| e.to_string())
    }

    fn made(&self) -> std::sync::MutexGuard<'_, HashMap<SubscriptionId, Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells, once for each reason, why a subscription is left to others.
    fn tell(&self, config: &PushConfig, version: u64, reason: Option<&str>) {
        let id = &config.id;
        let before = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            match reason {
                Some(reason) => told.insert(id.clone(), reason.to_owned()),
                None => told.remove(id),
            }
        };
        match (before.as_deref(), reason) {
            (before, Some(reason)) if before != Some(reason) => {
                error!(subscription = %id, version, reason, "this process can't push this, and leaves it to others");
            }
            (Some(_), None) => info!(subscription = %id, "this process can push this now"),
            _ => {}
        }
    }
}

#[async_trait]
impl PushBuilder for Pushes {
    async fn build(&self, document: &CatalogVersion) -> Result<Vec<Subscription>, String> {
        let declared = read_catalog(DOCUMENT, &document.text, &self.folder).map_err(|e| e.to_string())?;
        let mut subscriptions = Vec::with_capacity(declared.pushes.len());
        for config in &declared.pushes {
            let sender = self.sender(config).await;
            self.tell(config, document.number, sender.as_ref().err().map(String::as_str));
            subscriptions.push(Subscription {
                id: config.id.clone(),
                kinds: config.kinds,
                retry: config.retry,
                in_flight_max: config.in_flight_max,
                sender: sender.ok(),
            });
        }
        self.made().retain(|id, _| declared.pushes.iter().any(|config| config.id == *id));
        Ok(subscriptions)
    }
}

#[cfg(test)]
mod tests {
    use yard_domain::Timestamp;
    use yard_domain::catalog::CatalogSource;

    use super::*;

    const SECRETS: [&str; 2] =
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"];

    fn version(url: &str) -> CatalogVersion {
        let text = format!(
            "[[cluster]]\nid = \"east\"\ndriver = \"ray\"\naddress = \"http://a\"\n[[team]]\nid = \"ads\"\n\
             [[team.push]]\nname = \"hook\"\nurl = \"{url}\"\nsecret_env = \"HOOK\"\n\
             [[team.push]]\nname = \"queue\"\nsqs = \"https://sqs.eu-central-1.amazonaws.com/1/ends\"\nevents = [\"ends\"]\n"
        );
        let (at, source) = (Timestamp::from_micros(0), CatalogSource::Applied);
        CatalogVersion { number: 1, at, by: "test".to_owned(), source, text }
    }

    fn pushes(secret: Option<&str>) -> Pushes {
        let environment = secret.map(|secret| ("HOOK".to_owned(), secret.to_owned())).into_iter().collect();
        Pushes::new(PathBuf::from("/etc/yard"), Environment(environment), AddressPolicy::default())
    }

    #[tokio::test]
    async fn a_sender_stays_while_its_settings_and_secrets_do() {
        let mut pushes = pushes(Some(SECRETS[0]));
        let first = pushes.build(&version("https://a.example/")).await.unwrap();
        let names: Vec<_> = first.iter().map(|s| s.id.to_string()).collect();
        assert_eq!(names, ["ads/hook", "ads/queue"]);
        assert!(!first[1].kinds.verdicts && first[1].kinds.ends);
        let same = |a: &Subscription, b: &Subscription| {
            Arc::ptr_eq(a.sender.as_ref().unwrap(), b.sender.as_ref().unwrap())
        };
        let again = pushes.build(&version("https://a.example/")).await.unwrap();
        assert!(same(&first[0], &again[0]) && same(&first[1], &again[1]));
        let moved = pushes.build(&version("https://b.example/")).await.unwrap();
        assert!(!same(&first[0], &moved[0]) && same(&first[1], &moved[1]));
        pushes.environment.0.insert("HOOK".to_owned(), SECRETS[1].to_owned());
        let rotated = pushes.build(&version("https://b.example/")).await.unwrap();
        assert!(!same(&moved[0], &rotated[0]));
    }

    #[tokio::test]
    async fn without_its_secret_a_subscription_is_known_and_left_to_others() {
        for secret in [None, Some("hunter2")] {
            let built = pushes(secret).build(&version("https://a.example/")).await.unwrap();
            assert!(built[0].sender.is_none() && built[1].sender.is_some());
        }
        let unreadable = CatalogVersion { text: "nonsense".to_owned(), ..version("") };
        assert!(pushes(None).build(&unreadable).await.is_err());
    }
}
