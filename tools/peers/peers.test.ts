// Peers: what is promised about having, starting and stopping them.

import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";

import { checkMetrics, minio, promtool, startMinio } from "./index.ts";
import { describeWithPeer } from "./jest.ts";
import { makeInPlace } from "./peer.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sluice-peers-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("the cache", () => {
  test("R2: a build that fails leaves nothing behind", async () => {
    const place = join(folder, "peers", "x");
    const build = makeInPlace(place, (partial) => {
      writeFileSync(join(partial, "half"), "");
      return Promise.reject(new Error("no network"));
    });
    await expect(build).rejects.toThrow("no network");
    expect(readdirSync(join(folder, "peers"))).toEqual([]);
  });

  test("R2: of two builds at once one stays, complete", async () => {
    const place = join(folder, "peers", "x");
    const build = (text: string): Promise<void> =>
      makeInPlace(place, (partial) => Promise.resolve(writeFileSync(join(partial, "program"), text)));
    await Promise.all([build("a"), build("b")]);
    expect(readdirSync(join(folder, "peers"))).toEqual(["x"]);
    expect(readdirSync(place)).toEqual(["program"]);
  });

  test("R1: a peer that cannot be had is a value with a reason", () => {
    const before = process.env["SLUICE_CACHE"];
    process.env["SLUICE_CACHE"] = folder;
    try {
      expect(minio.find()).toEqual({ available: false, reason: expect.stringContaining(folder) });
    } finally {
      if (before === undefined) delete process.env["SLUICE_CACHE"];
      else process.env["SLUICE_CACHE"] = before;
    }
  });
});

describeWithPeer(minio, "MinIO", () => {
  test("S2, S3: two at once answer on ports of their own, and are gone after stop", async () => {
    const servers = await Promise.all([startMinio(), startMinio()]);
    const [first, second] = servers;
    expect(first.port).not.toBe(second.port);
    for (const { endpoint } of servers) expect((await fetch(endpoint)).headers.get("server")).toBe("MinIO");
    for (const server of servers) {
      await server.stop();
      await expect(fetch(server.endpoint)).rejects.toThrow();
      expect(existsSync(server.dataFolder)).toBe(false);
      expect(() => process.kill(server.pid, 0)).toThrow("ESRCH");
    }
  }, 60_000);

  test("S3: a paused one stops too, and a folder that the caller gave stays", async () => {
    const server = await startMinio({ dataFolder: folder });
    process.kill(server.pid, "SIGSTOP");
    await server.stop();
    expect(existsSync(folder)).toBe(true);
  }, 60_000);
});

describeWithPeer(promtool, "promtool", () => {
  const good = "# HELP x_total What x counts.\n# TYPE x_total counter\nx_total 1\n";

  test.each([
    ["a good page", good, 0, ""],
    ["a page without help", "# TYPE x_total counter\nx_total 1\n", 3, "x_total no help text"],
    ["a page that is none", "{{{\n", 1, "error while linting"],
  ])("%s", async (_name, page, code, complaint) => {
    const verdict = await checkMetrics(page);
    expect(verdict.complaints.join("\n")).toContain(complaint);
    expect(verdict.code).toBe(code);
    expect(verdict.complaints.length === 0).toBe(code === 0);
  });
});
