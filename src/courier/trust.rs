//! Whom the courier believes: which certificate authorities count (the administrator's, else the system's, else the web's
//! that are compiled in), by which clock, and with which cryptography.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use memchr::memmem;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::crypto::{
    CryptoProvider, KeyProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SigningKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use webpki::EndEntityCert;

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
    pub fn config(self) -> Result<Arc<ClientConfig>, String> {
        let has_any = self.pem.iter().any(|pem| memmem::find(pem, BEGIN).is_some());
        if let (false, Some(path)) = (has_any, &self.configured) {
            return Err(format!("no certificate in {} (SSL_CERT_FILE, SSL_CERT_DIR)", path.display()));
        }
        let cryptography = cryptography();
        let verifier =
            Verifier { pem: has_any.then_some(self.pem), algorithms: cryptography.signature_verification_algorithms };
        let config = ClientConfig::builder_with_details(cryptography, Arc::new(Clock))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        // "Dangerous" is every verifier but rustls's own: see `Verifier`.
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = config.with_no_client_auth();
        // There is no second connection to the same server that would be worth remembering the first for.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// rustls's `WebPkiServerVerifier`, but for when authorities are read: not all of them before, but those that the
/// server's certificates name, once they are there. Of the 9 million instructions that Debian's 150 cost, this
/// saves 8.
///
/// It decides nothing itself. The same two functions of rustls verify the chain and the name, with the same
/// algorithms, and all that differs is that authorities are left out. webpki tries an authority for a certificate only
/// if its subject is, byte for byte, the issuer that the certificate names, and what is left out does not so much as
/// contain such an issuer. Were that wrong, a chain would be refused for want of an authority, never accepted: those that
/// are left are the bundle's.
#[derive(Debug)]
struct Verifier {
    /// Bundles; `None` for the web's authorities.
    pem: Option<Vec<Vec<u8>>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn roots_for(&self, chain: &[&CertificateDer<'_>]) -> RootCertStore {
        let Some(pem) = &self.pem else {
            return webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        };
        // What cannot be read of the chain cannot be verified either.
        let parsed: Vec<_> = chain.iter().filter_map(|der| EndEntityCert::try_from(*der).ok()).collect();
        let issuers: Vec<_> = parsed.iter().flat_map(|certificate| in_base64(certificate.issuer())).collect();
        let issuers: Vec<_> = issuers.iter().map(memmem::Finder::new).collect();
        let mut roots = RootCertStore::empty();
        for pem in pem {
            for_each_certificate(pem, |text| {
                if issuers.iter().any(|issuer| issuer.find(text).is_some()) {
                    // One bad certificate of many spoils nothing.
                    roots.add_parsable_certificates(BASE64_STANDARD.decode(text).ok().map(CertificateDer::from));
                }
            });
        }
        roots
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let chain: Vec<_> = [end_entity].into_iter().chain(intermediates).collect();
        let roots = self.roots_for(&chain);
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, now, self.algorithms.all)?;
        verify_server_name(&certificate, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// Hands on the certificates in a PEM file (RFC 7468), as base64 in one line.
fn for_each_certificate(pem: &[u8], mut hand_on: impl FnMut(&[u8])) {
    let mut text = Vec::new();
    let mut is_inside = false;
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', pem).chain([pem.len()]) {
        let line = pem[start..end].trim_ascii();
        start = end + 1;
        match line {
            BEGIN => {
                text.clear();
                is_inside = true;
            }
            END if is_inside => {
                hand_on(&text);
                is_inside = false;
            }
            _ if is_inside => text.extend_from_slice(line),
            _ => {}
        }
    }
}

/// What `bytes` look like inside a longer base64 text (RFC 4648, 4), where they begin at any of three places in a group
/// of three bytes: without the characters at either end that they share with their neighbours. Whatever contains the bytes
/// contains one of these, so 150 certificates need not be decoded to be passed over (2 of 6 million instructions).
fn in_base64(bytes: &[u8]) -> [String; 3] {
    [0, 1, 2].map(|before| {
        let text = BASE64_STANDARD_NO_PAD.encode([&[0; 2][..before], bytes].concat());
        let bits = 8 * (before + bytes.len());
        // Of a byte or none, nothing may be left: every text contains that.
        text.get((8 * before).div_ceil(6)..bits / 6).unwrap_or_default().to_owned()
    })
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
    // AES-GCM, which every server has: RFC 8446, 9.1, and RFC 9325, 4.2. ChaCha20 would be faster on a processor without
    // AES, for one record, and costs 40 KB.
    let cipher_suites = vec![
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ];
    Arc::new(CryptoProvider { cipher_suites, key_provider: &NoKeys, ..default_provider() })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
    use rustls::client::WebPkiServerVerifier;

    use super::*;

    const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000)); // 2027

    /// An authority: what signs with its key, and its certificate.
    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        der: CertificateDer<'static>,
    }

    fn authority_params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn root(name: &str) -> Authority {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let der = params.self_signed(&key).unwrap().into();
        Authority { issuer: Issuer::new(params, key), der }
    }

    /// An authority below `above`; with `key`, the same authority below another one.
    fn below(above: &Authority, name: &str, key: &[u8]) -> Authority {
        let params = authority_params(name);
        let key = KeyPair::try_from(key).unwrap();
        let der = params.signed_by(&key, &above.issuer).unwrap().into();
        Authority { issuer: Issuer::new(params, key), der }
    }

    fn leaf(above: Option<&Authority>, host: &str, from: i32, until: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let key = KeyPair::generate().unwrap();
        match above {
            Some(above) => params.signed_by(&key, &above.issuer).unwrap().into(),
            None => params.self_signed(&key).unwrap().into(),
        }
    }

    fn pem(authorities: &[&Authority]) -> Vec<u8> {
        let one = |authority: &&Authority| {
            let text = BASE64_STANDARD.encode(&authority.der);
            let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
            format!("# a remark\n-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n\n", lines.join("\n"))
        };
        authorities.iter().map(one).collect::<String>().into_bytes()
    }

    fn verifier(bundle: &[&Authority]) -> Verifier {
        let algorithms = cryptography().signature_verification_algorithms;
        Verifier { pem: Some(bundle.iter().map(|authority| pem(&[authority])).collect()), algorithms }
    }

    /// Both verdicts: ours, and that of rustls's own verifier with all of the bundle.
    fn verdicts(
        bundle: &[&Authority],
        chain: &[&CertificateDer<'static>],
        host: &str,
    ) -> [Result<(), rustls::Error>; 2] {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(bundle.iter().map(|authority| authority.der.clone()));
        let stock = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), cryptography()).build().unwrap();
        let intermediates: Vec<_> = chain[1..].iter().map(|der| (*der).clone()).collect();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let both: [&dyn ServerCertVerifier; 2] = [&verifier(bundle), &*stock];
        both.map(|it| it.verify_server_cert(chain[0], &intermediates, &name, &[], NOW).map(|_| ()))
    }

    #[test]
    fn the_verdict_is_that_of_rustls_with_the_whole_bundle() {
        let (main, other, unknown) = (root("Main"), root("Other"), root("Unknown"));
        let impostor = root("Main");
        let key = KeyPair::generate().unwrap().serialize_der();
        let (middle, crossed) = (below(&main, "Middle", &key), below(&unknown, "Middle", &key));
        let lower = below(&middle, "Lower", &KeyPair::generate().unwrap().serialize_der());
        let good = leaf(Some(&main), "host.example", 2000, 2100);
        let low = leaf(Some(&middle), "host.example", 2000, 2100);
        let lowest = leaf(Some(&lower), "host.example", 2000, 2100);
        let junk = CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01]);
        let host = "host.example";
        let both = [&other, &main];
        for (what, bundle, chain, host, expected) in [
            ("signed by a root", &both[..], vec![&good], host, true),
            ("the root is sent along", &both, vec![&good, &main.der], host, true),
            ("through an intermediate", &both, vec![&low, &middle.der], host, true),
            ("through two, in the wrong order", &both, vec![&lowest, &middle.der, &lower.der], host, true),
            ("through one that is not sent", &both, vec![&low], host, false),
            ("through one that is trusted itself", &[&middle], vec![&low], host, true),
            ("crossed, the known way last", &both, vec![&low, &crossed.der, &middle.der], host, true),
            ("crossed, the known way first", &both, vec![&low, &middle.der, &crossed.der], host, true),
            ("crossed, only the unknown way sent", &both, vec![&low, &crossed.der], host, false),
            ("crossed, the other root is trusted", &[&unknown], vec![&low, &crossed.der], host, true),
            ("with junk behind it", &both, vec![&good, &junk], host, true),
            ("with an unrelated root behind it", &both, vec![&good, &unknown.der], host, true),
            ("an unknown authority", &[&other], vec![&good], host, false),
            ("an unknown authority, sent along", &[&other], vec![&good, &main.der], host, false),
            ("an authority of the same name", &[&impostor], vec![&good], host, false),
            ("an authority of the same name, and the right one", &[&impostor, &main], vec![&good], host, true),
            ("another host", &both, vec![&good], "other.example", false),
            ("junk", &both, vec![&junk], host, false),
            ("expired", &both, vec![&leaf(Some(&main), host, 2000, 2001)], host, false),
            ("not yet valid", &both, vec![&leaf(Some(&main), host, 2090, 2100)], host, false),
            ("self-signed", &both, vec![&leaf(None, host, 2000, 2100)], host, false),
            ("the authority's own", &both, vec![&main.der], host, false),
        ] {
            let [ours, stock] = verdicts(bundle, &chain, host);
            assert_eq!(ours.is_ok(), expected, "{what}: {ours:?}");
            assert_eq!(format!("{ours:?}"), format!("{stock:?}"), "{what}");
        }
    }

    #[test]
    fn only_what_the_chain_names_is_read() {
        let (main, other) = (root("Main"), root("Other"));
        let roots = verifier(&[&other, &main]).roots_for(&[&leaf(Some(&main), "host.example", 2000, 2100)]);
        assert_eq!(roots.len(), 1);
        assert_eq!(verifier(&[&other]).roots_for(&[&leaf(Some(&main), "host.example", 2000, 2100)]).len(), 0);
    }

    #[test]
    fn certificates_are_found_in_whatever_stands_around_them() {
        let (first, second) = (root("First"), root("Second"));
        let (one, two) = (pem(&[&first]), pem(&[&second]));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let whole = text(&one) + &text(&two);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        for (what, pem, expected) in [
            ("a bundle", whole.clone(), vec![&first, &second]),
            ("of Windows", whole.replace('\n', "\r\n"), vec![&first, &second]),
            ("without a last line end", whole.trim_end().to_owned(), vec![&first, &second]),
            ("indented", whole.replace('\n', "\n  "), vec![&first, &second]),
            (
                "in one line",
                whole.replace("\nMI", "MI").replace("CERTIFICATE-----MI", "CERTIFICATE-----\nMI"),
                vec![&first, &second],
            ),
            (
                "with a key between",
                text(&one) + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" + &text(&two),
                vec![&first, &second],
            ),
            ("after one without an end", broken.to_owned() + &whole, vec![&first, &second]),
            (
                "after one that is no base64",
                broken.replace("AAAA", "A*") + "-----END CERTIFICATE-----\n" + &whole,
                vec![&first, &second],
            ),
            ("cut short", whole[..whole.len() - 40].to_owned(), vec![&first]),
            ("an end alone", "-----END CERTIFICATE-----\n".to_owned(), vec![]),
            ("nothing", String::new(), vec![]),
        ] {
            let mut found = Vec::new();
            for_each_certificate(pem.as_bytes(), |text| found.extend(BASE64_STANDARD.decode(text)));
            let expected: Vec<&[u8]> = expected.into_iter().map(|authority| &*authority.der).collect();
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn bytes_are_found_in_base64_wherever_they_stand() {
        for length in 0..40 {
            let needle: Vec<u8> = (0..length).map(|byte| (byte as u8).wrapping_mul(37) ^ 0x5a).collect();
            for before in 0..7 {
                let text = BASE64_STANDARD.encode([&vec![0xff; before][..], &needle, &[0xee; 5]].concat());
                assert!(in_base64(&needle).iter().any(|it| text.contains(it)), "{length} bytes after {before}");
            }
            // What begins and ends as the needle does, with another byte inside, is not.
            if length >= 8 {
                let mut other = needle.clone();
                other[length / 2] ^= 0x18;
                let text = BASE64_STANDARD.encode([&[0xff; 3][..], &other, &[0xee; 5]].concat());
                assert!(!in_base64(&needle).iter().any(|it| text.contains(it)), "{length}");
            }
        }
    }

    #[test]
    fn the_webs_authorities_count_where_there_is_no_bundle() {
        let trust = |pem: &[&str], configured: Option<&str>| Trust {
            pem: pem.iter().map(|it| it.as_bytes().to_vec()).collect(),
            configured: configured.map(PathBuf::from),
        };
        assert!(trust(&[], None).config().is_ok());
        for pem in [&[][..], &[""], &["no certificate\n"]] {
            let why = trust(pem, Some("/etc/own.pem")).config().unwrap_err();
            assert!(why.contains("no certificate in /etc/own.pem"), "{why}");
        }
        let algorithms = cryptography().signature_verification_algorithms;
        let roots = Verifier { pem: None, algorithms }.roots_for(&[]);
        assert_eq!(roots.len(), webpki_roots::TLS_SERVER_ROOTS.len());
    }
}
