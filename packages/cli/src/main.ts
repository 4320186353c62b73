#!/usr/bin/env node
// Entry of `sluice`: an older Node is told so before it stumbles over something else.
//
// Not here: everything that a command does; it is loaded afterwards.

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major > 24 || (major === 24 && minor >= 12)) {
  if (process.argv[2] === "pod") {
    const { runPod } = await import("./pod/index.ts"); // what runs in pods starts without the rest
    runPod(process.argv);
  } else {
    const { runCommandLine } = await import("./command-line.ts");
    process.exit(await runCommandLine(process.argv));
  }
} else {
  process.stderr.write(
    `sluice: Node 24.12 or later is needed, and this is ${process.versions.node}. Jobs are TypeScript that Node runs itself.\n`,
  );
  process.exit(2);
}
