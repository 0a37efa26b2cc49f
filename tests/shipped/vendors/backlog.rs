//! What could not be delivered: by the next send under the same ID, or by a flush that knows none of the directories;
//! and never against a "no" that was said meanwhile.

use std::collections::BTreeSet;
use std::fs;

use super::{COLLECTED, Kind, PROJECT_ID, body, command_of, package_json, server, to};
use crate::harness::{ClosedPort, Machine, Receiver, Run};

const OTHER_ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";

/// A machine with one pending record of each kind of `profiles`, and the receiver that was away then.
fn pending(machine: &Machine, profiles: &[&str]) -> Receiver {
    let closed = ClosedPort::new();
    for (index, profile) in profiles.iter().enumerate() {
        let run = Kind::of(profile).run(machine, "send").args(["-u", &format!("https://127.0.0.1:{}/", closed.port)]);
        let ended = run.run().expect(0);
        assert!(ended.stderr.contains("install record pending"), "{ended:?}");
        assert_eq!(machine.pending().len(), index + 1);
    }
    closed.open(&["--answer", COLLECTED])
}

/// By root's timer, which knows neither homes nor projects nor data directories.
fn flush(machine: &Machine, receiver: &Receiver) -> Run {
    machine.run(["flush", "-c", "10", "-t", "20"]).env("HOME", "/root").env("SSL_CERT_FILE", receiver.ca())
}

#[test]
fn a_flush_delivers_every_product_wherever_its_files_are() {
    let machine = server();
    let profiles = ["percona", "medusa", "wundergraph", "strapi", "memgraph"];
    let receiver = pending(&machine, &profiles);
    let waiting: Vec<_> = machine.pending().iter().map(|record| record["body"].clone()).collect();
    let ended = flush(&machine, &receiver).run().expect(0);
    assert!(ended.stderr.contains("sent 5 pending install records"), "{ended:?}");
    assert_eq!((machine.pending().len(), machine.receipts().len(), receiver.requests().len()), (0, 5, 5));
    // The very bytes.
    for number in 1..=5 {
        let body = String::from_utf8(receiver.body(number)).expect("UTF-8");
        assert!(waiting.contains(&body.into()));
    }
    flush(&machine, &receiver).run().silent();
    // And what is reported once stays reported.
    Kind::of("strapi").send(&machine, &receiver).run().silent();
    Kind::of("percona").send(&machine, &receiver).run().silent();
    assert_eq!(receiver.requests().len(), 5);
}

#[test]
fn a_send_takes_along_what_waits_under_the_same_id_and_nothing_else() {
    for (profile, more, is_same) in [
        ("percona", &["-f", "PRODUCT_FAMILY_PS", "-v", "8"][..], true),
        ("medusa", &["--event", "start", "--project", "/srv/shop"], true),
        ("wundergraph", &["--set", "command=up"], true),
        // Another project's record waits for that project's own run, or for a flush.
        ("strapi", &["--project", "/srv/shop", "-v", "4"], false),
        ("memgraph", &["--state-dir", "/srv/shop", "-v", "2.4"], false),
    ] {
        let other = if profile == "percona" { "medusa" } else { "percona" };
        let machine = server().with("srv/shop/package.json", package_json(&format!(r#""uuid":"{OTHER_ID}""#)));
        let receiver = pending(&machine, &[profile, other]);
        to(&receiver, "/", command_of(&machine, profile, "send").args(more)).run().sent();
        assert_eq!(receiver.requests().len(), if is_same { 2 } else { 1 }, "{profile}");
        let left: BTreeSet<_> = machine.pending().iter().map(|record| record["profile"].to_string()).collect();
        let waiting = if is_same { vec![other] } else { vec![other, profile] };
        assert_eq!(left, waiting.iter().map(|profile| format!("{profile:?}")).collect(), "{profile}");
    }
}

#[test]
fn a_no_of_one_project_holds_for_its_pending_record() {
    let package = "srv/app/package.json";
    let disabled = package_json(&format!(r#""uuid":"{PROJECT_ID}","telemetryDisabled":true"#));
    for (what, text) in [("disabled", Some(disabled)), ("no uuid any more", Some(package_json(""))), ("gone", None)] {
        let machine = server().with("srv/shop/package.json", package_json(&format!(r#""uuid":"{OTHER_ID}""#)));
        let receiver = pending(&machine, &["strapi"]);
        match text {
            Some(text) => fs::write(machine.path(package), text).expect("package.json"),
            None => fs::remove_file(machine.path(package)).expect("package.json"),
        }
        flush(&machine, &receiver).run().silent();
        assert_eq!(receiver.connections(), 0, "{what}");
        // Another project's send is no way around it.
        let run = command_of(&machine, "strapi", "send").args(["--project", "/srv/shop", "-v", "4"]);
        to(&receiver, "/", run).run().sent();
        assert_eq!(receiver.requests().len(), 1, "{what}");
        assert_eq!(body(&receiver, 1)["uuid"], OTHER_ID, "{what}");
        assert_eq!(machine.pending().len(), 1, "{what}");
    }
}

#[test]
fn a_no_of_the_user_holds_for_what_roots_timer_would_deliver() {
    let machine = server();
    let receiver = pending(&machine, &["medusa"]);
    let config = machine.path("home/dev/.config/medusa/config.json");
    let text = fs::read_to_string(&config).expect("config.json");
    let off = text.replacen("\"telemetry\": {", "\"telemetry\": {\n\t\t\"enabled\": false,", 1);
    assert_ne!(off, text);
    fs::write(&config, &off).expect("config.json");
    flush(&machine, &receiver).run().silent();
    assert_eq!((receiver.connections(), machine.pending().len()), (0, 1));
    fs::write(&config, &text).expect("config.json");
    let ended = flush(&machine, &receiver).run().expect(0);
    assert!(ended.stderr.contains("sent 1 pending install records"), "{ended:?}");
}
