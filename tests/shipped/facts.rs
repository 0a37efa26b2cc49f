//! What the facts of a machine are, and what is never among them.

use crate::harness::*;

/// Variables of a login session, an orchestrator and a CI service. Each is the host name, which looks like any word.
const VARIABLES: &str = "USER LOGNAME SUDO_USER SUDO_COMMAND PWD MAIL HOST HOSTNAME HOSTTYPE MACHTYPE NAME EMAIL DISPLAY \
    SSH_CONNECTION KUBERNETES_SERVICE_HOST NODE_NAME CI CI_NAME JENKINS_URL GIT_AUTHOR_NAME";

/// What no fact and no record may hold, whatever a profile says: names of a host, a domain, a user and a person, a path, an
/// IPv4, an IPv6 and a MAC address, a serial number, a hardware UUID, the machine-id, a command line. The machine `hostile`
/// has them wherever a program could read them.
const SECRETS: &str = include_str!("../roots/hostile/secrets");

#[track_caller]
fn assert_private(what: &str, output: &[u8]) {
    let plain = |text: &str| text.to_lowercase().replace('-', "");
    let output = String::from_utf8_lossy(output);
    for secret in SECRETS.split_whitespace() {
        assert!(!plain(&output).contains(&plain(secret)), "{what} has {secret}: {output}");
    }
}

#[test]
fn no_fact_and_no_record_names_a_machine_a_person_or_a_place() {
    let machine = Machine::of("hostile");
    let run = |args: &str| {
        let run = VARIABLES.split(' ').fold(machine.run(args.split(' ')), |run, name| run.env(name, "secrethost7"));
        let ended = run.env("HOME", "/srv/secretpath").env("NODE_ENV", "secrethost7.corp.example").run();
        assert_eq!(ended.status, Some(0), "{args:?}: {}", ended.stderr);
        assert_private(args, &ended.stdout);
        ended.stdout
    };
    let text = String::from_utf8(run("facts")).expect("UTF-8");
    let facts: Value = serde_json::from_slice(&run("facts --json")).expect("JSON");
    // All there is is in both.
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let names: BTreeSet<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, facts.as_object().expect("object").keys().map(String::as_str).collect());
    for line in ["environment.name -", "record.uuid -", "os.name Oracle Linux Server"] {
        assert!(lines.iter().any(|it| it == line), "{line}: {text}");
    }
    // It has been read, and what may leave has come out of it.
    for (fact, expected) in [
        ("record.uuid", json!(null)),
        ("os.name", json!("Oracle Linux Server")),
        ("cpu.model", json!("EPYC")),
        ("memory.total", json!(16_777_216_000_u64)),
        ("ci.name", json!("Jenkins")),
        ("environment.name", json!(null)),
        // sha256sum(1) of the ID, and not the ID.
        ("machine.id_hash", json!("5000a1217f490c58384d45721780e92ded1ef2b02be0fe8164c36408700078f5")),
    ] {
        assert_eq!(facts[fact], expected, "{fact}");
    }
    // What a record of each needs to be made; of Memgraph's, the one that looks at a process.
    for profile in [
        "percona",
        "medusa --event start --project /srv/secretpath",
        "wundergraph --set command=up",
        "strapi --project /srv/secretpath",
        "memgraph --state-dir /srv/secretpath --event 0 --pid 1",
    ] {
        assert!(!run(&format!("show -f {FAMILY} -v 1.0 --profile {profile}")).is_empty(), "{profile}");
    }
    let profiles = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles")).expect("profiles").count();
    assert_eq!(profiles, 5 + 1, "these and their schema");

    // And of a profile that asks for all there is, without what is told of them.
    let greedy = run(&format!("show -f {FAMILY} -v 1.0 --profile greedy"));
    let record: Vec<Value> = serde_json::from_slice(&greedy).expect("JSON");
    // All keys but `deployment.evidence` are facts.
    assert_eq!(record.len(), facts.as_object().expect("object").len() - 1);
    for value in [json!(16_777_216_000_u64), json!(true), json!("EPYC")] {
        assert!(record.contains(&value), "{value}: {record:?}");
    }
    // Where there is no /proc, the kernel itself answers.
    let facts = Machine::of("bare").run(["facts", "--json"]).run().json();
    assert_eq!(facts["kernel.release"], tool(&["uname", "-r"]).expect("uname").trim());
}

#[test]
fn the_variables_that_say_ci() {
    let machine = Machine::new();
    for (name, value, variable, detected) in
        [("CI", "false", true, false), ("ci", "1", true, true), ("CI", "", false, false), ("TRAVIS", "1", false, true)]
    {
        let facts = machine.run(["facts", "--json"]).env(name, value).run().json();
        assert_eq!(
            [&facts["ci.variable"], &facts["ci.detected"]],
            [&json!(variable), &json!(detected)],
            "{name}={value}"
        );
    }
}
