//! The id of a submission that the API may have to hand to a queue while the database is away. It is bound to the
//! submission: intake makes it again from what the message says, so that nobody who can send to that queue can bring an id
//! that belongs, or will belong, to another job.

use sha2::{Digest, Sha256};
use yard_domain::{JobId, SubmissionKey};

/// The id, made at the time of `id`, that belongs to the submission of this key in this request.
pub fn bound_id(id: JobId, key: &SubmissionKey, request: &str) -> JobId {
    let unix_ms = id.unix_ms();
    let mut hash = Sha256::new();
    // Lengths first: no two triples of texts are the same bytes.
    for text in [key.team.as_str(), &key.key, request] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.update(unix_ms.to_be_bytes());
    let mut random = [0; 10];
    random.copy_from_slice(&hash.finalize()[..10]);
    JobId::new(unix_ms, random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_bound_to_time_key_and_request() {
        let key = |team: &str, key: &str| SubmissionKey { team: team.to_owned(), key: key.to_owned() };
        let at = |ms| JobId::new(ms, [7; 10]);
        let id = bound_id(at(1_700_000_000_123), &key("ads", "k"), "r");
        assert_eq!(id.unix_ms(), 1_700_000_000_123);
        assert_eq!(bound_id(id, &key("ads", "k"), "r"), id, "made again from itself");
        for (ms, team, name, request) in [
            (1_700_000_000_124, "ads", "k", "r"),
            (1_700_000_000_123, "adsk", "", "r"),
            (1_700_000_000_123, "ads", "kr", ""),
            (1_700_000_000_123, "ads", "k", "s"),
        ] {
            assert_ne!(bound_id(at(ms), &key(team, name), request), id);
        }
    }
}
