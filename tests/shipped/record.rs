//! What is on the wire, byte for byte and from hostile inputs; and what operating system it names (items 3 and 4).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use crate::harness::{FAMILY, Machine, Receiver, is_root};
use crate::skip;

#[test]
fn the_request_byte_for_byte() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    machine.send(&receiver, "/v1/telemetry/GenericReport", FAMILY).run().sent();
    let body = String::from_utf8(receiver.body(1)).expect("UTF-8");
    let report = &serde_json::from_str::<Value>(&body).expect("JSON")["reports"][0];
    let (id, time) = (report["id"].as_str().expect("id"), report["createTime"].as_str().expect("createTime"));
    let machine_name = rustix::system::uname().machine().to_string_lossy().into_owned();
    // The order of the keys is part of it.
    assert_eq!(
        body,
        format!(
            r#"{{"reports":[{{"id":"{id}","product_family":"{FAMILY}","instanceId":"{}","createTime":"{time}","metrics":[{{"key":"deployment","value":"PACKAGE"}},{{"key":"pillar_version","value":"8.0.36-28"}},{{"key":"OS","value":"Oracle Linux Server 8.8"}},{{"key":"hardware_arch","value":"{machine_name} {machine_name}"}}]}}]}}"#,
            machine.instance_id()
        )
    );
    for id in [id, &machine.instance_id()] {
        assert_eq!(uuid::Uuid::try_parse(id).expect("a UUID").get_version_num(), 4);
        assert_eq!(id, id.to_lowercase());
    }
    assert_ne!(id, machine.instance_id());
    assert!(time.len() == "2023-11-01T10:46:23Z".len() && time.ends_with('Z'), "{time}");
    let time = chrono::DateTime::parse_from_rfc3339(time).expect("RFC 3339").timestamp();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() as i64;
    assert!((now - 60..=now).contains(&time), "{time} is not now, {now}");

    let request = &receiver.requests()[0];
    assert_eq!(request["method"], "POST");
    let headers = request["headers"].as_object().expect("headers");
    let names: Vec<&str> = headers.keys().map(String::as_str).collect();
    assert_eq!(names, ["content-length", "content-type", "host", "user-agent"]);
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["user-agent"], format!("install-record/{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(headers["host"], format!("127.0.0.1:{}", receiver.port()));
    // The receipt has the same bytes.
    assert_eq!(machine.receipts()[0]["body"], body);
}

#[test]
fn hostile_values_are_cut_and_escaped_never_refused() {
    let receiver = Receiver::start(&[]);
    let inputs: Vec<Vec<u8>> = vec![
        b"\"}],\"x\":[{\"".to_vec(),
        b"back\\slash \\\" \\u0000 \\".to_vec(),
        b"line\nfeed\r\n\ttab".to_vec(),
        (1..=0x1f).chain([0x7f]).collect(),
        b"\xff\xfe not UTF-8 \xc3\x28 \xed\xa0\x80".to_vec(),
        "é \u{2028} 😀 \u{202e}".into(),
        b"$(touch /tmp/x) `id` %s %n ${HOME}".to_vec(),
        "\u{1}".repeat(100_000).into(),
        "😀".repeat(25_000).into(),
        b"-".to_vec(),
        b"--strict".to_vec(),
    ];
    for input in inputs {
        let text = String::from_utf8_lossy(&input).into_owned();
        let machine = Machine::new();
        // As one argument, because a value may begin with a dash.
        let joined = |flag: &str| OsString::from_vec([flag.as_bytes(), &input].concat());
        let run = machine.send(&receiver, "/", FAMILY).args([joined("-v"), joined("-s"), joined("-d")]);
        run.run().sent();
        let body = receiver.body(receiver.requests().len());
        assert!(body.len() <= 8 << 10, "{} bytes", body.len());
        for value in metrics(&body).iter().take(3) {
            assert!(text.starts_with(value.as_str()) && !value.is_empty(), "{value:?} is no prefix of {text:?}");
            assert!(value.chars().count() == text.chars().count().min(256), "{value:?}");
        }
    }
}

/// The values of the metrics; that there are four, in order, none longer than it may be, is checked on the way.
#[track_caller]
fn metrics(body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let metrics = body["reports"][0]["metrics"].as_array().expect("metrics");
    let text = |metric: &Value, key: &str| metric[key].as_str().expect("text").to_owned();
    let keys: Vec<String> = metrics.iter().map(|metric| text(metric, "key")).collect();
    assert_eq!(keys, ["deployment", "pillar_version", "OS", "hardware_arch"]);
    let values: Vec<String> = metrics.iter().map(|metric| text(metric, "value")).collect();
    assert!(values.iter().all(|value| value.chars().count() <= 256), "{values:?}");
    values
}

/// The operating system that a record of this machine names; the time that it takes is checked on the way.
#[track_caller]
fn os_of(machine: &Machine) -> String {
    let ended = machine.run(["show", "-f", FAMILY, "-v", "1"]).run();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.time < Duration::from_secs(5), "{:?}", ended.time);
    assert!(ended.stdout.len() <= 8 << 10);
    metrics(&ended.stdout)[2].clone()
}

#[test]
fn os_release_files_of_distributions() {
    let given = std::env::var_os("OS_RELEASE_SAMPLES").filter(|path| !path.is_empty());
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/os-release");
    let directory = given.map_or_else(beside, PathBuf::from);
    let Ok(expected) = fs::read(directory.join("expected.json")) else {
        skip!("no os-release samples in {} (OS_RELEASE_SAMPLES)", directory.display())
    };
    let expected: Value = serde_json::from_slice(&expected).expect("expected.json");
    let expected = expected.as_object().expect("expected.json");
    assert!(expected.len() >= 155, "{}", expected.len());
    for (name, values) in expected {
        let of = |key: &str| values[key].as_str().filter(|value| !value.is_empty()).map(str::to_owned);
        let fallback = || Some([of("NAME")?, of("VERSION_ID").unwrap_or_default()].join(" ").trim().to_owned());
        let sample = fs::read(directory.join("samples").join(name)).expect("sample");
        let machine = Machine::bare().with("etc/os-release", sample);
        assert_eq!(Some(os_of(&machine)), of("PRETTY_NAME").or_else(fallback), "{name}");
        let facts = machine.run(["facts", "--json"]).run().json();
        for (fact, key) in
            [("os.name", "NAME"), ("os.id", "ID"), ("os.version", "VERSION"), ("os.version_id", "VERSION_ID")]
        {
            assert_eq!(facts[fact].as_str().map(str::to_owned), of(key), "{name}: {fact}");
        }
    }
}

#[test]
fn hard_os_release_texts() {
    let big = |line: &str| [line, &"#".repeat(10 << 20), "\n"].concat();
    for (text, expected) in [
        ("PRETTY_NAME=\"a\"\r\nNAME=\"b\"\r\n".into(), "a"),
        ("\u{feff}PRETTY_NAME=\"BOM\"\n".into(), "BOM"),
        ("PRETTY_NAME=first\nPRETTY_NAME='last one'\n".into(), "last one"),
        (r#"PRETTY_NAME="a \"b\" \$c \`d\` \\e""#.into(), r#"a "b" $c `d` \e"#),
        ("PRETTY_NAME=\"$(id) `id` ${HOME}\"\n".into(), "$(id) `id` ${HOME}"),
        ("PRETTY_NAME=\"a\0b\"\n".into(), "a\0b"),
        ("PRETTY_NAME=\"\"\nNAME=Fedora\nVERSION_ID=39\n".into(), "Fedora 39"),
        ("ID=debian\nVERSION_ID=12\n".into(), "debian 12"),
        ("NAME=\"".into(), "unknown"),
        ("NAME='\nPRETTY_NAME=\"\nID=ol".into(), "ol"),
        ("".into(), "unknown"),
        (big("PRETTY_NAME=\"ten megabytes\"\n"), "ten megabytes"),
        (format!("PRETTY_NAME={}\n", "x".repeat(1 << 20)), &*"x".repeat(256)),
        ("\n".repeat(1 << 20) + "PRETTY_NAME=deep\n", "deep"),
    ] {
        let shown: String = text.chars().take(40).collect();
        assert_eq!(os_of(&Machine::bare().with("etc/os-release", text)), expected, "{shown:?}");
    }
    let invalid = Machine::bare().with("etc/os-release", b"PRETTY_NAME=\"caf\xe9 1\"\n");
    assert_eq!(os_of(&invalid), "caf\u{fffd} 1");
}

#[test]
fn hard_os_release_paths() {
    type Planted = fn(&Machine);
    let cases: [(&str, Planted, &str); 13] = [
        ("missing", |_| {}, "unknown"),
        ("a FIFO", |m| mknodat(CWD, m.path("etc/os-release"), FileType::Fifo, Mode::RWXU, 0).expect("FIFO"), "unknown"),
        ("a directory", |m| fs::create_dir(m.path("etc/os-release")).expect("directory"), "unknown"),
        ("a link loop", |m| symlink("os-release", m.path("etc/os-release")).expect("link"), "unknown"),
        ("a dangling link", |m| symlink("nowhere", m.path("etc/os-release")).expect("link"), "unknown"),
        ("a link to a device", |m| symlink("/dev/zero", m.path("etc/os-release")).expect("link"), "unknown"),
        ("an absolute link", |m| plant_link(m, "/usr/share/os"), "inside"),
        ("a link out of the root", |m| plant_link(m, "../../../../../usr/share/os"), "inside"),
        ("/usr/lib", |m| plant(m, "usr/lib/os-release", "PRETTY_NAME=vendor\n"), "vendor"),
        ("system-release", |m| plant(m, "etc/system-release", "Amazon Linux 1\nx\n"), "Amazon Linux 1"),
        ("redhat-release", |m| plant(m, "etc/redhat-release", "CentOS 6.10\n"), "CentOS 6.10"),
        ("blank lines first", |m| plant(m, "etc/redhat-release", "\n \x1b\n  CentOS 6.10\n"), "CentOS 6.10"),
        ("issue, where an administrator may have written anything", |m| plant(m, "etc/issue", "web1\n"), "unknown"),
    ];
    for (what, prepare, expected) in cases {
        let machine = Machine::bare().with("etc/hostname", "h\n");
        prepare(&machine);
        assert_eq!(os_of(&machine), expected, "{what}");
    }
    // What is a FIFO for os-release does not hide the next source.
    let fifo = Machine::bare().with("etc/hostname", "h\n").with("usr/lib/os-release", "PRETTY_NAME=vendor\n");
    mknodat(CWD, fifo.path("etc/os-release"), FileType::Fifo, Mode::RWXU, 0).expect("FIFO");
    assert_eq!(os_of(&fifo), "vendor");
}

fn plant(machine: &Machine, path: &str, text: &str) {
    let path = machine.path(path);
    fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
    fs::write(path, text).expect("file");
}

fn plant_link(machine: &Machine, target: &str) {
    plant(machine, "usr/share/os", "PRETTY_NAME=inside\n");
    symlink(target, machine.path("etc/os-release")).expect("link");
}

#[test]
fn an_os_release_without_permission() {
    let machine = Machine::new().with("etc/system-release", "System 1\n");
    fs::set_permissions(machine.path("etc/os-release"), PermissionsExt::from_mode(0o0)).expect("mode");
    // A copy that another user can reach, wherever the build is.
    let copy = Machine::bare().with_binary("install-record");
    let mut run = machine.run(["show", "-f", FAMILY, "-v", "1"]).program(copy.path("install-record"));
    if is_root() {
        run = run.user(65534);
    }
    assert_eq!(metrics(&run.run().stdout)[2], "System 1");
}

#[test]
fn a_megabyte_of_os_release_in_a_request() {
    let receiver = Receiver::start(&[]);
    let text = format!("PRETTY_NAME='{}'\n", "\"\u{1}\\".repeat(350_000));
    let machine = Machine::bare().with("etc/os-release", text);
    machine.send(&receiver, "/", FAMILY).run().sent();
    let value = &metrics(&receiver.body(1))[2];
    assert!("\"\u{1}\\".repeat(100).starts_with(value.as_str()) && value.chars().count() == 256, "{value:?}");
}

#[test]
fn a_family_of_other_characters_is_a_usage_error() {
    let receiver = Receiver::start(&[]);
    let bad: [&[u8]; 8] = [b"A B", b"A:1", b"A\nB", b"../A", b"A\"", "É".as_bytes(), b"\xff", &[b'A'; 65]];
    for family in bad.into_iter().chain([&b"instanceId"[..], b"config_write_check"]) {
        let machine = Machine::new();
        let before = machine.snapshot();
        let run = machine.send(&receiver, "/", FAMILY);
        let ended = run.args([OsString::from("-f"), OsString::from_vec(family.to_vec())]).run().expect(2);
        assert!(ended.stderr.contains("-f") && ended.stderr.lines().count() == 1, "{ended:?}");
        assert_eq!(machine.snapshot(), before, "{}", family.escape_ascii());
        let by_variable = machine.run(["send", "-v", "1", "-u", &receiver.url("/")]);
        let ended = by_variable.env("PERCONA_PRODUCT_FAMILY", std::ffi::OsStr::from_bytes(family)).run().expect(2);
        assert!(ended.stderr.contains("PERCONA_PRODUCT_FAMILY"), "{ended:?}");
    }
    for family in ["A", "a.b_c-1", &"A".repeat(64)] {
        Machine::new().send(&receiver, "/", family).run().sent();
    }
    assert_eq!(receiver.connections(), 3);
}
