//! Query parameters, read by hand so that every error is said at once.

use std::str::FromStr;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use yard_domain::Timestamp;
use yard_wire::views::{FieldProblem, ProblemCode, parse_time};

use crate::problem::ApiError;

/// How much of a wrong value or name is shown, in characters.
const SHOWN_CHARS: usize = 100;

/// The query parameters of a request; reading takes them out, and [`Params::finish`] reports what is left.
#[derive(Debug, Default)]
pub struct Params {
    given: Vec<(String, String)>,
    known: Vec<&'static str>,
    errors: Vec<FieldProblem>,
}

impl Params {
    /// Every value of a parameter that may be repeated or be a list with commas.
    pub fn list<T: FromStr<Err: ToString>>(&mut self, name: &'static str) -> Vec<T> {
        let values = self.take(name);
        let parts = values.iter().flat_map(|v| v.split(','));
        parts
            .map(|p| {
                if p.is_empty() {
                    Err("has an empty part".to_owned())
                } else {
                    p.parse::<T>().map_err(|e| e.to_string())
                }
            })
            .collect::<Vec<_>>()
            .into_iter()
            .filter_map(|r| self.keep(name, r))
            .collect()
    }

    /// As [`Params::list`], of a type that can't say what is wrong with a text: `what` it must be.
    pub fn list_as<T: FromStr>(&mut self, name: &'static str, what: &str) -> Vec<T> {
        let texts: Vec<String> = self.list(name);
        let read = |text: &String| {
            let shown: String = text.chars().take(SHOWN_CHARS).collect();
            text.parse::<T>().map_err(|_| format!("is {shown:?}; must be {what}"))
        };
        let read: Vec<_> = texts.iter().map(read).collect();
        read.into_iter().filter_map(|r| self.keep(name, r)).collect()
    }

    /// Notes that something beside the parameters is wrong.
    pub fn wrong(&mut self, name: &'static str, message: &str) {
        self.error(name, message.to_owned());
    }

    /// A parameter that may be given once.
    pub fn one<T: FromStr<Err: ToString>>(&mut self, name: &'static str) -> Option<T> {
        let mut values = self.take(name);
        let value = values.pop()?;
        if !values.is_empty() {
            self.error(name, "is given more than once".to_owned());
            return None;
        }
        let read = value.parse::<T>().map_err(|e| e.to_string());
        self.keep(name, read)
    }

    /// A parameter that may be given once and whose type can't say what is wrong with a text: `what` it must be.
    pub fn one_as<T: FromStr>(&mut self, name: &'static str, what: &str) -> Option<T> {
        let text = self.one::<String>(name)?;
        let shown: String = text.chars().take(SHOWN_CHARS).collect();
        let read = text.parse::<T>().map_err(|_| format!("is {shown:?}; must be {what}"));
        self.keep(name, read)
    }

    /// A whole number that every store can hold.
    pub fn whole(&mut self, name: &'static str, what: &str) -> Option<u64> {
        let number = self.one_as::<u64>(name, what)?;
        if i64::try_from(number).is_ok() {
            return Some(number);
        }
        self.error(name, format!("is {number}; allowed is at most {}", i64::MAX));
        None
    }

    /// Pairs of a name and a value: `<name>.NAME=VALUE`, or `<name>=NAME=VALUE`; both may be repeated.
    pub fn pairs(&mut self, name: &'static str) -> Vec<(String, String)> {
        let (dotted, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.given)
            .into_iter()
            .partition(|(n, _)| n.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')));
        self.given = left;
        let mut pairs = Vec::new();
        for value in self.take(name) {
            match value.split_once('=') {
                Some((key, value)) if is_plain(key) => pairs.push((key.to_owned(), value.to_owned())),
                _ => self.error(name, "must be NAME=VALUE, with a name that can be searched by".to_owned()),
            }
        }
        for (field, value) in dotted {
            let key = field.get(name.len() + 1..).unwrap_or_default();
            if is_plain(key) {
                pairs.push((key.to_owned(), value));
                continue;
            }
            let field = field.chars().take(SHOWN_CHARS).collect();
            let message = "needs a name without quotes, backslashes and control characters".to_owned();
            self.errors.push(FieldProblem { field, code: "invalid".to_owned(), message, line: None });
        }
        pairs
    }

    /// Notes that a parameter must be given, unless it was (or was wrong, which is noted already).
    pub fn required(&mut self, name: &'static str, given: bool, what: &str) {
        if !given && !self.errors.iter().any(|e| e.field == name) {
            self.errors.push(FieldProblem {
                field: name.to_owned(),
                code: "missing".to_owned(),
                message: format!("is missing: {what}"),
                line: None,
            });
        }
    }

    /// A number within bounds.
    pub fn number(&mut self, name: &'static str, min: u32, max: u32) -> Option<u32> {
        let number = self.one_as::<u32>(name, &format!("a whole number, {min} to {max}"))?;
        if (min..=max).contains(&number) {
            return Some(number);
        }
        self.error(name, format!("is {number}; allowed is {min} to {max}"));
        None
    }

    /// A switch that is off unless it is given: `true`, `1` or nothing after the name is on; `false` and `0` are off.
    pub fn switch(&mut self, name: &'static str) -> bool {
        self.is_on(name, false)
    }

    /// As [`Params::switch`], of a switch that is what `by_default` says unless it is given.
    pub fn is_on(&mut self, name: &'static str, by_default: bool) -> bool {
        match self.one::<String>(name).as_deref() {
            None => by_default,
            Some("false" | "0") => false,
            Some("true" | "1" | "") => true,
            Some(_) => {
                self.error(name, "must be true or false".to_owned());
                by_default
            }
        }
    }

    /// The error that names everything wrong, parameters that nobody knows included.
    pub fn finish(mut self) -> Result<(), ApiError> {
        let unknown: Vec<_> = self.given.drain(..).map(|(name, _)| name).collect();
        for name in unknown {
            let message = if self.known.is_empty() {
                "there is no such parameter here".to_owned()
            } else {
                format!("there is no such parameter; known are {}", self.known.join(", "))
            };
            let field: String = name.chars().take(SHOWN_CHARS).collect();
            self.errors.push(FieldProblem { field, code: "unknown_field".to_owned(), message, line: None });
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(ApiError::fields(ProblemCode::BadRequest, "query parameters are wrong: see errors", self.errors))
    }

    fn take(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        let (taken, left) = std::mem::take(&mut self.given).into_iter().partition(|(n, _)| n == name);
        self.given = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    fn keep<T>(&mut self, name: &'static str, read: Result<T, String>) -> Option<T> {
        read.map_err(|message| self.error(name, message)).ok()
    }

    fn error(&mut self, name: &'static str, message: String) {
        self.errors.push(FieldProblem {
            field: name.to_owned(),
            code: "invalid".to_owned(),
            message,
            line: None,
        });
    }
}

/// Whether a name can be searched by.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_control() || c == '"' || c == '\\')
}

/// A point in time as a parameter.
#[derive(Debug, Clone, Copy)]
pub struct Moment(pub Timestamp);

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read_moment(text).map(Self).ok_or("must be a time by RFC 3339, such as 2026-11-22T22:30:45Z")
    }
}

/// A time by RFC 3339, to the microsecond: what is finer is cut off.
fn read_moment(text: &str) -> Option<Timestamp> {
    let text = text.to_ascii_uppercase();
    let (local, offset_s) = if let Some(local) = text.strip_suffix('Z') {
        (local, 0)
    } else {
        let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
        (local, offset_seconds(offset)?)
    };
    let (seconds, fraction) = local.split_once('.').unwrap_or((local, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let at = parse_time(&format!("{seconds}.{fraction:0<6.6}Z"))?;
    Some(Timestamp::from_micros(at.as_micros().checked_sub(offset_s * 1_000_000)?))
}

/// `+HH:MM` or `-HH:MM` in seconds.
fn offset_seconds(text: &str) -> Option<i64> {
    let sign = match text.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let number = |digits: &str, most: i64| {
        let sound = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<i64>().ok().filter(|n| sound && *n <= most)
    };
    Some(sign * (number(hours, 23)? * 3_600 + number(minutes, 59)? * 60))
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read: Result<Query<Vec<(String, String)>>, QueryRejection> =
            Query::from_request_parts(parts, state).await;
        match read {
            Ok(Query(given)) => Ok(Self { given, ..Self::default() }),
            Err(_) => Err(ApiError::new(ProblemCode::BadRequest, "the query string can't be read")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(given: &[(&str, &str)]) -> Params {
        let given = given.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Params { given, ..Params::default() }
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let mut p = params(&[
            ("limit", "0"),
            ("limi", "1"),
            ("team", "A B"),
            ("follow", "maybe"),
            ("n", "1"),
            ("n", "2"),
            ("offset", "-1"),
            ("after", "x"),
        ]);
        assert_eq!(p.one_as::<u64>("offset", "a whole number"), None);
        assert_eq!(p.number("after", 1, 9), None);
        assert_eq!(p.number("limit", 1, 500), None);
        assert_eq!(p.one::<yard_domain::TeamId>("team"), None);
        assert!(!p.switch("follow"));
        assert_eq!(p.one::<u64>("n"), None);
        let problem = p.finish().unwrap_err().problem().clone();
        let fields: Vec<_> = problem.errors.iter().map(|e| (e.field.as_str(), e.code.as_str())).collect();
        assert_eq!(problem.errors[0].message, r#"is "-1"; must be a whole number"#);
        assert_eq!(problem.errors[1].message, r#"is "x"; must be a whole number, 1 to 9"#);
        assert_eq!(
            fields,
            [
                ("offset", "invalid"),
                ("after", "invalid"),
                ("limit", "invalid"),
                ("team", "invalid"),
                ("follow", "invalid"),
                ("n", "invalid"),
                ("limi", "unknown_field")
            ]
        );
    }

    #[test]
    fn times_may_be_written_as_rfc_3339_has_them() {
        let at = |text: &str| read_moment(text).map(|t| t.to_string());
        for text in ["2026-11-22T22:30:45Z", "2026-11-22t22:30:45.000000z", "2026-11-23T00:00:45+01:30"] {
            assert_eq!(at(text).as_deref(), Some("2026-11-22T22:30:45.000000Z"), "{text}");
        }
        assert_eq!(at("2026-11-22T22:30:45.1234567Z").as_deref(), Some("2026-11-22T22:30:45.123456Z"));
        for text in
            ["2026-11-22", "2026-11-22T22:30:45", "2026-11-22T22:30:45.Z", "2026-11-22T22:30:45+1:30", "é"]
        {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn lists_are_repeated_or_have_commas() {
        let mut p = params(&[("state", "a,b"), ("state", "c"), ("follow", ""), ("limit", "7")]);
        assert_eq!(p.list::<String>("state"), ["a", "b", "c"]);
        assert!(p.switch("follow"));
        assert_eq!(p.number("limit", 1, 500), Some(7));
        assert!(p.finish().is_ok());
    }
}
