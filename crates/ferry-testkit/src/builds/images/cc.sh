#!/bin/sh
# Stands in for compilers: `cc -o OUT SOURCE...`, `go build -o OUT SOURCE`, `npm ci`, `pip install NAME`, `cargo build`, `javac SOURCE`.
set -e
program=${0##*/}
out=a.out
sources=
compile() {
    { echo '#!/bin/sh'; for source in $sources; do sed -n 's/^print \(.*\)/echo \1/p' "$source"; done; } >"$out"
    chmod 755 "$out"
}
case "$program $1" in
"go mod") mkdir -p "$GOPATH/pkg/mod" && echo fetched >"$GOPATH/pkg/mod/${2:-list}"; exit ;;
"npm "*) mkdir -p node_modules/.bin && for name in $(sed -n 's/.*"\(dep-[a-z]*\)".*/\1/p' package.json); do mkdir -p "node_modules/$name"; echo "$name" >"node_modules/$name/index.js"; ln -sf "../$name/index.js" "node_modules/.bin/$name"; done; exit ;;
"pip install") shift; [ "$1" = --no-cache-dir ] && shift; [ "$1" = -r ] && set -- $(cat "$2"); mkdir -p /usr/lib/python3/site-packages; for name in "$@"; do echo "$name" >"/usr/lib/python3/site-packages/${name%%=*}.py"; done; exit ;;
"cargo build") mkdir -p target/release; out=target/release/app; sources=$(find src -name '*.rs' | sort); compile; exit ;;
esac
while [ $# -gt 0 ]; do
    case $1 in
    -o) out=$2; shift ;;
    -*) ;;
    build) ;;
    *) if [ -d "$1" ]; then sources="$sources $(find "$1" -type f -name '*.go' | sort)"; else sources="$sources $1"; fi ;;
    esac
    shift
done
if [ "$program" = javac ]; then for source in $sources; do out=${source%.java}.class; compile; done; exit; fi
compile
