//! The five products, each by what its documentation promises and its service accepts: the exact record from a
//! planted machine, delivered over TLS (issue 7, items 1 to 3).

mod backlog;
mod consent;
mod installed;
mod medusa;
mod memgraph;
mod strapi;
mod wundergraph;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use svix_ksuid::{Ksuid, KsuidLike};

use crate::harness::{Machine, Receiver, Run};

pub const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef";
pub const PROJECT_ID: &str = "7b581c0d-89b7-479e-b379-a76ab90b8754";

/// One kind of record of one product.
struct Kind {
    profile: &'static str,
    /// The endpoint of the product's documentation.
    endpoint: &'static str,
    /// What the product's own script would pass.
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    user_agent: &'static str,
    /// What its service answers when it is content.
    answer: &'static str,
    golden: &'static str,
}

const OURS: &str = concat!("install-record/", env!("CARGO_PKG_VERSION"));
const MEDUSA: &str = "https://telemetry.medusa-commerce.com/batch";
const WUNDERGRAPH: &str = "https://gateway.wundergraph.com/operations/CollectMetricsV1";
const STRAPI: &str = "https://analytics.strapi.io/track";
const MEMGRAPH: &str = "https://telemetry.memgraph.com/88b5e7e8-746a-11e8-9f85-538a9e9690cc/";
const COLLECTED: &str = r#"{"data":{"collectMetricsV1":{"success":true}}}"#;

const KINDS: [Kind; 9] = [
    Kind {
        profile: "percona",
        endpoint: "https://check.percona.com/v1/telemetry/GenericReport",
        args: &["-f", "PRODUCT_FAMILY_PSMDB", "-v", "4.4.26-25"],
        env: &[],
        user_agent: OURS,
        answer: "{}",
        golden: include_str!("golden/percona.json"),
    },
    Kind {
        profile: "medusa",
        endpoint: MEDUSA,
        args: &[
            "--event=start",
            "--project=/srv/app",
            "--set=node_version=v16.20.0",
            "-v1.20.10",
            // A number to JSON, and a version all the same.
            "--set=cli_version=1.3",
            r#"--set=feature_flags=["product_categories"]"#,
            r#"--set=modules=[{"module":"cacheService","resolution":"@medusajs/cache-inmemory"}]"#,
            r#"--set=plugins=["medusa-payment-stripe"]"#,
        ],
        env: &[],
        user_agent: OURS,
        answer: "OK",
        golden: include_str!("golden/medusa.json"),
    },
    Kind {
        profile: "medusa",
        endpoint: MEDUSA,
        args: &["--event", "start", "--project", "/srv/app"],
        env: &[("CI", "true"), ("GITHUB_ACTIONS", "true")],
        user_agent: OURS,
        answer: "OK",
        golden: include_str!("golden/medusa-defaults.json"),
    },
    Kind {
        profile: "wundergraph",
        endpoint: WUNDERGRAPH,
        args: &["--set", "command=wunderctl up"],
        env: &[],
        user_agent: "wg-telemetry-client",
        answer: COLLECTED,
        golden: include_str!("golden/wundergraph-usage.json"),
    },
    Kind {
        profile: "wundergraph",
        endpoint: WUNDERGRAPH,
        args: &["--set", "command=wunderctl generate", "--set", "duration=12.75", "-v", "0.180.0"],
        env: &[("ci", "1")],
        user_agent: "wg-telemetry-client",
        answer: COLLECTED,
        golden: include_str!("golden/wundergraph-duration.json"),
    },
    Kind {
        profile: "strapi",
        endpoint: STRAPI,
        args: &[
            "--project=/srv/app",
            "--product-version=3.0.0",
            "--set=node_version=v12.18.3",
            r#"--set=build={"quickstart":true,"template":"blog"}"#,
        ],
        env: &[],
        user_agent: OURS,
        answer: "",
        golden: include_str!("golden/strapi.json"),
    },
    Kind {
        profile: "memgraph",
        endpoint: MEMGRAPH,
        args: &["-v", "2.3.1", "--state-dir", "/srv/data"],
        env: &[],
        user_agent: "memgraph/2.3.1",
        answer: "",
        golden: include_str!("golden/memgraph-startup.json"),
    },
    Kind {
        profile: "memgraph",
        endpoint: MEMGRAPH,
        args: &[
            "--product-version=2.3.1",
            "--state-dir=/srv/data",
            "--event=0",
            "--pid=4711",
            r#"--set=event_counters={"FailedQuery":0}"#,
            "--set=event_counters.ReadQuery=7",
            "--set=query_module_counters.nxalg.pagerank=2",
            "--set=storage.vertices=3",
            "--set=storage.edges=5",
        ],
        env: &[],
        user_agent: "memgraph/2.3.1",
        answer: "",
        golden: include_str!("golden/memgraph-usage.json"),
    },
    Kind {
        profile: "memgraph",
        endpoint: MEMGRAPH,
        args: &["-v2.3.1", "--state-dir=/srv/data", "--event=shutdown", "--pid=4711"],
        env: &[],
        user_agent: "memgraph/2.3.1",
        answer: "",
        golden: include_str!("golden/memgraph-shutdown.json"),
    },
];

impl Kind {
    /// The first of a product.
    fn of(profile: &str) -> &'static Kind {
        KINDS.iter().find(|kind| kind.profile == profile).expect("a profile")
    }

    /// The path of its endpoint.
    fn path(&self) -> &'static str {
        let host = self.endpoint.strip_prefix("https://").expect("https");
        &host[host.find('/').expect("a path")..]
    }

    fn run(&self, machine: &Machine, command: &str) -> Run {
        let run = command_of(machine, self.profile, command).args(self.args);
        self.env.iter().fold(run, |run, (name, value)| run.env(name, value))
    }

    fn send(&self, machine: &Machine, receiver: &Receiver) -> Run {
        to(receiver, self.path(), self.run(machine, "send"))
    }
}

/// A run of `command` for `profile` by the user whose home is /home/dev.
fn command_of(machine: &Machine, profile: &str, command: &str) -> Run {
    machine.run([command, "--profile", profile]).env("HOME", "/home/dev")
}

/// With time enough for a busy computer.
fn to(receiver: &Receiver, path: &str, run: Run) -> Run {
    run.args(["-c", "10", "-t", "20", "-u", &receiver.url(path)]).env("SSL_CERT_FILE", receiver.ca())
}

/// Ubuntu on a server of two processors, with a Strapi project, a data directory and a busy database.
fn server() -> Machine {
    let stat = format!("4711 (memgraph) S 1 1 1 0 -1 0 0 0 0 0 120 30 0 0 20 0 9 0 39998 0 0 {}\n", "0 ".repeat(29));
    let cpu = |n| format!("processor\t: {n}\nmodel name\t: Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz\n\n");
    Machine::bare()
        .with(
            "etc/os-release",
            "PRETTY_NAME=\"Ubuntu 22.04.1 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"22.04\"\n\
             VERSION=\"22.04.1 LTS (Jammy Jellyfish)\"\nVERSION_CODENAME=jammy\nID=ubuntu\n",
        )
        .with("etc/machine-id", format!("{MACHINE_ID}\n"))
        .with("proc/cpuinfo", cpu(0) + &cpu(1))
        .with("proc/meminfo", "MemTotal:       16384000 kB\nMemFree:        100 kB\nSwapTotal:       2097152 kB\n")
        .with("proc/sys/kernel/osrelease", "5.15.0-56-generic\n")
        .with("proc/sys/kernel/version", "#62-Ubuntu SMP Tue Nov 22 19:54:14 UTC 2022\n")
        .with("proc/uptime", "1000.00 1900.00\n")
        .with("proc/4711/stat", stat)
        .with("proc/4711/status", "Name:\tmemgraph\nVmPeak:\t 999999 kB\nVmRSS:\t  102400 kB\nThreads:\t9\n")
        .with("srv/app/package.json", package_json(&format!(r#""uuid":"{PROJECT_ID}""#)))
        .with("srv/data/storage", "")
        .with("etc/memgraph/memgraph.conf", "--telemetry-enabled=true\n")
        .with("home/dev/.profile", "")
}

fn package_json(strapi: &str) -> String {
    format!("{{\n  \"name\": \"shop\",\n  \"version\": \"0.1.0\",\n  \"strapi\": {{{strapi}}}\n}}\n")
}

fn read(machine: &Machine, path: &str) -> String {
    std::fs::read_to_string(machine.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(machine: &Machine, path: &str) -> Value {
    serde_json::from_str(&read(machine, path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn mode(machine: &Machine, path: &str) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(machine.path(path)).unwrap_or_else(|error| panic!("{path}: {error}")).permissions().mode()
        & 0o7777
}

fn body(receiver: &Receiver, number: usize) -> Value {
    serde_json::from_slice(&receiver.body(number)).expect("JSON")
}

/// Checks `body` against a golden text, in which `<KIND>` stands for what no two runs or machines have alike; gives
/// back what stood there, by kind.
#[track_caller]
fn matched(golden: &str, body: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut golden, mut rest) = (golden.strip_suffix('\n').expect("one line"), body);
    loop {
        let literal = &golden[..golden.find('<').unwrap_or(golden.len())];
        rest = rest.strip_prefix(literal).unwrap_or_else(|| panic!("expected {golden}\n   found {rest}"));
        let Some((kind, after)) = golden[literal.len()..].strip_prefix('<').and_then(|it| it.split_once('>')) else {
            assert_eq!(rest, "", "after the end");
            return found;
        };
        let value = &rest[..rest.find(['"', ' ', '}', ',']).unwrap_or(rest.len())];
        assert_is(kind, value);
        found.push((kind.to_owned(), value.to_owned()));
        (golden, rest) = (after, &rest[value.len()..]);
    }
}

#[track_caller]
fn assert_is(kind: &str, value: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64();
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    let rfc_3339 = |form: &str| {
        let time = chrono::DateTime::parse_from_rfc3339(value).expect(value).timestamp() as f64;
        value.len() == form.len() && value.ends_with('Z') && (now - time).abs() < 60.0
    };
    let is = match kind {
        "uuid4" => uuid::Uuid::try_parse(value).is_ok_and(|id| id.get_version_num() == 4 && id.to_string() == value),
        "ksuid" => value.len() == 27 && value.parse::<Ksuid>().is_ok_and(|id| id.timestamp_seconds() <= now as i64),
        "seconds" => rfc_3339("2023-01-05T10:00:00Z"),
        "milliseconds" => rfc_3339("2023-01-05T10:00:00.000Z"),
        "epoch" => value.parse::<f64>().is_ok_and(|time| (now - time).abs() < 60.0) && value.contains('.'),
        "machine" => value == machine,
        // Node's names of the two that we build for.
        "node" => value == machine.replace("x86_64", "x64").replace("aarch64", "arm64"),
        other => panic!("<{other}>"),
    };
    assert!(is, "{value} is no {kind}");
}

/// The values of one kind.
fn all<'m>(found: &'m [(String, String)], kind: &str) -> Vec<&'m str> {
    found.iter().filter(|(known, _)| known == kind).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn every_record_byte_for_byte_as_its_service_gets_it() {
    for kind in &KINDS {
        let (machine, receiver) = (server(), Receiver::start(&["--answer", kind.answer]));
        // What is shown is what is sent, and showing it leaves nothing.
        let before = machine.snapshot();
        let shown = kind.run(&machine, "show").run();
        matched(kind.golden, &shown.text());
        assert_eq!((shown.status, shown.stderr.as_str()), (Some(0), ""), "{}", kind.profile);
        assert_eq!(machine.snapshot(), before, "{}", kind.profile);

        kind.send(&machine, &receiver).run().sent();
        let sent = String::from_utf8(receiver.body(1)).expect("UTF-8");
        let first = matched(kind.golden, &sent);
        let request = &receiver.requests()[0];
        assert_eq!((&request["method"], &request["path"]), (&"POST".into(), &kind.path().into()), "{}", kind.profile);
        assert_eq!(request["tls"], "TLSv1_3");
        let headers = request["headers"].as_object().expect("headers");
        let names: Vec<&str> = headers.keys().map(String::as_str).collect();
        let accept = (kind.profile == "memgraph").then_some("accept");
        let expected: Vec<&str> =
            accept.into_iter().chain(["content-length", "content-type", "host", "user-agent"]).collect();
        assert_eq!(names, expected, "{}", kind.profile);
        assert!(accept.is_none() || headers["accept"] == "application/json");
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["user-agent"], kind.user_agent);
        assert_eq!(machine.receipts()[0]["body"], sent.as_str());

        // The IDs are kept: all that differs the next time is of that run.
        let again = kind.run(&machine, "show").run();
        let second = matched(kind.golden, &again.text());
        let same = first.iter().zip(&second).filter(|(one, other)| one == other).map(|((kind, _), _)| kind.as_str());
        let kept = same.filter(|kind| ["uuid4", "ksuid"].contains(kind)).count();
        let expected = match (kind.profile, first.iter().filter(|(kind, _)| kind == "uuid4").count()) {
            ("medusa", 3) => 2,
            ("strapi", 0) => 0,
            _ => 1,
        };
        assert_eq!(kept, expected, "{}: {first:?}, then {second:?}", kind.profile);
    }
}

#[test]
fn the_endpoint_of_each_is_that_of_its_documentation() {
    let machine = server();
    for kind in &KINDS {
        let run = command_of(&machine, kind.profile, "status").args(["--json", "--project", "/srv/app"]);
        assert_eq!(run.run().json()["endpoint"], kind.endpoint);
    }
}

#[test]
fn success_is_what_each_service_means_by_it() {
    const FAILED: &str = r#"{"data":{"collectMetricsV1":{"success":false}},"errors":[{"message":"no"}]}"#;
    // Whether it was sent, and whether it is still pending.
    const SENT: (bool, bool) = (true, false);
    const KEPT: (bool, bool) = (false, true);
    const REFUSED: (bool, bool) = (false, false);
    for (profile, status, answer, expected) in [
        ("percona", 200, "{}", SENT),
        ("percona", 204, "", SENT),
        ("medusa", 200, "OK", SENT),
        ("medusa", 500, "", KEPT),
        ("medusa", 503, "", KEPT),
        ("medusa", 429, "", KEPT),
        ("medusa", 400, "", REFUSED),
        ("wundergraph", 200, COLLECTED, SENT),
        ("wundergraph", 200, r#"{"data":{}}"#, SENT),
        ("wundergraph", 200, r#"{"data":{},"errors":[]}"#, SENT),
        ("wundergraph", 200, FAILED, KEPT),
        ("wundergraph", 200, r#"{"errors":[{"message":"no"}]}"#, KEPT),
        ("wundergraph", 200, "<html>captive portal</html>", KEPT),
        ("wundergraph", 201, COLLECTED, KEPT),
        ("wundergraph", 204, "", KEPT),
        ("wundergraph", 400, COLLECTED, REFUSED),
        ("strapi", 200, "", SENT),
        ("strapi", 500, "", KEPT),
        ("memgraph", 200, "", SENT),
        ("memgraph", 200, r#"{"error":"none of our business"}"#, SENT),
        ("memgraph", 201, "", KEPT),
        ("memgraph", 204, "", KEPT),
        ("memgraph", 500, "", KEPT),
    ] {
        let (machine, receiver) = (server(), Receiver::start(&["--answer", answer]));
        let kind = Kind::of(profile);
        let run = to(&receiver, &format!("/status/{status}{}", kind.path()), kind.run(&machine, "send"));
        let ended = run.run().expect(0);
        let found = (ended.stderr.contains(": sent one install record"), machine.pending().len() == 1);
        assert_eq!(found, expected, "{profile} {status} {answer}: {}", ended.stderr);
        assert_eq!(receiver.requests().len(), 1);
    }
}

#[test]
fn the_raw_machine_id_is_nowhere() {
    let find = |machine: &Machine, secret: &str| {
        let lines = machine.snapshot().into_iter().filter_map(|line| line.split(' ').next().map(str::to_owned));
        let mut files: Vec<String> = lines
            .filter(|path| {
                std::fs::read(path).is_ok_and(|text| String::from_utf8_lossy(&text).replace('-', "").contains(secret))
            })
            .collect();
        files.retain(|path| !path.ends_with("/etc/machine-id"));
        files
    };
    for kind in &KINDS {
        let (machine, receiver) = (server(), Receiver::start(&["--answer", kind.answer]));
        kind.send(&machine, &receiver).run().sent();
        let body = String::from_utf8(receiver.body(1)).expect("UTF-8").replace('-', "");
        assert!(!body.contains(MACHINE_ID), "{}: {body}", kind.profile);
        assert_eq!(find(&machine, MACHINE_ID), [""; 0], "{}", kind.profile);
        // The same look finds what is there.
        assert!(kind.profile != "strapi" || !find(&machine, &PROJECT_ID.replace('-', "")).is_empty());
    }
}
