# For interactive bash shells that are not login shells.

# The prompt and the umask are /etc's; set here, they win.
# PS1='${debian_chroot:+($debian_chroot)}\h:\w\$ '
# umask 022

# Colours in listings.
# export LS_OPTIONS='--color=auto'
# alias ls='ls $LS_OPTIONS'
