//! Endpoints, proxies and configured certificates. The faults of a network and what answers mean are in tests/faults.

use std::fs;

use crate::harness::{FAMILY, Machine, Receiver, STATE, offline, wait_until};
use crate::skip;

#[test]
fn without_a_url_it_goes_to_the_endpoint_that_status_names() {
    let Some(offline) = offline("") else { skip!("needs a namespace without a network") };
    let machine = Machine::new();
    machine.run(["-f", FAMILY, "-v", "1", "-t", "1"]).under(offline).run().expect(0);
    assert_eq!(machine.pending()[0]["url"], machine.run(["status", "--json"]).run().json()["endpoint"]);
}

#[test]
fn a_ledger_that_others_hold_delays_only_what_was_answered() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&["--fault", "stall-accept"]));
    let running = machine.send(&receiver, "/", FAMILY).args(["-t", "1"]).spawn();
    wait_until("the courier has connected", || receiver.connections() == 1);
    let lock = fs::File::open(machine.path(STATE)).expect("the state directory");
    lock.lock().expect("flock");
    let ended = running.wait().expect(0);
    assert!(ended.time.as_secs_f64() < 1.0 + 1.5, "{ended:?}");
    assert!(ended.stderr.contains("install record pending"), "{ended:?}");
    assert_eq!(machine.identity(), Some(format!("instanceId:{}\n", machine.instance_id())));
    assert_eq!((machine.pending().len(), machine.receipts().len()), (1, 0));
}

#[test]
fn where_a_redirect_points_is_not_said_if_it_may_be_a_password() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    let ended = machine.send(&receiver, "/redirect/307?to=/user:s3cret@final", FAMILY).run().expect(0);
    assert!(ended.stderr.contains("(receive: 127.0.0.1 answered 307 and points to another place)"), "{ended:?}");
    assert_eq!((machine.pending().len(), receiver.requests().len()), (1, 1));
}

#[test]
fn configured_certificates_are_the_only_ones() {
    let receiver = Receiver::start(&[]);
    let files = Machine::bare().with("empty.pem", "no certificate\n");
    files.sh(&format!(
        "printf -- '-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n' >junk.pem
         mkdir hashed other; cp {ca} hashed/5ed36f99.0
         cp {ca} other/ca.pem; cp {ca} other/5ed36f99.r0; cp {ca} other/5ed36f9.0",
        ca = receiver.ca().display()
    ));
    // A directory counts by its hashed names alone, and may be one of several.
    for (variable, value, is_delivered) in [
        ("SSL_CERT_FILE", "$/empty.pem", false),
        ("SSL_CERT_FILE", "$/missing.pem", false),
        ("SSL_CERT_FILE", "$/junk.pem", false),
        ("SSL_CERT_DIR", "$", false),
        ("SSL_CERT_DIR", "$/other", false),
        ("SSL_CERT_DIR", "$/hashed", true),
        ("SSL_CERT_DIR", "/nonexistent:$:$/hashed", true),
    ] {
        let (machine, before) = (Machine::new(), receiver.connections());
        let value = value.replace('$', files.root().to_str().expect("UTF-8"));
        // Not `Machine::send`, which configures the receiver's authority.
        let run = machine.run(["send", "-f", FAMILY, "-v", "1", "-c", "20", "-t", "20", "-u", &receiver.url("/")]);
        let ended = run.env(variable, &value).run().expect(0);
        let said = format!("(tls: no certificate authority in {value}");
        assert_eq!(ended.stderr.contains(&said), !is_delivered, "{value}: {ended:?}");
        let found = (receiver.connections() - before, machine.pending().is_empty());
        assert_eq!(found, (is_delivered.into(), is_delivered), "{value}");
    }
}
