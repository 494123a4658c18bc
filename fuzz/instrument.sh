#!/usr/bin/env bash
# Compiles a crate of the workspace so that libFuzzer sees what an input reaches: Cargo calls `instrument.sh RUSTC ARGUMENT...`.
#
# The flags are those of `cargo fuzz`, but for the sanitizers: they need the nightly compiler, and find what `unsafe` code breaks. We
# have none. Dependencies are not instrumented: their generic code, such as decoders, is compiled with ours.
set -euo pipefail

# Build scripts and macros are programs of their own, without libFuzzer.
case " $* " in
  *" --crate-name build_script"* | *" --crate-type proc-macro "* | *" --print "* | *" -vV "*) exec "$@" ;;
esac
flags=(-C passes=sancov-module -C codegen-units=1)
for option in sanitizer-coverage-level=4 sanitizer-coverage-inline-8bit-counters sanitizer-coverage-pc-table \
  sanitizer-coverage-trace-compares simplifycfg-branch-fold-threshold=0; do
  flags+=(-C "llvm-args=-$option")
done
exec "$@" "${flags[@]}"
