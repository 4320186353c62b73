// `sluice run` with real processes: how it ends, and with which exit code.

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));
const RUNTIME = new URL("../../../runtime/src/index.ts", import.meta.url).href;
const TIMEOUT_MS = 90_000;
/** Records per second. The slow one outlasts all that is done to a running job. */
const FAST = "2000";
const SLOW = "40";

const JOB = `
import { DiscardSink, GeneratorSource, KeyedProcessFunction, Types, ValueStateDescriptor } from ${JSON.stringify(RUNTIME)};
class Count extends KeyedProcessFunction {
  #count;
  #failAt;
  constructor(failAt) { super(); this.#failAt = failAt; }
  open(context) { this.#count = context.getState(new ValueStateDescriptor("count", Types.LONG())); }
  processElement(value, _context, out) {
    if (value === this.#failAt) this.explode(value);
    const count = (this.#count.value() ?? 0) + 1;
    this.#count.update(count);
    out.collect(count);
  }
  explode(value) { throw new RangeError("not " + value + " again"); }
}
export function main(env, args) {
  const [count, ratePerSecond, failAt] = args.map(Number);
  env.enableCheckpointing(200);
  env.fromSource(new GeneratorSource({ count, ratePerSecond, type: Types.LONG(), generate: (i) => i })).uid("numbers")
    .keyBy((value) => value % 10, Types.LONG()).process(new Count(failAt ?? -1), Types.LONG()).uid("count")
    .sinkTo(new DiscardSink()).uid("sink");
}
`;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "sluice-run-"));
  writeFileSync(join(folder, "job.mjs"), JOB);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Line {
  readonly kind: string;
  readonly text?: string;
  readonly state?: string;
}

interface Run {
  readonly child: ChildProcess;
  readonly lines: readonly Line[];
  /** Resolves with the first line that fits. */
  readonly line: (fits: (line: Line) => boolean) => Promise<Line>;
  readonly end: Promise<{ readonly code: number | null; readonly last: Line }>;
}

function run(...args: readonly string[]): Run {
  const child = spawn(process.execPath, [MAIN, "run", "job.mjs", "--json", "--rest-port", "0", ...args], {
    cwd: folder,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines: Line[] = [];
  let rest = "";
  let wake = (): void => {};
  child.stdout.setEncoding("utf8").on("data", (more: string) => {
    const parts = (rest + more).split("\n");
    rest = parts.pop() ?? "";
    lines.push(...parts.map((part) => JSON.parse(part) as Line));
    wake();
  });
  const end = new Promise<{ code: number | null; last: Line }>((resolve) => {
    child.once("close", (code) => resolve({ code, last: lines.at(-1)! }));
  });
  return {
    child,
    lines,
    end,
    line: async (fits) => {
      for (;;) {
        const found = lines.find(fits);
        if (found !== undefined) return found;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

const isRunning = (line: Line): boolean => line.kind === "progress" && line.state === "RUNNING";

describe("sluice run", () => {
  test(
    "a finished job is exit code 0; the same again is refused with 2, a new lineage is not",
    async () => {
      const first = await run("--name", "again", "500", FAST).end;
      expect(first).toMatchObject({ code: 0, last: { kind: "ended", state: "FINISHED" } });
      const second = await run("--name", "again", "500", FAST).end;
      expect(second).toMatchObject({ code: 2, last: { text: expect.stringMatching(/was not started: JOB_FINISHED/) } });
      const third = await run("--name", "again", "--new-lineage", "500", FAST).end;
      expect(third.code).toBe(0);
    },
    TIMEOUT_MS,
  );

  test(
    "a failed job is exit code 1, and the last words hold code, remedy and the user's stack; keys that change nothing are told",
    async () => {
      const configuration = ["-D", "restart-strategy.type=none", "-D", "taskmanager.memory.process.size=1g"];
      const running = run("--name", "fails", ...configuration, "--", "5000", FAST, "300");
      const { code, last } = await running.end;
      expect(running.lines.filter(({ kind }) => kind === "warning")).toMatchObject([
        { text: expect.stringMatching(/^warning: taskmanager\.memory\.process\.size .*changes nothing$/u) },
      ]);
      expect(code).toBe(1);
      expect(last.text).toMatch(
        /^job fails FAILED: USER_FUNCTION_FAILED: .*RangeError: not 300 again\n {2}What to do: /,
      );
      expect(last.text).toMatch(/at Count\.explode \(.*job\.mjs:\d+/);
    },
    TIMEOUT_MS,
  );

  test(
    "RU2: Ctrl-C cancels; a cancelled job goes on when it is run again",
    async () => {
      const running = run("--name", "canceled", "4000", SLOW);
      await running.line(isRunning);
      running.child.kill("SIGINT");
      expect(await running.end).toMatchObject({ code: 0, last: { kind: "ended", state: "CANCELED" } });
      expect(await run("--name", "canceled", "4000", FAST).end).toMatchObject({ code: 0, last: { state: "FINISHED" } });
    },
    TIMEOUT_MS,
  );

  test(
    "RU2: SIGTERM stops without cancelling; a second run meanwhile is refused",
    async () => {
      const running = run("--name", "stopped", "60000", SLOW);
      await running.line(isRunning);
      const second = run("--name", "stopped", "60000", SLOW);
      expect(await new Promise((resolve) => second.child.once("close", resolve))).toBe(2);
      running.child.kill("SIGTERM");
      expect(await running.end).toMatchObject({ code: 143, last: { kind: "ended", state: "STOPPED" } });
    },
    TIMEOUT_MS,
  );
});
