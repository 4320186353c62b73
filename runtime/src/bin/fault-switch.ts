// Ends a process at a fault point, as SIGKILL does, once. For test harnesses.
//
// SLUICE_FAULT_SWITCH names a directory. A file `armed` in it holds the name of a fault point; the first process that reaches that
// point renames the file to `struck-{pid}` and is gone.
//
// Invariants:
//   FS1. One strike per arming, however many processes reach the point: only one of them can rename the file.
//   FS2. Nothing of the process runs after a strike: no handler, no flush, no farewell to anybody.
//   FS3. At a step that has sent messages they have left: connections write what they were given at the end of the turn.

import { readFileSync, renameSync } from "node:fs";
import { join } from "node:path";

import { FAULT_POINTS, Failure, watchFaultPoints } from "@sluice/kit";
import type { FaultPoint } from "@sluice/kit";
import type { Log } from "@sluice/kit/env";

/** FS3. */
const MESSAGES_SENT: readonly FaultPoint[] = ["P2-triggered", "P5-after-notify"];

/** Does nothing unless the environment asks for it. */
export function installFaultSwitch(log: Log): void {
  const directory = process.env["SLUICE_FAULT_SWITCH"];
  if (directory === undefined) return;
  watchFaultPoints((point) => {
    if (armedPoint(join(directory, "armed")) !== point) return;
    try {
      renameSync(join(directory, "armed"), join(directory, `struck-${process.pid}`)); // FS1
    } catch {
      return; // somebody else was struck
    }
    const kill = (): never => {
      log.warn("fault point: this process is killed", { point });
      process.kill(process.pid, "SIGKILL");
      for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); // FS2: the signal may need a moment
    };
    if (MESSAGES_SENT.includes(point))
      setImmediate(kill); // FS3
    else kill();
  });
}

function armedPoint(path: string): FaultPoint | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8").trim();
  } catch {
    return undefined; // not armed
  }
  const point = FAULT_POINTS.find((name) => name === text);
  if (point !== undefined) return point;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `"${text}" in ${path} is no fault point`,
    remedy: `one of ${FAULT_POINTS.join(", ")}`,
  });
}
