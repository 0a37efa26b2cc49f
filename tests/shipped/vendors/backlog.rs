//! What could not be delivered: by the next send under the same ID, or by a flush that knows none of the directories;
//! and never against a "no" that was said meanwhile.

use super::{Kind, LUMENQ, MEDUSA, MEMGRAPH, PERCONA, STRAPI, WUNDERGRAPH, command_of, server};
use crate::harness::*;

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
        no.map(|no| fs::copy(roots().join(no), &file).expect("a no"));
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
