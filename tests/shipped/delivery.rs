//! Servers that do not answer, answer something else or are not to be trusted; proxies; redirects (item 8).

use std::fs;
use std::io::Write;

use crate::harness::{ClosedPort, Ended, FAMILY, Machine, Receiver, Run, STATE, offline, tool, wait_until};
use crate::skip;

/// Longer than the budget by more than this is late: 0.3 s are promised on a quiet machine, and this is none.
const PATIENCE: f64 = 1.5;

fn report(machine: &Machine, url: &str, seconds: f64) -> Run {
    machine.run(["send", "-f", FAMILY, "-v", "1", "--verbose", "-u", url]).args([
        "-c",
        "20",
        "-t",
        &seconds.to_string(),
    ])
}

/// Checks a delivery that failed: exit 0 in time, with the time printed, and the record waits under its ID.
#[track_caller]
fn assert_waits(what: &str, machine: &Machine, ended: &Ended, seconds: f64) -> String {
    let took = ended.time.as_secs_f64();
    let _ = writeln!(std::io::stderr(), "     {what}: {took:.2} s of {seconds:.1} s");
    assert_eq!(ended.status, Some(0), "{what}: {ended:?}");
    assert!(took < seconds + PATIENCE, "{what}: {took} s of {seconds} s");
    assert!(ended.stderr.contains("install record pending"), "{what}: {ended:?}");
    let pending = machine.pending();
    assert_eq!((pending.len(), machine.receipts().len()), (1, 0), "{what}");
    assert_eq!(machine.identity(), Some(format!("instanceId:{}\n", machine.instance_id())), "{what}");
    pending[0]["id"].as_str().expect("an ID").to_owned()
}

/// The next run delivers what waits, under the same ID.
#[track_caller]
fn assert_delivered_next(what: &str, machine: &Machine, receiver: &Receiver, id: &str) {
    let next = report(machine, &receiver.url("/"), 20.0).env("SSL_CERT_FILE", receiver.ca());
    next.run().sent();
    let requests = receiver.requests();
    let body: serde_json::Value = serde_json::from_slice(&receiver.body(requests.len())).expect("JSON");
    assert_eq!(body["reports"][0]["id"], id, "{what}");
    assert_eq!((machine.pending().len(), machine.receipts().len()), (0, 1), "{what}");
}

#[test]
fn servers_that_refuse_or_say_nothing() {
    for fault in ["refused", "stall-accept", "stall-handshake", "close-accept", "reset-handshake"] {
        let (machine, closed) = (Machine::new(), ClosedPort::new());
        let port = closed.port;
        let far_end: (Option<ClosedPort>, Option<Receiver>) = match fault {
            "refused" => (Some(closed), None),
            _ => (None, Some(closed.open(&["--fault", fault]))),
        };
        let run = report(&machine, &format!("https://127.0.0.1:{port}/x"), 1.0);
        let id = assert_waits(fault, &machine, &run.run(), 1.0);
        drop(far_end);
        let receiver = Receiver::start(&["--port", &port.to_string()]);
        assert_delivered_next(fault, &machine, &receiver, &id);
    }
}

#[test]
fn servers_that_answer_badly_or_never_to_the_end() {
    let receiver = Receiver::start(&[]);
    for path in ["/stall", "/drip", "/endless-headers", "/garbage", "/close", "/reset", "/slow?ms=60000"] {
        let machine = Machine::new();
        let run = report(&machine, &receiver.url(path), 1.0).env("SSL_CERT_FILE", receiver.ca());
        let id = assert_waits(path, &machine, &run.run(), 1.0);
        // The server recovers: what it does hangs on the path, and the record goes where it was meant to go.
        let directory = machine.path(STATE).join("pending");
        for file in fs::read_dir(directory).expect("pending").flatten() {
            let text = fs::read_to_string(file.path()).expect("pending");
            fs::write(file.path(), text.replace(path, "/recovered")).expect("pending");
        }
        assert_delivered_next(path, &machine, &receiver, &id);
    }
    // The status is the answer, whatever becomes of what follows it.
    for path in ["/endless-body", "/continue"] {
        let machine = Machine::new();
        let ended = report(&machine, &receiver.url(path), 3.0).env("SSL_CERT_FILE", receiver.ca()).run().sent();
        assert!(ended.time.as_secs_f64() < 3.0 + PATIENCE, "{path}: {ended:?}");
        assert_eq!(machine.pending().len(), 0);
    }
}

#[test]
fn a_ledger_that_others_hold_delays_only_what_was_answered() {
    let receiver = Receiver::start(&["--fault", "stall-accept"]);
    let machine = Machine::new();
    let running = report(&machine, &receiver.url("/"), 1.0).spawn();
    wait_until("the courier has connected", || receiver.connections() == 1);
    let lock = fs::File::open(machine.path(STATE)).expect("the state directory");
    lock.lock().expect("flock");
    let ended = running.wait();
    assert_waits("a held ledger", &machine, &ended, 1.0);
    assert!(!ended.stderr.contains("other runs were busy"), "{ended:?}");
}

#[test]
fn dead_dns() {
    let Some(namespaces) = offline("m") else { skip!("needs a mount namespace and one without a network") };
    // Refused: nobody has the name server's port; mute: somebody has it and never answers.
    let mute =
        "$^F = 9; socket(S, PF_INET, SOCK_DGRAM, 0); bind(S, sockaddr_in(53, INADDR_LOOPBACK)) or exit 77; exec @ARGV";
    for (kind, under) in [("refused", String::new()), ("mute", format!("perl -MSocket -e '{mute}'"))] {
        if kind == "mute" && tool(&["perl", "-MSocket", "-e", "1"]).is_none() {
            skip!("needs perl for a mute name server")
        }
        let (machine, closed) = (Machine::new(), ClosedPort::new());
        let machine = machine.with("resolv.conf", "nameserver 127.0.0.1\n").with("hosts", "");
        let script = format!(
            "ip link set lo up && mount --bind {root}/hosts /etc/hosts && \
             mount --bind {root}/resolv.conf /etc/resolv.conf || exit 77; exec {under} \"$0\" \"$@\"",
            root = machine.root().display()
        );
        let run = report(&machine, &format!("https://localhost:{}/x", closed.port), 1.0);
        let ended = run.under(&namespaces).under(["sh", "-c", &script]).run();
        if ended.status == Some(77) {
            skip!("needs to mount and to set an interface up in namespaces: {}", ended.stderr.trim())
        }
        let id = assert_waits(&format!("dead DNS, {kind}"), &machine, &ended, 1.0);
        assert!(ended.stderr.contains("resolve"), "{ended:?}");
        assert_delivered_next(kind, &machine, &closed.open(&[]), &id);
    }
}

#[test]
fn strict_fails_only_what_was_not_delivered() {
    let (receiver, closed) = (Receiver::start(&[]), ClosedPort::new());
    let machine = Machine::new();
    let refused = format!("https://127.0.0.1:{}/", closed.port);
    let run = || report(&machine, &refused, 5.0).args(["--strict"]);
    run().run().expect(1);
    machine.run(["flush", "--strict"]).run().expect(1);
    run().env("DO_NOT_TRACK", "1").run().expect(0);
    let receiver_again = closed.open(&[]);
    run().env("SSL_CERT_FILE", receiver_again.ca()).run().sent();
    run().run().expect(0);
    // Refused for good is not delivered either.
    let machine = Machine::new();
    machine.send(&receiver, "/status/400", FAMILY).args(["--strict"]).run().expect(1);
}

#[test]
fn what_each_answer_means() {
    #[derive(Debug, PartialEq)]
    enum Meaning {
        Delivered,
        Pending,
        Refused,
    }
    use Meaning::{Delivered, Pending, Refused};
    let receiver = Receiver::start(&[]);
    for (path, meaning) in [
        ("/204", Delivered),
        ("/status/200", Delivered),
        ("/status/202", Delivered),
        ("/status/400", Refused),
        ("/status/401", Refused),
        ("/status/404", Refused),
        ("/status/413", Refused),
        ("/status/408", Pending),
        ("/status/425", Pending),
        ("/status/429?retry-after=1", Pending),
        ("/status/500", Pending),
        ("/status/503", Pending),
        ("/status/304", Pending),
        ("/redirect/301?to=/moved", Pending),
        ("/redirect/302?to=/moved", Pending),
        ("/redirect/303?to=/moved", Pending),
    ] {
        let machine = Machine::new();
        machine.send(&receiver, path, FAMILY).run().expect(0);
        let is_marked = machine.identity().is_some_and(|text| text.contains(&format!("{FAMILY}:1")));
        let found = match (is_marked, machine.pending().len()) {
            (true, 0) => Delivered,
            (false, 1) => Pending,
            (false, 0) => Refused,
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(found, meaning, "{path}");
        let accepted: Vec<bool> = machine.receipts().iter().map(|it| it["answer"]["accepted"] == true).collect();
        match meaning {
            Delivered => assert_eq!(accepted, [true], "{path}"),
            Pending => assert!(accepted.is_empty(), "{path}"),
            // A receipt that says so may be kept.
            Refused => assert!(!accepted.contains(&true), "{path}"),
        }
        // A refused record is not sent again with the ones that wait.
        if meaning == Refused {
            let requests = receiver.requests().len();
            machine.run(["flush"]).env("SSL_CERT_FILE", receiver.ca()).run().silent();
            assert_eq!(receiver.requests().len(), requests, "{path}");
        }
    }
    assert!(receiver.requests().iter().all(|request| request["path"] != "/moved"));
}

#[test]
fn no_redirect_is_followed() {
    let (receiver, elsewhere) = (Receiver::start(&[]), Receiver::start(&[]));
    for status in ["301", "302", "303", "307", "308"] {
        for (to, said) in [
            ("/final".to_owned(), "and points to /final)"),
            // That may be a password.
            ("/user:s3cret@final".to_owned(), "and points to another place)"),
            (elsewhere.url("/x"), &*format!("and points to {})", elsewhere.url("/x"))),
        ] {
            let machine = Machine::new();
            let before = receiver.requests().len();
            let ended = machine.send(&receiver, &format!("/redirect/{status}?to={to}"), FAMILY).run().expect(0);
            assert!(ended.stderr.contains(&format!("(receive: 127.0.0.1 answered {status} {said}")), "{ended:?}");
            assert_eq!((machine.pending().len(), receiver.requests().len() - before), (1, 1), "{status} {to}");
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn proxies() {
    let (receiver, proxy) = (Receiver::start(&[]), Receiver::start(&["--proxy"]));
    let send = |machine: &Machine| machine.send(&receiver, "/", FAMILY).args(["--verbose"]);
    let target = format!("127.0.0.1:{}", receiver.port());
    for (used, variable) in ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"].into_iter().enumerate() {
        send(&Machine::new()).env(variable, proxy.url("")).run().sent();
        let requests = proxy.requests();
        assert_eq!((requests.len(), &requests[used]["path"]), (used + 1, &target.clone().into()), "{variable}");
    }
    let used = proxy.connections();
    // Not for what NO_PROXY names, not by the variable of plain http, and never on the way to plain http.
    for exempt in ["127.0.0.1", "example.com,127.0.0.1", "*"] {
        for name in ["NO_PROXY", "no_proxy"] {
            send(&Machine::new()).env("HTTPS_PROXY", proxy.url("")).env(name, exempt).run().sent();
        }
    }
    send(&Machine::new()).env("http_proxy", proxy.url("")).env("HTTP_PROXY", proxy.url("")).run().sent();
    assert_eq!(proxy.connections(), used);
    send(&Machine::new()).env("HTTPS_PROXY", proxy.url("")).env("NO_PROXY", "example.com").run().sent();
    assert_eq!(proxy.connections(), used + 1);

    // A proxy that cannot be used is not gone round.
    let (dead, seen) = (ClosedPort::new(), receiver.connections());
    for (value, named) in [
        (format!("socks5://127.0.0.1:{}", proxy.port()), "socks5://"),
        (format!("socks5h://127.0.0.1:{}", proxy.port()), "socks5h://"),
        (format!("http://127.0.0.1:{}", dead.port), "refused"),
        ("http://".to_owned(), "HTTPS_PROXY"),
    ] {
        let machine = Machine::new();
        let ended = send(&machine).env("HTTPS_PROXY", &value).run().expect(0);
        assert!(ended.stderr.contains(named), "{value}: {ended:?}");
        assert_eq!(machine.pending().len(), 1, "{value}");
    }
    assert_eq!(receiver.connections(), seen);
}

#[test]
fn a_proxy_password_is_sent_to_the_proxy_and_shown_to_nobody() {
    let (receiver, proxy) = (Receiver::start(&[]), Receiver::start(&["--proxy"]));
    let machine = Machine::new();
    let with_password = format!("http://user:hunter2@127.0.0.1:{}", proxy.port());
    let run = machine.send(&receiver, "/", FAMILY).args(["--verbose"]).env("HTTPS_PROXY", with_password);
    let ended = run.run().sent();
    assert_eq!(
        proxy.requests()[0]["headers"]["proxy-authorization"],
        "basic dXNlcjpodW50ZXIy".replace("basic", "Basic")
    );
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    assert!(receiver.requests()[0]["headers"].as_object().is_some_and(|it| !it.contains_key("proxy-authorization")));
    assert!(!machine.receipts()[0].to_string().contains("hunter2"));
}

#[test]
fn plain_http_to_loopback_goes_past_proxies() {
    let (receiver, proxy) = (Receiver::start(&["--plain"]), Receiver::start(&["--proxy"]));
    for host in ["127.0.0.1", "localhost"] {
        let url = receiver.url("/").replace("127.0.0.1", host);
        let machine = Machine::new();
        let run = machine.run(["-f", FAMILY, "-v", "1", "-t", "20", "-c", "20", "-u", &url]);
        run.env("HTTPS_PROXY", proxy.url("")).env("ALL_PROXY", proxy.url("")).run().sent();
    }
    assert_eq!((receiver.requests().len(), proxy.connections()), (2, 0));
}

#[test]
fn certificates_that_are_not_to_be_trusted() {
    for kind in ["unknown-ca", "expired", "future", "wrong-host", "self-signed"] {
        let (machine, receiver) = (Machine::new(), Receiver::start(&["--cert", kind]));
        let run = report(&machine, &receiver.url("/"), 20.0).env("SSL_CERT_FILE", receiver.ca());
        let ended = run.run();
        assert_waits(kind, &machine, &ended, 20.0);
        assert!(ended.stderr.contains("certificate"), "{kind}: {ended:?}");
        assert_eq!(receiver.requests().len(), 0, "{kind}");
    }
    // Without the test's own authority, the system's or the web's count.
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    let ended = report(&machine, &receiver.url("/"), 20.0).run();
    assert_waits("the system's authorities", &machine, &ended, 20.0);
    assert_eq!(receiver.requests().len(), 0);
}

#[test]
fn both_versions_of_tls_and_no_older_one() {
    for version in ["1.2", "1.3", "1.1"] {
        let (machine, receiver) = (Machine::new(), Receiver::start(&["--tls", version]));
        machine.send(&receiver, "/", FAMILY).run().expect(0);
        assert_eq!(machine.pending().is_empty(), version != "1.1", "{version}");
    }
}

#[test]
fn configured_certificates_are_the_only_ones() {
    let (receiver, empty) = (Receiver::start(&[]), Machine::bare().with("empty.pem", "no certificate\n"));
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let empty = empty.with("junk.pem", junk);
    let url = receiver.url("/");
    for (variable, path) in [
        ("SSL_CERT_FILE", empty.path("empty.pem")),
        ("SSL_CERT_FILE", empty.path("missing.pem")),
        ("SSL_CERT_FILE", empty.path("junk.pem")),
        ("SSL_CERT_DIR", empty.root().to_owned()),
    ] {
        let machine = Machine::new();
        let ended = report(&machine, &url, 20.0).env(variable, &path).run();
        assert_waits(variable, &machine, &ended, 20.0);
        assert!(ended.stderr.contains("(tls: no certificate authority in"), "{ended:?}");
        assert!(ended.stderr.contains(path.to_str().expect("UTF-8")), "{ended:?}");
    }
    assert_eq!(receiver.connections(), 0);
    // A directory counts by its hashed names alone, and may be one of several.
    let ca = fs::read(receiver.ca()).expect("CA");
    let hashed = Machine::bare().with("5ed36f99.0", &ca);
    for (names, is_delivered) in [(&["5ed36f99.0"][..], true), (&["ca.pem", "5ed36f99.r0", "5ed36f9.0"], false)] {
        let directory = names.iter().fold(Machine::bare(), |directory, name| directory.with(name, &ca));
        let machine = Machine::new();
        report(&machine, &url, 20.0).env("SSL_CERT_DIR", directory.root()).run().expect(0);
        assert_eq!(machine.pending().is_empty(), is_delivered, "{names:?}");
    }
    let list = format!("/nonexistent:{}:{}", empty.root().display(), hashed.root().display());
    report(&Machine::new(), &url, 20.0).env("SSL_CERT_DIR", list).run().sent();
    // One bad certificate of many spoils nothing.
    let mut mixed = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
    mixed.extend(fs::read(receiver.ca()).expect("CA"));
    let mixed = Machine::bare().with("mixed.pem", mixed);
    report(&Machine::new(), &url, 20.0).env("SSL_CERT_FILE", mixed.path("mixed.pem")).run().sent();
}
