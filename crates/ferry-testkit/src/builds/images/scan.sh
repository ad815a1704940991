#!/bin/sh
# Writes a document for each tree that it is shown: what lies in it, and what was told.
set -e
document() {
    name=$(basename "$1")
    cat >"$BUILDKIT_SCAN_DESTINATION/$name.spdx.json" <<EOF
{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document", "subject": null, "predicate":
 {"name": "$name", "files": "$(ls -A "$1" | tr '\n' ' ')", "told": "$BUILDKIT_SCAN_WORD", "where": "$PWD",
  "places": "$BUILDKIT_SCAN_SOURCE $BUILDKIT_SCAN_SOURCE_EXTRAS $BUILDKIT_SCAN_DESTINATION"}}
EOF
}
document "$BUILDKIT_SCAN_SOURCE"
for extra in "${BUILDKIT_SCAN_SOURCE_EXTRAS:-/nothing}"/*; do
    if [ -d "$extra" ]; then document "$extra"; fi
done
