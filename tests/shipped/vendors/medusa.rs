//! Medusa: "collected only when the server is started", "unique project ID", "unique machine ID", and both ways off.

use serde_json::json;

use super::{Kind, all, body, command_of, json, matched, mode, read, server, to};
use crate::harness::Receiver;

const CONFIG: &str = "home/dev/.config/medusa/config.json";
const PROJECT: &str = "srv/app/.medusa-project-id";
const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";

fn medusa() -> &'static Kind {
    Kind::of("medusa")
}

#[test]
fn promise_collected_only_when_the_server_is_started() {
    let (machine, receiver) = (server(), Receiver::start(&[]));
    let before = machine.snapshot();
    for (event, why) in [
        (None, "medusa reports only the event start, and there is no --event"),
        (Some("develop"), "medusa reports only the event start, and this is 'develop'"),
        (Some("START"), "medusa reports only the event start, and this is 'START'"),
        (Some("migrations run"), "this is 'migrations run'"),
        (Some("0"), "this is '0'"),
        (Some("integer"), "this is 'integer'"),
    ] {
        let run = || {
            let run = to(&receiver, "/batch", command_of(&machine, "medusa", "send").args(["--project", "/srv/app"]));
            run.args(event.map(|event| format!("--event={event}")))
        };
        run().run().silent();
        let ended = run().args(["--verbose"]).run().expect(0);
        assert!(ended.stderr.contains("nothing is sent: medusa reports only the event start, and "), "{ended:?}");
        assert!(ended.stderr.contains(why), "{ended:?}");
        let shown = command_of(&machine, "medusa", "show").args(event.map(|event| format!("--event={event}"))).run();
        assert!(shown.stdout.is_empty() && shown.stderr.contains(why), "{shown:?}");
    }
    assert_eq!(machine.snapshot(), before);
    assert_eq!(receiver.connections(), 0);
    // Every start, under the same IDs, and each a record of its own.
    for _ in 0..2 {
        medusa().send(&machine, &receiver).run().sent();
    }
    let [first, second] = [1, 2].map(|number| body(&receiver, number)["batch"][0].clone());
    assert_ne!(first["id"], second["id"]);
    assert_eq!((&first["machine_id"], &first["project_id"]), (&second["machine_id"], &second["project_id"]));
}

#[test]
fn promise_unique_ids_random_and_kept() {
    let (one, other) = (server(), server());
    let receiver = Receiver::start(&[]);
    let mut seen = Vec::new();
    for machine in [&one, &other] {
        medusa().send(machine, &receiver).run().sent();
        let sent = &body(&receiver, receiver.requests().len())["batch"][0];
        let config = json(machine, CONFIG);
        assert_eq!(config["telemetry"]["machine_id"], sent["machine_id"]);
        assert_eq!(read(machine, PROJECT), format!("{}\n", sent["project_id"].as_str().expect("an ID")));
        assert_eq!((mode(machine, CONFIG), mode(machine, PROJECT)), (0o600, 0o600));
        assert_eq!(mode(machine, "home/dev/.config/medusa"), 0o700);
        assert!(read(machine, CONFIG).contains("\n\t\"telemetry\": {\n\t\t\""), "{config}");
        seen.extend([sent["machine_id"].clone(), sent["project_id"].clone()]);
    }
    // Nothing is derived from what the two machines have in common: all they have.
    seen.sort_by_key(ToString::to_string);
    seen.dedup();
    assert_eq!(seen.len(), 4);
    // Another project on the same machine.
    let run = command_of(&one, "medusa", "send").args(["--event=start", "--project=/srv/data"]);
    to(&receiver, "/batch", run).run().sent();
    let sent = &body(&receiver, 3)["batch"][0];
    assert_eq!(json(&one, CONFIG)["telemetry"]["machine_id"], sent["machine_id"]);
    assert_ne!(read(&one, PROJECT).trim(), sent["project_id"]);
    // A project that is moved keeps its ID.
    std::fs::rename(one.path("srv/app"), one.path("srv/shop")).expect("rename");
    let run = command_of(&one, "medusa", "send").args(["--event=start", "--project=/srv/shop"]);
    to(&receiver, "/batch", run).run().sent();
    assert_eq!(body(&receiver, 4)["batch"][0]["project_id"], body(&receiver, 1)["batch"][0]["project_id"]);
}

#[test]
fn the_config_file_is_shared_with_medusa_itself() {
    let receiver = Receiver::start(&[]);
    let text = format!(r#"{{"telemetry":{{"machine_id":"{ID}","enabled":true}},"ui":{{"tips":[1,null]}}}}"#);
    let machine = server().with(CONFIG, &text);
    medusa().send(&machine, &receiver).run().sent();
    assert_eq!(body(&receiver, 1)["batch"][0]["machine_id"], ID);
    assert_eq!(read(&machine, CONFIG), text);

    let machine = server().with(CONFIG, r#"{"telemetry":{"enabled":true},"ui":{"tips":[1,null]}}"#);
    medusa().send(&machine, &receiver).run().sent();
    let made = body(&receiver, 2)["batch"][0]["machine_id"].clone();
    let expected = json!({"telemetry": {"enabled": true, "machine_id": made}, "ui": {"tips": [1, null]}});
    assert_eq!(json(&machine, CONFIG), expected);

    // XDG's directory wins, and a relative one is none.
    for (xdg, path) in [("/srv/xdg", "srv/xdg/medusa/config.json"), ("xdg", CONFIG), ("", CONFIG)] {
        let machine = server();
        medusa().send(&machine, &receiver).env("XDG_CONFIG_HOME", xdg).run().sent();
        assert!(json(&machine, path)["telemetry"]["machine_id"].is_string(), "{xdg}");
    }
}

#[test]
fn promise_off_by_medusa_telemetry_disable() {
    let receiver = Receiver::start(&[]);
    for text in [None, Some(format!(r#"{{"telemetry":{{"machine_id":"{ID}"}},"other":1}}"#))] {
        let machine = match &text {
            Some(text) => server().with(CONFIG, text),
            None => server(),
        };
        command_of(&machine, "medusa", "off").run().expect(0);
        let config = json(&machine, CONFIG);
        assert_eq!(config["telemetry"]["enabled"], false);
        assert_eq!(config["telemetry"]["machine_id"].as_str(), text.as_ref().map(|_| ID));
        assert!(text.is_none() || config["other"] == 1);
        assert_eq!((mode(&machine, CONFIG), mode(&machine, "home/dev/.config/medusa")), config_modes(&text));
        assert!(read(&machine, CONFIG).contains("\n\t\t\"enabled\": false"));
        // The product's own switch is enough, without ours.
        std::fs::remove_dir_all(machine.path("etc/install-record")).expect("our switch");
        let before = machine.snapshot();
        medusa().send(&machine, &receiver).run().silent();
        let ended = medusa().send(&machine, &receiver).args(["--verbose"]).run();
        assert!(ended.stderr.contains("/home/dev/.config/medusa/config.json, the product's own file"), "{ended:?}");
        assert_eq!(machine.snapshot(), before);
        assert_eq!(receiver.connections(), if text.is_some() { 1 } else { 0 });

        command_of(&machine, "medusa", "on").run().expect(0);
        assert_eq!(json(&machine, CONFIG)["telemetry"]["enabled"], true);
        medusa().send(&machine, &receiver).run().sent();
    }
    assert_eq!(body(&receiver, 2)["batch"][0]["machine_id"], ID);
}

/// A file and a directory that are there already keep their modes.
fn config_modes(text: &Option<String>) -> (u32, u32) {
    if text.is_some() { (0o644, 0o755) } else { (0o600, 0o700) }
}

#[test]
fn enabled_false_is_a_no_and_true_is_none() {
    let receiver = Receiver::start(&[]);
    for (enabled, sent) in [
        ("false", false),
        ("\"false\"", false),
        ("0", false),
        ("\"junk\"", false),
        ("[]", false),
        ("true", true),
        ("null", true),
        ("\"true\"", true),
    ] {
        let machine = server().with(CONFIG, format!(r#"{{"telemetry":{{"enabled":{enabled}}}}}"#));
        let ended = medusa().send(&machine, &receiver).run().expect(0);
        assert_eq!(ended.stderr.contains("sent one"), sent, "{enabled}");
    }
    // What Medusa could not read either may hide a no.
    for text in ["{", "", "\u{feff}{}", "\0"] {
        medusa().send(&server().with(CONFIG, text), &receiver).run().silent();
    }
}

#[test]
fn medusas_variables_move_the_endpoint() {
    let receiver = Receiver::start(&[]);
    let machine = server();
    for (host, path, expected) in [
        (receiver.url(""), None, "/batch"),
        (receiver.url("/"), None, "/batch"),
        (format!("127.0.0.1:{}", receiver.port()), None, "/batch"),
        (receiver.url(""), Some("/in/v2"), "/in/v2"),
        (receiver.url(""), Some("in"), "/in"),
        (receiver.url(""), Some(""), "/batch"),
    ] {
        let run = medusa().run(&machine, "send").args(["-c", "10", "-t", "20"]);
        let run = run.env("SSL_CERT_FILE", receiver.ca()).env("MEDUSA_TELEMETRY_HOST", host);
        path.iter().fold(run, |run, path| run.env("MEDUSA_TELEMETRY_PATH", path)).run().sent();
        let requests = receiver.requests();
        assert_eq!(requests[requests.len() - 1]["path"], expected);
    }
    // The flag wins.
    medusa().send(&machine, &receiver).env("MEDUSA_TELEMETRY_HOST", "https://localhost:1").run().sent();
    // Somebody meant another server, so nothing is sent, and no installation fails by it.
    let (machine, seen) = (server(), receiver.connections());
    let before = machine.snapshot();
    let run = medusa().run(&machine, "send").env("MEDUSA_TELEMETRY_HOST", "https://127.0.0.1:99999");
    let ended = run.run().expect(0);
    let problem = "MEDUSA_TELEMETRY_HOST: 'https://127.0.0.1:99999/batch' must be an https URL";
    assert!(ended.stderr.contains(problem) && ended.stderr.lines().count() == 1, "{ended:?}");
    assert_eq!((machine.snapshot(), receiver.connections()), (before, seen));
}

#[test]
fn without_a_project_there_is_no_project_id() {
    let machine = server();
    let before = machine.snapshot();
    let run = command_of(&machine, "medusa", "send").args(["--event=start", "-u", "https://localhost:1/"]);
    let ended = run.run().expect(2);
    assert!(ended.stderr.contains("--project DIR is missing"), "{ended:?}");
    assert_eq!(machine.snapshot(), before);
    // What is shown is made up each time, and not kept.
    let shown = [0, 1].map(|_| matched(medusa().golden, &medusa().run(&machine, "show").run().text()));
    assert_ne!(all(&shown[0], "uuid4"), all(&shown[1], "uuid4"));
}
