# Runs as the first process of a sandbox; $1 names its cgroup, fd 0 is held open by the test.
# Stage "outer" still sees the host: it makes and joins the cgroup, then enters new namespaces.
# Stage "inner" is pid 1 of the new PID namespace: it mounts what belongs to the sandbox, says
# "ready" and reaps orphans until fd 0 closes; then the kernel kills everything inside.
set -eu
stage=$1
name=$2

join_v1() {
    for hierarchy in /sys/fs/cgroup/*/; do
        [ -e "$hierarchy/tasks" ] || continue
        own=$(sed -n "s|^[0-9]*:\(.*,\)\{0,1\}\(name=\)\{0,1\}$(basename "$hierarchy")\(,.*\)\{0,1\}:||p" /proc/self/cgroup | head -n 1)
        group="$hierarchy${own#/}/$name"
        mkdir -p "$group"
        for file in cpuset.cpus cpuset.mems; do
            if [ -e "$group/$file" ]; then cat "$group/../$file" >"$group/$file"; fi
        done
        echo 0 >"$group/tasks"
    done
}

join_v2() {
    base=$1
    own=$(sed -n 's|^0::||p' /proc/self/cgroup)
    mkdir -p "$base$own/$name"
    echo 0 >"$base$own/$name/cgroup.procs"
}

mount_cgroups() {
    if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        # cgroup v2 lets no process sit beside children with controllers.
        mkdir /sys/fs/cgroup/init
        echo 0 >/sys/fs/cgroup/init/cgroup.procs
        for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
            echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || true
        done
        return
    fi
    hierarchies=$(sed -n 's|^[0-9]*:\([^:]*\):.*|\1|p' /proc/self/cgroup)
    mount -t tmpfs -o mode=755,size=64k tmpfs /sys/fs/cgroup
    for hierarchy in $hierarchies; do
        folder=/sys/fs/cgroup/${hierarchy#name=}
        mkdir "$folder"
        case $hierarchy in
        name=*) mount -t cgroup -o "none,$hierarchy" cgroup "$folder" ;;
        *) mount -t cgroup -o "$hierarchy" cgroup "$folder" ;;
        esac
    done
    mkdir /sys/fs/cgroup/unified
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified 2>/dev/null || rmdir /sys/fs/cgroup/unified
}

case $stage in
outer)
    if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
        join_v2 /sys/fs/cgroup
    else
        join_v1
        if [ -e /sys/fs/cgroup/unified/cgroup.procs ]; then join_v2 /sys/fs/cgroup/unified; fi
    fi
    exec unshare --mount --net --ipc --uts --cgroup --pid --fork --kill-child --propagation private \
        sh "$0" inner "$name" "$3"
    ;;
inner)
    hostname sandbox
    mount -t proc -o nosuid,nodev,noexec proc /proc
    mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
    mount_cgroups
    # Everything that a daemon keeps by default, and what tests share, is the sandbox's own.
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/lock /var/lib/ferry
    mkdir "$3/default-root"
    mount --bind "$3/default-root" /var/lib/ferry
    ip link set lo up
    # A dummy of an uplink: a default route and an address that is not loopback.
    ip link add uplink type veth peer name outside
    ip link set uplink up
    ip link set outside up
    ip address add 192.0.2.2/24 dev uplink
    ip route add default via 192.0.2.1
    echo ready
    exec 3<&0
    cat <&3 >/dev/null &
    wait $!
    ;;
esac
