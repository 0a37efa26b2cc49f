//! Whom the courier believes: which certificate authorities count, and by which clock. rustls-native-certs reads them, and
//! rustls's own verifier decides.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, KeyProvider, ring};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
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

/// What TLS connections are made with: the authorities in what SSL_CERT_FILE and SSL_CERT_DIR name, both where both are
/// set, else in the first bundle of the system that has a certificate, else the web's, which are compiled in, where the
/// system has no place for any. The places are those of the running system, whatever `--root` says.
///
/// # Errors
/// When there is a place for authorities, and no certificate in it. Other authorities than those that the administrator or
/// the system means would be worse than a record that waits.
pub fn trust(job: &Job) -> io::Result<TlsConfig> {
    let configured = job.certificates_directories.split(':').chain([&*job.certificates_file]);
    let mut places: Vec<PathBuf> = configured.filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    let found = if places.is_empty() {
        // A link that leads nowhere is a place as well.
        places = BUNDLES.iter().map(PathBuf::from).filter(|path| fs::symlink_metadata(path).is_ok()).collect();
        places.iter().map(|path| certificates(path)).find(|found| !found.is_empty()).unwrap_or_default()
    } else {
        places.iter().flat_map(|place| files(place)).flat_map(|file| certificates(&file)).collect()
    };
    let roots = match (places.is_empty(), found.is_empty()) {
        (true, _) => RootCerts::WebPki,
        (false, false) => found.into(),
        (false, true) => {
            let places: Vec<_> = places.iter().map(|path| path.to_string_lossy()).collect();
            return Err(io::Error::other(format!("no certificate authority in {}", places.join(", "))));
        }
    };
    let provider = CryptoProvider { key_provider: &NoPrivateKeys, ..ring::default_provider() };
    Ok(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(Arc::new(provider)).build())
}

/// In place of ring's reader of private keys: the courier has none, and the binary is smaller without it.
#[derive(Debug)]
struct NoPrivateKeys;

impl KeyProvider for NoPrivateKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("no private key is read".to_owned()))
    }
}

/// The certificates in a PEM file; none where it cannot be read as one.
fn certificates(file: &Path) -> Vec<Certificate<'static>> {
    // Neither a directory nor a pipe that nobody writes to.
    let is_bundle = fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BUNDLE);
    let certificates = if is_bundle { load_certs_from_paths(Some(file), None).certs } else { Vec::new() };
    // The process ends after one job. What is leaked need not be copied, 150 times.
    let certificates = certificates.leak();
    // PEM around something else is no certificate.
    if !certificates.iter().any(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok()) {
        return Vec::new();
    }
    certificates.iter().map(|it| Certificate::from_der(it)).collect()
}

/// A file itself; of a directory, the files that have a name as openssl-rehash(1) gives it, such as `5ed36f99.0`, and no
/// other.
fn files(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place) else { return vec![place.to_owned()] };
    let is_hashed = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('.'));
        name.is_some_and(|(hash, number)| {
            hash.len() == 8 && u32::from_str_radix(hash, 16).is_ok() && number.parse::<u32>().is_ok()
        })
    };
    entries.flatten().map(|entry| entry.path()).filter(is_hashed).collect()
}
