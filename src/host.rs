//! The one door to the machine: a root directory, the environment, the clock and the processes above us.
//!
//! Nothing else in the crate names `std::env`, an absolute path or `/proc`. Paths are constants relative to the
//! root and are joined here, so that `--root DIR` (and a test's directory) is a whole machine and "what do we
//! touch?" is one grep. Every read is bounded and only ever of a regular file: a FIFO, a device or a link loop
//! in a file's place is a value, not a hang.

pub mod directory;
pub mod processes;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, open, openat, readlinkat, statat};
use rustix::io::Errno;

use directory::{Directory, Links, Made};
use processes::Ancestors;

/// How many symbolic links one path may go through, as in the kernel (`MAXSYMLINKS`, path_resolution(7)).
const MAX_LINKS: usize = 40;

/// How much of /etc/passwd is looked at. User 0 is its first line as a rule.
const MAX_PASSWD: usize = 1 << 20;

/// What there is at a path that was asked for as a file.
#[derive(Debug)]
pub enum Content {
    /// Nothing (or a link to nothing).
    Missing,
    /// Something that this process, not being root, may not look at.
    Forbidden,
    /// Something that cannot be read as a file: a directory, a FIFO, a device, a link loop, an I/O error.
    Unreadable(io::Error),
    /// A regular file's bytes.
    Bytes {
        /// At most as many as were asked for.
        bytes: Vec<u8>,
        /// The file goes on behind them.
        truncated: bool,
    },
}

impl Content {
    /// The bytes, cut or not, where there are any.
    pub fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Content::Bytes { bytes, .. } => Some(bytes),
            _ => None,
        }
    }

    fn of_error(error: Errno) -> Content {
        match error {
            // ESRCH: a process that has just ended.
            Errno::NOENT | Errno::NOTDIR | Errno::SRCH => Content::Missing,
            Errno::ACCESS | Errno::PERM if !rustix::process::geteuid().is_root() => Content::Forbidden,
            other => Content::Unreadable(other.into()),
        }
    }
}

/// The machine that a run is about.
#[derive(Debug)]
pub struct Host {
    /// `None` is the running system itself.
    root: Option<PathBuf>,
    started: Instant,
    /// The root directory, open, and the processes above us: neither changes in a run.
    top: OnceCell<OwnedFd>,
    ancestors: OnceCell<Ancestors>,
}

impl Host {
    /// The machine whose system tree is at `root`; `None` is the running one.
    pub fn new(root: Option<PathBuf>) -> Host {
        Host { root, started: Instant::now(), top: OnceCell::new(), ancestors: OnceCell::new() }
    }

    /// When this run began; every deadline counts from here.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The time of day in seconds since 1970, negative before it.
    pub fn now(&self) -> i64 {
        self.clock().0
    }

    /// The same, rounded down, and the nanoseconds since then.
    pub fn clock(&self) -> (i64, u32) {
        since_1970(SystemTime::now())
    }

    /// A variable of this process's own environment.
    pub fn var(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    /// This process's own environment. A name that is there twice comes twice.
    pub fn variables(&self) -> impl Iterator<Item = (OsString, OsString)> {
        std::env::vars_os()
    }

    /// The homes of user 0 by passwd(5), and /root; inside the root.
    pub fn homes_of_root(&self) -> Vec<PathBuf> {
        let mut homes = vec![PathBuf::from("/root")];
        let passwd = self.read("etc/passwd", MAX_PASSWD).bytes().unwrap_or_default();
        for line in passwd.split(|b| *b == b'\n') {
            let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
            let is_root = fields.get(2).is_some_and(|id| !id.is_empty() && id.iter().all(|b| *b == b'0'));
            let home = fields.get(5).map(|home| PathBuf::from(OsStr::from_bytes(home)));
            homes.extend(home.filter(|home| is_root && home.is_absolute() && !homes.contains(home)));
        }
        homes
    }

    /// The user's home directory, inside the root; `None` where nobody has said which it is.
    pub fn home(&self) -> Option<PathBuf> {
        let is_root = || rustix::process::geteuid().is_root().then(|| PathBuf::from("/root"));
        self.absolute_var("HOME").or_else(is_root)
    }

    /// Where the user's programs keep their configuration (XDG Base Directory Specification, a relative path counts as
    /// none).
    pub fn config_home(&self) -> Option<PathBuf> {
        self.absolute_var("XDG_CONFIG_HOME").or_else(|| Some(self.home()?.join(".config")))
    }

    fn absolute_var(&self, name: &str) -> Option<PathBuf> {
        self.var(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// Where this very program can be started from: the kernel's own link, else the path that it was started by.
    pub fn own_program(&self) -> Vec<PathBuf> {
        let started_by = Path::new(OsStr::from_bytes(rustix::param::linux_execfn().to_bytes()));
        [Ok(PathBuf::from("/proc/self/exe")), std::path::absolute(started_by)].into_iter().flatten().collect()
    }

    /// A path as the running system sees it, for messages and for opening.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let inside = path.strip_prefix("/").unwrap_or(path);
        self.root.as_deref().unwrap_or(Path::new("/")).join(inside)
    }

    /// A path that came from the command line: made absolute, inside the root where there is one.
    pub fn given_path(&self, path: &OsStr) -> PathBuf {
        let path = Path::new(path);
        if path.is_absolute() || self.root.is_some() {
            return Path::new("/").join(path);
        }
        std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")).join(path)
    }

    /// At most `limit` bytes of the regular file at `path`. Links are followed, inside the root.
    pub fn read(&self, path: impl AsRef<Path>, limit: usize) -> Content {
        match self.open(path.as_ref(), OFlags::empty()) {
            Ok(fd) => read_regular(fd, limit),
            Err(error) => Content::of_error(error),
        }
    }

    /// The text of a small file without its line end, for the one-line files of /proc and /sys.
    pub fn line(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = self.read(path, 4096).bytes()?;
        let line = bytes.split(|b| *b == b'\n').next()?;
        Some(String::from_utf8_lossy(line).trim().to_owned())
    }

    /// Whether there is anything at `path`, a dangling link included.
    ///
    /// # Errors
    /// When the answer cannot be known: a parent that is a link loop, an I/O error, no permission.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool, io::Error> {
        let path = path.as_ref();
        let found = match &self.root {
            None => statat(CWD, self.path(path), AtFlags::SYMLINK_NOFOLLOW).map(drop),
            Some(_) => self.resolve(path, Links::FollowParents, None, |directory, name| {
                statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(drop)
            }),
        };
        match found {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether `path` leads to a directory.
    pub fn is_directory(&self, path: impl AsRef<Path>) -> bool {
        self.open(path.as_ref(), OFlags::PATH | OFlags::DIRECTORY).is_ok()
    }

    /// Device and inode of the directory that `path` leads to, links followed; `None` where that cannot be told.
    pub fn file_id(&self, path: impl AsRef<Path>) -> Option<(u64, u64)> {
        let fd = self.open(path.as_ref(), OFlags::PATH | OFlags::DIRECTORY).ok()?;
        let stat = fstat(fd).ok()?;
        Some((stat.st_dev, stat.st_ino))
    }

    /// Where the symbolic link at `path` points, unresolved.
    pub fn link(&self, path: impl AsRef<Path>) -> Option<OsString> {
        let target = match &self.root {
            None => readlinkat(CWD, self.path(path), Vec::new()),
            Some(_) => self.resolve(path.as_ref(), Links::FollowParents, None, |directory, name| {
                readlinkat(directory, name, Vec::new())
            }),
        }
        .ok()?;
        Some(OsString::from_vec(target.into_bytes()))
    }

    /// The names in the directory at `path`, sorted; none where there is no such directory.
    ///
    /// # Errors
    /// When something is there and cannot be listed.
    pub fn names(&self, path: impl AsRef<Path>) -> Result<Vec<OsString>, Errno> {
        match self.open(path.as_ref(), OFlags::DIRECTORY) {
            Ok(fd) => list(fd),
            Err(Errno::NOENT) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The directory at `path`, opened for state that we keep there.
    ///
    /// The links on the way must be root's or our own, and the directory itself no link: a container's data volume
    /// belongs to the product's user, and what that user plants there must not lead root elsewhere.
    ///
    /// # Errors
    /// When it is missing (and `create` is false), cannot be made, or is reached through somebody else's link.
    pub fn directory(&self, path: impl AsRef<Path>, create: bool) -> Result<Directory, Errno> {
        let open = |parent: BorrowedFd<'_>, name: &OsStr| Directory::open(parent, name, create);
        self.resolve(path.as_ref(), Links::Trusted, create.then_some(Made::Shared), open)
    }

    /// As [`Host::directory`], and made where it is missing, closed to others.
    ///
    /// # Errors
    /// As [`Host::directory`].
    pub fn private_directory(&self, path: impl AsRef<Path>) -> Result<Directory, Errno> {
        self.resolve(path.as_ref(), Links::Trusted, Some(Made::Private), |parent, name| {
            match Directory::open(parent, name, false) {
                Err(Errno::NOENT) => {
                    directory::make(parent, name, Made::Private)?;
                    Directory::open(parent, name, false)
                }
                other => other,
            }
        })
    }

    fn open(&self, path: &Path, extra: OFlags) -> Result<OwnedFd, Errno> {
        // Without O_NONBLOCK, opening a FIFO waits for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | extra;
        match &self.root {
            None => open(self.path(path), flags, Mode::empty()),
            Some(_) => self.resolve(path, Links::Follow, None, |directory, name| {
                openat(directory, name, flags | OFlags::NOFOLLOW, Mode::empty())
            }),
        }
    }

    /// Resolves `path` name by name, as chroot(2) at the root would, and hands the directory that holds its last name
    /// and that name to `last`, which must not follow a link itself.
    ///
    /// A name is opened first and read as a link only where that fails: half the calls. openat2(2) with RESOLVE_IN_ROOT
    /// would do for reading, but Enterprise Linux 8's kernel and qemu-user lack it, and two ways to resolve a path are
    /// one too many.
    fn resolve<T>(
        &self,
        path: &Path,
        links: Links,
        create: Option<Made>,
        last: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let to_directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = self.top()?;
        let mut below: Vec<OwnedFd> = Vec::new();
        let mut rest = Cow::Borrowed(path);
        let mut followed = 0;
        'link: loop {
            let mut names = rest.components();
            while let Some(component) = names.next() {
                let name = match component {
                    Component::Normal(name) => name,
                    Component::ParentDir => {
                        below.pop();
                        continue;
                    }
                    Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
                };
                let here = below.last().map_or(top, AsFd::as_fd);
                let is_last = names.as_path().as_os_str().is_empty();
                let problem = if is_last {
                    match last(here, name) {
                        Err(problem @ (Errno::LOOP | Errno::NOTDIR)) if matches!(links, Links::Follow) => problem,
                        other => return other,
                    }
                } else {
                    let opened = match (openat(here, name, to_directory, Mode::empty()), create) {
                        (Err(Errno::NOENT), Some(made)) => {
                            directory::make(here, name, made)?;
                            openat(here, name, to_directory, Mode::empty())
                        }
                        (opened, _) => opened,
                    };
                    match opened {
                        Ok(next) => {
                            below.push(next);
                            continue;
                        }
                        Err(problem) => problem,
                    }
                };
                // What a directory is expected of may be a link to one, which says the same as a file.
                let target = match problem {
                    Errno::LOOP | Errno::NOTDIR => match readlinkat(here, name, Vec::new()) {
                        Err(Errno::INVAL) => return Err(problem),
                        other => other?,
                    },
                    other => return Err(other),
                };
                followed += 1;
                if followed > MAX_LINKS || !links.may_follow(here, name)? {
                    return Err(Errno::LOOP);
                }
                let target = Path::new(OsStr::from_bytes(target.to_bytes()));
                if target.is_absolute() {
                    below.clear();
                }
                rest = Cow::Owned(target.join(names.as_path()));
                continue 'link;
            }
            // The path was the root itself, or ended in `..`.
            return last(below.last().map_or(top, AsFd::as_fd), OsStr::new("."));
        }
    }

    /// The root directory.
    fn top(&self) -> Result<BorrowedFd<'_>, Errno> {
        if self.top.get().is_none() {
            let root = self.root.as_deref().unwrap_or(Path::new("/"));
            let top = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let _ = self.top.set(top);
        }
        self.top.get().map(AsFd::as_fd).ok_or(Errno::BADF)
    }
}

fn since_1970(time: SystemTime) -> (i64, u32) {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (seconds(since), since.subsec_nanos()),
        Err(before) => match (seconds(before.duration()), before.duration().subsec_nanos()) {
            (whole, 0) => (-whole, 0),
            (whole, part) => (-whole - 1, 1_000_000_000 - part),
        },
    }
}

fn read_regular(fd: OwnedFd, limit: usize) -> Content {
    let stat = match fstat(&fd) {
        Ok(stat) => stat,
        Err(error) => return Content::of_error(error),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Content::Unreadable(io::Error::other("not a regular file"));
    }
    // /proc files say 0 (and for more than 496 bytes, musl asks the kernel for a page each time); one byte more than the
    // limit tells that a file goes on.
    let expected = usize::try_from(stat.st_size).unwrap_or(limit).max(496).min(limit);
    let mut bytes = Vec::with_capacity(expected + 1);
    match File::from(fd).take(limit as u64 + 1).read_to_end(&mut bytes) {
        Ok(_) => {
            let truncated = bytes.len() > limit;
            bytes.truncate(limit);
            Content::Bytes { bytes, truncated }
        }
        Err(error) => match error.raw_os_error() {
            Some(code) => Content::of_error(Errno::from_raw_os_error(code)),
            None => Content::Unreadable(error),
        },
    }
}

fn list(fd: OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::new(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_before_and_after_1970() {
        let part = Duration::from_millis(250);
        for (time, expected) in [
            (UNIX_EPOCH, (0, 0)),
            (UNIX_EPOCH + 5 * part, (1, 250_000_000)),
            (UNIX_EPOCH - 4 * part, (-1, 0)),
            (UNIX_EPOCH - part, (-1, 750_000_000)),
            (UNIX_EPOCH - 5 * part, (-2, 750_000_000)),
        ] {
            assert_eq!(since_1970(time), expected, "{time:?}");
        }
    }
}
