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

# The kernel lists the connection as one to the container itself.
short_way() {
    set -- $(ferry inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web | tr . ' ')
    place=$(printf '%02X%02X%02X%02X:0050 01' "$4" "$3" "$2" "$1")
    for address in 127.0.0.1 198.51.100.1 ::1 ::ffff:127.0.0.1; do
        listed=$(perl -MSocket=:all -e '$six = $ARGV[0] =~ /:/; socket(S, $six ? PF_INET6 : PF_INET, SOCK_STREAM, 0);
            connect(S, $six ? pack_sockaddr_in6(8080, inet_pton(AF_INET6, $ARGV[0])) : sockaddr_in(8080, inet_aton($ARGV[0]))) or die $!;
            ($n, $i) = $six ? unpack_sockaddr_in6(getpeername(S)) : sockaddr_in(getpeername(S));
            print inet_ntop($six ? AF_INET6 : AF_INET, $i), "\n"; $inode = (stat(S))[1];
            for $list ("tcp", "tcp6") { open(T, "/proc/net/$list"); print grep(/ 01 .* $inode /, <T>) }' $address) || return 1
        case $listed in
        "$address
"*"$place"*) ;;
        *) echo "$place is not in $listed" && return 1 ;;
        esac
    done
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

# Figures of `stats` on v2: half a processor, what lies in its memory, its one process.
stats_are_true() {
    ferry run -d --name busy -m 96m --cpus 0.5 --shm-size 32m busybox sh -c 'dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2>/dev/null; echo go; while :; do :; done' || return 1
    until_true 30 sh -c 'ferry logs busy | grep -q go' || return 1
    group=/sys/fs/cgroup$(sed 's/^0:://' "/proc/$(ferry inspect -f '{{.State.Pid}}' busy)/cgroup")
    set -- $(ferry stats --no-stream --format '{{.CPUPerc}} {{.MemUsage}} {{.PIDs}}' busy)
    echo "$*"
    [ "${1%%.*}" -ge 25 ] && [ "${1%%.*}" -le 75 ] || return 1
    case $2 in *MiB) [ "$(echo "${2%MiB}" | cut -d . -f 1)" -ge 20 ] || return 1 ;; *) return 1 ;; esac
    is "$4" 96MiB && is "$5" 1 || return 1
    [ "$(cat "$group/memory.current")" -ge 20971520 ] && ferry rm -f busy
}

# Kernels of distributions have `netem`, as a module that nobody has loaded yet.
delayed_and_lost() {
    ferry run -d --name late --net-delay 400ms --net-out 1mbit busybox sleep 1000 || return 1
    gateway=$(ferry exec late ip route | sed -n 's/default via \([^ ]*\).*/\1/p')
    took=$(ferry exec late ping -c 3 -w 30 "$gateway" | sed -n 's/.*min\/avg\/max = \([0-9]*\)\..*/\1/p')
    [ "$took" -ge 400 ] || { echo "round trip of '$took' ms"; tc qdisc; return 1; }
    ferry update --net-delay none --net-loss 100% late || return 1
    is "$(ferry inspect -f '{{.HostConfig.NetLoss}}' late)" 1000000 || return 1
    ! ferry exec late ping -c 2 -w 3 "$gateway" || return 1
    ferry update --net-loss none --net-in 2mbit late && ferry exec late ping -c 1 -w 10 "$gateway" || return 1
    ! tc qdisc | grep -q netem && ferry rm -f late && until_true 10 sh -c '! ip -o link | grep -q ": fi"'
}

# Only kernels of distributions have ipvlan.
ipvlan_networks() {
    pings() { ferry exec "$1" ping -c 1 -w 10 "$2" >/dev/null || { echo "$1 does not reach $2"; ferry exec "$1" ip route; return 1; }; }
    for parent in par0 par1; do ip link add $parent type dummy && ip link set $parent up || return 1; done
    ferry network create -d ipvlan --subnet 192.168.77.0/24 --gateway 192.168.77.1 -o parent=par0 flat || return 1
    is "$(ferry network inspect -f '{{.Driver}} {{.Options}}' flat)" 'ipvlan map[parent:par0]' || return 1
    for name in ipa ipb; do ferry run -d --name $name --network flat busybox sleep 1000 || return 1; done
    pings ipa ipb && is "$(ferry exec ipa cat /sys/class/net/eth0/address)" "$(cat /sys/class/net/par0/address)" || return 1
    ferry exec ipa ip route | grep -q 'default via 192.168.77.1 dev eth0' || { ferry exec ipa ip route; return 1; }
    is "$(ferry inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.MacAddress}}{{end}}' ipa)" '192.168.77.2 ' || return 1

    ferry network create -d ipvlan --subnet 192.168.78.0/24 --subnet 192.168.79.0/24 -o parent=par1 -o ipvlan_mode=l3 deep || return 1
    ferry run -d --name ipc --network deep --ip 192.168.78.10 busybox sleep 1000 || return 1
    ferry run -d --name ipd --network deep --ip 192.168.79.10 busybox sleep 1000 || return 1
    is "$(ferry exec ipc ip route | grep default | xargs)" 'default dev eth0 scope link' && pings ipc 192.168.79.10 && pings ipd ipc || return 1
    # A container of both.
    ferry network connect deep ipa && pings ipa ipd && ferry network disconnect deep ipa && ! ferry exec ipa ip link show eth1 || return 1

    queues() { nsenter -t "$(ferry inspect -f '{{.State.Pid}}' slow)" -n tc qdisc; }
    ferry run -d --name slow --cap-drop NET_RAW --network flat --net-out 1mbit --net-in 2mbit busybox sleep 1000 || return 1
    queues | grep -q 'rate 1Mbit' && queues | grep -q 'rate 2Mbit' && pings ipb slow || { queues; return 1; }
    ferry update --net-out 3mbit --net-in none slow && queues | grep -q 'rate 3Mbit' && ! queues | grep -q 'rate 2Mbit' && pings ipb slow || { queues; return 1; }

    said=$(ferry run --rm --network flat --mac-address 02:00:00:00:00:09 busybox true 2>&1) && return 1
    echo "$said" | grep -q 'failed to set up container networking: ipvlan interfaces do not support custom mac address assignment' || { echo "$said"; return 1; }
    said=$(ferry network create -d ipvlan -o parent=par1 -o ipvlan_mode=l9 bad 2>&1) && return 1
    is "$said" "Error response from daemon: requested ipvlan mode 'l9' is not valid, 'l2' mode is the ipvlan driver default" || return 1
    said=$(ferry network create -d ipvlan --subnet 192.168.80.0/24 -o parent=par0 again 2>&1) && return 1
    echo "$said" | grep -q 'is already using parent interface par0' || { echo "$said"; return 1; }
    ferry rm -f ipa ipb ipc ipd slow && ferry network rm flat deep && ! ip -o link | grep -q ipvlan && ip link del par0 && ip link del par1
}

# begin_other NAME OPTION...: one more daemon beside the first, spoken to by `other`.
begin_other() {
    other=$1
    shift
    ferryd --exec-root "/run/$other" -p "/run/$other.pid" -H "unix:///run/$other.sock" "$@" >>/var/log/ferryd.log 2>&1 &
    other_pid=$!
    until_true 30 env FERRY_AUTOSTART=0 ferry -H "unix:///run/$other.sock" version
}
other() { FERRY_AUTOSTART=0 ferry -H "unix:///run/$other.sock" "$@"; }
end_other() { kill "$other_pid" && until_true 20 sh -c "! kill -0 $other_pid"; }

limits_change() {
    ferry run -d --name grows -m 64m --memory-swap 64m --cpus 0.5 --pids-limit 33 busybox sleep 1000 || return 1
    group=/sys/fs/cgroup$(sed 's/^0:://' "/proc/$(ferry inspect -f '{{.State.Pid}}' grows)/cgroup")
    weight=$(cat "$group/cpu.weight")
    ferry update -m 96m --memory-swap 128m --memory-reservation 32m --cpus 1.5 --pids-limit 44 --cpu-shares 200 --cpuset-cpus 0 grows || return 1
    is "$(cat "$group/memory.max")" 100663296 && is "$(cat "$group/memory.swap.max")" 33554432 && is "$(cat "$group/memory.low")" 33554432 &&
        is "$(cat "$group/cpu.max")" '150000 100000' && is "$(cat "$group/pids.max")" 44 && is "$(cat "$group/cpuset.cpus")" 0 || return 1
    [ "$(cat "$group/cpu.weight")" -lt "$weight" ] || { echo "the weight is still $weight"; return 1; }
    ferry update --pids-limit -1 grows && is "$(cat "$group/pids.max")" max || return 1
    is "$(ferry stats --no-stream --format '{{.MemUsage}}' grows | cut -d / -f 2)" ' 96MiB' && ferry rm -f grows
}

# layer_is_limited FILE-SYSTEM DEVICE WORDS: the files of a daemon lie where the file system keeps limits of projects, and says so in its own way.
layer_is_limited() {
    mkdir -p /quota && mount -t "$1" -o prjquota "$2" /quota && begin_other quota --data-root /quota || return 1
    other load -q -i /payload/busybox.tar || return 1
    fill() { other run --rm "$@" busybox dd if=/dev/zero of=/fill bs=1M count=20; }
    said=$(other run --rm busybox true 2>&1) && is "$said" '' && fill || return 1
    said=$(fill --storage-opt size=10M 2>&1) && { echo 'a limit of 10 MB let 20 MB through'; return 1; }
    echo "$said" | grep -q "$3" || { echo "$said"; return 1; }
    # Beyond its limit it has nothing; everybody else has what there was.
    other run -d --name full --storage-opt size=10M busybox sh -c 'dd if=/dev/zero of=/fill bs=1M; echo full; exec sleep 1000' || return 1
    until_true 60 sh -c "ferry -H unix:///run/$other.sock logs full | grep -qx full" || { other logs full; return 1; }
    more() { other exec full dd if=/dev/zero of=/more bs=1M count=2; }
    ! more || { echo 'there was room beyond the limit'; return 1; }
    fill && fill --storage-opt size=40m && [ "$(df -m /quota | awk 'END { print $4 }')" -gt 50 ] || { df -m /quota; return 1; }
    is "$(other inspect -f '{{.HostConfig.StorageOpt}}' full)" 'map[size:10M]' || return 1
    other exec full rm /fill && more || return 1
    other rm -f full && end_other && umount /quota
}
ext4_layer() { truncate -s 200M /quota.img && mke2fs -q -t ext4 -O quota,project -E quotatype=prjquota /quota.img && layer_is_limited ext4 /quota.img 'Disk quota exceeded' && rm /quota.img; }
xfs_layer() { layer_is_limited xfs /dev/vdc 'No space left on device'; }

group_of() { sed 's/^0:://' "/proc/$(other inspect -f '{{.State.Pid}}' "$1")/cgroup"; }
shown() { systemctl show -P "$1" "$unit"; }

# Containers as scopes of systemd's, over every verb that touches their cgroups.
scopes() {
    echo '{"exec-opts": ["native.cgroupdriver=systemd"], "runtimes": {"foreign": {"path": "/payload/bin/ferry-runtime"}}}' >/scopes.json
    begin_other scopes --data-root /scopes --config-file /scopes.json || return 1
    is "$(other info -f '{{.CgroupDriver}} {{.CgroupVersion}}')" 'systemd 2' && other load -q -i /payload/busybox.tar || return 1
    other run -d --name held -m 64m --memory-swap 64m --cpus 0.5 --pids-limit 33 --cpuset-cpus 0 busybox sleep 1000 || return 1
    id=$(other inspect -f '{{.Id}}' held)
    path=$(group_of held)
    unit=${path##*/}
    group=/sys/fs/cgroup$path
    case $path in /system.slice/ferry-*-"$id".scope) ;; *) echo "it is in $path"; return 1 ;; esac
    is "$(shown ActiveState) $(shown Delegate) $(shown CollectMode)" 'active yes inactive-or-failed' || return 1
    is "$(shown MemoryMax) $(shown TasksMax) $(shown AllowedCPUs)" '67108864 33 0' && is "$(cat "$group/cpu.max")" '50000 100000' || return 1

    other update -m 96m --memory-swap 128m --cpus 1.5 --pids-limit 44 held && systemctl daemon-reload || return 1
    is "$(shown MemoryMax) $(shown TasksMax) $(shown CPUQuotaPerSecUSec)" '100663296 44 1.500000s' || is "$(shown MemoryMax) $(shown TasksMax) $(shown CPUQuotaPerSecUSec)" '100663296 44 1.5s' || return 1
    is "$(cat "$group/memory.max") $(cat "$group/pids.max") $(cat "$group/cpu.max") $(cat "$group/cpuset.cpus")" '100663296 44 150000 100000 0' || return 1

    other pause held && is "$(cat "$group/cgroup.freeze")" 1 && is "$(other inspect -f '{{.State.Status}}' held)" paused && other unpause held || return 1
    is "$(other stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' held | sed 's,.*/ ,,')" '96MiB 1' && other exec held true || return 1
    shim=$(awk '{ print $4 }' "/proc/$(other inspect -f '{{.State.Pid}}' held)/stat")
    case $(cat "/proc/$shim/cgroup") in 0::/system.slice/ferry-*-shims.scope) ;; *) cat "/proc/$shim/cgroup"; return 1 ;; esac

    pid=$(other inspect -f '{{.State.Pid}}' held)
    end_other && begin_other scopes --data-root /scopes --config-file /scopes.json || return 1
    is "$(other inspect -f '{{.State.Status}} {{.State.Pid}}' held)" "running $pid" && other exec held true && other update --pids-limit 55 held || return 1
    is "$(shown TasksMax) $(cat "$group/pids.max")" '55 55' || return 1
    # The next run has a scope of the same name.
    other restart -t 0 held && is "$(group_of held)" "$path" && is "$(shown TasksMax)" 55 || return 1

    other run -d --name deep --cgroup-parent vm-deep.slice busybox sleep 1000 || return 1
    case $(group_of deep) in /vm.slice/vm-deep.slice/ferry-*.scope) ;; *) group_of deep; return 1 ;; esac
    said=$(other run --rm --cgroup-parent /plain busybox true 2>&1)
    is $? 125 && echo "$said" | grep -qF 'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"' || { echo "$said"; return 1; }
    is "$(other run --rm --runtime foreign busybox cat /proc/self/cgroup)" '0::/' || return 1
    other run -d --name strange --runtime foreign --pids-limit 22 busybox sleep 1000 || return 1
    case $(group_of strange) in /system.slice/ferry-*.scope) ;; *) group_of strange; return 1 ;; esac
    is "$(cat "/sys/fs/cgroup$(group_of strange)/pids.max")" 22 || return 1

    begun=$(date +%s)
    other run --rm busybox no-such-program && return 1
    [ $(($(date +%s) - begun)) -lt 15 ] || { echo 'a failed start took its time'; return 1; }
    other run -d --name again --restart on-failure:3 busybox false || return 1
    until_true 30 sh -c "ferry -H unix:///run/scopes.sock inspect -f '{{.State.Status}} {{.RestartCount}}' again | grep -qx 'exited 3'" || { other inspect -f '{{json .State}}' again; return 1; }
    # Its parent is killed: so is what it left.
    shim=$(awk '{ print $4 }' "/proc/$(other inspect -f '{{.State.Pid}}' deep)/stat")
    kill -9 "$shim" && until_true 20 sh -c "ferry -H unix:///run/scopes.sock inspect -f '{{.State.Status}}' deep | grep -qx exited" || return 1
    # Nobody was there to see this one lose its parent.
    other start deep || return 1
    shim=$(awk '{ print $4 }' "/proc/$(other inspect -f '{{.State.Pid}}' deep)/stat")
    kill -9 "$other_pid" "$shim" && until_true 20 sh -c "! kill -0 $other_pid" && begin_other scopes --data-root /scopes --config-file /scopes.json || return 1
    is "$(other inspect -f '{{.State.Status}}' deep)" exited || return 1

    other ps -aq | xargs -r env FERRY_AUTOSTART=0 ferry -H unix:///run/scopes.sock rm -f || return 1
    until_true 20 sh -c '! systemctl list-units --all --no-legend "ferry-*.scope" | grep -v -- -shims.scope' || { systemctl list-units --all "ferry-*.scope"; return 1; }
    is "$(systemctl list-units --failed --no-legend 'ferry-*')" '' || return 1
    until_true 20 sh -c '! find /sys/fs/cgroup -name "ferry-*.scope" | grep -v -- -shims.scope' || { find /sys/fs/cgroup -name 'ferry-*.scope'; return 1; }
    end_other && until_true 20 sh -c '! find /sys/fs/cgroup -name "ferry-*.scope" | grep .'
}

# Without a driver in the configuration, who names a slice gets a scope there.
slice_by_name() {
    is "$(ferry info -f '{{.CgroupDriver}} {{.CgroupVersion}}')" 'cgroupfs 2' && ferry run -d --name sliced --cgroup-parent vm-one.slice busybox sleep 1000 || return 1
    case $(sed 's/^0:://' "/proc/$(ferry inspect -f '{{.State.Pid}}' sliced)/cgroup") in /vm.slice/vm-one.slice/ferry-*.scope) ;; *) return 1 ;; esac
    ferry rm -f sliced && until_true 20 sh -c '! systemctl list-units --all --no-legend "ferry-*.scope" | grep .'
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
    check 'short way to a published port' short_way
    check 'exec' executes
    check 'delay and loss' delayed_and_lost
    check 'ipvlan' ipvlan_networks
    check 'limits' limits_are_set
    check 'limits change while it runs' limits_change
    check 'figures of stats' stats_are_true
    check 'memory limit ends in OOMKilled' oom_killed
    check 'denied device' device_denied
    check 'privileged device' device_allowed_when_privileged
    check 'kill -9 of ferryd' survives_kill
    check 'stop' stops
    check 'AppArmor profile' confined
    check 'AppArmor profile denies' profile_denies
    check 'limited layer on ext4' ext4_layer
    check 'limited layer on XFS' xfs_layer
    check 'cgroup of systemd' systemd_makes_the_cgroup
    check 'driver systemd' scopes
    check 'slice by name' slice_by_name
    check 'nothing is left' nothing_left
    check 'SIGTERM' ends_on_term
    check 'units and socket activation' activated
fi
tell_result
