// Barrier alignment: one line per case, in a small language of what arrives and what the aligner answers.

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import type { Barrier, CheckpointId, CheckpointingMode } from "../model/index.ts";
import { type AlignerDecision, BarrierAligner } from "./aligner.ts";

const barrier = (id: number): Barrier => ({ checkpointId: id as CheckpointId, timestampMs: 100, isFinal: false });

/** `a5` barrier 5 on channel a, `a.` channel a ends, `!5` cancel 5; answers `T5`, `A5`, `Ba` (blocked), and at the end what is blocked. */
function play(mode: CheckpointingMode, channelCount: number, script: string): string {
  const aligner = new BarrierAligner({ channelCount, mode });
  const seen: string[] = [];
  script.split(" ").forEach((word, i) => {
    const channel = word.charCodeAt(0) - 97;
    const at = { nowMs: i * 10, wallMs: 100 + i * 10 };
    let decisions: readonly AlignerDecision[];
    if (word.startsWith("!")) decisions = aligner.onCancel(Number(word.slice(1)) as CheckpointId);
    else if (word.endsWith(".")) decisions = aligner.onEndOfInput(channel, at);
    else decisions = aligner.onBarrier(channel, barrier(Number(word.slice(1))), at);
    for (const d of decisions) {
      if (d.type === "blocked") seen.push(`B${String.fromCharCode(97 + d.channel)}`);
      if (d.type === "trigger") seen.push(`T${d.barrier.checkpointId}`);
      if (d.type === "aborted") seen.push(`A${d.checkpointId}`);
    }
  });
  const blocked = Array.from({ length: channelCount }, (_, c) =>
    aligner.isBlocked(c) ? String.fromCharCode(97 + c) : "",
  ).join("");
  return `${seen.join(" ")} [${blocked}]`.trim();
}

describe("exactly once", () => {
  test.each([
    ["one channel never waits", 1, "a1 a2", "T1 T2 []"],
    ["A1: channels wait for the last one", 3, "a1 b1", "Ba Bb [ab]"],
    ["A1: all barriers trigger and free everything", 3, "a1 b1 c1", "Ba Bb T1 []"],
    ["A2: a newer barrier aborts the older alignment", 2, "a1 b2", "Ba A1 Bb [b]"],
    ["A2: and completes on its own", 2, "a1 b2 a2", "Ba A1 Bb T2 []"],
    ["A3: the older barrier of a slow channel is obsolete", 3, "a1 b2 c1", "Ba A1 Bb [b]"],
    ["A3: an older barrier does not disturb an alignment that began first", 3, "a5 b4 b5 c5", "Ba Bb T5 []"],
    ["A3: a triggered id is not triggered again", 2, "a1 b1 a1", "Ba T1 []"],
    ["A3: a cancelled id never aligns", 2, "!1 a1 b1 a2 b2", "Ba T2 []"],
    ["A3: a cancellation frees the channels", 2, "a1 !1", "Ba A1 []"],
    ["A3: its late barrier starts nothing", 2, "a1 !1 b1", "Ba A1 []"],
    ["a cancellation of another id changes nothing", 2, "a2 !1 b2", "Ba T2 []"],
    ["A4: an ended channel counts as aligned", 2, "b. a1", "T1 []"],
    ["A4: an end during the alignment completes it", 2, "a1 b.", "Ba T1 []"],
    ["A4: the barrier of an ended channel is harmless", 2, "b. a1 b1", "T1 []"],
    ["A4: all ended, the first barrier triggers", 2, "a. b. a1 b1", "T1 []"],
  ])("%s", (_name, channels, script, expected) => {
    expect(play("EXACTLY_ONCE", channels, script)).toBe(expected);
  });
});

describe("at least once", () => {
  test.each([
    ["A5: nothing is blocked", 2, "a1", "[]"],
    ["A5: triggers when all have it", 2, "a1 b1", "T1 []"],
    ["A5: counts several ids", 2, "a1 a2 b1 b2", "T1 T2 []"],
    ["A5: a newer one that completes first ends the older", 3, "a1 a2 b2 c2 b1", "A1 T2 []"],
    ["A3: cancelled", 2, "a1 !1 b1", "A1 []"],
    ["A4: ends count", 2, "a1 a2 b.", "A1 T2 []"],
  ])("%s", (_name, channels, script, expected) => {
    expect(play("AT_LEAST_ONCE", channels, script)).toBe(expected);
  });
});

test("alignment and start delay are measured from the first barrier", () => {
  const aligner = new BarrierAligner({ channelCount: 2, mode: "EXACTLY_ONCE" });
  aligner.onBarrier(0, barrier(1), { nowMs: 10, wallMs: 130 });
  const [decision] = aligner.onBarrier(1, barrier(1), { nowMs: 52, wallMs: 172 });
  expect(decision).toMatchObject({ type: "trigger", alignmentMs: 42, startDelayMs: 30 });
});

test("A3: whatever arrives, ids are triggered once and in ascending order, and a trigger frees every channel", () => {
  const event = fc.oneof(
    { weight: 6, arbitrary: fc.record({ channel: fc.nat(2), id: fc.integer({ min: 1, max: 6 }) }) },
    { weight: 1, arbitrary: fc.record({ cancel: fc.integer({ min: 1, max: 6 }) }) },
    { weight: 1, arbitrary: fc.record({ end: fc.nat(2) }) },
  );
  fc.assert(
    fc.property(
      fc.constantFrom("EXACTLY_ONCE" as const, "AT_LEAST_ONCE" as const),
      fc.array(event, { maxLength: 40 }),
      (mode, events) => {
        const aligner = new BarrierAligner({ channelCount: 3, mode });
        const cancelled = new Set<number>();
        let last = 0;
        const at = { nowMs: 0, wallMs: 0 };
        for (const e of events) {
          let decisions: readonly AlignerDecision[] = [];
          if ("channel" in e) {
            if (aligner.isBlocked(e.channel)) continue; // A1: the task does not read it
            decisions = aligner.onBarrier(e.channel, barrier(e.id), at);
          } else if ("end" in e) {
            if (!aligner.isBlocked(e.end)) decisions = aligner.onEndOfInput(e.end, at);
          } else {
            decisions = aligner.onCancel(e.cancel as CheckpointId);
            if (e.cancel > last) cancelled.add(e.cancel);
          }
          for (const d of decisions) {
            if (d.type !== "trigger") continue;
            expect(d.barrier.checkpointId).toBeGreaterThan(last);
            expect(cancelled.has(d.barrier.checkpointId)).toBe(false);
            last = d.barrier.checkpointId;
            for (let c = 0; c < 3; c += 1) expect(mode === "EXACTLY_ONCE" && aligner.isBlocked(c)).toBe(false);
          }
          if (mode === "AT_LEAST_ONCE") for (let c = 0; c < 3; c += 1) expect(aligner.isBlocked(c)).toBe(false);
        }
      },
    ),
    { numRuns: 300 },
  );
});
