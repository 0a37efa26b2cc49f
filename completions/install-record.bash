# bash completion for install-record(1). tests/system/completions.sh compares it with what the program accepts.

_install_record() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} word command=send
	local commands='send show status off on flush forget facts check help'
	local every='--root --quiet --verbose --help --version'
	local place='--profile --project --state-dir'
	local refusal='--telemetry=false --telemetry-enabled=false'
	local record="--product-family --product-version --deployment --os --instance-id --state-file --url
		--connect-timeout --timeout --set --event --pid $place $refusal $every"
	COMPREPLY=()

	# "--option=" is three words to readline.
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = && $COMP_CWORD -gt 1 ]]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	case $prev in
		--root | --project | --state-dir)
			mapfile -t COMPREPLY < <(compgen -d -- "$cur")
			return
			;;
		-j | --state-file)
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			return
			;;
		--profile)
			mapfile -t COMPREPLY < <(compgen -f -- "$cur"
				compgen -W "$(_install_record_profiles)" -- "$cur")
			return
			;;
		-d | --deployment)
			mapfile -t COMPREPLY < <(compgen -W 'PACKAGE DOCKER' -- "$cur")
			return
			;;
		--telemetry | --telemetry-enabled)
			mapfile -t COMPREPLY < <(compgen -W false -- "$cur")
			return
			;;
		-f | -v | -s | -i | -u | -c | -t | --product-family | --product-version | --os | --instance-id | --url | \
			--connect-timeout | --timeout | --set | --event | --pid)
			return
			;;
	esac

	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		[[ " $commands " == *" $word "* ]] && command=$word commands= && break
	done
	case $command in
		send) word="$commands $record --strict" ;;
		show) word="$record --strict" ;;
		status) word="--json --state-file --url $place $refusal $every" ;;
		off) word="--state-file $place $every" ;;
		on) word="$place $every" ;;
		flush) word="--state-file --connect-timeout --timeout --strict $place $refusal $every" ;;
		forget) word="--state-file $place $every" ;;
		facts) word="--json $every" ;;
		check) word="$(_install_record_profiles) $every" ;;
		help) word= ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$word" -- "$cur"
		[[ $command != check ]] || compgen -f -X '!*.json' -- "$cur")
}

_install_record_profiles() {
	local file
	printf '%s\n' percona medusa wundergraph strapi memgraph
	for file in /usr/share/install-record/profiles/*.json /etc/install-record/profiles/*.json; do
		file=${file##*/}
		[[ $file == '*.json' ]] || echo "${file%.json}"
	done
}

complete -F _install_record install-record
