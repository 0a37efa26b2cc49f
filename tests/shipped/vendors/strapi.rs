//! Strapi: the project's own ID, read and never made, a hash for the machine, and off by removing that ID.

use std::collections::BTreeSet;

use super::{STRAPI, command_of, matched, read, server, to};
use crate::consent::assert_sends;
use crate::harness::{Machine, Receiver};

const PACKAGE: &str = "srv/app/package.json";

#[test]
fn distroless_without_a_machine_id_is_no_crash() {
    let receiver = Receiver::start(&[]);
    let golden = include_str!("../golden/strapi-distroless.json");
    let container = || Machine::of("distroless");
    let mut seen = BTreeSet::new();
    for machine in [container(), container(), container().with("etc/machine-id", "uninitialized\n")] {
        let run = command_of(&machine, "strapi", "send").args(["--project", "/srv/app", "-v", "3.0.0"]);
        to(&receiver, "/track", run.env("NODE_ENV", "production")).run().sent();
        let text = String::from_utf8(receiver.body(receiver.requests().len())).expect("UTF-8");
        seen.extend(matched(golden, &text));
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

/// Every other way to say no is in tests/roots/expected, those of a package.json in src/consent/product.rs as well.
#[test]
fn an_env_that_is_too_large_says_no() {
    let receiver = Receiver::start(&[]);
    for size in [256 << 10, (256 << 10) + 1] {
        let machine = server().with("srv/app/.env", "#".repeat(size));
        assert_sends(size, size == 256 << 10, &machine, &receiver, STRAPI.send(&machine, &receiver));
    }
}

#[test]
fn promise_the_uuid_is_read_and_never_made() {
    let (machine, receiver) = (server(), Receiver::start(&[]));
    // Nor is the file replaced by a copy, or given a neighbour.
    let files = || machine.snapshot().into_iter().filter(|line| line.contains("srv/app")).collect::<Vec<_>>();
    let before = (read(&machine, PACKAGE), files());
    STRAPI.send(&machine, &receiver).run().sent();
    for command in ["off", "on", "forget"] {
        command_of(&machine, "strapi", command).args(["--project", "/srv/app"]).run().expect(0);
    }
    assert_eq!((read(&machine, PACKAGE), files()), before);
}
