//! Proxies, any bytes as an answer, and a flush. tests/faults has what a network can do wrong.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::harness::*;

pub fn listen(serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || listener.incoming().for_each(|tcp| serve(tcp.expect("a client"))));
    port
}

/// Answers the record that comes with these pieces, each after so many milliseconds, and then says nothing more.
pub fn answer(mut stream: impl Read + Write, pieces: &[(u64, &str)]) {
    let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
    // The last characters of percona's record and of wundergraph's.
    while !heard.ends_with(b"]}]}") && !heard.ends_with(b"\"}}") {
        match stream.read(&mut piece) {
            Ok(count @ 1..) => heard.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    for (after, text) in pieces {
        thread::sleep(Duration::from_millis(*after));
        let _ = stream.write_all(text.as_bytes());
    }
    // Until the client hangs up.
    let _ = stream.read(&mut piece);
}

/// src/courier.rs has what a status line is.
#[test]
fn the_status_is_the_answer_whatever_else_cannot_be_read() {
    // With the length, that is one field more than ureq reads.
    let fields = "Set-Cookie: a=b\r\n".repeat(128);
    let (ended, waits) = ((0, 1), (1, 0));
    for (what, head, expected, said) in [
        ("one field too many", format!("1.1 200 OK\r\n{fields}"), ended, "sent one"),
        ("hints, and no more", format!("1.1 103 Hints\r\n{fields}"), waits, "(receive: protocol: "),
        ("hints before it", format!("1.1 103 Hints\r\n{fields}\r\nHTTP/1.1 200 OK\r\n"), ended, "sent one"),
        ("refused", format!("1.1 400 Bad Request\r\n{fields}"), ended, "127.0.0.1 answered 400"),
    ] {
        let (machine, text) = (Machine::new(), format!("HTTP/{head}Content-Length: 2\r\n\r\n{{}}"));
        let port = listen(move |tcp| answer(tcp, &[(0, &text)]));
        let run = machine.report(FAMILY, &format!("http://127.0.0.1:{port}/")).run().expect(0);
        let found = (machine.pending().len(), machine.receipts().len(), run.stderr.contains(said));
        assert_eq!(found, (expected.0, expected.1, true), "{what}: {run:?}");
    }
}

#[test]
fn a_body_is_waited_for_if_it_decides() {
    const SUCCESS: &str = r#"{"data":{"collectMetricsV1":{"success":true}}}"#;
    let percona = ["-f", FAMILY, "-v", "8"];
    let wundergraph = ["--profile", "wundergraph", "--set", "command=wunderctl up"];
    for (profile, pieces, said) in [
        (wundergraph, &[(0, "HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n"), (1500, SUCCESS)][..], "sent one"),
        (percona, &[(0, "HTTP/1.1 100 Continue\r\nServer: a\r\n\r\n"), (100, "HTTP/1.1 200 OK\r\n\r\n{}")], "sent one"),
        // Bodies without an end, which decide nothing.
        (percona, &[(2200, "HTTP/1.1 200 OK\r\n\r\n{")], "sent one"),
        (wundergraph, &[(0, "HTTP/1.1 400 Bad\r\nContent-Length: 9\r\n\r\n{")], "answered 400"),
    ] {
        let url = format!("http://127.0.0.1:{}/", listen(|tcp| answer(tcp, pieces)));
        Machine::new().run(["send", "-u", &url]).args(profile).env("HOME", "/root").run().expect(0).says(said);
    }
}

#[test]
fn proxies_as_curl_understands_them() {
    let (target, plain) = (Receiver::start(&[]), Receiver::start(&["--plain"]));
    let (proxy, closed) = (Receiver::start(&["--proxy"]), ClosedPort::new());
    let places = [
        ("$USER", format!("http://user:s3cret@127.0.0.1:{}", proxy.port)),
        ("$DEAD", format!("http://user:s3cret@127.0.0.1:{}", closed.port)),
        ("$SOCKS", "socks5://user:s3cret@127.0.0.1:1".to_owned()),
        ("$HOST", format!("127.0.0.1:{}", proxy.port)),
    ];
    let mut expected = Vec::new();
    for (target, way, rows) in [
        (&target, "Basic dXNlcjpzM2NyZXQ=", "https_proxy=$USER|HTTPS_PROXY=$USER|all_proxy=$USER|ALL_PROXY=$USER"),
        // us@er:p%:
        (&target, "Basic dXNAZXI6cCU6", "HTTPS_PROXY=http://us%40er:p%25%3a@$HOST/"),
        // A blank variable names none.
        (&target, "nobody", "HTTPS_PROXY=$HOST NO_PROXY=|HTTPS_PROXY=$HOST/|https_proxy=\t HTTPS_PROXY=$HOST"),
        // Not for what NO_PROXY names, not by the variable of plain http, and never on the way to plain http.
        (&target, "", "HTTPS_PROXY=$USER NO_PROXY=x.com,127.0.0.1|HTTPS_PROXY=$USER no_proxy=x.com,127.0.0.1"),
        (&target, "", "HTTPS_PROXY=$DEAD NO_PROXY=10.0.0.0/8,127.0.0.0/8|ALL_PROXY=$SOCKS NO_PROXY=*"),
        (&target, "", "http_proxy=$USER HTTP_PROXY=$USER"),
        (&plain, "", "HTTPS_PROXY=$USER ALL_PROXY=$USER"),
        (&target, "pending", "HTTPS_PROXY=$DEAD|HTTPS_PROXY=$DEAD NO_PROXY=10.0.0.0/8|HTTPS_PROXY=http://user:s3cret@"),
        (&target, "pending", "ALL_PROXY=$SOCKS"),
    ] {
        for row in rows.split('|') {
            let machine = Machine::new();
            let row = places.iter().fold(row.to_owned(), |row, (name, place)| row.replace(name, place));
            let variables = row.split(' ').filter_map(|word| word.split_once('='));
            let run = machine.send(target, "/", FAMILY).args(["--verbose"]);
            let ended = variables.fold(run, |run, (name, value)| run.env(name, value)).run().expect(0);
            assert_eq!(machine.pending().is_empty(), way != "pending", "{row}: {ended:?}");
            let asked = (format!("127.0.0.1:{}", target.port), way.to_owned());
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
    // Without a URL, it would have gone to the endpoint that status names.
    let machine = Machine::new();
    let run = machine.run(["-f", FAMILY, "-v", "1"]).env("HTTPS_PROXY", format!("127.0.0.1:{}", closed.port));
    run.run().expect(0).says("(proxy: 127.0.0.1: ");
    assert_eq!(machine.pending()[0]["url"], machine.status()["endpoint"]);
}

/// Records for these paths wait on the machine, and a receiver has come up for them.
fn with_pending(paths: &[&str]) -> (Machine, Receiver) {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    for (number, path) in paths.iter().enumerate() {
        let url = format!("https://127.0.0.1:{}{path}", closed.port);
        machine.report(&format!("PRODUCT_FAMILY_{number}"), &url).run().expect(0);
    }
    assert_eq!(machine.pending().len(), paths.len());
    (machine, closed.open(&[]))
}

#[test]
fn a_flush_delivers_all_that_waits_and_leaves_a_busy_server_alone() {
    let (machine, receiver) = with_pending(&["/"; 64]);
    machine.flush(&receiver).args(["-t", "60"]).run().expect(0);
    // A connection for each, so no record depends on what a server has done with the one before.
    assert_eq!((receiver.requests().len(), receiver.connections()), (64, 64));
    assert_eq!((machine.pending().len(), machine.receipts().len()), (0, 64));
    // A server that asks to wait is left alone by the rest of it.
    let busy = "/status/429?retry-after=60";
    let (machine, receiver) = with_pending(&[busy, busy, "/"]);
    machine.flush(&receiver).run().expect(0);
    let busy = receiver.requests().iter().filter(|request| request["path"] == busy).count();
    assert_eq!((busy, receiver.requests().len(), machine.pending().len()), (1, 2, 2));
}

#[test]
fn an_answer_is_on_disk_before_the_next_one_comes() {
    let (machine, receiver) = with_pending(&["/stall"]);
    let running = machine.send(&receiver, "/", FAMILY).args(["-t", "60"]).spawn();
    wait_until("the one that waited is on its way", || receiver.requests().len() == 2);
    // That kills it.
    drop(running);
    assert!(machine.pending().iter().any(|record| !record["answer"].is_null()));
}

/// The silent one comes first.
#[test]
fn a_flush_shares_its_time_among_products() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    let silent = format!("http://127.0.0.1:{}/", listen(|tcp| answer(tcp, &[])));
    machine.report(FAMILY, &silent).args(["-t", "0.2"]).run().expect(0);
    let wundergraph = ["send", "--profile", "wundergraph", "--set", "command=up", "-u", &closed.url()];
    machine.run(wundergraph).env("HOME", "/").run().expect(0);
    let receiver = Receiver::start(&["--plain"]);
    machine.edit_pending(&closed.url(), &receiver.url("/"));
    let flushed = machine.run(["flush", "-t", "4"]).env("HOME", "/").run();
    flushed.expect(0).says("sent 1 pending install record, 1 not delivered");
}
