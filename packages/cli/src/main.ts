#!/usr/bin/env node
// Entry of `sluice`: an older Node is told so before it stumbles over something else.
//
// Not here: everything that a command does; it is loaded afterwards.

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major > 24 || (major === 24 && minor >= 12)) {
  const { runCommandLine } = await import("./command-line.ts");
  process.exit(await runCommandLine(process.argv));
}
process.stderr.write(
  `sluice: Node 24.12 or later is needed, and this is ${process.versions.node}. Jobs are TypeScript that Node runs itself.\n`,
);
process.exit(2);
