//! Answers, names and authorities that are not as they should be: what is delivered all the same, what waits, and what is
//! said about it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

use crate::harness::{ClosedPort, Ended, FAMILY, Machine, Receiver, Run, offline, receiver, tool};
use crate::skip;

/// A server that answers each request on a connection of its own with these very bytes, and then says nothing more; its
/// URL.
fn serve(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let (mut tcp, answer) = (tcp.expect("a client"), answer.clone());
            thread::spawn(move || {
                let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
                // The record's last characters.
                while !heard.ends_with(b"]}]}") {
                    match tcp.read(&mut piece) {
                        Ok(count @ 1..) => heard.extend_from_slice(&piece[..count]),
                        _ => return,
                    }
                }
                let _ = tcp.write_all(&answer);
                // Until the client hangs up.
                let _ = tcp.read(&mut piece);
            });
        }
    });
    format!("http://127.0.0.1:{port}/")
}

fn report(machine: &Machine, url: &str, connect: &str, budget: &str) -> Run {
    machine.run(["send", "-f", FAMILY, "-v", "1", "-u", url, "-c", connect, "-t", budget, "--verbose"])
}

#[test]
fn the_status_is_the_answer_whatever_else_cannot_be_read() {
    let fields = |count: usize| "Set-Cookie: a=b\r\n".repeat(count);
    let end = "Content-Length: 2\r\n\r\n{}";
    let (ended, waits) = ((0, 1), (1, 0));
    for (what, answer, expected, said) in [
        ("128 fields", format!("HTTP/1.1 200 OK\r\n{}{end}", fields(127)), ended, "sent one"),
        ("129 fields", format!("HTTP/1.1 200 OK\r\n{}{end}", fields(128)), ended, "sent one"),
        ("many fields", format!("HTTP/1.1 204 No Content\r\n{}{end}", fields(500)), ended, "sent one"),
        ("no reason", format!("HTTP/1.1 200\r\n{}{end}", fields(500)), ended, "sent one"),
        ("no field", format!("HTTP/1.0 201 Created\r\nno field: here\r\n{end}"), ended, "sent one"),
        ("two lengths", format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n{end}"), ended, "sent one"),
        (
            "hints first",
            format!("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n{}{end}", fields(128)),
            ended,
            "sent one",
        ),
        (
            "hints that cannot be read, and no more",
            format!("HTTP/1.1 103 Early Hints\r\n{}\r\n", fields(500)),
            waits,
            "(receive: protocol: ",
        ),
        ("refused", format!("HTTP/1.1 400 Bad Request\r\n{}{end}", fields(500)), ended, "127.0.0.1 answered 400"),
        ("busy", format!("HTTP/1.1 503 Busy\r\n{}{end}", fields(500)), waits, "127.0.0.1 answered 503"),
        (
            "moved",
            format!("HTTP/1.1 302 Found\r\nLocation: /\r\n{}{end}", fields(500)),
            waits,
            "127.0.0.1 answered 302",
        ),
        ("no status", format!("HTTP/1.1 2000 OK\r\n{end}"), waits, "(receive: protocol: "),
        ("another protocol", format!("FTP/1.1 200 OK\r\n{end}"), waits, "(receive: protocol: "),
    ] {
        let machine = Machine::new();
        let run = report(&machine, &serve(answer.into_bytes()), "10", "20").run().expect(0);
        let (found, is_said) = ((machine.pending().len(), machine.receipts().len()), run.stderr.contains(said));
        assert_eq!((found, is_said), (expected, true), "{what}: {run:?}");
    }
}

#[test]
fn a_body_that_stalls_costs_less_than_a_short_budget() {
    let url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{".to_vec());
    // The body may take a quarter of it. On a busy machine, the rest of the run may take the rest.
    let is_delivered = || {
        let machine = Machine::new();
        report(&machine, &url, "2", "0.5").run().expect(0);
        machine.receipts().len() == 1
    };
    assert!((0..5).any(|_| is_delivered()));
}

#[test]
fn a_server_that_cannot_be_reached_is_tried_once_in_a_flush() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    let dead = |path: &str| format!("https://127.0.0.1:{}{path}", closed.port);
    let other = ClosedPort::new();
    let alive = format!("https://127.0.0.1:{}/", other.port);
    for (family, url) in [("A", &dead("/")), ("B", &dead("/")), ("C", &dead("/else")), ("D", &alive)] {
        report(&machine, url, "20", "20").args(["-f", &format!("PRODUCT_FAMILY_{family}")]).run().expect(0);
    }
    let attempts = |machine: &Machine| -> usize {
        machine.pending().iter().map(|it| it["attempts"].as_array().expect("attempts").len()).sum()
    };
    // Each URL once a run, the own record before those that wait.
    assert_eq!(attempts(&machine), 1 + 1 + 2 + 3);
    let receiver = other.open(&[]);
    let ended = machine.run(["flush", "-t", "60", "--verbose"]).env("SSL_CERT_FILE", receiver.ca()).run().expect(0);
    assert_eq!((receiver.requests().len(), machine.pending().len(), machine.receipts().len()), (1, 3, 1), "{ended:?}");
    // Two more, and what was delivered had one.
    assert_eq!(attempts(&machine), 7 + 2 - 1, "{ended:?}");
}

#[test]
fn places_of_authorities_that_are_no_such_place() {
    let receiver = Receiver::start(&[]);
    let ca = fs::read(receiver.ca()).expect("CA");
    let machine = |_| Machine::new().with("ca.pem", &ca).with("good/5ed36f99.0", &ca).with("plus/+ed36f99.+0", &ca);
    let no = |place: &str| format!("(tls: no certificate authority in {place}");
    for (variables, said) in [
        (vec![("SSL_CERT_FILE", "ca.pem")], "sent one".to_owned()),
        (vec![("SSL_CERT_FILE", "./ca.pem")], "sent one".to_owned()),
        (vec![("CURL_CA_BUNDLE", "ca.pem")], "sent one".to_owned()),
        (vec![("SSL_CERT_DIR", "good")], "sent one".to_owned()),
        (vec![("SSL_CERT_DIR", ":nowhere:./good:")], "sent one".to_owned()),
        (vec![("SSL_CERT_FILE", "good")], no("$PWD/good)")),
        (vec![("CURL_CA_BUNDLE", "good")], no("$PWD/good)")),
        (vec![("SSL_CERT_DIR", "ca.pem")], no("$PWD/ca.pem)")),
        (vec![("SSL_CERT_DIR", "plus")], no("$PWD/plus)")),
        (vec![("SSL_CERT_FILE", "good"), ("SSL_CERT_DIR", "ca.pem")], no("$PWD/ca.pem, $PWD/good)")),
        (vec![("SSL_CERT_FILE", "good"), ("SSL_CERT_DIR", "good")], "sent one".to_owned()),
    ] {
        let machine = machine(());
        let run = report(&machine, &receiver.url("/"), "10", "20").under(["env", "-C"]).under([machine.root()]);
        let ended = variables.iter().fold(run, |run, (name, value)| run.env(name, value)).run().expect(0);
        let said = said.replace("$PWD", &machine.root().display().to_string());
        assert!(ended.stderr.contains(&said), "{variables:?}, {said}: {ended:?}");
    }
}

#[test]
fn a_path_of_the_system_that_cannot_be_followed_is_no_reason_to_trust_the_web() {
    // Its certificate names one of the web's authorities, which shows whether those are asked.
    let receiver = Receiver::start(&["--cert", "forged"]);
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    let none = format!("(tls: no certificate authority in {bundle}");
    for (what, prepare, said) in [
        ("nothing is there", "", "(tls: invalid peer certificate: BadSignature"),
        ("a link to nowhere", "mkdir certs; ln -s /nowhere certs/ca-certificates.crt", &*none),
        ("a link to nowhere, higher up", "ln -s /nowhere certs", &none),
        ("a link to itself", "ln -s certs certs", &none),
        ("a file in place of a directory", ": >certs", &none),
    ] {
        let machine = Machine::new();
        let script = format!(
            "for place in /etc/ssl /etc/pki; do [ ! -d $place ] || mount -t tmpfs none $place || exit 77; done
             cd /etc/ssl || exit 77; {prepare}
             exec \"$0\" \"$@\""
        );
        let usable = |flag: &&str| tool(&["unshare", flag, "sh", "-c", &script, "true"]).is_some();
        let Some(flag) = ["-m", "-rm"].into_iter().find(usable) else { skip!("needs to mount in a namespace") };
        let run = report(&machine, &receiver.url("/"), "10", "20").under(["unshare", flag, "sh", "-c", &script]);
        let ended = run.run().expect(0);
        assert!(ended.stderr.contains(said), "{what}: {ended:?}");
    }
}

/// A name server on 127.0.0.1, after so many seconds, with that address for every name, and none for IPv6.
fn name_server(seconds: &str, address: &str) -> String {
    let script = r#"perl -MSocket -e '
        ($root, $seconds, $address) = @ARGV;
        socket(S, PF_INET, SOCK_DGRAM, 0); bind(S, sockaddr_in(53, INADDR_LOOPBACK)) or exit 77;
        open(F, ">", "$root/bound"); close(F);
        while ($from = recv(S, $query, 512, 0)) {
            ($question) = substr($query, 12) =~ /^((?:[^\0].*?)?\0....)/s;
            $is_a = unpack("n", substr($question, -4)) == 1;
            $answer = $is_a ? "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" . inet_aton($address) : "";
            select(undef, undef, undef, $seconds);
            send(S, substr($query, 0, 2) . pack("n5", 0x8180, 1, $is_a ? 1 : 0, 0, 0) . $question . $answer, 0, $from);
        }' $root"#;
    format!(
        "{script} {seconds} {address} & server=$!
         while ! [ -e $root/bound ]; do kill -0 $server || exit 77; sleep 0.01; done"
    )
}

/// Runs `run` with a network of its own, after `prepare`; `None`: impossible here.
fn in_a_network(machine: &Machine, prepare: &str, run: Run) -> Option<Ended> {
    let script = format!(
        "root={root}; server=; far=; mount --bind $root/hosts /etc/hosts || exit 77
         mount --bind $root/resolv.conf /etc/resolv.conf && ip link set lo up || exit 77
         {prepare}
         \"$0\" \"$@\"; status=$?; kill $server $far 2>/dev/null; exit $status",
        root = machine.root().display()
    );
    let ended = run.under(offline("m")?).under(["sh", "-c", &script]).run();
    (ended.status != Some(77)).then_some(ended)
}

/// A machine whose name server is the one on loopback.
fn asking(server: &str) -> Machine {
    Machine::new().with("hosts", "").with("resolv.conf", format!("nameserver {server}\n"))
}

#[test]
fn what_a_name_server_takes_is_not_taken_from_the_connection() {
    if tool(&["perl", "-MSocket", "-e", "1"]).is_none() {
        skip!("needs perl for a name server")
    }
    // It answers after more than the connect timeout, which TLS has for itself.
    let machine = asking("127.0.0.1");
    let prepare = format!(
        "{}; {} --dir $root/far --port 4433 --san slow.test & far=$!
         while ! [ -e $root/far/port ]; do sleep 0.01; done",
        name_server("1.5", "127.0.0.1"),
        receiver().display()
    );
    let run = report(&machine, "https://slow.test:4433/", "1", "20").env("SSL_CERT_FILE", machine.path("far/ca.pem"));
    let Some(ended) = in_a_network(&machine, &prepare, run) else { skip!("needs namespaces, and ip in them") };
    ended.sent();
}

#[test]
fn a_name_without_ipv6_has_all_of_the_time() {
    if tool(&["perl", "-MSocket", "-e", "1"]).is_none() {
        skip!("needs perl for a name server")
    }
    let machine = asking("127.0.0.1");
    // What is sent to that neighbour is lost: nobody has its hardware address.
    let link = "ip link add lost type veth peer name far && ip addr add 10.9.0.2/24 dev lost && ip link set far up && \
                ip link set lost up && ip neigh add 10.9.0.77 lladdr 02:00:00:00:00:77 dev lost || exit 77";
    let prepare = format!("{link}; {}", name_server("0", "10.9.0.77"));
    let run = report(&machine, "https://lost.test:9/", "2", "20");
    let Some(ended) = in_a_network(&machine, &prepare, run) else { skip!("needs namespaces, and ip in them") };
    let ended = ended.expect(0);
    assert!(ended.stderr.contains("(connect: 10.9.0.77:9: timed out)"), "{ended:?}");
    let seconds = ended.time.as_secs_f64();
    assert!((1.9..4.0).contains(&seconds), "{ended:?}");
}

#[test]
fn a_name_server_that_a_router_cannot_reach_costs_nothing_and_a_mute_one_is_named() {
    if tool(&["nft", "--version"]).is_none() {
        skip!("needs nft to be a router")
    }
    let nobody = "(resolve: no name server can be reached that could know named.test)";
    let mute = "(resolve: no name server has answered for named.test)";
    for (family, server, verdict, said) in [
        ("ip", "127.0.0.53", "reject with icmp host-unreachable", nobody),
        ("ip", "127.0.0.53", "reject with icmp net-unreachable", nobody),
        ("ip6", "::1", "reject with icmpv6 no-route", nobody),
        ("ip6", "::1", "reject with icmpv6 addr-unreachable", nobody),
        ("ip", "127.0.0.53", "drop", mute),
    ] {
        let machine = asking(server);
        let prepare = format!(
            "nft 'add table inet t; add chain inet t input {{ type filter hook input priority 0; }}' || exit 77
             nft add rule inet t input {family} daddr {server} udp dport 53 {verdict} || exit 77"
        );
        let run = report(&machine, "https://named.test:9/", "20", "20");
        let Some(ended) = in_a_network(&machine, &prepare, run) else { skip!("needs namespaces, ip and nft in them") };
        let ended = ended.expect(0);
        assert!(ended.stderr.contains(said), "{server} {verdict}: {ended:?}");
        let is_early = ended.time < Duration::from_secs(2);
        assert_eq!(is_early, said == nobody, "{server} {verdict}: {ended:?}");
    }
}
