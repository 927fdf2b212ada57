//! What stands beside the body of a submission that the API put here, as message attributes.

use std::collections::HashMap;

use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::types::MessageAttributeValue;
use yard_ports::Spilled;

const JOB: &str = "yard-job";
const DOOR: &str = "yard-door";
const REQUEST: &str = "yard-request";
const BY: &str = "yard-by";
const KEY: &str = "yard-key";

/// Their names.
pub(crate) const ATTRIBUTES: [&str; 5] = [JOB, DOOR, REQUEST, BY, KEY];

pub(crate) fn write(spilled: &Spilled) -> Result<HashMap<String, MessageAttributeValue>, BuildError> {
    let job = spilled.job.to_string();
    let texts = [
        (JOB, Some(&job)),
        (DOOR, Some(&spilled.door)),
        (REQUEST, Some(&spilled.request)),
        (BY, spilled.by.as_ref().filter(|by| !by.is_empty())),
        // SQS takes no empty value; an empty key is none.
        (KEY, spilled.key.as_ref().filter(|key| !key.is_empty())),
    ];
    let given = texts.into_iter().filter_map(|(name, text)| Some((name, text?)));
    let attribute = |(name, text): (&str, &String)| {
        let value = MessageAttributeValue::builder().data_type("String").string_value(text).build()?;
        Ok((name.to_owned(), value))
    };
    given.map(attribute).collect()
}

/// What was written; `None` if it is not all there.
pub(crate) fn read(attributes: &HashMap<String, MessageAttributeValue>) -> Option<Spilled> {
    let text = |name| attributes.get(name).and_then(|value| value.string_value.clone());
    Some(Spilled {
        job: text(JOB)?.parse().ok()?,
        door: text(DOOR)?,
        request: text(REQUEST)?,
        by: text(BY),
        key: text(KEY),
    })
}

#[cfg(test)]
mod tests {
    use yard_domain::JobId;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for key in [None, Some("k/1".to_owned())] {
            let job = JobId::new(1_700_000_000_000, [3; 10]);
            let spilled =
                Spilled { job, door: "http".to_owned(), request: "r".to_owned(), by: key.clone(), key };
            assert_eq!(read(&write(&spilled).unwrap()), Some(spilled));
        }
        assert_eq!(read(&HashMap::new()), None);
    }
}
