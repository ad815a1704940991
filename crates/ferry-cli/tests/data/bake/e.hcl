variable "REG" { default = "r.io" }
variable "N" {
  type = number
  default = 3
}
variable "O" { default = { a = 1, b = "x" } }
target "_base" {
  platforms = ["linux/amd64"]
  labels = { l = "1" }
  attest = [{ type = "sbom" }]
  cache-to = [{ type = "registry", ref = "${REG}/c", mode = "max" }]
}
target "one" {
  inherits = ["_base"]
  tags = ["${REG}/one:${N}", "${REG}/one:${O.b}"]
  labels = { m = O["a"] }
  attest = [{ type = "provenance", mode = "min" }]
  secret = [{ id = "s", env = "S" }]
  ssh = [{ id = "default" }]
  output = [{ type = "oci", dest = "o.tar" }, "type=docker"]
  args = { "dotted.name" = "v", bool = true, num = 1.5 }
}
target "two" {
  inherits = ["one"]
  contexts = { one = "target:one", img = "docker-image://alpine" }
  args = { bool = null }
  platforms = ["linux/arm64"]
  dockerfile-inline = "FROM one\n"
}
group "default" { targets = ["grp", "two"] }
group "grp" { targets = ["one"] }
