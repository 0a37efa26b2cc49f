# Prints what zsh offers for a command line: DIRECTORY of completions, LINE. zsh completes only on a terminal, so it gets one.
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=($1 \$fpath); PS1=; stty -echo; autoload -Uz compinit; compinit -u -D"
# Each match becomes a line between marks instead of something on the screen.
zpty -w shell 'compadd() {
	local -a all
	[[ ${@[(r)-O]} = -O || ${@[(r)-A]} = -A || ${@[(r)-D]} = -D ]] && { builtin compadd "$@"; return }
	builtin compadd -A all "$@"
	print -rl -- "MATCH:"$^all
	builtin compadd "$@"
}
offer() { _main_complete; print -r -- "O""VER"; compstate[insert]= compstate[list]= }
zle -C show complete-word offer; bindkey "^X^X" show; print -r -- "REA""DY"'
zpty -r shell said '*READY*'
zpty -w -n shell "$2"$'\C-x\C-x'
zpty -r shell said '*OVER*'
zpty -d shell
print -r -- $said | tr -d '\r\\' | sed -n 's/^.*MATCH://p'
