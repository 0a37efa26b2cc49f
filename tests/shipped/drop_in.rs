//! In the place of call-home.sh: its flags, its variables, its file. Its name is the shim's, which tests/system runs.

use crate::consent::assert_sends;
use crate::harness::*;
use crate::vendors::assert_is;

const PSMDB: &str = "PRODUCT_FAMILY_PSMDB";
const OTHER_ID: &str = "6e5ff5d4-5617-41ee-8c99-0242ac120002";

/// With the command line that Percona's packages have.
fn call_home(machine: &Machine, receiver: &Receiver) -> Run {
    let line = format!("-f {PSMDB} -v 8.0.29-13 -d DOCKER -s el9 -t 7 -c 2 -u {}", receiver.url("/"));
    machine.run(line.split(' ')).env("SSL_CERT_FILE", receiver.ca())
}

/// The values of the last request's record: product family, instance ID, and those of the metrics by key.
fn reported(receiver: &Receiver) -> [String; 5] {
    let report = &receiver.last()["reports"][0];
    let metric = |index: usize| &report["metrics"][index]["value"];
    [&report["product_family"], &report["instanceId"], metric(0), metric(1), metric(2)]
        .map(|value| value.as_str().unwrap_or_default().to_owned())
}

/// tests/faults has what is left where nothing could be delivered.
#[test]
fn what_is_sent_leaves_what_call_home_sh_left() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    call_home(&machine, &receiver).run().sent();
    let id = machine.instance_id();
    assert_eq!(machine.identity(), Some(format!("instanceId:{id}\n{PSMDB}:1\n")));
    assert_eq!(reported(&receiver), [PSMDB, &id, "DOCKER", "8.0.29-13", "el9"]);
    // The agent, which is another user's, reads it.
    assert_eq!(machine.owner(IDENTITY).0, 0o644);
    // An upgrade, a reconfigure: nothing more is sent or said, or touched.
    assert_sends("again", false, &machine, &receiver, call_home(&machine, &receiver));
    // Another product of the same vendor reports under the same ID.
    machine.send(&receiver, "/", FAMILY).run().sent();
    assert_eq!(machine.identity(), Some(format!("instanceId:{id}\n{PSMDB}:1\n{FAMILY}:1\n")));
}

#[test]
fn a_given_instance_id_counts_only_where_none_is_stored() {
    let receiver = Receiver::start(&[]);
    let injected = format!("{ID}\nX:1");
    for (stored, given, expected) in
        [("", ID, ID), (OTHER_ID, ID, OTHER_ID), ("junk", ID, ID), ("", "junk", ""), ("", &injected, "")]
    {
        for by_flag in [true, false] {
            let machine = Machine::new().with(IDENTITY, format!("instanceId:{stored}\n"));
            let run = call_home(&machine, &receiver);
            let run = if by_flag { run.args(["-i", given]) } else { run.env("PERCONA_INSTANCE_ID", given) };
            run.run().sent();
            let id = machine.instance_id();
            assert_is("uuid4", &id);
            assert!(if expected.is_empty() { id != ID } else { id == expected }, "{stored} {given}: {id}");
            assert_eq!(reported(&receiver)[1], id);
        }
    }
}

/// tests/roots/expected has the variables of what a record holds.
#[test]
fn a_variable_names_the_file_unless_a_flag_does() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    for (flag, file) in [(&[][..], "srv/by-variable"), (&["-j", "/srv/by-flag"], "srv/by-flag")] {
        let run = call_home(&machine, &receiver).args(flag);
        run.env("PERCONA_TELEMETRY_CONFIG_FILE_PATH", "/srv/by-variable").run().sent();
        assert_eq!(machine.text(file), Some(format!("instanceId:{}\n{PSMDB}:1\n", reported(&receiver)[1])));
    }
    assert_eq!(machine.identity(), None);
}

#[test]
fn time_limits_come_from_variables_too() {
    let receiver = Receiver::start(&["--fault", "stall-accept"]);
    for (variable, other, phase) in [
        ("PERCONA_SEND_TIMEOUT", "PERCONA_CONNECT_TIMEOUT", "the time was up"),
        ("PERCONA_CONNECT_TIMEOUT", "PERCONA_SEND_TIMEOUT", "timed out"),
    ] {
        let machine = Machine::new();
        let run = machine.run(["-f", FAMILY, "-v", "1"]).env("PERCONA_TELEMETRY_URL", receiver.url("/"));
        let ended = run.env(variable, "0.5").env(other, "30").run().expect(0).says(phase);
        assert!(ended.time.as_secs_f64() < 2.0, "{variable}: {ended:?}");
    }
}
