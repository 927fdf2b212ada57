//! What Ray clusters a cluster can make for jobs, and how a job's charge is cut into pods: the part of a cluster's
//! template that decides whether a job could ever be launched there. Pure, so that doors and the planner ask the very
//! function that the driver cuts by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::ray_cluster::{RayClusterShape, WorkerShape};
use crate::resources::{Milli, Request, show_quantity};

/// What a job asks of the Ray cluster that is made for it, as far as that decides where it may run. A job of which
/// nothing is said is a head alone, of the default profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PodDemand {
    /// One of the cluster's named profiles; `None` is its default.
    pub profile: Option<String>,
    /// What the job says itself, beside its profile.
    pub sets: BTreeSet<JobField>,
    /// Whether its runtime environment names packages that were uploaded to Switchyard.
    pub uploads: bool,
    /// Its workers; `None` is a head alone.
    pub workers: Option<WorkerShape>,
}

/// Something that a job may say itself, if its profile allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobField {
    /// `ray_cluster.image`.
    Image,
    /// `ray_cluster.env`.
    Env,
}

/// The profiles of a cluster's template, by what they allow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RayProfiles {
    /// The profile of jobs that name none.
    pub default: String,
    /// Whether its Ray clusters fetch packages that were uploaded to Switchyard, by links: they don't stand yet when a job
    /// is launched, so nothing can be brought to them.
    pub links: bool,
    /// All of them by name.
    pub profiles: BTreeMap<String, RayProfile>,
}

/// What a profile allows, and what of a job's charge it takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RayProfile {
    /// What a job may say itself.
    pub job_may_set: BTreeSet<JobField>,
    /// The kinds of GPU that a job may ask for.
    pub gpu_types: BTreeSet<String>,
    /// Custom resources that are given to pods in whole units only, as GPUs are.
    pub whole: BTreeSet<String>,
    /// The least that a head is started with.
    pub head_min: Request,
    /// The least that a worker is started with: what its pod asks for anyway.
    pub worker_min: Request,
    /// What submits the job gets, of what the job is charged.
    pub submitter: Request,
    /// What the autoscaler beside the head gets, of what a job with elastic workers is charged.
    pub autoscaler: Request,
}

/// Who gets what of a charge. The sum of all (the worker's times their number) is the charge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodShares {
    /// What is left for the head; its `jobs` is 0.
    pub head: Request,
    /// What submits the job.
    pub submitter: Request,
    /// The autoscaler.
    pub autoscaler: Request,
    /// Each worker.
    pub worker: Request,
}

/// Why a cluster could never make a job's Ray cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodFault {
    /// The field of the submission that would have to be another.
    pub field: String,
    /// What is wrong, and what would help; said of the cluster.
    pub message: String,
}

/// What one pod must have on one node, beside what nodes have. Shown, it says that no pod can have it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Block {
    /// The most GPUs that one pod of the job must have.
    pub asked: Milli,
    /// How the cluster's GPUs lie.
    pub there: GpuBlocks,
}

/// How the GPUs of one kind lie on a cluster's nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GpuBlocks {
    /// The kind, as nodes are labelled; empty if they tell none.
    pub kind: String,
    /// What there is for Switchyard's pods, in use or not.
    pub capacity: Milli,
    /// What nobody uses.
    pub free: Milli,
    /// The most that is free on one node: what a pod can have now.
    pub largest_free: Milli,
    /// The most that one node has for Switchyard's pods, in use or not: what a pod can ever have.
    pub largest: Milli,
}

impl JobField {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Image, Self::Env];

    /// As templates and submissions have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Env => "env",
        }
    }

    /// Reads [`JobField::name`] back.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }
}

impl PodDemand {
    /// Of a job with this shape, and with uploaded packages or without. `None` if it is a head alone.
    pub fn of(shape: Option<&RayClusterShape>, uploads: bool) -> Option<Self> {
        let none = RayClusterShape::default();
        let shape = shape.unwrap_or(&none);
        let given = [(JobField::Image, shape.image.is_some()), (JobField::Env, !shape.env.is_empty())];
        let demand = Self {
            profile: shape.profile.clone(),
            sets: given.into_iter().filter(|(_, given)| *given).map(|(field, _)| field).collect(),
            uploads,
            workers: shape.workers.clone(),
        };
        (demand != Self::default()).then_some(demand)
    }
}

/// The most GPUs that one pod of a job must have: each worker has what it asks for, the head what is left of the charge.
pub fn gpus_of_one_pod(demand: Option<&PodDemand>, charge: &Request) -> Milli {
    let Some(workers) = demand.and_then(|demand| demand.workers.as_ref()) else { return charge.gpu_milli };
    let all = workers.each.gpu_milli.saturating_mul(u64::from(workers.max));
    charge.gpu_milli.saturating_sub(all).max(workers.each.gpu_milli)
}

impl RayProfiles {
    /// The profile of a demand. The error says which there are.
    pub fn profile(&self, demand: Option<&PodDemand>) -> Result<(&str, &RayProfile), PodFault> {
        let name = demand.and_then(|demand| demand.profile.as_ref()).unwrap_or(&self.default);
        let found = self.profiles.get_key_value(name);
        found.map(|(name, profile)| (name.as_str(), profile)).ok_or_else(|| {
            fault(
                "ray_cluster.profile",
                format!("has no profile {name:?}; there are: {}", list(self.profiles.keys())),
            )
        })
    }

    /// How the charge of a job is cut into pods, or everything for which it can't be.
    pub fn cut(&self, demand: Option<&PodDemand>, charge: &Request) -> Result<PodShares, Vec<PodFault>> {
        let mut faults = self.misnamed(demand);
        let shares = self.profile(demand).map(|(_, profile)| {
            profile.shares(demand.and_then(|demand| demand.workers.as_ref()), charge, &mut faults)
        });
        match shares {
            Ok(shares) if faults.is_empty() => Ok(shares),
            _ => Err(faults),
        }
    }

    /// What of a demand there is not, whatever the job is charged.
    pub fn misnamed(&self, demand: Option<&PodDemand>) -> Vec<PodFault> {
        let mut faults = Vec::new();
        if demand.is_some_and(|demand| demand.uploads) && !self.links {
            let message = "names packages that were uploaded to Switchyard, and Ray clusters made for a job can't fetch them here \
                 (ray_api.link_url is not set): name the files by a URL (https://, s3://) or put them into the image";
            faults.push(fault("runtime_env", message));
        }
        match (self.profile(demand), demand) {
            (Ok((name, profile)), Some(demand)) => profile.check(name, demand, &mut faults),
            (Ok(_), None) => {}
            (Err(unknown), _) => faults.push(unknown),
        }
        faults
    }
}

impl RayProfile {
    fn check(&self, name: &str, demand: &PodDemand, faults: &mut Vec<PodFault>) {
        for field in demand.sets.difference(&self.job_may_set).map(|field| field.name()) {
            let message = format!(
                "its profile {name:?} lets no job set {field} (job_may_set of the template): leave it out"
            );
            faults.push(fault(format!("ray_cluster.{field}"), message));
        }
        let wanted = demand.workers.as_ref().and_then(|workers| workers.gpu_type.as_ref());
        if let Some(wanted) = wanted.filter(|wanted| !self.gpu_types.contains(*wanted)) {
            let known = if self.gpu_types.is_empty() { "none".to_owned() } else { list(&self.gpu_types) };
            let message = format!("its profile {name:?} has no kind of GPU {wanted:?}; there are: {known}");
            faults.push(fault("ray_cluster.workers.gpu_type", message));
        }
    }

    fn shares(
        &self,
        workers: Option<&WorkerShape>,
        charge: &Request,
        faults: &mut Vec<PodFault>,
    ) -> PodShares {
        // What a job was not charged at all, no pod of it asks for.
        let charged = |share: &Request| Request {
            cpu_milli: if charge.cpu_milli == 0 { 0 } else { share.cpu_milli },
            memory_bytes: if charge.memory_bytes == 0 { 0 } else { share.memory_bytes },
            ..Request::default()
        };
        let elastic = workers.is_some_and(WorkerShape::is_elastic);
        let submitter = charged(&self.submitter);
        let autoscaler = if elastic { charged(&self.autoscaler) } else { Request::default() };
        let all_workers = workers.map(WorkerShape::total).unwrap_or_default();
        let mut head = Request { jobs: 0, ..charge.clone() };
        let before = faults.len();
        for (share, what) in [
            (&all_workers, "the workers"),
            (&submitter, "what submits the job"),
            (&autoscaler, "the autoscaler"),
        ] {
            if let Err(short) = head.checked_sub(share) {
                let message = format!(
                    "{what} would need more than the charge leaves ({short}): ask for more in resources"
                );
                faults.push(fault(field_of("resources", &short.resource), message));
            }
        }
        if faults.len() == before
            && let Err(short) = head.clone().checked_sub(&charged(&self.head_min))
        {
            let message = format!(
                "the head would get less than the profile's head_min ({short}): ask for more in resources or for fewer \
                 workers"
            );
            faults.push(fault(field_of("resources", &short.resource), message));
        }
        let worker = workers.map(|workers| workers.each.clone()).unwrap_or_default();
        if workers.is_some()
            && let Err(short) = worker.clone().checked_sub(&charged(&self.worker_min))
        {
            let message = format!(
                "each worker would get less than the profile's worker_min ({short}): ask for more for each"
            );
            faults.push(fault(field_of("ray_cluster.workers", &short.resource), message));
        }
        self.whole_units("the head", "resources", &head, faults);
        self.whole_units("each worker", "ray_cluster.workers", &worker, faults);
        PodShares { head, submitter, autoscaler, worker }
    }

    /// Kubernetes gives GPUs and other extended resources in whole units only.
    fn whole_units(&self, what: &str, under: &str, request: &Request, faults: &mut Vec<PodFault>) {
        let extended = request.custom_milli.iter().filter(|(name, _)| self.whole.contains(*name));
        let extended = extended.map(|(name, milli)| (name.as_str(), *milli));
        for (name, milli) in std::iter::once(("gpu", request.gpu_milli)).chain(extended) {
            if !milli.is_multiple_of(1_000) {
                let shown = show_quantity(name, milli);
                let message = format!("{what} would get {shown} {name}, and pods there have whole ones only");
                faults.push(fault(field_of(under, name), message));
            }
        }
    }
}

impl GpuBlocks {
    /// The kinds of a cluster together: the sums, and the largest blocks of any kind.
    pub fn together(kinds: &[Self]) -> Self {
        let mut all = Self::default();
        for of in kinds {
            all.capacity = all.capacity.saturating_add(of.capacity);
            all.free = all.free.saturating_add(of.free);
            all.largest_free = all.largest_free.max(of.largest_free);
            all.largest = all.largest.max(of.largest);
        }
        all
    }
}

impl fmt::Display for GpuBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, block) = (show_quantity("gpu", self.free), show_quantity("gpu", self.largest_free));
        write!(f, "free {free} gpu, largest block {block}")
    }
}

impl Block {
    /// Whether no node has as many for it, in use or not.
    pub fn is_never(&self) -> bool {
        self.asked > self.there.largest
    }

    /// Whether no node has as many free now.
    pub fn is_not_now(&self) -> bool {
        self.asked > self.there.largest_free
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: no pod can have {}", self.there, show_quantity("gpu", self.asked))?;
        if self.is_never() {
            let most = show_quantity("gpu", self.there.largest);
            write!(f, ", even when the cluster is empty (at most {most})")?;
        }
        Ok(())
    }
}

impl fmt::Display for PodFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

fn fault(field: impl Into<String>, message: impl Into<String>) -> PodFault {
    PodFault { field: field.into(), message: message.into() }
}

fn field_of(under: &str, resource: &str) -> String {
    match resource {
        "cpu" | "gpu" | "memory" => format!("{under}.{resource}"),
        custom => format!("{under}.custom.{custom}"),
    }
}

fn list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(cpu_milli: u64, gpu_milli: u64, gib: u64) -> Request {
        Request { cpu_milli, gpu_milli, memory_bytes: gib << 30, ..Request::default() }
    }

    fn profiles() -> RayProfiles {
        let gpu = RayProfile {
            job_may_set: [JobField::Image].into(),
            gpu_types: ["a100".to_owned()].into(),
            whole: ["fpga".to_owned()].into(),
            head_min: amounts(1_000, 0, 2),
            worker_min: amounts(200, 0, 1),
            submitter: amounts(500, 0, 1),
            autoscaler: amounts(250, 0, 1),
        };
        let profiles = [("cpu".to_owned(), RayProfile::default()), ("gpu".to_owned(), gpu)].into();
        RayProfiles { default: "cpu".to_owned(), links: false, profiles }
    }

    fn workers(min: u32, max: u32, each: Request) -> WorkerShape {
        WorkerShape { min, max, each, gpu_type: None }
    }

    fn demand(profile: &str, workers: Option<WorkerShape>) -> PodDemand {
        PodDemand { profile: Some(profile.to_owned()), workers, ..PodDemand::default() }
    }

    #[test]
    fn the_shares_come_to_the_charge() {
        let (charge, profiles) = (Request { jobs: 1, ..amounts(20_000, 4_000, 60) }, profiles());
        for (min, autoscaler) in [(3, 0), (0, 250)] {
            let demand = demand("gpu", Some(workers(min, 3, amounts(4_000, 1_000, 16))));
            let shares = profiles.cut(Some(&demand), &charge).unwrap();
            let mut sum = demand.workers.as_ref().unwrap().total();
            for share in [&shares.head, &shares.submitter, &shares.autoscaler] {
                sum.add(share);
            }
            assert_eq!(
                (Request { jobs: 1, ..sum }, shares.autoscaler.cpu_milli),
                (charge.clone(), autoscaler)
            );
            assert_eq!(gpus_of_one_pod(Some(&demand), &charge), 1_000);
        }
        let alone = profiles.cut(None, &charge).unwrap();
        assert_eq!(
            (alone.head, gpus_of_one_pod(None, &charge)),
            (Request { jobs: 0, ..charge.clone() }, 4_000)
        );
    }

    #[test]
    fn everything_that_can_not_be_is_said_at_once_by_field() {
        let profiles = profiles();
        let fields = |demand: &PodDemand, charge: &Request| {
            let faults = profiles.cut(Some(demand), charge).err().unwrap_or_default();
            faults.into_iter().map(|f| f.field).collect::<Vec<_>>()
        };
        let unknown = PodDemand { uploads: true, ..demand("tpu", None) };
        assert_eq!(fields(&unknown, &amounts(1_000, 0, 1)), ["runtime_env", "ray_cluster.profile"]);
        let linked = RayProfiles { links: true, ..profiles.clone() };
        let packed = PodDemand { uploads: true, ..demand("cpu", None) };
        assert_eq!(fields(&packed, &amounts(1_000, 0, 1)), ["runtime_env"]);
        assert_eq!(linked.cut(Some(&packed), &amounts(1_000, 0, 1)).err(), None);
        let mut each = amounts(1_000, 500, 1);
        each.custom_milli = [("fpga".to_owned(), 1_500), ("licence".to_owned(), 1_500)].into();
        let mut charge = amounts(3_500, 1_500, 4);
        charge.custom_milli = [("fpga".to_owned(), 3_000), ("licence".to_owned(), 3_000)].into();
        let all = PodDemand {
            sets: JobField::ALL.into(),
            ..demand("gpu", Some(WorkerShape { gpu_type: Some("h100".to_owned()), ..workers(2, 2, each) }))
        };
        assert_eq!(
            fields(&all, &Request { cpu_milli: 2_500, ..charge.clone() }),
            [
                "ray_cluster.env",
                "ray_cluster.workers.gpu_type",
                "resources.cpu",
                "resources.gpu",
                "ray_cluster.workers.gpu",
                "ray_cluster.workers.custom.fpga"
            ]
        );
        // The submitter takes 0.5 of 1.5, and the rest is the least that a head may have.
        assert_eq!(fields(&demand("gpu", None), &amounts(1_500, 0, 3)), Vec::<String>::new());
        assert_eq!(fields(&demand("gpu", None), &amounts(1_499, 0, 3)), ["resources.cpu"]);
        let small = demand("gpu", Some(workers(1, 2, amounts(199, 0, 1))));
        // 398 for both workers, 500 and 250 for submitter and autoscaler, 1,000 for the head.
        assert_eq!(fields(&small, &amounts(2_148, 0, 9)), ["ray_cluster.workers.cpu"]);
        // What is not charged at all is asked for by nobody.
        assert_eq!(fields(&demand("gpu", None), &amounts(1_500, 0, 0)), Vec::<String>::new());
    }

    #[test]
    fn a_demand_is_what_a_shape_says_beside_its_head() {
        let head = RayClusterShape { head: Some(amounts(1, 0, 0)), ..RayClusterShape::default() };
        assert_eq!((PodDemand::of(None, false), PodDemand::of(Some(&head), false)), (None, None));
        assert!(PodDemand::of(None, true).unwrap().uploads);
        let env = RayClusterShape { env: [("A".to_owned(), "b".to_owned())].into(), ..head };
        assert_eq!(PodDemand::of(Some(&env), false).unwrap().sets, [JobField::Env].into());
        let each = |gpu_milli| amounts(0, gpu_milli, 0);
        let shared = demand("gpu", Some(workers(1, 2, each(1_000))));
        assert_eq!(gpus_of_one_pod(Some(&shared), &each(10_000)), 8_000, "the head has the rest");
    }

    #[test]
    fn blocks_of_several_kinds_are_summed_and_the_largest_counts() {
        let of =
            |free, largest_free| GpuBlocks { free, largest_free, largest: 8_000, ..GpuBlocks::default() };
        let all = GpuBlocks::together(&[of(8_000, 4_000), of(4_000, 2_000)]);
        assert_eq!((all.to_string().as_str(), all.largest), ("free 12 gpu, largest block 4", 8_000));
        let told = |asked| Block { asked, there: all.clone() };
        assert_eq!(
            [4_000, 8_000, 9_000].map(|asked| (told(asked).is_not_now(), told(asked).is_never())),
            [(false, false), (true, false), (true, true)]
        );
        assert_eq!(told(8_000).to_string(), "free 12 gpu, largest block 4: no pod can have 8");
        assert!(
            told(9_000)
                .to_string()
                .ends_with("no pod can have 9, even when the cluster is empty (at most 8)")
        );
    }
}
