//! Medusa: "collected only when the server is started", "unique project ID", "unique machine ID", and both ways off.

use serde_json::json;

use super::{ID, MEDUSA, body, command_of, json, mode, read, server, to};
use crate::consent::assert_sends;
use crate::harness::Receiver;

const CONFIG: &str = "home/dev/.config/medusa/config.json";
const PROJECT: &str = "srv/app/.medusa-project-id";

/// src/profile.rs has what is no start.
#[test]
fn promise_collected_only_when_the_server_is_started() {
    let (machine, receiver) = (server(), Receiver::start(&[]));
    for (event, why) in [(None, "there is no --event"), (Some("--event=develop"), "this is 'develop'")] {
        let run = |command| command_of(&machine, "medusa", command).args(["--project", "/srv/app"]).args(event);
        assert_sends(why, false, &machine, &receiver, to(&receiver, "/batch", run("send")));
        let why = format!("medusa reports only the event start, and {why}");
        let ended = to(&receiver, "/batch", run("send")).args(["--verbose"]).run().expect(0);
        assert!(ended.stderr.contains(&format!("nothing is sent: {why}")), "{ended:?}");
        let shown = run("show").run();
        assert!(shown.stdout.is_empty() && shown.stderr.contains(&why), "{shown:?}");
    }
}

#[test]
fn promise_unique_ids_random_and_kept() {
    let (one, other, receiver) = (server(), server(), Receiver::start(&[]));
    let run = |machine, project| {
        let run = command_of(machine, "medusa", "send").args(["--event=start", "--project", project]);
        to(&receiver, "/batch", run).run().sent();
        let sent = &body(&receiver, receiver.requests().len())["batch"][0];
        let [machine_id, project_id] =
            ["machine_id", "project_id"].map(|key| sent[key].as_str().expect(key).to_owned());
        assert_eq!(json(machine, CONFIG)["telemetry"]["machine_id"], machine_id.as_str());
        assert_eq!(read(machine, &format!("{project}/.medusa-project-id")[1..]), format!("{project_id}\n"));
        (machine_id, project_id)
    };
    // Nothing is derived from what the two machines have in common: all they have.
    let (first, second) = (run(&one, "/srv/app"), run(&other, "/srv/app"));
    assert!(first.0 != second.0 && first.1 != second.1 && first.0 != first.1);
    let modes = [CONFIG, "home/dev/.config/medusa", PROJECT].map(|path| mode(&one, path));
    assert_eq!(modes, [0o600, 0o700, 0o600]);
    // Every start counts. Another project on the same machine; and one that is moved keeps its ID.
    assert_eq!(run(&one, "/srv/app"), first);
    let another = run(&one, "/srv/data");
    assert!(another.0 == first.0 && another.1 != first.1);
    std::fs::rename(one.path("srv/app"), one.path("srv/shop")).expect("rename");
    assert_eq!(run(&one, "/srv/shop"), first);
}

/// src/ledger/identity.rs has what else is in that file.
#[test]
fn the_config_file_is_shared_with_medusa_itself() {
    let receiver = Receiver::start(&[]);
    let text = format!(r#"{{"telemetry":{{"machine_id":"{ID}","enabled":true}},"ui":{{"tips":[1,null]}}}}"#);
    // XDG's directory wins, and a relative one is none.
    for (xdg, path) in [("/srv/xdg", "srv/xdg/medusa/config.json"), ("xdg", CONFIG), ("", CONFIG)] {
        let machine = server().with(path, &text);
        MEDUSA.send(&machine, &receiver).env("XDG_CONFIG_HOME", xdg).run().sent();
        assert_eq!(body(&receiver, receiver.requests().len())["batch"][0]["machine_id"], ID);
        assert_eq!(read(&machine, path), text);
    }
}

/// What says no there is src/consent/product.rs's.
#[test]
fn promise_off_by_the_commands_own_switch() {
    let receiver = Receiver::start(&[]);
    // A file and a directory that are there already keep their modes.
    for (machine, id, modes) in [
        (server(), None, (0o600, 0o700)),
        (server().with(CONFIG, format!(r#"{{"telemetry":{{"machine_id":"{ID}"}}}}"#)), Some(ID), (0o644, 0o755)),
    ] {
        command_of(&machine, "medusa", "off").run().expect(0);
        let telemetry = json(&machine, CONFIG)["telemetry"].take();
        assert_eq!((&telemetry["enabled"], telemetry["machine_id"].as_str()), (&json!(false), id));
        assert_eq!((mode(&machine, CONFIG), mode(&machine, "home/dev/.config/medusa")), modes);
        // The product's own switch is enough, without ours.
        std::fs::remove_dir_all(machine.path("etc/install-record")).expect("our switch");
        assert_sends("off", false, &machine, &receiver, MEDUSA.send(&machine, &receiver));
        let ended = MEDUSA.send(&machine, &receiver).args(["--verbose"]).run();
        assert!(ended.stderr.contains("/home/dev/.config/medusa/config.json, the product's own file"), "{ended:?}");

        command_of(&machine, "medusa", "on").run().expect(0);
        assert_eq!(json(&machine, CONFIG)["telemetry"]["enabled"], true);
        MEDUSA.send(&machine, &receiver).run().sent();
    }
    assert_eq!(body(&receiver, 2)["batch"][0]["machine_id"], ID);
}
