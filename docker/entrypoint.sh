#!/bin/sh
# A model entrypoint: reports this installation once, then becomes the product. Copy it as it is. What is reported comes
# from the image's own variables: INSTALL_RECORD_PROFILE names the profile, and the profile names the others. For the
# percona profile, which is the default, these are PERCONA_PRODUCT_FAMILY, PERCONA_PRODUCT_VERSION and, on the data volume,
# PERCONA_TELEMETRY_CONFIG_FILE_PATH. Administrators say no with `-e DO_NOT_TRACK=1` or the profile's own variable.
# An image that ships tools as well puts the report into the branch that starts the server.

# In the foreground: every way of detaching leaves a zombie under a product that, as process 1, never reaps. It ends
# within its budget (3 seconds; PERCONA_SEND_TIMEOUT), prints one line at most, and must not decide whether the product
# starts: hence `|| :`, also where the program is missing. As process 1, a shell without a trap ignores the signal of
# `docker stop`; the product's own signals begin with exec.
[ "$$" != 1 ] || trap 'exit 143' TERM INT
install-record --profile "${INSTALL_RECORD_PROFILE:-percona}" </dev/null || :
trap - TERM INT

exec "$@"
