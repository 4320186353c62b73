#!/usr/bin/env node
// Entry of `sluice`: an older Node is told so before it stumbles over something else.
//
// Invariants:
//   MN1. What this command and the processes that it starts compile is kept for their next start (NODE_COMPILE_CACHE, unless it is set
//        already): a JobManager that is started again after a crash compiles nothing. Pods start from what their image holds.
//
// Not here: everything that a command does; it is loaded afterwards.

import module from "node:module"; // an older Node lacks names in it
import { join } from "node:path";

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major > 24 || (major === 24 && minor >= 12)) {
  if (process.argv[2] === "pod") {
    const { runPod } = await import("./pod/index.ts"); // what runs in pods starts without the rest
    runPod(process.argv);
  } else {
    keepCompiled();
    const { runCommandLine } = await import("./command-line.ts");
    process.exit(await runCommandLine(process.argv));
  }
} else {
  process.stderr.write(
    `sluice: Node 24.12 or later is needed, and this is ${process.versions.node}. Jobs are TypeScript that Node runs itself.\n`,
  );
  process.exit(2);
}

/** MN1. Not below a temporary directory: there others could put code in its place. */
function keepCompiled(): void {
  const { HOME: home, XDG_CACHE_HOME: caches = home === undefined ? undefined : join(home, ".cache") } = process.env;
  if (caches === undefined) return;
  process.env["NODE_COMPILE_CACHE"] ??= join(caches, "sluice", "compiled"); // children inherit it
  module.enableCompileCache(process.env["NODE_COMPILE_CACHE"]);
}
