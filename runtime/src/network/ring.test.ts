// Doorbell, mailbox and ring: laws of the shared-memory parts, both ends in one thread; and once with two real threads.

import { spawn } from "node:child_process";
import { describe, expect, test } from "@jest/globals";
import * as fc from "fast-check";
import { Doorbell } from "./doorbell.ts";
import { allocateMailbox, MailboxReader, MailboxWriter } from "./mailbox.ts";
import { allocateRing, RingConsumer, RingProducer } from "./ring.ts";

function bell(): Doorbell {
  return new Doorbell(Doorbell.allocate());
}

describe("doorbell", () => {
  test("DB1: a ring after the sequence was read ends the wait, before it began or during it", async () => {
    const shared = Doorbell.allocate();
    const [waiter, ringer] = [new Doorbell(shared), new Doorbell(shared)];
    const seen = waiter.sequence();
    ringer.ring();
    await waiter.waitPast(seen, Infinity); // already past
    const next = waiter.sequence();
    const waited = waiter.waitPast(next, 10_000);
    expect(ringer.parked).toBe(true);
    ringer.ring();
    await waited;
    expect([waiter.sequence() - next, ringer.parked]).toEqual([1, false]);
  });

  test("DB1: without a ring the wait ends by time", async () => {
    const waiter = bell();
    await waiter.waitPast(waiter.sequence(), 1);
    expect([waiter.sequence(), waiter.parked]).toEqual([0, false]);
  });
});

describe("mailbox", () => {
  test("MB1, MB2: messages arrive whole, once, in order; a refused one leaves nothing", () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.uint8Array({ maxLength: 60 })), { maxLength: 200 }), (script) => {
        const shared = allocateMailbox(128);
        const rung = bell();
        const writer = new MailboxWriter(shared, rung);
        const reader = new MailboxReader(shared);
        const expected: Uint8Array[] = [];
        let posted = 0;
        let usedBytes = 0;
        for (const message of script) {
          if (message === null) {
            const due = expected.shift();
            const got = reader.poll();
            expect(got === undefined ? undefined : [...got]).toEqual(due === undefined ? undefined : [...due]);
            if (due !== undefined) usedBytes -= 4 + ((due.length + 3) & ~3);
          } else {
            const needed = 4 + ((message.length + 3) & ~3);
            const isPosted = writer.post(message);
            expect(isPosted).toBe(usedBytes + needed <= 128);
            if (!isPosted) continue;
            usedBytes += needed;
            posted += 1;
            expected.push(message);
          }
        }
        expect(rung.sequence()).toBe(posted);
      }),
    );
  });
});

describe("ring", () => {
  test("RG1-RG4: a bounded FIFO whose free slots are the credit", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 2, 8),
        fc.array(fc.constantFrom("send", "take", "ask"), { maxLength: 200 }),
        (slotCount, script) => {
          const shared = allocateRing({ slotCount, slotBytes: 128 });
          const [consumerBell, producerBell] = [bell(), bell()];
          const producer = new RingProducer(shared, consumerBell);
          const consumer = new RingConsumer(shared, producerBell);
          let sent = 0;
          let taken = 0;
          let asked = false;
          for (const step of script) {
            if (step === "send") {
              const slot = producer.reserve();
              expect(slot >= 0).toBe(sent - taken < slotCount);
              if (slot < 0) continue;
              producer.memory.u32[producer.offsetOf(slot) >>> 2] = sent;
              producer.publish();
              sent += 1;
              expect(consumerBell.sequence()).toBe(sent);
            } else if (step === "take") {
              const slot = consumer.peek();
              expect(slot >= 0).toBe(sent > taken);
              if (slot < 0) continue;
              expect(consumer.memory.u32[consumer.offsetOf(slot) >>> 2]).toBe(taken);
              const before = producerBell.sequence();
              consumer.release();
              taken += 1;
              expect(producerBell.sequence() - before).toBe(asked ? 1 : 0);
              asked = false;
            } else {
              const hasCredit = producer.requestCredit();
              expect(hasCredit).toBe(sent - taken < slotCount);
              if (!hasCredit) asked = true;
            }
            expect([producer.free, consumer.filled]).toEqual([slotCount - (sent - taken), sent - taken]);
          }
        },
      ),
    );
  });

  test("RG1: slot indices go on where the 32-bit counters wrap", () => {
    const shared = allocateRing({ slotCount: 4, slotBytes: 128 });
    const words = new Int32Array(shared);
    words[16] = -2;
    words[32] = -2;
    const producer = new RingProducer(shared, bell());
    const consumer = new RingConsumer(shared, bell());
    const slots: number[] = [];
    for (let i = 0; i < 5; i += 1) {
      slots.push(producer.reserve());
      producer.publish();
      expect(consumer.peek()).toBe(slots[i]);
      consumer.release();
    }
    expect(slots).toEqual([2, 3, 0, 1, 2]);
  });

  test("RG2: two threads, a million rows: nothing torn, lost, doubled or out of order", async () => {
    const program = new URL("./ring-stress.ts", import.meta.url).pathname;
    const child = spawn(process.execPath, [program, "1000000"], { stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
    const code = await new Promise((resolve) => child.on("close", resolve));
    const result = JSON.parse(output) as { readonly rows: number; readonly waits: number; readonly mismatches: number };
    expect([code, result.mismatches]).toEqual([0, 0]);
    expect(result.rows).toBeGreaterThanOrEqual(1_000_000);
    expect(result.waits).toBeGreaterThan(0);
  }, 90_000);
});
