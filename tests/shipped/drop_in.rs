//! The binary in the place of call-home.sh: its name, its flags, its variables, its file (issue 2, item 2).

use crate::harness::{ClosedPort, FAMILY, IDENTITY, Machine, Receiver, Run, STATE};
use crate::skip;

const PSMDB: &str = "PRODUCT_FAMILY_PSMDB";
const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
const OTHER_ID: &str = "6e5ff5d4-5617-11ee-8c99-0242ac120002";

/// The command line that Percona's packages have: `-f … -v … -d DOCKER -s el9 -t 7 -c 2 -u URL`.
fn call_home_flags(url: &str) -> Vec<String> {
    let line = format!("-f {PSMDB} -v 8.0.29-13 -d DOCKER -s el9 -t 7 -c 2 -u {url}");
    line.split(' ').map(str::to_owned).collect()
}

fn call_home(machine: &Machine, receiver: &Receiver) -> Run {
    machine.run(call_home_flags(&receiver.url("/v1/telemetry/GenericReport"))).env("SSL_CERT_FILE", receiver.ca())
}

#[track_caller]
fn assert_is_uuid(text: &str) {
    let parsed = uuid::Uuid::try_parse(text);
    assert!(parsed.is_ok_and(|id| id.get_version_num() == 4) && text.len() == 36, "{text} is no random UUID");
}

/// The values of one request's record: product family, instance ID, and those of the metrics by key.
fn reported(receiver: &Receiver, number: usize) -> [String; 5] {
    let body: serde_json::Value = serde_json::from_slice(&receiver.body(number)).expect("JSON");
    let report = &body["reports"][0];
    let metric = |index: usize| report["metrics"][index]["value"].as_str().unwrap_or_default().to_owned();
    let member = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
    [member("product_family"), member("instanceId"), metric(0), metric(1), metric(2)]
}

#[test]
fn call_home_sh_replaced_in_a_root_of_its_own() {
    let receiver = Receiver::start(&[]);
    let closed = ClosedPort::new();
    let machine = || {
        let ca = std::fs::read(receiver.ca()).expect("CA");
        Machine::new().with("ca.pem", ca).with_binary("call-home.sh")
    };
    let run = |machine: &Machine, url: &str| {
        let run = Run::new().program("/call-home.sh").args(call_home_flags(url)).env("SSL_CERT_FILE", "/ca.pem");
        run.inside(machine)
    };
    let sent = machine();
    let Some(first) = run(&sent, &receiver.url("/v1/telemetry/GenericReport")) else {
        skip!("needs a static binary and chroot, as root or in a user namespace")
    };
    first.run().sent();
    let id = sent.instance_id();
    assert_is_uuid(&id);
    assert_eq!(sent.identity(), Some(format!("instanceId:{id}\n{PSMDB}:1\n")));
    assert_eq!(reported(&receiver, 1), [PSMDB, &id, "DOCKER", "8.0.29-13", "el9"]);

    let unreachable = machine();
    run(&unreachable, &format!("https://127.0.0.1:{}/", closed.port)).expect("chroot").run().expect(0);
    assert_eq!(unreachable.identity(), Some(format!("instanceId:{}\n", unreachable.instance_id())));

    let refused = machine();
    let before = refused.snapshot();
    let no = run(&refused, &receiver.url("/")).expect("chroot").env("PERCONA_TELEMETRY_DISABLE", "1");
    no.run().silent();
    assert_eq!(refused.snapshot(), before);
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn sent_unreachable_and_opted_out_leave_what_call_home_sh_left() {
    let receiver = Receiver::start(&[]);
    let sent = Machine::new();
    call_home(&sent, &receiver).run().sent();
    let id = sent.instance_id();
    assert_is_uuid(&id);
    assert_eq!(sent.identity(), Some(format!("instanceId:{id}\n{PSMDB}:1\n")));
    assert_eq!(reported(&receiver, 1), [PSMDB, &id, "DOCKER", "8.0.29-13", "el9"]);
    assert_eq!(receiver.requests()[0]["path"], "/v1/telemetry/GenericReport");
    // An upgrade, a reconfigure: nothing more is sent or said, or touched.
    let before = sent.snapshot();
    call_home(&sent, &receiver).run().silent();
    assert_eq!(sent.snapshot(), before);
    // Another product of the same vendor reports under the same ID.
    sent.send(&receiver, "/", FAMILY).run().sent();
    assert_eq!(sent.identity(), Some(format!("instanceId:{id}\n{PSMDB}:1\n{FAMILY}:1\n")));

    let closed = ClosedPort::new();
    let unreachable = Machine::new();
    let ended = unreachable.run(call_home_flags(&format!("https://127.0.0.1:{}/", closed.port))).run().expect(0);
    assert!(ended.stderr.contains("pending"), "{ended:?}");
    assert_eq!(unreachable.identity(), Some(format!("instanceId:{}\n", unreachable.instance_id())));

    let refused = Machine::new();
    let before = refused.snapshot();
    for variable in ["PERCONA_TELEMETRY_DISABLE", "DO_NOT_TRACK"] {
        call_home(&refused, &receiver).env(variable, "1").run().silent();
    }
    assert_eq!(refused.snapshot(), before);
    assert_eq!(receiver.connections(), 2);
}

#[test]
fn the_mode_of_the_identity_file_lets_the_agent_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    call_home(&machine, &receiver).run().sent();
    let mode = std::fs::metadata(machine.path(IDENTITY)).expect("identity file").permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
}

#[test]
fn a_given_instance_id_counts_only_where_none_is_stored() {
    let receiver = Receiver::start(&[]);
    for (what, stored, given, expected) in [
        ("none stored", None, ID, Some(ID)),
        ("one stored", Some(OTHER_ID), ID, Some(OTHER_ID)),
        ("a bad one stored", Some("junk"), ID, Some(ID)),
        ("not a UUID", None, "junk", None),
        ("not a UUID, but long enough", None, "zzf5fc62-35b4-4716-b3e6-96c761fc204d", None),
        ("in braces", None, "{13f5fc62-35b4-4716-b3e6-96c761fc204d}", None),
        ("a second line", None, "13f5fc62-35b4-4716-b3e6-96c761fc204d\nX:1", None),
    ] {
        for by_flag in [true, false] {
            let mut machine = Machine::new();
            if let Some(stored) = stored {
                machine = machine.with(IDENTITY, format!("instanceId:{stored}\n"));
            }
            let run = call_home(&machine, &receiver);
            let run = if by_flag { run.args(["-i", given]) } else { run.env("PERCONA_INSTANCE_ID", given) };
            run.run().sent();
            match expected {
                Some(expected) => assert_eq!(machine.instance_id(), expected, "{what}"),
                None => assert_is_uuid(&machine.instance_id()),
            }
            assert!(expected.is_some() || machine.instance_id() != ID, "{what}");
            assert_eq!(reported(&receiver, receiver.requests().len())[1], machine.instance_id(), "{what}");
        }
    }
}

#[test]
fn every_variable_of_call_home_sh_and_flags_win_over_them() {
    let (receiver, elsewhere) = (Receiver::start(&[]), Receiver::start(&[]));
    let with_variables = |machine: &Machine| {
        Run::new()
            .on(machine)
            .env("PERCONA_PRODUCT_FAMILY", FAMILY)
            .env("PERCONA_PRODUCT_VERSION", "1.2.3")
            .env("PERCONA_DEPLOYMENT_METHOD", "TARBALL")
            .env("PERCONA_OPERATING_SYSTEM", "Some OS")
            .env("PERCONA_INSTANCE_ID", ID)
            .env("PERCONA_TELEMETRY_CONFIG_FILE_PATH", "/srv/by-variable")
            .env("PERCONA_TELEMETRY_URL", receiver.url("/by-variable"))
            .env("PERCONA_CONNECT_TIMEOUT", "10")
            .env("PERCONA_SEND_TIMEOUT", "20")
            .env("SSL_CERT_FILE", receiver.ca())
    };
    let machine = Machine::new();
    with_variables(&machine).run().sent();
    assert_eq!(reported(&receiver, 1), [FAMILY, ID, "TARBALL", "1.2.3", "Some OS"]);
    assert_eq!(receiver.requests()[0]["path"], "/by-variable");
    let file = |path: &str| std::fs::read_to_string(machine.path(path)).ok();
    assert_eq!(file("srv/by-variable"), Some(format!("instanceId:{ID}\n{FAMILY}:1\n")));
    assert_eq!(machine.identity(), None);

    let flags = format!(
        "-f {PSMDB} -v 4.5 -d DOCKER -s el9 -i {OTHER_ID} -j /srv/by-flag -c 10 -t 20 -u {}",
        elsewhere.url("/by-flag")
    );
    let by_flag = with_variables(&machine).args(flags.split(' ')).env("SSL_CERT_FILE", elsewhere.ca());
    by_flag.run().sent();
    assert_eq!(reported(&elsewhere, 1), [PSMDB, OTHER_ID, "DOCKER", "4.5", "el9"]);
    assert_eq!(elsewhere.requests()[0]["path"], "/by-flag");
    assert_eq!(file("srv/by-flag"), Some(format!("instanceId:{OTHER_ID}\n{PSMDB}:1\n")));
    assert_eq!(receiver.connections(), 1);
    // An empty flag or variable is none.
    let empty = Machine::new();
    with_variables(&empty).env("PERCONA_DEPLOYMENT_METHOD", "").args(["-v", "", "-s", ""]).run().sent();
    assert_eq!(reported(&receiver, 2), [FAMILY, ID, "PACKAGE", "1.2.3", "Some OS"]);
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
        assert!(ended.time.as_secs_f64() < 2.0, "{variable}: {ended:?}");
        assert!(ended.stderr.contains(phase), "{variable}: {ended:?}");
    }
}

#[test]
fn files_that_call_home_sh_wrote_are_read_and_kept() {
    let receiver = Receiver::start(&[]);
    for (what, before, after) in [
        ("as it writes them", format!("instanceId:{ID}\n"), format!("instanceId:{ID}\n{PSMDB}:1\n")),
        ("no line end", format!("instanceId:{ID}"), format!("instanceId:{ID}\n{PSMDB}:1\n")),
        ("a blank", format!("instanceId: {ID}\n"), format!("instanceId: {ID}\n{PSMDB}:1\n")),
        ("CRLF", format!("instanceId:{ID}\r\nX:1\r\n"), format!("instanceId:{ID}\r\nX:1\r\n{PSMDB}:1\n")),
        (
            "its write check",
            format!("config_write_check:1\ninstanceId: {ID}\n"),
            format!("config_write_check:1\ninstanceId: {ID}\n{PSMDB}:1\n"),
        ),
        (
            "lines of others",
            format!("# by hand\n\n{FAMILY}:1\ninstanceId:{ID}\nother:7\n"),
            format!("# by hand\n\n{FAMILY}:1\ninstanceId:{ID}\nother:7\n{PSMDB}:1\n"),
        ),
    ] {
        let machine = Machine::new().with(IDENTITY, before);
        call_home(&machine, &receiver).run().sent();
        assert_eq!(machine.identity(), Some(after), "{what}");
        assert_eq!(reported(&receiver, receiver.requests().len())[1], ID, "{what}");
    }
    // And what it reported is reported.
    for text in [
        format!("instanceId: {ID}\r\n{PSMDB}:1\r\n"),
        format!("{PSMDB}: 1\ninstanceId:{ID}"),
        format!("instanceId:{ID}\n{PSMDB}:0\n"),
        format!("instanceId:{ID}\n{PSMDB}:8.0.36\n"),
    ] {
        let machine = Machine::new().with(IDENTITY, &text);
        let (before, seen) = (machine.snapshot(), receiver.connections());
        call_home(&machine, &receiver).run().silent();
        assert_eq!(machine.snapshot(), before);
        assert_eq!(receiver.connections(), seen, "{text:?}");
    }
}

#[test]
fn a_bad_instance_id_is_replaced_and_every_family_reports_again() {
    let receiver = Receiver::start(&[]);
    let machine =
        Machine::new().with(IDENTITY, format!("instanceId:junk\n{PSMDB}:1\n{FAMILY}:1\nconfig_write_check:1\n"));
    call_home(&machine, &receiver).run().sent();
    let id = machine.instance_id();
    assert_is_uuid(&id);
    assert_eq!(machine.identity(), Some(format!("instanceId:{id}\nconfig_write_check:1\n{PSMDB}:1\n")));
    machine.send(&receiver, "/", FAMILY).run().sent();
    assert_eq!(machine.instance_id(), id);
    assert_eq!(receiver.requests().len(), 2);
    assert_eq!(machine.receipts().len(), 2, "{STATE}");
}
