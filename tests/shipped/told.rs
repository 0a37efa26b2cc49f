//! What `status`, `forget` and a usage error say where the ID, the place or the endpoint is not what somebody believes.

use crate::harness::*;

/// What `status` says of a profile: its decision, its ID and its problem.
fn told(machine: &Machine, args: &[&str]) -> (String, String, String) {
    let status = machine.run(["status", "--json"]).args(args).env("HOME", "/root").run().json();
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    (text("decision"), text("instance_id"), text("problem"))
}

#[test]
fn status_tells_why_the_next_run_sends_nothing_or_something_else() {
    let (machine, receiver) = (Machine::new().with("etc/machine-id", "1".repeat(32)), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    assert_eq!(told(&machine, &[]).1, machine.instance_id());
    let clone = machine.with("etc/machine-id", "2".repeat(32));
    let image = clone.run(["status", "--json"]).env("DPKG_ROOT", "/x").run().json();
    assert_eq!((&image["decision"], &image["reason"]), (&"skip".into(), &"this is no installation".into()));
    let strapi = Machine::new().with("srv/package.json", r#"{"strapi":{"uuid":"mine"}}"#);
    assert!(told(&strapi, &["--profile", "strapi", "--project", "/srv"]).2.ends_with("package.json holds no UUID"));
    let url = Machine::new().run(["status", "--json"]).env("PERCONA_TELEMETRY_URL", "check.example").run().json();
    assert!(url["endpoint"].is_null() && url["problem"].to_string().contains("PERCONA_TELEMETRY_URL: "), "{url}");
}

/// medusa has two IDs, the machine's in the home and the project's.
#[test]
fn the_projects_id_is_not_taken_for_the_machines() {
    let (machine, receiver) = (Machine::new().with("srv/app/x", "").with("root/x", ""), Receiver::start(&[]));
    let medusa = ["--profile", "medusa", "--project", "/srv/app"];
    let send = machine.run(["send", "--event", "start", "-v", "1"]).args(medusa).to(&receiver, "/");
    send.env("HOME", "/root").run().sent();
    // The project's ID stays, and the receipt does not tell where it is.
    let forgot = machine.copied().run(["forget"]).args(["--profile", "medusa"]).env("HOME", "/root").run();
    forgot.expect(0).says("that this user and these options can reach");
    machine.sh("rm -r var/lib/install-record; mkdir -p etc; echo >etc/passwd; chown -R 1001 srv/app");
    needs!(is_root(), "root, for another user");
    let public = receiver.public();
    let homeless = |command: &str| machine.run([command]).args(medusa).by(1001, &public);
    let status = homeless("status").args(["--json"]).run().json();
    assert!(status["instance_id"].is_null() && status["problem"].to_string().contains("give HOME"), "{status}");
}

#[test]
fn the_newest_record_is_first_also_within_a_second() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    for number in 0..8 {
        let family = format!("FAMILY_{number}");
        machine.send(&receiver, "/", &family).run().sent();
        assert_eq!(machine.status()["sent"][0]["family"], family.as_str());
    }
}

#[test]
fn what_an_operand_or_a_second_word_does_to_a_command_line() {
    let machine = Machine::new().with("srv/x", "");
    machine
        .run(["-f", FAMILY, "-u", "https://127.0.0.1:1/", "-s", "Oracle", "Linux", "9", "-v", "8"])
        .run()
        .expect(2)
        .says("'Linux' is no option");
    machine.run(["-u", "https://127.0.0.1:1/", "--telemetry", "fals", "-f", FAMILY]).run().silent();
    machine.run(["send", "-f", FAMILY, "-u", "https://127.0.0.1:1/", "-v", "8", "--telemetry", "off"]).run().silent();
}
