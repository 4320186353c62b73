// The import rules of the repository, in one place (docs/ARCHITECTURE.md tells why; tools/check/layers.ts and
// tools/check/tripwires.ts enforce them). To let a file do I/O, add a line with a reason to ADAPTERS.
//
// Paths are relative to the root; globs are Node's (`**` any depth, `*` within one name, `{a,b}`).

export interface PackageRule {
  /** The npm name, which is how other packages import it. */
  readonly name: string;
  /** Folder names of the packages that it may import. Test code may import any. */
  readonly mayImport: readonly string[];
}

/** Packages by folder, lowest first: imports go downward only. */
export const PACKAGES: Readonly<Record<string, PackageRule>> = {
  "packages/kit": { name: "@sluice/kit", mayImport: [] },
  "packages/api": { name: "@sluice/api", mayImport: ["packages/kit"] },
  runtime: { name: "@sluice/runtime", mayImport: ["packages/kit", "packages/api"] },
  controller: { name: "@sluice/controller", mayImport: ["packages/kit", "packages/api"] },
  "packages/cli": { name: "@sluice/cli", mayImport: ["packages/kit", "packages/api", "runtime"] },
  sim: { name: "@sluice/sim", mayImport: ["packages/kit", "packages/api", "runtime", "controller"] },
  bench: {
    name: "@sluice/bench",
    mayImport: ["packages/kit", "packages/api", "runtime", "controller", "packages/cli", "tools"],
  },
  examples: { name: "@sluice/examples", mayImport: ["packages/kit", "packages/api", "runtime", "packages/cli"] },
  tools: { name: "@sluice/tools", mayImport: ["packages/kit", "packages/api", "runtime", "packages/cli"] },
  e2e: { name: "@sluice/e2e", mayImport: ["packages/kit", "packages/api", "runtime", "controller", "tools"] },
};

/**
 * The folders of a package's src by level, lowest first. A folder imports from lower levels only; folders of one level do
 * not import each other unless SAME_LEVEL lists the pair. A folder that is not listed here is an error.
 */
export const LEVELS: Readonly<Record<string, readonly (readonly string[])[]>> = {
  runtime: [
    ["model"],
    ["graph", "state", "network", "metrics"],
    ["operators", "checkpoint"],
    ["connectors", "task", "rpc", "inspect"],
    ["jobmanager", "taskmanager", "datastream"],
    ["bin"],
    ["testing"],
  ],
  controller: [["kube"], ["objects", "status"], ["observe"], ["decide"], ["apply"], ["main"]],
};

/** [from, to, why]: `from` may import `to` though they are of one level. */
export const SAME_LEVEL: readonly (readonly [from: string, to: string, why: string])[] = [];

/** runtime/src/index.ts is what user jobs import; it may re-export these folders and whatever lies below them. */
export const RUNTIME_PUBLIC_ENTRY = {
  file: "runtime/src/index.ts",
  mayImport: ["datastream"],
} as const;

/** Folders inside folders that have a public module of their own, because they are a room of their own. */
export const INNER_PUBLIC_MODULES: readonly string[] = [
  "runtime/src/model/configuration/index.ts",
  "controller/src/kube/node/index.ts",
];

/** Who may import "@sluice/runtime/internal/*"; everybody else uses the public entry. Test code always may. */
export const RUNTIME_INTERNALS: readonly string[] = [
  "packages/cli/**",
  "sim/**",
  "bench/**",
  "tools/**",
  "examples/demo/**",
];

/** Test code: may import any package and any file, do I/O and use the real clock; other code never imports it. */
export const TEST_CODE: readonly string[] = ["**/*.test.ts", "**/test/**"];

/** Libraries that compute and do nothing else: anybody may import them. */
export const PURE_LIBRARIES: readonly string[] = [
  "node:assert",
  "node:buffer",
  "node:crypto",
  "node:events",
  "node:path",
  "node:string_decoder",
  "node:url",
  "node:util",
  "node:zlib",
  "hyparquet",
  "hyparquet-compressors",
  "yaml",
];

/**
 * Libraries that touch the world: files, sockets, processes, threads, clocks. Only ADAPTERS may import them. A library
 * that is in neither list is an error, so that nobody adds one without saying which kind it is.
 */
export const IO_LIBRARIES: readonly string[] = [
  "@kubernetes/client-node",
  "@sluice/kit/env/node",
  "commander",
  "express",
  "minio",
  "node:async_hooks",
  "node:child_process",
  "node:cluster",
  "node:diagnostics_channel",
  "node:dgram",
  "node:dns",
  "node:fs",
  "node:fs/promises",
  "node:http",
  "node:http2",
  "node:https",
  "node:inspector",
  "node:module",
  "node:net",
  "node:os",
  "node:perf_hooks",
  "node:process",
  "node:readline",
  "node:stream",
  "node:stream/promises",
  "node:timers",
  "node:timers/promises",
  "node:tls",
  "node:tty",
  "node:v8",
  "node:vm",
  "node:worker_threads",
  "prom-client",
  "vega-datasets",
];

export interface Adapter {
  readonly files: string;
  /** Exact names out of IO_LIBRARIES, or "*" for all of them. */
  readonly libraries: readonly string[] | "*";
  /** May use setTimeout, Date.now, process.env ... directly. */
  readonly touchesTheWorld: boolean;
  readonly reason: string;
}

/** The files that may do I/O. Keep the lines narrow and the reasons honest: everything else runs in the simulator. */
export const ADAPTERS: readonly Adapter[] = [
  {
    files: "packages/kit/src/env/node/**",
    libraries: "*",
    touchesTheWorld: true,
    reason: "the only implementation of the seams that touches the system",
  },
  {
    files: "runtime/src/bin/**",
    libraries: "*",
    touchesTheWorld: true,
    reason: "process and thread entry points: they wire the real seams together",
  },
  {
    files: "runtime/src/testing/**",
    libraries: ["@sluice/kit/env/node", "node:timers/promises"],
    touchesTheWorld: true,
    reason: "a cluster in the process of a user's test: it wires seams like bin, in memory",
  },
  {
    files: "controller/src/main/**",
    libraries: "*",
    touchesTheWorld: true,
    reason: "the entry of the controller: it wires the real seams together",
  },
  {
    files: "controller/src/kube/node/**",
    libraries: "*",
    touchesTheWorld: true,
    reason: "the one implementation of the Kubernetes API seam that opens connections",
  },
  {
    files: "controller/src/kube/metrics.ts",
    libraries: ["prom-client"],
    touchesTheWorld: false,
    reason: "Prometheus' text format is a library's job; it gets its registry and keeps no timer",
  },
  {
    files: "packages/cli/**",
    libraries: "*",
    touchesTheWorld: true,
    reason: "a program at a terminal that supervises processes",
  },
  {
    files: "runtime/src/metrics/page.ts",
    libraries: ["prom-client"],
    touchesTheWorld: false,
    reason: "Prometheus' text format is a library's job; it keeps no timer and no global registry",
  },
  {
    files: "runtime/src/metrics/node-process.ts",
    libraries: ["node:fs", "node:os", "node:perf_hooks", "node:v8"],
    touchesTheWorld: true,
    reason: "measures this process for /metrics; nothing decides by it",
  },
  {
    files: "runtime/src/metrics/server.ts",
    libraries: ["express", "node:http", "node:net"],
    touchesTheWorld: false,
    reason: "the HTTP shell of REST and /metrics; the handlers behind it are pure",
  },
  {
    files: "runtime/src/connectors/local-files.ts",
    libraries: ["node:fs"],
    touchesTheWorld: true,
    reason: "files that users name as input and output, and standard output for print()",
  },
  {
    files: "runtime/src/connectors/text-socket.ts",
    libraries: ["node:net"],
    touchesTheWorld: false,
    reason: "connections that users name as input",
  },
  { files: "e2e/**", libraries: "*", touchesTheWorld: true, reason: "drives a real cluster, never shipped" },
  { files: "tools/**", libraries: "*", touchesTheWorld: true, reason: "programs of the repository, never shipped" },
  { files: "bench/**", libraries: "*", touchesTheWorld: true, reason: "measures real processes with the real clock" },
  { files: "examples/**", libraries: "*", touchesTheWorld: true, reason: "user code: jobs and the demo program" },
  {
    files: "runtime/src/network/ring-stress.ts",
    libraries: ["node:worker_threads"],
    touchesTheWorld: true,
    reason: "a test program of two real threads, started by ring.test.ts: memory ordering cannot be simulated",
  },
  {
    files: "sim/src/{event-loop,tripwires}.ts",
    libraries: [],
    touchesTheWorld: true,
    reason: "drains microtasks with the one real setImmediate, and replaces the globals that nobody may call",
  },
  {
    files: "sim/src/{main,bin/**}.ts",
    libraries: "*",
    touchesTheWorld: true,
    reason: "the driver that runs seeds and prints; the worlds themselves are core code",
  },
];
