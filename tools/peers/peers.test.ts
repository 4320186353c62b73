// Peers: what is promised about having, starting and stopping them.

import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";

import {
  checkMetrics,
  goBuildKey,
  kubernetes,
  minio,
  promtool,
  runToEnd,
  startApiServer,
  startMinio,
} from "./index.ts";
import type { ApiServer, CommandOutcome, GoBuild } from "./index.ts";
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

describe("GO1: the key of a Go build", () => {
  const build = (): GoBuild => ({ moduleFolder: folder, programs: { x: "." } });
  beforeEach(() => {
    writeFileSync(join(folder, "go.mod"), "module x\n");
    writeFileSync(join(folder, "main.go"), "package main\n");
  });

  test("is that of the same sources elsewhere", () => {
    const copy = mkdtempSync(join(tmpdir(), "sluice-peers-"));
    cpSync(folder, copy, { recursive: true });
    expect(goBuildKey({ ...build(), moduleFolder: copy })).toBe(goBuildKey(build()));
    rmSync(copy, { recursive: true });
  });

  test.each([
    ["a changed source", () => writeFileSync(join(folder, "main.go"), "package main // 2\n"), {}],
    ["a changed version", () => writeFileSync(join(folder, "go.mod"), "module x\ngo 1.24\n"), {}],
    ["a checksum file", () => writeFileSync(join(folder, "go.sum"), "y v1 h1:\n"), {}],
    ["a file in a folder below", () => cpSync(join(folder, "main.go"), join(folder, "sub/main.go")), {}],
    ["another program", () => undefined, { programs: { x: "./sub" } }],
    ["another linker variable", () => undefined, { linkerVariables: { v: "2" } }],
  ])("is another one with %s", (_name, change, differences) => {
    const before = goBuildKey(build());
    change();
    expect(goBuildKey({ ...build(), ...differences })).not.toBe(before);
  });
});

describeWithPeer(kubernetes, "an API server of Kubernetes", () => {
  const crd = {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: "gates.test.sluice.dev" },
    spec: {
      group: "test.sluice.dev",
      scope: "Namespaced",
      names: { plural: "gates", singular: "gate", kind: "Gate" },
      versions: [
        {
          name: "v1",
          served: true,
          storage: true,
          schema: {
            openAPIV3Schema: {
              type: "object",
              properties: { spec: { type: "object", properties: { width: { type: "integer" } } } },
              "x-kubernetes-validations": [{ rule: "self.spec.width > 0", message: "a gate is wider than nothing" }],
            },
          },
        },
      ],
    },
  };
  const gate = (name: string, width: number): object => ({
    apiVersion: "test.sluice.dev/v1",
    kind: "Gate",
    metadata: { name },
    spec: { width },
  });
  const kubectl = (server: ApiServer, args: readonly string[], input?: object): Promise<CommandOutcome> =>
    runToEnd({
      command: server.kubectl,
      args: ["--kubeconfig", server.kubeconfig, ...args],
      ...(input === undefined ? {} : { input: JSON.stringify(input) }),
    });

  test("AS1, AS3: two at once know nothing of each other, and are gone after stop", async () => {
    const servers = await Promise.all([startApiServer(), startApiServer()]);
    const [first, second] = servers;
    try {
      expect((await kubectl(first, ["create", "namespace", "one"])).code).toBe(0);
      expect((await kubectl(first, ["get", "namespace", "one"])).code).toBe(0);
      expect((await kubectl(second, ["get", "namespace", "one"])).output).toContain("NotFound");
    } finally {
      for (const server of servers) await server.stop();
    }
    for (const { pid, etcdPid, kubeconfig } of servers) {
      expect(() => process.kill(pid, 0)).toThrow("ESRCH");
      expect(() => process.kill(etcdPid, 0)).toThrow("ESRCH");
      expect(existsSync(kubeconfig)).toBe(false);
    }
  }, 240_000);

  test("it validates custom resources with CEL, and the named controllers collect garbage", async () => {
    const server = await startApiServer({ controllers: ["garbage-collector-controller"] });
    try {
      expect((await kubectl(server, ["apply", "-f", "-"], crd)).code).toBe(0);
      await kubectl(server, ["wait", "--for=condition=Established", "crd/gates.test.sluice.dev", "--timeout=60s"]);
      expect((await kubectl(server, ["apply", "-f", "-"], gate("wide", 3))).code).toBe(0);
      const refused = await kubectl(server, ["apply", "-f", "-"], gate("none", 0));
      expect(refused.output).toContain("a gate is wider than nothing");
      expect(refused.code).toBe(1);

      const configMap = (name: string, ownerReferences: readonly object[]): object => {
        return { apiVersion: "v1", kind: "ConfigMap", metadata: { name, ownerReferences } };
      };
      expect((await kubectl(server, ["apply", "-f", "-"], configMap("owner", []))).code).toBe(0);
      const { output: uid } = await kubectl(server, ["get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}"]);
      const owned = configMap("owned", [{ apiVersion: "v1", kind: "ConfigMap", name: "owner", uid }]);
      expect((await kubectl(server, ["apply", "-f", "-"], owned)).code).toBe(0);
      await kubectl(server, ["delete", "configmap", "owner"]);
      await kubectl(server, ["wait", "--for=delete", "configmap/owned", "--timeout=60s"]);
      expect((await kubectl(server, ["get", "configmap", "owned"])).output).toContain("NotFound");
    } finally {
      await server.stop();
    }
  }, 240_000);
});
