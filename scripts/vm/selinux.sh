# Runs in a second boot of the virtual machine, below a shell that is its first process, with SELinux in place of AppArmor and no systemd: labels of
# containers under a policy of our own (selinux.cil), which the kernel enforces.
export PATH=/payload/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
cd /
. /payload/checks.sh

label_of() { tr -d '\0' <"/proc/$1/attr/current"; }
label_of_container() { label_of "$(ferry inspect -f '{{.State.Pid}}' "$1")"; }
# lgetxattr, whose number is 192; its arguments have to be variables.
label_of_file() { perl -e '($path, $name, $label) = (@ARGV, "\0" x 256); print substr($label, 0, syscall(192, $path, $name, $label, 256))' "$1" security.selinux | tr -d '\0'; }
own=system_u:system_r:base_t:s0

no_policy_yet() {
    is "$(label_of self)" kernel || return 1
    start_daemon --selinux-enabled || return 1
    grep 'could not enable SELinux' /var/log/ferryd.log || { cat /var/log/ferryd.log; return 1; }
    ! ferry info | grep selinux || return 1
    ferry load -q -i /payload/busybox.tar || return 1
    is "$(ferry run --rm busybox cat /proc/self/attr/current | tr -d '\0')" kernel && is "$(ferry inspect -f '{{.ProcessLabel}}' "$(ferry create busybox)")" ''
}

stop_daemon() {
    kill "$(cat /run/ferryd-of-test)" && until_true 20 sh -c "! kill -0 $(cat /run/ferryd-of-test)"
}

policy_is_enforced() {
    stop_daemon || return 1
    dd if=/payload/policy of=/sys/fs/selinux/load bs=16M || return 1
    echo 1 >/sys/fs/selinux/enforce || return 1
    is "$(label_of self)" $own || return 1
    mkdir -p /etc/selinux/ours/contexts && echo SELINUXTYPE=ours >/etc/selinux/config || return 1
    printf '%s\n' 'process = "system_u:system_r:container_t:s0"' 'file = "system_u:object_r:container_file_t:s0"' \
        'ro_file = "system_u:object_r:container_ro_file_t:s0"' >/etc/selinux/ours/contexts/lxc_contexts || return 1
    start_daemon --selinux-enabled || return 1
    ferry info | grep selinux
}

containers_are_labelled() {
    for name in one two; do
        ferry run -d --name $name --init --tmpfs /memory -v stock:/stock busybox sleep 1000 || return 1
    done
    one=$(label_of_container one) two=$(label_of_container two)
    echo "$one" | grep -qE '^system_u:system_r:container_t:s0:c[0-9]+,c[0-9]+$' || { echo "one has '$one'"; return 1; }
    [ "$one" != "$two" ] || { echo "both have '$one'"; return 1; }
    is "$(ferry inspect -f '{{.ProcessLabel}}' one)" "$one" || return 1
    is "$(ferry exec one cat /proc/self/attr/current | tr -d '\0')" "$one" || return 1
    is "$(ferry exec --privileged -u 1:1 one cat /proc/self/attr/current | tr -d '\0')" "$one" || return 1
    mount=$(ferry inspect -f '{{.MountLabel}}' one)
    is "$mount" "system_u:object_r:container_file_t:${one#system_u:system_r:container_t:}" || return 1
    for place in / /memory /dev /dev/shm /dev/pts /proc/acpi; do
        ferry exec one grep " $place .*context=\"*$mount" /proc/mounts || { ferry exec one cat /proc/mounts; return 1; }
    done
    root=/proc/$(ferry inspect -f '{{.State.Pid}}' one)/root
    is "$(label_of_file "$root/dev/mqueue")" "$mount" && is "$(label_of_file "$root/etc/hosts")" "$mount" || return 1
    is "$(label_of_file "$root/stock")" system_u:object_r:container_file_t:s0
}

sources_are_relabelled() {
    mkdir -p /srv/private/below /srv/shared && echo secret | tee /srv/private/below/file >/srv/shared/file && ln -s /etc/passwd /srv/private/link || return 1
    before=$(label_of_file /etc/passwd)
    ferry run -d --name owner -v /srv/private:/private:Z -v /srv/shared:/shared:z busybox sleep 1000 || return 1
    mount=$(ferry inspect -f '{{.MountLabel}}' owner)
    is "$(label_of_file /srv/private/below/file)" "$mount" && is "$(label_of_file /srv/private)" "$mount" || return 1
    is "$(label_of_file /srv/shared/file)" system_u:object_r:container_file_t:s0 && is "$(label_of_file /etc/passwd)" "$before" || return 1
    is "$(ferry exec owner cat /private/below/file)" secret || return 1
    is "$(ferry run --rm -v /srv/shared:/shared busybox cat /shared/file)" secret || return 1
    ferry run --rm -v /srv/private:/private busybox cat /private/below/file >/run/other 2>&1
    grep 'Permission denied' /run/other || { cat /run/other; return 1; }
    ferry run --rm -v /usr:/host:z busybox true >/run/other 2>&1
    grep "error setting label on mount source '/usr': SELinux relabeling of /usr is not allowed" /run/other || { cat /run/other; return 1; }
    ferry rm -f owner
}

options_choose_the_label() {
    label() { ferry run --rm "$@" busybox cat /proc/self/attr/current | tr -d '\0'; }
    is "$(label --security-opt label=disable)" $own && is "$(label --privileged)" $own && is "$(label --pid host)" $own || return 1
    is "$(label --security-opt label=type:other_t --security-opt label=level:s0:c1,c2)" system_u:system_r:other_t:s0:c1,c2 || return 1
    is "$(label --pid container:one)" "$(label_of_container one)" || return 1
    is "$(label --ipc host --security-opt label=level:s0:c4)" system_u:system_r:container_t:s0:c4 || return 1
    ferry run --rm --security-opt label=colour:red busybox true >/run/other 2>&1
    grep 'bad label option "colour:red"' /run/other || { cat /run/other; return 1; }
}

labels_outlive_the_daemon() {
    one=$(label_of_container one)
    kill -9 "$(cat /run/ferryd-of-test)" && until_true 10 sh -c '! FERRY_AUTOSTART=0 ferry version' || return 1
    start_daemon --selinux-enabled || return 1
    is "$(ferry exec one cat /proc/self/attr/current | tr -d '\0')" "$one" || return 1
    ferry restart -t 0 one && is "$(label_of_container one)" "$one" && is "$(ferry exec one cat /stock/../etc/hostname | wc -l)" 1
}

builds_are_labelled() {
    mkdir -p /build && echo input >/build/input && cat >/build/Dockerfile <<'END' || return 1
FROM busybox
RUN tr -d '\0' </proc/self/attr/current | grep -E '^system_u:system_r:container_t:s0:c[0-9]+,c[0-9]+$'
RUN --mount=type=cache,target=/kept --mount=type=bind,target=/context cp /context/input /kept/ && cat /kept/input >/output
END
    ferry build -q -t built /build && is "$(ferry run --rm built cat /output)" input
}

the_runtime_takes_labels() {
    mkdir -p /bundle/rootfs && cd /bundle && tar -xf /payload/busybox.tar layer.tar && tar -xf layer.tar -C rootfs && ferry-runtime spec || return 1
    sed -i 's/"terminal": true/"terminal": false/; s/^\( *\)"sh"$/\1"sleep", "1000"/; s/"noNewPrivileges"/"selinuxLabel": "system_u:system_r:container_t:s0:c7,c8", &/
        s/"linux": {/&"mountLabel": "system_u:object_r:container_file_t:s0:c7,c8",/' config.json || return 1
    ferry-runtime create labelled </dev/null >/var/log/runtime.log 2>&1 && ferry-runtime start labelled || { cat /var/log/runtime.log; return 1; }
    pid=$(ferry-runtime state labelled | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
    until_true 10 grep -q sleep "/proc/$pid/comm" || { ferry-runtime state labelled; cat /var/log/runtime.log; return 1; }
    is "$(label_of "$pid")" system_u:system_r:container_t:s0:c7,c8 || return 1
    is "$(ferry-runtime exec labelled cat /proc/self/attr/current | tr -d '\0')" system_u:system_r:container_t:s0:c7,c8 || return 1
    is "$(ferry-runtime exec --process-label system_u:system_r:other_t:s0 labelled cat /proc/self/attr/current | tr -d '\0')" system_u:system_r:other_t:s0 || return 1
    ! ferry-runtime exec --process-label system_u:system_r:none_t:s0 labelled true || return 1
    ferry-runtime delete --force labelled
}

mount -t selinuxfs none /sys/fs/selinux
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /tmp
mkdir /dev/shm && mount -t tmpfs none /dev/shm
ip link set lo up
echo "kernel $(uname -r) with SELinux"
check 'without a policy nothing is labelled' no_policy_yet
check 'a policy is enforced' policy_is_enforced
if [ "$failed" -eq 0 ]; then
    check 'containers are labelled' containers_are_labelled
    check 'z and Z relabel' sources_are_relabelled
    check 'label options' options_choose_the_label
    check 'labels outlive the daemon' labels_outlive_the_daemon
    check 'builds are labelled' builds_are_labelled
    check 'labels of the runtime' the_runtime_takes_labels
fi
tell_result
