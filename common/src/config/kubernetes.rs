//! Variables that Kubernetes puts into every container for each Service of the namespace. A Service called `jalur`, or
//! `jalur-something`, makes some with our prefix, which are nobody's configuration.

use std::net::IpAddr;

/// Whether a variable is one of those: by the shape of its name and of its value, so that a key that somebody mistyped
/// is none.
pub(super) fn is_injected(name: &str, value: &str) -> bool {
    // Two underscores are ours.
    if name.contains("__") {
        return false;
    }
    let ends = |suffix: &str| name.strip_suffix(suffix).is_some_and(is_service);
    if ends("_SERVICE_HOST") {
        return is_address(value);
    }
    if ends("_SERVICE_PORT") {
        return is_port(value);
    }
    if ends("_PORT") && is_url(value) {
        return true;
    }
    if let Some((service, port_name)) = name.split_once("_SERVICE_PORT_") {
        return is_service(service) && !port_name.is_empty() && is_port(value);
    }
    name.match_indices("_PORT_")
        .any(|(at, between)| is_service(&name[..at]) && is_of_a_port(&name[at + between.len()..], value))
}

/// `8080_TCP`, and what may follow it.
fn is_of_a_port(name: &str, value: &str) -> bool {
    let mut parts = name.split('_');
    let (Some(port), Some(protocol)) = (parts.next(), parts.next()) else {
        return false;
    };
    if !is_port(port) || !is_protocol(&protocol.to_ascii_lowercase()) {
        return false;
    }
    match (parts.next(), parts.next()) {
        (None, _) => is_url(value),
        (Some("PROTO"), None) => value.eq_ignore_ascii_case(protocol),
        (Some("PORT"), None) => value == port,
        (Some("ADDR"), None) => is_address(value),
        _ => false,
    }
}

fn is_service(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty() && name.bytes().all(letter)
}

fn is_address(value: &str) -> bool {
    value.parse::<IpAddr>().is_ok()
}

fn is_port(value: &str) -> bool {
    value.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_protocol(value: &str) -> bool {
    ["tcp", "udp", "sctp"].contains(&value)
}

/// `tcp://10.0.0.1:8080`
fn is_url(value: &str) -> bool {
    let parts = value
        .split_once("://")
        .and_then(|(protocol, rest)| Some((protocol, rest.rsplit_once(':')?)));
    parts.is_some_and(|(protocol, (host, port))| {
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        is_protocol(protocol) && is_address(host) && is_port(port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_makes_is_known_by_name_and_value() {
        for service in [
            "JALUR",
            "JALUR_CONTROL_PLANE",
            "JALUR_INGEST_DAEMON",
            "JALUR_2_PORT_A",
        ] {
            for (end, value) in [
                ("SERVICE_HOST", "10.96.0.11"),
                ("SERVICE_PORT", "8080"),
                ("SERVICE_PORT_GRPC_WEB", "8080"),
                ("PORT", "tcp://10.96.0.11:8080"),
                ("PORT_8080_TCP", "tcp://10.96.0.11:8080"),
                ("PORT_8080_TCP_PROTO", "tcp"),
                ("PORT_8080_TCP_PORT", "8080"),
                ("PORT_8080_TCP_ADDR", "10.96.0.11"),
                ("PORT_53_UDP_ADDR", "fd00::1"),
                ("PORT_53_UDP", "udp://[fd00::1]:53"),
            ] {
                let name = format!("{service}_{end}");
                assert!(is_injected(&name, value), "{name}={value}");
            }
        }
    }

    #[test]
    fn a_mistyped_key_is_none_of_them() {
        for (name, value) in [
            ("JALUR_PORT", "8080"),
            ("JALUR_LISTEN_PORT", "8080"),
            ("JALUR_PORT", "http://10.0.0.1:80"),
            ("JALUR_SERVICE_HOST", "localhost"),
            ("JALUR_SERVICE_PORT", "0"),
            ("JALUR_PORT_8080_TCP_ADDR", "x"),
            ("JALUR_PORT_8080_TCP_PORT", "9090"),
            ("JALUR_PORT_8080_TCP_ADDR_X", "10.0.0.1"),
            ("JALUR_DATABASE__PORT", "tcp://10.0.0.1:5432"),
            ("JALUR_DATABASE_HOST", "10.0.0.1"),
        ] {
            assert!(!is_injected(name, value), "{name}={value}");
        }
    }
}
