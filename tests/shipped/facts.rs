//! What the facts of a machine are, and what is never among them.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{FAMILY, Machine, TempDir, tool};
use crate::skip;

/// What no fact and no record may hold, whatever a profile says.
const SECRETS: [(&str, &str); 12] = [
    ("host name", "secrethost7"),
    ("domain", "corp.example"),
    ("user", "mallory9"),
    ("full name", "Mallory Archer"),
    ("path", "/srv/secretpath"),
    ("IPv4 address", "203.0.113.77"),
    ("IPv6 address", "2001:db8::dead:beef"),
    ("MAC address", "02:00:5e:10:20:30"),
    ("serial number", "SER1ALNUMBER99"),
    ("hardware UUID", "4c4c4544-0042-4a10-8051-b9c04f4a3732"),
    ("machine-id", MACHINE_ID),
    ("command line", "--password=hunter2"),
];
const MACHINE_ID: &str = "deadbeefcafe4711deadbeefcafe4711";

/// All of them.
fn secrets() -> String {
    SECRETS.map(|(_, secret)| secret).join(" ")
}

/// A machine that has the secrets wherever a program could read them.
fn hostile_machine() -> Machine {
    let all = secrets();
    let environ: String = SECRETS.iter().enumerate().map(|(n, (_, secret))| format!("V{n}={secret}\0")).collect();
    let os_release = format!(
        "NAME=\"Oracle Linux Server\"\nVERSION=\"8.8\"\nVERSION_ID=8.8\nID=ol\nPRETTY_NAME=\"Oracle Linux Server 8.8\"\n\
         BUILD_ID=\"{all}\"\nIMAGE_ID=\"{all}\"\nHOME_URL=\"{all}\"\nHOSTNAME=\"{all}\"\nOWNER=\"{all}\"\n"
    );
    let cpuinfo = format!(
        "processor\t: 0\nmodel name\t: EPYC\nmodel\t\t: {all}\nmachine\t\t: {all}\nphysical id\t: {all}\n\n\
         processor 1: version = FF,  identification = SER1ALNUMBER99,  machine = 2964\n\n\
         Hardware\t: {all}\nRevision\t: {all}\nSerial\t\t: SER1ALNUMBER99\nModel\t\t: {all}\nsystem type\t: {all}\n"
    );
    let project = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
    let package_json = format!("{{\"name\":\"{all}\",\"author\":\"{all}\",\"strapi\":{{\"uuid\":\"{project}\"}}}}\n");
    let status = format!("Name:\t{all}\nVmRSS:\t100 kB\nUid:\t{all}\n");
    let machine = Machine::bare()
        .with("etc/os-release", os_release)
        .with("etc/machine-id", format!("{MACHINE_ID}\n"))
        .with("var/lib/dbus/machine-id", format!("{MACHINE_ID}\n"))
        .with("proc/cpuinfo", cpuinfo)
        .with("proc/meminfo", "MemTotal: 16384000 kB\nSwapTotal: 0 kB\n")
        .with("proc/sys/kernel/osrelease", "5.15.0-56-generic\n")
        .with("proc/sys/kernel/version", "#62-Ubuntu SMP Tue Nov 22 19:54:14 UTC 2022\n")
        .with("proc/1/comm", "systemd\n")
        .with("proc/self/status", &status)
        .with("proc/1/status", &status)
        .with("proc/1/stat", format!("1 ({all}) S 0 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 100 0 0\n"))
        .with("proc/uptime", "1000.00 900.00\n")
        .with("srv/secretpath/package.json", package_json);
    for path in [
        "etc/hostname",
        "etc/hosts",
        "etc/passwd",
        "etc/group",
        "etc/fstab",
        "etc/issue",
        "etc/issue.net",
        "etc/lsb-release",
        "etc/machine-info",
        "etc/mailname",
        "etc/motd",
        "etc/redhat-release",
        "etc/resolv.conf",
        "etc/system-release",
        "etc/timezone",
        "home/mallory9/.bash_history",
        "proc/cmdline",
        "proc/version",
        "proc/device-tree/model",
        "proc/device-tree/serial-number",
        "proc/net/arp",
        "proc/net/fib_trie",
        "proc/net/if_inet6",
        "proc/net/route",
        "proc/net/tcp",
        "proc/sys/kernel/domainname",
        "proc/sys/kernel/hostname",
        "proc/sys/kernel/random/boot_id",
        "proc/self/cgroup",
        "proc/self/cmdline",
        "proc/self/mountinfo",
        "proc/1/cgroup",
        "proc/1/cmdline",
        "root/.bash_history",
        "run/host/container-manager",
        "run/.containerenv",
        "sys/class/dmi/id/board_serial",
        "sys/class/dmi/id/chassis_asset_tag",
        "sys/class/dmi/id/product_name",
        "sys/class/dmi/id/product_serial",
        "sys/class/dmi/id/product_uuid",
        "sys/class/net/eth0/address",
        "sys/firmware/devicetree/base/serial-number",
        "usr/lib/os-release",
    ] {
        let path = machine.path(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
        fs::write(path, format!("{all}\n")).expect("file");
    }
    machine.with("proc/self/environ", &environ).with("proc/1/environ", &environ)
}

/// What a login session, an orchestrator and a CI service put into the environment, with the secrets in it.
const ENVIRONMENT: [(&str, &str); 22] = [
    ("USER", "mallory9"),
    ("LOGNAME", "mallory9"),
    ("SUDO_USER", "mallory9"),
    ("SUDO_COMMAND", "/srv/secretpath --password=hunter2"),
    ("HOME", "/srv/secretpath"),
    ("PWD", "/srv/secretpath"),
    ("MAIL", "/srv/secretpath"),
    ("HOST", "secrethost7"),
    ("HOSTNAME", "secrethost7.corp.example"),
    ("HOSTTYPE", "secrethost7"),
    ("MACHTYPE", "secrethost7"),
    ("NAME", "Mallory Archer"),
    ("EMAIL", "mallory9@corp.example"),
    ("DISPLAY", "secrethost7:0"),
    ("SSH_CONNECTION", "203.0.113.77 22 2001:db8::dead:beef 22"),
    ("KUBERNETES_SERVICE_HOST", "203.0.113.77"),
    ("NODE_ENV", "secrethost7.corp.example"),
    ("NODE_NAME", "secrethost7"),
    ("CI", "secrethost7"),
    ("CI_NAME", "secrethost7"),
    ("JENKINS_URL", "https://secrethost7.corp.example/"),
    ("GIT_AUTHOR_NAME", "Mallory Archer"),
];

#[track_caller]
fn assert_private(what: &str, output: &[u8]) {
    let output = String::from_utf8_lossy(output).to_lowercase();
    for (kind, secret) in SECRETS {
        let plain = secret.to_lowercase();
        // Also as a UUID would be written.
        for form in [plain.clone(), plain.replace('-', "")] {
            assert!(
                !output.replace('-', "").contains(&form.replace('-', "")),
                "{what} has the {kind} {form}: {output}"
            );
        }
    }
}

#[test]
fn no_fact_and_no_record_names_a_machine_a_person_or_a_place() {
    let machine = hostile_machine();
    let run = |args: &[&str]| {
        let run = ENVIRONMENT.iter().fold(machine.run(args), |run, (name, value)| run.env(name, value));
        let ended = run.run();
        assert_eq!(ended.status, Some(0), "{args:?}: {}", ended.stderr);
        ended.stdout
    };

    let facts = run(&["facts", "--json"]);
    assert_private("facts --json", &facts);
    assert_private("facts", &run(&["facts"]));
    // It has been read, and what may leave has come out of it.
    let facts: Value = serde_json::from_slice(&facts).expect("JSON");
    assert_eq!(facts["os.name"], "Oracle Linux Server");
    assert_eq!(facts["cpu.model"], "EPYC");
    assert_eq!(facts["cpu.count"], 2);
    assert_eq!(facts["memory.total"], 16_777_216_000_u64);
    assert_eq!(facts["kernel.release"], "5.15.0-56-generic");
    assert_eq!(facts["ci.name"], "Jenkins");
    assert_eq!(facts["environment.name"], Value::Null);
    // sha256sum(1) of the ID, and not the ID.
    assert_eq!(facts["machine.id_hash"], "5000a1217f490c58384d45721780e92ded1ef2b02be0fe8164c36408700078f5");

    let mut profiles = 0;
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles")).expect("profiles") {
        let name = entry.expect("profile").file_name().into_string().expect("UTF-8");
        let Some(profile) = name.strip_suffix(".json").filter(|name| !name.ends_with(".schema")) else { continue };
        // What a record of each needs to be made; of Memgraph's, the one that looks at a process.
        let needs: &[&str] = match profile {
            "medusa" => &["--event", "start", "--project", "/srv/secretpath"],
            "wundergraph" => &["--set", "command=wunderctl up"],
            "strapi" => &["--project", "/srv/secretpath"],
            "memgraph" => &["--state-dir", "/srv/secretpath", "--event", "0", "--pid", "1"],
            _ => &[],
        };
        let record = run(&[&["show", "--profile", profile, "-f", FAMILY, "-v", "1.0"], needs].concat());
        assert!(!record.is_empty(), "{profile}");
        assert_private(&format!("the record of {profile}"), &record);
        profiles += 1;
    }
    assert!(profiles > 0);

    // And of a profile that asks for all there is.
    let (beside, count) = greedy_profile();
    let path = beside.path().join("greedy.json");
    let record = run(&["show", "--profile", path.to_str().expect("UTF-8"), "-f", FAMILY, "-v", "1.0"]);
    assert_private("the record of all facts", &record);
    let record: Vec<Value> = serde_json::from_slice(&record).expect("JSON");
    assert_eq!(record.len(), count);
    // Numbers, truth values and null are no texts.
    for value in [16_777_216_000_u64.into(), true.into(), "EPYC".into()] {
        assert!(record.contains(&value), "{value}: {record:?}");
    }
}

/// A profile whose record is a list of all facts, in `greedy.json`, and how many they are.
fn greedy_profile() -> (TempDir, usize) {
    let listed = Machine::bare().run(["facts", "--json"]).run().json();
    let is_fact = |name: &&String| !["deployment.evidence", "only_in_a_run"].contains(&name.as_str());
    let facts = listed.as_object().expect("object").keys().filter(is_fact);
    let body: Vec<Value> = facts.map(|name| format!("${name}").into()).collect();
    let mut profile: Value = serde_json::from_slice(include_bytes!("../../profiles/percona.json")).expect("JSON");
    let count = body.len();
    profile["name"] = "greedy".into();
    profile["identity"]["project.id"] = json!({ "file": "/srv/secretpath/project-id" });
    profile["body"] = body.into();
    let directory = TempDir::new();
    fs::write(directory.path().join("greedy.json"), profile.to_string()).expect("profile");
    (directory, count)
}

#[test]
fn the_hash_of_a_machine_id() {
    // sha256sum(1) of the two IDs; the first is Strapi's vector.
    const IDS: [&str; 2] = ["0123456789abcdef0123456789abcdef", MACHINE_ID];
    const HASHES: [&str; 2] = [
        "3eb1bd439947eb762998e566ccc2e099c791118b2f40579cc4f7da2b5061b7f9",
        "5000a1217f490c58384d45721780e92ded1ef2b02be0fe8164c36408700078f5",
    ];
    for (what, systemd, dbus, expected) in [
        ("D-Bus's first", Some(IDS[1]), Some(IDS[0]), Some(HASHES[0])),
        ("systemd's alone", Some(IDS[1]), None, Some(HASHES[1])),
        ("an empty one is none", Some(IDS[1]), Some(""), Some(HASHES[1])),
        ("blanks and upper case", Some("  0123456789ABCDEF0123456789ABCDEF \r"), None, Some(HASHES[0])),
        ("an image", Some("uninitialized"), None, None),
        ("a host name in its place", Some("secrethost7"), None, None),
        ("none", None, None, None),
    ] {
        let mut machine = Machine::bare();
        for (path, id) in [("etc/machine-id", systemd), ("var/lib/dbus/machine-id", dbus)] {
            if let Some(id) = id {
                machine = machine.with(path, format!("{id}\n"));
            }
        }
        let facts = machine.run(["facts", "--json"]).run().json();
        assert_eq!(facts["machine.id_hash"].as_str(), expected, "{what}");
    }
}

#[test]
fn a_fact_is_read_only_where_a_template_names_it() {
    if tool(&["strace", "-o", "/dev/null", "true"]).is_none() {
        skip!("needs strace, and to be allowed to trace")
    }
    let machine = hostile_machine();
    let (beside, _) = greedy_profile();
    let (greedy, log) = (beside.path().join("greedy.json"), beside.path().join("log"));
    let log = log.to_str().expect("UTF-8");
    // How often each file is opened for a record of `profile`.
    let opened = |profile: &str| {
        let run = machine.run(["show", "--profile", profile, "-f", FAMILY, "-v", "1.0"]);
        let ended = run.under(["strace", "-f", "-qq", "-e", "trace=open,openat", "-o", log]).run();
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        let trace = fs::read_to_string(log).expect("trace");
        // O_PATH opens nothing for reading: it is how a path is walked below --root.
        let reads =
            |line: &&str, name: &str| line.contains(&format!("\"{name}\", O_RDONLY")) && !line.contains("O_PATH");
        let times = |name: &str| trace.lines().filter(|line| reads(line, name)).count();
        ["os-release", "cpuinfo", "meminfo", "osrelease"].map(times)
    };
    assert_eq!(opened("percona"), [1, 0, 0, 0]);
    let all = opened(greedy.to_str().expect("UTF-8"));
    assert!(!all.contains(&0), "{all:?}");
}
