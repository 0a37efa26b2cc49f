//! Memgraph: the machine at a start, the use of resources while it runs, counters by name, an ID "tied to nothing else".
//! That it is off by default is in tests/roots/expected.

use serde_json::{Value, json};

use super::{MEMGRAPH, assert_is, command_of, mode, read, server, to};
use crate::harness::{Machine, Receiver, Run};

const ID_FILE: &str = "srv/data/telemetry_id";

/// The record of what a running database uses.
fn usage(machine: &Machine, args: &[&str]) -> Run {
    MEMGRAPH.run(machine, "show").args(["--event=7"]).args(args)
}

#[test]
fn promise_an_id_of_the_database_tied_to_nothing_else() {
    let (one, other, receiver) = (server(), server().with("srv/second/storage", ""), Receiver::start(&[]));
    let send = |machine: &Machine, directory: &str| {
        let run = command_of(machine, "memgraph", "send").args(["-v", "2.3.1", "--state-dir", directory]);
        to(&receiver, MEMGRAPH.path(), run).run().sent();
        receiver.last()[0]["run_id"].as_str().expect("an ID").to_owned()
    };
    let first = send(&one, "/srv/data");
    assert_is("uuid4", &first);
    assert_eq!((read(&one, ID_FILE), mode(&one, ID_FILE)), (format!("{first}\n"), 0o600));
    assert_eq!(send(&one, "/srv/data"), first);
    // The same hardware and machine-id elsewhere, and another database on one machine.
    let (second, third) = (send(&other, "/srv/data"), send(&other, "/srv/second"));
    assert!(first != second && second != third && first != third, "{first} {second} {third}");
    // It goes with the data: a new directory is a new database, a moved one the same.
    std::fs::remove_file(one.path(ID_FILE)).expect("ID");
    assert_ne!(send(&one, "/srv/data"), first);
    std::fs::rename(other.path("srv/second"), other.path("srv/third")).expect("rename");
    assert_eq!(send(&other, "/srv/third"), third);
}

#[test]
fn promise_only_counters_and_modules_by_name() {
    let machine = server();
    let given = [
        r#"--set=event_counters={"FailedQuery":0,"MATCH (n {name: 'Mallory'}) RETURN n":1,"Password":2}"#,
        "--set=event_counters.ReadQuery=18446744073709551615",
        "--set=event_counters.Secrets=3",
        "--set=query_module_counters.nxalg.pagerank=2",
        r#"--set=query_module_counters={"/usr/lib/memgraph/secret.so":3,"a secret":4,"mgps.get":1}"#,
        "--set=query_module_counters.10.0.0.1=5",
        "--set=hostname=secrethost",
        "--set=storage.labels=Patient",
        "--pid=4712",
    ];
    let shown = usage(&machine, &given).run();
    let expected = json!({
        "event_counters": {"FailedQuery": 0, "ReadQuery": u64::MAX},
        "query_module_counters": {"mgps.get": 1, "nxalg.pagerank": 2},
        "storage": {"edges": 0, "vertices": 0},
        // Of a process that has ended.
        "resources": {"cpu": {"usage": null}, "memory": null},
        "uptime": null,
    });
    assert_eq!((&shown.json()[0]["event"], &shown.json()[0]["data"]), (&json!(7), &expected));
    let words = ["Mallory", "secret", "Secret", "Patient", "10.0.0.1", "Password"];
    assert!(!words.iter().any(|word| shown.text().contains(word)), "{}", shown.text());
}

#[test]
fn every_counter_of_the_product_gets_through_and_another_is_named() {
    let profile: Value = serde_json::from_str(include_str!("../../../profiles/memgraph.json")).expect("JSON");
    let names = profile["set"]["event_counters"]["names"].as_array().expect("names");
    assert!(names.len() >= 120, "{}", names.len());
    let name = |name: &Value| name.as_str().expect("a name").to_owned();
    let counts = Value::Object(names.iter().map(|counter| (name(counter), json!(1_234_567_890))).collect());
    let given = format!("--set=event_counters={counts}");
    let shown = usage(&server(), &[&given, "--set=event_counters.NewCounter=1", "--verbose"]).run();
    assert_eq!(shown.json()[0]["data"]["event_counters"], counts);
    let named = "--set event_counters.NewCounter: the record of memgraph does not name it";
    assert!(shown.stderr.contains(named), "{shown:?}");
}
