#!/bin/sh
# call-home.sh as Percona's packages run it, with install-record behind it: as a file, from a here-document in a
# maintainer script or scriptlet, on the standard input of `bash -s`, or sourced (docs/percona.md).
# The arguments go to the program as they are. Where it is not installed, this says nothing and the status is 0.
# The program may not read standard input: this script may be on it. No exec and no exit: who sources it goes on.
if command -v install-record >/dev/null 2>&1; then
	install-record "$@" </dev/null
fi
