//! The acceptance tests of the shipped binary: what a packager and an administrator see of it, from outside.
//!
//! `INSTALL_RECORD_BINARY` and `INSTALL_RECORD_RECEIVER` name the binaries under test (tests/run sets them to the
//! static ones); without them it is cargo's own build. Every machine here is a directory given as `--root`, or a
//! namespace of its own, and every delivery goes to loopback: harness.rs refuses to run anything else.

#[macro_use]
mod harness;

mod commands;
mod consent;
mod courier;
mod drop_in;
mod facts;
mod identity;
mod inheritance;
mod kept;
mod ledger;
mod network;
mod once;
mod record;
mod sweep;
mod trust;
mod vendor_profile;
mod vendors;
