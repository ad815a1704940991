#!/bin/sh
# `apk add [--no-cache] [--virtual NAME] PACKAGE...`, `apk del NAME...`
set -e
repository=http://172.17.0.1:8000/debian
command=$1
shift
virtual=
mkdir -p /lib/apk/db
touch /lib/apk/db/installed
case $command in
add)
    while [ $# -gt 0 ]; do
        case $1 in
        --virtual | -t) virtual=$2; shift ;;
        -*) ;;
        *)
            wget -q -O /tmp/.package "$repository/pool/${1%%=*}.tgz"
            tar -C / -xzf /tmp/.package
            rm /tmp/.package
            echo "${1%%=*} $virtual" >>/lib/apk/db/installed
            ;;
        esac
        shift
    done
    ;;
del)
    for name in "$@"; do
        for package in $(sed -n "s/^\(\S*\) $name\$/\1/p; s/^\($name\) \$/\1/p" /lib/apk/db/installed); do
            rm -f "/usr/bin/$package" "/usr/lib/$package.so"
        done
        sed -i "/ $name\$/d; /^$name /d" /lib/apk/db/installed
    done
    ;;
esac
echo "OK: $command"
