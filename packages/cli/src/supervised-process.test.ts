// Supervision of tiny fake programs: restarts, backoff, giving up, stopping.

import { afterEach, describe, expect, test } from "@jest/globals";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { DEFAULT_RESTARTS, SupervisedProcess } from "./supervised-process.ts";
import type { RestartPolicy, SupervisionEvent } from "./supervised-process.ts";

const SAY = `const say = (e) => require("fs").writeSync(1, JSON.stringify(e) + "\\n");`;
const LISTEN = `${SAY} say({ event: "listening" });`;
const STAY = "setInterval(() => {}, 1e6); process.stdin.resume(); process.stdin.on('end', () => process.exit(0));";

interface Supervised {
  readonly process: SupervisedProcess;
  readonly events: SupervisionEvent[];
  /** The next event that was not waited for yet and fits. */
  readonly next: (fits: (event: SupervisionEvent) => boolean) => Promise<SupervisionEvent>;
  readonly logPath: string;
}

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

function supervise(script: string, restarts: Partial<RestartPolicy> = {}): Supervised {
  const folder = mkdtempSync(join(tmpdir(), "sluice-supervised-"));
  const events: SupervisionEvent[] = [];
  let seen = 0;
  let wake = (): void => {};
  const supervised = new SupervisedProcess({
    command: process.execPath,
    args: ["-e", script],
    env: { PATH: process.env["PATH"] },
    logPath: join(folder, "log"),
    restarts: { ...DEFAULT_RESTARTS, initialMs: 1, maxMs: 8, jitter: 0, ...restarts },
    name: "the fake",
    onEvent: (event) => {
      events.push(event);
      wake();
    },
  });
  cleanups.push(async () => {
    await supervised.stop(0);
    rmSync(folder, { recursive: true, force: true });
  });
  supervised.start();
  return {
    process: supervised,
    events,
    logPath: join(folder, "log"),
    next: async (fits) => {
      for (;;) {
        while (seen < events.length) {
          const event = events[seen]!;
          seen += 1;
          if (fits(event)) return event;
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

const isListening = (event: SupervisionEvent): boolean => event.type === "said" && event.said.event === "listening";

describe("SP2: it is started again", () => {
  test("after SIGKILL, with a new process", async () => {
    const { process: supervised, next, events } = supervise(LISTEN + STAY);
    await next(isListening);
    const first = supervised.pid;
    supervised.kill("SIGKILL");
    expect(await next((event) => event.type === "exited")).toMatchObject({ signal: "SIGKILL", code: null });
    expect(await next((event) => event.type === "restarting")).toMatchObject({ reason: "killed by SIGKILL" });
    await next(isListening);
    expect(supervised.pid).not.toBe(first);
    expect(supervised.starts).toBe(2);
    expect(events.filter((event) => event.type === "started")).toHaveLength(2);
  });

  test("after exit code 0, when nobody asked it to end", async () => {
    const { next } = supervise(`${LISTEN} process.exit(0);`);
    expect(await next((event) => event.type === "restarting")).toMatchObject({ reason: "exit code 0" });
    await next(isListening);
  });

  test("after a fatal error that may pass, with the reason", async () => {
    const fatal = { event: "fatal", code: "STORAGE_UNAVAILABLE", message: "no bucket", remedy: "", retry: "backoff" };
    const { next } = supervise(`${LISTEN} say(${JSON.stringify(fatal)}); process.exit(1);`);
    expect(await next((event) => event.type === "restarting")).toMatchObject({
      reason: "STORAGE_UNAVAILABLE: no bucket",
    });
  });

  test("with growing delays", async () => {
    const { next } = supervise(`${LISTEN} process.exit(3);`);
    const delays: number[] = [];
    while (delays.length < 5) {
      const event = await next(({ type }) => type === "restarting");
      if (event.type === "restarting") delays.push(event.delayMs);
    }
    expect(delays).toEqual([1, 2, 4, 8, 8]);
  });
});

describe("SP2: it is not started again", () => {
  test("after the job has ended", async () => {
    const ended = { event: "jobEnded", state: "FINISHED", message: "done" };
    const {
      process: supervised,
      next,
      events,
    } = supervise(`${LISTEN} say(${JSON.stringify(ended)}); process.exit(0);`);
    await next((event) => event.type === "exited");
    expect(supervised.state).toBe("over");
    expect(events.map((event) => event.type)).toEqual(["started", "said", "said", "exited"]);
  });

  test("after a fatal error that never passes: code, message and remedy are handed on", async () => {
    const fatal = {
      event: "fatal",
      code: "JOB_FINISHED",
      message: "it has finished",
      remedy: "another name",
      retry: "never",
    };
    const { process: supervised, next } = supervise(`${SAY} say(${JSON.stringify(fatal)}); process.exit(1);`);
    const gaveUp = await next((event) => event.type === "gaveUp");
    expect(gaveUp).toMatchObject({
      failure: { code: "JOB_FINISHED", message: "it has finished", remedy: "another name" },
    });
    expect(supervised.state).toBe("over");
    expect(supervised.starts).toBe(1);
  });

  test("when it never gets as far as listening: the end of its log is told", async () => {
    const { process: supervised, next } = supervise(`console.error("no such module"); process.exit(7);`, {
      failedStartsMax: 3,
    });
    const gaveUp = await next((event) => event.type === "gaveUp");
    expect(supervised.starts).toBe(3);
    expect(gaveUp).toMatchObject({
      failure: {
        code: "INTERNAL",
        message: expect.stringMatching(/failed to start 3 times.*exit code 7\n.*no such module/s),
      },
    });
  });

  test("when there is no such program", async () => {
    const events: SupervisionEvent[] = [];
    const folder = mkdtempSync(join(tmpdir(), "sluice-supervised-"));
    const gaveUp = Promise.withResolvers<void>();
    const supervised = new SupervisedProcess({
      command: join(folder, "absent"),
      args: [],
      env: {},
      logPath: join(folder, "log"),
      restarts: DEFAULT_RESTARTS,
      name: "the fake",
      onEvent: (event) => {
        events.push(event);
        if (event.type === "gaveUp") gaveUp.resolve();
      },
    });
    supervised.start();
    await gaveUp.promise;
    expect(events).toMatchObject([
      { type: "gaveUp", failure: { message: expect.stringContaining("cannot be started") } },
    ]);
    await supervised.stop(0);
    rmSync(folder, { recursive: true, force: true });
  });
});

describe("stopping", () => {
  test("is graceful: the child hears SIGTERM and may tidy up", async () => {
    const {
      process: supervised,
      next,
      logPath,
    } = supervise(`process.on("SIGTERM", () => { console.error("tidied up"); process.exit(0); }); ${LISTEN} ${STAY}`);
    await next(isListening);
    await supervised.stop(60_000);
    expect(readFileSync(logPath, "utf8")).toContain("tidied up");
    expect(supervised.state).toBe("over");
    expect(supervised.pid).toBeUndefined();
  });

  test.each([
    ["that does not listen", 'process.on("SIGTERM", () => {});', undefined],
    ["that is paused", "", "SIGSTOP"],
  ] as const)("kills a child %s once its time is over", async (_what, script, signal) => {
    const { process: supervised, next } = supervise(`${script} ${LISTEN} ${STAY}`);
    await next(isListening);
    if (signal !== undefined) supervised.kill(signal);
    await supervised.stop(signal === undefined ? 50 : 0);
    expect(supervised.pid).toBeUndefined();
  });

  test("between two starts nothing is started any more", async () => {
    const { process: supervised, next } = supervise(`${LISTEN} process.exit(1);`, { initialMs: 60_000, maxMs: 60_000 });
    await next((event) => event.type === "restarting");
    expect(supervised.state).toBe("waiting");
    await supervised.stop(1_000);
    expect(supervised.state).toBe("over");
    expect(supervised.starts).toBe(1);
  });
});

test("what the user's code prints is no event, whatever it looks like", async () => {
  const lines = ["hello", '{"event":', '{"event":"unknown"}', '{"a":1}'];
  const { next, events } = supervise(
    `${SAY} console.log(${JSON.stringify(lines.join("\n"))}); say({ event: "listening" }); ${STAY}`,
  );
  await next(isListening);
  expect(events.flatMap((event) => (event.type === "printed" ? [event.line] : []))).toEqual(lines);
});

test("SP3: the child's standard input ends with its supervisor", async () => {
  // a supervisor in a process of its own, killed without a chance to say anything
  const folder = mkdtempSync(join(tmpdir(), "sluice-supervised-"));
  const module = new URL("./supervised-process.ts", import.meta.url).href;
  const child = `${LISTEN} require("fs").writeFileSync("${folder}/pid", String(process.pid)); process.stdin.resume(); process.stdin.on("end", () => { require("fs").writeFileSync("${folder}/ended", ""); process.exit(0); });`;
  const script = `
    const { SupervisedProcess, DEFAULT_RESTARTS } = await import(${JSON.stringify(module)});
    new SupervisedProcess({
      command: process.execPath, args: ["-e", ${JSON.stringify(child)}], env: {}, logPath: ${JSON.stringify(join(folder, "log"))},
      restarts: DEFAULT_RESTARTS, name: "x", onEvent: (e) => { if (e.type === "said") process.kill(process.pid, "SIGKILL"); },
    }).start();`;
  const { spawnSync } = await import("node:child_process");
  const { signal } = spawnSync(process.execPath, ["--input-type=module", "-e", script]);
  expect(signal).toBe("SIGKILL");
  const ended = (): boolean => {
    try {
      readFileSync(join(folder, "ended"));
      return true;
    } catch {
      return false;
    }
  };
  while (!ended()) await new Promise((resolve) => setImmediate(resolve));
  rmSync(folder, { recursive: true, force: true });
});
