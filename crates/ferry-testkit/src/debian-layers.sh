# Makes the layers of a Debian image in $1: base.tar (debootstrap), web.tar (a web server from apt),
# odds.tar (what layers may hold: whiteouts, an opaque folder, hard links, xattrs, a device, setuid).
# Runs as root in a mount namespace of its own. Upper folders become layers with OCI whiteouts.
set -eu
cd "$1"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 'Component: main' |
    sed -n 's/^bookworm //p' | head -n 1)
rm -rf base web odds work merged web.tar odds.tar base.tar done
debootstrap --variant=minbase bookworm base "${mirror:-http://deb.debian.org/debian}"
rm -rf base/var/cache/apt/*.bin base/var/cache/apt/archives/*.deb base/var/lib/apt/lists/* base/var/log/*

# Overlay's own marks to OCI's: character device 0/0 -> .wh.NAME, opaque xattr -> .wh..wh..opq
oci_marks() {
    find "$1" -type c | while read -r path; do
        if [ "$(stat -c '%t:%T' "$path")" = 0:0 ]; then
            rm "$path"
            : >"$(dirname "$path")/.wh.$(basename "$path")"
        fi
    done
    find "$1" -type d | while read -r path; do
        if [ "$(getfattr --only-values -n trusted.overlay.opaque "$path" 2>/dev/null)" = y ]; then
            setfattr -x trusted.overlay.opaque "$path"
            : >"$path/.wh..wh..opq"
        fi
    done
}

pack() {
    tar --create --file "$1.tar" --directory "$1" --sort=name --numeric-owner --format=posix \
        --pax-option=delete=atime,delete=ctime --xattrs --xattrs-include='user.*' --xattrs-include=security.capability .
}

mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/web /mnt/odds /mnt/work1 /mnt/work2 /mnt/merged
cp -a base /mnt/base

mount -t overlay overlay -o lowerdir=/mnt/base,upperdir=/mnt/web,workdir=/mnt/work1 /mnt/merged
cp /etc/resolv.conf /mnt/merged/etc/resolv.conf
mount -t proc proc /mnt/merged/proc
for file in /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf; do
    if [ -e "$file" ]; then cp "$file" "/mnt/merged/etc/apt/apt.conf.d/99host-$(basename "$file")"; fi
done
printf '#!/bin/sh\nexit 101\n' >/mnt/merged/usr/sbin/policy-rc.d
chmod 755 /mnt/merged/usr/sbin/policy-rc.d
chroot /mnt/merged apt-get update -qq
chroot /mnt/merged apt-get install -y -qq --no-install-recommends lighttpd
rm -rf /mnt/merged/var/cache/apt/*.bin /mnt/merged/var/cache/apt/archives/*.deb /mnt/merged/var/lib/apt/lists/* /mnt/merged/etc/apt/apt.conf.d/99host-* \
    /mnt/merged/usr/sbin/policy-rc.d
umount /mnt/merged/proc
echo 'it works: a real web server' >/mnt/merged/var/www/html/index.html
umount /mnt/merged
oci_marks /mnt/web

mkdir /mnt/lower2
mount -t overlay overlay -o lowerdir=/mnt/web:/mnt/base,upperdir=/mnt/odds,workdir=/mnt/work2 /mnt/merged
rm /mnt/merged/etc/issue
rm -rf /mnt/merged/usr/share/doc/lighttpd /mnt/merged/media
mkdir /mnt/merged/media
echo new >/mnt/merged/media/only
mkdir -p /mnt/merged/odds
echo linked >/mnt/merged/odds/first
ln /mnt/merged/odds/first /mnt/merged/odds/second
ln -s ../../../../etc/hostname /mnt/merged/odds/climbing
mkfifo /mnt/merged/odds/fifo
mknod /mnt/merged/odds/null c 1 3
cp /bin/busybox /mnt/merged/odds/setuid
chmod 4755 /mnt/merged/odds/setuid
setfattr -n user.colour -v blue /mnt/merged/odds/first
cp /bin/busybox /mnt/merged/odds/capable
setcap cap_net_raw+ep /mnt/merged/odds/capable
echo owned >/mnt/merged/odds/owned
chown 1234:5678 /mnt/merged/odds/owned
: >"/mnt/merged/odds/a name with spaces and ümläut"
: >"/mnt/merged/odds/$(printf 'long-%.0s' $(seq 40))name"
touch -d 2001-02-03T04:05:06 /mnt/merged/odds/owned
umount /mnt/merged
oci_marks /mnt/odds

cd /mnt
pack base
pack web
pack odds
mv base.tar web.tar odds.tar "$1"
cd "$1"
rm -rf base web odds work merged
: >done
