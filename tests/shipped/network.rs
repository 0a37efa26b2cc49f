//! Proxies, and connections that are kept. What a network can do wrong is in tests/faults.

use std::fs;

use serde_json::Value;

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
    let (target, plain) = (Receiver::start(&[]), Receiver::start(&["--plain"]));
    let (proxy, closed) = (Receiver::start(&["--proxy"]), ClosedPort::new());
    let user = "http://user:s3cret@127.0.0.1";
    let places = [("$USER", format!("{user}:{}", proxy.port())), ("$DEAD", format!("{user}:{}", closed.port))];
    let places = places.into_iter().chain([("$HOST", proxy.url("")[7..].to_owned())]).collect::<Vec<_>>();
    let mut expected = Vec::new();
    for (target, way, rows) in [
        (&target, "Basic dXNlcjpzM2NyZXQ=", "https_proxy=$USER|HTTPS_PROXY=$USER|all_proxy=$USER|ALL_PROXY=$USER"),
        // us@er:p%:
        (&target, "Basic dXNAZXI6cCU6", "HTTPS_PROXY=http://us%40er:p%25%3a@$HOST/"),
        (&target, "nobody", "HTTPS_PROXY=$HOST NO_PROXY=|HTTPS_PROXY=$HOST/"),
        // Not for what NO_PROXY names, not by the variable of plain http, and never on the way to plain http.
        (
            &target,
            "",
            "HTTPS_PROXY=$USER NO_PROXY=example.com,127.0.0.1|HTTPS_PROXY=$USER no_proxy=example.com,127.0.0.1",
        ),
        (
            &target,
            "",
            "HTTPS_PROXY=$DEAD NO_PROXY=10.0.0.0/8,127.0.0.0/8|ALL_PROXY=socks5://user:s3cret@127.0.0.1:1 NO_PROXY=*",
        ),
        (&target, "", "http_proxy=$USER HTTP_PROXY=$USER"),
        (&plain, "", "HTTPS_PROXY=$USER ALL_PROXY=$USER"),
        (&target, "pending", "HTTPS_PROXY=$DEAD|HTTPS_PROXY=$DEAD NO_PROXY=10.0.0.0/8|HTTPS_PROXY=http://user:s3cret@"),
        (&target, "pending", "ALL_PROXY=socks5://user:s3cret@127.0.0.1:1"),
    ] {
        for row in rows.split('|') {
            let machine = Machine::new();
            let row = places.iter().fold(row.to_owned(), |row, (name, place)| row.replace(name, place));
            let variables = row.split(' ').filter_map(|word| word.split_once('='));
            let run = machine.send(target, "/", FAMILY).args(["--verbose"]);
            let ended = variables.fold(run, |run, (name, value)| run.env(name, value)).run().expect(0);
            assert_eq!(machine.pending().is_empty(), way != "pending", "{row}: {ended:?}");
            let asked = (format!("127.0.0.1:{}", target.port()), way.to_owned());
            expected.extend(Some(asked).filter(|(_, way)| !["", "pending"].contains(&&**way)));
            // A password is in no message and in no file.
            let files: Vec<_> = walk(machine.root()).into_iter().filter_map(|path| fs::read(path).ok()).collect();
            let told = [ended.stderr.as_bytes(), &files.concat()].concat();
            assert!(!told.windows(6).any(|it| it == b"s3cret"), "{row}: {ended:?}");
        }
    }
    let who = |request: &Value| request["headers"]["proxy-authorization"].as_str().unwrap_or("nobody").to_owned();
    let asked = |request: &Value| (request["path"].as_str().expect("a path").to_owned(), who(request));
    assert_eq!(proxy.requests().iter().map(asked).collect::<Vec<_>>(), expected);
    assert_eq!(proxy.connections(), expected.len());
    assert!(target.requests().iter().all(|request| who(request) == "nobody"));
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
        machine.flush(&receiver).args(["-t", "60"]).run().expect(0);
        assert_eq!((receiver.requests().len(), receiver.connections()), (64, connections), "{path}");
        assert_eq!((machine.pending().len(), machine.receipts().len()), (0, 64), "{path}");
    }
}

#[test]
fn a_server_that_asks_to_wait_is_left_alone_by_the_rest_of_a_flush() {
    let busy = "/status/429?retry-after=60";
    let (machine, receiver) = with_pending(&[busy, busy, "/"]);
    machine.flush(&receiver).args(["-t", "60"]).run().expect(0);
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
