# Functions that change where gawk looks for programs.
gawkpath_default() {
    unset AWKPATH
    export AWKPATH=$(gawk 'BEGIN { print ENVIRON["AWKPATH"] }')
}

gawkpath_prepend() {
    [ -z "$AWKPATH" ] && AWKPATH=$(gawk 'BEGIN { print ENVIRON["AWKPATH"] }')
    export AWKPATH="$*:$AWKPATH"
}
