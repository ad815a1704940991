#!/usr/bin/env python3
"""Records what a Docker client does against a fake daemon, as data for the tests beside this file.

  record-oracle.py CLIENT            write data/cases-*.json with CLIENT's answers
  record-oracle.py CLIENT --check    run CLIENT on the recorded cases and show what differs

A case is a command line with the daemon's answers; recorded are exit code, both outputs and the requests that changed or
asked for something.  `@NOW-n@` in an answer stands for the unix time n seconds ago.
"""

import glob
import http.server
import json
import os
import re
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
DATA = os.path.join(HERE, "data")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def address_string(self):
        return ""

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            out = b""
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                out += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    return out
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self):
        body = self.body()
        path = re.sub(r"^/v\d+\.\d+", "", self.path)
        plain = path.split("?")[0]
        if plain != "/_ping":
            self.server.seen.append([self.command, path, body.decode("utf-8", "replace")])
        status, text = 404, json.dumps({"message": "page not found"})
        if plain == "/_ping":
            status, text = 200, "OK"
        key = "%s %s" % (self.command, plain)
        if key in self.server.answers:
            answers = self.server.answers[key]
            status, text = answers.pop(0) if len(answers) > 1 else answers[0]
            text = text if isinstance(text, str) else json.dumps(text)
        text = re.sub(r"@NOW-(\d+)@", lambda m: str(int(time.time()) - int(m.group(1))), text)
        text = text.encode()
        self.send_response(status)
        self.send_header("Api-Version", "1.48")
        self.send_header("Ostype", "linux")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(0 if status in (204, 304) else len(text)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            try:
                self.wfile.write(text)
            except BrokenPipeError:
                pass

    do_GET = do_POST = do_DELETE = do_HEAD = do_PUT = answer


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self):
        request, _ = super().get_request()
        return request, ("", 0)


def run(client, case):
    with tempfile.TemporaryDirectory() as home:
        for name, text in case.get("files", {}).items():
            with open(os.path.join(home, name), "w") as f:
                f.write(text)
        socket = os.path.join(home, "d.sock")
        server = Server(socket, Handler)
        server.seen = []
        server.answers = {key: [list(a) for a in answers] for key, answers in case.get("answers", {}).items()}
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        env = dict(PATH=os.environ["PATH"], HOME=home, DOCKER_HOST="unix://" + socket, TZ="UTC", FROM_CLIENT="client")
        env.update(case.get("env", {}))
        link = os.path.join(home, "docker")
        os.symlink(client, link)
        done = subprocess.run([link] + case["args"], env=env, cwd=home, input=case.get("stdin", "").encode(),
                              capture_output=True, timeout=20)
        server.shutdown()
        server.server_close()
        clean = lambda b: b.decode("utf-8", "replace").replace(home, "@HOME@")
        seen = [[m, p, clean(b.encode())] for m, p, b in server.seen]
        if case.get("requests") == "sorted":
            seen.sort()
        return dict(out=clean(done.stdout), err=clean(done.stderr), rc=done.returncode, seen=seen)


def prune(value):
    """Absent, null and empty mean the same in a request."""
    if isinstance(value, dict):
        pruned = {key: prune(item) for key, item in value.items()}
        return {key: item for key, item in pruned.items() if item not in (None, "", [], {})}
    if isinstance(value, list):
        return [prune(item) for item in value]
    return value


def same_request(left, right):
    def body(text):
        try:
            value = json.loads(text)
        except ValueError:
            return text
        if isinstance(value, dict) and isinstance(value.get("Env"), list):
            value["Env"] = sorted(value["Env"])
        host = value.get("HostConfig") if isinstance(value, dict) else None
        if host and host.get("Binds"):
            host["Binds"] = sorted(host["Binds"])
        return prune(value)
    return left[0] == right[0] and left[1] == right[1] and body(left[2]) == body(right[2])


def paths(value, prefix=""):
    """Every leaf of a document with its path."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in paths(item, prefix + "." + key).items()}
    return {prefix: json.dumps(value)}


def shown(request, others):
    """A request, of which only what no similar request has too."""
    try:
        mine = paths(prune(json.loads(request[2])))
        for other in others:
            if other[:2] == request[:2]:
                theirs = paths(prune(json.loads(other[2])))
                mine = {key: item for key, item in mine.items() if theirs.get(key) != item}
        return "%s %s %s" % (request[0], request[1], mine)
    except ValueError:
        return "%s %s %r" % tuple(request)


def differences(case, got):
    want = case["recorded"]
    lines = []
    # Near words are ferry's own addition.
    got["err"] = re.sub(r"\n\nDid you mean '[^']*'\?(?=\n)", "", got["err"])
    for key in ("out", "err"):
        # Times of the day of recording.
        for answers in (want, got):
            answers[key] = re.sub(r"20\d{2}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", "@TIME@", answers[key])
    for key in ("rc", "out", "err"):
        if want[key] != got[key] and key not in case.get("free", []):
            lines.append("  %s\n    docker: %r\n    ferry:  %r" % (key, want[key], got[key]))
    if "seen" not in case.get("free", []):
        wanted = want["seen"]
        if case.get("requests") == "sorted":
            wanted = sorted(wanted)
        if len(wanted) != len(got["seen"]) or not all(map(same_request, wanted, got["seen"])):
            lines.append("  requests")
            for request in wanted:
                if not any(same_request(request, other) for other in got["seen"]):
                    lines.append("    docker: %s" % shown(request, got["seen"]))
            for request in got["seen"]:
                if not any(same_request(request, other) for other in wanted):
                    lines.append("    ferry:  %s" % shown(request, wanted))
    return lines


def load(path):
    """Cases of a file; answers that several share are kept once and named."""
    with open(path) as f:
        file = json.load(f)
    for case in file["cases"]:
        if "answers" in case:
            case["answers"] = file["answers"][case["answers"]]
    return file["cases"]


def store(path, cases):
    shared, lines = {}, []
    for case in cases:
        case = dict(case)
        if "answers" in case:
            text = json.dumps(case["answers"], ensure_ascii=False)
            case["answers"] = shared.setdefault(text, "a%d" % (len(shared) + 1))
        for request in case["recorded"]["seen"]:
            try:
                request[2] = json.dumps(prune(json.loads(request[2])), ensure_ascii=False)
            except ValueError:
                pass
        lines.append(json.dumps(case, ensure_ascii=False))
    answers = ['"%s": %s' % (name, text) for text, name in shared.items()]
    with open(path, "w") as f:
        f.write('{"answers": {\n%s\n},\n"cases": [\n%s\n]}\n' % (",\n".join(answers), ",\n".join(lines)))


def main():
    client = os.path.realpath(sys.argv[1])
    wrong = total = 0
    for path in sorted(glob.glob(os.path.join(DATA, "cases-*.json"))):
        cases = load(path)
        for case in cases:
            got = run(client, case)
            total += 1
            if "--check" not in sys.argv:
                case["recorded"] = got
                continue
            lines = differences(case, got)
            if lines:
                wrong += 1
                print("%s: %s" % (os.path.basename(path), " ".join(case["args"])))
                print("\n".join(lines))
        if "--check" not in sys.argv:
            store(path, cases)
    if "--check" in sys.argv:
        print("%d of %d cases differ" % (wrong, total))
        sys.exit(1 if wrong else 0)


main()
