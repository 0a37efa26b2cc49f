//! Whom the courier believes: which certificate authorities count (the administrator's, else the system's, else the web's
//! that are compiled in), by which clock, and with which cryptography.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, KeyProvider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::SigningKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};

use super::job::Job;
use crate::host::Host;

/// Bundles of distributions, in the order in which they are likely: Debian and Alpine, Fedora and Red Hat, SUSE.
const BUNDLES: [&str; 5] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/ssl/ca-bundle.pem",
    "etc/ssl/cert.pem",
];

/// A bundle of 150 authorities has 230 KB.
const MAX_BUNDLE: usize = 8 << 20;

/// What was found to trust, read while the courier could still read it and not yet looked into.
#[derive(Debug)]
pub struct Trust {
    pem: Vec<Vec<u8>>,
    configured: Option<PathBuf>,
}

impl Trust {
    /// Reads the bundle. TLS roots are those of the running system, whatever `--root` says.
    pub fn read(job: &Job) -> Trust {
        let host = Host::new(None);
        let file = |path: &Path| host.read(path, MAX_BUNDLE).bytes();
        if job.certificates_file.is_empty() && job.certificates_directory.is_empty() {
            return Trust {
                pem: BUNDLES.iter().find_map(|path| file(Path::new(path))).into_iter().collect(),
                configured: None,
            };
        }
        // As OpenSSL: what is set replaces the default, and both count where both are set.
        let mut pem = Vec::new();
        let mut configured = PathBuf::new();
        if !job.certificates_directory.is_empty() {
            configured = PathBuf::from(&job.certificates_directory);
            let names = host.names(&configured).unwrap_or_default();
            pem.extend(names.into_iter().filter_map(|name| file(&configured.join(name))));
        }
        if !job.certificates_file.is_empty() {
            configured = PathBuf::from(&job.certificates_file);
            pem.extend(file(&configured));
        }
        Trust { pem, configured: Some(configured) }
    }

    /// What a TLS connection is made with.
    ///
    /// # Errors
    /// When a bundle is configured and has no certificate in it: sending by other authorities than the administrator's
    /// would be worse than not sending.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        // One bad certificate of many spoils nothing.
        roots.add_parsable_certificates(self.pem.iter().flat_map(|pem| certificates(pem)));
        match &self.configured {
            _ if !roots.is_empty() => {}
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                return Err(format!("no certificate in {} (SSL_CERT_FILE, SSL_CERT_DIR)", path.display()));
            }
        }
        let config = ClientConfig::builder_with_details(cryptography(), Arc::new(Clock))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        // There is no second connection to the same server that would be worth remembering the first for.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// The certificates in a PEM file (RFC 7468), of which whatever is none is skipped. rustls-pki-types reads PEM in
/// constant time, for the sake of private keys, which costs 8 million instructions for Debian's bundle.
fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    let mut certificates = Vec::new();
    let mut text: Option<Vec<u8>> = None;
    for line in pem.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        match (line, &mut text) {
            (b"-----BEGIN CERTIFICATE-----", _) => text = Some(Vec::new()),
            (b"-----END CERTIFICATE-----", Some(whole)) => {
                certificates.extend(BASE64_STANDARD.decode(whole).ok().map(CertificateDer::from));
                text = None;
            }
            (line, Some(whole)) => whole.extend_from_slice(line),
            _ => {}
        }
    }
    certificates
}

/// The system's clock, which may be before 1970; rustls's own takes that for impossible, and panics.
#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(Host::new(None).now()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// ring without private keys: we have no certificate of our own, and the linker drops the code for signing.
fn cryptography() -> Arc<CryptoProvider> {
    #[derive(Debug)]
    struct NoKeys;
    impl KeyProvider for NoKeys {
        fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
            Err(rustls::Error::General("no client certificates".to_owned()))
        }
    }
    Arc::new(CryptoProvider { key_provider: &NoKeys, ..rustls::crypto::ring::default_provider() })
}
