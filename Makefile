# Builds, installs, shows, measures and checks install-record. `make install` is the only thing that places files.

TARGET = x86_64-unknown-linux-musl
PREFIX = /usr
DESTDIR =
CARGO = cargo
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR

# ring compiles a little C; Debian's compilers have other names than the ones it looks for.
export CC_x86_64_unknown_linux_musl = gcc
export CC_aarch64_unknown_linux_musl = aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER = rust-lld

RELEASE = $(CARGO_TARGET_DIR)/$(TARGET)/release
BINARY = $(RELEASE)/install-record
RECEIVER = $(RELEASE)/examples/receiver

.PHONY: all build receiver install demo check bench clean

all: build

build:
	$(CARGO) build --locked --release --target $(TARGET)

# The TLS server of the demo and the tests; in no package.
receiver:
	$(CARGO) build --locked --release --target $(TARGET) --example receiver

install: build
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/install-record

demo: build receiver
	tests/demo.sh $(BINARY) $(RECEIVER)

check:
	tests/run

bench: build receiver
	benches/run $(BINARY) $(RECEIVER)

clean:
	$(CARGO) clean
	rm -rf dist
