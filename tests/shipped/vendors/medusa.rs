//! Medusa: "unique project ID", "unique machine ID", and off by its own switch. "Collected only when the server is started"
//! is in tests/roots/expected.

use serde_json::json;

use super::{ID, MEDUSA, command_of, json, mode, read, server, to};
use crate::consent::assert_sends;
use crate::harness::Receiver;

const CONFIG: &str = "home/dev/.config/medusa/config.json";
const PROJECT: &str = "srv/app/.medusa-project-id";

#[test]
fn promise_unique_ids_random_and_kept() {
    let (one, other, receiver) = (server(), server(), Receiver::start(&[]));
    let run = |machine, project| {
        let run = command_of(machine, "medusa", "send").args(["--event=start", "--project", project]);
        to(&receiver, "/batch", run).run().sent();
        let sent = &receiver.last()["batch"][0];
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
    std::fs::rename(one.path("srv/app"), one.path("srv/moved")).expect("rename");
    assert_eq!(run(&one, "/srv/moved"), first);
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
    assert_eq!(receiver.last()["batch"][0]["machine_id"], ID);
}
