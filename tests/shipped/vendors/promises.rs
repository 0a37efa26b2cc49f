//! What the products promise of IDs, switches and counters; and what could not be delivered: who delivers it, and that
//! a "no" that was said meanwhile holds. tests/roots/expected has most ways to say no.

use super::{KINDS, Kind, LUMENQ, MEDUSA, MEMGRAPH, PERCONA, STRAPI, WUNDERGRAPH, command_of, matched, server};
use crate::consent::assert_sends;
use crate::harness::*;

const CONFIG: &str = "home/dev/.config/medusa/config.json";

/// src/ledger/identity.rs has how a file is written.
#[test]
fn ids_are_random_and_kept_and_go_with_their_directory() {
    let receiver = Receiver::start(&["--answer", WUNDERGRAPH.answer]);
    // Where an ID is in a record, and where it is kept, `*` being the directory of the run.
    for (kind, pointer, file) in [
        (MEDUSA, "/batch/0/machine_id", CONFIG),
        (MEDUSA, "/batch/0/project_id", "srv/*/.medusa-project-id"),
        (MEMGRAPH, "/0/run_id", "srv/*/telemetry_id"),
        (WUNDERGRAPH, "/clientInfo/anonymousID", "home/dev/wundergraph.config.json"),
    ] {
        let flag = if kind.profile == "memgraph" { "--state-dir" } else { "--project" };
        let sent = |machine: &Machine, directory: &str| {
            kind.send(machine, &receiver).args([flag, &format!("/srv/{directory}")]).run().sent();
            let id = receiver.last().pointer(pointer).and_then(Value::as_str).expect(pointer).to_owned();
            let file = file.replace('*', directory);
            let is_kept = machine.text(&file).is_some_and(|text| text.contains(&id));
            assert_eq!((is_kept, machine.owner(&file).0), (true, 0o600), "{pointer}");
            id
        };
        // Nothing is derived from what the two machines have in common: all they have.
        let [one, other] = [(); 2].map(|()| server().with("srv/one/x", "").with("srv/two/x", ""));
        let (first, second) = (sent(&one, "one"), sent(&one, "two"));
        assert_eq!(first == second, !file.contains('*'), "{pointer}");
        assert_eq!(sent(&one, "one"), first);
        assert_ne!(sent(&other, "one"), first);
        one.sh("mv srv/two srv/three");
        assert_eq!(sent(&one, "three"), second);
        fs::remove_file(one.path(&file.replace('*', "one"))).expect("ID");
        assert_ne!(sent(&one, "one"), first);
    }
}

/// What says no there is src/consent/product.rs's.
#[test]
fn medusa_is_off_by_its_own_switch() {
    let receiver = Receiver::start(&[]);
    // A file and a directory that are there already keep their modes.
    for (machine, id, modes) in [
        (server(), None, [0o600, 0o700]),
        (server().with(CONFIG, format!(r#"{{"telemetry":{{"machine_id":"{ID}"}}}}"#)), Some(ID), [0o644, 0o755]),
    ] {
        let telemetry = || {
            let config: Value = serde_json::from_str(&machine.text(CONFIG).expect("a file")).expect("JSON");
            (config["telemetry"]["enabled"].clone(), config["telemetry"]["machine_id"].as_str().map(str::to_owned))
        };
        command_of(&machine, "medusa", "off").run().expect(0);
        assert_eq!(telemetry(), (json!(false), id.map(str::to_owned)));
        assert_eq!([CONFIG, "home/dev/.config/medusa"].map(|path| machine.owner(path).0), modes);
        // The product's own switch is enough, without ours.
        machine.sh("rm -r etc/install-record");
        assert_sends("off", false, &machine, &receiver, MEDUSA.send(&machine, &receiver));
        let said = "/home/dev/.config/medusa/config.json, the product's own file";
        MEDUSA.send(&machine, &receiver).args(["--verbose"]).run().says(said);

        command_of(&machine, "medusa", "on").run().expect(0);
        assert_eq!(telemetry().0, true);
        MEDUSA.send(&machine, &receiver).run().sent();
    }
    assert_eq!(receiver.last()["batch"][0]["machine_id"], ID);
}

#[test]
fn memgraph_sends_only_counters_and_modules_by_name() {
    let machine = server();
    let usage = |args: &[&str]| MEMGRAPH.run(&machine, "show").args(["--event=7", "--verbose"]).args(args).run();
    let shown = usage(&[
        r#"--set=event_counters={"FailedQuery":0,"MATCH (n {name: 'Mallory'}) RETURN n":1,"Secrets":3}"#,
        "--set=event_counters.ReadQuery=18446744073709551615",
        "--set=event_counters.Password=3",
        "--set=query_module_counters.nxalg.pagerank=2",
        r#"--set=query_module_counters={"/usr/lib/memgraph/secret.so":3,"a secret":4,"10.0.0.1":5,"mgps.get":1}"#,
        "--set=hostname=secrethost",
        "--set=storage.labels=Patient",
        "--pid=4712",
    ]);
    let expected = json!({
        "event_counters": {"FailedQuery": 0, "ReadQuery": u64::MAX},
        "query_module_counters": {"mgps.get": 1, "nxalg.pagerank": 2},
        "storage": {"edges": 0, "vertices": 0},
        "resources": {"cpu": {"usage": null}, "memory": null},
        "uptime": null,
    });
    assert_eq!((&shown.json()[0]["event"], &shown.json()[0]["data"]), (&json!(7), &expected));
    let words = ["Mallory", "secret", "Secret", "Patient", "10.0.0.1", "Password"];
    assert!(!words.iter().any(|word| shown.text().contains(word)), "{}", shown.text());
    // Every counter of the product gets through, and another is named.
    let profile: Value = serde_json::from_str(include_str!("../../../profiles/memgraph.json")).expect("JSON");
    let names = profile["set"]["event_counters"]["names"].as_array().expect("names");
    assert!(names.len() >= 120, "{}", names.len());
    let count = |name: &Value| (name.as_str().expect("a name").to_owned(), json!(1_234_567));
    let counts: Value = names.iter().map(count).collect();
    let shown = usage(&[&format!("--set=event_counters={counts}"), "--set=event_counters.NewCounter=1"]);
    assert_eq!(shown.json()[0]["data"]["event_counters"], counts);
    shown.says("--set event_counters.NewCounter: memgraph knows no such counter");
}

#[test]
fn strapi_is_no_crash_in_a_distroless_container_and_its_uuid_is_read_and_never_made() {
    let (receiver, mut seen) = (Receiver::start(&[]), BTreeSet::new());
    let container = || Machine::of("distroless");
    for machine in [container(), container(), container().with("etc/machine-id", "uninitialized\n")] {
        let run = command_of(&machine, "strapi", "send").args(["--project", "/srv/app", "-v", "3.0.0"]);
        run.env("NODE_ENV", "production").to(&receiver, "/track").run().sent();
        let text = String::from_utf8(receiver.body(receiver.requests().len())).expect("UTF-8");
        seen.extend(matched(include_str!("../golden/strapi-distroless.json"), &text));
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    let machine = server();
    // Nor is the file replaced by a copy, or given a neighbour.
    let files = || machine.snapshot().into_iter().filter(|line| line.contains("srv/app")).collect::<Vec<_>>();
    let before = files();
    STRAPI.send(&machine, &receiver).run().sent();
    for command in ["off", "on", "forget"] {
        command_of(&machine, "strapi", command).args(["--project", "/srv/app"]).run().expect(0);
    }
    assert_eq!(files(), before);
}

/// That it prints nothing where somebody said no is consent.rs's.
#[test]
fn wundergraphs_debug_variable_prints_exactly_what_is_sent() {
    let receiver = Receiver::start(&["--answer", WUNDERGRAPH.answer]);
    for variable in ["WUNDER_TELEMETRY_DEBUG", "WG_TELEMETRY_DEBUG"] {
        for kind in KINDS.iter().filter(|kind| kind.profile == "wundergraph") {
            let ended = kind.send(&server(), &receiver).env(variable, "true").run();
            let sent = receiver.body(receiver.requests().len());
            assert_eq!((ended.status, ended.stdout), (Some(0), [&sent[..], b"\n"].concat()), "{variable}");
        }
        for value in ["false", "0", ""] {
            WUNDERGRAPH.send(&server(), &receiver).env(variable, value).run().sent();
        }
    }
}

/// One pending record of each of `kinds` on a server with another project; and the receiver that was away then.
fn pending(machine: Machine, kinds: &[Kind]) -> (Machine, Receiver) {
    let closed = ClosedPort::new();
    for kind in kinds {
        kind.run(&machine, "send").args(["-u", &closed.url()]).run().expect(0).says("install record pending");
    }
    assert_eq!(machine.pending().len(), kinds.len());
    (machine, closed.open(&["--answer", WUNDERGRAPH.answer]))
}

/// By root's timer, which knows neither homes nor projects nor data directories.
#[test]
fn a_flush_delivers_every_product_wherever_its_files_are() {
    let (machine, receiver) = pending(server(), &[PERCONA, MEDUSA, WUNDERGRAPH, STRAPI, MEMGRAPH, LUMENQ]);
    let waiting: BTreeSet<_> = machine.pending().iter().map(|record| record["body"].to_string()).collect();
    let flush = || machine.flush(&receiver).env("HOME", "/root").run();
    flush().expect(0).says("sent 6 pending install records");
    assert_eq!((machine.pending().len(), machine.receipts().len()), (0, 6));
    let body = |number| json!(String::from_utf8(receiver.body(number)).expect("UTF-8")).to_string();
    assert_eq!((1..=6).map(body).collect::<BTreeSet<_>>(), waiting);
    flush().silent();
    // And what is reported once stays reported.
    STRAPI.send(&machine, &receiver).args(["-v", "4.0.0"]).run().silent();
    PERCONA.send(&machine, &receiver).run().silent();
    assert_eq!(receiver.requests().len(), 6);
}

#[test]
fn a_send_takes_along_what_waits_under_the_same_id_and_nothing_else() {
    for (kind, other, more, is_same) in [
        (PERCONA, MEDUSA, &["-f", OTHER, "-v", "8"][..], true),
        (PERCONA, MEDUSA, &["-f", OTHER, "-v", "8", "-j", "/srv/elsewhere"], false),
        (MEDUSA, PERCONA, &["--event", "start", "--project", "/srv/shop"], true),
        (WUNDERGRAPH, PERCONA, &["--set", "command=up"], true),
        // Another project's record waits for that project's own run, or for a flush.
        (STRAPI, PERCONA, &["--project", "/srv/shop", "-v", "4"], false),
        (MEMGRAPH, PERCONA, &["--state-dir", "/srv/shop", "-v", "2.4"], false),
    ] {
        let (machine, receiver) = pending(server(), &[kind, other]);
        command_of(&machine, kind.profile, "send").args(more).to(&receiver, "/").run().sent();
        let profile = |left: &Value| left["profile"].as_str().expect("a profile").to_owned();
        let left: BTreeSet<_> = machine.pending().iter().map(profile).collect();
        let expected = if is_same { vec![other.profile] } else { vec![other.profile, kind.profile] };
        assert_eq!(receiver.requests().len(), 3 - expected.len(), "{}", kind.profile);
        assert_eq!(left, expected.into_iter().map(str::to_owned).collect(), "{}", kind.profile);
    }
}

#[test]
fn a_no_of_a_project_or_a_user_holds_for_the_pending_record() {
    const PACKAGE: &str = "srv/app/package.json";
    const OF_MEMGRAPH: &str = "memgraph-on/home/off/.memgraph/config";
    // Its only "yes" is where this run alone is told to look.
    let memgraph = Kind { env: &[("MEMGRAPH_CONFIG", "/srv/memgraph.conf")], ..MEMGRAPH };
    // The second file is one of tests/roots, and takes the place of the first.
    for (kind, path, no) in [
        (STRAPI, PACKAGE, Some("strapi/srv/off-junk/package.json")),
        (STRAPI, PACKAGE, Some("strapi/srv/no-uuid/package.json")),
        (STRAPI, PACKAGE, None),
        (MEDUSA, "home/dev/.config/medusa/config.json", Some("medusa/home/off/.config/medusa/config.json")),
        // The files of the user who made the record, and not of the one who flushes.
        (memgraph, "home/dev/.memgraph/config", Some(OF_MEMGRAPH)),
        (memgraph, "srv/memgraph.conf", Some(OF_MEMGRAPH)),
    ] {
        let machine = server();
        machine.sh("mv etc/memgraph/memgraph.conf srv");
        let (machine, receiver) = pending(machine, &[kind]);
        let flush = || machine.flush(&receiver).env("HOME", "/root").run();
        let (file, before) = (machine.path(path), machine.text(path));
        fs::create_dir_all(file.parent().expect("a directory")).expect("the product's directory");
        let _ = fs::remove_file(&file);
        no.map(|no| fs::copy(Path::new(ROOTS).join(no), &file).expect("a no"));
        flush().silent();
        assert_eq!((receiver.connections(), machine.pending().len()), (0, 1), "{path}");
        if kind.profile == "strapi" {
            // Another project's send is no way around it.
            let run = command_of(&machine, "strapi", "send").args(["--project", "/srv/shop", "-v", "4"]);
            run.to(&receiver, "/").run().sent();
            assert_eq!((receiver.requests().len(), machine.pending().len()), (1, 1));
            assert_eq!(receiver.last()["uuid"], ID);
        }
        fs::write(&file, before.unwrap_or_default()).expect("the product's file");
        flush().expect(0).says("sent 1 pending install record");
    }
}
