"""docker-py drives a container through its whole life."""
import io
import tarfile
import threading
import time

import docker
from docker.types import Healthcheck, LogConfig, Mount, Ulimit

client = docker.from_env(timeout=30)
assert client.ping()
assert client.version()["ApiVersion"]
assert client.info()["DockerRootDir"]
client.images.pull("busybox", tag="latest")


def until(what, condition):
    for _ in range(400):
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


# Made with everything that docker-py can say, and found again in what it reads.
container = client.containers.create(
    "busybox",
    ["sh", "-c", "trap 'exit 7' USR1; echo out; echo err >&2; while :; do sleep 0.1; done"],
    name="life",
    hostname="here",
    environment={"A": "1", "B": "two words"},
    labels={"k": "v"},
    working_dir="/tmp",
    user="1000:1000",
    mem_limit="64m",
    memswap_limit="128m",
    nano_cpus=500_000_000,
    pids_limit=50,
    cap_add=["NET_ADMIN"],
    cap_drop=["MKNOD"],
    security_opt=["no-new-privileges"],
    read_only=True,
    tmpfs={"/tmp": "size=4m,mode=1777"},
    volumes={"kept": {"bind": "/data", "mode": "rw"}},
    mounts=[Mount("/mnt", None, type="tmpfs")],
    extra_hosts={"a.example": "10.1.2.3"},
    dns=["9.9.9.9"],
    ports={"80/tcp": ("127.0.0.1", 18200), "81/udp": None},
    restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
    log_config=LogConfig(type=LogConfig.types.JSON, config={"max-size": "1m"}),
    ulimits=[Ulimit(name="nofile", soft=100, hard=200)],
    sysctls={"net.ipv4.ip_unprivileged_port_start": "99"},
    shm_size="8m",
    stop_signal="SIGUSR1",
    healthcheck=Healthcheck(test=["CMD-SHELL", "true"], interval=60 * 10**9),
    init=False,
    stdin_open=True,
)
assert container.status == "created"
events = client.events(decode=True, filters={"container": "life"})
container.start()
container.reload()
assert container.status == "running"
host, config = container.attrs["HostConfig"], container.attrs["Config"]
assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 128 << 20, 500_000_000, 50)
assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
assert config["Labels"] == {"k": "v"} and config["User"] == "1000:1000" and config["StopSignal"] == "SIGUSR1"
assert container.labels == {"k": "v"} and container.image.tags == ["busybox:latest"]
assert container.ports["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "18200"}], container.ports
assert next(events)["Action"] == "start"
events.close()

# What it wrote, now and while it runs.
until("both lines", lambda: len(container.logs().splitlines()) == 2)
assert container.logs(stdout=True, stderr=False) == b"out\n"
assert container.logs(stdout=False, stderr=True) == b"err\n"
assert container.logs(tail=1, timestamps=True)[:2] == b"20"
stream = container.logs(stream=True, follow=True, stderr=False)
assert next(stream).startswith(b"out")
stream.close()

# Commands in it, in every form.
assert container.exec_run("id -u").output == b"1000\n"
assert container.exec_run(["sh", "-c", "exit 4"]).exit_code == 4
assert container.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True).output == (b"o\n", b"e\n")
assert container.exec_run("env", environment={"X": "y"}).output.count(b"X=y\n") == 1
assert container.exec_run("pwd", workdir="/data").output == b"/data\n"
assert container.exec_run("id -u", user="0").output == b"0\n"
assert container.exec_run("tty", tty=True).output.strip() == b"/dev/pts/0"
assert b"".join(container.exec_run(["sh", "-c", "echo 1; echo 2"], stream=True).output) == b"1\n2\n"
code, sock = container.exec_run("cat", stdin=True, socket=True)
sock._sock.sendall(b"typed\n")
assert sock.read(64)[8:] == b"typed\n"
sock.close()
low = client.api
made = low.exec_create(container.id, ["sh", "-c", "exit 3"])
low.exec_start(made["Id"])
until("the exec to end", lambda: not low.exec_inspect(made["Id"])["Running"])
assert low.exec_inspect(made["Id"])["ExitCode"] == 3
assert container.exec_run("cat /proc/sys/net/ipv4/ip_unprivileged_port_start").output == b"99\n"
assert container.exec_run("grep a.example /etc/hosts").output == b"10.1.2.3\ta.example\n"
assert container.exec_run("touch /x").exit_code == 1

# Paused and not, renamed.
container.pause()
container.reload()
assert container.status == "paused"
container.unpause()
container.rename("renamed")
assert client.containers.get("renamed").id == container.id
container.reload()
assert container.name == "renamed"
assert [one.name for one in client.containers.list(filters={"label": "k=v"})] == ["renamed"]
assert client.containers.list(filters={"label": "k=other"}) == []

# Restarted, and asked to end with its own signal.
before = container.attrs["State"]["StartedAt"]
container.restart(timeout=20)
container.reload()
assert container.attrs["State"]["StartedAt"] != before
waited = []
waiter = threading.Thread(target=lambda: waited.append(container.wait()))
waiter.start()
until("it to be ready", lambda: container.logs().count(b"out\n") == 2)
container.stop(timeout=20)
waiter.join()
assert waited[0]["StatusCode"] == 7, waited
container.reload()
assert container.status == "exited" and container.attrs["State"]["ExitCode"] == 7
container.remove(v=True)
client.volumes.get("kept").remove()

# Files in and out, what has changed, and an image of that.
box = client.containers.run("busybox", ["sleep", "1000"], detach=True, name="box")
bytes_in = io.BytesIO()
with tarfile.open(fileobj=bytes_in, mode="w") as archive:
    info = tarfile.TarInfo("put")
    info.size = 4
    archive.addfile(info, io.BytesIO(b"kept"))
assert box.put_archive("/tmp", bytes_in.getvalue())
assert box.exec_run("cat /tmp/put").output == b"kept"
chunks, stat = box.get_archive("/tmp/put")
assert stat["name"] == "put" and stat["size"] == 4, stat
with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
    assert archive.extractfile("put").read() == b"kept"
assert {"Path": "/tmp/put", "Kind": 1} in box.diff(), box.diff()
with tarfile.open(fileobj=io.BytesIO(b"".join(box.export()))) as archive:
    assert archive.extractfile("tmp/put").read() == b"kept"
image = box.commit("committed", tag="1", changes=["ENV MADE=yes", 'CMD ["cat", "/tmp/put"]'])
assert "committed:1" in image.tags
assert client.containers.run("committed:1", remove=True) == b"kept"
box.kill()
assert box.wait()["StatusCode"] == 137
box.remove()
client.images.remove("committed:1")

# Attached: what it says as it says it, and what is typed.
typed = client.containers.create("busybox", ["sh", "-c", "read line; echo got $line"], stdin_open=True)
sock = typed.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
typed.start()
sock._sock.sendall(b"this\n")
assert sock.read(64)[8:] == b"got this\n"
sock.close()
typed.wait()
assert typed.attach(logs=True, stream=False) == b"got this\n"
typed.remove()

# What is refused, in the types of docker-py.
try:
    client.containers.run("busybox", ["sh", "-c", "echo why >&2; exit 3"], remove=True)
    raise SystemExit("an exit code of 3 was not told")
except docker.errors.ContainerError as error:
    assert error.exit_status == 3 and error.stderr == b"why\n"
for call in (lambda: client.containers.get("nosuch"), lambda: client.images.get("nosuch")):
    try:
        call()
        raise SystemExit("what is not there was found")
    except docker.errors.NotFound:
        pass
try:
    client.containers.create("busybox", name="bad/name")
    raise SystemExit("a bad name was taken")
except docker.errors.APIError as error:
    assert error.status_code == 400
left = client.containers.create("busybox", name="left")
pruned = client.containers.prune()
assert pruned["ContainersDeleted"] == [left.id] and client.containers.list(all=True) == []
print("done")
