//! Whom the courier believes: which certificate authorities count, and by which clock. rustls-native-certs reads them, and
//! rustls's own verifier decides.

use std::fs;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_native_certs::load_certs_from_paths;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::message::Job;

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
#[error("no certificate authority in {0}")]
pub struct TrustError(String);

/// The authorities that were found, read while the courier could still read them; and where.
#[derive(Debug)]
pub struct Authorities {
    /// `None`: there is no place for authorities on this system, so the web's authorities, which are compiled in, count.
    certificates: Option<Vec<Certificate<'static>>>,
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

    /// What ureq makes TLS connections with.
    ///
    /// # Errors
    /// When nobody would be believed.
    pub fn config(self) -> Result<TlsConfig, TrustError> {
        let roots = match self.certificates {
            None => RootCerts::WebPki,
            Some(certificates) if certificates.is_empty() => return Err(TrustError(self.places)),
            Some(certificates) => certificates.into(),
        };
        Ok(TlsConfig::builder().root_certs(roots).build())
    }
}

/// The certificates in a PEM file; none where it cannot be read as one.
fn certificates(file: &Path) -> Vec<Certificate<'static>> {
    // Neither a directory nor a pipe that nobody writes to.
    let is_bundle = fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BUNDLE);
    let certificates = if is_bundle { load_certs_from_paths(Some(file), None).certs } else { Vec::new() };
    // PEM around something else is no certificate.
    if !certificates.iter().any(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok()) {
        return Vec::new();
    }
    certificates.iter().map(|it| Certificate::from_der(it).to_owned()).collect()
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
