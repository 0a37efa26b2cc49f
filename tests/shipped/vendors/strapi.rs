//! Strapi: the project's own ID, read and never made, a hash for the machine, and off by removing that ID.

use super::{PROJECT_ID, STRAPI, command_of, matched, package_json, read, server, to};
use crate::consent::assert_sends;
use crate::harness::Receiver;

const PACKAGE: &str = "srv/app/package.json";

#[test]
fn distroless_without_a_machine_id_is_no_crash() {
    let receiver = Receiver::start(&[]);
    let container = || {
        // What Docker leaves, and mounts for the process.
        let mounts = "2 1 8:1 /c0ffee/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n\
             3 1 8:1 /c0ffee/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n";
        let machine = server().with(".dockerenv", "").with("proc/1/comm", "node\n").with("proc/self/mountinfo", mounts);
        for path in ["etc/machine-id", "var/lib/dbus/machine-id"] {
            std::fs::remove_file(machine.path(path)).expect("machine-id");
        }
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

/// src/consent/product.rs has what else is no value, and no JSON.
#[test]
fn promise_no_uuid_no_telemetry() {
    let receiver = Receiver::start(&[]);
    let uuid = format!(r#""uuid":"{PROJECT_ID}""#);
    for text in [&*package_json(""), &package_json(r#""uuid":"  ""#), "{}\n", &format!("{{{uuid}}}"), "{", ""] {
        let machine = server().with(PACKAGE, text);
        assert_sends(text, false, &machine, &receiver, STRAPI.send(&machine, &receiver));
        let ended = STRAPI.send(&machine, &receiver).args(["--verbose"]).run().expect(0);
        assert!(ended.stderr.contains("/srv/app/package.json, the product's own file says no"), "{text}: {ended:?}");
    }
    for uuid in [r#""uuid":"junk""#, r#""uuid":7"#] {
        let machine = server().with(PACKAGE, package_json(uuid));
        assert_sends(uuid, false, &machine, &receiver, STRAPI.send(&machine, &receiver));
    }
    let machine = server();
    std::fs::remove_file(machine.path(PACKAGE)).expect("package.json");
    assert_sends("no file", false, &machine, &receiver, STRAPI.send(&machine, &receiver));
    // Whose project it is has to be said.
    let run = command_of(&machine, "strapi", "send").args(["-v", "3.0.0"]);
    let ended = to(&receiver, "/track", run).run().expect(2);
    assert!(ended.stderr.contains("--project DIR"), "{ended:?}");
    assert_eq!(receiver.connections(), 0);
}

#[test]
fn promise_the_uuid_is_read_and_never_made() {
    let (machine, receiver) = (server(), Receiver::start(&[]));
    // Nor is the file replaced by a copy, or given a neighbour.
    let files = || machine.snapshot().into_iter().filter(|line| line.contains("srv/app")).collect::<Vec<_>>();
    let before = (read(&machine, PACKAGE), files());
    STRAPI.send(&machine, &receiver).run().sent();
    for command in ["off", "on", "forget"] {
        command_of(&machine, "strapi", command).args(["--project", "/srv/app"]).run().expect(0);
    }
    assert_eq!((read(&machine, PACKAGE), files()), before);
}

/// dotenv files are read by the one rule for lines (src/consent/files.rs); Strapi's own reader is another.
#[test]
fn strapis_other_ways_to_say_no() {
    const ENV: &str = "srv/app/.env";
    let receiver = Receiver::start(&[]);
    let uuid = format!(r#""uuid":"{PROJECT_ID}""#);
    let disabled = |value: &str| package_json(&format!(r#"{uuid},"telemetryDisabled":{value}"#));
    for (path, text, says_no) in [
        (PACKAGE, &*disabled("\"junk\""), true),
        (PACKAGE, &disabled("null"), false),
        (ENV, "HOST=0.0.0.0\nPORT=1337\nSTRAPI_TELEMETRY_DISABLED=1\nAPP_KEYS=a,b", true),
        (ENV, "STRAPI_TELEMETRY_DISABLED: true\r\nSTRAPI_TELEMETRY_DISABLED=false\n", true),
        (ENV, "A=\0\n", true),
        (ENV, &"#".repeat((256 << 10) + 1), true),
        ("srv/app/.env/x", "", true),
        (ENV, "# STRAPI_TELEMETRY_DISABLED=1\nSTRAPI_TELEMETRY_DISABLED='0'\r\nX_STRAPI_TELEMETRY_DISABLED=1\n", false),
        (ENV, &"#".repeat(256 << 10), false),
        // Another project's, and one that Strapi does not read.
        ("srv/shop/.env", "STRAPI_TELEMETRY_DISABLED=true\n", false),
        ("srv/app/.env.example", "STRAPI_TELEMETRY_DISABLED=true\n", false),
    ] {
        let machine = server().with(path, text);
        assert_sends((path, text), !says_no, &machine, &receiver, STRAPI.send(&machine, &receiver));
    }
    STRAPI.send(&server(), &receiver).env("STRAPI_TELEMETRY_DISABLED", "junk").run().silent();
    STRAPI.send(&server(), &receiver).env("STRAPI_TELEMETRY_DISABLED", "false").run().sent();
}
