//! When certificates end, for whoever is to renew them in time.

use std::{fs, path::PathBuf};

use opentelemetry::{KeyValue, metrics::Meter};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

/// `jalur_certificate_expires_timestamp_seconds` of these files, each under the configuration's key that names it. They are
/// read whenever somebody asks, as they are when they are used; what cannot be read is absent, and in the log by whom it is
/// used. Empty paths name no file.
pub fn expiry<'a>(meter: &Meter, files: impl IntoIterator<Item = (&'static str, &'a str)>) {
    let named = files.into_iter().filter(|(_, path)| !path.is_empty());
    let files: Vec<_> = named.map(|(key, path)| (key, PathBuf::from(path))).collect();
    if files.is_empty() {
        return;
    }
    // The meter keeps the callback.
    let _ = meter
        .f64_observable_gauge("jalur_certificate_expires_timestamp_seconds")
        .with_description("When the first certificate of a file ends, in seconds since 1970")
        .with_callback(move |gauge| {
            for (key, path) in &files {
                if let Some(end) = fs::read(path).ok().and_then(|pem| first_end(&pem)) {
                    gauge.observe(end as f64, &[KeyValue::new("key", *key)]);
                }
            }
        })
        .build();
}

/// The end of the certificate in `pem` that ends first, in seconds since 1970.
fn first_end(pem: &[u8]) -> Option<i64> {
    let certificates = CertificateDer::pem_slice_iter(pem).flatten();
    let ends = certificates.filter_map(|der| {
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        Some(certificate.validity().not_after.timestamp())
    });
    ends.min()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn the_first_end_of_a_file_is_shown_under_its_key() {
        let ending = |year| {
            let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
            params.not_after = date_time_ymd(year, 1, 1);
            let key = KeyPair::generate().unwrap();
            params.self_signed(&key).unwrap().pem()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        fs::write(&path, ending(2036) + &ending(2035)).unwrap();
        let metrics = Metrics::new().unwrap();
        let path = path.to_str().unwrap();
        expiry(
            &metrics.meter(),
            [
                ("tls.cert_file", path),
                ("rabbitmq.tls.ca_file", "/nowhere"),
                ("tls.client_ca_file", ""),
            ],
        );
        let shown = |text: &str| {
            let lines = text.lines().filter(|line| line.starts_with("jalur_certificate"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let wanted = r#"jalur_certificate_expires_timestamp_seconds{key="tls.cert_file"} 2051222400"#;
        assert_eq!(shown(&metrics.render().unwrap()), [wanted]);
        fs::write(path, ending(2036)).unwrap();
        let renewed = shown(&metrics.render().unwrap());
        assert_eq!(renewed, [wanted.replace("2051222400", "2082758400")]);
    }
}
