# fish completion for install-record(1)

function __install_record_profiles
    printf "%s\n" percona medusa wundergraph strapi memgraph
    for file in /usr/share/install-record/profiles/*.json /etc/install-record/profiles/*.json
        string replace -r '.*/(.*)\.json$' '$1' -- $file
    end
end

set -l commands send show status off on flush forget facts check
set -l is_record "not __fish_seen_subcommand_from status off on flush forget facts check"

complete -c install-record -f
complete -c install-record -n "not __fish_seen_subcommand_from $commands" -a send -d 'report this installation once'
complete -c install-record -n "not __fish_seen_subcommand_from $commands" -a show -d 'print the exact body that would be sent'
complete -c install-record -n "not __fish_seen_subcommand_from $commands" -a status -d 'decision, IDs, what was sent, what is pending'
complete -c install-record -n "not __fish_seen_subcommand_from $commands" -a off -d 'write the persistent opt-out'
complete -c install-record -n "not __fish_seen_subcommand_from $commands" -a on -d 'remove the persistent opt-out'
complete -c install-record -n "not __fish_seen_subcommand_from $commands" -a flush -d 'deliver what is pending'
complete -c install-record -n "not __fish_seen_subcommand_from $commands" -a forget -d 'delete IDs, pending records and receipts'
complete -c install-record -n "not __fish_seen_subcommand_from $commands" -a facts -d 'print every fact that can be read'
complete -c install-record -n "not __fish_seen_subcommand_from $commands" -a check -d 'look a profile over'
complete -c install-record -n '__fish_seen_subcommand_from check' -a '(__install_record_profiles; __fish_complete_suffix .json)'

complete -c install-record -n "$is_record" -s f -l product-family -x -d 'the product'
complete -c install-record -n "$is_record" -s v -l product-version -x -d 'its version'
complete -c install-record -n "$is_record" -s d -l deployment -x -a 'PACKAGE DOCKER' -d 'how it was deployed'
complete -c install-record -n "$is_record" -s s -l os -x -d 'operating system'
complete -c install-record -n "$is_record" -s i -l instance-id -x -d 'used only when none is stored yet'
complete -c install-record -n "$is_record" -s c -l connect-timeout -x -d 'seconds for the connection'
complete -c install-record -n "$is_record" -s t -l timeout -x -d 'seconds for everything'
complete -c install-record -n "$is_record" -l set -x -d 'KEY=VALUE that the product supplies'
complete -c install-record -n "$is_record" -l event -x -d 'name of the event'
complete -c install-record -n "$is_record" -l project -x -a '(__fish_complete_directories)' -d 'directory of the project'
complete -c install-record -n "$is_record" -l state-dir -x -a '(__fish_complete_directories)' -d 'where state lives'
complete -c install-record -n "$is_record" -l pid -x -a '(__fish_complete_pids)' -d 'the process'
complete -c install-record -n "$is_record" -l telemetry -x -a false -d 'a no'
complete -c install-record -n "$is_record" -l telemetry-enabled -x -a false -d 'a no'
complete -c install-record -s j -l state-file -r -F -d 'where the IDs are'
complete -c install-record -s u -l url -x -d 'where to send to'

complete -c install-record -n '__fish_seen_subcommand_from status facts' -l json -d 'print JSON'
complete -c install-record -n '__fish_seen_subcommand_from flush' -l due -d 'only what need not wait'
complete -c install-record -l profile -x -a '(__install_record_profiles)' -d 'whose record this is'
complete -c install-record -l root -x -a '(__fish_complete_directories)' -d 'act on the system tree there'
complete -c install-record -l quiet -d 'say nothing'
complete -c install-record -l verbose -d 'say what is decided, and why'
complete -c install-record -l strict -d 'exit 1 when something was not delivered'
complete -c install-record -s h -l help -d 'print a summary'
complete -c install-record -l version -d 'print the version'
