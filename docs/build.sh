#!/usr/bin/env bash
# Builds the documentation as a website in target/docs/book: build.sh [mdbook].
#
# Pages link to each other and to sources by their places in the repository. So the pages, and every file that they link to, are put into a
# folder with the same places; nothing has to be rewritten, and the website works without the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
mdbook=${1:-mdbook}
out=target/docs
src=$out/src

rm -rf "$out"
mkdir -p "$src"
cp docs/book.toml docs/docs.css "$out/"
mkdir -p "$src/docs/reference"
cp -r docs/images "$src/docs/"
# They refer to each other.
cp -r docs/reference/schemas "$src/docs/reference/"

pages=$(sed -n 's/.*](\(.*\.md\)).*/\1/p' docs/SUMMARY.md)
for page in $pages; do realpath -m --relative-to=. "docs/$page"; done | sort -u >"$out/pages"

# The targets of a page's links, by their places in the repository.
links() { # links PAGE
  grep -oP '\]\(\K[^)#\s]+' "$1" | grep -vE '^(https?|mailto):' | while read -r link; do
    realpath -m --relative-to=. "$(dirname "$1")/$link"
  done
}

while read -r page; do
  mkdir -p "$src/$(dirname "$page")"
  cp "$page" "$src/$page"
  for target in $(links "$page" || true); do
    if [ -d "$target" ]; then
      # A folder has no page: its list of files stands for it.
      mkdir -p "$src/$target"
      { echo "<meta charset=utf-8><title>$target</title><pre>"; git ls-files "$target"; echo '</pre>'; } >"$src/$target/index.html"
    elif grep -qxF "$target" "$out/pages"; then
      :
    elif [ "${target%.md}" != "$target" ]; then
      echo "build.sh: $page links to $target, which is not in docs/SUMMARY.md" >&2
      exit 1
    else
      mkdir -p "$src/$(dirname "$target")"
      cp "$target" "$src/$target"
    fi
  done
done <"$out/pages"

# The entries of the summary, from the root.
sed -E 's|\]\(\.\./|](|; t; s|\]\(|](docs/|' docs/SUMMARY.md >"$src/SUMMARY.md"
"$mdbook" build "$out"
cp docs/llms.txt "$out/book/"
echo '<!doctype html><meta http-equiv="refresh" content="0; url=docs/README.html">' >"$out/book/index.html"
echo "$PWD/$out/book/index.html"
