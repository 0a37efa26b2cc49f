//! A directory that is held open by its descriptor. Everything that this crate writes goes through one.
//!
//! Files are read and replaced relative to an open directory, and never through a link that others made. A file is
//! replaced whole or not at all. Only a file that is shared with other software is written in place, if it cannot be
//! replaced.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::{fs::File, os::fd::OwnedFd, os::unix::fs::FileExt};

use rustix::fs::{
    Access, AtFlags, FallocateFlags, FlockOperation, Gid, Mode, OFlags, Stat, StatVfs, Uid, accessat, fallocate,
    fchmod, fchown, flock, fstat, fstatvfs, fsync, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::{io::Errno, process::geteuid};

use super::{is_regular, list, whole};

/// The end of the name of an unfinished file.
const NEW: &str = ".new";

/// How much of a replaced file is on disk when the call returns. The kernel writes the rest within seconds, and a power
/// cut before that may take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synced {
    /// Its bytes and its name: the new file is there.
    Name,
    /// Its bytes: the old file or the new one is there, and it is whole.
    Bytes,
    /// Nothing. On some file systems the file may be left empty.
    Nothing,
}

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    /// Opened with O_PATH, because a directory that we may enter is not always one that we may list.
    pub(super) fd: OwnedFd,
    /// The owner of the directories that led here, if that is neither root nor our user.
    pub(super) stranger: Option<u32>,
}

impl Directory {
    /// Enters the directory in this one that is open as `fd`. In a stranger's directory, root enters only that
    /// stranger's.
    pub(super) fn enter(&self, fd: OwnedFd) -> Result<Directory, Errno> {
        let next = fstat(&fd)?;
        let stranger = self.stranger.or(Some(next.st_uid).filter(|_| !is_ours_or_roots(&next)));
        let may_enter = !self.is_off_limits() || stranger == Some(next.st_uid);
        if may_enter { Ok(Directory { fd, stranger }) } else { Err(Errno::PERM) }
    }

    /// Whether we are root in another user's directory.
    pub fn is_off_limits(&self) -> bool {
        self.stranger.is_some() && geteuid().is_root()
    }

    /// Opens `name`. If it is missing and a mode is given, a directory is made first. It is no error if another run has
    /// just made it.
    pub(super) fn open_or_make(&self, name: &OsStr, flags: OFlags, mode: Option<u32>) -> Result<OwnedFd, Errno> {
        match (self.open(name, flags), mode) {
            (Err(Errno::NOENT), Some(_)) if self.is_off_limits() => Err(Errno::PERM),
            (Err(Errno::NOENT), Some(mode)) => {
                but(Errno::EXIST, mkdirat(&self.fd, name, Mode::from_raw_mode(mode)))?;
                self.open(name, flags)
            }
            (opened, _) => opened,
        }
    }

    /// Opens `name`, which must be no link: with `O_PATH`, the link itself is opened.
    pub(super) fn open(&self, name: impl AsRef<OsStr>, flags: OFlags) -> Result<OwnedFd, Errno> {
        let always = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(&self.fd, name.as_ref(), flags | always, Mode::empty())
    }

    /// The directory `name` in this one, made with `mode` where it is missing and one is given.
    ///
    /// # Errors
    /// When it is missing, is a link or no directory, or cannot be made.
    pub fn directory(&self, name: impl AsRef<OsStr>, mode: Option<u32>) -> Result<Directory, Errno> {
        self.enter(self.open_or_make(name.as_ref(), OFlags::PATH | OFlags::DIRECTORY, mode)?)
    }

    /// Whether this directory belongs to us and nobody else may write in it, so that what it holds is ours.
    pub fn is_private(&self) -> bool {
        fstat(&self.fd).is_ok_and(|stat| stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o022 == 0)
    }

    /// Whether it belongs to the stranger whose directories led here, and nobody else may write in it.
    pub fn is_private_to_stranger(&self) -> bool {
        fstat(&self.fd).is_ok_and(|stat| self.stranger == Some(stat.st_uid) && stat.st_mode & 0o022 == 0)
    }

    /// Whether `name` in here (`.` is the directory itself) is no link, belongs to root or to us, and cannot be written
    /// by anybody else.
    pub fn is_ours(&self, name: &str) -> bool {
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| is_ours_or_roots(&stat) && stat.st_mode & 0o022 == 0)
    }

    /// Whether the file `name` can be rewritten or made here; `.` asks whether files can be made.
    ///
    /// # Errors
    /// Why not.
    pub fn can_write(&self, name: impl AsRef<OsStr>) -> Result<(), Errno> {
        // Without AT_EACCESS: older seccomp filters of containers refuse faccessat2(2).
        let can_write = |name: &OsStr| accessat(&self.fd, name, Access::WRITE_OK, AtFlags::empty());
        match can_write(name.as_ref()) {
            Err(Errno::NOENT) => can_write(OsStr::new("."))?,
            can => can?,
        }
        // On some file systems the number of blocks is 0, and on some systems the call fails.
        let is_full = |it: StatVfs| it.f_blocks > 0 && it.f_bfree == 0 || it.f_files > 0 && it.f_ffree == 0;
        if fstatvfs(&self.fd).is_ok_and(is_full) { Err(Errno::NOSPC) } else { Ok(()) }
    }

    /// Whether the directory was removed since it was opened.
    pub fn is_removed(&self) -> bool {
        fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// The regular file `name`, which must be no symbolic link and have at most `limit` bytes.
    ///
    /// # Errors
    /// Those of [`super::Host::read`]; [`Errno::PERM`] for a file that others may have put here.
    pub fn read(&self, name: impl AsRef<OsStr>, limit: usize) -> io::Result<Option<Vec<u8>>> {
        whole(self.open_trusted(name.as_ref(), OFlags::RDONLY), limit)
    }

    /// Opens a file that is no secret of ours under another name: if others can write to the directory, the file must
    /// not have a second name. In a stranger's directory, root opens only what the stranger could read as well.
    fn open_trusted(&self, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
        let fd = self.open(name, flags)?;
        let file = fstat(&fd)?;
        let is_secret = self.is_off_limits() && self.stranger != Some(file.st_uid) && file.st_mode & 0o004 == 0;
        if is_secret || file.st_nlink > 1 && !self.is_private() { Err(Errno::PERM) } else { Ok(fd) }
    }

    /// Replaces the file `name` by one that holds `bytes` and has its owner, group and mode. A missing file is made with
    /// `mode`. In a stranger's directory, root gives the new file to the stranger. After a crash, the old file or the
    /// new one is there. Returns the new file, locked. It was locked before it got its name.
    ///
    /// # Errors
    /// [`Errno::EXIST`] if `name` is no regular file but a device, a FIFO, a directory or a link, and those of making,
    /// writing, syncing and renaming; `name` is then what it was.
    pub fn replace(&self, name: impl AsRef<OsStr>, bytes: &[u8], mode: u32, synced: Synced) -> Result<File, Errno> {
        let (name, is_off_limits) = (name.as_ref(), self.is_off_limits());
        let old = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        if old.is_some_and(|old| !is_regular(&old)) {
            return Err(Errno::EXIST);
        }
        let mode = old.map_or(mode, |old| old.st_mode & if is_off_limits { 0o777 } else { 0o7777 });
        let like = match old {
            Some(old) if !is_off_limits || self.stranger == Some(old.st_uid) => Some(old),
            _ => is_off_limits.then(|| fstat(&self.fd)).transpose()?,
        };
        // A random name, which nobody could have planted and no other writer has. `RandomState` is the randomness that
        // std offers.
        let new = format!("{}{:08x}{NEW}", prefix_of_new(name), RandomState::new().hash_one(name) as u32);
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Until it has its owner: a file that is root's for a moment must not be setuid(2), nor open to others.
        let file = File::from(openat(&self.fd, &*new, flags, Mode::from_raw_mode(0o600))?);
        let finish = || {
            let own = fstat(&file)?;
            if let Some(like) = like.filter(|like| (like.st_uid, like.st_gid) != (own.st_uid, own.st_gid)) {
                fchown(&file, Some(Uid::from_raw(like.st_uid)), Some(Gid::from_raw(like.st_gid)))?;
            }
            fchmod(&file, Mode::from_raw_mode(mode))?;
            // The lock tells a file that is being written from one that a killed run has left.
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            (&file).write_all(bytes).map_err(|error| number_of(&error))?;
            if synced != Synced::Nothing {
                fsync(&file)?;
            }
            renameat(&self.fd, &*new, &self.fd, name)
        };
        if let Err(error) = finish() {
            let _ = unlinkat(&self.fd, &*new, AtFlags::empty());
            return Err(error);
        }
        if synced == Synced::Name {
            // INVAL: on this file system, directories need no sync.
            but(Errno::INVAL, fsync(self.open(".", OFlags::RDONLY | OFlags::DIRECTORY)?))?;
        }
        Ok(file)
    }

    /// Replaces a file that is shared with other software. If it is there and cannot be replaced (no permission on the
    /// directory, a mount, another owner), it is written in place. Root writes nothing in place in a stranger's
    /// directory.
    ///
    /// # Errors
    /// Those of replacing, and of writing in place.
    pub fn rewrite(&self, name: &OsStr, bytes: &[u8], mode: u32, synced: Synced) -> Result<(), Errno> {
        match self.replace(name, bytes, mode, synced) {
            // INVAL: this user namespace does not know its owner or group (user_namespaces(7)).
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::BUSY | Errno::XDEV | Errno::INVAL)
                if self.holds(name) && !self.is_off_limits() =>
            {
                self.write_in_place(name, bytes)
            }
            replaced => replaced.map(drop),
        }
    }

    /// Writes from the beginning, with line ends up to the old length, and then cuts them off: a kill leaves no old mark
    /// under a new ID. Nothing is written if the disk has no room for it.
    fn write_in_place(&self, name: &OsStr, bytes: &[u8]) -> Result<(), Errno> {
        let file = File::from(self.open_trusted(name, OFlags::RDWR)?);
        let (old, new) = (fstat(&file)?.st_size as u64, bytes.len() as u64);
        // Not every file system can reserve space, so other errors do not matter.
        if let Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) =
            fallocate(&file, FallocateFlags::KEEP_SIZE, 0, new)
        {
            return Err(error);
        }
        let rest = b"\n".repeat(old.saturating_sub(new) as usize);
        let written = file.write_all_at(&[bytes, &rest].concat(), 0);
        let length = if written.is_ok() { new } else { old };
        let cut = file.set_len(length).and_then(|()| file.sync_data());
        written.and(cut).map_err(|error| number_of(&error))
    }

    /// Removes unfinished files that killed runs have left: those of the file `of`, or all. Such a file is a regular
    /// file of ours, has the name of an unfinished one, and nobody is writing it.
    pub fn sweep(&self, of: Option<&OsStr>) {
        let prefix = of.map_or_else(|| ".".to_owned(), prefix_of_new);
        for name in self.names().unwrap_or_default() {
            let is_unfinished = name.starts_with(&*prefix) && name.ends_with(NEW);
            let is_own = |file: File| fstat(file).is_ok_and(|stat| stat.st_uid == geteuid().as_raw());
            if is_unfinished && self.claim(&name).is_ok_and(|file| file.is_some_and(is_own)) {
                let _ = unlinkat(&self.fd, name.as_str(), AtFlags::empty());
            }
        }
    }

    /// Opens the existing file `name`, for reading and appending, with its lock; `None` when somebody else holds it or
    /// it is gone.
    ///
    /// # Errors
    /// Those of opening and locking.
    pub fn claim(&self, name: &str) -> Result<Option<File>, Errno> {
        let opened = self.open(name, OFlags::RDWR | OFlags::APPEND);
        let fd = match opened.and_then(|fd| flock(&fd, FlockOperation::NonBlockingLockExclusive).map(|()| fd)) {
            Err(Errno::NOENT | Errno::WOULDBLOCK) => return Ok(None),
            locked => locked?,
        };
        // Between open and lock its holder may have finished with it and moved it.
        let named = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        let opened = fstat(&fd)?;
        let is_still = named.is_ok_and(|named| (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino));
        Ok(is_still.then(|| fd.into()))
    }

    /// Waits until nobody holds the lock of the file `name`.
    ///
    /// # Errors
    /// Those of opening and locking.
    pub fn wait_for(&self, name: &str) -> Result<(), Errno> {
        but(Errno::NOENT, self.open(name, OFlags::RDWR).and_then(|fd| flock(fd, FlockOperation::LockExclusive)))
    }

    /// Takes the lock of the directory itself, in one of the ways of flock(2). The alarm ends a wait that takes too long.
    ///
    /// # Errors
    /// Those of opening and locking.
    pub fn lock(&self, how: FlockOperation) -> Result<OwnedFd, Errno> {
        self.open(".", OFlags::RDONLY | OFlags::DIRECTORY).and_then(|fd| flock(&fd, how).map(|()| fd))
    }

    /// Gives the file `name` the name `to` in another directory of the same file system.
    ///
    /// # Errors
    /// Those of renaming.
    pub fn rename(&self, name: &str, directory: &Directory, to: &str) -> Result<(), Errno> {
        renameat(&self.fd, name, &directory.fd, to)
    }

    /// Removes the file `name`, if there is one. A directory stays.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<(), Errno> {
        but(Errno::NOENT, but(Errno::ISDIR, unlinkat(&self.fd, name.as_ref(), AtFlags::empty())))
    }

    /// Removes the directory `name` when it is empty; anything else is left as it is.
    pub fn remove_empty(&self, name: impl AsRef<OsStr>) {
        let _ = unlinkat(&self.fd, name.as_ref(), AtFlags::REMOVEDIR);
    }

    /// Whether anything has the name `name`.
    pub fn holds(&self, name: impl AsRef<OsStr>) -> bool {
        statat(&self.fd, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The names in it that are UTF-8, sorted.
    ///
    /// # Errors
    /// Those of reading a directory.
    pub fn names(&self) -> Result<Vec<String>, Errno> {
        let again = self.open(".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(list(again)?.into_iter().filter_map(|name: OsString| name.into_string().ok()).collect())
    }
}

/// `result`, with `error` counted as success.
fn but(error: Errno, result: Result<(), Errno>) -> Result<(), Errno> {
    if result == Err(error) { Ok(()) } else { result }
}

/// The number of an error of the system; an I/O error for any other.
pub(super) fn number_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// The beginning of the name of an unfinished file `name`.
fn prefix_of_new(name: &OsStr) -> String {
    format!(".{}.", name.to_string_lossy().trim_start_matches('.'))
}

pub(super) fn is_ours_or_roots(stat: &Stat) -> bool {
    stat.st_uid == 0 || stat.st_uid == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileTypeExt, path::Path};

    use rustix::fs::{CWD, FileType, makedev, mknodat};

    use super::*;
    use crate::host::Host;

    #[test]
    fn nothing_but_a_regular_file_is_replaced() {
        let root = std::env::temp_dir().join(format!("install-record-replace-{}", std::process::id()));
        fs::create_dir_all(root.join("directory")).unwrap();
        fs::write(root.join("file"), "old").unwrap();
        std::os::unix::fs::symlink("file", root.join("link")).unwrap();
        std::os::unix::fs::symlink("/nowhere", root.join("dangling")).unwrap();
        let make = |name: &str, of: FileType| {
            mknodat(CWD, root.join(name), of, Mode::from_raw_mode(0o600), makedev(1, 3)).is_ok()
        };
        assert!(make("fifo", FileType::Fifo));
        // Only root can make a device.
        let device = make("device", FileType::CharacterDevice).then_some("device");
        let host = Host::new(Some(root.clone()));
        let directory = host.directory("/", false).unwrap();
        for name in ["directory", "link", "dangling", "fifo"].into_iter().chain(device) {
            let written = directory.rewrite(name.as_ref(), b"new", 0o644, Synced::Nothing);
            assert_eq!(written, Err(Errno::EXIST), "{name}");
        }
        let of = |name: &str| fs::symlink_metadata(root.join(name)).unwrap().file_type();
        assert!(of("directory").is_dir() && of("link").is_symlink() && of("fifo").is_fifo());
        assert_eq!(fs::read_link(root.join("dangling")).unwrap(), Path::new("/nowhere"));
        assert!(device.is_none_or(|name| of(name).is_char_device()));
        assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "old");
        assert!(directory.names().unwrap().iter().all(|name| !name.ends_with(NEW)));
        fs::remove_dir_all(root).unwrap();
    }
}
