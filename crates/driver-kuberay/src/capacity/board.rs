//! What nodes have and what pods take, in few bytes each: there may be thousands and tens of thousands. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use yard_domain::resources::Milli;
use yard_domain::{GpuBlocks, Request};

use crate::template::Template;

/// CPUs (thousandths), memory (bytes), then each extended resource (thousandths), in the order of [`Resources`].
pub(crate) type Amounts = Box<[u64]>;

/// Which resources are counted, in a fixed order, and what they are to a job.
#[derive(Debug, Clone)]
pub(crate) struct Resources {
    /// The names beyond `cpu` and `memory`.
    extended: Vec<String>,
    /// Those of them that are GPUs.
    gpu: Vec<usize>,
    /// Custom resources by their names in requests.
    custom: Vec<(String, usize)>,
}

impl Resources {
    /// All that the profiles of a template speak of.
    pub(crate) fn of(template: &Template) -> Self {
        let mut resources = Self { extended: Vec::new(), gpu: Vec::new(), custom: Vec::new() };
        for profile in template.profiles.values() {
            let kinds = profile.gpu_types.values().filter_map(|kind| kind.resource.as_ref());
            for name in std::iter::once(&profile.gpu_resource).chain(kinds) {
                let at = resources.place(name);
                if !resources.gpu.contains(&at) {
                    resources.gpu.push(at);
                }
            }
            for (custom, name) in &profile.custom_resources {
                let at = resources.place(name);
                if !resources.custom.iter().any(|(known, _)| known == custom) {
                    resources.custom.push((custom.clone(), at));
                }
            }
        }
        resources
    }

    fn place(&mut self, name: &str) -> usize {
        let at = self.extended.iter().position(|known| known == name).unwrap_or(self.extended.len());
        if at == self.extended.len() {
            self.extended.push(name.to_owned());
        }
        at + 2
    }

    /// Nothing of anything.
    pub(crate) fn zero(&self) -> Amounts {
        vec![0; self.extended.len() + 2].into()
    }

    /// Where a resource is counted.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        match name {
            "cpu" => Some(0),
            "memory" => Some(1),
            other => self.extended.iter().position(|known| known == other).map(|at| at + 2),
        }
    }

    fn request(&self, amounts: &[u64]) -> Request {
        let custom = self.custom.iter().map(|(name, at)| (name.clone(), amounts[*at]));
        Request {
            cpu_milli: amounts[0],
            gpu_milli: self.gpus(amounts),
            memory_bytes: amounts[1],
            jobs: 0,
            custom_milli: custom.filter(|(_, milli)| *milli > 0).collect(),
        }
    }

    fn gpus(&self, amounts: &[u64]) -> Milli {
        self.gpu.iter().map(|at| amounts[*at]).sum()
    }
}

/// All nodes and pods.
#[derive(Debug)]
pub(crate) struct Board {
    resources: Resources,
    /// By name; pods may be seen before their nodes.
    numbers: HashMap<Box<str>, u32>,
    nodes: Vec<Node>,
    /// By their uids.
    pods: HashMap<u128, Pod>,
}

#[derive(Debug, Clone)]
struct Node {
    /// `None` if it is not there (or not selected).
    allocatable: Option<Amounts>,
    /// Ready, and not cordoned.
    usable: bool,
    gpu_type: Box<str>,
    /// What pods of others ask for.
    foreign: Amounts,
    /// What ours do.
    ours: Amounts,
}

#[derive(Debug)]
struct Pod {
    node: u32,
    ours: bool,
    amounts: Amounts,
}

/// The cluster as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// What our pods may have.
    pub(crate) capacity: Request,
    /// By the kind of GPU (a node's label); "" is a kind that is not told.
    pub(crate) gpus: BTreeMap<Box<str>, GpuBlocks>,
}

impl Board {
    pub(crate) fn new(resources: Resources) -> Self {
        Self { resources, numbers: HashMap::new(), nodes: Vec::new(), pods: HashMap::new() }
    }

    pub(crate) fn resources(&self) -> &Resources {
        &self.resources
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let zero = self.resources.zero();
        let node = Node {
            allocatable: None,
            usable: false,
            gpu_type: Box::default(),
            foreign: zero.clone(),
            ours: zero,
        };
        self.nodes.push(node);
        self.numbers.insert(name.into(), number);
        number
    }

    pub(crate) fn set_node(&mut self, name: &str, allocatable: Amounts, usable: bool, gpu_type: &str) {
        let number = self.number(name) as usize;
        let node = &mut self.nodes[number];
        node.allocatable = Some(allocatable);
        node.usable = usable;
        if *node.gpu_type != *gpu_type {
            node.gpu_type = gpu_type.into();
        }
    }

    pub(crate) fn remove_node(&mut self, name: &str) {
        if let Some(number) = self.numbers.get(name) {
            self.nodes[*number as usize].allocatable = None;
        }
    }

    /// Takes out the nodes that a whole list did not have.
    pub(crate) fn keep_nodes(&mut self, listed: &HashSet<String>) {
        let gone = self.numbers.iter().filter(|(name, _)| !listed.contains(&***name));
        for number in gone.map(|(_, number)| *number as usize) {
            self.nodes[number].allocatable = None;
        }
    }

    pub(crate) fn set_pod(&mut self, uid: u128, node: &str, ours: bool, amounts: Amounts) {
        self.remove_pod(uid);
        let pod = Pod { node: self.number(node), ours, amounts };
        self.add(&pod, u64::saturating_add);
        self.pods.insert(uid, pod);
    }

    pub(crate) fn remove_pod(&mut self, uid: u128) {
        if let Some(pod) = self.pods.remove(&uid) {
            self.add(&pod, u64::saturating_sub);
        }
    }

    /// Takes out the pods that a whole list did not have.
    pub(crate) fn keep_pods(&mut self, listed: &HashSet<u128>) {
        let gone: Vec<u128> = self.pods.keys().filter(|uid| !listed.contains(uid)).copied().collect();
        for uid in gone {
            self.remove_pod(uid);
        }
    }

    fn add(&mut self, pod: &Pod, change: fn(u64, u64) -> u64) {
        let node = &mut self.nodes[pod.node as usize];
        let sums = if pod.ours { &mut node.ours } else { &mut node.foreign };
        for (sum, amount) in sums.iter_mut().zip(&pod.amounts) {
            *sum = change(*sum, *amount);
        }
    }

    /// How things stand now.
    pub(crate) fn summary(&self) -> Summary {
        let (mut total, mut gpus) = (self.resources.zero(), BTreeMap::<Box<str>, GpuBlocks>::new());
        for node in self.nodes.iter().filter(|node| node.usable) {
            let Some(allocatable) = &node.allocatable else { continue };
            let mut left = allocatable.clone();
            for ((left, foreign), sum) in left.iter_mut().zip(&node.foreign).zip(&mut total) {
                *left = left.saturating_sub(*foreign);
                *sum = sum.saturating_add(*left);
            }
            let capacity = self.resources.gpus(&left);
            if capacity == 0 && self.resources.gpus(allocatable) == 0 {
                continue;
            }
            let free = capacity.saturating_sub(self.resources.gpus(&node.ours));
            let kind = gpus
                .entry(node.gpu_type.clone())
                .or_insert_with(|| GpuBlocks { kind: node.gpu_type.to_string(), ..GpuBlocks::default() });
            kind.capacity += capacity;
            kind.free += free;
            kind.largest_free = kind.largest_free.max(free);
            kind.largest = kind.largest.max(capacity);
        }
        Summary { capacity: self.resources.request(&total), gpus }
    }

    /// How many nodes and pods are known.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.nodes.iter().filter(|node| node.allocatable.is_some()).count(), self.pods.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        let template = Template::parse(
            "profiles: {p: {image: x, gpu_types: {t: {resource: example.com/t}}, custom_resources: {fpga: example.com/f}}}",
        );
        Board::new(Resources::of(&template.unwrap()))
    }

    fn amounts(board: &Board, list: &[(&str, u64)]) -> Amounts {
        let mut amounts = board.resources().zero();
        for (name, amount) in list {
            amounts[board.resources().index(name).unwrap()] = *amount;
        }
        amounts
    }

    #[test]
    fn what_others_take_is_not_ours_and_what_is_scattered_is_told() {
        let mut board = board();
        let node = amounts(
            &board,
            &[("cpu", 8_000), ("memory", 64), ("nvidia.com/gpu", 4_000), ("example.com/f", 1_000)],
        );
        for name in ["a", "b", "c"] {
            board.set_node(name, node.clone(), name != "c", "A100");
        }
        let theirs = amounts(&board, &[("cpu", 1_000), ("memory", 4), ("nvidia.com/gpu", 1_000)]);
        let ours = amounts(&board, &[("cpu", 2_000), ("nvidia.com/gpu", 2_000)]);
        board.set_pod(1, "a", false, theirs.clone());
        board.set_pod(2, "b", true, ours.clone());
        // A pod may come before its node, and one that changes counts once.
        board.set_pod(3, "d", false, theirs.clone());
        board.set_pod(2, "b", true, ours);
        let summary = board.summary();
        let expected = Request {
            cpu_milli: 15_000,
            gpu_milli: 7_000,
            memory_bytes: 124,
            jobs: 0,
            custom_milli: [("fpga".to_owned(), 2_000)].into(),
        };
        assert_eq!(summary.capacity, expected);
        assert_eq!(
            summary.gpus[&Box::from("A100")],
            GpuBlocks {
                kind: "A100".to_owned(),
                capacity: 7_000,
                free: 5_000,
                largest_free: 3_000,
                largest: 4_000
            }
        );
        board.remove_pod(1);
        board.keep_pods(&[2].into());
        board.keep_nodes(&["a".to_owned()].into());
        assert_eq!((board.summary().capacity.cpu_milli, board.counts()), (8_000, (1, 1)));
        board.remove_node("a");
        assert_eq!(board.summary().capacity, Request::default());
    }

    #[test]
    fn a_node_that_is_overcommitted_has_nothing_left_and_takes_nothing_from_others() {
        let mut board = board();
        let small = amounts(&board, &[("cpu", 1_000)]);
        board.set_node("a", small.clone(), true, "");
        board.set_node("b", small, true, "");
        board.set_pod(1, "a", false, amounts(&board, &[("cpu", 5_000)]));
        assert_eq!(board.summary().capacity.cpu_milli, 1_000);
    }
}
