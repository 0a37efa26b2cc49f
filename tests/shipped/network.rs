//! Proxies, and connections that are kept. What a network can do wrong is in tests/faults.

use std::fs;

use crate::harness::{ClosedPort, FAMILY, Machine, Receiver, walk};

#[test]
fn the_phases_in_their_order() {
    let (target, proxy) = (Receiver::start(&[]), Receiver::start(&["--proxy"]));
    for (proxy, expected) in
        [(String::new(), "resolve connect tls send receive"), (proxy.url(""), "proxy tls send receive")]
    {
        let machine = Machine::new();
        let ended = machine.send(&target, "/", FAMILY).args(["--verbose"]).env("HTTPS_PROXY", proxy).run().sent();
        let phases = ended.stderr.lines().filter_map(|line| line.split("courier: ").nth(1));
        let phases: Vec<&str> = phases.filter(|phase| !phase.contains(':')).collect();
        assert_eq!(phases.join(" "), expected, "{ended:?}");
    }
}

#[test]
fn proxies_as_curl_understands_them() {
    let (target, proxy, closed) = (Receiver::start(&[]), Receiver::start(&["--proxy"]), ClosedPort::new());
    let host = format!("127.0.0.1:{}", proxy.port());
    let dead = format!("http://user:s3cret@127.0.0.1:{}", closed.port);
    let socks = "socks5://user:s3cret@127.0.0.1:1";
    for (what, name, value, no_proxy, is_delivered, is_used) in [
        ("no scheme", "HTTPS_PROXY", &*host, "", true, true),
        ("no scheme, a slash", "HTTPS_PROXY", &format!("{host}/"), "", true, true),
        ("user and password", "HTTPS_PROXY", &format!("http://us%40er:p%25%3a@{host}/"), "", true, true),
        ("dead", "HTTPS_PROXY", &dead, "", false, false),
        ("dead, bypassed by CIDR", "HTTPS_PROXY", &dead, "10.0.0.0/8,127.0.0.0/8", true, false),
        ("dead, another network", "HTTPS_PROXY", &dead, "10.0.0.0/8", false, false),
        ("SOCKS", "ALL_PROXY", socks, "", false, false),
        ("SOCKS, bypassed", "ALL_PROXY", socks, "*", true, false),
        ("no URL", "HTTPS_PROXY", "http://user:s3cret@", "", false, false),
    ] {
        let (machine, before) = (Machine::new(), proxy.requests().len());
        let run = machine.send(&target, "/", FAMILY).args(["--verbose"]).env(name, value).env("NO_PROXY", no_proxy);
        let ended = run.run().expect(0);
        let found = (machine.pending().is_empty(), proxy.requests().len() > before);
        assert_eq!(found, (is_delivered, is_used), "{what}: {ended:?}");
        // A password is in no message and in no file.
        let files = walk(machine.root()).into_iter().filter_map(|path| fs::read(path).ok()).collect::<Vec<_>>();
        let told = [ended.stderr.as_bytes(), &files.concat()].concat();
        assert!(!told.windows(6).any(|it| it == b"s3cret"), "{what}: {ended:?}");
    }
    let requests = proxy.requests();
    let given: Vec<_> = requests.iter().filter_map(|it| it["headers"]["proxy-authorization"].as_str()).collect();
    // us@er:p%:
    assert_eq!(given, ["Basic dXNAZXI6cCU6"]);
}

/// Records for these paths wait on the machine, and a receiver has come up for them.
fn with_pending(paths: &[&str]) -> (Machine, Receiver) {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    for (number, path) in paths.iter().enumerate() {
        let (family, url) = (format!("PRODUCT_FAMILY_{number}"), format!("https://127.0.0.1:{}{path}", closed.port));
        machine.run(["send", "-f", &family, "-v", "1", "-u", &url, "-c", "20", "-t", "20"]).run().expect(0);
    }
    assert_eq!(machine.pending().len(), paths.len());
    (machine, closed.open(&[]))
}

#[test]
fn a_flush_keeps_its_connection_and_makes_it_again_where_the_server_ends_it() {
    for (path, connections) in [("/", 1), ("/hang-up", 64)] {
        let (machine, receiver) = with_pending(&[path; 64]);
        machine.run(["flush", "-t", "60"]).env("SSL_CERT_FILE", receiver.ca()).run().expect(0);
        assert_eq!((receiver.requests().len(), receiver.connections()), (64, connections), "{path}");
        assert_eq!((machine.pending().len(), machine.receipts().len()), (0, 64), "{path}");
    }
}

#[test]
fn a_server_that_asks_to_wait_is_left_alone_by_the_rest_of_a_flush() {
    let busy = "/status/429?retry-after=60";
    let (machine, receiver) = with_pending(&[busy, busy, "/"]);
    machine.run(["flush", "-t", "60"]).env("SSL_CERT_FILE", receiver.ca()).run().expect(0);
    let mut paths: Vec<_> = receiver.requests().iter().map(|it| it["path"].clone()).collect();
    paths.sort_by_key(|path| path.to_string());
    assert_eq!((paths, machine.pending().len()), (vec!["/".into(), busy.into()], 2));
}

#[test]
fn what_a_kept_connection_has_swallowed_is_sent_once_more_and_no_further() {
    let (machine, receiver) = with_pending(&["/close"]);
    // The own record first, and then, on the same connection, the one that waits.
    machine.send(&receiver, "/", "PRODUCT_FAMILY_PXC").run().sent();
    let paths: Vec<_> = receiver.requests().iter().map(|it| it["path"].clone()).collect();
    assert_eq!((paths, receiver.connections()), (vec!["/".into(), "/close".into(), "/close".into()], 2));
    assert_eq!(machine.pending().len(), 1);
}
