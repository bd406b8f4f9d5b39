//! What crosses a network in clear can be read and changed on its way: tokens, passwords and messages.

use super::Error;

/// Whether nothing that is sent to `host` leaves this machine.
pub fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        // A path is a socket's.
        Err(_) => host == "localhost" || host.ends_with(".localhost") || host.starts_with('/'),
    }
}

/// Refuses to speak in clear with `host`, or there, where that is another machine. `remedy` says what to do instead.
pub fn check_clear(key: &str, host: &str, remedy: &str) -> Result<(), Error> {
    if is_local(host) {
        return Ok(());
    }
    Err(Error::key(
        key,
        format!(
            "speaks in clear with other machines ({host}): {remedy}, or say `insecure: true` (JALUR_INSECURE=true) where \
             the network between them is trusted"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_on_this_machine_may_be_clear() {
        for host in [
            "localhost",
            "db.localhost",
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "[::1]",
            "::ffff:127.0.0.1",
            "/run/postgresql",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "0.0.0.0",
            "::",
            "[::]",
            "10.0.0.1",
            "rabbitmq",
            "localhost.example.com",
            "notlocalhost",
            "",
        ] {
            assert!(!is_local(host), "{host}");
            let error = check_clear("listen", host, "set tls.cert_file")
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("listen") && error.contains("tls.cert_file") && error.contains("insecure"),
                "{error}"
            );
        }
    }
}
