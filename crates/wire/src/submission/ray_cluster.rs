//! `ray_cluster`: the Ray cluster that a job wants to itself, as types, as read, and as kept.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value, json};
use utoipa::ToSchema;
use yard_domain::{RayClusterShape, Request, WorkerShape};

use super::faults::{join, quote};
use super::reader::{Reader, present};
use super::{Memory, Resources, custom_amount, custom_name};
use crate::quantity::{exact_memory_text, milli_number, parse_memory, parse_milli};

/// Longest name of an image, in bytes. Part of the format: registries have the same bound.
const IMAGE_MAX: usize = 255;
/// Longest name of a profile or of a kind of GPU, in bytes. Part of the format: it becomes a label's value.
const LABEL_MAX: usize = 63;

/// The Ray cluster that a job gets for itself on clusters where one is made for each job (driver `kuberay`). With `head`
/// or `workers` and no `resources`, the job is charged head and workers together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RayCluster {
    /// One of the cluster's named profiles. Default: the cluster's default profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub profile: Option<String>,
    /// The container image, where the profile allows a job to name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[!-~]{1,255}$"))]
    pub image: Option<String>,
    /// Environment variables of the cluster's containers, where the profile allows a job to set them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "maxProperties" = 32,
        "propertyNames" = json!({"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,62}$"}),
        "additionalProperties" = json!({"type": "string", "maxLength": 4_096}),
    ))]
    pub env: Option<BTreeMap<String, String>>,
    /// What the head gets. Default: what the workers leave of `resources`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Resources>,
    /// Its workers. Default: none, the head does it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
}

/// Workers of a job's own Ray cluster, all alike. A resource that is left out takes the installation's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Workers {
    /// How many. Not together with `min` and `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub count: Option<u32>,
    /// At least as many; Ray's autoscaler adds more as they are needed. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000))]
    pub min: Option<u32>,
    /// At most as many. All of them are charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub max: Option<u32>,
    /// CPUs of each, at most 3 decimals; 0 is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000), extend("multipleOf" = 0.001))]
    pub cpu: Option<f64>,
    /// GPUs of each, at most 3 decimals; 0 is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000), extend("multipleOf" = 0.001))]
    pub gpu: Option<f64>,
    /// Memory of each: bytes as a number, or a text with a unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Ray's custom resources of each by name, at most 3 decimals, above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "maxProperties" = 32,
        "propertyNames" = custom_name(),
        "additionalProperties" = custom_amount(),
    ))]
    pub custom: Option<BTreeMap<String, f64>>,
    /// The kind of GPU, as the cluster's profiles name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[!-~]{1,63}$"))]
    pub gpu_type: Option<String>,
}

impl Reader<'_> {
    /// What is charged and the shape, read together: one may follow from the other. `None` where something is wrong.
    pub(super) fn charge(&mut self, map: &Map<String, Value>) -> (Option<Request>, Option<RayClusterShape>) {
        let before = self.faults.count();
        let given = present(map, "resources");
        let shape = present(map, "ray_cluster").and_then(|value| self.ray_cluster(value));
        let sound = self.faults.count() == before;
        let request = match &shape {
            Some(shape) if given.is_none() && (shape.head.is_some() || shape.workers.is_some()) => {
                Some(self.computed(shape))
            }
            _ => self.request(given),
        };
        if let (Some(shape), Some(request), true) = (&shape, &request, sound && given.is_some()) {
            self.fits(shape, request);
        }
        (request.filter(|_| sound), shape)
    }

    /// Head and workers together; a head that is not spoken of is the default.
    fn computed(&self, shape: &RayClusterShape) -> Request {
        let head = shape.head.clone().unwrap_or_else(|| self.request.clone());
        let mut charge = Request { jobs: 1, ..head };
        charge.add(&shape.workers.as_ref().map(WorkerShape::total).unwrap_or_default());
        charge
    }

    fn fits(&mut self, shape: &RayClusterShape, request: &Request) {
        let mut asked = shape.head.clone().unwrap_or_default();
        asked.add(&shape.workers.as_ref().map(WorkerShape::total).unwrap_or_default());
        if let Err(short) = request.clone().checked_sub(&asked) {
            let field = if shape.workers.is_some() { "ray_cluster.workers" } else { "ray_cluster.head" };
            let show = |amount| yard_domain::resources::show_quantity(&short.resource, amount);
            let message = format!(
                "head and workers ask {} of {} together, but resources has {}: raise resources, or leave it out and it is \
                 computed",
                show(short.requested),
                short.resource,
                show(short.available)
            );
            self.faults.push(field, "out_of_range", message);
        }
    }

    fn ray_cluster(&mut self, value: &Value) -> Option<RayClusterShape> {
        let map = self.object("ray_cluster", value)?;
        let profile = present(map, "profile").and_then(|v| self.text("ray_cluster.profile", v));
        if let Some(text) = profile.filter(|text| text.parse::<yard_domain::ClassId>().is_err()) {
            let message = format!(
                "{} is no name: use 1 to {LABEL_MAX} of a-z, 0-9 and '-', as in a DNS label",
                quote(text)
            );
            self.faults.push("ray_cluster.profile", "invalid", message);
        }
        let image = present(map, "image").and_then(|v| self.text("ray_cluster.image", v));
        if let Some(text) = image.filter(|text| !is_token(text, IMAGE_MAX)) {
            let message = format!("{} is no image: 1 to {IMAGE_MAX} visible ASCII characters", quote(text));
            self.faults.push("ray_cluster.image", "invalid", message);
        }
        let shape = RayClusterShape {
            profile: profile.map(str::to_owned),
            image: image.map(str::to_owned),
            env: self.container_env(present(map, "env")),
            head: present(map, "head").and_then(|v| self.head(v)),
            workers: present(map, "workers").and_then(|v| self.workers(v)),
        };
        self.unknown_fields("ray_cluster", map);
        Some(shape)
    }

    fn container_env(&mut self, value: Option<&Value>) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let Some(map) = value.and_then(|v| self.object("ray_cluster.env", v)) else { return env };
        let (entries_max, bytes_max) = (self.limits.list_entries_max, self.limits.metadata_value_bytes_max);
        self.at_most("ray_cluster.env", map.len(), entries_max, "entries");
        for (name, value) in map {
            let path = join("ray_cluster.env", name);
            let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            if name.is_empty()
                || name.len() > LABEL_MAX
                || !name.bytes().all(sound)
                || name.as_bytes()[0].is_ascii_digit()
            {
                let message = format!(
                    "{} is no name of a variable: letters, digits and _, no digit first",
                    quote(name)
                );
                self.faults.push(&path, "invalid", message);
            }
            let Some(text) = self.text(&path, value) else { continue };
            self.at_most(&path, text.len(), bytes_max, "bytes");
            env.insert(name.clone(), text.to_owned());
        }
        env
    }

    fn head(&mut self, value: &Value) -> Option<Request> {
        let map = self.object("ray_cluster.head", value)?;
        let head = self.amounts("ray_cluster.head", map);
        self.unknown_fields("ray_cluster.head", map);
        Some(Request { jobs: 0, ..head })
    }

    fn workers(&mut self, value: &Value) -> Option<WorkerShape> {
        let path = "ray_cluster.workers";
        let map = self.object(path, value)?;
        let most = i64::from(self.limits.ray_workers_max);
        let mut number = |name: &str, least: i64| {
            let given = present(map, name)?;
            self.integer(&join(path, name), given, least..=most).and_then(|n| u32::try_from(n).ok())
        };
        let (count, min, max) = (number("count", 1), number("min", 0), number("max", 1));
        let is_set = |name| present(map, name).is_some();
        if is_set("count") && (is_set("min") || is_set("max")) {
            let message = "stands beside min or max: keep count, or min and max";
            self.faults.push(join(path, "count"), "invalid", message);
        } else if !is_set("count") && !is_set("max") {
            self.faults.push(join(path, "count"), "missing", "must be there: how many; or min and max");
        }
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            self.faults.push(
                join(path, "min"),
                "out_of_range",
                format!("is {min}, above max, which is {max}"),
            );
        }
        let each = self.amounts(path, map);
        let gpu_type = present(map, "gpu_type").and_then(|v| self.text("ray_cluster.workers.gpu_type", v));
        if let Some(text) = gpu_type.filter(|text| !is_token(text, LABEL_MAX)) {
            let message = format!("{} is no name: 1 to {LABEL_MAX} visible ASCII characters", quote(text));
            self.faults.push("ray_cluster.workers.gpu_type", "invalid", message);
        } else if gpu_type.is_some() && each.gpu_milli == 0 {
            let message = "is set, but the workers ask for no gpu: set gpu too, or leave it out";
            self.faults.push("ray_cluster.workers.gpu_type", "invalid", message);
        }
        self.unknown_fields(path, map);
        let max = count.or(max).unwrap_or(1);
        Some(WorkerShape {
            min: count.or(min).unwrap_or(0),
            max,
            each: Request { jobs: 0, ..each },
            gpu_type: gpu_type.map(str::to_owned),
        })
    }
}

fn is_token(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

// --- as kept ---

impl RayCluster {
    /// With every default filled in.
    pub(crate) fn of(shape: &RayClusterShape) -> Self {
        Self {
            profile: shape.profile.clone(),
            image: shape.image.clone(),
            env: (!shape.env.is_empty()).then(|| shape.env.clone()),
            head: shape.head.as_ref().map(resources),
            workers: shape.workers.as_ref().map(|workers| {
                let Resources { cpu, gpu, memory, custom } = resources(&workers.each);
                let same = workers.min == workers.max;
                Workers {
                    count: same.then_some(workers.max),
                    min: (!same).then_some(workers.min),
                    max: (!same).then_some(workers.max),
                    cpu,
                    gpu,
                    memory,
                    custom,
                    gpu_type: workers.gpu_type.clone(),
                }
            }),
        }
    }

    /// Read back; `None` if it is not as [`RayCluster::of`] writes it.
    pub(crate) fn shape(self) -> Option<RayClusterShape> {
        let workers = match self.workers {
            Some(w) => {
                let max = w.count.or(w.max)?;
                let each = Resources { cpu: w.cpu, gpu: w.gpu, memory: w.memory, custom: w.custom };
                Some(WorkerShape {
                    min: w.count.or(w.min).unwrap_or(0),
                    max,
                    each: request(each)?,
                    gpu_type: w.gpu_type,
                })
            }
            None => None,
        };
        let head = match self.head {
            Some(head) => Some(request(head)?),
            None => None,
        };
        let env = self.env.unwrap_or_default();
        Some(RayClusterShape { profile: self.profile, image: self.image, env, head, workers })
    }
}

fn resources(request: &Request) -> Resources {
    let bytes = request.memory_bytes;
    let custom: BTreeMap<_, _> =
        request.custom_milli.iter().map(|(name, m)| (name.clone(), milli_number(*m))).collect();
    Resources {
        cpu: Some(milli_number(request.cpu_milli)),
        gpu: Some(milli_number(request.gpu_milli)),
        memory: (bytes > 0).then(|| exact_memory_text(bytes).map_or(Memory::Bytes(bytes), Memory::Text)),
        custom: (!custom.is_empty()).then_some(custom),
    }
}

fn request(resources: Resources) -> Option<Request> {
    let milli = |amount: f64| parse_milli(&Number::from_f64(amount)?).ok();
    let custom = resources.custom.unwrap_or_default().into_iter();
    Some(Request {
        cpu_milli: milli(resources.cpu.unwrap_or(0.0))?,
        gpu_milli: milli(resources.gpu.unwrap_or(0.0))?,
        memory_bytes: match resources.memory {
            None => 0,
            Some(Memory::Bytes(bytes)) => bytes,
            Some(Memory::Text(text)) => parse_memory(&text).ok()?,
        },
        jobs: 0,
        custom_milli: custom.map(|(name, amount)| Some((name, milli(amount)?))).collect::<Option<_>>()?,
    })
}
