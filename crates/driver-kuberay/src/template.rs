//! What RayJobs on a cluster are made from: named profiles, in YAML.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};
use thiserror::Error;
use yard_domain::Request;

use crate::quantity;
use crate::reader::Section;
use crate::render;
use crate::schema::{Problem, Schemas};

/// All profiles of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// The profile of jobs that name none.
    pub(crate) default_profile: String,
    /// Never empty.
    pub(crate) profiles: BTreeMap<String, Profile>,
}

/// How a job's Ray cluster is made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Profile {
    /// The container image.
    pub(crate) image: String,
    /// Said to the operator.
    pub(crate) ray_version: Option<String>,
    /// Who submits the job to the Ray cluster.
    pub(crate) submission_mode: SubmissionMode,
    /// Parts of every pod.
    pub(crate) all: Parts,
    /// Parts of the head, beside those.
    pub(crate) head: Parts,
    /// Parts of workers, beside those.
    pub(crate) worker: Parts,
    /// Parts of the submitter's pod, in [`SubmissionMode::K8sJob`].
    pub(crate) submitter_pod: Parts,
    /// The extended resource that a GPU is.
    pub(crate) gpu_resource: String,
    /// Kinds of GPU that a job may ask for.
    pub(crate) gpu_types: BTreeMap<String, GpuType>,
    /// Custom resources that are extended resources of nodes; others are Ray's logical ones only.
    pub(crate) custom_resources: BTreeMap<String, String>,
    /// The least that a head is started with.
    pub(crate) head_min: Request,
    /// What the submitter's pod asks for, of what the job is charged.
    pub(crate) submitter: Request,
    /// What the autoscaler beside the head asks for, of what the job is charged.
    pub(crate) autoscaler: Request,
    /// What a job may say itself.
    pub(crate) job_may_set: BTreeSet<JobField>,
    /// How long the Ray cluster stays after the job's end, for its log to be read.
    pub(crate) ttl: Duration,
    /// Longest until the job runs.
    pub(crate) pre_running_deadline: Duration,
    /// How long an idle worker stays, under the autoscaler.
    pub(crate) idle_timeout: Duration,
}

/// Raw parts of a PodSpec and of its Ray container.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Parts {
    pub(crate) pod: Map<String, Value>,
    pub(crate) container: Map<String, Value>,
    pub(crate) ray_start_params: BTreeMap<String, String>,
}

/// A kind of GPU.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct GpuType {
    pub(crate) pod: Map<String, Value>,
    pub(crate) resource: Option<String>,
}

/// Who submits the job to its Ray cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubmissionMode {
    /// The operator.
    Http,
    /// A pod of its own.
    K8sJob,
    /// A container beside the head.
    Sidecar,
}

/// Something that a job may say itself, if its profile allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum JobField {
    /// `ray_cluster.image`.
    Image,
    /// `ray_cluster.env`.
    Env,
}

impl SubmissionMode {
    const ALL: [Self; 3] = [Self::Http, Self::K8sJob, Self::Sidecar];

    /// As the CRD has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTPMode",
            Self::K8sJob => "K8sJobMode",
            Self::Sidecar => "SidecarMode",
        }
    }
}

impl JobField {
    const ALL: [Self; 2] = [Self::Image, Self::Env];

    /// As templates and submissions have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Env => "env",
        }
    }
}

/// Everything that is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct TemplateError {
    /// One for each mistake.
    pub problems: Vec<Problem>,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Problem { path, message }) in self.problems.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            let colon = if path.is_empty() { "" } else { ": " };
            write!(f, "{separator}{path}{colon}{message}")?;
        }
        Ok(())
    }
}

/// What KubeRay gives the submitter beside the head, whatever one says.
pub(crate) const SIDECAR: (u64, u64) = (500, 200 << 20);

impl Template {
    /// Reads a template and checks it against the CRD; every mistake at once.
    pub fn parse(yaml: &str) -> Result<Self, TemplateError> {
        let failed =
            |message: String| TemplateError { problems: vec![Problem { path: String::new(), message }] };
        let document: Value =
            serde_saphyr::from_str(yaml).map_err(|error| failed(format!("is no YAML: {error}")))?;
        let schemas = Schemas::get().map_err(failed)?;
        let mut problems = Vec::new();
        let template = read(&document, schemas, &mut problems);
        if let Some(template) = template.as_ref().filter(|_| problems.is_empty()) {
            // The whole as a backstop: what the parts make together.
            let made = render::samples(template, "sample").into_iter().flat_map(|job| schemas.job(&job));
            problems.extend(
                made.map(|p| Problem { path: format!("the RayJob that is made of it, {}", p.path), ..p }),
            );
        }
        match template {
            Some(template) if problems.is_empty() => Ok(template),
            _ => Err(TemplateError { problems }),
        }
    }

    /// The profile of this name, or the default one.
    pub(crate) fn profile(&self, name: Option<&str>) -> Result<&Profile, String> {
        let name = name.unwrap_or(&self.default_profile);
        self.profiles.get(name).ok_or_else(|| {
            let known: Vec<_> = self.profiles.keys().map(String::as_str).collect();
            format!(
                "ray_cluster.profile: there is no profile {name:?} on this cluster; there are: {}",
                known.join(", ")
            )
        })
    }
}

fn read(document: &Value, schemas: &Schemas, problems: &mut Vec<Problem>) -> Option<Template> {
    let mut top = Section::root(document, problems)?;
    let default_profile = top.text("default_profile").map(str::to_owned);
    let none = Map::new();
    let named = top.map("profiles").unwrap_or(&none);
    let mut profiles = BTreeMap::new();
    for (name, value) in named {
        if let Some(profile) = top.element("profiles", name, value).and_then(|s| profile(s, schemas)) {
            profiles.insert(name.clone(), profile);
        }
    }
    let names: Vec<&String> = named.keys().collect();
    let default = match (&default_profile, names.as_slice()) {
        (Some(name), _) => Some(name.clone()),
        (None, [only]) => Some((*only).clone()),
        (None, _) => None,
    };
    if names.is_empty() {
        top.complain("profiles", "must be there: a table with at least one profile");
    } else if !default.as_ref().is_some_and(|default| named.contains_key(default)) {
        top.complain("default_profile", "must be the name of one of the profiles");
    }
    top.finish();
    Some(Template { default_profile: default?, profiles })
}

fn profile(mut s: Section<'_>, schemas: &Schemas) -> Option<Profile> {
    let image = s.text("image").map(str::to_owned);
    if image.is_none() {
        s.complain_if_absent("image", "must be there: the container image, such as rayproject/ray:2.60.0");
    }
    let modes = SubmissionMode::ALL.map(|mode| (mode.name(), mode));
    let submission_mode = s.choice("submission_mode", &modes).unwrap_or(SubmissionMode::Http);
    if submission_mode != SubmissionMode::Http {
        // The operator needs it to hand the job's metadata over, and else begins again and again.
        let said =
            format!("must be there with submission_mode: {}, such as \"2.60.0\"", submission_mode.name());
        s.complain_if_absent("ray_version", &said);
    }
    let fields = JobField::ALL.map(|field| (field.name(), field));
    let profile = Profile {
        image: image.clone().unwrap_or_default(),
        ray_version: s.text("ray_version").map(str::to_owned),
        submission_mode,
        all: parts(&mut s, schemas),
        head: s.section("head").map(|h| lone_parts(h, schemas)).unwrap_or_default(),
        worker: s.section("worker").map(|w| lone_parts(w, schemas)).unwrap_or_default(),
        submitter_pod: s.section("submitter_pod").map(|p| lone_parts(p, schemas)).unwrap_or_default(),
        gpu_resource: s.text("gpu_resource").unwrap_or("nvidia.com/gpu").to_owned(),
        gpu_types: gpu_types(&mut s, schemas),
        custom_resources: s.texts("custom_resources"),
        head_min: amounts(&mut s, "head_min", Request::default()),
        submitter: submitter(&mut s, submission_mode),
        autoscaler: amounts(&mut s, "autoscaler", share(500, 512 << 20)),
        job_may_set: s.choices("job_may_set", &fields),
        ttl: s.seconds("ttl_s", 60, 0..=86_400),
        pre_running_deadline: s.seconds("pre_running_deadline_s", 900, 1..=86_400),
        idle_timeout: s.seconds("idle_timeout_s", 60, 1..=86_400),
    };
    s.finish();
    image.map(|_| profile)
}

fn lone_parts(mut s: Section<'_>, schemas: &Schemas) -> Parts {
    let parts = parts(&mut s, schemas);
    s.finish();
    parts
}

/// `pod`, `container` and `ray_start_params` of a section.
fn parts(s: &mut Section<'_>, schemas: &Schemas) -> Parts {
    let (pod, container) = (s.map("pod").cloned(), s.map("container").cloned());
    for (key, part) in [("pod", &pod), ("container", &container)] {
        let Some(part) = part else { continue };
        let (path, value) = (s.path(key), Value::Object(part.clone()));
        let found = if key == "pod" { schemas.pod(&path, &value) } else { schemas.container(&path, &value) };
        s.add(found);
    }
    Parts {
        pod: pod.unwrap_or_default(),
        container: container.unwrap_or_default(),
        ray_start_params: s.texts("ray_start_params"),
    }
}

fn gpu_types(s: &mut Section<'_>, schemas: &Schemas) -> BTreeMap<String, GpuType> {
    let mut types = BTreeMap::new();
    for (name, value) in s.map("gpu_types").into_iter().flatten() {
        let Some(mut kind) = s.element("gpu_types", name, value) else { continue };
        let Parts { pod, .. } =
            Parts { pod: kind.map("pod").cloned().unwrap_or_default(), ..Parts::default() };
        let found = schemas.pod(&kind.path("pod"), &Value::Object(pod.clone()));
        kind.add(found);
        let resource = kind.text("resource").map(str::to_owned);
        kind.finish();
        types.insert(name.clone(), GpuType { pod, resource });
    }
    types
}

fn submitter(s: &mut Section<'_>, mode: SubmissionMode) -> Request {
    match mode {
        SubmissionMode::K8sJob => amounts(s, "submitter", share(500, 200 << 20)),
        SubmissionMode::Http | SubmissionMode::Sidecar => {
            if s.section("submitter").is_some() {
                s.complain("submitter", "is only for submission_mode: K8sJobMode");
            }
            if mode == SubmissionMode::Sidecar { share(SIDECAR.0, SIDECAR.1) } else { Request::default() }
        }
    }
}

fn share(cpu_milli: u64, memory_bytes: u64) -> Request {
    Request { cpu_milli, memory_bytes, ..Request::default() }
}

/// `{cpu: 500m, memory: 1Gi}`.
fn amounts(s: &mut Section<'_>, key: &'static str, default: Request) -> Request {
    let Some(mut amounts) = s.section(key) else { return default };
    let request = Request {
        cpu_milli: amounts.quantity("cpu", quantity::milli).unwrap_or(default.cpu_milli),
        memory_bytes: amounts.quantity("memory", quantity::whole).unwrap_or(default.memory_bytes),
        ..Request::default()
    };
    amounts.finish();
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_with_one_profile_needs_no_more_than_an_image() {
        let template = Template::parse("profiles: {cpu: {image: 'rayproject/ray:2.60.0'}}").unwrap();
        let profile = template.profile(None).unwrap();
        assert_eq!(
            (profile.image.as_str(), profile.submission_mode),
            ("rayproject/ray:2.60.0", SubmissionMode::Http)
        );
        assert_eq!((profile.ttl, profile.submitter.cpu_milli), (Duration::from_mins(1), 0));
        let error = template.profile(Some("gpu")).unwrap_err();
        assert!(error.contains("\"gpu\"") && error.ends_with("there are: cpu"), "{error}");
    }

    #[test]
    fn every_mistake_is_said_with_its_path() {
        let yaml = "
default_profile: gone
colour: red
profiles:
  a:
    submission_mode: Sometimes
    job_may_set: [image, entrypoint]
    ttl_s: -1
    head_min: {cpu: lots, disk: 1}
    pod: {containers: [], tolerations: [{effect: 3}]}
    head: {container: {image: x}}
    gpu_types: {a100: {pod: {nodeSelector: 5}}}
  b: {image: x, submitter: {cpu: 1}, imagee: y}
  c: {image: x, submission_mode: SidecarMode}
";
        let error = Template::parse(yaml).unwrap_err();
        let mut paths: Vec<_> = error.problems.iter().map(|p| p.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "colour",
                "default_profile",
                "profiles.a.gpu_types.a100.pod.nodeSelector",
                "profiles.a.head.container",
                "profiles.a.head_min.cpu",
                "profiles.a.head_min.disk",
                "profiles.a.image",
                "profiles.a.job_may_set[1]",
                "profiles.a.pod",
                "profiles.a.pod.tolerations[0].effect",
                "profiles.a.submission_mode",
                "profiles.a.ttl_s",
                "profiles.b.imagee",
                "profiles.b.submitter",
                "profiles.c.ray_version",
            ],
            "{error}"
        );
        assert!(Template::parse("a: [").unwrap_err().to_string().contains("is no YAML"));
        assert!(Template::parse("[]").unwrap_err().to_string().contains("must be a table"));
    }
}
