"""docker-py reads a container's processes and figures, gives it more, pauses, renames and copies."""
import io
import tarfile

import docker

client = docker.from_env(timeout=30)
limits = {"mem_limit": "64m", "memswap_limit": "128m", "pids_limit": 50}
container = client.containers.run("busybox", ["sleep", "1000"], name="life", detach=True, **limits)

top = container.top()
assert top["Titles"][:2] == ["UID", "PID"] and len(top["Processes"]) == 1, top
assert top["Processes"][0][-1] == "sleep 1000", top
chosen = container.top(ps_args="-o pid,args")
assert chosen["Titles"] == ["PID", "COMMAND"] and chosen["Processes"][0][1] == "sleep 1000", chosen

once = container.stats(stream=False)
assert once["memory_stats"]["limit"] == 64 << 20 and once["pids_stats"]["current"] >= 1, once
assert once["precpu_stats"]["cpu_usage"]["total_usage"] > 0, "the second of two readings"
assert container.stats(stream=False, one_shot=True)["precpu_stats"]["cpu_usage"]["total_usage"] == 0
stream = container.stats(decode=True)
first, second = next(stream), next(stream)
assert first["name"] == second["name"] == "/life" and first["read"] < second["read"]
stream.close()

warnings = container.update(mem_limit="96m", memswap_limit="192m", cpu_shares=512, restart_policy={"Name": "always"})["Warnings"]
assert warnings in (None, []), warnings
container.reload()
host = container.attrs["HostConfig"]
assert (host["Memory"], host["MemorySwap"], host["CpuShares"]) == (96 << 20, 192 << 20, 512), host
assert host["RestartPolicy"]["Name"] == "always"
assert container.stats(stream=False)["memory_stats"]["limit"] == 96 << 20
try:
    container.update(mem_limit="1k")
    raise SystemExit("a limit below the least was taken")
except docker.errors.APIError as error:
    assert "Minimum memory limit" in error.explanation, error

container.pause()
container.reload()
assert container.status == "paused"
container.unpause()
container.rename("lives")
assert client.containers.get("lives").id == container.id

archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w") as tar:
    entry = tarfile.TarInfo("given")
    entry.size = 5
    tar.addfile(entry, io.BytesIO(b"hello"))
assert container.put_archive("/tmp", archive.getvalue())
assert {"Path": "/tmp/given", "Kind": 1} in container.diff()
bits, stat = container.get_archive("/tmp/given", encode_stream=True)
got = tarfile.open(fileobj=io.BytesIO(b"".join(bits)))
assert got.extractfile("given").read() == b"hello" and stat["size"] == 5
exported = b"".join(container.export())
assert b"hello" in exported
image = container.commit("made", tag="one", changes=["ENV A=b"])
assert client.containers.run(image.id, ["sh", "-c", "cat /tmp/given; echo $A"], remove=True) == b"hellob\n"

container.remove(force=True)
client.images.remove("made:one")
assert client.containers.list(all=True) == []
print("done")
