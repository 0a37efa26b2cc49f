#!/bin/bash
# Completion in bash, zsh and fish: what they offer is what the program accepts, no more and no less. The options come from the
# parser's own table (src/cli.rs).
. "$(dirname "$0")/lib.sh"

commands='send show status off on flush forget facts check'
options=$(sed -n '/^pub const OPTIONS/,/^];/s/^    ("\([a-z-]*\)".*/\1/p' "$tree/src/cli.rs")

# accepted COMMAND: the options that the program takes there. Each is tried, in a system tree that is an empty directory.
accepted() {
	local option value said operand=()
	[ "$1" != check ] || operand=(percona)
	for option in $options; do
		value="=k=1"
		[[ $option != @(quiet|verbose|strict|json|help|version) ]] || value=
		said=$("$BINARY" "$1" "${operand[@]}" "--$option$value" --root "$share" </dev/null 2>&1 >/dev/null) || :
		case $said in
			*'does not use'* | *'unknown option'*) ;;
			*) echo "--$option" ;;
		esac
	done | sort
}

# offers SHELL LINE: what the shell offers for the last word of LINE.
offers() {
	case $1 in
		bash)
			bash --norc -c '. "$1"; set -f; line=$2; read -r -a COMP_WORDS <<<"$line"
				[ "${line% }" = "$line" ] || COMP_WORDS+=("")
				COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _install_record; printf "%s\n" "${COMPREPLY[@]}"' \
				bash "$tree/completions/install-record.bash" "$2"
			;;
		fish)
			XDG_CONFIG_HOME=$case_dir HOME=$case_dir fish --no-config -c 'source $argv[1]; complete -C $argv[2]' \
				"$tree/completions/install-record.fish" "$2" | cut -f 1
			;;
		zsh) zsh -f "$system/completions/offers.zsh" "$tree/completions" "$2" ;;
	esac | sed 's/=.*//; s/ *$//' | sort -u
}

offered() {
	need "$1"
	# shellcheck disable=SC2086 # words
	expect 'commands' "$(printf '%s\n' $commands help | sort)" "$(offers "$1" 'install-record ' | grep -v '^-')"
	expected=$(accepted send | grep .)
	expect 'no command' "$expected" "$(offers "$1" 'install-record --' | grep '^--')"
	for command in $commands; do
		expect "$command" "$(accepted "$command")" "$(offers "$1" "install-record $command --" | grep '^--')"
	done
	while read -r words line <&3; do
		expect "$line" "$words" "$(offers "$1" "install-record $line")"
	done 3<<-'END'
		status sta
		--product-family --product-f
		memgraph --profile memg
		wundergraph check wund
		DOCKER -d DOC
	END
}

for shell in bash zsh fish; do run_case "$shell: commands, the options of each as the parser has them, profiles" 300 offered "$shell"; done
finish
