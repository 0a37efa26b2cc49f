# Desktop applications of another package system, where it is installed.
apps_bin_path=/snap/bin
if [ -n "${PATH##*${apps_bin_path}}" ] && [ -n "${PATH##*${apps_bin_path}:*}" ]; then
    export PATH="$PATH:$apps_bin_path"
fi
if [ -z "${XDG_DATA_DIRS-}" ]; then
    export XDG_DATA_DIRS=/usr/local/share:/usr/share
fi
export XDG_DATA_DIRS="${XDG_DATA_DIRS}:/var/lib/snapd/desktop"
