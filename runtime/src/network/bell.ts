// How one side of shared memory wakes the other, as the users of a bell see it.
//
// Not here: the word in shared memory (doorbell.ts).

/**
 * Wakes one waiting side. The way to wait without losing a wake-up:
 * `const seen = bell.sequence(); if (!work()) await bell.waitPast(seen, timeoutMs);`
 */
export interface Bell {
  /** Grows (modulo 2^32) with every ring. */
  sequence(): number;
  /** Says that there is work. Cheap while nobody waits; callable from any thread. */
  ring(): void;
  /** Resolves when the sequence differs from `seen`, or after `timeoutMs` (Infinity: never by time). One waiter per bell. */
  waitPast(seen: number, timeoutMs: number): Promise<void>;
}
