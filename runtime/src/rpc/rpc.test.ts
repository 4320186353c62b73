// RPC in a simulated world: handshakes, requests, heartbeats, pauses, partitions, nonsense.

import { describe, expect, test } from "@jest/globals";
import { Failure } from "@sluice/kit";
import type { Conn } from "@sluice/kit/env";
import { HEALTHY, World } from "@sluice/sim";
import type { SimEnv } from "@sluice/sim";
import fc from "fast-check";

import { CalleeHandshake, CallerHandshake } from "./handshake.ts";
import type { HandshakeFrame } from "./handshake.ts";
import { connectRpc, jobManagerRequest, listenRpc, parse, registerRequest, taskManagerMessage } from "./index.ts";
import type { RpcHandlers, RpcPeer } from "./index.ts";

const HEARTBEAT = { intervalMs: 1_000, timeoutMs: 5_000 };
const LIMITS = { virtualMs: 200_000, events: 200_000 };
const ADDRESS = "server:1";

interface Side {
  peer: RpcPeer | undefined;
  refused: string;
  closed: Failure[];
  readonly messages: unknown[];
  readonly heartbeats: unknown[];
}

function side(): Side {
  return { peer: undefined, refused: "", closed: [], messages: [], heartbeats: [] };
}

function handlers(of: Side): RpcHandlers {
  return {
    onMessage: (body) => void of.messages.push(body),
    onRequest: (body) =>
      (body as { readonly fails?: boolean }).fails === true
        ? Promise.reject(new Failure("NO_SLOTS", { retry: "backoff", message: "none", remedy: "wait" }))
        : Promise.resolve({ echo: body }),
    onHeartbeat: (body) => void of.heartbeats.push(body),
    heartbeatBody: () => ({ load: 1 }),
    onClose: (failure) => void of.closed.push(failure),
  };
}

/** A server and a client node with one connection between them. */
function pairOfNodes(options: { readonly clientSecret?: string } = {}) {
  const world = new World({ seed: 7, faults: HEALTHY, keepsTrace: true });
  const server = side();
  const client = side();
  const nodes = { server: world.node("server"), client: world.node("client") };
  const listens = async (env: SimEnv): Promise<void> => {
    const rpc = { env, self: { role: "jobmanager", id: "jm" }, secret: "secret", heartbeat: HEARTBEAT } as const;
    await listenRpc(rpc, ADDRESS, (peer) => {
      server.peer = peer;
      peer.start(handlers(server));
    });
  };
  const connects = async (env: SimEnv): Promise<void> => {
    const secret = options.clientSecret ?? "secret";
    const rpc = { env, self: { role: "taskmanager", id: "tm" }, secret, heartbeat: HEARTBEAT } as const;
    try {
      await connectRpc(rpc, ADDRESS, new AbortController().signal, (peer) => {
        client.peer = peer;
        peer.start(handlers(client));
      });
    } catch (thrown) {
      client.refused = (thrown as Failure).message;
    }
  };
  nodes.server.start(listens);
  world.after(10, "connect", () => void nodes.client.start(connects));
  const until = (done: () => boolean): Promise<"done" | "limit"> => world.runUntil(done, LIMITS);
  return { world, server, client, nodes, until };
}

describe("a connection", () => {
  test("RP1, RP3: messages come in order, requests are answered, failures travel", async () => {
    const { server, client, until } = pairOfNodes();
    await until(() => client.peer !== undefined && server.peer !== undefined);
    expect(server.peer?.identity).toEqual({ role: "taskmanager", id: "tm" });
    for (let i = 0; i < 50; i += 1) client.peer?.send({ i });
    let reply: unknown;
    let failure: Failure | undefined;
    client.peer?.request({ question: 1 }).then(
      (body) => (reply = body),
      () => undefined,
    );
    client.peer?.request({ fails: true }).catch((thrown: Failure) => (failure = thrown));
    await until(() => reply !== undefined && failure !== undefined);
    expect(server.messages).toEqual(Array.from({ length: 50 }, (_, i) => ({ i })));
    expect(reply).toEqual({ echo: { question: 1 } });
    expect(failure).toMatchObject({ code: "NO_SLOTS", retry: "backoff", remedy: "wait" });
  });

  test("HS1, HS3: another secret is refused on both sides with the reason", async () => {
    const { server, client, world, until } = pairOfNodes({ clientSecret: "another" });
    await until(() => client.refused !== "");
    expect(client.refused).toMatch(/secrets differ/u);
    expect([client.peer, server.peer]).toEqual([undefined, undefined]);
    await until(() => world.loop.tail(400).some((line) => line.includes("a connection was refused")));
    expect(world.loop.tail(400).join("\n")).toMatch(/refused.*PEER_REJECTED.*secrets differ/u);
  });

  test("heartbeats travel both ways and keep an idle connection", async () => {
    const { server, client, world, until } = pairOfNodes();
    await until(() => world.loop.nowMs > 60_000);
    expect(server.heartbeats.length).toBeGreaterThan(50);
    expect(client.heartbeats[0]).toEqual({ load: 1 });
    expect([...server.closed, ...client.closed]).toEqual([]);
  });

  test("RP4: a partition is noticed by both within the timeout, although no connection breaks", async () => {
    const { server, client, world, until } = pairOfNodes();
    await until(() => server.heartbeats.length > 2);
    world.wires.cut("server", "client");
    world.wires.cut("client", "server");
    const cutMs = world.loop.nowMs;
    await until(() => server.closed.length > 0 && client.closed.length > 0);
    expect(world.loop.nowMs - cutMs).toBeLessThan(7_000);
    expect(server.closed[0]).toMatchObject({ code: "PEER_LOST" });
  });

  test("RP4, RP5: a paused peer is lost after the timeout; a short pause harms nobody", async () => {
    const { server, client, world, nodes, until } = pairOfNodes();
    await until(() => server.heartbeats.length > 2);
    nodes.client.pause(3_500);
    const pausedMs = world.loop.nowMs;
    await until(() => world.loop.nowMs > pausedMs + 20_000);
    expect([...server.closed, ...client.closed]).toEqual([]);
    nodes.client.pause(20_000);
    await until(() => server.closed.length > 0);
    expect(server.closed[0]?.message).toMatch(/no heartbeat/u);
    await until(() => client.closed.length > 0);
    expect(client.closed).toHaveLength(1); // RP2
  });

  test("RP5: who slept longer than the timeout listens first: its peer has not been silent", async () => {
    const { server, client, nodes, until, world } = pairOfNodes();
    await until(() => server.heartbeats.length > 2);
    // The server alone sleeps for less than the client needs to notice.
    nodes.server.pause(4_500);
    const fromMs = world.loop.nowMs;
    await until(() => world.loop.nowMs > fromMs + 15_000);
    expect([...server.closed, ...client.closed]).toEqual([]);
  });

  test("RP2, RP3: the end of a connection rejects open requests and is told once", async () => {
    const { server, client, nodes, until } = pairOfNodes();
    await until(() => client.peer !== undefined && server.peer !== undefined);
    nodes.server.crash("test");
    let failure: Failure | undefined;
    client.peer?.request({}).catch((thrown: Failure) => (failure = thrown));
    await until(() => failure !== undefined);
    expect(failure?.code).toBe("PEER_LOST");
    expect(client.closed).toHaveLength(1);
  });

  test("RP6: nonsense ends the connection, not the process", async () => {
    const { client, world, nodes, until } = pairOfNodes();
    await until(() => client.peer !== undefined);
    let conn: Conn | undefined;
    let closed = "";
    world.node("stranger").start(async (env) => {
      conn = await env.net.connect(ADDRESS, new AbortController().signal);
      conn.onFrame = () => {};
      conn.onClose = (reason) => (closed = reason);
      conn.send(Uint8Array.of(0xff, 0, 1, 2));
    });
    await until(() => closed !== "");
    expect(nodes.server.isUp).toBe(true);
  });
});

describe("the handshake", () => {
  const secretOf = (secret: string) => ({
    caller: new CallerHandshake({ self: { role: "taskmanager", id: "tm" }, secret, nonce: "n1" }),
    callee: new CalleeHandshake({ self: { role: "jobmanager", id: "jm" }, secret, nonce: "n2" }),
  });

  test("HS1: a recorded proof is worth nothing against another nonce", () => {
    const first = secretOf("s");
    const challenge = first.callee.onFrame(first.caller.hello());
    const proof = challenge.type === "send" ? first.caller.onFrame(challenge.frame) : undefined;
    const replayed = new CalleeHandshake({ self: { role: "jobmanager", id: "jm" }, secret: "s", nonce: "n3" });
    replayed.onFrame(first.caller.hello());
    if (proof?.type !== "send") throw new Error("no proof");
    expect(replayed.onFrame(proof.frame).type).toBe("refused");
  });

  test.each([
    ["another version", (hello: HandshakeFrame) => ({ ...hello, version: 99 }), /version 99/u],
    ["another protocol", (hello: HandshakeFrame) => ({ ...hello, protocol: "http" }), /not sluice-rpc/u],
    ["a proof first", () => ({ type: "proof", proof: "00" }), /wrong time/u],
    ["nonsense", () => ({ type: "hello" }), /not a handshake/u],
  ])("refuses %s with the reason", (_, change, reason) => {
    const { caller, callee } = secretOf("s");
    const step = callee.onFrame(change(caller.hello()));
    expect(step).toMatchObject({ type: "refused", reason: expect.stringMatching(reason), tell: { type: "reject" } });
  });

  test("HS2: no order of frames of a stranger ever opens a connection", () => {
    const frame = fc.oneof(
      fc.constant({ type: "welcome" }),
      fc.record({ type: fc.constant("proof"), proof: fc.string() }),
      fc.record({
        type: fc.constant("hello"),
        protocol: fc.constant("sluice-rpc"),
        version: fc.constant(1),
        role: fc.constantFrom("jobmanager", "taskmanager"),
        id: fc.string(),
        nonce: fc.string(),
      }),
      fc.anything(),
    );
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 5 }), (frames) => {
        const { callee } = secretOf("s");
        for (const one of frames) expect(callee.onFrame(one).type).not.toBe("done");
      }),
    );
  });
});

describe("shapes", () => {
  test("SH1: whatever a peer sends, parsing it answers and never throws", () => {
    fc.assert(
      fc.property(fc.anything({ maxDepth: 3 }), (value) => {
        for (const shape of [taskManagerMessage, registerRequest, jobManagerRequest])
          expect(parse<unknown>(shape, value)).toHaveProperty("problem");
      }),
    );
  });

  test.each([
    [{ type: "attemptEnded", epoch: 1, attempt: 0 }, undefined],
    [{ type: "attemptEnded", epoch: 1, attempt: 0, added: "by a newer peer" }, undefined],
    [{ type: "attemptEnded", epoch: -1, attempt: 0 }, "message.epoch is not a count"],
    [{ type: "attemptEnded", epoch: 1 }, "message.attempt is not a count"],
    [
      { type: "taskState", epoch: 1, attempt: 0, subtask: { vertexId: "v", subtaskIndex: 1.5 }, state: "RUNNING" },
      "message.subtask.subtaskIndex is not a count",
    ],
    [
      { type: "taskState", epoch: 1, attempt: 0, subtask: { vertexId: "v", subtaskIndex: 1 }, state: "WALKING" },
      /message.state is none of/u,
    ],
    [{ type: "unheard" }, /message.type is none of/u],
    [null, "message is not an object"],
  ])("%j: %s", (value, problem) => {
    const parsed = parse(taskManagerMessage, value);
    if (problem === undefined) expect(parsed).toEqual({ ok: value });
    else expect("problem" in parsed ? parsed.problem : "").toMatch(problem);
  });
});
