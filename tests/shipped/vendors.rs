//! The five products and an invented one: the exact record from a planted machine, over TLS (items 1 to 3).

mod promises;

use svix_ksuid::{Ksuid, KsuidLike};

use crate::harness::*;

/// systemd's, which is behind D-Bus's. golden/strapi.json has the hash of that, which is the first of the usual ones.
const SYSTEMD_ID: &str = "f123456789abcde0f123456789abcde0";

#[derive(Clone, Copy)]
pub struct Kind {
    pub profile: &'static str,
    /// The endpoint of the product's documentation.
    endpoint: &'static str,
    /// What the product's own script would pass, divided by bars.
    args: &'static str,
    env: &'static [(&'static str, &'static str)],
    /// Those beside the host and the length.
    headers: &'static [(&'static str, &'static str)],
    /// What its service answers when it is content.
    pub answer: &'static str,
    golden: &'static str,
}

const JSON: (&str, &str) = ("content-type", "application/json");
pub const PERCONA: Kind = Kind {
    profile: "percona",
    endpoint: "https://check.percona.com/v1/telemetry/GenericReport",
    args: "-f|PRODUCT_FAMILY_PSMDB|-v|4.4.26-25",
    env: &[],
    headers: &[JSON, ("user-agent", concat!("install-record/", env!("CARGO_PKG_VERSION")))],
    answer: "{}",
    golden: include_str!("golden/percona.json"),
};
pub const MEDUSA: Kind = Kind {
    profile: "medusa",
    endpoint: "https://telemetry.medusa-commerce.com/batch",
    // The version of the CLI is a number to JSON, and a version all the same.
    args: r#"--event=start|--project=/srv/app|--set=node_version=v16.20.0|-v1.20.10|--set=cli_version=1.3
        |--set=modules=[{"module":"cacheService","resolution":"@medusajs/cache-inmemory"}]
        |--set=feature_flags=["product_categories"]|--set=plugins=["medusa-payment-stripe"]"#,
    answer: "OK",
    golden: include_str!("golden/medusa.json"),
    ..PERCONA
};
pub const WUNDERGRAPH: Kind = Kind {
    profile: "wundergraph",
    endpoint: "https://gateway.wundergraph.com/operations/CollectMetricsV1",
    args: "--set|command=wunderctl up",
    headers: &[JSON, ("user-agent", "wg-telemetry-client")],
    answer: r#"{"data":{"collectMetricsV1":{"success":true}}}"#,
    golden: include_str!("golden/wundergraph-usage.json"),
    ..PERCONA
};
pub const STRAPI: Kind = Kind {
    profile: "strapi",
    endpoint: "https://analytics.strapi.io/track",
    args: r#"--project=/srv/app|--product-version=3.0.0|--set=node_version=v12.18.3
        |--set=build={"quickstart":true,"template":"blog"}"#,
    answer: "",
    golden: include_str!("golden/strapi.json"),
    ..PERCONA
};
pub const MEMGRAPH: Kind = Kind {
    profile: "memgraph",
    endpoint: "https://telemetry.memgraph.com/88b5e7e8-746a-11e8-9f85-538a9e9690cc/",
    args: "-v|2.3.1|--state-dir|/srv/data",
    headers: &[JSON, ("user-agent", "memgraph/2.3.1"), ("accept", "application/json")],
    answer: "",
    golden: include_str!("golden/memgraph-startup.json"),
    ..PERCONA
};
pub const LUMENQ: Kind = Kind {
    profile: "lumenq",
    endpoint: "https://records.lumenq.example/v2/installs",
    args: "--project=/srv/app|-v|2.1.0|--set=edition=community plus|--set=queues=12|--set=plugins.amqp=3
        |--set=plugins.secret=1|--set=channel=beta",
    headers: &[
        ("content-type", "application/vnd.lumenq.install+json"),
        ("user-agent", "lumenq/2.1.0 (linux)"),
        ("x-lumenq-channel", "beta"),
    ],
    answer: r#"{"stored":true}"#,
    golden: include_str!("golden/lumenq.json"),
    ..PERCONA
};

static KINDS: [Kind; 10] = [
    PERCONA,
    MEDUSA,
    Kind {
        args: "--event|start|--project|/srv/app",
        env: &[("CI", "true"), ("GITHUB_ACTIONS", "true")],
        golden: include_str!("golden/medusa-defaults.json"),
        ..MEDUSA
    },
    WUNDERGRAPH,
    Kind {
        args: "--set|command=wunderctl generate|--set|duration=12.75|-v|0.180.0",
        env: &[("CI", "false")],
        golden: include_str!("golden/wundergraph-duration.json"),
        ..WUNDERGRAPH
    },
    STRAPI,
    MEMGRAPH,
    Kind {
        args: r#"--product-version=2.3.1|--state-dir=/srv/data|--event=0|--pid=4711|--set=storage.vertices=3
            |--set=storage.edges=5|--set=event_counters={"FailedQuery":0}|--set=event_counters.ReadQuery=7
            |--set=query_module_counters.nxalg.pagerank=2"#,
        golden: include_str!("golden/memgraph-usage.json"),
        ..MEMGRAPH
    },
    Kind {
        args: "-v2.3.1|--state-dir=/srv/data|--event=shutdown|--pid=4711",
        golden: include_str!("golden/memgraph-shutdown.json"),
        ..MEMGRAPH
    },
    LUMENQ,
];

impl Kind {
    fn path(&self) -> &'static str {
        &self.endpoint[self.endpoint.match_indices('/').nth(2).expect("a path").0..]
    }

    pub fn run(&self, machine: &Machine, command: &str) -> Run {
        let run = command_of(machine, self.profile, command).args(self.args.split('|').map(str::trim));
        self.env.iter().fold(run, |run, (name, value)| run.env(name, value))
    }

    pub fn send(&self, machine: &Machine, receiver: &Receiver) -> Run {
        self.run(machine, "send").to(receiver, self.path())
    }
}

/// A run of `command` for `profile` by the user whose home is /home/dev.
pub fn command_of(machine: &Machine, profile: &str, command: &str) -> Run {
    machine.run([command, "--profile", profile]).env("HOME", "/home/dev")
}

/// Ubuntu on a server of two processors, with a project, a data directory, a busy database and a profile of a vendor's own.
pub fn server() -> Machine {
    let lumenq = include_str!("../profiles/lumenq.json");
    Machine::of("server").with("usr/share/install-record/profiles/lumenq.json", lumenq)
}

/// Checks `body` against a golden text, in which `<KIND>` stands for what no two runs or machines have alike; gives
/// back what stood there, by kind.
#[track_caller]
fn matched<'g>(golden: &'g str, body: &str) -> Vec<(&'g str, String)> {
    let (mut golden, mut rest, mut found) = (golden.strip_suffix('\n').expect("one line"), body, Vec::new());
    loop {
        let literal = &golden[..golden.find('<').unwrap_or(golden.len())];
        rest = rest.strip_prefix(literal).unwrap_or_else(|| panic!("expected {golden}\n   found {rest}"));
        let Some((kind, after)) = golden[literal.len()..].strip_prefix('<').and_then(|it| it.split_once('>')) else {
            assert_eq!(rest, "", "after the end");
            return found;
        };
        let (value, left) = rest.split_at(rest.find(['"', ' ', '}', ',']).unwrap_or(rest.len()));
        assert_is(kind, value);
        found.push((kind, value.to_owned()));
        (golden, rest) = (after, left);
    }
}

#[track_caller]
pub fn assert_is(kind: &str, value: &str) {
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    let rfc_3339 = |form: &str| {
        let time = chrono::DateTime::parse_from_rfc3339(value).expect(value).timestamp();
        value.len() == form.len() && value.ends_with('Z') && (now() - time).abs() < 60
    };
    let is = match kind {
        "uuid4" => uuid::Uuid::try_parse(value).is_ok_and(|id| id.get_version_num() == 4 && id.to_string() == value),
        "ksuid" => value.len() == 27 && value.parse::<Ksuid>().is_ok_and(|id| id.timestamp_seconds() <= now()),
        "seconds" => rfc_3339("2023-01-05T10:00:00Z"),
        "milliseconds" => rfc_3339("2023-01-05T10:00:00.000Z"),
        "epoch" => value.parse::<f64>().is_ok_and(|time| (now() as f64 - time).abs() < 60.0) && value.contains('.'),
        "machine" => value == machine,
        // Node's names of the two that we build for.
        "node" => value == machine.replace("x86_64", "x64").replace("aarch64", "arm64"),
        other => panic!("<{other}>"),
    };
    assert!(is, "{value} is no {kind}");
}

#[test]
fn every_record_byte_for_byte_as_its_service_gets_it() {
    // The product's own variable moves its endpoint; src/profile.rs has Medusa's two.
    let machine = server();
    let moved = command_of(&machine, "wundergraph", "status").args(["--json"]).env("WG_API_URL", "https://[::1]/api");
    assert_eq!(moved.run().json()["endpoint"], "https://[::1]/api/operations/CollectMetricsV1");
    for kind in &KINDS {
        let (machine, receiver, profile) = (server(), Receiver::start(&["--answer", kind.answer]), kind.profile);
        let asked = command_of(&machine, profile, "status").args(["--json", "--project", "/srv/app"]);
        assert_eq!(asked.run().json()["endpoint"], kind.endpoint);
        // What is shown is what is sent, and showing it leaves nothing.
        let before = machine.snapshot();
        matched(kind.golden, &kind.run(&machine, "show").run().printed().text());
        assert_eq!(machine.snapshot(), before, "{profile}");

        kind.send(&machine, &receiver).run().sent();
        let sent = String::from_utf8(receiver.body(1)).expect("UTF-8");
        matched(kind.golden, &sent);
        let request = &receiver.requests()[0];
        assert_eq!([&request["method"], &request["path"], &request["tls"]], ["POST", kind.path(), "TLSv1_3"]);
        let host = format!("127.0.0.1:{}", receiver.port);
        let mut headers = json!({ "host": host, "content-length": sent.len().to_string() });
        kind.headers.iter().for_each(|(name, value)| headers[name] = json!(value));
        assert_eq!(request["headers"], headers, "{profile}");
        assert_eq!(machine.receipts()[0]["body"], sent.as_str());

        // The raw machine-id is nowhere but in its own files, where the same look finds it.
        let has = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace('-', "");
            [MACHINE_IDS[0].trim(), SYSTEMD_ID].iter().any(|id| text.contains(id))
        };
        let files = walk(machine.root()).into_iter().filter(|path| fs::read(path).is_ok_and(|text| has(&text)));
        let expected = ["etc/machine-id", "var/lib/dbus/machine-id"].map(|path| machine.path(path));
        assert_eq!((has(sent.as_bytes()), files.collect::<Vec<_>>()), (false, expected.into()), "{profile}");
    }
}

/// src/profile/success.rs has the rules, the fault matrix what becomes of other answers.
#[test]
fn success_is_what_each_service_means_by_it() {
    const FAILED: &str = r#"{"data":{"collectMetricsV1":{"success":false}},"errors":[{"message":"no"}]}"#;
    for (kind, status, answer, is_sent) in [
        (WUNDERGRAPH, 200, r#"{"data":{},"errors":[]}"#, true),
        (WUNDERGRAPH, 200, FAILED, false),
        (STRAPI, 204, "", true),
        (MEMGRAPH, 204, "", false),
        (LUMENQ, 204, "", false),
    ] {
        let (machine, receiver) = (server(), Receiver::start(&["--answer", answer]));
        let run = kind.run(&machine, "send").to(&receiver, &format!("/status/{status}{}", kind.path()));
        let ended = run.run().expect(0);
        let found = (ended.stderr.contains(": sent one install record"), machine.pending().is_empty());
        assert_eq!(found, (is_sent, is_sent), "{} {status} {answer}: {}", kind.profile, ended.stderr);
        assert_eq!(receiver.requests().len(), 1);
    }
}
