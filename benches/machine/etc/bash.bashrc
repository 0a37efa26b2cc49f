# System-wide settings for interactive bash shells. Login shells come here by way of /etc/profile.
[ -z "${PS1-}" ] && return

# After every command, LINES and COLUMNS follow the size of the window.
shopt -s checkwinsize

# The chroot that this is, for the prompt. sudo's own prompt is left alone.
if [ -z "${debian_chroot:-}" ] && [ -r /etc/debian_chroot ]; then
    debian_chroot=$(cat /etc/debian_chroot)
fi
if ! [ -n "${SUDO_USER-}" -a -n "${SUDO_PS1-}" ]; then
  PS1='${debian_chroot:+($debian_chroot)}\u@\h:\w\$ '
fi

# Where a command is missing, say which package has it.
if [ -x /usr/lib/command-not-found ]; then
  command_not_found_handle() {
    /usr/lib/command-not-found -- "$1"
  }
fi
