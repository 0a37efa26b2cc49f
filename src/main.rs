//! Exit policy, and nothing about how anything is done: an installation must not fail because of this program.

use std::{process::ExitCode, process::exit, sync::atomic::Ordering, time::Duration};

use install_record::{cli, courier, kernel, outcome::Outcome, outcome::Reporter, run};

/// The time limit until the command line has been read: the default one, with its grace.
const AT_FIRST: Duration = Duration::from_millis(3100);

/// Called before `main`: where a standard descriptor is closed and there is no /dev/null to take its place (an empty
/// root), Rust's runtime aborts before `main`, and that must be no failed installation either.
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
    let request = match cli::parse(args) {
        Ok(request) => request,
        Err(error) => end(&error.into(), &Reporter::default(), false),
    };
    // The modes of what is made are decided here, not by whoever calls.
    rustix::process::umask(rustix::fs::Mode::empty());
    let is_failure = request.fails_when_cut_short();
    kernel::ABORT_STATUS.store(is_failure.into(), Ordering::Relaxed);
    // A defect of ours is no reason for somebody's package manager to stop.
    std::panic::set_hook(Box::new(move |_| exit(is_failure.into())));
    let reporter = Reporter { is_quiet: request.has("quiet"), is_verbose: request.has("verbose") };
    end(&run(&request, &reporter), &reporter, request.has("strict"))
}

/// Says how the run ended. A stderr that nobody reads does not change the exit status; a text that was asked for and is cut
/// short does.
fn end(outcome: &Outcome, reporter: &Reporter, strict: bool) -> ! {
    let status = outcome.exit_status(strict).into();
    if !matches!(outcome, Outcome::Printed(..)) {
        kernel::ABORT_STATUS.store(status, Ordering::Relaxed);
    }
    outcome.report(reporter);
    // Not by returning: there is nothing left that is worth freeing.
    exit(status)
}
