// What two TaskManagers say to each other over a data connection. One connection per ordered pair and attempt: records flow from the
// side that connected (the sender) to the side that listens (the receiver), credit flows back.
//
// Every message is one frame of the connection and begins with u32 type, little endian:
//   sender                                      receiver
//   1 HELLO  JSON {protocol, version, epoch,
//             attempt, from, to, nonce}  ---->
//                                        <----  2 CHALLENGE  JSON {nonce, proof}
//   3 PROOF  JSON {proof, channels[]}    ---->
//                                        <----  4 READY  JSON {slots[]}: the initial grant of each channel, in the order of PROOF
//   16 DATA  a frame of frame.ts whose header carries type and channel number in its first two words
//                                        <----  17 CREDIT  u32 count, then count x (u32 channel, u32 granted)
//   18 BYE   this side ends on purpose, either direction; a close without it is a loss
//                                        <----  5 REJECT  JSON {code, message, retry}: instead of any answer
// `granted` counts all frames the sender may ever have sent on the channel, modulo 2^32: lost or repeated announcements cannot add up.
// proof = HMAC-SHA-256(secret of the attempt, role + "\n" + canonical JSON of version, epoch, attempt, from, to and both nonces).
//
// Invariants (tests cite them by name):
//   BM1. Neither side sends channel names or records before the other has proven the secret.
//   BM2. Foreign bytes are data: readers return undefined for nonsense.
//
// Not here: who connects and when (outgoing-bridge.ts, data-server.ts).

import { createHmac, timingSafeEqual } from "node:crypto";
import type { Rng } from "@sluice/kit/env";
import type { FailureCode, Retry } from "@sluice/kit";
import type { AttemptNumber, Epoch } from "../model/index.ts";

export const DATA_PROTOCOL = "sluice-data";
export const DATA_PROTOCOL_VERSION = 0;

export const MESSAGE_HELLO = 1;
export const MESSAGE_CHALLENGE = 2;
export const MESSAGE_PROOF = 3;
export const MESSAGE_READY = 4;
export const MESSAGE_REJECT = 5;
export const MESSAGE_DATA = 16;
export const MESSAGE_CREDIT = 17;
export const MESSAGE_BYE = 18;

export interface Hello {
  readonly protocol: string;
  readonly version: number;
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly from: string;
  readonly to: string;
  readonly nonce: string;
}

export interface Challenge {
  readonly nonce: string;
  readonly proof: string;
}

export interface Proof {
  readonly proof: string;
  readonly channels: readonly string[];
}

export interface Ready {
  readonly slots: readonly number[];
}

export interface Reject {
  readonly code: FailureCode;
  readonly message: string;
  readonly retry: Retry;
}

/** The type word of a message, 0 for one that is too short. */
export function messageType(message: Uint8Array): number {
  return message.length < 4 ? 0 : readU32(message, 0);
}

export function readU32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}

/** A handshake message. */
export function writeJson(type: number, value: Hello | Challenge | Proof | Ready | Reject): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(value));
  const message = new Uint8Array(4 + json.length);
  message[0] = type;
  message.set(json, 4);
  return message;
}

/** BM2. */
function readJson(message: Uint8Array): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(message.subarray(4)));
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

export function readHello(message: Uint8Array): Hello | undefined {
  const v = readJson(message);
  if (
    v === undefined ||
    typeof v.protocol !== "string" ||
    !isCount(v.version) ||
    !isCount(v.epoch) ||
    !isCount(v.attempt)
  )
    return undefined;
  if (typeof v.from !== "string" || typeof v.to !== "string" || typeof v.nonce !== "string" || v.nonce.length < 16)
    return undefined;
  return {
    protocol: v.protocol,
    version: v.version,
    epoch: v.epoch as Epoch,
    attempt: v.attempt as AttemptNumber,
    from: v.from,
    to: v.to,
    nonce: v.nonce,
  };
}

export function readChallenge(message: Uint8Array): Challenge | undefined {
  const v = readJson(message);
  if (v === undefined || typeof v.nonce !== "string" || typeof v.proof !== "string" || v.nonce.length < 16)
    return undefined;
  return { nonce: v.nonce, proof: v.proof };
}

export function readProof(message: Uint8Array): Proof | undefined {
  const v = readJson(message);
  if (v === undefined || typeof v.proof !== "string" || !Array.isArray(v.channels)) return undefined;
  const channels = v.channels as readonly unknown[];
  return channels.every((key) => typeof key === "string") ? { proof: v.proof, channels } : undefined;
}

export function readReady(message: Uint8Array): Ready | undefined {
  const v = readJson(message);
  if (v === undefined || !Array.isArray(v.slots)) return undefined;
  const slots = v.slots as readonly unknown[];
  return slots.every((count) => isCount(count) && count > 0) ? { slots: slots as readonly number[] } : undefined;
}

export function readReject(message: Uint8Array): Reject | undefined {
  const v = readJson(message);
  if (v === undefined || typeof v.code !== "string" || typeof v.message !== "string") return undefined;
  const retry: Retry = v.retry === "now" || v.retry === "backoff" ? v.retry : "never";
  return {
    code: v.code === "FENCED" || v.code === "FORMAT_UNSUPPORTED" ? v.code : "PEER_REJECTED",
    message: v.message,
    retry,
  };
}

/** Announcement of grants. */
export function writeCredit(grants: readonly (readonly [channel: number, granted: number])[]): Uint8Array {
  const message = new Uint8Array(8 + grants.length * 8);
  const view = new DataView(message.buffer);
  view.setUint32(0, MESSAGE_CREDIT, true);
  view.setUint32(4, grants.length, true);
  grants.forEach(([channel, granted], i) => {
    view.setUint32(8 + i * 8, channel, true);
    view.setUint32(12 + i * 8, granted, true);
  });
  return message;
}

export function readCredit(message: Uint8Array): readonly (readonly [channel: number, granted: number])[] | undefined {
  if (message.length < 8 || message.length !== 8 + readU32(message, 4) * 8) return undefined;
  const grants: (readonly [number, number])[] = [];
  for (let at = 8; at < message.length; at += 8) grants.push([readU32(message, at), readU32(message, at + 4)]);
  return grants;
}

export function writeBye(): Uint8Array {
  return Uint8Array.of(MESSAGE_BYE, 0, 0, 0);
}

/** 128 bits that never repeat in practice: both sides add one, so a recorded handshake opens nothing. */
export function makeNonce(rng: Rng): string {
  let nonce = "";
  for (let i = 0; i < 4; i += 1) nonce += rng.u32().toString(16).padStart(8, "0");
  return nonce;
}

/** What a side proves: that it knows the secret of this attempt and speaks in this very handshake. */
export function makeProof(
  secret: Uint8Array,
  role: "sender" | "receiver",
  hello: Hello,
  receiverNonce: string,
): string {
  const transcript = JSON.stringify([
    hello.protocol,
    hello.version,
    hello.epoch,
    hello.attempt,
    hello.from,
    hello.to,
    hello.nonce,
    receiverNonce,
  ]);
  return createHmac("sha256", secret).update(`${role}\n${transcript}`).digest("hex");
}

export function isProof(expected: string, given: string): boolean {
  const a = new TextEncoder().encode(expected);
  const b = new TextEncoder().encode(given);
  return a.length === b.length && timingSafeEqual(a, b);
}
