variable "v" { default = 3 }
variable "list" { default = ["a","b"] }
target "default" {
  tags = [for x in list: "t:${x}-${v}"]
  args = {
    r = regex_replace("v1.2", "(\\d)", "<$1>")
    f = formatdate("YYYY", "2018-01-02T23:12:01Z")
    u = uuidv5("dns", "x.y")
    m = md5("a")
    j = jsonencode({a=[1,2,{b=null}]})
    c = cidrsubnet("10.0.0.0/8", 8, 3)
    t = try(nothing.x, "fallback")
    l = length(list)
    n = v * 2 + 1
    s = format("%05.1f|%-5s|%v", 3.14159, "x", list)
    h = "${upper("x")}-${v > 2 ? "big" : "small"}"
    tr = title("hello world")
    sl = join(",", slice(["a","b","c"], 1, 3))
    z = join(",", [for k, x in zipmap(["a"],["b"]) : "${k}=${x}"])
    co = coalesce("", "x")
    ind = indent(2, "a\nb")
    su = substr("hello", -3, 2)
    tm = timeadd("2017-11-22T00:00:00Z", "1h30m")
    b64 = base64encode("hi")
    ur = urlencode("a b&c")
    pa = parseint("ff", 16)
    rg = join("|", regexall("[a-z]+", "1a2bc"))
    no = not(true)
    ra = join(",", range(1, 4))
  }
}
