//! The binary in the place of call-home.sh: its name, its flags, its variables, its file (issue 2, item 2).

use std::fs;

use crate::consent::assert_sends;
use crate::harness::{ClosedPort, FAMILY, IDENTITY, Machine, Receiver, Run};
use crate::skip;
use crate::vendors::{assert_is, mode};

const PSMDB: &str = "PRODUCT_FAMILY_PSMDB";
const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
const OTHER_ID: &str = "6e5ff5d4-5617-41ee-8c99-0242ac120002";

/// The command line that Percona's packages have.
fn call_home_flags(url: &str) -> Vec<String> {
    let line = format!("-f {PSMDB} -v 8.0.29-13 -d DOCKER -s el9 -t 7 -c 2 -u {url}");
    line.split(' ').map(str::to_owned).collect()
}

fn call_home(machine: &Machine, receiver: &Receiver) -> Run {
    machine.run(call_home_flags(&receiver.url("/v1/telemetry/GenericReport"))).env("SSL_CERT_FILE", receiver.ca())
}

/// The values of the last request's record: product family, instance ID, and those of the metrics by key.
fn reported(receiver: &Receiver) -> [String; 5] {
    let report = &receiver.last()["reports"][0];
    let metric = |index: usize| &report["metrics"][index]["value"];
    [&report["product_family"], &report["instanceId"], metric(0), metric(1), metric(2)]
        .map(|value| value.as_str().unwrap_or_default().to_owned())
}

#[test]
fn sent_unreachable_and_opted_out_leave_what_call_home_sh_left() {
    for is_in_its_place in [false, true] {
        let (receiver, closed) = (Receiver::start(&[]), ClosedPort::new());
        let machine =
            || Machine::new().with("ca.pem", fs::read(receiver.ca()).expect("CA")).with_binary("call-home.sh");
        let run = |machine: &Machine, url: &str| match is_in_its_place {
            false => Some(machine.run(call_home_flags(url)).env("SSL_CERT_FILE", receiver.ca())),
            true => {
                let run = Run::new().program("/call-home.sh").args(call_home_flags(url));
                run.env("SSL_CERT_FILE", "/ca.pem").inside(machine)
            }
        };
        let (sent, url) = (machine(), receiver.url("/v1/telemetry/GenericReport"));
        let Some(first) = run(&sent, &url) else {
            skip!("needs a static binary and chroot, as root or in a user namespace")
        };
        first.run().sent();
        let id = sent.instance_id();
        assert_eq!(sent.identity(), Some(format!("instanceId:{id}\n{PSMDB}:1\n")));
        assert_eq!(reported(&receiver), [PSMDB, &id, "DOCKER", "8.0.29-13", "el9"]);
        assert_eq!(receiver.requests()[0]["path"], "/v1/telemetry/GenericReport");
        // The agent, which is another user's, reads it.
        assert_eq!(mode(&sent, IDENTITY), 0o644);
        // An upgrade, a reconfigure: nothing more is sent or said, or touched.
        assert_sends("again", false, &sent, &receiver, run(&sent, &url).expect("chroot"));
        // Another product of the same vendor reports under the same ID.
        sent.send(&receiver, "/", FAMILY).run().sent();
        assert_eq!(sent.identity(), Some(format!("instanceId:{id}\n{PSMDB}:1\n{FAMILY}:1\n")));

        let unreachable = machine();
        let ended = run(&unreachable, &closed.url()).expect("chroot").run().expect(0);
        assert!(ended.stderr.contains("pending"), "{ended:?}");
        assert_eq!(unreachable.identity(), Some(format!("instanceId:{}\n", unreachable.instance_id())));

        let refused = machine();
        for variable in ["PERCONA_TELEMETRY_DISABLE", "DO_NOT_TRACK"] {
            let run = run(&refused, &url).expect("chroot").env(variable, "1");
            assert_sends(variable, false, &refused, &receiver, run);
        }
    }
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

#[test]
fn every_variable_of_call_home_sh_and_flags_win_over_them() {
    let (receiver, elsewhere) = (Receiver::start(&[]), Receiver::start(&[]));
    let with_variables = |machine: &Machine| {
        let url = receiver.url("/by-variable");
        let variables = format!(
            "PRODUCT_FAMILY={FAMILY}|PRODUCT_VERSION=1.2.3|DEPLOYMENT_METHOD=TARBALL|OPERATING_SYSTEM=Some OS|INSTANCE_ID={ID}\
             |TELEMETRY_CONFIG_FILE_PATH=/srv/by-variable|TELEMETRY_URL={url}|CONNECT_TIMEOUT=10|SEND_TIMEOUT=20"
        );
        let pairs = variables.split('|').filter_map(|variable| variable.split_once('='));
        let run = Run::new().on(machine).env("SSL_CERT_FILE", receiver.ca());
        pairs.fold(run, |run, (name, value)| run.env(&format!("PERCONA_{name}"), value))
    };
    let machine = Machine::new();
    with_variables(&machine).run().sent();
    assert_eq!(reported(&receiver), [FAMILY, ID, "TARBALL", "1.2.3", "Some OS"]);
    let file = |path: &str| fs::read_to_string(machine.path(path)).ok();
    assert_eq!(file("srv/by-variable"), Some(format!("instanceId:{ID}\n{FAMILY}:1\n")));

    let url = elsewhere.url("/by-flag");
    let flags = format!("-f {PSMDB} -v 4.5 -d DOCKER -s el9 -i {OTHER_ID} -j /srv/by-flag -c 10 -t 20 -u {url}");
    with_variables(&machine).args(flags.split(' ')).env("SSL_CERT_FILE", elsewhere.ca()).run().sent();
    assert_eq!(reported(&elsewhere), [PSMDB, OTHER_ID, "DOCKER", "4.5", "el9"]);
    assert_eq!(file("srv/by-flag"), Some(format!("instanceId:{OTHER_ID}\n{PSMDB}:1\n")));
    assert_eq!((receiver.connections(), machine.identity()), (1, None));
    let paths = [&receiver, &elsewhere].map(|receiver| receiver.requests()[0]["path"].clone());
    assert_eq!(paths, ["/by-variable", "/by-flag"]);
    // An empty flag or variable is none.
    let empty = Machine::new();
    with_variables(&empty).env("PERCONA_DEPLOYMENT_METHOD", "").args(["-v", "", "-s", ""]).run().sent();
    assert_eq!(reported(&receiver), [FAMILY, ID, "PACKAGE", "1.2.3", "Some OS"]);
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
        let ended = run.env(variable, "0.5").env(other, "30").run().expect(0);
        assert!(ended.time.as_secs_f64() < 2.0 && ended.stderr.contains(phase), "{variable}: {ended:?}");
    }
}

/// src/ledger/identity.rs has what else can be in such a file.
#[test]
fn files_that_call_home_sh_wrote_are_read_and_kept() {
    let receiver = Receiver::start(&[]);
    let others = format!("# by hand\n\nconfig_write_check:1\r\n{FAMILY}:1\ninstanceId: {ID}\r\nother:7\n");
    // What it reported is reported, whatever the value.
    for (before, added) in [
        (format!("instanceId:{ID}"), Some(format!("\n{PSMDB}:1\n"))),
        (others, Some(format!("{PSMDB}:1\n"))),
        (format!("{PSMDB}: 1\r\ninstanceId:{ID}"), None),
        (format!("instanceId:{ID}\n{PSMDB}:0\n"), None),
    ] {
        let machine = Machine::new().with(IDENTITY, &before);
        assert_sends(&before, added.is_some(), &machine, &receiver, call_home(&machine, &receiver));
        let after = before + &added.unwrap_or_default();
        assert_eq!((machine.identity(), &*reported(&receiver)[1]), (Some(after), ID));
    }
    // Under another ID, every family reports again.
    let before = format!("instanceId:junk\n{PSMDB}:1\n{FAMILY}:1\nconfig_write_check:1\n");
    let machine = Machine::new().with(IDENTITY, before);
    call_home(&machine, &receiver).run().sent();
    let id = machine.instance_id();
    assert_eq!(machine.identity(), Some(format!("instanceId:{id}\nconfig_write_check:1\n{PSMDB}:1\n")));
    machine.send(&receiver, "/", FAMILY).run().sent();
    assert_eq!((machine.instance_id(), machine.receipts().len()), (id, 2));
}
