//! Limits, and what is used of them: `stats`, `top`, `update`, and every limit of `create`.

use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, programs};
use serde_json::{Value, json};

/// What the kernel says of a running container's cgroup, whichever version has it.
#[track_caller]
fn limit(daemon: &Daemon, container: &str, v1: &str, v2: &str) -> String {
    let line = format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}");
    daemon.run(&["exec", container, "sh", "-c", &line]).ok()
}

fn memory(daemon: &Daemon, container: &str) -> String {
    limit(daemon, container, "memory/memory.limit_in_bytes", "memory.max")
}

fn pids(daemon: &Daemon, container: &str) -> String {
    limit(daemon, container, "pids/pids.max", "pids.max")
}

fn has_v1(daemon: &Daemon, controller: &str) -> bool {
    daemon.sandbox().sh(&format!("grep -q ' cgroup .*[, ]{controller}' /proc/self/mountinfo")).code == 0
}

#[test]
fn stats_tell_what_a_container_uses() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let work =
        "dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null; cat /big >/dev/null; i=0; while :; do i=$((i+1)); done";
    let _ = daemon
        .run(&["run", "-d", "--name", "busy", "-m", "64m", "--pids-limit", "9", "busybox", "sh", "-c", work])
        .ok();
    let _ = daemon.run(&["run", "-d", "--name", "lone", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let _ = daemon.run(&["create", "--name", "idle", "busybox"]).ok();
    let stats = daemon.api("GET", "/containers/busy/stats?stream=0", None).json();
    let number =
        |pointer: &str| stats.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {stats}"));
    assert_eq!((&stats["name"], &stats["os_type"]), (&json!("/busy"), &json!("linux")));
    assert_eq!((number("/memory_stats/limit"), number("/pids_stats/limit")), (64 << 20, 9));
    assert!(number("/memory_stats/usage") > 0 && number("/pids_stats/current") >= 1);
    assert!(stats["memory_stats"]["stats"].get("inactive_file").is_some());
    assert!(number("/cpu_stats/cpu_usage/total_usage") > number("/precpu_stats/cpu_usage/total_usage"));
    assert!(number("/cpu_stats/system_cpu_usage") > number("/precpu_stats/system_cpu_usage"));
    assert!(number("/cpu_stats/online_cpus") >= 1);
    assert!(stats["networks"]["eth0"]["rx_bytes"].is_u64() && stats["networks"].as_object().unwrap().len() == 1);
    let once = daemon.api("GET", "/containers/lone/stats?stream=0&one-shot=1", None).json();
    assert!(once.get("networks").is_none() && once["preread"] == "0001-01-01T00:00:00Z", "{once}");
    let zeros = daemon.api("GET", "/containers/idle/stats?stream=0", None).json();
    assert_eq!(
        (&zeros["read"], &zeros["memory_stats"], &zeros["pids_stats"]),
        (&json!("0001-01-01T00:00:00Z"), &json!({}), &json!({}))
    );
    assert_eq!(
        zeros["cpu_stats"]["cpu_usage"],
        json!({"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0})
    );
    assert_eq!(daemon.api("GET", "/containers/nope/stats", None).status, 404);

    let table = daemon.run(&["stats", "--no-stream"]).ok();
    let titles: Vec<&str> =
        table.lines().next().unwrap().split("  ").filter(|title| !title.is_empty()).map(str::trim).collect();
    assert_eq!(titles, ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]);
    let busy = table.lines().find(|line| line.contains("busy")).unwrap();
    assert!(busy.contains("/ 64MiB") && !busy.contains(" 0.00%") && !table.contains("idle"), "{table}");
    let all =
        daemon.run(&["stats", "-a", "--no-stream", "--no-trunc", "--format", "{{.Name}} {{len .ID}} {{.PIDs}}"]).ok();
    assert!(all.lines().any(|line| line == "idle 64 0") && all.lines().any(|line| line == "lone 64 1"), "{all}");
    assert_eq!(
        daemon.run(&["stats", "--no-stream", "--format", "{{.Container}} {{.MemUsage}}", "idle"]).ok(),
        "idle 0B / 0B"
    );
    let missing = daemon.run(&["stats", "--no-stream", "idle", "nope"]);
    assert_eq!(
        (missing.fails_with(1).trim(), missing.out().as_str()),
        ("Error response from daemon: No such container: nope", "")
    );
    // The table is drawn again and again; the reader has enough of it.
    let frames = daemon.sh("ferry stats --format '{{.Name}}' | head -n 9").ok();
    assert!(
        frames.starts_with("\u{1b}[H") && frames.matches("\u{1b}[J").count() >= 2 && frames.contains("busy\u{1b}[K"),
        "{frames:?}"
    );
    if programs::need_docker_cli() {
        let docker = daemon.docker(&["stats", "--no-stream", "--format", "{{json .}}", "busy"]).ok();
        let row: Value = serde_json::from_str(&docker).unwrap();
        assert!(row["MemUsage"].as_str().unwrap().ends_with("/ 64MiB") && row["CPUPerc"] != "0.00%", "{row}");
    }
}

#[test]
fn a_stream_of_stats_ends_with_its_container() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let _ = daemon.run(&["run", "-d", "--name", "aa", "busybox", "sleep", "1000"]).ok();
    let lines: Vec<Value> = std::thread::scope(|scope| {
        let stream = scope.spawn(|| daemon.api("GET", "/containers/aa/stats", None));
        // Two readings for this one are at least two for the stream.
        let _ = daemon.run(&["stats", "--no-stream", "aa"]).ok();
        let _ = daemon.run(&["stats", "--no-stream", "aa"]).ok();
        let _ = daemon.run(&["kill", "aa"]).ok();
        let _ = daemon.run(&["stats", "--no-stream", "aa"]).ok();
        let _ = daemon.run(&["rm", "aa"]).ok();
        let body = stream.join().unwrap().body;
        body.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    });
    assert!(lines.len() >= 2, "{lines:?}");
    assert_eq!(lines[0]["preread"], "0001-01-01T00:00:00Z");
    assert_eq!((&lines[1]["preread"], &lines[1]["precpu_stats"]), (&lines[0]["read"], &lines[0]["cpu_stats"]));
    watch.end().unwrap();
}

#[test]
fn top_is_the_hosts_ps_cut_to_the_container() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "aa", "busybox", "sh", "-c", "sleep 1001 & sleep 1002; true"]).ok();
    let _ = daemon.run(&["create", "--name", "bb", "busybox"]).ok();
    let list = |args: &[&str]| daemon.run(&[&["top", "aa"], args].concat()).ok();
    crate::until("its programs to run", || {
        let listed = list(&["-o", "pid,args"]);
        listed.lines().filter(|line| line.ends_with("sleep 1001") || line.ends_with("sleep 1002")).count() == 2
    });
    let plain = list(&[]);
    assert!(plain.starts_with("UID                 PID                 PPID"), "{plain}");
    assert!(plain.contains("sleep 1001") && plain.contains("sleep 1002") && plain.lines().count() == 4, "{plain}");
    assert!(!plain.contains("ferryd"), "{plain}");
    let pid = daemon.inspect("aa", "{{.State.Pid}}");
    let chosen = list(&["-o", "pid,args"]);
    assert!(chosen.lines().any(|line| line.starts_with(&pid) && line.contains("sh -c sleep 1001")), "{chosen}");
    // `f` cannot be had together with a choice of pids.
    assert_eq!(list(&["faux"]).lines().count(), 4);
    let answer = daemon.api("GET", "/containers/aa/top?ps_args=-o%20pid", None).json();
    assert_eq!((&answer["Titles"], answer["Processes"].as_array().unwrap().len()), (&json!(["PID"]), 3));
    for (args, text) in [
        (&["aa", "-o", "uid=PID"][..], "Error response from daemon: specifying \"uid=PID\" is not allowed"),
        (&["aa", "-o", "uid"], "Error response from daemon: Couldn't find PID field in ps output"),
        (&["nope"], "Error response from daemon: No such container: nope"),
    ] {
        assert_eq!(daemon.run(&[&["top"], args].concat()).fails_with(1).trim(), text);
    }
    let stopped = daemon.run(&["top", "bb"]).fails_with(1);
    assert!(stopped.trim().ends_with("is not running"), "{stopped}");
    let bad = daemon.run(&["top", "aa", "--no-such"]).fails_with(1);
    assert!(bad.starts_with("Error response from daemon: ps: "), "{bad}");
    assert!(
        daemon
            .run(&["events", "--since", "10m", "--until", "-1s", "--filter", "event=top", "--format", "{{.Actor.ID}}"])
            .ok()
            .lines()
            .count()
            >= 3
    );
}

#[test]
fn limits_of_a_running_container_change_at_once() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let run = [
        "run",
        "-d",
        "--name",
        "aa",
        "-m",
        "32m",
        "--memory-swap",
        "64m",
        "--pids-limit",
        "20",
        "busybox",
        "sleep",
        "1000",
    ];
    let _ = daemon.run(&run).ok();
    let before: Value = serde_json::from_str(&daemon.inspect("aa", "{{json .HostConfig}}")).unwrap();
    assert_eq!(
        daemon.run(&["update", "-m", "48m", "--pids-limit", "30", "--restart", "on-failure:3", "aa"]).ok(),
        "aa"
    );
    assert_eq!((memory(&daemon, "aa").as_str(), pids(&daemon, "aa").as_str()), ("50331648", "30"));
    // Up beyond the old sum of memory and swap, and down again: the kernel wants another order each time.
    let _ = daemon.run(&["update", "-m", "128m", "--memory-swap", "256m", "aa"]).ok();
    assert_eq!(memory(&daemon, "aa"), "134217728");
    let _ = daemon.run(&["update", "-m", "16m", "--memory-swap", "32m", "--memory-reservation", "8m", "aa"]).ok();
    assert_eq!(memory(&daemon, "aa"), "16777216");
    let _ = daemon.run(&["update", "--pids-limit", "-1", "aa"]).ok();
    assert_eq!(pids(&daemon, "aa"), "max");
    let _ =
        daemon.run(&["update", "--cpus", "0.5", "-c", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0", "aa"]).ok();
    let quota = limit(&daemon, "aa", "cpu/cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    assert_eq!(limit(&daemon, "aa", "cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    let after: Value = serde_json::from_str(&daemon.inspect("aa", "{{json .HostConfig}}")).unwrap();
    for (key, value) in [
        ("Memory", json!(16 << 20)),
        ("MemorySwap", json!(32 << 20)),
        ("MemoryReservation", json!(8 << 20)),
        ("NanoCpus", json!(500_000_000)),
        ("CpuShares", json!(512)),
        ("PidsLimit", json!(0)),
        ("RestartPolicy", json!({"Name": "on-failure", "MaximumRetryCount": 3})),
    ] {
        assert_eq!(after[key], value, "{key}");
    }
    assert_eq!(before["ShmSize"], after["ShmSize"]);
    for (args, code, text) in [
        (&["update", "aa"][..], 1, "you must provide one or more flags when using this command"),
        (&["update", "-m", "1m", "aa"], 1, "Error response from daemon: Minimum memory limit allowed is 6MB"),
        (
            &["update", "-m", "99m", "aa"],
            1,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
        (
            &["update", "--cpu-quota", "5000", "aa"],
            1,
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (&["update", "--cpuset-cpus", "999", "aa"], 1, "Requested CPUs are not available - requested 999, available: "),
        (&["update", "--restart", "sometimes", "aa"], 1, "invalid restart policy: unknown policy 'sometimes'"),
        (&["update", "-m", "32m", "nope"], 1, "Error response from daemon: No such container: nope"),
    ] {
        let said = daemon.run(args).fails_with(code);
        assert!(said.contains(text), "{args:?}: {said}");
    }
    let same: Value = serde_json::from_str(&daemon.inspect("aa", "{{json .HostConfig}}")).unwrap();
    assert_eq!(same, after, "what was refused has changed nothing");
    let updates = daemon
        .run(&["events", "--since", "10m", "--until", "-1s", "--filter", "event=update", "--format", "{{.Action}}"])
        .ok();
    assert_eq!(updates.lines().count(), 5, "{updates}");
    // Paused, stopped and started again, and over a restart of the daemon.
    let _ = daemon.run(&["pause", "aa"]).ok();
    let _ = daemon.run(&["update", "--pids-limit", "11", "aa"]).ok();
    let _ = daemon.run(&["unpause", "aa"]).ok();
    assert_eq!(pids(&daemon, "aa"), "11");
    let _ = daemon.run(&["kill", "aa"]).ok();
    let _ = daemon.run(&["update", "--pids-limit", "12", "--restart", "no", "aa"]).ok();
    daemon.kill().unwrap();
    daemon.start().unwrap();
    let _ = daemon.run(&["start", "aa"]).ok();
    assert_eq!((pids(&daemon, "aa").as_str(), memory(&daemon, "aa").as_str()), ("12", "16777216"));
    if programs::need_docker_cli() {
        assert_eq!(daemon.docker(&["update", "--memory-swap", "64m", "-m", "20m", "aa"]).ok(), "aa");
        assert_eq!(memory(&daemon, "aa"), "20971520");
    }
}

#[test]
fn a_memory_limit_below_what_is_in_use_is_refused_or_kept() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let hold = "head -c 30m /dev/zero > /dev/shm/x; echo held; sleep 1000";
    let _ = daemon
        .run(&[
            "run",
            "-d",
            "--name",
            "aa",
            "-m",
            "40m",
            "--memory-swap",
            "40m",
            "--shm-size",
            "64m",
            "busybox",
            "sh",
            "-c",
            hold,
        ])
        .ok();
    crate::until("the memory to be held", || daemon.run(&["logs", "aa"]).out().contains("held"));
    if !has_v1(&daemon, "memory") {
        // v2 takes any limit and kills to keep it.
        return;
    }
    let said = daemon.run(&["update", "-m", "8m", "--memory-swap", "8m", "aa"]).fails_with(1);
    assert!(
        said.contains("Cannot update container")
            && said.contains("unable to set memory limit to 8388608 (current usage: "),
        "{said}"
    );
    assert_eq!(daemon.inspect("aa", "{{.HostConfig.Memory}}"), "41943040");
    assert_eq!(memory(&daemon, "aa"), "41943040");
}

#[test]
fn what_a_process_is_started_with_changes_at_its_next_start() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let flags = ["run", "-d", "--name", "aa", "-p", "127.0.0.1:8101:80", "-e", "A=1", "-e", "GONE=1", "-l", "old=1"];
    let _ = daemon.run(&[&flags[..], &["busybox", "sleep", "1000"]].concat()).ok();
    let changes = [
        "update",
        "--publish-add",
        "127.0.0.1:8102:81",
        "--publish-rm",
        "80",
        "--env-add",
        "B=2",
        "--env-rm",
        "GONE",
        "--label-add",
        "new=2",
        "--label-rm",
        "old",
        "--log-opt",
        "max-size=1m",
        "aa",
    ];
    let outcome = daemon.run(&changes);
    assert_eq!(outcome.ok(), "aa");
    assert_eq!(outcome.err().trim(), "aa: at the next start: published ports, environment, log options");
    let shown = |template: &str| daemon.inspect("aa", template);
    assert_eq!(shown("{{json .Config.Labels}}"), r#"{"new":"2"}"#, "labels change at once");
    assert_eq!(daemon.run(&["port", "aa"]).ok(), "80/tcp -> 127.0.0.1:8101", "what runs is as it was");
    assert!(daemon.run(&["exec", "aa", "env"]).ok().contains("GONE=1"));
    // It waits over a restart of the daemon as well.
    daemon.kill().unwrap();
    daemon.start().unwrap();
    let _ = daemon.run(&["restart", "-t", "0", "aa"]).ok();
    assert_eq!(daemon.run(&["port", "aa"]).ok(), "81/tcp -> 127.0.0.1:8102");
    let env = daemon.run(&["exec", "aa", "env"]).ok();
    assert!(env.contains("A=1") && env.contains("B=2") && !env.contains("GONE"), "{env}");
    assert_eq!(shown("{{json .HostConfig.LogConfig.Config}}"), r#"{"max-size":"1m"}"#);
    for (args, text) in [
        (&["--publish-rm", "8080:80"][..], "invalid port: 8080:80 is not a container's port"),
        (&["--log-opt", "nope=1"], "unknown log opt 'nope' for json-file log driver"),
        (&["--env-add", "=x"], "invalid environment variable: =x"),
    ] {
        let outcome = daemon.run(&[&["update"], args, &["aa"]].concat());
        assert!(outcome.code != 0 && outcome.err().contains(text), "{args:?}: {outcome}");
    }
    let _ = daemon.run(&["kill", "aa"]).ok();
    let stopped = daemon.run(&["update", "--env-add", "C=3", "aa"]);
    assert_eq!((stopped.ok().as_str(), stopped.err().as_str()), ("aa", ""), "nothing has to be waited for");
    assert!(shown("{{json .Config.Env}}").contains("C=3"));
}

#[test]
fn limits_of_create_reach_the_kernel() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let flags = [
        "-m",
        "32m",
        "--memory-swap",
        "48m",
        "--memory-reservation",
        "16m",
        "--cpu-shares",
        "700",
        "--cpu-period",
        "50000",
        "--cpu-quota",
        "20000",
        "--cpuset-cpus",
        "0",
        "--cpuset-mems",
        "0",
        "--pids-limit",
        "33",
        "--oom-score-adj",
        "300",
        "--ulimit",
        "nofile=100:200",
    ];
    let script = "ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; sleep 1000";
    let run = daemon.run(&[&["run", "-d", "--name", "aa"], &flags[..], &["busybox", "sh", "-c", script]].concat());
    assert_eq!((run.ok().len(), run.err().as_str()), (64, ""));
    crate::until("the container to tell its limits", || daemon.run(&["logs", "aa"]).out() == "100\n200\n300\n");
    assert_eq!((memory(&daemon, "aa").as_str(), pids(&daemon, "aa").as_str()), ("33554432", "33"));
    assert_eq!(limit(&daemon, "aa", "memory/memory.soft_limit_in_bytes", "memory.low"), "16777216");
    let quota = limit(&daemon, "aa", "cpu/cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "20000" || quota == "20000 50000", "{quota}");
    assert_eq!(limit(&daemon, "aa", "cpuset/cpuset.mems", "cpuset.mems"), "0");
    if has_v1(&daemon, "memory") {
        let swappy =
            ["run", "--rm", "--memory-swappiness", "10", "-m", "32m", "--oom-kill-disable", "busybox", "sh", "-c"];
        let line = "cat /sys/fs/cgroup/memory/memory.swappiness; head -n 1 /sys/fs/cgroup/memory/memory.oom_control";
        assert_eq!(daemon.run(&[&swappy[..], &[line]].concat()).ok(), "10\noom_kill_disable 1");
    }
    let device =
        daemon.sandbox().sh("for d in /sys/block/*; do [ -b /dev/${d##*/} ] && echo /dev/${d##*/} && break; done").ok();
    if !device.is_empty() {
        let (read, write) = (format!("{device}:1mb"), format!("{device}:50"));
        let run = ["run", "--rm", "--device-read-bps", &read, "--device-write-iops", &write, "busybox", "sh", "-c"];
        let line = "cat /sys/fs/cgroup/blkio/blkio.throttle.*_device 2>/dev/null || cat /sys/fs/cgroup/io.max";
        let said = daemon.run(&[&run[..], &[line]].concat()).ok();
        assert!(said.contains("1048576") && said.contains("50"), "{said}");
    }
    let missing = daemon.run(&["run", "--rm", "--device-read-bps", "/dev/nope:1mb", "busybox", "true"]);
    assert_eq!(missing.code, 127, "{missing}");
    assert!(missing.err().contains("stat /dev/nope: no such file or directory"), "{missing}");
    let _ = daemon.run(&["rm", "-f", "aa"]).ok();
    watch.end().unwrap();
}

#[test]
fn limits_that_cannot_be_had_are_refused_or_warned_of() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    for (flags, text) in [
        (&["-m", "4m"][..], "Minimum memory limit allowed is 6MB"),
        (&["--memory-swap", "20m"], "You should always set the Memory limit when using Memoryswap limit, see usage"),
        (
            &["-m", "20m", "--memory-swap", "10m"],
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (&["--memory-reservation", "1m"], "Minimum memory reservation allowed is 6MB"),
        (&["--cpus", "9999"], "range of CPUs is from 0.01 to "),
        (&["--cpus", "1", "--cpu-quota", "5000"], "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        (
            &["--cpu-period", "10"],
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (&["--cpuset-cpus", "x"], "Invalid value x for cpuset cpus"),
        (&["--cpuset-mems", "999"], "Requested memory nodes are not available - requested 999"),
        (&["--oom-score-adj", "2000"], "Invalid value 2000, range for oom score adj is [-1000, 1000]"),
        (&["--ulimit", "nofile=99999999999"], "operation not permitted"),
        (&["--ulimit", "core=5:1"], "ulimit soft limit must be less than or equal to hard limit: 5 > 1"),
    ] {
        let outcome = daemon.run(&[&["run", "--rm"], flags, &["busybox", "true"]].concat());
        assert_eq!(outcome.code, 125, "{flags:?}: {outcome}");
        assert!(outcome.err().contains(text), "{flags:?}: {outcome}");
    }
    assert_eq!(daemon.run(&["ps", "-aq"]).ok(), "", "nothing was made");
    let info = daemon.api("GET", "/info", None).json();
    let weight = daemon.run(&["run", "--rm", "--blkio-weight", "300", "busybox", "true"]);
    let _ = weight.ok();
    let v1_without_weight =
        has_v1(&daemon, "blkio") && daemon.sandbox().sh("ls /sys/fs/cgroup/blkio/blkio.weight").code != 0;
    if v1_without_weight {
        let warning = "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.";
        assert!(weight.err().contains(warning), "{weight}");
    }
    if info["CgroupVersion"] == "2" {
        let warned = daemon.run(&["run", "--rm", "--oom-kill-disable", "busybox", "true"]);
        assert!(warned.err().contains("OomKillDisable discarded"), "{warned}");
    } else {
        let warned = daemon.run(&["run", "--rm", "--oom-kill-disable", "busybox", "true"]);
        assert!(
            warned.err().contains("OOM killer is disabled for the container, but no memory limit is set"),
            "{warned}"
        );
    }
    for key in ["MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit"] {
        assert_eq!(info[key], true, "{key}: {}", info["Warnings"]);
    }
}
