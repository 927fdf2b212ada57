//! What pods and events say about why a RayJob failed, which the RayJob itself often doesn't. Pure.

use serde::Deserialize;
use yard_domain::{Failure, FailureClass};
use yard_ports::DriverError;

/// A list as the API server answers it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct List<T> {
    #[serde(default = "Vec::new")]
    pub(crate) items: Vec<T>,
}

/// A pod, as far as it tells of failures.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: Meta,
    pub(crate) status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Meta {
    pub(crate) name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    pub(crate) phase: String,
    reason: String,
    message: String,
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    image: String,
    state: ContainerState,
    last_state: ContainerState,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Waiting>,
    terminated: Option<Terminated>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
    message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    reason: String,
    exit_code: i32,
}

/// An event about a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Event {
    reason: String,
    message: String,
}

impl Pod {
    /// Whether its events may say why it does not run.
    pub(crate) fn is_waiting(&self) -> bool {
        self.status.phase == "Pending"
    }
}

/// The failure with what the pods and the events of those that wait have to say.
pub(crate) fn explain(failure: Failure, pods: &[Pod], events: &[(String, Event)]) -> Failure {
    let finding = pods.iter().find_map(out_of_memory);
    let finding = finding.or_else(|| pods.iter().find_map(evicted));
    let finding = finding.or_else(|| pods.iter().find_map(image));
    let finding = finding.or_else(|| pods.iter().find_map(unschedulable));
    let finding = finding.or_else(|| events.iter().find_map(from_event));
    let finding = finding.or_else(|| pods.iter().find_map(crashed));
    let Some((class, said)) = finding else { return failure };
    let message = if failure.message.is_empty() { said } else { format!("{said}; {}", failure.message) };
    Failure::new(class.unwrap_or(failure.class), failure.exit_code, message)
}

/// The failure with what the operator said when it took the head away: KubeRay's `DeletedHeadPod` has how its container ended.
pub(crate) fn explain_head(failure: Failure, events: &[Event]) -> Failure {
    let Some(event) = events.iter().rev().find(|event| event.reason == "DeletedHeadPod") else {
        return failure;
    };
    let oom = event.message.contains("OOMKilled");
    let (class, advice) =
        if oom { (FailureClass::User, "out of memory: ask for more memory; ") } else { (failure.class, "") };
    Failure::new(class, failure.exit_code, format!("{advice}{}; {}", failure.message, event.message))
}

/// The failure as it is known, and why `what` could not be asked for more: a missing right is named where it is missed.
pub(crate) fn unread(failure: &Failure, what: &str, error: &DriverError) -> Failure {
    let unknown = format!("what {what} say could not be read: {error}");
    let message =
        if failure.message.is_empty() { unknown } else { format!("{}; {unknown}", failure.message) };
    Failure::new(failure.class, failure.exit_code, message)
}

/// A class, unless the RayJob's own stays, and what to say.
type Finding = (Option<FailureClass>, String);

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses)
}

/// A job that needs more memory than it asked for is the job's own fault.
fn out_of_memory(pod: &Pod) -> Option<Finding> {
    let killed = |state: &ContainerState| state.terminated.as_ref().is_some_and(|t| t.reason == "OOMKilled");
    let container = containers(pod).find(|c| killed(&c.state) || killed(&c.last_state))?;
    let name = &pod.metadata.name;
    let said = format!(
        "out of memory: container {} of pod {name} was killed (OOMKilled): ask for more memory",
        container.name
    );
    Some((Some(FailureClass::User), said))
}

fn evicted(pod: &Pod) -> Option<Finding> {
    let status = &pod.status;
    let disrupted = status.conditions.iter().find(|c| c.kind == "DisruptionTarget" && c.status == "True");
    let known = matches!(
        status.reason.as_str(),
        "Evicted" | "NodeLost" | "NodeShutdown" | "Shutdown" | "Terminated" | "Preempting"
    );
    let (reason, message) = match disrupted {
        Some(condition) => (&condition.reason, &condition.message),
        None if known => (&status.reason, &status.message),
        None => return None,
    };
    Some((
        Some(FailureClass::Lost),
        format!("pod {} was taken away ({reason}): {message}", pod.metadata.name),
    ))
}

fn image(pod: &Pod) -> Option<Finding> {
    let reasons =
        ["ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"];
    let of = |c: &ContainerStatus| {
        let waiting = c.state.waiting.as_ref().filter(|w| reasons.contains(&w.reason.as_str()))?;
        let name = &pod.metadata.name;
        Some(format!(
            "image pull: {} of pod {name} can't be had ({}): {}",
            c.image, waiting.reason, waiting.message
        ))
    };
    containers(pod).find_map(of).map(|said| (Some(FailureClass::Launch), said))
}

fn unschedulable(pod: &Pod) -> Option<Finding> {
    let condition = pod
        .status
        .conditions
        .iter()
        .find(|c| c.kind == "PodScheduled" && c.status == "False" && c.reason == "Unschedulable")?;
    let said =
        format!("unschedulable: no node has room for pod {}: {}", pod.metadata.name, condition.message);
    Some((Some(FailureClass::Launch), said))
}

fn from_event((pod, event): &(String, Event)) -> Option<Finding> {
    let what = match event.reason.as_str() {
        "FailedScheduling" => "unschedulable",
        "FailedMount" | "FailedAttachVolume" => "volume",
        "FailedCreatePodSandBox" => "sandbox",
        "Failed" if event.message.contains("image") => "image pull",
        _ => return None,
    };
    Some((Some(FailureClass::Launch), format!("{what}: pod {pod}: {}", event.message)))
}

fn crashed(pod: &Pod) -> Option<Finding> {
    let of = |c: &ContainerStatus| {
        let ended = c.state.terminated.as_ref().or(c.last_state.terminated.as_ref())?;
        (ended.exit_code != 0).then(|| {
            format!(
                "container {} of pod {} ended with exit code {} ({})",
                c.name, pod.metadata.name, ended.exit_code, ended.reason
            )
        })
    };
    containers(pod).find_map(of).map(|said| (None, said))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "head-1"}, "status": status})).unwrap()
    }

    #[test]
    fn the_operator_knows_how_a_head_ended_that_it_took_away() {
        let event = |reason: &str, message: &str| -> Event {
            serde_json::from_value(json!({"reason": reason, "message": message})).unwrap()
        };
        let lost = Failure::new(FailureClass::Lost, None, "its head is gone");
        assert_eq!(explain_head(lost.clone(), &[event("CreatedHeadPod", "x")]), lost);
        let killed = event("DeletedHeadPod", "Deleted head Pod; terminated: &Terminated{Reason:OOMKilled}");
        let said = explain_head(lost.clone(), &[killed]);
        assert_eq!(said.class, FailureClass::User);
        assert!(said.message.starts_with("out of memory") && said.message.contains("OOMKilled"), "{said}");
        let ended = explain_head(lost, &[event("DeletedHeadPod", "Deleted head Pod; ExitCode:1")]);
        assert_eq!(
            (ended.class, ended.message.as_str()),
            (FailureClass::Lost, "its head is gone; Deleted head Pod; ExitCode:1")
        );
    }

    fn explained(status: &serde_json::Value, class: FailureClass) -> Failure {
        explain(Failure::new(class, None, "as the operator says"), &[Pod::default(), pod(status)], &[])
    }

    #[test]
    fn pods_say_what_the_operator_does_not_know() {
        use FailureClass::{Launch, Lost, User};
        let pull = json!({"phase": "Pending", "containerStatuses": [{"name": "ray-head", "image": "x:1",
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}}}]});
        let no_room = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."}]});
        let oom = json!({"phase": "Running", "containerStatuses": [{"name": "ray-worker",
            "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]});
        let gone = json!({"phase": "Failed", "reason": "Evicted", "message": "low on disk"});
        let taken = json!({"phase": "Running", "conditions": [{"type": "DisruptionTarget", "status": "True",
            "reason": "PreemptionByScheduler", "message": "preempting"}]});
        let crash = json!({"phase": "Failed", "containerStatuses": [{"name": "ray-head",
            "state": {"terminated": {"reason": "Error", "exitCode": 1}}}]});
        for (status, given, class, part) in [
            (pull, Launch, Launch, "image pull: x:1"),
            (no_room, Launch, Launch, "unschedulable: no node has room for pod head-1: 0/3"),
            (oom, Lost, User, "out of memory: container ray-worker"),
            (gone, Lost, Lost, "(Evicted): low on disk"),
            (taken, Launch, Lost, "PreemptionByScheduler"),
            (crash, Lost, Lost, "exit code 1"),
        ] {
            let failure = explained(&status, given);
            assert_eq!(failure.class, class, "{failure}");
            assert!(
                failure.message.contains(part) && failure.message.ends_with("; as the operator says"),
                "{failure}"
            );
        }
        assert_eq!(explained(&json!({"phase": "Running"}), Lost).message, "as the operator says");
    }

    #[test]
    fn events_speak_for_pods_that_do_not() {
        let event = Event { reason: "FailedMount".to_owned(), message: "no such secret".to_owned() };
        let given = Failure::new(FailureClass::Launch, None, "");
        let failure = explain(given, &[pod(&json!({"phase": "Pending"}))], &[("head-1".to_owned(), event)]);
        assert_eq!(failure.message, "volume: pod head-1: no such secret");
    }
}
