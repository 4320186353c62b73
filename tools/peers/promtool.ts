// promtool, which judges metrics pages: from PATH, or unpacked from the distribution's package "prometheus" without
// installing it (no service is started, no administrator needed).

import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

import { runToEnd } from "./command.ts";
import { cacheFolder, findOnPath, isExecutable, makeInPlace } from "./peer.ts";
import type { Peer, PeerState } from "./peer.ts";

const PACKAGE = "prometheus";

export const promtool: Peer = { name: "promtool", find: findPromtool, prepare: preparePromtool };

export interface MetricsVerdict {
  readonly code: number;
  /** What promtool says, one complaint a line; empty when it has nothing to say. */
  readonly complaints: readonly string[];
}

/**
 * Runs `promtool check metrics` over a metrics page.
 *
 * @throws Error when promtool is not available (ask `promtool.find()` first).
 */
export async function checkMetrics(page: string): Promise<MetricsVerdict> {
  const state = findPromtool();
  if (!state.available) throw new Error(state.reason);
  const { code, output } = await runToEnd({ command: state.program, args: ["check", "metrics"], input: page });
  return { code, complaints: output.split("\n").filter((line) => line.trim() !== "") };
}

function placeOf(): string {
  return join(cacheFolder(), "peers", "promtool");
}

function findPromtool(): PeerState {
  const unpacked = join(placeOf(), "usr/bin/promtool");
  const program = findOnPath("promtool") ?? (isExecutable(unpacked) ? unpacked : undefined);
  if (program !== undefined) return { available: true, program, version: "as packaged" };
  const remedy = findOnPath("apt-get") === undefined ? "install Prometheus" : "npm run peers gets it";
  return { available: false, reason: `promtool is neither on PATH nor in ${cacheFolder()}; ${remedy}` };
}

async function preparePromtool(say: (line: string) => void): Promise<PeerState> {
  const aptGet = findOnPath("apt-get");
  const dpkg = findOnPath("dpkg-deb");
  const state = findPromtool();
  if (state.available || aptGet === undefined || dpkg === undefined) return state;
  say(`getting promtool from the distribution's package ${PACKAGE}`);
  try {
    await makeInPlace(placeOf(), async (folder) => unpackPackage({ aptGet, dpkg, folder }));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { available: false, reason: `getting promtool failed: ${message}` };
  }
  return findPromtool();
}

async function unpackPackage(options: {
  readonly aptGet: string;
  readonly dpkg: string;
  readonly folder: string;
}): Promise<void> {
  const { aptGet, dpkg, folder } = options;
  const download = join(folder, "download");
  mkdirSync(download);
  const fetchPackage = (): ReturnType<typeof runToEnd> =>
    runToEnd({ command: aptGet, args: ["download", PACKAGE], cwd: download });
  let outcome = await fetchPackage();
  if (outcome.code !== 0 && process.getuid?.() === 0) {
    await runToEnd({ command: aptGet, args: ["update"] }); // the list of packages may be missing or old
    outcome = await fetchPackage();
  }
  const archive = readdirSync(download).find((name) => name.endsWith(".deb"));
  if (archive === undefined) throw new Error(lastLines(outcome.output));
  const unpacked = await runToEnd({ command: dpkg, args: ["-x", join(download, archive), folder] });
  if (unpacked.code !== 0 || !existsSync(join(folder, "usr/bin/promtool"))) throw new Error(lastLines(unpacked.output));
  rmSync(download, { recursive: true });
}

function lastLines(text: string): string {
  return text.trim().split("\n").slice(-3).join(" ");
}
