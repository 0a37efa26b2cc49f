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

/// What TLS connections are made with: the authorities in what SSL_CERT_FILE and SSL_CERT_DIR name, both where both are
/// set, else in the first bundle of the system that has a certificate, else the web's, which are compiled in, where the
/// system has no place for any. The places are those of the running system, whatever `--root` says.
///
/// # Errors
/// When there is a place for authorities, and no certificate in it.
pub fn trust(job: &Job) -> Result<TlsConfig, TrustError> {
    let directories = job.certificates_directories.split(':').filter(|path| !path.is_empty()).map(PathBuf::from);
    let file = Some(PathBuf::from(&job.certificates_file)).filter(|path| !path.as_os_str().is_empty());
    let mut places: Vec<PathBuf> = directories.chain(file.clone()).collect();
    let found = if places.is_empty() {
        // A link that leads nowhere is a place as well.
        places = BUNDLES.iter().map(PathBuf::from).filter(|path| fs::symlink_metadata(path).is_ok()).collect();
        places.iter().map(|path| certificates(path)).find(|found| !found.is_empty()).unwrap_or_default()
    } else {
        places.iter().flat_map(|directory| hashed(directory)).chain(file).flat_map(|file| certificates(&file)).collect()
    };
    let roots = match (places.is_empty(), found.is_empty()) {
        (true, _) => RootCerts::WebPki,
        (false, false) => found.into(),
        (false, true) => {
            let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
            return Err(TrustError(places.join(", ")));
        }
    };
    Ok(TlsConfig::builder().root_certs(roots).build())
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
