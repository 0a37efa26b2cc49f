//! In the place of call-home.sh: its flags and variables where they are about files, IDs and times. tests/roots/expected
//! has those of what a record holds, tests/faults what is left, tests/system the shim that has its name.

use crate::harness::*;
use crate::vendors::assert_is;

const PSMDB: &str = "PRODUCT_FAMILY_PSMDB";
const OTHER_ID: &str = "6e5ff5d4-5617-41ee-8c99-0242ac120002";

/// With the command line that Percona's packages have.
fn call_home(machine: &Machine, receiver: &Receiver) -> Run {
    let line = format!("-f {PSMDB} -v 8.0.29-13 -d DOCKER -s el9 -t 7 -c 2 -u {}", receiver.url("/"));
    machine.run(line.split(' ')).env("SSL_CERT_FILE", receiver.ca())
}

#[test]
fn a_given_instance_id_counts_only_where_none_is_stored() {
    let (receiver, injected) = (Receiver::start(&[]), format!("{ID}\nX:1"));
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
            assert_eq!(receiver.last()["reports"][0]["instanceId"], id);
        }
    }
}

#[test]
fn a_variable_names_the_file_and_the_endpoint_unless_a_flag_does() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    for (flag, file) in [(&[][..], "srv/by-variable"), (&["-j", "/srv/by-flag"], "srv/by-flag")] {
        let run = call_home(&machine, &receiver).args(flag).env("PERCONA_TELEMETRY_URL", "https://127.0.0.1:1/");
        run.env("PERCONA_TELEMETRY_CONFIG_FILE_PATH", "/srv/by-variable").run().sent();
        let id = receiver.reports().pop().expect("a report")["instanceId"].take();
        let text = format!("instanceId:{}\n{PSMDB}:1\n", id.as_str().expect("an ID"));
        assert_eq!(machine.text(file), Some(text));
    }
    assert_eq!(machine.text(IDENTITY), None);
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
