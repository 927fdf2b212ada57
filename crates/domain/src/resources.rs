//! Quantities of cpu, gpu, memory, custom resources and jobs, in whole units so that sums are exact.

use std::collections::BTreeMap;
use std::fmt;

/// Thousandths of a unit (cpu, gpu, or one of a custom resource): 1500 is 1.5.
pub type Milli = u64;

/// What one job asks for, or what several use together. All sums are of whole numbers, so they are exact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// CPUs, in thousandths.
    pub cpu_milli: Milli,
    /// GPUs, in thousandths.
    pub gpu_milli: Milli,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// How many jobs this is: 1 for one job's request.
    pub jobs: u64,
    /// Custom resources by name, in thousandths; never holds a zero.
    pub custom_milli: BTreeMap<String, Milli>,
}

/// Bounds on what may be used; `None` is no bound. A custom resource that is not named has no bound in
/// a team's quota and is absent (zero) in a cluster's capacity: see [`Limits::allows`] and [`Capacity`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPUs, in thousandths.
    pub cpu_milli: Option<Milli>,
    /// GPUs, in thousandths.
    pub gpu_milli: Option<Milli>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Jobs placed and not yet ended.
    pub jobs: Option<u64>,
    /// Custom resources by name, in thousandths.
    pub custom_milli: BTreeMap<String, Milli>,
}

/// What a cluster has: like [`Limits`], but everything not stated is zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capacity(pub Request);

/// One resource that did not suffice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shortage {
    /// "cpu", "gpu", "memory", "jobs" or the custom resource's name.
    pub resource: String,
    /// What was asked for, in the resource's base unit.
    pub requested: u64,
    /// What was left.
    pub available: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |v: u64| show_quantity(&self.resource, v);
        write!(f, "{}: asks {}, {} free", self.resource, show(self.requested), show(self.available))
    }
}

/// Shows a base-unit value of the named resource to a person: `1.5`, `8GiB`, `3`.
pub fn show_quantity(resource: &str, value: u64) -> String {
    match resource {
        "jobs" => value.to_string(),
        "memory" => show_bytes(value),
        _ => show_milli(value),
    }
}

fn show_milli(value: u64) -> String {
    let (whole, part) = (value / 1_000, value % 1_000);
    if part == 0 { whole.to_string() } else { format!("{whole}.{part:03}").trim_end_matches('0').to_owned() }
}

fn show_bytes(value: u64) -> String {
    for (unit, size) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if value >= size && value.is_multiple_of(size) {
            return format!("{}{unit}", value / size);
        }
    }
    for (unit, size) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)] {
        if value >= size {
            return format!("{:.1}{unit}", value as f64 / size as f64);
        }
    }
    format!("{value}B")
}

impl Request {
    /// Adds `other`, saturating.
    pub fn add(&mut self, other: &Request) {
        self.cpu_milli = self.cpu_milli.saturating_add(other.cpu_milli);
        self.gpu_milli = self.gpu_milli.saturating_add(other.gpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.jobs = self.jobs.saturating_add(other.jobs);
        for (name, amount) in &other.custom_milli {
            let sum = self.custom_milli.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Subtracts `other`. `Err` names the first resource that would go below zero, and changes nothing:
    /// a refund larger than the charge is drift, which must be seen, not clamped.
    pub fn checked_sub(&mut self, other: &Request) -> Result<(), Shortage> {
        if let Some(short) = other.first_shortage(|name| self.amount(name)) {
            return Err(short);
        }
        self.cpu_milli -= other.cpu_milli;
        self.gpu_milli -= other.gpu_milli;
        self.memory_bytes -= other.memory_bytes;
        self.jobs -= other.jobs;
        for (name, amount) in &other.custom_milli {
            if let Some(have) = self.custom_milli.get_mut(name) {
                *have -= amount;
                if *have == 0 {
                    self.custom_milli.remove(name);
                }
            }
        }
        Ok(())
    }

    /// The amount of the resource called `name`, in its base unit.
    pub fn amount(&self, name: &str) -> u64 {
        match name {
            "cpu" => self.cpu_milli,
            "gpu" => self.gpu_milli,
            "memory" => self.memory_bytes,
            "jobs" => self.jobs,
            custom => self.custom_milli.get(custom).copied().unwrap_or(0),
        }
    }

    /// Sets the amount of the resource called `name`, in its base unit.
    pub fn set(&mut self, name: &str, amount: u64) {
        match name {
            "cpu" => self.cpu_milli = amount,
            "gpu" => self.gpu_milli = amount,
            "memory" => self.memory_bytes = amount,
            "jobs" => self.jobs = amount,
            custom if amount == 0 => _ = self.custom_milli.remove(custom),
            custom => _ = self.custom_milli.insert(custom.to_owned(), amount),
        }
    }

    /// Every resource named here with its amount, in a fixed order.
    pub fn amounts(&self) -> impl Iterator<Item = (&str, u64)> {
        [("cpu", self.cpu_milli), ("gpu", self.gpu_milli), ("memory", self.memory_bytes), ("jobs", self.jobs)]
            .into_iter()
            .chain(self.custom_milli.iter().map(|(n, a)| (n.as_str(), *a)))
    }

    /// Whether nothing at all is asked for or used.
    pub fn is_zero(&self) -> bool {
        self.amounts().all(|(_, a)| a == 0)
    }

    fn first_shortage(&self, available: impl Fn(&str) -> u64) -> Option<Shortage> {
        self.amounts().filter(|(_, a)| *a > 0).find_map(|(name, requested)| {
            let available = available(name);
            (requested > available).then(|| Shortage { resource: name.to_owned(), requested, available })
        })
    }
}

impl Limits {
    /// Every bound by the resource's name, in a fixed order.
    pub fn bounds(&self) -> impl Iterator<Item = (&str, u64)> {
        [("cpu", self.cpu_milli), ("gpu", self.gpu_milli), ("memory", self.memory_bytes), ("jobs", self.jobs)]
            .into_iter()
            .filter_map(|(name, bound)| Some((name, bound?)))
            .chain(self.custom_milli.iter().map(|(n, a)| (n.as_str(), *a)))
    }

    /// Bounds the resource called `name`, in its base unit.
    pub fn set(&mut self, name: &str, bound: u64) {
        match name {
            "cpu" => self.cpu_milli = Some(bound),
            "gpu" => self.gpu_milli = Some(bound),
            "memory" => self.memory_bytes = Some(bound),
            "jobs" => self.jobs = Some(bound),
            custom => _ = self.custom_milli.insert(custom.to_owned(), bound),
        }
    }

    /// Whether `request` may be added to `used` under these limits; else the first resource that is short.
    pub fn allows(&self, used: &Request, request: &Request) -> Result<(), Shortage> {
        let left = |name: &str| match self.limit(name) {
            None => u64::MAX,
            Some(limit) => limit.saturating_sub(used.amount(name)),
        };
        request.first_shortage(left).map_or(Ok(()), Err)
    }

    /// The bound on the resource called `name`, if there is one.
    pub fn limit(&self, name: &str) -> Option<u64> {
        match name {
            "cpu" => self.cpu_milli,
            "gpu" => self.gpu_milli,
            "memory" => self.memory_bytes,
            "jobs" => self.jobs,
            custom => self.custom_milli.get(custom).copied(),
        }
    }
}

impl Capacity {
    /// Whether `request` fits beside `used`; else the first resource that is short.
    pub fn allows(&self, used: &Request, request: &Request) -> Result<(), Shortage> {
        let left = |name: &str| self.0.amount(name).saturating_sub(used.amount(name));
        request.first_shortage(left).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn req(cpu: u64, gpu: u64, a100: u64) -> Request {
        let custom_milli =
            if a100 > 0 { BTreeMap::from([("A100".to_owned(), a100)]) } else { BTreeMap::new() };
        Request { cpu_milli: cpu, gpu_milli: gpu, memory_bytes: 0, jobs: 1, custom_milli }
    }

    #[test]
    fn quota_ignores_what_it_does_not_name_and_capacity_does_not() {
        let quota = Limits { cpu_milli: Some(2_000), ..Limits::default() };
        assert_eq!(quota.allows(&Request::default(), &req(2_000, 9_000, 5)), Ok(()));
        let capacity = Capacity(req(2_000, 0, 0));
        let short = capacity.allows(&Request::default(), &req(1_000, 0, 5)).unwrap_err();
        assert_eq!((short.resource.as_str(), short.requested, short.available), ("A100", 5, 0));
        assert_eq!(short.to_string(), "A100: asks 0.005, 0 free");
    }

    #[test]
    fn subtracting_too_much_changes_nothing() {
        let mut used = req(1_000, 0, 1_000);
        let before = used.clone();
        assert_eq!(used.checked_sub(&req(500, 1, 0)).unwrap_err().resource, "gpu");
        assert_eq!(used, before);
        used.checked_sub(&before).unwrap();
        assert!(used.is_zero());
        assert!(used.custom_milli.is_empty());
    }

    #[test]
    fn shows_quantities_in_field_units() {
        assert_eq!(show_quantity("cpu", 1_500), "1.5");
        assert_eq!(show_quantity("memory", 8 << 30), "8GiB");
        assert_eq!(show_quantity("memory", (8 << 30) + 1), "8.0GiB");
        assert_eq!(show_quantity("jobs", 7), "7");
    }

    proptest::proptest! {
        #[test]
        fn adding_then_subtracting_is_nothing(a in 0u64..1 << 40, b in 0u64..1 << 40, c in 0u64..1 << 40, d in 0u64..1 << 40) {
            let (mut sum, y) = (req(a, b, c), req(c, d, a));
            let x = sum.clone();
            sum.add(&y);
            sum.checked_sub(&y).unwrap();
            proptest::prop_assert_eq!(sum, x);
        }
    }
}
