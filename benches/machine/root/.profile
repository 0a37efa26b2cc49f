# For login shells, after /etc/profile.
if [ "$BASH" ] && [ -f ~/.bashrc ]; then
  . ~/.bashrc
fi
mesg n 2> /dev/null || true
