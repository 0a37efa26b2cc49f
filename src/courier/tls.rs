//! Which certificate authorities the courier trusts. rustls-native-certs reads them, and rustls's own verifier decides.

use std::{fs, io, path::Path, path::PathBuf, sync::Arc};

use rustls::{RootCertStore, crypto::ring};
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

/// The settings of TLS connections, with the authorities that count. SSL_CERT_FILE and SSL_CERT_DIR name them; if both
/// are set, both count. Without these, the first bundle of the system counts that has a certificate. If the system has
/// no such file at all, the web's authorities count, which are compiled in. The files are those of the running system,
/// whatever `--root` says.
///
/// # Errors
/// When there is a place for authorities and no certificate in it. The record then waits. That is better than to trust
/// other authorities than the administrator or the system means.
pub fn trust(job: &Job) -> io::Result<TlsConfig> {
    let (file, directories) = (&*job.certificates_file, job.certificates_directories.split(':'));
    let mut places: Vec<&str> = directories.clone().chain([file]).filter(|path| !path.is_empty()).collect();
    let files = directories.flat_map(hashed).chain([file.into()]);
    let mut found: Vec<_> = files.flat_map(|file| certificates(&file)).collect();
    if places.is_empty() {
        places = BUNDLES.into_iter().filter(|path| is_there(Path::new(path))).collect();
        let mut bundles = places.iter().map(|path| certificates(Path::new(path)));
        found = bundles.find(|bundle| !bundle.is_empty()).unwrap_or_default();
    }
    let roots = match (places.is_empty(), found.is_empty()) {
        (true, _) => RootCerts::WebPki,
        (false, false) => found.into(),
        (false, true) => return Err(io::Error::other(format!("no certificate authority in {}", places.join(", ")))),
    };
    let provider = Arc::new(ring::default_provider());
    Ok(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build())
}

/// The certificates in a PEM file; none where it cannot be read as one.
fn certificates(file: &Path) -> Vec<Certificate<'static>> {
    // Not a directory, and not a pipe that nobody writes to.
    let is_bundle = fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BUNDLE);
    let certificates = if is_bundle { load_certs_from_paths(Some(file), None).certs } else { Vec::new() };
    // The file may hold PEM of something else than certificates.
    let is_any = certificates.iter().any(|it| RootCertStore::empty().add(it.clone()).is_ok());
    // Leaking saves copying 150 certificates, and the process ends after one job.
    let certificates = if is_any { certificates.leak() } else { &mut [] };
    certificates.iter().map(|it| Certificate::from_der(it)).collect()
}

/// Whether something is at `path`: everything counts that is not plainly absent. A path that we may not look at is
/// something, and so is a link that leads nowhere, in any part of the path.
fn is_there(path: &Path) -> bool {
    path.try_exists().unwrap_or(true) || path.ancestors().any(|above| above.is_symlink() && !above.exists())
}

/// The files of a directory that have a name as openssl-rehash(1) gives it, such as `5ed36f99.0`, and no other.
fn hashed(directory: &str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| is_hashed(entry.file_name().as_encoded_bytes())).map(|entry| entry.path())
}

fn is_hashed(name: &[u8]) -> bool {
    let Some((hash, [b'.', number @ ..])) = name.split_at_checked(8) else { return false };
    hash.iter().all(u8::is_ascii_hexdigit) && !number.is_empty() && number.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_is_plainly_absent_is_not_there() {
        let root = std::env::temp_dir().join(format!("install-record-tls-{}", std::process::id()));
        fs::create_dir_all(root.join("empty")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        for (link, target) in [("nowhere", "/nowhere/at/all"), ("loop", "loop"), ("there", "empty"), ("link", "file")] {
            symlink(target, root.join(link)).unwrap();
        }
        for (path, expected) in [
            ("file", true),
            ("link", true),
            ("none", false),
            ("none/cert.pem", false),
            ("empty/cert.pem", false),
            ("there/cert.pem", false),
            ("nowhere", true),
            ("nowhere/cert.pem", true),
            ("nowhere/certs/cert.pem", true),
            ("loop/cert.pem", true),
            ("file/cert.pem", true),
        ] {
            assert_eq!(is_there(&root.join(path)), expected, "{path}");
        }
        fs::remove_dir_all(root).unwrap();
    }
}
