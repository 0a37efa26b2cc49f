//! Machines, runs and receivers; the guard that keeps every test away from real endpoints; and skipping, loudly.

pub use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
pub use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
pub use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
pub use std::thread;
pub use std::time::{Duration, Instant, SystemTime};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};
pub use serde_json::{Value, json};

pub const FAMILY: &str = "PRODUCT_FAMILY_PS";
pub const OTHER: &str = "PRODUCT_FAMILY_PXC";
pub const IDENTITY: &str = "usr/local/percona/telemetry_uuid";
pub const STATE: &str = "var/lib/install-record";
pub const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
pub const USER: u32 = 1001;
/// For [`Run::mounted`]: nothing on the machine can be written.
pub const READ_ONLY: &str = "mount --bind . . && mount -o remount,ro,bind . || exit 77; exec \"$0\" \"$@\"";
/// Machines that are the same in every run, and in `expected` what must come of them.
pub const ROOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/roots");
pub const MACHINE_IDS: [&str; 2] = ["0123456789abcdef0123456789abcdef\n", "fedcba9876543210fedcba9876543210\n"];

const LIMIT: Duration = Duration::from_secs(60);

pub static BINARY: LazyLock<PathBuf> = LazyLock::new(|| program("INSTALL_RECORD_BINARY", "install-record"));
pub static RECEIVER: LazyLock<PathBuf> = LazyLock::new(|| program("INSTALL_RECORD_RECEIVER", "examples/receiver"));

fn program(variable: &str, built: &str) -> PathBuf {
    let given = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = given.unwrap_or_else(|| Path::new(env!("CARGO_BIN_EXE_install-record")).with_file_name(built));
    assert!(path.is_file(), "no {}: cargo build --example receiver, or set {variable}", path.display());
    path
}

/// Whether the binary needs no dynamic loader. The loader's path stands before everything else in a program.
pub fn is_static() -> bool {
    let program = fs::read(&*BINARY).expect("binary");
    !program[..4096].windows(8).any(|it| [b"/ld-linu", b"/ld-musl"].contains(&it.try_into().expect("8 bytes")))
}

macro_rules! needs {
    ($condition:expr, $what:literal) => {
        if !$condition {
            return $crate::harness::skipped(concat!("needs ", $what));
        }
    };
}

/// What comes of a run by [`Run::mounted`]. Skips the test where that is impossible.
macro_rules! mounted {
    ($run:expr, $script:expr) => {
        match $run.mounted($script) {
            Some(ended) => ended,
            None => return $crate::harness::skipped("needs to mount in a namespace"),
        }
    };
}

/// A skip, after which a test ends: where that is allowed, else a failure.
pub fn skipped(why: &str) {
    let name = thread::current().name().unwrap_or("?").to_owned();
    assert!(std::env::var_os("CHECK_MODE").is_none_or(|it| it != "require"), "{name} must not be skipped here: {why}");
    // A line of its own, and not by println!, which the test runner keeps to itself.
    let _ = std::io::stderr().write_all(format!("\nSKIP {name}: {why}\n").as_bytes());
}

/// A number of rounds: `few` in a CI, `full` where INSTALL_RECORD_ROUNDS asks for all.
pub fn rounds(few: usize, full: usize) -> usize {
    if std::env::var_os("INSTALL_RECORD_ROUNDS").is_some_and(|asked| asked == "full") { full } else { few }
}

pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "     {line}");
}

/// Numbers that only look random, the same in every run: a linear congruential generator (Knuth's MMIX).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// In seconds since 1970.
pub fn now() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs() as i64
}

pub fn set_of(reports: &[Value], key: &str) -> BTreeSet<String> {
    reports.iter().map(|report| report[key].as_str().expect("a text").to_owned()).collect()
}

/// What a tool says; `None` where it fails, takes too long or is not there.
pub fn tool(command: &[&str]) -> Option<String> {
    let output = Command::new("timeout").arg("20").args(command).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn has_strace() -> bool {
    tool(&["strace", "-o", "/dev/null", "true"]).is_some()
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

// ---- machines ----

/// A system tree in a directory that goes away with it, for `--root`.
pub struct Machine(PathBuf);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Machine {
    pub fn empty() -> Machine {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("install-record-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("temporary directory");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("temporary directory");
        Machine(path)
    }

    pub fn new() -> Machine {
        Machine::of("oracle-8")
    }

    pub fn of(name: &str) -> Machine {
        Machine::empty().and(name)
    }

    pub fn and(self, name: &str) -> Machine {
        copy_tree(&Path::new(ROOTS).join(name), self.root());
        // Whatever umask the tree was checked out with.
        self.sh("chmod -R u=rwX,go=rX .");
        self
    }

    pub fn with(self, path: &str, content: impl AsRef<[u8]>) -> Machine {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file's path")).expect("machine");
        fs::write(path, content).expect("machine");
        self
    }

    /// The binary inside, for other users and for runs with this machine as their root directory.
    pub fn with_binary(self, name: &str) -> Machine {
        fs::copy(&*BINARY, self.path(name)).expect("copy of the binary");
        // The kernel's link, by which the courier is started.
        fs::create_dir_all(self.path("proc/self")).expect("proc/self");
        symlink(Path::new("/").join(name), self.path("proc/self/exe")).expect("proc/self/exe");
        self
    }

    pub fn copied(&self) -> Machine {
        let copy = Machine::empty();
        copy_tree(self.root(), copy.root());
        copy
    }

    /// One on which a report waits, and the port at which it has found nobody.
    #[track_caller]
    pub fn waiting() -> (Machine, ClosedPort) {
        let (machine, closed) = (Machine::new(), ClosedPort::new());
        machine.fail(FAMILY, &closed);
        (machine, closed)
    }

    /// One with everything that the ledger keeps: an ID, a mark, a receipt, a record that waits, and a binding.
    #[track_caller]
    pub fn full(receiver: &Receiver) -> (Machine, ClosedPort) {
        let (machine, closed) = (Machine::new().with("etc/machine-id", MACHINE_IDS[0]), ClosedPort::new());
        machine.send(receiver, "/", FAMILY).run().sent();
        machine.fail(OTHER, &closed);
        (machine, closed)
    }

    /// One on which a user owns the directory of the identity file, as in a vendor's image.
    pub fn of_user() -> Machine {
        let machine = Machine::new();
        machine.sh(&format!("mkdir -p usr/local/percona; chown {USER}:{USER} usr/local/percona"));
        machine
    }

    /// Changes it by a shell script, which begins in its root directory and knows `$F`, the identity file, and `$S`.
    #[track_caller]
    pub fn sh(&self, script: &str) {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(self.root()).envs([("F", IDENTITY), ("S", STATE)]);
        assert!(command.status().expect("sh").success(), "{script}");
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    pub fn owner(&self, path: impl AsRef<Path>) -> (u32, u32, u32) {
        let meta = fs::symlink_metadata(self.root().join(path)).expect("a file");
        (meta.mode() & 0o7777, meta.uid(), meta.gid())
    }

    pub fn run(&self, args: impl IntoIterator<Item: AsRef<OsStr>>) -> Run {
        Run { root: Some(self.root().to_owned()), ..Run::new() }.args(args)
    }

    pub fn report(&self, family: &str, url: &str) -> Run {
        self.run(["send", "-f", family, "-v", "8.0.36-28", "-c", "10", "-t", "20", "-u", url])
    }

    pub fn send(&self, receiver: &Receiver, path: &str, family: &str) -> Run {
        self.run(["send", "-f", family, "-v", "8.0.36-28"]).to(receiver, path)
    }

    #[track_caller]
    pub fn fail(&self, family: &str, port: &ClosedPort) {
        self.report(family, &port.url()).run().expect(0).says("install record pending");
    }

    pub fn flush(&self, receiver: &Receiver) -> Run {
        self.run(["flush", "-c", "10", "-t", "20"]).env("SSL_CERT_FILE", receiver.ca())
    }

    pub fn status(&self) -> Value {
        self.run(["status", "--json"]).run().printed().json()
    }

    pub fn told(&self) -> String {
        self.run(["status"]).run().text()
    }

    pub fn instance_id(&self) -> String {
        let text = self.text(IDENTITY).expect("an identity file");
        text.lines().find_map(|line| line.strip_prefix("instanceId:")).expect("an instance ID").trim().to_owned()
    }

    pub fn pending(&self) -> Vec<Value> {
        self.files("pending").iter().filter_map(|path| document(path)).collect()
    }

    pub fn receipts(&self) -> Vec<Value> {
        self.files("sent").iter().filter_map(|path| document(path)).collect()
    }

    /// The files of the state directory, or of one in it.
    pub fn files(&self, directory: &str) -> Vec<PathBuf> {
        walk(&self.path(STATE).join(directory)).into_iter().filter(|path| path.is_file()).collect()
    }

    pub fn edit_pending(&self, from: &str, to: &str) {
        for file in self.files("pending") {
            fs::write(&file, fs::read_to_string(&file).expect("a record").replace(from, to)).expect("a record");
        }
    }

    /// What another run holds as long as it changes something.
    pub fn lock(&self) -> fs::File {
        let lock = fs::File::open(self.path(STATE)).expect("the state directory");
        lock.lock().expect("flock");
        lock
    }

    /// Everything that a change would show in: names, modes, sizes, links and both times of every file.
    pub fn snapshot(&self) -> Vec<String> {
        let describe = |path: PathBuf| {
            let meta = fs::symlink_metadata(&path).expect("snapshot");
            let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            format!("{} {:o} {} {} {times:?}", path.display(), meta.mode(), meta.size(), meta.nlink())
        };
        walk(self.root()).into_iter().map(describe).collect()
    }
}

/// Every path below and including `top`, in order.
pub fn walk(top: &Path) -> Vec<PathBuf> {
    let mut all = vec![top.to_owned()];
    let is_directory = fs::symlink_metadata(top).is_ok_and(|meta| meta.is_dir());
    let entries = is_directory.then(|| fs::read_dir(top).ok()).flatten();
    all.extend(entries.into_iter().flatten().flatten().flat_map(|entry| walk(&entry.path())));
    all.sort();
    all
}

/// Copies the directories, files and links of `from`, with their modes, into the directory `to`. Programs are linked:
/// they are megabytes, which the next fsync(2) would have to wait for.
fn copy_tree(from: &Path, to: &Path) {
    for path in walk(from).into_iter().skip(1) {
        let target = to.join(path.strip_prefix(from).expect("below"));
        let meta = fs::symlink_metadata(&path).expect("copy");
        if meta.is_dir() {
            fs::create_dir_all(&target).expect("copy");
            fs::set_permissions(&target, meta.permissions()).expect("copy");
        } else if meta.is_symlink() {
            symlink(fs::read_link(&path).expect("copy"), &target).expect("copy");
        } else if meta.mode() & 0o111 != 0 {
            fs::hard_link(&path, &target).expect("link");
        } else {
            fs::copy(&path, &target).expect("copy");
        }
    }
}

/// The record that a file holds: its first line, with the lines that follow as `attempts` and `answer`.
fn document(path: &Path) -> Option<Value> {
    let text = fs::read_to_string(path).ok().filter(|_| path.extension() == Some(OsStr::new("jsonl")))?;
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut record = lines.next().expect("a record");
    record["attempts"] = json!([]);
    for mut line in lines {
        match line.get_mut("attempt") {
            Some(attempt) => record["attempts"].as_array_mut().expect("attempts").push(attempt.take()),
            None => record["answer"] = line["answer"].take(),
        }
    }
    Some(record)
}

// ---- runs ----

/// A run of the binary with an environment of its own: PATH, and what is added.
#[derive(Debug, Default)]
pub struct Run {
    wrapper: Vec<OsString>,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    root: Option<PathBuf>,
    user: Option<u32>,
}

pub struct Ours(pub Child);

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Debug)]
pub struct Ended {
    /// `None`: killed by a signal.
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub time: Duration,
}

pub struct Running {
    pub child: Ours,
    started: Instant,
    output: Machine,
}

impl Run {
    pub fn new() -> Run {
        Run { program: BINARY.as_os_str().into(), ..Run::default() }
    }

    pub fn args(mut self, args: impl IntoIterator<Item: AsRef<OsStr>>) -> Run {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Run {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// To a receiver, with time enough for a busy computer.
    pub fn to(self, receiver: &Receiver, path: &str) -> Run {
        self.args(["-c", "10", "-t", "20", "-u", &receiver.url(path)]).env("SSL_CERT_FILE", receiver.ca())
    }

    /// Another binary than the one under test, or a copy of it.
    pub fn program(mut self, program: impl AsRef<OsStr>) -> Run {
        self.program = program.as_ref().to_owned();
        self
    }

    /// Has the binary run by another command: `wrapper BINARY ARGS`.
    pub fn under(mut self, wrapper: impl IntoIterator<Item: AsRef<OsStr>>) -> Run {
        self.wrapper.extend(wrapper.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// As another user, which only root can, who has the files of [`Receiver::public`].
    pub fn by(mut self, user: u32, public: &Machine) -> Run {
        self.user = Some(user);
        self.program(public.path("install-record")).env("SSL_CERT_FILE", public.path("ca.pem"))
    }

    /// In a mount namespace, by a script that begins in the machine's root directory, calls `"$0" "$@"`, and exits with 77
    /// where it cannot mount.
    pub fn mounted(self, script: &str) -> Option<Ended> {
        let flag = ["-m", "-rm"].into_iter().find(|flag| tool(&["unshare", flag, "true"]).is_some())?;
        let script = format!("cd {}; {script}", self.root.as_ref().expect("a machine").display());
        let ended = self.under(["unshare", flag, "sh", "-c", &script]).run();
        (ended.status != Some(77)).then_some(ended)
    }

    /// No test reaches a real endpoint, on anybody's machine: where there is a network, what may send has to name
    /// loopback, and so do the records that wait on the machine.
    fn guard(&self) {
        const CANNOT_SEND: &str = "show status off on forget facts check -h --help --version";
        let interfaces = fs::read_to_string("/proc/self/net/dev").expect("interfaces");
        let has_network = interfaces.lines().skip(2).any(|line| !line.trim_start().starts_with("lo:"));
        let args: Vec<_> = self.args.iter().map(|arg| arg.to_string_lossy()).collect();
        if !has_network || args.first().is_some_and(|first| CANNOT_SEND.split(' ').any(|word| word == first)) {
            return;
        }
        // A variable of the default profile's says nothing about another one's endpoint.
        let is_own = |name: &OsString| args.iter().all(|arg| arg != "--profile") || name != "PERCONA_TELEMETRY_URL";
        let own = self.env.iter().filter(|(name, _)| is_own(name)).map(|(_, value)| value.to_string_lossy());
        let is_named = args.first().is_some_and(|first| first == "flush")
            || args.iter().cloned().chain(own).any(|word| is_loopback(&word));
        assert!(is_named, "guard: {self:?} may send and names no URL");
        let waits = |path: &PathBuf| path.parent().is_some_and(|it| it.ends_with("pending")) && path.is_file();
        let waiting = self.root.iter().flat_map(|root| walk(root)).filter(waits);
        let texts: Vec<String> = waiting.filter_map(|path| fs::read_to_string(path).ok()).collect();
        let urls = texts.iter().flat_map(|text| text.split("\"url\":\"").skip(1));
        let mut urls = urls.chain(args.iter().map(|arg| &**arg).filter(|arg| arg.contains("://")));
        assert_eq!(urls.find(|url| !is_loopback(url)), None, "guard: {self:?}");
    }

    pub fn spawn(&self) -> Running {
        self.guard();
        let root = self.root.iter().flat_map(|root| [OsStr::new("--root"), root.as_os_str()]);
        let words: Vec<_> = self.wrapper.iter().chain([&self.program]).map(OsString::as_os_str).chain(root).collect();
        let output = Machine::empty();
        let file = |name: &str| fs::File::create(output.path(name)).expect("output file");
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(&self.args).current_dir("/");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(self.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let started = Instant::now();
        let child = loop {
            match command.spawn() {
                // Another test's child was forked while this copy of the program was written, and holds it for a moment.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::sleep(Duration::from_millis(1)),
                child => break child.unwrap_or_else(|error| panic!("{:?}: {error}", words[0])),
            }
        };
        Running { child: Ours(child), started, output }
    }

    pub fn run(&self) -> Ended {
        self.spawn().wait()
    }
}

impl Running {
    pub fn wait(mut self) -> Ended {
        let mut ended = None;
        wait_until("the run ends", || {
            ended = self.child.0.try_wait().expect("wait");
            ended.is_some()
        });
        let (status, time) = (ended.and_then(|status| status.code()), self.started.elapsed());
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| fs::read(self.output.path(name)).expect("output"));
        Ended { status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned(), time }
    }
}

impl Ended {
    /// Checks the exit status and that stdout was left alone; gives itself back for more.
    #[track_caller]
    pub fn expect(self, status: i32) -> Ended {
        assert_eq!(self.status, Some(status), "{self:?}");
        assert!(self.stdout.is_empty(), "{self:?}");
        self
    }

    #[track_caller]
    pub fn says(self, part: &str) -> Ended {
        assert!(self.stderr.contains(part), "{part}: {self:?}");
        self
    }

    #[track_caller]
    pub fn sent(self) -> Ended {
        self.says("sent one install record of ").expect(0)
    }

    /// Checks that it has succeeded, and said nothing beside what it printed.
    #[track_caller]
    pub fn printed(self) -> Ended {
        assert_eq!((self.status, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self
    }

    #[track_caller]
    pub fn silent(self) -> Ended {
        assert_eq!(self.stderr, "", "{self:?}");
        self.expect(0)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Looks again and again until `condition` holds, and fails when it does not in a minute.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the host of a URL, or a word that is `HOST:PORT`, is loopback.
fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '"']).next().and_then(|it| it.rsplit('@').next()).unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

// ---- the far end ----

pub struct Receiver {
    child: Ours,
    dir: Machine,
    scheme: &'static str,
    pub port: u16,
}

impl Receiver {
    pub fn start(options: &[&str]) -> Receiver {
        let dir = Machine::empty();
        let mut command = Command::new(&*RECEIVER);
        command.arg("--dir").arg(&dir.0).args(options).env_clear().stdin(Stdio::null());
        let child = Ours(command.spawn().expect("the receiver"));
        let scheme = if options.contains(&"--plain") || options.contains(&"--proxy") { "http" } else { "https" };
        let mut receiver = Receiver { child, dir, scheme, port: 0 };
        wait_until("the receiver listens", || {
            assert!(receiver.child.0.try_wait().expect("wait").is_none(), "the receiver ended: {options:?}");
            receiver.port = receiver.dir.text("port").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            receiver.port != 0
        });
        receiver
    }

    /// `path` begins with a slash; its first segment chooses the answer.
    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.path("ca.pem")
    }

    pub fn requests(&self) -> Vec<Value> {
        let requests = self.dir.text("requests.jsonl").unwrap_or_default();
        requests.lines().map(|line| serde_json::from_str(line).expect("a request")).collect()
    }

    pub fn connections(&self) -> usize {
        self.dir.text("connections").map_or(0, |text| text.lines().count())
    }

    pub fn body(&self, number: usize) -> Vec<u8> {
        fs::read(self.dir.path(&format!("body-{number}"))).expect("a body")
    }

    pub fn last(&self) -> Value {
        serde_json::from_slice(&self.body(self.requests().len())).expect("JSON")
    }

    pub fn reports(&self) -> Vec<Value> {
        let report = |number| serde_json::from_slice::<Value>(&self.body(number)).expect("JSON")["reports"][0].take();
        (1..=self.requests().len()).map(report).collect()
    }

    /// A directory that every user can read, with the binary and this receiver's authority.
    pub fn public(&self) -> Machine {
        Machine::of("bare").with("ca.pem", fs::read(self.ca()).expect("CA")).with_binary("install-record")
    }
}

/// A port of loopback that is ours and refuses connections: bound, and nobody listens.
pub struct ClosedPort {
    _socket: OwnedFd,
    pub port: u16,
}

impl ClosedPort {
    pub fn new() -> ClosedPort {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("socket");
        // A child keeps it until it executes something, and somebody may listen before that.
        sockopt::set_socket_reuseaddr(&socket, true).expect("SO_REUSEADDR");
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("bind");
        let address = SocketAddr::try_from(getsockname(&socket).expect("an address")).expect("an address");
        ClosedPort { _socket: socket, port: address.port() }
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/", self.port)
    }

    pub fn open(self, options: &[&str]) -> Receiver {
        let port = self.port.to_string();
        drop(self);
        Receiver::start(&[options, &["--port", &port]].concat())
    }
}
