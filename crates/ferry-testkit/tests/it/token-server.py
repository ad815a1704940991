# Hands out tokens for a registry: to the user `tester` with the password `secret`, or for the identity token that such a user got.
# Arguments: the folder with `server.pem`, `server-key.pem`, `sign.pem`, `sign-key.pem`; address; port.
import base64, http.server, json, ssl, subprocess, sys, time, urllib.parse

folder, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
IDENTITY = "identity-of-tester"


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(access):
    certificate = ssl.PEM_cert_to_DER_cert(open(folder + "/sign.pem").read())
    header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(certificate).decode()]}
    now = int(time.time())
    claims = {"iss": "issuer", "sub": "tester", "aud": "test", "jti": str(time.time_ns()), "access": access}
    claims.update({"exp": now + 300, "nbf": now - 60, "iat": now})
    text = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    sign = ["openssl", "dgst", "-sha256", "-sign", folder + "/sign-key.pem"]
    signature = subprocess.run(sign, input=text.encode(), stdout=subprocess.PIPE, check=True).stdout
    return text + "." + encoded(signature)


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def answer(self, status, body):
        with open(folder + "/asked", "a") as log:
            log.write(f"{self.command} {status}\n")
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def grant(self, fields, allowed):
        if not allowed:
            return self.answer(401, {"details": "incorrect username or password"})
        access = []
        for scope in " ".join(fields.get("scope", [])).split():
            kind, rest = scope.split(":", 1)
            name, actions = rest.rsplit(":", 1)
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        body = {"token": token(access), "expires_in": 300}
        if fields.get("offline_token") == ["true"]:
            body["refresh_token"] = IDENTITY
        self.answer(200, body)

    def do_GET(self):
        fields = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        expected = "Basic " + base64.b64encode(b"tester:secret").decode()
        self.grant(fields, self.headers.get("Authorization") == expected)

    def do_POST(self):
        fields = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.grant(fields, fields.get("refresh_token") == [IDENTITY])


server = http.server.ThreadingHTTPServer((address, port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/server.pem", folder + "/server-key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
