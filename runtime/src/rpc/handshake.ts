// Who is at the other end: versions compared, the per-attempt secret proven in both directions, before anything else is said.
//
//   caller -> HELLO     {protocol, version, role, id, nonce}
//   callee -> CHALLENGE {version, role, id, nonce, proof of the secret over both nonces}    or REJECT {reason}
//   caller -> PROOF     {proof}                                                             or REJECT {reason}
//   callee -> WELCOME                                                                       or REJECT {reason}
//
// Invariants:
//   HS1. The secret never travels; a proof is bound to both nonces, both names and its direction, so that none can be replayed.
//   HS2. Nothing but handshake frames is accepted before WELCOME.
//   HS3. A refusal carries its reason, so that both sides can log it.
//
// Pure: one function per step; the shell is peer.ts.

import { createHmac, timingSafeEqual } from "node:crypto";

import { RPC_VERSION } from "./common.ts";
import { count, oneOf, parse, record, text, type, variants } from "./shape.ts";
import type { Shape } from "./shape.ts";

const PROTOCOL = "sluice-rpc";

export type PeerRole = "jobmanager" | "taskmanager";

/** One end of a connection. */
export interface PeerIdentity {
  readonly role: PeerRole;
  readonly id: string;
}

interface Hello {
  readonly type: "hello";
  readonly protocol: string;
  readonly version: number;
  readonly role: PeerRole;
  readonly id: string;
  readonly nonce: string;
}

interface Challenge {
  readonly type: "challenge";
  readonly version: number;
  readonly role: PeerRole;
  readonly id: string;
  readonly nonce: string;
  readonly proof: string;
}

interface Proof {
  readonly type: "proof";
  readonly proof: string;
}

interface Reject {
  readonly type: "reject";
  readonly reason: string;
}

export type HandshakeFrame = Hello | Challenge | Proof | Reject | { readonly type: "welcome" };

const role = oneOf("jobmanager", "taskmanager");

const handshakeFrame: Shape<HandshakeFrame> = variants<HandshakeFrame>({
  hello: record<Hello>({ type: type("hello"), protocol: text, version: count(), role, id: text, nonce: text }),
  challenge: record<Challenge>({ type: type("challenge"), version: count(), role, id: text, nonce: text, proof: text }),
  proof: record<Proof>({ type: type("proof"), proof: text }),
  reject: record<Reject>({ type: type("reject"), reason: text }),
  welcome: record<{ readonly type: "welcome" }>({ type: type("welcome") }),
});

interface Transcript {
  readonly caller: PeerIdentity;
  readonly callee: PeerIdentity;
  readonly callerNonce: string;
  readonly calleeNonce: string;
}

function prove(secret: string, direction: "caller" | "callee", t: Transcript): string {
  const said = [
    direction,
    RPC_VERSION,
    t.caller.role,
    t.caller.id,
    t.callee.role,
    t.callee.id,
    t.callerNonce,
    t.calleeNonce,
  ];
  return createHmac("sha256", secret).update(JSON.stringify(said)).digest("hex");
}

function sameProof(given: string, expected: string): boolean {
  const a = Buffer.from(given);
  const b = Buffer.from(expected);
  return a.length === b.length && timingSafeEqual(a, b);
}

/** What to do after a frame of the peer. */
export type HandshakeStep =
  | { readonly type: "send"; readonly frame: HandshakeFrame }
  /** Authenticated; `frame` is still to be sent, if any. */
  | { readonly type: "done"; readonly peer: PeerIdentity; readonly frame: HandshakeFrame | undefined }
  /** Refused; `tell` is still to be sent, if any. */
  | { readonly type: "refused"; readonly reason: string; readonly tell: HandshakeFrame | undefined };

const WRONG_SECRET = "the secrets differ (SLUICE_SECRET): the peer belongs to another job or attempt";

function refuse(reason: string): HandshakeStep {
  return { type: "refused", reason, tell: { type: "reject", reason } };
}

function versionProblem(version: number): string | undefined {
  return version === RPC_VERSION
    ? undefined
    : `protocol version ${version} meets version ${RPC_VERSION}: use one release of Sluice`;
}

/** The side that connected. */
export class CallerHandshake {
  readonly #self: PeerIdentity;
  readonly #secret: string;
  readonly #nonce: string;
  #peer: PeerIdentity | undefined;

  constructor(options: { readonly self: PeerIdentity; readonly secret: string; readonly nonce: string }) {
    this.#self = options.self;
    this.#secret = options.secret;
    this.#nonce = options.nonce;
  }

  /** The first frame. */
  hello(): HandshakeFrame {
    return { type: "hello", protocol: PROTOCOL, version: RPC_VERSION, ...this.#self, nonce: this.#nonce };
  }

  onFrame(body: unknown): HandshakeStep {
    const parsed = parse(handshakeFrame, body);
    if ("problem" in parsed) return refuse(`not a handshake: ${parsed.problem}`);
    const frame = parsed.ok;
    if (frame.type === "reject") return { type: "refused", reason: frame.reason, tell: undefined };
    if (frame.type === "challenge" && this.#peer === undefined) {
      const problem = versionProblem(frame.version);
      if (problem !== undefined) return refuse(problem);
      const callee: PeerIdentity = { role: frame.role, id: frame.id };
      const transcript = { caller: this.#self, callee, callerNonce: this.#nonce, calleeNonce: frame.nonce };
      if (!sameProof(frame.proof, prove(this.#secret, "callee", transcript))) return refuse(WRONG_SECRET);
      this.#peer = callee;
      return { type: "send", frame: { type: "proof", proof: prove(this.#secret, "caller", transcript) } };
    }
    if (frame.type === "welcome" && this.#peer !== undefined)
      return { type: "done", peer: this.#peer, frame: undefined };
    return refuse(`${frame.type} at the wrong time`);
  }
}

/** The side that listens. */
export class CalleeHandshake {
  readonly #self: PeerIdentity;
  readonly #secret: string;
  readonly #nonce: string;
  #transcript: Transcript | undefined;

  constructor(options: { readonly self: PeerIdentity; readonly secret: string; readonly nonce: string }) {
    this.#self = options.self;
    this.#secret = options.secret;
    this.#nonce = options.nonce;
  }

  onFrame(body: unknown): HandshakeStep {
    const parsed = parse(handshakeFrame, body);
    if ("problem" in parsed) return refuse(`not a handshake: ${parsed.problem}`);
    const frame = parsed.ok;
    if (frame.type === "reject") return { type: "refused", reason: frame.reason, tell: undefined };
    if (frame.type === "hello" && this.#transcript === undefined) {
      if (frame.protocol !== PROTOCOL)
        return refuse(`${JSON.stringify(frame.protocol.slice(0, 40))} is not ${PROTOCOL}`);
      const problem = versionProblem(frame.version);
      if (problem !== undefined) return refuse(problem);
      const caller: PeerIdentity = { role: frame.role, id: frame.id };
      this.#transcript = { caller, callee: this.#self, callerNonce: frame.nonce, calleeNonce: this.#nonce };
      const proof = prove(this.#secret, "callee", this.#transcript);
      return {
        type: "send",
        frame: { type: "challenge", version: RPC_VERSION, ...this.#self, nonce: this.#nonce, proof },
      };
    }
    if (frame.type === "proof" && this.#transcript !== undefined) {
      if (!sameProof(frame.proof, prove(this.#secret, "caller", this.#transcript))) return refuse(WRONG_SECRET);
      return { type: "done", peer: this.#transcript.caller, frame: { type: "welcome" } };
    }
    return refuse(`${frame.type} at the wrong time`);
  }
}
