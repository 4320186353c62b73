// The real implementations keep the contracts of their seams: files, MinIO, TCP; and what is particular to each of them.

import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { minio, startMinio } from "@sluice/tools/peers";
import type { MinioServer } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";
import { Client } from "minio";

import { deferred } from "../../async.ts";
import { SeededRng } from "../../rng.ts";
import { netContract, patternBytes, storeContract } from "../contract.ts";
import type { ContractCase } from "../contract.ts";
import { FaultInjectingStore, writesFailing } from "../faults.ts";
import type { Conn } from "../net.ts";
import type { ObjectStore } from "../storage.ts";
import { NodeDisk } from "./disk.ts";
import { startFaultProxy } from "./fault-proxy.ts";
import type { FaultProxy } from "./fault-proxy.ts";
import { FileObjectStore } from "./file-store.ts";
import { NodeNet } from "./net.ts";
import { uploadsContract } from "../uploads-contract.ts";
import { S3ObjectStore } from "./s3-store.ts";
import { S3StagedUploads } from "./s3-uploads.ts";
import { openObjectStore } from "./stores.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sluice-kit-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function testAll(cases: readonly ContractCase[]): void {
  for (const { name, run } of cases) test(name, run);
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const failing = (code: string): unknown => expect.objectContaining({ name: "Failure", code });

describe("FileObjectStore", () => {
  testAll(storeContract(async () => new FileObjectStore(join(folder, "store"))));

  test("D3: temporary files of crashed writers are not listed, and are swept when they are an hour old", async () => {
    const temps = join(folder, ".sluice-tmp");
    mkdirSync(temps);
    writeFileSync(join(temps, "old"), "x");
    writeFileSync(join(temps, "young"), "x");
    const longAgo = new Date(Date.now() - 2 * 3_600_000);
    utimesSync(join(temps, "old"), longAgo, longAgo);
    const store = new FileObjectStore(folder);
    expect(await store.list("")).toEqual([]);
    await store.put("a", text("a"));
    expect(readdirSync(temps)).toEqual(["young"]);
  });

  test("a file where a folder is needed is STORAGE_CONFLICT, and leaves no temporary file", async () => {
    const store = new FileObjectStore(folder);
    await store.put("a", text("a"));
    await expect(store.put("a/b", text("b"))).rejects.toEqual(failing("STORAGE_CONFLICT"));
    await expect(store.putIfAbsent("a/b", text("b"))).rejects.toEqual(failing("STORAGE_CONFLICT"));
    expect(readdirSync(join(folder, ".sluice-tmp"))).toEqual([]);
  });

  test("a directory without permission is STORAGE_DENIED", async () => {
    mkdirSync(join(folder, "closed"));
    chmodSync(folder, 0o755);
    chmodSync(join(folder, "closed"), 0o555);
    const store = new FileObjectStore(join(folder, "closed"));
    const asRoot = process.geteuid?.() === 0;
    if (asRoot) process.seteuid?.(65_534); // root may write everywhere
    try {
      await expect(store.put("a", text("a"))).rejects.toEqual(failing("STORAGE_DENIED"));
    } finally {
      if (asRoot) process.seteuid?.(0);
      chmodSync(join(folder, "closed"), 0o700);
    }
  });

  test("a root that cannot be made is a Failure: mkdir -p of Node never ends under /proc", async () => {
    const store = new FileObjectStore("/proc/no-such-folder/store");
    await expect(store.put("a", text("a"))).rejects.toMatchObject({ code: expect.stringMatching(/^STORAGE_/) });
  });

  test("writers and removers of one folder do not trip over each other", async () => {
    const store = new FileObjectStore(join(folder, "deep", "root"));
    const worker = async (name: string): Promise<void> => {
      for (let i = 0; i < 30; i += 1) {
        expect(await store.putIfAbsent(`a/b/c/${name}-${i}`, text(name))).toBe("created");
        await store.remove(`a/b/c/${name}-${i}`);
      }
    };
    await Promise.all(["w1", "w2", "w3"].map(worker));
    expect(await store.list("")).toEqual([]);
  });

  test("FI3: FaultInjectingStore: writes retried until they are known end with the right bytes", async () => {
    const store = new FaultInjectingStore(new FileObjectStore(folder), {
      rng: new SeededRng(11),
      rates: writesFailing(0.6),
    });
    for (let i = 0; i < 40; i += 1) {
      const bytes = patternBytes(100, i);
      let outcome: string = "unknown";
      while (outcome === "unknown") outcome = await store.put(`o/${i}`, bytes).catch(() => "unknown");
      expect(await store.get(`o/${i}`)).toEqual(bytes);
    }
    for (const kind of ["writeRefused", "writeLost", "writeUnanswered"] as const)
      expect(store.struck[kind]).toBeGreaterThan(0);
    store.set({ full: true });
    await expect(store.putIfAbsent("o/x", text("x"))).rejects.toEqual(failing("STORAGE_FULL"));
    store.set({ full: false, writeRefused: 0, writeLost: 0, writeUnanswered: 1 });
    expect(await store.putIfAbsent("o/x", text("x"))).toBe("unknown");
    expect(await store.get("o/x")).toEqual(text("x"));
  });
});

describe("NodeDisk", () => {
  test("write, read, replace, list, remove", async () => {
    const disk = new NodeDisk(join(folder, "disk"));
    expect(await disk.read("a/b")).toBeUndefined();
    expect(await disk.list("")).toEqual([]);
    await disk.write("a/b", [text("one")]);
    await disk.write("a/b", [text("t"), text("wo")]);
    await disk.write("a/c", [text("three")]);
    expect(await disk.read("a/b")).toEqual(text("two"));
    const range = async (path: string, offset: number, lengthBytes: number): Promise<string> =>
      new TextDecoder().decode(await disk.readRange(path, { offset, lengthBytes }));
    expect([await range("a/c", 1, 3), await range("a/c", 3, 9), await range("a/c", 9, 9)]).toEqual(["hre", "ee", ""]);
    expect(await disk.readRange("a/none", { offset: 0, lengthBytes: 1 })).toBeUndefined();
    expect((await disk.list("a/")).map((o) => [o.path, o.sizeBytes])).toEqual([
      ["a/b", 3],
      ["a/c", 5],
    ]);
    await disk.remove("a/b");
    await disk.remove("a/b");
    expect((await disk.list("")).map((o) => o.path)).toEqual(["a/c"]);
    await expect(disk.write("../x", [text("x")])).rejects.toEqual(failing("CONFIG_INVALID"));
    await expect(disk.write("a/c/d", [text("x")])).rejects.toEqual(failing("DISK_FAILED"));
  });
});

describe("openObjectStore", () => {
  const s3 = { endpoint: "http://127.0.0.1:9000", accessKey: "a", secretKey: "b" };
  test.each([
    [true, /[^.]s3\.invalid/u],
    [false, /my-bucket\.s3\.invalid/u],
  ])("path style %s: the host that is asked for", async (pathStyle, host) => {
    const endpoint = "http://s3.invalid:9"; // RFC 6761: resolves nowhere
    const store = await openObjectStore("s3://my-bucket/a", { s3: { ...s3, endpoint, pathStyle } });
    await expect(store.get("x")).rejects.toThrow(host);
  });
  test.each([
    ["file:///var/lib/sluice", "file:///var/lib/sluice"],
    ["file:///with%20blank/", "file:///with%20blank"],
    ["s3://bucket", "s3://bucket"],
    ["s3://bucket/a/b/", "s3://bucket/a/b"],
  ])("%s", async (uri, expected) => {
    expect((await openObjectStore(uri, { s3 })).uri).toBe(expected);
  });
  test.each([
    ["/var/lib/x", "CONFIG_INVALID", 'did you mean "file:///var/lib/x"'],
    ["", "CONFIG_INVALID", "has no scheme"],
    ["file://relative/x", "CONFIG_INVALID", "three slashes"],
    ["file:///", "CONFIG_INVALID", "name a directory"],
    ["s3:///x", "CONFIG_INVALID", "needs a bucket"],
    ["s3://Upper_Case/x", "CONFIG_INVALID", "bucket name"],
    ["fiel:///x", "CONFIG_INVALID", 'did you mean "file"'],
    ["hdfs://nn/x", "CONFIG_NOT_IMPLEMENTED", "not implemented yet"],
  ])("%s is %s", async (uri, code, message) => {
    await expect(openObjectStore(uri, { s3 })).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
      remedy: expect.stringContaining("s3://"),
    });
  });
  test("missing credentials and a wrong endpoint are named", async () => {
    await expect(openObjectStore("s3://bucket", { s3: { endpoint: s3.endpoint } })).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: expect.stringContaining("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
    });
    await expect(openObjectStore("s3://bucket", { s3: { ...s3, endpoint: "minio:9000" } })).rejects.toEqual(
      failing("CONFIG_INVALID"),
    );
  });
  test("faults can be asked for", async () => {
    const store = await openObjectStore(pathToFileURL(folder).href, { faults: { seed: 1, rates: { full: true } } });
    await expect(store.put("a", text("a"))).rejects.toEqual(failing("STORAGE_FULL"));
  });
});

describeWithPeer(minio, "S3ObjectStore on MinIO", () => {
  let server: MinioServer;
  let proxy: FaultProxy;
  let nextPrefix = 0;
  const bucket = "contract";
  const storeAt = (
    endpoint: string,
    options: { readonly bucket?: string; readonly secretKey?: string; readonly deadlineMs?: number } = {},
  ): ObjectStore => {
    nextPrefix += 1;
    return new S3ObjectStore(
      { bucket: options.bucket ?? bucket, prefix: `p${nextPrefix}/q` },
      {
        endpoint,
        accessKey: server.accessKey,
        secretKey: options.secretKey ?? server.secretKey,
        deadlineMs: options.deadlineMs ?? 10_000,
      },
    );
  };

  beforeAll(async () => {
    server = await startMinio();
    const { host, port, accessKey, secretKey } = server;
    await new Client({ endPoint: host, port, useSSL: false, accessKey, secretKey }).makeBucket(bucket, "us-east-1");
    proxy = await startFaultProxy({ target: server.endpoint, seed: 5 });
  }, 60_000);
  afterAll(async () => {
    await proxy?.close();
    await server?.stop();
  });

  testAll(storeContract(async () => storeAt(server.endpoint), { listedCount: 1_050 }));

  describe("staged uploads", () => {
    testAll(
      uploadsContract(async () => {
        nextPrefix += 1;
        const target = { bucket, prefix: `p${nextPrefix}/q` };
        const { endpoint, accessKey, secretKey } = server;
        const options = { endpoint, accessKey, secretKey };
        return { uploads: new S3StagedUploads(target, options), store: new S3ObjectStore(target, options) };
      }),
    );

    test("M5: a completion whose client goes away at any moment destroys no upload", async () => {
      const { endpoint, accessKey, secretKey } = server;
      const uploads = new S3StagedUploads({ bucket, prefix: "gone" }, { endpoint, accessKey, secretKey });
      const lost: string[] = [];
      const completeAndGo = async (i: number): Promise<void> => {
        const upload = await uploads.begin(`object-${i}`);
        const part = await uploads.putPart(upload, { number: 1, bytes: new Uint8Array(100_000).fill(i) });
        if (part === "absent") throw new Error("an upload that was begun takes parts");
        await uploads.complete(upload, [part], AbortSignal.timeout(i % 15)).catch(() => undefined);
        // As the next attempt does after a restart; the store may still be at work on the first one.
        if (
          (await uploads.complete(upload, [part])) === "absent" &&
          (await uploads.sizeOf(upload.path)) === undefined
        ) {
          lost.push(upload.path);
        }
      };
      for (let i = 0; i < 120; i += 4) await Promise.all([i, i + 1, i + 2, i + 3].map(completeAndGo));
      expect(lost).toEqual([]);
    }, 60_000);

    test("a missing bucket is CONFIG_INVALID, for every call", async () => {
      const { endpoint, accessKey, secretKey } = server;
      const target = { bucket: "no-such-bucket", prefix: "p" };
      const uploads = new S3StagedUploads(target, { endpoint, accessKey, secretKey });
      // Completing says "absent" there, as the store does: whoever hears that asks whether the object exists.
      await expect(uploads.begin("a")).rejects.toEqual(failing("CONFIG_INVALID"));
      await expect(uploads.sizeOf("a")).rejects.toEqual(failing("CONFIG_INVALID"));
    });
  });

  test("a missing bucket is CONFIG_INVALID with its name, for every call: never 'absent'", async () => {
    const store = storeAt(server.endpoint, { bucket: "no-such-bucket" });
    const expected = expect.objectContaining({
      code: "CONFIG_INVALID",
      message: expect.stringContaining('"no-such-bucket"'),
    });
    for (const call of [
      () => store.get("a"),
      () => store.stat("a"),
      () => store.list(""),
      () => store.put("a", text("a")),
      () => store.putIfAbsent("a", text("a")),
      () => store.remove("a"),
    ]) {
      await expect(call()).rejects.toEqual(expected);
    }
  });

  test("wrong credentials are STORAGE_DENIED, for every call: never 'absent'", async () => {
    const store = storeAt(server.endpoint, { secretKey: "wrong-secret" });
    for (const call of [
      () => store.get("a"),
      () => store.stat("a"),
      () => store.list(""),
      () => store.put("a", text("a")),
      () => store.putIfAbsent("a", text("a")),
    ]) {
      await expect(call()).rejects.toEqual(failing("STORAGE_DENIED"));
    }
  });

  test("M2: nobody listening is a definite STORAGE_UNAVAILABLE", async () => {
    const store = storeAt("http://127.0.0.1:1");
    await expect(store.putIfAbsent("a", text("a"))).rejects.toEqual(failing("STORAGE_UNAVAILABLE"));
    await expect(store.get("a")).rejects.toEqual(failing("STORAGE_UNAVAILABLE"));
  });

  test("M2, M4: a server that takes the request and never answers: unknown for writes, STORAGE_UNAVAILABLE for reads", async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => void sockets.push(socket.on("error", () => {})));
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const store = storeAt(`http://127.0.0.1:${(silent.address() as AddressInfo).port}`, { deadlineMs: 50 });
    expect(await store.putIfAbsent("a", text("a"))).toBe("unknown");
    expect(await store.put("a", text("a"))).toBe("unknown");
    await expect(store.stat("a")).rejects.toEqual(failing("STORAGE_UNAVAILABLE"));
    const controller = new AbortController();
    const aborted = store.putIfAbsent("a", text("a"), controller.signal);
    controller.abort();
    await expect(aborted).rejects.toEqual(failing("CANCELED"));
    for (const socket of sockets) socket.destroy();
    silent.close();
  });

  test("X2, M6: a 404 without a body is absent for HEAD alone; else nobody knows whose answer it was, and its connection is closed", async () => {
    const asked: string[] = [];
    const sockets: Socket[] = [];
    const bare = createServer((socket) => {
      sockets.push(socket.on("error", () => {}));
      socket.on("data", (chunk) => {
        const line = /^(?:GET|PUT|HEAD|DELETE) /u.exec(String(chunk))?.[0].trim();
        if (line === undefined) return; // a body that came by itself
        asked.push(`${line} ${sockets.indexOf(socket)}`);
        const isBucket = /^HEAD \/[^/]+\/? /u.test(String(chunk));
        socket.write(`HTTP/1.1 ${isBucket ? "200 OK" : "404 Not Found"}\r\nContent-Length: 0\r\n\r\n`);
      });
    });
    await new Promise<void>((resolve) => bare.listen(0, "127.0.0.1", resolve));
    const store = storeAt(`http://127.0.0.1:${(bare.address() as AddressInfo).port}`);
    expect(await store.stat("a")).toBeUndefined();
    expect(await store.put("a", text("a"))).toBe("unknown");
    expect(await store.putIfAbsent("a", text("a"))).toBe("unknown");
    await expect(store.get("a")).rejects.toEqual(failing("STORAGE_UNAVAILABLE"));
    await expect(store.remove("a")).rejects.toEqual(failing("STORAGE_UNAVAILABLE"));
    expect(asked).toEqual(["HEAD 0", "HEAD 0", "PUT 0", "PUT 1", "GET 2", "DELETE 3"]);
    for (const socket of sockets) socket.destroy();
    bare.close();
  });

  test("a full store is STORAGE_FULL, and works again when it is not", async () => {
    const store = storeAt(proxy.endpoint);
    const before = proxy.struck.full;
    await fetch(`${proxy.endpoint}/__faults`, { method: "PUT", body: JSON.stringify({ full: true }) });
    await expect(store.put("a", text("a"))).rejects.toEqual(failing("STORAGE_FULL"));
    await expect(store.putIfAbsent("a", text("a"))).rejects.toEqual(failing("STORAGE_FULL"));
    expect(await store.get("a")).toBeUndefined();
    proxy.set({ full: false });
    expect(await store.putIfAbsent("a", text("a"))).toBe("created");
    expect(proxy.struck.full).toBe(before + 2);
  });

  test.each(["reset", "500", "503"] as const)(
    "M1, M2: %s before or after the write is unknown; reading tells",
    async (kind) => {
      const store = storeAt(proxy.endpoint);
      for (const when of ["before", "after"] as const) {
        proxy.set({ writeFailureRate: 1, when, kinds: [kind] });
        const before = proxy.struck[when];
        expect(await store.putIfAbsent(`log/${when}`, text("x"))).toBe("unknown");
        expect(proxy.struck[when]).toBe(before + 1);
        proxy.set({ writeFailureRate: 0 });
        expect(await store.get(`log/${when}`)).toEqual(when === "after" ? text("x") : undefined);
      }
    },
  );

  test("one write in five fails, before or after: 100 creators of one name each end with exactly their record", async () => {
    const store = storeAt(proxy.endpoint);
    proxy.set({ writeFailureRate: 0.2, when: "both", kinds: ["reset", "500", "503"] });
    for (let i = 0; i < 100; i += 1) {
      const record = text(`record ${i}`);
      let outcome = "unknown";
      while (outcome === "unknown") outcome = await store.putIfAbsent(`log/${i}`, record);
      expect(await store.get(`log/${i}`)).toEqual(record);
    }
    expect(proxy.struck.before).toBeGreaterThan(3);
    expect(proxy.struck.after).toBeGreaterThan(3);
    proxy.set({ writeFailureRate: 0 });
  });

  test("objects beyond one part (multipart) come back whole", async () => {
    const store = storeAt(server.endpoint);
    const bytes = new Uint8Array(65 * 1024 * 1024);
    for (let i = 0; i < 65; i += 1) bytes.set(patternBytes(1024, i), i * 1024 * 1024);
    expect(await store.put("big", bytes)).toBe("stored");
    expect((await store.stat("big"))?.sizeBytes).toBe(bytes.length);
    expect(Buffer.compare((await store.get("big"))!, bytes)).toBe(0);
    expect(await store.getRange("big", { offset: 64 * 1024 * 1024 - 5, lengthBytes: 10 })).toEqual(
      bytes.slice(64 * 1024 * 1024 - 5, 64 * 1024 * 1024 + 5),
    );
  });
});

describe("NodeNet", () => {
  testAll(netContract(async () => new NodeNet(), { listenAddress: "127.0.0.1:0", deadAddress: "127.0.0.1:1" }));

  test("T3: an announced length beyond the limit closes the connection; frames cut anywhere arrive whole", async () => {
    const closed = deferred<string>();
    const frames: string[] = [];
    const listener = await new NodeNet().listen("127.0.0.1:0", (conn: Conn) => {
      conn.onFrame = (frame) => void frames.push(Buffer.from(frame).toString("latin1"));
      conn.onClose = (reason) => closed.resolve(reason);
    });
    const raw = connect({ host: "127.0.0.1", port: Number(listener.address.split(":")[1]), noDelay: true });
    raw.on("error", () => {});
    for (const byte of [3, 0, 0, 0, 97, 98, 99, 0, 0, 0, 0, 1, 0, 0, 0, 100]) {
      await new Promise((resolve) => raw.write(Uint8Array.of(byte), resolve)); // in pieces as small as the kernel lets through
    }
    raw.write(Uint8Array.of(255, 255, 255, 255));
    expect(await closed.promise).toContain("4294967295 bytes");
    expect(frames).toEqual(["abc", "", "d"]);
    listener.close();
  });

  test.each(["", "host", "host:70000", "a:b:1", "host:"])("the address %j is CONFIG_INVALID", async (address) => {
    await expect(new NodeNet().listen(address, () => {})).rejects.toEqual(failing("CONFIG_INVALID"));
  });
});
