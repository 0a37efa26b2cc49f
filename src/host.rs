//! The one door to the machine: a root directory, the environment, the clock and the processes above us.
//!
//! Nothing else in the crate names `std::env`, an absolute path or `/proc`. Paths are constants relative to the
//! root and are joined here, so that `--root DIR` (and a test's directory) is a whole machine and "what do we
//! touch?" is one grep. Every read is bounded and only ever of a regular file: a FIFO, a device or a link loop
//! in a file's place is a value, not a hang.

pub mod directory;
pub mod processes;

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, open, openat, readlinkat, statat};
use rustix::io::Errno;

use directory::Directory;
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
    /// The processes above us, which do not change in a run.
    ancestors: OnceCell<Ancestors>,
}

impl Host {
    /// The machine whose system tree is at `root`; `None` is the running one.
    pub fn new(root: Option<PathBuf>) -> Host {
        Host { root, started: Instant::now(), ancestors: OnceCell::new() }
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

    /// Every value of a variable: an environment can hold a name twice. The first is looked up without a copy of the rest.
    pub fn values(&self, name: &str) -> impl Iterator<Item = OsString> {
        self.var(name).into_iter().flat_map(move |first| {
            let all = std::iter::once_with(std::env::vars_os).flatten().filter(move |(known, _)| known == name);
            std::iter::once(first).chain(all.map(|(_, value)| value))
        })
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
            Some(_) => self
                .parent(path)
                .and_then(|(directory, name)| statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).map(drop)),
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
            Some(_) => {
                self.parent(path.as_ref()).and_then(|(directory, name)| readlinkat(directory.as_fd(), name, Vec::new()))
            }
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

    /// The directory at `path`, for what we keep there. Where `create` is true and no stranger owns the way to it, the
    /// directories that are missing are made, with mode 0755.
    ///
    /// # Errors
    /// Those of [`Host::place`].
    pub fn directory(&self, path: impl AsRef<Path>, create: bool) -> Result<Directory, Errno> {
        Ok(self.walk(path.as_ref(), Walk { links: Links::Trusted, make: create.then_some(0o755), to_end: true })?.0)
    }

    /// The directory that holds the file at `path`, and the file's name there. A link of root's or of ours is followed
    /// in the last place, too. Missing directories are made with the mode `make`, if any.
    ///
    /// Below the first directory that belongs to neither root nor us, root follows no link, makes nothing, and goes into
    /// directories of that same user only. Owners are those of descriptors that are open already, so nothing that
    /// somebody exchanges on the way leads elsewhere.
    ///
    /// # Errors
    /// [`Errno::LOOP`] for a link that is not followed, [`Errno::PERM`] for a directory of yet another user or one that
    /// would have to be made in a stranger's, and those of opening and making directories.
    pub fn place(&self, path: impl AsRef<Path>, make: Option<u32>) -> Result<(Directory, OsString), Errno> {
        self.walk(path.as_ref(), Walk { links: Links::Trusted, make, to_end: false })
    }

    fn parent(&self, path: &Path) -> Result<(Directory, OsString), Errno> {
        self.walk(path, Walk { links: Links::FollowParents, make: None, to_end: false })
    }

    fn open(&self, path: &Path, extra: OFlags) -> Result<OwnedFd, Errno> {
        // Without O_NONBLOCK, opening a FIFO waits for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | extra;
        if self.root.is_none() {
            return open(self.path(path), flags, Mode::empty());
        }
        let (directory, name) = self.walk(path, Walk { links: Links::Follow, make: None, to_end: false })?;
        openat(directory.as_fd(), name, flags | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Resolves `path` name by name, as chroot(2) at the root would, up to the directory that holds its last name.
    ///
    /// openat2(2) with RESOLVE_IN_ROOT would do for reading, but Enterprise Linux 8's kernel and qemu-user lack it, and
    /// two ways to resolve a path are one too many.
    fn walk(&self, path: &Path, how: Walk) -> Result<(Directory, OsString), Errno> {
        let to_anything = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = self.root.as_deref().unwrap_or(Path::new("/"));
        let top = open(top, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut way = vec![Directory::new(top, None)];
        let mut names: Vec<OsString> = names_of(path);
        let mut followed = 0;
        while let Some(name) = names.pop() {
            let here = way.last().ok_or(Errno::BADF)?;
            if name == ".." {
                way.truncate(1.max(way.len() - 1));
                continue;
            }
            let is_last = names.is_empty() && !how.to_end;
            if is_last && matches!(how.links, Links::FollowParents) {
                names.push(name);
                break;
            }
            let mut opened = openat(here.as_fd(), &name, to_anything, Mode::empty());
            if let (Err(Errno::NOENT), Some(mode), false) = (&opened, how.make, is_last) {
                here.make(&name, mode)?;
                opened = openat(here.as_fd(), &name, to_anything, Mode::empty());
            }
            let stat = match (&opened, is_last) {
                (Err(_), true) => None,
                (Err(error), false) => return Err(*error),
                (Ok(fd), _) => Some(fstat(fd)?),
            };
            let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
            match (opened, stat, kind) {
                (Ok(link), Some(stat), Some(FileType::Symlink)) => {
                    followed += 1;
                    if followed > MAX_LINKS || !(how.links != Links::Trusted || here.trusts_link(&stat)) {
                        return Err(Errno::LOOP);
                    }
                    let target = PathBuf::from(OsString::from_vec(readlinkat(&link, "", Vec::new())?.into_bytes()));
                    if target.is_absolute() {
                        way.truncate(1);
                    }
                    names.extend(names_of(&target));
                }
                _ if is_last => {
                    names.push(name);
                    break;
                }
                (Ok(fd), Some(stat), Some(FileType::Directory)) => {
                    let stranger = if how.links == Links::Trusted { here.enter(&stat)? } else { None };
                    way.push(Directory::new(fd, stranger));
                }
                _ => return Err(Errno::NOTDIR),
            }
        }
        // Without a name, the path was the root itself, or ended in `..`.
        Ok((way.pop().ok_or(Errno::BADF)?, names.pop().unwrap_or_else(|| ".".into())))
    }
}

/// How a path is resolved.
#[derive(Clone, Copy)]
struct Walk {
    links: Links,
    /// The mode of the directories that are made where they are missing.
    make: Option<u32>,
    /// The last name is a directory to go into as well.
    to_end: bool,
}

/// Which symbolic links are followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    /// All, the last one too: a system's own files are often links.
    Follow,
    /// All but one in the last place, which is itself what is asked about.
    FollowParents,
    /// Those that root or the user we run as has made.
    Trusted,
}

/// The names of a path, the first one last.
fn names_of(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
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
