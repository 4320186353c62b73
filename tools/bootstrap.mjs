// The one door into the repository: `node tools/bootstrap.mjs <task> [arguments]`, which every npm script calls.
//
// It installs the dependencies when they are absent or stale, then runs the task's program on the Node 24 that came
// with them, and hands through stdio, signals and the exit code.
//
// Invariants:
//   B1. Runs on Node 18 and later without a single dependency: it must work before anything is installed.
//   B2. Whatever runs after it runs on Node >= 24.12 (TypeScript without a flag), whatever `node` the user has.
//   B3. The stamp is written last: an installation that was interrupted counts as absent.
//   B4. Two bootstraps at once do not install at once: the second waits for the first.
//
// Not here: what the tasks do. No shell is involved, so arguments need no quoting.

import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { delimiter, dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NODE_MODULES = join(ROOT, "node_modules");
const STAMP = join(NODE_MODULES, ".sluice-stamp");
const LOCK = join(ROOT, ".bootstrap-lock");
const LOCK_STALE_MS = 15 * 60_000;

/** Task name -> program and what it is. A program that takes Node flags names them. */
const TASKS = {
  demo: { program: "examples/demo/main.ts", about: "the whole story on real data, with processes killed" },
  test: { program: "tools/test/main.ts", about: "check, then every test" },
  check: { program: "tools/check/main.ts", about: "format, types, lint, layers, tripwires" },
  bench: { program: "bench/src/main.ts", about: "benchmarks, for example: npm run bench -- keyed-sum" },
  soak: { program: "tools/soak/main.ts", about: "long runs, for example: npm run soak -- sim --seeds 10000" },
  sluice: { program: "packages/cli/src/main.ts", about: "the command line, for example: npm run sluice -- run JOB.ts" },
  jest: {
    program: "node_modules/jest/bin/jest.js",
    nodeFlags: ["--experimental-vm-modules", "--disable-warning=ExperimentalWarning"],
    about: "some tests, for example: npm run jest -- packages/kit",
  },
  peers: { program: "tools/peers/main.ts", about: "build or get what tests run against, for example MinIO" },
  pack: { program: "tools/pack/main.ts", about: "packages for other projects, as tarballs in dist/packages" },
  image: { program: "e2e/image/main.ts", about: "build the container image sluice:dev" },
  e2e: { program: "e2e/src/main.ts", about: "end-to-end tests on a real cluster" },
  "e2e:cluster": { program: "e2e/cluster/main.ts", about: "a Kubernetes cluster on this machine" },
  chart: { program: "tools/chart/main.ts", about: "the Helm chart as a package in dist" },
  generate: { program: "tools/check/generated.ts", about: "write generated files anew" },
  format: {
    program: "node_modules/prettier/bin/prettier.cjs",
    args: ["--write", "--log-level=warn", "."],
    about: "rewrite files in the house format",
  },
};

/** A message for the user; no stack trace. */
class Stop extends Error {}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error) => {
    console.error(error instanceof Stop ? error.message : error);
    process.exit(1);
  },
);

async function main(argv) {
  const [name, ...args] = argv;
  if (name === undefined) {
    await ensureInstalled();
    console.log("ready: dependencies are installed");
    return 0;
  }
  const task = Object.hasOwn(TASKS, name) ? TASKS[name] : undefined;
  if (task === undefined) {
    const lines = Object.entries(TASKS).map(([key, value]) => `  npm run ${key.padEnd(11)} ${value.about}`);
    throw new Stop(`unknown task "${name}"; there are:\n${lines.join("\n")}`);
  }
  await ensureInstalled();
  const program = join(ROOT, task.program);
  if (!existsSync(program)) {
    throw new Stop(
      `npm run ${name}: its program ${task.program} does not exist in this checkout; see git log for where it went`,
    );
  }
  const node = findNode();
  return run(node, [...(task.nodeFlags ?? []), program, ...(task.args ?? []), ...args], childEnvironment(node));
}

/** B2: the Node of node_modules first, then the one that runs us, if it is new enough. */
function findNode() {
  const own = join(NODE_MODULES, ".bin", "node");
  if (existsSync(own)) return own;
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major > 24 || (major === 24 && minor >= 12)) return process.execPath;
  throw new Stop(
    `Sluice needs Node 24.12 or later. There is no packaged Node for ${process.platform}-${process.arch}, and this one is ` +
      `${process.version}.\nInstall Node 24 and run the command again.`,
  );
}

/** Children find the same Node first on PATH, so that a program which starts "node" gets Node 24 as well. */
function childEnvironment(node) {
  const env = { ...process.env, PATH: [dirname(node), ...pathEntries()].join(delimiter) };
  // .npmrc gives npm this flag so that a plain `npx jest` works; no other program should inherit it.
  const options = (env.NODE_OPTIONS ?? "")
    .split(" ")
    .filter((flag) => flag !== "" && flag !== "--experimental-vm-modules");
  if (options.length > 0) env.NODE_OPTIONS = options.join(" ");
  else delete env.NODE_OPTIONS;
  return env;
}

function pathEntries() {
  return (process.env.PATH ?? "").split(delimiter).filter((entry) => entry !== "");
}

async function ensureInstalled() {
  const wanted = wantedStamp();
  if (installedStamp() === wanted) return;
  await takeLock();
  try {
    if (installedStamp() === wanted) return; // somebody else did it while we waited
    await install();
    writeFileSync(STAMP, wanted);
  } finally {
    rmSync(LOCK, { force: true });
  }
}

/** What an up-to-date node_modules carries: the lock file's hash and the platform it was installed for. */
function wantedStamp() {
  const lockFile = join(ROOT, "package-lock.json");
  if (!existsSync(lockFile))
    throw new Stop("package-lock.json is missing; restore it with: git checkout package-lock.json");
  const hash = createHash("sha256").update(readFileSync(lockFile)).digest("hex");
  return `${hash} ${process.platform}-${process.arch}\n`;
}

function installedStamp() {
  try {
    return readFileSync(STAMP, "utf8");
  } catch {
    return "";
  }
}

/** B4. The lock holds the id of the process that installs; a dead one has left it behind. */
async function takeLock() {
  let told = false;
  for (;;) {
    try {
      writeFileSync(LOCK, `${process.pid}\n`, { flag: "wx" });
      return;
    } catch (error) {
      if (error.code !== "EEXIST") throw new Stop(`cannot write into ${ROOT}: ${error.message}`);
    }
    if (isAbandoned()) {
      rmSync(LOCK, { force: true });
      continue;
    }
    if (!told) console.error("another command is installing the dependencies; waiting for it");
    told = true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** The age decides where process ids say nothing, for example between two containers that share the folder. */
function isAbandoned() {
  let pid;
  try {
    if (Date.now() - statSync(LOCK).mtimeMs > LOCK_STALE_MS) return true;
    pid = Number(readFileSync(LOCK, "utf8"));
  } catch {
    return false; // released in between
  }
  if (!Number.isInteger(pid) || pid <= 0) return false; // being written
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error.code === "ESRCH";
  }
}

async function install() {
  const startedMs = Date.now();
  const terminal = process.stderr.isTTY === true;
  const line = "installing dependencies (npm ci, about 100 MB the first time)";
  process.stderr.write(terminal ? `${line} ...` : `${line} ...\n`);
  const seconds = () => Math.round((Date.now() - startedMs) / 1000);
  const ticker = terminal ? setInterval(() => process.stderr.write(`\r${line} ... ${seconds()} s`), 1000) : undefined;
  rmSync(STAMP, { force: true });
  const { code, output } = await npmCi();
  clearInterval(ticker);
  if (code !== 0) {
    process.stderr.write(terminal ? "\n" : "");
    throw new Stop(
      `${output.trim()}\n\nnpm ci failed (exit code ${code}), so nothing was run. What to do: read the last lines above; if a download failed, ` +
        "check the network or your npm registry setting (npm config get registry) and run the same command again; it starts over cleanly.",
    );
  }
  process.stderr.write(
    terminal ? `\r${line} ... done in ${seconds()} s\n` : `dependencies installed in ${seconds()} s\n`,
  );
}

/**
 * npm runs on the user's own Node: the one in node_modules is about to be deleted by npm ci, so its folder leaves
 * PATH for this call.
 */
function npmCi() {
  const path = pathEntries().filter(
    (entry) => !entry.endsWith(join("node_modules", ".bin")) && !entry.includes(`node_modules${sep}node-`),
  );
  const env = { ...process.env, PATH: path.join(delimiter) };
  const args = ["ci", "--no-progress", "--loglevel=error", "--include=dev", "--include=optional"];
  const onPath = spawnSync("npm", ["--version"], { env, cwd: ROOT, stdio: "ignore" }).status === 0;
  const npmScript = process.env.npm_execpath;
  if (!onPath && npmScript === undefined) {
    throw new Stop("npm was not found on PATH; it comes with Node: install Node 18 or later and run the command again");
  }
  const [command, commandArgs] = onPath ? ["npm", args] : [process.execPath, [npmScript, ...args]];
  return new Promise((resolve) => {
    const child = spawn(command, commandArgs, { cwd: ROOT, env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const keep = (chunk) => {
      output = (output + chunk).slice(-20_000);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.on("error", (error) => resolve({ code: 1, output: error.message }));
    child.on("close", (code, signal) => resolve({ code: code ?? 128 + (constants.signals[signal] ?? 0), output }));
  });
}

/** Runs the program in the caller's directory; the exit code of a signal death is the shell's 128 + n. */
function run(node, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(node, args, { stdio: "inherit", env });
    // A terminal sends SIGINT to the whole group; kill sends SIGTERM to us alone. Passing both on is right in both
    // cases, because the child sees a repeated signal at worst.
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
    child.on("error", (error) => reject(new Stop(`cannot start ${node}: ${error.message}`)));
    child.on("exit", (code, signal) => resolve(code ?? 128 + (constants.signals[signal] ?? 0)));
  });
}
