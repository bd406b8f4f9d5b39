//! Who runs what: a pure function from what is wanted and what is to what should be.
//!
//! A tenant is cut into pieces: one, or several when it has more workers than a daemon's fair share. Pieces stay
//! where the tenant already runs while that daemon is not above the bound; the rest go, largest first, to the daemon
//! with the least load. So what moves is what a leaving daemon ran, or what a joining one has to be given.
//!
//! [`solve`] looks at everybody. Where some tenants have changed and the daemons have not, [`Sums::place`] looks at
//! those alone, and comes to something that [`solve`] would leave as it is; or it says that others may have to move.

mod sums;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use common::id::TenantId;

pub(super) use self::sums::{Change, Sums};

/// A daemon that can take lanes.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    pub(super) id: String,
    /// The most workers it may run.
    pub(super) capacity: u32,
}

/// A tenant whose queue is to be consumed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) tenant: TenantId,
    pub(super) workers: u32,
}

/// How many workers each daemon runs for each tenant; no entry is zero.
pub(super) type Placement = BTreeMap<(TenantId, String), u32>;

/// What [`solve`] comes to.
#[derive(Clone, Debug)]
pub(super) struct Solved {
    pub(super) placement: Placement,
    /// Whether solving again would change nothing.
    pub(super) settled: bool,
}

/// The fewest workers that are worth a second consumer.
const PIECE_WORKERS_MIN: u32 = 8;
/// How far above its fair share a daemon may be before lanes leave it: a tenth, or what cannot be evened out, since a
/// lane moves whole; but for that not above this.
const UNEVEN_WORKERS_MAX: u32 = 8;

/// How often a placement is improved on in one go. Every improvement lowers the highest load, so few are ever needed;
/// what a round does not reach the next one does.
const IMPROVEMENTS_MAX: usize = 16;

/// Places `demands` on `daemons`, changing `current` as little as balance allows. What no daemon has capacity for
/// stays unplaced.
pub(super) fn solve(daemons: &[Daemon], demands: &[Demand], current: &Placement) -> Solved {
    let mut placement = improve(daemons, demands, current);
    let mut settled = false;
    for _ in 0..IMPROVEMENTS_MAX {
        let next = improve(daemons, demands, &placement);
        settled = next == placement;
        if settled {
            break;
        }
        placement = next;
    }
    check(daemons, demands, &placement);
    Solved { placement, settled }
}

/// One step towards balance: within the bound if that can be found, else not above what was found instead, so that
/// a placement that is no worse stays as it is.
fn improve(daemons: &[Daemon], demands: &[Demand], current: &Placement) -> Placement {
    let share = Share::of(daemons.len(), &sizes(demands));
    let place = |bound| place(demands, current, share.fair, Loads::none(daemons, bound));
    let (moving_most, highest) = place(share.bound);
    if highest <= share.bound {
        return moving_most;
    }
    let (moving_less, no_higher) = place(highest);
    if no_higher <= highest {
        moving_less
    } else {
        moving_most
    }
}

/// How many tenants have so many workers.
type Sizes = BTreeMap<u32, usize>;

fn sizes(demands: &[Demand]) -> Sizes {
    let mut sizes = Sizes::new();
    for demand in demands {
        *sizes.entry(demand.workers).or_default() += 1;
    }
    sizes
}

/// What each daemon is to have.
#[derive(Clone, Copy, Debug)]
struct Share {
    fair: u32,
    /// The most before lanes leave it.
    bound: u32,
}

impl Share {
    fn of(daemons: usize, sizes: &Sizes) -> Self {
        let total: u32 = sizes.iter().map(|(size, count)| size * *count as u32).sum();
        let fair = total.div_ceil(daemons.max(1) as u32);
        let largest = sizes
            .keys()
            .filter_map(|&workers| pieces(workers, fair).pop())
            .max();
        let uneven = largest
            .unwrap_or_default()
            .saturating_sub(1)
            .min(UNEVEN_WORKERS_MAX);
        Self {
            fair,
            bound: fair + (fair / 10).max(uneven),
        }
    }
}

/// Keeps what stays within the bound where it is, places the rest, and answers the highest load as well.
fn place(demands: &[Demand], current: &Placement, fair: u32, mut loads: Loads) -> (Placement, u32) {
    let mut ordered = demands.to_vec();
    ordered.sort_by_key(|demand| (Reverse(demand.workers), demand.tenant));
    let mut placement = Placement::new();
    let mut moving = Vec::new();
    for demand in ordered {
        let mut pieces = pieces(demand.workers, fair);
        for daemon in homes(demand.tenant, current) {
            let Some(&piece) = pieces.last() else { break };
            if loads.take_within_bound(daemon, piece) {
                placement.insert((demand.tenant, daemon.to_owned()), piece);
                pieces.pop();
            }
        }
        moving.extend(pieces.into_iter().map(|piece| (demand.tenant, piece)));
    }
    moving.sort_by_key(|&(tenant, piece)| (Reverse(piece), tenant));
    for (tenant, piece) in moving {
        let hosts = homes(tenant, &placement).into_iter().map(str::to_owned).collect();
        if let Some(daemon) = loads.take_least_loaded(piece, &hosts) {
            placement.insert((tenant, daemon), piece);
        }
    }
    (placement, loads.highest())
}

/// Into how many pieces a tenant's workers are cut: as few as fit a fair share.
fn pieces_count(workers: u32, fair: u32) -> u32 {
    workers.div_ceil(fair.max(PIECE_WORKERS_MIN)).max(1)
}

/// Cuts a tenant's workers into pieces of sizes as even as can be, the largest last.
fn pieces(workers: u32, fair: u32) -> Vec<u32> {
    let count = pieces_count(workers, fair);
    (0..count)
        .map(|index| workers / count + u32::from(index >= count - workers % count))
        .collect()
}

/// The daemons that run a tenant, those with most workers first.
fn homes(tenant: TenantId, placement: &Placement) -> Vec<&str> {
    let from = placement.range((tenant, String::new())..);
    let mut homes: Vec<_> = from.take_while(|((other, _), _)| *other == tenant).collect();
    homes.sort_by_key(|((_, daemon), workers)| (Reverse(**workers), daemon));
    homes
        .into_iter()
        .map(|((_, daemon), _)| daemon.as_str())
        .collect()
}

/// How many workers each daemon has been given so far.
struct Loads {
    bound: u32,
    /// Load and capacity by daemon.
    daemons: BTreeMap<String, (u32, u32)>,
}

impl Loads {
    fn none(daemons: &[Daemon], bound: u32) -> Self {
        let none = |daemon: &Daemon| (daemon.id.clone(), (0, daemon.capacity));
        Self {
            bound,
            daemons: daemons.iter().map(none).collect(),
        }
    }

    fn highest(&self) -> u32 {
        self.daemons
            .values()
            .map(|(load, _)| *load)
            .max()
            .unwrap_or_default()
    }

    /// Gives a piece to a daemon that is alive and stays within the bound.
    fn take_within_bound(&mut self, daemon: &str, piece: u32) -> bool {
        match self.daemons.get_mut(daemon) {
            Some((load, capacity)) if *load + piece <= self.bound.min(*capacity) => {
                *load += piece;
                true
            }
            _ => false,
        }
    }

    /// Gives a piece to the daemon with the least load that has the capacity and is not in `except`.
    fn take_least_loaded(&mut self, piece: u32, except: &BTreeSet<String>) -> Option<String> {
        let fits = |(daemon, (load, capacity)): &(&String, &mut (u32, u32))| {
            !except.contains(*daemon) && *load + piece <= *capacity
        };
        let (daemon, (load, _)) = self
            .daemons
            .iter_mut()
            .filter(fits)
            .min_by_key(|(_, (load, _))| *load)?;
        *load += piece;
        Some(daemon.clone())
    }
}

/// What must hold of every placement, whatever it was made from.
fn check(daemons: &[Daemon], demands: &[Demand], placement: &Placement) {
    let mut by_tenant: BTreeMap<TenantId, u32> = BTreeMap::new();
    let mut by_daemon: BTreeMap<&str, u32> = BTreeMap::new();
    for ((tenant, daemon), &workers) in placement {
        assert!(workers > 0, "an empty lane was placed");
        *by_tenant.entry(*tenant).or_default() += workers;
        *by_daemon.entry(daemon).or_default() += workers;
    }
    for demand in demands {
        let placed = by_tenant.remove(&demand.tenant).unwrap_or_default();
        assert!(
            placed <= demand.workers,
            "a tenant was given more workers than it has"
        );
    }
    assert!(by_tenant.is_empty(), "a tenant was placed that nobody asked for");
    for daemon in daemons {
        let load = by_daemon.remove(daemon.id.as_str()).unwrap_or_default();
        assert!(load <= daemon.capacity, "a daemon was given more than it can run");
    }
    assert!(
        by_daemon.is_empty(),
        "a lane was placed on a daemon that is not there"
    );
}
