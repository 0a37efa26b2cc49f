# Builds, installs, shows, measures and checks install-record. `make install` is the only thing that places files.

TARGET = x86_64-unknown-linux-musl
PREFIX = /usr
DESTDIR =
DATADIR = $(PREFIX)/share
MANDIR = $(DATADIR)/man
UNITDIR = $(PREFIX)/lib/systemd/system
RPM_MACROS = $(PREFIX)/lib/rpm/macros.d
BASH_COMPLETIONS = $(DATADIR)/bash-completion/completions
ZSH_COMPLETIONS = $(DATADIR)/zsh/site-functions
FISH_COMPLETIONS = $(DATADIR)/fish/vendor_completions.d
CARGO = cargo
DOCKER = docker
IMAGE = install-record
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR

# What ships is what plain `cargo build --release --target $(TARGET)` makes, by .cargo/config.toml. Flags of the caller
# would take the place of those in there.
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS RUSTC_WRAPPER CARGO_BUILD_RUSTC_WRAPPER
unexport CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUSTFLAGS

# `cargo vendor` puts the crates into vendor/; where they are, nothing is downloaded.
VENDOR ?= vendor
VENDORED = $(if $(wildcard $(VENDOR)/.),--offline --config 'source.crates-io.replace-with="vendored-sources"' \
	--config 'source.vendored-sources.directory="$(VENDOR)"')

RELEASE = $(CARGO_TARGET_DIR)/$(TARGET)/release
BINARY = $(RELEASE)/install-record
RECEIVER = $(RELEASE)/examples/receiver

# In the directory of profiles, the schema would be taken for one.
PROFILES = $(filter-out %.schema.json,$(wildcard profiles/*.json))

.PHONY: all target build receiver install install-debhelper install-rpm-macros install-off deb rpm image release demo \
	check lines bench bench-check clean

all: build

# On a fresh machine, rustup has only its own target.
target:
	@for target in $(TARGET); do \
		[ -d "$$(rustc --print sysroot)/lib/rustlib/$$target" ] || rustup target add $$target || exit; \
	done

# The build has no use for SOURCE_DATE_EPOCH, and would compile ring anew whenever that is another one.
build: target
	env -u SOURCE_DATE_EPOCH $(CARGO) build --locked $(VENDORED) --release $(TARGET:%=--target %)

# The TLS server of the demo and the tests, and what tries to break out of the sandbox; in no package.
receiver: target
	$(CARGO) build --locked $(VENDORED) --release --target $(TARGET) --example receiver --example prisoner

install: build
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/install-record
	install -D -m 0644 man/install-record.1 $(DESTDIR)$(MANDIR)/man1/install-record.1
	install -D -m 0644 -t $(DESTDIR)$(DATADIR)/install-record/profiles $(PROFILES)
	install -D -m 0644 profiles/profile.schema.json $(DESTDIR)$(DATADIR)/install-record/profile.schema.json
	install -D -m 0755 call-home.sh $(DESTDIR)$(DATADIR)/install-record/call-home.sh
	install -D -m 0644 completions/install-record.bash $(DESTDIR)$(BASH_COMPLETIONS)/install-record
	install -D -m 0644 completions/_install-record $(DESTDIR)$(ZSH_COMPLETIONS)/_install-record
	install -D -m 0644 completions/install-record.fish $(DESTDIR)$(FISH_COMPLETIONS)/install-record.fish
	install -D -m 0644 -t $(DESTDIR)$(UNITDIR) systemd/install-record.service systemd/install-record.timer

# The debhelper add-on: what a Debian vendor needs to build packages that call the hook.
install-debhelper:
	install -D -m 0755 debian/dh/dh_installrecord $(DESTDIR)$(PREFIX)/bin/dh_installrecord
	install -D -m 0644 debian/dh/install_record.pm \
		$(DESTDIR)$(DATADIR)/perl5/Debian/Debhelper/Sequence/install_record.pm
	install -D -m 0644 debian/dh/postinst-install-record \
		$(DESTDIR)$(DATADIR)/debhelper/autoscripts/postinst-install-record
	install -D -m 0644 -t $(DESTDIR)$(DATADIR)/debhelper/install-record $(PROFILES)
	install -d $(DESTDIR)$(MANDIR)/man1
	pod2man --utf8 --center=Debhelper --release=install-record debian/dh/dh_installrecord \
		$(DESTDIR)$(MANDIR)/man1/dh_installrecord.1

# What the rpm package no-install-record ships. Its text is not the one of `install-record off`: rpm erases a switch that it
# takes for its own.
install-off:
	echo 'No install records are sent while this file exists (package no-install-record).' | \
		install -D -m 0644 /dev/stdin $(DESTDIR)/etc/install-record/off

# The same as install-debhelper for a spec file. Both bring the profiles: a name is looked up when a package is built, also where the program
# itself is not installed, or not for that architecture.
install-rpm-macros:
	install -D -m 0644 rpm/macros.install-record $(DESTDIR)$(RPM_MACROS)/macros.install-record
	install -D -m 0644 -t $(DESTDIR)$(DATADIR)/install-record-rpm-macros $(PROFILES)

# Source package, amd64 and arm64 packages in dist/; says what is missing for it.
deb:
	debian/build dist

# x86_64 and aarch64 packages in dist/; says what is missing for it.
rpm:
	rpm/build dist

# The container image, for amd64 and arm64; says what is missing for it.
image:
	DOCKER=$(DOCKER) docker/build $(IMAGE)

# All files of a release in dist/, the same wherever they are made (RELEASING.md).
release:
	release/build '$(VERSION)' dist

demo: build receiver
	tests/demo.sh $(BINARY) $(RECEIVER)

check:
	tests/run

# How much there is to read in src, and what of it is above the budget.
lines:
	tests/lines

bench: build receiver
	benches/run $(BINARY) $(RECEIVER)

# Fails when a figure is above its limit in benches/baseline.json.
bench-check:
	tests/run baseline

clean:
	$(CARGO) clean
	rm -rf dist

# ---- the vendor's side: receiver/ ----

.PHONY: receiver-venv receiver-demo receiver-figures
RECEIVER_VENV = $(CARGO_TARGET_DIR)/receiver-venv

# A virtual environment with what receiver/receive needs, and with what looks at it. By pip, from PyPI.
receiver-venv: $(RECEIVER_VENV)/.made

$(RECEIVER_VENV)/.made: receiver/requirements.txt receiver/requirements-dev.txt
	python3 -m venv $(RECEIVER_VENV)
	$(RECEIVER_VENV)/bin/pip install --quiet --disable-pip-version-check -r receiver/requirements-dev.txt
	touch $@

# 200 real runs of the binary, nginx on loopback, load, report: the page counts what was sent. Stays in dist/receiver-demo.
receiver-demo: build receiver-venv
	rm -rf dist/receiver-demo && mkdir -p dist/receiver-demo
	BINARY=$(BINARY) KEPT=dist/receiver-demo $(RECEIVER_VENV)/bin/python tests/receiver/check.py demo

# The figures of docs/receiving.md: minutes, 10 GB of disk, and both processors.
receiver-figures: receiver-venv
	nice -n 19 $(RECEIVER_VENV)/bin/python tests/receiver/bench.py 10 500000 5000000
