//! Whom the courier believes: chains and bundles, with the verdict of rustls's stock verifier; where they are.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, GeneralSubtree, IsCa, KeyPair, NameConstraints,
    SanType, date_time_ymd,
};
use rustls::client::{WebPkiServerVerifier, danger::ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::harness::*;
use crate::network::{answer, listen};

const SENT: &str = "sent one install record of ";
const UNKNOWN: &str = "(tls: invalid peer certificate: UnknownIssuer)";
const NONE: &str = "(tls: no certificate authority in /";

type Issued = CertifiedIssuer<'static, KeyPair>;
type Change = fn(&mut CertificateParams);

/// A certificate, signed by `above` or by itself: an authority's, or one for localhost.
fn issued(above: Option<&Issued>, name: &str, key: KeyPair, is_authority: bool, change: Change) -> Issued {
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, name);
    if is_authority {
        params.subject_alt_names.clear();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    change(&mut params);
    match above {
        Some(above) => CertifiedIssuer::signed_by(params, key, above).expect("a certificate"),
        None => CertifiedIssuer::self_signed(params, key).expect("a certificate"),
    }
}

/// What a server shows, its own certificate first, and the key of that.
type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn shown(own: &Issued, more: &[&CertificateDer<'static>]) -> Chain {
    let key = PrivateKeyDer::try_from(own.key().serialize_der()).expect("a key");
    ([own.der()].iter().chain(more).map(|der| (*der).clone()).collect(), key)
}

/// The words of rustls's own verifier over what rustls-native-certs reads, up to what differs by the second.
fn stock(bundle: &Path, (certificates, _): &Chain, host: &str) -> String {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_certs_from_paths(Some(bundle), None).certs);
    if roots.is_empty() {
        return NONE.to_owned();
    }
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build().expect("a verifier");
    let (name, now) = (ServerName::try_from(host.to_owned()).expect("a name"), UnixTime::now());
    match verifier.verify_server_cert(&certificates[0], &certificates[1..], &name, &[], now) {
        Ok(_) => SENT.to_owned(),
        Err(error) => format!("(tls: {error}").split(": verification time").next().unwrap_or_default().to_owned(),
    }
}

#[test]
fn the_verdict_is_that_of_rustls() {
    let key = || KeyPair::generate().expect("a key");
    let plain: Change = |_| {};
    let past: Change = |it| it.not_after = date_time_ymd(2001, 1, 1);
    let no_ca: Change = |it| it.is_ca = IsCa::ExplicitNoCa;
    let only_others: Change = |it| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("example".to_owned())];
        it.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    };
    let for_address: Change = |it| it.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];

    let root = |name, change| issued(None, name, key(), true, change);
    let below = |above, name, change| issued(Some(above), name, key(), true, change);
    let [main, other, unknown, impostor] = ["Main", "Other", "Unknown", "Main"].map(|name| root(name, plain));
    let shared = key().serialize_der();
    let middle = |above| issued(Some(above), "Middle", KeyPair::try_from(&*shared).expect("a key"), true, plain);
    let (middle, crossed) = (middle(&main), middle(&unknown));
    let lower = below(&middle, "Lower", plain);
    let short = below(&main, "Short", |it| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let too_low = below(&short, "Too low", plain);
    let (past_root, past_middle) = (root("Past", past), below(&main, "Past middle", past));
    let (no_root, no_middle) = (root("None", no_ca), below(&main, "None either", no_ca));
    let only_others = below(&main, "Only others", only_others);
    let itself = issued(None, "Itself", key(), false, plain);
    let junk = CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01]);
    let both = other.pem() + &main.pem();

    let leaf = |above: &Issued, change, more: &[&_]| shown(&issued(Some(above), "Leaf", key(), false, change), more);
    let by = |above: &Issued, more: &[&Issued]| leaf(above, plain, &more.iter().map(|it| it.der()).collect::<Vec<_>>());
    let of_main = || by(&main, &[]);
    let check = |what: &str, bundle: &str, chain: Chain, host: &'static str, verdict: &str| {
        let machine = Machine::new().with("ca.pem", bundle);
        let config = ServerConfig::builder().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(chain.0.clone(), chain.1.clone_key()).expect("a chain"));
        let port = listen(move |tcp| {
            let server = ServerConnection::new(config.clone()).expect("a server");
            answer(StreamOwned::new(server, tcp), &[(0, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")]);
        });
        let run = machine.report(FAMILY, &format!("https://{host}:{port}/"));
        let ended = run.env("SSL_CERT_FILE", machine.path("ca.pem")).run();
        // As written here, and as rustls says.
        for verdict in [verdict, &stock(&machine.path("ca.pem"), &chain, host)] {
            assert!(ended.stderr.contains(verdict), "{what}: '{verdict}' was expected: {ended:?}");
        }
    };
    for (what, chain, verdict) in [
        ("signed by a root", of_main(), SENT),
        ("the root is sent along", by(&main, &[&main]), SENT),
        ("through an intermediate", by(&middle, &[&middle]), SENT),
        ("through two", by(&lower, &[&lower, &middle]), SENT),
        ("through two, in the wrong order", by(&lower, &[&middle, &lower]), SENT),
        ("through one that is not sent", by(&middle, &[]), UNKNOWN),
        ("crossed, the known way last", by(&middle, &[&crossed, &middle]), SENT),
        ("crossed, the known way first", by(&middle, &[&middle, &crossed]), SENT),
        ("crossed, only the unknown way sent", by(&middle, &[&crossed]), UNKNOWN),
        ("with junk behind it", leaf(&main, plain, &[&junk]), SENT),
        ("with an unrelated root behind it", by(&main, &[&unknown]), SENT),
        ("an unknown authority, sent along", by(&unknown, &[&unknown]), UNKNOWN),
        ("through one that is no authority", by(&no_middle, &[&no_middle]), "EndEntityUsedAsCa"),
        ("as deep as the intermediate allows", by(&short, &[&short]), SENT),
        ("deeper than the intermediate allows", by(&too_low, &[&too_low, &short]), "PathLenConstraintViolated"),
        ("through an expired one", by(&past_middle, &[&past_middle]), "certificate expired: "),
        ("for other names only", by(&only_others, &[&only_others]), "NameConstraintViolation"),
        ("for clients", leaf(&main, |it| it.extended_key_usages = vec![ClientAuth], &[]), "extended key usage"),
        ("for servers", leaf(&main, |it| it.extended_key_usages = vec![ServerAuth], &[]), SENT),
        ("an authority itself", shown(&below(&main, "CA", plain), &[]), "CaUsedAsEndEntity"),
    ] {
        check(what, &both, chain, "localhost", verdict);
    }
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    let own_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (what, bundle, chain, verdict) in [
        ("an intermediate that is trusted itself", middle.pem(), by(&middle, &[]), SENT),
        ("crossed, the other root", unknown.pem(), by(&middle, &[&crossed]), SENT),
        ("an authority of the same name", impostor.pem(), of_main(), "BadSignature"),
        ("both of the same name", impostor.pem() + &main.pem(), of_main(), SENT),
        ("by an expired root", past_root.pem(), by(&past_root, &[]), SENT),
        ("by a root that is marked as none", no_root.pem(), by(&no_root, &[]), SENT),
        ("self-signed, and trusted itself", itself.pem(), shown(&itself, &[]), SENT),
        ("twice the same", main.pem() + &main.pem(), of_main(), SENT),
        ("a bundle of Windows", both.replace('\n', "\r\n"), of_main(), SENT),
        ("without a last line end", both.trim_end().to_owned(), of_main(), SENT),
        ("indented", both.replace('\n', "\n  "), of_main(), NONE),
        ("with remarks", format!("# Main\n\nMain\n=====\n{}", main.pem()), of_main(), SENT),
        ("with a key before it", format!("{own_key}{both}"), of_main(), SENT),
        ("after no certificate", format!("{broken}-----END CERTIFICATE-----\n{both}"), of_main(), SENT),
        ("after one without an end", format!("{broken}{both}"), of_main(), SENT),
        ("cut short", main.pem()[..main.pem().len() - 40].to_owned(), of_main(), NONE),
        ("as OpenSSL trusts it", main.pem().replace("CERTIFICATE", "TRUSTED CERTIFICATE"), of_main(), NONE),
        ("an end alone", "-----END CERTIFICATE-----\n".to_owned(), of_main(), NONE),
    ] {
        check(what, &bundle, chain, "localhost", verdict);
    }
    check("for the address", &both, leaf(&main, for_address, &[]), "127.0.0.1", SENT);
    check("for the name, by address", &both, of_main(), "127.0.0.1", "certificate not valid for name \"127.0.0.1\"");
}

/// src/courier/tls.rs has what links lead nowhere.
#[test]
fn the_first_bundle_with_a_certificate_counts_and_the_webs_authorities_where_there_is_no_place_for_any() {
    // The forged certificate names one of the web's authorities as its issuer. Whoever knows that authority sees that the
    // signature is not its own; to everybody else the issuer is unknown.
    let (good, forged) = (Receiver::start(&[]), Receiver::start(&["--cert", "forged"]));
    let none = "(tls: no certificate authority in /etc/ssl/certs/ca-certificates.crt)";
    for (what, receiver, prepare, said) in [
        ("no place at all", &forged, "", "(tls: invalid peer certificate: BadSignature)"),
        ("an empty bundle", &forged, ": >$first", none),
        ("only remarks", &forged, "echo '# none' >$first", none),
        ("a dangling link", &forged, "ln -s /nowhere $first", none),
        ("a directory", &forged, "mkdir $first", none),
        ("a pipe", &forged, "mkfifo $first", none),
        (
            "junk",
            &forged,
            "printf -- '-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n' >$first",
            none,
        ),
        ("too large", &forged, "{ cat $ca; head -c 9000000 /dev/zero | tr '\\0' '\\n'; } >$first", none),
        ("another authority", &forged, "cat $ca >$first", UNKNOWN),
        ("the last, a link that leads nowhere", &forged, "ln -s /nowhere ../cert.pem", "in /etc/ssl/cert.pem)"),
        ("the first", &good, "cat $ca >$first", SENT),
        ("the last", &good, "cat $ca >../cert.pem", SENT),
        ("the last, after an empty one", &good, ": >$first; cat $ca >../cert.pem", SENT),
        ("the last, after a dangling link", &good, "ln -s /x $first; cat $ca >../cert.pem", SENT),
        ("one that only its owner can read", &good, "cat $ca >$first; chmod 600 *", SENT),
        ("a hashed name is no bundle", &good, "cat $ca >5ed36f99.0", UNKNOWN),
    ] {
        // Nothing is in these but what is put there.
        let script = format!(
            "for place in /etc/ssl /etc/pki; do [ ! -d $place ] || mount -t tmpfs none $place || exit 77; done
             mkdir -p /etc/ssl/certs; cd /etc/ssl/certs; first=ca-certificates.crt ca={}; {prepare}
             cd /; exec \"$0\" \"$@\"",
            receiver.ca().display()
        );
        let machine = Machine::new();
        let ended = mounted!(machine.report(FAMILY, &receiver.url("/")), &script);
        assert!(ended.stderr.contains(said), "{what}: {ended:?}");
        ended.expect(0);
    }
    assert_eq!((good.requests().len(), forged.requests().len()), (5, 0));
}

#[test]
fn the_variables_that_name_authorities() {
    let (receiver, other) = (Receiver::start(&[]), Receiver::start(&[]));
    let [ca, others] = [&receiver, &other].map(|receiver| fs::read(receiver.ca()).expect("CA"));
    let files = Machine::of("bare").with("ca.pem", &ca).with("others.pem", others);
    let files = files.with("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let files = files.with("empty.pem", "no certificate\n").with("good/5ed36f99.0", &ca);
    let files = files.with("plus/+ed36f99.+0", &ca).with("plus/ca.pem", &ca);
    let files = files.with("plus/5ed36f99.r0", &ca).with("plus/5ed36f9.0", &ca);
    for (said, rows) in [
        (SENT, "SSL_CERT_FILE=ca.pem|SSL_CERT_FILE=./ca.pem|SSL_CERT_FILE=good SSL_CERT_DIR=good"),
        (SENT, "SSL_CERT_DIR=good|SSL_CERT_DIR=$PWD/good|SSL_CERT_DIR=:nowhere:./good:"),
        ("authority in $PWD/empty.pem)", "SSL_CERT_FILE=$PWD/empty.pem"),
        ("authority in missing.pem)", "SSL_CERT_FILE=missing.pem"),
        ("authority in junk.pem)", "SSL_CERT_FILE=junk.pem"),
        ("authority in good)", "SSL_CERT_FILE=good|CURL_CA_BUNDLE=good"),
        ("authority in .)", "SSL_CERT_DIR=."),
        ("authority in ca.pem)", "SSL_CERT_DIR=ca.pem"),
        ("authority in ca.pem, good)", "SSL_CERT_FILE=good SSL_CERT_DIR=ca.pem"),
        // A directory counts by its hashed names alone.
        ("authority in plus)", "SSL_CERT_DIR=plus"),
        // curl's counts where neither of the others is set. A list without a directory is none.
        (
            SENT,
            "CURL_CA_BUNDLE=ca.pem|CURL_CA_BUNDLE=ca.pem SSL_CERT_DIR=:|CURL_CA_BUNDLE=others.pem SSL_CERT_FILE=ca.pem",
        ),
        ("BadSignature)", "CURL_CA_BUNDLE=ca.pem SSL_CERT_FILE=others.pem"),
        ("authority in nowhere)", "CURL_CA_BUNDLE=ca.pem SSL_CERT_DIR=nowhere"),
    ] {
        for variables in rows.split('|') {
            let (machine, here, before) =
                (Machine::new(), files.root().display().to_string(), receiver.requests().len());
            let [variables, said] = [variables, said].map(|text| text.replace("$PWD", &here));
            let run =
                machine.report(FAMILY, &receiver.url("/")).under(["env", "-C", &here]).under(variables.split(' '));
            run.run().expect(0).says(&said);
            let found = (machine.pending().is_empty(), receiver.requests().len() - before);
            assert_eq!(found, (said == SENT, usize::from(said == SENT)), "{variables}");
        }
    }
    // Where nothing needs it, it may be anything.
    let (machine, plain) = (Machine::new(), Receiver::start(&["--plain"]));
    let run = machine.send(&plain, "/", FAMILY).env("SSL_CERT_FILE", "/nonexistent");
    run.env("ALL_PROXY", "socks5://127.0.0.1:1").run().sent();
}
