// Apache Flink's own command line and Java client, which drive Sluice's REST in tests: a pinned version out of the jars that its client
// needs (Flink publishes no archive of just that), got with Maven and run on the machine's Java.
//
// Invariants:
//   FC1. The version is pinned; another one is another folder of the cache.
//   FC2. A run talks to the address that it is given and to nothing else, and ends with its caller's time limit.

import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { runToEnd } from "./command.ts";
import type { CommandOutcome } from "./command.ts";
import { cacheFolder, findOnPath, makeInPlace } from "./peer.ts";
import type { Peer, PeerState } from "./peer.ts";

const VERSION = "2.3.0";
const COPY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/** What a client that only talks REST does not need; half of the bytes. */
const NOT_NEEDED = [
  "org.apache.flink:flink-rpc-akka-loader",
  "org.apache.flink:flink-shaded-zookeeper-3",
  "org.apache.flink:flink-hadoop-fs",
  "org.apache.flink:flink-connector-datagen",
  "org.apache.flink:flink-datastream",
  "org.javassist:javassist",
  "org.roaringbitmap:RoaringBitmap",
  "org.xerial.snappy:snappy-java",
  "tools.profiler:async-profiler",
];

/** A JVM that lives for one command. */
const JVM_OPTIONS = [
  "-XX:+UseSerialGC",
  "-XX:TieredStopAtLevel=1",
  "-Xmx256m",
  "--add-opens=java.base/java.lang=ALL-UNNAMED",
  "--add-opens=java.base/java.util=ALL-UNNAMED",
];

export const flinkClient: Peer = { name: "Flink's client", find: findFlinkClient, prepare: prepareFlinkClient };

export interface FlinkRun {
  /** `host:port` of the REST to drive. */
  readonly address: string;
  /** Shown as a bearer token. */
  readonly token?: string;
  /** Arguments of `flink`, without `-m`; or of the program. */
  readonly args: readonly string[];
  /** Hears the output while it comes. */
  readonly onOutput?: (text: string) => void;
}

/**
 * Runs `flink ARGS -m ADDRESS`.
 *
 * @throws Error when the client is not available (ask `flinkClient.find()` first).
 */
export function runFlink(run: FlinkRun): Promise<CommandOutcome> {
  const [action = "", ...rest] = run.args;
  return runJava(run, ["org.apache.flink.client.cli.CliFrontend", action, "-m", run.address, ...rest]);
}

/** Runs a Java source file of one class against Flink's client; its arguments are the address and `args`. */
export function runFlinkProgram(source: string, run: FlinkRun): Promise<CommandOutcome> {
  return runJava(run, [source, run.address, ...run.args]);
}

function runJava(run: FlinkRun, args: readonly string[]): Promise<CommandOutcome> {
  const state = findFlinkClient();
  if (!state.available) throw new Error(state.reason);
  const { FLINK_REST_CLIENT_HEADERS: _, ...inherited } = process.env;
  const env = {
    ...inherited,
    FLINK_CONF_DIR: join(placeOf(), "conf"),
    ...(run.token === undefined ? {} : { FLINK_REST_CLIENT_HEADERS: `Authorization:Bearer ${run.token}` }),
  };
  const { onOutput } = run;
  return runToEnd({
    command: state.program,
    args: [...JVM_OPTIONS, "-cp", join(placeOf(), "lib/*"), ...args],
    env,
    ...(onOutput === undefined ? {} : { onOutput }),
  });
}

function placeOf(): string {
  return join(cacheFolder(), "peers", `flink-client-${VERSION}`);
}

function findFlinkClient(): PeerState {
  const java = findOnPath("java");
  if (java === undefined) return { available: false, reason: "Flink's client needs Java, and there is none on PATH" };
  if (existsSync(join(placeOf(), "lib"))) return { available: true, program: java, version: VERSION };
  const maven =
    findOnPath("mvn") === undefined ? "and there is no Maven on PATH to get it with" : "npm run peers gets it";
  return { available: false, reason: `Flink's client ${VERSION} is not in ${cacheFolder()}; ${maven}` };
}

async function prepareFlinkClient(say: (line: string) => void): Promise<PeerState> {
  const maven = findOnPath("mvn");
  const state = findFlinkClient();
  if (state.available || maven === undefined || findOnPath("java") === undefined) return state;
  say(`getting Flink's client ${VERSION} with Maven; about 50 MB, once`);
  try {
    await makeInPlace(placeOf(), async (folder) => getJars(maven, folder));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { available: false, reason: `getting Flink's client failed: ${message}` };
  }
  return findFlinkClient();
}

async function getJars(maven: string, folder: string): Promise<void> {
  const project = join(folder, "pom.xml");
  writeFileSync(project, projectOf());
  mkdirSync(join(folder, "conf"));
  writeFileSync(join(folder, "conf/config.yaml"), "rest.address: 127.0.0.1\nrest.port: 8081\n");
  const lib = join(folder, "lib");
  const args = ["-q", "-B", "-f", project, COPY_PLUGIN, `-DoutputDirectory=${lib}`];
  const { code, output } = await runToEnd({ command: maven, args, cwd: folder });
  if (code !== 0 || !existsSync(lib) || readdirSync(lib).length === 0)
    throw new Error(output.trim().split("\n").slice(-3).join(" "));
}

function projectOf(): string {
  const exclusions = NOT_NEEDED.map((name) => {
    const [group, artifact] = name.split(":");
    return `<exclusion><groupId>${group}</groupId><artifactId>${artifact}</artifactId></exclusion>`;
  });
  return `<?xml version="1.0"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>sluice.peers</groupId><artifactId>flink-client</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.flink</groupId><artifactId>flink-clients</artifactId><version>${VERSION}</version>
      <exclusions>${exclusions.join("")}</exclusions>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
`;
}
