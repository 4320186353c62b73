// What a process costs (as the kernel says) and whom the API server has answered (as its audit log says).
//
// Invariants:
//   ME1. A call counts when the API server has answered it: what the caller believes to have sent plays no part.
//   ME2. A watch counts when it begins, and never as a call.

import { createReadStream, readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const TICKS_PER_SECOND = 100;

/** CPU seconds of all threads of a process since it began. Linux. */
export function cpuSecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Resident memory of a process, MB (10^6 bytes): now, and the most that it ever was. Linux. */
export function residentMbOf(pid: number): { readonly now: number; readonly peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const mb = (name: string): number =>
    (Number(new RegExp(`${name}:\\s+(\\d+) kB`, "u").exec(status)?.[1]) * 1_024) / 1e6;
  return { now: mb("VmRSS"), peak: mb("VmHWM") };
}

export interface Audited {
  /** Without watches. */
  readonly calls: number;
  readonly watches: number;
  /** By "verb resource/subresource", most first. */
  readonly byKind: readonly (readonly [kind: string, count: number])[];
  readonly failures: readonly (readonly [kind: string, count: number])[];
}

interface AuditEvent {
  readonly stage: string;
  readonly verb: string;
  readonly userAgent?: string;
  readonly requestReceivedTimestamp: string;
  readonly objectRef?: { readonly resource?: string; readonly subresource?: string };
  readonly responseStatus?: { readonly code?: number };
}

/** Calls of `userAgent` (a beginning of it) that the server received in [fromMs, toMs). */
export async function audited(
  path: string,
  of: { readonly userAgent: string; readonly fromMs: number; readonly toMs: number },
): Promise<Audited> {
  const kinds = new Map<string, number>();
  const failures = new Map<string, number>();
  let watches = 0;
  const count = (map: Map<string, number>, key: string): void => void map.set(key, (map.get(key) ?? 0) + 1);
  for await (const line of createInterface({ input: createReadStream(path) })) {
    if (!line.endsWith("}")) continue; // being written
    const event = JSON.parse(line) as AuditEvent;
    const atMs = Date.parse(event.requestReceivedTimestamp);
    if (atMs < of.fromMs || atMs >= of.toMs || event.userAgent?.startsWith(of.userAgent) !== true) continue;
    if (event.verb === "watch") {
      if (event.stage === "ResponseStarted") watches += 1; // ME2
      continue;
    }
    if (event.stage !== "ResponseComplete" && event.stage !== "Panic") continue;
    const { resource = "?", subresource } = event.objectRef ?? {};
    const kind = `${event.verb} ${resource}${subresource === undefined ? "" : `/${subresource}`}`;
    count(kinds, kind);
    const code = event.responseStatus?.code ?? 0;
    if (code >= 400) count(failures, `${kind} ${code}`);
  }
  const sorted = (map: Map<string, number>): [string, number][] => [...map].toSorted(([, a], [, b]) => b - a);
  return {
    calls: [...kinds.values()].reduce((a, b) => a + b, 0),
    watches,
    byKind: sorted(kinds),
    failures: sorted(failures),
  };
}

/** Sum of a counter over its labels, in Prometheus' text; `where` must be in the line. */
export function counterIn(text: string, name: string, where = ""): number {
  return text
    .split("\n")
    .filter((line) => (line.startsWith(`${name}{`) || line.startsWith(`${name} `)) && line.includes(where))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}
