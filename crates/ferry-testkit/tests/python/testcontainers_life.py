"""Python's testcontainers drives a container through its whole life."""
import os
import urllib.request

os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
os.environ["TESTCONTAINERS_HOST_OVERRIDE"] = "127.0.0.1"

from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.wait_strategies import HealthcheckWaitStrategy, LogMessageWaitStrategy, PortWaitStrategy

serve = "mkdir /www; cp /given /www/index.html; echo begun; exec httpd -f -p 80 -h /www"
server = (
    DockerContainer("busybox:latest")
    .with_command(["sh", "-c", serve])
    .with_env("COLOUR", "blue")
    .with_exposed_ports(80)
    .with_tmpfs_mount("/scratch", "size=4m")
    .with_copy_into_container(b"served", "/given")
    .with_kwargs(labels={"k": "v"}, healthcheck={"test": ["CMD", "true"], "interval": 200_000_000})
    .waiting_for(LogMessageWaitStrategy("begun"))
)
with server:
    PortWaitStrategy(80).wait_until_ready(server)
    HealthcheckWaitStrategy().wait_until_ready(server)
    address = f"http://{server.get_container_host_ip()}:{server.get_exposed_port(80)}/index.html"
    assert urllib.request.urlopen(address, timeout=10).read() == b"served"
    ran = server.exec(["sh", "-c", "echo $COLOUR; exit 3"])
    assert (ran.exit_code, ran.output) == (3, b"blue\n"), ran
    stdout, stderr = server.get_logs()
    assert (stdout, stderr) == (b"begun\n", b""), (stdout, stderr)
    server.reload()
    assert server.status == "running"
    assert server.get_wrapped_container().labels["k"] == "v"
    assert server.get_wrapped_container().labels["org.testcontainers.lang"] == "python"
    inner = server.get_container_id()

client = DockerClient().client
assert inner not in [one.id for one in client.containers.list(all=True)], "it is gone with its block"

once = DockerContainer("busybox:latest").with_command("sh -c 'exit 5'")
once.start()
assert once.wait() == 5
once.stop()
assert client.containers.list(all=True) == []
print("done")
