// The driver's own promises that need no cluster: the lock, the record, and the runtime for machines without all capabilities.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";

import { buildWithGo, peersRequired, whyNoGo } from "@sluice/tools/peers";
import { SKIPPED_BECAUSE } from "@sluice/tools/peers/jest";

import { processIdentity, readRecord, state, withLock, writeRecord } from "./places.ts";
import { attempt, Progress, run } from "./terminal.ts";

let folder = "";
const cacheBefore = process.env["SLUICE_CACHE"];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sluice-cluster-test-"));
  process.env["SLUICE_CACHE"] = folder;
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
  if (cacheBefore === undefined) delete process.env["SLUICE_CACHE"];
  else process.env["SLUICE_CACHE"] = cacheBefore;
});

describe("the lock", () => {
  test("is free again after success and after failure", async () => {
    await expect(withLock(() => Promise.resolve(7))).resolves.toBe(7);
    await expect(withLock(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
    await withLock(() => Promise.resolve(expect(existsSync(state("lock"))).toBe(true)));
    expect(existsSync(state("lock"))).toBe(false);
  });

  test("of a process that works is respected, that of one that ended is not", async () => {
    const other = spawn(process.execPath, ["-e", "setInterval(() => {}, 1e6)"]);
    const gone = once(other, "exit");
    writeFileSync(state("lock"), processIdentity(other.pid ?? 0) ?? "");
    const refused = withLock(() => Promise.resolve("entered"), 0);
    await expect(refused).rejects.toThrow(`process ${other.pid} is working on the cluster`);
    other.kill("SIGKILL");
    await gone;
    await expect(withLock(() => Promise.resolve("entered"))).resolves.toBe("entered");
  });

  test("keeps two apart: the second enters when the first has left", async () => {
    const order: string[] = [];
    const enter = (name: string) => async (): Promise<void> => {
      order.push(`${name} in`);
      await new Promise((resolve) => setImmediate(resolve));
      order.push(`${name} out`);
    };
    await Promise.all([withLock(enter("a")), withLock(enter("b"))]);
    expect(order).toEqual(["a in", "a out", "b in", "b out"]);
  });

  test("with the id of a process that started at another time is one that was left behind", async () => {
    writeFileSync(state("lock"), `${process.pid} 1`);
    await expect(withLock(() => Promise.resolve("entered"))).resolves.toBe("entered");
  });
});

describe("the record of the cluster", () => {
  const record = { mode: "own", key: "k", nodeImage: "n", loaded: { "a:1": "sha256:1" } } as const;

  test("is read as it was written, and absent when removed", () => {
    expect(readRecord()).toBeUndefined();
    writeRecord(record);
    expect(readRecord()).toEqual(record);
    writeRecord(undefined);
    expect(readRecord()).toBeUndefined();
  });

  test("that is damaged is none", () => {
    writeFileSync(state("cluster.json"), '{"mode": "ow');
    expect(readRecord()).toBeUndefined();
  });
});

describe("commands and progress", () => {
  test("a command that fails names itself, its code and its last words", async () => {
    const failing = run([process.execPath, "-e", "console.error('disk is full'); process.exit(3)"]);
    await expect(failing).rejects.toThrow(/ended with exit code 3:\n {2}disk is full/u);
    expect((await attempt(["no-such-program-here"])).code).toBe(127);
  });

  test("the table has a line for each part, in the order of their beginnings", async () => {
    const lines: string[] = [];
    const progress = new Progress((line) => lines.push(line));
    const inner = progress.part("first", () => progress.part("second", () => Promise.resolve()));
    await inner;
    const names = progress
      .table()
      .split("\n")
      .map((line) => line.split(" ")[0]);
    expect(names).toEqual(["part", "first", "second", "total"]);
    expect(lines.map((line) => line.replaceAll(/[\d.]+ s/gu, "N s"))).toEqual([
      "[  N s] first",
      "[  N s] second",
      "[  N s] second: done in N s",
      "[  N s] first: done in N s",
    ]);
  });
});

const describeWithGo = whyNoGo() === undefined || peersRequired() ? describe : describe.skip;
const skipped = whyNoGo() === undefined ? "" : ` (${SKIPPED_BECAUSE} ${whyNoGo()})`;
describeWithGo(`the runtime that leaves out what the machine lacks${skipped}`, () => {
  const WANTED = ["CAP_CHOWN", "CAP_NO_SUCH_THING", "CAP_KILL"];
  const LARGE = "9223372036854775807";
  let runtime = "";
  let env: NodeJS.ProcessEnv = {};

  beforeEach(async () => {
    await buildWithGo(
      { moduleFolder: join(import.meta.dirname, "programs"), programs: { capabilities: "./capabilities" } },
      folder,
    );
    runtime = join(folder, "capabilities");
    const bin = join(folder, "bin");
    mkdirSync(bin);
    writeFileSync(join(bin, "runc"), '#!/bin/sh\necho "runc got: $*"\n');
    chmodSync(join(bin, "runc"), 0o755);
    env = { PATH: `${bin}:/usr/bin:/bin` };
  }, 300_000);

  const sets = `{"bounding": ${JSON.stringify(WANTED)}, "effective": ["CAP_KILL"]}`;
  const bounding = (text: string): string[] => {
    const found = /"bounding":(\[[^\]]*\])/u.exec(text)?.[1] ?? "[]";
    return JSON.parse(found) as string[];
  };

  test.each([
    [
      "create",
      ["--root", "/x", "create", "--bundle", "BUNDLE", "id"],
      "config.json",
      `{"process": {"capabilities": ${sets}}, "limit": ${LARGE}}`,
    ],
    [
      "exec",
      ["exec", "--process", "BUNDLE/process.json", "id"],
      "process.json",
      `{"capabilities": ${sets}, "limit": ${LARGE}}`,
    ],
  ])(
    "%s: asks for what there is, changes nothing else, and becomes runc with the same arguments",
    async (_name, args, file, text) => {
      writeFileSync(join(folder, file), text);
      const real = args.map((arg) => arg.replace("BUNDLE", folder));
      const { code, output } = await attempt([runtime, ...real], { env });
      expect(output.trim()).toBe(`runc got: ${real.join(" ")}`);
      expect(code).toBe(0);
      const after = readFileSync(join(folder, file), "utf8");
      expect(bounding(after)).not.toContain("CAP_NO_SUCH_THING");
      expect(bounding(after).every((name) => WANTED.includes(name))).toBe(true);
      if (process.getuid?.() === 0) expect(bounding(after)).toContain("CAP_CHOWN");
      expect(after).toContain(LARGE);
    },
  );

  test("other commands go through untouched, and a request that cannot be read is an error", async () => {
    expect((await attempt([runtime, "state", "id"], { env })).output.trim()).toBe("runc got: state id");
    const { code, output } = await attempt([runtime, "create", "--bundle", join(folder, "nowhere"), "id"], { env });
    expect(code).toBe(1);
    expect(output).toContain("no such file");
  });
});
