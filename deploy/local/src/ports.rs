//! Which TCP ports are free.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Where private ports come from: above what well-known programs use, below 32768, where Linux takes the local ports
/// of outgoing connections from. A port in that range could be gone between two runs of a service.
const PRIVATE: Range<u16> = 20_000..32_768;
/// How far [`next_free`] looks.
const NEIGHBOURS: u16 = 200;

/// Handed out by this process, and by no other: two callers must not get one port before either has bound it, and two
/// stacks may be started at once. What says so to other processes is a UDP socket of the port's number, which nothing
/// of ours listens on; the kernel lets go of it however the process ends.
static GIVEN: Mutex<BTreeMap<u16, Option<UdpSocket>>> = Mutex::new(BTreeMap::new());

/// Whether `address` can be listened on now.
pub fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

/// A free port of 127.0.0.1 that nobody else was given.
pub fn private() -> io::Result<u16> {
    for _ in 0..1000 {
        let port = rand::random_range(PRIVATE);
        if take((Ipv4Addr::LOCALHOST, port).into()) {
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
    if kept != 0 && take((Ipv4Addr::LOCALHOST, kept).into()) {
        return Ok(kept);
    }
    private()
}

/// `wanted`, or the next free port above it.
pub fn next_free(wanted: SocketAddr) -> io::Result<SocketAddr> {
    let last = wanted.port().saturating_add(NEIGHBOURS);
    (wanted.port()..=last)
        .map(|port| SocketAddr::new(wanted.ip(), port))
        .find(|address| take(*address))
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
    // If it was given to another stack, that one is about to listen on it, and the later of the two says so. It may
    // also be UDP that somebody has there, which is no reason not to.
    let given = give(wanted.port());
    let tried = TcpListener::bind(wanted);
    if given && tried.is_err() {
        release(wanted.port());
    }
    tried.map(|_| wanted)
}

/// Gives a port back: its service has ended.
pub fn release(port: u16) {
    given().remove(&port);
}

/// Takes a port if nobody was given it and nobody listens. In this order: a listener that only tries is in the way of
/// others that do.
fn take(address: SocketAddr) -> bool {
    if !give(address.port()) {
        return false;
    }
    let free = is_free(address);
    if !free {
        release(address.port());
    }
    free
}

/// Whether the port was nobody's, and so is ours now.
fn give(port: u16) -> bool {
    let mut given = given();
    if given.contains_key(&port) {
        return false;
    }
    match UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(socket) => given.insert(port, Some(socket)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return false,
        // There is no telling others here.
        Err(_) => given.insert(port, None),
    };
    true
}

fn given() -> MutexGuard<'static, BTreeMap<u16, Option<UdpSocket>>> {
    // The map is whole even if a thread died while it held the lock.
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

    #[test]
    fn a_port_that_another_process_was_given_is_passed_over_before_it_listens() {
        let port = private().unwrap();
        release(port);
        // As another stack's process holds it.
        let given_to_another = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert!(next_free(wanted).unwrap().port() > port);
        assert_ne!(keep(port).unwrap(), port);
        drop(given_to_another);
        assert_eq!(next_free(wanted).unwrap(), wanted);
    }
}
