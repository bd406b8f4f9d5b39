//! What requests hold in memory, counted while they come and bounded together.
//!
//! Counted is what is read, times what becomes of it: see [`COPIES`]. A request that finds no room is refused, never
//! kept waiting: whoever waits holds memory too.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::id::TenantId;
use tonic::Status;

use crate::{
    failure::Reason,
    identity::{Caller, Role},
};

/// How often what was read exists at a time, at most: as it came, as the message that is made of it, and as the one
/// that it is handed on in.
pub(crate) const COPIES: usize = 3;
/// What any request costs: its head, its task and its place in a connection.
const REQUEST_BYTES: usize = 8 << 10;
/// Up to here a request is a small one.
const SMALL_BYTES: usize = 64 << 10;

/// The memory of all requests.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_max: usize,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    held: usize,
    of_tenants: HashMap<TenantId, usize>,
}

/// What one request holds; given back when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Account(Arc<Entry>);

#[derive(Debug)]
struct Entry {
    memory: Memory,
    holder: Holder,
    held: Mutex<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// Has half at most: one tenant's requests leave room for the others'.
    Tenant(TenantId),
    /// Operators, and whoever needs no token.
    Other,
    /// Daemons are few, their requests small, and without them nothing goes on: they are counted and never refused.
    Fleet,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// The tenant's own requests take its share.
    #[error("this tenant's requests hold as much memory as they may; send fewer or smaller ones at once")]
    Tenant,
    /// Everybody's requests together take all.
    #[error("requests hold as much memory as they may (limits.memory_bytes); try again")]
    All,
}

impl Full {
    /// Whose fault it is.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Tenant => Reason::TenantFull,
            Self::All => Reason::Overloaded,
        }
    }
}

impl Memory {
    /// Room for so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Shared {
            bytes_max,
            ledger: Mutex::default(),
        }))
    }

    /// Opens the account of a request.
    pub(crate) fn account(&self, caller: Option<&Caller>) -> Result<Account, Full> {
        let holder = match caller.map(|caller| (caller.role(), caller.tenant())) {
            Some((_, Some(tenant))) => Holder::Tenant(tenant),
            Some((Role::Daemon, None)) => Holder::Fleet,
            Some((_, None)) | None => Holder::Other,
        };
        let account = Account(Arc::new(Entry {
            memory: self.clone(),
            holder,
            held: Mutex::new(0),
        }));
        account.hold(REQUEST_BYTES)?;
        Ok(account)
    }

    /// What a holder may bring all of it to. The last quarter is for small requests, so that large ones do not keep
    /// those from being answered that could end them.
    fn room(&self, small: bool) -> usize {
        let max = self.0.bytes_max;
        if small { max } else { max - max / 4 }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Sums, each of which is whole.
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// The account of a request that came through the gateway, for what its answer will hold.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        let account = request.extensions().get::<Self>().cloned();
        account.ok_or_else(|| Status::internal("a request has no account of its memory"))
    }

    /// Whether there is ever room for so many bytes, beside nothing else.
    pub(crate) fn could_hold(&self, bytes: usize) -> bool {
        let max = self.0.memory.0.bytes_max;
        match self.0.holder {
            Holder::Tenant(_) => bytes < max / 2,
            Holder::Other => bytes < self.0.memory.room(false),
            Holder::Fleet => true,
        }
    }

    /// Holds so many bytes more, or nothing more if there is no room.
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), Full> {
        let Entry { memory, holder, held } = &*self.0;
        let mut own = held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ledger = memory.ledger();
        let after = ledger.held.saturating_add(bytes);
        if *holder != Holder::Fleet && after > memory.room(*own + bytes <= SMALL_BYTES) {
            return Err(Full::All);
        }
        if let Holder::Tenant(tenant) = holder {
            let of_tenant = ledger.of_tenants.entry(*tenant).or_default();
            if *of_tenant + bytes > memory.0.bytes_max / 2 {
                return Err(Full::Tenant);
            }
            *of_tenant += bytes;
        }
        ledger.held = after;
        *own += bytes;
        Ok(())
    }

    /// Gives back all but what any request costs.
    pub(crate) fn release(&self) {
        let mut own = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = own.saturating_sub(REQUEST_BYTES);
        self.0.give_back(bytes);
        *own -= bytes;
    }
}

impl Entry {
    fn give_back(&self, bytes: usize) {
        let mut ledger = self.memory.ledger();
        ledger.held -= bytes;
        if let Holder::Tenant(tenant) = self.holder
            && let Some(of_tenant) = ledger.of_tenants.get_mut(&tenant)
        {
            *of_tenant -= bytes;
            if *of_tenant == 0 {
                ledger.of_tenants.remove(&tenant);
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let held = *self.held.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.give_back(held);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const MIB: usize = 1 << 20;

    fn tenant(number: u128) -> Option<Caller> {
        Caller::new("test", Role::Tenant, Some(Uuid::from_u128(number))).ok()
    }

    fn caller(role: Role) -> Option<Caller> {
        Caller::new("test", role, None).ok()
    }

    #[test]
    fn what_is_held_is_given_back_and_nothing_stays() {
        let memory = Memory::new(MIB);
        let account = memory.account(tenant(1).as_ref()).unwrap();
        let in_the_answer = account.clone();
        account.hold(1_000).unwrap();
        assert_eq!(memory.ledger().held, REQUEST_BYTES + 1_000);
        drop(account);
        assert_eq!(memory.ledger().held, REQUEST_BYTES + 1_000);
        in_the_answer.release();
        assert_eq!(memory.ledger().held, REQUEST_BYTES);
        drop(in_the_answer);
        assert_eq!(memory.ledger().held, 0);
        assert!(memory.ledger().of_tenants.is_empty());
    }

    #[test]
    fn a_tenant_has_half_and_its_neighbours_the_rest() {
        let memory = Memory::new(MIB);
        let greedy = memory.account(tenant(1).as_ref()).unwrap();
        greedy.hold(MIB / 2 - REQUEST_BYTES).unwrap();
        assert_eq!(greedy.hold(1), Err(Full::Tenant));
        assert_eq!(memory.account(tenant(1).as_ref()).unwrap_err(), Full::Tenant);
        memory.account(tenant(2).as_ref()).unwrap().hold(MIB / 8).unwrap();
    }

    #[test]
    fn when_all_is_taken_small_requests_still_pass_and_daemons_always() {
        let memory = Memory::new(MIB);
        let admin = memory.account(caller(Role::Admin).as_ref()).unwrap();
        assert_eq!(admin.hold(MIB * 3 / 4), Err(Full::All));
        admin.hold(MIB * 3 / 4 - 2 * REQUEST_BYTES).unwrap();
        let mut small = Vec::new();
        while let Ok(account) = memory.account(caller(Role::Admin).as_ref()) {
            small.push(account);
        }
        assert!(small.len() > 20, "{}", small.len());
        memory
            .account(caller(Role::Daemon).as_ref())
            .unwrap()
            .hold(MIB)
            .unwrap();
    }
}
