//! Strapi: the project's own ID, read and never made, a hash for the machine, and off by removing that ID.

use super::{Kind, MACHINE_ID, PROJECT_ID, assert_is, body, command_of, matched, package_json, read, server, to};
use crate::harness::{Machine, Receiver};

const PACKAGE: &str = "srv/app/package.json";
const OTHER_ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
/// sha256sum(1) of [`MACHINE_ID`] without a line end.
const HASH: &str = "3eb1bd439947eb762998e566ccc2e099c791118b2f40579cc4f7da2b5061b7f9";
const OTHER_MACHINE_ID: &str = "f123456789abcde0f123456789abcde0";

fn strapi() -> &'static Kind {
    Kind::of("strapi")
}

#[test]
fn the_device_id_is_the_hash_of_the_machine_id() {
    let receiver = Receiver::start(&[]);
    for (what, dbus, etc) in [
        ("systemd's", None, MACHINE_ID.to_owned()),
        ("D-Bus's first", Some(MACHINE_ID), OTHER_MACHINE_ID.to_owned()),
        ("systemd's behind an empty one", Some(""), MACHINE_ID.to_owned()),
        ("trimmed and in lower case", None, format!("  {}\t", MACHINE_ID.to_uppercase())),
    ] {
        let mut machine = server().with("etc/machine-id", format!("{etc}\n"));
        if let Some(dbus) = dbus {
            machine = machine.with("var/lib/dbus/machine-id", format!("{dbus}\n"));
        }
        strapi().send(&machine, &receiver).run().sent();
        assert_eq!(body(&receiver, receiver.requests().len())["deviceId"], HASH, "{what}");
    }
}

#[test]
fn distroless_without_a_machine_id_is_no_crash() {
    let receiver = Receiver::start(&[]);
    let container = || {
        // What Docker leaves, and mounts for the process.
        let mounts = "2 1 8:1 /c0ffee/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n\
             3 1 8:1 /c0ffee/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n";
        let machine = server().with(".dockerenv", "").with("proc/1/comm", "node\n").with("proc/self/mountinfo", mounts);
        std::fs::remove_file(machine.path("etc/machine-id")).expect("machine-id");
        machine
    };
    let golden = include_str!("../golden/strapi-distroless.json");
    let mut seen = Vec::new();
    for machine in [container(), container(), container().with("etc/machine-id", "uninitialized\n")] {
        let run = command_of(&machine, "strapi", "send").args(["--project", "/srv/app", "-v", "3.0.0"]);
        to(&receiver, "/track", run.env("NODE_ENV", "production")).run().sent();
        let text = String::from_utf8(receiver.body(receiver.requests().len())).expect("UTF-8");
        seen.extend(matched(golden, &text));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn promise_no_uuid_no_telemetry() {
    let receiver = Receiver::start(&[]);
    let uuid = format!(r#""uuid":"{PROJECT_ID}""#);
    for (what, text) in [
        ("no uuid", Some(package_json(""))),
        ("an empty one", Some(package_json(r#""uuid":"""#))),
        ("blanks", Some(package_json(r#""uuid":"  ""#))),
        ("null", Some(package_json(r#""uuid":null"#))),
        ("false", Some(package_json(r#""uuid":false"#))),
        ("no strapi", Some("{}\n".to_owned())),
        ("elsewhere", Some(format!("{{{uuid}}}"))),
        ("not JSON", Some(format!("{{{uuid}"))),
        ("an empty file", Some(String::new())),
        ("no file", None),
    ] {
        let machine = match &text {
            Some(text) => server().with(PACKAGE, text),
            None => server(),
        };
        if text.is_none() {
            std::fs::remove_file(machine.path(PACKAGE)).expect("package.json");
        }
        let before = machine.snapshot();
        strapi().send(&machine, &receiver).run().silent();
        let ended = strapi().send(&machine, &receiver).args(["--verbose"]).run().expect(0);
        assert!(ended.stderr.contains("/srv/app/package.json, the product's own file says no"), "{what}: {ended:?}");
        assert_eq!(machine.snapshot(), before, "{what}");
    }
    // One that is none: nothing is sent, and nothing put in its place.
    for uuid in [r#""uuid":"junk""#, r#""uuid":7"#, r#""uuid":["x"]"#] {
        let machine = server().with(PACKAGE, package_json(uuid));
        let before = machine.snapshot();
        strapi().send(&machine, &receiver).run().silent();
        assert_eq!(machine.snapshot(), before, "{uuid}");
    }
    assert_eq!(receiver.connections(), 0);
    // Whose project it is has to be said.
    let machine = server();
    let before = machine.snapshot();
    let run = command_of(&machine, "strapi", "send").args(["-v", "3.0.0"]);
    let ended = to(&receiver, "/track", run).run().expect(2);
    assert!(ended.stderr.contains("--project DIR"), "{ended:?}");
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn promise_the_uuid_is_read_and_never_made() {
    let receiver = Receiver::start(&[]);
    let machine = server();
    let before = read(&machine, PACKAGE);
    let look = |machine: &Machine| machine.snapshot().into_iter().filter(|line| line.contains("srv/app")).collect();
    let files: Vec<String> = look(&machine);
    strapi().send(&machine, &receiver).run().sent();
    command_of(&machine, "strapi", "off").args(["--project", "/srv/app"]).run().expect(0);
    command_of(&machine, "strapi", "on").args(["--project", "/srv/app"]).run().expect(0);
    command_of(&machine, "strapi", "forget").args(["--project", "/srv/app"]).run().expect(0);
    assert_eq!(read(&machine, PACKAGE), before);
    // Nor was it replaced by a copy, or given a neighbour.
    assert_eq!(look(&machine), files);
}

#[test]
fn strapis_other_ways_to_say_no() {
    let receiver = Receiver::start(&[]);
    let with = |value: &str| {
        let both = format!(r#""uuid":"{PROJECT_ID}","telemetryDisabled":{value}"#);
        server().with(PACKAGE, package_json(&both))
    };
    for no in ["true", "1", "\"true\"", "\"1\"", "\"yes\"", "\"junk\"", "[]", "7"] {
        let machine = with(no);
        let before = machine.snapshot();
        strapi().send(&machine, &receiver).run().silent();
        assert_eq!(machine.snapshot(), before, "{no}");
    }
    for no in ["true", "1", "yes", "junk"] {
        strapi().send(&server(), &receiver).env("STRAPI_TELEMETRY_DISABLED", no).run().silent();
    }
    assert_eq!(receiver.connections(), 0);
    for opinionless in ["false", "0", "null", "\"false\"", "\"\""] {
        strapi().send(&with(opinionless), &receiver).run().sent();
    }
    strapi().send(&server(), &receiver).env("STRAPI_TELEMETRY_DISABLED", "false").run().sent();
}

/// dotenv files are read by the one rule for lines; Strapi's own reader is another.
#[test]
fn the_env_file_of_a_project_says_no() {
    let receiver = Receiver::start(&[]);
    const ENV: &str = "srv/app/.env";
    for no in [
        "STRAPI_TELEMETRY_DISABLED=true",
        "STRAPI_TELEMETRY_DISABLED=true\n",
        "HOST=0.0.0.0\nPORT=1337\nSTRAPI_TELEMETRY_DISABLED=1\nAPP_KEYS=a,b\n",
        "STRAPI_TELEMETRY_DISABLED=\"true\"\r\n",
        "export STRAPI_TELEMETRY_DISABLED=yes\n",
        "STRAPI_TELEMETRY_DISABLED = true\n",
        "STRAPI_TELEMETRY_DISABLED: true\n",
        "STRAPI_TELEMETRY_DISABLED=junk\n",
        "STRAPI_TELEMETRY_DISABLED=true\nSTRAPI_TELEMETRY_DISABLED=false\n",
        "PORT=1337 STRAPI_TELEMETRY_DISABLED=true\n",
        "DO_NOT_TRACK=1\n",
        "A=\0\n",
        &"#".repeat((256 << 10) + 1),
    ] {
        let machine = server().with(ENV, no);
        let before = machine.snapshot();
        strapi().send(&machine, &receiver).run().silent();
        assert_eq!(machine.snapshot(), before, "{no:.60?}");
    }
    let machine = server().with("srv/app/.env/x", "");
    strapi().send(&machine, &receiver).run().silent();
    assert_eq!(receiver.connections(), 0);
    for opinionless in [
        "",
        "HOST=0.0.0.0\nPORT=1337\n",
        "# STRAPI_TELEMETRY_DISABLED=true\n",
        "STRAPI_TELEMETRY_DISABLED=false\n",
        "STRAPI_TELEMETRY_DISABLED=\n",
        "STRAPI_TELEMETRY_DISABLED='0'\r\n",
        "STRAPI_TELEMETRY_DISABLED_BY=me\nMY_STRAPI_TELEMETRY_DISABLED=1\n",
        "OFF=$STRAPI_TELEMETRY_DISABLED\n",
        &"#".repeat(256 << 10),
    ] {
        strapi().send(&server().with(ENV, opinionless), &receiver).run().sent();
    }
    // Another project's, and one that Strapi does not read.
    let others = server().with("srv/shop/.env", "STRAPI_TELEMETRY_DISABLED=true\n");
    let others = others.with("srv/app/.env.example", "STRAPI_TELEMETRY_DISABLED=true\n");
    strapi().send(&others, &receiver).run().sent();
}

#[test]
fn once_for_each_project() {
    let receiver = Receiver::start(&[]);
    let other = package_json(&format!(r#""uuid":"{OTHER_ID}""#));
    let machine = server().with("srv/shop/package.json", other);
    let send = |project: &str, version: &str| {
        let run = command_of(&machine, "strapi", "send").args(["--project", project, "-v", version]);
        to(&receiver, "/track", run)
    };
    send("/srv/app", "3.0.0").run().sent();
    let before = machine.snapshot();
    send("/srv/app", "3.0.0").run().silent();
    send("/srv/app", "4.0.0").run().silent();
    assert_eq!(machine.snapshot(), before);
    send("/srv/shop", "3.0.0").run().sent();
    send("/srv/shop", "3.0.0").run().silent();
    send("/srv/app", "3.0.0").run().silent();
    assert_eq!([1, 2].map(|number| body(&receiver, number)["uuid"].clone()), [PROJECT_ID, OTHER_ID]);
    assert_eq!(receiver.connections(), 2);
}

#[test]
fn the_environment_is_a_kind_and_nothing_else() {
    for (value, expected) in
        [(None, "development"), (Some("production"), "production"), (Some(""), "development"), (Some("test"), "test")]
    {
        let machine = server();
        let run = strapi().run(&machine, "show");
        let shown = value.iter().fold(run, |run, value| run.env("NODE_ENV", value)).run().json();
        assert_eq!(shown["properties"]["environment"], expected, "{value:?}");
    }
    // Without a machine-id, what is shown is made up as well.
    let machine = server();
    std::fs::remove_file(machine.path("etc/machine-id")).expect("machine-id");
    assert_is("uuid4", strapi().run(&machine, "show").run().json()["deviceId"].as_str().expect("a text"));
}
