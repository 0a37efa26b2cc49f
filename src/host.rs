//! The one door to the machine: a root directory, the environment, the clock and the processes above us.
//!
//! Only this module reads the environment and opens the machine's files. Paths are constants relative to the root and
//! are joined here. So `--root DIR`, or a test's directory, is a whole machine, and one grep tells what is touched. The
//! exception is the courier, which opens certificate bundles itself (courier/tls.rs). Every read is bounded, and only
//! regular files are read. A FIFO, a device or a link loop in a file's place is an error, not a hang.

pub mod directory;
pub mod path_error;
pub mod processes;

use std::{
    borrow::Cow, cell::OnceCell, ffi::OsStr, ffi::OsString, fs::File, io, io::Read, os::fd::OwnedFd,
    os::unix::ffi::OsStrExt, os::unix::ffi::OsStringExt, path::Path, path::PathBuf, time::Instant, time::SystemTime,
};

use chrono::{DateTime, Utc};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, open, readlinkat, statat};
use rustix::{io::Errno, process::geteuid};

use directory::{Directory, is_ours_or_roots, number_of};
use processes::Ancestors;

/// How many symbolic links one path may go through, as in the kernel (`MAXSYMLINKS`, path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The largest /etc/passwd that is read. User 0 is usually on its first line, but may be on its last.
const MAX_PASSWD: usize = 64 << 20;

/// The machine that a run is about.
#[derive(Debug)]
pub struct Host {
    /// `None` is the running system itself.
    root: Option<PathBuf>,
    /// When this run began; every deadline counts from here.
    pub started: Instant,
    /// The processes above us, which do not change in a run.
    ancestors: OnceCell<Ancestors>,
}

impl Host {
    /// The machine whose system tree is at `root`; `None` is the running one.
    pub fn new(root: Option<PathBuf>) -> Host {
        Host { root, started: Instant::now(), ancestors: OnceCell::new() }
    }

    /// The time of day.
    pub fn now(&self) -> DateTime<Utc> {
        SystemTime::now().into()
    }

    /// A variable of this process's own environment. An empty one counts as not set.
    pub fn var(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name).filter(|value| !value.is_empty())
    }

    /// All variables of this process's own environment; a name can be there twice.
    pub fn vars(&self) -> impl Iterator<Item = (OsString, OsString)> {
        std::env::vars_os()
    }

    /// The homes of a user, inside the root: by passwd(5), and for root also /root.
    pub fn homes(&self, user: u32) -> Vec<PathBuf> {
        let passwd = self.read_or_empty("etc/passwd", MAX_PASSWD);
        let home = |line: &[u8]| {
            let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
            let is_users = str::from_utf8(fields.get(2)?).ok()?.parse() == Ok(user);
            Some(PathBuf::from(OsStr::from_bytes(fields.get(5)?))).filter(|home| is_users && home.is_absolute())
        };
        let of_root = Some("/root".into()).filter(|_| user == 0);
        let mut homes: Vec<_> = passwd.split(|b| *b == b'\n').filter_map(home).chain(of_root).collect();
        homes.dedup();
        homes
    }

    /// The user's home directory, inside the root: HOME, else by passwd(5); `None` where it is not known.
    pub fn home(&self) -> Option<PathBuf> {
        self.absolute_var("HOME").or_else(|| self.homes(geteuid().as_raw()).into_iter().next())
    }

    /// Where the user's programs keep their configuration (XDG Base Directory Specification, a relative path counts as
    /// none).
    pub fn config_home(&self) -> Option<PathBuf> {
        self.absolute_var("XDG_CONFIG_HOME").or_else(|| Some(self.home()?.join(".config")))
    }

    fn absolute_var(&self, name: &str) -> Option<PathBuf> {
        self.var(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// A path as the running system sees it, for messages and for opening.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let inside = path.strip_prefix("/").unwrap_or(path);
        self.root.as_deref().unwrap_or(Path::new("/")).join(inside)
    }

    /// A path that came from the command line: made absolute, inside the root where there is one.
    pub fn given_path(&self, path: &OsStr) -> PathBuf {
        // If the working directory is gone, this is a place where nothing is and nothing can be made.
        let here = || std::path::absolute(path).unwrap_or_else(|_| Path::new("/proc/self/no-cwd").join(path));
        if self.root.is_some() { Path::new("/").join(path) } else { here() }
    }

    /// The bytes of the regular file at `path`; `None` where there is nothing, or a link to nothing. Links are
    /// followed, inside the root.
    ///
    /// # Errors
    /// Something is there that cannot be read as a file (a directory, a FIFO, a device, a link loop), is larger than
    /// `limit`, or may not be looked at.
    pub fn read(&self, path: impl AsRef<Path>, limit: usize) -> io::Result<Option<Vec<u8>>> {
        whole(self.open(path.as_ref(), OFlags::empty()), limit)
    }

    /// The same for a file that may be in another user's directory, where a link could lead to a device. Opening some
    /// devices does something, so the file is looked at first.
    ///
    /// # Errors
    /// Those of [`Host::read`].
    pub fn read_of_others(&self, path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let found = self.open(path, OFlags::PATH).and_then(fstat);
        if found.is_ok_and(|stat| !is_regular(&stat)) { Err(Errno::INVAL.into()) } else { self.read(path, limit) }
    }

    /// The bytes of the regular file at `path`; none where [`Host::read`] finds no file or fails.
    pub fn read_or_empty(&self, path: impl AsRef<Path>, limit: usize) -> Vec<u8> {
        self.read(path, limit).ok().flatten().unwrap_or_default()
    }

    /// The first line of a small file that has something printable in it.
    pub fn line(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = String::from_utf8_lossy(&self.read_or_empty(path, 4096)).into_owned();
        let is_printable = |line: &&str| line.chars().any(|c| !c.is_control() && !c.is_whitespace());
        text.lines().map(str::trim).find(is_printable).map(str::to_owned)
    }

    /// Whether there may be anything at `path`, a dangling link included. That is so as well where it cannot be known: a
    /// parent that is a link loop, an I/O error, no permission.
    pub fn may_exist(&self, path: impl AsRef<Path>) -> bool {
        self.exists(path).unwrap_or(true)
    }

    /// Whether there is anything at `path`, a dangling link included.
    ///
    /// # Errors
    /// Why that cannot be known.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool, Errno> {
        let (path, no_link) = (path.as_ref(), AtFlags::SYMLINK_NOFOLLOW);
        let parent = self.open(path.parent().unwrap_or(path), OFlags::PATH | OFlags::DIRECTORY);
        match parent.and_then(|parent| statat(parent, path.file_name().unwrap_or(OsStr::new(".")), no_link)) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            found => found.map(|_| true),
        }
    }

    /// Device and inode of the directory that `path` leads to, links followed; `None` where that cannot be told.
    pub fn file_id(&self, path: impl AsRef<Path>) -> Option<(u64, u64)> {
        let stat = self.open(path.as_ref(), OFlags::PATH | OFlags::DIRECTORY).and_then(fstat).ok()?;
        Some((stat.st_dev, stat.st_ino))
    }

    /// The names in the directory at `path`, sorted; none where there is no such directory.
    ///
    /// # Errors
    /// When something is there and cannot be listed.
    pub fn names(&self, path: impl AsRef<Path>) -> Result<Vec<OsString>, Errno> {
        match self.open(path.as_ref(), OFlags::DIRECTORY).and_then(list) {
            Err(Errno::NOENT) => Ok(Vec::new()),
            names => names,
        }
    }

    /// The directory at `path`, for files that we keep there. If `create` is true, missing directories are made with
    /// mode 0755. In another user's directories, root makes none.
    ///
    /// # Errors
    /// Those of [`Host::place`].
    pub fn directory(&self, path: impl AsRef<Path>, create: bool) -> Result<Directory, Errno> {
        let make = create.then_some(0o755);
        let (parent, name) = self.place(path, make)?;
        parent.directory(name, make)
    }

    /// The directory that holds the file at `path`, and the file's name there. A symbolic link is followed if root or
    /// our user owns it, also as the last name. Missing directories are made with the mode `make`, if one is given.
    ///
    /// Below the first directory that belongs to neither root nor us, root follows no link, makes nothing, and enters
    /// only directories of that same user. Owners are asked of descriptors that are already open, so nobody can lead us
    /// elsewhere by exchanging a directory on the way.
    ///
    /// # Errors
    /// [`Errno::LOOP`] for a link that is not followed, [`Errno::PERM`] for a directory of yet another user or one that
    /// would have to be made in a stranger's, and those of opening and making directories.
    pub fn place(&self, path: impl AsRef<Path>, make: Option<u32>) -> Result<Place, Errno> {
        self.walk(path.as_ref(), false, make)
    }

    /// Whether a file could be written at `path`, or made with the directories that are missing. Nothing is made to find
    /// out.
    ///
    /// # Errors
    /// Why not.
    pub fn can_write(&self, path: &Path) -> Result<(), Errno> {
        match self.place(path, None) {
            Err(Errno::NOENT) => {
                let mut above = path.ancestors().skip(1).map(|above| self.directory(above, false));
                let nearest = above.find(|above| !matches!(above, Err(Errno::NOENT))).ok_or(Errno::NOENT)??;
                // In another user's directories, root makes none.
                if nearest.is_off_limits() { Err(Errno::PERM) } else { nearest.can_write(".") }
            }
            place => place.and_then(|(directory, name)| directory.can_write(&name)),
        }
    }

    fn open(&self, path: &Path, extra: OFlags) -> Result<OwnedFd, Errno> {
        // Without O_NONBLOCK, opening a FIFO waits for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | extra;
        if self.root.is_none() {
            return open(self.path(path), flags, Mode::empty());
        }
        let (directory, name) = self.walk(path, true, None)?;
        directory.open(name, flags)
    }

    /// Resolves `path` name by name, as chroot(2) at the root would, up to the directory that holds its last name.
    /// With `trusts_all`, it goes through every link and directory, as a system's own files are often links; else by the
    /// rules of [`Host::place`].
    ///
    /// openat2(2) with RESOLVE_IN_ROOT would do for reading, but Enterprise Linux 8's kernel and qemu-user lack it, and
    /// two ways to resolve a path are one too many.
    fn walk(&self, path: &Path, trusts_all: bool, make: Option<u32>) -> Result<Place, Errno> {
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        let root = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let (mut here, mut above) = (Directory { fd: root, stranger: None }, Vec::new());
        let (mut names, mut followed) = (names_of(path), 0);
        while let Some(name) = names.pop() {
            if *name == *".." {
                here = above.pop().unwrap_or(here);
                continue;
            }
            let is_last = names.is_empty();
            let fd = match here.open_or_make(&name, OFlags::PATH, make.filter(|_| !is_last)) {
                Err(_) if is_last => return Ok((here, name.into_owned())),
                opened => opened?,
            };
            let stat = fstat(&fd)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                followed += 1;
                if followed > MAX_LINKS || !trusts_all && (here.is_off_limits() || !is_ours_or_roots(&stat)) {
                    return Err(Errno::LOOP);
                }
                let target = PathBuf::from(OsString::from_vec(readlinkat(&fd, "", Vec::new())?.into_bytes()));
                if target.is_absolute() {
                    here = above.drain(..).next().unwrap_or(here);
                }
                names.extend(names_of(&target).into_iter().map(|name| name.into_owned().into()));
            } else if is_last {
                return Ok((here, name.into_owned()));
            } else {
                let next = if trusts_all { Directory { fd, stranger: None } } else { here.enter(fd)? };
                above.push(std::mem::replace(&mut here, next));
            }
        }
        // Without a name, the path was the root itself, or ended in `..`.
        Ok((here, ".".into()))
    }
}

/// The directory that holds a file, and the file's name there.
pub type Place = (Directory, OsString);

/// The names of a path, the first one last.
fn names_of(path: &Path) -> Vec<Cow<'_, OsStr>> {
    let names = path.as_os_str().as_bytes().rsplit(|byte| *byte == b'/');
    names.filter(|name| !matches!(name, [] | [b'.'])).map(|name| OsStr::from_bytes(name).into()).collect()
}

/// Whether the error means that this user, who is not root, may not look.
pub fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && !geteuid().is_root()
}

/// One byte more than the limit shows that the file is longer. Files in /proc show no size.
fn whole(opened: Result<OwnedFd, Errno>, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let read = || {
        let fd = opened?;
        if !is_regular(&fstat(&fd)?) {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::with_capacity(limit.min(4 << 10));
        File::from(fd).take(limit as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > limit { Err(io::Error::other(format!("larger than {limit} bytes"))) } else { Ok(Some(bytes)) }
    };
    read().or_else(|error| match number_of(&error) {
        // SRCH means that the process has just ended.
        Errno::NOENT | Errno::NOTDIR | Errno::SRCH => Ok(None),
        _ => Err(error),
    })
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn list(fd: OwnedFd) -> Result<Vec<OsString>, Errno> {
    let entries = Dir::new(fd)?.map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned()));
    let mut names = entries.collect::<Result<Vec<OsString>, Errno>>()?;
    names.retain(|name| name != "." && name != "..");
    names.sort();
    Ok(names)
}
