variable "TAG" { default = "latest" }
variable "DEBUG" { default = false }
function "tagged" {
  params = [name]
  variadic_params = more
  result = [for t in concat([TAG], more): "reg.example.com/${name}:${t}"]
}
group "default" { targets = ["app", "matrix"] }
target "common" {
  args = { GO = "1.22", DEBUG = DEBUG ? "1" : "0", NONE = null }
  labels = { "a.b" = "label", "e" = "" }
  platforms = ["linux/amd64","linux/arm64"]
  cache-from = ["type=registry,ref=cache", "other/cache"]
  cache-to = ["type=local,dest=out,mode=max"]
  annotations = ["index:k=v"]
  attest = ["type=provenance,mode=max", "type=sbom"]
}
target "app" {
  inherits = ["common"]
  context = "./app"
  tags = tagged("app", "extra")
  args = { GO = "1.23" }
  contexts = { base = "target:base" }
  secret = ["id=token,src=./token", "type=env,id=EE,env=E"]
  ssh = ["default"]
  output = ["type=local,dest=bin", "type=image,name=x,push=true"]
  no-cache-filter = ["a"]
  shm-size = "128m"
  ulimits = ["nofile=1024:1024"]
  entitlements = ["network.host"]
  extra-hosts = { a = "1.2.3.4" }
  network = "host"
  target = "final"
  pull = true
  no-cache = true
  dockerfile = "Other"
  call = "check"
  description = "some text"
}
target "base" {
  dockerfile-inline = <<EOT
FROM busybox
RUN echo $${HOME}
EOT
}
target "matrix" {
  name = "m-${item.name}-${replace(version, ".", "-")}"
  matrix = {
    item = [{ name = "one", port = 1 }, { name = "two", port = 2 }]
    version = ["1.0", "2.0"]
  }
  args = { P = item.port }
  target = item.name
}
