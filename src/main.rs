//! The exit policy: an installation must not fail because of this program. How things are done is told elsewhere.

use std::{process::ExitCode, process::exit, sync::atomic::Ordering, time::Duration};

use install_record::{cli, courier, kernel, outcome::Outcome, outcome::Reporter, run};

/// The time limit until the command line has been read: the default of 3 seconds and the grace of 0.1 seconds.
const AT_FIRST: Duration = Duration::from_millis(3100);

/// Runs before `main`. Rust's runtime aborts before `main` where a standard descriptor is closed and there is no
/// /dev/null to take its place, as in an empty root. An installation must not fail because of that either.
#[used]
#[allow(unsafe_code)]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = kernel::arrange_signals;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|first| first == courier::COMMAND) {
        return ExitCode::from(u8::from(courier::run().is_err()));
    }
    kernel::end_process_after(AT_FIRST);
    let request = cli::parse(args).unwrap_or_else(|error| end(&error, &Reporter::default(), false));
    // This program decides the modes of the files that it makes, whatever the caller's umask is.
    rustix::process::umask(rustix::fs::Mode::empty());
    let is_failure = request.has("strict") || !request.is_unattended();
    kernel::ABORT_STATUS.store(is_failure.into(), Ordering::Relaxed);
    // A bug in this program must not stop somebody's package manager.
    std::panic::set_hook(Box::new(move |_| exit(is_failure.into())));
    let reporter = Reporter { is_quiet: request.has("quiet"), is_verbose: request.has("verbose") };
    end(&run(&request, &reporter), &reporter, request.has("strict"))
}

/// Says how the run ended, and exits. A stderr that nobody reads does not change the exit status. Output that was asked
/// for and is cut short does.
fn end(outcome: &Outcome, reporter: &Reporter, strict: bool) -> ! {
    let status = outcome.exit_status(strict).into();
    if !matches!(outcome, Outcome::Printed(..)) {
        kernel::ABORT_STATUS.store(status, Ordering::Relaxed);
    }
    outcome.report(reporter);
    // This exits instead of returning, because nothing that is left needs to be freed.
    exit(status)
}
