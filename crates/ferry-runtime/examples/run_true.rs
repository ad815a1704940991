//! Times `run` of a tiny program in a container with Docker's defaults: `run_true ROOTFS PROGRAM [COUNT]`.
//!
//! Prints the median microseconds, and in parentheses that of the quietest fifth, until the exec, until the end of the program, and of the removal of the cgroups, and the same for `exec`.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use ferry_runtime::{CreateOptions, ExecTarget, Rootfs, Stdio};
use ferry_spec::runtime::{
    Capabilities, Linux, LinuxNamespace, LinuxNamespaceKind, LinuxResources, Process, Spec, defaults,
};

type Failure = Box<dyn std::error::Error>;

fn spec(program: &[&str], network: bool) -> Spec {
    use LinuxNamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let names = defaults::capabilities();
    let mut namespaces = vec![Pid, Ipc, Uts, Mount, Cgroup];
    if network {
        namespaces.push(Network);
    }
    Spec {
        process: Some(Process {
            args: program.iter().map(|&word| word.into()).collect(),
            env: vec![format!("PATH={}", defaults::PATH)],
            cwd: "/".into(),
            capabilities: Some(Capabilities {
                bounding: names.clone(),
                effective: names.clone(),
                permitted: names.clone(),
                ..Capabilities::default()
            }),
            user: ferry_spec::runtime::User { username: Some(String::new()), ..Default::default() },
            ..Process::default()
        }),
        hostname: Some("bench".into()),
        mounts: defaults::mounts(),
        linux: Some(Linux {
            resources: Some(LinuxResources { devices: defaults::device_rules(), ..LinuxResources::default() }),
            namespaces: namespaces.into_iter().map(LinuxNamespace::new).collect(),
            seccomp: Some(defaults::seccomp_profile(&names)),
            masked_paths: defaults::masked_paths(),
            readonly_paths: defaults::readonly_paths(),
            // As Docker's engine sets them.
            sysctl: [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")]
                .iter()
                .filter(|_| network)
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            cgroups_path: Some(format!("/ferry-bench-{}", std::process::id())),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

fn stdio() -> Result<Stdio, Failure> {
    let null = || Ok::<OwnedFd, Failure>(std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into());
    Ok(Stdio::Fds { stdin: null()?, stdout: null()?, stderr: null()? })
}

/// Median, and median of the quietest fifth: what other work on the machine does not disturb.
fn median(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    format!("{} ({})", times[times.len() / 2].as_micros(), times[times.len() / 10].as_micros())
}

fn options(rootfs: &Path, program: &[&str], network: bool, cache: &Path) -> Result<CreateOptions, Failure> {
    let mut options = CreateOptions::new("bench", spec(program, network), Rootfs::Path(rootfs.into()), stdio()?);
    options.seccomp_cache_dir = Some(cache.into());
    Ok(options)
}

fn measure(rootfs: &Path, program: &str, count: usize, network: bool, cache: &Path) -> Result<String, Failure> {
    let (mut started, mut ended, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let options = options(rootfs, &[program], network, cache)?;
        let begin = Instant::now();
        let container = ferry_runtime::run(options)?;
        started.push(begin.elapsed());
        ferry_sys::process::wait(container.pid())?;
        ended.push(begin.elapsed());
        let begin = Instant::now();
        container.cgroup().remove()?;
        removed.push(begin.elapsed());
    }
    Ok(format!("exec {} us, end {} us, cgroups removed in {} us", median(started), median(ended), median(removed)))
}

fn measure_exec(rootfs: &Path, program: &str, count: usize, cache: &Path) -> Result<String, Failure> {
    let options = options(rootfs, &["/bin/sleep", "1000"], false, cache)?;
    let spec = options.spec.clone();
    let container = ferry_runtime::run(options)?;
    let target = ExecTarget::from_container(&container, &spec)?;
    let process = Process { args: vec![program.into()], ..spec.process.unwrap_or_default() };
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let stdio = stdio()?;
        let begin = Instant::now();
        let made = ferry_runtime::exec(&target, &process, stdio)?;
        started.push(begin.elapsed());
        ferry_sys::process::wait(made.pid)?;
        ended.push(begin.elapsed());
    }
    container.cgroup().signal_all(9)?;
    ferry_sys::process::wait(container.pid())?;
    container.cgroup().remove()?;
    Ok(format!("exec {} us, end {} us", median(started), median(ended)))
}

#[expect(clippy::print_stdout, reason = "the measurement is what this program is for")]
fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, rootfs, program, rest @ ..] = arguments.as_slice() else {
        return Err("usage: run_true ROOTFS PROGRAM [COUNT]".into());
    };
    let count = rest.first().map_or(Ok(100), |count| count.parse())?;
    let cache = std::env::temp_dir().join(format!("ferry-bench-{}", std::process::id()));
    std::fs::create_dir_all(&cache)?;
    let rootfs = Path::new(rootfs);
    println!("host network: {}", measure(rootfs, program, count, false, &cache)?);
    println!("new network:  {}", measure(rootfs, program, count, true, &cache)?);
    println!("in a running container: {}", measure_exec(rootfs, program, count, &cache)?);
    std::fs::remove_dir_all(&cache)?;
    Ok(())
}
