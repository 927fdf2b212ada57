//! Of problems: one for each code that an operation may answer with.

use yard_wire::views::{FieldProblem, Problem, ProblemCode};

use super::jobs::never_fits;
use super::{JOB, NOW};

/// The problems of this status that the operation answers with; each with what it shows.
pub(super) fn examples(operation: &str, status: &str, takes_body: bool) -> Vec<(&'static str, Problem)> {
    let is_catalog = operation == "apply_catalog";
    let codes: &[ProblemCode] = match status {
        "400" => &[ProblemCode::BadRequest],
        "401" => &[ProblemCode::Unauthorized],
        "403" => &[ProblemCode::Forbidden],
        "404" if operation == "job_logs" => &[ProblemCode::NotFound, ProblemCode::NoLog],
        "404" => &[ProblemCode::NotFound],
        "409" if is_catalog => &[ProblemCode::VersionConflict],
        "409" if operation == "job_logs" => &[ProblemCode::NoAttempt],
        "409" => &[ProblemCode::Conflict],
        "410" => &[ProblemCode::Gone],
        "412" => &[ProblemCode::PreconditionFailed],
        "413" => &[ProblemCode::BodyTooLarge],
        "415" => &[ProblemCode::UnsupportedMediaType],
        "416" => &[ProblemCode::RangeNotSatisfiable],
        "422" if is_catalog => &[ProblemCode::InvalidCatalog],
        "422" => &[ProblemCode::Rejected],
        "429" if operation == "submit_job" => &[ProblemCode::RateLimited, ProblemCode::TooManyRequests],
        "429" => &[ProblemCode::TooManyRequests],
        "500" => &[ProblemCode::Internal],
        "502" => &[ProblemCode::ClusterUnreachable],
        "503" => &[ProblemCode::Unavailable, ProblemCode::Busy],
        "504" => &[ProblemCode::Timeout],
        _ => &[],
    };
    codes.iter().map(|code| (code.parts().2, problem(*code, operation, takes_body))).collect()
}

fn problem(code: ProblemCode, operation: &str, takes_body: bool) -> Problem {
    let mut problem = Problem::new(code, detail(code, takes_body));
    match code {
        ProblemCode::BadRequest if !takes_body => {
            problem.errors = vec![field("limit", "invalid", "is 9000; allowed is 1 to 500", None)];
        }
        ProblemCode::Rejected => problem.errors = vec![never_fits()],
        ProblemCode::InvalidCatalog => {
            problem.errors = vec![field("team[0].quota.gpu", "invalid", "must not be negative", Some(4))];
        }
        ProblemCode::Conflict | ProblemCode::NoAttempt | ProblemCode::NoLog => {
            problem.job = Some(JOB.to_owned());
        }
        ProblemCode::NotFound if operation == "get_receipt" => {
            problem.newest_arrival = [("http".to_owned(), NOW.to_owned())].into();
        }
        _ => {}
    }
    problem
}

fn field(field: &str, code: &str, message: &str, line: Option<u64>) -> FieldProblem {
    FieldProblem { field: field.to_owned(), code: code.to_owned(), message: message.to_owned(), line }
}

fn detail(code: ProblemCode, takes_body: bool) -> &'static str {
    match code {
        ProblemCode::BadRequest if takes_body => "the body is not valid JSON: EOF at line 1 column 8",
        ProblemCode::BadRequest => "query parameters are wrong: see errors",
        ProblemCode::Unauthorized => "no token came: send the header Authorization: Bearer TOKEN",
        ProblemCode::Forbidden => "this takes a submitter of team ads; you are a viewer",
        ProblemCode::CrossSite => "it comes from a page of another site",
        ProblemCode::NotFound => "there is no such thing that you could see",
        ProblemCode::Gone => "events after 17 have been deleted: begin without a position, or with after=0",
        ProblemCode::MethodNotAllowed => "see the Allow header",
        ProblemCode::Conflict => "ads/nightly-2026-11-22 is another job: use another key, or send the same",
        ProblemCode::VersionConflict | ProblemCode::PreconditionFailed => {
            "version 8 is in force by now: look at it, then send yours again"
        }
        ProblemCode::InvalidCatalog | ProblemCode::Rejected => "1 error",
        ProblemCode::RateLimited => "nothing was kept of it: send the same again in 2 s",
        ProblemCode::TooManyRequests => "send it again in 1 s",
        ProblemCode::NoAttempt => "it is queued and has not been given to a cluster yet, so it has no log",
        ProblemCode::NoLog => "the cluster has no log of this attempt (yet, or any more)",
        ProblemCode::RangeNotSatisfiable => "the log has no such bytes (yet, or any more)",
        ProblemCode::BodyTooLarge => "at most 1048576 bytes are allowed",
        ProblemCode::UnsupportedMediaType => "the Content-Type is none; send the header Content-Type",
        ProblemCode::Busy => "send it again in a moment",
        ProblemCode::Internal => "this is a fault of the server; its log says more",
        ProblemCode::ClusterUnreachable => {
            "it does not answer now; its jobs go on, and so may you in a moment"
        }
        ProblemCode::Unavailable => "nothing is lost: the same request can be sent again in a moment",
        ProblemCode::Timeout => "it may still take effect: look before sending it again",
    }
}
