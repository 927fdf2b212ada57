//! What is fair, exactly, if jobs could be divided at will: allocations as fractions.

use std::cmp::Ordering;

/// A fraction; small numbers, so that nothing overflows. Always with a positive denominator.
#[derive(Debug, Clone, Copy)]
pub struct Fraction(pub i128, pub i128);

impl Fraction {
    pub fn whole(n: i128) -> Self {
        Self(n, 1)
    }

    fn short(self) -> Self {
        let (mut a, mut b) = (self.0.abs(), self.1);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Self(self.0 / a.max(1), self.1 / a.max(1))
    }

    pub fn plus(self, other: Self) -> Self {
        Self(self.0 * other.1 + other.0 * self.1, self.1 * other.1).short()
    }

    pub fn minus(self, other: Self) -> Self {
        self.plus(Self(-other.0, other.1))
    }

    pub fn times(self, other: Self) -> Self {
        Self(self.0 * other.0, self.1 * other.1).short()
    }

    pub fn by(self, other: Self) -> Self {
        let sign = other.0.signum();
        Self(self.0 * other.1 * sign, self.1 * other.0 * sign).short()
    }
}

impl PartialEq for Fraction {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Fraction {}

impl PartialOrd for Fraction {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Fraction {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0 * other.1).cmp(&(other.0 * self.1))
    }
}

/// A team whose jobs all ask for the same, without end.
pub struct Demand {
    pub weight: i128,
    /// Per resource.
    pub asks: Vec<i128>,
}

impl Demand {
    /// The dominant share of one job.
    fn dominant(&self, totals: &[i128]) -> Fraction {
        let shares = self.asks.iter().zip(totals).map(|(a, t)| Fraction(*a, *t));
        shares.max().unwrap()
    }
}

/// Weighted DRF by progressive filling (Ghodsi et al. 2011): everybody's dominant share for its weight grows at the same
/// pace until a resource is used up; whoever asks for that stops, the others go on. How many jobs each team gets.
pub fn flat(totals: &[i128], demands: &[Demand]) -> Vec<Fraction> {
    let mut jobs = vec![Fraction::whole(0); demands.len()];
    let mut left: Vec<Fraction> = totals.iter().map(|t| Fraction::whole(*t)).collect();
    let mut growing: Vec<usize> = (0..demands.len()).collect();
    while !growing.is_empty() {
        // Jobs per unit of dominant share for its weight.
        let pace = |i: usize| Fraction::whole(demands[i].weight).by(demands[i].dominant(totals));
        let need = |r: usize| {
            let each = growing.iter().map(|i| pace(*i).times(Fraction::whole(demands[*i].asks[r])));
            each.fold(Fraction::whole(0), Fraction::plus)
        };
        let needs: Vec<Fraction> = (0..totals.len()).map(need).collect();
        let until = |r: &usize| left[*r].by(needs[*r]);
        let used_up = (0..totals.len()).filter(|r| needs[*r].0 > 0).min_by_key(until).unwrap();
        let step = until(&used_up);
        for i in &growing {
            jobs[*i] = jobs[*i].plus(pace(*i).times(step));
        }
        for r in 0..totals.len() {
            left[r] = left[r].minus(needs[r].times(step));
        }
        growing.retain(|i| demands[*i].asks[used_up] == 0);
    }
    jobs
}

/// The same on two levels, for teams that all ask for something of every resource, so that all stop together: inside
/// a cohort the teams grow as above; a cohort's dominant share is that of all its teams together.
pub fn two_levels(totals: &[i128], cohorts: &[(i128, Vec<Demand>)]) -> Vec<Vec<Fraction>> {
    let whole = |t: &i128| Fraction::whole(*t);
    // What each team gets by the time that its cohort's dominant share for its weight is one.
    let per_share = cohorts.iter().map(|(weight, teams)| {
        let pace = |d: &Demand| Fraction::whole(d.weight).by(d.dominant(totals));
        let used = |r: usize| {
            let each = teams.iter().map(|d| pace(d).times(Fraction::whole(d.asks[r])));
            each.fold(Fraction::whole(0), Fraction::plus)
        };
        let dominant = (0..totals.len()).map(|r| used(r).by(whole(&totals[r]))).max().unwrap();
        teams.iter().map(|d| pace(d).times(Fraction::whole(*weight)).by(dominant)).collect::<Vec<_>>()
    });
    let per_share: Vec<Vec<Fraction>> = per_share.collect();
    let need = |r: usize| {
        let each = cohorts.iter().zip(&per_share).flat_map(|((_, teams), jobs)| {
            teams.iter().zip(jobs).map(move |(d, n)| n.times(Fraction::whole(d.asks[r])))
        });
        each.fold(Fraction::whole(0), Fraction::plus)
    };
    let step = (0..totals.len()).map(|r| whole(&totals[r]).by(need(r))).min().unwrap();
    per_share.iter().map(|jobs| jobs.iter().map(|n| n.times(step)).collect()).collect()
}

/// One resource poured into vessels: everybody has `floor` for certain, and above that the level rises where the
/// amount and what was used in the past, for the weight, is lowest, until all of it is poured. The amounts.
pub fn pour(total: i128, vessels: &[Vessel]) -> Vec<Fraction> {
    let amounts_at = |level: Fraction| -> Vec<Fraction> {
        let at = |v: &Vessel| {
            let owed = level.times(Fraction::whole(v.weight)).minus(Fraction::whole(v.past));
            owed.max(Fraction::whole(v.floor))
        };
        vessels.iter().map(at).collect()
    };
    let sum = |level| amounts_at(level).into_iter().fold(Fraction::whole(0), Fraction::plus);
    // The sum is piecewise linear in the level and bends where a vessel starts to fill.
    let mut bends: Vec<Fraction> = vessels.iter().map(|v| Fraction(v.floor + v.past, v.weight)).collect();
    bends.sort();
    let last_below =
        bends.iter().rev().find(|b| sum(**b) <= Fraction::whole(total)).copied().unwrap_or(bends[0]);
    let filling = vessels.iter().filter(|v| Fraction(v.floor + v.past, v.weight) <= last_below);
    let pace: i128 = filling.map(|v| v.weight).sum();
    let level = last_below.plus(Fraction::whole(total).minus(sum(last_below)).by(Fraction::whole(pace)));
    amounts_at(level)
}

pub struct Vessel {
    pub weight: i128,
    pub floor: i128,
    pub past: i128,
}

#[test]
fn the_solver_solves_what_is_known() {
    // The example of the DRF paper, section 4.1: 9 CPUs and 18 GB; <1 CPU, 4 GB> and <3 CPUs, 1 GB>: 3 and 2 jobs.
    let demand = |cpu, memory| Demand { weight: 1, asks: vec![cpu, memory] };
    let got = flat(&[9, 18], &[demand(1, 4), demand(3, 1)]);
    assert_eq!(got, [Fraction::whole(3), Fraction::whole(2)]);
    let cohorts = [(1, vec![demand(1, 4)]), (1, vec![demand(3, 1)])];
    assert_eq!(two_levels(&[9, 18], &cohorts).concat(), [Fraction::whole(3), Fraction::whole(2)]);
    let vessel = |weight, floor, past| Vessel { weight, floor, past };
    let poured = pour(12, &[vessel(1, 8, 0), vessel(1, 0, 0), vessel(1, 0, 2)]);
    assert_eq!(poured, [Fraction::whole(8), Fraction::whole(3), Fraction::whole(1)]);
}
