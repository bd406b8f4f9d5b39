//! Which TCP ports are free.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// Where private ports come from: above what well-known programs use, below 32768, where Linux takes the local ports
/// of outgoing connections from. A port in that range could be gone between two runs of a service.
const PRIVATE: Range<u16> = 20_000..32_768;
/// How far [`next_free`] looks.
const NEIGHBOURS: u16 = 200;

/// Handed out by this process: two callers must not get one port before either has bound it.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Whether `address` can be listened on now.
pub fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

/// A free port of 127.0.0.1 that nobody else in this process was given.
pub fn private() -> io::Result<u16> {
    for _ in 0..1000 {
        let port = rand::random_range(PRIVATE);
        if is_free((Ipv4Addr::LOCALHOST, port).into()) && give(port) {
            return Ok(port);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("no free port from {} to {}", PRIVATE.start, PRIVATE.end - 1),
    ))
}

/// `kept`, a port of an earlier run, if it is still free; else a new one.
pub fn keep(kept: u16) -> io::Result<u16> {
    if kept != 0 && is_free((Ipv4Addr::LOCALHOST, kept).into()) && give(kept) {
        return Ok(kept);
    }
    private()
}

/// `wanted`, or the next free port above it.
pub fn next_free(wanted: SocketAddr) -> io::Result<SocketAddr> {
    let last = wanted.port().saturating_add(NEIGHBOURS);
    (wanted.port()..=last)
        .map(|port| SocketAddr::new(wanted.ip(), port))
        .find(|address| is_free(*address) && give(address.port()))
        .ok_or_else(|| {
            let first = wanted.port();
            io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("ports {first} to {last} are all taken"),
            )
        })
}

/// Takes `wanted` alone.
pub fn exactly(wanted: SocketAddr) -> io::Result<SocketAddr> {
    TcpListener::bind(wanted)?;
    give(wanted.port());
    Ok(wanted)
}

/// Gives a port back: its service has ended.
pub fn release(port: u16) {
    given().remove(&port);
}

fn give(port: u16) -> bool {
    given().insert(port)
}

fn given() -> std::sync::MutexGuard<'static, BTreeSet<u16>> {
    // The set is whole even if a thread died while it held the lock.
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_port_is_below_what_outgoing_connections_take() {
        let (a, b) = (private().unwrap(), private().unwrap());
        assert_ne!(a, b);
        assert!(PRIVATE.contains(&a) && PRIVATE.contains(&b));
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let port = private().unwrap();
        release(port);
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let holder = TcpListener::bind(wanted).unwrap();
        assert!(exactly(wanted).is_err());
        assert!(next_free(wanted).unwrap().port() > port);
        assert_ne!(keep(port).unwrap(), port);
        drop(holder);
        assert_eq!(keep(port).unwrap(), port);
    }
}
