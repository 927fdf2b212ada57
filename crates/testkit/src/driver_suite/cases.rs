//! The cases.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt};
use yard_domain::{FailureClass, InstanceId, JobId, RemoteName};
use yard_ports::{DriverError, LaunchOutcome, LogStream, RemoteStatus};

use super::{Bench, Case};

/// Longer than any test.
const ENDLESS: &str = "sleep 3600";

macro_rules! cases {
    ($($needs_commands:literal $name:ident),* $(,)?) => {
        /// All of them.
        pub const CASES: &[Case] = &[$(Case {
            name: stringify!($name),
            needs_commands: $needs_commands,
            run: |bench| $name(bench).boxed(),
        }),*];
    };
}

cases! {
    false observation_begins_with_everything,
    false an_observer_is_never_left_in_silence,
    false success_is_shown,
    false failure_is_shown_with_its_exit_code,
    false launching_twice_is_one_run,
    false launching_from_everywhere_at_once_is_one_run,
    false a_name_of_another_installation_is_taken,
    false stopping_what_runs,
    false stopping_before_it_runs,
    false stopping_after_the_end_changes_nothing,
    false what_is_not_there_is_not_found,
    false only_what_has_ended_is_forgotten,
    false a_restart_adopts_what_runs,
    true the_command_knows_what_it_is,
    true logs_are_whole_from_any_offset,
    true a_followed_log_ends_with_the_attempt,
    true a_stopped_command_may_clean_up,
    true stopping_reaches_grandchildren,
}

async fn observation_begins_with_everything(bench: Bench) {
    let request = bench.request("exit 0");
    bench.driver.launch(&request).await.unwrap();
    bench.watch().end(&request.name).await;
    let mut late = bench.watch();
    let shown = &late.first_full().await[&request.name];
    assert_eq!((shown.instance, &shown.status), (Some(bench.instance), &RemoteStatus::Succeeded));
}

async fn an_observer_is_never_left_in_silence(bench: Bench) {
    let mut watch = bench.watch();
    watch.first_full().await;
    for _ in 0..3 {
        watch.sign_of_life().await;
    }
}

async fn success_is_shown(bench: Bench) {
    let mut watch = bench.watch();
    watch.first_full().await;
    let request = bench.request("exit 0");
    assert_eq!(bench.driver.launch(&request).await.unwrap(), LaunchOutcome::Launched);
    assert_eq!(watch.end(&request.name).await, RemoteStatus::Succeeded);
    bench.assert_runs(&request, 1);
}

async fn failure_is_shown_with_its_exit_code(bench: Bench) {
    let mut watch = bench.watch();
    let request = bench.request("echo it broke; exit 3");
    bench.driver.launch(&request).await.unwrap();
    let RemoteStatus::Failed(failure) = watch.end(&request.name).await else { panic!("it can't succeed") };
    assert_eq!((failure.class, failure.exit_code), (FailureClass::User, Some(3)));
    if bench.target.scratch().is_some() {
        assert!(failure.message.contains("it broke"), "{failure:?}");
    }
}

async fn launching_twice_is_one_run(bench: Bench) {
    let request = bench.request("sleep 1; exit 0");
    assert_eq!(bench.driver.launch(&request).await.unwrap(), LaunchOutcome::Launched);
    let again = bench.driver.launch(&request).await.unwrap();
    assert!(matches!(again, LaunchOutcome::Adopted(_)), "{again:?}");
    assert_eq!(bench.watch().end(&request.name).await, RemoteStatus::Succeeded);
    let late = bench.target.driver().launch(&request).await.unwrap();
    assert_eq!(late, LaunchOutcome::Adopted(RemoteStatus::Succeeded));
    bench.assert_runs(&request, 1);
}

async fn launching_from_everywhere_at_once_is_one_run(bench: Bench) {
    let request = bench.request("exit 0");
    let places = (0..8).map(|place| {
        let driver = if place % 2 == 0 { Arc::clone(&bench.driver) } else { bench.target.driver() };
        let request = request.clone();
        tokio::spawn(async move { driver.launch(&request).await })
    });
    let mut launched = 0;
    for outcome in futures::future::join_all(places).await {
        launched += usize::from(outcome.unwrap().unwrap() == LaunchOutcome::Launched);
    }
    assert!(launched <= 1, "{launched} calls say that they launched it");
    assert_eq!(bench.watch().end(&request.name).await, RemoteStatus::Succeeded);
    bench.assert_runs(&request, 1);
}

async fn a_name_of_another_installation_is_taken(bench: Bench) {
    let request = bench.request("exit 0");
    bench.driver.launch(&request).await.unwrap();
    let mut theirs = request.clone();
    theirs.instance = InstanceId(uuid::Uuid::new_v4());
    let error = bench.driver.launch(&theirs).await.unwrap_err();
    assert!(matches!(error, DriverError::NameTaken(_)), "{error:?}");
    bench.watch().end(&request.name).await;
    bench.assert_runs(&request, 1);
}

async fn stopping_what_runs(bench: Bench) {
    let mut watch = bench.watch();
    let request = bench.request(ENDLESS);
    bench.driver.launch(&request).await.unwrap();
    watch.running(&request.name).await;
    bench.mark_of(&request).await;
    bench.driver.stop(&request.name).await.unwrap();
    assert_eq!(watch.end(&request.name).await, RemoteStatus::Stopped);
    bench.driver.stop(&request.name).await.unwrap();
    bench.assert_runs(&request, 1);
}

async fn stopping_before_it_runs(bench: Bench) {
    let request = bench.request(ENDLESS);
    bench.driver.launch(&request).await.unwrap();
    bench.driver.stop(&request.name).await.unwrap();
    assert_eq!(bench.watch().end(&request.name).await, RemoteStatus::Stopped);
    let again = bench.driver.launch(&request).await.unwrap();
    assert_eq!(again, LaunchOutcome::Adopted(RemoteStatus::Stopped));
}

async fn stopping_after_the_end_changes_nothing(bench: Bench) {
    let request = bench.request("exit 0");
    bench.driver.launch(&request).await.unwrap();
    bench.watch().end(&request.name).await;
    bench.driver.stop(&request.name).await.unwrap();
    assert_eq!(bench.watch().end(&request.name).await, RemoteStatus::Succeeded);
}

async fn what_is_not_there_is_not_found(bench: Bench) {
    let name = RemoteName::new(JobId(uuid::Uuid::new_v4()), yard_domain::AttemptNumber(1));
    let driver = &bench.driver;
    assert!(matches!(driver.stop(&name).await, Err(DriverError::NotFound)));
    assert!(matches!(driver.forget(&name).await, Err(DriverError::NotFound)));
    for follow in [false, true] {
        let logs = driver.logs(&name, 0, follow).await.map(|_| "a log");
        assert!(matches!(logs, Err(DriverError::NotFound)), "{logs:?}");
    }
}

async fn only_what_has_ended_is_forgotten(bench: Bench) {
    let request = bench.request(ENDLESS);
    bench.driver.launch(&request).await.unwrap();
    let mut watch = bench.watch();
    watch.running(&request.name).await;
    let early = bench.driver.forget(&request.name).await;
    assert!(matches!(early, Err(DriverError::Refused(_))), "{early:?}");
    bench.driver.stop(&request.name).await.unwrap();
    watch.end(&request.name).await;
    bench.driver.forget(&request.name).await.unwrap();
    assert!(!bench.watch().first_full().await.contains_key(&request.name));
    // Twice does no harm; a trace of it may have been left that only the cluster sees.
    let again = bench.driver.forget(&request.name).await;
    assert!(matches!(again, Ok(()) | Err(DriverError::NotFound)), "{again:?}");
}

async fn a_restart_adopts_what_runs(bench: Bench) {
    let request = bench.request(ENDLESS);
    bench.driver.launch(&request).await.unwrap();
    bench.watch().running(&request.name).await;
    bench.mark_of(&request).await;
    let after =
        Bench { driver: bench.target.driver(), instance: bench.instance, target: Arc::clone(&bench.target) };
    drop(bench);
    let mut watch = after.watch();
    let shown = watch.first_full().await[&request.name].clone();
    assert_eq!((shown.instance, shown.status), (Some(request.instance), RemoteStatus::Running));
    let again = after.driver.launch(&request).await.unwrap();
    assert_eq!(again, LaunchOutcome::Adopted(RemoteStatus::Running));
    after.driver.stop(&request.name).await.unwrap();
    assert_eq!(watch.end(&request.name).await, RemoteStatus::Stopped);
    after.assert_runs(&request, 1);
}

async fn the_command_knows_what_it_is(bench: Bench) {
    let mut request =
        bench.request("echo \"I am $YARD_JOB_ID/$YARD_ATTEMPT of $YARD_TEAM: $YARD_REMOTE_NAME, $OWN\"");
    request.runtime_env.insert("env_vars".to_owned(), serde_json::json!({"OWN": "its own"}));
    bench.driver.launch(&request).await.unwrap();
    assert_eq!(bench.watch().end(&request.name).await, RemoteStatus::Succeeded);
    let log = read(bench.driver.logs(&request.name, 0, false).await.unwrap()).await;
    let expected = format!("I am {}/1 of suite: {}, its own", request.job, request.name);
    assert!(log.contains(&expected), "{log}");
}

async fn logs_are_whole_from_any_offset(bench: Bench) {
    // More than one piece of any sensible size, and characters of several bytes.
    let request =
        bench.request("i=0; while [ $i -lt 4000 ]; do echo \"line $i ääääääääääääääääää\"; i=$((i+1)); done");
    bench.driver.launch(&request).await.unwrap();
    assert_eq!(bench.watch().end(&request.name).await, RemoteStatus::Succeeded);
    let whole = read(bench.driver.logs(&request.name, 0, false).await.unwrap()).await;
    // A cluster may have lines of its own to say, before or in between.
    let own = whole.lines().filter(|line| line.starts_with("line "));
    assert!(own.eq((0..4_000).map(|i| format!("line {i} ääääääääääääääääää"))), "{} bytes", whole.len());
    assert_eq!(read(bench.driver.logs(&request.name, 0, true).await.unwrap()).await, whole);
    let middle = whole.find("line 2000").expect("it is there");
    for follow in [false, true] {
        let rest = read(bench.driver.logs(&request.name, middle as u64, follow).await.unwrap()).await;
        assert_eq!(rest, &whole[middle..]);
        for beyond in [whole.len(), whole.len() + 10] {
            let rest = read(bench.driver.logs(&request.name, beyond as u64, follow).await.unwrap()).await;
            assert_eq!(rest, "");
        }
    }
}

async fn a_followed_log_ends_with_the_attempt(bench: Bench) {
    let go_on =
        bench.file(&RemoteName::new(JobId(uuid::Uuid::new_v4()), yard_domain::AttemptNumber(1)), "go");
    let go_on = go_on.expect("a target with commands");
    let wait = format!("until [ -e '{}' ]; do sleep 0.1; done", go_on.display());
    // Not spelt out: a cluster may show the command itself in its log.
    let request = bench.request(&format!("printf 'be%s\\n' fore; {wait}; printf 'af%s\\n' ter"));
    bench.driver.launch(&request).await.unwrap();
    let mut log = bench.driver.logs(&request.name, 0, true).await.unwrap();
    let patience = bench.target.patience();
    let mut text = String::new();
    while !text.contains("before\n") {
        let piece = tokio::time::timeout(patience, log.next()).await.expect("what is there is shown at once");
        text.push_str(std::str::from_utf8(&piece.expect("it goes on").unwrap()).unwrap());
    }
    assert!(!text.contains("after\n"));
    std::fs::write(go_on, "").unwrap();
    let rest = tokio::time::timeout(patience, read(log)).await.expect("it ends");
    text.push_str(&rest);
    let whole = read(bench.driver.logs(&request.name, 0, false).await.unwrap()).await;
    let (before, after) = (text.find("before\n"), text.find("after\n"));
    assert!(before.is_some() && before < after, "{text}");
    assert_eq!(text, whole);
    assert_eq!(bench.watch().end(&request.name).await, RemoteStatus::Succeeded);
}

async fn a_stopped_command_may_clean_up(bench: Bench) {
    let request = bench.request(
        "trap 'sleep 1; printf \"cleaned %s\\n\" up; exit 0' TERM; printf 'rea%s\\n' dy; sleep 3600 & wait",
    );
    let mut watch = bench.watch();
    bench.driver.launch(&request).await.unwrap();
    let mut log = bench.driver.logs(&request.name, 0, true).await.unwrap();
    let mut text = String::new();
    while !text.contains("ready\n") {
        let piece = tokio::time::timeout(bench.target.patience(), log.next()).await.expect("it gets ready");
        text.push_str(std::str::from_utf8(&piece.expect("it goes on").unwrap()).unwrap());
    }
    bench.driver.stop(&request.name).await.unwrap();
    assert_eq!(watch.end(&request.name).await, RemoteStatus::Stopped);
    let log = read(bench.driver.logs(&request.name, 0, false).await.unwrap()).await;
    assert!(log.contains("cleaned up"), "{log}");
}

async fn stopping_reaches_grandchildren(bench: Bench) {
    let request = bench.request("");
    let file = bench.file(&request.name, "pids").expect("a target with commands");
    let (mut request, file) = (request, file.display());
    // The last of them does not care about SIGTERM.
    request.entrypoint = format!(
        "sh -c 'sleep 3600 & echo $! >> {file}; wait' & sh -c 'trap \"\" TERM; echo $$ >> {file}; while :; do sleep 1; done' & wait"
    );
    let mut watch = bench.watch();
    bench.driver.launch(&request).await.unwrap();
    watch.running(&request.name).await;
    let pids = loop {
        let pids = std::fs::read_to_string(file.to_string()).unwrap_or_default();
        if pids.lines().count() == 2 {
            break pids;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    bench.driver.stop(&request.name).await.unwrap();
    assert_eq!(watch.end(&request.name).await, RemoteStatus::Stopped);
    for pid in pids.lines() {
        let shown = std::process::Command::new("ps").args(["-o", "state=", "-p", pid]).output().unwrap();
        let state = String::from_utf8_lossy(&shown.stdout).trim().to_owned();
        // A zombie is dead; when it is buried is up to whoever adopted it.
        assert!(state.is_empty() || state.starts_with('Z'), "process {pid} outlived its attempt: {state}");
    }
}

async fn read(log: LogStream) -> String {
    let bytes: Vec<u8> = log.map_ok(|piece| piece.to_vec()).try_concat().await.unwrap();
    String::from_utf8(bytes).unwrap()
}
