//! The courier's way through the network: dead families, resolvers that are not there, proxies that stall, connections
//! that are kept, and authorities of the system.

use std::fs;
use std::io::Write;

use crate::harness::{ClosedPort, Ended, FAMILY, Machine, Receiver, Run, offline, receiver, tool, walk};
use crate::skip;

fn say(what: &str, ended: &Ended) {
    let said = ended.stderr.lines().last().unwrap_or_default();
    let _ = writeln!(std::io::stderr(), "     {what}: {:.2} s, {said}", ended.time.as_secs_f64());
}

fn report(machine: &Machine, url: &str, connect: &str, budget: &str) -> Run {
    machine.run(["send", "-f", FAMILY, "-v", "1", "-u", url, "-c", connect, "-t", budget, "--verbose"])
}

/// Runs `run` with a network of its own, after `prepare` and beside what that starts as `$server`; `None`: impossible
/// here.
fn in_a_network(machine: &Machine, prepare: &str, run: Run) -> Option<Ended> {
    let script = format!(
        "root={root}; server=; mount --bind $root/hosts /etc/hosts && mount --bind $root/resolv.conf /etc/resolv.conf \
         || exit 77\n{prepare}\n\"$0\" \"$@\"; status=$?; [ -z \"$server\" ] || kill $server; exit $status",
        root = machine.root().display()
    );
    let ended = run.under(offline("m")?).under(["sh", "-c", &script]).run();
    (ended.status != Some(77)).then_some(ended)
}

const LOOPBACK_UP: &str = "ip link set lo up || exit 77";

#[test]
fn a_dead_family_costs_a_moment() {
    if tool(&["nft", "--version"]).is_none() {
        skip!("needs nft to drop what is sent to one address")
    }
    let (v4, v6, late_v6) = ("127.0.0.1", "::1", "fd00::7");
    let mut alive = f64::MAX;
    for (what, addresses, dropped, is_delivered) in [
        ("both alive", [v6, v4], [].as_slice(), true),
        ("dead IPv6", [v6, v4], &[v6], true),
        ("dead IPv4", [v4, late_v6], &[v4], true),
        ("both dead", [v6, v4], &[v6, v4], false),
    ] {
        let hosts: String = addresses.iter().map(|address| format!("{address} dual.test\n")).collect();
        let machine = Machine::new().with("hosts", hosts).with("resolv.conf", "");
        let drop = dropped.iter().map(|address| {
            let family = if address.contains(':') { "ip6" } else { "ip" };
            format!("nft add rule inet test input {family} daddr {address} tcp dport 4433 drop || exit 77\n")
        });
        let prepare = format!(
            "{LOOPBACK_UP}; ip addr add {late_v6}/128 dev lo nodad || exit 77
             nft 'add table inet test; add chain inet test input {{ type filter hook input priority 0; }}' || exit 77
             {}{} --dir $root/far --port 4433 --address {} --address {} --san dual.test & server=$!
             while ! [ -e $root/far/port ]; do sleep 0.01; done",
            drop.collect::<String>(),
            receiver().display(),
            addresses[0],
            addresses[1],
        );
        let run = report(&machine, "https://dual.test:4433/", "9", "9");
        let run = run.env("SSL_CERT_FILE", machine.path("far/ca.pem"));
        let Some(ended) = in_a_network(&machine, &prepare, run) else { skip!("needs namespaces, ip and nft in them") };
        say(what, &ended);
        let seconds = ended.time.as_secs_f64();
        let connections = fs::read_to_string(machine.path("far/connections")).expect("connections");
        if is_delivered {
            let ended = ended.sent();
            // Half of the time is IPv6's, as long as nobody knows how many addresses it has.
            assert!(seconds < 4.5 + 1.0, "{what}: {ended:?}");
            // IPv4 comes first, in whatever order they are listed.
            let used = if dropped.contains(&v4) { addresses[1] } else { v4 };
            assert!(connections.contains(used), "{what}: {connections}");
            if !dropped.contains(&v4) {
                assert!(seconds < alive + 0.3, "{what}: {seconds} s, and {alive} s without a fault");
                alive = seconds;
            }
        } else {
            assert!(ended.expect(0).stderr.contains("(connect: "), "{what}");
            assert!(seconds < 9.0 + 1.5, "{what}: {seconds}");
            assert_eq!(connections, "", "{what}");
        }
    }
}

/// A name server on 127.0.0.1 that knows every name: as that very address, and in IPv4 only.
const NAME_SERVER: &str = r#"perl -MSocket -e '
    socket(S, PF_INET, SOCK_DGRAM, 0); bind(S, sockaddr_in(53, INADDR_LOOPBACK)) or exit 77;
    open(F, ">", "$ARGV[0]/bound"); close(F);
    while ($from = recv(S, $query, 512, 0)) {
        ($question) = substr($query, 12) =~ /^((?:[^\0].*?)?\0....)/s;
        $is_a = unpack("n", substr($question, -4)) == 1;
        $answer = $is_a ? "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" . INADDR_LOOPBACK : "";
        send(S, substr($query, 0, 2) . pack("n5", 0x8180, 1, $is_a ? 1 : 0, 0, 0) . $question . $answer, 0, $from);
    }' $root & server=$!; while ! [ -e $root/bound ]; do kill -0 $server || exit 77; sleep 0.01; done"#;

#[test]
fn where_no_name_server_can_answer_it_returns_at_once_and_elsewhere_it_asks() {
    if tool(&["perl", "-MSocket", "-e", "1"]).is_none() {
        skip!("needs perl for a name server")
    }
    let up = LOOPBACK_UP.to_owned();
    let answering = format!("{LOOPBACK_UP}; {NAME_SERVER}");
    let (nobody, asked) = ("(resolve: no name server can be reached", "(connect: 127.0.0.1:9: Connection refused");
    let named = "https://named.test:9/";
    for (what, prepare, resolv_conf, hosts, url, said) in [
        ("no interface at all", "", "nameserver 192.0.2.53\n", "", named, nobody),
        ("no route", &*up, "nameserver 192.0.2.53\n", "", named, nobody),
        ("no route, IPv6", &up, "nameserver 2001:db8::53\n", "", named, nobody),
        ("no resolv.conf, nobody on loopback", &up, "", "", named, nobody),
        ("nobody on loopback", &up, "nameserver 127.0.0.53\noptions edns0\nsearch a.test b.test\n", "", named, nobody),
        ("nobody on loopback, IPv6", &up, "nameserver ::1\n", "", named, nobody),
        ("none of three", &up, "nameserver 192.0.2.53\nnameserver ::1\nnameserver 127.0.0.1\n", "", named, nobody),
        ("one that answers", &answering, "nameserver 127.0.0.1\n", "", named, asked),
        ("no resolv.conf, and one that answers", &answering, "", "", named, asked),
        (
            "the third answers",
            &answering,
            "nameserver 192.0.2.53\nnameserver ::1\nnameserver 127.0.0.1\n",
            "",
            named,
            asked,
        ),
        (
            "one with a scope, and one that answers",
            &answering,
            "nameserver fe80::1%lo\nnameserver 127.0.0.1\n",
            "",
            named,
            asked,
        ),
        (
            "search domains and options",
            &answering,
            "search a.test b.test\noptions ndots:3 timeout:1 attempts:1 rotate\nnameserver 127.0.0.1\n",
            "",
            named,
            asked,
        ),
        ("a name in hosts", &up, "nameserver 192.0.2.53\n", "127.0.0.1 other named.test # ours\n", named, asked),
        (
            "a localhost that is not",
            &up,
            "",
            "192.0.2.1 localhost\n",
            "http://localhost:9/",
            "(connect: [::1]:9: Connection refused",
        ),
        ("an address", &up, "nameserver 192.0.2.53\n", "", "https://127.0.0.1:9/", asked),
        (
            "an address of IPv6",
            &up,
            "nameserver 192.0.2.53\n",
            "",
            "https://[::1]:9/",
            "(connect: [::1]:9: Connection refused",
        ),
        ("an address without a route", &up, "", "", "https://192.0.2.1:9/", "(connect: 192.0.2.1:9: Network "),
    ] {
        let machine = Machine::new().with("hosts", hosts).with("resolv.conf", resolv_conf);
        let run = report(&machine, url, "20", "20");
        let Some(ended) = in_a_network(&machine, prepare, run) else {
            skip!("needs to mount and to set an interface up")
        };
        say(what, &ended);
        let ended = ended.expect(0);
        assert!(ended.stderr.contains(said), "{what}: {ended:?}");
        assert!(ended.time.as_secs_f64() < 3.0, "{what}: {ended:?}");
        assert_eq!(machine.pending().len(), 1, "{what}");
    }
    // A proxy's name is looked up in hosts as well, and the endpoint's not at all.
    let machine = Machine::new().with("hosts", "127.0.0.1 proxy.test\n").with("resolv.conf", "nameserver 192.0.2.53\n");
    let run = report(&machine, named, "20", "20").env("HTTPS_PROXY", "http://proxy.test:9");
    let Some(ended) = in_a_network(&machine, &up, run) else { skip!("needs to mount and to set an interface up") };
    assert!(ended.stderr.contains("(proxy: proxy.test: 127.0.0.1:9: Connection refused"), "{ended:?}");
}

#[test]
fn a_proxy_that_stalls_costs_the_connect_timeout_and_says_so() {
    let target = Receiver::start(&[]);
    for (fault, said) in [
        ("proxy-stall", "(proxy: 127.0.0.1: timed out)"),
        ("proxy-drip", "(proxy: 127.0.0.1: timed out)"),
        ("stall-accept", "(proxy: 127.0.0.1: timed out)"),
        ("close-accept", "(proxy: 127.0.0.1: CONNECT proxy failed: proxy server did not respond)"),
        ("proxy-407", "(proxy: 127.0.0.1: CONNECT proxy failed: proxy server responded 407"),
    ] {
        let (machine, proxy) = (Machine::new(), Receiver::start(&["--proxy", "--fault", fault]));
        // Not the budget: the courier gives up by itself.
        let run = report(&machine, &target.url("/"), "1", "20").env("HTTPS_PROXY", proxy.url(""));
        let ended = run.run().expect(0);
        say(fault, &ended);
        assert!(ended.stderr.contains(said), "{fault}: {ended:?}");
        assert!(ended.time.as_secs_f64() < 1.0 + 5.0, "{fault}: {ended:?}");
        assert_eq!(machine.pending().len(), 1, "{fault}");
    }
}

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
    let (target, proxy) = (Receiver::start(&[]), Receiver::start(&["--proxy"]));
    let (host, closed) = (proxy.url("").split("://").nth(1).expect("a host").to_owned(), ClosedPort::new());
    let dead = format!("http://user:s3cret@127.0.0.1:{}", closed.port);
    for (what, variables, is_delivered, is_used) in [
        ("no scheme", vec![("HTTPS_PROXY", host.trim_end_matches('/').to_owned())], true, true),
        ("no scheme, a slash", vec![("HTTPS_PROXY", format!("{}/", host.trim_end_matches('/')))], true, true),
        ("user and password", vec![("HTTPS_PROXY", format!("http://us%40er:p%25%3a@{host}"))], true, true),
        ("dead", vec![("HTTPS_PROXY", dead.clone())], false, false),
        (
            "dead, bypassed by CIDR",
            vec![("HTTPS_PROXY", dead.clone()), ("NO_PROXY", "10.0.0.0/8,127.0.0.0/8".into())],
            true,
            false,
        ),
        ("dead, another network", vec![("HTTPS_PROXY", dead.clone()), ("NO_PROXY", "10.0.0.0/8".into())], false, false),
        ("SOCKS", vec![("ALL_PROXY", "socks5://user:s3cret@127.0.0.1:1".into())], false, false),
        ("SOCKS, bypassed", vec![("ALL_PROXY", "socks5://127.0.0.1:1".into()), ("NO_PROXY", "*".into())], true, false),
        ("no URL", vec![("HTTPS_PROXY", "http://user:s3cret@".into())], false, false),
    ] {
        let (machine, before) = (Machine::new(), proxy.requests().len());
        let run = machine.send(&target, "/", FAMILY).args(["--verbose"]);
        let ended = variables.iter().fold(run, |run, (name, value)| run.env(name, value)).run().expect(0);
        assert_eq!(machine.pending().is_empty(), is_delivered, "{what}: {ended:?}");
        assert_eq!(proxy.requests().len() > before, is_used, "{what}: {ended:?}");
        // A password is in no message and in no file.
        let is_told =
            |path: &std::path::PathBuf| fs::read(path).is_ok_and(|bytes| bytes.windows(6).any(|it| it == b"s3cret"));
        assert!(!ended.stderr.contains("s3cret") && !walk(machine.root()).iter().any(is_told), "{what}: {ended:?}");
    }
    let given: Vec<_> = proxy
        .requests()
        .iter()
        .filter_map(|it| it["headers"]["proxy-authorization"].as_str().map(str::to_owned))
        .collect();
    // us@er:p%:
    assert_eq!(given, ["Basic dXNAZXI6cCU6"]);
}

#[test]
fn a_server_that_asks_to_wait_is_left_alone_by_the_rest_of_a_flush() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    let url = |path: &str| format!("https://127.0.0.1:{}{path}", closed.port);
    for (family, path) in [("A", "/status/429?retry-after=60"), ("B", "/status/429?retry-after=60"), ("C", "/")] {
        let family = format!("PRODUCT_FAMILY_{family}");
        machine.run(["send", "-f", &family, "-v", "1", "-u", &url(path), "-c", "20", "-t", "20"]).run().expect(0);
    }
    let receiver = closed.open(&[]);
    machine.run(["flush", "-t", "60"]).env("SSL_CERT_FILE", receiver.ca()).run().expect(0);
    let mut paths: Vec<_> = receiver.requests().iter().map(|it| it["path"].as_str().map(str::to_owned)).collect();
    paths.sort();
    assert_eq!(paths, [Some("/".to_owned()), Some("/status/429?retry-after=60".to_owned())]);
    assert_eq!(machine.pending().len(), 2);
}

#[test]
fn a_proxy_over_tls() {
    // One server is both: it does not speak CONNECT, but it must have been asked over TLS.
    let receiver = Receiver::start(&[]);
    let machine = Machine::new();
    let run = machine.send(&receiver, "/", FAMILY).env("HTTPS_PROXY", receiver.url(""));
    let ended = run.run().expect(0);
    assert!(ended.stderr.contains("(proxy: 127.0.0.1: CONNECT proxy failed: proxy server responded 405"), "{ended:?}");
    assert_eq!(
        (&receiver.requests()[0]["method"], &receiver.requests()[0]["tls"]),
        (&"CONNECT".into(), &"TLSv1_3".into())
    );
}

#[test]
fn what_a_bad_answer_is_called() {
    let receiver = Receiver::start(&[]);
    for (path, said) in [
        ("/endless-headers", "(receive: response header is too big: "),
        ("/garbage", "(receive: protocol: "),
        ("/close", "(receive: the other side hung up)"),
        ("/reset", "(receive: Connection reset"),
    ] {
        let ended = Machine::new().send(&receiver, path, FAMILY).run().expect(0);
        say(path, &ended);
        assert!(ended.stderr.contains(said), "{path}: {ended:?}");
    }
}

/// A machine on which 64 records for `path` wait, and a receiver for them.
fn with_64_pending(path: &str) -> (Machine, Receiver) {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    let url = format!("https://127.0.0.1:{}{path}", closed.port);
    for number in 0..64 {
        // Another machine's lock is not waited for: each of these has only its own record to fail with.
        let family = format!("PRODUCT_FAMILY_{number}");
        machine.run(["send", "-f", &family, "-v", "1", "-u", &url, "-c", "20", "-t", "20"]).run().expect(0);
    }
    assert_eq!(machine.pending().len(), 64);
    (machine, closed.open(&[]))
}

#[test]
fn a_flush_keeps_its_connection() {
    let (machine, receiver) = with_64_pending("/");
    let ended = machine.run(["flush", "-t", "60"]).env("SSL_CERT_FILE", receiver.ca()).run().expect(0);
    say("64 records", &ended);
    assert_eq!((receiver.requests().len(), receiver.connections()), (64, 1));
    assert_eq!((machine.pending().len(), machine.receipts().len()), (0, 64));
}

#[test]
fn a_connection_that_the_server_ends_is_made_again() {
    let (machine, receiver) = with_64_pending("/hang-up");
    let ended = machine.run(["flush", "-t", "60"]).env("SSL_CERT_FILE", receiver.ca()).run().expect(0);
    say("64 records, one connection each", &ended);
    assert_eq!((receiver.requests().len(), receiver.connections()), (64, 64));
    assert_eq!((machine.pending().len(), machine.receipts().len()), (0, 64));
}

#[test]
fn what_a_kept_connection_has_swallowed_is_sent_once_more_and_no_further() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    let url = format!("https://127.0.0.1:{}/close", closed.port);
    report(&machine, &url, "20", "20").run().expect(0);
    let receiver = closed.open(&[]);
    // The own record first, and then, on the same connection, the one that waits.
    machine.send(&receiver, "/", "PRODUCT_FAMILY_PXC").run().sent();
    let paths: Vec<_> = receiver.requests().iter().map(|it| it["path"].clone()).collect();
    assert_eq!((paths, receiver.connections()), (vec!["/".into(), "/close".into(), "/close".into()], 2));
    assert_eq!(machine.pending().len(), 1);
}

#[test]
fn the_systems_bundle_has_the_administrators_authority() {
    let receiver = Receiver::start(&[]);
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    let Ok(authorities) = fs::read(bundle) else { skip!("this system has no {bundle}") };
    let own = fs::read(receiver.ca()).expect("CA");
    for (what, content, is_delivered) in [
        ("at its end", [&authorities[..], &own].concat(), true),
        ("at its beginning", [&own[..], &authorities].concat(), true),
        ("not in it", authorities.clone(), false),
    ] {
        let machine = Machine::new().with("bundle.pem", content);
        let mount =
            format!("mount --bind {} {bundle} || exit 77; exec \"$0\" \"$@\"", machine.path("bundle.pem").display());
        let usable = |flag: &&str| tool(&["unshare", flag, "sh", "-c", &mount, "true"]).is_some();
        let Some(flag) = ["-m", "-rm"].into_iter().find(usable) else { skip!("needs to mount in a namespace") };
        // Not `Machine::send`, which configures the receiver's authority.
        let run = report(&machine, &receiver.url("/"), "20", "20").under(["unshare", flag, "sh", "-c", &mount]);
        let ended = run.run().expect(0);
        assert_eq!(machine.pending().is_empty(), is_delivered, "{what}: {ended:?}");
        assert!(is_delivered || ended.stderr.contains("UnknownIssuer"), "{what}: {ended:?}");
    }
    assert_eq!(receiver.requests().len(), 2);
}
