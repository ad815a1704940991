#!/bin/sh
# Fetches packages of a repository over HTTP, unpacks them and notes them, as apt-get does.
set -e
repository=$(sed -n 's/^deb \(\S*\) .*/\1/p' /etc/apt/sources.list)
lists=/var/lib/apt/lists
command=
packages=
for word in "$@"; do
    case $word in
    -*) ;;
    *) if [ -z "$command" ]; then command=$word; else packages="$packages $word"; fi ;;
    esac
done
install_one() {
    name=${1%%=*}
    if grep -qx "Package: $name" /var/lib/dpkg/status; then return; fi
    line=$(grep "^$name " "$lists/Packages" || true)
    if [ -z "$line" ]; then
        echo "E: Unable to locate package $name" >&2
        exit 100
    fi
    set -- $line
    file=$2
    shift 2
    for needed in "$@"; do (install_one "$needed"); done
    mkdir -p /var/cache/apt/archives
    wget -q -O "/var/cache/apt/archives/$file" "$repository/pool/$file"
    tar -C / -xzf "/var/cache/apt/archives/$file"
    printf 'Package: %s\nStatus: install ok installed\n\n' "$name" >>/var/lib/dpkg/status
    echo "Setting up $name ..."
}
case $command in
update)
    echo "Get:1 $repository"
    wget -q -O "$lists/Packages" "$repository/Packages"
    ;;
install)
    if [ ! -e "$lists/Packages" ]; then
        echo "E: Unable to locate package$packages" >&2
        exit 100
    fi
    for package in $packages; do install_one "$package"; done
    ;;
purge | remove)
    for package in $packages; do
        sed -i "/^Package: $package\$/,/^\$/d" /var/lib/dpkg/status
        rm -f "/usr/bin/$package"
    done
    ;;
clean) rm -rf /var/cache/apt/archives/* ;;
autoremove) ;;
*)
    echo "E: Invalid operation $command" >&2
    exit 100
    ;;
esac
