# What the scripts inside the virtual machine share: one line per check, which the host counts.
passed=0
failed=0

# check NAME COMMAND...: passes when the command does; its output is shown when not. A pattern in /payload/only leaves out the other names.
check() {
    name=$1
    shift
    if [ -e /payload/only ] && ! echo "$name" | grep -qE -f /payload/only; then return; fi
    output=$("$@" 2>&1)
    code=$?
    if [ "$code" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok $name"
    else
        failed=$((failed + 1))
        echo "FAILED $name (exit code $code)"
        echo "$output" | sed 's/^/    /'
    fi
}

# until_true SECONDS COMMAND...: polls.
until_true() {
    left=$(($1 * 10))
    shift
    while ! "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 0.1
    done
}

is() { [ "$1" = "$2" ] || { echo "got '$1', wanted '$2'"; return 1; }; }

# start_daemon ARGUMENT...
start_daemon() {
    ferryd "$@" >>/var/log/ferryd.log 2>&1 &
    echo $! >/run/ferryd-of-test
    until_true 30 env FERRY_AUTOSTART=0 ferry version
}

tell_result() {
    if [ "$failed" -gt 0 ]; then
        echo '--- end of the log of ferryd'
        tail -n 40 /var/log/ferryd.log
    fi
    echo "RESULT $passed passed $failed failed"
    sync
}
