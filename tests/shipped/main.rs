//! The acceptance tests of the shipped binary: what a packager and an administrator see of it, from outside.
//! Every machine here is a directory given as `--root`, or a namespace of its own, and every delivery goes to loopback.
//! `INSTALL_RECORD_BINARY` and `INSTALL_RECORD_RECEIVER` name the binaries; without them it is cargo's own build.

#[macro_use]
mod harness;

mod commands;
mod consent;
mod courier;
mod facts;
mod identity;
mod inheritance;
mod ledger;
mod network;
mod once;
mod record;
mod sweep;
mod trust;
mod vendor_profile;
mod vendors;
