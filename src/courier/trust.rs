//! Which certificate authorities count: the administrator's, else the system's, else the web's that are compiled in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::tls::{Certificate, RootCerts};

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
        let mut configured = PathBuf::from(&job.certificates_directory);
        for name in host.names(&configured).unwrap_or_default() {
            if !job.certificates_directory.is_empty() {
                pem.extend(file(&configured.join(name)));
            }
        }
        if !job.certificates_file.is_empty() {
            configured = PathBuf::from(&job.certificates_file);
            pem.extend(file(&configured));
        }
        Trust { pem, configured: Some(configured) }
    }

    /// The authorities.
    ///
    /// # Errors
    /// When a bundle is configured and has none in it: sending by other authorities than the administrator's would
    /// be worse than not sending.
    pub fn roots(self) -> Result<RootCerts, String> {
        let all = self.pem.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem));
        let certificates: Vec<_> = all.flatten().map(|der| Certificate::from_der(&der).to_owned()).collect();
        match (certificates.is_empty(), self.configured) {
            (false, _) => Ok(RootCerts::Specific(Arc::new(certificates))),
            (true, None) => Ok(RootCerts::WebPki),
            (true, Some(path)) => Err(format!("no certificate in {} (SSL_CERT_FILE, SSL_CERT_DIR)", path.display())),
        }
    }
}
