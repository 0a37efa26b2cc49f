#!/bin/bash
# The vendor's side (receiver/): nginx on loopback, `receive` and the page, in a virtual environment that make has pip make
# from PyPI. The cases are in tests/receiver/check.py.
. "$(dirname "$0")/lib.sh"
cd "$(dirname "$0")/../.." || exit 1

export MPLBACKEND=svg
venv=${CARGO_TARGET_DIR:-$PWD/target}/receiver-venv/bin
made=$(make --no-print-directory receiver-venv 2>&1)
PATH=$PATH:/usr/sbin

need_receiver() {
	"$venv/python" -c 'import chdb, matplotlib' 2>/dev/null || skip "no virtual environment: ${made//$'\n'/ }"
	need nginx openssl unshare
	[ -e /usr/lib/nginx/modules/ngx_http_js_module.so ] || skip 'libnginx-mod-http-js is not installed'
	# Others' workers are www-data; tmpfs needs a mount namespace.
	[ "$(id -u)" = 0 ] || skip 'needs root: nginx changes its user, and full disks are mounted'
}

looked_at() {
	need_receiver
	"$venv/ruff" check --quiet --config receiver/pyproject.toml receiver/receive tests/receiver
	"$venv/ruff" format --check --quiet --config receiver/pyproject.toml receiver/receive tests/receiver
	"$venv/mypy" --config-file receiver/pyproject.toml receiver/receive
	MYPYPATH=tests/receiver "$venv/mypy" --config-file receiver/pyproject.toml tests/receiver/*.py
	[ "$(grep -cvE '^\s*(#.*)?$' receiver/receive)" -lt 400 ] || fail 'receiver/receive: 400 lines and more'
}

case_of() {
	need_receiver
	[ "$1" != demo ] || need chromium
	"$venv/python" tests/receiver/check.py "$1"
}

run_case 'typed, linted and short' 180 looked_at
run_case 'nginx: what it answers, and what it does not keep' 60 case_of answers
run_case 'nginx killed ten times: nothing answered is lost' 90 case_of killed_nginx
run_case 'nginx on a full disk: nothing answered is lost' 60 case_of full_disk
run_case 'load onto a full disk: fails, and goes on with room' 90 case_of full_store
# All 50 points: POINTS=50.
POINTS=${POINTS:-10} run_case 'load killed at many points: nothing twice, nothing lost' 600 case_of killed_load
run_case '10,000 hostile bodies: none breaks a load, none is on the page unescaped' 180 case_of hostile
run_case 'a profile that this code has never seen' 60 case_of sixth
run_case 'for publication: nothing that few have in common' 60 case_of public
run_case 'retention: raw lines and files go, records stay' 60 case_of retention
run_case '200 real runs of the binary are on the page, which a browser shows' 240 case_of demo
finish
