//! WunderGraph: the command and its duration under a random ID, "prints exactly what is collected", and both ways off.

use serde_json::Value;

use super::{COLLECTED, KINDS, Kind, PROJECT_ID, body, command_of, json, mode, read, server, to};
use crate::harness::{Machine, Receiver, Run};

const ID_FILE: &str = "home/dev/wundergraph.config.json";
const OLD_ID_FILE: &str = "home/dev/.wundergraph/config.json";
/// The documentation's example.
const KSUID: &str = "2Ie8ynG6f1hTKs3EVjItsy0DBcn";

fn wundergraph() -> &'static Kind {
    Kind::of("wundergraph")
}

fn receiver() -> Receiver {
    Receiver::start(&["--answer", COLLECTED])
}

fn send(machine: &Machine, receiver: &Receiver, args: &[&str]) -> Run {
    to(receiver, wundergraph().path(), command_of(machine, "wundergraph", "send").args(args))
}

#[test]
fn promise_an_anonymised_id_made_at_first_use_and_kept() {
    let (machine, receiver) = (server(), receiver());
    for _ in 0..2 {
        wundergraph().send(&machine, &receiver).run().sent();
    }
    let id = body(&receiver, 1)["clientInfo"]["anonymousID"].as_str().expect("an ID").to_owned();
    assert_eq!(body(&receiver, 2)["clientInfo"]["anonymousID"], id.as_str());
    assert_eq!(read(&machine, ID_FILE), format!("{{\n\t\"anonymousid\": \"{id}\"\n}}\n"));
    assert_eq!(mode(&machine, ID_FILE), 0o600);
    // Another machine of the same hardware, user and time is another one.
    let other = server();
    wundergraph().send(&other, &receiver).run().sent();
    assert_ne!(body(&receiver, 3)["clientInfo"]["anonymousID"], id.as_str());
}

#[test]
fn an_id_that_is_there_is_used() {
    let receiver = receiver();
    let with_id = |id: &str| format!("{{\"anonymousid\":\"{id}\",\"other\":[1]}}");
    for (what, new, old, expected) in [
        ("its file", Some(KSUID), None, Some(KSUID)),
        ("the older one", None, Some(KSUID), Some(KSUID)),
        ("both", Some(KSUID), Some("0ujtsYcgvSTl8PAuAdqWYSMnLOv"), Some(KSUID)),
        ("junk, and the older one", Some("junk"), Some(KSUID), Some(KSUID)),
        ("a UUID is none", Some(PROJECT_ID), None, None),
        ("junk", Some("2Ie8ynG6f1hTKs3EVjItsy0DBc-"), Some(""), None),
    ] {
        let mut machine = server();
        for (path, id) in [(ID_FILE, new), (OLD_ID_FILE, old)] {
            if let Some(id) = id {
                machine = machine.with(path, with_id(id));
            }
        }
        let before = old.map(|_| read(&machine, OLD_ID_FILE));
        wundergraph().send(&machine, &receiver).run().sent();
        let sent = body(&receiver, receiver.requests().len())["clientInfo"]["anonymousID"].clone();
        match expected {
            Some(expected) => assert_eq!(sent, expected, "{what}"),
            None => {
                assert_eq!(json(&machine, ID_FILE)["anonymousid"], sent, "{what}");
                assert_eq!(json(&machine, ID_FILE)["other"], serde_json::json!([1]), "{what}");
            }
        }
        assert_eq!(old.map(|_| read(&machine, OLD_ID_FILE)), before, "{what}");
    }
}

#[test]
fn promise_the_command_and_its_duration() {
    let (machine, receiver) = (server(), receiver());
    for (args, name, value) in [
        (&["--set", "command=wunderctl up"][..], "WUNDERCTL_UP_CMD_USAGE", "1"),
        (&["--event", "usage", "--set", "command=wunderctl up"], "WUNDERCTL_UP_CMD_USAGE", "1"),
        (&["--set", "command=wunderctl node start"], "WUNDERCTL_NODE_START_CMD_USAGE", "1"),
        // Arguments, options, paths and what follows them never leave.
        (&["--set", "command=wunderctl up --debug --pin secret"], "WUNDERCTL_UP_CMD_USAGE", "1"),
        (&["--set", "command=wunderctl add ./secret.json all"], "WUNDERCTL_ADD_CMD_USAGE", "1"),
        (&["--set", "command=wunderctl up Secret"], "WUNDERCTL_UP_CMD_USAGE", "1"),
        (&["--set", "command=up", "--set", "duration=0.5"], "UP_CMD_DURATION", "0.5"),
        (&["--event", "duration", "--set", "command=up", "--set", "duration=3"], "UP_CMD_DURATION", "3"),
        (&["--event", "usage", "--set", "command=up", "--set", "duration=3"], "UP_CMD_USAGE", "1"),
    ] {
        send(&machine, &receiver, args).run().sent();
        let metric = body(&receiver, receiver.requests().len())["metrics"].clone();
        let value: Value = value.parse().expect("a number");
        assert_eq!(metric, serde_json::json!([{ "name": name, "value": value }]), "{args:?}");
    }
    // What cannot be a metric is the caller's mistake, and nothing was touched.
    let before = (machine.snapshot(), receiver.connections());
    for (args, named) in [
        (&[][..], "--set command=VALUE is missing"),
        (&["--event", "duration", "--set", "command=up"], "--set duration=VALUE is missing"),
        (&["--set", "command=--pin secret"], "--set command=VALUE must be a plain lower-case word"),
        (&["--set", "command=up", "--set", "duration=soon"], "--set duration=VALUE must be a number"),
    ] {
        let ended = send(&machine, &receiver, args).run().expect(2);
        assert!(ended.stderr.contains(named), "{ended:?}");
    }
    assert_eq!((machine.snapshot(), receiver.connections()), before);
}

#[test]
fn promise_the_debug_variable_prints_exactly_what_is_sent() {
    let receiver = receiver();
    for variable in ["WUNDER_TELEMETRY_DEBUG", "WG_TELEMETRY_DEBUG"] {
        for kind in KINDS.iter().filter(|kind| kind.profile == "wundergraph") {
            let machine = server();
            let ended = kind.send(&machine, &receiver).env(variable, "true").run();
            assert_eq!(ended.status, Some(0), "{ended:?}");
            let sent = receiver.body(receiver.requests().len());
            assert_eq!(ended.stdout, [&sent[..], b"\n"].concat(), "{variable}");
        }
        // Not asked for, or not sent: nothing.
        for value in ["false", "0", ""] {
            wundergraph().send(&server(), &receiver).env(variable, value).run().sent();
        }
        let seen = receiver.connections();
        for (name, value) in [("WG_TELEMETRY_DISABLED", ""), ("DO_NOT_TRACK", "1")] {
            wundergraph().send(&server(), &receiver).env(variable, "true").env(name, value).run().silent();
        }
        wundergraph().send(&server(), &receiver).env(variable, "true").args(["--telemetry=false"]).run().silent();
        assert_eq!(receiver.connections(), seen);
    }
}

#[test]
fn wg_telemetry_disabled_counts_by_being_there() {
    let receiver = receiver();
    let machine = || {
        server()
            .with("proc/self/stat", "9 (install-record) S 7 7 7 0 -1\n")
            .with("proc/7/stat", "7 (make) S 1 7 7 0 -1\n")
            .with("proc/7/comm", "make\n")
            .with("proc/1/stat", "1 (init) S 0 1 1 0 -1\n")
    };
    for value in ["", "0", "false", "true", "junk"] {
        let setting = format!("WG_TELEMETRY_DISABLED={value}");
        wundergraph().send(&machine(), &receiver).env("WG_TELEMETRY_DISABLED", value).run().silent();
        for (what, machine) in [
            ("ancestor", machine().with("proc/7/environ", format!("A=1\0{setting}\0B=2\0"))),
            ("init", machine().with("proc/1/environ", format!("{setting}\0"))),
            ("/etc/environment", machine().with("etc/environment", format!("A=1\n{setting}\n"))),
            ("environment.d", machine().with("etc/environment.d/50-wg.conf", format!("{setting}\n"))),
            ("profile.d", machine().with("etc/profile.d/wg.sh", format!("export {setting}\n"))),
        ] {
            let before = machine.snapshot();
            wundergraph().send(&machine, &receiver).run().silent();
            let ended = wundergraph().send(&machine, &receiver).args(["--verbose"]).run().expect(0);
            assert!(ended.stderr.contains("nothing is sent: "), "{what} {setting}: {ended:?}");
            assert_eq!(machine.snapshot(), before, "{what} {setting}");
        }
    }
    assert_eq!(receiver.connections(), 0);
    // A name that is only like it says nothing.
    let like = machine()
        .with("proc/7/environ", "WG_TELEMETRY_DISABLED_NOT=1\0X=WG_TELEMETRY_DISABLED=1\0WG_TELEMETRY_DISABLED\0")
        .with("etc/environment", "# WG_TELEMETRY_DISABLED=1\nMY_WG_TELEMETRY_DISABLED=1\n");
    wundergraph().send(&like, &receiver).run().sent();
}

#[test]
fn wg_api_url_moves_the_base_of_the_endpoint() {
    let (machine, receiver) = (server(), receiver());
    for base in [receiver.url(""), receiver.url("/"), receiver.url("/api")] {
        let run = wundergraph().run(&machine, "send").args(["-c", "10", "-t", "20"]);
        run.env("SSL_CERT_FILE", receiver.ca()).env("WG_API_URL", &base).run().sent();
    }
    let paths: Vec<Value> = receiver.requests().iter().map(|request| request["path"].clone()).collect();
    let path = "/operations/CollectMetricsV1";
    assert_eq!(paths, [path, path, &format!("/api{path}")]);
}
