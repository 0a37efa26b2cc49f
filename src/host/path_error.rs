//! An error at a path, with a way out for the person who reads it.

use std::{io, path::PathBuf};

use rustix::io::Errno;

use super::directory::number_of;

/// What could not be read or written, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}{}", path.display(), self.way_out())]
pub struct PathError {
    path: PathBuf,
    #[source]
    error: io::Error,
}

impl PathError {
    /// Gives an error its path.
    pub fn at<E: Into<io::Error>>(path: PathBuf) -> impl Fn(E) -> PathError {
        move |error| PathError { path: path.clone(), error: error.into() }
    }

    fn way_out(&self) -> &'static str {
        match number_of(&self.error) {
            Errno::PERM => "; run it as the user whose directory that is, and let nobody else write there",
            Errno::ACCESS | Errno::NOENT => "; run it as root, or as the user whose directory that is",
            Errno::LOOP => "; a link there leads in a circle, or is another user's: run it as that user",
            Errno::ROFS => "; give it a directory that can be written, a volume for example",
            _ => "",
        }
    }
}
