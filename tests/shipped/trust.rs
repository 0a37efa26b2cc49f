//! Whom the courier believes: chains and bundles of many shapes, each against a real server and against the verdict of
//! rustls's own verifier over what rustls-native-certs reads. There is no difference in either direction. And when the
//! web's compiled-in authorities are asked: only where the system has no place for authorities at all.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, NameConstraints, SigningKey, date_time_ymd,
};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::harness::{Ended, FAMILY, Machine, Receiver, is_root, tool};
use crate::skip;

type Change = fn(&mut CertificateParams);

/// An authority: what signs with its key, and its certificate.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

fn authority(above: Option<&Authority>, name: &str, key: KeyPair, change: Change) -> Authority {
    let mut params = CertificateParams::new([]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    let certificate = signed(&params, &key, above.map(|above| &above.issuer));
    Authority { issuer: Issuer::new(params, key), pem: certificate.pem(), der: certificate.into() }
}

fn signed(params: &CertificateParams, key: &KeyPair, by: Option<&Issuer<'_, impl SigningKey>>) -> rcgen::Certificate {
    by.map_or_else(|| params.self_signed(key), |by| params.signed_by(key, by)).expect("a certificate")
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn root(name: &str, change: Change) -> Authority {
    authority(None, name, key(), change)
}

/// What a server shows: its own certificate first, with its key.
struct Chain(Vec<CertificateDer<'static>>, KeyPair);

fn leaf(above: Option<&Authority>, more: &[&CertificateDer<'static>], change: Change) -> Chain {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    change(&mut params);
    let key = key();
    let own = signed(&params, &key, above.map(|above| &above.issuer));
    let more = more.iter().map(|der| (*der).clone());
    Chain([own.into()].into_iter().chain(more).collect(), key)
}

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Serves one connection with that chain, whether it fits together or not; its port.
fn serve(chain: &Chain) -> u16 {
    let key = PrivateKeyDer::try_from(chain.1.serialize_der()).expect("a key");
    let key = any_supported_type(&key).expect("a key");
    let config =
        ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let shows = Arc::new(Shows(Arc::new(CertifiedKey::new(chain.0.clone(), key))));
    let config = Arc::new(config.expect("versions").with_no_client_auth().with_cert_resolver(shows));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        let (tcp, _) = listener.accept().expect("a client");
        let mut stream = StreamOwned::new(ServerConnection::new(config).expect("a server"), tcp);
        let mut heard = Vec::new();
        let mut piece = [0; 4096];
        // The record's last characters.
        while !heard.ends_with(b"]}]}") {
            match stream.read(&mut piece) {
                Ok(count @ 1..) => heard.extend_from_slice(&piece[..count]),
                _ => return,
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        let _ = stream.flush();
        let _ = stream.read(&mut piece);
    });
    port
}

/// The stock verdict: rustls's verifier over what rustls-native-certs reads; an empty text: good.
fn stock(bundle: &Path, chain: &Chain, host: &str) -> String {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_certs_from_paths(Some(bundle), None).certs);
    if roots.is_empty() {
        return "no certificate authority in".to_owned();
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).build();
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let (now, verifier): (_, Arc<dyn rustls::client::danger::ServerCertVerifier>) =
        (UnixTime::now(), verifier.expect("a verifier"));
    let error = verifier.verify_server_cert(&chain.0[0], &chain.0[1..], &name, &[], now).err();
    // Up to what differs by the second.
    let text = error.map(|error| error.to_string()).unwrap_or_default();
    text.split(": verification time").next().unwrap_or_default().to_owned()
}

#[test]
fn the_verdict_is_that_of_rustls() {
    let plain: Change = |_| {};
    let (main, other, unknown, impostor) =
        (root("Main", plain), root("Other", plain), root("Unknown", plain), root("Main", plain));
    let shared = key().serialize_der();
    let again = || KeyPair::try_from(&*shared).expect("a key");
    let middle = authority(Some(&main), "Middle", again(), plain);
    let crossed = authority(Some(&unknown), "Middle", again(), plain);
    let lower = authority(Some(&middle), "Lower", key(), plain);
    let short = root("Short", |it| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below_short = authority(Some(&short), "Below", key(), plain);
    let below_below_short = authority(Some(&below_short), "Below below", key(), plain);
    let no_authority = authority(Some(&main), "No authority", key(), |it| it.is_ca = IsCa::ExplicitNoCa);
    let past =
        root("Past", |it| (it.not_before, it.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)));
    let past_middle = authority(Some(&main), "Past middle", key(), |it| {
        (it.not_before, it.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
    });
    let no_ca = root("No CA", |it| it.is_ca = IsCa::ExplicitNoCa);
    let only_others = authority(Some(&main), "Only others", key(), |it| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("example".to_owned())];
        it.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    let not_here = authority(Some(&main), "Not here", key(), |it| {
        let excluded_subtrees = vec![GeneralSubtree::IpAddress(CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0]))];
        it.name_constraints = Some(NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees });
    });
    let for_address: Change = |it| it.subject_alt_names = vec![rcgen::SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
    let self_signed = leaf(None, &[], plain);
    let junk = CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01]);
    let both = [&*other.pem, &main.pem].concat();
    let good = || leaf(Some(&main), &[], plain);
    let host = "localhost";
    let mut shapes: Vec<(&str, String, Chain, &str, bool)> = vec![
        ("signed by a root", both.clone(), good(), host, true),
        ("the root is sent along", both.clone(), leaf(Some(&main), &[&main.der], plain), host, true),
        ("through an intermediate", both.clone(), leaf(Some(&middle), &[&middle.der], plain), host, true),
        ("through two", both.clone(), leaf(Some(&lower), &[&lower.der, &middle.der], plain), host, true),
        (
            "through two, in the wrong order",
            both.clone(),
            leaf(Some(&lower), &[&middle.der, &lower.der], plain),
            host,
            true,
        ),
        ("through one that is not sent", both.clone(), leaf(Some(&middle), &[], plain), host, false),
        ("through one that is trusted itself", middle.pem.clone(), leaf(Some(&middle), &[], plain), host, true),
        (
            "crossed, the known way last",
            both.clone(),
            leaf(Some(&middle), &[&crossed.der, &middle.der], plain),
            host,
            true,
        ),
        (
            "crossed, the known way first",
            both.clone(),
            leaf(Some(&middle), &[&middle.der, &crossed.der], plain),
            host,
            true,
        ),
        ("crossed, only the unknown way sent", both.clone(), leaf(Some(&middle), &[&crossed.der], plain), host, false),
        ("crossed, the other root", unknown.pem.clone(), leaf(Some(&middle), &[&crossed.der], plain), host, true),
        ("with junk behind it", both.clone(), leaf(Some(&main), &[&junk], plain), host, true),
        ("with an unrelated root behind it", both.clone(), leaf(Some(&main), &[&unknown.der], plain), host, true),
        ("an unknown authority", other.pem.clone(), good(), host, false),
        ("an unknown authority, sent along", other.pem.clone(), leaf(Some(&main), &[&main.der], plain), host, false),
        ("an authority of the same name", impostor.pem.clone(), good(), host, false),
        ("both of the same name", [&*impostor.pem, &main.pem].concat(), good(), host, true),
        ("junk", both.clone(), Chain(vec![junk.clone()], key()), host, false),
        ("self-signed", both.clone(), leaf(None, &[], plain), host, false),
        ("the authority's own", both.clone(), Chain(vec![main.der.clone()], key()), host, false),
        (
            "through one that is no authority",
            both.clone(),
            leaf(Some(&no_authority), &[&no_authority.der], plain),
            host,
            false,
        ),
        (
            "as deep as the root allows",
            short.pem.clone(),
            leaf(Some(&below_short), &[&below_short.der], plain),
            host,
            true,
        ),
        (
            "deeper than the intermediate allows",
            both.clone(),
            leaf(Some(&below_below_short), &[&below_below_short.der, &below_short.der], plain),
            host,
            false,
        ),
        ("by an expired root", past.pem.clone(), leaf(Some(&past), &[], plain), host, true),
        ("by a root that is marked as none", no_ca.pem.clone(), leaf(Some(&no_ca), &[], plain), host, true),
        ("through an expired one", both.clone(), leaf(Some(&past_middle), &[&past_middle.der], plain), host, false),
        ("for other names only", both.clone(), leaf(Some(&only_others), &[&only_others.der], plain), host, false),
        (
            "not for this network",
            both.clone(),
            leaf(Some(&not_here), &[&not_here.der], for_address),
            "127.0.0.1",
            false,
        ),
        ("for the address", both.clone(), leaf(Some(&main), &[], for_address), "127.0.0.1", true),
        ("for the name, by address", both.clone(), good(), "127.0.0.1", false),
    ];
    for (what, change, is_good) in [
        ("another host", (|it| it.subject_alt_names.clear()) as Change, false),
        ("expired", |it| (it.not_before, it.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)), false),
        ("not yet valid", |it| it.not_before = date_time_ymd(4000, 1, 1), false),
        ("for servers", |it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth], true),
        ("for clients only", |it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth], false),
        ("an authority itself", |it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), false),
    ] {
        shapes.push((what, both.clone(), leaf(Some(&main), &[], change), host, is_good));
    }
    let own = pem_of(&self_signed.0[0]);
    shapes.push(("self-signed, and trusted itself", own, self_signed, host, true));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    for (what, bundle, is_good) in [
        ("a bundle of Windows", both.replace('\n', "\r\n"), true),
        ("without a last line end", both.trim_end().to_owned(), true),
        ("indented", both.replace('\n', "\n  "), false),
        ("with remarks", format!("# Main\n\nMain\n=====\n{}", main.pem), true),
        ("with a key before it", format!("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n{both}"), true),
        ("twice the same", [&*main.pem, &main.pem].concat(), true),
        ("after one that is no certificate", format!("{broken}-----END CERTIFICATE-----\n{both}"), true),
        ("after one without an end", format!("{broken}{both}"), true),
        ("cut short", main.pem[..main.pem.len() - 40].to_owned(), false),
        ("trusted as OpenSSL says it", main.pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), false),
        ("an end alone", "-----END CERTIFICATE-----\n".to_owned(), false),
    ] {
        shapes.push((what, bundle, good(), host, is_good));
    }
    assert!(shapes.len() >= 40, "{}", shapes.len());
    let mut wrong = Vec::new();
    for (what, bundle, chain, host, is_good) in &shapes {
        let machine = Machine::new().with("ca.pem", bundle);
        let verdict = stock(&machine.path("ca.pem"), chain, host);
        let url = format!("https://{host}:{}/", serve(chain));
        let run = machine.run(["send", "-f", FAMILY, "-v", "1", "-u", &url, "-c", "20", "-t", "20"]);
        let ended = run.env("SSL_CERT_FILE", machine.path("ca.pem")).run();
        let is_delivered = ended.stderr.contains("sent one install record");
        let is_same =
            if verdict.is_empty() { is_delivered } else { ended.stderr.contains(&format!("(tls: {verdict}")) };
        if !is_same {
            wrong.push(format!("{what}: rustls says '{verdict}', and it was: {}", ended.stderr.trim()));
        }
        if verdict.is_empty() != *is_good {
            wrong.push(format!("{what}: rustls says '{verdict}', which is not what the table expects"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("     {} shapes", shapes.len());
}

fn pem_of(der: &CertificateDer<'_>) -> String {
    let lines: Vec<String> = base64(der).as_bytes().chunks(64).map(|it| String::from_utf8_lossy(it).into()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Base64 (RFC 4648, 4), by hand, as no crate of the tests does it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let number = group.iter().chain([0; 2].iter()).take(3).fold(0, |n, byte| n << 8 | usize::from(*byte));
        let digit = move |at: usize| DIGITS[number >> (18 - 6 * at) & 63] as char;
        let count = group.len() + 1;
        (0..4).map(move |at| if at < count { digit(at) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// Runs a report to `receiver` in a mount namespace of its own, in which /etc/ssl and /etc/pki are empty but for what
/// `prepare` puts there; `None`: impossible here.
fn with_places(machine: &Machine, receiver: &Receiver, prepare: &str) -> Option<Ended> {
    let script = format!(
        "for place in /etc/ssl /etc/pki; do [ ! -d $place ] || mount -t tmpfs none $place || exit 77; done
         mkdir -p /etc/ssl/certs; cd /etc/ssl/certs; ca={}; {prepare}
         cd /; exec \"$0\" \"$@\"",
        receiver.ca().display()
    );
    let usable = |flag: &&str| tool(&["unshare", flag, "sh", "-c", "mount -t tmpfs none /etc/ssl"]).is_some();
    let flag = ["-m", "-rm"].into_iter().find(usable)?;
    let run = machine.run(["send", "-f", FAMILY, "-v", "1", "-u", &receiver.url("/"), "-c", "20", "-t", "20"]);
    Some(run.under(["unshare", flag, "sh", "-c", &script]).run().expect(0))
}

#[test]
fn the_webs_authorities_count_only_where_there_is_no_place_for_any() {
    // Its certificate names one of the web's authorities as its issuer. Whoever knows that authority sees that the
    // signature is not its own; to everybody else the issuer is unknown.
    let forged = Receiver::start(&["--cert", "forged"]);
    let bundle = "(tls: no certificate authority in /etc/ssl/certs/ca-certificates.crt)";
    for (what, prepare, said) in [
        ("no place at all", "", "(tls: invalid peer certificate: BadSignature)"),
        ("an empty bundle", ": >ca-certificates.crt", bundle),
        ("only remarks", "echo '# none' >ca-certificates.crt", bundle),
        ("a dangling link", "ln -s /nowhere ca-certificates.crt", bundle),
        ("a link to itself", "ln -s ca-certificates.crt ca-certificates.crt", bundle),
        ("a directory", "mkdir ca-certificates.crt", bundle),
        ("a pipe", "mkfifo ca-certificates.crt", bundle),
        (
            "junk",
            "printf -- '-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n' >ca-certificates.crt",
            bundle,
        ),
        ("too large", "{ cat $ca; head -c 9000000 /dev/zero | tr '\\0' '\\n'; } >ca-certificates.crt", bundle),
        ("another authority", "cat $ca >ca-certificates.crt", "(tls: invalid peer certificate: UnknownIssuer)"),
        ("a link that leads nowhere, later in the list", "ln -s /nowhere ../cert.pem", "in /etc/ssl/cert.pem)"),
    ] {
        let machine = Machine::new();
        let Some(ended) = with_places(&machine, &forged, prepare) else { skip!("needs to mount in a namespace") };
        assert!(ended.stderr.contains(said), "{what}: {ended:?}");
        assert_eq!(machine.pending().len(), 1, "{what}");
    }
    assert_eq!(forged.requests().len(), 0);
}

#[test]
fn the_first_bundle_with_a_certificate_counts() {
    let receiver = Receiver::start(&[]);
    let own = "chown 0:0 ca-certificates.crt && chmod 0600 ca-certificates.crt";
    for (what, prepare, is_delivered) in [
        ("the first", "cat $ca >ca-certificates.crt".to_owned(), true),
        ("the last", "cat $ca >../cert.pem".to_owned(), true),
        ("the last, after an empty one", ": >ca-certificates.crt; cat $ca >../cert.pem".to_owned(), true),
        ("the last, after a dangling link", "ln -s /x ca-certificates.crt; cat $ca >../cert.pem".to_owned(), true),
        ("one that only root can read", format!("cat $ca >ca-certificates.crt; {own}"), true),
        ("the authority is in no bundle", "cat $ca >5ed36f99.0".to_owned(), false),
    ] {
        if what.contains("only root") && !is_root() {
            continue;
        }
        let machine = Machine::new();
        let Some(ended) = with_places(&machine, &receiver, &prepare) else { skip!("needs to mount in a namespace") };
        assert_eq!(machine.pending().is_empty(), is_delivered, "{what}: {ended:?}");
    }
}

#[test]
fn curls_variable_counts_where_neither_of_the_others_is_set() {
    let (receiver, other) = (Receiver::start(&[]), Receiver::start(&[]));
    let url = receiver.url("/");
    for (variables, is_delivered) in [
        (&[("CURL_CA_BUNDLE", receiver.ca())][..], true),
        (&[("CURL_CA_BUNDLE", receiver.ca()), ("SSL_CERT_FILE", other.ca())], false),
        (&[("CURL_CA_BUNDLE", receiver.ca()), ("SSL_CERT_DIR", "/nonexistent".into())], false),
        (&[("CURL_CA_BUNDLE", other.ca()), ("SSL_CERT_FILE", receiver.ca())], true),
        (&[("CURL_CA_BUNDLE", "/nonexistent".into())], false),
    ] {
        let machine = Machine::new();
        let run = machine.run(["send", "-f", FAMILY, "-v", "1", "-u", &url, "-c", "20", "-t", "20"]);
        let run = variables.iter().fold(run, |run, (name, value)| run.env(name, value));
        let ended = run.run().expect(0);
        assert_eq!(machine.pending().is_empty(), is_delivered, "{variables:?}: {ended:?}");
    }
    // Where nothing needs it, it may be anything.
    let plain = Receiver::start(&["--plain"]);
    let machine = Machine::new();
    let run = machine.send(&plain, "/", FAMILY).env("SSL_CERT_FILE", "/nonexistent");
    run.env("ALL_PROXY", "socks5://127.0.0.1:1").run().sent();
    assert!(fs::exists(receiver.ca()).expect("CA") && CertificateDer::from_pem_file(receiver.ca()).is_ok());
}
