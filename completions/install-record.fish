# fish completion for install-record(1). tests/system/completions.sh compares it with what the program accepts.

function __install_record_profiles
    printf "%s\n" percona medusa wundergraph strapi memgraph
    for file in /usr/share/install-record/profiles/*.json /etc/install-record/profiles/*.json
        string replace -r '.*/(.*)\.json$' '$1' -- $file
    end
end

complete -c install-record -f
complete -c install-record -n 'not __fish_seen_subcommand_from send show status off on flush forget facts check help' -a send -d 'report this installation once'
complete -c install-record -n 'not __fish_seen_subcommand_from send show status off on flush forget facts check help' -a show -d 'print the body that would be sent'
complete -c install-record -n 'not __fish_seen_subcommand_from send show status off on flush forget facts check help' -a status -d 'who said no, what was sent and what waits'
complete -c install-record -n 'not __fish_seen_subcommand_from send show status off on flush forget facts check help' -a off -d 'switch records off'
complete -c install-record -n 'not __fish_seen_subcommand_from send show status off on flush forget facts check help' -a on -d 'switch records on again'
complete -c install-record -n 'not __fish_seen_subcommand_from send show status off on flush forget facts check help' -a flush -d 'send what waits'
complete -c install-record -n 'not __fish_seen_subcommand_from send show status off on flush forget facts check help' -a forget -d 'delete IDs, waiting records and receipts'
complete -c install-record -n 'not __fish_seen_subcommand_from send show status off on flush forget facts check help' -a facts -d 'print every fact that can be read'
complete -c install-record -n 'not __fish_seen_subcommand_from send show status off on flush forget facts check help' -a check -d 'check a profile'
complete -c install-record -n 'not __fish_seen_subcommand_from send show status off on flush forget facts check help' -a help -d 'print a summary'
complete -c install-record -n '__fish_seen_subcommand_from check' -a '(__install_record_profiles)' -d profile

complete -c install-record -n 'not __fish_seen_subcommand_from status off on flush forget facts check help' -s f -l product-family -x -d 'the product'
complete -c install-record -n 'not __fish_seen_subcommand_from status off on flush forget facts check help' -s v -l product-version -x -d 'its version'
complete -c install-record -n 'not __fish_seen_subcommand_from status off on flush forget facts check help' -s d -l deployment -x -a 'PACKAGE DOCKER' -d 'how it was deployed'
complete -c install-record -n 'not __fish_seen_subcommand_from status off on flush forget facts check help' -s s -l os -x -d 'operating system'
complete -c install-record -n 'not __fish_seen_subcommand_from status off on flush forget facts check help' -s i -l instance-id -x -d 'used only when none is stored yet'
complete -c install-record -n 'not __fish_seen_subcommand_from on facts check help' -s j -l state-file -r -F -d 'where the ID is stored'
complete -c install-record -n 'not __fish_seen_subcommand_from off on flush forget facts check help' -s u -l url -x -d 'where to send to'
complete -c install-record -n 'not __fish_seen_subcommand_from status off on forget facts check help' -s c -l connect-timeout -x -d 'seconds for the connection'
complete -c install-record -n 'not __fish_seen_subcommand_from status off on forget facts check help' -s t -l timeout -x -d 'seconds for everything'
complete -c install-record -n 'not __fish_seen_subcommand_from status off on flush forget facts check help' -l set -x -d 'KEY=VALUE that the product supplies'
complete -c install-record -n 'not __fish_seen_subcommand_from status off on flush forget facts check help' -l event -x -d 'name of the event'
complete -c install-record -n 'not __fish_seen_subcommand_from status off on flush forget facts check help' -l pid -x -a '(__fish_complete_pids)' -d 'the process'
complete -c install-record -n 'not __fish_seen_subcommand_from facts check help' -l profile -x -a '(__install_record_profiles)' -d 'the profile of the product'
complete -c install-record -n 'not __fish_seen_subcommand_from facts check help' -l project -x -a '(__fish_complete_directories)' -d 'directory of the project'
complete -c install-record -n 'not __fish_seen_subcommand_from facts check help' -l state-dir -x -a '(__fish_complete_directories)' -d 'the data directory of the product'
complete -c install-record -n 'not __fish_seen_subcommand_from off on forget facts check help' -l telemetry -x -a false -d 'say no'
complete -c install-record -n 'not __fish_seen_subcommand_from off on forget facts check help' -l telemetry-enabled -x -a false -d 'say no'
complete -c install-record -n '__fish_seen_subcommand_from status facts' -l json -d 'print JSON'
complete -c install-record -n 'not __fish_seen_subcommand_from status off on forget facts check help' -l strict -d 'exit 1 when a record was not delivered'
complete -c install-record -n 'not __fish_seen_subcommand_from help' -l root -x -a '(__fish_complete_directories)' -d 'act on the system tree there'
complete -c install-record -n 'not __fish_seen_subcommand_from help' -l quiet -d 'print nothing on stderr but errors'
complete -c install-record -n 'not __fish_seen_subcommand_from help' -l verbose -d 'print each decision and its reason'
complete -c install-record -n 'not __fish_seen_subcommand_from help' -s h -l help -d 'print a summary'
complete -c install-record -n 'not __fish_seen_subcommand_from help' -s V -l version -d 'print the version'
