// A package registry of what this repository has installed: a test installs packages as a user does, without any network.
//
// Invariants:
//   RG1. Only what lies in node_modules is offered; packages of other platforms are absent, and npm does without: they are optional.
//
// Our own packages are not among them: users get those from tarballs. Nor is Node, which is optional too: 100 MB to unpack for nothing.

import { spawn } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { createGzip } from "node:zlib";

/** What npm reads of a package's manifest to build its tree. */
const MANIFEST_KEYS = [
  "name",
  "version",
  "bin",
  "engines",
  "os",
  "cpu",
  "libc",
  "dependencies",
  "optionalDependencies",
  "peerDependencies",
  "peerDependenciesMeta",
] as const;

interface Offered {
  readonly folder: string;
  readonly manifest: Readonly<Record<string, unknown>> & { readonly name: string; readonly version: string };
}

export interface Registry {
  readonly url: string;
  close(): void;
}

/** Serves the packages below `nodeModules` on a free port of this machine. */
export async function startRegistry(nodeModules: string): Promise<Registry> {
  const offered = Map.groupBy(installed(nodeModules), ({ manifest }) => manifest.name);
  const server = createServer((request, response) => {
    const path = decodeURIComponent((request.url ?? "/").slice(1));
    const tarball = /^(.+)\/-\/([^/]+)\.tgz$/u.exec(path);
    const versions = offered.get(tarball?.[1] ?? path);
    const found = versions?.find(({ manifest }) => manifest.version === tarball?.[2]);
    if (tarball !== null && found !== undefined) sendTarball(found.folder, response);
    else if (tarball === null && versions !== undefined) sendJson(response, 200, document(versions, url()));
    else sendJson(response, 404, { error: `${path} is not installed here` });
  });
  const url = (): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = (): void => {
    server.close();
    server.closeAllConnections();
  };
  return { url: url(), close };
}

function installed(nodeModules: string): readonly Offered[] {
  const names = "{*,@*/*}";
  const files = globSync([`${names}/package.json`, `${names}/node_modules/${names}/package.json`], {
    cwd: nodeModules,
  });
  const packages = files.filter((file) => !/^(?:@sluice\/|node-linux-)/u.test(file));
  return packages.flatMap((file) => {
    const manifest = JSON.parse(readFileSync(join(nodeModules, file), "utf8")) as Offered["manifest"];
    const isPackage = typeof manifest.name === "string" && typeof manifest.version === "string";
    return isPackage ? [{ folder: join(nodeModules, dirname(file)), manifest }] : [];
  });
}

function document(versions: readonly Offered[], url: string): object {
  const entries = versions.map(({ manifest }) => {
    const { name, version } = manifest;
    const kept = Object.fromEntries(MANIFEST_KEYS.map((key) => [key, manifest[key]]));
    return [version, { ...kept, dist: { tarball: `${url}/${name}/-/${version}.tgz` } }] as const;
  });
  const latest = entries.at(-1)?.[0];
  return { name: versions[0]?.manifest.name, "dist-tags": { latest }, versions: Object.fromEntries(entries) };
}

function sendTarball(folder: string, response: ServerResponse): void {
  const args = ["-c", "-C", folder, "--exclude=./node_modules", "--transform=s,^\\.,package,", "."];
  const tar = spawn("tar", args, { stdio: ["ignore", "pipe", "inherit"] });
  response.writeHead(200, { "content-type": "application/octet-stream" });
  tar.stdout.pipe(createGzip({ level: 0 })).pipe(response);
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
