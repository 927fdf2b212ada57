//! What is pushed, as declared.

use std::path::Path;

use super::*;
use crate::config::{Config, ConfigErrors, Declared, Environment, read_catalog};

const REST: &str =
    "[[cluster]]\nid = \"east\"\ndriver = \"ray\"\naddress = \"http://a\"\n[[team]]\nid = \"ads\"\n";

fn read(push: &str) -> Result<Declared, ConfigErrors> {
    read_catalog("catalog.toml", &format!("{REST}{push}"), Path::new("/etc/yard"))
}

fn complaints(push: &str) -> Vec<String> {
    let errors = read(push).unwrap_err();
    errors.problems.iter().map(|p| format!("{}: {}", p.key, p.message)).collect()
}

#[test]
fn a_webhook_and_a_queue_with_every_default() {
    let declared = read(
        "[[team.push]]\nname = \"hook\"\nurl = \"https://ads.example/yard/\"\nsecret_env = \"A\"\nsecond_secret_file = \"b\"\n\
         [[team.push]]\nname = \"queue\"\nsqs = \"https://sqs.eu-central-1.amazonaws.com/12/ends.fifo\"\nevents = [\"ends\"]\n",
    );
    let declared = declared.unwrap_or_else(|e| panic!("{e}"));
    let [hook, queue] = declared.pushes.as_slice() else { panic!("{:?}", declared.pushes) };
    assert_eq!((hook.id.to_string().as_str(), hook.kinds), ("ads/hook", PushKinds::default()));
    assert_eq!((hook.retry, hook.in_flight_max, hook.timeout), (PushRetry::default(), 8, TIMEOUT));
    let PushTarget::Webhook { url, secret, second_secret } = &hook.target else { panic!("{hook:?}") };
    assert_eq!((url.as_str(), secret), ("https://ads.example/yard/", &SecretSource::Variable("A".into())));
    assert_eq!(second_secret, &Some(SecretSource::File("/etc/yard/b".into())));
    assert_eq!(
        hook.summary(),
        "verdicts and ends to https://ads.example/yard/, signed with the secret in the variable A and in /etc/yard/b; \
         24 attempts of 15 s, 1 to 3600 s apart; 8 at once"
    );
    let PushTarget::Sqs { endpoint, .. } = &queue.target else { panic!("{queue:?}") };
    assert_eq!((endpoint.region.as_deref(), &endpoint.url), (Some("eu-central-1"), &None));
    assert!(queue.kinds.ends && !queue.kinds.verdicts);
}

#[test]
fn everything_wrong_is_said_at_once() {
    let lines = complaints(
        "[[team.push]]\nname = \"A\"\nurl = \"nowhere\"\nevents = [\"starts\"]\nbackoff_initial_s = 9\nbackoff_max_s = 3\n\
         secret = \"whsec_x\"\n\
         [[team.push]]\nname = \"b\"\nurl = \"https://x\"\nsqs = \"https://y\"\n\
         [[team.push]]\nname = \"b\"\nsqs = \"https://y\"\nsecret_env = \"S\"\n\
         [[team.push]]\nname = \"b\"\nsqs = \"https://y\"\nattempt_max = 3\n\
         [[team.push]]\nname = \"c\"\nurl = \"https://x\"\nregion = \"eu\"\n",
    );
    let expected = [
        "name: \"A\" is not a valid subscription",
        "url: is not a URL",
        "events: \"starts\" is no kind of event",
        "backoff_max_s: must not be below",
        "secret: must not stand here",
        "sqs: stands beside url",
        "secret_env: belongs to a webhook",
        "name: b is taken by a subscription before",
        "attempt_max: no such key",
        "region: belongs to a queue",
        "secret_env: missing: name the variable",
    ];
    for part in expected {
        let (key, message) = part.split_once(": ").unwrap();
        let found = lines.iter().any(|line| line.contains(&format!("{key}: ")) && line.contains(message));
        assert!(found, "{part} is not in {lines:#?}");
    }
}

#[test]
fn a_configuration_must_have_its_secrets_and_says_which_receivers_may_be_called() {
    let text = format!(
        "[database]\nurl = \"sqlite:y.db\"\n[push]\nallow = [\"10.1.0.0/16\", \"10.2.0.1\"]\nallow_http = true\n\
         {REST}[[team.push]]\nname = \"hook\"\nurl = \"http://10.2.0.1\"\nsecret_env = \"HOOK\"\n"
    );
    let parse = |text: &str, pairs: &[(&str, &str)]| {
        let environment = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::parse("yard.toml", text, Path::new("/etc/yard"), &Environment(environment))
    };
    let good = ("HOOK", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let config = parse(&text, &[good]).unwrap_or_else(|e| panic!("{e}"));
    assert!(config.push.policy.allow_http && !config.push.policy.allow_private);
    assert_eq!(config.push.policy.allow.len(), 2);
    assert_eq!(config.push.settings, PushSettings::default());
    let declared = config.catalog.unwrap();
    assert!(declared.text.contains("[[team.push]]") && !declared.text.contains("whsec"), "{}", declared.text);
    for (pairs, part) in [(vec![], "HOOK is not set"), (vec![("HOOK", "hunter2")], "must begin with whsec_")]
    {
        let message = parse(&text, &pairs).unwrap_err().to_string();
        assert!(message.contains(part) && !message.contains("hunter2"), "{message}");
    }
    let wrong = parse(&text.replace("10.2.0.1\"]", "localhost\"]"), &[good]).unwrap_err().to_string();
    assert!(wrong.contains("\"localhost\" is no network"), "{wrong}");
}
