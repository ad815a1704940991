# Runs inside the virtual machine, from the second disk: ferry as its users have it, on pure
# cgroup v2, with systemd and AppArmor. One line per check; the host counts them.
export PATH=/payload/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /
. /payload/checks.sh

only_cgroup_v2() {
    is "$(stat -f -c %T /sys/fs/cgroup)" cgroup2fs || return 1
    ! grep -q ' cgroup ' /proc/mounts
}

systemd_is_init() { is "$(cat /proc/1/comm)" systemd; }
apparmor_is_on() { is "$(cat /sys/module/apparmor/parameters/enabled)" Y; }

runs() { is "$(ferry run --rm busybox echo hello)" hello; }
exit_code() { ferry run --rm busybox sh -c 'exit 7'; is $? 7; }
hello_world() { ferry run --rm hello-world | grep -qi hello; }

published() {
    ferry run -d --name web -p 8080:80 busybox sh -c 'mkdir /www && echo it works >/www/index.html && exec httpd -f -p 80 -h /www' || return 1
    until_true 30 curl -fsS http://127.0.0.1:8080/ || { curl -sS http://127.0.0.1:8080/; ferry logs web; nft list ruleset; return 1; }
    is "$(curl -fsS http://127.0.0.1:8080/)" 'it works' || return 1
    ip address add 198.51.100.1/32 dev lo
    is "$(curl -fsS http://198.51.100.1:8080/)" 'it works'
}

executes() { is "$(ferry exec web cat /www/index.html)" 'it works' && is "$(ferry exec web cat /proc/1/comm)" httpd; }

limits_are_set() {
    ferry run -d --name limited -m 64m --cpus 0.5 --pids-limit 33 busybox sleep 1000 || return 1
    group=/sys/fs/cgroup$(sed 's/^0:://' "/proc/$(ferry inspect -f '{{.State.Pid}}' limited)/cgroup")
    is "$(cat "$group/memory.max")" 67108864 && is "$(cat "$group/pids.max")" 33 && is "$(cat "$group/cpu.max")" '50000 100000' &&
        ferry rm -f limited
}

oom_killed() {
    ferry run --name big -m 24m --memory-swap 24m busybox sh -c 'head -c 200m /dev/zero | tail >/dev/null; exec tail /dev/zero'
    code=$?
    is "$code" 137 && is "$(ferry inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' big)" 'true 137' && ferry rm big
}

device_denied() {
    output=$(ferry run --rm busybox sh -c 'mknod /disk b 254 0 && dd if=/disk of=/dev/null count=1' 2>&1)
    echo "$output" | grep -q 'Operation not permitted' || { echo "$output"; return 1; }
    is "$(ferry run --rm busybox sh -c 'echo x >/dev/null && head -c 3 /dev/zero | wc -c')" 3
}

device_allowed_when_privileged() {
    ferry run --rm --privileged busybox sh -c 'mknod /disk b 254 0 && dd if=/disk of=/dev/null count=1'
}

# Writes numbered lines over the whole of the daemon's absence.
survives_kill() {
    ferry run -d --name lines busybox sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done' || return 1
    ferry run -d --name seven busybox sh -c 'while [ ! -e /go ]; do sleep 0.05; done; exit 7' || return 1
    pid=$(ferry inspect -f '{{.State.Pid}}' lines)
    until_true 20 sh -c 'ferry logs lines | grep -qx 5' || return 1
    seven=$(ferry inspect -f '{{.State.Pid}}' seven)
    kill -9 "$(cat /run/ferryd-of-test)"
    until_true 10 sh -c "! FERRY_AUTOSTART=0 ferry version" || return 1
    kill -0 "$pid" || { echo "the container died with the daemon"; return 1; }
    touch "/proc/$seven/root/go"
    until_true 20 sh -c "! kill -0 $seven"
    is "$(curl -fsS http://127.0.0.1:8080/)" 'it works' || return 1
    start_daemon || { echo "no new daemon"; tail /var/log/ferryd.log; return 1; }
    is "$(ferry inspect -f '{{.State.Status}} {{.State.Pid}}' lines)" "running $pid" || return 1
    is "$(ferry wait seven)" 7 || return 1
    last=$(ferry logs --tail 1 lines)
    until_true 20 sh -c "ferry logs lines | grep -qx $((last + 5))" || { echo "no new lines"; return 1; }
    ferry logs lines | awk '$1 != NR { print "line " NR " is " $1; bad = 1 } END { exit bad }' || return 1
    is "$(ferry exec lines echo alive)" alive
}

stops() {
    ferry run -d --name polite busybox sh -c 'trap "exit 5" TERM; while :; do sleep 0.1; done' || return 1
    until_true 20 ferry exec polite true
    sleep 1
    ferry stop polite && is "$(ferry inspect -f '{{.State.ExitCode}}' polite)" 5
}

profile_of() { ferry run --rm "$@" busybox cat /proc/self/attr/current | tr -d '\0'; }

confined() {
    is "$(profile_of)" 'ferry-default (enforce)' && is "$(profile_of --security-opt apparmor=docker-default)" 'ferry-default (enforce)' &&
        is "$(profile_of --security-opt apparmor=unconfined)" unconfined && is "$(profile_of --privileged)" unconfined || return 1
    ferry run -d --name profiled busybox sleep 1000 || return 1
    is "$(ferry inspect -f '{{.AppArmorProfile}}' profiled)" docker-default || return 1
    is "$(profile_of --pid container:profiled)" 'ferry-default (enforce)' || return 1
    is "$(ferry exec profiled cat /proc/self/attr/current | tr -d '\0')" 'ferry-default (enforce)' && ferry rm -f profiled
}

# With every other means allowed, only the profile is left to refuse a mount and a write.
profile_denies() {
    try() { ferry run --rm --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt systempaths=unconfined "$@"; }
    try --security-opt apparmor=unconfined busybox mount -t tmpfs none /tmp || return 1
    ! try busybox mount -t tmpfs none /tmp || { echo 'a mount was not denied'; return 1; }
    ! try busybox sh -c 'echo h >/proc/sysrq-trigger' || { echo 'sysrq was not denied'; return 1; }
    ! ferry run --rm --security-opt apparmor=no-such-profile busybox true || { echo 'a missing profile was forgotten'; return 1; }
}

bundle() {
    mkdir -p /bundle/rootfs && cd /bundle && tar -xf /payload/busybox.tar layer.tar && tar -xf layer.tar -C rootfs && ferry-runtime spec &&
        sed -i 's/"terminal": true/"terminal": false/; s/^\( *\)"sh"$/\1"sleep", "1000"/' config.json
}

systemd_makes_the_cgroup() {
    bundle || return 1
    run="ferry-runtime --systemd-cgroup"
    $run run -d --bundle /bundle unit </dev/null >/var/log/unit.log 2>&1 || { cat /var/log/unit.log; return 1; }
    pid=$($run state unit | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
    is "$(cat "/proc/$pid/cgroup")" '0::/system.slice/ferry-unit.scope' || return 1
    is "$(systemctl show -P ActiveState ferry-unit.scope)" active && is "$(systemctl show -P Delegate ferry-unit.scope)" yes || return 1
    $run update --memory 64m --pids-limit 40 --cpu-quota 50000 unit || return 1
    systemctl daemon-reload
    group=/sys/fs/cgroup/system.slice/ferry-unit.scope
    is "$(cat $group/memory.max)" 67108864 && is "$(cat $group/pids.max)" 40 && is "$(cat $group/cpu.max)" '50000 100000' || return 1
    is "$(systemctl show -P MemoryMax ferry-unit.scope)" 67108864 && is "$(systemctl show -P TasksMax ferry-unit.scope)" 40 || return 1
    $run exec unit true && $run delete --force unit || return 1
    until_true 10 sh -c '! systemctl is-active --quiet ferry-unit.scope' || return 1
    [ ! -e $group ]
}

# The units as they are shipped; a client's first word starts the daemon, whose end is no container's.
activated() {
    groupadd -f docker && ln -sf /payload/bin/ferryd /usr/bin/ferryd && cp /payload/packaging/ferry.* /etc/systemd/system/ || return 1
    systemctl daemon-reload && systemctl start ferry.socket || return 1
    is "$(systemctl is-active ferry.service)" inactive || return 1
    is "$(stat -c '%a %G' /run/ferry.sock)" '660 docker' || return 1
    is "$(curl -sS --max-time 60 --unix-socket /run/ferry.sock http://d/_ping)" OK || { journalctl -u ferry.service | tail; return 1; }
    is "$(systemctl is-active ferry.service)" active || return 1
    ferry run -d --name lasting busybox sleep 1000 || return 1
    pid=$(ferry inspect -f '{{.State.Pid}}' lasting)
    systemctl reload ferry.service && systemctl restart ferry.service || return 1
    is "$(ferry inspect -f '{{.State.Status}} {{.State.Pid}}' lasting)" "running $pid" || return 1
    systemctl stop ferry.service ferry.socket || return 1
    kill -0 "$pid" || { echo 'the container went with the daemon'; return 1; }
    systemctl start ferry.socket && is "$(ferry exec lasting echo alive)" alive && ferry rm -f lasting && systemctl stop ferry.service ferry.socket
}

nothing_left() {
    ferry ps -aq | xargs -r ferry rm -f || return 1
    until_true 10 sh -c '! ip -o link | grep -q "master ferry0"' || { ip -o link; return 1; }
    until_true 10 sh -c '! find /sys/fs/cgroup -type d | grep -qE "/[0-9a-f]{64}$"' || { find /sys/fs/cgroup -type d | grep ferry; return 1; }
    until_true 10 sh -c '! grep -q " overlay " /proc/mounts' || { grep overlay /proc/mounts; return 1; }
}

ends_on_term() {
    daemon=$(cat /run/ferryd-of-test)
    kill "$daemon" && until_true 20 sh -c "! kill -0 $daemon"
}

echo "kernel $(uname -r)"
check 'cgroup v2 only' only_cgroup_v2
check 'systemd is the first process' systemd_is_init
check 'AppArmor is on' apparmor_is_on
check 'ferryd starts' start_daemon
# Without a daemon every other check would only wait for its limit.
if [ "$failed" -eq 0 ]; then
    check 'load' ferry load -q -i /payload/busybox.tar
    check 'run' runs
    check 'exit code' exit_code
    check 'hello-world' hello_world
    check 'published port' published
    check 'exec' executes
    check 'limits' limits_are_set
    check 'memory limit ends in OOMKilled' oom_killed
    check 'denied device' device_denied
    check 'privileged device' device_allowed_when_privileged
    check 'kill -9 of ferryd' survives_kill
    check 'stop' stops
    check 'AppArmor profile' confined
    check 'AppArmor profile denies' profile_denies
    check 'cgroup of systemd' systemd_makes_the_cgroup
    check 'nothing is left' nothing_left
    check 'SIGTERM' ends_on_term
    check 'units and socket activation' activated
fi
tell_result
