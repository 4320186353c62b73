// Where a pod's module comes from, and what is said when it does not.

import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { RequestListener, Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { readPodReport } from "@sluice/api";
import type { PodJobSource } from "@sluice/api";

import { download } from "./download.ts";
import { podEnvironment, podOrdinal } from "./environment.ts";
import { EXIT_NEVER, podSupervision } from "./report.ts";
import { placeSource } from "./source.ts";

let folder = "";
let jobDir = "";
const servers: Server[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sluice-source-"));
  jobDir = join(folder, "job");
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  rmSync(folder, { recursive: true, force: true });
});

const CODE = "export function main() {}\n";
const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
const place = (source: PodJobSource): Promise<string> => placeSource({ source, store: {} }, jobDir);

function write(name: string, text: string): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}

/** Its address, without a slash at the end. */
async function serve(answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe("SO1, SO2: files that are mounted", () => {
  test("an inline module lies under a name that follows from its content alone", async () => {
    const path = write("etc/job.ts", CODE);
    write("etc/pod.json", "{}");
    const url = await place({ kind: "inline", path });
    const placed = fileURLToPath(url);
    expect([basename(placed), readFileSync(placed, "utf8"), readdirSync(dirname(placed))]).toEqual([
      "job.ts",
      CODE,
      ["job.ts"],
    ]);
    expect(await place({ kind: "inline", path: write("elsewhere/job.ts", CODE) })).toBe(url);
    expect(await place({ kind: "inline", path: write("etc/job.ts", `${CODE}//\n`) })).not.toBe(url);
    expect(readdirSync(jobDir)).toHaveLength(2); // nothing half done is left
  });

  test("keys of a ConfigMap belong together, as the kubelet mounts them", async () => {
    write("cm/..2026/main.ts", 'import "./a.ts";\n');
    write("cm/..2026/a.ts", "export {};\n");
    symlinkSync("..2026", join(folder, "cm/..data"));
    for (const name of ["main.ts", "a.ts"]) symlinkSync(`..data/${name}`, join(folder, "cm", name));
    const placed = fileURLToPath(await place({ kind: "configMap", path: join(folder, "cm/main.ts") }));
    expect(readdirSync(dirname(placed)).sort()).toEqual(["a.ts", "main.ts"]);
  });

  test("a path in the image stays where it is", async () => {
    const path = write("image/jobs/sum.ts", CODE);
    expect(fileURLToPath(await place({ kind: "path", path }))).toBe(path);
    expect(existsSync(jobDir)).toBe(false);
  });

  test.each<readonly [string, PodJobSource["kind"] & ("path" | "inline" | "configMap"), string, string, string]>([
    ["no file in the image", "path", "nowhere.ts", "JOB_MODULE_NOT_FOUND", "nowhere.ts"],
    ["no module", "path", "cm/readme.md", "JOB_MODULE_INVALID", "is not a TypeScript or JavaScript module"],
    ["no key", "configMap", "cm/other.ts", "JOB_MODULE_NOT_FOUND", "has no key other.ts; it has a.ts, readme.md"],
    ["no ConfigMap", "configMap", "empty/a.ts", "JOB_MODULE_NOT_FOUND", "does not exist, or is empty"],
    ["a key that is no module", "configMap", "cm/readme.md", "JOB_MODULE_INVALID", "readme.md"],
  ])("%s", async (_name, kind, path, code, message) => {
    write("cm/a.ts", CODE);
    write("cm/readme.md", "");
    mkdirSync(join(folder, "empty"));
    await expect(place({ kind, path: join(folder, path) })).rejects.toMatchObject({
      code,
      retry: "never",
      message: expect.stringContaining(message),
    });
  });
});

describe("SO3, DL1, DL2: modules that are fetched", () => {
  const limits = { bytesMax: 1_000, timeoutMs: 20_000 };

  test("by checksum, over redirects; and never again once they are here", async () => {
    let count = 0;
    const base = await serve((request, response) => {
      count += 1;
      if (request.url === "/old/sum.ts?x=1") response.writeHead(302, { location: "/new/sum.ts" }).end();
      else response.end(CODE);
    });
    const source = { kind: "uri", url: `${base}/old/sum.ts?x=1`, sha256: sha256(CODE).toUpperCase() } as const;
    const url = await place(source);
    expect([basename(url), readFileSync(fileURLToPath(url), "utf8"), count]).toEqual(["sum.ts", CODE, 2]);
    expect(await place(source)).toBe(url);
    expect(count).toBe(2);
  });

  test("another checksum is refused, and nothing of it is kept", async () => {
    const base = await serve((_, response) => response.end("something else"));
    const source = { kind: "uri", url: `${base}/sum.ts`, sha256: sha256(CODE) } as const;
    await expect(place(source)).rejects.toMatchObject({
      code: "JOB_MODULE_INVALID",
      retry: "never",
      message: expect.stringContaining(`has sha256 ${sha256("something else")} (14 bytes), not ${sha256(CODE)}`),
    });
    expect(existsSync(jobDir)).toBe(false);
  });

  test.each<readonly [string, RequestListener, string, string, string]>([
    ["not there", (_, r) => r.writeHead(404).end(), "INPUT_NOT_FOUND", "never", "HTTP 404"],
    ["forbidden", (_, r) => r.writeHead(403).end(), "STORAGE_DENIED", "never", "HTTP 403"],
    ["a strange answer", (_, r) => r.writeHead(204).end(), "CONFIG_INVALID", "never", "HTTP 204"],
    ["announced to be too large", (_, r) => r.end("x".repeat(1_001)), "CONFIG_INVALID", "never", "larger than 1000"],
    [
      "too large without an announcement",
      (_, r) => {
        r.write("x".repeat(600));
        r.end("x".repeat(600));
      },
      "CONFIG_INVALID",
      "never",
      "larger than 1000",
    ],
    ["in circles", (q, r) => r.writeHead(302, { location: `${q.url}x` }).end(), "CONFIG_INVALID", "never", "redirects"],
    [
      "elsewhere",
      (_, r) => r.writeHead(302, { location: "file:///etc/passwd" }).end(),
      "CONFIG_INVALID",
      "never",
      "file:",
    ],
    ["always out of order", (_, r) => r.writeHead(503).end(), "STORAGE_UNAVAILABLE", "backoff", "HTTP 503"],
  ])("%s", async (_name, answer, code, retry, message) => {
    const base = await serve(answer);
    await expect(download(`${base}/sum.ts`, limits)).rejects.toMatchObject({
      code,
      retry,
      message: expect.stringContaining(message),
    });
  });

  test("out of order for a while, or broken off in the middle: tried again", async () => {
    let count = 0;
    const base = await serve((_, response) => {
      count += 1;
      if (count === 1) response.writeHead(503).end();
      else if (count === 2) response.writeHead(200, { "content-length": "100" }).write("x", () => response.destroy());
      else response.end(CODE);
    });
    expect(Buffer.from(await download(`${base}/sum.ts`, limits)).toString()).toBe(CODE);
    expect(count).toBe(3);
  });

  test("a host that says nothing is given up in time", async () => {
    const base = await serve(() => {});
    await expect(download(`${base}/sum.ts`, { ...limits, timeoutMs: 200 })).rejects.toMatchObject({
      code: "STORAGE_UNAVAILABLE",
      message: expect.stringContaining("did not arrive within 0.2 s"),
    });
  });

  test("of no kind that can be fetched", async () => {
    const source = { kind: "uri", url: "ftp://host/sum.ts", sha256: sha256(CODE) } as const;
    await expect(place(source)).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  });
});

test("PV1: addresses of a pod, also where there is nothing but IPv6", () => {
  const job = { name: "sum", namespace: "ns", uid: "u" };
  const at = podEnvironment({ SLUICE_POD_IP: "10.0.0.7", SLUICE_POD_NAME: "sum-tm-0123456789-4" }, undefined);
  expect([at.listen, at.jobManagerOf(job), at.configPath]).toEqual([
    { rpc: "0.0.0.0:6123", rest: "0.0.0.0:8081", data: "0.0.0.0:6121", metrics: "0.0.0.0:9249" },
    "sum-jobmanager:6123",
    "/etc/sluice/pod.json",
  ]);
  expect(podEnvironment({ SLUICE_POD_IP: "fd00::7" }, undefined).listen.rpc).toBe("[::]:6123");
  expect(["sum-jm-0123456789-12", "sum-jm-0123456789", "pod"].map(podOrdinal)).toEqual([12, 0, 0]);
});

describe("PO1, PO2: last words and exit codes", () => {
  const failure = { code: "JOB_FOREIGN", message: "m", remedy: "r" } as const;
  test.each([
    [{ event: "jobEnded", state: "FAILED", message: "m" }, 0, { kind: "jobEnded", state: "FAILED" }],
    [{ event: "stopped", message: "m" }, 0, { kind: "stopped" }],
    [{ event: "fatal", ...failure, retry: "never" }, EXIT_NEVER, { kind: "fatal", failure: { code: "JOB_FOREIGN" } }],
    [{ event: "fatal", ...failure, retry: "backoff" }, 1, { kind: "fatal", failure: { retry: "backoff" } }],
  ] as const)("%j", (event, exitCode, report) => {
    const path = join(folder, "report");
    const supervision = podSupervision(path);
    supervision.onEvent({ event: "listening" });
    expect(existsSync(path)).toBe(false);
    supervision.onEvent(event);
    expect(supervision.exitCodeOf(event)).toBe(exitCode);
    expect(readPodReport(readFileSync(path, "utf8"))).toMatchObject({ type: "report", report });
  });

  test("before it listens it has failed to start; and what cannot be written ends nothing", () => {
    const path = join(folder, "report");
    const event = { event: "fatal", ...failure, retry: "never" } as const;
    podSupervision(path).onEvent(event);
    expect(readPodReport(readFileSync(path, "utf8"))).toMatchObject({ report: { kind: "failure" } });
    expect(() => podSupervision(join(folder, "no/such/folder")).onEvent(event)).not.toThrow();
  });
});
