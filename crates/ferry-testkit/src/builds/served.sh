# Makes what is served below $1: files and packages for HTTP, and a git repository. The same bytes every time.
set -eu
www=$1/www
git=$1/git
work=$1/work
mkdir -p "$www/debian/pool" "$git" "$work"
pack() { tar --sort=name --mtime=@1700000000 --owner=0 --group=0 --numeric-owner -cf - -C "$1" . | gzip -n >"$2"; }
package() {
    name=$1
    shift
    tree=$work/$name
    mkdir -p "$tree/usr/bin" "$tree/usr/lib" "$tree/usr/share/doc/$name"
    printf '#!/bin/sh\necho %s\n' "$name" >"$tree/usr/bin/$name"
    chmod 755 "$tree/usr/bin/$name"
    echo "library of $name" >"$tree/usr/lib/$name.so.1"
    ln -s "$name.so.1" "$tree/usr/lib/$name.so"
    echo "Copyright of $name" >"$tree/usr/share/doc/$name/copyright"
    pack "$tree" "$www/debian/pool/$name.tgz"
    echo "$name $name.tgz $*" >>"$www/debian/Packages"
}
package libc
package openssl libc
package curl openssl libc
package ca-certificates openssl
package nginx libc openssl
package redis libc
package postgresql libc
package build-base
package gnupg
package python3 libc
package git curl
package tini
package gosu
# A program with its bits set, for what packages bring.
mkdir -p "$work/sudo/usr/bin"
printf '#!/bin/sh\n' >"$work/sudo/usr/bin/sudo"
chmod 4755 "$work/sudo/usr/bin/sudo"
pack "$work/sudo" "$www/debian/pool/sudo.tgz"
echo "sudo sudo.tgz" >>"$www/debian/Packages"

echo "from the web" >"$www/file.txt"
printf 'FROM busybox\nRUN echo web >/web\n' >"$www/Dockerfile"
mkdir -p "$work/archive/dir"
echo inner >"$work/archive/dir/inner"
ln -s dir/inner "$work/archive/link"
pack "$work/archive" "$www/archive.tgz"
mkdir -p "$work/context"
printf 'FROM busybox\nCOPY a /b\n' >"$work/context/Dockerfile"
echo archive >"$work/context/a"
pack "$work/context" "$www/context.tar.gz"
find "$www" -exec touch -h -d @1700000000 {} +

export GIT_AUTHOR_DATE='2023-11-14T22:13:20Z' GIT_COMMITTER_DATE='2023-11-14T22:13:20Z' GIT_CONFIG_GLOBAL=/dev/null
repository=$work/repository
git init -q -b main "$repository"
cd "$repository"
git config user.name tester
git config user.email tester@example.com
mkdir -p sub
echo a >a
echo deep >sub/deep
printf 'FROM busybox\nCOPY a /b\n' >Dockerfile
printf 'FROM busybox\nCOPY deep /b\n' >sub/Dockerfile
git add .
git commit -q -m first
git tag v1
echo second >a
git commit -q -a -m second
git clone -q --bare . "$git/repo.git"
