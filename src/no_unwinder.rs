//! Keeps the unwinder out of the shipped program.
//!
//! A panic ends the program, and stripped it has no names for a backtrace. std's own panic hook could print one all the
//! same, and brings an unwinder, a reader of debugging information, a decompressor and a demangler for it: 270 KB of
//! 2.04 MB. All of them are reached through these two functions of the Itanium C++ ABI (Exception Handling, level 1).
//! The Makefile's builds define them here (`--cfg no_unwinder`), where the optimiser sees that they look at nothing,
//! and drops the rest.

#![allow(unsafe_code, reason = "two names of libunwind, taken on purpose")]

use std::ffi::c_int;

/// Walks the stack, a call of `_frame` for each frame: none, `_URC_NO_REASON`.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_frame: *const (), _argument: *mut ()) -> c_int {
    0
}

/// Goes on unwinding, after a frame was cleaned up; nobody unwinds.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume(_exception: *mut ()) -> ! {
    std::process::abort()
}
