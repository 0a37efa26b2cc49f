//! Whom the courier believes: which certificate authorities count, and by which clock. rustls-native-certs reads them, and
//! rustls's own verifier decides.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::load_certs_from_paths;

use super::message::Job;
use crate::host::Host;

/// Bundles of distributions, in the order in which they are likely: Debian and Alpine, Fedora and Red Hat, SUSE.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A bundle of 150 authorities has 230 KB.
const MAX_BUNDLE: u64 = 8 << 20;

/// Why no server can be believed. Other authorities than those that the administrator or the system means would be worse
/// than a record that waits.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// There are places for authorities, and no certificate in any.
    #[error("no certificate authority in {0}")]
    Nobody(String),
    /// rustls takes none of them.
    #[error("no usable certificate authority in {0}: {1}")]
    Unusable(String, #[source] rustls::Error),
}

/// The authorities that were found, read while the courier could still read them; and where.
#[derive(Debug)]
pub struct Authorities {
    /// `None`: there is no place for authorities on this system, so the web's authorities, which are compiled in, count.
    certificates: Option<Vec<CertificateDer<'static>>>,
    places: String,
}

impl Authorities {
    /// Reads what SSL_CERT_FILE and SSL_CERT_DIR name, both where both are set, else the first bundle of the system that
    /// has a certificate. The places are those of the running system, whatever `--root` says.
    pub fn read(job: &Job) -> Authorities {
        let directories = job.certificates_directories.split(':').filter(|path| !path.is_empty()).map(PathBuf::from);
        let mut places: Vec<PathBuf> = directories.collect();
        let mut files: Vec<PathBuf> = places.iter().flat_map(|directory| hashed(directory)).collect();
        if !job.certificates_file.is_empty() {
            files.push(PathBuf::from(&job.certificates_file));
            places.push(PathBuf::from(&job.certificates_file));
        }
        if !places.is_empty() {
            let certificates = Some(files.iter().flat_map(|file| certificates(file)).collect());
            return Authorities { certificates, places: listed(&places) };
        }
        // A link that leads nowhere is there as well.
        let places: Vec<PathBuf> =
            BUNDLES.iter().map(PathBuf::from).filter(|path| fs::symlink_metadata(path).is_ok()).collect();
        let first = places.iter().map(|path| certificates(path)).find(|certificates| !certificates.is_empty());
        let certificates = (!places.is_empty()).then(|| first.unwrap_or_default());
        Authorities { certificates, places: listed(&places) }
    }

    /// What a TLS connection is made with.
    ///
    /// # Errors
    /// When nobody would be believed.
    pub fn config(self) -> Result<Arc<ClientConfig>, TrustError> {
        let mut roots = RootCertStore::empty();
        match self.certificates {
            // One bad certificate of many spoils nothing.
            Some(certificates) => drop(roots.add_parsable_certificates(certificates)),
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        if roots.is_empty() {
            return Err(TrustError::Nobody(self.places));
        }
        let config = ClientConfig::builder_with_details(Arc::new(default_provider()), Arc::new(Clock))
            .with_safe_default_protocol_versions()
            .map_err(|error| TrustError::Unusable(self.places, error))?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        // There is no second connection to the same server that would be worth remembering the first for.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// The certificates in a PEM file; none where it cannot be read as one.
fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    // Neither a directory nor a pipe that nobody writes to.
    let is_bundle = fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BUNDLE);
    if is_bundle { load_certs_from_paths(Some(file), None).certs } else { Vec::new() }
}

/// The files of a directory that have a name as openssl-rehash(1) gives it, such as `5ed36f99.0`. No other counts.
fn hashed(directory: &Path) -> Vec<PathBuf> {
    let is_hashed = |name: &str| {
        name.split_once('.').is_some_and(|(hash, number)| {
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) && is_number
        })
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_hashed));
    files.map(|entry| entry.path()).collect()
}

fn listed(places: &[PathBuf]) -> String {
    places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
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
