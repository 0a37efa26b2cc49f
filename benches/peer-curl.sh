#!/bin/sh
# What a package would do without this program, in its shortest form: the same body, put together by a shell and posted by
# curl. It asks nobody, keeps nothing and escapes nothing. Its arguments are -f FAMILY -v VERSION -c SECONDS -t SECONDS -u URL.
family=$2 version=$4 connect=$6 timeout=$8 url=${10}
. /etc/os-release
read -r id </proc/sys/kernel/random/uuid
read -r instance </proc/sys/kernel/random/uuid
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
arch=$(uname -m)
printf '%s' "{\"reports\":[{\"id\":\"$id\",\"product_family\":\"$family\",\"instanceId\":\"$instance\",\"createTime\":\"$now\",\"metrics\":[{\"key\":\"deployment\",\"value\":\"PACKAGE\"},{\"key\":\"pillar_version\",\"value\":\"$version\"},{\"key\":\"OS\",\"value\":\"$PRETTY_NAME\"},{\"key\":\"hardware_arch\",\"value\":\"$arch $arch\"}]}]}" |
	curl --silent --connect-timeout "$connect" --max-time "$timeout" --header 'Content-Type: application/json' \
		--data-binary @- "$url"
